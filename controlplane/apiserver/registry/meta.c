/* ObjectMeta: what the server fills in, keeps unchanged and refuses, for every kind. */
#include "controlplane/apiserver/registry/registry_internal.h"

#define GENERATED_SUFFIX_LEN 5
#define GENERATED_NAME_MAX 63
#define FINALIZERS_MAX 256

static struct k8s_object_meta *meta_of(struct registry_request *rq, const void *obj)
{
    return kp_object_meta(rq->kind->storage->type, obj);
}

void *registry_member(const struct kp_type *type, const void *obj, const char *name)
{
    const struct kp_field *field = kp_field_find(type, name);
    if (!field || field->kind != KP_KIND_STRUCT || field->cardinality != KP_ONE)
        return NULL;
    return *(void *const *)(const void *)((const char *)obj + field->offset);
}

static void set_member(const struct kp_type *type, void *obj, const char *name, void *value)
{
    const struct kp_field *field = kp_field_find(type, name);
    *(void **)(void *)((char *)obj + field->offset) = value;
}

/* A struct's pointer, or what else the status of a custom resource may be. */
static size_t status_size(const struct kp_type *type)
{
    const struct kp_field *field = kp_field_find(type, "status");
    if (field->cardinality != KP_ONE)
        return sizeof(struct kp_list);
    return field->kind == KP_KIND_RAW ? sizeof(struct kp_raw) : sizeof(void *);
}

/* from NULL: no status. */
static void copy_status(const struct kp_type *type, void *to, const void *from)
{
    size_t offset = kp_field_find(type, "status")->offset;
    if (from)
        memcpy((char *)to + offset, (const char *)from + offset, status_size(type));
    else
        memset((char *)to + offset, 0, status_size(type));
}

static bool has_status(const struct registry_request *rq)
{
    return kp_subresource_find(rq->kind->storage, "status") && kp_field_find(rq->kind->storage->type, "status");
}

void registry_generate_name(struct registry_request *rq, void *obj)
{
    struct k8s_object_meta *meta = meta_of(rq, obj);
    char suffix[GENERATED_SUFFIX_LEN + 1];
    kp_random_suffix(suffix, GENERATED_SUFFIX_LEN);
    size_t base = KP_MIN(strlen(meta->generate_name), (size_t)(GENERATED_NAME_MAX - GENERATED_SUFFIX_LEN));
    meta->name = kp_arena_printf(rq->arena, "%.*s%s", (int)base, meta->generate_name, suffix);
}

void registry_meta_create(struct registry_request *rq, void *obj)
{
    const struct kp_type *type = rq->kind->storage->type;
    struct k8s_object_meta *meta = meta_of(rq, obj);
    char uid[37];
    kp_uuid4(uid);
    meta->uid = kp_arena_strdup(rq->arena, uid);
    meta->creation_timestamp = KP_TIME_OF(rq->now_s);
    meta->deletion_timestamp = (struct kp_time){0};
    meta->has_deletion_grace_period_seconds = false;
    meta->deletion_grace_period_seconds = 0;
    meta->self_link = NULL;
    meta->resource_version = NULL;
    if (rq->resource->namespaced)
        meta->namespace = rq->ns;
    meta->has_generation = rq->kind->flags & KIND_GENERATION;
    meta->generation = meta->has_generation ? 1 : 0;
    if (has_status(rq) && !(rq->kind->flags & KIND_KEEPS_STATUS)) {
        const struct kp_field *status = kp_field_find(type, "status");
        copy_status(type, obj, NULL);
        if (status->value)
            set_member(type, obj, "status", kp_object_new(status->type, rq->arena));
        kp_object_default(type, obj, rq->arena);
    }
}

void registry_meta_update(struct registry_request *rq, void *obj, const void *old)
{
    struct k8s_object_meta *meta = meta_of(rq, obj);
    const struct k8s_object_meta *before = meta_of(rq, old);
    if (kp_empty(meta->uid))
        meta->uid = before->uid;
    if (!meta->creation_timestamp.set)
        meta->creation_timestamp = before->creation_timestamp;
    if (kp_empty(meta->namespace))
        meta->namespace = before->namespace;
    if (!meta->deletion_timestamp.set)
        meta->deletion_timestamp = before->deletion_timestamp;
    if (!meta->has_deletion_grace_period_seconds) {
        meta->deletion_grace_period_seconds = before->deletion_grace_period_seconds;
        meta->has_deletion_grace_period_seconds = before->has_deletion_grace_period_seconds;
    }
    if (kp_empty(meta->generate_name))
        meta->generate_name = before->generate_name;
    meta->self_link = NULL;
    meta->generation = before->generation;
    meta->has_generation = before->has_generation;
    meta->resource_version = before->resource_version;
}

void registry_separate(struct registry_request *rq, void *obj, const void *old, bool writes_spec)
{
    const struct kp_type *type = rq->kind->storage->type;
    if (!has_status(rq))
        return;
    if (writes_spec) {
        copy_status(type, obj, old);
        return;
    }
    void *kept = kp_arena_memdup(rq->arena, old, type->size); /* everything but metadata and status is the old one's */
    copy_status(type, kept, obj);
    set_member(type, kept, "metadata", registry_member(type, obj, "metadata"));
    memcpy(obj, kept, type->size);
}

