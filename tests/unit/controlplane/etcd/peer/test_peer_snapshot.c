/* Snapshot images between members: whole ones, and broken ones of every kind. */
#include "tests/support/peer_world.h"

#define IMAGE_BYTES ((size_t)7 << 20)

static struct raft_message snapshot_message(uint64_t from, uint64_t to)
{
    struct raft_message message = {.type = RAFT_MSG_SNAPSHOT, .from = from, .to = to, .term = 3};
    message.snapshot = kp_calloc(1, sizeof(*message.snapshot));
    message.snapshot->index = 4711;
    message.snapshot->term = 3;
    return message;
}

static void make_image(struct kp_buf *image, size_t len)
{
    kp_buf_reserve(image, len);
    for (size_t i = 0; i < len; i++)
        kp_buf_putc(image, (char)(i * 2654435761u >> 13));
}

static void store_image(const struct world *world, const struct kp_buf *image, char path[128])
{
    snprintf(path, 128, "%s/outgoing", world->dir);
    assert_int_equal(kp_write_file(path, image->data ? image->data : "", image->len, 0600, NULL), 0);
}

static void send_image_of(size_t len)
{
    struct world a, b;
    char path[128];
    KP_AUTO_BUF struct kp_buf image = {0};
    world_start(&a, 1, NULL);
    world_start(&b, 2, NULL);
    world_know(&a, &b);
    make_image(&image, len);
    store_image(&a, &image, path);
    struct raft_message message = snapshot_message(1, 2);
    peer_send_snapshot(a.transport, &message, path);
    assert_null(message.snapshot);
    WORLD_WAIT(&a, sent_ok, 1);
    assert_int_equal(b.ended, 1);
    assert_int_equal(b.image_index, 4711);
    assert_int_equal(b.image.len, len);
    assert_memory_equal(b.image.data ? b.image.data : "", image.data ? image.data : "", len);
    assert_false(kp_path_exists(path));
    world_stop(&a);
    world_stop(&b);
}

static void image_of_several_mib_arrives(void **state)
{
    send_image_of(IMAGE_BYTES + 12345);
}

static void image_of_whole_chunks_arrives(void **state)
{
    send_image_of(2 * PEER_SNAPSHOT_CHUNK_BYTES);
}

static void empty_image_arrives(void **state)
{
    send_image_of(0);
}

static void snapshot_to_nobody_fails(void **state)
{
    struct world a;
    char path[128];
    world_start(&a, 1, NULL);
    store_image(&a, &(struct kp_buf){0}, path);
    struct raft_message message = snapshot_message(1, 9);
    peer_send_snapshot(a.transport, &message, path);
    WORLD_WAIT(&a, sent_failed, 1);
    assert_false(kp_path_exists(path));
    message = snapshot_message(1, 9);
    peer_send_snapshot(a.transport, &message, "/nonexistent/image");
    WORLD_WAIT(&a, sent_failed, 2);
    world_stop(&a);
}

static void snapshot_to_a_dead_peer_fails(void **state)
{
    struct world a;
    char path[128];
    world_start(&a, 1, NULL);
    peer_set(a.transport, 2, (const char *const[]){"http://127.0.0.1:1"}, 1);
    store_image(&a, &(struct kp_buf){0}, path);
    struct raft_message message = snapshot_message(1, 2);
    peer_send_snapshot(a.transport, &message, path);
    WORLD_WAIT(&a, sent_failed, 1);
    assert_false(kp_path_exists(path));
    world_stop(&a);
}

/* ---- a sender that does not keep the rules ---- */
struct sender {
    struct loop *loop;
    struct grpc_channel *channel;
    struct grpc_call *call;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool ended;
    enum grpc_status status;
    char message[512];
};

static void on_receipt(struct grpc_call *call, const void *message, void *arg)
{
}

static void on_end(struct grpc_call *call, enum grpc_status status, const char *message, void *arg)
{
    struct sender *sender = arg;
    pthread_mutex_lock(&sender->lock);
    sender->ended = true;
    sender->status = status;
    snprintf(sender->message, sizeof(sender->message), "%s", message);
    pthread_cond_signal(&sender->changed);
    pthread_mutex_unlock(&sender->lock);
}

