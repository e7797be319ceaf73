/* Garbage collection by ownerReferences: background, foreground and orphaning deletion, over metadata of every resource, custom ones too.
 *
 * A key names one object of one resource: "ns/deployments.apps:name". What upstream keeps as a graph is here the informers'
 * index by owner uid. An owner is only believed gone when the store itself says so. */
#include "controlplane/controller-manager/customs.h"
#include "controlplane/controller-manager/controllers.h"

#define GC_RESOURCES_MAX 128
#define GC_WAIT_MS 100 /* for custom resources that are being listed */
#define GC_FOREGROUND "foregroundDeletion"
#define GC_ORPHAN "orphan"

struct gc {
    struct controller_run *run;
    struct customs *customs;
    struct gc_slot {
        struct gc *gc;
        const struct kp_resource *resource;
        struct client_informer *informer;
        int index;
    } slots[GC_RESOURCES_MAX]; /* of the schema's resources */
    size_t n;
};

static size_t by_owner_uid(const struct client_object *object, const char **values, size_t max)
{
    const struct k8s_object_meta *meta = kp_object_meta(object->type, object->data);
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

/* ---- every resource ---------------------------------------------------------------------------------------------------------- */
/* The schema's and the custom ones that there are now. */
struct reach {
    const struct gc *gc;
    const struct customs_list *customs; /* held for as long as this is used */
};

struct source {
    const struct kp_resource *resource;
    const struct client_informer *informer; /* NULL: a custom resource whose definition has gone */
    int index;
    const struct custom *custom; /* NULL: one of the schema's */
};

static size_t reach_len(const struct reach *reach)
{
    return reach->gc->n + reach->customs->len;
}

static struct source source_at(const struct reach *reach, size_t i)
{
    if (i < reach->gc->n) {
        const struct gc_slot *slot = &reach->gc->slots[i];
        return (struct source){.resource = slot->resource, .informer = slot->informer, .index = slot->index};
    }
    const struct custom *custom = reach->customs->items[i - reach->gc->n];
    return (struct source){.resource = &custom->resource, .informer = custom->informer, .index = custom->index, .custom = custom};
}

static bool has_group(const struct kp_resource *resource, const char *group, size_t len)
{
    return strlen(resource->group) == len && strncmp(resource->group, group, len) == 0;
}

/* False when nobody here knows the kind: upstream's mapper would not find it either. Of a custom resource any version that is served will do. */
static bool find_kind(const struct reach *reach, const char *api_version, const char *kind, struct source *ret)
{
    const char *text = api_version ? api_version : "", *slash = strchr(text, '/');
    size_t group_len = slash ? (size_t)(slash - text) : 0;
    for (size_t i = 0; i < reach_len(reach); i++) {
        struct source source = source_at(reach, i);
        if (!kp_streq(source.resource->kind, kind) || !has_group(source.resource, text, group_len) ||
            (source.custom && !kp_string_list_has(&source.custom->served, text + group_len + 1)))
            continue;
        *ret = source;
        return true;
    }
    return false;
}

/* By the first part of a key: "deployments.apps", "pods". */
static bool find_resource(const struct reach *reach, const char *text, size_t len, struct source *ret)
{
    for (size_t i = 0; i < reach_len(reach); i++) {
        struct source source = source_at(reach, i);
        size_t name_len = strlen(source.resource->name);
        if (name_len > len || strncmp(source.resource->name, text, name_len) != 0)
            continue;
        if (name_len < len ? text[name_len] == '.' && has_group(source.resource, text + name_len + 1, len - name_len - 1) : kp_empty(source.resource->group)) {
            *ret = source;
            return true;
        }
    }
    return false;
}

/* What the source has that names the owner. */
static size_t dependents_of(struct client_view *view, const struct source *source, const char *uid, const void *const **ret_items)
{
    return source->informer ? client_view_index(view, source->informer, source->index, uid, ret_items) : 0;
}

static const struct k8s_object_meta *meta_of(const void *item)
{
    return kp_object_meta(&k8s_partial_object_metadata_type, item);
}

/* ---- what makes objects be looked at ------------------------------------------------------------------------------------------ */
static void enqueue(struct gc *gc, const struct kp_resource *resource, const char *ns, const char *name)
{
    KP_AUTO_FREE char *part = kp_asprintf("%s%s%s:%s", resource->name, resource->group[0] ? "." : "", resource->group, name);
    engine_enqueue(gc->run, ns, part);
}

static void enqueue_dependents(const struct reach *reach, struct gc *gc, const char *uid)
{
    for (size_t i = 0; i < reach_len(reach); i++) {
        KP_AUTO(client_view_free) struct client_view *view = client_view_new();
        struct source source = source_at(reach, i);
        const void *const *items;
        size_t n = dependents_of(view, &source, uid, &items);
        for (size_t k = 0; k < n; k++)
            enqueue(gc, source.resource, meta_of(items[k])->namespace, meta_of(items[k])->name);
    }
}

static bool waits_for_dependents(const struct k8s_object_meta *meta)
{
    return meta->deletion_timestamp.set && kp_string_list_has(&meta->finalizers, GC_FOREGROUND);
}

static void take_change(struct gc *gc, const struct kp_resource *resource, const struct k8s_object_meta *old, const struct k8s_object_meta *new)
{
    const struct k8s_object_meta *meta = new ? new : old;
    if (new && (meta->owner_references.len || (meta->deletion_timestamp.set && meta->finalizers.len)))
        enqueue(gc, resource, meta->namespace, meta->name);
    bool newly_waits = new && waits_for_dependents(new) && !(old && waits_for_dependents(old));
    if (new && !newly_waits)
        return;
    KP_AUTO(customs_release) struct customs_list *customs = customs_hold(gc->customs);
    const struct reach reach = {.gc = gc, .customs = customs};
    enqueue_dependents(&reach, gc, meta->uid);
    for (size_t i = 0; !new && i < meta->owner_references.len; i++) { /* an owner in the foreground waits for this */
        const struct k8s_owner_reference *ref = &meta->owner_references.items[i];
        struct source owner;
        if (find_kind(&reach, ref->api_version, ref->kind, &owner))
            enqueue(gc, owner.resource, owner.resource->namespaced ? meta->namespace : "", ref->name);
    }
}

static void on_change(struct client_object *old, struct client_object *new, void *arg)
{
    const struct gc_slot *slot = arg;
    take_change(slot->gc, slot->resource, old ? meta_of(old->data) : NULL, new ? meta_of(new->data) : NULL);
}

static void on_custom(const struct custom *custom, const struct k8s_object_meta *old, const struct k8s_object_meta *new, void *arg)
{
    take_change(arg, &custom->resource, old, new);
}

/* ---- planning ------------------------------------------------------------------------------------------------------------ */
/* What the helpers of one plan share. */
struct gc_plan {
    const struct plan_input *in;
    struct plan *plan;
    struct reach reach;
    struct source source; /* of the object that is planned for */
    const struct k8s_object_meta *meta;
};

enum owner_state {
    OWNER_SOLID,
    OWNER_DANGLING,
    OWNER_WAITING,
    OWNER_UNKNOWN, /* of a kind that nobody knows, or that not every API server serves yet */
    OWNER_LATER,   /* its resource is being listed */
};

/* An API server that has not heard of a definition yet answers 404 as well, but not of the object. */
static bool says_object_is_gone(const struct kp_error *error, const char *name)
{
    KP_AUTO_FREE char *words = kp_asprintf("\"%s\" not found", name);
    return strstr(error->message, words) != NULL;
}

static int look_at_owner(const struct gc_plan *p, const struct k8s_owner_reference *ref, enum owner_state *ret, struct kp_error *error)
{
    const struct plan_input *in = p->in;
    struct source owner;
    *ret = OWNER_UNKNOWN;
    if (!find_kind(&p->reach, ref->api_version, ref->kind, &owner))
        return 0;
    *ret = OWNER_SOLID;
    if (owner.resource->namespaced && in->ns[0] == '\0')
        return 0; /* a cluster-scoped object cannot have a namespaced owner; upstream leaves it alone too */
    *ret = OWNER_LATER;
    if (owner.custom && !custom_ready(owner.custom))
        return 0;
    const char *ns = owner.resource->namespaced ? in->ns : "";
    const void *cached = owner.informer ? client_view_get(in->view, owner.informer, ns, ref->name) : NULL;
    if (cached && kp_streq(meta_of(cached)->uid, ref->uid)) {
        *ret = waits_for_dependents(meta_of(cached)) ? OWNER_WAITING : OWNER_SOLID;
        return 0;
    }
    void *live;
    int code = client_get(engine_client(in->engine), owner.resource, ns, ref->name, in->arena, &live, error);
    if (code == KP_ENOTFOUND && owner.informer && owner.custom && !says_object_is_gone(error, ref->name))
        *ret = OWNER_UNKNOWN;
    else if (code == KP_ENOTFOUND || (code == 0 && !kp_streq(kp_object_meta(owner.resource->type, live)->uid, ref->uid)))
        *ret = OWNER_DANGLING;
    else if (code < 0)
        return kp_wrap(error, "owner %s %s", ref->kind, ref->name);
    else
        *ret = OWNER_SOLID;
    return 0;
}

/* Of custom resources what is written outlives the list they are from. */
static void add_patch(const struct gc_plan *p, const struct source *source, const struct k8s_object_meta *meta, enum client_patch type, const struct kp_buf *body)
{
    const struct kp_resource *resource = source->custom ? customs_copy(source->resource, p->in->arena) : source->resource;
    plan_patch(p->plan, resource, meta->namespace, meta->name, NULL, type, kp_arena_strdup(p->in->arena, body->data));
}

static bool is_one_of(const char *uid, const char *const *uids, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (kp_streq(uid, uids[i]))
            return true;
    return false;
}

static bool blocks(const struct k8s_owner_reference *ref)
{
    return ref->has_block_owner_deletion && ref->block_owner_deletion;
}

/* Custom resources know no strategic merge: all references that there are to be are written, on condition that the object is still the one seen
   (upstream's deleteOwnerRefJSONMergePatch and unblockOwnerReferencesJSONMergePatch). Those of uids go; the rest block no more when unblock is set. */
static void merge_refs(const struct gc_plan *p, const struct source *source, const struct k8s_object_meta *meta, const char *const *uids, size_t n, bool unblock)
{
    KP_AUTO_BUF struct kp_buf body = {0};
    bool first = true;
    kp_buf_puts(&body, "{\"metadata\":{\"resourceVersion\":");
    kp_json_string(&body, meta->resource_version);
    kp_buf_puts(&body, ",\"ownerReferences\":[");
    for (size_t i = 0; i < meta->owner_references.len; i++) {
        struct k8s_owner_reference ref = meta->owner_references.items[i];
        if (is_one_of(ref.uid, uids, n))
            continue;
        if (unblock && blocks(&ref))
            ref.block_owner_deletion = false;
        if (!first)
            kp_buf_putc(&body, ',');
        kp_json_encode(&k8s_owner_reference_type, &ref, &body);
        first = false;
    }
    kp_buf_puts(&body, "]}}");
    add_patch(p, source, meta, CLIENT_PATCH_MERGE, &body);
}

static void drop_refs(const struct gc_plan *p, const struct source *source, const struct k8s_object_meta *meta, const char *const *uids, size_t n)
{
    KP_AUTO_BUF struct kp_buf body = {0};
    if (source->custom) {
        merge_refs(p, source, meta, uids, n, false);
        return;
    }
    kp_buf_puts(&body, "{\"metadata\":{\"ownerReferences\":[");
    for (size_t i = 0; i < n; i++) {
        kp_buf_puts(&body, i ? ",{\"$patch\":\"delete\",\"uid\":" : "{\"$patch\":\"delete\",\"uid\":");
        kp_json_string(&body, uids[i]);
        kp_buf_putc(&body, '}');
    }
    kp_buf_puts(&body, "],\"uid\":");
    kp_json_string(&body, meta->uid);
    kp_buf_puts(&body, "}}");
    add_patch(p, source, meta, CLIENT_PATCH_STRATEGIC, &body);
}

static void drop_finalizer(const struct gc_plan *p, const char *finalizer)
{
    KP_AUTO_BUF struct kp_buf body = {0};
    const struct k8s_object_meta *meta = p->meta;
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
    add_patch(p, &p->source, meta, CLIENT_PATCH_MERGE, &body);
}

/* Whether anything still names uid as its owner; `blocking` counts only references that block the owner's deletion. */
static size_t count_dependents(const struct gc_plan *p, const char *uid, bool blocking)
{
    size_t count = 0;
    for (size_t i = 0; i < reach_len(&p->reach); i++) {
        struct source source = source_at(&p->reach, i);
        const void *const *items;
        size_t n = dependents_of(p->in->view, &source, uid, &items);
        for (size_t k = 0; k < n; k++) {
            const struct k8s_object_meta *meta = meta_of(items[k]);
            for (size_t r = 0; r < meta->owner_references.len; r++)
                count += kp_streq(meta->owner_references.items[r].uid, uid) && (!blocking || blocks(&meta->owner_references.items[r]));
        }
    }
    return count;
}

static void orphan_dependents(const struct gc_plan *p)
{
    for (size_t i = 0; i < reach_len(&p->reach); i++) {
        struct source source = source_at(&p->reach, i);
        const void *const *items;
        size_t n = dependents_of(p->in->view, &source, p->meta->uid, &items);
        for (size_t k = 0; k < n; k++)
            drop_refs(p, &source, meta_of(items[k]), (const char *const[]){p->meta->uid}, 1);
    }
}

/* False while a custom resource is being listed: there may be dependents that nobody has seen. The key is then planned again. */
static bool all_are_listed(const struct gc_plan *p)
{
    for (size_t i = 0; i < p->reach.customs->len; i++)
        if (!custom_ready(p->reach.customs->items[i])) {
            plan_requeue_after_ms(p->plan, GC_WAIT_MS);
            return false;
        }
    return true;
}

static void plan_deleting(const struct gc_plan *p)
{
    bool orphans = kp_string_list_has(&p->meta->finalizers, GC_ORPHAN), waits = kp_string_list_has(&p->meta->finalizers, GC_FOREGROUND);
    if (!(orphans || waits) || !all_are_listed(p))
        return;
    if (orphans) {
        orphan_dependents(p);
        drop_finalizer(p, GC_ORPHAN);
    } else if (count_dependents(p, p->meta->uid, true) == 0) {
        drop_finalizer(p, GC_FOREGROUND);
    }
}

/* A dependent of this object is itself being deleted in the foreground: the two wait for each other (a cycle of owners). This
   object's references then stop blocking, as upstream's unblockOwnerReferencesPatch does. */
static bool is_in_cycle(const struct gc_plan *p)
{
    for (size_t i = 0; i < reach_len(&p->reach); i++) {
        struct source source = source_at(&p->reach, i);
        const void *const *items;
        size_t n = dependents_of(p->in->view, &source, p->meta->uid, &items);
        for (size_t k = 0; k < n; k++)
            if (waits_for_dependents(meta_of(items[k])))
                return true;
    }
    return false;
}

static void plan_unblock(const struct gc_plan *p)
{
    KP_AUTO_BUF struct kp_buf body = {0};
    bool any = false;
    kp_buf_puts(&body, "{\"metadata\":{\"ownerReferences\":[");
    for (size_t i = 0; i < p->meta->owner_references.len; i++) {
        const struct k8s_owner_reference *ref = &p->meta->owner_references.items[i];
        if (!blocks(ref))
            continue;
        kp_buf_puts(&body, any ? ",{\"uid\":" : "{\"uid\":");
        kp_json_string(&body, ref->uid);
        kp_buf_puts(&body, ",\"blockOwnerDeletion\":false}");
        any = true;
    }
    kp_buf_puts(&body, "],\"uid\":");
    kp_json_string(&body, p->meta->uid);
    kp_buf_puts(&body, "}}");
    if (any && p->source.custom)
        merge_refs(p, &p->source, p->meta, NULL, 0, true);
    else if (any)
        add_patch(p, &p->source, p->meta, CLIENT_PATCH_STRATEGIC, &body);
}

/* Nobody lives who owns this. */
static void plan_delete_dependent(const struct gc_plan *p, bool owner_waits)
{
    const struct k8s_object_meta *meta = p->meta;
    const struct kp_resource *resource = p->source.custom ? customs_copy(p->source.resource, p->in->arena) : p->source.resource;
    if (owner_waits && is_in_cycle(p))
        plan_unblock(p);
    const char *propagation = "Background";
    if (kp_string_list_has(&meta->finalizers, GC_ORPHAN))
        propagation = "Orphan";
    else if (kp_string_list_has(&meta->finalizers, GC_FOREGROUND) || (owner_waits && count_dependents(p, meta->uid, false)))
        propagation = "Foreground";
    plan_delete(p->plan, resource, meta->namespace, meta->name, meta->uid, -1, propagation);
}

static int plan_dependent(const struct gc_plan *p, struct kp_error *error)
{
    const struct k8s_object_meta *meta = p->meta;
    const char **stale = KP_NEW_ARRAY(p->in->arena, const char *, meta->owner_references.len + 1);
    size_t n_solid = 0, n_waiting = 0, n_stale = 0;
    for (size_t i = 0; i < meta->owner_references.len; i++) {
        enum owner_state state;
        if (look_at_owner(p, &meta->owner_references.items[i], &state, error) < 0)
            return error->code;
        if (state == OWNER_UNKNOWN) { /* cannot be proved gone: nothing is done while it lasts, as upstream for what its mapper does not find */
            plan_back_off(p->plan);
            return 0;
        }
        if (state == OWNER_LATER) {
            plan_requeue_after_ms(p->plan, GC_WAIT_MS);
            return 0;
        }
        if (state == OWNER_SOLID) {
            n_solid++;
            continue;
        }
        n_waiting += state == OWNER_WAITING;
        stale[n_stale++] = meta->owner_references.items[i].uid;
    }
    if (n_stale == 0)
        return 0;
    if (n_solid)
        drop_refs(p, &p->source, meta, stale, n_stale);
    else if (!n_waiting || all_are_listed(p))
        plan_delete_dependent(p, n_waiting > 0);
    return 0;
}

static int plan_object(const struct plan_input *in, struct plan *plan, struct kp_error *error)
{
    const struct gc *gc = in->state;
    const char *name = strchr(in->name, ':');
    KP_AUTO(customs_release) struct customs_list *customs = customs_hold(gc->customs);
    struct gc_plan p = {.in = in, .plan = plan, .reach = {.gc = gc, .customs = customs}};
    if (!name || !find_resource(&p.reach, in->name, (size_t)(name - in->name), &p.source) || !p.source.informer)
        return 0;
    const void *cached = client_view_get(in->view, p.source.informer, in->ns, name + 1);
    if (!cached)
        return 0;
    p.meta = meta_of(cached);
    if (p.meta->deletion_timestamp.set) {
        plan_deleting(&p);
        return 0;
    }
    return plan_dependent(&p, error);
}

static int setup_gc(struct engine *engine, struct controller_run *run, void **ret_state, struct kp_error *error)
{
    struct gc *gc = kp_calloc(1, sizeof(*gc));
    size_t count;
    const struct kp_resource *const *resources = kp_resources(&count);
    gc->run = run;
    gc->customs = engine_follow_customs(engine, run);
    customs_index(gc->customs, by_owner_uid);
    customs_follow(gc->customs, on_custom, gc);
    *ret_state = gc;
    for (size_t i = 0; i < count; i++) {
        if (!is_collected(resources[i]))
            continue;
        KP_ASSERT(gc->n < GC_RESOURCES_MAX);
        struct gc_slot *slot = &gc->slots[gc->n++];
        *slot = (struct gc_slot){.gc = gc, .resource = resources[i], .informer = engine_metadata_informer(engine, resources[i])};
        slot->index = client_informer_add_index(slot->informer, by_owner_uid);
        client_informer_add_handler(slot->informer, on_change, slot);
    }
    return 0;
}

const struct controller garbage_collector_controller = {
    .name = "garbage-collector-controller", .workers = 2, .setup = setup_gc, .plan = plan_object, .teardown = free,
};
