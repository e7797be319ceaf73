/* Writes the reflection tables of one schema, and the index of all of them. */
#include "apigen.h"

#include <stdlib.h>
#include <string.h>

void gen_write_c_string(FILE *out, const char *s)
{
    if (!s) {
        fputs("NULL", out);
        return;
    }
    fputc('"', out);
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            fputc('\\', out);
        fputc(*s, out);
    }
    fputc('"', out);
}

const char *gen_resource_prefix(const struct gen_schema *schema)
{
    if (strcmp(schema->name, "events.v1") == 0)
        return "events_"; /* core has events too */
    if (strcmp(schema->name, "autoscaling.v2") == 0)
        return "autoscaling_v2_";
    if (strcmp(schema->name, "metrics.v1beta1") == 0)
        return "metrics_"; /* it too has nodes and pods */
    return "";
}

static void write_member_name(FILE *out, const char *key, const char *text)
{
    if (!text)
        return;
    fprintf(out, " .%s = ", key);
    gen_write_c_string(out, text);
    fputc(',', out);
}

/* `(const char *const[]){"a", "b", NULL}` of a comma-separated list. */
static void write_string_array(FILE *out, const char *text)
{
    fprintf(out, "(const char *const[]){");
    for (const char *s = text; s && *text;) {
        const char *comma = strchr(s, ',');
        gen_write_c_string(out, comma ? gen_text("%.*s", (int)(comma - s), s) : s);
        fprintf(out, ", ");
        s = comma ? comma + 1 : NULL;
    }
    fprintf(out, "NULL}");
}

/* Schema texts stand for JSON: bare words are strings where the field's kind is one. */
static const char *default_json(const struct gen_field *field)
{
    const char *text = field->default_text;
    bool is_string = field->card == GEN_ONE && !field->type &&
                     (strcmp(field->kind, "STRING") == 0 || strcmp(field->kind, "QUANTITY") == 0 || strcmp(field->kind, "DURATION") == 0);
    if (field->card == GEN_ONE && strcmp(field->kind, "INT_OR_STRING") == 0)
        is_string = text[strspn(text, "0123456789")] != '\0';
    return is_string ? gen_text("\"%s\"", text) : text;
}

static void write_list_attributes(const struct gen_field *field, FILE *out)
{
    if (field->list_type) {
        const char *kind = strcmp(field->list_type, "atomic") == 0 ? "ATOMIC" : strcmp(field->list_type, "set") == 0 ? "SET" : "MAP";
        fprintf(out, " .list_type = KP_LIST_%s,", kind);
    }
    if (field->keys) {
        fprintf(out, " .list_map_keys = ");
        write_string_array(out, field->keys);
        fputc(',', out);
    }
    write_member_name(out, "patch_strategy", field->patch);
    write_member_name(out, "patch_merge_key", field->merge);
}

static bool has_flag_member(const struct gen_field *field)
{
    static const char *const kinds[] = {"BOOL", "INT32", "INT64", "DOUBLE"};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (field->card == GEN_ONE && strcmp(field->kind, kinds[i]) == 0)
            return true;
    return false;
}

static void write_field(const struct gen_type *type, const struct gen_field *field, FILE *out)
{
    static const char *const cards[] = {"KP_ONE", "KP_LIST", "KP_MAP"};
    fprintf(out, "    {.json_name = \"%s\", .json_name_len = %zu, .offset = offsetof(struct k8s_%s, %s),", field->json,
            strlen(field->json), type->c_name, field->c_name);
    if (has_flag_member(field))
        fprintf(out, " .has_offset = offsetof(struct k8s_%s, has_%s),", type->c_name, field->c_name);
    else
        fprintf(out, " .has_offset = -1,");
    fprintf(out, " .kind = KP_KIND_%s, .cardinality = %s,", field->kind, cards[field->card]);
    if (field->type)
        fprintf(out, " .type = &k8s_%s_type,", field->type->c_name);
    write_member_name(out, "ref", field->ref);
    fprintf(out, " .pb_number = %d,", field->number);
    if (field->outer[0])
        fprintf(out, " .pb_outer = {%d, %d},", field->outer[0], field->outer[1]);
    const struct {
        const char *name;
        bool on;
    } flags[] = {{"pb_wrapped", field->wrapped}, {"required", field->required}, {"value", field->value},
                 {"omitzero", field->omitzero},  {"nullable", field->nullable}, {"always", field->always},
                 {"map_atomic", field->map_atomic}};
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
        if (flags[i].on)
            fprintf(out, " .%s = true,", flags[i].name);
    write_list_attributes(field, out);
    if (field->default_text)
        write_member_name(out, "default_json", default_json(field));
    if (field->enum_text) {
        fprintf(out, " .enum_values = ");
        write_string_array(out, *field->enum_text ? field->enum_text : NULL);
        fputc(',', out);
    }
    write_member_name(out, "doc", field->doc);
    fprintf(out, "},\n");
}

