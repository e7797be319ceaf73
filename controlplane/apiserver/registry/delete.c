/* Deletes: preconditions, grace, finalizers and propagation; one object or a collection. */
#include "controlplane/apiserver/registry/registry_internal.h"

#define DELETE_ATTEMPTS_MAX 30
#define FINALIZER_ORPHAN "orphan"
#define FINALIZER_FOREGROUND "foregroundDeletion"

struct deletion {
    struct registry *registry;
    struct registry_request *rq;
    const struct k8s_delete_options *options;
    struct wcache_object *current; /* owned */
    void *old, *obj;               /* obj: what it becomes when it does not go at once */
};

static int check_options(struct deletion *del)
{
    const struct k8s_delete_options *options = del->options;
    struct field_errors errors = {.arena = del->rq->arena};
    const char *policy = options->propagation_policy;
    static const char *const policies[] = {"Background", "Foreground", "Orphan", NULL};
    if (policy && options->has_orphan_dependents)
        field_invalid(&errors, policy, "orphanDependents and deletionPropagation cannot be both set", "propagationPolicy");
    if (policy && strcmp(policy, "Background") != 0 && strcmp(policy, "Foreground") != 0 && strcmp(policy, "Orphan") != 0)
        field_not_supported(&errors, policy, policies, "propagationPolicy");
    return status_invalid(del->rq->status, "", "DeleteOptions", "", &errors);
}

static int check_preconditions(struct deletion *del)
{
    const struct k8s_preconditions *pre = del->options->preconditions;
    struct registry_request *rq = del->rq;
    const struct k8s_object_meta *meta = kp_object_meta(rq->kind->storage->type, del->old);
    if (pre && pre->uid && strcmp(pre->uid, meta->uid) != 0)
        return status_conflict(rq->status, rq_group(rq), rq_resource(rq), rq->name,
                               kp_arena_printf(rq->arena, "the UID in the precondition (%s) does not match the UID in record (%s). The object might have been deleted and then recreated",
                                               pre->uid, meta->uid));
    if (pre && pre->resource_version && strcmp(pre->resource_version, meta->resource_version) != 0)
        return status_conflict(rq->status, rq_group(rq), rq_resource(rq), rq->name,
                               kp_arena_printf(rq->arena, "the ResourceVersion in the precondition (%s) does not match the ResourceVersion in record (%s). The object might have been modified",
                                               pre->resource_version, meta->resource_version));
    return 0;
}

static void set_finalizer(struct deletion *del, const char *finalizer, bool wanted)
{
    struct k8s_object_meta *meta = kp_object_meta(del->rq->kind->storage->type, del->obj);
    struct kp_string_list kept = {0};
    for (size_t i = 0; i < meta->finalizers.len; i++)
        if (strcmp(meta->finalizers.items[i], finalizer) != 0)
            kp_string_list_add(del->rq->arena, &kept, meta->finalizers.items[i]);
    if (wanted)
        kp_string_list_add(del->rq->arena, &kept, finalizer);
    meta->finalizers = kept;
}

/* Which of the two garbage-collection finalizers the object shall carry. */
static void apply_propagation(struct deletion *del)
{
    const struct k8s_delete_options *options = del->options;
    const struct k8s_object_meta *meta = kp_object_meta(del->rq->kind->storage->type, del->obj);
    bool orphan, foreground;
    if (options->has_orphan_dependents) {
        orphan = options->orphan_dependents;
        foreground = false;
    } else if (options->propagation_policy) {
        orphan = strcmp(options->propagation_policy, "Orphan") == 0;
        foreground = strcmp(options->propagation_policy, "Foreground") == 0;
    } else if (kp_string_list_has(&meta->finalizers, FINALIZER_ORPHAN) || kp_string_list_has(&meta->finalizers, FINALIZER_FOREGROUND)) {
        return;
    } else {
        orphan = del->rq->kind->flags & KIND_ORPHANS;
        foreground = false;
    }
    if (orphan != kp_string_list_has(&meta->finalizers, FINALIZER_ORPHAN))
        set_finalizer(del, FINALIZER_ORPHAN, orphan);
    if (foreground != kp_string_list_has(&meta->finalizers, FINALIZER_FOREGROUND))
        set_finalizer(del, FINALIZER_FOREGROUND, foreground);
}

/* Marks obj as being deleted; true when it may go now as far as grace is concerned. */
static bool apply_grace(struct deletion *del)
{
    const struct registry_kind *kind = del->rq->kind;
    struct k8s_object_meta *meta = kp_object_meta(kind->storage->type, del->obj);
    int64_t asked = del->options->has_grace_period_seconds ? KP_MAX((int64_t)-1, del->options->grace_period_seconds) : -1;
    if (del->options->has_grace_period_seconds && asked < 0)
        asked = 1;
    if (!kind->grace_s)
        return true;
    int64_t grace = kind->grace_s(del->old, asked);
    if (meta->deletion_timestamp.set) {
        int64_t before = meta->has_deletion_grace_period_seconds ? meta->deletion_grace_period_seconds : 0;
        if (before == 0)
            return true;
        if (asked < 0 || grace >= before)
            return false; /* a delete may only shorten what is running */
        meta->deletion_timestamp = KP_TIME_OF(meta->deletion_timestamp.seconds - before + grace);
        KP_SET(meta, deletion_grace_period_seconds, grace);
        return grace == 0;
    }
    if (grace == 0)
        return true;
    meta->deletion_timestamp = KP_TIME_OF(del->rq->now_s + grace);
    KP_SET(meta, deletion_grace_period_seconds, grace);
    if (meta->generation > 0)
        meta->generation++;
    return false;
}

