/* Clients: one request at a time each, against any member, with time-outs and unknown outcomes, all written down. */
#include "tests/sim/world.h"

#define LEASES_MAX 4
#define KEY_LEN 8

struct lease_known {
    int64_t id;
};
struct client {
    unsigned number;
    struct rng random;
    struct sim_member *member; /* whom it talks to */
    struct call *call;     /* under way; NULL: none */
    struct lease_known leases[LEASES_MAX];
    int64_t mod_seen[32]; /* by key: for compare-and-swap */
    uint64_t values;
    uint64_t calls;
    bool stopped;
};

/* One request. It outlives its client's patience: the member may hold it. */
struct call {
    struct client *client;
    uint64_t tag; /* which of the client's calls */
    struct sim_member *member;
    uint64_t incarnation;
    uint64_t number; /* in the history */
    struct history_op asked, then[2], otherwise[1];
    struct history_compare compare;
    char key[KEY_LEN], end[KEY_LEN], value[32];
    enum op_kind kind;
    bool is_read, over;
    ProtobufCMessage *request;
    struct op op;
    struct read_wait wait;
    /* the answer */
    enum etcd_err err;
    struct kp_buf response;
    int64_t revision;
    struct history_kv *kvs;
    size_t kv_count;
    int64_t count;
    bool more;
    int64_t ttl_s;
    bool not_leader;
};

static struct client clients[CLIENTS_MAX];
static bool stopping;

static void next_call(void *arg, uint64_t tag);

static struct history_bytes text(const char *s) { return (struct history_bytes){s, strlen(s)}; }
static struct history_bytes text_or_none(const char *s) { return *s ? text(s) : (struct history_bytes){0}; }

static void think(struct client *client, int64_t low_ms, int64_t high_ms)
{
    client->calls++;
    event_in(rng_between(&client->random, low_ms, high_ms) * SIM_MS, next_call, client, client->calls);
}

/* ---- ends of a call ---- */

static bool outcome_is_known(enum etcd_err err)
{
    switch (err) {
    case ETCD_TIMEOUT:
    case ETCD_TIMEOUT_LEADER_FAILED:
    case ETCD_TIMEOUT_CONNECTION_LOST:
    case ETCD_TIMEOUT_APPLIED_INDEX:
    case ETCD_STOPPED:
    case ETCD_INTERNAL:
    case ETCD_LEADER_CHANGED: return false;
    default: return true;
    }
}

static void copy_kv(struct history_kv *to, const Mvccpb__KeyValue *kv)
{
    *to = (struct history_kv){.key = {kv->key.data ? kv->key.data : (const uint8_t *)"", kv->key.len},
                              .value = {kv->value.data ? kv->value.data : (const uint8_t *)"", kv->value.len},
                              .create = kv->create_revision,
                              .mod = kv->mod_revision,
                              .version = kv->version,
                              .lease = kv->lease};
}

static int key_number(const char *key) { return (key[1] - '0') * 10 + key[2] - '0'; }

static void learn(struct client *client, const struct history_kv *kv)
{
    client->mod_seen[key_number(kv->key.data)] = kv->mod;
}

static void *unpack(const ProtobufCMessageDescriptor *descriptor, const struct call *call)
{
    void *message = call->response.len < 5 ? NULL
                                           : protobuf_c_message_unpack(descriptor, NULL, call->response.len - 5,
                                                                       (uint8_t *)call->response.data + 5);
    if (!message)
        sim_fail("sim", "an answer of %s is not a %s", call->member->name, descriptor->name);
    return message;
}

static void answer_put(struct call *call, struct history_result *result, int64_t *revision)
{
    Etcdserverpb__PutResponse *r = unpack(&etcdserverpb__put_response__descriptor, call);
    static struct history_kv prev;
    *revision = r->header->revision;
    if (r->prev_kv) {
        copy_kv(&prev, r->prev_kv);
        result->kvs = &prev;
        result->kv_count = 1;
    }
    call->client->mod_seen[key_number(call->key)] = *revision;
}

