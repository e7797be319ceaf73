/* One operation: from its description in the history to the request, and from the answer back. */
#include "tests/sim-real/load.h"

struct history_bytes load_text(const char *s) { return (struct history_bytes){s, strlen(s)}; }

void client_init(struct client *client, struct load *load, unsigned id, int64_t timeout_ms)
{
    *client = (struct client){.load = load, .id = id, .random = load->seed * 1000003 + id, .timeout_ms = timeout_ms};
    client->arena = kp_arena_new(0);
    client->at = id % load->endpoint_count;
    for (size_t i = 0; i < load->endpoint_count; i++)
        client->channels[i] = load_channel(load, i, timeout_ms);
}

void client_done(struct client *client)
{
    for (size_t i = 0; i < client->load->endpoint_count; i++)
        grpc_channel_free(client->channels[i]);
    kp_arena_free(client->arena);
}

/* ---- values ---- */
ProtobufCBinaryData load_value_fill(struct kp_arena *arena, struct history_bytes value)
{
    const char *text = kp_arena_strndup(arena, value.data, value.len);
    const char *mark = strstr(text, ".L");
    size_t len = mark ? strtoul(mark + 2, NULL, 10) : value.len;
    if (len < value.len)
        len = value.len;
    uint8_t *data = kp_arena_alloc(arena, len + 1);
    memset(data, '~', len);
    memcpy(data, value.data, value.len);
    return (ProtobufCBinaryData){len, data};
}

struct history_bytes load_value_strip(ProtobufCBinaryData value)
{
    struct history_bytes all = {value.data ? (const void *)value.data : "", value.len};
    const uint8_t *fill = value.len ? memchr(value.data, '~', value.len) : NULL;
    if (!fill)
        return all;
    for (const uint8_t *p = fill; p < value.data + value.len; p++)
        if (*p != '~')
            return all;
    char head[64];
    size_t head_len = (size_t)(fill - value.data);
    if (head_len >= sizeof(head))
        return all;
    memcpy(head, value.data, head_len);
    head[head_len] = 0;
    const char *mark = strstr(head, ".L");
    if (!mark || strtoul(mark + 2, NULL, 10) != value.len)
        return all;
    return (struct history_bytes){value.data, head_len};
}

struct history_kv load_kv(const Mvccpb__KeyValue *kv)
{
    return (struct history_kv){.key = {kv->key.data, kv->key.len}, .value = load_value_strip(kv->value),
                               .create = kv->create_revision, .mod = kv->mod_revision, .version = kv->version,
                               .lease = kv->lease};
}

/* ---- requests ---- */
static ProtobufCBinaryData bytes(struct history_bytes b) { return (ProtobufCBinaryData){b.len, (uint8_t *)(uintptr_t)b.data}; }

#define MESSAGE(arena, type, descriptor) ((type *)grpc_message_new(&(descriptor), (arena)))

ProtobufCMessage *load_put_request(struct kp_arena *arena, const struct history_op *op, bool want_prev)
{
    Etcdserverpb__PutRequest *put = MESSAGE(arena, Etcdserverpb__PutRequest, etcdserverpb__put_request__descriptor);
    put->key = bytes(op->key);
    put->value = load_value_fill(arena, op->value);
    put->lease = op->lease;
    put->prev_kv = want_prev;
    return &put->base;
}

static ProtobufCMessage *del_request(struct kp_arena *arena, const struct history_op *op, bool want_prev)
{
    Etcdserverpb__DeleteRangeRequest *del =
        MESSAGE(arena, Etcdserverpb__DeleteRangeRequest, etcdserverpb__delete_range_request__descriptor);
    del->key = bytes(op->key);
    del->range_end = bytes(op->end);
    del->prev_kv = want_prev;
    return &del->base;
}

static ProtobufCMessage *get_request(struct kp_arena *arena, const struct history_op *op)
{
    Etcdserverpb__RangeRequest *get = MESSAGE(arena, Etcdserverpb__RangeRequest, etcdserverpb__range_request__descriptor);
    get->key = bytes(op->key);
    get->range_end = bytes(op->end);
    get->revision = op->revision;
    get->limit = op->limit;
    get->serializable = op->serializable;
    return &get->base;
}

