/* Parses heads of HTTP/1 messages, strictly: what two readers could frame differently is refused (RFC 9112 11.2). */
#include "lib/http/h1_internal.h"

#include <strings.h>

static const char token_chars[256] = {
    ['!'] = 1, ['#'] = 1, ['$'] = 1, ['%'] = 1, ['&'] = 1, ['\''] = 1, ['*'] = 1, ['+'] = 1, ['-'] = 1, ['.'] = 1,
    ['^'] = 1, ['_'] = 1, ['`'] = 1, ['|'] = 1, ['~'] = 1, ['0' ... '9'] = 1, ['A' ... 'Z'] = 1, ['a' ... 'z'] = 1,
};

bool h1_is_token(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!token_chars[(uint8_t)s[i]])
            return false;
    return len > 0;
}

bool h1_is_field_value(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (((uint8_t)s[i] < 0x20 && s[i] != '\t') || s[i] == 0x7f)
            return false;
    return true;
}

size_t h1_head_length(const char *data, size_t len, size_t *scan)
{
    size_t i = *scan;
    while (i < len) {
        const char *lf = memchr(data + i, '\n', len - i);
        if (!lf)
            break;
        size_t at = (size_t)(lf - data);
        /* A blank line: CRLF CRLF; bare LFs end here too, so that the parser sees and refuses them at once. */
        if ((at >= 3 && memcmp(lf - 3, "\r\n\r\n", 4) == 0) || (at >= 1 && lf[-1] == '\n'))
            return at + 1;
        i = at + 1;
    }
    *scan = i;
    return 0;
}

int h1_parse_fields(char *text, size_t len, struct kp_arena *arena, bool lower, const struct http_header **ret_headers,
                    size_t *ret_count, struct kp_error *error)
{
    size_t lines = 0;
    for (size_t i = 0; i < len; i++)
        lines += text[i] == '\n';
    if (lines > HTTP_HEADER_COUNT_MAX)
        return kp_fail(error, KP_ETOOLARGE, "more than %d header lines", HTTP_HEADER_COUNT_MAX);
    struct http_header *headers = KP_NEW_ARRAY(arena, struct http_header, lines + 1);
    size_t count = 0;
    for (char *line = text, *end = text + len; line < end;) {
        char *lf = memchr(line, '\n', (size_t)(end - line));
        if (!lf || lf == line || lf[-1] != '\r')
            return kp_fail(error, KP_EBADREQUEST, "header line does not end with CRLF");
        char *stop = lf - 1;
        char *colon = memchr(line, ':', (size_t)(stop - line));
        /* A line that begins with white space (obsolete folding) or has some before the colon is no token. */
        if (!colon || !h1_is_token(line, (size_t)(colon - line)))
            return kp_fail(error, KP_EBADREQUEST, "bad header name");
        char *value = colon + 1;
        while (value < stop && (*value == ' ' || *value == '\t'))
            value++;
        while (stop > value && (stop[-1] == ' ' || stop[-1] == '\t'))
            stop--;
        if (!h1_is_field_value(value, (size_t)(stop - value)))
            return kp_fail(error, KP_EBADREQUEST, "bad character in a header value");
        *colon = '\0';
        *stop = '\0';
        for (char *c = line; lower && *c; c++)
            if (*c >= 'A' && *c <= 'Z')
                *c += 'a' - 'A';
        headers[count++] = (struct http_header){ line, value };
        line = lf + 1;
    }
    *ret_headers = headers;
    *ret_count = count;
    return 0;
}

static int parse_version(const char *s, size_t len, enum http_version *ret_version)
{
    if (len != 8 || memcmp(s, "HTTP/1.", 7) != 0 || (s[7] != '0' && s[7] != '1'))
        return KP_EBADREQUEST;
    *ret_version = s[7] == '1' ? HTTP_1_1 : HTTP_1_0;
    return 0;
}

static int parse_request_line(char *line, size_t len, struct h1_head *head, int *ret_status, struct kp_error *error)
{
    char *space = memchr(line, ' ', len);
    char *last = space ? memrchr(line, ' ', len) : NULL;
    if (!space || last == space || !h1_is_token(line, (size_t)(space - line)))
        return kp_fail(error, KP_EBADREQUEST, "bad request line");
    char *target = space + 1;
    for (char *c = target; c < last; c++)
        if ((uint8_t)*c <= 0x20 || *c == 0x7f)
            return kp_fail(error, KP_EBADREQUEST, "bad character in the request target");
    if (parse_version(last + 1, len - (size_t)(last + 1 - line), &head->version) < 0) {
        *ret_status = memcmp(last + 1, "HTTP/", KP_MIN((size_t)5, len - (size_t)(last + 1 - line))) == 0 ? 505 : 400;
        return kp_fail(error, KP_EBADREQUEST, "HTTP version is not 1.0 or 1.1");
    }
    *space = '\0';
    *last = '\0';
    head->method = line;
    head->target = target;
    if (target[0] == '/' || (kp_streq(target, "*") && kp_streq(line, "OPTIONS")))
        return 0;
    if (strncasecmp(target, "http://", 7) == 0 || strncasecmp(target, "https://", 8) == 0) {
        const char *path = strchr(strstr(target, "//") + 2, '/'); /* absolute form: the authority is not looked at */
        head->target = path ? path : "/";
        return 0;
    }
    return kp_fail(error, KP_EBADREQUEST, "request target is not a path");
}