static void answer_del(struct call *call, struct history_result *result, int64_t *revision)
{
    Etcdserverpb__DeleteRangeResponse *r = unpack(&etcdserverpb__delete_range_response__descriptor, call);
    *revision = r->header->revision;
    result->count = r->deleted;
    struct history_kv *prevs = kp_calloc(r->n_prev_kvs + 1, sizeof *prevs);
    for (size_t i = 0; i < r->n_prev_kvs; i++)
        copy_kv(&prevs[i], r->prev_kvs[i]);
    result->kvs = prevs;
    result->kv_count = r->n_prev_kvs;
}

static void answer_txn(struct call *call, struct history_result *result, int64_t *revision)
{
    Etcdserverpb__TxnResponse *r = unpack(&etcdserverpb__txn_response__descriptor, call);
    *revision = r->header->revision;
    result->succeeded = r->succeeded;
    struct history_result *results = kp_calloc(r->n_responses + 1, sizeof *results);
    for (size_t i = 0; i < r->n_responses; i++) {
        const Etcdserverpb__ResponseOp *op = r->responses[i];
        if (op->response_case == ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_DELETE_RANGE) {
            results[i].count = op->response_delete_range->deleted;
        } else if (op->response_case == ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_RANGE) {
            const Etcdserverpb__RangeResponse *range = op->response_range;
            struct history_kv *kvs = kp_calloc(range->n_kvs + 1, sizeof *kvs);
            for (size_t k = 0; k < range->n_kvs; k++) {
                copy_kv(&kvs[k], range->kvs[k]);
                learn(call->client, &kvs[k]);
            }
            results[i].kvs = kvs;
            results[i].kv_count = range->n_kvs;
            results[i].count = range->count;
            results[i].more = range->more;
        }
    }
    if (r->succeeded)
        call->client->mod_seen[key_number(call->key)] = *revision;
    result->results = results;
    result->result_count = r->n_responses;
}

static void answer_lease(struct call *call, struct history_result *result, int64_t *revision)
{
    struct client *client = call->client;
    if (call->kind == OP_LEASE_GRANT) {
        Etcdserverpb__LeaseGrantResponse *r = unpack(&etcdserverpb__lease_grant_response__descriptor, call);
        *revision = r->header->revision;
        result->lease = r->id;
        result->ttl_s = r->ttl;
        client->leases[rng_below(&client->random, LEASES_MAX)].id = r->id;
        return;
    }
    Etcdserverpb__LeaseRevokeResponse *r = unpack(&etcdserverpb__lease_revoke_response__descriptor, call);
    *revision = r->header->revision;
}

static void write_answer(struct call *call)
{
    struct history_result result = {0};
    int64_t revision = call->revision;
    if (call->is_read || call->asked.kind == HISTORY_KEEPALIVE) {
        result = (struct history_result){.kvs = call->kvs, .kv_count = call->kv_count, .count = call->count,
                                         .more = call->more, .ttl_s = call->ttl_s};
        for (size_t i = 0; i < call->kv_count; i++)
            learn(call->client, &call->kvs[i]);
    } else if (call->kind == OP_PUT) {
        answer_put(call, &result, &revision);
    } else if (call->kind == OP_DELETE_RANGE) {
        answer_del(call, &result, &revision);
    } else if (call->kind == OP_TXN) {
        answer_txn(call, &result, &revision);
    } else if (call->kind == OP_COMPACT) {
        Etcdserverpb__CompactionResponse *r = unpack(&etcdserverpb__compaction_response__descriptor, call);
        revision = r->header->revision;
    } else {
        answer_lease(call, &result, &revision);
    }
    history_ok(world.history, call->client->number, call->number, &call->asked, revision, &result);
    sim_trace("c%u: %llu answered at revision %lld by %s", call->client->number, (unsigned long long)call->number,
              (long long)revision, call->member->name);
}

static void finish(struct call *call)
{
    struct client *client = call->client;
    call->over = true;
    client->call = NULL;
    think(client, 1, 150);
}

static void give_up(struct call *call, const char *why)
{
    counters.ops_unknown++;
    sim_trace("c%u: %llu unknown: %s", call->client->number, (unsigned long long)call->number, why);
    history_unknown(world.history, call->client->number, call->number, why);
    if (rng_below(&call->client->random, 2))
        call->client->member = NULL; /* tries another */
    finish(call);
}

