/* The database of a member, written as stock etcd 3.5 keeps it. */
#include "controlplane/etcd/snapshot/snapshot_internal.h"

#include "codec/codec.h"
#include "controlplane/etcd/mvcc/mvcc.h"
#include "controlplane/etcd/raft/raft.h"
#include "proto/etcd.pb-c.h"

struct pair {
    struct kp_blob *key, *value;
};
struct exporting {
    struct backend_reader *reader;
    struct bolt_writer *writer;
    struct kp_error *error;
    int rc; /* of the callbacks, which can only say that they stop */
    /* What is in another order here than there: collected, sorted and then written. */
    struct pair *pairs;
    size_t len, cap;
};

static int put_text(struct exporting *e, const char *key, const void *value, size_t len)
{
    struct kp_bytes bytes = {.data = value, .len = len};
    return bolt_writer_put(e->writer, bytes_of_text(key), bytes, e->error);
}

/* ---- keys ---- */

static bool put_revision(void *ctx, int64_t main, int32_t sub, struct kp_bytes record)
{
    struct exporting *e = ctx;
    struct mvcc_kv kv;
    uint8_t key[TOMBSTONE_BYTES];
    if ((e->rc = mvcc_kv_decode(record, &kv, e->error)) < 0)
        return false;
    put_be64(key, (uint64_t)main);
    key[8] = '_';
    put_be64(key + 9, (uint64_t)sub);
    key[REVISION_BYTES] = 't';
    if (kv.version == 0 && kv.key.len > 0) { /* etcd keeps of a deletion the key alone */
        KP_AUTO(kp_blob_unref) struct kp_blob *blob = mvcc_kv_encode(&(struct mvcc_kv){.key = kv.key});
        e->rc = bolt_writer_put(e->writer, (struct kp_bytes){key, TOMBSTONE_BYTES},
                                (struct kp_bytes){blob->data, blob->len}, e->error);
    } else {
        e->rc = bolt_writer_put(e->writer, (struct kp_bytes){key, REVISION_BYTES}, record, e->error);
    }
    return e->rc == 0;
}

/* ---- what is small ---- */

static void collect(struct exporting *e, struct kp_bytes key, struct kp_bytes value)
{
    if (e->len == e->cap) {
        e->cap = e->cap ? e->cap * 2 : 16;
        e->pairs = kp_realloc(e->pairs, e->cap * sizeof *e->pairs);
    }
    e->pairs[e->len++] = (struct pair){kp_blob_new(key.data ? key.data : (const void *)"", key.len),
                                       kp_blob_new(value.data ? value.data : (const void *)"", value.len)};
}

static int order_pairs(const void *a, const void *b)
{
    const struct kp_blob *x = ((const struct pair *)a)->key, *y = ((const struct pair *)b)->key;
    int order = memcmp(x->data, y->data, KP_MIN(x->len, y->len));
    return order ? order : (x->len > y->len) - (x->len < y->len);
}

static void drop_collected(struct exporting *e)
{
    for (size_t i = 0; i < e->len; i++) {
        kp_blob_unref(e->pairs[i].key);
        kp_blob_unref(e->pairs[i].value);
    }
    e->len = 0;
}

static int put_collected(struct exporting *e)
{
    int rc = 0;
    if (e->len)
        qsort(e->pairs, e->len, sizeof *e->pairs, order_pairs);
    for (size_t i = 0; rc == 0 && i < e->len; i++) {
        const struct pair *pair = &e->pairs[i];
        rc = bolt_writer_put(e->writer, (struct kp_bytes){pair->key->data, pair->key->len},
                             (struct kp_bytes){pair->value->data, pair->value->len}, e->error);
    }
    drop_collected(e);
    return rc;
}

static bool copy_pair(void *ctx, struct kp_bytes key, struct kp_bytes value)
{
    struct exporting *e = ctx;
    e->rc = bolt_writer_put(e->writer, key, value, e->error);
    return e->rc == 0;
}

static bool unreadable(struct exporting *e, const char *what)
{
    e->rc = kp_fail(e->error, KP_ECORRUPT, "%s is unreadable", what);
    return false;
}

