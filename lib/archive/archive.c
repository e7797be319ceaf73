/* A .tar.gz file, written from front to back. */
#include "lib/archive/archive.h"

#include <fcntl.h>
#include <limits.h>
#include <unistd.h>
#include <zlib.h>

#define GZIP_WINDOW_BITS (15 + 16) /* zlib: 16 more selects the gzip wrapper */
#define CHUNK 65536

struct archive {
    char path[PATH_MAX], part[PATH_MAX];
    int fd;
    z_stream z;
    size_t written;
    bool finished;
};

static int squeeze(struct archive *archive, const void *data, size_t len, int flush, struct kp_error *error)
{
    unsigned char chunk[CHUNK];
    archive->z.next_in = (unsigned char *)(uintptr_t)data;
    archive->z.avail_in = (unsigned)len;
    do {
        archive->z.next_out = chunk;
        archive->z.avail_out = sizeof(chunk);
        if (deflate(&archive->z, flush) == Z_STREAM_ERROR)
            return kp_fail(error, KP_EINTERNAL, "%s: zlib's state is damaged", archive->part);
        size_t n = sizeof(chunk) - archive->z.avail_out;
        int r = kp_write_all(archive->fd, chunk, n, archive->part, error);
        if (r < 0)
            return r;
        archive->written += n;
    } while (archive->z.avail_out == 0);
    return 0;
}

int archive_create(const char *path, struct archive **ret_archive, struct kp_error *error)
{
    KP_AUTO(archive_free) struct archive *archive = kp_calloc(1, sizeof(*archive));
    archive->fd = -1;
    if (snprintf(archive->part, sizeof(archive->part), "%s.part", path) >= (int)sizeof(archive->part))
        return kp_fail(error, KP_EINVALID, "the path is too long: %s", path);
    snprintf(archive->path, sizeof(archive->path), "%s", path);
    archive->fd = open(archive->part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (archive->fd < 0)
        return kp_fail_errno(error, "create %s", archive->part);
    if (deflateInit2(&archive->z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, GZIP_WINDOW_BITS, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return kp_fail(error, KP_EINTERNAL, "zlib does not start");
    *ret_archive = KP_TAKE(archive);
    return 0;
}

int archive_add(struct archive *archive, const char *name, const void *data, size_t len, int64_t modified_s, struct kp_error *error)
{
    static const char zeros[ARCHIVE_BLOCK];
    char header[ARCHIVE_BLOCK];
    int r = archive_header(name, len, modified_s, header, error);
    if (r == 0)
        r = squeeze(archive, header, sizeof(header), Z_NO_FLUSH, error);
    if (r == 0 && len)
        r = squeeze(archive, data, len, Z_NO_FLUSH, error);
    if (r == 0 && len % ARCHIVE_BLOCK)
        r = squeeze(archive, zeros, ARCHIVE_BLOCK - len % ARCHIVE_BLOCK, Z_NO_FLUSH, error);
    return r;
}

int archive_finish(struct archive *archive, size_t *ret_bytes, struct kp_error *error)
{
    static const char end[2 * ARCHIVE_BLOCK];
    int r = squeeze(archive, end, sizeof(end), Z_FINISH, error);
    if (r == 0 && fsync(archive->fd) < 0)
        r = kp_fail_errno(error, "write %s", archive->part);
    if (r == 0 && rename(archive->part, archive->path) < 0)
        r = kp_fail_errno(error, "rename %s to %s", archive->part, archive->path);
    if (r < 0)
        return r;
    archive->finished = true;
    *ret_bytes = archive->written;
    return 0;
}

void archive_free(struct archive *archive)
{
    if (!archive)
        return;
    if (archive->z.state)
        deflateEnd(&archive->z);
    if (archive->fd >= 0 && !archive->finished)
        unlink(archive->part);
    kp_close_fd(&archive->fd);
    free(archive);
}
