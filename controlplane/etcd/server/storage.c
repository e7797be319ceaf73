/* Opening what is on disk - database and log - and making it agree; or making it anew. */
#include "controlplane/etcd/server/node_internal.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t random_below(void *ctx, uint64_t bound) { return kp_random_u64() % bound; }

static void on_backend_error(void *ctx, const struct kp_error *error)
{
    kp_error_log("database cannot be written, trying again", "err", error->message, NULL);
}

/* While it opens, an error says so; later there is nobody to tell. */
static void on_backend_damage(void *ctx, const struct kp_error *error)
{
    struct etcd_server *server = ctx;
    if (server->node.raft)
        server_die(server, "use the database", error);
}

static int make_folders(struct etcd_server *server, struct kp_error *error)
{
    const struct etcd_config *config = &server->config;
    server->data_dir = kp_asprintf("%s/member", config->data_dir);
    server->wal_dir = kp_empty(config->wal_dir) ? kp_asprintf("%s/wal", server->data_dir) : kp_strdup(config->wal_dir);
    KP_AUTO_FREE char *snap = kp_asprintf("%s/snap", server->data_dir);
    server->db_path = kp_asprintf("%s/db", snap);
    if (kp_mkdir_p(config->data_dir, 0700, error) < 0 || kp_mkdir_p(snap, 0700, error) < 0)
        return kp_wrap(error, "data folder");
    images_sweep(snap);
    return 0;
}

static int open_backend(struct etcd_server *server, struct kp_error *error)
{
    const struct etcd_config *config = &server->config;
    struct backend_options options = {.quota_bytes = config->quota_backend_bytes,
                                      .batch_interval_ms = config->backend_batch_interval_ms,
                                      .batch_limit = config->backend_batch_limit,
                                      .on_error = on_backend_error,
                                      .on_commit = metric_backend_commit,
                                      .on_damage = on_backend_damage,
                                      .ctx = server,
                                      .stepped = server_is_stepped(server)};
    struct auth_options auth = {
        .token = config->auth_token, .token_ttl_s = config->auth_token_ttl_s, .bcrypt_cost = config->bcrypt_cost};
    int rc = backend_open(server->db_path, &options, &server->backend, error);
    if (rc < 0 || (rc = mvcc_open(server->backend, kp_mono_ms(), &server->mvcc, error)) < 0 ||
        (rc = members_load(server->backend, &server->members, error)) < 0 ||
        (rc = alarms_load(server->backend, &server->alarms, error)) < 0 ||
        /* When a snapshot replaces the database later: auth_reload(server->auth, server->backend, error). */
        (rc = auth_open(server->backend, &auth, &server->auth, error)) < 0)
        return rc;
    if (config->bootstrap_defrag_bytes &&
        backend_size(server->backend) - backend_size_in_use(server->backend) >= config->bootstrap_defrag_bytes &&
        (rc = backend_defragment(server->backend, error)) < 0)
        return rc;
    /* etcd's least TTL: one and a half election timeouts, in whole seconds. */
    mvcc_lease_set_ttl_min(server->mvcc, (config->election_ms * 3 / 2 + 999) / 1000);
    return 0;
}

static int load_conf(struct etcd_server *server, struct raft_conf_state *conf, struct kp_error *error)
{
    KP_AUTO(backend_reader_end) struct backend_reader *reader = NULL;
    struct kp_bytes value;
    if (backend_reader_begin(server->backend, &reader, error) < 0 ||
        backend_reader_get(reader, BACKEND_META, META_CONF, strlen(META_CONF), &value, error) < 0)
        return kp_wrap(error, "configuration in %s", server->db_path);
    return raft_conf_state_decode(value.data, value.len, conf, error);
}

/* A member that began and finds no data has lost it. Where --initial-cluster names nobody else nobody can tell it so, and it would
   begin an empty cluster of the same id. */
static int check_begun(const struct etcd_config *config, struct kp_error *error)
{
    if (kp_empty(config->begun_file) || !kp_path_exists(config->begun_file))
        return 0;
    return kp_fail(error, KP_ECONFLICT,
                   "this member has begun before (%s), and its data is gone from %s: remove it from the cluster and add it anew (kprov repair)",
                   config->begun_file, config->data_dir);
}

