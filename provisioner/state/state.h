/* provisioner/state: what kprov remembers of its clusters, below $XDG_STATE_HOME/kprov/<cluster>/.
 *
 *   cluster.json   uid, provider, phase, image, endpoint and the config      journal   what was about to be done, and what came of it
 *   pki.json       certificate authorities and keys                         admin.conf   the administrator's kubeconfig
 *   lock           held while a command changes the cluster
 * Every file is written whole beside its place and renamed; all are for their owner alone. */
#ifndef KPROV_STATE_H
#define KPROV_STATE_H

#include "base/base.h"
#include "codec/codec.h"
#include "provisioner/config/config.h"

#define STATE_FILE_MAX ((size_t)4 << 20)

/* creating -> ready -> deleting, and creating -> deleting. */
enum state_phase { STATE_CREATING, STATE_READY, STATE_DELETING };
const char *state_phase_name(enum state_phase phase);
/* Whether a cluster may move from one phase to another. */
bool state_phase_may_follow(enum state_phase from, enum state_phase to);

/* A node image that all machines of the cluster ran, with the version of Kubernetes in it. */
#define STATE_RELEASES_MAX 8
struct state_release {
    const char *image, *version;
};
/* IDLE when every machine was brought to the cluster's image. */
enum state_rollout { STATE_ROLLOUT_IDLE, STATE_ROLLOUT_UPGRADE, STATE_ROLLOUT_ROLLBACK };
struct state_cluster {
    const char *uid, *name, *image, *endpoint; /* endpoint: "https://10.89.0.10:6443", "" until known */
    enum state_phase phase;
    int64_t created_s;
    struct config config;
    struct state_release history[STATE_RELEASES_MAX]; /* before this image, oldest first */
    size_t n_history;
    enum state_rollout rollout;
};
/* Adds a release at the end of the history; of too many the oldest goes. */
void state_add_release(struct state_cluster *cluster, const char *image, const char *version);

struct state; /* one cluster's folder, locked */
/* $KPROV_STATE_DIR, $XDG_STATE_HOME/kprov or $HOME/.local/state/kprov; in the arena. KP_EINVALID when none is set. */
int state_root(struct kp_arena *arena, const char **ret_root, struct kp_error *error) KP_NODISCARD;
/* Opens and locks, waiting as long as $KPROV_LOCK_TIMEOUT says (--lock-timeout sets it; a second): then KP_ECONFLICT names process,
   time and command of the one who holds it. A process that died holds nothing. create: make what is missing; otherwise
   KP_ENOTFOUND when there is no such cluster. Removes what a killed command had half written. */
#define STATE_LOCK_TIMEOUT_ENV "KPROV_LOCK_TIMEOUT"
int state_open(const char *name, bool create, struct state **ret_state, struct kp_error *error) KP_NODISCARD;
void state_close(struct state *state); /* accepts NULL */
KP_DEFINE_AUTO(struct state *, state_close)
/* The names of all clusters, sorted. */
int state_list(struct kp_strings *ret_names, struct kp_error *error) KP_NODISCARD;

/* Reads a cluster without locking it: the file is always whole. KP_ENOTFOUND when there is none. */
int state_read(const char *name, struct kp_arena *arena, struct state_cluster *ret, struct kp_error *error) KP_NODISCARD;
/* KP_ECONFLICT when the phase on disk may not be followed by the one given. */
int state_write(struct state *state, const struct state_cluster *cluster, struct kp_error *error) KP_NODISCARD;
/* Other files of the cluster's folder, by name. */
int state_read_file(const char *cluster, const char *file, struct kp_buf *out, struct kp_error *error) KP_NODISCARD;
int state_write_file(struct state *state, const char *file, const void *data, size_t len, struct kp_error *error)
    KP_NODISCARD;
/* ---- journal.c: a line each, "<time> <intent> <object> <outcome>[ <detail>]", in the file journal; from STATE_JOURNAL_MAX on it becomes
   journal.1 and a new one is begun. */
#define STATE_JOURNAL_MAX 262144
enum state_event_outcome {
    STATE_EVENT_BEGUN,  /* was about to be done: without one of the others, nobody knows whether it was */
    STATE_EVENT_DONE,
    STATE_EVENT_FAILED, /* detail says why */
};
const char *state_event_outcome_name(enum state_event_outcome outcome); /* "begun", "done", "failed" */
/* Writes down what is about to be done outside, before it is: the line is on the disk when this returns. Any thread. */
int state_journal(struct state *state, const char *intent, const char *object, struct kp_error *error) KP_NODISCARD;
/* Writes down what became of it. Gives result, whose failure is in *error; or, after a success, the failure to write. */
int state_journal_end(struct state *state, const char *intent, const char *object, int result, struct kp_error *error) KP_NODISCARD;
struct state_event {
    int64_t time_s;
    const char *intent, *object, *detail; /* detail: "" when there is none */
    enum state_event_outcome outcome;
};
struct state_event_list {
    struct state_event *items; /* oldest first, in the arena */
    size_t len;
    size_t torn; /* lines that were cut short, left out */
};
int state_journal_read(const char *cluster, struct kp_arena *arena, struct state_event_list *ret, struct kp_error *error) KP_NODISCARD;
/* Removes the folder: the cluster is gone. The state may only be closed afterwards. */
int state_remove(struct state *state, struct kp_error *error) KP_NODISCARD;

#endif
