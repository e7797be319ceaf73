/* Users, roles, passwords and tokens over a database of their own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "controlplane/etcd/auth/auth_internal.h"
#include "proto/auth.pb-c.h"

struct fixture {
    char dir[64], path[96];
    struct backend *backend;
    struct auth *auth;
};

static struct kp_bytes B(const char *s) { return (struct kp_bytes){(const uint8_t *)s, strlen(s)}; }

static void open_all(struct fixture *f, const char *token)
{
    struct kp_error error = {0};
    struct backend_options backend_options = {.batch_interval_ms = 10};
    struct auth_options options = {.token = token, .bcrypt_cost = 4};
    assert_int_equal(backend_open(f->path, &backend_options, &f->backend, &error), 0);
    assert_int_equal(auth_open(f->backend, &options, &f->auth, &error), 0);
    assert_int_equal(error.code, 0);
}

static void close_all(struct fixture *f)
{
    auth_close(f->auth);
    backend_close(f->backend);
}

static int setup(void **state)
{
    struct fixture *f = kp_calloc(1, sizeof *f);
    strcpy(f->dir, "/tmp/test-auth-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof f->path, "%s/db", f->dir);
    open_all(f, NULL);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    close_all(f);
    assert_int_equal(kp_remove_tree(f->dir, NULL), 0);
    free(f);
    return 0;
}

/* What the log does: under the backend's lock. */
#define APPLY(f, call)                                                                                                 \
    __extension__({                                                                                                    \
        backend_write_lock((f)->backend);                                                                              \
        enum auth_result applied_ = (call);                                                                            \
        backend_write_unlock((f)->backend);                                                                            \
        applied_;                                                                                                      \
    })

static void add_user(struct fixture *f, const char *name, const char *password)
{
    KP_AUTO_BUF struct kp_buf hash = {0};
    assert_int_equal(auth_hash_password(f->auth, password, &hash), AUTH_OK);
    assert_int_equal(APPLY(f, auth_user_add(f->auth, name, hash.data, false)), AUTH_OK);
}

static void grant(struct fixture *f, const char *role, enum auth_access access, const char *key, const char *end)
{
    struct auth_permission permission = {.access = access, .key = B(key), .range_end = B(end)};
    assert_int_equal(APPLY(f, auth_role_grant(f->auth, role, &permission)), AUTH_OK);
}

static void enable(struct fixture *f)
{
    add_user(f, "root", "secret");
    assert_int_equal(APPLY(f, auth_user_grant_role(f->auth, "root", "root")), AUTH_OK);
    assert_int_equal(APPLY(f, auth_enable(f->auth)), AUTH_OK);
}

static enum auth_result may(struct fixture *f, const char *user, enum auth_access access, const char *key)
{
    struct auth_identity who = {.revision = auth_revision(f->auth)};
    snprintf(who.user, sizeof who.user, "%s", user);
    return auth_check_range(f->auth, &who, B(key), B(""), access);
}

static void authentication_needs_a_root_user_with_the_root_role(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(APPLY(f, auth_enable(f->auth)), AUTH_ROOT_USER_MISSING);
    add_user(f, "root", "secret");
    assert_int_equal(APPLY(f, auth_enable(f->auth)), AUTH_ROOT_ROLE_MISSING);
    assert_false(auth_enabled(f->auth));
    assert_int_equal(APPLY(f, auth_user_grant_role(f->auth, "root", "root")), AUTH_OK);
    uint64_t before = auth_revision(f->auth);
    assert_int_equal(APPLY(f, auth_enable(f->auth)), AUTH_OK);
    assert_true(auth_enabled(f->auth));
    assert_int_equal(auth_revision(f->auth), before);
    assert_int_equal(APPLY(f, auth_user_delete(f->auth, "root")), AUTH_BAD_MANAGEMENT);
    assert_int_equal(APPLY(f, auth_user_revoke_role(f->auth, "root", "root")), AUTH_BAD_MANAGEMENT);
    assert_int_equal(APPLY(f, auth_role_delete(f->auth, "root")), AUTH_BAD_MANAGEMENT);
}

