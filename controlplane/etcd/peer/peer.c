/* The transport as a whole: its threads, its sockets, and whom it knows. */
#include "controlplane/etcd/peer/peer_internal.h"

#define SHUTDOWN_MS 1000
#define STREAMS_MAX 1000
#define IDLE_MS (24 * 3600 * INT64_C(1000))

/* ---- peers ---- */
struct peer *peer_hold(struct peer *peer)
{
    __atomic_fetch_add(&peer->refs, 1, __ATOMIC_RELAXED);
    return peer;
}

void peer_release(struct peer *peer)
{
    if (!peer || __atomic_fetch_sub(&peer->refs, 1, __ATOMIC_ACQ_REL) != 1)
        return;
    KP_ASSERT(!peer->channel && !peer->timer);
    for (size_t i = 0; i < peer->urls_len; i++)
        free(peer->urls[i]);
    pthread_mutex_destroy(&peer->lock);
    free(peer);
}

static struct peer *find_locked(struct peer_transport *transport, uint64_t id)
{
    for (size_t i = 0; i < transport->peers_len; i++)
        if (transport->peers[i]->id == id && !__atomic_load_n(&transport->peers[i]->removed, __ATOMIC_RELAXED))
            return transport->peers[i];
    return NULL;
}

struct peer *peer_find(struct peer_transport *transport, uint64_t id)
{
    pthread_mutex_lock(&transport->lock);
    struct peer *peer = find_locked(transport, id);
    if (peer)
        peer_hold(peer);
    pthread_mutex_unlock(&transport->lock);
    return peer;
}

size_t peer_snapshot_peers(struct peer_transport *transport, struct peer *ret_peers[PEERS_MAX])
{
    pthread_mutex_lock(&transport->lock);
    size_t len = transport->peers_len;
    for (size_t i = 0; i < len; i++)
        ret_peers[i] = peer_hold(transport->peers[i]);
    pthread_mutex_unlock(&transport->lock);
    return len;
}

static struct peer *peer_new(struct peer_transport *transport, uint64_t id)
{
    struct peer *peer = kp_calloc(1, sizeof(*peer));
    peer->refs = 1;
    peer->transport = transport;
    peer->id = peer->stats.id = id;
    pthread_mutex_init(&peer->lock, NULL);
    struct peer_metadata *m = &peer->metadata;
    snprintf(m->cluster, sizeof(m->cluster), "%llx", (unsigned long long)transport->config.cluster_id);
    snprintf(m->from, sizeof(m->from), "%llx", (unsigned long long)transport->config.member_id);
    snprintf(m->to, sizeof(m->to), "%llx", (unsigned long long)id);
    m->list[0] = (struct http_header){PEER_HEADER_CLUSTER, m->cluster};
    m->list[1] = (struct http_header){PEER_HEADER_FROM, m->from};
    m->list[2] = (struct http_header){PEER_HEADER_TO, m->to};
    return peer;
}

/* False: they are what it has. */
static bool set_urls(struct peer *peer, const char *const *urls, size_t len)
{
    len = KP_MIN(len, (size_t)PEER_URLS_MAX);
    bool same = len == peer->urls_len;
    for (size_t i = 0; same && i < len; i++)
        same = kp_streq(urls[i], peer->urls[i]);
    if (same)
        return false;
    for (size_t i = 0; i < peer->urls_len; i++)
        free(peer->urls[i]);
    for (size_t i = 0; i < len; i++)
        peer->urls[i] = kp_strdup(urls[i]);
    peer->urls_len = len;
    return true;
}

