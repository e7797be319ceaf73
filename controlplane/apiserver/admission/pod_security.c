/* PodSecurity: namespaces' labels say which pods they take; workloads whose pods would not be taken are warned of, and so are labels that forbid what is
   there. Exemptions are not configurable; upstream's default has none. */
#include "controlplane/apiserver/admission/admission_internal.h"
#include "controlplane/apiserver/podsecurity/podsecurity.h"

#define PODS_TO_CHECK_MAX 3000 /* of a namespace whose labels change, as upstream */

static void warn(struct admission_attributes *a, const char *text)
{
    if (a->warnings && !kp_string_list_has(a->warnings, text))
        kp_string_list_add(a->arena, a->warnings, text);
}

/* ---- pods -------------------------------------------------------------------------------------------------------------------- */
static bool is_ignored(const char *subresource)
{
    static const char *const ignored[] = {"exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"};
    for (size_t i = 0; i < KP_ARRAY_LEN(ignored); i++)
        if (kp_streq(subresource, ignored[i]))
            return true;
    return false;
}

static const char *violation(const struct admission_attributes *a, const char *verb, struct podsecurity_rule rule, const char *details)
{
    return kp_arena_printf(a->arena, "%s PodSecurity \"%s\": %s", verb, podsecurity_rule_text(rule, a->arena), details);
}

/* Of requests that are audited: which level counted, and what the one of the label audit finds. */
static void tell_audit(struct admission_attributes *a, const struct podsecurity_policy *policy, const struct k8s_object_meta *meta,
                       const struct k8s_pod_spec *spec, bool enforce)
{
    struct podsecurity_verdict verdict;
    if (enforce)
        audit_annotate(a->audit, AUDIT_METADATA, "pod-security.kubernetes.io/enforce-policy", podsecurity_rule_text(policy->enforce, a->arena));
    podsecurity_evaluate(policy->audit, meta, spec, a->arena, &verdict);
    if (verdict.reasons)
        audit_annotate(a->audit, AUDIT_METADATA, "pod-security.kubernetes.io/audit-violations", violation(a, "would violate", policy->audit, verdict.details));
}

static int evaluate(struct admission_attributes *a, const struct podsecurity_policy *policy, const struct k8s_object_meta *meta,
                    const struct k8s_pod_spec *spec, bool enforce, struct api_status *status)
{
    struct podsecurity_verdict verdict;
    if (a->audit)
        tell_audit(a, policy, meta, spec, enforce);
    if (enforce) {
        podsecurity_evaluate(policy->enforce, meta, spec, a->arena, &verdict);
        if (verdict.reasons)
            return status_forbidden(status, a->resource->group, a->resource->name, a->name, "%s", violation(a, "violates", policy->enforce, verdict.details));
    }
    podsecurity_evaluate(policy->warn, meta, spec, a->arena, &verdict);
    if (verdict.reasons)
        warn(a, violation(a, "would violate", policy->warn, verdict.details));
    return 0;
}

/* ---- workloads ------------------------------------------------------------------------------------------------------------------ */
static const struct k8s_pod_template_spec *template_of(const struct admission_attributes *a)
{
    const struct kp_type *type = a->type;
    if (type == &k8s_deployment_type)
        return ((const struct k8s_deployment *)a->object)->spec->template;
    if (type == &k8s_replica_set_type)
        return ((const struct k8s_replica_set *)a->object)->spec->template;
    if (type == &k8s_daemon_set_type)
        return ((const struct k8s_daemon_set *)a->object)->spec->template;
    if (type == &k8s_stateful_set_type)
        return ((const struct k8s_stateful_set *)a->object)->spec->template;
    if (type == &k8s_replication_controller_type)
        return ((const struct k8s_replication_controller *)a->object)->spec->template;
    if (type == &k8s_job_type)
        return ((const struct k8s_job *)a->object)->spec->template;
    if (type == &k8s_cron_job_type)
        return ((const struct k8s_cron_job *)a->object)->spec->job_template->spec->template;
    if (type == &k8s_pod_template_type)
        return ((const struct k8s_pod_template *)a->object)->template;
    return NULL;
}

/* ---- namespaces ------------------------------------------------------------------------------------------------------------------ */
struct told { /* pods that violate for the same reasons */
    const char *reasons, *pod;
    size_t count;
};

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void tell_of_pods(struct admission_attributes *a, const char *ns, struct podsecurity_rule rule, struct told *told, size_t n)
{
    const char **lines = KP_NEW_ARRAY(a->arena, const char *, n + 1);
    if (n > 0)
        warn(a, kp_arena_printf(a->arena, "existing pods in namespace \"%s\" violate the new PodSecurity enforce level \"%s\"", ns,
                                podsecurity_rule_text(rule, a->arena)));
    for (size_t i = 0; i < n; i++) {
        const char *others = told[i].count == 1   ? ""
                             : told[i].count == 2 ? " (and 1 other pod)"
                                                  : kp_arena_printf(a->arena, " (and %zu other pods)", told[i].count - 1);
        lines[i] = kp_arena_printf(a->arena, "%s%s: %s", told[i].pod, others, told[i].reasons);
    }
    if (n > 1)
        qsort(lines, n, sizeof(*lines), by_text);
    for (size_t i = 0; i < n; i++)
        warn(a, lines[i]);
}

