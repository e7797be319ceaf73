/* Images: pull policies with back-off, pull secrets, collection of unused images. */
#include <ctype.h>
#include <sys/statvfs.h>

#include "nodeimage/kubelet/kubelet_internal.h"

bool kubelet_image_tag_latest(const char *image)
{
    if (strchr(image, '@'))
        return false;
    const char *slash = strrchr(image, '/');
    const char *colon = strrchr(slash ? slash : image, ':');
    return !colon || kp_streq(colon + 1, "latest");
}

static bool image_chars_valid(const char *image)
{
    for (const unsigned char *s = (const unsigned char *)image; *s; s++)
        if (!isalnum(*s) && !strchr("._-/:@+", *s))
            return false;
    return isalnum((unsigned char)image[0]);
}

const char *kubelet_image_normalize(const char *image, struct kp_arena *arena)
{
    if (kp_empty(image) || !image_chars_valid(image))
        return NULL;
    size_t first = strcspn(image, "/");
    bool has_host = image[first] == '/' && (memchr(image, '.', first) || memchr(image, ':', first) ||
                                            (first == 9 && strncmp(image, "localhost", 9) == 0));
    const char *name = image;
    if (!has_host)
        name = kp_arena_printf(arena, "docker.io/%s%s", image[first] == '/' ? "" : "library/", image);
    for (const char *s = name; *s && *s != ':' && *s != '@'; s++)
        if (isupper((unsigned char)*s) && strchr(name, '/') < s)
            return NULL; /* repository names are lower case */
    const char *slash = strrchr(name, '/');
    if (!strchr(name, '@') && !strchr(slash ? slash : name, ':'))
        name = kp_arena_printf(arena, "%s:latest", name);
    return name;
}

static int64_t now_ms(void)
{
    return kp_now_ns() / 1000000;
}

/* Finds credentials for the image's registry in one dockerconfigjson secret. */
static bool auth_from_secret(const struct k8s_secret *secret, const char *host, struct kp_arena *arena, struct cri_auth *ret)
{
    for (size_t i = 0; i < secret->data.len; i++) {
        const struct kp_bytes *value = &secret->data.items[i].value;
        struct kp_value *root, *auths;
        if (!kp_streq(secret->data.items[i].key, ".dockerconfigjson") ||
            kp_value_parse((const char *)value->data, value->len, arena, NULL, &root, NULL) < 0)
            continue;
        auths = kp_value_get(root, "auths");
        for (size_t j = 0; auths && auths->kind == KP_VALUE_OBJECT && j < auths->object.len; j++) {
            const char *key = auths->object.members[j].key;
            const struct kp_value *entry = auths->object.members[j].value;
            const char *bare = kp_starts_with(key, "https://") ? key + 8 : kp_starts_with(key, "http://") ? key + 7 : key;
            if (strcspn(bare, "/") != strlen(host) || strncmp(bare, host, strlen(host)) != 0)
                continue;
            *ret = (struct cri_auth){.username = kp_value_str(kp_value_get(entry, "username")),
                                     .password = kp_value_str(kp_value_get(entry, "password")),
                                     .identity_token = kp_value_str(kp_value_get(entry, "identitytoken")),
                                     .server = key};
            const char *both = kp_value_str(kp_value_get(entry, "auth"));
            KP_AUTO_BUF struct kp_buf plain = {0};
            if (kp_empty(ret->username) && both && kp_base64_decode(&plain, both, strlen(both)) == 0 && plain.data) {
                char *colon = strchr(plain.data, ':');
                ret->username = kp_arena_strndup(arena, plain.data, colon ? (size_t)(colon - plain.data) : plain.len);
                ret->password = colon ? kp_arena_strdup(arena, colon + 1) : "";
            }
            return true;
        }
    }
    return false;
}

static bool find_auth(struct kubelet *kubelet, const struct kubelet_pod *pod, const char *image, struct kp_arena *arena,
                      struct cri_auth *ret)
{
    const struct k8s_local_object_reference_items *secrets = &pod->data->spec->image_pull_secrets;
    const char *host = kp_arena_strndup(arena, image, strcspn(image, "/"));
    struct kubelet_getter *getter = kubelet_objects_getter(kubelet->objects, arena, 0);
    for (size_t i = 0; i < secrets->len; i++) {
        const struct k8s_secret *secret;
        struct kp_error error = {0};
        if (getter->secret(getter->arg, pod->ns, secrets->items[i].name, &secret, &error) < 0) {
            kubelet_event(kubelet, pod, NULL, "Warning", "FailedToRetrieveImagePullSecret",
                          "Unable to retrieve some image pull secrets (%s); attempting to pull the image may not succeed.",
                          secrets->items[i].name);
            continue;
        }
        if (auth_from_secret(secret, host, arena, ret))
            return true;
    }
    return false;
}