static void txn_ops(struct kp_arena *arena, const struct history_op *ops, size_t count, size_t *ret_count,
                    Etcdserverpb__RequestOp ***ret_ops)
{
    *ret_count = count;
    *ret_ops = KP_NEW_ARRAY(arena, Etcdserverpb__RequestOp *, count + 1);
    for (size_t i = 0; i < count; i++) {
        Etcdserverpb__RequestOp *op = MESSAGE(arena, Etcdserverpb__RequestOp, etcdserverpb__request_op__descriptor);
        if (ops[i].kind == HISTORY_PUT) {
            op->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
            op->request_put = (Etcdserverpb__PutRequest *)load_put_request(arena, &ops[i], false);
        } else if (ops[i].kind == HISTORY_DEL) {
            op->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE;
            op->request_delete_range = (Etcdserverpb__DeleteRangeRequest *)del_request(arena, &ops[i], false);
        } else {
            op->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE;
            op->request_range = (Etcdserverpb__RangeRequest *)get_request(arena, &ops[i]);
        }
        (*ret_ops)[i] = op;
    }
}

static Etcdserverpb__Compare *compare_of(struct kp_arena *arena, const struct history_compare *from)
{
    Etcdserverpb__Compare *compare = MESSAGE(arena, Etcdserverpb__Compare, etcdserverpb__compare__descriptor);
    compare->key = bytes(from->key);
    compare->result = from->result == '='   ? ETCDSERVERPB__COMPARE__COMPARE_RESULT__EQUAL
                      : from->result == '>' ? ETCDSERVERPB__COMPARE__COMPARE_RESULT__GREATER
                      : from->result == '<' ? ETCDSERVERPB__COMPARE__COMPARE_RESULT__LESS
                                            : ETCDSERVERPB__COMPARE__COMPARE_RESULT__NOT_EQUAL;
    if (from->target == 'V') {
        compare->target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__VALUE;
        compare->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_VALUE;
        compare->value = load_value_fill(arena, from->value);
    } else if (from->target == 'm') {
        compare->target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__MOD;
        compare->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_MOD_REVISION;
        compare->mod_revision = from->number;
    } else if (from->target == 'c') {
        compare->target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__CREATE;
        compare->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_CREATE_REVISION;
        compare->create_revision = from->number;
    } else {
        compare->target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__VERSION;
        compare->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_VERSION;
        compare->version = from->number;
    }
    return compare;
}

static ProtobufCMessage *txn_request(struct kp_arena *arena, const struct history_op *op)
{
    Etcdserverpb__TxnRequest *txn = MESSAGE(arena, Etcdserverpb__TxnRequest, etcdserverpb__txn_request__descriptor);
    txn->n_compare = op->compare_count;
    txn->compare = KP_NEW_ARRAY(arena, Etcdserverpb__Compare *, op->compare_count + 1);
    for (size_t i = 0; i < op->compare_count; i++)
        txn->compare[i] = compare_of(arena, &op->compares[i]);
    txn_ops(arena, op->then, op->then_count, &txn->n_success, &txn->success);
    txn_ops(arena, op->otherwise, op->otherwise_count, &txn->n_failure, &txn->failure);
    return &txn->base;
}

static ProtobufCMessage *lease_request(struct kp_arena *arena, const struct history_op *op)
{
    if (op->kind == HISTORY_GRANT) {
        Etcdserverpb__LeaseGrantRequest *grant =
            MESSAGE(arena, Etcdserverpb__LeaseGrantRequest, etcdserverpb__lease_grant_request__descriptor);
        grant->id = op->lease;
        grant->ttl = op->ttl_s;
        return &grant->base;
    }
    if (op->kind == HISTORY_REVOKE) {
        Etcdserverpb__LeaseRevokeRequest *revoke =
            MESSAGE(arena, Etcdserverpb__LeaseRevokeRequest, etcdserverpb__lease_revoke_request__descriptor);
        revoke->id = op->lease;
        return &revoke->base;
    }
    if (op->kind == HISTORY_KEEPALIVE) {
        Etcdserverpb__LeaseKeepAliveRequest *alive =
            MESSAGE(arena, Etcdserverpb__LeaseKeepAliveRequest, etcdserverpb__lease_keep_alive_request__descriptor);
        alive->id = op->lease;
        return &alive->base;
    }
    Etcdserverpb__LeaseTimeToLiveRequest *ttl =
        MESSAGE(arena, Etcdserverpb__LeaseTimeToLiveRequest, etcdserverpb__lease_time_to_live_request__descriptor);
    ttl->id = op->lease;
    return &ttl->base;
}

