/* Reads the cluster file by tables of fields: what is not in a table is refused with its line. */
#include "provisioner/config/config_internal.h"

static int fail_at(struct config_reader *reader, const struct kp_value *at, const char *path, const char *problem)
{
    return kp_fail(reader->error, KP_EINVALID, "%s:%d: %s: %s", reader->source, at ? at->line : 1, path, problem);
}

static const char *join(struct config_reader *reader, const char *path, const char *name)
{
    return *path ? kp_arena_printf(reader->arena, "%s.%s", path, name) : kp_arena_strdup(reader->arena, name);
}

#define FIELDS_MAX 24 /* of one table */

static int fail_unknown(struct config_reader *reader, const struct kp_member *member, const char *path, const struct config_field *fields)
{
    const char *names[FIELDS_MAX + 1] = {0};
    for (size_t i = 0; i < FIELDS_MAX && fields[i].name; i++)
        names[i] = fields[i].name;
    const char *close = kp_closest(member->key, names);
    return kp_fail(reader->error, KP_EINVALID, "%s:%d: unknown field \"%s\"%s%s%s", reader->source, member->value->line,
                   join(reader, path, member->key), close ? ": did you mean \"" : "", close ? close : "", close ? "\"?" : "");
}

/* Fills dest field by field; unknown fields, and required ones that are missing, fail. */
static int read_object(struct config_reader *reader, const struct kp_value *value, const char *path,
                       const struct config_field *fields, void *dest)
{
    if (value->kind != KP_VALUE_OBJECT)
        return fail_at(reader, value, path, "must be a map");
    for (size_t i = 0; i < value->object.len; i++) {
        const struct kp_member *member = &value->object.members[i];
        const struct config_field *field = fields;
        while (field->name && !kp_streq(field->name, member->key))
            field++;
        if (!field->name)
            return fail_unknown(reader, member, path, fields);
        if (member->value->kind == KP_VALUE_NULL)
            continue;
        int r = field->read(reader, member->value, join(reader, path, field->name), (char *)dest + field->offset);
        if (r < 0)
            return r;
    }
    for (const struct config_field *field = fields; field->name; field++) {
        if (field->required && !kp_value_get(value, field->name))
            return fail_at(reader, value, join(reader, path, field->name), "is required");
    }
    return 0;
}

static int read_string(struct config_reader *reader, const struct kp_value *value, const char *path, void *dest)
{
    if (value->kind != KP_VALUE_STRING)
        return fail_at(reader, value, path, "must be a string");
    *(const char **)dest = value->string;
    return 0;
}

static int read_bool(struct config_reader *reader, const struct kp_value *value, const char *path, void *dest)
{
    if (value->kind != KP_VALUE_BOOL)
        return fail_at(reader, value, path, "must be true or false");
    *(bool *)dest = value->boolean;
    return 0;
}

static int read_count(struct config_reader *reader, const struct kp_value *value, const char *path, void *dest)
{
    if (value->kind != KP_VALUE_INT)
        return fail_at(reader, value, path, "must be a whole number");
    if (value->integer < 0 || value->integer > CONFIG_REPLICAS_MAX)
        return fail_at(reader, value, path,
                       kp_arena_printf(reader->arena, "must be between 0 and %d, not %lld", CONFIG_REPLICAS_MAX,
                                       (long long)value->integer));
    *(int64_t *)dest = value->integer;
    return 0;
}

/* Values of flags and labels may look like numbers or booleans in YAML; their text is meant. */
static const char *scalar_text(struct config_reader *reader, const struct kp_value *value)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    switch (value->kind) {
    case KP_VALUE_STRING:
        return value->string;
    case KP_VALUE_BOOL:
    case KP_VALUE_INT:
    case KP_VALUE_DOUBLE:
        kp_value_print(value, &text);
        return kp_arena_strdup(reader->arena, text.data);
    default:
        return NULL;
    }
}

