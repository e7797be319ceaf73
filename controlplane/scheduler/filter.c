/* Filters: which nodes a pod may run on. Each is a row of the table at the end, in upstream's order; those that look at all pods come last. */
#include "controlplane/scheduler/scheduler.h"
#include "lib/placement/placement.h"

void sched_refuse(struct sched_reasons *reasons, const char *format, ...)
{
    va_list ap;
    if (reasons->n == SCHED_REASONS_MAX)
        return; /* enough is said */
    va_start(ap, format);
    vsnprintf(reasons->text[reasons->n++], SCHED_REASON_MAX, format, ap);
    va_end(ap);
}

static void node_unschedulable(const struct sched_pod *pod, const struct sched_node *node, struct sched_reasons *reasons)
{
    static const struct k8s_taint taint = {.key = "node.kubernetes.io/unschedulable", .effect = "NoSchedule"};
    if (node->node->spec->unschedulable && !placement_pod_tolerates(pod->pod->spec, &taint))
        sched_refuse(reasons, "node(s) were unschedulable");
}

static void node_name(const struct sched_pod *pod, const struct sched_node *node, struct sched_reasons *reasons)
{
    if (!kp_empty(pod->pod->spec->node_name) && !kp_streq(pod->pod->spec->node_name, node->name))
        sched_refuse(reasons, "node(s) didn't match the requested node name");
}

static void taint_toleration(const struct sched_pod *pod, const struct sched_node *node, struct sched_reasons *reasons)
{
    const struct k8s_taint *taint = placement_untolerated(pod->pod->spec, node->node, true);
    if (taint)
        sched_refuse(reasons, "node(s) had untolerated taint {%s: %s}", taint->key, taint->value ? taint->value : "");
}

static void node_affinity(const struct sched_pod *pod, const struct sched_node *node, struct sched_reasons *reasons)
{
    if (!placement_affinity_matches(pod->pod->spec, node->node))
        sched_refuse(reasons, "node(s) didn't match Pod's node affinity/selector");
}

/* ---- ports and resources ---------------------------------------------------------------------------------------------- */
static bool ports_conflict(const struct sched_port *a, const struct sched_port *b)
{
    bool any = strcmp(a->host_ip, "0.0.0.0") == 0 || strcmp(b->host_ip, "0.0.0.0") == 0;
    return a->port == b->port && strcmp(a->protocol, b->protocol) == 0 && (any || strcmp(a->host_ip, b->host_ip) == 0);
}

static void node_ports(const struct sched_pod *pod, const struct sched_node *node, struct sched_reasons *reasons)
{
    for (size_t w = 0; w < pod->n_ports; w++)
        for (size_t i = 0; i < node->n_pods; i++)
            for (size_t k = 0; k < node->pods[i].info.n_ports; k++)
                if (ports_conflict(&pod->ports[w], &node->pods[i].info.ports[k])) {
                    sched_refuse(reasons, "node(s) didn't have free ports for the requested pod ports");
                    return;
                }
}

static int64_t extended_of(const struct sched_resources *r, const char *name)
{
    for (size_t i = 0; i < r->n_extended; i++)
        if (strcmp(r->extended[i].name, name) == 0)
            return r->extended[i].value;
    return 0;
}

