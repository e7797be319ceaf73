/* controlplane/apiserver/registry: one generic registry with a strategy row a kind; reads from the caches, writes to the store. */
#ifndef APISERVER_REGISTRY_H
#define APISERVER_REGISTRY_H

#include "controlplane/apiserver/admission/admission.h"
#include "controlplane/apiserver/auth/auth.h"
#include "controlplane/apiserver/status/status.h"
#include "controlplane/apiserver/storage/storage.h"
#include "controlplane/apiserver/watch/watch.h"

struct registry;
struct registry_kind; /* registry_internal.h: the strategy row */

struct registry_config {
    struct store *store;         /* borrowed, like the others */
    struct wcache_set *caches;
    struct admission *admission; /* may be set later: registry_set_admission */
    struct auth *auth;
    const char *service_cidr;    /* "10.96.0.0/12"; one or two, comma-separated */
    uint16_t node_port_min, node_port_max;
    int64_t event_ttl_s;
};
int registry_new(const struct registry_config *config, struct registry **ret_registry, struct kp_error *error) KP_NODISCARD;
void registry_free(struct registry *registry); /* accepts NULL */
void registry_set_admission(struct registry *registry, struct admission *admission, struct auth *auth);

/* The rows to give to wcache_set_new: one for every resource that is stored. */
const struct wcache_kind *const *registry_cache_kinds(size_t *ret_count);
/* The row of a resource of any served version; NULL when it is not stored (reviews, bindings). */
const struct registry_kind *registry_kind_of(const struct kp_resource *resource);
/* The type objects of the resource are stored and cached as. */
const struct kp_type *registry_storage_type(const struct registry_kind *kind);
/* Between versions of one kind; from equal to to gives obj itself. */
void *registry_convert(const struct kp_type *from, const void *obj, const struct kp_type *to, struct kp_arena *arena);
/* For admission_config. */
extern const struct admission_views registry_views;
bool registry_creates_on_update(const struct registry_kind *kind);
bool registry_field_selectable(const struct registry_kind *kind, const char *field);

enum registry_validation { REGISTRY_IGNORE, REGISTRY_WARN, REGISTRY_STRICT };
/* One request as the registry sees it. */
struct registry_request {
    struct kp_arena *arena;
    const struct auth_user *user;
    const struct kp_resource *resource;
    const struct registry_kind *kind;
    const char *subresource, *ns, *name; /* "" when not set */
    bool dry_run;
    bool own;                            /* the server's own: users' webhooks and policies are not asked */
    bool applied;                        /* server-side apply: managedFields come with the object */
    const char *field_manager;           /* never NULL */
    int64_t now_s;
    struct kp_string_list warnings;
    struct audit_record *audit;          /* NULL: it is not audited */
    struct api_status *status;
    struct registry_batch *batch;        /* NULL: each write is a transaction of its own */
};

/* A request of the server itself. ns and name are borrowed. */
struct registry_request registry_own_request(struct kp_arena *arena, struct api_status *status, const struct kp_resource *resource, const char *ns,
                                             const char *name);

/* ---- reads -------------------------------------------------------------------------------------------------------- */
/* resource_version: as sent, NULL or "" for the newest. *ret_object: the caller's reference. */
int registry_get(struct registry *registry, struct registry_request *rq, const char *resource_version, struct wcache_object **ret_object);
struct registry_list_options {
    const char *resource_version, *resource_version_match, *continue_token; /* NULL or "": not set */
    int64_t limit;
    struct wcache_filter filter;
};
struct registry_list {
    struct wcache_list objects; /* wcache_list_done */
    const char *continue_token; /* "" when this is the end */
    bool has_remaining;
    int64_t remaining;
};
int registry_list(struct registry *registry, struct registry_request *rq, const struct registry_list_options *options,
                  struct registry_list *ret_list);
/* Waits as resource_version asks: "" for the newest, "0" not at all, a number until the cache has it. */
int registry_wait(struct registry *registry, struct registry_request *rq, const char *resource_version);

/* ---- writes: objects are of the storage type ------------------------------------------------------------------------ */
/* obj is changed and becomes what is stored. *ret_object: the caller's reference. */
int registry_create(struct registry *registry, struct registry_request *rq, void *obj, struct wcache_object **ret_object);
/* Makes the new object from current (not to be changed; NULL when there is none and creating is allowed). Sets rq->status on failure. */
typedef int (*registry_make_fn)(void *arg, struct registry_request *rq, const void *current, void **ret_new);
struct registry_update_options {
    bool create_allowed;   /* absent: make(NULL) and create */
    bool patch;            /* a patch: an empty resourceVersion is always fine */
    bool managed_done;     /* make has written managedFields (server-side apply) */
    const char *uid, *resource_version; /* preconditions; NULL: none */
};
int registry_update(struct registry *registry, struct registry_request *rq, const struct registry_update_options *options,
                    registry_make_fn make, void *arg, struct wcache_object **ret_object, bool *ret_created);
