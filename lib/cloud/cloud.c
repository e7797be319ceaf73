/* Opens cloud drivers and checks arguments before they reach one. */
#include "cloud/cloud.h"

#include "cloud/call_internal.h"

static int read_timeout(const struct cloud_options *options, int64_t *ret_ms, struct kp_error *error)
{
    const char *text = getenv("KPROV_CLOUD_TIMEOUT");
    int64_t ns = 0;
    *ret_ms = options->timeout_ms;
    if (options->timeout_ms || kp_empty(text))
        return 0;
    if (kp_parse_duration_ns(text, &ns) < 0 || ns < 1000000)
        return kp_fail(error, KP_EINVALID, "KPROV_CLOUD_TIMEOUT is \"%s\": must be a time such as 90s, at least 1ms", text);
    *ret_ms = ns / 1000000;
    return 0;
}

int cloud_open_driver(const struct cloud_driver *driver, const struct cloud_options *options, struct cloud **ret_cloud,
                      struct kp_error *error)
{
    static const struct cloud_options defaults;
    int64_t timeout_ms = 0;
    void *state = NULL;
    options = options ? options : &defaults;
    int r = read_timeout(options, &timeout_ms, error);
    if (r < 0)
        return r;
    if (driver->open(options, &state, error) < 0)
        return kp_wrap(error, "cloud %s", driver->name);
    struct cloud *cloud = kp_calloc(1, sizeof(*cloud));
    cloud->driver = driver;
    cloud->state = state;
    cloud->timeout_ms = timeout_ms;
    atomic_init(&cloud->refs, 1);
    *ret_cloud = cloud;
    return 0;
}

int cloud_open_of(const struct cloud_driver *const *drivers, size_t n, const char *name, const struct cloud_options *options, struct cloud **ret_cloud,
                  struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf known = {0};
    for (size_t i = 0; i < n; i++) {
        if (kp_streq(drivers[i]->name, name))
            return cloud_open_driver(drivers[i], options, ret_cloud, error);
        kp_buf_printf(&known, "%s\"%s\"", i ? ", " : "", drivers[i]->name);
    }
    return kp_fail(error, KP_EINVALID, "no cloud driver \"%s\": known are %s", name ? name : "", known.data);
}

void cloud_unref(struct cloud *cloud)
{
    if (atomic_fetch_sub(&cloud->refs, 1) > 1)
        return;
    const struct cloud_driver *driver = cloud->driver;
    void *state = cloud->state;
    free(cloud);
    driver->close(state);
}

