/* The engine that runs every controller: shared informers in, plans out. A controller is a row of struct controller and a
 * pure function plan(input) -> writes; the engine owns queues, retries, the writing itself and the waiting until the caches
 * have seen what was written. */
#ifndef KCM_ENGINE_H
#define KCM_ENGINE_H

#include "api/k8s.h"
#include "lib/client/client.h"

struct engine;     /* one per process */
struct controller_run; /* one per controller */
struct plan;
struct hpa_settings;

/* What a plan reads. now_s is the wall clock at the start of the plan: plans take no time of their own. */
struct plan_input {
    struct engine *engine; /* only to reach informers: engine_informer() */
    struct client_view *view;
    struct kp_arena *arena; /* the view's: lives until the plan's writes have been made */
    const char *ns, *name;  /* of the key; ns is "" for cluster-scoped keys */
    int64_t now_s;
    void *state; /* of controller.setup, or NULL */
};

/* Decides what to write for one key. 0, or an error that makes the key come back with back-off. Never blocks, never writes
   anything itself. */
typedef int (*plan_fn)(const struct plan_input *in, struct plan *plan, struct kp_error *error);

struct controller {
    const char *name;  /* upstream's controller name: "replicaset-controller" */
    unsigned workers;  /* keys planned at a time; 0: 1 */
    /* Subscribes (engine_watch) and may set *ret_state, which teardown (may be NULL) frees after the last plan. */
    int (*setup)(struct engine *engine, struct controller_run *run, void **ret_state, struct kp_error *error);
    plan_fn plan;
    void (*teardown)(void *state);
};

/* ---- for setup ------------------------------------------------------------------------------------------------------- */
struct engine_config {
    struct client *client;
    const char *cluster_cidr, *service_cluster_ip_range;
    int64_t node_cidr_mask_size;          /* 24 */
    bool allocate_node_cidrs;
    int64_t node_monitor_period_ms;       /* 5,000 */
    int64_t node_monitor_grace_period_ms; /* 50,000 as v1.32 and later */
    int64_t terminated_pod_gc_threshold;  /* 12,500 */
    const char *root_ca_pem;              /* published to namespaces; NULL: none */
    const char *signing_cert_pem, *signing_key_pem; /* signs CSRs; NULL: the signer is off */
    int64_t cluster_signing_duration_s;   /* one year */
    const char *cluster_name;
    const struct hpa_settings *hpa; /* NULL: the defaults; borrowed until engine_stop */
};
const struct engine_config *engine_config(const struct engine *engine);
/* The one shared informer of a resource over all namespaces; made on first use. Before engine_start only. */
struct client_informer *engine_informer(struct engine *engine, const struct kp_resource *resource);
/* For the few plans that must see the store itself, not a cache (garbage collection: is the owner really gone?). Reads only. */
struct client *engine_client(const struct engine *engine);
/* As engine_informer, to be used from plans: the informer must have been made in a setup. */
struct client_informer *engine_cache(const struct engine *engine, const struct kp_resource *resource);
/* As engine_informer and engine_cache, of an informer that caches only metadata (client_informer_new_metadata). */
struct client_informer *engine_metadata_informer(struct engine *engine, const struct kp_resource *resource);
struct client_informer *engine_metadata_cache(const struct engine *engine, const struct kp_resource *resource);
/* The index of objects by the uid of their controlling owner ("pods owned by this ReplicaSet"); objects without one are
   filed under their namespace ("orphans of default"). */
int engine_owner_index(struct engine *engine, const struct kp_resource *resource);
/* Calls map on every change; it puts keys on the queue. old or new may be NULL. Runs on the loop: must not block. */
typedef void (*engine_map)(struct controller_run *run, const struct client_object *old, const struct client_object *new);
void engine_watch(struct controller_run *run, const struct kp_resource *resource, engine_map map);
/* Ready-made maps. */
void engine_map_self(struct controller_run *run, const struct client_object *old, const struct client_object *new);
/* Enqueues the controlling owner when it is of the kind given to engine_watch_owned. */
void engine_watch_owned(struct controller_run *run, const struct kp_resource *owned, const struct kp_resource *owner);
void engine_enqueue(struct controller_run *run, const char *ns, const char *name);
void engine_enqueue_after(struct controller_run *run, const char *ns, const char *name, int64_t delay_ms);
void *engine_run_state(const struct controller_run *run); /* as set by setup */
struct engine *engine_of(const struct controller_run *run);

/* ---- for plans: writes, carried out in order after plan() has returned 0. Objects are borrowed until then (use in->arena).
   A create that finds the object there already, and a delete that finds nothing, are no failures. The first other failure
   ends the plan; the key comes back with back-off. Only a pod that could not be created (quota, admission) leaves the rest
   going, without further creates, so that a status is told in any case. ----------------------------------------------------------------------- */
