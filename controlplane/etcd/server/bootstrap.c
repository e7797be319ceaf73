/* The first state of a member that is made without being started: what first_start in storage.c does, for a restored database. */
#include "controlplane/etcd/server/bootstrap.h"
#include "controlplane/etcd/server/server_internal.h"

#define BOOTSTRAP_CONF "conf_state" /* META_CONF */

static int make_first(const struct etcd_config *config, struct backend *backend, struct members *members,
                      struct kp_error *error)
{
    struct wal_metadata metadata;
    int rc = members_from_config(config, members, &metadata.cluster_id, &metadata.node_id, error);
    if (rc < 0)
        return rc;
    struct wal_snapshot first = {0};
    for (size_t i = 0; i < members->len; i++)
        raft_id_set_add(&first.conf.voters, members->items[i].id);
    KP_AUTO_BUF struct kp_buf conf = {0};
    raft_conf_state_encode(&conf, &first.conf);
    backend_write_lock(backend);
    backend_put(backend, BACKEND_META, BOOTSTRAP_CONF, strlen(BOOTSTRAP_CONF), conf.data, conf.len);
    members_store(backend, members);
    backend_write_unlock(backend);
    if ((rc = backend_commit(backend, error)) < 0)
        return rc;
    KP_AUTO(wal_close) struct wal *wal = NULL;
    return wal_create(&(struct wal_config){.path = config->wal_dir}, &metadata, &first, &wal, error);
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
