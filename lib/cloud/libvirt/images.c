/* Node images in the pool that clusters share: a volume counts when its marker, written last, tells size and digest of what is in it. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "cloud/libvirt/libvirt_internal.h"
#include "tls/tls.h"

#define MARKER ".whole"
#define MARKER_MAX 128 /* bytes: "<digest> <size>\n" */

/* What a marker says of a file with this content. */
static int read_local(const char *path, char ret_text[MARKER_MAX], struct kp_error *error)
{
    KP_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return kp_fail_errno(error, "open %s", path);
    char hex[TLS_SHA256_HEX_BYTES];
    int64_t bytes = 0;
    int r = tls_sha256_fd_hex(fd, path, hex, &bytes, error);
    if (r < 0)
        return r;
    snprintf(ret_text, MARKER_MAX, "%s %llu\n", hex, (unsigned long long)bytes);
    return 0;
}

struct received {
    struct tls_sha256 *hash;   /* or */
    char *text;                /* MARKER_MAX bytes */
    unsigned long long bytes;
};

static int take(virStreamPtr stream, const char *data, size_t len, void *arg)
{
    struct received *received = arg;
    if (received->hash)
        tls_sha256_update(received->hash, data, len);
    else if (received->bytes + len < MARKER_MAX)
        memcpy(received->text + received->bytes, data, len);
    received->bytes += len;
    return (int)len;
}

static int download(struct lv *lv, virStorageVolPtr volume, struct received *received, struct kp_error *error)
{
    virStreamPtr stream = virStreamNew(lv->conn, 0);
    if (!stream)
        return lv_fail(error, "make a stream");
    int r = virStorageVolDownload(volume, stream, 0, 0, 0) < 0 || virStreamRecvAll(stream, take, received) < 0 || virStreamFinish(stream) < 0
                ? lv_fail(error, "read volume %s", virStorageVolGetName(volume))
                : 0;
    virStreamFree(stream);
    return r;
}

/* As read_local, of a volume wherever it is. */
static int read_volume(struct lv *lv, virStorageVolPtr volume, char ret_text[MARKER_MAX], struct kp_error *error)
{
    if (lv->here) {
        char *path = virStorageVolGetPath(volume);
        int r = path ? read_local(path, ret_text, error) : lv_fail(error, "path of volume %s", virStorageVolGetName(volume));
        free(path);
        return r;
    }
    struct received received = {.hash = tls_sha256_new()};
    char hex[TLS_SHA256_HEX_BYTES];
    int r = download(lv, volume, &received, error);
    tls_sha256_final_hex(received.hash, hex);
    snprintf(ret_text, MARKER_MAX, "%s %llu\n", hex, received.bytes);
    return r;
}

static int read_marker(struct lv *lv, virStorageVolPtr marker, char ret_text[MARKER_MAX], struct kp_error *error)
{
    memset(ret_text, 0, MARKER_MAX);
    if (!lv->here) {
        struct received received = {.text = ret_text};
        return download(lv, marker, &received, error);
    }
    KP_AUTO_BUF struct kp_buf text = {0};
    char *path = virStorageVolGetPath(marker);
    int r = path ? kp_read_file(path, MARKER_MAX - 1, &text, error) : lv_fail(error, "path of volume %s", virStorageVolGetName(marker));
    free(path);
    if (r == 0 && text.len)
        memcpy(ret_text, text.data, text.len);
    return r;
}

/* On this machine the content is read again; elsewhere that was done before the marker was written. */
static bool is_whole(struct lv *lv, virStoragePoolPtr pool, const char *name, const char *marker_name)
{
    virStorageVolPtr volume = virStorageVolLookupByName(pool, name), marker = virStorageVolLookupByName(pool, marker_name);
    char says[MARKER_MAX] = "", is[MARKER_MAX];
    virStorageVolInfo info;
    struct kp_error why = {0}; /* what cannot be read is not whole */
    bool whole = volume && marker && read_marker(lv, marker, says, &why) == 0 && strlen(says) > TLS_SHA256_HEX_BYTES;
    if (whole && lv->here) {
        whole = read_volume(lv, volume, is, &why) == 0 && kp_streq(is, says);
    } else if (whole) {
        unsigned long long bytes = 0;
        whole = sscanf(says + TLS_SHA256_HEX_BYTES, "%llu", &bytes) == 1 && virStorageVolGetInfo(volume, &info) == 0 && info.capacity == bytes;
    }
    if (volume && *says && !whole)
        kp_warn("a node image's file on libvirt's machine is not what was uploaded: it is made anew", "volume", name, NULL);
    if (volume)
        virStorageVolFree(volume);
    if (marker)
        virStorageVolFree(marker);
    return whole;
}