/* ---- answers ---- */
static void kvs_of(struct kp_arena *arena, size_t count, Mvccpb__KeyValue *const *kvs, struct history_result *result)
{
    struct history_kv *out = KP_NEW_ARRAY(arena, struct history_kv, count + 1);
    for (size_t i = 0; i < count; i++)
        out[i] = load_kv(kvs[i]);
    result->kvs = out;
    result->kv_count = count;
}

static void range_result(struct kp_arena *arena, const Etcdserverpb__RangeResponse *from, struct history_result *result)
{
    result->count = from->count;
    result->more = from->more;
    kvs_of(arena, from->n_kvs, from->kvs, result);
}

static void del_result(struct kp_arena *arena, const Etcdserverpb__DeleteRangeResponse *from, struct history_result *result)
{
    result->count = from->deleted;
    kvs_of(arena, from->n_prev_kvs, from->prev_kvs, result);
}

static void txn_result(struct kp_arena *arena, const Etcdserverpb__TxnResponse *from, struct history_result *result)
{
    result->succeeded = from->succeeded;
    result->result_count = from->n_responses;
    struct history_result *results = KP_NEW_ARRAY(arena, struct history_result, from->n_responses + 1);
    for (size_t i = 0; i < from->n_responses; i++) {
        const Etcdserverpb__ResponseOp *op = from->responses[i];
        if (op->response_case == ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_RANGE)
            range_result(arena, op->response_range, &results[i]);
        else if (op->response_case == ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_DELETE_RANGE)
            del_result(arena, op->response_delete_range, &results[i]);
    }
    result->results = results;
}

/* Fills in the result; gives the answer's header. */
static const Etcdserverpb__ResponseHeader *read_answer(struct kp_arena *arena, const struct history_op *op,
                                                       const ProtobufCMessage *answer, struct history_result *result)
{
    switch (op->kind) {
    case HISTORY_PUT: {
        const Etcdserverpb__PutResponse *put = (const void *)answer;
        if (put->prev_kv)
            kvs_of(arena, 1, &put->prev_kv, result);
        return put->header;
    }
    case HISTORY_DEL:
        del_result(arena, (const void *)answer, result);
        return ((const Etcdserverpb__DeleteRangeResponse *)answer)->header;
    case HISTORY_GET:
        range_result(arena, (const void *)answer, result);
        return ((const Etcdserverpb__RangeResponse *)answer)->header;
    case HISTORY_TXN:
        txn_result(arena, (const void *)answer, result);
        return ((const Etcdserverpb__TxnResponse *)answer)->header;
    case HISTORY_GRANT:
        result->lease = ((const Etcdserverpb__LeaseGrantResponse *)answer)->id;
        result->ttl_s = ((const Etcdserverpb__LeaseGrantResponse *)answer)->ttl;
        return ((const Etcdserverpb__LeaseGrantResponse *)answer)->header;
    case HISTORY_REVOKE:
        return ((const Etcdserverpb__LeaseRevokeResponse *)answer)->header;
    case HISTORY_KEEPALIVE:
        result->ttl_s = ((const Etcdserverpb__LeaseKeepAliveResponse *)answer)->ttl;
        return ((const Etcdserverpb__LeaseKeepAliveResponse *)answer)->header;
    case HISTORY_TTL:
        result->ttl_s = ((const Etcdserverpb__LeaseTimeToLiveResponse *)answer)->ttl;
        result->granted_ttl_s = ((const Etcdserverpb__LeaseTimeToLiveResponse *)answer)->grantedttl;
        return ((const Etcdserverpb__LeaseTimeToLiveResponse *)answer)->header;
    case HISTORY_COMPACT:
        return ((const Etcdserverpb__CompactionResponse *)answer)->header;
    }
    return NULL;
}

