/* Pods as the kubelet holds them, and the pure functions over them: actions, status, environment, configuration for CRI. */
#ifndef KUBELET_POD_INTERNAL_H
#define KUBELET_POD_INTERNAL_H

#include "nodeimage/kubelet/api_internal.h"
#include "nodeimage/kubelet/cri_internal.h"
#include "nodeimage/kubelet/text_internal.h"

#define KUBELET_CONTAINERS_MAX 512 /* of one pod, all kinds together */

/* Labels and annotations on sandboxes and containers: what lets a restarted kubelet find its pods again. */
#define KUBELET_LABEL_POD_NAME "io.kubernetes.pod.name"
#define KUBELET_LABEL_POD_NAMESPACE "io.kubernetes.pod.namespace"
#define KUBELET_LABEL_POD_UID "io.kubernetes.pod.uid"
#define KUBELET_LABEL_CONTAINER_NAME "io.kubernetes.container.name"
#define KUBELET_ANNOTATION_HASH "io.kubernetes.container.hash"
#define KUBELET_ANNOTATION_RESTART_COUNT "io.kubernetes.container.restartCount"
#define KUBELET_ANNOTATION_MESSAGE_PATH "io.kubernetes.container.terminationMessagePath"
#define KUBELET_ANNOTATION_MESSAGE_POLICY "io.kubernetes.container.terminationMessagePolicy"
#define KUBELET_ANNOTATION_GRACE "io.kubernetes.pod.terminationGracePeriod"
#define KUBELET_ANNOTATION_CONFIG_SOURCE "kubernetes.io/config.source"
#define KUBELET_ANNOTATION_CONFIG_HASH "kubernetes.io/config.hash"
#define KUBELET_ANNOTATION_CONFIG_SEEN "kubernetes.io/config.seen"
#define KUBELET_ANNOTATION_CONFIG_MIRROR "kubernetes.io/config.mirror"

/* One version of a pod: immutable, counted. */
struct kubelet_pod {
    int refs; /* atomic */
    const struct k8s_pod *data;
    const char *uid, *ns, *name;
    bool is_static;
    struct kp_arena *arena;       /* of a static pod */
    struct client_object *object; /* of a pod from the API */
};
struct kubelet_pod *kubelet_pod_from_object(struct client_object *object); /* takes a reference of its own */
struct kubelet_pod *kubelet_pod_from_static(const struct k8s_pod *data, struct kp_arena *arena); /* takes arena over */
struct kubelet_pod *kubelet_pod_ref(struct kubelet_pod *pod);
void kubelet_pod_unref(struct kubelet_pod *pod); /* accepts NULL */

/* ---- walking the containers of a pod ------------------------------------------------------------------------------ */
enum kubelet_container_kind { KUBELET_INIT, KUBELET_MAIN, KUBELET_EPHEMERAL };
struct kubelet_spec_container {
    enum kubelet_container_kind kind;
    bool sidecar; /* an init container with restartPolicy Always */
    size_t index; /* in its own list */
    const struct k8s_container *container;
};
/* All containers in the order init, main, ephemeral; the array is in arena. */
size_t kubelet_spec_containers(const struct k8s_pod *pod, struct kp_arena *arena, struct kubelet_spec_container **ret_items);
/* What decides that a running container must be replaced: FNV of name and image. */
uint64_t kubelet_container_hash(const struct k8s_container *container);
const char *kubelet_qos_class(const struct k8s_pod *pod); /* "Guaranteed", "Burstable", "BestEffort" */
/* The pod's grace period: deletion's, else the spec's, else 30 s. */
int64_t kubelet_grace_period_s(const struct k8s_pod *pod);
bool kubelet_pod_critical(const struct k8s_pod *pod); /* static, mirror or of system-critical priority */

/* ---- the runtime's side ---------------------------------------------------------------------------------------------- */
struct kubelet_runtime {
    struct cri_sandbox *sandboxes; /* newest first */
    size_t n_sandboxes;
    struct cri_container *containers; /* newest first */
    size_t n_containers;
};
/* The newest container of a name; sandbox_id NULL: in any sandbox. NULL when there is none. */
const struct cri_container *kubelet_runtime_find(const struct kubelet_runtime *rt, const char *name, const char *sandbox_id);
/* The newest exited container of a name other than `skip` (may be NULL). */
const struct cri_container *kubelet_runtime_previous(const struct kubelet_runtime *rt, const char *name,
                                                     const struct cri_container *skip);
const struct cri_sandbox *kubelet_runtime_sandbox(const struct kubelet_runtime *rt); /* the ready one, or NULL */

