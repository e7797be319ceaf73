/* /containerLogs: streaming a container's log. */
#include "nodeimage/kubelet/server_internal.h"

#define QUEUED_MAX ((size_t)1 << 20)
#define RUNNING_CHECK_MS 1000

struct log_stream {
    struct kubelet *kubelet;
    struct http_stream *stream;
    const char *container_id;
    int64_t checked_ms;
    bool running;
};

static int stream_write(void *arg, const void *data, size_t len)
{
    struct log_stream *log = arg;
    if (http_stream_closed(log->stream))
        return KP_ECANCELLED;
    if (len == 0)
        return 0;
    struct kp_blob *blob = kp_blob_new(data, len);
    int rc = http_stream_write(log->stream, blob);
    kp_blob_unref(blob);
    while (rc == 0 && http_stream_queued(log->stream) > QUEUED_MAX && !http_stream_closed(log->stream))
        kp_sleep_ms(2); /* a slow reader holds up only this thread */
    return rc;
}

static bool stream_running(void *arg)
{
    struct log_stream *log = arg;
    if (!log->running || kp_mono_ms() - log->checked_ms < RUNNING_CHECK_MS)
        return log->running;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct cri_container container;
    log->checked_ms = kp_mono_ms();
    int rc = cri_container_status(log->kubelet->cri, log->container_id, arena, &container, NULL);
    log->running = rc == 0 ? container.state == CRI_RUNNING || container.state == CRI_CREATED : rc != KP_ENOTFOUND;
    return log->running;
}

static bool query_true(struct http_request *req, const char *name)
{
    const char *value = http_request_query(req, name);
    return value && (kp_streq(value, "true") || kp_streq(value, "1"));
}

static int parse_number(struct http_request *req, const char *name, int64_t least, int64_t *ret, struct kp_error *error)
{
    const char *value = http_request_query(req, name);
    if (kp_empty(value))
        return 0;
    if (kp_parse_i64(value, ret) < 0 || *ret < least)
        return kp_fail(error, KP_EINVALID, "invalid value of %s: %s", name, value);
    return 0;
}

static int parse_options(struct http_request *req, struct kubelet_log_options *ret, struct kp_error *error)
{
    *ret = (struct kubelet_log_options){.follow = query_true(req, "follow"), .timestamps = query_true(req, "timestamps"),
                                        .tail_lines = -1, .limit_bytes = -1};
    int64_t since_s = -1;
    int rc = parse_number(req, "tailLines", 0, &ret->tail_lines, error);
    if (rc == 0)
        rc = parse_number(req, "limitBytes", 1, &ret->limit_bytes, error);
    if (rc == 0)
        rc = parse_number(req, "sinceSeconds", 1, &since_s, error);
    if (rc < 0)
        return rc;
    if (since_s > 0)
        ret->since_ns = kp_now_ns() - since_s * 1000000000;
    const char *since = http_request_query(req, "sinceTime"), *stream = http_request_query(req, "stream");
    int64_t seconds;
    int32_t nanos;
    if (!kp_empty(since)) {
        if (kp_parse_rfc3339(since, &seconds, &nanos) < 0)
            return kp_fail(error, KP_EINVALID, "invalid value of sinceTime: %s", since);
        ret->since_ns = seconds * 1000000000 + nanos;
    }
    if (kp_streq(stream, "Stdout"))
        ret->stream = KUBELET_LOG_STDOUT;
    else if (kp_streq(stream, "Stderr"))
        ret->stream = KUBELET_LOG_STDERR;
    return 0;
}

static bool spec_has(const struct k8s_pod *pod, const char *name, struct kp_arena *arena)
{
    struct kubelet_spec_container *specs;
    size_t n = kubelet_spec_containers(pod, arena, &specs);
    for (size_t i = 0; i < n; i++)
        if (kp_streq(specs[i].container->name, name))
            return true;
    return false;
}

/* The container whose log is meant, or an error in upstream's words. */
static int find(struct kubelet *kubelet, const struct kubelet_pod *pod, const char *name, bool previous, struct kp_arena *arena,
                const struct cri_container **ret, struct kp_error *error)
{
    struct kubelet_runtime *rt = KP_NEW(arena, struct kubelet_runtime);
    if (!spec_has(pod->data, name, arena))
        return kp_fail(error, KP_ENOTFOUND, "container \"%s\" in pod \"%s\" is not available", name, pod->name);
    int rc = kubelet_runtime_load(kubelet, pod->uid, arena, rt, error);
    if (rc < 0)
        return rc;
    const struct cri_container *newest = kubelet_runtime_find(rt, name, NULL);
    *ret = previous ? kubelet_runtime_previous(rt, name, newest) : newest;
    if (previous && !*ret)
        return kp_fail(error, KP_EBADREQUEST, "previous terminated container \"%s\" in pod \"%s\" not found", name, pod->name);
    if (!*ret || (*ret)->state == CRI_CREATED) {
        struct k8s_pod_status *status = kubelet_statuses_get(kubelet->statuses, pod->uid, arena);
        const char *reason = "ContainerCreating";
        for (size_t i = 0; status && i < status->container_statuses.len; i++) {
            const struct k8s_container_status *s = &status->container_statuses.items[i];
            if (kp_streq(s->name, name) && s->state && s->state->waiting && !kp_empty(s->state->waiting->reason))
                reason = s->state->waiting->reason;
        }
        return kp_fail(error, KP_EBADREQUEST, "container \"%s\" in pod \"%s\" is waiting to start: %s", name, pod->name, reason);
    }
    return 0;
}

void kubelet_serve_logs(struct kubelet *kubelet, struct http_request *req)
{
    struct kubelet_target target;
    struct kubelet_log_options options;
    struct kp_error error = {0};
    if (!kubelet_target_parse(req->path, true, req->arena, &target)) {
        kubelet_respond_text(req, 404, "404 page not found\n");
        return;
    }
    struct kubelet_pod *pod = kubelet_target_pod(kubelet, req, &target);
    if (!pod)
        return;
    const struct cri_container *container = NULL;
    int rc = parse_options(req, &options, &error);
    if (rc == 0)
        rc = find(kubelet, pod, target.container, query_true(req, "previous"), req->arena, &container, &error);
    kubelet_pod_unref(pod);
    if (rc < 0) {
        kubelet_respond_error(req, &error);
        return;
    }
    const struct http_header header = {.name = "Content-Type", .value = "text/plain"};
    struct log_stream log = {.kubelet = kubelet, .container_id = container->id, .running = container->state == CRI_RUNNING};
    log.stream = http_stream_start(req, 200, &header, 1);
    struct kubelet_log_sink sink = {.write = stream_write, .running = stream_running, .arg = &log};
    rc = kubelet_log_read(container->log_path, &options, &sink, &error);
    if (rc < 0 && rc != KP_ECANCELLED)
        kp_warn("reading a log failed", "container", target.container, "pod", target.pod, "error", error.message, NULL);
    http_stream_end(log.stream);
    http_stream_unref(log.stream);
}
