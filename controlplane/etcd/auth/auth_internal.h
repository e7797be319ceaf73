/* What the files of the module share. */
#ifndef ETCD_AUTH_INTERNAL_H
#define ETCD_AUTH_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "controlplane/etcd/auth/auth.h"
#include "tls/tls.h"

/* ---- permission.c: pure ---- */
struct interval {
    struct kp_bytes begin, end; /* owned */
    bool open;                  /* no end */
};
struct permission_set {
    struct interval *items; /* apart from each other, ascending */
    size_t len;
};
/* etcd's rule for what may be granted. */
bool permission_is_valid(struct kp_bytes key, struct kp_bytes range_end);
/* Adds to the list, unsorted; permission_set_merge makes it a set. */
void permission_set_add(struct permission_set *set, struct kp_bytes key, struct kp_bytes range_end);
void permission_set_merge(struct permission_set *set);
/* Is every key of the request in the union of the set? */
bool permission_set_covers(const struct permission_set *set, struct kp_bytes key, struct kp_bytes range_end);
void permission_set_done(struct permission_set *set);

/* ---- password.c ---- */
int password_cost(int64_t wanted); /* the default for what bcrypt cannot do */
bool password_hash(const char *password, int cost, char out[AUTH_HASH_MAX]); /* "$2a$..." */
bool password_matches(const char *password, const char *hash);

/* ---- token.c: simple tokens ---- */
struct tokens;
struct tokens *tokens_new(int64_t ttl_s);
void tokens_free(struct tokens *tokens); /* accepts NULL */
void tokens_add(struct tokens *tokens, const char *token, const char *user, int64_t now_ms);
/* Gives the token its whole time again. */
bool tokens_find(struct tokens *tokens, const char *token, int64_t now_ms, char user[AUTH_NAME_MAX + 1]);
void tokens_drop_user(struct tokens *tokens, const char *user);
void tokens_clear(struct tokens *tokens);
size_t tokens_len(struct tokens *tokens);
/* "<prefix>.<index>" */
bool token_index(const char *token, uint64_t *ret_index);

/* ---- jwt.c ---- */
struct jwt;
/* options: what follows "jwt," in --auth-token. */
int jwt_open(const char *options, struct jwt **ret_jwt, struct kp_error *error) KP_NODISCARD;
void jwt_free(struct jwt *jwt); /* accepts NULL */
enum auth_result jwt_sign(const struct jwt *jwt, const char *user, uint64_t revision, int64_t now_s, struct kp_buf *out);
enum auth_result jwt_verify(const struct jwt *jwt, const char *token, int64_t now_s, struct auth_identity *ret_who);

/* ---- the state ---- */
struct auth_user {
    char *name, *hash; /* hash: NULL with no_password */
    bool no_password;
    struct kp_strings roles; /* ascending */
    struct permission_set read, write;
};
struct auth_role {
    char *name;
    struct auth_permission *permissions; /* by key; bytes owned */
    size_t len;
};
struct auth_users {
    struct auth_user *items; /* by name */
    size_t len, cap;
};
struct auth_roles {
    struct auth_role *items; /* by name */
    size_t len, cap;
};
struct auth {
    struct backend *backend;
    pthread_rwlock_t lock; /* guards users and roles */
    struct auth_users users;
    struct auth_roles roles;
    _Atomic bool enabled;
    _Atomic uint64_t revision;
    enum { TOKENS_NONE, TOKENS_SIMPLE, TOKENS_JWT } token_kind;
    struct tokens *tokens;
    struct jwt *jwt;
    int bcrypt_cost;
};
bool role_list_has(const struct kp_strings *roles, const char *role);
struct kp_bytes bytes_copy(struct kp_bytes bytes); /* caller frees data */
/* ---- lists.c ---- */
struct auth_user *user_find(const struct auth_users *users, const char *name);
struct auth_role *role_find(const struct auth_roles *roles, const char *name);
struct auth_user *user_insert(struct auth_users *users, const char *name);
struct auth_role *role_insert(struct auth_roles *roles, const char *name);
void user_remove(struct auth_users *users, struct auth_user *user);
void role_remove(struct auth_roles *roles, struct auth_role *role);
void user_refresh(const struct auth_roles *roles, struct auth_user *user); /* its permissions, merged */
void users_done(struct auth_users *users);
void roles_done(struct auth_roles *roles);
/* records.c: authpb in the database */
void record_put_user(struct backend *backend, const struct auth_user *user);
void record_put_role(struct backend *backend, const struct auth_role *role);
void record_put_enabled(struct backend *backend, bool enabled);
void record_put_revision(struct backend *backend, uint64_t revision);
int records_load(struct backend *backend, struct auth_users *users, struct auth_roles *roles, bool *ret_enabled,
                 uint64_t *ret_revision, struct kp_error *error) KP_NODISCARD;

#endif
