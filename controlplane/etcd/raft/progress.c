/* The leader's view of one follower: what it has, what was sent, and when to wait (flow control, thesis 10.2.1).

   probe: one append at a time until the follower's log is found to match; replicate: pipelined within the in-flight
   window; snapshot: nothing but heartbeats until the image arrived. */
#include "controlplane/etcd/raft/raft_internal.h"

void raft_progress_init(struct raft_progress *progress, uint64_t id, uint64_t next, size_t messages_max,
                        size_t bytes_max)
{
    struct raft_inflight *inflight = progress->inflight;
    size_t cap = progress->inflight_cap;
    *progress = (struct raft_progress){
        .id = id,
        .next = next,
        .state = RAFT_PROBE,
        .inflight = inflight,
        .inflight_cap = cap,
        .inflight_messages_max = messages_max,
        .inflight_bytes_max = bytes_max,
    };
}

void raft_progress_done(struct raft_progress *progress)
{
    free(progress->inflight);
    *progress = (struct raft_progress){0};
}

static void progress_enter(struct raft_progress *progress, enum raft_progress_state state)
{
    progress->state = state;
    progress->paused = false;
    progress->inflight_head = progress->inflight_len = progress->inflight_bytes = 0;
}

void raft_progress_probe(struct raft_progress *progress)
{
    /* An image that may have arrived is probed right after it. */
    uint64_t after_image = progress->state == RAFT_SNAPSHOT ? progress->pending_snapshot + 1 : 0;
    progress->next = KP_MAX(progress->match + 1, after_image);
    progress->pending_snapshot = 0;
    progress_enter(progress, RAFT_PROBE);
}

void raft_progress_replicate(struct raft_progress *progress)
{
    progress->next = progress->match + 1;
    progress->pending_snapshot = 0;
    progress_enter(progress, RAFT_REPLICATE);
}

void raft_progress_snapshot(struct raft_progress *progress, uint64_t index)
{
    progress->pending_snapshot = index;
    progress_enter(progress, RAFT_SNAPSHOT);
}

bool raft_progress_inflight_full(const struct raft_progress *progress)
{
    return progress->inflight_len >= progress->inflight_messages_max ||
           progress->inflight_bytes >= progress->inflight_bytes_max;
}

bool raft_progress_is_paused(const struct raft_progress *progress)
{
    switch (progress->state) {
    case RAFT_SNAPSHOT:
        return true;
    case RAFT_PROBE:
    case RAFT_REPLICATE:
        return progress->paused;
    }
    return false;
}

static void inflight_add(struct raft_progress *progress, uint64_t index, size_t bytes)
{
    if (progress->inflight_len == progress->inflight_cap) {
        size_t cap = KP_MIN(progress->inflight_cap ? progress->inflight_cap * 2 : 8, progress->inflight_messages_max);
        KP_ASSERT(cap > progress->inflight_len);
        struct raft_inflight *ring = kp_malloc(cap * sizeof(*ring));
        for (size_t i = 0; i < progress->inflight_len; i++)
            ring[i] = progress->inflight[(progress->inflight_head + i) % progress->inflight_cap];
        free(progress->inflight);
        progress->inflight = ring;
        progress->inflight_head = 0;
        progress->inflight_cap = cap;
    }
    size_t at = (progress->inflight_head + progress->inflight_len++) % progress->inflight_cap;
    progress->inflight[at] = (struct raft_inflight){index, bytes};
    progress->inflight_bytes += bytes;
}

void raft_progress_sent(struct raft_progress *progress, size_t entries_len, size_t bytes)
{
    if (progress->state == RAFT_PROBE) {
        progress->paused = progress->paused || entries_len > 0;
        return;
    }
    KP_ASSERT(progress->state == RAFT_REPLICATE);
    if (entries_len > 0) {
        progress->next += entries_len;
        inflight_add(progress, progress->next - 1, bytes);
    }
    progress->paused = raft_progress_inflight_full(progress);
}

void raft_progress_free_to(struct raft_progress *progress, uint64_t index)
{
    while (progress->inflight_len > 0 && progress->inflight[progress->inflight_head].index <= index) {
        progress->inflight_bytes -= progress->inflight[progress->inflight_head].bytes;
        progress->inflight_head = (progress->inflight_head + 1) % progress->inflight_cap;
        progress->inflight_len--;
    }
}

bool raft_progress_acked(struct raft_progress *progress, uint64_t index)
{
    progress->next = KP_MAX(progress->next, index + 1);
    if (index <= progress->match)
        return false;
    progress->match = index;
    progress->paused = false;
    return true;
}

bool raft_progress_rejected(struct raft_progress *progress, uint64_t rejected, uint64_t hint)
{
    if (progress->state == RAFT_REPLICATE) {
        if (rejected <= progress->match)
            return false; /* an answer to something older than what was acknowledged since */
        progress->next = progress->match + 1;
        return true;
    }
    if (progress->next - 1 != rejected)
        return false;
    progress->next = KP_MAX(KP_MIN(rejected, hint + 1), progress->match + 1);
    progress->paused = false;
    return true;
}
