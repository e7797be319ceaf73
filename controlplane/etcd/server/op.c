/* Replicated requests: how they look in the log, and waiting for one. */
#include "controlplane/etcd/server/node_internal.h"

/* version, kind, id (little endian), then the request in protobuf */
#define ENTRY_VERSION 1
#define ENTRY_HEADER 10

int64_t request_timeout_ms(const struct etcd_server *server)
{
    return ETCD_REQUEST_TIMEOUT_MS + 2 * server->config.election_ms;
}

void op_init(struct etcd_server *server, struct op *op, enum op_kind kind, const ProtobufCMessage *request)
{
    *op = (struct op){.kind = kind, .request = request, .id = atomic_fetch_add(&server->next_op_id, 1)};
    op->deadline_ms = kp_mono_ms() + request_timeout_ms(server);
    size_t len = protobuf_c_message_get_packed_size(request);
    op->entry = kp_blob_new(NULL, ENTRY_HEADER + len);
    op->entry->data[0] = ENTRY_VERSION;
    op->entry->data[1] = (uint8_t)kind;
    for (int i = 0; i < 8; i++)
        op->entry->data[2 + i] = (uint8_t)(op->id >> (8 * i));
    protobuf_c_message_pack(request, op->entry->data + ENTRY_HEADER);
}

void op_done(struct op *op)
{
    kp_blob_unref(op->entry);
    kp_blob_unref(op->response);
    op->entry = op->response = NULL;
}

bool entry_parse(const struct kp_blob *data, enum op_kind *ret_kind, uint64_t *ret_id, struct kp_bytes *ret_request)
{
    if (data->len < ENTRY_HEADER || data->data[0] != ENTRY_VERSION || data->data[1] == 0 ||
        data->data[1] >= OP_KIND_END)
        return false;
    *ret_kind = (enum op_kind)data->data[1];
    *ret_id = 0;
    for (int i = 7; i >= 0; i--)
        *ret_id = *ret_id << 8 | data->data[2 + i];
    *ret_request = (struct kp_bytes){data->data + ENTRY_HEADER, data->len - ENTRY_HEADER};
    return true;
}

struct waiter {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool done;
};

static void waiter_wake(struct waiter *waiter)
{
    pthread_mutex_lock(&waiter->mutex);
    waiter->done = true;
    pthread_cond_signal(&waiter->cond);
    pthread_mutex_unlock(&waiter->mutex);
}

static void waiter_wait(struct waiter *waiter)
{
    pthread_mutex_lock(&waiter->mutex);
    while (!waiter->done)
        pthread_cond_wait(&waiter->cond, &waiter->mutex);
    pthread_mutex_unlock(&waiter->mutex);
}

static void wake_op(struct op *op) { waiter_wake(op->ctx); }
static void wake_read(struct read_wait *wait) { waiter_wake(wait->ctx); }

enum etcd_err op_run(struct etcd_server *server, enum op_kind kind, const ProtobufCMessage *request,
                     struct kp_blob **ret_response)
{
    struct waiter waiter = {.mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    struct op op;
    op_init(server, &op, kind, request);
    op.done = wake_op;
    op.ctx = &waiter;
    op_propose(server, &op);
    waiter_wait(&waiter);
    if (ret_response)
        *ret_response = KP_TAKE(op.response);
    op_done(&op);
    return op.err;
}

enum etcd_err node_wait_read(struct etcd_server *server)
{
    /* The only voter has applied whatever was acknowledged: nobody else can have committed anything. */
    if (atomic_load_explicit(&server->node.sole_leader, memory_order_acquire))
        return ETCD_OK;
    struct waiter waiter = {.mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    struct read_wait wait = {
        .deadline_ms = kp_mono_ms() + request_timeout_ms(server), .done = wake_read, .ctx = &waiter};
    node_read(server, &wait);
    waiter_wait(&waiter);
    return wait.err;
}
