/* Lookups in the generated tables, and the small containers that structs are made of. */
#include "codec/codec_internal.h"

#include "api/k8s.h"

static const char *const verb_names[KP_VERB_COUNT] = {"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"};

const char *kp_verb_name(enum kp_verb verb)
{
    for (int i = 0; i < KP_VERB_COUNT; i++)
        if ((unsigned)verb == 1U << i)
            return verb_names[i];
    return "";
}

const struct kp_type *kp_type_find(const char *group, const char *version, const char *kind)
{
    size_t n;
    const struct kp_type *const *types = kp_types(&n);
    for (size_t i = 0; i < n; i++)
        if (types[i]->kind && strcmp(types[i]->kind, kind) == 0 && strcmp(types[i]->version, version) == 0 &&
            strcmp(types[i]->group, group) == 0)
            return types[i];
    return NULL;
}

const struct kp_type *kp_type_find_api_version(const char *api_version, const char *kind)
{
    if (!api_version || !kind)
        return NULL;
    char group[KP_API_VERSION_MAX];
    const char *slash = strchr(api_version, '/');
    size_t len = slash ? (size_t)(slash - api_version) : 0;
    if (len >= sizeof(group))
        return NULL;
    memcpy(group, api_version, len);
    group[len] = '\0';
    return kp_type_find(group, slash ? slash + 1 : api_version, kind);
}

const struct kp_type *kp_type_find_openapi(const char *openapi_name)
{
    size_t n;
    const struct kp_type *const *types = kp_types(&n);
    for (size_t i = 0; i < n; i++)
        if (strcmp(types[i]->openapi_name, openapi_name) == 0)
            return types[i];
    const struct kp_resource *const *resources = kp_resources(&n);
    for (size_t i = 0; i < n; i++) {
        const struct kp_resource *r = resources[i];
        if (r->custom && kp_streq(r->type->openapi_name, openapi_name))
            return r->type;
        if (r->custom && r->list_type && kp_streq(r->list_type->openapi_name, openapi_name))
            return r->list_type;
    }
    return NULL;
}

const struct kp_resource *kp_resource_find(const char *group, const char *version, const char *name)
{
    size_t n;
    const struct kp_resource *const *resources = kp_resources(&n);
    for (size_t i = 0; i < n; i++)
        if (strcmp(resources[i]->name, name) == 0 && strcmp(resources[i]->version, version) == 0 &&
            strcmp(resources[i]->group, group) == 0)
            return resources[i];
    return NULL;
}

const struct kp_resource *kp_resource_find_kind(const char *group, const char *version, const char *kind)
{
    size_t n;
    const struct kp_resource *const *resources = kp_resources(&n);
    for (size_t i = 0; i < n; i++)
        if (strcmp(resources[i]->kind, kind) == 0 && strcmp(resources[i]->version, version) == 0 &&
            strcmp(resources[i]->group, group) == 0)
            return resources[i];
    return NULL;
}

/* Readers take the newest set without a lock; sets that were replaced stay, for readers may be in them. */
struct resource_set {
    const struct resource_set *before;
    size_t len;
    uint64_t generation;
    const struct kp_resource *items[];
};
static struct resource_set *extended;

const struct kp_resource *const *kp_resources(size_t *ret_count)
{
    const struct resource_set *set = __atomic_load_n(&extended, __ATOMIC_ACQUIRE);
    if (!set)
        return kp_schema_resources(ret_count);
    *ret_count = set->len;
    return set->items;
}

void kp_resources_extend(const struct kp_resource *const *more, size_t count)
{
    size_t own;
    const struct kp_resource *const *schema = kp_schema_resources(&own);
    struct resource_set *set = kp_malloc(sizeof(*set) + (own + count) * sizeof(*set->items));
    set->before = __atomic_load_n(&extended, __ATOMIC_ACQUIRE);
    set->len = own + count;
    set->generation = kp_resources_generation() + 1;
    memcpy(set->items, schema, own * sizeof(*schema));
    if (count)
        memcpy(set->items + own, more, count * sizeof(*more));
    __atomic_store_n(&extended, set, __ATOMIC_RELEASE);
}

uint64_t kp_resources_generation(void)
{
    const struct resource_set *set = __atomic_load_n(&extended, __ATOMIC_ACQUIRE);
    return set ? set->generation : 0;
}

