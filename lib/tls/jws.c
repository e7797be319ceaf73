/* Signing and verifying tokens with one algorithm that the configuration names (RFC 7515, 7518 3, 8037). */
#include "lib/tls/tls_internal.h"

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#define JWS_SIGNATURE_MAX 2048
#define JWS_SECRET_MAX ((size_t)64 << 10)
#define JWS_KEY_MAX ((size_t)1 << 20)

enum family { JWS_HMAC, JWS_RSA, JWS_PSS, JWS_EC, JWS_ED };
static const struct algorithm {
    const char *name;
    enum family family;
    const char *digest; /* NULL: the algorithm's own */
    int bits;           /* of an elliptic curve */
} algorithms[] = {
    {"HS256", JWS_HMAC, "SHA256", 0}, {"HS384", JWS_HMAC, "SHA384", 0}, {"HS512", JWS_HMAC, "SHA512", 0},
    {"RS256", JWS_RSA, "SHA256", 0},  {"RS384", JWS_RSA, "SHA384", 0},  {"RS512", JWS_RSA, "SHA512", 0},
    {"PS256", JWS_PSS, "SHA256", 0},  {"PS384", JWS_PSS, "SHA384", 0},  {"PS512", JWS_PSS, "SHA512", 0},
    {"ES256", JWS_EC, "SHA256", 256}, {"ES384", JWS_EC, "SHA384", 384}, {"ES512", JWS_EC, "SHA512", 521},
    {"EdDSA", JWS_ED, NULL, 0},
};

struct tls_jws {
    const struct algorithm *algorithm;
    EVP_PKEY *key; /* NULL for HMAC */
    struct kp_buf secret;
    bool can_sign;
};

static const struct algorithm *find_algorithm(const char *name)
{
    for (size_t i = 0; i < KP_ARRAY_LEN(algorithms); i++)
        if (kp_streq(name, algorithms[i].name))
            return &algorithms[i];
    return NULL;
}

static int no_password(char *buffer, int size, int writing, void *arg)
{
    return -1;
}

static EVP_PKEY *read_key(struct kp_bytes pem, bool is_private)
{
    BIO *bio = pem.len <= JWS_KEY_MAX ? BIO_new_mem_buf(pem.data, (int)pem.len) : NULL;
    EVP_PKEY *key = NULL;
    if (bio && is_private)
        key = PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL);
    else if (bio)
        key = PEM_read_bio_PUBKEY(bio, NULL, no_password, NULL);
    if (bio && !key && !is_private) {
        BIO_reset(bio);
        X509 *x509 = PEM_read_bio_X509(bio, NULL, no_password, NULL);
        key = x509 ? X509_get_pubkey(x509) : NULL;
        X509_free(x509);
    }
    BIO_free(bio);
    ERR_clear_error(); /* failed tries leave theirs behind */
    return key;
}

static bool key_fits(const EVP_PKEY *key, const struct algorithm *algorithm)
{
    int id = EVP_PKEY_get_base_id(key);
    switch (algorithm->family) {
    case JWS_RSA:
    case JWS_PSS: return id == EVP_PKEY_RSA;
    case JWS_EC: return id == EVP_PKEY_EC && EVP_PKEY_get_bits(key) == algorithm->bits;
    case JWS_ED: return id == EVP_PKEY_ED25519;
    case JWS_HMAC: break;
    }
    return false;
}

static int load_keys(struct tls_jws *jws, struct kp_bytes private_key, struct kp_bytes public_key, struct kp_error *error)
{
    const char *name = jws->algorithm->name;
    if (!private_key.len && !public_key.len)
        return kp_fail(error, KP_EINVALID, "%s: missing key data", name);
    EVP_PKEY *public_half = NULL;
    int rc = 0;
    if (private_key.len && !(jws->key = read_key(private_key, true)))
        return kp_fail(error, KP_EBADREQUEST, "%s: the private key is no usable PEM", name);
    if (public_key.len && !(public_half = read_key(public_key, false)))
        return kp_fail(error, KP_EBADREQUEST, "%s: the public key is no usable PEM", name);
    jws->can_sign = jws->key != NULL;
    if (jws->key && public_half && EVP_PKEY_eq(jws->key, public_half) != 1)
        rc = kp_fail(error, KP_EINVALID, "%s: public and private keys don't match", name);
    if (!jws->key) {
        jws->key = public_half;
        public_half = NULL;
    }
    EVP_PKEY_free(public_half);
    if (rc == 0 && !key_fits(jws->key, jws->algorithm))
        rc = kp_fail(error, KP_EINVALID, "%s: the key is of another kind", name);
    return rc;
}

