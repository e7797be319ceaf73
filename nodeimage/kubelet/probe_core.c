/* The counting of one probe: thresholds, and what a result means for the container. Pure. */
#include "nodeimage/kubelet/probe_internal.h"

void kubelet_probe_init(struct kubelet_probe_core *core, enum kubelet_probe_kind kind, const struct k8s_probe *spec)
{
    *core = (struct kubelet_probe_core){
        .kind = kind,
        .success_threshold = spec->success_threshold > 0 ? spec->success_threshold : 1,
        .failure_threshold = spec->failure_threshold > 0 ? spec->failure_threshold : 3,
        .period_ms = (spec->period_seconds > 0 ? spec->period_seconds : 10) * 1000,
        .timeout_ms = (spec->timeout_seconds > 0 ? spec->timeout_seconds : 1) * 1000,
        .initial_delay_ms = (int64_t)spec->initial_delay_seconds * 1000,
        /* Alive until shown dead; not ready until shown ready. */
        .result = kind == KUBELET_LIVENESS    ? KUBELET_PROBE_SUCCESS
                  : kind == KUBELET_READINESS ? KUBELET_PROBE_FAILURE
                                              : KUBELET_PROBE_UNKNOWN,
    };
}

bool kubelet_probe_count(struct kubelet_probe_core *core, bool success)
{
    if (core->run_length > 0 && core->run_success == success) {
        core->run_length++;
    } else {
        core->run_success = success;
        core->run_length = 1;
    }
    if (core->run_length < (success ? core->success_threshold : core->failure_threshold))
        return false;
    enum kubelet_probe_result result = success ? KUBELET_PROBE_SUCCESS : KUBELET_PROBE_FAILURE;
    bool changed = core->result != result;
    core->result = result;
    if (core->kind == KUBELET_STARTUP || (core->kind == KUBELET_LIVENESS && !success))
        core->settled = true; /* started for good, or about to be replaced */
    return changed;
}
