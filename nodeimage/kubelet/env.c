/* The environment of a container: services, envFrom, env with references and $(VAR) expansion. */
#include <ctype.h>

#include "nodeimage/kubelet/pod_internal.h"

#define ENV_MAX 10000 /* variables of one container */

struct env_build {
    const struct kubelet_env_input *in;
    struct kp_arena *arena;
    struct cri_pairs pairs;
    size_t cap;
    struct kp_strmap *index; /* name -> position + 1 */
};

static int put(struct env_build *b, const char *name, const char *value, struct kp_error *error)
{
    size_t position = (size_t)(uintptr_t)kp_strmap_get(b->index, name);
    if (position > 0) {
        b->pairs.items[position - 1].value = value;
        return 0;
    }
    if (b->pairs.len == ENV_MAX)
        return kp_fail(error, KP_ETOOLARGE, "more than %d environment variables", ENV_MAX);
    if (b->pairs.len == b->cap) {
        size_t cap = b->cap ? b->cap * 2 : 64;
        struct cri_pair *items = KP_NEW_ARRAY(b->arena, struct cri_pair, cap);
        if (b->pairs.len > 0)
            memcpy(items, b->pairs.items, sizeof(*items) * b->pairs.len);
        b->pairs.items = items;
        b->cap = cap;
    }
    b->pairs.items[b->pairs.len++] = (struct cri_pair){.key = name, .value = value};
    kp_strmap_put(b->index, name, (void *)(uintptr_t)b->pairs.len);
    return 0;
}

static char *upper(struct kp_arena *arena, const char *s)
{
    char *out = kp_arena_strdup(arena, s);
    for (char *p = out; *p; p++)
        *p = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
    return out;
}

static int put_service(struct env_build *b, const struct k8s_service *service, struct kp_error *error)
{
    struct kp_arena *a = b->arena;
    const char *name = upper(a, service->metadata->name), *ip = service->spec->cluster_ip;
    int rc = put(b, kp_arena_printf(a, "%s_SERVICE_HOST", name), ip, error);
    const char *host = strchr(ip, ':') ? kp_arena_printf(a, "[%s]", ip) : ip;
    for (size_t i = 0; rc == 0 && i < service->spec->ports.len; i++) {
        const struct k8s_service_port *port = &service->spec->ports.items[i];
        const char *number = kp_arena_printf(a, "%d", port->port);
        const char *protocol = kp_empty(port->protocol) ? "TCP" : port->protocol;
        char *lower = kp_arena_strdup(a, protocol);
        for (char *p = lower; *p; p++)
            *p = (char)tolower((unsigned char)*p);
        const char *url = kp_arena_printf(a, "%s://%s:%s", lower, host, number);
        if (i == 0) {
            rc = put(b, kp_arena_printf(a, "%s_SERVICE_PORT", name), number, error);
            if (rc == 0)
                rc = put(b, kp_arena_printf(a, "%s_PORT", name), url, error);
        }
        if (rc == 0 && !kp_empty(port->name))
            rc = put(b, kp_arena_printf(a, "%s_SERVICE_PORT_%s", name, upper(a, port->name)), number, error);
        const char *prefix = kp_arena_printf(a, "%s_PORT_%s_%s", name, number, protocol);
        if (rc == 0)
            rc = put(b, prefix, url, error);
        if (rc == 0)
            rc = put(b, kp_arena_printf(a, "%s_PROTO", prefix), lower, error);
        if (rc == 0)
            rc = put(b, kp_arena_printf(a, "%s_PORT", prefix), number, error);
        if (rc == 0)
            rc = put(b, kp_arena_printf(a, "%s_ADDR", prefix), ip, error);
    }
    return rc;
}

