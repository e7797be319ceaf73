/* Rows. */
#include "controlplane/apiserver/table/table_internal.h"

const struct table_row table_workload_rows[] = {{0}};
