/* The libvirt driver against libvirt's own in-memory driver, test:///default. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "cloud/libvirt/libvirt_internal.h"

#define UID_A "0a5e2c0e-6a1f-4f43-9b55-0d6b7a3f0001"
#define UID_B "0a5e2c0e-6a1f-4f43-9b55-0d6b7a3f0002"
#define URI "test:///default"

struct fixture {
    struct cloud *cloud;
    struct kp_arena *arena;
    virConnectPtr other; /* somebody else who uses libvirt: libvirt's test driver shares one state in a process */
};

static int set_up(void **state)
{
    struct fixture *f = kp_calloc(1, sizeof(*f));
    const struct cloud_options options = {.uri = URI, .image_dir = "/nonexistent"};
    struct kp_error error = {0};
    f->arena = kp_arena_new(0);
    assert_int_equal(cloud_open("libvirt", &options, &f->cloud, &error), 0);
    f->other = virConnectOpen(URI);
    assert_non_null(f->other);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    virConnectClose(f->other);
    cloud_close(f->cloud);
    kp_arena_free(f->arena);
    free(f);
    return 0;
}

static void ensure_network(struct fixture *f, const char *uid, const char *cidr)
{
    const struct cloud_network_spec spec = {.cluster_uid = uid, .cidr = cidr};
    struct cloud_network network;
    struct kp_error error = {0};
    assert_int_equal(cloud_network_ensure(f->cloud, &spec, f->arena, &network, &error), 0);
}

static int make(struct fixture *f, const char *uid, const char *name, struct cloud_machine *ret, struct kp_error *error)
{
    const char *address = NULL;
    assert_int_equal(cloud_address_reserve(f->cloud, uid, name, f->arena, &address, error), 0);
    const struct cloud_machine_spec spec = {
        .cluster_uid = uid, .name = name, .role = "worker", .pool = "pool", .machine_type = "", .image = "node-test", .address = address,
        .user_data = "{}", .user_data_len = 2,
    };
    return cloud_machine_create(f->cloud, &spec, f->arena, ret, error);
}

static void purge(struct fixture *f, const char *uid)
{
    struct kp_strings left = {0};
    struct kp_error error = {0};
    assert_int_equal(cloud_purge(f->cloud, uid, &error), 0);
    assert_int_equal(cloud_owned(f->cloud, uid, f->arena, &left, &error), 0);
    assert_int_equal(left.len, 0);
    kp_strings_done(&left);
}

static void a_machine_gets_another_image_and_stays_itself(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    struct cloud_machine machine, after;
    const struct cloud_machine_spec spec = {.cluster_uid = UID_A, .name = "demo-cp-1", .image = "node-other", .user_data = "{}", .user_data_len = 2};
    ensure_network(f, UID_A, "10.88.9.0/24");
    assert_int_equal(cloud_machine_reimage(f->cloud, &spec, f->arena, &after, &error), KP_ENOTFOUND);
    assert_int_equal(make(f, UID_A, "demo-cp-1", &machine, &error), 0);
    for (int again = 0; again < 2; again++) {
        if (cloud_machine_reimage(f->cloud, &spec, f->arena, &after, &error) < 0)
            fail_msg("%s", error.message);
        assert_string_equal(after.image, "node-other");
        assert_string_equal(after.id, machine.id);
        assert_string_equal(after.address, machine.address);
        assert_string_equal(after.role, "worker");
        assert_string_equal(after.pool, "pool");
        assert_int_equal(after.created_s, machine.created_s);
        assert_int_equal(after.power, CLOUD_POWER_ON);
    }
    purge(f, UID_A);
}

static void a_machine_that_runs_gets_another_config_but_no_other_image(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    struct cloud_machine machine, after;
    struct cloud_machine_spec spec = {
        .cluster_uid = UID_A, .name = "demo-cp-1", .image = "node-test", .user_data = "{}", .user_data_len = 2, .at_next_boot = true};
    ensure_network(f, UID_A, "10.88.9.0/24");
    assert_int_equal(cloud_machine_reimage(f->cloud, &spec, f->arena, &after, &error), KP_ENOTFOUND);
    assert_int_equal(make(f, UID_A, "demo-cp-1", &machine, &error), 0);
    if (cloud_machine_reimage(f->cloud, &spec, f->arena, &after, &error) < 0)
        fail_msg("%s", error.message);
    assert_string_equal(after.id, machine.id);
    assert_string_equal(after.image, "node-test");
    assert_int_equal(after.power, CLOUD_POWER_ON);
    spec.image = "node-other";
    assert_int_equal(cloud_machine_reimage(f->cloud, &spec, f->arena, &after, &error), KP_EINVALID);
    assert_non_null(strstr(error.message, "only when it is turned off"));
    purge(f, UID_A);
}