static void permissions_follow_users_and_roles(void **state)
{
    struct fixture *f = *state;
    add_user(f, "alice", "pw");
    assert_int_equal(APPLY(f, auth_role_add(f->auth, "r")), AUTH_OK);
    grant(f, "r", AUTH_READ, "a", "c");
    grant(f, "r", AUTH_READWRITE, "k", "");
    assert_int_equal(may(f, "alice", AUTH_WRITE, "zzz"), AUTH_OK); /* not enabled yet */
    enable(f);
    assert_int_equal(may(f, "alice", AUTH_READ, "b"), AUTH_DENIED);
    assert_int_equal(APPLY(f, auth_user_grant_role(f->auth, "alice", "r")), AUTH_OK);
    assert_int_equal(may(f, "alice", AUTH_READ, "b"), AUTH_OK);
    assert_int_equal(may(f, "alice", AUTH_WRITE, "b"), AUTH_DENIED);
    assert_int_equal(may(f, "alice", AUTH_WRITE, "k"), AUTH_OK);
    grant(f, "r", AUTH_WRITE, "k", ""); /* the same range: replaced */
    assert_int_equal(may(f, "alice", AUTH_READ, "k"), AUTH_DENIED);
    assert_int_equal(APPLY(f, auth_role_revoke(f->auth, "r", B("a"), B("c"))), AUTH_OK);
    assert_int_equal(may(f, "alice", AUTH_READ, "b"), AUTH_DENIED);
    assert_int_equal(APPLY(f, auth_role_revoke(f->auth, "r", B("a"), B("c"))), AUTH_PERMISSION_NOT_GRANTED);
    assert_int_equal(APPLY(f, auth_role_delete(f->auth, "r")), AUTH_OK);
    assert_int_equal(may(f, "alice", AUTH_WRITE, "k"), AUTH_DENIED);
    assert_false(auth_has_role(f->auth, "alice", "r"));
    assert_int_equal(may(f, "root", AUTH_WRITE, "anything"), AUTH_OK);
    assert_int_equal(may(f, "ghost", AUTH_READ, "b"), AUTH_DENIED);
}

static void who_asks_must_be_known_and_up_to_date(void **state)
{
    struct fixture *f = *state;
    struct auth_identity nobody = {0}, root = {.user = "root"};
    enable(f);
    assert_int_equal(auth_check_range(f->auth, &nobody, B("a"), B(""), AUTH_READ), AUTH_USER_EMPTY);
    assert_int_equal(auth_check_admin(f->auth, &nobody), AUTH_USER_EMPTY);
    root.revision = auth_revision(f->auth);
    assert_int_equal(auth_check_admin(f->auth, &root), AUTH_OK);
    assert_int_equal(APPLY(f, auth_role_add(f->auth, "r")), AUTH_OK);
    assert_int_equal(auth_check_range(f->auth, &root, B("a"), B(""), AUTH_READ), AUTH_OLD_REVISION);
    strcpy(root.user, "ghost");
    assert_int_equal(auth_check_admin(f->auth, &root), AUTH_USER_NOT_FOUND);
}

