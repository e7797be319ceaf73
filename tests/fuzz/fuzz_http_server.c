/* Bytes of a client into a whole server: HTTP/1 and, after the preface, HTTP/2. Everything runs on this thread's loop. */
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/http/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct loop *loop;
static struct http_server *server;
static char path[64];

static void on_data(struct http_request *req, const uint8_t *data, size_t len, void *arg)
{
    (void)data;
    (void)arg;
    http_request_consumed(req, len);
}

static void on_end(struct http_request *req, void *arg)
{
    (void)arg;
    http_respond(req, 200, req->headers, req->header_count, req->path, strlen(req->path));
}

static void on_abort(struct http_request *req, void *arg)
{
    (void)req;
    (void)arg;
}

static void handler(struct http_request *req, void *arg)
{
    static const struct http_body_callbacks callbacks = { on_data, on_end, on_abort };
    http_request_query(req, "a");
    http_request_receive(req, &callbacks, arg);
}

static bool wants_stream(struct http_request *req, void *arg)
{
    (void)req;
    (void)arg;
    return true;
}

static void check_idle(void *arg)
{
    (void)arg;
    if (http_server_connections(server) == 0)
        loop_stop(loop);
    else
        loop_post(loop, check_idle, NULL);
}

static void set_up(void)
{
    struct http_server_config config = { .unix_path = path, .handler = handler, .wants_stream = wants_stream };
    snprintf(path, sizeof(path), "/tmp/fuzz-http-%d", getpid());
    loop = loop_new();
    KP_ASSERT(http_server_new(loop, &config, &server, NULL) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (!server)
        set_up();
    if (len > 60000) /* must fit the socket's buffer: nobody reads while we write */
        return 0;
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    snprintf(to.sun_path, sizeof(to.sun_path), "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    KP_ASSERT(fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0);
    if (len)
        KP_ASSERT(send(fd, data, len, MSG_NOSIGNAL) == (ssize_t)len);
    close(fd);
    /* One turn accepts; then until the connection has gone. */
    struct loop_timer *timer = loop_timer_new(loop, check_idle, NULL);
    loop_timer_start(timer, 1, 0);
    loop_run(loop);
    loop_timer_free(timer);
    return 0;
}
