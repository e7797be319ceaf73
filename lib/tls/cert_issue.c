/* Makes certificates and certificate signing requests. */
#include "lib/tls/tls_internal.h"

#include <openssl/err.h>
#include <openssl/pem.h>

#define LIFETIME_DEFAULT_S (365 * 86400LL)
#define BACKDATE_S 300
#define SERIAL_BYTES 16

static int add_ext(X509 *x509, X509 *issuer, int nid, const char *value, struct kp_error *error)
{
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, issuer, x509, NULL, NULL, 0);
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    int ok = ext && X509_add_ext(x509, ext, -1);
    X509_EXTENSION_free(ext);
    return ok ? 0 : tls_openssl_fail(error, KP_EINTERNAL, "certificate extension %s", OBJ_nid2sn(nid));
}

static int add_leaf_exts(X509 *x509, X509 *issuer, unsigned usages, bool rsa, struct kp_error *error)
{
    int rc = add_ext(x509, issuer, NID_key_usage,
                     rsa || usages & TLS_USAGE_KEY_ENCIPHERMENT ? "critical,digitalSignature,keyEncipherment"
                                                                 : "critical,digitalSignature",
                     error);
    static const char *const extended[] = {NULL, "serverAuth", "clientAuth", "serverAuth,clientAuth"};
    const char *wanted = extended[usages & (TLS_USAGE_SERVER | TLS_USAGE_CLIENT)];
    if (rc == 0 && wanted)
        rc = add_ext(x509, issuer, NID_ext_key_usage, wanted, error);
    if (rc == 0)
        rc = add_ext(x509, issuer, NID_basic_constraints, "critical,CA:FALSE", error);
    return rc;
}

static int add_exts(X509 *x509, X509 *issuer, bool ca, unsigned usages, bool rsa, GENERAL_NAMES *sans,
                    struct kp_error *error)
{
    int rc = 0;
    if (ca) {
        rc = add_ext(x509, issuer, NID_basic_constraints, "critical,CA:TRUE", error);
        if (rc == 0)
            rc = add_ext(x509, issuer, NID_key_usage, "critical,digitalSignature,keyEncipherment,keyCertSign", error);
    } else {
        rc = add_leaf_exts(x509, issuer, usages, rsa, error);
    }
    if (rc == 0)
        rc = add_ext(x509, issuer, NID_subject_key_identifier, "hash", error);
    if (rc == 0 && !ca)
        rc = add_ext(x509, issuer, NID_authority_key_identifier, "keyid", error);
    if (rc == 0 && sans) {
        bool critical = X509_NAME_entry_count(X509_get_subject_name(x509)) == 0; /* RFC 5280 4.2.1.6 */
        if (X509_add1_ext_i2d(x509, NID_subject_alt_name, sans, critical, X509V3_ADD_DEFAULT) != 1)
            rc = tls_openssl_fail(error, KP_EINTERNAL, "subject alternative names");
    }
    return rc;
}

static int set_serial(X509 *x509)
{
    uint8_t bytes[SERIAL_BYTES];
    kp_random_bytes(bytes, sizeof(bytes));
    bytes[0] &= 0x7f; /* positive, and never zero */
    bytes[0] |= 0x40;
    BIGNUM *number = BN_bin2bn(bytes, sizeof(bytes), NULL);
    int ok = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(x509));
    BN_free(number);
    return ok;
}

static int set_basics(X509 *x509, EVP_PKEY *public_key, const X509_NAME *subject,
                      const struct tls_cert_options *options, const struct tls_cert *ca_cert, struct kp_error *error)
{
    int64_t now_s = kp_now_s();
    int64_t from_s = options->not_before_s ? options->not_before_s : now_s - BACKDATE_S;
    int64_t to_s = now_s + (options->lifetime_s ? options->lifetime_s : LIFETIME_DEFAULT_S);
    const X509_NAME *issuer = ca_cert ? X509_get_subject_name(ca_cert->x509) : subject;
    if (X509_set_version(x509, X509_VERSION_3) && set_serial(x509) && X509_set_pubkey(x509, public_key) &&
        X509_set_subject_name(x509, subject) && X509_set_issuer_name(x509, issuer) &&
        ASN1_TIME_set(X509_getm_notBefore(x509), (time_t)from_s) &&
        ASN1_TIME_set(X509_getm_notAfter(x509), (time_t)to_s))
        return 0;
    return tls_openssl_fail(error, KP_EINTERNAL, "fill in a certificate");
}

