/* CustomResourceDefinitions: names that follow from others, what is stored of versions, and what is refused. Rules and texts are upstream's
 * (apiextensions-apiserver, pkg/apis/apiextensions/validation). */
#include "controlplane/apiserver/registry/strategy_internal.h"

#include "controlplane/apiserver/structural/structural.h"

#include <ctype.h>

#define SELECTABLE_FIELDS_MAX 8
#define DEPRECATION_WARNING_MAX 256
#define APPROVAL "api-approved.kubernetes.io"

static const char *lower(const char *s, struct kp_arena *arena)
{
    char *copy = kp_arena_strdup(arena, s ? s : "");
    for (char *p = copy; *p; p++)
        *p = (char)tolower((unsigned char)*p);
    return copy;
}

/* ---- defaults and what the server writes ------------------------------------------------------------------------------- */
void crd_defaults(struct registry_request *rq, void *obj)
{
    struct k8s_custom_resource_definition *crd = obj;
    struct k8s_custom_resource_definition_names *names = crd->spec->names;
    if (kp_empty(names->singular) && !kp_empty(names->kind))
        names->singular = lower(names->kind, rq->arena);
    if (kp_empty(names->list_kind) && !kp_empty(names->kind))
        names->list_kind = kp_arena_printf(rq->arena, "%sList", names->kind);
    if (!crd->spec->conversion) {
        crd->spec->conversion = KP_OBJECT_NEW(rq->arena, k8s_custom_resource_conversion);
        crd->spec->conversion->strategy = "None";
    }
}

/* Objects may be stored in it from now on. */
static void note_storage_version(struct registry_request *rq, struct k8s_custom_resource_definition *crd)
{
    for (size_t i = 0; i < crd->spec->versions.len; i++) {
        const struct k8s_custom_resource_definition_version *version = &crd->spec->versions.items[i];
        if (version->storage && !kp_empty(version->name) && !kp_string_list_has(&crd->status->stored_versions, version->name)) {
            struct kp_string_list names = {0}; /* the old one's array may be shared */
            for (size_t j = 0; j < crd->status->stored_versions.len; j++)
                kp_string_list_add(rq->arena, &names, crd->status->stored_versions.items[j]);
            kp_string_list_add(rq->arena, &names, version->name);
            crd->status->stored_versions = names;
        }
    }
}

/* Conditions are an empty list until there are some: `kubectl wait` gives up on null. */
void crd_prepare_create(struct registry_request *rq, void *obj)
{
    struct k8s_custom_resource_definition *crd = obj;
    crd->status->conditions.items = kp_arena_alloc(rq->arena, 1);
    note_storage_version(rq, obj);
}

void crd_prepare_update(struct registry_request *rq, void *obj, const void *old)
{
    struct k8s_custom_resource_definition *crd = obj;
    struct k8s_custom_resource_definition_status *status = kp_arena_memdup(rq->arena, crd->status, sizeof(*status)); /* the old one's is shared */
    crd->status = status;
    note_storage_version(rq, crd);
}

/* The finalizer goes when no object is left; upstream adds it here, too. */
void crd_prepare_delete(struct registry_request *rq, void *obj)
{
    struct k8s_custom_resource_definition *crd = obj;
    if (!kp_string_list_has(&crd->metadata->finalizers, REGISTRY_CRD_FINALIZER)) {
        struct kp_string_list finalizers = {0};
        for (size_t i = 0; i < crd->metadata->finalizers.len; i++)
            kp_string_list_add(rq->arena, &finalizers, crd->metadata->finalizers.items[i]);
        kp_string_list_add(rq->arena, &finalizers, REGISTRY_CRD_FINALIZER);
        crd->metadata->finalizers = finalizers;
    }
    registry_crd_condition(crd, "Terminating", true, "InstanceDeletionPending",
                           "CustomResourceDefinition marked for deletion; CustomResource deletion will be initiated soon", rq->now_s, rq->arena);
}

