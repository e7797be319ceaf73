/* The server's sockets: queries over UDP and TCP, answered from the zone or by way of the forwarder. */
#include <netinet/in.h>

#include "nodeimage/dns/dns_internal.h"

struct connection {
    struct dns_server *server;
    struct connection *prev, *next;
    struct loop_stream *stream; /* NULL: closed; it stays until nothing is pending */
    struct kp_buf received;
    size_t pending; /* requests that hold it */
    int64_t active_ms;
    bool paused, eof;
};
/* Where an answer goes, and what was asked. */
struct request {
    struct dns_server *server;
    struct dns_query query;
    struct connection *connection; /* NULL: UDP, to `from` */
    struct sockaddr_storage from;
    int64_t start_ns;
    bool follow; /* upstream is asked for what an alias of the zone leads to */
    struct dns_name target;
};
struct dns_server {
    struct loop *loop;
    struct dns_zone *zone;
    struct dns_forwarder *forwarder;
    struct loop_udp *udp;
    struct loop_listener *listener;
    struct loop_timer *sweep;
    struct connection *first;
    size_t connections;
    uint32_t rotation;
    int64_t idle_ms;
    struct kp_metric *requests, *responses, *seconds;
    uint8_t buf[2 + DNS_TCP_MAX]; /* the answer being written, behind its length */
};

static void close_connection(struct connection *c)
{
    struct dns_server *server = c->server;
    if (c->stream) {
        loop_stream_close(c->stream);
        c->stream = NULL;
        if (c->prev)
            c->prev->next = c->next;
        else
            server->first = c->next;
        if (c->next)
            c->next->prev = c->prev;
        server->connections--;
    }
    if (c->pending == 0) {
        kp_buf_done(&c->received);
        free(c);
    }
}

static const char *rcode_name(unsigned rcode)
{
    static const char *const names[] = {"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"};
    return rcode < KP_ARRAY_LEN(names) ? names[rcode] : "other";
}

static size_t limit_of(const struct request *r)
{
    return r->connection ? DNS_TCP_MAX : KP_MIN(r->query.udp_payload, DNS_UDP_MAX);
}

/* Sends the answer that stands in server->buf. */
static void send_answer(const struct request *r, size_t len)
{
    struct dns_server *server = r->server;
    uint8_t *message = server->buf + 2;
    if (r->connection && r->connection->stream) {
        dns_set16(server->buf, (uint16_t)len);
        r->connection->active_ms = loop_now_ms(server->loop);
        loop_stream_write(r->connection->stream, server->buf, len + 2);
    } else if (!r->connection && loop_udp_send(server->udp, message, len, (const struct sockaddr *)&r->from) < 0) {
        kp_debug("answer dropped", NULL); /* the client asks again */
    }
    kp_metric_add(server->responses, 1, rcode_name(message[3] & 0xf));
    kp_metric_observe(server->seconds, (double)(kp_mono_ns() - r->start_ns) / 1e9);
}

static void send_rcode(const struct request *r, enum dns_rcode rcode)
{
    send_answer(r, dns_write_rcode(r->server->buf + 2, limit_of(r), &r->query, rcode));
}

/* Upstream's answer, behind the aliases of the zone when some led there. */
static void send_upstream(const struct request *r, const uint8_t *data, size_t len, uint32_t age_s)
{
    struct dns_server *server = r->server;
    struct dns_response response;
    struct dns_writer writer;
    struct dns_name target;
    enum dns_rcode rcode;
    uint16_t flags = 0;
    const struct dns_name *asked = r->follow ? &r->target : &r->query.name;
    dns_writer_begin(&writer, server->buf + 2, limit_of(r), &r->query);
    if (r->follow && (dns_zone_answer(server->zone, &r->query, 0, &writer, &rcode, &flags, &target) != DNS_FOLLOW ||
                      !dns_name_equal(&target, &r->target))) {
        send_rcode(r, DNS_SERVFAIL); /* the zone has changed meanwhile: the client asks again */
        return;
    }
    if (!data || dns_response_parse(data, len, asked, r->query.type, &response) < 0) {
        send_rcode(r, DNS_SERVFAIL);
        return;
    }
    dns_response_copy(&writer, data, len, age_s);
    flags = (uint16_t)(r->follow ? flags : response.flags & DNS_AD);
    send_answer(r, dns_writer_end(&writer, &r->query, flags, response.rcode));
}

static void process(struct connection *c);

static void on_upstream(const uint8_t *data, size_t len, uint32_t age_s, void *arg)
{
    struct request *r = arg;
    struct connection *c = r->connection;
    send_upstream(r, data, len, age_s);
    free(r);
    if (c) {
        c->pending--;
        process(c);
    }
}

/* Answers one query, or hands it to the forwarder. r is copied when it has to wait. */
static void handle(struct request *r, const uint8_t *data, size_t len)
{
    struct dns_server *server = r->server;
    struct dns_writer writer;
    enum dns_rcode rcode;
    uint16_t flags;
    r->start_ns = kp_mono_ns();
    enum dns_verdict verdict = dns_query_parse(data, len, &r->query, &rcode);
    if (verdict == DNS_DROP)
        return;
    kp_metric_add(server->requests, 1, r->connection ? "tcp" : "udp");
    if (verdict == DNS_REJECT) {
        send_rcode(r, rcode);
        return;
    }
    dns_writer_begin(&writer, server->buf + 2, limit_of(r), &r->query);
    enum dns_outcome outcome = dns_zone_answer(server->zone, &r->query, server->rotation++, &writer, &rcode, &flags, &r->target);
    if (outcome == DNS_DONE) {
        send_answer(r, dns_writer_end(&writer, &r->query, flags, rcode));
        return;
    }
    struct request *waiting = kp_malloc(sizeof(*waiting));
    r->follow = outcome == DNS_FOLLOW;
    *waiting = *r;
    if (waiting->connection)
        waiting->connection->pending++;
    dns_forward(server->forwarder, r->follow ? &waiting->target : &waiting->query.name, r->query.type, r->query.flags & DNS_CD,
                r->query.dnssec_ok, on_upstream, waiting);
}