static bool put_lease(void *ctx, struct kp_bytes key, struct kp_bytes value)
{
    struct exporting *e = ctx;
    int64_t ttl_s;
    if (key.len != 8 || value.len < sizeof ttl_s)
        return unreadable(e, "a lease");
    memcpy(&ttl_s, value.data, sizeof ttl_s);
    KP_AUTO_BUF struct kp_buf lease = {0};
    numbers_put(&lease, 1, get_be64(key.data));
    numbers_put(&lease, 2, (uint64_t)ttl_s);
    e->rc = bolt_writer_put(e->writer, key, (struct kp_bytes){(uint8_t *)lease.data, lease.len}, e->error);
    return e->rc == 0;
}

/* An alarm is its own key. */
static bool collect_alarm(void *ctx, struct kp_bytes key, struct kp_bytes value)
{
    uint64_t member_id;
    int32_t type;
    if (key.len != sizeof member_id + sizeof type)
        return unreadable(ctx, "an alarm");
    memcpy(&member_id, key.data, sizeof member_id);
    memcpy(&type, key.data + sizeof member_id, sizeof type);
    KP_AUTO_BUF struct kp_buf alarm = {0};
    numbers_put(&alarm, 1, member_id);
    numbers_put(&alarm, 2, (uint64_t)type);
    collect(ctx, (struct kp_bytes){(uint8_t *)alarm.data, alarm.len}, (struct kp_bytes){0});
    return true;
}

/* ---- members ---- */

static void put_strings(struct kp_buf *out, const char *name, char **items, size_t len)
{
    if (len == 0)
        return;
    kp_buf_printf(out, ",\"%s\":[", name);
    for (size_t i = 0; i < len; i++) {
        if (i)
            kp_buf_putc(out, ',');
        kp_json_string(out, items[i]);
    }
    kp_buf_putc(out, ']');
}

static bool collect_member(void *ctx, struct kp_bytes key, struct kp_bytes value)
{
    Etcdserverpb__Member *member = etcdserverpb__member__unpack(NULL, value.len, value.data);
    if (!member)
        return unreadable(ctx, "a member");
    KP_AUTO_BUF struct kp_buf json = {0};
    char id[24];
    snprintf(id, sizeof id, "%llx", (unsigned long long)member->id);
    kp_buf_printf(&json, "{\"id\":%llu", (unsigned long long)member->id);
    put_strings(&json, "peerURLs", member->peerurls, member->n_peerurls);
    if (member->islearner)
        kp_buf_puts(&json, ",\"isLearner\":true");
    if (!kp_empty(member->name)) {
        kp_buf_puts(&json, ",\"name\":");
        kp_json_string(&json, member->name);
    }
    put_strings(&json, "clientURLs", member->clienturls, member->n_clienturls);
    kp_buf_putc(&json, '}');
    collect(ctx, bytes_of_text(id), (struct kp_bytes){(uint8_t *)json.data, json.len});
    etcdserverpb__member__free_unpacked(member, NULL);
    return true;
}

static void put_ids(struct kp_buf *out, const char *name, const struct raft_id_set *set)
{
    if (set->len == 0)
        return;
    kp_buf_printf(out, "\"%s\":[", name);
    for (size_t i = 0; i < set->len; i++)
        kp_buf_printf(out, "%s%llu", i ? "," : "", (unsigned long long)set->ids[i]);
    kp_buf_puts(out, "],");
}

static int put_conf(struct exporting *e)
{
    struct kp_bytes value;
    struct raft_conf_state conf;
    int rc = backend_reader_get(e->reader, BACKEND_META, SNAPSHOT_META_CONF, strlen(SNAPSHOT_META_CONF), &value, e->error);
    if (rc < 0 || (rc = raft_conf_state_decode(value.data, value.len, &conf, e->error)) < 0)
        return kp_wrap(e->error, "configuration");
    KP_AUTO_BUF struct kp_buf json = {0};
    kp_buf_putc(&json, '{');
    put_ids(&json, "voters", &conf.voters);
    put_ids(&json, "learners", &conf.learners);
    put_ids(&json, "voters_outgoing", &conf.voters_outgoing);
    put_ids(&json, "learners_next", &conf.learners_next);
    kp_buf_printf(&json, "\"auto_leave\":%s}", conf.auto_leave ? "true" : "false");
    return put_text(e, "confState", json.data, json.len);
}

/* ---- meta ---- */

/* A number, or two, as this machine has them; left alone when absent. */
static int get_numbers(struct exporting *e, const char *name, uint64_t *numbers, size_t count)
{
    struct kp_bytes value;
    struct kp_error missing = {0};
    int rc = backend_reader_get(e->reader, BACKEND_META, name, strlen(name), &value, &missing);
    if (rc == KP_ENOTFOUND)
        return 0;
    if (rc < 0 || value.len != count * sizeof *numbers)
        return kp_fail(e->error, KP_ECORRUPT, "%s is unreadable", name);
    memcpy(numbers, value.data, value.len);
    return 0;
}

