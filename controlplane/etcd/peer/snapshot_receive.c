/* Receiving a snapshot's image: chunks go to the disk on a worker, in order, and are confirmed when written.

   The loop puts chunks into a queue; one worker at a time takes them out. Whatever ends the stream early ends in `failed`,
   and the worker that sees it removes the file. */
#include "controlplane/etcd/peer/peer_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define INCOMING_QUEUE_MAX (PEER_SNAPSHOT_WINDOW + 2) /* a sender that sends ahead more than that does not keep the rules */

struct chunk {
    struct chunk *next;
    uint32_t crc;
    bool first;
    uint64_t total;
    struct kp_blob *message, *data;
};

struct incoming {
    int refs; /* atomic: the stream's and the job's */
    struct peer_transport *transport;
    struct grpc_stream *stream; /* a reference */
    uint64_t from;
    pthread_mutex_t lock; /* guards the next block */
    struct chunk *head, **tail;
    size_t queued;
    bool running, half_closed, closed;
    /* of the loop */
    bool begun;
    /* of the one running job */
    struct raft_message message;
    char *path;
    int fd;
    uint64_t total, written;
    uint32_t crc;
    bool opened, over; /* over: finished or given up; what still comes is dropped */
};

static void chunk_free(struct chunk *chunk)
{
    kp_blob_unref(chunk->message);
    kp_blob_unref(chunk->data);
    free(chunk);
}

static void incoming_unref(struct incoming *in)
{
    if (__atomic_fetch_sub(&in->refs, 1, __ATOMIC_ACQ_REL) != 1)
        return;
    for (struct chunk *chunk = in->head, *next; chunk; chunk = next) {
        next = chunk->next;
        chunk_free(chunk);
    }
    KP_ASSERT(in->fd < 0 && !in->path);
    raft_message_done(&in->message);
    grpc_stream_unref(in->stream);
    pthread_mutex_destroy(&in->lock);
    free(in);
}

/* Ends it without a result: nothing of it stays. */
static void give_up(struct incoming *in)
{
    in->over = true;
    kp_close_fd(&in->fd);
    if (in->path)
        unlink(in->path);
    free(KP_TAKE(in->path));
    raft_message_done(&in->message);
}

static int write_all(struct incoming *in, const struct kp_blob *data, struct kp_error *error)
{
    for (size_t at = 0; at < data->len;) {
        ssize_t count = write(in->fd, data->data + at, data->len - at);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return kp_fail_errno(error, "write %s", in->path);
        at += (size_t)count;
    }
    in->written += data->len;
    return 0;
}

