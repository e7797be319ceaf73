/* TLS sessions over memory: ciphertext in and out through a BIO of our own, no sockets. */
#include "lib/tls/context_internal.h"

#include <openssl/err.h>
#include <pthread.h>

#define WRITE_SLICE_MAX ((size_t)1 << 30) /* OpenSSL counts in int */

struct tls_session {
    struct tls_context *context;
    SSL *ssl;
    struct kp_buf in; /* ciphertext not yet read by OpenSSL */
    size_t in_at;
    struct kp_buf out; /* ciphertext not yet taken by the owner */
    size_t out_at;
    bool done, dead, peer_closed;
    char *server_name;
    char alpn[256];
    char version[96];
    struct tls_cert *peer;
};

static BIO_METHOD *bio_method;
static pthread_once_t bio_once = PTHREAD_ONCE_INIT;

static int bio_write(BIO *bio, const char *data, int len)
{
    struct tls_session *session = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (len <= 0)
        return 0;
    kp_buf_append(&session->out, data, (size_t)len);
    return len;
}

static int bio_read(BIO *bio, char *data, int len)
{
    struct tls_session *session = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (len <= 0)
        return 0;
    size_t have = KP_MIN(session->in.len - session->in_at, (size_t)len);
    if (!have) {
        BIO_set_retry_read(bio);
        return -1;
    }
    memcpy(data, session->in.data + session->in_at, have);
    session->in_at += have;
    if (session->in_at == session->in.len) { /* an idle session holds no buffer */
        kp_buf_done(&session->in);
        session->in_at = 0;
    }
    return (int)have;
}

static long bio_ctrl(BIO *bio, int command, long number, void *p)
{
    return command == BIO_CTRL_FLUSH || command == BIO_CTRL_DUP ? 1 : 0;
}

static int bio_create(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

static void bio_method_make(void)
{
    bio_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "kprov memory");
    KP_ASSERT(bio_method != NULL);
    BIO_meth_set_write(bio_method, bio_write);
    BIO_meth_set_read(bio_method, bio_read);
    BIO_meth_set_ctrl(bio_method, bio_ctrl);
    BIO_meth_set_create(bio_method, bio_create);
}

static int expect_server(struct tls_session *session, const char *server_name, struct kp_error *error)
{
    session->server_name = kp_strdup(server_name);
    X509_VERIFY_PARAM *param = SSL_get0_param(session->ssl);
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (X509_VERIFY_PARAM_set1_ip_asc(param, server_name) == 1)
        return 0; /* an address: no SNI (RFC 6066 3) */
    ERR_clear_error();
    if (X509_VERIFY_PARAM_set1_host(param, server_name, 0) != 1 ||
        SSL_set_tlsext_host_name(session->ssl, server_name) != 1)
        return tls_openssl_fail(error, KP_EINVALID, "TLS server name \"%.200s\"", server_name);
    return 0;
}

/* Why the last OpenSSL call on the session failed; the session is dead from here. */
static int session_fail(struct tls_session *session, int ssl_error, const char *what, struct kp_error *error)
{
    session->dead = true;
    unsigned long number = ERR_peek_last_error();
    int reason = ERR_GET_LIB(number) == ERR_LIB_SSL ? ERR_GET_REASON(number) : 0;
    long verify = SSL_get_verify_result(session->ssl);
    const char *peer = session->server_name ? session->server_name : "the peer";
    if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED && verify != X509_V_OK) {
        ERR_clear_error();
        return kp_fail(error, KP_EUNAUTHORIZED, "certificate of %s does not verify: %s", peer,
                       X509_verify_cert_error_string(verify));
    }
    switch (reason) {
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
    case SSL_R_TLSV1_ALERT_ACCESS_DENIED:
        return tls_openssl_fail(error, KP_EUNAUTHORIZED, "%s with %s", what, peer);
    case SSL_R_HTTP_REQUEST:
        return tls_openssl_fail(error, KP_EBADREQUEST, "%s with %s", what, peer);
    default:
        return tls_openssl_fail(error, KP_EIO, "%s with %s (%d)", what, peer, ssl_error);
    }
}

