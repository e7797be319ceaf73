/* Waiting for one's turn without a thread: a watch on the key before ours wakes a worker, who looks again.

   working --somebody is before us--> parked --that key is deleted--> working --nobody is--> answered
      \________________________client has gone: our key is deleted_______/                            */
#include "controlplane/etcd/server/turn_internal.h"

static struct turn *turn_ref(struct turn *turn)
{
    __atomic_fetch_add(&turn->refs, 1, __ATOMIC_RELAXED);
    return turn;
}

void turn_unref(struct turn *turn)
{
    if (!turn || __atomic_fetch_sub(&turn->refs, 1, __ATOMIC_ACQ_REL) != 1)
        return;
    KP_ASSERT(!turn->watcher);
    grpc_stream_unref(turn->stream);
    kp_blob_unref(turn->name);
    kp_blob_unref(turn->prefix);
    kp_blob_unref(turn->prefix_end);
    kp_blob_unref(turn->key);
    pthread_mutex_destroy(&turn->mutex);
    free(turn);
}

struct turn *turn_new(struct grpc_context *context, struct grpc_stream *stream, ProtobufCBinaryData name, int64_t lease)
{
    struct turn *turn = kp_calloc(1, sizeof *turn);
    KP_AUTO_BUF struct kp_buf text = {0};
    turn->refs = 1;
    turn->server = server_of(context);
    turn->stream = grpc_stream_ref(stream);
    turn->lease = lease;
    pthread_mutex_init(&turn->mutex, NULL);
    kp_buf_append(&text, name.data, name.len);
    turn->name = kp_blob_new(text.data ? text.data : "", text.len);
    kp_buf_putc(&text, '/');
    turn->prefix = kp_blob_new(text.data, text.len);
    text.data[text.len - 1] = '/' + 1;
    turn->prefix_end = kp_blob_new(text.data, text.len);
    text.data[text.len - 1] = '/';
    kp_buf_printf(&text, "%llx", (unsigned long long)lease);
    turn->key = kp_blob_new(text.data, text.len);
    return turn;
}

enum etcd_err turn_session(struct grpc_context *context, int64_t *lease)
{
    if (*lease)
        return ETCD_OK;
    struct etcd_server *server = server_of(context);
    struct auth_identity who;
    Etcdserverpb__LeaseGrantRequest grant = ETCDSERVERPB__LEASE_GRANT_REQUEST__INIT;
    grant.id = (int64_t)(kp_random_u64() >> 1) | 1;
    grant.ttl = TURN_LEASE_TTL_S;
    enum etcd_err err = rpc_require_known(context);
    if (err == ETCD_OK)
        err = rpc_check_quota(server, OP_LEASE_GRANT, &grant.base);
    if (err == ETCD_OK)
        err = rpc_identity(context, &who);
    if (err == ETCD_OK)
        err = op_run_as(server, OP_LEASE_GRANT, &grant.base, &who, NULL);
    *lease = grant.id;
    return err;
}

/* ---- the list of all that wait, for the end of the server ---- */

static bool list_add(struct turn *turn)
{
    struct turns *turns = &turn->server->rpc->turns;
    pthread_mutex_lock(&turns->mutex);
    bool open = !turns->closed;
    if (open) {
        turn->next = turns->first;
        if (turn->next)
            turn->next->prev = turn;
        turns->first = turn;
    }
    pthread_mutex_unlock(&turns->mutex);
    return open;
}

static void list_remove(struct turn *turn)
{
    struct turns *turns = &turn->server->rpc->turns;
    pthread_mutex_lock(&turns->mutex);
    if (turn->prev)
        turn->prev->next = turn->next;
    else if (turns->first == turn)
        turns->first = turn->next;
    if (turn->next)
        turn->next->prev = turn->prev;
    turn->prev = turn->next = NULL;
    pthread_mutex_unlock(&turns->mutex);
}

