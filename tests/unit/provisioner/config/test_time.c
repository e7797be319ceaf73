/* spec.timeServers: read, checked, written back, handed to the machines. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "provisioner/config/config.h"

#define HEAD "apiVersion: kprov.dev/v1alpha1\nkind: Cluster\nmetadata: {name: demo}\nspec:\n  controlPlane: {replicas: 1}\n"
#define SERVERS(provider, list) HEAD "  provider: " provider "\n  timeServers: " list "\n"

static int parse(const char *yaml, struct kp_arena *arena, struct config *ret, struct kp_error *error)
{
    return config_parse(yaml, strlen(yaml), "c.yaml", arena, ret, error);
}

static void servers_are_written_back(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf text = {0};
    struct kp_error error = {0};
    struct config config, again;
    if (parse(SERVERS("libvirt", "[ntp-1.example.org, 192.0.2.1, 'fd00::1', 0.pool]"), arena, &config, &error) < 0)
        fail_msg("%s", error.message);
    assert_string_equal(config.time_servers, "ntp-1.example.org 192.0.2.1 fd00::1 0.pool");
    struct kp_value *value = config_to_value(&config, arena);
    kp_value_print(value, &text);
    assert_int_equal(parse(text.data, arena, &again, &error), 0);
    assert_true(kp_value_equal(value, config_to_value(&again, arena)));
    assert_string_equal(again.time_servers, config.time_servers);
}

static void bad_input_names_the_field_and_the_remedy(void **state)
{
    static const char *const bad[][2] = {
        {SERVERS("libvirt", "ntp.example"), "spec.timeServers: must be a list of at most 8"},
        {SERVERS("libvirt", "[a, b, c, d, e, f, g, h, i]"), "spec.timeServers: must be a list of at most 8"},
        {SERVERS("libvirt", "[1]"), "spec.timeServers[0]: must be a host name or an address"},
        {SERVERS("libvirt", "['']"), "spec.timeServers[0]"},
        {SERVERS("libvirt", "[a.example, 'b c']"), "spec.timeServers[1]"},
        {SERVERS("libvirt", "[\"a\\nmakestep\"]"), "spec.timeServers[0]"},
        {SERVERS("libvirt", "[a.example, 'b;c']"), "spec.timeServers[1]: \"b;c\" must be a host name or an address, such as ntp.example"},
        {SERVERS("libvirt", "[-a]"), "spec.timeServers[0]"},
        {SERVERS("libvirt", "[a-]"), "spec.timeServers[0]"},
        {SERVERS("libvirt", "[a..b]"), "spec.timeServers[0]"},
        {SERVERS("libvirt", "[.a]"), "spec.timeServers[0]"},
        {SERVERS("libvirt", "[10.0.0.256]"), "spec.timeServers[0]"},
        {SERVERS("libvirt", "['ntp://a']"), "spec.timeServers[0]"},
        {SERVERS("local", "[ntp.example]"), "they have this host's"},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(bad); i++) {
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        struct kp_error error = {0};
        struct config config;
        if (parse(bad[i][0], arena, &config, &error) >= 0)
            fail_msg("accepted: %s", bad[i][0]);
        if (!strstr(error.message, bad[i][1]))
            fail_msg("%s\nwanted: %s", error.message, bad[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(servers_are_written_back),
        cmocka_unit_test(bad_input_names_the_field_and_the_remedy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
