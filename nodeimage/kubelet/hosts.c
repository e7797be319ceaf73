/* The /etc/hosts file that the kubelet manages for its pods. Pure. */
#include "nodeimage/kubelet/pod_internal.h"

static void host_aliases(struct kp_buf *out, const struct k8s_pod *pod)
{
    if (pod->spec->host_aliases.len == 0)
        return;
    kp_buf_puts(out, "\n# Entries added by HostAliases.\n");
    for (size_t i = 0; i < pod->spec->host_aliases.len; i++) {
        const struct k8s_host_alias *alias = &pod->spec->host_aliases.items[i];
        kp_buf_puts(out, alias->ip ? alias->ip : "");
        for (size_t j = 0; j < alias->hostnames.len; j++)
            kp_buf_printf(out, "\t%s", alias->hostnames.items[j]);
        kp_buf_putc(out, '\n');
    }
}

void kubelet_hosts_file(struct kp_buf *out, const struct k8s_pod *pod, const char *const *pod_ips, size_t n_pod_ips,
                        const char *hostname, const char *domain, const char *node_hosts)
{
    if (node_hosts) {
        kp_buf_printf(out, "# Kubernetes-managed hosts file (host network).\n%s", node_hosts);
        host_aliases(out, pod);
        return;
    }
    kp_buf_puts(out, "# Kubernetes-managed hosts file.\n"
                     "127.0.0.1\tlocalhost\n"
                     "::1\tlocalhost ip6-localhost ip6-loopback\n"
                     "fe00::\tip6-localnet\n"
                     "fe00::\tip6-mcastprefix\n"
                     "fe00::1\tip6-allnodes\n"
                     "fe00::2\tip6-allrouters\n");
    for (size_t i = 0; i < n_pod_ips; i++) {
        if (kp_empty(domain))
            kp_buf_printf(out, "%s\t%s\n", pod_ips[i], hostname);
        else
            kp_buf_printf(out, "%s\t%s.%s\t%s\n", pod_ips[i], hostname, domain, hostname);
    }
    host_aliases(out, pod);
}