const struct kp_subresource *kp_subresource_find(const struct kp_resource *resource, const char *name)
{
    for (size_t i = 0; i < resource->n_subresources; i++)
        if (strcmp(resource->subresources[i].name, name) == 0)
            return &resource->subresources[i];
    return NULL;
}

const struct kp_field *kp_field_find(const struct kp_type *type, const char *json_name)
{
    for (size_t i = 0; i < type->n_fields; i++)
        if (!type->fields[i].rest && strcmp(type->fields[i].json_name, json_name) == 0)
            return &type->fields[i];
    return NULL;
}

const char *kp_type_api_version(const struct kp_type *type, char out[KP_API_VERSION_MAX])
{
    if (*type->group)
        snprintf(out, KP_API_VERSION_MAX, "%s/%s", type->group, type->version);
    else
        snprintf(out, KP_API_VERSION_MAX, "%s", type->version);
    return out;
}

/* ---- containers ---------------------------------------------------------------------------------------------------- */
size_t kp_item_size(const struct kp_field *field)
{
    if (field->cardinality == KP_MAP) {
        switch (field->kind) {
        case KP_KIND_BYTES:
            return sizeof(struct kp_bytes_pair);
        case KP_KIND_TIME:
            return sizeof(struct kp_time_pair);
        case KP_KIND_STRING_LIST:
            return sizeof(struct kp_string_list_pair);
        default: /* strings, quantities and structs: two pointers */
            return sizeof(struct kp_string_pair);
        }
    }
    switch (field->kind) {
    case KP_KIND_STRUCT:
        return field->type->size;
    case KP_KIND_BOOL:
        return sizeof(bool);
    case KP_KIND_INT32:
        return sizeof(int32_t);
    case KP_KIND_INT64:
        return sizeof(int64_t);
    case KP_KIND_DOUBLE:
        return sizeof(double);
    case KP_KIND_RAW:
        return sizeof(struct kp_raw);
    default:
        return sizeof(const char *);
    }
}

void *kp_list_try(struct kp_arena *arena, struct kp_list *list, size_t item_size)
{
    size_t len = list->len;
    if (len == 0 || (len & (len - 1)) == 0) { /* full at every power of two */
        size_t cap = len ? 2 * len : 1;
        char *grown = kp_arena_try(arena, cap * item_size);
        if (!grown)
            return NULL;
        if (len > 0)
            memcpy(grown, list->items, len * item_size);
        list->items = grown;
    }
    return (char *)list->items + list->len++ * item_size;
}

/* Callers' lists may be shared with immutable objects or have no room, so adding copies - unless the array is one that this
   thread grew here last and nobody has added to since; a seal before the array proves that it is still the same memory. */
#define GROWN_LISTS 8
#define GROWN_SEAL 0x6b702d6c69737421ULL
struct grown_header {
    uint64_t seal;
    size_t cap;
};
static _Thread_local struct {
    const struct kp_arena *arena;
    void *items;
    size_t len;
} grown[GROWN_LISTS];
static _Thread_local unsigned grown_next;

static uint64_t seal_of(const void *items, size_t cap)
{
    return GROWN_SEAL ^ (uintptr_t)items ^ (cap << 40);
}

void *kp_list_add_(struct kp_arena *arena, struct kp_list *list, size_t item_size)
{
    for (size_t i = 0; i < GROWN_LISTS && list->len > 0; i++) {
        if (grown[i].items != list->items || grown[i].arena != arena || grown[i].len != list->len)
            continue;
        const struct grown_header *header = (const struct grown_header *)list->items - 1;
        if (header->seal != seal_of(list->items, header->cap) || header->cap < (list->len + 1) * item_size)
            break;
        grown[i].len = ++list->len;
        void *item = (char *)list->items + (list->len - 1) * item_size;
        memset(item, 0, item_size);
        return item;
    }
    size_t cap = (list->len < 2 ? 2 : 2 * list->len) * item_size;
    struct grown_header *header = kp_arena_alloc(arena, sizeof(*header) + cap);
    char *items = (char *)(header + 1);
    *header = (struct grown_header){.seal = seal_of(items, cap), .cap = cap};
    if (list->len > 0)
        memcpy(items, list->items, list->len * item_size);
    list->items = items;
    list->len++;
    grown_next = (grown_next + 1) % GROWN_LISTS;
    grown[grown_next].arena = arena;
    grown[grown_next].items = items;
    grown[grown_next].len = list->len;
    return items + (list->len - 1) * item_size;
}

