/* The checks of the level baseline: known ways to more than a pod should have. */
#include "controlplane/apiserver/podsecurity/checks_internal.h"

static const struct psa_finding fine;

static bool is_one_of(const char *name, const char *const *list)
{
    for (; *list; list++)
        if (kp_streq(name ? name : "", *list))
            return true;
    return false;
}

/* ---- AppArmor */
static bool is_confined(const struct k8s_app_armor_profile *profile)
{
    return !profile || kp_streq(profile->type, "RuntimeDefault") || kp_streq(profile->type, "Localhost");
}

struct psa_finding psa_app_armor(const struct psa_pod *pod)
{
    struct kp_string_list who = {0}, containers = {0}, values = {0}, annotations = {0};
    if (!is_confined(pod->security->app_armor_profile)) {
        kp_string_list_add(pod->arena, &who, "pod");
        psa_add_sorted(&values, pod->security->app_armor_profile->type, pod->arena);
    }
    for (size_t i = 0; i < pod->n; i++)
        if (!is_confined(pod->containers[i].security->app_armor_profile)) {
            kp_string_list_add(pod->arena, &containers, pod->containers[i].name);
            psa_add_sorted(&values, pod->containers[i].security->app_armor_profile->type, pod->arena);
        }
    if (containers.len)
        kp_string_list_add(pod->arena, &who, psa_containers(&containers, pod->arena));
    for (size_t i = 0; i < pod->meta->annotations.len; i++) {
        const struct kp_string_pair *a = &pod->meta->annotations.items[i];
        if (kp_starts_with(a->key, "container.apparmor.security.beta.kubernetes.io/") && !kp_empty(a->value) && !kp_streq(a->value, "runtime/default") &&
            !kp_starts_with(a->value, "localhost/"))
            psa_add_sorted(&annotations, kp_arena_printf(pod->arena, "%s=\"%s\"", a->key, a->value), pod->arena);
    }
    for (size_t i = 0; i < annotations.len; i++)
        kp_string_list_add(pod->arena, &values, annotations.items[i]);
    if (annotations.len)
        kp_string_list_add(pod->arena, &who, annotations.len == 1 ? "annotation" : "annotations");
    if (!who.len)
        return fine;
    return (struct psa_finding){values.len == 1 ? "forbidden AppArmor profile" : "forbidden AppArmor profiles",
                                kp_arena_printf(pod->arena, "%s must not set AppArmor profile type to %s", psa_joined(&who, " and ", pod->arena),
                                                psa_quoted(&values, pod->arena))};
}

/* ---- capabilities */
struct psa_finding psa_capabilities_baseline(const struct psa_pod *pod)
{
    static const char *const allowed[] = {"AUDIT_WRITE", "CHOWN",   "DAC_OVERRIDE", "FOWNER", "FSETID",     "KILL", "MKNOD",
                                          "NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT", NULL};
    struct kp_string_list bad = {0}, added = {0};
    for (size_t i = 0; i < pod->n; i++) {
        const struct k8s_capabilities *capabilities = pod->containers[i].security->capabilities;
        bool valid = true;
        for (size_t k = 0; capabilities && k < capabilities->add.len; k++) {
            if (is_one_of(capabilities->add.items[k], allowed))
                continue;
            valid = false;
            psa_add_sorted(&added, capabilities->add.items[k], pod->arena);
        }
        if (!valid)
            kp_string_list_add(pod->arena, &bad, pod->containers[i].name);
    }
    if (!bad.len)
        return fine;
    return (struct psa_finding){"non-default capabilities",
                                kp_arena_printf(pod->arena, "%s must not include %s in securityContext.capabilities.add", psa_containers(&bad, pod->arena),
                                                psa_quoted(&added, pod->arena))};
}

