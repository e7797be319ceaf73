/* The raft thread: collects what waits, lets the core decide, writes the log with one sync for all of it, and applies. */
#include "controlplane/etcd/server/node_internal.h"

#include <errno.h>
#include <time.h>

#define SOLE_LOG_BYTES_MAX ((size_t)1 << 20) /* entries a sole member keeps in memory */
#define TICKS_BEHIND_MAX 3 /* after a stall, time passes no faster than this */

struct read_batch {
    uint64_t id, index;
    bool asked, confirmed;
    struct read_wait *waits;
    struct read_batch *next;
};

/* ---- queues: any thread ---- */

static bool take_slot(struct node *node)
{
    if (atomic_fetch_add(&node->waiting, 1) < ETCD_OPS_WAITING_MAX)
        return true;
    atomic_fetch_sub(&node->waiting, 1);
    return false;
}

void op_propose(struct etcd_server *server, struct op *op)
{
    struct node *node = &server->node;
    op->next = NULL;
    if (!take_slot(node)) {
        op->err = ETCD_TOO_MANY_REQUESTS;
        op->done(op);
        return;
    }
    pthread_mutex_lock(&node->mutex);
    bool stopping = node->stopping;
    if (!stopping) {
        *node->ops_tail = op;
        node->ops_tail = &op->next;
        pthread_cond_signal(&node->wake);
    }
    pthread_mutex_unlock(&node->mutex);
    if (stopping)
        node_finish_op(server, op, ETCD_STOPPED);
}

void node_finish_op(struct etcd_server *server, struct op *op, enum etcd_err err)
{
    op->err = err;
    atomic_fetch_sub(&server->node.waiting, 1);
    if (err == ETCD_TIMEOUT || err == ETCD_TOO_MANY_REQUESTS)
        atomic_fetch_add(&server->node.proposals_failed, 1);
    op->done(op);
}

static void finish_read(struct etcd_server *server, struct read_wait *wait, enum etcd_err err)
{
    wait->err = err;
    atomic_fetch_sub(&server->node.waiting, 1);
    wait->done(wait);
}

void node_read(struct etcd_server *server, struct read_wait *wait)
{
    struct node *node = &server->node;
    wait->next = NULL;
    if (!take_slot(node)) {
        wait->err = ETCD_TOO_MANY_REQUESTS;
        wait->done(wait);
        return;
    }
    pthread_mutex_lock(&node->mutex);
    bool stopping = node->stopping;
    if (!stopping) {
        *node->reads_tail = wait;
        node->reads_tail = &wait->next;
        pthread_cond_signal(&node->wake);
    }
    pthread_mutex_unlock(&node->mutex);
    if (stopping)
        finish_read(server, wait, ETCD_STOPPED);
}

void node_run(struct etcd_server *server, struct node_call *call)
{
    struct node *node = &server->node;
    call->next = NULL;
    pthread_mutex_lock(&node->mutex);
    *node->calls_tail = call;
    node->calls_tail = &call->next;
    pthread_cond_signal(&node->wake);
    pthread_mutex_unlock(&node->mutex);
}

/* ---- reads: one question to the quorum for all that wait ---- */

static void add_reads(struct node *node, struct read_wait *waits)
{
    if (!waits)
        return;
    struct read_batch *batch = kp_calloc(1, sizeof *batch);
    batch->id = ++node->next_read_id;
    batch->waits = waits;
    batch->next = node->read_batches;
    node->read_batches = batch;
}

/* Asks again after a change of leader, which loses the questions under way. */
static void ask_reads(struct node *node, bool again)
{
    for (struct read_batch *batch = node->read_batches; batch; batch = batch->next) {
        if (batch->confirmed || (batch->asked && !again))
            continue;
        struct kp_error error = {0};
        batch->id = ++node->next_read_id;
        batch->asked = raft_read_index(node->raft, batch->id, &error) == 0;
    }
}