static int read_map(struct config_reader *reader, const struct kp_value *value, const char *path, bool any_scalar,
                    struct kp_string_map *dest)
{
    if (value->kind != KP_VALUE_OBJECT)
        return fail_at(reader, value, path, "must be a map of strings");
    for (size_t i = 0; i < value->object.len; i++) {
        const struct kp_member *member = &value->object.members[i];
        const char *text = any_scalar ? scalar_text(reader, member->value) : kp_value_str(member->value);
        if (!text)
            return fail_at(reader, member->value, join(reader, path, member->key), "must be a string");
        kp_string_map_set(reader->arena, dest, member->key, text);
    }
    return 0;
}

static int read_labels(struct config_reader *reader, const struct kp_value *value, const char *path, void *dest)
{
    struct kp_string_map *labels = dest;
    int r = read_map(reader, value, path, false, labels);
    for (size_t i = 0; r == 0 && i < labels->len; i++) {
        const char *fault = kp_validate_qualified_name(labels->items[i].key);
        if (!fault)
            fault = kp_validate_label_value(labels->items[i].value);
        if (fault)
            r = fail_at(reader, kp_value_get(value, labels->items[i].key), join(reader, path, labels->items[i].key), fault);
    }
    return r;
}

static const struct config_field taint_fields[] = {
    {"key", read_string, offsetof(struct config_taint, key), true},
    {"value", read_string, offsetof(struct config_taint, value), false},
    {"effect", read_string, offsetof(struct config_taint, effect), true},
    {0},
};

static int read_taints(struct config_reader *reader, const struct kp_value *value, const char *path, void *dest)
{
    struct config_pool *pool = KP_CONTAINER_OF(dest, struct config_pool, taints);
    if (value->kind != KP_VALUE_ARRAY || value->array.len > CONFIG_TAINTS_MAX)
        return fail_at(reader, value, path, "must be a list of at most 16 taints");
    for (size_t i = 0; i < value->array.len; i++) {
        struct config_taint *taint = &pool->taints[i];
        const struct kp_value *item = value->array.items[i];
        const char *item_path = kp_arena_printf(reader->arena, "%s[%zu]", path, i);
        taint->value = "";
        int r = read_object(reader, item, item_path, taint_fields, taint);
        if (r < 0)
            return r;
        const char *fault = kp_validate_qualified_name(taint->key);
        if (fault)
            return fail_at(reader, item, item_path, fault);
        if (!kp_streq(taint->effect, "NoSchedule") && !kp_streq(taint->effect, "PreferNoSchedule") &&
            !kp_streq(taint->effect, "NoExecute"))
            return fail_at(reader, item, join(reader, item_path, "effect"),
                           "must be NoSchedule, PreferNoSchedule or NoExecute");
    }
    pool->n_taints = value->array.len;
    return 0;
}

static const struct config_field pool_fields[] = {
    {"name", read_string, offsetof(struct config_pool, name), true},
    {"replicas", read_count, offsetof(struct config_pool, replicas), false},
    {"machine", read_string, offsetof(struct config_pool, machine), false},
    {"labels", read_labels, offsetof(struct config_pool, labels), false},
    {"taints", read_taints, offsetof(struct config_pool, taints), false},
    {0},
};

static int read_pools(struct config_reader *reader, const struct kp_value *value, const char *path, void *dest)
{
    struct config *config = KP_CONTAINER_OF(dest, struct config, pools);
    if (value->kind != KP_VALUE_ARRAY || value->array.len > CONFIG_POOLS_MAX)
        return fail_at(reader, value, path, "must be a list of at most 32 pools");
    config->pools = KP_NEW_ARRAY(reader->arena, struct config_pool, value->array.len + 1);
    config->n_pools = value->array.len;
    for (size_t i = 0; i < value->array.len; i++) {
        struct config_pool *pool = &config->pools[i];
        const struct kp_value *item = value->array.items[i];
        const char *item_path = kp_arena_printf(reader->arena, "%s[%zu]", path, i);
        *pool = (struct config_pool){.name = "", .machine = "", .replicas = 1};
        int r = read_object(reader, item, item_path, pool_fields, pool);
        if (r < 0)
            return r;
        for (size_t j = 0; j < i; j++) {
            if (kp_streq(config->pools[j].name, pool->name))
                return fail_at(reader, item, join(reader, item_path, "name"), "is the name of another pool too");
        }
    }
    return 0;
}

