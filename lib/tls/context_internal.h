/* What context.c and session.c share. */
#ifndef KP_TLS_CONTEXT_INTERNAL_H
#define KP_TLS_CONTEXT_INTERNAL_H

#include "lib/tls/tls_internal.h"

#include <openssl/ssl.h>

/* A new SSL of the material that is current, after looking for changed files; NULL when out of memory. */
SSL *tls_context_new_ssl(struct tls_context *context);
bool tls_context_is_server(const struct tls_context *context);
bool tls_context_skips_verify(const struct tls_context *context);
/* What OpenSSL calls the suites; *ret_list stays as it is when none of TLS 1.2 is among them. KP_EINVALID. */
int tls_cipher_list(const char *suites, enum tls_version version_min, char **ret_list, struct kp_error *error);

#endif
