/* Custom resources in the OpenAPI documents: their schemas and paths, and documents that follow what there is. */
#include "controlplane/apiserver/openapi/openapi.h"
#include "controlplane/apiserver/openapi/openapi_internal.h"
#include "tests/unit/controlplane/apiserver/server_test.h"
#include "tests/unit/controlplane/apiserver/widgets_test.h"

#define WIDGETS "/apis/example.com/v1/namespaces/{namespace}/widgets"

static struct widget widget;

static void serve_one(struct widget *w)
{
    const struct kp_resource *more[] = {&w->resource};
    kp_resources_extend(more, 1);
}

static int extend(void **state)
{
    (void)state;
    widget_v1(&widget);
    serve_one(&widget);
    return 0;
}

static int restore(void **state)
{
    (void)state;
    kp_resources_extend(NULL, 0);
    return 0;
}

static struct kp_value *parse(const struct kp_buf *text, struct kp_arena *arena)
{
    struct kp_value *root = NULL;
    struct kp_error error = {0};
    if (kp_value_parse(text->data, text->len, arena, NULL, &root, &error) < 0)
        fail_msg("%s", error.message);
    return root;
}

static struct kp_value *document(enum oa_version version, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    if (version == OA_V3)
        oa_document_v3("apis/example.com/v1", &out);
    else
        oa_document_v2(&out);
    return parse(&out, arena);
}

/* Printed with sorted keys. */
static char *print(const struct kp_value *v, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    assert_non_null(v);
    kp_value_print_sorted(v, &out);
    return kp_arena_strdup(arena, out.data);
}

static const struct kp_value *property(const struct kp_value *schema, const char *name) { return kp_value_path(schema, "properties", name, NULL); }

static void v3_schema_is_the_definitions_own_with_what_objects_have(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const struct kp_value *schemas = kp_value_path(document(OA_V3, arena), "components", "schemas", NULL);
    const struct kp_value *root = kp_value_get(schemas, "com.example.v1.Widget"), *spec = property(root, "spec");
    assert_string_equal(print(kp_value_get(root, "x-kubernetes-group-version-kind"), arena),
                        "[{\"group\":\"example.com\",\"kind\":\"Widget\",\"version\":\"v1\"}]");
    assert_string_equal(kp_value_str(kp_value_get(root, "description")), "A thing of a size.");
    assert_string_equal(kp_value_str(kp_value_get(root, "type")), "object");
    assert_string_equal(kp_value_str(kp_value_get(property(root, "apiVersion"), "type")), "string");
    assert_string_equal(kp_value_str(kp_value_get(property(root, "kind"), "type")), "string");
    assert_string_equal(print(kp_value_get(property(root, "metadata"), "allOf"), arena),
                        "[{\"$ref\":\"#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta\"}]");
    assert_string_equal(print(property(spec, "size"), arena),
                        "{\"description\":\"How large.\",\"format\":\"int32\",\"maximum\":10.5,\"minimum\":1,\"type\":\"integer\"}");
    assert_string_equal(print(property(spec, "port"), arena),
                        "{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"string\"}],\"x-kubernetes-int-or-string\":true}");
    assert_non_null(kp_value_get(property(spec, "color"), "nullable"));
    assert_string_equal(print(kp_value_get(property(spec, "template"), "required"), arena), "[\"kind\",\"apiVersion\"]");
    assert_non_null(property(property(spec, "template"), "metadata"));
    assert_non_null(property(property(spec, "template"), "spec"));
    const struct kp_value *list = kp_value_get(schemas, "com.example.v1.WidgetList");
    assert_string_equal(print(kp_value_get(property(list, "items"), "items"), arena), "{\"$ref\":\"#/components/schemas/com.example.v1.Widget\"}");
    assert_string_equal(print(kp_value_get(list, "required"), arena), "[\"items\"]");
    assert_non_null(kp_value_get(schemas, "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"));
    assert_non_null(kp_value_get(schemas, "io.k8s.apimachinery.pkg.apis.meta.v1.ManagedFieldsEntry"));
    assert_non_null(kp_value_get(schemas, k8s_scale_type.openapi_name));
}

