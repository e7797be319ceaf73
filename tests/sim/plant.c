/* The planted bugs. Each sits where the linker lets one module's call to another be replaced. */
#include "tests/sim/world.h"

#include "controlplane/etcd/mvcc/mvcc_internal.h"
#include "controlplane/etcd/raft/raft_internal.h"

static enum plant planted;

bool plant_is(enum plant plant) { return planted == plant; }
void plant_set(enum plant plant) { planted = plant; }

const char *plant_name(enum plant plant)
{
    static const char *const names[] = {
        "none",
#define PLANT_NAME(id, name, what, catchers) name,
        PLANTS(PLANT_NAME)
#undef PLANT_NAME
    };
    return names[plant];
}

const char *plant_what(enum plant plant)
{
    static const char *const texts[] = {
        "nothing",
#define PLANT_WHAT(id, name, what, catchers) what,
        PLANTS(PLANT_WHAT)
#undef PLANT_WHAT
    };
    return texts[plant];
}

bool plant_is_caught_by(enum plant plant, const char *checkers)
{
    static const char *const catchers[] = {
        "",
#define PLANT_CATCHERS(id, name, what, catchers) catchers,
        PLANTS(PLANT_CATCHERS)
#undef PLANT_CATCHERS
    };
    for (const char *p = checkers; *p;) {
        char word[32];
        size_t len = strcspn(p, ",");
        snprintf(word, sizeof word, "%.*s", (int)len, p);
        for (const char *at = catchers[plant]; (at = strstr(at, word)); at++)
            if ((at == catchers[plant] || at[-1] == ' ') && (at[len] == ' ' || !at[len]))
                return true;
        p += len + (p[len] == ',');
    }
    return false;
}

static bool now_and_then(enum plant plant, unsigned per_mille)
{
    return planted == plant && rng_per_mille(&world.random, per_mille);
}

/* ---- raft ---- */

static uint64_t quorum_value_of(const struct raft_id_set *voters, uint64_t (*value)(const void *ctx, uint64_t id),
                                const void *ctx)
{
    uint64_t values[RAFT_MEMBERS_MAX];
    for (size_t i = 0; i < voters->len; i++) {
        uint64_t v = value(ctx, voters->ids[i]);
        size_t at = i;
        for (; at > 0 && values[at - 1] < v; at--)
            values[at] = values[at - 1];
        values[at] = v;
    }
    size_t quorum = voters->len / 2 + 1;
    return values[quorum > 1 ? quorum - 2 : 0];
}

uint64_t __real_raft_quorum_value(const struct raft_conf_state *conf, uint64_t (*value)(const void *ctx, uint64_t id),
                                  const void *ctx);
uint64_t __wrap_raft_quorum_value(const struct raft_conf_state *conf, uint64_t (*value)(const void *ctx, uint64_t id),
                                  const void *ctx);
uint64_t __wrap_raft_quorum_value(const struct raft_conf_state *conf, uint64_t (*value)(const void *ctx, uint64_t id),
                                  const void *ctx)
{
    if (planted != PLANT_COMMIT_ALONE || !conf->voters.len || conf->voters_outgoing.len)
        return __real_raft_quorum_value(conf, value, ctx);
    return quorum_value_of(&conf->voters, value, ctx);
}

enum raft_vote_result __real_raft_quorum_vote(const struct raft_conf_state *conf, const struct raft_id_set *granted,
                                              const struct raft_id_set *rejected);
enum raft_vote_result __wrap_raft_quorum_vote(const struct raft_conf_state *conf, const struct raft_id_set *granted,
                                              const struct raft_id_set *rejected);
enum raft_vote_result __wrap_raft_quorum_vote(const struct raft_conf_state *conf, const struct raft_id_set *granted,
                                              const struct raft_id_set *rejected)
{
    enum raft_vote_result result = __real_raft_quorum_vote(conf, granted, rejected);
    if (planted != PLANT_TWO_LEADERS || result != RAFT_VOTE_PENDING)
        return result;
    struct raft_id_set more = *granted;
    for (size_t i = 0; i < conf->voters.len; i++)
        if (!raft_id_set_has(granted, conf->voters.ids[i]) && !raft_id_set_has(rejected, conf->voters.ids[i])) {
            raft_id_set_add(&more, conf->voters.ids[i]);
            break;
        }
    return __real_raft_quorum_vote(conf, &more, rejected);
}

