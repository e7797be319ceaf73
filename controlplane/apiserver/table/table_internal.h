/* What the row functions share. */
#ifndef APISERVER_TABLE_INTERNAL_H
#define APISERVER_TABLE_INTERNAL_H

#include "controlplane/apiserver/table/table.h"

#include "api/k8s.h"

struct cells {
    struct kp_buf *out;
    struct kp_arena *arena;
    int64_t now_s;
    const struct kp_resource *resource;
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
void cell_null(struct cells *cells);
void cell_map(struct cells *cells, const struct kp_string_map *map); /* "a=b,c=d", "<none>" when empty */
void cell_selector(struct cells *cells, const struct k8s_label_selector *selector); /* its string form, "<none>" for none */
void cell_containers(struct cells *cells, const struct k8s_pod_spec *spec); /* two cells: names, images */
void cell_age(struct cells *cells, const struct kp_time *since); /* "<unknown>" when not set */

/* custom.c. The columns whose cells can be made: as upstream, those before the first one whose path is malformed. */
size_t table_custom_columns(const struct kp_resource *resource);
void table_custom_fill(struct cells *cells, const void *obj); /* the name, then these columns */

#endif