static void v2_schema_leaves_out_what_swagger_does_not_know(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const struct kp_value *definitions = kp_value_get(document(OA_V2, arena), "definitions");
    const struct kp_value *root = kp_value_get(definitions, "com.example.v1.Widget"), *spec = property(root, "spec");
    assert_string_equal(kp_value_str(kp_value_get(property(root, "metadata"), "$ref")),
                        "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
    assert_string_equal(print(property(spec, "color"), arena), "{\"maxLength\":20,\"pattern\":\"^[a-z]+$\"}");
    assert_string_equal(print(kp_value_get(spec, "required"), arena), "[\"size\"]");
    assert_string_equal(print(property(spec, "port"), arena), "{\"x-kubernetes-int-or-string\":true}");
    assert_string_equal(print(property(spec, "anything"), arena), "{\"x-kubernetes-preserve-unknown-fields\":true}");
    assert_string_equal(print(property(spec, "one"), arena), "{\"type\":\"string\"}");
    assert_string_equal(print(kp_value_get(property(spec, "labels"), "additionalProperties"), arena), "{\"type\":\"string\"}");
    assert_non_null(kp_value_get(definitions, "com.example.v1.WidgetList"));
}

static void a_root_that_keeps_everything_has_no_properties_in_v2(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_type type = widget.type;
    type.schema_json = "{\"type\":\"object\",\"x-kubernetes-preserve-unknown-fields\":true}";
    assert_string_equal(print(oa_custom_schema(OA_V2, &type, arena), arena),
                        "{\"type\":\"object\",\"x-kubernetes-group-version-kind\":[{\"group\":\"example.com\",\"kind\":\"Widget\",\"version\":\"v1\"}]}");
    assert_non_null(property(oa_custom_schema(OA_V3, &type, arena), "metadata"));
    type.schema_json = "{\"type\":"; /* cannot be, and yet the document must */
    assert_string_equal(kp_value_str(kp_value_get(oa_custom_schema(OA_V3, &type, arena), "type")), "object");
}

static void numbers_or_strings_keep_their_own_choices(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_type type = widget.type;
    type.schema_json = "{\"type\":\"object\",\"properties\":{"
                       "\"a\":{\"x-kubernetes-int-or-string\":true,\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"string\"}]},"
                       "\"b\":{\"x-kubernetes-int-or-string\":true,\"anyOf\":[{\"pattern\":\"x\"}]}}}";
    const struct kp_value *schema = oa_custom_schema(OA_V3, &type, arena);
    assert_string_equal(print(property(schema, "a"), arena),
                        "{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"string\"}],\"x-kubernetes-int-or-string\":true}");
    assert_string_equal(print(property(schema, "b"), arena),
                        "{\"allOf\":[{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"string\"}]}],\"anyOf\":[{\"pattern\":\"x\"}],"
                        "\"x-kubernetes-int-or-string\":true}");
}

static char *keys(const struct kp_value *object, struct kp_arena *arena)
{
    char *all = kp_arena_strdup(arena, "");
    assert_non_null(object);
    for (size_t i = 0; i < object->object.len; i++)
        all = kp_arena_printf(arena, "%s%s%s", all, i ? " " : "", object->object.members[i].key);
    return all;
}

static void paths_take_no_strategic_merge_patch_and_no_protobuf(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const struct kp_value *v3 = kp_value_get(document(OA_V3, arena), "paths"), *v2 = kp_value_get(document(OA_V2, arena), "paths");
    assert_string_equal(keys(v3, arena), "/apis/example.com/v1/widgets " WIDGETS " " WIDGETS "/{name} " WIDGETS "/{name}/status " WIDGETS "/{name}/scale");
    const struct kp_value *object = kp_value_get(v3, WIDGETS "/{name}");
    assert_string_equal(keys(object, arena), "get put delete patch parameters");
    assert_string_equal(keys(kp_value_get(v3, WIDGETS), arena), "get post delete parameters");
    assert_string_equal(keys(kp_value_path(object, "patch", "requestBody", "content", NULL), arena),
                        "application/apply-patch+yaml application/json-patch+json application/merge-patch+json");
    assert_string_equal(keys(kp_value_path(object, "put", "requestBody", "content", NULL), arena), "application/json application/yaml");
    assert_string_equal(keys(kp_value_path(object, "get", "responses", "200", "content", NULL), arena), "application/json application/yaml");
    const struct kp_value *scale = kp_value_path(v3, WIDGETS "/{name}/scale", "get", NULL);
    assert_string_equal(kp_value_str(kp_value_path(scale, "responses", "200", "content", "application/json", "schema", "$ref", NULL)),
                        "#/components/schemas/io.k8s.api.autoscaling.v1.Scale");
    assert_string_equal(kp_value_str(kp_value_path(scale, "x-kubernetes-group-version-kind", "kind", NULL)), "Widget");
    object = kp_value_get(v2, WIDGETS "/{name}");
    assert_string_equal(print(kp_value_path(object, "patch", "consumes", NULL), arena),
                        "[\"application/apply-patch+yaml\",\"application/json-patch+json\",\"application/merge-patch+json\"]");
    assert_string_equal(print(kp_value_path(object, "get", "produces", NULL), arena), "[\"application/json\",\"application/yaml\"]");
}

static void protobuf_has_the_limits_of_a_schema(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf out = {0}, text = {0};
    kp_buf_puts(&text, "{\"maximum\":2.0,\"exclusiveMinimum\":true,\"maxItems\":300,\"title\":\"t\",\"additionalProperties\":true}");
    oa_gnostic_definition(&out, 1, "n", parse(&text, arena));
    static const uint8_t expected[] = {0x0a, 27,   0x0a, 1,    'n', 0x12, 22,   0x1a, 1, 't', 0x39, 0, 0, 0, 0,
                                       0,    0,    0,    0x40, 0x50, 1,    0x70, 0xac, 2, 0xaa, 1,    2, 0x10, 1};
    assert_int_equal(out.len, sizeof(expected));
    assert_memory_equal(out.data, expected, sizeof(expected));
}

/* ---- documents over time -------------------------------------------------------------------------------------------------------- */
static void handle(struct http_request *req, void *arg)
{
    (void)arg;
    openapi_serve(req, NULL);
}

static const char *link_to(struct asked *s, const char *gv)
{
    struct http_response response = ask(s, "GET", "/openapi/v3", NULL, NULL);
    struct kp_value *root = NULL;
    assert_int_equal(kp_value_parse(text_of(&response), response.body.len, s->arena, NULL, &root, NULL), 0);
    return kp_value_str(kp_value_path(root, "paths", gv, "serverRelativeURL", NULL));
}

static const char *etag(struct asked *s, const char *path, const char *accept)
{
    struct http_response response = ask(s, "GET", path, accept ? "accept" : NULL, accept);
    assert_int_equal(response.status, 200);
    return http_response_header(&response, "etag");
}

static void documents_follow_the_resources(void **state)
{
    (void)state;
    struct asked s;
    struct widget other;
    asked_start(&s, handle);
    kp_resources_extend(NULL, 0);
    static const char proto[] = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
    const char *none = etag(&s, "/openapi/v2", NULL), *none_proto = etag(&s, "/openapi/v2", proto), *apps = link_to(&s, "apis/apps/v1");
    assert_null(link_to(&s, "apis/example.com/v1"));
    assert_int_equal(ask(&s, "GET", "/openapi/v3/apis/example.com/v1", NULL, NULL).status, 404);

    serve_one(&widget);
    const char *first = link_to(&s, "apis/example.com/v1"), *one = etag(&s, "/openapi/v2", NULL), *one_proto = etag(&s, "/openapi/v2", proto);
    assert_non_null(first);
    assert_string_equal(link_to(&s, "apis/apps/v1"), apps);
    assert_string_not_equal(one, none);
    assert_string_not_equal(one_proto, none_proto);
    struct http_response response = ask(&s, "GET", first, NULL, NULL);
    assert_int_equal(response.status, 200);
    assert_non_null(strstr(text_of(&response), "A thing of a size."));

    widget_v1(&other); /* the same, made anew: its text comes out as it was */
    serve_one(&other);
    assert_string_equal(link_to(&s, "apis/example.com/v1"), first);
    assert_string_equal(etag(&s, "/openapi/v2", NULL), one);
    assert_int_equal(ask(&s, "GET", "/openapi/v2", "if-none-match", one).status, 304);

    struct widget changed = other;
    changed.type.schema_json = "{\"type\":\"object\",\"description\":\"Another thing.\"}";
    changed.resource.type = &changed.type;
    serve_one(&changed);
    const char *second = link_to(&s, "apis/example.com/v1");
    assert_string_not_equal(second, first);
    response = ask(&s, "GET", first, NULL, NULL);
    assert_int_equal(response.status, 301);
    assert_string_equal(http_response_header(&response, "location"), second);
    assert_string_not_equal(etag(&s, "/openapi/v2", NULL), one);

    kp_resources_extend(NULL, 0);
    assert_null(link_to(&s, "apis/example.com/v1"));
    assert_int_equal(ask(&s, "GET", "/openapi/v3/apis/example.com/v1", NULL, NULL).status, 404);
    assert_string_equal(etag(&s, "/openapi/v2", NULL), none);
    assert_string_equal(etag(&s, "/openapi/v2", proto), none_proto);
    asked_stop(&s);
}

#define MANY 300
static void hundreds_of_groups_are_no_trouble(void **state)
{
    (void)state;
    struct asked s;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct widget *widgets = KP_NEW_ARRAY(arena, struct widget, MANY);
    const struct kp_resource *more[MANY];
    asked_start(&s, handle);
    for (int i = 0; i < MANY; i++) {
        const char *const names[2] = {kp_arena_printf(arena, "com.g%d.v1.Widget", i), kp_arena_printf(arena, "com.g%d.v1.WidgetList", i)};
        widget_init(&widgets[i], kp_arena_printf(arena, "g%d.com", i), "v1", WIDGET_SCHEMA, names);
        more[i] = &widgets[i].resource;
    }
    kp_resources_extend(more, MANY);
    assert_non_null(link_to(&s, "apis/g299.com/v1"));
    assert_int_equal(ask(&s, "GET", "/openapi/v3/apis/g17.com/v1", NULL, NULL).status, 200);
    const struct kp_value *definitions = kp_value_get(document(OA_V2, arena), "definitions");
    assert_non_null(kp_value_get(definitions, "com.g299.v1.WidgetList"));
    kp_resources_extend(NULL, 0);
    asked_stop(&s);
}

static void names_of_custom_types_are_found(void **state)
{
    (void)state;
    assert_ptr_equal(kp_type_find_openapi("com.example.v1.Widget"), &widget.type);
    assert_ptr_equal(kp_type_find_openapi("com.example.v1.WidgetList"), &widget.list_type);
    assert_null(kp_type_find_openapi("com.example.v1.Gadget"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(v3_schema_is_the_definitions_own_with_what_objects_have, extend, restore),
        cmocka_unit_test_setup_teardown(v2_schema_leaves_out_what_swagger_does_not_know, extend, restore),
        cmocka_unit_test_setup_teardown(a_root_that_keeps_everything_has_no_properties_in_v2, extend, restore),
        cmocka_unit_test_setup_teardown(numbers_or_strings_keep_their_own_choices, extend, restore),
        cmocka_unit_test_setup_teardown(paths_take_no_strategic_merge_patch_and_no_protobuf, extend, restore),
        cmocka_unit_test(protobuf_has_the_limits_of_a_schema),
        cmocka_unit_test_setup_teardown(documents_follow_the_resources, extend, restore),
        cmocka_unit_test(hundreds_of_groups_are_no_trouble),
        cmocka_unit_test_setup_teardown(names_of_custom_types_are_found, extend, restore),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
