/* The loop: posts, timers, sockets, connects, UDP, signals, descriptors. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/loop/loop.h"

struct run {
    struct loop *loop;
    int count, closed;
    struct kp_buf log;
    struct loop_stream *stream;
    struct loop_timer *timer;
    struct kp_error error;
};

static void add(void *arg)
{
    struct run *run = arg;
    kp_buf_printf(&run->log, "%d", run->count++);
}

static void stop(void *arg)
{
    struct run *run = arg;
    loop_stop(run->loop);
}

static void posts_run_in_order_and_calls_wait(void **state)
{
    (void)state;
    struct run run = { .loop = loop_new() };
    loop_post(run.loop, add, &run);
    loop_call(run.loop, add, &run); /* not running: at once, but after what was posted */
    assert_string_equal(run.log.data, "01");
    assert_int_equal(loop_start(run.loop, "test", NULL), 0);
    loop_post(run.loop, add, &run);
    loop_call(run.loop, add, &run);
    assert_string_equal(run.log.data, "0123");
    assert_false(loop_in_thread(run.loop));
    loop_post(run.loop, add, &run);
    loop_free(run.loop); /* leftover posts run */
    assert_string_equal(run.log.data, "01234");
    kp_buf_done(&run.log);
}

static void post_again(void *arg)
{
    struct run *run = arg;
    if (++run->count < 100)
        loop_post(run->loop, post_again, run);
    else
        loop_stop(run->loop);
}

/* Nothing else wakes the loop: one that sleeps on a post of its own never ends. */
static void a_loops_own_posts_need_nobody_else(void **state)
{
    (void)state;
    struct run run = { .loop = loop_new() };
    loop_post(run.loop, post_again, &run);
    loop_run(run.loop);
    assert_int_equal(run.count, 100);
    loop_free(run.loop);
}

static void post_forever(void *arg)
{
    struct run *run = arg;
    run->count++;
    if (!run->closed)
        loop_post(run->loop, post_forever, run);
}

static void end_it(void *arg)
{
    struct run *run = arg;
    run->closed = 1;
    loop_stop(run->loop);
}

static void posts_without_end_keep_nobody_out(void **state)
{
    (void)state;
    struct run run = { .loop = loop_new() };
    struct loop_timer *timer = loop_timer_new(run.loop, end_it, &run);
    loop_timer_start(timer, 1, 0);
    loop_post(run.loop, post_forever, &run);
    loop_run(run.loop);
    assert_int_equal(run.closed, 1);
    loop_timer_free(timer);
    loop_free(run.loop);
}

static void repeat(void *arg)
{
    struct run *run = arg;
    if (++run->count == 3) {
        loop_timer_free(run->timer);
        loop_stop(run->loop);
    }
}

static void end_of_turn(void *arg)
{
    struct run *run = arg;
    kp_buf_puts(&run->log, "end ");
}

struct ending {
    struct run run;
    struct loop_turn_end item;
};

static void ask_for_end(void *arg)
{
    struct ending *ending = arg;
    ending->item.fn = end_of_turn;
    ending->item.arg = &ending->run;
    loop_at_turn_end(ending->run.loop, &ending->item);
    kp_buf_puts(&ending->run.log, "asked ");
}

static void what_is_put_off_runs_once_after_all_of_a_turn(void **state)
{
    (void)state;
    struct ending ending = { .run.loop = loop_new() };
    struct loop_timer *timer = loop_timer_new(ending.run.loop, ask_for_end, &ending);
    loop_post(ending.run.loop, ask_for_end, &ending);
    loop_post(ending.run.loop, ask_for_end, &ending);
    loop_post(ending.run.loop, stop, &ending.run);
    loop_run(ending.run.loop);
    assert_string_equal(ending.run.log.data, "asked asked end ");
    loop_call(ending.run.loop, ask_for_end, &ending); /* no thread runs it: done by the time the call returns */
    assert_string_equal(ending.run.log.data, "asked asked end asked end ");
    loop_timer_start(timer, 1, 0); /* a timer alone must not leave it waiting for the next event */
    struct loop_timer *last = loop_timer_new(ending.run.loop, stop, &ending.run);
    loop_timer_start(last, 20, 0);
    loop_run(ending.run.loop);
    assert_string_equal(ending.run.log.data, "asked asked end asked end asked end ");
    loop_timer_free(timer);
    loop_timer_free(last);
    kp_buf_done(&ending.run.log);
    loop_free(ending.run.loop);
}

