/* call VERB [IMAGE]: one call of the driver "external" on the machine that the environment names, for tests/faults-external/run. */
#include <unistd.h>

#include "cloud/cloud.h"

#define CLUSTER "f"
#define NODE "f-worker-1"

static const char *env(const char *name)
{
    const char *value = getenv(name);
    if (kp_empty(value)) {
        fprintf(stderr, "call: $%s is not set\n", name);
        exit(2);
    }
    return value;
}

static int open_machine(struct cloud **ret, struct kp_error *error)
{
    const struct cloud_external_machine machine = {.address = "127.0.0.1", .key_file = env("CALL_KEY"), .port = atoi(env("CALL_PORT")),
                                                   .host_key = env("CALL_HOST_KEY"), .role = "worker", .pool = "worker", .user = "", .known_hosts = ""};
    const struct cloud_external external = {.cluster = CLUSTER, .api_address = "127.0.0.100", .machines = &machine, .n_machines = 1};
    const struct cloud_options options = {.external = &external, .image_dir = env("CALL_IMAGES")};
    return cloud_open("external", &options, ret, error);
}

static int make(struct cloud *cloud, const char *verb, const char *image, struct kp_arena *arena, struct kp_error *error)
{
    struct cloud_machine machine;
    const char *data = kp_arena_printf(arena, "{\"image\":\"%s\",\"by\":\"%s\"}", image, verb);
    const struct cloud_machine_spec spec = {.cluster_uid = env("CALL_UID"), .name = NODE, .role = "worker", .pool = "worker", .machine_type = "", .image = image,
                                            .address = "127.0.0.1", .user_data = data, .user_data_len = strlen(data), .at_next_boot = kp_streq(verb, "change")};
    return kp_streq(verb, "create") ? cloud_machine_create(cloud, &spec, arena, &machine, error) : cloud_machine_reimage(cloud, &spec, arena, &machine, error);
}

static int print_owned(struct cloud *cloud, struct kp_arena *arena, struct kp_error *error)
{
    struct kp_strings owned = {0};
    int r = cloud_owned(cloud, env("CALL_UID"), arena, &owned, error);
    for (size_t i = 0; r == 0 && i < owned.len; i++)
        puts(owned.items[i]);
    kp_strings_done(&owned);
    return r;
}

static int print_machines(struct cloud *cloud, struct kp_arena *arena, struct kp_error *error)
{
    struct cloud_machine_list list;
    int r = cloud_machine_list(cloud, env("CALL_UID"), arena, &list, error);
    for (size_t i = 0; r == 0 && i < list.len; i++)
        printf("%s %s %s\n", list.items[i].name, list.items[i].image, list.items[i].power == CLOUD_POWER_ON ? "on" : "off");
    return r;
}

static int call(struct cloud *cloud, const char *verb, const char *image, struct kp_arena *arena, struct kp_error *error)
{
    const char *uid = env("CALL_UID"), *address = NULL;
    if (kp_streq(verb, "reserve"))
        return cloud_address_reserve(cloud, uid, NODE, arena, &address, error);
    if (kp_streq(verb, "release"))
        return cloud_address_release(cloud, uid, NODE, error);
    if (kp_streq(verb, "create") || kp_streq(verb, "reimage") || kp_streq(verb, "change"))
        return make(cloud, verb, image, arena, error);
    if (kp_streq(verb, "image"))
        return cloud_image_ensure(cloud, image, error);
    if (kp_streq(verb, "start") || kp_streq(verb, "stop") || kp_streq(verb, "kill"))
        return cloud_machine_power(cloud, uid, NODE, kp_streq(verb, "start") ? CLOUD_POWER_START : kp_streq(verb, "stop") ? CLOUD_POWER_STOP : CLOUD_POWER_KILL, error);
    if (kp_streq(verb, "delete"))
        return cloud_machine_delete(cloud, uid, NODE, error);
    if (kp_streq(verb, "purge"))
        return cloud_purge(cloud, uid, error);
    if (kp_streq(verb, "owned"))
        return print_owned(cloud, arena, error);
    return kp_streq(verb, "list") ? print_machines(cloud, arena, error) : kp_fail(error, KP_EUSAGE, "no verb %s", verb);
}

int main(int argc, char **argv)
{
    struct kp_arena *arena = kp_arena_new(0);
    struct kp_error error = {0};
    struct cloud *cloud = NULL;
    if (argc < 2)
        return 2;
    int r = open_machine(&cloud, &error);
    if (r == 0)
        r = call(cloud, argv[1], argc > 2 ? argv[2] : "", arena, &error);
    if (r < 0)
        fprintf(stderr, "call: %s\n", error.message);
    fflush(stdout);
    _exit(r < 0); /* a call that was given up is on its thread still */
}
