/* What creating, scaling and applying share: the steps that bring a cluster's machines to what its config says. Each finds
   what an interrupted run left and goes on from there. */
#ifndef KPROV_OPERATION_INTERNAL_H
#define KPROV_OPERATION_INTERNAL_H

#include "provisioner/bootstrap/bootstrap.h"
#include "provisioner/cli/cli.h"
#include "provisioner/plan/members.h"
#include "provisioner/plan/plan.h"
#include "provisioner/remote/remote.h"

/* Of the API; texts in the operation's arena. */
struct cli_endpoint {
    bool balanced;              /* through a load balancer of the cloud's */
    const char *address;        /* that one control plane at a time holds; "" when balanced */
    const char *inside, *outside; /* address or host name: for nodes, and for everybody else */
    const char *url;            /* of `inside` */
    const char *names[3];       /* what certificates name beside address; ends with NULL */
};
#define CLI_API_BALANCER "api"

struct cli_operation {
    struct kp_arena *arena;
    struct state *state; /* locked */
    struct cloud *cloud;
    struct pki *pki;
    struct remote_keys ssh;
    struct cli_api *api;
    struct state_cluster cluster;
    struct cloud_network network;
    struct plan plan;
    struct bootstrap_cluster bootstrap;
    struct cli_endpoint endpoint;
    const struct bootstrap_restore *restore; /* the snapshot that etcd begins with, or NULL; snapshot_internal.h */
    struct cli_progress progress;
    int64_t wait_ns;     /* how long to wait for nodes; 0: not at all */
    int64_t deadline_ms; /* of waiting */
    struct kp_strings remove; /* machines that go first when a pool shrinks; full names */
    struct kp_strings replace; /* control planes that are made anew though their machines are there; full names */
    const char *only; /* the one machine that is touched; NULL: all */
    bool etcd_hidden; /* its port does not let this machine in: the API server carries connections; etcd_open.c */
    bool started;     /* machines were off when this run began: what runs on them takes its time */
    int64_t drain_timeout_ms;
    enum cli_output output; /* of the result; CLI_TABLE: only what was said on the way */
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
/* ---- endpoint.c */
const char *cli_api_address_name(const struct cli_operation *op);
/* Address or load balancer, made when there is none; sets op->endpoint and the cluster's. */
int cli_op_prepare_endpoint(struct cli_operation *op, struct kp_error *error);
/* The load balancer leads to the plan's control planes. Nothing where there is none. */
int cli_op_balance_api(struct cli_operation *op, struct kp_error *error);
/* What the cloud-controller-manager asks with: op->bootstrap.cloud, NULL where it cannot ask. */
int cli_op_prepare_cloud(struct cli_operation *op, struct kp_error *error);
/* The cloud lets the machine forward pods' packets, and a control plane hold the API's address. Any thread. */
int cli_op_forward(const struct cli_operation *op, const struct bootstrap_node *node, struct kp_error *error);
/* bootstrap_user_data as the cloud takes it. Appends. Any thread. */
int cli_op_user_data(const struct cli_operation *op, const struct bootstrap_node *node, struct kp_buf *out, struct kp_error *error);
/* The bootstrap config that the machine has from its next boot on, journalled; what runs goes on. (machines.c) */
int cli_op_at_next_boot(struct cli_operation *op, const struct cloud_machine *machine, const struct kp_buf *user_data, struct kp_error *error);

int cli_op_start_machines(struct cli_operation *op, struct kp_error *error); /* those that are off */
/* Creations and starts, several at a time; not the control planes of a cluster that is READY. */
int cli_op_make_machines(struct cli_operation *op, struct kp_error *error);
/* Drains, then deletes the machines that the plan does without, one by one. */
int cli_op_remove_machines(struct cli_operation *op, struct kp_error *error);
bool cli_op_in_scope(const struct cli_operation *op, const char *name); /* op->only */
bool cli_op_wants(const struct cli_operation *op, const char *name);    /* the plan has a machine of that name */
/* One machine, with the address and the bootstrap data of its node; any thread. */
int cli_op_create_machine(const struct cli_operation *op, const struct plan_machine *machine, struct kp_error *error);
/* The machine, then its Node. */
int cli_op_delete_machine(struct cli_operation *op, const char *name, struct kp_error *error);
int cli_op_open_api(struct cli_operation *op, struct kp_error *error); /* op->api, without asking anything */
int cli_op_wait_api(struct cli_operation *op, struct kp_error *error);
int cli_op_apply_addons(struct cli_operation *op, struct kp_error *error);
int cli_op_mark_control_planes(struct cli_operation *op, struct kp_error *error);
int cli_op_wait_nodes(struct cli_operation *op, struct kp_error *error);
int cli_op_finish(struct cli_operation *op, struct kp_error *error);
/* upgrade.c: brings every machine to an image (NULL: of this kprov), which has to be of the version; with neither it finishes the
   roll-out that was cut short. op->cluster is as the state has it, and changed. */
int cli_op_release(struct cli_operation *op, const char *image, const char *version, struct kp_error *error) KP_NODISCARD;

/* ---- unfinished.c: what earlier runs left, by the journal */
/* The objects of an intent that the journal does not know to be done. */
int cli_unfinished(const char *cluster, const char *intent, struct kp_strings *ret_names, struct kp_error *error);
int cli_is_unfinished(const char *cluster, const char *intent, const char *object, bool *ret, struct kp_error *error);
/* cli_op_run, noted in the journal as a whole: one that is cut short is due again, whatever the machines look like. */
int cli_op_change(struct cli_operation *op, const struct cli_step *steps, struct kp_error *error) KP_NODISCARD;
int cli_change_is_unfinished(const char *cluster, bool *ret, struct kp_error *error);

/* ---- removals.c: around the removal of a machine, so that a later run knows of one that was cut short */
int cli_op_removal_begin(struct cli_operation *op, const char *name, struct kp_error *error);
int cli_op_removal_end(struct cli_operation *op, const char *name, int result, struct kp_error *error); /* gives result */
/* The names of machines whose removal began and did not come to its end. */
int cli_unfinished_removals(const char *cluster, struct kp_strings *ret_names, struct kp_error *error);
/* Brings them to their end, those that the plan removes anyway excepted; needs the plan and the API. */
int cli_op_finish_removals(struct cli_operation *op, struct kp_error *error);

/* ---- members.c: etcd's members follow the control planes; of clusters that are READY */
struct etcd_client;
/* Of the control planes that run. */
int cli_op_open_etcd(struct cli_operation *op, struct kp_arena *arena, struct etcd_client **ret, struct kp_error *error);
/* Waits until a quorum of etcd's members answers; KP_EUNAVAILABLE says what helps. */
int cli_op_wait_quorum(struct cli_operation *op, struct kp_error *error);
/* What is due, by the machines that are there now and the plan; needs op->pki. Results in the arena. */
int cli_op_plan_members(struct cli_operation *op, struct kp_arena *arena, struct plan_member_list *ret, struct kp_error *error);
/* Drops the members that nobody is behind, and lets the control planes join that are none, one at a time. */
int cli_op_change_members(struct cli_operation *op, struct kp_error *error);
/* Takes the member of a control plane away, after what it leads has gone to others. Of another machine: nothing. */
int cli_op_leave_members(struct cli_operation *op, const char *name, struct kp_error *error);

/* ---- protected.c */
/* KP_ECONFLICT names a pod of the pool whose PodDisruptionBudget lets no pod go. */
int cli_op_check_pool_goes(struct cli_operation *op, const char *pool, struct kp_error *error);

/* ---- leases.c */
/* Lets another control plane hold the API's address, if `from` does. */
int cli_api_hand_over(struct cli_api *api, const char *from, const char *to, struct kp_error *error);
/* Frees the leases that a machine that is gone held: nobody need wait them out. */
int cli_api_release_leases(struct cli_api *api, const char *node, struct kp_error *error);

/* name, uid, endpoint, image, nodes, steps with their seconds; changes (rows of a plan) may be NULL. JSON or YAML. result.c */
void cli_op_print_result(struct cli_operation *op, const struct kp_value *changes, enum cli_output output);

/* As `kprov create cluster -f file`. */
int cli_create_from_file(const char *file, int64_t wait_ns, enum cli_output output, struct kp_error *error);

#endif
