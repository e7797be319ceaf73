/* controlplane/apiserver/auth: who asks (client certificates, service-account and bootstrap tokens, front proxy,
   impersonation) and whether they may (RBAC, Node). Reads objects through the watch caches only. */
#ifndef APISERVER_AUTH_H
#define APISERVER_AUTH_H

#include "controlplane/apiserver/status/status.h"
#include "lib/http/http.h"

struct wcache_set; /* watch/watch.h */

struct auth_user {
    const char *name, *uid; /* uid "" when unknown */
    struct kp_string_list groups;
    struct kp_string_list_map extra;
};
#define AUTH_ANONYMOUS "system:anonymous"
#define AUTH_GROUP_MASTERS "system:masters"
#define AUTH_NODE_PREFIX "system:node:"

/* The words of a comma-separated list, in the arena. */
struct kp_string_list auth_split(struct kp_arena *arena, const char *commas);

/* All borrowed until auth_free. Empty strings and NULL: not set. */
struct auth_config {
    struct wcache_set *caches;
    const char *authorization_modes;        /* "Node,RBAC"; also AlwaysAllow, AlwaysDeny */
    const char *service_account_issuer;     /* iss of tokens we make; also the default audience */
    const char *service_account_key_file;   /* public or private key that verifies */
    const char *service_account_signing_key_file;
    const char *api_audiences;              /* comma-separated; default the issuer */
    bool anonymous;
    bool bootstrap_tokens;                  /* --enable-bootstrap-token-auth */
    const char *requestheader_client_ca_file;
    const char *requestheader_allowed_names; /* comma-separated */
    const char *requestheader_username_headers, *requestheader_group_headers, *requestheader_extra_header_prefixes;
};
struct auth;
int auth_new(const struct auth_config *config, struct auth **ret_auth, struct kp_error *error) KP_NODISCARD;
void auth_free(struct auth *auth); /* accepts NULL */

/* Any thread, on the worker pool. Strings live in req->arena. A bad credential is KP_EUNAUTHORIZED (401); none at all is
   the anonymous user when that is allowed. Every authenticated user has group system:authenticated. */
int auth_authenticate(struct auth *auth, struct http_request *req, struct auth_user *ret_user, struct api_status *status);

struct auth_attributes {
    const struct auth_user *user;
    const char *verb; /* "get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "impersonate", ... */
    bool resource_request;
    const char *group, *version, *resource, *subresource, *ns, *name; /* resource requests; "" when not set */
    const char *path;                                                 /* others */
    const char *field_selector, *label_selector; /* as sent, "" when none */
};
/* True: allowed. *ret_reason (may be NULL) is in arena, "" when there is nothing to say. */
bool auth_authorize(struct auth *auth, const struct auth_attributes *attributes, struct kp_arena *arena, const char **ret_reason);
/* Impersonate-* headers: checks that *user may, and replaces it. 0 when there are none. */
int auth_impersonate(struct auth *auth, struct http_request *req, struct auth_user *user, struct api_status *status);

/* For those who grant rights: whether the user's rules hold what is asked for, where "*" in the question asks for everything and
   is covered by "*" alone. Only RBAC's rules count. Without a namespace only cluster-wide ones. */
bool auth_covers(struct auth *auth, const struct auth_attributes *wanted, struct kp_arena *arena);
bool auth_uses_rbac(const struct auth *auth);
struct k8s_policy_rule_items; /* api/k8s.h */
/* The rules of a cluster role, aggregated ones included, copied into arena; false when there is no such role. */
bool auth_cluster_role_rules(struct auth *auth, const char *name, struct kp_arena *arena, struct k8s_policy_rule_items *ret_rules);

/* ---- what the API serves from here ------------------------------------------------------------------------------ */
/* create on the review kinds (TokenReview, SelfSubjectReview, *AccessReview, SelfSubjectRulesReview): fills obj's status. ns is
   the request's, "" for cluster-scoped ones. */
int auth_review(struct auth *auth, const struct kp_resource *resource, const char *ns, const struct auth_user *user, void *obj,
                struct kp_arena *arena, struct api_status *status);
/* create on serviceaccounts/token: token_request is struct k8s_token_request *, its status is filled. */
int auth_token_request(struct auth *auth, const char *ns, const char *service_account, const char *service_account_uid,
                       void *token_request, struct kp_arena *arena, struct api_status *status);
void auth_openid_configuration(struct auth *auth, const char *authority, struct kp_buf *out); /* /.well-known/openid-configuration */
void auth_jwks(struct auth *auth, struct kp_buf *out);                                       /* /openid/v1/jwks */

/* Hands the bootstrap RBAC objects (and other objects auth needs) to ensure, which creates each if absent (or adds the
   rules, subjects that are missing when reconcile is set). Called once at start when RBAC is on. obj is an object of resource->type. */
typedef int (*auth_ensure_fn)(void *arg, const struct kp_resource *resource, void *obj, bool reconcile, struct kp_error *error);
int auth_bootstrap(struct auth *auth, auth_ensure_fn ensure, void *arg, struct kp_error *error) KP_NODISCARD;

#endif
