/* controlplane/apiserver/custom: CustomResourceDefinitions at work: their names are accepted, their resources served, and their objects deleted with them. */
#ifndef APISERVER_CUSTOM_H
#define APISERVER_CUSTOM_H

#include "controlplane/apiserver/registry/registry.h"

#define CUSTOM_DEFINITIONS_MAX 5000 /* of a cluster; more are not served, and the log says so */

struct custom;
/* Starts a thread that follows the definitions in the caches and keeps kp_resources_extend's list; registry and caches are borrowed and outlive it. */
struct custom *custom_new(struct registry *registry, struct wcache_set *caches);
void custom_free(struct custom *custom); /* accepts NULL */
/* Whether every definition that was there at the start is served: until then a resource nobody knows may be one of them. Any thread. */
bool custom_synced(const struct custom *custom);

#endif
