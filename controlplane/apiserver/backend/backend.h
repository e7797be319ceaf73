/* controlplane/apiserver/backend: other servers that are asked on a request's behalf - webhooks and aggregated API servers. Finds a Service's
 * endpoint, speaks TLS with the CA of whoever configured it, and keeps connections between calls. */
#ifndef APISERVER_BACKEND_H
#define APISERVER_BACKEND_H

#include "controlplane/apiserver/watch/watch.h"
#include "lib/http/http.h"
#include "lib/loop/loop.h"

#define BACKEND_CLIENTS_MAX 64                       /* kept with their connections; who was not asked for longest goes first */
#define BACKEND_ANSWER_BYTES_MAX ((size_t)16 << 20)

/* All borrowed until backends_free. */
struct backends_config {
    struct loop *loop;
    struct wcache_set *caches;
    const char *client_cert_file, *client_key_file; /* shown where a backend says so; NULL: none */
};
struct backends;
struct backends *backends_new(const struct backends_config *config);
void backends_free(struct backends *backends); /* accepts NULL; no call may be running */

/* Who is asked: a URL's server, or a Service. Strings are borrowed for the call. */
struct backend {
    const char *url;          /* "https://host:port", without a path; NULL: the Service */
    const char *ns, *service; /* its certificate must be for "<service>.<ns>.svc" */
    int32_t port;             /* of the Service */
    const void *ca;           /* PEM of who signed its certificate; empty: the system's */
    size_t ca_len;
    bool insecure_skip_verify;
    bool client_certificate; /* show ours */
};
/* A port of a Service and one of its ready endpoints, picked at random from the EndpointSlices, as upstream does with
   --enable-aggregator-routing; of type ExternalName: that name. port_text: a name or number; "": the only one. *ret_host is in arena.
   KP_ENOTFOUND: there is no such Service; KP_EUNAVAILABLE: no such port, or nobody is ready. */
int backend_resolve(struct wcache_set *caches, const char *ns, const char *service, const char *port_text, struct kp_arena *arena,
                    const char **ret_host, int *ret_port, struct kp_error *error) KP_NODISCARD;

/* A client for a backend, shared by all who ask the same one, for streams and upgrades; the caller's reference. The request's Host header is up to
   the caller: backend_host(). KP_ENOTFOUND and KP_EUNAVAILABLE as backend_resolve, KP_EINVALID for a CA that is none. Any thread but the loop's. */
struct backend_client;
int backend_client_get(struct backends *backends, const struct backend *backend, struct kp_arena *arena, struct backend_client **ret_client,
                       struct kp_error *error) KP_NODISCARD;
struct http_client *backend_client_http(struct backend_client *client); /* lives as long as the reference */
void backend_client_unref(struct backend_client *client);               /* accepts NULL; may block: any thread but the loop's */
KP_DEFINE_AUTO(struct backend_client *, backend_client_unref)
/* What clients write as Host and in messages: "svc.ns.svc:443", or the URL's own. In arena. */
const char *backend_host(const struct backend *backend, struct kp_arena *arena);

/* Calls that are made at the same time, each with its own answer: waits until all have one, or their time is up. */
struct backend_call {
    struct backend backend;
    struct http_client_request request; /* Host is added; timeout_ms as there */
    size_t answer_bytes_max;    /* 0: BACKEND_ANSWER_BYTES_MAX */
    bool no_body;               /* only the answer's status is wanted */
    int code;                           /* out: 0, or the code of error */
    struct kp_error error;              /* out */
    int status;                         /* out: HTTP's */
    struct kp_bytes body;               /* out: NUL-terminated, in arena */
    const char *content_type;           /* out: "" when it says none; in arena */
    int64_t duration_ns;                /* out */
};
void backends_call(struct backends *backends, struct backend_call *calls, size_t count, struct kp_arena *arena);

#endif
