/* Members and their certificates: mutual TLS, whom it refuses, and rotation. */
#include "tests/support/peer_world.h"

struct authority {
    struct tls_key *key;
    struct tls_cert *cert;
    char ca_file[96];
};

struct fixture {
    char dir[64];
    struct authority ours, theirs;
};

struct pair_files {
    char cert[96], key[96];
};

static void make_authority(struct fixture *f, struct authority *authority, const char *name)
{
    struct kp_error error = {0};
    assert_int_equal(tls_key_generate(TLS_KEY_ECDSA_P256, &authority->key, &error), 0);
    const struct tls_cert_options options = {.subject.common_name = name};
    assert_int_equal(tls_cert_create_ca(authority->key, &options, &authority->cert, &error), 0);
    snprintf(authority->ca_file, sizeof(authority->ca_file), "%s/%s.crt", f->dir, name);
    assert_int_equal(tls_cert_store(authority->cert, authority->ca_file, &error), 0);
}

/* Writes certificate and key of a member that is reachable at ip. */
static void issue(const struct fixture *f, const struct authority *by, const char *file, const char *name, const char *ip,
                  struct pair_files *files)
{
    struct kp_error error = {0};
    KP_AUTO(tls_key_unref) struct tls_key *key = NULL;
    KP_AUTO(tls_cert_unref) struct tls_cert *cert = NULL;
    const char *const ips[] = {ip, NULL}, *const names[] = {name, NULL};
    const struct tls_cert_options options = {.subject = {.common_name = name, .dns_names = names, .ip_addresses = ips},
                                             .usages = TLS_USAGE_SERVER | TLS_USAGE_CLIENT};
    assert_int_equal(tls_key_generate(TLS_KEY_ECDSA_P256, &key, &error), 0);
    assert_int_equal(tls_cert_create(key, &options, by->cert, by->key, &cert, &error), 0);
    snprintf(files->cert, sizeof(files->cert), "%s/%s.crt", f->dir, file);
    snprintf(files->key, sizeof(files->key), "%s/%s.key", f->dir, file);
    assert_int_equal(tls_cert_store(cert, files->cert, &error), 0);
    assert_int_equal(tls_key_store(key, files->key, &error), 0);
}

