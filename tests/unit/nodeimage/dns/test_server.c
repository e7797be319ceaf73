/* The server on loopback, asked by sockets of ours and by dig, with an upstream server that misbehaves on demand. */
#include "tests/unit/nodeimage/dns/fixture.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

struct world {
    struct loop *loop;
    struct dns_zone *zone;
    struct dns_forwarder *forwarder;
    struct dns_server *server;
    uint16_t port, upstream_port;
    /* the upstream */
    struct loop_udp *upstream, *stranger; /* one who guesses answers */
    struct loop_listener *upstream_tcp;
    struct loop_stream *upstream_stream;
    unsigned asked, asked_tcp; /* queries it saw; atomic */
};

/* What upstream says to a name's first label: www: an address; gone: NXDOMAIN; big: 100 addresses; slow: nothing at the
   first query; dead: nothing; broken: SERVFAIL; alias: CNAME and address; liar: an answer with a wrong id, half of
   one, a forged one from another port, then the right one. */
static size_t upstream_answer(const uint8_t *data, size_t len, uint8_t *out, size_t cap)
{
    struct dns_query q;
    enum dns_rcode rcode;
    struct dns_writer w;
    struct dns_ip ip = {.family = 4, .bytes = {192, 0, 2, 80}};
    assert_int_equal(dns_query_parse(data, len, &q, &rcode), DNS_ACCEPT);
    assert_true(q.edns && q.flags & DNS_RD);
    struct dns_name other;
    assert_int_equal(dns_name_parse("elsewhere.example.net", &other), 0);
    dns_writer_begin(&w, out, cap, &q);
    rcode = DNS_NOERROR;
    if (memcmp(q.name.wire + 1, "gone", 4) == 0) {
        rcode = DNS_NXDOMAIN;
        dns_put_soa(&w, DNS_AUTHORITY, &other, &other, &other, 1, 60);
    } else if (memcmp(q.name.wire + 1, "broken", 6) == 0) {
        rcode = DNS_SERVFAIL;
    } else if (memcmp(q.name.wire + 1, "big", 3) == 0) {
        for (ip.bytes[3] = 0; ip.bytes[3] < 100; ip.bytes[3]++)
            dns_put_ip(&w, DNS_ANSWER, &q.name, &ip, 60);
    } else if (memcmp(q.name.wire + 1, "alias", 5) == 0) {
        dns_put_name(&w, DNS_ANSWER, &q.name, DNS_CNAME, &other, 60);
        dns_put_ip(&w, DNS_ANSWER, &other, &ip, 60);
    } else if (q.type == DNS_A) {
        dns_put_ip(&w, DNS_ANSWER, &q.name, &ip, 60);
    }
    return dns_writer_end(&w, &q, 0, rcode);
}

static void on_upstream_query(struct loop_udp *udp, const uint8_t *data, size_t len, const struct sockaddr *from, void *arg)
{
    struct world *w = arg;
    uint8_t out[DNS_UDP_MAX];
    unsigned asked = __atomic_add_fetch(&w->asked, 1, __ATOMIC_SEQ_CST);
    const char *label = (const char *)data + DNS_HEADER_LEN + 1;
    if (memcmp(label, "dead", 4) == 0 || (memcmp(label, "slow", 4) == 0 && asked == 1))
        return;
    size_t n = upstream_answer(data, len, out, sizeof(out));
    if (memcmp(label, "liar", 4) == 0) {
        uint8_t evil[] = {6, 6, 6, 6};
        out[0] ^= 1;
        memcpy(out + n - DNS_OPT_LEN - 4, evil, 4);
        loop_udp_send(udp, out, n, from);
        loop_udp_send(udp, out, 7, from);
        out[0] ^= 1;
        loop_udp_send(((struct world *)arg)->stranger, out, n, from);
        n = upstream_answer(data, len, out, sizeof(out));
    }
    loop_udp_send(udp, out, n, from);
}

static void on_upstream_read(struct loop_stream *stream, const uint8_t *data, size_t len, void *arg)
{
    struct world *w = arg;
    static uint8_t out[2 + DNS_TCP_MAX];
    assert_int_equal(len, 2 + (size_t)dns_get16(data)); /* one small write arrives whole on loopback */
    __atomic_add_fetch(&w->asked_tcp, 1, __ATOMIC_SEQ_CST);
    size_t n = upstream_answer(data + 2, len - 2, out + 2, DNS_TCP_MAX);
    dns_set16(out, (uint16_t)n);
    loop_stream_write(stream, out, 10); /* in two pieces */
    loop_stream_write(stream, out + 10, n + 2 - 10);
}

