/* Sending a snapshot's image: chunks with a running checksum, a few on the way at a time. */
#include "controlplane/etcd/peer/peer_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct outgoing {
    int refs; /* atomic: the job's and the call's */
    struct peer_transport *transport;
    struct outgoing *next, **pprev; /* of the transport */
    struct raft_message message;
    char *path;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    struct grpc_call *call;
    uint64_t written; /* by the other side */
    bool ended, cancelled, ok;
    enum grpc_status status;
    char reason[256];
};

static void outgoing_unref(struct outgoing *out)
{
    if (__atomic_fetch_sub(&out->refs, 1, __ATOMIC_ACQ_REL) != 1)
        return;
    pthread_cond_destroy(&out->changed);
    pthread_mutex_destroy(&out->lock);
    free(out->path);
    free(out);
}

static void on_receipt(struct grpc_call *call, const void *message, void *arg)
{
    struct outgoing *out = arg;
    const Kprov__Etcd__Peer__SnapshotReceipt *receipt = message;
    pthread_mutex_lock(&out->lock);
    out->written = KP_MAX(out->written, receipt->written);
    pthread_cond_broadcast(&out->changed);
    pthread_mutex_unlock(&out->lock);
}

static void on_end(struct grpc_call *call, enum grpc_status status, const char *message, void *arg)
{
    struct outgoing *out = arg;
    pthread_mutex_lock(&out->lock);
    out->ended = true;
    out->status = status;
    snprintf(out->reason, sizeof(out->reason), "%s", message);
    pthread_cond_broadcast(&out->changed);
    pthread_mutex_unlock(&out->lock);
    outgoing_unref(out);
}

/* Waits until the other side has written up to `written`, or the call is over; fails when nothing moves for too long. */
static int wait_written(struct outgoing *out, uint64_t written, struct kp_error *error)
{
    pthread_mutex_lock(&out->lock);
    uint64_t seen = out->written;
    int64_t until_ns = kp_mono_ns() + PEER_SNAPSHOT_STALLED_MS * INT64_C(1000000);
    int status = 0;
    while (!out->ended && out->written < written && status == 0) {
        const struct timespec until = {.tv_sec = until_ns / 1000000000, .tv_nsec = until_ns % 1000000000};
        status = pthread_cond_timedwait(&out->changed, &out->lock, &until);
        if (out->written > seen)
            until_ns = kp_mono_ns() + PEER_SNAPSHOT_STALLED_MS * INT64_C(1000000);
        seen = out->written;
    }
    int rc = 0;
    if (out->ended && (out->status != GRPC_OK || out->written < written))
        rc = kp_fail(error, KP_EUNAVAILABLE, "%s", out->reason[0] ? out->reason : "the peer ended the transfer");
    else if (out->written < written)
        rc = kp_fail(error, KP_ETIMEOUT, "the peer takes nothing any more");
    pthread_mutex_unlock(&out->lock);
    return rc;
}

/* The receiver may take its time to put the image in place; a dead connection ends the call by HTTP/2 pings. */
static int wait_end(struct outgoing *out, struct kp_error *error)
{
    pthread_mutex_lock(&out->lock);
    while (!out->ended)
        pthread_cond_wait(&out->changed, &out->lock);
    int rc = out->status == GRPC_OK ? 0 : kp_fail(error, grpc_status_to_code((int)out->status), "%s", out->reason);
    pthread_mutex_unlock(&out->lock);
    return rc;
}

static int read_chunk(int fd, const char *path, uint8_t *data, size_t len, struct kp_error *error)
{
    for (size_t at = 0; at < len;) {
        ssize_t count = read(fd, data + at, len - at);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return kp_fail_errno(error, "read %s", path);
        if (count == 0)
            return kp_fail(error, KP_EIO, "read %s: it has become shorter", path);
        at += (size_t)count;
    }
    return 0;
}

static int send_image(struct outgoing *out, int fd, uint64_t total, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf head = {0};
    KP_AUTO_FREE uint8_t *data = kp_malloc(PEER_SNAPSHOT_CHUNK_BYTES);
    uint64_t sent = 0;
    uint32_t crc = 0;
    raft_message_encode(&head, &out->message);
    do {
        Kprov__Etcd__Peer__SnapshotChunk chunk = KPROV__ETCD__PEER__SNAPSHOT_CHUNK__INIT;
        size_t len = (size_t)KP_MIN(total - sent, (uint64_t)PEER_SNAPSHOT_CHUNK_BYTES);
        uint64_t window = PEER_SNAPSHOT_WINDOW * (uint64_t)PEER_SNAPSHOT_CHUNK_BYTES;
        if (read_chunk(fd, out->path, data, len, error) < 0 ||
            (sent + len > window && wait_written(out, sent + len - window, error) < 0))
            return error->code;
        if (sent == 0) {
            chunk.message = (ProtobufCBinaryData){head.len, (uint8_t *)head.data};
            chunk.total = total;
        }
        chunk.data = (ProtobufCBinaryData){len, data};
        chunk.crc = crc = kp_crc32c(crc, data, len);
        if (grpc_call_send(out->call, &chunk.base) < 0)
            break; /* over: the end says why */
        sent += len;
    } while (sent < total);
    grpc_call_send_end(out->call);
    if (sent == total && wait_written(out, total, error) < 0)
        return error->code;
    int rc = wait_end(out, error);
    return rc == 0 && sent < total ? kp_fail(error, KP_EUNAVAILABLE, "the peer took only a part") : rc;
}

