/* The key space: revisions, ranges, transactions, compaction and leases. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <unistd.h>

#include "controlplane/etcd/mvcc/mvcc.h"

struct fixture {
    char dir[64], path[96];
    struct backend *backend;
    struct mvcc *mvcc;
};

static void open_store(struct fixture *f)
{
    struct kp_error error = {0};
    struct backend_options options = {.batch_interval_ms = 5};
    assert_int_equal(backend_open(f->path, &options, &f->backend, &error), 0);
    assert_int_equal(mvcc_open(f->backend, 0, &f->mvcc, &error), 0);
}

static void close_store(struct fixture *f)
{
    mvcc_close(f->mvcc);
    backend_close(f->backend);
}

static void reopen(struct fixture *f)
{
    close_store(f);
    open_store(f);
}

static int setup(void **state)
{
    struct fixture *f = kp_calloc(1, sizeof *f);
    strcpy(f->dir, "/tmp/test-mvcc-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof f->path, "%s/db", f->dir);
    open_store(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    close_store(f);
    assert_int_equal(kp_remove_tree(f->dir, NULL), 0);
    free(f);
    return 0;
}

static struct kp_bytes B(const char *s) { return (struct kp_bytes){(const uint8_t *)s, strlen(s)}; }
static const struct kp_bytes from_key = {(const uint8_t *)"", 1};

static int64_t put_lease(struct fixture *f, const char *key, const char *value, int64_t lease)
{
    struct mvcc_put_request put = {.key = B(key), .value = B(value), .lease = lease};
    mvcc_begin(f->mvcc);
    assert_int_equal(mvcc_put(f->mvcc, &put, NULL, NULL), MVCC_OK);
    return mvcc_end(f->mvcc);
}
static int64_t put(struct fixture *f, const char *key, const char *value) { return put_lease(f, key, value, 0); }

static int64_t delete(struct fixture *f, struct kp_bytes key, struct kp_bytes end)
{
    int64_t deleted = -1;
    mvcc_begin(f->mvcc);
    assert_int_equal(mvcc_delete_range(f->mvcc, key, end, &deleted, NULL, NULL), MVCC_OK);
    mvcc_end(f->mvcc);
    return deleted;
}

static enum mvcc_result compact(struct fixture *f, int64_t revision)
{
    mvcc_begin(f->mvcc);
    enum mvcc_result result = mvcc_compact(f->mvcc, revision);
    mvcc_end(f->mvcc);
    while (mvcc_compact_step(f->mvcc))
        ;
    return result;
}

/* "key=value@mod/version ..." of a range, and "+" when there is more. */
static const char *show(struct fixture *f, struct mvcc_range_request r)
{
    static char out[4096];
    struct mvcc_range_result result;
    enum mvcc_result rc = mvcc_range(f->mvcc, &r, &result, NULL);
    if (rc == MVCC_COMPACTED || rc == MVCC_FUTURE_REVISION)
        return rc == MVCC_COMPACTED ? "compacted" : "future";
    assert_int_equal(rc, MVCC_OK);
    size_t n = (size_t)snprintf(out, sizeof out, "%lld:", (long long)result.count);
    for (size_t i = 0; i < result.len; i++) {
        struct mvcc_kv *kv = &result.items[i].kv;
        n += (size_t)snprintf(out + n, sizeof out - n, " %.*s=%.*s@%lld/%lld", (int)kv->key.len, kv->key.data,
                              (int)kv->value.len, kv->value.len ? (const char *)kv->value.data : "",
                              (long long)kv->mod_revision, (long long)kv->version);
    }
    if (result.more)
        strcat(out, " +");
    mvcc_range_done(&result);
    return out;
}
static const char *all_at(struct fixture *f, int64_t revision)
{
    return show(f, (struct mvcc_range_request){.key = B("a"), .range_end = from_key, .revision = revision});
}

static void a_new_store_is_at_revision_one(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(mvcc_revision(f->mvcc), 1);
    assert_string_equal(all_at(f, 0), "0:");
    assert_int_equal(put(f, "a", "1"), 2);
}

