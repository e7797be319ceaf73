/* SPDY/3.1 frames (draft-mbelshe-httpbis-spdy-00 with session windows), for streams inside an upgraded connection. */
#include "lib/http/http.h"

#include <zlib.h>

enum { FLAG_FIN = 1, FLAG_UNIDIRECTIONAL = 2 };
enum { SYN_STREAM = 1, SYN_REPLY, RST_STREAM, SETTINGS, PING = 6, GOAWAY, HEADERS, WINDOW_UPDATE };
enum { RST_PROTOCOL_ERROR = 1, RST_INVALID_STREAM = 2, RST_REFUSED_STREAM = 3 };
#define DATA_FRAME_BYTES ((size_t)32 << 10)
#define ID_MASK 0x7fffffffu

struct spdy_stream {
    uint32_t id; /* 0: free place */
    bool sent_fin, got_fin;
};

struct spdy {
    bool server, dead, goaway;
    struct spdy_callbacks callbacks;
    void *arg;
    uint32_t next_id, last_peer_id, next_ping;
    struct spdy_stream streams[SPDY_STREAMS_MAX];
    struct kp_buf in, out;
    z_stream deflater, inflater;
};

/* The words both sides' compressors start with (2.6.10.1), in three parts: length-prefixed names, then plain text. */
static const char *const dictionary_names[] = {
    "options", "head", "post", "put", "delete", "trace", "accept", "accept-charset", "accept-encoding", "accept-language",
    "accept-ranges", "age", "allow", "authorization", "cache-control", "connection", "content-base", "content-encoding",
    "content-language", "content-length", "content-location", "content-md5", "content-range", "content-type", "date", "etag",
    "expect", "expires", "from", "host", "if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since",
    "last-modified", "location", "max-forwards", "pragma", "proxy-authenticate", "proxy-authorization", "range", "referer",
    "retry-after", "server", "te", "trailer", "transfer-encoding", "upgrade", "user-agent", "vary", "via", "warning",
    "www-authenticate", "method", "get", "status", "200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie",
    "keep-alive", "origin",
};
static const char dictionary_text[] =
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
    "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
    "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

static void put_u32(struct kp_buf *out, uint32_t value)
{
    const uint8_t bytes[] = { (uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8), (uint8_t)value };
    kp_buf_append(out, bytes, sizeof(bytes));
}

static uint32_t get_u32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void make_dictionary(struct kp_buf *out)
{
    for (size_t i = 0; i < KP_ARRAY_LEN(dictionary_names); i++) {
        put_u32(out, (uint32_t)strlen(dictionary_names[i]));
        kp_buf_puts(out, dictionary_names[i]);
    }
    kp_buf_puts(out, dictionary_text);
}

struct spdy *spdy_new(bool server, const struct spdy_callbacks *callbacks, void *arg)
{
    struct spdy *spdy = kp_calloc(1, sizeof(*spdy));
    KP_AUTO_BUF struct kp_buf dictionary = { 0 };
    spdy->server = server;
    spdy->callbacks = *callbacks;
    spdy->arg = arg;
    spdy->next_id = server ? 2 : 1;
    spdy->next_ping = server ? 2 : 1;
    make_dictionary(&dictionary);
    /* Small windows: a session has a handful of short header blocks. */
    KP_ASSERT(deflateInit2(&spdy->deflater, Z_BEST_SPEED, Z_DEFLATED, 11, 4, Z_DEFAULT_STRATEGY) == Z_OK);
    KP_ASSERT(deflateSetDictionary(&spdy->deflater, (Bytef *)dictionary.data, (uInt)dictionary.len) == Z_OK);
    KP_ASSERT(inflateInit(&spdy->inflater) == Z_OK);
    return spdy;
}

void spdy_free(struct spdy *spdy)
{
    if (!spdy)
        return;
    deflateEnd(&spdy->deflater);
    inflateEnd(&spdy->inflater);
    kp_buf_done(&spdy->in);
    kp_buf_done(&spdy->out);
    free(spdy);
}

static struct spdy_stream *find(struct spdy *spdy, uint32_t id)
{
    for (size_t i = 0; i < SPDY_STREAMS_MAX; i++)
        if (spdy->streams[i].id == id)
            return &spdy->streams[i];
    return NULL;
}

static struct spdy_stream *add(struct spdy *spdy, uint32_t id)
{
    struct spdy_stream *stream = find(spdy, 0);
    if (stream)
        *stream = (struct spdy_stream){ .id = id };
    return stream;
}

static void drop_if_over(struct spdy_stream *stream)
{
    if (stream->sent_fin && stream->got_fin)
        stream->id = 0;
}