/* ---- results of probes, as the pure functions see them ------------------------------------------------------------- */
enum kubelet_probe_kind { KUBELET_LIVENESS, KUBELET_READINESS, KUBELET_STARTUP };
enum kubelet_probe_result { KUBELET_PROBE_UNKNOWN, KUBELET_PROBE_SUCCESS, KUBELET_PROBE_FAILURE };
struct kubelet_probe_view {
    enum kubelet_probe_result (*get)(void *arg, const char *container_id, enum kubelet_probe_kind kind);
    void *arg;
};

/* ---- actions: what has to be done to bring the runtime to the spec --------------------------------------------------- */
struct kubelet_kill {
    const struct cri_container *container;
    const struct k8s_container *spec; /* NULL when the spec knows it no more */
    const char *message;
    bool liveness; /* the liveness probe's own grace period applies */
    bool startup;
};
struct kubelet_start {
    struct kubelet_spec_container spec;
    const struct cri_container *previous; /* newest one of the name, or NULL */
};
struct kubelet_actions {
    bool kill_pod;       /* stop every container and sandbox first */
    bool create_sandbox; /* then make a new one */
    uint32_t attempt;
    const char *sandbox_id; /* the one to start in, when not create_sandbox */
    struct kubelet_kill *kills;
    size_t n_kills;
    struct kubelet_start *starts; /* in this order */
    size_t n_starts;
};
struct kubelet_actions *kubelet_compute_actions(const struct k8s_pod *pod, const struct kubelet_runtime *rt,
                                                const struct kubelet_probe_view *probes, struct kp_arena *arena);
bool kubelet_actions_empty(const struct kubelet_actions *actions);
bool kubelet_should_restart(const struct k8s_pod *pod, const struct kubelet_spec_container *spec,
                            const struct cri_container *latest);

/* ---- status ---------------------------------------------------------------------------------------------------------- */
struct kubelet_reason {
    const char *container, *reason, *message;
};
struct kubelet_status_input {
    const struct k8s_pod *pod;
    const struct k8s_pod_status *old; /* last known status, for transition times and what was seen before; may be NULL */
    const struct kubelet_runtime *rt;
    const struct kubelet_probe_view *probes;
    const struct kubelet_reason *reasons; /* why containers do not start */
    size_t n_reasons;
    const char *const *host_ips;
    size_t n_host_ips;
    const char *failed_reason, *failed_message; /* set: the phase is Failed, once stopped (admission, deadline, eviction) */
    bool rejected; /* the node did not take the pod: nothing of it was ever here */
    bool stopped; /* everything has been stopped for good: running or waiting containers count as ended */
    int64_t now_s;
    int64_t start_s; /* when the kubelet first saw the pod */
};
/* A new status in arena. */
struct k8s_pod_status *kubelet_make_status(const struct kubelet_status_input *input, struct kp_arena *arena);
const char *kubelet_phase(const struct k8s_pod *pod, const struct k8s_pod_status *status);
/* Conditions from the container statuses; transition times come from old. */
void kubelet_make_conditions(const struct kubelet_status_input *input, struct k8s_pod_status *status, struct kp_arena *arena);

/* ---- field and resource references ------------------------------------------------------------------------------------ */
/* Value of a downward API field path ("metadata.labels['a']"); *ret_value is in arena. The status fields are not here. */
int kubelet_field_value(const struct k8s_pod *pod, const char *path, struct kp_arena *arena, const char **ret_value,
                        struct kp_error *error) KP_NODISCARD;
/* "limits.cpu" of the named container (or of `self` when name is empty) with divisor; missing limits are the node's. */
int kubelet_resource_value(const struct k8s_pod *pod, const struct k8s_container *self,
                           const struct k8s_resource_field_selector *selector, const struct kp_string_map *allocatable,
                           struct kp_arena *arena, const char **ret_value, struct kp_error *error) KP_NODISCARD;

/* ---- objects a pod refers to -------------------------------------------------------------------------------------------- */
struct kubelet_getter {
    /* Each gives the object (valid as long as the getter's arena) or KP_ENOTFOUND or another error. */
    int (*config_map)(void *arg, const char *ns, const char *name, const struct k8s_config_map **ret, struct kp_error *error);
    int (*secret)(void *arg, const char *ns, const char *name, const struct k8s_secret **ret, struct kp_error *error);
    int (*token)(void *arg, const struct k8s_pod *pod, const char *audience, int64_t expiration_s, const char **ret,
                 struct kp_error *error);
    /* When the token that was just got ends, seconds since 1970; may be NULL. */
    int64_t (*token_expiry)(void *arg, const struct k8s_pod *pod, const char *audience, int64_t expiration_s);
    /* Any other object, always as the API has it now; ns NULL: of the cluster; may be NULL. */
    int (*object)(void *arg, const struct kp_resource *resource, const char *ns, const char *name, void **ret, struct kp_error *error);
    void *arg;
};

