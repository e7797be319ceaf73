/* Connections to etcd that the cluster's API server carries, as `kubectl port-forward` has them carried: each is a WebSocket to
   pods/portforward of a control plane's etcd (v4.channel.k8s.io). A message begins with its channel, 0 for bytes and 1 for errors, and
   the first of each channel is the port's number, little-endian. */
#include <pthread.h>

#include "client/client.h"
#include "http/http.h"
#include "provisioner/etcd/etcd_internal.h"

#define NAMESPACE "kube-system"
#define PIPES_MAX 64                  /* connections at a time; a member has one */
#define CONNECT_THREADS 8
#define CONNECT_TIMEOUT_MS 8000
#define QUEUED_HIGH ((size_t)1 << 20) /* with so much unsent the other side is not read */
#define PORT_BYTES 2

enum { CHANNEL_DATA, CHANNEL_ERROR, CHANNELS };

struct tunnel {
    struct etcd_tunnels *all;
    struct loop_listener *listener;
    char *path;
    char url[40];
    char problem[KP_ERROR_MESSAGE_MAX]; /* guarded: why the last connection was not made, or broke */
};

struct etcd_tunnels {
    struct loop *loop; /* borrowed */
    struct client *api;
    struct pool *pool;
    struct http_cancel *cancel;
    pthread_mutex_t mutex;
    pthread_cond_t gone;
    size_t n_pipes;            /* guarded */
    struct pipe *pipes;        /* loop thread */
    bool closing;              /* loop thread */
    struct tunnel items[ETCD_CLIENT_ENDPOINTS_MAX];
    size_t len;
};

/* A connection. Of the loop's thread, but for what the connecting one sets before it posts back. */
struct pipe {
    struct tunnel *tunnel;
    struct pipe *previous, *next;
    struct loop_stream *stream;
    struct ws *ws;         /* from connecting until its on_close */
    struct kp_error error; /* of connecting */
    bool opened[CHANNELS], over;
};

static void set_problem(struct tunnel *tunnel, const char *text, size_t len)
{
    pthread_mutex_lock(&tunnel->all->mutex);
    snprintf(tunnel->problem, sizeof(tunnel->problem), "%.*s", (int)KP_MIN(len, sizeof(tunnel->problem)), text);
    pthread_mutex_unlock(&tunnel->all->mutex);
}

static void pipe_free(struct pipe *pipe)
{
    struct etcd_tunnels *all = pipe->tunnel->all;
    *(pipe->previous ? &pipe->previous->next : &all->pipes) = pipe->next;
    if (pipe->next)
        pipe->next->previous = pipe->previous;
    ws_unref(pipe->ws);
    free(pipe);
    pthread_mutex_lock(&all->mutex);
    if (--all->n_pipes == 0)
        pthread_cond_signal(&all->gone);
    pthread_mutex_unlock(&all->mutex);
}

/* The WebSocket's on_close, or the end of connecting, frees it. */
static void pipe_close(struct pipe *pipe)
{
    if (pipe->over)
        return;
    pipe->over = true;
    loop_stream_close(pipe->stream);
    if (pipe->ws)
        ws_close(pipe->ws, WS_CLOSE_NORMAL, NULL);
}

/* ---- etcd's bytes to us */
static void on_message(struct ws *ws, enum ws_opcode opcode, const uint8_t *data, size_t len, void *arg)
{
    static const char foreign[] = "the API server's port-forward does not speak v4.channel.k8s.io";
    struct pipe *pipe = arg;
    if (pipe->over || opcode != WS_BINARY || len < 1)
        return;
    unsigned channel = data[0];
    data++;
    len--;
    if (channel >= CHANNELS || (!pipe->opened[channel] && len < PORT_BYTES)) {
        set_problem(pipe->tunnel, foreign, sizeof(foreign) - 1);
        pipe_close(pipe);
        return;
    }
    if (!pipe->opened[channel]) {
        pipe->opened[channel] = true;
        data += PORT_BYTES;
        len -= PORT_BYTES;
    }
    if (channel == CHANNEL_ERROR && len) {
        set_problem(pipe->tunnel, (const char *)data, len);
        pipe_close(pipe);
    } else if (len) {
        loop_stream_write(pipe->stream, data, len);
        if (loop_stream_queued(pipe->stream) > QUEUED_HIGH)
            ws_pause(ws);
    }
}

static void on_stream_drain(struct loop_stream *stream, void *arg)
{
    struct pipe *pipe = arg;
    (void)stream;
    ws_resume(pipe->ws);
}

/* ---- our bytes to etcd */
static void on_read(struct loop_stream *stream, const uint8_t *data, size_t len, void *arg)
{
    static const char channel = CHANNEL_DATA;
    struct pipe *pipe = arg;
    KP_AUTO_BUF struct kp_buf message = {0};
    kp_buf_append(&message, &channel, 1);
    kp_buf_append(&message, data, len);
    if (ws_send(pipe->ws, WS_BINARY, message.data, message.len) < 0)
        pipe_close(pipe);
    else if (ws_queued(pipe->ws) > QUEUED_HIGH)
        loop_stream_pause(stream);
}

static void on_ws_drain(struct ws *ws, void *arg)
{
    struct pipe *pipe = arg;
    (void)ws;
    if (!pipe->over)
        loop_stream_resume(pipe->stream);
}

/* ---- ends */
static void on_eof(struct loop_stream *stream, void *arg)
{
    (void)stream;
    pipe_close(arg);
}

static void on_error(struct loop_stream *stream, const struct kp_error *error, void *arg)
{
    (void)stream;
    (void)error;
    pipe_close(arg);
}

