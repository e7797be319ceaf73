/* Strategies of the sets of pods: ReplicationController, Deployment, ReplicaSet, DaemonSet, StatefulSet; PodDisruptionBudget. */
#include "controlplane/apiserver/registry/strategy_internal.h"

static const char *const always[] = {"Always", NULL};

#define EMPTY_SELECTOR "empty selector is invalid for %s"

/* Required, well-formed and not empty. */
static void validate_selector(const struct k8s_label_selector *selector, const char *what, struct field_errors *errors)
{
    if (!selector) {
        field_required(errors, "", "spec.selector");
        return;
    }
    validate_label_selector(selector, errors, "spec.selector");
    if (!selector->match_labels.len && !selector->match_expressions.len)
        field_invalid_raw(errors, "{}", kp_arena_printf(errors->arena, EMPTY_SELECTOR, what), "spec.selector");
}

/* ---- replication controllers ------------------------------------------------------------------------------------------- */
void replication_controller_defaults(struct registry_request *rq, void *obj)
{
    struct k8s_replication_controller *rc = obj;
    struct k8s_pod_template_spec *tpl = rc->spec->template;
    pod_template_defaults(rq->arena, tpl);
    if (!tpl || !tpl->metadata)
        return;
    if (!rc->spec->selector.len)
        rc->spec->selector = tpl->metadata->labels;
    if (!rc->metadata->labels.len)
        rc->metadata->labels = tpl->metadata->labels;
}

void replication_controller_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    const struct k8s_replication_controller *rc = obj;
    (void)rq;
    validate_non_negative(rc->spec->replicas, errors, "spec.replicas");
    validate_non_negative(rc->spec->min_ready_seconds, errors, "spec.minReadySeconds");
    if (!rc->spec->selector.len)
        field_required(errors, "", "spec.selector");
    if (!rc->spec->template) {
        field_required(errors, "", "spec.template");
        return;
    }
    struct k8s_label_selector selector = {.match_labels = rc->spec->selector};
    validate_workload_template(rc->spec->template, &selector, errors, always);
}

void pod_template_object_defaults(struct registry_request *rq, void *obj)
{
    pod_template_defaults(rq->arena, ((struct k8s_pod_template *)obj)->template);
}

/* ---- deployments --------------------------------------------------------------------------------------------------------- */
void deployment_defaults(struct registry_request *rq, void *obj)
{
    struct k8s_deployment_spec *spec = ((struct k8s_deployment *)obj)->spec;
    pod_template_defaults(rq->arena, spec->template);
    if (kp_streq(spec->strategy->type, "RollingUpdate")) {
        if (!spec->strategy->rolling_update)
            spec->strategy->rolling_update = KP_OBJECT_NEW(rq->arena, k8s_rolling_update_deployment);
        kp_object_default(&k8s_rolling_update_deployment_type, spec->strategy->rolling_update, rq->arena);
    }
}

static bool zero(const struct kp_int_or_string *value)
{
    return value->kind == KP_IOS_ABSENT || (value->kind == KP_IOS_INT && value->i == 0) || (value->kind == KP_IOS_STRING && kp_streq(value->s, "0%"));
}

static void validate_int_or_percent(const struct kp_int_or_string *value, struct field_errors *errors, const char *path)
{
    if (value->kind == KP_IOS_INT)
        validate_non_negative(value->i, errors, path);
    if (value->kind != KP_IOS_STRING)
        return;
    size_t len = strspn(value->s, "0123456789");
    if (!len || strcmp(value->s + len, "%") != 0)
        field_invalid(errors, value->s, "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
                      "%s", path);
}

