/* What the files of the Deployment controller share: one sync's picture of a Deployment and its ReplicaSets. */
#ifndef KCM_DEPLOYMENT_H
#define KCM_DEPLOYMENT_H

#include "controlplane/controller-manager/claim.h"

#define DEPLOYMENT_REVISION "deployment.kubernetes.io/revision"
#define DEPLOYMENT_DESIRED_REPLICAS "deployment.kubernetes.io/desired-replicas"
#define DEPLOYMENT_MAX_REPLICAS "deployment.kubernetes.io/max-replicas"
#define DEPLOYMENT_TEMPLATE_HASH "pod-template-hash"

struct deployment_sync {
    const struct plan_input *in;
    struct plan *plan;
    const struct k8s_deployment *deployment;
    struct k8s_deployment *status_copy;        /* what status will be written */
    const struct k8s_replica_set **old;        /* oldest first */
    size_t n_old;
    const struct k8s_replica_set *new;         /* of the current template; NULL until it exists */
    int32_t wanted, max_surge, max_unavailable; /* pods */
    int64_t max_revision;                      /* of the old sets */
};

int32_t deployment_set_replicas(const struct k8s_replica_set *set); /* spec.replicas, 1 when absent */
int64_t deployment_revision(const struct k8s_replica_set *set);
/* Hash of a pod template and the collision count, in the alphabet of generated names. */
const char *deployment_template_hash(const struct k8s_pod_template_spec *template, bool has_collisions, int32_t collisions,
                                     struct kp_arena *arena);
bool deployment_template_equal(const struct k8s_pod_template_spec *a, const struct k8s_pod_template_spec *b, struct kp_arena *arena);
/* Percentages of replicas: surge rounds up, unavailable down; both zero makes unavailable one (upstream's ResolveFenceposts). */
void deployment_resolve_bounds(const struct k8s_deployment *deployment, int32_t replicas, int32_t *ret_surge, int32_t *ret_unavailable);

/* Plans a change of a set's size with its event. */
void deployment_scale_set(struct deployment_sync *sync, const struct k8s_replica_set *set, int32_t replicas);
void deployment_rolling_update(struct deployment_sync *sync);
void deployment_recreate(struct deployment_sync *sync, const struct k8s_pod *const *pods, size_t n_pods);
void deployment_scale_proportionally(struct deployment_sync *sync);
/* Fills sync->status_copy->status and plans its write when it changed. */
void deployment_status(struct deployment_sync *sync);
void deployment_set_condition(struct deployment_sync *sync, const char *type, const char *status, const char *reason, const char *message);

#endif
