/* ed25519 (RFC 8032) as SSH's keys need it: the public half of a seed. */
#include "lib/tls/tls_internal.h"

#include <openssl/evp.h>

void tls_ed25519_public(const uint8_t seed[TLS_ED25519_BYTES], uint8_t out[TLS_ED25519_BYTES])
{
    size_t len = TLS_ED25519_BYTES;
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, TLS_ED25519_BYTES);
    int ok = key && EVP_PKEY_get_raw_public_key(key, out, &len) && len == TLS_ED25519_BYTES;
    EVP_PKEY_free(key);
    KP_ASSERT(ok);
}
