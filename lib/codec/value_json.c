/* Trees from and to JSON text, and between trees and structs. */
#include "codec/codec_internal.h"

#include <errno.h>
#include <math.h>

struct parser {
    struct kp_reader r;
    struct kp_string_list *problems; /* or NULL */
    int line;
    const char *counted; /* lines are counted up to here */
};

static int parse_value(struct parser *p, const struct kp_path *path, struct kp_value **ret);

static int failed(const struct parser *p)
{
    return p->r.error->code ? p->r.error->code : KP_EBADREQUEST;
}

static int line_here(struct parser *p)
{
    for (; p->counted < p->r.p; p->counted++)
        p->line += *p->counted == '\n';
    return p->line;
}

/* Integers that fit stay integers, as Kubernetes decodes custom resources. */
static int parse_number(struct parser *p, struct kp_value *value)
{
    const char *s;
    size_t len;
    char text[512];
    if (kp_reader_number(&p->r, &s, &len) < 0)
        return failed(p);
    if (len >= sizeof(text))
        return kp_fail(p->r.error, KP_EBADREQUEST, "number of %zu digits is too long", len);
    memcpy(text, s, len);
    text[len] = '\0';
    if (!strpbrk(text, ".eE") && kp_parse_i64(text, &value->integer) == 0) {
        value->kind = KP_VALUE_INT;
        return 0;
    }
    value->kind = KP_VALUE_DOUBLE;
    value->number = strtod(text, NULL);
    if (!isfinite(value->number))
        return kp_fail(p->r.error, KP_EBADREQUEST, "json: cannot unmarshal number %.60s into Go value of type float64", text);
    return 0;
}

static int parse_array(struct parser *p, const struct kp_path *path, struct kp_value *value)
{
    bool first = true;
    int rc;
    value->kind = KP_VALUE_ARRAY;
    if (kp_reader_enter(&p->r) < 0)
        return failed(p);
    while ((rc = kp_reader_element(&p->r, &first)) > 0) {
        struct kp_path at = {.parent = path, .index = value->array.len};
        struct kp_value *item;
        rc = parse_value(p, &at, &item);
        if (rc < 0)
            return rc;
        if (!kp_value_append_try(p->r.arena, value, item))
            return kp_reader_too_large(&p->r);
    }
    kp_reader_leave(&p->r);
    return rc < 0 ? failed(p) : 0;
}

struct key_place {
    const char *key;
    size_t index;
};

static int compare_places(const void *a, const void *b)
{
    const struct key_place *x = a, *y = b;
    int order = strcmp(x->key, y->key);
    return order ? order : (x->index > y->index) - (x->index < y->index);
}

/* Of equal keys the last value stays, at the first one's place. Sorted, so that large objects stay linearithmic. */
static void drop_duplicates(struct parser *p, const struct kp_path *path, struct kp_value *value)
{
    size_t n = value->object.len, kept = 0;
    if (n < 2)
        return;
    struct kp_member *members = value->object.members;
    struct key_place *places = kp_malloc(n * sizeof(*places));
    for (size_t i = 0; i < n; i++)
        places[i] = (struct key_place){members[i].key, i};
    qsort(places, n, sizeof(*places), compare_places);
    for (size_t i = 0; i < n;) {
        size_t j = i + 1;
        for (; j < n && strcmp(places[i].key, places[j].key) == 0; j++) {
            struct kp_path at = {.parent = path, .name = places[i].key};
            members[places[i].index].value = members[places[j].index].value;
            members[places[j].index].key = NULL;
            kp_path_problem(&at, "duplicate field", p->r.arena, p->problems);
        }
        i = j;
    }
    free(places);
    for (size_t i = 0; i < n; i++)
        if (members[i].key)
            members[kept++] = members[i];
    value->object.len = kept;
}

static int parse_object(struct parser *p, const struct kp_path *path, struct kp_value *value)
{
    bool first = true;
    const char *key;
    size_t len;
    int rc;
    value->kind = KP_VALUE_OBJECT;
    if (kp_reader_enter(&p->r) < 0)
        return failed(p);
    while ((rc = kp_reader_key(&p->r, &first, &key, &len)) > 0) {
        struct kp_path at = {.parent = path, .name = key};
        struct kp_value *member;
        rc = parse_value(p, &at, &member);
        if (rc < 0)
            return rc;
        if (!kp_value_add_try(p->r.arena, value, key, member))
            return kp_reader_too_large(&p->r);
    }
    kp_reader_leave(&p->r);
    if (rc < 0)
        return failed(p);
    drop_duplicates(p, path, value);
    return 0;
}

static int parse_value(struct parser *p, const struct kp_path *path, struct kp_value **ret)
{
    size_t len;
    char c = kp_reader_peek(&p->r);
    struct kp_value *value = kp_arena_try(p->r.arena, sizeof(*value));
    if (!value)
        return kp_reader_too_large(&p->r);
    *ret = value;
    value->line = line_here(p);
    switch (c) {
    case '{':
        return parse_object(p, path, value);
    case '[':
        return parse_array(p, path, value);
    case '"':
        value->kind = KP_VALUE_STRING;
        return kp_reader_string(&p->r, &value->string, &len) < 0 ? failed(p) : 0;
    case 't':
    case 'f':
        value->kind = KP_VALUE_BOOL;
        value->boolean = c == 't';
        return kp_reader_literal(&p->r, c == 't' ? "true" : "false") < 0 ? failed(p) : 0;
    case 'n':
        return kp_reader_literal(&p->r, "null") < 0 ? failed(p) : 0;
    default:
        return parse_number(p, value);
    }
}

