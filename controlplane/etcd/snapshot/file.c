/* The file of a snapshot: its checksum, its structure, and what is in it. */
#include "controlplane/etcd/snapshot/snapshot_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_BYTES ((size_t)1 << 20)

static int read_at(int fd, void *data, size_t len, uint64_t offset, const char *path, struct kp_error *error)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pread(fd, (char *)data + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return kp_fail_errno(error, "read %s", path);
        if (n == 0)
            return kp_fail(error, KP_ECORRUPT, "%s became shorter while it was read", path);
        done += (size_t)n;
    }
    return 0;
}

/* As etcd prints a sum: decimal bytes in brackets. */
static void put_sum(struct kp_buf *out, const uint8_t sum[TLS_SHA256_BYTES])
{
    for (int i = 0; i < TLS_SHA256_BYTES; i++)
        kp_buf_printf(out, "%s%u", i ? " " : "[", sum[i]);
    kp_buf_putc(out, ']');
}

static int check_sum(const struct snapshot_file *file, const char *path, struct kp_error *error)
{
    uint8_t said[TLS_SHA256_BYTES], is[TLS_SHA256_BYTES];
    KP_AUTO_FREE uint8_t *data = kp_malloc(READ_BYTES);
    struct tls_sha256 *sum = tls_sha256_new();
    int rc = 0;
    for (uint64_t at = 0; rc == 0 && at < file->bytes;) {
        size_t part = (size_t)KP_MIN((uint64_t)READ_BYTES, file->bytes - at);
        if ((rc = read_at(file->fd, data, part, at, path, error)) == 0)
            tls_sha256_update(sum, data, part);
        at += part;
    }
    tls_sha256_final(sum, is);
    if (rc < 0 || (rc = read_at(file->fd, said, sizeof said, file->bytes, path, error)) < 0)
        return rc;
    if (memcmp(said, is, sizeof is) == 0)
        return 0;
    KP_AUTO_BUF struct kp_buf text = {0};
    kp_buf_puts(&text, "expected sha256 ");
    put_sum(&text, said);
    kp_buf_puts(&text, ", got ");
    put_sum(&text, is);
    return kp_fail(error, KP_ECORRUPT, "%s", text.data);
}

static int open_file(const char *path, enum snapshot_hash hash, struct snapshot_file *file, struct kp_error *error)
{
    struct stat st;
    file->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (file->fd < 0 && errno == ENOENT)
        return kp_fail(error, KP_ENOTFOUND, "stat %s: no such file or directory", path);
    if (file->fd < 0 || fstat(file->fd, &st) < 0)
        return kp_fail_errno(error, "open %s", path);
    if (!S_ISREG(st.st_mode))
        return kp_fail(error, KP_EBADREQUEST, "%s is not a regular file", path);
    file->bytes = (uint64_t)st.st_size;
    file->has_hash = file->bytes % SNAPSHOT_SECTOR == TLS_SHA256_BYTES;
    if (file->has_hash)
        file->bytes -= TLS_SHA256_BYTES;
    int rc;
    if (hash == SNAPSHOT_HASH_REQUIRED && !file->has_hash)
        return kp_fail(error, KP_ECORRUPT, "snapshot missing hash but --skip-hash-check=false");
    if (hash != SNAPSHOT_HASH_IGNORED && file->has_hash && (rc = check_sum(file, path, error)) < 0)
        return rc;
    if ((rc = bolt_open(file->fd, file->bytes, &file->bolt, error)) < 0 || (rc = bolt_check(file->bolt, error)) < 0)
        return kp_wrap(error, "snapshot file integrity check failed");
    return 0;
}

int snapshot_open(const char *path, enum snapshot_hash hash, struct snapshot_file *ret_file, struct kp_error *error)
{
    struct snapshot_file file = {.fd = -1};
    int rc = open_file(path, hash, &file, error);
    if (rc < 0) {
        snapshot_close(&file);
        return rc;
    }
    *ret_file = file;
    return 0;
}

void snapshot_close(struct snapshot_file *file)
{
    bolt_close(file->bolt);
    file->bolt = NULL;
    if (file->fd > 0)
        close(file->fd);
    file->fd = -1;
}

/* ---- status ---- */

struct counting {
    struct snapshot_status *status;
    struct bolt_reader *bolt;
    bool is_key, is_meta;
};

static int count_pair(void *ctx, struct kp_bytes key, struct kp_bytes value, struct kp_error *error)
{
    struct counting *c = ctx;
    struct snapshot_status *status = c->status;
    status->hash = kp_crc32c(status->hash, key.data, key.len);
    status->hash = kp_crc32c(status->hash, value.data, value.len);
    status->total_keys++;
    if (c->is_key && (key.len < REVISION_BYTES || key.data[8] != '_'))
        return kp_fail(error, KP_ECORRUPT, "cannot parse revision key: %zu bytes", key.len);
    if (c->is_key)
        status->revision = (int64_t)get_be64(key.data);
    if (c->is_meta && key.len == strlen("storageVersion") && memcmp(key.data, "storageVersion", key.len) == 0)
        snprintf(status->version, sizeof status->version, "%.*s", (int)KP_MIN(value.len, sizeof status->version - 1),
                 (const char *)value.data);
    return 0;
}

static int count_bucket(void *ctx, struct kp_bytes name, struct kp_error *error)
{
    struct counting *c = ctx;
    KP_AUTO_FREE char *text = kp_strndup((const char *)name.data, name.len);
    c->is_key = kp_streq(text, "key");
    c->is_meta = kp_streq(text, "meta");
    c->status->hash = kp_crc32c(c->status->hash, name.data, name.len);
    return bolt_each(c->bolt, text, count_pair, c, error);
}

int snapshot_status(struct snapshot_file *file, struct snapshot_status *ret_status, struct kp_error *error)
{
    struct snapshot_status status = {.total_size = (int64_t)bolt_size(file->bolt)};
    struct counting counting = {.status = &status, .bolt = file->bolt};
    int rc = bolt_each_bucket(file->bolt, count_bucket, &counting, error);
    if (rc == 0)
        *ret_status = status;
    return rc;
}
