/* One pass over a living pod: admission, volumes, sandbox, containers, status. */
#include <errno.h>
#include <unistd.h>

#include "nodeimage/kubelet/pod_worker_internal.h"
#include "nodeimage/kubelet/volumes/volumes.h"

#define RUNTIME_RETRY_MS 1000
#define START_RETRY_MS 2000
#define VOLUME_RETRY_MS 1000
#define VOLUME_WAIT_MS 300            /* for an attachment */
#define VOLUME_WAIT_LONG_MS 3000      /* the same, once it takes longer than VOLUME_SOON_MS */
#define VOLUME_SOON_MS 10000
#define VOLUME_TELL_MS 123000         /* upstream's podAttachAndMountTimeout is two minutes and three seconds */
#define VOLUME_RETRY_MS_MAX 122000    /* as upstream's exponential back-off ends */
#define NETWORK_RETRY_MS 1000 /* a change of the network wakes all pods at once; this is the safety net */
#define VOLUME_REFRESH_MS 15000
#define VOLUME_REFRESH_AGE_MS 10000 /* objects got within that time are fresh enough for a refresh */

void kubelet_sync_again(struct kubelet_sync *sync, int64_t delay_ms)
{
    if (sync->again_ms < 0 || delay_ms < sync->again_ms)
        sync->again_ms = delay_ms;
}

void kubelet_sync_clear_failure(struct kubelet_worker *worker, const char *container)
{
    for (size_t i = 0; i < worker->n_failures; i++)
        if (kp_streq(worker->failures[i].container, container))
            worker->failures[i] = worker->failures[--worker->n_failures];
}

void kubelet_sync_fail(struct kubelet_worker *worker, const char *container, const char *reason, const char *message)
{
    kubelet_sync_clear_failure(worker, container);
    worker->failures = kp_realloc(worker->failures, (worker->n_failures + 1) * sizeof(*worker->failures));
    struct kubelet_start_failure *failure = &worker->failures[worker->n_failures++];
    snprintf(failure->container, sizeof(failure->container), "%s", container);
    snprintf(failure->reason, sizeof(failure->reason), "%s", reason);
    snprintf(failure->message, sizeof(failure->message), "%s", message ? message : "");
}

int kubelet_sync_reload(struct kubelet_sync *sync, struct kp_error *error)
{
    return kubelet_runtime_load(sync->kubelet, sync->worker->uid, sync->arena, &sync->rt, error);
}

/* The status before this one: our own last word, or what the API has (after a restart of the kubelet). */
static const struct k8s_pod_status *old_status(struct kubelet_sync *sync)
{
    struct k8s_pod_status *known = kubelet_statuses_get(sync->kubelet->statuses, sync->worker->uid, sync->arena);
    if (known)
        return known;
    const struct k8s_pod_status *status = sync->pod->data->status;
    return status && status->start_time.set ? status : NULL;
}

static struct k8s_pod_status *compute_status(struct kubelet_sync *sync, bool stopped)
{
    struct kubelet_worker *worker = sync->worker;
    struct kubelet_reason *reasons = KP_NEW_ARRAY(sync->arena, struct kubelet_reason, worker->n_failures + 1);
    for (size_t i = 0; i < worker->n_failures; i++)
        reasons[i] = (struct kubelet_reason){.container = kp_arena_strdup(sync->arena, worker->failures[i].container),
                                             .reason = kp_arena_strdup(sync->arena, worker->failures[i].reason),
                                             .message = kp_arena_strdup(sync->arena, worker->failures[i].message)};
    struct kubelet_probe_view probes = kubelet_probes_view(sync->kubelet->probes);
    struct kubelet_status_input in = {
        .pod = sync->pod->data,
        .old = old_status(sync),
        .rt = &sync->rt,
        .probes = &probes,
        .reasons = reasons,
        .n_reasons = worker->n_failures,
        .failed_reason = *worker->fail_reason ? worker->fail_reason : NULL,
        .failed_message = worker->fail_message,
        .rejected = *worker->fail_reason && !worker->admitted,
        .stopped = stopped,
        .now_s = kp_now_s(),
        .start_s = worker->first_seen_s,
    };
    in.n_host_ips = kubelet_node_addresses(sync->kubelet, &in.host_ips);
    return kubelet_make_status(&in, sync->arena);
}