static void timers_repeat_until_freed(void **state)
{
    (void)state;
    struct run run = { .loop = loop_new() };
    run.timer = loop_timer_new(run.loop, repeat, &run);
    loop_timer_start(run.timer, 1, 1);
    assert_true(loop_timer_active(run.timer));
    loop_run(run.loop);
    assert_int_equal(run.count, 3);
    loop_free(run.loop);
}

static void echo_read(struct loop_stream *stream, const uint8_t *data, size_t len, void *arg)
{
    (void)arg;
    loop_stream_write(stream, data, len);
}

static void echo_eof(struct loop_stream *stream, void *arg)
{
    struct run *run = arg;
    run->closed++;
    loop_stream_close(stream);
}

static void broke(struct loop_stream *stream, const struct kp_error *error, void *arg)
{
    (void)error;
    (void)arg;
    loop_stream_close(stream);
}

static void accepted(struct loop_stream *stream, void *arg)
{
    static const struct loop_stream_callbacks callbacks = { echo_read, echo_eof, broke, NULL };
    loop_stream_set_callbacks(stream, &callbacks, arg);
    loop_stream_resume(stream);
}

enum { BIG = 1 << 20 };

static void got(struct loop_stream *stream, const uint8_t *data, size_t len, void *arg)
{
    struct run *run = arg;
    kp_buf_append(&run->log, data, len);
    if (run->log.len == BIG)
        loop_stream_shutdown(stream);
}

static void got_eof(struct loop_stream *stream, void *arg)
{
    struct run *run = arg;
    loop_stream_close(stream);
    loop_stop(run->loop);
}

static void written(void *arg)
{
    struct run *run = arg;
    run->count++;
}

static void connected(struct loop_stream *stream, const struct kp_error *error, void *arg)
{
    static const struct loop_stream_callbacks callbacks = { got, got_eof, broke, NULL };
    struct run *run = arg;
    if (!stream) {
        run->error = *error;
        loop_stop(run->loop);
        return;
    }
    loop_stream_set_callbacks(stream, &callbacks, run);
    loop_stream_resume(stream);
    KP_AUTO(kp_blob_unref) struct kp_blob *blob = kp_blob_new(NULL, BIG);
    memset(blob->data, 'a', blob->len);
    loop_stream_write_blob_done(stream, blob, written, run);
}

static void a_megabyte_is_echoed_over_tcp_by_name_and_over_unix(void **state)
{
    (void)state;
    char folder[] = "/tmp/loop-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/s", folder);
    for (int is_unix = 0; is_unix < 2; is_unix++) {
        struct run run = { .loop = loop_new() };
        struct loop_listener *listener;
        if (is_unix) {
            assert_int_equal(loop_listen_unix(run.loop, path, 0600, accepted, &run, &listener, NULL), 0);
            loop_connect_unix(run.loop, path, 0, connected, &run);
        } else {
            assert_int_equal(loop_listen_tcp(run.loop, "127.0.0.1", 0, accepted, &run, &listener, NULL), 0);
            loop_connect_tcp(run.loop, "localhost", loop_listener_port(listener), 0, connected, &run);
        }
        loop_run(run.loop);
        assert_int_equal(run.error.code, 0);
        assert_int_equal(run.log.len, BIG);
        assert_int_equal(run.count, 1);
        assert_int_equal(run.closed, 1);
        loop_listener_free(listener);
        loop_free(run.loop);
        kp_buf_done(&run.log);
        assert_false(kp_path_exists(path));
    }
    rmdir(folder);
}

