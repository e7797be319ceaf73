/* What a method and a path ask for. */
#include "controlplane/apiserver/http/http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

struct expected {
    const char *method, *path, *query;
    const char *verb, *group, *version, *ns, *resource, *subresource, *name, *rest;
};

static void check(const struct expected *e)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct request_info info;
    request_info_parse(e->method, e->path, e->query, arena, &info);
    assert_true(info.resource_request);
    assert_string_equal(info.verb, e->verb);
    assert_string_equal(info.group, e->group);
    assert_string_equal(info.version, e->version);
    assert_string_equal(info.ns, e->ns);
    assert_string_equal(info.resource, e->resource);
    assert_string_equal(info.subresource, e->subresource);
    assert_string_equal(info.name, e->name);
    assert_string_equal(info.rest, e->rest);
    assert_string_equal(info.path, e->path);
}

static void resource_paths_are_taken_apart(void **state)
{
    (void)state;
    static const struct expected table[] = {
        {"GET", "/api/v1/namespaces", "", "list", "", "v1", "", "namespaces", "", "", ""},
        {"GET", "/api/v1/namespaces/n", "", "get", "", "v1", "n", "namespaces", "", "n", ""},
        {"PUT", "/api/v1/namespaces/n/finalize", "", "update", "", "v1", "n", "namespaces", "finalize", "n", ""},
        {"PATCH", "/api/v1/namespaces/n/status", "", "patch", "", "v1", "n", "namespaces", "status", "n", ""},
        {"POST", "/api/v1/namespaces/n/pods", "", "create", "", "v1", "n", "pods", "", "", ""},
        {"HEAD", "/api/v1/namespaces/n/pods/p", "", "get", "", "v1", "n", "pods", "", "p", ""},
        {"DELETE", "/api/v1/namespaces/n/pods/p", "", "delete", "", "v1", "n", "pods", "", "p", ""},
        {"DELETE", "/api/v1/namespaces/n/pods", "", "deletecollection", "", "v1", "n", "pods", "", "", ""},
        {"GET", "/api/v1/pods", "watch=1", "watch", "", "v1", "", "pods", "", "", ""},
        {"GET", "/api/v1/pods", "watch=true&limit=5", "watch", "", "v1", "", "pods", "", "", ""},
        {"GET", "/api/v1/pods", "watch=false", "list", "", "v1", "", "pods", "", "", ""},
        {"GET", "/api/v1/watch/namespaces/n/pods/p", "", "watch", "", "v1", "n", "pods", "", "p", ""},
        {"GET", "/apis/apps/v1/namespaces/n/deployments/d/scale", "", "get", "apps", "v1", "n", "deployments", "scale", "d", ""},
        {"GET", "/apis/apps/v1/deployments", "", "list", "apps", "v1", "", "deployments", "", "", ""},
        {"GET", "/api/v1/nodes/x/proxy/logs//a/", "", "get", "", "v1", "", "nodes", "proxy", "x", "/logs//a/"},
        {"POST", "/api/v1/namespaces/n/pods/p/exec", "command=ls", "create", "", "v1", "n", "pods", "exec", "p", ""},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(table); i++)
        check(&table[i]);
}

static void a_field_selector_of_one_name_names_the_object(void **state)
{
    (void)state;
    static const struct expected table[] = {
        {"GET", "/api/v1/namespaces/n/secrets", "fieldSelector=metadata.name%3Da", "list", "", "v1", "n", "secrets", "", "a", ""},
        {"GET", "/api/v1/namespaces/n/secrets", "fieldSelector=metadata.name%3Da&watch=1", "watch", "", "v1", "n", "secrets", "", "a", ""},
        {"GET", "/api/v1/namespaces/n/secrets", "fieldSelector=metadata.name!%3Da", "list", "", "v1", "n", "secrets", "", "", ""},
        {"GET", "/api/v1/namespaces/n/secrets", "fieldSelector=metadata.name%3Da%2Fb", "list", "", "v1", "n", "secrets", "", "", ""},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(table); i++)
        check(&table[i]);
}

static void other_paths_are_no_resources(void **state)
{
    (void)state;
    static const char *const paths[] = {"/", "", "/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/healthz", "/openapi/v3/api/v1", "//"};
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    for (size_t i = 0; i < KP_ARRAY_LEN(paths); i++) {
        struct request_info info;
        request_info_parse("GET", paths[i], "", arena, &info);
        assert_false(info.resource_request);
        assert_string_equal(info.verb, "get");
        assert_string_equal(info.resource, "");
    }
}

static void very_deep_paths_are_cut(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf path = {0};
    kp_buf_puts(&path, "/api/v1/namespaces/n/pods/p/proxy");
    for (int i = 0; i < 500; i++)
        kp_buf_puts(&path, "/x");
    struct request_info info;
    request_info_parse("GET", path.data, "", arena, &info);
    assert_string_equal(info.subresource, "proxy");
    assert_int_equal(strlen(info.rest), 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resource_paths_are_taken_apart),
        cmocka_unit_test(a_field_selector_of_one_name_names_the_object),
        cmocka_unit_test(other_paths_are_no_resources),
        cmocka_unit_test(very_deep_paths_are_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