/* ---- what is the node's */
struct psa_finding psa_host_namespaces(const struct psa_pod *pod)
{
    struct kp_string_list shared = {0};
    if (pod->spec->host_network)
        kp_string_list_add(pod->arena, &shared, "hostNetwork=true");
    if (pod->spec->host_pid)
        kp_string_list_add(pod->arena, &shared, "hostPID=true");
    if (pod->spec->host_ipc)
        kp_string_list_add(pod->arena, &shared, "hostIPC=true");
    return shared.len ? (struct psa_finding){"host namespaces", psa_joined(&shared, ", ", pod->arena)} : fine;
}

struct psa_finding psa_host_paths(const struct psa_pod *pod)
{
    struct kp_string_list volumes = {0};
    for (size_t i = 0; i < pod->spec->volumes.len; i++)
        if (pod->spec->volumes.items[i].host_path)
            kp_string_list_add(pod->arena, &volumes, pod->spec->volumes.items[i].name);
    if (!volumes.len)
        return fine;
    return (struct psa_finding){"hostPath volumes",
                                kp_arena_printf(pod->arena, "%s %s", volumes.len == 1 ? "volume" : "volumes", psa_quoted(&volumes, pod->arena))};
}

struct psa_finding psa_host_ports(const struct psa_pod *pod)
{
    struct kp_string_list bad = {0}, ports = {0};
    for (size_t i = 0; i < pod->n; i++) {
        bool valid = true;
        for (size_t k = 0; k < pod->containers[i].ports->len; k++) {
            if (!pod->containers[i].ports->items[k].host_port)
                continue;
            valid = false;
            psa_add_sorted(&ports, kp_arena_printf(pod->arena, "%d", pod->containers[i].ports->items[k].host_port), pod->arena);
        }
        if (!valid)
            kp_string_list_add(pod->arena, &bad, pod->containers[i].name);
    }
    if (!bad.len)
        return fine;
    return (struct psa_finding){"hostPort", kp_arena_printf(pod->arena, "%s %s %s %s", psa_containers(&bad, pod->arena), bad.len == 1 ? "uses" : "use",
                                                            ports.len == 1 ? "hostPort" : "hostPorts", psa_joined(&ports, ", ", pod->arena))};
}

/* The kubelet asks from the node: a probe of another host goes past what keeps the pod from it. */
struct psa_finding psa_host_probes(const struct psa_pod *pod)
{
    struct kp_string_list bad = {0}, hosts = {0};
    for (size_t i = 0; i < pod->n; i++) {
        const struct psa_container *c = &pod->containers[i];
        const struct k8s_lifecycle_handler *hooks[] = {c->lifecycle ? c->lifecycle->post_start : NULL, c->lifecycle ? c->lifecycle->pre_stop : NULL};
        size_t before = hosts.len;
        bool wrong = false;
        const char *found[10];
        size_t n = 0;
        for (size_t k = 0; k < KP_ARRAY_LEN(c->probes); k++) {
            found[n++] = c->probes[k] && c->probes[k]->http_get ? c->probes[k]->http_get->host : NULL;
            found[n++] = c->probes[k] && c->probes[k]->tcp_socket ? c->probes[k]->tcp_socket->host : NULL;
        }
        for (size_t k = 0; k < KP_ARRAY_LEN(hooks); k++) {
            found[n++] = hooks[k] && hooks[k]->http_get ? hooks[k]->http_get->host : NULL;
            found[n++] = hooks[k] && hooks[k]->tcp_socket ? hooks[k]->tcp_socket->host : NULL;
        }
        for (size_t k = 0; k < n; k++)
            if (!kp_empty(found[k])) {
                psa_add_sorted(&hosts, found[k], pod->arena);
                wrong = true;
            }
        if (wrong || hosts.len > before)
            psa_add_sorted(&bad, c->name, pod->arena);
    }
    if (!bad.len)
        return fine;
    return (struct psa_finding){"probe or lifecycle host",
                                kp_arena_printf(pod->arena, "%s %s %s %s", psa_containers(&bad, pod->arena), bad.len == 1 ? "uses" : "use",
                                                hosts.len == 1 ? "probe or lifecycle host" : "probe or lifecycle hosts", psa_quoted(&hosts, pod->arena))};
}

