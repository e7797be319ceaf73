/* Pod specs, alone and inside templates: the defaults the schema cannot say, and validation. */
#include "controlplane/apiserver/registry/strategy_internal.h"

/* ---- defaults --------------------------------------------------------------------------------------------------- */
/* "latest", or no tag and no digest, is looked for anew each time. */
static const char *default_pull_policy(const char *image)
{
    const char *slash = strrchr(image, '/');
    const char *tail = slash ? slash + 1 : image;
    if (strchr(tail, '@'))
        return "IfNotPresent";
    const char *colon = strchr(tail, ':');
    return !colon || strcmp(colon, ":latest") == 0 ? "Always" : "IfNotPresent";
}

static void requests_from_limits(struct kp_arena *arena, struct k8s_resource_requirements *resources)
{
    if (!resources)
        return;
    for (size_t i = 0; i < resources->limits.len; i++) {
        const char *name = resources->limits.items[i].key;
        if (!kp_string_map_get(&resources->requests, name))
            kp_string_map_set(arena, &resources->requests, name, resources->limits.items[i].value);
    }
}

static void container_defaults(struct kp_arena *arena, struct k8s_container *container, bool host_network)
{
    if (kp_empty(container->image_pull_policy))
        container->image_pull_policy = default_pull_policy(container->image ? container->image : "");
    requests_from_limits(arena, container->resources);
    for (size_t i = 0; host_network && i < container->ports.len; i++) {
        struct k8s_container_port *port = &container->ports.items[i];
        if (!port->host_port)
            KP_SET(port, host_port, port->container_port);
    }
}

static void volume_defaults(struct kp_arena *arena, struct k8s_volume *volume)
{
    /* A volume without a source is an empty folder. */
    const size_t sources = offsetof(struct k8s_volume, host_path);
    const void *const *source = (const void *const *)(const void *)((const char *)volume + sources);
    for (size_t i = 0; i < (sizeof(*volume) - sources) / sizeof(void *); i++)
        if (source[i])
            return;
    volume->empty_dir = KP_OBJECT_NEW(arena, k8s_empty_dir_volume_source);
}

void pod_spec_defaults(struct kp_arena *arena, struct k8s_pod_spec *spec)
{
    bool host_network = spec->has_host_network && spec->host_network;
    for (size_t i = 0; i < spec->volumes.len; i++)
        volume_defaults(arena, &spec->volumes.items[i]);
    for (size_t i = 0; i < spec->init_containers.len; i++)
        container_defaults(arena, &spec->init_containers.items[i], host_network);
    for (size_t i = 0; i < spec->containers.len; i++)
        container_defaults(arena, &spec->containers.items[i], host_network);
    /* Either spelling of the account fills in the other. */
    if (kp_empty(spec->service_account_name))
        spec->service_account_name = spec->service_account;
    spec->service_account = spec->service_account_name;
}

void pod_template_defaults(struct kp_arena *arena, struct k8s_pod_template_spec *tpl)
{
    if (tpl && tpl->spec) {
        kp_object_default(&k8s_pod_spec_type, tpl->spec, arena);
        pod_spec_defaults(arena, tpl->spec);
    }
}

/* ---- validation ------------------------------------------------------------------------------------------------- */
const char *validate_under(struct field_errors *errors, const char *path, const char *name)
{
    return kp_empty(path) ? name : kp_arena_printf(errors->arena, "%s.%s", path, name);
}

static void validate_port_number(int32_t port, struct field_errors *errors, const char *path)
{
    if (port < 1 || port > 65535)
        field_invalid_int(errors, port, "must be between 1 and 65535, inclusive", "%s", path);
}