/* What the new level would have refused of what runs there: told, not stopped. */
static void check_namespace(struct admission *admission, struct admission_attributes *a, const char *ns, struct podsecurity_rule rule)
{
    const struct wcache_filter filter = {.ns = ns};
    struct wcache_list list;
    struct told *told = NULL;
    size_t n = 0;
    if (!admission->pods)
        return;
    wcache_list(admission->pods, &filter, NULL, PODS_TO_CHECK_MAX, a->arena, &list);
    told = KP_NEW_ARRAY(a->arena, struct told, list.len + 1);
    for (size_t i = 0; i < list.len; i++) {
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0); /* of one pod: a namespace may have thousands */
        struct podsecurity_verdict verdict;
        struct kp_error error = {0};
        void *decoded;
        if (kp_json_decode(&k8s_pod_type, (const char *)list.items[i]->json->data, list.items[i]->json->len, arena, NULL, &decoded, &error) < 0)
            continue;
        const struct k8s_pod *pod = decoded;
        podsecurity_evaluate(rule, pod->metadata, pod->spec, arena, &verdict);
        size_t k = 0;
        while (verdict.reasons && k < n && strcmp(told[k].reasons, verdict.reasons) != 0)
            k++;
        if (!verdict.reasons)
            continue;
        if (k == n)
            told[n++] = (struct told){kp_arena_strdup(a->arena, verdict.reasons), kp_arena_strdup(a->arena, pod->metadata->name), 0};
        if (strcmp(pod->metadata->name, told[k].pod) < 0)
            told[k].pod = kp_arena_strdup(a->arena, pod->metadata->name);
        told[k].count++;
    }
    wcache_list_done(&list);
    tell_of_pods(a, ns, rule, told, n);
}

static bool same_errors(const struct field_errors *a, const struct field_errors *b)
{
    if (a->len != b->len)
        return false;
    for (size_t i = 0; i < a->len; i++)
        if (!kp_streq(a->items[i].field, b->items[i].field) || !kp_streq(a->items[i].message, b->items[i].message))
            return false;
    return true;
}

static int validate_namespace(struct admission *admission, struct admission_attributes *a, struct api_status *status)
{
    const struct k8s_namespace *ns = a->object, *old = a->old_object;
    struct field_errors errors = {.arena = a->arena}, old_errors = {.arena = a->arena};
    struct podsecurity_policy policy, before;
    podsecurity_policy_of(&ns->metadata->labels, &policy, &errors);
    if (old)
        podsecurity_policy_of(&old->metadata->labels, &before, &old_errors);
    if (errors.len && !(old && same_errors(&errors, &old_errors)))
        return status_invalid(status, "", "Namespace", ns->metadata->name, &errors);
    if (!old || podsecurity_same(policy.enforce, before.enforce) || policy.enforce.level == PODSECURITY_PRIVILEGED ||
        (policy.enforce.minor == before.enforce.minor && policy.enforce.level <= before.enforce.level))
        return 0;
    check_namespace(admission, a, ns->metadata->name, policy.enforce);
    return 0;
}

int admission_pod_security(struct admission *admission, struct admission_attributes *a, struct api_status *status)
{
    struct podsecurity_policy policy;
    if ((a->operation != ADMISSION_CREATE && a->operation != ADMISSION_UPDATE) || !a->object)
        return 0;
    if (admission_is(a, "", "namespaces", ""))
        return validate_namespace(admission, a, status);
    bool is_pod = kp_streq(a->resource->group, "") && kp_streq(a->resource->name, "pods") && a->type == &k8s_pod_type && !is_ignored(a->subresource);
    const struct k8s_pod_template_spec *template = kp_empty(a->subresource) ? template_of(a) : NULL;
    if (!is_pod && !(template && template->metadata && template->spec))
        return 0;
    const struct k8s_namespace *ns = admission_load(admission->namespaces, &k8s_namespace_type, "", a->ns, a->arena);
    if (!ns)
        return 0; /* NamespaceLifecycle has refused what is created there */
    podsecurity_policy_of(&ns->metadata->labels, &policy, NULL);
    if (!is_pod)
        return evaluate(a, &policy, template->metadata, template->spec, false, status);
    const struct k8s_pod *pod = a->object;
    if (a->operation == ADMISSION_UPDATE && a->old_object && !podsecurity_update_matters(a->old_object, pod))
        return 0;
    return evaluate(a, &policy, pod->metadata, pod->spec, true, status);
}