/* The answer reaches the client, unless the connection broke. */
static void arrive(void *arg, uint64_t tag)
{
    struct call *call = arg;
    if (call->over)
        return;
    if (call->err == ETCD_OK) {
        counters.ops_ok++;
        write_answer(call);
    } else if (outcome_is_known(call->err)) {
        counters.ops_failed++;
        sim_trace("c%u: %llu failed: %s", call->client->number, (unsigned long long)call->number,
                  etcd_err_info(call->err)->text);
        history_fail(world.history, call->client->number, call->number, etcd_err_info(call->err)->text);
        if (call->err == ETCD_LEASE_NOT_FOUND)
            memset(call->client->leases, 0, sizeof call->client->leases);
    } else {
        give_up(call, etcd_err_info(call->err)->text);
        return;
    }
    if (call->err == ETCD_NO_LEADER || call->err == ETCD_NOT_LEADER || call->err == ETCD_NOT_FOR_LEARNER)
        call->client->member = NULL;
    finish(call);
}

static void answer_leaves(struct call *call)
{
    event_in(rng_between(&call->client->random, 0, 30) * SIM_MS, arrive, call, 0);
}

static void proposed(struct op *op)
{
    struct cage_owner *owner = cage_leave();
    struct call *call = op->ctx;
    call->err = op->err;
    if (op->response)
        kp_buf_append(&call->response, op->response->data, op->response->len);
    op_done(op);
    if (!call->over)
        answer_leaves(call);
    if (owner)
        cage_enter(owner);
}

static void patience(void *arg, uint64_t tag)
{
    struct call *call = arg;
    if (!call->over)
        give_up(call, "timeout");
}

void clients_member_down(struct sim_member *member)
{
    for (size_t i = 0; i < world.plan.clients; i++) {
        struct call *call = clients[i].call;
        if (!call || call->over || call->member != member)
            continue;
        if (call->response.len && rng_below(&world.random, 2))
            continue; /* its answer had left already */
        give_up(call, "connection closed");
    }
}

/* ---- calls ---- */

static void range_now(void *arg)
{
    struct call *call = arg;
    struct mvcc_range_request range = {.key = {(const uint8_t *)call->key, strlen(call->key)},
                                       .range_end = {(const uint8_t *)call->end, strlen(call->end)},
                                       .limit = call->asked.limit,
                                       .revision = call->asked.revision};
    struct mvcc_range_result result;
    struct kp_error error = {0};
    call->err = etcd_err_of_mvcc(mvcc_range(call->member->server->mvcc, &range, &result, &error));
    if (call->err != ETCD_OK)
        return;
    struct cage_owner *owner = cage_leave();
    call->kvs = kp_calloc(result.len + 1, sizeof *call->kvs);
    for (size_t i = 0; i < result.len; i++) {
        const struct mvcc_kv *kv = &result.items[i].kv;
        char *bytes = kp_malloc(kv->key.len + kv->value.len + 2);
        memcpy(bytes, kv->key.data, kv->key.len);
        bytes[kv->key.len] = '\0';
        memcpy(bytes + kv->key.len + 1, kv->value.data, kv->value.len);
        call->kvs[i] = (struct history_kv){{bytes, kv->key.len},
                                           {bytes + kv->key.len + 1, kv->value.len},
                                           kv->create_revision,
                                           kv->mod_revision,
                                           kv->version,
                                           kv->lease};
    }
    call->kv_count = result.len;
    call->count = result.count;
    call->more = result.more;
    call->revision = result.revision;
    cage_enter(owner);
    mvcc_range_done(&result);
}

/* On a worker's thread, some time after the quorum's answer. */
static void read_now(void *arg, uint64_t tag)
{
    struct call *call = arg;
    struct sim_member *member = call->member;
    if (call->over || !member_is_up(member) || member->incarnation != call->incarnation)
        return;
    if (sim_now_ns < member->busy_until_ns) {
        event_at(member->busy_until_ns, read_now, call, 0);
        return;
    }
    if (member_call(member, range_now, call))
        answer_leaves(call);
}

