/* Certificates of the server: the client URLs' context, self-made pairs, and what the peer transport is told. */
#include "controlplane/etcd/server/rpc_internal.h"

#include <netinet/in.h>

#define HOSTS_MAX ETCD_URLS_MAX
#define YEAR_S (INT64_C(365) * 24 * 3600)

/* As etcd: a CA for clients means that they must have a certificate. */
int server_client_tls(const struct etcd_tls_files *files, struct tls_context **ret_tls, struct kp_error *error)
{
    static const char *const alpn[] = {"h2", "http/1.1", NULL};
    bool has_ca = !kp_empty(files->trusted_ca_file);
    struct tls_context_config config = {.server = true,
                                        .cert_file = files->cert_file,
                                        .key_file = files->key_file,
                                        .ca_file = has_ca ? files->trusted_ca_file : NULL,
                                        .client_cert = has_ca ? TLS_CLIENT_CERT_REQUIRE : TLS_CLIENT_CERT_NONE,
                                        .cipher_suites = files->cipher_suites,
                                        .alpn = alpn};
    int rc = tls_version_parse(files->version_min, &config.version_min, error);
    if (rc == 0)
        rc = tls_version_parse(files->version_max, &config.version_max, error);
    if (rc == 0)
        rc = tls_context_new(&config, ret_tls, error);
    return rc < 0 ? kp_wrap(error, "client TLS") : 0;
}

void server_peer_tls(const struct etcd_tls_files *files, struct peer_tls_files *ret_files)
{
    *ret_files = (struct peer_tls_files){
        .cert_file = files->cert_file,
        .key_file = files->key_file,
        .trusted_ca_file = files->trusted_ca_file,
        .client_cert_auth = files->client_cert_auth,
        .allowed_cn = files->allowed_cn,
        .allowed_hostname = files->allowed_hostname,
        .client_cert_file = files->client_cert_file,
        .client_key_file = files->client_key_file,
        .insecure_skip_verify = files->self_signed,
        .cipher_suites = files->cipher_suites,
        .version_min = files->version_min,
        .version_max = files->version_max,
    };
}

/* Names and addresses of the URLs, NULL-terminated; strings in the arena. */
static int hosts_of(const char *urls, struct kp_arena *arena, const char *names[HOSTS_MAX + 1],
                    const char *addresses[HOSTS_MAX + 1], struct kp_error *error)
{
    struct kp_strings list = {0};
    size_t names_len = 0, addresses_len = 0;
    int rc = 0;
    split_urls(urls, &list);
    for (size_t i = 0; rc == 0 && i < list.len && i < HOSTS_MAX; i++) {
        struct http_url url;
        struct sockaddr_storage address;
        if (kp_starts_with(list.items[i], "unix")) { /* clients expect the name of the socket's file */
            const char *slash = strrchr(list.items[i], '/');
            names[names_len++] = kp_arena_strdup(arena, slash ? slash + 1 : "localhost");
            continue;
        }
        rc = http_url_parse(list.items[i], arena, &url, error);
        if (rc == 0 && loop_sockaddr_parse(url.host, 0, (struct sockaddr *)&address) == 0)
            addresses[addresses_len++] = url.host;
        else if (rc == 0)
            names[names_len++] = url.host;
    }
    kp_strings_done(&list);
    return rc;
}

int etcd_self_signed(const char *data_dir, const char *which, const char *urls, int64_t years, struct etcd_tls_files *files,
                     struct kp_error *error)
{
    static const char *const organizations[] = {"etcd", NULL};
    const char *names[HOSTS_MAX + 1] = {NULL}, *addresses[HOSTS_MAX + 1] = {NULL};
    if (!kp_empty(files->cert_file) || !kp_empty(files->key_file)) {
        kp_warn("a certificate is given: none is made", "for", which, NULL);
        return 0;
    }
    if (years <= 0 || years > 100)
        return kp_fail(error, KP_EUSAGE, "--self-signed-cert-validity must be between 1 and 100 years");
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_FREE char *folder = kp_asprintf("%s/fixtures/%s", data_dir, which);
    int rc = kp_mkdir_p(data_dir, 0700, error);
    if (rc == 0)
        rc = hosts_of(urls, arena, names, addresses, error);
    if (rc < 0)
        return rc;
    const struct tls_cert_options options = {
        .subject = {.organizations = organizations, .dns_names = names, .ip_addresses = addresses}, .lifetime_s = years * YEAR_S};
    char *cert_file = NULL, *key_file = NULL;
    if (tls_self_signed(folder, &options, &cert_file, &key_file, error) < 0)
        return error->code;
    files->cert_file = cert_file;
    files->key_file = key_file;
    files->self_signed = true;
    return 0;
}
