/* Which nodes are gone from the link: one that holds an address is asked by ARP once its lease is late, and once before, to know that it answers at all. */
#include "nodeimage/network/balancer/balancer.h"

#include <arpa/inet.h>

#define SILENT_MS 300
#define ASK_MS 100        /* while a lease is late */
#define FIRST_ASK_MS 5000 /* until it was heard once */
#define NODES_MAX 1024    /* then all are forgotten, and heard again */
#define HELD_MS 10000     /* who held an address so lately is watched */

struct neighbour {
    uint32_t address_be;
    struct vip_silence silence;
    int64_t asked_ms, held_ms;
    bool asked;
};
struct balancer_wire {
    struct netlink_ear *ear;
    struct kp_strmap *by_node; /* struct neighbour */
};

int balancer_wire_new(const struct netlink_link *link, struct balancer_wire **ret_wire, struct kp_error *error)
{
    struct balancer_wire *wire = kp_calloc(1, sizeof *wire);
    if (netlink_ear_new(link, &wire->ear, error) < 0) {
        free(wire);
        return error->code;
    }
    wire->by_node = kp_strmap_new();
    *ret_wire = wire;
    return 0;
}

void balancer_wire_free(struct balancer_wire *wire)
{
    if (!wire)
        return;
    netlink_ear_free(wire->ear);
    kp_strmap_free(wire->by_node, free);
    free(wire);
}

void balancer_wire_holds(struct balancer_wire *wire, const char *node, int64_t now_ms)
{
    struct neighbour *neighbour = kp_strmap_get(wire->by_node, node);
    if (!neighbour && kp_strmap_len(wire->by_node) >= NODES_MAX) {
        kp_strmap_free(wire->by_node, free);
        wire->by_node = kp_strmap_new();
    }
    if (!neighbour) {
        neighbour = kp_calloc(1, sizeof *neighbour);
        kp_strmap_put(wire->by_node, node, neighbour);
    }
    neighbour->held_ms = now_ms;
}

static void hear(struct balancer_wire *wire, uint32_t address_be)
{
    size_t iter = 0;
    const char *node;
    void *value;
    while (kp_strmap_next(wire->by_node, &iter, &node, &value)) {
        struct neighbour *neighbour = value;
        if (neighbour->address_be == address_be)
            vip_silence_heard(&neighbour->silence);
    }
}

void balancer_wire_listen(struct balancer_wire *wire)
{
    uint32_t address_be;
    while (netlink_ear_next(wire->ear, &address_be))
        hear(wire, address_be);
}

static void ask(struct balancer_wire *wire, struct neighbour *neighbour, int64_t now_ms)
{
    struct kp_error error = {0};
    if (neighbour->asked && now_ms - neighbour->asked_ms < (neighbour->silence.heard ? ASK_MS : FIRST_ASK_MS))
        return;
    neighbour->asked = true;
    neighbour->asked_ms = now_ms;
    if (netlink_ear_ask(wire->ear, neighbour->address_be, &error) == 0)
        vip_silence_asked(&neighbour->silence, now_ms);
    else
        kp_debug("a node is not asked for", "error", error.message, NULL);
}

bool balancer_wire_is_gone(struct balancer_wire *wire, const char *node, const char *address, bool late, int64_t now_ms)
{
    struct neighbour *neighbour = kp_strmap_get(wire->by_node, node);
    uint32_t address_be;
    if (!neighbour || now_ms - neighbour->held_ms >= HELD_MS || !address || inet_pton(AF_INET, address, &address_be) != 1)
        return false;
    if (neighbour->address_be != address_be)
        *neighbour = (struct neighbour){.address_be = address_be, .held_ms = neighbour->held_ms};
    if (!late)
        neighbour->silence.asked = 0; /* its kernel may have better things to do than to talk to us */
    bool gone = vip_silence_means_gone(&neighbour->silence, SILENT_MS, now_ms);
    if (late || !neighbour->silence.heard)
        ask(wire, neighbour, now_ms);
    return gone;
}