static void serve_reads(struct etcd_server *server, bool stopping)
{
    struct node *node = &server->node;
    uint64_t applied = atomic_load(&node->applied);
    int64_t now_ms = kp_mono_ms();
    for (struct read_batch **at = &node->read_batches; *at;) {
        struct read_batch *batch = *at;
        bool ready = batch->confirmed && applied >= batch->index;
        for (struct read_wait **w = &batch->waits; *w;) {
            struct read_wait *wait = *w;
            if (!ready && !stopping && now_ms < wait->deadline_ms) {
                w = &wait->next;
                continue;
            }
            *w = wait->next;
            finish_read(server, wait, ready ? ETCD_OK : stopping ? ETCD_STOPPED : ETCD_TIMEOUT);
        }
        if (batch->waits) {
            at = &batch->next;
            continue;
        }
        *at = batch->next;
        free(batch);
    }
}

static void confirm_reads(struct node *node, const struct raft_ready *ready)
{
    for (size_t i = 0; i < ready->reads_len; i++)
        for (struct read_batch *batch = node->read_batches; batch; batch = batch->next)
            if (batch->id == ready->reads[i].read_id) {
                batch->confirmed = true;
                batch->index = ready->reads[i].index;
            }
}

/* ---- proposals ---- */

static void table_add(struct node *node, struct op *op)
{
    struct op **bucket = &node->table[op->id % OP_TABLE_BUCKETS];
    op->next = *bucket;
    *bucket = op;
    node->table_len++;
}

struct op *node_take_op(struct node *node, uint64_t id)
{
    for (struct op **at = &node->table[id % OP_TABLE_BUCKETS]; *at; at = &(*at)->next) {
        struct op *op = *at;
        if (op->id != id)
            continue;
        *at = op->next;
        node->table_len--;
        return op;
    }
    return NULL;
}

/* Proposes all that wait in one batch; without a leader they go on waiting. */
static void propose(struct etcd_server *server)
{
    struct node *node = &server->node;
    struct kp_blob *entries[256];
    while (node->blocked) {
        size_t len = 0;
        struct op *first = node->blocked, *end = first;
        for (; end && len < KP_ARRAY_LEN(entries); end = end->next)
            entries[len++] = end->entry;
        struct kp_error error = {0};
        int rc = raft_propose_batch(node->raft, entries, len, &error);
        if (rc == KP_EUNAVAILABLE)
            return;
        node->blocked = end;
        if (!end)
            node->blocked_tail = &node->blocked;
        for (struct op *op = first, *next; op != end; op = next) {
            next = op->next;
            if (rc == 0)
                table_add(node, op);
            else
                node_finish_op(server, op, rc == KP_ETOOMANY    ? ETCD_TOO_MANY_REQUESTS
                                           : rc == KP_ETOOLARGE ? ETCD_REQUEST_TOO_LARGE
                                                                : ETCD_INTERNAL);
        }
    }
}

/* Finishes the operations of a list that are late (or all of them). */
static struct op **expire_list(struct etcd_server *server, struct op **at, int64_t now_ms, bool stopping)
{
    while (*at) {
        struct op *op = *at;
        if (!stopping && now_ms < op->deadline_ms) {
            at = &op->next;
            continue;
        }
        *at = op->next;
        node_finish_op(server, op, stopping ? ETCD_STOPPED : ETCD_TIMEOUT);
    }
    return at;
}

static void expire(struct etcd_server *server, bool stopping)
{
    struct node *node = &server->node;
    int64_t now_ms = kp_mono_ms();
    if (!stopping && now_ms < node->next_expiry_ms)
        return;
    node->next_expiry_ms = now_ms + 500;
    node->blocked_tail = expire_list(server, &node->blocked, now_ms, stopping);
    for (size_t i = 0; node->table_len && i < OP_TABLE_BUCKETS; i++)
        expire_list(server, &node->table[i], now_ms, stopping);
}

/* ---- the loop ---- */

struct work {
    struct op *ops, **ops_tail;
    struct read_wait *reads;
    struct node_call *calls;
    bool stopping;
};

static void wait_for_work(struct node *node, struct work *work)
{
    pthread_mutex_lock(&node->mutex);
    while (!node->ops && !node->reads && !node->calls && !node->stopping && kp_mono_ms() < node->next_tick_ms) {
        struct timespec until = {.tv_sec = node->next_tick_ms / 1000,
                                 .tv_nsec = (node->next_tick_ms % 1000) * 1000000};
        pthread_cond_timedwait(&node->wake, &node->mutex, &until);
    }
    *work = (struct work){.ops = node->ops,
                          .ops_tail = node->ops_tail,
                          .reads = node->reads,
                          .calls = node->calls,
                          .stopping = node->stopping};
    node->ops = NULL;
    node->ops_tail = &node->ops;
    node->reads = NULL;
    node->reads_tail = &node->reads;
    node->calls = NULL;
    node->calls_tail = &node->calls;
    pthread_mutex_unlock(&node->mutex);
}

