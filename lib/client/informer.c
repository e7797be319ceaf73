/* An informer: lists a resource, watches it from there, keeps an indexed cache and tells handlers what changed. */
#include "lib/client/client_internal.h"

#include <pthread.h>

/* State machine, all on the client's loop thread:
     IDLE -start-> LISTING -list done-> WATCHING -stream ended-> BACKOFF -timer-> WATCHING
     LISTING -failed-> BACKOFF -timer-> LISTING;  WATCHING -410 Gone-> LISTING;  any -free-> STOPPED */
enum informer_state { INFORMER_IDLE, INFORMER_LISTING, INFORMER_WATCHING, INFORMER_BACKOFF, INFORMER_STOPPED };

#define INFORMER_BACKOFF_MIN_MS 20
#define INFORMER_BACKOFF_MAX_MS 30000   /* client-go's reflector backs off to 30 s */
#define INFORMER_WATCH_TIMEOUT_S 420    /* reflector: 5 to 10 minutes */
#define INFORMER_SHORT_WATCH_MS 1000
#define INFORMER_HANDLERS_MAX 16
#define INFORMER_LIST_BYTES_MAX ((size_t)1 << 30)
#define INFORMER_EVENT_BYTES_MAX ((size_t)8 << 20)

struct entry { /* one cached object with the index values it was filed under */
    struct client_object *object;
    uint64_t generation; /* of the list that last saw it */
};

struct index {
    client_index_fn fn;
    struct kp_strmap *buckets; /* value -> struct bucket */
};

struct bucket {
    struct client_object **items; /* borrowed from the entries */
    size_t len, cap;
};

struct client_informer {
    struct client *client;
    const struct kp_resource *resource;
    const struct kp_type *type, *list_type; /* what is decoded and cached */
    const char *accept_list, *accept_watch;
    char *ns, *label_selector, *field_selector;
    struct {
        client_handler fn;
        void *arg;
    } handlers[INFORMER_HANDLERS_MAX];
    size_t n_handlers;
    struct index indexes[CLIENT_INDEXES_MAX];
    size_t n_indexes;

    /* loop thread only */
    enum informer_state state;
    bool need_list;
    struct http_call *call;
    int status;
    struct kp_buf body;
    struct loop_timer *timer;
    int64_t backoff_ms;
    uint64_t generation;
    char *resource_version;
    int64_t watch_since_ms;
    size_t watch_events; /* of the present watch, bookmarks too */
    bool started;        /* set before the loop knows it; only then has stop anything to stop there */
    bool ended;          /* after a stop: the loop calls back no more */

    /* guarded by lock: written on the loop thread, read anywhere */
    pthread_rwlock_t lock;
    struct kp_strmap *entries; /* "ns/name" -> struct entry */
    pthread_mutex_t sync_lock;
    pthread_cond_t sync_changed;
    bool synced;
    char last_error[256];
};

static void begin(struct client_informer *informer);

struct client_informer *client_informer_new(struct client *client, const struct kp_resource *resource, const char *ns,
                                            const char *label_selector, const char *field_selector)
{
    struct client_informer *informer = kp_calloc(1, sizeof(*informer));
    informer->client = client;
    informer->resource = resource;
    informer->type = resource->type;
    informer->list_type = resource->list_type;
    informer->accept_list = informer->accept_watch = "application/json";
    informer->ns = kp_empty(ns) ? NULL : kp_strdup(ns);
    informer->label_selector = kp_strdup(label_selector);
    informer->field_selector = kp_strdup(field_selector);
    informer->need_list = true;
    informer->entries = kp_strmap_new();
    pthread_rwlock_init(&informer->lock, NULL);
    pthread_mutex_init(&informer->sync_lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&informer->sync_changed, &attr);
    pthread_condattr_destroy(&attr);
    return informer;
}

