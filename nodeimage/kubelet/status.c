/* The pod status computed from spec, runtime and probes: container statuses and phase. Pure. */
#include "nodeimage/kubelet/pod_internal.h"

#define NS_PER_S 1000000000

static struct kp_time time_of_ns(int64_t ns)
{
    return ns > 0 ? KP_TIME_OF(ns / NS_PER_S) : (struct kp_time){0};
}

static const char *container_id(struct kp_arena *arena, const struct cri_container *c)
{
    return kp_arena_printf(arena, "containerd://%s", c->id);
}

static struct k8s_container_state_terminated *make_terminated(struct kp_arena *arena, const struct cri_container *c)
{
    struct k8s_container_state_terminated *t = KP_OBJECT_NEW(arena, k8s_container_state_terminated);
    KP_SET(t, exit_code, c->exit_code);
    t->reason = !kp_empty(c->reason) ? c->reason : c->exit_code == 0 ? "Completed" : "Error";
    t->message = kp_empty(c->message) ? NULL : c->message;
    t->started_at = time_of_ns(c->started_ns);
    t->finished_at = time_of_ns(c->finished_ns);
    t->container_id = container_id(arena, c);
    return t;
}

static void set_waiting(struct kp_arena *arena, struct k8s_container_state *state, const char *reason, const char *message)
{
    state->waiting = KP_OBJECT_NEW(arena, k8s_container_state_waiting);
    state->waiting->reason = reason;
    state->waiting->message = kp_empty(message) ? NULL : message;
}

static const struct k8s_container_status *old_status(const struct kubelet_status_input *in,
                                                     const struct kubelet_spec_container *spec)
{
    if (!in->old)
        return NULL;
    const struct k8s_container_status *items = in->old->container_statuses.items;
    size_t len = in->old->container_statuses.len;
    if (spec->kind == KUBELET_INIT) {
        items = in->old->init_container_statuses.items;
        len = in->old->init_container_statuses.len;
    } else if (spec->kind == KUBELET_EPHEMERAL) {
        items = in->old->ephemeral_container_statuses.items;
        len = in->old->ephemeral_container_statuses.len;
    }
    for (size_t i = 0; i < len; i++)
        if (kp_streq(items[i].name, spec->container->name))
            return &items[i];
    return NULL;
}

static const struct kubelet_reason *reason_for(const struct kubelet_status_input *in, const char *name)
{
    for (size_t i = 0; i < in->n_reasons; i++)
        if (kp_streq(in->reasons[i].container, name))
            return &in->reasons[i];
    return NULL;
}

static bool initialized(const struct kubelet_status_input *in)
{
    const struct k8s_pod_spec *spec = in->pod->spec;
    for (size_t i = 0; i < spec->containers.len; i++)
        if (kubelet_runtime_find(in->rt, spec->containers.items[i].name, NULL))
            return true;
    return spec->init_containers.len == 0;
}

/* A container the runtime knows nothing of. */
static void status_absent(const struct kubelet_status_input *in, const struct kubelet_spec_container *spec,
                          const struct k8s_container_status *old, struct kp_arena *arena, struct k8s_container_status *s)
{
    bool ran = old && old->state && (old->state->running || old->state->terminated);
    if (old && old->has_restart_count)
        KP_SET(s, restart_count, old->restart_count);
    if (old && old->last_state && old->last_state->terminated)
        s->last_state->terminated = old->last_state->terminated;
    if (ran && old->state->terminated) {
        /* Its remains were collected; what is known of its end stays. */
        s->state->terminated = old->state->terminated;
        s->container_id = old->container_id;
        s->image_id = old->image_id;
        return;
    }
    /* Only a pod that had got as far as its main containers can have lost one. */
    if (ran || (in->stopped && initialized(in))) {
        struct k8s_container_state_terminated *t = KP_OBJECT_NEW(arena, k8s_container_state_terminated);
        KP_SET(t, exit_code, 137);
        t->reason = "ContainerStatusUnknown";
        t->message = "The container could not be located when the pod was terminated";
        if (in->stopped) {
            s->state->terminated = t;
            return;
        }
        t->message = "The container could not be located when the pod was deleted.  The container used to be Running";
        s->last_state->terminated = t;
        KP_SET(s, restart_count, old->restart_count + 1);
    }
    const struct kubelet_reason *reason = reason_for(in, spec->container->name);
    if (reason)
        set_waiting(arena, s->state, reason->reason, reason->message);
    else if (spec->kind == KUBELET_EPHEMERAL || (spec->kind == KUBELET_MAIN && in->pod->spec->init_containers.len == 0))
        set_waiting(arena, s->state, "ContainerCreating", NULL);
    else
        set_waiting(arena, s->state, "PodInitializing", NULL);
}

static int32_t restart_count(const struct cri_container *c)
{
    const char *text = cri_pairs_get(&c->annotations, KUBELET_ANNOTATION_RESTART_COUNT);
    int64_t count;
    if (text && kp_parse_i64(text, &count) == 0)
        return (int32_t)count;
    return (int32_t)c->attempt;
}

