/* controlplane/etcd/auth: users, roles, permissions on ranges of keys, passwords and tokens. */
#ifndef ETCD_AUTH_H
#define ETCD_AUTH_H

#include "base/base.h"
#include "controlplane/etcd/backend/backend.h"

/* Users and roles are replicated state: changed by the log alone, kept in the database as etcd keeps them (authpb.User
   and authpb.Role, in buckets of etcd's names) and in memory, under a lock of its own. Tokens are in memory only. */
struct auth;

#define AUTH_NAME_MAX 500            /* bytes of a user's or role's name: BACKEND_KEY_MAX */
#define AUTH_PASSWORD_MAX 72         /* what bcrypt takes in */
#define AUTH_HASH_MAX 128
#define AUTH_TOKEN_PREFIX_LEN 16
#define AUTH_TOKENS_MAX 100000       /* simple tokens; the one nearest to its end makes room */
#define AUTH_TOKEN_TTL_S_DEFAULT 300 /* from its last use */
#define AUTH_BCRYPT_COST_DEFAULT 10
#define AUTH_ROOT "root"             /* the user who must exist, and the role that may everything */

enum auth_result {
    AUTH_OK,
    AUTH_ROOT_USER_MISSING,
    AUTH_ROOT_ROLE_MISSING,
    AUTH_USER_EXISTS,
    AUTH_USER_EMPTY, /* also: nobody said who asks */
    AUTH_USER_NOT_FOUND,
    AUTH_ROLE_EXISTS,
    AUTH_ROLE_NOT_FOUND,
    AUTH_ROLE_EMPTY,
    AUTH_FAILED,
    AUTH_NO_PASSWORD_USER,
    AUTH_PERMISSION_NOT_GIVEN,
    AUTH_DENIED,
    AUTH_ROLE_NOT_GRANTED,
    AUTH_PERMISSION_NOT_GRANTED,
    AUTH_NOT_ENABLED,
    AUTH_BAD_TOKEN,
    AUTH_BAD_MANAGEMENT,
    AUTH_OLD_REVISION,
    AUTH_VERIFY_ONLY,       /* the JWT key can check tokens, not make them */
    AUTH_PASSWORD_TOO_LONG, /* more than AUTH_PASSWORD_MAX */
    AUTH_NAME_TOO_LONG,
};

/* Who asks, and as of which revision of users and roles that was found out; revision 0: nobody said. */
struct auth_identity {
    uint64_t revision;
    char user[AUTH_NAME_MAX + 1];
};

struct auth_options {
    const char *token;   /* --auth-token: "simple" (also NULL), "jwt,sign-method=...,pub-key=...", or "" for none */
    int64_t token_ttl_s; /* --auth-token-ttl; 0: the default */
    int64_t bcrypt_cost; /* --bcrypt-cost; what bcrypt cannot do: the default */
};

/* Reads users and roles; borrows backend. */
int auth_open(struct backend *backend, const struct auth_options *options, struct auth **ret_auth, struct kp_error *error)
    KP_NODISCARD;
void auth_close(struct auth *auth); /* accepts NULL */
KP_DEFINE_AUTO(struct auth *, auth_close)
/* The database was replaced by a snapshot: takes everything from the new one, which it borrows. Tokens stay. On the apply
   thread. */
int auth_reload(struct auth *auth, struct backend *backend, struct kp_error *error) KP_NODISCARD;

bool auth_enabled(const struct auth *auth);      /* any thread; one load */
uint64_t auth_revision(const struct auth *auth); /* counts changes of users and roles, from 1 */

/* ---- permissions ---- */
enum auth_access { AUTH_READ, AUTH_WRITE, AUTH_READWRITE }; /* authpb.Permission.Type */
struct auth_permission {
    enum auth_access access;
    struct kp_bytes key, range_end; /* as in a range request: none, one NUL byte, or the end */
};
/* Fine when authentication is off. A user with the role root may everything. */
enum auth_result auth_check_range(struct auth *auth, const struct auth_identity *who, struct kp_bytes key,
                                  struct kp_bytes range_end, enum auth_access access);
enum auth_result auth_check_admin(struct auth *auth, const struct auth_identity *who);
/* Fine when authentication is off; else someone must be known. */
enum auth_result auth_check_known(struct auth *auth, const struct auth_identity *who);

/* ---- looking at users and roles: any thread ---- */
enum auth_result auth_user_roles(struct auth *auth, const char *user, struct kp_strings *ret_roles);
/* One permission on everything for the role root. Calls fn under the lock. */
enum auth_result auth_role_permissions(struct auth *auth, const char *role,
                                       void (*fn)(void *ctx, const struct auth_permission *permission), void *ctx);
void auth_user_names(struct auth *auth, struct kp_strings *ret_names);
void auth_role_names(struct auth *auth, struct kp_strings *ret_names);
bool auth_has_role(struct auth *auth, const char *user, const char *role);

/* ---- changing them: on the apply thread, under the backend's write lock, alike on every member ---- */
enum auth_result auth_enable(struct auth *auth);
void auth_disable(struct auth *auth);
/* hash_base64: the bcrypt hash, as AuthUserAddRequest.hashedPassword has it. */
enum auth_result auth_user_add(struct auth *auth, const char *name, const char *hash_base64, bool no_password);
enum auth_result auth_user_delete(struct auth *auth, const char *name);
enum auth_result auth_user_change_password(struct auth *auth, const char *name, const char *hash_base64);
enum auth_result auth_user_grant_role(struct auth *auth, const char *name, const char *role);
enum auth_result auth_user_revoke_role(struct auth *auth, const char *name, const char *role);
enum auth_result auth_role_add(struct auth *auth, const char *name);
enum auth_result auth_role_delete(struct auth *auth, const char *name);
enum auth_result auth_role_grant(struct auth *auth, const char *role, const struct auth_permission *permission);
enum auth_result auth_role_revoke(struct auth *auth, const char *role, struct kp_bytes key, struct kp_bytes range_end);
/* Makes "<prefix>.<index>" a token of the user, for simple tokens; *out stays empty for others. */
enum auth_result auth_assign_token(struct auth *auth, const char *user, const char *prefix, uint64_t index, int64_t now_ms,
                                   struct kp_buf *out);

/* ---- passwords and tokens: worker threads; the first two take as long as bcrypt's cost says ---- */
/* Appends the hash in base64. */
enum auth_result auth_hash_password(const struct auth *auth, const char *password, struct kp_buf *out_base64);
/* *ret_revision is the revision that the answer is true for. */
enum auth_result auth_check_password(struct auth *auth, const char *user, const char *password, uint64_t *ret_revision);
bool auth_tokens_are_simple(const struct auth *auth);
void auth_token_prefix(char out[AUTH_TOKEN_PREFIX_LEN + 1]);
/* Appends a signed token of the user; nothing is kept. */
enum auth_result auth_sign_token(struct auth *auth, const char *user, uint64_t revision, struct kp_buf *out);
/* Who holds this token. For a simple one, *ret_index (may be NULL) is the log index that made it, also when it is not
   known: a member that has not applied that entry yet cannot know it. */
enum auth_result auth_find_token(struct auth *auth, const char *token, int64_t now_ms, struct auth_identity *ret_who,
                                 uint64_t *ret_index);

#endif
