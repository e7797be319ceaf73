/* What the files of the registry share: the strategy row and the helpers of its hooks. */
#ifndef APISERVER_REGISTRY_INTERNAL_H
#define APISERVER_REGISTRY_INTERNAL_H

#include "controlplane/apiserver/registry/registry.h"

#include "api/k8s.h"

#include <pthread.h>

enum registry_name_rule {
    NAME_SUBDOMAIN = 0, /* DNS-1123 subdomain */
    NAME_LABEL,         /* DNS-1123 label */
    NAME_LABEL_1035,    /* DNS-1035 label */
    NAME_PATH_SEGMENT,
    NAME_ANY,           /* the kind checks it itself */
};
enum registry_flags {
    KIND_GENERATION = 1 << 0,       /* metadata.generation counts changes of the spec */
    KIND_CREATE_ON_UPDATE = 1 << 1,
    KIND_CONDITIONAL_UPDATE = 1 << 2, /* PUT must name a resourceVersion */
    KIND_RETURNS_DELETED = 1 << 3,  /* DELETE answers with the object */
    KIND_KEEPS_STATUS = 1 << 4,     /* a create may bring its status */
    KIND_ORPHANS = 1 << 5,          /* by default a delete orphans the dependents */
    KIND_EXPIRES = 1 << 6,          /* events */
    KIND_CUSTOM = 1 << 7,           /* of a CustomResourceDefinition */
};
struct registry_write; /* one create, update or delete in the making */

/* Hooks may be NULL. obj and old are of the storage type. */
struct registry_kind {
    const char *group, *resource, *version; /* storage version */
    const char *prefix;                     /* NULL: "/registry/<resource>/" */
    const char *const *fields;
    unsigned flags;
    enum registry_name_rule name_rule;
    void (*defaults)(struct registry_request *rq, void *obj);
    void (*prepare_create)(struct registry_request *rq, void *obj);
    void (*prepare_update)(struct registry_request *rq, void *obj, const void *old); /* not for subresources */
    void (*prepare_subresource)(struct registry_request *rq, void *obj, const void *old); /* instead of the generic separation */
    void (*prepare_delete)(struct registry_request *rq, void *obj); /* of one that is not being deleted yet */
    void (*validate)(struct registry_request *rq, const void *obj, struct field_errors *errors);
    void (*validate_create)(struct registry_request *rq, const void *obj, struct field_errors *errors);
    void (*validate_update)(struct registry_request *rq, const void *obj, const void *old, struct field_errors *errors);
    int (*reserve)(struct registry_write *write, void *obj, const void *old); /* adds operations; obj NULL: deleted */
    int64_t (*grace_s)(const void *obj, int64_t asked_s); /* seconds until it may go; asked_s -1: not said */
    const char *scale_spec_path, *scale_status_path, *scale_selector_path; /* of a custom resource's scale: ".spec.replicas"; NULL: none */
    /* made at first use */
    struct wcache_kind cache_kind;
    const struct kp_resource *storage;
    struct wcache *cache; /* of a custom resource; NULL: found by group and resource */
};

struct registry {
    struct store *store;
    struct wcache_set *caches;
    struct admission *admission;
    struct auth *auth;
    int64_t event_ttl_s;
    struct ip_ranges *ranges; /* service_alloc.c */
};

/* One transaction being gathered. */
struct registry_write {
    struct registry *registry;
    struct registry_request *rq;
    struct store_op ops[STORE_OPS_MAX];
    size_t count;
    /* reserve is called again when something it wanted was taken meanwhile: attempt > 0, and what it had picked itself */
    int attempt;
    bool address_picked;
    uint64_t picked_ports; /* a bit a port */
};
#define RESERVE_ATTEMPTS_MAX 16
void write_add(struct registry_write *write, const char *key, int64_t expect, const void *value, size_t len);