static void status_present(const struct kubelet_status_input *in, const struct kubelet_spec_container *spec,
                           const struct cri_container *c, struct kp_arena *arena, struct k8s_container_status *s)
{
    KP_SET(s, restart_count, restart_count(c));
    s->container_id = container_id(arena, c);
    s->image_id = !kp_empty(c->image_ref) ? c->image_ref : c->image_id ? c->image_id : "";
    if (!kp_empty(c->image) && !kp_starts_with(c->image, "sha256:"))
        s->image = c->image;
    const struct cri_container *previous = kubelet_runtime_previous(in->rt, spec->container->name, c);
    if (previous)
        s->last_state->terminated = make_terminated(arena, previous);
    const struct kubelet_reason *reason = reason_for(in, spec->container->name);
    if (c->state == CRI_RUNNING && !in->stopped) {
        s->state->running = KP_OBJECT_NEW(arena, k8s_container_state_running);
        s->state->running->started_at = time_of_ns(c->started_ns ? c->started_ns : c->created_ns);
    } else if (c->state == CRI_EXITED) {
        if (reason && !in->stopped && kubelet_should_restart(in->pod, spec, c)) {
            s->last_state->terminated = make_terminated(arena, c);
            set_waiting(arena, s->state, reason->reason, reason->message);
        } else {
            s->state->terminated = make_terminated(arena, c);
        }
    } else if (in->stopped) {
        s->state->terminated = make_terminated(arena, c);
        KP_SET(s->state->terminated, exit_code, 137);
        s->state->terminated->reason = "ContainerStatusUnknown";
    } else {
        set_waiting(arena, s->state, reason ? reason->reason : "ContainerCreating", reason ? reason->message : NULL);
    }
}

static enum kubelet_probe_result probe(const struct kubelet_status_input *in, const struct cri_container *c,
                                       enum kubelet_probe_kind kind)
{
    return in->probes ? in->probes->get(in->probes->arg, c->id, kind) : KUBELET_PROBE_UNKNOWN;
}

static void set_started_ready(const struct kubelet_status_input *in, const struct kubelet_spec_container *spec,
                              const struct cri_container *c, struct k8s_container_status *s)
{
    const struct k8s_container *container = spec->container;
    bool running = s->state->running != NULL;
    bool started = running && (!container->startup_probe || probe(in, c, KUBELET_STARTUP) == KUBELET_PROBE_SUCCESS);
    KP_SET(s, started, started);
    if (spec->kind == KUBELET_EPHEMERAL) {
        KP_SET(s, ready, false);
        return;
    }
    if (spec->kind == KUBELET_INIT && !spec->sidecar) {
        KP_SET(s, ready, s->state->terminated && s->state->terminated->exit_code == 0);
        return;
    }
    KP_SET(s, ready, started && (!container->readiness_probe || probe(in, c, KUBELET_READINESS) == KUBELET_PROBE_SUCCESS));
}

/* The API wants to see what a container was given. */
static void set_resources(const struct k8s_container *container, const struct cri_container *c, struct k8s_container_status *s)
{
    if (!c || !container->resources || (container->resources->limits.len == 0 && container->resources->requests.len == 0))
        return;
    s->resources = container->resources;
    s->allocated_resources = container->resources->requests;
}

static void fill_one(const struct kubelet_status_input *in, const struct kubelet_spec_container *spec, struct kp_arena *arena,
                     struct k8s_container_status *s)
{
    const struct k8s_container_status *old = old_status(in, spec);
    const struct cri_container *c = kubelet_runtime_find(in->rt, spec->container->name, NULL);
    s->name = spec->container->name;
    s->image = spec->container->image ? spec->container->image : "";
    s->image_id = "";
    s->state = KP_OBJECT_NEW(arena, k8s_container_state);
    s->last_state = KP_OBJECT_NEW(arena, k8s_container_state);
    KP_SET(s, restart_count, 0);
    KP_SET(s, ready, false);
    if (c)
        status_present(in, spec, c, arena, s);
    else
        status_absent(in, spec, old, arena, s);
    set_started_ready(in, spec, c, s);
    set_resources(spec->container, c, s);
}

struct phase_count {
    size_t pending_init, failed_init, unknown, running, waiting, stopped, succeeded;
};

static void count_init(const struct k8s_container *spec, const struct k8s_container_status *s, struct phase_count *n)
{
    bool sidecar = kp_streq(spec->restart_policy, "Always");
    if (!s) {
        n->pending_init++;
    } else if (sidecar) {
        if (!(s->has_started && s->started) && !s->state->terminated)
            n->pending_init++;
    } else if (s->state->terminated) {
        if (s->state->terminated->exit_code != 0)
            n->failed_init++;
    } else if (s->state->waiting && s->last_state && s->last_state->terminated && s->last_state->terminated->exit_code != 0) {
        n->failed_init++;
    } else {
        n->pending_init++;
    }
}

static void count_main(const struct k8s_container_status *s, struct phase_count *n)
{
    if (!s) {
        n->unknown++;
    } else if (s->state->running) {
        n->running++;
    } else if (s->state->terminated) {
        n->stopped++;
        n->succeeded += s->state->terminated->exit_code == 0;
    } else if (s->last_state && s->last_state->terminated) {
        n->stopped++;
    } else {
        n->waiting++;
    }
}

