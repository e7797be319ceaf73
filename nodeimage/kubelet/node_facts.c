/* Facts of the machine: capacity, addresses, versions; and the node's conditions. */
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "lib/base/version.h"
#include "nodeimage/kubelet/node_internal.h"


int64_t kubelet_machine_memory_bytes(void)
{
    return (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
}

int64_t kubelet_machine_cpu_milli(void)
{
    return (int64_t)sysconf(_SC_NPROCESSORS_ONLN) * 1000;
}

/* The first line of a file, or "". */
static const char *first_line(const char *path, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf buf = {0};
    if (kp_read_file(path, 1 << 16, &buf, NULL) < 0 || !buf.data)
        return "";
    return kp_arena_strndup(arena, buf.data, strcspn(buf.data, "\n"));
}

static const char *os_name(struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf buf = {0};
    if (kp_read_file("/etc/os-release", 1 << 16, &buf, NULL) < 0 || !buf.data)
        return "Linux";
    const char *at = strstr(buf.data, "PRETTY_NAME=\"");
    if (!at)
        return "Linux";
    at += strlen("PRETTY_NAME=\"");
    return kp_arena_strndup(arena, at, strcspn(at, "\"\n"));
}

static const char *architecture(const char *machine)
{
    static const char *const names[][2] = {{"x86_64", "amd64"}, {"aarch64", "arm64"}, {"armv7l", "arm"}, {"ppc64le", "ppc64le"},
                                           {"s390x", "s390x"}};
    for (size_t i = 0; i < KP_ARRAY_LEN(names); i++)
        if (kp_streq(machine, names[i][0]))
            return names[i][1];
    return machine;
}

static void system_info(struct kubelet_node *node)
{
    struct kp_arena *arena = node->arena;
    struct k8s_node_system_info *info = KP_OBJECT_NEW(arena, k8s_node_system_info);
    struct utsname uts = {0};
    const char *name = "containerd", *version = "unknown";
    uname(&uts);
    info->machine_id = first_line("/etc/machine-id", arena);
    info->system_uuid = first_line("/sys/class/dmi/id/product_uuid", arena);
    if (kp_empty(info->system_uuid))
        info->system_uuid = info->machine_id;
    info->boot_id = first_line("/proc/sys/kernel/random/boot_id", arena);
    info->kernel_version = kp_arena_strdup(arena, uts.release);
    info->os_image = os_name(arena);
    if (cri_version(node->kubelet->cri, arena, &name, &version, NULL) == 0 && version[0] == 'v')
        version++;
    size_t len = strcspn(version, "~+ "); /* the distribution's own suffix is of no interest */
    info->container_runtime_version = kp_arena_printf(arena, "%s://%.*s", name, (int)len, version);
    info->kubelet_version = kp_version;
    info->kube_proxy_version = "";
    info->operating_system = "linux";
    info->architecture = kp_arena_strdup(arena, architecture(uts.machine));
    node->info = info;
}

static void find_addresses(struct kubelet_node *node)
{
    const struct kubelet_config *config = &node->kubelet->config;
    for (size_t i = 0; i < config->n_node_ips; i++)
        node->ips[node->n_ips++] = config->node_ips[i];
    struct ifaddrs *list = NULL;
    if (node->n_ips > 0 || getifaddrs(&list) < 0)
        return;
    for (const struct ifaddrs *i = list; i && node->n_ips == 0; i = i->ifa_next) {
        char text[INET_ADDRSTRLEN];
        if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET || (i->ifa_flags & IFF_LOOPBACK) || !(i->ifa_flags & IFF_UP))
            continue;
        const struct sockaddr_in *in = (const void *)i->ifa_addr;
        if (inet_ntop(AF_INET, &in->sin_addr, text, sizeof(text)))
            node->ips[node->n_ips++] = kp_arena_strdup(node->arena, text);
    }
    freeifaddrs(list);
    if (node->n_ips == 0)
        node->ips[node->n_ips++] = "127.0.0.1";
}

static int64_t disk_bytes(const char *path)
{
    struct statvfs fs;
    return statvfs(path, &fs) == 0 ? (int64_t)fs.f_blocks * (int64_t)fs.f_frsize : 0;
}

static void reserve(struct kubelet_node *node, const struct kp_string_map *reserved)
{
    kp_resource_list_sub(node->arena, &node->allocatable, reserved);
}

/* As upstream: pods cannot be given what they would be evicted for having. */
static void reserve_for_eviction(struct kubelet_node *node, const char *resource, enum eviction_signal signal, int64_t capacity)
{
    struct kp_string_map kept = {0};
    int64_t bytes = eviction_reserved(&node->kubelet->config.eviction, signal, capacity);
    if (bytes <= 0 || bytes >= capacity)
        return;
    kp_string_map_set(node->arena, &kept, resource, kp_arena_printf(node->arena, "%lldKi", (long long)(bytes / 1024)));
    reserve(node, &kept);
}

