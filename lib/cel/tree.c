/* Trees of the codec as values: read as their types say, when they are looked at (k8s.io/apiserver pkg/cel/common/valuesunstructured.go). */
#include "lib/cel/cel_internal.h"

#include <ctype.h>

#define INDEX_MIN 24 /* members of an object from which looking for one goes by an index */

static struct cel_value fault(struct kp_arena *arena, const char *format, const char *text, const char *why)
{
    static const char full[] = "operation cancelled: memory limit exceeded";
    char message[512];
    snprintf(message, sizeof(message), format, text, why);
    char *copy = kp_arena_try(arena, strlen(message) + 1);
    if (copy)
        memcpy(copy, message, strlen(message) + 1);
    return (struct cel_value){.kind = CEL_ERROR, .error = copy ? copy : full};
}

static const char *go_type(const struct kp_value *value)
{
    static const char *const names[] = {"<nil>", "bool", "int64", "float64", "string", "[]interface {}", "map[string]interface {}"};
    return names[value->kind];
}

static struct cel_value of_container(const struct kp_value *value, const struct cel_type *type)
{
    return (struct cel_value){.kind = value->kind == KP_VALUE_ARRAY ? CEL_LIST : CEL_MAP, .is_tree = true, .tree = {value, type}};
}

static struct cel_value of_json(const struct kp_value *value)
{
    switch (value->kind) {
    case KP_VALUE_NULL:
        return cel_of_null();
    case KP_VALUE_BOOL:
        return cel_of_bool(value->boolean);
    case KP_VALUE_INT:
        return cel_of_int(value->integer);
    case KP_VALUE_DOUBLE:
        return cel_of_double(value->number);
    case KP_VALUE_STRING:
        return cel_of_string(value->string);
    default:
        return of_container(value, &cel_dyn);
    }
}

/* go-openapi/strfmt's other way to write durations: "3 days 2 hours", "5 min". */
static bool parse_worded_duration(const char *s, int64_t *ret_ns)
{
    static const struct {
        const char *word;
        int64_t ns;
    } units[] = {{"nanoseconds", 1}, {"nanosecond", 1}, {"nanos", 1}, {"nano", 1}, {"ns", 1}, {"microseconds", 1000}, {"microsecond", 1000}, {"micros", 1000},
                 {"micro", 1000}, {"us", 1000}, {"µs", 1000}, {"milliseconds", 1000000}, {"millisecond", 1000000}, {"millis", 1000000}, {"milli", 1000000},
                 {"ms", 1000000}, {"seconds", 1000000000}, {"second", 1000000000}, {"secs", 1000000000}, {"sec", 1000000000}, {"minutes", 60000000000},
                 {"minute", 60000000000}, {"mins", 60000000000}, {"min", 60000000000}, {"hours", 3600000000000}, {"hour", 3600000000000},
                 {"hrs", 3600000000000}, {"hr", 3600000000000}, {"weeks", 604800000000000}, {"week", 604800000000000}, {"wks", 604800000000000},
                 {"wk", 604800000000000}, {"days", 86400000000000}, {"day", 86400000000000}, {"s", 1000000000}, {"m", 60000000000}, {"h", 3600000000000},
                 {"d", 86400000000000}, {"w", 604800000000000}};
    int64_t sum = 0;
    bool any = false;
    while (*s) {
        char *end;
        while (isspace((unsigned char)*s))
            s++;
        if (!isdigit((unsigned char)*s))
            break;
        double count = strtod(s, &end);
        for (s = end; isspace((unsigned char)*s);)
            s++;
        size_t unit = 0;
        while (unit < KP_ARRAY_LEN(units) && !kp_starts_with(s, units[unit].word))
            unit++;
        if (unit == KP_ARRAY_LEN(units) || count * (double)units[unit].ns > 9e18 ||
            __builtin_add_overflow(sum, (int64_t)(count * (double)units[unit].ns), &sum))
            return false;
        s += strlen(units[unit].word);
        any = true;
    }
    *ret_ns = sum;
    return any && !*s;
}

static struct cel_value of_duration(const char *s, struct kp_arena *arena)
{
    struct cel_value out = {.kind = CEL_DURATION};
    if (parse_duration(s, strlen(s), &out.integer) || parse_worded_duration(s, &out.integer))
        return out;
    return fault(arena, "Invalid duration %s: %s", s, "unable to parse as duration");
}

static struct cel_value of_timestamp(const char *s, struct kp_arena *arena)
{
    struct cel_value out = {.kind = CEL_TIMESTAMP};
    char date[32];
    size_t len = strlen(s);
    if (len == 10) { /* format date */
        snprintf(date, sizeof(date), "%sT00:00:00Z", s);
        if (parse_timestamp(date, strlen(date), &out.integer, &out.nanos))
            return out;
    }
    if (parse_timestamp(s, len, &out.integer, &out.nanos))
        return out;
    return fault(arena, "Invalid date-time formatted string %s%s", s, "");
}

