/* Frames HTTP/1 bodies: by length, by chunks (RFC 9112 7.1), or up to the end of the connection. */
#include "lib/http/h1_internal.h"

enum { CHUNK_SIZE, CHUNK_DATA, CHUNK_CR, CHUNK_LF, CHUNK_TRAILERS, CHUNK_OVER };

void h1_body_init(struct h1_body *body, enum h1_body_kind kind, uint64_t length)
{
    h1_body_done(body);
    body->kind = kind == H1_BODY_LENGTH && length == 0 ? H1_BODY_NONE : kind;
    body->state = CHUNK_SIZE;
    body->left = length;
    body->line_len = 0;
}

void h1_body_done(struct h1_body *body)
{
    kp_buf_done(&body->trailers);
}

/* "1a2b" or "1a2b;extension": at most 15 digits, so that nothing overflows. */
static int parse_chunk_size(const char *line, size_t len, uint64_t *ret_size)
{
    uint64_t size = 0;
    size_t i = 0;
    for (; i < len; i++) {
        char c = line[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (digit < 0)
            break;
        size = size << 4 | (uint64_t)digit;
    }
    if (i == 0 || i > 15)
        return KP_EBADREQUEST;
    size_t digits = i;
    while (i < len && (line[i] == ' ' || line[i] == '\t'))
        i++;
    if (i < len && (line[i] != ';' || !h1_is_field_value(line + digits, len - digits)))
        return KP_EBADREQUEST;
    if (i == len && i != digits)
        return KP_EBADREQUEST;
    *ret_size = size;
    return 0;
}

/* Collects one line without its CRLF in body->line. 1 when complete, 0 when more is needed. */
static int take_line(struct h1_body *body, const uint8_t *data, size_t len, size_t *ret_used)
{
    for (size_t i = 0; i < len; i++) {
        char c = (char)data[i];
        if (c == '\n') {
            *ret_used = i + 1;
            if (body->line_len == 0 || body->line[body->line_len - 1] != '\r')
                return KP_EBADREQUEST;
            body->line_len--;
            return 1;
        }
        if (body->line_len == sizeof(body->line) || (body->line_len > 0 && body->line[body->line_len - 1] == '\r'))
            return KP_EBADREQUEST;
        body->line[body->line_len++] = c;
    }
    *ret_used = len;
    return 0;
}

/* Trailer lines can be longer than a chunk line: they go to a buffer. 1 at the blank line. */
static int take_trailers(struct h1_body *body, const uint8_t *data, size_t len, size_t *ret_used)
{
    for (size_t i = 0; i < len; i++) {
        if (body->trailers.len >= H1_TRAILER_BYTES_MAX)
            return KP_EBADREQUEST;
        kp_buf_putc(&body->trailers, (char)data[i]);
        size_t n = body->trailers.len;
        const char *t = body->trailers.data;
        if (data[i] != '\n')
            continue;
        if (n < 2 || t[n - 2] != '\r')
            return KP_EBADREQUEST;
        if (n == 2 || (n >= 4 && t[n - 3] == '\n')) {
            body->trailers.len = n - 2;
            body->trailers.data[n - 2] = '\0';
            *ret_used = i + 1;
            return 1;
        }
    }
    *ret_used = len;
    return 0;
}

static int feed_chunked(struct h1_body *body, const uint8_t *data, size_t len, size_t *ret_used, const uint8_t **ret_out,
                        size_t *ret_out_len)
{
    int status;
    switch (body->state) {
    case CHUNK_SIZE:
        status = take_line(body, data, len, ret_used);
        if (status <= 0)
            return status;
        if (parse_chunk_size(body->line, body->line_len, &body->left) < 0)
            return KP_EBADREQUEST;
        body->line_len = 0;
        body->state = body->left ? CHUNK_DATA : CHUNK_TRAILERS;
        return 0;
    case CHUNK_DATA:
        *ret_out = data;
        *ret_used = *ret_out_len = (size_t)KP_MIN((uint64_t)len, body->left);
        body->left -= *ret_used;
        if (body->left == 0)
            body->state = CHUNK_CR;
        return 0;
    case CHUNK_CR:
    case CHUNK_LF:
        if (data[0] != (body->state == CHUNK_CR ? '\r' : '\n'))
            return KP_EBADREQUEST;
        *ret_used = 1;
        body->state = body->state == CHUNK_CR ? CHUNK_LF : CHUNK_SIZE;
        return 0;
    case CHUNK_TRAILERS:
        status = take_trailers(body, data, len, ret_used);
        if (status == 1)
            body->state = CHUNK_OVER;
        return status;
    default:
        return 1;
    }
}

int h1_body_feed(struct h1_body *body, const uint8_t *data, size_t len, size_t *ret_used, const uint8_t **ret_out,
                 size_t *ret_out_len)
{
    *ret_used = *ret_out_len = 0;
    *ret_out = NULL;
    if (body->kind == H1_BODY_NONE)
        return 1;
    if (len == 0)
        return 0;
    switch (body->kind) {
    case H1_BODY_LENGTH:
        *ret_out = data;
        *ret_used = *ret_out_len = (size_t)KP_MIN((uint64_t)len, body->left);
        body->left -= *ret_used;
        return body->left == 0;
    case H1_BODY_CHUNKED:
        return feed_chunked(body, data, len, ret_used, ret_out, ret_out_len);
    default:
        *ret_out = data;
        *ret_used = *ret_out_len = len;
        return 0;
    }
}
