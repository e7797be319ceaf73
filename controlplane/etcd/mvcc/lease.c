/* Leases: time-limited owners of keys. */
#include "controlplane/etcd/mvcc/mvcc_internal.h"

static void id_key(uint8_t out[8], int64_t id)
{
    for (int i = 0; i < 8; i++)
        out[i] = (uint8_t)((uint64_t)id >> (56 - 8 * i));
}

static size_t bucket_of(const struct lease_table *table, int64_t id)
{
    uint64_t h = (uint64_t)id * UINT64_C(0x9E3779B97F4A7C15);
    return (size_t)(h >> 20) & (table->bucket_count - 1);
}

struct mvcc_lease *lease_find(const struct lease_table *table, int64_t id)
{
    if (!table->bucket_count)
        return NULL;
    struct mvcc_lease *lease = table->buckets[bucket_of(table, id)];
    while (lease && lease->id != id)
        lease = lease->next_in_bucket;
    return lease;
}

static void table_grow(struct lease_table *table)
{
    struct mvcc_lease **old = table->buckets;
    size_t old_count = table->bucket_count;
    table->bucket_count = old_count ? old_count * 2 : 64;
    table->buckets = kp_calloc(table->bucket_count, sizeof(struct mvcc_lease *));
    for (size_t i = 0; i < old_count; i++) {
        for (struct mvcc_lease *lease = old[i], *next; lease; lease = next) {
            next = lease->next_in_bucket;
            struct mvcc_lease **slot = &table->buckets[bucket_of(table, lease->id)];
            lease->next_in_bucket = *slot;
            *slot = lease;
        }
    }
    free(old);
}

static struct mvcc_lease *table_add(struct lease_table *table, int64_t id, int64_t ttl_s, int64_t now_ms)
{
    if (table->count >= table->bucket_count)
        table_grow(table);
    struct mvcc_lease *lease = kp_calloc(1, sizeof *lease);
    *lease = (struct mvcc_lease){.id = id, .ttl_s = ttl_s, .expiry_ms = now_ms + ttl_s * 1000};
    struct mvcc_lease **slot = &table->buckets[bucket_of(table, id)];
    lease->next_in_bucket = *slot;
    *slot = lease;
    table->count++;
    table->earliest_ms = KP_MIN(table->earliest_ms, lease->expiry_ms);
    return lease;
}

static void table_remove(struct lease_table *table, struct mvcc_lease *lease)
{
    struct mvcc_lease **slot = &table->buckets[bucket_of(table, lease->id)];
    while (*slot != lease)
        slot = &(*slot)->next_in_bucket;
    *slot = lease->next_in_bucket;
    table->count--;
    free(lease);
}

void lease_table_clear(struct lease_table *table)
{
    for (size_t i = 0; i < table->bucket_count; i++)
        for (struct mvcc_lease *lease = table->buckets[i], *next; lease; lease = next) {
            next = lease->next_in_bucket;
            free(lease);
        }
    free(table->buckets);
    table->buckets = NULL;
    table->bucket_count = table->count = 0;
    table->earliest_ms = INT64_MAX;
}

void lease_table_done(struct lease_table *table)
{
    lease_table_clear(table);
    pthread_mutex_destroy(&table->mutex);
}

void lease_attach(struct mvcc_lease *lease, struct mvcc_key *key)
{
    KP_ASSERT(!key->lease);
    key->lease = lease;
    key->lease_prev = NULL;
    key->lease_next = lease->keys;
    if (lease->keys)
        lease->keys->lease_prev = key;
    lease->keys = key;
    lease->key_count++;
}

void lease_detach(struct mvcc_key *key)
{
    if (!key->lease)
        return;
    if (key->lease_prev)
        key->lease_prev->lease_next = key->lease_next;
    else
        key->lease->keys = key->lease_next;
    if (key->lease_next)
        key->lease_next->lease_prev = key->lease_prev;
    key->lease->key_count--;
    key->lease = NULL;
    key->lease_prev = key->lease_next = NULL;
}

struct lease_load {
    struct lease_table *table;
    int64_t now_ms;
    bool bad;
};

