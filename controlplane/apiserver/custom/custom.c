/* The thread that follows CustomResourceDefinitions and serves what they define. */
#include "controlplane/apiserver/custom/custom_internal.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

#define AGAIN_MS 1000 /* after a failure, and while objects of a deleted definition are still there */

/* A definition that is served. */
struct entry {
    char *name, *uid;
    char *spec; /* as JSON: another one makes another custom */
    struct registry_custom *custom;
    bool seen; /* in this round */
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

/* Those whose names were accepted come first: what somebody has is not taken away. */
static void read_definitions(struct custom *custom, struct kp_arena *arena, struct definitions *ret)
{
    const struct registry_kind *kind = registry_kind_of(&k8s_customresourcedefinitions_resource);
    struct wcache_list list = {0};
    const struct wcache_filter filter = {0};
    wcache_list(registry_cache_of(custom->registry, kind), &filter, NULL, 0, arena, &list);
    crd_t **all = KP_NEW_ARRAY(arena, crd_t *, list.len + 1);
    *ret = (struct definitions){.items = KP_NEW_ARRAY(arena, crd_t *, list.len + 1)};
    for (size_t i = 0; i < list.len; i++)
        all[i] = registry_decode(kind, list.items[i], arena);
    if (list.len > 1)
        qsort(all, list.len, sizeof(*all), by_age);
    for (int accepted = 1; accepted >= 0; accepted--)
        for (size_t i = 0; i < list.len; i++)
            if (names_were_accepted(all[i]) == (accepted == 1))
                ret->items[ret->len++] = all[i];
    wcache_list_done(&list);
    if (ret->len > CUSTOM_DEFINITIONS_MAX) {
        kp_warn("there are too many definitions: the newest are not served", NULL);
        ret->len = CUSTOM_DEFINITIONS_MAX;
    }
}

/* One definition. True when everything is as it should be. */
static bool handle(struct custom *custom, const crd_t *crd, const char *conflict, const char *reason, bool *ret_changed, struct kp_arena *arena)
{
    struct kp_error error = {0};
    bool done = true;
    if (!conflict && serve(custom, crd, ret_changed, &error) < 0) {
        kp_warn("a custom resource is not served yet", "name", crd->metadata->name, "error", error.message, NULL);
        return false;
    }
    if (*ret_changed)
        publish(custom);
    if (!crd->metadata->deletion_timestamp.set)
        return custom_write_status(custom->registry, crd, conflict, reason, arena) == 0;
    struct entry *entry = find_entry(custom, crd->metadata->name);
    if (entry)
        registry_custom_terminate(entry->custom);
    int code = custom_clean_up(custom->registry, crd, entry ? entry->custom : NULL, arena, &done);
    return code == 0 && done;
}

static bool sync_all(struct custom *custom)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct definitions all;
    bool good = true;
    read_definitions(custom, arena, &all);
    bool *accepted = KP_NEW_ARRAY(arena, bool, all.len + 1);
    for (size_t i = 0; i < custom->len; i++)
        custom->entries[i].seen = false;
    for (size_t i = 0; i < all.len; i++) {
        const char *reason = "", *conflict = custom_name_conflict(&all, i, accepted, arena, &reason);
        bool changed = false;
        accepted[i] = !conflict;
        good &= handle(custom, all.items[i], conflict, reason, &changed, arena);
    }
    bool retired = false;
    for (size_t i = custom->len; i-- > 0;)
        if (!custom->entries[i].seen) {
            kp_info("custom resource not served any more", "name", custom->entries[i].name, NULL);
            retire(custom, &custom->entries[i]);
            retired = true;
        }
    if (retired)
        publish(custom);
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
    free(custom->entries);
    custom->entries = NULL;
    custom->len = 0;
}

bool custom_synced(const struct custom *custom)
{
    return __atomic_load_n(&custom->synced, __ATOMIC_ACQUIRE);
}
