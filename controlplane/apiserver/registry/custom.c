/* Custom resources: the strategy row, the resources and the tables that one CustomResourceDefinition makes, and what its schemas do to objects. */
#include "controlplane/apiserver/registry/registry_internal.h"

#include "controlplane/apiserver/structural/structural.h"

#define ALL_VERBS (KP_VERB_CREATE | KP_VERB_DELETE | KP_VERB_DELETECOLLECTION | KP_VERB_GET | KP_VERB_LIST | KP_VERB_PATCH | KP_VERB_UPDATE | KP_VERB_WATCH)
#define SCHEMAS_BYTES_MAX ((size_t)4 << 30) /* of all schemas there ever were; the store holds less */
#define SUB_VERBS (KP_VERB_GET | KP_VERB_PATCH | KP_VERB_UPDATE)

/* What a schema was made into. Once for each text of a schema under one name: definitions are changed for many reasons, and what was made stays. */
struct custom_schema {
    struct structural *structural;
    const struct kp_type *type, *list_type;
};
struct registry_schemas {
    struct kp_arena *arena;
    struct kp_strmap *by_text;
};

/* One version: kp_resource.custom leads to it. */
struct custom_version {
    struct registry_custom *owner;
    struct kp_resource resource;
    const struct structural *structural;
    bool served;
    const char *warning; /* of a deprecated one; NULL: none */
};
struct registry_custom {
    struct kp_arena *arena;
    struct registry_kind kind;
    struct custom_version *versions;
    size_t n_versions;
    const struct kp_resource **served;
    size_t n_served;
    bool terminating; /* atomic: its definition is being deleted, nothing new may come */
};

static const struct custom_version *version_of(const struct kp_resource *resource)
{
    return resource->custom;
}

static const struct structural *schema_of(const struct registry_request *rq)
{
    return version_of(rq->resource)->structural;
}

/* ---- hooks of the row: objects are of the storage version's type; the schema that counts is that of the version asked ------------------------------ */
static void replace(struct registry_request *rq, void *obj, const struct kp_value *tree)
{
    const struct kp_type *type = rq->kind->storage->type;
    struct kp_error error = {0};
    void *made = NULL;
    if (kp_value_to_object(type, tree, rq->arena, NULL, &made, &error) == 0)
        memcpy(obj, made, type->size);
    else /* what validation refuses then: the object stays as it came */
        kp_debug("a custom resource's defaults do not fit its type", "error", error.message, NULL);
}

static void custom_defaults(struct registry_request *rq, void *obj)
{
    struct kp_value *tree = kp_value_from_object(rq->kind->storage->type, obj, rq->arena);
    structural_prune(schema_of(rq), tree, rq->arena, NULL);
    structural_default(schema_of(rq), tree, rq->arena);
    replace(rq, obj, tree);
}

static void custom_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    structural_validate(schema_of(rq), kp_value_from_object(rq->kind->storage->type, obj, rq->arena), errors);
    if (rq->kind->scale_spec_path)
        validate_scale_paths(rq, obj, errors);
}

static void custom_validate_create(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    structural_rules(schema_of(rq), kp_value_from_object(rq->kind->storage->type, obj, rq->arena), NULL, errors, &rq->warnings);
}

static void custom_validate_update(struct registry_request *rq, const void *obj, const void *old, struct field_errors *errors)
{
    const struct kp_type *type = rq->kind->storage->type;
    structural_rules(schema_of(rq), kp_value_from_object(type, obj, rq->arena), kp_value_from_object(type, old, rq->arena), errors, &rq->warnings);
}

bool registry_custom_changed(const struct registry_request *rq, const void *obj, const void *old)
{
    const struct kp_type *type = rq->kind->storage->type;
    struct kp_value *a = kp_value_from_object(type, obj, rq->arena), *b = kp_value_from_object(type, old, rq->arena);
    kp_value_remove(a, "metadata");
    kp_value_remove(b, "metadata");
    if (kp_subresource_find(rq->kind->storage, "status")) {
        kp_value_remove(a, "status");
        kp_value_remove(b, "status");
    }
    return !kp_value_equal(a, b);
}

/* ---- schemas --------------------------------------------------------------------------------------------------------------------------------- */
struct registry_schemas *registry_schemas_new(void)
{
    struct registry_schemas *schemas = kp_calloc(1, sizeof(*schemas));
    schemas->arena = kp_arena_new(SCHEMAS_BYTES_MAX);
    schemas->by_text = kp_strmap_new();
    return schemas;
}

static const struct custom_schema *find_schema(struct registry_schemas *schemas, const struct k8s_json_schema_props *schema, const struct structural_names *names)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    kp_buf_printf(&text, "%s/%s %s %s ", names->group, names->version, names->kind, names->list_kind);
    if (schema)
        kp_json_encode(&k8s_json_schema_props_type, schema, &text);
    struct custom_schema *found = kp_strmap_get(schemas->by_text, text.data);
    if (found)
        return found;
    found = KP_NEW(schemas->arena, struct custom_schema);
    found->structural = structural_new(schema);
    structural_types(schema, names, schemas->arena, &found->type, &found->list_type);
    kp_strmap_put(schemas->by_text, text.data, found);
    return found;
}

