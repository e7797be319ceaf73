/* controlplane/etcd/raft: the Raft consensus algorithm as a pure core - no clock, I/O, thread or random but by parameter.

   "thesis" in comments is D. Ongaro, "Consensus: Bridging Theory and Practice", 2014.

   The caller's loop, one thread at a time:

       raft_tick / raft_step / raft_propose / raft_read_index ...          as time, peers and clients come
       while (raft_has_ready(raft)) {
           const struct raft_ready *ready = raft_ready(raft);
           send ready->messages                                            may leave before the disk write (thesis 10.2.1)
           install ready->snapshot; write ready->entries and ready->hard_state to the log; sync when ready->must_sync
           send ready->messages_after_sync                                 promises: only once the above is durable
           hand ready->committed to the state machine; answer ready->reads whose index is applied
           raft_advance(raft)
           raft_applied(raft, index)                                       now, or later when the state machine got there
       }

   tick, step, propose ... may also be called between raft_ready and raft_advance. */
#ifndef ETCD_RAFT_H
#define ETCD_RAFT_H

#include "base/base.h"

#define RAFT_MEMBERS_MAX 32              /* distinct members of a configuration, learners and both halves of a joint one */
#define RAFT_INFLIGHT_MAX 256            /* append messages on the way to one follower */
#define RAFT_READS_MAX 4096              /* linearizable reads waiting for their quorum */
#define RAFT_ENTRY_BYTES_MAX (64u << 20) /* data of one entry */
#define RAFT_INITIAL_INDEX 1             /* where a new cluster's log starts after: the initial configuration */
#define RAFT_INITIAL_TERM 1
#define RAFT_MESSAGE_ENTRIES_MAX 65536   /* entries of one message */

enum raft_role { RAFT_FOLLOWER, RAFT_PRE_CANDIDATE, RAFT_CANDIDATE, RAFT_LEADER };
const char *raft_role_name(enum raft_role role); /* "follower", ... */

/* ---- log entries ------------------------------------------------------------------------------------------------ */
enum raft_entry_type {
    RAFT_ENTRY_NORMAL = 0,      /* data NULL or empty: the no-op of a new leader; nothing to apply */
    RAFT_ENTRY_CONF_CHANGE = 1, /* data: raft_conf_change_encode */
};
struct raft_entry {
    uint64_t index;
    uint64_t term;
    enum raft_entry_type type;
    struct kp_blob *data; /* one reference owned by whoever holds the entry; NULL: empty */
};
/* Unrefs the data of each and frees the array; accepts NULL. */
void raft_entries_free(struct raft_entry *entries, size_t len);

/* What must survive a crash beside the log (thesis figure 3.1); commit only saves work at the next start. */
struct raft_hard_state {
    uint64_t term;
    uint64_t vote; /* member voted for in term; 0: none */
    uint64_t commit;
};

/* ---- membership (thesis chapter 4) ------------------------------------------------------------------------------ */
struct raft_id_set { /* ascending, unique, never 0 */
    size_t len;
    uint64_t ids[RAFT_MEMBERS_MAX];
};
bool raft_id_set_has(const struct raft_id_set *set, uint64_t id);
bool raft_id_set_add(struct raft_id_set *set, uint64_t id); /* false when there already; asserts on overflow */
bool raft_id_set_remove(struct raft_id_set *set, uint64_t id);

/* A whole configuration, a plain value. Not joint: voters_outgoing and learners_next are empty. */
struct raft_conf_state {
    struct raft_id_set voters;          /* the incoming majority */
    struct raft_id_set voters_outgoing; /* the outgoing majority while joint (thesis 4.3) */
    struct raft_id_set learners;        /* receive entries, have no vote (thesis 4.2.1) */
    struct raft_id_set learners_next;   /* voters of the outgoing half that become learners on leaving joint */
    bool auto_leave;                    /* the leader leaves the joint configuration by itself */
};
bool raft_conf_is_joint(const struct raft_conf_state *conf);
bool raft_conf_has(const struct raft_conf_state *conf, uint64_t id);   /* in any role */
bool raft_conf_votes(const struct raft_conf_state *conf, uint64_t id); /* in either half */
bool raft_conf_equal(const struct raft_conf_state *a, const struct raft_conf_state *b);

