/* A disk in memory below libc: what was not synced may be lost or torn, calls may fail, bits may rot. */
#include "tests/sim/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define RESERVE ((size_t)4 << 30) /* of address space for a file: it never moves, for LMDB maps it */
#define GROW ((size_t)256 << 10)
#define DIRTY_BUCKETS 256

/* A sector that differs from what is durable. */
struct dirty {
    uint64_t sector;
    uint8_t old[DISK_SECTOR], middle[DISK_SECTOR]; /* durable; some state between that and now */
    bool has_middle;
    bool poisoned; /* a sync of it failed: clean for the kernel, not on the disk */
    struct dirty *next;
};
struct inode {
    uint64_t number;
    bool folder;
    uint8_t *data; /* RESERVE of address space, `committed` of them usable */
    size_t committed, size, durable_size;
    struct dirty *buckets[DIRTY_BUCKETS];
    size_t dirty_len;
};
struct disk_name {
    char path[DISK_PATH_MAX];
    struct inode *inode;
};
/* One change of a name; inode NULL: it goes. */
struct disk_op {
    char path[DISK_PATH_MAX];
    struct inode *inode;
    bool with_next; /* both halves of a rename happen or none */
};
struct handle {
    struct disk *disk; /* NULL: free */
    struct inode *inode;
    int flags;
    int64_t offset;
    char path[DISK_PATH_MAX];
};

static struct handle handles[DISK_HANDLES_MAX];
static struct disk *disks[256];
static size_t disks_len;
static uint64_t next_inode = 1;

/* ---- inodes ---- */

static struct inode *inode_new(bool folder)
{
    struct inode *inode = kp_calloc(1, sizeof *inode);
    inode->number = next_inode++;
    inode->folder = folder;
    return inode;
}

