/* vol_data.json: any bytes are refused or read, and what was read is written and read alike. */
#include "nodeimage/kubelet/csi/csi_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kp_arena *arena = kp_arena_new(0);
    struct csi_data first, again;
    struct kp_buf text = {0};
    if (csi_data_parse((const char *)data, size, arena, &first, NULL) == 0) {
        csi_data_format(&first, &text);
        KP_ASSERT(csi_data_parse(text.data, text.len, arena, &again, NULL) == 0);
        KP_ASSERT(kp_streq(first.handle, again.handle) && kp_streq(first.driver, again.driver) && first.attaching == again.attaching);
    }
    kp_buf_done(&text);
    kp_arena_free(arena);
    return 0;
}
