/* The cluster file: what is read, what is refused, and in which words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/version.h"
#include "provisioner/config/config.h"

static const char head[] = "apiVersion: kprov.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: demo\n";

static void a_full_file_is_read(void **state)
{
    static const char text[] =
        "apiVersion: kprov.dev/v1alpha1\nkind: Cluster\nmetadata: {name: demo}\nspec:\n  provider: local\n"
        "  kubernetesVersion: v1.36.0\n  controlPlane: {replicas: 1, machine: small}\n  nodePools:\n"
        "  - name: app\n    replicas: 2\n    labels: {tier: app}\n    taints:\n    - {key: a/b, value: c, effect: NoSchedule}\n"
        "  - name: gpu\n    replicas: 0\n  network: {podCIDR: 10.200.0.0/16, serviceCIDR: 10.100.0.0/16, dnsDomain: k.test}\n"
        "  componentArgs:\n    kube-controller-manager: {node-monitor-grace-period: 4s, leader-elect: true, v: 4}\n";
    struct kp_arena *arena = kp_arena_new(0);
    struct config config;
    struct kp_error error = {0};
    if (config_parse(text, strlen(text), "c.yaml", arena, &config, &error) < 0)
        fail_msg("%s", error.message);
    assert_string_equal(config.name, "demo");
    assert_string_equal(config.control_plane.machine, "small");
    assert_int_equal(config.n_pools, 2);
    assert_int_equal(config.pools[0].replicas, 2);
    assert_string_equal(kp_string_map_get(&config.pools[0].labels, "tier"), "app");
    assert_string_equal(config.pools[0].taints[0].effect, "NoSchedule");
    assert_int_equal(config.pools[1].replicas, 0);
    assert_string_equal(config.network.dns_domain, "k.test");
    const struct kp_string_map *flags = config_component_flags(&config, "kube-controller-manager");
    assert_string_equal(kp_string_map_get(flags, "node-monitor-grace-period"), "4s");
    assert_string_equal(kp_string_map_get(flags, "leader-elect"), "true");
    assert_string_equal(kp_string_map_get(flags, "v"), "4");
    assert_null(config_component_flags(&config, "etcd"));
    kp_arena_free(arena);
}

static void what_is_written_reads_back_the_same(void **state)
{
    struct kp_arena *arena = kp_arena_new(0);
    struct config config, again;
    struct kp_error error = {0};
    KP_AUTO_BUF struct kp_buf text = {0};
    config_default("demo", 1, 3, arena, &config);
    config.load_balancer.addresses = "10.0.0.1-10.0.0.9,10.0.1.0/28";
    kp_value_print(config_to_value(&config, arena), &text);
    if (config_parse(text.data, text.len, "c", arena, &again, &error) < 0)
        fail_msg("%s", error.message);
    assert_true(kp_value_equal(config_to_value(&config, arena), config_to_value(&again, arena)));
    assert_string_equal(again.load_balancer.addresses, config.load_balancer.addresses);
    kp_arena_free(arena);
}

static const struct {
    const char *body, *message;
} refused[] = {
    {"spec:\n  provder: local\n", "c.yaml:6: unknown field \"spec.provder\": did you mean \"provider\"?"},
    {"spec:\n  nodePools:\n  - name: a\n    replica: 2\n", "c.yaml:8: unknown field \"spec.nodePools[0].replica\""},
    {"spec:\n  network: {podCidr: 10.0.0.0/16}\n", "c.yaml:6: unknown field \"spec.network.podCidr\""},
    {"sepc: {}\n", "c.yaml:5: unknown field \"sepc\""},
    {"spec:\n  controlPlane: {replicas: 4}\n", "spec.controlPlane.replicas: must be 1, 3, 5 or 7, not 4: etcd needs a majority of an odd number; take 5"},
    {"spec:\n  controlPlane: {replicas: 8}\n", "not 8: etcd needs a majority of an odd number; take 7"},
    {"spec:\n  deletionProtection: 'yes'\n", "c.yaml:6: spec.deletionProtection: must be true or false"},
    {"spec:\n  network: {machineCIDR: 10.96.3.0/24}\n", "spec.network: machineCIDR 10.96.3.0/24 and serviceCIDR overlap"},
    {"spec:\n  network: {machineCIDR: 10.244.0.0/24}\n", "spec.network: machineCIDR 10.244.0.0/24 and podCIDR overlap"},
    {"spec:\n  network: {machineCIDR: 10.1.0.1/24}\n", "spec.network.machineCIDR: \"10.1.0.1/24\" must be an IPv4 prefix"},
    {"spec:\n  controlPlane: {replicas: two}\n", "c.yaml:6: spec.controlPlane.replicas: must be a whole number"},
    {"spec:\n  controlPlane: {replicas: -1}\n", "c.yaml:6: spec.controlPlane.replicas: must be between 0 and 100, not -1"},
    {"spec:\n  provider: mars\n", "spec.provider: \"mars\" is not supported: must be \"local\""},
    {"spec:\n  kubernetesVersion: 1.2.3\n", "spec.kubernetesVersion: \"1.2.3\" must be a version such as v"},
    {"spec:\n  nodePools: [{replicas: 1}]\n", "c.yaml:6: spec.nodePools[0].name: is required"},
    {"spec:\n  nodePools: [{name: a}, {name: a}]\n", "spec.nodePools[1].name: is the name of another pool too"},
    {"spec:\n  nodePools: [{name: A}]\n", "spec.nodePools[0].name: \"A\" must be"},
    {"spec:\n  nodePools: [{name: cp}]\n", "not \"cp\""},
    {"spec:\n  nodePools: {}\n", "c.yaml:6: spec.nodePools: must be a list of at most 32 pools"},
    {"spec:\n  nodePools: [{name: a, labels: {x: 1}}]\n", "spec.nodePools[0].labels.x: must be a string"},
    {"spec:\n  nodePools: [{name: a, taints: [{key: k, effect: Never}]}]\n",
     "spec.nodePools[0].taints[0].effect: must be NoSchedule, PreferNoSchedule or NoExecute"},
    {"spec:\n  network: {podCIDR: 10.1.2.3/16}\n", "spec.network.podCIDR: \"10.1.2.3/16\" must be an IPv4 prefix"},
    {"spec:\n  network: {podCIDR: 10.96.0.0/16}\n", "podCIDR 10.96.0.0/16 and serviceCIDR 10.96.0.0/12 overlap"},
    {"spec:\n  network: {dnsDomain: 'a..b'}\n", "spec.network.dnsDomain: \"a..b\" must be a domain"},
    {"spec:\n  loadBalancer: {addresses: 10.0.0.1}\n", "c.yaml:6: spec.loadBalancer.addresses: must be a list of addresses and ranges"},
    {"spec:\n  loadBalancer: {addresses: [10.0.0.9-10.0.0.1]}\n", "spec.loadBalancer.addresses: \"10.0.0.9-10.0.0.1\" is no range of addresses"},
    {"spec:\n  componentArgs: {kubelt: {}}\n", "c.yaml:6: unknown field \"spec.componentArgs.kubelt\""},
    {"spec: []\n", "c.yaml:5: spec: must be a map"},
    {"---\na: b\n", "must hold one document, not 2"},
};

static void every_wrong_file_is_refused_in_clear_words(void **state)
{
    for (size_t i = 0; i < KP_ARRAY_LEN(refused); i++) {
        struct kp_arena *arena = kp_arena_new(0);
        struct config config;
        struct kp_error error = {0};
        char *text = kp_asprintf("%s%s", head, refused[i].body);
        assert_true(config_parse(text, strlen(text), "c.yaml", arena, &config, &error) < 0);
        if (!strstr(error.message, refused[i].message))
            fail_msg("for %s\nexpected %s\ngot      %s", refused[i].body, refused[i].message, error.message);
        free(text);
        kp_arena_free(arena);
    }
}

static void names_that_make_no_host_name_are_refused(void **state)
{
    static const char *const names[] = {"", "-a", "a-", "A", "a_b", "a.b", "abcdefghijklmnopqrstuvwxyz0123456"};
    struct kp_arena *arena = kp_arena_new(0);
    for (size_t i = 0; i < KP_ARRAY_LEN(names); i++) {
        struct config config;
        config_default(names[i], 1, 0, arena, &config);
        assert_int_equal(config_validate(&config, NULL), KP_EINVALID);
    }
    kp_arena_free(arena);
}

static void addresses_come_from_the_service_range(void **state)
{
    struct kp_arena *arena = kp_arena_new(0);
    assert_string_equal(config_cidr_address("10.96.0.0/12", 10, arena), "10.96.0.10");
    assert_string_equal(config_cidr_address("10.0.255.0/24", 1, arena), "10.0.255.1");
    assert_null(config_cidr_address("10.0.0.1/24", 1, arena));
    kp_arena_free(arena);
}

static const char routes[] = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
                             "eth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
                             "tun0\t0000F40A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
                             "eth0\t0002A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";

static void networks_that_the_host_routes_elsewhere_are_refused(void **state)
{
    struct kp_arena *arena = kp_arena_new(0);
    struct config_range ranges[8];
    struct config config;
    struct kp_error error = {0};
    assert_int_equal(config_parse_routes(routes, ranges, KP_ARRAY_LEN(ranges), arena), 2);
    assert_int_equal(config_parse_routes(routes, ranges, 1, arena), 1);
    assert_int_equal(config_parse_routes(NULL, ranges, 8, arena), 0);
    assert_int_equal(config_parse_routes(routes, ranges, 8, arena), 2);
    assert_int_equal(ranges[0].base, 0x0af40000);
    assert_int_equal(ranges[0].prefix, 16);
    config_default("demo", 1, 0, arena, &config);
    assert_int_equal(config_check_ranges(&config, ranges, 2, &error), KP_EINVALID);
    assert_non_null(strstr(error.message, "spec.network.podCIDR: 10.244.0.0/16 overlaps 10.244.0.0/16, which this host reaches through tun0"));
    config.network.pod_cidr = "10.245.0.0/16";
    assert_int_equal(config_check_ranges(&config, ranges, 2, &error), 0);
    config.network.machine_cidr = "192.168.0.0/16";
    assert_int_equal(config_check_ranges(&config, ranges, 2, &error), KP_EINVALID);
    assert_non_null(strstr(error.message, "machineCIDR: 192.168.0.0/16 overlaps 192.168.2.0/24"));
    kp_arena_free(arena);
}

static void set_bridge(struct config *config, struct kp_arena *arena)
{
    config_default("demo", 1, 0, arena, config);
    config->provider = "libvirt";
    config->network.machine_cidr = "10.0.0.0/24";
    config->libvirt.bridge = "br0";
    config->libvirt.addresses = "10.0.0.100-10.0.0.150";
    config->libvirt.gateway = "10.0.0.1";
    config->libvirt.nameservers = "10.0.0.2 1.1.1.1";
}

static void a_bridge_of_libvirts_survives_being_written(void **state)
{
    struct kp_arena *arena = kp_arena_new(0);
    struct config config, again;
    struct kp_error error = {0};
    KP_AUTO_BUF struct kp_buf text = {0};
    const struct config_range host = {0x0a000000, 24, "br0"};
    set_bridge(&config, arena);
    if (config_validate(&config, &error) < 0)
        fail_msg("%s", error.message);
    assert_int_equal(config_check_ranges(&config, &host, 1, &error), 0); /* the host is in that network itself */
    kp_value_print(config_to_value(&config, arena), &text);
    assert_int_equal(config_parse(text.data, text.len, "again", arena, &again, &error), 0);
    assert_string_equal(again.libvirt.uri, "");
    assert_string_equal(again.libvirt.bridge, "br0");
    assert_string_equal(again.libvirt.addresses, config.libvirt.addresses);
    assert_string_equal(again.libvirt.gateway, "10.0.0.1");
    assert_string_equal(again.libvirt.nameservers, "10.0.0.2 1.1.1.1");
    kp_arena_free(arena);
}

