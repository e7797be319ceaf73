/* What the files of kprov repair share. */
#ifndef KPROV_REPAIR_INTERNAL_H
#define KPROV_REPAIR_INTERNAL_H

#include "provisioner/cli/operation_internal.h"
#include "provisioner/etcd/etcd.h"
#include "provisioner/plan/repair.h"

/* What is there, as far as it can be seen from here. */
struct repair_view {
    struct cloud_machine_list machines;
    struct etcd_member_list members;
    struct etcd_member_status *status; /* of n_status endpoints */
    size_t n_status;
    bool members_known;
    struct kp_error etcd_error; /* why not */
    const void *nodes;          /* struct k8s_node_list, or NULL */
    struct kp_error api_error;  /* why not */
};
/* Looks at machines, etcd and Nodes; only the cloud must answer. Makes op->plan. In op's arena. */
int cli_repair_look(struct cli_operation *op, struct repair_view *ret, struct kp_error *error) KP_NODISCARD;
/* Asks etcd again. */
void cli_repair_look_at_etcd(struct cli_operation *op, struct repair_view *view);
/* One input for each machine of op->plan, in the arena. */
struct repair_input *cli_repair_inputs(const struct cli_operation *op, const struct repair_view *view, int64_t now_s);
/* The Nodes that were this cluster's machines, of which there is no machine, wanted or not. */
void cli_repair_stray_nodes(const struct cli_operation *op, const struct repair_view *view, struct kp_strings *ret);
/* The members that no control plane, wanted or not, is behind. */
void cli_repair_stray_members(const struct cli_operation *op, const struct repair_view *view, struct kp_strings *ret);

#endif
