/* Storage drivers (CSI): who is registered on this node, and mounting and unmounting their volumes. What has been done lies in
   vol_data.json files, so that a kubelet that starts anew knows what it has to undo. */
#ifndef KUBELET_CSI_H
#define KUBELET_CSI_H

#include "nodeimage/kubelet/pod_internal.h"

struct loop;
struct client;

/* The rest of the kubelet, as the drivers' part needs it; each may be NULL. */
struct csi_node {
    void (*changed)(void *arg);                        /* csi_in_use gives something else now */
    bool (*has_volume)(void *arg, const char *volume); /* the API shows it in the node's volumesInUse and volumesAttached */
    void (*registered)(void *arg);                    /* a driver has come: who waits for it may go on */
    void *arg;
};
struct csi_config {
    struct loop *loop;     /* of the drivers' sockets; borrowed */
    struct client *client; /* NULL: standalone, without CSINode and attachments; borrowed */
    const char *root_dir;  /* "/var/lib/kubelet"; borrowed */
    const char *node_name; /* borrowed */
    struct csi_node node;
};
struct csi; /* thread-safe */
struct csi *csi_new(const struct csi_config *config);
void csi_free(struct csi *csi); /* accepts NULL; nothing of it may run any more */
KP_DEFINE_AUTO(struct csi *, csi_free)
/* Registers drivers that show a socket in <root>/plugins_registry, and forgets those whose socket goes. Never returns: a thread's. */
void csi_watch(struct csi *csi);
/* One look at the folder. Gives the milliseconds after which to look again though nothing happens, -1 for never. */
int64_t csi_look(struct csi *csi);
bool csi_registered(struct csi *csi, const char *driver);

/* A volume in a pod: a persistent one, or one written in the pod. */
struct csi_volume {
    const struct k8s_pod *pod;
    const char *name;                                 /* the persistent volume's, or the pod's name for it */
    const struct k8s_persistent_volume *persistent;   /* or */
    const struct k8s_csi_volume_source *ephemeral;
    bool read_only;
};
/* Stages and publishes; may be called again. KP_EAGAIN: to be waited for, without a word to the user (not attached yet). *ret_path: where it is,
   in arena; *ret_republish: the driver wants to be called again from time to time. */
int csi_mount(struct csi *csi, const struct csi_volume *volume, const struct kubelet_getter *getter, struct kp_arena *arena,
              const char **ret_path, bool *ret_republish, struct kp_error *error) KP_NODISCARD;
/* Unpublishes all volumes of a pod, and unstages those that no other pod has. Sub-paths must be unmounted before. */
int csi_unmount_pod(struct csi *csi, const char *uid, struct kp_error *error) KP_NODISCARD;
/* Unstages what no pod uses: what was left when a kubelet was stopped halfway. */
void csi_collect(struct csi *csi);
/* "kubernetes.io/csi/<driver>^<handle>" of every volume that must not be detached, sorted, in arena. */
void csi_in_use(struct csi *csi, struct kp_arena *arena, struct kp_string_list *ret);

#endif
