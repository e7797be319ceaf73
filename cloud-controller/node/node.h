/* cloud-controller/node: what the cloud knows of a node's machine - its identity, addresses and place, and whether it is off or gone. */
#ifndef CCM_NODE_H
#define CCM_NODE_H

#include "cloud-controller/context/context.h"

/* ---- facts.c: pure */
/* The merge patch of a new Node: provider ID (one that is there stays), labels of size and place, the taint "uninitialized" gone. On this
   resource version. In the arena. */
const char *node_identity_patch(const struct k8s_node *node, const struct cloud_machine *machine, const char *resource_version, struct kp_arena *arena);
/* The merge patch of status that gives it the machine's addresses, or NULL when it has them. In the arena. */
const char *node_addresses_patch(const struct k8s_node *node, const struct cloud_machine *machine, struct kp_arena *arena);
/* Whether the Node may be that machine's: its provider ID is the machine's, or there is none yet. */
bool node_is_of(const struct k8s_node *node, const struct cloud_machine *machine);
/* The machine of that name, or NULL. */
const struct cloud_machine *node_find_machine(const struct cloud_machine_list *machines, const char *name);

/* ---- judge.c: pure */
enum node_verdict {
    NODE_LEAVE,
    NODE_TAINT,   /* its machine is off: pods shall not come to it */
    NODE_UNTAINT, /* it is back */
    NODE_ASK,     /* the list does not have it: gone if the cloud, asked for this one, says NOT_FOUND */
};
/* machines NULL: the cloud did not answer. */
enum node_verdict node_judge(const struct k8s_node *node, const struct cloud_machine_list *machines);

/* ---- initialize.c: "cloud-node-controller". Of each controller: new before the informers start, run when they are filled, stop waits for what
   is under way, free when the informers are gone. */
struct node_controller;
struct node_controller *node_controller_new(const struct ccm_context *context);
int node_controller_run(struct node_controller *controller, struct kp_error *error) KP_NODISCARD;
void node_controller_stop(struct node_controller *controller); /* accepts NULL; also one that did not run, or not wholly */
void node_controller_free(struct node_controller *controller); /* accepts NULL */

/* ---- lifecycle.c: "cloud-node-lifecycle-controller" */
struct node_lifecycle;
struct node_lifecycle *node_lifecycle_new(const struct ccm_context *context);
int node_lifecycle_run(struct node_lifecycle *lifecycle, struct kp_error *error) KP_NODISCARD;
void node_lifecycle_stop(struct node_lifecycle *lifecycle);
void node_lifecycle_free(struct node_lifecycle *lifecycle);

#endif
