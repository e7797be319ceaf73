/* JSON decoding and encoding: strictness, error texts, number fidelity, what is left out, and hostile input. */
#include "api/k8s.h"

#include <setjmp.h>
#include <cmocka.h>

static struct kp_arena *arena;

static int setup(void **state)
{
    (void)state;
    arena = kp_arena_new(0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    kp_arena_free(arena);
    return 0;
}

static void *decode(const struct kp_type *type, const char *json, struct kp_decode *options)
{
    void *obj = NULL;
    struct kp_error error = {0};
    if (kp_json_decode(type, json, strlen(json), arena, options, &obj, &error) < 0)
        fail_msg("%s: %s", json, error.message);
    return obj;
}

static void assert_error(const struct kp_type *type, const char *json, const char *message)
{
    void *obj;
    struct kp_error error = {0};
    assert_int_equal(kp_json_decode(type, json, strlen(json), arena, NULL, &obj, &error), KP_EBADREQUEST);
    assert_string_equal(error.message, message);
}

static void assert_round(const struct kp_type *type, const char *in, const char *out)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    kp_json_encode(type, decode(type, in, NULL), &text);
    assert_string_equal(text.data, out);
}

static void strict_decoding_names_every_fault(void **state)
{
    (void)state;
    struct kp_decode options = {.strict = true};
    decode(&k8s_deployment_type,
           "{\"kind\":\"Deployment\",\"kind\":\"Deployment\",\"apiVersion\":\"apps/v1\",\"foo\":1,\"spec\":{\"Replicas\":1,\"replicas\":1,\"replicas\":2,"
           "\"selector\":{\"matchLabels\":{\"a\":\"1\",\"a\":\"2\"}},\"template\":{\"spec\":{\"containers\":[{\"name\":\"a\"},{\"env\":[{\"nam\":\"x\"}]}]}}}}",
           &options);
    static const char *const expected[] = {"duplicate field \"kind\"", "unknown field \"foo\"", "unknown field \"spec.Replicas\"", "duplicate field \"spec.replicas\"",
                                           "duplicate field \"spec.selector.matchLabels.a\"", "unknown field \"spec.template.spec.containers[1].env[0].nam\""};
    assert_int_equal(options.problems.len, KP_ARRAY_LEN(expected));
    for (size_t i = 0; i < KP_ARRAY_LEN(expected); i++)
        assert_string_equal(options.problems.items[i], expected[i]);
    assert_string_equal(options.api_version, "apps/v1");
    assert_string_equal(options.kind, "Deployment");
}

static void items_of_lists_may_name_their_kind(void **state)
{
    (void)state;
    struct kp_decode options = {.strict = true};
    struct k8s_pod_list *list = decode(&k8s_pod_list_type,
                                       "{\"kind\":\"PodList\",\"apiVersion\":\"v1\",\"metadata\":{\"resourceVersion\":\"7\"},"
                                       "\"items\":[{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"a\"}}]}",
                                       &options);
    assert_int_equal(options.problems.len, 0);
    assert_string_equal(options.kind, "PodList");
    assert_int_equal(list->items.len, 1);
    assert_string_equal(list->items.items[0].metadata->name, "a");
    assert_non_null(list->items.items[0].spec);
    assert_string_equal(kp_object_list_meta(&k8s_pod_list_type, list)->resource_version, "7");
}