struct k8s_delete_options;
/* *ret_object: the object as it is, or last was; *ret_gone: it is deleted now; *ret_as_status: answer with a Status. */
int registry_delete(struct registry *registry, struct registry_request *rq, const struct k8s_delete_options *options,
                    struct wcache_object **ret_object, bool *ret_gone, bool *ret_as_status);
/* Deletes each object; *ret_list holds what they were. */
int registry_delete_collection(struct registry *registry, struct registry_request *rq, const struct registry_list_options *list,
                               const struct k8s_delete_options *options, struct registry_list *ret_list);

/* ---- subresources with bodies of their own --------------------------------------------------------------------------- */
struct k8s_scale;
/* The Scale of the object rq names. */
int registry_scale_get(struct registry *registry, struct registry_request *rq, struct k8s_scale **ret_scale);
/* make gives the new Scale from the current one. */
int registry_scale_update(struct registry *registry, struct registry_request *rq, registry_make_fn make, void *arg,
                          struct k8s_scale **ret_scale);
int registry_bind(struct registry *registry, struct registry_request *rq, void *binding);
int registry_evict(struct registry *registry, struct registry_request *rq, void *eviction);

/* ---- custom resources ------------------------------------------------------------------------------------------------- */
struct k8s_custom_resource_definition;
#define REGISTRY_CRD_FINALIZER "customresourcecleanup.apiextensions.k8s.io"
/* Sets a condition of a definition; false when it was so already. type, reason and message are borrowed. */
bool registry_crd_condition(struct k8s_custom_resource_definition *crd, const char *type, bool status, const char *reason, const char *message, int64_t now_s,
                            struct kp_arena *arena);
struct registry_custom; /* what one definition makes; for good: requests may have it in hand */
struct registry_schemas; /* made of the schemas of all versions so far; for good. One thread at a time */
struct registry_schemas *registry_schemas_new(void);
/* Of a definition that validation passed, with all names filled in; borrows nothing but schemas, which gets what is new. */
struct registry_custom *registry_custom_new(const struct k8s_custom_resource_definition *crd, struct registry_schemas *schemas);
void registry_custom_serve(struct registry_custom *custom, struct wcache *cache); /* before its resources are given to kp_resources_extend */
const struct registry_kind *registry_custom_kind(const struct registry_custom *custom);
const struct wcache_kind *registry_custom_cache_kind(const struct registry_custom *custom);
const struct kp_resource *const *registry_custom_resources(const struct registry_custom *custom, size_t *ret_count); /* one for each served version */
const struct kp_resource *registry_custom_storage(const struct registry_custom *custom);
void registry_custom_terminate(struct registry_custom *custom); /* nothing new may be created */
/* Of a resource with kp_resource.custom: */
bool registry_custom_terminating(const struct kp_resource *resource);
const char *registry_custom_warning(const struct kp_resource *resource); /* of a deprecated version; NULL: none */
/* Drops what the schema does not know; adds `unknown field "spec.foo"` to problems. */
void registry_custom_prune(const struct kp_resource *resource, struct kp_value *object, struct kp_arena *arena, struct kp_string_list *problems);
/* A pruned tree as an object of the resource's type. When it does not fit, *errors says what the schema has against it. */
int registry_custom_decode(const struct kp_resource *resource, struct kp_value *object, struct kp_arena *arena, void **ret_obj, struct field_errors *errors,
                           struct kp_error *error) KP_NODISCARD;

/* ---- aggregated API servers -------------------------------------------------------------------------------------------- */
struct k8s_api_service;
/* Sets the condition Available; false when it was so already. reason and message are borrowed. */
bool registry_api_service_condition(struct k8s_api_service *service, bool available, const char *reason, const char *message, int64_t now_s,
                                    struct kp_arena *arena);
bool registry_api_service_local(struct k8s_api_service *service, int64_t now_s, struct kp_arena *arena); /* the condition of what we serve ourselves */

/* ---- start-up --------------------------------------------------------------------------------------------------------- */
/* Creates the namespaces, the ServiceCIDR and bootstrap RBAC objects that are missing, and once in a cluster's life the StorageClass "local". Retried by
   the caller. */
int registry_bootstrap(struct registry *registry, struct kp_error *error) KP_NODISCARD;
/* Creates those of the objects (of cluster scope, of resource->type) that are missing, many in one transaction. */
int registry_ensure(struct registry *registry, const struct kp_resource *resource, const void *const *objects, size_t count, struct kp_error *error) KP_NODISCARD;
/* Keeps the Service, Endpoints and EndpointSlice "kubernetes" in namespace default true. */
int registry_publish_endpoint(struct registry *registry, const char *address, uint16_t port, struct kp_error *error) KP_NODISCARD;
int registry_withdraw_endpoint(struct registry *registry, const char *address, struct kp_error *error) KP_NODISCARD;

struct store *registry_store(struct registry *registry);
struct wcache_set *registry_caches(struct registry *registry);
struct wcache *registry_cache_of(struct registry *registry, const struct registry_kind *kind);
/* Decodes a cached object into the arena. */
void *registry_decode(const struct registry_kind *kind, const struct wcache_object *object, struct kp_arena *arena);

#endif
