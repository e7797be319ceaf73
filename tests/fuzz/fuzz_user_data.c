/* User data, config drives and DHCP answers: whatever a cloud hands a machine is a config, or refused. */
#include "nodeimage/init/init_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf text = {0}, batch = {0}, resolv_conf = {0};
    KP_AUTO_FREE char *answer = kp_strndup((const char *)data, size);
    struct init_config config;
    if (init_decode_user_data(data, size, &text, NULL) == 0) {
        KP_ASSERT(text.len <= INIT_BOOTSTRAP_MAX);
        if (init_config_parse(text.data ? text.data : "", text.len, arena, &config, NULL) == 0)
            KP_ASSERT(!kp_empty(config.hostname));
    }
    (void)init_is_config_drive(data, size, data, size);
    if (init_dhcp_commands("eth0", 0, answer, &batch, &resolv_conf, NULL) == 0)
        KP_ASSERT(!strpbrk(batch.data, ";$`'\"&|")); /* only addresses and our own words */
    return 0;
}
