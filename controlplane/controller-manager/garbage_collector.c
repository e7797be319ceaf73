/* Garbage collection by ownerReferences: background, foreground and orphaning deletion, over metadata of every resource.
 *
 * A key names one object of one resource: "ns/deployments.apps:name". What upstream keeps as a graph is here the informers'
 * index by owner uid. An owner is only believed gone when the store itself says so. */
#include "controlplane/controller-manager/controllers.h"

#define GC_RESOURCES_MAX 128
#define GC_RESOURCE_TEXT_MAX 128
#define GC_FOREGROUND "foregroundDeletion"
#define GC_ORPHAN "orphan"

struct gc {
    struct controller_run *run;
    const struct kp_resource *resources[GC_RESOURCES_MAX];
    struct client_informer *informers[GC_RESOURCES_MAX];
    int index[GC_RESOURCES_MAX];
    struct gc_slot {
        struct gc *gc;
        size_t number;
        char text[GC_RESOURCE_TEXT_MAX]; /* "deployments.apps", "pods" */
    } slots[GC_RESOURCES_MAX];
    size_t n;
};

static const struct k8s_object_meta *meta_of(const struct client_object *object)
{
    return kp_object_meta(object->type, object->data);
}

static size_t by_owner_uid(const struct client_object *object, const char **values, size_t max)
{
    const struct k8s_object_meta *meta = meta_of(object);
    size_t n = 0;
    for (size_t i = 0; i < meta->owner_references.len && n < max; i++)
        if (meta->owner_references.items[i].uid)
            values[n++] = meta->owner_references.items[i].uid;
    return n;
}

/* The same object is served under several group versions; each is watched under one. */
static bool is_collected(const struct kp_resource *resource)
{
    const unsigned needed = KP_VERB_LIST | KP_VERB_WATCH | KP_VERB_DELETE;
    return (resource->verbs & needed) == needed && !kp_streq(resource->name, "events") &&
           !(kp_streq(resource->group, "autoscaling") && kp_streq(resource->version, "v1"));
}

static void enqueue(struct gc *gc, size_t number, const char *ns, const char *name)
{
    KP_AUTO_FREE char *part = kp_asprintf("%s:%s", gc->slots[number].text, name);
    engine_enqueue(gc->run, ns, part);
}

static void enqueue_dependents(struct gc *gc, const char *uid)
{
    for (size_t i = 0; i < gc->n; i++) {
        KP_AUTO(client_view_free) struct client_view *view = client_view_new();
        const void *const *items;
        size_t n = client_view_index(view, gc->informers[i], gc->index[i], uid, &items);
        for (size_t k = 0; k < n; k++) {
            const struct k8s_object_meta *meta = kp_object_meta(&k8s_partial_object_metadata_type, items[k]);
            enqueue(gc, i, meta->namespace, meta->name);
        }
    }
}

/* -1 when the kind is not one of ours. */
static int number_of(const struct gc *gc, const char *api_version, const char *kind)
{
    const char *slash = api_version ? strchr(api_version, '/') : NULL;
    size_t group_len = slash ? (size_t)(slash - api_version) : 0;
    for (size_t i = 0; i < gc->n; i++)
        if (kp_streq(gc->resources[i]->kind, kind) && strlen(gc->resources[i]->group) == group_len &&
            strncmp(gc->resources[i]->group, api_version ? api_version : "", group_len) == 0)
            return (int)i;
    return -1;
}

static bool waits_for_dependents(const struct k8s_object_meta *meta)
{
    return meta->deletion_timestamp.set && kp_string_list_has(&meta->finalizers, GC_FOREGROUND);
}

