/* The files of configMap, secret, downwardAPI and projected volumes. */
#include "nodeimage/kubelet/volumes/volumes.h"

#define MODE_DEFAULT 0644
#define TOKEN_EXPIRATION_DEFAULT_S 3600

struct content {
    const struct volumes_context *context;
    const struct k8s_pod *pod;
    struct volumes_files *files;
    size_t cap;
};

static int put(struct content *c, const char *path, struct kp_bytes data, int32_t mode, int64_t uid, struct kp_error *error)
{
    if (!volumes_path_valid(path))
        return kp_fail(error, KP_EINVALID, "invalid path in volume: %s", path ? path : "");
    for (size_t i = 0; i < c->files->len; i++) {
        if (kp_streq(c->files->items[i].path, path)) { /* the later source wins */
            c->files->items[i] = (struct volumes_file){.path = path, .data = data, .mode = (uint32_t)mode, .uid = uid};
            return 0;
        }
    }
    if (c->files->len == VOLUMES_FILES_MAX)
        return kp_fail(error, KP_ETOOLARGE, "more than %d files in one volume", VOLUMES_FILES_MAX);
    if (c->files->len == c->cap) {
        size_t cap = c->cap ? c->cap * 2 : 16;
        struct volumes_file *items = KP_NEW_ARRAY(c->context->arena, struct volumes_file, cap);
        if (c->files->len > 0)
            memcpy(items, c->files->items, sizeof(*items) * c->files->len);
        c->files->items = items;
        c->cap = cap;
    }
    c->files->items[c->files->len++] = (struct volumes_file){.path = path, .data = data, .mode = (uint32_t)mode, .uid = uid};
    return 0;
}

static struct kp_bytes bytes_of(const char *s)
{
    return (struct kp_bytes){.data = (const uint8_t *)(s ? s : ""), .len = s ? strlen(s) : 0};
}

static const struct kp_bytes *bytes_get(const struct kp_bytes_map *map, const char *key)
{
    for (size_t i = 0; i < map->len; i++)
        if (kp_streq(map->items[i].key, key))
            return &map->items[i].value;
    return NULL;
}

/* What configMap, secret and their projections have in common. */
struct keyed_source {
    const char *what; /* "config" or "secret": for the message */
    const char *name;
    const struct k8s_key_to_path_items *items;
    bool optional;
    int32_t mode;
    const struct kp_string_map *text; /* may be NULL */
    const struct kp_bytes_map *binary;
};

static int put_keyed(struct content *c, const struct keyed_source *source, struct kp_error *error)
{
    int rc = 0;
    if (source->items->len == 0) {
        for (size_t i = 0; rc == 0 && source->text && i < source->text->len; i++)
            rc = put(c, source->text->items[i].key, bytes_of(source->text->items[i].value), source->mode, -1, error);
        for (size_t i = 0; rc == 0 && i < source->binary->len; i++)
            rc = put(c, source->binary->items[i].key, source->binary->items[i].value, source->mode, -1, error);
        return rc;
    }
    for (size_t i = 0; rc == 0 && i < source->items->len; i++) {
        const struct k8s_key_to_path *item = &source->items->items[i];
        const char *text = source->text ? kp_string_map_get(source->text, item->key) : NULL;
        const struct kp_bytes *binary = bytes_get(source->binary, item->key);
        int32_t mode = item->has_mode ? item->mode : source->mode;
        if (text)
            rc = put(c, item->path, bytes_of(text), mode, -1, error);
        else if (binary)
            rc = put(c, item->path, *binary, mode, -1, error);
        else if (!source->optional)
            rc = kp_fail(error, KP_ENOTFOUND, "references non-existent %s key: %s", source->what, item->key);
    }
    return rc;
}

static int put_config_map(struct content *c, const char *name, const struct k8s_key_to_path_items *items, bool optional,
                          int32_t mode, struct kp_error *error)
{
    const struct k8s_config_map *map;
    const char *ns = c->pod->metadata->namespace;
    int rc = c->context->getter->config_map(c->context->getter->arg, ns, name, &map, error);
    if (rc == KP_ENOTFOUND && optional)
        return 0;
    if (rc == KP_ENOTFOUND)
        return kp_fail(error, rc, "configmap \"%s\" not found", name);
    if (rc < 0)
        return rc;
    struct keyed_source source = {.what = "config", .name = name, .items = items, .optional = optional, .mode = mode,
                                  .text = &map->data, .binary = &map->binary_data};
    return put_keyed(c, &source, error);
}

static int put_secret(struct content *c, const char *name, const struct k8s_key_to_path_items *items, bool optional,
                      int32_t mode, struct kp_error *error)
{
    const struct k8s_secret *secret;
    const char *ns = c->pod->metadata->namespace;
    int rc = c->context->getter->secret(c->context->getter->arg, ns, name, &secret, error);
    if (rc == KP_ENOTFOUND && optional)
        return 0;
    if (rc == KP_ENOTFOUND)
        return kp_fail(error, rc, "secret \"%s\" not found", name);
    if (rc < 0)
        return rc;
    struct keyed_source source = {.what = "secret", .name = name, .items = items, .optional = optional, .mode = mode,
                                  .binary = &secret->data};
    return put_keyed(c, &source, error);
}

