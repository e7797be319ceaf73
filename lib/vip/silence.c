/* When a neighbour that answers no more counts as gone. */
#include "lib/vip/vip.h"

void vip_silence_asked(struct vip_silence *silence, int64_t now_ms)
{
    if (silence->asked == 0)
        silence->since_ms = now_ms;
    if (silence->asked < VIP_SILENCE_ASKED_MIN)
        silence->asked++;
}

void vip_silence_heard(struct vip_silence *silence)
{
    silence->heard = true;
    silence->asked = 0;
}

bool vip_silence_means_gone(const struct vip_silence *silence, int64_t for_ms, int64_t now_ms)
{
    return silence->heard && silence->asked >= VIP_SILENCE_ASKED_MIN && now_ms - silence->since_ms >= for_ms;
}