static void what_cannot_be_is_refused(void **state)
{
    struct fixture *f = *state;
    char *huge = kp_malloc(AUTH_NAME_MAX + 2);
    memset(huge, 'n', AUTH_NAME_MAX + 1);
    huge[AUTH_NAME_MAX + 1] = '\0';
    assert_int_equal(APPLY(f, auth_user_add(f->auth, "", "", true)), AUTH_USER_EMPTY);
    assert_int_equal(APPLY(f, auth_user_add(f->auth, huge, "", true)), AUTH_NAME_TOO_LONG);
    assert_int_equal(APPLY(f, auth_role_add(f->auth, huge)), AUTH_NAME_TOO_LONG);
    free(huge);
    assert_int_equal(APPLY(f, auth_user_add(f->auth, "u", "no base64!", false)), AUTH_NO_PASSWORD_USER);
    assert_int_equal(APPLY(f, auth_user_add(f->auth, "u", "", true)), AUTH_OK);
    assert_int_equal(APPLY(f, auth_user_add(f->auth, "u", "", true)), AUTH_USER_EXISTS);
    assert_int_equal(APPLY(f, auth_role_add(f->auth, "")), AUTH_ROLE_EMPTY);
    assert_int_equal(APPLY(f, auth_role_add(f->auth, "r")), AUTH_OK);
    assert_int_equal(APPLY(f, auth_role_add(f->auth, "r")), AUTH_ROLE_EXISTS);
    assert_int_equal(APPLY(f, auth_role_grant(f->auth, "r", NULL)), AUTH_PERMISSION_NOT_GIVEN);
    assert_int_equal(APPLY(f, auth_user_grant_role(f->auth, "u", "q")), AUTH_ROLE_NOT_FOUND);
    assert_int_equal(APPLY(f, auth_user_grant_role(f->auth, "v", "r")), AUTH_USER_NOT_FOUND);
    assert_int_equal(APPLY(f, auth_user_revoke_role(f->auth, "u", "r")), AUTH_ROLE_NOT_GRANTED);
    assert_int_equal(APPLY(f, auth_role_delete(f->auth, "q")), AUTH_ROLE_NOT_FOUND);
    uint64_t before = auth_revision(f->auth);
    assert_int_equal(APPLY(f, auth_user_grant_role(f->auth, "u", "r")), AUTH_OK);
    assert_int_equal(APPLY(f, auth_user_grant_role(f->auth, "u", "r")), AUTH_OK); /* again: nothing happens */
    assert_int_equal(auth_revision(f->auth), before + 1);
}

static void everything_is_there_after_a_restart(void **state)
{
    struct fixture *f = *state;
    add_user(f, "alice", "pw");
    assert_int_equal(APPLY(f, auth_user_add(f->auth, "certified", "", true)), AUTH_OK);
    assert_int_equal(APPLY(f, auth_role_add(f->auth, "r")), AUTH_OK);
    grant(f, "r", AUTH_READ, "a", "c");
    assert_int_equal(APPLY(f, auth_user_grant_role(f->auth, "alice", "r")), AUTH_OK);
    enable(f);
    uint64_t revision = auth_revision(f->auth), checked;
    close_all(f);
    open_all(f, NULL);
    assert_true(auth_enabled(f->auth));
    assert_int_equal(auth_revision(f->auth), revision);
    assert_int_equal(may(f, "alice", AUTH_READ, "b"), AUTH_OK);
    assert_int_equal(may(f, "alice", AUTH_WRITE, "b"), AUTH_DENIED);
    assert_int_equal(auth_check_password(f->auth, "alice", "pw", &checked), AUTH_OK);
    assert_int_equal(checked, revision);
    assert_int_equal(auth_check_password(f->auth, "alice", "PW", &checked), AUTH_FAILED);
    assert_int_equal(auth_check_password(f->auth, "ghost", "pw", &checked), AUTH_FAILED);
    assert_int_equal(auth_check_password(f->auth, "certified", "pw", &checked), AUTH_NO_PASSWORD_USER);
    backend_write_lock(f->backend);
    auth_disable(f->auth);
    backend_write_unlock(f->backend);
    assert_int_equal(auth_revision(f->auth), revision + 1);
    close_all(f);
    open_all(f, NULL);
    assert_false(auth_enabled(f->auth));
    assert_int_equal(auth_check_password(f->auth, "alice", "pw", &checked), AUTH_NOT_ENABLED);
}