static int put_downward(struct content *c, const struct k8s_downward_api_volume_file_items *items, int32_t mode,
                        struct kp_error *error)
{
    for (size_t i = 0; i < items->len; i++) {
        const struct k8s_downward_api_volume_file *item = &items->items[i];
        const char *value = "";
        int rc = 0;
        if (item->field_ref)
            rc = kubelet_field_value(c->pod, item->field_ref->field_path, c->context->arena, &value, error);
        else if (item->resource_field_ref)
            rc = kubelet_resource_value(c->pod, NULL, item->resource_field_ref, c->context->allocatable, c->context->arena,
                                        &value, error);
        if (rc == 0)
            rc = put(c, item->path, bytes_of(value), item->has_mode ? item->mode : mode, -1, error);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* The one user all containers run as, or -1: then a token may belong to that user alone. */
static int64_t common_user(const struct k8s_pod *pod)
{
    const struct k8s_pod_security_context *context = pod->spec->security_context;
    int64_t user = -1;
    for (size_t i = 0; i < pod->spec->containers.len; i++) {
        const struct k8s_security_context *own = pod->spec->containers.items[i].security_context;
        int64_t one = own && own->has_run_as_user                 ? own->run_as_user
                      : context && context->has_run_as_user ? context->run_as_user
                                                                  : -1;
        if (one < 0 || (i > 0 && one != user))
            return -1;
        user = one;
    }
    return user;
}

static int put_token(struct content *c, const struct k8s_service_account_token_projection *projection, int32_t mode,
                     struct kp_error *error)
{
    const char *token;
    int64_t expiration = projection->has_expiration_seconds ? projection->expiration_seconds : TOKEN_EXPIRATION_DEFAULT_S;
    int rc = c->context->getter->token(c->context->getter->arg, c->pod, projection->audience, expiration, &token, error);
    if (rc < 0)
        return rc;
    const struct k8s_pod_security_context *context = c->pod->spec->security_context;
    int64_t user = common_user(c->pod);
    if (user >= 0 || (context && context->has_fs_group))
        mode = 0600;
    return put(c, projection->path, bytes_of(token), mode, user, error);
}

static int put_projected(struct content *c, const struct k8s_projected_volume_source *projected, struct kp_error *error)
{
    int32_t mode = projected->has_default_mode ? projected->default_mode : MODE_DEFAULT;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < projected->sources.len; i++) {
        const struct k8s_volume_projection *source = &projected->sources.items[i];
        if (source->config_map)
            rc = put_config_map(c, source->config_map->name, &source->config_map->items,
                                source->config_map->has_optional && source->config_map->optional, mode, error);
        else if (source->secret)
            rc = put_secret(c, source->secret->name, &source->secret->items,
                            source->secret->has_optional && source->secret->optional, mode, error);
        else if (source->downward_api)
            rc = put_downward(c, &source->downward_api->items, mode, error);
        else if (source->service_account_token)
            rc = put_token(c, source->service_account_token, mode, error);
        else
            rc = kp_fail(error, KP_ENOTSUPPORTED, "projected volume source %zu is of a kind this node does not support", i);
    }
    return rc;
}

int volumes_content(const struct volumes_context *context, const struct k8s_pod *pod, const struct k8s_volume *volume,
                    struct volumes_files *ret_files, struct kp_error *error)
{
    *ret_files = (struct volumes_files){0};
    struct content c = {.context = context, .pod = pod, .files = ret_files};
    int rc;
    if (volume->config_map)
        rc = put_config_map(&c, volume->config_map->name, &volume->config_map->items,
                            volume->config_map->has_optional && volume->config_map->optional,
                            volume->config_map->has_default_mode ? volume->config_map->default_mode : MODE_DEFAULT, error);
    else if (volume->secret)
        rc = put_secret(&c, volume->secret->secret_name, &volume->secret->items,
                        volume->secret->has_optional && volume->secret->optional,
                        volume->secret->has_default_mode ? volume->secret->default_mode : MODE_DEFAULT, error);
    else if (volume->downward_api)
        rc = put_downward(&c, &volume->downward_api->items,
                          volume->downward_api->has_default_mode ? volume->downward_api->default_mode : MODE_DEFAULT, error);
    else if (volume->projected)
        rc = put_projected(&c, volume->projected, error);
    else
        rc = kp_fail(error, KP_EINTERNAL, "volume %s has no files of its own", volume->name);
    const struct k8s_pod_security_context *security = pod->spec->security_context;
    if (rc == 0 && security && security->has_fs_group)
        for (size_t i = 0; i < ret_files->len; i++)
            ret_files->items[i].mode |= 0440; /* the group the volume belongs to may read */
    return rc;
}
