/* PodTopologySpread: pods of one kind in about equal numbers in each zone, on each host, or whatever a label of nodes says. */
#include "controlplane/scheduler/scheduler.h"
#include "lib/placement/placement.h"

#include <math.h>

#define SCORE_MAX 100
#define HOST_KEY "kubernetes.io/hostname"
#define ZONE_KEY "topology.kubernetes.io/zone"
#define HOST_SKEW 3
#define ZONE_SKEW 5
#define KEY_MAX 352 /* a label's key and a number */

struct constraint {
    const char *key;
    int64_t max_skew, min_domains;
    struct kp_selector pods;
    const char *owner_uid; /* instead of the selector: pods of that controller */
    bool all_nodes;  /* also those that the pod's own node affinity leaves out */
    bool untainted;  /* only those whose taints the pod tolerates */
    double weight;   /* of a score */
};
struct constraints {
    struct constraint *items;
    size_t len;
};

struct sched_spread {
    const struct k8s_pod *pod;
    const struct sched_cluster *cluster;
    struct constraints hard;
    struct sched_pairs *pairs;
    int64_t *least; /* a constraint: pods in the topology that has the fewest */
};

/* ---- reading ------------------------------------------------------------------------------------------------------------ */
static void add_constraint(struct constraints *list, const struct k8s_topology_spread_constraint *from, const struct k8s_pod *pod,
                           struct kp_arena *arena)
{
    struct constraint *c = KP_LIST_ADD(arena, list);
    *c = (struct constraint){
        .key = from->topology_key ? from->topology_key : "", .max_skew = from->max_skew, .min_domains = from->has_min_domains ? from->min_domains : 1,
        .all_nodes = kp_streq(from->node_affinity_policy, "Ignore"), .untainted = kp_streq(from->node_taints_policy, "Honor"),
    };
    if (kp_label_selector_from(from->label_selector, arena, &c->pods, NULL) < 0)
        c->pods = (struct kp_selector){.nothing = true};
    sched_selector_add_keys(&c->pods, &from->match_label_keys, pod, KP_SEL_IN, arena);
}

static struct constraints read_constraints(const struct k8s_pod *pod, const char *when, struct kp_arena *arena)
{
    struct constraints list = {0};
    for (size_t i = 0; i < pod->spec->topology_spread_constraints.len; i++)
        if (kp_streq(pod->spec->topology_spread_constraints.items[i].when_unsatisfiable, when))
            add_constraint(&list, &pod->spec->topology_spread_constraints.items[i], pod, arena);
    return list;
}

static struct constraints default_constraints(const struct k8s_pod *pod, struct kp_arena *arena)
{
    struct constraints list = {0};
    for (size_t i = 0; i < pod->metadata->owner_references.len; i++) {
        if (!pod->metadata->owner_references.items[i].controller)
            continue;
        const char *uid = pod->metadata->owner_references.items[i].uid;
        *KP_LIST_ADD(arena, &list) = (struct constraint){.key = HOST_KEY, .max_skew = HOST_SKEW, .owner_uid = uid};
        *KP_LIST_ADD(arena, &list) = (struct constraint){.key = ZONE_KEY, .max_skew = ZONE_SKEW, .owner_uid = uid};
        break;
    }
    return list;
}

/* ---- counting ----------------------------------------------------------------------------------------------------------- */
static bool is_meant(const struct constraint *c, const struct k8s_pod *pod)
{
    if (!c->owner_uid)
        return kp_selector_matches(&c->pods, &pod->metadata->labels);
    for (size_t i = 0; i < pod->metadata->owner_references.len; i++)
        if (kp_streq(pod->metadata->owner_references.items[i].uid, c->owner_uid))
            return true;
    return false;
}

static bool is_counted(const struct constraint *c, const struct k8s_pod *pod, const struct k8s_pod *there)
{
    return !there->metadata->deletion_timestamp.set && kp_streq(there->metadata->namespace, pod->metadata->namespace) && is_meant(c, there);
}