static void a_bridge_of_libvirts_that_cannot_be_is_refused(void **state)
{
    static const struct {
        size_t field; /* of struct config, a text */
        const char *value, *told;
    } rows[] = {
        {offsetof(struct config, provider), "local", "is for provider libvirt"},
        {offsetof(struct config, network.machine_cidr), "", "spec.network.machineCIDR must be"},
        {offsetof(struct config, network.machine_cidr), "10.0.1.0/24", "spec.libvirt.gateway"},
        {offsetof(struct config, libvirt.bridge), "", "name it in spec.libvirt.bridge"},
        {offsetof(struct config, libvirt.bridge), "br0;reboot", "spec.libvirt.bridge"},
        {offsetof(struct config, libvirt.bridge), "a-name-of-sixteen", "spec.libvirt.bridge"},
        {offsetof(struct config, libvirt.gateway), "", "spec.libvirt.gateway"},
        {offsetof(struct config, libvirt.gateway), "10.0.0.255", "spec.libvirt.gateway"},
        {offsetof(struct config, libvirt.gateway), "10.0.0.120", "has the gateway"},
        {offsetof(struct config, libvirt.nameservers), "10.0.0.2 dns", "\"dns\" must be an IPv4 address"},
        {offsetof(struct config, libvirt.addresses), "", "must be a range"},
        {offsetof(struct config, libvirt.addresses), "10.0.0.150-10.0.0.100", "must be a range"},
        {offsetof(struct config, libvirt.addresses), "10.0.0.100-10.0.0.110,10.0.0.120-10.0.0.130", "must be a range"},
        {offsetof(struct config, libvirt.addresses), "10.0.0.100", "must be a range"},
        {offsetof(struct config, libvirt.addresses), "10.0.0.250-10.0.1.3", "is not within"},
        {offsetof(struct config, libvirt.addresses), "10.0.0.0-10.0.0.20", "is not within"},
        {offsetof(struct config, load_balancer.addresses), "10.0.0.150-10.0.0.160", "overlap"},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(rows); i++) {
        struct kp_arena *arena = kp_arena_new(0);
        struct config config;
        struct kp_error error = {0};
        set_bridge(&config, arena);
        *(const char **)((char *)&config + rows[i].field) = rows[i].value;
        assert_int_equal(config_validate(&config, &error), KP_EINVALID);
        if (!strstr(error.message, rows[i].told))
            fail_msg("row %zu: %s", i, error.message);
        kp_arena_free(arena);
    }
}