static void validate_ports(const struct k8s_container *container, struct field_errors *errors, const char *path)
{
    for (size_t i = 0; i < container->ports.len; i++) {
        const struct k8s_container_port *port = &container->ports.items[i];
        const char *at = kp_arena_printf(errors->arena, "%s.ports[%zu]", path, i);
        const char *fault = kp_empty(port->name) ? NULL : port_name_check(port->name);
        if (fault)
            field_invalid(errors, port->name, fault, "%s.name", at);
        for (size_t j = 0; !kp_empty(port->name) && j < i; j++)
            if (kp_streq(container->ports.items[j].name, port->name))
                field_duplicate(errors, port->name, "%s.name", at);
        if (!port->container_port)
            field_required(errors, "", "%s.containerPort", at);
        else
            validate_port_number(port->container_port, errors, validate_under(errors, at, "containerPort"));
        if (port->host_port)
            validate_port_number(port->host_port, errors, validate_under(errors, at, "hostPort"));
    }
}

static void validate_env(const struct k8s_container *container, struct field_errors *errors, const char *path)
{
    for (size_t i = 0; i < container->env.len; i++) {
        const struct k8s_env_var *env = &container->env.items[i];
        if (kp_empty(env->name))
            field_required(errors, "", "%s.env[%zu].name", path, i);
        else if (strchr(env->name, '='))
            field_invalid(errors, env->name, "a valid environment variable name must consist only of printable ASCII characters other than '='",
                          "%s.env[%zu].name", path, i);
        if (env->value_from && !kp_empty(env->value))
            field_invalid(errors, "", "may not be specified when `value` is not empty", "%s.env[%zu].valueFrom", path, i);
    }
}

static const struct k8s_volume *find_volume(const struct k8s_pod_spec *spec, const char *name)
{
    for (size_t i = 0; i < spec->volumes.len; i++)
        if (kp_streq(spec->volumes.items[i].name, name))
            return &spec->volumes.items[i];
    return NULL;
}

static void validate_mounts(const struct k8s_pod_spec *spec, const struct k8s_container *container, struct field_errors *errors, const char *path)
{
    for (size_t i = 0; i < container->volume_mounts.len; i++) {
        const struct k8s_volume_mount *mount = &container->volume_mounts.items[i];
        if (kp_empty(mount->name))
            field_required(errors, "", "%s.volumeMounts[%zu].name", path, i);
        else if (!find_volume(spec, mount->name))
            field_not_found(errors, mount->name, "%s.volumeMounts[%zu].name", path, i);
        if (kp_empty(mount->mount_path))
            field_required(errors, "", "%s.volumeMounts[%zu].mountPath", path, i);
        for (size_t j = 0; !kp_empty(mount->mount_path) && j < i; j++)
            if (kp_streq(container->volume_mounts.items[j].mount_path, mount->mount_path))
                field_invalid(errors, mount->mount_path, "must be unique", "%s.volumeMounts[%zu].mountPath", path, i);
    }
}

static void validate_quantities(const struct kp_string_map *map, struct field_errors *errors, const char *path)
{
    for (size_t i = 0; i < map->len; i++) {
        struct kp_quantity q = kp_quantity_of(map->items[i].value);
        if (q.nanos < 0)
            field_invalid(errors, map->items[i].value, "must be greater than or equal to 0", "%s[%s]", path, map->items[i].key);
    }
}

static void validate_resources(const struct k8s_resource_requirements *resources, struct field_errors *errors, const char *path)
{
    if (!resources)
        return;
    validate_quantities(&resources->limits, errors, validate_under(errors, path, "resources.limits"));
    validate_quantities(&resources->requests, errors, validate_under(errors, path, "resources.requests"));
    for (size_t i = 0; i < resources->requests.len; i++) {
        const char *name = resources->requests.items[i].key, *request = resources->requests.items[i].value;
        const char *limit = kp_string_map_get(&resources->limits, name);
        if (limit && kp_quantity_str_cmp(request, limit) > 0)
            field_invalid(errors, request, kp_arena_printf(errors->arena, "must be less than or equal to %s limit of %s", name, limit),
                          "%s.resources.requests", path);
    }
}

