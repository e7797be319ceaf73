/* Files on libvirt's machine: node images in one pool that clusters share, each cluster's disks in a pool of its own. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cloud/libvirt/libvirt_internal.h"

#define CHUNK_BYTES 65536

static int define_pool(struct lv *lv, const char *name, const char *uuid, const char *path, virStoragePoolPtr *ret, struct kp_error *error)
{
    KP_AUTO_FREE char *element = uuid ? kp_asprintf("<uuid>%s</uuid>", uuid) : kp_strdup("");
    KP_AUTO_FREE char *xml = kp_asprintf("<pool type='dir'><name>%s</name>%s<target><path>%s</path>"
                                         "<permissions><mode>0711</mode></permissions></target></pool>", name, element, path);
    virStoragePoolPtr pool = virStoragePoolDefineXML(lv->conn, xml, 0);
    if (!pool)
        return lv_fail(error, "define storage pool %s", name);
    if (virStoragePoolBuild(pool, 0) < 0 || virStoragePoolCreate(pool, 0) < 0) {
        int r = lv_fail(error, "make storage pool %s at %s", name, path);
        (void)virStoragePoolUndefine(pool);
        virStoragePoolFree(pool);
        return r;
    }
    (void)virStoragePoolSetAutostart(pool, 1);
    *ret = pool;
    return 0;
}

static int ensure_pool(struct lv *lv, const char *uid, virStoragePoolPtr *ret, struct kp_error *error)
{
    KP_AUTO_FREE char *name = uid ? kp_asprintf("kprov-%s", uid) : kp_strdup(LV_IMAGES_POOL);
    KP_AUTO_FREE char *path = kp_asprintf("%s/%s", LV_POOLS_DIR, uid ? uid : "images");
    virStoragePoolPtr pool = uid ? virStoragePoolLookupByUUIDString(lv->conn, uid) : virStoragePoolLookupByName(lv->conn, name);
    if (!pool)
        return define_pool(lv, name, uid, path, ret, error);
    /* One that was defined and no more, when its maker was killed, has no folder yet. */
    if (virStoragePoolIsActive(pool) != 1 && (virStoragePoolBuild(pool, 0) < 0 || virStoragePoolCreate(pool, 0) < 0)) {
        int r = lv_fail(error, "start storage pool %s", name);
        virStoragePoolFree(pool);
        return r;
    }
    *ret = pool;
    return 0;
}

bool lv_pool_exists(struct lv *lv, const char *uid)
{
    virStoragePoolPtr pool = virStoragePoolLookupByUUIDString(lv->conn, uid);
    if (pool)
        virStoragePoolFree(pool);
    return pool != NULL;
}

static bool has_volume(virStoragePoolPtr pool, const char *name)
{
    virStorageVolPtr volume = virStorageVolLookupByName(pool, name);
    if (volume)
        virStorageVolFree(volume);
    return volume != NULL;
}

static int delete_volume(virStoragePoolPtr pool, const char *name, struct kp_error *error)
{
    virStorageVolPtr volume = virStorageVolLookupByName(pool, name);
    if (!volume)
        return 0;
    int r = virStorageVolDelete(volume, 0) < 0 ? lv_fail(error, "delete volume %s", name) : 0;
    virStorageVolFree(volume);
    return r;
}

static int create_volume(virStoragePoolPtr pool, const char *name, const char *format, uint64_t bytes, const char *mode,
                         virStorageVolPtr *ret, struct kp_error *error)
{
    KP_AUTO_FREE char *xml = kp_asprintf(
        "<volume><name>%s</name><capacity unit='bytes'>%llu</capacity><allocation>0</allocation>"
        "<target><format type='%s'/><permissions><mode>%s</mode></permissions></target></volume>",
        name, (unsigned long long)bytes, format, mode);
    *ret = virStorageVolCreateXML(pool, xml, 0);
    return *ret ? 0 : lv_fail(error, "make volume %s in pool %s", name, virStoragePoolGetName(pool));
}

struct source {
    int fd;           /* or */
    const char *data; /* memory */
    size_t len, at;
};

static int read_source(virStreamPtr stream, char *out, size_t max, void *arg)
{
    struct source *source = arg;
    if (source->data) {
        size_t n = KP_MIN(max, source->len - source->at);
        memcpy(out, source->data + source->at, n);
        source->at += n;
        return (int)n;
    }
    ssize_t n = read(source->fd, out, KP_MIN(max, (size_t)CHUNK_BYTES));
    return n < 0 ? -1 : (int)n;
}

static int upload(struct lv *lv, virStorageVolPtr volume, struct source *source, uint64_t bytes, struct kp_error *error)
{
    virStreamPtr stream = virStreamNew(lv->conn, 0);
    if (!stream)
        return lv_fail(error, "make a stream");
    int r = virStorageVolUpload(volume, stream, 0, bytes, 0) < 0 || virStreamSendAll(stream, read_source, source) < 0 ||
                    virStreamFinish(stream) < 0
                ? lv_fail(error, "upload volume %s", virStorageVolGetName(volume))
                : 0;
    virStreamFree(stream);
    return r;
}

