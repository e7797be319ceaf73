/* Asks upstream servers: UDP from a port of its own for each query, TCP when an answer was cut, retries, cache. */
#include <netinet/in.h>

#include "nodeimage/dns/dns_internal.h"

/* UDP -> (answer | TC: TCP | try over: next upstream, UDP) ... -> done. */
struct forward {
    struct dns_forwarder *owner;
    struct forward *prev, *next;
    struct dns_name name;
    uint16_t type, id;
    bool checking_disabled, dnssec_ok;
    unsigned tries;
    size_t upstream;
    struct sockaddr_storage address; /* of this try: the list may change meanwhile */
    struct loop_udp *udp;
    struct loop_connect *connect;
    struct loop_stream *stream;
    struct kp_buf received; /* over TCP */
    struct loop_timer *timer;
    dns_forward_fn fn;
    void *arg;
};
struct dns_forwarder {
    struct loop *loop;
    struct dns_upstreams upstreams;
    size_t preferred; /* the upstream that answered last */
    struct dns_cache *cache;
    struct forward *first;
    size_t count;
    int64_t try_ms;
    struct kp_metric *hits, *misses, *requests, *failures;
};

static void try_next(struct forward *f);

struct dns_forwarder *dns_forwarder_new(struct loop *loop, struct dns_upstreams *upstreams)
{
    static const char *const labels[] = {"proto", NULL};
    struct dns_forwarder *forwarder = kp_calloc(1, sizeof(*forwarder));
    forwarder->loop = loop;
    forwarder->try_ms = DNS_FORWARD_TRY_MS;
    forwarder->cache = dns_cache_new();
    forwarder->hits = kp_counter("kprov_dns_cache_hits_total", "Upstream answers served from the cache.", NULL);
    forwarder->misses = kp_counter("kprov_dns_cache_misses_total", "Questions that went upstream.", NULL);
    forwarder->requests = kp_counter("kprov_dns_forward_requests_total", "Queries sent to upstream servers.", labels);
    forwarder->failures = kp_counter("kprov_dns_forward_failures_total", "Questions no upstream server answered.", NULL);
    dns_forwarder_set(forwarder, upstreams);
    return forwarder;
}

void dns_forwarder_set(struct dns_forwarder *forwarder, struct dns_upstreams *upstreams)
{
    dns_upstreams_done(&forwarder->upstreams);
    forwarder->upstreams = *upstreams;
    *upstreams = (struct dns_upstreams){0};
    forwarder->preferred = 0;
}

void dns_forwarder_set_try_ms(struct dns_forwarder *forwarder, int64_t try_ms)
{
    forwarder->try_ms = try_ms;
}

static void close_sockets(struct forward *f)
{
    loop_udp_free(f->udp);
    if (f->connect)
        loop_connect_cancel(f->connect);
    loop_stream_close(f->stream);
    kp_buf_done(&f->received);
    f->udp = NULL;
    f->connect = NULL;
    f->stream = NULL;
}

/* Ends the query; data NULL is failure. */
static void finish(struct forward *f, const uint8_t *data, size_t len)
{
    struct dns_forwarder *owner = f->owner;
    struct kp_buf received = f->received; /* data may be in it */
    f->received = (struct kp_buf){0};
    close_sockets(f);
    loop_timer_free(f->timer);
    if (f->prev)
        f->prev->next = f->next;
    else
        owner->first = f->next;
    if (f->next)
        f->next->prev = f->prev;
    owner->count--;
    if (!data)
        kp_metric_add(owner->failures, 1);
    f->fn(data, len, 0, f->arg);
    kp_buf_done(&received);
    free(f);
}

void dns_forwarder_free(struct dns_forwarder *forwarder)
{
    if (!forwarder)
        return;
    while (forwarder->first)
        finish(forwarder->first, NULL, 0);
    dns_upstreams_done(&forwarder->upstreams);
    dns_cache_free(forwarder->cache);
    free(forwarder);
}

static uint8_t variant(const struct forward *f)
{
    return (uint8_t)(f->checking_disabled | f->dnssec_ok << 1);
}

/* A good answer ends the query, a refusal makes the next upstream's turn. */
static void take_answer(struct forward *f, const uint8_t *data, size_t len, const struct dns_response *response)
{
    struct dns_forwarder *owner = f->owner;
    bool refused = response->rcode != DNS_NOERROR && response->rcode != DNS_NXDOMAIN;
    if (refused && f->tries < KP_MIN(owner->upstreams.len, (size_t)DNS_FORWARD_TRIES)) {
        try_next(f);
        return;
    }
    if (!refused && f->upstream < owner->upstreams.len)
        owner->preferred = f->upstream;
    dns_cache_put(owner->cache, &f->name, f->type, variant(f), data, len, response->ttl_s, loop_now_ms(owner->loop));
    finish(f, data, len);
}

static void on_stream_read(struct loop_stream *stream, const uint8_t *data, size_t len, void *arg)
{
    struct forward *f = arg;
    struct dns_response response;
    kp_buf_append(&f->received, data, KP_MIN(len, 2 + DNS_TCP_MAX - f->received.len));
    if (f->received.len < 2)
        return;
    const uint8_t *bytes = (const uint8_t *)f->received.data;
    size_t want = dns_get16(bytes);
    if (f->received.len < 2 + want)
        return;
    if (dns_response_parse(bytes + 2, want, &f->name, f->type, &response) < 0 || response.id != f->id || response.truncated)
        try_next(f);
    else
        take_answer(f, bytes + 2, want, &response);
}

static void on_stream_eof(struct loop_stream *stream, void *arg)
{
    try_next(arg);
}

static void on_stream_error(struct loop_stream *stream, const struct kp_error *error, void *arg)
{
    try_next(arg);
}

