/* The Auth service, and finding out who a client is. */
#include "controlplane/etcd/server/rpc_internal.h"

/* ---- who asks ---- */

/* The name in a certificate counts where clients must have one; a gateway's own certificate says nothing of its users. */
static void identity_of_certificate(const struct grpc_context *context, struct auth_identity *ret_who)
{
    struct etcd_server *server = server_of(context);
    if (!server->config.client_tls.client_cert_auth || !context->peer ||
        http_request_header(context->http, "grpcgateway-accept"))
        return;
    const char *name = context->peer->common_name ? context->peer->common_name : "";
    if (strlen(name) > AUTH_NAME_MAX)
        return;
    ret_who->revision = auth_revision(server->auth);
    snprintf(ret_who->user, sizeof ret_who->user, "%s", name);
}

static const char *token_of(const struct grpc_context *context)
{
    const char *token = http_request_header(context->http, "token");
    if (!token)
        token = http_request_header(context->http, "authorization");
    return token && kp_starts_with(token, "Bearer ") ? token + strlen("Bearer ") : token;
}

enum etcd_err rpc_identity_now(const struct grpc_context *context, struct auth_identity *ret_who, bool *ret_ahead)
{
    struct etcd_server *server = server_of(context);
    ret_who->revision = 0;
    ret_who->user[0] = '\0';
    *ret_ahead = false;
    if (!auth_enabled(server->auth))
        return ETCD_OK;
    const char *token = token_of(context);
    if (!token) {
        identity_of_certificate(context, ret_who);
        return ETCD_OK;
    }
    uint64_t index, applied = atomic_load(&server->node.applied);
    enum auth_result result = auth_find_token(server->auth, token, kp_mono_ms(), ret_who, &index);
    if (result == AUTH_OK)
        return ETCD_OK;
    ret_who->revision = 0;
    *ret_ahead = index > applied;
    return etcd_err_of_auth(result);
}

enum etcd_err rpc_identity(const struct grpc_context *context, struct auth_identity *ret_who)
{
    bool ahead;
    enum etcd_err err = rpc_identity_now(context, ret_who, &ahead);
    if (err != ETCD_AUTH_BAD_TOKEN || !ahead)
        return err;
    /* Whatever another member gave out before this request came is known here after a linearizable read. */
    if ((err = node_wait_read(server_of(context))) != ETCD_OK)
        return err;
    return rpc_identity_now(context, ret_who, &ahead);
}

enum etcd_err rpc_require_known(const struct grpc_context *context)
{
    struct etcd_server *server = server_of(context);
    if (!auth_enabled(server->auth))
        return ETCD_OK;
    struct auth_identity who;
    enum etcd_err err = rpc_identity(context, &who);
    return err == ETCD_OK ? etcd_err_of_auth(auth_check_known(server->auth, &who)) : err;
}

enum etcd_err rpc_require_admin(const struct grpc_context *context)
{
    struct etcd_server *server = server_of(context);
    if (!auth_enabled(server->auth))
        return ETCD_OK;
    struct auth_identity who;
    enum etcd_err err = rpc_identity(context, &who);
    return err == ETCD_OK ? etcd_err_of_auth(auth_check_admin(server->auth, &who)) : err;
}

int rpc_known_only(const struct grpc_context *context, struct kp_error *error)
{
    enum etcd_err err = rpc_require_known(context);
    return err == ETCD_OK ? 0 : rpc_fail(error, err);
}

int rpc_admin_only(const struct grpc_context *context, struct kp_error *error)
{
    enum etcd_err err = rpc_require_admin(context);
    return err == ETCD_OK ? 0 : rpc_fail(error, err);
}

/* ---- changes ---- */

#define CHANGE(name, kind)                                                                                             \
    static int name(struct grpc_context *context, const void *message, struct grpc_stream *stream,                    \
                    struct kp_error *error)                                                                            \
    {                                                                                                                  \
        return rpc_propose(context, stream, kind, message, error);                                                     \
    }
CHANGE(auth_service_enable, OP_AUTH_ENABLE)
CHANGE(auth_service_disable, OP_AUTH_DISABLE)
CHANGE(user_delete, OP_AUTH_USER_DELETE)
CHANGE(user_grant_role, OP_AUTH_USER_GRANT_ROLE)
CHANGE(user_revoke_role, OP_AUTH_USER_REVOKE_ROLE)
CHANGE(role_add, OP_AUTH_ROLE_ADD)
CHANGE(role_delete, OP_AUTH_ROLE_DELETE)
CHANGE(role_grant_permission, OP_AUTH_ROLE_GRANT_PERMISSION)
CHANGE(role_revoke_permission, OP_AUTH_ROLE_REVOKE_PERMISSION)

