/* Feeds arbitrary text to what reads credentials from strangers: tokens, PEM certificates, requests and keys. */
#include "lib/tls/tls.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct tls_key *key;
    if (!key && tls_key_generate(TLS_KEY_ECDSA_P256, &key, NULL) < 0)
        abort();
    char *text = kp_strndup((const char *)data, len);
    struct kp_buf header = {0}, payload = {0};
    struct tls_cert *cert = NULL;
    struct tls_csr *csr = NULL;
    struct tls_key *parsed = NULL;
    int rc = tls_jwt_decode(text, &header, &payload, NULL);
    KP_ASSERT(rc <= 0);
    kp_buf_done(&payload);
    rc = tls_jwt_verify(text, &key, 1, &payload, NULL);
    KP_ASSERT(rc < 0); /* nobody signs by chance */
    if (tls_cert_from_pem(text, len, &cert, NULL) == 0)
        KP_ASSERT(tls_cert_info(cert)->common_name != NULL);
    tls_cert_unref(cert);
    cert = NULL;
    if (tls_cert_from_der(data, len, &cert, NULL) == 0)
        KP_ASSERT(tls_cert_info(cert)->common_name != NULL);
    if (tls_csr_from_pem(text, len, &csr, NULL) == 0)
        KP_ASSERT(tls_csr_info(csr)->common_name != NULL);
    rc = tls_key_from_pem(text, len, &parsed, NULL);
    KP_ASSERT(rc <= 0);
    tls_cert_unref(cert);
    tls_csr_free(csr);
    tls_key_unref(parsed);
    kp_buf_done(&header);
    kp_buf_done(&payload);
    free(text);
    return 0;
}
