/* Making, copying, comparing and defaulting objects of any type by its table. */
#include "codec/codec_internal.h"

#include "api/k8s.h"

bool kp_object_init(const struct kp_type *type, void *obj, struct kp_arena *arena)
{
    for (size_t i = 0; i < type->n_fields; i++) {
        const struct kp_field *field = &type->fields[i];
        if (!field->value || field->kind != KP_KIND_STRUCT)
            continue;
        void *member = kp_object_try(field->type, arena);
        if (!member)
            return false;
        *(void **)KP_AT(obj, field->offset) = member;
    }
    return true;
}

void *kp_object_try(const struct kp_type *type, struct kp_arena *arena)
{
    void *obj = kp_arena_try(arena, type->size);
    return obj && kp_object_init(type, obj, arena) ? obj : NULL;
}

void *kp_object_new(const struct kp_type *type, struct kp_arena *arena)
{
    void *obj = kp_object_try(type, arena);
    KP_ASSERT(obj != NULL);
    return obj;
}

struct k8s_object_meta *kp_object_meta(const struct kp_type *type, const void *obj)
{
    if (!type->has_object_meta)
        return NULL;
    return *(struct k8s_object_meta *const *)KP_CAT(obj, type->metadata_offset);
}

struct k8s_list_meta *kp_object_list_meta(const struct kp_type *type, const void *obj)
{
    if (type->has_object_meta || type->metadata_offset < 0)
        return NULL;
    return *(struct k8s_list_meta *const *)KP_CAT(obj, type->metadata_offset);
}

/* ---- presence ------------------------------------------------------------------------------------------------------ */
static bool struct_empty(const struct kp_type *type, const void *obj)
{
    for (size_t i = 0; obj && i < type->n_fields; i++)
        if (kp_field_present(&type->fields[i], obj))
            return false;
    return true;
}

static bool number_nonzero(const struct kp_field *field, const void *slot)
{
    switch (field->kind) {
    case KP_KIND_BOOL:
        return *(const bool *)slot;
    case KP_KIND_INT32:
        return *(const int32_t *)slot != 0;
    case KP_KIND_INT64:
        return *(const int64_t *)slot != 0;
    default:
        return *(const double *)slot != 0;
    }
}

bool kp_field_present(const struct kp_field *field, const void *obj)
{
    const void *slot = KP_CAT(obj, field->offset);
    if (field->cardinality != KP_ONE) {
        const struct kp_list *list = slot;
        return list->len > 0 || (field->nullable && list->items);
    }
    switch (field->kind) {
    case KP_KIND_STRING:
    case KP_KIND_DURATION: {
        const char *s = *(const char *const *)slot;
        return s && (field->nullable || *s);
    }
    case KP_KIND_QUANTITY:
        return *(const char *const *)slot != NULL;
    case KP_KIND_INT_OR_STRING:
        return ((const struct kp_int_or_string *)slot)->kind != KP_IOS_ABSENT;
    case KP_KIND_TIME:
    case KP_KIND_MICRO_TIME:
        return ((const struct kp_time *)slot)->set;
    case KP_KIND_BYTES:
        return ((const struct kp_bytes *)slot)->len > 0;
    case KP_KIND_RAW:
        return ((const struct kp_raw *)slot)->json != NULL;
    case KP_KIND_STRUCT: {
        const void *member = *(const void *const *)slot;
        return field->value ? !struct_empty(field->type, member) : member != NULL;
    }
    default:
        /* Only where zero differs from absent does has_x decide: a plain assignment to another field is not lost. */
        return field->nullable ? KP_HAS(field, obj) : number_nonzero(field, slot);
    }
}

bool kp_field_zero(const struct kp_field *field, const void *obj)
{
    if (field->cardinality != KP_ONE)
        return ((const struct kp_list *)KP_CAT(obj, field->offset))->items == NULL;
    return !kp_field_present(field, obj);
}

/* ---- copies -------------------------------------------------------------------------------------------------------- */
static void copy_struct(const struct kp_type *type, void *to, const void *from, struct kp_arena *arena);

/* to holds a byte copy of the original; everything it points to is copied. */
static void copy_single(const struct kp_field *field, void *to, struct kp_arena *arena)
{
    switch (field->kind) {
    case KP_KIND_STRING:
    case KP_KIND_QUANTITY:
    case KP_KIND_DURATION:
        *(const char **)to = kp_arena_strdup(arena, *(const char **)to);
        break;
    case KP_KIND_INT_OR_STRING: {
        struct kp_int_or_string *ios = to;
        ios->s = ios->kind == KP_IOS_STRING ? kp_arena_strdup(arena, ios->s) : NULL;
        break;
    }
    case KP_KIND_BYTES: {
        struct kp_bytes *bytes = to;
        if (bytes->data)
            bytes->data = kp_arena_memdup(arena, bytes->len ? (const void *)bytes->data : "", KP_MAX(bytes->len, (size_t)1));
        break;
    }
    case KP_KIND_RAW: {
        struct kp_raw *raw = to;
        if (raw->json)
            raw->json = kp_arena_strndup(arena, raw->json, raw->len);
        break;
    }
    case KP_KIND_STRUCT: {
        void **member = to;
        if (*member)
            *member = kp_object_clone(field->type, *member, arena);
        break;
    }
    default:
        break;
    }
}

