/* Service-account tokens: made by TokenRequest, verified on every request, published as JWKS. */
#include "controlplane/apiserver/auth/auth_internal.h"

#define TOKEN_LIFETIME_MIN_S 600
#define TOKEN_LIFETIME_MAX_S ((int64_t)1 << 32) /* upstream's maximum */

static const struct kp_value *claim(const struct kp_value *payload, const char *a, const char *b)
{
    const struct kp_value *private = kp_value_get(payload, "kubernetes.io");
    const struct kp_value *section = kp_value_get(private, a);
    return b ? kp_value_get(section, b) : section;
}

static bool audience_matches(const struct kp_value *aud, const struct kp_string_list *wanted, struct kp_arena *arena, struct kp_string_list *ret)
{
    const struct kp_value *item;
    const char *one = kp_value_str(aud);
    *ret = (struct kp_string_list){0};
    if (one && kp_string_list_has(wanted, one))
        kp_string_list_add(arena, ret, one);
    for (size_t i = 0; (item = kp_value_at(aud, i)); i++)
        if (kp_value_str(item) && kp_string_list_has(wanted, kp_value_str(item)))
            kp_string_list_add(arena, ret, kp_value_str(item));
    return ret->len > 0;
}

/* True when the object a token is bound to is there, with the uid it was made for. */
static bool bound_object_lives(struct wcache *cache, const char *ns, const char *name, const char *uid)
{
    if (!cache || kp_empty(name))
        return false;
    KP_AUTO_FREE char *key = kp_empty(ns) ? kp_strdup(name) : kp_asprintf("%s/%s", ns, name);
    KP_AUTO(wcache_object_unref) struct wcache_object *object = wcache_get(cache, key);
    return object && kp_streq(object->uid, uid);
}

static const char *check_times(const struct kp_value *payload, const char *issuer)
{
    const struct kp_value *exp = kp_value_get(payload, "exp"), *nbf = kp_value_get(payload, "nbf");
    int64_t now_s = kp_now_s();
    if (!kp_streq(kp_value_str(kp_value_get(payload, "iss")), issuer))
        return "the token was issued by somebody else";
    if (!exp || exp->kind != KP_VALUE_INT || exp->integer <= now_s)
        return "service account token has expired";
    if (nbf && (nbf->kind != KP_VALUE_INT || nbf->integer > now_s + 60))
        return "service account token is not valid yet";
    return NULL;
}

static void add_extra(struct kp_arena *arena, struct auth_user *user, const char *key, const char *value)
{
    if (kp_empty(value))
        return;
    struct kp_string_list_pair *pair = KP_LIST_ADD(arena, &user->extra);
    pair->key = key;
    kp_string_list_add(arena, &pair->value, value);
}

int auth_token_authenticate(struct auth *auth, const char *token, const struct kp_string_list *audiences, struct kp_arena *arena,
                            struct auth_user *ret_user, struct kp_string_list *ret_audiences, const char **ret_why)
{
    KP_AUTO_BUF struct kp_buf json = {0};
    struct kp_error error = {0};
    struct kp_value *payload;
    *ret_why = "invalid bearer token";
    if (tls_jwt_verify(token, auth->verify_keys, auth->n_verify_keys, &json, &error) < 0 ||
        kp_value_parse(json.data, json.len, arena, NULL, &payload, &error) < 0) {
        *ret_why = kp_arena_strdup(arena, error.message);
        return KP_EUNAUTHORIZED;
    }
    const char *why = check_times(payload, auth->config.service_account_issuer);
    if (!why && !audience_matches(kp_value_get(payload, "aud"), audiences && audiences->len ? audiences : &auth->audiences, arena, ret_audiences))
        why = "token audiences do not match";
    const char *ns = kp_value_str(claim(payload, "namespace", NULL));
    const char *name = kp_value_str(claim(payload, "serviceaccount", "name")), *uid = kp_value_str(claim(payload, "serviceaccount", "uid"));
    if (!why && (kp_empty(ns) || kp_empty(name) || kp_empty(uid)))
        why = "token names no service account";
    if (!why && !bound_object_lives(auth->accounts, ns, name, uid))
        why = "service account has been deleted";
    const char *pod = kp_value_str(claim(payload, "pod", "name")), *pod_uid = kp_value_str(claim(payload, "pod", "uid"));
    const char *node = kp_value_str(claim(payload, "node", "name")), *node_uid = kp_value_str(claim(payload, "node", "uid"));
    const char *secret = kp_value_str(claim(payload, "secret", "name")), *secret_uid = kp_value_str(claim(payload, "secret", "uid"));
    if (!why && pod && !bound_object_lives(auth->pods, ns, pod, pod_uid))
        why = "the pod the token is bound to is gone";
    if (!why && secret && !bound_object_lives(auth->secrets, ns, secret, secret_uid))
        why = "the secret the token is bound to is gone";
    if (!why && node && !pod && !bound_object_lives(auth->nodes_cache, "", node, node_uid))
        why = "the node the token is bound to is gone";
    if (why) {
        *ret_why = why;
        return KP_EUNAUTHORIZED;
    }
    struct auth_user user = {.name = kp_arena_printf(arena, AUTH_SERVICE_ACCOUNT_PREFIX "%s:%s", ns, name), .uid = uid};
    kp_string_list_add(arena, &user.groups, "system:serviceaccounts");
    kp_string_list_add(arena, &user.groups, kp_arena_printf(arena, "system:serviceaccounts:%s", ns));
    const char *jti = kp_value_str(kp_value_get(payload, "jti"));
    if (jti)
        add_extra(arena, &user, "authentication.kubernetes.io/credential-id", kp_arena_printf(arena, "JTI=%s", jti));
    add_extra(arena, &user, "authentication.kubernetes.io/node-name", node);
    add_extra(arena, &user, "authentication.kubernetes.io/node-uid", node_uid);
    add_extra(arena, &user, "authentication.kubernetes.io/pod-name", pod);
    add_extra(arena, &user, "authentication.kubernetes.io/pod-uid", pod_uid);
    *ret_user = user;
    *ret_why = "";
    return 0;
}

