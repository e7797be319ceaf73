/* What is kept of a snapshot of stock etcd, put into an empty database of ours. */
#include "controlplane/etcd/snapshot/snapshot_internal.h"

#include "controlplane/etcd/mvcc/mvcc.h"

#define UNCOMMITTED_MAX ((size_t)32 << 20) /* bytes: less than what would make a writer wait for a disk that is full */
#define PAIR_COST 64                        /* beside its bytes */

struct importing {
    struct backend *backend;
    int64_t revision; /* the newest */
    int64_t scheduled, finished; /* compactions */
    size_t uncommitted;          /* bytes */
    enum backend_bucket bucket;
};

static int refuse(struct kp_error *error, const char *what) { return kp_fail(error, KP_ECORRUPT, "%s is unreadable", what); }

/* A revision from its key; sub is how many changes came before it in its transaction. */
static bool parse_revision(struct kp_bytes key, int64_t *ret_main, int32_t *ret_sub, bool *ret_deleted)
{
    bool deleted = key.len == TOMBSTONE_BYTES && key.data[REVISION_BYTES] == 't';
    if ((!deleted && key.len != REVISION_BYTES) || key.data[8] != '_')
        return false;
    uint64_t main = get_be64(key.data), sub = get_be64(key.data + 9);
    if (main == 0 || main > INT64_MAX || sub > INT32_MAX)
        return false;
    *ret_main = (int64_t)main;
    *ret_sub = (int32_t)sub;
    *ret_deleted = deleted;
    return true;
}

/* After a change of so many bytes: commits when it is time. */
static int changed(struct importing *i, size_t bytes, struct kp_error *error)
{
    i->uncommitted += bytes + PAIR_COST;
    if (i->uncommitted < UNCOMMITTED_MAX)
        return 0;
    i->uncommitted = 0;
    return backend_commit(i->backend, error);
}

static int put_record(struct importing *i, int64_t main, int32_t sub, struct kp_blob *record, struct kp_error *error)
{
    backend_write_lock(i->backend);
    backend_put_revision(i->backend, main, sub, record);
    backend_write_unlock(i->backend);
    i->revision = KP_MAX(i->revision, main);
    return changed(i, record->len, error);
}

static int import_revision(void *ctx, struct kp_bytes key, struct kp_bytes value, struct kp_error *error)
{
    struct importing *i = ctx;
    int64_t main;
    int32_t sub;
    bool deleted;
    struct mvcc_kv kv;
    if (!parse_revision(key, &main, &sub, &deleted))
        return refuse(error, "the key of a revision");
    int rc = mvcc_kv_decode(value, &kv, error);
    if (rc < 0)
        return kp_wrap(error, "revision %lld/%d", (long long)main, sub);
    /* An empty record is what raising the revision leaves: it stays as it is, for the hash counts it. */
    bool live = kv.key.len > 0 && kv.version > 0 && kv.mod_revision == main;
    if (deleted ? kv.key.len == 0 : !live && value.len > 0)
        return kp_fail(error, KP_ECORRUPT, "revision %lld/%d holds a record that does not fit it", (long long)main, sub);
    KP_AUTO(kp_blob_unref) struct kp_blob *record =
        deleted ? mvcc_kv_encode(&(struct mvcc_kv){.key = kv.key, .mod_revision = main})
                : kp_blob_new(value.data, value.len);
    return put_record(i, main, sub, record, error);
}

static int put(struct importing *i, enum backend_bucket bucket, const void *key, size_t key_len, const void *value,
               size_t value_len, struct kp_error *error)
{
    backend_write_lock(i->backend);
    backend_put(i->backend, bucket, key, key_len, value, value_len);
    backend_write_unlock(i->backend);
    return changed(i, key_len + value_len, error);
}

static int import_lease(void *ctx, struct kp_bytes key, struct kp_bytes value, struct kp_error *error)
{
    uint64_t fields[NUMBERS_MAX];
    if (key.len != 8 || !numbers_parse(value, fields) || fields[1] != get_be64(key.data) || fields[2] == 0 ||
        fields[2] > (uint64_t)MVCC_LEASE_TTL_MAX)
        return refuse(error, "a lease");
    int64_t ttl_s = (int64_t)fields[2];
    return put(ctx, BACKEND_LEASE, key.data, key.len, &ttl_s, sizeof ttl_s, error);
}

