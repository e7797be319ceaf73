/* Flags in the upstream spelling and the KubeletConfiguration file. */
#include <ctype.h>
#include <unistd.h>

#include "nodeimage/kubelet/kubelet_internal.h"

#define CONFIG_BYTES_MAX ((size_t)1 << 20)

struct flag_values {
    const char *config, *kubeconfig, *bootstrap_kubeconfig, *runtime_endpoint, *node_ip, *hostname_override, *node_labels, *taints;
    const char *pod_manifest_path, *cluster_dns, *cluster_domain, *root_dir, *client_ca_file, *tls_cert_file, *tls_key_file;
    const char *cert_dir, *cloud_provider, *provider_id, *address, *resolv_conf;
    int64_t v, max_pods, port, healthz_port;
    bool register_node, rotate_server_certificates, anonymous_auth;
};

static void set_defaults(struct kubelet_config *config)
{
    *config = (struct kubelet_config){
        .arena = kp_arena_new(0),
        .runtime_endpoint = "unix:///run/containerd/containerd.sock",
        .root_dir = "/var/lib/kubelet",
        .cluster_domain = "",
        .cert_dir = "/var/lib/kubelet/pki",
        .resolv_conf = "/etc/resolv.conf",
        .listen_address = "0.0.0.0",
        .pods_max = 110,
        .port = KUBELET_PORT,
        .healthz_port = KUBELET_HEALTHZ_PORT,
        .container_log_bytes_max = (int64_t)10 << 20,
        .container_log_files_max = 5,
        .status_frequency_s = 10,
        .lease_duration_s = 40,
        .crash_backoff_max_s = KUBELET_BACKOFF_MAX_MS / 1000,
        .image_gc_high_percent = 85,
        .image_gc_low_percent = 80,
        .eviction = {.transition_s = 300},
        .register_node = true,
        .authorize_webhook = true,
    };
}

/* Calls fn for every non-empty piece between commas. */
static int each_piece(const char *text, struct kp_arena *arena, int (*fn)(char *piece, void *arg, struct kp_error *error),
                      void *arg, struct kp_error *error)
{
    for (const char *s = text; s && *s;) {
        size_t len = strcspn(s, ",");
        if (len > 0) {
            int rc = fn(kp_arena_strndup(arena, s, len), arg, error);
            if (rc < 0)
                return rc;
        }
        s += len + (s[len] == ',');
    }
    return 0;
}

struct piece {
    struct kp_arena *arena;
    void *out;
};

static int label_piece(char *text, void *arg, struct kp_error *error)
{
    struct piece *piece = arg;
    char *equals = strchr(text, '=');
    if (!equals)
        return kp_fail(error, KP_EUSAGE, "node label %s is not key=value", text);
    *equals = '\0';
    const char *fault = kp_validate_qualified_name(text);
    if (!fault)
        fault = kp_validate_label_value(equals + 1);
    if (fault)
        return kp_fail(error, KP_EUSAGE, "node label %s: %s", text, fault);
    kp_string_map_set(piece->arena, piece->out, text, equals + 1);
    return 0;
}

int kubelet_parse_labels(const char *text, struct kp_arena *arena, struct kp_string_map *ret, struct kp_error *error)
{
    struct piece piece = {.arena = arena, .out = ret};
    return each_piece(text, arena, label_piece, &piece, error);
}

static int taint_piece(char *text, void *arg, struct kp_error *error)
{
    struct piece *piece = arg;
    char *colon = strrchr(text, ':');
    if (!colon || (!kp_streq(colon + 1, "NoSchedule") && !kp_streq(colon + 1, "PreferNoSchedule") && !kp_streq(colon + 1, "NoExecute")))
        return kp_fail(error, KP_EUSAGE, "taint %s is not key=value:Effect", text);
    *colon = '\0';
    char *equals = strchr(text, '=');
    if (equals)
        *equals = '\0';
    struct k8s_taint *taint = KP_LIST_ADD(piece->arena, (struct k8s_taint_items *)piece->out);
    taint->key = text;
    taint->value = equals && equals[1] ? equals + 1 : NULL;
    taint->effect = colon + 1;
    return 0;
}

