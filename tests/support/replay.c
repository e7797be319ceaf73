/* A thread that takes one connection after the other and answers each request from the script. */
#include "tests/support/replay.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#define REQUEST_MAX ((size_t)8 << 20)
#define EXCHANGES_MAX 2000

struct exchange {
    char *request, *body, *status, *header, *answer; /* body NULL: any */
};
struct replay {
    pthread_t thread;
    int listener;
    char url[64];
    atomic_bool over;
    struct exchange *exchanges;
    size_t n, next;
    char *problem;
};

static char *rest_of(const char *line, const char *mark)
{
    return kp_strndup(line + strlen(mark), strcspn(line + strlen(mark), "\n"));
}

static void add_answer(struct exchange *exchange, const char *line, size_t len)
{
    char *longer = exchange->answer ? kp_asprintf("%s\n%.*s", exchange->answer, (int)len, line) : kp_strndup(line, len);
    free(exchange->answer);
    exchange->answer = longer;
}

static void parse(struct replay *replay, const char *script)
{
    replay->exchanges = kp_calloc(EXCHANGES_MAX, sizeof(struct exchange));
    for (const char *line = script; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        struct exchange *now = replay->n ? &replay->exchanges[replay->n - 1] : NULL;
        if (kp_starts_with(line, ">>> ")) {
            KP_ASSERT(replay->n < EXCHANGES_MAX);
            replay->exchanges[replay->n++].request = rest_of(line, ">>> ");
        } else if (now && kp_starts_with(line, "=== ")) {
            now->body = rest_of(line, "=== ");
        } else if (now && kp_starts_with(line, "<<< ")) {
            char *words = rest_of(line, "<<< "), *space = strchr(words, ' ');
            now->status = kp_strndup(words, strcspn(words, " "));
            now->header = space ? kp_strdup(space + 1) : NULL;
            free(words);
        } else if (now && now->status && *line != '\n') {
            add_answer(now, line, strcspn(line, "\n"));
        }
    }
}

static bool read_request(int fd, struct kp_buf *in, size_t *ret_head)
{
    char chunk[65536];
    for (;;) {
        const char *end = in->data ? strstr(in->data, "\r\n\r\n") : NULL;
        const char *length = end ? strcasestr(in->data, "\r\nContent-Length:") : NULL;
        size_t wanted = length && length < end ? strtoul(length + strlen("\r\nContent-Length:"), NULL, 10) : 0;
        if (end && in->len >= (size_t)(end - in->data) + 4 + wanted) {
            *ret_head = (size_t)(end - in->data) + 4;
            return true;
        }
        ssize_t n = in->len < REQUEST_MAX ? read(fd, chunk, sizeof(chunk)) : 0;
        if (n <= 0)
            return false;
        kp_buf_append(in, chunk, (size_t)n);
    }
}

static void complain(struct replay *replay, const char *wanted, const char *got)
{
    if (!replay->problem)
        replay->problem = kp_asprintf("exchange %zu: wanted %s\n got %s", replay->next + 1, wanted, got);
}

/* The exchange that a request belongs to, NULL when it is not the one that the script has. */
static const struct exchange *match(struct replay *replay, const char *line, const char *body)
{
    const struct exchange *last = replay->next ? &replay->exchanges[replay->next - 1] : NULL;
    const struct exchange *next = replay->next < replay->n ? &replay->exchanges[replay->next] : NULL;
    if (next && kp_streq(next->request, line)) {
        if (next->body && !kp_streq(next->body, body))
            complain(replay, next->body, body);
        replay->next++;
        return next;
    }
    if (last && kp_starts_with(line, "GET ") && kp_streq(last->request, line))
        return last;
    complain(replay, next ? next->request : "nothing", line);
    return NULL;
}

static void answer(const struct replay *replay, int fd, const struct exchange *exchange)
{
    KP_AUTO_BUF struct kp_buf body = {0}, out = {0};
    for (const char *text = exchange && exchange->answer ? exchange->answer : ""; *text;) {
        const char *mark = strstr(text, "@BASE@");
        kp_buf_append(&body, text, mark ? (size_t)(mark - text) : strlen(text));
        if (mark)
            kp_buf_puts(&body, replay->url);
        text = mark ? mark + strlen("@BASE@") : text + strlen(text);
    }
    kp_buf_printf(&out, "HTTP/1.1 %s Answer\r\nContent-Length: %zu\r\nConnection: close\r\n", exchange ? exchange->status : "418", body.len);
    if (exchange && exchange->header)
        kp_buf_printf(&out, "%s\r\n", exchange->header);
    kp_buf_puts(&out, "\r\n");
    kp_buf_append(&out, body.data ? body.data : "", body.len);
    for (size_t sent = 0; sent < out.len;) {
        ssize_t n = send(fd, out.data + sent, out.len - sent, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        sent += (size_t)n;
    }
}

static void serve(struct replay *replay, int fd)
{
    KP_AUTO_BUF struct kp_buf in = {0};
    size_t head = 0;
    if (!read_request(fd, &in, &head))
        return;
    char *line = kp_strndup(in.data, strcspn(in.data, "\r")), *version = strrchr(line, ' ');
    if (version)
        *version = 0;
    const struct exchange *exchange = match(replay, line, in.data + head);
    if (!exchange || !kp_streq(exchange->status, "cut"))
        answer(replay, fd, exchange);
    free(line);
}

static void *run(void *arg)
{
    struct replay *replay = arg;
    while (!atomic_load(&replay->over)) {
        int fd = accept(replay->listener, NULL, NULL);
        if (fd < 0)
            continue;
        serve(replay, fd);
        shutdown(fd, SHUT_WR);
        close(fd);
    }
    return NULL;
}

struct replay *replay_start(const char *script)
{
    struct replay *replay = kp_calloc(1, sizeof(*replay));
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    atomic_init(&replay->over, false);
    parse(replay, script);
    replay->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    KP_ASSERT(replay->listener >= 0 && bind(replay->listener, (struct sockaddr *)&address, len) == 0 && listen(replay->listener, 64) == 0);
    KP_ASSERT(getsockname(replay->listener, (struct sockaddr *)&address, &len) == 0);
    snprintf(replay->url, sizeof(replay->url), "http://127.0.0.1:%d", ntohs(address.sin_port));
    KP_ASSERT(pthread_create(&replay->thread, NULL, run, replay) == 0);
    return replay;
}

struct replay *replay_start_file(const char *path)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    struct kp_error error = {0};
    if (kp_read_file(path, 0, &text, &error) < 0)
        fprintf(stderr, "%s\n", error.message);
    KP_ASSERT(text.len > 0);
    return replay_start(text.data);
}

const char *replay_url(const struct replay *replay)
{
    return replay->url;
}

char *replay_end(struct replay *replay)
{
    atomic_store(&replay->over, true);
    shutdown(replay->listener, SHUT_RDWR); /* accept returns */
    pthread_join(replay->thread, NULL);
    close(replay->listener);
    if (!replay->problem && replay->next < replay->n)
        replay->problem = kp_asprintf("exchange %zu did not come: %s", replay->next + 1, replay->exchanges[replay->next].request);
    char *problem = replay->problem;
    for (size_t i = 0; i < replay->n; i++) {
        struct exchange *exchange = &replay->exchanges[i];
        free(exchange->request);
        free(exchange->body);
        free(exchange->status);
        free(exchange->header);
        free(exchange->answer);
    }
    free(replay->exchanges);
    free(replay);
    return problem;
}
