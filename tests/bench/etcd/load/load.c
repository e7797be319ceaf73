/* Workloads: which request a client makes next, and what its answer tells. */
#include "tests/bench/etcd/load/load.h"

#define FILL_PUTS 100 /* in one transaction */

/* ---- protobuf ---- */

void pb_varint(struct kp_buf *out, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        kp_buf_putc(out, (char)(value | 0x80));
    kp_buf_putc(out, (char)value);
}

void pb_bytes(struct kp_buf *out, unsigned field, const void *data, size_t len)
{
    pb_varint(out, field << 3 | 2);
    pb_varint(out, len);
    kp_buf_append(out, data, len);
}

void pb_number(struct kp_buf *out, unsigned field, uint64_t value)
{
    pb_varint(out, field << 3);
    pb_varint(out, value);
}

static bool read_varint(const uint8_t **p, const uint8_t *end, uint64_t *ret)
{
    *ret = 0;
    for (unsigned shift = 0; shift < 64 && *p < end; shift += 7) {
        uint8_t byte = *(*p)++;
        *ret |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80))
            return true;
    }
    return false;
}

bool pb_find(struct kp_bytes message, unsigned field, struct kp_bytes *ret_bytes, uint64_t *ret_number)
{
    const uint8_t *p = message.data, *end = p + message.len;
    uint64_t tag, value;
    while (p < end && read_varint(&p, end, &tag) && read_varint(&p, end, &value)) {
        bool bytes = (tag & 7) == 2;
        if (bytes && value > (uint64_t)(end - p))
            return false;
        if (tag >> 3 == field) {
            if (bytes)
                *ret_bytes = (struct kp_bytes){p, (size_t)value};
            else
                *ret_number = value;
            return true;
        }
        p += bytes ? value : 0;
    }
    return false;
}

/* ---- requests ---- */

const char *load_path(const struct load *load, const struct client *client)
{
    if (client->is_watcher)
        return "/etcdserverpb.Watch/Watch";
    switch (load->kind) {
    case KIND_RANGE:
    case KIND_READY: return "/etcdserverpb.KV/Range";
    case KIND_TXN:
    case KIND_FILL: return "/etcdserverpb.KV/Txn";
    default: return "/etcdserverpb.KV/Put";
    }
}

static uint64_t chance(struct load *load, uint64_t bound)
{
    load->random ^= load->random << 13; /* xorshift64 */
    load->random ^= load->random >> 7;
    load->random ^= load->random << 17;
    return bound ? load->random % bound : 0;
}

static size_t key_text(const struct load *load, uint64_t number, char out[128])
{
    return (size_t)snprintf(out, 128, "%s%010llu", load->prefix, (unsigned long long)number);
}

static void put_request(const struct load *load, uint64_t number, struct kp_buf *out)
{
    char key[128];
    pb_bytes(out, 1, key, key_text(load, number, key));
    pb_bytes(out, 2, load->value, (size_t)load->value_bytes);
}

static void range_request(struct load *load, struct kp_buf *out)
{
    char key[128];
    uint64_t span = (uint64_t)load->limit, number = chance(load, (uint64_t)load->keys - span + 1);
    pb_bytes(out, 1, key, key_text(load, number, key));
    if (span > 1)
        pb_bytes(out, 2, key, key_text(load, number + span, key));
    if (load->serializable)
        pb_number(out, 7, 1);
}

/* What the API server sends for an update: if mod_revision is still the one known, put; else read. */
static void swap_request(const struct load *load, const struct client *client, struct kp_buf *out)
{
    char key[128];
    size_t key_len = key_text(load, client->number, key);
    KP_AUTO_BUF struct kp_buf part = {0};
    pb_number(&part, 2, 2); /* target MOD */
    pb_bytes(&part, 3, key, key_len);
    pb_number(&part, 6, (uint64_t)client->revision);
    pb_bytes(out, 1, part.data, part.len);
    KP_AUTO_BUF struct kp_buf put = {0}, op = {0}, range = {0}, other = {0};
    put_request(load, client->number, &put);
    pb_bytes(&op, 2, put.data, put.len);
    pb_bytes(out, 2, op.data, op.len);
    pb_bytes(&range, 1, key, key_len);
    pb_bytes(&other, 1, range.data, range.len);
    pb_bytes(out, 3, other.data, other.len);
}

static void fill_request(struct load *load, struct kp_buf *out)
{
    for (int i = 0; i < FILL_PUTS && load->next_key < (uint64_t)load->keys; i++) {
        KP_AUTO_BUF struct kp_buf put = {0}, op = {0};
        put_request(load, load->next_key++, &put);
        pb_bytes(&op, 2, put.data, put.len);
        pb_bytes(out, 2, op.data, op.len);
    }
}

static void watch_request(const struct load *load, struct kp_buf *out)
{
    KP_AUTO_BUF struct kp_buf create = {0}, end = {0};
    kp_buf_append(&end, load->prefix, strlen(load->prefix));
    end.data[end.len - 1]++;
    pb_bytes(&create, 1, load->prefix, strlen(load->prefix));
    pb_bytes(&create, 2, end.data, end.len);
    pb_bytes(out, 1, create.data, create.len);
}

static size_t frame_begin(struct kp_buf *out)
{
    kp_buf_append(out, "\0\0\0\0\0", 5); /* not compressed, and the length */
    return out->len;
}

