/* Certificates, sessions over memory, rotation, hashes and tokens. */
#include "lib/tls/tls.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct pki {
    struct tls_key *ca_key, *server_key, *client_key;
    struct tls_cert *ca, *server, *client;
    struct kp_buf ca_pem, server_pem, server_key_pem, client_pem, client_key_pem;
};

static const char *const server_dns[] = {"localhost", "*.cluster.local", NULL};
static const char *const server_ips[] = {"127.0.0.1", "::1", NULL};
static const char *const client_orgs[] = {"system:masters", "devs", NULL};

static struct tls_cert *issue(struct pki *pki, struct tls_key *key, const struct tls_cert_options *options)
{
    struct kp_error error = {0};
    struct tls_cert *cert = NULL;
    int rc = tls_cert_create(key, options, pki->ca, pki->ca_key, &cert, &error);
    assert_int_equal(rc, 0);
    return cert;
}

static int pki_setup(void **state)
{
    struct kp_error error = {0};
    struct pki *pki = kp_calloc(1, sizeof(*pki));
    assert_int_equal(tls_key_generate(TLS_KEY_ECDSA_P256, &pki->ca_key, &error), 0);
    assert_int_equal(tls_key_generate(TLS_KEY_ECDSA_P256, &pki->server_key, &error), 0);
    assert_int_equal(tls_key_generate(TLS_KEY_ECDSA_P256, &pki->client_key, &error), 0);
    const struct tls_cert_options ca = {.subject.common_name = "test-ca"};
    assert_int_equal(tls_cert_create_ca(pki->ca_key, &ca, &pki->ca, &error), 0);
    pki->server = issue(pki, pki->server_key, &(struct tls_cert_options){
        .subject = {.common_name = "server", .dns_names = server_dns, .ip_addresses = server_ips},
        .usages = TLS_USAGE_SERVER});
    pki->client = issue(pki, pki->client_key, &(struct tls_cert_options){
        .subject = {.common_name = "admin", .organizations = client_orgs}, .usages = TLS_USAGE_CLIENT});
    tls_cert_to_pem(pki->ca, &pki->ca_pem);
    tls_cert_to_pem(pki->server, &pki->server_pem);
    tls_cert_to_pem(pki->client, &pki->client_pem);
    assert_int_equal(tls_key_to_pem(pki->server_key, &pki->server_key_pem, &error), 0);
    assert_int_equal(tls_key_to_pem(pki->client_key, &pki->client_key_pem, &error), 0);
    *state = pki;
    return 0;
}

static int pki_teardown(void **state)
{
    struct pki *pki = *state;
    tls_key_unref(pki->ca_key);
    tls_key_unref(pki->server_key);
    tls_key_unref(pki->client_key);
    tls_cert_unref(pki->ca);
    tls_cert_unref(pki->server);
    tls_cert_unref(pki->client);
    kp_buf_done(&pki->ca_pem);
    kp_buf_done(&pki->server_pem);
    kp_buf_done(&pki->server_key_pem);
    kp_buf_done(&pki->client_pem);
    kp_buf_done(&pki->client_key_pem);
    free(pki);
    return 0;
}

static void certificate_says_what_it_was_made_with(void **state)
{
    struct pki *pki = *state;
    struct kp_error error = {0};
    const struct tls_cert_info *info = tls_cert_info(pki->server);
    assert_string_equal(info->common_name, "server");
    assert_int_equal(info->dns_name_count, 2);
    assert_string_equal(info->dns_names[1], "*.cluster.local");
    assert_int_equal(info->ip_address_count, 2);
    assert_string_equal(info->ip_addresses[0], "127.0.0.1");
    assert_string_equal(info->ip_addresses[1], "::1");
    assert_int_equal(info->usages, TLS_USAGE_SERVER | TLS_USAGE_DIGITAL_SIGNATURE);
    assert_false(info->is_ca);
    assert_string_equal(info->issuer_common_name, "test-ca");
    assert_true(info->not_before_s < kp_now_s() && info->not_after_s > kp_now_s() + 364 * 86400);
    assert_true(tls_cert_info(pki->ca)->is_ca);
    assert_true(tls_cert_info(pki->ca)->usages & TLS_USAGE_CERT_SIGN);
    const struct tls_cert_info *client = tls_cert_info(pki->client);
    assert_int_equal(client->organization_count, 2);
    assert_string_equal(client->organizations[0], "system:masters");
    KP_AUTO(tls_cert_unref) struct tls_cert *again = NULL;
    assert_int_equal(tls_cert_from_pem(pki->server_pem.data, pki->server_pem.len, &again, &error), 0);
    assert_string_equal(tls_cert_info(again)->fingerprint_sha256, info->fingerprint_sha256);
    KP_AUTO(tls_key_unref) struct tls_key *public_key = NULL;
    assert_int_equal(tls_cert_key(again, &public_key, &error), 0);
    assert_true(tls_key_equal(public_key, pki->server_key));
    assert_false(tls_key_is_private(public_key));
}

