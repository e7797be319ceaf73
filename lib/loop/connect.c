/* Outgoing connections: name lookup, then each address in turn, all within one deadline. */
#include "lib/loop/loop_internal.h"

#define CONNECT_TIMEOUT_MS_DEFAULT 30000

/* Freed when nothing of libuv points to it any more: the lookup (which cannot always be cancelled), each attempt
   and the timer each hold one reference. */
struct loop_connect {
    struct loop *loop;
    struct loop_connect *next, **pprev;
    int refs;
    bool over; /* delivered or cancelled */
    loop_connect_fn fn;
    void *arg;
    char *target; /* for messages: "host:port" or the path */
    char *unix_path;
    int64_t deadline_ms;
    uv_getaddrinfo_t lookup;
    struct addrinfo *addresses, *address;
    struct sockaddr_storage numeric;
    bool is_numeric;
    struct loop_stream *stream; /* being connected */
    uv_timer_t timer;
    struct kp_error error;
};

/* One libuv request: one given up on calls back only after the next has begun. */
struct attempt {
    uv_connect_t uv;
    struct loop_connect *connect;
    struct loop_stream *stream;
};

static void try_next(struct loop_connect *connect);

static void connect_unref(struct loop_connect *connect)
{
    if (--connect->refs > 0)
        return;
    if (connect->addresses)
        uv_freeaddrinfo(connect->addresses);
    free(connect->unix_path);
    free(connect->target);
    free(connect);
}

static void timer_closed(uv_handle_t *handle)
{
    connect_unref(KP_CONTAINER_OF(handle, struct loop_connect, timer));
}

static void finish(struct loop_connect *connect, struct loop_stream *stream, bool tell)
{
    KP_ASSERT(!connect->over);
    connect->over = true;
    *connect->pprev = connect->next;
    if (connect->next)
        connect->next->pprev = connect->pprev;
    uv_close((uv_handle_t *)&connect->timer, timer_closed);
    if (tell)
        connect->fn(stream, stream ? NULL : &connect->error, connect->arg);
}

static void drop_stream(struct loop_connect *connect)
{
    loop_stream_close(connect->stream);
    connect->stream = NULL;
}

static void on_timer(uv_timer_t *timer)
{
    struct loop_connect *connect = KP_CONTAINER_OF(timer, struct loop_connect, timer);
    if (connect->error.code && !connect->stream) { /* a failure found inside loop_connect_*, told now */
        finish(connect, NULL, true);
        return;
    }
    kp_fail(&connect->error, KP_ETIMEOUT, "connect to %s: no answer in time", connect->target);
    bool more = connect->address && connect->address->ai_next && loop_now_ms(connect->loop) < connect->deadline_ms;
    drop_stream(connect);
    if (more) {
        connect->address = connect->address->ai_next;
        try_next(connect);
    } else {
        finish(connect, NULL, true);
    }
}

static void on_connected(uv_connect_t *request, int status)
{
    struct attempt *attempt = KP_CONTAINER_OF(request, struct attempt, uv);
    struct loop_connect *connect = attempt->connect;
    struct loop_stream *stream = attempt->stream;
    free(attempt);
    if (!connect->over && stream == connect->stream) {
        connect->stream = NULL;
        if (status == 0) {
            loop_stream_connected(stream);
            finish(connect, stream, true);
        } else {
            loop_fail_uv(&connect->error, status, "connect to %s", connect->target);
            loop_stream_close(stream);
            if (connect->address)
                connect->address = connect->address->ai_next;
            try_next(connect);
        }
    }
    connect_unref(connect);
}

/* The attempt may use its share of what is left of the deadline. */
static void arm(struct loop_connect *connect)
{
    int64_t attempts = 1;
    for (struct addrinfo *a = connect->address; a && a->ai_next; a = a->ai_next)
        attempts++;
    int64_t left = KP_MAX(connect->deadline_ms - loop_now_ms(connect->loop), 1);
    uv_timer_start(&connect->timer, on_timer, (uint64_t)KP_MAX(left / attempts, 1), 0);
}

