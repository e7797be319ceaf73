/* Node images in Hetzner's cloud: snapshots, found by label. There is no upload: a small server for the while is started from the rescue system, the
 * disk written to its own, and a snapshot taken. Server and key carry a label, so that the next run removes what a killed one left. */
#include "cloud/hetzner/hetzner_internal.h"
#include "ssh/ssh.h"

#define SYSTEM_IMAGE "debian-12" /* of which the server is made; nothing of it ever runs */
#define SNAPSHOT_MS 1200000      /* that a snapshot may take */

static const char *upload_query(const char *image, struct kp_arena *arena)
{
    return kp_arena_printf(arena, "label_selector=" HZ_UPLOAD_LABEL "%%3D%s", image);
}

/* Of this image's; another's may be at work. */
static int clean(struct hz *hz, const char *image, struct kp_arena *arena, struct kp_error *error)
{
    static const char *const collections[] = {"servers", "ssh_keys"};
    int r = 0;
    for (size_t i = 0; r == 0 && i < KP_ARRAY_LEN(collections); i++) {
        KP_AUTO(json_decref) json_t *list = NULL;
        r = hz_list(hz, collections[i], upload_query(image, arena), &list, error);
        for (size_t j = 0; r == 0 && j < json_array_size(list); j++)
            r = hz_delete(hz, collections[i], rest_json_int(json_array_get(list, j), "id"), error);
    }
    return r;
}

/* A snapshot that a run before this one began, of a disk that was read back: it becomes whole by itself. */
static int wait_begun(struct hz *hz, const char *image, struct kp_arena *arena, struct kp_error *error)
{
    const char *query = kp_arena_printf(arena, "type=snapshot&status=creating&label_selector=" HZ_IMAGE_LABEL "%%3D%s", image);
    int64_t until = kp_mono_ms() + SNAPSHOT_MS, poll_ms = 0;
    for (;;) {
        KP_AUTO(json_decref) json_t *list = NULL;
        int r = hz_list(hz, "images", query, &list, error);
        if (r < 0 || json_array_size(list) == 0)
            return r;
        if (kp_mono_ms() > until)
            return kp_fail(error, KP_EAGAIN, "the snapshot of %s is still being made", image);
        hz_pause(hz, &poll_ms);
    }
}

static int make_key(struct hz *hz, const char *image, struct kp_buf *identity, struct kp_arena *arena, int64_t *ret_id, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *list = NULL;
    KP_AUTO_BUF struct kp_buf line = {0};
    uint8_t seed[SSHC_SEED_BYTES];
    struct sshc_key key;
    kp_random_bytes(seed, sizeof(seed));
    sshc_key_from_seed(seed, &key);
    sshc_key_public_line(&key, "kprov", &line);
    sshc_key_private_text(&key, "kprov", identity);
    explicit_bzero(seed, sizeof(seed));
    explicit_bzero(&key, sizeof(key));
    json_t *body = json_pack("{s:s, s:s, s:{s:s}}", "name", kp_arena_printf(arena, "kprov-upload-%s", image), "public_key",
                             kp_arena_strndup(arena, line.data, strcspn(line.data, "\n")), "labels", HZ_UPLOAD_LABEL, image);
    int r = hz_do(hz, "ssh_keys.create", "POST", "/ssh_keys", body, NULL, error);
    if (r < 0 && r != KP_EEXISTS) /* a lost answer: it is there */
        return r;
    r = hz_list(hz, "ssh_keys", upload_query(image, arena), &list, error);
    *ret_id = rest_json_int(list, "0/id");
    return r == 0 && !*ret_id ? kp_fail(error, KP_ECONFLICT, "an SSH key \"kprov-upload-%s\" exists that is not kprov's: delete it", image) : r;
}

/* Turned off, so that its first start is the rescue system's. */
static int make_server(struct hz *hz, const char *image, int64_t key, struct kp_arena *arena, json_t **ret, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *answer = NULL, *list = NULL;
    const char *places = NULL, *type = NULL;
    int r = hz_locations(hz, NULL, arena, &places, error);
    const char *location = r == 0 ? kp_arena_strndup(arena, places, strcspn(places, ".")) : NULL;
    if (r == 0)
        r = hz_default_type(hz, location, arena, &type, error);
    if (r < 0)
        return r;
    json_t *body = json_pack("{s:s, s:s, s:s, s:s, s:b, s:[I], s:{s:b, s:b}, s:{s:s}}", "name", kp_arena_printf(arena, "kprov-upload-%s", image), "server_type", type,
                             "image", SYSTEM_IMAGE, "location", location, "start_after_create", 0, "ssh_keys", (json_int_t)key, "public_net", "enable_ipv4", 1,
                             "enable_ipv6", 0, "labels", HZ_UPLOAD_LABEL, image);
    r = hz_do(hz, "servers.create", "POST", "/servers", body, &answer, error);
    if (r == 0)
        r = hz_wait(hz, "servers.create", answer, error);
    if (r < 0 && r != KP_EEXISTS)
        return r;
    r = hz_list(hz, "servers", upload_query(image, arena), &list, error);
    if (r == 0 && json_array_size(list) == 0)
        r = kp_fail(error, KP_ECONFLICT, "a server \"kprov-upload-%s\" exists that is not kprov's: delete it", image);
    if (r == 0)
        *ret = json_incref(json_array_get(list, 0));
    return r;
}

