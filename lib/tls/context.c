/* TLS contexts: own certificate, trust, ALPN and protocol rules, reloaded when their files change. */
#include "lib/tls/context_internal.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <pthread.h>
#include <sys/stat.h>

#define RETRY_MS 10000 /* files that did not load are tried again after this, or when they change */
#define ALPN_WIRE_MAX 255

struct file_stamp {
    struct timespec modified;
    off_t size;
    ino_t inode;
};

/* A text given as such or by file. */
struct source {
    char *pem, *path;
    struct file_stamp stamp;
};

enum { SOURCE_CERT, SOURCE_KEY, SOURCE_CA, SOURCE_COUNT };

struct tls_context {
    int refs; /* atomic */
    bool server, skip_verify;
    enum tls_version version_min, version_max;
    char *ciphers; /* of TLS 1.2, as OpenSSL spells them; NULL: ours */
    enum tls_client_cert client_cert;
    int64_t (*now_ms)(void);
    unsigned char alpn[ALPN_WIRE_MAX]; /* length-prefixed names */
    unsigned alpn_len;
    pthread_mutex_t lock; /* guards what follows */
    struct source sources[SOURCE_COUNT];
    SSL_CTX *ssl_ctx;
    struct tls_cert *leaf;
    struct file_stamp failed[SOURCE_COUNT]; /* what did not load the last time */
    int64_t retry_ms;                       /* 0: the last load was good */
};

static const char *const source_names[] = {"certificate", "key", "CA bundle"};

static bool source_given(const struct source *source)
{
    return source->pem || source->path;
}

static void stamp_take(const char *path, struct file_stamp *stamp)
{
    struct stat st;
    *stamp = (struct file_stamp){0};
    if (stat(path, &st) == 0)
        *stamp = (struct file_stamp){.modified = st.st_mtim, .size = st.st_size, .inode = st.st_ino};
}

static bool stamp_equal(const struct file_stamp *a, const struct file_stamp *b)
{
    return a->modified.tv_sec == b->modified.tv_sec && a->modified.tv_nsec == b->modified.tv_nsec &&
           a->size == b->size && a->inode == b->inode;
}

static int source_read(const struct source *source, struct kp_buf *out, struct kp_error *error)
{
    if (source->path)
        return kp_read_file(source->path, TLS_CERT_PEM_MAX, out, error);
    kp_buf_puts(out, source->pem ? source->pem : "");
    return 0;
}