static xmlNodePtr find(xmlNodePtr at, const char *name, const char *attribute, const char *value, struct kp_arena *arena)
{
    for (xmlNodePtr node = lv_xml_child(at, name); node; node = lv_xml_next(node, name))
        if (kp_streq(lv_xml_attr(node, attribute, arena), value))
            return node;
    return NULL;
}

static void a_domain_boots_the_kernel_directly_and_carries_its_tags(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf xml = {0};
    KP_AUTO(lv_xml_free) xmlDocPtr doc = NULL;
    struct kp_error error = {0};
    const struct cloud_machine_spec spec = {
        .cluster_uid = UID_A, .name = "ha-cp-1", .role = "control-plane", .pool = "a<b&'c'", .machine_type = "large", .image = "node-1",
        .address = "10.90.3.17",
    };
    const struct lv_paths paths = {"/k", "/i", "/r", "/d", "/b", "/c"};
    lv_domain_xml(&spec, &paths, "kvm", "kprov-net", 1700000000, arena, &xml);
    assert_int_equal(lv_xml_parse(xml.data, &doc, &error), 0);
    xmlNodePtr domain = xmlDocGetRootElement(doc), os = lv_xml_child(domain, "os"), devices = lv_xml_child(domain, "devices");
    xmlNodePtr machine = lv_xml_child(lv_xml_child(domain, "metadata"), "machine");
    assert_string_equal(lv_xml_attr(domain, "type", arena), "kvm");
    assert_string_equal(lv_xml_attr(machine, "cluster", arena), UID_A);
    assert_string_equal(lv_xml_attr(machine, "pool", arena), "a<b&'c'");
    assert_string_equal(lv_xml_attr(machine, "created", arena), "1700000000");
    assert_string_equal((char *)lv_xml_child(os, "kernel")->children->content, "/k");
    assert_string_equal((char *)lv_xml_child(domain, "memory")->children->content, "4096");
    assert_string_equal(lv_xml_attr(lv_xml_child(domain, "cpu"), "mode", arena), "host-passthrough");
    assert_string_equal(lv_xml_attr(lv_xml_child(lv_xml_child(devices, "interface"), "mac"), "address", arena), "52:54:0a:5a:03:11");
    assert_string_equal(lv_xml_attr(lv_xml_child(lv_xml_child(devices, "serial"), "source"), "path", arena), "/c");
    xmlNodePtr entry = find(lv_xml_child(domain, "sysinfo"), "entry", "name", "opt/kprov/bootstrap", arena);
    assert_string_equal(lv_xml_attr(entry, "file", arena), "/b");
}

static void an_emulated_domain_has_no_features_that_emulation_pays_for(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf xml = {0};
    KP_AUTO(lv_xml_free) xmlDocPtr doc = NULL;
    struct kp_error error = {0};
    const struct cloud_machine_spec spec = {
        .cluster_uid = UID_A, .name = "n", .role = "worker", .pool = "", .machine_type = "", .image = "node-1", .address = "10.90.0.10"};
    const struct lv_paths paths = {"/k", "/i", "/r", "/d", "/b", "/c"};
    lv_domain_xml(&spec, &paths, "qemu", "net", 0, arena, &xml);
    assert_int_equal(lv_xml_parse(xml.data, &doc, &error), 0);
    xmlNodePtr domain = xmlDocGetRootElement(doc);
    assert_string_equal(lv_xml_attr(lv_xml_child(domain, "cpu"), "mode", arena), "custom");
    assert_non_null(strstr((char *)lv_xml_child(lv_xml_child(domain, "os"), "cmdline")->children->content, "mitigations=off"));
}

static void addresses_stay_with_their_names_and_the_lowest_free_one_goes_next(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    const char *a = NULL, *b = NULL, *again = NULL, *c = NULL;
    ensure_network(f, UID_A, "10.77.1.0/24");
    assert_int_equal(cloud_address_reserve(f->cloud, UID_A, "a", f->arena, &a, &error), 0);
    assert_int_equal(cloud_address_reserve(f->cloud, UID_A, "b", f->arena, &b, &error), 0);
    assert_int_equal(cloud_address_reserve(f->cloud, UID_A, "a", f->arena, &again, &error), 0);
    assert_string_equal(a, "10.77.1.10");
    assert_string_equal(b, "10.77.1.11");
    assert_string_equal(again, a);
    assert_int_equal(cloud_address_release(f->cloud, UID_A, "a", &error), 0);
    assert_int_equal(cloud_address_release(f->cloud, UID_A, "a", &error), 0);
    assert_int_equal(cloud_address_reserve(f->cloud, UID_A, "c", f->arena, &c, &error), 0);
    assert_string_equal(c, "10.77.1.10");
    purge(f, UID_A);
}