static void read_allowed(struct read_wait *wait)
{
    struct cage_owner *owner = cage_leave();
    struct call *call = wait->ctx;
    call->err = wait->err;
    if (call->over)
        ;
    else if (wait->err == ETCD_OK)
        event_in(rng_between(&call->client->random, 0, 20) * SIM_MS, read_now, call, 0);
    else
        answer_leaves(call);
    if (owner)
        cage_enter(owner);
}

/* The handler of a request, as api_kv.c and api_lease.c have it. */
static void serve(void *arg)
{
    struct call *call = arg;
    struct etcd_server *server = call->member->server;
    if (atomic_load(&server->learner)) { /* as the guard before every call says */
        call->err = ETCD_NOT_FOR_LEARNER;
        return;
    }
    if (call->asked.kind == HISTORY_KEEPALIVE) {
        call->err = lease_renew_anywhere(server, call->asked.lease, &call->ttl_s);
        call->revision = mvcc_revision(server->mvcc);
        return;
    }
    if (call->is_read) {
        call->wait = (struct read_wait){
            .deadline_ms = kp_mono_ms() + request_timeout_ms(server), .done = read_allowed, .ctx = call};
        node_read(server, &call->wait);
        return;
    }
    call->err = request_check(&server->config, call->kind, call->request);
    if (call->err != ETCD_OK)
        return;
    op_init(server, &call->op, call->kind, call->request);
    call->op.done = proposed;
    call->op.ctx = call;
    op_propose(server, &call->op);
}

static void send_call(struct call *call)
{
    struct client *client = call->client;
    struct sim_member *member = call->member;
    counters.ops++;
    call->incarnation = member->incarnation;
    call->number = history_invoke(world.history, client->number, &call->asked);
    client->call = call;
    sim_trace("c%u: %llu to %s: kind %d %s", client->number, (unsigned long long)call->number, member->name,
              (int)call->asked.kind, call->key);
    event_in(rng_between(&client->random, 500, 9000) * SIM_MS, patience, call, 0);
    if (call->is_read && (call->asked.serializable || plant_is(PLANT_STALE_READ) ||
                          atomic_load(&member->server->node.sole_leader)) &&
        (call->asked.serializable || !atomic_load(&member->server->learner))) {
        event_in(rng_between(&client->random, 0, 20) * SIM_MS, read_now, call, 0);
        return;
    }
    if (!member_call(member, serve, call))
        return;
    if (call->asked.kind == HISTORY_KEEPALIVE || call->err == ETCD_NOT_FOR_LEARNER || (!call->is_read && call->err != ETCD_OK))
        answer_leaves(call);
    member_turn_in(member, (int64_t)rng_below(&world.random, 2 * SIM_MS));
}

/* ---- what to ask ---- */

static void pick_key(struct client *client, char key[KEY_LEN])
{
    snprintf(key, KEY_LEN, "k%02u", (unsigned)rng_below(&client->random, world.plan.keys));
}

static ProtobufCBinaryData binary(const char *s)
{
    return (ProtobufCBinaryData){strlen(s), (uint8_t *)(uintptr_t)s};
}

static int64_t pick_lease(struct client *client)
{
    return client->leases[rng_below(&client->random, LEASES_MAX)].id;
}

static void new_value(struct client *client, char value[32])
{
    snprintf(value, 32, "c%u.%llu", client->number, (unsigned long long)++client->values);
}

static Etcdserverpb__PutRequest *put_request(const char *key, const char *value, int64_t lease)
{
    Etcdserverpb__PutRequest *put = kp_malloc(sizeof *put);
    etcdserverpb__put_request__init(put);
    put->key = binary(key);
    put->value = binary(value);
    put->lease = lease;
    return put;
}

static void ask_put(struct call *call)
{
    struct client *client = call->client;
    counters.puts++;
    new_value(client, call->value);
    int64_t lease = rng_below(&client->random, 4) == 0 ? pick_lease(client) : 0;
    Etcdserverpb__PutRequest *put = put_request(call->key, call->value, lease);
    put->prev_kv = false;
    call->kind = OP_PUT;
    call->request = &put->base;
    call->asked =
        (struct history_op){.kind = HISTORY_PUT, .key = text(call->key), .value = text(call->value), .lease = lease};
}

