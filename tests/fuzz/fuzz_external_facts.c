/* What a machine says of itself: any bytes give a list of problems or none, and never more than there are rules. */
#include "lib/cloud/external/external_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_FREE char *text = kp_strndup((const char *)data, size);
    struct kp_strings problems = {0};
    const struct external_wanted wanted = {.arch = "x86_64", .control_plane = size & 1, .now_s = 1000, .clock_error_s = 1};
    external_check_facts(text, &wanted, arena, &problems);
    KP_ASSERT(problems.len < 64);
    for (size_t i = 0; i < problems.len; i++)
        KP_ASSERT(*problems.items[i]);
    kp_strings_done(&problems);
    return 0;
}
