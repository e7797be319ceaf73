/* ValidatingAdmissionPolicies and their bindings: what they may say (k8s.io/kubernetes pkg/apis/admissionregistration/validation). */
#include "controlplane/apiserver/registry/strategy_internal.h"

#include "controlplane/apiserver/policy/policy.h"

static void check_rules(const struct k8s_named_rule_with_operations_items *rules, struct field_errors *errors, const char *path)
{
    for (size_t i = 0; i < rules->len; i++) {
        const struct k8s_named_rule_with_operations *named = &rules->items[i];
        const char *at = kp_arena_printf(errors->arena, "%s[%zu]", path, i);
        const struct k8s_rule_with_operations rule = {.operations = named->operations, .api_groups = named->api_groups, .api_versions = named->api_versions,
                                                      .resources = named->resources, .scope = named->scope};
        validate_rule_with_operations(&rule, errors, at);
        for (size_t n = 0; n < named->resource_names.len; n++) {
            const char *fault = name_is_path_segment(named->resource_names.items[n]);
            if (fault)
                field_invalid(errors, named->resource_names.items[n], fault, "%s.resourceNames[%zu]", at, n);
        }
    }
}

static void check_match(const struct k8s_match_resources *match, struct field_errors *errors, const char *path)
{
    if (match->namespace_selector)
        validate_label_selector(match->namespace_selector, errors, kp_arena_printf(errors->arena, "%s.namespaceSelector", path));
    if (match->object_selector)
        validate_label_selector(match->object_selector, errors, kp_arena_printf(errors->arena, "%s.objectSelector", path));
    check_rules(&match->resource_rules, errors, kp_arena_printf(errors->arena, "%s.resourceRules", path));
    check_rules(&match->exclude_resource_rules, errors, kp_arena_printf(errors->arena, "%s.excludeResourceRules", path));
}

static void check_param_kind(const struct k8s_param_kind *kind, struct field_errors *errors)
{
    if (kp_empty(kind->api_version))
        field_required(errors, "", "spec.paramKind.apiVersion");
    else if (strchr(kind->api_version, '/') != strrchr(kind->api_version, '/'))
        field_invalid(errors, kind->api_version, kp_arena_printf(errors->arena, "unexpected GroupVersion string: %s", kind->api_version), "spec.paramKind.apiVersion");
    if (kp_empty(kind->kind))
        field_required(errors, "", "spec.paramKind.kind");
}

void validating_policy_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    const struct k8s_validating_admission_policy *policy = obj;
    const struct k8s_validating_admission_policy_spec *spec = policy->spec;
    (void)rq;
    if (spec->param_kind)
        check_param_kind(spec->param_kind, errors);
    if (!spec->match_constraints)
        field_required(errors, "", "spec.matchConstraints");
    else if (!spec->match_constraints->resource_rules.len)
        field_required(errors, "", "spec.matchConstraints.resourceRules");
    if (spec->match_constraints)
        check_match(spec->match_constraints, errors, "spec.matchConstraints");
    if (!spec->validations.len && !spec->audit_annotations.len) {
        field_required(errors, "validations or auditAnnotations must be non-empty", "spec.validations");
        field_required(errors, "validations or auditAnnotations must be non-empty", "spec.auditAnnotations");
    }
    policy_check_expressions(policy, errors);
}

static void check_param_ref(const struct k8s_param_ref *ref, struct field_errors *errors)
{
    const char *fault = kp_empty(ref->name) ? NULL : name_is_path_segment(ref->name);
    if (fault)
        field_invalid(errors, ref->name, fault, "spec.paramRef.name");
    if (!kp_empty(ref->name) && ref->selector) {
        field_forbidden(errors, "name and selector are mutually exclusive", "spec.paramRef.name");
        field_forbidden(errors, "name and selector are mutually exclusive", "spec.paramRef.selector");
    } else if (kp_empty(ref->name) && !ref->selector) {
        field_required(errors, "one of name or selector must be specified", "spec.paramRef");
    } else if (ref->selector) {
        validate_label_selector(ref->selector, errors, "spec.paramRef.selector");
    }
    if (!ref->parameter_not_found_action)
        field_required(errors, "", "spec.paramRef.parameterNotFoundAction");
    else if (!kp_streq(ref->parameter_not_found_action, "Allow") && !kp_streq(ref->parameter_not_found_action, "Deny"))
        field_not_supported(errors, ref->parameter_not_found_action, (const char *const[]){"Allow", "Deny", NULL}, "spec.paramRef.parameterNotFoundAction");
}

void validating_binding_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    const struct k8s_validating_admission_policy_binding_spec *spec = ((const struct k8s_validating_admission_policy_binding *)obj)->spec;
    const struct kp_string_list *actions = &spec->validation_actions;
    const char *fault = kp_empty(spec->policy_name) ? NULL : name_is_subdomain(spec->policy_name);
    (void)rq;
    if (fault)
        field_invalid(errors, spec->policy_name, fault, "spec.policyName");
    if (spec->param_ref)
        check_param_ref(spec->param_ref, errors);
    if (spec->match_resources)
        check_match(spec->match_resources, errors, "spec.matchResouces"); /* upstream's spelling */
    if (!actions->len)
        field_required(errors, "", "spec.validationActions");
    for (size_t i = 0; i < actions->len; i++)
        for (size_t j = 0; j < i; j++)
            if (strcmp(actions->items[i], actions->items[j]) == 0)
                field_duplicate(errors, actions->items[i], "spec.validationActions[%zu]", i);
    if (kp_string_list_has(actions, "Deny") && kp_string_list_has(actions, "Warn"))
        field_invalid_raw(errors, "[\"Deny\",\"Warn\"]",
                          "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)",
                          "spec.validationActions");
}

/* Nothing may be taken in silence that nothing comes of. */
void mutating_policy_prepare_create(struct registry_request *rq, void *obj)
{
    (void)obj;
    kp_string_list_add(rq->arena, &rq->warnings, "MutatingAdmissionPolicies are kept and have no effect: this server does not evaluate them; use a mutating webhook");
}
