/* Strategies of the kinds outside core, apps and batch. */
#include "controlplane/apiserver/registry/strategy_internal.h"

#define RBAC_GROUP "rbac.authorization.k8s.io"

/* ---- certificate signing requests --------------------------------------------------------------------------------------- */
/* The requester is who asks, not what the body says. */
void csr_prepare_create(struct registry_request *rq, void *obj)
{
    struct k8s_certificate_signing_request *csr = obj;
    csr->spec->username = rq->user->name;
    csr->spec->uid = kp_empty(rq->user->uid) ? NULL : rq->user->uid;
    csr->spec->groups = rq->user->groups;
    csr->spec->extra = rq->user->extra;
}

void csr_prepare_update(struct registry_request *rq, void *obj, const void *old)
{
    (void)rq;
    ((struct k8s_certificate_signing_request *)obj)->spec = ((const struct k8s_certificate_signing_request *)old)->spec;
}

static bool is_verdict(const char *type)
{
    return kp_streq(type, "Approved") || kp_streq(type, "Denied");
}

void csr_prepare_subresource(struct registry_request *rq, void *obj, const void *old)
{
    struct k8s_certificate_signing_request *csr = obj;
    const struct k8s_certificate_signing_request *before = old;
    csr->spec = before->spec;
    bool approval = strcmp(rq->subresource, "approval") == 0;
    if (approval) /* the certificate is status' business, the verdict approval's */
        csr->status->certificate = before->status->certificate;
    for (size_t i = 0; i < csr->status->conditions.len; i++) {
        struct k8s_certificate_signing_request_condition *condition = &csr->status->conditions.items[i];
        if (kp_empty(condition->status))
            condition->status = "True";
        if (!condition->last_update_time.set)
            condition->last_update_time = KP_TIME_OF(rq->now_s);
        if (!condition->last_transition_time.set)
            condition->last_transition_time = KP_TIME_OF(rq->now_s);
    }
    if (approval)
        return;
    struct k8s_certificate_signing_request_condition_items kept = {0};
    for (size_t i = 0; i < csr->status->conditions.len; i++)
        if (!is_verdict(csr->status->conditions.items[i].type))
            *KP_LIST_ADD(rq->arena, &kept) = csr->status->conditions.items[i];
    for (size_t i = 0; i < before->status->conditions.len; i++)
        if (is_verdict(before->status->conditions.items[i].type))
            *KP_LIST_ADD(rq->arena, &kept) = before->status->conditions.items[i];
    csr->status->conditions = kept;
}

void csr_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    const struct k8s_certificate_signing_request *csr = obj;
    (void)rq;
    if (!csr->spec->request.len)
        field_invalid(errors, "", "PEM block type must be CERTIFICATE REQUEST", "spec.request");
    if (!csr->spec->usages.len)
        field_required(errors, "usages must be provided", "spec.usages");
    if (!kp_empty(csr->spec->signer_name) && !strchr(csr->spec->signer_name, '/'))
        field_invalid(errors, csr->spec->signer_name, "must be a fully qualified domain and path of the form 'example.com/signer-name'", "spec.signerName");
    if (csr->spec->has_expiration_seconds && csr->spec->expiration_seconds < 600)
        field_invalid_int(errors, csr->spec->expiration_seconds, "may not specify a duration less than 600 seconds (10 minutes)", "spec.expirationSeconds");
}

/* ---- leases, slices ------------------------------------------------------------------------------------------------------- */
void lease_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    const struct k8s_lease_spec *spec = ((const struct k8s_lease *)obj)->spec;
    (void)rq;
    if (spec && spec->has_lease_duration_seconds && spec->lease_duration_seconds <= 0)
        field_invalid_int(errors, spec->lease_duration_seconds, "must be greater than 0", "spec.leaseDurationSeconds");
    if (spec && spec->has_lease_transitions && spec->lease_transitions < 0)
        field_invalid_int(errors, spec->lease_transitions, "must be greater than or equal to 0", "spec.leaseTransitions");
}