static void frame_end(struct kp_buf *out, size_t begin)
{
    size_t len = out->len - begin;
    for (size_t i = 0; i < 4; i++)
        out->data[begin - 1 - i] = (char)(len >> (8 * i));
}

void load_next(struct load *load, struct client *client)
{
    struct kp_buf *out = &client->message;
    out->len = 0;
    client->sent_ns = load->now_ns;
    if (client->is_watcher) {
        for (int64_t i = 0; i < load->watchers / load->streams; i++) {
            size_t begin = frame_begin(out);
            watch_request(load, out);
            frame_end(out, begin);
        }
        conn_call(client->conn, client, out, false);
        return;
    }
    size_t begin = frame_begin(out);
    switch (load->kind) {
    case KIND_RANGE:
    case KIND_READY: range_request(load, out); break;
    case KIND_TXN: swap_request(load, client, out); break;
    case KIND_FILL:
        if (load->next_key >= (uint64_t)load->keys)
            return;
        fill_request(load, out);
        break;
    default: put_request(load, load->next_key++ % (uint64_t)load->keys, out);
    }
    frame_end(out, begin);
    load->started++;
    conn_call(client->conn, client, out, true);
}

/* ---- answers ---- */

/* Sixteen buckets to each power of two: three significant bits and a half. */
static size_t bucket_of(int64_t ns)
{
    uint64_t v = (uint64_t)KP_MAX(ns, (int64_t)1);
    unsigned top = 63 - (unsigned)__builtin_clzll(v);
    return top < 4 ? v : (top - 3) * 16 + ((v >> (top - 4)) & 15);
}

static void read_swap(struct load *load, struct client *client)
{
    struct kp_bytes message = {client->answer + 5, client->answer_len > 5 ? client->answer_len - 5 : 0}, header = {0};
    uint64_t revision = 0, succeeded = 0;
    if (pb_find(message, 1, &header, &revision) && pb_find(header, 3, &header, &revision) &&
        pb_find(message, 2, &header, &succeeded) && succeeded)
        client->revision = (int64_t)revision;
    else
        load->errors++;
}

void load_answered(struct load *load, struct stream *stream, bool ok)
{
    struct client *client = stream->client;
    if (client->is_watcher)
        load_die("a watch stream ended", &(struct kp_error){0});
    int64_t took_ns = load->now_ns - client->sent_ns;
    if (ok && load->kind == KIND_TXN)
        read_swap(load, client);
    load->errors += !ok;
    load->done++;
    load->histogram[KP_MIN(bucket_of(took_ns), (size_t)BUCKETS - 1)]++;
    load->latency_max_ns = KP_MAX(load->latency_max_ns, took_ns);
    if (!load->stopping)
        load_next(load, client);
}

enum { RESPONSE_WATCH_ID = 2, RESPONSE_CREATED = 3, RESPONSE_CANCELED = 4, RESPONSE_COMPACT = 5, RESPONSE_EVENTS = 11 };

static struct watched *watched_of(const struct load *load, const struct stream *stream)
{
    if (stream->watch_id >= (size_t)(load->watchers / load->streams))
        load_die("an event of a watch that is not there", &(struct kp_error){0});
    return &stream->client->watched[stream->watch_id];
}

void load_watched(struct load *load, struct stream *stream)
{
    switch (stream->field) {
    case RESPONSE_WATCH_ID: stream->watch_id = (size_t)stream->number; break;
    case RESPONSE_CREATED: load->watches_ready++; break;
    case RESPONSE_EVENTS:
        load->events++;
        load->last_event_ns = load->now_ns;
        watched_of(load, stream)->events++;
        stream->keep = stream->watch_id % LOOKED_AT == 0;
        stream->event_len = 0;
        break;
    case RESPONSE_CANCELED:
    case RESPONSE_COMPACT: load_die("a watch was cancelled", &(struct kp_error){0});
    default: break;
    }
}

/* Nobody else writes: the revisions of the puts follow one another. */
void load_event(struct load *load, struct stream *stream)
{
    struct watched *watched = watched_of(load, stream);
    struct kp_bytes event = {stream->event, stream->event_len}, kv = {0}, key = {0};
    const uint8_t *p = event.data, *end = event.data + event.len;
    uint64_t tag, len, create = 0, revision = 0;
    stream->keep = false;
    /* its KeyValue may be cut off behind the revisions: pb_find would not take it */
    bool good = read_varint(&p, end, &tag) && tag == (2 << 3 | 2) && read_varint(&p, end, &len);
    kv = (struct kp_bytes){p, good ? (size_t)(end - p) : 0};
    good = good && pb_find(kv, 1, &key, &tag) && pb_find(kv, 2, &key, &create) && pb_find(kv, 3, &key, &revision);
    if (!good || key.len < strlen(load->prefix) || memcmp(key.data, load->prefix, strlen(load->prefix)) != 0)
        load_die("an event that is no put of ours", &(struct kp_error){0});
    if (watched->revision && (int64_t)revision != watched->revision + 1)
        load_die("an event is out of order, or left out", &(struct kp_error){0});
    watched->revision = (int64_t)revision;
    load->decoded++;
}

void load_check_watched(struct load *load)
{
    for (int64_t i = 0; i < load->streams; i++)
        for (int64_t w = 0; w < load->watchers / load->streams; w++)
            load->errors += load->client_list[load->clients + i].watched[w].events != load->done;
}
