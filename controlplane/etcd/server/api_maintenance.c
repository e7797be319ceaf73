/* The Maintenance and Cluster services. */
#include "controlplane/etcd/server/rpc_internal.h"

#include "controlplane/etcd/snapshot/snapshot.h"

#include <fcntl.h>
#include <unistd.h>

#define SNAPSHOT_CHUNK ((size_t)64 << 10)
#define SNAPSHOT_QUEUED_MAX ((size_t)1 << 20)

static void begin_reply(struct etcd_server *server, struct kp_buf *out)
{
    frame_begin(out);
    encode_header(server, out, mvcc_revision(server->mvcc));
}

static int storage_failed(struct kp_error *error, const struct kp_error *failure)
{
    kp_error_log("maintenance failed", "err", failure->message, NULL);
    return grpc_fail(error, GRPC_INTERNAL, "%s", failure->message);
}

static void status_alarm(void *ctx, uint64_t member_id, int type)
{
    char text[80];
    snprintf(text, sizeof text, "memberID:%llu alarm:%s ", (unsigned long long)member_id,
             type == ETCDSERVERPB__ALARM_TYPE__NOSPACE   ? "NOSPACE"
             : type == ETCDSERVERPB__ALARM_TYPE__CORRUPT ? "CORRUPT"
                                                         : "NONE");
    encode_message(ctx, 8, text, strlen(text));
}

static int maintenance_status(struct grpc_context *context, const void *message, struct grpc_stream *stream,
                              struct kp_error *error)
{
    int permitted = rpc_known_only(context, error);
    if (permitted)
        return permitted;
    struct etcd_server *server = server_of(context);
    struct node *node = &server->node;
    KP_AUTO_BUF struct kp_buf out = {0};
    begin_reply(server, &out);
    encode_string(&out, 2, ETCD_VERSION);
    encode_number(&out, 3, backend_size(server->backend));
    encode_number(&out, 4, (int64_t)atomic_load(&node->leader));
    encode_number(&out, 5, (int64_t)atomic_load(&node->committed));
    encode_number(&out, 6, (int64_t)atomic_load(&node->term));
    encode_number(&out, 7, (int64_t)atomic_load(&node->applied));
    if (!atomic_load(&node->leader))
        encode_string(&out, 8, etcd_err_info(ETCD_NO_LEADER)->text);
    alarms_each(&server->alarms, status_alarm, &out);
    encode_number(&out, 9, backend_size_in_use(server->backend));
    encode_number(&out, 10, atomic_load(&server->learner));
    encode_string(&out, 11, "3.6");
    encode_number(&out, 12, KP_MAX(backend_quota(server->backend), 0));
    return rpc_reply(stream, &out);
}

static int maintenance_alarm(struct grpc_context *context, const void *message, struct grpc_stream *stream,
                             struct kp_error *error)
{
    const Etcdserverpb__AlarmRequest *request = message;
    bool looks = request->action == ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__GET;
    int permitted = looks ? rpc_known_only(context, error) : rpc_admin_only(context, error);
    return permitted ? permitted : rpc_propose(context, stream, OP_ALARM, message, error);
}

static int maintenance_defragment(struct grpc_context *context, const void *message, struct grpc_stream *stream,
                                  struct kp_error *error)
{
    int permitted = rpc_admin_only(context, error);
    if (permitted)
        return permitted;
    struct etcd_server *server = server_of(context);
    struct kp_error failure = {0};
    if (backend_defragment(server->backend, &failure) < 0)
        return storage_failed(error, &failure);
    KP_AUTO_BUF struct kp_buf out = {0};
    begin_reply(server, &out);
    return rpc_reply(stream, &out);
}

static int maintenance_hash(struct grpc_context *context, const void *message, struct grpc_stream *stream,
                            struct kp_error *error)
{
    int permitted = rpc_admin_only(context, error);
    if (permitted)
        return permitted;
    struct etcd_server *server = server_of(context);
    struct kp_error failure = {0};
    uint32_t hash;
    if (backend_hash(server->backend, &hash, &failure) < 0)
        return storage_failed(error, &failure);
    KP_AUTO_BUF struct kp_buf out = {0};
    begin_reply(server, &out);
    encode_number(&out, 2, hash);
    return rpc_reply(stream, &out);
}