struct psa_finding psa_privileged(const struct psa_pod *pod)
{
    struct kp_string_list bad = {0};
    for (size_t i = 0; i < pod->n; i++)
        if (pod->containers[i].security->privileged)
            kp_string_list_add(pod->arena, &bad, pod->containers[i].name);
    if (!bad.len)
        return fine;
    return (struct psa_finding){"privileged", kp_arena_printf(pod->arena, "%s must not set securityContext.privileged=true", psa_containers(&bad, pod->arena))};
}

/* ---- /proc */
struct psa_finding psa_proc_mount_restricted(const struct psa_pod *pod)
{
    struct kp_string_list bad = {0}, types = {0};
    for (size_t i = 0; i < pod->n; i++) {
        const char *type = pod->containers[i].security->proc_mount;
        if (kp_empty(type) || kp_streq(type, "Default"))
            continue;
        kp_string_list_add(pod->arena, &bad, pod->containers[i].name);
        psa_add_sorted(&types, type, pod->arena);
    }
    if (!bad.len)
        return fine;
    return (struct psa_finding){"procMount", kp_arena_printf(pod->arena, "%s must not set securityContext.procMount to %s", psa_containers(&bad, pod->arena),
                                                             psa_quoted(&types, pod->arena))};
}

struct psa_finding psa_proc_mount_baseline(const struct psa_pod *pod)
{
    bool own_users = pod->spec->has_host_users && !pod->spec->host_users;
    return pod->minor >= 35 && own_users ? fine : psa_proc_mount_restricted(pod);
}

/* ---- SELinux */
struct se_linux {
    struct kp_string_list types;
    bool user, role;
};

static bool is_labelled_well(const struct psa_pod *pod, const struct k8s_se_linux_options *options, struct se_linux *bad)
{
    static const char *const allowed[] = {"", "container_t", "container_init_t", "container_kvm_t", NULL};
    bool valid = true;
    if (!options)
        return true;
    if (!is_one_of(options->type, allowed) && !(pod->minor >= 31 && kp_streq(options->type, "container_engine_t"))) {
        valid = false;
        psa_add_sorted(&bad->types, options->type, pod->arena);
    }
    bad->user |= !kp_empty(options->user);
    bad->role |= !kp_empty(options->role);
    return valid && kp_empty(options->user) && kp_empty(options->role);
}

struct psa_finding psa_se_linux(const struct psa_pod *pod)
{
    struct kp_string_list containers = {0}, what = {0};
    struct se_linux bad = {0};
    bool of_pod = !is_labelled_well(pod, pod->security->se_linux_options, &bad);
    for (size_t i = 0; i < pod->n; i++)
        if (!is_labelled_well(pod, pod->containers[i].security->se_linux_options, &bad))
            kp_string_list_add(pod->arena, &containers, pod->containers[i].name);
    if (!of_pod && !containers.len)
        return fine;
    if (bad.types.len)
        kp_string_list_add(pod->arena, &what, kp_arena_printf(pod->arena, "%s %s", bad.types.len == 1 ? "type" : "types", psa_quoted(&bad.types, pod->arena)));
    if (bad.user)
        kp_string_list_add(pod->arena, &what, "user may not be set");
    if (bad.role)
        kp_string_list_add(pod->arena, &what, "role may not be set");
    return (struct psa_finding){"seLinuxOptions", kp_arena_printf(pod->arena, "%s set forbidden securityContext.seLinuxOptions: %s",
                                                                  psa_setters(of_pod, &containers, pod->arena), psa_joined(&what, "; ", pod->arena))};
}

/* ---- seccomp */
static bool is_filtered(const struct k8s_seccomp_profile *profile)
{
    return !profile || kp_streq(profile->type, "RuntimeDefault") || kp_streq(profile->type, "Localhost");
}

