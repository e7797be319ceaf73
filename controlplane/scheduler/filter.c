/* Filters: which nodes a pod may run on. Each is a row of the table at the end, in upstream's order. */
#include "controlplane/scheduler/scheduler.h"
#include "lib/placement/placement.h"

static const char *node_unschedulable(const struct sched_pod *pod, const struct sched_node *node, char *buf)
{
    static const struct k8s_taint taint = {.key = "node.kubernetes.io/unschedulable", .effect = "NoSchedule"};
    return node->node->spec->unschedulable && !placement_pod_tolerates(pod->pod->spec, &taint) ? "node(s) were unschedulable" : NULL;
}

static const char *node_name(const struct sched_pod *pod, const struct sched_node *node, char *buf)
{
    return !kp_empty(pod->pod->spec->node_name) && !kp_streq(pod->pod->spec->node_name, node->name)
               ? "node(s) didn't match the requested node name"
               : NULL;
}

static const char *taint_toleration(const struct sched_pod *pod, const struct sched_node *node, char *buf)
{
    const struct k8s_taint *taint = placement_untolerated(pod->pod->spec, node->node, true);
    if (!taint)
        return NULL;
    snprintf(buf, SCHED_REASON_MAX, "node(s) had untolerated taint {%s: %s}", taint->key, taint->value ? taint->value : "");
    return buf;
}

static const char *node_affinity(const struct sched_pod *pod, const struct sched_node *node, char *buf)
{
    return placement_affinity_matches(pod->pod->spec, node->node) ? NULL : "node(s) didn't match Pod's node affinity/selector";
}

/* ---- ports and resources ---------------------------------------------------------------------------------------------- */
static bool ports_conflict(const struct sched_port *a, const struct sched_port *b)
{
    bool any = strcmp(a->host_ip, "0.0.0.0") == 0 || strcmp(b->host_ip, "0.0.0.0") == 0;
    return a->port == b->port && strcmp(a->protocol, b->protocol) == 0 && (any || strcmp(a->host_ip, b->host_ip) == 0);
}

static const char *node_ports(const struct sched_pod *pod, const struct sched_node *node, char *buf)
{
    for (size_t w = 0; w < pod->n_ports; w++)
        for (size_t i = 0; i < node->n_pods; i++)
            for (size_t k = 0; k < node->pods[i].info.n_ports; k++)
                if (ports_conflict(&pod->ports[w], &node->pods[i].info.ports[k]))
                    return "node(s) didn't have free ports for the requested pod ports";
    return NULL;
}

static int64_t extended_of(const struct sched_resources *r, const char *name)
{
    for (size_t i = 0; i < r->n_extended; i++)
        if (strcmp(r->extended[i].name, name) == 0)
            return r->extended[i].value;
    return 0;
}

static const char *node_resources_fit(const struct sched_pod *pod, const struct sched_node *node, char *buf)
{
    const struct sched_resources *want = &pod->requests, *have = &node->allocatable, *used = &node->requested;
    if ((int64_t)node->n_pods + 1 > node->pods_allowed)
        return "Too many pods";
    if (want->milli_cpu > 0 && want->milli_cpu > have->milli_cpu - used->milli_cpu)
        return "Insufficient cpu";
    if (want->memory > 0 && want->memory > have->memory - used->memory)
        return "Insufficient memory";
    if (want->ephemeral_storage > 0 && want->ephemeral_storage > have->ephemeral_storage - used->ephemeral_storage)
        return "Insufficient ephemeral-storage";
    for (size_t i = 0; i < want->n_extended; i++)
        if (want->extended[i].value > extended_of(have, want->extended[i].name) - extended_of(used, want->extended[i].name)) {
            snprintf(buf, SCHED_REASON_MAX, "Insufficient %s", want->extended[i].name);
            return buf;
        }
    return NULL;
}

static const struct {
    const char *name;
    const char *(*fits)(const struct sched_pod *pod, const struct sched_node *node, char *buf);
} filters[] = {
    {"NodeUnschedulable", node_unschedulable}, {"NodeName", node_name},   {"TaintToleration", taint_toleration},
    {"NodeAffinity", node_affinity},           {"NodePorts", node_ports}, {"NodeResourcesFit", node_resources_fit},
};

const char *sched_filter(const struct sched_pod *pod, const struct sched_node *node, char buf[SCHED_REASON_MAX], const char **ret_plugin)
{
    for (size_t i = 0; i < KP_ARRAY_LEN(filters); i++) {
        const char *reason = filters[i].fits(pod, node, buf);
        if (reason) {
            *ret_plugin = filters[i].name;
            return reason;
        }
    }
    return NULL;
}
