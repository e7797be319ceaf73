/* Do all members hold the same? The leader compares hashes with the others now and then, and a member at its start. */
#include "controlplane/etcd/server/node_internal.h"

#define QUESTION_HASH "hash" /* revision (8 bytes); answered by an error (1 byte), hash (4), compact and hash revision (8 each) */
#define ANSWER_LEN 21
#define HASH_MS_MAX 60000
#define HASH_START_MS_MAX 5000

struct hash {
    uint32_t hash;
    int64_t compact_revision, revision;
};

static enum etcd_err hash_here(struct etcd_server *server, int64_t revision, struct hash *ret)
{
    struct kp_error error = {0};
    enum mvcc_result result =
        mvcc_hash_kv(server->mvcc, revision, &ret->hash, &ret->compact_revision, &ret->revision, &error);
    if (error.code)
        kp_error_log("hash failed", "err", error.message, NULL);
    return etcd_err_of_mvcc(result);
}

int corrupt_answer(struct etcd_server *server, struct kp_bytes question, struct kp_buf *out, struct kp_error *error)
{
    int64_t revision;
    struct hash hash = {0};
    if (question.len != sizeof revision)
        return kp_fail(error, KP_EBADREQUEST, "a question of %zu bytes about a hash", question.len);
    memcpy(&revision, question.data, sizeof revision);
    kp_buf_putc(out, (char)hash_here(server, revision, &hash));
    kp_buf_append(out, &hash.hash, sizeof hash.hash);
    kp_buf_append(out, &hash.compact_revision, sizeof hash.compact_revision);
    kp_buf_append(out, &hash.revision, sizeof hash.revision);
    return 0;
}

/* False when the other is not there, or has not got that far, or has forgotten it. */
static bool hash_there(struct etcd_server *server, uint64_t id, int64_t revision, int64_t timeout_ms, struct hash *ret)
{
    KP_AUTO_BUF struct kp_buf answer = {0};
    struct kp_error error = {0};
    struct kp_bytes question = {(const uint8_t *)&revision, sizeof revision};
    if (peers_ask(server, id, QUESTION_HASH, question, timeout_ms, &answer, &error) < 0 || answer.len != ANSWER_LEN ||
        answer.data[0] != ETCD_OK)
        return false;
    memcpy(&ret->hash, answer.data + 1, 4);
    memcpy(&ret->compact_revision, answer.data + 5, 8);
    memcpy(&ret->revision, answer.data + 13, 8);
    return true;
}

static size_t other_ids(struct etcd_server *server, uint64_t ids[RAFT_MEMBERS_MAX])
{
    size_t len = 0;
    pthread_mutex_lock(&server->members.mutex);
    for (size_t i = 0; i < server->members.len && len < RAFT_MEMBERS_MAX; i++)
        if (server->members.items[i].id != server->member_id)
            ids[len++] = server->members.items[i].id;
    pthread_mutex_unlock(&server->members.mutex);
    return len;
}

/* The first member whose data differ at a revision that both hold, compacted alike; 0: none. */
static uint64_t find_different(struct etcd_server *server, int64_t timeout_ms)
{
    uint64_t ids[RAFT_MEMBERS_MAX];
    size_t len = other_ids(server, ids);
    struct hash here, there;
    if (!len || hash_here(server, 0, &here) != ETCD_OK)
        return 0;
    for (size_t i = 0; i < len; i++)
        if (hash_there(server, ids[i], here.revision, timeout_ms, &there) && there.revision == here.revision &&
            there.compact_revision == here.compact_revision && there.hash != here.hash)
            return ids[i];
    return 0;
}

static void alarm_done(struct op *op)
{
    if (op->err != ETCD_OK)
        kp_error_log("cannot raise the CORRUPT alarm", "err", etcd_err_info(op->err)->text, NULL);
    op_done(op);
    free(op);
}

static void raise_alarm(struct etcd_server *server, uint64_t member_id)
{
    char member[24];
    snprintf(member, sizeof member, "%llx", (unsigned long long)member_id);
    kp_error_log("members hold different data", "member", member, NULL);
    Etcdserverpb__AlarmRequest alarm = ETCDSERVERPB__ALARM_REQUEST__INIT;
    alarm.action = ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__ACTIVATE;
    alarm.memberid = member_id;
    alarm.alarm = ETCDSERVERPB__ALARM_TYPE__CORRUPT;
    struct op *op = kp_malloc(sizeof *op);
    op_init(server, op, OP_ALARM, &alarm.base);
    op->request = NULL;
    op->done = alarm_done;
    op_propose(server, op);
}

void corrupt_check_if_due(struct etcd_server *server)
{
    struct upkeep *upkeep = &server->upkeep;
    int64_t now_ms = kp_mono_ms(), every_ms = server->config.corrupt_check_ms;
    if (every_ms <= 0)
        return;
    if (!upkeep->next_corrupt_check_ms)
        upkeep->next_corrupt_check_ms = now_ms + every_ms;
    if (now_ms < upkeep->next_corrupt_check_ms)
        return;
    upkeep->next_corrupt_check_ms = now_ms + every_ms;
    if (!atomic_load(&server->node.is_leader) || atomic_load(&server->alarms.corrupt))
        return;
    uint64_t different = find_different(server, HASH_MS_MAX);
    if (different)
        raise_alarm(server, different);
}

int corrupt_check_start(struct etcd_server *server, struct kp_error *error)
{
    uint64_t different = server->config.initial_corrupt_check ? find_different(server, HASH_START_MS_MAX) : 0;
    return different ? kp_fail(error, KP_ECORRUPT, "checkInitialHashKV failed: member %llx holds different data; restore "
                               "this member from a snapshot, or remove it and add it anew", (unsigned long long)different)
                     : 0;
}
