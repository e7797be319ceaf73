/* Leases live by the leader's clock: other members ask it to renew one, and what is left of one. */
#include "controlplane/etcd/server/node_internal.h"

#define QUESTION_LEASE "lease" /* 'r' or 't', id (8 bytes); answered by found (1 byte), granted and remaining seconds */
#define QUESTION_LEN 9
#define ANSWER_LEN 17

static void answer_numbers(struct kp_buf *out, bool found, int64_t granted_s, int64_t remaining_s)
{
    kp_buf_putc(out, found);
    kp_buf_append(out, &granted_s, sizeof granted_s);
    kp_buf_append(out, &remaining_s, sizeof remaining_s);
}

/* Renewed by this member as the leader, and still the leader after that: a leader that was paused, and does not know yet of a newer one, would
   promise what the newer one does not keep. Whoever leads later counts from after this (a heartbeat round, as for a linearizable read, follows
   the renewal: thesis 6.4). ETCD_NOT_LEADER when it is open whether the renewal counts. */
static enum etcd_err renew_as_leader(struct etcd_server *server, int64_t id, bool *ret_found, int64_t *ret_ttl_s)
{
    uint64_t term = atomic_load(&server->node.term);
    *ret_found = mvcc_lease_renew(server->mvcc, id, kp_mono_ms(), ret_ttl_s) == MVCC_OK;
    if (server_is_stepped(server))
        return ETCD_OK; /* its owner's time stands still meanwhile, and nobody can be paused */
    enum etcd_err err = node_wait_read(server);
    if (err != ETCD_OK)
        return err;
    return atomic_load(&server->node.is_leader) && atomic_load(&server->node.term) == term ? ETCD_OK : ETCD_NOT_LEADER;
}

int lease_answer(struct etcd_server *server, struct kp_bytes question, struct kp_buf *out, struct kp_error *error)
{
    int64_t id, ttl_s = 0;
    if (question.len != QUESTION_LEN)
        return kp_fail(error, KP_EBADREQUEST, "a question of %zu bytes about a lease", question.len);
    if (!atomic_load(&server->node.is_leader))
        return kp_fail(error, KP_ECONFLICT, "not the leader");
    memcpy(&id, question.data + 1, sizeof id);
    if (question.data[0] == 'r') {
        bool found = false;
        if (renew_as_leader(server, id, &found, &ttl_s) != ETCD_OK)
            return kp_fail(error, KP_ECONFLICT, "not the leader any more");
        answer_numbers(out, found, ttl_s, ttl_s);
        return 0;
    }
    struct mvcc_lease_info info = {0};
    bool found = mvcc_lease_time_to_live(server->mvcc, id, false, kp_mono_ms(), &info) == MVCC_OK;
    answer_numbers(out, found, info.granted_ttl_s, info.remaining_ttl_s);
    return 0;
}

static enum etcd_err ask(struct etcd_server *server, char what, int64_t id, bool *ret_self, bool *ret_found,
                         int64_t *ret_granted_s, int64_t *ret_remaining_s)
{
    uint8_t question[QUESTION_LEN] = {(uint8_t)what};
    memcpy(question + 1, &id, sizeof id);
    KP_AUTO_BUF struct kp_buf answer = {0};
    enum etcd_err err =
        cluster_ask_leader(server, QUESTION_LEASE, (struct kp_bytes){question, sizeof question}, &answer, ret_self);
    if (err != ETCD_OK || *ret_self)
        return err;
    if (answer.len != ANSWER_LEN)
        return ETCD_INTERNAL;
    *ret_found = answer.data[0] != 0;
    memcpy(ret_granted_s, answer.data + 1, 8);
    memcpy(ret_remaining_s, answer.data + 9, 8);
    return ETCD_OK;
}

enum etcd_err lease_renew_anywhere(struct etcd_server *server, int64_t id, int64_t *ret_ttl_s)
{
    int64_t until_ms = kp_mono_ms() + request_timeout_ms(server);
    for (;;) {
        bool self = false, found = false;
        int64_t granted_s = 0, remaining_s = 0;
        *ret_ttl_s = 0;
        enum etcd_err err = ask(server, 'r', id, &self, &found, &granted_s, &remaining_s);
        if (err == ETCD_OK && self)
            err = renew_as_leader(server, id, &found, &remaining_s);
        if (err == ETCD_NOT_LEADER && kp_mono_ms() < until_ms) { /* there is another one now */
            kp_sleep_ms(1);
            continue;
        }
        if (err == ETCD_OK && found)
            *ret_ttl_s = remaining_s;
        return err;
    }
}

enum etcd_err lease_remaining_anywhere(struct etcd_server *server, int64_t id, bool *ret_found, int64_t *ret_granted_s,
                                       int64_t *ret_remaining_s)
{
    bool self = false;
    enum etcd_err err = ask(server, 't', id, &self, ret_found, ret_granted_s, ret_remaining_s);
    if (err != ETCD_OK || !self)
        return err;
    struct mvcc_lease_info info = {0};
    *ret_found = mvcc_lease_time_to_live(server->mvcc, id, false, kp_mono_ms(), &info) == MVCC_OK;
    *ret_granted_s = info.granted_ttl_s;
    *ret_remaining_s = info.remaining_ttl_s;
    return ETCD_OK;
}
