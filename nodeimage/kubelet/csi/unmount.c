/* Taking drivers' volumes out of pods and off the node, by what the vol_data.json files say. */
#include <errno.h>
#include <unistd.h>

#include "nodeimage/kubelet/csi/csi_internal.h"
#include "nodeimage/kubelet/volumes/mounts.h"

#define LOG "kubernetes.io/csi: "

static void in_use_changed(struct csi *csi)
{
    if (csi->config.node.changed)
        csi->config.node.changed(csi->config.node.arg);
}

/* The mount point, what we noted about it, and the folder of both. What is still mounted stays: its data is not ours to remove. */
static int remove_folder(const char *folder, const char *mount_name, struct kp_arena *arena, struct kp_error *error)
{
    const char *target = kp_arena_printf(arena, "%s/%s", folder, mount_name);
    const char *file = kp_arena_printf(arena, "%s/" CSI_DATA_FILE, folder);
    if (volumes_mounted(target))
        return kp_fail(error, KP_ECONFLICT, "%s is still mounted though its driver says it is not", target);
    if (rmdir(target) < 0 && errno == ENOTDIR && unlink(target) < 0)
        return kp_fail_errno(error, "failed to remove %s", target);
    if (kp_path_exists(target))
        return kp_fail(error, KP_ECONFLICT, "failed to remove dir %s: it is not empty", target);
    if (unlink(file) < 0 && errno != ENOENT)
        return kp_fail_errno(error, "failed to delete volume data file %s", file);
    if (rmdir(folder) < 0 && errno != ENOENT)
        return kp_fail_errno(error, "failed to delete volume path %s", folder);
    return 0;
}

int csi_unstage(struct csi *csi, const char *driver_name, const char *handle, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(csi_driver_unref) struct csi_driver *driver = NULL;
    const char *folder = csi_stage_folder(csi->config.root_dir, driver_name, handle, arena);
    const char *key = csi_volume_key(driver_name, handle, arena);
    int rc = 0;
    /* Asked before, too: who mounts it just now may hold the lock for minutes, and then it is in use. */
    if (!kp_path_exists(folder) || csi_used(csi->config.root_dir, driver_name, handle, NULL, arena))
        return 0;
    csi_volume_lock(csi, key);
    if (kp_path_exists(folder) && !csi_used(csi->config.root_dir, driver_name, handle, NULL, arena)) {
        rc = csi_driver_find(csi, driver_name, &driver, error);
        if (rc == 0) {
            csi_set_staged(csi, key, false); /* however the call ends: what is not known to be staged is staged anew */
            rc = csi_call_unstage(driver, handle, kp_arena_printf(arena, "%s/globalmount", folder), error);
        }
        if (rc == 0)
            rc = remove_folder(folder, "globalmount", arena, error);
        if (rc == 0)
            in_use_changed(csi);
    }
    csi_volume_unlock(csi, key);
    return rc < 0 ? kp_wrap(error, "UnmountDevice failed for volume \"%s\" on driver \"%s\"", handle, driver_name) : 0;
}

static int unpublish(struct csi *csi, const char *folder, const struct csi_data *data, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(csi_driver_unref) struct csi_driver *driver = NULL;
    const char *key = csi_volume_key(data->driver, data->handle, arena);
    int rc = 0;
    csi_volume_lock(csi, key);
    if (!data->attaching) { /* what was only waited for was never the driver's */
        rc = csi_driver_find(csi, data->driver, &driver, error);
        if (rc < 0)
            rc = kp_wrap(error, LOG "Unmounter.TearDownAt failed to get CSI client");
        else if ((rc = csi_call_unpublish(driver, data->handle, kp_arena_printf(arena, "%s/mount", folder), error)) < 0)
            rc = kp_wrap(error, LOG "Unmounter.TearDownAt failed");
    }
    if (rc == 0)
        rc = remove_folder(folder, "mount", arena, error);
    csi_volume_unlock(csi, key);
    return rc;
}

struct teardown {
    struct csi *csi;
    struct kp_error *error;
    int rc;
};

static bool take_down(void *arg, const char *uid, const char *folder, const struct csi_data *data)
{
    struct teardown *t = arg;
    (void)uid;
    struct kp_error error = {0};
    int rc = unpublish(t->csi, folder, data, &error);
    if (rc < 0)
        kp_wrap(&error, "UnmountVolume.TearDown failed for volume \"%s\" ", data->spec_name);
    else
        in_use_changed(t->csi);
    if (rc == 0)
        rc = csi_unstage(t->csi, data->driver, data->handle, &error);
    if (rc < 0 && t->rc == 0) { /* the others are tried all the same */
        t->rc = rc;
        if (t->error)
            *t->error = error;
    }
    return true;
}

int csi_unmount_pod(struct csi *csi, const char *uid, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct teardown t = {.csi = csi, .error = error};
    bool complete = csi_each_published(csi->config.root_dir, uid, arena, take_down, &t);
    if (t.rc == 0 && !complete)
        t.rc = kp_fail(error, KP_EIO, "what was noted of the volumes of pod %s cannot be read", uid);
    return t.rc;
}

static bool collect_one(void *arg, const char *uid, const char *folder, const struct csi_data *data)
{
    struct csi *csi = arg;
    struct kp_error error = {0};
    (void)uid, (void)folder;
    /* A driver that is not there yet is asked when it is. */
    if (csi_registered(csi, data->driver) && csi_unstage(csi, data->driver, data->handle, &error) < 0)
        kp_warn("unstaging a volume that no pod uses failed", "error", error.message, NULL);
    return true;
}

void csi_collect(struct csi *csi)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    csi_each_staged(csi->config.root_dir, arena, collect_one, csi);
}