int kp_value_parse(const char *text, size_t len, struct kp_arena *arena, struct kp_string_list *problems, struct kp_value **ret_value,
                   struct kp_error *error)
{
    struct kp_error own = {0};
    struct parser p = {.r = {.p = text, .end = text + len, .arena = arena, .error = error ? error : &own}, .problems = problems,
                       .line = 1, .counted = text};
    struct kp_value *value;
    p.r.error->code = 0;
    if (len > KP_JSON_TEXT_MAX)
        return kp_fail(error, KP_ETOOLARGE, "JSON text of %zu bytes exceeds %zu", len, KP_JSON_TEXT_MAX);
    int rc = parse_value(&p, NULL, &value);
    if (rc == 0 && kp_reader_finish(&p.r) < 0)
        rc = failed(&p);
    if (rc == 0)
        *ret_value = value;
    return rc;
}

/* ---- printing ------------------------------------------------------------------------------------------------------ */
struct style {
    bool sorted;
    int indent; /* 0: compact */
};

static int compare_members(const void *a, const void *b)
{
    return strcmp(((const struct kp_member *)a)->key, ((const struct kp_member *)b)->key);
}

struct kp_member *kp_value_members_sorted(const struct kp_value *value)
{
    size_t n = value->object.len;
    struct kp_member *members = kp_malloc(KP_MAX(n, (size_t)1) * sizeof(*members));
    if (n > 0) {
        memcpy(members, value->object.members, n * sizeof(*members));
        qsort(members, n, sizeof(*members), compare_members);
    }
    return members;
}

static void break_line(const struct style *style, int level, struct kp_buf *out)
{
    if (style->indent == 0)
        return;
    kp_buf_putc(out, '\n');
    for (int i = 0; i < level * style->indent; i++)
        kp_buf_putc(out, ' ');
}

static void print_value(const struct kp_value *value, const struct style *style, int level, struct kp_buf *out);

static void print_object(const struct kp_value *value, const struct style *style, int level, struct kp_buf *out)
{
    struct kp_member *sorted = style->sorted ? kp_value_members_sorted(value) : NULL;
    const struct kp_member *members = sorted ? sorted : value->object.members;
    kp_buf_putc(out, '{');
    for (size_t i = 0; i < value->object.len; i++) {
        if (i > 0)
            kp_buf_putc(out, ',');
        break_line(style, level + 1, out);
        kp_json_string(out, members[i].key);
        kp_buf_puts(out, style->indent ? ": " : ":");
        print_value(members[i].value, style, level + 1, out);
    }
    if (value->object.len > 0)
        break_line(style, level, out);
    kp_buf_putc(out, '}');
    free(sorted);
}

static void print_value(const struct kp_value *value, const struct style *style, int level, struct kp_buf *out)
{
    switch (value->kind) {
    case KP_VALUE_NULL:
        kp_buf_puts(out, "null");
        break;
    case KP_VALUE_BOOL:
        kp_buf_puts(out, value->boolean ? "true" : "false");
        break;
    case KP_VALUE_INT:
        kp_buf_printf(out, "%lld", (long long)value->integer);
        break;
    case KP_VALUE_DOUBLE:
        kp_json_double(out, value->number);
        break;
    case KP_VALUE_STRING:
        kp_json_string(out, value->string);
        break;
    case KP_VALUE_ARRAY:
        kp_buf_putc(out, '[');
        for (size_t i = 0; i < value->array.len; i++) {
            if (i > 0)
                kp_buf_putc(out, ',');
            break_line(style, level + 1, out);
            print_value(value->array.items[i], style, level + 1, out);
        }
        if (value->array.len > 0)
            break_line(style, level, out);
        kp_buf_putc(out, ']');
        break;
    case KP_VALUE_OBJECT:
        print_object(value, style, level, out);
        break;
    }
}

void kp_value_print(const struct kp_value *value, struct kp_buf *out)
{
    print_value(value, &(struct style){0}, 0, out);
}

void kp_value_print_sorted(const struct kp_value *value, struct kp_buf *out)
{
    print_value(value, &(struct style){.sorted = true}, 0, out);
}

void kp_value_print_pretty(const struct kp_value *value, int indent, struct kp_buf *out)
{
    print_value(value, &(struct style){.sorted = true, .indent = indent}, 0, out);
}

/* ---- trees and structs: by way of text, so that one decoder decides what is valid ------------------------------------ */
struct kp_value *kp_value_from_object(const struct kp_type *type, const void *obj, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    struct kp_value *value = NULL;
    struct kp_error error = {0};
    kp_json_encode(type, obj, &text);
    if (kp_value_parse(text.data, text.len, arena, NULL, &value, &error) < 0)
        kp_assert_fail(error.message, type->name, 0); /* our own encoder's text */
    return value;
}

int kp_value_to_object(const struct kp_type *type, const struct kp_value *value, struct kp_arena *arena, struct kp_decode *options,
                       void **ret_obj, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    kp_value_print(value, &text);
    return kp_json_decode(type, text.data, text.len, arena, options, ret_obj, error);
}
