/* libc as a member sees it: files below /sim are the simulated disk's, clocks and random numbers the simulator's, and an
   allocation may be the last thing that it does. The linker sends calls here (wraps). */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "tests/sim/disk.h"

/* Prototypes of both ends of each wrap. */
#define WRAP(ret, name, ...)                                                                                           \
    ret __real_##name(__VA_ARGS__);                                                                                    \
    ret __wrap_##name(__VA_ARGS__);                                                                                    \
    ret __wrap_##name(__VA_ARGS__)

static struct cage_owner *disk_owner;    /* whose turn it is, also for LMDB's copying thread */
static _Thread_local bool crash_is_due;   /* of the call under way */

void libc_owner(struct cage_owner *owner);
void libc_owner(struct cage_owner *owner) { disk_owner = owner; }
struct cage_owner *libc_current(void);
struct cage_owner *libc_current(void) { return disk_owner; }

static int result(int rc)
{
    if (rc >= 0)
        return rc;
    errno = -rc;
    return -1;
}

static int64_t result_64(int64_t rc)
{
    if (rc >= 0)
        return rc;
    errno = (int)-rc;
    return -1;
}

/* Before a call: time passes and the crash may come first. False: fail with EIO (a helper thread cannot crash). */
static bool begin(unsigned cost)
{
    struct cage_owner *owner = disk_owner;
    crash_is_due = false;
    if (!owner)
        return true;
    owner->busy_ns += owner->disk ? owner->disk->faults.io_ns * cost : 0;
    crash_is_due = cage_count_io(owner);
    if (!crash_is_due)
        return true;
    bool first = rng_next(&owner->disk->random) % 2;
    counters.crash_at_io += cage_owner() != NULL;
    if (first && cage_owner())
        cage_crash();
    return !first;
}

static void end(void)
{
    if (crash_is_due && cage_owner())
        cage_crash();
}

#define CALL(cost, expr)                                                                                               \
    __extension__({                                                                                                    \
        __typeof__(expr) rc_ = -EIO;                                                                                   \
        if (begin(cost)) {                                                                                             \
            struct cage_owner *owner_ = cage_owner(); /* the disk's own allocations are not the member's */          \
            if (owner_)                                                                                                \
                cage_leave();                                                                                         \
            rc_ = (expr);                                                                                              \
            if (owner_)                                                                                                \
                cage_enter(owner_);                                                                                   \
        }                                                                                                              \
        end();                                                                                                         \
        rc_;                                                                                                           \
    })

/* ---- files ---- */

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    unsigned mode = va_arg(ap, unsigned);
    va_end(ap);
    if (!disk_is_path(path))
        return __real_open(path, flags, mode);
    return result(CALL(1, disk_open(path, flags)));
}

WRAP(int, close, int fd)
{
    return disk_is_fd(fd) ? result(disk_close(fd)) : __real_close(fd);
}
WRAP(ssize_t, read, int fd, void *data, size_t len)
{
    return disk_is_fd(fd) ? (ssize_t)result_64(CALL(1, disk_read(fd, data, len, -1))) : __real_read(fd, data, len);
}
WRAP(ssize_t, pread, int fd, void *data, size_t len, off_t offset)
{
    return disk_is_fd(fd) ? (ssize_t)result_64(CALL(1, disk_read(fd, data, len, offset)))
                          : __real_pread(fd, data, len, offset);
}
WRAP(ssize_t, __read_chk, int fd, void *data, size_t len, size_t room)
{
    return disk_is_fd(fd) ? __wrap_read(fd, data, len) : __real___read_chk(fd, data, len, room);
}
WRAP(ssize_t, __pread_chk, int fd, void *data, size_t len, off_t offset, size_t room)
{
    return disk_is_fd(fd) ? __wrap_pread(fd, data, len, offset) : __real___pread_chk(fd, data, len, offset, room);
}

/* A crash inside of a write leaves some of it. */
static int64_t write_at(int fd, const void *data, size_t len, int64_t offset)
{
    if (crash_is_due)
        len = (size_t)rng_below(&disk_owner->disk->random, len + 1);
    return disk_write(fd, data, len, offset);
}

