/* Bytes in memory to gzip and back, and files to gzip. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
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

/* ---- files ------------------------------------------------------------------------------------------------------------------------------ */
struct packing {
    z_stream z;
    int from, to;
    const char *from_path, *to_path;
    unsigned char in[CHUNK], out[CHUNK];
};

static int write_packed(struct packing *p, int flush, struct kp_error *error)
{
    do {
        p->z.next_out = p->out;
        p->z.avail_out = sizeof(p->out);
        if (deflate(&p->z, flush) == Z_STREAM_ERROR)
            return kp_fail(error, KP_EINTERNAL, "zlib's state is damaged");
        if (kp_write_all(p->to, p->out, sizeof(p->out) - p->z.avail_out, p->to_path, error) < 0)
            return error->code;
    } while (p->z.avail_out == 0);
    return 0;
}

static int pack_all(struct packing *p, struct kp_error *error)
{
    for (;;) {
        ssize_t n = read(p->from, p->in, sizeof(p->in));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return kp_fail_errno(error, "%s", p->from_path);
        p->z.next_in = p->in;
        p->z.avail_in = (unsigned)n;
        if (write_packed(p, n ? Z_NO_FLUSH : Z_FINISH, error) < 0)
            return error->code;
        if (!n)
            return fsync(p->to) < 0 ? kp_fail_errno(error, "%s", p->to_path) : 0;
    }
}

int archive_gzip_file(const char *from, const char *to, struct kp_error *error)
{
    struct packing *p = kp_calloc(1, sizeof(*p));
    struct stat st;
    p->from_path = from;
    p->to_path = to;
    p->to = -1;
    p->from = open(from, O_RDONLY | O_CLOEXEC);
    if (p->from < 0 || fstat(p->from, &st) < 0)
        kp_fail_errno(error, "%s", from);
    else if ((p->to = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, st.st_mode & 0777)) < 0)
        kp_fail_errno(error, "%s", to);
    else if (deflateInit2(&p->z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, GZIP_WINDOW_BITS, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        kp_fail(error, KP_EINTERNAL, "zlib does not start");
    else
        error->code = pack_all(p, error);
    deflateEnd(&p->z);
    kp_close_fd(&p->from);
    kp_close_fd(&p->to);
    free(p);
    return error->code;
}