static int begin_attempt(struct loop_connect *connect)
{
    struct attempt *attempt = kp_malloc(sizeof(*attempt));
    connect->stream = loop_stream_make(connect->loop, connect->unix_path != NULL);
    attempt->connect = connect;
    attempt->stream = connect->stream;
    connect->refs++;
    if (connect->unix_path) {
        uv_pipe_connect(&attempt->uv, &connect->stream->uv.pipe, connect->unix_path, on_connected);
        return 0;
    }
    const struct sockaddr *to = connect->is_numeric ? (const struct sockaddr *)&connect->numeric : connect->address->ai_addr;
    int status = uv_tcp_connect(&attempt->uv, &connect->stream->uv.tcp, to, on_connected);
    if (status < 0) {
        connect->refs--;
        free(attempt);
        drop_stream(connect);
    }
    return status;
}

static void try_next(struct loop_connect *connect)
{
    bool single = connect->unix_path || connect->is_numeric;
    while ((single && !connect->error.code) || connect->address) {
        int status = begin_attempt(connect);
        if (status == 0) {
            arm(connect);
            return;
        }
        loop_fail_uv(&connect->error, status, "connect to %s", connect->target);
        if (connect->address)
            connect->address = connect->address->ai_next;
    }
    uv_timer_start(&connect->timer, on_timer, 0, 0);
}

static void on_lookup(uv_getaddrinfo_t *lookup, int status, struct addrinfo *addresses)
{
    struct loop_connect *connect = KP_CONTAINER_OF(lookup, struct loop_connect, lookup);
    connect->addresses = addresses;
    if (!connect->over) {
        if (status < 0) {
            loop_fail_uv(&connect->error, status, "look up %s", connect->target);
            finish(connect, NULL, true);
        } else {
            connect->address = addresses;
            try_next(connect);
        }
    }
    connect_unref(connect);
}

static struct loop_connect *connect_make(struct loop *loop, int64_t timeout_ms, loop_connect_fn fn, void *arg)
{
    struct loop_connect *connect = kp_calloc(1, sizeof(*connect));
    connect->loop = loop;
    connect->refs = 1; /* the timer's */
    connect->fn = fn;
    connect->arg = arg;
    uv_update_time(&loop->uv);
    connect->deadline_ms = loop_now_ms(loop) + (timeout_ms > 0 ? timeout_ms : CONNECT_TIMEOUT_MS_DEFAULT);
    uv_timer_init(&loop->uv, &connect->timer);
    connect->next = loop->connects;
    connect->pprev = &loop->connects;
    if (connect->next)
        connect->next->pprev = &connect->next;
    loop->connects = connect;
    return connect;
}

struct loop_connect *loop_connect_tcp(struct loop *loop, const char *host, uint16_t port, int64_t timeout_ms,
                                      loop_connect_fn fn, void *arg)
{
    struct loop_connect *connect = connect_make(loop, timeout_ms, fn, arg);
    connect->target = kp_asprintf(strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, port);
    connect->is_numeric = loop_sockaddr_parse(host, port, (struct sockaddr *)&connect->numeric) == 0;
    if (connect->is_numeric) {
        try_next(connect);
        return connect;
    }
    char service[8];
    snprintf(service, sizeof(service), "%u", port);
    struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG };
    arm(connect);
    connect->refs++;
    int status = uv_getaddrinfo(&loop->uv, &connect->lookup, on_lookup, host, service, &hints);
    if (status < 0) {
        connect->refs--;
        loop_fail_uv(&connect->error, status, "look up %s", connect->target);
        uv_timer_start(&connect->timer, on_timer, 0, 0);
    }
    return connect;
}

struct loop_connect *loop_connect_unix(struct loop *loop, const char *path, int64_t timeout_ms, loop_connect_fn fn, void *arg)
{
    struct loop_connect *connect = connect_make(loop, timeout_ms, fn, arg);
    connect->target = kp_strdup(path);
    connect->unix_path = kp_strdup(path);
    try_next(connect);
    return connect;
}

void loop_connect_cancel(struct loop_connect *connect)
{
    if (connect->stream)
        drop_stream(connect);
    uv_cancel((uv_req_t *)&connect->lookup); /* when there is none under way this does nothing */
    finish(connect, NULL, false);
}