static void sender_open(struct sender *sender, const struct world *to)
{
    static const struct grpc_call_callbacks callbacks = {.on_message = on_receipt, .on_end = on_end};
    struct kp_error error = {0};
    char url[64];
    world_url(to, url);
    const char *const urls[] = {url};
    const struct grpc_channel_config config = {.endpoints = urls, .endpoint_count = 1};
    const struct http_header metadata[] = {
        {PEER_HEADER_CLUSTER, "abcdef"}, {PEER_HEADER_FROM, "1"}, {PEER_HEADER_TO, "2"}};
    const struct grpc_call_options options = {.metadata = metadata, .metadata_count = 3};
    *sender = (struct sender){.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    sender->loop = loop_new();
    assert_int_equal(loop_start(sender->loop, "sender", &error), 0);
    assert_int_equal(grpc_channel_new(sender->loop, &config, &sender->channel, &error), 0);
    sender->call = grpc_call_open(sender->channel, PEER_PATH "Snapshot", &kprov__etcd__peer__snapshot_receipt__descriptor,
                                  &options, &callbacks, sender);
}

static void sender_chunk(struct sender *sender, const struct raft_message *message, uint64_t total, const char *data, uint32_t crc)
{
    Kprov__Etcd__Peer__SnapshotChunk chunk = KPROV__ETCD__PEER__SNAPSHOT_CHUNK__INIT;
    KP_AUTO_BUF struct kp_buf head = {0};
    if (message) {
        raft_message_encode(&head, message);
        chunk.message = (ProtobufCBinaryData){head.len, (uint8_t *)head.data};
    }
    chunk.total = total;
    chunk.data = (ProtobufCBinaryData){strlen(data), (uint8_t *)(uintptr_t)data};
    chunk.crc = crc;
    grpc_call_send(sender->call, &chunk.base);
}

static void sender_wait(struct sender *sender)
{
    pthread_mutex_lock(&sender->lock);
    while (!sender->ended)
        pthread_cond_wait(&sender->changed, &sender->lock);
    pthread_mutex_unlock(&sender->lock);
}

static void sender_close(struct sender *sender)
{
    grpc_call_unref(sender->call);
    grpc_channel_free(sender->channel);
    loop_free(sender->loop);
}

struct broken {
    const char *name;
    struct raft_message message; /* type 0 (append) stands for the right one */
    bool no_message, twice, wrong_crc, end;
    uint64_t total;
    const char *text;
};

static void expect_broken(const struct broken *broken)
{
    struct world b;
    struct sender sender;
    struct raft_message right = snapshot_message(1, 2);
    const struct raft_message *message = broken->message.from ? &broken->message : &right;
    world_start(&b, 2, NULL);
    sender_open(&sender, &b);
    uint32_t crc = kp_crc32c(0, "0123456789", 10);
    sender_chunk(&sender, broken->no_message ? NULL : message, broken->total, "0123456789", broken->wrong_crc ? crc ^ 1 : crc);
    if (broken->twice)
        sender_chunk(&sender, message, broken->total, "x", kp_crc32c(crc, "x", 1));
    if (broken->end)
        grpc_call_send_end(sender.call);
    sender_wait(&sender);
    if (sender.status == GRPC_OK || !strstr(sender.message, broken->text))
        fail_msg("%s: %d %s", broken->name, sender.status, sender.message);
    world_stop(&b); /* waits for the workers; the folder is removed, its emptiness is asserted here */
    assert_int_equal(b.ended, 0);
    sender_close(&sender);
    raft_message_done(&right);
}

static void broken_transfers_are_refused(void **state)
{
    const struct broken cases[] = {
        {.name = "truncated", .total = 11, .end = true, .text = "ends after 10 of 11 bytes"},
        {.name = "nothing", .no_message = true, .total = 10, .end = true, .text = "must hold the message"},
        {.name = "too long", .total = 9, .text = "longer than its 9 bytes"},
        {.name = "corrupt", .total = 10, .wrong_crc = true, .text = "checksum mismatch"},
        {.name = "message twice", .total = 11, .twice = true, .text = "must hold the message"},
        {.name = "without a snapshot", .message = {.type = RAFT_MSG_SNAPSHOT, .from = 1, .to = 2}, .total = 10, .text = "does not belong"},
        {.name = "of another type", .message = {.type = RAFT_MSG_HEARTBEAT, .from = 1, .to = 2}, .total = 10, .text = "does not belong"},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(cases); i++)
        expect_broken(&cases[i]);
}

static void transfer_that_breaks_off_leaves_no_file(void **state)
{
    struct world b;
    struct sender sender;
    struct raft_message message = snapshot_message(1, 2);
    world_start(&b, 2, NULL);
    sender_open(&sender, &b);
    sender_chunk(&sender, &message, 1000, "0123456789", kp_crc32c(0, "0123456789", 10));
    WORLD_WAIT(&b, begun, 1);
    grpc_call_cancel(sender.call);
    sender_wait(&sender);
    for (int64_t until_ms = kp_mono_ms() + WAIT_MS_MAX; kp_path_exists(b.begun_path) && kp_mono_ms() < until_ms;)
        kp_sleep_ms(2);
    assert_false(kp_path_exists(b.begun_path));
    assert_int_equal(b.ended, 0);
    sender_close(&sender);
    world_stop(&b);
    raft_message_done(&message);
}

static void stopping_ends_transfers(void **state)
{
    struct world b;
    struct sender sender;
    struct raft_message message = snapshot_message(1, 2);
    world_start(&b, 2, NULL);
    sender_open(&sender, &b);
    sender_chunk(&sender, &message, 1000, "0123456789", kp_crc32c(0, "0123456789", 10));
    WORLD_WAIT(&b, begun, 1);
    char path[128];
    snprintf(path, sizeof(path), "%s", b.begun_path);
    world_stop(&b);
    assert_false(kp_path_exists(path));
    sender_wait(&sender);
    sender_close(&sender);
    raft_message_done(&message);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(image_of_several_mib_arrives),   cmocka_unit_test(image_of_whole_chunks_arrives),
        cmocka_unit_test(empty_image_arrives),            cmocka_unit_test(snapshot_to_nobody_fails),
        cmocka_unit_test(snapshot_to_a_dead_peer_fails),  cmocka_unit_test(broken_transfers_are_refused),
        cmocka_unit_test(transfer_that_breaks_off_leaves_no_file), cmocka_unit_test(stopping_ends_transfers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
