/* spec.external: read, checked, written back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "provisioner/config/config.h"

#define HEAD "apiVersion: kprov.dev/v1alpha1\nkind: Cluster\nmetadata: {name: demo}\nspec:\n"
#define POOL "  nodePools: [{name: app, replicas: 1}]\n"
#define CP "    - {address: 10.0.0.5, role: control-plane, hostKey: ssh-ed25519 AAAA}\n"
#define WORKER "    - {address: 10.0.0.6, role: worker, pool: app, user: admin, port: 2222, keyFile: ~/.ssh/id, knownHosts: /etc/known}\n"
#define EXTERNAL(machines) HEAD "  provider: external\n" POOL "  external:\n    apiAddress: 10.0.0.100\n    machines:\n" machines

static void machines_are_read_and_written_back(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf text = {0};
    struct kp_error error = {0};
    struct config config, again;
    static const char yaml[] = EXTERNAL(CP WORKER);
    if (config_parse(yaml, sizeof(yaml) - 1, "c.yaml", arena, &config, &error) < 0)
        fail_msg("%s", error.message);
    assert_string_equal(config.external.api_address, "10.0.0.100");
    assert_int_equal(config.external.n_machines, 2);
    assert_int_equal(config.external.machines[0].port, 22);
    assert_string_equal(config.external.machines[0].user, "root");
    assert_string_equal(config.external.machines[0].host_key, "ssh-ed25519 AAAA");
    assert_int_equal(config.external.machines[1].port, 2222);
    assert_string_equal(config.external.machines[1].pool, "app");
    struct kp_value *value = config_to_value(&config, arena);
    kp_value_print(value, &text);
    if (config_parse(text.data, text.len, "state", arena, &again, &error) < 0)
        fail_msg("%s", error.message);
    assert_true(kp_value_equal(value, config_to_value(&again, arena)));
}

static void bad_input_names_the_field(void **state)
{
    static const char *const bad[][2] = {
        {HEAD "  provider: external\n", "spec.external"},
        {HEAD "  provider: local\n" POOL "  external:\n    apiAddress: 10.0.0.100\n    machines:\n" CP WORKER, "is for provider \"external\""},
        {HEAD "  provider: external\n" POOL "  external:\n    machines:\n" CP WORKER, "apiAddress"},
        {HEAD "  provider: external\n" POOL "  external:\n    apiAddress: api.example\n    machines:\n" CP WORKER, "must be a free IPv4 address"},
        {HEAD "  provider: external\n" POOL "  external:\n    apiAddress: 10.0.0.5\n    machines:\n" CP WORKER, "is a machine's own"},
        {EXTERNAL(CP), "too few workers for the 1 of pool \"app\""},
        {EXTERNAL(WORKER), "1 control planes are wanted, 0 machines"},
        {EXTERNAL(CP CP WORKER), "is listed twice"},
        {EXTERNAL(CP WORKER "    - {address: host, role: worker}\n"), "machines[2].address"},
        {EXTERNAL(CP WORKER "    - {address: 10.0.0.7, role: master}\n"), "machines[2].role"},
        {EXTERNAL(CP WORKER "    - {address: 10.0.0.7, role: worker, pool: other}\n"), "machines[2].pool"},
        {EXTERNAL(CP WORKER "    - {address: 10.0.0.7, role: control-plane, pool: app}\n"), "machines[2].pool"},
        {EXTERNAL(CP WORKER "    - {address: 10.0.0.7, role: worker, port: 0}\n"), "machines[2].port"},
        {EXTERNAL(CP WORKER "    - {address: 10.0.0.7, role: worker, hostKey: AAAA}\n"), "machines[2].hostKey"},
        {EXTERNAL(CP WORKER "    - {address: 10.0.0.7, role: worker, hostKey: a b, knownHosts: /x}\n"), "not both"},
        {EXTERNAL(CP WORKER "    - {address: 10.0.0.7, role: worker, keyfile: x}\n"), "unknown field"},
        {EXTERNAL(CP WORKER "    - {role: worker}\n"), "is required"},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(bad); i++) {
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        struct config config;
        struct kp_error error = {0};
        int r = config_parse(bad[i][0], strlen(bad[i][0]), "c.yaml", arena, &config, &error);
        if (r == 0 || !strstr(error.message, bad[i][1]))
            fail_msg("%zu: \"%s\" does not say \"%s\"", i, error.message, bad[i][1]);
    }
}

static void workers_without_a_pool_fill_any(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct config config;
    struct kp_error error = {0};
    static const char yaml[] = EXTERNAL(CP "    - {address: 10.0.0.7, role: worker}\n");
    if (config_parse(yaml, sizeof(yaml) - 1, "c.yaml", arena, &config, &error) < 0)
        fail_msg("%s", error.message);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(machines_are_read_and_written_back),
        cmocka_unit_test(bad_input_names_the_field),
        cmocka_unit_test(workers_without_a_pool_fill_any),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