static void puts_count_versions_and_keep_the_create_revision(void **state)
{
    struct fixture *f = *state;
    put(f, "a", "1");
    put(f, "a", "2");
    put(f, "b", "3");
    assert_string_equal(all_at(f, 0), "2: a=2@3/2 b=3@4/1");
    assert_string_equal(all_at(f, 2), "1: a=1@2/1");
    assert_string_equal(all_at(f, 5), "future");
    struct mvcc_range_request r = {.key = B("a")};
    struct mvcc_range_result result;
    assert_int_equal(mvcc_range(f->mvcc, &r, &result, NULL), MVCC_OK);
    assert_int_equal(result.items[0].kv.create_revision, 2);
    mvcc_range_done(&result);
}

static void a_deleted_key_starts_anew(void **state)
{
    struct fixture *f = *state;
    put(f, "a", "1");
    assert_int_equal(delete(f, B("a"), B("")), 1);
    assert_int_equal(delete(f, B("a"), B("")), 0);
    assert_int_equal(mvcc_revision(f->mvcc), 3); /* deleting nothing takes no revision */
    assert_string_equal(all_at(f, 0), "0:");
    put(f, "a", "2");
    assert_string_equal(all_at(f, 0), "1: a=2@4/1");
    assert_string_equal(all_at(f, 2), "1: a=1@2/1");
}

static void ranges_obey_limit_sort_and_bounds(void **state)
{
    struct fixture *f = *state;
    put(f, "a", "z");
    put(f, "c", "y");
    put(f, "b", "x");
    put(f, "a", "w");
    struct mvcc_range_request r = {.key = B("a"), .range_end = B("z"), .limit = 2};
    assert_string_equal(show(f, r), "3: a=w@5/2 b=x@4/1 +");
    r.limit = 3;
    assert_string_equal(show(f, r), "3: a=w@5/2 b=x@4/1 c=y@3/1");
    r = (struct mvcc_range_request){
        .key = B("a"), .range_end = B("z"), .limit = 1, .sort_order = MVCC_SORT_DESCEND, .sort_target = MVCC_SORT_MOD};
    assert_string_equal(show(f, r), "3: a=w@5/2 +");
    r = (struct mvcc_range_request){.key = B("a"), .range_end = B("z"), .sort_target = MVCC_SORT_VALUE};
    assert_string_equal(show(f, r), "3: a=w@5/2 b=x@4/1 c=y@3/1");
    r = (struct mvcc_range_request){.key = B("a"), .range_end = B("z"), .sort_order = MVCC_SORT_DESCEND};
    assert_string_equal(show(f, r), "3: c=y@3/1 b=x@4/1 a=w@5/2");
    r = (struct mvcc_range_request){.key = B("a"), .range_end = B("z"), .min_mod_revision = 4, .max_mod_revision = 4};
    assert_string_equal(show(f, r), "3: b=x@4/1");
    r = (struct mvcc_range_request){.key = B("a"), .range_end = B("z"), .max_create_revision = 2};
    assert_string_equal(show(f, r), "3: a=w@5/2");
    r = (struct mvcc_range_request){.key = B("a"), .range_end = B("z"), .count_only = true};
    assert_string_equal(show(f, r), "3:");
    r = (struct mvcc_range_request){.key = B("a"), .range_end = B("c"), .keys_only = true};
    assert_string_equal(show(f, r), "2: a=@5/2 b=@4/1");
}

static void a_transaction_has_one_revision_and_sees_itself(void **state)
{
    struct fixture *f = *state;
    put(f, "a", "1");
    mvcc_begin(f->mvcc);
    struct mvcc_put_request p = {.key = B("b"), .value = B("2"), .want_prev = true};
    struct kp_blob *prev = NULL;
    assert_int_equal(mvcc_put(f->mvcc, &p, &prev, NULL), MVCC_OK);
    assert_null(prev);
    p.key = B("a");
    assert_int_equal(mvcc_put(f->mvcc, &p, &prev, NULL), MVCC_OK);
    assert_non_null(prev);
    kp_blob_unref(prev);
    struct mvcc_range_request r = {.key = B("a"), .range_end = from_key};
    struct mvcc_range_result result;
    assert_int_equal(mvcc_txn_range(f->mvcc, &r, &result, NULL), MVCC_OK);
    assert_int_equal(result.len, 2);
    assert_int_equal(result.revision, 3);
    assert_int_equal(result.items[0].kv.mod_revision, 3);
    mvcc_range_done(&result);
    assert_int_equal(mvcc_end(f->mvcc), 3);
}

