/* When a control plane takes a snapshot by itself, which ones it keeps, and when there is no room. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "provisioner/keeper/keeper.h"

#define HOUR 3600
#define NOW 1000000LL

static const struct keeper_config twice_a_day = {.every_s = 12 * HOUR, .keep = 3, .dir = "/var/lib/etcd-snapshots"};
static const struct keeper_config often = {.every_s = 5, .keep = 1, .dir = "/srv/s"};

static struct keeper_file at(int64_t taken_s)
{
    struct keeper_file file = {.taken_s = taken_s};
    snapshot_scheduled_name("demo-cp-1", 7, taken_s, file.name);
    return file;
}

static int64_t due(const struct keeper_config *config, const struct keeper_file *files, size_t n, int64_t started_s, int64_t failed_s)
{
    const struct keeper_clock clock = {.now_s = NOW, .started_s = started_s, .failed_s = failed_s};
    return keeper_due_s(config, files, n, &clock);
}

static void the_first_comes_ten_minutes_after_the_start_or_when_one_is_due(void **state)
{
    assert_int_equal(due(&twice_a_day, NULL, 0, NOW, 0), NOW + 600);
    assert_int_equal(due(&twice_a_day, NULL, 0, NOW - 600, 0), NOW);
    assert_int_equal(due(&often, NULL, 0, NOW, 0), NOW + 5);
}

static void the_next_comes_so_long_after_the_newest_whatever_restarted(void **state)
{
    const struct keeper_file files[] = {at(NOW - 13 * HOUR), at(NOW - HOUR), at(NOW - 25 * HOUR)};
    assert_int_equal(due(&twice_a_day, files, 3, NOW, 0), NOW + 11 * HOUR);
    const struct keeper_file old[] = {at(NOW - 40 * HOUR)};
    assert_true(due(&twice_a_day, old, 1, NOW, 0) <= NOW); /* the machine was off when it was due */
}

static void after_a_failure_it_is_tried_again_in_a_minute_or_when_one_is_due(void **state)
{
    const struct keeper_file old[] = {at(NOW - 40 * HOUR)};
    assert_int_equal(due(&twice_a_day, old, 1, NOW - 50 * HOUR, NOW), NOW + 60);
    assert_int_equal(due(&often, old, 1, NOW - 50 * HOUR, NOW - 1), NOW + 4);
}

static void a_clock_that_was_wrong_stops_nothing(void **state)
{
    const struct keeper_file future[] = {at(NOW + 1000 * HOUR)};
    assert_int_equal(due(&twice_a_day, future, 1, NOW - 600, 0), NOW);
    assert_int_equal(due(&twice_a_day, NULL, 0, NOW + 1000 * HOUR, 0), NOW + 12 * HOUR);
}

static void the_newest_stay(void **state)
{
    struct keeper_file files[] = {at(NOW - 3), at(NOW - 1), at(NOW - 4), at(NOW - 2)};
    assert_int_equal(keeper_kept(&twice_a_day, files, 4), 3);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(files[i].taken_s, NOW - 1 - (int64_t)i);
    assert_int_equal(keeper_kept(&twice_a_day, files, 2), 2);
    assert_int_equal(keeper_kept(&twice_a_day, NULL, 0), 0);
    assert_int_equal(keeper_kept(&often, files, 4), 1);
}

static void a_twentieth_of_the_disk_or_a_gibibyte_stays_free(void **state)
{
    const int64_t mib = 1 << 20, gib = 1 << 30;
    assert_true(keeper_has_room(150 * mib, 1000 * mib, 100 * mib));
    assert_false(keeper_has_room(150 * mib - 1, 1000 * mib, 100 * mib));
    assert_true(keeper_has_room(2 * gib, 1000 * gib, gib));
    assert_false(keeper_has_room(2 * gib - 1, 1000 * gib, gib));
    assert_false(keeper_has_room(10 * mib, 1000 * mib, 100 * mib));
}

static void the_config_is_checked(void **state)
{
    static const char *const bad[] = {
        "", "[]", "{}", "{\"everySeconds\":5,\"keep\":1}", "{\"everySeconds\":5,\"keep\":0,\"dir\":\"/s\"}",
        "{\"everySeconds\":-1,\"keep\":1,\"dir\":\"/s\"}", "{\"everySeconds\":\"5\",\"keep\":1,\"dir\":\"/s\"}", "{\"everySeconds\":5,\"keep\":1,\"dir\":\"s\"}",
        "{\"everySeconds\":99999999999,\"keep\":1,\"dir\":\"/s\"}",
    };
    static const char good[] = "{\"everySeconds\":43200,\"keep\":5,\"dir\":\"/var/lib/etcd-snapshots\"}";
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct keeper_config config;
    struct kp_error error = {0};
    for (size_t i = 0; i < KP_ARRAY_LEN(bad); i++)
        assert_true(keeper_config_parse(bad[i], strlen(bad[i]), arena, &config, &error) < 0);
    assert_int_equal(keeper_config_parse(good, sizeof(good) - 1, arena, &config, &error), 0);
    assert_int_equal(config.every_s, 43200);
    assert_int_equal(config.keep, 5);
    assert_string_equal(config.dir, "/var/lib/etcd-snapshots");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_comes_ten_minutes_after_the_start_or_when_one_is_due),
        cmocka_unit_test(the_next_comes_so_long_after_the_newest_whatever_restarted),
        cmocka_unit_test(after_a_failure_it_is_tried_again_in_a_minute_or_when_one_is_due),
        cmocka_unit_test(a_clock_that_was_wrong_stops_nothing),
        cmocka_unit_test(the_newest_stay),
        cmocka_unit_test(a_twentieth_of_the_disk_or_a_gibibyte_stays_free),
        cmocka_unit_test(the_config_is_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
