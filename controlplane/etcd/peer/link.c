/* Streams to one peer: opening them, trying again, noticing that nobody answers any more.

   IDLE --timer--> OPENING --first receipt--> OPEN
     ^_______________/_________________________/     any --peer_link_drop--> GONE                                        */
#include "controlplane/etcd/peer/peer_internal.h"

/* What the callbacks of one call get. */
struct lane_call {
    struct peer *peer;
    enum peer_lane lane;
    unsigned generation;
};

static void link_down(struct peer *peer, const char *reason);

/* ---- channels ---- */
int peer_channel_new(struct peer_transport *transport, const char *const *urls, size_t len, struct peer_channel **ret_channel,
                     struct kp_error *error)
{
    const struct grpc_channel_config config = {.endpoints = urls,
                                               .endpoint_count = len,
                                               .tls = transport->client_tls,
                                               .response_bytes_max = PEER_ANSWER_BYTES_MAX,
                                               .connect_timeout_ms = PEER_CONNECT_MS};
    struct grpc_channel *grpc = NULL;
    int rc = grpc_channel_new(transport->loop, &config, &grpc, error);
    if (rc < 0)
        return rc;
    struct peer_channel *channel = kp_calloc(1, sizeof(*channel));
    *channel = (struct peer_channel){.refs = 1, .transport = transport, .grpc = grpc};
    *ret_channel = channel;
    return 0;
}

void peer_close_channels(void *arg)
{
    struct peer_transport *transport = arg;
    pthread_mutex_lock(&transport->lock);
    struct peer_channel *channel = transport->closing;
    transport->closing = NULL;
    transport->closing_posted = false;
    pthread_mutex_unlock(&transport->lock);
    while (channel) {
        struct peer_channel *next = channel->next;
        grpc_channel_free(channel->grpc);
        free(channel);
        channel = next;
    }
}

void peer_channel_unref(struct peer_channel *channel)
{
    if (!channel || __atomic_fetch_sub(&channel->refs, 1, __ATOMIC_ACQ_REL) != 1)
        return;
    struct peer_transport *transport = channel->transport;
    pthread_mutex_lock(&transport->lock);
    channel->next = transport->closing;
    transport->closing = channel;
    if (!transport->closing_posted) /* a full pool leaves it to the next one, or to peer_stop */
        transport->closing_posted = pool_submit(transport->pool, peer_close_channels, transport) == 0;
    pthread_mutex_unlock(&transport->lock);
}

struct peer_channel *peer_channel_of(struct peer *peer)
{
    pthread_mutex_lock(&peer->lock);
    struct peer_channel *channel = peer->channel;
    if (channel)
        __atomic_fetch_add(&channel->refs, 1, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&peer->lock);
    return channel;
}

/* ---- what was lost ---- */
static void tell_lost(struct peer *peer)
{
    struct peer_transport *transport = peer->transport;
    int64_t now_ms = kp_mono_ms();
    if (peer->state == PEER_GONE || now_ms - peer->unreachable_ms < PEER_UNREACHABLE_EVERY_MS)
        return; /* the tick comes back to it */
    pthread_mutex_lock(&peer->lock);
    bool lost = peer->lost && !peer->removed;
    peer->lost = false;
    pthread_mutex_unlock(&peer->lock);
    if (!lost)
        return;
    peer->unreachable_ms = now_ms;
    transport->config.events.unreachable(transport->config.events.ctx, peer->id);
}

static void tell_lost_posted(void *arg)
{
    tell_lost(arg);
    peer_release(arg);
}

/* With the lock held. */
static void lose_locked(struct peer *peer)
{
    peer->stats.sent_failures++;
    if (peer->lost)
        return;
    peer->lost = true;
    loop_post(peer->transport->loop, tell_lost_posted, peer_hold(peer));
}

