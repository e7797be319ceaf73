/* What the files of the etcd client share. */
#ifndef APISERVER_STORAGE_INTERNAL_H
#define APISERVER_STORAGE_INTERNAL_H

#include "controlplane/apiserver/storage/storage.h"

#include "lib/grpc/grpc.h"
#include "lib/tls/tls.h"

#include "proto/etcd.pb-c.h"

#include <pthread.h>

struct store {
    struct loop *loop;
    struct tls_context *tls;
    struct grpc_channel *channel;
    pthread_mutex_t mutex; /* the lease being shared */
    int64_t lease, lease_ttl_s, lease_at_ms;
};

static inline ProtobufCBinaryData store_bytes(const void *data, size_t len)
{
    return (ProtobufCBinaryData){.len = len, .data = (uint8_t *)(uintptr_t)data};
}

/* Strings and values are copied into the arena. */
void store_kv_from(const Mvccpb__KeyValue *kv, struct kp_arena *arena, struct store_kv *ret);

#endif
