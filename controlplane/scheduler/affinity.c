/* InterPodAffinity: near which pods a pod must or would rather be, from which it must be away, and who wants to be away from it. */
#include "controlplane/scheduler/scheduler.h"

#define SCORE_MAX 100
#define HARD_WEIGHT 1 /* upstream's hardPodAffinityWeight: of a pod that must be near the one that comes */

struct sched_affinity {
    const struct sched_wishes *wishes; /* NULL: the pod has none */
    struct sched_pairs *near, *away, *away_of_others;
    bool first_of_its_kind; /* it wants to be near pods like itself, of which there is none yet */
};

static bool matches_all(const struct sched_terms *terms, const struct k8s_pod *pod, const struct sched_cluster *cluster)
{
    for (size_t i = 0; i < terms->len; i++)
        if (!sched_term_matches(&terms->items[i], pod, cluster))
            return false;
    return terms->len > 0;
}

static void count(struct sched_pairs *pairs, const struct sched_term *term, const struct sched_node *node, int64_t n)
{
    const char *value = sched_node_label(node, term->topology_key);
    if (value)
        sched_pairs_add(pairs, term->topology_key, value, n);
}

static void count_matching(struct sched_pairs *pairs, const struct sched_terms *terms, const struct k8s_pod *pod, const struct sched_node *node,
                           const struct sched_cluster *cluster)
{
    for (size_t i = 0; i < terms->len; i++)
        if (sched_term_matches(&terms->items[i], pod, cluster))
            count(pairs, &terms->items[i], node, 1);
}

static void look_at(struct sched_affinity *a, const struct sched_pod *pod, const struct sched_node *node, const struct sched_pod *there,
                    const struct sched_cluster *cluster)
{
    if (there->wishes)
        count_matching(a->away_of_others, &there->wishes->away, pod->pod, node, cluster);
    if (!pod->wishes)
        return;
    if (matches_all(&pod->wishes->near, there->pod, cluster))
        for (size_t i = 0; i < pod->wishes->near.len; i++)
            count(a->near, &pod->wishes->near.items[i], node, 1);
    count_matching(a->away, &pod->wishes->away, there->pod, node, cluster);
}

struct sched_affinity *sched_affinity_new(const struct sched_pod *pod, const struct sched_cluster *cluster)
{
    struct sched_affinity *a = kp_calloc(1, sizeof(*a));
    a->wishes = pod->wishes;
    a->near = sched_pairs_new();
    a->away = sched_pairs_new();
    a->away_of_others = sched_pairs_new();
    for (size_t i = 0; i < cluster->n; i++)
        for (size_t k = 0; k < cluster->nodes[i]->n_pods; k++)
            look_at(a, pod, cluster->nodes[i], &cluster->nodes[i]->pods[k].info, cluster);
    a->first_of_its_kind = pod->wishes && sched_pairs_len(a->near) == 0 && matches_all(&pod->wishes->near, pod->pod, cluster);
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
    for (size_t i = 0; i < a->wishes->near.len; i++) {
        const char *key = a->wishes->near.items[i].topology_key, *value = sched_node_label(node, key);
        if (!value || (!a->first_of_its_kind && sched_pairs_get(a->near, key, value) == 0))
            return false;
    }
    return true;
}

static bool is_away(const struct sched_affinity *a, const struct sched_node *node)
{
    for (size_t i = 0; i < a->wishes->away.len; i++) {
        const char *key = a->wishes->away.items[i].topology_key, *value = sched_node_label(node, key);
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

const char *sched_affinity_refuses(const struct sched_affinity *a, const struct sched_node *node)
{
    if (a->wishes && !is_near(a, node))
        return "node(s) didn't match pod affinity rules";
    if (a->wishes && !is_away(a, node))
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
