/* Custom resources over HTTP: how they are discovered, and which forms of them and of patches there are. */
#include "controlplane/apiserver/http/http_internal.h"
#include "controlplane/apiserver/patch/patch.h"
#include "tests/unit/controlplane/apiserver/server_test.h"
#include "tests/unit/controlplane/apiserver/widgets_test.h"

#define PROTOBUF "application/vnd.kubernetes.protobuf"
#define VERSIONS 9

/* In the order they are to be told. */
static const char *const versions[VERSIONS] = {"v10", "v2", "v1", "v11beta2", "v10beta3", "v12alpha1", "v11alpha2", "foo1", "foo10"};
static struct widget widgets[VERSIONS];

static int set_up(void **state)
{
    static struct asked s;
    static const char *const names[2] = {"com.example.v1.Widget", "com.example.v1.WidgetList"};
    const struct kp_resource *more[VERSIONS];
    for (size_t i = 0; i < VERSIONS; i++) {
        size_t at = (i * 4) % VERSIONS; /* in another order */
        widget_init(&widgets[at], "example.com", versions[at], WIDGET_SCHEMA, names);
        more[i] = &widgets[at].resource;
    }
    kp_resources_extend(more, VERSIONS);
    *state = &s;
    return 0;
}

static int tear_down(void **state)
{
    asked_stop(*state);
    kp_resources_extend(NULL, 0);
    return 0;
}

/* ---- discovery ---------------------------------------------------------------------------------------------------------------- */
static struct api_server server; /* what it is configured with */

static void discover(struct http_request *req, void *arg)
{
    (void)arg;
    struct api_request ar = {.http = req, .arena = req->arena, .server = &server, .audit_id = "a", .status = API_STATUS(req->arena)};
    handle_discovery(&ar);
}

static const struct kp_value *get(struct asked *s, const char *path, const char *accept)
{
    struct http_response response = ask(s, "GET", path, accept ? "accept" : NULL, accept);
    struct kp_value *root = NULL;
    assert_int_equal(response.status, 200);
    assert_int_equal(kp_value_parse(text_of(&response), response.body.len, s->arena, NULL, &root, NULL), 0);
    return root;
}

static const char *print(struct asked *s, const struct kp_value *value)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    assert_non_null(value);
    kp_value_print(value, &out);
    return kp_arena_strdup(s->arena, out.data);
}

static void versions_of_a_group_go_from_stable_to_unknown(void **state)
{
    struct asked *s = *state;
    asked_start(s, discover);
    const struct kp_value *group = get(s, "/apis/example.com", NULL);
    for (size_t i = 0; i < VERSIONS; i++)
        assert_string_equal(kp_value_str(kp_value_get(kp_value_at(kp_value_get(group, "versions"), i), "version")), versions[i]);
    assert_string_equal(kp_value_str(kp_value_path(group, "preferredVersion", "groupVersion", NULL)), "example.com/v10");
    for (size_t i = 0; i < VERSIONS; i++)
        for (size_t j = 0; j < VERSIONS; j++) {
            int order = version_compare(versions[i], versions[j]);
            assert_true(i == j ? order == 0 : (order > 0) == (i < j));
        }
    group = get(s, "/apis/autoscaling", NULL);
    assert_string_equal(kp_value_str(kp_value_get(kp_value_at(kp_value_get(group, "versions"), 0), "version")), "v2");
}

