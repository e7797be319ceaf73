/* Arbitrary bytes as a database of stock etcd: no crash, no leak; what is accepted can be told of, and the same pairs come
   out of what our writer makes of them. */
#include "controlplane/etcd/bolt/bolt_internal.h"
#include "controlplane/etcd/snapshot/snapshot.h"

#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define PAGE 512

struct copying {
    struct bolt_reader *from;
    struct bolt_writer *to;
    uint32_t crc;
    size_t pairs;
};

static int copy_pair(void *ctx, struct kp_bytes key, struct kp_bytes value, struct kp_error *error)
{
    struct copying *c = ctx;
    c->crc = kp_crc32c(c->crc, key.data, key.len);
    c->crc = kp_crc32c(c->crc, value.data, value.len);
    c->pairs++;
    return c->to ? bolt_writer_put(c->to, key, value, error) : 0;
}

static int copy_bucket(void *ctx, struct kp_bytes name, struct kp_error *error)
{
    struct copying *c = ctx;
    KP_AUTO_FREE char *text = kp_strndup((const char *)name.data, name.len);
    int rc = c->to ? bolt_writer_bucket(c->to, text, error) : 0;
    return rc < 0 ? rc : bolt_each(c->from, text, copy_pair, c, error);
}

static int memory_file(void)
{
    int fd = memfd_create("bolt", MFD_CLOEXEC);
    KP_ASSERT(fd >= 0);
    return fd;
}

/* What was read, written anew, is read as the same. */
static void copy(struct bolt_reader *reader)
{
    KP_AUTO_CLOSE int fd = memory_file();
    KP_AUTO(bolt_writer_free) struct bolt_writer *writer = NULL;
    KP_AUTO(bolt_close) struct bolt_reader *again = NULL;
    uint64_t bytes;
    struct kp_error error = {0};
    KP_ASSERT(bolt_writer_new(fd, PAGE, &writer, &error) == 0);
    struct copying out = {.from = reader, .to = writer}, in = {0};
    if (bolt_each_bucket(reader, copy_bucket, &out, &error) < 0) {
        KP_ASSERT(error.code == KP_ETOOLARGE); /* an empty key, which the file may have and bbolt does not take */
        return;
    }
    if (bolt_writer_finish(writer, &bytes, &error) < 0) {
        KP_ASSERT(error.code == KP_ETOOLARGE);
        return;
    }
    KP_ASSERT(bolt_open(fd, bytes, &again, &error) == 0 && bolt_check(again, &error) == 0);
    in.from = again;
    KP_ASSERT(bolt_each_bucket(again, copy_bucket, &in, &error) == 0);
    KP_ASSERT(in.crc == out.crc && in.pairs == out.pairs);
}

/* Most inputs would end at a meta's checksum: the first one is made to fit, for as many pages as there are. */
static void mend(uint8_t *file, size_t len)
{
    if (len < 3 * PAGE)
        return;
    uint8_t *meta = file + PAGE_HEAD;
    put_32(meta, BOLT_MAGIC);
    put_32(meta + 4, BOLT_VERSION);
    put_32(meta + 8, PAGE);
    put_64(meta + 40, len / PAGE);
    put_64(meta + META_SUMMED, kp_hash64(meta, META_SUMMED));
    for (size_t id = 2; id < len / PAGE; id++)
        put_64(file + id * PAGE, id);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    KP_AUTO_CLOSE int fd = memory_file();
    KP_AUTO_FREE uint8_t *file = kp_malloc(len + 1);
    memcpy(file, data, len);
    if (len > 0 && data[0] == 0) /* the id of page 0: anything else is taken as it is */
        mend(file, len);
    KP_ASSERT(write(fd, file, len) == (ssize_t)len);
    struct snapshot_file snapshot = {.fd = -1};
    struct snapshot_status status;
    struct kp_error error = {0};
    if (bolt_open(fd, len, &snapshot.bolt, &error) < 0) {
        KP_ASSERT(error.message[0] != '\0');
        return 0;
    }
    bool whole = bolt_check(snapshot.bolt, &error) == 0;
    if (snapshot_status(&snapshot, &status, &error) == 0 && whole)
        KP_ASSERT(status.total_size <= (int64_t)len);
    if (whole)
        copy(snapshot.bolt);
    bolt_close(snapshot.bolt);
    return 0;
}
