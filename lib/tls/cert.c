/* Certificates: parsing, what they say, and the verification of chains. */
#include "lib/tls/tls_internal.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <string.h>
#include <time.h>

#define CERTS_PER_PEM_MAX 512

struct tls_cert *tls_cert_ref(struct tls_cert *cert)
{
    __atomic_fetch_add(&cert->refs, 1, __ATOMIC_RELAXED);
    return cert;
}

void tls_cert_unref(struct tls_cert *cert)
{
    if (!cert || __atomic_fetch_sub(&cert->refs, 1, __ATOMIC_ACQ_REL) != 1)
        return;
    X509_free(cert->x509);
    kp_arena_free(cert->arena);
    free(cert);
}

static int64_t asn1_seconds(const ASN1_TIME *time)
{
    struct tm tm;
    if (!ASN1_TIME_to_tm(time, &tm))
        return 0;
    return (int64_t)timegm(&tm);
}

static unsigned read_usages(X509 *x509)
{
    unsigned usages = 0;
    uint32_t basic = X509_get_key_usage(x509);
    if (basic != UINT32_MAX) {
        usages |= basic & KU_KEY_CERT_SIGN ? TLS_USAGE_CERT_SIGN : 0u;
        usages |= basic & KU_DIGITAL_SIGNATURE ? TLS_USAGE_DIGITAL_SIGNATURE : 0u;
        usages |= basic & KU_KEY_ENCIPHERMENT ? TLS_USAGE_KEY_ENCIPHERMENT : 0u;
    }
    uint32_t extended = X509_get_extended_key_usage(x509);
    if (extended != UINT32_MAX) {
        usages |= extended & XKU_SSL_SERVER ? TLS_USAGE_SERVER : 0u;
        usages |= extended & XKU_SSL_CLIENT ? TLS_USAGE_CLIENT : 0u;
    }
    return usages;
}

static void read_serial(X509 *x509, char out[65])
{
    BIGNUM *number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(x509), NULL);
    char *hex = number ? BN_bn2hex(number) : NULL;
    snprintf(out, 65, "%.64s", hex ? hex : "");
    OPENSSL_free(hex);
    BN_free(number);
}

static int cert_read_info(struct tls_cert *cert, struct kp_error *error)
{
    struct tls_cert_info *info = &cert->info;
    GENERAL_NAMES *sans = X509_get_ext_d2i(cert->x509, NID_subject_alt_name, NULL, NULL);
    int rc = tls_names_read(cert->arena, X509_get_subject_name(cert->x509), sans, info, NULL, error);
    GENERAL_NAMES_free(sans);
    if (rc < 0)
        return rc;
    struct tls_cert_info issuer = {0};
    rc = tls_names_read(cert->arena, X509_get_issuer_name(cert->x509), NULL, &issuer, NULL, error);
    if (rc < 0)
        return rc;
    info->issuer_common_name = issuer.common_name;
    info->usages = read_usages(cert->x509);
    info->is_ca = X509_check_ca(cert->x509) == 1;
    info->not_before_s = asn1_seconds(X509_get0_notBefore(cert->x509));
    info->not_after_s = asn1_seconds(X509_get0_notAfter(cert->x509));
    KP_AUTO_BUF struct kp_buf der = {0};
    tls_cert_to_der(cert, &der);
    tls_sha256_hex(der.data, der.len, info->fingerprint_sha256);
    read_serial(cert->x509, info->serial);
    ERR_clear_error();
    return 0;
}

int tls_cert_wrap(X509 *x509, struct tls_cert **ret_cert, struct kp_error *error)
{
    struct tls_cert *cert = kp_calloc(1, sizeof(*cert));
    cert->refs = 1;
    cert->x509 = x509;
    cert->arena = kp_arena_new(TLS_CERT_PEM_MAX * 4);
    int rc = cert_read_info(cert, error);
    if (rc < 0) {
        tls_cert_unref(cert);
        return rc;
    }
    *ret_cert = cert;
    return 0;
}

