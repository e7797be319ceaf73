/* Building the CRI messages that configure sandboxes and containers. */
#include "nodeimage/kubelet/cri_messages_internal.h"

/* protobuf-c wants mutable strings though it never writes to those of a message that is packed. */
static char *str(const char *s)
{
    return (char *)(uintptr_t)(s ? s : "");
}

/* The generator makes one entry type a map; all have the same layout. */
#define WRITE_MAP(arena, message, field, pairs, type, init)                                                            \
    do {                                                                                                               \
        (message)->field = KP_NEW_ARRAY((arena), type *, (pairs)->len + 1);                                            \
        (message)->n_##field = (pairs)->len;                                                                           \
        for (size_t map_i_ = 0; map_i_ < (pairs)->len; map_i_++) {                                                     \
            (message)->field[map_i_] = CRI_NEW((arena), type, init);                                                   \
            (message)->field[map_i_]->key = str((pairs)->items[map_i_].key);                                           \
            (message)->field[map_i_]->value = str((pairs)->items[map_i_].value);                                       \
        }                                                                                                              \
    } while (0)

static char **write_strings(const struct cri_strings *strings, size_t *ret_n)
{
    *ret_n = strings->len;
    return (char **)(uintptr_t)strings->items;
}

static Runtime__V1__Int64Value *write_int(struct kp_arena *arena, int64_t value)
{
    Runtime__V1__Int64Value *m = CRI_NEW(arena, Runtime__V1__Int64Value, runtime__v1__int64_value__init);
    m->value = value;
    return m;
}

static Runtime__V1__NamespaceMode mode_of(enum cri_namespace ns)
{
    static const Runtime__V1__NamespaceMode modes[] = {
        [CRI_NS_POD] = RUNTIME__V1__NAMESPACE_MODE__POD,
        [CRI_NS_CONTAINER] = RUNTIME__V1__NAMESPACE_MODE__CONTAINER,
        [CRI_NS_NODE] = RUNTIME__V1__NAMESPACE_MODE__NODE,
        [CRI_NS_TARGET] = RUNTIME__V1__NAMESPACE_MODE__TARGET,
    };
    return modes[ns];
}

static Runtime__V1__NamespaceOption *write_namespaces(const struct cri_security *security, struct kp_arena *arena)
{
    Runtime__V1__NamespaceOption *m = CRI_NEW(arena, Runtime__V1__NamespaceOption, runtime__v1__namespace_option__init);
    m->network = mode_of(security->network);
    m->pid = mode_of(security->pid);
    m->ipc = mode_of(security->ipc);
    m->target_id = str(security->target_id);
    return m;
}

static Runtime__V1__SecurityProfile *write_seccomp(const struct cri_security *security, struct kp_arena *arena)
{
    if (security->seccomp == CRI_SECCOMP_UNSET)
        return NULL;
    Runtime__V1__SecurityProfile *m = CRI_NEW(arena, Runtime__V1__SecurityProfile, runtime__v1__security_profile__init);
    if (security->seccomp == CRI_SECCOMP_RUNTIME_DEFAULT)
        m->profile_type = RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__RuntimeDefault;
    else if (security->seccomp == CRI_SECCOMP_LOCALHOST)
        m->profile_type = RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__Localhost;
    else
        m->profile_type = RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__Unconfined;
    m->localhost_ref = str(security->seccomp_localhost);
    return m;
}

Runtime__V1__LinuxContainerResources *cri_resources_message(const struct cri_resources *resources, struct kp_arena *arena)
{
    Runtime__V1__LinuxContainerResources *m =
        CRI_NEW(arena, Runtime__V1__LinuxContainerResources, runtime__v1__linux_container_resources__init);
    m->cpu_period = resources->cpu_period;
    m->cpu_quota = resources->cpu_quota;
    m->cpu_shares = resources->cpu_shares;
    m->memory_limit_in_bytes = resources->memory_limit_bytes;
    m->oom_score_adj = resources->oom_score_adj;
    return m;
}

