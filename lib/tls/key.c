/* Private and public keys. */
#include "lib/tls/tls_internal.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <string.h>

#define KEY_PEM_MAX ((size_t)64 << 10)

/* Our limits and ciphers are set in code: the machine's openssl.cnf has no say, and need not be read at every start. */
__attribute__((constructor)) static void openssl_start(void)
{
    OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
}

int tls_openssl_fail(struct kp_error *error, int code, const char *format, ...)
{
    char message[KP_ERROR_MESSAGE_MAX / 2];
    va_list ap;
    va_start(ap, format);
    vsnprintf(message, sizeof(message), format, ap);
    va_end(ap);
    unsigned long number = ERR_peek_last_error();
    const char *reason = number ? ERR_reason_error_string(number) : NULL;
    ERR_clear_error();
    if (!reason)
        return kp_fail(error, code, "%s", message);
    return kp_fail(error, code, "%s: %s", message, reason);
}

struct tls_key *tls_key_wrap(EVP_PKEY *pkey, bool is_private)
{
    struct tls_key *key = kp_calloc(1, sizeof(*key));
    key->refs = 1;
    key->pkey = pkey;
    key->is_private = is_private;
    return key;
}

struct tls_key *tls_key_ref(struct tls_key *key)
{
    __atomic_fetch_add(&key->refs, 1, __ATOMIC_RELAXED);
    return key;
}

void tls_key_unref(struct tls_key *key)
{
    if (!key || __atomic_fetch_sub(&key->refs, 1, __ATOMIC_ACQ_REL) != 1)
        return;
    EVP_PKEY_free(key->pkey);
    free(key);
}

int tls_key_generate(enum tls_key_type type, struct tls_key **ret_key, struct kp_error *error)
{
    EVP_PKEY *pkey = type == TLS_KEY_RSA_2048 ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256");
    if (!pkey)
        return tls_openssl_fail(error, KP_EINTERNAL, "generate a key");
    *ret_key = tls_key_wrap(pkey, true);
    return 0;
}

/* Only keys that JWT and TLS here know what to do with. */
static int key_check_type(EVP_PKEY *pkey, struct kp_error *error)
{
    int id = EVP_PKEY_get_base_id(pkey);
    if (id == EVP_PKEY_RSA || id == EVP_PKEY_EC)
        return 0;
    return kp_fail(error, KP_EBADREQUEST, "key of type %s: only RSA and EC keys are supported",
                   EVP_PKEY_get0_type_name(pkey));
}

/* An encrypted key must fail, not ask for a password on the terminal. */
static int no_password(char *buffer, int size, int writing, void *arg)
{
    return -1;
}

static EVP_PKEY *public_from_cert(BIO *bio)
{
    X509 *x509 = PEM_read_bio_X509(bio, NULL, no_password, NULL);
    EVP_PKEY *pkey = x509 ? X509_get_pubkey(x509) : NULL;
    X509_free(x509);
    return pkey;
}

int tls_key_from_pem(const char *pem, size_t len, struct tls_key **ret_key, struct kp_error *error)
{
    if (len > KEY_PEM_MAX)
        return kp_fail(error, KP_ETOOLARGE, "PEM key larger than %zu bytes", KEY_PEM_MAX);
    BIO *bio = BIO_new_mem_buf(pem, (int)len);
    if (!bio)
        return tls_openssl_fail(error, KP_EINTERNAL, "read a PEM key");
    bool is_private = true;
    EVP_PKEY *pkey = PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL);
    if (!pkey) {
        is_private = false;
        BIO_reset(bio);
        pkey = PEM_read_bio_PUBKEY(bio, NULL, no_password, NULL);
    }
    if (!pkey) {
        BIO_reset(bio);
        pkey = public_from_cert(bio);
    }
    BIO_free(bio);
    ERR_clear_error(); /* failed tries leave theirs behind */
    if (!pkey)
        return kp_fail(error, KP_EBADREQUEST, "no usable PEM block of a key or certificate");
    int rc = key_check_type(pkey, error);
    if (rc < 0) {
        EVP_PKEY_free(pkey);
        return rc;
    }
    *ret_key = tls_key_wrap(pkey, is_private);
    return 0;
}

int tls_key_load(const char *path, struct tls_key **ret_key, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf pem = {0};
    int rc = kp_read_file(path, KEY_PEM_MAX, &pem, error);
    if (rc == 0) {
        rc = tls_key_from_pem(pem.data, pem.len, ret_key, error);
        OPENSSL_cleanse(pem.data, pem.len);
    }
    return rc < 0 ? kp_wrap(error, "load key %s", path) : 0;
}

static int bio_to_buf(BIO *bio, struct kp_buf *out)
{
    char *data = NULL;
    long len = BIO_get_mem_data(bio, &data);
    if (len <= 0)
        return -1;
    kp_buf_append(out, data, (size_t)len);
    return 0;
}

int tls_key_to_pem(const struct tls_key *key, struct kp_buf *out, struct kp_error *error)
{
    if (!key->is_private)
        return kp_fail(error, KP_EINVALID, "write a private key: only its public half is known");
    BIO *bio = BIO_new(BIO_s_secmem());
    int ok = bio && PEM_write_bio_PKCS8PrivateKey(bio, key->pkey, NULL, NULL, 0, NULL, NULL) && bio_to_buf(bio, out) == 0;
    BIO_free(bio);
    return ok ? 0 : tls_openssl_fail(error, KP_EINTERNAL, "write a private key as PEM");
}

int tls_key_public_to_pem(const struct tls_key *key, struct kp_buf *out, struct kp_error *error)
{
    BIO *bio = BIO_new(BIO_s_mem());
    int ok = bio && PEM_write_bio_PUBKEY(bio, key->pkey) && bio_to_buf(bio, out) == 0;
    BIO_free(bio);
    return ok ? 0 : tls_openssl_fail(error, KP_EINTERNAL, "write a public key as PEM");
}

int tls_key_store(const struct tls_key *key, const char *path, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf pem = {0};
    int rc = tls_key_to_pem(key, &pem, error);
    if (rc == 0)
        rc = kp_write_file(path, pem.data, pem.len, 0600, error);
    if (pem.data)
        OPENSSL_cleanse(pem.data, pem.len);
    return rc < 0 ? kp_wrap(error, "store key %s", path) : 0;
}

bool tls_key_is_private(const struct tls_key *key)
{
    return key->is_private;
}

bool tls_key_equal(const struct tls_key *a, const struct tls_key *b)
{
    bool equal = EVP_PKEY_eq(a->pkey, b->pkey) == 1;
    ERR_clear_error();
    return equal;
}