void kubelet_node_facts(struct kubelet_node *node)
{
    struct kp_arena *arena = node->arena;
    const struct kubelet_config *config = &node->kubelet->config;
    struct utsname uts = {0};
    uname(&uts);
    const struct kp_string_pair capacity[] = {
        {"cpu", kp_arena_printf(arena, "%lld", (long long)(kubelet_machine_cpu_milli() / 1000))},
        {"ephemeral-storage", kp_arena_printf(arena, "%lldKi", (long long)(disk_bytes(config->root_dir) / 1024))},
        {"memory", kp_arena_printf(arena, "%lldKi", (long long)(kubelet_machine_memory_bytes() / 1024))},
        {"pods", kp_arena_printf(arena, "%lld", (long long)config->pods_max)},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(capacity); i++) {
        kp_string_map_set(arena, &node->capacity, capacity[i].key, capacity[i].value);
        kp_string_map_set(arena, &node->allocatable, capacity[i].key, capacity[i].value);
    }
    reserve(node, &config->system_reserved);
    reserve(node, &config->kube_reserved);
    reserve_for_eviction(node, "memory", EVICTION_MEMORY, kubelet_machine_memory_bytes());
    reserve_for_eviction(node, "ephemeral-storage", EVICTION_NODEFS, disk_bytes(config->root_dir));
    const char *arch = kp_arena_strdup(arena, architecture(uts.machine));
    const struct kp_string_pair labels[] = {
        {"beta.kubernetes.io/arch", arch}, {"beta.kubernetes.io/os", "linux"},   {"kubernetes.io/arch", arch},
        {"kubernetes.io/os", "linux"},     {"kubernetes.io/hostname", config->node_name},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(labels); i++)
        kp_string_map_set(arena, &node->labels, labels[i].key, labels[i].value);
    for (size_t i = 0; i < config->node_labels.len; i++)
        kp_string_map_set(arena, &node->labels, config->node_labels.items[i].key, config->node_labels.items[i].value);
    find_addresses(node);
    system_info(node);
}

static void add_condition(const struct k8s_node_status *old, int64_t now_s, struct k8s_node_status *status,
                          struct kp_arena *arena, const char *type, bool value, const char *reason, const char *message)
{
    struct k8s_node_condition *c = KP_LIST_ADD(arena, &status->conditions);
    c->type = type;
    c->status = value ? "True" : "False";
    c->reason = reason;
    c->message = message;
    c->last_heartbeat_time = KP_TIME_OF(now_s);
    c->last_transition_time = KP_TIME_OF(now_s);
    for (size_t i = 0; old && i < old->conditions.len; i++) {
        const struct k8s_node_condition *before = &old->conditions.items[i];
        if (kp_streq(before->type, type) && kp_streq(before->status, c->status) && before->last_transition_time.set)
            c->last_transition_time = before->last_transition_time;
    }
}

void kubelet_node_conditions(const char *runtime_message, const bool pressure[EVICTION_PRESSURES], const struct k8s_node_status *old,
                             int64_t now_s, struct k8s_node_status *status, struct kp_arena *arena)
{
    add_condition(old, now_s, status, arena, "MemoryPressure", pressure[EVICTION_MEMORY_PRESSURE],
                  pressure[EVICTION_MEMORY_PRESSURE] ? "KubeletHasInsufficientMemory" : "KubeletHasSufficientMemory",
                  pressure[EVICTION_MEMORY_PRESSURE] ? "kubelet has insufficient memory available" : "kubelet has sufficient memory available");
    add_condition(old, now_s, status, arena, "DiskPressure", pressure[EVICTION_DISK_PRESSURE], pressure[EVICTION_DISK_PRESSURE] ? "KubeletHasDiskPressure" : "KubeletHasNoDiskPressure",
                  pressure[EVICTION_DISK_PRESSURE] ? "kubelet has disk pressure" : "kubelet has no disk pressure");
    add_condition(old, now_s, status, arena, "PIDPressure", pressure[EVICTION_PID_PRESSURE], pressure[EVICTION_PID_PRESSURE] ? "KubeletHasInsufficientPID" : "KubeletHasSufficientPID",
                  pressure[EVICTION_PID_PRESSURE] ? "kubelet has insufficient PID available" : "kubelet has sufficient PID available");
    bool ready = kp_empty(runtime_message);
    add_condition(old, now_s, status, arena, "Ready", ready, ready ? "KubeletReady" : "KubeletNotReady",
                  ready ? "kubelet is posting ready status" : runtime_message);
}