/* ---- sending ---- */
/* A framed Letter by hand: one copy of the message less than protobuf would make. */
static struct kp_blob *pack_letter(const struct raft_message *message)
{
    KP_AUTO_BUF struct kp_buf bytes = {0};
    raft_message_encode(&bytes, message);
    uint8_t head[PEER_GRPC_HEADER_BYTES + 1 + 10];
    size_t at = PEER_GRPC_HEADER_BYTES;
    head[at++] = 1 << 3 | 2; /* field 1, bytes */
    for (uint64_t left = bytes.len;; left >>= 7) {
        head[at++] = (uint8_t)((left & 0x7f) | (left > 0x7f ? 0x80 : 0));
        if (left <= 0x7f)
            break;
    }
    size_t len = at - PEER_GRPC_HEADER_BYTES + bytes.len;
    head[0] = 0;
    for (int i = 0; i < 4; i++)
        head[1 + i] = (uint8_t)(len >> (24 - 8 * i));
    struct kp_blob *blob = kp_blob_new(NULL, at + bytes.len);
    memcpy(blob->data, head, at);
    memcpy(blob->data + at, bytes.data, bytes.len);
    return blob;
}

void peer_send(struct peer_transport *transport, struct raft_message *message)
{
    KP_ASSERT(message->type != RAFT_MSG_SNAPSHOT);
    KP_AUTO(peer_release) struct peer *peer = peer_find(transport, message->to);
    enum peer_lane lane = message->type == RAFT_MSG_APPEND ? LANE_APPEND : LANE_CONTROL;
    KP_AUTO(kp_blob_unref) struct kp_blob *letter = NULL;
    if (peer)
        letter = pack_letter(message);
    raft_message_done(message);
    if (!peer)
        return;
    pthread_mutex_lock(&peer->lock);
    struct grpc_call *call = peer->calls[lane];
    bool fits = call && letter->len <= PEER_LETTER_BYTES_MAX && grpc_call_queued(call) + letter->len <= PEER_QUEUED_BYTES_MAX;
    if (fits && grpc_call_send_blob(call, letter) == 0) {
        peer->stats.messages_sent++;
        peer->stats.sent_bytes += letter->len;
    } else {
        lose_locked(peer);
    }
    pthread_mutex_unlock(&peer->lock);
}

/* ---- the streams ---- */
static bool is_current(const struct lane_call *lane)
{
    return lane->generation == lane->peer->generation && lane->peer->state != PEER_GONE;
}

static void link_opened(struct peer *peer)
{
    peer->state = PEER_OPEN;
    peer->opened_ms = kp_mono_ms();
    pthread_mutex_lock(&peer->lock);
    peer->stats.active_since_ms = kp_now_ns() / 1000000;
    pthread_mutex_unlock(&peer->lock);
    char id[17];
    snprintf(id, sizeof(id), "%llx", (unsigned long long)peer->id);
    kp_info("connected to a peer", "peer", id, NULL);
    peer->failure_told = false;
}

static void on_receipt(struct grpc_call *call, const void *message, void *arg)
{
    const Kprov__Etcd__Peer__Receipt *receipt = message;
    struct lane_call *lane = arg;
    struct peer *peer = lane->peer;
    if (!is_current(lane))
        return;
    peer->heard_ms = kp_mono_ms();
    if (peer->state == PEER_OPENING)
        link_opened(peer);
    if (!receipt->probe || receipt->probe != peer->probe)
        return;
    peer->probe = 0;
    pthread_mutex_lock(&peer->lock);
    peer->stats.rtt_s = (double)(kp_mono_ns() - (int64_t)receipt->probe) / 1e9;
    pthread_mutex_unlock(&peer->lock);
}

/* A peer on its way out is gone when the last of its streams has brought over what was queued. */
static bool is_parting(struct peer *peer, enum peer_lane lane)
{
    bool open = false;
    pthread_mutex_lock(&peer->lock);
    struct grpc_call *call = NULL;
    if (peer->removed)
        call = KP_TAKE(peer->calls[lane]);
    for (int i = 0; i < LANES; i++)
        open = open || peer->calls[i];
    open = open && peer->removed;
    pthread_mutex_unlock(&peer->lock);
    grpc_call_unref(call);
    return open;
}

static void on_end(struct grpc_call *call, enum grpc_status status, const char *message, void *arg)
{
    struct lane_call *lane = arg;
    if (is_current(lane) && !is_parting(lane->peer, lane->lane))
        link_down(lane->peer, status == GRPC_OK ? "the peer ended the stream" : message);
    peer_release(lane->peer);
    free(lane);
}

