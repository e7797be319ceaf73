/* The running kubelet: its parts and how they call each other. */
#ifndef KUBELET_INTERNAL_H
#define KUBELET_INTERNAL_H

#include <pthread.h>

#include "lib/loop/loop.h"
#include "nodeimage/kubelet/eviction/eviction.h"
#include "nodeimage/kubelet/pod_internal.h"

struct http_server;
struct tls_context;

#define KUBELET_PORT 10250
#define KUBELET_HEALTHZ_PORT 10248
#define KUBELET_WORKERS_MAX 96        /* pods worked on at once: most of them wait for the runtime */
#define KUBELET_PROBE_THREADS_MAX 16
#define KUBELET_SERVER_THREADS_MAX 64 /* log followers hold one each */
#define KUBELET_ADDRESSES_MAX 4

/* ---- configuration ------------------------------------------------------------------------------------------------ */
struct kubelet_config {
    struct kp_arena *arena; /* owns every string */
    const char *kubeconfig, *bootstrap_kubeconfig, *runtime_endpoint, *node_name, *pod_manifest_path, *root_dir, *cluster_domain;
    const char *client_ca_file, *tls_cert_file, *tls_key_file, *cert_dir, *provider_id, *resolv_conf, *listen_address;
    const char *node_ips[KUBELET_ADDRESSES_MAX];
    size_t n_node_ips;
    const char *cluster_dns[KUBELET_DNS_SERVERS_MAX];
    size_t n_cluster_dns;
    struct kp_string_map node_labels;
    struct k8s_taint_items taints;
    struct kp_string_map system_reserved, kube_reserved; /* taken off the capacity */
    int64_t pods_max, port, healthz_port, verbosity;
    int64_t container_log_bytes_max, container_log_files_max;
    int64_t status_frequency_s, lease_duration_s, crash_backoff_max_s;
    int64_t image_gc_high_percent, image_gc_low_percent;
    struct kp_string_map eviction_hard, eviction_soft, eviction_soft_grace, eviction_reclaim; /* as the file has them */
    bool eviction_merge;
    struct eviction_settings eviction;
    bool register_node, rotate_server_certificates, anonymous_auth, authorize_webhook;
};
/* Command line, then the file it names. *ret_help: the help was asked for and printed. */
int kubelet_config_load(int argc, char **argv, struct kubelet_config *ret_config, bool *ret_help, struct kp_error *error)
    KP_NODISCARD;
void kubelet_config_done(struct kubelet_config *config);
/* The KubeletConfiguration document alone; a field that is unknown fails with its name. */
int kubelet_config_parse(const char *text, size_t len, struct kubelet_config *config, struct kp_error *error) KP_NODISCARD;
/* "key=value,key2=value2" and "key=value:Effect,...". */
int kubelet_parse_labels(const char *text, struct kp_arena *arena, struct kp_string_map *ret, struct kp_error *error) KP_NODISCARD;
int kubelet_parse_taints(const char *text, struct kp_arena *arena, struct k8s_taint_items *ret, struct kp_error *error)
    KP_NODISCARD;

/* ---- the whole ------------------------------------------------------------------------------------------------------ */
struct kubelet_workers;
struct kubelet_probes;
struct kubelet_statuses;
struct kubelet_node;
struct kubelet_server;
struct kubelet_objects;
struct kubelet_evictions;
struct csi;

struct kubelet {
    struct kubelet_config config;
    struct loop *loop; /* network: client, server, runtime */
    struct cri *cri;
    struct client *client;             /* NULL: standalone */
    struct client_recorder *recorder;  /* NULL: standalone */
    struct client_informer *pods, *services, *node_informer;
    struct kubelet_workers *workers;
    struct kubelet_probes *probes;
    struct tls_context *handler_tls; /* of HTTPS probes and hooks: making one takes as long as a handshake */
    struct kubelet_statuses *statuses;
    struct kubelet_node *node;
    struct kubelet_server *server;
    struct kubelet_objects *objects;
    struct kubelet_evictions *evictions;
    struct csi *csi; /* storage drivers; NULL: standalone */
    struct kubelet_backoff *restart_backoff, *pull_backoff;
    struct kubelet_dns node_dns; /* the node's resolv.conf */
    struct kp_arena *dns_arena;
    int64_t memory_bytes; /* of the machine */
    int64_t started_s;
    bool stopping;
    bool runtime_ready, network_ready; /* as the runtime's last status says; atomic */
};