enum raft_change_type { RAFT_ADD_VOTER = 0, RAFT_REMOVE = 1, RAFT_ADD_LEARNER = 3 }; /* voter -> learner demotes, learner -> voter promotes */
enum raft_transition {
    RAFT_TRANSITION_AUTO = 0,     /* one change: single step (thesis 4.1); more: joint, left automatically */
    RAFT_TRANSITION_IMPLICIT = 1, /* always joint, left automatically */
    RAFT_TRANSITION_EXPLICIT = 2, /* always joint; the caller proposes leaving with a change of no members */
};
struct raft_conf_change {
    enum raft_transition transition;
    size_t len; /* 0: leave the joint configuration */
    struct {
        enum raft_change_type type;
        uint64_t id;
    } changes[RAFT_MEMBERS_MAX];
    struct kp_bytes context; /* the caller's own payload (name, peer URLs); borrowed */
};
/* The entry data; caller owns the reference. */
struct kp_blob *raft_conf_change_encode(const struct raft_conf_change *change);
/* ret->context borrows from data. KP_ECORRUPT on bytes that are no change. An empty blob or NULL means leaving joint. */
int raft_conf_change_decode(const struct kp_blob *data, struct raft_conf_change *ret, struct kp_error *error);
/* What conf would become; pure. KP_EINVALID when the change is not allowed from there (it would remove all voters,
   is already joint, changes more than one voter in a single step, ...). */
int raft_conf_apply(const struct raft_conf_state *conf, const struct raft_conf_change *change,
                    struct raft_conf_state *ret, struct kp_error *error);

/* ---- snapshots -------------------------------------------------------------------------------------------------- */
/* The state machine after applying entry index. The core knows snapshots by these facts only; data is the caller's:
   messages leave the core with data NULL and the caller sends its image (in chunks, if large) beside or inside them.
   A caller whose image was cut later than index writes the image's own index, term and conf into what it sends. */
struct raft_snapshot {
    uint64_t index, term;
    struct raft_conf_state conf;
    struct kp_blob *data; /* one reference, may be NULL */
};

/* ---- messages --------------------------------------------------------------------------------------------------- */
enum raft_message_type {
    RAFT_MSG_APPEND = 1,      /* AppendEntries (thesis 3.5): index, log_term, entries, commit */
    RAFT_MSG_APPEND_RESP,     /* index = match, or reject with hints in index, reject_hint, log_term; commit */
    RAFT_MSG_VOTE,            /* RequestVote (thesis 3.4): index, log_term; force: leadership transfer; commit, commit_term */
    RAFT_MSG_VOTE_RESP,       /* reject; commit, commit_term */
    RAFT_MSG_PRE_VOTE,        /* thesis 9.6; term is the one it would campaign in */
    RAFT_MSG_PRE_VOTE_RESP,
    RAFT_MSG_HEARTBEAT,       /* commit, context = read round */
    RAFT_MSG_HEARTBEAT_RESP,  /* context echoed; commit */
    RAFT_MSG_SNAPSHOT,        /* InstallSnapshot (thesis 5): snapshot */
    RAFT_MSG_TIMEOUT_NOW,     /* thesis 3.10 */
    RAFT_MSG_TRANSFER_LEADER, /* follower -> leader; context = the member to lead */
    RAFT_MSG_PROPOSE,         /* follower -> leader; entries with type and data */
    RAFT_MSG_READ_INDEX,      /* follower -> leader; context = the caller's read id */
    RAFT_MSG_READ_INDEX_RESP, /* context, index */
    RAFT_MSG_TYPE_COUNT,
};
const char *raft_message_name(enum raft_message_type type); /* "append", ... */
struct raft_message {
    enum raft_message_type type;
    uint64_t to, from;
    uint64_t term; /* 0 in forwarded requests: not part of an election */
    uint64_t index, log_term, commit;
    uint64_t commit_term; /* of entry commit, in votes and their answers: tells who fell behind what is committed */
    uint64_t reject_hint;
    uint64_t context;
    bool reject, force;
    struct raft_entry *entries; /* owned by the message, with one reference each */
    size_t entries_len;
    struct raft_snapshot *snapshot; /* owned by the message; NULL but for RAFT_MSG_SNAPSHOT */
};
void raft_message_done(struct raft_message *message); /* frees what it owns and zeroes it */
/* Takes over what a message of a ready holds, instead of copying it; what is left there holds nothing. */
struct raft_message raft_message_take(const struct raft_message *ready_message);
void raft_message_copy(struct raft_message *out, const struct raft_message *message); /* shares data by reference */
/* Bytes for the wire; appends to out. Little-endian, versioned, with a CRC-32C over it all. */
void raft_message_encode(struct kp_buf *out, const struct raft_message *message);
/* KP_ECORRUPT on anything malformed; *ret is then untouched. The caller calls raft_message_done. */
int raft_message_decode(const void *data, size_t len, struct raft_message *ret, struct kp_error *error);
/* The same for a conf state alone (the write-ahead log and the backend keep it). */
void raft_conf_state_encode(struct kp_buf *out, const struct raft_conf_state *conf);
int raft_conf_state_decode(const void *data, size_t len, struct raft_conf_state *ret, struct kp_error *error);

