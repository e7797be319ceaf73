/* Where a client's server and credentials come from: a kubeconfig file or a pod's service account. */
#include "lib/client/client_internal.h"

#include <errno.h>

#define KUBECONFIG_BYTES_MAX ((size_t)4 << 20)
#define SERVICE_ACCOUNT_DIR "/var/run/secrets/kubernetes.io/serviceaccount"

/* The entry called `name` of a list of {name, <key>: {...}}; NULL when there is none. */
static const struct kp_value *named(const struct kp_value *root, const char *list, const char *name, const char *key)
{
    const struct kp_value *items = kp_value_get(root, list);
    const struct kp_value *item;
    for (size_t i = 0; name && (item = kp_value_at(items, i)); i++)
        if (kp_streq(kp_value_str(kp_value_get(item, "name")), name))
            return kp_value_get(item, key);
    return NULL;
}

/* A path in a kubeconfig is relative to the file's own folder. */
static char *resolve(const char *config_path, const char *file, struct kp_arena *arena)
{
    const char *slash = strrchr(config_path, '/');
    return file[0] == '/' || !slash ? kp_arena_strdup(arena, file)
                                    : kp_arena_printf(arena, "%.*s/%s", (int)(slash - config_path), config_path, file);
}

/* PEM text of `key`-data (base64) or of the file that `key` names, relative to the kubeconfig. */
static int pem_of(const struct kp_value *section, const char *key, const char *config_path, struct kp_arena *arena,
                  const char **ret_pem, struct kp_error *error)
{
    KP_AUTO_FREE char *data_key = kp_asprintf("%s-data", key);
    const char *data = kp_value_str(kp_value_get(section, data_key));
    KP_AUTO_BUF struct kp_buf pem = {0};
    if (!kp_empty(data)) {
        if (kp_base64_decode(&pem, data, strlen(data)) < 0)
            return kp_fail(error, KP_EBADREQUEST, "%s: %s is not base64", config_path, data_key);
        *ret_pem = kp_arena_strndup(arena, pem.data ? pem.data : "", pem.len);
        return 0;
    }
    const char *file = kp_value_str(kp_value_get(section, key));
    if (kp_empty(file))
        return 0;
    if (kp_read_file(resolve(config_path, file, arena), KUBECONFIG_BYTES_MAX, &pem, error) < 0)
        return kp_wrap(error, "%s: %s", config_path, key);
    *ret_pem = kp_arena_strndup(arena, pem.data ? pem.data : "", pem.len);
    return 0;
}

int client_config_from_kubeconfig(const char *path, const char *context, struct kp_arena *arena,
                                  struct client_config *ret_config, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    struct kp_value **documents;
    size_t count;
    if (kp_read_file(path, KUBECONFIG_BYTES_MAX, &text, error) < 0)
        return error->code;
    if (kp_yaml_parse(text.data ? text.data : "", text.len, arena, &documents, &count, error) < 0)
        return kp_wrap(error, "%s", path);
    if (count != 1 || documents[0]->kind != KP_VALUE_OBJECT)
        return kp_fail(error, KP_EBADREQUEST, "%s: not a kubeconfig: one YAML document is wanted", path);
    const struct kp_value *root = documents[0];
    if (!context)
        context = kp_value_str(kp_value_get(root, "current-context"));
    if (kp_empty(context))
        return kp_fail(error, KP_EBADREQUEST, "%s: no current-context is set", path);
    const struct kp_value *ctx = named(root, "contexts", context, "context");
    if (!ctx)
        return kp_fail(error, KP_EBADREQUEST, "%s: context \"%s\" does not exist", path, context);
    const char *cluster_name = kp_value_str(kp_value_get(ctx, "cluster"));
    const struct kp_value *cluster = named(root, "clusters", cluster_name, "cluster");
    if (!cluster)
        return kp_fail(error, KP_EBADREQUEST, "%s: cluster \"%s\" of context \"%s\" does not exist", path,
                       cluster_name ? cluster_name : "", context);
    const char *user_name = kp_value_str(kp_value_get(ctx, "user"));
    const struct kp_value *user = named(root, "users", user_name, "user");
    if (!kp_empty(user_name) && !user)
        return kp_fail(error, KP_EBADREQUEST, "%s: user \"%s\" of context \"%s\" does not exist", path, user_name, context);
    struct client_config config = {.ns = kp_value_str(kp_value_get(ctx, "namespace"))};
    config.servers[0] = kp_value_str(kp_value_get(cluster, "server"));
    if (kp_empty(config.servers[0]))
        return kp_fail(error, KP_EBADREQUEST, "%s: cluster \"%s\" has no server", path, cluster_name);
    config.n_servers = 1;
    config.tls_server_name = kp_value_str(kp_value_get(cluster, "tls-server-name"));
    config.token = kp_value_str(kp_value_get(user, "token"));
    config.token_file = kp_value_str(kp_value_get(user, "tokenFile"));
    if (!kp_empty(config.token_file))
        config.token_file = resolve(path, config.token_file, arena);
    if (pem_of(cluster, "certificate-authority", path, arena, &config.ca_pem, error) < 0 ||
        pem_of(user, "client-certificate", path, arena, &config.client_cert_pem, error) < 0 ||
        pem_of(user, "client-key", path, arena, &config.client_key_pem, error) < 0)
        return error->code;
    *ret_config = config;
    return 0;
}

int client_config_in_cluster(struct kp_arena *arena, struct client_config *ret_config, struct kp_error *error)
{
    const char *host = getenv("KUBERNETES_SERVICE_HOST"), *port = getenv("KUBERNETES_SERVICE_PORT");
    if (kp_empty(host) || kp_empty(port))
        return kp_fail(error, KP_ENOTFOUND,
                       "not in a pod: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set; use --kubeconfig");
    KP_AUTO_BUF struct kp_buf ca = {0};
    if (kp_read_file(SERVICE_ACCOUNT_DIR "/ca.crt", KUBECONFIG_BYTES_MAX, &ca, error) < 0)
        return error->code;
    struct client_config config = {.n_servers = 1, .token_file = SERVICE_ACCOUNT_DIR "/token"};
    config.servers[0] = kp_arena_printf(arena, strchr(host, ':') ? "https://[%s]:%s" : "https://%s:%s", host, port);
    config.ca_pem = kp_arena_strndup(arena, ca.data ? ca.data : "", ca.len);
    *ret_config = config;
    return 0;
}
