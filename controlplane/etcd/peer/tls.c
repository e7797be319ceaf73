/* Certificates of the peer port: who we are, whom we believe. */
#include "controlplane/etcd/peer/peer_internal.h"

static int set_rules(const struct peer_tls_files *files, struct tls_context_config *config, struct kp_error *error)
{
    int rc = tls_version_parse(files->version_min, &config->version_min, error);
    if (rc == 0)
        rc = tls_version_parse(files->version_max, &config->version_max, error);
    config->cipher_suites = files->cipher_suites;
    return rc;
}

/* A member proves itself with the same certificate in both directions. Both contexts read their files again when they
   change, so a rotated certificate needs no restart. */
int peer_tls_server(const struct peer_tls_files *files, struct tls_context **ret_tls, struct kp_error *error)
{
    static const char *const alpn[] = {"h2", "http/1.1", NULL};
    if (kp_empty(files->cert_file) || kp_empty(files->key_file))
        return kp_fail(error, KP_EUSAGE, "an https peer URL needs --peer-cert-file and --peer-key-file");
    bool has_ca = !kp_empty(files->trusted_ca_file);
    if (files->client_cert_auth && !has_ca)
        return kp_fail(error, KP_EUSAGE, "--peer-client-cert-auth needs --peer-trusted-ca-file");
    if (!kp_empty(files->allowed_cn) && !kp_empty(files->allowed_hostname))
        return kp_fail(error, KP_EUSAGE, "AllowedCN and AllowedHostname are mutually exclusive (cn=\"%s\", hostname=\"%s\")",
                       files->allowed_cn, files->allowed_hostname);
    struct tls_context_config config = {.server = true,
                                        .cert_file = files->cert_file,
                                        .key_file = files->key_file,
                                        .ca_file = has_ca ? files->trusted_ca_file : NULL,
                                        .client_cert = has_ca ? TLS_CLIENT_CERT_REQUIRE : TLS_CLIENT_CERT_NONE, /* as etcd */
                                        .alpn = alpn};
    int rc = set_rules(files, &config, error);
    if (rc == 0)
        rc = tls_context_new(&config, ret_tls, error);
    return rc < 0 ? kp_wrap(error, "peer TLS") : 0;
}

int peer_tls_client(const struct peer_tls_files *files, struct tls_context **ret_tls, struct kp_error *error)
{
    static const char *const alpn[] = {"h2", NULL};
    bool own = !kp_empty(files->client_cert_file);
    const char *cert_file = own ? files->client_cert_file : files->cert_file;
    const char *key_file = own ? files->client_key_file : files->key_file;
    struct tls_context_config config = {.cert_file = kp_empty(cert_file) ? NULL : cert_file,
                                        .key_file = kp_empty(key_file) ? NULL : key_file,
                                        .ca_file = kp_empty(files->trusted_ca_file) ? NULL : files->trusted_ca_file,
                                        .insecure_skip_verify = files->insecure_skip_verify,
                                        .alpn = alpn};
    int rc = set_rules(files, &config, error);
    if (rc == 0)
        rc = tls_context_new(&config, ret_tls, error);
    return rc < 0 ? kp_wrap(error, "peer TLS as a client") : 0;
}

bool peer_tls_allows(const struct peer_tls_files *files, const struct http_peer_identity *identity)
{
    bool by_cn = !kp_empty(files->allowed_cn), by_host = !kp_empty(files->allowed_hostname);
    if (!by_cn && !by_host)
        return true;
    if (!identity)
        return false;
    if (by_cn)
        return kp_streq(identity->common_name, files->allowed_cn);
    KP_AUTO(tls_cert_unref) struct tls_cert *cert = NULL;
    return tls_cert_from_der(identity->certificate_der.data, identity->certificate_der.len, &cert, NULL) == 0 &&
           tls_cert_matches_host(cert, files->allowed_hostname);
}
