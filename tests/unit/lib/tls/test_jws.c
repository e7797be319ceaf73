/* Tokens signed with a configured algorithm: keys that fit, keys that do not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/tls/tls.h"

static struct kp_bytes bytes(const struct kp_buf *buf) { return (struct kp_bytes){(const uint8_t *)buf->data, buf->len}; }
static const struct kp_bytes NONE = {0};

static void make(enum tls_key_type type, struct kp_buf *private_pem, struct kp_buf *public_pem)
{
    KP_AUTO(tls_key_unref) struct tls_key *key = NULL;
    assert_int_equal(tls_key_generate(type, &key, NULL), 0);
    assert_int_equal(tls_key_to_pem(key, private_pem, NULL), 0);
    assert_int_equal(tls_key_public_to_pem(key, public_pem, NULL), 0);
}

/* RFC 7515 A.1: its key, and its payload as it is there, with line ends. */
static void the_mac_is_that_of_the_standard(void **state)
{
    static const char key[] = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    static const char token[] = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9."
                                "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ."
                                "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    KP_AUTO(tls_jws_free) struct tls_jws *jws = NULL;
    KP_AUTO_BUF struct kp_buf secret = {0};
    assert_int_equal(kp_base64url_decode(&secret, key, strlen(key)), 0);
    assert_int_equal(tls_jws_new("HS256", bytes(&secret), NONE, &jws, NULL), 0);
    assert_int_equal(tls_jws_verify(jws, token, NULL), 0);
    KP_AUTO_FREE char *changed = kp_strdup(token);
    changed[strlen(changed) - 2] ^= 1;
    assert_int_equal(tls_jws_verify(jws, changed, NULL), KP_EUNAUTHORIZED);
    assert_int_equal(tls_jws_verify(jws, "", NULL), KP_EUNAUTHORIZED);
    assert_int_equal(tls_jws_verify(jws, "a.b.", NULL), KP_EUNAUTHORIZED);
    assert_int_equal(tls_jws_verify(jws, "a.b.!", NULL), KP_EUNAUTHORIZED);
}

static void keys_must_fit_the_algorithm_and_each_other(void **state)
{
    KP_AUTO_BUF struct kp_buf rsa = {0};
    KP_AUTO_BUF struct kp_buf rsa_public = {0};
    KP_AUTO_BUF struct kp_buf ec = {0};
    KP_AUTO_BUF struct kp_buf ec_public = {0};
    KP_AUTO_BUF struct kp_buf other = {0};
    KP_AUTO_BUF struct kp_buf other_public = {0};
    struct tls_jws *jws = NULL;
    make(TLS_KEY_RSA_2048, &rsa, &rsa_public);
    make(TLS_KEY_ECDSA_P256, &ec, &ec_public);
    make(TLS_KEY_ECDSA_P256, &other, &other_public);
    assert_int_equal(tls_jws_new("none", bytes(&rsa), NONE, &jws, NULL), KP_ENOTSUPPORTED);
    assert_int_equal(tls_jws_new("RS256", NONE, NONE, &jws, NULL), KP_EINVALID);
    assert_int_equal(tls_jws_new("HS256", NONE, bytes(&rsa), &jws, NULL), KP_EINVALID);
    assert_int_equal(tls_jws_new("RS256", bytes(&ec), NONE, &jws, NULL), KP_EINVALID);
    assert_int_equal(tls_jws_new("ES384", bytes(&ec), NONE, &jws, NULL), KP_EINVALID); /* another curve */
    assert_int_equal(tls_jws_new("ES256", bytes(&ec), bytes(&other_public), &jws, NULL), KP_EINVALID);
    assert_int_equal(tls_jws_new("RS256", bytes(&rsa_public), NONE, &jws, NULL), KP_EBADREQUEST);
    assert_null(jws);
}

static void the_public_half_verifies_and_does_not_sign(void **state)
{
    KP_AUTO_BUF struct kp_buf ec = {0};
    KP_AUTO_BUF struct kp_buf ec_public = {0};
    KP_AUTO_BUF struct kp_buf token = {0};
    KP_AUTO(tls_jws_free) struct tls_jws *signer = NULL, *verifier = NULL;
    make(TLS_KEY_ECDSA_P256, &ec, &ec_public);
    assert_int_equal(tls_jws_new("ES256", bytes(&ec), NONE, &signer, NULL), 0);
    assert_int_equal(tls_jws_new("ES256", NONE, bytes(&ec_public), &verifier, NULL), 0);
    assert_true(tls_jws_can_sign(signer));
    assert_false(tls_jws_can_sign(verifier));
    assert_int_equal(tls_jws_sign(signer, "{}", &token, NULL), 0);
    assert_int_equal(tls_jws_verify(verifier, token.data, NULL), 0);
    assert_int_equal(tls_jws_sign(verifier, "{}", &token, NULL), KP_EINVALID);
    assert_string_equal(tls_jws_algorithm(verifier), "ES256");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_mac_is_that_of_the_standard),
        cmocka_unit_test(keys_must_fit_the_algorithm_and_each_other),
        cmocka_unit_test(the_public_half_verifies_and_does_not_sign),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
