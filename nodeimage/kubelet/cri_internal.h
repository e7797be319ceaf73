/* The kubelet's view of a container runtime: CRI v1 as plain structs, with the gRPC client hidden in cri.c. */
#ifndef KUBELET_CRI_INTERNAL_H
#define KUBELET_CRI_INTERNAL_H

#include "lib/base/base.h"

struct loop;

/* ---- what a pod and a container are made of; everything borrowed by the calls ----------------------------------- */
struct cri_pair {
    const char *key, *value;
};
struct cri_pairs {
    struct cri_pair *items;
    size_t len;
};
struct cri_strings {
    const char **items;
    size_t len;
};
enum cri_propagation { CRI_PROPAGATION_PRIVATE, CRI_PROPAGATION_HOST_TO_CONTAINER, CRI_PROPAGATION_BIDIRECTIONAL };
struct cri_mount {
    const char *container_path, *host_path;
    bool readonly;
    enum cri_propagation propagation;
    const char *image;          /* an image mounted as a volume, or NULL */
    const char *image_sub_path; /* or NULL */
};
enum cri_protocol { CRI_TCP, CRI_UDP, CRI_SCTP };
struct cri_port {
    enum cri_protocol protocol;
    int32_t container_port, host_port;
    const char *host_ip;
};
enum cri_namespace { CRI_NS_POD, CRI_NS_CONTAINER, CRI_NS_NODE, CRI_NS_TARGET };
enum cri_seccomp { CRI_SECCOMP_UNSET, CRI_SECCOMP_RUNTIME_DEFAULT, CRI_SECCOMP_UNCONFINED, CRI_SECCOMP_LOCALHOST };
struct cri_resources {
    int64_t cpu_period, cpu_quota, cpu_shares, memory_limit_bytes, oom_score_adj;
};
struct cri_security {
    enum cri_namespace network, pid, ipc;
    const char *target_id; /* of CRI_NS_TARGET */
    bool has_run_as_user, has_run_as_group;
    int64_t run_as_user, run_as_group;
    const char *run_as_username; /* or NULL */
    const int64_t *supplemental_groups;
    size_t n_supplemental_groups;
    bool privileged, readonly_rootfs, no_new_privs;
    enum cri_seccomp seccomp;
    const char *seccomp_localhost;
    bool mask_proc; /* the default masked and read-only paths of /proc */
    struct cri_strings add_capabilities, drop_capabilities;
};
struct cri_sandbox_config {
    const char *name, *uid, *ns;
    uint32_t attempt;
    const char *hostname, *log_directory;
    struct cri_strings dns_servers, dns_searches, dns_options;
    struct cri_port *ports;
    size_t n_ports;
    struct cri_pairs labels, annotations, sysctls;
    const char *cgroup_parent;
    struct cri_security security;
    struct cri_resources resources; /* sum of the containers */
    const char *runtime_handler;    /* "" is the default */
};
struct cri_container_config {
    const char *name;
    uint32_t attempt;
    const char *image;      /* what to run: an image id */
    const char *user_image; /* as the user wrote it */
    struct cri_strings command, args;
    const char *working_dir;
    struct cri_pairs envs, labels, annotations;
    struct cri_mount *mounts;
    size_t n_mounts;
    const char *log_path; /* relative to the sandbox's log directory */
    bool stdin_open, stdin_once, tty;
    struct cri_security security;
    struct cri_resources resources;
};

/* ---- what the runtime tells; in the caller's arena --------------------------------------------------------------- */
struct cri_sandbox {
    const char *id, *name, *uid, *ns;
    uint32_t attempt;
    bool ready;
    int64_t created_ns;
    struct cri_pairs labels, annotations;
    bool host_network;      /* only from cri_sandbox_status, as are the addresses */
    const char **ips;
    size_t n_ips;
};
enum cri_state { CRI_CREATED, CRI_RUNNING, CRI_EXITED, CRI_UNKNOWN };
struct cri_container {
    const char *id, *sandbox_id, *name;
    uint32_t attempt;
    enum cri_state state;
    int64_t created_ns, started_ns, finished_ns; /* started and finished only from cri_container_status */
    int32_t exit_code;
    const char *image, *image_ref, *image_id, *reason, *message, *log_path;
    struct cri_pairs labels, annotations;
    struct cri_mount *mounts;
    size_t n_mounts;
};
struct cri_image {
    const char *id;
    struct cri_strings tags, digests;
    uint64_t size_bytes;
    bool has_uid;
    int64_t uid;
    const char *username;
    bool pinned;
};
struct cri_condition {
    const char *type, *reason, *message;
    bool status;
};
struct cri_status {
    struct cri_condition *conditions;
    size_t n_conditions;
};
struct cri_container_stats {
    const char *id, *name;
    struct cri_pairs labels;
    int64_t timestamp_ns;
    uint64_t cpu_usage_ns, memory_working_set_bytes, memory_usage_bytes, memory_rss_bytes, fs_used_bytes, fs_inodes_used;
};
struct cri_fs_info {
    const char *mountpoint;
    uint64_t used_bytes, inodes_used;
};
const char *cri_pairs_get(const struct cri_pairs *pairs, const char *key); /* NULL when absent */

/* ---- the client: thread-safe, every call blocks -------------------------------------------------------------------- */
struct cri;
struct grpc_channel;
/* endpoint: "unix:///run/containerd/containerd.sock" or a bare path; does not connect yet. loop is borrowed until cri_free. */
int cri_new(struct loop *loop, const char *endpoint, struct cri **ret_cri, struct kp_error *error) KP_NODISCARD;
void cri_free(struct cri *cri); /* accepts NULL */
struct grpc_channel *cri_channel(struct cri *cri); /* borrowed */

