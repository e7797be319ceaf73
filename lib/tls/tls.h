/* lib/tls: keys, certificates, TLS sessions over memory, hashes, JSON Web Tokens - all that touches OpenSSL. */
#ifndef KP_TLS_H
#define KP_TLS_H

#include "lib/base/base.h"

#include <sys/types.h>

/* ==== keys ====================================================================================================== */
/* A private key, or only the public half of one. Counted and immutable: may be used from any thread. */
struct tls_key;
enum tls_key_type { TLS_KEY_ECDSA_P256, TLS_KEY_RSA_2048 };
int tls_key_generate(enum tls_key_type type, struct tls_key **ret_key, struct kp_error *error) KP_NODISCARD;
/* Reads "PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY", "PUBLIC KEY", "RSA PUBLIC KEY" or the key of a
   "CERTIFICATE"; KP_EBADREQUEST when none of them is in it. */
int tls_key_from_pem(const char *pem, size_t len, struct tls_key **ret_key, struct kp_error *error) KP_NODISCARD;
int tls_key_load(const char *path, struct tls_key **ret_key, struct kp_error *error) KP_NODISCARD;
/* Appends PKCS#8 PEM; KP_EINVALID when there is only the public half. */
int tls_key_to_pem(const struct tls_key *key, struct kp_buf *out, struct kp_error *error) KP_NODISCARD;
int tls_key_public_to_pem(const struct tls_key *key, struct kp_buf *out, struct kp_error *error) KP_NODISCARD;
int tls_key_store(const struct tls_key *key, const char *path, struct kp_error *error) KP_NODISCARD; /* mode 0600 */
bool tls_key_is_private(const struct tls_key *key);
bool tls_key_equal(const struct tls_key *a, const struct tls_key *b); /* by their public halves */
struct tls_key *tls_key_ref(struct tls_key *key);
void tls_key_unref(struct tls_key *key); /* accepts NULL */
KP_DEFINE_AUTO(struct tls_key *, tls_key_unref)

/* ==== certificates ============================================================================================== */
#define TLS_CERT_NAMES_MAX 128          /* organisations, or SANs of one kind, in one certificate */
#define TLS_CERT_PEM_MAX ((size_t)1 << 20)
enum tls_usage {
    TLS_USAGE_SERVER = 1 << 0,       /* extended: serverAuth */
    TLS_USAGE_CLIENT = 1 << 1,       /* extended: clientAuth */
    TLS_USAGE_CERT_SIGN = 1 << 2,    /* keyCertSign */
    TLS_USAGE_DIGITAL_SIGNATURE = 1 << 3,
    TLS_USAGE_KEY_ENCIPHERMENT = 1 << 4,
};
/* What a certificate or a request says of its subject. Everything is borrowed by the functions that take it. */
struct tls_subject {
    const char *common_name;            /* NULL: none */
    const char *const *organizations;   /* NULL-terminated, or NULL */
    const char *const *dns_names;       /* NULL-terminated, or NULL */
    const char *const *ip_addresses;    /* NULL-terminated, textual, or NULL */
};
struct tls_cert_options {
    struct tls_subject subject;
    unsigned usages;          /* enum tls_usage; SERVER and CLIENT for a leaf (digital signature, and key encipherment
                                 for RSA, are added); ignored for a CA */
    int64_t not_before_s;     /* since 1970; 0: five minutes ago, for clocks that differ */
    int64_t lifetime_s;       /* from now on; 0: one year */
};

struct tls_cert; /* one X.509 certificate; counted and immutable */
/* A self-signed CA: basicConstraints CA, keyCertSign, subject and authority key identifiers. */
int tls_cert_create_ca(const struct tls_key *key, const struct tls_cert_options *options, struct tls_cert **ret_cert,
                       struct kp_error *error) KP_NODISCARD;
