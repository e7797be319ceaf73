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

static int machine_exec(void *state, const char *uid, const char *name, const struct cloud_exec *exec, int *ret_status, struct kp_error *error)
{
    return kp_fail(error, KP_EINVALID, "a machine of OpenStack runs no commands from outside: see its console with kprov logs");
}

static int image_ensure(void *state, const char *image, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *id = NULL;
    return os_image_ensure(state, image, arena, &id, error);
}

/* No machine_reimage: rebuilding a server takes its data with it. */
const struct cloud_driver cloud_driver_openstack = {
    .name = "openstack",
    .capabilities = CLOUD_CAN_CONSOLE | CLOUD_CAN_LOAD_BALANCE | CLOUD_CAN_ROUTE | CLOUD_HAS_METADATA | CLOUD_HAS_PUBLIC_ADDRESSES | CLOUD_HAS_NODE_FACTS,
    .open = driver_open,
    .close = driver_close,
    .check = os_check,
    .network_ensure = os_network_ensure,
    .network_get = os_network_get,
    .network_delete = network_delete,
    .address_reserve = address_reserve,
    .address_release = os_address_release,
    .machine_create = os_machine_create,
    .machine_get = os_machine_get,
    .machine_list = os_machine_list,
    .machine_power = os_machine_power,
    .machine_delete = os_machine_delete,
    .machine_console = os_machine_console,
    .machine_exec = machine_exec,
    .owned = os_owned,
    .clusters = os_clusters,
    .purge = os_purge,
    .machine_types = os_machine_types,
    .image_ensure = image_ensure,
    .address_publish = os_address_publish,
    .machine_forward = os_machine_forward,
    .balancer_ensure = os_balancer_ensure,
    .balancer_get = os_balancer_get,
    .balancer_health = os_balancer_health,
    .balancer_list = os_balancer_list,
    .balancer_delete = os_balancer_delete,
    .route_list = os_route_list,
    .route_ensure = os_route_ensure,
    .route_delete = os_route_delete,
    .images_prune = os_images_prune,
    .account_export = os_account_export,
};