static int put_services(struct env_build *b, struct kp_error *error)
{
    const struct k8s_pod_spec *spec = b->in->pod->spec;
    bool links = !spec->has_enable_service_links || spec->enable_service_links;
    for (size_t i = 0; i < b->in->n_services; i++) {
        const struct k8s_service *service = b->in->services[i];
        const char *ip = service->spec->cluster_ip;
        bool master = kp_streq(service->metadata->namespace, "default") && kp_streq(service->metadata->name, "kubernetes");
        bool own = kp_streq(service->metadata->namespace, b->in->pod->metadata->namespace);
        if (kp_empty(ip) || kp_streq(ip, "None") || !(master || (own && links)))
            continue;
        int rc = put_service(b, service, error);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static bool env_name_valid(const char *name)
{
    if (kp_empty(name))
        return false;
    for (const unsigned char *s = (const unsigned char *)name; *s; s++)
        if (*s == '=' || *s < 0x20 || *s > 0x7e)
            return false;
    return true;
}

static int put_config_map(struct env_build *b, const struct k8s_config_map_env_source *ref, const char *prefix,
                          struct kp_error *error)
{
    const struct k8s_config_map *map;
    int rc = b->in->getter->config_map(b->in->getter->arg, b->in->pod->metadata->namespace, ref->name, &map, error);
    if (rc == KP_ENOTFOUND && ref->has_optional && ref->optional)
        return 0;
    if (rc == KP_ENOTFOUND)
        return kp_fail(error, rc, "configmap \"%s\" not found", ref->name);
    for (size_t i = 0; rc == 0 && i < map->data.len; i++) {
        const char *name = kp_arena_printf(b->arena, "%s%s", prefix ? prefix : "", map->data.items[i].key);
        if (env_name_valid(name))
            rc = put(b, name, kp_arena_strdup(b->arena, map->data.items[i].value), error);
    }
    return rc;
}

static int put_secret(struct env_build *b, const struct k8s_secret_env_source *ref, const char *prefix, struct kp_error *error)
{
    const struct k8s_secret *secret;
    int rc = b->in->getter->secret(b->in->getter->arg, b->in->pod->metadata->namespace, ref->name, &secret, error);
    if (rc == KP_ENOTFOUND && ref->has_optional && ref->optional)
        return 0;
    if (rc == KP_ENOTFOUND)
        return kp_fail(error, rc, "secret \"%s\" not found", ref->name);
    for (size_t i = 0; rc == 0 && i < secret->data.len; i++) {
        const char *name = kp_arena_printf(b->arena, "%s%s", prefix ? prefix : "", secret->data.items[i].key);
        const struct kp_bytes *value = &secret->data.items[i].value;
        if (env_name_valid(name))
            rc = put(b, name, kp_arena_strndup(b->arena, (const char *)value->data, value->len), error);
    }
    return rc;
}

/* Fields of the status are known to the caller only. NULL: path is none of them. */
static const char *status_field(struct env_build *b, const char *path)
{
    const struct kubelet_env_input *in = b->in;
    const char *const *list = NULL;
    size_t n = 0;
    if (kp_streq(path, "status.podIP"))
        return in->pod_ip ? in->pod_ip : "";
    if (kp_streq(path, "status.hostIP"))
        return in->host_ip ? in->host_ip : "";
    if (kp_streq(path, "spec.nodeName"))
        return in->node_name ? in->node_name : "";
    if (kp_streq(path, "status.podIPs")) {
        list = in->pod_ips;
        n = in->n_pod_ips;
    } else if (kp_streq(path, "status.hostIPs")) {
        list = in->host_ips;
        n = in->n_host_ips;
    } else {
        return NULL;
    }
    KP_AUTO_BUF struct kp_buf out = {0};
    for (size_t i = 0; i < n; i++)
        kp_buf_printf(&out, "%s%s", i > 0 ? "," : "", list[i]);
    return kp_arena_strndup(b->arena, out.data ? out.data : "", out.len);
}

static int from_config_map(struct env_build *b, const struct k8s_config_map_key_selector *ref, const char **ret,
                           struct kp_error *error)
{
    const struct k8s_config_map *map;
    const char *ns = b->in->pod->metadata->namespace;
    bool optional = ref->has_optional && ref->optional;
    int rc = b->in->getter->config_map(b->in->getter->arg, ns, ref->name, &map, error);
    if (rc == KP_ENOTFOUND)
        return optional ? 0 : kp_fail(error, rc, "configmap \"%s\" not found", ref->name);
    if (rc < 0)
        return rc;
    const char *value = kp_string_map_get(&map->data, ref->key);
    if (!value)
        return optional ? 0 : kp_fail(error, KP_ENOTFOUND, "couldn't find key %s in ConfigMap %s/%s", ref->key, ns, ref->name);
    *ret = kp_arena_strdup(b->arena, value);
    return 0;
}

static int from_secret(struct env_build *b, const struct k8s_secret_key_selector *ref, const char **ret, struct kp_error *error)
{
    const struct k8s_secret *secret;
    const char *ns = b->in->pod->metadata->namespace;
    bool optional = ref->has_optional && ref->optional;
    int rc = b->in->getter->secret(b->in->getter->arg, ns, ref->name, &secret, error);
    if (rc == KP_ENOTFOUND)
        return optional ? 0 : kp_fail(error, rc, "secret \"%s\" not found", ref->name);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < secret->data.len; i++) {
        if (!kp_streq(secret->data.items[i].key, ref->key))
            continue;
        const struct kp_bytes *value = &secret->data.items[i].value;
        *ret = kp_arena_strndup(b->arena, value->data ? (const char *)value->data : "", value->len);
        return 0;
    }
    return optional ? 0 : kp_fail(error, KP_ENOTFOUND, "couldn't find key %s in Secret %s/%s", ref->key, ns, ref->name);
}

/* *ret stays NULL when the variable is to be left out. */
static int value_from(struct env_build *b, const struct k8s_env_var_source *source, const char **ret, struct kp_error *error)
{
    if (source->field_ref) {
        const char *path = source->field_ref->field_path;
        *ret = status_field(b, path);
        return *ret ? 0 : kubelet_field_value(b->in->pod, path, b->arena, ret, error);
    }
    if (source->resource_field_ref)
        return kubelet_resource_value(b->in->pod, b->in->container, source->resource_field_ref, b->in->allocatable, b->arena, ret,
                                      error);
    if (source->config_map_key_ref)
        return from_config_map(b, source->config_map_key_ref, ret, error);
    if (source->secret_key_ref)
        return from_secret(b, source->secret_key_ref, ret, error);
    return kp_fail(error, KP_EINVALID, "environment variable with an unknown source");
}

const char *kubelet_env_lookup(void *env, const char *name, size_t name_len)
{
    const struct cri_pairs *pairs = env;
    for (size_t i = 0; i < pairs->len; i++)
        if (strncmp(pairs->items[i].key, name, name_len) == 0 && pairs->items[i].key[name_len] == '\0')
            return pairs->items[i].value;
    return NULL;
}

static int put_all(struct env_build *b, struct kp_error *error)
{
    const struct k8s_container *c = b->in->container;
    int rc = put_services(b, error);
    for (size_t i = 0; rc == 0 && i < c->env_from.len; i++) {
        const struct k8s_env_from_source *from = &c->env_from.items[i];
        if (from->config_map_ref)
            rc = put_config_map(b, from->config_map_ref, from->prefix, error);
        else if (from->secret_ref)
            rc = put_secret(b, from->secret_ref, from->prefix, error);
    }
    for (size_t i = 0; rc == 0 && i < c->env.len; i++) {
        const struct k8s_env_var *var = &c->env.items[i];
        const char *value = NULL;
        if (var->value_from)
            rc = value_from(b, var->value_from, &value, error);
        else
            value = kubelet_expand(b->arena, var->value ? var->value : "", kubelet_env_lookup, &b->pairs);
        if (rc == 0 && value)
            rc = put(b, var->name, value, error);
    }
    return rc;
}

int kubelet_make_env(const struct kubelet_env_input *input, struct kp_arena *arena, struct cri_pairs *ret_env,
                     struct kp_error *error)
{
    struct env_build b = {.in = input, .arena = arena, .index = kp_strmap_new()};
    int rc = put_all(&b, error);
    kp_strmap_free(b.index, NULL);
    if (rc == 0)
        *ret_env = b.pairs;
    return rc;
}
