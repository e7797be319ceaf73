/* Persistent volumes that are folders of the node: bound into the pod's folder, made first when they are of our own provisioner; removed when
   their objects say that their data may go. */
#include <dirent.h>
#include <errno.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/volume/volume.h"
#include "nodeimage/kubelet/volumes/claims_internal.h"
#include "nodeimage/kubelet/volumes/mounts.h"

#define PLUGIN "kubernetes.io~local-volume"

bool volumes_local_used(const char *root_dir, const char *name, const char *except_uid)
{
    KP_AUTO_FREE char *pods = kp_asprintf("%s/pods", root_dir);
    DIR *dir = opendir(pods);
    struct dirent *entry;
    bool used = !dir && errno != ENOENT; /* what cannot be looked at counts as used */
    while (dir && !used && (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.' || kp_streq(entry->d_name, except_uid))
            continue;
        KP_AUTO_FREE char *path = kp_asprintf("%s/%s/volumes/" PLUGIN "/%s", pods, entry->d_name, name);
        used = kp_path_exists(path);
    }
    if (dir)
        closedir(dir);
    return used;
}

/* The provisioner's volumes are the folders of their own names, and nothing else: what an object says must not lead elsewhere. */
static bool is_provisioned(const struct volumes_context *context, const struct k8s_persistent_volume *pv)
{
    const char *by = kp_string_map_get(&pv->metadata->annotations, VOLUME_PROVISIONED_BY);
    const char *dir = context->local_dir ? context->local_dir : VOLUME_LOCAL_DIR;
    return kp_streq(by, VOLUME_LOCAL_PROVISIONER) && volumes_local_is_own(pv, dir);
}

bool volumes_local_is_own(const struct k8s_persistent_volume *pv, const char *local_dir)
{
    const char *name = pv->metadata->name, *path = pv->spec->local ? pv->spec->local->path : NULL;
    size_t len = strlen(local_dir);
    return path && !strchr(name, '/') && strncmp(path, local_dir, len) == 0 && path[len] == '/' && kp_streq(path + len + 1, name);
}

static int make_folder(const char *path, struct kp_error *error)
{
    if (kp_path_exists(path))
        return 0;
    int rc = kp_mkdir_p(path, 0755, error);
    if (rc == 0 && chmod(path, 0777) < 0)
        rc = kp_fail_errno(error, "set the mode of %s", path);
    return rc;
}

static int check_source(const char *path, struct kp_error *error)
{
    struct stat st;
    if (path[0] != '/' || strstr(path, "/../") || kp_ends_with(path, "/.."))
        return kp_fail(error, KP_EINVALID, "invalid path: %s", path);
    if (stat(path, &st) < 0)
        return errno == ENOENT ? kp_fail(error, KP_ENOTFOUND, "path \"%s\" does not exist", path) : kp_fail_errno(error, "look at %s", path);
    if (!S_ISDIR(st.st_mode))
        return kp_fail(error, KP_ENOTSUPPORTED, "path \"%s\" is no folder: this kubelet makes no file systems on block devices", path);
    return 0;
}

int volumes_local_setup(const struct volumes_context *context, const struct k8s_pod *pod, const struct k8s_persistent_volume *pv, bool read_only,
                        const char **ret_path, struct kp_error *error)
{
    const char *uid = pod->metadata->uid, *name = pv->metadata->name, *source = pv->spec->local->path;
    const struct k8s_pod_security_context *security = pod->spec->security_context;
    const char *target = kp_arena_printf(context->arena, "%s/volumes/" PLUGIN "/%s", volumes_pod_dir(context->root_dir, uid, context->arena), name);
    unsigned long flags;
    int rc = volumes_mount_flags(&pv->spec->mount_options, &flags, error);
    bool used = volumes_local_used(context->root_dir, name, uid);
    if (rc == 0 && used && kp_string_list_has(&pv->spec->access_modes, "ReadWriteOncePod"))
        rc = kp_fail(error, KP_ECONFLICT, "volume uses the ReadWriteOncePod access mode and is already in use by another pod");
    if (rc == 0)
        rc = kp_mkdir_p(target, 0750, error); /* first: a volume that has it is in use */
    if (rc == 0 && is_provisioned(context, pv) && !pv->metadata->deletion_timestamp.set)
        rc = make_folder(source, error);
    if (rc == 0)
        rc = check_source(source, error);
    if (rc == 0)
        rc = volumes_bind(source, target, flags | (read_only ? MS_RDONLY : 0), error);
    /* The first pod decides on the group; pods that share the volume take it as it is. */
    if (rc == 0 && !read_only && !used && security && security->has_fs_group)
        rc = volumes_own(target, security->fs_group, security->fs_group_change_policy, error);
    if (rc == 0)
        *ret_path = target;
    return rc;
}
