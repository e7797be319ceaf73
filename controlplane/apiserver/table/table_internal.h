/* What the row functions share. */
#ifndef APISERVER_TABLE_INTERNAL_H
#define APISERVER_TABLE_INTERNAL_H

#include "controlplane/apiserver/table/table.h"

#include "api/k8s.h"

struct cells {
    struct kp_buf *out;
    struct kp_arena *arena;
    int64_t now_s;
    const struct k8s_object_meta *meta;
    size_t count;
};
struct table_row {
    const char *name; /* of kp_resource.table */
    void (*fill)(struct cells *cells, const void *obj); /* one cell a column */
};
extern const struct table_row table_core_rows[], table_workload_rows[], table_other_rows[]; /* ended by name NULL */

void cell_string(struct cells *cells, const char *s);
void cell_int(struct cells *cells, int64_t value);
void cell_bool(struct cells *cells, bool value);
void cell_age(struct cells *cells, const struct kp_time *since); /* "<unknown>" when not set */

#endif