static void networks_that_overlap_or_are_no_networks_are_refused(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    struct cloud_network network;
    ensure_network(f, UID_A, "10.77.1.0/24");
    const struct cloud_network_spec same = {.cluster_uid = UID_B, .cidr = "10.77.1.0/24"}, odd = {.cluster_uid = UID_B, .cidr = "10.77.2.5/24"};
    const struct cloud_wish wish = {.cidr = "10.77.1.0/24"};
    assert_int_equal(cloud_network_ensure(f->cloud, &same, f->arena, &network, &error), KP_ECONFLICT);
    assert_non_null(strstr(error.message, "choose another"));
    assert_int_equal(cloud_network_ensure(f->cloud, &odd, f->arena, &network, &error), KP_EINVALID);
    assert_int_equal(cloud_check(f->cloud, &wish, &error), KP_ECONFLICT);
    assert_int_equal(cloud_network_get(f->cloud, UID_B, f->arena, &network, &error), KP_ENOTFOUND);
    purge(f, UID_A);
}

static void a_machine_is_made_once_found_by_its_tag_and_deleted_with_its_files(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    struct cloud_machine one, again, found;
    struct cloud_machine_list list;
    ensure_network(f, UID_A, "10.77.1.0/24");
    assert_int_equal(make(f, UID_A, "m-1", &one, &error), 0);
    assert_int_equal(make(f, UID_A, "m-1", &again, &error), 0);
    assert_string_equal(one.id, again.id);
    assert_string_equal(one.provider_id, "libvirt://" UID_A "/m-1");
    assert_int_equal(one.power, CLOUD_POWER_ON);
    assert_int_equal(cloud_machine_get(f->cloud, UID_B, "m-1", f->arena, &found, &error), KP_ENOTFOUND);
    assert_int_equal(cloud_network_delete(f->cloud, UID_A, &error), KP_ECONFLICT);
    assert_int_equal(cloud_machine_delete(f->cloud, UID_A, "m-1", &error), 0);
    assert_int_equal(cloud_machine_delete(f->cloud, UID_A, "m-1", &error), 0);
    assert_int_equal(cloud_machine_list(f->cloud, UID_A, f->arena, &list, &error), 0);
    assert_int_equal(list.len, 0);
    virStoragePoolPtr pool = virStoragePoolLookupByUUIDString(f->other, UID_A);
    assert_non_null(pool);
    assert_int_equal(virStoragePoolNumOfVolumes(pool), 0);
    virStoragePoolFree(pool);
    purge(f, UID_A);
}

static void power_goes_off_and_on_and_off_again(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    struct cloud_machine machine;
    static const enum cloud_power_action actions[] = {CLOUD_POWER_STOP, CLOUD_POWER_STOP, CLOUD_POWER_START, CLOUD_POWER_START, CLOUD_POWER_KILL};
    ensure_network(f, UID_A, "10.77.1.0/24");
    assert_int_equal(make(f, UID_A, "m-1", &machine, &error), 0);
    for (size_t i = 0; i < KP_ARRAY_LEN(actions); i++) {
        assert_int_equal(cloud_machine_power(f->cloud, UID_A, "m-1", actions[i], &error), 0);
        assert_int_equal(cloud_machine_get(f->cloud, UID_A, "m-1", f->arena, &machine, &error), 0);
        assert_int_equal(machine.power, actions[i] == CLOUD_POWER_START ? CLOUD_POWER_ON : CLOUD_POWER_OFF);
    }
    purge(f, UID_A);
}

static virDomainPtr define_foreign(struct fixture *f, const char *name)
{
    KP_AUTO_FREE char *xml = kp_asprintf("<domain type='test'><name>%s</name><memory>65536</memory><os><type>hvm</type></os></domain>", name);
    virDomainPtr domain = virDomainDefineXML(f->other, xml);
    assert_non_null(domain);
    return domain;
}

