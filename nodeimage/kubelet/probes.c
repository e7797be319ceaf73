/* The prober: one thread that knows when which probe is due, a pool that runs them. */
#include "nodeimage/kubelet/probe_internal.h"
#include "nodeimage/kubelet/kubelet_internal.h"

#define PROBE_QUEUE_MAX 10000
#define SWEEP_IDLE_MS 60000

struct probe {
    struct kubelet_probes *owner;
    struct kubelet_pod *pod; /* keeps spec and container alive */
    const struct k8s_probe *spec;
    const struct k8s_container *container;
    char *container_id, *pod_ip;
    struct kubelet_probe_core core;
    int64_t due_ms; /* monotonic */
    int refs;       /* under the lock: the map's and that of a run */
    bool running, stopped;
};

struct kubelet_probes {
    struct kubelet *kubelet;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct kp_strmap *by_key; /* "<container id>/<kind>" */
    struct pool *pool;
};

static const char *const kind_names[] = {
    [KUBELET_LIVENESS] = "Liveness", [KUBELET_READINESS] = "Readiness", [KUBELET_STARTUP] = "Startup"};

static void make_key(char out[160], const char *container_id, enum kubelet_probe_kind kind)
{
    snprintf(out, 160, "%.140s/%d", container_id, (int)kind);
}

static void probe_unref(struct probe *probe)
{
    if (--probe->refs > 0)
        return;
    kubelet_pod_unref(probe->pod);
    free(probe->container_id);
    free(probe->pod_ip);
    free(probe);
}

static enum kubelet_probe_result get_locked(struct kubelet_probes *probes, const char *container_id, enum kubelet_probe_kind kind)
{
    char key[160];
    make_key(key, container_id, kind);
    const struct probe *probe = kp_strmap_get(probes->by_key, key);
    return probe ? probe->core.result : KUBELET_PROBE_UNKNOWN;
}

static enum kubelet_probe_result get(void *arg, const char *container_id, enum kubelet_probe_kind kind)
{
    struct kubelet_probes *probes = arg;
    pthread_mutex_lock(&probes->lock);
    enum kubelet_probe_result result = get_locked(probes, container_id, kind);
    pthread_mutex_unlock(&probes->lock);
    return result;
}

struct kubelet_probe_view kubelet_probes_view(struct kubelet_probes *probes)
{
    return (struct kubelet_probe_view){.get = get, .arg = probes};
}

static bool try_once(struct probe *probe, struct kp_error *error)
{
    const struct k8s_probe *spec = probe->spec;
    struct kubelet_handler handler = {
        .exec = spec->exec, .http_get = spec->http_get, .tcp_socket = spec->tcp_socket, .grpc = spec->grpc};
    return kubelet_handler_run(probe->owner->kubelet, &handler, probe->container, probe->container_id, probe->pod_ip,
                                       probe->core.timeout_ms, NULL, error) == 0;
}

static void run(void *arg)
{
    struct probe *probe = arg;
    struct kubelet_probes *probes = probe->owner;
    struct kp_error error = {0};
    bool success = try_once(probe, &error);
    pthread_mutex_lock(&probes->lock);
    bool report = !probe->stopped;
    bool changed = report && kubelet_probe_count(&probe->core, success);
    probe->running = false;
    probe->due_ms = kp_mono_ms() + probe->core.period_ms;
    pthread_cond_signal(&probes->changed);
    pthread_mutex_unlock(&probes->lock);
    if (report && !success)
        kubelet_event(probes->kubelet, probe->pod, probe->container->name, "Warning", "Unhealthy", "%s probe failed: %s",
                      kind_names[probe->core.kind], error.message);
    if (changed)
        kubelet_workers_wake(probes->kubelet->workers, probe->pod->uid);
    pthread_mutex_lock(&probes->lock);
    probe_unref(probe);
    pthread_mutex_unlock(&probes->lock);
}