static void copy_list(const struct kp_field *field, struct kp_list *list, struct kp_arena *arena)
{
    size_t size = kp_item_size(field);
    char *items = kp_arena_alloc(arena, KP_MAX(list->len * size, (size_t)1));
    if (!list->items)
        return;
    if (list->len > 0)
        memcpy(items, list->items, list->len * size);
    for (size_t i = 0; i < list->len; i++) {
        if (field->kind == KP_KIND_STRUCT)
            copy_struct(field->type, items + i * size, (const char *)list->items + i * size, arena);
        else
            copy_single(field, items + i * size, arena);
    }
    list->items = items;
}

static void copy_map(const struct kp_field *field, struct kp_list *map, struct kp_arena *arena)
{
    static const struct kp_field strings = {.kind = KP_KIND_STRING, .cardinality = KP_LIST, .has_offset = -1};
    size_t size = kp_item_size(field);
    char *items = kp_arena_alloc(arena, KP_MAX(map->len * size, (size_t)1));
    if (!map->items)
        return;
    if (map->len > 0)
        memcpy(items, map->items, map->len * size);
    for (size_t i = 0; i < map->len; i++) {
        char *entry = items + i * size;
        *(const char **)(void *)entry = kp_arena_strdup(arena, *(const char **)(void *)entry);
        if (field->kind == KP_KIND_STRING_LIST)
            copy_list(&strings, (struct kp_list *)(void *)(entry + sizeof(const char *)), arena);
        else
            copy_single(field, entry + sizeof(const char *), arena);
    }
    map->items = items;
}

static void copy_struct(const struct kp_type *type, void *to, const void *from, struct kp_arena *arena)
{
    memcpy(to, from, type->size);
    for (size_t i = 0; i < type->n_fields; i++) {
        const struct kp_field *field = &type->fields[i];
        void *slot = KP_AT(to, field->offset);
        if (field->cardinality == KP_LIST)
            copy_list(field, slot, arena);
        else if (field->cardinality == KP_MAP)
            copy_map(field, slot, arena);
        else
            copy_single(field, slot, arena);
    }
}

void *kp_object_clone(const struct kp_type *type, const void *obj, struct kp_arena *arena)
{
    void *copy = kp_arena_alloc(arena, type->size);
    copy_struct(type, copy, obj, arena);
    return copy;
}