static void host_names_match_by_san_only(void **state)
{
    struct pki *pki = *state;
    assert_true(tls_cert_matches_host(pki->server, "localhost"));
    assert_true(tls_cert_matches_host(pki->server, "a.cluster.local"));
    assert_false(tls_cert_matches_host(pki->server, "a.b.cluster.local"));
    assert_true(tls_cert_matches_host(pki->server, "127.0.0.1"));
    assert_true(tls_cert_matches_host(pki->server, "::1"));
    assert_false(tls_cert_matches_host(pki->server, "127.0.0.2"));
    assert_false(tls_cert_matches_host(pki->server, "server"));
}

static void chain_verifies_for_its_usage_and_time(void **state)
{
    struct pki *pki = *state;
    struct kp_error error = {0};
    assert_int_equal(tls_cert_verify(pki->client, NULL, pki->ca_pem.data, TLS_USAGE_CLIENT, 0, &error), 0);
    assert_int_equal(tls_cert_verify(pki->client, NULL, pki->ca_pem.data, TLS_USAGE_SERVER, 0, &error), KP_EUNAUTHORIZED);
    assert_int_equal(tls_cert_verify(pki->client, NULL, pki->server_pem.data, TLS_USAGE_CLIENT, 0, &error),
                     KP_EUNAUTHORIZED);
    assert_int_equal(tls_cert_verify(pki->client, NULL, pki->ca_pem.data, TLS_USAGE_CLIENT, kp_now_s() + 800 * 86400,
                                     &error), KP_EUNAUTHORIZED);
    assert_non_null(strstr(error.message, "expired"));
}

static void request_is_signed_with_its_names(void **state)
{
    struct pki *pki = *state;
    struct kp_error error = {0};
    KP_AUTO_BUF struct kp_buf pem = {0};
    const char *const orgs[] = {"system:nodes", NULL};
    const struct tls_subject subject = {.common_name = "system:node:w1", .organizations = orgs, .dns_names = server_dns};
    assert_int_equal(tls_csr_create(pki->client_key, &subject, &pem, &error), 0);
    KP_AUTO(tls_csr_free) struct tls_csr *csr = NULL;
    assert_int_equal(tls_csr_from_pem(pem.data, pem.len, &csr, &error), 0);
    assert_string_equal(tls_csr_info(csr)->common_name, "system:node:w1");
    assert_string_equal(tls_csr_info(csr)->organizations[0], "system:nodes");
    assert_int_equal(tls_csr_info(csr)->dns_name_count, 2);
    KP_AUTO(tls_cert_unref) struct tls_cert *cert = NULL;
    const struct tls_cert_options options = {.usages = TLS_USAGE_CLIENT, .lifetime_s = 3600};
    assert_int_equal(tls_csr_sign(csr, &options, pki->ca, pki->ca_key, &cert, &error), 0);
    assert_string_equal(tls_cert_info(cert)->common_name, "system:node:w1");
    assert_int_equal(tls_cert_info(cert)->dns_name_count, 2);
    assert_true(tls_cert_info(cert)->not_after_s <= kp_now_s() + 3600);
    assert_int_equal(tls_cert_verify(cert, NULL, pki->ca_pem.data, TLS_USAGE_CLIENT, 0, &error), 0);
    pem.data[pem.len / 2] ^= 1;
    KP_AUTO(tls_csr_free) struct tls_csr *broken = NULL;
    assert_int_equal(tls_csr_from_pem(pem.data, pem.len, &broken, &error), KP_EBADREQUEST);
}

