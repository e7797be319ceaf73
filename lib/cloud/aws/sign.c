/* Signature version 4 of a request with headers of its own (docs.aws.amazon.com/IAM, "Create a signed AWS API request"): libcurl 7.88 signs such
 * headers in an order that is not theirs by name. */
#include <time.h>

#include "cloud/aws/aws_internal.h"
#include "tls/tls.h"

static int by_name(const void *a, const void *b)
{
    const char *one = *(const char *const *)a, *other = *(const char *const *)b;
    size_t one_len = strcspn(one, ":"), other_len = strcspn(other, ":"), len = KP_MIN(one_len, other_len);
    int order = strncasecmp(one, other, len);
    return order ? order : (one_len > other_len) - (one_len < other_len);
}

static void lower(struct kp_buf *out, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        kp_buf_putc(out, text[i] >= 'A' && text[i] <= 'Z' ? (char)(text[i] - 'A' + 'a') : text[i]);
}

/* "https://host:8080/x": host and port as they are sent. */
static const char *host_of(const char *url, struct kp_arena *arena)
{
    const char *begin = strstr(url, "://");
    begin = begin ? begin + 3 : url;
    size_t len = strcspn(begin, "/?");
    const char *host = kp_arena_strndup(arena, begin, len);
    const char *usual = kp_starts_with(url, "https:") ? ":443" : ":80";
    return kp_ends_with(host, usual) ? kp_arena_strndup(arena, begin, len - strlen(usual)) : host;
}

static void canonical(const struct aws_signing *s, const char *const *headers, size_t n, const char *payload, struct kp_buf *out, struct kp_buf *names)
{
    const char *path = strstr(s->url, "://");
    path = path ? strchr(path + 3, '/') : NULL;
    kp_buf_printf(out, "%s\n%s\n\n", s->method, path ? path : "/");
    for (size_t i = 0; i < n; i++) {
        size_t len = strcspn(headers[i], ":");
        const char *value = headers[i] + len + 1;
        lower(out, headers[i], len);
        kp_buf_printf(out, ":%s\n", value + strspn(value, " "));
        if (i)
            kp_buf_putc(names, ';');
        lower(names, headers[i], len);
    }
    kp_buf_printf(out, "\n%s\n%s", names->data, payload);
}

static void hmac(uint8_t key[TLS_SHA256_BYTES], const char *text)
{
    uint8_t out[TLS_SHA256_BYTES];
    tls_hmac_sha256(key, TLS_SHA256_BYTES, text, strlen(text), out);
    memcpy(key, out, sizeof(out));
}

static const char *signature(const struct aws_signing *s, const char *date, const char *text, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf hex = {0};
    uint8_t key[TLS_SHA256_BYTES];
    const char *secret = kp_arena_printf(arena, "AWS4%s", s->keys->secret);
    tls_hmac_sha256(secret, strlen(secret), date, strlen(date), key);
    hmac(key, s->region);
    hmac(key, s->service);
    hmac(key, "aws4_request");
    hmac(key, text);
    kp_hex_encode(&hex, key, sizeof(key));
    return kp_arena_strndup(arena, hex.data, hex.len);
}

const char *const *aws_sign(const struct aws_signing *s, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf request = {0}, names = {0};
    const char **headers = KP_NEW_ARRAY(arena, const char *, AWS_REST_HEADERS_MAX + 8);
    char stamp[32], date[16], digest[TLS_SHA256_HEX_BYTES];
    const char *payload = "UNSIGNED-PAYLOAD";
    struct tm tm;
    size_t n = 0;
    gmtime_r(&s->now, &tm);
    strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%SZ", &tm);
    strftime(date, sizeof(date), "%Y%m%d", &tm);
    for (; s->headers[n]; n++)
        headers[n] = s->headers[n];
    headers[n++] = kp_arena_printf(arena, "Host: %s", host_of(s->url, arena));
    headers[n++] = kp_arena_printf(arena, "X-Amz-Date: %s", stamp);
    if (*s->keys->token)
        headers[n++] = kp_arena_printf(arena, "X-Amz-Security-Token: %s", s->keys->token);
    if (!s->unsigned_body) {
        tls_sha256_hex(s->body_len ? s->body : "", s->body_len, digest);
        payload = digest;
    }
    headers[n++] = kp_arena_printf(arena, "X-Amz-Content-SHA256: %s", payload);
    qsort(headers, n, sizeof(*headers), by_name);
    canonical(s, headers, n, payload, &request, &names);
    char request_digest[TLS_SHA256_HEX_BYTES];
    tls_sha256_hex(request.data, request.len, request_digest);
    const char *scope = kp_arena_printf(arena, "%s/%s/%s/aws4_request", date, s->region, s->service);
    const char *text = kp_arena_printf(arena, "AWS4-HMAC-SHA256\n%s\n%s\n%s", stamp, scope, request_digest);
    headers[n++] = kp_arena_printf(arena, "Authorization: AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s", s->keys->id, scope, names.data,
                                   signature(s, date, text, arena));
    headers[n] = NULL;
    return headers;
}
