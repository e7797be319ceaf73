/* What creating, scaling and applying share: the steps that bring a cluster's machines to what its config says. Each finds
   what an interrupted run left and goes on from there. */
#ifndef KPROV_OPERATION_INTERNAL_H
#define KPROV_OPERATION_INTERNAL_H

#include "provisioner/bootstrap/bootstrap.h"
#include "provisioner/cli/cli.h"
#include "provisioner/plan/plan.h"

struct cli_operation {
    struct kp_arena *arena;
    struct state *state; /* locked */
    struct cloud *cloud;
    struct pki *pki;
    struct cli_api *api;
    struct state_cluster cluster;
    struct cloud_network network;
    struct plan plan;
    struct bootstrap_cluster bootstrap;
    struct cli_progress progress;
    int64_t wait_ns;     /* how long to wait for nodes; 0: not at all */
    int64_t deadline_ms; /* of waiting */
    struct kp_strings remove; /* machines that go first when a pool shrinks; full names */
    int64_t drain_timeout_ms;
};
struct cli_step {
    const char *name;
    int (*run)(struct cli_operation *op, struct kp_error *error);
    bool waits; /* left out when wait_ns is 0 */
};
void cli_op_start(struct cli_operation *op, int64_t wait_ns);
/* In order, with progress; ends with name == NULL. */
int cli_op_run(struct cli_operation *op, const struct cli_step *steps, struct kp_error *error) KP_NODISCARD;
void cli_op_done(struct cli_operation *op);
/* Opens and locks a cluster that is READY. */
int cli_op_open(struct cli_operation *op, const char *name, struct kp_error *error) KP_NODISCARD;

int cli_op_prepare_image(struct cli_operation *op, struct kp_error *error);
int cli_op_prepare_pki(struct cli_operation *op, struct kp_error *error);
int cli_op_prepare_network(struct cli_operation *op, struct kp_error *error);
int cli_op_prepare_nodes(struct cli_operation *op, struct kp_error *error); /* the plan, and addresses */
int cli_op_make_machines(struct cli_operation *op, struct kp_error *error); /* creations and starts */
/* Drains, then deletes the machines that the plan does without, one by one. */
int cli_op_remove_machines(struct cli_operation *op, struct kp_error *error);
int cli_op_wait_api(struct cli_operation *op, struct kp_error *error);
int cli_op_apply_addons(struct cli_operation *op, struct kp_error *error);
int cli_op_mark_control_planes(struct cli_operation *op, struct kp_error *error);
int cli_op_wait_nodes(struct cli_operation *op, struct kp_error *error);
int cli_op_finish(struct cli_operation *op, struct kp_error *error);

/* As `kprov create cluster -f file`. */
int cli_create_from_file(const char *file, int64_t wait_ns, struct kp_error *error);

#endif
