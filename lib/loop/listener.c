/* Listening sockets, TCP and unix. */
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/loop/loop_internal.h"

#define LISTEN_BACKLOG 1024

struct loop_listener {
    struct loop_handle base;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv;
    struct loop *loop;
    loop_accept_fn fn;
    void *arg;
    char *path; /* unix socket we made */
    bool is_unix, paused;
    bool pending; /* libuv holds an accepted connection until we take it, which is how accepting pauses */
};

static void listener_closed(uv_handle_t *handle)
{
    free(KP_CONTAINER_OF(handle, struct loop_listener, uv));
}

static void listener_close(struct loop_handle *base)
{
    loop_listener_free(KP_CONTAINER_OF(base, struct loop_listener, base));
}

static struct loop_listener *listener_make(struct loop *loop, bool is_unix, loop_accept_fn fn, void *arg)
{
    struct loop_listener *listener = kp_calloc(1, sizeof(*listener));
    listener->base.close = listener_close;
    listener->loop = loop;
    listener->fn = fn;
    listener->arg = arg;
    listener->is_unix = is_unix;
    if (is_unix)
        uv_pipe_init(&loop->uv, &listener->uv.pipe, 0);
    else
        uv_tcp_init(&loop->uv, &listener->uv.tcp);
    listener->uv.handle.data = &listener->base;
    return listener;
}

static void take_one(struct loop_listener *listener)
{
    struct loop_stream *stream = loop_stream_make(listener->loop, listener->is_unix);
    if (uv_accept(&listener->uv.stream, &stream->uv.stream) < 0) {
        loop_stream_close(stream);
        return;
    }
    loop_stream_connected(stream);
    listener->fn(stream, listener->arg);
}

static void on_connection(uv_stream_t *uv, int status)
{
    struct loop_listener *listener = KP_CONTAINER_OF(uv, struct loop_listener, uv);
    if (status < 0)
        return; /* for example out of descriptors: libuv sheds the connection */
    if (listener->paused)
        listener->pending = true;
    else
        take_one(listener);
}

static int listener_begin(struct loop_listener *listener, const char *what, struct loop_listener **ret_listener,
                          struct kp_error *error)
{
    int status = uv_listen(&listener->uv.stream, LISTEN_BACKLOG, on_connection);
    if (status < 0) {
        loop_listener_free(listener);
        return loop_fail_uv(error, status, "listen on %s", what);
    }
    *ret_listener = listener;
    return 0;
}

int loop_listen_tcp(struct loop *loop, const char *host, uint16_t port, loop_accept_fn fn, void *arg,
                    struct loop_listener **ret_listener, struct kp_error *error)
{
    struct sockaddr_storage address;
    bool any = kp_empty(host);
    if (loop_sockaddr_parse(any ? "::" : host, port, (struct sockaddr *)&address) < 0)
        return kp_fail(error, KP_EINVALID, "listen address \"%s\" is not an IP address", host);
    struct loop_listener *listener = listener_make(loop, false, fn, arg);
    int status = uv_tcp_bind(&listener->uv.tcp, (struct sockaddr *)&address, 0);
    if (status < 0 && any) { /* a machine without IPv6 */
        loop_listener_free(listener);
        listener = listener_make(loop, false, fn, arg);
        KP_ASSERT(loop_sockaddr_parse("0.0.0.0", port, (struct sockaddr *)&address) == 0);
        status = uv_tcp_bind(&listener->uv.tcp, (struct sockaddr *)&address, 0);
    }
    char what[LOOP_ADDRESS_MAX];
    loop_sockaddr_format((struct sockaddr *)&address, what);
    if (status < 0) {
        loop_listener_free(listener);
        return loop_fail_uv(error, status, "bind %s", what);
    }
    return listener_begin(listener, what, ret_listener, error);
}

/* A socket file left by a dead process refuses connections; one that somebody serves accepts them. */
static void remove_stale_socket(const char *path)
{
    struct stat st;
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (lstat(path, &st) < 0 || !S_ISSOCK(st.st_mode) || strlen(path) >= sizeof(address.sun_path))
        return;
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    KP_AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        unlink(path);
}

int loop_listen_unix(struct loop *loop, const char *path, unsigned mode, loop_accept_fn fn, void *arg,
                     struct loop_listener **ret_listener, struct kp_error *error)
{
    remove_stale_socket(path);
    struct loop_listener *listener = listener_make(loop, true, fn, arg);
    int status = uv_pipe_bind(&listener->uv.pipe, path);
    if (status < 0) {
        loop_listener_free(listener);
        return loop_fail_uv(error, status, "bind %s", path);
    }
    listener->path = kp_strdup(path);
    if (chmod(path, mode) < 0) {
        loop_listener_free(listener);
        return kp_fail_errno(error, "set mode of %s", path);
    }
    return listener_begin(listener, path, ret_listener, error);
}

int loop_listen_fd(struct loop *loop, int fd, loop_accept_fn fn, void *arg, struct loop_listener **ret_listener,
                   struct kp_error *error)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof(address);
    if (getsockname(fd, (struct sockaddr *)&address, &len) < 0)
        return kp_fail_errno(error, "descriptor %d as a listening socket", fd);
    struct loop_listener *listener = listener_make(loop, address.ss_family == AF_UNIX, fn, arg);
    int status = listener->is_unix ? uv_pipe_open(&listener->uv.pipe, fd) : uv_tcp_open(&listener->uv.tcp, fd);
    if (status < 0) {
        loop_listener_free(listener);
        return loop_fail_uv(error, status, "descriptor %d as a listening socket", fd);
    }
    return listener_begin(listener, "inherited descriptor", ret_listener, error);
}

uint16_t loop_listener_port(const struct loop_listener *listener)
{
    struct sockaddr_storage address;
    int len = sizeof(address);
    if (listener->is_unix || uv_tcp_getsockname(&listener->uv.tcp, (struct sockaddr *)&address, &len) < 0)
        return 0;
    return ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
                                               : ((struct sockaddr_in *)&address)->sin_port);
}

void loop_listener_pause(struct loop_listener *listener)
{
    listener->paused = true;
}

void loop_listener_resume(struct loop_listener *listener)
{
    listener->paused = false;
    if (!listener->pending)
        return;
    listener->pending = false;
    take_one(listener);
}

void loop_listener_free(struct loop_listener *listener)
{
    if (!listener || uv_is_closing(&listener->uv.handle))
        return;
    if (listener->path)
        unlink(listener->path);
    free(listener->path);
    listener->path = NULL;
    uv_close(&listener->uv.handle, listener_closed);
}
