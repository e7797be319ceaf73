/* What the files of the HTTP face share. */
#ifndef APISERVER_HTTP_INTERNAL_H
#define APISERVER_HTTP_INTERNAL_H

#include "controlplane/apiserver/http/http.h"

#include "api/k8s.h"

struct api_server {
    struct api_server_config config;
    struct http_server *http;
    struct pool *pool;
    unsigned mutating, readonly; /* in flight; atomic */
    bool bootstrapped, stopping;  /* atomic */
    int64_t etcd_good_ms;         /* atomic: when it was asked for the last time with a good answer; 0: never */
    struct kp_metric *requests, *durations, *rejected;
};

enum output_form { OUT_JSON, OUT_YAML, OUT_PROTO };
enum output_shape { SHAPE_OBJECT, SHAPE_TABLE, SHAPE_METADATA, SHAPE_METADATA_LIST };
struct negotiated {
    enum output_form form;
    enum output_shape shape;
    const char *accept_params; /* as=...;v=...;g=... as asked, for Content-Type of discovery */
};

#define API_HEADERS_MAX 32
struct api_request {
    struct http_request *http;
    struct kp_arena *arena;
    struct api_server *server;
    struct request_info info;
    struct auth_user user;
    struct api_status status;
    struct negotiated out;
    const struct kp_resource *resource;       /* of the served version */
    const struct kp_subresource *subresource; /* NULL: the object itself */
    struct registry_request rq;
    const char *audit_id;
    struct audit_record *audit; /* NULL: this request is not audited */
    const struct aggregator_view *view; /* the APIServices, for paths that they matter to; NULL: there are none, or they have not been read yet */
    unsigned *counted; /* where it counts as in flight; who answers later takes it over. NULL: it does not */
    bool answered;
};

/* ---- negotiate.c ---- */
/* Takes the best of Accept we can make for objects of this request; 406 otherwise. */
int negotiate_objects(struct api_request *ar);
/* The media type of the request's body as an enum output_form; 415 otherwise. custom: it is a custom resource, which has no protobuf form. */
int negotiate_body(struct api_request *ar, bool custom, enum output_form *ret_form);
bool accept_has(struct api_request *ar, const char *type, const char *param); /* param such as "g=apidiscovery.k8s.io", or NULL */
const char *form_content_type(enum output_form form);

/* ---- respond.c ---- */
void respond_bytes(struct api_request *ar, int http_status, const char *content_type, const void *data, size_t len);
void respond_text(struct api_request *ar, int http_status, const char *text);
void respond_status(struct api_request *ar); /* ar->status */
void respond_success(struct api_request *ar, const char *name, const char *uid);
/* An object of any type that is not kept in a cache. */
void respond_typed(struct api_request *ar, int http_status, const struct kp_type *type, const void *obj);
/* A cached object of the request's kind, in the version and shape asked for. */
void respond_object(struct api_request *ar, int http_status, struct wcache_object *object);
void respond_list(struct api_request *ar, const struct registry_list *list);
size_t response_headers(struct api_request *ar, const char *content_type, struct http_header headers[API_HEADERS_MAX]);

/* ---- body.c ---- */
/* Decodes the body as type (checking kind and apiVersion), with fieldValidation; problems become warnings or a 400. */
int decode_body(struct api_request *ar, const struct kp_type *type, void **ret_obj);
/* 413 when what was made of a body since `before` (kp_arena_used) is more than max bytes. */
int check_decoded(struct api_request *ar, size_t before, size_t max);
enum registry_validation field_validation(struct api_request *ar, int *ret_code);
int report_problems(struct api_request *ar, const struct kp_type *type, const struct kp_string_list *problems);
int decode_delete_options(struct api_request *ar, struct k8s_delete_options **ret_options);

/* ---- custom_body.c: of the request's custom resource ---- */
int decode_custom_body(struct api_request *ar, void **ret_obj);
/* Takes what the schema does not know from the result of a patch; adds to problems. */
int prune_patched(struct api_request *ar, void **obj, struct kp_string_list *problems);

/* ---- audit.c: what the audit log is told; all of it is nothing where ar->audit is NULL ---- */
/* With the user, or without one when credentials were refused; false: a backend must have the event and has not, and that is answered. */
bool api_audit_begin(struct api_request *ar, bool authenticated);
void api_audit_request_object(struct api_request *ar, const struct kp_type *type, const void *obj);
void api_audit_patch(struct api_request *ar, bool yaml);
void api_audit_typed(struct api_request *ar, const struct kp_type *type, const void *obj); /* the answer */
void api_audit_status(struct api_request *ar, const char *json, size_t len);               /* the answer, a Status */
void api_audit_answered(struct api_request *ar, int http_status); /* before the answer ends */
/* Before an answer that goes on after the handler, or is not made by respond.c: it ends when http's on_access says so. Nothing may be told of the
   request after this. */
void api_audit_hand_over(struct api_request *ar);
void api_audit_leave(struct api_request *ar); /* the handler has ended */
void api_audit_closed(const struct http_access *access);

/* ---- resource handlers ---- */
void handle_get(struct api_request *ar);
void handle_list(struct api_request *ar);
void handle_watch(struct api_request *ar);
void handle_create(struct api_request *ar);
void handle_update(struct api_request *ar);
void handle_patch(struct api_request *ar);
void handle_delete(struct api_request *ar);
void handle_delete_collection(struct api_request *ar);
struct patch_request;
int patch_begin(struct api_request *ar, struct patch_request *request); /* from headers and query */
int list_options(struct api_request *ar, struct registry_list_options *ret_options);
/* True when the subresource is one with a handler of its own, which has answered. */
bool handle_special(struct api_request *ar);
bool handle_virtual(struct api_request *ar); /* reviews, bindings, componentstatuses */

/* ---- metrics_api.c: metrics.k8s.io as it is built in. This is all there is of it in the routing: a server of the user's that an APIService names is
   asked before, by whoever routes to those, and then neither of these is. ---- */
bool builtin_metrics_has(const struct kp_resource *resource); /* it is one of its resources, whether it is turned on or not */
bool builtin_metrics_on(const struct api_server *server);
void builtin_metrics_handle(struct api_request *ar);

/* ---- others ---- */
void handle_discovery(struct api_request *ar);
/* More than 0 when version a comes before b in a group, as upstream's CompareKubeAwareVersionStrings: v10, v2, v1, v11beta2, v1alpha1, foo. */
int version_compare(const char *a, const char *b);
bool handle_health(struct api_request *ar);
void handle_version(struct api_request *ar);
void handle_metrics(struct api_request *ar);
void handle_proxy(struct api_request *ar);  /* nodes/proxy, pods/proxy, services/proxy */
void handle_kubelet(struct api_request *ar); /* log, exec, attach, portforward */
/* connect.c: 0, or what webhooks have against a connection. A webhook's changes of the options are not taken. */
int admit_connection(struct api_request *ar);
bool handle_aggregated(struct api_request *ar); /* what another API server serves; false: it is ours */
/* "https://10.0.0.1:10250" by the first type of address that the node has (types: "InternalIP,Hostname"); NULL when it has none. In arena. */
const char *kubelet_endpoint_of(const char *types, const struct k8s_node *node, struct kp_arena *arena);

bool api_long_running(const struct request_info *info); /* no limit is kept to: watches, logs, exec and the like */
const char *query_of(struct api_request *ar, const char *name); /* NULL when absent */
bool query_true(struct api_request *ar, const char *name);

#endif