/* On this machine a copy in the kernel is a second's work where libvirt's streams take minutes. */
static int copy_here(int from, off_t len, const char *to, struct kp_error *error)
{
    KP_AUTO_CLOSE int fd = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return kp_fail_errno(error, "open %s", to);
    for (off_t done = 0; done < len;) {
        ssize_t n = copy_file_range(from, NULL, fd, NULL, (size_t)(len - done), 0);
        if (n < 0 && (errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP || errno == ENOSYS)) /* to another file system */
            n = sendfile(fd, from, NULL, (size_t)(len - done));
        if (n == 0)
            return kp_fail(error, KP_EIO, "copy to %s: the file became shorter meanwhile", to);
        if (n < 0)
            return kp_fail_errno(error, "copy to %s", to);
        done += n;
    }
    return 0;
}

static int fill_volume(struct lv *lv, virStorageVolPtr volume, const char *path, uint64_t bytes, struct kp_error *error)
{
    KP_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return kp_fail_errno(error, "open %s", path);
    if (!lv->here)
        return lv_volume_upload(lv, volume, fd, bytes, error);
    char *to = virStorageVolGetPath(volume);
    int r = to ? copy_here(fd, (off_t)bytes, to, error) : lv_fail(error, "path of volume %s", virStorageVolGetName(volume));
    free(to);
    return r;
}

static int put_marker(struct lv *lv, virStoragePoolPtr pool, const char *marker, const char *text, struct kp_error *error)
{
    virStorageVolPtr volume = NULL;
    if (!lv->here)
        return lv_volume_put(lv, pool, marker, text, strlen(text), "0644", error);
    int r = lv_volume_create(pool, marker, "raw", strlen(text), "0644", &volume, error);
    if (r < 0)
        return r;
    char *path = virStorageVolGetPath(volume);
    r = path ? kp_write_file(path, text, strlen(text), 0644, error) : lv_fail(error, "path of volume %s", marker);
    free(path);
    virStorageVolFree(volume);
    return r;
}

/* The marker goes first and comes last, so that what is between never counts. Machines that run keep the file they opened. */
static int make_anew(struct lv *lv, virStoragePoolPtr pool, const char *name, const char *marker, const char *path, struct kp_error *error)
{
    char wanted[MARKER_MAX], is[MARKER_MAX];
    virStorageVolPtr volume = NULL;
    unsigned long long bytes = 0;
    int r = read_local(path, wanted, error);
    if (r == 0 && sscanf(wanted + TLS_SHA256_HEX_BYTES, "%llu", &bytes) != 1)
        r = kp_fail(error, KP_ECORRUPT, "size of %s", path);
    if (r == 0)
        r = lv_volume_delete(pool, marker, error);
    if (r == 0)
        r = lv_volume_delete(pool, name, error);
    if (r == 0)
        r = lv_volume_create(pool, name, "raw", bytes, "0644", &volume, error);
    if (r < 0)
        return r;
    r = fill_volume(lv, volume, path, bytes, error);
    if (r == 0)
        r = read_volume(lv, volume, is, error);
    virStorageVolFree(volume);
    if (r == 0 && !kp_streq(wanted, is))
        r = kp_fail(error, KP_ECORRUPT, "volume %s is not what was uploaded from %s: try again; if it stays so, look at the disk of libvirt's machine", name, path);
    return r < 0 ? r : put_marker(lv, pool, marker, wanted, error);
}

int lv_image_put(struct lv *lv, virStoragePoolPtr pool, const char *name, const char *path, struct kp_error *error)
{
    KP_AUTO_FREE char *marker = kp_asprintf("%s" MARKER, name);
    for (size_t i = 0; i < lv->whole.len; i++)
        if (kp_streq(lv->whole.items[i], name))
            return 0;
    int r = is_whole(lv, pool, name, marker) ? 0 : make_anew(lv, pool, name, marker, path, error);
    if (r == 0)
        kp_strings_add(&lv->whole, name);
    return r;
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
    int r = lv->test ? 0 : lv_pool_ensure(lv, NULL, &pool, error);
    if (pool && lv->whole.len == 0)
        (void)virStoragePoolRefresh(pool, 0); /* files that came or went without libvirt; refused while another uploads */
    for (size_t i = 0; r == 0 && i < KP_ARRAY_LEN(parts); i++) {
        *parts[i].path = lv_volume_path("images", parts[i].name, arena);
        if (!lv->test)
            r = lv_image_put(lv, pool, parts[i].name, kp_arena_printf(arena, "%s/%s", folder, parts[i].file), error);
    }
    if (pool)
        virStoragePoolFree(pool);
    return r < 0 ? kp_wrap(error, "node image %s", image) : 0;
}

