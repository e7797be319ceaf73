/* Scores: which of the nodes that fit is best. Rows at the end; weights are upstream's defaults. */
#include "controlplane/scheduler/scheduler.h"
#include "lib/placement/placement.h"

#include <math.h>

#define SCORE_MAX 100

/* NodeResourcesFit, LeastAllocated: the freer of cpu and memory, the better. */
static int64_t least_allocated(const struct sched_pod *pod, const struct sched_node *node)
{
    const int64_t have[2] = {node->allocatable.milli_cpu, node->allocatable.memory};
    const int64_t used[2] = {node->nonzero.milli_cpu + pod->nonzero.milli_cpu, node->nonzero.memory + pod->nonzero.memory};
    int64_t score = 0, weights = 0;
    for (int i = 0; i < 2; i++) {
        if (have[i] <= 0)
            continue;
        score += used[i] > have[i] ? 0 : (have[i] - used[i]) * SCORE_MAX / have[i];
        weights++;
    }
    return weights ? score / weights : 0;
}

/* NodeResourcesBalancedAllocation: the nearer cpu and memory are used in equal parts, the better. */
static int64_t balanced_allocation(const struct sched_pod *pod, const struct sched_node *node)
{
    if (node->allocatable.milli_cpu <= 0 || node->allocatable.memory <= 0)
        return 0;
    double cpu = (double)(node->requested.milli_cpu + pod->requests.milli_cpu) / (double)node->allocatable.milli_cpu;
    double memory = (double)(node->requested.memory + pod->requests.memory) / (double)node->allocatable.memory;
    cpu = KP_MIN(cpu, 1.0);
    memory = KP_MIN(memory, 1.0);
    return (int64_t)((1 - fabs(cpu - memory) / 2) * SCORE_MAX);
}

static int64_t preferred_affinity(const struct sched_pod *pod, const struct sched_node *node)
{
    const struct k8s_affinity *affinity = pod->pod->spec->affinity;
    int64_t total = 0;
    if (!affinity || !affinity->node_affinity)
        return 0;
    for (size_t i = 0; i < affinity->node_affinity->preferred_during_scheduling_ignored_during_execution.len; i++) {
        const struct k8s_preferred_scheduling_term *term = &affinity->node_affinity->preferred_during_scheduling_ignored_during_execution.items[i];
        if (term->preference && placement_term_matches(term->preference, node->node))
            total += term->weight;
    }
    return total;
}

static int64_t intolerable_preferences(const struct sched_pod *pod, const struct sched_node *node)
{
    int64_t count = 0;
    for (size_t i = 0; i < node->node->spec->taints.len; i++) {
        const struct k8s_taint *taint = &node->node->spec->taints.items[i];
        count += kp_streq(taint->effect, "PreferNoSchedule") && !placement_pod_tolerates(pod->pod->spec, taint);
    }
    return count;
}

enum normalize { NORMALIZE_NONE, NORMALIZE_MAX, NORMALIZE_REVERSE }; /* to 0..100 by the greatest; reverse: less is better */

static const struct {
    const char *name;
    int64_t (*score)(const struct sched_pod *pod, const struct sched_node *node);
    enum normalize normalize;
    int64_t weight;
} scores_table[] = {
    {"NodeResourcesFit", least_allocated, NORMALIZE_NONE, 1},
    {"NodeResourcesBalancedAllocation", balanced_allocation, NORMALIZE_NONE, 1},
    {"NodeAffinity", preferred_affinity, NORMALIZE_MAX, 2},
    {"TaintToleration", intolerable_preferences, NORMALIZE_REVERSE, 3},
};
#define SPREAD_WEIGHT 2
#define AFFINITY_WEIGHT 2

void sched_score(const struct sched_pod *pod, const struct sched_cluster *cluster, struct sched_node *const *nodes, size_t n, int64_t *scores,
                 struct kp_arena *arena)
{
    int64_t *raw = KP_NEW_ARRAY(arena, int64_t, n + 1);
    memset(scores, 0, n * sizeof(*scores));
    for (size_t p = 0; p < KP_ARRAY_LEN(scores_table); p++) {
        int64_t most = 0;
        for (size_t i = 0; i < n; i++) {
            raw[i] = scores_table[p].score(pod, nodes[i]);
            most = KP_MAX(most, raw[i]);
        }
        for (size_t i = 0; i < n; i++) {
            if (scores_table[p].normalize != NORMALIZE_NONE)
                raw[i] = most ? raw[i] * SCORE_MAX / most : 0;
            if (scores_table[p].normalize == NORMALIZE_REVERSE)
                raw[i] = SCORE_MAX - raw[i];
            scores[i] += raw[i] * scores_table[p].weight;
        }
    }
    sched_spread_score(pod, cluster, nodes, n, raw, arena);
    for (size_t i = 0; i < n; i++)
        scores[i] += raw[i] * SPREAD_WEIGHT;
    sched_affinity_score(pod, cluster, nodes, n, raw);
    for (size_t i = 0; i < n; i++)
        scores[i] += raw[i] * AFFINITY_WEIGHT;
}
