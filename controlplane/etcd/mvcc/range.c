/* Reading ranges at a revision, and comparisons. */
#include "controlplane/etcd/mvcc/mvcc_internal.h"

enum mvcc_result store_fetch(struct mvcc *mvcc, const struct mvcc_revision *revision, struct kp_blob **ret_record,
                             struct kp_error *error)
{
    struct kp_blob *pending = backend_pending_revision(mvcc->backend, revision->main, revision->sub);
    if (pending) {
        *ret_record = pending;
        return MVCC_OK;
    }
    KP_AUTO(backend_reader_end) struct backend_reader *reader = NULL;
    struct kp_bytes record;
    if (backend_reader_begin(mvcc->backend, &reader, error) < 0 ||
        backend_reader_revision(reader, revision->main, revision->sub, &record, error) < 0)
        return MVCC_IO;
    *ret_record = kp_blob_new(record.data, record.len);
    return MVCC_OK;
}

static enum mvcc_result check_revision(const struct mvcc *mvcc, int64_t revision, int64_t newest)
{
    if (revision > newest)
        return MVCC_FUTURE_REVISION;
    return revision > 0 && revision < mvcc->compact_revision ? MVCC_COMPACTED : MVCC_OK;
}

enum mvcc_result mvcc_txn_check_revision(struct mvcc *mvcc, int64_t revision)
{
    return check_revision(mvcc, revision, mvcc->revision);
}

struct found {
    struct mvcc_revision revision;
    struct kp_blob *blob;
};

static bool wants_all(const struct mvcc_range_request *r)
{
    return r->sort_order != MVCC_SORT_NONE || r->sort_target != MVCC_SORT_KEY || r->min_mod_revision ||
           r->max_mod_revision || r->min_create_revision || r->max_create_revision;
}

/* Under the lock: which revisions make the answer, and those records that no snapshot has yet. */
static struct found *collect(struct mvcc *mvcc, const struct mvcc_range_request *r, int64_t revision, size_t limit,
                             size_t *ret_len, int64_t *ret_count)
{
    struct found *list = NULL;
    size_t len = 0, cap = 0;
    int64_t count = 0;
    struct index_position at = index_seek(&mvcc->index, r->key);
    for (struct mvcc_key *key; (key = index_at(&mvcc->index, at)) != NULL; index_advance(&mvcc->index, &at)) {
        if (!mvcc_in_range(mvcc_key_bytes(key), r->key, r->range_end))
            break;
        const struct mvcc_revision *rev = key_revision_at(key, revision);
        if (!rev || rev->tombstone)
            continue;
        count++;
        if (r->count_only || (limit && len >= limit))
            continue;
        if (len == cap) {
            cap = cap ? cap * 2 : 8;
            list = kp_realloc(list, cap * sizeof *list);
        }
        list[len++] = (struct found){.revision = *rev,
                                     .blob = backend_pending_revision(mvcc->backend, rev->main, rev->sub)};
    }
    *ret_len = len;
    *ret_count = count;
    return list;
}

static bool bounded_out(const struct mvcc_range_request *r, const struct mvcc_kv *kv)
{
    return (r->min_mod_revision && kv->mod_revision < r->min_mod_revision) ||
           (r->max_mod_revision && kv->mod_revision > r->max_mod_revision) ||
           (r->min_create_revision && kv->create_revision < r->min_create_revision) ||
           (r->max_create_revision && kv->create_revision > r->max_create_revision);
}

static int order_numbers(int64_t a, int64_t b) { return (a > b) - (a < b); }

static int order_items(const struct mvcc_item *a, const struct mvcc_item *b, enum mvcc_sort_target target)
{
    switch (target) {
    case MVCC_SORT_VERSION: return order_numbers(a->kv.version, b->kv.version);
    case MVCC_SORT_CREATE: return order_numbers(a->kv.create_revision, b->kv.create_revision);
    case MVCC_SORT_MOD: return order_numbers(a->kv.mod_revision, b->kv.mod_revision);
    case MVCC_SORT_VALUE: return mvcc_bytes_compare(a->kv.value, b->kv.value);
    case MVCC_SORT_KEY: break;
    }
    return mvcc_bytes_compare(a->kv.key, b->kv.key);
}