static void a_stale_unix_socket_is_replaced_and_a_live_one_is_not(void **state)
{
    (void)state;
    char folder[] = "/tmp/loop-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/s", folder);
    struct run run = { .loop = loop_new() };
    struct loop_listener *first, *second;
    assert_int_equal(loop_listen_unix(run.loop, path, 0600, accepted, &run, &first, NULL), 0);
    assert_int_equal(loop_listen_unix(run.loop, path, 0600, accepted, &run, &second, NULL), KP_EEXISTS);
    loop_listener_free(first);
    struct sockaddr_un dead = { .sun_family = AF_UNIX };
    snprintf(dead.sun_path, sizeof(dead.sun_path), "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&dead, sizeof(dead)), 0);
    close(fd); /* leaves the file */
    assert_int_equal(loop_listen_unix(run.loop, path, 0600, accepted, &run, &first, NULL), 0);
    loop_listener_free(first);
    loop_free(run.loop);
    rmdir(folder);
}

static void failing_to_connect_is_told_with_its_reason(void **state)
{
    (void)state;
    struct run run = { .loop = loop_new() };
    loop_connect_tcp(run.loop, "127.0.0.1", 1, 0, connected, &run);
    loop_run(run.loop);
    assert_int_equal(run.error.code, KP_EUNAVAILABLE);
    loop_connect_tcp(run.loop, "does-not-exist.invalid", 1, 0, connected, &run);
    loop_run(run.loop);
    assert_int_equal(run.error.code, KP_EUNAVAILABLE);
    loop_connect_unix(run.loop, "/nonexistent/socket", 0, connected, &run);
    loop_run(run.loop);
    assert_int_equal(run.error.code, KP_EUNAVAILABLE);
    /* A listener with a full backlog does not answer: the time limit decides. */
    struct sockaddr_storage address;
    int fd = socket(AF_INET, SOCK_STREAM, 0), fill[4];
    socklen_t len = sizeof(address);
    assert_int_equal(loop_sockaddr_parse("127.0.0.1", 0, (struct sockaddr *)&address), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(struct sockaddr)), 0);
    assert_int_equal(listen(fd, 0), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    for (size_t i = 0; i < KP_ARRAY_LEN(fill); i++) {
        fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)!connect(fill[i], (struct sockaddr *)&address, len);
    }
    char text[LOOP_ADDRESS_MAX];
    loop_sockaddr_format((struct sockaddr *)&address, text);
    loop_connect_tcp(run.loop, "127.0.0.1", (uint16_t)atoi(strchr(text, ':') + 1), 50, connected, &run);
    loop_run(run.loop);
    assert_int_equal(run.error.code, KP_ETIMEOUT);
    for (size_t i = 0; i < KP_ARRAY_LEN(fill); i++)
        close(fill[i]);
    close(fd);
    loop_free(run.loop);
}

static void a_cancelled_connect_calls_nothing(void **state)
{
    (void)state;
    struct run run = { .loop = loop_new() };
    loop_connect_cancel(loop_connect_tcp(run.loop, "127.0.0.1", 1, 0, connected, &run));
    loop_connect_cancel(loop_connect_tcp(run.loop, "localhost", 1, 0, connected, &run));
    loop_connect_tcp(run.loop, "localhost", 1, 0, connected, &run); /* left to loop_free */
    loop_post(run.loop, stop, &run);
    loop_run(run.loop);
    loop_free(run.loop);
    assert_int_equal(run.error.code, 0);
}

static void freeing_a_loop_with_open_sockets_is_clean(void **state)
{
    (void)state;
    struct run run = { .loop = loop_new() };
    struct loop_listener *listener;
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_int_equal(loop_listen_tcp(run.loop, NULL, 0, accepted, &run, &listener, NULL), 0);
    assert_int_equal(loop_stream_from_fd(run.loop, fds[0], &run.stream, NULL), 0);
    KP_AUTO(kp_blob_unref) struct kp_blob *blob = kp_blob_new(NULL, 4 << 20);
    memset(blob->data, 0, blob->len);
    loop_stream_write_blob(run.stream, blob); /* most of it stays queued */
    assert_true(loop_stream_queued(run.stream) > 0);
    loop_timer_start(loop_timer_new(run.loop, add, &run), 1000, 0);
    loop_free(run.loop);
    close(fds[1]);
}

