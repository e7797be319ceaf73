/* controlplane/apiserver/watch: one watch cache per resource, fed by a single etcd watch; serves reads, lists and watches. */
#ifndef APISERVER_WATCH_H
#define APISERVER_WATCH_H

#include "controlplane/apiserver/status/status.h"
#include "controlplane/apiserver/storage/storage.h"
#include "lib/codec/codec.h"
#include "lib/http/http.h"

#define WCACHE_EVENTS_MIN 128      /* events kept for watches from a version, per resource, to begin with */
#define WCACHE_EVENTS_MAX 102400
#define WCACHE_EVENTS_SPAN_MS 75000 /* the ring grows while it covers less time than this */
#define WCACHE_FRESH_TIMEOUT_MS 3000 /* wait for a revision at most this long */
#define WCACHE_BOOKMARK_PERIOD_MS 60000
#define WCACHE_WATCHERS_MAX 50000   /* per resource */

/* A resource as it is stored. */
struct wcache_kind {
    const struct kp_resource *resource; /* of the storage version */
    const char *prefix;                 /* "/registry/pods/", with the slash */
    /* Selectable fields beside metadata.name and metadata.namespace, "spec.nodeName", or "source=source.component" when the
       name is not the path; NULL-terminated, may be NULL. */
    const char *const *fields;
};
/* An object: immutable, counted. */
struct wcache_object {
    int refs;
    int64_t revision;      /* etcd mod revision; metadata.resourceVersion in json is the same */
    const char *key;       /* "ns/name", or "name" when cluster-scoped: the key after the prefix */
    const char *ns, *name, *uid; /* "" when not set */
    struct kp_string_map labels;
    const char **fields;   /* values, in the order of wcache_kind.fields */
    struct kp_blob *json;  /* the object, compact JSON with kind and apiVersion */
};
struct wcache_object *wcache_object_ref(struct wcache_object *object);
void wcache_object_unref(struct wcache_object *object); /* accepts NULL */
KP_DEFINE_AUTO(struct wcache_object *, wcache_object_unref)
/* From a typed object; json says resourceVersion revision, obj is left as it was. */
struct wcache_object *wcache_object_new(const struct wcache_kind *kind, const char *key, void *obj, int64_t revision);
/* From stored bytes (JSON, or Kubernetes protobuf). KP_ECORRUPT when they cannot be decoded. */
int wcache_object_decode(const struct wcache_kind *kind, const char *key, const void *data, size_t len, int64_t revision,
                         struct wcache_object **ret_object, struct kp_error *error) KP_NODISCARD;
/* True when an entry of wcache_kind.fields has this name. */
bool wcache_field_is(const char *entry, const char *name);
/* The value of a scalar field by path ("spec.nodeName"); "" when unset. In arena. */
const char *wcache_field_value(const struct kp_type *type, const void *obj, const char *path, struct kp_arena *arena);

struct wcache;     /* of one resource */
struct wcache_set; /* of all */
/* kinds are borrowed for good. Starts loading on the loop of the store; store outlives the set. */
struct wcache_set *wcache_set_new(struct loop *loop, struct store *store, const struct wcache_kind *const *kinds, size_t count);
void wcache_set_free(struct wcache_set *set); /* accepts NULL */
/* Adds a resource while the set runs: reads what the store has of it and follows it from there on, without missing or repeating a change.
   The set need not be ready. kind is borrowed for good. Blocks; any thread but the loop's. KP_ECONFLICT when there is one with that prefix,
   or one prefix begins with the other; else the store's error. On failure nothing is added. */
int wcache_set_add(struct wcache_set *set, const struct wcache_kind *kind, struct kp_error *error) KP_NODISCARD;
/* Ends its watches, tells its listeners that all is gone, and forgets what it holds: the resource with the prefix of kind. The cache itself
   stays, empty, for whoever still has it in hand. Absent is fine. Blocks while another thread adds, or all is read anew; any thread but the
   loop's. */