static int64_t count_on(const struct constraint *c, const struct k8s_pod *pod, const struct sched_node *node)
{
    int64_t count = 0;
    for (size_t i = 0; i < node->n_pods; i++)
        count += is_counted(c, pod, node->pods[i].info.pod);
    return count;
}

static bool has_all_keys(const struct constraints *list, const struct sched_node *node)
{
    for (size_t i = 0; i < list->len; i++)
        if (!sched_node_label(node, list->items[i].key))
            return false;
    return true;
}

/* nodeAffinityPolicy and nodeTaintsPolicy: whether the node's pods count. */
static bool counts(const struct constraint *c, const struct k8s_pod *pod, const struct sched_node *node)
{
    return (c->all_nodes || placement_affinity_matches(pod->spec, node->node)) &&
           (!c->untainted || !placement_untolerated(pod->spec, node->node, true));
}

/* The same key may be in several constraints that mean other pods: each has pairs of its own, told apart by its number. */
static const char *key_of(const struct constraints *list, size_t i, char text[static KEY_MAX])
{
    snprintf(text, KEY_MAX, "%zu %s", i, list->items[i].key);
    return text;
}

static void count_all(const struct constraints *list, const struct k8s_pod *pod, bool need_all_keys, const struct sched_cluster *cluster,
                      struct sched_pairs *pairs)
{
    char key[KEY_MAX];
    for (size_t k = 0; k < cluster->n; k++) {
        const struct sched_node *node = cluster->nodes[k];
        if (need_all_keys && !has_all_keys(list, node))
            continue;
        for (size_t i = 0; i < list->len; i++) {
            const char *value = sched_node_label(node, list->items[i].key);
            if (value && counts(&list->items[i], pod, node))
                sched_pairs_add(pairs, key_of(list, i, key), value, count_on(&list->items[i], pod, node));
        }
    }
}

/* ---- the filter --------------------------------------------------------------------------------------------------------- */
static int64_t least_of(const struct sched_spread *s, size_t i, struct sched_pairs *seen)
{
    const struct sched_cluster *cluster = s->cluster;
    char key[KEY_MAX];
    int64_t least = INT64_MAX, domains = 0;
    key_of(&s->hard, i, key);
    for (size_t k = 0; k < cluster->n; k++) {
        const char *value = sched_node_label(cluster->nodes[k], s->hard.items[i].key);
        if (!value || !sched_pairs_has(s->pairs, key, value) || sched_pairs_has(seen, key, value))
            continue;
        least = KP_MIN(least, sched_pairs_get(s->pairs, key, value));
        domains++;
        sched_pairs_add(seen, key, value, 1);
    }
    return domains == 0 || domains < s->hard.items[i].min_domains ? 0 : least;
}

static void find_least(struct sched_spread *s)
{
    struct sched_pairs *seen = sched_pairs_new();
    for (size_t i = 0; i < s->hard.len; i++)
        s->least[i] = least_of(s, i, seen);
    sched_pairs_free(seen);
}

struct sched_spread *sched_spread_new(const struct sched_pod *pod, const struct sched_cluster *cluster, struct kp_arena *arena)
{
    struct sched_spread *s = kp_calloc(1, sizeof(*s));
    s->pod = pod->pod;
    s->cluster = cluster;
    s->hard = read_constraints(pod->pod, "DoNotSchedule", arena);
    s->pairs = sched_pairs_new();
    s->least = KP_NEW_ARRAY(arena, int64_t, s->hard.len + 1);
    if (s->hard.len == 0)
        return s;
    count_all(&s->hard, pod->pod, true, cluster, s->pairs);
    find_least(s);
    return s;
}

void sched_spread_count(struct sched_spread *s, const struct sched_node *node, const struct sched_pod *there, int sign)
{
    char key[KEY_MAX];
    bool changed = false;
    if (s->hard.len == 0 || !has_all_keys(&s->hard, node))
        return;
    for (size_t i = 0; i < s->hard.len; i++) {
        const struct constraint *c = &s->hard.items[i];
        if (!counts(c, s->pod, node) || !is_counted(c, s->pod, there->pod))
            continue;
        sched_pairs_add(s->pairs, key_of(&s->hard, i, key), sched_node_label(node, c->key), sign);
        changed = true;
    }
    if (changed)
        find_least(s);
}