int kubelet_parse_taints(const char *text, struct kp_arena *arena, struct k8s_taint_items *ret, struct kp_error *error)
{
    struct piece piece = {.arena = arena, .out = ret};
    return each_piece(text, arena, taint_piece, &piece, error);
}

struct address_list {
    const char **items;
    size_t *len, max;
};

static int address_piece(char *text, void *arg, struct kp_error *error)
{
    struct address_list *list = arg;
    if (*list->len == list->max)
        return kp_fail(error, KP_EUSAGE, "more than %zu addresses", list->max);
    list->items[(*list->len)++] = text;
    return 0;
}

/* ---- KubeletConfiguration ------------------------------------------------------------------------------------------ */

enum field_kind { FIELD_STRING, FIELD_INT, FIELD_BOOL, FIELD_DURATION_S, FIELD_QUANTITY, FIELD_MAP, FIELD_TEXTS, FIELD_IGNORED };
struct config_field {
    const char *path; /* "authentication.anonymous.enabled" */
    enum field_kind kind;
    size_t offset;
};
#define FIELD(path, kind, member) {path, kind, offsetof(struct kubelet_config, member)}
/* FIELD_IGNORED: known upstream, and this kubelet's fixed behaviour already or of no effect here. */
static const struct config_field config_fields[] = {
    {"apiVersion", FIELD_IGNORED, 0},
    {"kind", FIELD_IGNORED, 0},
    FIELD("address", FIELD_STRING, listen_address),
    FIELD("authentication.anonymous.enabled", FIELD_BOOL, anonymous_auth),
    FIELD("authentication.x509.clientCAFile", FIELD_STRING, client_ca_file),
    {"authentication.webhook.enabled", FIELD_IGNORED, 0},
    {"authentication.webhook.cacheTTL", FIELD_IGNORED, 0},
    {"authorization.mode", FIELD_IGNORED, 0}, /* read by hand */
    {"cgroupDriver", FIELD_IGNORED, 0},
    {"cgroupsPerQOS", FIELD_IGNORED, 0},
    FIELD("clusterDomain", FIELD_STRING, cluster_domain),
    {"clusterDNS", FIELD_IGNORED, 0}, /* read by hand */
    FIELD("containerLogMaxFiles", FIELD_INT, container_log_files_max),
    FIELD("containerLogMaxSize", FIELD_QUANTITY, container_log_bytes_max),
    FIELD("containerRuntimeEndpoint", FIELD_STRING, runtime_endpoint),
    FIELD("crashLoopBackOff.maxContainerRestartPeriod", FIELD_DURATION_S, crash_backoff_max_s),
    {"enableServer", FIELD_IGNORED, 0},
    FIELD("evictionHard", FIELD_TEXTS, eviction_hard),
    FIELD("evictionMaxPodGracePeriod", FIELD_INT, eviction.pod_grace_max_s),
    FIELD("evictionMinimumReclaim", FIELD_TEXTS, eviction_reclaim),
    FIELD("evictionPressureTransitionPeriod", FIELD_DURATION_S, eviction.transition_s),
    FIELD("evictionSoft", FIELD_TEXTS, eviction_soft),
    FIELD("evictionSoftGracePeriod", FIELD_TEXTS, eviction_soft_grace),
    {"failSwapOn", FIELD_IGNORED, 0},
    {"fileCheckFrequency", FIELD_IGNORED, 0},
    {"healthzBindAddress", FIELD_IGNORED, 0},
    FIELD("healthzPort", FIELD_INT, healthz_port),
    FIELD("imageGCHighThresholdPercent", FIELD_INT, image_gc_high_percent),
    FIELD("imageGCLowThresholdPercent", FIELD_INT, image_gc_low_percent),
    FIELD("kubeReserved", FIELD_MAP, kube_reserved),
    FIELD("maxPods", FIELD_INT, pods_max),
    FIELD("mergeDefaultEvictionSettings", FIELD_BOOL, eviction_merge),
    FIELD("nodeLeaseDurationSeconds", FIELD_INT, lease_duration_s),
    FIELD("nodeStatusUpdateFrequency", FIELD_DURATION_S, status_frequency_s),
    FIELD("port", FIELD_INT, port),
    FIELD("providerID", FIELD_STRING, provider_id),
    FIELD("registerNode", FIELD_BOOL, register_node),
    FIELD("resolvConf", FIELD_STRING, resolv_conf),
    {"rotateCertificates", FIELD_IGNORED, 0},
    FIELD("serverTLSBootstrap", FIELD_BOOL, rotate_server_certificates),
    FIELD("staticPodPath", FIELD_STRING, pod_manifest_path),
    {"streamingConnectionIdleTimeout", FIELD_IGNORED, 0},
    {"syncFrequency", FIELD_IGNORED, 0},
    FIELD("systemReserved", FIELD_MAP, system_reserved),
    FIELD("tlsCertFile", FIELD_STRING, tls_cert_file),
    FIELD("tlsPrivateKeyFile", FIELD_STRING, tls_key_file),
    {"volumeStatsAggPeriod", FIELD_IGNORED, 0},
};

