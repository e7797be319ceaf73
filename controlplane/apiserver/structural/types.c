/* A custom resource's schema as the codec's tables, as deep as server-side apply has to tell fields apart; below that, values are raw JSON. */
#include "controlplane/apiserver/structural/structural.h"

#define DEPTH_MAX 32
#define NAME_MAX_LEN 250 /* of a property that has a field of its own */

static bool is(const char *a, const char *b)
{
    return kp_streq(a, b);
}

/* The encoder writes names of fields as they are. */
static bool is_plain(const char *name)
{
    size_t len = strlen(name);
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)name[i] < 0x20 || name[i] == '"' || name[i] == '\\' || name[i] == 0x7f)
            return false;
    return len > 0 && len <= NAME_MAX_LEN;
}

static bool all_plain(const struct k8s_json_schema_props *schema)
{
    for (size_t i = 0; i < schema->properties.len; i++)
        if (!is_plain(schema->properties.items[i].key))
            return false;
    return schema->properties.len < KP_FIELDS_MAX - 2; /* metadata and the rest */
}

/* An object whose properties are merged one by one. */
static bool is_struct(const struct k8s_json_schema_props *schema)
{
    return schema && is(schema->type, "object") && schema->properties.len && all_plain(schema) && !schema->x_kubernetes_int_or_string &&
           !schema->x_kubernetes_embedded_resource && !is(schema->x_kubernetes_map_type, "atomic");
}

static struct kp_type *make_struct(const struct k8s_json_schema_props *schema, bool root, int depth, struct kp_arena *arena);

static const struct k8s_json_schema_props *items_of(const struct k8s_json_schema_props *schema)
{
    return schema->items ? schema->items->schema : NULL;
}

static const char *const *words(const struct kp_string_list *list, struct kp_arena *arena)
{
    const char **copy = KP_NEW_ARRAY(arena, const char *, list->len + 1);
    for (size_t i = 0; i < list->len; i++)
        copy[i] = kp_arena_strdup(arena, list->items[i]);
    return copy;
}

static const char *default_text(const struct k8s_json_schema_props *schema, struct kp_arena *arena)
{
    return schema->default_.json ? kp_arena_strndup(arena, schema->default_.json, schema->default_.len) : NULL;
}

/* The keys of a list are compared with their defaults. */
static void default_keys(const struct kp_type *type, const struct k8s_json_schema_props *items, const struct kp_string_list *keys, struct kp_arena *arena)
{
    for (size_t i = 0; i < keys->len; i++) {
        struct kp_field *field = (struct kp_field *)(uintptr_t)kp_field_find(type, keys->items[i]); /* ours, just made */
        for (size_t j = 0; field && j < items->properties.len; j++)
            if (is(items->properties.items[j].key, keys->items[i]))
                field->default_json = default_text(items->properties.items[j].value, arena);
    }
}

static void make_list(struct kp_field *field, const struct k8s_json_schema_props *schema, int depth, struct kp_arena *arena)
{
    const struct k8s_json_schema_props *items = items_of(schema);
    bool set = is(schema->x_kubernetes_list_type, "set"), map = is(schema->x_kubernetes_list_type, "map");
    if (!set && !(map && is_struct(items)))
        return;
    field->cardinality = KP_LIST;
    field->list_type = set ? KP_LIST_SET : KP_LIST_MAP;
    if (set)
        return;
    field->kind = KP_KIND_STRUCT;
    field->type = make_struct(items, false, depth + 1, arena);
    field->list_map_keys = words(&schema->x_kubernetes_list_map_keys, arena);
    default_keys(field->type, items, &schema->x_kubernetes_list_map_keys, arena);
}

static void make_map(struct kp_field *field, const struct k8s_json_schema_props *values, int depth, struct kp_arena *arena)
{
    bool text = is(values->type, "string") && !values->nullable && !values->x_kubernetes_int_or_string;
    if (!text && !is_struct(values))
        return;
    field->cardinality = KP_MAP;
    field->kind = text ? KP_KIND_STRING : KP_KIND_STRUCT;
    if (!text)
        field->type = make_struct(values, false, depth + 1, arena);
}

static size_t slot_size(const struct kp_field *field)
{
    if (field->cardinality != KP_ONE)
        return sizeof(struct kp_list);
    return field->kind == KP_KIND_STRUCT ? sizeof(void *) : sizeof(struct kp_raw);
}

static struct kp_field *add_field(struct kp_type *type, const char *name)
{
    struct kp_field *field = (struct kp_field *)(uintptr_t)&type->fields[type->n_fields++];
    *field = (struct kp_field){.json_name = name, .json_name_len = (uint8_t)strlen(name), .has_offset = -1, .kind = KP_KIND_RAW,
                               .cardinality = KP_ONE, .nullable = true, .doc = ""};
    return field;
}

