/* Removing the folders of our own provisioner's volumes: only when the object itself says that the data may go. */
#include <dirent.h>
#include <unistd.h>

#include "lib/volume/volume.h"
#include "nodeimage/kubelet/volumes/claims_internal.h"
#include "nodeimage/kubelet/volumes/mounts.h"

enum volumes_verdict volumes_local_verdict(const struct k8s_persistent_volume *pv, const char *local_dir, const char *hostname)
{
    const struct k8s_object_meta *meta = pv->metadata;
    if (!meta->deletion_timestamp.set || !kp_string_list_has(&meta->finalizers, VOLUME_LOCAL_FINALIZER))
        return VOLUMES_KEEP;
    /* Still somebody's: the object may be asked to go while a claim has it, and then waits for the claim. */
    if (kp_string_list_has(&meta->finalizers, VOLUME_PROTECTION) || kp_streq(pv->status->phase, "Bound"))
        return VOLUMES_KEEP;
    if (!volumes_local_is_own(pv, local_dir) || !hostname || !kp_streq(volume_only_host(pv), hostname))
        return VOLUMES_KEEP;
    return kp_streq(pv->spec->persistent_volume_reclaim_policy, "Delete") ? VOLUMES_REMOVE : VOLUMES_RELEASE;
}

/* All that is in the folder, but not the folder: it reminds us of the object until that is let go. */
static int empty_folder(const char *path, struct kp_error *error)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    int rc = 0;
    if (!dir)
        return kp_fail_errno(error, "open %s", path);
    while (rc == 0 && (entry = readdir(dir)) != NULL) {
        KP_AUTO_FREE char *full = kp_asprintf("%s/%s", path, entry->d_name);
        if (kp_streq(entry->d_name, ".") || kp_streq(entry->d_name, ".."))
            continue;
        /* What is mounted there is somebody else's data. */
        rc = volumes_mounted(full) ? kp_fail(error, KP_ECONFLICT, "%s is a mount point", full) : kp_remove_tree(full, error);
    }
    closedir(dir);
    return rc;
}

static int let_go(const struct volumes_collect *collect, const struct k8s_persistent_volume *pv, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf patch = {0};
    bool first = true;
    kp_buf_puts(&patch, "{\"metadata\":{\"resourceVersion\":");
    kp_json_string(&patch, pv->metadata->resource_version);
    kp_buf_puts(&patch, ",\"finalizers\":[");
    for (size_t i = 0; i < pv->metadata->finalizers.len; i++) {
        const char *finalizer = pv->metadata->finalizers.items[i];
        if (kp_streq(finalizer, VOLUME_LOCAL_FINALIZER))
            continue;
        kp_buf_puts(&patch, first ? "" : ",");
        kp_json_string(&patch, finalizer);
        first = false;
    }
    kp_buf_puts(&patch, "]}}");
    return collect->patch(collect->arg, pv->metadata->name, patch.data, patch.len, error);
}

static int look_at(const struct volumes_collect *collect, const char *name, struct kp_arena *arena, struct kp_error *error)
{
    const struct k8s_persistent_volume *pv = NULL;
    const char *path = kp_arena_printf(arena, "%s/%s", collect->local_dir, name);
    int rc = collect->get(collect->arg, name, arena, &pv, error);
    if (rc == KP_ENOTFOUND || rc == KP_EFORBIDDEN)
        return 0; /* that nobody knows of it any more is no permission to remove data */
    if (rc < 0)
        return rc;
    enum volumes_verdict verdict = volumes_local_verdict(pv, collect->local_dir, collect->hostname);
    if (verdict == VOLUMES_KEEP)
        return 0;
    if (verdict == VOLUMES_REMOVE && kp_path_exists(path))
        rc = empty_folder(path, error);
    if (rc == 0)
        rc = let_go(collect, pv, error);
    if (rc == 0 && verdict == VOLUMES_REMOVE)
        rc = kp_remove_tree(path, error);
    if (rc == 0)
        kp_info(verdict == VOLUMES_REMOVE ? "data of a volume removed" : "volume let go, its data stays", "volume", name, "path", path, NULL);
    return rc;
}

static void collect_one(const struct volumes_collect *collect, const char *name)
{
    struct kp_error error = {0};
    if (*name == '.' || *name == '\0' || strchr(name, '/') || volumes_local_used(collect->root_dir, name, NULL))
        return;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    if (look_at(collect, name, arena, &error) < 0)
        kp_warn("removing a volume's data failed", "volume", name, "error", error.message, NULL);
}

void volumes_collect_local(const struct volumes_collect *collect)
{
    DIR *dir = opendir(collect->local_dir);
    struct dirent *entry;
    while (dir && (entry = readdir(dir)) != NULL)
        collect_one(collect, entry->d_name);
    if (dir)
        closedir(dir);
    /* A volume that was made for a pod which never came has no folder: of it the node is told. */
    KP_AUTO_FREE char *leaving = kp_strdup(collect->leaving ? collect->leaving : "");
    for (char *rest = leaving, *name; (name = strsep(&rest, ",")) != NULL;) {
        KP_AUTO_FREE char *path = kp_asprintf("%s/%s", collect->local_dir, name);
        if (!kp_path_exists(path))
            collect_one(collect, name);
    }
}
