/* Writing protobuf by hand where stored records go out as they are: responses and watch events. */
#ifndef ETCD_ENCODE_INTERNAL_H
#define ETCD_ENCODE_INTERNAL_H

#include "controlplane/etcd/mvcc/mvcc.h"

/* Zero numbers, false and empty bytes are left out, as proto3 does. */
void encode_number(struct kp_buf *out, unsigned field, int64_t value);
void encode_bytes(struct kp_buf *out, unsigned field, const void *data, size_t len);
/* A message or repeated bytes: written also when empty. */
void encode_message(struct kp_buf *out, unsigned field, const void *data, size_t len);
static inline void encode_string(struct kp_buf *out, unsigned field, const char *s)
{
    encode_bytes(out, field, s, s ? strlen(s) : 0);
}
/* Starts a message of unknown length: returns where it begins; encode_end closes it. */
size_t encode_begin(struct kp_buf *out, unsigned field);
void encode_end(struct kp_buf *out, size_t begin);
/* RangeResponse without its header. */
void encode_range(struct kp_buf *out, const struct mvcc_range_result *result, bool keys_only);
/* mvccpb.Event as field of a WatchResponse. */
void encode_event(struct kp_buf *out, unsigned field, const struct mvcc_event *event, bool with_prev);
/* A message on its way as gRPC frames it: frame_begin makes room for the frame's header in an empty buffer, frame_take
   fills it in and gives all as a blob, emptying the buffer. */
void frame_begin(struct kp_buf *out);
struct kp_blob *frame_take(struct kp_buf *out);

#endif
