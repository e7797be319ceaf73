/* Networks that swallow, peers that do not read. */
#include <arpa/inet.h>
#include <poll.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "tests/support/peer_world.h"

/* Passes bytes on between a port of its own and another, until it is told to swallow them. */
struct proxy {
    struct loop *loop;
    struct loop_listener *listener;
    uint16_t port, to;
    bool blackhole; /* atomic: connections live on, nothing gets through, new ones get no answer either */
    struct pipe *pipes;
};

struct pipe {
    struct pipe *next;
    struct proxy *proxy;
    struct loop_stream *near, *far;
    struct loop_connect *connect;
};

static void proxy_read(struct loop_stream *stream, const uint8_t *data, size_t len, void *arg)
{
    struct pipe *pipe = arg;
    struct loop_stream *other = stream == pipe->near ? pipe->far : pipe->near;
    if (other && !__atomic_load_n(&pipe->proxy->blackhole, __ATOMIC_SEQ_CST))
        loop_stream_write(other, data, len);
}

static void proxy_eof(struct loop_stream *stream, void *arg)
{
    struct pipe *pipe = arg;
    if (__atomic_load_n(&pipe->proxy->blackhole, __ATOMIC_SEQ_CST))
        return;
    loop_stream_close(pipe->near);
    loop_stream_close(pipe->far);
    pipe->near = pipe->far = NULL;
}

static void proxy_error(struct loop_stream *stream, const struct kp_error *error, void *arg)
{
    proxy_eof(stream, arg);
}

static const struct loop_stream_callbacks proxy_callbacks = {proxy_read, proxy_eof, proxy_error, NULL};

static void proxy_connected(struct loop_stream *stream, const struct kp_error *error, void *arg)
{
    struct pipe *pipe = arg;
    pipe->connect = NULL;
    pipe->far = stream;
    if (!stream) {
        loop_stream_close(pipe->near);
        pipe->near = NULL;
        return;
    }
    loop_stream_set_callbacks(stream, &proxy_callbacks, pipe);
    loop_stream_resume(stream);
    loop_stream_resume(pipe->near);
}

static void proxy_accept(struct loop_stream *stream, void *arg)
{
    struct proxy *proxy = arg;
    struct pipe *pipe = kp_calloc(1, sizeof(*pipe));
    *pipe = (struct pipe){.next = proxy->pipes, .proxy = proxy, .near = stream};
    proxy->pipes = pipe;
    loop_stream_set_callbacks(stream, &proxy_callbacks, pipe);
    if (!__atomic_load_n(&proxy->blackhole, __ATOMIC_SEQ_CST))
        pipe->connect = loop_connect_tcp(proxy->loop, "127.0.0.1", proxy->to, 0, proxy_connected, pipe);
}

static void proxy_listen(void *arg)
{
    struct proxy *proxy = arg;
    assert_int_equal(loop_listen_tcp(proxy->loop, "127.0.0.1", 0, proxy_accept, proxy, &proxy->listener, NULL), 0);
    proxy->port = loop_listener_port(proxy->listener);
}

static void proxy_start(struct proxy *proxy, const struct world *to)
{
    *proxy = (struct proxy){.loop = loop_new(), .to = peer_listen_port(to->transport, 0)};
    assert_int_equal(loop_start(proxy->loop, "proxy", NULL), 0);
    loop_call(proxy->loop, proxy_listen, proxy);
}

static void proxy_close(void *arg)
{
    struct proxy *proxy = arg;
    loop_listener_free(proxy->listener);
    for (struct pipe *pipe = proxy->pipes, *next; pipe; pipe = next) {
        next = pipe->next;
        if (pipe->connect)
            loop_connect_cancel(pipe->connect);
        loop_stream_close(pipe->near);
        loop_stream_close(pipe->far);
        free(pipe);
    }
}

static void proxy_stop(struct proxy *proxy)
{
    loop_call(proxy->loop, proxy_close, proxy);
    loop_free(proxy->loop);
}

static void know_by(struct world *world, uint64_t id, const struct proxy *proxy)
{
    char url[64];
    snprintf(url, sizeof(url), "http://127.0.0.1:%u", proxy->port);
    peer_set(world->transport, id, (const char *const[]){url}, 1);
}

static bool is_connected(struct world *world)
{
    struct peer_stats stats;
    return peer_stats(world->transport, &stats, 1) == 1 && stats.active_since_ms;
}