static bool load_one(void *ctx, struct kp_bytes key, struct kp_bytes value)
{
    struct lease_load *load = ctx;
    int64_t ttl_s;
    if (key.len != 8 || value.len != sizeof ttl_s) {
        load->bad = true;
        return false;
    }
    uint64_t id = 0;
    for (int i = 0; i < 8; i++)
        id = id << 8 | key.data[i];
    memcpy(&ttl_s, value.data, sizeof ttl_s);
    table_add(load->table, (int64_t)id, ttl_s, load->now_ms);
    return true;
}

int lease_load(struct mvcc *mvcc, struct backend_reader *reader, int64_t now_ms, struct kp_error *error)
{
    struct lease_load load = {.table = &mvcc->leases, .now_ms = now_ms};
    int rc = backend_reader_each(reader, BACKEND_LEASE, load_one, &load, error);
    if (rc == 0 && load.bad)
        return kp_fail(error, KP_ECORRUPT, "a lease record is unreadable");
    return rc;
}

void mvcc_lease_set_ttl_min(struct mvcc *mvcc, int64_t ttl_s) { mvcc->leases.ttl_min_s = ttl_s; }

enum mvcc_result mvcc_lease_grant(struct mvcc *mvcc, int64_t id, int64_t ttl_s, int64_t now_ms)
{
    KP_ASSERT(mvcc->in_txn);
    if (id == 0)
        return MVCC_LEASE_NOT_FOUND;
    if (ttl_s > MVCC_LEASE_TTL_MAX)
        return MVCC_LEASE_TTL_TOO_LARGE;
    if (lease_find(&mvcc->leases, id))
        return MVCC_LEASE_EXISTS;
    ttl_s = KP_MAX(ttl_s, mvcc->leases.ttl_min_s);
    table_add(&mvcc->leases, id, ttl_s, now_ms);
    uint8_t key[8];
    id_key(key, id);
    backend_put(mvcc->backend, BACKEND_LEASE, key, sizeof key, &ttl_s, sizeof ttl_s);
    return MVCC_OK;
}

static int order_keys(const void *a, const void *b)
{
    return mvcc_bytes_compare(mvcc_key_bytes(*(struct mvcc_key *const *)a), mvcc_key_bytes(*(struct mvcc_key *const *)b));
}

/* The lease's keys in order; caller frees. */
static struct mvcc_key **sorted_keys(const struct mvcc_lease *lease)
{
    struct mvcc_key **keys = kp_calloc(lease->key_count + 1, sizeof(struct mvcc_key *));
    size_t len = 0;
    for (struct mvcc_key *key = lease->keys; key; key = key->lease_next)
        keys[len++] = key;
    KP_ASSERT(len == lease->key_count);
    qsort(keys, len, sizeof(struct mvcc_key *), order_keys);
    return keys;
}

enum mvcc_result mvcc_lease_revoke(struct mvcc *mvcc, int64_t id)
{
    KP_ASSERT(mvcc->in_txn);
    struct mvcc_lease *lease = lease_find(&mvcc->leases, id);
    if (!lease)
        return MVCC_LEASE_NOT_FOUND;
    size_t len = lease->key_count;
    struct mvcc_key **keys = sorted_keys(lease);
    for (size_t i = 0; i < len; i++)
        store_delete_key(mvcc, keys[i]);
    free(keys);
    uint8_t key[8];
    id_key(key, id);
    backend_delete(mvcc->backend, BACKEND_LEASE, key, sizeof key);
    table_remove(&mvcc->leases, lease);
    return MVCC_OK;
}

bool mvcc_txn_has_lease(struct mvcc *mvcc, int64_t id) { return lease_find(&mvcc->leases, id) != NULL; }

