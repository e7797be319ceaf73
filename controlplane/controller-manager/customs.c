/* The custom resources that are served: metadata informers that come and go with their definitions, in lists that readers hold while they use them. */
#include "controlplane/controller-manager/customs.h"

#include <pthread.h>

#define CUSTOMS_MAX 1000       /* definitions; each takes a watch */
#define CUSTOMS_GONE_MAX 64    /* deleted ones that are remembered */
#define CUSTOMS_HANDLERS_MAX 4
#define CUSTOMS_READY_MS 30000
#define CUSTOMS_REAP_MS 100

/* Lists are replaced, never changed. What a list has and its successor has not is freed when that list and all before it are free, for only they had it. */
struct customs {
    struct engine *engine;
    struct controller_run *run;
    struct client_informer *definitions;
    struct {
        customs_handler fn;
        void *arg;
    } handlers[CUSTOMS_HANDLERS_MAX];
    size_t n_handlers;
    client_index_fn index;
    bool running, full;
    pthread_mutex_t lock; /* of newest, and of the lists' refs */
    struct customs_list *oldest, *newest;
};

/* ---- one ------------------------------------------------------------------------------------------------------------------- */
static void on_change(struct client_object *old, struct client_object *new, void *arg)
{
    const struct custom *custom = arg;
    const struct customs *customs = custom->customs;
    for (size_t i = 0; i < customs->n_handlers; i++)
        customs->handlers[i].fn(custom, old ? kp_object_meta(old->type, old->data) : NULL, new ? kp_object_meta(new->type, new->data) : NULL,
                                customs->handlers[i].arg);
}

static struct custom *new_custom(struct customs *customs, const char *definition, const char *uid, const struct kp_resource *resource,
                                 const struct kp_string_list *served)
{
    struct kp_arena *arena = kp_arena_new(0);
    struct custom *custom = KP_NEW(arena, struct custom);
    custom->customs = customs;
    custom->arena = arena;
    custom->resource = *customs_copy(resource, arena);
    custom->definition = kp_arena_strdup(arena, definition);
    custom->uid = kp_arena_strdup(arena, uid);
    custom->index = -1;
    for (size_t i = 0; i < served->len; i++)
        kp_string_list_add(arena, &custom->served, kp_arena_strdup(arena, served->items[i]));
    return custom;
}

static void watch(struct custom *custom)
{
    struct customs *customs = custom->customs;
    custom->informer = client_informer_new_metadata(engine_client(customs->engine), &custom->resource);
    if (customs->index)
        custom->index = client_informer_add_index(custom->informer, customs->index);
    client_informer_add_handler(custom->informer, on_change, custom);
    custom->ready_ms = customs->running ? kp_mono_ms() + CUSTOMS_READY_MS : 0;
}

bool custom_ready(const struct custom *custom)
{
    return !custom->informer || client_informer_synced(custom->informer) || kp_mono_ms() >= custom->ready_ms;
}

/* The API server deletes a definition's objects before the definition, but its watches may end before they have told of all. */
static void tell_gone(const struct custom *custom)
{
    const struct customs *customs = custom->customs;
    KP_AUTO(client_view_free) struct client_view *view = client_view_new();
    const void *const *objects;
    size_t n = client_view_list(view, custom->informer, NULL, &objects);
    for (size_t i = 0; i < n; i++)
        for (size_t h = 0; h < customs->n_handlers; h++)
            customs->handlers[h].fn(custom, kp_object_meta(&k8s_partial_object_metadata_type, objects[i]), NULL, customs->handlers[h].arg);
}

static void free_custom(struct custom *custom)
{
    if (custom->informer)
        client_informer_stop(custom->informer);
    if (custom->informer && custom->gone)
        tell_gone(custom);
    client_informer_free(custom->informer);
    kp_arena_free(custom->arena);
}

/* ---- lists ----------------------------------------------------------------------------------------------------------------- */
static struct customs_list *new_list(struct customs *customs, size_t max)
{
    struct customs_list *list = kp_calloc(1, sizeof(*list));
    list->customs = customs;
    list->items = kp_calloc(max + 1, sizeof(struct custom *));
    return list;
}

static void free_list(struct customs_list *list)
{
    free(list->items);
    free(list->dropped);
    free(list);
}

struct customs_list *customs_hold(struct customs *customs)
{
    pthread_mutex_lock(&customs->lock);
    struct customs_list *list = customs->newest;
    list->refs++;
    pthread_mutex_unlock(&customs->lock);
    return list;
}

