/* The life of a cluster against what a real OpenStack answered (tests/golden/openstack/life.http).
 *
 * `OPENSTACK_RECORD=<address of the test-bed's API>` with OS_* of its project makes the same calls against that and records them anew. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cloud/drivers.h"
#include "cloud/openstack/openstack_internal.h"
#include "tests/support/replay.h"

#define GOLDEN "tests/golden/openstack/life.http"
#define UID "0f0e0d0c-0b0a-4908-8706-050403020100"
#define KERNEL_BYTES 4096

static struct replay *replay;
static pid_t recorder;
static int recorder_in = -1;
static const struct cloud_driver *driver;
static void *os;
static struct kp_arena *arena;
static char image_dir[] = "/tmp/kprov-os-image-XXXXXX";

/* Between the test and a real cloud; gives its URL. */
static const char *start_recorder(const char *api)
{
    int in[2], out[2];
    char line[128] = "";
    assert_int_equal(pipe(in) | pipe(out), 0);
    recorder = fork();
    if (recorder == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        close(in[1]);
        execlp("python3", "python3", "tests/golden/openstack/record", GOLDEN, api, (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    recorder_in = in[1];
    FILE *lines = fdopen(out[0], "r");
    assert_non_null(fgets(line, sizeof(line), lines));
    fclose(lines);
    return kp_arena_strndup(arena, line, strcspn(line, "\n"));
}

/* Enough of a kernel for an emulator to start it: the header of its boot protocol. */
static void write_image(void)
{
    struct kp_error error = {0};
    static char kernel[KERNEL_BYTES], root[65536];
    assert_non_null(mkdtemp(image_dir));
    kernel[0x1f1] = 1;
    memcpy(kernel + 0x1fe, "\x55\xaa", 2);
    memcpy(kernel + 0x202, "HdrS\x0c\x02", 6);
    kernel[0x211] = 1;
    memcpy(kernel + 0x22c, "\xff\xff\xff\x37", 4);
    const char *vm = kp_arena_printf(arena, "%s/node-life/vm", image_dir), *of_kernel = kp_arena_printf(arena, "%s/kernel-life", image_dir);
    assert_int_equal(kp_mkdir_p(vm, 0755, &error), 0);
    assert_int_equal(kp_mkdir_p(of_kernel, 0755, &error), 0);
    assert_int_equal(kp_write_file(kp_arena_printf(arena, "%s/vmlinux", of_kernel), kernel, sizeof(kernel), 0644, &error), 0);
    assert_int_equal(kp_write_file(kp_arena_printf(arena, "%s/initrd", of_kernel), "initrd", 6, 0644, &error), 0);
    assert_int_equal(kp_write_file(kp_arena_printf(arena, "%s/root.erofs", vm), root, sizeof(root), 0644, &error), 0);
    assert_int_equal(symlink("../../kernel-life/vmlinux", kp_arena_printf(arena, "%s/vmlinux", vm)), 0);
    assert_int_equal(symlink("../../kernel-life/initrd", kp_arena_printf(arena, "%s/initrd", vm)), 0);
}

static int setup(void **state)
{
    const char *api = getenv("OPENSTACK_RECORD"), *url = NULL;
    struct kp_error error = {0};
    arena = kp_arena_new(0);
    write_image();
    if (kp_empty(api)) {
        replay = replay_start_file(GOLDEN);
        url = replay_url(replay);
        setenv("OS_AUTH_URL", url, 1);
        setenv("OS_USERNAME", "demo", 1);
        setenv("OS_PASSWORD", "testbed", 1);
        setenv("OS_USER_DOMAIN_NAME", "Default", 1);
        setenv("OS_PROJECT_NAME", "demo", 1);
        setenv("OS_PROJECT_DOMAIN_NAME", "Default", 1);
    } else {
        url = start_recorder(api);
    }
    driver = &cloud_driver_openstack;
    const struct cloud_options options = {.image_dir = image_dir, .account.endpoint = kp_arena_printf(arena, "%s/identity/v3", url)};
    if (driver->open(&options, &os, &error) < 0)
        fail_msg("%s", error.message);
    return 0;
}

static int teardown(void **state)
{
    struct kp_error error = {0};
    driver->close(os);
    if (recorder) {
        close(recorder_in);
        waitpid(recorder, NULL, 0);
    }
    char *problem = replay ? replay_end(replay) : NULL;
    if (problem)
        print_error("%s\n", problem);
    int r = problem ? -1 : 0;
    free(problem);
    kp_arena_free(arena);
    return kp_remove_tree(image_dir, &error) < 0 ? -1 : r;
}

static void fine(int r, const struct kp_error *error, const char *what)
{
    if (r < 0)
        fail_msg("%s: %s", what, error->message);
}
#define FINE(call) fine(call, &error, #call)

static void network_and_addresses(void)
{
    struct kp_error error = {0};
    struct cloud_network made = {0}, again = {0};
    struct cloud_machine_type_list types = {0};
    const char *address = NULL, *same = NULL, *public = NULL;
    const struct cloud_network_spec spec = {.cluster_uid = UID, .cidr = "10.91.7.0/24", .pod_cidr = "10.244.0.0/16"};
    static const char *const cidrs[] = {"10.244.0.0/16", "10.91.7.250/32", NULL};
    FINE(driver->network_ensure(os, &spec, arena, &made, &error));
    assert_string_equal(made.cidr, "10.91.7.0/24");
    assert_string_equal(made.gateway, "10.91.7.1");
    assert_int_equal(made.prefix_len, 24);
    FINE(driver->network_ensure(os, &spec, arena, &again, &error));
    assert_string_equal(made.id, again.id);
    FINE(driver->machine_types(os, arena, &types, &error));
    assert_true(types.len > 0);
    FINE(driver->address_reserve(os, UID, "w1", arena, &address, &error));
    FINE(driver->address_reserve(os, UID, "w1", arena, &same, &error));
    assert_string_equal(address, same);
    FINE(driver->address_publish(os, UID, "w1", arena, &public, &error));
    assert_string_not_equal(public, address);
    FINE(driver->machine_forward(os, UID, "w1", cidrs, &error));
    FINE(driver->machine_forward(os, UID, "w1", cidrs, &error));
}

static struct cloud_machine machine_and_routes(void)
{
    struct kp_error error = {0};
    struct cloud_machine made = {0}, again = {0};
    struct cloud_machine_list list = {0};
    struct cloud_route_list routes = {0};
    const char *address = NULL;
    KP_AUTO_BUF struct kp_buf console = {0};
    FINE(driver->address_reserve(os, UID, "w1", arena, &address, &error));
    const struct cloud_machine_spec spec = {.cluster_uid = UID, .name = "w1", .role = "worker", .pool = "p", .machine_type = "tiny", .image = "node-life", .address = address,
                                            .user_data = "{}", .user_data_len = 2};
    FINE(driver->machine_create(os, &spec, arena, &made, &error));
    assert_true(kp_starts_with(made.provider_id, "openstack:///"));
    assert_string_equal(made.machine_type, "tiny");
    assert_string_equal(made.zone, "nova");
    assert_string_equal(made.region, "RegionOne");
    assert_int_equal(made.power, CLOUD_POWER_ON);
    FINE(driver->machine_create(os, &spec, arena, &again, &error));
    assert_string_equal(made.id, again.id);
    FINE(driver->machine_list(os, UID, arena, &list, &error));
    assert_int_equal(list.len, 1);
    FINE(driver->machine_console(os, UID, "w1", &console, &error));
    const struct cloud_route route = {.destination = "10.244.3.0/24", .machine = "w1"};
    FINE(driver->route_ensure(os, UID, &route, &error));
    FINE(driver->route_ensure(os, UID, &route, &error));
    FINE(driver->route_list(os, UID, arena, &routes, &error));
    assert_int_equal(routes.len, 1);
    assert_string_equal(routes.items[0].machine, "w1");
    FINE(driver->route_delete(os, UID, &route, &error));
    assert_int_equal(driver->network_delete(os, UID, &error), KP_ECONFLICT);
    return made;
}

static void balance(const struct cloud_balancer_spec *spec, struct cloud_balancer *ret)
{
    struct kp_error error = {0};
    int r;
    while ((r = driver->balancer_ensure(os, spec, arena, ret, &error)) == KP_EAGAIN)
        ;
    fine(r, &error, "balancer_ensure");
    assert_int_equal(ret->state, CLOUD_BALANCER_ACTIVE);
}

static void balancers(const struct cloud_machine *machine)
{
    struct kp_error error = {0};
    struct cloud_balancer made = {0}, got = {0};
    struct cloud_target_health_list health = {0};
    static const struct cloud_listener listeners[] = {{CLOUD_TCP, 80, 30080}, {CLOUD_UDP, 53, 30053}};
    static const char *const ranges[] = {"192.0.2.0/24"};
    const struct cloud_target target = {"w1", machine->address};
    struct cloud_balancer_spec spec = {.cluster_uid = UID, .name = "svc-1", .description = "default/web", .listeners = listeners, .n_listeners = 2, .targets = &target,
                                       .n_targets = 1};
    balance(&spec, &made);
    assert_true(*made.address);
    balance(&spec, &got); /* nothing to do */
    assert_string_equal(made.id, got.id);
    FINE(driver->balancer_health(os, UID, "svc-1", arena, &health, &error));
    assert_int_equal(health.len, 2);
    spec.n_listeners = 1;
    spec.source_ranges = ranges;
    spec.n_source_ranges = 1;
    spec.sticky = true;
    spec.health = (struct cloud_health_check){.kind = CLOUD_HEALTH_HTTP, .port = 30100, .path = "/healthz"};
    balance(&spec, &got);
    FINE(driver->balancer_health(os, UID, "svc-1", arena, &health, &error));
    assert_int_equal(health.len, 1);
    FINE(driver->balancer_get(os, UID, "svc-1", arena, &got, &error));
    assert_string_equal(got.address, made.address);
}

static void the_life_of_a_cluster_is_as_recorded(void **state)
{
    struct kp_error error = {0};
    struct kp_strings owned = {0}, left = {0}, uids = {0};
    bool known = false;
    network_and_addresses();
    struct cloud_machine machine = machine_and_routes();
    balancers(&machine);
    FINE(driver->owned(os, UID, arena, &owned, &error));
    assert_true(owned.len >= 8);
    FINE(driver->clusters(os, &uids, &error));
    for (size_t i = 0; i < uids.len; i++)
        known |= kp_streq(uids.items[i], UID);
    assert_true(known);
    FINE(driver->purge(os, UID, &error));
    FINE(driver->owned(os, UID, arena, &left, &error));
    assert_int_equal(left.len, 0);
    kp_strings_done(&owned);
    kp_strings_done(&left);
    kp_strings_done(&uids);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_life_of_a_cluster_is_as_recorded)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
