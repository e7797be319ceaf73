/* What the files of lib/tls share. */
#ifndef KP_TLS_INTERNAL_H
#define KP_TLS_INTERNAL_H

#include "lib/tls/tls.h"

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

struct tls_key {
    int refs; /* atomic */
    EVP_PKEY *pkey;
    bool is_private;
};

struct tls_cert {
    int refs; /* atomic */
    X509 *x509;
    struct kp_arena *arena; /* holds what info points to */
    struct tls_cert_info info;
};

struct tls_csr {
    X509_REQ *req;
    struct kp_arena *arena;
    struct tls_cert_info info;
    size_t other_names;
};

/* kp_fail with the reason of OpenSSL's newest error appended; empties OpenSSL's queue of errors. */
int tls_openssl_fail(struct kp_error *error, int code, const char *format, ...) KP_PRINTF(3, 4);
/* Takes over pkey. */
struct tls_key *tls_key_wrap(EVP_PKEY *pkey, bool is_private);
/* Takes over x509, also on failure. */
int tls_cert_wrap(X509 *x509, struct tls_cert **ret_cert, struct kp_error *error);
/* Subject and SANs into info, strings in arena. KP_EBADREQUEST for names that are no text. */
int tls_names_read(struct kp_arena *arena, const X509_NAME *subject, const GENERAL_NAMES *sans, struct tls_cert_info *info,
               size_t *ret_others, struct kp_error *error);
int tls_names_write_subject(X509_NAME *name, const struct tls_subject *subject, struct kp_error *error);
/* *ret_sans is NULL when there are none. */
int tls_names_make_sans(const struct tls_subject *subject, GENERAL_NAMES **ret_sans, struct kp_error *error);
/* Makes and signs a certificate. ca_cert NULL: self-signed CA. */
int tls_cert_issue(EVP_PKEY *public_key, const X509_NAME *subject, GENERAL_NAMES *sans,
               const struct tls_cert_options *options, const struct tls_cert *ca_cert, const struct tls_key *ca_key,
               struct tls_cert **ret_cert, struct kp_error *error);
/* All certificates of a PEM text, appended to stack; how many, or a negative code. */
int tls_pem_read_certs(const char *pem, STACK_OF(X509) *stack, struct kp_error *error);

#endif