static int snapshot(struct hz *hz, const char *image, const char *server, struct kp_arena *arena, struct kp_error *error)
{
    struct kp_error late = {0};
    json_t *body = json_pack("{s:s, s:s, s:{s:s}}", "type", "snapshot", "description", kp_arena_printf(arena, "kprov node image %s", image), "labels",
                             HZ_IMAGE_LABEL, image);
    int r = hz_act(hz, "servers.create_image", kp_arena_printf(arena, "%s/create_image", server), body, &late);
    if (r == KP_ETIMEOUT || r == KP_EUNAVAILABLE) /* it may have been begun */
        r = wait_begun(hz, image, arena, &late);
    if (r < 0) {
        if (error)
            *error = late;
        return r;
    }
    int64_t id = 0;
    return hz_image_find(hz, image, &id, error);
}

static int bring(struct hz *hz, const char *image, const char *path, struct kp_arena *arena, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf identity = {0};
    KP_AUTO(json_decref) json_t *server = NULL;
    int64_t key = 0;
    int r = make_key(hz, image, &identity, arena, &key, error);
    if (r == 0)
        r = make_server(hz, image, key, arena, &server, error);
    const char *actions = kp_arena_printf(arena, "/servers/%lld/actions", (long long)rest_json_int(server, "id"));
    if (r == 0)
        r = hz_act(hz, "servers.enable_rescue", kp_arena_printf(arena, "%s/enable_rescue", actions),
                   json_pack("{s:s, s:[I]}", "type", "linux64", "ssh_keys", (json_int_t)key), error);
    if (r == 0)
        r = hz_act(hz, "servers.poweron", kp_arena_printf(arena, "%s/poweron", actions), NULL, error);
    if (r == 0) {
        kp_info("bringing a node image's disk to Hetzner by a server's rescue system", "image", image, "server", rest_json_text(server, "name"), NULL);
        r = hz_rescue_write(rest_json_text(server, "public_net/ipv4/ip"), identity.data, path, error);
    }
    if (r == 0)
        r = hz_act(hz, "servers.poweroff", kp_arena_printf(arena, "%s/poweroff", actions), NULL, error);
    if (identity.data)
        explicit_bzero(identity.data, identity.len);
    return r < 0 ? r : snapshot(hz, image, actions, arena, error);
}

int hz_image_ensure(void *state, const char *image, struct kp_error *error)
{
    struct hz *hz = state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *path = kp_arena_printf(arena, "%s/%s/disk/disk.raw", hz->image_dir, image);
    struct kp_error left = {0};
    int64_t id = 0;
    int r = hz_image_find(hz, image, &id, error);
    if (r != KP_ENOTFOUND)
        return r;
    if (!kp_path_exists(path))
        return kp_fail(error, KP_ENOTFOUND, "no snapshot of the project has the label " HZ_IMAGE_LABEL "=%s, and there is no %s to make one of: kprov image build --disk",
                       image, path);
    r = wait_begun(hz, image, arena, error);
    if (r == 0)
        r = hz_image_find(hz, image, &id, error);
    if (r != 0 && r != KP_ENOTFOUND)
        return r;
    bool missing = r == KP_ENOTFOUND;
    r = clean(hz, image, arena, error);
    if (r < 0 || !missing)
        return r;
    r = bring(hz, image, path, arena, error);
    if (clean(hz, image, arena, &left) < 0)
        kp_warn("the server that brought a node image is not removed: the same command does", "image", image, "error", left.message, NULL);
    return r;
}

/* ---- pruning */
static bool wanted(const char *image, const char *const *keep)
{
    for (; *keep; keep++)
        if (kp_streq(*keep, image))
            return true;
    return false;
}

static bool in_use(const json_t *servers, int64_t id)
{
    for (size_t i = 0; i < json_array_size(servers); i++)
        if (rest_json_int(json_array_get(servers, i), "image/id") == id)
            return true;
    return false;
}

int hz_images_prune(void *state, const char *const *keep, struct kp_strings *ret_removed, struct kp_error *error)
{
    struct hz *hz = state;
    KP_AUTO(json_decref) json_t *images = NULL, *servers = NULL;
    int r = hz_list(hz, "images", "type=snapshot&status=available&label_selector=" HZ_IMAGE_LABEL, &images, error);
    if (r == 0)
        r = hz_list(hz, "servers", "", &servers, error);
    for (size_t i = 0; r == 0 && i < json_array_size(images); i++) {
        const json_t *item = json_array_get(images, i);
        const char *image = rest_json_text(rest_json_at(item, "labels"), HZ_IMAGE_LABEL);
        if (wanted(image, keep) || in_use(servers, rest_json_int(item, "id")))
            continue;
        r = hz_delete(hz, "images", rest_json_int(item, "id"), error);
        if (r == 0)
            kp_strings_add(ret_removed, image);
    }
    return r;
}
