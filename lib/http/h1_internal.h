/* HTTP/1 message syntax (RFC 9112): pure parsing, no I/O. */
#ifndef KP_HTTP_H1_INTERNAL_H
#define KP_HTTP_H1_INTERNAL_H

#include "lib/http/http.h"

#define H1_TRAILER_BYTES_MAX ((size_t)8 << 10)
#define H1_CHUNK_LINE_MAX 256 /* size and extensions of one chunk */

struct h1_head {
    const char *method, *target;          /* requests */
    int status;                           /* responses */
    enum http_version version;            /* HTTP_1_0 or HTTP_1_1 */
    const struct http_header *headers;
    size_t header_count;
    int64_t content_length;               /* -1: none given */
    bool chunked;
    bool keep_alive;                      /* by version and Connection */
    bool upgrade;                         /* Connection: upgrade and an Upgrade header */
    bool expect_continue;
};

/* Length of the head with its blank line, or 0 while it is not complete. *scan (0 at first) remembers where to go on. */
size_t h1_head_length(const char *data, size_t len, size_t *scan);
/* Parses len bytes, which end with the blank line. Text is copied to the arena. 0 or KP_EBADREQUEST; *ret_status then is
   the status a server should answer (400, 431, 501, 505). */
int h1_parse_head(const char *data, size_t len, bool is_request, struct kp_arena *arena, struct h1_head *ret_head,
                  int *ret_status, struct kp_error *error);
/* Parses "name: value" lines, each ended by CRLF. lower: names are lower-cased. */
int h1_parse_fields(char *text, size_t len, struct kp_arena *arena, bool lower, const struct http_header **ret_headers,
                    size_t *ret_count, struct kp_error *error);

enum h1_body_kind { H1_BODY_NONE, H1_BODY_LENGTH, H1_BODY_CHUNKED, H1_BODY_UNTIL_EOF };
struct h1_body {
    enum h1_body_kind kind;
    int state;
    uint64_t left; /* of the body, or of this chunk */
    char line[H1_CHUNK_LINE_MAX];
    size_t line_len;
    struct kp_buf trailers; /* raw lines */
};
void h1_body_init(struct h1_body *body, enum h1_body_kind kind, uint64_t length);
void h1_body_done(struct h1_body *body);
/* Takes some of data: *ret_used bytes of it, of which a run of *ret_out_len at *ret_out is body. Returns 1 when the body is
   complete, 0 when there is more to come (call again while bytes are left), or KP_EBADREQUEST. */
int h1_body_feed(struct h1_body *body, const uint8_t *data, size_t len, size_t *ret_used, const uint8_t **ret_out,
                 size_t *ret_out_len);
bool h1_is_token(const char *s, size_t len);
bool h1_is_field_value(const char *s, size_t len);

#endif
