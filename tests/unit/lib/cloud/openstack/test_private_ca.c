/* A cloud whose endpoints have certificates of an authority of its own: what nodes are handed lets them verify it, and nothing else does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "cloud/cloud.h"
#include "lib/http/http.h"
#include "provisioner/bootstrap/bootstrap.h"

struct keystone {
    struct loop *loop;
    struct pool *pool;
    struct tls_context *tls;
    struct http_server *server;
    struct pki *pki;
    char dir[40];
    int asked;
};
static struct keystone keystone;
static struct kp_arena *arena;

/* Who gets this answer has verified the certificate. */
static void refuse(struct http_request *request, void *arg)
{
    static const char body[] = "{\"error\":{\"code\":401,\"message\":\"no such user\",\"title\":\"Unauthorized\"}}";
    struct keystone *k = arg;
    __atomic_add_fetch(&k->asked, 1, __ATOMIC_SEQ_CST);
    http_respond(request, 401, NULL, 0, body, sizeof(body) - 1);
}

static const char *put(const char *name, const char *text)
{
    const char *path = kp_arena_printf(arena, "%s/%s", keystone.dir, name);
    assert_int_equal(kp_write_file(path, text, strlen(text), 0600, NULL), 0);
    return path;
}

static int setup(void **state)
{
    static const char *const addresses[] = {"127.0.0.1", NULL};
    const struct pki_leaf leaf = {"keystone", NULL, TLS_USAGE_SERVER, NULL, addresses};
    const char *cert = NULL, *key = NULL;
    struct kp_error error = {0};
    KP_AUTO_BUF struct kp_buf ca = {0};
    arena = kp_arena_new(0);
    keystone = (struct keystone){.loop = loop_new(), .pool = pool_new("keystone", 1, 16), .dir = "/tmp/kprov-private-ca-XXXXXX"};
    assert_non_null(mkdtemp(keystone.dir));
    setenv("HOME", keystone.dir, 1);
    assert_int_equal(pki_create(&keystone.pki, &error), 0);
    assert_int_equal(pki_issue(&keystone.pki->ca, &leaf, arena, &cert, &key, &error), 0);
    const struct tls_context_config tls = {.server = true, .cert_pem = cert, .key_pem = key};
    assert_int_equal(tls_context_new(&tls, &keystone.tls, &error), 0);
    assert_int_equal(loop_start(keystone.loop, "keystone", &error), 0);
    const struct http_server_config config = {.host = "127.0.0.1", .tls = keystone.tls, .pool = keystone.pool, .handler = refuse, .arg = &keystone};
    assert_int_equal(http_server_new(keystone.loop, &config, &keystone.server, &error), 0);
    pki_trust(&keystone.pki->ca, &ca);
    put("own.pem", ca.data);
    return 0;
}

static int teardown(void **state)
{
    http_server_free(keystone.server);
    pool_free(keystone.pool);
    loop_free(keystone.loop);
    tls_context_unref(keystone.tls);
    pki_free(keystone.pki);
    assert_int_equal(kp_remove_tree(keystone.dir, NULL), 0);
    kp_arena_free(arena);
    return 0;
}

static const char *clouds_with(const char *cacert)
{
    return put("clouds.yaml", kp_arena_printf(arena,
                                              "clouds:\n  own:\n    region_name: R1\n%s%s    auth: {auth_url: 'https://127.0.0.1:%u/v3', username: u, password: p, "
                                              "project_name: p, user_domain_name: d, project_domain_name: d}\n",
                                              cacert, *cacert ? "\n" : "", http_server_port(keystone.server)));
}

/* What its first call comes to. */
static int ask(const struct cloud_account *account, struct kp_error *error)
{
    KP_AUTO(cloud_close) struct cloud *cloud = NULL;
    const struct cloud_options options = {.account = *account, .timeout_ms = 20000};
    struct cloud_machine_list list;
    int r = cloud_open("openstack", &options, &cloud, error);
    return r < 0 ? r : cloud_machine_list(cloud, "123e4567-e89b-12d3-a456-426614174000", arena, &list, error);
}

static void nodes_can_verify_what_they_are_handed(void **state)
{
    /* as the file has it: absolute, beside it, at home */
    const char *const ways[] = {kp_arena_printf(arena, "    cacert: %s/own.pem", keystone.dir), "    cacert: own.pem", "    cacert: ~/own.pem"};
    for (size_t i = 0; i < KP_ARRAY_LEN(ways); i++) {
        struct cloud_export export;
        struct kp_error error = {0};
        KP_AUTO(cloud_close) struct cloud *cloud = NULL;
        const struct cloud_options options = {.account = {.credentials = clouds_with(ways[i])}};
        if (cloud_open("openstack", &options, &cloud, &error) < 0 || cloud_account_export(cloud, arena, &export, &error) < 0)
            fail_msg("%s", error.message);
        assert_non_null(export.authorities);
        assert_null(strstr(export.credentials, keystone.dir));
        /* on a node: two files in a folder of their own */
        const char *folder = kp_arena_printf(arena, "%s/node-%zu", keystone.dir, i);
        assert_int_equal(kp_mkdir_p(folder, 0700, NULL), 0);
        put(kp_arena_printf(arena, "node-%zu/" CLOUD_EXPORT_AUTHORITIES, i), export.authorities);
        struct cloud_account account = export.account;
        account.credentials = put(kp_arena_printf(arena, "node-%zu/credentials", i), export.credentials);
        int before = keystone.asked;
        assert_int_equal(ask(&account, &error), KP_EUNAUTHORIZED); /* Keystone said so */
        assert_true(keystone.asked > before);
    }
}

static void without_its_authority_nothing_is_said_to_it(void **state)
{
    struct kp_error error = {0};
    const struct cloud_account account = {.credentials = clouds_with("")};
    int r = ask(&account, &error);
    assert_true(r < 0 && r != KP_EUNAUTHORIZED);
    assert_int_equal(keystone.asked, 0);
    struct cloud_export export;
    KP_AUTO(cloud_close) struct cloud *cloud = NULL;
    assert_int_equal(cloud_open("openstack", &(struct cloud_options){.account = account}, &cloud, &error), 0);
    assert_int_equal(cloud_account_export(cloud, arena, &export, &error), 0);
    assert_null(export.authorities);
}

static void a_file_that_is_none_is_refused(void **state)
{
    static const char *const bad[][2] = {{"    cacert: gone.pem", "gone.pem"}, {"    cacert: clouds.yaml", "no certificate in it: it must be a file in PEM"}};
    for (size_t i = 0; i < KP_ARRAY_LEN(bad); i++) {
        struct cloud_export export;
        struct kp_error error = {0};
        KP_AUTO(cloud_close) struct cloud *cloud = NULL;
        const struct cloud_options options = {.account = {.credentials = clouds_with(bad[i][0])}};
        int r = cloud_open("openstack", &options, &cloud, &error);
        assert_true(r < 0 || cloud_account_export(cloud, arena, &export, &error) < 0);
        if (!strstr(error.message, bad[i][1]))
            fail_msg("%s", error.message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nodes_can_verify_what_they_are_handed, setup, teardown),
        cmocka_unit_test_setup_teardown(without_its_authority_nothing_is_said_to_it, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_that_is_none_is_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
