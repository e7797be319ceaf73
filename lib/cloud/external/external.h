/* lib/cloud/external: machines that exist already, reached by SSH. What a cluster has of them is written on the machines
 * themselves, in one folder each; nothing is remembered elsewhere. */
#ifndef CLOUD_EXTERNAL_H
#define CLOUD_EXTERNAL_H

#include "cloud/cloud.h"

struct external_problem {
    const char *address, *problem; /* problem: what is wrong, and the remedy */
};
/* Looks at every machine, changing nothing: what keeps it from becoming a node of a new cluster. Also that it is not reached. */
int external_check_all(const struct cloud_external *config, struct kp_arena *arena, struct external_problem **ret, size_t *ret_len,
                       struct kp_error *error) KP_NODISCARD;

#endif