struct client_informer *client_informer_new_metadata(struct client *client, const struct kp_resource *resource)
{
    struct client_informer *informer = client_informer_new(client, resource, NULL, NULL, NULL);
    informer->type = &k8s_partial_object_metadata_type;
    informer->list_type = &k8s_partial_object_metadata_list_type;
    informer->accept_list = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    informer->accept_watch = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    return informer;
}

void client_informer_add_handler(struct client_informer *informer, client_handler handler, void *arg)
{
    KP_ASSERT(informer->n_handlers < INFORMER_HANDLERS_MAX && informer->state == INFORMER_IDLE);
    informer->handlers[informer->n_handlers].fn = handler;
    informer->handlers[informer->n_handlers++].arg = arg;
}

int client_informer_add_index(struct client_informer *informer, client_index_fn fn)
{
    for (size_t i = 0; i < informer->n_indexes; i++)
        if (informer->indexes[i].fn == fn)
            return (int)i;
    KP_ASSERT(informer->n_indexes < CLIENT_INDEXES_MAX && informer->state == INFORMER_IDLE);
    informer->indexes[informer->n_indexes].fn = fn;
    informer->indexes[informer->n_indexes].buckets = kp_strmap_new();
    return (int)informer->n_indexes++;
}

/* ---- cache ------------------------------------------------------------------------------------------------------- */
static char *object_key(const char *ns, const char *name)
{
    return kp_empty(ns) ? kp_strdup(name) : kp_asprintf("%s/%s", ns, name);
}

static void index_object(struct client_informer *informer, struct client_object *object, bool add)
{
    const char *values[CLIENT_INDEX_VALUES_MAX];
    for (size_t i = 0; i < informer->n_indexes; i++) {
        struct index *index = &informer->indexes[i];
        size_t n = index->fn(object, values, CLIENT_INDEX_VALUES_MAX);
        for (size_t v = 0; v < n; v++) {
            struct bucket *bucket = kp_strmap_get(index->buckets, values[v]);
            if (add) {
                if (!bucket) {
                    bucket = kp_calloc(1, sizeof(*bucket));
                    kp_strmap_put(index->buckets, values[v], bucket);
                }
                if (bucket->len == bucket->cap) {
                    bucket->cap = bucket->cap ? bucket->cap * 2 : 4;
                    bucket->items = kp_realloc(bucket->items, bucket->cap * sizeof(struct client_object *));
                }
                bucket->items[bucket->len++] = object;
                continue;
            }
            for (size_t k = 0; bucket && k < bucket->len; k++)
                if (bucket->items[k] == object) {
                    bucket->items[k] = bucket->items[--bucket->len];
                    break;
                }
            if (bucket && bucket->len == 0) {
                kp_strmap_remove(index->buckets, values[v]);
                free(bucket->items);
                free(bucket);
            }
        }
    }
}

static void tell(struct client_informer *informer, struct client_object *old, struct client_object *new)
{
    for (size_t i = 0; i < informer->n_handlers; i++)
        informer->handlers[i].fn(old, new, informer->handlers[i].arg);
}

/* Takes over the reference to `object`; NULL means the key was deleted. */
static void store(struct client_informer *informer, const char *key, struct client_object *object)
{
    struct client_object *old = NULL;
    pthread_rwlock_wrlock(&informer->lock);
    struct entry *entry = kp_strmap_get(informer->entries, key);
    if (entry) {
        old = entry->object;
        index_object(informer, old, false);
    }
    if (object) {
        if (!entry) {
            entry = kp_calloc(1, sizeof(*entry));
            kp_strmap_put(informer->entries, key, entry);
        }
        entry->object = object;
        entry->generation = informer->generation;
        index_object(informer, object, true);
    } else if (entry) {
        kp_strmap_remove(informer->entries, key);
        free(entry);
    }
    pthread_rwlock_unlock(&informer->lock);
    if (old || object)
        tell(informer, old, object);
    client_object_unref(old);
}

