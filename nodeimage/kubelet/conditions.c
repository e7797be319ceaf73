/* Pod conditions: PodReadyToStartContainers, Initialized, Ready, ContainersReady, PodScheduled. Pure. */
#include "nodeimage/kubelet/pod_internal.h"

static const struct k8s_pod_condition *find_condition(const struct k8s_pod_status *status, const char *type)
{
    for (size_t i = 0; status && i < status->conditions.len; i++)
        if (kp_streq(status->conditions.items[i].type, type))
            return &status->conditions.items[i];
    return NULL;
}

struct verdict {
    bool ok;
    const char *reason, *message;
};

static void add(const struct kubelet_status_input *in, struct k8s_pod_status *status, struct kp_arena *arena, const char *type,
                const struct verdict *verdict)
{
    const struct k8s_pod_condition *old = find_condition(in->old, type);
    struct k8s_pod_condition *c = KP_LIST_ADD(arena, &status->conditions);
    c->type = type;
    c->status = verdict->ok ? "True" : "False";
    c->reason = verdict->reason;
    c->message = verdict->message;
    if (in->pod->metadata->has_generation)
        KP_SET(c, observed_generation, in->pod->metadata->generation);
    c->last_transition_time =
        old && kp_streq(old->status, c->status) && old->last_transition_time.set ? old->last_transition_time : KP_TIME_OF(in->now_s);
}

static void append_name(struct kp_buf *out, const char *name)
{
    if (out->len > 0)
        kp_buf_putc(out, ' ');
    kp_buf_puts(out, name);
}

static struct verdict initialized(const struct kubelet_status_input *in, const struct k8s_pod_status *status,
                                  struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf names = {0};
    for (size_t i = 0; i < status->container_statuses.len; i++) {
        const struct k8s_container_status *s = &status->container_statuses.items[i];
        if (s->state->running || s->state->terminated || (s->last_state && s->last_state->terminated))
            return (struct verdict){.ok = true};
    }
    for (size_t i = 0; i < status->init_container_statuses.len; i++) {
        const struct k8s_container_status *s = &status->init_container_statuses.items[i];
        bool sidecar = kp_streq(in->pod->spec->init_containers.items[i].restart_policy, "Always");
        bool done = sidecar ? s->has_started && s->started : s->has_ready && s->ready;
        if (!done)
            append_name(&names, s->name);
    }
    if (names.len == 0)
        return (struct verdict){.ok = true};
    return (struct verdict){
        .reason = "ContainersNotInitialized",
        .message = kp_arena_printf(arena, "containers with incomplete status: [%s]", names.data)};
}

static struct verdict containers_ready(const struct kubelet_status_input *in, const struct k8s_pod_status *status,
                                       struct kp_arena *arena)
{
    if (kp_streq(status->phase, "Succeeded"))
        return (struct verdict){.reason = "PodCompleted"};
    if (kp_streq(status->phase, "Failed"))
        return (struct verdict){.reason = "PodFailed"};
    KP_AUTO_BUF struct kp_buf unready = {0};
    for (size_t i = 0; i < status->init_container_statuses.len; i++) {
        const struct k8s_container_status *s = &status->init_container_statuses.items[i];
        if (kp_streq(in->pod->spec->init_containers.items[i].restart_policy, "Always") && !(s->has_ready && s->ready))
            append_name(&unready, s->name);
    }
    for (size_t i = 0; i < status->container_statuses.len; i++) {
        const struct k8s_container_status *s = &status->container_statuses.items[i];
        if (!(s->has_ready && s->ready))
            append_name(&unready, s->name);
    }
    if (unready.len == 0)
        return (struct verdict){.ok = true};
    return (struct verdict){.reason = "ContainersNotReady",
                            .message = kp_arena_printf(arena, "containers with unready status: [%s]", unready.data)};
}

static struct verdict pod_ready(const struct kubelet_status_input *in, const struct verdict *containers, struct kp_arena *arena)
{
    if (!containers->ok)
        return *containers;
    KP_AUTO_BUF struct kp_buf missing = {0};
    for (size_t i = 0; i < in->pod->spec->readiness_gates.len; i++) {
        const char *type = in->pod->spec->readiness_gates.items[i].condition_type;
        const struct k8s_pod_condition *gate = find_condition(in->pod->status, type);
        if (gate && kp_streq(gate->status, "True"))
            continue;
        if (missing.len > 0)
            kp_buf_puts(&missing, ", ");
        if (gate)
            kp_buf_printf(&missing, "the status of pod readiness gate \"%s\" is not \"True\", but %s", type,
                          gate->status ? gate->status : "");
        else
            kp_buf_printf(&missing, "corresponding condition of pod readiness gate \"%s\" does not exist.", type);
    }
    if (missing.len == 0)
        return (struct verdict){.ok = true};
    return (struct verdict){.reason = "ReadinessGatesNotReady", .message = kp_arena_strndup(arena, missing.data, missing.len)};
}

void kubelet_make_conditions(const struct kubelet_status_input *in, struct k8s_pod_status *status, struct kp_arena *arena)
{
    const struct cri_sandbox *sandbox = kubelet_runtime_sandbox(in->rt);
    struct verdict sandbox_ready = {.ok = sandbox && (in->pod->spec->host_network || sandbox->n_ips > 0)};
    struct verdict init = initialized(in, status, arena);
    if (kp_streq(status->phase, "Succeeded"))
        init = (struct verdict){.ok = true, .reason = "PodCompleted"};
    struct verdict containers = containers_ready(in, status, arena);
    struct verdict ready = pod_ready(in, &containers, arena);
    struct verdict scheduled = {.ok = true};
    add(in, status, arena, "PodReadyToStartContainers", &sandbox_ready);
    add(in, status, arena, "Initialized", &init);
    add(in, status, arena, "Ready", &ready);
    add(in, status, arena, "ContainersReady", &containers);
    add(in, status, arena, "PodScheduled", &scheduled);
    /* Jobs count such an end by their own rules. */
    struct verdict disrupted = {.ok = true, .reason = "TerminationByKubelet", .message = in->failed_message};
    if (kp_streq(in->failed_reason, "Evicted"))
        add(in, status, arena, "DisruptionTarget", &disrupted);
}
