/* Certificates that a program makes for itself and keeps. */
#include "lib/tls/tls.h"

#include <unistd.h>

static bool usable(const char *cert_file, const char *key_file)
{
    KP_AUTO_BUF struct kp_buf pem = {0};
    KP_AUTO(tls_cert_unref) struct tls_cert *cert = NULL;
    KP_AUTO(tls_key_unref) struct tls_key *key = NULL;
    KP_AUTO(tls_key_unref) struct tls_key *named = NULL;
    return kp_read_file(cert_file, TLS_CERT_PEM_MAX, &pem, NULL) == 0 && tls_cert_from_pem(pem.data, pem.len, &cert, NULL) == 0 &&
           tls_cert_info(cert)->not_after_s > kp_now_s() && tls_key_load(key_file, &key, NULL) == 0 &&
           tls_cert_key(cert, &named, NULL) == 0 && tls_key_equal(key, named);
}

static int make(const struct tls_cert_options *options, const char *cert_file, const char *key_file, struct kp_error *error)
{
    KP_AUTO(tls_key_unref) struct tls_key *key = NULL;
    KP_AUTO(tls_cert_unref) struct tls_cert *cert = NULL;
    int rc = tls_key_generate(TLS_KEY_ECDSA_P256, &key, error);
    if (rc == 0)
        rc = tls_cert_create_ca(key, options, &cert, error);
    if (rc == 0)
        rc = tls_key_store(key, key_file, error);
    return rc < 0 ? rc : tls_cert_store(cert, cert_file, error);
}

int tls_self_signed(const char *folder, const struct tls_cert_options *options, char **ret_cert_file, char **ret_key_file,
                    struct kp_error *error)
{
    int rc = kp_mkdir_p(folder, 0700, error);
    if (rc < 0)
        return kp_wrap(error, "self-signed certificate");
    KP_AUTO_FREE char *absolute = realpath(folder, NULL);
    if (!absolute)
        return kp_fail_errno(error, "self-signed certificate in %s", folder);
    KP_AUTO_FREE char *cert_file = kp_asprintf("%s/cert.pem", absolute);
    KP_AUTO_FREE char *key_file = kp_asprintf("%s/key.pem", absolute);
    rc = usable(cert_file, key_file) ? 0 : make(options, cert_file, key_file, error);
    if (rc < 0)
        return kp_wrap(error, "self-signed certificate");
    *ret_cert_file = KP_TAKE(cert_file);
    *ret_key_file = KP_TAKE(key_file);
    return 0;
}