/* ---- calling ---- */
/* Codes that etcd gives only for what it did not do. But the put that crosses the quota is done and answered with an error. */
bool load_surely_not(enum grpc_status status, const char *why)
{
    if (strstr(why, "database space exceeded"))
        return false;
    if (strstr(why, "rpc not supported for learner"))
        return true;
    switch (status) {
    case GRPC_INVALID_ARGUMENT:
    case GRPC_NOT_FOUND:
    case GRPC_ALREADY_EXISTS:
    case GRPC_PERMISSION_DENIED:
    case GRPC_RESOURCE_EXHAUSTED:
    case GRPC_FAILED_PRECONDITION:
    case GRPC_OUT_OF_RANGE:
    case GRPC_UNIMPLEMENTED:
    case GRPC_UNAUTHENTICATED:
        return true;
    default:
        /* Nothing was sent on a connection that was refused. */
        return strstr(why, "Connection refused") || strstr(why, "connection refused");
    }
}

/* A keep-alive is a stream; here of one question. */
struct alive {
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool over, answered;
    enum grpc_status status;
    char why[200];
    Etcdserverpb__LeaseKeepAliveResponse answer;
    Etcdserverpb__ResponseHeader header;
};

static void alive_message(struct grpc_call *call, const void *message, void *arg)
{
    struct alive *alive = arg;
    const Etcdserverpb__LeaseKeepAliveResponse *answer = message;
    pthread_mutex_lock(&alive->lock);
    alive->answered = true;
    alive->answer = *answer;
    if (answer->header)
        alive->header = *answer->header;
    alive->answer.header = answer->header ? &alive->header : NULL;
    pthread_mutex_unlock(&alive->lock);
}

static void alive_end(struct grpc_call *call, enum grpc_status status, const char *message, void *arg)
{
    struct alive *alive = arg;
    pthread_mutex_lock(&alive->lock);
    alive->over = true;
    alive->status = status;
    snprintf(alive->why, sizeof(alive->why), "%s", message);
    pthread_cond_signal(&alive->ended);
    pthread_mutex_unlock(&alive->lock);
}

static bool keep_alive(struct client *client, const ProtobufCMessage *request, const ProtobufCMessage **ret_answer,
                       enum grpc_status *ret_status)
{
    struct alive *alive = KP_NEW(client->arena, struct alive);
    pthread_mutex_init(&alive->lock, NULL);
    pthread_cond_init(&alive->ended, NULL);
    static const struct grpc_call_callbacks callbacks = {.on_message = alive_message, .on_end = alive_end};
    const struct grpc_call_options options = {.timeout_ms = client->timeout_ms};
    struct grpc_call *call = grpc_call_open(client->channels[client->at], "/etcdserverpb.Lease/LeaseKeepAlive",
                                            &etcdserverpb__lease_keep_alive_response__descriptor, &options, &callbacks, alive);
    if (grpc_call_send(call, request) == 0)
        grpc_call_send_end(call);
    pthread_mutex_lock(&alive->lock);
    while (!alive->over)
        pthread_cond_wait(&alive->ended, &alive->lock);
    pthread_mutex_unlock(&alive->lock);
    grpc_call_unref(call);
    *ret_status = alive->status;
    snprintf(client->why, sizeof(client->why), "%s", alive->why);
    *ret_answer = (const ProtobufCMessage *)&alive->answer;
    return alive->answered;
}

