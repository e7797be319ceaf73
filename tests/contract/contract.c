/* contract fake|local|libvirt [--uri URI] [--image ID [--other-image ID]] [--state DIR]: whether a driver keeps the promises of cloud.h. Without an image only what
 * needs no machine is checked (the fake cloud needs none). */
#include <unistd.h>

#include "tests/contract/contract.h"
#include "tests/support/fake_cloud/fake_cloud.h"

bool check(struct contract *c, bool holds, const struct kp_error *error, const char *what)
{
    if (holds) {
        printf("ok - %s: %s\n", c->driver, what);
        c->passed++;
    } else {
        printf("not ok - %s: %s%s%s\n", c->driver, what, error && error->code ? ": " : "", error && error->code ? error->message : "");
        c->failed++;
    }
    return holds;
}

bool check_code(struct contract *c, int got, int wanted, const struct kp_error *error, const char *what)
{
    if (got == wanted)
        return check(c, true, NULL, what);
    return check(c, false, got < 0 ? error : NULL, kp_arena_printf(c->arena, "%s (wanted %s, got %s)", what, kp_code_info(wanted)->name, kp_code_info(got)->name));
}

const char *make_user_data(struct contract *c, const char *name, const struct cloud_network *network, const char *address)
{
    return kp_arena_printf(c->arena,
        "{\"apiVersion\":\"kprov.dev/v1alpha1\",\"kind\":\"MachineConfig\",\"hostname\":\"%s\",\"network\":{\"interface\":\"eth0\",\"address\":\"%s/%d\","
        "\"gateway\":\"%s\"},\"sysctls\":{},\"files\":[],\"services\":[]}", name, address, network->prefix_len, network->gateway);
}

int make_machine(struct contract *c, const char *uid, const char *name, struct cloud_machine *ret, struct kp_error *error)
{
    struct cloud_network network;
    const char *address = NULL;
    int r = cloud_network_get(c->cloud, uid, c->arena, &network, error);
    if (r == 0)
        r = cloud_address_reserve(c->cloud, uid, name, c->arena, &address, error);
    if (r < 0)
        return r;
    const char *user_data = make_user_data(c, name, &network, address);
    const struct cloud_machine_spec spec = {.cluster_uid = uid, .name = name, .role = "worker", .pool = "pool-a", .machine_type = "", .image = c->image,
                                            .address = address, .user_data = user_data, .user_data_len = strlen(user_data)};
    return cloud_machine_create(c->cloud, &spec, c->arena, ret, error);
}

static void run(struct contract *c)
{
    contract_arguments(c);
    contract_unknown_cluster(c);
    contract_network(c);
    contract_addresses(c);
    if (c->machines) {
        contract_machines(c);
        contract_power(c);
        contract_reimage(c);
    }
    contract_threads(c);
    contract_two_clusters(c);
    contract_purge(c);
}

int main(int argc, char **argv)
{
    struct cloud_options options = {0};
    struct contract c = {.arena = kp_arena_new(0)};
    struct kp_error error = {0};
    struct kp_strings rest = {0};
    char uid[37], other_uid[37];
    const struct kp_flag flags[] = {
        {"uri", 0, KP_FLAG_STRING, &options.uri, "of libvirt", NULL},
        {"image", 0, KP_FLAG_STRING, &c.image, "node image of machines", NULL},
        {"other-image", 0, KP_FLAG_STRING, &c.other_image, "a second one", NULL},
        {"state", 0, KP_FLAG_STRING, &options.state_dir, "folder of drivers that keep one", NULL},
        {0},
    };
    if (kp_flags_parse(flags, argc, argv, &rest, NULL, &error) < 0 || rest.len != 1) {
        fprintf(stderr, "contract DRIVER [flags] %s\n", error.message);
        kp_flags_print(flags, stderr);
        return 2;
    }
    bool fake = kp_streq(rest.items[0], cloud_driver_fake.name);
    c.driver = rest.items[0];
    kp_uuid4(uid);
    kp_uuid4(other_uid);
    c.uid = uid;
    c.other_uid = other_uid;
    c.image = c.image || !fake ? c.image : "node-one";
    c.machines = c.image != NULL;
    c.other_image = c.other_image ? c.other_image : fake ? "node-two" : c.image;
    int r = fake ? cloud_open_driver(&cloud_driver_fake, &options, &c.cloud, &error) : cloud_open(c.driver, &options, &c.cloud, &error);
    if (r == 0)
        run(&c);
    else
        check(&c, false, &error, "it opens");
    if (c.cloud && c.failed) /* nothing of a test that failed may stay on the host */
        for (int i = 0; i < 2; i++)
            if (cloud_purge(c.cloud, i ? c.other_uid : c.uid, &error) < 0)
                fprintf(stderr, "contract: left behind: %s\n", error.message);
    cloud_close(c.cloud);
    printf("%d passed, %d failed\n", c.passed, c.failed);
    kp_strings_done(&rest);
    kp_arena_free(c.arena);
    return c.failed != 0;
}