static int set_number(const struct config_field *field, const struct kp_value *value, int64_t *out)
{
    if (field->kind == FIELD_INT && value->kind == KP_VALUE_INT) {
        *out = value->integer;
        return 0;
    }
    if (field->kind == FIELD_DURATION_S && value->kind == KP_VALUE_STRING && kp_parse_duration_ns(value->string, out) == 0) {
        *out = KP_MAX(*out / 1000000000, 1);
        return 0;
    }
    if (field->kind == FIELD_QUANTITY && value->kind == KP_VALUE_STRING && kp_quantity_valid(value->string)) {
        *out = kp_quantity_str_value(value->string);
        return 0;
    }
    return KP_EBADREQUEST;
}

static int set_field(const struct config_field *field, const struct kp_value *value, struct kubelet_config *config)
{
    void *member = (char *)config + field->offset;
    switch (field->kind) {
    case FIELD_IGNORED:
        return 0;
    case FIELD_STRING:
        if (value->kind != KP_VALUE_STRING)
            return KP_EBADREQUEST;
        *(const char **)member = kp_arena_strdup(config->arena, value->string);
        return 0;
    case FIELD_BOOL:
        if (value->kind != KP_VALUE_BOOL)
            return KP_EBADREQUEST;
        *(bool *)member = value->boolean;
        return 0;
    case FIELD_TEXTS: /* checked once all of them are known */
        if (value->kind != KP_VALUE_OBJECT)
            return KP_EBADREQUEST;
        for (size_t i = 0; i < value->object.len; i++) {
            const char *text = kp_value_str(value->object.members[i].value);
            if (!text)
                return KP_EBADREQUEST;
            kp_string_map_set(config->arena, member, kp_arena_strdup(config->arena, value->object.members[i].key),
                              kp_arena_strdup(config->arena, text));
        }
        return 0;
    case FIELD_MAP:
        if (value->kind != KP_VALUE_OBJECT)
            return KP_EBADREQUEST;
        for (size_t i = 0; i < value->object.len; i++) {
            const char *amount = kp_value_str(value->object.members[i].value);
            if (!amount || !kp_quantity_valid(amount))
                return KP_EBADREQUEST;
            kp_string_map_set(config->arena, member, kp_arena_strdup(config->arena, value->object.members[i].key),
                              kp_arena_strdup(config->arena, amount));
        }
        return 0;
    default:
        return set_number(field, value, member);
    }
}

