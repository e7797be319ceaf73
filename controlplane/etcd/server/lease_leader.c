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

int lease_answer(struct etcd_server *server, struct kp_bytes question, struct kp_buf *out, struct kp_error *error)
{
    int64_t id, ttl_s = 0;
    if (question.len != QUESTION_LEN)
        return kp_fail(error, KP_EBADREQUEST, "a question of %zu bytes about a lease", question.len);
    if (!atomic_load(&server->node.is_leader))
        return kp_fail(error, KP_ECONFLICT, "not the leader");
    memcpy(&id, question.data + 1, sizeof id);
    if (question.data[0] == 'r') {
        bool found = mvcc_lease_renew(server->mvcc, id, kp_mono_ms(), &ttl_s) == MVCC_OK;
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
    bool self = false, found = false;
    int64_t granted_s = 0, remaining_s = 0;
    *ret_ttl_s = 0;
    enum etcd_err err = ask(server, 'r', id, &self, &found, &granted_s, &remaining_s);
    if (err != ETCD_OK)
        return err;
    if (!self)
        *ret_ttl_s = found ? remaining_s : 0;
    else if (mvcc_lease_renew(server->mvcc, id, kp_mono_ms(), ret_ttl_s) != MVCC_OK)
        *ret_ttl_s = 0;
    return ETCD_OK;
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
