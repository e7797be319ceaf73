/* Equality over all types, order within those that have one, and lists that merge by their items (cel-spec, "Equality"; k8s.io/apiserver pkg/cel/common). */
#include "lib/cel/cel_internal.h"

#include <math.h>

#define UNORDERED 3

static bool is_number(const struct cel_value *v)
{
    return v->kind == CEL_INT || v->kind == CEL_UINT || v->kind == CEL_DOUBLE;
}

static int order(bool less, bool more)
{
    return less ? -1 : more;
}

static int compare_double_int(double d, int64_t i)
{
    if (isnan(d))
        return UNORDERED;
    if (d < -0x1p63)
        return -1;
    if (d >= 0x1p63)
        return 1;
    int64_t truncated = (int64_t)d;
    return truncated != i ? order(truncated < i, true) : order(d < (double)truncated, d > (double)truncated);
}

static int compare_double_uint(double d, uint64_t u)
{
    if (isnan(d))
        return UNORDERED;
    if (d < 0)
        return -1;
    if (d >= 0x1p64)
        return 1;
    uint64_t truncated = (uint64_t)d;
    return truncated != u ? order(truncated < u, true) : order(false, d > (double)truncated);
}

static int reversed(int result)
{
    return result == UNORDERED ? result : -result;
}

static int compare_numbers(const struct cel_value *a, const struct cel_value *b)
{
    if (a->kind == CEL_DOUBLE && b->kind == CEL_DOUBLE)
        return isnan(a->number) || isnan(b->number) ? UNORDERED : order(a->number < b->number, a->number > b->number);
    if (a->kind == CEL_DOUBLE)
        return b->kind == CEL_INT ? compare_double_int(a->number, b->integer) : compare_double_uint(a->number, b->uinteger);
    if (b->kind == CEL_DOUBLE)
        return reversed(compare_numbers(b, a));
    if (a->kind == b->kind)
        return a->kind == CEL_INT ? order(a->integer < b->integer, a->integer > b->integer) : order(a->uinteger < b->uinteger, a->uinteger > b->uinteger);
    if (a->kind == CEL_UINT)
        return reversed(compare_numbers(b, a));
    return a->integer < 0 ? -1 : order((uint64_t)a->integer < b->uinteger, (uint64_t)a->integer > b->uinteger);
}

static int compare_text(const struct cel_value *a, const struct cel_value *b)
{
    int result = memcmp(a->text.data, b->text.data, KP_MIN(a->text.len, b->text.len));
    return result ? order(result < 0, true) : order(a->text.len < b->text.len, a->text.len > b->text.len);
}

int values_compare(const struct cel_value *a, const struct cel_value *b)
{
    if (is_number(a) && is_number(b))
        return compare_numbers(a, b);
    if (a->kind != b->kind)
        return COMPARE_ERROR;
    switch (a->kind) {
    case CEL_BOOL:
        return order(a->boolean < b->boolean, a->boolean > b->boolean);
    case CEL_STRING:
    case CEL_BYTES:
        return compare_text(a, b);
    case CEL_DURATION:
        return order(a->integer < b->integer, a->integer > b->integer);
    case CEL_TIMESTAMP:
        return a->integer != b->integer ? order(a->integer < b->integer, true) : order(a->nanos < b->nanos, a->nanos > b->nanos);
    default:
        return COMPARE_ERROR;
    }
}

/* ---- equality ---------------------------------------------------------------------------------------------------------------------------------------- */
static bool equal(struct cel_eval *e, const struct cel_value *a, const struct cel_value *b, int depth);

/* What tells an item of a list of type map apart, as text. */
static struct cel_value item_key(struct cel_eval *e, const struct cel_value *item, const struct cel_type *type)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    for (size_t i = 0; i < type->n_keys; i++) {
        struct cel_value key = cel_of_string(type->keys[i]), part;
        bool found = item->kind == CEL_MAP && map_find(e, item, &key, &part);
        kp_buf_printf(&out, "%d:", found ? (int)part.kind : -1);
        if (found && part.kind == CEL_STRING)
            kp_json_string_n(&out, part.text.data, part.text.len);
        else if (found && (part.kind == CEL_INT || part.kind == CEL_UINT))
            kp_buf_printf(&out, "%lld", (long long)part.integer);
        else if (found && part.kind == CEL_BOOL)
            kp_buf_puts(&out, part.boolean ? "true" : "false");
        else if (found && part.kind == CEL_DOUBLE)
            kp_buf_printf(&out, "%.17g", part.number);
        kp_buf_putc(&out, ',');
    }
    return cel_copy_text(e, out.data ? out.data : "", out.len);
}