void deployment_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    const struct k8s_deployment_spec *spec = ((const struct k8s_deployment *)obj)->spec;
    (void)rq;
    validate_non_negative(spec->replicas, errors, "spec.replicas");
    validate_selector(spec->selector, "deployment", errors);
    validate_workload_template(spec->template, spec->selector, errors, always);
    validate_non_negative(spec->min_ready_seconds, errors, "spec.minReadySeconds");
    validate_non_negative(spec->revision_history_limit, errors, "spec.revisionHistoryLimit");
    validate_non_negative(spec->progress_deadline_seconds, errors, "spec.progressDeadlineSeconds");
    if (spec->has_progress_deadline_seconds && spec->progress_deadline_seconds <= spec->min_ready_seconds)
        field_invalid_int(errors, spec->progress_deadline_seconds, "must be greater than minReadySeconds", "spec.progressDeadlineSeconds");
    const struct k8s_rolling_update_deployment *rolling = spec->strategy->rolling_update;
    if (kp_streq(spec->strategy->type, "Recreate") && rolling) {
        field_forbidden(errors, "may not be specified when strategy `type` is 'Recreate'", "spec.strategy.rollingUpdate");
    } else if (rolling) {
        validate_int_or_percent(&rolling->max_unavailable, errors, "spec.strategy.rollingUpdate.maxUnavailable");
        validate_int_or_percent(&rolling->max_surge, errors, "spec.strategy.rollingUpdate.maxSurge");
        if (zero(&rolling->max_unavailable) && zero(&rolling->max_surge))
            field_invalid_int(errors, 0, "may not be 0 when `maxSurge` is 0", "spec.strategy.rollingUpdate.maxUnavailable");
    }
}

void deployment_validate_update(struct registry_request *rq, const void *obj, const void *old, struct field_errors *errors)
{
    (void)rq;
    immutable_member(&k8s_deployment_spec_type, ((const struct k8s_deployment *)obj)->spec, ((const struct k8s_deployment *)old)->spec, "selector", errors,
                     "spec.selector");
}

/* ---- replica sets -------------------------------------------------------------------------------------------------------- */
void replica_set_defaults(struct registry_request *rq, void *obj)
{
    pod_template_defaults(rq->arena, ((struct k8s_replica_set *)obj)->spec->template);
}

void replica_set_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    const struct k8s_replica_set_spec *spec = ((const struct k8s_replica_set *)obj)->spec;
    (void)rq;
    validate_non_negative(spec->replicas, errors, "spec.replicas");
    validate_non_negative(spec->min_ready_seconds, errors, "spec.minReadySeconds");
    validate_selector(spec->selector, "replica set", errors);
    if (!spec->template)
        field_required(errors, "", "spec.template");
    else
        validate_workload_template(spec->template, spec->selector, errors, always);
}

void replica_set_validate_update(struct registry_request *rq, const void *obj, const void *old, struct field_errors *errors)
{
    (void)rq;
    immutable_member(&k8s_replica_set_spec_type, ((const struct k8s_replica_set *)obj)->spec, ((const struct k8s_replica_set *)old)->spec, "selector", errors,
                     "spec.selector");
}

/* ---- daemon sets ----------------------------------------------------------------------------------------------------------- */
void daemon_set_defaults(struct registry_request *rq, void *obj)
{
    struct k8s_daemon_set_spec *spec = ((struct k8s_daemon_set *)obj)->spec;
    pod_template_defaults(rq->arena, spec->template);
    if (kp_streq(spec->update_strategy->type, "RollingUpdate")) {
        if (!spec->update_strategy->rolling_update)
            spec->update_strategy->rolling_update = KP_OBJECT_NEW(rq->arena, k8s_rolling_update_daemon_set);
        kp_object_default(&k8s_rolling_update_daemon_set_type, spec->update_strategy->rolling_update, rq->arena);
    }
    if (!spec->has_revision_history_limit)
        KP_SET(spec, revision_history_limit, 10);
}

void daemon_set_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    const struct k8s_daemon_set_spec *spec = ((const struct k8s_daemon_set *)obj)->spec;
    (void)rq;
    validate_selector(spec->selector, "daemonset", errors);
    validate_workload_template(spec->template, spec->selector, errors, always);
    validate_non_negative(spec->min_ready_seconds, errors, "spec.minReadySeconds");
}

void daemon_set_validate_update(struct registry_request *rq, const void *obj, const void *old, struct field_errors *errors)
{
    (void)rq;
    immutable_member(&k8s_daemon_set_spec_type, ((const struct k8s_daemon_set *)obj)->spec, ((const struct k8s_daemon_set *)old)->spec, "selector", errors,
                     "spec.selector");
}

