/* lib/archive: writes .tar.gz files - the ustar headers are ours, zlib compresses. A library for every archive format there is
 * would be one more package on each machine that runs kprov, for 512 bytes a file. */
#ifndef KP_ARCHIVE_H
#define KP_ARCHIVE_H

#include "base/base.h"

#define ARCHIVE_BLOCK 512
#define ARCHIVE_NAME_MAX 255                   /* bytes; a '/' must split it into at most 155 and 100 */
#define ARCHIVE_FILE_MAX ((size_t)1 << 30)     /* bytes of one file in it */

/* The header of a regular file (POSIX.1-1988 ustar): mode 0644, owned by root. Pure. KP_EINVALID when the name does not fit. */
int archive_header(const char *name, size_t size, int64_t modified_s, char ret_block[ARCHIVE_BLOCK], struct kp_error *error) KP_NODISCARD;

struct archive;
/* Writes to "<path>.part", for the owner alone; archive_finish gives it its name. */
int archive_create(const char *path, struct archive **ret_archive, struct kp_error *error) KP_NODISCARD;
int archive_add(struct archive *archive, const char *name, const void *data, size_t len, int64_t modified_s, struct kp_error *error)
    KP_NODISCARD;
int archive_finish(struct archive *archive, size_t *ret_bytes, struct kp_error *error) KP_NODISCARD;
/* One that was not finished leaves no file behind. Accepts NULL. */
void archive_free(struct archive *archive);
KP_DEFINE_AUTO(struct archive *, archive_free)

/* ---- gzip.c: of bytes in memory (RFC 1952), as small as zlib makes them. Appends. */
int archive_gzip(const void *data, size_t len, struct kp_buf *out, struct kp_error *error) KP_NODISCARD;
/* KP_ECORRUPT when it is none or is cut short, KP_ETOOLARGE when more than max bytes come out; *out is as it was then. */
int archive_gunzip(const void *data, size_t len, size_t max, struct kp_buf *out, struct kp_error *error) KP_NODISCARD;
/* Of a file of any size, into another with the same mode, which is on the disk afterwards. On failure what was written stays. error is required. */
int archive_gzip_file(const char *from, const char *to, struct kp_error *error) KP_NODISCARD;
bool archive_is_gzip(const void *data, size_t len);

#endif