static void validate_probe(const struct k8s_probe *probe, struct field_errors *errors, const char *path, bool success_one)
{
    if (!probe)
        return;
    int handlers = !!probe->exec + !!probe->http_get + !!probe->tcp_socket + !!probe->grpc;
    if (!handlers)
        field_required(errors, "must specify a handler type", "%s", path);
    if (handlers > 1)
        field_forbidden(errors, "may not specify more than 1 handler type", "%s", path);
    validate_non_negative(probe->initial_delay_seconds, errors, validate_under(errors, path, "initialDelaySeconds"));
    validate_non_negative(probe->timeout_seconds, errors, validate_under(errors, path, "timeoutSeconds"));
    validate_non_negative(probe->period_seconds, errors, validate_under(errors, path, "periodSeconds"));
    if (success_one && probe->success_threshold != 1)
        field_invalid_int(errors, probe->success_threshold, "must be 1", "%s.successThreshold", path);
}

static void validate_container(const struct k8s_pod_spec *spec, const struct k8s_container *container, struct field_errors *errors, const char *path)
{
    const char *fault = kp_empty(container->name) ? NULL : name_is_label(container->name);
    if (kp_empty(container->name))
        field_required(errors, "", "%s.name", path);
    else if (fault)
        field_invalid(errors, container->name, fault, "%s.name", path);
    if (kp_empty(container->image))
        field_required(errors, "", "%s.image", path);
    else if (strcspn(container->image, " \t\n") == 0 || strchr(" \t\n", container->image[strlen(container->image) - 1]))
        field_invalid(errors, container->image, "must not have leading or trailing whitespace", "%s.image", path);
    validate_ports(container, errors, path);
    validate_env(container, errors, path);
    validate_mounts(spec, container, errors, path);
    validate_devices(spec, container, errors, path);
    validate_resources(container->resources, errors, path);
    validate_probe(container->liveness_probe, errors, validate_under(errors, path, "livenessProbe"), true);
    validate_probe(container->readiness_probe, errors, validate_under(errors, path, "readinessProbe"), false);
    validate_probe(container->startup_probe, errors, validate_under(errors, path, "startupProbe"), true);
}

static bool name_used(const struct k8s_container_items *containers, size_t until, const char *name)
{
    for (size_t i = 0; i < until; i++)
        if (kp_streq(containers->items[i].name, name))
            return true;
    return false;
}

static void validate_containers(const struct k8s_pod_spec *spec, struct field_errors *errors, const char *path)
{
    if (!spec->containers.len)
        field_required(errors, "", "%s", validate_under(errors, path, "containers"));
    for (size_t i = 0; i < spec->containers.len; i++) {
        const char *at = kp_arena_printf(errors->arena, "%s[%zu]", validate_under(errors, path, "containers"), i);
        validate_container(spec, &spec->containers.items[i], errors, at);
        if (!kp_empty(spec->containers.items[i].name) && name_used(&spec->containers, i, spec->containers.items[i].name))
            field_duplicate(errors, spec->containers.items[i].name, "%s.name", at);
    }
    for (size_t i = 0; i < spec->init_containers.len; i++) {
        const struct k8s_container *container = &spec->init_containers.items[i];
        const char *at = kp_arena_printf(errors->arena, "%s[%zu]", validate_under(errors, path, "initContainers"), i);
        validate_container(spec, container, errors, at);
        if (!kp_empty(container->name) && (name_used(&spec->init_containers, i, container->name) ||
                                           name_used(&spec->containers, spec->containers.len, container->name)))
            field_duplicate(errors, container->name, "%s.name", at);
        if (!kp_empty(container->restart_policy) && strcmp(container->restart_policy, "Always") != 0)
            field_not_supported(errors, container->restart_policy, (const char *const[]){"Always", NULL}, "%s.restartPolicy", at);
    }
}