static void inode_reserve(struct inode *inode, size_t size)
{
    if (!inode->data) {
        inode->data = mmap(NULL, RESERVE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        KP_ASSERT(inode->data != MAP_FAILED);
    }
    if (size <= inode->committed)
        return;
    size_t want = (size + GROW - 1) / GROW * GROW;
    KP_ASSERT(want <= RESERVE);
    int rc = mprotect(inode->data, want, PROT_READ | PROT_WRITE);
    KP_ASSERT(rc == 0);
    inode->committed = want;
}

static void inode_set_size(struct inode *inode, size_t size)
{
    inode_reserve(inode, size);
    if (size < inode->size)
        memset(inode->data + size, 0, inode->size - size);
    inode->size = size;
}

static struct dirty *dirty_find(struct inode *inode, uint64_t sector)
{
    for (struct dirty *d = inode->buckets[sector % DIRTY_BUCKETS]; d; d = d->next)
        if (d->sector == sector)
            return d;
    return NULL;
}

/* Before sectors change: remembers what the disk has of them. */
static void dirty_note(struct disk *disk, struct inode *inode, size_t offset, size_t len)
{
    for (uint64_t s = offset / DISK_SECTOR; len && s <= (offset + len - 1) / DISK_SECTOR; s++) {
        struct dirty *d = dirty_find(inode, s);
        if (!d) {
            d = kp_malloc(sizeof *d);
            d->sector = s;
            d->has_middle = d->poisoned = false;
            memcpy(d->old, inode->data + s * DISK_SECTOR, DISK_SECTOR);
            d->next = inode->buckets[s % DIRTY_BUCKETS];
            inode->buckets[s % DIRTY_BUCKETS] = d;
            inode->dirty_len++;
        } else if (rng_next(&disk->random) % 2) {
            memcpy(d->middle, inode->data + s * DISK_SECTOR, DISK_SECTOR);
            d->has_middle = true;
        }
        d->poisoned = false;
    }
}

/* All of it is durable now, but for what an earlier failure made the kernel forget. */
static void inode_sync(struct inode *inode)
{
    for (size_t b = 0; inode->dirty_len && b < DIRTY_BUCKETS; b++)
        for (struct dirty **at = &inode->buckets[b]; *at;) {
            struct dirty *d = *at;
            if (d->poisoned) {
                at = &d->next;
                continue;
            }
            *at = d->next;
            inode->dirty_len--;
            free(d);
        }
    inode->durable_size = inode->size;
}

static void inode_poison(struct inode *inode)
{
    for (size_t b = 0; b < DIRTY_BUCKETS; b++)
        for (struct dirty *d = inode->buckets[b]; d; d = d->next)
            d->poisoned = true;
}

/* ---- names ---- */

static struct disk *disk_of_path(const char *path)
{
    for (size_t i = 0; i < disks_len; i++) {
        size_t len = strlen(disks[i]->root);
        if (strncmp(path, disks[i]->root, len) == 0 && (path[len] == '/' || path[len] == '\0'))
            return disks[i];
    }
    return NULL;
}

/* Doubled and trailing slashes go. */
static void normalize(char out[DISK_PATH_MAX], const char *path)
{
    size_t len = 0;
    for (const char *p = path; *p; p++) {
        if (*p == '/' && (p[1] == '/' || p[1] == '\0'))
            continue;
        KP_ASSERT(len < DISK_PATH_MAX - 1);
        out[len++] = *p;
    }
    out[len] = '\0';
}

static struct disk_name *find(struct disk_name *names, size_t len, const char *path)
{
    for (size_t i = 0; i < len; i++)
        if (strcmp(names[i].path, path) == 0)
            return &names[i];
    return NULL;
}

static void set_name(struct disk_name **names, size_t *len, size_t *cap, const char *path, struct inode *inode)
{
    struct disk_name *name = find(*names, *len, path);
    if (name && !inode) {
        *name = (*names)[--*len];
        return;
    }
    if (!inode)
        return;
    if (!name) {
        if (*len == *cap) {
            *cap = *cap ? *cap * 2 : 16;
            *names = kp_realloc(*names, *cap * sizeof **names);
        }
        name = &(*names)[(*len)++];
        snprintf(name->path, sizeof name->path, "%s", path);
    }
    name->inode = inode;
}

static void change_name(struct disk *disk, const char *path, struct inode *inode, bool with_next)
{
    set_name(&disk->names, &disk->names_len, &disk->names_cap, path, inode);
    if (disk->ops_len == disk->ops_cap) {
        disk->ops_cap = disk->ops_cap ? disk->ops_cap * 2 : 16;
        disk->ops = kp_realloc(disk->ops, disk->ops_cap * sizeof *disk->ops);
    }
    struct disk_op *op = &disk->ops[disk->ops_len++];
    *op = (struct disk_op){.inode = inode, .with_next = with_next};
    snprintf(op->path, sizeof op->path, "%s", path);
}

static bool is_child(const char *path, const char *folder)
{
    size_t len = strlen(folder);
    return strncmp(path, folder, len) == 0 && path[len] == '/' && !strchr(path + len + 1, '/');
}

static void make_op_durable(struct disk *disk, const struct disk_op *op)
{
    set_name(&disk->durable_names, &disk->durable_len, &disk->durable_cap, op->path, op->inode);
}

static void sync_folder(struct disk *disk, const char *folder)
{
    size_t kept = 0;
    for (size_t i = 0; i < disk->ops_len; i++) {
        if (is_child(disk->ops[i].path, folder))
            make_op_durable(disk, &disk->ops[i]);
        else
            disk->ops[kept++] = disk->ops[i];
    }
    disk->ops_len = kept;
}

struct disk *disk_new(const char *root, struct rng random)
{
    struct disk *disk = kp_calloc(1, sizeof *disk);
    snprintf(disk->root, sizeof disk->root, "%s", root);
    disk->random = random;
    set_name(&disk->names, &disk->names_len, &disk->names_cap, root, inode_new(true));
    set_name(&disk->durable_names, &disk->durable_len, &disk->durable_cap, root, disk->names[0].inode);
    KP_ASSERT(disks_len < KP_ARRAY_LEN(disks));
    disks[disks_len++] = disk;
    return disk;
}

uint64_t disk_bytes(const struct disk *disk)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < disk->names_len; i++)
        bytes += disk->names[i].inode->size;
    return bytes;
}

/* ---- crashes ---- */