const char *registry_cache_key(struct registry_request *rq, const char *name); /* "ns/name" or "name" */
const char *registry_store_key(const struct registry_kind *kind, const char *cache_key, struct kp_arena *arena);
struct wcache *registry_cache(struct registry *registry, const struct registry_kind *kind);
const char *rq_group(const struct registry_request *rq);
const char *rq_resource(const struct registry_request *rq);

/* read.c: newest state from the store; *ret_object NULL when absent. */
int registry_read_store(struct registry *registry, struct registry_request *rq, const char *cache_key, struct wcache_object **ret_object);
/* Cached, or from the store when the cache has none. */
int registry_read_current(struct registry *registry, struct registry_request *rq, bool from_store, struct wcache_object **ret_object);

/* custom.c */
const struct registry_kind *registry_kind_of_custom(const struct kp_resource *resource);
void *registry_convert_custom(const struct kp_type *from, const void *obj, const struct kp_type *to, struct kp_arena *arena);
/* Whether metadata.generation counts the change of a custom resource: anything but metadata and, where it is a subresource, the status. */
bool registry_custom_changed(const struct registry_request *rq, const void *obj, const void *old);

/* write.c */
int registry_not_found(struct registry_request *rq);
int registry_store_failed(struct registry_request *rq, const struct kp_error *error);
/* Commits obj at expect (its mod revision, 0 for new) with what reserve adds. KP_ECONFLICT without status when the expectation failed. */
int registry_commit(struct registry *registry, struct registry_request *rq, void *obj, const void *old, int64_t expect,
                    const char *cache_key, struct wcache_object **ret_object);
int registry_commit_delete(struct registry *registry, struct registry_request *rq, const void *old, int64_t expect,
                           const char *cache_key, int64_t *ret_revision);
/* Changes the status of another object of the request's namespace as part of it; failures are told as the request's. */
int registry_update_status_of(struct registry *registry, const struct registry_request *rq, const struct kp_resource *resource, const char *name,
                              registry_make_fn make, void *arg);
/* quota.c: after admission, before the store. old: NULL for what is new. 0, or a refusal in rq->status. */
int registry_charge_quotas(struct registry *registry, struct registry_request *rq, const void *obj, const void *old);
void registry_admission_attributes(struct registry_request *rq, enum admission_operation operation, void *obj, const void *old,
                                   struct admission_attributes *ret);

/* meta.c: what every object has */
void registry_meta_create(struct registry_request *rq, void *obj);
void registry_generate_name(struct registry_request *rq, void *obj);
void registry_meta_update(struct registry_request *rq, void *obj, const void *old);
/* Keeps the status of old when the spec is written, and all but the status (and metadata) otherwise. */
void registry_separate(struct registry_request *rq, void *obj, const void *old, bool writes_spec);
void registry_validate_meta(struct registry_request *rq, const void *obj, struct field_errors *errors);
void registry_validate_meta_update(struct registry_request *rq, const void *obj, const void *old, struct field_errors *errors);
void *registry_member(const struct kp_type *type, const void *obj, const char *name); /* a struct field's value, or NULL */

/* names.c: the text of the fault, or NULL */
const char *name_is_subdomain(const char *s);
const char *name_is_label(const char *s);
const char *name_is_label_1035(const char *s);
const char *name_is_path_segment(const char *s);
const char *name_check(enum registry_name_rule rule, const char *s);
const char *port_name_check(const char *s);
void validate_label_map(const struct kp_string_map *labels, struct field_errors *errors, const char *path);
void validate_annotations(const struct kp_string_map *annotations, struct field_errors *errors, const char *path);
void validate_label_selector(const struct k8s_label_selector *selector, struct field_errors *errors, const char *path);
void validate_non_negative(int64_t value, struct field_errors *errors, const char *path);
/* enums and required fields that the schema knows, for the whole object */
void validate_schema(const struct kp_type *type, const void *obj, struct field_errors *errors);

