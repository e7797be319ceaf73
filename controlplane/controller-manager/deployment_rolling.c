/* How a Deployment's pods move from old sets to the new one: rolling update, recreate, and proportional scaling. */
#include "controlplane/controller-manager/deployment.h"

static int32_t sum_replicas(const struct deployment_sync *sync, bool with_new)
{
    int32_t total = with_new && sync->new ? deployment_set_replicas(sync->new) : 0;
    for (size_t i = 0; i < sync->n_old; i++)
        total += deployment_set_replicas(sync->old[i]);
    return total;
}

static int32_t sum_available(const struct deployment_sync *sync)
{
    int32_t total = sync->new ? sync->new->status->available_replicas : 0;
    for (size_t i = 0; i < sync->n_old; i++)
        total += sync->old[i]->status->available_replicas;
    return total;
}

/* True when the new set's size changed: old ones wait for the next plan. */
static bool reconcile_new(struct deployment_sync *sync)
{
    int32_t now = deployment_set_replicas(sync->new);
    if (now == sync->wanted)
        return false;
    if (now > sync->wanted) {
        deployment_scale_set(sync, sync->new, sync->wanted);
        return true;
    }
    int32_t room = sync->wanted + sync->max_surge - sum_replicas(sync, true);
    if (room <= 0)
        return false;
    deployment_scale_set(sync, sync->new, now + KP_MIN(room, sync->wanted - now));
    return true;
}

/* Old pods that are not available cost nothing to remove; then available ones as far as max_unavailable allows. */
static void reconcile_old(struct deployment_sync *sync)
{
    int32_t min_available = sync->wanted - sync->max_unavailable;
    int32_t new_unavailable = deployment_set_replicas(sync->new) - sync->new->status->available_replicas;
    int32_t may_go = sum_replicas(sync, true) - min_available - new_unavailable;
    if (may_go <= 0)
        return;
    int32_t *target = KP_NEW_ARRAY(sync->in->arena, int32_t, sync->n_old + 1);
    int32_t left = may_go;
    for (size_t i = 0; i < sync->n_old; i++) {
        int32_t now = deployment_set_replicas(sync->old[i]);
        int32_t sick = KP_MAX(0, now - sync->old[i]->status->available_replicas);
        int32_t gone = KP_MIN(left, sick);
        target[i] = now - gone;
        left -= gone;
    }
    int32_t healthy_may_go = sum_available(sync) - min_available;
    for (size_t i = 0; i < sync->n_old && healthy_may_go > 0; i++) {
        int32_t gone = KP_MIN(target[i], healthy_may_go);
        target[i] -= gone;
        healthy_may_go -= gone;
    }
    for (size_t i = 0; i < sync->n_old; i++)
        if (target[i] != deployment_set_replicas(sync->old[i]))
            deployment_scale_set(sync, sync->old[i], target[i]);
}

void deployment_rolling_update(struct deployment_sync *sync)
{
    if (!reconcile_new(sync))
        reconcile_old(sync);
}

void deployment_recreate(struct deployment_sync *sync, const struct k8s_pod *const *pods, size_t n_pods)
{
    bool scaled = false;
    for (size_t i = 0; i < sync->n_old; i++)
        if (deployment_set_replicas(sync->old[i]) > 0) {
            deployment_scale_set(sync, sync->old[i], 0);
            scaled = true;
        }
    if (!scaled && sync->new && deployment_set_replicas(sync->new) != sync->wanted)
        deployment_scale_set(sync, sync->new, sync->wanted);
}

/* A scale in the middle of a roll-out is shared among all active sets in proportion to their sizes, the largest (for a
   scale-up: the newest first among equals) taking what rounding leaves. */
static int smaller_older(const void *a, const void *b)
{
    const struct k8s_replica_set *x = *(const struct k8s_replica_set *const *)a, *y = *(const struct k8s_replica_set *const *)b;
    int32_t d = deployment_set_replicas(x) - deployment_set_replicas(y);
    int64_t age = x->metadata->creation_timestamp.seconds - y->metadata->creation_timestamp.seconds;
    return d ? (d < 0 ? -1 : 1) : age ? (age < 0 ? -1 : 1) : strcmp(x->metadata->name, y->metadata->name);
}

/* Upstream's ReplicaSetsBySizeNewer (growing) and ReplicaSetsBySizeOlder: the largest first, among equals the newest or the oldest. */
static int larger_newer(const void *a, const void *b)
{
    return smaller_older(b, a);
}

static int larger_older(const void *a, const void *b)
{
    const struct k8s_replica_set *x = *(const struct k8s_replica_set *const *)a, *y = *(const struct k8s_replica_set *const *)b;
    return deployment_set_replicas(x) == deployment_set_replicas(y) ? smaller_older(a, b) : smaller_older(b, a);
}

void deployment_scale_proportionally(struct deployment_sync *sync)
{
    const struct k8s_replica_set **active = KP_NEW_ARRAY(sync->in->arena, const struct k8s_replica_set *, sync->n_old + 2);
    size_t n = 0;
    if (sync->new && deployment_set_replicas(sync->new) > 0)
        active[n++] = sync->new;
    for (size_t i = sync->n_old; i > 0; i--)
        if (deployment_set_replicas(sync->old[i - 1]) > 0)
            active[n++] = sync->old[i - 1];
    if (n <= 1) { /* one set, or none: it simply takes the size */
        const struct k8s_replica_set *only = n ? active[0] : sync->new ? sync->new : sync->n_old ? sync->old[sync->n_old - 1] : NULL;
        if (only)
            deployment_scale_set(sync, only, sync->wanted);
        return;
    }
    bool saturated = sync->new && deployment_set_replicas(sync->new) == sync->wanted &&
                     sync->new->status->available_replicas == sync->wanted;
    if (saturated) {
        for (size_t i = 0; i < sync->n_old; i++)
            if (deployment_set_replicas(sync->old[i]) > 0)
                deployment_scale_set(sync, sync->old[i], 0);
        return;
    }
    if (kp_streq(sync->deployment->spec->strategy->type, "Recreate"))
        return; /* old and new never run side by side: there is nothing to share */
    int32_t total = sum_replicas(sync, true);
    int32_t allowed = sync->wanted > 0 ? sync->wanted + sync->max_surge : 0;
    int32_t to_share = allowed - total, left = to_share;
    int32_t *target = KP_NEW_ARRAY(sync->in->arena, int32_t, n);
    qsort(active, n, sizeof(*active), to_share > 0 ? larger_newer : larger_older);
    for (size_t i = 0; i < n; i++) {
        int32_t size = deployment_set_replicas(active[i]);
        int64_t max_before = 0;
        const char *text = kp_string_map_get(&active[i]->metadata->annotations, DEPLOYMENT_MAX_REPLICAS);
        if (!text || kp_parse_i64(text, &max_before) < 0 || max_before <= 0)
            max_before = total;
        /* upstream's getReplicaSetFraction: the set's share of the annotated maximum, rounded half away from zero */
        double exact = (double)size * allowed / (double)max_before;
        int32_t share = (int32_t)(exact + 0.5) - size;
        if (to_share > 0)
            share = KP_MAX(0, KP_MIN(share, left));
        else if (to_share < 0)
            share = KP_MIN(0, KP_MAX(share, left));
        else
            share = 0;
        target[i] = size + share;
        left -= share;
    }
    target[0] = KP_MAX(0, target[0] + left);
    for (size_t i = 0; i < n; i++)
        deployment_scale_set(sync, active[i], target[i]);
}
