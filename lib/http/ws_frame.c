/* WebSocket framing (RFC 6455 5): an incremental parser and a serialiser, without I/O. */
#include "lib/http/http.h"
#include "lib/tls/tls.h"

#define CONTROL_BYTES_MAX 125

void ws_accept_key(const char *key, char out[WS_ACCEPT_BYTES])
{
    uint8_t digest[TLS_SHA1_BYTES];
    KP_AUTO_BUF struct kp_buf buf = { 0 };
    kp_buf_puts(&buf, key);
    kp_buf_puts(&buf, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"); /* RFC 6455 1.3 */
    tls_sha1(buf.data, buf.len, digest);
    buf.len = 0;
    kp_base64_encode(&buf, digest, sizeof(digest));
    snprintf(out, WS_ACCEPT_BYTES, "%s", buf.data);
}

struct ws_parser {
    struct ws_parser_config config;
    uint8_t head[14];
    size_t head_len;
    bool in_payload, fin, masked, over;
    enum ws_opcode opcode;  /* of this frame */
    enum ws_opcode message; /* of the fragmented message under way; WS_CONTINUATION when none is */
    uint8_t mask[4];
    uint64_t left, at;
    struct kp_buf data;    /* of the message */
    struct kp_buf control; /* of a control frame, which may come between fragments */
};

struct ws_parser *ws_parser_new(const struct ws_parser_config *config)
{
    struct ws_parser *parser = kp_calloc(1, sizeof(*parser));
    parser->config = *config;
    if (!parser->config.message_bytes_max)
        parser->config.message_bytes_max = WS_MESSAGE_BYTES_MAX_DEFAULT;
    return parser;
}

void ws_parser_free(struct ws_parser *parser)
{
    if (!parser)
        return;
    kp_buf_done(&parser->data);
    kp_buf_done(&parser->control);
    free(parser);
}

static int stop(struct ws_parser *parser, int code, int close_code, int *ret_close_code)
{
    parser->over = true;
    *ret_close_code = close_code;
    return code;
}

static size_t head_needed(const struct ws_parser *parser)
{
    if (parser->head_len < 2)
        return 2;
    unsigned short_len = parser->head[1] & 0x7f;
    return 2 + (short_len == 126 ? 2u : short_len == 127 ? 8u : 0u) + (parser->head[1] & 0x80 ? 4u : 0u);
}

/* The head is complete: checks it and sets up the payload. */
static int begin_frame(struct ws_parser *parser, int *ret_close_code)
{
    const uint8_t *h = parser->head;
    size_t at = 2;
    uint64_t len = h[1] & 0x7f;
    if (len >= 126) {
        size_t bytes = len == 126 ? 2 : 8;
        len = 0;
        for (size_t i = 0; i < bytes; i++)
            len = len << 8 | h[at++];
        if (len <= (bytes == 2 ? 125u : 65535u)) /* must be the shortest form */
            return stop(parser, KP_EBADREQUEST, WS_CLOSE_PROTOCOL_ERROR, ret_close_code);
    }
    parser->fin = h[0] & 0x80;
    parser->masked = h[1] & 0x80;
    parser->opcode = h[0] & 0x0f;
    memcpy(parser->mask, h + at, parser->masked ? 4 : 0);
    bool control = parser->opcode >= WS_CLOSE;
    bool known = parser->opcode <= WS_BINARY || (control && parser->opcode <= WS_PONG);
    bool in_message = parser->message != WS_CONTINUATION;
    bool sequence_ok = control || (parser->opcode == WS_CONTINUATION) == in_message;
    if (h[0] & 0x70 || !known || parser->masked != parser->config.server || !sequence_ok ||
        (control && (!parser->fin || len > CONTROL_BYTES_MAX)))
        return stop(parser, KP_EBADREQUEST, WS_CLOSE_PROTOCOL_ERROR, ret_close_code);
    if (!control && (len > parser->config.message_bytes_max || parser->data.len + len > parser->config.message_bytes_max))
        return stop(parser, KP_ETOOLARGE, WS_CLOSE_TOO_BIG, ret_close_code);
    if (!control && parser->opcode != WS_CONTINUATION)
        parser->message = parser->opcode;
    parser->left = len;
    parser->at = 0;
    parser->in_payload = true;
    return 0;
}

static bool is_utf8(const uint8_t *s, size_t len)
{
    for (size_t i = 0; i < len;) {
        uint8_t c = s[i];
        size_t extra = c < 0x80 ? 0 : c >= 0xc2 && c < 0xe0 ? 1 : c >= 0xe0 && c < 0xf0 ? 2 : c >= 0xf0 && c < 0xf5 ? 3 : 9;
        if (extra == 9 || extra >= len - i)
            return false;
        for (size_t k = 1; k <= extra; k++)
            if ((s[i + k] & 0xc0) != 0x80)
                return false;
        if ((c == 0xe0 && s[i + 1] < 0xa0) || (c == 0xed && s[i + 1] > 0x9f) || (c == 0xf0 && s[i + 1] < 0x90) ||
            (c == 0xf4 && s[i + 1] > 0x8f))
            return false;
        i += extra + 1;
    }
    return true;
}

static bool close_payload_ok(const struct kp_buf *payload)
{
    if (payload->len == 0)
        return true;
    if (payload->len == 1)
        return false;
    const uint8_t *p = (const uint8_t *)payload->data;
    unsigned code = (unsigned)p[0] << 8 | p[1];
    bool defined = (code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006) || (code >= 3000 && code <= 4999);
    return defined && is_utf8(p + 2, payload->len - 2);
}

static int end_frame(struct ws_parser *parser, int *ret_close_code)
{
    parser->in_payload = false;
    parser->head_len = 0;
    bool control = parser->opcode >= WS_CLOSE;
    if (!control && !parser->fin)
        return 0;
    struct kp_buf *buf = control ? &parser->control : &parser->data;
    enum ws_opcode opcode = control ? parser->opcode : parser->message;
    if (opcode == WS_TEXT && !is_utf8((const uint8_t *)buf->data, buf->len))
        return stop(parser, KP_EBADREQUEST, WS_CLOSE_BAD_DATA, ret_close_code);
    if (opcode == WS_CLOSE && !close_payload_ok(buf))
        return stop(parser, KP_EBADREQUEST, WS_CLOSE_PROTOCOL_ERROR, ret_close_code);
    if (!control)
        parser->message = WS_CONTINUATION;
    int code = parser->config.on_message(opcode, (const uint8_t *)(buf->data ? buf->data : ""), buf->len, parser->config.arg);
    kp_buf_done(buf); /* an idle connection holds no buffer */
    if (opcode == WS_CLOSE)
        parser->over = true;
    return code < 0 ? stop(parser, code, WS_CLOSE_INTERNAL, ret_close_code) : 0;
}

static void take_payload(struct ws_parser *parser, const uint8_t *data, size_t len)
{
    struct kp_buf *buf = parser->opcode >= WS_CLOSE ? &parser->control : &parser->data;
    size_t start = buf->len;
    kp_buf_append(buf, data, len);
    for (size_t i = 0; parser->masked && i < len; i++)
        buf->data[start + i] = (char)((uint8_t)buf->data[start + i] ^ parser->mask[(parser->at + i) & 3]);
    parser->at += len;
    parser->left -= len;
}

int ws_parser_feed(struct ws_parser *parser, const uint8_t *data, size_t len, int *ret_close_code)
{
    size_t at = 0;
    *ret_close_code = WS_CLOSE_NORMAL;
    while (!parser->over && (at < len || (parser->in_payload && parser->left == 0))) {
        int code = 0;
        if (!parser->in_payload) {
            parser->head[parser->head_len++] = data[at++];
            if (parser->head_len == head_needed(parser))
                code = begin_frame(parser, ret_close_code);
        } else {
            size_t count = (size_t)KP_MIN((uint64_t)(len - at), parser->left);
            take_payload(parser, data + at, count);
            at += count;
            if (parser->left == 0)
                code = end_frame(parser, ret_close_code);
        }
        if (code < 0)
            return code;
    }
    return 0;
}

void ws_frame_append(struct kp_buf *out, enum ws_opcode opcode, const void *data, size_t len, bool mask)
{
    uint8_t head[14], key[4] = { 0 };
    size_t n = 2;
    head[0] = (uint8_t)(0x80 | opcode);
    if (len < 126) {
        head[1] = (uint8_t)len;
    } else {
        size_t bytes = len <= UINT16_MAX ? 2 : 8;
        head[1] = bytes == 2 ? 126 : 127;
        for (size_t i = bytes; i-- > 0;)
            head[n++] = (uint8_t)((uint64_t)len >> (8 * i));
    }
    if (mask) {
        head[1] |= 0x80;
        kp_random_bytes(key, sizeof(key));
        memcpy(head + n, key, sizeof(key));
        n += sizeof(key);
    }
    kp_buf_reserve(out, n + len);
    kp_buf_append(out, head, n);
    size_t start = out->len;
    kp_buf_append(out, data, len);
    for (size_t i = 0; mask && i < len; i++)
        out->data[start + i] = (char)((uint8_t)out->data[start + i] ^ key[i & 3]);
}
