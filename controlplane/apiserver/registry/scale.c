/* The scale subresource of Deployments, ReplicaSets, StatefulSets, ReplicationControllers and custom resources. */
#include "controlplane/apiserver/registry/registry_internal.h"

/* Where the kinds keep what a Scale shows. */
static int32_t *spec_replicas(const struct registry_kind *kind, void *obj, bool **ret_has)
{
#define REPLICAS(name)                                                                                                 \
    {                                                                                                                  \
        struct name *o = obj;                                                                                          \
        *ret_has = &o->spec->has_replicas;                                                                             \
        return &o->spec->replicas;                                                                                     \
    }
    if (strcmp(kind->resource, "deployments") == 0)
        REPLICAS(k8s_deployment)
    if (strcmp(kind->resource, "replicasets") == 0)
        REPLICAS(k8s_replica_set)
    if (strcmp(kind->resource, "statefulsets") == 0)
        REPLICAS(k8s_stateful_set)
    REPLICAS(k8s_replication_controller)
#undef REPLICAS
}

static const char *selector_text(const struct registry_kind *kind, const void *obj, struct kp_arena *arena)
{
    struct kp_selector selector = {0};
    KP_AUTO_BUF struct kp_buf text = {0};
    if (strcmp(kind->resource, "replicationcontrollers") == 0) {
        kp_label_selector_from_map(&((const struct k8s_replication_controller *)obj)->spec->selector, arena, &selector);
    } else {
        const struct kp_type *type = kind->storage->type;
        const struct k8s_label_selector *ls = registry_member(kp_field_find(type, "spec")->type, registry_member(type, obj, "spec"), "selector");
        if (kp_label_selector_from(ls, arena, &selector, NULL) < 0)
            return NULL;
    }
    kp_selector_print(&selector, &text);
    return kp_arena_strdup(arena, text.data ? text.data : "");
}

/* ---- custom resources: what the definition's paths lead to (apiextensions-apiserver registry/customresource/etcd.go) ------ */
/* The next name of a dotted path; NULL after the last. */
static const char *take_name(const char **path, struct kp_arena *arena)
{
    const char *from = *path;
    size_t len = from ? strcspn(from, ".") : 0;
    if (from)
        *path = from[len] ? from + len + 1 : NULL;
    return from ? kp_arena_strndup(arena, from, len) : NULL;
}

static int wrong_kind(const char *path, size_t len, const struct kp_value *value, const char *expected, struct kp_error *error)
{
    static const char *const types[] = {[KP_VALUE_NULL] = "<nil>",       [KP_VALUE_BOOL] = "bool",      [KP_VALUE_INT] = "int64",
                                        [KP_VALUE_DOUBLE] = "float64",   [KP_VALUE_STRING] = "string",  [KP_VALUE_ARRAY] = "[]interface {}",
                                        [KP_VALUE_OBJECT] = "map[string]interface {}"};
    KP_AUTO_BUF struct kp_buf text = {0};
    if (kp_value_str(value))
        kp_buf_puts(&text, kp_value_str(value));
    else if (value->kind == KP_VALUE_NULL)
        kp_buf_puts(&text, types[KP_VALUE_NULL]);
    else
        kp_value_print(value, &text);
    return kp_fail(error, KP_EINVALID, "%.*s accessor error: %s is of the type %s, expected %s", (int)len, path, text.data ? text.data : "",
                   types[value->kind], expected);
}

/* 1 and the value, 0 when there is none, or KP_EINVALID with upstream's words. path NULL: none. */
static int value_at(const struct kp_value *tree, const char *path, enum kp_value_kind kind, struct kp_arena *arena,
                    const struct kp_value **ret_value, struct kp_error *error)
{
    const char *at = path && *path == '.' ? path + 1 : path, *name;
    while ((name = take_name(&at, arena))) {
        if (tree->kind == KP_VALUE_NULL)
            return 0;
        if (tree->kind != KP_VALUE_OBJECT)
            return wrong_kind(path, at ? (size_t)(at - path) - 1 : strlen(path), tree, "map[string]interface{}", error);
        tree = kp_value_get(tree, name);
        if (!tree)
            return 0;
    }
    if (!path)
        return 0;
    if (tree->kind != kind)
        return wrong_kind(path, strlen(path), tree, kind == KP_VALUE_INT ? "int64" : "string", error);
    *ret_value = tree;
    return 1;
}