/* ---- TokenRequest ----------------------------------------------------------------------------------------------------------- */
static void put_ref(struct kp_buf *out, const char *key, const char *name, const char *uid)
{
    kp_buf_printf(out, ",\"%s\":{\"name\":", key);
    kp_json_string(out, name);
    kp_buf_puts(out, ",\"uid\":");
    kp_json_string(out, uid);
    kp_buf_putc(out, '}');
}

/* The object a token is to be bound to; checks that it is there. Writes its claim. */
static int bind(struct auth *auth, const char *ns, const char *account, const struct k8s_bound_object_reference *ref, struct kp_buf *claims,
                struct kp_arena *arena, struct api_status *status)
{
    bool pod = kp_streq(ref->kind, "Pod"), secret = kp_streq(ref->kind, "Secret"), node = kp_streq(ref->kind, "Node");
    if (!pod && !secret && !node)
        return status_bad_request(status, "cannot bind token to object of type %s", ref->kind ? ref->kind : "");
    struct wcache *cache = pod ? auth->pods : secret ? auth->secrets : auth->nodes_cache;
    KP_AUTO_FREE char *key = node ? kp_strdup(ref->name ? ref->name : "") : kp_asprintf("%s/%s", ns, ref->name ? ref->name : "");
    KP_AUTO(wcache_object_unref) struct wcache_object *object = wcache_get(cache, key);
    if (!object)
        return status_not_found(status, "", pod ? "pods" : secret ? "secrets" : "nodes", ref->name);
    if (!kp_empty(ref->uid) && !kp_streq(ref->uid, object->uid))
        return status_conflict(status, "", pod ? "pods" : secret ? "secrets" : "nodes", ref->name,
                               kp_arena_printf(arena, "the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref->uid));
    put_ref(claims, pod ? "pod" : secret ? "secret" : "node", object->name, object->uid);
    if (!pod)
        return 0;
    void *decoded;
    struct kp_error error = {0};
    if (kp_json_decode(&k8s_pod_type, (const char *)object->json->data, object->json->len, arena, NULL, &decoded, &error) < 0)
        return status_internal(status, "%s", error.message);
    const struct k8s_pod *p = decoded;
    if (!kp_streq(kp_empty(p->spec->service_account_name) ? "default" : p->spec->service_account_name, account))
        return status_bad_request(status, "cannot bind token for serviceaccount \"%s\" to pod running with different serviceaccount name.", account);
    KP_AUTO(wcache_object_unref) struct wcache_object *on = kp_empty(p->spec->node_name) ? NULL : wcache_get(auth->nodes_cache, p->spec->node_name);
    if (on)
        put_ref(claims, "node", on->name, on->uid);
    return 0;
}

static void write_payload(struct auth *auth, const struct kp_string_list *audiences, int64_t now_s, int64_t expires_s, const char *ns,
                          const char *account, const char *uid, const char *bound, struct kp_buf *out)
{
    char jti[37];
    kp_uuid4(jti);
    kp_buf_puts(out, "{\"aud\":[");
    for (size_t i = 0; i < audiences->len; i++) {
        if (i)
            kp_buf_putc(out, ',');
        kp_json_string(out, audiences->items[i]);
    }
    kp_buf_printf(out, "],\"exp\":%lld,\"iat\":%lld,\"iss\":", (long long)expires_s, (long long)now_s);
    kp_json_string(out, auth->config.service_account_issuer);
    kp_buf_printf(out, ",\"jti\":\"%s\",\"kubernetes.io\":{\"namespace\":", jti);
    kp_json_string(out, ns);
    kp_buf_puts(out, bound ? bound : "");
    put_ref(out, "serviceaccount", account, uid);
    kp_buf_printf(out, "},\"nbf\":%lld,\"sub\":\"" AUTH_SERVICE_ACCOUNT_PREFIX "%s:%s\"}", (long long)now_s, ns, account);
}

int auth_token_request(struct auth *auth, const char *ns, const char *service_account, const char *service_account_uid, void *token_request,
                       struct kp_arena *arena, struct api_status *status)
{
    struct k8s_token_request *request = token_request;
    KP_AUTO_BUF struct kp_buf bound = {0}, payload = {0}, token = {0};
    struct kp_error error = {0};
    if (!auth->signing_key)
        return status_internal(status, "no --service-account-signing-key-file: tokens cannot be issued");
    int64_t seconds = request->spec->has_expiration_seconds ? request->spec->expiration_seconds : 3600;
    struct field_errors errors = {.arena = arena};
    if (seconds < TOKEN_LIFETIME_MIN_S)
        field_invalid_int(&errors, seconds, "may not specify a duration less than 10 minutes", "spec.expirationSeconds");
    if (seconds > TOKEN_LIFETIME_MAX_S)
        field_invalid_int(&errors, seconds, "may not specify a duration larger than 2^32 seconds", "spec.expirationSeconds");
    if (errors.len)
        return status_invalid(status, "authentication.k8s.io", "TokenRequest", "", &errors);
    if (request->spec->bound_object_ref && bind(auth, ns, service_account, request->spec->bound_object_ref, &bound, arena, status) < 0)
        return status->code;
    if (request->spec->audiences.len == 0)
        request->spec->audiences = auth->audiences;
    int64_t now_s = kp_now_s();
    write_payload(auth, &request->spec->audiences, now_s, now_s + seconds, ns, service_account, service_account_uid, bound.data, &payload);
    if (tls_jwt_sign(auth->signing_key, NULL, payload.data, &token, &error) < 0)
        return status_from_error(status, &error);
    KP_SET(request->spec, expiration_seconds, seconds);
    request->status->token = kp_arena_strdup(arena, token.data);
    request->status->expiration_timestamp = KP_TIME_OF(now_s + seconds);
    return 0;
}

void auth_openid_configuration(struct auth *auth, const char *authority, struct kp_buf *out)
{
    kp_buf_puts(out, "{\"issuer\":");
    kp_json_string(out, auth->config.service_account_issuer);
    kp_buf_puts(out, ",\"jwks_uri\":");
    KP_AUTO_FREE char *uri = kp_asprintf("https://%s/openid/v1/jwks", authority);
    kp_json_string(out, uri);
    kp_buf_puts(out, ",\"response_types_supported\":[\"id_token\"],\"subject_types_supported\":[\"public\"],"
                     "\"id_token_signing_alg_values_supported\":[\"RS256\",\"ES256\"]}");
}

void auth_jwks(struct auth *auth, struct kp_buf *out)
{
    kp_buf_puts(out, "{\"keys\":[");
    bool any = false;
    for (size_t i = 0; i < auth->n_verify_keys; i++) {
        KP_AUTO_BUF struct kp_buf key = {0};
        struct kp_error error = {0};
        if (tls_key_to_jwk(auth->verify_keys[i], &key, &error) < 0) {
            kp_warn("key left out of the JWKS", "error", error.message, NULL);
            continue;
        }
        if (any)
            kp_buf_putc(out, ',');
        kp_buf_append(out, key.data, key.len);
        any = true;
    }
    kp_buf_puts(out, "]}");
}
