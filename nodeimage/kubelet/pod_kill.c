/* Ending a pod: hooks, stopping its containers and sandbox, removing what it leaves. */
#include <dirent.h>
#include <errno.h>
#include <unistd.h>

#include "nodeimage/kubelet/pod_worker_internal.h"
#include "nodeimage/kubelet/volumes/volumes.h"

#define GRACE_AFTER_HOOK_MIN_S 2
#define KILL_RETRY_MS 1000
#define STACK_BYTES ((size_t)256 << 10)

/* Runs the preStop hook; gives the seconds it took. */
static int64_t pre_stop(struct kubelet *kubelet, struct kubelet_pod *pod, const struct k8s_container *spec,
                        const struct cri_container *container, int64_t grace_s, const char *pod_ip)
{
    const struct k8s_lifecycle_handler *hook = spec && spec->lifecycle ? spec->lifecycle->pre_stop : NULL;
    if (!hook || grace_s <= 0)
        return 0;
    int64_t start_ms = kp_mono_ms();
    if (hook->sleep) {
        kp_sleep_ms(KP_MIN(hook->sleep->seconds, grace_s) * 1000);
        return KP_MIN(hook->sleep->seconds, grace_s);
    }
    struct kubelet_handler handler = {.exec = hook->exec, .http_get = hook->http_get, .tcp_socket = hook->tcp_socket};
    struct kp_error error = {0};
    if (kubelet_handler_run(kubelet, &handler, spec, container->id, pod_ip, grace_s * 1000, NULL, &error) < 0)
        kubelet_event(kubelet, pod, spec->name, "Warning", "FailedPreStopHook", "PreStopHook failed: %s", error.message);
    return (kp_mono_ms() - start_ms + 999) / 1000;
}

void kubelet_container_kill(struct kubelet *kubelet, struct kubelet_pod *pod, const struct k8s_container *spec,
                            const struct cri_container *container, const char *message, int64_t grace_s, const char *pod_ip)
{
    if (message)
        kubelet_event(kubelet, pod, container->name, "Normal", "Killing", "%s", message);
    else
        kubelet_event(kubelet, pod, container->name, "Normal", "Killing", "Stopping container %s", container->name);
    int64_t used_s = pre_stop(kubelet, pod, spec, container, grace_s, pod_ip);
    int64_t left_s = grace_s - used_s;
    if (used_s > 0 && left_s < GRACE_AFTER_HOOK_MIN_S)
        left_s = GRACE_AFTER_HOOK_MIN_S;
    struct kp_error error = {0};
    int rc = cri_stop_container(kubelet->cri, container->id, left_s, &error);
    if (rc < 0 && rc != KP_ENOTFOUND)
        kp_warn("stopping a container failed", "container", container->name, "pod", pod->name, "error", error.message, NULL);
}

struct kill_job {
    struct kubelet *kubelet;
    struct kubelet_pod *pod;
    const struct k8s_container *spec;
    const struct cri_container *container;
    int64_t grace_s;
    const char *pod_ip;
    pthread_t thread;
    bool started;
};

static void *kill_run(void *arg)
{
    struct kill_job *job = arg;
    kubelet_container_kill(job->kubelet, job->pod, job->spec, job->container, NULL, job->grace_s, job->pod_ip);
    return NULL;
}

static void kill_together(struct kill_job *jobs, size_t n)
{
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    for (size_t i = 1; i < n; i++)
        jobs[i].started = pthread_create(&jobs[i].thread, &attr, kill_run, &jobs[i]) == 0;
    pthread_attr_destroy(&attr);
    for (size_t i = 0; i < n; i++)
        if (!jobs[i].started)
            kill_run(&jobs[i]);
    for (size_t i = 0; i < n; i++)
        if (jobs[i].started)
            pthread_join(jobs[i].thread, NULL);
}

static bool is_alive(const struct cri_container *c)
{
    return c->state == CRI_RUNNING || c->state == CRI_UNKNOWN || c->state == CRI_CREATED;
}

static const struct kubelet_spec_container *spec_of(const struct kubelet_spec_container *specs, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (kp_streq(specs[i].container->name, name))
            return &specs[i];
    return NULL;
}

int kubelet_pod_kill(struct kubelet_sync *sync, int64_t grace_s, struct kp_error *error)
{
    struct kubelet *kubelet = sync->kubelet;
    struct kubelet_runtime *rt = &sync->rt;
    struct kubelet_spec_container *specs;
    size_t n_specs = kubelet_spec_containers(sync->pod->data, sync->arena, &specs);
    struct kill_job *jobs = KP_NEW_ARRAY(sync->arena, struct kill_job, rt->n_containers + 1);
    const char *pod_ip = rt->n_sandboxes > 0 && rt->sandboxes[0].n_ips > 0 ? rt->sandboxes[0].ips[0] : NULL;
    int64_t deadline_ms = kp_mono_ms() + grace_s * 1000;
    size_t n = 0;
    for (size_t i = 0; i < rt->n_containers; i++) {
        const struct kubelet_spec_container *spec = spec_of(specs, n_specs, rt->containers[i].name);
        if (is_alive(&rt->containers[i]) && !(spec && spec->sidecar))
            jobs[n++] = (struct kill_job){.kubelet = kubelet, .pod = sync->pod, .spec = spec ? spec->container : NULL,
                                          .container = &rt->containers[i], .grace_s = grace_s, .pod_ip = pod_ip};
    }
    kill_together(jobs, n);
    /* Sidecars serve the others to the end: they go after them, the last one first, in what is left of the time. */
    for (size_t s = n_specs; s-- > 0;) {
        const struct cri_container *c = kubelet_runtime_find(rt, specs[s].container->name, NULL);
        if (specs[s].sidecar && c && is_alive(c))
            kubelet_container_kill(kubelet, sync->pod, specs[s].container, c, NULL,
                                   KP_MAX((deadline_ms - kp_mono_ms()) / 1000, grace_s > 0 ? GRACE_AFTER_HOOK_MIN_S : 0), pod_ip);
    }
    for (size_t i = 0; i < rt->n_sandboxes; i++) {
        int rc = rt->sandboxes[i].ready || i == 0 ? cri_stop_sandbox(kubelet->cri, rt->sandboxes[i].id, error) : 0;
        if (rc < 0 && rc != KP_ENOTFOUND)
            return kp_wrap(error, "stop sandbox");
    }
    return 0;
}