static int number_at(const struct kp_value *tree, const char *path, struct kp_arena *arena, int64_t *ret_number, struct kp_error *error)
{
    const struct kp_value *value = NULL;
    int has = value_at(tree, path, KP_VALUE_INT, arena, &value, error);
    *ret_number = has > 0 ? value->integer : 0;
    return has;
}

/* As registry_make_scale. */
static int read_paths(struct registry_request *rq, const void *obj, struct k8s_scale *scale)
{
    const struct registry_kind *kind = rq->kind;
    const struct kp_value *tree = kp_value_from_object(kind->storage->type, obj, rq->arena), *selector = NULL;
    struct kp_error error = {0};
    int64_t wanted, actual;
    int has = number_at(tree, kind->scale_spec_path, rq->arena, &wanted, &error);
    if (has < 0 || number_at(tree, kind->scale_status_path, rq->arena, &actual, &error) < 0 ||
        value_at(tree, kind->scale_selector_path, KP_VALUE_STRING, rq->arena, &selector, &error) < 0)
        return status_fail(rq->status, KP_EINTERNAL, 500, NULL, "%s", error.message);
    KP_SET(scale->spec, replicas, (int32_t)wanted);
    KP_SET(scale->status, replicas, (int32_t)actual);
    scale->status->selector = selector ? selector->string : "";
    return has;
}

static int write_path(struct registry_request *rq, int32_t replicas, void **obj)
{
    const struct kp_type *type = rq->kind->storage->type;
    const char *path = rq->kind->scale_spec_path, *at = *path == '.' ? path + 1 : path;
    struct kp_value *tree = kp_value_from_object(type, *obj, rq->arena), *parent = tree;
    struct kp_error error = {0};
    for (const char *name; (name = take_name(&at, rq->arena)) && at; parent = kp_value_get(parent, name)) {
        const struct kp_value *child = kp_value_get(parent, name);
        if (!child)
            kp_value_set(rq->arena, parent, name, kp_value_object(rq->arena));
        else if (child->kind != KP_VALUE_OBJECT)
            return status_fail(rq->status, KP_EINTERNAL, 500, NULL, "value cannot be set because %.*s is not a map[string]interface{}",
                               (int)(at - path) - 1, path);
    }
    kp_value_set(rq->arena, parent, strrchr(path, '.') ? strrchr(path, '.') + 1 : path, kp_value_int(rq->arena, replicas));
    return kp_value_to_object(type, tree, rq->arena, NULL, obj, &error) < 0 ? status_from_error(rq->status, &error) : 0;
}

static void validate_number(const struct kp_value *tree, const char *path, struct field_errors *errors)
{
    struct kp_error error = {0};
    int64_t number;
    if (number_at(tree, path, errors->arena, &number, &error) < 0)
        field_invalid_int(errors, number, kp_arena_strdup(errors->arena, error.message), "%s", path);
    else if (number < 0)
        field_invalid_int(errors, number, "should be a non-negative integer", "%s", path);
    else if (number > INT32_MAX)
        field_invalid_int(errors, number, "should be less than or equal to 2147483647", "%s", path);
}

void validate_scale_paths(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    const struct registry_kind *kind = rq->kind;
    if (!kind->scale_spec_path)
        return;
    const struct kp_value *tree = kp_value_from_object(kind->storage->type, obj, errors->arena), *selector;
    struct kp_error error = {0};
    validate_number(tree, kind->scale_spec_path, errors);
    validate_number(tree, kind->scale_status_path, errors);
    if (value_at(tree, kind->scale_selector_path, KP_VALUE_STRING, errors->arena, &selector, &error) < 0)
        field_invalid(errors, "", kp_arena_strdup(errors->arena, error.message), "%s", kind->scale_selector_path);
}

