/* lib/client: the API client every program of ours uses - requests, list and watch, informers, work queues, leader
 * election and events. Objects are the structs generated from api/. */
#ifndef KP_CLIENT_H
#define KP_CLIENT_H

#include "lib/base/base.h"
#include "lib/codec/codec.h"
#include "lib/loop/loop.h"

struct k8s_object_reference;

/* ---- connection ------------------------------------------------------------------------------------------------ */
#define CLIENT_SERVERS_MAX 8
struct client_config {
    const char *servers[CLIENT_SERVERS_MAX]; /* "https://10.0.0.1:6443"; tried in turn */
    size_t n_servers;
    const char *ca_pem;          /* text; NULL: system store */
    const char *client_cert_pem; /* text; NULL: none */
    const char *client_key_pem;
    const char *token;           /* bearer token, or NULL */
    const char *token_file;      /* re-read when it changes (projected service-account tokens), or NULL */
    const char *tls_server_name; /* overrides the host name that is verified, or NULL */
    const char *ns;              /* the context's namespace, or NULL */
    const char *user_agent;      /* "kube-scheduler/v1.36.0"; NULL: the program's name */
    int64_t timeout_ms;          /* of one request; 0: 30,000 */
};
/* Fills *ret_config from a kubeconfig file (its current context, or `context` when not NULL). All strings live in
   arena. Names the file and key in errors. */
int client_config_from_kubeconfig(const char *path, const char *context, struct kp_arena *arena,
                                  struct client_config *ret_config, struct kp_error *error);
/* From a pod's service account: KUBERNETES_SERVICE_HOST/PORT and /var/run/secrets/kubernetes.io/serviceaccount. */
int client_config_in_cluster(struct kp_arena *arena, struct client_config *ret_config, struct kp_error *error);

struct client; /* thread-safe */
/* Copies the config. loop runs the sockets, informers and their handlers; borrowed until client_free, and must be
   running (in a thread of its own) for any call to finish. Does not connect yet. */
int client_new(struct loop *loop, const struct client_config *config, struct client **ret_client,
               struct kp_error *error);
void client_free(struct client *client); /* accepts NULL; informers must be stopped first */
KP_DEFINE_AUTO(struct client *, client_free)

/* ---- requests: blocking, from any thread but the loop's ----------------------------------------------------------- */
/* Errors carry the server's Status message; the code follows its reason (KP_ENOTFOUND, KP_ECONFLICT, KP_EEXISTS, ...).
   Objects come back in arena. ns is NULL or "" for cluster-scoped resources and for all namespaces in lists.
   ret_obj may be NULL when the answer is of no interest. */
struct client_list_options {
    const char *label_selector, *field_selector, *resource_version, *continue_token;
    int64_t limit;
    bool metadata; /* asks for metadata alone: the list is a struct k8s_partial_object_metadata_list */
};
enum client_patch { CLIENT_PATCH_JSON, CLIENT_PATCH_MERGE, CLIENT_PATCH_STRATEGIC, CLIENT_PATCH_APPLY };
struct client_write_options {
    const char *subresource;   /* "status", "scale", "binding", ... or NULL */
    const char *field_manager; /* or NULL */
    bool force;                /* of an apply */
    bool dry_run;
};
struct client_delete_options {
    int64_t grace_period_s;     /* -1: the server's default */
    const char *propagation;    /* "Foreground", "Background", "Orphan" or NULL */
    const char *uid;            /* precondition, or NULL */
    const char *resource_version;
};
#define CLIENT_DELETE_DEFAULT (&(const struct client_delete_options){.grace_period_s = -1})

struct ws;
struct http_cancel;
/* A WebSocket (lib/http) to a path of the API server, on a connection of its own: exec, attach, port-forward. protocols: those offered,
   NULL-terminated; cancel may be NULL. *ret_ws is the caller's reference. */
int client_websocket(struct client *client, const char *path, const char *const *protocols, struct http_cancel *cancel, struct ws **ret_ws,
                     struct kp_error *error) KP_NODISCARD;

/* No request that this thread makes from now on lasts beyond the moment given (kp_mono_ms()); 0 lifts that. */
void client_thread_deadline(int64_t deadline_ms);

int client_get(struct client *client, const struct kp_resource *resource, const char *ns, const char *name,
               struct kp_arena *arena, void **ret_obj, struct kp_error *error);
/* A subresource whose body is of another kind (scale). */
int client_get_sub(struct client *client, const struct kp_resource *resource, const char *ns, const char *name, const char *subresource,
                   const struct kp_type *body_type, struct kp_arena *arena, void **ret_obj, struct kp_error *error);
/* As the API server's cache has it, which may be a little late, but asks nothing of etcd. */
int client_get_cached(struct client *client, const struct kp_resource *resource, const char *ns, const char *name,
                      struct kp_arena *arena, void **ret_obj, struct kp_error *error);
