/* A roll-out: every machine of a cluster is brought to the cluster's node image, one after the other. */
#ifndef KPROV_ROLLOUT_INTERNAL_H
#define KPROV_ROLLOUT_INTERNAL_H

#include "provisioner/cli/operation_internal.h"

struct cli_rollout {
    struct cli_operation *op; /* opened; cluster.image and config.kubernetes_version are what is wanted, and written */
    bool down;                /* to an older version */
    int64_t machine_timeout_ms; /* of a machine's health gate */
    const char *command;        /* what goes on with an interrupted run, "kprov upgrade cluster demo" */
};
/* Before anything is written down: every machine runs, every Node is Ready, and etcd can spare any one member. */
int cli_rollout_preflight(struct cli_rollout *rollout, const struct cloud_machine_list *machines, struct kp_error *error) KP_NODISCARD;
int cli_rollout_run(struct cli_rollout *rollout, struct kp_error *error) KP_NODISCARD;

/* ---- rollout_health.c: what can be seen of a machine from outside */
#define CLI_GATE_TEXT_MAX 256
/* Pods that belong to the machine itself, static ones and agents, that are ready: name -> ids of their containers. In the arena. */
int cli_gate_record(struct cli_operation *op, const char *node, struct kp_arena *arena, struct kp_string_map *ret, struct kp_error *error) KP_NODISCARD;
/* Whether a machine is well: its Node Ready and of the version wanted, its agents and static pods ready - with containers other
   than those in `before` - and etcd's member healthy. True, or false with what is wrong in the text. */
bool cli_gate_passes(struct cli_operation *op, const struct cloud_machine *machine, const struct kp_string_map *before,
                     char problem[CLI_GATE_TEXT_MAX]);
/* Whether this machine may be taken down: the Nodes of all others are Ready (unless any_nodes), and etcd can spare its member. */
bool cli_gate_may_take_down(struct cli_operation *op, const struct cloud_machine_list *machines, const struct cloud_machine *machine,
                            bool any_nodes, char problem[CLI_GATE_TEXT_MAX]);
/* Of which machine etcd's leader is, "" when nobody knows. In the arena. */
const char *cli_gate_etcd_leader(struct cli_operation *op, const struct cloud_machine_list *machines, struct kp_arena *arena);
/* Moves etcd's leadership to another healthy voter if this machine has it; without one it stays. */
int cli_gate_move_leader(struct cli_operation *op, const struct cloud_machine *machine, struct kp_error *error) KP_NODISCARD;

#endif