WRAP(ssize_t, write, int fd, const void *data, size_t len)
{
    return disk_is_fd(fd) ? (ssize_t)result_64(CALL(1, write_at(fd, data, len, -1))) : __real_write(fd, data, len);
}
WRAP(ssize_t, pwrite, int fd, const void *data, size_t len, off_t offset)
{
    return disk_is_fd(fd) ? (ssize_t)result_64(CALL(1, write_at(fd, data, len, offset)))
                          : __real_pwrite(fd, data, len, offset);
}

static int64_t write_vector(int fd, const struct iovec *parts, int len, int64_t offset)
{
    int64_t done = 0;
    for (int i = 0; i < len; i++) {
        int64_t rc = write_at(fd, parts[i].iov_base, parts[i].iov_len, offset < 0 ? -1 : offset + done);
        if (rc < 0)
            return done ? done : rc;
        done += rc;
        if ((size_t)rc < parts[i].iov_len)
            break;
    }
    return done;
}
WRAP(ssize_t, writev, int fd, const struct iovec *parts, int len)
{
    return disk_is_fd(fd) ? (ssize_t)result_64(CALL(1, write_vector(fd, parts, len, -1)))
                          : __real_writev(fd, parts, len);
}
WRAP(ssize_t, pwritev, int fd, const struct iovec *parts, int len, off_t offset)
{
    return disk_is_fd(fd) ? (ssize_t)result_64(CALL(1, write_vector(fd, parts, len, offset)))
                          : __real_pwritev(fd, parts, len, offset);
}

WRAP(int, fsync, int fd) { return disk_is_fd(fd) ? result(CALL(10, disk_sync(fd))) : __real_fsync(fd); }
WRAP(int, fdatasync, int fd) { return disk_is_fd(fd) ? result(CALL(10, disk_sync(fd))) : __real_fdatasync(fd); }
WRAP(int, ftruncate, int fd, off_t len)
{
    return disk_is_fd(fd) ? result(CALL(1, disk_truncate(fd, len))) : __real_ftruncate(fd, len);
}
WRAP(int, fallocate, int fd, int mode, off_t offset, off_t len)
{
    return disk_is_fd(fd) ? result(CALL(1, disk_fallocate(fd, offset, len))) : __real_fallocate(fd, mode, offset, len);
}
WRAP(off_t, lseek, int fd, off_t offset, int whence)
{
    return disk_is_fd(fd) ? (off_t)result_64(disk_seek(fd, offset, whence)) : __real_lseek(fd, offset, whence);
}
WRAP(int, fstat, int fd, struct stat *st)
{
    return disk_is_fd(fd) ? result(disk_stat_fd(fd, st)) : __real_fstat(fd, st);
}
WRAP(int, __fxstat, int version, int fd, struct stat *st)
{
    return disk_is_fd(fd) ? result(disk_stat_fd(fd, st)) : __real___fxstat(version, fd, st);
}
WRAP(int, stat, const char *path, struct stat *st)
{
    return disk_is_path(path) ? result(CALL(1, disk_stat(path, st))) : __real_stat(path, st);
}
WRAP(int, lstat, const char *path, struct stat *st)
{
    return disk_is_path(path) ? result(CALL(1, disk_stat(path, st))) : __real_lstat(path, st);
}
WRAP(int, access, const char *path, int mode)
{
    struct stat st;
    return disk_is_path(path) ? result(CALL(1, disk_stat(path, &st))) : __real_access(path, mode);
}
WRAP(int, fstatfs, int fd, struct statfs *st)
{
    if (!disk_is_fd(fd))
        return __real_fstatfs(fd, st);
    *st = (struct statfs){.f_type = 0xEF53, .f_bsize = 4096};
    return 0;
}
WRAP(int, flock, int fd, int operation) { return disk_is_fd(fd) ? 0 : __real_flock(fd, operation); }
WRAP(int, fchmod, int fd, mode_t mode) { return disk_is_fd(fd) ? 0 : __real_fchmod(fd, mode); }
WRAP(int, rename, const char *from, const char *to)
{
    return disk_is_path(from) ? result(CALL(1, disk_rename(from, to))) : __real_rename(from, to);
}
WRAP(int, unlink, const char *path)
{
    return disk_is_path(path) ? result(CALL(1, disk_unlink(path, false))) : __real_unlink(path);
}
WRAP(int, rmdir, const char *path)
{
    return disk_is_path(path) ? result(CALL(1, disk_unlink(path, true))) : __real_rmdir(path);
}
WRAP(int, mkdir, const char *path, mode_t mode)
{
    return disk_is_path(path) ? result(CALL(1, disk_mkdir(path))) : __real_mkdir(path, mode);
}