int tls_jws_new(const char *algorithm, struct kp_bytes private_key, struct kp_bytes public_key, struct tls_jws **ret_jws,
                struct kp_error *error)
{
    const struct algorithm *known = find_algorithm(algorithm);
    if (!known)
        return kp_fail(error, KP_ENOTSUPPORTED, "unknown signing method \"%.32s\"", algorithm);
    KP_AUTO(tls_jws_free) struct tls_jws *jws = kp_calloc(1, sizeof(*jws));
    jws->algorithm = known;
    if (known->family == JWS_HMAC) {
        if (private_key.len == 0 || private_key.len > JWS_SECRET_MAX)
            return kp_fail(error, KP_EINVALID, "%s: missing key data", known->name);
        kp_buf_append(&jws->secret, private_key.data, private_key.len);
        jws->can_sign = true;
    } else {
        int rc = load_keys(jws, private_key, public_key, error);
        if (rc < 0)
            return rc;
    }
    *ret_jws = KP_TAKE(jws);
    return 0;
}

void tls_jws_free(struct tls_jws *jws)
{
    if (!jws)
        return;
    EVP_PKEY_free(jws->key);
    if (jws->secret.data)
        OPENSSL_cleanse(jws->secret.data, jws->secret.len);
    kp_buf_done(&jws->secret);
    free(jws);
}

bool tls_jws_can_sign(const struct tls_jws *jws) { return jws->can_sign; }
const char *tls_jws_algorithm(const struct tls_jws *jws) { return jws->algorithm->name; }

/* ---- ECDSA signatures are DER in OpenSSL and r || s here ---- */

static size_t half_of(const struct tls_jws *jws) { return (size_t)(jws->algorithm->bits + 7) / 8; }

static bool ec_to_raw(const struct tls_jws *jws, unsigned char *signature, size_t *len)
{
    const unsigned char *der = signature;
    size_t half = half_of(jws);
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long)*len);
    bool ok = sig && BN_bn2binpad(ECDSA_SIG_get0_r(sig), signature, (int)half) == (int)half &&
              BN_bn2binpad(ECDSA_SIG_get0_s(sig), signature + half, (int)half) == (int)half;
    ECDSA_SIG_free(sig);
    *len = 2 * half;
    return ok;
}

static size_t ec_from_raw(const struct tls_jws *jws, const uint8_t *raw, size_t len, unsigned char out[JWS_SIGNATURE_MAX])
{
    size_t half = half_of(jws);
    if (len != 2 * half)
        return 0;
    ECDSA_SIG *sig = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(raw, (int)half, NULL), *s = BN_bin2bn(raw + half, (int)half, NULL);
    KP_ASSERT(sig && r && s);
    ECDSA_SIG_set0(sig, r, s);
    unsigned char *p = out;
    int der_len = i2d_ECDSA_SIG(sig, &p);
    ECDSA_SIG_free(sig);
    return der_len > 0 ? (size_t)der_len : 0;
}

/* ---- the signature over header.payload ---- */

static bool hmac(const struct tls_jws *jws, const char *data, size_t len, unsigned char out[JWS_SIGNATURE_MAX],
                 size_t *ret_len)
{
    return EVP_Q_mac(NULL, "HMAC", NULL, jws->algorithm->digest, NULL, jws->secret.data, jws->secret.len,
                     (const unsigned char *)data, len, out, JWS_SIGNATURE_MAX, ret_len) != NULL;
}

