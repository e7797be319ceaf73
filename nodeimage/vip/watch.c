/* Asks the link who has the API's address: a machine that lost its power or its cable answers at no time, a busy one at once. */
#include "nodeimage/vip/watch.h"

#include "lib/vip/vip.h"

#include <arpa/inet.h>

#define ASK_MS 200
#define GONE_MS 1000

struct vip_watch {
    struct netlink_ear *ear;
    uint32_t address_be;
    struct vip_silence silence;
    int64_t asked_ms;
    char *holder;
};

int vip_watch_new(const struct netlink_link *link, const char *address, struct vip_watch **ret_watch, struct kp_error *error)
{
    struct vip_watch *watch = kp_calloc(1, sizeof(*watch));
    if (inet_pton(AF_INET, address, &watch->address_be) != 1)
        kp_fail(error, KP_EINVALID, "%s is no IPv4 address", address);
    else if (netlink_ear_new(link, &watch->ear, error) == 0) {
        *ret_watch = watch;
        return 0;
    }
    vip_watch_free(watch);
    return error->code;
}

void vip_watch_free(struct vip_watch *watch)
{
    if (!watch)
        return;
    netlink_ear_free(watch->ear);
    free(watch->holder);
    free(watch);
}

bool vip_watch_is_gone(struct vip_watch *watch, const char *holder)
{
    struct kp_error error = {0};
    uint32_t sender_be;
    if (!kp_streq(watch->holder, holder)) {
        free(watch->holder);
        watch->holder = kp_strdup(holder);
        watch->silence = (struct vip_silence){0};
    }
    while (netlink_ear_next(watch->ear, &sender_be))
        if (sender_be == watch->address_be)
            vip_silence_heard(&watch->silence);
    int64_t now_ms = kp_mono_ms();
    bool gone = vip_silence_means_gone(&watch->silence, GONE_MS, now_ms);
    if (now_ms - watch->asked_ms < ASK_MS)
        return gone;
    watch->asked_ms = now_ms;
    if (netlink_ear_ask(watch->ear, watch->address_be, &error) == 0)
        vip_silence_asked(&watch->silence, now_ms);
    else
        kp_debug("the holder of the address is not asked for", "error", error.message, NULL);
    return gone;
}
