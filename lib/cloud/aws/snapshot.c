/* Snapshots of EBS filled through its direct API: blocks of 512 KiB, each with its digest, those alone that are not all zeroes. */
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cloud/aws/aws_internal.h"
#include "cloud/rest/json.h"
#include "tls/tls.h"

#define BLOCK_BYTES ((size_t)512 << 10) /* the API's only size */
#define BLOCKS_MAX ((size_t)64 << 10)   /* 32 GiB */
#define WORKERS 4
#define IDLE_MINUTES 60                 /* after which AWS ends a snapshot that nobody writes to */
#define GIB ((int64_t)1 << 30)

struct upload {
    struct aws *aws;
    int fd;
    const char *path, *snapshot;
    size_t n_blocks;
    atomic_size_t next;
    uint8_t (*digests)[TLS_SHA256_BYTES]; /* of block n */
    bool *written;
    atomic_bool failed;
    pthread_mutex_t lock; /* of error */
    struct kp_error error;
};

static bool is_zero(const char *data, size_t len)
{
    return data[0] == 0 && memcmp(data, data + 1, len - 1) == 0;
}

static const char *base64_of(const uint8_t digest[TLS_SHA256_BYTES], struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    kp_base64_encode(&text, digest, TLS_SHA256_BYTES);
    return kp_arena_strndup(arena, text.data, text.len);
}

/* The rest of the last block is zeroes. */
static int read_block(const struct upload *up, size_t number, char *data, struct kp_error *error)
{
    size_t done = 0;
    while (done < BLOCK_BYTES) {
        ssize_t n = pread(up->fd, data + done, BLOCK_BYTES - done, (off_t)(number * BLOCK_BYTES + done));
        if (n < 0)
            return kp_fail_errno(error, "read %s", up->path);
        if (n == 0)
            break;
        done += (size_t)n;
    }
    memset(data + done, 0, BLOCK_BYTES - done);
    return 0;
}

static int put_block(struct upload *up, size_t number, const char *data, struct kp_arena *arena, struct kp_error *error)
{
    struct rest_answer answer;
    tls_sha256(data, BLOCK_BYTES, up->digests[number]);
    const char *sum = base64_of(up->digests[number], arena);
    const char *const headers[] = {kp_arena_printf(arena, "x-amz-Checksum: %s", sum), "x-amz-Checksum-Algorithm: SHA256",
                                   kp_arena_printf(arena, "x-amz-Data-Length: %zu", BLOCK_BYTES), NULL};
    const struct aws_rest call = {.method = "PUT", .type = "application/octet-stream", .headers = headers, .body = data, .body_len = BLOCK_BYTES, .unsigned_body = true,
                                  .path = kp_arena_printf(arena, "/snapshots/%s/blocks/%zu", up->snapshot, number)};
    int r = aws_rest_do(up->aws, AWS_EBS, "PutSnapshotBlock", &call, arena, &answer, error);
    if (r < 0)
        return kp_wrap(error, "block %zu of %s", number, up->path);
    const char *got = rest_header(&answer, "x-amz-Checksum");
    if (got && !kp_streq(got, sum))
        return kp_fail(error, KP_ECORRUPT, "block %zu of %s arrived as another: its digest is %.64s, not %s", number, up->path, got, sum);
    up->written[number] = true;
    return 0;
}

static void *work(void *arg)
{
    struct upload *up = arg;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_FREE char *data = kp_malloc(BLOCK_BYTES);
    for (size_t number; !atomic_load(&up->failed) && (number = atomic_fetch_add(&up->next, 1)) < up->n_blocks;) {
        struct kp_error error = {0};
        kp_arena_reset(arena);
        int r = read_block(up, number, data, &error);
        if (r == 0 && !is_zero(data, BLOCK_BYTES))
            r = put_block(up, number, data, arena, &error);
        if (r < 0) {
            pthread_mutex_lock(&up->lock);
            if (!atomic_exchange(&up->failed, true))
                up->error = error;
            pthread_mutex_unlock(&up->lock);
        }
    }
    return NULL;
}