static void on_change(struct client_object *old, struct client_object *new, void *arg)
{
    const struct gc_slot *slot = arg;
    struct gc *gc = slot->gc;
    const struct client_object *object = new ? new : old;
    const struct k8s_object_meta *meta = meta_of(object);
    if (!new) {
        enqueue_dependents(gc, object->uid);
        for (size_t i = 0; i < meta->owner_references.len; i++) { /* an owner in the foreground waits for this */
            const struct k8s_owner_reference *ref = &meta->owner_references.items[i];
            int number = number_of(gc, ref->api_version, ref->kind);
            if (number >= 0)
                enqueue(gc, (size_t)number, gc->resources[number]->namespaced ? object->ns : "", ref->name);
        }
        return;
    }
    if (meta->owner_references.len || (meta->deletion_timestamp.set && meta->finalizers.len))
        enqueue(gc, slot->number, object->ns, object->name);
    if (waits_for_dependents(meta) && !(old && waits_for_dependents(meta_of(old))))
        enqueue_dependents(gc, object->uid);
}

/* ---- planning ------------------------------------------------------------------------------------------------------------ */
enum owner_state { OWNER_SOLID, OWNER_DANGLING, OWNER_WAITING };

static int look_at_owner(const struct plan_input *in, const struct gc *gc, const struct k8s_owner_reference *ref, enum owner_state *ret,
                         struct kp_error *error)
{
    int number = number_of(gc, ref->api_version, ref->kind);
    *ret = OWNER_SOLID;
    if (number < 0)
        return 0; /* a kind nobody here knows cannot be proved gone */
    const struct kp_resource *resource = gc->resources[number];
    if (resource->namespaced && in->ns[0] == '\0')
        return 0; /* a cluster-scoped object cannot have a namespaced owner; upstream leaves it alone too */
    const char *ns = resource->namespaced ? in->ns : "";
    const void *cached = client_view_get(in->view, gc->informers[number], ns, ref->name);
    const struct k8s_object_meta *meta = cached ? kp_object_meta(&k8s_partial_object_metadata_type, cached) : NULL;
    if (meta && kp_streq(meta->uid, ref->uid)) {
        *ret = waits_for_dependents(meta) ? OWNER_WAITING : OWNER_SOLID;
        return 0;
    }
    void *live;
    int code = client_get(engine_client(in->engine), resource, ns, ref->name, in->arena, &live, error);
    if (code == KP_ENOTFOUND || (code == 0 && !kp_streq(kp_object_meta(resource->type, live)->uid, ref->uid)))
        *ret = OWNER_DANGLING;
    else if (code < 0)
        return kp_wrap(error, "owner %s %s", ref->kind, ref->name);
    return 0;
}

static const char *drop_refs_patch(struct kp_arena *arena, const struct k8s_object_meta *meta, const char *const *uids, size_t n)
{
    KP_AUTO_BUF struct kp_buf body = {0};
    kp_buf_puts(&body, "{\"metadata\":{\"ownerReferences\":[");
    for (size_t i = 0; i < n; i++) {
        kp_buf_puts(&body, i ? ",{\"$patch\":\"delete\",\"uid\":" : "{\"$patch\":\"delete\",\"uid\":");
        kp_json_string(&body, uids[i]);
        kp_buf_putc(&body, '}');
    }
    kp_buf_puts(&body, "],\"uid\":");
    kp_json_string(&body, meta->uid);
    kp_buf_puts(&body, "}}");
    return kp_arena_strdup(arena, body.data);
}

static void drop_finalizer(const struct plan_input *in, struct plan *plan, const struct kp_resource *resource, const struct k8s_object_meta *meta,
                           const char *finalizer)
{
    KP_AUTO_BUF struct kp_buf body = {0};
    kp_buf_puts(&body, "{\"metadata\":{\"resourceVersion\":");
    kp_json_string(&body, meta->resource_version);
    kp_buf_puts(&body, ",\"finalizers\":[");
    bool first = true;
    for (size_t i = 0; i < meta->finalizers.len; i++) {
        if (kp_streq(meta->finalizers.items[i], finalizer))
            continue;
        if (!first)
            kp_buf_putc(&body, ',');
        kp_json_string(&body, meta->finalizers.items[i]);
        first = false;
    }
    kp_buf_puts(&body, "]}}");
    plan_patch(plan, resource, meta->namespace, meta->name, NULL, CLIENT_PATCH_MERGE, kp_arena_strdup(in->arena, body.data));
}