void peer_set(struct peer_transport *transport, uint64_t id, const char *const *urls, size_t len)
{
    struct kp_error error = {0};
    struct peer_channel *channel = NULL;
    pthread_mutex_lock(&transport->lock);
    struct peer *peer = find_locked(transport, id);
    bool known = peer != NULL;
    if (!known && (transport->peers_len == PEERS_MAX || transport->stopping)) {
        pthread_mutex_unlock(&transport->lock);
        kp_error_log("too many peers; one is left out", NULL);
        return;
    }
    if (!known)
        peer = transport->peers[transport->peers_len++] = peer_new(transport, id);
    peer_hold(peer); /* for the post below */
    pthread_mutex_unlock(&transport->lock);
    pthread_mutex_lock(&peer->lock);
    bool changed = set_urls(peer, urls, len);
    pthread_mutex_unlock(&peer->lock);
    if (known && !changed) {
        peer_release(peer);
        return;
    }
    if (peer_channel_new(transport, urls, KP_MIN(len, (size_t)PEER_URLS_MAX), &channel, &error) < 0)
        kp_error_log("the URLs of a peer are of no use", "err", error.message, NULL);
    pthread_mutex_lock(&peer->lock);
    if (!peer->removed) { /* by somebody else meanwhile: then nobody would let the channel go */
        struct peer_channel *before = peer->channel;
        peer->channel = channel;
        channel = before;
    }
    pthread_mutex_unlock(&peer->lock);
    peer_channel_unref(channel);
    loop_post(transport->loop, known ? peer_link_restart : peer_link_start, peer);
}

void peer_remove(struct peer_transport *transport, uint64_t id)
{
    struct peer *peer = peer_find(transport, id);
    if (!peer)
        return;
    pthread_mutex_lock(&peer->lock);
    __atomic_store_n(&peer->removed, true, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&peer->lock);
    loop_post(transport->loop, peer_link_say_goodbye, peer);
}

size_t peer_stats(struct peer_transport *transport, struct peer_stats *stats, size_t max)
{
    struct peer *peers[PEERS_MAX];
    size_t len = peer_snapshot_peers(transport, peers), count = 0;
    for (size_t i = 0; i < len; i++) {
        pthread_mutex_lock(&peers[i]->lock);
        if (!peers[i]->removed && count < max)
            stats[count++] = peers[i]->stats;
        pthread_mutex_unlock(&peers[i]->lock);
        peer_release(peers[i]);
    }
    return count;
}

/* ---- time ---- */
static int64_t tick_ms(const struct peer_transport *transport)
{
    return transport->silent_ms_max / PEER_TICKS_PER_SILENCE;
}

static void on_tick(void *arg)
{
    struct peer_transport *transport = arg;
    struct peer *peers[PEERS_MAX];
    int64_t now_ms = kp_mono_ms(), late_ms = now_ms - transport->ticked_ms - tick_ms(transport);
    transport->ticked_ms = now_ms;
    peer_inbound_tick(transport);
    size_t len = peer_snapshot_peers(transport, peers);
    for (size_t i = 0; i < len; i++) {
        /* Stopped ourselves for a while: answers wait in the sockets, nobody was silent. */
        if (late_ms > 2 * tick_ms(transport))
            peers[i]->heard_ms += late_ms;
        peer_link_tick(peers[i], now_ms);
        peer_release(peers[i]);
    }
}

static void start_tick(void *arg)
{
    struct peer_transport *transport = arg;
    transport->ticked_ms = kp_mono_ms();
    transport->tick = loop_timer_new(transport->loop, on_tick, transport);
    loop_timer_start(transport->tick, tick_ms(transport), tick_ms(transport));
}

/* ---- start, stop ---- */
static int listen_one(struct peer_transport *transport, const char *text, struct kp_error *error)
{
    static const struct grpc_method *const methods[] = {peer_methods, NULL};
    struct http_url url;
    if (http_url_parse(text, transport->arena, &url, error) < 0)
        return kp_wrap(error, "listen peer URL %s", text);
    bool secure = kp_streq(url.scheme, "https"), local = kp_streq(url.scheme, "unix");
    if (transport->servers_len == PEER_LISTENERS_MAX)
        return kp_fail(error, KP_EINVALID, "more than %d listen peer URLs", PEER_LISTENERS_MAX);
    if (secure && !transport->server_tls && peer_tls_server(&transport->config.tls, &transport->server_tls, error) < 0)
        return error->code;
    const struct grpc_server_config config = {
        .http = {.host = kp_streq(url.host, "localhost") ? "127.0.0.1" : url.host,
                 .port = url.port,
                 .unix_path = local ? url.path : NULL,
                 .tls = secure ? transport->server_tls : NULL,
                 .pool = transport->pool,
                 .streams_per_connection_max = STREAMS_MAX,
                 .idle_timeout_ms = IDLE_MS},
        .methods = methods,
        .arg = transport,
        .message_bytes_max = PEER_LETTER_BYTES_MAX,
        .fallback = peer_get_handler,
    };
    if (grpc_server_new(transport->loop, &config, &transport->servers[transport->servers_len], error) < 0)
        return kp_wrap(error, "listen for peers on %s", text);
    transport->servers_len++;
    kp_info("serving peers", "url", text, NULL);
    return 0;
}

