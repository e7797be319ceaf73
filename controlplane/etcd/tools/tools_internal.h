/* What the sub-commands share. */
#ifndef ETCD_TOOLS_INTERNAL_H
#define ETCD_TOOLS_INTERNAL_H

#include "controlplane/etcd/snapshot/snapshot.h"
#include "controlplane/etcd/tools/tools.h"

enum tools_format { TOOLS_SIMPLE, TOOLS_JSON, TOOLS_TABLE, TOOLS_FIELDS };
#define TOOLS_COLUMNS_MAX 5

/* ---- print.c ---- */
bool tools_parse_format(const char *text, enum tools_format *ret_format);
struct hash_result {
    uint32_t hash;
    int64_t hash_revision, compact_revision;
};
void tools_print_status(FILE *out, enum tools_format format, const struct snapshot_status *status);
void tools_print_hash(FILE *out, enum tools_format format, const struct hash_result *result);
/* Like go-humanize: 1000s, one decimal below ten. */
void tools_humanize(uint64_t bytes, char out[24]);

/* ---- restore.c ---- */
struct restore_options {
    const char *file, *data_dir, *wal_dir; /* wal_dir "": below data_dir */
    const char *name, *initial_cluster, *initial_cluster_token, *initial_advertise_peer_urls;
    bool skip_hash;
    uint64_t bump;
};
/* All of it appears at once under its name, or nothing. */
int tools_restore(const struct restore_options *options, struct kp_error *error) KP_NODISCARD;

/* ---- offline.c ---- */
/* Of a snapshot, or of the database in data_dir; one of them is NULL. */
int tools_hash(const char *file, const char *data_dir, int64_t revision, struct hash_result *ret, struct kp_error *error)
    KP_NODISCARD;
int tools_defragment(const char *data_dir, const char *wal_dir, struct kp_error *error) KP_NODISCARD;

/* ---- scratch.c ---- */
/* A folder of a random name beside `path`, on its file system; *ret_path is malloc'd. */
int scratch_beside(const char *path, const char *what, char **ret_path, struct kp_error *error) KP_NODISCARD;
void scratch_remove(const char *path); /* says so when it cannot */
int sync_folder(const char *path, struct kp_error *error) KP_NODISCARD;
int sync_parent(const char *path, struct kp_error *error) KP_NODISCARD;
/* A new database at path, filled from the snapshot, as `snapshot_import` does. */
int import_to(const char *path, struct snapshot_file *file, uint64_t bump, struct backend **ret_backend,
              struct kp_error *error) KP_NODISCARD;

#endif