static int put_blocks(struct upload *up, struct kp_error *error)
{
    pthread_t threads[WORKERS];
    size_t n = 0;
    while (n < WORKERS && pthread_create(&threads[n], NULL, work, up) == 0)
        n++;
    if (n == 0)
        work(up);
    for (size_t i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    return atomic_load(&up->failed) ? aws_pass(error, &up->error) : 0;
}

/* With the digest over the digests of what was written, in order of blocks ("LINEAR"): the whole is checked, not the blocks alone. */
static int complete(struct upload *up, struct kp_arena *arena, struct kp_error *error)
{
    struct tls_sha256 *hash = tls_sha256_new();
    uint8_t digest[TLS_SHA256_BYTES];
    size_t changed = 0;
    struct rest_answer answer;
    for (size_t i = 0; i < up->n_blocks; i++) {
        if (up->written[i])
            tls_sha256_update(hash, up->digests[i], TLS_SHA256_BYTES);
        changed += up->written[i];
    }
    tls_sha256_final(hash, digest);
    const char *const headers[] = {kp_arena_printf(arena, "x-amz-ChangedBlocksCount: %zu", changed),
                                   kp_arena_printf(arena, "x-amz-Checksum: %s", base64_of(digest, arena)), "x-amz-Checksum-Algorithm: SHA256",
                                   "x-amz-Checksum-Aggregation-Method: LINEAR", NULL};
    const struct aws_rest call = {.method = "POST", .type = "application/json", .headers = headers, .body = "", .body_len = 0,
                                  .path = kp_arena_printf(arena, "/snapshots/completion/%s", up->snapshot)};
    return aws_rest_do(up->aws, AWS_EBS, "CompleteSnapshot", &call, arena, &answer, error);
}

static int run(struct upload *up, struct kp_arena *arena, struct kp_error *error)
{
    up->digests = kp_calloc(up->n_blocks, sizeof(*up->digests));
    up->written = kp_calloc(up->n_blocks, sizeof(*up->written));
    pthread_mutex_init(&up->lock, NULL);
    int r = put_blocks(up, error);
    if (r == 0)
        r = complete(up, arena, error);
    pthread_mutex_destroy(&up->lock);
    free(up->digests);
    free(up->written);
    return r;
}

int aws_snapshot_fill(struct aws *aws, const char *snapshot, const char *path, struct kp_arena *arena, struct kp_error *error)
{
    struct stat st;
    KP_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return kp_fail_errno(error, "%s", path);
    struct upload up = {.aws = aws, .fd = fd, .path = path, .snapshot = snapshot, .n_blocks = ((size_t)st.st_size + BLOCK_BYTES - 1) / BLOCK_BYTES};
    if (up.n_blocks == 0 || up.n_blocks > BLOCKS_MAX)
        return kp_fail(error, KP_EINVALID, "%s has %lld bytes: a disk has up to %zu GiB", path, (long long)st.st_size, BLOCKS_MAX * BLOCK_BYTES / (size_t)GIB);
    kp_info("uploading a node image's disk to EBS", "snapshot", snapshot, "megabytes", kp_arena_printf(arena, "%lld", (long long)(st.st_size >> 20)), NULL);
    return run(&up, arena, error);
}

int aws_snapshot_start(struct aws *aws, const char *image, const char *path, struct kp_arena *arena, const char **ret_snapshot, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *document = NULL;
    KP_AUTO_BUF struct kp_buf body = {0};
    struct rest_answer answer;
    struct stat st;
    char token[37];
    if (stat(path, &st) < 0)
        return kp_fail_errno(error, "%s", path);
    kp_uuid4(token);
    rest_json_write(&body, json_pack("{s:I, s:s, s:s, s:i, s:[{s:s, s:s}, {s:s, s:s}, {s:s, s:s}]}", "VolumeSize", (json_int_t)((st.st_size + GIB - 1) / GIB),
                                     "ClientToken", token, "Description", kp_arena_printf(arena, "kprov node image %s", image), "Timeout", IDLE_MINUTES, "Tags",
                                     "Key", AWS_TAG_IMAGE, "Value", image, "Key", AWS_TAG_STAGE, "Value", "new", "Key", "Name", "Value",
                                     kp_arena_printf(arena, "kprov %s", image)));
    const struct aws_rest call = {.method = "POST", .path = "/snapshots", .type = "application/json", .body = body.data, .body_len = body.len};
    int r = aws_rest_do(aws, AWS_EBS, "StartSnapshot", &call, arena, &answer, error);
    if (r == 0 && rest_json_parse(answer.body, answer.body_len, &document, error) < 0)
        return kp_wrap(error, "StartSnapshot");
    if (r < 0)
        return r;
    *ret_snapshot = kp_arena_strdup(arena, rest_json_text(document, "SnapshotId"));
    return kp_starts_with(*ret_snapshot, "snap-") ? 0 : kp_fail(error, KP_ECORRUPT, "StartSnapshot: the answer names no snapshot");
}