void turns_close_all(struct etcd_server *server)
{
    struct turns *turns = &server->rpc->turns;
    const struct etcd_err_info *info = etcd_err_info(ETCD_STOPPED);
    pthread_mutex_lock(&turns->mutex);
    turns->closed = true;
    size_t len = 0;
    for (struct turn *turn = turns->first; turn; turn = turn->next)
        len++;
    struct turn **all = kp_calloc(len + 1, sizeof(struct turn *));
    len = 0;
    for (struct turn *turn = turns->first; turn; turn = turn->next)
        all[len++] = turn_ref(turn);
    pthread_mutex_unlock(&turns->mutex);
    for (size_t i = 0; i < len; i++) { /* without the lock: finishing may close */
        grpc_stream_finish(all[i]->stream, info->grpc_code, info->text);
        turn_unref(all[i]);
    }
    free(all);
}

/* ---- the end ---- */

static void cleaned(struct op *op)
{
    if (op->err != ETCD_OK) /* its lease ends it then */
        kp_warn("the key of a client that gave up waiting stays", "err", etcd_err_info(op->err)->text, NULL);
    op_done(op);
    free(op);
}

/* Whoever gave up must not be waited for. Only the key we made, not one that came after it. */
static void delete_key(struct turn *turn)
{
    if (turn->keep || !turn->create_revision)
        return;
    struct turn_txn t = {0};
    struct op *op = kp_malloc(sizeof *op);
    turn_txn_init(&t, blob_bytes(turn->key), turn->create_revision);
    turn_txn_delete(&t, blob_bytes(turn->key));
    op_init(turn->server, op, OP_TXN, &t.txn.base);
    op->request = NULL;
    op->done = cleaned;
    op_propose(turn->server, op);
}

static void finish(struct turn *turn, int rc, const struct kp_error *error)
{
    grpc_stream_finish(turn->stream, rc, error->message);
}

static void fail(struct turn *turn, enum etcd_err err)
{
    const struct etcd_err_info *info = etcd_err_info(err);
    grpc_stream_finish(turn->stream, GRPC_UNKNOWN, info->text);
}

/* On the loop, last: whatever still goes on ends by itself, having seen `closed`. */
static void on_close(struct grpc_stream *stream, void *arg)
{
    struct turn *turn = arg;
    pthread_mutex_lock(&turn->mutex);
    turn->closed = true;
    bool parked = turn->parked;
    turn->parked = false;
    struct mvcc_watcher *watcher = parked ? KP_TAKE(turn->watcher) : NULL;
    pthread_mutex_unlock(&turn->mutex);
    mvcc_watch_cancel(turn->server->mvcc, watcher);
    if (parked)
        delete_key(turn);
    list_remove(turn);
    if (parked)
        turn_unref(turn); /* the one that the worker would have had */
    turn_unref(turn);
}

/* ---- waking and looking ---- */

static void work(void *arg);

/* Under the watch lock, or without any. */
void turn_fire(struct turn *turn)
{
    pthread_mutex_lock(&turn->mutex);
    bool refused = turn->parked && pool_submit(turn->server->rpc->pool, work, turn) < 0;
    turn->fired = true;
    turn->parked = refused; /* then on_close, which follows, cleans up */
    pthread_mutex_unlock(&turn->mutex);
    if (refused)
        fail(turn, ETCD_TOO_MANY_REQUESTS);
}

static bool on_event(void *ctx, struct mvcc_watcher *watcher, const struct mvcc_watch_batch *batch)
{
    bool deleted = batch->compact_revision != 0; /* its history is gone: look again */
    for (size_t i = 0; i < batch->len; i++)
        deleted |= batch->events[i]->is_delete;
    if (deleted)
        turn_fire(ctx);
    return true;
}

int turn_watch(struct turn *turn, struct kp_bytes key, struct kp_bytes range_end, int64_t after_revision,
               mvcc_watch_sink sink)
{
    struct mvcc_watch_request request = {.key = key, .range_end = range_end, .start_revision = after_revision + 1};
    enum mvcc_result result = mvcc_watch(turn->server->mvcc, &request, sink, turn, NULL, &turn->watcher);
    KP_ASSERT(result == MVCC_OK); /* the range is not empty */
    return 0;
}

