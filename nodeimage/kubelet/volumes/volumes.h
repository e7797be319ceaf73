/* Volumes of pods: emptyDir, configMap, secret, downwardAPI, projected, hostPath, image; sub-paths; teardown. */
#ifndef KUBELET_VOLUMES_H
#define KUBELET_VOLUMES_H

#include "nodeimage/kubelet/pod_internal.h"
#include "nodeimage/kubelet/volumes/atomic_writer_internal.h"

struct volumes_context {
    const char *root_dir; /* "/var/lib/kubelet" */
    const struct kubelet_getter *getter;
    const struct kp_string_map *allocatable;
    struct kp_arena *arena;
};

/* "<root>/pods/<uid>" */
const char *volumes_pod_dir(const char *root_dir, const char *uid, struct kp_arena *arena);
/* Makes every volume of the pod, or brings its content up to date; may be called any number of times. The error says which
   volume, in upstream's words. *ret_changed (may be NULL): content was written. */
int volumes_setup(const struct volumes_context *context, const struct k8s_pod *pod, bool *ret_changed, struct kp_error *error)
    KP_NODISCARD;
/* True when the pod has volumes whose content may change while it runs. */
bool volumes_refreshable(const struct k8s_pod *pod);
/* Where a volume lies on the node; NULL for an unknown name and for kinds that are mounted otherwise (image). */
const char *volumes_path(const struct volumes_context *context, const struct k8s_pod *pod, const char *name);
const struct k8s_volume *volumes_find(const struct k8s_pod *pod, const char *name); /* NULL when there is none */
/* The source of one mount of a container: the volume, or a bind mount of its sub-path that symbolic links cannot leave.
   sub_path is expanded already; index tells mounts of one container apart. */
int volumes_mount_source(const struct volumes_context *context, const struct k8s_pod *pod, const char *container, size_t index,
                         const char *volume, const char *sub_path, const char **ret_path, struct kp_error *error) KP_NODISCARD;
/* Unmounts and removes the volumes, keeping what else lies in the pod's folder. */
int volumes_unmount(const char *root_dir, const char *uid, struct kp_error *error) KP_NODISCARD;
/* Unmounts everything under the pod's folder and removes it. */
int volumes_teardown(const char *root_dir, const char *uid, struct kp_error *error) KP_NODISCARD;

/* ---- contents (pure, given the getter) ------------------------------------------------------------------------------ */
int volumes_content(const struct volumes_context *context, const struct k8s_pod *pod, const struct k8s_volume *volume,
                    struct volumes_files *ret_files, struct kp_error *error) KP_NODISCARD;

#endif
