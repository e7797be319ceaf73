/* lib/placement: whether a pod may be on a node - tolerations, node selectors and affinity, as the scheduler, the DaemonSet
 * controller, eviction and the kubelet all ask it. Pure. */
#ifndef KP_PLACEMENT_H
#define KP_PLACEMENT_H

#include "api/k8s.h"

/* One toleration against one taint (k8s.io/component-helpers: ToleratesTaint). */
bool placement_tolerates(const struct k8s_toleration *toleration, const struct k8s_taint *taint);
/* Any of the pod's tolerations against a taint. */
bool placement_pod_tolerates(const struct k8s_pod_spec *spec, const struct k8s_taint *taint);
/* The first taint of the node with one of the effects NoSchedule (when asked for) and NoExecute that the pod does not
   tolerate, or NULL. */
const struct k8s_taint *placement_untolerated(const struct k8s_pod_spec *spec, const struct k8s_node *node, bool with_no_schedule);
bool placement_term_matches(const struct k8s_node_selector_term *term, const struct k8s_node *node);
/* spec.nodeSelector and the required node affinity. */
bool placement_affinity_matches(const struct k8s_pod_spec *spec, const struct k8s_node *node);

#endif