static void on_upstream_end(struct loop_stream *stream, void *arg)
{
    struct world *w = arg;
    loop_stream_close(stream);
    w->upstream_stream = NULL;
}

static void on_upstream_error(struct loop_stream *stream, const struct kp_error *error, void *arg)
{
    on_upstream_end(stream, arg);
}

static void on_upstream_accept(struct loop_stream *stream, void *arg)
{
    static const struct loop_stream_callbacks callbacks = {.on_read = on_upstream_read, .on_eof = on_upstream_end, .on_error = on_upstream_error};
    struct world *w = arg;
    w->upstream_stream = stream;
    loop_stream_set_callbacks(stream, &callbacks, w);
    loop_stream_resume(stream);
}

static int setup(void **state)
{
    struct kp_error error = {0};
    struct world *w = kp_calloc(1, sizeof(*w));
    struct dns_upstreams upstreams;
    static const char resolv[] = "nameserver 127.0.0.1\n";
    w->loop = loop_new();
    w->zone = fixture_zone();
    assert_int_equal(loop_listen_tcp(w->loop, "127.0.0.1", 0, on_upstream_accept, w, &w->upstream_tcp, &error), 0);
    w->upstream_port = loop_listener_port(w->upstream_tcp);
    assert_int_equal(loop_udp_open(w->loop, "127.0.0.1", w->upstream_port, on_upstream_query, w, &w->upstream, &error), 0);
    assert_int_equal(loop_udp_open(w->loop, "127.0.0.1", 0, on_upstream_query, w, &w->stranger, &error), 0);
    dns_resolv_parse(resolv, sizeof(resolv) - 1, w->upstream_port, &upstreams);
    w->forwarder = dns_forwarder_new(w->loop, &upstreams);
    assert_int_equal(dns_server_new(w->loop, "127.0.0.1", 0, w->zone, w->forwarder, &w->server, &error), 0);
    dns_forwarder_set_try_ms(w->forwarder, 300);
    dns_server_set_idle_ms(w->server, 1500);
    w->port = dns_server_port(w->server);
    assert_int_equal(loop_start(w->loop, "dns", &error), 0);
    *state = w;
    return 0;
}

static void close_world(void *arg)
{
    struct world *w = arg;
    dns_forwarder_free(w->forwarder);
    dns_server_free(w->server);
    loop_udp_free(w->upstream);
    loop_udp_free(w->stranger);
    loop_listener_free(w->upstream_tcp);
    loop_stream_close(w->upstream_stream);
}

static int teardown(void **state)
{
    struct world *w = *state;
    loop_call(w->loop, close_world, w);
    loop_free(w->loop);
    dns_zone_free(w->zone);
    free(w);
    return 0;
}

