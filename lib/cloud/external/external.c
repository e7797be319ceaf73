/* The driver "external": the calls of lib/cloud on machines that exist already. */
#include "cloud/external/external.h"

#include "cloud/drivers.h"
#include "cloud/external/external_internal.h"

#define ROUTE_PROTOCOL "97" /* of the routes that nodes make: NETLINK_PROTOCOL of lib/netlink */
#define PROBLEMS_MAX 1024

static void driver_close(void *state)
{
    struct external *external = state;
    external_close_idle(external);
    pthread_mutex_destroy(&external->lock);
    pthread_mutex_destroy(&external->bundle_lock);
    kp_arena_free(external->arena);
    free(external);
}

static int open_config(const struct cloud_external *config, const char *image_dir, struct external **ret, struct kp_error *error)
{
    struct external *external = kp_calloc(1, sizeof(*external));
    pthread_mutex_init(&external->lock, NULL);
    pthread_mutex_init(&external->bundle_lock, NULL);
    external->arena = kp_arena_new(0);
    external->image_dir = kp_arena_strdup(external->arena, image_dir ? image_dir : "/var/lib/kprov/images");
    external->cluster = kp_arena_strdup(external->arena, config->cluster);
    external->api_address = kp_arena_strdup(external->arena, config->api_address);
    external->machines = KP_NEW_ARRAY(external->arena, struct external_machine, config->n_machines + 1);
    external->n_machines = config->n_machines;
    int r = 0;
    for (size_t i = 0; r == 0 && i < config->n_machines; i++)
        r = external_machine_prepare(external, &config->machines[i], &external->machines[i], error);
    if (r < 0)
        driver_close(external);
    else
        *ret = external;
    return r;
}

static int driver_open(const struct cloud_options *options, void **ret_state, struct kp_error *error)
{
    struct external *external = NULL;
    if (!options->external || options->external->n_machines == 0)
        return kp_fail(error, KP_EINVALID, "no machines are given: list them in a cluster file under spec.external.machines");
    int r = open_config(options->external, options->image_dir, &external, error);
    if (r == 0)
        *ret_state = external;
    return r;
}

/* The machine that a node of the cluster is on; KP_ENOTFOUND only when every machine has been asked. */
static int find(struct external *external, const char *uid, const char *name, struct kp_arena *arena, struct external_machine **ret,
                struct external_status *ret_status, struct kp_error *error)
{
    for (size_t i = 0; i < external->n_machines; i++) {
        int r = external_status(external, &external->machines[i], arena, ret_status, error);
        if (r < 0)
            return r;
        if (ret_status->taken && kp_streq(ret_status->uid, uid) && kp_streq(ret_status->name, name)) {
            *ret = &external->machines[i];
            return 0;
        }
    }
    return kp_fail(error, KP_ENOTFOUND, "no machine has the node %s", name);
}

static void describe(const struct external_machine *machine, const struct external_status *status, struct kp_arena *arena,
                     struct cloud_machine *ret)
{
    *ret = (struct cloud_machine){
        .id = status->name, .provider_id = kp_arena_printf(arena, "external://%s/%s", status->uid, status->name),
        .name = status->name, .cluster_uid = status->uid, .role = status->role, .pool = status->pool, .machine_type = "",
        .image = status->image, .address = kp_arena_strdup(arena, machine->config.address), .region = "", .zone = "",
        .power = status->pid ? CLOUD_POWER_ON : CLOUD_POWER_OFF, .created_s = status->created_s,
    };
}

/* ---- the network is the machines' own */
static int network_get(void *state, const char *uid, struct kp_arena *arena, struct cloud_network *ret, struct kp_error *error)
{
    struct external *external = state;
    for (size_t i = 0; i < external->n_machines; i++) {
        struct external_status status;
        int r = external_status(external, &external->machines[i], arena, &status, error);
        if (r < 0)
            return r;
        if (status.taken && kp_streq(status.uid, uid)) {
            *ret = (struct cloud_network){.id = kp_arena_strdup(arena, uid), .cluster_uid = kp_arena_strdup(arena, uid), .cidr = "",
                                          .gateway = "", .prefix_len = 32, .nameservers = ""};
            return 0;
        }
    }
    return kp_fail(error, KP_ENOTFOUND, "no machine belongs to the cluster");
}