static void on_connect(struct loop_stream *stream, const struct kp_error *error, void *arg)
{
    static const struct loop_stream_callbacks callbacks = {.on_read = on_stream_read, .on_eof = on_stream_eof, .on_error = on_stream_error};
    struct forward *f = arg;
    uint8_t query[2 + DNS_UDP_MIN];
    f->connect = NULL;
    if (!stream) {
        try_next(f);
        return;
    }
    f->stream = stream;
    size_t n = dns_write_query(query + 2, DNS_UDP_MIN, f->id, &f->name, f->type, f->checking_disabled, f->dnssec_ok);
    dns_set16(query, (uint16_t)n);
    loop_stream_set_callbacks(stream, &callbacks, f);
    loop_stream_resume(stream);
    loop_stream_write(stream, query, n + 2);
}

static uint16_t port_of(const struct sockaddr_storage *address)
{
    return ntohs(address->ss_family == AF_INET ? ((const struct sockaddr_in *)address)->sin_port : ((const struct sockaddr_in6 *)address)->sin6_port);
}

/* The address without its port, as loop_connect_tcp takes it. */
static void host_of(const struct sockaddr_storage *address, char out[LOOP_ADDRESS_MAX])
{
    char text[LOOP_ADDRESS_MAX];
    loop_sockaddr_format((const struct sockaddr *)address, text);
    char *colon = strrchr(text, ':');
    KP_ASSERT(colon);
    *colon = 0;
    size_t n = strlen(text);
    if (text[0] == '[' && n >= 2)
        snprintf(out, LOOP_ADDRESS_MAX, "%.*s", (int)(n - 2), text + 1);
    else
        memcpy(out, text, n + 1);
}

static void start_tcp(struct forward *f)
{
    char host[LOOP_ADDRESS_MAX];
    host_of(&f->address, host);
    close_sockets(f);
    f->id = (uint16_t)kp_random_u64();
    kp_metric_add(f->owner->requests, 1, "tcp");
    loop_timer_start(f->timer, f->owner->try_ms, 0);
    f->connect = loop_connect_tcp(f->owner->loop, host, port_of(&f->address), f->owner->try_ms * 2, on_connect, f);
}

static bool same_address(const struct sockaddr *a, const struct sockaddr_storage *b)
{
    char x[LOOP_ADDRESS_MAX], y[LOOP_ADDRESS_MAX];
    loop_sockaddr_format(a, x);
    loop_sockaddr_format((const struct sockaddr *)b, y);
    return kp_streq(x, y);
}

/* Datagrams that are not the answer are passed over: somebody may be guessing. */
static void on_datagram(struct loop_udp *udp, const uint8_t *data, size_t len, const struct sockaddr *from, void *arg)
{
    struct forward *f = arg;
    struct dns_response response;
    if (!same_address(from, &f->address) || dns_response_parse(data, len, &f->name, f->type, &response) < 0 || response.id != f->id)
        return;
    if (response.truncated)
        start_tcp(f);
    else
        take_answer(f, data, len, &response);
}

static void try_next(struct forward *f)
{
    struct dns_forwarder *owner = f->owner;
    uint8_t query[DNS_UDP_MIN];
    close_sockets(f);
    if (f->tries == DNS_FORWARD_TRIES || owner->upstreams.len == 0) {
        finish(f, NULL, 0);
        return;
    }
    f->upstream = (owner->preferred + f->tries++) % owner->upstreams.len;
    f->address = owner->upstreams.items[f->upstream];
    f->id = (uint16_t)kp_random_u64();
    struct kp_error error = {0};
    const char *any = f->address.ss_family == AF_INET ? "0.0.0.0" : "::";
    loop_timer_start(f->timer, f->owner->try_ms, 0);
    kp_metric_add(owner->requests, 1, "udp");
    if (loop_udp_open(owner->loop, any, 0, on_datagram, f, &f->udp, &error) < 0) {
        kp_error_log("no socket for an upstream query", "error", error.message, NULL);
        return; /* the timer goes on with the next try */
    }
    size_t n = dns_write_query(query, sizeof(query), f->id, &f->name, f->type, f->checking_disabled, f->dnssec_ok);
    if (loop_udp_send(f->udp, query, n, (const struct sockaddr *)&f->address) < 0)
        try_next(f); /* no route: no use in waiting */
}

static void on_timeout(void *arg)
{
    try_next(arg);
}

void dns_forward(struct dns_forwarder *forwarder, const struct dns_name *name, uint16_t type, bool checking_disabled, bool dnssec_ok,
                 dns_forward_fn fn, void *arg)
{
    uint8_t bits = (uint8_t)(checking_disabled | dnssec_ok << 1);
    size_t len;
    uint32_t age_s;
    const uint8_t *data = dns_cache_get(forwarder->cache, name, type, bits, loop_now_ms(forwarder->loop), &len, &age_s);
    if (data) {
        kp_metric_add(forwarder->hits, 1);
        fn(data, len, age_s, arg);
        return;
    }
    kp_metric_add(forwarder->misses, 1);
    if (forwarder->count == DNS_FORWARDS_MAX || forwarder->upstreams.len == 0) {
        kp_metric_add(forwarder->failures, 1);
        fn(NULL, 0, 0, arg);
        return;
    }
    struct forward *f = kp_calloc(1, sizeof(*f));
    *f = (struct forward){.owner = forwarder, .name = *name, .type = type, .checking_disabled = checking_disabled, .dnssec_ok = dnssec_ok,
                          .fn = fn, .arg = arg, .next = forwarder->first};
    if (f->next)
        f->next->prev = f;
    forwarder->first = f;
    forwarder->count++;
    f->timer = loop_timer_new(forwarder->loop, on_timeout, f);
    try_next(f);
}
