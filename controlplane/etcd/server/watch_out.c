/* What goes out on a watch stream: gathered where events happen, sent by the loop in one piece for all of its watchers. */
#include "controlplane/etcd/server/watch_internal.h"

#define FRAME_HEADER 5
#define WATCH_ID_BYTES_MAX 11             /* tag and varint */
#define PIECE_BYTES ((size_t)64 << 10)    /* sent as one; small enough for the allocator to keep at hand */
#define PIECE_BYTES_MIN ((size_t)2 << 10)
#define KICK_BYTES (2 * PIECE_BYTES)                   /* the loop begins to send while the rest of the batch is applied */

/*   idle --first bytes--> posted --the loop sends--> idle          */
struct watch_out {
    struct answer answer; /* on its way to the loop while posted */
    atomic_int refs;
    struct answers *answers;
    struct grpc_stream *grpc; /* a reference */
    pthread_mutex_t mutex;    /* guards the rest */
    struct kp_blob **pieces;  /* full ones, in order, ... */
    size_t pieces_len, pieces_cap, pieces_bytes;
    struct kp_blob *piece; /* ... and the one being filled */
    size_t piece_used;
    struct kp_buf response; /* between begin and end */
    size_t queued;          /* unsent in the stream when last looked at */
    bool posted, kicked;
    /* the event encoded last: most of a stream's watchers want the same ones */
    struct kp_blob *record; /* a reference: nothing else can take its address */
    int64_t revision, sent_ms;
    struct kp_buf head, event;
};

static void send_gathered(struct answer *answer);

struct watch_out *watch_out_new(struct etcd_server *server, struct grpc_stream *grpc)
{
    struct watch_out *out = kp_calloc(1, sizeof *out);
    atomic_init(&out->refs, 1);
    out->answers = &server->answers;
    out->answer.fn = send_gathered; /* once: the loop reads it without the mutex */
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
    kp_blob_unref(out->piece);
    for (size_t i = 0; i < out->pieces_len; i++)
        kp_blob_unref(out->pieces[i]);
    free(out->pieces);
    kp_buf_done(&out->response);
    kp_buf_done(&out->head);
    kp_buf_done(&out->event);
    pthread_mutex_destroy(&out->mutex);
    free(out);
}

/* ---- gathering: with the mutex held ---- */

static void end_piece(struct watch_out *out)
{
    if (!out->piece)
        return;
    if (out->pieces_len == out->pieces_cap) {
        out->pieces_cap = KP_MAX(out->pieces_cap * 2, (size_t)8);
        out->pieces = kp_realloc(out->pieces, out->pieces_cap * sizeof(struct kp_blob *));
    }
    struct kp_blob *piece = KP_TAKE(out->piece);
    if (out->piece_used < piece->len / 2) { /* it may wait long for a slow client: not with twice the memory it needs */
        KP_AUTO(kp_blob_unref) struct kp_blob *large = piece;
        piece = kp_blob_new(large->data, out->piece_used);
    }
    piece->len = out->piece_used;
    piece->data[piece->len] = 0;
    out->pieces_bytes += piece->len;
    out->pieces[out->pieces_len++] = piece;
    out->piece_used = 0;
}

/* Where `need` bytes may be written; piece_used then moves on by what was. */
static uint8_t *room(struct watch_out *out, size_t need)
{
    if (out->piece && out->piece_used + need > out->piece->len)
        end_piece(out);
    if (!out->piece) { /* the more a batch brings, the larger */
        size_t bytes = KP_MIN(KP_MAX(2 * out->pieces_bytes, PIECE_BYTES_MIN), PIECE_BYTES);
        out->piece = kp_blob_new(NULL, KP_MAX(bytes, need));
    }
    return out->piece->data + out->piece_used;
}

static void put_frame_header(uint8_t *p, size_t len)
{
    KP_ASSERT(len <= UINT32_MAX);
    p[0] = 0; /* not compressed */
    for (int i = 0; i < 4; i++)
        p[1 + i] = (uint8_t)(len >> (24 - 8 * i));
}

/* Unlocks, and sees to it that the loop sends. */
static void gathered(struct watch_out *out)
{
    bool post = !out->posted, kick = out->pieces_bytes >= KICK_BYTES && !out->kicked;
    out->posted = true;
    out->kicked |= kick;
    pthread_mutex_unlock(&out->mutex);
    if (post) {
        atomic_fetch_add(&out->refs, 1);
        answers_add(out->answers, &out->answer);
    }
    if (kick)
        answers_kick(out->answers);
}

struct kp_buf *watch_out_begin(struct watch_out *out)
{
    pthread_mutex_lock(&out->mutex);
    out->response.len = 0;
    return &out->response;
}

void watch_out_end(struct watch_out *out)
{
    uint8_t *p = room(out, FRAME_HEADER + out->response.len);
    put_frame_header(p, out->response.len);
    memcpy(p + FRAME_HEADER, out->response.data ? out->response.data : "", out->response.len);
    out->piece_used += FRAME_HEADER + out->response.len;
    if (out->response.cap > PIECE_BYTES)
        kp_buf_done(&out->response);
    gathered(out);
}

static bool is_full(const struct watch_out *out)
{
    return out->queued + out->pieces_bytes + out->piece_used > WATCH_QUEUED_MAX;
}

static size_t put_watch_id(uint8_t *p, int64_t watch_id)
{
    size_t len = 0;
    if (watch_id == 0)
        return 0;
    p[len++] = WATCH_ID << 3;
    uint64_t value = (uint64_t)watch_id;
    for (; value >= 0x80; value >>= 7)
        p[len++] = (uint8_t)(value | 0x80);
    p[len++] = (uint8_t)value;
    return len;
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
    uint8_t *start = room(out, FRAME_HEADER + out->head.len + WATCH_ID_BYTES_MAX + out->event.len);
    uint8_t *p = start + FRAME_HEADER;
    memcpy(p, out->head.data, out->head.len);
    p += out->head.len;
    p += put_watch_id(p, watch_id);
    memcpy(p, out->event.data, out->event.len);
    p += out->event.len;
    put_frame_header(start, (size_t)(p - start) - FRAME_HEADER);
    out->piece_used += (size_t)(p - start);
    gathered(out);
    return true;
}

bool watch_out_is_full(struct watch_out *out)
{
    pthread_mutex_lock(&out->mutex);
    bool full = is_full(out);
    pthread_mutex_unlock(&out->mutex);
    return full;
}

/* ---- sending: on the loop ---- */

void watch_out_flush(struct watch_out *out)
{
    pthread_mutex_lock(&out->mutex);
    end_piece(out);
    struct kp_blob **pieces = out->pieces;
    size_t len = out->pieces_len;
    out->pieces = NULL;
    out->pieces_len = out->pieces_cap = out->pieces_bytes = 0;
    out->kicked = false;
    pthread_mutex_unlock(&out->mutex);
    if (!len)
        return;
    for (size_t i = 0; i < len; i++) {
        grpc_stream_send_blob(out->grpc, pieces[i]); /* fails only when the client has gone: on_close follows */
        kp_blob_unref(pieces[i]);
    }
    free(pieces);
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

void watch_out_drained(struct watch_out *out)
{
    pthread_mutex_lock(&out->mutex);
    out->queued = 0;
    pthread_mutex_unlock(&out->mutex);
}
