/* controlplane/apiserver/storage in memory, in the place of the one that speaks to etcd: every revision is kept, the watch is told
   before a commit returns, and tests can make calls fail or let somebody else be faster. */
#ifndef TESTS_APISERVER_FAKE_STORE_H
#define TESTS_APISERVER_FAKE_STORE_H

#include "controlplane/apiserver/storage/storage.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define FAKE_VERSIONS_MAX 4096

struct fake_version { /* one write of one key */
    char *key;
    struct kp_blob *value; /* NULL: deleted */
    int64_t revision, created, lease;
};
struct store_watch {
    struct store *store;
    const struct store_watch_callbacks *callbacks;
    void *arg;
    size_t told; /* versions */
};
struct store {
    struct loop *loop;
    pthread_mutex_t mutex; /* the versions */
    struct fake_version versions[FAKE_VERSIONS_MAX];
    size_t len;
    int64_t revision, compacted;
    struct store_watch *watch; /* one is all that the caches have; of the loop's thread */
    int fail_code, fail_after; /* the call after so many fails once with this */
    void (*before_commit)(struct store *store); /* taken back before it is called */
    void (*around_list)(struct store *store, bool done); /* called before and after a page is read */
    void *arg; /* of the test */
    int commits;
};

static inline struct store *fake_store_new(struct loop *loop)
{
    struct store *store = kp_calloc(1, sizeof(*store));
    store->loop = loop;
    store->revision = 1;
    pthread_mutex_init(&store->mutex, NULL);
    return store;
}

static inline void fake_store_free(struct store *store)
{
    for (size_t i = 0; i < store->len; i++) {
        free(store->versions[i].key);
        kp_blob_unref(store->versions[i].value);
    }
    free(store);
}

static inline bool fake_fails(struct store *store, struct kp_error *error)
{
    if (!store->fail_code || store->fail_after-- > 0)
        return false;
    kp_fail(error, store->fail_code, "the test wants this call to fail");
    store->fail_code = 0;
    return true;
}

/* Under the mutex. What the key was at a revision, or NULL. */
static inline struct fake_version *fake_at(struct store *store, const char *key, int64_t revision)
{
    struct fake_version *found = NULL;
    for (size_t i = 0; i < store->len && store->versions[i].revision <= revision; i++)
        if (strcmp(store->versions[i].key, key) == 0)
            found = &store->versions[i];
    return found && found->value ? found : NULL;
}

static inline void fake_kv(const struct fake_version *version, struct kp_arena *arena, struct store_kv *ret)
{
    const char *value = version->value ? kp_arena_strndup(arena, (const char *)version->value->data, version->value->len) : "";
    *ret = (struct store_kv){.key = kp_arena_strdup(arena, version->key),
                             .value = {(const uint8_t *)value, version->value ? version->value->len : 0},
                             .mod_revision = version->revision,
                             .create_revision = version->created,
                             .lease = version->lease};
}

int store_get(struct store *store, const char *key, struct kp_arena *arena, struct store_kv *ret_kv, int64_t *ret_revision, struct kp_error *error)
{
    if (fake_fails(store, error))
        return error->code;
    pthread_mutex_lock(&store->mutex);
    const struct fake_version *version = fake_at(store, key, INT64_MAX);
    *ret_kv = (struct store_kv){.key = key};
    if (version)
        fake_kv(version, arena, ret_kv);
    *ret_revision = store->revision;
    pthread_mutex_unlock(&store->mutex);
    return 0;
}

int store_revision(struct store *store, int64_t *ret_revision, struct kp_error *error)
{
    if (fake_fails(store, error))
        return error->code;
    pthread_mutex_lock(&store->mutex);
    *ret_revision = store->revision;
    pthread_mutex_unlock(&store->mutex);
    return 0;
}

static int compare_kv(const void *a, const void *b)
{
    return strcmp(((const struct store_kv *)a)->key, ((const struct store_kv *)b)->key);
}

int store_list(struct store *store, const char *start, const char *end, int64_t limit, int64_t revision, struct kp_arena *arena,
               struct store_page *ret_page, struct kp_error *error)
{
    if (fake_fails(store, error))
        return error->code;
    if (store->around_list)
        store->around_list(store, false);
    pthread_mutex_lock(&store->mutex);
    int code = 0;
    if (revision && revision < store->compacted)
        code = kp_fail(error, KP_EEXPIRED, "compacted");
    *ret_page = (struct store_page){.revision = store->revision, .items = KP_NEW_ARRAY(arena, struct store_kv, store->len + 1)};
    int64_t at = revision ? revision : INT64_MAX;
    for (size_t i = 0; code == 0 && i < store->len; i++) {
        const struct fake_version *version = &store->versions[i];
        if (strcmp(version->key, start) >= 0 && strcmp(version->key, end) < 0 && fake_at(store, version->key, at) == version)
            fake_kv(version, arena, &ret_page->items[ret_page->len++]);
    }
    pthread_mutex_unlock(&store->mutex);
    qsort(ret_page->items, ret_page->len, sizeof(*ret_page->items), compare_kv);
    ret_page->count = (int64_t)ret_page->len;
    if (limit && (int64_t)ret_page->len > limit) {
        ret_page->len = (size_t)limit;
        ret_page->more = true;
    }
    if (store->around_list)
        store->around_list(store, true);
    return code;
}

