/* Types: those there are, how they read, and the names that stand for them. */
#include "lib/cel/cel_internal.h"

#define TYPE_TEXT_MAX 4096
#define SCALAR(name_, kind_) const struct cel_type name_ = {.kind = kind_}
#define PARAMS(...) .params = (const struct cel_type *const[]){__VA_ARGS__}, .n_params = sizeof((const struct cel_type *const[]){__VA_ARGS__}) / sizeof(void *)
#define OPAQUE(name_, text_) const struct cel_type name_ = {.kind = CEL_OPAQUE, .name = text_}

SCALAR(cel_dyn, CEL_DYN);
SCALAR(cel_null, CEL_NULL);
SCALAR(cel_bool, CEL_BOOL);
SCALAR(cel_int, CEL_INT);
SCALAR(cel_uint, CEL_UINT);
SCALAR(cel_double, CEL_DOUBLE);
SCALAR(cel_string, CEL_STRING);
SCALAR(cel_bytes, CEL_BYTES);
SCALAR(cel_timestamp, CEL_TIMESTAMP);
SCALAR(cel_duration, CEL_DURATION);
SCALAR(cel_fault_type, CEL_ERROR);
SCALAR(cel_type_type, CEL_TYPE);
const struct cel_type type_a = {.kind = CEL_PARAM, .name = "A"};
const struct cel_type type_b = {.kind = CEL_PARAM, .name = "B"};
const struct cel_type list_a = {.kind = CEL_LIST, PARAMS(&type_a)};
const struct cel_type list_b = {.kind = CEL_LIST, PARAMS(&type_b)};
const struct cel_type map_ab = {.kind = CEL_MAP, PARAMS(&type_a, &type_b)};
const struct cel_type list_dyn = {.kind = CEL_LIST, PARAMS(&cel_dyn)};
const struct cel_type list_string = {.kind = CEL_LIST, PARAMS(&cel_string)};
const struct cel_type list_int = {.kind = CEL_LIST, PARAMS(&cel_int)};
const struct cel_type list_uint = {.kind = CEL_LIST, PARAMS(&cel_uint)};
const struct cel_type list_double = {.kind = CEL_LIST, PARAMS(&cel_double)};
const struct cel_type list_bool = {.kind = CEL_LIST, PARAMS(&cel_bool)};
const struct cel_type list_bytes = {.kind = CEL_LIST, PARAMS(&cel_bytes)};
const struct cel_type list_timestamp = {.kind = CEL_LIST, PARAMS(&cel_timestamp)};
const struct cel_type list_duration = {.kind = CEL_LIST, PARAMS(&cel_duration)};
const struct cel_type list_list_a = {.kind = CEL_LIST, PARAMS(&list_a)};
const struct cel_type optional_a = {.kind = CEL_OPAQUE, .name = "optional_type", PARAMS(&type_a)};
const struct cel_type optional_b = {.kind = CEL_OPAQUE, .name = "optional_type", PARAMS(&type_b)};
const struct cel_type list_optional_a = {.kind = CEL_LIST, PARAMS(&optional_a)};
const struct cel_type optional_list_a = {.kind = CEL_OPAQUE, .name = "optional_type", PARAMS(&list_a)};
const struct cel_type optional_map_ab = {.kind = CEL_OPAQUE, .name = "optional_type", PARAMS(&map_ab)};
const struct cel_type type_of_a = {.kind = CEL_TYPE, PARAMS(&type_a)};
OPAQUE(quantity_type, "kubernetes.Quantity");
OPAQUE(url_type, "kubernetes.URL");
OPAQUE(ip_type, "net.IP");
OPAQUE(cidr_type, "net.CIDR");
OPAQUE(format_type, "kubernetes.NamedFormat");
OPAQUE(semver_type, "kubernetes.Semver");
const struct cel_type optional_format = {.kind = CEL_OPAQUE, .name = "optional_type", PARAMS(&format_type)};
const struct cel_type optional_list_string = {.kind = CEL_OPAQUE, .name = "optional_type", PARAMS(&list_string)};
const struct cel_type map_string_list_string = {.kind = CEL_MAP, PARAMS(&cel_string, &list_string)};

