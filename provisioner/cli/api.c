/* The cluster's API server as kprov uses it: waiting for it, applying add-ons, reading nodes. */
#include "api/k8s.h"
#include "base/version.h"
#include "client/client.h"
#include "provisioner/cli/cli.h"

#define UNAVAILABLE_MS_MAX 60000 /* how long an API server that answered before may be away */
#define RETRY_MS 250
#define POLL_MS 25
#define POLL_MS_MAX 250
#define FIELD_MANAGER "kprov"

struct cli_api {
    struct loop *loop;
    struct client *client;
    struct kp_arena *arena;      /* of config */
    struct client_config config; /* for a client that is to connect anew */
    int64_t connected_ms;
};

int cli_api_open(const char *kubeconfig_path, struct cli_api **ret_api, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct client_config config = {0};
    int r = client_config_from_kubeconfig(kubeconfig_path, NULL, arena, &config, error);
    return r < 0 ? r : cli_api_open_config(&config, ret_api, error);
}

static const char *copy(struct cli_api *api, const char *text)
{
    return text ? kp_arena_strdup(api->arena, text) : NULL;
}

static void copy_config(struct cli_api *api, const struct client_config *given)
{
    api->config = *given;
    for (size_t i = 0; i < given->n_servers; i++)
        api->config.servers[i] = copy(api, given->servers[i]);
    api->config.ca_pem = copy(api, given->ca_pem);
    api->config.client_cert_pem = copy(api, given->client_cert_pem);
    api->config.client_key_pem = copy(api, given->client_key_pem);
    api->config.token = copy(api, given->token);
    api->config.token_file = copy(api, given->token_file);
    api->config.tls_server_name = copy(api, given->tls_server_name);
    api->config.ns = copy(api, given->ns);
    api->config.user_agent = kp_arena_printf(api->arena, "kprov/%s", kp_version);
}

int cli_api_open_config(const struct client_config *given, struct cli_api **ret_api, struct kp_error *error)
{
    KP_AUTO(cli_api_close) struct cli_api *api = kp_calloc(1, sizeof(*api));
    api->arena = kp_arena_new(0);
    copy_config(api, given);
    api->loop = loop_new();
    api->connected_ms = kp_mono_ms();
    int r = loop_start(api->loop, "kprov-api", error);
    if (r == 0)
        r = client_new(api->loop, &api->config, &api->client, error);
    if (r < 0)
        return r;
    *ret_api = KP_TAKE(api);
    return 0;
}

/* A connection outlives what it was made for: behind a load balancer, or an address that has moved, it stays with an API server that has lost
   its store and only ever says that it is not ready. A new one goes to whoever answers now. */
static void connect_anew(struct cli_api *api)
{
    struct client *client = NULL;
    struct kp_error error = {0};
    if (kp_mono_ms() - api->connected_ms < RETRY_MS)
        return;
    api->connected_ms = kp_mono_ms();
    if (client_new(api->loop, &api->config, &client, &error) < 0) {
        kp_warn("no new connection to the API server, the old one stays", "error", error.message, NULL);
        return;
    }
    client_free(api->client);
    api->client = client;
}

void cli_api_close(struct cli_api *api)
{
    if (!api)
        return;
    client_free(api->client);
    loop_free(api->loop);
    kp_arena_free(api->arena);
    free(api);
}

struct client *cli_api_client(struct cli_api *api)
{
    return api->client;
}

int cli_api_wait(struct cli_api *api, int64_t deadline_ms, struct cli_progress *progress, struct kp_error *error)
{
    int64_t began_ms = kp_mono_ms();
    for (;;) {
        int status = 0;
        int r = client_raw(api->client, "GET", "/readyz", NULL, NULL, 0, NULL, &status, error);
        if (r == 0)
            return 0;
        if (kp_mono_ms() > deadline_ms)
            return kp_wrap(error, "the API server is not ready in time");
        connect_anew(api);
        cli_progress_tick(progress, NULL);
        r = cli_interrupted(error);
        if (r < 0)
            return r;
        kp_rest(&began_ms, POLL_MS, POLL_MS_MAX);
    }
}