/* Deletes what the newest list no longer had. */
static void sweep(struct client_informer *informer)
{
    struct kp_strings gone = {0};
    size_t iter = 0;
    const char *key;
    void *value;
    while (kp_strmap_next(informer->entries, &iter, &key, &value))
        if (((struct entry *)value)->generation != informer->generation)
            kp_strings_add(&gone, key);
    for (size_t i = 0; i < gone.len; i++)
        store(informer, gone.items[i], NULL);
    kp_strings_done(&gone);
}

static void set_synced(struct client_informer *informer)
{
    pthread_mutex_lock(&informer->sync_lock);
    informer->synced = true;
    pthread_cond_broadcast(&informer->sync_changed);
    pthread_mutex_unlock(&informer->sync_lock);
}

static void note_error(struct client_informer *informer, const char *message)
{
    pthread_mutex_lock(&informer->sync_lock);
    bool news = strncmp(informer->last_error, message, sizeof(informer->last_error) - 1) != 0;
    snprintf(informer->last_error, sizeof(informer->last_error), "%s", message);
    pthread_mutex_unlock(&informer->sync_lock);
    if (news)
        kp_warn("informer will try again", "resource", informer->resource->name, "error", message, NULL);
}

/* ---- list and watch ------------------------------------------------------------------------------------------------ */
static void set_version(struct client_informer *informer, const char *resource_version)
{
    if (kp_empty(resource_version))
        return;
    char *copy = kp_strdup(resource_version);
    free(informer->resource_version);
    informer->resource_version = copy;
}

static void on_timer(void *arg)
{
    struct client_informer *informer = arg;
    begin(informer);
}

static void back_off(struct client_informer *informer, bool failed)
{
    informer->state = INFORMER_BACKOFF;
    if (!failed) {
        informer->backoff_ms = 0;
    } else {
        informer->backoff_ms = informer->backoff_ms ? informer->backoff_ms * 2 : INFORMER_BACKOFF_MIN_MS;
        informer->backoff_ms = KP_MIN(informer->backoff_ms, (int64_t)INFORMER_BACKOFF_MAX_MS);
    }
    int64_t jitter = informer->backoff_ms ? (int64_t)(kp_random_u64() % (uint64_t)(informer->backoff_ms / 2 + 1)) : 0;
    loop_timer_start(informer->timer, informer->backoff_ms + jitter, 0);
}

static int take_list(struct client_informer *informer, struct kp_error *error)
{
    const struct kp_type *type = informer->type, *list_type = informer->list_type;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(INFORMER_LIST_BYTES_MAX);
    void *list;
    if (kp_json_decode(list_type, informer->body.data, informer->body.len, arena, NULL, &list, error) < 0)
        return kp_wrap(error, "list of %s", informer->resource->name);
    const struct kp_list *items = (const struct kp_list *)(const void *)((const char *)list + list_type->items_offset);
    informer->generation++;
    for (size_t i = 0; i < items->len; i++) {
        const void *item = (const char *)items->items + i * type->size;
        const struct k8s_object_meta *meta = kp_object_meta(type, item);
        KP_AUTO_FREE char *key = object_key(meta->namespace, meta->name);
        struct entry *entry = kp_strmap_get(informer->entries, key);
        if (entry && kp_streq(entry->object->resource_version, meta->resource_version))
            entry->generation = informer->generation;
        else
            store(informer, key, client_object_copy(type, item));
    }
    sweep(informer);
    set_version(informer, kp_object_list_meta(list_type, list)->resource_version);
    return 0;
}