enum mvcc_result mvcc_lease_renew(struct mvcc *mvcc, int64_t id, int64_t now_ms, int64_t *ret_ttl_s)
{
    backend_read_lock(mvcc->backend);
    pthread_mutex_lock(&mvcc->leases.mutex);
    struct mvcc_lease *lease = lease_find(&mvcc->leases, id);
    bool found = lease && lease->expiry_ms > now_ms;
    if (found) {
        lease->expiry_ms = now_ms + lease->ttl_s * 1000;
        *ret_ttl_s = lease->ttl_s;
    }
    pthread_mutex_unlock(&mvcc->leases.mutex);
    backend_read_unlock(mvcc->backend);
    return found ? MVCC_OK : MVCC_LEASE_NOT_FOUND;
}

enum mvcc_result mvcc_lease_time_to_live(struct mvcc *mvcc, int64_t id, bool want_keys, int64_t now_ms,
                                         struct mvcc_lease_info *ret_info)
{
    backend_read_lock(mvcc->backend);
    struct mvcc_lease *lease = lease_find(&mvcc->leases, id);
    if (lease) {
        pthread_mutex_lock(&mvcc->leases.mutex);
        int64_t left_ms = lease->expiry_ms - now_ms;
        pthread_mutex_unlock(&mvcc->leases.mutex);
        *ret_info = (struct mvcc_lease_info){.granted_ttl_s = lease->ttl_s, .remaining_ttl_s = left_ms / 1000};
        if (want_keys) {
            struct mvcc_key **keys = sorted_keys(lease);
            ret_info->key_count = lease->key_count;
            ret_info->keys = kp_calloc(lease->key_count + 1, sizeof(struct kp_blob *));
            for (size_t i = 0; i < lease->key_count; i++)
                ret_info->keys[i] = kp_blob_new(keys[i]->key, keys[i]->key_len);
            free(keys);
        }
    }
    backend_read_unlock(mvcc->backend);
    return lease ? MVCC_OK : MVCC_LEASE_NOT_FOUND;
}

static int order_ids(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

size_t mvcc_lease_list(struct mvcc *mvcc, int64_t **ret_ids)
{
    backend_read_lock(mvcc->backend);
    const struct lease_table *table = &mvcc->leases;
    int64_t *ids = kp_calloc(table->count + 1, sizeof *ids);
    size_t len = 0;
    for (size_t i = 0; i < table->bucket_count; i++)
        for (const struct mvcc_lease *lease = table->buckets[i]; lease; lease = lease->next_in_bucket)
            ids[len++] = lease->id;
    backend_read_unlock(mvcc->backend);
    qsort(ids, len, sizeof *ids, order_ids);
    *ret_ids = ids;
    return len;
}

size_t mvcc_lease_expired(struct mvcc *mvcc, int64_t now_ms, int64_t *ids, size_t max)
{
    size_t len = 0;
    backend_read_lock(mvcc->backend);
    struct lease_table *table = &mvcc->leases;
    pthread_mutex_lock(&table->mutex);
    if (now_ms >= table->earliest_ms) {
        int64_t earliest_ms = INT64_MAX;
        for (size_t i = 0; i < table->bucket_count; i++)
            for (const struct mvcc_lease *lease = table->buckets[i]; lease; lease = lease->next_in_bucket) {
                earliest_ms = KP_MIN(earliest_ms, lease->expiry_ms);
                if (lease->expiry_ms <= now_ms && len < max)
                    ids[len++] = lease->id;
            }
        table->earliest_ms = earliest_ms;
    }
    pthread_mutex_unlock(&table->mutex);
    backend_read_unlock(mvcc->backend);
    return len;
}

void mvcc_lease_promote(struct mvcc *mvcc, int64_t now_ms, int64_t extra_ms)
{
    backend_read_lock(mvcc->backend);
    struct lease_table *table = &mvcc->leases;
    pthread_mutex_lock(&table->mutex);
    table->earliest_ms = INT64_MAX;
    for (size_t i = 0; i < table->bucket_count; i++)
        for (struct mvcc_lease *lease = table->buckets[i]; lease; lease = lease->next_in_bucket) {
            lease->expiry_ms = now_ms + lease->ttl_s * 1000 + extra_ms;
            table->earliest_ms = KP_MIN(table->earliest_ms, lease->expiry_ms);
        }
    pthread_mutex_unlock(&table->mutex);
    backend_read_unlock(mvcc->backend);
}
