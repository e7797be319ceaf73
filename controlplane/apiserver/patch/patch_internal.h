/* What the files of patching share: walking trees along the schema. */
#ifndef APISERVER_PATCH_INTERNAL_H
#define APISERVER_PATCH_INTERNAL_H

#include "api/k8s.h"
#include "controlplane/apiserver/patch/patch.h"

#define PATCH_DEPTH_MAX 100
#define PATCH_COPY_BYTES_MAX ((size_t)3 << 20) /* that the copy operations of one JSON patch may make together, as upstream */

/* What the schema says of a place in a tree. */
struct patch_node {
    enum { PATCH_SCALAR, PATCH_STRUCT, PATCH_LIST, PATCH_MAP } kind;
    const struct kp_type *type;   /* of a struct, or of the elements of a list or map */
    const struct kp_field *field; /* of a list or map; NULL otherwise */
    bool atomic;                  /* owned and replaced as a whole */
};
struct patch_node patch_node_of_type(const struct kp_type *type);
struct patch_node patch_node_of_field(const struct kp_field *field); /* field NULL (unknown name): an atomic scalar */
struct patch_node patch_node_of_element(const struct patch_node *node);
struct patch_node patch_node_of_member(const struct patch_node *node, const char *name); /* of a struct or map */
/* The element of an associative list with the same values of the list's keys as item (absent keys take their defaults);
   -1 when there is none. */
int patch_find_element(const struct patch_node *list, const struct kp_value *array, const struct kp_value *item);
/* The value of a key in an element, or its default; NULL when it has neither. */
const struct kp_value *patch_key_value(const struct patch_node *list, const char *key, const struct kp_value *item, struct kp_arena *arena);

int patch_json(struct kp_value **root, const struct kp_value *operations, struct kp_arena *arena, struct api_status *status);
/* RFC 7396: gives the result, which is made of current (changed) and copies of the patch. current may be NULL. */
struct kp_value *patch_merge(struct kp_value *current, const struct kp_value *patch, struct kp_arena *arena);
int patch_strategic(const struct kp_type *type, struct kp_value *current, struct kp_value *patch, struct kp_arena *arena,
                    struct kp_value **ret, struct api_status *status);

/* ---- field sets, in the form of FieldsV1: {"f:spec":{"f:replicas":{}}} -------------------------------------------------- */
struct kp_value *fields_of(const struct patch_node *node, const struct kp_value *value, struct kp_arena *arena);
/* What is new or other in `new` against `old`. */
struct kp_value *fields_changed(const struct patch_node *node, const struct kp_value *old, const struct kp_value *new, struct kp_arena *arena);
struct kp_value *fields_union(const struct kp_value *a, const struct kp_value *b, struct kp_arena *arena);
struct kp_value *fields_minus(const struct kp_value *a, const struct kp_value *b, struct kp_arena *arena); /* leaves of a not in b */
struct kp_value *fields_and(const struct kp_value *a, const struct kp_value *b, struct kp_arena *arena);
/* Those members of the set that the value still has. */
struct kp_value *fields_present(const struct kp_value *set, const struct patch_node *node, const struct kp_value *value, struct kp_arena *arena);
bool fields_empty(const struct kp_value *set);
/* Every leaf as ".spec.containers[name=\"c\"].image". */
void fields_paths(const struct kp_value *set, struct kp_arena *arena, struct kp_string_list *ret);
/* Removes from value what the set names, but nothing that has a member of kept in it. */
void fields_remove(const struct kp_value *set, const struct kp_value *kept, const struct patch_node *node, struct kp_value *value,
                   struct kp_arena *arena);
/* Writes every quantity in its canonical spelling, so that equal ones are equal as text. */
void fields_canonical(const struct patch_node *node, struct kp_value *value, struct kp_arena *arena);

/* Metadata that nobody owns: name, uid, resourceVersion ... taken out of a tree before its fields are listed. */
void fields_strip(struct kp_value *tree);

int apply_server_side(const struct kp_type *type, const struct patch_request *request, struct kp_value *current, struct kp_value *config,
                      struct kp_arena *arena, struct kp_value **ret, struct api_status *status);

#endif