static void put_back(struct disk *disk, struct inode *inode, const struct dirty *d)
{
    uint8_t *to = inode->data + d->sector * DISK_SECTOR;
    counters.sectors_dropped++;
    memcpy(to, d->has_middle && rng_next(&disk->random) % 2 ? d->middle : d->old, DISK_SECTOR);
}

/* What was poisoned may be read from the page cache until now; half of it was never written. */
static void inode_kill(struct disk *disk, struct inode *inode)
{
    for (size_t b = 0; inode->dirty_len && b < DIRTY_BUCKETS; b++)
        for (struct dirty **at = &inode->buckets[b]; *at;) {
            struct dirty *d = *at;
            if (!d->poisoned) {
                at = &d->next;
                continue;
            }
            if (rng_next(&disk->random) % 2)
                put_back(disk, inode, d);
            *at = d->next;
            inode->dirty_len--;
            free(d);
        }
}

static int by_sector(const void *a, const void *b)
{
    const struct dirty *const *x = a, *const *y = b;
    return (*x)->sector < (*y)->sector ? -1 : (*x)->sector > (*y)->sector;
}

/* A disk writes a sector whole or not at all, in any order; a file system may also write in order and stop at a byte. */
static void inode_lose_power(struct disk *disk, struct inode *inode)
{
    struct rng *random = &disk->random;
    size_t size = rng_next(random) % 2 ? inode->durable_size : inode->size, len = 0;
    struct dirty **all = kp_calloc(inode->dirty_len + 1, sizeof *all);
    inode_reserve(inode, KP_MAX(size, inode->size));
    for (size_t b = 0; len < inode->dirty_len && b < DIRTY_BUCKETS; b++)
        for (struct dirty *d = inode->buckets[b]; d; d = d->next)
            all[len++] = d;
    qsort(all, len, sizeof(struct dirty *), by_sector);
    unsigned kept = (unsigned)rng_below(random, 101); /* percent of the sectors that made it */
    size_t cut = len && rng_below(random, 8) == 0 ? (size_t)rng_below(random, len) : len;
    for (size_t i = 0; i < len; i++) {
        uint8_t *to = inode->data + all[i]->sector * DISK_SECTOR;
        if (i == cut) {
            size_t at = (size_t)rng_below(random, DISK_SECTOR);
            memcpy(to + at, all[i]->old + at, DISK_SECTOR - at);
            counters.sectors_torn++;
        } else if (cut < len ? i > cut : rng_below(random, 100) >= kept) {
            put_back(disk, inode, all[i]);
        }
        free(all[i]);
    }
    free(all);
    memset(inode->buckets, 0, sizeof inode->buckets);
    inode->dirty_len = 0;
    inode->size = KP_MAX(size, inode->size);
    inode_set_size(inode, size);
    inode->durable_size = size;
}

static void close_handles(struct disk *disk)
{
    for (size_t i = 0; i < DISK_HANDLES_MAX; i++)
        if (handles[i].disk == disk)
            handles[i].disk = NULL;
}

static bool is_lock_file(const char *path) { return kp_ends_with(path, "-lock"); }

void disk_crash(struct disk *disk, enum disk_crash how)
{
    if (how == DISK_POWER) {
        /* The file system commits its changes of names in order: some prefix of them is there. */
        size_t done = (size_t)rng_below(&disk->random, disk->ops_len + 1);
        while (done > 0 && disk->ops[done - 1].with_next)
            done--;
        for (size_t i = 0; i < done; i++)
            make_op_durable(disk, &disk->ops[i]);
        counters.names_dropped += disk->ops_len - done;
        disk->names_len = 0;
        for (size_t i = 0; i < disk->durable_len; i++)
            set_name(&disk->names, &disk->names_len, &disk->names_cap, disk->durable_names[i].path,
                     disk->durable_names[i].inode);
        disk->ops_len = 0;
    }
    for (size_t i = 0; i < disk->names_len; i++) {
        struct inode *inode = disk->names[i].inode;
        if (is_lock_file(disk->names[i].path)) /* its mutexes belong to a process that is no more */
            disk->names[i].inode = inode_new(false);
        else if (!inode->folder && how == DISK_POWER) {
            sim_trace("%s loses power with %zu sectors not synced", disk->names[i].path, inode->dirty_len);
            inode_lose_power(disk, inode);
        } else if (!inode->folder) {
            inode_kill(disk, inode);
        }
    }
    close_handles(disk);
}

