/* InterPodAffinity: near which pods a pod must or would rather be, from which it must be away, and who wants to be away from it. */
#include "controlplane/scheduler/scheduler.h"

#define SCORE_MAX 100
#define HARD_WEIGHT 1 /* upstream's hardPodAffinityWeight: of a pod that must be near the one that comes */

struct sched_affinity {
    const struct sched_pod *pod; /* its wishes NULL: it has none */
    const struct sched_cluster *cluster;
    struct sched_pairs *near, *away, *away_of_others;
    int64_t n_near; /* what near counts in all */
    bool means_itself; /* it wants to be near pods like itself: the first of them may go anywhere */
};

static bool matches_all(const struct sched_terms *terms, const struct k8s_pod *pod, const struct sched_cluster *cluster)
{
    for (size_t i = 0; i < terms->len; i++)
        if (!sched_term_matches(&terms->items[i], pod, cluster))
            return false;
    return terms->len > 0;
}

/* How much was counted: n, or nothing on a node without the label. */
static int64_t count(struct sched_pairs *pairs, const struct sched_term *term, const struct sched_node *node, int64_t n)
{
    const char *value = sched_node_label(node, term->topology_key);
    if (!value)
        return 0;
    sched_pairs_add(pairs, term->topology_key, value, n);
    return n;
}

static void count_matching(struct sched_pairs *pairs, const struct sched_terms *terms, const struct k8s_pod *pod, const struct sched_node *node,
                           const struct sched_cluster *cluster, int sign)
{
    for (size_t i = 0; i < terms->len; i++)
        if (sched_term_matches(&terms->items[i], pod, cluster))
            count(pairs, &terms->items[i], node, sign);
}

void sched_affinity_count(struct sched_affinity *a, const struct sched_node *node, const struct sched_pod *there, int sign)
{
    const struct sched_wishes *wishes = a->pod->wishes;
    if (there->wishes)
        count_matching(a->away_of_others, &there->wishes->away, a->pod->pod, node, a->cluster, sign);
    if (!wishes)
        return;
    if (matches_all(&wishes->near, there->pod, a->cluster))
        for (size_t i = 0; i < wishes->near.len; i++)
            a->n_near += count(a->near, &wishes->near.items[i], node, sign);
    count_matching(a->away, &wishes->away, there->pod, node, a->cluster, sign);
}

struct sched_affinity *sched_affinity_new(const struct sched_pod *pod, const struct sched_cluster *cluster)
{
    struct sched_affinity *a = kp_calloc(1, sizeof(*a));
    a->pod = pod;
    a->cluster = cluster;
    a->near = sched_pairs_new();
    a->away = sched_pairs_new();
    a->away_of_others = sched_pairs_new();
    for (size_t i = 0; i < cluster->n; i++)
        for (size_t k = 0; k < cluster->nodes[i]->n_pods; k++)
            sched_affinity_count(a, cluster->nodes[i], &cluster->nodes[i]->pods[k].info, 1);
    a->means_itself = pod->wishes && matches_all(&pod->wishes->near, pod->pod, cluster);
    return a;
}

void sched_affinity_free(struct sched_affinity *a)
{
    sched_pairs_free(a->near);
    sched_pairs_free(a->away);
    sched_pairs_free(a->away_of_others);
    free(a);
}

static bool is_near(const struct sched_affinity *a, const struct sched_node *node)
{
    const struct sched_terms *near = &a->pod->wishes->near;
    bool anywhere = a->means_itself && a->n_near == 0;
    for (size_t i = 0; i < near->len; i++) {
        const char *key = near->items[i].topology_key, *value = sched_node_label(node, key);
        if (!value || (!anywhere && sched_pairs_get(a->near, key, value) == 0))
            return false;
    }
    return true;
}

static bool is_away(const struct sched_affinity *a, const struct sched_node *node)
{
    const struct sched_terms *away = &a->pod->wishes->away;
    for (size_t i = 0; i < away->len; i++) {
        const char *key = away->items[i].topology_key, *value = sched_node_label(node, key);
        if (value && sched_pairs_get(a->away, key, value) > 0)
            return false;
    }
    return true;
}

static bool disturbs_nobody(const struct sched_affinity *a, const struct sched_node *node)
{
    const struct kp_string_map *labels = &node->node->metadata->labels;
    if (sched_pairs_len(a->away_of_others) == 0)
        return true;
    for (size_t i = 0; i < labels->len; i++)
        if (sched_pairs_get(a->away_of_others, labels->items[i].key, labels->items[i].value) > 0)
            return false;
    return true;
}

const char *sched_affinity_refuses(const struct sched_affinity *a, const struct sched_node *node, bool *ret_final)
{
    *ret_final = a->pod->wishes && !is_near(a, node);
    if (*ret_final)
        return "node(s) didn't match pod affinity rules";
    if (a->pod->wishes && !is_away(a, node))
        return "node(s) didn't match pod anti-affinity rules";
    return disturbs_nobody(a, node) ? NULL : "node(s) didn't satisfy existing pods anti-affinity rules";
}

/* ---- the score ---------------------------------------------------------------------------------------------------------- */
static void weigh(struct sched_pairs *pairs, const struct sched_terms *terms, int64_t sign, int64_t weight, const struct k8s_pod *pod,
                  const struct sched_node *node, const struct sched_cluster *cluster)
{
    for (size_t i = 0; i < terms->len; i++)
        if (sched_term_matches(&terms->items[i], pod, cluster))
            count(pairs, &terms->items[i], node, sign * (weight ? weight : terms->items[i].weight));
}

static void weigh_all(struct sched_pairs *pairs, const struct sched_pod *pod, const struct sched_cluster *cluster)
{
    for (size_t i = 0; i < cluster->n; i++) {
        const struct sched_node *node = cluster->nodes[i];
        for (size_t k = 0; k < node->n_pods; k++) {
            const struct sched_pod *there = &node->pods[k].info;
            if (pod->wishes) {
                weigh(pairs, &pod->wishes->rather_near, 1, 0, there->pod, node, cluster);
                weigh(pairs, &pod->wishes->rather_away, -1, 0, there->pod, node, cluster);
            }
            if (there->wishes) {
                weigh(pairs, &there->wishes->near, 1, HARD_WEIGHT, pod->pod, node, cluster);
                weigh(pairs, &there->wishes->rather_near, 1, 0, pod->pod, node, cluster);
                weigh(pairs, &there->wishes->rather_away, -1, 0, pod->pod, node, cluster);
            }
        }
    }
}

void sched_affinity_score(const struct sched_pod *pod, const struct sched_cluster *cluster, struct sched_node *const *nodes, size_t n,
                          int64_t *scores)
{
    struct sched_pairs *pairs = sched_pairs_new();
    int64_t least = INT64_MAX, most = INT64_MIN;
    weigh_all(pairs, pod, cluster);
    for (size_t i = 0; i < n; i++) {
        const struct kp_string_map *labels = &nodes[i]->node->metadata->labels;
        scores[i] = 0;
        for (size_t k = 0; sched_pairs_len(pairs) && k < labels->len; k++)
            scores[i] += sched_pairs_get(pairs, labels->items[k].key, labels->items[k].value);
        least = KP_MIN(least, scores[i]);
        most = KP_MAX(most, scores[i]);
    }
    for (size_t i = 0; i < n; i++)
        scores[i] = most > least ? (scores[i] - least) * SCORE_MAX / (most - least) : 0;
    sched_pairs_free(pairs);
}