static void resources_of_a_version_come_with_their_subresources(void **state)
{
    struct asked *s = *state;
    asked_start(s, discover);
    const struct kp_value *resources = kp_value_get(get(s, "/apis/example.com/v2", NULL), "resources");
    assert_string_equal(print(s, kp_value_at(resources, 0)),
                        "{\"name\":\"widgets\",\"singularName\":\"widget\",\"namespaced\":true,\"kind\":\"Widget\",\"verbs\":[\"create\",\"delete\","
                        "\"deletecollection\",\"get\",\"list\",\"patch\",\"update\",\"watch\"],\"shortNames\":[\"wd\"],\"categories\":[\"all\"]}");
    assert_string_equal(print(s, kp_value_at(resources, 1)),
                        "{\"name\":\"widgets/status\",\"singularName\":\"\",\"namespaced\":true,\"kind\":\"Widget\",\"verbs\":[\"get\",\"patch\",\"update\"]}");
    assert_string_equal(print(s, kp_value_at(resources, 2)),
                        "{\"name\":\"widgets/scale\",\"singularName\":\"\",\"namespaced\":true,\"group\":\"autoscaling\",\"version\":\"v1\",\"kind\":\"Scale\","
                        "\"verbs\":[\"get\",\"patch\",\"update\"]}");
    assert_int_equal(ask(s, "GET", "/apis/example.com/v3", NULL, NULL).status, 404);
}

