/* URLs, percent escapes and query strings. */
#include "lib/http/http.h"

#include <strings.h>

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

char *http_percent_decode(struct kp_arena *arena, const char *s, size_t len, bool plus_is_space)
{
    char *out = kp_arena_alloc(arena, len + 1);
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        char c = s[i];
        if (c == '%') {
            if (len - i < 3 || hex_digit(s[i + 1]) < 0 || hex_digit(s[i + 2]) < 0)
                return NULL;
            c = (char)(hex_digit(s[i + 1]) << 4 | hex_digit(s[i + 2]));
            i += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        if (c == '\0')
            return NULL;
        out[n++] = c;
    }
    out[n] = '\0';
    return out;
}

static bool is_unreserved(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c && strchr("-._~", c));
}

void http_percent_encode(struct kp_buf *out, const char *s, bool keep_slash)
{
    for (; *s; s++) {
        if (is_unreserved(*s) || (keep_slash && *s == '/'))
            kp_buf_putc(out, *s);
        else
            kp_buf_printf(out, "%%%02X", (unsigned)(uint8_t)*s);
    }
}

void http_query_append(struct kp_buf *out, const char *name, const char *value)
{
    bool first = !out->data || !memchr(out->data, '?', out->len);
    kp_buf_putc(out, first ? '?' : '&');
    http_percent_encode(out, name, false);
    kp_buf_putc(out, '=');
    http_percent_encode(out, value, false);
}

bool http_query_next(struct kp_arena *arena, const char **iter, const char **ret_name, const char **ret_value)
{
    while (**iter) {
        const char *pair = *iter;
        size_t len = strcspn(pair, "&");
        *iter = pair + len + (pair[len] == '&');
        if (len == 0)
            continue;
        const char *equals = memchr(pair, '=', len);
        size_t name_len = equals ? (size_t)(equals - pair) : len;
        const char *name = http_percent_decode(arena, pair, name_len, true);
        const char *value = equals ? http_percent_decode(arena, equals + 1, len - name_len - 1, true) : "";
        if (!name || !value)
            continue;
        *ret_name = name;
        *ret_value = value;
        return true;
    }
    return false;
}

static int parse_authority(const char *s, size_t len, struct kp_arena *arena, struct http_url *url)
{
    const char *port = NULL, *end = s + len;
    if (memchr(s, '@', len)) /* credentials in URLs are not supported */
        return KP_EBADREQUEST;
    if (len && s[0] == '[') {
        const char *bracket = memchr(s, ']', len);
        if (!bracket || bracket == s + 1)
            return KP_EBADREQUEST;
        url->host = kp_arena_strndup(arena, s + 1, (size_t)(bracket - s - 1));
        if (bracket + 1 < end && bracket[1] != ':')
            return KP_EBADREQUEST;
        port = bracket + 1 < end ? bracket + 2 : NULL;
    } else {
        const char *colon = memchr(s, ':', len);
        size_t host_len = colon ? (size_t)(colon - s) : len;
        if (host_len == 0)
            return KP_EBADREQUEST;
        url->host = kp_arena_strndup(arena, s, host_len);
        port = colon ? colon + 1 : NULL;
    }
    if (port && port < end) {
        uint64_t number;
        if (kp_parse_u64(kp_arena_strndup(arena, port, (size_t)(end - port)), &number) < 0 || number > 65535)
            return KP_EBADREQUEST;
        url->port = (uint16_t)number;
    }
    return 0;
}

int http_url_parse(const char *text, struct kp_arena *arena, struct http_url *ret_url, struct kp_error *error)
{
    struct http_url url = { .path = "/", .query = "" };
    const char *rest;
    if (kp_starts_with(text, "unix:")) {
        rest = text + 5;
        if (rest[0] == '/' && rest[1] == '/') /* unix:///run/x.sock is common too */
            rest += 2;
        if (rest[0] == '\0')
            return kp_fail(error, KP_EBADREQUEST, "URL \"%s\" lacks the socket's path", text);
        *ret_url = (struct http_url){ .scheme = "unix", .host = "localhost", .path = kp_arena_strdup(arena, rest), .query = "" };
        return 0;
    }
    if (strncasecmp(text, "https://", 8) == 0) {
        url.scheme = "https";
        url.port = 443;
        rest = text + 8;
    } else if (strncasecmp(text, "http://", 7) == 0) {
        url.scheme = "http";
        url.port = 80;
        rest = text + 7;
    } else {
        return kp_fail(error, KP_EBADREQUEST, "URL \"%s\" does not begin with https://, http:// or unix:", text);
    }
    for (const char *c = text; *c; c++)
        if ((uint8_t)*c <= 0x20 || *c == 0x7f)
            return kp_fail(error, KP_EBADREQUEST, "URL has a space or control character");
    size_t authority_len = strcspn(rest, "/?#");
    if (parse_authority(rest, authority_len, arena, &url) < 0)
        return kp_fail(error, KP_EBADREQUEST, "URL \"%s\" has a bad host or port", text);
    rest += authority_len;
    size_t path_len = strcspn(rest, "?#");
    if (path_len)
        url.path = kp_arena_strndup(arena, rest, path_len);
    rest += path_len;
    if (*rest == '?')
        url.query = kp_arena_strndup(arena, rest + 1, strcspn(rest + 1, "#"));
    *ret_url = url;
    return 0;
}