void customs_release(struct customs_list *list)
{
    if (!list)
        return;
    struct customs *customs = list->customs;
    pthread_mutex_lock(&customs->lock);
    KP_ASSERT(list->refs > 0);
    list->refs--;
    pthread_mutex_unlock(&customs->lock);
}

/* The oldest list when it was replaced and is in use no more, taken out; else NULL. */
static struct customs_list *take_unused(struct customs *customs, bool *ret_more)
{
    pthread_mutex_lock(&customs->lock);
    struct customs_list *list = customs->oldest;
    *ret_more = list != customs->newest;
    bool unused = *ret_more && list->refs == 0;
    if (unused)
        customs->oldest = list->next;
    pthread_mutex_unlock(&customs->lock);
    return unused ? list : NULL;
}

static int64_t reap(struct customs *customs)
{
    struct customs_list *list;
    bool more;
    while ((list = take_unused(customs, &more))) {
        for (size_t i = 0; i < list->n_dropped; i++)
            free_custom(list->dropped[i]);
        free_list(list);
    }
    return more ? CUSTOMS_REAP_MS : -1;
}

/* ---- going by the definitions ------------------------------------------------------------------------------------------------ */
struct definitions {
    const void *const *items;
    size_t len;
};

static const struct k8s_object_meta *find_definition(const struct definitions *definitions, const char *name)
{
    for (size_t i = 0; i < definitions->len; i++) {
        const struct k8s_custom_resource_definition *definition = definitions->items[i];
        if (kp_streq(definition->metadata->name, name))
            return definition->metadata;
    }
    return NULL;
}

static bool same_strings(const struct kp_string_list *a, const struct kp_string_list *b)
{
    bool same = a->len == b->len;
    for (size_t i = 0; same && i < a->len; i++)
        same = kp_streq(a->items[i], b->items[i]);
    return same;
}

/* The one that watches exactly this already. */
static struct custom *find_same(const struct customs_list *list, const char *uid, const struct kp_resource *resource, const struct kp_string_list *served)
{
    for (size_t i = 0; i < list->len; i++) {
        struct custom *custom = list->items[i];
        if (custom->informer && kp_streq(custom->uid, uid) && kp_streq(custom->resource.version, resource->version) &&
            kp_streq(custom->resource.name, resource->name) && kp_streq(custom->resource.kind, resource->kind) &&
            custom->resource.namespaced == resource->namespaced && same_strings(&custom->served, served))
            return custom;
    }
    return NULL;
}

static bool has(const struct customs_list *list, const struct custom *custom)
{
    for (size_t i = 0; i < list->len; i++)
        if (list->items[i] == custom)
            return true;
    return false;
}

static void add_served(struct customs *customs, const struct definitions *definitions, const struct customs_list *was, struct customs_list *list,
                       struct kp_arena *arena)
{
    bool full = false;
    for (size_t i = 0; i < definitions->len; i++) {
        const struct k8s_custom_resource_definition *definition = definitions->items[i];
        struct kp_resource resource;
        struct kp_string_list served;
        if (!customs_describe(definition, arena, &resource, &served))
            continue;
        if (list->len == CUSTOMS_MAX) {
            full = true;
            break;
        }
        struct custom *custom = find_same(was, definition->metadata->uid, &resource, &served);
        if (!custom) {
            custom = new_custom(customs, definition->metadata->name, definition->metadata->uid, &resource, &served);
            watch(custom);
        }
        list->items[list->len++] = custom;
    }
    if (full && !customs->full)
        kp_warn("there are more custom resources than are watched; objects of the others are neither collected nor counted", NULL);
    customs->full = full;
}

/* Forgets the eldest of those that are gone, which begin at `first`. */
static void forget_excess(const struct customs_list *was, struct customs_list *list, size_t first)
{
    size_t count = list->len - first, excess = count > CUSTOMS_GONE_MAX ? count - CUSTOMS_GONE_MAX : 0;
    for (size_t i = 0; i < excess; i++)
        if (!has(was, list->items[first + i]))
            free_custom(list->items[first + i]);
    memmove(list->items + first, list->items + first + excess, (count - excess) * sizeof(*list->items));
    list->len -= excess;
}

/* What is served no more: when its definition was deleted it is remembered, so that what its objects owned can still be told to be without an owner.
   A definition that is there but not served says nothing of its objects. */
