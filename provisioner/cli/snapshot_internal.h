/* What the commands about etcd snapshots share with creating a cluster from one. */
#ifndef KPROV_SNAPSHOT_INTERNAL_H
#define KPROV_SNAPSHOT_INTERNAL_H

#include "provisioner/cli/operation_internal.h"
#include "provisioner/snapshot/snapshot.h"

#define CLI_SNAPSHOTS_DIR "snapshots" /* in the cluster's state */

/* The file that the user means: a path, or the name of one of the cluster's snapshots, with or without ".db". */
int cli_snapshot_find(const char *cluster, const char *word, struct kp_arena *arena, const char **ret_path, struct kp_error *error) KP_NODISCARD;

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