/* Liveness and readiness wait until the startup probe of the container has succeeded. */
static bool held_back(struct kubelet_probes *probes, const struct probe *probe)
{
    return probe->core.kind != KUBELET_STARTUP && probe->container->startup_probe &&
           get_locked(probes, probe->container_id, KUBELET_STARTUP) != KUBELET_PROBE_SUCCESS;
}

/* Starts what is due; gives when the next one is. */
static int64_t start_due(struct kubelet_probes *probes, int64_t now_ms)
{
    int64_t next_ms = now_ms + SWEEP_IDLE_MS;
    size_t iter = 0;
    void *value;
    while (kp_strmap_next(probes->by_key, &iter, NULL, &value)) {
        struct probe *probe = value;
        if (probe->running || probe->stopped || probe->core.settled || held_back(probes, probe))
            continue;
        if (probe->due_ms > now_ms) {
            next_ms = KP_MIN(next_ms, probe->due_ms);
            continue;
        }
        probe->running = true;
        probe->refs++;
        if (pool_submit(probes->pool, run, probe) < 0) {
            probe->running = false;
            probe->refs--;
            probe->due_ms = now_ms + probe->core.period_ms;
        }
    }
    return next_ms;
}

static void *schedule(void *arg)
{
    struct kubelet_probes *probes = arg;
    pthread_mutex_lock(&probes->lock);
    for (;;) {
        int64_t next_ms = start_due(probes, kp_mono_ms());
        struct timespec until = {.tv_sec = next_ms / 1000, .tv_nsec = next_ms % 1000 * 1000000};
        pthread_cond_timedwait(&probes->changed, &probes->lock, &until);
    }
    return NULL;
}

struct kubelet_probes *kubelet_probes_new(struct kubelet *kubelet)
{
    struct kubelet_probes *probes = kp_calloc(1, sizeof(*probes));
    probes->kubelet = kubelet;
    pthread_mutex_init(&probes->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&probes->changed, &attr);
    pthread_condattr_destroy(&attr);
    probes->by_key = kp_strmap_new();
    probes->pool = pool_new("probe", KUBELET_PROBE_THREADS_MAX, PROBE_QUEUE_MAX);
    kubelet_thread("prober", schedule, probes);
    return probes;
}

void kubelet_probes_free(struct kubelet_probes *probes)
{
    if (probes)
        pool_free(probes->pool);
}

static const struct k8s_probe *spec_of(const struct k8s_container *container, enum kubelet_probe_kind kind)
{
    return kind == KUBELET_LIVENESS    ? container->liveness_probe
           : kind == KUBELET_READINESS ? container->readiness_probe
                                       : container->startup_probe;
}

/* What the API knows of the same container from before a restart of the kubelet, so that it does not flap. */
static void take_over(struct probe *probe, const struct k8s_pod *pod, const struct cri_container *c, int64_t kubelet_started_s)
{
    if (!pod->status || c->started_ns / 1000000000 >= kubelet_started_s)
        return;
    for (size_t i = 0; i < pod->status->container_statuses.len; i++) {
        const struct k8s_container_status *s = &pod->status->container_statuses.items[i];
        if (!s->container_id || !kp_ends_with(s->container_id, c->id))
            continue;
        if (probe->core.kind == KUBELET_READINESS && s->has_ready && s->ready)
            probe->core.result = KUBELET_PROBE_SUCCESS;
        if (probe->core.kind == KUBELET_STARTUP && s->has_started && s->started) {
            probe->core.result = KUBELET_PROBE_SUCCESS;
            probe->core.settled = true;
        }
    }
}

