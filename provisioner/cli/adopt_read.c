/* A cluster's config and keys, read off its machines. */
#include "provisioner/cli/adopt_internal.h"

#include "lib/audit/audit.h"
#include "provisioner/bootstrap/bootstrap.h"

const char *const adopt_paths[] = {
    ADOPT_PKI "ca.crt", ADOPT_PKI "ca.key", ADOPT_PKI "etcd/ca.crt", ADOPT_PKI "etcd/ca.key", ADOPT_PKI "front-proxy-ca.crt", ADOPT_PKI "front-proxy-ca.key",
    ADOPT_PKI "sa.key", ADOPT_ADMIN, ADOPT_MANIFESTS "kube-controller-manager.yaml", ADOPT_MANIFESTS "kube-apiserver.yaml", NULL,
};

int adopt_name(const struct cloud_machine_list *machines, struct kp_arena *arena, const char **ret, struct kp_error *error)
{
    const char *name = NULL;
    for (size_t i = 0; i < machines->len && !name; i++) {
        const char *text = machines->items[i].name, *end = NULL;
        for (const char *at = text; (at = strstr(at, "-cp-")); at++)
            end = at; /* the last: a cluster's name may have one too */
        if (kp_streq(machines->items[i].role, "control-plane") && end && end > text)
            name = kp_arena_strndup(arena, text, (size_t)(end - text));
    }
    if (!name)
        return kp_fail(error, KP_EINVALID, "none of its machines is a control plane: kprov gc removes what is left of it");
    const char *prefix = kp_arena_printf(arena, "%s-", name);
    for (size_t i = 0; i < machines->len; i++)
        if (!kp_starts_with(machines->items[i].name, prefix))
            return kp_fail(error, KP_EINVALID, "machine %s is not named after cluster %s: kprov did not make it", machines->items[i].name, name);
    *ret = name;
    return 0;
}

static struct config_pool *find_pool(struct config *config, const char *name)
{
    for (size_t i = 0; i < config->n_pools; i++)
        if (kp_streq(config->pools[i].name, name))
            return &config->pools[i];
    return NULL;
}

int adopt_config(const struct cloud_machine_list *machines, const char *name, const char *provider, struct kp_arena *arena, struct config *ret,
                 struct kp_error *error)
{
    config_default(name, 0, 0, arena, ret);
    ret->provider = provider;
    ret->pools = KP_NEW_ARRAY(arena, struct config_pool, CONFIG_POOLS_MAX);
    ret->n_pools = 0;
    for (size_t i = 0; i < machines->len; i++) {
        const struct cloud_machine *machine = &machines->items[i];
        const char *type = machine->machine_type ? machine->machine_type : "";
        if (kp_streq(machine->role, "control-plane")) {
            ret->control_plane.replicas++;
            ret->control_plane.machine = type;
            continue;
        }
        struct config_pool *pool = find_pool(ret, machine->pool);
        if (!pool && (ret->n_pools == CONFIG_POOLS_MAX || kp_empty(machine->pool)))
            return kp_fail(error, KP_EINVALID, "machine %s belongs to no pool: kprov gc removes what is half made", machine->name);
        if (!pool) {
            pool = &ret->pools[ret->n_pools++];
            *pool = (struct config_pool){.name = machine->pool, .machine = type};
        }
        pool->replicas++;
    }
    return 0;
}

int adopt_files(const char *text, struct kp_arena *arena, struct kp_string_map *ret, struct kp_error *error)
{
    for (const char *line = text; line && *line;) {
        const char *end = strchrnul(line, '\n'), *space = memchr(line, ' ', (size_t)(end - line));
        KP_AUTO_BUF struct kp_buf content = {0};
        if (!space || kp_base64_decode(&content, kp_arena_strndup(arena, space + 1, (size_t)(end - space - 1)), (size_t)(end - space - 1)) < 0)
            return kp_fail(error, KP_ECORRUPT, "the machine's answer is not understood");
        kp_string_map_set(arena, ret, kp_arena_strndup(arena, line, (size_t)(space - line)), kp_arena_strdup(arena, content.data ? content.data : ""));
        line = *end ? end + 1 : end;
    }
    for (const char *const *path = adopt_paths; *path; path++)
        if (kp_empty(kp_string_map_get(ret, *path)))
            return kp_fail(error, KP_ENOTFOUND, "the control plane has no %s", *path);
    return 0;
}

/* The value of "--name=VALUE" in a manifest or a command line, up to a quote or the line's end; NULL when it is not there. */
static const char *flag_of(const char *text, const char *name, struct kp_arena *arena)
{
    const char *prefix = kp_arena_printf(arena, "--%s=", name), *at = text ? strstr(text, prefix) : NULL;
    at = at ? at + strlen(prefix) : NULL;
    return at ? kp_arena_strndup(arena, at, strcspn(at, "\"\n")) : NULL;
}

