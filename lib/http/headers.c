/* Header lists, status texts and gzip bodies. */
#include "lib/http/http.h"

#include <strings.h>
#include <zlib.h>

const char *http_header_get(const struct http_header *headers, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcasecmp(headers[i].name, name) == 0)
            return headers[i].value;
    return NULL;
}

const char *http_response_header(const struct http_response *response, const char *name)
{
    return http_header_get(response->headers, response->header_count, name);
}

static bool list_has_token(const char *list, const char *token)
{
    size_t token_len = strlen(token);
    while (*list) {
        list += strspn(list, " \t,");
        size_t len = strcspn(list, ",");
        size_t word = len;
        while (word > 0 && (list[word - 1] == ' ' || list[word - 1] == '\t'))
            word--;
        if (word == token_len && strncasecmp(list, token, word) == 0)
            return true;
        list += len;
    }
    return false;
}

bool http_header_has_token(const struct http_header *headers, size_t count, const char *name, const char *token)
{
    for (size_t i = 0; i < count; i++)
        if (strcasecmp(headers[i].name, name) == 0 && list_has_token(headers[i].value, token))
            return true;
    return false;
}

const char *http_status_text(int status)
{
    static const struct {
        int status;
        const char *text;
    } texts[] = {
        { 100, "Continue" }, { 101, "Switching Protocols" }, { 200, "OK" }, { 201, "Created" }, { 202, "Accepted" },
        { 204, "No Content" }, { 206, "Partial Content" }, { 301, "Moved Permanently" }, { 302, "Found" },
        { 303, "See Other" }, { 304, "Not Modified" }, { 307, "Temporary Redirect" }, { 308, "Permanent Redirect" },
        { 400, "Bad Request" }, { 401, "Unauthorized" }, { 403, "Forbidden" }, { 404, "Not Found" },
        { 405, "Method Not Allowed" }, { 406, "Not Acceptable" }, { 408, "Request Timeout" }, { 409, "Conflict" },
        { 410, "Gone" }, { 411, "Length Required" }, { 412, "Precondition Failed" }, { 413, "Content Too Large" },
        { 414, "URI Too Long" }, { 415, "Unsupported Media Type" }, { 417, "Expectation Failed" },
        { 422, "Unprocessable Content" }, { 426, "Upgrade Required" }, { 429, "Too Many Requests" },
        { 431, "Request Header Fields Too Large" }, { 500, "Internal Server Error" }, { 501, "Not Implemented" },
        { 502, "Bad Gateway" }, { 503, "Service Unavailable" }, { 504, "Gateway Timeout" },
        { 505, "HTTP Version Not Supported" },
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(texts); i++)
        if (texts[i].status == status)
            return texts[i].text;
    return "Unknown";
}

#define GZIP_WINDOW_BITS (15 + 16) /* zlib: 16 more selects the gzip wrapper */

struct kp_blob *http_gzip(const void *data, size_t len)
{
    z_stream z = { 0 };
    if (len < 64 || len > UINT32_MAX || deflateInit2(&z, 1, Z_DEFLATED, GZIP_WINDOW_BITS, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return NULL;
    char *out = kp_malloc(len);
    z.next_in = (Bytef *)(uintptr_t)data;
    z.avail_in = (uInt)len;
    z.next_out = (Bytef *)out;
    z.avail_out = (uInt)len;
    int status = deflate(&z, Z_FINISH);
    struct kp_blob *blob = status == Z_STREAM_END ? kp_blob_new(out, len - z.avail_out) : NULL;
    deflateEnd(&z);
    free(out);
    return blob;
}

int http_gunzip(const void *data, size_t len, size_t max, struct kp_buf *out)
{
    z_stream z = { 0 };
    if (len > UINT32_MAX)
        return KP_ETOOLARGE;
    if (inflateInit2(&z, GZIP_WINDOW_BITS) != Z_OK)
        return KP_EINTERNAL;
    z.next_in = (Bytef *)(uintptr_t)data;
    z.avail_in = (uInt)len;
    char chunk[16384];
    size_t total = 0;
    int status = Z_OK, code = 0;
    while (status == Z_OK && code == 0) {
        z.next_out = (Bytef *)chunk;
        z.avail_out = sizeof(chunk);
        status = inflate(&z, Z_NO_FLUSH);
        size_t got = sizeof(chunk) - z.avail_out;
        total += got;
        if (total > max)
            code = KP_ETOOLARGE;
        else
            kp_buf_append(out, chunk, got);
    }
    inflateEnd(&z);
    if (code == 0 && status != Z_STREAM_END)
        code = KP_EBADREQUEST;
    return code;
}
