/* Cipher suites and protocol versions as flags name them. */
#include "lib/tls/context_internal.h"

#define CIPHERS_MAX 64

int tls_version_parse(const char *text, enum tls_version *ret_version, struct kp_error *error)
{
    static const char *const names[] = {[TLS_VERSION_DEFAULT] = "", [TLS_VERSION_1_2] = "TLS1.2", [TLS_VERSION_1_3] = "TLS1.3"};
    for (size_t i = 0; i < KP_ARRAY_LEN(names); i++) {
        if (!kp_streq(text ? text : "", names[i]))
            continue;
        *ret_version = (enum tls_version)i;
        return 0;
    }
    return kp_fail(error, KP_EINVALID, "unexpected TLS version \"%s\": TLS1.2 and TLS1.3 are known", text);
}

static const SSL_CIPHER *find(const STACK_OF(SSL_CIPHER) *known, const char *name)
{
    /* Go knows two suites by a name without the hash as well. */
    KP_AUTO_FREE char *full = kp_ends_with(name, "CHACHA20_POLY1305") ? kp_asprintf("%s_SHA256", name) : kp_strdup(name);
    for (int i = 0; i < sk_SSL_CIPHER_num(known); i++) {
        const SSL_CIPHER *cipher = sk_SSL_CIPHER_value(known, i);
        const char *standard = SSL_CIPHER_standard_name(cipher);
        if (standard && strcmp(standard, full) == 0)
            return cipher;
    }
    return NULL;
}

static int translate(const STACK_OF(SSL_CIPHER) *known, const char *suites, struct kp_buf *out, struct kp_error *error)
{
    KP_AUTO_FREE char *copy = kp_strdup(suites);
    char *rest = copy;
    size_t count = 0;
    for (char *name = strsep(&rest, ","); name; name = strsep(&rest, ",")) {
        const SSL_CIPHER *cipher = find(known, name);
        if (!cipher)
            return kp_fail(error, KP_EINVALID, "unexpected TLS cipher suite \"%s\"", name);
        if (++count > CIPHERS_MAX)
            return kp_fail(error, KP_EINVALID, "more than %d TLS cipher suites", CIPHERS_MAX);
        if (SSL_CIPHER_get_protocol_id(cipher) >> 8 != 0x13) /* those of TLS 1.3 are always on */
            kp_buf_printf(out, "%s%s", out->len ? ":" : "", SSL_CIPHER_get_name(cipher));
    }
    return 0;
}

int tls_cipher_list(const char *suites, enum tls_version version_min, char **ret_list, struct kp_error *error)
{
    if (kp_empty(suites))
        return 0;
    if (version_min == TLS_VERSION_1_3)
        return kp_fail(error, KP_EINVALID, "cipher suites may not be configured when only TLS1.3 is enabled");
    SSL_CTX *ctx = SSL_CTX_new(TLS_method());
    if (!ctx || !SSL_CTX_set_cipher_list(ctx, "ALL:!aNULL:!eNULL:!PSK:!SRP")) {
        SSL_CTX_free(ctx);
        return tls_openssl_fail(error, KP_EINTERNAL, "list the TLS cipher suites");
    }
    KP_AUTO_BUF struct kp_buf list = {0};
    int rc = translate(SSL_CTX_get_ciphers(ctx), suites, &list, error);
    SSL_CTX_free(ctx);
    if (rc == 0 && list.len)
        *ret_list = kp_buf_take(&list);
    return rc;
}