static const struct gen_field *sort_fields;
static int wire_key(const struct gen_field *field, int level)
{
    for (int i = 0; i < 2; i++)
        if (level == i && field->outer[i])
            return field->outer[i];
    int depth = (field->outer[0] != 0) + (field->outer[1] != 0);
    return level == depth ? field->number : 0;
}

static int compare_wire(const void *a, const void *b)
{
    const struct gen_field *x = &sort_fields[*(const size_t *)a], *y = &sort_fields[*(const size_t *)b];
    for (int level = 0; level < 3; level++)
        if (wire_key(x, level) != wire_key(y, level))
            return wire_key(x, level) - wire_key(y, level);
    return 0;
}

static size_t write_pb_order(const struct gen_type *type, FILE *out)
{
    size_t *order = gen_alloc((type->n_fields + 1) * sizeof(*order)), n = 0;
    for (size_t i = 0; i < type->n_fields; i++)
        if (type->fields[i].number)
            order[n++] = i;
    sort_fields = type->fields;
    qsort(order, n, sizeof(*order), compare_wire);
    if (n > 0) {
        fprintf(out, "static const uint16_t %s_order[] = {", type->c_name);
        for (size_t i = 0; i < n; i++)
            fprintf(out, "%zu, ", order[i]);
        fprintf(out, "};\n");
    }
    return n;
}

static void write_metadata(const struct gen_type *type, FILE *out)
{
    bool found = false;
    for (size_t i = 0; i < type->n_fields && type->form != GEN_TYPE; i++) {
        const struct gen_field *field = &type->fields[i];
        if (strcmp(field->json, "metadata") != 0 || !field->type || strcmp(field->type->schema->name, "meta.v1") != 0)
            continue;
        found = true;
        fprintf(out, "    .metadata_offset = offsetof(struct k8s_%s, metadata),\n", type->c_name);
        if (strcmp(field->type->name, "ObjectMeta") == 0)
            fprintf(out, "    .has_object_meta = true,\n");
    }
    if (!found)
        fprintf(out, "    .metadata_offset = -1,\n");
}

static const char *union_form(const struct gen_type *type)
{
    static const char *const forms[][2] = {{"schema_or_bool", "KP_FORM_SCHEMA_OR_BOOL"},
                                           {"schema_or_array", "KP_FORM_SCHEMA_OR_ARRAY"},
                                           {"schema_or_strings", "KP_FORM_SCHEMA_OR_STRINGS"}};
    for (size_t i = 0; type->form == GEN_UNION && i < 3; i++)
        if (strcmp(type->union_form, forms[i][0]) == 0)
            return forms[i][1];
    if (type->form == GEN_UNION)
        gen_fail(type->schema->path, type->line, "unknown union form %s", type->union_form);
    return "KP_FORM_OBJECT";
}

static void write_type(const struct gen_type *type, FILE *out)
{
    if (type->n_fields > 0) {
        fprintf(out, "static const struct kp_field %s_fields[] = {\n", type->c_name);
        for (size_t i = 0; i < type->n_fields; i++)
            write_field(type, &type->fields[i], out);
        fprintf(out, "};\n");
    }
    size_t n_pb = write_pb_order(type, out);
    fprintf(out, "const struct kp_type k8s_%s_type = {\n    .openapi_name = \"%s.%s\",\n    .name = \"%s\",\n    .group = \"%s\",\n",
            type->c_name, type->schema->package, type->name, type->name, type->group);
    fprintf(out, "    .version = \"%s\",\n", type->schema->version);
    if (type->form == GEN_KIND || type->form == GEN_LIST_KIND)
        fprintf(out, "    .kind = \"%s\",\n", type->name);
    fprintf(out, "    .size = sizeof(struct k8s_%s),\n", type->c_name);
    if (type->n_fields > 0)
        fprintf(out, "    .fields = %s_fields,\n    .n_fields = %zu,\n", type->c_name, type->n_fields);
    if (n_pb > 0)
        fprintf(out, "    .pb_order = %s_order,\n    .n_pb = %zu,\n", type->c_name, n_pb);
    write_metadata(type, out);
    if (type->item)
        fprintf(out, "    .is_list = true,\n    .items_offset = offsetof(struct k8s_%s, items),\n    .item_type = &k8s_%s_type,\n",
                type->c_name, type->item->c_name);
    fprintf(out, "    .json_form = %s,\n", union_form(type));
    if (type->atomic)
        fprintf(out, "    .atomic = true,\n");
    fprintf(out, "    .doc = ");
    gen_write_c_string(out, type->doc);
    fprintf(out, ",\n};\n\n");
}

static void write_verbs(const char *verbs, FILE *out)
{
    static const char *const names[] = {"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"};
    static const char *const symbols[] = {"CREATE", "DELETE", "DELETECOLLECTION", "GET", "LIST", "PATCH", "UPDATE", "WATCH"};
    bool all = strcmp(verbs, "all") == 0;
    size_t matched = 0, wanted = 1;
    for (const char *c = verbs; *c; c++)
        wanted += *c == ',';
    for (size_t i = 0; i < 8; i++) {
        size_t len = strlen(names[i]);
        bool on = all;
        for (const char *s = verbs; s && !on; s = strchr(s, ',') ? strchr(s, ',') + 1 : NULL)
            on = strncmp(s, names[i], len) == 0 && (s[len] == ',' || s[len] == '\0');
        if (on)
            fprintf(out, "%sKP_VERB_%s", matched++ ? " | " : "", symbols[i]);
    }
    if (!all && matched != wanted)
        gen_fail("api", 0, "unknown verb in %s", verbs);
}

