/* JSON trees in an arena: building, looking, changing, comparing. */
#include "codec/codec_internal.h"

static struct kp_value *make(struct kp_arena *arena, enum kp_value_kind kind)
{
    struct kp_value *value = KP_NEW(arena, struct kp_value);
    value->kind = kind;
    return value;
}

struct kp_value *kp_value_null(struct kp_arena *arena)
{
    return make(arena, KP_VALUE_NULL);
}

struct kp_value *kp_value_bool(struct kp_arena *arena, bool b)
{
    struct kp_value *value = make(arena, KP_VALUE_BOOL);
    value->boolean = b;
    return value;
}

struct kp_value *kp_value_int(struct kp_arena *arena, int64_t i)
{
    struct kp_value *value = make(arena, KP_VALUE_INT);
    value->integer = i;
    return value;
}

struct kp_value *kp_value_double(struct kp_arena *arena, double d)
{
    struct kp_value *value = make(arena, KP_VALUE_DOUBLE);
    value->number = d;
    return value;
}

struct kp_value *kp_value_string(struct kp_arena *arena, const char *s)
{
    struct kp_value *value = make(arena, KP_VALUE_STRING);
    value->string = kp_arena_strdup(arena, s);
    return value;
}

struct kp_value *kp_value_array(struct kp_arena *arena)
{
    return make(arena, KP_VALUE_ARRAY);
}

struct kp_value *kp_value_object(struct kp_arena *arena)
{
    return make(arena, KP_VALUE_OBJECT);
}

struct kp_value *kp_value_get(const struct kp_value *object, const char *key)
{
    for (size_t i = 0; object && object->kind == KP_VALUE_OBJECT && i < object->object.len; i++)
        if (strcmp(object->object.members[i].key, key) == 0)
            return object->object.members[i].value;
    return NULL;
}

struct kp_value *kp_value_at(const struct kp_value *array, size_t index)
{
    return array && array->kind == KP_VALUE_ARRAY && index < array->array.len ? array->array.items[index] : NULL;
}

struct kp_value *kp_value_path(const struct kp_value *root, ...)
{
    va_list ap;
    const char *key;
    struct kp_value *value = (struct kp_value *)(uintptr_t)root;
    va_start(ap, root);
    while ((key = va_arg(ap, const char *)) != NULL)
        value = kp_value_get(value, key);
    va_end(ap);
    return value;
}

const char *kp_value_str(const struct kp_value *value)
{
    return value && value->kind == KP_VALUE_STRING ? value->string : NULL;
}

bool kp_value_add_try(struct kp_arena *arena, struct kp_value *object, const char *key, struct kp_value *value)
{
    if (object->object.len == object->object.cap) {
        size_t cap = object->object.cap ? 2 * object->object.cap : 4;
        struct kp_member *members = kp_arena_try(arena, cap * sizeof(*members));
        if (!members)
            return false;
        if (object->object.len > 0)
            memcpy(members, object->object.members, object->object.len * sizeof(*members));
        object->object.members = members;
        object->object.cap = cap;
    }
    object->object.members[object->object.len++] = (struct kp_member){.key = key, .value = value};
    return true;
}

bool kp_value_append_try(struct kp_arena *arena, struct kp_value *array, struct kp_value *value)
{
    if (array->array.len == array->array.cap) {
        size_t cap = array->array.cap ? 2 * array->array.cap : 4;
        struct kp_value **items = kp_arena_try(arena, cap * sizeof(struct kp_value *));
        if (!items)
            return false;
        if (array->array.len > 0)
            memcpy(items, array->array.items, array->array.len * sizeof(struct kp_value *));
        array->array.items = items;
        array->array.cap = cap;
    }
    array->array.items[array->array.len++] = value;
    return true;
}

void kp_value_set(struct kp_arena *arena, struct kp_value *object, const char *key, struct kp_value *value)
{
    KP_ASSERT(object->kind == KP_VALUE_OBJECT);
    for (size_t i = 0; i < object->object.len; i++) {
        if (strcmp(object->object.members[i].key, key) == 0) {
            object->object.members[i].value = value;
            return;
        }
    }
    bool added = kp_value_add_try(arena, object, kp_arena_strdup(arena, key), value);
    KP_ASSERT(added);
}

bool kp_value_remove(struct kp_value *object, const char *key)
{
    for (size_t i = 0; object && object->kind == KP_VALUE_OBJECT && i < object->object.len; i++) {
        struct kp_member *member = &object->object.members[i];
        if (strcmp(member->key, key) != 0)
            continue;
        memmove(member, member + 1, (--object->object.len - i) * sizeof(*member));
        return true;
    }
    return false;
}

void kp_value_append(struct kp_arena *arena, struct kp_value *array, struct kp_value *value)
{
    KP_ASSERT(array->kind == KP_VALUE_ARRAY);
    bool added = kp_value_append_try(arena, array, value);
    KP_ASSERT(added);
}

