/* The registry's own life, and the helpers that need no file of their own. */
#include "controlplane/apiserver/registry/registry_internal.h"

int registry_new(const struct registry_config *config, struct registry **ret_registry, struct kp_error *error)
{
    struct registry *registry = kp_calloc(1, sizeof(*registry));
    registry->store = config->store;
    registry->caches = config->caches;
    registry->admission = config->admission;
    registry->auth = config->auth;
    registry->event_ttl_s = config->event_ttl_s;
    int code = ip_ranges_new(config->service_cidr, config->node_port_min, config->node_port_max, &registry->ranges, error);
    if (code < 0) {
        free(registry);
        return code;
    }
    *ret_registry = registry;
    return 0;
}

void registry_free(struct registry *registry)
{
    if (!registry)
        return;
    ip_ranges_free(registry->ranges);
    free(registry);
}

void registry_set_admission(struct registry *registry, struct admission *admission, struct auth *auth)
{
    registry->admission = admission;
    registry->auth = auth;
}

struct store *registry_store(struct registry *registry)
{
    return registry->store;
}

struct wcache_set *registry_caches(struct registry *registry)
{
    return registry->caches;
}

struct wcache *registry_cache_of(struct registry *registry, const struct registry_kind *kind)
{
    return registry_cache(registry, kind);
}
