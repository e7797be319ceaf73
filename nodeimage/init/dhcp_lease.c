/* When a lease is to be renewed, and by whom: RFC 2131 4.4.5. Pure. */
#include "dhcp_internal.h"

#define RETRY_MS_MIN 60000 /* the standard's least pause between two requests; of short leases a sixteenth, or nobody would be asked twice */

void dhcp_lease_begin(struct dhcp_lease *lease, int64_t now_ms, uint32_t lease_s, uint32_t t1_s, uint32_t t2_s)
{
    uint32_t t2 = t2_s && t2_s < lease_s ? t2_s : lease_s - lease_s / 8;
    uint32_t t1 = t1_s && t1_s < t2 ? t1_s : KP_MIN(lease_s / 2, t2);
    *lease = (struct dhcp_lease){
        .state = DHCP_BOUND, .t1_ms = now_ms + t1 * 1000LL, .t2_ms = now_ms + t2 * 1000LL, .end_ms = now_ms + lease_s * 1000LL,
    };
    lease->next_ms = lease->t1_ms;
}

/* Half of what is left, as long as that is worth it. */
static int64_t retry_ms(const struct dhcp_lease *lease, int64_t now_ms, int64_t until_ms)
{
    int64_t least = KP_MIN((int64_t)RETRY_MS_MIN, KP_MAX((lease->end_ms - lease->t1_ms) / 8, (int64_t)1000));
    return KP_MIN(now_ms + KP_MAX((until_ms - now_ms) / 2, least), until_ms);
}

bool dhcp_lease_due(struct dhcp_lease *lease, int64_t now_ms)
{
    if (lease->state == DHCP_EXPIRED || now_ms < lease->next_ms)
        return false;
    lease->state = now_ms >= lease->end_ms ? DHCP_EXPIRED : now_ms >= lease->t2_ms ? DHCP_REBINDING : DHCP_RENEWING;
    if (lease->state == DHCP_EXPIRED)
        return false;
    lease->next_ms = retry_ms(lease, now_ms, lease->state == DHCP_RENEWING ? lease->t2_ms : lease->end_ms);
    return true;
}

void dhcp_lease_hurry(struct dhcp_lease *lease, int64_t now_ms)
{
    if (lease->state == DHCP_BOUND)
        lease->next_ms = lease->t1_ms = KP_MIN(lease->t1_ms, now_ms);
}