static void wrong_types_read_like_upstream(void **state)
{
    (void)state;
    const struct kp_type *d = &k8s_deployment_type;
    assert_error(d, "{\"spec\":{\"replicas\":\"x\"}}", "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32");
    assert_error(d, "{\"spec\":{\"replicas\":1.5}}", "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32");
    assert_error(d, "{\"spec\":{\"replicas\":2147483648}}", "json: cannot unmarshal number 2147483648 into Go struct field DeploymentSpec.spec.replicas of type int32");
    assert_error(d, "{\"spec\":{\"paused\":1}}", "json: cannot unmarshal number into Go struct field DeploymentSpec.spec.paused of type bool");
    assert_error(d, "{\"spec\":{\"template\":{\"spec\":{\"containers\":[{\"image\":{}}]}}}}",
                 "json: cannot unmarshal object into Go struct field Container.spec.template.spec.containers.image of type string");
    assert_error(d, "{\"spec\":{\"template\":{\"spec\":{\"containers\":{}}}}}",
                 "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container");
    assert_error(d, "{\"metadata\":{\"labels\":{\"a\":1}}}", "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels.a of type string");
    assert_error(d, "{\"metadata\":[]}", "json: cannot unmarshal array into Go struct field Deployment.metadata of type v1.ObjectMeta");
    assert_error(d, "[]", "json: cannot unmarshal array into Go value of type v1.Deployment");
    assert_error(&k8s_pod_type, "{\"spec\":{\"containers\":[{\"resources\":{\"limits\":{\"cpu\":\"a lot\"}}}]}}",
                 "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'");
    assert_error(&k8s_secret_type, "{\"data\":{\"a\":\"!\"}}", "illegal base64 data at input byte 0");
}

static void syntax_errors_read_like_upstream(void **state)
{
    (void)state;
    const struct kp_type *p = &k8s_pod_type;
    assert_error(p, "", "unexpected end of JSON input");
    assert_error(p, "{", "unexpected end of JSON input");
    assert_error(p, "{\"a\":1 \"b\"}", "invalid character '\"' after object key:value pair");
    assert_error(p, "{a:1}", "invalid character 'a' looking for beginning of object key string");
    assert_error(p, "{\"a\" 1}", "invalid character '1' after object key");
    assert_error(p, "{\"a\":tru}", "invalid character '}' in literal");
    assert_error(p, "{\"a\":[1 2]}", "invalid character '2' after array element");
    assert_error(p, "{\"a\":01}", "invalid character '1' after object key:value pair");
    assert_error(p, "{} x", "invalid character 'x' after top-level value");
    assert_error(p, "{\"a\":\"\x01\"}", "invalid character '\\x01' in string literal");
    assert_error(p, "{\"metadata\":{\"name\":\"a\\u0000b\"}}", "the character \\u0000 is not allowed in strings");
    assert_error(p, "{\"metadata\":{\"name\":\"\\q\"}}", "invalid character 'q' in string escape code");
    assert_error(p, "{\"unknown\":\"\\u00zz\"}", "invalid character 'z' in \\u hexadecimal character escape");
}

static void hostile_input_is_bounded(void **state)
{
    (void)state;
    KP_AUTO_BUF struct kp_buf deep = {0}, wide = {0};
    struct kp_error error = {0};
    void *obj;
    for (int i = 0; i < 100000; i++)
        kp_buf_puts(&deep, "[");
    KP_AUTO_BUF struct kp_buf text = {0};
    kp_buf_printf(&text, "{\"x\":%s", deep.data);
    assert_int_equal(kp_json_decode(&k8s_pod_type, text.data, text.len, arena, NULL, &obj, &error), KP_ETOOLARGE);
    KP_AUTO(kp_arena_free) struct kp_arena *small = kp_arena_new(1 << 20);
    kp_buf_puts(&wide, "{\"spec\":{\"containers\":[{}");
    for (int i = 0; i < 100000; i++)
        kp_buf_puts(&wide, ",{}");
    kp_buf_puts(&wide, "]}}");
    assert_int_equal(kp_json_decode(&k8s_pod_type, wide.data, wide.len, small, NULL, &obj, &error), KP_ETOOLARGE);
}