static int maintenance_hash_kv(struct grpc_context *context, const void *message, struct grpc_stream *stream,
                               struct kp_error *error)
{
    int permitted = rpc_admin_only(context, error);
    if (permitted)
        return permitted;
    struct etcd_server *server = server_of(context);
    const Etcdserverpb__HashKVRequest *request = message;
    struct kp_error failure = {0};
    uint32_t hash;
    int64_t compact_revision, revision;
    enum mvcc_result result =
        mvcc_hash_kv(server->mvcc, request->revision, &hash, &compact_revision, &revision, &failure);
    if (result == MVCC_IO)
        return storage_failed(error, &failure);
    if (result != MVCC_OK)
        return rpc_fail(error, etcd_err_of_mvcc(result));
    KP_AUTO_BUF struct kp_buf out = {0};
    begin_reply(server, &out);
    encode_number(&out, 2, hash);
    encode_number(&out, 3, compact_revision ? compact_revision : -1); /* as etcd says: never compacted */
    encode_number(&out, 4, revision);
    return rpc_reply(stream, &out);
}

static int send_chunk(struct etcd_server *server, struct grpc_stream *stream, const void *data, size_t len,
                      int64_t remaining)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    begin_reply(server, &out);
    encode_number(&out, 2, remaining);
    encode_bytes(&out, 3, data, len);
    encode_string(&out, 4, ETCD_VERSION);
    int rc = grpc_stream_wait(stream, SNAPSHOT_QUEUED_MAX);
    return rc < 0 ? rc : rpc_reply(stream, &out);
}

/* The file's bytes, then their SHA-256: clients check it, and keep it behind the database. */
static int send_snapshot(struct etcd_server *server, struct grpc_stream *stream, int fd, uint64_t bytes,
                         struct kp_error *error)
{
    KP_AUTO_FREE uint8_t *chunk = kp_malloc(SNAPSHOT_CHUNK);
    struct tls_sha256 *hash = tls_sha256_new();
    uint8_t digest[TLS_SHA256_BYTES];
    int rc = 0;
    for (uint64_t at = 0; rc == 0 && at < bytes;) {
        ssize_t n = pread(fd, chunk, (size_t)KP_MIN((uint64_t)SNAPSHOT_CHUNK, bytes - at), (off_t)at);
        if (n <= 0) {
            rc = n < 0 ? kp_fail_errno(error, "read the snapshot file")
                       : kp_fail(error, KP_EIO, "the snapshot file is shorter than it was written");
            break;
        }
        tls_sha256_update(hash, chunk, (size_t)n);
        at += (uint64_t)n;
        rc = send_chunk(server, stream, chunk, (size_t)n, (int64_t)(bytes - at));
    }
    tls_sha256_final(hash, digest);
    return rc < 0 ? rc : send_chunk(server, stream, digest, sizeof digest, 0);
}

/* A file without a name beside the database: gone with its last descriptor, whatever happens. */
static int open_unnamed(const char *beside, struct kp_error *error)
{
    KP_AUTO_FREE char *path = kp_asprintf("%s.snapshot-%016llx", beside, (unsigned long long)kp_random_u64());
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || unlink(path) < 0) {
        int rc = kp_fail_errno(error, "make a file for the snapshot");
        kp_close_fd(&fd);
        return rc;
    }
    return fd;
}

/* In stock etcd's format. Written to a file first, so that the database's pages are not held for as long as a client takes. */
static int maintenance_snapshot(struct grpc_context *context, const void *message, struct grpc_stream *stream,
                                struct kp_error *error)
{
    struct etcd_server *server = server_of(context);
    struct kp_error failure = {0};
    uint64_t bytes;
    KP_AUTO_CLOSE int fd = open_unnamed(server->db_path, &failure);
    if (fd < 0 || snapshot_export(server->backend, fd, &bytes, &failure) < 0)
        return storage_failed(error, &failure);
    return send_snapshot(server, stream, fd, bytes, error);
}