/* scale.c: 1 and what the scale subresource shows of an object, 0 when the object does not say how many replicas it wants, or a failure that is told. */
int registry_make_scale(struct registry_request *rq, void *obj, struct k8s_scale **ret_scale);
/* *obj becomes (changed, or another one) what the scale wants of it. */
int registry_set_scale(struct registry_request *rq, const struct k8s_scale *wanted, void **obj);
/* What a custom resource has at the paths of its scale, for its validate hook. */
void validate_scale_paths(struct registry_request *rq, const void *obj, struct field_errors *errors);

/* pod_placement.c: tolerations, affinity between pods, topology spread. */
void validate_pod_placement(const struct k8s_pod_spec *spec, struct field_errors *errors, const char *path);
/* volume_spec.c, volumes.c: of persistent volumes, attachments, claims and claim templates. */
void validate_class_name(const char *name, struct field_errors *errors, const char *path); /* NULL and "" are fine */
void validate_access_modes(const struct kp_string_list *modes, const char *none, struct field_errors *errors, const char *path);
void validate_csi_driver_name(const char *name, struct field_errors *errors, const char *path);
void validate_no_backsteps(const char *path, struct field_errors *errors, const char *at);
void validate_volume_spec(const struct k8s_persistent_volume_spec *spec, struct field_errors *errors, const char *path);
void validate_inline_volume_spec(const struct k8s_persistent_volume_spec *spec, struct field_errors *errors, const char *path);
void validate_claim_spec(const struct k8s_persistent_volume_claim_spec *spec, struct field_errors *errors, const char *path);
bool volume_sources_equal(const struct k8s_persistent_volume_spec *a, const struct k8s_persistent_volume_spec *b);
/* pod_volumes.c */
void validate_pod_volumes(const struct k8s_pod_spec *spec, const struct k8s_object_meta *meta, struct field_errors *errors, const char *path);
void validate_devices(const struct k8s_pod_spec *spec, const struct k8s_container *container, struct field_errors *errors, const char *path);
/* podspec.c */
void pod_spec_defaults(struct kp_arena *arena, struct k8s_pod_spec *spec);
void pod_template_defaults(struct kp_arena *arena, struct k8s_pod_template_spec *tpl);
void validate_pod_spec(const struct k8s_pod_spec *spec, const struct k8s_object_meta *meta, struct field_errors *errors, const char *path);
void validate_pod_template(const struct k8s_pod_template_spec *tpl, struct field_errors *errors, const char *path);
/* "path.name", or the name alone. */
const char *validate_under(struct field_errors *errors, const char *path, const char *name);
void validate_workload_template(const struct k8s_pod_template_spec *tpl, const struct k8s_label_selector *selector, struct field_errors *errors,
                                const char *const *restart_policies);

/* service_alloc.c */
int service_reserve(struct registry_write *write, void *obj, const void *old);
bool service_has_health_port(const struct k8s_service_spec *spec); /* of a balancer that keeps the client's address: service.c */
int ip_ranges_new(const char *cidrs, uint16_t port_min, uint16_t port_max, struct ip_ranges **ret, struct kp_error *error);
void ip_ranges_free(struct ip_ranges *ranges);
void ip_ranges_list(const struct ip_ranges *ranges, struct kp_arena *arena, struct kp_string_list *ret);
const char *ip_ranges_first(const struct ip_ranges *ranges, struct kp_arena *arena); /* the address of the Service "kubernetes" */

/* ---- bootstrap.c: the server's own writes */
/* Writes that are gathered to become one transaction; borrowed memory is that of the requests' arena. */
struct registry_batch {
    struct store_op ops[STORE_OPS_MAX];
    size_t count;
};
/* All or nothing; KP_ECONFLICT when one of the objects is there. */
int registry_batch_commit(struct registry *registry, struct registry_batch *batch, struct kp_arena *arena, struct kp_error *error) KP_NODISCARD;
/* 1 when created, 0 when it was there. */
int registry_create_if_absent(struct registry *registry, struct kp_arena *arena, const struct kp_resource *resource, const char *ns, void *obj,
                              struct kp_error *error);

#endif
