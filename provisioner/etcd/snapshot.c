/* The database of one member, streamed to a file and compared with the checksum that ends it. */
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "provisioner/etcd/etcd_internal.h"

#define WATCH_MS 1000

struct receiving {
    int fd;
    struct tls_sha256 *hash;             /* of all but the last 32 bytes */
    uint8_t tail[TLS_SHA256_BYTES];      /* the last bytes so far: the sum, once the stream has ended */
    size_t tail_len;
    int64_t bytes, last_ms;
    int code;                            /* of the file, or of the call once it has ended */
    char message[KP_ERROR_MESSAGE_MAX];
    bool ended;
    pthread_mutex_t lock;
    pthread_cond_t changed;
};

/* Keeps the last 32 bytes back from the hash. */
static void hash_behind(struct receiving *r, const uint8_t *data, size_t len)
{
    uint8_t joined[2 * TLS_SHA256_BYTES];
    if (len >= TLS_SHA256_BYTES) {
        tls_sha256_update(r->hash, r->tail, r->tail_len);
        tls_sha256_update(r->hash, data, len - TLS_SHA256_BYTES);
        memcpy(r->tail, data + len - TLS_SHA256_BYTES, TLS_SHA256_BYTES);
        r->tail_len = TLS_SHA256_BYTES;
        return;
    }
    memcpy(joined, r->tail, r->tail_len);
    memcpy(joined + r->tail_len, data, len);
    size_t all = r->tail_len + len, out = all > TLS_SHA256_BYTES ? all - TLS_SHA256_BYTES : 0;
    tls_sha256_update(r->hash, joined, out);
    memcpy(r->tail, joined + out, all - out);
    r->tail_len = all - out;
}

/* On the client's own loop: writing here is what slows the sender down when the file is slow. */
static void on_message(struct grpc_call *call, const void *message, void *arg)
{
    struct receiving *r = arg;
    const Etcdserverpb__SnapshotResponse *part = message;
    pthread_mutex_lock(&r->lock);
    r->last_ms = kp_mono_ms();
    if (r->code == 0) {
        struct kp_error error = {0};
        r->code = kp_write_all(r->fd, part->blob.data, part->blob.len, "the snapshot", &error);
        if (r->code < 0) {
            memcpy(r->message, error.message, sizeof(r->message));
            grpc_call_cancel(call);
        }
        hash_behind(r, part->blob.data, part->blob.len);
        r->bytes += (int64_t)part->blob.len;
    }
    pthread_mutex_unlock(&r->lock);
}

static void on_end(struct grpc_call *call, enum grpc_status status, const char *message, void *arg)
{
    struct receiving *r = arg;
    pthread_mutex_lock(&r->lock);
    if (r->code == 0 && status != GRPC_OK) {
        r->code = grpc_status_to_code((int)status);
        snprintf(r->message, sizeof(r->message), "%s", message);
    }
    r->ended = true;
    pthread_cond_signal(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

static void wait_for_end(struct receiving *r, struct grpc_call *call)
{
    pthread_mutex_lock(&r->lock);
    while (!r->ended) {
        int64_t until_ms = kp_mono_ms() + WATCH_MS;
        const struct timespec until = {.tv_sec = until_ms / 1000, .tv_nsec = (until_ms % 1000) * 1000000};
        pthread_cond_clockwait(&r->changed, &r->lock, CLOCK_MONOTONIC, &until);
        if (!r->ended && r->code == 0 && kp_mono_ms() - r->last_ms > ETCD_CLIENT_SNAPSHOT_IDLE_MS) {
            r->code = KP_ETIMEOUT;
            snprintf(r->message, sizeof(r->message), "nothing came for %d s", ETCD_CLIENT_SNAPSHOT_IDLE_MS / 1000);
            grpc_call_cancel(call);
        }
    }
    pthread_mutex_unlock(&r->lock);
}

static int check_sum(struct receiving *r, struct kp_error *error)
{
    uint8_t sum[TLS_SHA256_BYTES];
    tls_sha256_final(r->hash, r->code == 0 ? sum : NULL);
    if (r->code < 0)
        return kp_fail(error, r->code, "%s", r->message);
    if (r->tail_len != sizeof(sum) || memcmp(sum, r->tail, sizeof(sum)) != 0)
        return kp_fail(error, KP_ECORRUPT, "%lld bytes came that do not fit their checksum", (long long)r->bytes);
    return 0;
}

int etcd_client_snapshot(struct etcd_client *client, int fd, struct etcd_snapshot *ret, struct kp_error *error)
{
    static const struct grpc_call_callbacks callbacks = {.on_message = on_message, .on_end = on_end};
    static const struct grpc_call_options options;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    Etcdserverpb__SnapshotRequest request = ETCDSERVERPB__SNAPSHOT_REQUEST__INIT;
    size_t healthy[ETCD_CLIENT_ENDPOINTS_MAX], n = 0;
    int rc = etcd_healthy_endpoints(client, arena, healthy, &n, error);
    if (rc < 0)
        return kp_wrap(error, "snapshot");
    size_t from = healthy[n - 1]; /* a follower where there is one: the leader has enough to do */
    struct receiving r = {.fd = fd, .hash = tls_sha256_new(), .last_ms = kp_mono_ms(), .lock = PTHREAD_MUTEX_INITIALIZER,
                          .changed = PTHREAD_COND_INITIALIZER};
    KP_AUTO(grpc_call_unref) struct grpc_call *call =
        grpc_call_open(client->endpoints[from].channel, "/etcdserverpb.Maintenance/Snapshot", &etcdserverpb__snapshot_response__descriptor,
                       &options, &callbacks, &r);
    if (grpc_call_send(call, &request.base) == 0)
        grpc_call_send_end(call);
    wait_for_end(&r, call);
    rc = check_sum(&r, error);
    *ret = (struct etcd_snapshot){client->endpoints[from].url, r.bytes};
    return rc < 0 ? etcd_wrap(client, from, "snapshot of etcd", error) : 0;
}
