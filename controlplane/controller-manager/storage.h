/* What the volume controllers share: which claims a pod names, which pods name a claim, and finalizers. */
#ifndef KCM_STORAGE_H
#define KCM_STORAGE_H

#include "controlplane/controller-manager/engine.h"
#include "lib/volume/volume.h"

/* The claim that a volume of a pod stands for, in arena or borrowed from the pod; NULL for any other kind of volume. */
const char *storage_claim_name(const struct k8s_pod *pod, const struct k8s_volume *volume, struct kp_arena *arena);
/* The claim was made for this pod's ephemeral volume: the pod is its controlling owner. */
bool storage_claim_is_of_pod(const struct k8s_persistent_volume_claim *claim, const struct k8s_pod *pod);

/* For setup: pods by the claims they name. */
void storage_index_pods(struct engine *engine);
/* The pods in its namespace that name a claim, and the one an ephemeral claim was made for; of cached pods, in the view's arena. */
size_t storage_pods_of_claim(const struct engine *engine, struct client_view *view, const struct k8s_persistent_volume_claim *claim,
                             const struct k8s_pod *const **ret_pods);

/* For setup: volumes by the name of the claim they are bound or to be bound to. */
void storage_index_volumes(struct engine *engine);
/* The cached volumes whose claimRef names a claim, of whatever uid. */
size_t storage_volumes_of_claim(const struct engine *engine, struct client_view *view, const char *ns, const char *name,
                                const struct k8s_persistent_volume *const **ret_volumes);

bool storage_has_finalizer(const struct k8s_object_meta *meta, const char *finalizer);
void storage_remove_finalizer(struct k8s_object_meta *meta, const char *finalizer); /* of a clone */

#endif