static void bad_input_is_refused(void **state)
{
    struct pki *pki = *state;
    struct kp_error error = {0};
    struct tls_key *key = NULL;
    struct tls_cert *cert = NULL;
    struct tls_context *context = NULL;
    assert_int_equal(tls_key_from_pem("junk", 4, &key, &error), KP_EBADREQUEST);
    assert_int_equal(tls_cert_from_pem("junk", 4, &cert, &error), KP_EBADREQUEST);
    assert_int_equal(tls_cert_from_der("junk", 4, &cert, &error), KP_EBADREQUEST);
    assert_int_equal(tls_cert_load("/does/not/exist", &cert, &error), KP_ENOTFOUND);
    const char *const ips[] = {"300.1.1.1", NULL};
    const struct tls_cert_options options = {.subject.ip_addresses = ips};
    assert_int_equal(tls_cert_create(pki->server_key, &options, pki->ca, pki->ca_key, &cert, &error), KP_EINVALID);
    assert_int_equal(tls_cert_create(pki->server_key, &(struct tls_cert_options){0}, pki->ca, pki->server_key, &cert,
                                     &error), KP_EINVALID);
    const struct tls_context_config mismatched = {
        .server = true, .cert_pem = pki->server_pem.data, .key_pem = pki->client_key_pem.data};
    assert_int_equal(tls_context_new(&mismatched, &context, &error), KP_EBADREQUEST);
    assert_int_equal(tls_context_new(&(struct tls_context_config){.server = true}, &context, &error), KP_EINVALID);
    assert_null(context);
}

/* ---- sessions ---- */
static const char *const alpn_both[] = {"h2", "http/1.1", NULL};
static const char *const alpn_h1[] = {"http/1.1", NULL};

static struct tls_context *server_context(struct pki *pki, enum tls_client_cert mode)
{
    struct kp_error error = {0};
    struct tls_context *context = NULL;
    const struct tls_context_config config = {
        .server = true, .cert_pem = pki->server_pem.data, .key_pem = pki->server_key_pem.data,
        .ca_pem = pki->ca_pem.data, .client_cert = mode, .alpn = alpn_both};
    assert_int_equal(tls_context_new(&config, &context, &error), 0);
    return context;
}

static struct tls_context *client_context(struct pki *pki, bool with_cert, const char *ca, const char *const *alpn)
{
    struct kp_error error = {0};
    struct tls_context *context = NULL;
    const struct tls_context_config config = {
        .cert_pem = with_cert ? pki->client_pem.data : NULL, .key_pem = with_cert ? pki->client_key_pem.data : NULL,
        .ca_pem = ca, .alpn = alpn};
    assert_int_equal(tls_context_new(&config, &context, &error), 0);
    return context;
}

/* Moves all output of one to the other; the code of the feed. */
static int pump(struct tls_session *from, struct tls_session *to, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf wire = {0};
    tls_session_take_output(from, &wire);
    return wire.len ? tls_session_feed(to, wire.data, wire.len, error) : 0;
}

struct pair {
    struct tls_session *server, *client;
    int server_rc, client_rc;
    struct kp_error server_error, client_error;
};

static void pair_connect(struct pair *pair, struct tls_context *server, struct tls_context *client, const char *name)
{
    struct kp_error error = {0};
    assert_int_equal(tls_session_new(server, NULL, &pair->server, &error), 0);
    assert_int_equal(tls_session_new(client, name, &pair->client, &error), 0);
    for (int turn = 0; turn < 6 && pair->server_rc == 0 && pair->client_rc == 0; turn++) {
        pair->server_rc = pump(pair->client, pair->server, &pair->server_error);
        pair->client_rc = pump(pair->server, pair->client, &pair->client_error);
    }
}

static void pair_done(struct pair *pair)
{
    tls_session_free(pair->server);
    tls_session_free(pair->client);
}

