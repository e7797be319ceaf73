/* CustomResourceDefinitions as controllers see them: without schemas, and what each defines. */
#include "controlplane/controller-manager/customs.h"

/* ---- what is cached of them -------------------------------------------------------------------------------------------------- */
/* The generated structs, decoded by tables with fewer fields: whatever is not named here is skipped. In JSON only. */
#define STRING(of, member, name) {.json_name = name, .json_name_len = sizeof(name) - 1, .offset = offsetof(struct of, member), .has_offset = -1, .kind = KP_KIND_STRING}
#define BOOL(of, member, name) \
    {.json_name = name, .json_name_len = sizeof(name) - 1, .offset = offsetof(struct of, member), .has_offset = offsetof(struct of, has_##member), .kind = KP_KIND_BOOL}
#define STRUCT(of, member, name, of_type) \
    {.json_name = name, .json_name_len = sizeof(name) - 1, .offset = offsetof(struct of, member), .has_offset = -1, .kind = KP_KIND_STRUCT, .type = of_type, .value = true}
#define STRUCTS(of, member, name, of_type) \
    {.json_name = name, .json_name_len = sizeof(name) - 1, .offset = offsetof(struct of, member), .has_offset = -1, .kind = KP_KIND_STRUCT, .cardinality = KP_LIST, .type = of_type}
#define TABLE(table) .fields = table, .n_fields = KP_ARRAY_LEN(table), .group = "apiextensions.k8s.io", .version = "v1", .openapi_name = ""

static const struct kp_field meta_fields[] = {
    STRING(k8s_object_meta, name, "name"),
    STRING(k8s_object_meta, uid, "uid"),
    STRING(k8s_object_meta, resource_version, "resourceVersion"),
};
static const struct kp_type meta_type = {.name = "ObjectMeta", .size = sizeof(struct k8s_object_meta), .metadata_offset = -1, TABLE(meta_fields)};

static const struct kp_field names_fields[] = {
    STRING(k8s_custom_resource_definition_names, plural, "plural"),
    STRING(k8s_custom_resource_definition_names, singular, "singular"),
    STRING(k8s_custom_resource_definition_names, kind, "kind"),
};
static const struct kp_type names_type = {
    .name = "CustomResourceDefinitionNames", .size = sizeof(struct k8s_custom_resource_definition_names), .metadata_offset = -1, TABLE(names_fields),
};

static const struct kp_field version_fields[] = {
    STRING(k8s_custom_resource_definition_version, name, "name"),
    BOOL(k8s_custom_resource_definition_version, served, "served"),
    BOOL(k8s_custom_resource_definition_version, storage, "storage"),
};
static const struct kp_type version_type = {
    .name = "CustomResourceDefinitionVersion", .size = sizeof(struct k8s_custom_resource_definition_version), .metadata_offset = -1, TABLE(version_fields),
};

static const struct kp_field spec_fields[] = {
    STRING(k8s_custom_resource_definition_spec, group, "group"),
    STRUCT(k8s_custom_resource_definition_spec, names, "names", &names_type),
    STRING(k8s_custom_resource_definition_spec, scope, "scope"),
    STRUCTS(k8s_custom_resource_definition_spec, versions, "versions", &version_type),
};
static const struct kp_type spec_type = {
    .name = "CustomResourceDefinitionSpec", .size = sizeof(struct k8s_custom_resource_definition_spec), .metadata_offset = -1, TABLE(spec_fields),
};

static const struct kp_field condition_fields[] = {
    STRING(k8s_custom_resource_definition_condition, type, "type"),
    STRING(k8s_custom_resource_definition_condition, status, "status"),
};
static const struct kp_type condition_type = {
    .name = "CustomResourceDefinitionCondition", .size = sizeof(struct k8s_custom_resource_definition_condition), .metadata_offset = -1, TABLE(condition_fields),
};

static const struct kp_field status_fields[] = {
    STRUCTS(k8s_custom_resource_definition_status, conditions, "conditions", &condition_type),
    STRUCT(k8s_custom_resource_definition_status, accepted_names, "acceptedNames", &names_type),
};
static const struct kp_type status_type = {
    .name = "CustomResourceDefinitionStatus", .size = sizeof(struct k8s_custom_resource_definition_status), .metadata_offset = -1, TABLE(status_fields),
};

static const struct kp_field definition_fields[] = {
    STRUCT(k8s_custom_resource_definition, metadata, "metadata", &meta_type),
    STRUCT(k8s_custom_resource_definition, spec, "spec", &spec_type),
    STRUCT(k8s_custom_resource_definition, status, "status", &status_type),
};
static const struct kp_type definition_type = {
    .name = "CustomResourceDefinition", .kind = "CustomResourceDefinition", .size = sizeof(struct k8s_custom_resource_definition),
    .metadata_offset = offsetof(struct k8s_custom_resource_definition, metadata), .has_object_meta = true, TABLE(definition_fields),
};

static const struct kp_field list_fields[] = {
    STRUCT(k8s_custom_resource_definition_list, metadata, "metadata", &k8s_list_meta_type),
    STRUCTS(k8s_custom_resource_definition_list, items, "items", &definition_type),
};
static const struct kp_type list_type = {
    .name = "CustomResourceDefinitionList", .kind = "CustomResourceDefinitionList", .size = sizeof(struct k8s_custom_resource_definition_list),
    .metadata_offset = offsetof(struct k8s_custom_resource_definition_list, metadata), .is_list = true,
    .items_offset = offsetof(struct k8s_custom_resource_definition_list, items), .item_type = &definition_type, TABLE(list_fields),
};

static const char *const no_names[] = {NULL};
#define READ_VERBS (KP_VERB_GET | KP_VERB_LIST | KP_VERB_WATCH)
const struct kp_resource customs_definitions_resource = {
    .group = "apiextensions.k8s.io", .version = "v1", .name = "customresourcedefinitions", .singular = "customresourcedefinition",
    .kind = "CustomResourceDefinition", .short_names = no_names, .categories = no_names, .verbs = READ_VERBS, .type = &definition_type, .list_type = &list_type,
};

/* ---- what they define ---------------------------------------------------------------------------------------------------------- */
static bool is_established(const struct k8s_custom_resource_definition *definition)
{
    for (size_t i = 0; i < definition->status->conditions.len; i++)
        if (kp_streq(definition->status->conditions.items[i].type, "Established"))
            return kp_streq(definition->status->conditions.items[i].status, "True");
    return false;
}

bool customs_describe(const struct k8s_custom_resource_definition *definition, struct kp_arena *arena, struct kp_resource *ret_resource,
                      struct kp_string_list *ret_served)
{
    const struct k8s_custom_resource_definition_spec *spec = definition->spec;
    const struct k8s_custom_resource_definition_names *accepted = definition->status->accepted_names;
    const struct k8s_custom_resource_definition_names *names = kp_empty(accepted->plural) || kp_empty(accepted->kind) ? spec->names : accepted;
    struct kp_string_list served = {0};
    const char *version = NULL;
    if (!is_established(definition) || kp_empty(spec->group) || kp_empty(names->plural) || kp_empty(names->kind))
        return false;
    for (size_t i = 0; i < spec->versions.len; i++) {
        const struct k8s_custom_resource_definition_version *v = &spec->versions.items[i];
        if (!v->served || kp_empty(v->name))
            continue;
        kp_string_list_add(arena, &served, v->name);
        if (!version || v->storage)
            version = v->name;
    }
    if (!version)
        return false;
    *ret_resource = (struct kp_resource){
        .group = spec->group, .version = version, .name = names->plural, .singular = names->singular, .kind = names->kind,
        .short_names = no_names, .categories = no_names, .namespaced = kp_streq(spec->scope, "Namespaced"),
        .verbs = READ_VERBS | KP_VERB_CREATE | KP_VERB_UPDATE | KP_VERB_PATCH | KP_VERB_DELETE | KP_VERB_DELETECOLLECTION,
        .type = &k8s_partial_object_metadata_type, .list_type = &k8s_partial_object_metadata_list_type,
    };
    if (ret_served)
        *ret_served = served;
    return true;
}

const struct kp_resource *customs_copy(const struct kp_resource *resource, struct kp_arena *arena)
{
    struct kp_resource *copy = KP_NEW(arena, struct kp_resource);
    *copy = *resource;
    copy->group = kp_arena_strdup(arena, resource->group);
    copy->version = kp_arena_strdup(arena, resource->version);
    copy->name = kp_arena_strdup(arena, resource->name);
    copy->singular = kp_arena_strdup(arena, resource->singular ? resource->singular : "");
    copy->kind = kp_arena_strdup(arena, resource->kind);
    return copy;
}
