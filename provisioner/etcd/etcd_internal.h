/* What the files of provisioner/etcd share. */
#ifndef KPROV_ETCD_INTERNAL_H
#define KPROV_ETCD_INTERNAL_H

#include <stdatomic.h>

#include "grpc/grpc.h"
#include "loop/loop.h"
#include "proto/etcd.pb-c.h"
#include "provisioner/etcd/etcd.h"

#define ETCD_ENDPOINT_NONE SIZE_MAX

struct etcd_endpoint {
    char *url;
    struct grpc_channel *channel; /* of this endpoint alone: which one answered is always known */
};
struct etcd_tunnels;
struct etcd_client {
    struct loop *loop;
    struct tls_context *tls;
    struct etcd_tunnels *tunnels; /* NULL: straight to the endpoints. The i-th leads to the i-th endpoint */
    struct etcd_endpoint endpoints[ETCD_CLIENT_ENDPOINTS_MAX];
    size_t len;
    atomic_size_t good; /* the endpoint that answered last, or ETCD_ENDPOINT_NONE */
};

struct etcd_call {
    const char *path;
    const ProtobufCMessage *request;
    const ProtobufCMessageDescriptor *response;
    int64_t timeout_ms;
};
/* Names the endpoint, and its tunnel's problem where there is one. Returns error->code. */
int etcd_wrap(struct etcd_client *client, size_t endpoint, const char *what, struct kp_error *error);
/* One member; an error names its endpoint. */
int etcd_call_one(struct etcd_client *client, size_t endpoint, const struct etcd_call *call, struct kp_arena *arena,
                  ProtobufCMessage **ret, struct kp_error *error) KP_NODISCARD;
/* Any member: the one that answered last, else those that are healthy, the leader first. */
int etcd_call_any(struct etcd_client *client, const struct etcd_call *call, struct kp_arena *arena, ProtobufCMessage **ret,
                  struct kp_error *error) KP_NODISCARD;
/* The voters that are healthy, the leader first; KP_EUNAVAILABLE says of each endpoint what is wrong with it. */
int etcd_healthy_endpoints(struct etcd_client *client, struct kp_arena *arena, size_t out[ETCD_CLIENT_ENDPOINTS_MAX], size_t *ret_len,
                           struct kp_error *error) KP_NODISCARD;
/* ---- tunnels through the API server: loopback listeners, each of which leads to the etcd of one node */
/* loop, running, is borrowed until the tunnels are closed; nodes, count of them, are copied. */
int etcd_tunnels_open(struct loop *loop, const struct client_config *api, const char *const *nodes, size_t count,
                      struct etcd_tunnels **ret, struct kp_error *error) KP_NODISCARD;
/* Any thread but the loop's; waits for connections to end (5 s at most). Accepts NULL. */
void etcd_tunnels_close(struct etcd_tunnels *tunnels);
KP_DEFINE_AUTO(struct etcd_tunnels *, etcd_tunnels_close)
const char *etcd_tunnels_url(const struct etcd_tunnels *tunnels, size_t i); /* "https://127.0.0.1:43210", borrowed */
/* Why the i-th did not get through the last time; false when it did. */
bool etcd_tunnels_problem(struct etcd_tunnels *tunnels, size_t i, char out[KP_ERROR_MESSAGE_MAX]);

/* Sets `apart`, by the leaders that the members name. */
void etcd_mark_apart(struct etcd_member_status *status, size_t n);

#endif