static void sessions_carry_bytes_and_identity(void **state)
{
    struct pki *pki = *state;
    struct kp_error error = {0};
    KP_AUTO(tls_context_unref) struct tls_context *server = server_context(pki, TLS_CLIENT_CERT_REQUIRE);
    KP_AUTO(tls_context_unref) struct tls_context *client = client_context(pki, true, pki->ca_pem.data, alpn_both);
    struct pair pair = {0};
    pair_connect(&pair, server, client, "127.0.0.1");
    assert_int_equal(pair.server_rc, 0);
    assert_int_equal(pair.client_rc, 0);
    assert_true(tls_session_handshake_done(pair.server) && tls_session_handshake_done(pair.client));
    assert_string_equal(tls_session_alpn(pair.server), "h2");
    assert_string_equal(tls_session_alpn(pair.client), "h2");
    const struct tls_cert_info *peer = tls_cert_info(tls_session_peer_cert(pair.server));
    assert_string_equal(peer->common_name, "admin");
    assert_string_equal(peer->organizations[0], "system:masters");
    KP_AUTO_FREE char *big = kp_malloc(1 << 20);
    memset(big, 'x', 1 << 20);
    assert_int_equal(tls_session_write(pair.client, big, 1 << 20, &error), 0);
    assert_int_equal(pump(pair.client, pair.server, &error), 0);
    size_t total = 0;
    char chunk[5000];
    for (ssize_t got; (got = tls_session_read(pair.server, chunk, sizeof(chunk), &error)) != 0; total += (size_t)got)
        assert_true(got > 0 && chunk[0] == 'x');
    assert_int_equal(total, 1 << 20);
    tls_session_close(pair.client);
    assert_int_equal(pump(pair.client, pair.server, &error), 0);
    assert_int_equal(tls_session_read(pair.server, chunk, sizeof(chunk), &error), 0);
    assert_true(tls_session_peer_closed(pair.server));
    pair_done(&pair);
}

static void byte_by_byte_feeding_works(void **state)
{
    struct pki *pki = *state;
    struct kp_error error = {0};
    KP_AUTO(tls_context_unref) struct tls_context *server = server_context(pki, TLS_CLIENT_CERT_NONE);
    KP_AUTO(tls_context_unref) struct tls_context *client = client_context(pki, false, pki->ca_pem.data, alpn_h1);
    struct tls_session *ends[2];
    assert_int_equal(tls_session_new(server, NULL, &ends[0], &error), 0);
    assert_int_equal(tls_session_new(client, "localhost", &ends[1], &error), 0);
    for (int turn = 0; turn < 12; turn++) {
        struct tls_session *from = ends[(turn + 1) % 2], *to = ends[turn % 2];
        for (struct kp_bytes out; (out = tls_session_output(from)).len;) {
            assert_int_equal(tls_session_feed(to, out.data, 1, &error), 0);
            tls_session_output_consume(from, 1);
        }
    }
    assert_true(tls_session_handshake_done(ends[0]) && tls_session_handshake_done(ends[1]));
    assert_string_equal(tls_session_alpn(ends[0]), "http/1.1");
    assert_null(tls_session_peer_cert(ends[0]));
    tls_session_free(ends[0]);
    tls_session_free(ends[1]);
}

static void strangers_are_refused(void **state)
{
    struct pki *pki = *state;
    KP_AUTO(tls_context_unref) struct tls_context *require = server_context(pki, TLS_CLIENT_CERT_REQUIRE);
    KP_AUTO(tls_context_unref) struct tls_context *request = server_context(pki, TLS_CLIENT_CERT_REQUEST);
    KP_AUTO(tls_context_unref) struct tls_context *anonymous = client_context(pki, false, pki->ca_pem.data, alpn_both);
    KP_AUTO(tls_context_unref) struct tls_context *distrusting = client_context(pki, true, pki->client_pem.data, alpn_both);
    struct pair none = {0}, wrong_name = {0}, wrong_ca = {0}, allowed = {0};
    pair_connect(&none, require, anonymous, "localhost");
    assert_int_equal(none.server_rc, KP_EUNAUTHORIZED);
    pair_connect(&wrong_name, request, anonymous, "example.com");
    assert_int_equal(wrong_name.client_rc, KP_EUNAUTHORIZED);
    assert_non_null(strstr(wrong_name.client_error.message, "example.com"));
    pair_connect(&wrong_ca, request, distrusting, "localhost");
    assert_int_equal(wrong_ca.client_rc, KP_EUNAUTHORIZED);
    pair_connect(&allowed, request, anonymous, "localhost");
    assert_int_equal(allowed.server_rc, 0);
    assert_true(tls_session_handshake_done(allowed.server));
    assert_null(tls_session_peer_cert(allowed.server));
    pair_done(&none);
    pair_done(&wrong_name);
    pair_done(&wrong_ca);
    pair_done(&allowed);
}