/* Creating is one round trip for what is new; what is there already is brought to what the document says. */
static int apply_one(struct cli_api *api, const struct kp_value *document, struct kp_arena *arena,
                     struct kp_error *error)
{
    const char *api_version = kp_value_str(kp_value_get(document, "apiVersion"));
    const char *kind = kp_value_str(kp_value_get(document, "kind"));
    const char *name = kp_value_str(kp_value_path(document, "metadata", "name", NULL));
    const char *ns = kp_value_str(kp_value_path(document, "metadata", "namespace", NULL));
    const char *slash = api_version ? strchr(api_version, '/') : NULL;
    const char *group = slash ? kp_arena_strndup(arena, api_version, (size_t)(slash - api_version)) : "";
    const struct kp_resource *resource =
        api_version && kind ? kp_resource_find_kind(group, slash ? slash + 1 : api_version, kind) : NULL;
    if (!resource || !name)
        return kp_fail(error, KP_EINVALID, "an add-on document has no known kind or no name");
    KP_AUTO_BUF struct kp_buf body = {0};
    kp_value_print(document, &body);
    const char *path = kp_arena_printf(arena, "%s%s%s%s/%s", slash ? "/apis/" : "/api/", api_version,
                                       resource->namespaced ? "/namespaces/" : "", resource->namespaced ? ns : "",
                                       resource->name);
    int r = client_raw(api->client, "POST", kp_arena_printf(arena, "%s?fieldManager=" FIELD_MANAGER, path),
                       "application/json", body.data, body.len, NULL, NULL, error);
    if (r == KP_EEXISTS)
        r = client_raw(api->client, "PATCH",
                       kp_arena_printf(arena, "%s/%s?fieldManager=" FIELD_MANAGER "&force=true", path, name),
                       "application/apply-patch+yaml", body.data, body.len, NULL, NULL, error);
    return r < 0 ? kp_wrap(error, "apply %s %s", kind, name) : 0;
}

bool cli_api_may_pass(int code)
{
    return code == KP_EUNAVAILABLE || code == KP_ETIMEOUT || code == KP_EIO || code == KP_ETOOMANY;
}

/* While control planes are still coming up, and on machines that are slow, the API's address changes hands and connections end:
   what is idempotent is asked again. */
static bool may_come_back(int code, int64_t deadline_ms)
{
    struct kp_error ignored = {0};
    return cli_api_may_pass(code) && kp_mono_ms() < deadline_ms && cli_interrupted(&ignored) == 0;
}

int cli_api_apply(struct cli_api *api, const char *yaml, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_value **documents = NULL;
    size_t count = 0;
    int r = kp_yaml_parse(yaml, strlen(yaml), arena, &documents, &count, error);
    int64_t deadline_ms = kp_mono_ms() + UNAVAILABLE_MS_MAX;
    for (size_t i = 0; r == 0 && i < count; i++)
        while ((r = apply_one(api, documents[i], arena, error)) < 0 && may_come_back(r, deadline_ms)) {
            kp_sleep_ms(RETRY_MS);
            connect_anew(api);
        }
    return r;
}

int cli_api_mark_control_plane(struct cli_api *api, const char *node, int64_t deadline_ms, struct kp_error *error)
{
    static const char labels[] = "{\"metadata\":{\"labels\":{\"node-role.kubernetes.io/control-plane\":\"\","
                                 "\"node.kubernetes.io/exclude-from-external-load-balancers\":\"\"}}}";
    static const struct client_write_options options = {.field_manager = FIELD_MANAGER};
    int64_t began_ms = kp_mono_ms();
    for (;;) {
        int r = client_patch(api->client, &k8s_nodes_resource, NULL, node, CLIENT_PATCH_MERGE, labels, sizeof(labels) - 1, &options, NULL,
                             NULL, error);
        if ((r != KP_ENOTFOUND && !may_come_back(r, deadline_ms)) || kp_mono_ms() > deadline_ms)
            return r < 0 ? kp_wrap(error, "label node %s as control plane", node) : 0;
        if (r != KP_ENOTFOUND)
            connect_anew(api);
        r = cli_interrupted(error);
        if (r < 0)
            return r;
        kp_rest(&began_ms, POLL_MS, POLL_MS_MAX);
    }
}

int cli_api_node_readiness(struct cli_api *api, struct kp_arena *arena, struct kp_string_map *ret,
                           struct kp_error *error)
{
    static const struct client_list_options options;
    const struct kp_resource *nodes = kp_resource_find("", "v1", "nodes");
    void *answer = NULL;
    int r = client_list(api->client, nodes, NULL, &options, arena, &answer, error);
    if (r < 0)
        return r;
    const struct k8s_node_list *list = answer;
    for (size_t i = 0; i < list->items.len; i++) {
        const struct k8s_node *node = &list->items.items[i];
        const char *ready = "Unknown";
        for (size_t j = 0; node->status && j < node->status->conditions.len; j++) {
            const struct k8s_node_condition *condition = &node->status->conditions.items[j];
            if (kp_streq(condition->type, "Ready"))
                ready = condition->status;
        }
        kp_string_map_set(arena, ret, node->metadata->name, ready);
    }
    return 0;
}
