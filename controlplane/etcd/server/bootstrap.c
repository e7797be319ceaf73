/* The first thing in a member's database and log: what it starts with, or what a restored database is given. */
#include "controlplane/etcd/server/bootstrap.h"
#include "controlplane/etcd/server/server_internal.h"

int bootstrap_write(struct backend *backend, struct members *members, const struct wal_metadata *metadata,
                    const struct raft_conf_state *conf, const struct wal_config *wal_config, struct wal **ret_wal,
                    struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf bytes = {0};
    struct wal_snapshot first = {.conf = *conf};
    raft_conf_state_encode(&bytes, conf);
    backend_write_lock(backend);
    backend_put(backend, BACKEND_META, META_CONF, strlen(META_CONF), bytes.data, bytes.len);
    members_store(backend, members);
    backend_write_unlock(backend);
    int rc = backend_commit(backend, error);
    return rc < 0 ? rc : wal_create(wal_config, metadata, &first, ret_wal, error);
}

static int make_first(const struct etcd_config *config, struct backend *backend, struct members *members,
                      struct kp_error *error)
{
    struct wal_metadata metadata;
    struct wal_config wal_config = {.path = config->wal_dir};
    struct raft_conf_state conf = {0};
    int rc = members_from_config(config, members, &metadata.cluster_id, &metadata.node_id, error);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < members->len; i++)
        raft_id_set_add(&conf.voters, members->items[i].id);
    KP_AUTO(wal_close) struct wal *wal = NULL;
    return bootstrap_write(backend, members, &metadata, &conf, &wal_config, &wal, error);
}

int bootstrap_check(const struct etcd_config *config, struct kp_error *error)
{
    struct members members = {0};
    uint64_t cluster_id, member_id;
    int rc = members_from_config(config, &members, &cluster_id, &member_id, error);
    members_done(&members);
    return rc;
}

int bootstrap_create(const struct etcd_config *config, struct backend *backend, struct kp_error *error)
{
    struct members members = {.mutex = PTHREAD_MUTEX_INITIALIZER};
    int rc = make_first(config, backend, &members, error);
    members_done(&members);
    pthread_mutex_destroy(&members.mutex);
    return rc;
}