struct cri_events_callbacks { /* on the loop's thread */
    void (*on_event)(void *arg);           /* a container began, ended or was removed; what CRI says of it may follow a moment later */
    void (*on_end)(bool again, void *arg); /* last, exactly once. again: the stream broke; else the runtime has no such events */
};
/* Listens to containerd's own events of the namespace k8s.io. Copies callbacks; arg must live until on_end. Does not block. */
void cri_events_open(struct cri *cri, const struct cri_events_callbacks *callbacks, void *arg);

int cri_version(struct cri *cri, struct kp_arena *arena, const char **ret_name, const char **ret_version,
                struct kp_error *error) KP_NODISCARD;
int cri_runtime_status(struct cri *cri, struct kp_arena *arena, struct cri_status *ret_status, struct kp_error *error)
    KP_NODISCARD;
int cri_run_sandbox(struct cri *cri, const struct cri_sandbox_config *config, struct kp_arena *arena, const char **ret_id,
                    struct kp_error *error) KP_NODISCARD;
int cri_stop_sandbox(struct cri *cri, const char *id, struct kp_error *error) KP_NODISCARD;
int cri_remove_sandbox(struct cri *cri, const char *id, struct kp_error *error) KP_NODISCARD;
int cri_sandbox_status(struct cri *cri, const char *id, struct kp_arena *arena, struct cri_sandbox *ret_sandbox,
                       struct kp_error *error) KP_NODISCARD;
/* label: one label that must match, or NULL for all. */
int cri_list_sandboxes(struct cri *cri, const char *label, const char *value, struct kp_arena *arena,
                       struct cri_sandbox **ret_items, size_t *ret_len, struct kp_error *error) KP_NODISCARD;
int cri_list_containers(struct cri *cri, const char *label, const char *value, struct kp_arena *arena,
                        struct cri_container **ret_items, size_t *ret_len, struct kp_error *error) KP_NODISCARD;
int cri_create_container(struct cri *cri, const char *sandbox_id, const struct cri_container_config *config,
                         const struct cri_sandbox_config *sandbox, struct kp_arena *arena, const char **ret_id,
                         struct kp_error *error) KP_NODISCARD;
int cri_start_container(struct cri *cri, const char *id, struct kp_error *error) KP_NODISCARD;
int cri_stop_container(struct cri *cri, const char *id, int64_t timeout_s, struct kp_error *error) KP_NODISCARD;
int cri_remove_container(struct cri *cri, const char *id, struct kp_error *error) KP_NODISCARD;
int cri_container_status(struct cri *cri, const char *id, struct kp_arena *arena, struct cri_container *ret_container,
                         struct kp_error *error) KP_NODISCARD;
int cri_update_resources(struct cri *cri, const char *id, const struct cri_resources *resources, struct kp_error *error)
    KP_NODISCARD;
int cri_reopen_log(struct cri *cri, const char *id, struct kp_error *error) KP_NODISCARD;
/* timeout_s 0: none. out and err_out may be NULL. */
int cri_exec_sync(struct cri *cri, const char *id, const struct cri_strings *command, int64_t timeout_s, struct kp_buf *out,
                  struct kp_buf *err_out, int32_t *ret_exit_code, struct kp_error *error) KP_NODISCARD;
struct cri_stream_options {
    bool in, out, err, tty;
};
/* Each gives the URL of the runtime's streaming server. */
int cri_exec(struct cri *cri, const char *id, const struct cri_strings *command, const struct cri_stream_options *options,
             struct kp_arena *arena, const char **ret_url, struct kp_error *error) KP_NODISCARD;
int cri_attach(struct cri *cri, const char *id, const struct cri_stream_options *options, struct kp_arena *arena,
               const char **ret_url, struct kp_error *error) KP_NODISCARD;
int cri_port_forward(struct cri *cri, const char *sandbox_id, const int32_t *ports, size_t n_ports, struct kp_arena *arena,
                     const char **ret_url, struct kp_error *error) KP_NODISCARD;
int cri_list_stats(struct cri *cri, struct kp_arena *arena, struct cri_container_stats **ret_items, size_t *ret_len,
                   struct kp_error *error) KP_NODISCARD;
int cri_list_images(struct cri *cri, struct kp_arena *arena, struct cri_image **ret_items, size_t *ret_len,
                    struct kp_error *error) KP_NODISCARD;
/* *ret_image is NULL when the runtime does not have the image. */
int cri_image_status(struct cri *cri, const char *image, struct kp_arena *arena, struct cri_image **ret_image,
                     struct kp_error *error) KP_NODISCARD;
struct cri_auth {
    const char *username, *password, *server, *identity_token; /* NULLs allowed */
};
int cri_pull_image(struct cri *cri, const char *image, const struct cri_auth *auth, const struct cri_sandbox_config *sandbox,
                   struct kp_arena *arena, const char **ret_ref, struct kp_error *error) KP_NODISCARD;
int cri_remove_image(struct cri *cri, const char *image, struct kp_error *error) KP_NODISCARD;
int cri_image_fs(struct cri *cri, struct kp_arena *arena, struct cri_fs_info **ret_items, size_t *ret_len,
                 struct kp_error *error) KP_NODISCARD;

#endif
