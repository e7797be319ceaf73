/* What aggregated API servers have in namespaces, for the namespace controller: asked of their discovery, for no definition tells it. */
#ifndef KCM_AGGREGATED_H
#define KCM_AGGREGATED_H

#include "controlplane/controller-manager/engine.h"

#define AGGREGATED_RESOURCES_MAX 2000

struct aggregated {
    struct {
        struct kp_resource *items; /* namespaced, with list and delete; types are of the metadata alone */
        size_t len;
    } resources;
    size_t failed;   /* group versions whose server could not be asked */
    const char *why; /* upstream's words for them; in the plan's arena */
};
/* Asks the servers of all APIServices with a Service, by the cache. */
void aggregated_discover(const struct plan_input *in, struct aggregated *ret);

#endif