static void mark_deleting(struct deletion *del)
{
    struct k8s_object_meta *meta = kp_object_meta(del->rq->kind->storage->type, del->obj);
    if (!meta->deletion_timestamp.set) {
        meta->deletion_timestamp = KP_TIME_OF(del->rq->now_s);
        if (meta->generation > 0)
            meta->generation++;
    }
    KP_SET(meta, deletion_grace_period_seconds, 0);
}

static bool namespace_has_finalizers(struct deletion *del)
{
    if (strcmp(del->rq->kind->resource, "namespaces") != 0)
        return false;
    struct k8s_namespace *ns = del->obj;
    ns->status->phase = "Terminating";
    return ns->spec->finalizers.len > 0;
}

static struct kp_raw encode_options(const struct deletion *del)
{
    KP_AUTO_BUF struct kp_buf json = {0};
    if (!del->options)
        return (struct kp_raw){0};
    kp_json_encode(&k8s_delete_options_type, del->options, &json);
    return (struct kp_raw){kp_arena_strndup(del->rq->arena, json.data, json.len), json.len};
}

/* KP_ECONFLICT without a status: somebody was faster. */
static int attempt(struct deletion *del, struct wcache_object **ret_object, bool *ret_gone)
{
    struct registry_request *rq = del->rq;
    const struct kp_type *type = rq->kind->storage->type;
    struct admission_attributes attributes;
    del->old = registry_decode(rq->kind, del->current, rq->arena);
    del->obj = kp_object_clone(type, del->old, rq->arena);
    if (check_preconditions(del) < 0)
        return rq->status->code;
    registry_admission_attributes(rq, ADMISSION_DELETE, NULL, del->old, &attributes);
    attributes.delete_options = encode_options(del);
    if (del->registry->admission && (admission_mutate(del->registry->admission, &attributes, rq->status) < 0 ||
                                     admission_validate(del->registry->admission, &attributes, rq->status) < 0))
        return rq->status->code;
    apply_propagation(del);
    const struct k8s_object_meta *meta = kp_object_meta(type, del->obj);
    if (rq->kind->prepare_delete && !meta->deletion_timestamp.set)
        rq->kind->prepare_delete(rq, del->obj);
    bool go = apply_grace(del);
    bool held = meta->finalizers.len > 0;
    if (go && namespace_has_finalizers(del))
        held = true;
    if (go && !held) {
        int64_t revision;
        int code = registry_commit_delete(del->registry, rq, del->old, del->current->revision, del->current->key, &revision);
        *ret_gone = true;
        if (code == 0)
            *ret_object = wcache_object_new(&rq->kind->cache_kind, del->current->key, del->obj, revision);
        return code;
    }
    if (go)
        mark_deleting(del);
    *ret_gone = false;
    if (kp_object_equal(type, del->old, del->obj)) {
        *ret_object = wcache_object_ref(del->current);
        return 0;
    }
    return registry_commit(del->registry, rq, del->obj, del->old, del->current->revision, del->current->key, ret_object);
}

int registry_delete(struct registry *registry, struct registry_request *rq, const struct k8s_delete_options *options,
                    struct wcache_object **ret_object, bool *ret_gone, bool *ret_as_status)
{
    struct deletion del = {.registry = registry, .rq = rq, .options = options};
    *ret_object = NULL;
    if (check_options(&del) < 0)
        return rq->status->code;
    for (int i = 0; i < DELETE_ATTEMPTS_MAX; i++) {
        if (registry_read_current(registry, rq, true, &del.current) < 0)
            return rq->status->code;
        if (!del.current)
            return registry_not_found(rq);
        int code = attempt(&del, ret_object, ret_gone);
        wcache_object_unref(KP_TAKE(del.current));
        if (code == KP_ECONFLICT && !rq->status->code)
            continue;
        *ret_as_status = *ret_gone && !(rq->kind->flags & KIND_RETURNS_DELETED);
        return code;
    }
    return status_conflict(rq->status, rq_group(rq), rq_resource(rq), rq->name, NULL);
}

int registry_delete_collection(struct registry *registry, struct registry_request *rq, const struct registry_list_options *list,
                               const struct k8s_delete_options *options, struct registry_list *ret_list)
{
    if (registry_list(registry, rq, list, ret_list) < 0)
        return rq->status->code;
    const char *ns = rq->ns;
    for (size_t i = 0; i < ret_list->objects.len; i++) {
        struct wcache_object *object = NULL;
        bool gone, as_status;
        rq->name = ret_list->objects.items[i]->name;
        rq->ns = ret_list->objects.items[i]->ns;
        int code = registry_delete(registry, rq, options, &object, &gone, &as_status);
        wcache_object_unref(object);
        if (code == KP_ENOTFOUND)
            *rq->status = API_STATUS(rq->arena);
        else if (code < 0)
            break;
    }
    rq->name = "";
    rq->ns = ns;
    if (rq->status->code)
        wcache_list_done(&ret_list->objects);
    return rq->status->code;
}
