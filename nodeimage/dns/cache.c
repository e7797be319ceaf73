/* A small cache of upstream's answers: a fixed table, a few ways a set, the one that ends first gives way. */
#include "nodeimage/dns/dns_internal.h"

struct entry {
    int64_t put_ms, end_ms;
    struct dns_name name;
    uint16_t type;
    uint8_t variant;
    size_t len;
    uint8_t data[];
};
struct dns_cache {
    struct entry *slots[DNS_CACHE_SLOTS];
};

struct dns_cache *dns_cache_new(void)
{
    return kp_calloc(1, sizeof(struct dns_cache));
}

void dns_cache_free(struct dns_cache *cache)
{
    for (size_t i = 0; cache && i < DNS_CACHE_SLOTS; i++)
        free(cache->slots[i]);
    free(cache);
}

/* The set of slots that the question may be in. */
static struct entry **set_of(struct dns_cache *cache, const struct dns_name *name, uint16_t type, uint8_t variant)
{
    struct dns_name key = *name;
    dns_name_lower(&key);
    uint64_t hash = kp_hash64(key.wire, key.len) ^ ((uint64_t)type << 8 | variant) * 0x9e3779b97f4a7c15u;
    return &cache->slots[(hash >> 32) % (DNS_CACHE_SLOTS / DNS_CACHE_WAYS) * DNS_CACHE_WAYS];
}

static bool matches(const struct entry *e, const struct dns_name *name, uint16_t type, uint8_t variant)
{
    return e && e->type == type && e->variant == variant && dns_name_equal(&e->name, name);
}

const uint8_t *dns_cache_get(struct dns_cache *cache, const struct dns_name *name, uint16_t type, uint8_t variant, int64_t now_ms,
                             size_t *ret_len, uint32_t *ret_age_s)
{
    struct entry **set = set_of(cache, name, type, variant);
    for (size_t i = 0; i < DNS_CACHE_WAYS; i++) {
        struct entry *e = set[i];
        if (e && e->end_ms <= now_ms) {
            free(e);
            set[i] = NULL;
        } else if (matches(e, name, type, variant)) {
            *ret_len = e->len;
            *ret_age_s = (uint32_t)((now_ms - e->put_ms) / 1000);
            return e->data;
        }
    }
    return NULL;
}

void dns_cache_put(struct dns_cache *cache, const struct dns_name *name, uint16_t type, uint8_t variant, const uint8_t *data, size_t len,
                   uint32_t ttl_s, int64_t now_ms)
{
    if (len > DNS_CACHE_MESSAGE_MAX || ttl_s == 0)
        return;
    struct entry **set = set_of(cache, name, type, variant);
    size_t victim = 0;
    for (size_t i = 0; i < DNS_CACHE_WAYS; i++) {
        if (!set[i] || matches(set[i], name, type, variant)) {
            victim = i;
            if (set[i])
                break; /* the same question: never twice */
        } else if (set[victim] && set[i]->end_ms < set[victim]->end_ms) {
            victim = i;
        }
    }
    struct entry *e = kp_malloc(sizeof(*e) + len);
    *e = (struct entry){.put_ms = now_ms, .end_ms = now_ms + 1000 * (int64_t)KP_MIN(ttl_s, DNS_CACHE_TTL_S_MAX), .name = *name, .type = type,
                        .variant = variant, .len = len};
    memcpy(e->data, data, len);
    free(set[victim]);
    set[victim] = e;
}