static void a_full_arena_is_an_error_at_every_allocation(void **state)
{
    (void)state;
    static const char json[] = "{\"metadata\":{\"name\":\"\\u00e9\",\"labels\":{\"b\":\"1\",\"a\":\"2\"},\"managedFields\":[{\"fieldsV1\":{\"f:x\":{}}}]},"
                               "\"spec\":{\"containers\":[{\"name\":\"c\",\"command\":[\"a\",\"b\",\"c\"],\"resources\":{\"limits\":{\"cpu\":\"1000m\"}},\"ports\":[]}]}}";
    static const char yaml[] = "a: &x [1, two, {b: c}]\nd: *x\ne: {<<: {f: g}, h: !!str 1}\n";
    void *obj, *other;
    struct kp_error error = {0};
    KP_AUTO_BUF struct kp_buf wire = {0};
    obj = decode(&k8s_pod_type, json, NULL);
    kp_proto_encode(&k8s_pod_type, obj, &wire);
    unsigned succeeded = 0;
    for (size_t cap = 64; cap < 16384; cap += 16) {
        KP_AUTO(kp_arena_free) struct kp_arena *small = kp_arena_new(cap);
        struct kp_decode options = {.strict = true};
        struct kp_value *value, **documents;
        size_t n;
        int rc = kp_json_decode(&k8s_pod_type, json, sizeof(json) - 1, small, &options, &other, &error);
        assert_true(rc == KP_ETOOLARGE || (rc == 0 && kp_object_equal(&k8s_pod_type, obj, other)));
        succeeded += rc == 0;
        kp_arena_reset(small);
        rc = kp_proto_decode(&k8s_pod_type, wire.data, wire.len, small, &other, &error);
        assert_true(rc == KP_ETOOLARGE || (rc == 0 && kp_object_equal(&k8s_pod_type, obj, other)));
        kp_arena_reset(small);
        rc = kp_value_parse(json, sizeof(json) - 1, small, NULL, &value, &error);
        assert_true(rc == KP_ETOOLARGE || rc == 0);
        kp_arena_reset(small);
        rc = kp_yaml_parse(yaml, sizeof(yaml) - 1, small, &documents, &n, &error);
        assert_true(rc == KP_ETOOLARGE || (rc == 0 && n == 1));
    }
    assert_true(succeeded > 10);
}

static void zero_and_absent(void **state)
{
    (void)state;
    assert_round(&k8s_deployment_type, "{\"spec\":{\"replicas\":0,\"paused\":false,\"selector\":null,\"template\":{}},\"status\":{\"replicas\":0}}",
                 "{\"kind\":\"Deployment\",\"apiVersion\":\"apps/v1\",\"metadata\":{},\"spec\":{\"replicas\":0,\"selector\":null,"
                 "\"template\":{\"metadata\":{},\"spec\":{\"containers\":null}},\"strategy\":{}},\"status\":{}}");
    assert_round(&k8s_persistent_volume_claim_spec_type, "{\"storageClassName\":\"\",\"volumeName\":\"\"}", "{\"resources\":{},\"storageClassName\":\"\"}");
    assert_round(&k8s_pod_list_type, "{\"items\":null}", "{\"kind\":\"PodList\",\"apiVersion\":\"v1\",\"metadata\":{},\"items\":[]}");
    assert_round(&k8s_network_policy_spec_type, "{\"ingress\":[{}]}", "{\"podSelector\":{},\"ingress\":[{}]}");
    struct k8s_deployment *d = decode(&k8s_deployment_type, "{\"status\":{\"readyReplicas\":0}}", NULL);
    assert_false(d->status->has_ready_replicas);
    assert_false(d->spec->has_replicas);
}

