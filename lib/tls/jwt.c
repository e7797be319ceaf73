/* JSON Web Tokens in compact form, and JSON Web Keys (RFC 7515, 7517, 7518). */
#include "lib/tls/tls_internal.h"

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>

#define ES256_HALF 32 /* bytes of r and of s, RFC 7518 3.4 */
#define ES256_BYTES (2 * ES256_HALF)
#define SIGNATURE_MAX 1024

static bool key_is_rsa(const struct tls_key *key)
{
    return EVP_PKEY_get_base_id(key->pkey) == EVP_PKEY_RSA;
}

/* RS256 takes any RSA key, ES256 only P-256. */
static const char *key_algorithm(const struct tls_key *key)
{
    if (key_is_rsa(key))
        return "RS256";
    return EVP_PKEY_get_bits(key->pkey) == 256 ? "ES256" : NULL;
}

void tls_key_id(const struct tls_key *key, struct kp_buf *out)
{
    unsigned char *der = NULL;
    int len = i2d_PUBKEY(key->pkey, &der);
    KP_ASSERT(len > 0);
    uint8_t hash[TLS_SHA256_BYTES];
    tls_sha256(der, (size_t)len, hash);
    OPENSSL_free(der);
    kp_base64url_encode(out, hash, sizeof(hash));
}

/* ECDSA signatures are DER in OpenSSL and r || s in JWT. */
static int ecdsa_to_raw(const unsigned char *der, size_t len, uint8_t raw[ES256_BYTES])
{
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long)len);
    int ok = sig && BN_bn2binpad(ECDSA_SIG_get0_r(sig), raw, ES256_HALF) == ES256_HALF &&
             BN_bn2binpad(ECDSA_SIG_get0_s(sig), raw + ES256_HALF, ES256_HALF) == ES256_HALF;
    ECDSA_SIG_free(sig);
    return ok;
}

/* Length of the DER in out, or 0. */
static size_t ecdsa_from_raw(const uint8_t *raw, size_t len, unsigned char out[SIGNATURE_MAX])
{
    if (len != ES256_BYTES)
        return 0;
    ECDSA_SIG *sig = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(raw, ES256_HALF, NULL);
    BIGNUM *s = BN_bin2bn(raw + ES256_HALF, ES256_HALF, NULL);
    KP_ASSERT(sig && r && s);
    ECDSA_SIG_set0(sig, r, s);
    unsigned char *p = out;
    int der_len = i2d_ECDSA_SIG(sig, &p);
    ECDSA_SIG_free(sig);
    return der_len > 0 ? (size_t)der_len : 0;
}

int tls_jwt_sign(const struct tls_key *key, const char *kid, const char *payload_json, struct kp_buf *out,
                 struct kp_error *error)
{
    const char *algorithm = key_algorithm(key);
    if (!key->is_private || !algorithm)
        return kp_fail(error, KP_EINVALID, "sign a token: a private RSA or P-256 key is needed");
    KP_AUTO_BUF struct kp_buf id = {0};
    KP_AUTO_BUF struct kp_buf header = {0};
    KP_AUTO_BUF struct kp_buf token = {0};
    if (kid)
        kp_buf_puts(&id, kid);
    else
        tls_key_id(key, &id);
    if (strpbrk(id.data, "\"\\"))
        return kp_fail(error, KP_EINVALID, "sign a token: bad key id");
    kp_buf_printf(&header, "{\"alg\":\"%s\",\"kid\":\"%s\",\"typ\":\"JWT\"}", algorithm, id.data);
    kp_base64url_encode(&token, header.data, header.len);
    kp_buf_putc(&token, '.');
    kp_base64url_encode(&token, payload_json, strlen(payload_json));
    unsigned char signature[SIGNATURE_MAX];
    uint8_t raw[ES256_BYTES];
    size_t len = sizeof(signature);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    int ok = ctx && EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key->pkey) &&
             EVP_DigestSign(ctx, signature, &len, (const unsigned char *)token.data, token.len);
    EVP_MD_CTX_free(ctx);
    if (!ok || (!key_is_rsa(key) && !ecdsa_to_raw(signature, len, raw)))
        return tls_openssl_fail(error, KP_EINTERNAL, "sign a token");
    kp_buf_putc(&token, '.');
    if (key_is_rsa(key))
        kp_base64url_encode(&token, signature, len);
    else
        kp_base64url_encode(&token, raw, sizeof(raw));
    kp_buf_append(out, token.data, token.len);
    return 0;
}

