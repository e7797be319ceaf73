/* What other servers say they serve, and what they are told to trust: pure. */
#include "controlplane/apiserver/aggregator/aggregator_internal.h"
#include "lib/tls/tls.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static int parse(const char *text, const char **ret, struct kp_arena *arena)
{
    struct kp_error error = {0};
    KP_AUTO_BUF struct kp_buf out = {0};
    int code = discover_parse(text, strlen(text), "g.test", "v1", arena, &out, &error);
    *ret = kp_arena_strdup(arena, code < 0 ? error.message : out.data);
    return code;
}

static void an_old_list_becomes_aggregated_discovery(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *out;
    assert_int_equal(parse("{\"kind\":\"APIResourceList\",\"resources\":["
                           "{\"name\":\"a/status\",\"kind\":\"A\",\"namespaced\":true,\"verbs\":[\"get\"]},"
                           "{\"name\":\"a\",\"singularName\":\"an\",\"kind\":\"A\",\"namespaced\":true,\"verbs\":[\"get\"],\"categories\":[\"all\"]},"
                           "{\"name\":\"a/scale\",\"kind\":\"Scale\",\"group\":\"autoscaling\",\"version\":\"v1\",\"namespaced\":true,\"verbs\":[\"update\"]},"
                           "{\"name\":\"ab/log\",\"kind\":\"Log\",\"namespaced\":false,\"verbs\":[]}]}",
                           &out, arena),
                     0);
    assert_string_equal(out, "[{\"resource\":\"a\",\"responseKind\":{\"group\":\"g.test\",\"version\":\"v1\",\"kind\":\"A\"},\"scope\":\"Namespaced\",\"singularResource\":\"an\","
                             "\"verbs\":[\"get\"],\"categories\":[\"all\"],\"subresources\":["
                             "{\"subresource\":\"status\",\"responseKind\":{\"group\":\"g.test\",\"version\":\"v1\",\"kind\":\"A\"},\"verbs\":[\"get\"]},"
                             "{\"subresource\":\"scale\",\"responseKind\":{\"group\":\"autoscaling\",\"version\":\"v1\",\"kind\":\"Scale\"},\"verbs\":[\"update\"]}]},"
                             "{\"resource\":\"ab\",\"scope\":\"Cluster\",\"subresources\":[{\"subresource\":\"log\",\"responseKind\":{\"group\":\"g.test\",\"version\":\"v1\","
                             "\"kind\":\"Log\"}}]}]");
    assert_int_equal(parse("{\"kind\":\"APIResourceList\"}", &out, arena), 0);
    assert_string_equal(out, "[]");
}

static void of_aggregated_discovery_the_group_version_is_taken(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *out;
#define LIST(group, versions) "{\"kind\":\"APIGroupDiscoveryList\",\"items\":[{\"metadata\":{\"name\":\"x\"}},{\"metadata\":{\"name\":\"" group "\"},\"versions\":[" versions "]}]}"
    assert_int_equal(parse(LIST("g.test", "{\"version\":\"v2\",\"resources\":[1]},{\"version\":\"v1\",\"resources\":[{\"resource\":\"a\"}]}"), &out, arena), 0);
    assert_string_equal(out, "[{\"resource\":\"a\"}]");
    assert_int_equal(parse(LIST("g.test", "{\"version\":\"v1\"}"), &out, arena), 0);
    assert_string_equal(out, "[]");
    assert_int_equal(parse(LIST("h.test", "{\"version\":\"v1\"}"), &out, arena), KP_ENOTFOUND);
}

static void anything_else_is_refused(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *out;
    assert_int_equal(parse("{\"kind\":\"Status\"}", &out, arena), KP_EBADREQUEST);
    assert_string_equal(out, "discovery: \"Status\" is neither an APIGroupDiscoveryList nor an APIResourceList");
    assert_int_equal(parse("<html>", &out, arena), KP_EBADREQUEST);
    assert_int_equal(parse("[]", &out, arena), KP_EBADREQUEST);
}