static void place(struct kp_type *type, struct kp_field *field)
{
    field->offset = (uint32_t)type->size;
    type->size += slot_size(field);
}

static void add_property(struct kp_type *type, const char *name, const struct k8s_json_schema_props *schema, int depth, struct kp_arena *arena)
{
    struct kp_field *field = add_field(type, kp_arena_strdup(arena, name));
    bool deep = depth < DEPTH_MAX && schema && !schema->x_kubernetes_int_or_string && !schema->x_kubernetes_embedded_resource;
    const struct k8s_json_schema_props *values = deep && schema->additional_properties ? schema->additional_properties->schema : NULL;
    if (deep && is_struct(schema)) {
        field->kind = KP_KIND_STRUCT;
        field->type = make_struct(schema, false, depth + 1, arena);
    } else if (deep && is(schema->type, "array")) {
        make_list(field, schema, depth, arena);
    } else if (values && is(schema->type, "object") && !is(schema->x_kubernetes_map_type, "atomic")) {
        make_map(field, values, depth, arena);
    }
    place(type, field);
}

static struct kp_type *new_type(const char *name, size_t fields, struct kp_arena *arena)
{
    struct kp_type *type = KP_NEW(arena, struct kp_type);
    *type = (struct kp_type){.openapi_name = "", .name = name, .group = "", .version = "", .metadata_offset = -1, .doc = "",
                             .fields = KP_NEW_ARRAY(arena, struct kp_field, fields)};
    return type;
}

static void add_meta(struct kp_type *type, const struct kp_type *meta)
{
    struct kp_field *field = add_field(type, "metadata");
    field->kind = KP_KIND_STRUCT;
    field->type = meta;
    field->value = true;
    field->nullable = false;
    place(type, field);
    type->metadata_offset = (int32_t)field->offset;
}

/* What a schema does not name stays with the object here: dropping it is structural_prune's. */
static struct kp_type *make_struct(const struct k8s_json_schema_props *schema, bool root, int depth, struct kp_arena *arena)
{
    size_t count = schema ? schema->properties.len : 0;
    struct kp_type *type = new_type("", count + 2, arena);
    if (root) {
        add_meta(type, &k8s_object_meta_type);
        type->has_object_meta = true;
    }
    for (size_t i = 0; i < count; i++) {
        const char *name = schema->properties.items[i].key;
        if (!root || (!is(name, "apiVersion") && !is(name, "kind") && !is(name, "metadata")))
            add_property(type, name, schema->properties.items[i].value, depth, arena);
    }
    struct kp_field *rest = add_field(type, "");
    rest->rest = true;
    place(type, rest);
    return type;
}

static const char *openapi_name(const struct structural_names *names, const char *kind, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    for (const char *end = names->group + strlen(names->group); end > names->group;) { /* labels of the group from the last to the first */
        const char *start = end;
        while (start > names->group && start[-1] != '.')
            start--;
        kp_buf_append(&out, start, (size_t)(end - start));
        kp_buf_putc(&out, '.');
        end = start > names->group ? start - 1 : start;
    }
    kp_buf_printf(&out, "%s.%s", names->version, kind);
    return kp_arena_strdup(arena, out.data);
}

static void name_type(struct kp_type *type, const struct structural_names *names, const char *kind, struct kp_arena *arena)
{
    type->name = type->kind = kp_arena_strdup(arena, kind);
    type->group = kp_arena_strdup(arena, names->group);
    type->version = kp_arena_strdup(arena, names->version);
    type->openapi_name = openapi_name(names, kind, arena);
}

void structural_types(const struct k8s_json_schema_props *schema, const struct structural_names *names, struct kp_arena *arena,
                      const struct kp_type **ret_type, const struct kp_type **ret_list_type)
{
    KP_AUTO_BUF struct kp_buf json = {0};
    bool fits = schema && all_plain(schema);
    struct kp_type *type = make_struct(fits ? schema : NULL, true, 0, arena), *list = new_type("", 2, arena);
    name_type(type, names, names->kind, arena);
    name_type(list, names, names->list_kind, arena);
    if (schema)
        kp_json_encode(&k8s_json_schema_props_type, schema, &json);
    type->schema_json = kp_arena_strdup(arena, json.len ? json.data : "{\"type\":\"object\",\"x-kubernetes-preserve-unknown-fields\":true}");
    add_meta(list, &k8s_list_meta_type);
    struct kp_field *items = add_field(list, "items");
    items->kind = KP_KIND_STRUCT;
    items->cardinality = KP_LIST;
    items->type = type;
    items->required = items->always = true;
    place(list, items);
    list->is_list = true;
    list->items_offset = items->offset;
    list->item_type = type;
    *ret_type = type;
    *ret_list_type = list;
}
