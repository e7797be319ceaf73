/* The load generator: one thread, closed loops of prebuilt gRPC frames over many connections, as cheap as it can be made,
   since it shares the machine with what it measures. */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include "base/base.h"
#include "tls/tls.h"

#define SLOTS 256           /* streams of a connection that may be open at once; a power of two */
#define ANSWER_MAX 4096     /* bytes of an answer that are kept for reading */
#define CONNECTIONS_MAX 2048

/* ---- one stream's answer ---- */
enum event_part { PART_FRAME, PART_TAG, PART_VARINT, PART_LENGTH, PART_SKIP };
struct stream {
    uint32_t id;          /* 0: free */
    uint32_t unacked;     /* received since the last window update */
    int64_t started_ns;
    struct client *client;
    bool data;            /* a message came: the call went well */
    /* of watchers: where in the bytes of WatchResponses we are */
    enum event_part part;
    uint8_t frame[5];
    uint32_t frame_at, message_left, skip;
    uint64_t number;
    unsigned shift, field;
    size_t watch_id;      /* of the response at hand */
    bool keep;            /* the event at hand is looked at whole, ... */
    size_t event_len;
    uint8_t event[1024];  /* ... so far as the revisions stand in it */
};

/* One watch of a stream: each must get every put once and in the order of revisions. */
struct watched {
    uint64_t events;
    int64_t revision; /* of the last one that was looked at */
};
#define LOOKED_AT 16 /* one watch in so many has its events decoded; of all others they are counted */

/* ---- conn.c: HTTP/2 over a socket, with or without TLS ---- */
struct load;
struct conn {
    struct load *load;
    int fd;
    struct tls_session *tls;
    bool ready, told_path, want_write, dirty;
    uint32_t next_id;
    int64_t window;      /* what we may send on the connection */
    uint32_t unacked;
    struct kp_buf in, out, wire; /* wire: encrypted, or out itself */
    size_t wire_at;
    struct client **parked; /* have no window to send in */
    size_t parked_len;
    struct stream *streams[SLOTS];
    struct conn *next_dirty;
};
int conn_open(struct load *load, struct conn *conn, const char *endpoint, struct kp_error *error);
void conn_close(struct conn *conn);
/* Begins a call with what message holds, framed messages; watch streams stay open. False: no window now, and parked. */
bool conn_call(struct conn *conn, struct client *client, const struct kp_buf *message, bool end);
void conn_readable(struct conn *conn);
void conn_flush(struct conn *conn); /* writes what a turn gathered */

/* ---- load.c: workloads ---- */
enum kind { KIND_PUT, KIND_RANGE, KIND_TXN, KIND_WATCH, KIND_FILL, KIND_READY };
struct client {
    struct conn *conn;
    size_t number;
    int64_t revision; /* of its own key, for transactions */
    int64_t sent_ns;
    bool is_watcher;
    struct watched *watched; /* by watch id */
    struct kp_buf message;
    uint8_t answer[ANSWER_MAX];
    size_t answer_len;
};
#define BUCKETS 2048
struct load {
    enum kind kind;
    /* options */
    const char *endpoints, *ca, *cert, *key, *prefix;
    int64_t connections, clients, keys, value_bytes, limit, watchers, streams, duration_ns, total, operations;
    bool serializable;
    struct kp_strings endpoint_list;
    struct tls_context *tls;
    int epoll;
    struct conn *conns, *dirty;
    struct client *client_list;
    uint64_t random, next_key;
    int64_t now_ns, start_ns, stop_ns, last_event_ns;
    bool stopping;
    uint64_t started, done, errors, bytes_in, events, decoded, watches_ready;
    uint64_t histogram[BUCKETS];
    int64_t latency_max_ns;
    uint8_t *value;
};
const char *load_path(const struct load *load, const struct client *client);
/* The next request of a client into client->message, and off it goes. */
void load_next(struct load *load, struct client *client);
void load_answered(struct load *load, struct stream *stream, bool ok);
void load_watched(struct load *load, struct stream *stream); /* a field of a WatchResponse: its number, and value or length */
void load_event(struct load *load, struct stream *stream);   /* one that was kept */
void load_check_watched(struct load *load);                  /* at the end: has every watch got all? */
_Noreturn void load_die(const char *what, const struct kp_error *error);

/* Protobuf, as little as is needed. */
void pb_varint(struct kp_buf *out, uint64_t value);
void pb_bytes(struct kp_buf *out, unsigned field, const void *data, size_t len);
void pb_number(struct kp_buf *out, unsigned field, uint64_t value);
/* The number of a field, or the bytes of a message, anywhere on the top level; false when absent. */
bool pb_find(struct kp_bytes message, unsigned field, struct kp_bytes *ret_bytes, uint64_t *ret_number);

#endif