bool kubelet_pod_terminating(struct kubelet_sync *sync)
{
    struct kp_error error = {0};
    kubelet_probes_stop(sync->kubelet->probes, sync->worker->uid);
    int rc = kubelet_sync_reload(sync, &error);
    if (rc == 0) {
        bool ended = true;
        for (size_t i = 0; i < sync->rt.n_containers; i++)
            ended = ended && !is_alive(&sync->rt.containers[i]);
        if (!ended)
            kubelet_sync_status(sync, false);
        rc = kubelet_pod_kill(sync, kubelet_worker_grace_s(sync->worker), &error);
    }
    if (rc == 0)
        rc = kubelet_sync_reload(sync, &error);
    if (rc < 0) {
        kp_warn("stopping the pod failed", "pod", sync->worker->name, "namespace", sync->worker->ns, "error", error.message, NULL);
        kubelet_sync_again(sync, KILL_RETRY_MS);
        return false;
    }
    kubelet_sync_status(sync, true);
    sync->worker->mount_failures = 0;
    return true;
}

/* Removes the pod's empty groups from every cgroup hierarchy. */
static void remove_cgroups(const char *parent)
{
    KP_AUTO_FREE char *unified = kp_asprintf("/sys/fs/cgroup%s", parent);
    if (rmdir(unified) < 0 && errno == EBUSY)
        kp_debug("cgroup is still busy", "cgroup", unified, NULL);
    DIR *dir = opendir("/sys/fs/cgroup");
    struct dirent *entry;
    while (dir && (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        KP_AUTO_FREE char *path = kp_asprintf("/sys/fs/cgroup/%s%s", entry->d_name, parent);
        if (rmdir(path) < 0 && errno == EBUSY)
            kp_debug("cgroup is still busy", "cgroup", path, NULL);
    }
    if (dir)
        closedir(dir);
}

static int remove_from_runtime(struct kubelet_sync *sync, struct kp_error *error)
{
    int rc = kubelet_sync_reload(sync, error);
    for (size_t i = 0; rc == 0 && i < sync->rt.n_containers; i++) {
        rc = cri_remove_container(sync->kubelet->cri, sync->rt.containers[i].id, error);
        rc = rc == KP_ENOTFOUND ? 0 : rc;
    }
    for (size_t i = 0; rc == 0 && i < sync->rt.n_sandboxes; i++) {
        rc = cri_remove_sandbox(sync->kubelet->cri, sync->rt.sandboxes[i].id, error);
        rc = rc == KP_ENOTFOUND ? 0 : rc;
    }
    return rc;
}

static int remove_everything(struct kubelet_sync *sync, struct kp_error *error)
{
    struct kubelet *kubelet = sync->kubelet;
    int rc = volumes_teardown(kubelet->config.root_dir, sync->worker->uid, kubelet->csi, error);
    if (rc == 0)
        rc = remove_from_runtime(sync, error);
    if (rc == 0)
        rc = kp_remove_tree(kubelet_pod_log_dir(sync->pod->data, sync->arena), error);
    if (rc < 0)
        return rc;
    struct cri_sandbox_config config;
    struct kubelet_dns_input dns = {0};
    kubelet_sandbox_config(sync->pod->data, 0, &dns, "", "", kubelet->memory_bytes, sync->arena, &config);
    remove_cgroups(config.cgroup_parent);
    kubelet_objects_forget_pod(kubelet->objects, sync->worker->uid);
    kubelet_backoff_forget_prefix(kubelet->restart_backoff, sync->worker->uid);
    kubelet_backoff_forget_prefix(kubelet->pull_backoff, sync->worker->uid);
    return 0;
}

bool kubelet_pod_terminated(struct kubelet_sync *sync)
{
    struct kubelet *kubelet = sync->kubelet;
    struct kp_error error = {0};
    bool removed = sync->worker->removed;
    bool deleted = removed || sync->pod->data->metadata->deletion_timestamp.set;
    int rc = deleted ? remove_everything(sync, &error) : volumes_unmount(kubelet->config.root_dir, sync->worker->uid, kubelet->csi, &error);
    if (rc < 0) {
        kp_warn("removing what the pod left failed", "pod", sync->worker->name, "namespace", sync->worker->ns, "error",
                error.message, NULL);
        kubelet_sync_again(sync, kubelet_worker_volume_retry_ms(sync->worker));
        return false;
    }
    if (!deleted)
        return false; /* its logs stay readable until the object goes */
    if (!removed && !sync->pod->is_static) {
        kubelet_statuses_finish(kubelet->statuses, sync->worker->uid);
        return false; /* the deletion of the object comes back as an event */
    }
    kubelet_probes_forget(kubelet->probes, sync->worker->uid);
    kubelet_statuses_forget(kubelet->statuses, sync->worker->uid);
    if (sync->pod->is_static && !sync->worker->pending)
        kubelet_mirror_delete(kubelet, sync->worker->ns, sync->worker->name);
    return true;
}
