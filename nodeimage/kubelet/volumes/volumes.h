/* Volumes of pods: emptyDir, configMap, secret, downwardAPI, projected, hostPath, image, claims and those of storage drivers; sub-paths; teardown. */
#ifndef KUBELET_VOLUMES_H
#define KUBELET_VOLUMES_H

#include "nodeimage/kubelet/pod_internal.h"
#include "nodeimage/kubelet/volumes/atomic_writer_internal.h"

struct csi;

/* A volume behind a claim, or of a driver, once it is there. */
struct volumes_mount {
    char *path;
    bool read_only;
    bool republish; /* its driver wants to be called again from time to time */
};
struct volumes_context {
    const char *root_dir; /* "/var/lib/kubelet" */
    const struct kubelet_getter *getter;
    const struct kp_string_map *allocatable;
    struct kp_arena *arena;
    /* For claims; all may be NULL when the pod has none (volumes_any_claimed): */
    struct kp_strmap *mounts;      /* by the pod's name for the volume: struct volumes_mount; filled by volumes_setup */
    struct csi *csi;               /* NULL: no storage drivers */
    const struct k8s_node *node;   /* this one, for affinities of volumes; NULL: not known */
    const char *local_dir;         /* NULL: VOLUME_LOCAL_DIR */
    bool resumed;                  /* the pod has been running: a kubelet before this one has set it up */
};

/* "<root>/pods/<uid>" */
const char *volumes_pod_dir(const char *root_dir, const char *uid, struct kp_arena *arena);
/* Makes every volume of the pod, or brings its content up to date; may be called any number of times. The error says which
   volume, in upstream's words; KP_EAGAIN: one is to be waited for, which is no failure. *ret_changed (may be NULL): content was written. */
int volumes_setup(const struct volumes_context *context, const struct k8s_pod *pod, bool *ret_changed, struct kp_error *error)
    KP_NODISCARD;
/* True when the pod has volumes whose content may change while it runs, or whose driver wants to be called again. */
bool volumes_refreshable(const struct k8s_pod *pod, const struct kp_strmap *mounts);
bool volumes_claimed(const struct k8s_volume *volume); /* behind a claim, or of a driver */
bool volumes_any_claimed(const struct k8s_pod *pod);
void volumes_mounts_free(struct kp_strmap *mounts); /* accepts NULL */
bool volumes_read_only(const struct volumes_context *context, const char *name); /* whatever the container asks for */
/* Where a volume lies on the node; NULL for an unknown name, for one that is not there yet, and for kinds that are mounted otherwise (image). */
const char *volumes_path(const struct volumes_context *context, const struct k8s_pod *pod, const char *name);
const struct k8s_volume *volumes_find(const struct k8s_pod *pod, const char *name); /* NULL when there is none */
/* The source of one mount of a container: the volume, or a bind mount of its sub-path that symbolic links cannot leave.
   sub_path is expanded already; index tells mounts of one container apart. */
int volumes_mount_source(const struct volumes_context *context, const struct k8s_pod *pod, const char *container, size_t index,
                         const char *volume, const char *sub_path, const char **ret_path, struct kp_error *error) KP_NODISCARD;
/* Unmounts and removes the volumes, keeping what else lies in the pod's folder. csi may be NULL. */
int volumes_unmount(const char *root_dir, const char *uid, struct csi *csi, struct kp_error *error) KP_NODISCARD;
/* Unmounts everything under the pod's folder and removes it. */
int volumes_teardown(const char *root_dir, const char *uid, struct csi *csi, struct kp_error *error) KP_NODISCARD;

/* ---- folders of the provisioner kprov.dev/local ----------------------------------------------------------------------- */
/* What becomes of a volume's folder; pure. Removed is data only by the object's own word: it is to be deleted, nobody has it, its policy says Delete,
   and it is the folder of that name on the node of that host name (the value of the label kubernetes.io/hostname). */
enum volumes_verdict { VOLUMES_KEEP, VOLUMES_RELEASE /* the object goes, the data stays */, VOLUMES_REMOVE };
enum volumes_verdict volumes_local_verdict(const struct k8s_persistent_volume *pv, const char *local_dir, const char *hostname);
bool volumes_local_is_own(const struct k8s_persistent_volume *pv, const char *local_dir); /* its path is <local_dir>/<name>; pure */
struct volumes_collect {
    const char *root_dir, *local_dir, *hostname;
    const char *leaving; /* the node's annotation VOLUME_LOCAL_LEAVING: volumes to look at though they have no folder; may be NULL */
    int (*get)(void *arg, const char *name, struct kp_arena *arena, const struct k8s_persistent_volume **ret, struct kp_error *error);
    int (*patch)(void *arg, const char *name, const char *body, size_t len, struct kp_error *error); /* a merge patch */
    void *arg;
};
/* Looks at the folders that no pod of this node has mounted, and at the volumes that it is told of. */
void volumes_collect_local(const struct volumes_collect *collect);

/* ---- contents (pure, given the getter) ------------------------------------------------------------------------------ */
int volumes_content(const struct volumes_context *context, const struct k8s_pod *pod, const struct k8s_volume *volume,
                    struct volumes_files *ret_files, struct kp_error *error) KP_NODISCARD;

#endif
