/* The kubelet's HTTP server: what its files share. */
#ifndef KUBELET_SERVER_INTERNAL_H
#define KUBELET_SERVER_INTERNAL_H

#include "lib/delegate/delegate.h"
#include "lib/http/http.h"
#include "nodeimage/kubelet/kubelet_internal.h"
#include "nodeimage/kubelet/usage_internal.h"

struct kubelet_server {
    struct kubelet *kubelet;
    struct pool *pool;
    struct http_server *https, *healthz;
    struct tls_context *tls;
    struct delegate *auth;
    struct kubelet_usage *usage;
};

/* The parts of "/exec/ns/pod/[uid/]container". */
struct kubelet_target {
    const char *ns, *pod, *uid, *container;
};
/* Splits what follows the first part of the path; false when the number of parts does not fit. */
bool kubelet_target_parse(const char *path, bool with_container, struct kp_arena *arena, struct kubelet_target *ret);
/* The pod; answers 404 itself and gives NULL when there is none. */
struct kubelet_pod *kubelet_target_pod(struct kubelet *kubelet, struct http_request *req, const struct kubelet_target *target);

void kubelet_respond_text(struct http_request *req, int status, const char *text);
void kubelet_respond_json(struct http_request *req, const struct kp_buf *json);
void kubelet_respond_error(struct http_request *req, const struct kp_error *error);

/* ---- auth ------------------------------------------------------------------------------------------------------------ */
struct delegate *kubelet_auth_new(struct kubelet *kubelet);
/* True: go on. Otherwise it has answered 401, 403 or 500. */
bool kubelet_auth_check(struct kubelet_server *server, struct http_request *req);
/* nodes/<subresource> that a path stands for; pure. */
const char *kubelet_auth_subresource(const char *path);

/* ---- endpoints --------------------------------------------------------------------------------------------------------- */
void kubelet_serve_logs(struct kubelet *kubelet, struct http_request *req);
void kubelet_serve_exec(struct kubelet *kubelet, struct http_request *req);
void kubelet_serve_attach(struct kubelet *kubelet, struct http_request *req);
void kubelet_serve_port_forward(struct kubelet *kubelet, struct http_request *req);
void kubelet_serve_run(struct kubelet *kubelet, struct http_request *req);
void kubelet_serve_pods(struct kubelet *kubelet, struct http_request *req);
void kubelet_serve_running_pods(struct kubelet *kubelet, struct http_request *req);
void kubelet_serve_metrics(struct kubelet *kubelet, struct http_request *req);
void kubelet_serve_metrics_resource(struct kubelet *kubelet, struct http_request *req);
void kubelet_serve_stats_summary(struct kubelet *kubelet, struct http_request *req);
void kubelet_serve_configz(struct kubelet *kubelet, struct http_request *req);
/* The text of /metrics/resource, and one pod of /stats/summary; pure. */
void kubelet_usage_metrics(const struct kubelet_usage_sample *sample, struct kp_arena *arena, struct kp_buf *out);
struct k8s_stats_summary;
void kubelet_usage_add_pod(struct k8s_stats_summary *summary, const char *ns, const char *name, const char *uid,
                           const struct kubelet_usage_report *report, struct kp_arena *arena);

#endif