static void add(struct kubelet_probes *probes, struct kubelet_pod *pod, const struct k8s_container *container,
                const struct cri_container *c, const char *pod_ip, enum kubelet_probe_kind kind)
{
    const struct k8s_probe *spec = spec_of(container, kind);
    char key[160];
    make_key(key, c->id, kind);
    if (!spec || kp_strmap_get(probes->by_key, key))
        return;
    struct probe *probe = kp_calloc(1, sizeof(*probe));
    *probe = (struct probe){.owner = probes, .pod = kubelet_pod_ref(pod), .spec = spec, .container = container, .refs = 1};
    probe->container_id = kp_strdup(c->id);
    probe->pod_ip = kp_strdup(pod_ip);
    kubelet_probe_init(&probe->core, kind, spec);
    take_over(probe, pod->data, c, probes->kubelet->started_s);
    int64_t age_ms = (kp_now_ns() - c->started_ns) / 1000000;
    probe->due_ms = kp_mono_ms() + KP_MAX(probe->core.initial_delay_ms - KP_MAX(age_ms, 0), 0);
    kp_strmap_put(probes->by_key, key, probe);
}

/* Drops the probes of the pod's containers that do not run any more (all of them when rt is NULL). */
static void drop_dead(struct kubelet_probes *probes, const char *uid, const struct kubelet_runtime *rt)
{
    size_t iter = 0;
    const char *key;
    void *value;
    while (kp_strmap_next(probes->by_key, &iter, &key, &value)) {
        struct probe *probe = value;
        if (!kp_streq(probe->pod->uid, uid))
            continue;
        bool alive = false;
        for (size_t i = 0; rt && i < rt->n_containers; i++)
            alive = alive || (rt->containers[i].state == CRI_RUNNING && kp_streq(rt->containers[i].id, probe->container_id));
        if (alive)
            continue;
        probe->stopped = true;
        kp_strmap_remove(probes->by_key, key);
        probe_unref(probe);
    }
}

void kubelet_probes_sync(struct kubelet_probes *probes, struct kubelet_pod *pod, const struct kubelet_runtime *rt)
{
    const struct k8s_pod_spec *spec = pod->data->spec;
    const char *const *host_ips;
    size_t n_host_ips = kubelet_node_addresses(probes->kubelet, &host_ips);
    const char *ip = spec->host_network ? (n_host_ips > 0 ? host_ips[0] : NULL)
                     : rt->n_sandboxes > 0 && rt->sandboxes[0].n_ips > 0 ? rt->sandboxes[0].ips[0]
                                                                         : NULL;
    pthread_mutex_lock(&probes->lock);
    drop_dead(probes, pod->uid, rt);
    for (size_t i = 0; i < rt->n_containers; i++) {
        const struct cri_container *c = &rt->containers[i];
        const struct k8s_container *container = NULL;
        for (size_t j = 0; j < spec->containers.len && !container; j++)
            if (kp_streq(spec->containers.items[j].name, c->name))
                container = &spec->containers.items[j];
        for (size_t j = 0; j < spec->init_containers.len && !container; j++)
            if (kp_streq(spec->init_containers.items[j].name, c->name) &&
                kp_streq(spec->init_containers.items[j].restart_policy, "Always"))
                container = &spec->init_containers.items[j];
        if (!container || c->state != CRI_RUNNING)
            continue;
        add(probes, pod, container, c, ip, KUBELET_STARTUP);
        add(probes, pod, container, c, ip, KUBELET_LIVENESS);
        add(probes, pod, container, c, ip, KUBELET_READINESS);
    }
    pthread_cond_signal(&probes->changed);
    pthread_mutex_unlock(&probes->lock);
}

void kubelet_probes_stop(struct kubelet_probes *probes, const char *uid)
{
    size_t iter = 0;
    void *value;
    pthread_mutex_lock(&probes->lock);
    while (kp_strmap_next(probes->by_key, &iter, NULL, &value)) {
        struct probe *probe = value;
        if (kp_streq(probe->pod->uid, uid))
            probe->stopped = true;
    }
    pthread_mutex_unlock(&probes->lock);
}

void kubelet_probes_forget(struct kubelet_probes *probes, const char *uid)
{
    pthread_mutex_lock(&probes->lock);
    drop_dead(probes, uid, NULL);
    pthread_mutex_unlock(&probes->lock);
}