/* Whether anything still names uid as its owner; `blocking` counts only references that block the owner's deletion. */
static size_t count_dependents(const struct plan_input *in, const struct gc *gc, const char *uid, bool blocking)
{
    size_t count = 0;
    for (size_t i = 0; i < gc->n; i++) {
        const void *const *items;
        size_t n = client_view_index(in->view, gc->informers[i], gc->index[i], uid, &items);
        for (size_t k = 0; k < n; k++) {
            const struct k8s_object_meta *meta = kp_object_meta(&k8s_partial_object_metadata_type, items[k]);
            for (size_t r = 0; r < meta->owner_references.len; r++) {
                const struct k8s_owner_reference *ref = &meta->owner_references.items[r];
                count += kp_streq(ref->uid, uid) && (!blocking || (ref->has_block_owner_deletion && ref->block_owner_deletion));
            }
        }
    }
    return count;
}

static void orphan_dependents(const struct plan_input *in, struct plan *plan, const struct gc *gc, const char *uid)
{
    for (size_t i = 0; i < gc->n; i++) {
        const void *const *items;
        size_t n = client_view_index(in->view, gc->informers[i], gc->index[i], uid, &items);
        for (size_t k = 0; k < n; k++) {
            const struct k8s_object_meta *meta = kp_object_meta(&k8s_partial_object_metadata_type, items[k]);
            plan_patch(plan, gc->resources[i], meta->namespace, meta->name, NULL, CLIENT_PATCH_STRATEGIC, drop_refs_patch(in->arena, meta, &uid, 1));
        }
    }
}

static void plan_deleting(const struct plan_input *in, struct plan *plan, const struct gc *gc, const struct kp_resource *resource,
                          const struct k8s_object_meta *meta)
{
    if (kp_string_list_has(&meta->finalizers, GC_ORPHAN)) {
        orphan_dependents(in, plan, gc, meta->uid);
        drop_finalizer(in, plan, resource, meta, GC_ORPHAN);
    } else if (kp_string_list_has(&meta->finalizers, GC_FOREGROUND) && count_dependents(in, gc, meta->uid, true) == 0) {
        drop_finalizer(in, plan, resource, meta, GC_FOREGROUND);
    }
}

/* A dependent of this object is itself being deleted in the foreground: the two wait for each other (a cycle of owners). This
   object's references then stop blocking, as upstream's unblockOwnerReferencesPatch does. */
static bool is_in_cycle(const struct plan_input *in, const struct gc *gc, const char *uid)
{
    for (size_t i = 0; i < gc->n; i++) {
        const void *const *items;
        size_t n = client_view_index(in->view, gc->informers[i], gc->index[i], uid, &items);
        for (size_t k = 0; k < n; k++)
            if (waits_for_dependents(kp_object_meta(&k8s_partial_object_metadata_type, items[k])))
                return true;
    }
    return false;
}

static void plan_unblock(const struct plan_input *in, struct plan *plan, const struct kp_resource *resource, const struct k8s_object_meta *meta)
{
    KP_AUTO_BUF struct kp_buf body = {0};
    bool any = false;
    kp_buf_puts(&body, "{\"metadata\":{\"ownerReferences\":[");
    for (size_t i = 0; i < meta->owner_references.len; i++) {
        const struct k8s_owner_reference *ref = &meta->owner_references.items[i];
        if (!ref->has_block_owner_deletion || !ref->block_owner_deletion)
            continue;
        kp_buf_puts(&body, any ? ",{\"uid\":" : "{\"uid\":");
        kp_json_string(&body, ref->uid);
        kp_buf_puts(&body, ",\"blockOwnerDeletion\":false}");
        any = true;
    }
    kp_buf_puts(&body, "],\"uid\":");
    kp_json_string(&body, meta->uid);
    kp_buf_puts(&body, "}}");
    if (any)
        plan_patch(plan, resource, meta->namespace, meta->name, NULL, CLIENT_PATCH_STRATEGIC, kp_arena_strdup(in->arena, body.data));
}