void endpoint_slice_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    const struct k8s_endpoint_slice *slice = obj;
    (void)rq;
    if (slice->endpoints.len > 1000)
        field_too_many(errors, (int64_t)slice->endpoints.len, 1000, "endpoints");
    for (size_t i = 0; i < slice->endpoints.len; i++)
        if (!slice->endpoints.items[i].addresses.len)
            field_required(errors, "must contain at least 1 address", "endpoints[%zu].addresses", i);
    for (size_t i = 0; i < slice->ports.len; i++)
        for (size_t j = 0; j < i; j++)
            if (kp_streq(slice->ports.items[i].name, slice->ports.items[j].name))
                field_duplicate(errors, slice->ports.items[i].name, "ports[%zu].name", i);
}

void endpoint_slice_validate_update(struct registry_request *rq, const void *obj, const void *old, struct field_errors *errors)
{
    const struct k8s_endpoint_slice *slice = obj, *before = old;
    (void)rq;
    if (!kp_streq(slice->address_type, before->address_type))
        field_invalid(errors, slice->address_type, "field is immutable", "addressType");
}

/* ---- networking ----------------------------------------------------------------------------------------------------------- */
void ingress_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    const struct k8s_ingress_spec *spec = ((const struct k8s_ingress *)obj)->spec;
    (void)rq;
    if (!spec->rules.len && !spec->default_backend)
        field_invalid_raw(errors, "[]", "either `defaultBackend` or `rules` must be specified", "spec");
    for (size_t i = 0; i < spec->rules.len; i++) {
        const struct k8s_ingress_rule *rule = &spec->rules.items[i];
        for (size_t j = 0; rule->http && j < rule->http->paths.len; j++) {
            const struct k8s_http_ingress_path *path = &rule->http->paths.items[j];
            if (kp_empty(path->path_type))
                field_required(errors, "pathType must be specified", "spec.rules[%zu].http.paths[%zu].pathType", i, j);
            else if (strcmp(path->path_type, "ImplementationSpecific") != 0 && (kp_empty(path->path) || path->path[0] != '/'))
                field_invalid(errors, path->path, "must be an absolute path", "spec.rules[%zu].http.paths[%zu].path", i, j);
        }
    }
}

/* ---- RBAC ------------------------------------------------------------------------------------------------------------------- */
static void validate_rules(const struct k8s_policy_rule_items *rules, bool namespaced, struct field_errors *errors)
{
    for (size_t i = 0; i < rules->len; i++) {
        const struct k8s_policy_rule *rule = &rules->items[i];
        if (!rule->verbs.len)
            field_required(errors, "verbs must contain at least one value", "rules[%zu].verbs", i);
        if (rule->non_resource_urls.len) {
            if (namespaced)
                field_invalid_raw(errors, "[]", "namespaced rules cannot apply to non-resource URLs", "rules[%zu].nonResourceURLs", i);
            if (rule->api_groups.len || rule->resources.len || rule->resource_names.len)
                field_invalid_raw(errors, "[]", "rules cannot apply to both regular resources and non-resource URLs", "rules[%zu].nonResourceURLs", i);
            continue;
        }
        if (!rule->api_groups.len)
            field_required(errors, "resource rules must supply at least one api group", "rules[%zu].apiGroups", i);
        if (!rule->resources.len)
            field_required(errors, "resource rules must supply at least one resource", "rules[%zu].resources", i);
    }
}

void role_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    (void)rq;
    validate_rules(&((const struct k8s_role *)obj)->rules, true, errors);
}

void cluster_role_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    (void)rq;
    validate_rules(&((const struct k8s_cluster_role *)obj)->rules, false, errors);
}

/* Bindings of both scopes have one layout of what is looked at here. */
static struct k8s_role_ref *binding_ref(struct registry_request *rq, const void *obj)
{
    return rq->resource->namespaced ? ((const struct k8s_role_binding *)obj)->role_ref : ((const struct k8s_cluster_role_binding *)obj)->role_ref;
}

static struct k8s_subject_items *binding_subjects(struct registry_request *rq, void *obj)
{
    return rq->resource->namespaced ? &((struct k8s_role_binding *)obj)->subjects : &((struct k8s_cluster_role_binding *)obj)->subjects;
}