static void settle_rest(const struct definitions *definitions, struct customs_list *was, struct customs_list *list)
{
    size_t served = list->len;
    for (size_t i = 0; i < was->len; i++) /* the eldest first */
        if (!was->items[i]->informer && !find_definition(definitions, was->items[i]->definition))
            list->items[list->len++] = was->items[i];
    for (size_t i = 0; i < was->len; i++) {
        struct custom *custom = was->items[i];
        if (!custom->informer || has(list, custom))
            continue;
        const struct k8s_object_meta *now = find_definition(definitions, custom->definition);
        custom->gone = !now || !kp_streq(now->uid, custom->uid);
        if (!now)
            list->items[list->len++] = new_custom(custom->customs, custom->definition, custom->uid, &custom->resource, &custom->served);
    }
    forget_excess(was, list, served);
    was->dropped = kp_calloc(was->len + 1, sizeof(struct custom *));
    for (size_t i = 0; i < was->len; i++)
        if (!has(list, was->items[i]))
            was->dropped[was->n_dropped++] = was->items[i];
}

static bool is_same(const struct customs_list *was, const struct customs_list *list)
{
    bool same = was->len == list->len && was->n_dropped == 0;
    for (size_t i = 0; same && i < was->len; i++)
        same = has(was, list->items[i]);
    return same;
}

int64_t customs_update(struct customs *customs)
{
    KP_AUTO(client_view_free) struct client_view *view = client_view_new();
    struct definitions definitions;
    struct customs_list *was = customs->newest; /* nobody else replaces it */
    definitions.len = client_view_list(view, customs->definitions, NULL, &definitions.items);
    struct customs_list *list = new_list(customs, definitions.len + 2 * was->len);
    add_served(customs, &definitions, was, list, client_view_arena(view));
    settle_rest(&definitions, was, list);
    if (is_same(was, list)) {
        free(KP_TAKE(was->dropped));
        free_list(list);
        return reap(customs);
    }
    pthread_mutex_lock(&customs->lock);
    was->next = list;
    customs->newest = list;
    pthread_mutex_unlock(&customs->lock);
    for (size_t i = 0; customs->running && i < list->len; i++)
        if (list->items[i]->informer && !has(was, list->items[i]))
            client_informer_start(list->items[i]->informer);
    return reap(customs);
}

/* ---- life ------------------------------------------------------------------------------------------------------------------ */
static void on_definition(struct client_object *old, struct client_object *new, void *arg)
{
    const struct customs *customs = arg;
    engine_enqueue(customs->run, "", CUSTOMS_KEY);
}

struct customs *customs_new(struct engine *engine, struct controller_run *run)
{
    struct customs *customs = kp_calloc(1, sizeof(*customs));
    customs->engine = engine;
    customs->run = run;
    pthread_mutex_init(&customs->lock, NULL);
    customs->oldest = customs->newest = new_list(customs, 0);
    customs->definitions = engine_informer(engine, &customs_definitions_resource);
    client_informer_add_handler(customs->definitions, on_definition, customs);
    return customs;
}

bool customs_is_of(const struct customs *customs, const struct controller_run *run)
{
    return customs->run == run;
}

void customs_follow(struct customs *customs, customs_handler handler, void *arg)
{
    KP_ASSERT(customs->n_handlers < CUSTOMS_HANDLERS_MAX && !customs->running);
    customs->handlers[customs->n_handlers].fn = handler;
    customs->handlers[customs->n_handlers++].arg = arg;
}

void customs_index(struct customs *customs, client_index_fn fn)
{
    KP_ASSERT(!customs->index && !customs->running);
    customs->index = fn;
}

void customs_start(struct customs *customs)
{
    customs->running = true;
    customs_update(customs);
}

void customs_stop(struct customs *customs)
{
    if (!customs)
        return;
    for (struct customs_list *list = customs->oldest; list; list = list->next) {
        for (size_t i = 0; i < list->n_dropped; i++)
            if (list->dropped[i]->informer)
                client_informer_stop(list->dropped[i]->informer);
        for (size_t i = 0; list == customs->newest && i < list->len; i++)
            if (list->items[i]->informer)
                client_informer_stop(list->items[i]->informer);
    }
}

void customs_free(struct customs *customs)
{
    if (!customs)
        return;
    reap(customs);
    KP_ASSERT(customs->oldest == customs->newest && customs->newest->refs == 0); /* no plan runs any more */
    for (size_t i = 0; i < customs->newest->len; i++)
        free_custom(customs->newest->items[i]);
    free_list(customs->newest);
    pthread_mutex_destroy(&customs->lock);
    free(customs);
}