static int network_ensure(void *state, const struct cloud_network_spec *spec, struct kp_arena *arena, struct cloud_network *ret,
                          struct kp_error *error)
{
    struct external *external = state;
    KP_AUTO_BUF struct kp_buf facts = {0};
    const char *const words[] = {"facts", NULL};
    int r = external_run(external, &external->machines[0], words, &facts, NULL, error);
    if (r < 0)
        return r;
    *ret = (struct cloud_network){
        .id = kp_arena_strdup(arena, spec->cluster_uid), .cluster_uid = kp_arena_strdup(arena, spec->cluster_uid), .cidr = "",
        .gateway = "", .prefix_len = 32, .nameservers = external_value(facts.data, "nameservers", arena),
    };
    return 0;
}

static int network_delete(void *state, const char *uid, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct cloud_network network;
    struct kp_error found = {0};
    int r = network_get(state, uid, arena, &network, &found);
    if (r == KP_ENOTFOUND)
        return 0;
    return r < 0 ? kp_fail(error, r, "%s", found.message) : kp_fail(error, KP_ECONFLICT, "machines still belong to the cluster");
}

/* ---- addresses are the machines themselves: one is taken for a name */
struct place {
    bool api, control_plane;
    char pool[CLOUD_NAME_MAX]; /* of a worker */
};

/* Names are "<cluster>-cp-<n>", "<cluster>-<pool>-<n>" and "<cluster>-api" (provisioner/plan). */
static int read_name(const struct external *external, const char *name, struct place *ret, struct kp_error *error)
{
    size_t len = strlen(external->cluster);
    memset(ret, 0, sizeof(*ret));
    if (strncmp(name, external->cluster, len) != 0 || name[len] != '-')
        return kp_fail(error, KP_EINVALID, "\"%s\" is no node of cluster %s", name, external->cluster);
    const char *rest = name + len + 1, *dash = strrchr(rest, '-');
    ret->api = kp_streq(rest, "api");
    if (ret->api)
        return 0;
    if (!dash || dash == rest)
        return kp_fail(error, KP_EINVALID, "\"%s\" has no pool and number", name);
    snprintf(ret->pool, sizeof(ret->pool), "%.*s", (int)(dash - rest), rest);
    ret->control_plane = kp_streq(ret->pool, "cp");
    return 0;
}

static bool fits(const struct external_machine *machine, const struct place *place)
{
    if (!kp_streq(machine->config.role, place->control_plane ? "control-plane" : "worker"))
        return false;
    return place->control_plane || kp_empty(machine->config.pool) || kp_streq(machine->config.pool, place->pool);
}

static int take(struct external *external, struct external_machine *machine, const char *uid, const char *name,
                const struct place *place, struct kp_arena *arena, struct kp_error *error)
{
    struct kp_strings problems = {0};
    KP_AUTO_BUF struct kp_buf text = {0};
    int r = external_check(external, machine, place->control_plane, arena, &problems, error);
    for (size_t i = 0; i < problems.len; i++)
        kp_buf_printf(&text, "%s%s", i ? "; " : "", problems.items[i]);
    if (r == 0 && problems.len)
        r = kp_fail(error, KP_EINVALID, "machine %s cannot be a node: %s", machine->config.address, text.data);
    kp_strings_done(&problems);
    if (r < 0)
        return r;
    return external_claim(external, machine, uid, name, place->control_plane ? "control-plane" : "worker",
                          place->control_plane ? "" : place->pool, error);
}

