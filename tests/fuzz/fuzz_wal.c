/* Replay of arbitrary bytes as the segments of a log: no crash, no leak, and what it accepts is consistent. */
#include "controlplane/etcd/wal/wal_internal.h"
#include "tests/support/wal_disk.c" /* included, for fuzz targets are linked with the product's archives only */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void put_file(struct wal_disk *disk, const char *path, const void *data, size_t len)
{
    int fd = disk->io.open(disk, path, O_CREAT | O_RDWR, 0600);
    if (len > 0 && disk->io.pwrite(disk, fd, data, len, 0) != (ssize_t)len)
        abort();
    disk->io.close(disk, fd);
}

/* Records with good checksums around bad contents: type, length and payload are the input's. */
static void wrap(struct kp_buf *out, const uint8_t *data, size_t len)
{
    uint32_t crc = 0;
    KP_AUTO_BUF struct kp_buf payload = {0};
    struct wal_metadata metadata = {1, 2};
    wal_put_metadata(&payload, &metadata, 1);
    wal_record_put(out, &crc, 0, WAL_METADATA, &payload, NULL, 0);
    payload.len = 0;
    while (len >= 2) {
        size_t part = KP_MIN((size_t)data[1], len - 2);
        wal_record_put(out, &crc, out->len, (enum wal_record_type)(data[0] % 6), &payload, data + 2, part);
        data += 2 + part;
        len -= 2 + part;
    }
}

static void check(const struct wal_config *config)
{
    struct wal_replay replay, again;
    struct wal *wal = NULL;
    struct kp_error error = {0};
    if (wal_open(config, &replay, &wal, &error) < 0) {
        KP_ASSERT(error.message[0] != '\0');
        return;
    }
    for (size_t i = 0; i < replay.entries_len; i++)
        KP_ASSERT(replay.entries[i].index == replay.snapshot.index + 1 + i);
    KP_ASSERT(replay.hard_state.commit <= replay.snapshot.index + replay.entries_len);
    wal_close(wal);
    /* Repaired once, it is whole and says the same. */
    KP_ASSERT(wal_open(config, &again, &wal, &error) == 0);
    KP_ASSERT(again.torn_bytes == 0 && again.entries_len == replay.entries_len);
    wal_replay_done(&again);
    wal_replay_done(&replay);
    wal_close(wal);
}

/* The first byte: 0 one segment as it is, 1 wrapped records, else how much of the rest is the first of two segments. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct wal_disk disk;
    KP_AUTO_BUF struct kp_buf wrapped = {0};
    if (len < 1)
        return 0;
    wal_disk_init(&disk, 1);
    const char *path = "/wal/0000000000000001-0000000000000002.wal";
    if (data[0] == 1) {
        wrap(&wrapped, data + 1, len - 1);
        put_file(&disk, path, wrapped.data, wrapped.len);
    } else {
        size_t first = data[0] == 0 ? len - 1 : (len - 1) * data[0] / 256;
        put_file(&disk, path, data + 1, first);
        if (data[0] != 0)
            put_file(&disk, "/wal/0000000000000002-0000000000000003.wal", data + 1 + first, len - 1 - first);
    }
    struct wal_config config = {"/wal", &disk.io, 4096};
    check(&config);
    wal_disk_done(&disk);
    return 0;
}
