/* Threads for what must not hold up requests: one catches up watchers, one makes images for other members; the third
   expires leases, compacts, and cuts the log behind what the database holds. A stepped member's owner calls their turns. */
#include "controlplane/etcd/server/server_internal.h"

#include <errno.h>
#include <time.h>

#define COMPACT_PAUSE_MS 1          /* between parts, so that writers get in */
#define AUTO_COMPACT_SAMPLES 10     /* of the revision, over the retention */
#define AUTO_COMPACT_REVISION_MS (5 * 60 * 1000)
#define PUBLISH_AGAIN_MS 1000       /* after it failed */
#define PUBLISH_LOOK_MS 50          /* for a leader, until it is done */

struct revision_at {
    int64_t time_ms, revision;
};

/* ---- watchers ---- */

static void on_lag(void *ctx)
{
    struct upkeep *upkeep = &((struct etcd_server *)ctx)->upkeep;
    pthread_mutex_lock(&upkeep->mutex);
    upkeep->lag = true;
    pthread_cond_signal(&upkeep->wake_watch);
    pthread_mutex_unlock(&upkeep->mutex);
}

static void *watch_main(void *arg)
{
    struct etcd_server *server = arg;
    struct upkeep *upkeep = &server->upkeep;
    pthread_mutex_lock(&upkeep->mutex);
    while (!upkeep->stopping) {
        if (!upkeep->lag) {
            pthread_cond_wait(&upkeep->wake_watch, &upkeep->mutex);
            continue;
        }
        upkeep->lag = false;
        pthread_mutex_unlock(&upkeep->mutex);
        bool more = mvcc_watch_sync(server->mvcc);
        pthread_mutex_lock(&upkeep->mutex);
        upkeep->lag |= more;
    }
    pthread_mutex_unlock(&upkeep->mutex);
    return NULL;
}

/* ---- leases ---- */

static void revoke_done(struct op *op)
{
    struct etcd_server *server = op->ctx;
    atomic_fetch_sub(&server->upkeep.revokes, 1);
    op_done(op);
    free(op);
}

/* Only as the leader whose clock it was. One that was paused finds all leases run out before it learns that there is a newer leader,
   which has renewed them: passed on to that one, its word would count. */
static void expire_leases(struct etcd_server *server)
{
    uint64_t term = atomic_load(&server->node.term);
    if (!atomic_load(&server->node.is_leader) || atomic_load(&server->upkeep.revokes) > 0)
        return;
    int64_t ids[ETCD_LEASE_REVOKES_MAX];
    size_t len = mvcc_lease_expired(server->mvcc, kp_mono_ms(), ids, KP_ARRAY_LEN(ids));
    atomic_store(&server->upkeep.revokes, (int)len);
    for (size_t i = 0; i < len; i++) {
        Etcdserverpb__LeaseRevokeRequest request = ETCDSERVERPB__LEASE_REVOKE_REQUEST__INIT;
        request.id = ids[i];
        struct op *op = kp_malloc(sizeof *op);
        op_init(server, op, OP_LEASE_REVOKE, &request.base);
        op->request = NULL;
        op->only_term = term;
        op->done = revoke_done;
        op->ctx = server;
        op_propose(server, op);
    }
}

/* ---- cutting the log ---- */

struct cut {
    struct node_call call;
    uint64_t index, term;
    bool done;
    struct upkeep *upkeep;
};

static void finish_cut(struct cut *cut)
{
    struct upkeep *upkeep = cut->upkeep;
    pthread_mutex_lock(&upkeep->mutex);
    cut->done = true;
    pthread_cond_broadcast(&upkeep->wake);
    pthread_mutex_unlock(&upkeep->mutex);
}

/* How far the log in memory is forgotten: followers that are a little behind shall not need an image. */
static void compact_log(struct etcd_server *server, uint64_t index)
{
    struct node *node = &server->node;
    bool alone = node->conf.voters.len == 1 && node->conf.learners.len == 0;
    uint64_t wanted = server->config.catch_up_entries > 0 ? (uint64_t)server->config.catch_up_entries : ETCD_CATCH_UP_ENTRIES;
    uint64_t keep = alone || raft_log_bytes(node->raft) > ETCD_LOG_BYTES_MAX ? 0 : wanted;
    if (index > keep)
        raft_compact(node->raft, index - keep);
    atomic_store(&node->log_bytes, raft_log_bytes(node->raft));
}

