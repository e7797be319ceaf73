/* Claiming: which objects are a controller's own, which it adopts and which it lets go, as upstream's ControllerRefManager. */
#ifndef KCM_CLAIM_H
#define KCM_CLAIM_H

#include "controlplane/controller-manager/engine.h"

struct claim {
    const struct kp_resource *resource; /* of what is claimed; its owner index must have been made in setup */
    const struct kp_type *owner_type;
    const struct k8s_object_meta *owner;
    const struct kp_selector *selector;
    bool (*may_adopt)(const void *object); /* NULL: any that is not being deleted */
};
/* The objects owned and matching, in key order, in in->arena; those adopted by this plan count already. Patches that adopt
   (unless the owner is being deleted) and release are put in the plan. */
size_t claim_objects(const struct plan_input *in, struct plan *plan, const struct claim *claim, const void *const **ret_items);
/* The same for pods, without the terminal ones being adopted. */
size_t claim_pods(const struct plan_input *in, struct plan *plan, const struct kp_type *owner_type,
                  const struct k8s_object_meta *owner, const struct kp_selector *selector, const struct k8s_pod *const **ret_pods);

/* A pod made from a template: labels, annotations, finalizers and spec cloned, generateName "<owner>-", owned by owner. */
struct k8s_pod *pod_from_template(struct kp_arena *arena, const struct k8s_pod_template_spec *template,
                                  const struct kp_type *owner_type, const struct k8s_object_meta *owner);
/* The order in which pods are given up when scaling down, as upstream's ActivePodsWithRanks: unassigned, pending, not ready,
   lower deletion cost, more of the same owner on the node, ready for a shorter time, more restarts, younger. rank[i] is how
   many active pods of related owners share pods[i]'s node. */
void pods_sort_for_deletion(const struct k8s_pod **pods, size_t n, const int *ranks, struct kp_arena *arena);

#endif