/* Here, on a worker's thread: members must agree on the salt, and the log must not hold up for it. */
static int user_add(struct grpc_context *context, const void *message, struct grpc_stream *stream, struct kp_error *error)
{
    struct etcd_server *server = server_of(context);
    Etcdserverpb__AuthUserAddRequest request = *(const Etcdserverpb__AuthUserAddRequest *)message;
    KP_AUTO_BUF struct kp_buf hash = {0};
    char none[] = "";
    int rc = rpc_admin_only(context, error); /* also when it is applied; but hashing is not for everybody */
    if (rc)
        return rc;
    if (!request.options || !request.options->no_password) {
        enum auth_result result = auth_hash_password(server->auth, request.password, &hash);
        if (result != AUTH_OK)
            return rpc_fail(error, etcd_err_of_auth(result));
    }
    request.hashedpassword = hash.data ? hash.data : none;
    request.password = none;
    return rpc_propose(context, stream, OP_AUTH_USER_ADD, &request.base, error);
}

static int user_change_password(struct grpc_context *context, const void *message, struct grpc_stream *stream,
                                struct kp_error *error)
{
    struct etcd_server *server = server_of(context);
    Etcdserverpb__AuthUserChangePasswordRequest request =
        *(const Etcdserverpb__AuthUserChangePasswordRequest *)message;
    KP_AUTO_BUF struct kp_buf hash = {0};
    char none[] = "";
    int rc = rpc_admin_only(context, error);
    if (rc)
        return rc;
    if (request.password[0]) { /* else the hash that came with it, or none */
        enum auth_result result = auth_hash_password(server->auth, request.password, &hash);
        if (result != AUTH_OK)
            return rpc_fail(error, etcd_err_of_auth(result));
    }
    if (hash.data)
        request.hashedpassword = hash.data;
    request.password = none;
    return rpc_propose(context, stream, OP_AUTH_USER_CHANGE_PASSWORD, &request.base, error);
}

/* ---- tokens ---- */

static int reply_signed(struct etcd_server *server, const char *user, uint64_t revision, struct grpc_stream *stream,
                        struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf token = {0};
    KP_AUTO_BUF struct kp_buf out = {0};
    enum auth_result result = auth_sign_token(server->auth, user, revision, &token);
    if (result != AUTH_OK)
        return rpc_fail(error, etcd_err_of_auth(result));
    frame_begin(&out);
    encode_header(server, &out, mvcc_revision(server->mvcc));
    encode_bytes(&out, 2, token.data, token.len);
    return rpc_reply(stream, &out);
}

/* The password is checked here and does not go into the log. Should users and roles have changed meanwhile, it may be
   another one now: everything again. */
static int authenticate(struct grpc_context *context, const void *message, struct grpc_stream *stream,
                        struct kp_error *error)
{
    struct etcd_server *server = server_of(context);
    const Etcdserverpb__AuthenticateRequest *request = message;
    while (!grpc_cancelled(context)) {
        uint64_t revision;
        char prefix[AUTH_TOKEN_PREFIX_LEN + 1];
        enum auth_result result = auth_check_password(server->auth, request->name, request->password, &revision);
        if (result != AUTH_OK)
            return rpc_fail(error, etcd_err_of_auth(result));
        Etcdserverpb__AuthenticateRequest proposed = ETCDSERVERPB__AUTHENTICATE_REQUEST__INIT;
        auth_token_prefix(prefix);
        proposed.name = request->name;
        proposed.password = prefix;
        KP_AUTO(kp_blob_unref) struct kp_blob *response = NULL;
        enum etcd_err err = op_run(server, OP_AUTHENTICATE, &proposed.base, &response);
        if (err != ETCD_OK)
            return rpc_fail(error, err);
        if (auth_revision(server->auth) != revision)
            continue;
        return auth_tokens_are_simple(server->auth) ? grpc_stream_send_blob(stream, response)
                                                    : reply_signed(server, request->name, revision, stream, error);
    }
    return rpc_fail(error, ETCD_CANCELED);
}

/* ---- looking: as of now, without a log entry ---- */

/* Starts the answer once this member has all there is. */
static enum etcd_err begin_look(struct grpc_context *context, struct auth_identity *ret_who, struct kp_buf *out)
{
    struct etcd_server *server = server_of(context);
    enum etcd_err err = rpc_identity(context, ret_who);
    if (err == ETCD_OK)
        err = node_wait_read(server);
    if (err == ETCD_OK) {
        frame_begin(out);
        encode_header(server, out, mvcc_revision(server->mvcc));
    }
    return err;
}

static void encode_names(struct kp_buf *out, unsigned field, struct kp_strings *names)
{
    for (size_t i = 0; i < names->len; i++)
        encode_message(out, field, names->items[i], strlen(names->items[i]));
    kp_strings_done(names);
}

static int status(struct grpc_context *context, const void *message, struct grpc_stream *stream, struct kp_error *error)
{
    struct etcd_server *server = server_of(context);
    KP_AUTO_BUF struct kp_buf out = {0};
    struct auth_identity who;
    enum etcd_err err = begin_look(context, &who, &out);
    if (err != ETCD_OK)
        return rpc_fail(error, err);
    encode_number(&out, 2, auth_enabled(server->auth));
    encode_number(&out, 3, (int64_t)auth_revision(server->auth));
    return rpc_reply(stream, &out);
}

