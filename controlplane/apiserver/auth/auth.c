/* Authentication and authorisation put together from their parts. */
#include "controlplane/apiserver/auth/auth_internal.h"

struct kp_string_list auth_split(struct kp_arena *arena, const char *commas)
{
    struct kp_string_list list = {0};
    for (const char *p = commas; p && *p;) {
        size_t len = strcspn(p, ",");
        if (len)
            kp_string_list_add(arena, &list, kp_arena_strndup(arena, p, len));
        p += len + (p[len] == ',');
    }
    return list;
}

static int load_modes(struct auth *auth, struct kp_error *error)
{
    static const char *const names[] = {"Node", "RBAC", "AlwaysAllow", "AlwaysDeny"};
    struct kp_string_list modes = auth_split(auth->arena, kp_empty(auth->config.authorization_modes) ? "AlwaysAllow" : auth->config.authorization_modes);
    for (size_t i = 0; i < modes.len; i++) {
        size_t m = 0;
        while (m < KP_ARRAY_LEN(names) && !kp_streq(names[m], modes.items[i]))
            m++;
        if (m == KP_ARRAY_LEN(names) || auth->n_modes == AUTH_MODES_MAX)
            return kp_fail(error, KP_EUSAGE, "--authorization-mode: %s is not one of Node, RBAC, AlwaysAllow, AlwaysDeny", modes.items[i]);
        auth->modes[auth->n_modes++] = (enum auth_mode)m;
    }
    return 0;
}

static int load_keys(struct auth *auth, struct kp_error *error)
{
    struct kp_string_list files = auth_split(auth->arena, auth->config.service_account_key_file);
    for (size_t i = 0; i < files.len && i < AUTH_KEYS_MAX; i++)
        if (tls_key_load(files.items[i], &auth->verify_keys[auth->n_verify_keys++], error) < 0)
            return kp_wrap(error, "--service-account-key-file");
    if (!kp_empty(auth->config.service_account_signing_key_file) &&
        tls_key_load(auth->config.service_account_signing_key_file, &auth->signing_key, error) < 0)
        return kp_wrap(error, "--service-account-signing-key-file");
    if (auth->n_verify_keys == 0 && auth->signing_key)
        auth->verify_keys[auth->n_verify_keys++] = tls_key_ref(auth->signing_key);
    if (!kp_empty(auth->config.requestheader_client_ca_file)) {
        KP_AUTO_BUF struct kp_buf pem = {0};
        if (kp_read_file(auth->config.requestheader_client_ca_file, TLS_CERT_PEM_MAX, &pem, error) < 0)
            return kp_wrap(error, "--requestheader-client-ca-file");
        auth->requestheader_ca_pem = kp_arena_strndup(auth->arena, pem.data ? pem.data : "", pem.len);
    }
    return 0;
}

int auth_new(const struct auth_config *config, struct auth **ret_auth, struct kp_error *error)
{
    struct auth *auth = kp_calloc(1, sizeof(*auth));
    auth->config = *config;
    auth->arena = kp_arena_new(0);
    if (load_modes(auth, error) < 0 || load_keys(auth, error) < 0) {
        auth_free(auth);
        return error->code;
    }
    auth->audiences = auth_split(auth->arena, kp_empty(config->api_audiences) ? config->service_account_issuer : config->api_audiences);
    auth->allowed_names = auth_split(auth->arena, config->requestheader_allowed_names);
    auth->username_headers = auth_split(auth->arena, config->requestheader_username_headers);
    auth->group_headers = auth_split(auth->arena, config->requestheader_group_headers);
    auth->extra_prefixes = auth_split(auth->arena, config->requestheader_extra_header_prefixes);
    auth->accounts = wcache_find(config->caches, "", "serviceaccounts");
    auth->pods = wcache_find(config->caches, "", "pods");
    auth->nodes_cache = wcache_find(config->caches, "", "nodes");
    auth->secrets = wcache_find(config->caches, "", "secrets");
    auth->rbac = auth_rbac_new(config->caches);
    auth->nodes = auth_nodes_new(config->caches);
    *ret_auth = auth;
    return 0;
}

void auth_free(struct auth *auth)
{
    if (!auth)
        return;
    for (size_t i = 0; i < auth->n_verify_keys; i++)
        tls_key_unref(auth->verify_keys[i]);
    tls_key_unref(auth->signing_key);
    auth_rbac_free(auth->rbac);
    auth_nodes_free(auth->nodes);
    kp_arena_free(auth->arena);
    free(auth);
}

