/* Changes of the membership as clients ask for them: etcd's checks, on the leader, before anything is proposed. */
#include "controlplane/etcd/server/node_internal.h"

#define QUESTION_MEMBER "member" /* kind (1 byte), Member; answered by an error (1 byte) and the framed response */
#define LEADER_POLL_MS 20
#define ASK_MS_MAX 10000

/* ---- what the leader knows of the others: on the raft thread ---- */

struct look {
    struct node_call call;
    struct raft_status status;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool done;
};

static void look(struct etcd_server *server, struct node_call *call)
{
    struct look *l = KP_CONTAINER_OF(call, struct look, call);
    pthread_mutex_lock(&l->mutex);
    raft_status(server->node.raft, &l->status);
    l->done = true;
    pthread_cond_signal(&l->cond);
    pthread_mutex_unlock(&l->mutex);
}

static bool get_status(struct etcd_server *server, struct raft_status *ret)
{
    if (server_is_stepped(server)) { /* its only thread is the raft thread */
        raft_status(server->node.raft, ret);
        return true;
    }
    struct look l = {.call = {.fn = look}, .mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    if (!node_run(server, &l.call))
        return false;
    pthread_mutex_lock(&l.mutex);
    while (!l.done)
        pthread_cond_wait(&l.cond, &l.mutex);
    pthread_mutex_unlock(&l.mutex);
    *ret = l.status;
    return true;
}

static const struct raft_progress_status *progress_of(const struct raft_status *status, uint64_t id)
{
    for (size_t i = 0; i < status->progress_len; i++)
        if (status->progress[i].id == id)
            return &status->progress[i];
    return NULL;
}

static bool is_active(const struct raft_status *status, uint64_t id)
{
    const struct raft_progress_status *progress = progress_of(status, id);
    return id == status->id || (progress && progress->recent_active);
}

/* ---- etcd's strict reconfiguration checks ---- */

struct count {
    size_t voters, started, active;
};

static struct count count_voters(struct etcd_server *server, const struct raft_status *status, uint64_t without)
{
    struct count count = {0};
    pthread_mutex_lock(&server->members.mutex);
    for (size_t i = 0; i < server->members.len; i++) {
        const struct member *member = &server->members.items[i];
        if (member->learner || member->id == without)
            continue;
        count.voters++;
        count.started += !kp_empty(member->name);
        count.active += is_active(status, member->id);
    }
    pthread_mutex_unlock(&server->members.mutex);
    return count;
}

/* One voter more: a quorum of them must have been started, and all must be there. */
static enum etcd_err check_more_voters(struct etcd_server *server, const struct raft_status *status, size_t new_started)
{
    struct count count = count_voters(server, status, 0);
    size_t voters = count.voters + 1, started = count.started + new_started;
    bool one_to_two = count.started == 1 && voters == 2;
    if (!one_to_two && started < voters / 2 + 1)
        return ETCD_MEMBER_NOT_ENOUGH_STARTED;
    return count.active < count.voters ? ETCD_UNHEALTHY : ETCD_OK;
}

static enum etcd_err check_removal(struct etcd_server *server, const struct raft_status *status, uint64_t id)
{
    if (raft_id_set_has(&status->conf.learners, id))
        return ETCD_OK;
    struct count left = count_voters(server, status, id), all = count_voters(server, status, 0);
    if (left.voters == 0 || left.started < left.voters / 2 + 1)
        return ETCD_MEMBER_NOT_ENOUGH_STARTED;
    if (!is_active(status, id))
        return ETCD_OK; /* it is no part of the quorum that is at work */
    return all.active - 1 < 1 + (all.voters - 1) / 2 ? ETCD_UNHEALTHY : ETCD_OK;
}

/* etcd's measure: its log has nine tenths of the leader's. */
static enum etcd_err check_promotion(struct etcd_server *server, const struct raft_status *status, uint64_t id)
{
    const struct raft_progress_status *self = progress_of(status, status->id), *learner = progress_of(status, id);
    if (!self || !learner || (double)learner->match < (double)self->match * 0.9)
        return ETCD_LEARNER_NOT_READY;
    pthread_mutex_lock(&server->members.mutex);
    const struct member *member = members_find(&server->members, id);
    bool started = member && !kp_empty(member->name);
    pthread_mutex_unlock(&server->members.mutex);
    return server->config.strict_reconfig ? check_more_voters(server, status, started) : ETCD_OK;
}

static enum etcd_err check(struct etcd_server *server, enum op_kind kind, const Etcdserverpb__Member *change)
{
    struct raft_status status;
    enum etcd_err err = members_check(&server->members, kind, change);
    if (err != ETCD_OK || kind == OP_MEMBER_UPDATE)
        return err;
    if (!get_status(server, &status))
        return ETCD_STOPPED;
    if (status.role != RAFT_LEADER)
        return ETCD_NOT_LEADER;
    if (kind == OP_MEMBER_PROMOTE)
        return check_promotion(server, &status, change->id);
    if (!server->config.strict_reconfig)
        return ETCD_OK;
    if (kind == OP_MEMBER_REMOVE)
        return check_removal(server, &status, change->id);
    return change->islearner ? ETCD_OK : check_more_voters(server, &status, 0);
}

enum etcd_err cluster_check_change(struct etcd_server *server, enum op_kind kind, const Etcdserverpb__Member *change)
{
    return check(server, kind, change);
}

enum etcd_err cluster_change(struct etcd_server *server, enum op_kind kind, const Etcdserverpb__Member *change,
                             struct kp_blob **ret_response)
{
    enum etcd_err err = check(server, kind, change);
    return err == ETCD_OK ? op_run(server, kind, &change->base, ret_response) : err;
}

/* ---- asking the leader ---- */

enum etcd_err cluster_ask_leader(struct etcd_server *server, const char *what, struct kp_bytes question,
                                 struct kp_buf *ret_answer, bool *ret_self)
{
    int64_t deadline_ms = kp_mono_ms() + request_timeout_ms(server);
    bool asked = false;
    *ret_self = false;
    for (;;) {
        uint64_t leader = atomic_load(&server->node.leader);
        int64_t left_ms = deadline_ms - kp_mono_ms();
        if (leader == server->member_id) {
            *ret_self = true;
            return ETCD_OK;
        }
        if (left_ms <= 0)
            return asked ? ETCD_TIMEOUT : ETCD_NO_LEADER;
        struct kp_error error = {0};
        size_t before = ret_answer->len;
        if (leader) {
            asked = true;
            int rc = peers_ask(server, leader, what, question, KP_MIN(left_ms, ASK_MS_MAX), ret_answer, &error);
            if (rc == 0)
                return ETCD_OK;
            ret_answer->len = before;
            if (rc != KP_EUNAVAILABLE && rc != KP_ETIMEOUT && rc != KP_ECONFLICT)
                kp_warn("the leader does not answer", "question", what, "err", error.message, NULL);
        }
        if (server_is_stepped(server))
            return leader ? ETCD_TIMEOUT : ETCD_NO_LEADER; /* its owner's time stands still meanwhile */
        kp_sleep_ms(LEADER_POLL_MS);
    }
}

enum etcd_err cluster_change_anywhere(struct etcd_server *server, enum op_kind kind, const Etcdserverpb__Member *change,
                                      struct kp_blob **ret_response)
{
    KP_AUTO_BUF struct kp_buf question = {0}, answer = {0};
    kp_buf_putc(&question, (char)kind);
    size_t len = protobuf_c_message_get_packed_size(&change->base);
    kp_buf_reserve(&question, len + 1);
    protobuf_c_message_pack(&change->base, (uint8_t *)question.data + question.len);
    question.len += len;
    for (int tries = 0; tries < 3; tries++) {
        bool self;
        answer.len = 0;
        enum etcd_err err = cluster_ask_leader(server, QUESTION_MEMBER,
                                               (struct kp_bytes){(uint8_t *)question.data, question.len}, &answer, &self);
        if (err == ETCD_OK && self)
            err = cluster_change(server, kind, change, ret_response);
        else if (err == ETCD_OK)
            err = answer.len ? (enum etcd_err)(uint8_t)answer.data[0] : ETCD_INTERNAL;
        if (err == ETCD_NOT_LEADER)
            continue; /* it moved in between */
        if (err >= ETCD_ERR_COUNT)
            return ETCD_INTERNAL;
        if (err == ETCD_OK && !self)
            *ret_response = kp_blob_new(answer.data + 1, answer.len - 1);
        return err;
    }
    return ETCD_LEADER_CHANGED;
}

int cluster_answer_change(struct etcd_server *server, struct kp_bytes question, struct kp_buf *out, struct kp_error *error)
{
    enum op_kind kind = question.len ? (enum op_kind)question.data[0] : 0;
    if (kind != OP_MEMBER_ADD && kind != OP_MEMBER_REMOVE && kind != OP_MEMBER_PROMOTE && kind != OP_MEMBER_UPDATE)
        return kp_fail(error, KP_EBADREQUEST, "no change of members");
    ProtobufCMessage *change = request_decode(kind, question.data + 1, question.len - 1);
    if (!change)
        return kp_fail(error, KP_EBADREQUEST, "a change of members does not decode");
    KP_AUTO(kp_blob_unref) struct kp_blob *response = NULL;
    enum etcd_err err = cluster_change(server, kind, (const Etcdserverpb__Member *)change, &response);
    request_free(change);
    kp_buf_putc(out, (char)err);
    if (response)
        kp_buf_append(out, response->data, response->len);
    return 0;
}