static void on_ws_close(struct ws *ws, int close_code, void *arg)
{
    struct pipe *pipe = arg;
    (void)ws;
    (void)close_code;
    pipe_close(pipe);
    pipe_free(pipe);
}

/* ---- connecting */
static void on_connected(void *arg)
{
    static const struct ws_callbacks ws_callbacks = {.on_message = on_message, .on_drain = on_ws_drain, .on_close = on_ws_close};
    static const struct loop_stream_callbacks callbacks = {.on_read = on_read, .on_eof = on_eof, .on_error = on_error, .on_drain = on_stream_drain};
    struct pipe *pipe = arg;
    set_problem(pipe->tunnel, pipe->error.message, strlen(pipe->error.message));
    if (!pipe->ws || pipe->tunnel->all->closing) {
        pipe_close(pipe);
        pipe_free(pipe);
        return;
    }
    ws_start(pipe->ws, &ws_callbacks, pipe);
    loop_stream_set_callbacks(pipe->stream, &callbacks, pipe);
    loop_stream_resume(pipe->stream);
}

static void connect_pipe(void *arg) /* on the pool: waits for the API server */
{
    static const char *const protocols[] = {"v4.channel.k8s.io", NULL};
    struct pipe *pipe = arg;
    const struct etcd_tunnels *all = pipe->tunnel->all;
    if (client_websocket(all->api, pipe->tunnel->path, protocols, all->cancel, &pipe->ws, &pipe->error) < 0)
        pipe->ws = NULL;
    loop_post(all->loop, on_connected, pipe);
}

static void on_accept(struct loop_stream *stream, void *arg)
{
    struct tunnel *tunnel = arg;
    struct etcd_tunnels *all = tunnel->all;
    struct pipe *pipe = kp_calloc(1, sizeof(*pipe));
    *pipe = (struct pipe){.tunnel = tunnel, .stream = stream, .next = all->pipes};
    if (all->pipes)
        all->pipes->previous = pipe;
    all->pipes = pipe;
    pthread_mutex_lock(&all->mutex);
    bool room = ++all->n_pipes <= PIPES_MAX;
    pthread_mutex_unlock(&all->mutex);
    if (!room || all->closing || pool_submit(all->pool, connect_pipe, pipe) < 0) {
        pipe_close(pipe);
        pipe_free(pipe);
    }
}

/* ---- all of them */
static int open_one(struct etcd_tunnels *all, const char *node, struct kp_error *error)
{
    struct tunnel *tunnel = &all->items[all->len];
    tunnel->all = all;
    int r = loop_listen_tcp(all->loop, "127.0.0.1", 0, on_accept, tunnel, &tunnel->listener, error);
    if (r < 0)
        return r;
    tunnel->path = kp_asprintf("/api/v1/namespaces/" NAMESPACE "/pods/etcd-%s/portforward?ports=%d", node, ETCD_CLIENT_PORT);
    snprintf(tunnel->url, sizeof(tunnel->url), "https://127.0.0.1:%u", loop_listener_port(tunnel->listener));
    all->len++;
    return 0;
}

int etcd_tunnels_open(struct loop *loop, const struct client_config *api, const char *const *nodes, size_t count,
                      struct etcd_tunnels **ret, struct kp_error *error)
{
    KP_AUTO(etcd_tunnels_close) struct etcd_tunnels *all = kp_calloc(1, sizeof(*all));
    struct client_config config = *api;
    all->loop = loop;
    pthread_mutex_init(&all->mutex, NULL);
    pthread_cond_init(&all->gone, NULL);
    all->cancel = http_cancel_new();
    all->pool = pool_new("kprov-tunnel", CONNECT_THREADS, PIPES_MAX);
    config.timeout_ms = CONNECT_TIMEOUT_MS;
    int r = client_new(loop, &config, &all->api, error);
    for (size_t i = 0; r == 0 && i < count; i++)
        r = open_one(all, nodes[i], error);
    if (r == 0)
        *ret = KP_TAKE(all);
    return r;
}

static void close_all(void *arg)
{
    struct etcd_tunnels *all = arg;
    all->closing = true;
    for (size_t i = 0; i < all->len; i++)
        loop_listener_free(all->items[i].listener);
    for (struct pipe *pipe = all->pipes; pipe; pipe = pipe->next)
        pipe_close(pipe);
}

void etcd_tunnels_close(struct etcd_tunnels *all)
{
    if (!all)
        return;
    http_cancel_fire(all->cancel);
    pool_free(all->pool);
    loop_call(all->loop, close_all, all);
    pthread_mutex_lock(&all->mutex);
    while (all->n_pipes)
        pthread_cond_wait(&all->gone, &all->mutex);
    pthread_mutex_unlock(&all->mutex);
    client_free(all->api);
    http_cancel_unref(all->cancel);
    for (size_t i = 0; i < all->len; i++)
        free(all->items[i].path);
    pthread_cond_destroy(&all->gone);
    pthread_mutex_destroy(&all->mutex);
    free(all);
}

const char *etcd_tunnels_url(const struct etcd_tunnels *all, size_t i)
{
    KP_ASSERT(i < all->len);
    return all->items[i].url;
}

bool etcd_tunnels_problem(struct etcd_tunnels *all, size_t i, char out[KP_ERROR_MESSAGE_MAX])
{
    KP_ASSERT(i < all->len);
    pthread_mutex_lock(&all->mutex);
    snprintf(out, KP_ERROR_MESSAGE_MAX, "%s", all->items[i].problem);
    pthread_mutex_unlock(&all->mutex);
    return *out;
}