static int plan_dependent(const struct plan_input *in, struct plan *plan, const struct gc *gc, const struct kp_resource *resource,
                          const struct k8s_object_meta *meta, struct kp_error *error)
{
    const char **stale = KP_NEW_ARRAY(in->arena, const char *, meta->owner_references.len + 1);
    size_t n_solid = 0, n_waiting = 0, n_stale = 0;
    for (size_t i = 0; i < meta->owner_references.len; i++) {
        enum owner_state state;
        if (look_at_owner(in, gc, &meta->owner_references.items[i], &state, error) < 0)
            return error->code;
        if (state == OWNER_SOLID) {
            n_solid++;
            continue;
        }
        n_waiting += state == OWNER_WAITING;
        stale[n_stale++] = meta->owner_references.items[i].uid;
    }
    if (n_stale == 0)
        return 0;
    if (n_solid) {
        plan_patch(plan, resource, meta->namespace, meta->name, NULL, CLIENT_PATCH_STRATEGIC, drop_refs_patch(in->arena, meta, stale, n_stale));
        return 0;
    }
    if (n_waiting && is_in_cycle(in, gc, meta->uid))
        plan_unblock(in, plan, resource, meta);
    const char *propagation = "Background";
    if (kp_string_list_has(&meta->finalizers, GC_ORPHAN))
        propagation = "Orphan";
    else if (kp_string_list_has(&meta->finalizers, GC_FOREGROUND) || (n_waiting && count_dependents(in, gc, meta->uid, false)))
        propagation = "Foreground";
    plan_delete(plan, resource, meta->namespace, meta->name, meta->uid, -1, propagation);
    return 0;
}

/* gc->n when it is none of ours. */
static size_t number_of_text(const struct gc *gc, const char *text, size_t len)
{
    for (size_t i = 0; i < gc->n; i++)
        if (strncmp(gc->slots[i].text, text, len) == 0 && gc->slots[i].text[len] == '\0')
            return i;
    return gc->n;
}

static int plan_object(const struct plan_input *in, struct plan *plan, struct kp_error *error)
{
    const struct gc *gc = in->state;
    const char *name = strchr(in->name, ':');
    size_t number = name ? number_of_text(gc, in->name, (size_t)(name - in->name)) : gc->n;
    if (number == gc->n)
        return 0;
    const void *cached = client_view_get(in->view, gc->informers[number], in->ns, name + 1);
    if (!cached)
        return 0;
    const struct k8s_object_meta *meta = kp_object_meta(&k8s_partial_object_metadata_type, cached);
    if (meta->deletion_timestamp.set) {
        plan_deleting(in, plan, gc, gc->resources[number], meta);
        return 0;
    }
    return plan_dependent(in, plan, gc, gc->resources[number], meta, error);
}

static int setup_gc(struct engine *engine, struct controller_run *run, void **ret_state, struct kp_error *error)
{
    struct gc *gc = kp_calloc(1, sizeof(*gc));
    size_t count;
    const struct kp_resource *const *resources = kp_resources(&count);
    gc->run = run;
    *ret_state = gc;
    for (size_t i = 0; i < count; i++) {
        if (!is_collected(resources[i]))
            continue;
        KP_ASSERT(gc->n < GC_RESOURCES_MAX);
        gc->slots[gc->n] = (struct gc_slot){.gc = gc, .number = gc->n};
        snprintf(gc->slots[gc->n].text, GC_RESOURCE_TEXT_MAX, "%s%s%s", resources[i]->name, resources[i]->group[0] ? "." : "",
                 resources[i]->group);
        gc->resources[gc->n] = resources[i];
        gc->informers[gc->n] = engine_metadata_informer(engine, resources[i]);
        gc->index[gc->n] = client_informer_add_index(gc->informers[gc->n], by_owner_uid);
        client_informer_add_handler(gc->informers[gc->n], on_change, &gc->slots[gc->n]);
        gc->n++;
    }
    return 0;
}

const struct controller garbage_collector_controller = {
    .name = "garbage-collector-controller", .workers = 2, .setup = setup_gc, .plan = plan_object, .teardown = free,
};