void plan_create(struct plan *plan, const struct kp_resource *resource, const char *ns, const void *obj);
/* Optimistic: the object's resourceVersion must still be current, else the key is planned again from newer caches. */
void plan_update(struct plan *plan, const struct kp_resource *resource, const void *obj);
void plan_update_status(struct plan *plan, const struct kp_resource *resource, const void *obj);
/* A status that also says whether pods could be created. When one of the plan's creates failed, failed() puts that into obj, and false from it means
   that nothing is to be written; was is what the cache has. Without a failure it is written when it differs from was. */
typedef bool (*plan_failed_fn)(void *obj, const void *was, const char *message, int64_t now_s, struct kp_arena *arena);
void plan_update_status_told(struct plan *plan, const struct kp_resource *resource, void *obj, const void *was, bool differs, plan_failed_fn failed,
                             int64_t now_s);
/* body: JSON text of the patch type. subresource may be NULL. */
void plan_patch(struct plan *plan, const struct kp_resource *resource, const char *ns, const char *name,
                const char *subresource, enum client_patch type, const char *body);
/* Sets spec.replicas through the scale subresource. A failure that is no lost race does not end the plan, nor bring the key back: the events and the
   status behind it tell (plan_event_on_failure, plan_event_if_done, plan_update_status_told). */
void plan_scale(struct plan *plan, const struct kp_resource *resource, const char *ns, const char *name, int32_t replicas);
/* uid may be NULL; grace_period_s -1: default; propagation NULL: default. */
void plan_delete(struct plan *plan, const struct kp_resource *resource, const char *ns, const char *name, const char *uid,
                 int64_t grace_period_s, const char *propagation);
/* PUT of a subresource with the kind itself as the body: namespaces/finalize, certificatesigningrequests/approval. */
void plan_update_sub(struct plan *plan, const struct kp_resource *resource, const char *subresource, const void *obj);
/* Events are posted when their place in the order is reached, so that "Created pod: x" follows the create. */
void plan_event(struct plan *plan, const struct kp_type *type, const void *obj, const char *event_type, const char *reason,
                const char *format, ...) KP_PRINTF(6, 7);
/* The same with the name of the object created last by this plan put at the end of the text: "Created pod: web-abcde". */
void plan_event_created(struct plan *plan, const struct kp_type *type, const void *obj, const char *reason, const char *text);
/* The same of text as it is, unless a create or change of scale before it failed. */
void plan_event_if_done(struct plan *plan, const struct kp_type *type, const void *obj, const char *reason, const char *text);
/* An event that is posted only when the write before it failed with anything; %s is the error's text. */
void plan_event_on_failure(struct plan *plan, const struct kp_type *type, const void *obj, const char *reason,
                           const char *format);
void plan_requeue_after_ms(struct plan *plan, int64_t delay_ms);
/* Plans the key again with the queue's back-off, as after a failure, but none is told: what is missing may come or not. */
void plan_back_off(struct plan *plan);
/* DELETE of every object of a resource in a namespace. */
void plan_delete_collection(struct plan *plan, const struct kp_resource *resource, const char *ns);
/* For tests: the writes, one line each ("create pods ns/name-prefix", "delete pods ns/x", ...). */
void plan_describe(const struct plan *plan, struct kp_buf *out);
struct plan *plan_new(struct kp_arena *arena);

/* ---- running ------------------------------------------------------------------------------------------------------------ */
struct engine *engine_new(const struct engine_config *config);
int engine_add(struct engine *engine, const struct controller *controller, struct kp_error *error);
/* Starts informers, waits for them (60 s), starts workers. */
int engine_start(struct engine *engine, struct kp_error *error);
void engine_stop(struct engine *engine); /* waits for running plans */

/* For tests, on an engine that was never started (its client may be NULL) with caches filled by client_informer_inject():
   the plan that the controller of this name makes for a key. The plan and what it refers to live as long as view. */
int engine_trial(struct engine *engine, const char *controller, const char *key, int64_t now_s, struct client_view *view,
                 struct plan **ret_plan, struct kp_error *error);

/* ---- small things every controller needs --------------------------------------------------------------------------------- */
/* The ownerReference with controller=true, or NULL. */
const struct k8s_owner_reference *engine_controller_of(const struct k8s_object_meta *meta);
bool engine_is_controlled_by(const struct k8s_object_meta *meta, const char *owner_uid);
/* Appends owner as the controlling owner (controller and blockOwnerDeletion true). */
void engine_set_controller(struct kp_arena *arena, struct k8s_object_meta *meta, const struct kp_type *owner_type,
                           const struct k8s_object_meta *owner);
bool engine_pod_is_ready(const struct k8s_pod *pod);
bool engine_pod_is_active(const struct k8s_pod *pod);   /* not Succeeded, Failed or being deleted */
bool engine_pod_is_terminal(const struct k8s_pod *pod); /* Succeeded or Failed */
/* The condition Complete or Failed that a Job has ended with; NULL while it has not. */
const struct k8s_job_condition *engine_job_end(const struct k8s_job *job);
/* Seconds since 1970 when the Ready condition became true; 0 when it is not. */
int64_t engine_pod_ready_since_s(const struct k8s_pod *pod);

#endif