static void garbage_kills_the_session_only(void **state)
{
    struct pki *pki = *state;
    struct kp_error error = {0};
    KP_AUTO(tls_context_unref) struct tls_context *server = server_context(pki, TLS_CLIENT_CERT_NONE);
    KP_AUTO(tls_session_free) struct tls_session *session = NULL;
    assert_int_equal(tls_session_new(server, NULL, &session, &error), 0);
    const char *plain = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_int_equal(tls_session_feed(session, plain, strlen(plain), &error), KP_EBADREQUEST);
    assert_int_equal(tls_session_feed(session, plain, strlen(plain), &error), KP_EIO);
}

static void changed_files_are_loaded_and_bad_ones_refused(void **state)
{
    struct pki *pki = *state;
    struct kp_error error = {0};
    char folder[] = "/tmp/test_tls.XXXXXX";
    assert_non_null(mkdtemp(folder));
    KP_AUTO_FREE char *cert = kp_asprintf("%s/a.crt", folder);
    KP_AUTO_FREE char *key = kp_asprintf("%s/a.key", folder);
    assert_int_equal(tls_cert_store(pki->server, cert, &error), 0);
    assert_int_equal(tls_key_store(pki->server_key, key, &error), 0);
    KP_AUTO(tls_context_unref) struct tls_context *context = NULL;
    const struct tls_context_config config = {.server = true, .cert_file = cert, .key_file = key};
    assert_int_equal(tls_context_new(&config, &context, &error), 0);
    assert_int_equal(tls_context_reload(context, &error), 0);
    assert_int_equal(tls_cert_store(pki->client, cert, &error), 0); /* does not fit the key */
    assert_true(tls_context_reload(context, &error) < 0);
    KP_AUTO(tls_cert_unref) struct tls_cert *still = tls_context_cert(context);
    assert_string_equal(tls_cert_info(still)->common_name, "server");
    assert_int_equal(tls_key_store(pki->client_key, key, &error), 0);
    assert_int_equal(tls_context_reload(context, &error), 1);
    KP_AUTO(tls_cert_unref) struct tls_cert *now = tls_context_cert(context);
    assert_string_equal(tls_cert_info(now)->common_name, "admin");
    assert_int_equal(kp_remove_tree(folder, &error), 0);
}

static int64_t clock_ms = 1000;
static int64_t test_clock(void)
{
    return clock_ms;
}

static const char *handshake_name(struct tls_context *context, char out[64])
{
    struct kp_error error = {0};
    KP_AUTO(tls_session_free) struct tls_session *session = NULL;
    assert_int_equal(tls_session_new(context, NULL, &session, &error), 0);
    KP_AUTO(tls_cert_unref) struct tls_cert *cert = tls_context_cert(context);
    snprintf(out, 64, "%s", tls_cert_info(cert)->common_name);
    return out;
}

static void rotated_files_serve_the_next_handshake(void **state)
{
    struct pki *pki = *state;
    struct kp_error error = {0};
    char folder[] = "/tmp/test_tls.XXXXXX", name[64];
    assert_non_null(mkdtemp(folder));
    KP_AUTO_FREE char *cert = kp_asprintf("%s/a.crt", folder);
    KP_AUTO_FREE char *key = kp_asprintf("%s/a.key", folder);
    assert_int_equal(tls_cert_store(pki->server, cert, &error), 0);
    assert_int_equal(tls_key_store(pki->server_key, key, &error), 0);
    KP_AUTO(tls_context_unref) struct tls_context *context = NULL;
    const struct tls_context_config config = {.server = true, .cert_file = cert, .key_file = key, .now_ms = test_clock};
    assert_int_equal(tls_context_new(&config, &context, &error), 0);
    assert_string_equal(handshake_name(context, name), "server");
    /* Half of the pair: the old one serves on, also after it was tried again. */
    assert_int_equal(tls_cert_store(pki->client, cert, &error), 0);
    assert_string_equal(handshake_name(context, name), "server");
    clock_ms += 60000;
    assert_string_equal(handshake_name(context, name), "server");
    /* The other half. */
    assert_int_equal(tls_key_store(pki->client_key, key, &error), 0);
    assert_string_equal(handshake_name(context, name), "admin");
    /* Both gone, then back. */
    assert_int_equal(unlink(cert), 0);
    assert_string_equal(handshake_name(context, name), "admin");
    assert_int_equal(tls_cert_store(pki->server, cert, &error), 0);
    assert_int_equal(tls_key_store(pki->server_key, key, &error), 0);
    assert_string_equal(handshake_name(context, name), "server");
    assert_int_equal(kp_remove_tree(folder, &error), 0);
}