static void write_subs(const struct gen_resource *resource, const char *id, FILE *out)
{
    fprintf(out, "static const struct kp_subresource %s_subs[] = {\n", id);
    for (size_t i = 0; i < resource->n_subs; i++) {
        const struct gen_sub *sub = &resource->subs[i];
        fprintf(out, "    {.name = \"%s\", .verbs = ", sub->name);
        write_verbs(sub->verbs, out);
        fprintf(out, ", .group = \"%s\", .version = \"%s\", .kind = \"%s\"", sub->group, sub->version, sub->kind);
        if (sub->type)
            fprintf(out, ", .type = &k8s_%s_type", sub->type->c_name);
        fprintf(out, "},\n");
    }
    fprintf(out, "};\n");
}

static void write_columns(const struct gen_resource *resource, const char *id, FILE *out)
{
    fprintf(out, "static const struct kp_column %s_columns[] = {\n", id);
    for (size_t i = 0; i < resource->n_columns; i++) {
        const struct gen_column *column = &resource->columns[i];
        fprintf(out, "    {.name = ");
        gen_write_c_string(out, column->name);
        fprintf(out, ", .type = \"%s\", .format = \"%s\", .priority = %d, .doc = ", column->type, column->format, column->priority);
        gen_write_c_string(out, column->doc);
        fprintf(out, "},\n");
    }
    fprintf(out, "};\n");
}

static void write_resource(const struct gen_schema *schema, const struct gen_resource *resource, FILE *out)
{
    const char *id = gen_text("%s%s", gen_resource_prefix(schema), resource->name);
    if (resource->n_subs)
        write_subs(resource, id, out);
    if (resource->n_columns)
        write_columns(resource, id, out);
    fprintf(out,
            "const struct kp_resource k8s_%s_resource = {\n    .group = \"%s\",\n    .version = \"%s\",\n    .name = \"%s\",\n"
            "    .singular = \"%s\",\n    .kind = \"%s\",\n    .namespaced = %s,\n    .short_names = ",
            id, schema->group, schema->version, resource->name, resource->singular, resource->kind,
            resource->namespaced ? "true" : "false");
    write_string_array(out, resource->short_names);
    fprintf(out, ",\n    .categories = ");
    write_string_array(out, resource->categories);
    fprintf(out, ",\n    .verbs = ");
    write_verbs(resource->verbs, out);
    fprintf(out, ",\n    .type = &k8s_%s_type,\n", resource->type->c_name);
    if (resource->list_type)
        fprintf(out, "    .list_type = &k8s_%s_type,\n", resource->list_type->c_name);
    if (resource->n_subs)
        fprintf(out, "    .subresources = %s_subs,\n    .n_subresources = %zu,\n", id, resource->n_subs);
    if (resource->table)
        fprintf(out, "    .table = \"%s\",\n", resource->table);
    if (resource->n_columns)
        fprintf(out, "    .columns = %s_columns,\n    .n_columns = %zu,\n", id, resource->n_columns);
    fprintf(out, "};\n\n");
}

void gen_write_tables(const struct gen_schema *schema, FILE *out)
{
    fprintf(out, "#include \"api/k8s.h\"\n\n");
    for (size_t i = 0; i < schema->n_types; i++)
        write_type(schema->types[i], out);
    for (size_t i = 0; i < schema->n_resources; i++)
        write_resource(schema, &schema->resources[i], out);
}

void gen_write_index(const struct gen_model *model, FILE *out)
{
    size_t n = 0;
    fprintf(out, "#include \"api/k8s.h\"\n#include \"codec/codec_internal.h\"\n\nstatic const struct kp_type *const types[] = {\n");
    for (size_t s = 0; s < model->n_schemas; s++)
        for (size_t i = 0; i < model->schemas[s]->n_types; i++, n++)
            fprintf(out, "    &k8s_%s_type,\n", model->schemas[s]->types[i]->c_name);
    fprintf(out, "};\n\nconst struct kp_type *const *kp_types(size_t *ret_count)\n{\n    *ret_count = %zu;\n    return types;\n}\n\n", n);
    n = 0;
    fprintf(out, "static const struct kp_resource *const resources[] = {\n");
    for (size_t s = 0; s < model->n_schemas; s++)
        for (size_t i = 0; i < model->schemas[s]->n_resources; i++, n++)
            fprintf(out, "    &k8s_%s%s_resource,\n", gen_resource_prefix(model->schemas[s]), model->schemas[s]->resources[i].name);
    fprintf(out,
            "};\n\nconst struct kp_resource *const *kp_schema_resources(size_t *ret_count)\n{\n    *ret_count = %zu;\n"
            "    return resources;\n}\n",
            n);
}
