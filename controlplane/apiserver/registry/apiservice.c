/* APIServices: what is refused of them, and that those this server serves itself are available. Rules and texts are upstream's
 * (kube-aggregator, pkg/apis/apiregistration/validation). */
#include "controlplane/apiserver/registry/strategy_internal.h"

#define GROUP_PRIORITY_MAX 20000
#define VERSION_PRIORITY_MAX 1000

bool registry_api_service_condition(struct k8s_api_service *service, bool available, const char *reason, const char *message, int64_t now_s,
                                    struct kp_arena *arena)
{
    struct k8s_api_service_condition *condition = NULL;
    const char *status = available ? "True" : "False";
    for (size_t i = 0; i < service->status->conditions.len && !condition; i++)
        if (kp_streq(service->status->conditions.items[i].type, "Available"))
            condition = &service->status->conditions.items[i];
    if (condition && kp_streq(condition->status, status) && kp_streq(condition->reason, reason) && kp_streq(condition->message, message))
        return false;
    if (!condition)
        condition = KP_LIST_ADD(arena, &service->status->conditions);
    if (!kp_streq(condition->status, status))
        condition->last_transition_time = KP_TIME_OF(now_s);
    condition->type = "Available";
    condition->status = status;
    condition->reason = reason;
    condition->message = message;
    return true;
}

bool registry_api_service_local(struct k8s_api_service *service, int64_t now_s, struct kp_arena *arena)
{
    return registry_api_service_condition(service, true, "Local", "Local APIServices are always available", now_s, arena);
}

void api_service_prepare_create(struct registry_request *rq, void *obj)
{
    struct k8s_api_service *service = obj;
    if (!service->spec->service)
        registry_api_service_local(service, rq->now_s, rq->arena);
}

static void validate_name(const struct k8s_api_service *service, struct field_errors *errors)
{
    const char *name = service->metadata->name;
    const char *wanted = kp_arena_printf(errors->arena, "%s.%s", service->spec->version ? service->spec->version : "",
                                         service->spec->group ? service->spec->group : "");
    if (!kp_empty(name) && !name_is_path_segment(name) && !kp_streq(name, wanted))
        field_invalid(errors, name, kp_arena_printf(errors->arena, "must be `spec.version+\".\"+spec.group`: \"%s\"", wanted), "metadata.name");
}

static void validate_group_version(const struct k8s_api_service_spec *spec, struct field_errors *errors)
{
    const char *version = spec->version ? spec->version : "", *fault = kp_empty(spec->group) ? NULL : name_is_subdomain(spec->group);
    if (kp_empty(spec->group) && strcmp(version, "v1") != 0)
        field_required(errors, "only v1 may have an empty group and it better be legacy kube", "spec.group");
    if (fault)
        field_invalid(errors, spec->group, fault, "spec.group");
    fault = name_is_label_1035(version);
    if (fault)
        field_invalid(errors, version, fault, "spec.version");
    if (spec->group_priority_minimum <= 0 || spec->group_priority_minimum > GROUP_PRIORITY_MAX)
        field_invalid_int(errors, spec->group_priority_minimum, "must be positive and less than 20000", "spec.groupPriorityMinimum");
    if (spec->version_priority <= 0 || spec->version_priority > VERSION_PRIORITY_MAX)
        field_invalid_int(errors, spec->version_priority, "must be positive and less than 1000", "spec.versionPriority");
}

static void validate_local(const struct k8s_api_service_spec *spec, struct field_errors *errors)
{
    if (spec->ca_bundle.len)
        field_invalid(errors, kp_arena_printf(errors->arena, "%zu bytes", spec->ca_bundle.len), "local APIServices may not have a caBundle", "spec.caBundle");
    if (spec->insecure_skip_tls_verify)
        field_invalid_raw(errors, "true", "local APIServices may not have insecureSkipTLSVerify", "spec.insecureSkipTLSVerify");
}

static void validate_service(const struct k8s_api_service_spec *spec, struct field_errors *errors)
{
    if (kp_empty(spec->service->namespace))
        field_required(errors, "", "spec.service.namespace");
    if (kp_empty(spec->service->name))
        field_required(errors, "", "spec.service.name");
    if (spec->service->port < 1 || spec->service->port > 65535)
        field_invalid_int(errors, spec->service->port, "port is not valid: must be between 1 and 65535, inclusive", "spec.service.port");
    if (spec->insecure_skip_tls_verify && spec->ca_bundle.len)
        field_invalid_raw(errors, "true", "may not be true if caBundle is present", "spec.insecureSkipTLSVerify");
}

static void validate_conditions(const struct k8s_api_service_status *status, struct field_errors *errors)
{
    static const char *const statuses[] = {"True", "False", "Unknown", NULL};
    for (size_t i = 0; i < status->conditions.len; i++) {
        const char *value = status->conditions.items[i].status;
        if (!kp_streq(value, statuses[0]) && !kp_streq(value, statuses[1]) && !kp_streq(value, statuses[2]))
            field_not_supported(errors, value ? value : "", statuses, "status.conditions[%zu].status", i);
    }
}

void api_service_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    const struct k8s_api_service *service = obj;
    (void)rq;
    validate_name(service, errors);
    validate_group_version(service->spec, errors);
    if (service->spec->service)
        validate_service(service->spec, errors);
    else
        validate_local(service->spec, errors);
    validate_conditions(service->status, errors);
}
