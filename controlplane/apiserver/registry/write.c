/* Creates and updates: defaults, admission, strategy, validation, one optimistic transaction. */
#include "controlplane/apiserver/registry/registry_internal.h"

#include "controlplane/apiserver/patch/patch.h"

#define UPDATE_ATTEMPTS_MAX 30
#define GENERATE_NAME_ATTEMPTS_MAX 8

void write_add(struct registry_write *write, const char *key, int64_t expect, const void *value, size_t len)
{
    KP_ASSERT(write->count < STORE_OPS_MAX);
    write->ops[write->count++] = (struct store_op){.key = key, .expect = expect, .value = value, .len = len};
}

void registry_admission_attributes(struct registry_request *rq, enum admission_operation operation, void *obj, const void *old,
                                   struct admission_attributes *ret)
{
    *ret = (struct admission_attributes){.operation = operation,
                                         .resource = rq->resource,
                                         .subresource = rq->subresource,
                                         .type = rq->kind ? rq->kind->storage->type : rq->resource->type,
                                         .ns = rq->ns,
                                         .name = rq->name,
                                         .user = rq->user,
                                         .object = obj,
                                         .old_object = old,
                                         .dry_run = rq->dry_run,
                                         .own = rq->own,
                                         .field_manager = rq->field_manager,
                                         .audit = rq->audit,
                                         .arena = rq->arena,
                                         .warnings = &rq->warnings,
                                         .request = rq->kind ? rq : NULL};
}

/* What is stored: JSON without a resourceVersion, which the key's revision tells. */
static void encode_stored(const struct kp_type *type, void *obj, struct kp_buf *out)
{
    struct k8s_object_meta *meta = kp_object_meta(type, obj);
    const char *version = meta->resource_version;
    meta->resource_version = NULL;
    kp_json_encode(type, obj, out);
    meta->resource_version = version;
}

static bool fits(const struct registry_batch *batch, const struct registry_write *write)
{
    return batch && batch->count + write->count <= STORE_OPS_MAX;
}

static void add_to_batch(struct registry_batch *batch, const struct registry_write *write, struct kp_arena *arena)
{
    for (size_t i = 0; i < write->count; i++) {
        struct store_op *op = &batch->ops[batch->count++];
        *op = write->ops[i];
        op->value = op->value ? kp_arena_memdup(arena, op->value, op->len) : NULL;
    }
}

int registry_batch_commit(struct registry *registry, struct registry_batch *batch, struct kp_arena *arena, struct kp_error *error)
{
    int64_t revision;
    struct store_kv current[STORE_OPS_MAX];
    return batch->count ? store_commit(registry->store, batch->ops, batch->count, arena, &revision, current, error) : 0;
}

int registry_commit(struct registry *registry, struct registry_request *rq, void *obj, const void *old, int64_t expect,
                    const char *cache_key, struct wcache_object **ret_object)
{
    struct kp_error error = {0};
    KP_AUTO_BUF struct kp_buf json = {0};
    struct registry_write write = {.registry = registry, .rq = rq};
    int64_t lease = 0, revision = expect;
    if ((rq->kind->flags & KIND_EXPIRES) && !rq->dry_run && store_lease(registry->store, registry->event_ttl_s, &lease, &error) < 0)
        return registry_store_failed(rq, &error);
    for (;; write.attempt++) {
        write.count = 0;
        write_add(&write, registry_store_key(rq->kind, cache_key, rq->arena), expect, NULL, 0);
        if (rq->kind->reserve && rq->kind->reserve(&write, obj, old) < 0)
            return rq->status->code;
        json.len = 0;
        encode_stored(rq->kind->storage->type, obj, &json);
        write.ops[0].value = json.data;
        write.ops[0].len = json.len;
        write.ops[0].lease = lease;
        if (rq->dry_run)
            break;
        if (fits(rq->batch, &write)) {
            add_to_batch(rq->batch, &write, rq->arena);
            break;
        }
        struct store_kv current[STORE_OPS_MAX];
        int code = store_commit(registry->store, write.ops, write.count, rq->arena, &revision, current, &error);
        if (code == 0)
            break;
        if (code != KP_ECONFLICT)
            return registry_store_failed(rq, &error);
        if (current[0].mod_revision != expect)
            return KP_ECONFLICT;
        if (write.attempt == RESERVE_ATTEMPTS_MAX) /* only what reserve adds can have failed */
            return status_internal(rq->status, "no free address or port was found in %d attempts", RESERVE_ATTEMPTS_MAX);
    }
    *ret_object = wcache_object_new(&rq->kind->cache_kind, cache_key, obj, revision);
    return 0;
}

