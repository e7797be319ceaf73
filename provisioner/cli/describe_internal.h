/* The document of `kprov describe cluster`, and the tree made of it. */
#ifndef KPROV_DESCRIBE_INTERNAL_H
#define KPROV_DESCRIBE_INTERNAL_H

#include "provisioner/bootstrap/bootstrap.h"
#include "provisioner/cli/cli.h"

/* Pure: the document as a tree of lines. */
void describe_tree(const struct kp_value *cluster, struct kp_buf *out);

#endif