/* A leaf for the public half of key, signed by the CA. KP_EINVALID for a bad IP address or too many names. */
int tls_cert_create(const struct tls_key *key, const struct tls_cert_options *options, const struct tls_cert *ca_cert,
                    const struct tls_key *ca_key, struct tls_cert **ret_cert, struct kp_error *error) KP_NODISCARD;
/* The first certificate of a PEM text. */
int tls_cert_from_pem(const char *pem, size_t len, struct tls_cert **ret_cert, struct kp_error *error) KP_NODISCARD;
int tls_cert_from_der(const void *der, size_t len, struct tls_cert **ret_cert, struct kp_error *error) KP_NODISCARD;
int tls_cert_load(const char *path, struct tls_cert **ret_cert, struct kp_error *error) KP_NODISCARD;
void tls_cert_to_pem(const struct tls_cert *cert, struct kp_buf *out); /* appends */
void tls_cert_to_der(const struct tls_cert *cert, struct kp_buf *out); /* appends */
int tls_cert_store(const struct tls_cert *cert, const char *path, struct kp_error *error) KP_NODISCARD; /* 0644 */
struct tls_cert *tls_cert_ref(struct tls_cert *cert);
void tls_cert_unref(struct tls_cert *cert); /* accepts NULL */
KP_DEFINE_AUTO(struct tls_cert *, tls_cert_unref)
/* Everything pointed to lives as long as the certificate. */
struct tls_cert_info {
    const char *common_name; /* "" when none */
    const char *const *organizations;
    size_t organization_count;
    const char *const *dns_names;
    size_t dns_name_count;
    const char *const *ip_addresses; /* textual */
    size_t ip_address_count;
    unsigned usages; /* enum tls_usage */
    bool is_ca;
    int64_t not_before_s, not_after_s; /* since 1970 */
    const char *issuer_common_name;    /* "" when none */
    char fingerprint_sha256[65];       /* hex of SHA-256 over the DER */
    char serial[65];                   /* hex */
};
const struct tls_cert_info *tls_cert_info(const struct tls_cert *cert);
/* The public key; the caller gets a reference. */
int tls_cert_key(const struct tls_cert *cert, struct tls_key **ret_key, struct kp_error *error) KP_NODISCARD;
/* Verifies the chain cert -> intermediates in chain_pem (may be NULL) -> a root in ca_pem, for one usage
   (TLS_USAGE_SERVER, TLS_USAGE_CLIENT, or 0: any), at now_s (0: the clock's). KP_EUNAUTHORIZED says why not. */
int tls_cert_verify(const struct tls_cert *cert, const char *chain_pem, const char *ca_pem, enum tls_usage usage,
                    int64_t now_s, struct kp_error *error) KP_NODISCARD;
/* True when host (a DNS name or an IP address) is one of the certificate's SANs (RFC 6125; wildcards one label deep). */
bool tls_cert_matches_host(const struct tls_cert *cert, const char *host);

/* A certificate signed with its own key, kept as cert.pem and key.pem in a folder that is made: what is there already is
   used again unless it has expired. The caller frees the paths, which are absolute. */
int tls_self_signed(const char *folder, const struct tls_cert_options *options, char **ret_cert_file, char **ret_key_file,
                    struct kp_error *error) KP_NODISCARD;

/* ==== certificate signing requests ============================================================================== */
struct tls_csr; /* owned by one; immutable */
/* Appends a PEM "CERTIFICATE REQUEST" signed with key. */
int tls_csr_create(const struct tls_key *key, const struct tls_subject *subject, struct kp_buf *out_pem,
                   struct kp_error *error) KP_NODISCARD;
/* Parses and checks the request's own signature; KP_EBADREQUEST. */
int tls_csr_from_pem(const char *pem, size_t len, struct tls_csr **ret_csr, struct kp_error *error) KP_NODISCARD;
void tls_csr_free(struct tls_csr *csr); /* accepts NULL */
KP_DEFINE_AUTO(struct tls_csr *, tls_csr_free)
/* What it asks for, lives as long as the request. Usages and times are zero; other SAN kinds are counted in
   tls_csr_other_names. */