/* ---- who ----------------------------------------------------------------------------------------------------------------- */
static void add_authenticated(struct kp_arena *arena, struct auth_user *user)
{
    if (!kp_streq(user->name, AUTH_ANONYMOUS) && !kp_string_list_has(&user->groups, "system:authenticated"))
        kp_string_list_add(arena, &user->groups, "system:authenticated");
}

static const char *first_header(struct http_request *req, const struct kp_string_list *names)
{
    for (size_t i = 0; i < names->len; i++) {
        const char *value = http_request_header(req, names->items[i]);
        if (!kp_empty(value))
            return value;
    }
    return NULL;
}

/* The aggregation layer's proxy may say for whom it asks, when its certificate is of the request-header CA. */
static bool from_front_proxy(struct auth *auth, struct http_request *req, struct auth_user *user)
{
    if (!auth->requestheader_ca_pem || !req->peer || !first_header(req, &auth->username_headers))
        return false;
    if (auth->allowed_names.len && !kp_string_list_has(&auth->allowed_names, req->peer->common_name))
        return false;
    KP_AUTO(tls_cert_unref) struct tls_cert *cert = NULL;
    struct kp_error error = {0};
    if (tls_cert_from_der(req->peer->certificate_der.data, req->peer->certificate_der.len, &cert, &error) < 0 ||
        tls_cert_verify(cert, NULL, auth->requestheader_ca_pem, TLS_USAGE_CLIENT, 0, &error) < 0)
        return false;
    user->name = first_header(req, &auth->username_headers);
    for (size_t i = 0; i < req->header_count; i++)
        for (size_t k = 0; k < auth->group_headers.len; k++)
            if (strcasecmp(req->headers[i].name, auth->group_headers.items[k]) == 0)
                kp_string_list_add(req->arena, &user->groups, req->headers[i].value);
    return true;
}

static void from_certificate(struct http_request *req, struct auth_user *user)
{
    user->name = kp_arena_strdup(req->arena, req->peer->common_name);
    for (size_t i = 0; i < req->peer->organization_count; i++)
        kp_string_list_add(req->arena, &user->groups, kp_arena_strdup(req->arena, req->peer->organizations[i]));
}

/* kubectl's WebSocket clients cannot set headers in a browser: the token comes as a subprotocol, as upstream allows. */
static const char *bearer_token(struct http_request *req)
{
    const char *header = http_request_header(req, "authorization");
    if (header && strncasecmp(header, "Bearer ", 7) == 0) {
        header += 7;
        while (*header == ' ')
            header++;
        return header;
    }
    return NULL;
}

int auth_authenticate(struct auth *auth, struct http_request *req, struct auth_user *ret_user, struct api_status *status)
{
    struct auth_user user = {.name = "", .uid = ""};
    const char *token = bearer_token(req), *why = NULL;
    if (from_front_proxy(auth, req, &user)) {
        add_authenticated(req->arena, &user);
    } else if (req->peer && !kp_empty(req->peer->common_name)) {
        from_certificate(req, &user);
        add_authenticated(req->arena, &user);
    } else if (!kp_empty(token)) {
        struct kp_string_list audiences;
        if (auth_token_authenticate(auth, token, NULL, req->arena, &user, &audiences, &why) < 0) {
            kp_warn("token refused", "peer", req->peer_address, "why", why, NULL);
            return status_unauthorized(status);
        }
        add_authenticated(req->arena, &user);
    } else if (auth->config.anonymous) {
        user.name = AUTH_ANONYMOUS;
        kp_string_list_add(req->arena, &user.groups, "system:unauthenticated");
    } else {
        return status_unauthorized(status);
    }
    *ret_user = user;
    return 0;
}

/* ---- whether ----------------------------------------------------------------------------------------------------------------- */
bool auth_authorize(struct auth *auth, const struct auth_attributes *attributes, struct kp_arena *arena, const char **ret_reason)
{
    const char *reason = "", *last = "";
    bool allowed = false;
    if (kp_string_list_has(&attributes->user->groups, AUTH_GROUP_MASTERS)) {
        if (ret_reason)
            *ret_reason = "";
        return true;
    }
    for (size_t i = 0; i < auth->n_modes && !allowed; i++) {
        switch (auth->modes[i]) {
        case AUTH_MODE_NODE:
            allowed = auth_node_allows(auth, attributes, arena, &reason) > 0;
            break;
        case AUTH_MODE_RBAC:
            allowed = auth_rbac_allows(auth->rbac, attributes, arena, &reason);
            break;
        case AUTH_MODE_ALWAYS_ALLOW:
            allowed = true;
            break;
        case AUTH_MODE_ALWAYS_DENY:
            reason = "Everything is forbidden.";
            break;
        }
        if (!kp_empty(reason))
            last = reason;
    }
    if (ret_reason)
        *ret_reason = last;
    return allowed;
}