int __real_raft_propose_batch(struct raft *raft, struct kp_blob *const *data, size_t len, struct kp_error *error);
int __wrap_raft_propose_batch(struct raft *raft, struct kp_blob *const *data, size_t len, struct kp_error *error);
int __wrap_raft_propose_batch(struct raft *raft, struct kp_blob *const *data, size_t len, struct kp_error *error)
{
    int rc = __real_raft_propose_batch(raft, data, len, error);
    if (rc == 0 && now_and_then(PLANT_PROPOSED_TWICE, 50))
        rc = __real_raft_propose_batch(raft, data, len, error);
    return rc;
}

bool __real_raft_log_matches(const struct raft_log *log, uint64_t index, uint64_t term);
bool __wrap_raft_log_matches(const struct raft_log *log, uint64_t index, uint64_t term);
bool __wrap_raft_log_matches(const struct raft_log *log, uint64_t index, uint64_t term)
{
    bool matches = __real_raft_log_matches(log, index, term);
    if (planted == PLANT_LOG_UNCHECKED && !matches && index > log->snapshot_index && index > log->committed &&
        index == raft_log_last(log))
        return true;
    return matches;
}

/* Thesis 3.6.2: only entries of the own term are committed by counting. */
void plant_meddle(struct sim_member *member)
{
    if (planted != PLANT_OLD_TERM_COMMIT || !member->server)
        return;
    struct raft *raft = member->server->node.raft;
    if (raft->role != RAFT_LEADER || raft->in_ready)
        return;
    uint64_t index = KP_MIN(raft_log_last(&raft->log), raft->log.stable);
    while (index > raft->log.committed && raft_log_at(&raft->log, index)->term == raft->term)
        index--;
    if (index > raft->log.committed) {
        raft->log.committed = index;
        member_turn_in(member, 1);
    }
}

/* ---- the log ---- */

int __real_wal_append(struct wal *wal, const struct raft_entry *entries, size_t len,
                      const struct raft_hard_state *hard_state, struct kp_error *error);
int __wrap_wal_append(struct wal *wal, const struct raft_entry *entries, size_t len,
                      const struct raft_hard_state *hard_state, struct kp_error *error);
int __wrap_wal_append(struct wal *wal, const struct raft_entry *entries, size_t len,
                      const struct raft_hard_state *hard_state, struct kp_error *error)
{
    struct raft_hard_state without;
    if (planted == PLANT_VOTE_FORGOTTEN && hard_state) {
        without = *hard_state;
        without.vote = 0;
        hard_state = &without;
    }
    return __real_wal_append(wal, entries, len, hard_state, error);
}

int __real_wal_append_snapshot(struct wal *wal, const struct wal_snapshot *snapshot, struct kp_error *error);
int __wrap_wal_append_snapshot(struct wal *wal, const struct wal_snapshot *snapshot, struct kp_error *error);
int __wrap_wal_append_snapshot(struct wal *wal, const struct wal_snapshot *snapshot, struct kp_error *error)
{
    if (planted == PLANT_NO_MARKER)
        for (size_t i = 0; i < world.members_len; i++) {
            const struct etcd_server *server = world.members[i].server;
            if (server && server->node.wal == wal && server->node.image)
                return 0;
        }
    return __real_wal_append_snapshot(wal, snapshot, error);
}

int __real_raft_step(struct raft *raft, const struct raft_message *message, struct kp_error *error);
int __wrap_raft_step(struct raft *raft, const struct raft_message *message, struct kp_error *error);
int __wrap_raft_step(struct raft *raft, const struct raft_message *message, struct kp_error *error)
{
    struct raft_message any = *message;
    if (planted == PLANT_ANY_LOG_WINS && (any.type == RAFT_MSG_VOTE || any.type == RAFT_MSG_PRE_VOTE)) {
        any.log_term = raft->term + 1;
        any.index = raft_log_last(&raft->log) + 1;
    }
    return __real_raft_step(raft, &any, error);
}

/* Not a bug: now and then one entry a message. */
int __real_raft_new(const struct raft_config *config, struct raft **ret, struct kp_error *error);
int __wrap_raft_new(const struct raft_config *config, struct raft **ret, struct kp_error *error);
int __wrap_raft_new(const struct raft_config *config, struct raft **ret, struct kp_error *error)
{
    struct raft_config small = *config;
    if (world.plan.message_bytes)
        small.message_bytes_max = world.plan.message_bytes;
    return __real_raft_new(&small, ret, error);
}

/* Not a bug: small segments, so that many are cut. */
int __real_wal_open(const struct wal_config *config, struct wal_replay *ret_replay, struct wal **ret,
                    struct kp_error *error);
int __wrap_wal_open(const struct wal_config *config, struct wal_replay *ret_replay, struct wal **ret,
                    struct kp_error *error);
