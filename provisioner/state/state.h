/* provisioner/state: what kprov remembers of its clusters, below $XDG_STATE_HOME/kprov/<cluster>/.
 *
 *   cluster.json   uid, provider, phase, image, endpoint and the config      journal   what was about to be done
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

struct state_cluster {
    const char *uid, *name, *image, *endpoint; /* endpoint: "https://10.89.0.10:6443", "" until known */
    enum state_phase phase;
    int64_t created_s;
    struct config config;
};

struct state; /* one cluster's folder, locked */
/* $KPROV_STATE_DIR, $XDG_STATE_HOME/kprov or $HOME/.local/state/kprov; in the arena. KP_EINVALID when none is set. */
int state_root(struct kp_arena *arena, const char **ret_root, struct kp_error *error) KP_NODISCARD;
/* Opens and locks, waiting a second at most: KP_ECONFLICT names the command that holds it. create: make what is missing;
   otherwise KP_ENOTFOUND when there is no such cluster. */
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
/* Writes down that a resource is about to be made or deleted, before it is: deletion after a crash knows where to look. */
int state_journal(struct state *state, const char *intent, const char *object, struct kp_error *error) KP_NODISCARD;
/* Removes the folder: the cluster is gone. The state may only be closed afterwards. */
int state_remove(struct state *state, struct kp_error *error) KP_NODISCARD;

#endif