struct psa_finding psa_seccomp_baseline(const struct psa_pod *pod)
{
    struct kp_string_list containers = {0}, values = {0};
    bool of_pod = !is_filtered(pod->security->seccomp_profile);
    if (of_pod)
        psa_add_sorted(&values, pod->security->seccomp_profile->type, pod->arena);
    for (size_t i = 0; i < pod->n; i++) {
        if (is_filtered(pod->containers[i].security->seccomp_profile))
            continue;
        kp_string_list_add(pod->arena, &containers, pod->containers[i].name);
        psa_add_sorted(&values, pod->containers[i].security->seccomp_profile->type, pod->arena);
    }
    if (!of_pod && !containers.len)
        return fine;
    return (struct psa_finding){"seccompProfile", kp_arena_printf(pod->arena, "%s must not set securityContext.seccompProfile.type to %s",
                                                                  psa_setters(of_pod, &containers, pod->arena), psa_quoted(&values, pod->arena))};
}

/* Before v1.19 profiles were annotations. */
struct psa_finding psa_seccomp_annotations(const struct psa_pod *pod)
{
    struct kp_string_list forbidden = {0};
    for (size_t i = 0; i <= pod->n; i++) {
        const char *key = i == 0 ? "seccomp.security.alpha.kubernetes.io/pod"
                                 : kp_arena_printf(pod->arena, "container.seccomp.security.alpha.kubernetes.io/%s", pod->containers[i - 1].name);
        const char *value = kp_string_map_get(&pod->meta->annotations, key);
        if (value && !kp_streq(value, "runtime/default") && !kp_streq(value, "docker/default") && !kp_starts_with(value, "localhost/"))
            psa_add_sorted(&forbidden, kp_arena_printf(pod->arena, "%s=\"%s\"", key, value), pod->arena);
    }
    if (!forbidden.len)
        return fine;
    return (struct psa_finding){"seccompProfile", kp_arena_printf(pod->arena, "forbidden %s %s", forbidden.len == 1 ? "annotation" : "annotations",
                                                                  psa_joined(&forbidden, ", ", pod->arena))};
}

/* ---- sysctls */
struct psa_finding psa_sysctls(const struct psa_pod *pod)
{
    static const struct {
        const char *name;
        int since;
    } allowed[] = {
        {"kernel.shm_rmid_forced", 0},          {"net.ipv4.ip_local_port_range", 0},     {"net.ipv4.tcp_syncookies", 0},
        {"net.ipv4.ping_group_range", 0},       {"net.ipv4.ip_unprivileged_port_start", 0}, {"net.ipv4.ip_local_reserved_ports", 27},
        {"net.ipv4.tcp_keepalive_time", 29},    {"net.ipv4.tcp_fin_timeout", 29},        {"net.ipv4.tcp_keepalive_intvl", 29},
        {"net.ipv4.tcp_keepalive_probes", 29},  {"net.ipv4.tcp_rmem", 32},               {"net.ipv4.tcp_wmem", 32},
    };
    struct kp_string_list forbidden = {0};
    for (size_t i = 0; i < pod->security->sysctls.len; i++) {
        const char *name = pod->security->sysctls.items[i].name;
        bool known = false;
        for (size_t k = 0; k < KP_ARRAY_LEN(allowed); k++)
            known |= kp_streq(name, allowed[k].name) && pod->minor >= allowed[k].since;
        if (!known)
            kp_string_list_add(pod->arena, &forbidden, name);
    }
    return forbidden.len ? (struct psa_finding){"forbidden sysctls", psa_joined(&forbidden, ", ", pod->arena)} : fine;
}

/* ---- Windows */
struct psa_finding psa_host_process(const struct psa_pod *pod)
{
    struct kp_string_list bad = {0};
    bool of_pod = pod->security->windows_options && pod->security->windows_options->host_process;
    for (size_t i = 0; i < pod->n; i++) {
        const struct k8s_windows_security_context_options *windows = pod->containers[i].security->windows_options;
        if (windows && windows->host_process)
            kp_string_list_add(pod->arena, &bad, pod->containers[i].name);
    }
    if (!of_pod && !bad.len)
        return fine;
    return (struct psa_finding){"hostProcess", kp_arena_printf(pod->arena, "%s must not set securityContext.windowsOptions.hostProcess=true",
                                                               psa_setters(of_pod, &bad, pod->arena))};
}
