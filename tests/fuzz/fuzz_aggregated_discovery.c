/* What another API server says it serves: refused, or a JSON list that goes into our own discovery as it is. */
#include "controlplane/apiserver/aggregator/aggregator_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf out = {0};
    struct kp_error error = {0};
    struct kp_value *list = NULL;
    const char *url = discover_openapi((const char *)data, size, "g.test", "v1", arena);
    KP_ASSERT(!url || kp_starts_with(url, "/openapi/v3/apis/g.test/v1"));
    if (discover_parse((const char *)data, size, "g.test", "v1", arena, &out, &error) < 0) {
        KP_ASSERT(*error.message);
        return 0;
    }
    KP_ASSERT(kp_value_parse(out.data, out.len, arena, NULL, &list, &error) == 0 && list->kind == KP_VALUE_ARRAY);
    return 0;
}