/* ---- workers: one a pod ---------------------------------------------------------------------------------------------- */
enum kubelet_worker_state { KUBELET_SYNCING, KUBELET_TERMINATING, KUBELET_TERMINATED, KUBELET_FINISHED };
struct kubelet_worker; /* pod_worker_internal.h */
struct kubelet_workers *kubelet_workers_new(struct kubelet *kubelet);
void kubelet_workers_free(struct kubelet_workers *workers);
/* A pod is there, or there in a new version. Takes a reference of its own. */
void kubelet_workers_update(struct kubelet_workers *workers, struct kubelet_pod *pod);
/* A new version that differs in nothing a worker acts on: kept, without work. */
void kubelet_workers_refresh(struct kubelet_workers *workers, struct kubelet_pod *pod);
/* The pod's object or file is gone: stop it (grace_s -1: its own grace period) and forget it. */
void kubelet_workers_remove(struct kubelet_workers *workers, const char *uid, int64_t grace_s);
/* Works on the pod again now, or after a while. Unknown uids are ignored. */
void kubelet_workers_wake(struct kubelet_workers *workers, const char *uid);
void kubelet_workers_wake_after(struct kubelet_workers *workers, const char *uid, int64_t delay_ms);
void kubelet_workers_wake_all(struct kubelet_workers *workers);
bool kubelet_workers_known(struct kubelet_workers *workers, const char *uid);
/* Ends a pod that is to run, as Failed with the reason Evicted and the message (copied). False: there is none, or it ends already. */
bool kubelet_workers_evict(struct kubelet_workers *workers, const char *uid, int64_t grace_s, const char *message);
bool kubelet_workers_active(struct kubelet_workers *workers, const char *uid); /* it is to run: not ending, not ended, not unknown */
bool kubelet_workers_ended(struct kubelet_workers *workers, const char *uid);  /* everything of it has stopped, or it is unknown */
/* The newest version of a pod, by uid or by name; a reference, or NULL. */
struct kubelet_pod *kubelet_workers_find(struct kubelet_workers *workers, const char *uid);
struct kubelet_pod *kubelet_workers_find_name(struct kubelet_workers *workers, const char *ns, const char *name);
/* References to all pods; the array is malloc'ed, the caller unrefs and frees. */
size_t kubelet_workers_list(struct kubelet_workers *workers, struct kubelet_pod ***ret_pods);
/* Requests of the other pods that hold resources here. */
size_t kubelet_workers_requests(struct kubelet_workers *workers, const char *except_uid, struct kp_arena *arena,
                                struct kp_string_map *ret_sum);
size_t kubelet_workers_len(struct kubelet_workers *workers);

/* ---- what the runtime has of one pod ------------------------------------------------------------------------------------- */
/* Full states of sandboxes and containers, with termination messages. */
int kubelet_runtime_load(struct kubelet *kubelet, const char *uid, struct kp_arena *arena, struct kubelet_runtime *ret,
                         struct kp_error *error) KP_NODISCARD;

/* ---- starting containers --------------------------------------------------------------------------------------------------- */
struct kubelet_sync; /* pod_worker_internal.h */

/* ---- images ------------------------------------------------------------------------------------------------------------------ */
/* Sees to it that the image is there, by the container's pull policy. On failure *ret_reason is the waiting reason
   (ErrImagePull, ImagePullBackOff, ErrImageNeverPull, InvalidImageName). */
int kubelet_image_ensure(struct kubelet *kubelet, const struct kubelet_pod *pod, const struct k8s_container *container,
                         const struct cri_sandbox_config *sandbox, struct kp_arena *arena, struct cri_image **ret_image,
                         const char **ret_reason, struct kp_error *error) KP_NODISCARD;
/* "nginx" -> "docker.io/library/nginx:latest"; NULL when it is no image name. */
const char *kubelet_image_normalize(const char *image, struct kp_arena *arena);
bool kubelet_image_tag_latest(const char *image);
void kubelet_image_gc(struct kubelet *kubelet);
void kubelet_images_remove_unused(struct kubelet *kubelet); /* all of them, but pinned ones */

/* ---- eviction ------------------------------------------------------------------------------------------------------------------ */
struct kubelet_evictions *kubelet_evictions_new(struct kubelet *kubelet);
void kubelet_evictions_start(struct kubelet *kubelet);
void kubelet_evictions_pressure(struct kubelet *kubelet, bool ret[EVICTION_PRESSURES]); /* the conditions in force */
struct kubelet_disk_usage {
    int64_t bytes, inodes;
};
/* Adds what lies below the folder, on its file system alone; links are not followed. A folder that is not there has nothing. */
void kubelet_disk_usage(const char *path, struct kubelet_disk_usage *usage);