const struct tls_cert_info *tls_csr_info(const struct tls_csr *csr);
size_t tls_csr_other_names(const struct tls_csr *csr); /* SANs that are neither DNS names nor IP addresses */
/* Signs the request's key, subject and SANs; of the options only usages and times count. */
int tls_csr_sign(const struct tls_csr *csr, const struct tls_cert_options *options, const struct tls_cert *ca_cert,
                 const struct tls_key *ca_key, struct tls_cert **ret_cert, struct kp_error *error) KP_NODISCARD;

/* ==== contexts: what many sessions share ======================================================================== */
enum tls_version { TLS_VERSION_DEFAULT, TLS_VERSION_1_2, TLS_VERSION_1_3 };
enum tls_client_cert { TLS_CLIENT_CERT_NONE, TLS_CLIENT_CERT_REQUEST, TLS_CLIENT_CERT_REQUIRE };
/* Of each pair the _pem text or the _file path may be given (copied). With files, tls_context_reload picks up changes. */
struct tls_context_config {
    bool server;
    const char *cert_pem, *cert_file; /* the leaf, then its intermediates; required for a server */
    const char *key_pem, *key_file;
    const char *ca_pem, *ca_file; /* who may have signed the peer; a client without: the system's store */
    enum tls_client_cert client_cert; /* server only; a certificate that is given but does not verify is refused */
    bool insecure_skip_verify;        /* client only: the server's certificate is not looked at */
    const char *const *alpn;          /* NULL-terminated, in order of preference; NULL: none */
    bool tls13_only;
    enum tls_version version_min, version_max; /* default: from 1.2 to the newest */
    /* Names as IANA has them, comma-separated ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"), for TLS 1.2; those of 1.3 are
       accepted and change nothing. NULL or "": forward-secret AEAD ciphers only. KP_EINVALID for an unknown name. */
    const char *cipher_suites;
    int64_t (*now_ms)(void); /* NULL: kp_mono_ms */
};
/* "TLS1.2", "TLS1.3" or "" as flags have them. 0 or KP_EINVALID. */
int tls_version_parse(const char *text, enum tls_version *ret_version, struct kp_error *error) KP_NODISCARD;
/* Counted, thread-safe. */
struct tls_context;
int tls_context_new(const struct tls_context_config *config, struct tls_context **ret_context, struct kp_error *error)
    KP_NODISCARD;
/* Looks whether files changed (modification time, size, inode) and loads them; sessions begun keep what they had. Returns
   1 when something was loaded, 0 when nothing changed, or an error: then the old material stays. Any thread; cheap.
   tls_session_new does the same by itself, so certificate rotation needs no more than new files: the next handshake has
   them. Files that do not load (a pair half written) are logged once and tried again when they change. */
int tls_context_reload(struct tls_context *context, struct kp_error *error);
/* The leaf in use (a reference), or NULL. */
struct tls_cert *tls_context_cert(struct tls_context *context);
struct tls_context *tls_context_ref(struct tls_context *context);
void tls_context_unref(struct tls_context *context); /* accepts NULL */
KP_DEFINE_AUTO(struct tls_context *, tls_context_unref)

/* ==== sessions: bytes in, bytes out, no sockets ================================================================= */
/* Used by one thread at a time. The owner feeds what came from the network and sends what tls_session_output has. */
struct tls_session;
/* server_name (client only): sent as SNI when it is a DNS name, and checked against the certificate; NULL checks only
   the chain. Takes a reference of the context. A client's first flight is ready in the output at once. */
int tls_session_new(struct tls_context *context, const char *server_name, struct tls_session **ret_session,
                    struct kp_error *error) KP_NODISCARD;