int tls_cert_from_pem(const char *pem, size_t len, struct tls_cert **ret_cert, struct kp_error *error)
{
    if (len > TLS_CERT_PEM_MAX)
        return kp_fail(error, KP_ETOOLARGE, "PEM certificate larger than %zu bytes", TLS_CERT_PEM_MAX);
    BIO *bio = BIO_new_mem_buf(pem, (int)len);
    X509 *x509 = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    BIO_free(bio);
    if (!x509)
        return tls_openssl_fail(error, KP_EBADREQUEST, "parse a PEM certificate");
    return tls_cert_wrap(x509, ret_cert, error);
}

int tls_cert_from_der(const void *der, size_t len, struct tls_cert **ret_cert, struct kp_error *error)
{
    if (len > TLS_CERT_PEM_MAX)
        return kp_fail(error, KP_ETOOLARGE, "DER certificate larger than %zu bytes", TLS_CERT_PEM_MAX);
    const unsigned char *p = der;
    X509 *x509 = d2i_X509(NULL, &p, (long)len);
    if (!x509 || p != (const unsigned char *)der + len) {
        X509_free(x509);
        return tls_openssl_fail(error, KP_EBADREQUEST, "parse a DER certificate");
    }
    return tls_cert_wrap(x509, ret_cert, error);
}

int tls_cert_load(const char *path, struct tls_cert **ret_cert, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf pem = {0};
    int rc = kp_read_file(path, TLS_CERT_PEM_MAX, &pem, error);
    if (rc == 0)
        rc = tls_cert_from_pem(pem.data, pem.len, ret_cert, error);
    return rc < 0 ? kp_wrap(error, "load certificate %s", path) : 0;
}

void tls_cert_to_der(const struct tls_cert *cert, struct kp_buf *out)
{
    int len = i2d_X509(cert->x509, NULL);
    KP_ASSERT(len > 0);
    kp_buf_reserve(out, (size_t)len);
    unsigned char *p = (unsigned char *)out->data + out->len;
    i2d_X509(cert->x509, &p);
    out->len += (size_t)len;
    out->data[out->len] = '\0';
}

void tls_cert_to_pem(const struct tls_cert *cert, struct kp_buf *out)
{
    KP_AUTO_BUF struct kp_buf der = {0};
    KP_AUTO_BUF struct kp_buf text = {0};
    tls_cert_to_der(cert, &der);
    kp_base64_encode(&text, der.data, der.len);
    kp_buf_puts(out, "-----BEGIN CERTIFICATE-----\n");
    for (size_t at = 0; at < text.len; at += 64) { /* RFC 7468 2: lines of 64 */
        kp_buf_append(out, text.data + at, KP_MIN(text.len - at, (size_t)64));
        kp_buf_putc(out, '\n');
    }
    kp_buf_puts(out, "-----END CERTIFICATE-----\n");
}

int tls_cert_store(const struct tls_cert *cert, const char *path, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf pem = {0};
    tls_cert_to_pem(cert, &pem);
    int rc = kp_write_file(path, pem.data, pem.len, 0644, error);
    return rc < 0 ? kp_wrap(error, "store certificate") : 0;
}

const struct tls_cert_info *tls_cert_info(const struct tls_cert *cert)
{
    return &cert->info;
}

int tls_cert_key(const struct tls_cert *cert, struct tls_key **ret_key, struct kp_error *error)
{
    EVP_PKEY *pkey = X509_get_pubkey(cert->x509);
    if (!pkey)
        return tls_openssl_fail(error, KP_EBADREQUEST, "public key of certificate %s", cert->info.common_name);
    *ret_key = tls_key_wrap(pkey, false);
    return 0;
}

