/* What the fault tests ask and do beside kprov's own commands. */
#ifndef TEST_FAULTS_INSPECT_H
#define TEST_FAULTS_INSPECT_H

#include "provisioner/cli/cli.h"

/* Prints the cluster's Nodes: readiness, labels, taints, whether pods may come. */
int inspect(const char *cluster, struct kp_error *error);
/* A pod on a node, so that draining it is work. */
int inspect_add_pod(const char *cluster, const char *node, struct kp_error *error);

#endif
