/* A member of etcd that runs here, over mutual TLS, for the tests of its client. Included once by each. */
#ifndef KPROV_TEST_ETCD_FIXTURE_H
#define KPROV_TEST_ETCD_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "controlplane/etcd/server/server.h"
#include "provisioner/etcd/etcd_internal.h"

static struct kp_arena *arena;
static struct pki *pki;
static struct etcd_server *server;
static char dir[64], url[64], peer_url[64], dead_url[64];
static struct kp_error error;

static int free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    close(fd);
    return ntohs(address.sin_port);
}

static const char *put(const char *name, const char *text)
{
    const char *path = kp_arena_printf(arena, "%s/%s", dir, name);
    assert_int_equal(kp_write_file(path, text, strlen(text), 0600, NULL), 0);
    return path;
}

static void start_server(void)
{
    static const char *const addresses[] = {"127.0.0.1", NULL};
    const struct pki_leaf leaf = {"one", NULL, TLS_USAGE_SERVER | TLS_USAGE_CLIENT, NULL, addresses};
    const char *cert = NULL, *key = NULL;
    KP_AUTO_BUF struct kp_buf ca = {0};
    assert_int_equal(pki_create(&pki, NULL), 0);
    assert_int_equal(pki_issue(&pki->etcd_ca, &leaf, arena, &cert, &key, NULL), 0);
    tls_cert_to_pem(pki->etcd_ca.cert, &ca);
    const struct etcd_config config = {
        .name = "one", .data_dir = kp_arena_printf(arena, "%s/data", dir), .begun_file = kp_arena_printf(arena, "%s/begun", dir),
        .listen_client_urls = url, .advertise_client_urls = url, .listen_peer_urls = peer_url, .initial_advertise_peer_urls = peer_url,
        .initial_cluster = kp_arena_printf(arena, "one=%s", peer_url), .initial_cluster_token = "t", .initial_cluster_state = "new",
        .client_tls = {.cert_file = put("crt", cert), .key_file = put("key", key), .trusted_ca_file = put("ca", ca.data), .client_cert_auth = true},
        .heartbeat_ms = 20, .election_ms = 200, .snapshot_count = 10000, .txn_ops_max = 128, .strict_reconfig = true,
        .request_bytes_max = ETCD_REQUEST_BYTES_MAX_DEFAULT, .watch_progress_interval_ms = 60000, .bcrypt_cost = 4,
    };
    if (etcd_server_start(&config, &server, &error) < 0)
        fail_msg("%s", error.message);
}

/* dead_url: nobody listens there. */
static void start_fixture(void)
{
    arena = kp_arena_new(0);
    snprintf(dir, sizeof(dir), "/tmp/test-etcd-client-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(url, sizeof(url), "https://127.0.0.1:%d", free_port());
    snprintf(peer_url, sizeof(peer_url), "http://127.0.0.1:%d", free_port());
    snprintf(dead_url, sizeof(dead_url), "https://127.0.0.1:%d", free_port());
    start_server();
}

static void stop_fixture(void)
{
    etcd_server_stop(server);
    pki_free(pki);
    assert_int_equal(kp_remove_tree(dir, NULL), 0);
    kp_arena_free(arena);
}

#endif
