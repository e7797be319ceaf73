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
/* A whole response of one event without the record before it; *ret_now_ms is about now. False when full. */
bool watch_out_event(struct watch_out *out, struct etcd_server *server, const struct mvcc_event *event, int64_t revision,
                     int64_t watch_id, int64_t *ret_now_ms);
void watch_out_flush(struct watch_out *out); /* loop: sends now */
/* More than WATCH_QUEUED_MAX is unsent; the stream's on_drain follows, which calls watch_out_drained. */
bool watch_out_is_full(struct watch_out *out);
void watch_out_drained(struct watch_out *out);

#endif
