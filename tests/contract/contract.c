/* contract [flags] DRIVER: whether a driver keeps the promises of cloud.h. Prints a line a check, and at the end what is to be said of each
 * operation ("table LABEL OPERATION what"). Without an image only what needs no machine is checked (the fake cloud needs none).
 * Drivers: those of kprov; fake, the tests' own with everything that a cloud may have; fake-plain, with machines and networks alone. */
#include <unistd.h>

#include "tests/contract/contract.h"
#include "tests/support/fake_cloud/fake_cloud.h"

static const struct {
    const char *name;
    enum cloud_capability bit;
} capabilities[] = {
    {"exec", CLOUD_CAN_EXEC}, {"console", CLOUD_CAN_CONSOLE}, {"balancers", CLOUD_CAN_LOAD_BALANCE}, {"routes", CLOUD_CAN_ROUTE},
    {"local-images", CLOUD_CAN_LOCAL_IMAGES}, {"change-later", CLOUD_CAN_CHANGE_LATER}, {"metadata", CLOUD_HAS_METADATA},
    {"public", CLOUD_HAS_PUBLIC_ADDRESSES}, {"node-facts", CLOUD_HAS_NODE_FACTS}, {"disks", CLOUD_BOOTS_DISKS},
};

/* In the order of the table. */
static const char *const operations[] = {
    "open", "capabilities", "arguments", "check", "network_ensure", "network_get", "network_delete", "address_reserve", "address_release",
    "address_publish", "machine_types", "image_ensure", "images_prune", "machine_create", "machine_get", "machine_list", "machine_power",
    "machine_reimage", "machine_delete", "machine_console", "machine_exec", "machine_forward", "balancer_ensure", "balancer_get", "balancer_health",
    "balancer_list", "balancer_delete", "route_list", "route_ensure", "route_delete", "owned", "clusters", "purge", "ownership by tag", "several threads",
};
_Static_assert(KP_ARRAY_LEN(operations) <= CONTRACT_OPERATIONS_MAX, "room");

static struct contract_operation *find(struct contract *c, const char *operation)
{
    for (size_t i = 0; i < KP_ARRAY_LEN(operations); i++)
        if (kp_streq(operations[i], operation))
            return &c->operations[i];
    KP_ASSERT(!"an operation of the table");
    return NULL;
}

void under(struct contract *c, const char *operation)
{
    c->now = find(c, operation);
}

void unsupported(struct contract *c, const char *operation)
{
    find(c, operation)->unsupported = true;
}

void skipped(struct contract *c, const char *operation, const char *why)
{
    find(c, operation)->skipped = why;
}

bool check(struct contract *c, bool holds, const struct kp_error *error, const char *what)
{
    if (holds) {
        printf("ok - %s: %s: %s\n", c->label, c->now->name, what);
        c->passed++;
        c->now->passed++;
    } else {
        printf("not ok - %s: %s: %s%s%s\n", c->label, c->now->name, what, error && error->code ? ": " : "", error && error->code ? error->message : "");
        c->failed++;
        c->now->failed++;
    }
    return holds;
}

bool check_code(struct contract *c, int got, int wanted, const struct kp_error *error, const char *what)
{
    if (got == wanted)
        return check(c, true, NULL, what);
    return check(c, false, got < 0 ? error : NULL, kp_arena_printf(c->arena, "%s (wanted %s, got %s)", what, kp_code_info(wanted)->name, kp_code_info(got)->name));
}

int make_network(struct contract *c, const char *uid, struct cloud_network *ret, struct kp_error *error)
{
    struct cloud_network_spec spec = c->network;
    spec.cluster_uid = uid;
    return cloud_network_ensure(c->cloud, &spec, c->arena, ret, error);
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
    const struct cloud_machine_spec spec = {.cluster_uid = uid, .name = name, .role = "worker", .pool = "pool-a", .machine_type = c->machine_type,
                                            .image = c->image, .address = address, .user_data = user_data, .user_data_len = strlen(user_data)};
    return cloud_machine_create(c->cloud, &spec, c->arena, ret, error);
}

static void run(struct contract *c)
{
    contract_arguments(c);
    contract_unknown_cluster(c);
    contract_check(c);
    contract_types(c);
    contract_images(c);
    contract_network(c);
    contract_addresses(c);
    if (c->machines) {
        contract_machines(c);
        contract_power(c);
        contract_reimage(c);
        contract_commands(c);
    } else {
        static const char *const need[] = {"machine_create", "machine_get", "machine_list", "machine_power", "machine_reimage", "machine_delete",
                                           "machine_console", "machine_exec", "machine_forward"};
        for (size_t i = 0; i < KP_ARRAY_LEN(need); i++)
            skipped(c, need[i], "no image");
    }
    contract_publish(c);
    contract_forward(c);
    contract_routes(c);
    contract_balancers(c);
    contract_threads(c);
    contract_two_clusters(c);
    contract_purge(c);
}

/* "console,routes": all of these, and no others. */
static void check_capabilities(struct contract *c)
{
    KP_AUTO_BUF struct kp_buf got = {0};
    under(c, "capabilities");
    for (size_t i = 0; i < KP_ARRAY_LEN(capabilities); i++)
        if (cloud_can(c->cloud, capabilities[i].bit))
            kp_buf_printf(&got, "%s%s", got.len ? "," : "", capabilities[i].name);
    const char *have = got.data ? got.data : "";
    check(c, !c->expect || kp_streq(c->expect, have), NULL,
          kp_arena_printf(c->arena, "it can %s%s%s", *have ? have : "nothing special", c->expect ? ", wanted " : "", c->expect ? c->expect : ""));
}