static void a_libvirt_uri_is_for_libvirt_and_survives_being_written(void **state)
{
    struct kp_arena *arena = kp_arena_new(0);
    struct config config, again;
    struct kp_error error = {0};
    KP_AUTO_BUF struct kp_buf text = {0};
    config_default("demo", 1, 0, arena, &config);
    config.libvirt.uri = "qemu+ssh://root@host/system";
    assert_int_equal(config_validate(&config, &error), KP_EINVALID);
    config.provider = "libvirt";
    assert_int_equal(config_validate(&config, &error), 0);
    kp_value_print(config_to_value(&config, arena), &text);
    assert_int_equal(config_parse(text.data, text.len, "again", arena, &again, &error), 0);
    assert_string_equal(again.libvirt.uri, config.libvirt.uri);
    config.libvirt.uri = "qemu";
    assert_int_equal(config_validate(&config, &error), KP_EINVALID);
    assert_non_null(strstr(error.message, "such as qemu:///system"));
    kp_arena_free(arena);
}

static void one_minor_version_follows_the_other(void **state)
{
    static const char *const fine[][2] = {{"v1.36.0", "v1.36.0"}, {"v1.36.0", "v1.36.1"}, {"v1.36.9", "v1.37.0"}, {"v1.36.0", "v1.37.0-rc.1"}};
    static const struct {
        const char *from, *to, *message;
    } wrong[] = {
        {"v1.36.0", "v1.38.0", "upgrade to v1.37 first"},
        {"v1.36.0", "v2.0.0", "skips a minor version"},
        {"v1.36.1", "v1.36.0", "is a downgrade: kprov rollback cluster"},
        {"v1.37.0", "v1.36.9", "is a downgrade"},
        {"v1.36.0", "1.37.0", "not of the form"},
        {"v1.36.0", "v1.37", "not of the form"},
        {"v1.36.0", "v1.37.0-", "not of the form"},
        {"v1.36.0", "v1.37.0/..", "not of the form"},
    };
    struct kp_error error = {0};
    for (size_t i = 0; i < KP_ARRAY_LEN(fine); i++)
        assert_int_equal(config_check_upgrade(fine[i][0], fine[i][1], &error), 0);
    for (size_t i = 0; i < KP_ARRAY_LEN(wrong); i++) {
        assert_int_equal(config_check_upgrade(wrong[i].from, wrong[i].to, &error), KP_EINVALID);
        assert_non_null(strstr(error.message, wrong[i].message));
    }
}

