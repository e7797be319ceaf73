/* Opening the state of users and roles, and the questions it answers. */
#include "controlplane/etcd/auth/auth_internal.h"

/* ---- opening ---- */

static int open_tokens(struct auth *auth, const struct auth_options *options, struct kp_error *error)
{
    const char *token = options->token ? options->token : "simple";
    size_t len = strcspn(token, ",");
    if (len == 0 && token[0] == '\0') {
        auth->token_kind = TOKENS_NONE;
        return 0;
    }
    if (len == strlen("simple") && kp_starts_with(token, "simple")) {
        auth->token_kind = TOKENS_SIMPLE;
        auth->tokens = tokens_new(options->token_ttl_s);
        return 0;
    }
    if (len == strlen("jwt") && kp_starts_with(token, "jwt")) {
        auth->token_kind = TOKENS_JWT;
        return jwt_open(token[len] ? token + len + 1 : "", &auth->jwt, error);
    }
    return kp_fail(error, KP_EUSAGE, "--auth-token: unknown kind of token \"%.*s\": simple or jwt", (int)len, token);
}

int auth_open(struct backend *backend, const struct auth_options *options, struct auth **ret_auth, struct kp_error *error)
{
    KP_AUTO(auth_close) struct auth *auth = kp_calloc(1, sizeof *auth);
    pthread_rwlock_init(&auth->lock, NULL);
    auth->bcrypt_cost = password_cost(options->bcrypt_cost);
    atomic_store(&auth->revision, 1);
    int rc = open_tokens(auth, options, error);
    if (rc < 0 || (rc = auth_reload(auth, backend, error)) < 0)
        return rc;
    *ret_auth = KP_TAKE(auth);
    return 0;
}

int auth_reload(struct auth *auth, struct backend *backend, struct kp_error *error)
{
    struct auth_users users = {0};
    struct auth_roles roles = {0};
    bool enabled;
    uint64_t revision;
    int rc = records_load(backend, &users, &roles, &enabled, &revision, error);
    if (rc == 0) {
        pthread_rwlock_wrlock(&auth->lock);
        struct auth_users old_users = auth->users;
        struct auth_roles old_roles = auth->roles;
        auth->users = users;
        auth->roles = roles;
        auth->backend = backend;
        atomic_store(&auth->revision, revision);
        atomic_store(&auth->enabled, enabled);
        pthread_rwlock_unlock(&auth->lock);
        users = old_users;
        roles = old_roles;
    }
    users_done(&users);
    roles_done(&roles);
    return rc;
}

void auth_close(struct auth *auth)
{
    if (!auth)
        return;
    tokens_free(auth->tokens);
    jwt_free(auth->jwt);
    users_done(&auth->users);
    roles_done(&auth->roles);
    pthread_rwlock_destroy(&auth->lock);
    free(auth);
}

bool auth_enabled(const struct auth *auth) { return atomic_load_explicit(&auth->enabled, memory_order_acquire); }
uint64_t auth_revision(const struct auth *auth) { return atomic_load_explicit(&auth->revision, memory_order_acquire); }

/* ---- permissions ---- */

enum auth_result auth_check_range(struct auth *auth, const struct auth_identity *who, struct kp_bytes key,
                                  struct kp_bytes range_end, enum auth_access access)
{
    if (!auth_enabled(auth))
        return AUTH_OK;
    if (who->revision == 0)
        return AUTH_USER_EMPTY;
    if (who->revision < auth_revision(auth))
        return AUTH_OLD_REVISION;
    pthread_rwlock_rdlock(&auth->lock);
    const struct auth_user *user = user_find(&auth->users, who->user);
    bool allowed = user && (role_list_has(&user->roles, AUTH_ROOT) ||
                            permission_set_covers(access == AUTH_READ ? &user->read : &user->write, key, range_end));
    pthread_rwlock_unlock(&auth->lock);
    return allowed ? AUTH_OK : AUTH_DENIED;
}

enum auth_result auth_check_admin(struct auth *auth, const struct auth_identity *who)
{
    if (!auth_enabled(auth))
        return AUTH_OK;
    if (who->revision == 0 || who->user[0] == '\0')
        return AUTH_USER_EMPTY;
    pthread_rwlock_rdlock(&auth->lock);
    const struct auth_user *user = user_find(&auth->users, who->user);
    enum auth_result result = !user                                     ? AUTH_USER_NOT_FOUND
                              : role_list_has(&user->roles, AUTH_ROOT) ? AUTH_OK
                                                                       : AUTH_DENIED;
    pthread_rwlock_unlock(&auth->lock);
    return result;
}

enum auth_result auth_check_known(struct auth *auth, const struct auth_identity *who)
{
    return auth_enabled(auth) && who->revision == 0 ? AUTH_USER_EMPTY : AUTH_OK;
}

/* ---- looking at users and roles ---- */

enum auth_result auth_user_roles(struct auth *auth, const char *name, struct kp_strings *ret_roles)
{
    pthread_rwlock_rdlock(&auth->lock);
    const struct auth_user *user = user_find(&auth->users, name);
    for (size_t i = 0; user && i < user->roles.len; i++)
        kp_strings_add(ret_roles, user->roles.items[i]);
    pthread_rwlock_unlock(&auth->lock);
    return user ? AUTH_OK : AUTH_USER_NOT_FOUND;
}

