/* The OpenAPI documents: they parse, every reference leads somewhere, and what kubectl looks for is where it looks. */
#include "controlplane/apiserver/openapi/openapi_internal.h"
#include "tests/unit/controlplane/apiserver/widgets_test.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct kp_value *parse(const struct kp_buf *text, struct kp_arena *arena)
{
    struct kp_value *root = NULL;
    struct kp_error error = {0};
    struct kp_string_list problems = {0};
    if (kp_value_parse(text->data, text->len, arena, &problems, &root, &error) < 0)
        fail_msg("%s", error.message);
    for (size_t i = 0; i < problems.len; i++)
        fail_msg("%s", problems.items[i]);
    return root;
}

static size_t check_refs(const struct kp_value *v, const struct kp_value *root)
{
    size_t count = 0;
    if (v->kind == KP_VALUE_ARRAY)
        for (size_t i = 0; i < v->array.len; i++)
            count += check_refs(v->array.items[i], root);
    if (v->kind != KP_VALUE_OBJECT)
        return count;
    for (size_t i = 0; i < v->object.len; i++) {
        const char *key = v->object.members[i].key, *ref = kp_value_str(v->object.members[i].value);
        if (strcmp(key, "$ref") == 0 && ref) {
            static const char *const places[][3] = {{"#/components/schemas/", "components", "schemas"}, {"#/definitions/", "definitions", NULL},
                                                    {"#/parameters/", "parameters", NULL}};
            const struct kp_value *target = NULL;
            for (size_t p = 0; p < KP_ARRAY_LEN(places); p++)
                if (kp_starts_with(ref, places[p][0])) {
                    target = kp_value_get(root, places[p][1]);
                    target = kp_value_get(places[p][2] ? kp_value_get(target, places[p][2]) : target, ref + strlen(places[p][0]));
                }
            if (!target)
                fail_msg("%s leads nowhere", ref);
            count++;
        }
        count += check_refs(v->object.members[i].value, root);
    }
    return count;
}

static struct kp_value *document(const char *gv, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    oa_document_v3(gv, &out);
    assert_true(out.len > 0);
    return parse(&out, arena);
}

static struct widget widget;

static int with_widgets(void **state)
{
    (void)state;
    widget_v1(&widget);
    kp_resources_extend((const struct kp_resource *[]){&widget.resource}, 1);
    return 0;
}

static int without_widgets(void **state)
{
    (void)state;
    kp_resources_extend(NULL, 0);
    return 0;
}

static void every_v3_reference_resolves(void **state)
{
    (void)state;
    size_t n, documents = 0;
    char gv[OA_GV_MAX], last[OA_GV_MAX] = "";
    const struct kp_resource *const *resources = kp_resources(&n);
    for (size_t i = 0; i < n; i++) {
        if (!oa_served(resources[i]) || strcmp(oa_group_version(resources[i], gv), last) == 0)
            continue;
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        snprintf(last, sizeof(last), "%s", gv);
        struct kp_value *root = document(gv, arena);
        assert_true(check_refs(root, root) > 10);
        documents++;
    }
    assert_true(documents > 10);
}

static void v2_references_resolve(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf out = {0};
    oa_document_v2(&out);
    struct kp_value *root = parse(&out, arena);
    assert_true(check_refs(root, root) > 1000);
    assert_string_equal(kp_value_str(kp_value_get(root, "swagger")), "2.0");
}

static char *print(const struct kp_value *v, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    assert_non_null(v);
    kp_value_print(v, &out);
    return kp_arena_strdup(arena, out.data);
}

static void pod_schema_has_what_clients_merge_by(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_value *schemas = kp_value_path(document("api/v1", arena), "components", "schemas", NULL);
    struct kp_value *spec = kp_value_get(schemas, "io.k8s.api.core.v1.PodSpec");
    struct kp_value *containers = kp_value_path(spec, "properties", "containers", NULL);
    assert_string_equal(kp_value_str(kp_value_get(containers, "x-kubernetes-list-type")), "map");
    assert_string_equal(print(kp_value_get(containers, "x-kubernetes-list-map-keys"), arena), "[\"name\"]");
    assert_string_equal(kp_value_str(kp_value_get(containers, "x-kubernetes-patch-merge-key")), "name");
    assert_string_equal(kp_value_str(kp_value_get(containers, "x-kubernetes-patch-strategy")), "merge");
    assert_string_equal(print(kp_value_get(containers, "items"), arena),
                        "{\"allOf\":[{\"$ref\":\"#/components/schemas/io.k8s.api.core.v1.Container\"}],\"default\":{}}");
    assert_string_equal(print(kp_value_get(spec, "required"), arena), "[\"containers\"]");
    struct kp_value *protocol = kp_value_path(kp_value_get(schemas, "io.k8s.api.core.v1.ContainerPort"), "properties", "protocol", NULL);
    assert_string_equal(kp_value_str(kp_value_get(protocol, "default")), "TCP");
    assert_non_null(kp_value_get(protocol, "enum"));
    struct kp_value *pod = kp_value_get(schemas, "io.k8s.api.core.v1.Pod");
    assert_string_equal(print(kp_value_get(pod, "x-kubernetes-group-version-kind"), arena), "[{\"group\":\"\",\"kind\":\"Pod\",\"version\":\"v1\"}]");
    assert_non_null(kp_value_path(pod, "properties", "apiVersion", NULL));
    assert_string_equal(kp_value_str(kp_value_get(kp_value_get(schemas, "io.k8s.api.core.v1.LabelSelector"), "type")) ? "x" : "none", "none");
    assert_string_equal(
        kp_value_str(kp_value_get(kp_value_get(schemas, "io.k8s.api.core.v1.NodeSelector"), "x-kubernetes-map-type")), "atomic");
}