static void a_name_of_anothers_domain_is_refused_before_and_when_a_machine_is_made(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    struct cloud_machine machine;
    const char *names[] = {"m-1", "m-2"};
    const struct cloud_wish wish = {.machines = names, .n_machines = 2};
    virDomainPtr domain = define_foreign(f, "m-2");
    assert_int_equal(cloud_check(f->cloud, &wish, &error), KP_ECONFLICT);
    assert_non_null(strstr(error.message, "m-2"));
    ensure_network(f, UID_A, "10.77.1.0/24");
    assert_int_equal(make(f, UID_A, "m-2", &machine, &error), KP_ECONFLICT);
    purge(f, UID_A);
    assert_int_equal(virDomainUndefine(domain), 0); /* it is there still: nobody else's is touched */
    virDomainFree(domain);
}

static void what_a_killed_run_left_is_found_and_purged(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    struct kp_strings uids = {0}, owned = {0};
    virStoragePoolPtr pool = virStoragePoolDefineXML(
        f->other, "<pool type='dir'><name>kprov-" UID_B "</name><uuid>" UID_B "</uuid><target><path>/nonexistent/b</path></target></pool>", 0);
    virNetworkPtr network = virNetworkDefineXML(f->other, "<network><name>kprov-" UID_B "</name><uuid>" UID_B "</uuid></network>");
    virDomainPtr domain = virDomainCreateXML(
        f->other,
        "<domain type='test'><name>gone-1</name><metadata><kprov:machine xmlns:kprov='" LV_NAMESPACE "' cluster='" UID_B "' name='gone-1'"
        " role='worker' pool='' type='' image='i' address='10.1.1.1' created='1'/></metadata><memory>65536</memory><os><type>hvm</type></os></domain>",
        0);
    assert_non_null(pool);
    assert_non_null(network);
    assert_non_null(domain); /* transient: never defined */
    assert_int_equal(cloud_clusters(f->cloud, &uids, &error), 0);
    assert_int_equal(uids.len, 1);
    assert_string_equal(uids.items[0], UID_B);
    assert_int_equal(cloud_owned(f->cloud, UID_B, f->arena, &owned, &error), 0);
    assert_int_equal(owned.len, 3);
    virDomainFree(domain);
    virNetworkFree(network);
    virStoragePoolFree(pool);
    purge(f, UID_B);
    kp_strings_done(&uids);
    kp_strings_done(&owned);
}

static void two_clusters_do_not_see_each_other(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    struct cloud_machine machine;
    struct cloud_machine_list list;
    ensure_network(f, UID_A, "10.77.1.0/24");
    ensure_network(f, UID_B, "10.77.2.0/24");
    assert_int_equal(make(f, UID_A, "a-1", &machine, &error), 0);
    assert_int_equal(make(f, UID_B, "b-1", &machine, &error), 0);
    purge(f, UID_A);
    assert_int_equal(cloud_machine_list(f->cloud, UID_B, f->arena, &list, &error), 0);
    assert_int_equal(list.len, 1);
    assert_string_equal(list.items[0].name, "b-1");
    purge(f, UID_B);
}

static int ensure_bridged(struct fixture *f, const char *uid, const char *bridge, const char *addresses, struct cloud_network *ret, struct kp_error *error)
{
    const struct cloud_network_spec spec = {
        .cluster_uid = uid, .cidr = "10.66.0.0/23",
        .bridge = {.name = bridge, .addresses = addresses, .gateway = "10.66.0.1", .nameservers = "10.66.0.2 1.1.1.1"}};
    return cloud_network_ensure(f->cloud, &spec, f->arena, ret, error);
}

