/* Bugs planted on purpose, one in each run of `run planted`: what no checker catches is not checked. */
#ifndef TESTS_SIM_PLANT_H
#define TESTS_SIM_PLANT_H

#include <stdbool.h>

/* name, what it does, the checkers that may catch it */
#define PLANTS(X)                                                                                                      \
    X(LOST_FSYNC, "lost-fsync", "fdatasync of the log says that it synced, and did not",                               \
      "leader-completeness state-machine-safety election-safety log-matching order linear watch durable refusal")      \
    X(LOST_DATABASE_SYNC, "lost-database-sync", "fdatasync of the database says that it synced, and did not",          \
      "refusal durable order")                                                                                         \
    X(OLD_TERM_COMMIT, "old-term-commit", "a leader takes what earlier terms left in its log for committed",           \
      "leader-completeness state-machine-safety order linear durable")                                                                      \
    X(COMMIT_ALONE, "commit-alone", "a leader commits what one member less than a majority has",                       \
      "leader-completeness state-machine-safety order linear durable")                                                 \
    X(TWO_LEADERS, "two-leaders", "a candidate wins with one vote less than a majority",                               \
      "election-safety")                                                                                               \
    X(VOTE_FORGOTTEN, "vote-forgotten", "the vote is not written to the log",                                          \
      "election-safety")                                                                                               \
    X(STALE_READ, "stale-read", "a linearizable read is served without asking a quorum",                               \
      "order linear")                                                                                                  \
    X(WATCH_DROPPED, "watch-dropped", "now and then the events of a revision do not reach the watchers",               \
      "watch")                                                                                                         \
    X(WATCH_TWICE, "watch-twice", "a watch that resumes repeats the last revision",                                  \
      "watch")                                                                                                         \
    X(WATCH_LATE, "watch-late", "a watch that resumes starts one revision late",                                       \
      "watch")                                                                                                         \
    X(NO_MARKER, "no-marker", "a snapshot that came is installed without its marker in the log",                       \
      "refusal log-matching leader-completeness durable")                                                              \
    X(REVOKE_LOST, "revoke-lost", "now and then a member does not revoke a lease that the log revokes",                \
      "state-machine-safety durable")                                                                                  \
    X(REPLAY_TWICE, "replay-twice", "the consistent index does not go with the changes: they are applied again",       \
      "state-machine-safety refusal order watch")                                                                      \
    X(PROPOSED_TWICE, "proposed-twice", "now and then a request is put into the log twice",                            \
      "order linear watch")                                                                                            \
    X(COMPARE_IGNORED, "compare-ignored", "now and then a comparison of a transaction holds whatever is there",        \
      "order linear")                                                                                                  \
    X(LEASE_EARLY, "lease-early", "leases expire two seconds early",                                                   \
      "lease")                                                                                                         \
    X(LEASE_NEVER, "lease-never", "leases do not expire",                                                              \
      "lease")                                                                                                         \
    X(DRIFT, "drift", "one member loses its keys on its own, in the end",                                             \
      "durable")                                                                                                       \
    X(ANY_LOG_WINS, "any-log-wins", "a voter does not look at how far the candidate's log goes",                       \
      "leader-completeness")                                                                                           \
    X(LOG_UNCHECKED, "log-unchecked", "a follower takes entries without looking at what precedes them",                \
      "log-matching")
enum plant {
    PLANT_NONE,
#define PLANT_ENUM(id, name, what, catchers) PLANT_##id,
    PLANTS(PLANT_ENUM)
#undef PLANT_ENUM
    PLANT_COUNT,
};
bool plant_is(enum plant plant);
void plant_set(enum plant plant);
const char *plant_name(enum plant plant);
const char *plant_what(enum plant plant);
/* Is one of the checkers (commas between) among those that should catch it? */
bool plant_is_caught_by(enum plant plant, const char *checkers);

struct sim_member;
/* After each turn of a member, for the plants that reach into its state. */
void plant_meddle(struct sim_member *member);

#endif
