/* Makes and unmakes the world of a cell. */
#include <dirent.h>
#include <limits.h>

#include "tests/faults-ccm/world.h"

#define BODY_MAX 4096

static const char *const machines[] = {"w-1", "w-2"};

bool wrong(struct world *w, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(w->why, sizeof(w->why), format, ap);
    va_end(ap);
    return false;
}

bool wait_for(struct world *w, bool (*check)(struct world *w))
{
    for (int64_t until_ms = kp_mono_ms() + LIMIT_MS; kp_mono_ms() < until_ms && !w->broken; kp_sleep_ms(4))
        if (check(w))
            return !w->broken;
    return false;
}

int api(struct world *w, const char *method, const char *path, const char *body, struct kp_error *error)
{
    const char *type = kp_streq(method, "PATCH") ? "application/merge-patch+json" : NULL;
    return client_raw(w->admin, method, path, type, body, body ? strlen(body) : 0, NULL, NULL, error);
}

void api_must(struct world *w, const char *method, const char *path, const char *body)
{
    struct kp_error error = {0};
    if (api(w, method, path, body, &error) == 0)
        return;
    fprintf(stderr, "%s %s %s: %s\n", method, path, body ? body : "", error.message);
    abort();
}

struct kp_value *api_get(struct world *w, const char *path)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    struct kp_error error = {0};
    struct kp_value *value = NULL;
    if (client_raw(w->admin, "GET", path, NULL, NULL, 0, &text, NULL, &error) < 0 || kp_value_parse(text.data, text.len, w->arena, NULL, &value, &error) < 0)
        return NULL;
    return value;
}

void set_ready(struct world *w, const char *name, bool ready)
{
    api_must(w, "PATCH", kp_arena_printf(w->arena, "/api/v1/nodes/%s/status", name),
             kp_arena_printf(w->arena, "{\"status\":{\"conditions\":[{\"type\":\"Ready\",\"status\":\"%s\",\"reason\":\"Test\"}]}}", ready ? "True" : "Unknown"));
}

void add_node(struct world *w, const char *name, bool initialised, const char *pod_cidr)
{
    const char *address = cloud_read(w, "addresses", name);
    char spec[BODY_MAX];
    if (initialised)
        snprintf(spec, sizeof(spec), "{\"providerID\":\"fake://%s/%s\",\"podCIDR\":\"%s\",\"podCIDRs\":[\"%s\"]}", w->uid, name, pod_cidr, pod_cidr);
    else
        snprintf(spec, sizeof(spec), "{\"taints\":[{\"key\":\"" CCM_TAINT_UNINITIALIZED "\",\"value\":\"true\",\"effect\":\"NoSchedule\"}]}");
    api_must(w, "POST", "/api/v1/nodes",
             kp_arena_printf(w->arena,
                             "{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"metadata\":{\"name\":\"%s\"},\"spec\":%s,\"status\":{\"addresses\":["
                             "{\"type\":\"InternalIP\",\"address\":\"%s\"},{\"type\":\"Hostname\",\"address\":\"%s\"}],"
                             "\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\",\"reason\":\"Test\"}]}}",
                             name, spec, address, name));
}

bool has_taint(const struct kp_value *node, const char *key)
{
    const struct kp_value *taints = kp_value_path(node, "spec", "taints", NULL);
    for (size_t i = 0; taints && i < taints->array.len; i++)
        if (kp_streq(kp_value_str(kp_value_get(taints->array.items[i], "key")), key))
            return true;
    return false;
}

void add_service(struct world *w, const char *name, int port, const char *more)
{
    api_must(w, "POST", "/api/v1/namespaces/default/services",
             kp_arena_printf(w->arena,
                             "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"%s\"},\"spec\":{\"type\":\"LoadBalancer\",\"ports\":["
                             "{\"name\":\"a\",\"port\":%d}]%s}}",
                             name, port, more));
}