static int setup(void **state)
{
    struct fixture *f = kp_calloc(1, sizeof(*f));
    snprintf(f->dir, sizeof(f->dir), "/tmp/test-peer-tls-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    make_authority(f, &f->ours, "ours");
    make_authority(f, &f->theirs, "theirs");
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    tls_key_unref(f->ours.key);
    tls_cert_unref(f->ours.cert);
    tls_key_unref(f->theirs.key);
    tls_cert_unref(f->theirs.cert);
    assert_int_equal(kp_remove_tree(f->dir, NULL), 0);
    free(f);
    return 0;
}

static struct peer_config config_of(const struct pair_files *files, const struct authority *trusted)
{
    return (struct peer_config){.listen_urls = "https://127.0.0.1:0",
                                .tls = {.cert_file = files->cert,
                                        .key_file = files->key,
                                        .trusted_ca_file = trusted->ca_file,
                                        .client_cert_auth = true}};
}

static void members_of_one_authority_talk(void **state)
{
    struct fixture *f = *state;
    struct pair_files fa, fb;
    struct world a, b;
    struct kp_error error = {0};
    KP_AUTO_BUF struct kp_buf body = {0};
    uint64_t cluster = 0;
    issue(f, &f->ours, "a", "member-a", "127.0.0.1", &fa);
    issue(f, &f->ours, "b", "member-b", "127.0.0.1", &fb);
    struct peer_config ca = config_of(&fa, &f->ours), cb = config_of(&fb, &f->ours);
    world_start(&a, 1, &ca);
    world_start(&b, 2, &cb);
    world_know(&a, &b);
    world_wait_connected(&a, 2);
    for (uint64_t i = 0; i < 100; i++) {
        struct raft_message message = message_of(1, 2, i, 100000);
        peer_send(a.transport, &message);
    }
    WORLD_WAIT(&b, messages_len, 100);
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(b.messages[i].index, i);
    char url[64];
    world_url(&b, url);
    assert_int_equal(peer_get(url, &ca.tls, "/members", WAIT_MS_MAX, &body, &cluster, &error), 0);
    assert_int_equal(cluster, CLUSTER);
    world_stop(&a);
    world_stop(&b);
}

/* a calls b, and nothing gets through. */
static void expect_no_connection(const struct peer_config *ca, const struct peer_config *cb, const char *text)
{
    struct world a, b;
    struct kp_error error = {0};
    KP_AUTO_BUF struct kp_buf answer = {0};
    world_start(&a, 1, ca);
    world_start(&b, 2, cb);
    world_know(&a, &b);
    WORLD_WAIT(&a, unreachable, 1);
    int rc = peer_ask(a.transport, 2, "what", (struct kp_bytes){0}, WAIT_MS_MAX, &answer, &error);
    if (rc == 0 || !strstr(error.message, text))
        fail_msg("%d %s", rc, error.message);
    struct raft_message message = message_of(1, 2, 0, 10);
    peer_send(a.transport, &message);
    world_stop(&a);
    world_stop(&b);
    assert_int_equal(b.messages_len, 0);
}

static void wrong_certificates_are_refused(void **state)
{
    struct fixture *f = *state;
    struct pair_files good, foreign, elsewhere;
    issue(f, &f->ours, "good", "member", "127.0.0.1", &good);
    issue(f, &f->theirs, "foreign", "member", "127.0.0.1", &foreign);
    issue(f, &f->ours, "elsewhere", "member", "10.1.2.3", &elsewhere);
    const struct peer_config right = config_of(&good, &f->ours);
    struct peer_config wrong = config_of(&foreign, &f->ours);
    expect_no_connection(&wrong, &right, ""); /* the server does not know who signed the client's */
    wrong = config_of(&good, &f->theirs);
    expect_no_connection(&wrong, &right, "does not verify"); /* nor the client who signed the server's */
    wrong = config_of(&elsewhere, &f->ours);
    expect_no_connection(&right, &wrong, ""); /* a server of another address */
    wrong = right;
    wrong.tls.cert_file = wrong.tls.key_file = NULL;
    wrong.listen_urls = "http://127.0.0.1:0";
    expect_no_connection(&wrong, &right, ""); /* no certificate at all */
}

static void names_that_are_not_allowed_are_refused(void **state)
{
    struct fixture *f = *state;
    struct pair_files good;
    issue(f, &f->ours, "named", "member-x", "127.0.0.1", &good);
    const struct peer_config right = config_of(&good, &f->ours);
    struct peer_config strict = right;
    strict.tls.allowed_cn = "member-y";
    expect_no_connection(&right, &strict, "not one of those allowed");
    strict.tls.allowed_cn = NULL;
    strict.tls.allowed_hostname = "member-y";
    expect_no_connection(&right, &strict, "not one of those allowed");
    struct world a, b;
    strict.tls.allowed_hostname = "member-x";
    world_start(&a, 1, &right);
    world_start(&b, 2, &strict);
    world_know(&a, &b);
    world_wait_connected(&a, 2);
    world_stop(&b);
    world_stop(&a);
}

static void listening_needs_its_files(void **state)
{
    struct fixture *f = *state;
    struct pair_files good;
    struct kp_error error = {0};
    struct peer_transport *transport = NULL;
    issue(f, &f->ours, "half", "member", "127.0.0.1", &good);
    struct peer_config config = {.listen_urls = "https://127.0.0.1:0"};
    assert_int_equal(peer_start(&config, &transport, &error), KP_EUSAGE);
    config.tls = (struct peer_tls_files){.cert_file = good.cert, .key_file = good.key, .client_cert_auth = true};
    assert_int_equal(peer_start(&config, &transport, &error), KP_EUSAGE);
    config.tls = (struct peer_tls_files){.cert_file = good.cert,
                                         .key_file = good.key,
                                         .trusted_ca_file = f->ours.ca_file,
                                         .allowed_cn = "a",
                                         .allowed_hostname = "b"};
    assert_int_equal(peer_start(&config, &transport, &error), KP_EUSAGE);
    assert_string_equal(error.message, "AllowedCN and AllowedHostname are mutually exclusive (cn=\"a\", hostname=\"b\")");
    config.tls.allowed_cn = NULL;
    config.tls.version_min = "TLS1.1";
    assert_int_equal(peer_start(&config, &transport, &error), KP_EINVALID);
    config = (struct peer_config){.listen_urls = "tcp://127.0.0.1:0"};
    assert_int_equal(peer_start(&config, &transport, &error), KP_EBADREQUEST);
    config = (struct peer_config){.listen_urls = "http://192.0.2.1:1"};
    assert_true(peer_start(&config, &transport, &error) < 0);
    assert_null(transport);
}

static void self_made_certificates_work_when_not_verified(void **state)
{
    struct fixture *f = *state;
    struct world a, b;
    struct kp_error error = {0};
    char dir[96];
    KP_AUTO_FREE char *cert = NULL, *key = NULL;
    snprintf(dir, sizeof(dir), "%s/self/peer", f->dir);
    const struct tls_cert_options options = {.usages = TLS_USAGE_SERVER | TLS_USAGE_CLIENT};
    assert_int_equal(tls_self_signed(dir, &options, &cert, &key, &error), 0);
    const struct peer_config config = {
        .listen_urls = "https://127.0.0.1:0",
        .tls = {.cert_file = cert, .key_file = key, .insecure_skip_verify = true, .version_min = "TLS1.3"}};
    world_start(&a, 1, &config);
    world_start(&b, 2, &config);
    world_know(&a, &b);
    world_wait_connected(&a, 2);
    world_stop(&a);
    world_stop(&b);
}

static void members_talk_over_unix_sockets(void **state)
{
    struct fixture *f = *state;
    struct world a, b;
    char url[128];
    snprintf(url, sizeof(url), "unix://%s/b.sock", f->dir);
    world_start(&a, 1, NULL);
    world_start(&b, 2, &(struct peer_config){.listen_urls = url});
    peer_set(a.transport, 2, (const char *const[]){url}, 1);
    world_wait_connected(&a, 2);
    struct raft_message message = message_of(1, 2, 1, 10);
    peer_send(a.transport, &message);
    WORLD_WAIT(&b, messages_len, 1);
    world_stop(&a);
    world_stop(&b);
}

/* The whole authority is replaced while both members run: connections made before live on, new ones want the new one. */
static void rotated_certificates_need_no_restart(void **state)
{
    struct fixture *f = *state;
    struct pair_files fa, fb;
    struct kp_error error = {0};
    struct world a, b;
    issue(f, &f->ours, "rot-a", "member-a", "127.0.0.1", &fa);
    issue(f, &f->ours, "rot-b", "member-b", "127.0.0.1", &fb);
    struct authority trusted = {0};
    snprintf(trusted.ca_file, sizeof(trusted.ca_file), "%s/rot-ca.crt", f->dir);
    assert_int_equal(tls_cert_store(f->ours.cert, trusted.ca_file, &error), 0);
    const struct peer_config ca = config_of(&fa, &trusted), cb = config_of(&fb, &trusted);
    world_start(&a, 1, &ca);
    world_start(&b, 2, &cb);
    world_know(&a, &b);
    world_wait_connected(&a, 2);
    issue(f, &f->theirs, "rot-a", "member-a", "127.0.0.1", &fa);
    issue(f, &f->theirs, "rot-b", "member-b", "127.0.0.1", &fb);
    assert_int_equal(tls_cert_store(f->theirs.cert, trusted.ca_file, &error), 0);
    struct raft_message message = message_of(1, 2, 1, 10);
    peer_send(a.transport, &message);
    WORLD_WAIT(&b, messages_len, 1);
    world_know(&b, &a); /* a new connection */
    world_wait_connected(&b, 1);
    KP_AUTO(tls_cert_unref) struct tls_cert *leaf = tls_context_cert(b.transport->client_tls);
    assert_string_equal(tls_cert_info(leaf)->issuer_common_name, "theirs");
    leaf = (tls_cert_unref(leaf), tls_context_cert(a.transport->server_tls));
    assert_string_equal(tls_cert_info(leaf)->issuer_common_name, "theirs");
    world_stop(&a);
    world_stop(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_of_one_authority_talk),
        cmocka_unit_test(wrong_certificates_are_refused),
        cmocka_unit_test(names_that_are_not_allowed_are_refused),
        cmocka_unit_test(listening_needs_its_files),
        cmocka_unit_test(self_made_certificates_work_when_not_verified),
        cmocka_unit_test(members_talk_over_unix_sockets),
        cmocka_unit_test(rotated_certificates_need_no_restart),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
