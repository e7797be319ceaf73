/* A disk in memory behind struct wal_io: fails or dies at the nth call, and forgets or tears what was not synced. */
#include "tests/support/wal_disk.h"

#include <errno.h>
#include <fcntl.h>

static uint64_t next_random(struct wal_disk *disk)
{
    uint64_t z = (disk->random += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Counts a call; negative when it is to fail. */
static int called(struct wal_disk *disk)
{
    disk->calls++;
    if (disk->fail_at != 0 && (disk->calls == disk->fail_at || (disk->die && disk->calls > disk->fail_at)))
        return disk->fail_with ? disk->fail_with : -EIO;
    return 0;
}

static struct wal_disk_name *find(struct wal_disk_name *names, size_t len, const char *path)
{
    for (size_t i = 0; i < len; i++)
        if (kp_streq(names[i].path, path))
            return &names[i];
    return NULL;
}

static void add_name(struct wal_disk *disk, const char *path, int file)
{
    struct wal_disk_name *name = find(disk->live, disk->live_len, path);
    if (!name) {
        KP_ASSERT(disk->live_len < WAL_DISK_FILES_MAX && strlen(path) < sizeof(name->path));
        name = &disk->live[disk->live_len++];
        snprintf(name->path, sizeof(name->path), "%s", path);
    }
    name->file = file;
}

static void remove_name(struct wal_disk *disk, struct wal_disk_name *name)
{
    *name = disk->live[--disk->live_len];
}

static void set_len(struct wal_disk_bytes *bytes, size_t len)
{
    bytes->data = kp_realloc(bytes->data, len + 1);
    if (len > bytes->len)
        memset(bytes->data + bytes->len, 0, len - bytes->len);
    bytes->len = len;
}

static void copy_bytes(struct wal_disk_bytes *out, const struct wal_disk_bytes *bytes)
{
    set_len(out, bytes->len);
    if (bytes->len)
        memcpy(out->data, bytes->data, bytes->len);
}

static struct wal_disk_bytes *live_of(struct wal_disk *disk, int fd)
{
    KP_ASSERT(fd >= 0 && fd < WAL_DISK_HANDLES_MAX && disk->handles[fd] >= 0);
    return &disk->files[disk->handles[fd]].live;
}

static int disk_open(void *ctx, const char *path, int flags, unsigned mode)
{
    struct wal_disk *disk = ctx;
    int code = called(disk);
    if (code < 0)
        return code;
    struct wal_disk_name *name = find(disk->live, disk->live_len, path);
    int file = name ? name->file : -1;
    if (!name) {
        if (!(flags & O_CREAT))
            return -ENOENT;
        for (file = 0; file < WAL_DISK_FILES_MAX && disk->files[file].used; file++)
            continue;
        KP_ASSERT(file < WAL_DISK_FILES_MAX);
        disk->files[file] = (struct wal_disk_file){.used = true};
        add_name(disk, path, file);
    }
    if (flags & O_TRUNC)
        set_len(&disk->files[file].live, 0);
    for (int fd = 0; fd < WAL_DISK_HANDLES_MAX; fd++)
        if (disk->handles[fd] < 0) {
            disk->handles[fd] = file;
            return fd;
        }
    return -EMFILE;
}

static int disk_close(void *ctx, int fd)
{
    struct wal_disk *disk = ctx;
    live_of(disk, fd);
    disk->handles[fd] = -1; /* happens whether or not the power is on, and is not counted */
    return 0;
}

static int64_t disk_size(void *ctx, int fd)
{
    int code = called(ctx);
    return code < 0 ? code : (int64_t)live_of(ctx, fd)->len;
}

static ssize_t disk_pread(void *ctx, int fd, void *data, size_t len, int64_t offset)
{
    int code = called(ctx);
    struct wal_disk_bytes *bytes = live_of(ctx, fd);
    if (code < 0)
        return code;
    if ((size_t)offset >= bytes->len)
        return 0;
    len = KP_MIN(len, bytes->len - (size_t)offset);
    memcpy(data, bytes->data + offset, len);
    return (ssize_t)len;
}

static ssize_t disk_pwrite(void *ctx, int fd, const void *data, size_t len, int64_t offset)
{
    struct wal_disk *disk = ctx;
    int code = called(disk);
    struct wal_disk_bytes *bytes = live_of(disk, fd);
    size_t part = disk->short_writes ? KP_MIN(len, disk->short_writes) : len;
    if (code < 0)
        part = (size_t)(next_random(disk) % (len + 1)); /* some of it may have been done */
    if (part > 0) {
        if ((size_t)offset + part > bytes->len)
            set_len(bytes, (size_t)offset + part);
        memcpy(bytes->data + offset, data, part);
    }
    return code < 0 ? code : (ssize_t)part;
}

static int disk_fdatasync(void *ctx, int fd)
{
    struct wal_disk *disk = ctx;
    int code = called(disk);
    if (code < 0)
        return code;
    struct wal_disk_file *file = &disk->files[disk->handles[fd]];
    copy_bytes(&file->durable, &file->live);
    disk->syncs++;
    return 0;
}

static int disk_fallocate(void *ctx, int fd, int64_t offset, int64_t len)
{
    int code = called(ctx);
    struct wal_disk_bytes *bytes = live_of(ctx, fd);
    if (code < 0)
        return code;
    if ((size_t)(offset + len) > bytes->len)
        set_len(bytes, (size_t)(offset + len));
    return 0;
}

static int disk_truncate(void *ctx, int fd, int64_t len)
{
    int code = called(ctx);
    if (code < 0)
        return code;
    set_len(live_of(ctx, fd), (size_t)len);
    return 0;
}

static int disk_lock(void *ctx, int fd) { return called(ctx); }

static int disk_rename(void *ctx, const char *from, const char *to)
{
    struct wal_disk *disk = ctx;
    int code = called(disk);
    if (code < 0)
        return code;
    struct wal_disk_name *name = find(disk->live, disk->live_len, from);
    if (!name)
        return -ENOENT;
    int file = name->file;
    remove_name(disk, name);
    add_name(disk, to, file);
    return 0;
}

static int disk_unlink(void *ctx, const char *path)
{
    struct wal_disk *disk = ctx;
    int code = called(disk);
    if (code < 0)
        return code;
    struct wal_disk_name *name = find(disk->live, disk->live_len, path);
    if (!name)
        return -ENOENT;
    remove_name(disk, name);
    return 0;
}

static int disk_mkdir(void *ctx, const char *path, unsigned mode) { return called(ctx); }

static int disk_sync_folder(void *ctx, const char *path)
{
    struct wal_disk *disk = ctx;
    int code = called(disk);
    if (code < 0)
        return code;
    memcpy(disk->durable, disk->live, sizeof(disk->live));
    disk->durable_len = disk->live_len;
    return 0;
}

static int disk_readdir(void *ctx, const char *path, int (*each)(void *arg, const char *name), void *arg)
{
    struct wal_disk *disk = ctx;
    int code = called(disk);
    if (code < 0)
        return code;
    size_t prefix = strlen(path);
    for (size_t i = 0; i < disk->live_len; i++)
        if (strncmp(disk->live[i].path, path, prefix) == 0 && disk->live[i].path[prefix] == '/' &&
            each(arg, disk->live[i].path + prefix + 1) != 0)
            break;
    return 0;
}

void wal_disk_init(struct wal_disk *disk, uint64_t seed)
{
    *disk = (struct wal_disk){.random = seed};
    for (int i = 0; i < WAL_DISK_HANDLES_MAX; i++)
        disk->handles[i] = -1;
    disk->io = (struct wal_io){disk,          disk_open,     disk_close,    disk_size,   disk_pread,
                               disk_pwrite,   disk_fdatasync, disk_fallocate, disk_truncate, disk_lock,
                               disk_rename,   disk_unlink,   disk_mkdir,    disk_sync_folder, disk_readdir};
}

void wal_disk_done(struct wal_disk *disk)
{
    for (int i = 0; i < WAL_DISK_FILES_MAX; i++) {
        free(disk->files[i].live.data);
        free(disk->files[i].durable.data);
    }
    disk->io = (struct wal_io){0};
}

void wal_disk_copy(struct wal_disk *out, const struct wal_disk *disk)
{
    *out = *disk;
    out->io.ctx = out;
    for (int i = 0; i < WAL_DISK_FILES_MAX; i++) {
        out->files[i].live = out->files[i].durable = (struct wal_disk_bytes){0};
        if (!disk->files[i].used)
            continue;
        copy_bytes(&out->files[i].live, &disk->files[i].live);
        copy_bytes(&out->files[i].durable, &disk->files[i].durable);
    }
}

/* Sector by sector either what was synced or what was written since, in any order, for a disk writes a sector whole or
   not at all; now and then also cut at a byte, as a file system may that writes in order. */
static void crash_file(struct wal_disk *disk, struct wal_disk_file *file)
{
    struct wal_disk_bytes *live = &file->live, *durable = &file->durable;
    size_t len = next_random(disk) % 2 ? live->len : durable->len;
    set_len(durable, KP_MAX(len, durable->len));
    set_len(live, KP_MAX(len, live->len));
    uint64_t kept = next_random(disk) % 101; /* percent of the sectors that made it */
    for (size_t at = 0; at < len; at += 512) {
        size_t end = KP_MIN(at + 512, len);
        if (memcmp(live->data + at, durable->data + at, end - at) == 0)
            continue;
        if (next_random(disk) % 100 < kept)
            memcpy(durable->data + at, live->data + at, end - at);
        else if (next_random(disk) % 8 == 0) {
            memcpy(durable->data + at, live->data + at, (size_t)(next_random(disk) % (end - at)));
            break;
        }
    }
    set_len(durable, len);
    copy_bytes(live, durable);
}

void wal_disk_crash(struct wal_disk *disk)
{
    if (next_random(disk) % 2) { /* else: the names as they were last synced */
        memcpy(disk->durable, disk->live, sizeof(disk->live));
        disk->durable_len = disk->live_len;
    }
    memcpy(disk->live, disk->durable, sizeof(disk->live));
    disk->live_len = disk->durable_len;
    for (int i = 0; i < WAL_DISK_FILES_MAX; i++)
        if (disk->files[i].used)
            crash_file(disk, &disk->files[i]);
    /* What no name leads to is gone. */
    for (int i = 0; i < WAL_DISK_FILES_MAX; i++) {
        bool named = false;
        for (size_t n = 0; n < disk->live_len; n++)
            named = named || disk->live[n].file == i;
        if (named || !disk->files[i].used)
            continue;
        free(disk->files[i].live.data);
        free(disk->files[i].durable.data);
        disk->files[i] = (struct wal_disk_file){0};
    }
    for (int i = 0; i < WAL_DISK_HANDLES_MAX; i++)
        disk->handles[i] = -1;
    disk->fail_at = 0;
    disk->die = false;
}

static int by_path(const void *a, const void *b)
{
    const struct wal_disk_name *const *x = a, *const *y = b;
    return strcmp((*x)->path, (*y)->path);
}

size_t wal_disk_segments(struct wal_disk *disk, struct wal_disk_bytes *ret[], size_t max)
{
    struct wal_disk_name *names[WAL_DISK_FILES_MAX];
    size_t len = 0;
    for (size_t i = 0; i < disk->live_len; i++) {
        size_t path_len = strlen(disk->live[i].path);
        if (path_len > 4 && kp_streq(disk->live[i].path + path_len - 4, ".wal"))
            names[len++] = &disk->live[i];
    }
    qsort(names, len, sizeof(names[0]), by_path);
    for (size_t i = 0; i < len && i < max; i++)
        ret[i] = &disk->files[names[i]->file].live;
    return KP_MIN(len, max);
}

struct wal_disk_bytes *wal_disk_last_segment(struct wal_disk *disk)
{
    struct wal_disk_bytes *segments[WAL_DISK_FILES_MAX];
    size_t len = wal_disk_segments(disk, segments, WAL_DISK_FILES_MAX);
    return len ? segments[len - 1] : NULL;
}
