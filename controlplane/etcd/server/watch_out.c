/* What goes out on a watch stream: gathered where events happen, sent by the loop in one piece for all of its watchers. */
#include "controlplane/etcd/server/watch_internal.h"

#define FRAME_HEADER 5
#define WATCH_ID_BYTES_MAX 11             /* tag and varint */
#define PIECE_BYTES ((size_t)64 << 10)    /* small enough for the allocator to keep at hand */
#define PIECE_BYTES_MIN ((size_t)2 << 10)
#define SLICE_BYTES 128                   /* memory of what refers to shared events */
#define SHARED_BYTES_MIN ((size_t)4 << 10) /* events of fewer are copied: two slices more cost as much */

/*   idle --first bytes--> posted --the loop sends--> idle          */
struct watch_out {
    struct answer answer; /* on its way to the loop while posted */
    atomic_int refs;
    struct answers *answers;
    struct grpc_stream *grpc; /* a reference */
    pthread_mutex_t mutex;    /* guards the rest */
    struct http_slice *slices; /* in order, each with a reference: of pieces, and of events that others send too, ... */
    size_t slices_len, slices_cap, slices_bytes;
    struct kp_blob *piece; /* ... then what of the piece being filled is in no slice yet */
    size_t piece_from, piece_used;
    size_t copied;          /* bytes in pieces */
    size_t memory;          /* what the above takes, events that are sent again and again counted once, ... */
    size_t memory_sent;     /* ... and of what was handed to the stream since that had nothing unsent */
    uint64_t batch_id;      /* of the events shared last */
    struct kp_buf response; /* between begin and end */
    size_t queued;          /* unsent in the stream when last looked at */
    bool posted;
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

static void slices_free(struct http_slice *slices, size_t len)
{
    for (size_t i = 0; i < len; i++)
        kp_blob_unref(slices[i].blob);
    free(slices);
}

void watch_out_unref(struct watch_out *out)
{
    if (atomic_fetch_sub(&out->refs, 1) > 1)
        return;
    grpc_stream_unref(out->grpc);
    kp_blob_unref(out->piece);
    slices_free(out->slices, out->slices_len);
    kp_buf_done(&out->response);
    pthread_mutex_destroy(&out->mutex);
    free(out);
}

/* ---- gathering: with the mutex held ---- */

/* Takes over the reference. */
static void add_slice(struct watch_out *out, struct kp_blob *blob, size_t offset, size_t len)
{
    if (out->slices_len == out->slices_cap) {
        out->slices_cap = KP_MAX(out->slices_cap * 2, (size_t)8);
        out->slices = kp_realloc(out->slices, out->slices_cap * sizeof *out->slices);
    }
    out->slices[out->slices_len++] = (struct http_slice){.blob = blob, .offset = offset, .len = len};
    out->slices_bytes += len;
}

static void end_slice(struct watch_out *out)
{
    if (out->piece && out->piece_used > out->piece_from)
        add_slice(out, kp_blob_ref(out->piece), out->piece_from, out->piece_used - out->piece_from);
    out->piece_from = out->piece_used;
}

static void end_piece(struct watch_out *out)
{
    if (out->piece && out->piece_from == 0 && out->piece_used && out->piece_used < out->piece->len / 2)
        /* it may wait long for a slow client: not with twice the memory it needs */
        add_slice(out, kp_blob_new(out->piece->data, out->piece_used), 0, out->piece_used);
    else
        end_slice(out);
    kp_blob_unref(out->piece);
    out->piece = NULL;
    out->piece_from = out->piece_used = 0;
}

/* Where `need` bytes may be written; put_down then takes them. */
static uint8_t *room(struct watch_out *out, size_t need)
{
    if (out->piece && out->piece_used + need > out->piece->len)
        end_piece(out);
    if (!out->piece) { /* the more a batch brings, the larger */
        size_t bytes = KP_MIN(KP_MAX(2 * out->copied, PIECE_BYTES_MIN), PIECE_BYTES);
        out->piece = kp_blob_new(NULL, KP_MAX(bytes, need));
    }
    return out->piece->data + out->piece_used;
}

static void put_down(struct watch_out *out, size_t len)
{
    out->piece_used += len;
    out->copied += len;
    out->memory += len;
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
    bool post = !out->posted;
    out->posted = true;
    pthread_mutex_unlock(&out->mutex);
    if (post) {
        atomic_fetch_add(&out->refs, 1);
        answers_add(out->answers, &out->answer);
    }
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
    put_down(out, FRAME_HEADER + out->response.len);
    if (out->response.cap > PIECE_BYTES)
        kp_buf_done(&out->response);
    gathered(out);
}

static bool is_full(const struct watch_out *out)
{
    return out->memory + KP_MIN(out->memory_sent, out->queued) > WATCH_QUEUED_MAX ||
           out->queued + out->slices_bytes + out->piece_used - out->piece_from > WATCH_UNSENT_MAX;
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

void watch_out_add(struct watch_out *out, const struct watch_encoded *encoded, int64_t watch_id)
{
    pthread_mutex_lock(&out->mutex);
    size_t events_len = encoded->events->len;
    bool shared = events_len >= SHARED_BYTES_MIN;
    uint8_t *start = room(out, FRAME_HEADER + encoded->header.len + WATCH_ID_BYTES_MAX + (shared ? 0 : events_len));
    uint8_t *p = start + FRAME_HEADER;
    memcpy(p, encoded->header.data, encoded->header.len);
    p += encoded->header.len;
    p += put_watch_id(p, watch_id);
    put_frame_header(start, (size_t)(p - start) - FRAME_HEADER + events_len);
    if (!shared) {
        memcpy(p, encoded->events->data, events_len);
        p += events_len;
    }
    put_down(out, (size_t)(p - start));
    if (shared) {
        end_slice(out);
        add_slice(out, kp_blob_ref(encoded->events), 0, events_len);
        out->memory += SLICE_BYTES + (out->batch_id == encoded->batch_id ? 0 : events_len);
        out->batch_id = encoded->batch_id;
    }
    gathered(out);
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
    struct http_slice *slices = KP_TAKE(out->slices);
    size_t len = out->slices_len;
    size_t memory = out->memory;
    out->slices_len = out->slices_cap = out->slices_bytes = out->copied = out->memory = 0;
    out->batch_id = 0;
    pthread_mutex_unlock(&out->mutex);
    if (!len)
        return;
    grpc_stream_send_slices(out->grpc, slices, len); /* fails only when the client has gone: on_close follows */
    slices_free(slices, len);
    size_t queued = grpc_stream_queued(out->grpc);
    pthread_mutex_lock(&out->mutex);
    out->memory_sent = memory + (out->queued ? out->memory_sent : 0);
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
    out->queued = out->memory_sent = 0;
    pthread_mutex_unlock(&out->mutex);
}
