/* Makes the tree that pruning, defaulting and validation walk, of a schema that was checked. */
#include "controlplane/apiserver/structural/structural_internal.h"

static struct snode *make(struct structural *st, const struct k8s_json_schema_props *schema, int depth);

static const struct {
    const char *name;
    unsigned type;
} types[] = {{"object", TYPE_OBJECT}, {"array", TYPE_ARRAY},   {"string", TYPE_STRING},
             {"integer", TYPE_INTEGER}, {"number", TYPE_NUMBER}, {"boolean", TYPE_BOOLEAN}};

bool structural_is_meta_field(const char *name)
{
    return strcmp(name, "apiVersion") == 0 || strcmp(name, "kind") == 0 || strcmp(name, "metadata") == 0;
}

static int compare_properties(const void *a, const void *b)
{
    return strcmp(((const struct sproperty *)a)->name, ((const struct sproperty *)b)->name);
}

const struct sproperty *sproperty_find(const struct snode *node, const char *name)
{
    const struct sproperty key = {.name = name};
    return node->n_properties > 0 ? bsearch(&key, node->properties, node->n_properties, sizeof(key), compare_properties) : NULL;
}

const struct snode *snode_property(const struct snode *node, const char *name)
{
    const struct sproperty *found = sproperty_find(node, name);
    return found ? found->node : NULL;
}

const struct snode *snode_member(const struct snode *node, const char *name)
{
    const struct snode *property = snode_property(node, name);
    return property ? property : node->additional;
}

/* NULL when the text is not JSON, or says null, which is as good as nothing. */
static struct kp_value *parse(struct structural *st, struct snode *node, const struct kp_raw *raw, bool keep_null)
{
    struct kp_value *value = NULL;
    struct kp_error error;
    if (kp_value_parse(raw->json, raw->len, st->arena, NULL, &value, &error) < 0) {
        node->bad_json = true;
        return NULL;
    }
    return value->kind == KP_VALUE_NULL && !keep_null ? NULL : value;
}

static void copy_strings(struct structural *st, const struct kp_string_list *from, struct kp_string_list *to)
{
    for (size_t i = 0; i < from->len; i++)
        kp_string_list_add(st->arena, to, kp_arena_strdup(st->arena, from->items[i]));
}

/* Formats that upstream checks, for the type they are for; the others are as good as not there. */
static void make_format(struct structural *st, struct snode *node, const char *type, const char *format)
{
    if (kp_empty(format))
        return;
    bool kept = false;
    if (node->int_or_string || kp_empty(type) || strcmp(type, "string") == 0) {
        node->format_check = format_find(format);
        kept = node->format_check != NULL;
    } else if (strcmp(type, "integer") == 0) {
        kept = strcmp(format, "int32") == 0 || strcmp(format, "int64") == 0;
    } else if (strcmp(type, "number") == 0) {
        kept = strcmp(format, "float") == 0 || strcmp(format, "double") == 0;
    }
    if (kept)
        node->format = kp_arena_strdup(st->arena, format);
}

static void make_type(struct structural *st, struct snode *node, const struct k8s_json_schema_props *schema)
{
    node->int_or_string = schema->x_kubernetes_int_or_string;
    for (size_t i = 0; i < KP_ARRAY_LEN(types); i++)
        if (kp_streq(schema->type, types[i].name)) {
            node->types = types[i].type;
            node->type_text = types[i].name;
        }
    if (node->int_or_string) {
        node->types = TYPE_INTEGER | TYPE_STRING;
        node->type_text = "integer,string";
    }
    make_format(st, node, schema->type, schema->format);
    node->nullable = schema->nullable;
    node->preserve = schema->x_kubernetes_preserve_unknown_fields;
    node->embedded = schema->x_kubernetes_embedded_resource;
    node->list_set = kp_streq(schema->x_kubernetes_list_type, "set");
    node->list_map = kp_streq(schema->x_kubernetes_list_type, "map");
    copy_strings(st, &schema->x_kubernetes_list_map_keys, &node->list_map_keys);
}

static void add_pattern(struct structural *st, struct snode *node, const char *text)
{
    const char *fault = NULL;
    node->pattern_text = kp_arena_strdup(st->arena, text);
    node->pattern = kp_pattern_new(text, st->arena, &fault);
    if (!node->pattern)
        return; /* structural_check had something against it */
    if (st->n_patterns % 16 == 0)
        st->patterns = kp_realloc(st->patterns, (st->n_patterns + 16) * sizeof(struct kp_pattern *));
    st->patterns[st->n_patterns++] = node->pattern;
}