/* The items under what tells them apart: themselves in sets. */
static struct cel_value by_key(struct cel_eval *e, const struct cel_value *list, const struct cel_type *type)
{
    size_t len = cel_len(e, list);
    struct cel_value map = map_new(e, len);
    for (size_t i = 0; i < len && !e->cancelled; i++) {
        struct cel_value item = cel_item(e, list, i);
        map_add(e, &map, type->list_type == CEL_LIST_SET ? item : item_key(e, &item, type), item);
    }
    return map;
}

static bool equal_unordered(struct cel_eval *e, const struct cel_value *a, const struct cel_value *b, int depth)
{
    const struct cel_type *type = a->tree.type;
    struct cel_value mine = by_key(e, a, type), theirs = by_key(e, b, type), key, item, other;
    struct map_walk walk = {0};
    if (e->cancelled || mine.map->len != theirs.map->len)
        return false;
    while (map_next(e, &mine, &walk, &key, &item))
        if (!map_find(e, &theirs, &key, &other) || !equal(e, &item, &other, depth + 1))
            return false;
    return !e->cancelled;
}

static bool equal_lists(struct cel_eval *e, const struct cel_value *a, const struct cel_value *b, int depth)
{
    size_t len = cel_len(e, a);
    if (len != cel_len(e, b))
        return false;
    if (a->is_tree && a->tree.type->kind == CEL_LIST && a->tree.type->list_type != CEL_LIST_ATOMIC)
        return equal_unordered(e, a, b, depth);
    for (size_t i = 0; i < len; i++) {
        struct cel_value x = cel_item(e, a, i), y = cel_item(e, b, i);
        if (!equal(e, &x, &y, depth + 1))
            return false;
    }
    return true;
}

/* Objects whose type does not say all there is in them: the rest is compared as it is. */
static bool equal_trees(struct cel_eval *e, const struct cel_value *a, const struct cel_value *b, int depth)
{
    const struct kp_value *x = a->tree.value, *y = b->tree.value;
    for (size_t i = 0; i < x->object.len; i++) {
        const struct kp_member *member = &x->object.members[i];
        const struct kp_value *other = tree_member(e, y, member->key, strlen(member->key));
        if (!other)
            return false;
        const struct cel_field *field = field_of_key(e, a->tree.type, member->key);
        const struct cel_field *theirs = b->tree.type->kind == CEL_OBJECT ? field_of_key(e, b->tree.type, member->key) : NULL;
        if (!field) {
            if (!cel_work(e, 16) || !kp_value_equal(member->value, other))
                return false;
            continue;
        }
        struct cel_value one = cel_of_tree(member->value, field->type, e->arena);
        struct cel_value two = cel_of_tree(other, theirs ? theirs->type : field->type, e->arena);
        if (!equal(e, &one, &two, depth + 1))
            return false;
    }
    return true;
}

static bool equal_maps(struct cel_eval *e, const struct cel_value *a, const struct cel_value *b, int depth)
{
    struct map_walk walk = {0};
    struct cel_value key, value, other;
    if (cel_len(e, a) != cel_len(e, b))
        return false;
    if (a->is_tree && b->is_tree && a->tree.type->kind == CEL_OBJECT)
        return equal_trees(e, a, b, depth);
    while (map_next(e, a, &walk, &key, &value))
        if (!map_find(e, b, &key, &other) || !equal(e, &value, &other, depth + 1))
            return false;
    return !e->cancelled;
}

