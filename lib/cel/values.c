/* Lists, maps and optional values: how they are made and looked into. */
#include "lib/cel/cel_internal.h"

#define FIELD_NAME_MAX 512 /* bytes; longer keys are nobody's field */
#define MAP_INDEX_MIN 12 /* entries from which looking for one goes by an index */

static struct cel_value out_of_memory(void)
{
    return (struct cel_value){.kind = CEL_ERROR, .error = "operation cancelled: memory limit exceeded"};
}

struct cel_value cel_copy_text(struct cel_eval *e, const char *data, size_t len)
{
    char *copy = cel_work(e, len / 64) ? cel_alloc(e, len + 1) : NULL;
    if (!copy)
        return out_of_memory();
    if (len > 0)
        memcpy(copy, data, len);
    return cel_of_text(copy, len);
}

struct cel_value cel_optional(struct cel_eval *e, struct cel_value inner)
{
    struct cel_value *copy = cel_alloc(e, sizeof(*copy));
    if (!copy)
        return out_of_memory();
    *copy = inner;
    return (struct cel_value){.kind = CEL_OPTIONAL, .optional = copy};
}

struct cel_value cel_none(void)
{
    return (struct cel_value){.kind = CEL_OPTIONAL};
}

/* ---- lists ------------------------------------------------------------------------------------------------------------------------------------------ */
size_t cel_len(struct cel_eval *e, const struct cel_value *v)
{
    if (v->kind == CEL_LIST)
        return v->is_tree ? v->tree.value->array.len : v->list.len;
    return v->is_tree ? v->tree.value->object.len : v->map->len;
}

struct cel_value cel_item(struct cel_eval *e, const struct cel_value *list, size_t index)
{
    if (!list->is_tree)
        return list->list.items->items[index];
    const struct cel_type *type = list->tree.type;
    struct cel_value item = cel_of_tree(list->tree.value->array.items[index], type->kind == CEL_LIST ? type->params[0] : &cel_dyn, e->arena);
    if (item.kind == CEL_STRING || item.kind == CEL_BYTES)
        cel_work(e, item.text.len / 64);
    return item;
}

struct cel_value cel_list_new(struct cel_eval *e, size_t cap)
{
    struct cel_list *list = cel_alloc(e, sizeof(*list));
    if (!list)
        return out_of_memory();
    list->items = cap ? cel_alloc(e, cap * sizeof(*list->items)) : NULL;
    list->cap = list->items ? cap : 0;
    return (struct cel_value){.kind = CEL_LIST, .list = {list, 0}};
}

void cel_list_add(struct cel_eval *e, struct cel_value *value, struct cel_value item)
{
    if (value->kind != CEL_LIST)
        return; /* there was no memory for it */
    struct cel_list *list = value->list.items;
    if (value->list.len < list->len || list->len == list->cap) {
        size_t cap = KP_MAX(value->list.len * 2, (size_t)4);
        struct cel_value *items = cel_alloc(e, cap * sizeof(*items));
        struct cel_list *own = items ? cel_alloc(e, sizeof(*own)) : NULL;
        if (!own)
            return;
        if (value->list.len > 0)
            memcpy(items, list->items, value->list.len * sizeof(*items));
        *own = (struct cel_list){items, value->list.len, cap};
        value->list.items = list = own;
    }
    list->items[list->len++] = item;
    value->list.len++;
}

/* ---- maps --------------------------------------------------------------------------------------------------------------------------------------------- */
static uint64_t hash_key(const struct cel_value *key)
{
    int64_t whole;
    switch (key->kind) {
    case CEL_STRING:
    case CEL_BYTES:
        return kp_hash64(key->text.data, key->text.len);
    case CEL_INT:
        return kp_hash64(&key->integer, sizeof(key->integer));
    case CEL_UINT:
        return kp_hash64(&key->uinteger, sizeof(key->uinteger));
    case CEL_DOUBLE:
        if (!(key->number >= -9.2e18 && key->number <= 9.2e18))
            return 1;
        whole = (int64_t)key->number;
        return (double)whole == key->number ? kp_hash64(&whole, sizeof(whole)) : 1;
    case CEL_BOOL:
        return key->boolean ? 2 : 3;
    default:
        return (uint64_t)key->kind;
    }
}

struct cel_value map_new(struct cel_eval *e, size_t cap)
{
    struct cel_map *map = cel_alloc(e, sizeof(*map));
    struct map_entry *entries = map && cap ? cel_alloc(e, cap * sizeof(*entries)) : NULL;
    if (!map || (cap && !entries))
        return out_of_memory();
    map->entries = entries;
    map->cap = cap;
    return (struct cel_value){.kind = CEL_MAP, .map = map};
}

