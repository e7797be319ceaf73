/* The member's metrics, under etcd's names. */
#include "controlplane/etcd/peer/peer.h"
#include "controlplane/etcd/server/server_internal.h"

static const double fsync_buckets[] = {0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128,
                                       0.256, 0.512, 1.024, 2.048, 4.096, 8.192};
static struct kp_metric *wal_fsync, *backend_commits, *put_total, *range_total, *delete_total, *txn_total;

enum gauge {
    HAS_LEADER,
    IS_LEADER,
    LEADER_CHANGES,
    PROPOSALS_COMMITTED,
    PROPOSALS_APPLIED,
    PROPOSALS_PENDING,
    PROPOSALS_FAILED,
    QUOTA,
    DB_SIZE,
    DB_IN_USE,
    KEYS,
    REVISION,
    COMPACT_REVISION,
    WATCHERS,
    SLOW_WATCHERS,
    EVENTS,
    AUTH_REVISION,
    IS_LEARNER,
    COMMITTED_GAP,
    GAUGE_COUNT,
};
static const struct {
    const char *name, *help;
} gauge_names[GAUGE_COUNT] = {
    [HAS_LEADER] = {"etcd_server_has_leader", "Whether a leader is known (1) or not (0)."},
    [IS_LEADER] = {"etcd_server_is_leader", "Whether this member leads (1) or not (0)."},
    [LEADER_CHANGES] = {"etcd_server_leader_changes_seen_total", "How often the leader changed."},
    [PROPOSALS_COMMITTED] = {"etcd_server_proposals_committed_total", "The index of the newest committed entry."},
    [PROPOSALS_APPLIED] = {"etcd_server_proposals_applied_total", "The index of the newest applied entry."},
    [PROPOSALS_PENDING] = {"etcd_server_proposals_pending", "Requests that wait for the log or for a read."},
    [PROPOSALS_FAILED] = {"etcd_server_proposals_failed_total", "Requests that timed out or were refused."},
    [QUOTA] = {"etcd_server_quota_backend_bytes", "The quota of the database in bytes."},
    [DB_SIZE] = {"etcd_mvcc_db_total_size_in_bytes", "The size of the database in bytes."},
    [DB_IN_USE] = {"etcd_mvcc_db_total_size_in_use_in_bytes", "The size of the database without its free pages, in bytes."},
    [KEYS] = {"etcd_debugging_mvcc_keys_total", "Keys in the index."},
    [REVISION] = {"etcd_debugging_mvcc_current_revision", "The store's revision."},
    [COMPACT_REVISION] = {"etcd_debugging_mvcc_compact_revision", "The revision compacted up to."},
    [WATCHERS] = {"etcd_debugging_mvcc_watcher_total", "Watchers."},
    [SLOW_WATCHERS] = {"etcd_debugging_mvcc_slow_watcher_total", "Watchers that are behind."},
    [IS_LEARNER] = {"etcd_server_is_learner", "Whether this member is a learner (1) or not (0)."},
    [COMMITTED_GAP] = {"etcd_server_apply_backlog", "Entries committed and not applied yet."},
    [EVENTS] = {"etcd_debugging_mvcc_events_total", "Events sent to watchers."},
    [AUTH_REVISION] = {"etcd_debugging_auth_revision", "How often users and roles changed."},
};
static struct kp_metric *gauges[GAUGE_COUNT], *calls, *version_info;
static const char *const call_labels[] = {"grpc_service", "grpc_method", "grpc_code", NULL};
static const char *const version_labels[] = {"server_version", NULL};

/* About each other member. */
enum peer_gauge { PEER_SENT, PEER_RECEIVED, PEER_FAILED, PEER_RTT, PEER_ACTIVE, PEER_GAUGE_COUNT };
static const struct {
    const char *name, *help, *labels[3];
} peer_gauge_names[PEER_GAUGE_COUNT] = {
    [PEER_SENT] = {"etcd_network_peer_sent_bytes_total", "Bytes sent to a peer.", {"To"}},
    [PEER_RECEIVED] = {"etcd_network_peer_received_bytes_total", "Bytes received from a peer.", {"From"}},
    [PEER_FAILED] = {"etcd_network_peer_sent_failures_total", "Messages to a peer that were lost.", {"To"}},
    [PEER_RTT] = {"etcd_network_peer_last_round_trip_time_seconds", "The newest round trip to a peer.", {"To"}},
    [PEER_ACTIVE] = {"etcd_network_active_peers", "Whether a peer is connected (1) or not (0).", {"Local", "Remote"}},
};
static struct kp_metric *peer_gauges[PEER_GAUGE_COUNT], *server_id, *cluster_version;
static const char *const id_labels[] = {"server_id", NULL}, *const cluster_version_labels[] = {"cluster_version", NULL};

