/* What the cloud itself has to say about a cluster before anything of it is made. */
#include "provisioner/cli/cli.h"
#include "provisioner/plan/plan.h"

struct cloud_bridge cli_bridge(const struct config *config)
{
    struct cloud_bridge bridge = {.name = kp_empty(config->libvirt.bridge) ? NULL : config->libvirt.bridge};
    if (bridge.name) {
        bridge.addresses = config->libvirt.addresses;
        bridge.gateway = config->libvirt.gateway;
        bridge.nameservers = config->libvirt.nameservers;
    }
    return bridge;
}

int cli_cloud_check_wish(const struct config *config, struct cloud *cloud, struct kp_arena *arena, struct kp_error *error)
{
    const struct cloud_machine_list none = {0};
    struct plan plan;
    int r = plan_make(config, &none, NULL, arena, &plan, error);
    if (r < 0)
        return r;
    const char **names = KP_NEW_ARRAY(arena, const char *, plan.n_machines + 1);
    for (size_t i = 0; i < plan.n_machines; i++)
        names[i] = plan.machines[i].name;
    const struct cloud_wish wish = {
        .cidr = kp_empty(config->network.machine_cidr) ? NULL : config->network.machine_cidr, .bridge = cli_bridge(config), .machines = names,
        .n_machines = plan.n_machines,
    };
    return cloud_check(cloud, &wish, error);
}