void kp_string_list_add(struct kp_arena *arena, struct kp_string_list *list, const char *s)
{
    *KP_LIST_ADD(arena, list) = s;
}

bool kp_string_list_has(const struct kp_string_list *list, const char *s)
{
    for (size_t i = 0; list && i < list->len; i++)
        if (strcmp(list->items[i], s) == 0)
            return true;
    return false;
}

/* The place of key, or where it would go. */
static size_t map_place(const struct kp_string_map *map, const char *key, bool *found)
{
    size_t low = 0, high = map->len;
    *found = false;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(map->items[middle].key, key);
        if (order == 0) {
            *found = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const char *kp_string_map_get(const struct kp_string_map *map, const char *key)
{
    bool found;
    size_t at = map ? map_place(map, key, &found) : 0;
    return map && found ? map->items[at].value : NULL;
}

bool kp_string_map_equal(const struct kp_string_map *a, const struct kp_string_map *b)
{
    if (a->len != b->len)
        return false;
    for (size_t i = 0; i < a->len; i++)
        if (!kp_streq(kp_string_map_get(b, a->items[i].key), a->items[i].value))
            return false;
    return true;
}

void kp_string_map_set(struct kp_arena *arena, struct kp_string_map *map, const char *key, const char *value)
{
    bool found;
    size_t at = map_place(map, key, &found), tail = map->len - at - (found ? 1 : 0);
    struct kp_string_pair *items = KP_NEW_ARRAY(arena, struct kp_string_pair, map->len + 1);
    if (at > 0)
        memcpy(items, map->items, at * sizeof(*items));
    items[at] = (struct kp_string_pair){.key = key, .value = value};
    if (tail > 0)
        memcpy(items + at + 1, map->items + at + (found ? 1 : 0), tail * sizeof(*items));
    map->items = items;
    map->len = at + 1 + tail;
}

bool kp_string_map_remove(struct kp_arena *arena, struct kp_string_map *map, const char *key)
{
    bool found;
    size_t at = map_place(map, key, &found);
    if (!found)
        return false;
    struct kp_string_pair *items = KP_NEW_ARRAY(arena, struct kp_string_pair, map->len);
    memcpy(items, map->items, at * sizeof(*items));
    memcpy(items + at, map->items + at + 1, (map->len - at - 1) * sizeof(*items));
    map->items = items;
    map->len--;
    return true;
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Entries of every map begin with their key. Merge sort keeps equal keys in order, so the last of them can win. */
void kp_map_sort(void *items, size_t *len, size_t item_size)
{
    char *base = items;
    bool sorted = true;
    for (size_t i = 1; i < *len && sorted; i++)
        sorted = compare_keys(base + (i - 1) * item_size, base + i * item_size) < 0;
    if (sorted)
        return;
    /* glibc's qsort is a merge sort when memory allows, which the standard does not promise: sort an index instead. */
    char *copy = kp_malloc(*len * item_size);
    memcpy(copy, base, *len * item_size);
    struct order {
        const char *key;
        size_t index;
    } *order = kp_malloc(*len * sizeof(*order));
    for (size_t i = 0; i < *len; i++)
        order[i] = (struct order){.key = *(const char **)(void *)(copy + i * item_size), .index = i};
    for (size_t width = 1; width < *len; width *= 2) { /* bottom-up merge */
        struct order *merged = kp_malloc(*len * sizeof(*merged));
        for (size_t start = 0; start < *len; start += 2 * width) {
            size_t i = start, middle = KP_MIN(start + width, *len), j = middle, end = KP_MIN(start + 2 * width, *len), k = start;
            while (i < middle || j < end) {
                if (j >= end || (i < middle && strcmp(order[i].key, order[j].key) <= 0))
                    merged[k++] = order[i++];
                else
                    merged[k++] = order[j++];
            }
        }
        free(order);
        order = merged;
    }
    size_t n = 0;
    for (size_t i = 0; i < *len; i++) {
        if (i + 1 < *len && strcmp(order[i].key, order[i + 1].key) == 0)
            continue;
        memcpy(base + n++ * item_size, copy + order[i].index * item_size, item_size);
    }
    *len = n;
    free(order);
    free(copy);
}