static void ask_delete(struct call *call)
{
    counters.deletes++;
    Etcdserverpb__DeleteRangeRequest *del = kp_malloc(sizeof *del);
    etcdserverpb__delete_range_request__init(del);
    if (rng_below(&call->client->random, 4) == 0) {
        pick_key(call->client, call->end);
        if (strcmp(call->key, call->end) >= 0)
            call->end[0] = '\0';
    }
    del->key = binary(call->key);
    del->range_end = binary(call->end);
    del->prev_kv = false;
    call->kind = OP_DELETE_RANGE;
    call->request = &del->base;
    call->asked = (struct history_op){.kind = HISTORY_DEL, .key = text(call->key), .end = text_or_none(call->end)};
}

/* Compare-and-swap on the revision last seen, as the API server makes it: put, or else read. */
static void ask_txn(struct call *call)
{
    struct client *client = call->client;
    counters.txns++;
    int64_t expected = client->mod_seen[key_number(call->key)];
    new_value(client, call->value);
    Etcdserverpb__TxnRequest *txn = kp_calloc(1, sizeof *txn);
    etcdserverpb__txn_request__init(txn);
    Etcdserverpb__Compare *compare = kp_malloc(sizeof *compare);
    etcdserverpb__compare__init(compare);
    compare->target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__MOD;
    compare->result = ETCDSERVERPB__COMPARE__COMPARE_RESULT__EQUAL;
    compare->key = binary(call->key);
    compare->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_MOD_REVISION;
    compare->mod_revision = expected;
    Etcdserverpb__RequestOp *ops = kp_calloc(3, sizeof *ops), **lists = kp_calloc(3, sizeof(struct _Etcdserverpb__RequestOp *));
    for (int i = 0; i < 3; i++) {
        etcdserverpb__request_op__init(&ops[i]);
        lists[i] = &ops[i];
    }
    ops[0].request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
    ops[0].request_put = put_request(call->key, call->value, 0);
    call->then[0] = (struct history_op){.kind = HISTORY_PUT, .key = text(call->key), .value = text(call->value)};
    size_t then = 1;
    if (rng_below(&client->random, 3) == 0) { /* two keys in one revision */
        pick_key(client, call->end);
        if (strcmp(call->end, call->key) != 0) {
            ops[1].request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
            ops[1].request_put = put_request(call->end, call->value, 0);
            call->then[then++] =
                (struct history_op){.kind = HISTORY_PUT, .key = text(call->end), .value = text(call->value)};
        }
    }
    Etcdserverpb__RangeRequest *get = kp_malloc(sizeof *get);
    etcdserverpb__range_request__init(get);
    get->key = binary(call->key);
    ops[2].request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE;
    ops[2].request_range = get;
    call->otherwise[0] = (struct history_op){.kind = HISTORY_GET, .key = text(call->key)};
    Etcdserverpb__Compare **compares = kp_malloc(sizeof(struct _Etcdserverpb__Compare *));
    compares[0] = compare;
    txn->compare = compares;
    txn->n_compare = 1;
    txn->success = lists;
    txn->n_success = then;
    txn->failure = lists + 2;
    txn->n_failure = 1;
    call->kind = OP_TXN;
    call->request = &txn->base;
    call->compare = (struct history_compare){.key = text(call->key), .target = 'm', .result = '=', .number = expected};
    call->asked = (struct history_op){.kind = HISTORY_TXN, .compares = &call->compare, .compare_count = 1,
                                      .then = call->then, .then_count = then, .otherwise = call->otherwise,
                                      .otherwise_count = 1};
}

static void ask_read(struct call *call)
{
    struct client *client = call->client;
    bool serializable = rng_below(&client->random, 4) == 0;
    call->is_read = true;
    if (rng_below(&client->random, 3) == 0) {
        strcpy(call->key, "k00");
        strcpy(call->end, "l");
    }
    call->asked = (struct history_op){.kind = HISTORY_GET, .key = text(call->key), .end = text_or_none(call->end),
                                      .serializable = serializable};
    if (rng_below(&client->random, 5) == 0)
        call->asked.limit = 1 + (int64_t)rng_below(&client->random, 3);
    if (serializable)
        counters.reads_serializable++;
    else
        counters.reads_linearizable++;
}

