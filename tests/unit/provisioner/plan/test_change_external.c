/* Changes of the list of machines that exist already. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "provisioner/plan/change.h"

static void machines_may_change_and_the_api_address_may_not(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct config_external_machine machines[2] = {
        {.address = "10.0.0.5", .user = "root", .key_file = "", .host_key = "", .known_hosts = "", .role = "control-plane", .pool = "", .port = 22},
        {.address = "10.0.0.6", .user = "root", .key_file = "", .host_key = "", .known_hosts = "", .role = "worker", .pool = "", .port = 22},
    };
    struct config before, after;
    struct plan_change_list changes;
    config_default("demo", 1, 0, arena, &before);
    before.external.api_address = "10.0.0.100";
    before.external.machines = machines;
    before.external.n_machines = 1;
    after = before;
    plan_config_changes(&before, &after, arena, &changes);
    assert_int_equal(changes.len, 0);
    after.external.n_machines = 2;
    plan_config_changes(&before, &after, arena, &changes);
    assert_int_equal(changes.len, 1);
    assert_int_equal(changes.items[0].kind, PLAN_CHANGE_SETTING);
    assert_string_equal(changes.items[0].path, "spec.external.machines");
    after.external.api_address = "10.0.0.101";
    plan_config_changes(&before, &after, arena, &changes);
    assert_int_equal(changes.len, 2);
    assert_int_equal(changes.items[0].kind, PLAN_CHANGE_FIXED);
    assert_string_equal(changes.items[0].path, "spec.external.apiAddress");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(machines_may_change_and_the_api_address_may_not)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