static int begin(struct incoming *in, const struct chunk *chunk, struct kp_error *error)
{
    const struct peer_events *events = &in->transport->config.events;
    int rc = raft_message_decode(chunk->message->data, chunk->message->len, &in->message, error);
    if (rc < 0)
        return kp_wrap(error, "snapshot");
    in->opened = true;
    in->total = chunk->total;
    if (in->message.type != RAFT_MSG_SNAPSHOT || !in->message.snapshot || in->message.from != in->from ||
        in->message.to != in->transport->config.member_id)
        return kp_fail(error, KP_EBADREQUEST, "snapshot: its message does not belong here");
    rc = events->snapshot_begin(events->ctx, &in->message, &in->path, error);
    if (rc < 0)
        return rc;
    in->fd = open(in->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    return in->fd < 0 ? kp_fail_errno(error, "make %s", in->path) : 0;
}

static int take_chunk(struct incoming *in, const struct chunk *chunk, struct kp_error *error)
{
    if (chunk->first == in->opened)
        return kp_fail(error, KP_EBADREQUEST, "snapshot: the first chunk, and no other, must hold the message");
    if (!in->opened && begin(in, chunk, error) < 0)
        return error->code;
    if (chunk->data->len > in->total - in->written)
        return kp_fail(error, KP_EBADREQUEST, "snapshot: longer than its %llu bytes", (unsigned long long)in->total);
    in->crc = kp_crc32c(in->crc, chunk->data->data, chunk->data->len);
    if (in->crc != chunk->crc)
        return kp_fail(error, KP_ECORRUPT, "snapshot: checksum mismatch in the bytes before offset %llu",
                       (unsigned long long)(in->written + chunk->data->len));
    return write_all(in, chunk->data, error);
}

/* The image is whole, or is refused. */
static int complete(struct incoming *in, struct kp_error *error)
{
    const struct peer_events *events = &in->transport->config.events;
    if (!in->opened || in->written != in->total)
        return kp_fail(error, KP_ECORRUPT, "snapshot: ends after %llu of %llu bytes", (unsigned long long)in->written,
                       (unsigned long long)in->total);
    if (fsync(in->fd) < 0)
        return kp_fail_errno(error, "sync %s", in->path);
    kp_close_fd(&in->fd);
    KP_AUTO_FREE char *path = KP_TAKE(in->path);
    struct raft_message message = in->message;
    in->message = (struct raft_message){0};
    return events->snapshot_end(events->ctx, &message, path, error);
}

static void confirm(struct incoming *in)
{
    Kprov__Etcd__Peer__SnapshotReceipt receipt = KPROV__ETCD__PEER__SNAPSHOT_RECEIPT__INIT;
    receipt.written = in->written;
    grpc_stream_send(in->stream, &receipt.base); /* a stream that is over tells so by on_close */
}

static void refuse(struct incoming *in, int rc, const struct kp_error *error)
{
    char id[17];
    snprintf(id, sizeof(id), "%llx", (unsigned long long)in->from);
    kp_warn("a snapshot of a peer is refused", "peer", id, "err", error->message, NULL);
    grpc_stream_finish(in->stream, rc, error->message);
    give_up(in);
}

enum next { NEXT_CHUNK, NEXT_END, NEXT_CLOSED, NEXT_NOTHING };
static enum next next_of(struct incoming *in, struct chunk **ret_chunk)
{
    enum next next = NEXT_NOTHING;
    pthread_mutex_lock(&in->lock);
    *ret_chunk = in->head;
    if (in->closed) {
        next = NEXT_CLOSED;
        *ret_chunk = NULL;
    } else if (in->head) {
        next = NEXT_CHUNK;
        in->head = in->head->next;
        if (!in->head)
            in->tail = &in->head;
        in->queued--;
    } else if (in->half_closed) {
        next = NEXT_END;
    }
    if (next == NEXT_NOTHING) /* the others are the last a job does */
        in->running = false;
    pthread_mutex_unlock(&in->lock);
    return next;
}

static void run(void *arg)
{
    struct incoming *in = arg;
    struct chunk *chunk;
    enum next next;
    struct kp_error error = {0};
    int rc;
    while ((next = next_of(in, &chunk)) == NEXT_CHUNK) {
        rc = in->over ? 0 : take_chunk(in, chunk, &error);
        chunk_free(chunk);
        if (rc < 0)
            refuse(in, rc, &error);
        else if (!in->over)
            confirm(in);
    }
    if (next == NEXT_END && !in->over) {
        rc = complete(in, &error);
        if (rc < 0) {
            refuse(in, rc, &error);
        } else {
            in->over = true;
            grpc_stream_finish(in->stream, GRPC_OK, NULL);
        }
    } else if (next == NEXT_CLOSED && !in->over) {
        give_up(in);
    }
    incoming_unref(in);
}

/* With the lock held: sees that a job looks at what has changed. */
static void wake_locked(struct incoming *in)
{
    if (in->running)
        return;
    in->running = true;
    __atomic_fetch_add(&in->refs, 1, __ATOMIC_RELAXED);
    if (pool_submit(in->transport->snapshots, run, in) == 0)
        return;
    in->running = false; /* the pool is full or ends */
    __atomic_fetch_sub(&in->refs, 1, __ATOMIC_RELAXED);
    grpc_stream_finish(in->stream, GRPC_UNAVAILABLE, "too many snapshots at once");
}

static void on_chunk(struct grpc_stream *stream, const void *message, void *arg)
{
    struct incoming *in = arg;
    const Kprov__Etcd__Peer__SnapshotChunk *wire = message;
    pthread_mutex_lock(&in->lock);
    if (in->queued >= INCOMING_QUEUE_MAX || wire->data.len > PEER_SNAPSHOT_CHUNK_BYTES) {
        grpc_stream_finish(stream, GRPC_RESOURCE_EXHAUSTED, "snapshot: chunks come too large, or before others are confirmed");
    } else {
        struct chunk *chunk = kp_calloc(1, sizeof(*chunk));
        *chunk = (struct chunk){.crc = wire->crc, .first = wire->message.len > 0, .total = wire->total};
        chunk->message = chunk->first ? kp_blob_new(wire->message.data, wire->message.len) : NULL;
        chunk->data = kp_blob_new(wire->data.data ? (const void *)wire->data.data : "", wire->data.len);
        *in->tail = chunk;
        in->tail = &chunk->next;
        in->queued++;
        wake_locked(in);
    }
    pthread_mutex_unlock(&in->lock);
}

static void on_half_close(struct grpc_stream *stream, void *arg)
{
    struct incoming *in = arg;
    pthread_mutex_lock(&in->lock);
    in->half_closed = true;
    wake_locked(in);
    pthread_mutex_unlock(&in->lock);
}

static void on_close(struct grpc_stream *stream, void *arg)
{
    struct incoming *in = arg;
    pthread_mutex_lock(&in->lock);
    in->closed = true;
    bool idle = !in->running;
    pthread_mutex_unlock(&in->lock);
    if (idle && !in->over) /* no job will come any more; unlinking is all there is to do */
        give_up(in);
    incoming_unref(in);
}

int peer_snapshot_open(struct grpc_context *context, struct grpc_stream *stream, struct kp_error *error)
{
    static const struct grpc_stream_callbacks callbacks = {
        .on_message = on_chunk, .on_half_close = on_half_close, .on_close = on_close};
    struct peer_transport *transport = context->server_arg;
    uint64_t from = 0;
    int rc = peer_check_call(transport, context, &from, error);
    if (rc == 0 && !transport->tick)
        rc = grpc_fail(error, GRPC_UNAVAILABLE, "the member is stopping");
    if (rc != 0)
        return rc;
    struct incoming *in = kp_calloc(1, sizeof(*in));
    in->refs = 1;
    in->transport = transport;
    in->stream = grpc_stream_ref(stream);
    in->from = from;
    in->fd = -1;
    in->tail = &in->head;
    pthread_mutex_init(&in->lock, NULL);
    grpc_stream_set_callbacks(stream, &callbacks, in);
    return 0;
}
