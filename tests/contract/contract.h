/* The promises of lib/cloud/cloud.h as checks that run against any driver. */
#ifndef TEST_CONTRACT_H
#define TEST_CONTRACT_H

#include "cloud/cloud.h"

#define CONTRACT_OPERATIONS_MAX 40

/* What the run has to say of one operation of the driver. */
struct contract_operation {
    const char *name;
    int passed, failed;
    bool unsupported;    /* the cloud has no such thing, and says so */
    const char *skipped; /* why nothing was looked at, or NULL */
};
struct contract {
    struct cloud *cloud;
    struct kp_arena *arena;
    const char *image, *other_image; /* of machines; the same when there is but one */
    const char *uid, *other_uid;     /* of two clusters that are ours */
    const char *label;               /* of the lines and the table: the driver's name, or what it runs against */
    const char *machine_type;        /* "": the driver's default */
    struct cloud_network_spec network; /* what networks are asked for, but the uid */
    bool machines;       /* this backend can make machines */
    bool prune;          /* images may be removed: nobody else uses this cloud */
    const char *damage;  /* a command that harms a balancer, or NULL */
    const char *expect;  /* capabilities, or NULL */
    const char *world;   /* of the fake cloud: its folder, else NULL */
    int64_t wait_ms;     /* for a cloud that is at work */
    int waits;           /* how often it was */
    int passed, failed;
    struct contract_operation operations[CONTRACT_OPERATIONS_MAX];
    struct contract_operation *now; /* the one that checks count for */
};
/* What follows is about this operation. */
void under(struct contract *c, const char *operation);
/* The operation: the cloud says that it has no such thing. */
void unsupported(struct contract *c, const char *operation);
/* The operation was not looked at. */
void skipped(struct contract *c, const char *operation, const char *why);
/* One line: "ok - what" or "not ok - what: why"; gives whether it holds. */
bool check(struct contract *c, bool holds, const struct kp_error *error, const char *what);
/* As check, of a call's result: "wanted, got". */
bool check_code(struct contract *c, int got, int wanted, const struct kp_error *error, const char *what);
/* A machine of that name and role "worker" with an address of its own; as cloud_machine_create. */
int make_machine(struct contract *c, const char *uid, const char *name, struct cloud_machine *ret, struct kp_error *error);
/* The network of a cluster, as the run wants it. */
int make_network(struct contract *c, const char *uid, struct cloud_network *ret, struct kp_error *error);
/* What a machine reads at its start: enough for ours to come up. In the arena. */
const char *make_user_data(struct contract *c, const char *name, const struct cloud_network *network, const char *address);

/* ---- contract_objects.c: whatever needs no machine */
void contract_arguments(struct contract *c);
void contract_check(struct contract *c);
void contract_unknown_cluster(struct contract *c);
void contract_network(struct contract *c);
void contract_addresses(struct contract *c);
/* ---- contract_machines.c */
void contract_machines(struct contract *c);
void contract_power(struct contract *c);
void contract_reimage(struct contract *c);
void contract_two_clusters(struct contract *c);
void contract_threads(struct contract *c);
void contract_commands(struct contract *c);
void contract_purge(struct contract *c);
/* ---- contract_services.c: what clouds with an API have; after the machines, while w-2 is there */
void contract_types(struct contract *c);
void contract_images(struct contract *c);
void contract_publish(struct contract *c);
void contract_forward(struct contract *c);
void contract_routes(struct contract *c);
/* ---- contract_balancers.c */
void contract_balancers(struct contract *c);

#endif
