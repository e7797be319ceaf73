/* What the files of `kprov delete cluster` share. */
#ifndef KPROV_DELETE_INTERNAL_H
#define KPROV_DELETE_INTERNAL_H

#include "provisioner/cli/operation_internal.h"

struct deletion {
    struct kp_arena *arena;
    struct state *state;
    struct cloud *cloud;
    const char *name;
    struct state_cluster cluster;
    bool has_cluster; /* otherwise there is but the folder: interrupted before anything was made */
    struct cloud_machine_list machines;
    struct cloud_network network; /* cidr NULL: there is none */
    struct kp_strings owned;      /* what carries the tag, before */
    struct kp_value *receipt;
    struct cli_progress progress;
    int64_t start_ms;
};
void cli_deletion_receipt(struct deletion *d, const char *object, const char *name, int64_t start_ms);

/* ---- delete_balancers.c */
/* LoadBalancer Services, through the API; one that does not answer is no failure. */
int cli_deletion_services(struct deletion *d, struct kp_error *error);
/* What the cloud has of the cluster's; the API's own too, or that one not. */
int cli_deletion_balancers(struct deletion *d, bool api_too, struct kp_error *error);

#endif
