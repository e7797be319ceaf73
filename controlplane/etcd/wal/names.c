/* Segment files by name. */
#include "controlplane/etcd/wal/wal_internal.h"

#include <errno.h>
#include <inttypes.h>

int wal_fail_io(struct kp_error *error, int negative_errno, const char *what, const char *path)
{
    int code = negative_errno == -ENOENT ? KP_ENOTFOUND : KP_EIO;
    return kp_fail(error, code, "write-ahead log: %s %s: %s", what, path, strerror(-negative_errno));
}

void wal_segment_path(const char *folder, const struct wal_segment *segment, bool temporary, char out[WAL_PATH_MAX])
{
    int len = snprintf(out, WAL_PATH_MAX, "%s/%016" PRIx64 "-%016" PRIx64 ".wal%s", folder, segment->sequence,
                       segment->index, temporary ? ".tmp" : "");
    KP_ASSERT(len > 0 && len < WAL_PATH_MAX); /* the folder's length was checked at create and open */
}

static bool parse_hex16(const char *s, uint64_t *ret)
{
    *ret = 0;
    for (int i = 0; i < 16; i++) {
        char c = s[i];
        if (c >= '0' && c <= '9')
            *ret = *ret << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            *ret = *ret << 4 | (uint64_t)(c - 'a' + 10);
        else
            return false;
    }
    return true;
}

struct listing {
    struct wal_segment *segments;
    size_t len;
    bool too_many;
};

static int list_each(void *arg, const char *name)
{
    struct listing *listing = arg;
    struct wal_segment segment;
    if (strlen(name) != 37 || !parse_hex16(name, &segment.sequence) || name[16] != '-' ||
        !parse_hex16(name + 17, &segment.index) || !kp_streq(name + 33, ".wal"))
        return 0; /* temporary files, the lock */
    if (listing->len == WAL_SEGMENTS_MAX) {
        listing->too_many = true;
        return 1;
    }
    if (listing->len % 64 == 0)
        listing->segments = kp_realloc(listing->segments, (listing->len + 64) * sizeof(*listing->segments));
    listing->segments[listing->len++] = segment;
    return 0;
}

static int by_sequence(const void *a, const void *b)
{
    const struct wal_segment *x = a, *y = b;
    return x->sequence < y->sequence ? -1 : x->sequence > y->sequence;
}

int wal_list(const struct wal_io *io, const char *folder, struct wal_segment **ret, size_t *ret_len,
             struct kp_error *error)
{
    struct listing listing = {0};
    int code = io->readdir(io->ctx, folder, list_each, &listing);
    if (code < 0)
        code = wal_fail_io(error, code, "list", folder);
    else if (listing.too_many)
        code = kp_fail(error, KP_ETOOLARGE, "write-ahead log %s: more than %d segments", folder, WAL_SEGMENTS_MAX);
    else if (listing.len == 0)
        code = kp_fail(error, KP_ENOTFOUND, "write-ahead log %s: no segments", folder);
    if (code == 0)
        qsort(listing.segments, listing.len, sizeof(*listing.segments), by_sequence);
    for (size_t i = 1; code == 0 && i < listing.len; i++) {
        if (listing.segments[i].sequence != listing.segments[i - 1].sequence + 1)
            code = kp_fail(error, KP_ECORRUPT, "write-ahead log %s: segment %016" PRIx64 " is missing", folder,
                           listing.segments[i - 1].sequence + 1);
        else if (listing.segments[i].index < 1)
            code = kp_fail(error, KP_ECORRUPT, "write-ahead log %s: segment %016" PRIx64 " has no index", folder,
                           listing.segments[i].sequence);
    }
    if (code < 0) {
        free(listing.segments);
        return code;
    }
    *ret = listing.segments;
    *ret_len = listing.len;
    return 0;
}