int registry_commit_delete(struct registry *registry, struct registry_request *rq, const void *old, int64_t expect, const char *cache_key,
                           int64_t *ret_revision)
{
    struct kp_error error = {0};
    struct registry_write write = {.registry = registry, .rq = rq};
    *ret_revision = expect;
    write_add(&write, registry_store_key(rq->kind, cache_key, rq->arena), expect, NULL, 0);
    if (rq->kind->reserve && rq->kind->reserve(&write, NULL, old) < 0)
        return rq->status->code;
    if (rq->dry_run)
        return 0;
    int code = store_commit(registry->store, write.ops, write.count, rq->arena, ret_revision, NULL, &error);
    return code == KP_ECONFLICT || code == 0 ? code : registry_store_failed(rq, &error);
}

/* ---- create --------------------------------------------------------------------------------------------------------- */
static int validate_new(struct registry_request *rq, const void *obj)
{
    struct field_errors errors = {.arena = rq->arena};
    registry_validate_meta(rq, obj, &errors);
    if (rq->kind->validate)
        rq->kind->validate(rq, obj, &errors);
    if (rq->kind->validate_create)
        rq->kind->validate_create(rq, obj, &errors);
    validate_schema(rq->kind->storage->type, obj, &errors);
    const struct k8s_object_meta *meta = kp_object_meta(rq->kind->storage->type, obj);
    return status_invalid(rq->status, rq_group(rq), rq->resource->kind, meta->name, &errors);
}

static int create_prepared(struct registry *registry, struct registry_request *rq, void *obj, struct wcache_object **ret_object)
{
    const struct kp_type *type = rq->kind->storage->type;
    struct k8s_object_meta *meta = kp_object_meta(type, obj);
    struct admission_attributes attributes;
    registry_meta_create(rq, obj);
    if (rq->kind->prepare_create)
        rq->kind->prepare_create(rq, obj);
    bool generated = kp_empty(meta->name) && !kp_empty(meta->generate_name);
    for (int attempt = 0;; attempt++) {
        if (generated)
            registry_generate_name(rq, obj);
        if (validate_new(rq, obj) < 0)
            return rq->status->code;
        rq->name = meta->name;
        registry_admission_attributes(rq, ADMISSION_CREATE, obj, NULL, &attributes);
        if (registry->admission && admission_validate(registry->admission, &attributes, rq->status) < 0)
            return rq->status->code;
        if (attempt == 0 && registry_charge_quotas(registry, rq, obj, NULL) < 0)
            return rq->status->code;
        const char *key = registry_cache_key(rq, meta->name);
        int code = 0;
        if (rq->dry_run) {
            struct wcache_object *there = NULL;
            code = registry_read_store(registry, rq, key, &there);
            if (code == 0 && there)
                code = KP_ECONFLICT;
            wcache_object_unref(there);
        }
        if (code == 0)
            code = registry_commit(registry, rq, obj, NULL, 0, key, ret_object);
        if (code != KP_ECONFLICT || rq->status->code)
            return code;
        if (generated && attempt < GENERATE_NAME_ATTEMPTS_MAX)
            continue;
        if (generated)
            return status_fail(rq->status, KP_EEXISTS, 409, "AlreadyExists", "%s \"%s\" already exists, the server was not able to generate a unique name for the object",
                               rq_resource(rq), meta->name);
        return status_already_exists(rq->status, rq_group(rq), rq_resource(rq), meta->name);
    }
}