void wcache_set_remove(struct wcache_set *set, const struct wcache_kind *kind);
/* Who had a cache in hand and found nothing in it asks this, for then it says nothing about the store. */
bool wcache_removed(struct wcache *cache);
bool wcache_set_ready(struct wcache_set *set); /* loaded, and the watch runs */
/* Waits up to timeout_ms for wcache_set_ready. */
bool wcache_set_wait_ready(struct wcache_set *set, int64_t timeout_ms);
struct wcache *wcache_find(struct wcache_set *set, const char *group, const char *resource); /* NULL when there is none; never freed */
const struct wcache_kind *wcache_kind(const struct wcache *cache);
int64_t wcache_revision(struct wcache_set *set); /* everything up to here is in the caches */
/* Waits until the caches hold revision; 0, or KP_ETIMEOUT. Any thread but the loop's. */
int wcache_wait(struct wcache_set *set, int64_t revision, int64_t timeout_ms);
/* Waits until the caches are as new as the store is now. */
int wcache_wait_fresh(struct wcache_set *set, struct kp_error *error);
/* The caller gets a reference, or NULL. Any thread. key as wcache_object.key. */
struct wcache_object *wcache_get(struct wcache *cache, const char *key);

struct wcache_filter {
    const char *ns;   /* "" or NULL: all */
    const char *name; /* "" or NULL: all */
    const struct kp_selector *labels, *fields; /* NULL: all */
};
bool wcache_filter_matches(const struct wcache_kind *kind, const struct wcache_filter *filter, const struct wcache_object *object);
struct wcache_list {
    struct wcache_object **items; /* in arena, one reference each: wcache_list_done */
    size_t len;
    int64_t revision;
    const char *next;     /* key to go on from when limited, else NULL */
    int64_t remaining;    /* objects after the last one, before selectors */
};
/* start: first key to consider, or NULL; limit 0: all. Any thread. */
void wcache_list(struct wcache *cache, const struct wcache_filter *filter, const char *start, size_t limit, struct kp_arena *arena,
                 struct wcache_list *ret_list);
void wcache_list_done(struct wcache_list *list);

/* ---- watches ---------------------------------------------------------------------------------------------------- */
enum wcache_event_type { WCACHE_ADDED, WCACHE_MODIFIED, WCACHE_DELETED, WCACHE_BOOKMARK, WCACHE_ERROR };
const char *wcache_event_name(enum wcache_event_type type);
/* Makes the bytes of one frame, or NULL to send none. May run on the apply thread: must not block. */
typedef struct kp_blob *(*wcache_frame_fn)(void *arg, enum wcache_event_type type, struct wcache_object *object);
struct wcache_watch_request {
    struct wcache_filter filter; /* copied deeply */
    int64_t revision;            /* events after this one; 0 with initial: the state as ADDED events first */
    bool initial;                /* send the present state first */
    bool initial_bookmark;       /* and the bookmark k8s.io/initial-events-end after it */
    bool bookmarks;
    int64_t timeout_ms;          /* the stream ends then */
    wcache_frame_fn frame;       /* NULL: JSON frames, shared among watches */
    void *arg;
    void (*free_arg)(void *arg); /* called when the watch is gone; may be NULL */
};
/* Takes over: frames go to stream until it closes, times out or is too slow. revision older than the ring: KP_EEXPIRED with
   status, and the stream is not touched (start(start_arg) makes it; called under the cache's lock, must not block; NULL: the peer has gone).
   The same of a resource that was removed: the client lists again, and learns then whether there is one. */
int wcache_watch(struct wcache *cache, const struct wcache_watch_request *request, struct http_stream *(*start)(void *arg),
                 void *start_arg, struct api_status *status);
/* Told of every event of the resource, on the apply thread, after the cache has it; object is the new state, old the former
   (NULL when none); object NULL when deleted. First called for all that is there. Until the resource is removed; call before the set is
   ready or later. Must not add or remove resources. */
typedef void (*wcache_listener_fn)(void *arg, struct wcache_object *object, struct wcache_object *old);
void wcache_listen(struct wcache *cache, wcache_listener_fn fn, void *arg);

#endif
