/* The CRI configuration of a pod's sandbox: host name, DNS, ports, namespaces, labels. Pure. */
#include "nodeimage/kubelet/pod_internal.h"

#define HOSTNAME_MAX 63
#define CGROUP_ROOT "/kubepods"

static void dns_from_cluster(const struct k8s_pod *pod, const struct kubelet_dns_input *in, struct kp_arena *arena,
                             struct kubelet_dns *dns)
{
    const char *ns = pod->metadata->namespace, *domain = in->cluster_domain;
    for (size_t i = 0; i < in->n_cluster_servers; i++)
        kubelet_dns_add_server(arena, dns, in->cluster_servers[i]);
    if (!kp_empty(domain)) {
        kubelet_dns_add_search(arena, dns, kp_arena_printf(arena, "%s.svc.%s", ns, domain));
        kubelet_dns_add_search(arena, dns, kp_arena_printf(arena, "svc.%s", domain));
        kubelet_dns_add_search(arena, dns, domain);
    }
    for (size_t i = 0; in->node && i < in->node->n_searches; i++)
        kubelet_dns_add_search(arena, dns, in->node->searches[i]);
    kubelet_dns_add_option(arena, dns, "ndots", "5");
}

static void dns_from_node(const struct kubelet_dns_input *in, struct kp_arena *arena, struct kubelet_dns *dns)
{
    if (!in->node)
        return;
    for (size_t i = 0; i < in->node->n_servers; i++)
        kubelet_dns_add_server(arena, dns, in->node->servers[i]);
    for (size_t i = 0; i < in->node->n_searches; i++)
        kubelet_dns_add_search(arena, dns, in->node->searches[i]);
    for (size_t i = 0; i < in->node->n_options; i++)
        dns->options[dns->n_options++] = in->node->options[i];
}

void kubelet_pod_dns(const struct k8s_pod *pod, const struct kubelet_dns_input *in, struct kp_arena *arena,
                     struct kubelet_dns *ret_dns)
{
    *ret_dns = (struct kubelet_dns){0};
    const char *policy = kp_empty(pod->spec->dns_policy) ? "ClusterFirst" : pod->spec->dns_policy;
    bool cluster = kp_streq(policy, "ClusterFirstWithHostNet") ||
                   (kp_streq(policy, "ClusterFirst") && !pod->spec->host_network);
    if (cluster && in->n_cluster_servers > 0)
        dns_from_cluster(pod, in, arena, ret_dns);
    else if (!kp_streq(policy, "None"))
        dns_from_node(in, arena, ret_dns);
    const struct k8s_pod_dns_config *own = pod->spec->dns_config;
    if (!own)
        return;
    for (size_t i = 0; i < own->nameservers.len; i++)
        kubelet_dns_add_server(arena, ret_dns, own->nameservers.items[i]);
    for (size_t i = 0; i < own->searches.len; i++)
        kubelet_dns_add_search(arena, ret_dns, own->searches.items[i]);
    for (size_t i = 0; i < own->options.len; i++)
        kubelet_dns_add_option(arena, ret_dns, own->options.items[i].name, own->options.items[i].value);
}

const char *kubelet_pod_hostname(const struct k8s_pod *pod, const char *cluster_domain, struct kp_arena *arena,
                                 const char **ret_domain)
{
    *ret_domain = "";
    if (!kp_empty(pod->spec->hostname_override))
        return pod->spec->hostname_override;
    const char *name = kp_empty(pod->spec->hostname) ? pod->metadata->name : pod->spec->hostname;
    size_t len = KP_MIN(strlen(name), (size_t)HOSTNAME_MAX);
    while (len > 0 && (name[len - 1] == '-' || name[len - 1] == '.'))
        len--;
    name = kp_arena_strndup(arena, name, len);
    if (!kp_empty(pod->spec->subdomain))
        *ret_domain = kp_arena_printf(arena, "%s.%s.svc.%s", pod->spec->subdomain, pod->metadata->namespace,
                                      cluster_domain ? cluster_domain : "");
    return name;
}

const char *kubelet_pod_log_dir(const struct k8s_pod *pod, struct kp_arena *arena)
{
    return kp_arena_printf(arena, "/var/log/pods/%s_%s_%s", pod->metadata->namespace, pod->metadata->name, pod->metadata->uid);
}

static void pair_add(struct cri_pairs *pairs, const char *key, const char *value)
{
    pairs->items[pairs->len++] = (struct cri_pair){.key = key, .value = value ? value : ""};
}

static void set_labels(const struct k8s_pod *pod, struct kp_arena *arena, struct cri_sandbox_config *config)
{
    const struct kp_string_map *labels = &pod->metadata->labels, *annotations = &pod->metadata->annotations;
    config->labels.items = KP_NEW_ARRAY(arena, struct cri_pair, labels->len + 3);
    for (size_t i = 0; i < labels->len; i++)
        pair_add(&config->labels, labels->items[i].key, labels->items[i].value);
    pair_add(&config->labels, KUBELET_LABEL_POD_NAME, pod->metadata->name);
    pair_add(&config->labels, KUBELET_LABEL_POD_NAMESPACE, pod->metadata->namespace);
    pair_add(&config->labels, KUBELET_LABEL_POD_UID, pod->metadata->uid);
    config->annotations.items = KP_NEW_ARRAY(arena, struct cri_pair, annotations->len + 1);
    for (size_t i = 0; i < annotations->len; i++)
        pair_add(&config->annotations, annotations->items[i].key, annotations->items[i].value);
}