int tls_cert_issue(EVP_PKEY *public_key, const X509_NAME *subject, GENERAL_NAMES *sans,
               const struct tls_cert_options *options, const struct tls_cert *ca_cert, const struct tls_key *ca_key,
               struct tls_cert **ret_cert, struct kp_error *error)
{
    if (!ca_key->is_private)
        return kp_fail(error, KP_EINVALID, "sign a certificate: the CA's private key is needed");
    if (ca_cert && X509_check_private_key(ca_cert->x509, ca_key->pkey) != 1)
        return tls_openssl_fail(error, KP_EINVALID, "sign a certificate: the key does not belong to the CA \"%s\"",
                            ca_cert->info.common_name);
    X509 *x509 = X509_new();
    if (!x509)
        return tls_openssl_fail(error, KP_EINTERNAL, "make a certificate");
    bool rsa = EVP_PKEY_get_base_id(public_key) == EVP_PKEY_RSA;
    int rc = set_basics(x509, public_key, subject, options, ca_cert, error);
    if (rc == 0)
        rc = add_exts(x509, ca_cert ? ca_cert->x509 : x509, !ca_cert, options->usages, rsa, sans, error);
    if (rc == 0 && !X509_sign(x509, ca_key->pkey, EVP_sha256()))
        rc = tls_openssl_fail(error, KP_EINTERNAL, "sign a certificate");
    if (rc < 0) {
        X509_free(x509);
        return rc;
    }
    return tls_cert_wrap(x509, ret_cert, error);
}

static int create(const struct tls_key *key, const struct tls_cert_options *options, const struct tls_cert *ca_cert,
                  const struct tls_key *ca_key, struct tls_cert **ret_cert, struct kp_error *error)
{
    X509_NAME *name = X509_NAME_new();
    GENERAL_NAMES *sans = NULL;
    int rc = name ? tls_names_write_subject(name, &options->subject, error)
                  : tls_openssl_fail(error, KP_EINTERNAL, "make a certificate");
    if (rc == 0)
        rc = tls_names_make_sans(&options->subject, &sans, error);
    if (rc == 0)
        rc = tls_cert_issue(key->pkey, name, sans, options, ca_cert, ca_key, ret_cert, error);
    GENERAL_NAMES_free(sans);
    X509_NAME_free(name);
    if (rc < 0)
        return kp_wrap(error, "certificate for \"%s\"", options->subject.common_name ? options->subject.common_name : "");
    return 0;
}

int tls_cert_create_ca(const struct tls_key *key, const struct tls_cert_options *options, struct tls_cert **ret_cert,
                       struct kp_error *error)
{
    return create(key, options, NULL, key, ret_cert, error);
}

int tls_cert_create(const struct tls_key *key, const struct tls_cert_options *options, const struct tls_cert *ca_cert,
                    const struct tls_key *ca_key, struct tls_cert **ret_cert, struct kp_error *error)
{
    KP_ASSERT(ca_cert != NULL);
    return create(key, options, ca_cert, ca_key, ret_cert, error);
}

static int csr_fill(X509_REQ *req, const struct tls_key *key, const struct tls_subject *subject, GENERAL_NAMES *sans,
                    struct kp_error *error)
{
    int rc = tls_names_write_subject(X509_REQ_get_subject_name(req), subject, error);
    if (rc < 0)
        return rc;
    if (sans) {
        STACK_OF(X509_EXTENSION) *exts = NULL;
        int ok = X509V3_add1_i2d(&exts, NID_subject_alt_name, sans, 0, X509V3_ADD_DEFAULT) == 1 &&
                 X509_REQ_add_extensions(req, exts);
        sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
        if (!ok)
            return tls_openssl_fail(error, KP_EINTERNAL, "subject alternative names");
    }
    if (!X509_REQ_set_version(req, X509_REQ_VERSION_1) || !X509_REQ_set_pubkey(req, key->pkey) ||
        !X509_REQ_sign(req, key->pkey, EVP_sha256()))
        return tls_openssl_fail(error, KP_EINTERNAL, "sign the request");
    return 0;
}

