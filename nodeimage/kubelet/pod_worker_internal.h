/* What pod_worker.c, pod_sync.c, pod_kill.c and container_start.c share: the state of one pod's worker. */
#ifndef KUBELET_POD_WORKER_INTERNAL_H
#define KUBELET_POD_WORKER_INTERNAL_H

#include "nodeimage/kubelet/kubelet_internal.h"

#define KUBELET_REASON_BYTES_MAX 1024
struct kubelet_start_failure {
    char container[254], reason[64], message[KUBELET_REASON_BYTES_MAX];
};

struct kubelet_worker {
    struct kubelet *kubelet;
    char *uid, *ns, *name;
    bool is_static;
    /* Under the lock of the workers: */
    enum kubelet_worker_state state;
    struct kubelet_pod *pod;     /* newest version */
    struct kubelet_pod *pending; /* a static pod that came back while its former self is ending */
    bool removed;                /* its object or file is gone */
    int64_t grace_s;             /* how long ending may take; -1: as the pod says */
    char *evicted;               /* why it is to end for a reason of the node's, or NULL */
    bool killing;                /* a thread is in the middle of stopping it */
    /* Of the thread that works on it (one at a time): */
    bool admitted, volumes_ready, dirs_ready;
    int64_t volume_wait_ms, volume_told_ms; /* since when it waits for an attachment, and when that was last told of; monotonic, 0: not */
    int mount_failures;       /* in a row, to mount or to unmount: the next try comes later */
    struct kp_strmap *mounts; /* its volumes behind claims; NULL: none yet (volumes.h) */
    char fail_reason[64], fail_message[KUBELET_REASON_BYTES_MAX];
    int64_t first_seen_s;
    int64_t refreshed_ms; /* when its volumes were last brought up to date; monotonic */
    struct kubelet_start_failure *failures;
    size_t n_failures;
};

/* One pass over one pod. */
struct kubelet_sync {
    struct kubelet *kubelet;
    struct kubelet_worker *worker;
    struct kubelet_pod *pod;
    struct kp_arena *arena;
    struct kubelet_runtime rt;
    int64_t again_ms; /* come back after this; -1: only when woken */
};

/* Asks for another pass no later than delay_ms from now. */
void kubelet_sync_again(struct kubelet_sync *sync, int64_t delay_ms);
/* Steps of the life of a pod; each returns whether the state it stands for is over. */
bool kubelet_pod_sync(struct kubelet_sync *sync);      /* true: the pod is to end */
bool kubelet_pod_terminating(struct kubelet_sync *sync); /* true: everything has stopped */
bool kubelet_pod_terminated(struct kubelet_sync *sync);  /* true: its remains are gone */

/* Computes the status from the runtime's state and hands it on. */
void kubelet_sync_status(struct kubelet_sync *sync, bool stopped);
int kubelet_sync_reload(struct kubelet_sync *sync, struct kp_error *error) KP_NODISCARD;
void kubelet_sync_fail(struct kubelet_worker *worker, const char *container, const char *reason, const char *message);
void kubelet_sync_clear_failure(struct kubelet_worker *worker, const char *container);
int kubelet_sync_sandbox_config(struct kubelet_sync *sync, uint32_t attempt, struct cri_sandbox_config *ret,
                                struct kp_error *error) KP_NODISCARD;
void kubelet_sync_volumes_context(struct kubelet_sync *sync, int64_t age_ms_max, void *ret_context);

/* Starts one container in the sandbox; failures are noted in the worker. */
int kubelet_container_start(struct kubelet_sync *sync, const struct kubelet_start *start, const struct cri_sandbox *sandbox,
                            struct kp_error *error) KP_NODISCARD;
/* Runs the preStop hook and stops; grace_s as given. */
void kubelet_container_kill(struct kubelet *kubelet, struct kubelet_pod *pod, const struct k8s_container *spec,
                            const struct cri_container *container, const char *message, int64_t grace_s, const char *pod_ip);
/* Stops all containers (sidecars last) and sandboxes. */
int kubelet_pod_kill(struct kubelet_sync *sync, int64_t grace_s, struct kp_error *error) KP_NODISCARD;
/* How long to wait after another failure with the pod's volumes. */
int64_t kubelet_worker_volume_retry_ms(struct kubelet_worker *worker);
/* The grace period in force for a pod that is ending. */
int64_t kubelet_worker_grace_s(struct kubelet_worker *worker);

#endif