static struct grpc_call *open_lane(struct peer *peer, struct peer_channel *channel, enum peer_lane which)
{
    static const struct grpc_call_callbacks callbacks = {.on_message = on_receipt, .on_end = on_end};
    const struct grpc_call_options options = {.metadata = peer->metadata.list, .metadata_count = PEER_HEADERS};
    struct lane_call *lane = kp_calloc(1, sizeof(*lane));
    lane->peer = peer_hold(peer);
    lane->lane = which;
    lane->generation = peer->generation;
    return grpc_call_open(channel->grpc, PEER_PATH "Messages", &kprov__etcd__peer__receipt__descriptor, &options, &callbacks,
                          lane);
}

static void link_open(void *arg)
{
    struct peer *peer = arg;
    KP_AUTO(peer_channel_unref) struct peer_channel *channel = peer_channel_of(peer);
    if (peer->state != PEER_IDLE || !channel)
        return;
    loop_timer_stop(peer->timer);
    peer->state = PEER_OPENING;
    peer->generation++;
    peer->opened_ms = peer->heard_ms = peer->probe_sent_ms = kp_mono_ms();
    peer->probe = 0;
    struct grpc_call *calls[LANES];
    for (int i = 0; i < LANES; i++)
        calls[i] = open_lane(peer, channel, (enum peer_lane)i);
    pthread_mutex_lock(&peer->lock);
    memcpy(peer->calls, calls, sizeof(calls));
    pthread_mutex_unlock(&peer->lock);
}

/* Ends what is open; tells nobody. */
static void link_close(struct peer *peer)
{
    struct grpc_call *calls[LANES];
    peer->generation++;
    pthread_mutex_lock(&peer->lock);
    memcpy(calls, peer->calls, sizeof(calls));
    memset(peer->calls, 0, sizeof(peer->calls));
    peer->stats.active_since_ms = 0;
    pthread_mutex_unlock(&peer->lock);
    for (int i = 0; i < LANES; i++) {
        if (calls[i])
            grpc_call_cancel(calls[i]);
        grpc_call_unref(calls[i]);
    }
    peer->state = PEER_IDLE;
}

static void link_down(struct peer *peer, const char *reason)
{
    char id[17];
    snprintf(id, sizeof(id), "%llx", (unsigned long long)peer->id);
    pthread_mutex_lock(&peer->lock);
    bool removed = peer->removed;
    if (!removed)
        lose_locked(peer);
    pthread_mutex_unlock(&peer->lock);
    if (removed) {
        peer_link_drop(peer);
        return;
    }
    if (!peer->failure_told)
        kp_warn(peer->state == PEER_OPEN ? "lost the connection to a peer" : "no connection to a peer; trying on", "peer", id,
                "err", reason, NULL);
    peer->failure_told = true;
    link_close(peer);
    int64_t wait_ms = peer->backoff_ms / 2 + (int64_t)(kp_random_u64() % (uint64_t)(peer->backoff_ms / 2 + 1));
    peer->backoff_ms = KP_MIN(peer->backoff_ms * 2, PEER_BACKOFF_MS_MAX);
    loop_timer_start(peer->timer, wait_ms, 0);
}

/* Below the streams: TCP would go on for minutes with a connection into the void. */
static void link_break(struct peer *peer, const char *reason)
{
    KP_AUTO(peer_channel_unref) struct peer_channel *channel = peer_channel_of(peer);
    peer->generation++; /* the ends of its calls are no news */
    if (channel)
        http_client_break(grpc_channel_http(channel->grpc), reason);
    link_down(peer, reason);
}

/* ---- life ---- */
void peer_link_start(void *arg)
{
    struct peer *peer = arg;
    if (peer->state != PEER_GONE && !peer->timer) {
        peer->timer = loop_timer_new(peer->transport->loop, link_open, peer);
        peer->backoff_ms = PEER_BACKOFF_MS_MIN;
        peer->unreachable_ms = kp_mono_ms() - PEER_UNREACHABLE_EVERY_MS;
        link_open(peer);
    }
    peer_release(peer);
}

void peer_link_restart(void *arg)
{
    struct peer *peer = arg;
    if (peer->state != PEER_GONE && peer->timer) {
        link_close(peer);
        peer->backoff_ms = PEER_BACKOFF_MS_MIN;
        link_open(peer);
    }
    peer_release(peer);
}