static void aggregated_discovery_has_them_too(void **state)
{
    struct asked *s = *state;
    asked_start(s, discover);
    const struct kp_value *groups = kp_value_get(get(s, "/apis", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"), "items");
    const struct kp_value *group = NULL;
    for (size_t i = 0; kp_value_at(groups, i) && !group; i++)
        if (kp_streq(kp_value_str(kp_value_path(kp_value_at(groups, i), "metadata", "name", NULL)), "example.com"))
            group = kp_value_at(groups, i);
    const struct kp_value *version = kp_value_at(kp_value_get(group, "versions"), 7), *resource = kp_value_at(kp_value_get(version, "resources"), 0);
    assert_string_equal(kp_value_str(kp_value_get(version, "version")), "foo1");
    assert_string_equal(print(s, kp_value_get(resource, "responseKind")), "{\"group\":\"example.com\",\"version\":\"foo1\",\"kind\":\"Widget\"}");
    assert_string_equal(kp_value_str(kp_value_get(resource, "singularResource")), "widget");
    assert_int_equal(kp_value_get(resource, "subresources")->array.len, 2);
}

#define MANY 400
static void hundreds_of_groups_are_told(void **state)
{
    struct asked *s = *state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const struct kp_resource *more[MANY];
    static const char *const names[2] = {"a.Widget", "a.WidgetList"};
    for (int i = 0; i < MANY; i++) {
        struct widget *w = KP_NEW(arena, struct widget);
        widget_init(w, kp_arena_printf(arena, "g%d.com", i), "v1", WIDGET_SCHEMA, names);
        more[i] = &w->resource;
    }
    kp_resources_extend(more, MANY);
    asked_start(s, discover);
    const struct kp_value *groups = kp_value_get(get(s, "/apis", NULL), "groups");
    assert_true(groups->array.len > MANY);
    assert_int_equal(ask(s, "GET", "/apis/g399.com/v1", NULL, NULL).status, 200);
    kp_resources_extend(NULL, 0);
}

static void metrics_are_discovered_while_they_are_built_in(void **state)
{
    struct asked *s = *state;
    asked_start(s, discover);
    struct http_response response = ask(s, "GET", "/apis/metrics.k8s.io/v1beta1", NULL, NULL);
    assert_int_equal(response.status, 404);
    server.config.resource_metrics = (struct resource_metrics *)(void *)&server; /* only whether it is there matters */
    response = ask(s, "GET", "/apis/metrics.k8s.io/v1beta1", NULL, NULL);
    server.config.resource_metrics = NULL;
    assert_int_equal(response.status, 200);
    assert_string_equal(text_of(&response),
                        "{\"kind\":\"APIResourceList\",\"apiVersion\":\"v1\",\"groupVersion\":\"metrics.k8s.io/v1beta1\",\"resources\":[{\"name\":\"nodes\","
                        "\"singularName\":\"\",\"namespaced\":false,\"kind\":\"NodeMetrics\",\"verbs\":[\"get\",\"list\"]},{\"name\":\"pods\",\"singularName\":\"\","
                        "\"namespaced\":true,\"kind\":\"PodMetrics\",\"verbs\":[\"get\",\"list\"]}]}");
}

/* ---- forms -------------------------------------------------------------------------------------------------------------------- */
/* /accept, /body, /options and /patch of a widget, or of a deployment below /own: what would be made of the request's headers. */
static void negotiate(struct http_request *req, void *arg)
{
    (void)arg;
    bool own = kp_starts_with(req->path, "/own");
    const char *what = own ? req->path + strlen("/own") : req->path;
    struct api_request ar = {.http = req, .arena = req->arena, .audit_id = "a", .status = API_STATUS(req->arena)};
    ar.resource = own ? &k8s_deployments_resource : &widgets[0].resource;
    ar.info.subresource = "";
    struct patch_request patch;
    struct k8s_delete_options *options;
    enum output_form form = OUT_JSON;
    int code;
    if (strcmp(what, "/accept") == 0) {
        code = negotiate_objects(&ar);
        form = ar.out.form;
    } else if (strcmp(what, "/body") == 0) {
        code = negotiate_body(&ar, !own, &form);
    } else if (strcmp(what, "/options") == 0) {
        code = decode_delete_options(&ar, &options);
    } else {
        code = patch_begin(&ar, &patch);
    }
    if (code < 0)
        respond_status(&ar);
    else
        respond_text(&ar, 200, form_content_type(form));
}

static void expect(struct asked *s, const char *path, const char *header, const char *value, int status, const char *text)
{
    struct http_response response = ask(s, "POST", path, header, value);
    if (response.status != status || !strstr(text_of(&response), text))
        fail_msg("%s with %s: %d %s", path, value, response.status, text_of(&response));
}

static void there_is_no_protobuf_of_custom_resources(void **state)
{
    struct asked *s = *state;
    asked_start(s, negotiate);
    expect(s, "/accept", "accept", PROTOBUF ",application/json", 200, "application/json");
    expect(s, "/accept", "accept", PROTOBUF, 406,
           "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf");
    expect(s, "/accept", "accept", "application/yaml", 200, "application/yaml");
    expect(s, "/own/accept", "accept", PROTOBUF ",application/json", 200, PROTOBUF);
    expect(s, "/body", "content-type", PROTOBUF, 415, "accepted media types include: application/json, application/yaml\"");
    expect(s, "/body", "content-type", "application/yaml", 200, "application/yaml");
    expect(s, "/own/body", "content-type", PROTOBUF, 200, PROTOBUF);
    expect(s, "/own/body", "content-type", "text/plain", 415, "application/yaml, application/vnd.kubernetes.protobuf");
    expect(s, "/options", "content-type", PROTOBUF, 200, ""); /* an object of the API's own, sent by upstream's metadata client */
}

static void custom_resources_are_not_patched_by_merge_keys(void **state)
{
    struct asked *s = *state;
    asked_start(s, negotiate);
    expect(s, "/patch", "content-type", "application/strategic-merge-patch+json", 415,
           "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, "
           "application/merge-patch+json, application/apply-patch+yaml");
    expect(s, "/patch", "content-type", "application/merge-patch+json", 200, "");
    expect(s, "/patch", "content-type", "application/json-patch+json", 200, "");
    expect(s, "/patch?fieldManager=me", "content-type", "application/apply-patch+yaml", 200, "");
    expect(s, "/own/patch", "content-type", "application/strategic-merge-patch+json", 200, "");
    expect(s, "/own/patch", "content-type", "text/plain", 415,
           "application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(metrics_are_discovered_while_they_are_built_in, set_up, tear_down),
        cmocka_unit_test_setup_teardown(versions_of_a_group_go_from_stable_to_unknown, set_up, tear_down),
        cmocka_unit_test_setup_teardown(resources_of_a_version_come_with_their_subresources, set_up, tear_down),
        cmocka_unit_test_setup_teardown(aggregated_discovery_has_them_too, set_up, tear_down),
        cmocka_unit_test_setup_teardown(hundreds_of_groups_are_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(there_is_no_protobuf_of_custom_resources, set_up, tear_down),
        cmocka_unit_test_setup_teardown(custom_resources_are_not_patched_by_merge_keys, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