static int user_get(struct grpc_context *context, const void *message, struct grpc_stream *stream, struct kp_error *error)
{
    struct etcd_server *server = server_of(context);
    const Etcdserverpb__AuthUserGetRequest *request = message;
    KP_AUTO_BUF struct kp_buf out = {0};
    struct kp_strings roles = {0};
    struct auth_identity who;
    enum etcd_err err = begin_look(context, &who, &out);
    if (err == ETCD_OK && !kp_streq(who.user, request->name)) /* everybody may know their own roles */
        err = etcd_err_of_auth(auth_check_admin(server->auth, &who));
    else if (err == ETCD_OK && who.user[0] == '\0')
        err = etcd_err_of_auth(auth_check_known(server->auth, &who));
    if (err == ETCD_OK)
        err = etcd_err_of_auth(auth_user_roles(server->auth, request->name, &roles));
    if (err != ETCD_OK)
        return rpc_fail(error, err);
    encode_names(&out, 2, &roles);
    return rpc_reply(stream, &out);
}

static int list(struct grpc_context *context, struct grpc_stream *stream, struct kp_error *error,
                void (*names_of)(struct auth *auth, struct kp_strings *ret_names))
{
    struct etcd_server *server = server_of(context);
    KP_AUTO_BUF struct kp_buf out = {0};
    struct kp_strings names = {0};
    struct auth_identity who;
    enum etcd_err err = begin_look(context, &who, &out);
    if (err == ETCD_OK)
        err = etcd_err_of_auth(auth_check_admin(server->auth, &who));
    if (err != ETCD_OK)
        return rpc_fail(error, err);
    names_of(server->auth, &names);
    encode_names(&out, 2, &names);
    return rpc_reply(stream, &out);
}

static int user_list(struct grpc_context *context, const void *message, struct grpc_stream *stream, struct kp_error *error)
{
    return list(context, stream, error, auth_user_names);
}

static int role_list(struct grpc_context *context, const void *message, struct grpc_stream *stream, struct kp_error *error)
{
    return list(context, stream, error, auth_role_names);
}

static void encode_permission(void *ctx, const struct auth_permission *permission)
{
    struct kp_buf *out = ctx;
    size_t begin = encode_begin(out, 2);
    encode_number(out, 1, permission->access);
    encode_bytes(out, 2, permission->key.data, permission->key.len);
    encode_bytes(out, 3, permission->range_end.data, permission->range_end.len);
    encode_end(out, begin);
}

static int role_get(struct grpc_context *context, const void *message, struct grpc_stream *stream, struct kp_error *error)
{
    struct etcd_server *server = server_of(context);
    const Etcdserverpb__AuthRoleGetRequest *request = message;
    KP_AUTO_BUF struct kp_buf out = {0};
    struct auth_identity who;
    enum etcd_err err = begin_look(context, &who, &out);
    if (err == ETCD_OK && !auth_has_role(server->auth, who.user, request->role))
        err = etcd_err_of_auth(auth_check_admin(server->auth, &who));
    if (err == ETCD_OK)
        err = etcd_err_of_auth(auth_role_permissions(server->auth, request->role, encode_permission, &out));
    return err == ETCD_OK ? rpc_reply(stream, &out) : rpc_fail(error, err);
}

#define METHOD(name, message, handler)                                                                                 \
    {"/etcdserverpb.Auth/" name, GRPC_SERVER_STREAM, &etcdserverpb__##message##_request__descriptor,                   \
     &etcdserverpb__##message##_response__descriptor, .server_stream = handler}
const struct grpc_method auth_methods[] = {
    METHOD("AuthEnable", auth_enable, auth_service_enable),
    METHOD("AuthDisable", auth_disable, auth_service_disable),
    METHOD("AuthStatus", auth_status, status),
    METHOD("Authenticate", authenticate, authenticate),
    METHOD("UserAdd", auth_user_add, user_add),
    METHOD("UserGet", auth_user_get, user_get),
    METHOD("UserList", auth_user_list, user_list),
    METHOD("UserDelete", auth_user_delete, user_delete),
    METHOD("UserChangePassword", auth_user_change_password, user_change_password),
    METHOD("UserGrantRole", auth_user_grant_role, user_grant_role),
    METHOD("UserRevokeRole", auth_user_revoke_role, user_revoke_role),
    METHOD("RoleAdd", auth_role_add, role_add),
    METHOD("RoleGet", auth_role_get, role_get),
    METHOD("RoleList", auth_role_list, role_list),
    METHOD("RoleDelete", auth_role_delete, role_delete),
    METHOD("RoleGrantPermission", auth_role_grant_permission, role_grant_permission),
    METHOD("RoleRevokePermission", auth_role_revoke_permission, role_revoke_permission),
    {0},
};