static void pass_time(struct etcd_server *server)
{
    struct node *node = &server->node;
    int64_t now_ms = kp_mono_ms(), step_ms = server->config.heartbeat_ms;
    if (now_ms - node->next_tick_ms > TICKS_BEHIND_MAX * step_ms)
        node->next_tick_ms = now_ms - TICKS_BEHIND_MAX * step_ms;
    for (; now_ms >= node->next_tick_ms; node->next_tick_ms += step_ms)
        raft_tick(node->raft);
}

static void note_leadership(struct etcd_server *server, const struct raft_ready *ready)
{
    struct node *node = &server->node;
    bool leads = ready->role == RAFT_LEADER;
    if (atomic_load(&node->term) != ready->term)
        node->term_applied = false;
    atomic_store(&node->term, ready->term);
    if (atomic_exchange(&node->leader, ready->leader) != ready->leader && ready->leader)
        atomic_fetch_add(&node->leader_changes, 1);
    if (leads && !atomic_load(&node->is_leader))
        mvcc_lease_promote(server->mvcc, kp_mono_ms(), server->config.election_ms);
    atomic_store(&node->is_leader, leads);
    ask_reads(node, true);
}

static void drain(struct etcd_server *server)
{
    struct node *node = &server->node;
    while (raft_has_ready(node->raft)) {
        const struct raft_ready *ready = raft_ready(node->raft);
        if (ready->soft_changed)
            note_leadership(server, ready);
        node_persist(server, ready);
        confirm_reads(node, ready);
        node_apply(server, ready);
        bool sole = ready->role == RAFT_LEADER && node->term_applied && node->conf.voters.len == 1 &&
                    !raft_conf_is_joint(&node->conf);
        uint64_t applied = atomic_load(&node->applied), commit = ready->hard_state.commit;
        raft_advance(node->raft);
        raft_applied(node->raft, applied);
        if (sole && raft_log_bytes(node->raft) > SOLE_LOG_BYTES_MAX)
            raft_compact(node->raft, applied); /* no follower will ask for it */
        atomic_store(&node->committed, commit);
        atomic_store_explicit(&node->sole_leader, sole, memory_order_release);
        serve_reads(server, false);
    }
}

static void run_calls(struct etcd_server *server, struct node_call *calls)
{
    for (struct node_call *next; calls; calls = next) {
        next = calls->next;
        calls->fn(server, calls);
    }
}

static void *node_main(void *arg)
{
    struct etcd_server *server = arg;
    struct node *node = &server->node;
    node->next_tick_ms = kp_mono_ms();
    for (;;) {
        drain(server);
        struct work work;
        wait_for_work(node, &work);
        if (work.ops) {
            *node->blocked_tail = work.ops;
            node->blocked_tail = work.ops_tail;
        }
        add_reads(node, work.reads);
        pass_time(server);
        run_calls(server, work.calls);
        if (work.stopping)
            break;
        propose(server);
        ask_reads(node, false);
        drain(server);
        expire(server, false);
        serve_reads(server, false);
    }
    expire(server, true);
    serve_reads(server, true);
    return NULL;
}

void node_init(struct node *node)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&node->wake, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&node->mutex, NULL);
    node->ops_tail = &node->ops;
    node->reads_tail = &node->reads;
    node->calls_tail = &node->calls;
    node->blocked_tail = &node->blocked;
}

int node_start(struct etcd_server *server, struct kp_error *error)
{
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, ETCD_THREAD_STACK);
    int rc = pthread_create(&server->node.thread, &attr, node_main, server);
    pthread_attr_destroy(&attr);
    if (rc) {
        errno = rc;
        return kp_fail_errno(error, "start the raft thread");
    }
    server->node.started = true;
    return 0;
}

void node_stop(struct etcd_server *server)
{
    struct node *node = &server->node;
    if (!node->started)
        return;
    pthread_mutex_lock(&node->mutex);
    node->stopping = true;
    pthread_cond_signal(&node->wake);
    pthread_mutex_unlock(&node->mutex);
    pthread_join(node->thread, NULL);
    node->started = false;
}