/* ---- sending ---- */

static void put_control(struct spdy *spdy, unsigned type, unsigned flags, size_t len)
{
    put_u32(&spdy->out, 0x80030000u | type);
    put_u32(&spdy->out, flags << 24 | (uint32_t)len);
}

static void compress_headers(struct spdy *spdy, const struct http_header *headers, size_t count, struct kp_buf *out)
{
    KP_AUTO_BUF struct kp_buf plain = { 0 };
    put_u32(&plain, (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        size_t name_len = strlen(headers[i].name);
        put_u32(&plain, (uint32_t)name_len);
        for (size_t k = 0; k < name_len; k++) {
            char c = headers[i].name[k];
            kp_buf_putc(&plain, c >= 'A' && c <= 'Z' ? (char)(c + 'a' - 'A') : c);
        }
        put_u32(&plain, (uint32_t)strlen(headers[i].value));
        kp_buf_puts(&plain, headers[i].value);
    }
    z_stream *z = &spdy->deflater;
    size_t bound = deflateBound(z, plain.len) + 64;
    kp_buf_reserve(out, bound);
    z->next_in = (Bytef *)plain.data;
    z->avail_in = (uInt)plain.len;
    z->next_out = (Bytef *)out->data + out->len;
    z->avail_out = (uInt)bound;
    KP_ASSERT(deflate(z, Z_SYNC_FLUSH) == Z_OK && z->avail_in == 0);
    out->len += bound - z->avail_out;
    out->data[out->len] = '\0';
}

uint32_t spdy_open(struct spdy *spdy, const struct http_header *headers, size_t count, bool fin)
{
    struct spdy_stream *stream = spdy->goaway || spdy->dead ? NULL : add(spdy, spdy->next_id);
    if (!stream)
        return 0;
    spdy->next_id += 2;
    stream->sent_fin = fin;
    KP_AUTO_BUF struct kp_buf block = { 0 };
    compress_headers(spdy, headers, count, &block);
    put_control(spdy, SYN_STREAM, fin ? FLAG_FIN : 0, 10 + block.len);
    put_u32(&spdy->out, stream->id);
    put_u32(&spdy->out, 0);
    kp_buf_append(&spdy->out, "\0", 2); /* priority and slot: two zero bytes */
    kp_buf_append(&spdy->out, block.data, block.len);
    return stream->id;
}

void spdy_reply(struct spdy *spdy, uint32_t id, const struct http_header *headers, size_t count, bool fin)
{
    struct spdy_stream *stream = id ? find(spdy, id) : NULL;
    if (!stream)
        return;
    KP_AUTO_BUF struct kp_buf block = { 0 };
    compress_headers(spdy, headers, count, &block);
    put_control(spdy, SYN_REPLY, fin ? FLAG_FIN : 0, 4 + block.len);
    put_u32(&spdy->out, id);
    kp_buf_append(&spdy->out, block.data, block.len);
    stream->sent_fin = stream->sent_fin || fin;
    drop_if_over(stream);
}

int spdy_send(struct spdy *spdy, uint32_t id, const void *data, size_t len, bool fin)
{
    struct spdy_stream *stream = id ? find(spdy, id) : NULL;
    if (!stream || stream->sent_fin || spdy->dead)
        return KP_ECANCELLED;
    size_t at = 0;
    do {
        size_t part = KP_MIN(len - at, DATA_FRAME_BYTES);
        bool last = at + part == len;
        if (part == 0 && !fin)
            break;
        put_u32(&spdy->out, id);
        put_u32(&spdy->out, (last && fin ? (uint32_t)FLAG_FIN << 24 : 0) | (uint32_t)part);
        kp_buf_append(&spdy->out, (const uint8_t *)data + at, part);
        at += part;
    } while (at < len);
    stream->sent_fin = fin;
    drop_if_over(stream);
    return 0;
}

static void put_reset(struct spdy *spdy, uint32_t id, uint32_t status)
{
    put_control(spdy, RST_STREAM, 0, 8);
    put_u32(&spdy->out, id);
    put_u32(&spdy->out, status);
}

void spdy_reset(struct spdy *spdy, uint32_t id, uint32_t status)
{
    struct spdy_stream *stream = id ? find(spdy, id) : NULL;
    if (!stream)
        return;
    stream->id = 0;
    put_reset(spdy, id, status);
}

void spdy_ping(struct spdy *spdy)
{
    put_control(spdy, PING, 0, 4);
    put_u32(&spdy->out, spdy->next_ping);
    spdy->next_ping += 2;
}

void spdy_goaway(struct spdy *spdy)
{
    put_control(spdy, GOAWAY, 0, 8);
    put_u32(&spdy->out, spdy->last_peer_id);
    put_u32(&spdy->out, 0);
}

void spdy_take_output(struct spdy *spdy, struct kp_buf *out)
{
    kp_buf_append(out, spdy->out.data, spdy->out.len);
    kp_buf_done(&spdy->out);
}

/* ---- receiving ---- */

static int inflate_block(struct spdy *spdy, const uint8_t *data, size_t len, struct kp_buf *out, struct kp_error *error)
{
    z_stream *z = &spdy->inflater;
    char chunk[4096];
    z->next_in = (Bytef *)(uintptr_t)data;
    z->avail_in = (uInt)len;
    for (;;) {
        z->next_out = (Bytef *)chunk;
        z->avail_out = sizeof(chunk);
        int status = inflate(z, Z_SYNC_FLUSH);
        if (status == Z_NEED_DICT) {
            KP_AUTO_BUF struct kp_buf dictionary = { 0 };
            make_dictionary(&dictionary);
            if (inflateSetDictionary(z, (Bytef *)dictionary.data, (uInt)dictionary.len) != Z_OK)
                return kp_fail(error, KP_EBADREQUEST, "SPDY: unknown header dictionary");
            continue;
        }
        if (status != Z_OK && status != Z_BUF_ERROR)
            return kp_fail(error, KP_EBADREQUEST, "SPDY: header block does not decompress");
        kp_buf_append(out, chunk, sizeof(chunk) - z->avail_out);
        if (out->len > SPDY_HEADER_BYTES_MAX)
            return kp_fail(error, KP_ETOOLARGE, "SPDY: header block is too large");
        if (z->avail_out > 0) /* all of the input is used up */
            return 0;
    }
}

/* A length-prefixed string, copied; NULL when it does not fit. NULs inside (several values of
   one name) become commas. */
static char *take_string(struct kp_arena *arena, const uint8_t **p, const uint8_t *end)
{
    if (end - *p < 4)
        return NULL;
    uint32_t len = get_u32(*p);
    *p += 4;
    if (len > (size_t)(end - *p))
        return NULL;
    char *copy = kp_arena_alloc(arena, (size_t)len + 1);
    memcpy(copy, *p, len);
    for (uint32_t i = 0; i < len; i++)
        copy[i] = copy[i] ? copy[i] : ',';
    *p += len;
    return copy;
}

static int parse_headers(struct spdy *spdy, const uint8_t *data, size_t len, struct kp_arena *arena,
                         struct http_header **ret_headers, size_t *ret_count, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf plain = { 0 };
    int code = inflate_block(spdy, data, len, &plain, error);
    if (code < 0)
        return code;
    const uint8_t *p = (const uint8_t *)plain.data, *end = p + plain.len;
    uint32_t count = plain.len >= 4 ? get_u32(p) : UINT32_MAX;
    if (count > HTTP_HEADER_COUNT_MAX)
        return kp_fail(error, KP_EBADREQUEST, "SPDY: bad number of headers");
    p += 4;
    struct http_header *headers = KP_NEW_ARRAY(arena, struct http_header, count + 1);
    for (uint32_t i = 0; i < count; i++) {
        headers[i].name = take_string(arena, &p, end);
        headers[i].value = headers[i].name ? take_string(arena, &p, end) : NULL;
        if (!headers[i].value)
            return kp_fail(error, KP_EBADREQUEST, "SPDY: header block is cut short");
    }
    *ret_headers = headers;
    *ret_count = count;
    return 0;
}

static void opened(struct spdy *spdy, uint32_t id, bool fin, bool one_way, const struct http_header *headers, size_t count)
{
    bool theirs = (id & 1) == (spdy->server ? 1u : 0u);
    if (!theirs || id <= spdy->last_peer_id) {
        put_reset(spdy, id, RST_PROTOCOL_ERROR);
        return;
    }
    spdy->last_peer_id = id;
    struct spdy_stream *stream = add(spdy, id);
    if (!stream) {
        put_reset(spdy, id, RST_REFUSED_STREAM);
        return;
    }
    stream->got_fin = fin;
    stream->sent_fin = one_way;
    drop_if_over(stream);
    spdy->callbacks.on_open(spdy, id, headers, count, fin, spdy->arg);
}

static int header_frame(struct spdy *spdy, unsigned type, unsigned flags, const uint8_t *p, size_t len, struct kp_error *error)
{
    size_t fixed = type == SYN_STREAM ? 10 : 4, count = 0;
    struct http_header *headers = NULL;
    if (len < fixed)
        return kp_fail(error, KP_EBADREQUEST, "SPDY: frame of type %u is too short", type);
    uint32_t id = get_u32(p) & ID_MASK;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    /* Even a block nobody wants must be decompressed: the state is shared by all of them. */
    int code = parse_headers(spdy, p + fixed, len - fixed, arena, &headers, &count, error);
    if (code < 0)
        return code;
    if (type == SYN_STREAM) {
        opened(spdy, id, flags & FLAG_FIN, flags & FLAG_UNIDIRECTIONAL, headers, count);
        return 0;
    }
    struct spdy_stream *stream = id ? find(spdy, id) : NULL;
    if (!stream || type == HEADERS)
        return 0;
    stream->got_fin = stream->got_fin || flags & FLAG_FIN;
    drop_if_over(stream);
    spdy->callbacks.on_reply(spdy, id, headers, count, flags & FLAG_FIN, spdy->arg);
    return 0;
}

static int control_frame(struct spdy *spdy, unsigned type, unsigned flags, const uint8_t *p, size_t len, struct kp_error *error)
{
    struct spdy_stream *stream;
    switch (type) {
    case SYN_STREAM:
    case SYN_REPLY:
    case HEADERS:
        return header_frame(spdy, type, flags, p, len, error);
    case RST_STREAM:
        stream = len == 8 && get_u32(p) & ID_MASK ? find(spdy, get_u32(p) & ID_MASK) : NULL;
        if (stream) {
            uint32_t id = stream->id;
            stream->id = 0;
            spdy->callbacks.on_reset(spdy, id, get_u32(p + 4), spdy->arg);
        }
        return 0;
    case PING:
        if (len == 4 && (get_u32(p) & 1) == (spdy->server ? 1u : 0u)) { /* the peer's own: send it back */
            put_control(spdy, PING, 0, 4);
            put_u32(&spdy->out, get_u32(p));
        }
        return 0;
    case GOAWAY:
        spdy->goaway = true;
        if (spdy->callbacks.on_goaway)
            spdy->callbacks.on_goaway(spdy, spdy->arg);
        return 0;
    default: /* SETTINGS, WINDOW_UPDATE, CREDENTIAL and what is unknown change nothing for us */
        return 0;
    }
}

static void put_window_update(struct spdy *spdy, uint32_t id, size_t len)
{
    put_control(spdy, WINDOW_UPDATE, 0, 8);
    put_u32(&spdy->out, id);
    put_u32(&spdy->out, (uint32_t)len);
}

static void data_frame(struct spdy *spdy, uint32_t id, bool fin, const uint8_t *data, size_t len)
{
    struct spdy_stream *stream = id ? find(spdy, id) : NULL;
    if (len)
        put_window_update(spdy, 0, len);
    if (!stream || stream->got_fin) {
        put_reset(spdy, id, RST_INVALID_STREAM);
        return;
    }
    if (len && !fin)
        put_window_update(spdy, id, len);
    stream->got_fin = fin;
    drop_if_over(stream);
    spdy->callbacks.on_data(spdy, id, data, len, fin, spdy->arg);
}

static int frame(struct spdy *spdy, const uint8_t *p, size_t len, struct kp_error *error)
{
    uint32_t first = get_u32(p);
    unsigned flags = p[4];
    if (!(first & ~ID_MASK)) {
        data_frame(spdy, first, flags & FLAG_FIN, p + 8, len);
        return 0;
    }
    if ((first >> 16 & 0x7fff) != 3)
        return kp_fail(error, KP_EBADREQUEST, "SPDY: version %u instead of 3", first >> 16 & 0x7fff);
    return control_frame(spdy, first & 0xffff, flags, p + 8, len, error);
}

int spdy_feed(struct spdy *spdy, const void *data, size_t len, struct kp_error *error)
{
    if (spdy->dead)
        return kp_fail(error, KP_EBADREQUEST, "SPDY: the session has failed before");
    kp_buf_append(&spdy->in, data, len);
    size_t at = 0;
    int code = 0;
    while (code == 0 && spdy->in.len - at >= 8) {
        const uint8_t *p = (const uint8_t *)spdy->in.data + at;
        size_t frame_len = get_u32(p + 4) & 0xffffff;
        if (frame_len > SPDY_FRAME_BYTES_MAX)
            code = kp_fail(error, KP_ETOOLARGE, "SPDY: frame of %zu bytes", frame_len);
        else if (spdy->in.len - at - 8 < frame_len)
            break;
        else
            code = frame(spdy, p, frame_len, error);
        at += 8 + frame_len;
    }
    if (code < 0)
        spdy->dead = true;
    if (at >= spdy->in.len)
        kp_buf_done(&spdy->in);
    else
        kp_buf_consume(&spdy->in, at);
    return code;
}
