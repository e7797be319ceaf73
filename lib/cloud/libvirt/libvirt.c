/* The libvirt driver: virtual machines on this host or another one, through libvirt's C API. */
#include "cloud/libvirt/libvirt_internal.h"

#include <unistd.h>

#include "cloud/drivers.h"

#define IMAGE_DIR_DEFAULT "/var/lib/kprov/images"

/* LIBVIRT_DEFAULT_URI as libvirt's own tools read it. */
static int driver_open(const struct cloud_options *options, void **ret_state, struct kp_error *error)
{
    const char *uri = options->uri ? options->uri : getenv("LIBVIRT_DEFAULT_URI");
    const char *image_dir = options->image_dir ? options->image_dir : IMAGE_DIR_DEFAULT;
    struct lv *lv = kp_calloc(1, sizeof(*lv));
    uri = kp_empty(uri) ? LV_URI_DEFAULT : uri;
    lv->kvm = -1;
    lv->test = kp_starts_with(uri, "test:");
    lv->here = kp_starts_with(uri, "qemu:///") && geteuid() == 0;
    int r = strlen(image_dir) < sizeof(lv->image_dir) ? 0 : kp_fail(error, KP_EINVALID, "the path of the image folder is too long");
    if (r == 0) {
        memcpy(lv->image_dir, image_dir, strlen(image_dir));
        r = lv_connect(uri, &lv->conn, error);
    }
    if (r < 0) {
        free(lv);
        return r;
    }
    pthread_mutex_init(&lv->shared, NULL);
    lv->events = lv_events_new(lv->conn);
    *ret_state = lv;
    return 0;
}

static void driver_close(void *state)
{
    struct lv *lv = state;
    lv_events_free(lv->events, lv->conn);
    virConnectClose(lv->conn);
    kp_strings_done(&lv->whole);
    pthread_mutex_destroy(&lv->shared);
    free(lv);
}

static int network_delete(void *state, const char *uid, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct cloud_machine_list machines;
    int r = lv_machine_list(state, uid, arena, &machines, error);
    if (r == 0 && machines.len > 0)
        r = kp_fail(error, KP_ECONFLICT, "the network of cluster %s still has %zu machines", uid, machines.len);
    return r < 0 ? r : lv_network_delete(state, uid, error);
}

static int address_reserve(void *state, const char *uid, const char *name, struct kp_arena *arena, const char **ret_address,
                           struct kp_error *error)
{
    struct lv *lv = state;
    pthread_mutex_lock(&lv->shared);
    int r = lv_address_reserve(lv, uid, name, arena, ret_address, error);
    pthread_mutex_unlock(&lv->shared);
    return r;
}

static int address_release(void *state, const char *uid, const char *name, struct kp_error *error)
{
    struct lv *lv = state;
    pthread_mutex_lock(&lv->shared);
    int r = lv_address_release(lv, uid, name, error);
    pthread_mutex_unlock(&lv->shared);
    return r;
}

static int machine_console(void *state, const char *uid, const char *name, struct kp_buf *out, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct cloud_machine machine;
    int r = lv_machine_get(state, uid, name, arena, &machine, error);
    return r < 0 ? r : lv_console(state, uid, name, out, error);
}

static int machine_exec(void *state, const char *uid, const char *name, const struct cloud_exec *exec, int *ret_status,
                        struct kp_error *error)
{
    return kp_fail(error, KP_EINVALID, "a virtual machine runs no commands from outside: see its console with kprov logs");
}

static int owned(void *state, const char *uid, struct kp_arena *arena, struct kp_strings *ret, struct kp_error *error)
{
    struct cloud_machine_list machines;
    int r = lv_machine_list(state, uid, arena, &machines, error);
    if (r < 0)
        return r;
    for (size_t i = 0; i < machines.len; i++)
        kp_strings_add(ret, kp_arena_printf(arena, "machine %s", machines.items[i].name));
    if (lv_network_exists(state, uid)) /* whatever it looks like: one that was half made is seen as well */
        kp_strings_add(ret, kp_arena_printf(arena, "network %s", lv_network_name(uid, arena)));
    if (lv_pool_exists(state, uid))
        kp_strings_add(ret, kp_arena_printf(arena, "storage pool kprov-%s", uid));
    return 0;
}

static int purge(void *state, const char *uid, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct cloud_machine_list machines;
    int r = lv_machine_list(state, uid, arena, &machines, error);
    for (size_t i = 0; r == 0 && i < machines.len; i++)
        r = lv_machine_delete(state, uid, machines.items[i].name, error);
    if (r == 0)
        r = lv_pool_delete(state, uid, error);
    return r < 0 ? r : lv_network_delete(state, uid, error);
}

static int images_prune(void *state, const char *const *keep, struct kp_strings *ret_removed, struct kp_error *error)
{
    struct lv *lv = state;
    pthread_mutex_lock(&lv->shared);
    int r = lv_images_prune(lv, keep, ret_removed, error);
    pthread_mutex_unlock(&lv->shared);
    return r;
}

const struct cloud_driver cloud_driver_libvirt = {
    .name = "libvirt",
    .capabilities = CLOUD_CAN_CONSOLE | CLOUD_CAN_CHANGE_LATER,
    .open = driver_open,
    .close = driver_close,
    .check = lv_check,
    .network_ensure = lv_network_ensure,
    .network_get = lv_network_get,
    .network_delete = network_delete,
    .address_reserve = address_reserve,
    .address_release = address_release,
    .machine_create = lv_machine_create,
    .machine_reimage = lv_machine_reimage,
    .machine_get = lv_machine_get,
    .machine_list = lv_machine_list,
    .machine_power = lv_machine_power,
    .machine_delete = lv_machine_delete,
    .machine_console = machine_console,
    .machine_exec = machine_exec,
    .owned = owned,
    .clusters = lv_clusters,
    .purge = purge,
    .images_prune = images_prune,
};