static int pull(struct kubelet *kubelet, const struct kubelet_pod *pod, const struct k8s_container *container, const char *image,
                const struct cri_sandbox_config *sandbox, struct kp_arena *arena, const char **ret_ref, const char **ret_reason,
                struct kp_error *error)
{
    const char *key = kp_arena_printf(arena, "%s_%s", pod->uid, image);
    if (kubelet_backoff_wait_ms(kubelet->pull_backoff, key, now_ms()) > 0) {
        kubelet_event(kubelet, pod, container->name, "Normal", "BackOff", "Back-off pulling image \"%s\"", container->image);
        *ret_reason = "ImagePullBackOff";
        return kp_fail(error, KP_EUNAVAILABLE, "Back-off pulling image \"%s\"", container->image);
    }
    kubelet_event(kubelet, pod, container->name, "Normal", "Pulling", "Pulling image \"%s\"", container->image);
    struct cri_auth auth;
    bool has_auth = find_auth(kubelet, pod, image, arena, &auth);
    int64_t start_ms = kp_mono_ms();
    int rc = cri_pull_image(kubelet->cri, image, has_auth ? &auth : NULL, sandbox, arena, ret_ref, error);
    if (rc < 0) {
        kubelet_event(kubelet, pod, container->name, "Warning", "Failed", "Failed to pull image \"%s\": %s", container->image,
                      error->message);
        kubelet_event(kubelet, pod, container->name, "Warning", "Failed", "Error: ErrImagePull");
        kubelet_backoff_next(kubelet->pull_backoff, key, now_ms(), now_ms());
        *ret_reason = "ErrImagePull";
        return rc;
    }
    kubelet_event(kubelet, pod, container->name, "Normal", "Pulled", "Successfully pulled image \"%s\" in %lldms",
                  container->image, (long long)(kp_mono_ms() - start_ms));
    return 0;
}

int kubelet_image_ensure(struct kubelet *kubelet, const struct kubelet_pod *pod, const struct k8s_container *container,
                         const struct cri_sandbox_config *sandbox, struct kp_arena *arena, struct cri_image **ret_image,
                         const char **ret_reason, struct kp_error *error)
{
    const char *image = kubelet_image_normalize(container->image, arena);
    if (!image) {
        *ret_reason = "InvalidImageName";
        int rc = kp_fail(error, KP_EINVALID, "Failed to apply default image tag \"%s\": couldn't parse image name: invalid reference format",
                         container->image ? container->image : "");
        kubelet_event(kubelet, pod, container->name, "Warning", "InspectFailed", "%s", error->message);
        return rc;
    }
    const char *policy = container->image_pull_policy;
    if (kp_empty(policy))
        policy = kubelet_image_tag_latest(image) ? "Always" : "IfNotPresent";
    int rc = cri_image_status(kubelet->cri, image, arena, ret_image, error);
    if (rc < 0) {
        *ret_reason = "ImageInspectError";
        return rc;
    }
    if (*ret_image && !kp_streq(policy, "Always")) {
        kubelet_event(kubelet, pod, container->name, "Normal", "Pulled",
                      "Container image \"%s\" already present on machine and can be accessed by the pod", container->image);
        return 0;
    }
    if (kp_streq(policy, "Never")) {
        *ret_reason = "ErrImageNeverPull";
        rc = kp_fail(error, KP_ENOTFOUND, "Container image \"%s\" is not present with pull policy of Never", container->image);
        kubelet_event(kubelet, pod, container->name, "Warning", "ErrImageNeverPull", "%s", error->message);
        return rc;
    }
    const char *ref;
    rc = pull(kubelet, pod, container, image, sandbox, arena, &ref, ret_reason, error);
    if (rc < 0)
        return rc;
    rc = cri_image_status(kubelet->cri, kp_empty(ref) ? image : ref, arena, ret_image, error);
    if (rc == 0 && !*ret_image)
        rc = kp_fail(error, KP_ENOTFOUND, "image \"%s\" is missing right after it was pulled", image);
    if (rc < 0)
        *ret_reason = "ImageInspectError";
    return rc;
}

