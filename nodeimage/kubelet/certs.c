/* Certificates: the serving certificate (self-signed, then signed by the cluster and renewed) and the bootstrap of the
   client's. */
#include <unistd.h>

#include "lib/tls/tls.h"
#include "nodeimage/kubelet/server_internal.h"

#define SERVING_SIGNER "kubernetes.io/kubelet-serving"
#define CLIENT_SIGNER "kubernetes.io/kube-apiserver-client-kubelet"
#define POLL_MS 200
#define SIGN_TIMEOUT_MS 900000
#define RETRY_MS 5000
#define RENEW_PERCENT 80
#define SELF_SIGNED_LIFETIME_S ((int64_t)365 * 86400)

static int context_from_pem(struct kubelet *kubelet, const char *cert_pem, const char *key_pem, struct tls_context **ret,
                            struct kp_error *error)
{
    static const char *const alpn[] = {"h2", "http/1.1", NULL};
    struct tls_context_config config = {.server = true, .cert_pem = cert_pem, .key_pem = key_pem, .alpn = alpn};
    struct client_config client = {0};
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    if (!kp_empty(kubelet->config.client_ca_file)) {
        config.ca_file = kubelet->config.client_ca_file;
    } else if (!kp_empty(kubelet->config.kubeconfig)) {
        /* Without a word on it, the CA of the cluster is who signs clients. */
        int rc = client_config_from_kubeconfig(kubelet->config.kubeconfig, NULL, arena, &client, error);
        if (rc < 0)
            return rc;
        config.ca_pem = client.ca_pem;
    }
    config.client_cert = config.ca_file || config.ca_pem ? TLS_CLIENT_CERT_REQUEST : TLS_CLIENT_CERT_NONE;
    if (!cert_pem) {
        config.cert_file = kubelet->config.tls_cert_file;
        config.key_file = kubelet->config.tls_key_file;
    }
    return tls_context_new(&config, ret, error);
}

static void subject_of(struct kubelet *kubelet, struct kp_arena *arena, struct tls_subject *ret)
{
    const char *const *ips;
    size_t n = kubelet_node_addresses(kubelet, &ips);
    const char **addresses = KP_NEW_ARRAY(arena, const char *, n + 1), **names = KP_NEW_ARRAY(arena, const char *, 2);
    static const char *const groups[] = {"system:nodes", NULL};
    for (size_t i = 0; i < n; i++)
        addresses[i] = ips[i];
    names[0] = kubelet->config.node_name;
    *ret = (struct tls_subject){.common_name = kp_arena_printf(arena, "system:node:%s", kubelet->config.node_name),
                                .organizations = groups, .dns_names = names, .ip_addresses = addresses};
}

static int self_signed(struct kubelet *kubelet, struct tls_context **ret, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(tls_key_unref) struct tls_key *key = NULL;
    KP_AUTO(tls_cert_unref) struct tls_cert *cert = NULL;
    KP_AUTO_BUF struct kp_buf cert_pem = {0}, key_pem = {0};
    struct tls_cert_options options = {.lifetime_s = SELF_SIGNED_LIFETIME_S};
    subject_of(kubelet, arena, &options.subject);
    int rc = tls_key_generate(TLS_KEY_ECDSA_P256, &key, error);
    if (rc == 0)
        rc = tls_cert_create_ca(key, &options, &cert, error);
    if (rc == 0)
        rc = tls_key_to_pem(key, &key_pem, error);
    if (rc < 0)
        return kp_wrap(error, "self-signed serving certificate");
    tls_cert_to_pem(cert, &cert_pem);
    return context_from_pem(kubelet, cert_pem.data, key_pem.data, ret, error);
}

static char *pair_path(struct kubelet *kubelet, const char *what)
{
    return kp_asprintf("%s/kubelet-%s-current.pem", kubelet->config.cert_dir, what);
}

/* When the certificate of the pair file is to be renewed; 0 when there is no usable one. */
static int64_t renew_at(const char *path)
{
    KP_AUTO(tls_cert_unref) struct tls_cert *cert = NULL;
    if (tls_cert_load(path, &cert, NULL) < 0)
        return 0;
    const struct tls_cert_info *info = tls_cert_info(cert);
    if (info->not_after_s <= kp_now_s())
        return 0;
    return info->not_before_s + (info->not_after_s - info->not_before_s) * RENEW_PERCENT / 100;
}

