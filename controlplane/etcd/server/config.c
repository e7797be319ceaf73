/* What a member is told at its start, checked before anything is touched; the texts are etcd's. */
#include "controlplane/etcd/server/server_internal.h"

#include <arpa/inet.h>

/* What stands behind "scheme://". */
static const char *url_host(const char *url)
{
    const char *colon = strstr(url, "://");
    return colon ? colon + 3 : url;
}

static bool is_address(const char *host, size_t len)
{
    char text[INET6_ADDRSTRLEN + 2];
    struct in6_addr address;
    if (len >= 2 && host[0] == '[' && host[len - 1] == ']')
        host++, len -= 2;
    if (len >= sizeof text)
        return false;
    memcpy(text, host, len);
    text[len] = 0;
    return inet_pton(AF_INET, text, &address) == 1 || inet_pton(AF_INET6, text, &address) == 1;
}

static int check_url(const char *url, bool listens, struct kp_error *error)
{
    if (kp_starts_with(url, "unix://") || kp_starts_with(url, "unixs://"))
        return 0;
    if (!kp_starts_with(url, "http://") && !kp_starts_with(url, "https://"))
        return kp_fail(error, KP_EUSAGE, "URL scheme must be http, https, unix, or unixs: %s", url);
    const char *host = url_host(url), *path = strchr(host, '/'), *port = strrchr(host, ':');
    if (!port || (path && port > path) || strchr(port, ']') || !port[1])
        return kp_fail(error, KP_EUSAGE, "URL address does not have the form \"host:port\": %s", url);
    if (path && path[1])
        return kp_fail(error, KP_EUSAGE, "URL must not contain a path: %s", url);
    size_t len = (size_t)(port - host);
    if (listens && len && !(len == 9 && memcmp(host, "localhost", 9) == 0) && !is_address(host, len))
        return kp_fail(error, KP_EUSAGE, "expected IP in URL for binding (%s)", url);
    return 0;
}

static int check_urls(const char *flag, const char *urls, const struct etcd_tls_files *tls, struct kp_error *error)
{
    struct kp_strings list = {0};
    split_urls(urls, &list);
    int rc = list.len ? 0 : kp_fail(error, KP_EUSAGE, "--%s names no URL", flag);
    for (size_t i = 0; rc == 0 && i < list.len; i++) {
        const char *url = list.items[i];
        bool secure = kp_starts_with(url, "https://") || kp_starts_with(url, "unixs://");
        if ((rc = check_url(url, tls != NULL, error)) < 0)
            rc = kp_wrap(error, "--%s", flag);
        else if (secure && tls && (kp_empty(tls->cert_file) || kp_empty(tls->key_file)))
            rc = kp_fail(error, KP_EUSAGE, "--%s: %s needs a certificate and a key file", flag, url);
    }
    kp_strings_done(&list);
    return rc;
}

static bool same_url(const char *a, const char *b)
{
    static const char local[] = "localhost:", loop[] = "127.0.0.1:";
    const char *x = url_host(a), *y = url_host(b);
    if (x - a != y - b || memcmp(a, b, (size_t)(x - a)) != 0)
        return false;
    x += kp_starts_with(x, local) ? sizeof local - 1 : kp_starts_with(x, loop) ? sizeof loop - 1 : 0;
    y += kp_starts_with(y, local) ? sizeof local - 1 : kp_starts_with(y, loop) ? sizeof loop - 1 : 0;
    return kp_streq(x, y);
}

/* Those of `from` that `in` lacks, as "name=url,name=url". */
static size_t missing(const char *name, const struct kp_strings *from, const struct kp_strings *in, struct kp_buf *out)
{
    size_t n = 0;
    for (size_t i = 0; i < from->len; i++) {
        bool found = false;
        for (size_t j = 0; j < in->len && !found; j++)
            found = same_url(from->items[i], in->items[j]);
        if (!found)
            kp_buf_printf(out, "%s%s=%s", n++ ? "," : "", name, from->items[i]);
    }
    return n;
}

