/* api/gen: reads api/<name>.schema and writes C structs and reflection tables; built and run before everything else, so it
   stands on libc alone and lets the end of the process free its memory. */
#ifndef APIGEN_H
#define APIGEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { GEN_WORD_MAX = 64, GEN_LINE_MAX = 4096, GEN_SCHEMAS_MAX = 64 };

struct gen_schema;
struct gen_type;

enum gen_card { GEN_ONE, GEN_LIST, GEN_MAP };

struct gen_field {
    const char *json, *c_name;
    int number, outer[2];
    const char *type_text; /* element type as written */
    enum gen_card card;
    bool list_in_map;         /* map[string][]string */
    const char *kind;         /* "STRING": suffix of KP_KIND_ */
    const char *ref;          /* OpenAPI name of a special type, or NULL */
    const struct gen_type *type; /* element struct, or NULL */
    bool required, value, omitzero, nullable, always, wrapped, map_atomic;
    const char *list_type, *keys, *patch, *merge, *default_text, *enum_text, *doc;
    int line;
};

enum gen_form { GEN_TYPE, GEN_KIND, GEN_LIST_KIND, GEN_UNION };

struct gen_type {
    const struct gen_schema *schema;
    const char *name, *c_name, *group, *doc, *union_form, *item_name;
    const struct gen_type *item; /* of a list kind */
    enum gen_form form;
    bool atomic, in_list, in_map; /* used as element of a list, of a map */
    struct gen_field *fields;
    size_t n_fields;
    int line;
};

struct gen_sub {
    const char *name, *verbs, *group, *version, *kind;
    const struct gen_type *type;
};
struct gen_column {
    const char *name, *type, *format, *doc;
    int priority;
};
struct gen_resource {
    const char *name, *singular, *kind, *verbs, *short_names, *categories, *table;
    bool namespaced;
    const struct gen_type *type, *list_type;
    struct gen_sub *subs;
    size_t n_subs;
    struct gen_column *columns;
    size_t n_columns;
    int line;
};

struct gen_schema {
    const char *path, *name, *group, *version, *package, *c_name;
    struct gen_type **types;
    size_t n_types;
    struct gen_resource *resources;
    size_t n_resources;
};

struct gen_model {
    struct gen_schema *schemas[GEN_SCHEMAS_MAX];
    size_t n_schemas;
};

_Noreturn void gen_fail(const char *path, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));
void *gen_alloc(size_t size);
char *gen_text(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Makes room for one more element of an array that grows by doubling. */
void *gen_grow(void *items, size_t len, size_t item_size);

char *gen_snake(const char *name);      /* "podIPs" -> "pod_ips" */
struct gen_schema *gen_parse(const char *path);
void gen_resolve(struct gen_model *model); /* links names to types and checks; ends the process on a fault */
/* What keeps resource variables of groups with the same resource apart; "" for most. */
const char *gen_resource_prefix(const struct gen_schema *schema);
void gen_write_c_string(FILE *out, const char *s); /* with quotes; NULL writes NULL */
void gen_write_header(const struct gen_model *model, const struct gen_schema *schema, FILE *out);
void gen_write_umbrella(const struct gen_model *model, FILE *out);
void gen_write_tables(const struct gen_schema *schema, FILE *out);
void gen_write_index(const struct gen_model *model, FILE *out);

#endif
