/* Node images in Glance: kernel, initrd and root, each uploaded once by its digest and shared by all clusters of the project. */
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cloud/openstack/openstack_internal.h"
#include "tls/tls.h"

/* Also of the environment: KPROV_OPENSTACK_KERNEL_ARGS, for clouds whose machines are emulated. */
#define KERNEL_ARGS "console=ttyS0 quiet panic=-1"

struct part {
    const char *name;   /* in Glance, and the value of kprov_part: it holds the digest */
    const char *format; /* "aki", "ari", "raw" */
    const char *path;
    const char *kernel_id, *ramdisk_id; /* of the root alone */
    const char *args, *image;
};

/* One that is active and as large as the file; what another run left half uploaded is removed. */
static int find_part(struct os *os, const struct part *part, int64_t size, struct kp_arena *arena, const char **ret_id, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *images = NULL;
    const char *path = kp_arena_printf(arena, "/images?owner=%s&kprov_part=%s", os_escape(os->project_id, arena), os_escape(part->name, arena));
    int r = os_list(os, "images.list", OS_IMAGE, path, "images", &images, error);
    for (size_t i = 0; r == 0 && i < json_array_size(images); i++) {
        const json_t *image = json_array_get(images, i);
        const char *id = os_text(image, "id", arena), *status = rest_json_text(image, "status");
        bool whole = kp_streq(status, "active") && rest_json_int(image, "size") == size && kp_streq(rest_json_text(image, "kernel_id"), part->kernel_id) &&
                     kp_streq(rest_json_text(image, "ramdisk_id"), part->ramdisk_id);
        if (whole && !**ret_id)
            *ret_id = id;
        else if (!whole)
            r = os_delete(os, "images.delete", OS_IMAGE, kp_arena_printf(arena, "/images/%s", id), error);
    }
    return r;
}

static int upload(struct os *os, const struct part *part, int fd, int64_t size, const char *digest, struct kp_arena *arena, const char **ret_id, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *made = NULL;
    bool root = kp_streq(part->format, "raw");
    json_t *body = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:[s]}", "name", part->name, "disk_format", part->format, "container_format", root ? "bare" : part->format,
                             "visibility", "private", "kprov_part", part->name, "kprov_sha256", digest, "kprov_image", part->image, "tags", OS_IMAGE_TAG);
    if (root) {
        json_object_set_new(body, "kernel_id", json_string(part->kernel_id));
        json_object_set_new(body, "ramdisk_id", json_string(part->ramdisk_id));
        json_object_set_new(body, "os_command_line", json_string(part->args));
    }
    int r = os_send(os, "images.create", OS_IMAGE, "POST", "/images", body, &made, error);
    if (r < 0)
        return r;
    const char *id = os_text(made, "id", arena);
    struct kp_error why = {0};
    const struct os_request request = {.operation = "images.upload", .service = OS_IMAGE, .method = "PUT", .path = kp_arena_printf(arena, "/images/%s/file", id),
                                       .upload_fd = fd, .upload_len = size};
    kp_info("uploading a node image's file to Glance", "image", part->name, "megabytes", kp_arena_printf(arena, "%lld", (long long)(size >> 20)), NULL);
    r = os_do(os, &request, NULL, error);
    if (r < 0) {
        if (os_delete(os, "images.delete", OS_IMAGE, kp_arena_printf(arena, "/images/%s", id), &why) < 0) /* find_part does so the next time */
            kp_warn("what was uploaded in part is not removed", "image", part->name, "error", why.message, NULL);
        return r;
    }
    *ret_id = id;
    return 0;
}