static bool holds(struct fixture *f, struct mvcc_compare c)
{
    bool result = false;
    mvcc_begin(f->mvcc);
    assert_int_equal(mvcc_compare(f->mvcc, &c, &result, NULL), MVCC_OK);
    mvcc_end(f->mvcc);
    return result;
}

static void comparisons_follow_etcd(void **state)
{
    struct fixture *f = *state;
    put(f, "a", "1");
    put(f, "b", "2");
    assert_true(holds(f, (struct mvcc_compare){.target = MVCC_CMP_VERSION, .key = B("none"), .number = 0}));
    assert_false(holds(f, (struct mvcc_compare){.target = MVCC_CMP_VALUE, .result = MVCC_NOT_EQUAL, .key = B("none")}));
    assert_true(holds(f, (struct mvcc_compare){.target = MVCC_CMP_VALUE, .key = B("a"), .value = B("1")}));
    assert_true(holds(f, (struct mvcc_compare){.target = MVCC_CMP_MOD, .key = B("b"), .number = 3}));
    assert_true(holds(f, (struct mvcc_compare){.target = MVCC_CMP_CREATE, .result = MVCC_LESS, .key = B("a"), .number = 3}));
    struct mvcc_compare range = {.target = MVCC_CMP_MOD, .result = MVCC_GREATER, .key = B("a"), .range_end = B("c"), .number = 1};
    assert_true(holds(f, range));
    range.number = 2;
    assert_false(holds(f, range));
}

static void put_options_need_an_existing_key(void **state)
{
    struct fixture *f = *state;
    struct mvcc_put_request p = {.key = B("a"), .ignore_value = true};
    mvcc_begin(f->mvcc);
    assert_int_equal(mvcc_put(f->mvcc, &p, NULL, NULL), MVCC_KEY_NOT_FOUND);
    p = (struct mvcc_put_request){.key = B("a"), .value = B("1"), .lease = 7};
    assert_int_equal(mvcc_put(f->mvcc, &p, NULL, NULL), MVCC_LEASE_NOT_FOUND);
    assert_int_equal(mvcc_end(f->mvcc), 1);
    put(f, "a", "keep");
    p = (struct mvcc_put_request){.key = B("a"), .ignore_value = true};
    mvcc_begin(f->mvcc);
    assert_int_equal(mvcc_put(f->mvcc, &p, NULL, NULL), MVCC_OK);
    mvcc_end(f->mvcc);
    assert_string_equal(all_at(f, 0), "1: a=keep@3/2");
}

static void compact_keeps_what_is_in_force(void **state)
{
    struct fixture *f = *state;
    put(f, "a", "1");
    put(f, "a", "2");
    put(f, "b", "1");
    delete(f, B("b"), B(""));
    put(f, "a", "3");
    assert_int_equal(compact(f, 7), MVCC_FUTURE_REVISION);
    assert_int_equal(compact(f, 6), MVCC_OK);
    assert_int_equal(compact(f, 6), MVCC_COMPACTED);
    assert_string_equal(all_at(f, 5), "compacted");
    assert_string_equal(all_at(f, 6), "1: a=3@6/3");
    assert_int_equal(mvcc_key_count(f->mvcc), 1);
    reopen(f);
    assert_int_equal(mvcc_revision(f->mvcc), 6);
    assert_string_equal(all_at(f, 5), "compacted");
    assert_string_equal(all_at(f, 0), "1: a=3@6/3");
    put(f, "a", "4");
    assert_string_equal(all_at(f, 0), "1: a=4@7/4");
}

static void the_revision_survives_when_all_is_deleted_and_compacted(void **state)
{
    struct fixture *f = *state;
    put(f, "a", "1");
    delete(f, B("a"), B(""));
    put(f, "b", "1");
    delete(f, B("a"), from_key);
    assert_int_equal(compact(f, 5), MVCC_OK);
    reopen(f);
    assert_int_equal(mvcc_revision(f->mvcc), 5);
    assert_int_equal(put(f, "c", "1"), 6);
}

