/* Parts of controlplane/apiserver/openapi: schemas, paths, whole documents and their protobuf form. */
#ifndef APISERVER_OPENAPI_INTERNAL_H
#define APISERVER_OPENAPI_INTERNAL_H

#include "lib/base/base.h"
#include "lib/codec/codec.h"

enum oa_version { OA_V2, OA_V3 };

/* ---- json.c ------------------------------------------------------------------------------------------------------------ */
/* A comma where one is needed: nothing but an opening bracket goes without. */
void oa_separate(struct kp_buf *out);
void oa_key(struct kp_buf *out, const char *name);
void oa_member(struct kp_buf *out, const char *name, const char *value); /* "name":"value", escaped */
void oa_raw_member(struct kp_buf *out, const char *name, const char *json);
void oa_ref(struct kp_buf *out, enum oa_version version, const char *schema); /* "$ref":"..." without braces */
void oa_gvk(struct kp_buf *out, const char *group, const char *api_version, const char *kind); /* {"group":...} */

/* ---- schema.c ---------------------------------------------------------------------------------------------------------- */
#define OA_STATUS "io.k8s.apimachinery.pkg.apis.meta.v1.Status"
#define OA_DELETE_OPTIONS "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"
#define OA_PATCH "io.k8s.apimachinery.pkg.apis.meta.v1.Patch"

/* The schema of a struct, as a JSON object. */
void oa_put_type(struct kp_buf *out, enum oa_version version, const struct kp_type *type);
/* The schema of a special type ("...resource.Quantity"); false when the name is none. */
bool oa_put_special(struct kp_buf *out, enum oa_version version, const char *name);

/* A set of schemas, closed over references. A schema of a custom resource is its type's own, wherever else its name may be found: the
   resources may change while a document is made. */
struct oa_name {
    const char *name;
    const struct kp_type *type; /* NULL: a special one */
    bool custom;                /* of a custom resource or its list: fields are not looked at */
};
struct oa_names {
    struct oa_name *items;
    size_t len, cap;
    struct kp_strmap *known;
};
void oa_names_done(struct oa_names *names);
static inline __attribute__((unused)) void oa_names_done_auto(struct oa_names *names) { oa_names_done(names); }
#define OA_AUTO_NAMES __attribute__((cleanup(oa_names_done_auto)))
/* Both borrow, and leave what is there under that name. */
void oa_names_add(struct oa_names *names, const char *name);
void oa_names_add_type(struct oa_names *names, const struct kp_type *type, bool custom);
void oa_names_close(struct oa_names *names); /* adds what is referred to, and sorts */

/* ---- custom.c ---------------------------------------------------------------------------------------------------------- */
/* The schema of a custom resource, or of its list, in arena: what its definition says and what every object has beside. */
struct kp_value *oa_custom_schema(enum oa_version version, const struct kp_type *type, struct kp_arena *arena);

/* ---- paths.c ----------------------------------------------------------------------------------------------------------- */
/* Whether this server serves the resource, so that it belongs in the documents. */
bool oa_served(const struct kp_resource *resource);
/* Calls visit with every path of a resource and its path item, a JSON object (borrowed for the call). */
typedef void (*oa_path_fn)(const char *path, const struct kp_buf *item, void *ctx);
void oa_each_path(const struct kp_resource *resource, enum oa_version version, oa_path_fn visit, void *ctx);
/* The names of all schemas the paths of a resource refer to. */
void oa_resource_names(const struct kp_resource *resource, struct oa_names *names);
/* Swagger 2.0's shared parameters, as a JSON object. */
void oa_put_parameters(struct kp_buf *out);

/* ---- document.c -------------------------------------------------------------------------------------------------------- */
/* "api/v1" or "apis/apps/v1" of a resource; into out. */
#define OA_GV_MAX KP_API_VERSION_MAX
const char *oa_group_version(const struct kp_resource *resource, char out[OA_GV_MAX]);
void oa_document_v3(const char *group_version, struct kp_buf *out); /* nothing appended: no such group version */
void oa_document_v2(struct kp_buf *out);
void oa_document_v2_proto(struct kp_buf *out);

/* ---- gnostic.c --------------------------------------------------------------------------------------------------------- */
/* One named entry of a Swagger 2.0 document, from its JSON tree, as the length-delimited field `number` of its parent. */
void oa_gnostic_string(struct kp_buf *out, unsigned number, const char *s);
void oa_gnostic_bytes(struct kp_buf *out, unsigned number, const struct kp_buf *bytes);
void oa_gnostic_definition(struct kp_buf *out, unsigned number, const char *name, const struct kp_value *schema);
void oa_gnostic_path(struct kp_buf *out, unsigned number, const char *path, const struct kp_value *item);
void oa_gnostic_parameter(struct kp_buf *out, unsigned number, const char *name, const struct kp_value *parameter);

#endif
