/* All four kinds of patch against a pod; the first byte chooses. A result goes in again, so that what a patch makes can be patched. */
#include "api/k8s.h"
#include "controlplane/apiserver/patch/patch.h"

#define FUZZ_BYTES_MAX 65536

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const char pod[] = "{\"metadata\":{\"name\":\"p\",\"labels\":{\"a\":\"b\"},\"finalizers\":[\"x\"]},\"spec\":{\"containers\":[{\"name\":\"a\",\"image\":\"i\","
                              "\"ports\":[{\"containerPort\":80,\"protocol\":\"TCP\"}],\"resources\":{\"requests\":{\"cpu\":\"1\"}}},{\"name\":\"b\"}],"
                              "\"tolerations\":[{\"key\":\"k\"}]}}";
    if (len < 1 || len > FUZZ_BYTES_MAX)
        return 0;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_error error = {0};
    void *current = NULL;
    KP_ASSERT(kp_json_decode(&k8s_pod_type, pod, sizeof(pod) - 1, arena, NULL, &current, &error) == 0);
    patch_managed_fields_update(&k8s_pod_type, NULL, current, "before", "", 1, arena);
    const struct patch_request request = {.kind = (enum patch_kind)(data[0] & 3), .body = (const char *)data + 1, .body_len = len - 1,
                                          .field_manager = "fuzz", .force = (data[0] & 4) != 0, .subresource = data[0] & 8 ? "status" : "",
                                          .strict = (data[0] & 16) != 0, .now_s = 2};
    for (int i = 0; i < 2; i++) {
        struct kp_string_list problems = {0};
        struct api_status status = API_STATUS(arena);
        void *result = NULL;
        if (patch_apply(&k8s_pod_type, &request, current, arena, &problems, &result, &status) < 0) {
            KP_ASSERT(status.code < 0 && status.message);
            return 0;
        }
        patch_managed_fields_update(&k8s_pod_type, current, result, "after", request.subresource, 3, arena);
        current = result;
    }
    return 0;
}
