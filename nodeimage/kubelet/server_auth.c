/* Who may use the kubelet's server: client certificates or tokens, then a SubjectAccessReview of nodes/<subresource>. */
#include "nodeimage/kubelet/server_internal.h"

#define ALLOWED_FOR_MS 300000
#define DENIED_FOR_MS 30000
#define TOKEN_FOR_MS 120000

struct delegate *kubelet_auth_new(struct kubelet *kubelet)
{
    const struct delegate_config config = {
        .tokens = kubelet->client, .access = kubelet->client, .anonymous = kubelet->config.anonymous_auth,
        .token_ms = TOKEN_FOR_MS, .allowed_ms = ALLOWED_FOR_MS, .denied_ms = DENIED_FOR_MS,
    };
    return delegate_new(&config);
}

const char *kubelet_auth_subresource(const char *path)
{
    static const char *const names[][2] = {{"/stats", "stats"},     {"/metrics", "metrics"}, {"/logs", "log"},
                                           {"/healthz", "healthz"}, {"/pods", "pods"},       {"/runningpods", "pods"},
                                           {"/configz", "configz"}};
    for (size_t i = 0; i < KP_ARRAY_LEN(names); i++) {
        size_t len = strlen(names[i][0]);
        if (strncmp(path, names[i][0], len) == 0 && (path[len] == '\0' || path[len] == '/'))
            return names[i][1];
    }
    return "proxy";
}

static int authorize(struct kubelet_server *server, const struct delegate_user *user, const char *verb, const char *subresource, bool *ret_allowed,
                     struct kp_error *error)
{
    struct delegate_attributes attributes = {
        .verb = verb, .version = "v1", .resource = "nodes", .subresource = subresource, .name = server->kubelet->config.node_name,
    };
    *ret_allowed = true;
    if (!server->kubelet->config.authorize_webhook)
        return 0;
    int rc = delegate_authorize(server->auth, user, &attributes, ret_allowed, error);
    if (rc < 0 || *ret_allowed || kp_streq(subresource, "proxy"))
        return rc;
    attributes.subresource = "proxy"; /* whoever may use the whole proxy may use its parts */
    return delegate_authorize(server->auth, user, &attributes, ret_allowed, error);
}

bool kubelet_auth_check(struct kubelet_server *server, struct http_request *req)
{
    struct delegate_user *user;
    struct kp_error error = {0};
    if (delegate_authenticate(server->auth, req, &user, &error) < 0) {
        if (error.code != KP_EUNAUTHORIZED)
            kp_warn("authentication failed", "error", error.message, NULL);
        kubelet_respond_text(req, 401, "Unauthorized");
        return false;
    }
    const char *verb = delegate_verb(req->method), *subresource = kubelet_auth_subresource(req->path);
    bool allowed;
    if (authorize(server, user, verb, subresource, &allowed, &error) < 0) {
        kubelet_respond_text(req, 500, kp_arena_printf(req->arena, "Authorization error (user=%s, verb=%s, resource=nodes, subresource=%s)",
                                                       user->name, verb, subresource));
        kp_warn("authorization failed", "user", user->name, "error", error.message, NULL);
        return false;
    }
    if (!allowed)
        kubelet_respond_text(req, 403, kp_arena_printf(req->arena, "Forbidden (user=%s, verb=%s, resource=nodes, subresource=%s)",
                                                       user->name, verb, subresource));
    return allowed;
}