static int connect_to(const struct world *w, int kind)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(w->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval timeout = {.tv_sec = 20};
    int fd = socket(AF_INET, kind | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static char *ask(const struct world *w, const char *name, uint16_t type, uint16_t payload)
{
    uint8_t query[DNS_UDP_MIN], answer[DNS_TCP_MAX];
    KP_AUTO_CLOSE int fd = connect_to(w, SOCK_DGRAM);
    size_t len = fixture_query(query, name, type, payload);
    assert_int_equal(send(fd, query, len, 0), (ssize_t)len);
    ssize_t n = recv(fd, answer, sizeof(answer), 0);
    if (n < 0)
        fail_msg("%s: no answer", name);
    assert_memory_equal(answer, query, 2);
    assert_true((size_t)n <= (payload ? DNS_UDP_MAX : DNS_UDP_MIN));
    return fixture_text(answer, (size_t)n);
}

static void expect_text(const struct world *w, const char *name, uint16_t type, uint16_t payload, const char *want)
{
    char *got = ask(w, name, type, payload);
    assert_string_equal(got, want);
    free(got);
}

static void udp_answers_from_the_zone(void **state)
{
    struct world *w = *state;
    expect_text(w, "web.default.svc.cluster.local", DNS_A, 0, "NOERROR aa | web.default.svc.cluster.local. 30 A 10.96.0.20");
    expect_text(w, "web.default.svc.cluster.local", DNS_A, 4096,
                "NOERROR aa | web.default.svc.cluster.local. 30 A 10.96.0.20 / additional | . 0 OPT ");
    assert_int_equal(w->asked, 0);
}

static void other_names_are_forwarded_and_cached(void **state)
{
    struct world *w = *state;
    expect_text(w, "www.example.com", DNS_A, 0, "NOERROR | www.example.com. 60 A 192.0.2.80");
    char *again = ask(w, "WWW.example.com", DNS_A, 0);
    assert_non_null(strstr(again, "NOERROR | WWW.example.com. "));
    free(again);
    assert_int_equal(__atomic_load_n(&w->asked, __ATOMIC_SEQ_CST), 1);
    expect_text(w, "www.example.com", DNS_AAAA, 0, "NOERROR");
    assert_int_equal(__atomic_load_n(&w->asked, __ATOMIC_SEQ_CST), 2);
    expect_text(w, "alias.example.com", DNS_A, 0,
                "NOERROR | alias.example.com. 60 CNAME elsewhere.example.net. | elsewhere.example.net. 60 A 192.0.2.80");
}

static void negative_answers_are_passed_on_and_cached(void **state)
{
    struct world *w = *state;
    for (int i = 0; i < 2; i++) {
        char *got = ask(w, "gone.example.com", DNS_A, 0);
        assert_non_null(strstr(got, "NXDOMAIN / authority | elsewhere.example.net. "));
        free(got);
    }
    assert_int_equal(__atomic_load_n(&w->asked, __ATOMIC_SEQ_CST), 1);
}

static void alias_of_the_zone_is_followed_upstream(void **state)
{
    struct world *w = *state;
    expect_text(w, "outside.default.svc.cluster.local", DNS_A, 0,
                "NOERROR aa | outside.default.svc.cluster.local. 30 CNAME www.example.com. | www.example.com. 60 A 192.0.2.80");
}

static void lost_query_is_sent_again(void **state)
{
    struct world *w = *state;
    expect_text(w, "slow.example.com", DNS_A, 0, "NOERROR | slow.example.com. 60 A 192.0.2.80");
    assert_int_equal(__atomic_load_n(&w->asked, __ATOMIC_SEQ_CST), 2);
}

static void silent_upstream_ends_in_servfail(void **state)
{
    struct world *w = *state;
    int64_t start_ms = kp_mono_ms();
    expect_text(w, "dead.example.com", DNS_A, 0, "SERVFAIL");
    assert_int_equal(__atomic_load_n(&w->asked, __ATOMIC_SEQ_CST), DNS_FORWARD_TRIES);
    assert_true(kp_mono_ms() - start_ms < 20000);
}

static void failure_of_upstream_is_passed_on_and_not_cached(void **state)
{
    struct world *w = *state;
    expect_text(w, "broken.example.com", DNS_A, 0, "SERVFAIL");
    expect_text(w, "broken.example.com", DNS_A, 0, "SERVFAIL");
    assert_int_equal(__atomic_load_n(&w->asked, __ATOMIC_SEQ_CST), 2);
}

static void forged_answers_are_passed_over(void **state)
{
    struct world *w = *state;
    expect_text(w, "liar.example.com", DNS_A, 0, "NOERROR | liar.example.com. 60 A 192.0.2.80");
}

static void cut_answer_of_upstream_is_asked_for_over_tcp(void **state)
{
    struct world *w = *state;
    char *got = ask(w, "big.example.com", DNS_A, 0);
    assert_non_null(strstr(got, "NOERROR tc | "));
    assert_int_equal(__atomic_load_n(&w->asked_tcp, __ATOMIC_SEQ_CST), 1);
    free(got);
}

static size_t read_message(int fd, uint8_t *out)
{
    uint8_t length[2];
    assert_int_equal(recv(fd, length, 2, MSG_WAITALL), 2);
    assert_int_equal(recv(fd, out, dns_get16(length), MSG_WAITALL), dns_get16(length));
    return dns_get16(length);
}

static size_t framed(uint8_t *out, const char *name, uint16_t type)
{
    size_t n = fixture_query(out + 2, name, type, 0);
    dns_set16(out, (uint16_t)n);
    return n + 2;
}

static void tcp_pipelines_and_takes_pieces(void **state)
{
    struct world *w = *state;
    static const char *const names[] = {"web.default.svc.cluster.local", "www.example.com", "big.example.com", "none.default.svc.cluster.local"};
    uint8_t out[4 * (2 + DNS_UDP_MIN)], answer[DNS_TCP_MAX];
    size_t len = 0, seen = 0;
    KP_AUTO_CLOSE int fd = connect_to(w, SOCK_STREAM);
    for (size_t i = 0; i < KP_ARRAY_LEN(names); i++) {
        size_t n = framed(out + len, names[i], DNS_A);
        out[len + 3] = (uint8_t)i; /* ids tell the answers apart: their order is free */
        len += n;
    }
    assert_int_equal(send(fd, out, 5, 0), 5);
    assert_int_equal(send(fd, out + 5, len - 5, 0), (ssize_t)(len - 5));
    for (size_t i = 0; i < KP_ARRAY_LEN(names); i++) {
        size_t n = read_message(fd, answer);
        seen |= (size_t)1 << answer[1];
        assert_int_equal(dns_get16(answer + 6), answer[1] == 3 ? 0 : answer[1] == 2 ? 100 : 1);
        free(fixture_text(answer, n));
    }
    assert_int_equal(seen, 0xf);
}

static void more_queries_than_may_wait_are_all_answered(void **state)
{
    struct world *w = *state;
    enum { COUNT = 3 * DNS_TCP_PENDING_MAX };
    static uint8_t out[COUNT * 64];
    uint8_t answer[DNS_TCP_MAX];
    size_t len = 0;
    KP_AUTO_CLOSE int fd = connect_to(w, SOCK_STREAM);
    for (int i = 0; i < COUNT; i++) {
        char name[32];
        snprintf(name, sizeof(name), "n%d.example.com", i);
        len += framed(out + len, name, DNS_A);
    }
    assert_int_equal(send(fd, out, len, 0), (ssize_t)len);
    shutdown(fd, SHUT_WR); /* what was asked before is still answered */
    for (int i = 0; i < COUNT; i++) {
        size_t n = read_message(fd, answer);
        assert_int_equal(dns_get16(answer + 6), 1);
        free(fixture_text(answer, n));
    }
    assert_int_equal(recv(fd, answer, 1, 0), 0);
}

static void connection_has_a_bounded_number_of_queries_upstream(void **state)
{
    struct world *w = *state;
    enum { COUNT = 3 * DNS_TCP_PENDING_MAX };
    static uint8_t out[COUNT * 64];
    uint8_t answer[DNS_TCP_MAX];
    size_t len = 0;
    KP_AUTO_CLOSE int fd = connect_to(w, SOCK_STREAM);
    for (int i = 0; i < COUNT; i++) {
        char name[32];
        snprintf(name, sizeof(name), "dead%d.example.com", i);
        len += framed(out + len, name, DNS_A);
    }
    assert_int_equal(send(fd, out, len, 0), (ssize_t)len);
    read_message(fd, answer);
    assert_int_equal(answer[3] & 0xf, DNS_SERVFAIL);
    assert_true(__atomic_load_n(&w->asked, __ATOMIC_SEQ_CST) < 2 * DNS_FORWARD_TRIES * DNS_TCP_PENDING_MAX);
}

static void connection_that_ends_while_upstream_is_asked_harms_nothing(void **state)
{
    struct world *w = *state;
    uint8_t out[2 + DNS_UDP_MIN];
    int fd = connect_to(w, SOCK_STREAM);
    size_t n = framed(out, "slow.example.com", DNS_A);
    struct linger linger = {.l_onoff = 1};
    assert_int_equal(send(fd, out, n, 0), (ssize_t)n);
    while (__atomic_load_n(&w->asked, __ATOMIC_SEQ_CST) == 0)
        kp_sleep_ms(1);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
    close(fd); /* a reset */
    while (__atomic_load_n(&w->asked, __ATOMIC_SEQ_CST) == 1)
        kp_sleep_ms(1);
    expect_text(w, "web.default.svc.cluster.local", DNS_A, 0, "NOERROR aa | web.default.svc.cluster.local. 30 A 10.96.0.20");
}

static void idle_connections_are_closed(void **state)
{
    struct world *w = *state;
    uint8_t byte;
    KP_AUTO_CLOSE int fd = connect_to(w, SOCK_STREAM);
    assert_int_equal(recv(fd, &byte, 1, 0), 0);
}

static void malformed_datagrams_are_answered_or_dropped(void **state)
{
    struct world *w = *state;
    uint8_t query[DNS_UDP_MIN], answer[DNS_UDP_MIN];
    KP_AUTO_CLOSE int fd = connect_to(w, SOCK_DGRAM);
    size_t len = fixture_query(query, "web.default.svc.cluster.local", DNS_A, 0);
    assert_int_equal(send(fd, query, 5, 0), 5);   /* dropped */
    assert_int_equal(send(fd, query, 20, 0), 20); /* FORMERR */
    assert_int_equal(recv(fd, answer, sizeof(answer), 0), DNS_HEADER_LEN);
    assert_int_equal(answer[3] & 0xf, DNS_FORMERR);
    query[2] |= DNS_QR >> 8;
    assert_int_equal(send(fd, query, len, 0), (ssize_t)len); /* an answer: dropped, or two servers would talk for ever */
    query[2] = 1;
    assert_int_equal(send(fd, query, len, 0), (ssize_t)len);
    assert_true(recv(fd, answer, sizeof(answer), 0) > DNS_HEADER_LEN);
    assert_int_equal(answer[3] & 0xf, DNS_NOERROR);
}

/* ---- real client ------------------------------------------------------------------------------------------------------- */
static void dig(const struct world *w, const char *arguments, const char *want)
{
    struct kp_error error = {0};
    KP_AUTO_BUF struct kp_buf out = {0};
    int status;
    char *command = kp_asprintf("dig @127.0.0.1 -p %u +tries=1 +time=15 %s", w->port, arguments);
    const char *const argv[] = {"sh", "-c", command, NULL};
    if (kp_run(argv, 20000, &out, NULL, &status, &error) < 0)
        fail_msg("%s: %s", command, error.message);
    assert_int_equal(status, 0);
    if (!out.data || !strstr(out.data, want))
        fail_msg("%s\n%s\nlacks: %s", command, out.data, want);
    free(command);
}

static void dig_is_content(void **state)
{
    struct world *w = *state;
    if (!kp_path_exists("/usr/bin/dig")) {
        print_message("no dig on this machine (Debian: bind9-dnsutils)\n");
        skip();
    }
    dig(w, "+short web.default.svc.cluster.local", "10.96.0.20\n");
    dig(w, "+short +search +domain=default.svc.cluster.local web", "10.96.0.20\n");
    dig(w, "+short +tcp web.default.svc.cluster.local AAAA", "fd00::20\n");
    dig(w, "+short -x 10.96.0.20", "web.default.svc.cluster.local.\n");
    dig(w, "+short -x fd00::20", "web.default.svc.cluster.local.\n");
    dig(w, "+short _http._tcp.web.default.svc.cluster.local SRV", "0 100 80 web.default.svc.cluster.local.\n");
    dig(w, "+short dns-version.cluster.local TXT", "\"1.1.0\"\n");
    dig(w, "none.default.svc.cluster.local", "status: NXDOMAIN");
    dig(w, "plain.default.svc.cluster.local AAAA", "ANSWER: 0, AUTHORITY: 1");
    dig(w, "web.default.svc.cluster.local ANY", "\"RFC8482\" \"\"");
    dig(w, "+noedns web.default.svc.cluster.local", "flags: qr aa rd ra; QUERY: 1, ANSWER: 1, AUTHORITY: 0, ADDITIONAL: 0");
    dig(w, "+edns=1 +noednsneg web.default.svc.cluster.local", "status: BADVERS");
    dig(w, "+cookie +nsid +subnet=1.2.3.0/24 web.default.svc.cluster.local", "status: NOERROR");
    dig(w, "+opcode=notify cluster.local SOA", "status: NOTIMP");
    dig(w, "cluster.local AXFR", "; Transfer failed.");
    dig(w, "-c CH version.bind TXT", "status: REFUSED");
    dig(w, "+short big.example.com | wc -l", "100\n"); /* by way of TC and TCP, both here and upstream */
    dig(w, "+dnssec www.example.com", "flags: do;");
    dig(w, "gone.example.com", "status: NXDOMAIN");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(udp_answers_from_the_zone), T(other_names_are_forwarded_and_cached), T(negative_answers_are_passed_on_and_cached),
        T(alias_of_the_zone_is_followed_upstream), T(lost_query_is_sent_again), T(silent_upstream_ends_in_servfail),
        T(failure_of_upstream_is_passed_on_and_not_cached), T(forged_answers_are_passed_over), T(cut_answer_of_upstream_is_asked_for_over_tcp),
        T(tcp_pipelines_and_takes_pieces), T(more_queries_than_may_wait_are_all_answered), T(connection_has_a_bounded_number_of_queries_upstream),
        T(connection_that_ends_while_upstream_is_asked_harms_nothing), T(idle_connections_are_closed),
        T(malformed_datagrams_are_answered_or_dropped), T(dig_is_content),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