/* ---- environment ---------------------------------------------------------------------------------------------------------- */
struct kubelet_env_input {
    const struct k8s_pod *pod;
    const struct k8s_container *container;
    const struct kubelet_getter *getter;
    const struct kp_string_map *allocatable;
    const struct k8s_service *const *services; /* of the pod's namespace, and default/kubernetes */
    size_t n_services;
    const char *pod_ip, *host_ip; /* NULL: not known */
    const char *const *pod_ips, *const *host_ips;
    size_t n_pod_ips, n_host_ips;
    const char *node_name;
};
/* All variables in the order they were defined, later ones replacing earlier ones of the same name. */
int kubelet_make_env(const struct kubelet_env_input *input, struct kp_arena *arena, struct cri_pairs *ret_env,
                     struct kp_error *error) KP_NODISCARD;
const char *kubelet_env_lookup(void *env, const char *name, size_t name_len); /* kubelet_lookup_fn over struct cri_pairs */

/* ---- resources -------------------------------------------------------------------------------------------------------------- */
int64_t kubelet_cpu_shares(int64_t milli_cpu);                       /* 1024 a core, at least 2 */
int64_t kubelet_cpu_quota(int64_t milli_cpu, int64_t period_us);     /* 0: none; at least 1000 */
int64_t kubelet_oom_score_adj(const struct k8s_pod *pod, const struct k8s_container *container, int64_t node_memory_bytes);
void kubelet_container_resources(const struct k8s_pod *pod, const struct k8s_container *container, int64_t node_memory_bytes,
                                 struct cri_resources *ret_resources);
/* What the scheduler counts: containers summed, init containers by maximum (sidecars added), overhead. */
void kubelet_pod_requests(const struct k8s_pod *pod, struct kp_arena *arena, struct kp_string_map *ret_requests);

/* ---- /etc/hosts ---------------------------------------------------------------------------------------------------------------- */
/* node_hosts: text of the node's own file, for pods in the host's network; else NULL. */
void kubelet_hosts_file(struct kp_buf *out, const struct k8s_pod *pod, const char *const *pod_ips, size_t n_pod_ips,
                        const char *hostname, const char *domain, const char *node_hosts);

/* ---- configuration for CRI -------------------------------------------------------------------------------------------------------- */
struct kubelet_dns_input {
    const char *const *cluster_servers;
    size_t n_cluster_servers;
    const char *cluster_domain;
    const struct kubelet_dns *node; /* the node's resolv.conf */
};
void kubelet_pod_dns(const struct k8s_pod *pod, const struct kubelet_dns_input *input, struct kp_arena *arena,
                     struct kubelet_dns *ret_dns);
/* The pod's host name, cut to 63 bytes; *ret_domain is its fully qualified domain or "". */
const char *kubelet_pod_hostname(const struct k8s_pod *pod, const char *cluster_domain, struct kp_arena *arena,
                                 const char **ret_domain);
const char *kubelet_pod_log_dir(const struct k8s_pod *pod, struct kp_arena *arena); /* /var/log/pods/ns_name_uid */
void kubelet_sandbox_config(const struct k8s_pod *pod, uint32_t attempt, const struct kubelet_dns_input *dns,
                            const char *hostname, const char *runtime_handler, int64_t node_memory_bytes, struct kp_arena *arena,
                            struct cri_sandbox_config *ret_config);
/* Security of a container from pod and container contexts; image user is used for runAsNonRoot. */
int kubelet_container_security(const struct k8s_pod *pod, const struct k8s_container *container, const struct cri_image *image,
                               const char *target_id, struct kp_arena *arena, struct cri_security *ret_security,
                               struct kp_error *error) KP_NODISCARD;

/* ---- admission at the node ------------------------------------------------------------------------------------------------------ */
struct kubelet_admission {
    bool ok;
    const char *reason, *message; /* when not ok */
};
/* others: the requests of the pods that hold resources here already, summed; n_others of them. */
void kubelet_admit(const struct k8s_pod *pod, const struct kp_string_map *allocatable, const struct kp_string_map *others,
                   size_t n_others, const struct kp_string_map *node_labels, struct kp_arena *arena,
                   struct kubelet_admission *ret);

#endif