/* What a name of a type means where a value is wanted. */
#define TYPE_OF(of) &(const struct cel_type){.kind = CEL_TYPE, PARAMS(of)}
static const struct {
    const char *name;
    const struct cel_type *type;
} idents[] = {
    {"bool", TYPE_OF(&cel_bool)},
    {"bytes", TYPE_OF(&cel_bytes)},
    {"double", TYPE_OF(&cel_double)},
    {"dyn", TYPE_OF(&cel_dyn)},
    {"google.protobuf.Duration", TYPE_OF(&cel_duration)},
    {"google.protobuf.Timestamp", TYPE_OF(&cel_timestamp)},
    {"int", TYPE_OF(&cel_int)},
    {"kubernetes.NamedFormat", TYPE_OF(&format_type)},
    {"kubernetes.Quantity", TYPE_OF(&quantity_type)},
    {"kubernetes.Semver", TYPE_OF(&semver_type)},
    {"kubernetes.URL", TYPE_OF(&url_type)},
    {"list", TYPE_OF(&list_dyn)},
    {"map", TYPE_OF((&(const struct cel_type){.kind = CEL_MAP, PARAMS(&cel_dyn, &cel_dyn)}))},
    {"net.CIDR", TYPE_OF(&cidr_type)},
    {"net.IP", TYPE_OF(&ip_type)},
    {"null_type", TYPE_OF(&cel_null)},
    {"optional_type", TYPE_OF((&(const struct cel_type){.kind = CEL_OPAQUE, .name = "optional_type", PARAMS(&cel_dyn)}))},
    {"string", TYPE_OF(&cel_string)},
    {"type", TYPE_OF(&cel_type_type)},
    {"uint", TYPE_OF(&cel_uint)},
};

const struct cel_type *type_ident(const char *name)
{
    for (size_t i = 0; i < KP_ARRAY_LEN(idents); i++)
        if (strcmp(idents[i].name, name) == 0)
            return idents[i].type;
    return NULL;
}

static const struct cel_type *with_params(struct kp_arena *arena, enum cel_kind kind, const char *name, const struct cel_type *a, const struct cel_type *b)
{
    struct cel_type *type = KP_NEW(arena, struct cel_type);
    const struct cel_type **params = KP_NEW_ARRAY(arena, const struct cel_type *, 2);
    params[0] = a;
    params[1] = b;
    *type = (struct cel_type){.kind = kind, .name = name, .params = params, .n_params = b ? 2 : 1};
    return type;
}

const struct cel_type *cel_list_of(struct kp_arena *arena, const struct cel_type *item)
{
    return with_params(arena, CEL_LIST, NULL, item, NULL);
}

const struct cel_type *cel_map_of(struct kp_arena *arena, const struct cel_type *key, const struct cel_type *value)
{
    return with_params(arena, CEL_MAP, NULL, key, value);
}

const struct cel_type *cel_optional_of(struct kp_arena *arena, const struct cel_type *type)
{
    return with_params(arena, CEL_OPAQUE, optional_a.name, type, NULL);
}

static int compare_fields(const void *a, const void *b)
{
    return strcmp(((const struct cel_field *)a)->name, ((const struct cel_field *)b)->name);
}

const struct cel_type *cel_object(struct kp_arena *arena, const char *name, struct cel_field *fields, size_t n_fields)
{
    struct cel_type *type = KP_NEW(arena, struct cel_type);
    if (n_fields > 0)
        qsort(fields, n_fields, sizeof(*fields), compare_fields);
    *type = (struct cel_type){.kind = CEL_OBJECT, .name = name, .fields = fields, .n_fields = n_fields};
    return type;
}

const struct cel_field *cel_field_find(const struct cel_type *type, const char *name)
{
    const struct cel_field key = {.name = name};
    return type->n_fields > 0 ? bsearch(&key, type->fields, type->n_fields, sizeof(key), compare_fields) : NULL;
}