void kubelet_sync_status(struct kubelet_sync *sync, bool stopped)
{
    kubelet_statuses_set(sync->kubelet->statuses, sync->pod, compute_status(sync, stopped));
}

static bool fail_pod(struct kubelet_sync *sync, const char *reason, const char *message)
{
    struct kubelet_worker *worker = sync->worker;
    snprintf(worker->fail_reason, sizeof(worker->fail_reason), "%s", reason);
    snprintf(worker->fail_message, sizeof(worker->fail_message), "%s", message);
    kubelet_event(sync->kubelet, sync->pod, NULL, "Warning", reason, "%s", message);
    return true;
}

static bool phase_terminal(const char *phase)
{
    return kp_streq(phase, "Succeeded") || kp_streq(phase, "Failed");
}

/* Decides once whether the node takes the pod; false: it does not. One pod at a time, so that two do not take one place. */
static bool admit(struct kubelet_sync *sync)
{
    static pthread_mutex_t admission_lock = PTHREAD_MUTEX_INITIALIZER;
    struct kubelet *kubelet = sync->kubelet;
    struct kp_string_map allocatable, others, labels;
    kubelet_node_allocatable(kubelet, sync->arena, &allocatable);
    kubelet_node_labels(kubelet, sync->arena, &labels);
    pthread_mutex_lock(&admission_lock);
    size_t n = kubelet_workers_requests(kubelet->workers, sync->worker->uid, sync->arena, &others);
    struct kubelet_admission verdict = {.ok = true};
    if (sync->rt.n_sandboxes == 0) /* a pod that was here before us stays */
        kubelet_admit(sync->pod->data, &allocatable, &others, n, kubelet->client ? &labels : NULL, sync->arena, &verdict);
    bool pressure[EVICTION_PRESSURES];
    kubelet_evictions_pressure(kubelet, pressure);
    const char *refused = verdict.ok && sync->rt.n_sandboxes == 0 ? eviction_refuses(pressure, sync->pod->data, sync->arena) : NULL;
    if (refused)
        verdict = (struct kubelet_admission){.reason = "Evicted", .message = refused};
    sync->worker->admitted = verdict.ok;
    pthread_mutex_unlock(&admission_lock);
    if (!verdict.ok)
        fail_pod(sync, verdict.reason, verdict.message);
    return verdict.ok;
}

/* False when the pod has lived longer than it may. */
static bool within_deadline(struct kubelet_sync *sync)
{
    const struct k8s_pod_spec *spec = sync->pod->data->spec;
    const struct k8s_pod_status *old = old_status(sync);
    if (!spec->has_active_deadline_seconds || !old || !old->start_time.set)
        return true;
    int64_t left_s = old->start_time.seconds + spec->active_deadline_seconds - kp_now_s();
    if (left_s > 0) {
        kubelet_sync_again(sync, left_s * 1000);
        return true;
    }
    fail_pod(sync, "DeadlineExceeded", "Pod was active on the node longer than the specified deadline");
    return false;
}

