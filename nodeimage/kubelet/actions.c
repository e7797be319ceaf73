/* The decision what to kill, make and start so that the runtime has what the pod's spec wants. Pure. */
#include "nodeimage/kubelet/pod_internal.h"

const struct cri_container *kubelet_runtime_find(const struct kubelet_runtime *rt, const char *name, const char *sandbox_id)
{
    for (size_t i = 0; i < rt->n_containers; i++) {
        const struct cri_container *c = &rt->containers[i];
        if (kp_streq(c->name, name) && (!sandbox_id || kp_streq(c->sandbox_id, sandbox_id)))
            return c;
    }
    return NULL;
}

const struct cri_container *kubelet_runtime_previous(const struct kubelet_runtime *rt, const char *name,
                                                     const struct cri_container *skip)
{
    for (size_t i = 0; i < rt->n_containers; i++) {
        const struct cri_container *c = &rt->containers[i];
        if (c != skip && c->state == CRI_EXITED && kp_streq(c->name, name))
            return c;
    }
    return NULL;
}

const struct cri_sandbox *kubelet_runtime_sandbox(const struct kubelet_runtime *rt)
{
    return rt->n_sandboxes > 0 && rt->sandboxes[0].ready ? &rt->sandboxes[0] : NULL;
}

static bool policy_is(const struct k8s_pod *pod, const char *policy)
{
    const char *have = pod->spec->restart_policy;
    return kp_streq(kp_empty(have) ? "Always" : have, policy);
}

bool kubelet_should_restart(const struct k8s_pod *pod, const struct kubelet_spec_container *spec,
                            const struct cri_container *latest)
{
    if (pod->metadata->deletion_timestamp.set)
        return false;
    if (!latest)
        return true;
    if (latest->state == CRI_RUNNING)
        return false;
    if (latest->state != CRI_EXITED || spec->sidecar)
        return true; /* made but never started, or of unknown fate */
    const char *own = spec->container->restart_policy;
    if (spec->kind == KUBELET_INIT)
        return latest->exit_code != 0 && !(own ? kp_streq(own, "Never") : policy_is(pod, "Never"));
    if (own ? kp_streq(own, "Never") : policy_is(pod, "Never"))
        return false;
    return !(own ? kp_streq(own, "OnFailure") : policy_is(pod, "OnFailure")) || latest->exit_code != 0;
}

struct compute {
    const struct k8s_pod *pod;
    const struct kubelet_runtime *rt;
    const struct kubelet_probe_view *probes;
    struct kp_arena *arena;
    struct kubelet_spec_container *specs;
    size_t n_specs;
    struct kubelet_actions *out;
};

static void add_start(struct compute *c, const struct kubelet_spec_container *spec, const struct cri_container *previous)
{
    c->out->starts[c->out->n_starts++] = (struct kubelet_start){.spec = *spec, .previous = previous};
}

static void add_kill(struct compute *c, const struct cri_container *container, const struct k8s_container *spec,
                     const char *message, bool liveness, bool startup)
{
    c->out->kills[c->out->n_kills++] = (struct kubelet_kill){
        .container = container, .spec = spec, .message = message, .liveness = liveness, .startup = startup};
}

static enum kubelet_probe_result probe(const struct compute *c, const struct cri_container *container,
                                       enum kubelet_probe_kind kind)
{
    return c->probes ? c->probes->get(c->probes->arg, container->id, kind) : KUBELET_PROBE_UNKNOWN;
}

/* Whether the pod needs another sandbox than it has. */
static bool sandbox_unfit(const struct compute *c, uint32_t *ret_attempt)
{
    const struct kubelet_runtime *rt = c->rt;
    *ret_attempt = 0;
    if (rt->n_sandboxes == 0)
        return true;
    *ret_attempt = rt->sandboxes[0].attempt + 1;
    size_t ready = 0;
    for (size_t i = 0; i < rt->n_sandboxes; i++)
        ready += rt->sandboxes[i].ready;
    if (ready > 1 || !rt->sandboxes[0].ready)
        return true;
    bool host_network = c->pod->spec->host_network;
    if (rt->sandboxes[0].host_network != host_network)
        return true;
    return !host_network && rt->sandboxes[0].n_ips == 0;
}

