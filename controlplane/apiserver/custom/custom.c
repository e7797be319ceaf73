/* The thread that follows CustomResourceDefinitions and serves what they define. */
#include "controlplane/apiserver/custom/custom_internal.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

#define AGAIN_MS 1000 /* after a failure, and while objects of a deleted definition are still there */

#define HANDLE_BYTES_MAX ((size_t)4 << 30) /* of one definition: a write that others are faster than reads it anew up to thirty times */

/* A definition that is served. */
struct entry {
    char *name, *uid;
    char *spec; /* as JSON: another one makes another custom */
    struct registry_custom *custom;
    bool seen; /* in this round */
};
/* What is remembered of a definition from round to round, without its schemas: a cluster may have a thousand, and each event is a round. */
struct known {
    char *name;
    int64_t revision;
    struct kp_arena *arena; /* of light */
    crd_t *light;           /* names, group, times, conditions */
    bool settled;           /* nothing is to be done while it and the verdict on its names stay as they are */
    bool conflicted;
    bool seen;              /* in this round */
};
struct custom {
    struct registry *registry;
    struct wcache_set *caches;
    struct registry_schemas *schemas;
    pthread_t thread;
    pthread_mutex_t mutex; /* of the three below */
    pthread_cond_t changed;
    bool dirty, stopping;
    bool synced; /* atomic */
    struct entry *entries;
    size_t len, cap;
    struct kp_strmap *known; /* by name */
};

/* ---- what is served ---------------------------------------------------------------------------------------------------- */
static void publish(struct custom *custom)
{
    const struct kp_resource **all = NULL;
    size_t len = 0;
    for (size_t i = 0; i < custom->len; i++) {
        size_t count;
        const struct kp_resource *const *resources = registry_custom_resources(custom->entries[i].custom, &count);
        all = kp_realloc(all, (len + count + 1) * sizeof(*all));
        memcpy(all + len, resources, count * sizeof(*all));
        len += count;
    }
    kp_resources_extend(all, len);
    free(all);
}

static struct entry *find_entry(struct custom *custom, const char *name)
{
    for (size_t i = 0; i < custom->len; i++)
        if (kp_streq(custom->entries[i].name, name))
            return &custom->entries[i];
    return NULL;
}

/* What it made stays: kp_resources_extend wants it so. */
static void forget(struct entry *entry)
{
    free(entry->name);
    free(entry->uid);
    free(entry->spec);
}

/* Requests that have it in hand go on with what is left of it, and end. */
static void retire(struct custom *custom, struct entry *entry)
{
    wcache_set_remove(custom->caches, registry_custom_cache_kind(entry->custom));
    forget(entry);
    *entry = custom->entries[--custom->len];
}

static int start_serving(struct custom *custom, const crd_t *crd, char *spec, struct kp_error *error)
{
    struct registry_custom *made = registry_custom_new(crd, custom->schemas);
    const struct wcache_kind *kind = registry_custom_cache_kind(made);
    int code = wcache_set_add(custom->caches, kind, error);
    if (code < 0)
        return code; /* what was made stays: rare, and small */
    registry_custom_serve(made, wcache_find(custom->caches, crd->spec->group, crd->spec->names->plural));
    if (custom->len == custom->cap) {
        custom->cap = custom->cap ? custom->cap * 2 : 16;
        custom->entries = kp_realloc(custom->entries, custom->cap * sizeof(*custom->entries));
    }
    custom->entries[custom->len++] = (struct entry){.name = kp_strdup(crd->metadata->name), .uid = kp_strdup(crd->metadata->uid), .spec = spec, .custom = made, .seen = true};
    kp_info("custom resource served", "name", crd->metadata->name, NULL);
    return 0;
}

/* As the definition says: another spec, or another definition of the name, makes everything anew, which ends the watches of the old. */
static int serve(struct custom *custom, const crd_t *crd, bool *ret_changed, struct kp_error *error)
{
    struct entry *entry = find_entry(custom, crd->metadata->name);
    KP_AUTO_BUF struct kp_buf spec = {0};
    kp_json_encode(&k8s_custom_resource_definition_spec_type, crd->spec, &spec);
    if (entry && kp_streq(entry->uid, crd->metadata->uid) && kp_streq(entry->spec, spec.data)) {
        entry->seen = true;
        return 0;
    }
    if (entry)
        retire(custom, entry);
    char *text = kp_strdup(spec.data);
    int code = start_serving(custom, crd, text, error);
    if (code < 0)
        free(text);
    *ret_changed = true;
    return code;
}

/* ---- one round -------------------------------------------------------------------------------------------------------------- */
static int by_age(const void *a, const void *b)
{
    const crd_t *left = *(crd_t *const *)a, *right = *(crd_t *const *)b;
    int64_t difference = left->metadata->creation_timestamp.seconds - right->metadata->creation_timestamp.seconds;
    if (difference)
        return difference < 0 ? -1 : 1;
    return strcmp(left->metadata->name, right->metadata->name);
}

static bool names_were_accepted(const crd_t *crd)
{
    for (size_t i = 0; i < crd->status->conditions.len; i++)
        if (kp_streq(crd->status->conditions.items[i].type, "NamesAccepted"))
            return kp_streq(crd->status->conditions.items[i].status, "True");
    return false;
}