void role_binding_defaults(struct registry_request *rq, void *obj)
{
    struct k8s_subject_items *subjects = binding_subjects(rq, obj);
    struct k8s_role_ref *ref = binding_ref(rq, obj);
    if (kp_empty(ref->api_group))
        ref->api_group = RBAC_GROUP;
    for (size_t i = 0; i < subjects->len; i++)
        if (kp_empty(subjects->items[i].api_group) && (kp_streq(subjects->items[i].kind, "User") || kp_streq(subjects->items[i].kind, "Group")))
            subjects->items[i].api_group = RBAC_GROUP;
}

void role_binding_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    static const char *const kinds[] = {"ServiceAccount", "User", "Group", NULL};
    static const char *const roles[] = {"Role", "ClusterRole", NULL}, *const cluster_roles[] = {"ClusterRole", NULL};
    const struct k8s_role_ref *ref = binding_ref(rq, obj);
    const struct k8s_subject_items *subjects = rq->resource->namespaced ? &((const struct k8s_role_binding *)obj)->subjects
                                                                         : &((const struct k8s_cluster_role_binding *)obj)->subjects;
    if (!kp_streq(ref->api_group, RBAC_GROUP))
        field_not_supported(errors, ref->api_group, (const char *const[]){RBAC_GROUP, NULL}, "roleRef.apiGroup");
    bool known = kp_streq(ref->kind, "ClusterRole") || (rq->resource->namespaced && kp_streq(ref->kind, "Role"));
    if (!known)
        field_not_supported(errors, ref->kind, rq->resource->namespaced ? roles : cluster_roles, "roleRef.kind");
    if (kp_empty(ref->name))
        field_required(errors, "", "roleRef.name");
    for (size_t i = 0; i < subjects->len; i++) {
        const struct k8s_subject *subject = &subjects->items[i];
        bool account = kp_streq(subject->kind, "ServiceAccount");
        if (kp_empty(subject->name))
            field_required(errors, "", "subjects[%zu].name", i);
        if (!account && !kp_streq(subject->kind, "User") && !kp_streq(subject->kind, "Group"))
            field_not_supported(errors, subject->kind, kinds, "subjects[%zu].kind", i);
        if (account && kp_empty(subject->namespace) && !rq->resource->namespaced)
            field_required(errors, "", "subjects[%zu].namespace", i);
    }
}

void role_binding_validate_update(struct registry_request *rq, const void *obj, const void *old, struct field_errors *errors)
{
    const struct k8s_role_ref *now = binding_ref(rq, obj), *before = binding_ref(rq, old);
    if (kp_object_equal(&k8s_role_ref_type, now, before))
        return;
    KP_AUTO_BUF struct kp_buf text = {0};
    kp_json_encode(&k8s_role_ref_type, now, &text);
    field_invalid_raw(errors, kp_arena_strdup(errors->arena, text.data), "cannot change roleRef", "roleRef");
}

/* ---- scheduling, node --------------------------------------------------------------------------------------------------------- */
void priority_class_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    const struct k8s_priority_class *pc = obj;
    (void)rq;
    const char *name = pc->metadata->name ? pc->metadata->name : "";
    bool system = strcmp(name, "system-cluster-critical") == 0 || strcmp(name, "system-node-critical") == 0;
    if (kp_starts_with(name, "system-") && !system)
        field_forbidden(errors, "priority class names with 'system-' prefix are reserved for system use only", "metadata.name");
    if (pc->value > 1000000000 && !system)
        field_forbidden(errors, "maximum allowed value of a user defined priority is 1000000000", "value");
}

void priority_class_validate_update(struct registry_request *rq, const void *obj, const void *old, struct field_errors *errors)
{
    const struct k8s_priority_class *now = obj, *before = old;
    (void)rq;
    if (now->value != before->value)
        field_forbidden(errors, "may not be changed in an update.", "value");
    if (!kp_streq(now->preemption_policy, before->preemption_policy))
        field_invalid(errors, now->preemption_policy, "field is immutable", "preemptionPolicy");
}

void runtime_class_validate_update(struct registry_request *rq, const void *obj, const void *old, struct field_errors *errors)
{
    const struct k8s_runtime_class *now = obj, *before = old;
    (void)rq;
    if (!kp_streq(now->handler, before->handler))
        field_invalid(errors, now->handler, "field is immutable", "handler");
}