bool registry_crd_condition(struct k8s_custom_resource_definition *crd, const char *type, bool status, const char *reason, const char *message, int64_t now_s,
                            struct kp_arena *arena)
{
    struct k8s_custom_resource_definition_condition *condition = NULL;
    for (size_t i = 0; i < crd->status->conditions.len; i++)
        if (kp_streq(crd->status->conditions.items[i].type, type))
            condition = &crd->status->conditions.items[i];
    const char *text = status ? "True" : "False";
    if (condition && kp_streq(condition->status, text) && kp_streq(condition->reason, reason) && kp_streq(condition->message, message))
        return false;
    if (!condition)
        condition = KP_LIST_ADD(arena, &crd->status->conditions);
    if (!kp_streq(condition->status, text))
        condition->last_transition_time = KP_TIME_OF(now_s);
    condition->type = type;
    condition->status = text;
    condition->reason = reason;
    condition->message = message;
    return true;
}

/* ---- names --------------------------------------------------------------------------------------------------------------- */
static void check_label(const char *value, bool mixed_case, struct field_errors *errors, const char *path)
{
    const char *fault = kp_empty(value) ? NULL : name_is_label_1035(mixed_case ? lower(value, errors->arena) : value);
    if (fault)
        field_invalid(errors, value, mixed_case ? kp_arena_printf(errors->arena, "may have mixed case, but should otherwise match: %s", fault) : fault, "%s", path);
}

static void check_labels(const struct kp_string_list *list, struct field_errors *errors, const char *path)
{
    for (size_t i = 0; i < list->len; i++)
        check_label(list->items[i], false, errors, kp_arena_printf(errors->arena, "%s[%zu]", path, i));
}

static void validate_names(const struct k8s_custom_resource_definition_names *names, struct field_errors *errors)
{
    if (kp_empty(names->plural))
        field_required(errors, "", "spec.names.plural");
    if (kp_empty(names->singular))
        field_required(errors, "", "spec.names.singular");
    if (kp_empty(names->kind))
        field_required(errors, "", "spec.names.kind");
    if (kp_empty(names->list_kind))
        field_required(errors, "", "spec.names.listKind");
    check_label(names->plural, false, errors, "spec.names.plural");
    check_label(names->singular, false, errors, "spec.names.singular");
    check_label(names->kind, true, errors, "spec.names.kind");
    check_label(names->list_kind, true, errors, "spec.names.listKind");
    check_labels(&names->short_names, errors, "spec.names.shortNames");
    check_labels(&names->categories, errors, "spec.names.categories");
    if (!kp_empty(names->kind) && kp_streq(names->kind, names->list_kind))
        field_invalid(errors, names->list_kind, "kind and listKind may not be the same", "spec.names.listKind");
}

static bool is_protected(const char *group)
{
    return kp_streq(group, "k8s.io") || kp_streq(group, "kubernetes.io") || kp_ends_with(group, ".k8s.io") || kp_ends_with(group, ".kubernetes.io");
}

static void validate_group(const struct k8s_custom_resource_definition *crd, struct field_errors *errors)
{
    const char *group = crd->spec->group, *fault = kp_empty(group) ? NULL : name_is_subdomain(group);
    if (kp_empty(group))
        field_required(errors, "", "spec.group");
    else if (fault)
        field_invalid(errors, group, fault, "spec.group");
    else if (!strchr(group, '.'))
        field_invalid(errors, group, "should be a domain with at least one dot", "spec.group");
    const char *wanted = kp_arena_printf(errors->arena, "%s.%s", crd->spec->names->plural ? crd->spec->names->plural : "", group ? group : "");
    if (!kp_streq(crd->metadata->name, wanted))
        field_invalid(errors, crd->metadata->name, "must be spec.names.plural+\".\"+spec.group", "metadata.name");
    if (!kp_empty(group) && is_protected(group) && kp_empty(kp_string_map_get(&crd->metadata->annotations, APPROVAL)))
        field_required(errors, "protected groups must have approval annotation \"" APPROVAL "\", see https://github.com/kubernetes/enhancements/pull/1111",
                       "metadata.annotations[" APPROVAL "]");
}