static int import_alarm(void *ctx, struct kp_bytes key, struct kp_bytes value, struct kp_error *error)
{
    uint64_t fields[NUMBERS_MAX];
    if (!numbers_parse(key, fields) || fields[2] > INT32_MAX)
        return refuse(error, "an alarm");
    uint8_t ours[12];
    int32_t type = (int32_t)fields[2];
    memcpy(ours, &fields[1], 8);
    memcpy(ours + 8, &type, 4);
    return put(ctx, BACKEND_ALARM, ours, sizeof ours, NULL, 0, error);
}

static int copy_pair(void *ctx, struct kp_bytes key, struct kp_bytes value, struct kp_error *error)
{
    struct importing *i = ctx;
    if (key.len > BACKEND_KEY_MAX)
        return kp_fail(error, KP_ETOOLARGE, "a user's or role's name of %zu bytes, more than %d", key.len, BACKEND_KEY_MAX);
    return put(i, i->bucket, key.data, key.len, value.data, value.len, error);
}

static bool is_named(struct kp_bytes key, const char *name)
{
    return key.len == strlen(name) && memcmp(key.data, name, key.len) == 0;
}

static int import_meta(void *ctx, struct kp_bytes key, struct kp_bytes value, struct kp_error *error)
{
    struct importing *i = ctx;
    bool scheduled = is_named(key, "scheduledCompactRev");
    if (!scheduled && !is_named(key, "finishedCompactRev"))
        return 0; /* the rest is about the cluster that was */
    if (value.len != REVISION_BYTES || get_be64(value.data) > INT64_MAX)
        return refuse(error, "a compaction's revision");
    *(scheduled ? &i->scheduled : &i->finished) = (int64_t)get_be64(value.data);
    return 0;
}

static int import_small(struct importing *i, struct bolt_reader *bolt, struct kp_error *error)
{
    static const struct {
        const char *name;
        enum backend_bucket bucket;
    } same[] = {{"auth", BACKEND_AUTH}, {"authRoles", BACKEND_AUTH_ROLES}, {"authUsers", BACKEND_AUTH_USERS}};
    for (size_t n = 0; n < KP_ARRAY_LEN(same); n++) {
        i->bucket = same[n].bucket;
        int rc = bolt_each(bolt, same[n].name, copy_pair, i, error);
        if (rc < 0)
            return kp_wrap(error, "%s", same[n].name);
    }
    int rc;
    if ((rc = bolt_each(bolt, "alarm", import_alarm, i, error)) < 0 ||
        (rc = bolt_each(bolt, "lease", import_lease, i, error)) < 0)
        return rc;
    return bolt_each(bolt, "meta", import_meta, i, error);
}

/* Raises the revision past whatever a client has seen of the old cluster, and compacts all below: caches that watch are
   told so and read anew. */
static int raise_revision(struct importing *i, uint64_t bump, struct kp_error *error)
{
    if (bump == 0)
        return 0;
    if (bump > (uint64_t)(INT64_MAX - 1 - i->revision))
        return kp_fail(error, KP_EUSAGE, "--bump-revision is too large");
    KP_AUTO(kp_blob_unref) struct kp_blob *empty = kp_blob_new("", 0);
    int rc = put_record(i, i->revision + (int64_t)bump, 0, empty, error);
    i->scheduled = i->revision;
    return rc;
}

static int put_mark(struct importing *i, const char *name, int64_t revision, struct kp_error *error)
{
    return revision ? put(i, BACKEND_META, name, strlen(name), &revision, sizeof revision, error) : 0;
}

int snapshot_import(struct snapshot_file *file, struct backend *backend, uint64_t bump, struct kp_error *error)
{
    struct importing importing = {.backend = backend, .revision = 1};
    if (!bolt_has_bucket(file->bolt, "key") || !bolt_has_bucket(file->bolt, "meta"))
        return kp_fail(error, KP_ECORRUPT, "not a database of etcd: it has no keys or no meta data");
    int rc = bolt_each(file->bolt, "key", import_revision, &importing, error);
    if (rc < 0 || (rc = import_small(&importing, file->bolt, error)) < 0 ||
        (rc = raise_revision(&importing, bump, error)) < 0 ||
        (rc = put_mark(&importing, SNAPSHOT_META_COMPACT_SCHEDULED, importing.scheduled, error)) < 0 ||
        (rc = put_mark(&importing, SNAPSHOT_META_COMPACT_FINISHED, importing.finished, error)) < 0)
        return rc;
    return backend_commit(backend, error);
}
