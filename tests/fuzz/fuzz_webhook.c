/* What a webhook answers: read for both versions of AdmissionReview, its refusal told and its patch applied. The first byte chooses. */
#include "api/k8s.h"
#include "controlplane/apiserver/patch/patch.h"
#include "controlplane/apiserver/webhook/webhook_internal.h"

#define FUZZ_BYTES_MAX 65536

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 1 || len > FUZZ_BYTES_MAX)
        return 0;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const struct webhook hook = {.name = "h.example.com", .review_version = data[0] & 1 ? "v1" : "v1beta1", .mutating = (data[0] & 2) != 0};
    const struct webhook_question question = {.hook = &hook, .uid = "u", .type = &k8s_config_map_type};
    struct webhook_answer answer;
    struct kp_error error = {0};
    struct api_status status = API_STATUS(arena);
    const char *text = kp_arena_strndup(arena, (const char *)data + 1, len - 1);
    if (webhook_answer_read(&question, text, len - 1, arena, &answer, &error) < 0) {
        KP_ASSERT(error.code < 0 && *error.message);
        return 0;
    }
    if (!answer.allowed) {
        KP_AUTO_BUF struct kp_buf out = {0};
        KP_ASSERT(webhook_denied(&hook, answer.result, &status) < 0 && status.http_status >= 400);
        status_encode(&status, &out);
        return 0;
    }
    struct k8s_config_map *map = KP_OBJECT_NEW(arena, k8s_config_map);
    const struct patch_request request = {.kind = PATCH_JSON, .body = (const char *)answer.patch.data, .body_len = answer.patch.len, .subresource = ""};
    struct kp_string_list problems = {0};
    void *changed = NULL;
    map->metadata->name = "m";
    if (answer.patch.len && patch_apply(&k8s_config_map_type, &request, map, arena, &problems, &changed, &status) < 0)
        KP_ASSERT(status.message);
    return 0;
}