static int take_event(struct client_informer *informer, const char *line, size_t len, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    void *decoded;
    if (kp_json_decode(&k8s_watch_event_type, line, len, arena, NULL, &decoded, error) < 0)
        return kp_wrap(error, "watch event of %s", informer->resource->name);
    const struct k8s_watch_event *event = decoded;
    if (!event->type || !event->object.json)
        return kp_fail(error, KP_EBADREQUEST, "watch event of %s without type or object", informer->resource->name);
    if (strcmp(event->type, "ERROR") == 0)
        return client_status_to_error(event->object.json, event->object.len, 500, error);
    struct client_object *object;
    if (client_object_decode(informer->type, event->object.json, event->object.len, &object, error) < 0)
        return error->code;
    if (strcmp(event->type, "BOOKMARK") == 0) {
        set_version(informer, object->resource_version);
        client_object_unref(object);
        return 0;
    }
    set_version(informer, object->resource_version);
    KP_AUTO_FREE char *key = object_key(object->ns, object->name);
    if (strcmp(event->type, "DELETED") == 0) {
        store(informer, key, NULL);
        client_object_unref(object);
    } else {
        store(informer, key, object);
    }
    return 0;
}

static void on_headers(struct http_call *call, int status, const struct http_header *headers, size_t count, void *arg)
{
    struct client_informer *informer = arg;
    informer->status = status;
}

static void on_data(struct http_call *call, const uint8_t *data, size_t len, void *arg)
{
    struct client_informer *informer = arg;
    if (informer->state == INFORMER_STOPPED)
        return;
    kp_buf_append(&informer->body, data, len);
    if (informer->state != INFORMER_WATCHING || informer->status != 200) {
        if (informer->body.len > INFORMER_LIST_BYTES_MAX)
            http_call_cancel(call);
        return;
    }
    size_t start = 0;
    char *newline;
    while ((newline = memchr(informer->body.data + start, '\n', informer->body.len - start))) {
        size_t end = (size_t)(newline - informer->body.data);
        struct kp_error error = {0};
        if (end > start && take_event(informer, informer->body.data + start, end - start, &error) < 0) {
            if (error.code == KP_EEXPIRED)
                informer->need_list = true;
            else
                note_error(informer, error.message);
            http_call_cancel(call);
            return;
        }
        informer->backoff_ms = 0;
        informer->watch_events++;
        start = end + 1;
    }
    kp_buf_consume(&informer->body, start);
    if (informer->body.len > INFORMER_EVENT_BYTES_MAX) {
        note_error(informer, "watch event larger than 8 MiB");
        http_call_cancel(call);
    }
}

static void on_list_end(struct client_informer *informer, const struct kp_error *failure)
{
    struct kp_error error = {0};
    if (failure) {
        note_error(informer, failure->message);
        back_off(informer, true);
        return;
    }
    if (informer->status != 200)
        client_status_to_error(informer->body.data, informer->body.len, informer->status, &error);
    else
        take_list(informer, &error);
    if (error.code < 0) {
        note_error(informer, error.message);
        back_off(informer, true);
        return;
    }
    informer->need_list = false;
    informer->backoff_ms = 0;
    set_synced(informer);
    begin(informer);
}

static void on_watch_end(struct client_informer *informer, const struct kp_error *failure)
{
    /* A server that ends every watch at once must not be asked without end (client-go: "very short watch"). */
    bool cut_short = informer->watch_events == 0 && kp_mono_ms() - informer->watch_since_ms < INFORMER_SHORT_WATCH_MS;
    bool failed = (failure != NULL || cut_short) && !informer->need_list;
    if (informer->status != 200 && informer->status != 0) {
        struct kp_error error = {0};
        client_status_to_error(informer->body.data, informer->body.len, informer->status, &error);
        if (error.code == KP_EEXPIRED)
            informer->need_list = true;
        note_error(informer, error.message);
        failed = true;
    } else if (failure && failure->code != KP_ECANCELLED) {
        note_error(informer, failure->message);
    }
    back_off(informer, failed);
}

static void on_end(struct http_call *call, const struct kp_error *failure, void *arg)
{
    struct client_informer *informer = arg;
    http_call_unref(KP_TAKE(informer->call));
    if (informer->state == INFORMER_LISTING)
        on_list_end(informer, failure);
    else if (informer->state == INFORMER_WATCHING)
        on_watch_end(informer, failure);
}

