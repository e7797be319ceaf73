/* What goes out on a watch stream: gathered where events happen, sent by the loop in one piece for all of its watchers. */
#include "controlplane/etcd/server/watch_internal.h"

#define FRAME_HEADER 5
#define KICK_BYTES ((size_t)128 << 10) /* gathered: the loop begins to send while the rest of the batch is applied */
#define KEPT_BYTES ((size_t)256 << 10) /* of a buffer that has been sent */

/*   idle --first bytes--> posted --the loop sends--> idle          */
struct watch_out {
    struct answer answer; /* on its way to the loop while posted */
    atomic_int refs;
    struct answers *answers;
    struct loop *loop;
    struct grpc_stream *grpc; /* a reference */
    pthread_mutex_t mutex;    /* guards the rest */
    struct kp_buf buf;
    size_t queued; /* unsent in the stream when last looked at */
    bool posted, kicked;
    /* the event encoded last: most of a stream's watchers want the same ones */
    struct kp_blob *record; /* a reference: nothing else can take its address */
    int64_t revision;
    struct kp_buf head, event;
};

struct watch_out *watch_out_new(struct etcd_server *server, struct grpc_stream *grpc)
{
    struct watch_out *out = kp_calloc(1, sizeof *out);
    atomic_init(&out->refs, 1);
    out->answers = &server->answers;
    out->loop = server->rpc->loop;
    out->grpc = grpc_stream_ref(grpc);
    pthread_mutex_init(&out->mutex, NULL);
    return out;
}

void watch_out_unref(struct watch_out *out)
{
    if (atomic_fetch_sub(&out->refs, 1) > 1)
        return;
    grpc_stream_unref(out->grpc);
    kp_blob_unref(out->record);
    kp_buf_done(&out->buf);
    kp_buf_done(&out->head);
    kp_buf_done(&out->event);
    pthread_mutex_destroy(&out->mutex);
    free(out);
}

static struct kp_blob *take(struct watch_out *out)
{
    struct kp_blob *blob = out->buf.len ? kp_blob_new(out->buf.data, out->buf.len) : NULL;
    out->buf.len = 0;
    out->kicked = false;
    if (out->buf.cap > KEPT_BYTES)
        kp_buf_done(&out->buf);
    return blob;
}

void watch_out_flush(struct watch_out *out)
{
    pthread_mutex_lock(&out->mutex);
    KP_AUTO(kp_blob_unref) struct kp_blob *blob = take(out);
    pthread_mutex_unlock(&out->mutex);
    if (!blob)
        return;
    grpc_stream_send_blob(out->grpc, blob); /* fails only when the client has gone: on_close follows */
    size_t queued = grpc_stream_queued(out->grpc);
    pthread_mutex_lock(&out->mutex);
    out->queued = queued;
    pthread_mutex_unlock(&out->mutex);
}

static void send_gathered(struct answer *answer)
{
    struct watch_out *out = KP_CONTAINER_OF(answer, struct watch_out, answer);
    pthread_mutex_lock(&out->mutex);
    out->posted = false;
    pthread_mutex_unlock(&out->mutex);
    watch_out_flush(out);
    watch_out_unref(out);
}

struct kp_buf *watch_out_begin(struct watch_out *out, size_t *ret_start)
{
    pthread_mutex_lock(&out->mutex);
    *ret_start = out->buf.len;
    kp_buf_append(&out->buf, "\0\0\0\0\0", FRAME_HEADER);
    return &out->buf;
}

void watch_out_end(struct watch_out *out, size_t start)
{
    size_t len = out->buf.len - start - FRAME_HEADER;
    KP_ASSERT(len <= UINT32_MAX);
    for (int i = 0; i < 4; i++)
        out->buf.data[start + 1 + (size_t)i] = (char)(len >> (24 - 8 * i));
    bool post = !out->posted, kick = out->buf.len > KICK_BYTES && !out->kicked;
    out->posted = true;
    out->kicked |= kick;
    pthread_mutex_unlock(&out->mutex);
    if (post) {
        atomic_fetch_add(&out->refs, 1);
        out->answer.fn = send_gathered;
        answers_add(out->answers, &out->answer);
    }
    if (kick)
        answers_kick(out->answers);
}

void watch_out_event(struct watch_out *out, struct etcd_server *server, const struct mvcc_event *event, int64_t revision,
                     int64_t watch_id)
{
    size_t start;
    struct kp_buf *buf = watch_out_begin(out, &start);
    if (out->record != event->record || out->revision != revision) {
        kp_blob_unref(out->record);
        out->record = kp_blob_ref(event->record);
        out->revision = revision;
        out->head.len = out->event.len = 0;
        encode_header(server, &out->head, revision);
        encode_event(&out->event, WATCH_EVENTS, event, false);
    }
    kp_buf_append(buf, out->head.data, out->head.len);
    encode_number(buf, WATCH_ID, watch_id);
    kp_buf_append(buf, out->event.data, out->event.len);
    watch_out_end(out, start);
}

bool watch_out_is_full(struct watch_out *out)
{
    pthread_mutex_lock(&out->mutex);
    bool full = out->queued + out->buf.len > WATCH_QUEUED_MAX;
    pthread_mutex_unlock(&out->mutex);
    return full;
}

void watch_out_drained(struct watch_out *out)
{
    pthread_mutex_lock(&out->mutex);
    out->queued = 0;
    pthread_mutex_unlock(&out->mutex);
}