/* ---- pruning */

/* The documents of all domains, whoever's they are, as they are stored and as they run. */
static int read_domains(struct lv *lv, struct kp_buf *out, struct kp_error *error)
{
    virDomainPtr *domains = NULL;
    int r = 0, n = virConnectListAllDomains(lv->conn, &domains, 0);
    if (n < 0)
        return lv_fail(error, "list domains");
    for (int i = 0; i < n; i++) {
        for (unsigned stored = 0; r == 0 && stored < 2; stored++) {
            char *text = virDomainGetXMLDesc(domains[i], stored ? VIR_DOMAIN_XML_INACTIVE : 0);
            if (text)
                kp_buf_puts(out, text);
            else
                r = lv_fail(error, "read domain %s", virDomainGetName(domains[i]));
            free(text);
        }
        virDomainFree(domains[i]);
    }
    free(domains);
    return r;
}

static bool is_of_image(const char *name, const char *const *images)
{
    for (; *images; images++) {
        size_t len = strlen(*images);
        if (len && strncmp(name, *images, len) == 0 && name[len] == '-')
            return true;
    }
    return false;
}

/* A volume that a domain names, and the marker beside it. */
static bool is_named(virStorageVolPtr volume, const char *documents)
{
    char *path = virStorageVolGetPath(volume);
    if (path && kp_ends_with(path, MARKER))
        path[strlen(path) - strlen(MARKER)] = 0;
    bool named = !path || strstr(documents, path);
    free(path);
    return named;
}

/* "kernel-<key>.": of a root that stays, kernel and initrd stay as well. */
static bool is_kernel_of(const char *name, const struct kp_strings *roots)
{
    KP_AUTO_FREE char *ending = kp_starts_with(name, "kernel-") ? kp_asprintf("-%.*s.erofs", (int)strcspn(name, "."), name) : NULL;
    for (size_t i = 0; ending && i < roots->len; i++)
        if (kp_ends_with(roots->items[i], ending))
            return true;
    return false;
}

static int prune_volumes(virStorageVolPtr *volumes, int n, const char *documents, const char *const *keep,
                         struct kp_strings *ret_removed, struct kp_error *error)
{
    struct kp_strings roots = {0};
    int r = 0;
    for (int i = 0; i < n; i++)
        if (is_of_image(virStorageVolGetName(volumes[i]), keep) || is_named(volumes[i], documents))
            kp_strings_add(&roots, virStorageVolGetName(volumes[i]));
    for (int markers = 1; markers >= 0; markers--) { /* these first: without one its volume does not count */
        for (int i = 0; r == 0 && i < n; i++) {
            const char *name = virStorageVolGetName(volumes[i]);
            if (kp_ends_with(name, MARKER) != (markers == 1) || is_of_image(name, keep) || is_named(volumes[i], documents) || is_kernel_of(name, &roots))
                continue;
            r = virStorageVolDelete(volumes[i], 0) < 0 ? lv_fail(error, "delete volume %s", name) : 0;
            if (r == 0 && !markers)
                kp_strings_add(ret_removed, name);
        }
    }
    kp_strings_done(&roots);
    return r;
}

int lv_images_prune(struct lv *lv, const char *const *keep, struct kp_strings *ret_removed, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf documents = {0};
    virStoragePoolPtr pool = virStoragePoolLookupByName(lv->conn, LV_IMAGES_POOL);
    virStorageVolPtr *volumes = NULL;
    if (!pool)
        return 0;
    int r = 0, n = 0;
    if (virStoragePoolIsActive(pool) != 1 && virStoragePoolCreate(pool, 0) < 0)
        r = lv_fail(error, "start storage pool " LV_IMAGES_POOL);
    else if (virStoragePoolRefresh(pool, 0) < 0)
        r = lv_fail(error, "look into storage pool " LV_IMAGES_POOL);
    if (r == 0)
        r = read_domains(lv, &documents, error);
    if (r == 0 && (n = virStoragePoolListAllVolumes(pool, &volumes, 0)) < 0)
        r = lv_fail(error, "list the volumes of storage pool " LV_IMAGES_POOL);
    if (r == 0)
        r = prune_volumes(volumes, n, documents.data ? documents.data : "", keep, ret_removed, error);
    for (int i = 0; i < n; i++)
        virStorageVolFree(volumes[i]);
    free(volumes);
    virStoragePoolFree(pool);
    return r;
}