/* ---- impersonation ------------------------------------------------------------------------------------------------------------- */
static bool may_impersonate(struct auth *auth, struct http_request *req, const struct auth_user *user, const char *group, const char *resource,
                            const char *subresource, const char *ns, const char *name, struct api_status *status)
{
    const struct auth_attributes attributes = {
        .user = user, .verb = "impersonate", .resource_request = true, .group = group, .version = "v1", .resource = resource,
        .subresource = subresource, .ns = ns, .name = name, .path = "", .field_selector = "", .label_selector = "",
    };
    const char *reason;
    if (auth_authorize(auth, &attributes, req->arena, &reason))
        return true;
    status_forbidden(status, group, resource, name, "User \"%s\" cannot impersonate resource \"%s\" in API group \"%s\" at the cluster scope",
                     user->name, resource, group);
    return false;
}

int auth_impersonate(struct auth *auth, struct http_request *req, struct auth_user *user, struct api_status *status)
{
    static const char extra_prefix[] = "Impersonate-Extra-";
    const char *name = http_request_header(req, "Impersonate-User");
    struct auth_user as = {.name = name, .uid = ""};
    bool any_group = false;
    for (size_t i = 0; i < req->header_count; i++)
        any_group |= strcasecmp(req->headers[i].name, "Impersonate-Group") == 0 || strcasecmp(req->headers[i].name, "Impersonate-Uid") == 0 ||
                     strncasecmp(req->headers[i].name, extra_prefix, sizeof(extra_prefix) - 1) == 0;
    if (kp_empty(name))
        return any_group ? status_bad_request(status, "requested groups, uid or extra to impersonate without impersonating a user") : 0;
    if (kp_starts_with(name, AUTH_SERVICE_ACCOUNT_PREFIX) && strchr(name + strlen(AUTH_SERVICE_ACCOUNT_PREFIX), ':')) {
        const char *rest = name + strlen(AUTH_SERVICE_ACCOUNT_PREFIX), *colon = strchr(rest, ':');
        const char *ns = kp_arena_strndup(req->arena, rest, (size_t)(colon - rest));
        if (!may_impersonate(auth, req, user, "", "serviceaccounts", "", ns, colon + 1, status))
            return status->code;
        kp_string_list_add(req->arena, &as.groups, "system:serviceaccounts");
        kp_string_list_add(req->arena, &as.groups, kp_arena_printf(req->arena, "system:serviceaccounts:%s", ns));
    } else if (!may_impersonate(auth, req, user, "", "users", "", "", name, status)) {
        return status->code;
    }
    for (size_t i = 0; i < req->header_count; i++) {
        const struct http_header *h = &req->headers[i];
        if (strcasecmp(h->name, "Impersonate-Group") == 0) {
            if (!may_impersonate(auth, req, user, "", "groups", "", "", h->value, status))
                return status->code;
            kp_string_list_add(req->arena, &as.groups, h->value);
        } else if (strcasecmp(h->name, "Impersonate-Uid") == 0) {
            if (!may_impersonate(auth, req, user, "authentication.k8s.io", "uids", "", "", h->value, status))
                return status->code;
            as.uid = h->value;
        } else if (strncasecmp(h->name, extra_prefix, sizeof(extra_prefix) - 1) == 0) {
            char *key = http_percent_decode(req->arena, h->name + sizeof(extra_prefix) - 1, strlen(h->name) - sizeof(extra_prefix) + 1, false);
            if (!key)
                return status_bad_request(status, "header %s: malformed escape", h->name);
            for (char *p = key; *p; p++)
                *p = (char)(*p >= 'A' && *p <= 'Z' ? *p + 32 : *p);
            if (!may_impersonate(auth, req, user, "authentication.k8s.io", "userextras", key, "", h->value, status))
                return status->code;
            struct kp_string_list_pair *pair = NULL;
            for (size_t k = 0; k < as.extra.len; k++)
                if (kp_streq(as.extra.items[k].key, key))
                    pair = &as.extra.items[k];
            if (!pair) {
                pair = KP_LIST_ADD(req->arena, &as.extra);
                pair->key = key;
            }
            kp_string_list_add(req->arena, &pair->value, h->value);
        }
    }
    add_authenticated(req->arena, &as);
    *user = as;
    return 0;
}