static void print_table(const struct contract *c)
{
    for (size_t i = 0; i < KP_ARRAY_LEN(operations); i++) {
        const struct contract_operation *op = &c->operations[i];
        printf("table %s|%s|", c->label, operations[i]);
        if (op->failed)
            printf("FAILED (%d of %d)\n", op->failed, op->failed + op->passed);
        else if (op->unsupported)
            printf("not supported\n");
        else if (op->skipped && !op->passed)
            printf("skipped: %s\n", op->skipped);
        else if (op->skipped)
            printf("in part: %s\n", op->skipped);
        else if (op->passed)
            printf("OK\n");
        else
            printf("-\n");
    }
}

static void open_driver(struct contract *c, const char *name, const struct cloud_options *options)
{
    struct kp_error error = {0};
    bool plain = kp_streq(name, "fake-plain"), fake = plain || kp_streq(name, "fake");
    c->label = c->label ? c->label : name;
    c->image = c->image || !fake ? c->image : "node-one";
    c->machines = c->image != NULL;
    c->other_image = c->other_image ? c->other_image : fake ? "node-two" : c->image;
    c->world = fake ? options->state_dir : NULL;
    c->prune |= fake;
    under(c, "open");
    int r = fake ? cloud_open_driver(plain ? &cloud_driver_fake : &cloud_driver_fake_api, options, &c->cloud, &error) : cloud_open(name, options, &c->cloud, &error);
    check(c, r == 0, &error, "it opens");
}

/* Nothing of a test that failed may stay. */
static void clean(struct contract *c)
{
    struct kp_error error = {0};
    for (int i = 0; c->cloud && c->failed && i < 2; i++)
        if (cloud_purge(c->cloud, i ? c->other_uid : c->uid, &error) < 0)
            fprintf(stderr, "contract: left behind: %s\n", error.message);
    cloud_close(c->cloud);
}

int main(int argc, char **argv)
{
    struct cloud_options options = {0};
    struct contract c = {.arena = kp_arena_new(0), .machine_type = ""};
    struct kp_error error = {0};
    struct kp_strings rest = {0};
    char uid[37], other_uid[37];
    int64_t wait_ns = 10000000000;
    const struct kp_flag flags[] = {
        {"label", 0, KP_FLAG_STRING, &c.label, "name of this run in the lines and the table; the driver's", NULL},
        {"uri", 0, KP_FLAG_STRING, &options.uri, "of libvirt", NULL},
        {"state", 0, KP_FLAG_STRING, &options.state_dir, "folder of drivers that keep one", NULL},
        {"images", 0, KP_FLAG_STRING, &options.image_dir, "folder of the node images", NULL},
        {"endpoint", 0, KP_FLAG_STRING, &options.account.endpoint, "of the cloud's API", NULL},
        {"profile", 0, KP_FLAG_STRING, &options.account.profile, "of the account", NULL},
        {"region", 0, KP_FLAG_STRING, &options.account.region, "of the account", NULL},
        {"credentials", 0, KP_FLAG_STRING, &options.account.credentials, "file of the account", NULL},
        {"image", 0, KP_FLAG_STRING, &c.image, "node image of machines", NULL},
        {"other-image", 0, KP_FLAG_STRING, &c.other_image, "a second one", NULL},
        {"machine-type", 0, KP_FLAG_STRING, &c.machine_type, "of machines; the driver's default", NULL},
        {"network", 0, KP_FLAG_STRING, &c.network.existing, "an existing network for machines", NULL},
        {"external", 0, KP_FLAG_STRING, &c.network.external, "network of public addresses", NULL},
        {"zones", 0, KP_FLAG_STRING, &c.network.zones, "that machines are spread over, separated by spaces", NULL},
        {"expect", 0, KP_FLAG_STRING, &c.expect, "capabilities that the driver must have, and no others: \"console,balancers\"", NULL},
        {"damage", 0, KP_FLAG_STRING, &c.damage, "command that takes a target or listener from the balancer $CONTRACT_BALANCER of $CONTRACT_CLUSTER", NULL},
        {"prune", 0, KP_FLAG_BOOL, &c.prune, "images that nobody uses may be removed from this cloud", NULL},
        {"wait", 0, KP_FLAG_DURATION, &wait_ns, "for a cloud that is at work (10s)", NULL},
        {0},
    };
    if (kp_flags_parse(flags, argc, argv, &rest, NULL, &error) < 0 || rest.len != 1) {
        fprintf(stderr, "contract [flags] DRIVER: %s\n", error.message);
        kp_flags_print(flags, stderr);
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (size_t i = 0; i < KP_ARRAY_LEN(operations); i++)
        c.operations[i].name = operations[i];
    kp_uuid4(uid);
    kp_uuid4(other_uid);
    c.uid = uid;
    c.other_uid = other_uid;
    c.wait_ms = wait_ns / 1000000;
    open_driver(&c, rest.items[0], &options);
    if (c.cloud) {
        check_capabilities(&c);
        run(&c);
    }
    clean(&c);
    print_table(&c);
    printf("%d passed, %d failed\n", c.passed, c.failed);
    kp_strings_done(&rest);
    kp_arena_free(c.arena);
    return c.failed != 0;
}