static int read_components(struct config_reader *reader, const struct kp_value *value, const char *path, void *dest)
{
    struct config *config = KP_CONTAINER_OF(dest, struct config, components);
    if (value->kind != KP_VALUE_OBJECT)
        return fail_at(reader, value, path, "must be a map from components to flags");
    config->components = KP_NEW_ARRAY(reader->arena, struct config_component, value->object.len + 1);
    for (size_t i = 0; i < value->object.len; i++) {
        const struct kp_member *member = &value->object.members[i];
        size_t known = 0;
        while (config_components[known] && !kp_streq(config_components[known], member->key))
            known++;
        if (!config_components[known])
            return kp_fail(reader->error, KP_EINVALID, "%s:%d: unknown field \"%s.%s\"", reader->source,
                           member->value->line, path, member->key);
        struct config_component *component = &config->components[config->n_components++];
        component->name = member->key;
        int r = read_map(reader, member->value, join(reader, path, member->key), true, &component->flags);
        if (r < 0)
            return r;
        if (component->flags.len > CONFIG_ARGS_MAX)
            return fail_at(reader, member->value, join(reader, path, member->key), "has more than 64 flags");
    }
    return 0;
}

static const struct config_field metadata_fields[] = {
    {"name", read_string, offsetof(struct config, name), true},
    {0},
};
static const struct config_field control_plane_fields[] = {
    {"replicas", read_count, offsetof(struct config, control_plane.replicas), false},
    {"machine", read_string, offsetof(struct config, control_plane.machine), false},
    {0},
};
static const struct config_field network_fields[] = {
    {"podCIDR", read_string, offsetof(struct config, network.pod_cidr), false},
    {"serviceCIDR", read_string, offsetof(struct config, network.service_cidr), false},
    {"dnsDomain", read_string, offsetof(struct config, network.dns_domain), false},
    {"machineCIDR", read_string, offsetof(struct config, network.machine_cidr), false},
    {0},
};

/* A list of ranges, kept as one text with commas. */
static int read_addresses(struct config_reader *reader, const struct kp_value *value, const char *path, void *dest)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    if (value->kind != KP_VALUE_ARRAY)
        return fail_at(reader, value, path, "must be a list of addresses and ranges");
    for (size_t i = 0; i < value->array.len; i++) {
        const char *text = kp_value_str(value->array.items[i]);
        if (kp_empty(text) || strchr(text, ','))
            return fail_at(reader, value->array.items[i], kp_arena_printf(reader->arena, "%s[%zu]", path, i), "must be an address or a range");
        kp_buf_printf(&out, "%s%s", out.len ? "," : "", text);
    }
    *(const char **)dest = kp_arena_strndup(reader->arena, out.len ? out.data : "", out.len);
    return 0;
}

static const struct config_field load_balancer_fields[] = {
    {"addresses", read_addresses, offsetof(struct config, load_balancer.addresses), false},
    {0},
};

static int read_load_balancer(struct config_reader *reader, const struct kp_value *value, const char *path, void *dest)
{
    return read_object(reader, value, path, load_balancer_fields, dest);
}

/* A list of addresses, kept as one text with spaces. */
static int read_nameservers(struct config_reader *reader, const struct kp_value *value, const char *path, void *dest)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    if (value->kind != KP_VALUE_ARRAY)
        return fail_at(reader, value, path, "must be a list of addresses");
    for (size_t i = 0; i < value->array.len; i++) {
        const char *text = kp_value_str(value->array.items[i]);
        if (kp_empty(text) || strchr(text, ' '))
            return fail_at(reader, value->array.items[i], kp_arena_printf(reader->arena, "%s[%zu]", path, i), "must be an address");
        kp_buf_printf(&out, "%s%s", out.len ? " " : "", text);
    }
    *(const char **)dest = kp_arena_strndup(reader->arena, out.len ? out.data : "", out.len);
    return 0;
}

/* Kept as one text with spaces; config_check_time looks at each. */
static int read_time_servers(struct config_reader *reader, const struct kp_value *value, const char *path, void *dest)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    if (value->kind != KP_VALUE_ARRAY || value->array.len > CONFIG_TIME_SERVERS_MAX)
        return fail_at(reader, value, path, "must be a list of at most 8 host names or addresses");
    for (size_t i = 0; i < value->array.len; i++) {
        const char *text = kp_value_str(value->array.items[i]);
        if (kp_empty(text) || strpbrk(text, " \t\r\n"))
            return fail_at(reader, value->array.items[i], kp_arena_printf(reader->arena, "%s[%zu]", path, i), "must be a host name or an address");
        kp_buf_printf(&out, "%s%s", out.len ? " " : "", text);
    }
    *(const char **)dest = kp_arena_strndup(reader->arena, out.len ? out.data : "", out.len);
    return 0;
}

