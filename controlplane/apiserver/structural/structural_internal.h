/* The compiled form of a structural schema, and what the files of this module share. */
#ifndef APISERVER_STRUCTURAL_INTERNAL_H
#define APISERVER_STRUCTURAL_INTERNAL_H

#include "controlplane/apiserver/structural/structural.h"
#include "lib/cel/cel.h"
#include "lib/pattern/pattern.h"

/* What of a value, a path's part or a list of values a message repeats, in bytes: messages are many and the arena is finite. */
#define STRUCTURAL_VALUE_TEXT_MAX 4096
#define STRUCTURAL_NAME_TEXT_MAX 1024
#define STRUCTURAL_ENUM_TEXT_MAX 16384
/* Bytes that one object's defaults may take in memory: far more than an object that can be stored makes. */
#define STRUCTURAL_DEFAULTS_MAX ((size_t)64 << 20)
#define STRUCTURAL_DROPPED_MAX 100

/* ---- format.c ----------------------------------------------------------------------------------------------------------- */
typedef bool (*format_check)(const char *text);
/* Of strings; dashes in the name do not count. NULL: not one that is checked. */
format_check format_find(const char *name);

/* ---- structural.c: the tree ----------------------------------------------------------------------------------------------- */
enum {
    TYPE_OBJECT = 1 << 0,
    TYPE_ARRAY = 1 << 1,
    TYPE_STRING = 1 << 2,
    TYPE_INTEGER = 1 << 3,
    TYPE_NUMBER = 1 << 4,
    TYPE_BOOLEAN = 1 << 5,
};
struct snode;
/* One of x-kubernetes-validations. */
struct srule {
    const char *rule, *message, *message_expression, *reason; /* reason NULL: none is said */
    const char *field_path;                                   /* as it was written; NULL: none */
    const char *below;                                        /* the field path without quotes and brackets that are not needed; NULL: the value itself */
    bool optional_old, has_optional_old;
    struct cel_program *program, *message_program; /* NULL when they do not compile, or there is none */
    const char *fault, *message_fault;             /* why not */
    bool uses_old;
};
struct sproperty {
    const char *name;
    struct snode *node;
};
struct snodes {
    struct snode **items;
    size_t len;
};
struct snode {
    unsigned types;        /* TYPE_ bits; 0: any */
    const char *type_text; /* "integer,string" */
    const char *format;    /* NULL when there is none that is checked for the type */
    format_check format_check;
    bool nullable, preserve, embedded, int_or_string;
    bool bad_json; /* a default or enum that is not JSON */
    bool list_set, list_map;
    struct sproperty *properties; /* sorted by name */
    size_t n_properties;
    bool has_additional, additional_allowed;
    struct snode *additional, *items, *not;
    struct snodes all_of, any_of, one_of;
    struct kp_value *default_value; /* NULL: none */
    struct kp_value **enums;
    size_t n_enums;
    struct kp_string_list required, list_map_keys;
    const char *pattern_text;
    struct kp_pattern *pattern;
    bool has_maximum, has_minimum, has_multiple_of, exclusive_maximum, exclusive_minimum;
    double maximum, minimum, multiple_of;
    struct srule *rules;
    size_t n_rules;
    bool has_rules;               /* here or below */
    const struct cel_type *cel;   /* what expressions know of it; NULL: nothing, or no rules are anywhere near */
    int64_t max_length, min_length, max_items, min_items, max_properties, min_properties; /* maxima: -1 = none */
};
struct structural {
    struct kp_arena *arena;
    struct snode *root;
    struct kp_pattern **patterns; /* all of them, to be freed */
    size_t n_patterns;
};
/* structural_new without the rules compiled. */
struct structural *structural_make(const struct k8s_json_schema_props *schema);
const struct sproperty *sproperty_find(const struct snode *node, const char *name); /* NULL when there is none */
const struct snode *snode_property(const struct snode *node, const char *name); /* NULL when there is none */
/* Of a member of an object: its property, else additionalProperties, which may be NULL. */
const struct snode *snode_member(const struct snode *node, const char *name);
bool structural_is_meta_field(const char *name); /* apiVersion, kind, metadata */

/* ---- walk.c ------------------------------------------------------------------------------------------------------------------ */
/* Every schema in a schema, itself first, until visit gives true; whether it did. Nothing deeper than STRUCTURAL_DEPTH_MAX + 1. */
typedef bool (*schema_visit)(const struct k8s_json_schema_props *schema, int depth, void *context);
bool schema_walk(const struct k8s_json_schema_props *schema, schema_visit visit, void *context);