bool disk_rot(struct disk *disk, const char *suffix)
{
    struct disk_name *found[64];
    size_t len = 0;
    for (size_t i = 0; i < disk->names_len && len < KP_ARRAY_LEN(found); i++)
        if (!disk->names[i].inode->folder && disk->names[i].inode->size && kp_ends_with(disk->names[i].path, suffix))
            found[len++] = &disk->names[i];
    if (!len)
        return false;
    struct inode *inode = found[rng_below(&disk->random, len)]->inode;
    size_t used = inode->size;
    while (used && inode->data[used - 1] == 0)
        used--;
    if (!used)
        return false;
    size_t at = (size_t)rng_below(&disk->random, used);
    inode->data[at] ^= (uint8_t)(1u << rng_below(&disk->random, 8));
    struct dirty *d = dirty_find(inode, at / DISK_SECTOR);
    if (d)
        memcpy(d->old, inode->data + d->sector * DISK_SECTOR, DISK_SECTOR);
    return true;
}

void disk_each(struct disk *disk, void (*fn)(void *ctx, const char *path, uint8_t *data, size_t len), void *ctx)
{
    for (size_t i = 0; i < disk->names_len; i++)
        if (!disk->names[i].inode->folder)
            fn(ctx, disk->names[i].path, disk->names[i].inode->data, disk->names[i].inode->size);
}

/* ---- calls ---- */

static struct handle *handle_of(int fd)
{
    KP_ASSERT(fd >= DISK_FD_BASE && fd < DISK_FD_BASE + DISK_HANDLES_MAX);
    struct handle *handle = &handles[fd - DISK_FD_BASE];
    KP_ASSERT(handle->disk);
    return handle;
}

const char *disk_path_of(int fd) { return handle_of(fd)->path; }

static int parent_exists(struct disk *disk, const char *path)
{
    char parent[DISK_PATH_MAX];
    snprintf(parent, sizeof parent, "%s", path);
    char *slash = strrchr(parent, '/');
    *slash = '\0';
    struct disk_name *name = find(disk->names, disk->names_len, parent);
    return !name ? -ENOENT : !name->inode->folder ? -ENOTDIR : 0;
}

int disk_open(const char *raw, int flags)
{
    char path[DISK_PATH_MAX];
    normalize(path, raw);
    struct disk *disk = disk_of_path(path);
    if (!disk)
        return -ENOENT;
    struct disk_name *name = find(disk->names, disk->names_len, path);
    if (name && (flags & O_CREAT) && (flags & O_EXCL))
        return -EEXIST;
    struct inode *inode = name ? name->inode : NULL;
    if (!inode) {
        int rc = parent_exists(disk, path);
        if (!(flags & O_CREAT) || rc < 0)
            return rc < 0 ? rc : -ENOENT;
        inode = inode_new(false);
        change_name(disk, path, inode, false);
    }
    if ((flags & O_DIRECTORY) && !inode->folder)
        return -ENOTDIR;
    if (inode->folder && (flags & O_ACCMODE) != O_RDONLY)
        return -EISDIR;
    if ((flags & O_TRUNC) && inode->size) {
        dirty_note(disk, inode, 0, inode->size);
        inode_set_size(inode, 0);
    }
    for (int i = 0; i < DISK_HANDLES_MAX; i++)
        if (!handles[i].disk) {
            handles[i] = (struct handle){.disk = disk, .inode = inode, .flags = flags};
            snprintf(handles[i].path, sizeof handles[i].path, "%s", path);
            return DISK_FD_BASE + i;
        }
    return -EMFILE;
}

int disk_close(int fd)
{
    handle_of(fd)->disk = NULL;
    return 0;
}

int64_t disk_read(int fd, void *data, size_t len, int64_t offset)
{
    struct handle *handle = handle_of(fd);
    struct inode *inode = handle->inode;
    if (inode->folder)
        return -EISDIR;
    int64_t at = offset < 0 ? handle->offset : offset;
    if ((size_t)at >= inode->size)
        return 0;
    len = KP_MIN(len, inode->size - (size_t)at);
    memcpy(data, inode->data + at, len);
    if (offset < 0)
        handle->offset += (int64_t)len;
    return (int64_t)len;
}