static void forget(void *arg)
{
    KP_AUTO(peer_release) struct peer *peer = peer_hold(arg);
    peer_link_drop(peer);
}

void peer_link_say_goodbye(void *arg)
{
    struct peer *peer = arg;
    if (peer->state == PEER_OPEN || peer->state == PEER_OPENING) {
        pthread_mutex_lock(&peer->lock);
        for (int i = 0; i < LANES; i++)
            if (peer->calls[i])
                grpc_call_send_end(peer->calls[i]); /* the other side answers with the end, then on_end drops it */
        pthread_mutex_unlock(&peer->lock);
        loop_timer_free(peer->timer);
        peer->timer = loop_timer_new(peer->transport->loop, forget, peer);
        loop_timer_start(peer->timer, PEER_GOODBYE_MS, 0);
    } else if (peer->state != PEER_GONE) {
        peer_link_drop(peer);
    }
    peer_release(peer);
}

void peer_link_drop(struct peer *peer)
{
    struct peer_transport *transport = peer->transport;
    if (peer->state == PEER_GONE)
        return;
    link_close(peer);
    peer->state = PEER_GONE;
    loop_timer_free(peer->timer);
    peer->timer = NULL;
    pthread_mutex_lock(&peer->lock);
    struct peer_channel *channel = KP_TAKE(peer->channel);
    peer->removed = true;
    pthread_mutex_unlock(&peer->lock);
    peer_channel_unref(channel);
    bool found = false;
    pthread_mutex_lock(&transport->lock);
    for (size_t i = 0; i < transport->peers_len && !found; i++) {
        if (transport->peers[i] != peer)
            continue;
        transport->peers[i] = transport->peers[--transport->peers_len];
        found = true;
    }
    pthread_mutex_unlock(&transport->lock);
    if (found)
        peer_release(peer);
}

void peer_link_heard_of(struct peer *peer)
{
    if (peer->state != PEER_IDLE || !peer->timer)
        return;
    peer->backoff_ms = PEER_BACKOFF_MS_MIN;
    loop_timer_start(peer->timer, PEER_BACKOFF_MS_MIN / 2, 0);
}

/* ---- probes ---- */
static size_t queued_bytes(struct peer *peer)
{
    size_t queued = 0;
    pthread_mutex_lock(&peer->lock);
    for (int i = 0; i < LANES; i++)
        queued += peer->calls[i] ? grpc_call_queued(peer->calls[i]) : 0;
    pthread_mutex_unlock(&peer->lock);
    return queued;
}

static void send_probe(struct peer *peer, int64_t now_ms)
{
    Kprov__Etcd__Peer__Letter letter = KPROV__ETCD__PEER__LETTER__INIT;
    letter.probe = peer->probe = (uint64_t)kp_mono_ns();
    peer->probe_sent_ms = now_ms;
    pthread_mutex_lock(&peer->lock);
    if (peer->calls[LANE_CONTROL])
        grpc_call_send(peer->calls[LANE_CONTROL], &letter.base); /* when the call is over its end is on the way */
    pthread_mutex_unlock(&peer->lock);
}

void peer_link_tick(struct peer *peer, int64_t now_ms)
{
    tell_lost(peer);
    if (peer->state == PEER_OPENING && now_ms - peer->opened_ms > PEER_OPEN_MS) {
        link_break(peer, "the peer takes no stream");
        return;
    }
    if (peer->state != PEER_OPEN)
        return;
    if (now_ms - peer->opened_ms > PEER_BACKOFF_MS_MAX)
        peer->backoff_ms = PEER_BACKOFF_MS_MIN; /* it lived: the next loss is news */
    int64_t silent_ms = now_ms - KP_MAX(peer->heard_ms, peer->probe_sent_ms);
    int64_t silent_ms_max = peer->transport->silent_ms_max;
    if (!peer->probe && now_ms - peer->probe_sent_ms >= silent_ms_max / PEER_PROBES_PER_SILENCE)
        send_probe(peer, now_ms);
    else if (peer->probe && silent_ms > (queued_bytes(peer) > PEER_BUSY_BYTES ? PEER_SILENT_MS_MAX : silent_ms_max))
        link_break(peer, "the peer does not answer any more");
}
