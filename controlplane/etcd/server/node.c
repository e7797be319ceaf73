/* The raft thread: collects what waits, lets the core decide, writes the log with one sync for all of it, and applies. */
#include "controlplane/etcd/server/node_internal.h"

#include <errno.h>

#define SOLE_LOG_BYTES_MAX ((size_t)1 << 20) /* entries a sole member keeps in memory */
#define TICKS_BEHIND_MAX 3 /* after a stall, time passes no faster than this */
#define READ_AGAIN_MS 500  /* a question to the quorum that is lost on its way is asked again */

struct read_batch {
    uint64_t id, index;
    bool asked, confirmed;
    int64_t asked_ms;
    struct read_wait *waits;
    struct read_batch *next;
};

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

/* Asks again after a change of leader, which loses the questions under way, and after a while. */
static void ask_reads(struct node *node, bool again)
{
    int64_t now_ms = kp_mono_ms();
    for (struct read_batch *batch = node->read_batches; batch; batch = batch->next) {
        if (batch->confirmed || (batch->asked && !again && now_ms - batch->asked_ms < READ_AGAIN_MS))
            continue;
        struct kp_error error = {0};
        batch->id = ++node->next_read_id;
        batch->asked_ms = now_ms;
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
            node_finish_read(server, wait, ready ? ETCD_OK : stopping ? ETCD_STOPPED : ETCD_TIMEOUT);
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

static enum etcd_err refusal(int rc)
{
    return rc == KP_ETOOMANY ? ETCD_TOO_MANY_REQUESTS : rc == KP_ETOOLARGE ? ETCD_REQUEST_TOO_LARGE : ETCD_INTERNAL;
}

/* One change of the membership at a time: the next waits for the one before it to be applied. */
static void propose_change(struct etcd_server *server)
{
    struct node *node = &server->node;
    struct op *op = node->changes;
    if (!op)
        return;
    struct raft_conf_change change = {.len = 1, .context = {op->entry->data, op->entry->len}};
    change.changes[0].type = op->change;
    change.changes[0].id = op->change_id;
    struct kp_error error = {0};
    int rc = raft_propose_conf_change(node->raft, &change, &error);
    if (rc == KP_EUNAVAILABLE || rc == KP_ECONFLICT)
        return;
    node->changes = op->next;
    if (!node->changes)
        node->changes_tail = &node->changes;
    if (rc == 0)
        table_add(node, op);
    else
        node_finish_op(server, op, refusal(rc));
}

static bool leads_in(struct node *node, uint64_t term)
{
    struct raft_status status;
    raft_status(node->raft, &status);
    return status.role == RAFT_LEADER && status.term == term;
}

static void refuse_first(struct etcd_server *server)
{
    struct node *node = &server->node;
    struct op *op = node->blocked;
    node->blocked = op->next;
    if (!node->blocked)
        node->blocked_tail = &node->blocked;
    node_finish_op(server, op, ETCD_NOT_LEADER);
}

/* Proposes all that wait in one batch; without a leader they go on waiting. */
static void propose(struct etcd_server *server)
{
    struct node *node = &server->node;
    struct kp_blob *entries[256];
    if (node->leader_lost && !atomic_load(&node->is_leader))
        return; /* there will be another soon, or it comes back */
    propose_change(server);
    while (node->blocked) {
        size_t len = 0;
        struct op *first = node->blocked, *end = first;
        for (; end && len < KP_ARRAY_LEN(entries) && (!end->only_term || leads_in(node, end->only_term)); end = end->next)
            entries[len++] = end->entry;
        if (len == 0) {
            refuse_first(server);
            continue;
        }
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
                node_finish_op(server, op, refusal(rc));
        }
    }
}

/* What is late, as etcd says it: asked while the last leader was failing, or for another reason. */
static enum etcd_err lateness(struct etcd_server *server, int64_t deadline_ms)
{
    int64_t asked_ms = deadline_ms - request_timeout_ms(server), elected_ms = atomic_load(&server->node.elected_ms);
    bool failing = asked_ms > elected_ms - 2 * server->config.election_ms && asked_ms < elected_ms;
    return failing ? ETCD_TIMEOUT_LEADER_FAILED : ETCD_TIMEOUT;
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
        node_finish_op(server, op, stopping ? ETCD_STOPPED : lateness(server, op->deadline_ms));
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
    node->changes_tail = expire_list(server, &node->changes, now_ms, stopping);
    for (size_t i = 0; node->table_len && i < OP_TABLE_BUCKETS; i++)
        expire_list(server, &node->table[i], now_ms, stopping);
}

/* ---- the loop ---- */

static void pass_time(struct etcd_server *server)
{
    struct node *node = &server->node;
    int64_t now_ms = kp_mono_ms(), step_ms = server->config.heartbeat_ms;
    if (now_ms - node->next_tick_ms > TICKS_BEHIND_MAX * step_ms)
        node->next_tick_ms = now_ms - TICKS_BEHIND_MAX * step_ms;
    for (; now_ms >= node->next_tick_ms; node->next_tick_ms += step_ms)
        raft_tick(node->raft);
}

/* The others refuse before an election timeout after the leader's last word; the usual random wait on top of that is not
   needed, for the pre-vote keeps a member with a bad connection from disturbing a leader that lives. */
void node_leader_is_lost(struct etcd_server *server)
{
    struct node *node = &server->node;
    if (node->leader_lost)
        return;
    int64_t election_ms = server->config.election_ms;
    node->leader_lost = true;
    node->campaign_ms = kp_mono_ms() + election_ms + (int64_t)(kp_random_u64() % (uint64_t)(election_ms / 4 + 1));
}

static void campaign_if_lost(struct etcd_server *server)
{
    struct node *node = &server->node;
    int64_t now_ms = kp_mono_ms();
    if (!node->leader_lost || !atomic_load(&node->leader) || now_ms < node->campaign_ms)
        return;
    struct kp_error error = {0};
    node->campaign_ms = now_ms + server->config.election_ms;
    (void)raft_campaign(node->raft, &error); /* a learner may not, and need not */
}

static void note_leadership(struct etcd_server *server, const struct raft_ready *ready)
{
    struct node *node = &server->node;
    bool leads = ready->role == RAFT_LEADER;
    if (atomic_load(&node->term) != ready->term) {
        node->term_applied = false;
        atomic_store(&node->is_leader, false); /* until its leases have been given their time: expire_leases reads the term first */
    }
    atomic_store(&node->term, ready->term);
    if (atomic_exchange(&node->leader, ready->leader) != ready->leader && ready->leader) {
        atomic_fetch_add(&node->leader_changes, 1);
        atomic_store(&node->elected_ms, kp_mono_ms());
        node->leader_lost = false;
    }
    if (ready->leader)
        atomic_store(&node->leaderless_ms, 0);
    else if (!atomic_load(&node->leaderless_ms))
        atomic_store(&node->leaderless_ms, kp_mono_ms());
    if (leads && !atomic_load(&node->is_leader))
        mvcc_lease_promote(server->mvcc, kp_mono_ms(), server->config.election_ms);
    atomic_store(&node->is_leader, leads);
    ask_reads(node, true);
}

static bool has_conf_change(const struct raft_ready *ready)
{
    for (size_t i = 0; i < ready->committed_len; i++)
        if (ready->committed[i].type == RAFT_ENTRY_CONF_CHANGE)
            return true;
    return false;
}

/* A leader answers what is committed before it writes what is new; a follower acknowledges first. */
static void handle_ready(struct etcd_server *server, const struct raft_ready *ready)
{
    struct node *node = &server->node;
    bool apply_first = ready->role == RAFT_LEADER && !ready->snapshot && !has_conf_change(ready);
    if (ready->soft_changed)
        note_leadership(server, ready);
    node_send(server, ready->messages, ready->messages_len);
    confirm_reads(node, ready);
    if (apply_first) {
        node_apply(server, ready);
        serve_reads(server, false);
    }
    if (ready->snapshot) {
        KP_ASSERT(node->image);
        images_install(server, ready->snapshot, node->image);
    }
    node_persist(server, ready);
    node_send(server, ready->messages_after_sync, ready->messages_after_sync_len);
    if (!apply_first)
        node_apply(server, ready);
}

static void drain(struct etcd_server *server)
{
    struct node *node = &server->node;
    while (raft_has_ready(node->raft)) {
        const struct raft_ready *ready = raft_ready(node->raft);
        handle_ready(server, ready);
        bool sole = ready->role == RAFT_LEADER && node->term_applied && node->conf.voters.len == 1 &&
                    !raft_conf_is_joint(&node->conf);
        uint64_t applied = atomic_load(&node->applied), commit = ready->hard_state.commit;
        raft_advance(node->raft);
        raft_applied(node->raft, applied);
        if (sole && !node->conf.learners.len && raft_log_bytes(node->raft) > SOLE_LOG_BYTES_MAX)
            raft_compact(node->raft, applied); /* no follower will ask for it */
        atomic_store(&node->committed, commit);
        atomic_store(&node->log_bytes, raft_log_bytes(node->raft));
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

static void step(struct etcd_server *server, const struct raft_message *message)
{
    struct kp_error error = {0};
    int rc = raft_step(server->node.raft, message, &error);
    if (rc == KP_ECORRUPT)
        server_die(server, "follow the leader", &error);
    if (rc < 0)
        kp_warn("a message of a peer is ignored", "type", raft_message_name(message->type), "err", error.message, NULL);
}

static void step_messages(struct etcd_server *server, struct raft_message *messages, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (messages[i].from == atomic_load_explicit(&server->node.leader, memory_order_relaxed))
            server->node.leader_lost = false;
        step(server, &messages[i]);
        raft_message_done(&messages[i]);
    }
}

/* One image at a time, so that the ready that follows is about this one. */
static void step_snapshots(struct etcd_server *server, struct incoming *incoming)
{
    for (struct incoming *next; incoming; incoming = next) {
        next = incoming->next;
        drain(server);
        server->node.image = incoming->path;
        step(server, &incoming->message);
        drain(server);
        server->node.image = NULL;
        incoming_free(incoming);
    }
}

static void sort_ops(struct node *node, struct op *ops)
{
    for (struct op *op = ops, *next; op; op = next) {
        next = op->next;
        op->next = NULL;
        struct op ***tail = op->change_id ? &node->changes_tail : &node->blocked_tail;
        **tail = op;
        *tail = &op->next;
    }
}

void node_turn(struct etcd_server *server)
{
    struct node *node = &server->node;
    struct work work;
    node_take_work(node, &work);
    sort_ops(node, work.ops);
    add_reads(node, work.reads);
    step_messages(server, work.inbox, work.inbox_len);
    step_snapshots(server, work.incoming);
    pass_time(server);
    campaign_if_lost(server);
    run_calls(server, work.calls);
    if (!work.stopping) {
        propose(server);
        ask_reads(node, false);
        drain(server);
    }
    expire(server, work.stopping);
    serve_reads(server, work.stopping);
    if (node->removing && !atomic_load(&node->is_leader)) /* a leader that is removed tells the others first */
        atomic_store(&server->removed, true);
}

static void *node_main(void *arg)
{
    struct etcd_server *server = arg;
    for (bool stopping = false; !stopping;) {
        node_turn(server);
        node_wait(&server->node);
        pthread_mutex_lock(&server->node.mutex);
        stopping = server->node.stopping;
        pthread_mutex_unlock(&server->node.mutex);
    }
    node_turn(server); /* everything that waits is told */
    return NULL;
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
    if (!node->raft)
        return;
    pthread_mutex_lock(&node->mutex);
    node->stopping = true;
    pthread_cond_signal(&node->wake);
    pthread_mutex_unlock(&node->mutex);
    if (node->started)
        pthread_join(node->thread, NULL);
    else
        node_turn(server);
    node->started = false;
}

void node_done(struct node *node)
{
    KP_ASSERT(!node->inbox_len && !node->incoming);
    free(node->inbox);
    free(node->received);
    raft_free(node->raft);
    wal_close(node->wal);
}