/* Stock etcd reads these bytes from a snapshot. */
static void records_are_those_of_etcd(void **state)
{
    struct fixture *f = *state;
    KP_AUTO(backend_reader_end) struct backend_reader *reader = NULL;
    struct kp_error error = {0};
    struct kp_bytes value;
    add_user(f, "alice", "pw");
    assert_int_equal(APPLY(f, auth_role_add(f->auth, "r")), AUTH_OK);
    grant(f, "r", AUTH_READWRITE, "a", "c");
    assert_int_equal(APPLY(f, auth_user_grant_role(f->auth, "alice", "r")), AUTH_OK);
    assert_int_equal(backend_commit(f->backend, &error), 0);
    assert_int_equal(backend_reader_begin(f->backend, &reader, &error), 0);
    assert_int_equal(backend_reader_get(reader, BACKEND_AUTH, "authRevision", 12, &value, &error), 0);
    assert_int_equal(value.len, 8);
    assert_memory_equal(value.data, "\0\0\0\0\0\0\0\5", 8); /* 1, and four changes */
    assert_int_equal(backend_reader_get(reader, BACKEND_AUTH_USERS, "alice", 5, &value, &error), 0);
    Authpb__User *user = authpb__user__unpack(NULL, value.len, value.data);
    assert_non_null(user);
    assert_int_equal(user->password.len, 60);
    assert_memory_equal(user->password.data, "$2a$04$", 7);
    assert_int_equal(user->n_roles, 1);
    assert_non_null(user->options);
    assert_false(user->options->no_password);
    authpb__user__free_unpacked(user, NULL);
    assert_int_equal(backend_reader_get(reader, BACKEND_AUTH_ROLES, "r", 1, &value, &error), 0);
    static const uint8_t role[] = "\x0a\x01r\x12\x08\x08\x02\x12\x01"
                                  "a\x1a\x01"
                                  "c";
    assert_int_equal(value.len, sizeof role - 1);
    assert_memory_equal(value.data, role, sizeof role - 1);
}

