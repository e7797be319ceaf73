/* The log in memory: entries after the last compaction, with marks for what is durable, committed and applied. */
#include "controlplane/etcd/raft/raft_internal.h"

void raft_entries_free(struct raft_entry *entries, size_t len)
{
    if (!entries)
        return;
    for (size_t i = 0; i < len; i++)
        kp_blob_unref(entries[i].data);
    free(entries);
}

void raft_log_done(struct raft_log *log)
{
    for (size_t i = 0; i < log->len; i++)
        kp_blob_unref(log->entries[log->head + i].data);
    free(log->entries);
    *log = (struct raft_log){0};
}

uint64_t raft_log_last(const struct raft_log *log) { return log->snapshot_index + log->len; }

bool raft_log_term(const struct raft_log *log, uint64_t index, uint64_t *ret_term)
{
    if (index == log->snapshot_index) {
        *ret_term = log->snapshot_term;
        return true;
    }
    if (index < log->snapshot_index || index > raft_log_last(log))
        return false;
    *ret_term = raft_log_at(log, index)->term;
    return true;
}

bool raft_log_matches(const struct raft_log *log, uint64_t index, uint64_t term)
{
    uint64_t own;
    return raft_log_term(log, index, &own) && own == term;
}

const struct raft_entry *raft_log_at(const struct raft_log *log, uint64_t index)
{
    KP_ASSERT(index > log->snapshot_index && index <= raft_log_last(log));
    return &log->entries[log->head + (size_t)(index - log->snapshot_index - 1)];
}

/* Room for one more at the end; the space that compaction freed in front is used up first. */
static void log_reserve(struct raft_log *log)
{
    if (log->head + log->len < log->cap)
        return;
    if (log->head > log->cap / 2) {
        memmove(log->entries, log->entries + log->head, log->len * sizeof(*log->entries));
        log->head = 0;
        return;
    }
    log->cap = log->cap ? log->cap * 2 : 64;
    log->entries = kp_realloc(log->entries, log->cap * sizeof(*log->entries));
}

void raft_log_push(struct raft_log *log, const struct raft_entry *entry)
{
    KP_ASSERT(entry->index == raft_log_last(log) + 1);
    log_reserve(log);
    struct raft_entry *slot = &log->entries[log->head + log->len++];
    *slot = *entry;
    if (slot->data)
        kp_blob_ref(slot->data);
    log->bytes += raft_entry_bytes(slot);
}

static void log_drop(struct raft_log *log, size_t at, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct raft_entry *entry = &log->entries[log->head + at + i];
        log->bytes -= raft_entry_bytes(entry);
        kp_blob_unref(entry->data);
    }
}

void raft_log_truncate(struct raft_log *log, uint64_t from)
{
    KP_ASSERT(from > log->committed); /* what is committed never changes (thesis 3.6.2) */
    if (from > raft_log_last(log))
        return;
    size_t keep = (size_t)(from - log->snapshot_index - 1);
    log_drop(log, keep, log->len - keep);
    log->len = keep;
    log->stable = KP_MIN(log->stable, from - 1);
}

void raft_log_compact(struct raft_log *log, uint64_t index)
{
    if (index <= log->snapshot_index)
        return;
    KP_ASSERT(index <= log->applied && index <= log->stable);
    uint64_t term = raft_log_at(log, index)->term;
    size_t count = (size_t)(index - log->snapshot_index);
    log_drop(log, 0, count);
    log->head += count;
    log->len -= count;
    log->snapshot_index = index;
    log->snapshot_term = term;
    if (log->len == 0)
        log->head = 0;
}

void raft_log_restore(struct raft_log *log, uint64_t index, uint64_t term)
{
    KP_ASSERT(index > log->committed);
    log_drop(log, 0, log->len);
    log->head = log->len = 0;
    log->snapshot_index = log->committed = log->handed = log->stable = index;
    log->snapshot_term = term;
}

uint64_t raft_log_conflict_by_term(const struct raft_log *log, uint64_t index, uint64_t term, uint64_t *ret_term)
{
    for (;; index--) {
        if (!raft_log_term(log, index, ret_term)) {
            *ret_term = 0;
            return index;
        }
        if (*ret_term <= term || index == 0)
            return index;
    }
}

size_t raft_log_copy(const struct raft_log *log, uint64_t from, uint64_t to, size_t bytes_max, size_t count_max,
                     struct raft_entry **ret, size_t *ret_bytes)
{
    *ret = NULL;
    *ret_bytes = 0;
    if (from > to)
        return 0;
    size_t len = 0;
    for (uint64_t index = from; index <= to && len < count_max; index++, len++) {
        size_t bytes = raft_entry_bytes(raft_log_at(log, index));
        if (len > 0 && *ret_bytes + bytes > bytes_max)
            break;
        *ret_bytes += bytes;
    }
    *ret = kp_malloc(len * sizeof(**ret));
    memcpy(*ret, raft_log_at(log, from), len * sizeof(**ret));
    for (size_t i = 0; i < len; i++)
        if ((*ret)[i].data)
            kp_blob_ref((*ret)[i].data);
    return len;
}
