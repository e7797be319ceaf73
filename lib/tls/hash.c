/* SHA-256, SHA-1, HMAC-SHA256 and AES-256-GCM. */
#include "lib/tls/tls_internal.h"

#include <openssl/err.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <unistd.h>

#define FILE_CHUNK_BYTES ((size_t)256 << 10)

void tls_sha256(const void *data, size_t len, uint8_t out[TLS_SHA256_BYTES])
{
    SHA256(len ? data : (const void *)"", len, out);
}

static void to_hex(const uint8_t hash[TLS_SHA256_BYTES], char out[TLS_SHA256_HEX_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < TLS_SHA256_BYTES; i++) {
        out[2 * i] = digits[hash[i] >> 4];
        out[2 * i + 1] = digits[hash[i] & 15];
    }
    out[2 * TLS_SHA256_BYTES] = '\0';
}

void tls_sha256_hex(const void *data, size_t len, char out[TLS_SHA256_HEX_BYTES])
{
    uint8_t hash[TLS_SHA256_BYTES];
    tls_sha256(data, len, hash);
    to_hex(hash, out);
}

struct tls_sha256 {
    EVP_MD_CTX *ctx;
};

struct tls_sha256 *tls_sha256_new(void)
{
    struct tls_sha256 *hash = kp_calloc(1, sizeof(*hash));
    hash->ctx = EVP_MD_CTX_new();
    int ok = hash->ctx && EVP_DigestInit_ex(hash->ctx, EVP_sha256(), NULL);
    KP_ASSERT(ok);
    return hash;
}

void tls_sha256_update(struct tls_sha256 *hash, const void *data, size_t len)
{
    int ok = EVP_DigestUpdate(hash->ctx, data, len);
    KP_ASSERT(ok);
}

void tls_sha256_final(struct tls_sha256 *hash, uint8_t out[TLS_SHA256_BYTES])
{
    if (out) {
        int ok = EVP_DigestFinal_ex(hash->ctx, out, NULL);
        KP_ASSERT(ok);
    }
    EVP_MD_CTX_free(hash->ctx);
    free(hash);
}

void tls_sha256_final_hex(struct tls_sha256 *hash, char out[TLS_SHA256_HEX_BYTES])
{
    uint8_t digest[TLS_SHA256_BYTES];
    tls_sha256_final(hash, digest);
    to_hex(digest, out);
}

int tls_sha256_fd_hex(int fd, const char *path, char out[TLS_SHA256_HEX_BYTES], int64_t *ret_bytes, struct kp_error *error)
{
    KP_AUTO_FREE char *chunk = kp_malloc(FILE_CHUNK_BYTES);
    struct tls_sha256 *hash = tls_sha256_new();
    int64_t bytes = 0;
    ssize_t n;
    while ((n = read(fd, chunk, FILE_CHUNK_BYTES)) > 0) {
        tls_sha256_update(hash, chunk, (size_t)n);
        bytes += n;
    }
    int r = n < 0 ? kp_fail_errno(error, "read %s", path) : 0;
    tls_sha256_final_hex(hash, out);
    if (ret_bytes)
        *ret_bytes = bytes;
    return r;
}

void tls_hmac_sha256(const void *key, size_t key_len, const void *data, size_t len, uint8_t out[TLS_SHA256_BYTES])
{
    KP_ASSERT(key_len <= INT32_MAX);
    unsigned written = 0;
    const void *done = HMAC(EVP_sha256(), key_len ? key : "", (int)key_len, data, len, out, &written);
    KP_ASSERT(done && written == TLS_SHA256_BYTES);
}

void tls_sha1(const void *data, size_t len, uint8_t out[TLS_SHA1_BYTES])
{
    SHA1(len ? data : (const void *)"", len, out);
}

void tls_aead_seal(const uint8_t key[TLS_AEAD_KEY_BYTES], const uint8_t nonce[TLS_AEAD_NONCE_BYTES], const void *aad,
                   size_t aad_len, const void *plain, size_t len, struct kp_buf *out)
{
    KP_ASSERT(len < INT32_MAX - 64 && aad_len < INT32_MAX);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    kp_buf_reserve(out, len + TLS_AEAD_TAG_BYTES);
    unsigned char *to = (unsigned char *)out->data + out->len;
    int some = 0, rest = 0;
    int ok = ctx && EVP_EncryptInit_ex2(ctx, EVP_aes_256_gcm(), key, nonce, NULL) &&
             (!aad_len || EVP_EncryptUpdate(ctx, NULL, &some, aad, (int)aad_len)) &&
             (some = 0, !len || EVP_EncryptUpdate(ctx, to, &some, plain, (int)len)) &&
             EVP_EncryptFinal_ex(ctx, to + some, &rest) &&
             EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, TLS_AEAD_TAG_BYTES, to + len);
    KP_ASSERT(ok && (size_t)(some + rest) == len);
    EVP_CIPHER_CTX_free(ctx);
    out->len += len + TLS_AEAD_TAG_BYTES;
    out->data[out->len] = '\0';
}

int tls_aead_open(const uint8_t key[TLS_AEAD_KEY_BYTES], const uint8_t nonce[TLS_AEAD_NONCE_BYTES], const void *aad,
                  size_t aad_len, const void *sealed, size_t len, struct kp_buf *out)
{
    if (len < TLS_AEAD_TAG_BYTES || len >= INT32_MAX || aad_len >= INT32_MAX)
        return KP_ECORRUPT;
    size_t plain_len = len - TLS_AEAD_TAG_BYTES;
    uint8_t tag[TLS_AEAD_TAG_BYTES];
    memcpy(tag, (const uint8_t *)sealed + plain_len, sizeof(tag));
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    kp_buf_reserve(out, plain_len);
    unsigned char *to = (unsigned char *)out->data + out->len;
    int some = 0, rest = 0;
    int ok = ctx && EVP_DecryptInit_ex2(ctx, EVP_aes_256_gcm(), key, nonce, NULL) &&
             (!aad_len || EVP_DecryptUpdate(ctx, NULL, &some, aad, (int)aad_len)) &&
             (some = 0, !plain_len || EVP_DecryptUpdate(ctx, to, &some, sealed, (int)plain_len)) &&
             EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, sizeof(tag), tag) &&
             EVP_DecryptFinal_ex(ctx, to + some, &rest);
    EVP_CIPHER_CTX_free(ctx);
    ERR_clear_error();
    if (!ok) { /* nothing of what did not verify may be seen */
        OPENSSL_cleanse(to, plain_len);
        out->data[out->len] = '\0';
        return KP_ECORRUPT;
    }
    out->len += plain_len;
    out->data[out->len] = '\0';
    return 0;
}