static void files_that_did_not_load_are_tried_again_after_a_while(void **state)
{
    struct pki *pki = *state;
    struct kp_error error = {0};
    char folder[] = "/tmp/test_tls.XXXXXX", name[64];
    struct stat before;
    assert_non_null(mkdtemp(folder));
    KP_AUTO_FREE char *cert = kp_asprintf("%s/a.crt", folder);
    KP_AUTO_FREE char *key = kp_asprintf("%s/a.key", folder);
    assert_int_equal(tls_cert_store(pki->server, cert, &error), 0);
    assert_int_equal(tls_key_store(pki->server_key, key, &error), 0);
    KP_AUTO(tls_context_unref) struct tls_context *context = NULL;
    const struct tls_context_config config = {.server = true, .cert_file = cert, .key_file = key, .now_ms = test_clock};
    assert_int_equal(tls_context_new(&config, &context, &error), 0);
    assert_int_equal(tls_cert_store(pki->client, cert, &error), 0);
    /* A key of the same length in place of the other, whose stamp does not show it. */
    KP_AUTO_FREE char *spaces = kp_malloc(pki->client_key_pem.len);
    memset(spaces, ' ', pki->client_key_pem.len);
    FILE *file = fopen(key, "w");
    assert_int_equal(fwrite(spaces, 1, pki->client_key_pem.len, file), pki->client_key_pem.len);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(stat(key, &before), 0);
    assert_string_equal(handshake_name(context, name), "server");
    file = fopen(key, "r+");
    assert_int_equal(fwrite(pki->client_key_pem.data, 1, pki->client_key_pem.len, file), pki->client_key_pem.len);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(utimensat(AT_FDCWD, key, (struct timespec[]){before.st_atim, before.st_mtim}, 0), 0);
    assert_string_equal(handshake_name(context, name), "server"); /* nothing to see */
    clock_ms += 10000;
    assert_string_equal(handshake_name(context, name), "admin");
    assert_int_equal(kp_remove_tree(folder, &error), 0);
}

static void versions_and_cipher_suites_are_as_asked(void **state)
{
    struct pki *pki = *state;
    struct kp_error error = {0};
    enum tls_version version = TLS_VERSION_1_2;
    KP_AUTO(tls_context_unref) struct tls_context *context = NULL;
    struct tls_context_config config = {.server = true, .cert_pem = pki->server_pem.data, .key_pem = pki->server_key_pem.data};
    assert_int_equal(tls_version_parse("", &version, &error), 0);
    assert_int_equal(version, TLS_VERSION_DEFAULT);
    assert_int_equal(tls_version_parse("TLS1.3", &version, &error), 0);
    assert_int_equal(version, TLS_VERSION_1_3);
    assert_int_equal(tls_version_parse("TLS1.1", &version, &error), KP_EINVALID);
    config.cipher_suites = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,TLS_NONE";
    assert_int_equal(tls_context_new(&config, &context, &error), KP_EINVALID);
    assert_string_equal(error.message, "unexpected TLS cipher suite \"TLS_NONE\"");
    config.cipher_suites = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305,TLS_AES_128_GCM_SHA256";
    config.version_min = TLS_VERSION_1_3;
    assert_int_equal(tls_context_new(&config, &context, &error), KP_EINVALID);
    config.version_max = TLS_VERSION_1_2;
    assert_int_equal(tls_context_new(&config, &context, &error), KP_EINVALID);
    config.version_min = TLS_VERSION_DEFAULT;
    assert_int_equal(tls_context_new(&config, &context, &error), 0);
    const struct tls_context_config client_config = {.ca_pem = pki->ca_pem.data};
    KP_AUTO(tls_context_unref) struct tls_context *client = NULL;
    assert_int_equal(tls_context_new(&client_config, &client, &error), 0);
    struct pair pair = {0};
    pair_connect(&pair, context, client, "localhost");
    assert_string_equal(tls_session_version(pair.client), "TLSv1.2 ECDHE-ECDSA-CHACHA20-POLY1305");
    pair_done(&pair);
}

