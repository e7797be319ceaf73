/* Another image for a machine that exists: what lay over the old one goes, what is the machine's own stays. */
#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cloud/local/local_internal.h"

/* Below the overlay's upper folder. The rest - settings, /usr, caches - comes from the image and the bootstrap config again. */
static const char *const kept[] = {"etc/machine-id", "home", "mnt", "opt", "root", "srv", "var"};

static int move_if_there(const char *from, const char *to, struct kp_error *error)
{
    if (kp_path_exists(to) || rename(from, to) == 0 || errno == ENOENT)
        return 0;
    return kp_fail_errno(error, "move %s to %s", from, to);
}

/* Moves what is kept from upper.old, and removes that. */
int local_root_settle(const char *dir, struct kp_error *error)
{
    char old[PATH_MAX], from[PATH_MAX + 32], to[PATH_MAX + 32];
    snprintf(old, sizeof(old), "%.*s/upper.old", PATH_MAX - 16, dir);
    if (!kp_path_exists(old))
        return 0;
    snprintf(to, sizeof(to), "%s/upper/etc", dir);
    int r = kp_mkdir_p(to, 0755, error);
    for (size_t i = 0; r == 0 && i < KP_ARRAY_LEN(kept); i++) {
        snprintf(from, sizeof(from), "%s/%s", old, kept[i]);
        snprintf(to, sizeof(to), "%s/upper/%s", dir, kept[i]);
        r = move_if_there(from, to, error);
    }
    /* overlayfs keeps notes on the upper folder there. */
    snprintf(to, sizeof(to), "%s/work", dir);
    if (r == 0)
        r = kp_remove_tree(to, error);
    return r < 0 ? r : kp_remove_tree(old, error);
}

static int begin_root(const char *dir, struct kp_error *error)
{
    char upper[PATH_MAX], old[PATH_MAX];
    snprintf(upper, sizeof(upper), "%.*s/upper", PATH_MAX - 16, dir);
    snprintf(old, sizeof(old), "%.*s/upper.old", PATH_MAX - 16, dir);
    int r = local_root_settle(dir, error); /* of an interrupted run */
    return r < 0 ? r : move_if_there(upper, old, error);
}

int local_machine_reimage(const struct local *local, const struct cloud_machine_spec *spec, struct kp_error *error)
{
    char dir[PATH_MAX], path[PATH_MAX + 16];
    struct local_meta meta, after = {0};
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    local_machine_dir(local, spec->cluster_uid, spec->name, dir);
    snprintf(path, sizeof(path), "%s/machine", dir);
    if (!kp_path_exists(path))
        return kp_fail(error, KP_ENOTFOUND, "machine %s does not exist", spec->name);
    int r = local_meta_read(path, arena, &meta, error);
    const bool later = spec->at_next_boot;
    if (r == 0)
        r = local_image_check(local, spec->image, error);
    if (r == 0 && later && !kp_streq(local_meta_get(&meta, "image"), spec->image))
        r = kp_fail(error, KP_EINVALID, "machine %s runs: it gets another image only when it is turned off", spec->name);
    if (r == 0 && !later)
        r = local_machine_stop(local, spec->cluster_uid, spec->name, SIGPWR, error);
    if (r == 0 && !later)
        r = begin_root(dir, error);
    if (r == 0 && !later)
        r = local_root_settle(dir, error);
    if (r < 0)
        return r;
    /* The other file of the two: with the line that names it image and user data change at once. */
    const char *user_data = kp_streq(local_meta_get(&meta, "user-data"), "user-data.2") ? "user-data" : "user-data.2";
    for (size_t i = 0; i < meta.len; i++)
        if (!kp_streq(meta.keys[i], "image") && !kp_streq(meta.keys[i], "user-data"))
            local_meta_add(&after, meta.keys[i], meta.values[i]);
    local_meta_add(&after, "image", spec->image);
    local_meta_add(&after, "user-data", user_data);
    r = kp_write_file(kp_arena_printf(arena, "%s/%s", dir, user_data), spec->user_data, spec->user_data_len, 0600, error);
    if (r == 0)
        r = local_meta_write(path, &after, error);
    return r < 0 || later ? r : local_machine_start(local, spec->cluster_uid, spec->name, error);
}