enum etcd_err turn_range(struct etcd_server *server, const struct auth_identity *who, struct kp_bytes key,
                         struct kp_bytes range_end, bool last, int64_t max_create_revision,
                         struct mvcc_range_result *ret_result)
{
    struct mvcc_range_request request = {.key = key,
                                         .range_end = range_end,
                                         .limit = 1,
                                         .sort_order = last ? MVCC_SORT_DESCEND : MVCC_SORT_ASCEND,
                                         .sort_target = MVCC_SORT_CREATE,
                                         .max_create_revision = max_create_revision};
    struct kp_error error = {0};
    enum auth_result permitted = auth_check_range(server->auth, who, key, range_end, AUTH_READ);
    if (permitted != AUTH_OK)
        return etcd_err_of_auth(permitted);
    enum etcd_err err = etcd_err_of_mvcc(mvcc_range(server->mvcc, &request, ret_result, &error));
    if (error.code)
        kp_error_log("range failed", "err", error.message, NULL);
    return err;
}

/* Who is right before us? 1: nobody. What was put before our key is applied here, since our key is. */
static int look_before(struct turn *turn, struct kp_error *error)
{
    struct auth_identity who;
    struct mvcc_range_result result;
    enum etcd_err err = rpc_identity(grpc_stream_context(turn->stream), &who);
    if (err == ETCD_OK)
        err = turn_range(turn->server, &who, blob_bytes(turn->prefix), blob_bytes(turn->prefix_end), true,
                         turn->create_revision - 1, &result);
    if (err != ETCD_OK)
        return -turn_fail(error, err);
    int rc = result.len == 0;
    if (!rc)
        turn_watch(turn, result.items[0].kv.key, (struct kp_bytes){0}, result.revision, on_event);
    mvcc_range_done(&result);
    return rc;
}

/* True when the watcher has it now; the reference is no longer ours then. */
static bool park(struct turn *turn)
{
    pthread_mutex_lock(&turn->mutex);
    bool parked = !turn->closed && !turn->fired;
    turn->parked = parked;
    turn->fired = false;
    struct mvcc_watcher *watcher = parked ? NULL : KP_TAKE(turn->watcher);
    pthread_mutex_unlock(&turn->mutex);
    mvcc_watch_cancel(turn->server->mvcc, watcher);
    return parked;
}

static bool is_closed(struct turn *turn)
{
    pthread_mutex_lock(&turn->mutex);
    bool closed = turn->closed;
    turn->fired = false;
    struct mvcc_watcher *watcher = KP_TAKE(turn->watcher);
    pthread_mutex_unlock(&turn->mutex);
    mvcc_watch_cancel(turn->server->mvcc, watcher);
    return closed;
}

static void work(void *arg)
{
    struct turn *turn = arg;
    struct kp_error error = {0};
    int rc = 0;
    while (rc == 0 && !is_closed(turn)) {
        rc = turn->look ? turn->look(turn, &error) : look_before(turn, &error);
        if (rc == 0 && park(turn))
            return;
    }
    if (rc > 0) {
        rc = turn->arrived(turn, &error);
        turn->keep = rc == 0;
        finish(turn, rc, &error);
    } else if (rc < 0) {
        finish(turn, -rc, &error);
    }
    delete_key(turn);
    turn_unref(turn);
}

int turn_start(struct turn *turn, struct kp_error *error)
{
    static const struct grpc_stream_callbacks callbacks = {.on_close = on_close};
    if (!list_add(turn)) {
        delete_key(turn);
        turn_unref(turn);
        return rpc_fail(error, ETCD_STOPPED);
    }
    grpc_stream_set_callbacks(turn->stream, &callbacks, turn_ref(turn));
    work(turn);
    return GRPC_DETACHED;
}