/* ---- versions ------------------------------------------------------------------------------------------------------------- */
static void validate_column(const struct k8s_custom_resource_column_definition *column, struct field_errors *errors, const char *path)
{
    static const char *const types[] = {"boolean", "date", "integer", "number", "string", NULL};
    static const char *const formats[] = {"byte", "date", "date-time", "double", "float", "int32", "int64", "password", NULL};
    bool known = false;
    if (kp_empty(column->name))
        field_required(errors, "", "%s.name", path);
    for (size_t i = 0; types[i] && column->type; i++)
        known = known || kp_streq(types[i], column->type);
    if (kp_empty(column->type))
        field_required(errors, kp_arena_printf(errors->arena, "must be one of %s", "boolean,date,integer,number,string"), "%s.type", path);
    else if (!known)
        field_invalid(errors, column->type, "must be one of boolean,date,integer,number,string", "%s.type", path);
    known = kp_empty(column->format);
    for (size_t i = 0; formats[i] && !known; i++)
        known = kp_streq(formats[i], column->format);
    if (!known)
        field_invalid(errors, column->format, "must be one of byte,date,date-time,double,float,int32,int64,password", "%s.format", path);
    if (kp_empty(column->json_path)) {
        field_required(errors, "", "%s.jsonPath", path);
        return;
    }
    struct kp_error error = {0};
    struct kp_jsonpath *parsed = NULL;
    if (kp_jsonpath_parse(column->json_path, errors->arena, &parsed, &error) < 0)
        field_invalid(errors, column->json_path, kp_arena_printf(errors->arena, "illegal json path: %s", error.message), "%s.jsonPath", path);
}

/* ".spec.replicas": names and nothing else, below `under`. */
static void validate_simple_path(const char *value, const char *under, struct field_errors *errors, const char *path)
{
    if (kp_empty(value))
        field_required(errors, "", "%s", path);
    else if (value[0] != '.' || strpbrk(value, "[]'\"*$@ "))
        field_invalid(errors, value, "should be a valid json path without array notation", "%s", path);
    else if (!kp_starts_with(value, under))
        field_invalid(errors, value, kp_arena_printf(errors->arena, "should be a json path under %.*s", (int)strlen(under) - 1, under), "%s", path);
}

static void validate_subresources(const struct k8s_custom_resource_subresources *subresources, struct field_errors *errors, const char *path)
{
    const struct k8s_custom_resource_subresource_scale *scale = subresources ? subresources->scale : NULL;
    if (!scale)
        return;
    validate_simple_path(scale->spec_replicas_path, ".spec.", errors, kp_arena_printf(errors->arena, "%s.scale.specReplicasPath", path));
    validate_simple_path(scale->status_replicas_path, ".status.", errors, kp_arena_printf(errors->arena, "%s.scale.statusReplicasPath", path));
    if (!kp_empty(scale->label_selector_path) && !kp_starts_with(scale->label_selector_path, ".spec."))
        validate_simple_path(scale->label_selector_path, ".status.", errors, kp_arena_printf(errors->arena, "%s.scale.labelSelectorPath", path));
}

static void validate_version(const struct k8s_custom_resource_definition_version *version, struct field_errors *errors, const char *path)
{
    const char *fault = kp_empty(version->name) ? NULL : name_is_label_1035(version->name);
    if (kp_empty(version->name))
        field_required(errors, "", "%s.name", path);
    if (fault)
        field_invalid(errors, version->name, fault, "%s.name", path);
    if (!kp_empty(version->deprecation_warning) && !version->deprecated)
        field_invalid(errors, version->deprecation_warning, "can only be set for deprecated versions", "%s.deprecationWarning", path);
    if (version->deprecation_warning && strlen(version->deprecation_warning) > DEPRECATION_WARNING_MAX)
        field_too_long(errors, DEPRECATION_WARNING_MAX, "%s.deprecationWarning", path);
    if (!version->schema || !version->schema->open_apiv3_schema)
        field_required(errors, "schemas are required", "%s.schema.openAPIV3Schema", path);
    else
        structural_check(version->schema->open_apiv3_schema, kp_arena_printf(errors->arena, "%s.schema.openAPIV3Schema", path), errors);
    for (size_t i = 0; i < version->additional_printer_columns.len; i++)
        validate_column(&version->additional_printer_columns.items[i], errors, kp_arena_printf(errors->arena, "%s.additionalPrinterColumns[%zu]", path, i));
    validate_subresources(version->subresources, errors, kp_arena_printf(errors->arena, "%s.subresources", path));
    if (version->selectable_fields.len > SELECTABLE_FIELDS_MAX)
        field_too_many(errors, (int64_t)version->selectable_fields.len, SELECTABLE_FIELDS_MAX, "%s.selectableFields", path);
    for (size_t i = 0; i < version->selectable_fields.len; i++)
        validate_simple_path(version->selectable_fields.items[i].json_path, ".", errors,
                             kp_arena_printf(errors->arena, "%s.selectableFields[%zu].jsonPath", path, i));
}

