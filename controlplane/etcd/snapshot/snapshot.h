/* controlplane/etcd/snapshot: a member's state as a snapshot of stock etcd, and such a snapshot as a database of ours. */
#ifndef ETCD_SNAPSHOT_H
#define ETCD_SNAPSHOT_H

#include "base/base.h"
#include "controlplane/etcd/backend/backend.h"
#include "controlplane/etcd/bolt/bolt.h"
#include "tls/tls.h"

#define SNAPSHOT_SECTOR 512 /* a database ends on one; 32 bytes more say that its SHA-256 follows */

/* The names of what storage.c and mvcc keep in BACKEND_META. */
#define SNAPSHOT_META_CONF "conf_state"
#define SNAPSHOT_META_INDEX "consistent_index"
#define SNAPSHOT_META_COMPACT_SCHEDULED "compact_scheduled"
#define SNAPSHOT_META_COMPACT_FINISHED "compact_finished"

/* Writes what the database holds, after a commit, to fd (an empty file) as etcd 3.5 keeps it; *ret_bytes is its size, the
   checksum not included. All of one moment; writers go on. Without any lock held. */
int snapshot_export(struct backend *backend, int fd, uint64_t *ret_bytes, struct kp_error *error) KP_NODISCARD;

/* A snapshot's file, checked: bucket by bucket, and by its SHA-256 when it has one. */
struct snapshot_file {
    int fd; /* owned */
    uint64_t bytes; /* of the database */
    bool has_hash;
    struct bolt_reader *bolt; /* owned */
};
enum snapshot_hash {
    SNAPSHOT_HASH_REQUIRED,
    SNAPSHOT_HASH_IF_THERE, /* a database copied from a data folder has none */
    SNAPSHOT_HASH_IGNORED,
};
int snapshot_open(const char *path, enum snapshot_hash hash, struct snapshot_file *ret_file,
                  struct kp_error *error) KP_NODISCARD;
void snapshot_close(struct snapshot_file *file); /* accepts a zeroed one */

/* What `snapshot status` tells. */
struct snapshot_status {
    uint32_t hash; /* CRC-32C over names of buckets, keys and values */
    int64_t revision;
    int64_t total_keys; /* pairs in all buckets */
    int64_t total_size;
    char version[32]; /* of the storage; empty before 3.6 */
};
int snapshot_status(struct snapshot_file *file, struct snapshot_status *ret_status, struct kp_error *error) KP_NODISCARD;

/* Fills an empty database with the keys, leases, alarms, users and roles of a snapshot - not with its members, its place
   in the log or its configuration - and commits. bump: the revision is raised by so much, and all below it is compacted;
   0: it stays. */
int snapshot_import(struct snapshot_file *file, struct backend *backend, uint64_t bump, struct kp_error *error) KP_NODISCARD;

#endif
