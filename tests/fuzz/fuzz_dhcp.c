/* What comes in at DHCP's port: an answer whose lines become commands, or nothing. */
#include "nodeimage/init/dhcp_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct dhcp_client client = {{2, 0, 0, 0, 0, 1}};
    KP_AUTO_BUF struct kp_buf answer = {0}, batch = {0}, resolv_conf = {0};
    struct dhcp_answer given;
    struct dhcp_lease lease;
    if (dhcp_parse(&client, 0x12345678, data, size, &given, &answer) < 0 || given.refused) {
        KP_ASSERT(answer.len == 0);
        return 0;
    }
    KP_ASSERT(strspn(answer.data, "abcdefghijklmnopqrstuvwxyz=0123456789./ \n") == answer.len);
    dhcp_lease_begin(&lease, 0, given.lease_s, given.t1_s, given.t2_s);
    KP_ASSERT(lease.t1_ms <= lease.t2_ms && lease.t2_ms <= lease.end_ms);
    (void)init_dhcp_commands("eth0", 0, answer.data, &batch, &resolv_conf, NULL);
    return 0;
}
