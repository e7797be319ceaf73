/* One member: its parts started and stopped in order. */
#include "controlplane/etcd/server/node_internal.h"

#include <unistd.h>

void server_die(struct etcd_server *server, const char *what, const struct kp_error *error)
{
    const struct etcd_world *world = server->config.world;
    if (world && world->die)
        world->die(world->ctx, server, what, error);
    kp_error_log("cannot go on", "action", what, "err", error ? error->message : "", NULL);
    _exit(1);
}

int server_open(const struct etcd_config *config, struct etcd_server **ret_server, struct kp_error *error)
{
    struct kp_error local = {0};
    if (!error)
        error = &local;
    int rc = etcd_config_check(config, error);
    if (rc < 0)
        return rc;
    KP_AUTO(server_close) struct etcd_server *server = kp_calloc(1, sizeof *server);
    server->config = *config;
    atomic_store(&server->next_op_id, kp_random_u64());
    node_init(&server->node);
    upkeep_init(server);
    pthread_mutex_init(&server->members.mutex, NULL);
    server->members.learners_max = config->learners_max > 0 ? (size_t)config->learners_max : ETCD_LEARNERS_MAX;
    metrics_init();
    if ((rc = storage_open(server, error)) < 0)
        return rc;
    *ret_server = KP_TAKE(server);
    return 0;
}

void server_close(struct etcd_server *server)
{
    if (!server)
        return;
    upkeep_stop(server);
    node_stop(server);
    storage_close(server);
    answers_done(&server->answers);
    free(server);
}

/* A member on its own has published its name before it serves; one of many cannot tell when the others are there. */
static void wait_until_published(struct etcd_server *server)
{
    while (!atomic_load(&server->upkeep.published) && cluster_is_alone(server))
        kp_sleep_ms(2);
}

int etcd_server_start(const struct etcd_config *config, struct etcd_server **ret_server, struct kp_error *error)
{
    struct kp_error local = {0};
    if (!error)
        error = &local;
    KP_AUTO(etcd_server_stop) struct etcd_server *server = NULL;
    int rc = server_open(config, &server, error);
    if (rc < 0 || (rc = peers_start(server, error)) < 0 ||
        (rc = corrupt_check_start(server, error)) < 0 || (rc = node_start(server, error)) < 0 ||
        (rc = upkeep_start(server, error)) < 0)
        return rc;
    wait_until_published(server);
    if ((rc = rpc_start(server, error)) < 0)
        return rc;
    char member[24], cluster[24];
    snprintf(member, sizeof member, "%llx", (unsigned long long)server->member_id);
    snprintf(cluster, sizeof cluster, "%llx", (unsigned long long)server->cluster_id);
    kp_info("member ready", "name", config->name, "member", member, "cluster", cluster, NULL);
    *ret_server = KP_TAKE(server);
    return 0;
}

void etcd_server_stop(struct etcd_server *server)
{
    if (!server)
        return;
    rpc_stop(server);
    upkeep_stop(server);
    peers_stop(server);
    server_close(server);
}
