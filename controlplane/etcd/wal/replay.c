/* Reading a log: every record checked, the newest of everything kept, the end classified as clean, torn or damaged. */
#include "controlplane/etcd/wal/wal_internal.h"

#include <fcntl.h>
#include <inttypes.h>

#define READ_STEP ((size_t)1 << 20)

struct reader {
    const struct wal_io *io;
    const char *path;
    int fd;
    uint8_t *data; /* the first `have` bytes of the file */
    size_t have, cap, size;
};

static int reader_fill(struct reader *reader, size_t need, struct kp_error *error)
{
    need = KP_MIN(need, reader->size);
    if (need > reader->cap) {
        reader->cap = KP_MIN(KP_MAX(need, reader->cap * 2) + READ_STEP, reader->size);
        reader->data = kp_realloc(reader->data, reader->cap);
    }
    while (reader->have < need) {
        ssize_t n = reader->io->pread(reader->io->ctx, reader->fd, reader->data + reader->have,
                                      reader->cap - reader->have, (int64_t)reader->have);
        if (n < 0)
            return wal_fail_io(error, (int)n, "read", reader->path);
        if (n == 0)
            return kp_fail(error, KP_EIO, "write-ahead log: read %s: it became shorter", reader->path);
        reader->have += (size_t)n;
    }
    return 0;
}

static int reader_open(struct reader *reader, struct kp_error *error)
{
    reader->fd = reader->io->open(reader->io->ctx, reader->path, O_RDONLY, 0);
    if (reader->fd < 0)
        return wal_fail_io(error, reader->fd, "open", reader->path);
    int64_t size = reader->io->size(reader->io->ctx, reader->fd);
    if (size < 0)
        return wal_fail_io(error, (int)size, "size of", reader->path);
    reader->size = (size_t)size;
    return 0;
}

static void reader_done(struct reader *reader)
{
    if (reader->fd >= 0)
        reader->io->close(reader->io->ctx, reader->fd);
    free(reader->data);
}

/* Loads what a record at offset needs; false when none lies there. */
static int reader_record(struct reader *reader, size_t offset, struct wal_record *record, bool *ret_found,
                         struct kp_error *error)
{
    *ret_found = false;
    int code = reader_fill(reader, offset + WAL_HEADER_BYTES, error);
    if (code < 0 || reader->have < offset + WAL_HEADER_BYTES)
        return code;
    const uint8_t *len = reader->data + offset + 8;
    size_t payload = (size_t)len[0] | (size_t)len[1] << 8 | (size_t)len[2] << 16 | (size_t)len[3] << 24;
    if (payload > WAL_RECORD_BYTES_MAX)
        return 0;
    code = reader_fill(reader, offset + wal_record_size(payload), error);
    if (code == 0)
        *ret_found = wal_record_get(reader->data + offset, reader->have - offset, record);
    return code;
}

/* ---- what the records add up to --------------------------------------------------------------------------------- */
struct state {
    struct wal_replay *replay;
    size_t entries_cap;
    uint64_t last;       /* last entry's index, or the marker's */
    bool first_entry;    /* the oldest segment may begin anywhere up to the marker */
    bool metadata_known, snapshot_known;
    uint32_t crc;
};

static const char *add_entry(struct state *state, const struct wal_record *record)
{
    struct wal_replay *replay = state->replay;
    struct raft_entry entry;
    if (!wal_get_entry(record, &entry))
        return "malformed entry";
    const char *wrong = NULL;
    if (entry.index <= replay->snapshot.index)
        wrong = "an entry that a snapshot replaced before";
    else if (entry.index > state->last + 1 && !state->first_entry)
        wrong = "a gap in the entries";
    if (wrong) {
        kp_blob_unref(entry.data);
        return wrong;
    }
    state->first_entry = false;
    /* An entry replaces the one of its index and all after it. */
    while (replay->entries_len > 0 && replay->entries[replay->entries_len - 1].index >= entry.index)
        kp_blob_unref(replay->entries[--replay->entries_len].data);
    if (replay->entries_len == state->entries_cap) {
        state->entries_cap = state->entries_cap ? state->entries_cap * 2 : 256;
        replay->entries = kp_realloc(replay->entries, state->entries_cap * sizeof(*replay->entries));
    }
    replay->entries[replay->entries_len++] = entry;
    state->last = entry.index;
    return NULL;
}

