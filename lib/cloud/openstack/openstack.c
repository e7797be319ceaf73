/* The OpenStack driver: Nova's servers, Neutron's networks, Glance's images and Octavia's load balancers through their REST APIs. */
#include "cloud/openstack/openstack_internal.h"

#include "cloud/drivers.h"

#define IMAGE_DIR_DEFAULT "/var/lib/kprov/images"

static void driver_close(void *state)
{
    struct os *os = state;
    rest_free(os->rest);
    for (enum os_service s = 0; s < OS_SERVICES; s++)
        free(os->endpoints[s]);
    free(os->token);
    free(os->project_id);
    free(os->region);
    free(os->image_dir);
    kp_strings_done(&os->whole);
    pthread_mutex_destroy(&os->login);
    pthread_mutex_destroy(&os->shared);
    kp_arena_free(os->arena);
    free(os);
}

/* Credentials are read here and tried with the first call. */
static int driver_open(const struct cloud_options *options, void **ret_state, struct kp_error *error)
{
    struct os *os = kp_calloc(1, sizeof(*os));
    os->arena = kp_arena_new(0);
    os->image_dir = kp_strdup(options->image_dir ? options->image_dir : IMAGE_DIR_DEFAULT);
    pthread_mutex_init(&os->login, NULL);
    pthread_mutex_init(&os->shared, NULL);
    int r = os_account_read(&options->account, os->arena, &os->account, error);
    if (r == 0) {
        const struct rest_options rest = {.cloud = "openstack", .ca_file = os->account.cacert, .insecure = os->account.insecure, .attempt_timeout_ms = OS_ATTEMPT_MS};
        r = rest_new(&rest, &os->rest, error);
    }
    if (r < 0)
        driver_close(os);
    else
        *ret_state = os;
    return r;
}

static int check(void *state, const struct cloud_wish *wish, struct kp_error *error)
{
    return os_check(state, wish, error);
}

static int network_ensure(void *state, const struct cloud_network_spec *spec, struct kp_arena *arena, struct cloud_network *ret, struct kp_error *error)
{
    return os_network_ensure(state, spec, arena, ret, error);
}

static int network_get(void *state, const char *uid, struct kp_arena *arena, struct cloud_network *ret, struct kp_error *error)
{
    return os_network_get(state, uid, arena, ret, error);
}

static int network_delete(void *state, const char *uid, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(json_decref) json_t *balancers = NULL;
    struct cloud_machine_list machines;
    int r = os_machine_list(state, uid, arena, &machines, error);
    if (r == 0)
        r = os_balancers(state, uid, &balancers, error);
    if (r == 0 && (machines.len > 0 || json_array_size(balancers)))
        r = kp_fail(error, KP_ECONFLICT, "the network of cluster %s still has %zu machines and %zu load balancers", uid, machines.len, json_array_size(balancers));
    return r < 0 ? r : os_network_delete(state, uid, error);
}

static int address_reserve(void *state, const char *uid, const char *name, struct kp_arena *arena, const char **ret_address, struct kp_error *error)
{
    struct os *os = state;
    pthread_mutex_lock(&os->shared);
    int r = os_address_reserve(os, uid, name, arena, ret_address, error);
    pthread_mutex_unlock(&os->shared);
    return r;
}

static int address_release(void *state, const char *uid, const char *name, struct kp_error *error)
{
    return os_address_release(state, uid, name, error);
}

static int address_publish(void *state, const char *uid, const char *name, struct kp_arena *arena, const char **ret_address, struct kp_error *error)
{
    return os_address_publish(state, uid, name, arena, ret_address, error);
}

static int machine_create(void *state, const struct cloud_machine_spec *spec, struct kp_arena *arena, struct cloud_machine *ret, struct kp_error *error)
{
    return os_machine_create(state, spec, arena, ret, error);
}

static int machine_get(void *state, const char *uid, const char *name, struct kp_arena *arena, struct cloud_machine *ret, struct kp_error *error)
{
    return os_machine_get(state, uid, name, arena, ret, error);
}

static int machine_list(void *state, const char *uid, struct kp_arena *arena, struct cloud_machine_list *ret, struct kp_error *error)
{
    return os_machine_list(state, uid, arena, ret, error);
}

static int machine_power(void *state, const char *uid, const char *name, enum cloud_power_action action, struct kp_error *error)
{
    return os_machine_power(state, uid, name, action, error);
}

static int machine_delete(void *state, const char *uid, const char *name, struct kp_error *error)
{
    return os_machine_delete(state, uid, name, error);
}

static int machine_console(void *state, const char *uid, const char *name, struct kp_buf *out, struct kp_error *error)
{
    return os_machine_console(state, uid, name, out, error);
}

