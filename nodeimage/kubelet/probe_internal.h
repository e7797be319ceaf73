/* The counting behind a probe, without clock or I/O. */
#ifndef KUBELET_PROBE_INTERNAL_H
#define KUBELET_PROBE_INTERNAL_H

#include "nodeimage/kubelet/pod_internal.h"

struct kubelet_probe_core {
    enum kubelet_probe_kind kind;
    int32_t success_threshold, failure_threshold;
    int64_t period_ms, timeout_ms, initial_delay_ms;
    enum kubelet_probe_result result;
    bool run_success;   /* the outcome that came last, run_length times in a row */
    int32_t run_length;
    bool settled;       /* no more probing of this container */
};
/* Numbers that are missing in spec get the API's defaults. */
void kubelet_probe_init(struct kubelet_probe_core *core, enum kubelet_probe_kind kind, const struct k8s_probe *spec);
/* Counts one outcome; true when the result changed. */
bool kubelet_probe_count(struct kubelet_probe_core *core, bool success);

#endif
