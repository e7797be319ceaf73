/* What the commands about etcd snapshots share with creating a cluster from one. */
#ifndef KPROV_SNAPSHOT_INTERNAL_H
#define KPROV_SNAPSHOT_INTERNAL_H

#include "provisioner/cli/operation_internal.h"
#include "provisioner/snapshot/snapshot.h"

#define CLI_SNAPSHOTS_DIR "snapshots" /* in the cluster's state */

/* The file that the user means: a path, or the name of one of the cluster's snapshots, with or without ".db". */
int cli_snapshot_find(const char *cluster, const char *word, struct kp_arena *arena, const char **ret_path, struct kp_error *error) KP_NODISCARD;

/* ---- snapshot.c: a snapshot that comes to the laptop */
struct cli_saving {
    struct kp_arena *arena; /* the caller's */
    struct cloud *cloud;
    struct state_cluster cluster;
    struct pki *pki;
    struct kp_value *pki_document;
    const char *path;
    struct snapshot_meta meta; /* of which the caller sets taken_s and endpoint */
};
int cli_saving_open(struct cli_saving *saving, const char *cluster, struct kp_error *error) KP_NODISCARD;
/* Where it goes: the file, or by its name to the others of the cluster's state. KP_EEXISTS when it is there. */
int cli_saving_choose(struct cli_saving *saving, const char *file, const char *name, struct kp_error *error) KP_NODISCARD;
/* Gives the whole file beside its place its name, with its description. */
int cli_saving_publish(struct cli_saving *saving, const char *part, struct kp_error *error) KP_NODISCARD;
void cli_saving_print(const struct cli_saving *saving, enum cli_output output);
void cli_saving_done(struct cli_saving *saving);

/* ---- snapshot_machines.c: those that the control planes take by themselves */
/* Adds a row for each; a machine that cannot be asked is told of on stderr. */
void cli_snapshot_list_machines(const struct state_cluster *cluster, struct kp_value *rows, struct kp_arena *arena);
/* Brings one to the laptop, by its name; file: NULL for the cluster's state. saving->path is where it is then. */
int cli_snapshot_fetch_to(struct cli_saving *saving, const char *cluster, const char *name, const char *file, struct kp_error *error) KP_NODISCARD;

/* ---- snapshot_schedule.c: a step of apply: control planes that run are told another schedule. */
int cli_op_change_schedule(struct cli_operation *op, struct kp_error *error);

/* ---- restore.c: a restore under way. Files of the cluster's state while it is: restore.json, restore.db. */
/* Begins one from the file, or goes on with the one that was begun from the same; KP_ECONFLICT for another. floor_revision: what the
   new history begins above. Sets op->bootstrap.restore with the plan: cli_restore_plan. */
int cli_restore_begin(struct cli_operation *op, const char *path, int64_t floor_revision, struct kp_error *error) KP_NODISCARD;
/* Whether one was begun and not ended. */
bool cli_restore_pending(const struct cli_operation *op);
/* Steps, after cli_op_prepare_nodes: what the machines' user data says; how a snapshot too large for it gets there; what the database
   remembers of machines that are not there. */
int cli_restore_plan(struct cli_operation *op, struct kp_error *error);
int cli_restore_bring(struct cli_operation *op, struct kp_error *error);
int cli_restore_reconcile(struct cli_operation *op, struct kp_error *error);
int cli_restore_end(struct cli_operation *op, struct kp_error *error);
/* Before the certificates are made: those that came with the snapshot, when there are none yet. */
int cli_restore_keys(struct cli_operation *op, const char *path, struct kp_error *error);

#endif