static int send_to(struct outgoing *out, struct peer *peer, struct kp_error *error)
{
    static const struct grpc_call_callbacks callbacks = {.on_message = on_receipt, .on_end = on_end};
    struct peer_transport *transport = out->transport;
    /* A connection of its own: its megabytes stay out of the way of messages. */
    KP_AUTO(grpc_channel_free) struct grpc_channel *channel = NULL;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *urls[PEER_URLS_MAX];
    struct stat st;
    KP_AUTO_CLOSE int fd = open(out->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return kp_fail_errno(error, "open %s", out->path);
    pthread_mutex_lock(&peer->lock);
    size_t urls_len = peer->urls_len;
    for (size_t i = 0; i < urls_len; i++)
        urls[i] = kp_arena_strdup(arena, peer->urls[i]);
    pthread_mutex_unlock(&peer->lock); /* making a channel waits for the loop, which takes this lock too */
    const struct grpc_channel_config config = {.endpoints = urls,
                                               .endpoint_count = urls_len,
                                               .tls = transport->client_tls,
                                               .connect_timeout_ms = PEER_OPEN_MS};
    int rc = grpc_channel_new(transport->loop, &config, &channel, error);
    if (rc < 0)
        return rc;
    const struct grpc_call_options options = {.metadata = peer->metadata.list, .metadata_count = PEER_HEADERS};
    __atomic_fetch_add(&out->refs, 1, __ATOMIC_RELAXED); /* on_end's */
    pthread_mutex_lock(&out->lock);
    out->call = grpc_call_open(channel, PEER_PATH "Snapshot", &kprov__etcd__peer__snapshot_receipt__descriptor, &options,
                               &callbacks, out);
    bool cancelled = out->cancelled;
    pthread_mutex_unlock(&out->lock);
    rc = cancelled ? kp_fail(error, KP_ECANCELLED, "the member is stopping") : send_image(out, fd, (uint64_t)st.st_size, error);
    pthread_mutex_lock(&out->lock);
    struct grpc_call *call = KP_TAKE(out->call);
    pthread_mutex_unlock(&out->lock);
    if (rc < 0)
        grpc_call_cancel(call);
    grpc_call_unref(call);
    return rc;
}

static void finish(void *arg)
{
    struct outgoing *out = arg;
    struct peer_transport *transport = out->transport;
    pthread_mutex_lock(&transport->lock);
    *out->pprev = out->next;
    if (out->next)
        out->next->pprev = out->pprev;
    pthread_mutex_unlock(&transport->lock);
    uint64_t to = out->message.to;
    bool ok = out->ok;
    unlink(out->path);
    raft_message_done(&out->message);
    transport->config.events.snapshot_sent(transport->config.events.ctx, to, ok);
    outgoing_unref(out);
}

static void run(void *arg)
{
    struct outgoing *out = arg;
    struct kp_error error = {0};
    char id[17];
    KP_AUTO(peer_release) struct peer *peer = peer_find(out->transport, out->message.to);
    int rc = peer ? send_to(out, peer, &error) : kp_fail(&error, KP_ENOTFOUND, "no such peer is known");
    snprintf(id, sizeof(id), "%llx", (unsigned long long)out->message.to);
    if (rc < 0)
        kp_warn("a snapshot did not get to a peer", "peer", id, "err", error.message, NULL);
    else
        kp_info("sent a snapshot to a peer", "peer", id, NULL);
    out->ok = rc == 0;
    finish(out);
}

void peer_send_snapshot(struct peer_transport *transport, struct raft_message *message, const char *path)
{
    KP_ASSERT(message->type == RAFT_MSG_SNAPSHOT);
    struct outgoing *out = kp_calloc(1, sizeof(*out));
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&out->changed, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&out->lock, NULL);
    out->refs = 1;
    out->transport = transport;
    out->message = *message;
    *message = (struct raft_message){0};
    out->path = kp_strdup(path);
    pthread_mutex_lock(&transport->lock);
    out->next = transport->outgoing;
    out->pprev = &transport->outgoing;
    if (out->next)
        out->next->pprev = &out->next;
    transport->outgoing = out;
    bool stopping = transport->stopping;
    pthread_mutex_unlock(&transport->lock);
    if (stopping || pool_submit(transport->snapshots, run, out) < 0)
        loop_post(transport->loop, finish, out); /* not here, where the caller may hold what snapshot_sent wants */
}

void peer_snapshots_cancel(struct peer_transport *transport)
{
    pthread_mutex_lock(&transport->lock);
    for (struct outgoing *out = transport->outgoing; out; out = out->next) {
        pthread_mutex_lock(&out->lock);
        out->cancelled = true;
        if (out->call)
            grpc_call_cancel(out->call);
        pthread_mutex_unlock(&out->lock);
    }
    pthread_mutex_unlock(&transport->lock);
}
