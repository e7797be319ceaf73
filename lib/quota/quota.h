/* lib/quota: what objects use of a namespace's ResourceQuotas. Both that admit (API server) and those that count again (controller) ask here.
 *
 * Names and rules are upstream's quota evaluators' (pods, services, persistentvolumeclaims; everything else by number). Amounts are maps from a
 * quota's resource name ("pods", "requests.cpu", "count/deployments.apps") to a quantity, in the arena. */
#ifndef LIB_QUOTA_H
#define LIB_QUOTA_H

#include "api/k8s.h"
#include "lib/codec/codec.h"

/* What the pod asks for of a resource ("cpu"), of requests or limits: the sum over containers and sidecars, or what an init container needs beside the
   sidecars that run by then, whichever is more, and the overhead. NULL when nothing is said of it. */
const char *quota_pod_amount(const struct k8s_pod_spec *spec, bool limit, const char *name, struct kp_arena *arena);

/* object may be of PartialObjectMetadata for resources that are counted by number alone; now_s: a pod whose grace has passed counts no more. */
void quota_usage(const struct kp_resource *resource, const void *object, int64_t now_s, struct kp_arena *arena, struct kp_string_map *ret);
/* Whether the quota is about such an object: one of its resources is used, and all of its scopes hold. */
bool quota_covers(const struct k8s_resource_quota *quota, const struct kp_resource *resource, const void *object, const struct kp_string_map *usage);
/* Whether a name of a quota ("requests.cpu", "count/deployments.apps") is about objects of the resource. */
bool quota_name_is_of(const char *name, const struct kp_resource *resource);
/* What of cpu and memory the quota limits and a container of the pod does not say: "limits.cpu for: a,b; requests.memory for: a". NULL: nothing. */
const char *quota_unsaid(const struct k8s_pod_spec *spec, const struct kp_string_map *hard, struct kp_arena *arena);

/* total += sign * more. */
void quota_add(struct kp_string_map *total, const struct kp_string_map *more, int sign, struct kp_arena *arena);
/* Those of amounts that are in names and not zero. */
struct kp_string_map quota_mask(const struct kp_string_map *amounts, const struct kp_string_map *names, struct kp_arena *arena);
/* "pods=2,requests.cpu=1" */
const char *quota_print(const struct kp_string_map *amounts, struct kp_arena *arena);

#endif
