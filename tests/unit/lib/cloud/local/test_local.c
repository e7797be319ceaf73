/* The local driver's parts that need no root: subnets, addresses, notes on disk, cgroup mounts, and the front's checks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "cloud/local/local_internal.h"

static const char no_routes[] = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
                                "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";

static void the_first_free_subnet_is_chosen(void **state)
{
    uint32_t base = 0, taken[] = {0x0a590000u, 0x0a590100u};
    assert_int_equal(local_choose_subnet(no_routes, NULL, 0, &base), 0);
    assert_int_equal(base, 0x0a590000u);
    assert_int_equal(local_choose_subnet(no_routes, taken, 2, &base), 0);
    assert_int_equal(base, 0x0a590200u);
}

static void subnets_that_the_host_routes_are_left_alone(void **state)
{
    uint32_t base = 0;
    /* 10.89.0.0/23 over a link of the host, in the byte order of /proc/net/route. */
    char *routes = kp_asprintf("%seth1\t0000590A\t00000000\t0001\t0\t0\t0\t00FEFFFF\t0\t0\t0\n", no_routes);
    assert_int_equal(local_choose_subnet(routes, NULL, 0, &base), 0);
    assert_int_equal(base, 0x0a590200u);
    free(routes);
    routes = kp_asprintf("%seth1\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n", no_routes);
    assert_int_equal(local_choose_subnet(routes, NULL, 0, &base), KP_EQUOTA);
    free(routes);
}

static void the_way_out_is_the_link_of_the_default_route(void **state)
{
    char link[IFNAMSIZ] = "";
    assert_true(local_default_link(no_routes, link));
    assert_string_equal(link, "eth0");
    assert_false(local_default_link("Iface\tDestination\neth1\t0000590A\t00000000\t0001\t0\t0\t0\t00FEFFFF\t0\t0\t0\n", link));
    assert_false(local_default_link("", link));
}

static void only_aligned_prefixes_are_networks(void **state)
{
    static const char *const wrong[] = {"", "10.0.0.0", "10.0.0.1/24", "10.0.0.0/33", "10.0.0.0/", "a/24", "10.0.0.0/2x", "10.0.0.0/29"};
    uint32_t base = 0;
    int prefix = 0;
    assert_int_equal(local_cidr_parse("10.89.3.0/24", &base, &prefix), 0);
    assert_int_equal(base, 0x0a590300u);
    assert_int_equal(prefix, 24);
    for (size_t i = 0; i < KP_ARRAY_LEN(wrong); i++)
        assert_int_equal(local_cidr_parse(wrong[i], &base, &prefix), KP_EINVALID);
    assert_int_equal(local_cidr_parse(NULL, &base, &prefix), KP_EINVALID);
}

static void notes_are_read_back(void **state)
{
    char dir[] = "/tmp/kprov-local-XXXXXX", path[64];
    struct local_meta meta = {0}, again;
    struct kp_arena *arena = kp_arena_new(0);
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/m", dir);
    local_meta_add(&meta, "name", "n1");
    local_meta_add(&meta, "pool", NULL);
    local_meta_add(&meta, "odd", "a=b c");
    assert_int_equal(local_meta_write(path, &meta, NULL), 0);
    assert_int_equal(local_meta_read(path, arena, &again, NULL), 0);
    assert_string_equal(local_meta_get(&again, "name"), "n1");
    assert_string_equal(local_meta_get(&again, "pool"), "");
    assert_string_equal(local_meta_get(&again, "odd"), "a=b c");
    assert_string_equal(local_meta_get(&again, "none"), "");
    meta.values[0] = "two\nlines";
    assert_int_equal(local_meta_write(path, &meta, NULL), KP_EINVALID);
    assert_int_equal(kp_write_file(path, "no equals sign\n", 15, 0600, NULL), 0);
    assert_int_equal(local_meta_read(path, arena, &again, NULL), KP_ECORRUPT);
    assert_int_equal(kp_remove_tree(dir, NULL), 0);
    kp_arena_free(arena);
}

static void put(const char *dir, const char *file, const char *text)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", dir, file);
    *strrchr(path, '/') = 0;
    assert_int_equal(kp_mkdir_p(path, 0755, NULL), 0);
    snprintf(path, sizeof(path), "%s/%s", dir, file);
    assert_int_equal(kp_write_file(path, text, strlen(text), 0644, NULL), 0);
}

static bool is_there(const char *dir, const char *file)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", dir, file);
    return kp_path_exists(path);
}

static void a_new_image_gets_a_root_with_the_machines_own_data_alone(void **state)
{
    char dir[] = "/tmp/kprov-local-XXXXXX";
    assert_non_null(mkdtemp(dir));
    assert_int_equal(local_root_settle(dir, NULL), 0);
    assert_false(is_there(dir, "upper"));
    /* As an interrupted change leaves it: one folder is moved already. */
    put(dir, "upper.old/etc/machine-id", "1");
    put(dir, "upper.old/etc/passwd", "changed");
    put(dir, "upper.old/usr/bin/tool", "changed");
    put(dir, "upper.old/opt/volume/data", "kept");
    put(dir, "upper/var/lib/app/data", "kept");
    put(dir, "work/work/x", "");
    assert_int_equal(local_root_settle(dir, NULL), 0);
    assert_true(is_there(dir, "upper/etc/machine-id"));
    assert_true(is_there(dir, "upper/opt/volume/data"));
    assert_true(is_there(dir, "upper/var/lib/app/data"));
    assert_false(is_there(dir, "upper/etc/passwd"));
    assert_false(is_there(dir, "upper/usr"));
    assert_false(is_there(dir, "upper.old"));
    assert_false(is_there(dir, "work"));
    assert_int_equal(kp_remove_tree(dir, NULL), 0);
}

static void version_1_hierarchies_win_over_an_empty_version_2(void **state)
{
    struct local_cgroups cgroups;
    local_cgroups_parse("cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n", &cgroups);
    assert_int_equal(cgroups.len, 1);
    assert_false(cgroups.v2);
    local_cgroups_parse("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n", &cgroups);
    assert_int_equal(cgroups.len, 1);
    assert_true(cgroups.v2);
    assert_string_equal(cgroups.paths[0], "/sys/fs/cgroup");
    local_cgroups_parse("", &cgroups);
    assert_int_equal(cgroups.len, 0);
}

static void an_unknown_driver_is_refused_with_the_known_ones(void **state)
{
    struct cloud *cloud = NULL;
    struct kp_error error = {0};
    assert_int_equal(cloud_open("mars", NULL, &cloud, &error), KP_EINVALID);
    assert_non_null(strstr(error.message, "\"local\""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_free_subnet_is_chosen),
        cmocka_unit_test(subnets_that_the_host_routes_are_left_alone),
        cmocka_unit_test(the_way_out_is_the_link_of_the_default_route),
        cmocka_unit_test(only_aligned_prefixes_are_networks),
        cmocka_unit_test(notes_are_read_back),
        cmocka_unit_test(a_new_image_gets_a_root_with_the_machines_own_data_alone),
        cmocka_unit_test(version_1_hierarchies_win_over_an_empty_version_2),
        cmocka_unit_test(an_unknown_driver_is_refused_with_the_known_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