/* On the raft thread: the database is the snapshot; the log records that, and forgets what came before. */
static void cut_log(struct etcd_server *server, struct node_call *call)
{
    struct cut *cut = KP_CONTAINER_OF(call, struct cut, call);
    struct node *node = &server->node;
    struct kp_error error = {0};
    /* Else the configuration at that entry is not known any more, or an image was installed meanwhile. */
    if (cut->index >= node->conf_index && cut->index > atomic_load(&server->upkeep.last_snapshot)) {
        struct wal_snapshot marker = {.index = cut->index, .term = cut->term, .conf = node->conf};
        if (wal_append_snapshot(node->wal, &marker, &error) < 0 || wal_sync(node->wal, &error) < 0)
            server_die(server, "mark a snapshot in the log", &error);
        if (wal_release(node->wal, cut->index, &error) < 0)
            kp_warn("old log segments stay", "err", error.message, NULL);
        compact_log(server, cut->index);
        atomic_store(&server->upkeep.last_snapshot, cut->index);
    }
    finish_cut(cut);
}

static void snapshot_if_due(struct etcd_server *server)
{
    struct upkeep *upkeep = &server->upkeep;
    uint64_t applied = atomic_load(&server->node.applied), last = atomic_load(&upkeep->last_snapshot);
    bool many = applied > last && applied - last >= (uint64_t)server->config.snapshot_count;
    bool large = applied > last && atomic_load(&server->node.log_bytes) > ETCD_LOG_BYTES_MAX;
    if (!many && !large)
        return;
    struct kp_error error = {0};
    if (backend_commit(server->backend, &error) < 0) {
        kp_warn("no snapshot: database cannot be written", "err", error.message, NULL);
        return;
    }
    struct cut cut = {.call = {.fn = cut_log}, .upkeep = upkeep};
    backend_committed_index(server->backend, &cut.index, &cut.term);
    if (server_is_stepped(server)) {
        cut_log(server, &cut.call);
        return;
    }
    if (!node_run(server, &cut.call))
        return;
    pthread_mutex_lock(&upkeep->mutex);
    while (!cut.done)
        pthread_cond_wait(&upkeep->wake, &upkeep->mutex);
    pthread_mutex_unlock(&upkeep->mutex);
}

/* ---- compaction ---- */

void upkeep_compact(struct etcd_server *server, bool wait)
{
    struct upkeep *upkeep = &server->upkeep;
    pthread_mutex_lock(&upkeep->mutex);
    if (!wait) {
        upkeep->compact = true;
        pthread_cond_broadcast(&upkeep->wake);
    }
    while (wait && (upkeep->compact || upkeep->compacting) && !upkeep->stopping)
        pthread_cond_wait(&upkeep->compacted, &upkeep->mutex);
    pthread_mutex_unlock(&upkeep->mutex);
}

static void compact_all(struct etcd_server *server)
{
    struct upkeep *upkeep = &server->upkeep;
    bool stopping = false;
    pthread_mutex_lock(&upkeep->mutex);
    upkeep->compact = false; /* one that is marked from now on sets it again */
    upkeep->compacting = true;
    pthread_mutex_unlock(&upkeep->mutex);
    while (!stopping && mvcc_compact_step(server->mvcc)) {
        if (!server_is_stepped(server))
            kp_sleep_ms(COMPACT_PAUSE_MS);
        pthread_mutex_lock(&upkeep->mutex);
        stopping = upkeep->stopping;
        pthread_mutex_unlock(&upkeep->mutex);
    }
    pthread_mutex_lock(&upkeep->mutex);
    upkeep->compacting = false;
    pthread_cond_broadcast(&upkeep->compacted);
    pthread_mutex_unlock(&upkeep->mutex);
}

static void compaction_done(struct op *op)
{
    struct etcd_server *server = op->ctx;
    if (op->err != ETCD_OK && op->err != ETCD_COMPACTED)
        kp_warn("automatic compaction failed", "err", etcd_err_info(op->err)->text, NULL);
    atomic_store(&server->upkeep.compaction_proposed, false);
    op_done(op);
    free(op);
}

