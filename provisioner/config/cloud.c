/* spec.openstack, spec.aws and spec.hetzner: which account of a cloud, and what of it a cluster is made in - rules, and text. */
#include "provisioner/config/config_internal.h"

void config_default_cloud(struct config_cloud *ret)
{
    *ret = (struct config_cloud){
        .section = "", .profile = "", .region = "", .endpoint = "", .credentials = "", .network = "", .external = "", .zones = "", .api_endpoint = "", .instance_profile = "",
    };
}

int config_check_cloud(const struct config *config, struct kp_error *error)
{
    const struct config_cloud *cloud = &config->cloud;
    const char *section = cloud->section;
    if (!*section)
        return 0;
    if (!kp_streq(section, config->provider))
        return kp_fail(error, KP_EINVALID, "spec.%s is for provider %s, and this one is %s", section, section, config->provider);
    if (*cloud->endpoint && !kp_starts_with(cloud->endpoint, "https://") && !kp_starts_with(cloud->endpoint, "http://"))
        return kp_fail(error, KP_EINVALID, "spec.%s.endpoint: \"%s\" must be a URL such as https://cloud.example", section, cloud->endpoint);
    if (*cloud->credentials && *cloud->credentials != '/' && !kp_starts_with(cloud->credentials, "~/"))
        return kp_fail(error, KP_EINVALID, "spec.%s.credentialsFile: \"%s\" must begin with / or ~/: commands are run from many folders", section,
                       cloud->credentials);
    if (*cloud->network && *config->network.machine_cidr)
        return kp_fail(error, KP_EINVALID, "spec.%s.network: %s is there already, with a range of its own: leave out spec.network.machineCIDR", section,
                       cloud->network);
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+=,.@_-"; /* IAM's names */
    if (strlen(cloud->instance_profile) > 128 || strspn(cloud->instance_profile, plain) != strlen(cloud->instance_profile))
        return kp_fail(error, KP_EINVALID, "spec.%s.instanceProfile: \"%s\" must be the name of an instance profile, not its ARN: letters, digits and +=,.@_-", section,
                       cloud->instance_profile);
    /* It moves by gratuitous ARP, which these networks do not pass on. */
    if (kp_streq(cloud->api_endpoint, CONFIG_VIRTUAL_ADDRESS) && !kp_streq(config->provider, "openstack"))
        return kp_fail(error, KP_EINVALID, "spec.%s.apiEndpoint: the networks of %s pass no address on from machine to machine: must be " CONFIG_LOAD_BALANCER,
                       section, config->provider);
    return 0;
}

static void set(struct kp_value *object, const char *key, const char *value, struct kp_arena *arena)
{
    if (*value)
        kp_value_set(arena, object, key, kp_value_string(arena, value));
}

struct kp_value *config_cloud_value(const struct config *config, struct kp_arena *arena)
{
    const struct config_cloud *cloud = &config->cloud;
    struct kp_value *object = kp_value_object(arena), *zones = kp_value_array(arena);
    KP_AUTO_FREE char *copy = kp_strdup(cloud->zones);
    set(object, kp_streq(cloud->section, "aws") ? "profile" : "cloud", cloud->profile, arena);
    set(object, kp_streq(cloud->section, "hetzner") ? "networkZone" : "region", cloud->region, arena);
    set(object, "endpoint", cloud->endpoint, arena);
    set(object, "credentialsFile", cloud->credentials, arena);
    set(object, "network", cloud->network, arena);
    set(object, "externalNetwork", cloud->external, arena);
    for (char *rest = copy, *item; (item = strsep(&rest, " ")) != NULL;)
        if (*item)
            kp_value_append(arena, zones, kp_value_string(arena, item));
    if (zones->array.len)
        kp_value_set(arena, object, "zones", zones);
    set(object, "instanceProfile", cloud->instance_profile, arena);
    set(object, "apiEndpoint", cloud->api_endpoint, arena);
    return object;
}