static int listen_all(struct peer_transport *transport, struct kp_error *error)
{
    char *rest = kp_arena_strdup(transport->arena, transport->config.listen_urls ? transport->config.listen_urls : "");
    int rc = 0;
    for (char *text = strsep(&rest, ","); text && rc == 0; text = strsep(&rest, ","))
        if (*text)
            rc = listen_one(transport, text, error);
    return rc;
}

int peer_start(const struct peer_config *config, struct peer_transport **ret_transport, struct kp_error *error)
{
    KP_AUTO(peer_stop) struct peer_transport *transport = kp_calloc(1, sizeof(*transport));
    const struct peer_tls_files *tls = &config->tls;
    struct kp_error local = {0};
    error = error ? error : &local;
    transport->config = *config;
    transport->silent_ms_max = KP_MIN(KP_MAX(config->election_ms, PEER_SILENT_MS_MIN), PEER_SILENT_MS_MAX);
    pthread_mutex_init(&transport->lock, NULL);
    transport->arena = kp_arena_new(0);
    transport->loop = loop_new();
    transport->pool = pool_new("etcd-peer-pool", PEER_POOL_THREADS, PEER_POOL_QUEUE);
    transport->snapshots = pool_new("etcd-peer-snap", PEER_SNAPSHOT_THREADS, PEER_POOL_QUEUE);
    int rc = loop_start(transport->loop, "etcd-peer", error);
    if (rc == 0 && (!kp_empty(tls->cert_file) || !kp_empty(tls->trusted_ca_file)))
        rc = peer_tls_client(tls, &transport->client_tls, error);
    if (rc == 0)
        rc = listen_all(transport, error);
    if (rc < 0)
        return rc;
    loop_call(transport->loop, start_tick, transport);
    *ret_transport = KP_TAKE(transport);
    return 0;
}

static void drop_all(void *arg)
{
    struct peer_transport *transport = arg;
    struct peer *peers[PEERS_MAX];
    loop_timer_free(transport->tick);
    transport->tick = NULL;
    size_t len = peer_snapshot_peers(transport, peers);
    for (size_t i = 0; i < len; i++) {
        peer_link_drop(peers[i]);
        peer_release(peers[i]);
    }
    peer_inbound_close(transport);
}

void peer_stop(struct peer_transport *transport)
{
    if (!transport)
        return;
    pthread_mutex_lock(&transport->lock);
    transport->stopping = true;
    pthread_mutex_unlock(&transport->lock);
    peer_snapshots_cancel(transport);
    loop_call(transport->loop, drop_all, transport);
    for (size_t i = 0; i < transport->servers_len; i++)
        grpc_server_shutdown(transport->servers[i], SHUTDOWN_MS);
    for (size_t i = 0; i < transport->servers_len; i++)
        grpc_server_free(transport->servers[i]);
    pool_free(transport->pool);
    pool_free(transport->snapshots);
    peer_close_channels(transport);
    loop_stop(transport->loop);
    loop_join(transport->loop);
    loop_free(transport->loop);
    tls_context_unref(transport->server_tls);
    tls_context_unref(transport->client_tls);
    kp_arena_free(transport->arena);
    pthread_mutex_destroy(&transport->lock);
    free(transport);
}

uint16_t peer_listen_port(const struct peer_transport *transport, size_t index)
{
    return index < transport->servers_len ? grpc_server_port(transport->servers[index]) : 0;
}
