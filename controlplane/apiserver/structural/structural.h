/* controlplane/apiserver/structural: structural schemas of custom resources, as apiextensions-apiserver has them: whether a schema is one, and what
 * it does to objects - pruning, defaults, validation. Pure. Objects are trees (kp_value) of whole objects with apiVersion, kind and metadata. */
#ifndef APISERVER_STRUCTURAL_H
#define APISERVER_STRUCTURAL_H

#include "api/k8s.h"

#include "controlplane/apiserver/status/status.h"
#include "lib/codec/codec.h"

#define STRUCTURAL_DEPTH_MAX 64     /* nesting of a schema */
#define STRUCTURAL_NODES_MAX 100000 /* properties, items and value validations of one schema */

/* What a CustomResourceDefinition may not have as a version's schema, with upstream's words (apiextensions validation.go and schema/structural.go):
   schemas that are not structural, fields that are not allowed, list types, defaults that do not hold, patterns that do not compile, sizes.
   path: "spec.versions[0].schema.openAPIV3Schema". */
void structural_check(const struct k8s_json_schema_props *schema, const char *path, struct field_errors *errors);

struct structural;
/* Of a schema that structural_check found nothing against; borrows nothing. schema NULL: anything goes, everything is kept. */
struct structural *structural_new(const struct k8s_json_schema_props *schema);
void structural_free(struct structural *structural); /* accepts NULL */

/* Drops what the schema does not name (x-kubernetes-preserve-unknown-fields, x-kubernetes-embedded-resource, additionalProperties minded). apiVersion,
   kind and metadata of the root and of embedded resources stay. `dropped` (may be NULL) gets the paths ("spec.foo"), at most 100, in arena. */
void structural_prune(const struct structural *structural, struct kp_value *object, struct kp_arena *arena, struct kp_string_list *dropped);
/* Fills in absent values, and null ones that may not be null, from the schema's defaults, top down; new values are in arena. */
void structural_default(const struct structural *structural, struct kp_value *object, struct kp_arena *arena);
/* What is wrong with an object, with upstream's words: `spec.size: Invalid value: "string": spec.size in body must be of type integer: "string"`.
   Includes the rules for lists of type set and map and for embedded resources; apiVersion, kind and metadata of the root are others' business but for
   restrictions of metadata.name. */
void structural_validate(const struct structural *structural, const struct kp_value *object, struct field_errors *errors);
/* What the rules of x-kubernetes-validations say of an object that is what its schema says, by upstream's order, costs and words. old: the object before an
   update, NULL when it is new: rules that compare are asked on updates alone, and what an update leaves as it was is no error of it but a warning (in
   warnings, whose memory is errors->arena). After errors that say a value is missing or of another shape, rules are not asked. */
void structural_rules(const struct structural *structural, const struct kp_value *object, const struct kp_value *old, struct field_errors *errors,
                      struct kp_string_list *warnings);

/* ---- types.c: the schema as the codec's tables ------------------------------------------------------------------------------ */
/* Names of the kind that the tables carry. */
struct structural_names {
    const char *group, *version, *kind, *list_kind;
};
/* A type whose fields the schema's properties are, and its list type; both, and all they refer to, are in arena. What the tables cannot say - scalars, and
   objects with unknown fields - is raw JSON, so that every value comes out as it came in. */
void structural_types(const struct k8s_json_schema_props *schema, const struct structural_names *names, struct kp_arena *arena,
                      const struct kp_type **ret_type, const struct kp_type **ret_list_type);

#endif
