/* What is the same in the responses of all watchers that are given one batch of events, encoded once. */
#include "controlplane/etcd/server/watch_internal.h"

#define SCRATCH_BYTES_MAX ((size_t)1 << 20) /* kept from batch to batch */

struct watch_encoded *watch_encoded_new(void) { return kp_calloc(1, sizeof(struct watch_encoded)); }

void watch_encoded_free(struct watch_encoded *encoded)
{
    if (!encoded)
        return;
    kp_blob_unref(encoded->events);
    kp_buf_done(&encoded->header);
    kp_buf_done(&encoded->scratch);
    free(encoded);
}

void watch_encode(struct watch_encoded *encoded, struct etcd_server *server, const struct mvcc_watch_batch *batch)
{
    if (encoded->batch_id == batch->id)
        return;
    struct kp_buf *scratch = &encoded->scratch;
    encoded->batch_id = batch->id;
    encoded->now_ms = kp_mono_ms();
    encoded->header.len = scratch->len = 0;
    encode_header(server, &encoded->header, batch->revision);
    for (size_t i = 0; i < batch->len; i++)
        encode_event(scratch, WATCH_EVENTS, batch->events[i], batch->with_prev);
    kp_blob_unref(encoded->events);
    encoded->events = kp_blob_new(scratch->data, scratch->len);
    if (scratch->cap > SCRATCH_BYTES_MAX)
        kp_buf_done(scratch);
}
