/* What the halves of the attach-detach controller share: which volumes a node's pods need, and what attaching them is called. */
#ifndef KCM_ATTACH_INTERNAL_H
#define KCM_ATTACH_INTERNAL_H

#include "controlplane/controller-manager/storage.h"

/* One volume that pods of a node need attached. */
struct attach_wanted {
    const char *attachment; /* name of the VolumeAttachment */
    const struct k8s_persistent_volume *volume;
    const struct k8s_pod **pods;
    size_t n_pods;
};

/* The name that node statuses know a volume by: "kubernetes.io/csi/<driver>^<handle>". */
const char *attach_volume_name(struct kp_arena *arena, const struct k8s_csi_persistent_volume_source *csi);
/* The VolumeAttachment's name, as CSI attachers of all clusters make it: a hash of handle, driver and node. */
const char *attach_name(struct kp_arena *arena, const char *driver, const char *handle, const char *node);
/* The same of a name of attach_volume_name(); NULL of any other volume's. */
const char *attach_name_of(struct kp_arena *arena, const char *volume_name, const char *node);

/* The kubelet has ended the pod's containers, or never started one. */
bool attach_pod_is_over(const struct k8s_pod *pod);
/* For setup: pods by node. */
void attach_index_pods(struct engine *engine);
/* What the pods of a node need, in the order of the pods. */
size_t attach_wanted_of_node(const struct plan_input *in, const char *node, struct attach_wanted **ret_items);
/* The pods of other nodes that need a volume. */
size_t attach_pods_elsewhere(const struct plan_input *in, const struct k8s_persistent_volume *volume, const char *node,
                             const struct k8s_pod *const **ret_pods);

#endif