static bool is_prefix(const char *path)
{
    size_t len = strlen(path);
    for (size_t i = 0; i < KP_ARRAY_LEN(config_fields); i++)
        if (strncmp(config_fields[i].path, path, len) == 0 && config_fields[i].path[len] == '.')
            return true;
    return false;
}

static int walk(const struct kp_value *object, const char *prefix, struct kubelet_config *config, struct kp_error *error)
{
    for (size_t i = 0; i < object->object.len; i++) {
        const struct kp_value *value = object->object.members[i].value;
        char *path = kp_arena_printf(config->arena, "%s%s%s", prefix, *prefix ? "." : "", object->object.members[i].key);
        const struct config_field *field = NULL;
        for (size_t f = 0; f < KP_ARRAY_LEN(config_fields); f++)
            if (kp_streq(config_fields[f].path, path))
                field = &config_fields[f];
        int rc = 0;
        if (field && set_field(field, value, config) < 0)
            rc = kp_fail(error, KP_EINVALID, "line %d: %s has a wrong value", value->line, path);
        else if (!field && value->kind == KP_VALUE_OBJECT && is_prefix(path))
            rc = walk(value, path, config, error);
        else if (!field)
            rc = kp_fail(error, KP_EINVALID, "line %d: unknown field \"%s\"", value->line, path);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int kubelet_config_parse(const char *text, size_t len, struct kubelet_config *config, struct kp_error *error)
{
    struct kp_value **documents;
    size_t n;
    int rc = kp_yaml_parse(text, len, config->arena, &documents, &n, error);
    if (rc < 0)
        return rc;
    if (n != 1 || documents[0]->kind != KP_VALUE_OBJECT)
        return kp_fail(error, KP_EINVALID, "a kubelet configuration is one document");
    const char *kind = kp_value_str(kp_value_get(documents[0], "kind"));
    const char *version = kp_value_str(kp_value_get(documents[0], "apiVersion"));
    if (!kp_streq(kind, "KubeletConfiguration") || !kp_streq(version, "kubelet.config.k8s.io/v1beta1"))
        return kp_fail(error, KP_EINVALID, "no kind \"%s\" is registered for version \"%s\"", kind ? kind : "", version ? version : "");
    rc = walk(documents[0], "", config, error);
    if (rc < 0)
        return rc;
    const struct kp_value *dns = kp_value_get(documents[0], "clusterDNS");
    for (size_t i = 0; dns && dns->kind == KP_VALUE_ARRAY && i < dns->array.len && config->n_cluster_dns < KUBELET_DNS_SERVERS_MAX; i++)
        config->cluster_dns[config->n_cluster_dns++] = kp_arena_strdup(config->arena, kp_value_str(dns->array.items[i]));
    const struct kp_string_map *hard = kp_value_get(documents[0], "evictionHard") ? &config->eviction_hard : NULL;
    rc = eviction_settings_parse(hard, config->eviction_merge, &config->eviction_soft, &config->eviction_soft_grace, &config->eviction_reclaim,
                                 &config->eviction, error);
    if (rc < 0)
        return rc;
    const char *mode = kp_value_str(kp_value_path(documents[0], "authorization", "mode", NULL));
    if (mode)
        config->authorize_webhook = !kp_streq(mode, "AlwaysAllow");
    return 0;
}

/* ---- flags ------------------------------------------------------------------------------------------------------------ */

static int load_file(const char *path, struct kubelet_config *config, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    int rc = kp_read_file(path, CONFIG_BYTES_MAX, &text, error);
    if (rc == 0)
        rc = kubelet_config_parse(text.data ? text.data : "", text.len, config, error);
    return rc < 0 ? kp_wrap(error, "kubelet configuration %s", path) : 0;
}

static void take(const char **out, const char *value)
{
    if (!kp_empty(value))
        *out = value;
}

/* Flags win over the file. */
static int apply_cloud_provider(const char *provider, struct kubelet_config *config, struct kp_error *error)
{
    if (kp_empty(provider))
        return 0;
    if (!kp_streq(provider, "external"))
        return kp_fail(error, KP_EUSAGE, "--cloud-provider: \"%s\" must be external, or left out", provider);
    struct k8s_taint *taint = KP_LIST_ADD(config->arena, &config->taints);
    taint->key = "node.cloudprovider.kubernetes.io/uninitialized";
    taint->value = "true";
    taint->effect = "NoSchedule";
    return 0;
}

static int apply_flags(const struct flag_values *v, struct kubelet_config *config, struct kp_error *error)
{
    take(&config->kubeconfig, v->kubeconfig);
    take(&config->bootstrap_kubeconfig, v->bootstrap_kubeconfig);
    take(&config->runtime_endpoint, v->runtime_endpoint);
    take(&config->pod_manifest_path, v->pod_manifest_path);
    take(&config->cluster_domain, v->cluster_domain);
    take(&config->root_dir, v->root_dir);
    take(&config->client_ca_file, v->client_ca_file);
    take(&config->tls_cert_file, v->tls_cert_file);
    take(&config->tls_key_file, v->tls_key_file);
    take(&config->cert_dir, v->cert_dir);
    take(&config->provider_id, v->provider_id);
    take(&config->listen_address, v->address);
    take(&config->resolv_conf, v->resolv_conf);
    config->verbosity = v->v;
    config->pods_max = v->max_pods >= 0 ? v->max_pods : config->pods_max;
    config->port = v->port >= 0 ? v->port : config->port;
    config->healthz_port = v->healthz_port >= 0 ? v->healthz_port : config->healthz_port;
    config->register_node = config->register_node && v->register_node;
    config->rotate_server_certificates = config->rotate_server_certificates || v->rotate_server_certificates;
    config->anonymous_auth = config->anonymous_auth || v->anonymous_auth;
    struct address_list ips = {.items = config->node_ips, .len = &config->n_node_ips, .max = KUBELET_ADDRESSES_MAX};
    int rc = each_piece(v->node_ip, config->arena, address_piece, &ips, error);
    if (rc == 0 && !kp_empty(v->cluster_dns)) {
        struct address_list dns = {.items = config->cluster_dns, .len = &config->n_cluster_dns, .max = KUBELET_DNS_SERVERS_MAX};
        config->n_cluster_dns = 0;
        rc = each_piece(v->cluster_dns, config->arena, address_piece, &dns, error);
    }
    if (rc == 0)
        rc = kubelet_parse_labels(v->node_labels, config->arena, &config->node_labels, error);
    if (rc == 0)
        rc = kubelet_parse_taints(v->taints, config->arena, &config->taints, error);
    return rc < 0 ? rc : apply_cloud_provider(v->cloud_provider, config, error);
}

static const char *own_name(const char *override, struct kp_arena *arena)
{
    char host[256] = "localhost";
    if (kp_empty(override) && gethostname(host, sizeof(host) - 1) < 0)
        snprintf(host, sizeof(host), "localhost");
    char *name = kp_arena_strdup(arena, kp_empty(override) ? host : override);
    for (char *s = name; *s; s++)
        *s = (char)tolower((unsigned char)*s);
    return name;
}

int kubelet_config_load(int argc, char **argv, struct kubelet_config *config, bool *ret_help, struct kp_error *error)
{
    struct flag_values v = {.v = 0, .max_pods = -1, .port = -1, .healthz_port = -1, .register_node = true};
    const struct kp_flag flags[] = {
        {"config", 0, KP_FLAG_STRING, &v.config, "KubeletConfiguration file", NULL},
        {"kubeconfig", 0, KP_FLAG_STRING, &v.kubeconfig, "how to reach the API server; without it the kubelet stands alone", NULL},
        {"bootstrap-kubeconfig", 0, KP_FLAG_STRING, &v.bootstrap_kubeconfig, "used to get a client certificate when --kubeconfig does not exist", NULL},
        {"container-runtime-endpoint", 0, KP_FLAG_STRING, &v.runtime_endpoint, "CRI socket", NULL},
        {"node-ip", 0, KP_FLAG_STRING, &v.node_ip, "addresses of the node, separated by commas", NULL},
        {"hostname-override", 0, KP_FLAG_STRING, &v.hostname_override, "name of the node instead of the host name", NULL},
        {"node-labels", 0, KP_FLAG_STRING, &v.node_labels, "key=value,...", NULL},
        {"register-with-taints", 0, KP_FLAG_STRING, &v.taints, "key=value:Effect,...", NULL},
        {"register-node", 0, KP_FLAG_BOOL, &v.register_node, "make the node object", NULL},
        {"pod-manifest-path", 0, KP_FLAG_STRING, &v.pod_manifest_path, "folder of static pods", NULL},
        {"cluster-dns", 0, KP_FLAG_STRING, &v.cluster_dns, "addresses of the cluster DNS", NULL},
        {"cluster-domain", 0, KP_FLAG_STRING, &v.cluster_domain, "domain of the cluster", NULL},
        {"root-dir", 0, KP_FLAG_STRING, &v.root_dir, "where pods' volumes lie", NULL},
        {"client-ca-file", 0, KP_FLAG_STRING, &v.client_ca_file, "who signs the clients of this kubelet", NULL},
        {"tls-cert-file", 0, KP_FLAG_STRING, &v.tls_cert_file, "serving certificate", NULL},
        {"tls-private-key-file", 0, KP_FLAG_STRING, &v.tls_key_file, "its key", NULL},
        {"cert-dir", 0, KP_FLAG_STRING, &v.cert_dir, "where certificates are kept", NULL},
        {"rotate-server-certificates", 0, KP_FLAG_BOOL, &v.rotate_server_certificates, "get serving certificates from the cluster", NULL},
        {"cloud-provider", 0, KP_FLAG_STRING, &v.cloud_provider, "external: a cloud-controller-manager completes the node, which takes no pods before", NULL},
        {"provider-id", 0, KP_FLAG_STRING, &v.provider_id, "the machine's id at its provider", NULL},
        {"address", 0, KP_FLAG_STRING, &v.address, "address to serve on", NULL},
        {"port", 0, KP_FLAG_I64, &v.port, "port to serve on", NULL},
        {"healthz-port", 0, KP_FLAG_I64, &v.healthz_port, "port of /healthz on 127.0.0.1; 0: none", NULL},
        {"max-pods", 0, KP_FLAG_I64, &v.max_pods, "how many pods the node takes", NULL},
        {"resolv-conf", 0, KP_FLAG_STRING, &v.resolv_conf, "the node's resolver configuration", NULL},
        {"anonymous-auth", 0, KP_FLAG_BOOL, &v.anonymous_auth, "let requests without a certificate through to authorization", NULL},
        {"v", 'v', KP_FLAG_I64, &v.v, "verbosity of the log", NULL},
        {0},
    };
    set_defaults(config);
    int rc = eviction_settings_parse(NULL, false, &config->eviction_soft, &config->eviction_soft_grace, &config->eviction_reclaim, &config->eviction, error);
    if (rc < 0)
        return rc;
    rc = kp_flags_parse(flags, argc, argv, NULL, ret_help, error);
    if (rc == 0 && *ret_help) {
        kp_flags_print(flags, stdout);
        return 0;
    }
    if (rc == 0 && !kp_empty(v.config))
        rc = load_file(v.config, config, error);
    if (rc == 0)
        rc = apply_flags(&v, config, error);
    if (rc == 0)
        config->node_name = own_name(v.hostname_override, config->arena);
    return rc;
}

void kubelet_config_done(struct kubelet_config *config)
{
    kp_arena_free(config->arena);
    config->arena = NULL;
}
