/* spec.external: the machines of a cluster whose machines exist already - its rules, and its text. */
#include <arpa/inet.h>

#include "provisioner/config/config_internal.h"

static bool is_ipv4(const char *text)
{
    struct in_addr address;
    return inet_pton(AF_INET, text, &address) == 1;
}

static int check_machine(const struct config *config, size_t i, struct kp_error *error)
{
    const struct config_external_machine *machine = &config->external.machines[i];
    bool control_plane = kp_streq(machine->role, "control-plane"), pool_known = kp_empty(machine->pool);
    if (!is_ipv4(machine->address))
        return kp_fail(error, KP_EINVALID, "spec.external.machines[%zu].address: \"%s\" must be an IPv4 address: nodes are told it", i,
                       machine->address);
    if (!control_plane && !kp_streq(machine->role, "worker"))
        return kp_fail(error, KP_EINVALID, "spec.external.machines[%zu].role: \"%s\" must be control-plane or worker", i, machine->role);
    for (size_t j = 0; j < config->n_pools; j++)
        pool_known |= kp_streq(config->pools[j].name, machine->pool);
    if (!pool_known || (control_plane && *machine->pool))
        return kp_fail(error, KP_EINVALID, "spec.external.machines[%zu].pool: \"%s\" must be the name of a pool in spec.nodePools, of a worker",
                       i, machine->pool);
    if (*machine->host_key && *machine->known_hosts)
        return kp_fail(error, KP_EINVALID, "spec.external.machines[%zu]: give hostKey or knownHosts, not both", i);
    if (*machine->host_key && (!strchr(machine->host_key, ' ') || strpbrk(machine->host_key, "\n\r")))
        return kp_fail(error, KP_EINVALID,
                       "spec.external.machines[%zu].hostKey: must be a type and a key, as /etc/ssh/ssh_host_ed25519_key.pub there has them", i);
    if (kp_streq(machine->address, config->external.api_address))
        return kp_fail(error, KP_EINVALID, "spec.external.apiAddress: %s is a machine's own: give one that is free, it moves between control planes",
                       machine->address);
    for (size_t j = 0; j < i; j++)
        if (kp_streq(config->external.machines[j].address, machine->address))
            return kp_fail(error, KP_EINVALID, "spec.external.machines[%zu].address: %s is listed twice", i, machine->address);
    return 0;
}

/* Machines without a pool serve any; each pool takes its own first. */
static int check_enough(const struct config *config, struct kp_error *error)
{
    int64_t control_planes = 0, any = 0;
    for (size_t i = 0; i < config->external.n_machines; i++) {
        bool control_plane = kp_streq(config->external.machines[i].role, "control-plane");
        control_planes += control_plane;
        any += !control_plane && kp_empty(config->external.machines[i].pool);
    }
    if (control_planes < config->control_plane.replicas)
        return kp_fail(error, KP_EINVALID, "spec.external.machines: %lld control planes are wanted, %lld machines have that role",
                       (long long)config->control_plane.replicas, (long long)control_planes);
    for (size_t j = 0; j < config->n_pools; j++) {
        int64_t own = 0;
        for (size_t i = 0; i < config->external.n_machines; i++)
            own += kp_streq(config->external.machines[i].role, "worker") && kp_streq(config->external.machines[i].pool, config->pools[j].name);
        any -= KP_MAX(config->pools[j].replicas - own, 0);
        if (any < 0)
            return kp_fail(error, KP_EINVALID, "spec.external.machines: too few workers for the %lld of pool \"%s\": list more, or lower its replicas",
                           (long long)config->pools[j].replicas, config->pools[j].name);
    }
    return 0;
}

int config_check_external(const struct config *config, struct kp_error *error)
{
    bool external = kp_streq(config->provider, "external");
    if (!external && config->external.n_machines)
        return kp_fail(error, KP_EINVALID, "spec.external: is for provider \"external\", not \"%s\"", config->provider);
    if (!external)
        return 0;
    if (config->external.n_machines == 0)
        return kp_fail(error, KP_EINVALID, "spec.external: provider \"external\" needs apiAddress and machines: describe the cluster in a file");
    if (!is_ipv4(config->external.api_address))
        return kp_fail(error, KP_EINVALID, "spec.external.apiAddress: \"%s\" must be a free IPv4 address of the machines' network",
                       config->external.api_address);
    for (size_t i = 0; i < config->external.n_machines; i++) {
        int r = check_machine(config, i, error);
        if (r < 0)
            return r;
    }
    return check_enough(config, error);
}

struct kp_value *config_external_value(const struct config *config, struct kp_arena *arena)
{
    struct kp_value *object = kp_value_object(arena), *machines = kp_value_array(arena);
    kp_value_set(arena, object, "apiAddress", kp_value_string(arena, config->external.api_address));
    for (size_t i = 0; i < config->external.n_machines; i++) {
        const struct config_external_machine *machine = &config->external.machines[i];
        const char *const strings[][2] = {
            {"address", machine->address}, {"user", machine->user}, {"keyFile", machine->key_file}, {"hostKey", machine->host_key},
            {"knownHosts", machine->known_hosts}, {"role", machine->role}, {"pool", machine->pool},
        };
        struct kp_value *value = kp_value_object(arena);
        for (size_t j = 0; j < KP_ARRAY_LEN(strings); j++)
            kp_value_set(arena, value, strings[j][0], kp_value_string(arena, strings[j][1]));
        kp_value_set(arena, value, "port", kp_value_int(arena, machine->port));
        kp_value_append(arena, machines, value);
    }
    kp_value_set(arena, object, "machines", machines);
    return object;
}