static int handshake_finished(struct tls_session *session, struct kp_error *error)
{
    session->done = true;
    const unsigned char *alpn = NULL;
    unsigned alpn_len = 0;
    SSL_get0_alpn_selected(session->ssl, &alpn, &alpn_len);
    snprintf(session->alpn, sizeof(session->alpn), "%.*s", (int)alpn_len, alpn ? (const char *)alpn : "");
    snprintf(session->version, sizeof(session->version), "%s %s", SSL_get_version(session->ssl),
             SSL_get_cipher_name(session->ssl));
    X509 *x509 = SSL_get1_peer_certificate(session->ssl);
    if (!x509)
        return 0;
    if (SSL_get_verify_result(session->ssl) != X509_V_OK || SSL_get_verify_mode(session->ssl) == SSL_VERIFY_NONE) {
        X509_free(x509); /* not verified, because we were told not to: proves nothing */
        return 0;
    }
    int rc = tls_cert_wrap(x509, &session->peer, error);
    if (rc < 0)
        session->dead = true;
    return rc;
}

static int handshake_step(struct tls_session *session, struct kp_error *error)
{
    ERR_clear_error();
    int rc = SSL_do_handshake(session->ssl);
    if (rc == 1)
        return handshake_finished(session, error);
    int ssl_error = SSL_get_error(session->ssl, rc);
    if (ssl_error == SSL_ERROR_WANT_READ || ssl_error == SSL_ERROR_WANT_WRITE)
        return 0;
    return session_fail(session, ssl_error, "TLS handshake", error);
}

/* Offers other protocols than the context does: an Upgrade needs HTTP/1.1 where the context prefers HTTP/2. */
static int offer(struct tls_session *session, const char *const *alpn, struct kp_error *error)
{
    unsigned char wire[256];
    unsigned len = 0;
    for (; alpn && *alpn; alpn++) {
        size_t name_len = strlen(*alpn);
        if (name_len == 0 || name_len > 255 || len + name_len + 1 > sizeof(wire))
            return kp_fail(error, KP_EINVALID, "ALPN name \"%.100s\": empty, or the list is too long", *alpn);
        wire[len++] = (unsigned char)name_len;
        memcpy(wire + len, *alpn, name_len);
        len += (unsigned)name_len;
    }
    if (len && SSL_set_alpn_protos(session->ssl, wire, len) != 0)
        return tls_openssl_fail(error, KP_EINTERNAL, "set ALPN");
    return 0;
}

int tls_session_new(struct tls_context *context, const char *server_name, struct tls_session **ret_session,
                    struct kp_error *error)
{
    return tls_session_new_alpn(context, server_name, NULL, ret_session, error);
}

int tls_session_new_alpn(struct tls_context *context, const char *server_name, const char *const *alpn,
                         struct tls_session **ret_session, struct kp_error *error)
{
    pthread_once(&bio_once, bio_method_make);
    KP_AUTO(tls_session_free) struct tls_session *session = kp_calloc(1, sizeof(*session));
    session->context = tls_context_ref(context);
    session->ssl = tls_context_new_ssl(context);
    BIO *bio = session->ssl ? BIO_new(bio_method) : NULL;
    if (!bio)
        return tls_openssl_fail(error, KP_EINTERNAL, "make a TLS session");
    BIO_set_data(bio, session);
    SSL_set_bio(session->ssl, bio, bio); /* one reference, taken over */
    int rc = 0;
    if (tls_context_is_server(context)) {
        SSL_set_accept_state(session->ssl);
    } else {
        SSL_set_connect_state(session->ssl);
        if (!kp_empty(server_name) && (rc = expect_server(session, server_name, error)) < 0)
            return rc;
        if ((rc = offer(session, alpn, error)) < 0)
            return rc;
        if ((rc = handshake_step(session, error)) < 0)
            return rc;
    }
    *ret_session = KP_TAKE(session);
    return 0;
}