int kubelet_certs_server(struct kubelet *kubelet, struct tls_context **ret_tls, struct kp_error *error)
{
    if (!kp_empty(kubelet->config.tls_cert_file))
        return context_from_pem(kubelet, NULL, NULL, ret_tls, error);
    KP_AUTO_FREE char *path = pair_path(kubelet, "server");
    KP_AUTO_BUF struct kp_buf pair = {0};
    if (kubelet->config.rotate_server_certificates && renew_at(path) > 0 && kp_read_file(path, 1 << 20, &pair, error) == 0)
        return context_from_pem(kubelet, pair.data, pair.data, ret_tls, error);
    return self_signed(kubelet, ret_tls, error);
}

/* ---- certificate signing requests ------------------------------------------------------------------------------------ */

static int create_csr(struct client *client, const char *signer, const char *usage, const struct kp_buf *request,
                      struct kp_arena *arena, const char **ret_name, struct kp_error *error)
{
    struct k8s_certificate_signing_request *csr = KP_OBJECT_NEW(arena, k8s_certificate_signing_request);
    csr->metadata->generate_name = "csr-";
    if (!csr->spec)
        csr->spec = KP_OBJECT_NEW(arena, k8s_certificate_signing_request_spec);
    csr->spec->signer_name = signer;
    csr->spec->request = (struct kp_bytes){.data = (const uint8_t *)request->data, .len = request->len};
    kp_string_list_add(arena, &csr->spec->usages, "digital signature");
    kp_string_list_add(arena, &csr->spec->usages, usage);
    void *answer = NULL;
    int rc = client_create(client, &k8s_certificatesigningrequests_resource, NULL, csr, NULL, arena, &answer, error);
    if (rc == 0)
        *ret_name = ((struct k8s_certificate_signing_request *)answer)->metadata->name;
    return rc;
}

static int wait_signed(struct client *client, const char *name, struct kp_buf *out, struct kp_error *error)
{
    int64_t deadline_ms = kp_mono_ms() + SIGN_TIMEOUT_MS;
    while (kp_mono_ms() < deadline_ms) {
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        void *object = NULL;
        int rc = client_get(client, &k8s_certificatesigningrequests_resource, NULL, name, arena, &object, error);
        if (rc < 0)
            return rc;
        const struct k8s_certificate_signing_request_status *status = ((struct k8s_certificate_signing_request *)object)->status;
        for (size_t i = 0; status && i < status->conditions.len; i++)
            if (kp_streq(status->conditions.items[i].type, "Denied") || kp_streq(status->conditions.items[i].type, "Failed"))
                return kp_fail(error, KP_EFORBIDDEN, "certificate request %s was refused: %s", name,
                               status->conditions.items[i].message ? status->conditions.items[i].message : "");
        if (status && status->certificate.len > 0) {
            kp_buf_append(out, status->certificate.data, status->certificate.len);
            return 0;
        }
        kp_sleep_ms(POLL_MS);
    }
    return kp_fail(error, KP_ETIMEOUT, "certificate request %s was not signed", name);
}

/* Gets a certificate for a new key and writes both to the pair file. */
static int obtain(struct client *client, const struct tls_subject *subject, const char *signer, const char *usage,
                  const char *path, struct kp_buf *ret_pair, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(tls_key_unref) struct tls_key *key = NULL;
    KP_AUTO_BUF struct kp_buf request = {0}, key_pem = {0};
    const char *name = NULL;
    int rc = tls_key_generate(TLS_KEY_ECDSA_P256, &key, error);
    if (rc == 0)
        rc = tls_key_to_pem(key, &key_pem, error);
    if (rc == 0)
        rc = tls_csr_create(key, subject, &request, error);
    if (rc == 0)
        rc = create_csr(client, signer, usage, &request, arena, &name, error);
    if (rc == 0)
        rc = wait_signed(client, name, ret_pair, error);
    if (rc < 0)
        return rc;
    if (ret_pair->len > 0 && ret_pair->data[ret_pair->len - 1] != '\n')
        kp_buf_putc(ret_pair, '\n');
    kp_buf_append(ret_pair, key_pem.data, key_pem.len);
    return kp_write_file(path, ret_pair->data, ret_pair->len, 0600, error);
}

