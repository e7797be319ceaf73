/* Links type names to types, chooses how each field is represented, and refuses what cannot be generated. */
#include "apigen.h"

#include <string.h>

struct scalar {
    const char *name, *kind, *ref;
};
static const struct scalar scalars[] = {
    {"string", "STRING", NULL},
    {"bool", "BOOL", NULL},
    {"int32", "INT32", NULL},
    {"int64", "INT64", NULL},
    {"double", "DOUBLE", NULL},
    {"bytes", "BYTES", NULL},
    {"Quantity", "QUANTITY", "io.k8s.apimachinery.pkg.api.resource.Quantity"},
    {"Duration", "DURATION", "io.k8s.apimachinery.pkg.apis.meta.v1.Duration"},
    {"IntOrString", "INT_OR_STRING", "io.k8s.apimachinery.pkg.util.intstr.IntOrString"},
    {"Time", "TIME", "io.k8s.apimachinery.pkg.apis.meta.v1.Time"},
    {"MicroTime", "MICRO_TIME", "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime"},
    {"RawExtension", "RAW", "io.k8s.apimachinery.pkg.runtime.RawExtension"},
    {"JSON", "RAW", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON"},
    {"FieldsV1", "RAW", "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1"},
};

static struct gen_type *find_in(const struct gen_schema *schema, const char *name)
{
    for (size_t i = 0; i < schema->n_types; i++)
        if (strcmp(schema->types[i]->name, name) == 0)
            return schema->types[i];
    return NULL;
}

/* "Pod" in the same file, "core.v1.Pod" in another. */
static struct gen_type *find_type(struct gen_model *model, const struct gen_schema *schema, const char *name)
{
    const char *dot = strrchr(name, '.');
    if (!dot)
        return find_in(schema, name);
    for (size_t i = 0; i < model->n_schemas; i++) {
        const char *other = model->schemas[i]->name;
        if (strlen(other) == (size_t)(dot - name) && strncmp(other, name, (size_t)(dot - name)) == 0)
            return find_in(model->schemas[i], dot + 1);
    }
    return NULL;
}

static const struct gen_type *find_kind(struct gen_model *model, const char *group, const char *version, const char *kind)
{
    for (size_t i = 0; i < model->n_schemas; i++) {
        const struct gen_schema *schema = model->schemas[i];
        if (strcmp(schema->version, version) != 0)
            continue;
        const struct gen_type *type = find_in(schema, kind);
        if (type && strcmp(type->group, group) == 0 && (type->form == GEN_KIND || type->form == GEN_LIST_KIND))
            return type;
    }
    return NULL;
}

static bool is_keyword(const char *name)
{
    static const char *const keywords[] = {"default", "bool",   "int",    "enum",     "continue", "static", "const", "double",
                                           "float",   "switch", "return", "register", "volatile", "char",   "long",  "short",
                                           "signed",  "union",  "struct", "if",       "else",     "for",    "do",    "while",
                                           "case",    "break",  "goto",   "auto",     "extern",   "inline", "linux", "unix"};
    for (size_t i = 0; i < sizeof(keywords) / sizeof(keywords[0]); i++)
        if (strcmp(keywords[i], name) == 0)
            return true;
    return false;
}

static void resolve_field(struct gen_model *model, struct gen_type *type, struct gen_field *field)
{
    const char *path = type->schema->path;
    if (is_keyword(field->c_name))
        field->c_name = gen_text("%s_", field->c_name);
    for (size_t i = 0; i < sizeof(scalars) / sizeof(scalars[0]); i++) {
        if (strcmp(scalars[i].name, field->type_text) == 0) {
            field->kind = scalars[i].kind;
            field->ref = scalars[i].ref;
        }
    }
    if (!field->kind) {
        struct gen_type *element = find_type(model, type->schema, field->type_text);
        if (!element)
            gen_fail(path, field->line, "unknown type %s", field->type_text);
        field->kind = "STRUCT";
        field->type = element;
        element->in_list |= field->card == GEN_LIST;
        element->in_map |= field->card == GEN_MAP;
    }
    if (field->list_in_map) {
        if (strcmp(field->kind, "STRING") != 0)
            gen_fail(path, field->line, "only lists of strings fit in a map");
        field->kind = "STRING_LIST";
    }
    if (field->card == GEN_MAP && !field->type && strcmp(field->kind, "STRING_LIST") != 0 && strcmp(field->kind, "STRING") != 0 &&
        strcmp(field->kind, "QUANTITY") != 0 && strcmp(field->kind, "BYTES") != 0 && strcmp(field->kind, "TIME") != 0)
        gen_fail(path, field->line, "a map of %s has no representation", field->type_text);
    if (field->value && field->card != GEN_ONE)
        gen_fail(path, field->line, "value is for single members");
    if (field->list_type && strcmp(field->list_type, "map") == 0 && !field->keys)
        gen_fail(path, field->line, "list=map needs keys=");
}

static void check_fields(const struct gen_type *type)
{
    for (size_t i = 0; i < type->n_fields; i++) {
        const struct gen_field *a = &type->fields[i];
        for (size_t j = 0; j < i; j++) {
            const struct gen_field *b = &type->fields[j];
            if (strcmp(a->json, b->json) == 0 || strcmp(a->c_name, b->c_name) == 0)
                gen_fail(type->schema->path, a->line, "%s.%s is there already", type->name, a->json);
            if (a->number && a->number == b->number && memcmp(a->outer, b->outer, sizeof(a->outer)) == 0)
                gen_fail(type->schema->path, a->line, "%s: number %d is taken by %s", type->name, a->number, b->json);
        }
    }
}

static void resolve_resource(struct gen_model *model, struct gen_schema *schema, struct gen_resource *resource)
{
    resource->type = find_kind(model, schema->group, schema->version, resource->kind);
    if (!resource->type)
        gen_fail(schema->path, resource->line, "resource %s: no kind %s", resource->name, resource->kind);
    const char *list_kind = gen_text("%sList", resource->kind);
    resource->list_type = find_kind(model, schema->group, schema->version, list_kind);
    if (!resource->list_type && (strcmp(resource->verbs, "all") == 0 || strstr(resource->verbs, "list")))
        gen_fail(schema->path, resource->line, "resource %s: no kind %s", resource->name, list_kind);
    for (size_t i = 0; i < resource->n_subs; i++) {
        struct gen_sub *sub = &resource->subs[i];
        sub->type = find_kind(model, sub->group, sub->version, sub->kind);
        size_t len = strlen(sub->kind);
        bool options = len > 7 && strcmp(sub->kind + len - 7, "Options") == 0; /* travel in the query, have no body */
        if (!sub->type && !options)
            gen_fail(schema->path, resource->line, "%s/%s: no kind %s", resource->name, sub->name, sub->kind);
    }
}

static void check_c_names(const struct gen_model *model)
{
    for (size_t s = 0; s < model->n_schemas; s++)
        for (size_t i = 0; i < model->schemas[s]->n_types; i++)
            for (size_t t = 0; t <= s; t++)
                for (size_t j = 0; j < model->schemas[t]->n_types && !(t == s && j >= i); j++)
                    if (strcmp(model->schemas[s]->types[i]->c_name, model->schemas[t]->types[j]->c_name) == 0)
                        gen_fail(model->schemas[s]->path, model->schemas[s]->types[i]->line,
                                 "struct k8s_%s is there already; give one an `as` name", model->schemas[s]->types[i]->c_name);
}

void gen_resolve(struct gen_model *model)
{
    check_c_names(model);
    for (size_t s = 0; s < model->n_schemas; s++) {
        struct gen_schema *schema = model->schemas[s];
        for (size_t i = 0; i < schema->n_types; i++) {
            struct gen_type *type = schema->types[i];
            for (size_t f = 0; f < type->n_fields; f++)
                resolve_field(model, type, &type->fields[f]);
            check_fields(type);
            size_t len = strlen(type->name);
            if (type->form == GEN_LIST_KIND)
                type->item = type->fields[1].type;
            else if (type->form == GEN_KIND && len > 4 && strcmp(type->name + len - 4, "List") == 0)
                for (size_t f = 0; f < type->n_fields; f++)
                    if (strcmp(type->fields[f].json, "items") == 0 && type->fields[f].card == GEN_LIST)
                        type->item = type->fields[f].type;
        }
        for (size_t i = 0; i < schema->n_resources; i++)
            resolve_resource(model, schema, &schema->resources[i]);
    }
}
