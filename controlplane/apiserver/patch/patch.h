/* Patches and managed fields: JSON patch, JSON merge patch, strategic merge patch, server-side apply. Pure: no I/O. */
#ifndef APISERVER_PATCH_H
#define APISERVER_PATCH_H

#include "controlplane/apiserver/status/status.h"
#include "lib/codec/codec.h"

enum patch_kind { PATCH_JSON, PATCH_MERGE, PATCH_STRATEGIC, PATCH_APPLY };
#define PATCH_JSON_OPERATIONS_MAX 10000

struct patch_request {
    enum patch_kind kind;
    const char *body; /* PATCH_APPLY: YAML or JSON; the others JSON */
    size_t body_len;
    const char *field_manager; /* PATCH_APPLY requires one */
    bool force;                /* PATCH_APPLY */
    const char *subresource;   /* "" when none */
    bool strict;               /* collect unknown and duplicate fields into problems */
    int64_t now_s;             /* time written into managed fields */
};
/* current: the stored object (not changed), or NULL when there is none (PATCH_APPLY only: the result is a new object).
   *ret_obj is a new object in arena, not defaulted. With PATCH_APPLY its managedFields are already right, and a conflict is a
   409 with one cause a field. Everything else leaves managedFields as they are in current. problems as struct kp_decode. */
int patch_apply(const struct kp_type *type, const struct patch_request *request, const void *current, struct kp_arena *arena,
                struct kp_string_list *problems, void **ret_obj, struct api_status *status);

/* After a create (old NULL), update or non-apply patch: makes obj's metadata.managedFields, giving manager every field that
   changed between old and obj ("Update" operation).. */
void patch_managed_fields_update(const struct kp_type *type, const void *old, void *obj, const char *manager, const char *subresource,
                                 int64_t now_s, struct kp_arena *arena);

#endif
