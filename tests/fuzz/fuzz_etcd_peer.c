/* What another member sends: gRPC messages of any bytes on the streams of a live transport. The first byte picks the call,
   then each message follows its length in two bytes. */
#include <pthread.h>
#include <unistd.h>

#include "controlplane/etcd/peer/peer_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct peer_transport *transport;
static struct loop *loop;
static struct grpc_channel *channel;
static char folder[] = "/tmp/fuzz-peer-XXXXXX";
static char image[64];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool ended;

static void on_message(void *ctx, struct raft_message *message)
{
    KP_ASSERT(message->from == 1 && message->to == 2 && message->type != RAFT_MSG_SNAPSHOT);
    raft_message_done(message);
}

static int on_snapshot_begin(void *ctx, const struct raft_message *message, char **ret_path, struct kp_error *error)
{
    KP_ASSERT(message->snapshot != NULL);
    *ret_path = kp_strdup(image);
    return 0;
}

static int on_snapshot_end(void *ctx, struct raft_message *message, const char *path, struct kp_error *error)
{
    raft_message_done(message);
    KP_ASSERT(unlink(path) == 0);
    return 0;
}

static void on_snapshot_sent(void *ctx, uint64_t to, bool ok)
{
}

static void on_unreachable(void *ctx, uint64_t to)
{
}

static int on_question(void *ctx, const char *what, struct kp_bytes question, struct kp_buf *out, struct kp_error *error)
{
    kp_buf_printf(out, "%s %zu", what, question.len);
    return 0;
}

static int on_get(void *ctx, const char *path, const char **ret_content_type, struct kp_buf *out, struct kp_error *error)
{
    return kp_fail(error, KP_ENOTFOUND, "no %s", path);
}

static void set_up(void)
{
    struct kp_error error = {0};
    KP_ASSERT(mkdtemp(folder) != NULL);
    KP_AUTO_FREE char *url = kp_asprintf("unix:%s/s", folder);
    snprintf(image, sizeof(image), "%s/image", folder);
    kp_log_init("fuzz", KP_LOG_ERROR);
    const struct peer_config config = {.cluster_id = 7,
                                       .member_id = 2,
                                       .listen_urls = url,
                                       .events = {NULL, on_message, on_snapshot_begin, on_snapshot_end, on_snapshot_sent,
                                                  on_unreachable, on_question, on_get}};
    KP_ASSERT(peer_start(&config, &transport, &error) == 0);
    loop = loop_new();
    KP_ASSERT(loop_start(loop, "fuzz", &error) == 0);
    const char *const urls[] = {url};
    const struct grpc_channel_config channel_config = {.endpoints = urls, .endpoint_count = 1};
    KP_ASSERT(grpc_channel_new(loop, &channel_config, &channel, &error) == 0);
}

static void tear_down(void)
{
    grpc_channel_free(channel);
    loop_free(loop);
    peer_stop(transport);
    rmdir(folder);
}

static void on_receipt(struct grpc_call *call, const void *message, void *arg)
{
}

static void on_end(struct grpc_call *call, enum grpc_status status, const char *message, void *arg)
{
    pthread_mutex_lock(&lock);
    ended = true;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
}

static void send_framed(struct grpc_call *call, const uint8_t *data, size_t len)
{
    KP_AUTO(kp_blob_unref) struct kp_blob *blob = kp_blob_new(NULL, PEER_GRPC_HEADER_BYTES + len);
    blob->data[0] = 0;
    for (int i = 0; i < 4; i++)
        blob->data[1 + i] = (uint8_t)(len >> (24 - 8 * i));
    memcpy(blob->data + PEER_GRPC_HEADER_BYTES, data, len);
    grpc_call_send_blob(call, blob);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const paths[] = {PEER_PATH "Messages", PEER_PATH "Snapshot", PEER_PATH "Ask"};
    static const ProtobufCMessageDescriptor *const answers[] = {&kprov__etcd__peer__receipt__descriptor,
                                                                &kprov__etcd__peer__snapshot_receipt__descriptor,
                                                                &kprov__etcd__peer__answer__descriptor};
    static const struct http_header metadata[] = {
        {PEER_HEADER_CLUSTER, "7"}, {PEER_HEADER_FROM, "1"}, {PEER_HEADER_TO, "2"}};
    static const struct grpc_call_callbacks callbacks = {.on_message = on_receipt, .on_end = on_end};
    const struct grpc_call_options options = {.metadata = metadata, .metadata_count = KP_ARRAY_LEN(metadata)};
    if (size == 0)
        return 0;
    if (!transport) {
        set_up();
        atexit(tear_down);
    }
    size_t which = data[0] % KP_ARRAY_LEN(paths);
    ended = false;
    struct grpc_call *call = grpc_call_open(channel, paths[which], answers[which], &options, &callbacks, NULL);
    for (size_t at = 1; size - at >= 2;) {
        size_t len = KP_MIN((size_t)data[at] << 8 | data[at + 1], size - at - 2);
        send_framed(call, data + at + 2, len);
        at += 2 + len;
    }
    grpc_call_send_end(call);
    pthread_mutex_lock(&lock);
    while (!ended)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    grpc_call_unref(call);
    return 0;
}