static const struct config_field libvirt_fields[] = {
    {"uri", read_string, offsetof(struct config, libvirt.uri), false},
    {"bridge", read_string, offsetof(struct config, libvirt.bridge), false},
    {"addresses", read_string, offsetof(struct config, libvirt.addresses), false},
    {"gateway", read_string, offsetof(struct config, libvirt.gateway), false},
    {"nameservers", read_nameservers, offsetof(struct config, libvirt.nameservers), false},
    {0},
};

static int read_libvirt(struct config_reader *reader, const struct kp_value *value, const char *path, void *dest)
{
    return read_object(reader, value, path, libvirt_fields, dest);
}

/* Names of zones, kept as one text with spaces; machines go to them in turn, so none counts twice. */
static int read_zones(struct config_reader *reader, const struct kp_value *value, const char *path, void *dest)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    if (value->kind != KP_VALUE_ARRAY || value->array.len > CONFIG_ZONES_MAX)
        return fail_at(reader, value, path, "must be a list of at most 16 zones");
    for (size_t i = 0; i < value->array.len; i++) {
        const struct kp_value *item = value->array.items[i];
        const char *text = kp_value_str(item), *item_path = kp_arena_printf(reader->arena, "%s[%zu]", path, i);
        if (kp_empty(text) || strpbrk(text, " \t\n"))
            return fail_at(reader, item, item_path, "must be the name of a zone");
        for (size_t j = 0; j < i; j++)
            if (kp_streq(kp_value_str(value->array.items[j]), text))
                return fail_at(reader, item, item_path, "is listed twice");
        kp_buf_printf(&out, "%s%s", out.len ? " " : "", text);
    }
    *(const char **)dest = kp_arena_strndup(reader->arena, out.len ? out.data : "", out.len);
    return 0;
}

static int read_api_endpoint(struct config_reader *reader, const struct kp_value *value, const char *path, void *dest)
{
    const char *text = kp_value_str(value);
    if (!kp_streq(text, CONFIG_LOAD_BALANCER) && !kp_streq(text, CONFIG_VIRTUAL_ADDRESS))
        return fail_at(reader, value, path, "must be " CONFIG_LOAD_BALANCER " or " CONFIG_VIRTUAL_ADDRESS);
    *(const char **)dest = text;
    return 0;
}

#define CLOUD_FIELD(name, reader, member) {name, reader, offsetof(struct config_cloud, member), false}
#define CLOUD_FIELDS                                                                                                         \
    CLOUD_FIELD("endpoint", read_string, endpoint), CLOUD_FIELD("credentialsFile", read_string, credentials),                \
        CLOUD_FIELD("network", read_string, network), CLOUD_FIELD("zones", read_zones, zones),                               \
        CLOUD_FIELD("apiEndpoint", read_api_endpoint, api_endpoint)
static const struct config_field openstack_fields[] = {
    CLOUD_FIELD("cloud", read_string, profile), CLOUD_FIELD("region", read_string, region),
    CLOUD_FIELD("externalNetwork", read_string, external), CLOUD_FIELDS, {0},
};
static const struct config_field aws_fields[] = {
    CLOUD_FIELD("profile", read_string, profile), CLOUD_FIELD("region", read_string, region),
    CLOUD_FIELD("instanceProfile", read_string, instance_profile), CLOUD_FIELDS, {0},
};
static const struct config_field hetzner_fields[] = {CLOUD_FIELD("networkZone", read_string, region), CLOUD_FIELDS, {0}};

static int read_cloud(struct config_reader *reader, const struct kp_value *value, const char *path, const char *section,
                      const struct config_field *fields, struct config_cloud *cloud)
{
    if (*cloud->section)
        return fail_at(reader, value, path, kp_arena_printf(reader->arena, "and spec.%s: a cluster has one provider", cloud->section));
    cloud->section = section;
    return read_object(reader, value, path, fields, cloud);
}

