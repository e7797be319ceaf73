/* spec.openstack, spec.aws, spec.hetzner: read, checked, written back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "provisioner/config/config.h"
#include "provisioner/plan/change.h"

#define HEAD "apiVersion: kprov.dev/v1alpha1\nkind: Cluster\nmetadata: {name: demo}\nspec:\n"

static void read_config(const char *yaml, struct kp_arena *arena, struct config *ret)
{
    struct kp_error error = {0};
    if (config_parse(yaml, strlen(yaml), "c.yaml", arena, ret, &error) < 0)
        fail_msg("%s", error.message);
}

/* Whether a driver is built in is not this test's matter: what comes before says so. */
static bool is_built_in(const char *provider)
{
    struct config config;
    struct kp_error error = {0};
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    config_default("demo", 1, 0, arena, &config);
    config.provider = provider;
    return config_validate(&config, &error) == 0;
}

static void an_account_is_read_and_written_back(void **state)
{
    static const char *const files[] = {
        HEAD "  provider: openstack\n  openstack: {cloud: demo, region: R1, externalNetwork: ext, network: flat, zones: [a, b], apiEndpoint: virtualAddress,\n"
             "    credentialsFile: /etc/clouds.yaml}\n",
        HEAD "  provider: aws\n  aws: {profile: dev, region: eu-west-1, endpoint: 'http://127.0.0.1:5000', zones: [eu-west-1a], instanceProfile: kprov-nodes, apiEndpoint: loadBalancer}\n",
        HEAD "  provider: hetzner\n  hetzner: {networkZone: eu-central, zones: [fsn1, nbg1], credentialsFile: ~/.hcloud}\n",
    };
    static const char *const sections[] = {"openstack", "aws", "hetzner"};
    for (size_t i = 0; i < KP_ARRAY_LEN(files); i++) {
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        KP_AUTO_BUF struct kp_buf text = {0};
        struct config config, again;
        if (!is_built_in(sections[i]))
            continue;
        read_config(files[i], arena, &config);
        assert_string_equal(config.cloud.section, sections[i]);
        struct kp_value *value = config_to_value(&config, arena);
        kp_value_print(value, &text);
        read_config(text.data, arena, &again);
        assert_true(kp_value_equal(value, config_to_value(&again, arena)));
        assert_string_equal(again.cloud.zones, config.cloud.zones);
        assert_string_equal(again.cloud.profile, config.cloud.profile);
        assert_string_equal(again.cloud.region, config.cloud.region);
        assert_string_equal(again.cloud.credentials, config.cloud.credentials);
    }
}

static void what_cannot_be_is_refused_with_its_place(void **state)
{
    static const char *const bad[][2] = {
        {HEAD "  openstack: {aplEndpoint: x}\n", "c.yaml:5: unknown field \"spec.openstack.aplEndpoint\": did you mean \"apiEndpoint\"?"},
        {HEAD "  provider: aws\n  aws: {instanceProfile: 'arn:aws:iam::1:instance-profile/x'}\n", "must be the name of an instance profile, not its ARN"},
        {HEAD "  provider: hetzner\n  hetzner: {instanceProfile: x}\n", "unknown field \"spec.hetzner.instanceProfile\""},
        {HEAD "  openstack:\n    apiEndpoint: dns\n", "c.yaml:6: spec.openstack.apiEndpoint: must be loadBalancer or virtualAddress"},
        {HEAD "  aws: {zones: eu-west-1a}\n", "c.yaml:5: spec.aws.zones: must be a list of at most 16 zones"},
        {HEAD "  aws: {zones: [a, 'b c']}\n", "c.yaml:5: spec.aws.zones[1]: must be the name of a zone"},
        {HEAD "  aws: {zones: [a, b, a]}\n", "c.yaml:5: spec.aws.zones[2]: is listed twice"},
        {HEAD "  aws: {region: [a]}\n", "c.yaml:5: spec.aws.region: must be a string"},
        {HEAD "  hetzner: {profile: x}\n", "c.yaml:5: unknown field \"spec.hetzner.profile\""},
        {HEAD "  openstack: {cloud: a}\n  aws: {profile: b}\n", "c.yaml:6: spec.aws: and spec.openstack: a cluster has one provider"},
        {HEAD "  openstack: {cloud: a}\n", "spec.openstack is for provider openstack, and this one is local"},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(bad); i++) {
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        struct config config;
        struct kp_error error = {0};
        assert_int_equal(config_parse(bad[i][0], strlen(bad[i][0]), "c.yaml", arena, &config, &error), KP_EINVALID);
        if (!strstr(error.message, bad[i][1]))
            fail_msg("for %s\nexpected %s\ngot      %s", bad[i][0], bad[i][1], error.message);
    }
}

