/* ed25519 keys in the formats of SSH: authorized_keys and known_hosts lines, OpenSSH's and dropbear's private key files. */
#include "ssh/ssh.h"
#include "tls/tls.h"

#define KEY_TYPE "ssh-ed25519"
#define LINE_BYTES 70 /* of base64, as ssh-keygen has them */

static void put_u32(struct kp_buf *out, uint32_t value)
{
    const uint8_t bytes[] = {(uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8), (uint8_t)value};
    kp_buf_append(out, bytes, sizeof(bytes));
}

/* RFC 4251 5: a string is its length and its bytes. */
static void put_string(struct kp_buf *out, const void *data, size_t len)
{
    put_u32(out, (uint32_t)len);
    kp_buf_append(out, data, len);
}

static void put_text(struct kp_buf *out, const char *text)
{
    put_string(out, text, strlen(text));
}

static void put_public(struct kp_buf *out, const struct sshc_key *key) /* RFC 8709 4 */
{
    put_text(out, KEY_TYPE);
    put_string(out, key->public_key, sizeof(key->public_key));
}

/* The private half as libraries of NaCl's line keep it: the seed, then the public key. */
static void put_private(struct kp_buf *out, const struct sshc_key *key)
{
    put_u32(out, sizeof(key->seed) + sizeof(key->public_key));
    kp_buf_append(out, key->seed, sizeof(key->seed));
    kp_buf_append(out, key->public_key, sizeof(key->public_key));
}

void sshc_key_from_seed(const uint8_t seed[SSHC_SEED_BYTES], struct sshc_key *ret)
{
    memcpy(ret->seed, seed, sizeof(ret->seed));
    tls_ed25519_public(ret->seed, ret->public_key);
}

void sshc_key_public_line(const struct sshc_key *key, const char *comment, struct kp_buf *out)
{
    KP_AUTO_BUF struct kp_buf blob = {0};
    put_public(&blob, key);
    kp_buf_puts(out, KEY_TYPE " ");
    kp_base64_encode(out, blob.data, blob.len);
    kp_buf_printf(out, "%s%s\n", kp_empty(comment) ? "" : " ", comment ? comment : "");
}

void sshc_key_host_line(const struct sshc_key *key, const char *host, int port, struct kp_buf *out)
{
    if (port == 0 || port == SSHC_PORT)
        kp_buf_printf(out, "%s ", host);
    else
        kp_buf_printf(out, "[%s]:%d ", host, port);
    sshc_key_public_line(key, NULL, out);
}

void sshc_key_private_text(const struct sshc_key *key, const char *comment, struct kp_buf *out)
{
    KP_AUTO_BUF struct kp_buf blob = {0}, public_key = {0}, secret = {0}, base64 = {0};
    uint8_t check[TLS_SHA256_BYTES];
    put_public(&public_key, key);
    /* Two equal numbers tell whether a passphrase fits; there is none, so they need not be random. */
    tls_sha256(key->public_key, sizeof(key->public_key), check);
    kp_buf_append(&secret, check, 4);
    kp_buf_append(&secret, check, 4);
    kp_buf_append(&secret, public_key.data, public_key.len);
    put_private(&secret, key);
    put_text(&secret, comment ? comment : "");
    for (char pad = 1; secret.len % 8 != 0; pad++)
        kp_buf_putc(&secret, pad);
    kp_buf_append(&blob, "openssh-key-v1", sizeof("openssh-key-v1"));
    put_text(&blob, "none");
    put_text(&blob, "none");
    put_text(&blob, "");
    put_u32(&blob, 1);
    put_string(&blob, public_key.data, public_key.len);
    put_string(&blob, secret.data, secret.len);
    kp_base64_encode(&base64, blob.data, blob.len);
    kp_buf_puts(out, "-----BEGIN OPENSSH PRIVATE KEY-----\n");
    for (size_t at = 0; at < base64.len; at += LINE_BYTES) {
        kp_buf_append(out, base64.data + at, KP_MIN((size_t)LINE_BYTES, base64.len - at));
        kp_buf_putc(out, '\n');
    }
    kp_buf_puts(out, "-----END OPENSSH PRIVATE KEY-----\n");
}

void sshc_key_dropbear(const struct sshc_key *key, struct kp_buf *out)
{
    put_text(out, KEY_TYPE);
    put_private(out, key);
}