static void propose_compaction(struct etcd_server *server, int64_t revision)
{
    if (atomic_exchange(&server->upkeep.compaction_proposed, true))
        return;
    Etcdserverpb__CompactionRequest request = ETCDSERVERPB__COMPACTION_REQUEST__INIT;
    request.revision = revision;
    struct op *op = kp_malloc(sizeof *op);
    op_init(server, op, OP_COMPACT, &request.base);
    op->request = NULL;
    op->done = compaction_done;
    op->ctx = server;
    op_propose(server, op);
}

/* Keeps the revisions of the last retention period; older history goes. */
static void compact_periodically(struct etcd_server *server, int64_t now_ms)
{
    struct upkeep *upkeep = &server->upkeep;
    int64_t retention_ms = server->config.compaction_retention;
    upkeep->next_auto_compaction_ms = now_ms + retention_ms / AUTO_COMPACT_SAMPLES;
    if (!upkeep->revisions)
        upkeep->revisions = kp_calloc(AUTO_COMPACT_SAMPLES + 1, sizeof *upkeep->revisions);
    if (upkeep->revisions_len > AUTO_COMPACT_SAMPLES) {
        memmove(upkeep->revisions, upkeep->revisions + 1, AUTO_COMPACT_SAMPLES * sizeof *upkeep->revisions);
        upkeep->revisions_len--;
    }
    upkeep->revisions[upkeep->revisions_len++] =
        (struct revision_at){.time_ms = now_ms, .revision = mvcc_revision(server->mvcc)};
    struct revision_at oldest = upkeep->revisions[0];
    if (now_ms - oldest.time_ms >= retention_ms && oldest.revision > mvcc_compact_revision(server->mvcc) &&
        atomic_load(&server->node.is_leader))
        propose_compaction(server, oldest.revision);
}

static void auto_compact(struct etcd_server *server)
{
    const struct etcd_config *config = &server->config;
    struct upkeep *upkeep = &server->upkeep;
    int64_t now_ms = kp_mono_ms();
    if (config->compaction_retention <= 0 || now_ms < upkeep->next_auto_compaction_ms)
        return;
    if (config->compaction_mode == ETCD_COMPACT_PERIODIC) {
        compact_periodically(server, now_ms);
        return;
    }
    upkeep->next_auto_compaction_ms = now_ms + AUTO_COMPACT_REVISION_MS;
    int64_t revision = mvcc_revision(server->mvcc) - config->compaction_retention;
    if (revision > mvcc_compact_revision(server->mvcc) && atomic_load(&server->node.is_leader))
        propose_compaction(server, revision);
}

/* ---- publishing: the cluster is told our name and where clients reach us ---- */

static void publish_done(struct op *op)
{
    struct etcd_server *server = op->ctx;
    atomic_store(&server->upkeep.published, op->err == ETCD_OK);
    atomic_store(&server->upkeep.publishing, false);
    op_done(op);
    free(op);
}

static void publish_if_due(struct etcd_server *server)
{
    struct upkeep *upkeep = &server->upkeep;
    int64_t now_ms = kp_mono_ms();
    if (atomic_load(&upkeep->published) || atomic_load(&upkeep->publishing) || now_ms < upkeep->next_publish_ms ||
        !atomic_load(&server->node.leader))
        return;
    upkeep->next_publish_ms = now_ms + PUBLISH_AGAIN_MS;
    atomic_store(&upkeep->publishing, true);
    struct kp_strings urls = {0};
    split_urls(server->config.advertise_client_urls, &urls);
    Etcdserverpb__Member member = ETCDSERVERPB__MEMBER__INIT;
    member.id = server->member_id;
    member.name = (char *)(uintptr_t)server->config.name;
    member.n_clienturls = urls.len;
    member.clienturls = urls.items;
    struct op *op = kp_malloc(sizeof *op);
    op_init(server, op, OP_MEMBER_ATTRIBUTES, &member.base);
    op->request = NULL;
    op->done = publish_done;
    op->ctx = server;
    kp_strings_done(&urls);
    op_propose(server, op);
}

/* ---- the threads ---- */

void server_upkeep_turn(struct etcd_server *server)
{
    struct upkeep *upkeep = &server->upkeep;
    pthread_mutex_lock(&upkeep->mutex);
    bool compact = upkeep->compact;
    pthread_mutex_unlock(&upkeep->mutex);
    if (compact)
        compact_all(server);
    publish_if_due(server);
    cluster_look_if_removed(server);
    cluster_stop_if_removed(server);
    expire_leases(server);
    snapshot_if_due(server);
    auto_compact(server);
    if (!server_is_stepped(server))
        return;
    corrupt_check_if_due(server);
    while (images_make_one(server))
        ;
}