/* From Go's golang.org/x/crypto/bcrypt and from the original's test vectors. */
static void hashes_of_other_programs_are_understood(void **state)
{
    static const char *const known[][2] = {
        {"allmine", "$2a$10$XajjQvNhvvRt5GSeFk1xFeyqRrsxkhBkUiQeg0dt.wU1qD4aFDcga"},
        {"U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"},
        {"", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.7uG0VCzI2bS7j6ymqJi9CdcdxiRTWNy"},
        {"\xa3", "$2a$05$/OK.fbVrR/bpIqNJ5ianF.Sa7shbm4.OzKpvFnX1pQLmQW96oUlCq"},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(known); i++)
        assert_true(password_matches(known[i][0], known[i][1]));
    assert_false(password_matches("allmin", known[0][1]));
    assert_false(password_matches("allmine", "$1$xyz$"));
    assert_false(password_matches("allmine", ""));
    char hash[AUTH_HASH_MAX], again[AUTH_HASH_MAX];
    assert_true(password_hash("pw", 4, hash) && password_hash("pw", 4, again));
    assert_string_not_equal(hash, again); /* another salt */
    assert_true(password_matches("pw", hash));
    assert_int_equal(password_cost(0), 10);
    assert_int_equal(password_cost(32), 10);
    assert_int_equal(password_cost(12), 12);
}

static void too_long_a_password_is_refused(void **state)
{
    struct fixture *f = *state;
    KP_AUTO_BUF struct kp_buf hash = {0};
    char password[AUTH_PASSWORD_MAX + 2];
    memset(password, 'p', sizeof password);
    password[AUTH_PASSWORD_MAX + 1] = '\0';
    assert_int_equal(auth_hash_password(f->auth, password, &hash), AUTH_PASSWORD_TOO_LONG);
    password[AUTH_PASSWORD_MAX] = '\0';
    assert_int_equal(auth_hash_password(f->auth, password, &hash), AUTH_OK);
}

static void a_token_lives_on_while_it_is_used(void **state)
{
    struct tokens *tokens = tokens_new(300);
    char user[AUTH_NAME_MAX + 1];
    tokens_add(tokens, "abc.1", "alice", 0);
    tokens_add(tokens, "def.2", "bob", 0);
    assert_true(tokens_find(tokens, "abc.1", 299000, user));
    assert_string_equal(user, "alice");
    assert_false(tokens_find(tokens, "def.2", 300000, user));
    assert_true(tokens_find(tokens, "abc.1", 598000, user));
    assert_false(tokens_find(tokens, "abc.2", 598000, user));
    tokens_add(tokens, "ghi.3", "alice", 598000);
    assert_int_equal(tokens_len(tokens), 2); /* the one that ended is swept */
    tokens_drop_user(tokens, "alice");
    assert_int_equal(tokens_len(tokens), 0);
    tokens_free(tokens);
}

static void an_index_is_read_from_a_token(void **state)
{
    uint64_t index;
    assert_true(token_index("abcDEF.77", &index));
    assert_int_equal(index, 77);
    assert_false(token_index("abc", &index));
    assert_false(token_index("abc.", &index));
    assert_false(token_index("abc.x", &index));
    assert_false(token_index("abc.-1", &index));
    assert_false(token_index("a.1.2", &index));
}

static void a_simple_token_comes_from_the_log(void **state)
{
    struct fixture *f = *state;
    KP_AUTO_BUF struct kp_buf token = {0};
    struct auth_identity who;
    uint64_t index;
    char prefix[AUTH_TOKEN_PREFIX_LEN + 1];
    auth_token_prefix(prefix);
    assert_int_equal(strlen(prefix), AUTH_TOKEN_PREFIX_LEN);
    assert_int_equal(APPLY(f, auth_assign_token(f->auth, "root", prefix, 7, 0, &token)), AUTH_NOT_ENABLED);
    enable(f);
    assert_int_equal(APPLY(f, auth_assign_token(f->auth, "ghost", prefix, 7, 0, &token)), AUTH_FAILED);
    assert_int_equal(APPLY(f, auth_assign_token(f->auth, "root", prefix, 7, 0, &token)), AUTH_OK);
    assert_int_equal(auth_find_token(f->auth, token.data, 1, &who, &index), AUTH_OK);
    assert_string_equal(who.user, "root");
    assert_int_equal(who.revision, auth_revision(f->auth));
    assert_int_equal(auth_find_token(f->auth, "someotherprefix.9", 1, &who, &index), AUTH_BAD_TOKEN);
    assert_int_equal(index, 9);
    KP_AUTO_BUF struct kp_buf hash = {0};
    assert_int_equal(auth_hash_password(f->auth, "new", &hash), AUTH_OK);
    assert_int_equal(APPLY(f, auth_user_change_password(f->auth, "root", hash.data)), AUTH_OK);
    assert_int_equal(auth_find_token(f->auth, token.data, 1, &who, &index), AUTH_BAD_TOKEN);
}

/* ---- signed tokens ---- */

static char *write_key(struct fixture *f, const char *name, const char *text)
{
    char *path = kp_asprintf("%s/%s", f->dir, name);
    assert_int_equal(kp_write_file(path, text, strlen(text), 0600, NULL), 0);
    return path;
}

static void check_signed(struct fixture *f, const char *options, const char *verify_only)
{
    struct kp_error error = {0};
    struct jwt *jwt = NULL, *verifier = NULL;
    struct auth_identity who = {0};
    KP_AUTO_BUF struct kp_buf token = {0};
    assert_int_equal(jwt_open(options, &jwt, &error), 0);
    assert_int_equal(jwt_sign(jwt, "al\"ice", 42, 1000, &token), AUTH_OK);
    assert_int_equal(jwt_verify(jwt, token.data, 1299, &who), AUTH_OK);
    assert_string_equal(who.user, "al\"ice");
    assert_int_equal(who.revision, 42);
    assert_int_equal(jwt_verify(jwt, token.data, 1300, &who), AUTH_BAD_TOKEN); /* over */
    if (verify_only) {
        KP_AUTO_BUF struct kp_buf none = {0};
        assert_int_equal(jwt_open(verify_only, &verifier, &error), 0);
        assert_int_equal(jwt_verify(verifier, token.data, 1000, &who), AUTH_OK);
        assert_int_equal(jwt_sign(verifier, "a", 1, 1000, &none), AUTH_VERIFY_ONLY);
        jwt_free(verifier);
    }
    for (size_t i = 0; i < token.len; i += 7) { /* another letter anywhere */
        char old = token.data[i];
        token.data[i] = old == 'A' ? 'Q' : 'A';
        if (token.data[i + 1] != '\0')
            assert_int_equal(jwt_verify(jwt, token.data, 1000, &who), AUTH_BAD_TOKEN);
        token.data[i] = old;
    }
    jwt_free(jwt);
}

static void signed_tokens_name_user_and_revision(void **state)
{
    struct fixture *f = *state;
    static const enum tls_key_type types[] = {TLS_KEY_RSA_2048, TLS_KEY_ECDSA_P256};
    static const char *const methods[2][7] = {{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", NULL}, {"ES256", NULL}};
    for (size_t i = 0; i < KP_ARRAY_LEN(types); i++) {
        KP_AUTO(tls_key_unref) struct tls_key *key = NULL;
        KP_AUTO_BUF struct kp_buf private_pem = {0};
        KP_AUTO_BUF struct kp_buf public_pem = {0};
        assert_int_equal(tls_key_generate(types[i], &key, NULL), 0);
        assert_int_equal(tls_key_to_pem(key, &private_pem, NULL), 0);
        assert_int_equal(tls_key_public_to_pem(key, &public_pem, NULL), 0);
        KP_AUTO_FREE char *private_path = write_key(f, "key", private_pem.data);
        KP_AUTO_FREE char *public_path = write_key(f, "pub", public_pem.data);
        for (size_t m = 0; methods[i][m]; m++) {
            KP_AUTO_FREE char *both =
                kp_asprintf("pub-key=%s,priv-key=%s,sign-method=%s,ttl=5m", public_path, private_path, methods[i][m]);
            KP_AUTO_FREE char *one = kp_asprintf("pub-key=%s,sign-method=%s", public_path, methods[i][m]);
            check_signed(f, both, one);
        }
    }
    KP_AUTO_FREE char *secret = write_key(f, "secret", "not to be guessed");
    for (const char *const *m = (const char *const[]){"HS256", "HS384", "HS512", NULL}; *m; m++) {
        KP_AUTO_FREE char *options = kp_asprintf("priv-key=%s,sign-method=%s", secret, *m);
        check_signed(f, options, NULL);
    }
}

/* RFC 8037 A.1's key. */
static void the_edwards_curve_signs_too(void **state)
{
    struct fixture *f = *state;
    static const char ed25519[] = "-----BEGIN PRIVATE KEY-----\n"
                                  "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpe2eFu46+bexuzb9g\n"
                                  "-----END PRIVATE KEY-----\n";
    KP_AUTO_FREE char *path = write_key(f, "ed25519", ed25519);
    KP_AUTO_FREE char *options = kp_asprintf("priv-key=%s,sign-method=EdDSA", path);
    check_signed(f, options, NULL);
}

static void bad_token_options_are_refused(void **state)
{
    struct fixture *f = *state;
    KP_AUTO_FREE char *secret = write_key(f, "secret", "s");
    KP_AUTO_FREE char *wrong_kind = kp_asprintf("jwt,sign-method=RS256,priv-key=%s", secret);
    const char *const bad[] = {"complex", "jwt", "jwt,sign-method=none", "jwt,sign-method=RS256", "jwt,sign-method=HS256",
                               "jwt,sign-method=HS256,priv-key=/nonexistent", "jwt,sign-method=HS256,color=red",
                               "jwt,sign-method=HS256,sign-method=HS256", wrong_kind};
    for (size_t i = 0; i < KP_ARRAY_LEN(bad); i++) {
        struct auth_options options = {.token = bad[i]};
        struct auth *auth = NULL;
        struct kp_error error = {0};
        assert_true(auth_open(f->backend, &options, &auth, &error) < 0);
        assert_null(auth);
        assert_true(error.message[0]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(authentication_needs_a_root_user_with_the_root_role, setup, teardown),
        cmocka_unit_test_setup_teardown(permissions_follow_users_and_roles, setup, teardown),
        cmocka_unit_test_setup_teardown(who_asks_must_be_known_and_up_to_date, setup, teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(everything_is_there_after_a_restart, setup, teardown),
        cmocka_unit_test_setup_teardown(records_are_those_of_etcd, setup, teardown),
        cmocka_unit_test(hashes_of_other_programs_are_understood),
        cmocka_unit_test_setup_teardown(too_long_a_password_is_refused, setup, teardown),
        cmocka_unit_test(a_token_lives_on_while_it_is_used),
        cmocka_unit_test(an_index_is_read_from_a_token),
        cmocka_unit_test_setup_teardown(a_simple_token_comes_from_the_log, setup, teardown),
        cmocka_unit_test_setup_teardown(signed_tokens_name_user_and_revision, setup, teardown),
        cmocka_unit_test_setup_teardown(the_edwards_curve_signs_too, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_token_options_are_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