int adopt_network(const struct kp_string_map *files, struct kp_arena *arena, struct config *config, struct kp_error *error)
{
    static const char issuer_prefix[] = "https://kubernetes.default.svc.";
    const char *manager = kp_string_map_get(files, ADOPT_MANIFESTS "kube-controller-manager.yaml");
    const char *server = kp_string_map_get(files, ADOPT_MANIFESTS "kube-apiserver.yaml");
    const char *pods = flag_of(manager, "cluster-cidr", arena), *services = flag_of(manager, "service-cluster-ip-range", arena);
    const char *issuer = flag_of(server, "service-account-issuer", arena);
    if (!pods || !services || !issuer || !kp_starts_with(issuer, issuer_prefix))
        return kp_fail(error, KP_ECORRUPT, "the control plane's manifests do not tell its networks");
    config->network.pod_cidr = pods;
    config->network.service_cidr = services;
    config->network.dns_domain = issuer + strlen(issuer_prefix);
    return 0;
}

int adopt_audit(const struct kp_string_map *files, struct kp_arena *arena, struct config *config, struct kp_error *error)
{
    KP_AUTO(audit_policy_free) struct audit_policy *policy = NULL;
    KP_AUTO_BUF struct kp_buf json = {0};
    const char *text = kp_string_map_get(files, BOOTSTRAP_AUDIT_POLICY);
    struct kp_value **documents;
    size_t n;
    if (kp_empty(text))
        return 0;
    if (audit_policy_parse(text, strlen(text), BOOTSTRAP_AUDIT_POLICY, &policy, error) < 0 || kp_yaml_parse(text, strlen(text), arena, &documents, &n, error) < 0)
        return KP_EINVALID;
    kp_value_print(documents[0], &json); /* it may have been edited there */
    config->audit_policy = kp_arena_strndup(arena, json.data, json.len);
    return 0;
}

static size_t count(const char *text, const char *word)
{
    size_t n = 0;
    for (const char *at = text; (at = strstr(at, word)); at++)
        n++;
    return n;
}

int adopt_pki(const struct kp_string_map *files, struct kp_arena *arena, struct pki **ret, struct kp_error *error)
{
    static const char *const parts[][2] = {
        {"ca.crt", "ca.crt"}, {"ca.key", "ca.key"}, {"etcd/ca.crt", "etcd-ca.crt"}, {"etcd/ca.key", "etcd-ca.key"},
        {"front-proxy-ca.crt", "front-proxy-ca.crt"}, {"front-proxy-ca.key", "front-proxy-ca.key"}, {"sa.key", "sa.key"},
    };
    struct kp_value *root = kp_value_object(arena);
    KP_AUTO_BUF struct kp_buf text = {0};
    for (size_t i = 0; i < KP_ARRAY_LEN(parts); i++) {
        const char *content = kp_string_map_get(files, kp_arena_printf(arena, ADOPT_PKI "%s", parts[i][0]));
        if (count(content, "-----BEGIN CERTIFICATE-----") > 1)
            return kp_fail(error, KP_ECONFLICT, "an authority of the cluster is being rotated (%s): the key to come was in the state that was lost", parts[i][0]);
        kp_value_set(arena, root, parts[i][1], kp_value_string(arena, content));
    }
    kp_value_print(root, &text);
    return pki_parse(text.data, text.len, ret, error);
}

static int add_label(char *pair, struct kp_arena *arena, struct config_pool *pool)
{
    char *equals = strchr(pair, '=');
    if (!equals)
        return KP_EINVALID;
    *equals = 0;
    if (!kp_streq(pair, "kprov.dev/pool"))
        kp_string_map_set(arena, &pool->labels, pair, equals + 1);
    return 0;
}

static int add_taint(char *text, struct config_pool *pool)
{
    char *equals = strchr(text, '='), *colon = strrchr(text, ':');
    if (!equals || !colon || colon < equals || pool->n_taints == CONFIG_TAINTS_MAX)
        return KP_EINVALID;
    *equals = *colon = 0;
    if (!kp_starts_with(text, "node.cloudprovider.kubernetes.io/"))
        pool->taints[pool->n_taints++] = (struct config_taint){.key = text, .value = equals + 1, .effect = colon + 1};
    return 0;
}

int adopt_pool(const char *command, struct kp_arena *arena, struct config_pool *pool, struct kp_error *error)
{
    char *labels = kp_arena_strdup(arena, flag_of(command, "node-labels", arena)), *taints = kp_arena_strdup(arena, flag_of(command, "register-with-taints", arena));
    int r = 0;
    for (char *word; r == 0 && labels && (word = strsep(&labels, ","));)
        r = *word ? add_label(word, arena, pool) : 0;
    for (char *word; r == 0 && taints && (word = strsep(&taints, ","));)
        r = *word ? add_taint(word, pool) : 0;
    return r < 0 ? kp_fail(error, KP_ECORRUPT, "the kubelet's labels or taints in pool %s are not understood", pool->name) : 0;
}

const char *adopt_server(const char *kubeconfig, struct kp_arena *arena)
{
    static const char key[] = "server: ";
    const char *at = kubeconfig ? strstr(kubeconfig, key) : NULL;
    at = at ? at + strlen(key) + strspn(at + strlen(key), "\"'") : NULL;
    return at ? kp_arena_strndup(arena, at, strcspn(at, "\"'\n ")) : NULL;
}
