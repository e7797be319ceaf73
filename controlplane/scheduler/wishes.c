/* What pods say of other pods, and whom they mean; and the counts of pods by the topologies of their nodes. */
#include "controlplane/scheduler/scheduler.h"

#define PAIR_MAX 512 /* bytes of a label's key (317 at most) and value (63) */

void sched_selector_add_keys(struct kp_selector *selector, const struct kp_string_list *keys, const struct k8s_pod *pod, enum kp_selector_op op,
                             struct kp_arena *arena)
{
    if (selector->nothing || keys->len == 0)
        return;
    struct kp_requirement *items = KP_NEW_ARRAY(arena, struct kp_requirement, selector->len + keys->len);
    if (selector->len)
        memcpy(items, selector->items, selector->len * sizeof(*items));
    selector->items = items;
    for (size_t i = 0; i < keys->len; i++) {
        const char *value = kp_string_map_get(&pod->metadata->labels, keys->items[i]);
        if (!value)
            continue;
        struct kp_requirement *requirement = &items[selector->len++];
        requirement->key = keys->items[i];
        requirement->op = op;
        kp_string_list_add(arena, &requirement->values, value);
    }
}

/* A selector that cannot be read selects nothing; the API server takes none. */
static void read_selector(const struct k8s_label_selector *from, struct kp_arena *arena, struct kp_selector *ret)
{
    if (kp_label_selector_from(from, arena, ret, NULL) < 0)
        *ret = (struct kp_selector){.nothing = true};
}

static void add_term(struct sched_terms *terms, const struct k8s_pod_affinity_term *from, int64_t weight, const struct k8s_pod *pod, struct kp_arena *arena)
{
    struct sched_term *term = KP_LIST_ADD(arena, terms);
    *term = (struct sched_term){.topology_key = from->topology_key ? from->topology_key : "", .weight = weight, .named = from->namespaces};
    read_selector(from->label_selector, arena, &term->pods);
    read_selector(from->namespace_selector, arena, &term->namespaces);
    sched_selector_add_keys(&term->pods, &from->match_label_keys, pod, KP_SEL_IN, arena);
    sched_selector_add_keys(&term->pods, &from->mismatch_label_keys, pod, KP_SEL_NOT_IN, arena);
    if (from->namespaces.len == 0 && !from->namespace_selector)
        kp_string_list_add(arena, &term->named, pod->metadata->namespace);
}

static void add_terms(const struct k8s_pod_affinity_term_items *required, const struct k8s_weighted_pod_affinity_term_items *preferred,
                      const struct k8s_pod *pod, struct sched_terms *ret_required, struct sched_terms *ret_preferred, struct kp_arena *arena)
{
    for (size_t i = 0; i < required->len; i++)
        add_term(ret_required, &required->items[i], 0, pod, arena);
    for (size_t i = 0; i < preferred->len; i++)
        add_term(ret_preferred, preferred->items[i].pod_affinity_term, preferred->items[i].weight, pod, arena);
}

struct sched_wishes *sched_wishes_of(const struct k8s_pod *pod, struct kp_arena *arena)
{
    const struct k8s_affinity *affinity = pod->spec->affinity;
    if (!affinity || (!affinity->pod_affinity && !affinity->pod_anti_affinity))
        return NULL;
    struct sched_wishes *wishes = KP_NEW(arena, struct sched_wishes);
    if (affinity->pod_affinity)
        add_terms(&affinity->pod_affinity->required_during_scheduling_ignored_during_execution,
                  &affinity->pod_affinity->preferred_during_scheduling_ignored_during_execution, pod, &wishes->near, &wishes->rather_near, arena);
    if (affinity->pod_anti_affinity)
        add_terms(&affinity->pod_anti_affinity->required_during_scheduling_ignored_during_execution,
                  &affinity->pod_anti_affinity->preferred_during_scheduling_ignored_during_execution, pod, &wishes->away, &wishes->rather_away, arena);
    return wishes;
}

bool sched_minds_others(const struct k8s_pod *pod)
{
    const struct k8s_affinity *affinity = pod->spec->affinity;
    return pod->spec->topology_spread_constraints.len || (affinity && (affinity->pod_affinity || affinity->pod_anti_affinity));
}

bool sched_term_matches(const struct sched_term *term, const struct k8s_pod *pod, const struct sched_cluster *cluster)
{
    const char *ns = pod->metadata->namespace;
    if (!kp_string_list_has(&term->named, ns)) {
        if (term->namespaces.nothing)
            return false;
        const struct client_object *object = kp_strmap_get(cluster->namespaces, ns);
        const struct k8s_namespace *namespace = object ? object->data : NULL;
        if (!kp_selector_matches(&term->namespaces, namespace ? &namespace->metadata->labels : NULL))
            return false;
    }
    return kp_selector_matches(&term->pods, &pod->metadata->labels);
}

const char *sched_node_label(const struct sched_node *node, const char *key)
{
    return kp_string_map_get(&node->node->metadata->labels, key);
}

/* ---- pairs ------------------------------------------------------------------------------------------------------------- */
struct sched_pairs {
    struct kp_strmap *counts; /* int64_t by "key\nvalue" */
};

struct sched_pairs *sched_pairs_new(void)
{
    struct sched_pairs *pairs = kp_calloc(1, sizeof(*pairs));
    pairs->counts = kp_strmap_new();
    return pairs;
}

void sched_pairs_free(struct sched_pairs *pairs)
{
    if (!pairs)
        return;
    kp_strmap_free(pairs->counts, free);
    free(pairs);
}

void sched_pairs_add(struct sched_pairs *pairs, const char *key, const char *value, int64_t n)
{
    char text[PAIR_MAX];
    snprintf(text, sizeof(text), "%s\n%s", key, value);
    int64_t *count = kp_strmap_get(pairs->counts, text);
    if (!count) {
        count = kp_calloc(1, sizeof(*count));
        kp_strmap_put(pairs->counts, text, count);
    }
    *count += n;
}

static const int64_t *find(const struct sched_pairs *pairs, const char *key, const char *value)
{
    char text[PAIR_MAX];
    snprintf(text, sizeof(text), "%s\n%s", key, value);
    return kp_strmap_get(pairs->counts, text);
}

bool sched_pairs_has(const struct sched_pairs *pairs, const char *key, const char *value)
{
    return find(pairs, key, value);
}

int64_t sched_pairs_get(const struct sched_pairs *pairs, const char *key, const char *value)
{
    const int64_t *count = find(pairs, key, value);
    return count ? *count : 0;
}

size_t sched_pairs_len(const struct sched_pairs *pairs)
{
    return kp_strmap_len(pairs->counts);
}