void kubelet_sync_volumes_context(struct kubelet_sync *sync, int64_t age_ms_max, void *ret_context)
{
    struct volumes_context *context = ret_context;
    struct kp_string_map *allocatable = KP_NEW(sync->arena, struct kp_string_map);
    kubelet_node_allocatable(sync->kubelet, sync->arena, allocatable);
    struct kubelet_worker *worker = sync->worker;
    bool claims = volumes_any_claimed(sync->pod->data);
    if (claims && !worker->mounts)
        worker->mounts = kp_strmap_new();
    *context = (struct volumes_context){
        .mounts = worker->mounts,
        .csi = sync->kubelet->csi,
        .node = claims ? kubelet_node_object(sync->kubelet, sync->arena) : NULL,
        .resumed = sync->rt.n_sandboxes > 0,
        .root_dir = sync->kubelet->config.root_dir,
        .getter = kubelet_objects_getter(sync->kubelet->objects, sync->arena, age_ms_max),
        .allocatable = allocatable,
        .arena = sync->arena,
    };
}

static int make_dirs(struct kubelet_sync *sync, struct kp_error *error)
{
    if (sync->worker->dirs_ready)
        return 0;
    const char *dir = volumes_pod_dir(sync->kubelet->config.root_dir, sync->worker->uid, sync->arena);
    int rc = kp_mkdir_p(dir, 0750, error);
    if (rc == 0)
        rc = kp_mkdir_p(kubelet_pod_log_dir(sync->pod->data, sync->arena), 0755, error);
    sync->worker->dirs_ready = rc == 0;
    return rc;
}

/* Content of the API's is tried again soon; what a driver or a disk refused once, it may refuse for long. */
int64_t kubelet_worker_volume_retry_ms(struct kubelet_worker *worker)
{
    int doublings = worker->mounts || worker->state >= KUBELET_TERMINATING ? worker->mount_failures++ / 4 : 0;
    return KP_MIN((int64_t)VOLUME_RETRY_MS << KP_MIN(doublings, 10), VOLUME_RETRY_MS_MAX);
}

/* For an attachment: looked at often at first; who waits long is told of as by upstream. */
static void wait_for_volume(struct kubelet_sync *sync, int64_t now_ms, const struct kp_error *error)
{
    struct kubelet_worker *worker = sync->worker;
    if (!worker->volume_wait_ms)
        worker->volume_wait_ms = worker->volume_told_ms = now_ms;
    if (now_ms - worker->volume_told_ms >= VOLUME_TELL_MS) {
        worker->volume_told_ms = now_ms;
        kubelet_event(sync->kubelet, sync->pod, NULL, "Warning", "FailedMount", "Unable to attach or mount volumes: %s: timed out waiting for the condition",
                      error->message);
    }
    kp_debug("waiting for a volume", "pod", worker->name, "namespace", worker->ns, "volume", error->message, NULL);
    kubelet_sync_again(sync, now_ms - worker->volume_wait_ms < VOLUME_SOON_MS ? VOLUME_WAIT_MS : VOLUME_WAIT_LONG_MS);
}

/* False when the volumes are not there yet. */
static bool volumes(struct kubelet_sync *sync)
{
    struct kubelet_worker *worker = sync->worker;
    struct kp_error error = {0};
    int64_t now_ms = kp_mono_ms();
    bool refreshable = volumes_refreshable(sync->pod->data, worker->mounts);
    if (worker->volumes_ready && (!refreshable || now_ms - worker->refreshed_ms < VOLUME_REFRESH_MS)) {
        if (refreshable)
            kubelet_sync_again(sync, worker->refreshed_ms + VOLUME_REFRESH_MS - now_ms);
        return true;
    }
    struct volumes_context context;
    kubelet_sync_volumes_context(sync, worker->volumes_ready ? VOLUME_REFRESH_AGE_MS : 0, &context);
    int rc = make_dirs(sync, &error);
    if (rc == 0)
        rc = volumes_setup(&context, sync->pod->data, NULL, &error);
    worker->refreshed_ms = now_ms;
    if (rc == 0) {
        worker->volumes_ready = true;
        worker->mount_failures = 0;
        worker->volume_wait_ms = worker->volume_told_ms = 0;
        if (volumes_refreshable(sync->pod->data, worker->mounts))
            kubelet_sync_again(sync, VOLUME_REFRESH_MS);
        return true;
    }
    if (rc == KP_EAGAIN) {
        wait_for_volume(sync, now_ms, &error);
        return worker->volumes_ready;
    }
    kubelet_event(sync->kubelet, sync->pod, NULL, "Warning", "FailedMount", "%s", error.message);
    kp_warn("volumes are not ready", "pod", worker->name, "namespace", worker->ns, "error", error.message, NULL);
    kubelet_sync_again(sync, kubelet_worker_volume_retry_ms(worker));
    return worker->volumes_ready; /* a refresh that failed leaves what was there */
}

