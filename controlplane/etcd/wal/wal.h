/* controlplane/etcd/wal: the write-ahead log that keeps Raft's entries, hard state and snapshot markers over crashes.

   A log is a folder of segment files named <sequence>-<first index>.wal (16 hex digits each), pre-allocated with zeroes.
   Every record carries the CRC-32C of itself rolled on from the record before, over segment borders too. A torn tail
   (the last write was cut by a crash) is repaired at open; anything else that does not check is refused.
   One thread at a time. */
#ifndef ETCD_WAL_H
#define ETCD_WAL_H

#include "base/base.h"
#include "controlplane/etcd/raft/raft.h"

#include <sys/types.h>

#define WAL_SEGMENT_BYTES_DEFAULT ((size_t)64 << 20)
#define WAL_RECORD_BYTES_MAX ((size_t)RAFT_ENTRY_BYTES_MAX + 4096)
#define WAL_SEGMENTS_MAX 4096

/* Every system call the log makes, so that tests and the simulator can fail the nth, tear writes and lose what was not
   synced. Functions return -errno on failure. NULL in struct wal_config means wal_io_posix. */
struct wal_io {
    void *ctx;
    int (*open)(void *ctx, const char *path, int flags, unsigned mode); /* a descriptor >= 0 */
    int (*close)(void *ctx, int fd);
    int64_t (*size)(void *ctx, int fd);
    ssize_t (*pread)(void *ctx, int fd, void *data, size_t len, int64_t offset);        /* may be short */
    ssize_t (*pwrite)(void *ctx, int fd, const void *data, size_t len, int64_t offset); /* may be short */
    int (*fdatasync)(void *ctx, int fd);
    int (*fallocate)(void *ctx, int fd, int64_t offset, int64_t len); /* extends the file with zeroes */
    int (*truncate)(void *ctx, int fd, int64_t len);
    int (*lock)(void *ctx, int fd); /* exclusive, without waiting; -EWOULDBLOCK when another process has it */
    int (*rename)(void *ctx, const char *from, const char *to);
    int (*unlink)(void *ctx, const char *path);
    int (*mkdir)(void *ctx, const char *path, unsigned mode); /* -EEXIST is fine */
    int (*sync_folder)(void *ctx, const char *path);
    /* Calls each for every name but "." and "..", until it returns nonzero. */
    int (*readdir)(void *ctx, const char *path, int (*each)(void *arg, const char *name), void *arg);
};
extern const struct wal_io wal_io_posix;

struct wal_metadata {
    uint64_t cluster_id, node_id;
};
/* Everything up to index is in the state machine's own durable storage: replay starts after the last marker. */
struct wal_snapshot {
    uint64_t index, term;
    struct raft_conf_state conf; /* as of index */
};
struct wal_config {
    const char *path;         /* the folder; copied */
    const struct wal_io *io;  /* borrowed for the life of the log; NULL: wal_io_posix */
    size_t segment_bytes;     /* 0: WAL_SEGMENT_BYTES_DEFAULT; a segment is cut when it is that full */
};
struct wal;

bool wal_exists(const struct wal_config *config); /* the folder holds at least one segment */
/* A new log: makes the folder (not its parents). first is what the log starts after and the initial configuration (index 0 at
   a first start). A crash inside leaves either no log or a whole one. KP_EEXISTS when there is one. */
int wal_create(const struct wal_config *config, const struct wal_metadata *metadata, const struct wal_snapshot *first,
               struct wal **ret, struct kp_error *error) KP_NODISCARD;

/* What an existing log held. */
struct wal_replay {
    struct wal_metadata metadata;
    struct raft_hard_state hard_state; /* all 0 when none was written */
    struct wal_snapshot snapshot;      /* the last marker */
    struct raft_entry *entries;        /* snapshot.index + 1 and on, no gap; owned */
    size_t entries_len;
    uint64_t torn_bytes; /* what a repair cut off; 0: the log was whole */
};
void wal_replay_done(struct wal_replay *replay);
/* Reads all, repairs a torn tail, and is ready to append. KP_ENOTFOUND without a log, KP_ECONFLICT when another process
   has it open, KP_ECORRUPT (message with file and offset) for damage that no torn write explains. */
int wal_open(const struct wal_config *config, struct wal_replay *ret_replay, struct wal **ret,
             struct kp_error *error) KP_NODISCARD;
/* Reads all without writing or locking anything (offline tools, fuzzing); a torn tail is counted, not cut. */
int wal_read(const struct wal_config *config, struct wal_replay *ret_replay, struct kp_error *error) KP_NODISCARD;

/* Adds records in memory; durable only after wal_sync. An entry whose index exists already replaces it and all after it.
   hard_state may be NULL. Many appends and one sync are a group commit. After any failed call that writes the log is
   poisoned: every later call fails with KP_EIO, for what is on disk is unknown until the log is opened anew. */
int wal_append(struct wal *wal, const struct raft_entry *entries, size_t len, const struct raft_hard_state *hard_state,
               struct kp_error *error) KP_NODISCARD;
/* A crash between making an image durable and its marker leaves a state machine ahead of the log's end: append its marker
   at the next start, sync, and begin the core after it (what it applied was committed, so nothing is lost).
   The marker of a snapshot that is durable elsewhere already; index may be beyond the log (installed from a leader), which
   then starts after it. */
int wal_append_snapshot(struct wal *wal, const struct wal_snapshot *snapshot, struct kp_error *error) KP_NODISCARD;
/* One write and one fdatasync for everything appended; cuts a new segment when this one is full. */
int wal_sync(struct wal *wal, struct kp_error *error) KP_NODISCARD;
/* Unlinks segments that hold nothing after index (at most the last synced marker's: more is ignored). */
int wal_release(struct wal *wal, uint64_t index, struct kp_error *error) KP_NODISCARD;

struct wal_stats {
    size_t segments;
    uint64_t first_sequence, last_sequence;
    uint64_t bytes_written, syncs, cuts; /* since open */
    bool poisoned;
};
void wal_stats(const struct wal *wal, struct wal_stats *ret);
/* Closes without syncing (what was not synced is lost, as in a crash); accepts NULL. */
void wal_close(struct wal *wal);
KP_DEFINE_AUTO(struct wal *, wal_close)

#endif
