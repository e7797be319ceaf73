/* Answers of Hetzner's API: any JSON is read as a server, a load balancer or an error without a fault, and any text as a network or a rate. */
#include "lib/cloud/hetzner/hetzner_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(json_decref) json_t *answer = NULL;
    KP_AUTO_BUF struct kp_buf text = {0};
    struct cloud_machine machine;
    struct cloud_balancer balancer;
    struct kp_error error = {0};
    struct hz_range range;
    struct hz_rate rate;
    const char *raw = kp_arena_strndup(arena, (const char *)data, size);
    if (hz_range_parse(raw, &range))
        KP_ASSERT(range.bits >= 0 && range.bits <= 32 && hz_range_overlaps(&range, &range));
    if (hz_rate_read(raw, raw, raw, &rate))
        KP_ASSERT(rate.limit > 0 && hz_pace_ms(&rate, 500) >= 500 && hz_retry_after_ms(&rate, 0) >= 0);
    int r = rest_json_parse((const char *)data, size, &answer, &error);
    KP_ASSERT((r == 0) == (answer != NULL));
    hz_error_text(&text, answer);
    KP_ASSERT(text.len > 0 && hz_code(404, rest_json_text(answer, "error/code")) < 0);
    hz_server_read(answer, arena, &machine);
    KP_ASSERT(machine.name && machine.cluster_uid && machine.role && machine.pool && machine.image && machine.address && machine.zone && machine.machine_type);
    hz_balancer_read(answer, arena, &balancer);
    KP_ASSERT(balancer.name && balancer.address && (balancer.state != CLOUD_BALANCER_ACTIVE || *balancer.address));
    KP_ASSERT(strlen(hz_location_of(answer, "cp-2", arena)) <= size);
    (void)hz_service_same(answer, answer);
    return 0;
}
