/* lib/delegate: who asks a server of the cluster's, and what they may, decided by the API server: a client certificate or a
 * TokenReview tells who it is, a SubjectAccessReview what is allowed; both answers are kept for a while. As the delegating
 * authenticator and authorizer of k8s.io/apiserver, which the kubelet, the scheduler and the controller manager use. */
#ifndef KP_DELEGATE_H
#define KP_DELEGATE_H

#include "lib/client/client.h"
#include "lib/http/http.h"

#define DELEGATE_GROUPS_MAX 64
#define DELEGATE_CACHE_MAX 4096 /* answers of each kind; when there are more, all are forgotten */

/* Clients are borrowed, their loop must run while anybody is checked. */
struct delegate_config {
    struct client *tokens; /* asked for TokenReviews; NULL: tokens are worth nothing */
    struct client *access; /* asked for SubjectAccessReviews; NULL: only system:masters may anything */
    bool anonymous;        /* who shows nothing is system:anonymous; otherwise nobody, as is who shows a token that is worth nothing */
    int64_t token_ms, allowed_ms, denied_ms; /* how long answers count; 0: 10 s each, the default of --authentication-token-webhook-cache-ttl and its like */
};
struct delegate;
struct delegate *delegate_new(const struct delegate_config *config);
void delegate_free(struct delegate *delegate); /* accepts NULL */

struct delegate_user {
    const char *name;
    const char *groups[DELEGATE_GROUPS_MAX];
    size_t n_groups;
};
/* Who sent the request: *ret is the request's arena's. KP_EUNAUTHORIZED when nobody we know; other codes when the API server
   could not be asked. May wait for the API server, 5 s at most, so not on a loop's thread. */
int delegate_authenticate(struct delegate *delegate, struct http_request *req, struct delegate_user **ret, struct kp_error *error) KP_NODISCARD;

/* Of a SubjectAccessReview: a path of the server's own, or a resource. */
struct delegate_attributes {
    const char *verb;
    const char *path; /* non-resource; NULL: the resource counts */
    const char *version, *resource, *subresource, *name;
};
int delegate_authorize(struct delegate *delegate, const struct delegate_user *user, const struct delegate_attributes *attributes, bool *ret_allowed,
                       struct kp_error *error) KP_NODISCARD;

/* The verb of an HTTP method: get, create, update, patch, delete. */
const char *delegate_verb(const char *method);

#endif