static void a_file_without_a_version_means_the_clusters(void **state)
{
    struct kp_arena *arena = kp_arena_new(0);
    struct kp_error error = {0};
    struct config config;
    static const char text[] = "apiVersion: kprov.dev/v1alpha1\nkind: Cluster\nmetadata: {name: demo}\n";
    assert_int_equal(config_parse(text, strlen(text), "demo.yaml", arena, &config, &error), 0);
    assert_string_equal(config.kubernetes_version, "");
    assert_int_equal(config_settle_version(&config, "v1.2.3", &error), 0);
    assert_string_equal(config.kubernetes_version, "v1.2.3");
    assert_int_equal(config_settle_version(&config, NULL, &error), KP_EINVALID);
    assert_non_null(strstr(error.message, "cannot be installed: this kprov installs v"));
    config.kubernetes_version = "";
    assert_int_equal(config_settle_version(&config, NULL, &error), 0);
    assert_string_equal(config.kubernetes_version, kp_version);
    kp_arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_file_is_read),
        cmocka_unit_test(what_is_written_reads_back_the_same),
        cmocka_unit_test(every_wrong_file_is_refused_in_clear_words),
        cmocka_unit_test(names_that_make_no_host_name_are_refused),
        cmocka_unit_test(addresses_come_from_the_service_range),
        cmocka_unit_test(networks_that_the_host_routes_elsewhere_are_refused),
        cmocka_unit_test(a_libvirt_uri_is_for_libvirt_and_survives_being_written),
        cmocka_unit_test(a_bridge_of_libvirts_survives_being_written),
        cmocka_unit_test(a_bridge_of_libvirts_that_cannot_be_is_refused),
        cmocka_unit_test(one_minor_version_follows_the_other),
        cmocka_unit_test(a_file_without_a_version_means_the_clusters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