/* With no usable sandbox: is there anything left that wants to run? Fills in what starts first in the new one. */
static void plan_new_sandbox(struct compute *c)
{
    bool ran_before = false, any = false;
    for (size_t i = 0; i < c->n_specs; i++) {
        const struct kubelet_spec_container *spec = &c->specs[i];
        if (spec->kind != KUBELET_MAIN)
            continue;
        const struct cri_container *latest = kubelet_runtime_find(c->rt, spec->container->name, NULL);
        ran_before = ran_before || latest;
        /* A container that still counts as running lost its sandbox: it ends with it. */
        bool ended = latest && latest->state == CRI_RUNNING ? !policy_is(c->pod, "Never")
                                                            : kubelet_should_restart(c->pod, spec, latest);
        any = any || ended;
    }
    if (!any || (policy_is(c->pod, "Never") && c->out->attempt > 0 && ran_before)) {
        c->out->create_sandbox = false;
        return;
    }
    c->out->create_sandbox = true;
    for (size_t i = 0; i < c->n_specs; i++) {
        const struct kubelet_spec_container *spec = &c->specs[i];
        if (spec->kind == KUBELET_EPHEMERAL)
            continue;
        const struct cri_container *latest = kubelet_runtime_find(c->rt, spec->container->name, NULL);
        if (spec->kind == KUBELET_INIT) {
            add_start(c, spec, latest);
            return; /* the others follow it */
        }
        if ((latest && latest->state == CRI_RUNNING) || kubelet_should_restart(c->pod, spec, latest))
            add_start(c, spec, latest);
    }
}

/* True when a running container must go: changed, or failed its liveness or startup probe. */
static bool must_replace(struct compute *c, const struct kubelet_spec_container *spec, const struct cri_container *latest,
                         bool *ret_restart)
{
    const char *hash = cri_pairs_get(&latest->annotations, KUBELET_ANNOTATION_HASH);
    const char *name = spec->container->name;
    uint64_t now = kubelet_container_hash(spec->container);
    if (hash && strtoull(hash, NULL, 16) != now) {
        *ret_restart = true;
        add_kill(c, latest, spec->container,
                 kp_arena_printf(c->arena, "Container %s definition changed, will be restarted", name), false, false);
        return true;
    }
    *ret_restart = spec->sidecar || !policy_is(c->pod, "Never");
    const char *after = *ret_restart ? ", will be restarted" : "";
    if (probe(c, latest, KUBELET_LIVENESS) == KUBELET_PROBE_FAILURE) {
        add_kill(c, latest, spec->container, kp_arena_printf(c->arena, "Container %s failed liveness probe%s", name, after),
                 true, false);
        return true;
    }
    if (probe(c, latest, KUBELET_STARTUP) == KUBELET_PROBE_FAILURE) {
        add_kill(c, latest, spec->container, kp_arena_printf(c->arena, "Container %s failed startup probe%s", name, after),
                 false, true);
        return true;
    }
    return false;
}

/* Has any main container been made in this sandbox? Then initialisation is over for good. */
static bool initialized_before(const struct compute *c)
{
    for (size_t i = 0; i < c->n_specs; i++)
        if (c->specs[i].kind == KUBELET_MAIN && kubelet_runtime_find(c->rt, c->specs[i].container->name, c->out->sandbox_id))
            return true;
    return false;
}

enum init_result { INIT_DONE, INIT_WAIT, INIT_FAILED };

static enum init_result plan_sidecar(struct compute *c, const struct kubelet_spec_container *spec,
                                     const struct cri_container *latest, bool initialized)
{
    bool restart;
    if (!latest || latest->state != CRI_RUNNING) {
        add_start(c, spec, latest);
        return initialized ? INIT_DONE : INIT_WAIT;
    }
    if (must_replace(c, spec, latest, &restart)) {
        add_start(c, spec, latest);
        return initialized ? INIT_DONE : INIT_WAIT;
    }
    if (!initialized && spec->container->startup_probe && probe(c, latest, KUBELET_STARTUP) != KUBELET_PROBE_SUCCESS)
        return INIT_WAIT;
    return INIT_DONE;
}