/* ---- equality ------------------------------------------------------------------------------------------------------ */
static bool string_equal(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool single_equal(const struct kp_field *field, const void *a, const void *b)
{
    switch (field->kind) {
    case KP_KIND_STRING:
    case KP_KIND_DURATION:
        return string_equal(*(const char *const *)a, *(const char *const *)b);
    case KP_KIND_QUANTITY:
        return string_equal(*(const char *const *)a, *(const char *const *)b) ||
               kp_quantity_str_cmp(*(const char *const *)a, *(const char *const *)b) == 0;
    case KP_KIND_BOOL:
        return *(const bool *)a == *(const bool *)b;
    case KP_KIND_INT32:
        return *(const int32_t *)a == *(const int32_t *)b;
    case KP_KIND_INT64:
        return *(const int64_t *)a == *(const int64_t *)b;
    case KP_KIND_DOUBLE:
        return memcmp(a, b, sizeof(double)) == 0 || *(const double *)a == *(const double *)b;
    case KP_KIND_INT_OR_STRING: {
        const struct kp_int_or_string *x = a, *y = b;
        if (x->kind != y->kind)
            return false;
        return x->kind == KP_IOS_STRING ? string_equal(x->s, y->s) : x->kind == KP_IOS_ABSENT || x->i == y->i;
    }
    case KP_KIND_TIME:
    case KP_KIND_MICRO_TIME: {
        const struct kp_time *x = a, *y = b;
        return x->set == y->set && (!x->set || (x->seconds == y->seconds && x->nanos == y->nanos));
    }
    case KP_KIND_BYTES: {
        const struct kp_bytes *x = a, *y = b;
        return x->len == y->len && (x->len == 0 || memcmp(x->data, y->data, x->len) == 0);
    }
    case KP_KIND_RAW: {
        const struct kp_raw *x = a, *y = b;
        return !x->json == !y->json && x->len == y->len && (x->len == 0 || memcmp(x->json, y->json, x->len) == 0);
    }
    case KP_KIND_STRUCT:
        return kp_object_equal(field->type, a, b);
    case KP_KIND_STRING_LIST: {
        const struct kp_string_list *x = a, *y = b;
        for (size_t i = 0; x->len == y->len && i < x->len; i++)
            if (!string_equal(x->items[i], y->items[i]))
                return false;
        return x->len == y->len;
    }
    }
    return false;
}

static bool many_equal(const struct kp_field *field, const struct kp_list *a, const struct kp_list *b)
{
    size_t size = kp_item_size(field);
    if (a->len != b->len)
        return false;
    for (size_t i = 0; i < a->len; i++) {
        const char *x = (const char *)a->items + i * size, *y = (const char *)b->items + i * size;
        if (field->cardinality == KP_MAP) {
            if (!string_equal(*(const char *const *)(const void *)x, *(const char *const *)(const void *)y))
                return false;
            x += sizeof(const char *);
            y += sizeof(const char *);
            if (field->kind == KP_KIND_STRUCT) {
                x = *(const char *const *)(const void *)x;
                y = *(const char *const *)(const void *)y;
            }
        }
        if (!single_equal(field, x, y))
            return false;
    }
    return true;
}

/* By-value members that are absent are written as 0, so both mean the same. */
static bool is_written_zero(const struct kp_field *field, const void *slot)
{
    const struct kp_int_or_string *ios = slot;
    if (field->kind == KP_KIND_INT_OR_STRING)
        return ios->kind == KP_IOS_INT && ios->i == 0;
    return field->kind == KP_KIND_QUANTITY && kp_quantity_str_cmp(*(const char *const *)slot, NULL) == 0;
}

bool kp_object_equal(const struct kp_type *type, const void *a, const void *b)
{
    if (a == b)
        return true;
    if (!a || !b)
        return struct_empty(type, a ? a : b);
    for (size_t i = 0; i < type->n_fields; i++) {
        const struct kp_field *field = &type->fields[i];
        const void *x = KP_CAT(a, field->offset), *y = KP_CAT(b, field->offset);
        if (field->cardinality != KP_ONE) {
            if (!many_equal(field, x, y) || kp_field_present(field, a) != kp_field_present(field, b))
                return false;
            continue;
        }
        bool has_x = kp_field_present(field, a), has_y = kp_field_present(field, b);
        if (has_x != has_y && !(field->value && is_written_zero(field, has_x ? x : y)))
            return false;
        if (has_x != has_y)
            continue;
        if (!has_x)
            continue;
        if (field->kind == KP_KIND_STRUCT) {
            x = *(const void *const *)x;
            y = *(const void *const *)y;
        }
        if (!single_equal(field, x, y))
            return false;
    }
    return true;
}

/* ---- defaults ------------------------------------------------------------------------------------------------------ */
static void default_field(const struct kp_type *type, const struct kp_field *field, void *obj, struct kp_arena *arena)
{
    struct kp_error error = {0};
    void *one = NULL;
    char *text = kp_arena_printf(arena, "{\"%s\":%s}", field->json_name, field->default_json);
    if (kp_json_decode(type, text, strlen(text), arena, NULL, &one, &error) < 0)
        kp_assert_fail(error.message, field->json_name, 0); /* the schema is ours */
    size_t size = field->cardinality != KP_ONE ? sizeof(struct kp_list) : 0;
    if (size == 0) {
        switch (field->kind) {
        case KP_KIND_BOOL:
            size = sizeof(bool);
            break;
        case KP_KIND_INT32:
            size = sizeof(int32_t);
            break;
        case KP_KIND_INT64:
        case KP_KIND_DOUBLE:
            size = sizeof(int64_t);
            break;
        case KP_KIND_INT_OR_STRING:
            size = sizeof(struct kp_int_or_string);
            break;
        case KP_KIND_RAW:
            size = sizeof(struct kp_raw);
            break;
        default:
            size = sizeof(void *);
            break;
        }
    }
    memcpy(KP_AT(obj, field->offset), KP_CAT(one, field->offset), size);
    if (field->has_offset >= 0)
        *(bool *)KP_AT(obj, field->has_offset) = KP_HAS(field, one);
}

void kp_object_default(const struct kp_type *type, void *obj, struct kp_arena *arena)
{
    for (size_t i = 0; i < type->n_fields; i++) {
        const struct kp_field *field = &type->fields[i];
        void *slot = KP_AT(obj, field->offset);
        bool is_empty_struct = field->kind == KP_KIND_STRUCT && field->cardinality == KP_ONE && *(void **)slot != NULL;
        if (field->default_json && !is_empty_struct && kp_field_zero(field, obj))
            default_field(type, field, obj, arena);
        if (field->kind != KP_KIND_STRUCT)
            continue;
        if (field->cardinality == KP_ONE) {
            if (*(void **)slot)
                kp_object_default(field->type, *(void **)slot, arena);
            continue;
        }
        struct kp_list *list = slot;
        for (size_t n = 0; n < list->len; n++) {
            void *item = (char *)list->items + n * kp_item_size(field);
            kp_object_default(field->type, field->cardinality == KP_MAP ? ((struct kp_struct_pair *)item)->value : item, arena);
        }
    }
}