bool kp_value_array_remove(struct kp_value *array, size_t index)
{
    if (!kp_value_at(array, index))
        return false;
    struct kp_value **at = &array->array.items[index];
    memmove(at, at + 1, (--array->array.len - index) * sizeof(*at));
    return true;
}

bool kp_value_array_insert(struct kp_arena *arena, struct kp_value *array, size_t index, struct kp_value *value)
{
    if (!array || array->kind != KP_VALUE_ARRAY || index > array->array.len)
        return false;
    kp_value_append(arena, array, value);
    struct kp_value **at = &array->array.items[index];
    memmove(at + 1, at, (array->array.len - 1 - index) * sizeof(*at));
    *at = value;
    return true;
}

static bool copy_array(struct kp_value *copy, const struct kp_value *value, struct kp_arena *arena)
{
    copy->array.cap = value->array.len;
    copy->array.items = kp_arena_try(arena, KP_MAX(value->array.len, (size_t)1) * sizeof(struct kp_value *));
    for (size_t i = 0; copy->array.items && i < value->array.len; i++)
        if (!(copy->array.items[i] = kp_value_clone_try(value->array.items[i], arena)))
            return false;
    return copy->array.items != NULL;
}

static char *copy_string(struct kp_arena *arena, const char *s)
{
    size_t size = strlen(s) + 1;
    char *copy = kp_arena_try(arena, size);
    return copy ? memcpy(copy, s, size) : NULL;
}

static bool copy_object(struct kp_value *copy, const struct kp_value *value, struct kp_arena *arena)
{
    copy->object.cap = value->object.len;
    copy->object.members = kp_arena_try(arena, KP_MAX(value->object.len, (size_t)1) * sizeof(struct kp_member));
    for (size_t i = 0; copy->object.members && i < value->object.len; i++) {
        struct kp_member *member = &copy->object.members[i];
        member->key = copy_string(arena, value->object.members[i].key);
        member->value = kp_value_clone_try(value->object.members[i].value, arena);
        if (!member->key || !member->value)
            return false;
    }
    return copy->object.members != NULL;
}

struct kp_value *kp_value_clone_try(const struct kp_value *value, struct kp_arena *arena)
{
    struct kp_value *copy = kp_arena_try(arena, sizeof(*copy));
    if (!copy)
        return NULL;
    *copy = *value;
    bool ok = true;
    if (value->kind == KP_VALUE_STRING)
        ok = (copy->string = copy_string(arena, value->string)) != NULL;
    else if (value->kind == KP_VALUE_ARRAY)
        ok = copy_array(copy, value, arena);
    else if (value->kind == KP_VALUE_OBJECT)
        ok = copy_object(copy, value, arena);
    return ok ? copy : NULL;
}

struct kp_value *kp_value_clone(const struct kp_value *value, struct kp_arena *arena)
{
    struct kp_value *copy = kp_value_clone_try(value, arena);
    KP_ASSERT(copy != NULL);
    return copy;
}

static bool objects_equal(const struct kp_value *a, const struct kp_value *b)
{
    if (a->object.len != b->object.len)
        return false;
    for (size_t i = 0; i < a->object.len; i++) {
        const struct kp_member *member = &a->object.members[i];
        bool aligned = strcmp(member->key, b->object.members[i].key) == 0; /* the common case: the same order */
        const struct kp_value *other = aligned ? b->object.members[i].value : kp_value_get(b, member->key);
        if (!other || !kp_value_equal(member->value, other))
            return false;
    }
    return true;
}

bool kp_value_equal(const struct kp_value *a, const struct kp_value *b)
{
    if (a == b)
        return true;
    if (!a || !b)
        return false;
    if (a->kind == KP_VALUE_INT && b->kind == KP_VALUE_DOUBLE)
        return (double)a->integer == b->number;
    if (a->kind == KP_VALUE_DOUBLE && b->kind == KP_VALUE_INT)
        return a->number == (double)b->integer;
    if (a->kind != b->kind)
        return false;
    switch (a->kind) {
    case KP_VALUE_NULL:
        return true;
    case KP_VALUE_BOOL:
        return a->boolean == b->boolean;
    case KP_VALUE_INT:
        return a->integer == b->integer;
    case KP_VALUE_DOUBLE:
        return a->number == b->number;
    case KP_VALUE_STRING:
        return strcmp(a->string, b->string) == 0;
    case KP_VALUE_ARRAY:
        for (size_t i = 0; a->array.len == b->array.len && i < a->array.len; i++)
            if (!kp_value_equal(a->array.items[i], b->array.items[i]))
                return false;
        return a->array.len == b->array.len;
    case KP_VALUE_OBJECT:
        return objects_equal(a, b);
    }
    return false;
}