static int alpn_select(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
                       unsigned in_len, void *arg)
{
    const struct tls_context *context = arg;
    unsigned char *chosen;
    if (SSL_select_next_proto(&chosen, out_len, context->alpn, context->alpn_len, in, in_len) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static int use_own(SSL_CTX *ctx, const char *cert_pem, const char *key_pem, struct tls_cert **ret_leaf,
                   struct kp_error *error)
{
    KP_AUTO(tls_key_unref) struct tls_key *key = NULL;
    STACK_OF(X509) *chain = sk_X509_new_null();
    KP_ASSERT(chain != NULL);
    int rc = tls_pem_read_certs(cert_pem, chain, error);
    if (rc == 0)
        rc = kp_fail(error, KP_EBADREQUEST, "no PEM certificate");
    if (rc > 0)
        rc = tls_key_from_pem(key_pem, strlen(key_pem), &key, error);
    if (rc == 0) {
        X509 *leaf = sk_X509_shift(chain);
        if (SSL_CTX_use_cert_and_key(ctx, leaf, key->pkey, chain, 1) != 1)
            rc = tls_openssl_fail(error, KP_EBADREQUEST, "certificate and key do not fit together");
        if (rc == 0)
            rc = tls_cert_wrap(leaf, ret_leaf, error); /* takes over */
        else
            X509_free(leaf);
    }
    sk_X509_pop_free(chain, X509_free);
    return rc;
}

static int use_ca(SSL_CTX *ctx, const char *ca_pem, bool server, struct kp_error *error)
{
    STACK_OF(X509) *roots = sk_X509_new_null();
    KP_ASSERT(roots != NULL);
    int rc = tls_pem_read_certs(ca_pem, roots, error);
    if (rc == 0)
        rc = kp_fail(error, KP_EBADREQUEST, "no PEM certificate");
    X509_STORE *store = SSL_CTX_get_cert_store(ctx);
    for (int i = 0; rc >= 0 && i < sk_X509_num(roots); i++) {
        X509 *root = sk_X509_value(roots, i);
        if (!X509_STORE_add_cert(store, root) || (server && !SSL_CTX_add_client_CA(ctx, root)))
            rc = tls_openssl_fail(error, KP_EBADREQUEST, "trust a certificate");
    }
    sk_X509_pop_free(roots, X509_free);
    return rc < 0 ? rc : 0;
}

static int version_number(enum tls_version version, int otherwise)
{
    return version == TLS_VERSION_1_2 ? TLS1_2_VERSION : version == TLS_VERSION_1_3 ? TLS1_3_VERSION : otherwise;
}

static int set_rules(const struct tls_context *context, SSL_CTX *ctx, struct kp_error *error)
{
    if (!SSL_CTX_set_min_proto_version(ctx, version_number(context->version_min, TLS1_2_VERSION)) ||
        !SSL_CTX_set_max_proto_version(ctx, version_number(context->version_max, 0)) ||
        !SSL_CTX_set_cipher_list(ctx, context->ciphers ? context->ciphers : "ECDHE+AESGCM:ECDHE+CHACHA20") ||
        !SSL_CTX_set1_groups_list(ctx, "X25519:P-256:P-384"))
        return tls_openssl_fail(error, KP_EINTERNAL, "set TLS rules");
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_num_tickets(ctx, 0); /* connections live long: resumption is not worth its memory */
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(ctx), X509_V_FLAG_PARTIAL_CHAIN);
    if (context->server && context->client_cert != TLS_CLIENT_CERT_NONE)
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | (context->client_cert == TLS_CLIENT_CERT_REQUIRE
                                                       ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), NULL);
    if (!context->server && !context->skip_verify)
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    if (!context->alpn_len)
        return 0;
    if (context->server)
        SSL_CTX_set_alpn_select_cb(ctx, alpn_select, (void *)(uintptr_t)context);
    else if (SSL_CTX_set_alpn_protos(ctx, context->alpn, context->alpn_len) != 0)
        return tls_openssl_fail(error, KP_EINTERNAL, "set ALPN");
    return 0;
}

/* Certificate, key and trust into ctx. */
static int load_material(const struct tls_context *context, SSL_CTX *ctx, struct tls_cert **ret_leaf,
                         struct kp_error *error)
{
    struct kp_buf texts[SOURCE_COUNT] = {0};
    int rc = 0;
    for (int i = 0; i < SOURCE_COUNT && rc == 0; i++) {
        rc = source_read(&context->sources[i], &texts[i], error);
        if (rc < 0)
            kp_wrap(error, "TLS %s", source_names[i]);
    }
    if (rc == 0 && source_given(&context->sources[SOURCE_CERT])) {
        rc = use_own(ctx, texts[SOURCE_CERT].data, texts[SOURCE_KEY].data, ret_leaf, error);
        if (rc < 0)
            kp_wrap(error, "TLS certificate %s", context->sources[SOURCE_CERT].path ? context->sources[SOURCE_CERT].path : "");
    }
    if (rc == 0 && source_given(&context->sources[SOURCE_CA])) {
        rc = use_ca(ctx, texts[SOURCE_CA].data, context->server, error);
        if (rc < 0)
            kp_wrap(error, "TLS CA bundle %s", context->sources[SOURCE_CA].path ? context->sources[SOURCE_CA].path : "");
    } else if (rc == 0 && !context->server && !context->skip_verify && !SSL_CTX_set_default_verify_paths(ctx)) {
        rc = tls_openssl_fail(error, KP_EINTERNAL, "load the system's CA certificates");
    }
    if (texts[SOURCE_KEY].data)
        OPENSSL_cleanse(texts[SOURCE_KEY].data, texts[SOURCE_KEY].len);
    for (int i = 0; i < SOURCE_COUNT; i++)
        kp_buf_done(&texts[i]);
    return rc;
}

