/* Validation of where a pod may go: tolerations, affinity between pods, topology spread. */
#include "controlplane/apiserver/registry/strategy_internal.h"

#define WEIGHT_MAX 100

static void validate_tolerations(const struct k8s_pod_spec *spec, struct field_errors *errors, const char *path)
{
    for (size_t i = 0; i < spec->tolerations.len; i++) {
        const struct k8s_toleration *t = &spec->tolerations.items[i];
        const char *at = kp_arena_printf(errors->arena, "%s[%zu]", validate_under(errors, path, "tolerations"), i);
        const char *fault = kp_empty(t->key) ? NULL : kp_validate_qualified_name(t->key);
        if (fault)
            field_invalid(errors, t->key, fault, "%s.key", at);
        if (kp_empty(t->key) && !kp_streq(t->operator, "Exists"))
            field_invalid(errors, t->operator, "operator must be Exists when `key` is empty, which means \"match all values and all keys\"", "%s.operator", at);
        if (t->has_toleration_seconds && !kp_streq(t->effect, "NoExecute"))
            field_invalid(errors, t->effect, "effect must be 'NoExecute' when `tolerationSeconds` is set", "%s.effect", at);
        if (kp_streq(t->operator, "Exists") && !kp_empty(t->value))
            field_invalid(errors, t->value, "value must be empty when `operator` is 'Exists'", "%s.operator", at);
    }
}

static void validate_topology_key(const char *key, struct field_errors *errors, const char *at)
{
    const char *fault = kp_empty(key) ? NULL : kp_validate_qualified_name(key);
    if (kp_empty(key))
        field_required(errors, "can not be empty", "%s.topologyKey", at);
    else if (fault)
        field_invalid(errors, key, fault, "%s.topologyKey", at);
}

static bool selector_has(const struct k8s_label_selector *selector, const char *key)
{
    if (kp_string_map_get(&selector->match_labels, key))
        return true;
    for (size_t i = 0; i < selector->match_expressions.len; i++)
        if (kp_streq(selector->match_expressions.items[i].key, key))
            return true;
    return false;
}

static void validate_keys(const struct kp_string_list *keys, const struct k8s_label_selector *selector, const char *name, struct field_errors *errors,
                          const char *at)
{
    if (keys->len && !selector)
        field_forbidden(errors, "must not be specified when labelSelector is not set", "%s.%s", at, name);
    for (size_t i = 0; i < keys->len; i++) {
        const char *fault = kp_validate_qualified_name(keys->items[i]);
        if (fault)
            field_invalid(errors, keys->items[i], fault, "%s.%s[%zu]", at, name, i);
        else if (selector && selector_has(selector, keys->items[i]))
            field_invalid(errors, keys->items[i], kp_arena_printf(errors->arena, "exists in both %s and labelSelector", name), "%s.%s[%zu]", at, name, i);
    }
}

static void validate_term(const struct k8s_pod_affinity_term *term, struct field_errors *errors, const char *at)
{
    validate_topology_key(term->topology_key, errors, at);
    if (term->label_selector)
        validate_label_selector(term->label_selector, errors, validate_under(errors, at, "labelSelector"));
    if (term->namespace_selector)
        validate_label_selector(term->namespace_selector, errors, validate_under(errors, at, "namespaceSelector"));
    for (size_t i = 0; i < term->namespaces.len; i++) {
        const char *fault = name_is_label(term->namespaces.items[i]);
        if (fault)
            field_invalid(errors, term->namespaces.items[i], fault, "%s.namespaces[%zu]", at, i);
    }
    validate_keys(&term->match_label_keys, term->label_selector, "matchLabelKeys", errors, at);
    validate_keys(&term->mismatch_label_keys, term->label_selector, "mismatchLabelKeys", errors, at);
}

static void validate_terms(const struct k8s_pod_affinity_term_items *required, const struct k8s_weighted_pod_affinity_term_items *preferred,
                           struct field_errors *errors, const char *path)
{
    for (size_t i = 0; i < required->len; i++)
        validate_term(&required->items[i], errors,
                      kp_arena_printf(errors->arena, "%s.requiredDuringSchedulingIgnoredDuringExecution[%zu]", path, i));
    for (size_t i = 0; i < preferred->len; i++) {
        const char *at = kp_arena_printf(errors->arena, "%s.preferredDuringSchedulingIgnoredDuringExecution[%zu]", path, i);
        if (preferred->items[i].weight < 1 || preferred->items[i].weight > WEIGHT_MAX)
            field_invalid_int(errors, preferred->items[i].weight, "must be in the range 1-100", "%s.weight", at);
        validate_term(preferred->items[i].pod_affinity_term, errors, validate_under(errors, at, "podAffinityTerm"));
    }
}

static void validate_spread(const struct k8s_topology_spread_constraint *c, struct field_errors *errors, const char *at)
{
    if (c->max_skew < 1)
        field_invalid_int(errors, c->max_skew, "must be greater than zero", "%s.maxSkew", at);
    validate_topology_key(c->topology_key, errors, at);
    if (c->has_min_domains && c->min_domains < 1)
        field_invalid_int(errors, c->min_domains, "must be greater than zero", "%s.minDomains", at);
    else if (c->has_min_domains && !kp_streq(c->when_unsatisfiable, "DoNotSchedule"))
        field_invalid_int(errors, c->min_domains,
                          kp_arena_printf(errors->arena, "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not %s", c->when_unsatisfiable),
                          "%s.minDomains", at);
    if (c->label_selector)
        validate_label_selector(c->label_selector, errors, validate_under(errors, at, "labelSelector"));
    validate_keys(&c->match_label_keys, c->label_selector, "matchLabelKeys", errors, at);
}

void validate_pod_placement(const struct k8s_pod_spec *spec, struct field_errors *errors, const char *path)
{
    const struct k8s_pod_affinity *near = spec->affinity ? spec->affinity->pod_affinity : NULL;
    const struct k8s_pod_anti_affinity *away = spec->affinity ? spec->affinity->pod_anti_affinity : NULL;
    validate_tolerations(spec, errors, path);
    if (near)
        validate_terms(&near->required_during_scheduling_ignored_during_execution, &near->preferred_during_scheduling_ignored_during_execution, errors,
                       validate_under(errors, path, "affinity.podAffinity"));
    if (away)
        validate_terms(&away->required_during_scheduling_ignored_during_execution, &away->preferred_during_scheduling_ignored_during_execution, errors,
                       validate_under(errors, path, "affinity.podAntiAffinity"));
    for (size_t i = 0; i < spec->topology_spread_constraints.len; i++)
        validate_spread(&spec->topology_spread_constraints.items[i], errors,
                        kp_arena_printf(errors->arena, "%s[%zu]", validate_under(errors, path, "topologySpreadConstraints"), i));
}