static int note_begun(const struct etcd_config *config, struct kp_error *error)
{
    if (kp_empty(config->begun_file) || kp_path_exists(config->begun_file))
        return 0;
    return kp_write_file(config->begun_file, "", 0, 0600, error);
}

/* A first start: the configuration from the flags becomes the first thing in log and database. */
static int first_start(struct etcd_server *server, const struct wal_config *wal_config, struct raft_config *raft,
                       struct kp_error *error)
{
    bool joins = kp_streq(server->config.initial_cluster_state, "existing");
    members_done(&server->members);
    int rc = check_begun(&server->config, error);
    if (rc == 0)
        rc = etcd_config_check_first(&server->config, error);
    if (rc == 0)
        rc = joins ? cluster_join(server, error)
                   : members_from_config(&server->config, &server->members, &server->cluster_id, &server->member_id, error);
    if (rc == 0 && !joins)
        rc = cluster_check_new(server, error);
    if (rc < 0)
        return rc;
    /* Whoever joins gets its configuration with the leader's first snapshot. */
    for (size_t i = 0; !joins && i < server->members.len; i++)
        raft_id_set_add(&raft->conf.voters, server->members.items[i].id);
    struct wal_metadata metadata = {.cluster_id = server->cluster_id, .node_id = server->member_id};
    return bootstrap_write(server->backend, &server->members, &metadata, &raft->conf, wal_config, &server->node.wal, error);
}

/* The index of the image that the database came as; 0: it grew here. */
static int load_installed(struct etcd_server *server, uint64_t *ret_index, struct kp_error *error)
{
    KP_AUTO(backend_reader_end) struct backend_reader *reader = NULL;
    struct kp_bytes value;
    struct kp_error missing = {0};
    *ret_index = 0;
    if (backend_reader_begin(server->backend, &reader, error) < 0)
        return error->code;
    int rc = backend_reader_get(reader, BACKEND_META, META_INSTALLED, strlen(META_INSTALLED), &value, &missing);
    if (rc == KP_ENOTFOUND)
        return 0;
    if (rc < 0 || value.len != sizeof *ret_index)
        return kp_fail(error, KP_ECORRUPT, "%s: %s is unreadable", server->db_path, META_INSTALLED);
    memcpy(ret_index, value.data, sizeof *ret_index);
    return 0;
}

/* An image was installed, and the crash came before its marker was durable: the log begins anew behind it. */
static int mark_installed(struct etcd_server *server, struct wal_replay *replay, uint64_t applied, uint64_t term,
                          const struct raft_conf_state *conf, struct kp_error *error)
{
    struct wal_snapshot marker = {.index = applied, .term = term, .conf = *conf};
    int rc = wal_append_snapshot(server->node.wal, &marker, error);
    if (rc == 0)
        rc = wal_sync(server->node.wal, error);
    raft_entries_free(replay->entries, replay->entries_len);
    replay->entries = NULL;
    replay->entries_len = 0;
    replay->snapshot = marker;
    return rc;
}

/* What replay gave must reach from the database's state on. */
static int check_agreement(struct etcd_server *server, const struct wal_replay *replay, uint64_t applied,
                           struct kp_error *error)
{
    uint64_t last = replay->snapshot.index + replay->entries_len;
    if (applied < replay->snapshot.index)
        return kp_fail(error, KP_ECORRUPT,
                       "%s holds the state at entry %llu, but the log %s starts after %llu: restore one that fits",
                       server->db_path, (unsigned long long)applied, server->wal_dir,
                       (unsigned long long)replay->snapshot.index);
    if (applied > last)
        return kp_fail(error, KP_ECORRUPT,
                       "%s holds the state at entry %llu, but the log %s ends at %llu: it lost entries", server->db_path,
                       (unsigned long long)applied, server->wal_dir, (unsigned long long)last);
    return 0;
}