int registry_create(struct registry *registry, struct registry_request *rq, void *obj, struct wcache_object **ret_object)
{
    const struct kp_type *type = rq->kind->storage->type;
    struct admission_attributes attributes;
    kp_object_default(type, obj, rq->arena);
    if (rq->kind->defaults)
        rq->kind->defaults(rq, obj);
    registry_admission_attributes(rq, ADMISSION_CREATE, obj, NULL, &attributes);
    if (registry->admission && admission_mutate(registry->admission, &attributes, rq->status) < 0)
        return rq->status->code;
    obj = attributes.object;
    if (!rq->applied)
        patch_managed_fields_update(type, NULL, obj, rq->field_manager, rq->subresource, rq->now_s, rq->arena);
    return create_prepared(registry, rq, obj, ret_object);
}

/* ---- update --------------------------------------------------------------------------------------------------------- */
struct update {
    struct registry *registry;
    struct registry_request *rq;
    const struct registry_update_options *options;
    struct wcache_object *current; /* owned */
    void *old, *obj;
    bool from_store; /* current is what the store had a moment ago */
};

static int check_preconditions(struct update *up)
{
    struct registry_request *rq = up->rq;
    const struct registry_update_options *options = up->options;
    const struct k8s_object_meta *meta = kp_object_meta(rq->kind->storage->type, up->old);
    if (options->uid && strcmp(options->uid, meta->uid ? meta->uid : "") != 0)
        return status_conflict(rq->status, rq_group(rq), rq_resource(rq), rq->name,
                               kp_arena_printf(rq->arena, "Precondition failed: UID in precondition: %s, UID in object meta: %s", options->uid, meta->uid));
    if (options->resource_version && strcmp(options->resource_version, meta->resource_version) != 0)
        return status_conflict(rq->status, rq_group(rq), rq_resource(rq), rq->name,
                               kp_arena_printf(rq->arena, "Precondition failed: ResourceVersion in precondition: %s, ResourceVersion in object meta: %s",
                                               options->resource_version, meta->resource_version));
    return 0;
}

static int check_version(struct update *up)
{
    struct registry_request *rq = up->rq;
    const struct kp_type *type = rq->kind->storage->type;
    struct k8s_object_meta *meta = kp_object_meta(type, up->obj);
    const struct k8s_object_meta *old = kp_object_meta(type, up->old);
    if (!kp_empty(meta->uid) && strcmp(meta->uid, old->uid ? old->uid : "") != 0)
        return status_conflict(rq->status, rq_group(rq), rq_resource(rq), rq->name,
                               kp_arena_printf(rq->arena, "Precondition failed: UID in precondition: %s, UID in object meta: %s", meta->uid, old->uid));
    if (kp_empty(meta->resource_version) || strcmp(meta->resource_version, "0") == 0) {
        if (!up->options->patch && (rq->kind->flags & KIND_CONDITIONAL_UPDATE)) {
            struct field_errors errors = {.arena = rq->arena};
            field_invalid_raw(&errors, "0", "must be specified for an update", "metadata.resourceVersion");
            return status_invalid(rq->status, rq_group(rq), rq->resource->kind, rq->name, &errors);
        }
        meta->resource_version = old->resource_version;
        return 0;
    }
    if (strcmp(meta->resource_version, old->resource_version) != 0)
        return status_conflict(rq->status, rq_group(rq), rq_resource(rq), rq->name, NULL);
    return 0;
}