static void patch_operation_names_kind_and_dry_run(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_value *paths = kp_value_get(document("apis/apps/v1", arena), "paths");
    struct kp_value *patch = kp_value_path(paths, "/apis/apps/v1/namespaces/{namespace}/deployments/{name}", "patch", NULL);
    assert_string_equal(print(kp_value_get(patch, "x-kubernetes-group-version-kind"), arena),
                        "{\"group\":\"apps\",\"kind\":\"Deployment\",\"version\":\"v1\"}");
    assert_string_equal(kp_value_str(kp_value_get(patch, "x-kubernetes-action")), "patch");
    assert_string_equal(kp_value_str(kp_value_get(patch, "operationId")), "patchAppsV1NamespacedDeployment");
    const struct kp_value *parameters = kp_value_get(patch, "parameters");
    bool dry_run = false, validation = false;
    for (size_t i = 0; kp_value_at(parameters, i); i++) {
        dry_run |= kp_streq(kp_value_str(kp_value_get(kp_value_at(parameters, i), "name")), "dryRun");
        validation |= kp_streq(kp_value_str(kp_value_get(kp_value_at(parameters, i), "name")), "fieldValidation");
    }
    assert_true(dry_run && validation);
    assert_non_null(kp_value_get(kp_value_path(patch, "requestBody", "content", NULL), "application/apply-patch+yaml"));
    assert_non_null(kp_value_path(paths, "/apis/apps/v1/deployments", "get", NULL));
    assert_null(kp_value_path(paths, "/apis/apps/v1/deployments", "post", NULL));
    struct kp_value *scale = kp_value_path(paths, "/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale", "get", NULL);
    assert_string_equal(print(kp_value_get(scale, "x-kubernetes-group-version-kind"), arena),
                        "{\"group\":\"autoscaling\",\"kind\":\"Scale\",\"version\":\"v1\"}");
}

static void unknown_group_version_has_no_document(void **state)
{
    (void)state;
    KP_AUTO_BUF struct kp_buf out = {0};
    oa_document_v3("apis/nope/v1", &out);
    assert_int_equal(out.len, 0);
}

/* Reads one field of a protobuf message; false at the end. */
static bool next_field(const uint8_t **at, const uint8_t *end, unsigned *number, const uint8_t **data, size_t *len)
{
    uint64_t v[2] = {0};
    if (*at == end)
        return false;
    for (int i = 0; i < 2; i++)
        for (int shift = 0;; shift += 7) {
            assert_true(*at < end && shift < 64);
            v[i] |= (uint64_t)(**at & 0x7f) << shift;
            if (!(*(*at)++ & 0x80))
                break;
        }
    *number = (unsigned)(v[0] >> 3);
    *data = *at;
    *len = 0;
    if ((v[0] & 7) == 2) {
        assert_true(v[1] <= (size_t)(end - *at));
        *len = v[1];
        *at += v[1];
    } else
        assert_int_equal(v[0] & 7, 0);
    return true;
}

static void v2_protobuf_is_the_same_document(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf json = {0}, proto = {0};
    oa_document_v2(&json);
    oa_document_v2_proto(&proto);
    struct kp_value *root = parse(&json, arena);
    size_t paths = 0, definitions = 0, parameters = 0, len, inner_len;
    unsigned number, inner;
    const uint8_t *at = (const uint8_t *)proto.data, *end = at + proto.len, *data, *inner_data;
    while (next_field(&at, end, &number, &data, &len))
        for (const uint8_t *in = data; number > 2 && next_field(&in, data + len, &inner, &inner_data, &inner_len);) {
            paths += number == 8 && inner == 2;
            definitions += number == 9 && inner == 1;
            parameters += number == 10 && inner == 1;
        }
    assert_int_equal(paths, kp_value_get(root, "paths")->object.len);
    assert_int_equal(definitions, kp_value_get(root, "definitions")->object.len);
    assert_int_equal(parameters, kp_value_get(root, "parameters")->object.len);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_v3_reference_resolves, with_widgets, without_widgets),
        cmocka_unit_test_setup_teardown(v2_references_resolve, with_widgets, without_widgets),
        cmocka_unit_test(pod_schema_has_what_clients_merge_by),
        cmocka_unit_test(patch_operation_names_kind_and_dry_run),
        cmocka_unit_test(unknown_group_version_has_no_document),
        cmocka_unit_test_setup_teardown(v2_protobuf_is_the_same_document, with_widgets, without_widgets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
