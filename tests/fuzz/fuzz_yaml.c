/* YAML streams: what parses must print to YAML that parses to the same value. */
#include "api/k8s.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(64 << 20);
    struct kp_error error = {0};
    struct kp_value **documents, **again;
    size_t n, m;
    if (kp_yaml_parse((const char *)data, len, arena, &documents, &n, &error) < 0)
        return 0;
    for (size_t i = 0; i < n; i++) {
        KP_AUTO_BUF struct kp_buf out = {0};
        void *obj;
        kp_yaml_print(documents[i], &out);
        int rc = kp_yaml_parse(out.data, out.len, arena, &again, &m, &error);
        KP_ASSERT(rc == 0 || rc == KP_ETOOLARGE);
        KP_ASSERT(rc < 0 || (m == 1 && kp_value_equal(documents[i], again[0])));
        (void)kp_value_to_object(&k8s_pod_type, documents[i], arena, NULL, &obj, &error);
    }
    return 0;
}
