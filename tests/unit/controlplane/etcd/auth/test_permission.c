/* Permissions on ranges: edges by hand, then against a check that looks at every key. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "controlplane/etcd/auth/auth_internal.h"

static struct kp_bytes B(const char *s) { return (struct kp_bytes){(const uint8_t *)s, strlen(s)}; }
static const struct kp_bytes NONE = {(const uint8_t *)"", 0}, OPEN = {(const uint8_t *)"\0", 1};

static void one_key_is_that_key_alone(void **state)
{
    struct permission_set set = {0};
    permission_set_add(&set, B("b"), NONE);
    permission_set_merge(&set);
    assert_true(permission_set_covers(&set, B("b"), NONE));
    assert_true(permission_set_covers(&set, B("b"), (struct kp_bytes){(const uint8_t *)"b\0", 2}));
    assert_false(permission_set_covers(&set, B("b"), B("b0")));
    assert_false(permission_set_covers(&set, B("ba"), NONE));
    assert_false(permission_set_covers(&set, (struct kp_bytes){(const uint8_t *)"b\0", 2}, NONE));
    assert_false(permission_set_covers(&set, B("a"), NONE));
    assert_false(permission_set_covers(&set, B("b"), OPEN));
    permission_set_done(&set);
}

static void ranges_that_touch_are_one(void **state)
{
    struct permission_set set = {0};
    permission_set_add(&set, B("c"), B("e"));
    permission_set_add(&set, B("a"), B("b"));
    permission_set_add(&set, B("b"), B("c"));
    permission_set_add(&set, B("g"), B("h"));
    permission_set_merge(&set);
    assert_int_equal(set.len, 2);
    assert_true(permission_set_covers(&set, B("a"), B("e")));
    assert_false(permission_set_covers(&set, B("a"), B("ea")));
    assert_false(permission_set_covers(&set, B("d"), B("h")));
    assert_false(permission_set_covers(&set, B("e"), NONE));
    assert_true(permission_set_covers(&set, B("g"), B("h")));
    permission_set_done(&set);
}

static void an_open_end_swallows_what_follows(void **state)
{
    struct permission_set set = {0};
    permission_set_add(&set, B("x"), B("z"));
    permission_set_add(&set, B("m"), OPEN);
    permission_set_add(&set, B("n"), B("o"));
    permission_set_merge(&set);
    assert_int_equal(set.len, 1);
    assert_true(permission_set_covers(&set, B("m"), OPEN));
    assert_true(permission_set_covers(&set, B("zz"), NONE));
    assert_false(permission_set_covers(&set, B("l"), OPEN));
    permission_set_done(&set);
    permission_set_add(&set, OPEN, OPEN); /* everything, as "--prefix ''" has it */
    permission_set_merge(&set);
    assert_true(permission_set_covers(&set, OPEN, OPEN));
    assert_true(permission_set_covers(&set, B("anything"), NONE));
    permission_set_done(&set);
}

static void nothing_is_covered_by_nothing(void **state)
{
    struct permission_set set = {0};
    permission_set_merge(&set);
    assert_false(permission_set_covers(&set, B("a"), NONE));
    assert_false(permission_set_covers(&set, OPEN, OPEN));
    permission_set_done(&set);
}

static void only_ranges_that_mean_something_may_be_granted(void **state)
{
    assert_true(permission_is_valid(B("a"), NONE));
    assert_true(permission_is_valid(B("a"), B("b")));
    assert_true(permission_is_valid(B("a"), OPEN));
    assert_true(permission_is_valid(OPEN, OPEN));
    assert_false(permission_is_valid(NONE, NONE));
    assert_false(permission_is_valid(NONE, OPEN));
    assert_false(permission_is_valid(B("b"), B("a")));
    assert_false(permission_is_valid(B("b"), B("b")));
}

/* ---- against looking at every key there can be between ends of up to two letters ---- */

#define LETTERS "\0ab\xff"
#define KEYS_MAX (4 + 16 + 64)
struct key {
    uint8_t bytes[3];
    size_t len;
};
static struct key keys[KEYS_MAX];