static Runtime__V1__LinuxPodSandboxConfig *write_sandbox_linux(const struct cri_sandbox_config *config, struct kp_arena *arena)
{
    const struct cri_security *security = &config->security;
    Runtime__V1__LinuxSandboxSecurityContext *context =
        CRI_NEW(arena, Runtime__V1__LinuxSandboxSecurityContext, runtime__v1__linux_sandbox_security_context__init);
    context->namespace_options = write_namespaces(security, arena);
    if (security->has_run_as_user)
        context->run_as_user = write_int(arena, security->run_as_user);
    if (security->has_run_as_group)
        context->run_as_group = write_int(arena, security->run_as_group);
    context->readonly_rootfs = security->readonly_rootfs;
    context->privileged = security->privileged;
    context->seccomp = write_seccomp(security, arena);
    Runtime__V1__LinuxPodSandboxConfig *m =
        CRI_NEW(arena, Runtime__V1__LinuxPodSandboxConfig, runtime__v1__linux_pod_sandbox_config__init);
    m->cgroup_parent = str(config->cgroup_parent);
    m->security_context = context;
    m->resources = cri_resources_message(&config->resources, arena);
    WRITE_MAP(arena, m, sysctls, &config->sysctls, Runtime__V1__LinuxPodSandboxConfig__SysctlsEntry,
              runtime__v1__linux_pod_sandbox_config__sysctls_entry__init);
    return m;
}

static void write_ports(const struct cri_sandbox_config *config, struct kp_arena *arena, Runtime__V1__PodSandboxConfig *m)
{
    m->port_mappings = KP_NEW_ARRAY(arena, Runtime__V1__PortMapping *, config->n_ports + 1);
    m->n_port_mappings = config->n_ports;
    for (size_t i = 0; i < config->n_ports; i++) {
        const struct cri_port *port = &config->ports[i];
        Runtime__V1__PortMapping *mapping = CRI_NEW(arena, Runtime__V1__PortMapping, runtime__v1__port_mapping__init);
        mapping->protocol = port->protocol == CRI_UDP    ? RUNTIME__V1__PROTOCOL__UDP
                            : port->protocol == CRI_SCTP ? RUNTIME__V1__PROTOCOL__SCTP
                                                         : RUNTIME__V1__PROTOCOL__TCP;
        mapping->container_port = port->container_port;
        mapping->host_port = port->host_port;
        mapping->host_ip = str(port->host_ip);
        m->port_mappings[i] = mapping;
    }
}

Runtime__V1__PodSandboxConfig *cri_sandbox_message(const struct cri_sandbox_config *config, struct kp_arena *arena)
{
    Runtime__V1__PodSandboxConfig *m = CRI_NEW(arena, Runtime__V1__PodSandboxConfig, runtime__v1__pod_sandbox_config__init);
    m->metadata = CRI_NEW(arena, Runtime__V1__PodSandboxMetadata, runtime__v1__pod_sandbox_metadata__init);
    m->metadata->name = str(config->name);
    m->metadata->uid = str(config->uid);
    m->metadata->namespace_ = str(config->ns);
    m->metadata->attempt = config->attempt;
    m->hostname = str(config->hostname);
    m->log_directory = str(config->log_directory);
    m->dns_config = CRI_NEW(arena, Runtime__V1__DNSConfig, runtime__v1__dnsconfig__init);
    m->dns_config->servers = write_strings(&config->dns_servers, &m->dns_config->n_servers);
    m->dns_config->searches = write_strings(&config->dns_searches, &m->dns_config->n_searches);
    m->dns_config->options = write_strings(&config->dns_options, &m->dns_config->n_options);
    write_ports(config, arena, m);
    WRITE_MAP(arena, m, labels, &config->labels, Runtime__V1__PodSandboxConfig__LabelsEntry,
              runtime__v1__pod_sandbox_config__labels_entry__init);
    WRITE_MAP(arena, m, annotations, &config->annotations, Runtime__V1__PodSandboxConfig__AnnotationsEntry,
              runtime__v1__pod_sandbox_config__annotations_entry__init);
    m->linux_ = write_sandbox_linux(config, arena);
    return m;
}

