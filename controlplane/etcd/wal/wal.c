/* Writing a log: append, group commit, cutting segments and releasing old ones.

   closed -> open -> poisoned: a failed write or sync leaves the file in a state nobody knows (a second fsync may well
   "succeed" after the kernel dropped the pages), so nothing is retried; opening anew reads what is really there. */
#include "controlplane/etcd/wal/wal_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>

#define BUFFER_BYTES_MAX ((size_t)4 << 20) /* appended records beyond this are written before the sync */

struct wal {
    char *path;
    const struct wal_io *io;
    size_t segment_bytes;
    struct wal_metadata metadata;
    struct raft_hard_state hard_state;
    struct wal_snapshot snapshot; /* the last appended marker */
    uint64_t snapshot_synced;     /* its index once durable */
    uint64_t last_index;

    struct wal_segment *segments;
    size_t segments_len;
    int fd, lock_fd;
    struct kp_buf buffer; /* encoded, not yet written */
    uint64_t offset;      /* where buffer goes */
    uint64_t synced;      /* durable up to here */
    uint32_t crc;
    bool poisoned;
    uint64_t bytes_written, syncs, cuts;
};

static int poison(struct wal *wal, int negative_errno, const char *what, const char *path, struct kp_error *error)
{
    wal->poisoned = true;
    wal_fail_io(error, negative_errno, what, path);
    return kp_wrap(error, "nothing more is written until a restart"), KP_EIO;
}

static int check_usable(const struct wal *wal, struct kp_error *error)
{
    if (wal->poisoned)
        return kp_fail(error, KP_EIO, "write-ahead log %s: an earlier write failed; restart to read what is on disk",
                       wal->path);
    return 0;
}