int kubelet_sync_sandbox_config(struct kubelet_sync *sync, uint32_t attempt, struct cri_sandbox_config *ret,
                                struct kp_error *error)
{
    struct kubelet *kubelet = sync->kubelet;
    const char *domain, *handler = "";
    if (sync->pod->data->spec->runtime_class_name && *sync->pod->data->spec->runtime_class_name) {
        void *class = NULL;
        if (!kubelet->client)
            return kp_fail(error, KP_EINVALID, "a runtime class needs an API server");
        int rc = client_get(kubelet->client, &k8s_runtimeclasses_resource, NULL, sync->pod->data->spec->runtime_class_name,
                            sync->arena, &class, error);
        if (rc < 0)
            return kp_wrap(error, "get runtime class %s", sync->pod->data->spec->runtime_class_name);
        handler = ((struct k8s_runtime_class *)class)->handler;
    }
    struct kubelet_dns_input dns = {.cluster_servers = kubelet->config.cluster_dns,
                                    .n_cluster_servers = kubelet->config.n_cluster_dns,
                                    .cluster_domain = kubelet->config.cluster_domain,
                                    .node = &kubelet->node_dns};
    const char *hostname = kubelet_pod_hostname(sync->pod->data, kubelet->config.cluster_domain, sync->arena, &domain);
    kubelet_sandbox_config(sync->pod->data, attempt, &dns, hostname, handler, kubelet->memory_bytes, sync->arena, ret);
    return 0;
}

/* Makes the sandbox and learns its addresses. */
static int create_sandbox(struct kubelet_sync *sync, uint32_t attempt, struct cri_sandbox *ret, struct kp_error *error)
{
    struct cri_sandbox_config config;
    const char *id;
    int rc = kubelet_sync_sandbox_config(sync, attempt, &config, error);
    if (rc == 0)
        rc = cri_run_sandbox(sync->kubelet->cri, &config, sync->arena, &id, error);
    if (rc == 0)
        rc = cri_sandbox_status(sync->kubelet->cri, id, sync->arena, ret, error);
    return rc;
}

static int64_t now_ms(void)
{
    return kp_now_ns() / 1000000;
}

/* True when the container must wait; notes why and when to look again. */
static bool in_backoff(struct kubelet_sync *sync, const struct kubelet_start *start)
{
    struct kubelet *kubelet = sync->kubelet;
    const struct cri_container *previous = start->previous;
    if (!previous || previous->state != CRI_EXITED)
        return false;
    const char *name = start->spec.container->name;
    const char *key = kp_arena_printf(sync->arena, "%s/%s/%016llx", sync->worker->uid, name,
                                      (unsigned long long)kubelet_container_hash(start->spec.container));
    int64_t ended_ms = previous->finished_ns / 1000000;
    int64_t wait_ms = kubelet_backoff_remaining_ms(kubelet->restart_backoff, key, ended_ms, now_ms());
    if (wait_ms <= 0) {
        kubelet_backoff_next(kubelet->restart_backoff, key, ended_ms, now_ms());
        return false;
    }
    const char *pod = kp_arena_printf(sync->arena, "%s_%s(%s)", sync->worker->name, sync->worker->ns, sync->worker->uid);
    int64_t delay_s = kubelet_backoff_current_ms(kubelet->restart_backoff, key) / 1000;
    const char *delay = delay_s >= 60 ? kp_arena_printf(sync->arena, "%lldm%llds", (long long)(delay_s / 60), (long long)(delay_s % 60))
                                      : kp_arena_printf(sync->arena, "%llds", (long long)delay_s);
    kubelet_sync_fail(sync->worker, name, "CrashLoopBackOff",
                      kp_arena_printf(sync->arena, "back-off %s restarting failed container=%s pod=%s", delay, name, pod));
    kubelet_event(kubelet, sync->pod, name, "Warning", "BackOff", "Back-off restarting failed container %s in pod %s", name, pod);
    kubelet_sync_again(sync, wait_ms);
    return true;
}

