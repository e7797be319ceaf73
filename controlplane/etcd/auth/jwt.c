/* Signed tokens: JSON Web Tokens with etcd's claims, which any member with the key can check. */
#include "controlplane/etcd/auth/auth_internal.h"
#include "codec/codec.h"

#define KEY_FILE_MAX ((size_t)1 << 20)
#define CLAIMS_MAX ((size_t)1 << 20)

struct jwt {
    struct tls_jws *jws;
    int64_t ttl_s;
};

struct jwt_options {
    char *sign_method, *public_key, *private_key, *ttl;
};

static void options_done(struct jwt_options *o)
{
    free(o->sign_method);
    free(o->public_key);
    free(o->private_key);
    free(o->ttl);
}

static int parse_option(struct jwt_options *o, const char *text, size_t len, struct kp_error *error)
{
    struct {
        const char *name;
        char **value;
    } known[] = {{"sign-method=", &o->sign_method},
                 {"pub-key=", &o->public_key},
                 {"priv-key=", &o->private_key},
                 {"ttl=", &o->ttl}};
    for (size_t i = 0; i < KP_ARRAY_LEN(known); i++) {
        size_t name_len = strlen(known[i].name);
        if (len < name_len || strncmp(text, known[i].name, name_len) != 0)
            continue;
        if (*known[i].value)
            return kp_fail(error, KP_EUSAGE, "--auth-token: %.*s is there twice", (int)name_len - 1, text);
        *known[i].value = kp_strndup(text + name_len, len - name_len);
        return 0;
    }
    return kp_fail(error, KP_EUSAGE, "--auth-token: unknown option \"%.*s\": sign-method, pub-key, priv-key or ttl",
                   (int)strcspn(text, "=,"), text);
}

static int parse_options(struct jwt_options *o, const char *text, struct kp_error *error)
{
    while (*text) {
        size_t len = strcspn(text, ",");
        int rc = parse_option(o, text, len, error);
        if (rc < 0)
            return rc;
        text += len + (text[len] == ',');
    }
    return o->sign_method ? 0 : kp_fail(error, KP_EUSAGE, "--auth-token: jwt needs sign-method");
}

static int read_key(const char *path, struct kp_buf *out, struct kp_error *error)
{
    return kp_empty(path) ? 0 : kp_read_file(path, KEY_FILE_MAX, out, error);
}

static int make(const struct jwt_options *o, struct jwt *jwt, struct kp_error *error)
{
    int64_t ttl_ns = INT64_C(1000000000) * AUTH_TOKEN_TTL_S_DEFAULT;
    if (o->ttl && (kp_parse_duration_ns(o->ttl, &ttl_ns) < 0 || ttl_ns < 0))
        return kp_fail(error, KP_EUSAGE, "--auth-token: bad ttl \"%s\"", o->ttl);
    jwt->ttl_s = ttl_ns / 1000000000;
    KP_AUTO_BUF struct kp_buf private_key = {0};
    KP_AUTO_BUF struct kp_buf public_key = {0};
    int rc = read_key(o->private_key, &private_key, error);
    if (rc == 0)
        rc = read_key(o->public_key, &public_key, error);
    if (rc == 0)
        rc = tls_jws_new(o->sign_method, (struct kp_bytes){(const uint8_t *)private_key.data, private_key.len},
                         (struct kp_bytes){(const uint8_t *)public_key.data, public_key.len}, &jwt->jws, error);
    if (private_key.data)
        explicit_bzero(private_key.data, private_key.len);
    return rc < 0 ? kp_wrap(error, "--auth-token") : 0;
}

int jwt_open(const char *text, struct jwt **ret_jwt, struct kp_error *error)
{
    struct jwt_options options = {0};
    struct jwt *jwt = kp_calloc(1, sizeof *jwt);
    int rc = parse_options(&options, text, error);
    if (rc == 0)
        rc = make(&options, jwt, error);
    options_done(&options);
    if (rc == 0)
        *ret_jwt = jwt;
    else
        jwt_free(jwt);
    return rc;
}

void jwt_free(struct jwt *jwt)
{
    if (!jwt)
        return;
    tls_jws_free(jwt->jws);
    free(jwt);
}

enum auth_result jwt_sign(const struct jwt *jwt, const char *user, uint64_t revision, int64_t now_s, struct kp_buf *out)
{
    if (!tls_jws_can_sign(jwt->jws))
        return AUTH_VERIFY_ONLY;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(CLAIMS_MAX);
    KP_AUTO_BUF struct kp_buf payload = {0};
    struct kp_value *claims = kp_value_object(arena);
    kp_value_set(arena, claims, "exp", kp_value_int(arena, now_s + jwt->ttl_s));
    kp_value_set(arena, claims, "revision", kp_value_int(arena, (int64_t)revision));
    kp_value_set(arena, claims, "username", kp_value_string(arena, user));
    kp_value_print(claims, &payload);
    struct kp_error error = {0};
    if (tls_jws_sign(jwt->jws, payload.data, out, &error) < 0) {
        kp_error_log("cannot sign a token", "err", error.message, NULL);
        return AUTH_FAILED;
    }
    return AUTH_OK;
}

static bool number_of(const struct kp_value *value, double *ret)
{
    if (!value || (value->kind != KP_VALUE_INT && value->kind != KP_VALUE_DOUBLE))
        return false;
    *ret = value->kind == KP_VALUE_INT ? (double)value->integer : value->number;
    return true;
}

/* The times that are there must hold; the user and the revision must be there. */
static bool read_claims(const struct kp_value *claims, int64_t now_s, struct auth_identity *ret_who)
{
    double number;
    const struct kp_value *expiry = kp_value_get(claims, "exp"), *not_before = kp_value_get(claims, "nbf");
    const char *user = kp_value_str(kp_value_get(claims, "username"));
    if ((expiry && (!number_of(expiry, &number) || (double)now_s >= number)) ||
        (not_before && (!number_of(not_before, &number) || (double)now_s < number)))
        return false;
    if (!user || strlen(user) > AUTH_NAME_MAX || !number_of(kp_value_get(claims, "revision"), &number) || number < 0 ||
        number > 9e15)
        return false;
    ret_who->revision = (uint64_t)number;
    snprintf(ret_who->user, sizeof ret_who->user, "%s", user);
    return true;
}

enum auth_result jwt_verify(const struct jwt *jwt, const char *token, int64_t now_s, struct auth_identity *ret_who)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(CLAIMS_MAX);
    KP_AUTO_BUF struct kp_buf header = {0};
    KP_AUTO_BUF struct kp_buf payload = {0};
    struct kp_value *head, *claims;
    if (tls_jws_verify(jwt->jws, token, NULL) < 0 || tls_jwt_decode(token, &header, &payload, NULL) < 0 ||
        kp_value_parse(header.data, header.len, arena, NULL, &head, NULL) < 0 ||
        kp_value_parse(payload.data, payload.len, arena, NULL, &claims, NULL) < 0)
        return AUTH_BAD_TOKEN;
    if (head->kind != KP_VALUE_OBJECT || claims->kind != KP_VALUE_OBJECT ||
        !kp_streq(kp_value_str(kp_value_get(head, "alg")), tls_jws_algorithm(jwt->jws)))
        return AUTH_BAD_TOKEN;
    return read_claims(claims, now_s, ret_who) ? AUTH_OK : AUTH_BAD_TOKEN;
}