const char *store_prefix_end(const char *prefix, struct kp_arena *arena)
{
    char *end = kp_arena_strdup(arena, prefix);
    end[strlen(end) - 1]++;
    return end;
}

/* On the loop: what the watch has not been told of yet. */
static inline void fake_deliver(void *arg)
{
    struct store *store = arg;
    struct store_watch *watch = store->watch;
    if (!watch)
        return;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    pthread_mutex_lock(&store->mutex);
    size_t count = 0;
    struct store_event *events = KP_NEW_ARRAY(arena, struct store_event, store->len - watch->told + 1);
    for (; watch->told < store->len; watch->told++) {
        const struct fake_version *version = &store->versions[watch->told];
        fake_kv(version, arena, &events[count].kv);
        events[count++].deleted = !version->value;
    }
    int64_t revision = store->revision;
    pthread_mutex_unlock(&store->mutex);
    watch->callbacks->on_events(watch->arg, events, count, revision);
}

int store_commit(struct store *store, const struct store_op *ops, size_t count, struct kp_arena *arena, int64_t *ret_revision,
                 struct store_kv *ret_current, struct kp_error *error)
{
    if (store->before_commit) {
        void (*hook)(struct store *) = store->before_commit;
        store->before_commit = NULL;
        hook(store);
    }
    if (fake_fails(store, error))
        return error->code;
    pthread_mutex_lock(&store->mutex);
    bool holds = true;
    for (size_t i = 0; i < count; i++) {
        const struct fake_version *there = fake_at(store, ops[i].key, INT64_MAX);
        holds = holds && (ops[i].expect == STORE_ANY || ops[i].expect == (there ? there->revision : 0));
        if (ret_current)
            ret_current[i] = (struct store_kv){.key = ops[i].key};
        if (ret_current && there)
            fake_kv(there, arena, &ret_current[i]);
    }
    if (holds) {
        store->revision++;
        store->commits++;
    }
    for (size_t i = 0; holds && i < count; i++) {
        const struct fake_version *there = fake_at(store, ops[i].key, INT64_MAX);
        if (ops[i].check_only || (!ops[i].value && !there))
            continue;
        assert_true(store->len < FAKE_VERSIONS_MAX);
        store->versions[store->len++] = (struct fake_version){.key = kp_strdup(ops[i].key),
                                                              .value = ops[i].value ? kp_blob_new(ops[i].value, ops[i].len) : NULL,
                                                              .revision = store->revision,
                                                              .created = there ? there->created : store->revision,
                                                              .lease = ops[i].lease};
    }
    *ret_revision = store->revision;
    pthread_mutex_unlock(&store->mutex);
    if (!holds)
        return kp_fail(error, KP_ECONFLICT, "an expectation does not hold");
    loop_call(store->loop, fake_deliver, store);
    return 0;
}

int store_lease(struct store *store, int64_t ttl_s, int64_t *ret_lease, struct kp_error *error)
{
    if (fake_fails(store, error))
        return error->code;
    *ret_lease = ttl_s;
    return 0;
}

int store_compact(struct store *store, int64_t revision, struct kp_error *error)
{
    if (fake_fails(store, error))
        return error->code;
    store->compacted = revision;
    return 0;
}

static inline void fake_link_watch(void *arg)
{
    struct store_watch *watch = arg;
    watch->store->watch = watch;
    fake_deliver(watch->store);
}

static inline void fake_unlink_watch(void *arg)
{
    struct store_watch *watch = arg;
    if (watch->store->watch == watch)
        watch->store->watch = NULL;
}

struct store_watch *store_watch_start(struct store *store, const char *prefix, int64_t from_revision,
                                      const struct store_watch_callbacks *callbacks, void *arg)
{
    (void)prefix; /* all that is asked for is everything */
    struct store_watch *watch = kp_calloc(1, sizeof(*watch));
    *watch = (struct store_watch){.store = store, .callbacks = callbacks, .arg = arg};
    pthread_mutex_lock(&store->mutex);
    while (watch->told < store->len && store->versions[watch->told].revision < from_revision)
        watch->told++;
    pthread_mutex_unlock(&store->mutex);
    loop_call(store->loop, fake_link_watch, watch);
    return watch;
}

void store_watch_progress(struct store_watch *watch)
{
    (void)watch; /* the caches are told of everything at once */
}

void store_watch_free(struct store_watch *watch)
{
    if (!watch)
        return;
    loop_call(watch->store->loop, fake_unlink_watch, watch);
    free(watch);
}

/* Puts (json NULL: deletes) a key past all checks, as another API server would. */
static inline int64_t fake_put(struct store *store, const char *key, const char *json)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct store_op op = {.key = key, .expect = STORE_ANY, .value = json, .len = json ? strlen(json) : 0};
    int64_t revision;
    struct kp_error error = {0};
    if (store_commit(store, &op, 1, arena, &revision, NULL, &error) < 0)
        fail_msg("%s", error.message);
    return revision;
}

#endif