static void many_keys_survive_splits_compaction_and_reopening(void **state)
{
    struct fixture *f = *state;
    char key[32];
    enum { N = 3000 };
    for (int i = 0; i < N; i++) {
        snprintf(key, sizeof key, "k%05d", (i * 7919) % N); /* every key once, out of order */
        put(f, key, "v");
    }
    for (int i = 0; i < N; i += 2) {
        snprintf(key, sizeof key, "k%05d", i);
        assert_int_equal(delete(f, B(key), B("")), 1);
    }
    assert_int_equal(compact(f, mvcc_revision(f->mvcc)), MVCC_OK);
    uint32_t before, after;
    int64_t mark, revision;
    assert_int_equal(mvcc_hash_kv(f->mvcc, 0, &before, &mark, &revision, NULL), MVCC_OK);
    reopen(f);
    assert_int_equal(mvcc_hash_kv(f->mvcc, 0, &after, &mark, &revision, NULL), MVCC_OK);
    assert_int_equal(before, after);
    const struct mvcc_range_request one = {.key = B("k00001")}, few = {.key = B("k00001"), .range_end = B("k00101")},
                                    rest = {.key = B("k02990"), .range_end = {(const uint8_t *)"", 1}};
    struct mvcc_range_request r = {.key = B("k"), .range_end = B("l")};
    struct mvcc_range_result result;
    assert_int_equal(mvcc_range(f->mvcc, &r, &result, NULL), MVCC_OK);
    assert_int_equal(result.len, N / 2);
    assert_false(mvcc_range_is_short(f->mvcc, &r));
    assert_true(mvcc_range_is_short(f->mvcc, &one));
    assert_true(mvcc_range_is_short(f->mvcc, &few));
    assert_true(mvcc_range_is_short(f->mvcc, &rest));
    for (size_t i = 0; i < result.len; i++) {
        snprintf(key, sizeof key, "k%05zu", 2 * i + 1);
        assert_memory_equal(result.items[i].kv.key.data, key, 6);
    }
    mvcc_range_done(&result);
}

static void what_is_committed_and_what_is_pending_read_the_same(void **state)
{
    struct fixture *f = *state;
    put(f, "a", "1");
    assert_int_equal(backend_commit(f->backend, NULL), 0);
    put(f, "b", "2");
    assert_string_equal(all_at(f, 0), "2: a=1@2/1 b=2@3/1");
    assert_int_equal(backend_commit(f->backend, NULL), 0);
    assert_string_equal(all_at(f, 0), "2: a=1@2/1 b=2@3/1");
    assert_int_equal(backend_defragment(f->backend, NULL), 0);
    assert_string_equal(all_at(f, 0), "2: a=1@2/1 b=2@3/1");
}

static void grant(struct fixture *f, int64_t id, int64_t ttl_s, int64_t now_ms, enum mvcc_result expected)
{
    mvcc_begin(f->mvcc);
    assert_int_equal(mvcc_lease_grant(f->mvcc, id, ttl_s, now_ms), expected);
    mvcc_end(f->mvcc);
}

static void a_lease_takes_its_keys_along(void **state)
{
    struct fixture *f = *state;
    grant(f, 7, 10, 0, MVCC_OK);
    grant(f, 7, 10, 0, MVCC_LEASE_EXISTS);
    grant(f, 8, MVCC_LEASE_TTL_MAX + 1, 0, MVCC_LEASE_TTL_TOO_LARGE);
    put_lease(f, "b", "1", 7);
    put_lease(f, "a", "1", 7);
    put_lease(f, "c", "1", 7);
    put(f, "c", "2"); /* detaches */
    reopen(f);
    struct mvcc_lease_info info;
    assert_int_equal(mvcc_lease_time_to_live(f->mvcc, 7, true, 4000, &info), MVCC_OK);
    assert_int_equal(info.granted_ttl_s, 10);
    assert_int_equal(info.remaining_ttl_s, 6);
    assert_int_equal(info.key_count, 2);
    assert_memory_equal(info.keys[0]->data, "a", 1);
    mvcc_blobs_free(info.keys, info.key_count);
    mvcc_begin(f->mvcc);
    assert_int_equal(mvcc_lease_revoke(f->mvcc, 7), MVCC_OK);
    assert_int_equal(mvcc_lease_revoke(f->mvcc, 7), MVCC_LEASE_NOT_FOUND);
    assert_int_equal(mvcc_end(f->mvcc), 6);
    assert_string_equal(all_at(f, 0), "1: c=2@5/2");
}