static enum init_result plan_init(struct compute *c)
{
    bool initialized = initialized_before(c);
    for (size_t i = 0; i < c->n_specs && c->specs[i].kind == KUBELET_INIT; i++) {
        const struct kubelet_spec_container *spec = &c->specs[i];
        const struct cri_container *latest = kubelet_runtime_find(c->rt, spec->container->name, c->out->sandbox_id);
        if (spec->sidecar) {
            if (plan_sidecar(c, spec, latest, initialized) == INIT_WAIT)
                return INIT_WAIT;
            continue;
        }
        if (initialized || (latest && latest->state == CRI_EXITED && latest->exit_code == 0))
            continue;
        if (latest && latest->state == CRI_RUNNING)
            return INIT_WAIT;
        if (!kubelet_should_restart(c->pod, spec, latest))
            return INIT_FAILED;
        add_start(c, spec, latest);
        return INIT_WAIT;
    }
    return INIT_DONE;
}

/* Gives the number of main containers that run on or will run. */
static size_t plan_main(struct compute *c)
{
    size_t alive = 0;
    for (size_t i = 0; i < c->n_specs; i++) {
        const struct kubelet_spec_container *spec = &c->specs[i];
        if (spec->kind != KUBELET_MAIN)
            continue;
        const struct cri_container *latest = kubelet_runtime_find(c->rt, spec->container->name, NULL);
        if (!latest || latest->state != CRI_RUNNING) {
            if (kubelet_should_restart(c->pod, spec, latest)) {
                add_start(c, spec, latest);
                alive++;
            }
            continue;
        }
        bool restart = true;
        if (!must_replace(c, spec, latest, &restart)) {
            alive++;
        } else if (restart) {
            add_start(c, spec, latest);
            alive++;
        }
    }
    return alive;
}

static void plan_ephemeral(struct compute *c)
{
    for (size_t i = 0; i < c->n_specs; i++)
        if (c->specs[i].kind == KUBELET_EPHEMERAL && !kubelet_runtime_find(c->rt, c->specs[i].container->name, NULL))
            add_start(c, &c->specs[i], NULL);
}

struct kubelet_actions *kubelet_compute_actions(const struct k8s_pod *pod, const struct kubelet_runtime *rt,
                                                const struct kubelet_probe_view *probes, struct kp_arena *arena)
{
    struct compute c = {.pod = pod, .rt = rt, .probes = probes, .arena = arena};
    c.n_specs = kubelet_spec_containers(pod, arena, &c.specs);
    c.out = KP_NEW(arena, struct kubelet_actions);
    c.out->kills = KP_NEW_ARRAY(arena, struct kubelet_kill, c.n_specs + 1);
    c.out->starts = KP_NEW_ARRAY(arena, struct kubelet_start, c.n_specs + 1);
    if (sandbox_unfit(&c, &c.out->attempt)) {
        c.out->kill_pod = rt->n_sandboxes > 0 || rt->n_containers > 0;
        plan_new_sandbox(&c);
        return c.out;
    }
    c.out->sandbox_id = rt->sandboxes[0].id;
    plan_ephemeral(&c);
    enum init_result init = plan_init(&c);
    if (init == INIT_WAIT)
        return c.out;
    if (init == INIT_FAILED || plan_main(&c) == 0) {
        /* Nothing is left to run: sidecars and the sandbox end with the rest. */
        c.out->kill_pod = true;
        c.out->n_starts = 0;
        c.out->n_kills = 0;
    }
    return c.out;
}

bool kubelet_actions_empty(const struct kubelet_actions *actions)
{
    return !actions->kill_pod && !actions->create_sandbox && actions->n_kills == 0 && actions->n_starts == 0;
}