/* A client's session that offers these protocols (NULL-terminated; NULL: the context's) instead of the context's. */
int tls_session_new_alpn(struct tls_context *context, const char *server_name, const char *const *alpn,
                         struct tls_session **ret_session, struct kp_error *error) KP_NODISCARD;
void tls_session_free(struct tls_session *session); /* accepts NULL */
KP_DEFINE_AUTO(struct tls_session *, tls_session_free)
/* Takes ciphertext from the network, all of it, and moves the handshake on. 0; KP_EUNAUTHORIZED (peer's certificate),
   KP_EIO or KP_EBADREQUEST (protocol): the session is dead then, but may still have an alert in its output. Call
   tls_session_read until it gives 0, and send the output, after each feed. */
int tls_session_feed(struct tls_session *session, const void *data, size_t len, struct kp_error *error) KP_NODISCARD;
bool tls_session_handshake_done(const struct tls_session *session);
/* Decrypted bytes into out: how many, 0 when there are none now, or a negative code. */
ssize_t tls_session_read(struct tls_session *session, void *out, size_t size, struct kp_error *error) KP_NODISCARD;
/* Encrypts all of data into the output. Only after the handshake; KP_EIO when the session is dead or closed. */
int tls_session_write(struct tls_session *session, const void *data, size_t len, struct kp_error *error) KP_NODISCARD;
/* Ciphertext to send. Borrowed until the next call on the session; tell how much was taken with _consume. */
struct kp_bytes tls_session_output(struct tls_session *session);
void tls_session_output_consume(struct tls_session *session, size_t len);
/* Moves all the output to the end of *out: the same as _output and _consume in one. */
void tls_session_take_output(struct tls_session *session, struct kp_buf *out);
/* Queues close_notify. Reading goes on. */
void tls_session_close(struct tls_session *session);
bool tls_session_peer_closed(const struct tls_session *session); /* close_notify came: a clean end */
/* The protocol chosen by ALPN, "" when none; NULL before the handshake is done. Lives as long as the session. */
const char *tls_session_alpn(const struct tls_session *session);
/* The peer's certificate, verified, or NULL. Borrowed: lives as long as the session (tls_cert_ref keeps it longer). */
struct tls_cert *tls_session_peer_cert(const struct tls_session *session);
/* "TLSv1.3" and the cipher's name, for logs. */
const char *tls_session_version(const struct tls_session *session);

/* ==== hashes ==================================================================================================== */
#define TLS_SHA256_BYTES 32
#define TLS_SHA256_HEX_BYTES 65
void tls_sha256(const void *data, size_t len, uint8_t out[TLS_SHA256_BYTES]);
void tls_sha256_hex(const void *data, size_t len, char out[TLS_SHA256_HEX_BYTES]);
/* Bit by bit, for what does not fit into memory. */
struct tls_sha256;
struct tls_sha256 *tls_sha256_new(void);
void tls_sha256_update(struct tls_sha256 *hash, const void *data, size_t len);
void tls_sha256_final(struct tls_sha256 *hash, uint8_t out[TLS_SHA256_BYTES]); /* frees hash; out may be NULL */
void tls_sha256_final_hex(struct tls_sha256 *hash, char out[TLS_SHA256_HEX_BYTES]); /* frees hash */
/* Of what is left to read of fd; path is for the error alone. ret_bytes may be NULL. */
int tls_sha256_fd_hex(int fd, const char *path, char out[TLS_SHA256_HEX_BYTES], int64_t *ret_bytes, struct kp_error *error) KP_NODISCARD;
void tls_hmac_sha256(const void *key, size_t key_len, const void *data, size_t len, uint8_t out[TLS_SHA256_BYTES]);
#define TLS_ED25519_BYTES 32
/* The public key of a private one, both as RFC 8032 has them. */
void tls_ed25519_public(const uint8_t seed[TLS_ED25519_BYTES], uint8_t out[TLS_ED25519_BYTES]);
#define TLS_SHA1_BYTES 20
void tls_sha1(const void *data, size_t len, uint8_t out[TLS_SHA1_BYTES]); /* for protocols that ask for it (RFC 6455) */
/* AES-256-GCM, for encryption at rest. nonce: 12 bytes, never twice with one key. The 16-byte tag is at the end. */
#define TLS_AEAD_KEY_BYTES 32
#define TLS_AEAD_NONCE_BYTES 12
#define TLS_AEAD_TAG_BYTES 16
void tls_aead_seal(const uint8_t key[TLS_AEAD_KEY_BYTES], const uint8_t nonce[TLS_AEAD_NONCE_BYTES], const void *aad,
                   size_t aad_len, const void *plain, size_t len, struct kp_buf *out);
