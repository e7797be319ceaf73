/* Keeps one nftables table as the cluster says: a thread that builds what is wanted when something changed and writes the difference. */
#ifndef NETWORK_TABLES_KEEPER_H
#define NETWORK_TABLES_KEEPER_H

#include "lib/nft/nft.h"

struct keeper_config {
    const char *name;        /* of the work, for people: "network policies" */
    const char *table;       /* family and name */
    const char *base;        /* see nft_rules_script */
    /* What is wanted now; in the keeper's thread, may block. */
    int (*build)(void *arg, struct nft_rules **ret, struct kp_error *error);
    void *arg;
};
struct keeper;
struct keeper *keeper_new(const struct keeper_config *config); /* borrows what the configuration points to */
/* Something changed: soon, together with what changes in the next moment. Any thread; does not block. */
void keeper_wake(struct keeper *keeper);
/* Starts the thread and waits (60 s) until the first state is in the kernel. */
int keeper_start(struct keeper *keeper, struct kp_error *error) KP_NODISCARD;
/* No build runs any more when it returns; the rules stay. */
void keeper_stop(struct keeper *keeper);
void keeper_free(struct keeper *keeper); /* stopped, or never started; accepts NULL */

#endif
