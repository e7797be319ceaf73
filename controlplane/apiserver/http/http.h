/* controlplane/apiserver/http: the HTTP face of the API server - routing, negotiation, discovery, health, proxies. */
#ifndef APISERVER_HTTP_H
#define APISERVER_HTTP_H

#include "controlplane/apiserver/aggregator/aggregator.h"
#include "controlplane/apiserver/audit/audit.h"
#include "controlplane/apiserver/auth/auth.h"
#include "controlplane/apiserver/custom/custom.h"
#include "controlplane/apiserver/registry/registry.h"
#include "lib/http/http.h"
#include "lib/loop/loop.h"

#define API_MUTATING_IN_FLIGHT_MAX 200
#define API_READONLY_IN_FLIGHT_MAX 400
#define API_HANDLER_THREADS_MAX 256 /* more than writes in flight: those may all wait for webhooks, which ask this server themselves */
#define API_HANDLERS_QUEUED_MAX 2000
#define API_BODY_BYTES_MAX ((size_t)3 << 20)
#define API_WATCH_QUEUED_MAX ((size_t)64 << 20) /* unsent bytes of one watch; a slower reader is cut off */

/* All borrowed until api_server_free. */
struct resource_metrics;
struct api_server_config {
    struct loop *loop;
    const char *bind_address;
    uint16_t port;
    struct tls_context *tls;
    struct registry *registry;
    struct wcache_set *caches;
    struct admission *admission;
    struct auth *auth;
    struct custom *custom;            /* NULL: no custom resources */
    struct aggregator *aggregator;    /* NULL: no aggregated API servers; else backends is there, too */
    struct backends *backends;
    struct auditor *auditor;          /* NULL: nothing is audited */
    struct tls_context *kubelet_tls;  /* client certificate for kubelets; NULL: proxying fails */
    struct resource_metrics *resource_metrics; /* answers metrics.k8s.io; NULL: that is not built in */
    const char *kubelet_address_types; /* "InternalIP,ExternalIP,Hostname": which node address to use, in order */
    unsigned max_mutating, max_readonly; /* 0: defaults */
    int64_t min_watch_timeout_s;         /* watches without a timeout of their own last this long to twice as long */
    int64_t request_timeout_s;
    bool profiling; /* unused paths answer 404 either way */
};
struct api_server;
int api_server_new(const struct api_server_config *config, struct api_server **ret_server, struct kp_error *error) KP_NODISCARD;
uint16_t api_server_port(const struct api_server *server);
void api_server_set_bootstrapped(struct api_server *server); /* /readyz turns good */
void api_server_shutdown(struct api_server *server, int64_t timeout_ms);
void api_server_free(struct api_server *server); /* accepts NULL */

/* What a path and method ask for, as upstream's RequestInfo has it. Strings are "" when not set. */
struct request_info {
    bool resource_request;
    const char *verb, *prefix, *group, *version, *ns, *resource, *subresource, *name;
    const char *path;
    const char *rest; /* what follows the subresource (proxy paths), with its leading '/' or "" */
};
void request_info_parse(const char *method, const char *path, const char *query, struct kp_arena *arena, struct request_info *ret);

#endif
