/* A data folder of a new cluster from a snapshot: made aside, and renamed when it is whole and on disk. */
#include "controlplane/etcd/tools/tools_internal.h"

#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "controlplane/etcd/server/bootstrap.h"

/* Absent, or a folder with nothing in it. */
static bool is_free(const char *path)
{
    struct stat st;
    if (lstat(path, &st) < 0)
        return errno == ENOENT;
    DIR *dir = opendir(path);
    if (!dir)
        return false;
    bool empty = true;
    for (const struct dirent *entry; empty && (entry = readdir(dir)) != NULL;)
        empty = kp_streq(entry->d_name, ".") || kp_streq(entry->d_name, "..");
    closedir(dir);
    return empty;
}

static struct etcd_config config_of(const struct restore_options *options, const char *wal_dir)
{
    return (struct etcd_config){.name = options->name,
                                .wal_dir = wal_dir,
                                .initial_cluster = options->initial_cluster,
                                .initial_cluster_token = options->initial_cluster_token,
                                .initial_advertise_peer_urls = options->initial_advertise_peer_urls};
}

/* Fills `data` (a folder) and `log` (not there yet), and syncs both. */
static int fill(const struct restore_options *options, struct snapshot_file *file, const char *data, const char *log,
                struct kp_error *error)
{
    KP_AUTO_FREE char *member = kp_asprintf("%s/member", data);
    KP_AUTO_FREE char *snap = kp_asprintf("%s/snap", member);
    KP_AUTO_FREE char *db = kp_asprintf("%s/db", snap);
    KP_AUTO(backend_close) struct backend *backend = NULL;
    struct etcd_config config = config_of(options, log);
    int rc;
    if ((rc = kp_mkdir_p(snap, 0700, error)) < 0 || (rc = import_to(db, file, options->bump, &backend, error)) < 0 ||
        (rc = bootstrap_create(&config, backend, error)) < 0 || (rc = sync_folder(log, error)) < 0 ||
        (rc = sync_folder(snap, error)) < 0 || (rc = sync_folder(member, error)) < 0)
        return rc;
    return sync_folder(data, error);
}

static int move(const char *from, const char *to, struct kp_error *error)
{
    if (rename(from, to) < 0)
        return kp_fail_errno(error, "rename %s to %s", from, to);
    return sync_parent(to, error);
}

/* The log first: alone it does not start, as a database without its log would. */
static int make(const struct restore_options *options, struct snapshot_file *file, struct kp_error *error)
{
    KP_AUTO_FREE char *data = NULL;
    KP_AUTO_FREE char *logs = NULL;
    KP_AUTO_FREE char *log = NULL;
    bool apart = !kp_empty(options->wal_dir);
    int rc = scratch_beside(options->data_dir, "restore", &data, error);
    if (rc < 0)
        return rc;
    if (apart && (rc = scratch_beside(options->wal_dir, "restore", &logs, error)) < 0)
        goto out;
    log = apart ? kp_asprintf("%s/wal", logs) : kp_asprintf("%s/member/wal", data);
    if ((rc = fill(options, file, data, log, error)) < 0)
        goto out;
    if (apart && (rc = move(log, options->wal_dir, error)) < 0)
        goto out;
    rc = move(data, options->data_dir, error);
out:
    if (logs)
        scratch_remove(logs);
    if (rc < 0)
        scratch_remove(data);
    return rc;
}

int tools_restore(const struct restore_options *options, struct kp_error *error)
{
    struct etcd_config config = config_of(options, options->wal_dir);
    int rc = bootstrap_check(&config, error);
    if (rc < 0)
        return rc;
    if (!is_free(options->data_dir))
        return kp_fail(error, KP_EEXISTS, "data-dir \"%s\" not empty or could not be read", options->data_dir);
    if (!kp_empty(options->wal_dir) && kp_path_exists(options->wal_dir))
        return kp_fail(error, KP_EEXISTS, "wal-dir \"%s\" exists", options->wal_dir);
    struct snapshot_file file;
    enum snapshot_hash hash = options->skip_hash ? SNAPSHOT_HASH_IGNORED : SNAPSHOT_HASH_REQUIRED;
    if ((rc = snapshot_open(options->file, hash, &file, error)) < 0)
        return rc;
    rc = make(options, &file, error);
    snapshot_close(&file);
    return rc;
}