static void put_slot(struct cel_map *map, size_t entry)
{
    size_t at = hash_key(&map->entries[entry].key) & (map->n_index - 1);
    while (map->index[at])
        at = (at + 1) & (map->n_index - 1);
    map->index[at] = (uint32_t)entry + 1;
}

static void index_map(struct cel_eval *e, struct cel_map *map)
{
    size_t n = 32;
    while (n < 4 * map->len)
        n *= 2;
    uint32_t *index = cel_work(e, map->len) ? cel_alloc(e, n * sizeof(*index)) : NULL;
    if (!index)
        return;
    map->index = index;
    map->n_index = n;
    for (size_t i = 0; i < map->len; i++)
        put_slot(map, i);
}

static struct map_entry *find_entry(struct cel_eval *e, const struct cel_map *map, const struct cel_value *key)
{
    if (!map->index) {
        for (size_t i = 0; i < map->len; i++)
            if (values_equal(e, &map->entries[i].key, key))
                return &map->entries[i];
        return NULL;
    }
    for (size_t at = hash_key(key) & (map->n_index - 1); map->index[at] && cel_work(e, 1); at = (at + 1) & (map->n_index - 1)) {
        struct map_entry *entry = &map->entries[map->index[at] - 1];
        if (values_equal(e, &entry->key, key))
            return entry;
    }
    return NULL;
}

bool map_add(struct cel_eval *e, struct cel_value *value, struct cel_value key, struct cel_value item)
{
    if (value->kind != CEL_MAP)
        return true;
    struct cel_map *map = value->map;
    if (find_entry(e, map, &key))
        return false;
    if (map->len == map->cap) {
        size_t cap = map->cap ? 2 * map->cap : 4;
        struct map_entry *entries = cel_alloc(e, cap * sizeof(*entries));
        if (!entries)
            return false;
        if (map->len > 0)
            memcpy(entries, map->entries, map->len * sizeof(*entries));
        map->entries = entries;
        map->cap = cap;
    }
    map->entries[map->len++] = (struct map_entry){key, item};
    if (map->index && 2 * map->len < map->n_index)
        put_slot(map, map->len - 1);
    else if (map->len >= MAP_INDEX_MIN)
        index_map(e, map);
    return true;
}

/* The field of an object that a key of the data is; NULL: it has none. */
const struct cel_field *field_of_key(struct cel_eval *e, const struct cel_type *type, const char *key)
{
    const char *name = strnlen(key, FIELD_NAME_MAX) < FIELD_NAME_MAX ? cel_escape(key, e->arena) : NULL;
    return name ? cel_field_find(type, name) : NULL;
}

/* What a member of a tree reads as; NULL: it is not to be seen. */
static const struct cel_type *member_type(const struct cel_type *type, const struct cel_field *field)
{
    if (type->kind == CEL_OBJECT)
        return field ? field->type : NULL;
    return type->kind == CEL_MAP ? type->params[1] : &cel_dyn;
}

static bool find_in_tree(struct cel_eval *e, const struct cel_value *map, const struct cel_value *key, struct cel_value *ret)
{
    const struct cel_type *type = map->tree.type;
    const char *name = key->text.data;
    size_t len = key->text.len;
    if (key->kind != CEL_STRING)
        return false;
    const struct cel_type *member = type->kind == CEL_MAP ? type->params[1] : &cel_dyn;
    if (type->kind == CEL_OBJECT) {
        char copy[FIELD_NAME_MAX];
        if (len >= sizeof(copy) || memchr(name, '\0', len))
            return false;
        memcpy(copy, name, len);
        copy[len] = '\0';
        const struct cel_field *field = cel_field_find(type, copy);
        if (!field)
            return false;
        member = field->type;
        name = field->key;
        len = strlen(name);
    }
    const struct kp_value *found = tree_member(e, map->tree.value, name, len);
    if (!found)
        return false;
    *ret = cel_of_tree(found, member, e->arena);
    if (ret->kind == CEL_STRING || ret->kind == CEL_BYTES)
        cel_work(e, ret->text.len / 64);
    return true;
}

bool map_find(struct cel_eval *e, const struct cel_value *map, const struct cel_value *key, struct cel_value *ret)
{
    if (map->is_tree)
        return find_in_tree(e, map, key, ret);
    const struct map_entry *entry = find_entry(e, map->map, key);
    if (entry)
        *ret = entry->value;
    return entry != NULL;
}