/* *ret_list is the generated list struct (items, metadata). options may be NULL. */
int client_list(struct client *client, const struct kp_resource *resource, const char *ns,
                const struct client_list_options *options, struct kp_arena *arena, void **ret_list,
                struct kp_error *error);
int client_create(struct client *client, const struct kp_resource *resource, const char *ns, const void *obj,
                  const struct client_write_options *options, struct kp_arena *arena, void **ret_obj,
                  struct kp_error *error);
/* Creates through a subresource of a named object; the body and the answer are of body_type
   (pods/binding, pods/eviction, serviceaccounts/token). */
int client_create_sub(struct client *client, const struct kp_resource *resource, const char *ns, const char *name,
                      const char *subresource, const struct kp_type *body_type, const void *body,
                      struct kp_arena *arena, void **ret_obj, struct kp_error *error);
/* Name and namespace are taken from the object's metadata. */
int client_update(struct client *client, const struct kp_resource *resource, const void *obj,
                  const struct client_write_options *options, struct kp_arena *arena, void **ret_obj,
                  struct kp_error *error);
int client_patch(struct client *client, const struct kp_resource *resource, const char *ns, const char *name,
                 enum client_patch type, const char *body, size_t body_len,
                 const struct client_write_options *options, struct kp_arena *arena, void **ret_obj,
                 struct kp_error *error);
int client_delete(struct client *client, const struct kp_resource *resource, const char *ns, const char *name,
                  const struct client_delete_options *options, struct kp_error *error);
/* Everything that matches; selectors may be NULL. */
int client_delete_collection(struct client *client, const struct kp_resource *resource, const char *ns,
                             const char *label_selector, const char *field_selector, struct kp_error *error);
/* Any path ("/readyz"); body may be NULL. Appends the answer's body to *out (may be NULL); an HTTP status of 400 or
   more is an error with the body's Status or text. *ret_status may be NULL. */
int client_raw(struct client *client, const char *method, const char *path, const char *content_type,
               const void *body, size_t body_len, struct kp_buf *out, int *ret_status, struct kp_error *error);

/* ---- informers: list, watch, cache ---------------------------------------------------------------------------------- */
/* One cached object: immutable, counted, with an arena of its own. */
struct client_object {
    int refs; /* atomic */
    const struct kp_type *type;
    const char *ns, *name, *uid; /* borrowed from data; ns is "" when cluster-scoped */
    const char *resource_version;
    const void *data; /* the generated struct, e.g. const struct k8s_pod * */
    struct kp_arena *arena;
};
struct client_object *client_object_ref(struct client_object *object);
void client_object_unref(struct client_object *object); /* accepts NULL */
KP_DEFINE_AUTO(struct client_object *, client_object_unref)

/* Handlers run on the client's loop thread, in the order of the resource versions; they must not block (put a key on a
   queue). old is NULL for an add, new is NULL for a delete. After a relist, objects that went away unseen are
   deleted here too. */
typedef void (*client_handler)(struct client_object *old, struct client_object *new, void *arg);
/* Gives at most `max` index values of an object (borrowed from it); returns how many. */
typedef size_t (*client_index_fn)(const struct client_object *object, const char **values, size_t max);
#define CLIENT_INDEXES_MAX 8
#define CLIENT_INDEX_VALUES_MAX 64

struct client_informer;
/* resource is borrowed for good; selectors are copied. */
struct client_informer *client_informer_new(struct client *client, const struct kp_resource *resource, const char *ns,
                                            const char *label_selector, const char *field_selector);
/* Caches only metadata: objects are struct k8s_partial_object_metadata, asked for as such. For resources of which only
   owners and finalizers matter (garbage collection), at a fraction of the memory. */
struct client_informer *client_informer_new_metadata(struct client *client, const struct kp_resource *resource);
/* Both before start. add_index returns the number to pass to client_view_index; the same one when fn was added before. */
void client_informer_add_handler(struct client_informer *informer, client_handler handler, void *arg);
int client_informer_add_index(struct client_informer *informer, client_index_fn fn);
void client_informer_start(struct client_informer *informer);
/* The first list has been delivered to cache and handlers. */
bool client_informer_synced(const struct client_informer *informer);
/* Blocks until all are synced or timeout_ms passed (KP_ETIMEOUT, naming the resource and its last error). */
int client_informers_wait(struct client_informer *const *informers, size_t count, int64_t timeout_ms,
                          struct kp_error *error);
/* Ends the watch; blocks until the loop has let go of it. No handler runs any more; what was cached can still be read. Not from the loop's thread. */
void client_informer_stop(struct client_informer *informer);
/* Stops and frees. */
void client_informer_free(struct client_informer *informer); /* accepts NULL */
/* For unit tests of what reads caches: puts a copy of an object of the informer's type into a cache that was never started
   (its client may be NULL), or takes one out; handlers run in the calling thread. */
void client_informer_inject(struct client_informer *informer, const void *data);
void client_informer_inject_delete(struct client_informer *informer, const char *ns, const char *name);
size_t client_informer_len(const struct client_informer *informer);
/* A reference, or NULL. Thread-safe. */
struct client_object *client_informer_get(const struct client_informer *informer, const char *ns, const char *name);