/* KP_ECORRUPT when the tag does not fit. Appends. */
int tls_aead_open(const uint8_t key[TLS_AEAD_KEY_BYTES], const uint8_t nonce[TLS_AEAD_NONCE_BYTES], const void *aad,
                  size_t aad_len, const void *sealed, size_t len, struct kp_buf *out) KP_NODISCARD;

/* ==== JSON Web Tokens (RFC 7515, 7517, 7519) ==================================================================== */
#define TLS_JWT_BYTES_MAX ((size_t)64 << 10)
/* The key's name: base64url of SHA-256 over its public half as DER SubjectPublicKeyInfo. Appends. */
void tls_key_id(const struct tls_key *key, struct kp_buf *out);
/* Appends "header.payload.signature": RS256 or ES256 by the key's type; payload is JSON text, taken as it is. kid NULL:
   tls_key_id. */
int tls_jwt_sign(const struct tls_key *key, const char *kid, const char *payload_json, struct kp_buf *out,
                 struct kp_error *error) KP_NODISCARD;
/* Splits a token without verifying: appends the decoded header and payload JSON. KP_EUNAUTHORIZED when malformed. */
int tls_jwt_decode(const char *token, struct kp_buf *out_header, struct kp_buf *out_payload, struct kp_error *error)
    KP_NODISCARD;
/* Verifies the signature with any of the keys (the kid is a hint only; the algorithm must be the key's) and appends the
   payload JSON. Times, issuer and audience are the caller's to check. KP_EUNAUTHORIZED otherwise. */
int tls_jwt_verify(const char *token, struct tls_key *const *keys, size_t key_count, struct kp_buf *out_payload,
                   struct kp_error *error) KP_NODISCARD;
/* Appends one JWK object {"use":"sig","kty":...,"kid":...,"alg":...,...} of the public half. */
int tls_key_to_jwk(const struct tls_key *key, struct kp_buf *out, struct kp_error *error) KP_NODISCARD;

/* One configured algorithm of RFC 7518 or 8037 - HS, RS, PS, ES with 256, 384 or 512, or EdDSA - and its key. HMAC's
   secret is private_key as it is; else PEM, either half or both. KP_ENOTSUPPORTED for another algorithm. */
struct tls_jws;
int tls_jws_new(const char *algorithm, struct kp_bytes private_key, struct kp_bytes public_key, struct tls_jws **ret_jws,
                struct kp_error *error) KP_NODISCARD;
void tls_jws_free(struct tls_jws *jws); /* accepts NULL */
KP_DEFINE_AUTO(struct tls_jws *, tls_jws_free)
bool tls_jws_can_sign(const struct tls_jws *jws);
const char *tls_jws_algorithm(const struct tls_jws *jws);
/* As tls_jwt_sign, without a kid. */
int tls_jws_sign(const struct tls_jws *jws, const char *payload_json, struct kp_buf *out, struct kp_error *error)
    KP_NODISCARD;
/* Only the signature, by this algorithm; what the header claims is the caller's to check. KP_EUNAUTHORIZED. */
int tls_jws_verify(const struct tls_jws *jws, const char *token, struct kp_error *error) KP_NODISCARD;

#endif