static int validate_change(struct update *up)
{
    struct registry_request *rq = up->rq;
    const struct registry_kind *kind = rq->kind;
    struct field_errors errors = {.arena = rq->arena};
    registry_validate_meta_update(rq, up->obj, up->old, &errors);
    if (kind->validate)
        kind->validate(rq, up->obj, &errors);
    if (kind->validate_update)
        kind->validate_update(rq, up->obj, up->old, &errors);
    validate_schema(kind->storage->type, up->obj, &errors);
    return status_invalid(rq->status, rq_group(rq), rq->resource->kind, rq->name, &errors);
}

/* Subresources that write the spec go the way of the object itself. */
static bool writes_spec(const struct registry_request *rq)
{
    return kp_empty(rq->subresource) || strcmp(rq->subresource, "scale") == 0;
}

static bool generation_counts(const struct registry_request *rq, const void *obj, const void *old)
{
    const struct kp_type *type = rq->kind->storage->type;
    const struct kp_field *spec = kp_field_find(type, "spec");
    if (rq->kind->flags & KIND_CUSTOM)
        return registry_custom_changed(rq, obj, old);
    return spec && !kp_object_equal(spec->type, registry_member(type, obj, "spec"), registry_member(type, old, "spec"));
}

static int prepare_change(struct update *up)
{
    struct registry_request *rq = up->rq;
    const struct registry_kind *kind = rq->kind;
    const struct kp_type *type = kind->storage->type;
    struct admission_attributes attributes;
    kp_object_default(type, up->obj, rq->arena);
    if (kind->defaults)
        kind->defaults(rq, up->obj);
    registry_admission_attributes(rq, ADMISSION_UPDATE, up->obj, up->old, &attributes);
    if (up->registry->admission && admission_mutate(up->registry->admission, &attributes, rq->status) < 0)
        return rq->status->code;
    up->obj = attributes.object;
    registry_meta_update(rq, up->obj, up->old);
    if (!writes_spec(rq) && kind->prepare_subresource)
        kind->prepare_subresource(rq, up->obj, up->old);
    else
        registry_separate(rq, up->obj, up->old, writes_spec(rq));
    if (writes_spec(rq) && kind->prepare_update)
        kind->prepare_update(rq, up->obj, up->old);
    if (!up->options->managed_done)
        patch_managed_fields_update(type, up->old, up->obj, rq->field_manager, rq->subresource, rq->now_s, rq->arena);
    if ((kind->flags & KIND_GENERATION) && writes_spec(rq) && generation_counts(rq, up->obj, up->old)) {
        struct k8s_object_meta *meta = kp_object_meta(type, up->obj);
        KP_SET(meta, generation, meta->generation + 1);
    }
    if (validate_change(up) < 0)
        return rq->status->code;
    registry_admission_attributes(rq, ADMISSION_UPDATE, up->obj, up->old, &attributes);
    if (up->registry->admission && admission_validate(up->registry->admission, &attributes, rq->status) < 0)
        return rq->status->code;
    return registry_charge_quotas(up->registry, rq, up->obj, up->old);
}

/* An object that was only waiting for its finalizers goes with the last of them. */
static bool ready_to_go(struct update *up)
{
    const struct k8s_object_meta *meta = kp_object_meta(up->rq->kind->storage->type, up->obj);
    bool spec_finalizers = false;
    if (strcmp(up->rq->kind->resource, "namespaces") == 0)
        spec_finalizers = ((const struct k8s_namespace *)up->obj)->spec->finalizers.len > 0;
    return meta->deletion_timestamp.set && !meta->finalizers.len && !spec_finalizers &&
           (!meta->has_deletion_grace_period_seconds || meta->deletion_grace_period_seconds == 0);
}