static int compare_items(const void *a, const void *b, void *ctx)
{
    const struct mvcc_range_request *r = ctx;
    int order = order_items(a, b, r->sort_target);
    if (r->sort_order == MVCC_SORT_DESCEND)
        order = -order;
    return order ? order : order_items(a, b, MVCC_SORT_KEY);
}

/* Without the lock: decodes each record, from its blob or from the snapshot. */
static enum mvcc_result read_items(struct mvcc_range_result *out, const struct mvcc_range_request *r,
                                   struct found *list, size_t len, struct kp_error *error)
{
    out->items = len ? kp_calloc(len, sizeof *out->items) : NULL;
    enum mvcc_result result = MVCC_OK;
    for (size_t i = 0; i < len; i++) {
        struct mvcc_item *item = &out->items[out->len];
        *item = (struct mvcc_item){.blob = list[i].blob};
        if (item->blob)
            item->record = (struct kp_bytes){item->blob->data, item->blob->len};
        else if (result == MVCC_OK && backend_reader_revision(out->reader, list[i].revision.main, list[i].revision.sub,
                                                              &item->record, error) < 0)
            result = MVCC_IO;
        if (result == MVCC_OK && mvcc_kv_decode(item->record, &item->kv, error) < 0)
            result = MVCC_IO;
        if (result != MVCC_OK || bounded_out(r, &item->kv)) {
            kp_blob_unref(item->blob);
            continue;
        }
        out->len++;
    }
    return result;
}

static void finish_items(struct mvcc_range_result *out, const struct mvcc_range_request *r)
{
    bool sorted = r->sort_target == MVCC_SORT_KEY && r->sort_order != MVCC_SORT_DESCEND;
    if (!sorted && out->len > 1)
        qsort_r(out->items, out->len, sizeof *out->items, compare_items, (void *)(uintptr_t)r);
    if (r->limit > 0 && out->len > (size_t)r->limit) {
        out->more = true;
        for (size_t i = (size_t)r->limit; i < out->len; i++)
            kp_blob_unref(out->items[i].blob);
        out->len = (size_t)r->limit;
    }
    for (size_t i = 0; r->keys_only && i < out->len; i++)
        out->items[i].kv.value = (struct kp_bytes){0};
}

static enum mvcc_result range(struct mvcc *mvcc, const struct mvcc_range_request *r, bool in_txn,
                              struct mvcc_range_result *ret_result, struct kp_error *error)
{
    struct mvcc_range_result out = {0};
    if (!in_txn)
        backend_read_lock(mvcc->backend);
    int64_t newest = store_read_revision(mvcc);
    out.revision = newest;
    enum mvcc_result result = check_revision(mvcc, r->revision, newest);
    struct found *list = NULL;
    size_t len = 0;
    if (result == MVCC_OK) {
        size_t limit = r->limit > 0 && !wants_all(r) ? (size_t)r->limit + 1 : 0;
        list = collect(mvcc, r, r->revision > 0 ? r->revision : newest, limit, &len, &out.count);
        bool need_reader = false;
        for (size_t i = 0; i < len && !need_reader; i++)
            need_reader = !list[i].blob;
        if (need_reader && backend_reader_begin(mvcc->backend, &out.reader, error) < 0)
            result = MVCC_IO;
    }
    if (!in_txn)
        backend_read_unlock(mvcc->backend);
    if (result == MVCC_OK)
        result = read_items(&out, r, list, len, error);
    else
        for (size_t i = 0; i < len; i++)
            kp_blob_unref(list[i].blob);
    free(list);
    if (result != MVCC_OK) {
        mvcc_range_done(&out);
        return result;
    }
    finish_items(&out, r);
    *ret_result = out;
    return MVCC_OK;
}