/* ---- stateful sets --------------------------------------------------------------------------------------------------------- */
void stateful_set_defaults(struct registry_request *rq, void *obj)
{
    struct k8s_stateful_set_spec *spec = ((struct k8s_stateful_set *)obj)->spec;
    pod_template_defaults(rq->arena, spec->template);
    struct k8s_stateful_set_update_strategy *strategy = spec->update_strategy;
    if (kp_streq(strategy->type, "RollingUpdate")) {
        if (!strategy->rolling_update)
            strategy->rolling_update = KP_OBJECT_NEW(rq->arena, k8s_rolling_update_stateful_set_strategy);
        kp_object_default(&k8s_rolling_update_stateful_set_strategy_type, strategy->rolling_update, rq->arena);
    }
    for (size_t i = 0; i < spec->volume_claim_templates.len; i++)
        spec->volume_claim_templates.items[i].status->phase = "Pending";
}

static bool has_volume(const struct k8s_pod_spec *spec, const char *name)
{
    for (size_t i = 0; i < spec->volumes.len; i++)
        if (kp_streq(spec->volumes.items[i].name, name))
            return true;
    return false;
}

/* The template as its pods will be: claims become volumes, which containers may name. */
static const struct k8s_pod_template_spec *template_with_claims(struct kp_arena *arena, const struct k8s_stateful_set_spec *spec)
{
    if (!spec->volume_claim_templates.len || !spec->template || !spec->template->spec)
        return spec->template;
    struct k8s_pod_template_spec *copy = KP_OBJECT_CLONE(arena, k8s_pod_template_spec, spec->template);
    for (size_t i = 0; i < spec->volume_claim_templates.len; i++) {
        const char *name = spec->volume_claim_templates.items[i].metadata->name;
        if (kp_empty(name) || has_volume(copy->spec, name))
            continue;
        struct k8s_volume *volume = KP_LIST_ADD(arena, &copy->spec->volumes);
        volume->name = name;
        volume->persistent_volume_claim = KP_OBJECT_NEW(arena, k8s_persistent_volume_claim_volume_source);
        volume->persistent_volume_claim->claim_name = name;
    }
    return copy;
}

void stateful_set_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    const struct k8s_stateful_set_spec *spec = ((const struct k8s_stateful_set *)obj)->spec;
    validate_non_negative(spec->replicas, errors, "spec.replicas");
    validate_non_negative(spec->min_ready_seconds, errors, "spec.minReadySeconds");
    validate_selector(spec->selector, "statefulset", errors);
    validate_workload_template(template_with_claims(rq->arena, spec), spec->selector, errors, always);
}

void stateful_set_validate_update(struct registry_request *rq, const void *obj, const void *old, struct field_errors *errors)
{
    const struct k8s_stateful_set_spec *now = ((const struct k8s_stateful_set *)obj)->spec;
    struct k8s_stateful_set_spec *compared = KP_OBJECT_CLONE(rq->arena, k8s_stateful_set_spec, now);
    const struct k8s_stateful_set_spec *before = ((const struct k8s_stateful_set *)old)->spec;
    compared->replicas = before->replicas;
    compared->has_replicas = before->has_replicas;
    compared->template = before->template;
    compared->update_strategy = before->update_strategy;
    compared->min_ready_seconds = before->min_ready_seconds;
    compared->has_min_ready_seconds = before->has_min_ready_seconds;
    compared->revision_history_limit = before->revision_history_limit;
    compared->has_revision_history_limit = before->has_revision_history_limit;
    compared->ordinals = before->ordinals;
    compared->persistent_volume_claim_retention_policy = before->persistent_volume_claim_retention_policy;
    if (!kp_object_equal(&k8s_stateful_set_spec_type, compared, before))
        field_forbidden(errors,
                        "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
                        "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
                        "spec");
}

/* ---- disruption budgets ------------------------------------------------------------------------------------------------------ */
void pod_disruption_budget_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    const struct k8s_pod_disruption_budget_spec *spec = ((const struct k8s_pod_disruption_budget *)obj)->spec;
    (void)rq;
    if (spec->min_available.kind != KP_IOS_ABSENT && spec->max_unavailable.kind != KP_IOS_ABSENT)
        field_invalid_raw(errors, "null", "minAvailable and maxUnavailable cannot be both set", "spec");
    validate_int_or_percent(&spec->min_available, errors, "spec.minAvailable");
    validate_int_or_percent(&spec->max_unavailable, errors, "spec.maxUnavailable");
    validate_label_selector(spec->selector, errors, "spec.selector");
}
