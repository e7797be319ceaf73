/* Which nodes are alive: by when their leases were seen to change, so that clocks need not agree. */
#include "nodeimage/network/balancer/balancer.h"

struct seen {
    int64_t renewed_ns; /* as the lease says */
    int64_t seen_ms;    /* when it came to say so */
    bool settled;
};
struct balancer_peers {
    struct kp_strmap *by_node; /* struct seen */
};

struct balancer_peers *balancer_peers_new(void)
{
    struct balancer_peers *peers = kp_calloc(1, sizeof *peers);
    peers->by_node = kp_strmap_new();
    return peers;
}

void balancer_peers_free(struct balancer_peers *peers)
{
    if (!peers)
        return;
    kp_strmap_free(peers->by_node, free);
    free(peers);
}

static int64_t ns_of(struct kp_time time) { return time.seconds * 1000000000 + time.nanos; }

void balancer_peers_see(struct balancer_peers *peers, const struct k8s_lease *lease, int64_t now_ms)
{
    struct seen *seen = kp_strmap_get(peers->by_node, lease->metadata->name);
    int64_t renewed_ns = ns_of(lease->spec->renew_time);
    if (!seen) {
        seen = kp_calloc(1, sizeof *seen);
        kp_strmap_put(peers->by_node, lease->metadata->name, seen);
        now_ms -= BALANCER_DEAD_MS - 2 * BALANCER_RENEW_MS; /* it may be old: it has to be renewed soon */
    } else if (seen->renewed_ns == renewed_ns) {
        return;
    }
    seen->renewed_ns = renewed_ns;
    seen->seen_ms = now_ms;
    seen->settled = renewed_ns - ns_of(lease->spec->acquire_time) >= BALANCER_SETTLED_MS * INT64_C(1000000);
}

void balancer_peers_state(const struct balancer_peers *peers, const char *node, int64_t now_ms, struct vip_node *ret_node)
{
    const struct seen *seen = kp_strmap_get(peers->by_node, node);
    *ret_node = (struct vip_node){.name = node, .alive = seen && now_ms - seen->seen_ms < BALANCER_DEAD_MS, .settled = seen && seen->settled};
}

bool balancer_peers_is_late(const struct balancer_peers *peers, const char *node, int64_t now_ms)
{
    const struct seen *seen = kp_strmap_get(peers->by_node, node);
    return seen && now_ms - seen->seen_ms >= BALANCER_LATE_MS;
}