static void validate_versions(const struct k8s_custom_resource_definition *crd, struct field_errors *errors)
{
    const struct k8s_custom_resource_definition_version_items *versions = &crd->spec->versions;
    size_t stored = 0;
    for (size_t i = 0; i < versions->len; i++) {
        stored += versions->items[i].storage;
        for (size_t j = 0; j < i; j++)
            if (kp_streq(versions->items[i].name, versions->items[j].name))
                field_invalid(errors, versions->items[i].name, "must contain unique version names", "spec.versions[%zu].name", i);
        validate_version(&versions->items[i], errors, kp_arena_printf(errors->arena, "spec.versions[%zu]", i));
    }
    if (!versions->len)
        field_required(errors, "must have exactly one version marked as storage version", "spec.versions");
    else if (stored != 1)
        field_invalid_raw(errors, kp_arena_printf(errors->arena, "%zu", stored), "must have exactly one version marked as storage version", "spec.versions");
}

static void validate_stored_versions(const struct k8s_custom_resource_definition *crd, struct field_errors *errors)
{
    for (size_t i = 0; i < crd->status->stored_versions.len; i++) {
        bool found = false;
        for (size_t j = 0; j < crd->spec->versions.len && !found; j++)
            found = kp_streq(crd->spec->versions.items[j].name, crd->status->stored_versions.items[i]);
        if (!found)
            field_invalid(errors, crd->status->stored_versions.items[i], "must appear in spec.versions", "status.storedVersions[%zu]", i);
    }
}

void crd_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    static const char *const scopes[] = {"Cluster", "Namespaced", NULL};
    const struct k8s_custom_resource_definition *crd = obj;
    (void)rq;
    validate_group(crd, errors);
    validate_names(crd->spec->names, errors);
    if (kp_empty(crd->spec->scope))
        field_required(errors, "", "spec.scope");
    else if (!kp_streq(crd->spec->scope, scopes[0]) && !kp_streq(crd->spec->scope, scopes[1]))
        field_not_supported(errors, crd->spec->scope, scopes, "spec.scope");
    validate_versions(crd, errors);
    validate_stored_versions(crd, errors);
    if (crd->spec->preserve_unknown_fields)
        field_invalid_raw(errors, "true", "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
                          "spec.preserveUnknownFields");
    /* Upstream calls a webhook for another strategy; this server has none, and says so instead of converting wrongly. */
    if (!kp_streq(crd->spec->conversion->strategy, "None"))
        field_not_supported(errors, crd->spec->conversion->strategy, (const char *const[]){"None", NULL}, "spec.conversion.strategy");
}

static bool is_established(const struct k8s_custom_resource_definition *crd)
{
    for (size_t i = 0; i < crd->status->conditions.len; i++)
        if (kp_streq(crd->status->conditions.items[i].type, "Established"))
            return kp_streq(crd->status->conditions.items[i].status, "True");
    return false;
}

static void immutable(const char *now, const char *before, struct field_errors *errors, const char *path)
{
    if (!kp_streq(now ? now : "", before ? before : ""))
        field_invalid(errors, now, "field is immutable", "%s", path);
}

void crd_validate_update(struct registry_request *rq, const void *obj, const void *old, struct field_errors *errors)
{
    const struct k8s_custom_resource_definition *crd = obj, *before = old;
    (void)rq;
    immutable(crd->spec->group, before->spec->group, errors, "spec.group");
    immutable(crd->spec->names->plural, before->spec->names->plural, errors, "spec.names.plural");
    if (!is_established(before))
        return;
    immutable(crd->spec->scope, before->spec->scope, errors, "spec.scope");
    immutable(crd->spec->names->kind, before->spec->names->kind, errors, "spec.names.kind");
}
