/* HTTP/2 as a client that only ever sends the same few headers: frames by hand, one write a turn and connection. */
#include "tests/bench/etcd/load/load.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { DATA = 0, HEADERS = 1, RST_STREAM = 3, SETTINGS = 4, PING = 6, GOAWAY = 7, WINDOW_UPDATE = 8 };
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4 };
#define FRAME_HEADER 9
#define GRPC_HEADER 5
#define WINDOW (1u << 30) /* what the server may send us */
#define READ_BYTES ((size_t)256 << 10)

static void frame(struct kp_buf *out, size_t len, int type, int flags, uint32_t stream)
{
    uint8_t head[FRAME_HEADER] = {(uint8_t)(len >> 16), (uint8_t)(len >> 8), (uint8_t)len, (uint8_t)type, (uint8_t)flags,
                                  (uint8_t)(stream >> 24), (uint8_t)(stream >> 16), (uint8_t)(stream >> 8), (uint8_t)stream};
    kp_buf_append(out, head, sizeof head);
}

static void number32(struct kp_buf *out, uint32_t value)
{
    uint8_t bytes[4] = {(uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8), (uint8_t)value};
    kp_buf_append(out, bytes, 4);
}

static uint32_t get32(const uint8_t *p) { return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]; }

static void mark_dirty(struct conn *conn)
{
    if (conn->dirty)
        return;
    conn->dirty = true;
    conn->next_dirty = conn->load->dirty;
    conn->load->dirty = conn;
}

static void window_update(struct conn *conn, uint32_t stream, uint32_t bytes)
{
    frame(&conn->out, 4, WINDOW_UPDATE, 0, stream);
    number32(&conn->out, bytes);
    mark_dirty(conn);
}

/* ---- opening ---- */

