/* Values of downward API field paths and resource references. Pure. */
#include "nodeimage/kubelet/pod_internal.h"

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct kp_string_pair *)a)->key, ((const struct kp_string_pair *)b)->key);
}

/* One line a pair, key="value" with Go's quoting, sorted. */
static char *format_map(const struct kp_string_map *map, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    struct kp_string_pair *sorted = kp_arena_memdup(arena, map->items ? map->items : (void *)"", sizeof(*sorted) * map->len);
    qsort(sorted, map->len, sizeof(*sorted), by_key);
    for (size_t i = 0; i < map->len; i++) {
        kp_buf_printf(&out, "%s%s=\"", i > 0 ? "\n" : "", sorted[i].key);
        for (const unsigned char *s = (const unsigned char *)sorted[i].value; s && *s; s++) {
            if (*s == '"' || *s == '\\')
                kp_buf_printf(&out, "\\%c", *s);
            else if (*s == '\n')
                kp_buf_puts(&out, "\\n");
            else if (*s == '\t')
                kp_buf_puts(&out, "\\t");
            else if (*s == '\r')
                kp_buf_puts(&out, "\\r");
            else if (*s < 0x20 || *s == 0x7f)
                kp_buf_printf(&out, "\\x%02x", *s);
            else
                kp_buf_putc(&out, (char)*s);
        }
        kp_buf_putc(&out, '"');
    }
    return kp_arena_strndup(arena, out.data ? out.data : "", out.len);
}

/* metadata.labels['key'] or metadata.annotations['key']: the key in arena, or NULL when path is no such thing. */
static const char *subscript(const char *path, const char *prefix, struct kp_arena *arena)
{
    size_t len = strlen(path), prefix_len = strlen(prefix);
    if (!kp_starts_with(path, prefix) || len < prefix_len + 4)
        return NULL;
    if (strncmp(path + prefix_len, "['", 2) != 0 || !kp_ends_with(path, "']"))
        return NULL;
    return kp_arena_strndup(arena, path + prefix_len + 2, len - prefix_len - 4);
}

int kubelet_field_value(const struct k8s_pod *pod, const char *path, struct kp_arena *arena, const char **ret_value,
                        struct kp_error *error)
{
    const char *value = NULL, *key;
    if (kp_streq(path, "metadata.name"))
        value = pod->metadata->name;
    else if (kp_streq(path, "metadata.namespace"))
        value = pod->metadata->namespace;
    else if (kp_streq(path, "metadata.uid"))
        value = pod->metadata->uid;
    else if (kp_streq(path, "metadata.labels"))
        value = format_map(&pod->metadata->labels, arena);
    else if (kp_streq(path, "metadata.annotations"))
        value = format_map(&pod->metadata->annotations, arena);
    else if (kp_streq(path, "spec.nodeName"))
        value = pod->spec->node_name;
    else if (kp_streq(path, "spec.serviceAccountName"))
        value = pod->spec->service_account_name;
    else if ((key = subscript(path, "metadata.labels", arena)) != NULL)
        value = kp_string_map_get(&pod->metadata->labels, key);
    else if ((key = subscript(path, "metadata.annotations", arena)) != NULL)
        value = kp_string_map_get(&pod->metadata->annotations, key);
    else
        return kp_fail(error, KP_EINVALID, "unsupported fieldPath: %s", path ? path : "");
    *ret_value = value ? kp_arena_strdup(arena, value) : "";
    return 0;
}

static const struct k8s_container *container_by_name(const struct k8s_pod *pod, const char *name)
{
    for (size_t i = 0; i < pod->spec->containers.len; i++)
        if (kp_streq(pod->spec->containers.items[i].name, name))
            return &pod->spec->containers.items[i];
    for (size_t i = 0; i < pod->spec->init_containers.len; i++)
        if (kp_streq(pod->spec->init_containers.items[i].name, name))
            return &pod->spec->init_containers.items[i];
    return NULL;
}

int kubelet_resource_value(const struct k8s_pod *pod, const struct k8s_container *self,
                           const struct k8s_resource_field_selector *selector, const struct kp_string_map *allocatable,
                           struct kp_arena *arena, const char **ret_value, struct kp_error *error)
{
    const struct k8s_container *c = kp_empty(selector->container_name) ? self : container_by_name(pod, selector->container_name);
    if (!c)
        return kp_fail(error, KP_EINVALID, "container %s not found", selector->container_name ? selector->container_name : "");
    const char *resource = selector->resource ? selector->resource : "";
    bool limit = kp_starts_with(resource, "limits.");
    if (!limit && !kp_starts_with(resource, "requests."))
        return kp_fail(error, KP_EINVALID, "unsupported container resource : %s", resource);
    const char *name = strchr(resource, '.') + 1;
    const char *amount = NULL;
    if (c->resources)
        amount = kp_string_map_get(limit ? &c->resources->limits : &c->resources->requests, name);
    /* Without a limit the whole node is the limit; a request that is missing follows the limit. */
    if (!amount && !limit && c->resources)
        amount = kp_string_map_get(&c->resources->limits, name);
    if (!amount && limit && allocatable)
        amount = kp_string_map_get(allocatable, name);
    struct kp_quantity divisor = kp_quantity_of(selector->divisor);
    int64_t milli_divisor = kp_quantity_milli_value(&divisor);
    if (milli_divisor == 0)
        milli_divisor = 1000;
    int64_t value;
    if (kp_streq(name, "cpu")) {
        int64_t milli = kp_quantity_str_milli(amount);
        value = (milli + milli_divisor - 1) / milli_divisor;
    } else {
        int64_t divide_by = KP_MAX(milli_divisor / 1000, 1);
        int64_t bytes = kp_quantity_str_value(amount);
        value = bytes / divide_by + (bytes % divide_by != 0);
    }
    *ret_value = kp_arena_printf(arena, "%lld", (long long)value);
    return 0;
}