bool map_next(struct cel_eval *e, const struct cel_value *map, struct map_walk *walk, struct cel_value *ret_key, struct cel_value *ret_value)
{
    if (!map->is_tree) {
        if (walk->next >= map->map->len)
            return false;
        *ret_key = map->map->entries[walk->next].key;
        *ret_value = map->map->entries[walk->next++].value;
        return true;
    }
    const struct kp_value *tree = map->tree.value;
    for (; walk->next < tree->object.len; walk->next++) {
        const struct kp_member *member = &tree->object.members[walk->next];
        const struct cel_field *field = map->tree.type->kind == CEL_OBJECT ? field_of_key(e, map->tree.type, member->key) : NULL;
        const struct cel_type *type = member_type(map->tree.type, field);
        if (!type)
            continue;
        *ret_key = cel_of_string(field ? field->name : member->key);
        *ret_value = cel_of_tree(member->value, type, e->arena);
        walk->next++;
        return cel_work(e, 1 + ret_key->text.len / 64);
    }
    return false;
}

/* ---- fields and indexes ---------------------------------------------------------------------------------------------------------------------------- */
const char *value_describe(const struct cel_value *v, struct kp_arena *arena)
{
    switch (v->kind) {
    case CEL_STRING:
        return kp_arena_printf(arena, "%.*s", (int)KP_MIN(v->text.len, (size_t)512), v->text.data);
    case CEL_INT:
        return kp_arena_printf(arena, "%lld", (long long)v->integer);
    case CEL_UINT:
        return kp_arena_printf(arena, "%llu", (unsigned long long)v->uinteger);
    case CEL_DOUBLE:
        return double_f_text(v->number, arena);
    case CEL_BOOL:
        return v->boolean ? "true" : "false";
    case CEL_NULL:
        return "null";
    default:
        return runtime_type_name(v);
    }
}

static struct cel_value no_such_key(struct cel_eval *e, const struct cel_value *key)
{
    KP_AUTO(kp_arena_free) struct kp_arena *scratch = kp_arena_new(0);
    return cel_fail(e, "no such key: %s", value_describe(key, scratch));
}

struct cel_value select_field(struct cel_eval *e, const struct cel_value *operand, const char *field, bool *ret_found)
{
    struct cel_value key = cel_of_string(field), value = {0};
    *ret_found = true;
    if (operand->kind == CEL_OBJECT) {
        if (operand->object.of->field && operand->object.of->field(e, operand->object.data, field, &value))
            return value;
    } else if (operand->kind == CEL_MAP) {
        if (map_find(e, operand, &key, &value))
            return value;
    } else {
        return cel_fail(e, "no such overload");
    }
    *ret_found = false;
    return no_such_key(e, &key);
}

/* An index of a list: whole numbers of any type. */
static bool whole(const struct cel_value *v, int64_t *ret)
{
    if (v->kind == CEL_INT) {
        *ret = v->integer;
        return true;
    }
    if (v->kind == CEL_UINT && v->uinteger <= INT64_MAX) {
        *ret = (int64_t)v->uinteger;
        return true;
    }
    if (v->kind != CEL_DOUBLE || !(v->number >= -9e15 && v->number <= 9e15) || (double)(int64_t)v->number != v->number)
        return false;
    *ret = (int64_t)v->number;
    return true;
}

struct cel_value select_index(struct cel_eval *e, const struct cel_value *operand, const struct cel_value *index, bool *ret_found)
{
    struct cel_value value = {0};
    int64_t i;
    *ret_found = true;
    if (operand->kind == CEL_OBJECT && index->kind == CEL_STRING && index->text.len < FIELD_NAME_MAX && !memchr(index->text.data, '\0', index->text.len))
        return select_field(e, operand, kp_arena_strndup(e->arena, index->text.data, index->text.len), ret_found);
    if (operand->kind == CEL_MAP) {
        if (map_find(e, operand, index, &value))
            return value;
        *ret_found = false;
        return no_such_key(e, index);
    }
    if (operand->kind != CEL_LIST)
        return cel_fail(e, "no such overload");
    if (!whole(index, &i))
        return cel_fail(e, "unsupported index type '%s' in list", runtime_type_name(index));
    if (i >= 0 && (uint64_t)i < cel_len(e, operand))
        return cel_item(e, operand, (size_t)i);
    *ret_found = false;
    return cel_fail(e, "index out of bounds: %lld", (long long)i);
}