/* ---- validation ----------------------------------------------------------------------------------------------------- */
static void validate_owner(const struct k8s_owner_reference *owner, struct field_errors *errors, size_t i)
{
    if (kp_empty(owner->api_version))
        field_invalid(errors, "", "version must not be empty", "metadata.ownerReferences[%zu].apiVersion", i);
    if (kp_empty(owner->kind))
        field_invalid(errors, "", "must not be empty", "metadata.ownerReferences[%zu].kind", i);
    if (kp_empty(owner->name))
        field_invalid(errors, "", "must not be empty", "metadata.ownerReferences[%zu].name", i);
    if (kp_empty(owner->uid))
        field_invalid(errors, "", "must not be empty", "metadata.ownerReferences[%zu].uid", i);
    if (kp_streq(owner->api_version, "v1") && kp_streq(owner->kind, "Event"))
        field_invalid(errors, "v1, Kind=Event", "is disallowed from being an owner", "metadata.ownerReferences[%zu]", i);
}

static void validate_owners(const struct k8s_object_meta *meta, struct field_errors *errors)
{
    const char *controller = NULL;
    for (size_t i = 0; i < meta->owner_references.len; i++) {
        const struct k8s_owner_reference *owner = &meta->owner_references.items[i];
        validate_owner(owner, errors, i);
        if (!owner->has_controller || !owner->controller)
            continue;
        if (controller)
            field_invalid_raw(errors, "true",
                              kp_arena_printf(errors->arena, "Only one reference can have Controller set to true. Found \"true\" in references for %s and %s",
                                              controller, owner->name),
                              "metadata.ownerReferences[%zu].controller", i);
        else
            controller = owner->name;
    }
}

static void validate_finalizers(const struct k8s_object_meta *meta, struct field_errors *errors)
{
    bool orphan = false, foreground = false;
    for (size_t i = 0; i < meta->finalizers.len && i < FINALIZERS_MAX; i++) {
        const char *finalizer = meta->finalizers.items[i];
        const char *fault = kp_validate_qualified_name(finalizer);
        if (fault)
            field_invalid(errors, finalizer, fault, "metadata.finalizers");
        orphan = orphan || strcmp(finalizer, "orphan") == 0;
        foreground = foreground || strcmp(finalizer, "foregroundDeletion") == 0;
    }
    if (orphan && foreground)
        field_invalid(errors, "orphan", "finalizer orphan and foregroundDeletion cannot be both set", "metadata.finalizers");
}

void registry_validate_meta(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    const struct k8s_object_meta *meta = meta_of(rq, obj);
    const char *fault;
    if (!kp_empty(meta->generate_name)) {
        /* A trailing dash is fine: what is generated goes on behind it. */
        size_t len = strlen(meta->generate_name);
        bool dash = len > 1 && meta->generate_name[len - 1] == '-';
        fault = name_check(rq->kind->name_rule, kp_arena_printf(rq->arena, "%.*s", (int)(dash ? len - 1 : len), meta->generate_name));
        if (fault)
            field_invalid(errors, meta->generate_name, fault, "metadata.generateName");
    }
    if (kp_empty(meta->name)) {
        field_required(errors, "name or generateName is required", "metadata.name");
    } else {
        fault = name_check(rq->kind->name_rule, meta->name);
        if (fault)
            field_invalid(errors, meta->name, fault, "metadata.name");
    }
    if (rq->resource->namespaced) {
        fault = kp_empty(meta->namespace) ? NULL : name_is_label(meta->namespace);
        if (kp_empty(meta->namespace))
            field_required(errors, "", "metadata.namespace");
        else if (fault)
            field_invalid(errors, meta->namespace, fault, "metadata.namespace");
    } else if (!kp_empty(meta->namespace)) {
        field_forbidden(errors, "not allowed on this type", "metadata.namespace");
    }
    validate_label_map(&meta->labels, errors, "metadata.labels");
    validate_annotations(&meta->annotations, errors, "metadata.annotations");
    validate_owners(meta, errors);
    validate_finalizers(meta, errors);
}

static void immutable_string(const char *now, const char *before, struct field_errors *errors, const char *path)
{
    if (strcmp(now ? now : "", before ? before : "") != 0)
        field_invalid(errors, now, "field is immutable", "%s", path);
}

static void immutable_time(const struct kp_time *now, const struct kp_time *before, struct field_errors *errors, const char *path)
{
    char text[KP_RFC3339_MAX] = "null";
    if (now->set == before->set && now->seconds == before->seconds)
        return;
    if (now->set)
        kp_format_rfc3339(text, now->seconds, 0, false);
    field_invalid(errors, text, "field is immutable", "%s", path);
}

void registry_validate_meta_update(struct registry_request *rq, const void *obj, const void *old, struct field_errors *errors)
{
    const struct k8s_object_meta *meta = meta_of(rq, obj), *before = meta_of(rq, old);
    immutable_string(meta->name, before->name, errors, "metadata.name");
    immutable_string(meta->namespace, before->namespace, errors, "metadata.namespace");
    immutable_string(meta->uid, before->uid, errors, "metadata.uid");
    immutable_time(&meta->creation_timestamp, &before->creation_timestamp, errors, "metadata.creationTimestamp");
    immutable_time(&meta->deletion_timestamp, &before->deletion_timestamp, errors, "metadata.deletionTimestamp");
    if (before->deletion_timestamp.set)
        for (size_t i = 0; i < meta->finalizers.len; i++)
            if (!kp_string_list_has(&before->finalizers, meta->finalizers.items[i]))
                field_forbidden(errors,
                                kp_arena_printf(rq->arena, "no new finalizers can be added if the object is being deleted, found new finalizers []string{\"%s\"}",
                                                meta->finalizers.items[i]),
                                "metadata.finalizers");
    validate_label_map(&meta->labels, errors, "metadata.labels");
    validate_annotations(&meta->annotations, errors, "metadata.annotations");
    validate_owners(meta, errors);
    validate_finalizers(meta, errors);
}