void validate_pod_spec(const struct k8s_pod_spec *spec, const struct k8s_object_meta *meta, struct field_errors *errors, const char *path)
{
    validate_pod_volumes(spec, meta, errors, path);
    validate_containers(spec, errors, path);
    if (kp_empty(spec->restart_policy))
        field_required(errors, "", "%s", validate_under(errors, path, "restartPolicy"));
    else if (strcmp(spec->restart_policy, "Always") != 0 && strcmp(spec->restart_policy, "OnFailure") != 0 && strcmp(spec->restart_policy, "Never") != 0)
        field_not_supported(errors, spec->restart_policy, (const char *const[]){"Always", "OnFailure", "Never", NULL}, "%s",
                            validate_under(errors, path, "restartPolicy")); /* the one closed set that upstream does not name in order */
    if (spec->has_termination_grace_period_seconds && spec->termination_grace_period_seconds < 0)
        field_invalid_int(errors, spec->termination_grace_period_seconds, "must be greater than or equal to 0", "%s",
                          validate_under(errors, path, "terminationGracePeriodSeconds"));
    if (spec->has_active_deadline_seconds && (spec->active_deadline_seconds < 1 || spec->active_deadline_seconds > INT32_MAX))
        field_invalid_int(errors, spec->active_deadline_seconds, "must be between 1 and 2147483647, inclusive", "%s",
                          validate_under(errors, path, "activeDeadlineSeconds"));
    validate_label_map(&spec->node_selector, errors, validate_under(errors, path, "nodeSelector"));
    const char *fault = kp_empty(spec->service_account_name) ? NULL : name_is_subdomain(spec->service_account_name);
    if (fault)
        field_invalid(errors, spec->service_account_name, fault, "%s", validate_under(errors, path, "serviceAccountName"));
    fault = kp_empty(spec->node_name) ? NULL : name_is_subdomain(spec->node_name);
    if (fault)
        field_invalid(errors, spec->node_name, fault, "%s", validate_under(errors, path, "nodeName"));
    fault = kp_empty(spec->hostname) ? NULL : name_is_label(spec->hostname);
    if (fault)
        field_invalid(errors, spec->hostname, fault, "%s", validate_under(errors, path, "hostname"));
    fault = kp_empty(spec->subdomain) ? NULL : name_is_label(spec->subdomain);
    if (fault)
        field_invalid(errors, spec->subdomain, fault, "%s", validate_under(errors, path, "subdomain"));
    validate_pod_placement(spec, errors, path);
}

void validate_pod_template(const struct k8s_pod_template_spec *tpl, struct field_errors *errors, const char *path)
{
    if (!tpl || !tpl->spec)
        return;
    if (tpl->metadata) {
        validate_label_map(&tpl->metadata->labels, errors, validate_under(errors, path, "metadata.labels"));
        validate_annotations(&tpl->metadata->annotations, errors, validate_under(errors, path, "metadata.annotations"));
    }
    validate_pod_spec(tpl->spec, tpl->metadata, errors, validate_under(errors, path, "spec"));
    if (tpl->spec->ephemeral_containers.len)
        field_forbidden(errors, "ephemeral containers not allowed in pod template", "%s.spec.ephemeralContainers", path);
}

static const char *labels_json(struct kp_arena *arena, const struct kp_string_map *labels)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    kp_buf_putc(&text, '{');
    for (size_t i = 0; i < labels->len; i++) {
        kp_buf_puts(&text, i ? "," : "");
        kp_json_string(&text, labels->items[i].key);
        kp_buf_putc(&text, ':');
        kp_json_string(&text, labels->items[i].value);
    }
    kp_buf_putc(&text, '}');
    return kp_arena_strdup(arena, text.data);
}

void validate_workload_template(const struct k8s_pod_template_spec *tpl, const struct k8s_label_selector *selector, struct field_errors *errors,
                                const char *const *restart_policies)
{
    static const struct kp_string_map none = {0};
    const struct kp_string_map *labels = tpl && tpl->metadata ? &tpl->metadata->labels : &none;
    bool all = selector && !selector->match_labels.len && !selector->match_expressions.len; /* reported as empty already */
    if (!all && !kp_label_selector_matches(selector, labels)) /* a missing one matches nothing */
        field_invalid_raw(errors, labels_json(errors->arena, labels), "`selector` does not match template `labels`", "spec.template.metadata.labels");
    validate_pod_template(tpl, errors, "spec.template");
    const char *policy = tpl && tpl->spec ? tpl->spec->restart_policy : NULL;
    bool fits = kp_empty(policy); /* reported as missing already */
    for (size_t i = 0; restart_policies[i]; i++)
        fits = fits || strcmp(restart_policies[i], policy) == 0;
    if (!fits)
        field_not_supported(errors, policy, restart_policies, "spec.template.spec.restartPolicy");
}