static int address_reserve(void *state, const char *uid, const char *name, struct kp_arena *arena, const char **ret_address,
                           struct kp_error *error)
{
    struct external *external = state;
    struct external_machine *free_machine = NULL;
    struct place place;
    int r = read_name(external, name, &place, error);
    if (r == 0 && place.api) {
        *ret_address = kp_arena_strdup(arena, external->api_address);
        return 0;
    }
    for (size_t i = 0; r == 0 && i < external->n_machines; i++) {
        struct external_machine *machine = &external->machines[i];
        struct external_status status;
        r = external_status(external, machine, arena, &status, error);
        if (r == 0 && status.taken && kp_streq(status.uid, uid) && kp_streq(status.name, name)) {
            *ret_address = kp_arena_strdup(arena, machine->config.address);
            return 0;
        }
        /* One of the pool's own before one that serves any. */
        if (r == 0 && !status.taken && fits(machine, &place) && (!free_machine || (kp_empty(free_machine->config.pool) && *machine->config.pool)))
            free_machine = machine;
    }
    if (r == 0 && !free_machine)
        r = kp_fail(error, KP_EQUOTA, "no machine is free for %s: list another one with role %s%s%s under spec.external.machines", name,
                    place.control_plane ? "control-plane" : "worker", place.control_plane ? "" : " and pool ",
                    place.control_plane ? "" : place.pool);
    if (r == 0)
        r = take(external, free_machine, uid, name, &place, arena, error);
    if (r == 0)
        *ret_address = kp_arena_strdup(arena, free_machine->config.address);
    return r;
}

static int run_remove(struct external *external, struct external_machine *machine, const char *uid, struct kp_error *error)
{
    const char *const words[] = {"remove", uid, ROUTE_PROTOCOL, external->api_address, NULL};
    return external_run(external, machine, words, NULL, NULL, error);
}

static int address_release(void *state, const char *uid, const char *name, struct kp_error *error)
{
    struct external *external = state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct external_machine *machine = NULL;
    struct external_status status;
    struct kp_error failure = {0};
    struct place place;
    int r = read_name(external, name, &place, error);
    if (r < 0 || place.api)
        return r;
    r = find(external, uid, name, arena, &machine, &status, &failure);
    if (r == KP_ENOTFOUND)
        return 0;
    if (r < 0)
        return kp_fail(error, r, "%s", failure.message);
    if (*status.image)
        return kp_fail(error, KP_ECONFLICT, "node %s is installed on %s: delete the machine first", name, machine->config.address);
    return run_remove(external, machine, uid, error);
}

/* ---- machines */
static int machine_create(void *state, const struct cloud_machine_spec *spec, struct kp_arena *arena, struct cloud_machine *ret,
                          struct kp_error *error)
{
    struct external *external = state;
    struct external_machine *machine = NULL;
    struct external_status status;
    int r = find(external, spec->cluster_uid, spec->name, arena, &machine, &status, error);
    if (r == 0 && kp_empty(status.image)) {
        r = external_install(external, machine, spec, arena, error);
        if (r == 0)
            r = external_status(external, machine, arena, &status, error);
    }
    if (r == 0)
        describe(machine, &status, arena, ret);
    return r;
}

static int machine_list(void *state, const char *uid, struct kp_arena *arena, struct cloud_machine_list *ret, struct kp_error *error)
{
    struct external *external = state;
    ret->items = KP_NEW_ARRAY(arena, struct cloud_machine, external->n_machines + 1);
    ret->len = 0;
    for (size_t i = 0; i < external->n_machines; i++) {
        struct external_status status;
        int r = external_status(external, &external->machines[i], arena, &status, error);
        if (r < 0)
            return r;
        if (!status.taken || !kp_streq(status.uid, uid) || kp_empty(status.image))
            continue;
        size_t at = ret->len++;
        for (; at > 0 && strcmp(ret->items[at - 1].name, status.name) > 0; at--)
            ret->items[at] = ret->items[at - 1];
        describe(&external->machines[i], &status, arena, &ret->items[at]);
    }
    return 0;
}

/* A node that is installed. */
static int find_node(struct external *external, const char *uid, const char *name, struct kp_arena *arena,
                     struct external_machine **ret, struct external_status *ret_status, struct kp_error *error)
{
    int r = find(external, uid, name, arena, ret, ret_status, error);
    if (r == 0 && kp_empty(ret_status->image))
        r = kp_fail(error, KP_ENOTFOUND, "no node %s is installed", name);
    return r;
}

