/* Transports over loopback, and what they told. */
#include "tests/support/peer_world.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <time.h>

static void on_message(void *ctx, struct raft_message *message)
{
    struct world *world = ctx;
    pthread_mutex_lock(&world->lock);
    world->messages = kp_realloc(world->messages, (world->messages_len + 1) * sizeof(*world->messages));
    world->messages[world->messages_len++] = *message;
    pthread_cond_broadcast(&world->changed);
    pthread_mutex_unlock(&world->lock);
}

static int on_snapshot_begin(void *ctx, const struct raft_message *message, char **ret_path, struct kp_error *error)
{
    struct world *world = ctx;
    pthread_mutex_lock(&world->lock);
    snprintf(world->begun_path, sizeof(world->begun_path), "%s/incoming-%u", world->dir, world->begun);
    world->begun++;
    *ret_path = kp_strdup(world->begun_path);
    pthread_cond_broadcast(&world->changed);
    pthread_mutex_unlock(&world->lock);
    return 0;
}

static int on_snapshot_end(void *ctx, struct raft_message *message, const char *path, struct kp_error *error)
{
    struct world *world = ctx;
    pthread_mutex_lock(&world->lock);
    kp_buf_done(&world->image);
    int rc = kp_read_file(path, 0, &world->image, error);
    world->image_index = message->snapshot->index;
    world->ended++;
    pthread_cond_broadcast(&world->changed);
    pthread_mutex_unlock(&world->lock);
    unlink(path);
    raft_message_done(message);
    return rc;
}

static void on_snapshot_sent(void *ctx, uint64_t to, bool ok)
{
    struct world *world = ctx;
    pthread_mutex_lock(&world->lock);
    world->sent_ok += ok;
    world->sent_failed += !ok;
    pthread_cond_broadcast(&world->changed);
    pthread_mutex_unlock(&world->lock);
}

static void on_unreachable(void *ctx, uint64_t to)
{
    struct world *world = ctx;
    pthread_mutex_lock(&world->lock);
    world->unreachable++;
    pthread_cond_broadcast(&world->changed);
    pthread_mutex_unlock(&world->lock);
}

static int on_question(void *ctx, const char *what, struct kp_bytes question, struct kp_buf *out, struct kp_error *error)
{
    struct world *world = ctx;
    if (kp_streq(what, "fail"))
        return kp_fail(error, world->question_code, "refused: %.*s", (int)question.len, (const char *)question.data);
    if (kp_streq(what, "hang"))
        kp_sleep_ms(2000);
    kp_buf_printf(out, "%s of ", what);
    kp_buf_append(out, question.data, question.len);
    return 0;
}

static int on_get(void *ctx, const char *path, const char **ret_content_type, struct kp_buf *out, struct kp_error *error)
{
    if (!kp_streq(path, "/members"))
        return kp_fail(error, KP_ENOTFOUND, "no %s", path);
    *ret_content_type = "application/json";
    kp_buf_puts(out, "[{\"id\":1}]");
    return 0;
}

void world_start(struct world *world, uint64_t id, const struct peer_config *extra)
{
    struct kp_error error = {0};
    struct peer_config config = extra ? *extra : (struct peer_config){0};
    *world = (struct world){.id = id};
    pthread_mutex_init(&world->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&world->changed, &attr);
    pthread_condattr_destroy(&attr);
    snprintf(world->dir, sizeof(world->dir), "/tmp/test-peer-XXXXXX");
    assert_non_null(mkdtemp(world->dir));
    config.cluster_id = config.cluster_id ? config.cluster_id : CLUSTER;
    config.member_id = id;
    config.listen_urls = config.listen_urls ? config.listen_urls : "http://127.0.0.1:0";
    config.events = (struct peer_events){world,           on_message,     on_snapshot_begin, on_snapshot_end,
                                         on_snapshot_sent, on_unreachable, on_question,       on_get};
    if (peer_start(&config, &world->transport, &error) < 0)
        fail_msg("%s", error.message);
}

void world_stop(struct world *world)
{
    peer_stop(world->transport);
    for (size_t i = 0; i < world->messages_len; i++)
        raft_message_done(&world->messages[i]);
    free(world->messages);
    kp_buf_done(&world->image);
    if (rmdir(world->dir) < 0) /* whatever a transfer left there is a fault */
        fail_msg("files are left in %s", world->dir);
    pthread_mutex_destroy(&world->lock);
    pthread_cond_destroy(&world->changed);
    world->transport = NULL;
}

void world_url(const struct world *world, char out[64])
{
    snprintf(out, 64, "%s://127.0.0.1:%u", world->transport->server_tls ? "https" : "http",
             peer_listen_port(world->transport, 0));
}

void world_know(struct world *world, const struct world *other)
{
    char url[64];
    world_url(other, url);
    const char *const urls[] = {url};
    peer_set(world->transport, other->id, urls, 1);
}

static uint64_t read_number(const void *value, size_t size)
{
    return size == 4 ? *(const uint32_t *)value : *(const uint64_t *)value;
}

void world_wait(struct world *world, const void *value, size_t size, uint64_t least)
{
    int64_t until_ns = kp_mono_ns() + WAIT_MS_MAX * INT64_C(1000000);
    const struct timespec until = {.tv_sec = until_ns / 1000000000, .tv_nsec = until_ns % 1000000000};
    int status = 0;
    pthread_mutex_lock(&world->lock);
    while (read_number(value, size) < least && status == 0)
        status = pthread_cond_timedwait(&world->changed, &world->lock, &until);
    uint64_t number = read_number(value, size);
    pthread_mutex_unlock(&world->lock);
    if (number < least)
        fail_msg("waited in vain: %llu, not %llu", (unsigned long long)number, (unsigned long long)least);
}

void world_wait_connected(struct world *world, uint64_t id)
{
    for (int64_t until_ms = kp_mono_ms() + WAIT_MS_MAX; kp_mono_ms() < until_ms; kp_sleep_ms(2)) {
        struct peer_stats stats[8];
        size_t len = peer_stats(world->transport, stats, 8);
        for (size_t i = 0; i < len; i++)
            if (stats[i].id == id && stats[i].active_since_ms)
                return;
    }
    fail_msg("member %llx does not get connected", (unsigned long long)id);
}

struct raft_message message_of(uint64_t from, uint64_t to, uint64_t index, size_t data_len)
{
    struct raft_message message = {.type = RAFT_MSG_APPEND, .from = from, .to = to, .term = 3, .index = index};
    message.entries = kp_calloc(1, sizeof(*message.entries));
    message.entries_len = 1;
    message.entries[0] = (struct raft_entry){.index = index + 1, .term = 3, .type = RAFT_ENTRY_NORMAL};
    message.entries[0].data = kp_blob_new(NULL, data_len);
    memset(message.entries[0].data->data, (int)index & 0xff, data_len);
    return message;
}

uint16_t free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    close(fd);
    return ntohs(address.sin_port);
}