int tls_csr_create(const struct tls_key *key, const struct tls_subject *subject, struct kp_buf *out_pem,
                   struct kp_error *error)
{
    if (!key->is_private)
        return kp_fail(error, KP_EINVALID, "certificate request: the private key is needed");
    X509_REQ *req = X509_REQ_new();
    BIO *bio = BIO_new(BIO_s_mem());
    GENERAL_NAMES *sans = NULL;
    int rc = req && bio ? tls_names_make_sans(subject, &sans, error) : tls_openssl_fail(error, KP_EINTERNAL, "make a request");
    if (rc == 0)
        rc = csr_fill(req, key, subject, sans, error);
    char *data = NULL;
    if (rc == 0 && !PEM_write_bio_X509_REQ(bio, req))
        rc = tls_openssl_fail(error, KP_EINTERNAL, "write the request as PEM");
    if (rc == 0) {
        long len = BIO_get_mem_data(bio, &data);
        kp_buf_append(out_pem, data, (size_t)len);
    }
    GENERAL_NAMES_free(sans);
    BIO_free(bio);
    X509_REQ_free(req);
    return rc < 0 ? kp_wrap(error, "certificate request") : 0;
}

void tls_csr_free(struct tls_csr *csr)
{
    if (!csr)
        return;
    X509_REQ_free(csr->req);
    kp_arena_free(csr->arena);
    free(csr);
}

static GENERAL_NAMES *csr_sans(const struct tls_csr *csr)
{
    STACK_OF(X509_EXTENSION) *exts = X509_REQ_get_extensions(csr->req);
    GENERAL_NAMES *sans = X509V3_get_d2i(exts, NID_subject_alt_name, NULL, NULL);
    sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
    ERR_clear_error();
    return sans;
}

int tls_csr_from_pem(const char *pem, size_t len, struct tls_csr **ret_csr, struct kp_error *error)
{
    if (len > TLS_CERT_PEM_MAX)
        return kp_fail(error, KP_ETOOLARGE, "certificate request larger than %zu bytes", TLS_CERT_PEM_MAX);
    BIO *bio = BIO_new_mem_buf(pem, (int)len);
    X509_REQ *req = bio ? PEM_read_bio_X509_REQ(bio, NULL, NULL, NULL) : NULL;
    BIO_free(bio);
    if (!req)
        return tls_openssl_fail(error, KP_EBADREQUEST, "parse a certificate request");
    KP_AUTO(tls_csr_free) struct tls_csr *csr = kp_calloc(1, sizeof(*csr));
    csr->req = req;
    csr->arena = kp_arena_new(TLS_CERT_PEM_MAX * 4);
    if (X509_REQ_verify(req, X509_REQ_get0_pubkey(req)) != 1)
        return tls_openssl_fail(error, KP_EBADREQUEST, "certificate request: its signature does not verify");
    GENERAL_NAMES *sans = csr_sans(csr);
    int rc = tls_names_read(csr->arena, X509_REQ_get_subject_name(req), sans, &csr->info, &csr->other_names, error);
    GENERAL_NAMES_free(sans);
    csr->info.issuer_common_name = "";
    if (rc < 0)
        return kp_wrap(error, "certificate request");
    *ret_csr = KP_TAKE(csr);
    return 0;
}

const struct tls_cert_info *tls_csr_info(const struct tls_csr *csr)
{
    return &csr->info;
}

size_t tls_csr_other_names(const struct tls_csr *csr)
{
    return csr->other_names;
}

int tls_csr_sign(const struct tls_csr *csr, const struct tls_cert_options *options, const struct tls_cert *ca_cert,
                 const struct tls_key *ca_key, struct tls_cert **ret_cert, struct kp_error *error)
{
    GENERAL_NAMES *sans = csr_sans(csr);
    EVP_PKEY *public_key = X509_REQ_get_pubkey(csr->req);
    int rc = public_key ? tls_cert_issue(public_key, X509_REQ_get_subject_name(csr->req), sans, options, ca_cert, ca_key,
                                     ret_cert, error)
                        : tls_openssl_fail(error, KP_EBADREQUEST, "public key of the request");
    EVP_PKEY_free(public_key);
    GENERAL_NAMES_free(sans);
    return rc < 0 ? kp_wrap(error, "sign the request of \"%s\"", csr->info.common_name) : 0;
}