static int check_advertised(const struct etcd_config *config, const struct member *self, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    struct kp_strings own = {0};
    split_urls(config->initial_advertise_peer_urls, &own);
    int rc = 0;
    if (missing(config->name, &self->peer_urls, &own, &text))
        rc = kp_fail(error, KP_EUSAGE, "--initial-cluster has %s but missing from --initial-advertise-peer-urls=%s", text.data,
                     config->initial_advertise_peer_urls);
    else if (missing(config->name, &own, &self->peer_urls, &text))
        rc = kp_fail(error, KP_EUSAGE, "--initial-advertise-peer-urls has %s but missing from --initial-cluster=%s", text.data,
                     config->initial_cluster);
    kp_strings_done(&own);
    return rc;
}

int etcd_config_check_first(const struct etcd_config *config, struct kp_error *error)
{
    struct members members = {0};
    uint64_t cluster_id, self;
    int rc = members_from_config(config, &members, &cluster_id, &self, error);
    for (size_t i = 0; rc == 0 && i < members.len; i++) {
        const struct member *member = &members.items[i];
        for (size_t j = 0; rc == 0 && j < member->peer_urls.len; j++)
            if ((rc = check_url(member->peer_urls.items[j], false, error)) < 0)
                rc = kp_wrap(error, "error setting up initial cluster");
        if (rc == 0 && member->id == self)
            rc = check_advertised(config, member, error);
    }
    members_done(&members);
    return rc;
}

int etcd_config_check(const struct etcd_config *config, struct kp_error *error)
{
    int rc;
    if ((rc = check_urls("listen-client-urls", config->listen_client_urls, &config->client_tls, error)) < 0 ||
        (rc = check_urls("advertise-client-urls", config->advertise_client_urls, NULL, error)) < 0 ||
        (rc = check_urls("listen-peer-urls", config->listen_peer_urls, &config->peer_tls, error)) < 0 ||
        (rc = check_urls("initial-advertise-peer-urls", config->initial_advertise_peer_urls, NULL, error)) < 0)
        return rc;
    if (!kp_empty(config->listen_metrics_urls) &&
        (rc = check_urls("listen-metrics-urls", config->listen_metrics_urls, &config->client_tls, error)) < 0)
        return rc;
    if (config->client_tls.client_cert_auth && kp_empty(config->client_tls.trusted_ca_file))
        return kp_fail(error, KP_EUSAGE, "--client-cert-auth needs --trusted-ca-file");
    if (config->heartbeat_ms <= 0 || config->election_ms < 5 * config->heartbeat_ms)
        return kp_fail(error, KP_EUSAGE,
                       "--election-timeout[%lldms] should be at least as 5 times as --heartbeat-interval[%lldms]",
                       (long long)config->election_ms, (long long)config->heartbeat_ms);
    if (config->election_ms > 50000)
        return kp_fail(error, KP_EUSAGE, "--election-timeout[%lldms] is too long, and should be set less than 50000ms",
                       (long long)config->election_ms);
    if (config->snapshot_count <= 0 || config->txn_ops_max <= 0)
        return kp_fail(error, KP_EUSAGE, "--snapshot-count and --max-txn-ops must be positive");
    if (config->request_bytes_max <= 0 || config->request_bytes_max > ETCD_REQUEST_BYTES_LIMIT)
        return kp_fail(error, KP_EUSAGE, "--max-request-bytes must be between 1 and %lld",
                       (long long)ETCD_REQUEST_BYTES_LIMIT);
    if (!kp_streq(config->initial_cluster_state, "new") && !kp_streq(config->initial_cluster_state, "existing"))
        return kp_fail(error, KP_EUSAGE, "--initial-cluster-state must be new or existing, not \"%s\"",
                       config->initial_cluster_state);
    struct members members = {0};
    uint64_t cluster_id, member_id;
    rc = members_from_config(config, &members, &cluster_id, &member_id, error);
    if (rc == 0 && members.len > RAFT_MEMBERS_MAX)
        rc = kp_fail(error, KP_EUSAGE, "--initial-cluster names %zu members, at most %d are allowed", members.len,
                     RAFT_MEMBERS_MAX);
    members_done(&members);
    return rc;
}
