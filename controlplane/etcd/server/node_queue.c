/* What other threads leave for the raft thread: requests, reads, calls, messages and images of peers. */
#include "controlplane/etcd/server/node_internal.h"

#include <time.h>
#include <unistd.h>

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
    if (err == ETCD_TIMEOUT || err == ETCD_TIMEOUT_LEADER_FAILED || err == ETCD_TOO_MANY_REQUESTS)
        atomic_fetch_add(&server->node.proposals_failed, 1);
    op->done(op);
}

void node_finish_read(struct etcd_server *server, struct read_wait *wait, enum etcd_err err)
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
        node_finish_read(server, wait, ETCD_STOPPED);
}

bool node_run(struct etcd_server *server, struct node_call *call)
{
    struct node *node = &server->node;
    call->next = NULL;
    pthread_mutex_lock(&node->mutex);
    bool stopping = node->stopping;
    if (!stopping) {
        *node->calls_tail = call;
        node->calls_tail = &call->next;
        pthread_cond_signal(&node->wake);
    }
    pthread_mutex_unlock(&node->mutex);
    return !stopping;
}

void server_receive(struct etcd_server *server, struct raft_message *message)
{
    struct node *node = &server->node;
    pthread_mutex_lock(&node->mutex);
    bool room = !node->stopping && node->inbox_len < ETCD_INBOX_MAX;
    if (room) {
        if (node->inbox_len == node->inbox_cap) {
            node->inbox_cap = node->inbox_cap ? node->inbox_cap * 2 : 64;
            node->inbox = kp_realloc(node->inbox, node->inbox_cap * sizeof *node->inbox);
        }
        node->inbox[node->inbox_len++] = *message;
        *message = (struct raft_message){0};
        pthread_cond_signal(&node->wake);
    }
    pthread_mutex_unlock(&node->mutex);
    if (!room)
        raft_message_done(message);
}

void server_receive_snapshot(struct etcd_server *server, struct raft_message *message, const char *path)
{
    struct node *node = &server->node;
    struct incoming *incoming = kp_calloc(1, sizeof *incoming);
    incoming->message = *message;
    *message = (struct raft_message){0};
    incoming->path = kp_strdup(path);
    pthread_mutex_lock(&node->mutex);
    bool stopping = node->stopping;
    if (!stopping) {
        *node->incoming_tail = incoming;
        node->incoming_tail = &incoming->next;
        pthread_cond_signal(&node->wake);
    }
    pthread_mutex_unlock(&node->mutex);
    if (stopping)
        incoming_free(incoming);
}

/* The image that was not installed goes. */
void incoming_free(struct incoming *incoming)
{
    if (incoming->path)
        unlink(incoming->path);
    free(incoming->path);
    raft_message_done(&incoming->message);
    free(incoming);
}

struct report {
    struct node_call call;
    uint64_t to;
    bool snapshot, ok;
};

static void take_report(struct etcd_server *server, struct node_call *call)
{
    struct report *report = KP_CONTAINER_OF(call, struct report, call);
    if (report->snapshot)
        raft_report_snapshot(server->node.raft, report->to, report->ok);
    else
        raft_report_unreachable(server->node.raft, report->to);
    if (!report->snapshot && report->to == atomic_load(&server->node.leader))
        node_leader_is_lost(server);
    free(report);
}

static void send_report(struct etcd_server *server, struct report what)
{
    struct report *report = kp_malloc(sizeof *report);
    *report = what;
    report->call.fn = take_report;
    if (!node_run(server, &report->call))
        free(report);
}

void server_snapshot_sent(struct etcd_server *server, uint64_t to, bool ok)
{
    send_report(server, (struct report){.to = to, .snapshot = true, .ok = ok});
}

void server_unreachable(struct etcd_server *server, uint64_t to) { send_report(server, (struct report){.to = to}); }

/* ---- the raft thread's end ---- */

static bool something_waits(const struct node *node)
{
    return node->ops || node->reads || node->calls || node->inbox_len || node->incoming || node->stopping;
}

void node_wait(struct node *node)
{
    bool campaigns = node->leader_lost && atomic_load(&node->leader);
    int64_t until_ms = campaigns ? KP_MIN(node->next_tick_ms, node->campaign_ms) : node->next_tick_ms;
    pthread_mutex_lock(&node->mutex);
    while (!something_waits(node) && kp_mono_ms() < until_ms) {
        struct timespec until = {.tv_sec = until_ms / 1000, .tv_nsec = (until_ms % 1000) * 1000000};
        pthread_cond_timedwait(&node->wake, &node->mutex, &until);
    }
    pthread_mutex_unlock(&node->mutex);
}

void node_take_work(struct node *node, struct work *work)
{
    pthread_mutex_lock(&node->mutex);
    *work = (struct work){.ops = node->ops,
                          .reads = node->reads,
                          .calls = node->calls,
                          .inbox = node->inbox,
                          .inbox_len = node->inbox_len,
                          .incoming = node->incoming,
                          .stopping = node->stopping};
    node->ops = NULL;
    node->ops_tail = &node->ops;
    node->reads = NULL;
    node->reads_tail = &node->reads;
    node->calls = NULL;
    node->calls_tail = &node->calls;
    node->incoming = NULL;
    node->incoming_tail = &node->incoming;
    struct raft_message *spare = node->received;
    size_t spare_cap = node->received_cap;
    node->received = node->inbox;
    node->received_cap = node->inbox_cap;
    node->inbox = spare;
    node->inbox_cap = spare_cap;
    node->inbox_len = 0;
    pthread_mutex_unlock(&node->mutex);
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
    node->incoming_tail = &node->incoming;
    node->blocked_tail = &node->blocked;
    node->changes_tail = &node->changes;
}