static void make_keys(void)
{
    size_t n = 0;
    for (size_t len = 1; len <= 3; len++)
        for (size_t code = 0; code < (size_t)1 << (2 * len); code++, n++) {
            keys[n].len = len;
            for (size_t i = 0; i < len; i++)
                keys[n].bytes[i] = (uint8_t)LETTERS[code >> (2 * i) & 3];
        }
    assert_int_equal(n, KEYS_MAX);
}

static int order(struct kp_bytes a, struct kp_bytes b)
{
    int rc = memcmp(a.data, b.data, KP_MIN(a.len, b.len));
    return rc ? rc : (a.len > b.len) - (a.len < b.len);
}

static bool in_range(struct kp_bytes key, struct kp_bytes begin, struct kp_bytes end)
{
    if (end.len == 0)
        return order(key, begin) == 0;
    return order(key, begin) >= 0 && ((end.len == 1 && end.data[0] == 0) || order(key, end) < 0);
}

static uint64_t next(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *seed >> 33;
}

static struct kp_bytes pick(uint64_t *seed)
{
    const struct key *key = &keys[next(seed) % (4 + 16)];
    return (struct kp_bytes){key->bytes, key->len};
}

struct range {
    struct kp_bytes key, end;
};

static struct range pick_range(uint64_t *seed)
{
    struct range r = {.key = pick(seed)};
    switch (next(seed) % 4) {
    case 0: r.end = NONE; break;
    case 1: r.end = OPEN; break;
    default: r.end = pick(seed); break;
    }
    return r;
}

static bool naive(const struct range *granted, size_t count, const struct range *asked)
{
    bool open = asked->end.len == 1 && asked->end.data[0] == 0, reaches = false;
    for (size_t i = 0; i < count; i++)
        reaches |= granted[i].end.len == 1 && granted[i].end.data[0] == 0;
    if (open && !reaches)
        return false; /* there is always a key after all these */
    for (size_t k = 0; k < KEYS_MAX; k++) {
        struct kp_bytes key = {keys[k].bytes, keys[k].len};
        bool covered = false;
        if (!in_range(key, asked->key, asked->end))
            continue;
        for (size_t i = 0; i < count && !covered; i++)
            covered = in_range(key, granted[i].key, granted[i].end);
        if (!covered)
            return false;
    }
    return true;
}

static void merged_intervals_answer_as_looking_at_every_key_does(void **state)
{
    make_keys();
    uint64_t seed = 20261121;
    int allowed = 0, denied = 0;
    for (int round = 0; round < 4000; round++) {
        struct range granted[6];
        size_t count = next(&seed) % KP_ARRAY_LEN(granted);
        struct permission_set set = {0};
        for (size_t i = 0; i < count; i++) {
            do
                granted[i] = pick_range(&seed);
            while (!permission_is_valid(granted[i].key, granted[i].end));
            permission_set_add(&set, granted[i].key, granted[i].end);
        }
        permission_set_merge(&set);
        for (int i = 0; i < 20; i++) {
            struct range asked = pick_range(&seed);
            bool empty = asked.end.len && !(asked.end.len == 1 && asked.end.data[0] == 0) && order(asked.end, asked.key) <= 0;
            if (empty)
                continue; /* no key to look at */
            bool expected = naive(granted, count, &asked);
            assert_int_equal(permission_set_covers(&set, asked.key, asked.end), expected);
            *(expected ? &allowed : &denied) += 1;
        }
        permission_set_done(&set);
    }
    assert_true(allowed > 1000 && denied > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_key_is_that_key_alone),
        cmocka_unit_test(ranges_that_touch_are_one),
        cmocka_unit_test(an_open_end_swallows_what_follows),
        cmocka_unit_test(nothing_is_covered_by_nothing),
        cmocka_unit_test(only_ranges_that_mean_something_may_be_granted),
        cmocka_unit_test(merged_intervals_answer_as_looking_at_every_key_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