void cloud_close(struct cloud *cloud)
{
    if (cloud)
        cloud_unref(cloud);
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

int cloud_check_uid(const char *cluster_uid, struct kp_error *error)
{
    return check_label("cluster uid", cluster_uid, error);
}

int cloud_check_names(const char *cluster_uid, const char *name, struct kp_error *error)
{
    int r = cloud_check_uid(cluster_uid, error);
    return r < 0 ? r : check_label("machine name", name, error);
}

/* For calls that give back nothing. */
int cloud_call_plain(struct cloud *cloud, enum cloud_call_kind kind, const struct cloud_call_in *in, struct kp_error *error)
{
    struct cloud_call_out out = {0};
    return cloud_call(cloud, kind, in, NULL, &out, error);
}

static int call_strings(struct cloud *cloud, enum cloud_call_kind kind, const struct cloud_call_in *in, struct kp_arena *arena,
                        struct kp_strings *ret, struct kp_error *error)
{
    struct cloud_call_out out = {0};
    int r = cloud_call(cloud, kind, in, arena, &out, error);
    for (size_t i = 0; i < out.strings.len; i++)
        kp_strings_add(ret, out.strings.items[i]);
    kp_strings_done(&out.strings);
    return r;
}

/* Straight on the caller's thread: it only asks, and before anything is made there is nothing that could be left half done. */
int cloud_check(struct cloud *cloud, const struct cloud_wish *wish, struct kp_error *error)
{
    return cloud->driver->check ? cloud->driver->check(cloud->state, wish, error) : 0;
}

int cloud_network_ensure(struct cloud *cloud, const struct cloud_network_spec *spec, struct kp_arena *arena,
                         struct cloud_network *ret, struct kp_error *error)
{
    struct cloud_call_out out = {0};
    const struct cloud_call_in in = {.network = *spec};
    int r = cloud_check_uid(spec->cluster_uid, error);
    if (r == 0)
        r = cloud_call(cloud, CLOUD_CALL_NETWORK_ENSURE, &in, arena, &out, error);
    if (r == 0)
        *ret = out.network;
    return r;
}

int cloud_network_get(struct cloud *cloud, const char *cluster_uid, struct kp_arena *arena, struct cloud_network *ret,
                      struct kp_error *error)
{
    struct cloud_call_out out = {0};
    const struct cloud_call_in in = {.uid = cluster_uid};
    int r = cloud_check_uid(cluster_uid, error);
    if (r == 0)
        r = cloud_call(cloud, CLOUD_CALL_NETWORK_GET, &in, arena, &out, error);
    if (r == 0)
        *ret = out.network;
    return r;
}

int cloud_network_delete(struct cloud *cloud, const char *cluster_uid, struct kp_error *error)
{
    const struct cloud_call_in in = {.uid = cluster_uid};
    int r = cloud_check_uid(cluster_uid, error);
    return r < 0 ? r : cloud_call_plain(cloud, CLOUD_CALL_NETWORK_DELETE, &in, error);
}

int cloud_address_reserve(struct cloud *cloud, const char *cluster_uid, const char *name, struct kp_arena *arena,
                          const char **ret_address, struct kp_error *error)
{
    struct cloud_call_out out = {0};
    const struct cloud_call_in in = {.uid = cluster_uid, .name = name};
    int r = cloud_check_names(cluster_uid, name, error);
    if (r == 0)
        r = cloud_call(cloud, CLOUD_CALL_ADDRESS_RESERVE, &in, arena, &out, error);
    if (r == 0)
        *ret_address = out.address;
    return r;
}

int cloud_address_release(struct cloud *cloud, const char *cluster_uid, const char *name, struct kp_error *error)
{
    const struct cloud_call_in in = {.uid = cluster_uid, .name = name};
    int r = cloud_check_names(cluster_uid, name, error);
    return r < 0 ? r : cloud_call_plain(cloud, CLOUD_CALL_ADDRESS_RELEASE, &in, error);
}

int cloud_machine_create(struct cloud *cloud, const struct cloud_machine_spec *spec, struct kp_arena *arena,
                         struct cloud_machine *ret, struct kp_error *error)
{
    struct cloud_call_out out = {0};
    const struct cloud_call_in in = {.machine = *spec};
    int r = cloud_check_names(spec->cluster_uid, spec->name, error);
    if (r < 0)
        return r;
    if (spec->user_data_len > CLOUD_USER_DATA_MAX)
        return kp_fail(error, KP_ETOOLARGE, "machine %s: %zu bytes of user data, at most %zu go", spec->name,
                       spec->user_data_len, CLOUD_USER_DATA_MAX);
    if (cloud_call(cloud, CLOUD_CALL_MACHINE_CREATE, &in, arena, &out, error) < 0)
        return kp_wrap(error, "create machine %s", spec->name);
    *ret = out.machine;
    return 0;
}

int cloud_machine_reimage(struct cloud *cloud, const struct cloud_machine_spec *spec, struct kp_arena *arena,
                          struct cloud_machine *ret, struct kp_error *error)
{
    struct cloud_call_out out = {0};
    const struct cloud_call_in in = {.machine = *spec};
    int r = cloud_check_names(spec->cluster_uid, spec->name, error);
    if (r < 0)
        return r;
    if (!cloud->driver->machine_reimage)
        return kp_fail(error, KP_ENOTSUPPORTED, "cloud %s cannot change the image of a machine that exists", cloud->driver->name);
    if (spec->at_next_boot && !cloud_can(cloud, CLOUD_CAN_CHANGE_LATER))
        return kp_fail(error, KP_ENOTSUPPORTED, "cloud %s cannot change the user data of a machine that runs", cloud->driver->name);
    if (spec->user_data_len > CLOUD_USER_DATA_MAX)
        return kp_fail(error, KP_ETOOLARGE, "machine %s: %zu bytes of user data, at most %zu go", spec->name,
                       spec->user_data_len, CLOUD_USER_DATA_MAX);
    if (cloud_call(cloud, CLOUD_CALL_MACHINE_REIMAGE, &in, arena, &out, error) < 0)
        return kp_wrap(error, "change the image of machine %s", spec->name);
    *ret = out.machine;
    return 0;
}

int cloud_machine_get(struct cloud *cloud, const char *cluster_uid, const char *name, struct kp_arena *arena,
                      struct cloud_machine *ret, struct kp_error *error)
{
    struct cloud_call_out out = {0};
    const struct cloud_call_in in = {.uid = cluster_uid, .name = name};
    int r = cloud_check_names(cluster_uid, name, error);
    if (r == 0)
        r = cloud_call(cloud, CLOUD_CALL_MACHINE_GET, &in, arena, &out, error);
    if (r == 0)
        *ret = out.machine;
    return r;
}

int cloud_machine_list(struct cloud *cloud, const char *cluster_uid, struct kp_arena *arena,
                       struct cloud_machine_list *ret, struct kp_error *error)
{
    struct cloud_call_out out = {0};
    const struct cloud_call_in in = {.uid = cluster_uid};
    int r = cloud_check_uid(cluster_uid, error);
    if (r == 0)
        r = cloud_call(cloud, CLOUD_CALL_MACHINE_LIST, &in, arena, &out, error);
    if (r == 0)
        *ret = out.machines;
    return r;
}

int cloud_machine_power(struct cloud *cloud, const char *cluster_uid, const char *name, enum cloud_power_action action,
                        struct kp_error *error)
{
    static const char *const verbs[] = {"start", "stop", "kill"};
    const struct cloud_call_in in = {.uid = cluster_uid, .name = name, .action = action};
    int r = cloud_check_names(cluster_uid, name, error);
    if (r < 0)
        return r;
    if (cloud_call_plain(cloud, CLOUD_CALL_MACHINE_POWER, &in, error) < 0)
        return kp_wrap(error, "%s machine %s", verbs[action], name);
    return 0;
}

int cloud_machine_delete(struct cloud *cloud, const char *cluster_uid, const char *name, struct kp_error *error)
{
    const struct cloud_call_in in = {.uid = cluster_uid, .name = name};
    int r = cloud_check_names(cluster_uid, name, error);
    if (r < 0)
        return r;
    if (cloud_call_plain(cloud, CLOUD_CALL_MACHINE_DELETE, &in, error) < 0)
        return kp_wrap(error, "delete machine %s", name);
    return 0;
}

int cloud_machine_console(struct cloud *cloud, const char *cluster_uid, const char *name, struct kp_buf *out,
                          struct kp_error *error)
{
    struct cloud_call_out answer = {0};
    const struct cloud_call_in in = {.uid = cluster_uid, .name = name};
    int r = cloud_check_names(cluster_uid, name, error);
    if (r == 0)
        r = cloud_call(cloud, CLOUD_CALL_MACHINE_CONSOLE, &in, NULL, &answer, error);
    if (r == 0)
        kp_buf_append(out, answer.console.data, answer.console.len);
    kp_buf_done(&answer.console);
    return r;
}

int cloud_machine_exec(struct cloud *cloud, const char *cluster_uid, const char *name, const struct cloud_exec *exec,
                       int *ret_status, struct kp_error *error)
{
    int r = cloud_check_names(cluster_uid, name, error);
    if (r < 0)
        return r;
    if (!cloud_can(cloud, CLOUD_CAN_EXEC))
        return kp_fail(error, KP_ENOTSUPPORTED, "cloud %s cannot run commands in machines", cloud->driver->name);
    return cloud->driver->machine_exec(cloud->state, cluster_uid, name, exec, ret_status, error);
}

int cloud_owned(struct cloud *cloud, const char *cluster_uid, struct kp_arena *arena, struct kp_strings *ret,
                struct kp_error *error)
{
    const struct cloud_call_in in = {.uid = cluster_uid};
    int r = cloud_check_uid(cluster_uid, error);
    return r < 0 ? r : call_strings(cloud, CLOUD_CALL_OWNED, &in, arena, ret, error);
}

int cloud_clusters(struct cloud *cloud, struct kp_strings *ret_uids, struct kp_error *error)
{
    const struct cloud_call_in in = {0};
    return call_strings(cloud, CLOUD_CALL_CLUSTERS, &in, NULL, ret_uids, error);
}

int cloud_purge(struct cloud *cloud, const char *cluster_uid, struct kp_error *error)
{
    const struct cloud_call_in in = {.uid = cluster_uid};
    int r = cloud_check_uid(cluster_uid, error);
    return r < 0 ? r : cloud_call_plain(cloud, CLOUD_CALL_PURGE, &in, error);
}

int cloud_account_export(struct cloud *cloud, struct kp_arena *arena, struct cloud_export *ret, struct kp_error *error)
{
    if (!cloud->driver->account_export)
        return kp_fail(error, KP_ENOTSUPPORTED, "cloud %s cannot be asked from inside the cluster", cloud->driver->name);
    return cloud->driver->account_export(cloud->state, arena, ret, error) < 0 ? kp_wrap(error, "cloud %s", cloud->driver->name) : 0;
}

int cloud_images_prune(struct cloud *cloud, const char *const *keep, struct kp_strings *ret_removed, struct kp_error *error)
{
    const struct cloud_call_in in = {.list = keep};
    return cloud->driver->images_prune ? call_strings(cloud, CLOUD_CALL_IMAGES_PRUNE, &in, NULL, ret_removed, error) : 0;
}