/* ---- handlers of probes and hooks ---------------------------------------------------------------------------------------------- */
struct kubelet_handler {
    const struct k8s_exec_action *exec;
    const struct k8s_http_get_action *http_get;
    const struct k8s_tcp_socket_action *tcp_socket;
    const struct k8s_grpc_action *grpc;
};
int kubelet_handler_tls(struct tls_context **ret, struct kp_error *error); /* what HTTPS handlers share */
/* Runs one handler within timeout_ms. 0: it succeeded; KP_EUNAVAILABLE and others: it failed, error says how in upstream's
   words; output (may be NULL) gets what it printed. */
int kubelet_handler_run(struct kubelet *kubelet, const struct kubelet_handler *handler, const struct k8s_container *container,
                        const char *container_id, const char *pod_ip, int64_t timeout_ms, struct kp_buf *output,
                        struct kp_error *error) KP_NODISCARD;

/* ---- probes ---------------------------------------------------------------------------------------------------------------------- */
struct kubelet_probes *kubelet_probes_new(struct kubelet *kubelet);
void kubelet_probes_free(struct kubelet_probes *probes);
/* Probes exactly the running containers of the pod from now on. */
void kubelet_probes_sync(struct kubelet_probes *probes, struct kubelet_pod *pod, const struct kubelet_runtime *rt);
/* A pod that ends: no more probing. The last results count on until forget. */
void kubelet_probes_stop(struct kubelet_probes *probes, const char *uid);
void kubelet_probes_forget(struct kubelet_probes *probes, const char *uid);
struct kubelet_probe_view kubelet_probes_view(struct kubelet_probes *probes);

/* ---- statuses ---------------------------------------------------------------------------------------------------------------------- */
struct kubelet_statuses *kubelet_statuses_new(struct kubelet *kubelet);
void kubelet_statuses_free(struct kubelet_statuses *statuses);
/* Keeps the status and has it written when it differs from what was written last. */
void kubelet_statuses_set(struct kubelet_statuses *statuses, const struct kubelet_pod *pod, const struct k8s_pod_status *status);
/* A copy of the last status in arena; NULL when there is none. */
struct k8s_pod_status *kubelet_statuses_get(struct kubelet_statuses *statuses, const char *uid, struct kp_arena *arena);
void kubelet_statuses_forget(struct kubelet_statuses *statuses, const char *uid);
/* Everything has been stopped: after the last status is written the object is deleted for good. */
void kubelet_statuses_finish(struct kubelet_statuses *statuses, const char *uid);
/* The mirror pod of a static pod came or changed. */
void kubelet_statuses_retry(struct kubelet_statuses *statuses, const char *uid);
/* What the API shows of the pod: when it says something else than what was written, it is written again. */
void kubelet_statuses_observe(struct kubelet_statuses *statuses, const char *uid, const struct k8s_pod_status *seen);
/* When what the API shows is to be written over, not sooner than the echoes of our own writes have come; -1: it is ours. Pure. */
int64_t kubelet_status_mend_ms(const struct k8s_pod_status *ours, const struct k8s_pod_status *seen, int64_t written_ms, int64_t now_ms);
/* The differences as a strategic merge patch of status (NULL: none); pure. */
char *kubelet_status_patch(const struct k8s_pod_status *old, const struct k8s_pod_status *status, const char *uid,
                           struct kp_arena *arena);

/* ---- sources of pods ------------------------------------------------------------------------------------------------------------------ */
void kubelet_source_start(struct kubelet *kubelet);
/* Sees to it that the static pod has its mirror in the API. */
void kubelet_mirror_ensure(struct kubelet *kubelet, struct kubelet_pod *pod);
void kubelet_mirror_delete(struct kubelet *kubelet, const char *ns, const char *name);
/* uid of the mirror pod of a static pod; false when there is none. */
bool kubelet_mirror_uid(struct kubelet *kubelet, const struct kubelet_pod *pod, struct kp_arena *arena, const char **ret_uid);
int kubelet_static_start(struct kubelet *kubelet, struct kp_error *error) KP_NODISCARD;
bool kubelet_static_synced(void);
/* One manifest into a pod with the node's name, a uid made from its content and the annotations of its source. */
int kubelet_static_parse(const char *path, const char *text, size_t len, const char *node_name, struct kubelet_pod **ret_pod,
                         struct kp_error *error) KP_NODISCARD;