static int machine_get(void *state, const char *uid, const char *name, struct kp_arena *arena, struct cloud_machine *ret,
                       struct kp_error *error)
{
    struct external_machine *machine = NULL;
    struct external_status status;
    int r = find_node(state, uid, name, arena, &machine, &status, error);
    if (r == 0)
        describe(machine, &status, arena, ret);
    return r;
}

static int machine_reimage(void *state, const struct cloud_machine_spec *spec, struct kp_arena *arena, struct cloud_machine *ret,
                           struct kp_error *error)
{
    struct external *external = state;
    struct external_machine *machine = NULL;
    struct external_status status;
    int r = find_node(external, spec->cluster_uid, spec->name, arena, &machine, &status, error);
    if (r == 0 && spec->at_next_boot && !kp_streq(status.image, spec->image))
        r = kp_fail(error, KP_EINVALID, "node %s runs: it gets another image only when it is turned off", spec->name);
    if (r == 0)
        r = external_reimage(external, machine, spec, arena, error);
    if (r == 0)
        r = external_status(external, machine, arena, &status, error);
    if (r == 0)
        describe(machine, &status, arena, ret);
    return r;
}

/* To every machine that is a node of the cluster, or will be: none waits for it while it is off. */
static int image_ensure(void *state, const char *image, struct kp_error *error)
{
    struct external *external = state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    int r = 0;
    for (size_t i = 0; r == 0 && i < external->n_machines; i++) {
        struct external_status status;
        const char *base = NULL;
        r = external_status(external, &external->machines[i], arena, &status, error);
        if (r == 0 && status.taken && *status.image && !kp_streq(status.image, image))
            r = external_put_image(external, &external->machines[i], image, arena, &base, error);
    }
    return r;
}

static int machine_power(void *state, const char *uid, const char *name, enum cloud_power_action action, struct kp_error *error)
{
    static const char *const verbs[] = {"start", "stop", "kill"};
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *const words[] = {verbs[action], NULL};
    struct external_machine *machine = NULL;
    struct external_status status;
    int r = find_node(state, uid, name, arena, &machine, &status, error);
    return r < 0 ? r : external_run(state, machine, words, NULL, NULL, error);
}

static int machine_delete(void *state, const char *uid, const char *name, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct external_machine *machine = NULL;
    struct external_status status;
    struct kp_error failure = {0};
    int r = find(state, uid, name, arena, &machine, &status, &failure);
    if (r == KP_ENOTFOUND)
        return 0;
    return r < 0 ? kp_fail(error, r, "%s", failure.message) : run_remove(state, machine, uid, error);
}

static int machine_console(void *state, const char *uid, const char *name, struct kp_buf *out, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct external_machine *machine = NULL;
    struct external_status status;
    struct sshc *ssh = NULL;
    int r = find_node(state, uid, name, arena, &machine, &status, error);
    if (r == 0)
        r = external_connect(state, machine, &ssh, error);
    if (r < 0)
        return r;
    const char *line = kp_arena_printf(arena, "%stail -c %zu " EXTERNAL_HOME "/node/console.log", external_prefix(machine), CLOUD_CONSOLE_MAX);
    r = sshc_shell(ssh, line, EXTERNAL_CALL_MS, out, error);
    sshc_close(ssh);
    return r;
}

static int machine_exec(void *state, const char *uid, const char *name, const struct cloud_exec *exec, int *ret_status,
                        struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct external_machine *machine = NULL;
    struct external_status status;
    int r = find_node(state, uid, name, arena, &machine, &status, error);
    if (r == 0 && !status.pid)
        r = kp_fail(error, KP_EUNAVAILABLE, "node %s is off", name);
    return r < 0 ? r : external_exec(state, machine, status.pid, exec, ret_status, error);
}