/* ---- making -------------------------------------------------------------------------------------------------------------------------------- */
static const char *copy(const struct registry_custom *custom, const char *s)
{
    return kp_arena_strdup(custom->arena, s ? s : "");
}

static const char *const *copy_words(const struct registry_custom *custom, const struct kp_string_list *list)
{
    const char **out = KP_NEW_ARRAY(custom->arena, const char *, list->len + 1);
    for (size_t i = 0; i < list->len; i++)
        out[i] = copy(custom, list->items[i]);
    return out;
}

static void make_columns(struct registry_custom *custom, struct kp_resource *resource, const struct k8s_custom_resource_definition_version *version)
{
    size_t count = version->additional_printer_columns.len;
    struct kp_column *columns = KP_NEW_ARRAY(custom->arena, struct kp_column, count + 1);
    for (size_t i = 0; i < count; i++) {
        const struct k8s_custom_resource_column_definition *from = &version->additional_printer_columns.items[i];
        columns[i] = (struct kp_column){.name = copy(custom, from->name), .type = copy(custom, from->type), .format = copy(custom, from->format),
                                        .priority = from->priority, .doc = copy(custom, from->description), .path = copy(custom, from->json_path)};
    }
    if (!count)
        columns[count++] = (struct kp_column){.name = "Age", .type = "date", .format = "", .doc = "Time since the object was created.",
                                              .path = ".metadata.creationTimestamp"};
    resource->columns = columns;
    resource->n_columns = count;
}

static void make_subresources(struct registry_custom *custom, struct kp_resource *resource, const struct k8s_custom_resource_definition_version *version)
{
    struct kp_subresource *subs = KP_NEW_ARRAY(custom->arena, struct kp_subresource, 2);
    resource->subresources = subs;
    if (version->subresources && version->subresources->status)
        subs[resource->n_subresources++] = (struct kp_subresource){.name = "status", .verbs = SUB_VERBS, .group = resource->group,
                                                                   .version = resource->version, .kind = resource->kind, .type = resource->type};
    if (version->subresources && version->subresources->scale)
        subs[resource->n_subresources++] = (struct kp_subresource){.name = "scale", .verbs = SUB_VERBS, .group = "autoscaling", .version = "v1",
                                                                   .kind = "Scale", .type = &k8s_scale_type};
}

static const char *deprecation(const struct registry_custom *custom, const struct k8s_custom_resource_definition *crd,
                               const struct k8s_custom_resource_definition_version *version)
{
    if (!version->deprecated)
        return NULL;
    if (!kp_empty(version->deprecation_warning))
        return copy(custom, version->deprecation_warning);
    return kp_arena_printf(custom->arena, "%s/%s %s is deprecated", crd->spec->group, version->name, crd->spec->names->kind);
}

static void make_version(struct registry_custom *custom, const struct k8s_custom_resource_definition *crd,
                         const struct k8s_custom_resource_definition_version *version, struct registry_schemas *schemas)
{
    const struct k8s_custom_resource_definition_names *names = crd->spec->names;
    const struct structural_names type_names = {crd->spec->group, version->name, names->kind, names->list_kind};
    const struct custom_schema *schema = find_schema(schemas, version->schema ? version->schema->open_apiv3_schema : NULL, &type_names);
    struct custom_version *out = &custom->versions[custom->n_versions++];
    struct kp_resource *resource = &out->resource;
    *out = (struct custom_version){.owner = custom, .structural = schema->structural, .served = version->served, .warning = deprecation(custom, crd, version)};
    *resource = (struct kp_resource){.group = copy(custom, crd->spec->group), .version = copy(custom, version->name), .name = copy(custom, names->plural),
                                     .singular = copy(custom, names->singular), .kind = copy(custom, names->kind),
                                     .short_names = copy_words(custom, &names->short_names), .categories = copy_words(custom, &names->categories),
                                     .namespaced = kp_streq(crd->spec->scope, "Namespaced"), .verbs = ALL_VERBS, .custom = out,
                                     .type = schema->type, .list_type = schema->list_type};
    make_columns(custom, resource, version);
    make_subresources(custom, resource, version);
    if (version->served)
        custom->served[custom->n_served++] = resource;
}

static const char *without_dot(const char *path)
{
    return path[0] == '.' ? path + 1 : path;
}

