/* Replay of arbitrary bytes as the segments of a log: no crash, no leak, and what it accepts is consistent. */
#include "tests/support/wal_disk.h"

#include <fcntl.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void put_file(struct wal_disk *disk, const char *path, const uint8_t *data, size_t len)
{
    int fd = disk->io.open(disk, path, O_CREAT | O_RDWR, 0600);
    if (len > 0 && disk->io.pwrite(disk, fd, data, len, 0) != (ssize_t)len)
        abort();
    disk->io.close(disk, fd);
}

/* The first byte says how much of the rest is the first segment; none: all of it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct wal_disk disk;
    if (len < 1)
        return 0;
    wal_disk_init(&disk, 1);
    size_t first = data[0] == 0 ? len - 1 : (len - 1) * data[0] / 256;
    put_file(&disk, "/wal/0000000000000001-0000000000000002.wal", data + 1, first);
    if (data[0] != 0)
        put_file(&disk, "/wal/0000000000000002-0000000000000003.wal", data + 1 + first, len - 1 - first);
    struct wal_config config = {"/wal", &disk.io, 4096};
    struct wal_replay replay, again;
    struct wal *wal = NULL;
    struct kp_error error = {0};
    if (wal_open(&config, &replay, &wal, &error) == 0) {
        for (size_t i = 0; i < replay.entries_len; i++)
            KP_ASSERT(replay.entries[i].index == replay.snapshot.index + 1 + i);
        KP_ASSERT(replay.hard_state.commit <= replay.snapshot.index + replay.entries_len);
        wal_close(wal);
        /* Repaired once, it is whole and says the same. */
        KP_ASSERT(wal_open(&config, &again, &wal, &error) == 0);
        KP_ASSERT(again.torn_bytes == 0 && again.entries_len == replay.entries_len);
        wal_replay_done(&again);
        wal_replay_done(&replay);
        wal_close(wal);
    } else {
        KP_ASSERT(error.message[0] != '\0');
    }
    wal_disk_done(&disk);
    return 0;
}