static void special_kinds_keep_their_meaning(void **state)
{
    (void)state;
    assert_round(&k8s_service_port_type, "{\"port\":80,\"targetPort\":\"http\"}", "{\"port\":80,\"targetPort\":\"http\"}");
    assert_round(&k8s_service_port_type, "{\"port\":80}", "{\"port\":80,\"targetPort\":0}");
    assert_round(&k8s_resource_field_selector_type, "{\"resource\":\"limits.cpu\"}", "{\"resource\":\"limits.cpu\",\"divisor\":\"0\"}");
    assert_round(&k8s_lease_spec_type, "{\"renewTime\":\"2026-11-21T05:00:00.123456789+01:00\"}", "{\"renewTime\":\"2026-11-21T04:00:00.123456Z\"}");
    assert_round(&k8s_condition_type, "{\"type\":\"A\",\"lastTransitionTime\":\"2026-11-21T05:00:00.9Z\"}",
                 "{\"type\":\"A\",\"status\":\"\",\"lastTransitionTime\":\"2026-11-21T05:00:00Z\",\"reason\":\"\",\"message\":\"\"}");
    assert_round(&k8s_json_schema_props_type,
                 "{\"type\":\"object\",\"items\":[{\"type\":\"string\"}],\"additionalProperties\":false,\"default\":{ \"a\" : [ 1 , \" x \" ] },\"maximum\":1e21,\"minimum\":0.25,"
                 "\"dependencies\":{\"a\":[\"b\"],\"c\":{}},\"enum\":[1,null,\"x\"],\"x-kubernetes-preserve-unknown-fields\":true,\"$ref\":\"r\"}",
                 "{\"$ref\":\"r\",\"type\":\"object\",\"default\":{\"a\":[1,\" x \"]},\"maximum\":1e+21,\"minimum\":0.25,\"enum\":[1,null,\"x\"],"
                 "\"items\":[{\"type\":\"string\"}],\"additionalProperties\":false,\"dependencies\":{\"a\":[\"b\"],\"c\":{}},\"x-kubernetes-preserve-unknown-fields\":true}");
    assert_round(&k8s_config_map_type, "{\"binaryData\":{\"k\":\"AP8=\"},\"data\":{\"b\":\"2\",\"a\":\"1\"}}",
                 "{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\",\"metadata\":{},\"data\":{\"a\":\"1\",\"b\":\"2\"},\"binaryData\":{\"k\":\"AP8=\"}}");
    assert_round(&k8s_object_meta_type, "{\"generation\":9223372036854775807,\"name\":\"\\ud83d\\ude00\\ud800 \xff \\u2028\"}",
                 "{\"name\":\"\xf0\x9f\x98\x80\xef\xbf\xbd \xef\xbf\xbd \\u2028\",\"generation\":9223372036854775807}");
}

static void times_stay_within_four_digit_years(void **state)
{
    (void)state;
    assert_round(&k8s_managed_fields_entry_type, "{\"time\":\"0985-01-01T00:00:00Z\"}", "{\"time\":\"0985-01-01T00:00:00Z\"}");
    void *obj;
    struct kp_error error = {0};
    const char *late = "{\"time\":\"9999-12-31T23:59:59-01:00\"}";
    assert_int_equal(kp_json_decode(&k8s_managed_fields_entry_type, late, strlen(late), arena, NULL, &obj, &error), KP_EBADREQUEST);
}

static void defaults_fill_in(void **state)
{
    (void)state;
    struct k8s_deployment *d = decode(&k8s_deployment_type,
                                      "{\"spec\":{\"template\":{\"spec\":{\"containers\":[{\"name\":\"c\",\"ports\":[{\"containerPort\":1,\"protocol\":\"UDP\"},{\"containerPort\":2}]}]}}}}", NULL);
    kp_object_default(&k8s_deployment_type, d, arena);
    assert_true(d->spec->has_replicas);
    assert_int_equal(d->spec->replicas, 1);
    assert_string_equal(d->spec->strategy->type, "RollingUpdate");
    struct k8s_pod_spec *spec = d->spec->template->spec;
    assert_string_equal(spec->restart_policy, "Always");
    assert_int_equal(spec->termination_grace_period_seconds, 30);
    assert_non_null(spec->security_context);
    assert_string_equal(spec->containers.items[0].ports.items[0].protocol, "UDP");
    assert_string_equal(spec->containers.items[0].ports.items[1].protocol, "TCP");
    assert_string_equal(spec->containers.items[0].termination_message_path, "/dev/termination-log");
}

