/* The load of a fault run: clients that write, read and hold leases, watchers that resume, probes that time the leader's
   absence - all of it written down as a history. */
#ifndef SIM_REAL_LOAD_H
#define SIM_REAL_LOAD_H

#include "lib/grpc/grpc.h"
#include "lib/tls/tls.h"
#include "proto/etcd.pb-c.h"
#include "tests/check/history.h"

#include <pthread.h>
#include <stdatomic.h>

#define LOAD_ENDPOINTS_MAX 7
#define LOAD_KEYS 40
#define LOAD_GAPS_MAX 1024
#define LOAD_ENDLESS ((struct history_bytes){"", 1}) /* a range end of one zero byte */

struct load {
    struct history *history;
    struct loop *loop;
    struct tls_context *tls;
    const char *endpoints[LOAD_ENDPOINTS_MAX];
    size_t endpoint_count;
    uint64_t seed;
    atomic_bool stopping;    /* clients and probes end */
    atomic_bool bloating;    /* large values until NOSPACE */
    atomic_int_fast64_t compact_keep; /* all but so many revisions are to be compacted; -1: nothing is */
    atomic_int_fast64_t revision; /* the highest seen */
    atomic_uint_fast64_t term;    /* of raft, the highest seen */
    /* counters */
    atomic_uint_fast64_t ok, failed, unknown, acked_writes, events, breaks, compactions, bookmarks;
    atomic_int_fast64_t lost_ns; /* when a leader was lost and no write has been answered since; 0: none */
    atomic_int_fast64_t gaps_ns[LOAD_GAPS_MAX];
    atomic_size_t gap_count;
};

uint64_t load_random(uint64_t *state);
struct history_bytes load_text(const char *s);
/* One connection to one endpoint. Dies with a message when it cannot be made. */
struct grpc_channel *load_channel(struct load *load, size_t endpoint, int64_t timeout_ms);
void load_saw(struct load *load, const Etcdserverpb__ResponseHeader *header);
/* Values that end in ".L<n>" are filled up with "~" to n bytes on the wire; in histories the filling is left out. */
ProtobufCBinaryData load_value_fill(struct kp_arena *arena, struct history_bytes value);
struct history_bytes load_value_strip(ProtobufCBinaryData value);
struct history_kv load_kv(const Mvccpb__KeyValue *kv);

/* ---- operations (load_ops.c) ---- */
struct client {
    struct load *load;
    unsigned id;
    size_t at; /* the endpoint in use */
    uint64_t random;
    struct grpc_channel *channels[LOAD_ENDPOINTS_MAX];
    struct kp_arena *arena; /* of one operation */
    uint64_t serial;        /* of values */
    int64_t timeout_ms;
    char why[256];          /* of the last operation that was not answered well */
};
void client_init(struct client *client, struct load *load, unsigned id, int64_t timeout_ms);
void client_done(struct client *client);
/* Does it and writes it down. 1: answered, *ret_result is in the client's arena; 0: surely not done; -1: unknown. */
int client_do(struct client *client, const struct history_op *op, bool want_prev, struct history_result *ret_result,
              int64_t *ret_revision);
/* Packs requests; the caller of the probes uses it too. */
ProtobufCMessage *load_put_request(struct kp_arena *arena, const struct history_op *op, bool want_prev);
bool load_surely_not(enum grpc_status status, const char *why);

/* ---- the threads (load_clients.c) ---- */
void *client_main(void *arg); /* struct client_start, which it frees */
struct client_start {
    struct load *load;
    unsigned id;
};
void *bloat_main(void *arg); /* the same; large values while load->bloating */

/* ---- watchers (load_watch.c), probes (load_probe.c) ---- */
struct watch_pool;
struct watch_pool *watch_pool_start(struct load *load, size_t stream_count, bool manual_progress);
/* Waits until every watcher has seen the last write of its range (keys end with a write each), then ends them. Gives
   how many had not within the time. */
size_t watch_pool_finish(struct watch_pool *pool, int64_t timeout_ms);
struct probes;
struct probes *probes_start(struct load *load);
void probes_stop(struct probes *probes);

/* ---- the end (load_final.c) ---- */
/* 0, or how many things went wrong (printed). */
int load_final(struct load *load, struct watch_pool *pool);

#endif