static void stamps_take(const struct tls_context *context, struct file_stamp stamps[SOURCE_COUNT])
{
    memset(stamps, 0, SOURCE_COUNT * sizeof(*stamps));
    for (int i = 0; i < SOURCE_COUNT; i++)
        if (context->sources[i].path)
            stamp_take(context->sources[i].path, &stamps[i]);
}

/* Builds new material and swaps it in; the old stays on failure. stamps were taken before: a change while reading is then
   seen the next time. The lock is held. */
static int context_load(struct tls_context *context, const struct file_stamp stamps[SOURCE_COUNT], struct kp_error *error)
{
    SSL_CTX *ctx = SSL_CTX_new(context->server ? TLS_server_method() : TLS_client_method());
    if (!ctx)
        return tls_openssl_fail(error, KP_EINTERNAL, "make a TLS context");
    struct tls_cert *leaf = NULL;
    int rc = set_rules(context, ctx, error);
    if (rc == 0)
        rc = load_material(context, ctx, &leaf, error);
    if (rc < 0) {
        tls_cert_unref(leaf);
        SSL_CTX_free(ctx);
        return rc;
    }
    SSL_CTX_free(context->ssl_ctx);
    tls_cert_unref(context->leaf);
    context->ssl_ctx = ctx;
    context->leaf = leaf;
    context->retry_ms = 0;
    for (int i = 0; i < SOURCE_COUNT; i++)
        context->sources[i].stamp = stamps[i];
    return 0;
}

static int set_alpn(struct tls_context *context, const char *const *names, struct kp_error *error)
{
    for (; names && *names; names++) {
        size_t len = strlen(*names);
        if (!len || context->alpn_len + len + 1 > ALPN_WIRE_MAX)
            return kp_fail(error, KP_EINVALID, "ALPN name \"%.100s\": empty, or the list is too long", *names);
        context->alpn[context->alpn_len++] = (unsigned char)len;
        memcpy(context->alpn + context->alpn_len, *names, len);
        context->alpn_len += (unsigned)len;
    }
    return 0;
}

int tls_context_new(const struct tls_context_config *config, struct tls_context **ret_context, struct kp_error *error)
{
    KP_AUTO(tls_context_unref) struct tls_context *context = kp_calloc(1, sizeof(*context));
    context->refs = 1;
    pthread_mutex_init(&context->lock, NULL);
    context->server = config->server;
    context->skip_verify = config->insecure_skip_verify;
    context->version_min = config->tls13_only ? TLS_VERSION_1_3 : config->version_min;
    context->version_max = config->version_max;
    context->now_ms = config->now_ms ? config->now_ms : kp_mono_ms;
    context->client_cert = config->client_cert;
    const char *const pems[] = {config->cert_pem, config->key_pem, config->ca_pem};
    const char *const paths[] = {config->cert_file, config->key_file, config->ca_file};
    for (int i = 0; i < SOURCE_COUNT; i++) {
        context->sources[i].pem = kp_strdup(pems[i]);
        context->sources[i].path = pems[i] ? NULL : kp_strdup(paths[i]);
    }
    if (source_given(&context->sources[SOURCE_CERT]) != source_given(&context->sources[SOURCE_KEY]))
        return kp_fail(error, KP_EINVALID, "TLS: a certificate and its key must be given together");
    if (context->server && !source_given(&context->sources[SOURCE_CERT]))
        return kp_fail(error, KP_EINVALID, "TLS: a server needs a certificate");
    if (context->server && context->client_cert != TLS_CLIENT_CERT_NONE && !source_given(&context->sources[SOURCE_CA]))
        return kp_fail(error, KP_EINVALID, "TLS: to ask for client certificates a CA bundle is needed");
    if (context->version_min && context->version_max && context->version_max < context->version_min)
        return kp_fail(error, KP_EINVALID, "TLS: the lowest version is above the highest");
    struct file_stamp stamps[SOURCE_COUNT];
    int rc = set_alpn(context, config->alpn, error);
    if (rc == 0)
        rc = tls_cipher_list(config->cipher_suites, context->version_min, &context->ciphers, error);
    if (rc == 0) {
        stamps_take(context, stamps);
        rc = context_load(context, stamps, error);
    }
    if (rc < 0)
        return rc;
    *ret_context = KP_TAKE(context);
    return 0;
}