static void rules_between_fields_hold(void **state)
{
    static const struct {
        const char *provider, *endpoint, *network, *cidr, *api, *told;
    } rows[] = {
        {"openstack", "", "", "", CONFIG_VIRTUAL_ADDRESS, NULL},
        {"openstack", "cloud.example", "", "", "", "spec.openstack.endpoint: \"cloud.example\" must be a URL"},
        {"openstack", "", "flat", "10.0.0.0/24", "", "leave out spec.network.machineCIDR"},
        {"openstack", "", "flat", "", "", NULL},
        {"aws", "", "", "10.0.0.0/16", CONFIG_LOAD_BALANCER, NULL},
        {"aws", "", "", "", CONFIG_VIRTUAL_ADDRESS, "spec.aws.apiEndpoint: the networks of aws"},
        {"hetzner", "", "", "", CONFIG_VIRTUAL_ADDRESS, "must be loadBalancer"},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(rows); i++) {
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        struct config config;
        struct kp_error error = {0};
        if (!is_built_in(rows[i].provider))
            continue;
        config_default("demo", 1, 0, arena, &config);
        config.provider = config.cloud.section = rows[i].provider;
        config.cloud.endpoint = rows[i].endpoint;
        config.cloud.network = rows[i].network;
        config.cloud.api_endpoint = rows[i].api;
        config.network.machine_cidr = rows[i].cidr;
        assert_int_equal(config_validate(&config, &error), rows[i].told ? KP_EINVALID : 0);
        if (rows[i].told && !strstr(error.message, rows[i].told))
            fail_msg("expected %s\ngot      %s", rows[i].told, error.message);
    }
}

static void keys_may_change_and_places_may_not(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct config before, after;
    struct plan_change_list changes;
    config_default("demo", 1, 0, arena, &before);
    before.provider = before.cloud.section = "openstack";
    before.cloud.zones = "a";
    after = before;
    plan_config_changes(&before, &after, arena, &changes);
    assert_int_equal(changes.len, 0);
    after.cloud.credentials = "/new";
    plan_config_changes(&before, &after, arena, &changes);
    assert_int_equal(changes.len, 1);
    assert_int_equal(changes.items[0].kind, PLAN_CHANGE_SETTING);
    assert_string_equal(changes.items[0].path, "spec.openstack.credentialsFile");
    after.cloud.credentials = "";
    after.cloud.zones = "a b";
    plan_config_changes(&before, &after, arena, &changes);
    assert_int_equal(changes.len, 1);
    assert_int_equal(changes.items[0].kind, PLAN_CHANGE_FIXED);
    after = before;
    config_default("demo", 1, 0, arena, &after); /* the section left out */
    after.provider = "openstack";
    plan_config_changes(&before, &after, arena, &changes);
    assert_int_equal(changes.len, 1);
    assert_string_equal(changes.items[0].path, "spec.openstack.zones");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_account_is_read_and_written_back),
        cmocka_unit_test(what_cannot_be_is_refused_with_its_place),
        cmocka_unit_test(rules_between_fields_hold),
        cmocka_unit_test(keys_may_change_and_places_may_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
