/* Arbitrary bytes as the file of --cloud-config, and as annotations of a Service: no crash, no leak; what is refused says why. */
#include "cloud-controller/manager/config.h"
#include "cloud-controller/service/service.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void read_annotations(const uint8_t *data, size_t len, struct kp_arena *arena)
{
    static const char *const keys[] = {
        "kprov.dev/load-balancer-internal", "kprov.dev/load-balancer-algorithm", "kprov.dev/load-balancer-health-check-interval",
        "kprov.dev/load-balancer-health-check-port", "kprov.dev/load-balancer-health-check-path", "service.beta.kubernetes.io/load-balancer-source-ranges",
        "kprov.dev/share-address", "service.beta.kubernetes.io/aws-load-balancer-scheme",
    };
    struct k8s_service *service = KP_OBJECT_NEW(arena, k8s_service);
    struct service_wishes wishes;
    struct kp_error error = {0};
    char *rest = kp_arena_strndup(arena, (const char *)data, len);
    service->metadata->namespace = "n";
    for (size_t i = 0; i < KP_ARRAY_LEN(keys) && rest; i++) {
        const char *value = strsep(&rest, "\n");
        if (*value)
            kp_string_map_set(arena, &service->metadata->annotations, keys[i], value);
    }
    if (service_read_wishes(service, arena, &wishes, &error) < 0)
        KP_ASSERT(error.message[0] != '\0');
    else
        KP_ASSERT(wishes.source_ranges.len <= CLOUD_SOURCE_RANGES_MAX && wishes.health.port >= 0 && wishes.health.port <= 65535);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct ccm_config config = {0};
    struct kp_error error = {0};
    if (ccm_config_parse((const char *)data, len, "/etc", arena, &config, &error) < 0)
        KP_ASSERT(error.message[0] != '\0');
    else
        KP_ASSERT(config.timeout_ms >= 0);
    read_annotations(data, len, arena);
    return 0;
}