static void self_signed_certificate_is_kept(void **state)
{
    struct kp_error error = {0};
    char folder[] = "/tmp/test_tls.XXXXXX";
    assert_non_null(mkdtemp(folder));
    KP_AUTO_FREE char *deep = kp_asprintf("%s/fixtures/client", folder);
    const struct tls_cert_options options = {.subject = {.common_name = "etcd", .dns_names = server_dns}};
    for (int round = 0; round < 3; round++) {
        KP_AUTO_FREE char *cert = NULL, *key = NULL;
        KP_AUTO_BUF struct kp_buf before = {0}, after = {0};
        KP_AUTO_FREE char *file = kp_asprintf("%s/cert.pem", deep);
        bool again = round > 0 && kp_read_file(file, 0, &before, &error) == 0;
        assert_int_equal(tls_self_signed(deep, &options, &cert, &key, &error), 0);
        assert_int_equal(kp_read_file(cert, 0, &after, &error), 0);
        if (again)
            assert_int_equal(strcmp(before.data, after.data) == 0, round == 1);
        KP_AUTO(tls_context_unref) struct tls_context *context = NULL;
        const struct tls_context_config config = {.server = true, .cert_file = cert, .key_file = key};
        assert_int_equal(tls_context_new(&config, &context, &error), 0);
        if (round == 1) /* a key that does not fit: both are made anew */
            assert_int_equal(tls_key_store(((struct pki *)*state)->client_key, key, &error), 0);
    }
    assert_int_equal(kp_remove_tree(folder, &error), 0);
}

