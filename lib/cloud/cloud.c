/* Opens cloud drivers by name and checks arguments before they reach one. */
#include "cloud/cloud.h"

#include "cloud/drivers_internal.h"

static const struct cloud_driver *const drivers[] = {&cloud_driver_local, &cloud_driver_libvirt};
static const char *const driver_names[] = {"local", "libvirt", NULL};
_Static_assert(KP_ARRAY_LEN(drivers) + 1 == KP_ARRAY_LEN(driver_names), "every driver has a name");

struct cloud {
    const struct cloud_driver *driver;
    void *state;
};

const char *const *cloud_driver_names(void)
{
    return driver_names;
}

int cloud_open(const char *name, const struct cloud_options *options, struct cloud **ret_cloud, struct kp_error *error)
{
    static const struct cloud_options defaults;
    for (size_t i = 0; i < KP_ARRAY_LEN(drivers); i++) {
        if (!kp_streq(drivers[i]->name, name))
            continue;
        void *state = NULL;
        if (drivers[i]->open(options ? options : &defaults, &state, error) < 0)
            return kp_wrap(error, "cloud %s", name);
        struct cloud *cloud = kp_calloc(1, sizeof(*cloud));
        cloud->driver = drivers[i];
        cloud->state = state;
        *ret_cloud = cloud;
        return 0;
    }
    KP_AUTO_BUF struct kp_buf known = {0};
    for (size_t i = 0; driver_names[i]; i++)
        kp_buf_printf(&known, "%s\"%s\"", i ? ", " : "", driver_names[i]);
    return kp_fail(error, KP_EINVALID, "no cloud driver \"%s\": known are %s", name ? name : "", known.data);
}

void cloud_close(struct cloud *cloud)
{
    if (!cloud)
        return;
    cloud->driver->close(cloud->state);
    free(cloud);
}

const char *cloud_name(const struct cloud *cloud)
{
    return cloud->driver->name;
}

bool cloud_can(const struct cloud *cloud, enum cloud_capability capability)
{
    return (cloud->driver->capabilities & (unsigned)capability) != 0;
}

/* Names become paths, link names and host names: a DNS label, nothing else. */
static int check_label(const char *what, const char *value, struct kp_error *error)
{
    size_t len = value ? strlen(value) : 0;
    if (len == 0 || len >= CLOUD_NAME_MAX)
        return kp_fail(error, KP_EINVALID, "%s \"%s\" must have 1 to %d characters", what, value ? value : "",
                       CLOUD_NAME_MAX - 1);
    for (size_t i = 0; i < len; i++) {
        bool word = (value[i] >= 'a' && value[i] <= 'z') || (value[i] >= '0' && value[i] <= '9');
        if (!word && !(value[i] == '-' && i > 0 && i + 1 < len))
            return kp_fail(error, KP_EINVALID, "%s \"%s\" must be lower case letters, digits and '-' in between", what,
                           value);
    }
    return 0;
}

static int check_names(const char *cluster_uid, const char *name, struct kp_error *error)
{
    int r = check_label("cluster uid", cluster_uid, error);
    return r < 0 ? r : check_label("machine name", name, error);
}

int cloud_network_ensure(struct cloud *cloud, const struct cloud_network_spec *spec, struct kp_arena *arena,
                         struct cloud_network *ret, struct kp_error *error)
{
    int r = check_label("cluster uid", spec->cluster_uid, error);
    return r < 0 ? r : cloud->driver->network_ensure(cloud->state, spec, arena, ret, error);
}

int cloud_network_get(struct cloud *cloud, const char *cluster_uid, struct kp_arena *arena, struct cloud_network *ret,
                      struct kp_error *error)
{
    int r = check_label("cluster uid", cluster_uid, error);
    return r < 0 ? r : cloud->driver->network_get(cloud->state, cluster_uid, arena, ret, error);
}

int cloud_network_delete(struct cloud *cloud, const char *cluster_uid, struct kp_error *error)
{
    int r = check_label("cluster uid", cluster_uid, error);
    return r < 0 ? r : cloud->driver->network_delete(cloud->state, cluster_uid, error);
}

int cloud_address_reserve(struct cloud *cloud, const char *cluster_uid, const char *name, struct kp_arena *arena,
                          const char **ret_address, struct kp_error *error)
{
    int r = check_names(cluster_uid, name, error);
    return r < 0 ? r : cloud->driver->address_reserve(cloud->state, cluster_uid, name, arena, ret_address, error);
}