static struct cel_value of_bytes(const char *s, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    if (kp_base64_decode(&out, s, strlen(s)) < 0)
        return fault(arena, "Invalid byte formatted string %s%s", s, "");
    char *copy = kp_arena_try(arena, out.len + 1);
    if (!copy)
        return fault(arena, "operation cancelled: memory limit exceeded%s%s", "", "");
    if (out.len > 0)
        memcpy(copy, out.data, out.len);
    return (struct cel_value){.kind = CEL_BYTES, .text = {copy, out.len}};
}

static struct cel_value of_string(const struct kp_value *value, const struct cel_type *type, struct kp_arena *arena)
{
    if (value->kind != KP_VALUE_STRING)
        return fault(arena, "invalid data, expected string, got %s%s", go_type(value), "");
    switch (type->kind) {
    case CEL_DURATION:
        return of_duration(value->string, arena);
    case CEL_TIMESTAMP:
        return of_timestamp(value->string, arena);
    case CEL_BYTES:
        return of_bytes(value->string, arena);
    default:
        return cel_of_string(value->string);
    }
}

struct cel_value cel_of_tree(const struct kp_value *value, const struct cel_type *type, struct kp_arena *arena)
{
    if (!value)
        return (struct cel_value){0};
    if (value->kind == KP_VALUE_NULL)
        return cel_of_null();
    switch (type->kind) {
    case CEL_OBJECT:
    case CEL_MAP:
        return value->kind == KP_VALUE_OBJECT ? of_container(value, type)
                                              : fault(arena, "invalid data, expected a map for the provided schema with type=object%s%s", "", "");
    case CEL_LIST:
        return value->kind == KP_VALUE_ARRAY ? of_container(value, type)
                                             : fault(arena, "invalid data, expected an array for the provided schema with type=array%s%s", "", "");
    case CEL_STRING:
    case CEL_DURATION:
    case CEL_TIMESTAMP:
    case CEL_BYTES:
        return of_string(value, type, arena);
    case CEL_DOUBLE:
        return value->kind == KP_VALUE_INT      ? cel_of_double((double)value->integer)
               : value->kind == KP_VALUE_DOUBLE ? cel_of_double(value->number)
                                                : fault(arena, "invalid data, expected float, got %s%s", go_type(value), "");
    case CEL_INT:
        return value->kind == KP_VALUE_INT ? cel_of_int(value->integer) : fault(arena, "invalid data, expected int, got %s%s", go_type(value), "");
    case CEL_BOOL:
        return value->kind == KP_VALUE_BOOL ? cel_of_bool(value->boolean) : fault(arena, "invalid data, expected bool, got %s%s", go_type(value), "");
    default:
        return of_json(value);
    }
}

/* ---- members by key ------------------------------------------------------------------------------------------------------------------------------- */
static struct tree_index *index_tree(struct cel_eval *e, const struct kp_value *tree, struct tree_index **bucket)
{
    size_t n_slots = 64;
    while (n_slots < 2 * tree->object.len)
        n_slots *= 2;
    struct tree_index *index = cel_alloc(e, sizeof(*index));
    uint32_t *slots = cel_alloc(e, n_slots * sizeof(*slots));
    if (!index || !slots || !cel_work(e, tree->object.len))
        return NULL;
    *index = (struct tree_index){tree, slots, n_slots, *bucket};
    *bucket = index;
    for (size_t i = 0; i < tree->object.len; i++) {
        size_t at = kp_hash64(tree->object.members[i].key, strlen(tree->object.members[i].key)) & (n_slots - 1);
        while (slots[at])
            at = (at + 1) & (n_slots - 1);
        slots[at] = (uint32_t)i + 1;
    }
    return index;
}

static bool same_key(const char *key, const char *text, size_t len)
{
    return strncmp(key, text, len) == 0 && key[len] == '\0';
}

const struct kp_value *tree_member(struct cel_eval *e, const struct kp_value *tree, const char *key, size_t len)
{
    if (memchr(key, '\0', len))
        return NULL;
    if (tree->object.len < INDEX_MIN) {
        for (size_t i = 0; i < tree->object.len; i++)
            if (same_key(tree->object.members[i].key, key, len))
                return tree->object.members[i].value;
        return NULL;
    }
    struct tree_index **bucket = &e->indexes[((uintptr_t)tree >> 6) % TREE_INDEX_BUCKETS], *index = *bucket;
    while (index && index->tree != tree && cel_work(e, 1))
        index = index->next;
    if (!index || index->tree != tree)
        index = index_tree(e, tree, bucket);
    if (!index)
        return NULL;
    for (size_t at = kp_hash64(key, len) & (index->n_slots - 1); index->slots[at]; at = (at + 1) & (index->n_slots - 1)) {
        const struct kp_member *member = &tree->object.members[index->slots[at] - 1];
        if (same_key(member->key, key, len))
            return member->value;
    }
    return NULL;
}