static void put(struct handle *handle, const void *data, size_t len, size_t at)
{
    struct inode *inode = handle->inode;
    if (!len)
        return;
    inode_reserve(inode, (at + len + DISK_SECTOR - 1) / DISK_SECTOR * DISK_SECTOR);
    dirty_note(handle->disk, inode, at, len);
    inode->size = KP_MAX(inode->size, at + len);
    memcpy(inode->data + at, data, len);
}

/* An O_DSYNC write: these sectors alone. */
static void put_through(struct handle *handle, size_t at, size_t len)
{
    struct inode *inode = handle->inode;
    for (uint64_t s = at / DISK_SECTOR; len && s <= (at + len - 1) / DISK_SECTOR; s++)
        for (struct dirty **d = &inode->buckets[s % DIRTY_BUCKETS]; *d; d = &(*d)->next)
            if ((*d)->sector == s) {
                struct dirty *gone = *d;
                *d = gone->next;
                inode->dirty_len--;
                free(gone);
                break;
            }
    inode->durable_size = KP_MAX(inode->durable_size, at + len);
}

static bool lies(const struct handle *handle)
{
    const char *about = handle->disk->faults.lies_about;
    return about && strstr(handle->path, about);
}

int64_t disk_write(int fd, const void *data, size_t len, int64_t offset)
{
    struct handle *handle = handle_of(fd);
    struct disk *disk = handle->disk;
    struct inode *inode = handle->inode;
    size_t at = (size_t)(offset < 0 ? handle->offset : offset);
    if (offset < 0 && (handle->flags & O_APPEND))
        at = inode->size;
    if (disk->faults.write_error_ppm && rng_below(&disk->random, 1000000) < disk->faults.write_error_ppm) {
        put(handle, data, (size_t)rng_below(&disk->random, len + 1), at); /* some of it may have been done */
        counters.write_errors++;
        return -EIO;
    }
    if (disk->faults.full && at + len > inode->size) {
        size_t fits = at < inode->size ? inode->size - at : 0;
        counters.disk_full_hits++;
        if (!fits)
            return -ENOSPC;
        len = fits;
    }
    put(handle, data, len, at);
    if ((handle->flags & O_DSYNC) && !lies(handle))
        put_through(handle, at, len);
    if (offset < 0)
        handle->offset = (int64_t)(at + len);
    return (int64_t)len;
}

int disk_sync(int fd)
{
    struct handle *handle = handle_of(fd);
    struct disk *disk = handle->disk;
    if (lies(handle))
        return 0;
    if (disk->faults.sync_error_ppm && rng_below(&disk->random, 1000000) < disk->faults.sync_error_ppm) {
        inode_poison(handle->inode);
        counters.sync_errors++;
        sim_trace("%s: a sync fails, %zu sectors are in doubt", handle->path, handle->inode->dirty_len);
        return -EIO;
    }
    if (handle->inode->folder)
        sync_folder(disk, handle->path);
    else
        inode_sync(handle->inode);
    return 0;
}

int disk_truncate(int fd, int64_t len)
{
    struct handle *handle = handle_of(fd);
    struct inode *inode = handle->inode;
    if (handle->disk->faults.full && (size_t)len > inode->size) {
        counters.disk_full_hits++;
        return -ENOSPC;
    }
    if ((size_t)len < inode->size)
        dirty_note(handle->disk, inode, (size_t)len, inode->size - (size_t)len);
    inode_set_size(inode, (size_t)len);
    return 0;
}

int disk_fallocate(int fd, int64_t offset, int64_t len)
{
    struct handle *handle = handle_of(fd);
    if ((size_t)(offset + len) <= handle->inode->size)
        return 0;
    return disk_truncate(fd, offset + len);
}

int64_t disk_seek(int fd, int64_t offset, int whence)
{
    struct handle *handle = handle_of(fd);
    int64_t from = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? handle->offset : (int64_t)handle->inode->size;
    if (from + offset < 0)
        return -EINVAL;
    return handle->offset = from + offset;
}