static int write_all(const struct wal_io *io, int fd, const char *data, size_t len, uint64_t offset)
{
    while (len > 0) {
        ssize_t n = io->pwrite(io->ctx, fd, data, len, (int64_t)offset);
        if (n < 0)
            return (int)n;
        if (n == 0)
            return -EIO;
        data += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

static struct wal_segment *current(struct wal *wal) { return &wal->segments[wal->segments_len - 1]; }

/* ---- making and opening ----------------------------------------------------------------------------------------- */
static struct wal *wal_new(const struct wal_config *config)
{
    struct wal *wal = kp_calloc(1, sizeof(*wal));
    wal->path = kp_strdup(config->path);
    wal->io = config->io ? config->io : &wal_io_posix;
    wal->segment_bytes = config->segment_bytes ? config->segment_bytes : WAL_SEGMENT_BYTES_DEFAULT;
    wal->fd = wal->lock_fd = -1;
    return wal;
}

void wal_close(struct wal *wal)
{
    if (!wal)
        return;
    if (wal->fd >= 0)
        wal->io->close(wal->io->ctx, wal->fd);
    if (wal->lock_fd >= 0)
        wal->io->close(wal->io->ctx, wal->lock_fd);
    kp_buf_done(&wal->buffer);
    free(wal->segments);
    free(wal->path);
    free(wal);
}

static int check_path(const struct wal_config *config, struct kp_error *error)
{
    if (!config->path || !config->path[0] || strlen(config->path) + WAL_NAME_MAX > WAL_PATH_MAX)
        return kp_fail(error, KP_EINVALID, "write-ahead log: no or too long a folder name");
    return 0;
}

static int wal_lock(struct wal *wal, struct kp_error *error)
{
    char path[WAL_PATH_MAX];
    snprintf(path, sizeof(path), "%s/lock", wal->path);
    wal->lock_fd = wal->io->open(wal->io->ctx, path, O_RDWR | O_CREAT, 0600);
    if (wal->lock_fd < 0)
        return wal_fail_io(error, wal->lock_fd, "open", path);
    int code = wal->io->lock(wal->io->ctx, wal->lock_fd);
    if (code == -EWOULDBLOCK)
        return kp_fail(error, KP_ECONFLICT, "write-ahead log %s: another process has it open", wal->path);
    return code < 0 ? wal_fail_io(error, code, "lock", path) : 0;
}

static int list_temporary(void *arg, const char *name)
{
    char *found = arg;
    size_t len = strlen(name);
    if (len < 8 || len >= WAL_NAME_MAX || !kp_streq(name + len - 8, ".wal.tmp"))
        return 0;
    memcpy(found, name, len + 1);
    return 1;
}

/* Half-made segments of a crash inside a cut. */
static int remove_temporary(struct wal *wal, struct kp_error *error)
{
    for (int round = 0; round < WAL_SEGMENTS_MAX; round++) {
        char name[WAL_NAME_MAX] = "", path[WAL_PATH_MAX];
        int code = wal->io->readdir(wal->io->ctx, wal->path, list_temporary, name);
        if (code < 0)
            return wal_fail_io(error, code, "list", wal->path);
        if (!name[0])
            return 0;
        snprintf(path, sizeof(path), "%s/%s", wal->path, name);
        code = wal->io->unlink(wal->io->ctx, path);
        if (code < 0)
            return wal_fail_io(error, code, "remove", path);
    }
    return 0;
}

static void put_record(struct wal *wal, enum wal_record_type type, const struct kp_buf *payload)
{
    wal_record_put(&wal->buffer, &wal->crc, wal->synced, type, payload, NULL, 0);
}

static void put_hard_state(struct wal *wal)
{
    KP_AUTO_BUF struct kp_buf payload = {0};
    wal_put_hard_state(&payload, &wal->hard_state);
    put_record(wal, WAL_HARD_STATE, &payload);
}

static void put_snapshot(struct wal *wal)
{
    KP_AUTO_BUF struct kp_buf payload = {0};
    wal_put_snapshot(&payload, &wal->snapshot);
    put_record(wal, WAL_SNAPSHOT, &payload);
}

/* A new segment with a head that makes those before it dispensable; visible under its name only when durable. The
   buffer is empty before and after. */
static int make_segment(struct wal *wal, uint64_t sequence, struct kp_error *error)
{
    const struct wal_io *io = wal->io;
    struct wal_segment segment = {sequence, wal->last_index + 1};
    char temporary[WAL_PATH_MAX], path[WAL_PATH_MAX];
    wal_segment_path(wal->path, &segment, true, temporary);
    wal_segment_path(wal->path, &segment, false, path);
    KP_ASSERT(wal->buffer.len == 0);

    int fd = io->open(io->ctx, temporary, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0)
        return poison(wal, fd, "create", temporary, error);
    if (wal->fd >= 0)
        io->close(io->ctx, wal->fd);
    wal->fd = fd;
    int code = io->fallocate(io->ctx, fd, 0, (int64_t)wal->segment_bytes);
    if (code < 0)
        return poison(wal, code, "allocate space for", temporary, error);

    KP_AUTO_BUF struct kp_buf payload = {0};
    wal->synced = 0;
    wal_put_metadata(&payload, &wal->metadata, sequence);
    put_record(wal, WAL_METADATA, &payload);
    put_snapshot(wal);
    put_hard_state(wal);
    wal->offset = wal->buffer.len;
    code = write_all(io, fd, wal->buffer.data, wal->buffer.len, 0);
    wal->buffer.len = 0;
    if (code == 0)
        code = io->fdatasync(io->ctx, fd);
    if (code < 0)
        return poison(wal, code, "write", temporary, error);
    wal->bytes_written += wal->offset;
    wal->synced = wal->offset;

    code = io->rename(io->ctx, temporary, path);
    if (code == 0)
        code = io->sync_folder(io->ctx, wal->path);
    if (code < 0)
        return poison(wal, code, "put in place", path, error);
    wal->segments = kp_realloc(wal->segments, (wal->segments_len + 1) * sizeof(*wal->segments));
    wal->segments[wal->segments_len++] = segment;
    return 0;
}

bool wal_exists(const struct wal_config *config)
{
    const struct wal_io *io = config->io ? config->io : &wal_io_posix;
    struct wal_segment *segments = NULL;
    size_t len;
    int code = check_path(config, NULL);
    if (code == 0)
        code = wal_list(io, config->path, &segments, &len, NULL);
    free(segments);
    return code == 0 || code == KP_ECORRUPT || code == KP_ETOOLARGE; /* a damaged one exists, too */
}

static int make_folder(struct wal *wal, struct kp_error *error)
{
    int code = wal->io->mkdir(wal->io->ctx, wal->path, 0700);
    if (code < 0 && code != -EEXIST)
        return wal_fail_io(error, code, "make folder", wal->path);
    const char *slash = strrchr(wal->path, '/');
    KP_AUTO_FREE char *parent = !slash             ? kp_strdup(".")
                                : slash == wal->path ? kp_strdup("/")
                                                     : kp_strndup(wal->path, (size_t)(slash - wal->path));
    code = wal->io->sync_folder(wal->io->ctx, parent);
    return code < 0 ? wal_fail_io(error, code, "sync folder", parent) : 0;
}

int wal_create(const struct wal_config *config, const struct wal_metadata *metadata, const struct wal_snapshot *first,
               struct wal **ret, struct kp_error *error)
{
    int code = check_path(config, error);
    if (code < 0)
        return code;
    KP_AUTO(wal_close) struct wal *wal = wal_new(config);
    if ((code = make_folder(wal, error)) < 0 || (code = wal_lock(wal, error)) < 0)
        return code;
    /* Only a folder that surely holds none will do: a failed look must not overwrite a log. */
    code = wal_list(wal->io, wal->path, &wal->segments, &wal->segments_len, error);
    if (code == 0 || code == KP_ECORRUPT || code == KP_ETOOLARGE)
        return kp_fail(error, KP_EEXISTS, "write-ahead log %s: exists already", wal->path);
    if (code != KP_ENOTFOUND)
        return code;
    if (error)
        *error = (struct kp_error){0};
    if ((code = remove_temporary(wal, error)) < 0)
        return code;
    wal->metadata = *metadata;
    wal->snapshot = *first;
    if (first->index == 0 && first->conf.voters.len > 0) { /* see struct raft_config */
        wal->snapshot.index = RAFT_INITIAL_INDEX;
        wal->snapshot.term = RAFT_INITIAL_TERM;
    }
    wal->snapshot_synced = wal->last_index = wal->snapshot.index;
    if ((code = make_segment(wal, 1, error)) < 0)
        return code;
    *ret = KP_TAKE(wal);
    return 0;
}

/* Cuts off what was torn, and makes sure that zeroes follow. */
static int make_ready(struct wal *wal, const struct wal_end *end, bool torn, struct kp_error *error)
{
    const struct wal_io *io = wal->io;
    char path[WAL_PATH_MAX];
    wal_segment_path(wal->path, current(wal), false, path);
    wal->fd = io->open(io->ctx, path, O_RDWR, 0);
    if (wal->fd < 0)
        return wal_fail_io(error, wal->fd, "open", path);
    int code = torn ? io->truncate(io->ctx, wal->fd, (int64_t)end->offset) : 0;
    if (code == 0 && (torn || end->file_bytes < wal->segment_bytes) && end->offset < wal->segment_bytes)
        code = io->fallocate(io->ctx, wal->fd, 0, (int64_t)wal->segment_bytes);
    /* Also when whole: what was read may be in the page cache only, written by a process that died before its sync. */
    if (code == 0)
        code = io->fdatasync(io->ctx, wal->fd);
    /* A segment cut just before a crash may have its name in memory only. */
    if (code == 0)
        code = io->sync_folder(io->ctx, wal->path);
    return code < 0 ? wal_fail_io(error, code, torn ? "repair" : "prepare", path) : 0;
}

int wal_open(const struct wal_config *config, struct wal_replay *ret_replay, struct wal **ret, struct kp_error *error)
{
    int code = check_path(config, error);
    if (code < 0)
        return code;
    KP_AUTO(wal_close) struct wal *wal = wal_new(config);
    struct wal_replay replay = {0};
    struct wal_end end = {0};
    /* Looked for first: asking for a log that is not there leaves no lock behind. */
    if ((code = wal_list(wal->io, wal->path, &wal->segments, &wal->segments_len, error)) < 0 ||
        (code = wal_lock(wal, error)) < 0)
        return code;
    free(KP_TAKE(wal->segments));
    if ((code = wal_list(wal->io, wal->path, &wal->segments, &wal->segments_len, error)) < 0 ||
        (code = remove_temporary(wal, error)) < 0 ||
        (code = wal_replay_all(wal->io, wal->path, wal->segments, wal->segments_len, &replay, &end, error)) < 0)
        return code;
    if ((code = make_ready(wal, &end, replay.torn_bytes > 0, error)) < 0) {
        wal_replay_done(&replay);
        return code;
    }
    wal->metadata = replay.metadata;
    wal->hard_state = replay.hard_state;
    wal->snapshot = replay.snapshot;
    wal->snapshot_synced = replay.snapshot.index;
    wal->last_index = end.last_index;
    wal->offset = wal->synced = end.offset;
    wal->crc = end.crc;
    *ret_replay = replay;
    *ret = KP_TAKE(wal);
    return 0;
}

int wal_read(const struct wal_config *config, struct wal_replay *ret_replay, struct kp_error *error)
{
    const struct wal_io *io = config->io ? config->io : &wal_io_posix;
    struct wal_segment *segments = NULL;
    size_t len = 0;
    struct wal_replay replay = {0};
    struct wal_end end = {0};
    int code = check_path(config, error);
    if (code == 0)
        code = wal_list(io, config->path, &segments, &len, error);
    if (code == 0)
        code = wal_replay_all(io, config->path, segments, len, &replay, &end, error);
    free(segments);
    if (code == 0)
        *ret_replay = replay;
    return code;
}

/* ---- writing ---------------------------------------------------------------------------------------------------- */
static int flush(struct wal *wal, struct kp_error *error)
{
    int code = write_all(wal->io, wal->fd, wal->buffer.data, wal->buffer.len, wal->offset);
    if (code < 0)
        return poison(wal, code, "write to", wal->path, error);
    wal->offset += wal->buffer.len;
    wal->bytes_written += wal->buffer.len;
    wal->buffer.len = 0;
    return 0;
}

static void put_entry(struct wal *wal, const struct raft_entry *entry, struct kp_buf *head)
{
    head->len = 0;
    wal_put_entry_head(head, entry);
    wal_record_put(&wal->buffer, &wal->crc, wal->synced, WAL_ENTRY, head, entry->data ? entry->data->data : NULL,
                   entry->data ? entry->data->len : 0);
    wal->last_index = entry->index;
}

int wal_append(struct wal *wal, const struct raft_entry *entries, size_t len, const struct raft_hard_state *hard_state,
               struct kp_error *error)
{
    int code = check_usable(wal, error);
    if (code < 0)
        return code;
    uint64_t last = wal->last_index;
    for (size_t i = 0; i < len; i++) {
        if (entries[i].index <= wal->snapshot.index || entries[i].index > last + 1 || entries[i].term == 0 ||
            (entries[i].data && entries[i].data->len > RAFT_ENTRY_BYTES_MAX))
            return kp_fail(error, KP_EINVALID,
                           "write-ahead log %s: entry %" PRIu64 " cannot be appended after %" PRIu64
                           ", snapshot at %" PRIu64,
                           wal->path, entries[i].index, last, wal->snapshot.index);
        last = entries[i].index;
    }
    KP_AUTO_BUF struct kp_buf head = {0};
    for (size_t i = 0; i < len; i++) {
        put_entry(wal, &entries[i], &head);
        if (wal->buffer.len > BUFFER_BYTES_MAX && (code = flush(wal, error)) < 0)
            return code;
    }
    if (hard_state) {
        wal->hard_state = *hard_state;
        put_hard_state(wal);
    }
    return 0;
}

int wal_append_snapshot(struct wal *wal, const struct wal_snapshot *snapshot, struct kp_error *error)
{
    int code = check_usable(wal, error);
    if (code < 0)
        return code;
    if (snapshot->index < wal->snapshot.index)
        return kp_fail(error, KP_EINVALID, "write-ahead log %s: snapshot at %" PRIu64 " is older than the one at %" PRIu64,
                       wal->path, snapshot->index, wal->snapshot.index);
    wal->snapshot = *snapshot;
    wal->last_index = KP_MAX(wal->last_index, snapshot->index);
    put_snapshot(wal);
    return 0;
}

/* The full segment is durable already. */
static int cut(struct wal *wal, struct kp_error *error)
{
    if (wal->segments_len >= WAL_SEGMENTS_MAX)
        return 0; /* it grows on until a release */
    /* The space behind its end is of no more use; should a crash undo this, zeroes are there. */
    int code = wal->io->truncate(wal->io->ctx, wal->fd, (int64_t)wal->offset);
    if (code < 0)
        return poison(wal, code, "cut", wal->path, error);
    wal->cuts++;
    return make_segment(wal, current(wal)->sequence + 1, error);
}

int wal_sync(struct wal *wal, struct kp_error *error)
{
    int code = check_usable(wal, error);
    if (code < 0)
        return code;
    if (wal->buffer.len > 0 && (code = flush(wal, error)) < 0)
        return code;
    if (wal->offset == wal->synced)
        return 0;
    code = wal->io->fdatasync(wal->io->ctx, wal->fd);
    if (code < 0)
        return poison(wal, code, "sync", wal->path, error);
    wal->syncs++;
    wal->synced = wal->offset;
    wal->snapshot_synced = wal->snapshot.index;
    return wal->offset >= wal->segment_bytes ? cut(wal, error) : 0;
}

int wal_release(struct wal *wal, uint64_t index, struct kp_error *error)
{
    int code = check_usable(wal, error);
    if (code < 0)
        return code;
    index = KP_MIN(index, wal->snapshot_synced);
    size_t released = 0;
    /* Oldest first, so that a crash between two leaves no hole. */
    while (released + 1 < wal->segments_len && wal->segments[released + 1].index <= index + 1) {
        char path[WAL_PATH_MAX];
        wal_segment_path(wal->path, &wal->segments[released], false, path);
        code = wal->io->unlink(wal->io->ctx, path);
        if (code < 0 && code != -ENOENT)
            break;
        code = 0;
        released++;
    }
    wal->segments_len -= released;
    memmove(wal->segments, wal->segments + released, wal->segments_len * sizeof(*wal->segments));
    /* The log is sound without it: failing to free space poisons nothing. */
    return code < 0 ? wal_fail_io(error, code, "release a segment of", wal->path) : 0;
}

void wal_stats(const struct wal *wal, struct wal_stats *ret)
{
    *ret = (struct wal_stats){
        .segments = wal->segments_len,
        .first_sequence = wal->segments_len ? wal->segments[0].sequence : 0,
        .last_sequence = wal->segments_len ? wal->segments[wal->segments_len - 1].sequence : 0,
        .bytes_written = wal->bytes_written,
        .syncs = wal->syncs,
        .cuts = wal->cuts,
        .poisoned = wal->poisoned,
    };
}
