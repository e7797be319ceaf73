/* Bytes in memory to gzip and back. */
#include <zlib.h>

#include "lib/archive/archive.h"

#define GZIP_WINDOW_BITS (15 + 16) /* zlib: 16 more selects the gzip wrapper */
#define CHUNK 65536

bool archive_is_gzip(const void *data, size_t len)
{
    const unsigned char *bytes = data;
    return len > 2 && bytes[0] == 0x1f && bytes[1] == 0x8b;
}

int archive_gzip(const void *data, size_t len, struct kp_buf *out, struct kp_error *error)
{
    z_stream z = {.next_in = (unsigned char *)(uintptr_t)data, .avail_in = (unsigned)len};
    unsigned char chunk[CHUNK];
    int r = Z_OK;
    if (len > UINT32_MAX)
        return kp_fail(error, KP_ETOOLARGE, "%zu bytes are too many to compress in memory", len);
    if (deflateInit2(&z, Z_BEST_COMPRESSION, Z_DEFLATED, GZIP_WINDOW_BITS, 9, Z_DEFAULT_STRATEGY) != Z_OK)
        return kp_fail(error, KP_EINTERNAL, "zlib does not start");
    while (r == Z_OK) {
        z.next_out = chunk;
        z.avail_out = sizeof(chunk);
        r = deflate(&z, Z_FINISH);
        if (r == Z_OK || r == Z_STREAM_END)
            kp_buf_append(out, chunk, sizeof(chunk) - z.avail_out);
    }
    deflateEnd(&z);
    return r == Z_STREAM_END ? 0 : kp_fail(error, KP_EINTERNAL, "zlib's state is damaged");
}

int archive_gunzip(const void *data, size_t len, size_t max, struct kp_buf *out, struct kp_error *error)
{
    z_stream z = {.next_in = (unsigned char *)(uintptr_t)data, .avail_in = (unsigned)KP_MIN(len, (size_t)UINT32_MAX)};
    unsigned char chunk[CHUNK];
    size_t before = out->len;
    int r = Z_OK;
    if (inflateInit2(&z, GZIP_WINDOW_BITS) != Z_OK)
        return kp_fail(error, KP_EINTERNAL, "zlib does not start");
    while (r == Z_OK && out->len - before <= max) {
        z.next_out = chunk;
        z.avail_out = sizeof(chunk);
        r = inflate(&z, Z_NO_FLUSH);
        if (r == Z_OK || r == Z_STREAM_END)
            kp_buf_append(out, chunk, sizeof(chunk) - z.avail_out);
    }
    inflateEnd(&z);
    bool too_large = out->len - before > max;
    if (r == Z_STREAM_END && !too_large)
        return 0;
    if (out->data)
        out->data[out->len = before] = 0;
    return too_large ? kp_fail(error, KP_ETOOLARGE, "more than %zu bytes come out of the gzip", max)
                     : kp_fail(error, KP_ECORRUPT, "it is no gzip, or cut short");
}