size_t count(const struct world *w, const char *folder)
{
    char path[PATH_MAX];
    size_t n = 0;
    snprintf(path, sizeof(path), "%s/%s/%s", w->dir, w->uid, folder);
    DIR *dir = opendir(path);
    for (const struct dirent *entry; dir && (entry = readdir(dir));)
        n += entry->d_name[0] != '.';
    if (dir)
        closedir(dir);
    return n;
}

bool cloud_has(const struct world *w, const char *folder, const char *name)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/%s/%s/%s", w->dir, w->uid, folder, name);
    return kp_path_exists(path);
}

const char *cloud_read(struct world *w, const char *folder, const char *name)
{
    char path[PATH_MAX];
    KP_AUTO_BUF struct kp_buf text = {0};
    snprintf(path, sizeof(path), "%s/%s/%s/%s", w->dir, w->uid, folder, name);
    return kp_path_exists(path) && kp_read_file(path, 0, &text, NULL) == 0 ? kp_arena_strdup(w->arena, text.data ? text.data : "") : NULL;
}

static int make_machines(struct world *w, struct kp_error *error)
{
    const struct cloud_network_spec network = {.cluster_uid = w->uid};
    struct cloud_network made_network;
    int r = cloud_network_ensure(w->hands, &network, w->arena, &made_network, error);
    for (size_t i = 0; r == 0 && i < KP_ARRAY_LEN(machines); i++) {
        const char *address = NULL;
        struct cloud_machine made;
        r = cloud_address_reserve(w->hands, w->uid, machines[i], w->arena, &address, error);
        const struct cloud_machine_spec spec = {.cluster_uid = w->uid, .name = machines[i], .role = "worker", .pool = "p", .machine_type = "medium", .image = "i",
                                                .address = address};
        if (r == 0)
            r = cloud_machine_create(w->hands, &spec, w->arena, &made, error);
    }
    return r;
}

int world_open(struct world *w, const char *dir, const char *uid, struct client *admin, struct client *client, struct kp_error *error)
{
    const struct cloud_options options = {.state_dir = dir, .timeout_ms = TIMEOUT_MS}, own = {.state_dir = dir};
    *w = (struct world){.arena = kp_arena_new(0), .admin = admin, .client = client, .dir = dir, .uid = uid};
    int r = cloud_open_driver(&cloud_driver_fake_api, &own, &w->hands, error);
    if (r == 0)
        r = cloud_open_driver(&counting_driver, &options, &w->cloud, error);
    return r < 0 ? r : make_machines(w, error);
}

int world_start(struct world *w, struct kp_error *error)
{
    struct ccm_options options = ccm_defaults;
    options.cluster_uid = w->uid;
    options.cluster_cidr = POD_NET;
    options.node_monitor_ms = 20;
    options.route_ms = 20;
    options.node_status_ms = 30;
    options.service_resync_ms = 60;
    options.pending_ms = 5;
    options.retry_ms = 4;
    options.retry_max_ms = 50;
    return ccm_start(&options, w->client, w->cloud, &w->ccm, error);
}

static void remove_all(struct world *w, const char *collection)
{
    const struct kp_value *items = kp_value_get(api_get(w, collection), "items");
    for (size_t i = 0; items && i < items->array.len; i++) {
        const char *name = kp_value_str(kp_value_path(items->array.items[i], "metadata", "name", NULL));
        const char *path = kp_arena_printf(w->arena, "%s/%s", collection, name);
        if (kp_streq(name, "kubernetes"))
            continue;
        api(w, "PATCH", path, "{\"metadata\":{\"finalizers\":null}}", NULL);
        api(w, "DELETE", path, NULL, NULL);
    }
}

void world_close(struct world *w)
{
    ccm_stop(w->ccm);
    remove_all(w, "/api/v1/namespaces/default/services");
    remove_all(w, "/api/v1/nodes");
    cloud_close(w->cloud);
    cloud_close(w->hands);
    kp_arena_free(w->arena);
}