static int renew_serving(struct kubelet *kubelet, const char *path, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf pair = {0};
    struct tls_subject subject;
    struct tls_context *tls = NULL;
    subject_of(kubelet, arena, &subject);
    int rc = kp_mkdir_p(kubelet->config.cert_dir, 0755, error);
    if (rc == 0)
        rc = obtain(kubelet->client, &subject, SERVING_SIGNER, "server auth", path, &pair, error);
    if (rc == 0)
        rc = context_from_pem(kubelet, pair.data, pair.data, &tls, error);
    if (rc == 0)
        kubelet_server_set_tls(kubelet, tls);
    return rc;
}

static void *run(void *arg)
{
    struct kubelet *kubelet = arg;
    KP_AUTO_FREE char *path = pair_path(kubelet, "server");
    while (!kubelet->stopping) {
        int64_t at_s = renew_at(path);
        if (at_s > kp_now_s()) {
            kp_sleep_ms(KP_MIN((at_s - kp_now_s()) * 1000, 60000));
            continue;
        }
        struct kp_error error = {0};
        if (renew_serving(kubelet, path, &error) < 0) {
            kp_warn("getting a serving certificate failed", "error", error.message, NULL);
            kp_sleep_ms(RETRY_MS);
        } else {
            kp_info("serving certificate renewed", "path", path, NULL);
        }
    }
    return NULL;
}

void kubelet_certs_start(struct kubelet *kubelet)
{
    if (kubelet->config.rotate_server_certificates && kp_empty(kubelet->config.tls_cert_file))
        kubelet_thread("certificates", run, kubelet);
}

/* ---- bootstrap of the client certificate ----------------------------------------------------------------------------- */

static int write_kubeconfig(struct kubelet *kubelet, const struct client_config *bootstrap, const char *pair_file,
                            struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    kp_buf_puts(&out, "apiVersion: v1\nkind: Config\nclusters:\n- name: default-cluster\n  cluster:\n");
    kp_buf_printf(&out, "    server: %s\n", bootstrap->n_servers > 0 ? bootstrap->servers[0] : "");
    if (bootstrap->ca_pem) {
        kp_buf_puts(&out, "    certificate-authority-data: ");
        kp_base64_encode(&out, bootstrap->ca_pem, strlen(bootstrap->ca_pem));
        kp_buf_putc(&out, '\n');
    }
    kp_buf_puts(&out, "contexts:\n- name: default-context\n  context:\n    cluster: default-cluster\n    user: default-auth\n"
                      "    namespace: default\ncurrent-context: default-context\nusers:\n- name: default-auth\n  user:\n");
    kp_buf_printf(&out, "    client-certificate: %s\n    client-key: %s\n", pair_file, pair_file);
    return kp_write_file(kubelet->config.kubeconfig, out.data, out.len, 0600, error);
}

int kubelet_certs_bootstrap(struct kubelet *kubelet, struct kp_error *error)
{
    if (kp_empty(kubelet->config.bootstrap_kubeconfig) || kp_path_exists(kubelet->config.kubeconfig))
        return 0;
    struct client_config config = {0};
    KP_AUTO(client_free) struct client *client = NULL;
    KP_AUTO_FREE char *path = pair_path(kubelet, "client");
    KP_AUTO_BUF struct kp_buf pair = {0};
    static const char *const groups[] = {"system:nodes", NULL};
    struct tls_subject subject = {
        .common_name = kp_arena_printf(kubelet->config.arena, "system:node:%s", kubelet->config.node_name), .organizations = groups};
    int rc = client_config_from_kubeconfig(kubelet->config.bootstrap_kubeconfig, NULL, kubelet->config.arena, &config, error);
    if (rc == 0)
        rc = client_new(kubelet->loop, &config, &client, error);
    if (rc == 0)
        rc = kp_mkdir_p(kubelet->config.cert_dir, 0755, error);
    while (rc == 0) {
        rc = obtain(client, &subject, CLIENT_SIGNER, "client auth", path, &pair, error);
        if (rc != KP_EUNAVAILABLE && rc != KP_ETIMEOUT)
            break;
        kp_warn("bootstrap waits for the API server", "error", error->message, NULL);
        kp_sleep_ms(RETRY_MS);
        kp_buf_done(&pair);
        rc = 0;
    }
    if (rc == 0)
        rc = write_kubeconfig(kubelet, &config, path, error);
    return rc < 0 ? kp_wrap(error, "bootstrap of the client certificate") : 0;
}