int __real_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...)
{
    va_list ap;
    va_start(ap, command);
    void *arg = va_arg(ap, void *);
    va_end(ap);
    if (!disk_is_fd(fd))
        return __real_fcntl(fd, command, arg);
    if (command == F_GETLK)
        ((struct flock *)arg)->l_type = F_UNLCK;
    return 0; /* the only process on this disk gets every lock */
}

WRAP(void *, mmap, void *address, size_t len, int protection, int flags, int fd, off_t offset)
{
    if (!disk_is_fd(fd))
        return __real_mmap(address, len, protection, flags, fd, offset);
    KP_ASSERT(offset == 0);
    return disk_map(fd);
}
WRAP(int, munmap, void *address, size_t len)
{
    return disk_owns_address(address) ? 0 : __real_munmap(address, len);
}
WRAP(int, msync, void *address, size_t len, int flags)
{
    KP_ASSERT(!disk_owns_address(address)); /* LMDB does not write by its map as we use it */
    return __real_msync(address, len, flags);
}
WRAP(int, madvise, void *address, size_t len, int advice)
{
    return disk_owns_address(address) ? 0 : __real_madvise(address, len, advice);
}

/* mkostemp's names: a counter does. */
WRAP(int, mkostemp, char *pattern, int flags)
{
    if (!disk_is_path(pattern))
        return __real_mkostemp(pattern, flags);
    static unsigned next;
    size_t len = strlen(pattern);
    char digits[8];
    snprintf(digits, sizeof digits, "%06u", next++ % 1000000);
    memcpy(pattern + len - 6, digits, 6);
    return __wrap_open(pattern, O_RDWR | O_CREAT | O_EXCL | flags, 0600);
}

/* ---- folders ---- */

#define FOLDER_MAGIC 0x5f01de55u
struct folder {
    unsigned magic;
    size_t next;
    char path[DISK_PATH_MAX];
    struct dirent entry;
};
static struct folder folders[16];

static struct folder *folder_of(DIR *dir)
{
    struct folder *folder = (struct folder *)(void *)dir;
    return folder >= folders && folder < folders + KP_ARRAY_LEN(folders) ? folder : NULL;
}

static int open_folder(const char *path, struct folder **ret)
{
    struct stat st;
    int rc = disk_stat(path, &st);
    if (rc < 0)
        return rc;
    if (!S_ISDIR(st.st_mode))
        return -ENOTDIR;
    static size_t turn; /* one that a crash left open is taken again */
    struct folder *folder = &folders[turn++ % KP_ARRAY_LEN(folders)];
    *folder = (struct folder){.magic = FOLDER_MAGIC};
    snprintf(folder->path, sizeof folder->path, "%s", path);
    *ret = folder;
    return 0;
}
WRAP(DIR *, opendir, const char *path)
{
    if (!disk_is_path(path))
        return __real_opendir(path);
    struct folder *folder = NULL;
    return result(CALL(1, open_folder(path, &folder))) < 0 ? NULL : (DIR *)(void *)folder;
}
WRAP(struct dirent *, readdir, DIR *dir)
{
    struct folder *folder = folder_of(dir);
    if (!folder)
        return __real_readdir(dir);
    char name[DISK_PATH_MAX];
    bool is_folder;
    if (!disk_child(folder->path, folder->next, name, &is_folder))
        return NULL;
    folder->next++;
    snprintf(folder->entry.d_name, sizeof folder->entry.d_name, "%s", name);
    folder->entry.d_type = is_folder ? DT_DIR : DT_REG;
    return &folder->entry;
}
WRAP(int, closedir, DIR *dir) { return folder_of(dir) ? 0 : __real_closedir(dir); }

