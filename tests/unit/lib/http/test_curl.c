/* Our server as a foreign client sees it: curl over HTTP/1.1, HTTP/2 by ALPN, and HTTP/2 by prior knowledge. */
#include "http_test.h"
#include "lib/tls/tls.h"

struct rig {
    struct fixture *clear, *secure;
    struct tls_context *tls;
    char folder[32], ca_path[64], body_path[64];
};

static int setup(void **state)
{
    struct rig *rig = kp_calloc(1, sizeof(*rig));
    struct tls_key *key;
    struct tls_cert *ca, *cert;
    const char *const ips[] = { "127.0.0.1", NULL }, *const alpn[] = { "h2", "http/1.1", NULL };
    struct tls_cert_options ca_options = { .subject.common_name = "ca" };
    struct tls_cert_options options = { .subject = { .common_name = "server", .ip_addresses = ips }, .usages = TLS_USAGE_SERVER };
    struct kp_buf cert_pem = { 0 }, key_pem = { 0 };
    assert_int_equal(tls_key_generate(TLS_KEY_ECDSA_P256, &key, NULL), 0);
    assert_int_equal(tls_cert_create_ca(key, &ca_options, &ca, NULL), 0);
    assert_int_equal(tls_cert_create(key, &options, ca, key, &cert, NULL), 0);
    tls_cert_to_pem(cert, &cert_pem);
    assert_int_equal(tls_key_to_pem(key, &key_pem, NULL), 0);
    struct tls_context_config config = { .server = true, .cert_pem = cert_pem.data, .key_pem = key_pem.data, .alpn = alpn };
    assert_int_equal(tls_context_new(&config, &rig->tls, NULL), 0);
    snprintf(rig->folder, sizeof(rig->folder), "/tmp/curl-XXXXXX");
    assert_non_null(mkdtemp(rig->folder));
    snprintf(rig->ca_path, sizeof(rig->ca_path), "%s/ca.crt", rig->folder);
    snprintf(rig->body_path, sizeof(rig->body_path), "%s/body", rig->folder);
    assert_int_equal(tls_cert_store(ca, rig->ca_path, NULL), 0);
    char *body = kp_malloc(2 << 20);
    memset(body, 'b', 2 << 20);
    assert_int_equal(kp_write_file(rig->body_path, body, 2 << 20, 0600, NULL), 0);
    free(body);
    kp_buf_done(&cert_pem);
    kp_buf_done(&key_pem);
    tls_cert_unref(ca);
    tls_cert_unref(cert);
    tls_key_unref(key);
    struct http_server_config secure = { .tls = rig->tls };
    rig->clear = fixture_new(NULL);
    rig->secure = fixture_new(&secure);
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;
    fixture_free(rig->clear);
    fixture_free(rig->secure);
    tls_context_unref(rig->tls);
    assert_int_equal(kp_remove_tree(rig->folder, NULL), 0);
    free(rig);
    return 0;
}

static char *curl(struct rig *rig, bool secure, const char *path, const char *a, const char *b, const char *c)
{
    char url[128];
    struct kp_buf out = { 0 };
    struct kp_error error = { 0 };
    int status;
    struct fixture *f = secure ? rig->secure : rig->clear;
    snprintf(url, sizeof(url), "%s://127.0.0.1:%u%s", secure ? "https" : "http", http_server_port(f->server), path);
    const char *argv[] = { "curl", "-sS", "--max-time", "20", "--noproxy", "*", "--cacert", rig->ca_path, "-w", "|%{http_version} %{http_code}", url, a, b, c, NULL };
    if (kp_run(argv, 30000, &out, NULL, &status, &error) < 0)
        fail_msg("%s", error.message);
    assert_int_equal(status, 0);
    return kp_buf_take(&out);
}

#define CURL(expected, secure, path, ...)                                                                                \
    do {                                                                                                                 \
        char *answer_ = curl(*state, secure, path, __VA_ARGS__);                                                         \
        assert_string_equal(answer_, expected);                                                                          \
        free(answer_);                                                                                                   \
    } while (0)

static void curl_gets_over_every_protocol(void **state)
{
    CURL("{\"hello\":1}|1.1 200", false, "/hello", "--http1.1", NULL, NULL);
    CURL("{\"hello\":1}|2 200", false, "/hello", "--http2-prior-knowledge", NULL, NULL);
    CURL("{\"hello\":1}|1.1 200", true, "/hello", "--http1.1", NULL, NULL);
    CURL("{\"hello\":1}|2 200", true, "/hello", "--http2", NULL, NULL);
    CURL("no\n|2 404", true, "/nowhere", "--http2", NULL, NULL);
    CURL("|2 200", true, "/hello", "--http2", "-o/dev/null", "-I");
}

static void curl_sends_bodies(void **state)
{
    struct rig *rig = *state;
    char data[80];
    snprintf(data, sizeof(data), "@%s", rig->body_path);
    static const char *const protocols[] = { "--http1.1", "--http2" };
    for (size_t i = 0; i < KP_ARRAY_LEN(protocols); i++) {
        char *answer = curl(rig, true, "/echo", protocols[i], "--data-binary", data); /* curl sends Expect: 100-continue */
        assert_int_equal(strspn(answer, "b"), 2 << 20);
        assert_string_equal(answer + (2 << 20), i ? "|2 200" : "|1.1 200");
        free(answer);
        answer = curl(rig, true, "/stream", protocols[i], "--data-binary", data);
        assert_int_equal(strspn(answer, "b"), 2 << 20);
        free(answer);
    }
}

static void curl_is_told_that_its_body_is_too_large(void **state)
{
    struct rig *rig = *state;
    struct kp_buf big = { 0 };
    kp_buf_reserve(&big, 4 << 20);
    for (int i = 0; i < 4 << 10; i++) {
        char line[1024];
        memset(line, 'b', sizeof(line));
        kp_buf_append(&big, line, sizeof(line));
    }
    assert_int_equal(kp_write_file(rig->body_path, big.data, big.len, 0600, NULL), 0);
    kp_buf_done(&big);
    char data[80];
    snprintf(data, sizeof(data), "@%s", rig->body_path);
    CURL("the request body is too large\n|1.1 413", true, "/echo", "--http1.1", "--data-binary", data);
    /* Over HTTP/2 curl 7.88 takes the RST_STREAM(NO_ERROR) after the answer for a failure; test_client.c covers that. */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(curl_gets_over_every_protocol, setup, teardown),
        cmocka_unit_test_setup_teardown(curl_sends_bodies, setup, teardown),
        cmocka_unit_test_setup_teardown(curl_is_told_that_its_body_is_too_large, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