static int dial(const char *host, const char *port, struct kp_error *error)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    if (getaddrinfo(host, port, &hints, &found) != 0)
        return kp_fail(error, KP_EUNAVAILABLE, "look up %s", host);
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    int rc = fd < 0 ? -1 : connect(fd, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    if (rc < 0) {
        kp_fail_errno(error, "connect to %s:%s", host, port);
        if (fd >= 0)
            close(fd);
        return error->code;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static void to_wire(struct conn *conn)
{
    struct kp_error error = {0};
    if (!conn->tls) {
        kp_buf_append(&conn->wire, conn->out.data, conn->out.len);
    } else if (conn->ready) {
        if (conn->out.len && tls_session_write(conn->tls, conn->out.data, conn->out.len, &error) < 0)
            load_die("TLS", &error);
    }
    if (!conn->tls || conn->ready)
        conn->out.len = 0;
    if (conn->tls) {
        struct kp_bytes bytes = tls_session_output(conn->tls);
        kp_buf_append(&conn->wire, bytes.data ? bytes.data : (const uint8_t *)"", bytes.len);
        tls_session_output_consume(conn->tls, bytes.len);
    }
}

static void watch_writable(struct conn *conn, bool wanted)
{
    if (conn->want_write == wanted)
        return;
    conn->want_write = wanted;
    struct epoll_event event = {.events = EPOLLIN | (wanted ? EPOLLOUT : 0u), .data.ptr = conn};
    epoll_ctl(conn->load->epoll, EPOLL_CTL_MOD, conn->fd, &event);
}

void conn_flush(struct conn *conn)
{
    struct kp_error error = {0};
    to_wire(conn);
    while (conn->wire_at < conn->wire.len) {
        ssize_t n = send(conn->fd, conn->wire.data + conn->wire_at, conn->wire.len - conn->wire_at, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            watch_writable(conn, true);
            return;
        }
        if (n < 0) {
            kp_fail_errno(&error, "write to the server");
            load_die("connection", &error);
        }
        conn->wire_at += (size_t)n;
    }
    conn->wire.len = conn->wire_at = 0;
    watch_writable(conn, false);
}

int conn_open(struct load *load, struct conn *conn, const char *endpoint, struct kp_error *error)
{
    const char *colon = strrchr(endpoint, ':');
    if (!colon)
        return kp_fail(error, KP_EUSAGE, "endpoint %s has no port", endpoint);
    KP_AUTO_FREE char *host = kp_strndup(endpoint, (size_t)(colon - endpoint));
    conn->load = load;
    conn->next_id = 1;
    conn->window = 65535;
    if ((conn->fd = dial(host, colon + 1, error)) < 0)
        return conn->fd;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = conn};
    epoll_ctl(load->epoll, EPOLL_CTL_ADD, conn->fd, &event);
    conn->ready = !load->tls;
    if (load->tls && tls_session_new(load->tls, NULL, &conn->tls, error) < 0)
        return error->code;
    conn->parked = kp_calloc((size_t)load->clients + 1, sizeof(struct client *));
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    kp_buf_append(&conn->out, preface, sizeof preface - 1);
    frame(&conn->out, 12, SETTINGS, 0, 0);
    kp_buf_append(&conn->out, "\0\x2\0\0\0\0\0\x4", 8); /* no push; then the window of a stream */
    number32(&conn->out, WINDOW);
    window_update(conn, 0, WINDOW);
    return 0;
}

void conn_close(struct conn *conn)
{
    if (conn->fd > 0)
        close(conn->fd);
    tls_session_free(conn->tls);
    kp_buf_done(&conn->in);
    kp_buf_done(&conn->out);
    kp_buf_done(&conn->wire);
    for (size_t i = 0; i < SLOTS; i++)
        free(conn->streams[i]);
    free(conn->parked);
}

/* ---- requests ---- */

static void literal(struct kp_buf *out, const char *text)
{
    kp_buf_putc(out, (char)strlen(text)); /* all are shorter than 127 bytes; no Huffman code */
    kp_buf_puts(out, text);
}

/* RFC 7541: the first call of a connection enters the fields into the dynamic table, later ones point at them. */
static void headers(struct conn *conn, const struct client *client, uint32_t id)
{
    struct kp_buf *out = &conn->out;
    char scheme = conn->tls ? (char)0x87 : (char)0x86;
    if (conn->told_path) {
        const char block[] = {(char)0x83, scheme, (char)(0x80 | 65), (char)(0x80 | 64), (char)(0x80 | 63), (char)(0x80 | 62)};
        frame(out, sizeof block, HEADERS, END_HEADERS, id);
        kp_buf_append(out, block, sizeof block);
        return;
    }
    conn->told_path = true;
    KP_AUTO_BUF struct kp_buf block = {0};
    kp_buf_putc(&block, (char)0x83); /* :method POST */
    kp_buf_putc(&block, scheme);
    kp_buf_putc(&block, 0x40 | 4); /* :path */
    literal(&block, load_path(conn->load, client));
    kp_buf_putc(&block, 0x40 | 1); /* :authority */
    literal(&block, "bench");
    kp_buf_putc(&block, 0x40 | 31); /* content-type */
    literal(&block, "application/grpc");
    kp_buf_putc(&block, 0x40);
    literal(&block, "te");
    literal(&block, "trailers");
    frame(out, block.len, HEADERS, END_HEADERS, id);
    kp_buf_append(out, block.data, block.len);
}

static struct stream *free_stream(struct conn *conn)
{
    for (size_t tried = 0; tried < SLOTS; tried++, conn->next_id += 2) {
        struct stream **at = &conn->streams[(conn->next_id >> 1) % SLOTS];
        if (!*at)
            *at = kp_calloc(1, sizeof **at);
        if ((*at)->id)
            continue;
        (*at)->id = conn->next_id;
        conn->next_id += 2;
        return *at;
    }
    load_die("too many streams on a connection", &(struct kp_error){0});
}

bool conn_call(struct conn *conn, struct client *client, const struct kp_buf *message, bool end)
{
    size_t bytes = message->len;
    if (!conn->ready || conn->window < (int64_t)bytes) {
        conn->parked[conn->parked_len++] = client;
        return false;
    }
    struct stream *stream = free_stream(conn);
    stream->client = client;
    stream->started_ns = conn->load->now_ns;
    stream->data = false;
    stream->unacked = 0;
    client->answer_len = 0;
    headers(conn, client, stream->id);
    for (size_t at = 0; at < bytes;) { /* frames of at most 16 KiB, as every server takes them */
        size_t len = KP_MIN(bytes - at, (size_t)16384);
        frame(&conn->out, len, DATA, end && at + len == bytes ? END_STREAM : 0, stream->id);
        kp_buf_append(&conn->out, message->data + at, len);
        at += len;
    }
    conn->window -= (int64_t)bytes;
    mark_dirty(conn);
    return true;
}

static void unpark(struct conn *conn)
{
    size_t len = conn->parked_len;
    conn->parked_len = 0;
    for (size_t i = 0; i < len; i++) {
        struct client *client = conn->parked[i];
        conn_call(conn, client, &client->message, !client->is_watcher);
    }
}

/* ---- answers ---- */

/* Walks the bytes of WatchResponses as they come, so that none need be kept: tells each top-level field. */
static void walk_events(struct conn *conn, struct stream *s, const uint8_t *p, size_t len)
{
    for (const uint8_t *end = p + len; p < end;) {
        if (s->part == PART_FRAME) {
            s->frame[s->frame_at++] = *p++;
            if (s->frame_at == GRPC_HEADER) {
                s->message_left = get32(s->frame + 1);
                s->frame_at = 0;
                s->watch_id = 0; /* which is left out when it is */
                s->part = s->message_left ? PART_TAG : PART_FRAME;
                s->number = s->shift = 0;
            }
            continue;
        }
        if (s->part == PART_SKIP) {
            uint32_t n = (uint32_t)KP_MIN((size_t)s->skip, (size_t)(end - p));
            if (s->keep) {
                size_t kept = KP_MIN((size_t)n, sizeof s->event - s->event_len);
                memcpy(s->event + s->event_len, p, kept);
                s->event_len += kept;
            }
            p += n;
            s->skip -= n;
            s->message_left -= n;
        } else {
            uint8_t byte = *p++;
            s->message_left--;
            s->number |= (uint64_t)(byte & 0x7f) << s->shift;
            s->shift += 7;
            if (byte & 0x80)
                continue;
            if (s->part == PART_TAG) {
                s->field = (unsigned)(s->number >> 3);
                s->part = (s->number & 7) == 2 ? PART_LENGTH : PART_VARINT;
                s->number = s->shift = 0;
                continue;
            }
            s->skip = s->part == PART_LENGTH ? (uint32_t)s->number : 0;
            load_watched(conn->load, s);
            s->part = PART_SKIP;
        }
        if (s->skip == 0) {
            if (s->keep)
                load_event(conn->load, s);
            s->part = s->message_left ? PART_TAG : PART_FRAME;
            s->number = s->shift = 0;
        }
    }
}

static void on_data(struct conn *conn, struct stream *stream, const uint8_t *data, size_t len)
{
    conn->unacked += (uint32_t)len;
    if (conn->unacked > WINDOW / 4) {
        window_update(conn, 0, conn->unacked);
        conn->unacked = 0;
    }
    if (!stream)
        return;
    stream->data |= len > 0;
    if (stream->client->is_watcher) {
        stream->unacked += (uint32_t)len;
        if (stream->unacked > WINDOW / 4) {
            window_update(conn, stream->id, stream->unacked);
            stream->unacked = 0;
        }
        walk_events(conn, stream, data, len);
        return;
    }
    struct client *client = stream->client;
    size_t kept = KP_MIN(len, ANSWER_MAX - client->answer_len);
    memcpy(client->answer + client->answer_len, data, kept);
    client->answer_len += kept;
}

static void on_settings(struct conn *conn, int flags)
{
    if (flags & ACK)
        return;
    frame(&conn->out, 0, SETTINGS, ACK, 0);
    mark_dirty(conn);
}

static void on_frame(struct conn *conn, int type, int flags, uint32_t id, const uint8_t *payload, size_t len)
{
    struct stream *stream = id ? conn->streams[(id >> 1) % SLOTS] : NULL;
    if (stream && stream->id != id)
        stream = NULL;
    switch (type) {
    case DATA: on_data(conn, stream, payload, len); break;
    case SETTINGS: on_settings(conn, flags); return;
    case PING:
        if (!(flags & ACK)) {
            frame(&conn->out, len, PING, ACK, 0);
            kp_buf_append(&conn->out, payload, len);
            mark_dirty(conn);
        }
        return;
    case WINDOW_UPDATE:
        if (id == 0) {
            conn->window += get32(payload) & 0x7fffffff;
            unpark(conn);
        }
        return;
    case GOAWAY: load_die("the server sent GOAWAY", &(struct kp_error){0});
    case HEADERS:
    case RST_STREAM: break;
    default: return;
    }
    bool over = type == RST_STREAM || (flags & END_STREAM);
    if (!stream || !over)
        return;
    stream->id = 0;
    load_answered(conn->load, stream, stream->data && type != RST_STREAM);
}

static void parse(struct conn *conn)
{
    size_t at = 0;
    const uint8_t *data = (const uint8_t *)conn->in.data;
    while (conn->in.len - at >= FRAME_HEADER) {
        const uint8_t *p = data + at;
        size_t len = (size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2];
        if (conn->in.len - at < FRAME_HEADER + len)
            break;
        on_frame(conn, p[3], p[4], get32(p + 5) & 0x7fffffff, p + FRAME_HEADER, len);
        at += FRAME_HEADER + len;
    }
    kp_buf_consume(&conn->in, at);
}

static void decrypt(struct conn *conn, const uint8_t *data, size_t len)
{
    struct kp_error error = {0};
    if (tls_session_feed(conn->tls, data, len, &error) < 0)
        load_die("TLS", &error);
    if (!conn->ready && tls_session_handshake_done(conn->tls)) {
        conn->ready = true;
        unpark(conn);
    }
    mark_dirty(conn);
    for (;;) {
        kp_buf_reserve(&conn->in, 32768);
        ssize_t n = tls_session_read(conn->tls, conn->in.data + conn->in.len, 32768, &error);
        if (n < 0)
            load_die("TLS", &error);
        if (n == 0)
            return;
        conn->in.len += (size_t)n;
    }
}

void conn_readable(struct conn *conn)
{
    static uint8_t cipher[READ_BYTES];
    struct kp_error error = {0};
    uint8_t *to = cipher;
    if (!conn->tls) {
        kp_buf_reserve(&conn->in, READ_BYTES);
        to = (uint8_t *)conn->in.data + conn->in.len;
    }
    ssize_t n = recv(conn->fd, to, READ_BYTES, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        n == 0 ? kp_fail(&error, KP_EIO, "the server closed the connection") : kp_fail_errno(&error, "read from the server");
        load_die("connection", &error);
    }
    conn->load->bytes_in += (uint64_t)n;
    if (conn->tls)
        decrypt(conn, cipher, (size_t)n);
    else
        conn->in.len += (size_t)n;
    parse(conn);
}