/* ---- reading and writing --------------------------------------------------------------------------------------------- */
int registry_make_scale(struct registry_request *rq, void *obj, struct k8s_scale **ret_scale)
{
    const struct registry_kind *kind = rq->kind;
    const struct kp_type *type = kind->storage->type;
    const struct k8s_object_meta *meta = kp_object_meta(type, obj);
    struct k8s_scale *scale = KP_OBJECT_NEW(rq->arena, k8s_scale);
    bool *has;
    scale->metadata->name = meta->name;
    scale->metadata->namespace = meta->namespace;
    scale->metadata->uid = meta->uid;
    scale->metadata->resource_version = meta->resource_version;
    scale->metadata->creation_timestamp = meta->creation_timestamp;
    *ret_scale = scale;
    if (kind->scale_spec_path)
        return read_paths(rq, obj, scale);
    KP_SET(scale->spec, replicas, *spec_replicas(kind, obj, &has));
    const char *status = wcache_field_value(type, obj, "status.replicas", rq->arena);
    int64_t replicas = 0;
    if (kp_parse_i64(status, &replicas) == 0)
        KP_SET(scale->status, replicas, (int32_t)replicas);
    scale->status->selector = selector_text(kind, obj, rq->arena);
    return 1;
}

int registry_scale_get(struct registry *registry, struct registry_request *rq, struct k8s_scale **ret_scale)
{
    KP_AUTO(wcache_object_unref) struct wcache_object *object = NULL;
    if (registry_get(registry, rq, NULL, &object) < 0)
        return rq->status->code;
    int has = registry_make_scale(rq, registry_decode(rq->kind, object, rq->arena), ret_scale);
    if (has == 0)
        return status_internal(rq->status, "the spec replicas field \"%s\" does not exist", rq->kind->scale_spec_path);
    return KP_MIN(has, 0);
}

struct scaling {
    registry_make_fn make;
    void *arg;
};

/* What a Scale says while its object says nothing, as upstream: whoever leaves it so has not said how many. */
#define REPLICAS_UNSET INT32_MIN

static int check_replicas(struct registry_request *rq, const struct k8s_scale *wanted)
{
    struct field_errors errors = {.arena = rq->arena};
    if (rq->kind->scale_spec_path && wanted->spec->replicas == REPLICAS_UNSET)
        return status_bad_request(rq->status, "the spec replicas field \"%s\" cannot be empty", rq->kind->scale_spec_path);
    if (wanted->spec->replicas >= 0)
        return 0;
    if (rq->kind->scale_spec_path) { /* upstream finds it in the object */
        field_invalid_int(&errors, wanted->spec->replicas, "should be a non-negative integer", "%s", rq->kind->scale_spec_path);
        return status_invalid(rq->status, rq_group(rq), rq->resource->kind, rq->name, &errors);
    }
    field_invalid_int(&errors, wanted->spec->replicas, "must be greater than or equal to 0", "spec.replicas");
    return status_invalid(rq->status, "autoscaling", "Scale", rq->name, &errors);
}

int registry_set_scale(struct registry_request *rq, const struct k8s_scale *wanted, void **obj)
{
    bool *has;
    if (rq->kind->scale_spec_path)
        return write_path(rq, wanted->spec->replicas, obj);
    int32_t *replicas = spec_replicas(rq->kind, *obj, &has);
    *replicas = wanted->spec->replicas;
    *has = true;
    return 0;
}

static int make_scaled(void *arg, struct registry_request *rq, const void *current, void **ret_new)
{
    struct scaling *scaling = arg;
    const struct kp_type *type = rq->kind->storage->type;
    void *obj = kp_object_clone(type, current, rq->arena);
    struct k8s_scale *before, *wanted = NULL;
    int said = registry_make_scale(rq, obj, &before);
    if (said < 0)
        return rq->status->code;
    if (!said)
        KP_SET(before->spec, replicas, REPLICAS_UNSET);
    if (scaling->make(scaling->arg, rq, before, (void **)&wanted) < 0 || check_replicas(rq, wanted) < 0)
        return rq->status->code;
    if (registry_set_scale(rq, wanted, &obj) < 0)
        return rq->status->code;
    if (!kp_empty(wanted->metadata->resource_version))
        kp_object_meta(type, obj)->resource_version = wanted->metadata->resource_version;
    *ret_new = obj;
    return 0;
}

int registry_scale_update(struct registry *registry, struct registry_request *rq, registry_make_fn make, void *arg, struct k8s_scale **ret_scale)
{
    struct scaling scaling = {make, arg};
    struct registry_update_options options = {.patch = true};
    KP_AUTO(wcache_object_unref) struct wcache_object *object = NULL;
    bool created;
    if (registry_update(registry, rq, &options, make_scaled, &scaling, &object, &created) < 0)
        return rq->status->code;
    return KP_MIN(registry_make_scale(rq, registry_decode(rq->kind, object, rq->arena), ret_scale), 0);
}