/* ---- what is remembered of definitions ---- */
static void free_known(void *arg)
{
    struct known *known = arg;
    kp_arena_free(known->arena);
    free(known->name);
    free(known);
}

static crd_t *make_light(const crd_t *crd, struct kp_arena *arena)
{
    crd_t *light = KP_OBJECT_NEW(arena, k8s_custom_resource_definition);
    light->metadata->name = kp_arena_strdup(arena, crd->metadata->name);
    light->metadata->creation_timestamp = crd->metadata->creation_timestamp;
    light->metadata->deletion_timestamp = crd->metadata->deletion_timestamp;
    light->spec->group = kp_arena_strdup(arena, crd->spec->group);
    light->spec->names = KP_OBJECT_CLONE(arena, k8s_custom_resource_definition_names, crd->spec->names);
    light->status = KP_OBJECT_CLONE(arena, k8s_custom_resource_definition_status, crd->status);
    return light;
}

static crd_t *decode_definition(const struct wcache_object *object, struct kp_arena *arena)
{
    return registry_decode(registry_kind_of(&k8s_customresourcedefinitions_resource), object, arena);
}

static struct known *remember(struct custom *custom, const struct wcache_object *object)
{
    struct known *known = kp_strmap_get(custom->known, object->name);
    if (!known) {
        known = kp_calloc(1, sizeof(*known));
        known->name = kp_strdup(object->name);
        kp_strmap_put(custom->known, known->name, known);
    }
    known->seen = true;
    if (known->revision == object->revision)
        return known;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    kp_arena_free(known->arena);
    known->arena = kp_arena_new(0);
    known->light = make_light(decode_definition(object, arena), known->arena);
    known->revision = object->revision;
    known->settled = false;
    return known;
}

/* Removing while iterating is not the map's; their names are gathered first. */
static void forget_unseen(struct custom *custom, struct kp_arena *arena)
{
    struct kp_string_list names = {0};
    const char *name;
    void *value;
    for (size_t iter = 0; kp_strmap_next(custom->known, &iter, &name, &value);) {
        struct known *known = value;
        if (!known->seen)
            kp_string_list_add(arena, &names, kp_arena_strdup(arena, name));
        known->seen = false;
    }
    for (size_t i = 0; i < names.len; i++)
        free_known(kp_strmap_remove(custom->known, names.items[i]));
}

/* ---- one round: what is to be done for whom ---- */
struct round {
    struct definitions all;       /* the light ones */
    struct known **known;         /* of each */
    const struct wcache_object **objects;
};

/* Those whose names were accepted come first: what somebody has is not taken away. */
static void begin_round(struct custom *custom, const struct wcache_list *list, struct kp_arena *arena, struct round *ret)
{
    struct order {
        crd_t *light; /* first: by_age sorts by it */
        struct known *known;
        const struct wcache_object *object;
    } *order = KP_NEW_ARRAY(arena, struct order, list->len + 1);
    for (size_t i = 0; i < list->len; i++) {
        struct known *known = remember(custom, list->items[i]);
        order[i] = (struct order){known->light, known, list->items[i]};
    }
    if (list->len > 1)
        qsort(order, list->len, sizeof(*order), by_age);
    *ret = (struct round){.all = {.items = KP_NEW_ARRAY(arena, crd_t *, list->len + 1)}, .known = KP_NEW_ARRAY(arena, struct known *, list->len + 1),
                          .objects = KP_NEW_ARRAY(arena, const struct wcache_object *, list->len + 1)};
    for (int accepted = 1; accepted >= 0; accepted--)
        for (size_t i = 0; i < list->len; i++)
            if (names_were_accepted(order[i].light) == (accepted == 1)) {
                ret->known[ret->all.len] = order[i].known;
                ret->objects[ret->all.len] = order[i].object;
                ret->all.items[ret->all.len++] = order[i].light;
            }
    if (ret->all.len > CUSTOM_DEFINITIONS_MAX) {
        kp_warn("there are too many definitions: the newest are not served", NULL);
        ret->all.len = CUSTOM_DEFINITIONS_MAX;
    }
}

/* One definition that is not settled. True when everything is as it should be. */
static bool handle(struct custom *custom, const struct wcache_object *object, const char *conflict, const char *reason)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(HANDLE_BYTES_MAX);
    const crd_t *crd = decode_definition(object, arena);
    struct kp_error error = {0};
    bool done = true, changed = false;
    if (!conflict && serve(custom, crd, &changed, &error) < 0) {
        kp_warn("a custom resource is not served yet", "name", crd->metadata->name, "error", error.message, NULL);
        return false;
    }
    if (changed && custom_synced(custom)) /* in the first round all at once: until then nobody is told that there is none */
        publish(custom);
    if (!crd->metadata->deletion_timestamp.set)
        return custom_write_status(custom->registry, crd, conflict, reason, arena) == 0;
    struct entry *entry = find_entry(custom, crd->metadata->name);
    if (entry)
        registry_custom_terminate(entry->custom);
    int code = custom_clean_up(custom->registry, crd, entry ? entry->custom : NULL, arena, &done);
    return code == 0 && done;
}