const char *kubelet_phase(const struct k8s_pod *pod, const struct k8s_pod_status *status)
{
    struct phase_count n = {0};
    const struct k8s_pod_spec *spec = pod->spec;
    bool never = kp_streq(spec->restart_policy, "Never");
    bool always = kp_empty(spec->restart_policy) || kp_streq(spec->restart_policy, "Always");
    for (size_t i = 0; i < spec->containers.len; i++)
        count_main(i < status->container_statuses.len ? &status->container_statuses.items[i] : NULL, &n);
    bool any_started = n.running > 0 || n.stopped > 0;
    for (size_t i = 0; i < spec->init_containers.len; i++)
        count_init(&spec->init_containers.items[i],
                   i < status->init_container_statuses.len ? &status->init_container_statuses.items[i] : NULL, &n);
    if (n.failed_init > 0 && never)
        return "Failed";
    if ((n.pending_init > 0 || n.failed_init > 0) && !any_started)
        return "Pending";
    if (n.waiting > 0)
        return "Pending";
    if (n.unknown > 0)
        return "Pending";
    if (n.running > 0 || n.stopped == 0)
        return n.running > 0 ? "Running" : "Pending";
    if (always)
        return "Running"; /* all have ended, and will come back */
    if (n.stopped == n.succeeded)
        return "Succeeded";
    return never ? "Failed" : "Running";
}

static void set_addresses(const struct kubelet_status_input *in, struct k8s_pod_status *status, struct kp_arena *arena)
{
    for (size_t i = 0; i < in->n_host_ips; i++)
        KP_LIST_ADD(arena, &status->host_ips)->ip = in->host_ips[i];
    status->host_ip = in->n_host_ips > 0 ? in->host_ips[0] : NULL;
    const struct cri_sandbox *sandbox = in->rt->n_sandboxes > 0 ? &in->rt->sandboxes[0] : NULL;
    if (in->pod->spec->host_network) {
        if (!sandbox && !in->old)
            return;
        for (size_t i = 0; sandbox && i < in->n_host_ips; i++)
            KP_LIST_ADD(arena, &status->pod_ips)->ip = in->host_ips[i];
    } else if (sandbox && sandbox->n_ips > 0) {
        for (size_t i = 0; i < sandbox->n_ips; i++)
            KP_LIST_ADD(arena, &status->pod_ips)->ip = sandbox->ips[i];
    } else if (in->old && !(sandbox && sandbox->ready)) {
        for (size_t i = 0; i < in->old->pod_ips.len; i++) /* a pod that ended keeps its address for the record */
            KP_LIST_ADD(arena, &status->pod_ips)->ip = in->old->pod_ips.items[i].ip;
    }
    status->pod_ip = status->pod_ips.len > 0 ? status->pod_ips.items[0].ip : NULL;
}

static bool phase_terminal(const char *phase)
{
    return kp_streq(phase, "Succeeded") || kp_streq(phase, "Failed");
}

struct k8s_pod_status *kubelet_make_status(const struct kubelet_status_input *in, struct kp_arena *arena)
{
    struct k8s_pod_status *status = KP_OBJECT_NEW(arena, k8s_pod_status);
    if (in->rejected) {
        status->phase = "Failed";
        status->reason = in->failed_reason;
        status->message = in->failed_message;
        status->qos_class = kubelet_qos_class(in->pod);
        status->start_time = KP_TIME_OF(in->start_s);
        return status;
    }
    struct kubelet_spec_container *specs;
    size_t n = kubelet_spec_containers(in->pod, arena, &specs);
    for (size_t i = 0; i < n; i++) {
        struct k8s_container_status *s = NULL;
        if (specs[i].kind == KUBELET_INIT)
            s = KP_LIST_ADD(arena, &status->init_container_statuses);
        else if (specs[i].kind == KUBELET_MAIN)
            s = KP_LIST_ADD(arena, &status->container_statuses);
        else
            s = KP_LIST_ADD(arena, &status->ephemeral_container_statuses);
        fill_one(in, &specs[i], arena, s);
    }
    status->phase = kubelet_phase(in->pod, status);
    /* An end is final: a pod that was seen to succeed or fail does not come back. */
    if (in->old && phase_terminal(in->old->phase))
        status->phase = in->old->phase;
    /* As long as containers may run the pod has not failed: who sees that it has takes what it held - a volume, an address - for free. */
    if (in->failed_reason && in->stopped) {
        status->phase = "Failed";
        status->reason = in->failed_reason;
        status->message = in->failed_message;
    } else if (in->old && phase_terminal(in->old->phase)) {
        status->reason = in->old->reason;
        status->message = in->old->message;
    }
    status->qos_class = kubelet_qos_class(in->pod);
    status->start_time = in->old && in->old->start_time.set ? in->old->start_time : KP_TIME_OF(in->start_s);
    if (in->pod->metadata->has_generation)
        KP_SET(status, observed_generation, in->pod->metadata->generation);
    set_addresses(in, status, arena);
    kubelet_make_conditions(in, status, arena);
    return status;
}