/* The bounds are the transport's own and are printed, not asserted: only that it happens at all. */
static void blackhole_is_noticed_and_left_when_it_heals(void **state)
{
    struct world a, b;
    struct proxy proxy;
    world_start(&a, 1, NULL);
    world_start(&b, 2, NULL);
    proxy_start(&proxy, &b);
    know_by(&a, 2, &proxy);
    world_wait_connected(&a, 2);
    __atomic_store_n(&proxy.blackhole, true, __ATOMIC_SEQ_CST);
    int64_t start_ms = kp_mono_ms();
    struct raft_message message = message_of(1, 2, 1, 10);
    peer_send(a.transport, &message);
    WORLD_WAIT(&a, unreachable, 1);
    print_message("noticed after %lld ms\n", (long long)(kp_mono_ms() - start_ms));
    assert_false(is_connected(&a));
    __atomic_store_n(&proxy.blackhole, false, __ATOMIC_SEQ_CST);
    start_ms = kp_mono_ms();
    world_wait_connected(&a, 2);
    print_message("connected again after %lld ms\n", (long long)(kp_mono_ms() - start_ms));
    message = message_of(1, 2, 2, 10);
    peer_send(a.transport, &message);
    WORLD_WAIT(&b, messages_len, 1);
    assert_int_equal(b.messages[0].index, 2);
    struct peer_stats stats;
    assert_int_equal(peer_stats(a.transport, &stats, 1), 1);
    world_stop(&a);
    proxy_stop(&proxy);
    world_stop(&b);
}

static void one_dead_peer_does_not_hold_up_another(void **state)
{
    struct world a, b, c;
    struct proxy proxy;
    world_start(&a, 1, NULL);
    world_start(&b, 2, NULL);
    world_start(&c, 3, NULL);
    proxy_start(&proxy, &b);
    __atomic_store_n(&proxy.blackhole, true, __ATOMIC_SEQ_CST);
    know_by(&a, 2, &proxy);
    world_know(&a, &c);
    world_wait_connected(&a, 3);
    for (uint64_t i = 0; i < 200; i++) {
        struct raft_message dead = message_of(1, 2, i, 100000), live = message_of(1, 3, i, 1000);
        peer_send(a.transport, &dead);
        peer_send(a.transport, &live);
    }
    WORLD_WAIT(&c, messages_len, 200);
    assert_int_equal(b.messages_len, 0);
    world_stop(&a);
    proxy_stop(&proxy);
    world_stop(&b);
    world_stop(&c);
}

static void queue_is_bounded(void **state)
{
    struct world a;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    char url[64];
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(listener, 1), 0); /* the kernel accepts, nobody reads */
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &len), 0);
    snprintf(url, sizeof(url), "http://127.0.0.1:%u", ntohs(address.sin_port));
    world_start(&a, 1, NULL);
    peer_set(a.transport, 2, (const char *const[]){url}, 1);
    assert_int_equal(poll(&(struct pollfd){.fd = listener, .events = POLLIN}, 1, WAIT_MS_MAX), 1);
    for (uint64_t i = 0; i < 80; i++) {
        struct raft_message message = message_of(1, 2, i, (size_t)1 << 20);
        peer_send(a.transport, &message);
    }
    WORLD_WAIT(&a, unreachable, 1);
    struct peer_stats stats;
    assert_int_equal(peer_stats(a.transport, &stats, 1), 1);
    assert_true(stats.sent_failures > 0);
    assert_true(stats.sent_bytes <= PEER_QUEUED_BYTES_MAX + ((size_t)16 << 20)); /* and what the kernel took */
    world_stop(&a);
    close(listener);
}

static void unreachable_is_told_seldom(void **state)
{
    struct world a;
    world_start(&a, 1, NULL);
    peer_set(a.transport, 2, (const char *const[]){"http://127.0.0.1:1"}, 1);
    WORLD_WAIT(&a, unreachable, 1);
    int64_t start_ms = kp_mono_ms();
    for (uint64_t i = 0; i < 20000; i++) {
        struct raft_message message = message_of(1, 2, i, 10);
        peer_send(a.transport, &message);
    }
    WORLD_WAIT(&a, unreachable, 2);
    int64_t most = (kp_mono_ms() - start_ms) / PEER_UNREACHABLE_EVERY_MS + 2;
    pthread_mutex_lock(&a.lock);
    assert_true(a.unreachable <= 1 + most);
    pthread_mutex_unlock(&a.lock);
    world_stop(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blackhole_is_noticed_and_left_when_it_heals),
        cmocka_unit_test(one_dead_peer_does_not_hold_up_another),
        cmocka_unit_test(queue_is_bounded),
        cmocka_unit_test(unreachable_is_told_seldom),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