static void make_limits(struct structural *st, struct snode *node, const struct k8s_json_schema_props *schema)
{
    node->has_maximum = schema->has_maximum;
    node->maximum = schema->maximum;
    node->exclusive_maximum = schema->exclusive_maximum;
    node->has_minimum = schema->has_minimum;
    node->minimum = schema->minimum;
    node->exclusive_minimum = schema->exclusive_minimum;
    node->has_multiple_of = schema->has_multiple_of;
    node->multiple_of = schema->multiple_of;
    node->max_length = schema->has_max_length ? schema->max_length : -1;
    node->min_length = schema->min_length;
    node->max_items = schema->has_max_items ? schema->max_items : -1;
    node->min_items = schema->min_items;
    node->max_properties = schema->has_max_properties ? schema->max_properties : -1;
    node->min_properties = schema->min_properties;
    copy_strings(st, &schema->required, &node->required);
    if (!kp_empty(schema->pattern))
        add_pattern(st, node, schema->pattern);
    if (schema->enum_.len > 0)
        node->enums = KP_NEW_ARRAY(st->arena, struct kp_value *, schema->enum_.len);
    for (size_t i = 0; i < schema->enum_.len; i++) {
        struct kp_value *value = parse(st, node, &schema->enum_.items[i], true);
        if (value)
            node->enums[node->n_enums++] = value;
    }
    if (schema->default_.json)
        node->default_value = parse(st, node, &schema->default_, false);
}

static void make_list(struct structural *st, struct snodes *list, const struct k8s_json_schema_props_items *schemas, int depth)
{
    if (schemas->len == 0)
        return;
    list->items = KP_NEW_ARRAY(st->arena, struct snode *, schemas->len);
    for (size_t i = 0; i < schemas->len; i++) {
        struct snode *node = make(st, &schemas->items[i], depth);
        if (node)
            list->items[list->len++] = node;
    }
}

static void make_properties(struct structural *st, struct snode *node, const struct k8s_json_schema_props_map *map, int depth)
{
    if (map->len == 0)
        return;
    node->properties = KP_NEW_ARRAY(st->arena, struct sproperty, map->len);
    for (size_t i = 0; i < map->len; i++) {
        struct snode *property = make(st, map->items[i].value, depth);
        if (property)
            node->properties[node->n_properties++] = (struct sproperty){kp_arena_strdup(st->arena, map->items[i].key), property};
    }
    qsort(node->properties, node->n_properties, sizeof(*node->properties), compare_properties);
}

/* NULL where there is no schema, and below the depth that structural_check lets pass. */
static struct snode *make(struct structural *st, const struct k8s_json_schema_props *schema, int depth)
{
    if (!schema || depth > STRUCTURAL_DEPTH_MAX)
        return NULL;
    struct snode *node = KP_NEW(st->arena, struct snode);
    make_type(st, node, schema);
    make_limits(st, node, schema);
    make_properties(st, node, &schema->properties, depth + 1);
    if (schema->additional_properties) {
        node->has_additional = true;
        node->additional = make(st, schema->additional_properties->schema, depth + 1);
        node->additional_allowed = node->additional || schema->additional_properties->allows;
    }
    if (schema->items)
        node->items = make(st, schema->items->schema, depth + 1);
    node->not = make(st, schema->not, depth + 1);
    make_list(st, &node->all_of, &schema->all_of, depth + 1);
    make_list(st, &node->any_of, &schema->any_of, depth + 1);
    make_list(st, &node->one_of, &schema->one_of, depth + 1);
    rules_make(st, node, schema);
    return node;
}

struct structural *structural_make(const struct k8s_json_schema_props *schema)
{
    static const struct k8s_json_schema_props anything = {.x_kubernetes_preserve_unknown_fields = true};
    struct structural *st = kp_calloc(1, sizeof(*st));
    st->arena = kp_arena_new(0);
    st->root = make(st, schema ? schema : &anything, 1);
    return st;
}

struct structural *structural_new(const struct k8s_json_schema_props *schema)
{
    struct structural *st = structural_make(schema);
    if (st->root->has_rules)
        rules_compile(st);
    return st;
}

void structural_free(struct structural *structural)
{
    if (!structural)
        return;
    for (size_t i = 0; i < structural->n_patterns; i++)
        kp_pattern_free(structural->patterns[i]);
    free(structural->patterns);
    rules_free(structural->root);
    kp_arena_free(structural->arena);
    free(structural);
}
