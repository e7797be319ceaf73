/* What is done to a database that no member uses: its hash, and making it smaller. */
#include "controlplane/etcd/tools/tools_internal.h"

#include <unistd.h>

#include "controlplane/etcd/mvcc/mvcc.h"
#include "controlplane/etcd/wal/wal.h"

static int hash_backend(struct backend *backend, int64_t revision, struct hash_result *ret, struct kp_error *error)
{
    KP_AUTO(mvcc_close) struct mvcc *mvcc = NULL;
    int rc = mvcc_open(backend, kp_mono_ms(), &mvcc, error);
    if (rc < 0)
        return rc;
    switch (mvcc_hash_kv(mvcc, revision, &ret->hash, &ret->compact_revision, &ret->hash_revision, error)) {
    case MVCC_OK:
        if (ret->compact_revision == 0)
            ret->compact_revision = -1; /* as etcd says: never compacted */
        return 0;
    case MVCC_COMPACTED:
        return kp_fail(error, KP_EEXPIRED, "mvcc: required revision has been compacted");
    case MVCC_FUTURE_REVISION:
        return kp_fail(error, KP_EINVALID, "mvcc: required revision is a future revision");
    default:
        return kp_wrap(error, "hash");
    }
}

/* Imported into a database of ours first, so that both are hashed by the same code. */
static int hash_file(const char *path, int64_t revision, struct hash_result *ret, struct kp_error *error)
{
    struct snapshot_file file;
    KP_AUTO_FREE char *folder = NULL;
    const char *tmp = getenv("TMPDIR");
    KP_AUTO_FREE char *base = kp_asprintf("%s/etcd", kp_empty(tmp) ? "/tmp" : tmp);
    int rc = snapshot_open(path, SNAPSHOT_HASH_IF_THERE, &file, error);
    if (rc < 0)
        return rc;
    if ((rc = scratch_beside(base, "hashkv", &folder, error)) == 0) {
        KP_AUTO(backend_close) struct backend *backend = NULL;
        KP_AUTO_FREE char *db = kp_asprintf("%s/db", folder);
        if ((rc = import_to(db, &file, 0, &backend, error)) == 0)
            rc = hash_backend(backend, revision, ret, error);
    }
    if (folder)
        scratch_remove(folder);
    snapshot_close(&file);
    return rc;
}

/* The database of a data folder whose member is not running: whoever runs holds the log. */
static int open_stopped(const char *data_dir, const char *wal_dir, struct wal **ret_wal, struct backend **ret_backend,
                        struct kp_error *error)
{
    KP_AUTO_FREE char *db = kp_asprintf("%s/member/snap/db", data_dir);
    KP_AUTO_FREE char *below = kp_asprintf("%s/member/wal", data_dir);
    struct wal_config config = {.path = kp_empty(wal_dir) ? below : wal_dir};
    if (!kp_path_exists(db))
        return kp_fail(error, KP_ENOTFOUND, "%s: no such file or directory", db);
    KP_AUTO(wal_close) struct wal *wal = NULL;
    struct wal_replay replay = {0};
    int rc = wal_open(&config, &replay, &wal, error);
    wal_replay_done(&replay);
    if (rc == KP_ECONFLICT)
        return kp_wrap(error, "a member runs on %s", data_dir);
    if (rc < 0)
        return rc;
    struct backend_options options = {.quota_bytes = -1};
    if ((rc = backend_open(db, &options, ret_backend, error)) < 0)
        return rc;
    *ret_wal = KP_TAKE(wal);
    return 0;
}

int tools_hash(const char *file, const char *data_dir, int64_t revision, struct hash_result *ret, struct kp_error *error)
{
    if (file)
        return hash_file(file, revision, ret, error);
    KP_AUTO(wal_close) struct wal *wal = NULL;
    KP_AUTO(backend_close) struct backend *backend = NULL;
    int rc = open_stopped(data_dir, NULL, &wal, &backend, error);
    return rc < 0 ? rc : hash_backend(backend, revision, ret, error);
}

int tools_defragment(const char *data_dir, const char *wal_dir, struct kp_error *error)
{
    KP_AUTO(wal_close) struct wal *wal = NULL;
    KP_AUTO(backend_close) struct backend *backend = NULL;
    int rc = open_stopped(data_dir, wal_dir, &wal, &backend, error);
    return rc < 0 ? rc : backend_defragment(backend, error);
}