void metrics_init(void)
{
    wal_fsync = kp_histogram("etcd_disk_wal_fsync_duration_seconds", "How long a sync of the log takes.", NULL,
                             fsync_buckets, KP_ARRAY_LEN(fsync_buckets));
    backend_commits = kp_histogram("etcd_disk_backend_commit_duration_seconds", "How long a commit of the database takes.",
                                   NULL, fsync_buckets, KP_ARRAY_LEN(fsync_buckets));
    server_id = kp_gauge("etcd_server_id", "This member's id: 1 for the label.", id_labels);
    cluster_version = kp_gauge("etcd_cluster_version", "The version all members understand: 1 for the label.",
                               cluster_version_labels);
    for (int i = 0; i < PEER_GAUGE_COUNT; i++)
        peer_gauges[i] = kp_gauge(peer_gauge_names[i].name, peer_gauge_names[i].help, peer_gauge_names[i].labels);
    put_total = kp_counter("etcd_mvcc_put_total", "Puts asked of this member.", NULL);
    range_total = kp_counter("etcd_mvcc_range_total", "Ranges asked of this member.", NULL);
    delete_total = kp_counter("etcd_mvcc_delete_total", "Deletions asked of this member.", NULL);
    txn_total = kp_counter("etcd_mvcc_txn_total", "Transactions asked of this member.", NULL);
    calls = kp_counter("grpc_server_handled_total", "Calls that ended, by their status.", call_labels);
    version_info = kp_gauge("etcd_server_version", "Which version runs: 1 for the label.", version_labels);
    kp_metric_set(version_info, 1, ETCD_VERSION);
    for (int i = 0; i < GAUGE_COUNT; i++)
        gauges[i] = kp_gauge(gauge_names[i].name, gauge_names[i].help, NULL);
}

void metric_backend_commit(void *ctx, double seconds) { kp_metric_observe(backend_commits, seconds); }
void metric_wal_sync(double seconds) { kp_metric_observe(wal_fsync, seconds); }

void metric_count(enum op_kind kind)
{
    struct kp_metric *metric = kind == OP_PUT            ? put_total
                               : kind == OP_DELETE_RANGE ? delete_total
                               : kind == OP_TXN          ? txn_total
                                                         : NULL;
    if (metric)
        kp_metric_add(metric, 1);
}

void metric_count_range(void) { kp_metric_add(range_total, 1); }

void metric_call(const char *path, const char *code)
{
    const char *slash = path[0] == '/' ? strchr(path + 1, '/') : NULL;
    if (!slash)
        return;
    char service[64];
    snprintf(service, sizeof service, "%.*s", (int)(slash - path - 1), path + 1);
    kp_metric_add(calls, 1, service, slash + 1, code);
}

static void collect_peers(struct etcd_server *server)
{
    struct peer_stats stats[RAFT_MEMBERS_MAX];
    char self[24], id[24];
    snprintf(self, sizeof self, "%llx", (unsigned long long)server->member_id);
    kp_metric_set(server_id, 1, self);
    kp_metric_set(cluster_version, 1, "3.6");
    size_t len = server->transport ? peer_stats(server->transport, stats, KP_ARRAY_LEN(stats)) : 0;
    for (size_t i = 0; i < len; i++) {
        snprintf(id, sizeof id, "%llx", (unsigned long long)stats[i].id);
        kp_metric_set(peer_gauges[PEER_SENT], (double)stats[i].sent_bytes, id);
        kp_metric_set(peer_gauges[PEER_RECEIVED], (double)stats[i].received_bytes, id);
        kp_metric_set(peer_gauges[PEER_FAILED], (double)stats[i].sent_failures, id);
        kp_metric_set(peer_gauges[PEER_RTT], stats[i].rtt_s, id);
        kp_metric_set(peer_gauges[PEER_ACTIVE], stats[i].active_since_ms != 0, self, id);
    }
}

void metrics_collect(struct etcd_server *server)
{
    collect_peers(server);
    struct node *node = &server->node;
    struct mvcc_watch_stats watch;
    mvcc_watch_stats(server->mvcc, &watch);
    int64_t quota = backend_quota(server->backend);
    double values[GAUGE_COUNT] = {
        [HAS_LEADER] = atomic_load(&node->leader) != 0,
        [IS_LEADER] = atomic_load(&node->is_leader),
        [LEADER_CHANGES] = (double)atomic_load(&node->leader_changes),
        [PROPOSALS_COMMITTED] = (double)atomic_load(&node->committed),
        [PROPOSALS_APPLIED] = (double)atomic_load(&node->applied),
        [PROPOSALS_PENDING] = (double)atomic_load(&node->waiting),
        [PROPOSALS_FAILED] = (double)atomic_load(&node->proposals_failed),
        [QUOTA] = quota > 0 ? (double)quota : 0,
        [DB_SIZE] = (double)backend_size(server->backend),
        [DB_IN_USE] = (double)backend_size_in_use(server->backend),
        [KEYS] = (double)mvcc_key_count(server->mvcc),
        [REVISION] = (double)mvcc_revision(server->mvcc),
        [COMPACT_REVISION] = (double)mvcc_compact_revision(server->mvcc),
        [IS_LEARNER] = atomic_load(&server->learner),
        [COMMITTED_GAP] = (double)(atomic_load(&node->committed) - KP_MIN(atomic_load(&node->applied), atomic_load(&node->committed))),
        [WATCHERS] = (double)watch.watchers,
        [SLOW_WATCHERS] = (double)watch.slow,
        [EVENTS] = (double)watch.events,
        [AUTH_REVISION] = (double)auth_revision(server->auth),
    };
    for (int i = 0; i < GAUGE_COUNT; i++)
        kp_metric_set(gauges[i], values[i]);
}
