/* tests/sim: members of the shipped server on a simulated clock, network, disk and allocator; one seed decides all. */
#ifndef TESTS_SIM_SIM_H
#define TESTS_SIM_SIM_H

#include <setjmp.h>

#include "base/base.h"

#define SIM_MS INT64_C(1000000) /* simulated time is in nanoseconds */
#define SIM_S (1000 * SIM_MS)
#define SIM_START_NS (1000 * SIM_S) /* never 0: 0 means "none" in many places */

/* ---- chance ---- */
struct rng {
    uint64_t state;
};
uint64_t rng_next(struct rng *rng);
uint64_t rng_below(struct rng *rng, uint64_t bound);              /* [0, bound) */
int64_t rng_between(struct rng *rng, int64_t low, int64_t high);  /* [low, high] */
bool rng_per_mille(struct rng *rng, unsigned per_mille);
struct rng rng_fork(struct rng *rng); /* a stream of its own: drawing from one does not move the other */

/* ---- what was injected and what happened, for the report ---- */
#define SIM_COUNTERS(X)                                                                                                \
    X(events) X(turns) X(messages_sent) X(messages_delivered) X(messages_lost) X(messages_doubled)                     \
    X(messages_reordered) X(partitions) X(partitions_one_way) X(crash_kill) X(crash_power) X(crash_at_io)              \
    X(crash_at_alloc) X(crash_while_opening) X(clean_stops) X(restarts) X(pauses) X(sectors_dropped) X(sectors_torn)   \
    X(names_dropped) X(sync_errors) X(write_errors) X(disk_full) X(disk_full_hits) X(disk_slow) X(bit_rot_wal)         \
    X(bit_rot_db) X(clock_jumps) X(clock_skew) X(opens_refused) X(deaths) X(replaced) X(members_added)                 \
    X(learners_added) X(promotions) X(members_removed) X(leader_transfers) X(elections) X(leader_changes)              \
    X(conf_changes) X(snapshots_sent) X(snapshots_installed) X(snapshots_lost) X(torn_tails) X(compactions)            \
    X(defragments) X(commits) X(io_calls) X(allocations) X(entries_checked) X(states_compared) X(ops) X(ops_ok)        \
    X(ops_failed) X(ops_unknown) X(puts) X(deletes) X(txns) X(reads_linearizable) X(reads_serializable)                \
    X(lease_grants) X(lease_keepalives) X(lease_revokes) X(lease_expiries) X(watches) X(watch_events)                  \
    X(watch_resumes) X(watch_compacted) X(watch_stalls) X(watch_progress)
struct sim_counters {
#define SIM_COUNTER_FIELD(name) uint64_t name;
    SIM_COUNTERS(SIM_COUNTER_FIELD)
#undef SIM_COUNTER_FIELD
};
extern struct sim_counters counters;

/* ---- failing and tracing ---- */
/* The run is over: a check did not hold. */
_Noreturn void sim_fail(const char *checker, const char *format, ...) KP_PRINTF(2, 3);
extern bool sim_traces;
void sim_trace_line(const char *format, ...) KP_PRINTF(1, 2);
#define sim_trace(...) (sim_traces ? sim_trace_line(__VA_ARGS__) : (void)0)

/* ---- simulated time ---- */
extern int64_t sim_now_ns;

/* ---- cage.c: running a member's code, which may crash at any call ---- */
struct disk;
enum cage_end { CAGE_RETURNED, CAGE_CRASHED, CAGE_DIED };
/* Whose code runs: its disk, clock and random numbers. */
struct cage_owner {
    struct disk *disk;
    struct rng random;      /* what getrandom gives */
    int64_t mono_offset_ns; /* of its monotonic clock */
    int64_t skew_ppm;
    int64_t wall_offset_ns; /* of its wall clock */
    int64_t busy_ns;        /* time that its I/O took in this turn */
    /* calls from now until it crashes; 0: it does not */
    uint64_t crash_at_io, crash_at_alloc;
    bool excused;           /* a fault was injected that it may die of */
    bool rotten;            /* bits of its disk were changed: anything but wrong answers is fine */
    char death[256];
};
/* Runs fn as the owner. CAGE_CRASHED: an injected crash; CAGE_DIED: it ended itself (owner->death says why). */
enum cage_end cage_run(struct cage_owner *owner, void (*fn)(void *arg), void *arg);
/* Brackets code of the simulator that is called from inside of a member. */
struct cage_owner *cage_leave(void);
void cage_enter(struct cage_owner *owner);
struct cage_owner *cage_owner(void); /* NULL: the simulator's own code runs */
_Noreturn void cage_crash(void);
int64_t cage_mono_ns(const struct cage_owner *owner);
/* One I/O call; true: the crash is to come, after or in the middle of it. */
bool cage_count_io(struct cage_owner *owner);
/* For the hooks of a member: it cannot go on. */
struct etcd_server;
_Noreturn void cage_die(void *ctx, struct etcd_server *server, const char *what, const struct kp_error *error);
void cage_init(void);

#endif
