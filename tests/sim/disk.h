/* A disk in memory below libc: what was not synced may be lost or torn, calls may fail, bits may rot. */
#ifndef TESTS_SIM_DISK_H
#define TESTS_SIM_DISK_H

#include <stdarg.h>
#include <sys/stat.h>

#include "tests/sim/sim.h"

#define DISK_SECTOR 512
#define DISK_PATH_MAX 160
#define DISK_ROOT "/sim/" /* every path below is the simulator's */
#define DISK_FD_BASE 100000
#define DISK_HANDLES_MAX 4096

enum disk_crash { DISK_KILL, DISK_POWER }; /* the page cache survives, or only what was synced for sure */

struct disk_faults {
    unsigned sync_error_ppm, write_error_ppm; /* of calls */
    bool full;                                /* nothing grows */
    int64_t io_ns;                            /* what each call takes; a sync ten times that */
    const char *lies_about;                   /* planted: of paths with this in them it says that it synced */
};
struct disk {
    char root[DISK_PATH_MAX]; /* "/sim/7" */
    struct rng random;
    struct disk_faults faults;
    struct disk_name *names, *durable_names;
    size_t names_len, names_cap, durable_len, durable_cap;
    struct disk_op *ops; /* changes of names that are not synced */
    size_t ops_len, ops_cap;
};
struct disk *disk_new(const char *root, struct rng random);
void disk_crash(struct disk *disk, enum disk_crash how);
/* Flips a bit of a file whose path ends with suffix, within its written part; false when there is none. */
bool disk_rot(struct disk *disk, const char *suffix);
/* Calls fn for each file. */
void disk_each(struct disk *disk, void (*fn)(void *ctx, const char *path, uint8_t *data, size_t len), void *ctx);
uint64_t disk_bytes(const struct disk *disk);

/* What libc.c forwards: like the system calls, -errno on failure. */
int disk_open(const char *path, int flags);
int disk_close(int fd);
int64_t disk_read(int fd, void *data, size_t len, int64_t offset);        /* offset -1: at the handle's own */
int64_t disk_write(int fd, const void *data, size_t len, int64_t offset); /* the same */
int disk_sync(int fd);
int disk_truncate(int fd, int64_t len);
int disk_fallocate(int fd, int64_t offset, int64_t len);
int64_t disk_seek(int fd, int64_t offset, int whence);
int disk_stat_fd(int fd, struct stat *st);
int disk_stat(const char *path, struct stat *st);
int disk_rename(const char *from, const char *to);
int disk_unlink(const char *path, bool folder);
int disk_mkdir(const char *path);
void *disk_map(int fd);
bool disk_owns_address(const void *address);
/* The nth child of a folder; false after the last. */
bool disk_child(const char *folder, size_t n, char name[DISK_PATH_MAX], bool *ret_folder);
const char *disk_path_of(int fd);
static inline bool disk_is_fd(int fd) { return fd >= DISK_FD_BASE; }
static inline bool disk_is_path(const char *path) { return path && strncmp(path, DISK_ROOT, strlen(DISK_ROOT)) == 0; }

#endif