int cloud_address_release(struct cloud *cloud, const char *cluster_uid, const char *name, struct kp_error *error)
{
    int r = check_names(cluster_uid, name, error);
    return r < 0 ? r : cloud->driver->address_release(cloud->state, cluster_uid, name, error);
}

int cloud_machine_create(struct cloud *cloud, const struct cloud_machine_spec *spec, struct kp_arena *arena,
                         struct cloud_machine *ret, struct kp_error *error)
{
    int r = check_names(spec->cluster_uid, spec->name, error);
    if (r < 0)
        return r;
    if (spec->user_data_len > CLOUD_USER_DATA_MAX)
        return kp_fail(error, KP_ETOOLARGE, "machine %s: %zu bytes of user data, at most %zu go", spec->name,
                       spec->user_data_len, CLOUD_USER_DATA_MAX);
    if (cloud->driver->machine_create(cloud->state, spec, arena, ret, error) < 0)
        return kp_wrap(error, "create machine %s", spec->name);
    return 0;
}

int cloud_machine_get(struct cloud *cloud, const char *cluster_uid, const char *name, struct kp_arena *arena,
                      struct cloud_machine *ret, struct kp_error *error)
{
    int r = check_names(cluster_uid, name, error);
    return r < 0 ? r : cloud->driver->machine_get(cloud->state, cluster_uid, name, arena, ret, error);
}

int cloud_machine_list(struct cloud *cloud, const char *cluster_uid, struct kp_arena *arena,
                       struct cloud_machine_list *ret, struct kp_error *error)
{
    int r = check_label("cluster uid", cluster_uid, error);
    return r < 0 ? r : cloud->driver->machine_list(cloud->state, cluster_uid, arena, ret, error);
}

int cloud_machine_power(struct cloud *cloud, const char *cluster_uid, const char *name, enum cloud_power_action action,
                        struct kp_error *error)
{
    static const char *const verbs[] = {"start", "stop", "kill"};
    int r = check_names(cluster_uid, name, error);
    if (r < 0)
        return r;
    if (cloud->driver->machine_power(cloud->state, cluster_uid, name, action, error) < 0)
        return kp_wrap(error, "%s machine %s", verbs[action], name);
    return 0;
}

int cloud_machine_delete(struct cloud *cloud, const char *cluster_uid, const char *name, struct kp_error *error)
{
    int r = check_names(cluster_uid, name, error);
    if (r < 0)
        return r;
    if (cloud->driver->machine_delete(cloud->state, cluster_uid, name, error) < 0)
        return kp_wrap(error, "delete machine %s", name);
    return 0;
}

int cloud_machine_console(struct cloud *cloud, const char *cluster_uid, const char *name, struct kp_buf *out,
                          struct kp_error *error)
{
    int r = check_names(cluster_uid, name, error);
    return r < 0 ? r : cloud->driver->machine_console(cloud->state, cluster_uid, name, out, error);
}

int cloud_machine_exec(struct cloud *cloud, const char *cluster_uid, const char *name, const struct cloud_exec *exec,
                       int *ret_status, struct kp_error *error)
{
    int r = check_names(cluster_uid, name, error);
    if (r < 0)
        return r;
    if (!cloud_can(cloud, CLOUD_CAN_EXEC))
        return kp_fail(error, KP_ENOTSUPPORTED, "cloud %s cannot run commands in machines", cloud->driver->name);
    return cloud->driver->machine_exec(cloud->state, cluster_uid, name, exec, ret_status, error);
}

int cloud_owned(struct cloud *cloud, const char *cluster_uid, struct kp_arena *arena, struct kp_strings *ret,
                struct kp_error *error)
{
    int r = check_label("cluster uid", cluster_uid, error);
    return r < 0 ? r : cloud->driver->owned(cloud->state, cluster_uid, arena, ret, error);
}

int cloud_clusters(struct cloud *cloud, struct kp_strings *ret_uids, struct kp_error *error)
{
    return cloud->driver->clusters(cloud->state, ret_uids, error);
}

int cloud_purge(struct cloud *cloud, const char *cluster_uid, struct kp_error *error)
{
    int r = check_label("cluster uid", cluster_uid, error);
    return r < 0 ? r : cloud->driver->purge(cloud->state, cluster_uid, error);
}