/* Every resource that is lacking is a reason of its own. What the node has not got at all nobody's going gives. */
static void node_resources_fit(const struct sched_pod *pod, const struct sched_node *node, struct sched_reasons *reasons)
{
    const struct sched_resources *want = &pod->requests, *have = &node->allocatable, *used = &node->requested;
    if ((int64_t)node->n_pods + 1 > node->pods_allowed)
        sched_refuse(reasons, "Too many pods");
    reasons->final = want->milli_cpu > have->milli_cpu || want->memory > have->memory || want->ephemeral_storage > have->ephemeral_storage;
    if (want->milli_cpu > 0 && want->milli_cpu > have->milli_cpu - used->milli_cpu)
        sched_refuse(reasons, "Insufficient cpu");
    if (want->memory > 0 && want->memory > have->memory - used->memory)
        sched_refuse(reasons, "Insufficient memory");
    if (want->ephemeral_storage > 0 && want->ephemeral_storage > have->ephemeral_storage - used->ephemeral_storage)
        sched_refuse(reasons, "Insufficient ephemeral-storage");
    for (size_t i = 0; i < want->n_extended; i++) {
        int64_t there = extended_of(have, want->extended[i].name), wanted = want->extended[i].value;
        reasons->final |= wanted > there;
        if (wanted > 0 && wanted > there - extended_of(used, want->extended[i].name))
            sched_refuse(reasons, "Insufficient %s", want->extended[i].name);
    }
}

static const struct {
    const char *name;
    void (*look)(const struct sched_pod *pod, const struct sched_node *node, struct sched_reasons *reasons);
    bool final;
} filters[] = {
    {"NodeUnschedulable", node_unschedulable, true}, {"NodeName", node_name, true},    {"TaintToleration", taint_toleration, true},
    {"NodeAffinity", node_affinity, true},           {"NodePorts", node_ports, false}, {"NodeResourcesFit", node_resources_fit, false},
};

void sched_question_init(struct sched_question *ret, const struct sched_pod *pod, const struct sched_cluster *cluster, struct kp_arena *arena)
{
    *ret = (struct sched_question){pod, cluster, sched_spread_new(pod, cluster, arena), sched_affinity_new(pod, cluster),
                                     sched_claims_new(pod, cluster, arena)};
}

void sched_question_done(struct sched_question *question)
{
    sched_spread_free(question->spread);
    sched_affinity_free(question->affinity);
}

bool sched_filter(const struct sched_question *question, const struct sched_node *node, struct sched_reasons *ret)
{
    const char *why;
    ret->n = 0;
    for (size_t i = 0; i < KP_ARRAY_LEN(filters); i++) {
        ret->final = filters[i].final;
        filters[i].look(question->pod, node, ret);
        if (ret->n) {
            ret->plugin = filters[i].name;
            return false;
        }
    }
    if (question->claims && !sched_claims_allow(question->claims, node, ret))
        return false;
    if ((why = sched_spread_refuses(question->spread, node, &ret->final)))
        ret->plugin = "PodTopologySpread";
    else if ((why = sched_affinity_refuses(question->affinity, node, &ret->final)))
        ret->plugin = "InterPodAffinity";
    if (why)
        sched_refuse(ret, "%s", why);
    return !why;
}

/* Whether others must leave the room to that one: it is not the pod itself, and not less important. */
static bool must_leave_room(const struct sched_pod *pod, const struct sched_nomination *to)
{
    return to->pod.info.priority >= pod->priority && !kp_streq(to->pod.uid, pod->pod->metadata->uid);
}

static bool fits_beside_nominated(const struct sched_question *question, const struct sched_node *node, struct sched_reasons *ret)
{
    const struct sched_cluster *cluster = question->cluster;
    struct sched_trial trial;
    sched_trial_begin(&trial, question, node, cluster->n_nominations);
    for (size_t i = 0; i < cluster->n_nominations; i++)
        if (strcmp(cluster->nominations[i].node, node->name) == 0 && must_leave_room(question->pod, &cluster->nominations[i]))
            sched_trial_bring(&trial, &cluster->nominations[i].pod);
    bool fits = trial.node.n_pods == node->n_pods || sched_filter(question, &trial.node, ret);
    sched_trial_end(&trial);
    return fits;
}

bool sched_fits(const struct sched_question *question, const struct sched_node *node, struct sched_reasons *ret)
{
    if (question->cluster->n_nominations && !fits_beside_nominated(question, node, ret))
        return false;
    return sched_filter(question, node, ret);
}