static int store_change(struct update *up, struct wcache_object **ret_object)
{
    struct registry_request *rq = up->rq;
    const struct kp_type *type = rq->kind->storage->type;
    if (ready_to_go(up)) {
        int64_t revision;
        int code = registry_commit_delete(up->registry, rq, up->old, up->current->revision, up->current->key, &revision);
        if (code == 0)
            *ret_object = wcache_object_new(&rq->kind->cache_kind, up->current->key, up->obj, revision);
        return code;
    }
    if (kp_object_equal(type, up->old, up->obj)) { /* nothing to write: the version stays */
        *ret_object = wcache_object_ref(up->current);
        return 0;
    }
    return registry_commit(up->registry, rq, up->obj, up->old, up->current->revision, up->current->key, ret_object);
}

/* One attempt. KP_ECONFLICT without a status: somebody was faster. */
static int attempt_update(struct update *up, registry_make_fn make, void *arg, struct wcache_object **ret_object)
{
    struct registry_request *rq = up->rq;
    up->old = registry_decode(rq->kind, up->current, rq->arena);
    if (check_preconditions(up) < 0 || make(arg, rq, up->old, &up->obj) < 0 || check_version(up) < 0 || prepare_change(up) < 0)
        return rq->status->code;
    return store_change(up, ret_object);
}

static int create_absent(struct update *up, registry_make_fn make, void *arg, struct wcache_object **ret_object, bool *ret_created)
{
    struct registry_request *rq = up->rq;
    if (!up->options->create_allowed)
        return registry_not_found(rq);
    if (up->options->uid)
        return status_conflict(rq->status, rq_group(rq), rq_resource(rq), rq->name,
                               kp_arena_printf(rq->arena, "Precondition failed: UID in precondition: %s, UID in object meta: ", up->options->uid));
    if (make(arg, rq, NULL, &up->obj) < 0)
        return rq->status->code;
    *ret_created = true;
    return registry_create(up->registry, rq, up->obj, ret_object);
}

/* After a failure on a cached state: has the store a newer one, on which it may be right? */
static bool cached_was_stale(struct update *up)
{
    struct api_status failure = *up->rq->status;
    struct wcache_object *newest = NULL;
    bool stale = registry_read_store(up->registry, up->rq, up->current->key, &newest) == 0 &&
                 (!newest || newest->revision != up->current->revision);
    wcache_object_unref(newest);
    *up->rq->status = failure;
    return stale;
}

int registry_update(struct registry *registry, struct registry_request *rq, const struct registry_update_options *options,
                    registry_make_fn make, void *arg, struct wcache_object **ret_object, bool *ret_created)
{
    struct update up = {.registry = registry, .rq = rq, .options = options};
    int code = KP_ECONFLICT;
    *ret_created = false;
    *ret_object = NULL;
    for (int attempt = 0; attempt < UPDATE_ATTEMPTS_MAX; attempt++) {
        up.from_store = attempt > 0;
        if (registry_read_current(registry, rq, up.from_store, &up.current) < 0)
            return rq->status->code;
        if (!up.current) {
            code = create_absent(&up, make, arg, ret_object, ret_created);
            if (code == KP_EEXISTS) { /* somebody created it meanwhile */
                *rq->status = API_STATUS(rq->arena);
                continue;
            }
            return code;
        }
        code = attempt_update(&up, make, arg, ret_object);
        bool final = code == 0 || (rq->status->code && (up.from_store || !cached_was_stale(&up)));
        wcache_object_unref(KP_TAKE(up.current));
        if (final)
            return code;
        *rq->status = API_STATUS(rq->arena);
    }
    return status_conflict(rq->status, rq_group(rq), rq_resource(rq), rq->name, NULL);
}

int registry_update_status_of(struct registry *registry, const struct registry_request *rq, const struct kp_resource *resource, const char *name,
                              registry_make_fn make, void *arg)
{
    struct registry_request sub = *rq;
    const struct registry_update_options options = {.patch = true};
    KP_AUTO(wcache_object_unref) struct wcache_object *object = NULL;
    bool created;
    sub.resource = resource;
    sub.kind = registry_kind_of(resource);
    sub.subresource = "status";
    sub.name = name;
    return registry_update(registry, &sub, &options, make, arg, &object, &created);
}
