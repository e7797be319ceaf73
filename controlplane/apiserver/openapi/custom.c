/* Schemas of custom resources: what their definitions say, with what every object of the API has (as upstream's openapi/builder). */
#include "controlplane/apiserver/openapi/openapi_internal.h"

#include "api/k8s.h"

#define PRESERVE "x-kubernetes-preserve-unknown-fields"

static bool is_true(const struct kp_value *schema, const char *key)
{
    const struct kp_value *value = kp_value_get(schema, key);
    return value && value->kind == KP_VALUE_BOOL && value->boolean;
}

static bool is_type(const struct kp_value *schema, const char *type) { return kp_streq(kp_value_str(kp_value_get(schema, "type")), type); }

static struct kp_value *object_of(struct kp_arena *arena, const char *key, struct kp_value *value)
{
    struct kp_value *object = kp_value_object(arena);
    kp_value_set(arena, object, key, value);
    return object;
}

static void set_string(struct kp_arena *arena, struct kp_value *object, const char *key, const char *s)
{
    kp_value_set(arena, object, key, kp_value_string(arena, s));
}

static struct kp_value *typed(struct kp_arena *arena, const char *type, const char *doc)
{
    struct kp_value *schema = object_of(arena, "type", kp_value_string(arena, type));
    if (doc)
        set_string(arena, schema, "description", doc);
    return schema;
}

/* OpenAPI 3.0 ignores what stands beside $ref, so that there it goes into allOf. */
static struct kp_value *reference(enum oa_version version, const struct kp_type *type, const char *doc, struct kp_arena *arena)
{
    const char *place = version == OA_V3 ? "#/components/schemas/%s" : "#/definitions/%s";
    struct kp_value *ref = object_of(arena, "$ref", kp_value_string(arena, kp_arena_printf(arena, place, type->openapi_name)));
    if (doc && version == OA_V3) {
        struct kp_value *all = kp_value_array(arena);
        kp_value_append(arena, all, ref);
        ref = object_of(arena, "allOf", all);
    }
    if (doc)
        set_string(arena, ref, "description", doc);
    return ref;
}

static void add_object_properties(enum oa_version version, struct kp_value *schema, const struct kp_type *meta, const char *doc, struct kp_arena *arena)
{
    struct kp_value *properties = kp_value_get(schema, "properties");
    if (!properties || properties->kind != KP_VALUE_OBJECT) {
        properties = kp_value_object(arena);
        kp_value_set(arena, schema, "properties", properties);
    }
    kp_value_set(arena, properties, "apiVersion", typed(arena, "string", "The group and version of this form of the object."));
    kp_value_set(arena, properties, "kind", typed(arena, "string", "The kind of the object."));
    kp_value_set(arena, properties, "metadata", reference(version, meta, doc, arena));
}

static void require(struct kp_value *schema, const char *name, struct kp_arena *arena)
{
    struct kp_value *required = kp_value_get(schema, "required");
    if (!required || required->kind != KP_VALUE_ARRAY) {
        required = kp_value_array(arena);
        kp_value_set(arena, schema, "required", required);
    }
    for (size_t i = 0; kp_value_at(required, i); i++)
        if (kp_streq(kp_value_str(kp_value_at(required, i)), name))
            return;
    kp_value_append(arena, required, kp_value_string(arena, name));
}

/* ---- OpenAPI 3: numbers or strings say so ----------------------------------------------------------------------------------- */
static bool is_number_or_string(const struct kp_value *any_of)
{
    return any_of && any_of->kind == KP_VALUE_ARRAY && any_of->array.len == 2 && is_type(kp_value_at(any_of, 0), "integer") &&
           is_type(kp_value_at(any_of, 1), "string");
}

static void unfold(struct kp_value *schema, struct kp_arena *arena)
{
    struct kp_value *any_of = kp_value_get(schema, "anyOf"), *all_of = kp_value_get(schema, "allOf");
    if (!is_true(schema, "x-kubernetes-int-or-string") || is_number_or_string(any_of) ||
        is_number_or_string(kp_value_get(kp_value_at(all_of, 0), "anyOf")))
        return;
    struct kp_value *either = kp_value_array(arena);
    kp_value_append(arena, either, typed(arena, "integer", NULL));
    kp_value_append(arena, either, typed(arena, "string", NULL));
    if (!any_of) {
        kp_value_set(arena, schema, "anyOf", either);
        return;
    }
    if (!all_of || all_of->kind != KP_VALUE_ARRAY) {
        all_of = kp_value_array(arena);
        kp_value_set(arena, schema, "allOf", all_of);
    }
    kp_value_array_insert(arena, all_of, 0, object_of(arena, "anyOf", either));
}