static bool in_use(const struct cri_image *image, const struct cri_container *containers, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (kp_streq(containers[i].image_ref, image->id) || kp_streq(containers[i].image, image->id))
            return true;
        for (size_t d = 0; d < image->digests.len; d++)
            if (kp_streq(containers[i].image_ref, image->digests.items[d]))
                return true;
        for (size_t t = 0; t < image->tags.len; t++)
            if (kp_streq(containers[i].image, image->tags.items[t]))
                return true;
    }
    return false;
}

/* What pods that are to run here name: one whose container is about to be made needs its image, though no container has it yet. */
static struct kp_string_list images_of_pods(struct kubelet *kubelet, struct kp_arena *arena)
{
    struct kp_string_list names = {0};
    struct kubelet_pod **pods;
    size_t n = kubelet_workers_list(kubelet->workers, &pods);
    for (size_t i = 0; i < n; i++) {
        struct kubelet_spec_container *specs;
        size_t n_specs = kubelet_workers_active(kubelet->workers, pods[i]->uid) ? kubelet_spec_containers(pods[i]->data, arena, &specs) : 0;
        for (size_t k = 0; k < n_specs; k++) {
            const char *name = kubelet_image_normalize(specs[k].container->image, arena);
            if (name)
                kp_string_list_add(arena, &names, name);
        }
        kubelet_pod_unref(pods[i]);
    }
    free(pods);
    return names;
}

static bool is_wanted(const struct cri_image *image, const struct kp_string_list *names)
{
    for (size_t i = 0; i < image->tags.len; i++)
        if (kp_string_list_has(names, image->tags.items[i]))
            return true;
    for (size_t i = 0; i < image->digests.len; i++)
        if (kp_string_list_has(names, image->digests.items[i]))
            return true;
    return false;
}

/* Removes unused images until so many bytes are free. What is still missing; INT64_MAX in: all of them go. */
static int64_t remove_unused(struct kubelet *kubelet, int64_t to_free, struct kp_arena *arena)
{
    struct kp_error error = {0};
    struct cri_image *images;
    struct cri_container *containers;
    size_t n_images, n_containers;
    if (cri_list_images(kubelet->cri, arena, &images, &n_images, &error) < 0 ||
        cri_list_containers(kubelet->cri, NULL, NULL, arena, &containers, &n_containers, &error) < 0) {
        kp_warn("collecting images failed", "error", error.message, NULL);
        return to_free;
    }
    struct kp_string_list wanted = images_of_pods(kubelet, arena);
    for (size_t i = 0; i < n_images && to_free > 0; i++) {
        if (images[i].pinned || in_use(&images[i], containers, n_containers) || is_wanted(&images[i], &wanted))
            continue;
        if (cri_remove_image(kubelet->cri, images[i].id, &error) == 0)
            to_free -= (int64_t)images[i].size_bytes;
        else
            kp_warn("removing an image failed", "image", images[i].id, "error", error.message, NULL);
    }
    return to_free;
}

void kubelet_images_remove_unused(struct kubelet *kubelet)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    (void)remove_unused(kubelet, INT64_MAX, arena);
}

/* Over the high mark of the image disk, unused images go until the low mark is reached. */
void kubelet_image_gc(struct kubelet *kubelet)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_error error = {0};
    struct cri_fs_info *fs;
    size_t n_fs;
    struct statvfs disk;
    if (cri_image_fs(kubelet->cri, arena, &fs, &n_fs, &error) < 0 || n_fs == 0 || statvfs(fs[0].mountpoint, &disk) < 0 ||
        disk.f_blocks == 0)
        return;
    int64_t capacity = (int64_t)disk.f_blocks * (int64_t)disk.f_frsize, available = (int64_t)disk.f_bavail * (int64_t)disk.f_frsize;
    int64_t used_percent = 100 - available * 100 / capacity;
    if (used_percent < kubelet->config.image_gc_high_percent)
        return;
    int64_t to_free = capacity * (100 - kubelet->config.image_gc_low_percent) / 100 - available;
    to_free = remove_unused(kubelet, to_free, arena);
    if (to_free > 0)
        kubelet_node_event(kubelet, "Warning", "FreeDiskSpaceFailed",
                           "Failed to garbage collect required amount of images: %lld bytes are still missing", (long long)to_free);
}