bool cel_type_same(const struct cel_type *a, const struct cel_type *b)
{
    if (a == b)
        return true;
    if (a->kind != b->kind || a->n_params != b->n_params || !kp_streq(a->name, b->name))
        return false;
    for (size_t i = 0; i < a->n_params; i++)
        if (!cel_type_same(a->params[i], b->params[i]))
            return false;
    return true;
}

bool type_is_dyn(const struct cel_type *type)
{
    return type->kind == CEL_DYN || type->kind == CEL_ERROR;
}

bool type_is_optional(const struct cel_type *type)
{
    return type->kind == CEL_OPAQUE && type->n_params == 1 && strcmp(type->name, optional_a.name) == 0;
}

static const char *kind_name(const struct cel_type *type)
{
    static const char *const names[] = {[CEL_UNSET] = "", [CEL_ERROR] = "!error!", [CEL_DYN] = "dyn", [CEL_NULL] = "null", [CEL_BOOL] = "bool",
                                        [CEL_INT] = "int", [CEL_UINT] = "uint", [CEL_DOUBLE] = "double", [CEL_STRING] = "string", [CEL_BYTES] = "bytes",
                                        [CEL_TIMESTAMP] = "timestamp", [CEL_DURATION] = "duration", [CEL_LIST] = "list", [CEL_MAP] = "map",
                                        [CEL_TYPE] = "type"};
    return type->name ? type->name : names[type->kind];
}

void type_print(const struct cel_type *type, struct kp_buf *out)
{
    if (out->len > TYPE_TEXT_MAX)
        return;
    kp_buf_puts(out, kind_name(type));
    for (size_t i = 0; i < type->n_params; i++) {
        kp_buf_puts(out, i ? ", " : "(");
        type_print(type->params[i], out);
    }
    if (type->n_params > 0)
        kp_buf_putc(out, ')');
}

const char *cel_type_text(const struct cel_type *type, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    type_print(type, &out);
    return kp_arena_strndup(arena, out.data ? out.data : "", out.len);
}

const char *runtime_type_name(const struct cel_value *value)
{
    switch (value->kind) {
    case CEL_NULL:
        return "null_type";
    case CEL_TIMESTAMP:
        return "google.protobuf.Timestamp";
    case CEL_DURATION:
        return "google.protobuf.Duration";
    case CEL_OPTIONAL:
        return "optional_type";
    case CEL_OPAQUE:
    case CEL_OBJECT:
        return value->object.of->type->name;
    default:
        return kind_name(&(const struct cel_type){.kind = value->kind});
    }
}

/* ---- names of properties ------------------------------------------------------------------------------------------------------------------ */
static bool is_reserved_property(const char *name)
{
    static const char *const reserved[] = {"true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import",
                                           "let", "loop", "package", "namespace", "return", "var", "void", "while"};
    for (size_t i = 0; i < KP_ARRAY_LEN(reserved); i++)
        if (strcmp(name, reserved[i]) == 0)
            return true;
    return false;
}

const char *cel_escape(const char *name, struct kp_arena *arena)
{
    bool plain = true;
    if (!*name || (*name >= '0' && *name <= '9'))
        return NULL;
    if (is_reserved_property(name))
        return kp_arena_printf(arena, "__%s__", name);
    for (const char *p = name; *p; p++) {
        bool letter = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || *p == '_';
        if (!letter && !strchr("-./", *p))
            return NULL;
        plain = plain && letter && !(p[0] == '_' && p[1] == '_');
    }
    if (plain)
        return name;
    KP_AUTO_BUF struct kp_buf out = {0};
    for (const char *p = name; *p; p++) {
        bool two = p[0] == '_' && p[1] == '_';
        kp_buf_puts(&out, two ? "__underscores__" : *p == '-' ? "__dash__" : *p == '.' ? "__dot__" : *p == '/' ? "__slash__" : "");
        if (!two && !strchr("-./", *p))
            kp_buf_putc(&out, *p);
        p += two;
    }
    return kp_arena_strndup(arena, out.data, out.len);
}
