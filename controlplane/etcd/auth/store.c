/* Changing users and roles, as the log says. Every change counts the revision up, which makes older tokens' answers stale. */
#include "controlplane/etcd/auth/auth_internal.h"

static void count_revision(struct auth *auth)
{
    uint64_t revision = atomic_fetch_add(&auth->revision, 1) + 1;
    record_put_revision(auth->backend, revision);
}

/* A user was changed: kept, and what it may computed anew. */
static void store_user(struct auth *auth, struct auth_user *user)
{
    record_put_user(auth->backend, user);
    user_refresh(&auth->roles, user);
}

static void drop_tokens(struct auth *auth, const char *user)
{
    if (auth->tokens)
        tokens_drop_user(auth->tokens, user);
}

/* ---- on and off ---- */

enum auth_result auth_enable(struct auth *auth)
{
    if (atomic_load(&auth->enabled))
        return AUTH_OK;
    const struct auth_user *root = user_find(&auth->users, AUTH_ROOT);
    if (!root)
        return AUTH_ROOT_USER_MISSING;
    if (!role_list_has(&root->roles, AUTH_ROOT))
        return AUTH_ROOT_ROLE_MISSING;
    record_put_enabled(auth->backend, true);
    atomic_store(&auth->enabled, true);
    return AUTH_OK;
}

void auth_disable(struct auth *auth)
{
    if (!atomic_load(&auth->enabled))
        return;
    record_put_enabled(auth->backend, false);
    count_revision(auth);
    atomic_store(&auth->enabled, false);
    if (auth->tokens)
        tokens_clear(auth->tokens);
}

/* ---- users ---- */

/* *ret_hash is NULL for no hash at all: then nobody's password is right. */
static bool decode_hash(const char *hash_base64, char **ret_hash)
{
    struct kp_buf hash = {0};
    bool fine = kp_base64_decode(&hash, hash_base64, strlen(hash_base64)) == 0 && hash.len < AUTH_HASH_MAX;
    *ret_hash = fine && hash.len ? kp_buf_take(&hash) : NULL;
    kp_buf_done(&hash);
    return fine;
}

static enum auth_result user_add(struct auth *auth, const char *name, const char *hash_base64, bool no_password)
{
    if (name[0] == '\0')
        return AUTH_USER_EMPTY;
    if (strlen(name) > AUTH_NAME_MAX)
        return AUTH_NAME_TOO_LONG;
    if (user_find(&auth->users, name))
        return AUTH_USER_EXISTS;
    char *hash = NULL;
    if (!no_password && !decode_hash(hash_base64, &hash))
        return AUTH_NO_PASSWORD_USER;
    struct auth_user *user = user_insert(&auth->users, name);
    user->hash = hash;
    user->no_password = no_password;
    store_user(auth, user);
    count_revision(auth);
    return AUTH_OK;
}

static enum auth_result user_delete(struct auth *auth, const char *name)
{
    if (atomic_load(&auth->enabled) && kp_streq(name, AUTH_ROOT))
        return AUTH_BAD_MANAGEMENT;
    struct auth_user *user = user_find(&auth->users, name);
    if (!user)
        return AUTH_USER_NOT_FOUND;
    backend_delete(auth->backend, BACKEND_AUTH_USERS, name, strlen(name));
    user_remove(&auth->users, user);
    count_revision(auth);
    drop_tokens(auth, name);
    return AUTH_OK;
}

static enum auth_result user_change_password(struct auth *auth, const char *name, const char *hash_base64)
{
    struct auth_user *user = user_find(&auth->users, name);
    if (!user)
        return AUTH_USER_NOT_FOUND;
    if (!user->no_password) {
        char *hash;
        if (!decode_hash(hash_base64, &hash))
            return AUTH_NO_PASSWORD_USER;
        free(user->hash);
        user->hash = hash;
    }
    store_user(auth, user);
    count_revision(auth);
    drop_tokens(auth, name);
    return AUTH_OK;
}