static void addresses_on_a_bridge_are_kept_in_the_networks_definition(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    struct cloud_network network;
    struct cloud_machine machine;
    const char *a = NULL, *b = NULL, *c = NULL;
    for (int again = 0; again < 2; again++) {
        if (ensure_bridged(f, UID_A, "br0", "10.66.0.254-10.66.1.0", &network, &error) < 0)
            fail_msg("%s", error.message);
        assert_string_equal(network.cidr, "10.66.0.0/23");
        assert_int_equal(network.prefix_len, 23);
        assert_string_equal(network.gateway, "10.66.0.1");
        assert_string_equal(network.nameservers, "10.66.0.2 1.1.1.1");
    }
    assert_int_equal(make(f, UID_A, "m-1", &machine, &error), 0);
    assert_string_equal(machine.address, "10.66.0.254");
    assert_int_equal(cloud_address_reserve(f->cloud, UID_A, "b<&'", f->arena, &b, &error), KP_EINVALID); /* no name of a machine */
    assert_int_equal(cloud_address_reserve(f->cloud, UID_A, "b", f->arena, &b, &error), 0);
    assert_int_equal(cloud_address_reserve(f->cloud, UID_A, "c", f->arena, &c, &error), 0);
    assert_string_equal(b, "10.66.0.255");
    assert_string_equal(c, "10.66.1.0");
    assert_int_equal(cloud_address_reserve(f->cloud, UID_A, "d", f->arena, &a, &error), KP_EQUOTA);
    assert_non_null(strstr(error.message, "10.66.0.254-10.66.1.0"));
    assert_int_equal(ensure_bridged(f, UID_A, "br0", "10.66.0.254-10.66.1.0", &network, &error), 0); /* forgets nothing */
    assert_int_equal(cloud_address_release(f->cloud, UID_A, "b", &error), 0);
    assert_int_equal(cloud_address_release(f->cloud, UID_A, "b", &error), 0);
    assert_int_equal(cloud_address_reserve(f->cloud, UID_A, "c", f->arena, &c, &error), 0);
    assert_string_equal(c, "10.66.1.0");
    assert_int_equal(cloud_address_reserve(f->cloud, UID_A, "d", f->arena, &a, &error), 0);
    assert_string_equal(a, "10.66.0.255");
    purge(f, UID_A);
}

static void a_range_on_a_bridge_that_another_cluster_has_is_refused(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    struct cloud_network network;
    const struct cloud_wish wish = {.cidr = "10.66.0.0/23", .bridge = {.name = "br0", .addresses = "10.66.0.15-10.66.0.30", .gateway = "10.66.0.1", .nameservers = ""}};
    assert_int_equal(cloud_check(f->cloud, &wish, &error), 0);
    assert_int_equal(ensure_bridged(f, UID_A, "br0", "10.66.0.10-10.66.0.20", &network, &error), 0);
    assert_int_equal(cloud_check(f->cloud, &wish, &error), KP_ECONFLICT);
    assert_int_equal(ensure_bridged(f, UID_B, "br0", "10.66.0.20-10.66.0.30", &network, &error), KP_ECONFLICT);
    assert_non_null(strstr(error.message, "does not overlap"));
    assert_int_equal(ensure_bridged(f, UID_B, "br0;x", "10.66.0.21-10.66.0.30", &network, &error), KP_EINVALID);
    assert_int_equal(ensure_bridged(f, UID_B, "br0", "10.66.0.30-10.66.0.21", &network, &error), KP_EINVALID);
    assert_int_equal(cloud_network_get(f->cloud, UID_B, f->arena, &network, &error), KP_ENOTFOUND);
    assert_int_equal(ensure_bridged(f, UID_B, "br1", "10.66.0.20-10.66.0.30", &network, &error), 0); /* another link */
    purge(f, UID_A);
    purge(f, UID_B);
}

static void a_wrong_uri_is_told_with_what_one_looks_like(void **state)
{
    const struct cloud_options options = {.uri = "nonsense:///system"};
    struct cloud *cloud = NULL;
    struct kp_error error = {0};
    assert_true(cloud_open("libvirt", &options, &cloud, &error) < 0);
    assert_null(cloud);
    assert_non_null(strstr(error.message, "nonsense:///system"));
    assert_non_null(strstr(error.message, "qemu:///system"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_domain_boots_the_kernel_directly_and_carries_its_tags),
        cmocka_unit_test(an_emulated_domain_has_no_features_that_emulation_pays_for),
        cmocka_unit_test_setup_teardown(addresses_stay_with_their_names_and_the_lowest_free_one_goes_next, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_machine_gets_another_image_and_stays_itself, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_machine_that_runs_gets_another_config_but_no_other_image, set_up, tear_down),
        cmocka_unit_test_setup_teardown(networks_that_overlap_or_are_no_networks_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_machine_is_made_once_found_by_its_tag_and_deleted_with_its_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(power_goes_off_and_on_and_off_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_name_of_anothers_domain_is_refused_before_and_when_a_machine_is_made, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_a_killed_run_left_is_found_and_purged, set_up, tear_down),
        cmocka_unit_test_setup_teardown(two_clusters_do_not_see_each_other, set_up, tear_down),
        cmocka_unit_test_setup_teardown(addresses_on_a_bridge_are_kept_in_the_networks_definition, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_range_on_a_bridge_that_another_cluster_has_is_refused, set_up, tear_down),
        cmocka_unit_test(a_wrong_uri_is_told_with_what_one_looks_like),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
