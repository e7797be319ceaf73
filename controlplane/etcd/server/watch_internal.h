/* Between the Watch service and what sends for it. */
#ifndef ETCD_WATCH_INTERNAL_H
#define ETCD_WATCH_INTERNAL_H

#include "controlplane/etcd/server/rpc_internal.h"

/* WatchResponse's fields */
enum { WATCH_ID = 2, WATCH_CREATED = 3, WATCH_CANCELED = 4, WATCH_COMPACT = 5, WATCH_REASON = 6, WATCH_FRAGMENT = 7, WATCH_EVENTS = 11 };

/* The responses of one stream in order. Counted; any thread. */
struct watch_out;
struct watch_out *watch_out_new(struct etcd_server *server, struct grpc_stream *grpc);
void watch_out_unref(struct watch_out *out);
/* Begins a WatchResponse: whatever is appended until watch_out_end is part of it. Held locked meanwhile. */
struct kp_buf *watch_out_begin(struct watch_out *out);
void watch_out_end(struct watch_out *out); /* the loop will send it, with all else that is gathered by then */
/* The events of the response of a batch and its header, encoded once for all who are given the batch; the rest is their id.
   Under the watch lock. */
struct watch_encoded {
    uint64_t batch_id;
    int64_t now_ms; /* about when */
    struct kp_buf header, scratch;
    struct kp_blob *events;
};
struct watch_encoded *watch_encoded_new(void);
void watch_encoded_free(struct watch_encoded *encoded);
void watch_encode(struct watch_encoded *encoded, struct etcd_server *server, const struct mvcc_watch_batch *batch);
/* Adds a whole response. */
void watch_out_add(struct watch_out *out, const struct watch_encoded *encoded, int64_t watch_id);
void watch_out_flush(struct watch_out *out); /* loop: sends now */
/* More than WATCH_QUEUED_MAX or WATCH_UNSENT_MAX is unsent; the stream's on_drain follows, which calls watch_out_drained. */
bool watch_out_is_full(struct watch_out *out);
void watch_out_drained(struct watch_out *out);

#endif