bool server_watch_turn(struct etcd_server *server) { return mvcc_watch_sync(server->mvcc); }

static bool wait_for_turn(struct upkeep *upkeep)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (atomic_load(&upkeep->published) ? ETCD_LEASE_SCAN_MS : PUBLISH_LOOK_MS) * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
    pthread_mutex_lock(&upkeep->mutex);
    if (!upkeep->stopping && !upkeep->compact)
        pthread_cond_timedwait(&upkeep->wake, &upkeep->mutex, &until);
    bool go_on = !upkeep->stopping;
    pthread_mutex_unlock(&upkeep->mutex);
    return go_on;
}

static void *upkeep_main(void *arg)
{
    struct etcd_server *server = arg;
    do
        server_upkeep_turn(server);
    while (wait_for_turn(&server->upkeep));
    return NULL;
}

static void *image_main(void *arg)
{
    struct etcd_server *server = arg;
    struct upkeep *upkeep = &server->upkeep;
    pthread_mutex_lock(&upkeep->mutex);
    while (!upkeep->stopping) {
        if (!upkeep->images) {
            struct timespec until;
            clock_gettime(CLOCK_MONOTONIC, &until);
            until.tv_sec++;
            pthread_cond_timedwait(&upkeep->wake_image, &upkeep->mutex, &until);
        }
        bool stopping = upkeep->stopping;
        pthread_mutex_unlock(&upkeep->mutex);
        if (!stopping) {
            images_make_one(server);
            corrupt_check_if_due(server);
        }
        pthread_mutex_lock(&upkeep->mutex);
    }
    pthread_mutex_unlock(&upkeep->mutex);
    return NULL;
}

void upkeep_init(struct etcd_server *server)
{
    struct upkeep *upkeep = &server->upkeep;
    pthread_condattr_t cond_attr;
    pthread_condattr_init(&cond_attr);
    pthread_condattr_setclock(&cond_attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&upkeep->mutex, NULL);
    pthread_cond_init(&upkeep->wake_watch, NULL);
    pthread_cond_init(&upkeep->wake_image, &cond_attr);
    pthread_cond_init(&upkeep->compacted, NULL);
    pthread_cond_init(&upkeep->wake, &cond_attr);
    pthread_condattr_destroy(&cond_attr);
}

int upkeep_start(struct etcd_server *server, struct kp_error *error)
{
    struct upkeep *upkeep = &server->upkeep;
    mvcc_watch_on_lag(server->mvcc, on_lag, server);
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, ETCD_THREAD_STACK);
    int rc = pthread_create(&upkeep->watch_thread, &attr, watch_main, server);
    upkeep->watch_started = rc == 0;
    if (rc == 0)
        rc = pthread_create(&upkeep->thread, &attr, upkeep_main, server);
    upkeep->started = rc == 0;
    if (rc == 0)
        rc = pthread_create(&upkeep->image_thread, &attr, image_main, server);
    upkeep->image_started = rc == 0;
    pthread_attr_destroy(&attr);
    if (rc) {
        errno = rc;
        return kp_fail_errno(error, "start the upkeep threads");
    }
    return 0;
}

/* While the raft thread still runs: a cut of the log may be waiting for it. */
void upkeep_stop(struct etcd_server *server)
{
    struct upkeep *upkeep = &server->upkeep;
    if (server->mvcc && upkeep->watch_started)
        mvcc_watch_on_lag(server->mvcc, NULL, NULL);
    pthread_mutex_lock(&upkeep->mutex);
    upkeep->stopping = true;
    pthread_cond_broadcast(&upkeep->wake_watch);
    pthread_cond_broadcast(&upkeep->wake_image);
    pthread_cond_broadcast(&upkeep->wake);
    pthread_cond_broadcast(&upkeep->compacted);
    pthread_mutex_unlock(&upkeep->mutex);
    if (upkeep->watch_started)
        pthread_join(upkeep->watch_thread, NULL);
    if (upkeep->started)
        pthread_join(upkeep->thread, NULL);
    if (upkeep->image_started)
        pthread_join(upkeep->image_thread, NULL);
    upkeep->watch_started = upkeep->started = upkeep->image_started = false;
    free(upkeep->revisions);
    upkeep->revisions = NULL;
    upkeep->revisions_len = 0;
}
