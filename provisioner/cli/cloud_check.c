/* What the cloud itself has to say about a cluster before anything of it is made; and what that will be. */
#include "provisioner/cli/operation_internal.h"

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

static int plan_of(const struct config *config, struct kp_arena *arena, struct plan *ret, struct kp_error *error)
{
    const struct cloud_machine_list none = {0};
    return plan_make(config, &none, NULL, arena, ret, error);
}

int cli_cloud_check_wish(const struct config *config, struct cloud *cloud, struct kp_arena *arena, struct kp_error *error)
{
    struct plan plan;
    struct cloud_export export;
    int r = plan_of(config, arena, &plan, error);
    if (r < 0)
        return r;
    const char **names = KP_NEW_ARRAY(arena, const char *, plan.n_machines + 1), **types = KP_NEW_ARRAY(arena, const char *, plan.n_machines + 1);
    for (size_t i = 0; i < plan.n_machines; i++) {
        names[i] = plan.machines[i].name;
        types[i] = plan.machines[i].machine_type;
    }
    const struct cloud_wish wish = {
        .cidr = kp_empty(config->network.machine_cidr) ? NULL : config->network.machine_cidr, .bridge = cli_bridge(config), .machines = names,
        .machine_types = types, .n_machines = plan.n_machines, .existing = config->cloud.network, .external = config->cloud.external,
        .zones = config->cloud.zones, .n_balancers = cli_is_balanced(config, cloud) ? 1 : 0,
    };
    r = cloud_check(cloud, &wish, error);
    /* The cloud-controller-manager has to get in too. */
    return r < 0 || !cloud_can(cloud, CLOUD_HAS_NODE_FACTS) ? r : cloud_account_export(cloud, arena, &export, error);
}

/* ---- what will be made */

static void add_row(struct kp_value *list, const char *object, const char *name, const char *size, const char *detail, struct kp_arena *arena)
{
    const char *const cells[][2] = {{"object", object}, {"name", name}, {"size", size}, {"detail", detail}};
    struct kp_value *row = kp_value_object(arena);
    for (size_t i = 0; i < KP_ARRAY_LEN(cells); i++)
        kp_value_set(arena, row, cells[i][0], kp_value_string(arena, cells[i][1]));
    kp_value_append(arena, list, row);
}

static const char *size_of(const struct cloud_machine_type_list *types, const char *name, struct kp_arena *arena)
{
    for (size_t i = 0; i < types->len; i++) {
        const struct cloud_machine_type *type = &types->items[i];
        if (kp_streq(type->name, name))
            return kp_arena_printf(arena, "%s: %d vCPU, %lld MiB%s", name, type->vcpus, (long long)type->memory_mib,
                                   type->disk_gib ? kp_arena_printf(arena, ", %lld GiB", (long long)type->disk_gib) : "");
    }
    return kp_empty(name) ? "the driver's default" : name;
}

static void add_network_rows(const struct config *config, const struct cloud *cloud, struct kp_value *list, struct kp_arena *arena)
{
    const char *cidr = kp_empty(config->network.machine_cidr) ? "a free range" : config->network.machine_cidr;
    if (*config->cloud.network)
        add_row(list, "network", config->cloud.network, "", "is there, and stays", arena);
    else
        add_row(list, "network", "", cidr, *config->cloud.zones ? kp_arena_printf(arena, "in %s", config->cloud.zones) : "", arena);
    const char *public = cloud_can(cloud, CLOUD_HAS_PUBLIC_ADDRESSES) ? "with a public address" : "";
    if (cli_is_balanced(config, cloud))
        add_row(list, "load balancer", CLI_API_BALANCER, "", kp_arena_printf(arena, "port %d of the control planes", BOOTSTRAP_API_PORT), arena);
    else
        add_row(list, "address", kp_arena_printf(arena, "%s-api", config->name), "", public, arena);
}

int cli_wish_rows(const struct config *config, struct cloud *cloud, struct kp_arena *arena, struct kp_value **ret, struct kp_error *error)
{
    struct plan plan;
    struct cloud_machine_type_list types = {0};
    struct kp_value *list = kp_value_array(arena);
    struct kp_error why = {0};
    int r = plan_of(config, arena, &plan, error);
    if (r < 0)
        return r;
    r = cloud_machine_types(cloud, arena, &types, &why);
    if (r < 0 && r != KP_ENOTSUPPORTED) /* where machines have any size */
        return kp_fail(error, r, "%s", why.message);
    if (!cloud_can(cloud, CLOUD_CAN_LOCAL_IMAGES))
        add_row(list, "image", kp_empty(config->image) ? "of this kprov" : config->image, "", "uploaded when the cloud has it not; it stays there", arena);
    add_network_rows(config, cloud, list, arena);
    for (size_t i = 0; i < plan.n_machines; i++)
        add_row(list, "machine", plan.machines[i].name, size_of(&types, plan.machines[i].machine_type, arena), plan.machines[i].role, arena);
    *ret = list;
    return 0;
}

void cli_wish_print(const struct kp_value *rows, enum cli_output output)
{
    static const char *const columns[] = {"object", "name", "size", "detail", NULL};
    cli_print_list(rows, columns, output);
    fflush(stdout);
}

void cli_wish_tell(const struct kp_value *rows)
{
    for (size_t i = 0; i < rows->array.len; i++) {
        const struct kp_value *row = rows->array.items[i];
        fprintf(stderr, "  %-14s %-24s %-36s %s\n", kp_value_str(kp_value_get(row, "object")), kp_value_str(kp_value_get(row, "name")),
                kp_value_str(kp_value_get(row, "size")), kp_value_str(kp_value_get(row, "detail")));
    }
}