/* ---- looking at the runtime ----------------------------------------------------------------------------------------------------------------- */
void kubelet_pleg_start(struct kubelet *kubelet);
void kubelet_pleg_kick(struct kubelet *kubelet); /* something is under way: unless the runtime tells of events, look quickly for a while */
/* Milliseconds until the next look, after one that took look_ms, quiet_ms after the last change, with last_ms before it (0: something just
   happened); told: the runtime tells of events. Pure. */
int64_t kubelet_pleg_wait_ms(int64_t look_ms, int64_t quiet_ms, int64_t last_ms, bool told);

/* ---- objects and tokens ---------------------------------------------------------------------------------------------------------------------- */
struct kubelet_objects *kubelet_objects_new(struct kubelet *kubelet);
void kubelet_objects_free(struct kubelet_objects *objects);
/* A getter whose objects lie in arena. age_ms_max > 0: an object got within that time may be reused. */
struct kubelet_getter *kubelet_objects_getter(struct kubelet_objects *objects, struct kp_arena *arena, int64_t age_ms_max);
void kubelet_objects_forget_pod(struct kubelet_objects *objects, const char *uid); /* its tokens */

/* ---- the node ------------------------------------------------------------------------------------------------------------------------------------ */
struct kubelet_node *kubelet_node_new(struct kubelet *kubelet);
void kubelet_node_free(struct kubelet_node *node);
void kubelet_node_start(struct kubelet *kubelet);
/* Copies in arena. */
void kubelet_node_allocatable(struct kubelet *kubelet, struct kp_arena *arena, struct kp_string_map *ret);
void kubelet_node_labels(struct kubelet *kubelet, struct kp_arena *arena, struct kp_string_map *ret);
size_t kubelet_node_addresses(struct kubelet *kubelet, const char *const **ret_ips);
void kubelet_node_report(struct kubelet *kubelet); /* writes the status soon: something of it changed */
/* The node as the API shows it, a copy in arena; NULL: not known. */
const struct k8s_node *kubelet_node_object(struct kubelet *kubelet, struct kp_arena *arena);
/* Whether the API shows the volume as in use, so that nobody detaches it, and as attached. */
bool kubelet_node_has_volume(struct kubelet *kubelet, const char *volume);
int64_t kubelet_machine_memory_bytes(void);
int64_t kubelet_machine_cpu_milli(void);

/* ---- events ------------------------------------------------------------------------------------------------------------------------------------------ */
/* type "Normal" or "Warning"; container NULL: about the pod. Mirror pods stand for static ones. */
void kubelet_event(struct kubelet *kubelet, const struct kubelet_pod *pod, const char *container, const char *type,
                   const char *reason, const char *format, ...) KP_PRINTF(6, 7);
void kubelet_node_event(struct kubelet *kubelet, const char *type, const char *reason, const char *format, ...) KP_PRINTF(4, 5);

/* ---- server ---------------------------------------------------------------------------------------------------------------------------------------------- */
int kubelet_server_start(struct kubelet *kubelet, struct kp_error *error) KP_NODISCARD;
void kubelet_server_free(struct kubelet_server *server);
void kubelet_server_set_tls(struct kubelet *kubelet, struct tls_context *tls); /* takes the reference over */

/* ---- certificates ---------------------------------------------------------------------------------------------------------------------------------------------- */
/* The server's TLS context: files of the configuration, or the last certificate that was signed, or a self-signed one. */
int kubelet_certs_server(struct kubelet *kubelet, struct tls_context **ret_tls, struct kp_error *error) KP_NODISCARD;
void kubelet_certs_start(struct kubelet *kubelet); /* asks for a serving certificate and renews it */
/* With a bootstrap kubeconfig and no kubeconfig: gets a client certificate and writes the kubeconfig. */
int kubelet_certs_bootstrap(struct kubelet *kubelet, struct kp_error *error) KP_NODISCARD;

/* ---- housekeeping ---------------------------------------------------------------------------------------------------------------------------------------------------- */
void kubelet_housekeeping_start(struct kubelet *kubelet);
void kubelet_thread(const char *name, void *(*fn)(void *), void *arg); /* detached, small stack */

#endif