static bool equal(struct cel_eval *e, const struct cel_value *a, const struct cel_value *b, int depth)
{
    if (!cel_work(e, 1) || depth > CEL_DEPTH_MAX)
        return false;
    if (is_number(a) && is_number(b))
        return compare_numbers(a, b) == 0;
    if (a->kind != b->kind)
        return false;
    switch (a->kind) {
    case CEL_NULL:
        return true;
    case CEL_STRING:
    case CEL_BYTES:
        return a->text.len == b->text.len && cel_work(e, a->text.len / 64) && memcmp(a->text.data, b->text.data, a->text.len) == 0;
    case CEL_LIST:
        return equal_lists(e, a, b, depth);
    case CEL_MAP:
        return equal_maps(e, a, b, depth);
    case CEL_OPTIONAL:
        return a->optional && b->optional ? equal(e, a->optional, b->optional, depth + 1) : a->optional == b->optional;
    case CEL_TYPE:
        return a->type->kind == b->type->kind && kp_streq(a->type->name, b->type->name);
    case CEL_OPAQUE:
    case CEL_OBJECT:
        return a->object.of == b->object.of && (a->object.of->equal ? a->object.of->equal(a->object.data, b->object.data) : a->object.data == b->object.data);
    default:
        return values_compare(a, b) == 0;
    }
}

bool values_equal(struct cel_eval *e, const struct cel_value *a, const struct cel_value *b)
{
    return equal(e, a, b, 0);
}

/* ---- sizes --------------------------------------------------------------------------------------------------------------------------------------------- */
size_t text_points(struct cel_eval *e, const struct cel_value *v)
{
    size_t points = 0;
    cel_work(e, v->text.len / 16);
    for (size_t i = 0; i < v->text.len; i++)
        points += ((unsigned char)v->text.data[i] & 0xc0) != 0x80;
    return points;
}

uint64_t value_size(struct cel_eval *e, const struct cel_value *v)
{
    switch (v->kind) {
    case CEL_STRING:
        return text_points(e, v);
    case CEL_BYTES:
        return v->text.len;
    case CEL_LIST:
    case CEL_MAP:
        return cel_len(e, v);
    case CEL_OPTIONAL:
        return v->optional ? value_size(e, v->optional) : 1;
    default:
        return 1;
    }
}

/* ---- concatenation -------------------------------------------------------------------------------------------------------------------------------------- */
/* Of a set what is new; of a list by keys the other's items in place of those with the same. */
static struct cel_value merge(struct cel_eval *e, const struct cel_value *a, const struct cel_value *b)
{
    const struct cel_type *type = a->tree.type;
    struct cel_value map = by_key(e, a, type), out = cel_list_new(e, cel_len(e, a) + cel_len(e, b));
    for (size_t i = 0; i < cel_len(e, b) && !e->cancelled; i++) {
        struct cel_value item = cel_item(e, b, i), key = type->list_type == CEL_LIST_SET ? item : item_key(e, &item, type);
        if (map_add(e, &map, key, item) || type->list_type == CEL_LIST_SET)
            continue;
        for (size_t j = 0; j < map.map->len && cel_work(e, 1); j++)
            if (values_equal(e, &map.map->entries[j].key, &key))
                map.map->entries[j].value = item;
    }
    for (size_t i = 0; !e->cancelled && i < map.map->len; i++)
        cel_list_add(e, &out, map.map->entries[i].value);
    return out;
}

struct cel_value add_lists(struct cel_eval *e, const struct cel_value *a, const struct cel_value *b)
{
    size_t len = cel_len(e, a), more = cel_len(e, b);
    if (a->is_tree && a->tree.type->kind == CEL_LIST && a->tree.type->list_type != CEL_LIST_ATOMIC)
        return merge(e, a, b);
    struct cel_value out = *a;
    if (a->is_tree || more > 1) {
        if (!cel_work(e, len + more))
            return out;
        out = cel_list_new(e, len + more);
        for (size_t i = 0; i < len && !e->cancelled; i++)
            cel_list_add(e, &out, cel_item(e, a, i));
    }
    for (size_t i = 0; i < more && !e->cancelled; i++)
        cel_list_add(e, &out, cel_item(e, b, i));
    return out;
}
