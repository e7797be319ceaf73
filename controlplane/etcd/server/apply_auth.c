/* Applying changes of users and roles, and the making of tokens. */
#include "controlplane/etcd/server/server_internal.h"

enum { AUTHENTICATE_RESPONSE_TOKEN = 2 };

bool op_is_auth(enum op_kind kind) { return kind >= OP_AUTHENTICATE && kind <= OP_AUTH_ROLE_REVOKE_PERMISSION; }

/* The index makes the token the only one of its kind, and tells a member that lags that it cannot know it yet. */
static enum auth_result authenticate(struct etcd_server *server, uint64_t index,
                                     const Etcdserverpb__AuthenticateRequest *request, struct kp_buf *out)
{
    KP_AUTO_BUF struct kp_buf token = {0};
    enum auth_result result =
        auth_assign_token(server->auth, request->name, request->password, index, kp_mono_ms(), &token);
    if (result == AUTH_OK && out)
        encode_bytes(out, AUTHENTICATE_RESPONSE_TOKEN, token.data, token.len);
    return result;
}

static enum auth_result role_grant(struct etcd_server *server, const Etcdserverpb__AuthRoleGrantPermissionRequest *request)
{
    if (!request->perm)
        return auth_role_grant(server->auth, request->name, NULL);
    struct auth_permission permission = {.access = (enum auth_access)request->perm->permtype,
                                         .key = bytes_of(request->perm->key),
                                         .range_end = bytes_of(request->perm->range_end)};
    return auth_role_grant(server->auth, request->name, &permission);
}

static enum auth_result change_user(struct auth *auth, enum op_kind kind, const void *r)
{
    switch (kind) {
    case OP_AUTH_USER_ADD: {
        const Etcdserverpb__AuthUserAddRequest *add = r;
        return auth_user_add(auth, add->name, add->hashedpassword, add->options && add->options->no_password);
    }
    case OP_AUTH_USER_DELETE: return auth_user_delete(auth, ((const Etcdserverpb__AuthUserDeleteRequest *)r)->name);
    case OP_AUTH_USER_CHANGE_PASSWORD: {
        const Etcdserverpb__AuthUserChangePasswordRequest *change = r;
        return auth_user_change_password(auth, change->name, change->hashedpassword);
    }
    case OP_AUTH_USER_GRANT_ROLE: {
        const Etcdserverpb__AuthUserGrantRoleRequest *grant = r;
        return auth_user_grant_role(auth, grant->user, grant->role);
    }
    default: {
        const Etcdserverpb__AuthUserRevokeRoleRequest *revoke = r;
        return auth_user_revoke_role(auth, revoke->name, revoke->role);
    }
    }
}

enum etcd_err apply_auth(struct etcd_server *server, uint64_t index, enum op_kind kind, const ProtobufCMessage *request,
                         struct kp_buf *out)
{
    const void *r = request;
    struct auth *auth = server->auth;
    switch (kind) {
    case OP_AUTHENTICATE: return etcd_err_of_auth(authenticate(server, index, r, out));
    case OP_AUTH_ENABLE: return etcd_err_of_auth(auth_enable(auth));
    case OP_AUTH_DISABLE: auth_disable(auth); return ETCD_OK;
    case OP_AUTH_ROLE_ADD: return etcd_err_of_auth(auth_role_add(auth, ((const Etcdserverpb__AuthRoleAddRequest *)r)->name));
    case OP_AUTH_ROLE_DELETE:
        return etcd_err_of_auth(auth_role_delete(auth, ((const Etcdserverpb__AuthRoleDeleteRequest *)r)->role));
    case OP_AUTH_ROLE_GRANT_PERMISSION: return etcd_err_of_auth(role_grant(server, r));
    case OP_AUTH_ROLE_REVOKE_PERMISSION: {
        const Etcdserverpb__AuthRoleRevokePermissionRequest *revoke = r;
        return etcd_err_of_auth(auth_role_revoke(auth, revoke->role, bytes_of(revoke->key), bytes_of(revoke->range_end)));
    }
    default: return etcd_err_of_auth(change_user(auth, kind, r));
    }
}
