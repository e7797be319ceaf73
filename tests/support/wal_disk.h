/* A disk in memory behind struct wal_io: fails or dies at the nth call, and forgets or tears what was not synced. */
#ifndef TESTS_SUPPORT_WAL_DISK_H
#define TESTS_SUPPORT_WAL_DISK_H

#include "controlplane/etcd/wal/wal.h"

#define WAL_DISK_FILES_MAX 512
#define WAL_DISK_HANDLES_MAX 64

struct wal_disk_bytes {
    uint8_t *data;
    size_t len;
};
struct wal_disk_file {
    bool used;
    struct wal_disk_bytes live, durable;
};
struct wal_disk_name { /* file < 0: none */
    char path[128];
    int file;
};
struct wal_disk {
    struct wal_io io; /* give this to the log */
    struct wal_disk_file files[WAL_DISK_FILES_MAX];
    struct wal_disk_name live[WAL_DISK_FILES_MAX], durable[WAL_DISK_FILES_MAX];
    size_t live_len, durable_len;
    int handles[WAL_DISK_HANDLES_MAX]; /* file, or -1 */
    uint64_t random;
    uint64_t calls;      /* made so far */
    uint64_t fail_at;    /* the call with this number (from 1) fails; 0: none */
    int fail_with;       /* negative errno */
    bool die;            /* ... and so do all after it: the power is gone */
    size_t short_writes; /* pwrite takes at most this much; 0: all */
    uint64_t syncs;
};
void wal_disk_init(struct wal_disk *disk, uint64_t seed);
void wal_disk_done(struct wal_disk *disk);
/* Power comes back: names and sectors that were not synced are there or not, at random; then no call fails. */
void wal_disk_crash(struct wal_disk *disk);
/* A deep copy with its own io. */
void wal_disk_copy(struct wal_disk *out, const struct wal_disk *disk);
/* The live bytes of the last (highest) .wal file, to be damaged; NULL: none. */
struct wal_disk_bytes *wal_disk_last_segment(struct wal_disk *disk);
/* All segments in order. */
size_t wal_disk_segments(struct wal_disk *disk, struct wal_disk_bytes *ret[], size_t max);

#endif