bool tls_cert_matches_host(const struct tls_cert *cert, const char *host)
{
    ASN1_OCTET_STRING *address = a2i_IPADDRESS(host);
    bool is_ip = address != NULL;
    ASN1_OCTET_STRING_free(address);
    ERR_clear_error();
    if (is_ip)
        return X509_check_ip_asc(cert->x509, host, 0) == 1;
    const unsigned flags = X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS;
    return X509_check_host(cert->x509, host, 0, flags, NULL) == 1;
}

int tls_pem_read_certs(const char *pem, STACK_OF(X509) *stack, struct kp_error *error)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    if (!bio)
        return tls_openssl_fail(error, KP_EINTERNAL, "read PEM certificates");
    int count = 0, rc = 0;
    while (rc == 0) {
        X509 *x509 = PEM_read_bio_X509(bio, NULL, NULL, NULL);
        if (!x509) {
            unsigned long number = ERR_peek_last_error();
            if (ERR_GET_LIB(number) != ERR_LIB_PEM || ERR_GET_REASON(number) != PEM_R_NO_START_LINE)
                rc = tls_openssl_fail(error, KP_EBADREQUEST, "PEM certificate number %d", count + 1);
            break;
        }
        if (count == CERTS_PER_PEM_MAX)
            rc = kp_fail(error, KP_ETOOLARGE, "more than %d PEM certificates", CERTS_PER_PEM_MAX);
        else if (!sk_X509_push(stack, x509))
            rc = tls_openssl_fail(error, KP_EINTERNAL, "read PEM certificates");
        if (rc < 0)
            X509_free(x509);
        else
            count++;
    }
    BIO_free(bio);
    ERR_clear_error();
    return rc < 0 ? rc : count;
}

static int verify_in(X509_STORE_CTX *ctx, const struct tls_cert *cert, STACK_OF(X509) *roots, STACK_OF(X509) *chain,
                     enum tls_usage usage, int64_t now_s, struct kp_error *error)
{
    if (!X509_STORE_CTX_init(ctx, NULL, cert->x509, chain))
        return tls_openssl_fail(error, KP_EINTERNAL, "verify a certificate");
    X509_STORE_CTX_set0_trusted_stack(ctx, roots);
    X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);
    X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_PARTIAL_CHAIN);
    if (usage == TLS_USAGE_SERVER || usage == TLS_USAGE_CLIENT)
        X509_VERIFY_PARAM_set_purpose(param, usage == TLS_USAGE_SERVER ? X509_PURPOSE_SSL_SERVER
                                                                        : X509_PURPOSE_SSL_CLIENT);
    if (now_s)
        X509_VERIFY_PARAM_set_time(param, (time_t)now_s);
    if (X509_verify_cert(ctx) == 1)
        return 0;
    int reason = X509_STORE_CTX_get_error(ctx);
    ERR_clear_error();
    return kp_fail(error, KP_EUNAUTHORIZED, "certificate \"%s\" does not verify: %s", cert->info.common_name,
                   X509_verify_cert_error_string(reason));
}

int tls_cert_verify(const struct tls_cert *cert, const char *chain_pem, const char *ca_pem, enum tls_usage usage,
                    int64_t now_s, struct kp_error *error)
{
    STACK_OF(X509) *roots = sk_X509_new_null();
    STACK_OF(X509) *chain = sk_X509_new_null();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    int rc = roots && chain && ctx ? 0 : tls_openssl_fail(error, KP_EINTERNAL, "verify a certificate");
    if (rc == 0)
        rc = tls_pem_read_certs(ca_pem, roots, error);
    if (rc >= 0 && chain_pem)
        rc = tls_pem_read_certs(chain_pem, chain, error);
    if (rc >= 0)
        rc = verify_in(ctx, cert, roots, chain, usage, now_s, error);
    X509_STORE_CTX_free(ctx);
    sk_X509_pop_free(chain, X509_free);
    sk_X509_pop_free(roots, X509_free);
    return rc;
}