static void fill_stat(const struct inode *inode, struct stat *st)
{
    *st = (struct stat){.st_ino = inode->number,
                        .st_dev = 0x51,
                        .st_nlink = 1,
                        .st_mode = inode->folder ? S_IFDIR | 0700 : S_IFREG | 0600,
                        .st_size = (off_t)inode->size,
                        .st_blksize = 4096,
                        .st_blocks = (blkcnt_t)((inode->size + 511) / 512)};
}

int disk_stat_fd(int fd, struct stat *st)
{
    fill_stat(handle_of(fd)->inode, st);
    return 0;
}

int disk_stat(const char *raw, struct stat *st)
{
    char path[DISK_PATH_MAX];
    normalize(path, raw);
    struct disk *disk = disk_of_path(path);
    struct disk_name *name = disk ? find(disk->names, disk->names_len, path) : NULL;
    if (!name)
        return -ENOENT;
    fill_stat(name->inode, st);
    return 0;
}

int disk_rename(const char *raw_from, const char *raw_to)
{
    char from[DISK_PATH_MAX], to[DISK_PATH_MAX];
    normalize(from, raw_from);
    normalize(to, raw_to);
    struct disk *disk = disk_of_path(from);
    struct disk_name *name = disk ? find(disk->names, disk->names_len, from) : NULL;
    if (!name || disk_of_path(to) != disk)
        return name ? -EXDEV : -ENOENT;
    KP_ASSERT(!name->inode->folder); /* no member renames a folder; add it when one does */
    int rc = parent_exists(disk, to);
    if (rc < 0)
        return rc;
    struct inode *inode = name->inode;
    change_name(disk, to, inode, true);
    change_name(disk, from, NULL, false);
    return 0;
}

int disk_unlink(const char *raw, bool folder)
{
    char path[DISK_PATH_MAX];
    normalize(path, raw);
    struct disk *disk = disk_of_path(path);
    struct disk_name *name = disk ? find(disk->names, disk->names_len, path) : NULL;
    if (!name)
        return -ENOENT;
    if (name->inode->folder != folder)
        return folder ? -ENOTDIR : -EISDIR;
    for (size_t i = 0; folder && i < disk->names_len; i++)
        if (is_child(disk->names[i].path, path))
            return -ENOTEMPTY;
    change_name(disk, path, NULL, false);
    return 0;
}

int disk_mkdir(const char *raw)
{
    char path[DISK_PATH_MAX];
    normalize(path, raw);
    struct disk *disk = disk_of_path(path);
    if (!disk) /* above all disks */
        return -EEXIST;
    if (find(disk->names, disk->names_len, path))
        return -EEXIST;
    int rc = parent_exists(disk, path);
    if (rc < 0)
        return rc;
    if (disk->faults.full) {
        counters.disk_full_hits++;
        return -ENOSPC;
    }
    change_name(disk, path, inode_new(true), false);
    return 0;
}

void *disk_map(int fd)
{
    struct inode *inode = handle_of(fd)->inode;
    inode_reserve(inode, KP_MAX(inode->size, (size_t)1));
    return inode->data;
}

bool disk_owns_address(const void *address)
{
    const uint8_t *at = address;
    for (size_t d = 0; d < disks_len; d++)
        for (size_t i = 0; i < disks[d]->names_len; i++) {
            const struct inode *inode = disks[d]->names[i].inode;
            if (inode->data && at >= inode->data && at < inode->data + RESERVE)
                return true;
        }
    return false;
}

bool disk_child(const char *raw, size_t n, char name[DISK_PATH_MAX], bool *ret_folder)
{
    char folder[DISK_PATH_MAX];
    normalize(folder, raw);
    struct disk *disk = disk_of_path(folder);
    for (size_t i = 0; disk && i < disk->names_len; i++)
        if (is_child(disk->names[i].path, folder) && n-- == 0) {
            snprintf(name, DISK_PATH_MAX, "%s", disk->names[i].path + strlen(folder) + 1);
            *ret_folder = disk->names[i].inode->folder;
            return true;
        }
    return false;
}