static void begin(struct client_informer *informer)
{
    static const struct http_call_callbacks callbacks = {.on_headers = on_headers, .on_data = on_data, .on_end = on_end};
    if (informer->state == INFORMER_STOPPED)
        return;
    KP_AUTO_BUF struct kp_buf path = {0};
    client_resource_path(&path, informer->resource, informer->ns, NULL, NULL);
    if (!kp_empty(informer->label_selector))
        http_query_append(&path, "labelSelector", informer->label_selector);
    if (!kp_empty(informer->field_selector))
        http_query_append(&path, "fieldSelector", informer->field_selector);
    informer->status = 0;
    informer->body.len = 0;
    if (informer->need_list) {
        kp_buf_done(&informer->body); /* a big list must not keep its buffer for the watch */
        informer->state = INFORMER_LISTING;
    } else {
        char seconds[16];
        snprintf(seconds, sizeof(seconds), "%d", INFORMER_WATCH_TIMEOUT_S + (int)(kp_random_u64() % 120));
        informer->state = INFORMER_WATCHING;
        informer->watch_since_ms = kp_mono_ms();
        informer->watch_events = 0;
        http_query_append(&path, "watch", "true");
        http_query_append(&path, "allowWatchBookmarks", "true");
        http_query_append(&path, "resourceVersion", informer->resource_version);
        http_query_append(&path, "timeoutSeconds", seconds);
    }
    informer->call = client_stream(informer->client, path.data, informer->need_list ? informer->accept_list : informer->accept_watch,
                                   informer->need_list ? 60000 : -1, &callbacks, informer);
}

static void start_on_loop(void *arg)
{
    struct client_informer *informer = arg;
    informer->timer = loop_timer_new(client_loop(informer->client), on_timer, informer);
    begin(informer);
}

void client_informer_start(struct client_informer *informer)
{
    informer->started = true;
    loop_post(client_loop(informer->client), start_on_loop, informer);
}

static void stop_on_loop(void *arg)
{
    struct client_informer *informer = arg;
    informer->state = INFORMER_STOPPED;
    loop_timer_free(KP_TAKE(informer->timer));
    if (informer->call)
        http_call_cancel(informer->call);
}

static void check_ended(void *arg)
{
    struct client_informer *informer = arg;
    informer->ended = informer->call == NULL; /* on_end was the last callback */
}

static void free_entry(void *p)
{
    struct entry *entry = p;
    client_object_unref(entry->object);
    free(entry);
}

static void free_bucket(void *p)
{
    struct bucket *bucket = p;
    free(bucket->items);
    free(bucket);
}

void client_informer_stop(struct client_informer *informer)
{
    if (!informer->started)
        return;
    loop_call(client_loop(informer->client), stop_on_loop, informer);
    while (informer->started) {
        loop_call(client_loop(informer->client), check_ended, informer);
        if (informer->ended)
            informer->started = false;
        else
            kp_sleep_ms(1);
    }
}

void client_informer_free(struct client_informer *informer)
{
    if (!informer)
        return;
    client_informer_stop(informer);
    kp_strmap_free(informer->entries, free_entry);
    for (size_t i = 0; i < informer->n_indexes; i++)
        kp_strmap_free(informer->indexes[i].buckets, free_bucket);
    kp_buf_done(&informer->body);
    pthread_rwlock_destroy(&informer->lock);
    pthread_mutex_destroy(&informer->sync_lock);
    pthread_cond_destroy(&informer->sync_changed);
    free(informer->resource_version);
    free(informer->ns);
    free(informer->label_selector);
    free(informer->field_selector);
    free(informer);
}