static int restart(struct etcd_server *server, const struct wal_config *wal_config, struct wal_replay *replay,
                   struct raft_config *raft, struct kp_error *error)
{
    int rc = wal_open(wal_config, replay, &server->node.wal, error);
    if (rc < 0)
        return rc;
    if (replay->torn_bytes) {
        char bytes[24];
        snprintf(bytes, sizeof bytes, "%llu", (unsigned long long)replay->torn_bytes);
        kp_warn("the end of the log was torn and is cut off", "bytes", bytes, NULL);
    }
    server->cluster_id = replay->metadata.cluster_id;
    server->member_id = replay->metadata.node_id;
    uint64_t applied, applied_term;
    backend_committed_index(server->backend, &applied, &applied_term);
    if (applied == 0)
        /* A crash before the first commit: the initial configuration is all there is; not even that for one that joins. */
        applied = KP_MIN(RAFT_INITIAL_INDEX, replay->snapshot.index);
    uint64_t installed;
    if ((rc = load_installed(server, &installed, error)) < 0 || (rc = load_conf(server, &raft->conf, error)) < 0)
        return rc;
    if (installed == applied && applied > replay->snapshot.index &&
        (rc = mark_installed(server, replay, applied, applied_term, &raft->conf, error)) < 0)
        return rc;
    if ((rc = check_agreement(server, replay, applied, error)) < 0)
        return rc;
    raft->hard_state = replay->hard_state;
    raft->hard_state.commit = KP_MAX(raft->hard_state.commit, applied);
    raft->snapshot_index = replay->snapshot.index;
    raft->snapshot_term = replay->snapshot.term;
    raft->entries = replay->entries;
    raft->entries_len = replay->entries_len;
    raft->applied = applied;
    return server->config.force_new_cluster ? force_new_cluster(server, replay, raft, error) : 0;
}

int storage_open(struct etcd_server *server, struct kp_error *error)
{
    struct node *node = &server->node;
    const struct etcd_config *config = &server->config;
    node->next_tick_ms = kp_mono_ms();
    atomic_store(&node->leaderless_ms, KP_MAX(kp_mono_ms(), 1));
    struct raft_config raft = {.election_ticks = (unsigned)(config->election_ms / config->heartbeat_ms),
                               .heartbeat_ticks = 1,
                               .pre_vote = true,
                               .check_quorum = true,
                               .random = random_below};
    if (make_folders(server, error) < 0 || open_backend(server, error) < 0)
        return error->code;
    struct wal_config wal_config = {.path = server->wal_dir, .io = config->world ? config->world->wal_io : NULL};
    struct wal_replay replay = {0};
    int rc;
    if (wal_exists(&wal_config)) {
        rc = restart(server, &wal_config, &replay, &raft, error);
    } else {
        uint64_t applied;
        backend_committed_index(server->backend, &applied, NULL);
        rc = applied ? kp_fail(error, KP_ECORRUPT, "%s holds the state at entry %llu, but there is no log in %s",
                               server->db_path, (unsigned long long)applied, server->wal_dir)
                     : first_start(server, &wal_config, &raft, error);
    }
    if (rc == 0)
        rc = note_begun(config, error);
    if (rc == 0) {
        raft.id = server->member_id;
        node->conf = raft.conf;
        node->conf_index = raft.applied; /* at most: where it really changed is not kept */
        atomic_store(&node->applied, raft.applied);
        atomic_store(&node->term, raft.hard_state.term);
        atomic_store(&server->upkeep.last_snapshot, raft.snapshot_index);
        cluster_note_conf(server);
        rc = node->removing ? kp_fail(error, KP_ECONFLICT, "the member has been permanently removed from the cluster")
                            : raft_new(&raft, &node->raft, error);
    }
    wal_replay_done(&replay);
    return rc;
}

void storage_close(struct etcd_server *server)
{
    node_done(&server->node);
    images_forget(server);
    cluster_done(server);
    mvcc_close(server->mvcc);
    auth_close(server->auth);
    backend_close(server->backend);
    members_done(&server->members);
    alarms_done(&server->alarms);
    free(server->data_dir);
    free(server->wal_dir);
    free(server->db_path);
}