/* A view keeps what was read from caches alive until it is freed: what a controller's plan reads from. One thread. */
struct client_view;
struct client_view *client_view_new(void);
void client_view_free(struct client_view *view); /* accepts NULL */
KP_DEFINE_AUTO(struct client_view *, client_view_free)
struct kp_arena *client_view_arena(struct client_view *view);
/* The generated struct, or NULL; valid until the view is freed. */
const void *client_view_get(struct client_view *view, const struct client_informer *informer, const char *ns,
                            const char *name);
/* Snapshot in key order; ns NULL: all. The array is in the view's arena. */
size_t client_view_list(struct client_view *view, const struct client_informer *informer, const char *ns,
                        const void *const **ret_items);
size_t client_view_index(struct client_view *view, const struct client_informer *informer, int index,
                         const char *value, const void *const **ret_items);

/* ---- work queue ------------------------------------------------------------------------------------------------------- */
/* Keys ("ns/name") are unique in the queue; one that is added while worked on is queued again when done, as in
   client-go's workqueue. Rate limit: 5 ms doubling to 1,000 s an item. */
struct client_queue;
#define CLIENT_QUEUE_KEYS_MAX 1000000
struct client_queue *client_queue_new(const char *name); /* name labels the workqueue_* metrics; borrowed */
void client_queue_add(struct client_queue *queue, const char *key);
void client_queue_add_after(struct client_queue *queue, const char *key, int64_t delay_ms);
void client_queue_add_rate_limited(struct client_queue *queue, const char *key);
void client_queue_forget(struct client_queue *queue, const char *key);
int client_queue_failures(struct client_queue *queue, const char *key);
/* Blocks; a copy of the key that the caller frees after client_queue_done, or NULL after shutdown. */
char *client_queue_get(struct client_queue *queue);
void client_queue_done(struct client_queue *queue, const char *key);
void client_queue_shutdown(struct client_queue *queue);
void client_queue_free(struct client_queue *queue); /* after every getter has returned; accepts NULL */
/* "ns/name" or "name" into its parts; both in the buffers given (CLIENT_KEY_PART_MAX). */
#define CLIENT_KEY_PART_MAX 320
int client_key_split(const char *key, char ns[CLIENT_KEY_PART_MAX], char name[CLIENT_KEY_PART_MAX]);

/* ---- leader election: a Lease as in client-go (15 s lease, 10 s renew deadline, 2 s retry) ----------------------------- */
struct client_elector_config {
    const char *ns, *name;      /* of the Lease */
    const char *identity;       /* unique to this process */
    int64_t lease_ms, renew_deadline_ms, retry_ms; /* 0: the defaults above */
    int64_t renew_ms;           /* from a renewal that went well to the next; 0: retry_ms */
    /* Asked four times a second while another holds the Lease, until acquired: is that one known to be gone? Then the Lease is taken once it was not
       renewed from one look to the next, without waiting for its end. Two that think so cannot both write it. NULL: nobody knows. */
    bool (*holder_is_gone)(const char *holder, void *gone_arg);
    void *gone_arg;
};
/* Blocks until this process leads (0) or stop was set (KP_ECANCELLED). Then a thread renews; when it can't for
   renew_deadline_ms, on_lost is called once: the caller exits. */
struct client_elector;
int client_elector_acquire(struct client *client, const struct client_elector_config *config, const volatile bool *stop,
                           void (*on_lost)(void *), void *arg, struct client_elector **ret_elector,
                           struct kp_error *error);
int64_t client_elector_renewed_ms(struct client_elector *elector); /* by kp_mono_ms: when the last renewal that went well was answered */
void client_elector_release(struct client_elector *elector); /* gives the Lease up and frees; accepts NULL */

/* ---- events -------------------------------------------------------------------------------------------------------------- */
/* Posts core/v1 Events from a thread of its own: bounded queue (oldest dropped), same (object, reason, message) within
   10 minutes becomes a count on one Event, per-object spam filter of 25 then one each 5 minutes, as client-go. After a post that took long
   the next one waits, 3 s at most, and equal ones that wait become one. */
struct client_recorder;
#define CLIENT_RECORDER_QUEUE_MAX 1000
struct client_recorder *client_recorder_new(struct client *client, const char *component, const char *host);
void client_recorder_free(struct client_recorder *recorder); /* posts what is queued for at most 1 s; accepts NULL */
struct client_event_target {
    const char *api_version, *kind, *ns, *name, *uid, *resource_version, *field_path; /* copied; NULLs allowed */
};
/* type: "Normal" or "Warning". */
void client_event(struct client_recorder *recorder, const struct client_event_target *target, const char *type,
                  const char *reason, const char *format, ...) KP_PRINTF(5, 6);
/* The target for an object of a type. */
struct client_event_target client_event_target_of(const struct kp_type *type, const void *obj);

#endif
