/* The protobuf wire: bytes checked by hand against the field numbers, the envelope, and malformed messages. */
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

/* JSON in, hex of the body out. */
static void assert_wire(const struct kp_type *type, const char *json, const char *hex)
{
    void *obj, *back;
    struct kp_error error = {0};
    KP_AUTO_BUF struct kp_buf wire = {0}, text = {0}, a = {0}, b = {0};
    if (kp_json_decode(type, json, strlen(json), arena, NULL, &obj, &error) < 0)
        fail_msg("%s", error.message);
    kp_proto_encode(type, obj, &wire);
    if (wire.len > 0)
        kp_hex_encode(&text, wire.data, wire.len);
    assert_string_equal(text.len ? text.data : "", hex);
    if (kp_proto_decode(type, wire.data, wire.len, arena, &back, &error) < 0)
        fail_msg("%s", error.message);
    kp_json_encode(type, obj, &a);
    kp_json_encode(type, back, &b);
    assert_string_equal(a.data, b.data);
}

static void fields_have_their_published_bytes(void **state)
{
    (void)state;
    /* name = 1 "a", generation = 7, labels = 11 {x: y} */
    assert_wire(&k8s_object_meta_type, "{\"name\":\"a\",\"generation\":300,\"labels\":{\"x\":\"y\"}}", "0a0161" "38ac02" "5a060a01781201" "79");
    /* creationTimestamp = 8 {seconds = 1, nanos = 2} */
    assert_wire(&k8s_object_meta_type, "{\"creationTimestamp\":\"1970-01-01T00:00:01Z\"}", "42040801" "1000");
    /* negative int32 takes ten bytes */
    assert_wire(&k8s_container_state_terminated_type, "{\"exitCode\":-1}", "08ffffffffffffffffff01");
    /* targetPort = 4 {type = 1, intVal = 2, strVal = 3} */
    assert_wire(&k8s_service_port_type, "{\"port\":80,\"targetPort\":\"http\"}", "1850" "220a08011000" "1a0468747470");
    /* limits = 1 map to Quantity {string = 1} */
    assert_wire(&k8s_resource_requirements_type, "{\"limits\":{\"cpu\":\"1\"}}", "0a0a0a03637075" "12030a0131");
    /* nullable false is kept, plain false is not */
    assert_wire(&k8s_pod_spec_type, "{\"enableServiceLinks\":false,\"hostNetwork\":false}", "f00100");
    /* extra = 4 map to ExtraValue {items = 1} */
    assert_wire(&k8s_user_info_type, "{\"extra\":{\"k\":[\"a\",\"b\"]}}", "220b0a016b12060a01610a0162");
    /* verbs = 4 {items = 1} */
    assert_wire(&k8s_api_resource_type, "{\"verbs\":[\"get\"]}", "22050a03676574");
    /* maximum = 9 is a double */
    assert_wire(&k8s_json_schema_props_type, "{\"maximum\":1}", "49000000000000f03f");
    /* data = 2 RawExtension {raw = 1} */
    assert_wire(&k8s_controller_revision_type, "{\"data\":{\"a\":1}}", "12090a077b2261223a317d");
}

static void inlined_members_travel_nested(void **state)
{
    (void)state;
    /* Volume: name = 1, volumeSource = 2 {emptyDir = 2} */
    assert_wire(&k8s_volume_type, "{\"name\":\"v\",\"emptyDir\":{}}", "0a017612021200");
    /* Probe: handler = 1 {tcpSocket = 3 {port = 1 {0, 80, ""}}}, periodSeconds = 4 */
    assert_wire(&k8s_probe_type, "{\"tcpSocket\":{\"port\":80},\"periodSeconds\":9}", "0a0a1a080a06080010501a00" "2009");
    /* SecretKeySelector: localObjectReference = 1 {name = 1}, key = 2 */
    assert_wire(&k8s_secret_key_selector_type, "{\"name\":\"s\",\"key\":\"k\"}", "0a030a0173" "12016b");
    /* RuleWithOperations: operations = 1, rule = 2 {apiGroups = 1} ; one level deeper inside NamedRuleWithOperations */
    assert_wire(&k8s_rule_with_operations_type, "{\"operations\":[\"*\"],\"apiGroups\":[\"\"]}", "0a012a" "12020a00");
    assert_wire(&k8s_named_rule_with_operations_type, "{\"resourceNames\":[\"r\"],\"operations\":[\"*\"],\"apiGroups\":[\"\"]}", "0a0172" "12070a012a12020a00");
}