/* ---- the core --------------------------------------------------------------------------------------------------- */
struct raft;
struct raft_config {
    uint64_t id; /* this member; not 0 */
    /* Ticks (the caller's unit). A follower waits election_ticks + random(election_ticks) without a leader. */
    unsigned election_ticks;  /* 0: 10 */
    unsigned heartbeat_ticks; /* 0: 1; must be below election_ticks */
    bool pre_vote;            /* thesis 9.6 */
    bool check_quorum;        /* thesis 6.2: a leader that hears no quorum for an election timeout steps down */
    size_t message_bytes_max;     /* entry data of one append message; 0: 1 MiB; at least one entry always goes */
    size_t inflight_messages_max; /* 0: RAFT_INFLIGHT_MAX */
    size_t inflight_bytes_max;    /* on the way to one follower; 0: 64 MiB */
    size_t uncommitted_bytes_max; /* proposals over it get KP_ETOOMANY; 0: 256 MiB */
    size_t apply_bytes_max;       /* committed entries of one ready; 0: 16 MiB; at least one entry always goes */
    uint64_t (*random)(void *ctx, uint64_t bound); /* uniform in [0, bound); required */
    void *random_ctx;

    /* What the disk holds. A first start: conf is the initial configuration, all else 0 - every initial member must
       be started with the same one. The initial configuration counts as applied entry RAFT_INITIAL_INDEX (of term
       RAFT_INITIAL_TERM): the first real entry is the one after, and snapshot_index 0 is taken as that (wal_create does
       the same). So a member that joins later - it starts with an empty conf and all 0 - gets a snapshot first, and
       with it the configuration. */
    struct raft_hard_state hard_state;
    uint64_t snapshot_index, snapshot_term; /* the log starts after this */
    struct raft_conf_state conf;            /* as of applied (first start: initial) */
    const struct raft_entry *entries;       /* snapshot_index + 1 and on; copied, data shared by reference */
    size_t entries_len;
    uint64_t applied; /* what the state machine holds already; 0: snapshot_index */
};
/* The only voter campaigns at once: its next readies make it leader with no tick. KP_EINVALID on a config that
   contradicts itself (gap in the entries, ...), KP_ECORRUPT when commit lies beyond the log. */
int raft_new(const struct raft_config *config, struct raft **ret, struct kp_error *error) KP_NODISCARD;
void raft_free(struct raft *raft); /* accepts NULL */
KP_DEFINE_AUTO(struct raft *, raft_free)

/* One tick of time has passed. */
void raft_tick(struct raft *raft);
/* A message came from a peer; borrowed, its data is shared by reference. Returns 0 also when it is ignored by the
   algorithm; KP_EBADREQUEST for one that no peer would send. */
int raft_step(struct raft *raft, const struct raft_message *message, struct kp_error *error) KP_NODISCARD;
/* Start an election now (pre-vote first when configured). KP_EINVALID when this member may not lead. */
int raft_campaign(struct raft *raft, struct kp_error *error);
/* Replicates data; takes a reference of its own. A follower forwards to its leader. 0 says accepted, not committed:
   it may still be lost with a leader, so callers match what gets applied and time out.
   KP_EUNAVAILABLE: no leader or leadership is being transferred; KP_ETOOMANY: uncommitted_bytes_max; KP_ETOOLARGE. */
int raft_propose(struct raft *raft, struct kp_blob *data, struct kp_error *error) KP_NODISCARD;
/* Many at once: one append message for all. All are accepted or none. */
int raft_propose_batch(struct raft *raft, struct kp_blob *const *data, size_t len, struct kp_error *error) KP_NODISCARD;
/* KP_ECONFLICT: another change is not applied yet; KP_EINVALID: not allowed from the current configuration (both are
   known only to the leader; a follower forwards, and the leader drops such a proposal). */
