/* Protobuf bodies and envelopes: what decodes must encode to bytes that decode to an equal object. */
#include "api/k8s.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check(const struct kp_type *type, const void *obj, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf wire = {0}, json = {0};
    struct kp_error error = {0};
    void *back;
    kp_proto_encode(type, obj, &wire);
    int rc = kp_proto_decode(type, wire.data, wire.len, arena, &back, &error);
    KP_ASSERT(rc == 0 || rc == KP_ETOOLARGE);
    KP_ASSERT(rc < 0 || kp_object_equal(type, obj, back));
    kp_json_encode(type, obj, &json);
    rc = kp_json_decode(type, json.data, json.len, arena, NULL, &back, &error);
    KP_ASSERT(rc == 0 || rc == KP_ETOOLARGE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const struct kp_type *const types[] = {&k8s_pod_type, &k8s_event_list_type, &k8s_custom_resource_definition_type, &k8s_watch_event_type, &k8s_config_map_type};
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(64 << 20);
    struct kp_error error = {0};
    const struct kp_type *type;
    void *obj;
    if (kp_proto_is_envelope(data, len)) {
        if (kp_proto_decode_object(NULL, data, len, arena, NULL, &type, &obj, &error) == 0)
            check(type, obj, arena);
        return 0;
    }
    if (len < 1)
        return 0;
    type = types[data[0] % KP_ARRAY_LEN(types)];
    if (kp_proto_decode(type, data + 1, len - 1, arena, &obj, &error) == 0)
        check(type, obj, arena);
    return 0;
}