enum mvcc_result mvcc_range(struct mvcc *mvcc, const struct mvcc_range_request *request,
                            struct mvcc_range_result *ret_result, struct kp_error *error)
{
    return range(mvcc, request, false, ret_result, error);
}

bool mvcc_range_is_short(struct mvcc *mvcc, const struct mvcc_range_request *request)
{
    struct kp_bytes end = request->range_end;
    if (end.len == 0)
        return true;
    backend_read_lock(mvcc->backend);
    size_t from = index_seek(&mvcc->index, request->key).chunk;
    bool open = end.len == 1 && end.data[0] == 0;
    size_t to = open ? mvcc->index.count : index_seek(&mvcc->index, end).chunk;
    backend_read_unlock(mvcc->backend);
    return to <= from + 2;
}

enum mvcc_result mvcc_txn_range(struct mvcc *mvcc, const struct mvcc_range_request *request,
                                struct mvcc_range_result *ret_result, struct kp_error *error)
{
    KP_ASSERT(mvcc->in_txn);
    return range(mvcc, request, true, ret_result, error);
}

void mvcc_range_done(struct mvcc_range_result *result)
{
    for (size_t i = 0; i < result->len; i++)
        kp_blob_unref(result->items[i].blob);
    free(result->items);
    backend_reader_end(result->reader);
    *result = (struct mvcc_range_result){0};
}

/* ---- comparisons ---- */

static bool holds(enum mvcc_compare_result result, int order)
{
    switch (result) {
    case MVCC_EQUAL: return order == 0;
    case MVCC_NOT_EQUAL: return order != 0;
    case MVCC_GREATER: return order > 0;
    case MVCC_LESS: return order < 0;
    }
    return false;
}

static enum mvcc_result compare_key(struct mvcc *mvcc, const struct mvcc_key *key, const struct mvcc_compare *c,
                                    bool *ret_holds, struct kp_error *error)
{
    bool live = key && key_is_live(key);
    int64_t number = 0;
    switch (c->target) {
    case MVCC_CMP_VERSION: number = live ? key->version : 0; break;
    case MVCC_CMP_CREATE: number = live ? key->create_revision : 0; break;
    case MVCC_CMP_MOD: number = live ? key->revisions[key->count - 1].main : 0; break;
    case MVCC_CMP_LEASE: number = live && key->lease ? key->lease->id : 0; break;
    case MVCC_CMP_VALUE: {
        *ret_holds = false;
        if (!live)
            return MVCC_OK;
        KP_AUTO(kp_blob_unref) struct kp_blob *record = NULL;
        struct mvcc_kv kv;
        if (store_fetch(mvcc, &key->revisions[key->count - 1], &record, error) != MVCC_OK ||
            mvcc_kv_decode((struct kp_bytes){record->data, record->len}, &kv, error) < 0)
            return MVCC_IO;
        *ret_holds = holds(c->result, mvcc_bytes_compare(kv.value, c->value));
        return MVCC_OK;
    }
    }
    *ret_holds = holds(c->result, order_numbers(number, c->number));
    return MVCC_OK;
}

enum mvcc_result mvcc_compare(struct mvcc *mvcc, const struct mvcc_compare *c, bool *ret_holds, struct kp_error *error)
{
    KP_ASSERT(mvcc->in_txn);
    if (c->range_end.len == 0)
        return compare_key(mvcc, index_find(&mvcc->index, c->key), c, ret_holds, error);
    bool any = false;
    struct index_position at = index_seek(&mvcc->index, c->key);
    for (struct mvcc_key *key; (key = index_at(&mvcc->index, at)) != NULL; index_advance(&mvcc->index, &at)) {
        if (!mvcc_in_range(mvcc_key_bytes(key), c->key, c->range_end))
            break;
        if (!key_is_live(key))
            continue;
        any = true;
        enum mvcc_result result = compare_key(mvcc, key, c, ret_holds, error);
        if (result != MVCC_OK || !*ret_holds)
            return result;
    }
    return any ? MVCC_OK : compare_key(mvcc, NULL, c, ret_holds, error);
}
