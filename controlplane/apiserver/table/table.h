/* controlplane/apiserver/table: the rows `kubectl get` shows, made on the server. */
#ifndef APISERVER_TABLE_H
#define APISERVER_TABLE_H

#include "lib/base/base.h"
#include "lib/codec/codec.h"

/* Appends the columnDefinitions array (JSON) of a resource. */
void table_columns(const struct kp_resource *resource, struct kp_buf *out);
/* Appends the cells array (JSON) of one object of resource->type. now_s: for ages. */
void table_cells(const struct kp_resource *resource, const void *obj, int64_t now_s, struct kp_arena *arena, struct kp_buf *out);
/* "3d4h", "12m", "45s": upstream's human duration of seconds; "<invalid>" when negative beyond clock skew. */
const char *table_age(int64_t seconds, struct kp_arena *arena);

#endif
