/* controlplane/etcd/tools: the sub-commands of the etcd program, which are etcdutl's. */
#ifndef ETCD_TOOLS_H
#define ETCD_TOOLS_H

#include "base/base.h"

/* etcdutl's exit statuses. */
#define TOOLS_FAILED 1
#define TOOLS_BAD_FEATURE 4
#define TOOLS_BAD_ARGUMENTS 128

/* Is this command line for tools_main? When the program is called etcdutl, or its first word is a sub-command. */
bool tools_wanted(int argc, char **argv);
/* Runs it; the process's exit status. Errors and what happened go to standard error, results to standard output. */
int tools_main(int argc, char **argv);

#endif
