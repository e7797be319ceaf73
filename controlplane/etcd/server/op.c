/* Replicated requests: how they look in the log, and waiting for one. */
#include "controlplane/etcd/server/node_internal.h"

/* version, kind, id (little endian), then the request in protobuf. When someone is known to ask, it is version 2 and
   before the request are the auth revision (8 bytes) and the user (2 bytes of length, the name). */
#define ENTRY_VERSION 1
#define ENTRY_VERSION_AS 2
#define ENTRY_HEADER 10
#define ENTRY_HEADER_AS 20
#define LEADERLESS_TIMES 2 /* election timeouts without a leader after which reads do not wait for one */

int64_t request_timeout_ms(const struct etcd_server *server)
{
    return ETCD_REQUEST_TIMEOUT_MS + 2 * server->config.election_ms;
}

static void put_number(uint8_t *out, uint64_t number, int bytes)
{
    for (int i = 0; i < bytes; i++)
        out[i] = (uint8_t)(number >> (8 * i));
}

static uint64_t get_number(const uint8_t *in, int bytes)
{
    uint64_t number = 0;
    for (int i = bytes - 1; i >= 0; i--)
        number = number << 8 | in[i];
    return number;
}

void op_init_as(struct etcd_server *server, struct op *op, enum op_kind kind, const ProtobufCMessage *request,
                const struct auth_identity *who)
{
    *op = (struct op){.kind = kind, .request = request, .id = atomic_fetch_add(&server->next_op_id, 1)};
    op->deadline_ms = kp_mono_ms() + request_timeout_ms(server);
    bool known = who->revision != 0;
    size_t user_len = known ? strlen(who->user) : 0, header = known ? ENTRY_HEADER_AS + user_len : ENTRY_HEADER;
    op->entry = kp_blob_new(NULL, header + protobuf_c_message_get_packed_size(request));
    uint8_t *data = op->entry->data;
    data[0] = known ? ENTRY_VERSION_AS : ENTRY_VERSION;
    data[1] = (uint8_t)kind;
    put_number(data + 2, op->id, 8);
    if (known) {
        put_number(data + ENTRY_HEADER, who->revision, 8);
        put_number(data + ENTRY_HEADER + 8, user_len, 2);
        memcpy(data + ENTRY_HEADER_AS, who->user, user_len);
    }
    protobuf_c_message_pack(request, data + header);
    const Etcdserverpb__Member *member = (const void *)request;
    if (kind == OP_MEMBER_ADD || kind == OP_MEMBER_REMOVE || kind == OP_MEMBER_PROMOTE) {
        op->change_id = member->id;
        op->change = kind == OP_MEMBER_REMOVE                       ? RAFT_REMOVE
                     : kind == OP_MEMBER_ADD && member->islearner ? RAFT_ADD_LEARNER
                                                                    : RAFT_ADD_VOTER;
    }
}

/* What the member itself asks for - ends of leases, alarms - is permitted whatever users there are. */
static const struct auth_identity self = {.revision = UINT64_MAX, .user = AUTH_ROOT};

void op_init(struct etcd_server *server, struct op *op, enum op_kind kind, const ProtobufCMessage *request)
{
    op_init_as(server, op, kind, request, &self);
}

void op_done(struct op *op)
{
    kp_blob_unref(op->entry);
    kp_blob_unref(op->response);
    op->entry = op->response = NULL;
}

/* Moves *header behind what says who asks. */
static bool parse_identity(const struct kp_blob *data, struct auth_identity *who, size_t *header)
{
    if (data->len < ENTRY_HEADER_AS)
        return false;
    size_t len = (size_t)get_number(data->data + ENTRY_HEADER + 8, 2);
    if (len > AUTH_NAME_MAX || len > data->len - ENTRY_HEADER_AS)
        return false;
    who->revision = get_number(data->data + ENTRY_HEADER, 8);
    memcpy(who->user, data->data + ENTRY_HEADER_AS, len);
    who->user[len] = '\0';
    *header = ENTRY_HEADER_AS + len;
    return true;
}

bool entry_parse(const struct kp_blob *data, enum op_kind *ret_kind, uint64_t *ret_id, struct auth_identity *ret_who,
                 struct kp_bytes *ret_request)
{
    size_t header = ENTRY_HEADER;
    ret_who->revision = 0;
    ret_who->user[0] = '\0';
    if (data->len < ENTRY_HEADER || data->data[1] == 0 || data->data[1] >= OP_KIND_END)
        return false;
    if (data->data[0] != ENTRY_VERSION && (data->data[0] != ENTRY_VERSION_AS || !parse_identity(data, ret_who, &header)))
        return false;
    *ret_kind = (enum op_kind)data->data[1];
    *ret_id = get_number(data->data + 2, 8);
    *ret_request = (struct kp_bytes){data->data + header, data->len - header};
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
    return op_run_as(server, kind, request, &self, ret_response);
}

enum etcd_err op_run_as(struct etcd_server *server, enum op_kind kind, const ProtobufCMessage *request,
                        const struct auth_identity *who, struct kp_blob **ret_response)
{
    struct waiter waiter = {.mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    struct op op;
    op_init_as(server, &op, kind, request, who);
    op.done = wake_op;
    op.ctx = &waiter;
    op_propose(server, &op);
    waiter_wait(&waiter);
    if (ret_response)
        *ret_response = KP_TAKE(op.response);
    op_done(&op);
    return op.err;
}

/* A worker each that waits in vain would leave none for those who need no leader. */
static bool is_leaderless(struct etcd_server *server)
{
    int64_t since_ms = atomic_load(&server->node.leaderless_ms);
    return since_ms && kp_mono_ms() - since_ms > LEADERLESS_TIMES * server->config.election_ms;
}

enum etcd_err node_wait_read(struct etcd_server *server) { return node_wait_read_for(server, request_timeout_ms(server)); }

enum etcd_err node_wait_read_for(struct etcd_server *server, int64_t timeout_ms)
{
    /* The only voter has applied whatever was acknowledged: nobody else can have committed anything. */
    if (atomic_load_explicit(&server->node.sole_leader, memory_order_acquire))
        return ETCD_OK;
    if (is_leaderless(server))
        return ETCD_NO_LEADER;
    struct waiter waiter = {.mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    struct read_wait wait = {
        .deadline_ms = kp_mono_ms() + timeout_ms, .done = wake_read, .ctx = &waiter};
    node_read(server, &wait);
    waiter_wait(&waiter);
    return wait.err;
}