enum auth_result auth_role_permissions(struct auth *auth, const char *name,
                                       void (*fn)(void *ctx, const struct auth_permission *permission), void *ctx)
{
    static const struct auth_permission everything = {
        .access = AUTH_READWRITE, .key = {(const uint8_t *)"", 0}, .range_end = {(const uint8_t *)"", 1}};
    pthread_rwlock_rdlock(&auth->lock);
    const struct auth_role *role = role_find(&auth->roles, name);
    bool root = role && kp_streq(name, AUTH_ROOT);
    if (root)
        fn(ctx, &everything);
    for (size_t i = 0; role && !root && i < role->len; i++)
        fn(ctx, &role->permissions[i]);
    pthread_rwlock_unlock(&auth->lock);
    return role ? AUTH_OK : AUTH_ROLE_NOT_FOUND;
}

void auth_user_names(struct auth *auth, struct kp_strings *ret_names)
{
    pthread_rwlock_rdlock(&auth->lock);
    for (size_t i = 0; i < auth->users.len; i++)
        kp_strings_add(ret_names, auth->users.items[i].name);
    pthread_rwlock_unlock(&auth->lock);
}

void auth_role_names(struct auth *auth, struct kp_strings *ret_names)
{
    pthread_rwlock_rdlock(&auth->lock);
    for (size_t i = 0; i < auth->roles.len; i++)
        kp_strings_add(ret_names, auth->roles.items[i].name);
    pthread_rwlock_unlock(&auth->lock);
}

bool auth_has_role(struct auth *auth, const char *name, const char *role)
{
    pthread_rwlock_rdlock(&auth->lock);
    const struct auth_user *user = user_find(&auth->users, name);
    bool has = user && role_list_has(&user->roles, role);
    pthread_rwlock_unlock(&auth->lock);
    return has;
}

/* ---- passwords ---- */

enum auth_result auth_hash_password(const struct auth *auth, const char *password, struct kp_buf *out_base64)
{
    char hash[AUTH_HASH_MAX];
    if (strlen(password) > AUTH_PASSWORD_MAX)
        return AUTH_PASSWORD_TOO_LONG;
    if (!password_hash(password, auth->bcrypt_cost, hash))
        return AUTH_NO_PASSWORD_USER;
    kp_base64_encode(out_base64, hash, strlen(hash));
    return AUTH_OK;
}

/* Takes a hash's time also for a user that is not there, whose name must not show by how quickly it is refused. */
static void spend_time(struct auth *auth, const char *password)
{
    char hash[AUTH_HASH_MAX];
    (void)password_hash(password, auth->bcrypt_cost, hash);
}

enum auth_result auth_check_password(struct auth *auth, const char *name, const char *password, uint64_t *ret_revision)
{
    if (!auth_enabled(auth))
        return AUTH_NOT_ENABLED;
    char hash[AUTH_HASH_MAX] = "";
    pthread_rwlock_rdlock(&auth->lock);
    const struct auth_user *user = user_find(&auth->users, name);
    bool no_password = user && user->no_password;
    if (user && user->hash)
        snprintf(hash, sizeof hash, "%s", user->hash);
    *ret_revision = auth_revision(auth);
    pthread_rwlock_unlock(&auth->lock);
    if (no_password)
        return AUTH_NO_PASSWORD_USER;
    if (hash[0] == '\0') {
        spend_time(auth, password);
        return AUTH_FAILED;
    }
    bool matches = password_matches(password, hash);
    explicit_bzero(hash, sizeof hash);
    return matches ? AUTH_OK : AUTH_FAILED;
}

/* ---- tokens ---- */

bool auth_tokens_are_simple(const struct auth *auth) { return auth->token_kind == TOKENS_SIMPLE; }

void auth_token_prefix(char out[AUTH_TOKEN_PREFIX_LEN + 1])
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    enum { LETTERS = sizeof letters - 1, FAIR = 256 - 256 % LETTERS };
    for (size_t i = 0; i < AUTH_TOKEN_PREFIX_LEN;) {
        uint8_t byte;
        kp_random_bytes(&byte, 1);
        if (byte < FAIR)
            out[i++] = letters[byte % LETTERS];
    }
    out[AUTH_TOKEN_PREFIX_LEN] = '\0';
}

enum auth_result auth_assign_token(struct auth *auth, const char *name, const char *prefix, uint64_t index, int64_t now_ms,
                                   struct kp_buf *out)
{
    if (!auth_enabled(auth))
        return AUTH_NOT_ENABLED;
    pthread_rwlock_rdlock(&auth->lock);
    const struct auth_user *user = user_find(&auth->users, name);
    bool fine = user && !user->no_password;
    pthread_rwlock_unlock(&auth->lock);
    if (!fine)
        return AUTH_FAILED;
    if (auth->token_kind != TOKENS_SIMPLE)
        return AUTH_OK;
    kp_buf_printf(out, "%s.%llu", prefix, (unsigned long long)index);
    tokens_add(auth->tokens, out->data, name, now_ms);
    return AUTH_OK;
}

enum auth_result auth_sign_token(struct auth *auth, const char *user, uint64_t revision, struct kp_buf *out)
{
    return auth->token_kind == TOKENS_JWT ? jwt_sign(auth->jwt, user, revision, kp_now_s(), out) : AUTH_BAD_TOKEN;
}

enum auth_result auth_find_token(struct auth *auth, const char *token, int64_t now_ms, struct auth_identity *ret_who,
                                 uint64_t *ret_index)
{
    uint64_t index = 0;
    if (ret_index)
        *ret_index = 0;
    if (auth->token_kind == TOKENS_JWT)
        return jwt_verify(auth->jwt, token, kp_now_s(), ret_who);
    if (auth->token_kind != TOKENS_SIMPLE || !token_index(token, &index))
        return AUTH_BAD_TOKEN;
    if (ret_index)
        *ret_index = index;
    /* The revision first: a change in between makes it stale, never too new. */
    ret_who->revision = auth_revision(auth);
    return tokens_find(auth->tokens, token, now_ms, ret_who->user) ? AUTH_OK : AUTH_BAD_TOKEN;
}