/* PSS has a salt as long as its digest (RFC 7518 3.5). */
static bool set_padding(const struct tls_jws *jws, EVP_PKEY_CTX *key_ctx)
{
    return jws->algorithm->family != JWS_PSS || (EVP_PKEY_CTX_set_rsa_padding(key_ctx, RSA_PKCS1_PSS_PADDING) > 0 &&
                                                 EVP_PKEY_CTX_set_rsa_pss_saltlen(key_ctx, RSA_PSS_SALTLEN_DIGEST) > 0);
}

static bool sign_bytes(const struct tls_jws *jws, const char *data, size_t len, unsigned char out[JWS_SIGNATURE_MAX],
                       size_t *ret_len)
{
    if (jws->algorithm->family == JWS_HMAC)
        return hmac(jws, data, len, out, ret_len);
    EVP_PKEY_CTX *key_ctx = NULL;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    *ret_len = JWS_SIGNATURE_MAX;
    bool ok = ctx &&
              EVP_DigestSignInit_ex(ctx, &key_ctx, jws->algorithm->digest, NULL, NULL, jws->key, NULL) > 0 &&
              set_padding(jws, key_ctx) && EVP_DigestSign(ctx, out, ret_len, (const unsigned char *)data, len) > 0;
    EVP_MD_CTX_free(ctx);
    return ok && (jws->algorithm->family != JWS_EC || ec_to_raw(jws, out, ret_len));
}

static bool verify_bytes(const struct tls_jws *jws, const char *data, size_t len, const uint8_t *signature,
                         size_t signature_len)
{
    unsigned char buffer[JWS_SIGNATURE_MAX];
    size_t buffer_len;
    if (jws->algorithm->family == JWS_HMAC)
        return hmac(jws, data, len, buffer, &buffer_len) && buffer_len == signature_len &&
               kp_equal_constant_time(buffer, signature, buffer_len);
    if (jws->algorithm->family == JWS_EC) {
        signature_len = ec_from_raw(jws, signature, signature_len, buffer);
        signature = buffer;
        if (signature_len == 0)
            return false;
    }
    EVP_PKEY_CTX *key_ctx = NULL;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx &&
              EVP_DigestVerifyInit_ex(ctx, &key_ctx, jws->algorithm->digest, NULL, NULL, jws->key, NULL) > 0 &&
              set_padding(jws, key_ctx) &&
              EVP_DigestVerify(ctx, signature, signature_len, (const unsigned char *)data, len) == 1;
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    return ok;
}

int tls_jws_sign(const struct tls_jws *jws, const char *payload_json, struct kp_buf *out, struct kp_error *error)
{
    if (!jws->can_sign)
        return kp_fail(error, KP_EINVALID, "sign a token: only the public half of the key is known");
    KP_AUTO_BUF struct kp_buf header = {0};
    KP_AUTO_BUF struct kp_buf token = {0};
    unsigned char signature[JWS_SIGNATURE_MAX];
    size_t len;
    kp_buf_printf(&header, "{\"alg\":\"%s\",\"typ\":\"JWT\"}", jws->algorithm->name);
    kp_base64url_encode(&token, header.data, header.len);
    kp_buf_putc(&token, '.');
    kp_base64url_encode(&token, payload_json, strlen(payload_json));
    if (!sign_bytes(jws, token.data, token.len, signature, &len))
        return tls_openssl_fail(error, KP_EINTERNAL, "sign a token");
    kp_buf_putc(&token, '.');
    kp_base64url_encode(&token, signature, len);
    kp_buf_append(out, token.data, token.len);
    return 0;
}

int tls_jws_verify(const struct tls_jws *jws, const char *token, struct kp_error *error)
{
    size_t len = strnlen(token, TLS_JWT_BYTES_MAX + 1);
    const char *dot = strrchr(token, '.');
    KP_AUTO_BUF struct kp_buf signature = {0};
    if (len > TLS_JWT_BYTES_MAX || !dot || kp_base64url_decode(&signature, dot + 1, len - (size_t)(dot + 1 - token)) < 0)
        return kp_fail(error, KP_EUNAUTHORIZED, "token: malformed");
    if (!verify_bytes(jws, token, (size_t)(dot - token), (const uint8_t *)signature.data, signature.len))
        return kp_fail(error, KP_EUNAUTHORIZED, "token: wrong signature");
    return 0;
}