int raft_propose_conf_change(struct raft *raft, const struct raft_conf_change *change, struct kp_error *error) KP_NODISCARD;
/* A linearizable read without a log entry (thesis 6.4): a ready->reads with this id follows once a quorum confirmed the
   leader; serve when its index is applied. Lost when leadership changes or a message is: ask again with a new id after a
   timeout or a change of leader. The same id may come twice. KP_EUNAVAILABLE without a leader, KP_ETOOMANY over RAFT_READS_MAX. */
int raft_read_index(struct raft *raft, uint64_t read_id, struct kp_error *error) KP_NODISCARD;
/* Hand leadership to a voter (thesis 3.10); on a follower the request is forwarded. Given up after an election timeout. */
int raft_transfer_leader(struct raft *raft, uint64_t to, struct kp_error *error) KP_NODISCARD;
/* The transport lost messages to id: stop pipelining until it answers. */
void raft_report_unreachable(struct raft *raft, uint64_t id);
/* The image for a RAFT_MSG_SNAPSHOT was sent (ok), or failed and is to be tried again. Must be called once for each. */
void raft_report_snapshot(struct raft *raft, uint64_t id, bool ok);

struct raft_read_state {
    uint64_t read_id;
    uint64_t index; /* serve when applied >= index */
};
/* One step's outcome. Everything is borrowed until raft_advance. */
struct raft_ready {
    bool soft_changed; /* leader, role or term differ from the last ready */
    uint64_t leader;   /* 0: none known */
    enum raft_role role;
    uint64_t term;
    bool hard_state_changed;
    struct raft_hard_state hard_state; /* always the current one */
    bool must_sync; /* term, vote, entries or a snapshot changed, or committed has a membership change; a new commit
                       alone is to be written too, but may wait for the next sync */
    const struct raft_snapshot *snapshot; /* NULL, or: replace the state machine and the log by this, before the rest */
    const struct raft_entry *entries;     /* to append; the first may overwrite what the log has from its index on */
    size_t entries_len;
    const struct raft_message *messages;
    size_t messages_len;
    const struct raft_message *messages_after_sync;
    size_t messages_after_sync_len;
    const struct raft_entry *committed; /* to apply, in order; all of them durable here */
    size_t committed_len;
    const struct raft_read_state *reads;
    size_t reads_len;
};
bool raft_has_ready(const struct raft *raft);
const struct raft_ready *raft_ready(struct raft *raft); /* asserts that the last one was advanced */
/* All of the last ready is durable (and its committed entries are in the caller's hands). Frees its messages. */
void raft_advance(struct raft *raft);
/* The state machine holds everything up to index: monotonic, at most what ready->committed or ->snapshot gave. */
void raft_applied(struct raft *raft, uint64_t index);
/* A leader that is removed or demoted by it leads on, taking no proposals, until a quorum of the new configuration
   knows that the change is committed (or check_quorum ends it): keep such a member running until its role changes.
   Call when applying a RAFT_ENTRY_CONF_CHANGE entry, before raft_applied of its index. ret (may be NULL) gets the new
   configuration. A change that is not allowed any more leaves everything as it was and fails with KP_EINVALID. */
int raft_apply_conf_change(struct raft *raft, const struct raft_conf_change *change, struct raft_conf_state *ret,
                           struct kp_error *error);

/* ---- the log in memory ------------------------------------------------------------------------------------------ */
/* Forget entries up to index, which must be applied; a follower that needs them gets a snapshot. Smaller than what
   is compacted already: nothing. */
void raft_compact(struct raft *raft, uint64_t index);
uint64_t raft_first_index(const struct raft *raft);
uint64_t raft_last_index(const struct raft *raft);
size_t raft_log_bytes(const struct raft *raft); /* entry data held */
/* 0 when the index is compacted or beyond the log. */
uint64_t raft_term_of(const struct raft *raft, uint64_t index);

/* ---- what it looks like ----------------------------------------------------------------------------------------- */
enum raft_progress_state { RAFT_PROBE, RAFT_REPLICATE, RAFT_SNAPSHOT };
struct raft_progress_status {
    uint64_t id;
    bool learner;
    enum raft_progress_state state;
    uint64_t match, next;
    uint64_t pending_snapshot;
    bool recent_active; /* heard of within the election timeout */
    size_t inflight;
};
struct raft_status {
    uint64_t id, term, vote, leader, commit, applied, last_index;
    enum raft_role role;
    uint64_t transferee; /* 0: none */
    size_t reads_pending;
    struct raft_conf_state conf;
    size_t progress_len; /* 0 unless leading */
    struct raft_progress_status progress[RAFT_MEMBERS_MAX];
};
void raft_status(const struct raft *raft, struct raft_status *ret);

#endif
