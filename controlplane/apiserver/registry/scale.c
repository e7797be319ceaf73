/* The scale subresource of Deployments, ReplicaSets, StatefulSets and ReplicationControllers. */
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

static struct k8s_scale *make_scale(struct registry_request *rq, void *obj)
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
    KP_SET(scale->spec, replicas, *spec_replicas(kind, obj, &has));
    const char *status = wcache_field_value(type, obj, "status.replicas", rq->arena);
    int64_t replicas = 0;
    if (kp_parse_i64(status, &replicas) == 0)
        KP_SET(scale->status, replicas, (int32_t)replicas);
    scale->status->selector = selector_text(kind, obj, rq->arena);
    return scale;
}

int registry_scale_get(struct registry *registry, struct registry_request *rq, struct k8s_scale **ret_scale)
{
    KP_AUTO(wcache_object_unref) struct wcache_object *object = NULL;
    if (registry_get(registry, rq, NULL, &object) < 0)
        return rq->status->code;
    *ret_scale = make_scale(rq, registry_decode(rq->kind, object, rq->arena));
    return 0;
}

struct scaling {
    registry_make_fn make;
    void *arg;
};

static int make_scaled(void *arg, struct registry_request *rq, const void *current, void **ret_new)
{
    struct scaling *scaling = arg;
    const struct kp_type *type = rq->kind->storage->type;
    void *obj = kp_object_clone(type, current, rq->arena);
    struct k8s_scale *before = make_scale(rq, obj), *wanted = NULL;
    if (scaling->make(scaling->arg, rq, before, (void **)&wanted) < 0)
        return rq->status->code;
    if (wanted->spec->replicas < 0) {
        struct field_errors errors = {.arena = rq->arena};
        field_invalid_int(&errors, wanted->spec->replicas, "must be greater than or equal to 0", "spec.replicas");
        return status_invalid(rq->status, "autoscaling", "Scale", rq->name, &errors);
    }
    if (!kp_empty(wanted->metadata->resource_version))
        kp_object_meta(type, obj)->resource_version = wanted->metadata->resource_version;
    bool *has;
    int32_t *replicas = spec_replicas(rq->kind, obj, &has);
    *replicas = wanted->spec->replicas;
    *has = true;
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
    *ret_scale = make_scale(rq, registry_decode(rq->kind, object, rq->arena));
    return 0;
}