static bool handle_all(struct custom *custom, const struct round *round, struct kp_arena *arena)
{
    bool good = true, *accepted = KP_NEW_ARRAY(arena, bool, round->all.len + 1);
    for (size_t i = 0; i < round->all.len; i++) {
        struct known *known = round->known[i];
        const char *reason = "", *conflict = custom_name_conflict(&round->all, i, accepted, arena, &reason);
        accepted[i] = !conflict;
        if (!known->settled || known->conflicted != (conflict != NULL)) {
            known->conflicted = conflict != NULL;
            known->settled = handle(custom, round->objects[i], conflict, reason);
        } else if (!conflict) {
            struct entry *entry = find_entry(custom, known->name);
            if (entry)
                entry->seen = true;
        }
        good &= known->settled;
    }
    return good;
}

static bool sync_all(struct custom *custom)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct wcache_list list = {0};
    const struct wcache_filter filter = {0};
    struct round round;
    wcache_list(registry_cache_of(custom->registry, registry_kind_of(&k8s_customresourcedefinitions_resource)), &filter, NULL, 0, arena, &list);
    begin_round(custom, &list, arena, &round);
    for (size_t i = 0; i < custom->len; i++)
        custom->entries[i].seen = false;
    bool good = handle_all(custom, &round, arena), stale = !custom_synced(custom);
    wcache_list_done(&list);
    for (size_t i = custom->len; i-- > 0;)
        if (!custom->entries[i].seen) {
            kp_info("custom resource not served any more", "name", custom->entries[i].name, NULL);
            retire(custom, &custom->entries[i]);
            stale = true;
        }
    if (stale)
        publish(custom);
    forget_unseen(custom, arena);
    __atomic_store_n(&custom->synced, true, __ATOMIC_RELEASE);
    return good;
}

/* ---- life ------------------------------------------------------------------------------------------------------------------------ */
/* On the apply thread: may not block for long. */
static void on_definition(void *arg, struct wcache_object *object, struct wcache_object *old)
{
    struct custom *custom = arg;
    (void)object;
    (void)old;
    pthread_mutex_lock(&custom->mutex);
    custom->dirty = true;
    pthread_cond_broadcast(&custom->changed);
    pthread_mutex_unlock(&custom->mutex);
}

/* Until something changed, or again_ms have passed (-1: for ever); false at the end. */
static bool wait_for_work(struct custom *custom, int64_t again_ms)
{
    struct timespec until;
    int code = 0;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += again_ms / 1000;
    pthread_mutex_lock(&custom->mutex);
    while (!custom->dirty && !custom->stopping && code != ETIMEDOUT)
        code = again_ms < 0 ? pthread_cond_wait(&custom->changed, &custom->mutex)
                            : pthread_cond_clockwait(&custom->changed, &custom->mutex, CLOCK_MONOTONIC, &until);
    custom->dirty = false;
    bool go = !custom->stopping;
    pthread_mutex_unlock(&custom->mutex);
    return go;
}

static bool is_stopping(struct custom *custom)
{
    pthread_mutex_lock(&custom->mutex);
    bool stopping = custom->stopping;
    pthread_mutex_unlock(&custom->mutex);
    return stopping;
}

static void *run(void *arg)
{
    struct custom *custom = arg;
    while (!wcache_set_wait_ready(custom->caches, AGAIN_MS))
        if (is_stopping(custom))
            return NULL;
    wcache_listen(registry_cache_of(custom->registry, registry_kind_of(&k8s_customresourcedefinitions_resource)), on_definition, custom);
    int64_t again_ms = 0;
    while (wait_for_work(custom, again_ms))
        again_ms = sync_all(custom) ? -1 : AGAIN_MS;
    return NULL;
}

struct custom *custom_new(struct registry *registry, struct wcache_set *caches)
{
    struct custom *custom = kp_calloc(1, sizeof(*custom));
    custom->registry = registry;
    custom->caches = caches;
    custom->schemas = registry_schemas_new();
    custom->known = kp_strmap_new();
    pthread_mutex_init(&custom->mutex, NULL);
    pthread_cond_init(&custom->changed, NULL);
    KP_ASSERT(pthread_create(&custom->thread, NULL, run, custom) == 0);
    return custom;
}

/* Listeners cannot be taken back: the struct stays, as do the resources, for requests that end with the process. */
void custom_free(struct custom *custom)
{
    if (!custom)
        return;
    pthread_mutex_lock(&custom->mutex);
    custom->stopping = true;
    pthread_cond_broadcast(&custom->changed);
    pthread_mutex_unlock(&custom->mutex);
    pthread_join(custom->thread, NULL);
    for (size_t i = 0; i < custom->len; i++)
        forget(&custom->entries[i]);
    kp_strmap_free(custom->known, free_known);
    free(custom->entries);
    custom->entries = NULL;
    custom->len = 0;
}

bool custom_synced(const struct custom *custom)
{
    return __atomic_load_n(&custom->synced, __ATOMIC_ACQUIRE);
}
