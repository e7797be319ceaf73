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
struct etcd_client {
    struct loop *loop;
    struct tls_context *tls;
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
/* One member; an error names its endpoint. */
int etcd_call_one(struct etcd_client *client, size_t endpoint, const struct etcd_call *call, struct kp_arena *arena,
                  ProtobufCMessage **ret, struct kp_error *error) KP_NODISCARD;
/* Any member: the one that answered last, else those that are healthy, the leader first. */
int etcd_call_any(struct etcd_client *client, const struct etcd_call *call, struct kp_arena *arena, ProtobufCMessage **ret,
                  struct kp_error *error) KP_NODISCARD;
/* The voters that are healthy, the leader first; KP_EUNAVAILABLE says of each endpoint what is wrong with it. */
int etcd_healthy_endpoints(struct etcd_client *client, struct kp_arena *arena, size_t out[ETCD_CLIENT_ENDPOINTS_MAX], size_t *ret_len,
                           struct kp_error *error) KP_NODISCARD;
/* Sets `apart`, by the leaders that the members name. */
void etcd_mark_apart(struct etcd_member_status *status, size_t n);

#endif