static void set_ports(const struct k8s_pod *pod, struct kp_arena *arena, struct cri_sandbox_config *config)
{
    size_t max = 0;
    for (size_t i = 0; i < pod->spec->containers.len; i++)
        max += pod->spec->containers.items[i].ports.len;
    for (size_t i = 0; i < pod->spec->init_containers.len; i++)
        max += pod->spec->init_containers.items[i].ports.len;
    config->ports = KP_NEW_ARRAY(arena, struct cri_port, max + 1);
    struct kubelet_spec_container *specs;
    size_t n = kubelet_spec_containers(pod, arena, &specs);
    for (size_t i = 0; i < n; i++) {
        if (specs[i].kind == KUBELET_EPHEMERAL || (specs[i].kind == KUBELET_INIT && !specs[i].sidecar))
            continue;
        for (size_t j = 0; j < specs[i].container->ports.len; j++) {
            const struct k8s_container_port *port = &specs[i].container->ports.items[j];
            if (port->host_port == 0 || pod->spec->host_network)
                continue;
            config->ports[config->n_ports++] = (struct cri_port){
                .protocol = kp_streq(port->protocol, "UDP") ? CRI_UDP : kp_streq(port->protocol, "SCTP") ? CRI_SCTP : CRI_TCP,
                .container_port = port->container_port,
                .host_port = port->host_port,
                .host_ip = port->host_ip ? port->host_ip : ""};
        }
    }
}

static void set_security(const struct k8s_pod *pod, struct cri_security *security)
{
    const struct k8s_pod_spec *spec = pod->spec;
    const struct k8s_pod_security_context *context = spec->security_context;
    security->network = spec->host_network ? CRI_NS_NODE : CRI_NS_POD;
    security->ipc = spec->host_ipc ? CRI_NS_NODE : CRI_NS_POD;
    bool share = spec->has_share_process_namespace && spec->share_process_namespace;
    security->pid = spec->host_pid ? CRI_NS_NODE : share ? CRI_NS_POD : CRI_NS_CONTAINER;
    security->readonly_rootfs = true; /* of the pause container */
    security->seccomp = CRI_SECCOMP_RUNTIME_DEFAULT;
    for (size_t i = 0; i < spec->containers.len; i++) {
        const struct k8s_security_context *c = spec->containers.items[i].security_context;
        security->privileged = security->privileged || (c && c->has_privileged && c->privileged);
    }
    for (size_t i = 0; i < spec->init_containers.len; i++) {
        const struct k8s_security_context *c = spec->init_containers.items[i].security_context;
        security->privileged = security->privileged || (c && c->has_privileged && c->privileged);
    }
    if (!context)
        return;
    security->has_run_as_user = context->has_run_as_user;
    security->run_as_user = context->run_as_user;
    security->has_run_as_group = context->has_run_as_group && context->has_run_as_user;
    security->run_as_group = context->run_as_group;
}

void kubelet_sandbox_config(const struct k8s_pod *pod, uint32_t attempt, const struct kubelet_dns_input *dns_input,
                            const char *hostname, const char *runtime_handler, int64_t node_memory_bytes, struct kp_arena *arena,
                            struct cri_sandbox_config *ret_config)
{
    struct kubelet_dns *dns = KP_NEW(arena, struct kubelet_dns);
    kubelet_pod_dns(pod, dns_input, arena, dns);
    const struct k8s_pod_security_context *context = pod->spec->security_context;
    *ret_config = (struct cri_sandbox_config){
        .name = pod->metadata->name,
        .uid = pod->metadata->uid,
        .ns = pod->metadata->namespace,
        .attempt = attempt,
        .hostname = pod->spec->host_network ? "" : hostname,
        .log_directory = kubelet_pod_log_dir(pod, arena),
        .dns_servers = {.items = dns->servers, .len = dns->n_servers},
        .dns_searches = {.items = dns->searches, .len = dns->n_searches},
        .dns_options = {.items = dns->options, .len = dns->n_options},
        .runtime_handler = runtime_handler ? runtime_handler : "",
    };
    const char *qos = kubelet_qos_class(pod);
    ret_config->cgroup_parent =
        kp_arena_printf(arena, CGROUP_ROOT "%s/pod%s",
                        kp_streq(qos, "Guaranteed") ? "" : kp_streq(qos, "Burstable") ? "/burstable" : "/besteffort",
                        pod->metadata->uid);
    set_labels(pod, arena, ret_config);
    set_ports(pod, arena, ret_config);
    set_security(pod, &ret_config->security);
    if (context && context->sysctls.len > 0) {
        ret_config->sysctls.items = KP_NEW_ARRAY(arena, struct cri_pair, context->sysctls.len);
        for (size_t i = 0; i < context->sysctls.len; i++)
            pair_add(&ret_config->sysctls, context->sysctls.items[i].name, context->sysctls.items[i].value);
    }
    for (size_t i = 0; i < pod->spec->containers.len; i++) {
        struct cri_resources one;
        kubelet_container_resources(pod, &pod->spec->containers.items[i], node_memory_bytes, &one);
        ret_config->resources.cpu_shares += one.cpu_shares;
    }
}