static void make_row(struct registry_custom *custom, const struct k8s_custom_resource_definition_version *storage)
{
    struct registry_kind *kind = &custom->kind;
    const struct kp_resource *resource = kind->storage;
    const char **fields = KP_NEW_ARRAY(custom->arena, const char *, storage->selectable_fields.len + 1);
    for (size_t i = 0; i < storage->selectable_fields.len; i++)
        fields[i] = copy(custom, without_dot(storage->selectable_fields.items[i].json_path));
    *kind = (struct registry_kind){.group = resource->group, .resource = resource->name, .version = resource->version, .storage = resource,
                                   .prefix = kp_arena_printf(custom->arena, "/registry/%s/%s/", resource->group, resource->name),
                                   .fields = fields, .flags = KIND_GENERATION | KIND_CONDITIONAL_UPDATE | KIND_CUSTOM,
                                   .defaults = custom_defaults,
                                   .validate = custom_validate,
                                   .validate_create = custom_validate_create,
                                   .validate_update = custom_validate_update};
    kind->cache_kind = (struct wcache_kind){resource, kind->prefix, fields};
    if (storage->subresources && storage->subresources->scale) {
        const struct k8s_custom_resource_subresource_scale *scale = storage->subresources->scale;
        kind->scale_spec_path = copy(custom, scale->spec_replicas_path);
        kind->scale_status_path = copy(custom, scale->status_replicas_path);
        kind->scale_selector_path = kp_empty(scale->label_selector_path) ? NULL : copy(custom, scale->label_selector_path);
    }
}

struct registry_custom *registry_custom_new(const struct k8s_custom_resource_definition *crd, struct registry_schemas *schemas)
{
    struct kp_arena *arena = kp_arena_new(0);
    struct registry_custom *custom = KP_NEW(arena, struct registry_custom);
    size_t count = crd->spec->versions.len;
    custom->arena = arena;
    custom->versions = KP_NEW_ARRAY(arena, struct custom_version, count + 1);
    custom->served = KP_NEW_ARRAY(arena, const struct kp_resource *, count + 1);
    for (size_t i = 0; i < count; i++)
        make_version(custom, crd, &crd->spec->versions.items[i], schemas);
    for (size_t i = 0; i < count; i++)
        if (crd->spec->versions.items[i].storage) {
            custom->kind.storage = &custom->versions[i].resource;
            make_row(custom, &crd->spec->versions.items[i]);
        }
    KP_ASSERT(custom->kind.storage); /* validation wants exactly one */
    return custom;
}

void registry_custom_serve(struct registry_custom *custom, struct wcache *cache)
{
    custom->kind.cache = cache;
}

const struct registry_kind *registry_custom_kind(const struct registry_custom *custom)
{
    return &custom->kind;
}

const struct wcache_kind *registry_custom_cache_kind(const struct registry_custom *custom)
{
    return &custom->kind.cache_kind;
}

const struct kp_resource *const *registry_custom_resources(const struct registry_custom *custom, size_t *ret_count)
{
    *ret_count = custom->n_served;
    return custom->served;
}

const struct kp_resource *registry_custom_storage(const struct registry_custom *custom)
{
    return custom->kind.storage;
}

void registry_custom_terminate(struct registry_custom *custom)
{
    __atomic_store_n(&custom->terminating, true, __ATOMIC_RELEASE);
}

/* ---- for those who serve them --------------------------------------------------------------------------------------------------------------------- */
const struct registry_kind *registry_kind_of_custom(const struct kp_resource *resource)
{
    return &version_of(resource)->owner->kind;
}

bool registry_custom_terminating(const struct kp_resource *resource)
{
    return __atomic_load_n(&version_of(resource)->owner->terminating, __ATOMIC_ACQUIRE);
}

const char *registry_custom_warning(const struct kp_resource *resource)
{
    return version_of(resource)->warning;
}

void registry_custom_prune(const struct kp_resource *resource, struct kp_value *object, struct kp_arena *arena, struct kp_string_list *problems)
{
    struct kp_string_list dropped = {0};
    structural_prune(version_of(resource)->structural, object, arena, &dropped);
    for (size_t i = 0; i < dropped.len; i++)
        kp_string_list_add(arena, problems, kp_arena_printf(arena, "unknown field \"%s\"", dropped.items[i]));
}

int registry_custom_decode(const struct kp_resource *resource, struct kp_value *object, struct kp_arena *arena, void **ret_obj, struct field_errors *errors,
                           struct kp_error *error)
{
    const struct structural *structural = version_of(resource)->structural;
    if (kp_value_to_object(resource->type, object, arena, NULL, ret_obj, error) == 0)
        return 0;
    structural_default(structural, object, arena);
    structural_validate(structural, object, errors);
    return error->code;
}

/* Strategy None: what differs between versions is the name alone. */
void *registry_convert_custom(const struct kp_type *from, const void *obj, const struct kp_type *to, struct kp_arena *arena)
{
    char api_version[KP_API_VERSION_MAX];
    struct kp_value *tree = kp_value_from_object(from, obj, arena);
    struct kp_error error = {0};
    void *made = NULL;
    kp_value_set(arena, tree, "apiVersion", kp_value_string(arena, kp_type_api_version(to, api_version)));
    if (kp_value_to_object(to, tree, arena, NULL, &made, &error) == 0)
        return made;
    /* A value that one version has as an object and the other as something else: what can be said of it in the other is its metadata. */
    kp_warn("a custom resource does not fit another version of its kind", "kind", to->kind, "version", to->version, "error", error.message, NULL);
    made = kp_object_new(to, arena);
    *kp_object_meta(to, made) = *kp_object_meta(from, obj);
    return made;
}
