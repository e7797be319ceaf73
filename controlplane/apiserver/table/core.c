/* Rows. */
#include "controlplane/apiserver/table/table_internal.h"

const struct table_row table_core_rows[] = {{0}};