static bool stamps_differ(const struct file_stamp a[SOURCE_COUNT], const struct file_stamp b[SOURCE_COUNT])
{
    for (int i = 0; i < SOURCE_COUNT; i++)
        if (!stamp_equal(&a[i], &b[i]))
            return true;
    return false;
}

static bool files_changed(const struct tls_context *context, const struct file_stamp stamps[SOURCE_COUNT])
{
    struct file_stamp loaded[SOURCE_COUNT];
    for (int i = 0; i < SOURCE_COUNT; i++)
        loaded[i] = context->sources[i].path ? context->sources[i].stamp : (struct file_stamp){0};
    return stamps_differ(loaded, stamps);
}

int tls_context_reload(struct tls_context *context, struct kp_error *error)
{
    struct file_stamp stamps[SOURCE_COUNT];
    pthread_mutex_lock(&context->lock);
    stamps_take(context, stamps);
    int rc = 0;
    if (files_changed(context, stamps)) {
        rc = context_load(context, stamps, error);
        rc = rc < 0 ? rc : 1;
    }
    pthread_mutex_unlock(&context->lock);
    return rc;
}

/* Before a handshake: three stat(2) calls when nothing changed. What does not load - caught between the writing of two
   files, most likely - is told once, and tried again when it changes again or some time later. */
static void reload_if_changed(struct tls_context *context)
{
    struct file_stamp stamps[SOURCE_COUNT];
    struct kp_error error = {0};
    stamps_take(context, stamps);
    if (!files_changed(context, stamps)) {
        context->retry_ms = 0;
        return;
    }
    bool told = context->retry_ms && !stamps_differ(context->failed, stamps);
    if (told && context->now_ms() < context->retry_ms)
        return;
    if (context_load(context, stamps, &error) == 0) {
        kp_info("read changed TLS files", "file", context->sources[SOURCE_CERT].path ? context->sources[SOURCE_CERT].path : "",
                NULL);
        return;
    }
    if (!told)
        kp_warn("TLS files changed but do not load; the old ones stay in use", "err", error.message, NULL);
    memcpy(context->failed, stamps, sizeof(context->failed));
    context->retry_ms = context->now_ms() + RETRY_MS;
}

SSL *tls_context_new_ssl(struct tls_context *context)
{
    pthread_mutex_lock(&context->lock);
    reload_if_changed(context);
    SSL *ssl = SSL_new(context->ssl_ctx);
    pthread_mutex_unlock(&context->lock);
    return ssl;
}

bool tls_context_is_server(const struct tls_context *context)
{
    return context->server;
}

bool tls_context_skips_verify(const struct tls_context *context)
{
    return context->skip_verify;
}

struct tls_cert *tls_context_cert(struct tls_context *context)
{
    pthread_mutex_lock(&context->lock);
    struct tls_cert *leaf = context->leaf ? tls_cert_ref(context->leaf) : NULL;
    pthread_mutex_unlock(&context->lock);
    return leaf;
}

struct tls_context *tls_context_ref(struct tls_context *context)
{
    __atomic_fetch_add(&context->refs, 1, __ATOMIC_RELAXED);
    return context;
}

void tls_context_unref(struct tls_context *context)
{
    if (!context || __atomic_fetch_sub(&context->refs, 1, __ATOMIC_ACQ_REL) != 1)
        return;
    for (int i = 0; i < SOURCE_COUNT; i++) {
        if (i == SOURCE_KEY && context->sources[i].pem)
            OPENSSL_cleanse(context->sources[i].pem, strlen(context->sources[i].pem));
        free(context->sources[i].pem);
        free(context->sources[i].path);
    }
    free(context->ciphers);
    SSL_CTX_free(context->ssl_ctx);
    tls_cert_unref(context->leaf);
    pthread_mutex_destroy(&context->lock);
    free(context);
}