static int machine_exec(void *state, const char *uid, const char *name, const struct cloud_exec *exec, int *ret_status, struct kp_error *error)
{
    return kp_fail(error, KP_EINVALID, "a machine of OpenStack runs no commands from outside: see its console with kprov logs");
}

static int machine_forward(void *state, const char *uid, const char *name, const char *const *cidrs, struct kp_error *error)
{
    return os_machine_forward(state, uid, name, cidrs, error);
}

static int owned(void *state, const char *uid, struct kp_arena *arena, struct kp_strings *ret, struct kp_error *error)
{
    return os_owned(state, uid, arena, ret, error);
}

static int clusters(void *state, struct kp_strings *ret_uids, struct kp_error *error)
{
    return os_clusters(state, ret_uids, error);
}

static int purge(void *state, const char *uid, struct kp_error *error)
{
    return os_purge(state, uid, error);
}

static int machine_types(void *state, struct kp_arena *arena, struct cloud_machine_type_list *ret, struct kp_error *error)
{
    return os_machine_types(state, arena, ret, error);
}

static int image_ensure(void *state, const char *image, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *id = NULL;
    return os_image_ensure(state, image, arena, &id, error);
}

static int images_prune(void *state, const char *const *keep, struct kp_strings *ret_removed, struct kp_error *error)
{
    return os_images_prune(state, keep, ret_removed, error);
}

static int balancer_ensure(void *state, const struct cloud_balancer_spec *spec, struct kp_arena *arena, struct cloud_balancer *ret, struct kp_error *error)
{
    return os_balancer_ensure(state, spec, arena, ret, error);
}

static int balancer_get(void *state, const char *uid, const char *name, struct kp_arena *arena, struct cloud_balancer *ret, struct kp_error *error)
{
    return os_balancer_get(state, uid, name, arena, ret, error);
}

static int balancer_health(void *state, const char *uid, const char *name, struct kp_arena *arena, struct cloud_target_health_list *ret, struct kp_error *error)
{
    return os_balancer_health(state, uid, name, arena, ret, error);
}

static int balancer_list(void *state, const char *uid, struct kp_arena *arena, struct cloud_balancer_list *ret, struct kp_error *error)
{
    return os_balancer_list(state, uid, arena, ret, error);
}

static int balancer_delete(void *state, const char *uid, const char *name, struct kp_error *error)
{
    return os_balancer_delete(state, uid, name, error);
}

static int route_list(void *state, const char *uid, struct kp_arena *arena, struct cloud_route_list *ret, struct kp_error *error)
{
    return os_route_list(state, uid, arena, ret, error);
}

static int route_ensure(void *state, const char *uid, const struct cloud_route *route, struct kp_error *error)
{
    return os_route_ensure(state, uid, route, error);
}

static int route_delete(void *state, const char *uid, const struct cloud_route *route, struct kp_error *error)
{
    return os_route_delete(state, uid, route, error);
}

static int account_export(void *state, struct kp_arena *arena, struct cloud_export *ret, struct kp_error *error)
{
    return os_account_export(state, arena, ret, error);
}

/* No machine_reimage: rebuilding a server takes its data with it. */
const struct cloud_driver cloud_driver_openstack = {
    .name = "openstack",
    .capabilities = CLOUD_CAN_CONSOLE | CLOUD_CAN_LOAD_BALANCE | CLOUD_CAN_ROUTE | CLOUD_HAS_METADATA | CLOUD_HAS_PUBLIC_ADDRESSES | CLOUD_HAS_NODE_FACTS,
    .open = driver_open,
    .close = driver_close,
    .check = check,
    .network_ensure = network_ensure,
    .network_get = network_get,
    .network_delete = network_delete,
    .address_reserve = address_reserve,
    .address_release = address_release,
    .machine_create = machine_create,
    .machine_get = machine_get,
    .machine_list = machine_list,
    .machine_power = machine_power,
    .machine_delete = machine_delete,
    .machine_console = machine_console,
    .machine_exec = machine_exec,
    .owned = owned,
    .clusters = clusters,
    .purge = purge,
    .machine_types = machine_types,
    .image_ensure = image_ensure,
    .address_publish = address_publish,
    .machine_forward = machine_forward,
    .balancer_ensure = balancer_ensure,
    .balancer_get = balancer_get,
    .balancer_health = balancer_health,
    .balancer_list = balancer_list,
    .balancer_delete = balancer_delete,
    .route_list = route_list,
    .route_ensure = route_ensure,
    .route_delete = route_delete,
    .images_prune = images_prune,
    .account_export = account_export,
};