static int order_strings(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static enum auth_result user_grant_role(struct auth *auth, const char *name, const char *role)
{
    struct auth_user *user = user_find(&auth->users, name);
    if (!user)
        return AUTH_USER_NOT_FOUND;
    if (!kp_streq(role, AUTH_ROOT) && !role_find(&auth->roles, role)) /* the role root need not be made */
        return AUTH_ROLE_NOT_FOUND;
    if (role_list_has(&user->roles, role))
        return AUTH_OK;
    kp_strings_add(&user->roles, role);
    qsort(user->roles.items, user->roles.len, sizeof(char *), order_strings);
    store_user(auth, user);
    count_revision(auth);
    return AUTH_OK;
}

static bool take_role(struct kp_strings *roles, const char *role)
{
    size_t kept = 0;
    for (size_t i = 0; i < roles->len; i++) {
        if (kp_streq(roles->items[i], role))
            free(roles->items[i]);
        else
            roles->items[kept++] = roles->items[i];
    }
    bool taken = kept < roles->len;
    roles->len = kept;
    return taken;
}

static enum auth_result user_revoke_role(struct auth *auth, const char *name, const char *role)
{
    if (atomic_load(&auth->enabled) && kp_streq(name, AUTH_ROOT) && kp_streq(role, AUTH_ROOT))
        return AUTH_BAD_MANAGEMENT;
    struct auth_user *user = user_find(&auth->users, name);
    if (!user)
        return AUTH_USER_NOT_FOUND;
    if (!take_role(&user->roles, role))
        return AUTH_ROLE_NOT_GRANTED;
    store_user(auth, user);
    count_revision(auth);
    return AUTH_OK;
}

/* ---- roles ---- */

static enum auth_result role_add(struct auth *auth, const char *name)
{
    if (name[0] == '\0')
        return AUTH_ROLE_EMPTY;
    if (strlen(name) > AUTH_NAME_MAX)
        return AUTH_NAME_TOO_LONG;
    if (role_find(&auth->roles, name))
        return AUTH_ROLE_EXISTS;
    record_put_role(auth->backend, role_insert(&auth->roles, name));
    count_revision(auth);
    return AUTH_OK;
}

static void refresh_holders(struct auth *auth, const char *role)
{
    for (size_t i = 0; i < auth->users.len; i++)
        if (role_list_has(&auth->users.items[i].roles, role))
            user_refresh(&auth->roles, &auth->users.items[i]);
}

static enum auth_result role_delete(struct auth *auth, const char *name)
{
    if (atomic_load(&auth->enabled) && kp_streq(name, AUTH_ROOT))
        return AUTH_BAD_MANAGEMENT;
    struct auth_role *role = role_find(&auth->roles, name);
    if (!role)
        return AUTH_ROLE_NOT_FOUND;
    backend_delete(auth->backend, BACKEND_AUTH_ROLES, name, strlen(name));
    role_remove(&auth->roles, role);
    for (size_t i = 0; i < auth->users.len; i++)
        if (take_role(&auth->users.items[i].roles, name))
            store_user(auth, &auth->users.items[i]);
    count_revision(auth);
    return AUTH_OK;
}

static bool bytes_equal(struct kp_bytes a, struct kp_bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static int bytes_order(struct kp_bytes a, struct kp_bytes b)
{
    size_t len = KP_MIN(a.len, b.len);
    int order = len ? memcmp(a.data, b.data, len) : 0;
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

static enum auth_result role_grant(struct auth *auth, const char *name, const struct auth_permission *permission)
{
    if (!permission)
        return AUTH_PERMISSION_NOT_GIVEN;
    if (!permission_is_valid(permission->key, permission->range_end))
        return AUTH_BAD_MANAGEMENT;
    struct auth_role *role = role_find(&auth->roles, name);
    if (!role)
        return AUTH_ROLE_NOT_FOUND;
    size_t at = 0;
    while (at < role->len && !(bytes_equal(role->permissions[at].key, permission->key) &&
                               bytes_equal(role->permissions[at].range_end, permission->range_end)))
        at++;
    if (at == role->len) {
        for (at = 0; at < role->len && bytes_order(role->permissions[at].key, permission->key) <= 0;)
            at++;
        role->permissions = kp_realloc(role->permissions, (role->len + 1) * sizeof *role->permissions);
        memmove(&role->permissions[at + 1], &role->permissions[at], (role->len - at) * sizeof *role->permissions);
        role->len++;
        role->permissions[at] = (struct auth_permission){.key = bytes_copy(permission->key),
                                                         .range_end = bytes_copy(permission->range_end)};
    }
    role->permissions[at].access = permission->access;
    record_put_role(auth->backend, role);
    refresh_holders(auth, name);
    count_revision(auth);
    return AUTH_OK;
}

static enum auth_result role_revoke(struct auth *auth, const char *name, struct kp_bytes key, struct kp_bytes range_end)
{
    struct auth_role *role = role_find(&auth->roles, name);
    if (!role)
        return AUTH_ROLE_NOT_FOUND;
    size_t kept = 0;
    for (size_t i = 0; i < role->len; i++) {
        struct auth_permission *permission = &role->permissions[i];
        if (bytes_equal(permission->key, key) && bytes_equal(permission->range_end, range_end)) {
            free((void *)(uintptr_t)permission->key.data);
            free((void *)(uintptr_t)permission->range_end.data);
        } else {
            role->permissions[kept++] = *permission;
        }
    }
    if (kept == role->len)
        return AUTH_PERMISSION_NOT_GRANTED;
    role->len = kept;
    record_put_role(auth->backend, role);
    refresh_holders(auth, name);
    count_revision(auth);
    return AUTH_OK;
}

/* ---- the same under the lock ---- */

#define LOCKED(auth, call)                                                                                             \
    __extension__({                                                                                                    \
        pthread_rwlock_wrlock(&(auth)->lock);                                                                          \
        enum auth_result result_ = (call);                                                                             \
        pthread_rwlock_unlock(&(auth)->lock);                                                                          \
        result_;                                                                                                       \
    })

enum auth_result auth_user_add(struct auth *auth, const char *name, const char *hash_base64, bool no_password)
{
    return LOCKED(auth, user_add(auth, name, hash_base64, no_password));
}

enum auth_result auth_user_delete(struct auth *auth, const char *name) { return LOCKED(auth, user_delete(auth, name)); }

enum auth_result auth_user_change_password(struct auth *auth, const char *name, const char *hash_base64)
{
    return LOCKED(auth, user_change_password(auth, name, hash_base64));
}

enum auth_result auth_user_grant_role(struct auth *auth, const char *name, const char *role)
{
    return LOCKED(auth, user_grant_role(auth, name, role));
}

enum auth_result auth_user_revoke_role(struct auth *auth, const char *name, const char *role)
{
    return LOCKED(auth, user_revoke_role(auth, name, role));
}

enum auth_result auth_role_add(struct auth *auth, const char *name) { return LOCKED(auth, role_add(auth, name)); }

enum auth_result auth_role_delete(struct auth *auth, const char *name) { return LOCKED(auth, role_delete(auth, name)); }

enum auth_result auth_role_grant(struct auth *auth, const char *role, const struct auth_permission *permission)
{
    return LOCKED(auth, role_grant(auth, role, permission));
}

enum auth_result auth_role_revoke(struct auth *auth, const char *role, struct kp_bytes key, struct kp_bytes range_end)
{
    return LOCKED(auth, role_revoke(auth, role, key, range_end));
}