static int put_memory(struct lv *lv, virStoragePoolPtr pool, const char *name, const char *data, size_t len, const char *mode,
                      struct kp_error *error)
{
    virStorageVolPtr volume = NULL;
    struct source source = {.fd = -1, .data = data, .len = len};
    int r = delete_volume(pool, name, error);
    if (r == 0)
        r = create_volume(pool, name, "raw", len, mode, &volume, error);
    if (r < 0)
        return r;
    if (len)
        r = upload(lv, volume, &source, len, error);
    virStorageVolFree(volume);
    return r;
}

/* On this machine a copy in the kernel is a second's work where libvirt's streams take minutes. */
static int copy_here(int from, off_t len, const char *to, struct kp_error *error)
{
    KP_AUTO_CLOSE int fd = open(to, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return kp_fail_errno(error, "open %s", to);
    for (off_t done = 0; done < len;) {
        ssize_t n = copy_file_range(from, NULL, fd, NULL, (size_t)(len - done), 0);
        if (n <= 0)
            return kp_fail_errno(error, "copy to %s", to);
        done += n;
    }
    return 0;
}

/* A file that is there whole has a marker beside it: an upload may have been cut short. */
static int put_file(struct lv *lv, virStoragePoolPtr pool, const char *name, const char *path, struct kp_error *error)
{
    KP_AUTO_FREE char *marker = kp_asprintf("%s.whole", name);
    struct stat st;
    virStorageVolPtr volume = NULL;
    if (has_volume(pool, marker) && has_volume(pool, name))
        return 0;
    KP_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return kp_fail_errno(error, "open %s", path);
    struct source source = {.fd = fd};
    int r = delete_volume(pool, name, error);
    if (r == 0)
        r = create_volume(pool, name, "raw", (uint64_t)st.st_size, "0644", &volume, error);
    if (r < 0)
        return r;
    if (lv->here) {
        char *to = virStorageVolGetPath(volume);
        r = to ? copy_here(fd, st.st_size, to, error) : lv_fail(error, "path of volume %s", name);
        free(to);
    } else {
        r = upload(lv, volume, &source, (uint64_t)st.st_size, error);
    }
    virStorageVolFree(volume);
    return r < 0 ? r : put_memory(lv, pool, marker, "", 0, "0644", error);
}

static const char *volume_path(const char *pool, const char *name, struct kp_arena *arena)
{
    return kp_arena_printf(arena, "%s/%s/%s", LV_POOLS_DIR, pool, name);
}

int lv_image_ensure(struct lv *lv, const char *image, struct kp_arena *arena, struct lv_paths *ret, struct kp_error *error)
{
    const char *folder = kp_arena_printf(arena, "%s/%s/vm", lv->image_dir, image);
    char target[PATH_MAX];
    ssize_t len = readlink(kp_arena_printf(arena, "%s/vmlinux", folder), target, sizeof(target) - 1);
    if (len < 0 && !lv->test)
        return kp_fail(error, KP_ENOTFOUND, "node image %s has no part for virtual machines in %s: kprov image build --vm", image, lv->image_dir);
    target[KP_MAX(len, 0)] = 0;
    /* "../../kernel-<key>/vmlinux" */
    const char *kernel = len > 0 && strstr(target, "kernel-") ? kp_arena_strdup(arena, strstr(target, "kernel-")) : "kernel-test/vmlinux";
    const char *key = kp_arena_strndup(arena, kernel, strcspn(kernel, "/"));
    const struct {
        const char *name, *file;
        const char **path;
    } parts[] = {
        {kp_arena_printf(arena, "%s.vmlinux", key), "vmlinux", &ret->kernel},
        {kp_arena_printf(arena, "%s.initrd", key), "initrd", &ret->initrd},
        {kp_arena_printf(arena, "%s-%s.erofs", image, key), "root.erofs", &ret->root},
    };
    virStoragePoolPtr pool = NULL;
    int r = lv->test ? 0 : ensure_pool(lv, NULL, &pool, error);
    for (size_t i = 0; r == 0 && i < KP_ARRAY_LEN(parts); i++) {
        *parts[i].path = volume_path("images", parts[i].name, arena);
        if (!lv->test)
            r = put_file(lv, pool, parts[i].name, kp_arena_printf(arena, "%s/%s", folder, parts[i].file), error);
    }
    if (pool)
        virStoragePoolFree(pool);
    return r < 0 ? kp_wrap(error, "node image %s", image) : 0;
}

int lv_disks_ensure(struct lv *lv, const struct cloud_machine_spec *spec, struct kp_arena *arena, struct lv_paths *ret,
                    struct kp_error *error)
{
    const char *data = kp_arena_printf(arena, "%s.data", spec->name), *config = kp_arena_printf(arena, "%s.json", spec->name);
    virStoragePoolPtr pool = NULL;
    virStorageVolPtr volume = NULL;
    ret->data = volume_path(spec->cluster_uid, data, arena);
    ret->bootstrap = volume_path(spec->cluster_uid, config, arena);
    ret->console = volume_path(spec->cluster_uid, kp_arena_printf(arena, "%s.log", spec->name), arena);
    int r = ensure_pool(lv, spec->cluster_uid, &pool, error);
    if (r == 0 && !has_volume(pool, data))
        r = create_volume(pool, data, "raw", LV_DATA_DISK_BYTES, "0600", &volume, error);
    if (volume)
        virStorageVolFree(volume);
    if (r == 0 && !lv->test)
        r = put_memory(lv, pool, config, spec->user_data, spec->user_data_len, "0600", error);
    if (pool)
        virStoragePoolFree(pool);
    return r;
}

int lv_disks_delete(struct lv *lv, const char *uid, const char *name, struct kp_error *error)
{
    static const char *const endings[] = {"data", "json", "log"};
    virStoragePoolPtr pool = virStoragePoolLookupByUUIDString(lv->conn, uid);
    int r = 0;
    if (!pool)
        return 0;
    (void)virStoragePoolRefresh(pool, 0); /* the console log came without libvirt's storage driver knowing */
    for (size_t i = 0; r == 0 && i < KP_ARRAY_LEN(endings); i++) {
        KP_AUTO_FREE char *volume = kp_asprintf("%s.%s", name, endings[i]);
        r = delete_volume(pool, volume, error);
    }
    virStoragePoolFree(pool);
    return r;
}

static int keep_bytes(virStreamPtr stream, const char *data, size_t len, void *out)
{
    kp_buf_append(out, data, len);
    return (int)len;
}

int lv_console(struct lv *lv, const char *uid, const char *name, struct kp_buf *out, struct kp_error *error)
{
    KP_AUTO_FREE char *log = kp_asprintf("%s.log", name);
    virStoragePoolPtr pool = virStoragePoolLookupByUUIDString(lv->conn, uid);
    if (!pool)
        return lv_fail(error, "storage pool of cluster %s", uid);
    (void)virStoragePoolRefresh(pool, 0);
    virStorageVolPtr volume = virStorageVolLookupByName(pool, log);
    virStorageVolInfo info;
    virStreamPtr stream = virStreamNew(lv->conn, 0);
    int r = 0;
    if (!volume || virStorageVolGetInfo(volume, &info) < 0) {
        r = lv_fail(error, "console log of %s", name);
    } else if (info.capacity > 0) {
        uint64_t from = info.capacity > CLOUD_CONSOLE_MAX ? info.capacity - CLOUD_CONSOLE_MAX : 0;
        if (virStorageVolDownload(volume, stream, from, 0, 0) < 0 || virStreamRecvAll(stream, keep_bytes, out) < 0 || virStreamFinish(stream) < 0)
            r = lv_fail(error, "read the console log of %s", name);
    }
    virStreamFree(stream);
    if (volume)
        virStorageVolFree(volume);
    virStoragePoolFree(pool);
    return r;
}

int lv_pool_delete(struct lv *lv, const char *uid, struct kp_error *error)
{
    virStoragePoolPtr pool = virStoragePoolLookupByUUIDString(lv->conn, uid);
    virStorageVolPtr *volumes = NULL;
    int r = 0;
    if (!pool)
        return 0;
    /* Volumes are seen in a pool that runs, and that needs its folder: building makes it again when it is gone. */
    if (virStoragePoolIsActive(pool) != 1 && (virStoragePoolBuild(pool, 0) < 0 || virStoragePoolCreate(pool, 0) < 0))
        r = lv_fail(error, "start the storage pool of cluster %s to empty it", uid);
    else if (virStoragePoolRefresh(pool, 0) < 0)
        r = lv_fail(error, "look into the storage pool of cluster %s", uid);
    int n = r == 0 ? virStoragePoolListAllVolumes(pool, &volumes, 0) : 0;
    if (n < 0)
        r = lv_fail(error, "list the volumes of cluster %s", uid);
    for (int i = 0; i < n; i++) {
        if (r == 0 && virStorageVolDelete(volumes[i], 0) < 0)
            r = lv_fail(error, "delete volume %s", virStorageVolGetName(volumes[i]));
        virStorageVolFree(volumes[i]);
    }
    free(volumes);
    if (r == 0 && virStoragePoolIsActive(pool) == 1 && virStoragePoolDestroy(pool) < 0)
        r = lv_fail(error, "stop the storage pool of cluster %s", uid);
    if (r == 0 && virStoragePoolDelete(pool, 0) < 0)
        r = lv_fail(error, "delete the folder of the storage pool of cluster %s", uid);
    if (r == 0 && virStoragePoolUndefine(pool) < 0)
        r = lv_fail(error, "delete the storage pool of cluster %s", uid);
    virStoragePoolFree(pool);
    return r;
}