static int ensure_part(struct os *os, const struct part *part, struct kp_arena *arena, const char **ret_id, struct kp_error *error)
{
    char digest[TLS_SHA256_HEX_BYTES];
    struct stat st;
    KP_AUTO_CLOSE int fd = open(part->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return kp_fail_errno(error, "%s", part->path);
    *ret_id = "";
    int r = find_part(os, part, st.st_size, arena, ret_id, error);
    if (r < 0 || **ret_id)
        return r;
    r = tls_sha256_fd_hex(fd, part->path, digest, NULL, error);
    if (r == 0)
        r = upload(os, part, fd, st.st_size, digest, arena, ret_id, error);
    return r < 0 ? kp_wrap(error, "upload %s to Glance", part->path) : 0;
}

/* The name of the folder that the kernel is in, which is made of its digest: "../../kernel-<key>/vmlinux". */
static int kernel_key(const char *folder, const char *image, struct kp_arena *arena, const char **ret, struct kp_error *error)
{
    char target[PATH_MAX];
    ssize_t len = readlink(kp_arena_printf(arena, "%s/vmlinux", folder), target, sizeof(target) - 1);
    target[KP_MAX(len, 0)] = 0;
    const char *begin = strstr(target, "kernel-");
    if (!begin)
        return kp_fail(error, KP_ENOTFOUND, "node image %s has no part for virtual machines in %s: kprov image build --vm", image, folder);
    *ret = kp_arena_strndup(arena, begin, strcspn(begin, "/"));
    return 0;
}

static const char *known_id(const struct os *os, const char *name, struct kp_arena *arena)
{
    size_t len = strlen(name);
    for (size_t i = 0; i < os->whole.len; i++)
        if (strncmp(os->whole.items[i], name, len) == 0 && os->whole.items[i][len] == ' ')
            return kp_arena_strdup(arena, os->whole.items[i] + len + 1);
    return NULL;
}

static int ensure_parts(struct os *os, const char *image, struct kp_arena *arena, const char **ret_id, struct kp_error *error)
{
    const char *folder = kp_arena_printf(arena, "%s/%s/vm", os->image_dir, image), *key = NULL, *token = NULL;
    const char *more = getenv("KPROV_OPENSTACK_KERNEL_ARGS");
    const char *args = kp_arena_printf(arena, KERNEL_ARGS "%s%s", kp_empty(more) ? "" : " ", kp_empty(more) ? "" : more);
    int r = kernel_key(folder, image, arena, &key, error);
    if (r == 0)
        r = os_token(os, NULL, arena, &token, error); /* the project is known after logging in */
    if (r < 0)
        return r;
    const struct part kernel = {.name = kp_arena_printf(arena, "kprov-%s.vmlinux", key), .format = "aki", .path = kp_arena_printf(arena, "%s/vmlinux", folder),
                                .kernel_id = "", .ramdisk_id = "", .image = key};
    const struct part initrd = {.name = kp_arena_printf(arena, "kprov-%s.initrd", key), .format = "ari", .path = kp_arena_printf(arena, "%s/initrd", folder),
                                .kernel_id = "", .ramdisk_id = "", .image = key};
    struct part root = {.name = kp_arena_printf(arena, "kprov-%s-%s-%08x.root", image, key, kp_crc32c(0, args, strlen(args))), .format = "raw",
                        .path = kp_arena_printf(arena, "%s/root.erofs", folder), .args = args, .image = image};
    const char *known = known_id(os, root.name, arena);
    if (known) {
        *ret_id = known;
        return 0;
    }
    r = ensure_part(os, &kernel, arena, &root.kernel_id, error);
    if (r == 0)
        r = ensure_part(os, &initrd, arena, &root.ramdisk_id, error);
    if (r == 0)
        r = ensure_part(os, &root, arena, ret_id, error);
    if (r == 0)
        kp_strings_add(&os->whole, kp_arena_printf(arena, "%s %s", root.name, *ret_id));
    return r;
}

int os_image_ensure(struct os *os, const char *image, struct kp_arena *arena, const char **ret_id, struct kp_error *error)
{
    pthread_mutex_lock(&os->shared);
    int r = ensure_parts(os, image, arena, ret_id, error);
    pthread_mutex_unlock(&os->shared);
    return r < 0 ? kp_wrap(error, "node image %s", image) : 0;
}

/* ---- pruning */

static bool is_in(const char *name, const char *const *list)
{
    for (; *list; list++)
        if (kp_streq(*list, name))
            return true;
    return false;
}

static bool any_has(const json_t *items, const char *path, const char *text)
{
    for (size_t i = 0; i < json_array_size(items); i++)
        if (kp_streq(rest_json_text(json_array_get(items, i), path), text))
            return true;
    return false;
}

static int prune(struct os *os, json_t *images, const json_t *servers, const char *const *keep, bool roots, struct kp_arena *arena, struct kp_strings *ret_removed,
                 struct kp_error *error)
{
    for (size_t i = 0; i < json_array_size(images);) {
        const json_t *image = json_array_get(images, i);
        const char *id = os_text(image, "id", arena), *name = os_text(image, "name", arena);
        bool root = kp_streq(rest_json_text(image, "disk_format"), "raw");
        bool kept = roots != root || is_in(rest_json_text(image, "kprov_image"), keep) || any_has(servers, "image/id", id) ||
                    any_has(images, "kernel_id", id) || any_has(images, "ramdisk_id", id);
        if (kept) {
            i++;
            continue;
        }
        int r = os_delete(os, "images.delete", OS_IMAGE, kp_arena_printf(arena, "/images/%s", id), error);
        if (r < 0)
            return kp_wrap(error, "image %s", name);
        kp_strings_add(ret_removed, name);
        json_array_remove(images, i);
    }
    return 0;
}

int os_images_prune(void *state, const char *const *keep, struct kp_strings *ret_removed, struct kp_error *error)
{
    struct os *os = state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(json_decref) json_t *images = NULL, *servers = NULL;
    const char *token = NULL;
    pthread_mutex_lock(&os->shared);
    kp_strings_done(&os->whole);
    int r = os_token(os, NULL, arena, &token, error);
    if (r == 0)
        r = os_list(os, "images.list", OS_IMAGE, kp_arena_printf(arena, "/images?tag=" OS_IMAGE_TAG "&owner=%s", os_escape(os->project_id, arena)), "images", &images, error);
    if (r == 0)
        r = os_list(os, "servers.list", OS_COMPUTE, "/servers/detail", "servers", &servers, error);
    if (r == 0)
        r = prune(os, images, servers, keep, true, arena, ret_removed, error);
    if (r == 0)
        r = prune(os, images, servers, keep, false, arena, ret_removed, error); /* kernels and initrds that no root has any more */
    pthread_mutex_unlock(&os->shared);
    return r;
}