void tls_session_free(struct tls_session *session)
{
    if (!session)
        return;
    SSL_free(session->ssl);
    kp_buf_done(&session->in);
    kp_buf_done(&session->out);
    tls_cert_unref(session->peer);
    tls_context_unref(session->context);
    free(session->server_name);
    free(session);
}

int tls_session_feed(struct tls_session *session, const void *data, size_t len, struct kp_error *error)
{
    if (session->dead)
        return kp_fail(error, KP_EIO, "TLS session has failed before");
    if (session->in_at) {
        kp_buf_consume(&session->in, session->in_at);
        session->in_at = 0;
    }
    if (len)
        kp_buf_append(&session->in, data, len);
    return session->done ? 0 : handshake_step(session, error);
}

bool tls_session_handshake_done(const struct tls_session *session)
{
    return session->done;
}

ssize_t tls_session_read(struct tls_session *session, void *out, size_t size, struct kp_error *error)
{
    if (session->dead)
        return kp_fail(error, KP_EIO, "TLS session has failed before");
    if (!session->done || session->peer_closed || !size)
        return 0;
    ERR_clear_error();
    int got = SSL_read(session->ssl, out, (int)KP_MIN(size, WRITE_SLICE_MAX));
    if (got > 0)
        return got;
    int ssl_error = SSL_get_error(session->ssl, got);
    if (ssl_error == SSL_ERROR_WANT_READ || ssl_error == SSL_ERROR_WANT_WRITE)
        return 0;
    if (ssl_error == SSL_ERROR_ZERO_RETURN) {
        session->peer_closed = true;
        return 0;
    }
    return session_fail(session, ssl_error, "TLS read", error);
}

int tls_session_write(struct tls_session *session, const void *data, size_t len, struct kp_error *error)
{
    if (session->dead || !session->done)
        return kp_fail(error, KP_EIO, session->dead ? "TLS session has failed before" : "TLS handshake is not done");
    const char *from = data;
    while (len) {
        ERR_clear_error();
        int put = SSL_write(session->ssl, from, (int)KP_MIN(len, WRITE_SLICE_MAX));
        if (put <= 0) /* the BIO takes everything, so that there is nothing to wait for */
            return session_fail(session, SSL_get_error(session->ssl, put), "TLS write", error);
        from += put;
        len -= (size_t)put;
    }
    return 0;
}

struct kp_bytes tls_session_output(struct tls_session *session)
{
    size_t left = session->out.len - session->out_at;
    return (struct kp_bytes){left ? (const uint8_t *)session->out.data + session->out_at : NULL, left};
}

void tls_session_output_consume(struct tls_session *session, size_t len)
{
    KP_ASSERT(len <= session->out.len - session->out_at);
    session->out_at += len;
    if (session->out_at == session->out.len) {
        kp_buf_done(&session->out);
        session->out_at = 0;
    }
}

void tls_session_take_output(struct tls_session *session, struct kp_buf *out)
{
    if (!out->data && !session->out_at) {
        *out = session->out;
        session->out = (struct kp_buf){0};
        return;
    }
    struct kp_bytes left = tls_session_output(session);
    if (left.len)
        kp_buf_append(out, left.data, left.len);
    tls_session_output_consume(session, left.len);
}

void tls_session_close(struct tls_session *session)
{
    if (session->dead || !session->done)
        return;
    ERR_clear_error();
    SSL_shutdown(session->ssl); /* queues the alert; whether the peer answers it does not matter */
    ERR_clear_error();
}

bool tls_session_peer_closed(const struct tls_session *session)
{
    return session->peer_closed;
}

const char *tls_session_alpn(const struct tls_session *session)
{
    return session->done ? session->alpn : NULL;
}

struct tls_cert *tls_session_peer_cert(const struct tls_session *session)
{
    return session->peer;
}

const char *tls_session_version(const struct tls_session *session)
{
    return session->version;
}
