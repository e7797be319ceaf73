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

static int check_urls(const char *flag, const char *urls, const struct etcd_tls_files *tls, struct kp_error *error)
{
    struct kp_strings list = {0};
    split_urls(urls, &list);
    int rc = list.len ? 0 : kp_fail(error, KP_EUSAGE, "--%s names no URL", flag);
    for (size_t i = 0; rc == 0 && i < list.len; i++) {
        const char *url = list.items[i];
        bool secure = kp_starts_with(url, "https://") || kp_starts_with(url, "unixs://");
        if (!secure && !kp_starts_with(url, "http://") && !kp_starts_with(url, "unix://"))
            rc = kp_fail(error, KP_EUSAGE, "--%s: URL scheme must be http, https, unix, or unixs: %s", flag, url);
        else if (secure && tls && (kp_empty(tls->cert_file) || kp_empty(tls->key_file)))
            rc = kp_fail(error, KP_EUSAGE, "--%s: %s needs a certificate and a key file", flag, url);
    }
    kp_strings_done(&list);
    return rc;
}

int etcd_config_check(const struct etcd_config *config, struct kp_error *error)
{
    int rc;
    if ((rc = check_urls("listen-client-urls", config->listen_client_urls, &config->client_tls, error)) < 0 ||
        (rc = check_urls("advertise-client-urls", config->advertise_client_urls, NULL, error)) < 0 ||
        (rc = check_urls("listen-peer-urls", config->listen_peer_urls, &config->peer_tls, error)) < 0 ||
        (rc = check_urls("initial-advertise-peer-urls", config->initial_advertise_peer_urls, NULL, error)) < 0)
        return rc;
    if (!kp_empty(config->listen_metrics_urls) &&
        (rc = check_urls("listen-metrics-urls", config->listen_metrics_urls, &config->client_tls, error)) < 0)
        return rc;
    if (config->client_tls.client_cert_auth && kp_empty(config->client_tls.trusted_ca_file))
        return kp_fail(error, KP_EUSAGE, "--client-cert-auth needs --trusted-ca-file");
    if (config->heartbeat_ms <= 0 || config->election_ms < 5 * config->heartbeat_ms)
        return kp_fail(error, KP_EUSAGE,
                       "--election-timeout[%lldms] should be at least as 5 times as --heartbeat-interval[%lldms]",
                       (long long)config->election_ms, (long long)config->heartbeat_ms);
    if (config->election_ms > 50000)
        return kp_fail(error, KP_EUSAGE, "--election-timeout[%lldms] is too long, and should be set less than 50000ms",
                       (long long)config->election_ms);
    if (config->snapshot_count <= 0 || config->txn_ops_max <= 0)
        return kp_fail(error, KP_EUSAGE, "--snapshot-count and --max-txn-ops must be positive");
    if (config->request_bytes_max <= 0 || config->request_bytes_max > ETCD_REQUEST_BYTES_LIMIT)
        return kp_fail(error, KP_EUSAGE, "--max-request-bytes must be between 1 and %lld",
                       (long long)ETCD_REQUEST_BYTES_LIMIT);
    if (!kp_streq(config->initial_cluster_state, "new") && !kp_streq(config->initial_cluster_state, "existing"))
        return kp_fail(error, KP_EUSAGE, "--initial-cluster-state must be new or existing, not \"%s\"",
                       config->initial_cluster_state);
    struct members members = {0};
    uint64_t cluster_id, member_id;
    rc = members_from_config(config, &members, &cluster_id, &member_id, error);
    if (rc == 0 && members.len > RAFT_MEMBERS_MAX)
        rc = kp_fail(error, KP_EUSAGE, "--initial-cluster names %zu members, at most %d are allowed", members.len,
                     RAFT_MEMBERS_MAX);
    members_done(&members);
    return rc;
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