/* ---- text.c: paths and values as messages have them --------------------------------------------------------------------------- */
struct spath {
    const struct spath *up;
    enum { SPATH_FIELD, SPATH_KEY, SPATH_INDEX } kind;
    const char *name; /* "" at the root: no path */
    size_t index;
};
#define SPATH_ROOT(text) ((struct spath){.name = (text)})
#define SPATH_CHILD(parent, text) ((struct spath){.up = (parent), .name = (text)})
#define SPATH_OF_KEY(parent, text) ((struct spath){.up = (parent), .kind = SPATH_KEY, .name = (text)})
#define SPATH_OF_INDEX(parent, i) ((struct spath){.up = (parent), .kind = SPATH_INDEX, .index = (i)})
const char *spath_text(const struct spath *path, struct kp_arena *arena);
/* As Go's field errors print it: 7, 1.5, "text", {"a":1}. Cut when long. */
const char *value_text(const struct kp_value *value, struct kp_arena *arena);
const char *quoted_text(const char *s, struct kp_arena *arena);
#define DOUBLE_TEXT_MAX 400
void double_text(double d, char out[DOUBLE_TEXT_MAX]); /* as Go's %v */

/* ---- check_*.c ------------------------------------------------------------------------------------------------------------- */
void check_structure(const struct k8s_json_schema_props *schema, const char *path, struct field_errors *errors);
void check_defaults(const struct k8s_json_schema_props *schema, const char *path, struct field_errors *errors);
void check_fields(const struct k8s_json_schema_props *schema, const char *path, struct field_errors *errors);
void check_lists(const struct k8s_json_schema_props *schema, const struct spath *path, struct field_errors *errors);
void check_rules(const struct k8s_json_schema_props *schema, const struct spath *path, struct field_errors *errors);

/* ---- rules*.c: x-kubernetes-validations ------------------------------------------------------------------------------------------ */
void rules_make(struct structural *st, struct snode *node, const struct k8s_json_schema_props *schema);
void rules_compile(struct structural *st);
void rules_free(struct snode *node);
/* Whether the rules of a schema compile, and what else upstream asks of them. */
void check_compiled_rules(const struct k8s_json_schema_props *schema, const char *path, struct field_errors *errors);
/* rules_path.c: ".spec['a.b']" as a path below the node; NULL when it leads to no field. */
const char *rule_field_path(const struct snode *node, const char *path, struct kp_arena *arena);
/* rules_types.c: what expressions know of each schema at and below the root. */
void rules_declare(struct structural *st);

/* ---- prune.c, validate*.c ---------------------------------------------------------------------------------------------------- */
void snode_prune(const struct snode *node, struct kp_value *value, bool root, struct kp_arena *arena, struct kp_string_list *dropped);
/* What the schema's own words say of a value. base: the path of the errors, NULL at an object's root. errors NULL: only whether there is a fault. */
struct verdict {
    struct field_errors *errors;
    const char *base;
    bool invalid;
    size_t matches; /* upstream's measure of how close a schema came, to choose what to report of anyOf and oneOf */
};
void validate_value(const struct snode *node, const struct kp_value *value, const struct spath *path, struct verdict *verdict);
void validate_string(const struct snode *node, const char *text, const struct spath *path, struct verdict *verdict);
void validate_number(const struct snode *node, const struct kp_value *value, const struct spath *path, struct verdict *verdict);
/* `value: "path in body " and the rest` at the path; value NULL prints "". */
void verdict_invalid(struct verdict *verdict, const struct spath *path, const char *reason, const struct kp_value *value, const char *format, ...)
    KP_PRINTF(5, 6);
void verdict_message(struct verdict *verdict, const struct spath *path, const char *reason, const char *format, ...) KP_PRINTF(4, 5);
/* Without a field of its own, as upstream's composite errors are. */
void verdict_composite(struct verdict *verdict, const struct spath *path, const char *format, ...) KP_PRINTF(3, 4);
bool double_is_integer(double d);
/* Lists of type set and map, from the path on. */
void validate_lists(const struct snode *node, const struct kp_value *value, const struct spath *path, struct field_errors *errors);
/* Embedded resources; root: whether the value itself is one, whatever the schema says. */
void validate_embedded(const struct snode *node, const struct kp_value *value, bool root, const struct spath *path, struct field_errors *errors);

#endif
