/* Writes the C structs of one schema, and the umbrella header. */
#include "apigen.h"

#include <string.h>

static const char *list_member(const struct gen_field *field)
{
    static const char *const table[][2] = {{"STRING", "kp_string_list"},  {"QUANTITY", "kp_string_list"}, {"DURATION", "kp_string_list"},
                                           {"INT32", "kp_i32_list"},      {"INT64", "kp_i64_list"},       {"BOOL", "kp_bool_list"},
                                           {"DOUBLE", "kp_double_list"},  {"RAW", "kp_raw_list"}};
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (strcmp(table[i][0], field->kind) == 0)
            return table[i][1];
    return NULL;
}

static const char *map_member(const struct gen_field *field)
{
    static const char *const table[][2] = {{"STRING", "kp_string_map"},
                                           {"QUANTITY", "kp_string_map"},
                                           {"BYTES", "kp_bytes_map"},
                                           {"TIME", "kp_time_map"},
                                           {"STRING_LIST", "kp_string_list_map"}};
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (strcmp(table[i][0], field->kind) == 0)
            return table[i][1];
    return NULL;
}

static void write_member(const struct gen_type *type, const struct gen_field *field, FILE *out)
{
    const char *name = field->c_name;
    fprintf(out, "    ");
    if (field->card == GEN_LIST) {
        if (field->type)
            fprintf(out, "struct k8s_%s_items %s;", field->type->c_name, name);
        else if (list_member(field))
            fprintf(out, "struct %s %s;", list_member(field), name);
        else
            gen_fail(type->schema->path, field->line, "a list of %s has no representation", field->type_text);
    } else if (field->card == GEN_MAP) {
        if (field->type)
            fprintf(out, "struct k8s_%s_map %s;", field->type->c_name, name);
        else
            fprintf(out, "struct %s %s;", map_member(field), name);
    } else if (field->type) {
        fprintf(out, "struct k8s_%s *%s;", field->type->c_name, name);
    } else if (strcmp(field->kind, "STRING") == 0 || strcmp(field->kind, "QUANTITY") == 0 || strcmp(field->kind, "DURATION") == 0) {
        fprintf(out, "const char *%s;", name);
    } else if (strcmp(field->kind, "INT_OR_STRING") == 0) {
        fprintf(out, "struct kp_int_or_string %s;", name);
    } else if (strcmp(field->kind, "TIME") == 0 || strcmp(field->kind, "MICRO_TIME") == 0) {
        fprintf(out, "struct kp_time %s;", name);
    } else if (strcmp(field->kind, "BYTES") == 0) {
        fprintf(out, "struct kp_bytes %s;", name);
    } else if (strcmp(field->kind, "RAW") == 0) {
        fprintf(out, "struct kp_raw %s;", name);
    } else {
        const char *c_type = strcmp(field->kind, "BOOL") == 0    ? "bool"
                             : strcmp(field->kind, "INT32") == 0 ? "int32_t"
                             : strcmp(field->kind, "INT64") == 0 ? "int64_t"
                                                                 : "double";
        fprintf(out, "%s %s;\n    bool has_%s;", c_type, name, name);
    }
    if (strcmp(field->json, name) != 0 || field->value)
        fprintf(out, " /* %s%s */", field->json, field->value && field->type ? ", never NULL" : "");
    fprintf(out, "\n");
}

static void write_type(const struct gen_type *type, FILE *out)
{
    if (*type->doc)
        fprintf(out, "/* %s */\n", type->doc);
    fprintf(out, "struct k8s_%s {\n", type->c_name);
    for (size_t i = 0; i < type->n_fields; i++)
        write_member(type, &type->fields[i], out);
    if (type->n_fields == 0)
        fprintf(out, "    char nothing; /* the type has no fields yet */\n");
    fprintf(out, "};\n");
    fprintf(out, "extern const struct kp_type k8s_%s_type;\n\n", type->c_name);
}

/* Fields embed these by value and they only point to the element, so they come before every struct. */
static void write_containers(const struct gen_schema *schema, FILE *out)
{
    for (size_t i = 0; i < schema->n_types; i++) {
        const struct gen_type *type = schema->types[i];
        if (type->in_list)
            fprintf(out, "struct k8s_%s_items {\n    struct k8s_%s *items;\n    size_t len;\n};\n", type->c_name, type->c_name);
        if (type->in_map)
            fprintf(out,
                    "struct k8s_%s_pair {\n    const char *key;\n    struct k8s_%s *value;\n};\n"
                    "struct k8s_%s_map {\n    struct k8s_%s_pair *items;\n    size_t len;\n};\n",
                    type->c_name, type->c_name, type->c_name, type->c_name);
    }
    fprintf(out, "\n");
}

/* Headers of the schemas this one embeds containers of; everything else is only pointed to. */
static void write_includes(const struct gen_model *model, const struct gen_schema *schema, FILE *out)
{
    for (size_t s = 0; s < model->n_schemas; s++) {
        bool used = false;
        if (model->schemas[s] == schema)
            continue;
        for (size_t i = 0; i < schema->n_types; i++)
            for (size_t f = 0; f < schema->types[i]->n_fields; f++)
                used |= schema->types[i]->fields[f].type && schema->types[i]->fields[f].type->schema == model->schemas[s];
        if (used)
            fprintf(out, "#include \"api/%s.h\"\n", model->schemas[s]->name);
    }
}

void gen_write_header(const struct gen_model *model, const struct gen_schema *schema, FILE *out)
{
    fprintf(out, "#ifndef K8S_%s_H\n#define K8S_%s_H\n\n#include \"codec/codec.h\"\n", schema->c_name, schema->c_name);
    write_includes(model, schema, out);
    fprintf(out, "\n");
    for (size_t i = 0; i < schema->n_types; i++)
        fprintf(out, "struct k8s_%s;\n", schema->types[i]->c_name);
    write_containers(schema, out);
    for (size_t i = 0; i < schema->n_types; i++)
        write_type(schema->types[i], out);
    for (size_t i = 0; i < schema->n_resources; i++)
        fprintf(out, "extern const struct kp_resource k8s_%s%s_resource;\n", gen_resource_prefix(schema), schema->resources[i].name);
    fprintf(out, "\n#endif\n");
}

void gen_write_umbrella(const struct gen_model *model, FILE *out)
{
    fprintf(out, "#ifndef K8S_H\n#define K8S_H\n\n");
    for (size_t i = 0; i < model->n_schemas; i++)
        fprintf(out, "#include \"api/%s.h\"\n", model->schemas[i]->name);
    fprintf(out, "\n#endif\n");
}