static int read_openstack(struct config_reader *reader, const struct kp_value *value, const char *path, void *dest)
{
    return read_cloud(reader, value, path, "openstack", openstack_fields, dest);
}

static int read_aws(struct config_reader *reader, const struct kp_value *value, const char *path, void *dest)
{
    return read_cloud(reader, value, path, "aws", aws_fields, dest);
}

static int read_hetzner(struct config_reader *reader, const struct kp_value *value, const char *path, void *dest)
{
    return read_cloud(reader, value, path, "hetzner", hetzner_fields, dest);
}

static int read_metadata(struct config_reader *reader, const struct kp_value *value, const char *path, void *dest)
{
    return read_object(reader, value, path, metadata_fields, dest);
}

static int read_control_plane(struct config_reader *reader, const struct kp_value *value, const char *path, void *dest)
{
    return read_object(reader, value, path, control_plane_fields, dest);
}

static int read_network(struct config_reader *reader, const struct kp_value *value, const char *path, void *dest)
{
    return read_object(reader, value, path, network_fields, dest);
}

static int read_port(struct config_reader *reader, const struct kp_value *value, const char *path, void *dest)
{
    if (value->kind != KP_VALUE_INT || value->integer < 1 || value->integer > 65535)
        return fail_at(reader, value, path, "must be a port from 1 to 65535");
    *(int64_t *)dest = value->integer;
    return 0;
}

static const struct config_field external_machine_fields[] = {
    {"address", read_string, offsetof(struct config_external_machine, address), true},
    {"port", read_port, offsetof(struct config_external_machine, port), false},
    {"user", read_string, offsetof(struct config_external_machine, user), false},
    {"keyFile", read_string, offsetof(struct config_external_machine, key_file), false},
    {"hostKey", read_string, offsetof(struct config_external_machine, host_key), false},
    {"knownHosts", read_string, offsetof(struct config_external_machine, known_hosts), false},
    {"role", read_string, offsetof(struct config_external_machine, role), true},
    {"pool", read_string, offsetof(struct config_external_machine, pool), false},
    {0},
};

static int read_external_machines(struct config_reader *reader, const struct kp_value *value, const char *path, void *dest)
{
    struct config *config = KP_CONTAINER_OF(dest, struct config, external.machines);
    if (value->kind != KP_VALUE_ARRAY || value->array.len > CONFIG_EXTERNAL_MAX)
        return fail_at(reader, value, path, "must be a list of at most 500 machines");
    config->external.machines = KP_NEW_ARRAY(reader->arena, struct config_external_machine, value->array.len + 1);
    config->external.n_machines = value->array.len;
    for (size_t i = 0; i < value->array.len; i++) {
        struct config_external_machine *machine = &config->external.machines[i];
        *machine = (struct config_external_machine){.address = "", .port = 22, .user = "root", .key_file = "", .host_key = "",
                                                    .known_hosts = "", .role = "", .pool = ""};
        int r = read_object(reader, value->array.items[i], kp_arena_printf(reader->arena, "%s[%zu]", path, i), external_machine_fields,
                            machine);
        if (r < 0)
            return r;
    }
    return 0;
}

static const struct config_field external_fields[] = {
    {"apiAddress", read_string, offsetof(struct config, external.api_address), true},
    {"machines", read_external_machines, offsetof(struct config, external.machines), true},
    {0},
};

static int read_external(struct config_reader *reader, const struct kp_value *value, const char *path, void *dest)
{
    return read_object(reader, value, path, external_fields, dest);
}

static const struct config_field snapshot_fields[] = {
    {"every", read_string, offsetof(struct config, snapshots.every), false},
    {"keep", read_count, offsetof(struct config, snapshots.keep), false},
    {"dir", read_string, offsetof(struct config, snapshots.dir), false},
    {0},
};

static int read_snapshots(struct config_reader *reader, const struct kp_value *value, const char *path, void *dest)
{
    return read_object(reader, value, path, snapshot_fields, dest);
}

static const struct config_field etcd_fields[] = {
    {"snapshots", read_snapshots, 0, false},
    {0},
};