static void start_all(struct kubelet_sync *sync, const struct kubelet_actions *actions, const struct cri_sandbox *sandbox)
{
    for (size_t i = 0; i < actions->n_starts; i++) {
        const struct kubelet_start *start = &actions->starts[i];
        struct kp_error error = {0};
        if (in_backoff(sync, start)) {
            if (start->spec.kind == KUBELET_INIT && !start->spec.sidecar)
                return;
            continue;
        }
        if (kubelet_container_start(sync, start, sandbox, &error) == 0) {
            kubelet_sync_clear_failure(sync->worker, start->spec.container->name);
            continue;
        }
        kp_warn("container does not start", "container", start->spec.container->name, "pod", sync->worker->name, "namespace",
                sync->worker->ns, "error", error.message, NULL);
        kubelet_sync_again(sync, START_RETRY_MS);
        if (start->spec.kind == KUBELET_INIT)
            return; /* those that follow need it */
    }
}

static const char *sandbox_ip(const struct kubelet_runtime *rt)
{
    return rt->n_sandboxes > 0 && rt->sandboxes[0].n_ips > 0 ? rt->sandboxes[0].ips[0] : NULL;
}

/* The grace of a container that failed a probe: the probe's own, when it has one. */
static int64_t kill_grace_s(const struct kubelet_sync *sync, const struct kubelet_kill *kill)
{
    const struct k8s_probe *probe = !kill->spec     ? NULL
                                    : kill->liveness ? kill->spec->liveness_probe
                                    : kill->startup  ? kill->spec->startup_probe
                                                     : NULL;
    if (probe && probe->has_termination_grace_period_seconds)
        return probe->termination_grace_period_seconds;
    return kubelet_grace_period_s(sync->pod->data);
}

static int kill_what_must_go(struct kubelet_sync *sync, const struct kubelet_actions *actions, struct kp_error *error)
{
    if (actions->kill_pod)
        return kubelet_pod_kill(sync, kubelet_grace_period_s(sync->pod->data), error);
    for (size_t i = 0; i < actions->n_kills; i++)
        kubelet_container_kill(sync->kubelet, sync->pod, actions->kills[i].spec, actions->kills[i].container,
                               actions->kills[i].message, kill_grace_s(sync, &actions->kills[i]), sandbox_ip(&sync->rt));
    return 0;
}

static int execute(struct kubelet_sync *sync, struct kubelet_actions *actions, struct kp_error *error)
{
    struct cri_sandbox sandbox = {0};
    kubelet_pleg_kick(sync->kubelet);
    int rc = kill_what_must_go(sync, actions, error);
    if (rc < 0 || actions->n_starts == 0)
        return rc;
    if (actions->create_sandbox) {
        rc = create_sandbox(sync, actions->attempt, &sandbox, error);
        if (rc < 0) {
            kubelet_event(sync->kubelet, sync->pod, NULL, "Warning", "FailedCreatePodSandBox", "Failed to create pod sandbox: %s",
                          error->message);
            return rc;
        }
    } else {
        sandbox = sync->rt.sandboxes[0];
    }
    if (actions->n_kills > 0) {
        /* What was killed is the previous container of what starts now: its end decides on the back-off. */
        rc = kubelet_sync_reload(sync, error);
        if (rc < 0)
            return rc;
        for (size_t i = 0; i < actions->n_starts; i++)
            actions->starts[i].previous = kubelet_runtime_find(&sync->rt, actions->starts[i].spec.container->name, NULL);
    }
    start_all(sync, actions, &sandbox);
    return 0;
}