/* ---- all that carries the tag */
static int owned(void *state, const char *uid, struct kp_arena *arena, struct kp_strings *ret, struct kp_error *error)
{
    struct external *external = state;
    const char *const words[] = {"owned", uid, NULL};
    for (size_t i = 0; i < external->n_machines; i++) {
        KP_AUTO_BUF struct kp_buf text = {0};
        int r = external_run(external, &external->machines[i], words, &text, NULL, error);
        if (r < 0)
            return r;
        char *save = NULL;
        for (char *line = text.data ? text.data : (char[]){""}; (line = strtok_r(line, "\n", &save)); line = NULL)
            kp_strings_add(ret, kp_arena_printf(arena, "%s on %s", line, external->machines[i].config.address));
    }
    return 0;
}

static int clusters(void *state, struct kp_strings *ret_uids, struct kp_error *error)
{
    struct external *external = state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    for (size_t i = 0; i < external->n_machines; i++) {
        struct external_status status;
        bool there = false;
        int r = external_status(external, &external->machines[i], arena, &status, error);
        if (r < 0)
            return r;
        for (size_t j = 0; j < ret_uids->len; j++)
            there |= kp_streq(ret_uids->items[j], status.uid);
        if (status.taken && !there)
            kp_strings_add(ret_uids, status.uid);
    }
    return 0;
}

static int purge(void *state, const char *uid, struct kp_error *error)
{
    struct external *external = state;
    int r = 0;
    for (size_t i = 0; r == 0 && i < external->n_machines; i++)
        r = run_remove(external, &external->machines[i], uid, error);
    return r;
}

const struct cloud_driver cloud_driver_external = {
    .name = "external",
    .capabilities = CLOUD_CAN_EXEC | CLOUD_CAN_CONSOLE | CLOUD_CAN_LOCAL_IMAGES | CLOUD_CAN_CHANGE_LATER,
    .open = driver_open, .close = driver_close,
    .network_ensure = network_ensure, .network_get = network_get, .network_delete = network_delete,
    .address_reserve = address_reserve, .address_release = address_release,
    .machine_create = machine_create, .machine_get = machine_get, .machine_list = machine_list,
    .machine_reimage = machine_reimage, .image_ensure = image_ensure,
    .machine_power = machine_power, .machine_delete = machine_delete, .machine_console = machine_console,
    .machine_exec = machine_exec, .owned = owned, .clusters = clusters, .purge = purge,
};

/* ---- before anything is made */
static void add_problem(struct external_problem *list, size_t *len, const char *address, const char *problem, struct kp_arena *arena)
{
    if (*len < PROBLEMS_MAX)
        list[(*len)++] = (struct external_problem){kp_arena_strdup(arena, address), kp_arena_strdup(arena, problem)};
}

static void check_one(struct external *external, struct external_machine *machine, struct kp_arena *arena,
                      struct external_problem *list, size_t *len)
{
    const char *address = machine->config.address;
    struct kp_strings problems = {0};
    struct external_status status = {0};
    struct kp_error error = {0};
    int r = external_check(external, machine, kp_streq(machine->config.role, "control-plane"), arena, &problems, &error);
    if (r == 0 && problems.len == 0)
        r = external_status(external, machine, arena, &status, &error);
    if (r < 0)
        add_problem(list, len, address, error.message, arena);
    for (size_t i = 0; i < problems.len; i++)
        add_problem(list, len, address, problems.items[i], arena);
    kp_strings_done(&problems);
    if (r == 0 && status.taken)
        add_problem(list, len, address,
                    kp_arena_printf(arena, "it is node %s of another cluster: delete that cluster, or run there: sh " EXTERNAL_SCRIPT " remove %s " ROUTE_PROTOCOL,
                                    status.name, status.uid), arena);
}

int external_check_all(const struct cloud_external *config, struct kp_arena *arena, struct external_problem **ret, size_t *ret_len,
                       struct kp_error *error)
{
    struct external *external = NULL;
    int r = open_config(config, NULL, &external, error);
    if (r < 0)
        return r;
    *ret = KP_NEW_ARRAY(arena, struct external_problem, PROBLEMS_MAX);
    *ret_len = 0;
    for (size_t i = 0; i < external->n_machines; i++)
        check_one(external, &external->machines[i], arena, *ret, ret_len);
    driver_close(external);
    return 0;
}