static void leases_expire_unless_renewed(void **state)
{
    struct fixture *f = *state;
    int64_t ids[8], ttl = 0;
    grant(f, 1, 5, 0, MVCC_OK);
    grant(f, 2, 9, 0, MVCC_OK);
    assert_int_equal(mvcc_lease_expired(f->mvcc, 4999, ids, 8), 0);
    assert_int_equal(mvcc_lease_renew(f->mvcc, 1, 3000, &ttl), MVCC_OK);
    assert_int_equal(ttl, 5);
    assert_int_equal(mvcc_lease_expired(f->mvcc, 5000, ids, 8), 0);
    assert_int_equal(mvcc_lease_expired(f->mvcc, 8000, ids, 8), 1);
    assert_int_equal(ids[0], 1);
    assert_int_equal(mvcc_lease_renew(f->mvcc, 1, 8000, &ttl), MVCC_LEASE_NOT_FOUND);
    mvcc_lease_promote(f->mvcc, 8000, 1000);
    assert_int_equal(mvcc_lease_expired(f->mvcc, 13999, ids, 8), 0);
    assert_int_equal(mvcc_lease_expired(f->mvcc, 18000, ids, 8), 2);
    mvcc_lease_set_ttl_min(f->mvcc, 4);
    grant(f, 3, 1, 0, MVCC_OK);
    struct mvcc_lease_info info;
    assert_int_equal(mvcc_lease_time_to_live(f->mvcc, 3, false, 0, &info), MVCC_OK);
    assert_int_equal(info.granted_ttl_s, 4);
    int64_t *list;
    assert_int_equal(mvcc_lease_list(f->mvcc, &list), 3);
    free(list);
}

static void records_that_are_cut_are_refused(void **state)
{
    struct mvcc_kv kv = {.key = B("key"), .value = B("value"), .create_revision = 3, .mod_revision = 300, .version = 2, .lease = -1};
    KP_AUTO(kp_blob_unref) struct kp_blob *blob = mvcc_kv_encode(&kv);
    struct mvcc_kv back;
    assert_int_equal(mvcc_kv_decode((struct kp_bytes){blob->data, blob->len}, &back, NULL), 0);
    assert_int_equal(back.mod_revision, 300);
    assert_int_equal(back.lease, -1);
    assert_memory_equal(back.value.data, "value", 5);
    assert_int_equal(mvcc_kv_decode((struct kp_bytes){blob->data, blob->len - 1}, &back, NULL), KP_ECORRUPT);
    assert_int_equal(mvcc_kv_decode(B("\x3a\x7f"), &back, NULL), KP_ECORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_new_store_is_at_revision_one, setup, teardown),
        cmocka_unit_test_setup_teardown(puts_count_versions_and_keep_the_create_revision, setup, teardown),
        cmocka_unit_test_setup_teardown(a_deleted_key_starts_anew, setup, teardown),
        cmocka_unit_test_setup_teardown(ranges_obey_limit_sort_and_bounds, setup, teardown),
        cmocka_unit_test_setup_teardown(a_transaction_has_one_revision_and_sees_itself, setup, teardown),
        cmocka_unit_test_setup_teardown(comparisons_follow_etcd, setup, teardown),
        cmocka_unit_test_setup_teardown(put_options_need_an_existing_key, setup, teardown),
        cmocka_unit_test_setup_teardown(compact_keeps_what_is_in_force, setup, teardown),
        cmocka_unit_test_setup_teardown(the_revision_survives_when_all_is_deleted_and_compacted, setup, teardown),
        cmocka_unit_test_setup_teardown(many_keys_survive_splits_compaction_and_reopening, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_committed_and_what_is_pending_read_the_same, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lease_takes_its_keys_along, setup, teardown),
        cmocka_unit_test_setup_teardown(leases_expire_unless_renewed, setup, teardown),
        cmocka_unit_test(records_that_are_cut_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