static void unlink_log(const char *path)
{
    if (unlink(path) < 0 && errno != ENOENT)
        kp_warn("removing a log failed", "path", path, "error", strerror(errno), NULL);
}

/* Dead containers pile up with restarts: of each name the newest and the one before stay. */
static void remove_old_containers(struct kubelet_sync *sync)
{
    for (size_t i = 0; i < sync->rt.n_containers; i++) {
        const struct cri_container *c = &sync->rt.containers[i];
        size_t newer = 0;
        for (size_t j = 0; j < i; j++)
            newer += kp_streq(sync->rt.containers[j].name, c->name);
        struct kp_error error = {0};
        if (newer >= 2 && c->state != CRI_RUNNING && cri_remove_container(sync->kubelet->cri, c->id, &error) < 0)
            kp_warn("removing a dead container failed", "container", c->name, "error", error.message, NULL);
        else if (newer >= 2 && c->state != CRI_RUNNING && !kp_empty(c->log_path))
            unlink_log(c->log_path);
    }
}

static bool network_missing(struct kubelet_sync *sync)
{
    if (sync->pod->data->spec->host_network || __atomic_load_n(&sync->kubelet->network_ready, __ATOMIC_ACQUIRE))
        return false;
    kubelet_event(sync->kubelet, sync->pod, NULL, "Warning", "NetworkNotReady",
                  "network is not ready: container runtime network not ready: NetworkReady=false");
    kubelet_sync_again(sync, NETWORK_RETRY_MS);
    return true;
}

bool kubelet_pod_sync(struct kubelet_sync *sync)
{
    struct kp_error error = {0};
    const struct k8s_pod_status *api = sync->pod->data->status;
    if (api && phase_terminal(api->phase) && !sync->pod->is_static)
        return true;
    if (kubelet_sync_reload(sync, &error) < 0) {
        kp_warn("reading the pod's state from the runtime failed", "pod", sync->worker->name, "error", error.message, NULL);
        kubelet_sync_again(sync, RUNTIME_RETRY_MS);
        return false;
    }
    if (!sync->worker->admitted && !admit(sync))
        return true;
    if (!within_deadline(sync))
        return true;
    struct kubelet_probe_view probes = kubelet_probes_view(sync->kubelet->probes);
    struct kubelet_actions *actions = kubelet_compute_actions(sync->pod->data, &sync->rt, &probes, sync->arena);
    struct k8s_pod_status *status = compute_status(sync, false);
    kubelet_statuses_set(sync->kubelet->statuses, sync->pod, status);
    if (phase_terminal(status->phase))
        return true;
    if (sync->pod->is_static)
        kubelet_mirror_ensure(sync->kubelet, sync->pod);
    if (network_missing(sync) || !volumes(sync))
        return false;
    if (!kubelet_actions_empty(actions)) {
        if (execute(sync, actions, &error) < 0) {
            kp_warn("bringing the pod to its spec failed", "pod", sync->worker->name, "namespace", sync->worker->ns, "error",
                    error.message, NULL);
            kubelet_sync_again(sync, START_RETRY_MS);
        }
        if (kubelet_sync_reload(sync, &error) < 0) {
            kubelet_sync_again(sync, RUNTIME_RETRY_MS);
            return false;
        }
        remove_old_containers(sync);
    }
    kubelet_probes_sync(sync->kubelet->probes, sync->pod, &sync->rt);
    status = compute_status(sync, false);
    kubelet_statuses_set(sync->kubelet->statuses, sync->pod, status);
    return phase_terminal(status->phase);
}