int __wrap_wal_open(const struct wal_config *config, struct wal_replay *ret_replay, struct wal **ret,
                    struct kp_error *error)
{
    struct wal_config small = *config;
    small.segment_bytes = world.plan.segment_bytes;
    int rc = __real_wal_open(&small, ret_replay, ret, error);
    counters.torn_tails += rc == 0 && ret_replay->torn_bytes > 0;
    return rc;
}
int __real_wal_create(const struct wal_config *config, const struct wal_metadata *metadata,
                      const struct wal_snapshot *first, struct wal **ret, struct kp_error *error);
int __wrap_wal_create(const struct wal_config *config, const struct wal_metadata *metadata,
                      const struct wal_snapshot *first, struct wal **ret, struct kp_error *error);
int __wrap_wal_create(const struct wal_config *config, const struct wal_metadata *metadata,
                      const struct wal_snapshot *first, struct wal **ret, struct kp_error *error)
{
    struct wal_config small = *config;
    small.segment_bytes = world.plan.segment_bytes;
    return __real_wal_create(&small, metadata, first, ret, error);
}

/* ---- the store ---- */

void __real_watch_notify(struct mvcc *mvcc, struct mvcc_event *events, size_t len);
void __wrap_watch_notify(struct mvcc *mvcc, struct mvcc_event *events, size_t len);
void __wrap_watch_notify(struct mvcc *mvcc, struct mvcc_event *events, size_t len)
{
    if (now_and_then(PLANT_WATCH_DROPPED, 20))
        return;
    __real_watch_notify(mvcc, events, len);
}

enum mvcc_result __real_mvcc_compare(struct mvcc *mvcc, const struct mvcc_compare *compare, bool *ret_holds,
                                     struct kp_error *error);
enum mvcc_result __wrap_mvcc_compare(struct mvcc *mvcc, const struct mvcc_compare *compare, bool *ret_holds,
                                     struct kp_error *error);
enum mvcc_result __wrap_mvcc_compare(struct mvcc *mvcc, const struct mvcc_compare *compare, bool *ret_holds,
                                     struct kp_error *error)
{
    enum mvcc_result rc = __real_mvcc_compare(mvcc, compare, ret_holds, error);
    if (planted == PLANT_COMPARE_IGNORED && mvcc->revision % 16 == 0)
        *ret_holds = true; /* the same on all members */
    return rc;
}

enum mvcc_result __real_mvcc_lease_revoke(struct mvcc *mvcc, int64_t id);
enum mvcc_result __wrap_mvcc_lease_revoke(struct mvcc *mvcc, int64_t id);
enum mvcc_result __wrap_mvcc_lease_revoke(struct mvcc *mvcc, int64_t id)
{
    return now_and_then(PLANT_REVOKE_LOST, 100) ? MVCC_OK : __real_mvcc_lease_revoke(mvcc, id);
}

size_t __real_mvcc_lease_expired(struct mvcc *mvcc, int64_t now_ms, int64_t *ids, size_t max);
size_t __wrap_mvcc_lease_expired(struct mvcc *mvcc, int64_t now_ms, int64_t *ids, size_t max);
size_t __wrap_mvcc_lease_expired(struct mvcc *mvcc, int64_t now_ms, int64_t *ids, size_t max)
{
    if (planted == PLANT_LEASE_NEVER)
        return 0;
    size_t len = __real_mvcc_lease_expired(mvcc, now_ms + (planted == PLANT_LEASE_EARLY ? 2000 : 0), ids, max);
    counters.lease_expiries += len;
    return len;
}

enum mvcc_result __real_mvcc_watch(struct mvcc *mvcc, const struct mvcc_watch_request *request, mvcc_watch_sink sink,
                                   void *ctx, void (*created)(void *ctx, struct mvcc_watcher *watcher, int64_t revision),
                                   struct mvcc_watcher **ret_watcher);
enum mvcc_result __wrap_mvcc_watch(struct mvcc *mvcc, const struct mvcc_watch_request *request, mvcc_watch_sink sink,
                                   void *ctx, void (*created)(void *ctx, struct mvcc_watcher *watcher, int64_t revision),
                                   struct mvcc_watcher **ret_watcher);
enum mvcc_result __wrap_mvcc_watch(struct mvcc *mvcc, const struct mvcc_watch_request *request, mvcc_watch_sink sink,
                                   void *ctx, void (*created)(void *ctx, struct mvcc_watcher *watcher, int64_t revision),
                                   struct mvcc_watcher **ret_watcher)
{
    struct mvcc_watch_request late = *request;
    if (planted == PLANT_WATCH_LATE && late.start_revision)
        late.start_revision++;
    if (planted == PLANT_WATCH_TWICE && late.start_revision > 1)
        late.start_revision--;
    return __real_mvcc_watch(mvcc, &late, sink, ctx, created, ret_watcher);
}