static void ask_lease(struct call *call)
{
    struct client *client = call->client;
    int64_t lease = pick_lease(client);
    if (!lease || rng_below(&client->random, 4) == 0) {
        Etcdserverpb__LeaseGrantRequest *grant = kp_malloc(sizeof *grant);
        etcdserverpb__lease_grant_request__init(grant);
        grant->id = (int64_t)(rng_next(&client->random) >> 1) | 1;
        grant->ttl = rng_between(&client->random, 2, 8);
        call->kind = OP_LEASE_GRANT;
        call->request = &grant->base;
        call->asked = (struct history_op){.kind = HISTORY_GRANT, .lease = grant->id, .ttl_s = grant->ttl};
        counters.lease_grants++;
        return;
    }
    if (rng_below(&client->random, 5) == 0) {
        Etcdserverpb__LeaseRevokeRequest *revoke = kp_malloc(sizeof *revoke);
        etcdserverpb__lease_revoke_request__init(revoke);
        revoke->id = lease;
        call->kind = OP_LEASE_REVOKE;
        call->request = &revoke->base;
        call->asked = (struct history_op){.kind = HISTORY_REVOKE, .lease = lease};
        counters.lease_revokes++;
        return;
    }
    call->asked = (struct history_op){.kind = HISTORY_KEEPALIVE, .lease = lease};
    counters.lease_keepalives++;
}

static void ask_compact(struct call *call)
{
    struct sim_member *member = call->member;
    int64_t revision = mvcc_revision(member->server->mvcc) - (int64_t)rng_below(&call->client->random, 60);
    Etcdserverpb__CompactionRequest *compact = kp_malloc(sizeof *compact);
    etcdserverpb__compaction_request__init(compact);
    compact->revision = KP_MAX(revision, 1);
    call->kind = OP_COMPACT;
    call->request = &compact->base;
    call->asked = (struct history_op){.kind = HISTORY_COMPACT, .revision = compact->revision};
    counters.compactions++;
}

static struct sim_member *pick_member(struct client *client)
{
    if (client->member && member_is_up(client->member) && !client->member->removed && rng_below(&client->random, 10))
        return client->member;
    struct sim_member *up[MEMBERS_MAX];
    size_t len = 0;
    for (size_t i = 0; i < world.members_len; i++)
        if (member_is_up(&world.members[i]) && !world.members[i].removed)
            up[len++] = &world.members[i];
    return len ? up[rng_below(&client->random, len)] : NULL;
}

static void next_call(void *arg, uint64_t tag)
{
    struct client *client = arg;
    if (client->call || tag != client->calls)
        return;
    client->stopped = stopping;
    if (stopping)
        return;
    client->member = pick_member(client);
    if (!client->member || sim_now_ns < client->member->busy_until_ns) {
        client->member = NULL;
        think(client, 20, 400);
        return;
    }
    struct call *call = kp_calloc(1, sizeof *call);
    call->client = client;
    call->member = client->member;
    pick_key(client, call->key);
    uint64_t what = rng_below(&client->random, 100);
    if (what < 30)
        ask_put(call);
    else if (what < 38)
        ask_delete(call);
    else if (what < 58)
        ask_txn(call);
    else if (what < 86)
        ask_read(call);
    else if (what < 98 || rng_below(&client->random, 2))
        ask_lease(call);
    else
        ask_compact(call);
    send_call(call);
}

void clients_start(void)
{
    stopping = false;
    for (size_t i = 0; i < world.plan.clients; i++) {
        clients[i] = (struct client){.number = (unsigned)i, .random = rng_fork(&world.random)};
        think(&clients[i], 1, 1500);
    }
}

void clients_stop(void) { stopping = true; }

bool clients_idle(void)
{
    for (size_t i = 0; i < world.plan.clients; i++)
        if (clients[i].call || !clients[i].stopped)
            return false;
    return true;
}
