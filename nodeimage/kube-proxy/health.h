/* Health checks of Services that keep the client's address: outside balancers ask a node whether it has endpoints of its own. */
#ifndef KUBE_PROXY_HEALTH_H
#define KUBE_PROXY_HEALTH_H

#include "nodeimage/kube-proxy/proxy.h"

struct proxy_health_port {
    int32_t port;
    const char *ns, *name;
    size_t endpoints; /* ready, of this node */
};
/* In the arena, ordered as the Services are; borrows from the input. */
size_t proxy_health_ports(const struct proxy_input *input, struct kp_arena *arena, struct proxy_health_port **ret_ports);
/* What is answered. */
int proxy_health_status(const struct proxy_health_port *port, struct kp_buf *body);

/* The sockets. One thread calls; http handlers run on threads of their own. */
struct proxy_health;
int proxy_health_new(struct proxy_health **ret_health, struct kp_error *error) KP_NODISCARD;
void proxy_health_free(struct proxy_health *health); /* accepts NULL */
/* Opens, closes and tells anew. A port that cannot be opened is logged and tried again at the next call. */
void proxy_health_update(struct proxy_health *health, const struct proxy_health_port *ports, size_t count);

#endif