struct jwt_parts {
    const char *header, *payload, *signature;
    size_t header_len, payload_len, signature_len, signed_len;
};

static int jwt_split(const char *token, struct jwt_parts *parts, struct kp_error *error)
{
    size_t len = strnlen(token, TLS_JWT_BYTES_MAX + 1);
    if (len > TLS_JWT_BYTES_MAX)
        return kp_fail(error, KP_EUNAUTHORIZED, "token larger than %zu bytes", TLS_JWT_BYTES_MAX);
    const char *first = strchr(token, '.');
    const char *second = first ? strchr(first + 1, '.') : NULL;
    if (!second || strchr(second + 1, '.'))
        return kp_fail(error, KP_EUNAUTHORIZED, "token: it has not three parts");
    parts->header = token;
    parts->header_len = (size_t)(first - token);
    parts->payload = first + 1;
    parts->payload_len = (size_t)(second - first - 1);
    parts->signature = second + 1;
    parts->signature_len = len - (size_t)(second + 1 - token);
    parts->signed_len = (size_t)(second - token);
    return 0;
}

int tls_jwt_decode(const char *token, struct kp_buf *out_header, struct kp_buf *out_payload, struct kp_error *error)
{
    struct jwt_parts parts;
    int rc = jwt_split(token, &parts, error);
    if (rc < 0)
        return rc;
    if (kp_base64url_decode(out_header, parts.header, parts.header_len) < 0 ||
        kp_base64url_decode(out_payload, parts.payload, parts.payload_len) < 0)
        return kp_fail(error, KP_EUNAUTHORIZED, "token: bad base64url");
    return 0;
}

/* Moves *p, at a quote, behind the JSON string there; its raw inside goes to *ret_start and *ret_len. */
static bool skip_string(const char **p, const char **ret_start, size_t *ret_len)
{
    const char *start = ++*p;
    for (; **p && **p != '"'; (*p)++) {
        if (**p == '\\' && !*++*p)
            return false;
    }
    if (!**p)
        return false;
    *ret_start = start;
    *ret_len = (size_t)((*p)++ - start);
    return true;
}

static void skip_space(const char **p)
{
    *p += strspn(*p, " \t\r\n");
}

/* The member's string value in a JSON object (without escapes: the names looked for have none), NULL when it has none
   at the top. *ret_present tells whether the member is there with any value. */
static const char *header_member(const char *json, const char *name, size_t *ret_len, bool *ret_present)
{
    int depth = 0;
    *ret_present = false;
    for (const char *p = json; *p;) {
        if (*p == '{' || *p == '[')
            depth++;
        if (*p == '}' || *p == ']')
            depth--;
        if (*p != '"') {
            p++;
            continue;
        }
        const char *text;
        size_t len;
        if (!skip_string(&p, &text, &len))
            return NULL;
        skip_space(&p);
        if (*p != ':')
            continue;
        p++;
        skip_space(&p);
        if (depth != 1 || len != strlen(name) || memcmp(text, name, len) != 0)
            continue;
        *ret_present = true;
        return *p == '"' && skip_string(&p, &text, ret_len) ? text : NULL;
    }
    return NULL;
}

static bool signature_fits(const struct tls_key *key, const struct jwt_parts *parts, const struct kp_buf *signature)
{
    unsigned char der[SIGNATURE_MAX];
    const unsigned char *bytes = (const unsigned char *)signature->data;
    size_t len = signature->len;
    if (!key_is_rsa(key)) {
        len = ecdsa_from_raw(bytes, len, der);
        bytes = der;
    }
    if (!len)
        return false;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool fits = ctx && EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, key->pkey) == 1 &&
                EVP_DigestVerify(ctx, bytes, len, (const unsigned char *)parts->header, parts->signed_len) == 1;
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    return fits;
}