static const struct {
    const char *path;
    const ProtobufCMessageDescriptor *answer;
} methods[] = {
    [HISTORY_PUT] = {"/etcdserverpb.KV/Put", &etcdserverpb__put_response__descriptor},
    [HISTORY_DEL] = {"/etcdserverpb.KV/DeleteRange", &etcdserverpb__delete_range_response__descriptor},
    [HISTORY_GET] = {"/etcdserverpb.KV/Range", &etcdserverpb__range_response__descriptor},
    [HISTORY_TXN] = {"/etcdserverpb.KV/Txn", &etcdserverpb__txn_response__descriptor},
    [HISTORY_GRANT] = {"/etcdserverpb.Lease/LeaseGrant", &etcdserverpb__lease_grant_response__descriptor},
    [HISTORY_REVOKE] = {"/etcdserverpb.Lease/LeaseRevoke", &etcdserverpb__lease_revoke_response__descriptor},
    [HISTORY_TTL] = {"/etcdserverpb.Lease/LeaseTimeToLive", &etcdserverpb__lease_time_to_live_response__descriptor},
    [HISTORY_COMPACT] = {"/etcdserverpb.KV/Compact", &etcdserverpb__compaction_response__descriptor},
};

static ProtobufCMessage *request_of(struct kp_arena *arena, const struct history_op *op, bool want_prev)
{
    switch (op->kind) {
    case HISTORY_PUT:
        return load_put_request(arena, op, want_prev);
    case HISTORY_DEL:
        return del_request(arena, op, want_prev);
    case HISTORY_GET:
        return get_request(arena, op);
    case HISTORY_TXN:
        return txn_request(arena, op);
    case HISTORY_COMPACT: {
        Etcdserverpb__CompactionRequest *compact =
            MESSAGE(arena, Etcdserverpb__CompactionRequest, etcdserverpb__compaction_request__descriptor);
        compact->revision = op->revision;
        return &compact->base;
    }
    default:
        return lease_request(arena, op);
    }
}

static bool writes(const struct history_op *op, const struct history_result *result)
{
    if (op->kind != HISTORY_TXN)
        return op->kind == HISTORY_PUT || (op->kind == HISTORY_DEL && result->count > 0);
    const struct history_op *ops = result->succeeded ? op->then : op->otherwise;
    for (size_t i = 0; i < result->result_count; i++)
        if (writes(&ops[i], &result->results[i]))
            return true;
    return false;
}

int client_do(struct client *client, const struct history_op *op, bool want_prev, struct history_result *ret_result,
              int64_t *ret_revision)
{
    struct load *load = client->load;
    ProtobufCMessage *request = request_of(client->arena, op, want_prev);
    const ProtobufCMessage *answer = NULL;
    enum grpc_status status = GRPC_UNKNOWN;
    bool answered;
    uint64_t number = history_invoke(load->history, client->id, op);
    if (op->kind == HISTORY_KEEPALIVE) {
        answered = keep_alive(client, request, &answer, &status);
    } else {
        struct kp_error error = {0};
        ProtobufCMessage *message = NULL;
        const struct grpc_call_options options = {.timeout_ms = client->timeout_ms, .ret_status = &status};
        answered = grpc_call(client->channels[client->at], methods[op->kind].path, request, methods[op->kind].answer, &options,
                             client->arena, &message, &error) == 0;
        answer = message;
        snprintf(client->why, sizeof(client->why), "%s", error.message);
    }
    *ret_result = (struct history_result){0};
    if (!answered) {
        bool sure = load_surely_not(status, client->why);
        char why[320];
        snprintf(why, sizeof(why), "%s_%s", grpc_status_name(status), client->why);
        if (sure)
            history_fail(load->history, client->id, number, why);
        else
            history_unknown(load->history, client->id, number, why);
        atomic_fetch_add(sure ? &load->failed : &load->unknown, 1);
        return sure ? 0 : -1;
    }
    const Etcdserverpb__ResponseHeader *header = read_answer(client->arena, op, answer, ret_result);
    *ret_revision = header ? header->revision : 0;
    history_ok(load->history, client->id, number, op, *ret_revision, ret_result);
    load_saw(load, header);
    atomic_fetch_add(&load->ok, 1);
    if (writes(op, ret_result))
        atomic_fetch_add(&load->acked_writes, 1);
    return 1;
}