/* ---- time and chance ---- */

WRAP(int, clock_gettime, clockid_t clock, struct timespec *ts)
{
    struct cage_owner *owner = disk_owner;
    int64_t ns = sim_now_ns;
    if (owner)
        ns = cage_mono_ns(owner);
    if (clock == CLOCK_REALTIME)
        ns += INT64_C(1800000000) * SIM_S + (owner ? owner->wall_offset_ns : 0);
    *ts = (struct timespec){.tv_sec = ns / SIM_S, .tv_nsec = ns % SIM_S};
    return 0;
}
WRAP(int, nanosleep, const struct timespec *time, struct timespec *left)
{
    if (!disk_owner)
        return __real_nanosleep(time, left);
    disk_owner->busy_ns += time->tv_sec * SIM_S + time->tv_nsec;
    return 0;
}
WRAP(ssize_t, getrandom, void *to, size_t len, unsigned flags)
{
    static struct rng own = {7};
    struct rng *random = disk_owner ? &disk_owner->random : &own;
    for (size_t i = 0; i < len; i += 8) {
        uint64_t value = rng_next(random);
        memcpy((uint8_t *)to + i, &value, KP_MIN(len - i, sizeof value));
    }
    return (ssize_t)len;
}

/* ---- threads: there is one; whoever waits in it waits for ever ---- */

WRAP(int, pthread_cond_timedwait, pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until)
{
    if (cage_owner())
        sim_fail("sim", "a member waits (pthread_cond_timedwait) in a turn");
    return __real_pthread_cond_timedwait(cond, mutex, until);
}

WRAP(int, pthread_cond_wait, pthread_cond_t *cond, pthread_mutex_t *mutex)
{
    if (cage_owner())
        sim_fail("sim", "a member waits (pthread_cond_wait) in a turn");
    return __real_pthread_cond_wait(cond, mutex);
}

/* ---- memory ---- */

static void count_allocation(void)
{
    struct cage_owner *owner = cage_owner();
    if (!owner)
        return;
    counters.allocations++;
    if (owner->crash_at_alloc && --owner->crash_at_alloc == 0) {
        counters.crash_at_alloc++;
        cage_crash();
    }
}
WRAP(void *, malloc, size_t size)
{
    count_allocation();
    return __real_malloc(size);
}
WRAP(void *, calloc, size_t count, size_t size)
{
    count_allocation();
    return __real_calloc(count, size);
}
WRAP(void *, realloc, void *p, size_t size)
{
    count_allocation();
    return __real_realloc(p, size);
}

/* ---- what has locks that a crash would leave held ---- */

struct kp_metric;
#define SHELTERED(call)                                                                                                \
    do {                                                                                                               \
        struct cage_owner *owner = cage_owner();                                                                     \
        if (owner)                                                                                                     \
            cage_leave();                                                                                             \
        call;                                                                                                          \
        if (owner)                                                                                                     \
            cage_enter(owner);                                                                                        \
    } while (0)

/* No process is watched: metrics of many members in one registry say nothing. */
void __wrap_metrics_init(void);
void __wrap_metrics_init(void) {}
void __wrap_kp_metric_add(struct kp_metric *metric, double delta, ...);
void __wrap_kp_metric_add(struct kp_metric *metric, double delta, ...) {}
void __wrap_kp_metric_set(struct kp_metric *metric, double value, ...);
void __wrap_kp_metric_set(struct kp_metric *metric, double value, ...) {}
void __wrap_kp_metric_observe(struct kp_metric *metric, double value, ...);
void __wrap_kp_metric_observe(struct kp_metric *metric, double value, ...) {}

/* LMDB copies with a thread: nothing may be longjmp'ed over while that runs. */
WRAP(int, mdb_env_copyfd2, void *env, int fd, unsigned flags)
{
    int rc;
    SHELTERED(rc = __real_mdb_env_copyfd2(env, fd, flags));
    return rc;
}
