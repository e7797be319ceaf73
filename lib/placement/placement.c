/* Tolerations, node selectors and node affinity. */
#include "lib/placement/placement.h"

bool placement_tolerates(const struct k8s_toleration *toleration, const struct k8s_taint *taint)
{
    if (!kp_empty(toleration->effect) && !kp_streq(toleration->effect, taint->effect))
        return false;
    if (!kp_empty(toleration->key) && !kp_streq(toleration->key, taint->key))
        return false;
    if (kp_streq(toleration->operator, "Exists"))
        return true;
    return !kp_empty(toleration->key) && kp_streq(toleration->value ? toleration->value : "", taint->value ? taint->value : "");
}

bool placement_pod_tolerates(const struct k8s_pod_spec *spec, const struct k8s_taint *taint)
{
    for (size_t i = 0; i < spec->tolerations.len; i++)
        if (placement_tolerates(&spec->tolerations.items[i], taint))
            return true;
    return false;
}

const struct k8s_taint *placement_untolerated(const struct k8s_pod_spec *spec, const struct k8s_node *node, bool with_no_schedule)
{
    for (size_t i = 0; i < node->spec->taints.len; i++) {
        const struct k8s_taint *taint = &node->spec->taints.items[i];
        bool counts = kp_streq(taint->effect, "NoExecute") || (with_no_schedule && kp_streq(taint->effect, "NoSchedule"));
        if (counts && !placement_pod_tolerates(spec, taint))
            return taint;
    }
    return NULL;
}

static bool in_values(const struct kp_string_list *values, const char *value)
{
    return value && kp_string_list_has(values, value);
}

static bool requirement_matches(const struct k8s_node_selector_requirement *r, const char *value)
{
    int64_t have, want;
    if (kp_streq(r->operator, "In"))
        return in_values(&r->values, value);
    if (kp_streq(r->operator, "NotIn"))
        return !in_values(&r->values, value);
    if (kp_streq(r->operator, "Exists"))
        return value != NULL;
    if (kp_streq(r->operator, "DoesNotExist"))
        return value == NULL;
    if (!value || r->values.len != 1 || kp_parse_i64(value, &have) < 0 || kp_parse_i64(r->values.items[0], &want) < 0)
        return false;
    return kp_streq(r->operator, "Gt") ? have > want : kp_streq(r->operator, "Lt") ? have < want : false;
}

bool placement_term_matches(const struct k8s_node_selector_term *term, const struct k8s_node *node)
{
    if (term->match_expressions.len == 0 && term->match_fields.len == 0)
        return false; /* an empty term selects nothing */
    for (size_t i = 0; i < term->match_expressions.len; i++) {
        const struct k8s_node_selector_requirement *r = &term->match_expressions.items[i];
        if (!requirement_matches(r, kp_string_map_get(&node->metadata->labels, r->key)))
            return false;
    }
    for (size_t i = 0; i < term->match_fields.len; i++) {
        const struct k8s_node_selector_requirement *r = &term->match_fields.items[i];
        if (!requirement_matches(r, kp_streq(r->key, "metadata.name") ? node->metadata->name : NULL))
            return false;
    }
    return true;
}

bool placement_affinity_matches(const struct k8s_pod_spec *spec, const struct k8s_node *node)
{
    for (size_t i = 0; i < spec->node_selector.len; i++)
        if (!kp_streq(kp_string_map_get(&node->metadata->labels, spec->node_selector.items[i].key), spec->node_selector.items[i].value))
            return false;
    const struct k8s_node_selector *required =
        spec->affinity && spec->affinity->node_affinity ? spec->affinity->node_affinity->required_during_scheduling_ignored_during_execution : NULL;
    if (!required)
        return true;
    for (size_t i = 0; i < required->node_selector_terms.len; i++)
        if (placement_term_matches(&required->node_selector_terms.items[i], node))
            return true;
    return false;
}
