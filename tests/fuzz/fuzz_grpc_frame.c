/* Feeds arbitrary bytes, in pieces of arbitrary size, to the frame cutter and what it cuts to the message decoder. */
#include "lib/grpc/grpc.h"

#include "proto/etcd.pb-c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void decode(struct kp_bytes message, struct kp_arena *arena)
{
    static const ProtobufCMessageDescriptor *const types[] = {
        &etcdserverpb__txn_request__descriptor,
        &etcdserverpb__watch_request__descriptor,
        &etcdserverpb__range_response__descriptor,
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(types); i++) {
        const ProtobufCMessage *decoded = grpc_unpack(types[i], arena, message.data, message.len);
        if (decoded) { /* what decodes must pack again */
            struct kp_blob *again = grpc_pack(decoded);
            KP_ASSERT(again->len >= 5);
            kp_blob_unref(again);
        }
        kp_arena_reset(arena);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 1)
        return 0;
    size_t piece = (size_t)data[0] + 1;
    struct grpc_frames frames = {.message_bytes_max = 4096};
    struct kp_arena *arena = kp_arena_new(1 << 20);
    int rc = 0;
    for (size_t at = 1; at < len && rc >= 0; at += piece) {
        grpc_frames_feed(&frames, data + at, KP_MIN(piece, len - at));
        struct kp_bytes message;
        while ((rc = grpc_frames_next(&frames, &message)) > 0)
            decode(message, arena);
    }
    grpc_frames_done(&frames);
    kp_arena_free(arena);
    return 0;
}
