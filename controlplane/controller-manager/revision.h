/* ControllerRevisions: the history that DaemonSets (and StatefulSets) keep of their templates. */
#ifndef KCM_REVISION_H
#define KCM_REVISION_H

#include "controlplane/controller-manager/claim.h"

struct revisions {
    const struct k8s_controller_revision **items; /* ascending revision number */
    size_t len;
    const struct k8s_controller_revision *current; /* of the template as it is now; NULL when it has yet to be made */
    const char *hash; /* of the current template: the value of the label controller-revision-hash */
};
/* Claims the owner's revisions and plans what is missing: a new one for a new template, a higher number for one that is used
   again. KP_EAGAIN when the plan has to be seen first. limit: old revisions kept; in_use(hash) protects those of live pods. */
int revisions_sync(const struct plan_input *in, struct plan *plan, const struct kp_type *owner_type, const struct k8s_object_meta *owner,
                   const struct kp_selector *selector, const struct k8s_pod_template_spec *template, int32_t limit,
                   bool (*in_use)(const char *hash, void *arg), void *arg, struct revisions *ret);

#endif