static int put_compacted(struct exporting *e, const char *name, const char *from)
{
    uint64_t revision = 0;
    int rc = get_numbers(e, from, &revision, 1);
    if (rc < 0 || revision == 0)
        return rc;
    uint8_t bytes[REVISION_BYTES] = {0};
    put_be64(bytes, revision);
    bytes[8] = '_';
    return put_text(e, name, bytes, sizeof bytes);
}

static int put_meta(struct exporting *e)
{
    uint64_t place[2] = {RAFT_INITIAL_INDEX, RAFT_INITIAL_TERM};
    uint8_t index[8], term[8];
    int rc;
    if ((rc = get_numbers(e, SNAPSHOT_META_INDEX, place, 2)) < 0 || (rc = put_conf(e)) < 0)
        return rc;
    put_be64(index, place[0]);
    put_be64(term, place[1]);
    if ((rc = put_text(e, "consistent_index", index, sizeof index)) < 0 ||
        (rc = put_compacted(e, "finishedCompactRev", SNAPSHOT_META_COMPACT_FINISHED)) < 0 ||
        (rc = put_compacted(e, "scheduledCompactRev", SNAPSHOT_META_COMPACT_SCHEDULED)) < 0)
        return rc;
    return put_text(e, "term", term, sizeof term);
}

/* ---- all of it: the buckets in the order of their names ---- */

static int export_bucket(struct exporting *e, const char *name, enum backend_bucket from, backend_pair_fn fn)
{
    int rc;
    if ((rc = bolt_writer_bucket(e->writer, name, e->error)) < 0 ||
        (rc = backend_reader_each(e->reader, from, fn, e, e->error)) < 0 || (rc = e->rc) < 0)
        return rc;
    return put_collected(e);
}

static int export_all(struct exporting *e)
{
    int rc;
    if ((rc = export_bucket(e, "alarm", BACKEND_ALARM, collect_alarm)) < 0 ||
        (rc = export_bucket(e, "auth", BACKEND_AUTH, copy_pair)) < 0 ||
        (rc = export_bucket(e, "authRoles", BACKEND_AUTH_ROLES, copy_pair)) < 0 ||
        (rc = export_bucket(e, "authUsers", BACKEND_AUTH_USERS, copy_pair)) < 0 ||
        (rc = bolt_writer_bucket(e->writer, "cluster", e->error)) < 0 ||
        (rc = put_text(e, "clusterVersion", STORAGE_VERSION, strlen(STORAGE_VERSION))) < 0 ||
        (rc = bolt_writer_bucket(e->writer, "key", e->error)) < 0 ||
        (rc = backend_reader_scan(e->reader, 0, put_revision, e, e->error)) < 0 || (rc = e->rc) < 0 ||
        (rc = export_bucket(e, "lease", BACKEND_LEASE, put_lease)) < 0 ||
        (rc = export_bucket(e, "members", BACKEND_MEMBERS, collect_member)) < 0 ||
        (rc = bolt_writer_bucket(e->writer, "members_removed", e->error)) < 0 ||
        (rc = bolt_writer_bucket(e->writer, "meta", e->error)) < 0)
        return rc;
    return put_meta(e);
}

int snapshot_export(struct backend *backend, int fd, uint64_t *ret_bytes, struct kp_error *error)
{
    KP_AUTO(bolt_writer_free) struct bolt_writer *writer = NULL;
    KP_AUTO(backend_reader_end) struct backend_reader *reader = NULL;
    int rc;
    if ((rc = backend_commit(backend, error)) < 0 || (rc = bolt_writer_new(fd, 0, &writer, error)) < 0)
        return kp_wrap(error, "snapshot");
    backend_read_lock(backend);
    rc = backend_reader_begin(backend, &reader, error);
    backend_read_unlock(backend);
    struct exporting e = {.reader = reader, .writer = writer, .error = error};
    if (rc == 0)
        rc = export_all(&e);
    drop_collected(&e);
    free(e.pairs);
    if (rc == 0)
        rc = bolt_writer_finish(writer, ret_bytes, error);
    return rc < 0 ? kp_wrap(error, "snapshot") : 0;
}