static void lengths_over_127_move_the_body(void **state)
{
    (void)state;
    KP_AUTO_BUF struct kp_buf wire = {0};
    struct kp_error error = {0};
    struct k8s_config_map *map = KP_OBJECT_NEW(arena, k8s_config_map), *back;
    char *big = kp_arena_alloc(arena, 70001);
    memset(big, 'x', 70000);
    kp_string_map_set(arena, &map->data, "big", big);
    kp_string_map_set(arena, &map->data, "small", "y");
    kp_proto_encode_object(&k8s_config_map_type, map, &wire);
    assert_memory_equal(wire.data, "k8s\0\x0a\x0f\x0a\x02v1\x12\x09" "ConfigMap", 21);
    assert_int_equal(kp_proto_decode_object(NULL, wire.data, wire.len, arena, NULL, NULL, (void **)&back, &error), 0);
    assert_string_equal(kp_string_map_get(&back->data, "big"), big);
    assert_string_equal(kp_string_map_get(&back->data, "small"), "y");
}

static void watch_events_carry_the_enveloped_object(void **state)
{
    (void)state;
    KP_AUTO_BUF struct kp_buf object = {0}, event = {0};
    struct kp_error error = {0};
    struct k8s_watch_event *back;
    struct k8s_namespace *ns = KP_OBJECT_NEW(arena, k8s_namespace);
    ns->metadata->name = "n";
    kp_proto_encode_object(&k8s_namespace_type, ns, &object);
    kp_proto_encode_watch_event("ADDED", object.data, object.len, &event);
    assert_memory_equal(event.data, "\x0a\x05" "ADDED\x12", 8);
    assert_int_equal(kp_proto_decode(&k8s_watch_event_type, event.data, event.len, arena, (void **)&back, &error), 0);
    assert_string_equal(back->type, "ADDED");
    assert_string_equal(back->object.json, "{\"kind\":\"Namespace\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"n\"},\"spec\":{},\"status\":{}}");
}

static void zeroes_of_go_clients_are_absent(void **state)
{
    (void)state;
    /* spec = 2 {nodeName = 10 "", hostNetwork = 11 false}, as gogo writes them */
    static const uint8_t wire[] = {0x12, 4, 0x52, 0, 0x58, 0};
    struct k8s_pod *pod;
    struct kp_error error = {0};
    assert_int_equal(kp_proto_decode(&k8s_pod_type, wire, sizeof(wire), arena, (void **)&pod, &error), 0);
    assert_null(pod->spec->node_name);
    assert_false(pod->spec->has_host_network);
    assert_non_null(pod->metadata);
    assert_non_null(pod->status);
}

static void malformed_messages_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
        const char *message;
    } cases[] = {
        {"\x0a", 1, "proto: unexpected EOF"},          {"\x0a\x05" "a", 3, "proto: unexpected EOF"},
        {"\x0b", 1, "proto: wrong wireType"},          {"\x00\x01", 2, "proto: illegal tag"},
        {"\x08\x01", 2, "proto: wrong wireType = 0 for field ObjectMeta.name"},
        {"\x0a\x01\x00", 3, "proto: the character \\u0000 is not allowed in strings"},
        {"\x0a\x01\xff", 3, "proto: string field contains invalid UTF-8"},
        {"\x38\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12, "proto: integer overflow"},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(cases); i++) {
        void *obj;
        struct kp_error error = {0};
        assert_int_equal(kp_proto_decode(&k8s_object_meta_type, cases[i].bytes, cases[i].len, arena, &obj, &error), KP_EBADREQUEST);
        assert_string_equal(error.message, cases[i].message);
    }
    struct kp_proto_unknown unknown;
    struct kp_error error = {0};
    assert_int_equal(kp_proto_unwrap("{}", 2, arena, &unknown, &error), KP_EBADREQUEST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(fields_have_their_published_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(inlined_members_travel_nested, setup, teardown),
        cmocka_unit_test_setup_teardown(lengths_over_127_move_the_body, setup, teardown),
        cmocka_unit_test_setup_teardown(watch_events_carry_the_enveloped_object, setup, teardown),
        cmocka_unit_test_setup_teardown(zeroes_of_go_clients_are_absent, setup, teardown),
        cmocka_unit_test_setup_teardown(malformed_messages_are_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
