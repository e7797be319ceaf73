/* The promises of lib/cloud/cloud.h as checks that run against any driver. */
#ifndef TEST_CONTRACT_H
#define TEST_CONTRACT_H

#include "cloud/cloud.h"

struct contract {
    struct cloud *cloud;
    struct kp_arena *arena;
    const char *image, *other_image; /* of machines; the same when there is but one */
    const char *uid, *other_uid;     /* of two clusters that are ours */
    const char *driver;
    bool machines; /* this backend can make machines */
    int passed, failed;
};
/* One line: "ok - what" or "not ok - what: why"; gives whether it holds. */
bool check(struct contract *c, bool holds, const struct kp_error *error, const char *what);
/* As check, of a call's result: "wanted, got". */
bool check_code(struct contract *c, int got, int wanted, const struct kp_error *error, const char *what);
/* A machine of that name and role "worker" with an address of its own; as cloud_machine_create. */
int make_machine(struct contract *c, const char *uid, const char *name, struct cloud_machine *ret, struct kp_error *error);
/* What a machine reads at its start: enough for ours to come up. In the arena. */
const char *make_user_data(struct contract *c, const char *name, const struct cloud_network *network, const char *address);

/* ---- contract_objects.c: whatever needs no machine */
void contract_arguments(struct contract *c);
void contract_unknown_cluster(struct contract *c);
void contract_network(struct contract *c);
void contract_addresses(struct contract *c);
/* ---- contract_machines.c */
void contract_machines(struct contract *c);
void contract_power(struct contract *c);
void contract_reimage(struct contract *c);
void contract_two_clusters(struct contract *c);
void contract_threads(struct contract *c);
void contract_purge(struct contract *c);

#endif
