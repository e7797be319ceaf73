/* The claims of a StatefulSet's pods: made with the pods, and owned by set or pod as the retention policy says. */
#ifndef KCM_STATEFULSET_CLAIMS_H
#define KCM_STATEFULSET_CLAIMS_H

#include "controlplane/controller-manager/engine.h"

/* Creates the claims that are missing for a pod to be made, and mounts them in it. */
void set_claims_create(const struct plan_input *in, struct plan *plan, const struct k8s_stateful_set *set, struct k8s_pod *pod);
/* The same claims alone, for a pod that is there. */
void set_claims_complete(const struct plan_input *in, struct plan *plan, const struct k8s_stateful_set *set, const char *pod_name);
/* A claim of the pod is going, or belongs to an earlier pod of the name that was scaled away, and goes with that: the pod must wait. */
bool set_claims_are_stale(const struct plan_input *in, const struct k8s_stateful_set *set, const char *pod_name);
/* Writes the owners of a pod's claims unless they are as spec.persistentVolumeClaimRetentionPolicy wants them. away: the pod's ordinal is not
   wanted any more. */
void set_claims_own(const struct plan_input *in, struct plan *plan, const struct k8s_stateful_set *set, const struct k8s_pod *pod, bool away);

#endif