static int parse_status_line(char *line, size_t len, struct h1_head *head, struct kp_error *error)
{
    if (len < 12 || parse_version(line, 8, &head->version) < 0 || line[8] != ' ' || (len > 12 && line[12] != ' '))
        return kp_fail(error, KP_EBADREQUEST, "bad status line");
    for (int i = 9; i < 12; i++) {
        if (line[i] < '0' || line[i] > '9')
            return kp_fail(error, KP_EBADREQUEST, "bad status code");
        head->status = head->status * 10 + line[i] - '0';
    }
    return head->status >= 100 ? 0 : kp_fail(error, KP_EBADREQUEST, "bad status code");
}

/* Content-Length, Transfer-Encoding, Connection, Host and Expect: what frames the message. */
static int read_framing(struct h1_head *head, bool is_request, int *ret_status, struct kp_error *error)
{
    size_t hosts = 0;
    head->content_length = -1;
    for (size_t i = 0; i < head->header_count; i++) {
        const char *name = head->headers[i].name, *value = head->headers[i].value;
        if (strcasecmp(name, "content-length") == 0) {
            uint64_t length = 0;
            bool digits = *value != '\0';
            for (const char *c = value; *c; c++)
                digits = digits && *c >= '0' && *c <= '9';
            if (head->content_length >= 0 || !digits || kp_parse_u64(value, &length) < 0 || length > INT64_MAX)
                return kp_fail(error, KP_EBADREQUEST, "bad Content-Length");
            head->content_length = (int64_t)length;
        } else if (strcasecmp(name, "transfer-encoding") == 0) {
            if (head->chunked)
                return kp_fail(error, KP_EBADREQUEST, "Transfer-Encoding twice");
            if (strcasecmp(value, "chunked") != 0) {
                *ret_status = 501;
                return kp_fail(error, KP_EBADREQUEST, "Transfer-Encoding other than chunked");
            }
            head->chunked = true;
        } else if (strcasecmp(name, "host") == 0) {
            hosts++;
        } else if (strcasecmp(name, "expect") == 0) {
            head->expect_continue = strcasecmp(value, "100-continue") == 0;
        }
    }
    if (head->chunked && (head->content_length >= 0 || head->version == HTTP_1_0))
        return kp_fail(error, KP_EBADREQUEST, "Transfer-Encoding together with Content-Length or HTTP/1.0");
    if (is_request && (hosts > 1 || (hosts == 0 && head->version == HTTP_1_1)))
        return kp_fail(error, KP_EBADREQUEST, "exactly one Host header is needed");
    bool close = http_header_has_token(head->headers, head->header_count, "connection", "close");
    bool keep = http_header_has_token(head->headers, head->header_count, "connection", "keep-alive");
    head->keep_alive = head->version == HTTP_1_1 ? !close : keep && !close;
    head->upgrade = head->version == HTTP_1_1 && http_header_get(head->headers, head->header_count, "upgrade") &&
                    http_header_has_token(head->headers, head->header_count, "connection", "upgrade");
    return 0;
}

int h1_parse_head(const char *data, size_t len, bool is_request, struct kp_arena *arena, struct h1_head *ret_head,
                  int *ret_status, struct kp_error *error)
{
    struct h1_head head = { 0 };
    *ret_status = 400;
    if (memchr(data, '\0', len))
        return kp_fail(error, KP_EBADREQUEST, "NUL byte in the head");
    char *text = kp_arena_strndup(arena, data, len);
    char *lf = memchr(text, '\n', len);
    if (!lf || lf == text || lf[-1] != '\r' || len < 4 || memcmp(text + len - 4, "\r\n\r\n", 4) != 0)
        return kp_fail(error, KP_EBADREQUEST, "lines of the head do not end with CRLF");
    lf[-1] = '\0';
    size_t line_len = (size_t)(lf - 1 - text);
    int code = is_request ? parse_request_line(text, line_len, &head, ret_status, error)
                          : parse_status_line(text, line_len, &head, error);
    if (code < 0)
        return code;
    char *fields = lf + 1;
    size_t fields_len = len - (size_t)(fields - text) - 2;
    code = h1_parse_fields(fields, fields_len, arena, !is_request, &head.headers, &head.header_count, error);
    if (code == KP_ETOOLARGE)
        *ret_status = 431;
    if (code < 0)
        return KP_EBADREQUEST;
    if (read_framing(&head, is_request, ret_status, error) < 0)
        return KP_EBADREQUEST;
    *ret_head = head;
    return 0;
}