static void drop_entries(struct wal_replay *replay, size_t count)
{
    for (size_t i = 0; i < count; i++)
        kp_blob_unref(replay->entries[i].data);
    replay->entries_len -= count;
    if (replay->entries_len > 0)
        memmove(replay->entries, replay->entries + count, replay->entries_len * sizeof(*replay->entries));
}

static const char *add_snapshot(struct state *state, const struct wal_record *record)
{
    struct wal_replay *replay = state->replay;
    struct wal_snapshot snapshot;
    if (!wal_get_snapshot(record, &snapshot))
        return "malformed snapshot marker";
    if (state->snapshot_known && snapshot.index < replay->snapshot.index)
        return "a snapshot marker older than the one before";
    replay->snapshot = snapshot;
    state->snapshot_known = true;
    size_t covered = 0;
    while (covered < replay->entries_len && replay->entries[covered].index <= snapshot.index)
        covered++;
    /* Entries beyond it stay only if the log had the very entry the snapshot ends with (thesis chapter 5). */
    const struct raft_entry *end = covered > 0 ? &replay->entries[covered - 1] : NULL;
    bool conflict = end && end->index == snapshot.index && end->term != snapshot.term;
    drop_entries(replay, conflict || snapshot.index > state->last ? replay->entries_len : covered);
    if (snapshot.index > state->last || conflict)
        state->last = snapshot.index;
    return NULL;
}

static const char *add_record(struct state *state, const struct wal_segment *segment, const struct wal_record *record,
                              size_t offset)
{
    struct wal_metadata metadata;
    uint64_t sequence;
    if ((offset == 0) != (record->type == WAL_METADATA))
        return offset == 0 ? "a segment that does not begin with its metadata" : "metadata inside a segment";
    switch (record->type) {
    case WAL_METADATA:
        if (!wal_get_metadata(record, &metadata, &sequence) || sequence != segment->sequence)
            return "metadata of another segment";
        if (state->metadata_known && memcmp(&metadata, &state->replay->metadata, sizeof(metadata)) != 0)
            return "metadata of another member";
        state->metadata_known = true;
        state->replay->metadata = metadata;
        return NULL;
    case WAL_HARD_STATE:
        return wal_get_hard_state(record, &state->replay->hard_state) ? NULL : "malformed hard state";
    case WAL_ENTRY:
        return add_entry(state, record);
    case WAL_SNAPSHOT:
        return add_snapshot(state, record);
    default:
        return "a record of an unknown type (written by a newer version?)";
    }
}

/* ---- the end of a segment --------------------------------------------------------------------------------------- */
static bool all_zero(const uint8_t *data, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        if (data[i] != 0)
            return false;
    return true;
}

/* Where the record at offset would end if its header can be believed; 0 if not. */
static size_t header_claims(const struct reader *reader, size_t offset)
{
    const uint8_t *head = reader->data + offset;
    if (reader->size - offset < WAL_HEADER_BYTES)
        return 0;
    size_t magic = (size_t)head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
    size_t len = (size_t)head[8] | (size_t)head[9] << 8 | (size_t)head[10] << 16 | (size_t)head[11] << 24;
    return magic == WAL_MAGIC && len <= WAL_RECORD_BYTES_MAX ? offset + wal_record_size(len) : 0;
}

/* See wal_internal.h for the three rules. Everything of the file is loaded; [offset, end) is not intact, end is after the
   last byte that is not zero. NULL: a torn write explains it. */
static const char *why_not_torn(const struct reader *reader, size_t offset, size_t end)
{
    struct wal_record record;
    for (size_t at = offset + 8; at + WAL_HEADER_BYTES < end; at += 8)
        if (wal_record_get(reader->data + at, reader->size - at, &record) && record.durable > offset)
            return "records written after it was synced are intact";
    uint64_t trailer = 0;
    if (end % 8 == 0 && end - offset > WAL_HEADER_BYTES)
        for (int i = 7; i >= 0; i--)
            trailer = trailer << 8 | reader->data[end - 8 + (size_t)i];
    if (trailer != WAL_TRAILER && end != header_claims(reader, offset))
        return NULL;
    for (size_t at = offset; at < end;) {
        size_t next = KP_MIN((at / WAL_SECTOR + 1) * WAL_SECTOR, end);
        if (all_zero(reader->data, at, next))
            return NULL;
        at = next;
    }
    return "it is complete, but its checksum differs";
}