/* ---- hashes and tokens ---- */
static void hashes_match_published_values(void **state)
{
    char hex[TLS_SHA256_HEX_BYTES];
    tls_sha256_hex("abc", 3, hex); /* FIPS 180-4 */
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    uint8_t whole[TLS_SHA256_BYTES], parts[TLS_SHA256_BYTES];
    tls_sha256("abc", 3, whole);
    struct tls_sha256 *hash = tls_sha256_new();
    tls_sha256_update(hash, "a", 1);
    tls_sha256_update(hash, "bc", 2);
    tls_sha256_final(hash, parts);
    assert_memory_equal(whole, parts, sizeof(whole));
    KP_AUTO_BUF struct kp_buf text = {0};
    uint8_t mac[TLS_SHA256_BYTES];
    tls_hmac_sha256("Jefe", 4, "what do ya want for nothing?", 28, mac); /* RFC 4231 4.3 */
    kp_hex_encode(&text, mac, sizeof(mac));
    assert_string_equal(text.data, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

static void sealed_bytes_open_only_untouched(void **state)
{
    uint8_t key[TLS_AEAD_KEY_BYTES] = {1}, nonce[TLS_AEAD_NONCE_BYTES] = {2};
    KP_AUTO_BUF struct kp_buf sealed = {0};
    KP_AUTO_BUF struct kp_buf plain = {0};
    tls_aead_seal(key, nonce, "ad", 2, "secret", 6, &sealed);
    assert_int_equal(sealed.len, 6 + TLS_AEAD_TAG_BYTES);
    assert_int_equal(tls_aead_open(key, nonce, "ad", 2, sealed.data, sealed.len, &plain), 0);
    assert_string_equal(plain.data, "secret");
    assert_int_equal(tls_aead_open(key, nonce, "xx", 2, sealed.data, sealed.len, &plain), KP_ECORRUPT);
    sealed.data[0] ^= 1;
    assert_int_equal(tls_aead_open(key, nonce, "ad", 2, sealed.data, sealed.len, &plain), KP_ECORRUPT);
    assert_int_equal(plain.len, 6);
}

static void token_round_trip(enum tls_key_type type, const char *algorithm)
{
    struct kp_error error = {0};
    KP_AUTO(tls_key_unref) struct tls_key *key = NULL;
    KP_AUTO(tls_key_unref) struct tls_key *other = NULL;
    assert_int_equal(tls_key_generate(type, &key, &error), 0);
    assert_int_equal(tls_key_generate(type, &other, &error), 0);
    KP_AUTO_BUF struct kp_buf token = {0};
    KP_AUTO_BUF struct kp_buf header = {0};
    KP_AUTO_BUF struct kp_buf payload = {0};
    assert_int_equal(tls_jwt_sign(key, NULL, "{\"iss\":\"me\"}", &token, &error), 0);
    struct tls_key *keys[] = {other, key};
    assert_int_equal(tls_jwt_verify(token.data, keys, 2, &payload, &error), 0);
    assert_string_equal(payload.data, "{\"iss\":\"me\"}");
    assert_int_equal(tls_jwt_verify(token.data, keys, 1, &payload, &error), KP_EUNAUTHORIZED);
    assert_int_equal(tls_jwt_decode(token.data, &header, &payload, &error), 0);
    assert_non_null(strstr(header.data, algorithm));
    KP_AUTO_BUF struct kp_buf id = {0};
    KP_AUTO_BUF struct kp_buf jwk = {0};
    tls_key_id(key, &id);
    assert_int_equal(id.len, 43);
    assert_non_null(strstr(header.data, id.data));
    assert_int_equal(tls_key_to_jwk(key, &jwk, &error), 0);
    assert_non_null(strstr(jwk.data, id.data));
    assert_non_null(strstr(jwk.data, algorithm));
    /* any change of payload or signature is noticed */
    char *dot = strchr(token.data, '.');
    dot[3] = dot[3] == 'A' ? 'B' : 'A';
    assert_int_equal(tls_jwt_verify(token.data, keys, 2, &payload, &error), KP_EUNAUTHORIZED);
}

static void tokens_verify_with_their_key_only(void **state)
{
    token_round_trip(TLS_KEY_ECDSA_P256, "ES256");
    token_round_trip(TLS_KEY_RSA_2048, "RS256");
}

static void malformed_tokens_are_unauthorized(void **state)
{
    struct pki *pki = *state;
    struct kp_error error = {0};
    static const char *const bad[] = {
        "", ".", "..", "a.b", "a.b.c.d", "!.!.!", "e30.e30.", "eyJhbGciOiJub25lIn0.e30.",
        "eyJhbGciOiJFUzI1NiIsImNyaXQiOlsieCJdfQ.e30.AAAA", "eyJhbGciOiJFUzI1NiJ9.e30.AAAA"};
    for (size_t i = 0; i < KP_ARRAY_LEN(bad); i++) {
        KP_AUTO_BUF struct kp_buf payload = {0};
        assert_int_equal(tls_jwt_verify(bad[i], &pki->server_key, 1, &payload, &error), KP_EUNAUTHORIZED);
        assert_int_equal(payload.len, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(certificate_says_what_it_was_made_with),
        cmocka_unit_test(host_names_match_by_san_only),
        cmocka_unit_test(chain_verifies_for_its_usage_and_time),
        cmocka_unit_test(request_is_signed_with_its_names),
        cmocka_unit_test(bad_input_is_refused),
        cmocka_unit_test(sessions_carry_bytes_and_identity),
        cmocka_unit_test(byte_by_byte_feeding_works),
        cmocka_unit_test(strangers_are_refused),
        cmocka_unit_test(garbage_kills_the_session_only),
        cmocka_unit_test(changed_files_are_loaded_and_bad_ones_refused),
        cmocka_unit_test(rotated_files_serve_the_next_handshake),
        cmocka_unit_test(files_that_did_not_load_are_tried_again_after_a_while),
        cmocka_unit_test(versions_and_cipher_suites_are_as_asked),
        cmocka_unit_test(self_signed_certificate_is_kept),
        cmocka_unit_test(hashes_match_published_values),
        cmocka_unit_test(sealed_bytes_open_only_untouched),
        cmocka_unit_test(tokens_verify_with_their_key_only),
        cmocka_unit_test(malformed_tokens_are_unauthorized),
    };
    return cmocka_run_group_tests(tests, pki_setup, pki_teardown);
}
