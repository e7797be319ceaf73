/* A hash map from strings to pointers: open addressing with linear probing and tombstones. */
#include "lib/base/base.h"

#define STRMAP_SLOTS_MIN ((size_t)8)

struct slot {
    uint64_t hash;
    char *key; /* owned; NULL: never used; &tombstone: removed */
    void *value;
};

struct kp_strmap {
    struct slot *slots;
    size_t slot_count; /* zero or a power of two */
    size_t live;
    size_t taken; /* live and tombstones */
};

static char tombstone;

struct kp_strmap *kp_strmap_new(void)
{
    return kp_calloc(1, sizeof(struct kp_strmap));
}

static bool slot_live(const struct slot *slot)
{
    return slot->key && slot->key != &tombstone;
}

void kp_strmap_free(struct kp_strmap *map, void (*free_value)(void *))
{
    if (!map)
        return;
    for (size_t i = 0; i < map->slot_count; i++) {
        struct slot *slot = &map->slots[i];
        if (!slot_live(slot))
            continue;
        free(slot->key);
        if (free_value && slot->value)
            free_value(slot->value);
    }
    free(map->slots);
    free(map);
}

static uint64_t key_hash(const char *key)
{
    uint64_t hash = kp_hash64(key, strlen(key));
    /* FNV's low bits are weak and the table takes them: mix. */
    hash ^= hash >> 32;
    return hash * 0x9e3779b97f4a7c15ULL >> 7;
}

static struct slot *find(const struct kp_strmap *map, const char *key, uint64_t hash)
{
    if (!map->slot_count)
        return NULL;
    for (size_t i = hash & (map->slot_count - 1);; i = (i + 1) & (map->slot_count - 1)) {
        struct slot *slot = &map->slots[i];
        if (!slot->key)
            return NULL;
        if (slot->hash == hash && slot_live(slot) && strcmp(slot->key, key) == 0)
            return slot;
    }
}

void *kp_strmap_get(const struct kp_strmap *map, const char *key)
{
    const struct slot *slot = find(map, key, key_hash(key));
    return slot ? slot->value : NULL;
}

static void rehash(struct kp_strmap *map)
{
    size_t count = STRMAP_SLOTS_MIN;
    while (count < (map->live + 1) * 2)
        count *= 2;
    struct slot *slots = kp_calloc(count, sizeof(*slots));
    for (size_t i = 0; i < map->slot_count; i++) {
        if (!slot_live(&map->slots[i]))
            continue;
        size_t at = map->slots[i].hash & (count - 1);
        while (slots[at].key)
            at = (at + 1) & (count - 1);
        slots[at] = map->slots[i];
    }
    free(map->slots);
    map->slots = slots;
    map->slot_count = count;
    map->taken = map->live;
}

void *kp_strmap_put(struct kp_strmap *map, const char *key, void *value)
{
    uint64_t hash = key_hash(key);
    struct slot *slot = find(map, key, hash);
    if (slot) {
        void *before = slot->value;
        slot->value = value;
        return before;
    }
    if ((map->taken + 1) * 4 > map->slot_count * 3)
        rehash(map);
    size_t at = hash & (map->slot_count - 1);
    while (slot_live(&map->slots[at]))
        at = (at + 1) & (map->slot_count - 1);
    if (!map->slots[at].key)
        map->taken++;
    map->slots[at] = (struct slot){.hash = hash, .key = kp_strdup(key), .value = value};
    map->live++;
    return NULL;
}

void *kp_strmap_remove(struct kp_strmap *map, const char *key)
{
    struct slot *slot = find(map, key, key_hash(key));
    if (!slot)
        return NULL;
    void *value = slot->value;
    free(slot->key);
    *slot = (struct slot){.key = &tombstone};
    map->live--;
    return value;
}

size_t kp_strmap_len(const struct kp_strmap *map)
{
    return map->live;
}

bool kp_strmap_next(const struct kp_strmap *map, size_t *iter, const char **ret_key, void **ret_value)
{
    while (*iter < map->slot_count) {
        const struct slot *slot = &map->slots[(*iter)++];
        if (!slot_live(slot))
            continue;
        if (ret_key)
            *ret_key = slot->key;
        if (ret_value)
            *ret_value = slot->value;
        return true;
    }
    return false;
}