static void datagram(struct loop_udp *udp, const uint8_t *data, size_t len, const struct sockaddr *from, void *arg)
{
    struct run *run = arg;
    if (len == 4 && memcmp(data, "ping", 4) == 0) {
        assert_int_equal(loop_udp_send(udp, "pong", 4, from), 0);
        return;
    }
    kp_buf_append(&run->log, data, len);
    loop_stop(run->loop);
}

static void datagrams_go_back_to_their_sender(void **state)
{
    (void)state;
    struct run run = { .loop = loop_new() };
    struct loop_udp *server, *client;
    struct sockaddr_storage to;
    assert_int_equal(loop_udp_open(run.loop, "127.0.0.1", 0, datagram, &run, &server, NULL), 0);
    assert_int_equal(loop_udp_open(run.loop, "127.0.0.1", 0, datagram, &run, &client, NULL), 0);
    assert_int_equal(loop_sockaddr_parse("127.0.0.1", loop_udp_port(server), (struct sockaddr *)&to), 0);
    assert_int_equal(loop_udp_send(client, "ping", 4, (struct sockaddr *)&to), 0);
    loop_run(run.loop);
    assert_string_equal(run.log.data, "pong");
    loop_udp_free(server);
    loop_free(run.loop);
    kp_buf_done(&run.log);
}

static void on_signal(int signum, void *arg)
{
    struct run *run = arg;
    run->count = signum;
    loop_stop(run->loop);
}

static void signals_arrive_on_the_loop(void **state)
{
    (void)state;
    struct run run = { .loop = loop_new() };
    struct loop_signal *watch = loop_signal_new(run.loop, SIGHUP, on_signal, &run);
    raise(SIGHUP);
    loop_run(run.loop);
    assert_int_equal(run.count, SIGHUP);
    loop_signal_free(watch);
    loop_free(run.loop);
}

static void on_readable(struct loop_fd *watch, int events, void *arg)
{
    struct run *run = arg;
    run->count = events;
    loop_fd_set(watch, 0);
    loop_stop(run->loop);
}

static void descriptors_tell_when_they_are_readable(void **state)
{
    (void)state;
    struct run run = { .loop = loop_new() };
    struct loop_fd *watch;
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(loop_fd_open(run.loop, fds[0], LOOP_FD_READABLE, on_readable, &run, &watch, NULL), 0);
    assert_int_equal(write(fds[1], "x", 1), 1);
    loop_run(run.loop);
    assert_int_equal(run.count, LOOP_FD_READABLE);
    loop_fd_free(watch);
    loop_free(run.loop);
    close(fds[0]);
    close(fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(posts_run_in_order_and_calls_wait),
        cmocka_unit_test(a_loops_own_posts_need_nobody_else),
        cmocka_unit_test(posts_without_end_keep_nobody_out),
        cmocka_unit_test(what_is_put_off_runs_once_after_all_of_a_turn),
        cmocka_unit_test(timers_repeat_until_freed),
        cmocka_unit_test(a_megabyte_is_echoed_over_tcp_by_name_and_over_unix),
        cmocka_unit_test(a_stale_unix_socket_is_replaced_and_a_live_one_is_not),
        cmocka_unit_test(failing_to_connect_is_told_with_its_reason),
        cmocka_unit_test(a_cancelled_connect_calls_nothing),
        cmocka_unit_test(freeing_a_loop_with_open_sockets_is_clean),
        cmocka_unit_test(datagrams_go_back_to_their_sender),
        cmocka_unit_test(signals_arrive_on_the_loop),
        cmocka_unit_test(descriptors_tell_when_they_are_readable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