/* ---- leadership: on the raft thread ---- */

struct transfer {
    struct node_call call;
    uint64_t to;
    int rc;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool done;
};

static void transfer_leader(struct etcd_server *server, struct node_call *call)
{
    struct transfer *transfer = KP_CONTAINER_OF(call, struct transfer, call);
    struct kp_error error = {0};
    int rc = raft_transfer_leader(server->node.raft, transfer->to, &error);
    pthread_mutex_lock(&transfer->mutex);
    transfer->rc = rc;
    transfer->done = true;
    pthread_cond_signal(&transfer->cond);
    pthread_mutex_unlock(&transfer->mutex);
}

static int maintenance_move_leader(struct grpc_context *context, const void *message, struct grpc_stream *stream,
                                   struct kp_error *error)
{
    int permitted = rpc_admin_only(context, error);
    if (permitted)
        return permitted;
    struct etcd_server *server = server_of(context);
    const Etcdserverpb__MoveLeaderRequest *request = message;
    if (!atomic_load(&server->node.is_leader))
        return rpc_fail(error, ETCD_NOT_LEADER);
    if (request->targetid != server->member_id) {
        struct transfer transfer = {.call = {.fn = transfer_leader},
                                    .to = request->targetid,
                                    .mutex = PTHREAD_MUTEX_INITIALIZER,
                                    .cond = PTHREAD_COND_INITIALIZER};
        node_run(server, &transfer.call);
        pthread_mutex_lock(&transfer.mutex);
        while (!transfer.done)
            pthread_cond_wait(&transfer.cond, &transfer.mutex);
        pthread_mutex_unlock(&transfer.mutex);
        if (transfer.rc < 0)
            return rpc_fail(error, ETCD_BAD_TRANSFEREE);
        int64_t deadline_ms = kp_mono_ms() + request_timeout_ms(server);
        while (atomic_load(&server->node.leader) != request->targetid) {
            if (kp_mono_ms() > deadline_ms)
                return rpc_fail(error, ETCD_TIMEOUT);
            kp_sleep_ms(10);
        }
    }
    KP_AUTO_BUF struct kp_buf out = {0};
    begin_reply(server, &out);
    return rpc_reply(stream, &out);
}

const struct grpc_method maintenance_methods[] = {
    {"/etcdserverpb.Maintenance/Alarm", GRPC_SERVER_STREAM, &etcdserverpb__alarm_request__descriptor,
     &etcdserverpb__alarm_response__descriptor, .server_stream = maintenance_alarm},
    {"/etcdserverpb.Maintenance/Status", GRPC_SERVER_STREAM, &etcdserverpb__status_request__descriptor,
     &etcdserverpb__status_response__descriptor, .server_stream = maintenance_status},
    {"/etcdserverpb.Maintenance/Defragment", GRPC_SERVER_STREAM, &etcdserverpb__defragment_request__descriptor,
     &etcdserverpb__defragment_response__descriptor, .server_stream = maintenance_defragment},
    {"/etcdserverpb.Maintenance/Hash", GRPC_SERVER_STREAM, &etcdserverpb__hash_request__descriptor,
     &etcdserverpb__hash_response__descriptor, .server_stream = maintenance_hash},
    {"/etcdserverpb.Maintenance/HashKV", GRPC_SERVER_STREAM, &etcdserverpb__hash_kvrequest__descriptor,
     &etcdserverpb__hash_kvresponse__descriptor, .server_stream = maintenance_hash_kv},
    {"/etcdserverpb.Maintenance/Snapshot", GRPC_SERVER_STREAM, &etcdserverpb__snapshot_request__descriptor,
     &etcdserverpb__snapshot_response__descriptor, .server_stream = maintenance_snapshot},
    {"/etcdserverpb.Maintenance/MoveLeader", GRPC_SERVER_STREAM, &etcdserverpb__move_leader_request__descriptor,
     &etcdserverpb__move_leader_response__descriptor, .server_stream = maintenance_move_leader},
    {0},
};