int tls_jwt_verify(const char *token, struct tls_key *const *keys, size_t key_count, struct kp_buf *out_payload,
                   struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf header = {0};
    KP_AUTO_BUF struct kp_buf payload = {0};
    KP_AUTO_BUF struct kp_buf signature = {0};
    struct jwt_parts parts;
    int rc = jwt_split(token, &parts, error);
    if (rc == 0)
        rc = tls_jwt_decode(token, &header, &payload, error);
    if (rc < 0)
        return rc;
    if (kp_base64url_decode(&signature, parts.signature, parts.signature_len) < 0)
        return kp_fail(error, KP_EUNAUTHORIZED, "token: bad base64url");
    bool present;
    size_t len = 0;
    header_member(header.data, "crit", &len, &present);
    if (present) /* RFC 7515 4.1.11: extensions that must be understood, and we understand none */
        return kp_fail(error, KP_EUNAUTHORIZED, "token: critical header extensions are not supported");
    const char *algorithm = header_member(header.data, "alg", &len, &present);
    if (!algorithm)
        return kp_fail(error, KP_EUNAUTHORIZED, "token: no algorithm in the header");
    for (size_t i = 0; i < key_count; i++) {
        const char *of_key = key_algorithm(keys[i]);
        if (!of_key || strlen(of_key) != len || memcmp(of_key, algorithm, len) != 0)
            continue;
        if (signature_fits(keys[i], &parts, &signature)) {
            kp_buf_append(out_payload, payload.data, payload.len);
            return 0;
        }
    }
    return kp_fail(error, KP_EUNAUTHORIZED, "token: signed by none of the known keys");
}

/* Appends ,"name":"base64url of the number in at least min_len bytes". */
static int put_number(const struct tls_key *key, const char *param, const char *name, int min_len, struct kp_buf *out)
{
    BIGNUM *number = NULL;
    if (!EVP_PKEY_get_bn_param(key->pkey, param, &number))
        return -1;
    int len = KP_MAX(BN_num_bytes(number), min_len);
    KP_AUTO_FREE unsigned char *bytes = kp_malloc((size_t)len);
    int ok = BN_bn2binpad(number, bytes, len) == len;
    BN_free(number);
    if (!ok)
        return -1;
    kp_buf_printf(out, ",\"%s\":\"", name);
    kp_base64url_encode(out, bytes, (size_t)len);
    kp_buf_putc(out, '"');
    return 0;
}

int tls_key_to_jwk(const struct tls_key *key, struct kp_buf *out, struct kp_error *error)
{
    const char *algorithm = key_algorithm(key);
    if (!algorithm)
        return kp_fail(error, KP_EINVALID, "JWK: only RSA and P-256 keys are supported");
    KP_AUTO_BUF struct kp_buf jwk = {0};
    bool rsa = key_is_rsa(key);
    kp_buf_printf(&jwk, "{\"use\":\"sig\",\"kty\":\"%s\",\"kid\":\"", rsa ? "RSA" : "EC");
    tls_key_id(key, &jwk);
    kp_buf_puts(&jwk, "\"");
    if (!rsa)
        kp_buf_puts(&jwk, ",\"crv\":\"P-256\"");
    kp_buf_printf(&jwk, ",\"alg\":\"%s\"", algorithm);
    int rc;
    if (rsa)
        rc = put_number(key, OSSL_PKEY_PARAM_RSA_N, "n", 1, &jwk) | put_number(key, OSSL_PKEY_PARAM_RSA_E, "e", 1, &jwk);
    else
        rc = put_number(key, OSSL_PKEY_PARAM_EC_PUB_X, "x", ES256_HALF, &jwk) |
             put_number(key, OSSL_PKEY_PARAM_EC_PUB_Y, "y", ES256_HALF, &jwk);
    if (rc < 0)
        return tls_openssl_fail(error, KP_EINTERNAL, "JWK of a key");
    kp_buf_putc(&jwk, '}');
    kp_buf_append(out, jwk.data, jwk.len);
    return 0;
}
