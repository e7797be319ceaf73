/* Calls to etcd: ranges, optimistic transactions, leases, compaction. */
#include "controlplane/apiserver/storage/storage_internal.h"

#define ENDPOINTS_MAX 16
#define LEASE_SHARED_MS 60000
#define COMPACTED "required revision has been compacted" /* etcd's words; the status is OUT_OF_RANGE for future revisions too */

static int make_tls(const struct store_config *config, struct tls_context **ret_tls, struct kp_error *error)
{
    static const char *const alpn[] = {"h2", NULL};
    if (kp_empty(config->ca_file) && kp_empty(config->cert_file))
        return 0;
    struct tls_context_config tls = {.cert_file = kp_empty(config->cert_file) ? NULL : config->cert_file,
                                     .key_file = kp_empty(config->key_file) ? NULL : config->key_file,
                                     .ca_file = kp_empty(config->ca_file) ? NULL : config->ca_file,
                                     .alpn = alpn};
    return tls_context_new(&tls, ret_tls, error);
}

int store_new(struct loop *loop, const struct store_config *config, struct store **ret_store, struct kp_error *error)
{
    KP_AUTO_FREE char *list = kp_strdup(config->endpoints ? config->endpoints : "");
    const char *endpoints[ENDPOINTS_MAX];
    size_t count = 0;
    char *save = NULL;
    for (char *word = strtok_r(list, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
        if (count == ENDPOINTS_MAX)
            return kp_fail(error, KP_EUSAGE, "--etcd-servers: more than %d endpoints", ENDPOINTS_MAX);
        endpoints[count++] = word;
    }
    if (!count)
        return kp_fail(error, KP_EUSAGE, "--etcd-servers: no endpoint given");
    struct store *store = kp_calloc(1, sizeof(*store));
    store->loop = loop;
    pthread_mutex_init(&store->mutex, NULL);
    struct grpc_channel_config channel = {.endpoints = endpoints, .endpoint_count = count, .call_timeout_ms = STORE_CALL_TIMEOUT_MS};
    int code = make_tls(config, &store->tls, error);
    if (code == 0) {
        channel.tls = store->tls;
        code = grpc_channel_new(loop, &channel, &store->channel, error);
    }
    if (code < 0) {
        store_free(store);
        return kp_wrap(error, "etcd client for %s", config->endpoints);
    }
    *ret_store = store;
    return 0;
}

void store_free(struct store *store)
{
    if (!store)
        return;
    grpc_channel_free(store->channel);
    tls_context_unref(store->tls);
    pthread_mutex_destroy(&store->mutex);
    free(store);
}

void store_kv_from(const Mvccpb__KeyValue *kv, struct kp_arena *arena, struct store_kv *ret)
{
    *ret = (struct store_kv){.key = kp_arena_strndup(arena, (const char *)kv->key.data, kv->key.len),
                             .value = {(const uint8_t *)kp_arena_strndup(arena, (const char *)kv->value.data, kv->value.len), kv->value.len},
                             .mod_revision = kv->mod_revision,
                             .create_revision = kv->create_revision,
                             .lease = kv->lease};
}

static int range(struct store *store, Etcdserverpb__RangeRequest *request, struct kp_arena *arena, Etcdserverpb__RangeResponse **ret,
                 struct kp_error *error)
{
    ProtobufCMessage *response = NULL;
    int code = grpc_call(store->channel, "/etcdserverpb.KV/Range", &request->base, &etcdserverpb__range_response__descriptor, NULL, arena,
                         &response, error);
    if (code < 0 && error && strstr(error->message, COMPACTED))
        return error->code = KP_EEXPIRED;
    *ret = (Etcdserverpb__RangeResponse *)response;
    return code;
}

int store_get(struct store *store, const char *key, struct kp_arena *arena, struct store_kv *ret_kv, int64_t *ret_revision,
              struct kp_error *error)
{
    Etcdserverpb__RangeRequest request = ETCDSERVERPB__RANGE_REQUEST__INIT;
    Etcdserverpb__RangeResponse *response = NULL;
    request.key = store_bytes(key, strlen(key));
    if (range(store, &request, arena, &response, error) < 0)
        return kp_wrap(error, "read %s", key);
    *ret_kv = (struct store_kv){.key = key};
    if (response->n_kvs)
        store_kv_from(response->kvs[0], arena, ret_kv);
    *ret_revision = response->header ? response->header->revision : 0;
    return 0;
}

const char *store_prefix_end(const char *prefix, struct kp_arena *arena)
{
    char *end = kp_arena_strdup(arena, prefix);
    size_t len = strlen(end);
    KP_ASSERT(len && (unsigned char)end[len - 1] < 0x7f);
    end[len - 1]++;
    return end;
}

int store_list(struct store *store, const char *start, const char *end, int64_t limit, int64_t revision, struct kp_arena *arena,
               struct store_page *ret_page, struct kp_error *error)
{
    Etcdserverpb__RangeRequest request = ETCDSERVERPB__RANGE_REQUEST__INIT;
    Etcdserverpb__RangeResponse *response = NULL;
    request.key = store_bytes(start, strlen(start));
    request.range_end = store_bytes(end, strlen(end));
    request.limit = limit;
    request.revision = revision;
    int code = range(store, &request, arena, &response, error);
    if (code < 0)
        return kp_wrap(error, "list from %s", start);
    *ret_page = (struct store_page){.len = response->n_kvs, .more = response->more, .count = response->count};
    ret_page->revision = response->header ? response->header->revision : 0;
    ret_page->items = KP_NEW_ARRAY(arena, struct store_kv, response->n_kvs + 1);
    for (size_t i = 0; i < response->n_kvs; i++)
        store_kv_from(response->kvs[i], arena, &ret_page->items[i]);
    return 0;
}

int store_revision(struct store *store, int64_t *ret_revision, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct store_kv kv;
    return store_get(store, "/registry/", arena, &kv, ret_revision, error);
}

/* ---- transactions --------------------------------------------------------------------------------------------------- */
static Etcdserverpb__Compare *make_compare(const struct store_op *op, struct kp_arena *arena)
{
    Etcdserverpb__Compare *compare = KP_NEW(arena, Etcdserverpb__Compare);
    etcdserverpb__compare__init(compare);
    compare->result = ETCDSERVERPB__COMPARE__COMPARE_RESULT__EQUAL;
    compare->target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__MOD;
    compare->key = store_bytes(op->key, strlen(op->key));
    compare->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_MOD_REVISION;
    compare->mod_revision = op->expect;
    return compare;
}

static Etcdserverpb__RequestOp *make_write(const struct store_op *op, struct kp_arena *arena)
{
    Etcdserverpb__RequestOp *request = KP_NEW(arena, Etcdserverpb__RequestOp);
    etcdserverpb__request_op__init(request);
    if (op->value) {
        Etcdserverpb__PutRequest *put = KP_NEW(arena, Etcdserverpb__PutRequest);
        etcdserverpb__put_request__init(put);
        put->key = store_bytes(op->key, strlen(op->key));
        put->value = store_bytes(op->value, op->len);
        put->lease = op->lease;
        request->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
        request->request_put = put;
    } else {
        Etcdserverpb__DeleteRangeRequest *del = KP_NEW(arena, Etcdserverpb__DeleteRangeRequest);
        etcdserverpb__delete_range_request__init(del);
        del->key = store_bytes(op->key, strlen(op->key));
        request->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE;
        request->request_delete_range = del;
    }
    return request;
}

static Etcdserverpb__RequestOp *make_read(const struct store_op *op, struct kp_arena *arena)
{
    Etcdserverpb__RequestOp *request = KP_NEW(arena, Etcdserverpb__RequestOp);
    Etcdserverpb__RangeRequest *read = KP_NEW(arena, Etcdserverpb__RangeRequest);
    etcdserverpb__request_op__init(request);
    etcdserverpb__range_request__init(read);
    read->key = store_bytes(op->key, strlen(op->key));
    request->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE;
    request->request_range = read;
    return request;
}

static void tell_current(const Etcdserverpb__TxnResponse *response, const struct store_op *ops, size_t count, struct kp_arena *arena,
                         struct store_kv *ret_current)
{
    for (size_t i = 0; i < count; i++) {
        ret_current[i] = (struct store_kv){.key = ops[i].key};
        const Etcdserverpb__ResponseOp *answer = i < response->n_responses ? response->responses[i] : NULL;
        if (answer && answer->response_case == ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_RANGE && answer->response_range->n_kvs)
            store_kv_from(answer->response_range->kvs[0], arena, &ret_current[i]);
    }
}

int store_commit(struct store *store, const struct store_op *ops, size_t count, struct kp_arena *arena, int64_t *ret_revision,
                 struct store_kv *ret_current, struct kp_error *error)
{
    KP_ASSERT(count && count <= STORE_OPS_MAX);
    Etcdserverpb__TxnRequest request = ETCDSERVERPB__TXN_REQUEST__INIT;
    Etcdserverpb__Compare *compare[STORE_OPS_MAX];
    Etcdserverpb__RequestOp *success[STORE_OPS_MAX], *failure[STORE_OPS_MAX];
    request.compare = compare;
    request.success = success;
    request.failure = failure;
    for (size_t i = 0; i < count; i++) {
        if (ops[i].expect != STORE_ANY)
            compare[request.n_compare++] = make_compare(&ops[i], arena);
        if (!ops[i].check_only)
            success[request.n_success++] = make_write(&ops[i], arena);
        if (ret_current)
            failure[request.n_failure++] = make_read(&ops[i], arena);
    }
    ProtobufCMessage *message = NULL;
    if (grpc_call(store->channel, "/etcdserverpb.KV/Txn", &request.base, &etcdserverpb__txn_response__descriptor, NULL, arena, &message,
                  error) < 0)
        return kp_wrap(error, "write %s", ops[0].key);
    const Etcdserverpb__TxnResponse *response = (const Etcdserverpb__TxnResponse *)message;
    if (!response->succeeded) {
        if (ret_current)
            tell_current(response, ops, count, arena, ret_current);
        return kp_fail(error, KP_ECONFLICT, "write %s: the key has changed meanwhile", ops[0].key);
    }
    *ret_revision = response->header ? response->header->revision : 0;
    return 0;
}

/* ---- leases and compaction ---------------------------------------------------------------------------------------------- */
int store_lease_own(struct store *store, int64_t ttl_s, int64_t *ret_lease, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    Etcdserverpb__LeaseGrantRequest request = ETCDSERVERPB__LEASE_GRANT_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    request.ttl = ttl_s;
    if (grpc_call(store->channel, "/etcdserverpb.Lease/LeaseGrant", &request.base, &etcdserverpb__lease_grant_response__descriptor, NULL,
                  arena, &message, error) < 0)
        return kp_wrap(error, "grant a lease of %lld s", (long long)ttl_s);
    *ret_lease = ((const Etcdserverpb__LeaseGrantResponse *)message)->id;
    return 0;
}

int store_lease(struct store *store, int64_t ttl_s, int64_t *ret_lease, struct kp_error *error)
{
    int64_t now_ms = kp_mono_ms();
    pthread_mutex_lock(&store->mutex);
    bool fits = store->lease && store->lease_ttl_s == ttl_s && now_ms - store->lease_at_ms < LEASE_SHARED_MS;
    *ret_lease = store->lease;
    pthread_mutex_unlock(&store->mutex);
    if (fits)
        return 0;
    if (store_lease_own(store, ttl_s + LEASE_SHARED_MS / 1000, ret_lease, error) < 0)
        return error->code;
    pthread_mutex_lock(&store->mutex);
    store->lease = *ret_lease;
    store->lease_ttl_s = ttl_s;
    store->lease_at_ms = now_ms;
    pthread_mutex_unlock(&store->mutex);
    return 0;
}

int store_compact(struct store *store, int64_t revision, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    Etcdserverpb__CompactionRequest request = ETCDSERVERPB__COMPACTION_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    request.revision = revision;
    if (grpc_call(store->channel, "/etcdserverpb.KV/Compact", &request.base, &etcdserverpb__compaction_response__descriptor, NULL, arena,
                  &message, error) < 0)
        return kp_wrap(error, "compact to revision %lld", (long long)revision);
    return 0;
}