static int read_etcd(struct config_reader *reader, const struct kp_value *value, const char *path, void *dest)
{
    return read_object(reader, value, path, etcd_fields, dest);
}

/* The policy as it stands in a file of its own, with apiVersion and kind. */
static int read_audit_policy(struct config_reader *reader, const struct kp_value *value, const char *path, void *dest)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    if (value->kind != KP_VALUE_OBJECT)
        return fail_at(reader, value, path, "must be a Policy of audit.k8s.io/v1");
    kp_value_print(value, &text);
    *(const char **)dest = kp_arena_strndup(reader->arena, text.data, text.len);
    return config_check_audit(*(const char **)dest, kp_arena_printf(reader->arena, "%s:%d: %s", reader->source, value->line, path), reader->error);
}

static const struct config_field audit_fields[] = {
    {"policy", read_audit_policy, offsetof(struct config, audit_policy), true},
    {0},
};

static int read_audit(struct config_reader *reader, const struct kp_value *value, const char *path, void *dest)
{
    return read_object(reader, value, path, audit_fields, dest);
}

static const struct config_field spec_fields[] = {
    {"provider", read_string, offsetof(struct config, provider), false},
    {"kubernetesVersion", read_string, offsetof(struct config, kubernetes_version), false},
    {"controlPlane", read_control_plane, 0, false},
    {"nodePools", read_pools, offsetof(struct config, pools), false},
    {"network", read_network, 0, false},
    {"loadBalancer", read_load_balancer, 0, false},
    {"etcd", read_etcd, 0, false},
    {"timeServers", read_time_servers, offsetof(struct config, time_servers), false},
    {"audit", read_audit, 0, false},
    {"componentArgs", read_components, offsetof(struct config, components), false},
    {"external", read_external, 0, false},
    {"libvirt", read_libvirt, 0, false},
    {"openstack", read_openstack, offsetof(struct config, cloud), false},
    {"aws", read_aws, offsetof(struct config, cloud), false},
    {"hetzner", read_hetzner, offsetof(struct config, cloud), false},
    {"image", read_string, offsetof(struct config, image), false},
    {"deletionProtection", read_bool, offsetof(struct config, deletion_protection), false},
    {0},
};

static int read_spec(struct config_reader *reader, const struct kp_value *value, const char *path, void *dest)
{
    return read_object(reader, value, path, spec_fields, dest);
}

static int read_fixed(struct config_reader *reader, const struct kp_value *value, const char *path, void *dest)
{
    const char *wanted = kp_streq(path, "kind") ? "Cluster" : CONFIG_API_VERSION;
    if (!kp_streq(kp_value_str(value), wanted))
        return fail_at(reader, value, path, kp_arena_printf(reader->arena, "must be \"%s\"", wanted));
    return 0;
}

static const struct config_field document_fields[] = {
    {"apiVersion", read_fixed, 0, true},
    {"kind", read_fixed, 0, true},
    {"metadata", read_metadata, 0, true},
    {"spec", read_spec, 0, false},
    {0},
};

int config_parse(const char *text, size_t len, const char *source, struct kp_arena *arena, struct config *ret,
                 struct kp_error *error)
{
    struct kp_value **documents = NULL;
    size_t count = 0;
    if (kp_yaml_parse(text, len, arena, &documents, &count, error) < 0)
        return kp_wrap(error, "%s", source);
    if (count != 1)
        return kp_fail(error, KP_EINVALID, "%s: must hold one document, not %zu", source, count);
    struct config_reader reader = {.arena = arena, .source = source, .error = error};
    config_default("", 1, 0, arena, ret);
    ret->kubernetes_version = "";
    ret->n_pools = 0;
    int r = read_object(&reader, documents[0], "", document_fields, ret);
    if (r < 0)
        return r;
    if (config_validate(ret, error) < 0)
        return kp_wrap(error, "%s", source);
    return 0;
}

int config_load(const char *path, struct kp_arena *arena, struct config *ret, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    int r = kp_read_file(path, CONFIG_FILE_MAX, &text, error);
    if (r < 0)
        return r;
    const char *slash = strrchr(path, '/');
    return config_parse(text.data ? text.data : "", text.len, slash ? slash + 1 : path, arena, ret, error);
}
