/* spec.etcd.snapshots: read, checked, written back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "provisioner/config/config.h"

#define HEAD "apiVersion: kprov.dev/v1alpha1\nkind: Cluster\nmetadata: {name: demo}\nspec:\n  controlPlane: {replicas: 1}\n"
#define SNAPSHOTS(text) HEAD "  etcd: {snapshots: {" text "}}\n"

static int parse(const char *yaml, struct kp_arena *arena, struct config *ret, struct kp_error *error)
{
    return config_parse(yaml, strlen(yaml), "c.yaml", arena, ret, error);
}

static void two_a_day_and_five_of_them_when_the_file_says_nothing(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_error error = {0};
    struct config config;
    assert_int_equal(parse(HEAD, arena, &config, &error), 0);
    assert_int_equal(config_snapshot_every_s(&config), 12 * 3600);
    assert_int_equal(config.snapshots.keep, 5);
    assert_string_equal(config.snapshots.dir, CONFIG_SNAPSHOT_DIR);
}

static void what_the_file_says_is_written_back(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf text = {0};
    struct kp_error error = {0};
    struct config config, again;
    if (parse(SNAPSHOTS("every: 1h30m, keep: 24, dir: /srv/etcd"), arena, &config, &error) < 0)
        fail_msg("%s", error.message);
    assert_int_equal(config_snapshot_every_s(&config), 5400);
    struct kp_value *value = config_to_value(&config, arena);
    kp_value_print(value, &text);
    assert_int_equal(parse(text.data, arena, &again, &error), 0);
    assert_true(kp_value_equal(value, config_to_value(&again, arena)));
    assert_string_equal(again.snapshots.dir, "/srv/etcd");
    assert_int_equal(parse(SNAPSHOTS("every: 0s"), arena, &config, &error), 0);
    assert_int_equal(config_snapshot_every_s(&config), 0);
}

static void bad_input_names_the_field_and_the_remedy(void **state)
{
    static const char *const bad[][2] = {
        {SNAPSHOTS("every: 4s"), "spec.etcd.snapshots.every: \"4s\" must be a duration from 5s"},
        {SNAPSHOTS("every: 9000h"), "spec.etcd.snapshots.every"},
        {SNAPSHOTS("every: daily"), "such as 12h, or 0s for none"},
        {SNAPSHOTS("every: 12"), "spec.etcd.snapshots.every: must be a string"},
        {SNAPSHOTS("every: -1h"), "spec.etcd.snapshots.every"},
        {SNAPSHOTS("keep: 0"), "spec.etcd.snapshots.keep: 0 must be from 1 to 100"},
        {SNAPSHOTS("keep: 101"), "spec.etcd.snapshots.keep"},
        {SNAPSHOTS("dir: etcd"), "spec.etcd.snapshots.dir: \"etcd\" must be a folder below /var"},
        {SNAPSHOTS("dir: /tmp/etcd"), "spec.etcd.snapshots.dir"},
        {SNAPSHOTS("dir: /var/"), "spec.etcd.snapshots.dir"},
        {SNAPSHOTS("dir: /var/lib/../../etc"), "spec.etcd.snapshots.dir"},
        {SNAPSHOTS("dir: /var//lib"), "spec.etcd.snapshots.dir"},
        {SNAPSHOTS("dir: \"/var/a b\""), "spec.etcd.snapshots.dir"},
        {SNAPSHOTS("keeps: 5"), "did you mean \"keep\"?"},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(bad); i++) {
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        struct kp_error error = {0};
        struct config config;
        assert_true(parse(bad[i][0], arena, &config, &error) < 0);
        if (!strstr(error.message, bad[i][1]))
            fail_msg("\"%s\" does not say \"%s\"", error.message, bad[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_a_day_and_five_of_them_when_the_file_says_nothing),
        cmocka_unit_test(what_the_file_says_is_written_back),
        cmocka_unit_test(bad_input_names_the_field_and_the_remedy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
