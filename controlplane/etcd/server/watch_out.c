/* What goes out on a watch stream: gathered where events happen, sent by the loop in one piece for all of its watchers. */
#include "controlplane/etcd/server/watch_internal.h"

#define FRAME_HEADER 5
#define PIECE_BYTES ((size_t)64 << 10) /* gathered: put by in one piece, small enough for the allocator to keep at hand */
#define PIECES_MAX (2 * WATCH_QUEUED_MAX / PIECE_BYTES)
#define KICK_PIECES 2 /* the loop begins to send while the rest of the batch is applied */

/*   idle --first bytes--> posted --the loop sends--> idle          */
struct watch_out {
    struct answer answer; /* on its way to the loop while posted */
    atomic_int refs;
    struct answers *answers;
    struct loop *loop;
    struct grpc_stream *grpc; /* a reference */
    pthread_mutex_t mutex;    /* guards the rest */
    struct kp_buf buf;
    struct kp_blob *pieces[PIECES_MAX]; /* before buf */
    size_t pieces_len, pieces_bytes;
    size_t queued; /* unsent in the stream when last looked at */
    bool posted, kicked;
    /* the event encoded last: most of a stream's watchers want the same ones */
    struct kp_blob *record; /* a reference: nothing else can take its address */
    int64_t revision, sent_ms;
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
    for (size_t i = 0; i < out->pieces_len; i++)
        kp_blob_unref(out->pieces[i]);
    kp_buf_done(&out->buf);
    kp_buf_done(&out->head);
    kp_buf_done(&out->event);
    pthread_mutex_destroy(&out->mutex);
    free(out);
}

/* With the mutex held. */
static void put_by(struct watch_out *out)
{
    if (out->buf.len == 0 || out->pieces_len == PIECES_MAX)
        return;
    out->pieces[out->pieces_len++] = kp_blob_new(out->buf.data, out->buf.len);
    out->pieces_bytes += out->buf.len;
    out->buf.len = 0;
    if (out->buf.cap > 4 * PIECE_BYTES)
        kp_buf_done(&out->buf);
}

void watch_out_flush(struct watch_out *out)
{
    struct kp_blob *pieces[PIECES_MAX + 1];
    pthread_mutex_lock(&out->mutex);
    put_by(out);
    size_t len = out->pieces_len;
    memcpy(pieces, out->pieces, len * sizeof pieces[0]);
    if (out->buf.len) { /* no place among the pieces */
        pieces[len++] = kp_blob_new(out->buf.data, out->buf.len);
        kp_buf_done(&out->buf);
    }
    out->pieces_len = out->pieces_bytes = 0;
    out->kicked = false;
    pthread_mutex_unlock(&out->mutex);
    if (!len)
        return;
    for (size_t i = 0; i < len; i++) {
        grpc_stream_send_blob(out->grpc, pieces[i]); /* fails only when the client has gone: on_close follows */
        kp_blob_unref(pieces[i]);
    }
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

static size_t begin(struct watch_out *out)
{
    kp_buf_append(&out->buf, "\0\0\0\0\0", FRAME_HEADER);
    return out->buf.len - FRAME_HEADER;
}

struct kp_buf *watch_out_begin(struct watch_out *out, size_t *ret_start)
{
    pthread_mutex_lock(&out->mutex);
    *ret_start = begin(out);
    return &out->buf;
}

void watch_out_end(struct watch_out *out, size_t start)
{
    size_t len = out->buf.len - start - FRAME_HEADER;
    KP_ASSERT(len <= UINT32_MAX);
    for (int i = 0; i < 4; i++)
        out->buf.data[start + 1 + (size_t)i] = (char)(len >> (24 - 8 * i));
    if (out->buf.len >= PIECE_BYTES)
        put_by(out);
    bool post = !out->posted, kick = out->pieces_len >= KICK_PIECES && !out->kicked;
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

/* With the mutex held. */
static bool is_full(const struct watch_out *out)
{
    return out->queued + out->pieces_bytes + out->buf.len > WATCH_QUEUED_MAX;
}

bool watch_out_event(struct watch_out *out, struct etcd_server *server, const struct mvcc_event *event, int64_t revision,
                     int64_t watch_id, int64_t *ret_now_ms)
{
    pthread_mutex_lock(&out->mutex);
    if (is_full(out)) {
        pthread_mutex_unlock(&out->mutex);
        return false;
    }
    if (out->record != event->record || out->revision != revision) {
        kp_blob_unref(out->record);
        out->record = kp_blob_ref(event->record);
        out->revision = revision;
        out->sent_ms = kp_mono_ms();
        out->head.len = out->event.len = 0;
        encode_header(server, &out->head, revision);
        encode_event(&out->event, WATCH_EVENTS, event, false);
    }
    *ret_now_ms = out->sent_ms;
    kp_buf_reserve(&out->buf, FRAME_HEADER + out->head.len + out->event.len + 16);
    size_t start = begin(out);
    kp_buf_append(&out->buf, out->head.data, out->head.len);
    encode_number(&out->buf, WATCH_ID, watch_id);
    kp_buf_append(&out->buf, out->event.data, out->event.len);
    watch_out_end(out, start);
    return true;
}

bool watch_out_is_full(struct watch_out *out)
{
    pthread_mutex_lock(&out->mutex);
    bool full = is_full(out);
    pthread_mutex_unlock(&out->mutex);
    return full;
}

void watch_out_drained(struct watch_out *out)
{
    pthread_mutex_lock(&out->mutex);
    out->queued = 0;
    pthread_mutex_unlock(&out->mutex);
}