static Runtime__V1__LinuxContainerSecurityContext *write_security(const struct cri_security *security, struct kp_arena *arena)
{
    static const char *const masked[] = {"/proc/asound",     "/proc/acpi",        "/proc/kcore",      "/proc/keys",
                                         "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
                                         "/proc/scsi",       "/sys/firmware",     "/sys/devices/virtual/powercap"};
    static const char *const readonly[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
    Runtime__V1__LinuxContainerSecurityContext *m =
        CRI_NEW(arena, Runtime__V1__LinuxContainerSecurityContext, runtime__v1__linux_container_security_context__init);
    m->namespace_options = write_namespaces(security, arena);
    m->privileged = security->privileged;
    m->readonly_rootfs = security->readonly_rootfs;
    m->no_new_privs = security->no_new_privs;
    m->seccomp = write_seccomp(security, arena);
    if (security->has_run_as_user)
        m->run_as_user = write_int(arena, security->run_as_user);
    if (security->has_run_as_group)
        m->run_as_group = write_int(arena, security->run_as_group);
    m->run_as_username = str(security->run_as_username);
    m->supplemental_groups = (int64_t *)(uintptr_t)security->supplemental_groups;
    m->n_supplemental_groups = security->n_supplemental_groups;
    m->capabilities = CRI_NEW(arena, Runtime__V1__Capability, runtime__v1__capability__init);
    m->capabilities->add_capabilities = write_strings(&security->add_capabilities, &m->capabilities->n_add_capabilities);
    m->capabilities->drop_capabilities = write_strings(&security->drop_capabilities, &m->capabilities->n_drop_capabilities);
    if (security->mask_proc) {
        m->masked_paths = (char **)(uintptr_t)masked;
        m->n_masked_paths = KP_ARRAY_LEN(masked);
        m->readonly_paths = (char **)(uintptr_t)readonly;
        m->n_readonly_paths = KP_ARRAY_LEN(readonly);
    }
    return m;
}

static void write_mounts(const struct cri_container_config *config, struct kp_arena *arena, Runtime__V1__ContainerConfig *m)
{
    m->mounts = KP_NEW_ARRAY(arena, Runtime__V1__Mount *, config->n_mounts + 1);
    m->n_mounts = config->n_mounts;
    for (size_t i = 0; i < config->n_mounts; i++) {
        const struct cri_mount *mount = &config->mounts[i];
        Runtime__V1__Mount *one = CRI_NEW(arena, Runtime__V1__Mount, runtime__v1__mount__init);
        one->container_path = str(mount->container_path);
        one->host_path = str(mount->host_path);
        one->readonly = mount->readonly;
        one->propagation = mount->propagation == CRI_PROPAGATION_HOST_TO_CONTAINER
                               ? RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_HOST_TO_CONTAINER
                           : mount->propagation == CRI_PROPAGATION_BIDIRECTIONAL
                               ? RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_BIDIRECTIONAL
                               : RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_PRIVATE;
        if (mount->image) {
            one->image = CRI_NEW(arena, Runtime__V1__ImageSpec, runtime__v1__image_spec__init);
            one->image->image = str(mount->image);
            one->image_sub_path = str(mount->image_sub_path);
        }
        m->mounts[i] = one;
    }
}

Runtime__V1__ContainerConfig *cri_container_message(const struct cri_container_config *config, struct kp_arena *arena)
{
    Runtime__V1__ContainerConfig *m = CRI_NEW(arena, Runtime__V1__ContainerConfig, runtime__v1__container_config__init);
    m->metadata = CRI_NEW(arena, Runtime__V1__ContainerMetadata, runtime__v1__container_metadata__init);
    m->metadata->name = str(config->name);
    m->metadata->attempt = config->attempt;
    m->image = CRI_NEW(arena, Runtime__V1__ImageSpec, runtime__v1__image_spec__init);
    m->image->image = str(config->image);
    m->image->user_specified_image = str(config->user_image);
    m->command = write_strings(&config->command, &m->n_command);
    m->args = write_strings(&config->args, &m->n_args);
    m->working_dir = str(config->working_dir);
    m->envs = KP_NEW_ARRAY(arena, Runtime__V1__KeyValue *, config->envs.len + 1);
    m->n_envs = config->envs.len;
    for (size_t i = 0; i < config->envs.len; i++) {
        m->envs[i] = CRI_NEW(arena, Runtime__V1__KeyValue, runtime__v1__key_value__init);
        m->envs[i]->key = str(config->envs.items[i].key);
        m->envs[i]->value.data = (uint8_t *)(uintptr_t)str(config->envs.items[i].value);
        m->envs[i]->value.len = strlen(str(config->envs.items[i].value));
    }
    write_mounts(config, arena, m);
    WRITE_MAP(arena, m, labels, &config->labels, Runtime__V1__ContainerConfig__LabelsEntry,
              runtime__v1__container_config__labels_entry__init);
    WRITE_MAP(arena, m, annotations, &config->annotations, Runtime__V1__ContainerConfig__AnnotationsEntry,
              runtime__v1__container_config__annotations_entry__init);
    m->log_path = str(config->log_path);
    m->stdin = config->stdin_open;
    m->stdin_once = config->stdin_once;
    m->tty = config->tty;
    m->linux_ = CRI_NEW(arena, Runtime__V1__LinuxContainerConfig, runtime__v1__linux_container_config__init);
    m->linux_->resources = cri_resources_message(&config->resources, arena);
    m->linux_->security_context = write_security(&config->security, arena);
    return m;
}