static const char *openapi(const char *url, struct kp_arena *arena)
{
    const char *text = kp_arena_printf(arena, "{\"paths\":{\"apis/g.test/v1\":{\"serverRelativeURL\":\"%s\"}}}", url);
    return discover_openapi(text, strlen(text), "g.test", "v1", arena);
}

static void documents_are_where_requests_come_through_us(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    assert_string_equal(openapi("/openapi/v3/apis/g.test/v1?hash=A", arena), "/openapi/v3/apis/g.test/v1?hash=A");
    assert_string_equal(openapi("https://elsewhere.test/", arena), "/openapi/v3/apis/g.test/v1");
    assert_string_equal(openapi("/openapi/v3/apis/g.test/v1beta1", arena), "/openapi/v3/apis/g.test/v1");
    assert_null(discover_openapi("{\"paths\":{}}", strlen("{\"paths\":{}}"), "g.test", "v1", arena));
    assert_null(discover_openapi("nonsense", strlen("nonsense"), "g.test", "v1", arena));
}

/* ---- the ConfigMap -------------------------------------------------------------------------------------------------------------- */
static const char *certificate(const char *name, int64_t lifetime_s, struct kp_arena *arena)
{
    KP_AUTO(tls_key_unref) struct tls_key *key = NULL;
    KP_AUTO(tls_cert_unref) struct tls_cert *cert = NULL;
    KP_AUTO_BUF struct kp_buf pem = {0};
    const struct tls_cert_options options = {.subject = {.common_name = name}, .lifetime_s = lifetime_s};
    assert_int_equal(tls_key_generate(TLS_KEY_ECDSA_P256, &key, NULL), 0);
    assert_int_equal(tls_cert_create_ca(key, &options, &cert, NULL), 0);
    tls_cert_to_pem(cert, &pem);
    return kp_arena_strdup(arena, pem.data);
}

static struct kp_string_map map_of(const char *ca, const char *names, struct kp_arena *arena)
{
    struct kp_string_map map = {0};
    kp_string_map_set(arena, &map, "client-ca-file", ca);
    kp_string_map_set(arena, &map, "requestheader-allowed-names", names);
    return map;
}

static void servers_add_their_certificates_and_names_to_those_of_others(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *first = certificate("first", 3600, arena), *second = certificate("second", 7200, arena);
    const struct kp_string_map nothing = {0}, own = map_of(first, "[\"front\"]", arena);
    struct kp_string_map other = map_of(second, "[\"other\"]", arena);
    kp_string_map_set(arena, &other, "more", "kept");
    const struct kp_string_map made = trust_merge(&nothing, &own, kp_now_s(), arena);
    assert_true(kp_string_map_equal(&made, &own));
    const struct kp_string_map merged = trust_merge(&other, &own, kp_now_s(), arena);
    assert_string_equal(kp_string_map_get(&merged, "client-ca-file"), kp_arena_printf(arena, "%s%s", second, first));
    assert_string_equal(kp_string_map_get(&merged, "requestheader-allowed-names"), "[\"other\",\"front\"]");
    assert_string_equal(kp_string_map_get(&merged, "more"), "kept");
    const struct kp_string_map again = trust_merge(&merged, &own, kp_now_s(), arena);
    assert_true(kp_string_map_equal(&again, &merged));
    const struct kp_string_map late = trust_merge(&merged, &own, kp_now_s() + 5400, arena); /* the first has expired by then */
    assert_string_equal(kp_string_map_get(&late, "client-ca-file"), second);
}

static void no_names_at_all_means_any(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const struct kp_string_map there = map_of("", "[\"other\"]", arena), own = map_of("", "[]", arena);
    const struct kp_string_map merged = trust_merge(&there, &own, kp_now_s(), arena);
    assert_string_equal(kp_string_map_get(&merged, "requestheader-allowed-names"), "[]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_old_list_becomes_aggregated_discovery),
        cmocka_unit_test(of_aggregated_discovery_the_group_version_is_taken),
        cmocka_unit_test(anything_else_is_refused),
        cmocka_unit_test(documents_are_where_requests_come_through_us),
        cmocka_unit_test(servers_add_their_certificates_and_names_to_those_of_others),
        cmocka_unit_test(no_names_at_all_means_any),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