static void on_datagram(struct loop_udp *udp, const uint8_t *data, size_t len, const struct sockaddr *from, void *arg)
{
    struct request r = {.server = arg};
    memcpy(&r.from, from, from->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
    handle(&r, data, len);
}

static bool blocked(const struct connection *c)
{
    return c->pending >= DNS_TCP_PENDING_MAX || loop_stream_queued(c->stream) > DNS_TCP_QUEUED_MAX;
}

/* Handles the complete messages received, as long as the connection's limits allow, then sets reading accordingly. */
static void process(struct connection *c)
{
    size_t done = 0;
    c->pending++; /* keeps it while we are here */
    while (c->stream && !blocked(c) && c->received.len - done >= 2) {
        const uint8_t *bytes = (const uint8_t *)c->received.data + done;
        size_t len = dns_get16(bytes);
        if (c->received.len - done - 2 < len)
            break;
        struct request r = {.server = c->server, .connection = c};
        done += 2 + len;
        handle(&r, bytes + 2, len);
    }
    kp_buf_consume(&c->received, done);
    c->pending--;
    if (!c->stream || (c->eof && c->pending == 0 && loop_stream_queued(c->stream) == 0)) {
        close_connection(c);
        return;
    }
    if (blocked(c) != c->paused) {
        c->paused = !c->paused;
        if (c->paused)
            loop_stream_pause(c->stream);
        else
            loop_stream_resume(c->stream);
    }
}

static void on_read(struct loop_stream *stream, const uint8_t *data, size_t len, void *arg)
{
    struct connection *c = arg;
    c->active_ms = loop_now_ms(c->server->loop);
    kp_buf_append(&c->received, data, len);
    process(c);
}

static void on_eof(struct loop_stream *stream, void *arg)
{
    struct connection *c = arg;
    c->eof = true;
    process(c);
}

static void on_error(struct loop_stream *stream, const struct kp_error *error, void *arg)
{
    close_connection(arg);
}

static void on_drain(struct loop_stream *stream, void *arg)
{
    process(arg);
}

static void on_accept(struct loop_stream *stream, void *arg)
{
    static const struct loop_stream_callbacks callbacks = {.on_read = on_read, .on_eof = on_eof, .on_error = on_error, .on_drain = on_drain};
    struct dns_server *server = arg;
    if (server->connections == DNS_TCP_CONNECTIONS_MAX) {
        loop_stream_close(stream);
        return;
    }
    struct connection *c = kp_calloc(1, sizeof(*c));
    *c = (struct connection){.server = server, .stream = stream, .next = server->first, .active_ms = loop_now_ms(server->loop)};
    if (c->next)
        c->next->prev = c;
    server->first = c;
    server->connections++;
    loop_stream_set_callbacks(stream, &callbacks, c);
    loop_stream_resume(stream);
}

static void on_sweep(void *arg)
{
    struct dns_server *server = arg;
    int64_t now_ms = loop_now_ms(server->loop);
    for (struct connection *c = server->first, *next; c; c = next) {
        next = c->next;
        if (now_ms - c->active_ms > server->idle_ms)
            close_connection(c);
    }
}

int dns_server_new(struct loop *loop, const char *address, uint16_t port, struct dns_zone *zone, struct dns_forwarder *forwarder,
                   struct dns_server **ret_server, struct kp_error *error)
{
    static const char *const proto[] = {"proto", NULL}, *const rcode[] = {"rcode", NULL};
    static const double buckets[] = {0.00005, 0.0001, 0.00025, 0.001, 0.004, 0.016, 0.064, 0.256, 1, 4};
    struct dns_server *server = kp_calloc(1, sizeof(*server));
    server->loop = loop;
    server->idle_ms = DNS_TCP_IDLE_MS;
    server->zone = zone;
    server->forwarder = forwarder;
    server->rotation = (uint32_t)kp_random_u64();
    server->requests = kp_counter("kprov_dns_requests_total", "Queries received.", proto);
    server->responses = kp_counter("kprov_dns_responses_total", "Answers sent.", rcode);
    server->seconds = kp_histogram("kprov_dns_request_duration_seconds", "From query to answer.", NULL, buckets, KP_ARRAY_LEN(buckets));
    if (loop_listen_tcp(loop, address, port, on_accept, server, &server->listener, error) < 0 ||
        loop_udp_open(loop, address, loop_listener_port(server->listener), on_datagram, server, &server->udp, error) < 0) {
        dns_server_free(server);
        return kp_wrap(error, "DNS server");
    }
    server->sweep = loop_timer_new(loop, on_sweep, server);
    loop_timer_start(server->sweep, 1000, 1000);
    *ret_server = server;
    return 0;
}

void dns_server_set_idle_ms(struct dns_server *server, int64_t idle_ms)
{
    server->idle_ms = idle_ms;
}

uint16_t dns_server_port(const struct dns_server *server)
{
    return loop_listener_port(server->listener);
}

void dns_server_free(struct dns_server *server)
{
    if (!server)
        return;
    while (server->first)
        close_connection(server->first);
    loop_listener_free(server->listener);
    loop_udp_free(server->udp);
    loop_timer_free(server->sweep);
    free(server);
}