static int segment_end(struct reader *reader, size_t offset, bool last, struct wal_replay *replay,
                       struct kp_error *error)
{
    int code = reader_fill(reader, reader->size, error);
    if (code < 0)
        return code;
    size_t end = reader->size;
    while (end > offset && reader->data[end - 1] == 0)
        end--;
    if (end == offset)
        return 0;
    const char *why = last ? why_not_torn(reader, offset, end) : "only the last segment can be torn";
    if (!why) {
        replay->torn_bytes = end - offset;
        return 0;
    }
    return kp_fail(error, KP_ECORRUPT,
                   "write-ahead log: %s is damaged at offset %zu: %s. This member must not start with it: restore the "
                   "file from a backup, or remove the member and add it anew with an empty data folder",
                   reader->path, offset, why);
}

static int replay_segment(struct state *state, struct reader *reader, const struct wal_segment *segment, bool oldest,
                          bool last, size_t *ret_end, struct kp_error *error)
{
    size_t offset = 0;
    for (;;) {
        struct wal_record record;
        bool found;
        int code = reader_record(reader, offset, &record, &found, error);
        if (code < 0)
            return code;
        if (!found)
            break;
        const char *wrong = NULL;
        if (record.previous != state->crc && !(oldest && offset == 0))
            wrong = "it does not follow the record before";
        state->crc = record.crc;
        if (!wrong)
            wrong = add_record(state, segment, &record, offset);
        if (wrong)
            return kp_fail(error, KP_ECORRUPT, "write-ahead log: %s at offset %zu: %s", reader->path, offset, wrong);
        offset += record.size;
    }
    *ret_end = offset;
    int code = segment_end(reader, offset, last, state->replay, error);
    if (code == 0 && (offset == 0 || !state->snapshot_known)) /* heads are synced before a segment gets its name */
        code = kp_fail(error, KP_ECORRUPT, "write-ahead log: %s has no intact head", reader->path);
    return code;
}

static int check_whole(const struct state *state, const char *folder, struct kp_error *error)
{
    const struct wal_replay *replay = state->replay;
    if (replay->entries_len > 0 && replay->entries[0].index != replay->snapshot.index + 1)
        return kp_fail(error, KP_ECORRUPT,
                       "write-ahead log %s: entries begin at %" PRIu64 ", the snapshot before them ends at %" PRIu64,
                       folder, replay->entries[0].index, replay->snapshot.index);
    if (replay->hard_state.commit > state->last)
        return kp_fail(error, KP_ECORRUPT,
                       "write-ahead log %s: entries up to %" PRIu64 " are committed, but it ends at %" PRIu64
                       ": data that was synced is gone",
                       folder, replay->hard_state.commit, state->last);
    return 0;
}

int wal_replay_all(const struct wal_io *io, const char *folder, const struct wal_segment *segments, size_t len,
                   struct wal_replay *ret, struct wal_end *ret_end, struct kp_error *error)
{
    *ret = (struct wal_replay){0};
    struct state state = {.replay = ret, .first_entry = true};
    int code = 0;
    for (size_t i = 0; i < len && code == 0; i++) {
        char path[WAL_PATH_MAX];
        size_t end = 0;
        wal_segment_path(folder, &segments[i], false, path);
        struct reader reader = {.io = io, .path = path, .fd = -1};
        code = reader_open(&reader, error);
        if (code == 0)
            code = replay_segment(&state, &reader, &segments[i], i == 0, i + 1 == len, &end, error);
        ret_end->offset = end;
        ret_end->file_bytes = reader.size;
        reader_done(&reader);
    }
    if (code == 0)
        code = check_whole(&state, folder, error);
    if (code < 0)
        wal_replay_done(ret);
    ret_end->crc = state.crc;
    ret_end->last_index = state.last;
    return code;
}

void wal_replay_done(struct wal_replay *replay)
{
    raft_entries_free(replay->entries, replay->entries_len);
    *replay = (struct wal_replay){0};
}
