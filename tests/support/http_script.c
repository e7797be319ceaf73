/* A scripted HTTP server for tests of clients. */
#include "tests/support/http_script.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#define REQUESTS_MAX 64
#define CONNECTIONS_MAX 16

struct http_script {
    const struct http_reply *replies;
    size_t len;
    int listen_fd, stop_fds[2];
    char url[64];
    pthread_t thread;
    pthread_mutex_t mutex;
    char *requests[REQUESTS_MAX];
    size_t served, unexpected;
    struct {
        int fd;
        struct kp_buf in;
    } connections[CONNECTIONS_MAX];
    size_t n_connections;
};

/* Bytes of the whole request at the start of in, or 0 when it has not all come. */
static size_t request_length(const struct kp_buf *in)
{
    const char *end = in->data ? memmem(in->data, in->len, "\r\n\r\n", 4) : NULL;
    if (!end)
        return 0;
    size_t head = (size_t)(end - in->data) + 4;
    const char *length = strcasestr(in->data, "content-length:");
    size_t body = length && length < end ? strtoul(length + strlen("content-length:"), NULL, 10) : 0;
    return in->len >= head + body ? head + body : 0;
}

/* Whether the connection stays open. */
static bool answer(struct http_script *s, int fd, const char *request, size_t len)
{
    static const struct http_reply none = {.status = 599, .body = "the script is at its end"};
    pthread_mutex_lock(&s->mutex);
    size_t n = s->served++;
    const struct http_reply *reply = n < s->len ? &s->replies[n] : &none;
    if (n < REQUESTS_MAX)
        s->requests[n] = strndup(request, len);
    if (reply->expect && !(n < REQUESTS_MAX && strstr(s->requests[n], reply->expect))) {
        s->unexpected++;
        fprintf(stderr, "request %zu has no \"%s\":\n%.*s\n", n, reply->expect, (int)len, request);
    }
    pthread_mutex_unlock(&s->mutex);
    if (reply->status == 0)
        return false;
    KP_AUTO_BUF struct kp_buf out = {0};
    if (reply->status < 0) {
        kp_buf_puts(&out, "HTTP/1.1 200 OK\r\nContent-Le");
    } else {
        bool head = !strncmp(request, "HEAD ", 5);
        kp_buf_printf(&out, "HTTP/1.1 %d Status\r\nContent-Length: %zu\r\n%s\r\n%s", reply->status, reply->body ? strlen(reply->body) : 0,
                      reply->headers ? reply->headers : "", reply->body && !head ? reply->body : "");
    }
    for (size_t at = 0; at < out.len;) {
        ssize_t sent = send(fd, out.data + at, out.len - at, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        at += (size_t)sent;
    }
    return reply->status > 0;
}

static bool serve(struct http_script *s, size_t i)
{
    char bytes[16384];
    ssize_t got = recv(s->connections[i].fd, bytes, sizeof bytes, 0);
    if (got <= 0)
        return false;
    struct kp_buf *in = &s->connections[i].in;
    kp_buf_append(in, bytes, (size_t)got);
    for (size_t len; (len = request_length(in)) > 0;) {
        if (!answer(s, s->connections[i].fd, in->data, len))
            return false;
        KP_AUTO_BUF struct kp_buf rest = {0};
        kp_buf_append(&rest, in->data + len, in->len - len);
        kp_buf_done(in);
        *in = rest;
        rest = (struct kp_buf){0};
    }
    return true;
}

static void drop(struct http_script *s, size_t i)
{
    close(s->connections[i].fd);
    kp_buf_done(&s->connections[i].in);
    s->connections[i] = s->connections[--s->n_connections];
    memset(&s->connections[s->n_connections], 0, sizeof s->connections[0]);
}

static void *run(void *arg)
{
    struct http_script *s = arg;
    for (;;) {
        struct pollfd fds[CONNECTIONS_MAX + 2] = {{.fd = s->stop_fds[0], .events = POLLIN}, {.fd = s->listen_fd, .events = POLLIN}};
        for (size_t i = 0; i < s->n_connections; i++)
            fds[2 + i] = (struct pollfd){.fd = s->connections[i].fd, .events = POLLIN};
        size_t n = s->n_connections;
        if (poll(fds, 2 + n, -1) < 0 || fds[0].revents)
            break;
        for (size_t i = n; i-- > 0;)
            if (fds[2 + i].revents && !serve(s, i))
                drop(s, i);
        if (fds[1].revents) {
            int fd = accept(s->listen_fd, NULL, NULL);
            if (fd >= 0 && s->n_connections < CONNECTIONS_MAX)
                s->connections[s->n_connections++].fd = fd;
            else if (fd >= 0)
                close(fd);
        }
    }
    while (s->n_connections)
        drop(s, 0);
    return NULL;
}

struct http_script *http_script_start(const struct http_reply *replies, size_t len)
{
    struct http_script *s = kp_calloc(1, sizeof *s);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    s->replies = replies;
    s->len = len;
    pthread_mutex_init(&s->mutex, NULL);
    s->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    KP_ASSERT(bind(s->listen_fd, (struct sockaddr *)&address, size) == 0 && listen(s->listen_fd, 16) == 0);
    KP_ASSERT(getsockname(s->listen_fd, (struct sockaddr *)&address, &size) == 0 && pipe(s->stop_fds) == 0);
    snprintf(s->url, sizeof s->url, "http://127.0.0.1:%d", ntohs(address.sin_port));
    KP_ASSERT(pthread_create(&s->thread, NULL, run, s) == 0);
    return s;
}

const char *http_script_url(const struct http_script *s)
{
    return s->url;
}

size_t http_script_served(struct http_script *s)
{
    pthread_mutex_lock(&s->mutex);
    size_t served = s->served;
    pthread_mutex_unlock(&s->mutex);
    return served;
}

const char *http_script_request(struct http_script *s, size_t n)
{
    pthread_mutex_lock(&s->mutex);
    const char *request = n < REQUESTS_MAX && n < s->served ? s->requests[n] : "";
    pthread_mutex_unlock(&s->mutex);
    return request;
}

size_t http_script_end(struct http_script *s)
{
    KP_ASSERT(write(s->stop_fds[1], "x", 1) == 1);
    pthread_join(s->thread, NULL);
    size_t unexpected = s->unexpected;
    for (size_t i = 0; i < REQUESTS_MAX; i++)
        free(s->requests[i]);
    close(s->listen_fd);
    close(s->stop_fds[0]);
    close(s->stop_fds[1]);
    pthread_mutex_destroy(&s->mutex);
    free(s);
    return unexpected;
}