void sched_spread_free(struct sched_spread *s)
{
    sched_pairs_free(s->pairs);
    free(s);
}

const char *sched_spread_refuses(const struct sched_spread *s, const struct sched_node *node, bool *ret_final)
{
    char key[KEY_MAX];
    *ret_final = false;
    for (size_t i = 0; i < s->hard.len; i++) {
        const struct constraint *c = &s->hard.items[i];
        const char *value = sched_node_label(node, c->key);
        *ret_final = !value;
        if (!value)
            return "node(s) didn't match pod topology spread constraints (missing required label)";
        if (sched_pairs_get(s->pairs, key_of(&s->hard, i, key), value) + is_meant(c, s->pod) - s->least[i] > c->max_skew)
            return "node(s) didn't match pod topology spread constraints";
    }
    return NULL;
}

/* ---- the score ---------------------------------------------------------------------------------------------------------- */
struct scoring {
    const struct k8s_pod *pod;
    struct constraints soft;
    bool need_all_keys; /* the pod says so itself: nodes without one of them come last */
    struct sched_pairs *pairs;
};

static bool is_left_out(const struct scoring *s, const struct sched_node *node)
{
    return s->need_all_keys && !has_all_keys(&s->soft, node);
}

/* The number of topologies that the nodes which fit are in is in the weight: a skew over many counts for more than one over few. */
static void weigh(struct scoring *s, struct sched_node *const *nodes, size_t n)
{
    struct sched_pairs *seen = sched_pairs_new();
    for (size_t i = 0; i < s->soft.len; i++) {
        const char *key = s->soft.items[i].key;
        int64_t topologies = 0;
        char numbered[KEY_MAX];
        key_of(&s->soft, i, numbered);
        for (size_t k = 0; k < n; k++) {
            const char *value = sched_node_label(nodes[k], key);
            if (!value || is_left_out(s, nodes[k]) || sched_pairs_has(seen, numbered, value))
                continue;
            topologies++;
            sched_pairs_add(seen, numbered, value, 1);
        }
        s->soft.items[i].weight = log((double)topologies + 2);
    }
    sched_pairs_free(seen);
}

static double score_of(const struct scoring *s, const struct sched_node *node)
{
    char key[KEY_MAX];
    double score = 0;
    for (size_t i = 0; i < s->soft.len; i++) {
        const struct constraint *c = &s->soft.items[i];
        const char *value = sched_node_label(node, c->key);
        if (value)
            score += (double)sched_pairs_get(s->pairs, key_of(&s->soft, i, key), value) * c->weight + (double)(c->max_skew - 1);
    }
    return score;
}

void sched_spread_score(const struct sched_pod *pod, const struct sched_cluster *cluster, struct sched_node *const *nodes, size_t n,
                        int64_t *scores, struct kp_arena *arena)
{
    struct scoring s = {.pod = pod->pod, .need_all_keys = pod->pod->spec->topology_spread_constraints.len > 0, .pairs = sched_pairs_new()};
    int64_t least = INT64_MAX, most = 0;
    s.soft = s.need_all_keys ? read_constraints(pod->pod, "ScheduleAnyway", arena) : default_constraints(pod->pod, arena);
    weigh(&s, nodes, n);
    count_all(&s.soft, s.pod, s.need_all_keys, cluster, s.pairs);
    for (size_t i = 0; i < n; i++) {
        scores[i] = is_left_out(&s, nodes[i]) ? -1 : llround(score_of(&s, nodes[i]));
        if (scores[i] >= 0) {
            least = KP_MIN(least, scores[i]);
            most = KP_MAX(most, scores[i]);
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (scores[i] < 0)
            scores[i] = 0;
        else
            scores[i] = most ? SCORE_MAX * (most + least - scores[i]) / most : SCORE_MAX;
    }
    sched_pairs_free(s.pairs);
}