static void lists_and_maps_grow_without_touching_what_they_share(void **state)
{
    (void)state;
    struct k8s_pod *pod = KP_OBJECT_NEW(arena, k8s_pod), copy;
    for (int i = 0; i < 5000; i++)
        KP_LIST_ADD(arena, &pod->spec->containers)->name = kp_arena_printf(arena, "c%d", i);
    assert_int_equal(pod->spec->containers.len, 5000);
    assert_string_equal(pod->spec->containers.items[4999].name, "c4999");
    copy = *pod;
    struct k8s_container_items a = pod->spec->containers, b = pod->spec->containers;
    KP_LIST_ADD(arena, &a)->name = "a";
    KP_LIST_ADD(arena, &b)->name = "b";
    assert_string_equal(a.items[5000].name, "a");
    assert_string_equal(b.items[5000].name, "b");
    assert_ptr_equal(copy.spec, pod->spec);
    struct kp_string_map *labels = &pod->metadata->labels;
    kp_string_map_set(arena, labels, "b", "2");
    kp_string_map_set(arena, labels, "a", "1");
    kp_string_map_set(arena, labels, "c", "3");
    kp_string_map_set(arena, labels, "b", "4");
    assert_int_equal(labels->len, 3);
    assert_string_equal(labels->items[0].key, "a");
    assert_string_equal(kp_string_map_get(labels, "b"), "4");
    assert_true(kp_string_map_remove(arena, labels, "a"));
    assert_false(kp_string_map_remove(arena, labels, "a"));
    assert_null(kp_string_map_get(labels, "a"));
    assert_null(kp_string_map_get(NULL, "a"));
}

static void trees_change_and_compare(void **state)
{
    (void)state;
    struct kp_value *v, *w;
    struct kp_string_list problems = {0};
    struct kp_error error = {0};
    KP_AUTO_BUF struct kp_buf out = {0};
    const char *json = "{\"b\":[1,2.0,{\"x\":null}],\n\"a\":\"t\",\"b\":[3],\n\"n\":-0.000001}";
    assert_int_equal(kp_value_parse(json, strlen(json), arena, &problems, &v, &error), 0);
    assert_int_equal(problems.len, 1);
    assert_string_equal(problems.items[0], "duplicate field \"b\"");
    assert_int_equal(kp_value_get(v, "n")->line, 3);
    kp_value_set(arena, v, "c", kp_value_array(arena));
    kp_value_append(arena, kp_value_get(v, "c"), kp_value_int(arena, 2));
    assert_true(kp_value_array_insert(arena, kp_value_get(v, "c"), 0, kp_value_double(arena, 1)));
    assert_false(kp_value_array_insert(arena, kp_value_get(v, "c"), 9, kp_value_null(arena)));
    w = kp_value_clone(v, arena);
    assert_true(kp_value_equal(v, w));
    assert_true(kp_value_remove(w, "a"));
    assert_false(kp_value_remove(w, "a"));
    assert_false(kp_value_equal(v, w));
    kp_value_print(v, &out);
    assert_string_equal(out.data, "{\"b\":[3],\"a\":\"t\",\"n\":-0.000001,\"c\":[1,2]}");
    out.len = 0;
    kp_value_print_pretty(w, 4, &out);
    assert_string_equal(out.data, "{\n    \"b\": [\n        3\n    ],\n    \"c\": [\n        1,\n        2\n    ],\n    \"n\": -0.000001\n}");
    assert_null(kp_value_path(v, "b", "x", NULL));
    assert_string_equal(kp_value_str(kp_value_path(v, "a", NULL)), "t");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(strict_decoding_names_every_fault, setup, teardown),
        cmocka_unit_test_setup_teardown(items_of_lists_may_name_their_kind, setup, teardown),
        cmocka_unit_test_setup_teardown(wrong_types_read_like_upstream, setup, teardown),
        cmocka_unit_test_setup_teardown(syntax_errors_read_like_upstream, setup, teardown),
        cmocka_unit_test_setup_teardown(hostile_input_is_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_arena_is_an_error_at_every_allocation, setup, teardown),
        cmocka_unit_test_setup_teardown(zero_and_absent, setup, teardown),
        cmocka_unit_test_setup_teardown(special_kinds_keep_their_meaning, setup, teardown),
        cmocka_unit_test_setup_teardown(times_stay_within_four_digit_years, setup, teardown),
        cmocka_unit_test_setup_teardown(defaults_fill_in, setup, teardown),
        cmocka_unit_test_setup_teardown(lists_and_maps_grow_without_touching_what_they_share, setup, teardown),
        cmocka_unit_test_setup_teardown(trees_change_and_compare, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