/* ---- Swagger 2.0: what it does not know goes, and what kubectl takes for more than it is --------------------------------------- */
static void remove_all(struct kp_value *schema, const char *const *keys)
{
    for (size_t i = 0; keys[i]; i++)
        kp_value_remove(schema, keys[i]);
}

static void release_nullable(struct kp_value *schema)
{
    const struct kp_value *properties = kp_value_get(schema, "properties");
    struct kp_value *required = kp_value_get(schema, "required");
    for (size_t i = 0; kp_value_at(required, i);) {
        const char *name = kp_value_str(kp_value_at(required, i));
        if (name && is_true(kp_value_get(properties, name), "nullable"))
            kp_value_array_remove(required, i);
        else
            i++;
    }
    if (is_true(kp_value_get(schema, "additionalProperties"), "nullable") || (required && !kp_value_at(required, 0)))
        kp_value_remove(schema, "required");
}

static void simplify(struct kp_value *schema)
{
    bool preserve = is_true(schema, PRESERVE), nullable = is_true(schema, "nullable");
    remove_all(schema, (const char *const[]){"allOf", "anyOf", "oneOf", "not", "nullable", NULL});
    if (nullable)
        kp_value_remove(schema, "type");
    if (nullable || preserve)
        remove_all(schema, (const char *const[]){"items", "properties", NULL});
    if ((is_type(schema, "array") && !kp_value_get(schema, "items")) || (preserve && is_type(schema, "object")))
        kp_value_remove(schema, "type");
    release_nullable(schema);
}

/* ---- the whole ---------------------------------------------------------------------------------------------------------------- */
/* Top down. As deep as the parser let the schema be. */
static void convert(enum oa_version version, struct kp_value *schema, struct kp_arena *arena)
{
    if (!schema || schema->kind != KP_VALUE_OBJECT)
        return;
    if (version == OA_V2)
        simplify(schema);
    else
        unfold(schema, arena);
    struct kp_value *properties = kp_value_get(schema, "properties");
    for (size_t i = 0; properties && properties->kind == KP_VALUE_OBJECT && i < properties->object.len; i++)
        convert(version, properties->object.members[i].value, arena);
    convert(version, kp_value_get(schema, "items"), arena);
    convert(version, kp_value_get(schema, "additionalProperties"), arena);
    if (is_true(schema, "x-kubernetes-embedded-resource") && !(version == OA_V2 && is_true(schema, PRESERVE))) {
        add_object_properties(version, schema, &k8s_object_meta_type, "Standard metadata of the object.", arena);
        require(schema, "kind", arena);
        require(schema, "apiVersion", arena);
    }
}

/* Properties in Swagger 2.0 would make kubectl refuse all others, so that a root that keeps what it does not know has none there. */
static struct kp_value *object_schema(enum oa_version version, const struct kp_type *type, struct kp_arena *arena)
{
    struct kp_value *schema = NULL;
    const char *text = type->schema_json;
    if (!text || kp_value_parse(text, strlen(text), arena, NULL, &schema, NULL) < 0 || schema->kind != KP_VALUE_OBJECT ||
        (version == OA_V2 && is_true(schema, PRESERVE)))
        return typed(arena, "object", NULL);
    convert(version, schema, arena);
    add_object_properties(version, schema, &k8s_object_meta_type, "Standard metadata of the object.", arena);
    set_string(arena, schema, "type", "object");
    return schema;
}

static struct kp_value *list_schema(enum oa_version version, const struct kp_type *type, struct kp_arena *arena)
{
    const char *kind = type->item_type->name;
    struct kp_value *schema = typed(arena, "object", kp_arena_printf(arena, "A list of objects of the kind %s.", kind));
    struct kp_value *items = typed(arena, "array", "The objects.");
    add_object_properties(version, schema, &k8s_list_meta_type, "Standard metadata of the list.", arena);
    kp_value_set(arena, items, "items", reference(version, type->item_type, NULL, arena));
    kp_value_set(arena, kp_value_get(schema, "properties"), "items", items);
    require(schema, "items", arena);
    return schema;
}

struct kp_value *oa_custom_schema(enum oa_version version, const struct kp_type *type, struct kp_arena *arena)
{
    struct kp_value *schema = type->is_list ? list_schema(version, type, arena) : object_schema(version, type, arena);
    struct kp_value *kinds = kp_value_array(arena), *kind = object_of(arena, "group", kp_value_string(arena, type->group));
    set_string(arena, kind, "kind", type->kind ? type->kind : type->name);
    set_string(arena, kind, "version", type->version);
    kp_value_append(arena, kinds, kind);
    kp_value_set(arena, schema, "x-kubernetes-group-version-kind", kinds);
    return schema;
}
