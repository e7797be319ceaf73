/* Files on libvirt's machine: pools and volumes, and each cluster's disks in a pool of its own. */
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

int lv_pool_ensure(struct lv *lv, const char *uid, virStoragePoolPtr *ret, struct kp_error *error)
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

bool lv_volume_exists(virStoragePoolPtr pool, const char *name)
{
    virStorageVolPtr volume = virStorageVolLookupByName(pool, name);
    if (volume)
        virStorageVolFree(volume);
    return volume != NULL;
}

int lv_volume_delete(virStoragePoolPtr pool, const char *name, struct kp_error *error)
{
    virStorageVolPtr volume = virStorageVolLookupByName(pool, name);
    if (!volume)
        return 0;
    int r = virStorageVolDelete(volume, 0) < 0 ? lv_fail(error, "delete volume %s", name) : 0;
    virStorageVolFree(volume);
    return r;
}

int lv_volume_create(virStoragePoolPtr pool, const char *name, const char *format, uint64_t bytes, const char *mode,
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

int lv_volume_upload(struct lv *lv, virStorageVolPtr volume, int fd, uint64_t bytes, struct kp_error *error)
{
    struct source source = {.fd = fd};
    return upload(lv, volume, &source, bytes, error);
}

int lv_volume_put(struct lv *lv, virStoragePoolPtr pool, const char *name, const char *data, size_t len, const char *mode,
                      struct kp_error *error)
{
    virStorageVolPtr volume = NULL;
    struct source source = {.fd = -1, .data = data, .len = len};
    int r = lv_volume_delete(pool, name, error);
    if (r == 0)
        r = lv_volume_create(pool, name, "raw", len, mode, &volume, error);
    if (r < 0)
        return r;
    if (len)
        r = upload(lv, volume, &source, len, error);
    virStorageVolFree(volume);
    return r;
}

const char *lv_volume_path(const char *pool, const char *name, struct kp_arena *arena)
{
    return kp_arena_printf(arena, "%s/%s/%s", LV_POOLS_DIR, pool, name);
}

static const char *config_name(const char *machine, struct kp_arena *arena)
{
    return kp_arena_printf(arena, "%s.json", machine);
}

int lv_config_put(struct lv *lv, const struct cloud_machine_spec *spec, struct kp_arena *arena, struct kp_error *error)
{
    virStoragePoolPtr pool = NULL;
    int r = lv->test ? 0 : lv_pool_ensure(lv, spec->cluster_uid, &pool, error);
    if (pool) {
        r = lv_volume_put(lv, pool, config_name(spec->name, arena), spec->user_data, spec->user_data_len, "0600", error);
        virStoragePoolFree(pool);
    }
    return r;
}

int lv_disks_ensure(struct lv *lv, const struct cloud_machine_spec *spec, struct kp_arena *arena, struct lv_paths *ret,
                    struct kp_error *error)
{
    const char *data = kp_arena_printf(arena, "%s.data", spec->name), *config = config_name(spec->name, arena);
    virStoragePoolPtr pool = NULL;
    virStorageVolPtr volume = NULL;
    ret->data = lv_volume_path(spec->cluster_uid, data, arena);
    ret->bootstrap = lv_volume_path(spec->cluster_uid, config, arena);
    ret->console = lv_volume_path(spec->cluster_uid, kp_arena_printf(arena, "%s.log", spec->name), arena);
    int r = lv_pool_ensure(lv, spec->cluster_uid, &pool, error);
    if (r == 0 && !lv_volume_exists(pool, data))
        r = lv_volume_create(pool, data, "raw", LV_DATA_DISK_BYTES, "0600", &volume, error);
    if (volume)
        virStorageVolFree(volume);
    if (r == 0 && !lv->test)
        r = lv_volume_put(lv, pool, config, spec->user_data, spec->user_data_len, "0600", error);
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
        r = lv_volume_delete(pool, volume, error);
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