/* ---- for tests: a cache without a server ---- */
void client_informer_inject(struct client_informer *informer, const void *data)
{
    struct client_object *object = client_object_copy(informer->type, data);
    KP_AUTO_FREE char *key = object_key(object->ns, object->name);
    KP_ASSERT(!informer->started);
    store(informer, key, object);
    set_synced(informer);
}

void client_informer_inject_delete(struct client_informer *informer, const char *ns, const char *name)
{
    KP_AUTO_FREE char *key = object_key(ns, name);
    KP_ASSERT(!informer->started);
    store(informer, key, NULL);
}

/* ---- reading --------------------------------------------------------------------------------------------------------- */
bool client_informer_synced(const struct client_informer *informer)
{
    struct client_informer *mutable = (struct client_informer *)informer;
    pthread_mutex_lock(&mutable->sync_lock);
    bool synced = informer->synced;
    pthread_mutex_unlock(&mutable->sync_lock);
    return synced;
}

int client_informers_wait(struct client_informer *const *informers, size_t count, int64_t timeout_ms,
                          struct kp_error *error)
{
    int64_t until_ms = kp_mono_ms() + timeout_ms;
    struct timespec until = {.tv_sec = until_ms / 1000, .tv_nsec = (until_ms % 1000) * 1000000};
    for (size_t i = 0; i < count; i++) {
        struct client_informer *informer = informers[i];
        int code = 0;
        pthread_mutex_lock(&informer->sync_lock);
        while (!informer->synced && code == 0)
            if (pthread_cond_timedwait(&informer->sync_changed, &informer->sync_lock, &until) != 0 && !informer->synced)
                code = kp_fail(error, KP_ETIMEOUT, "%s were not listed within %lld ms: %s", informer->resource->name,
                               (long long)timeout_ms, informer->last_error[0] ? informer->last_error : "no answer yet");
        pthread_mutex_unlock(&informer->sync_lock);
        if (code < 0)
            return code;
    }
    return 0;
}

size_t client_informer_len(const struct client_informer *informer)
{
    struct client_informer *mutable = (struct client_informer *)informer;
    pthread_rwlock_rdlock(&mutable->lock);
    size_t len = kp_strmap_len(informer->entries);
    pthread_rwlock_unlock(&mutable->lock);
    return len;
}

struct client_object *client_informer_get(const struct client_informer *informer, const char *ns, const char *name)
{
    struct client_informer *mutable = (struct client_informer *)informer;
    KP_AUTO_FREE char *key = object_key(ns, name);
    pthread_rwlock_rdlock(&mutable->lock);
    struct entry *entry = kp_strmap_get(informer->entries, key);
    struct client_object *object = entry ? client_object_ref(entry->object) : NULL;
    pthread_rwlock_unlock(&mutable->lock);
    return object;
}

size_t client_informer_snapshot(const struct client_informer *informer, const char *ns, int index, const char *value,
                                struct client_object ***ret_objects)
{
    struct client_informer *mutable = (struct client_informer *)informer;
    struct client_object **objects = NULL;
    size_t n = 0;
    pthread_rwlock_rdlock(&mutable->lock);
    if (index >= 0) {
        const struct bucket *bucket = kp_strmap_get(informer->indexes[index].buckets, value);
        objects = kp_calloc(bucket ? bucket->len + 1 : 1, sizeof(struct client_object *));
        for (size_t i = 0; bucket && i < bucket->len; i++)
            objects[n++] = client_object_ref(bucket->items[i]);
    } else {
        objects = kp_calloc(kp_strmap_len(informer->entries) + 1, sizeof(struct client_object *));
        size_t iter = 0;
        const char *key;
        void *entry;
        while (kp_strmap_next(informer->entries, &iter, &key, &entry)) {
            struct client_object *object = ((struct entry *)entry)->object;
            if (!ns || strcmp(object->ns, ns) == 0)
                objects[n++] = client_object_ref(object);
        }
    }
    pthread_rwlock_unlock(&mutable->lock);
    *ret_objects = objects;
    return n;
}
