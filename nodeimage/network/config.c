/* The texts this program writes: CNI configuration and nftables rules. */
#include "nodeimage/network/network.h"

void network_cni_config(const char *pod_cidr, struct kp_buf *out)
{
    kp_buf_printf(out,
                  "{\n"
                  "  \"cniVersion\": \"0.4.0\",\n"
                  "  \"name\": \"kprov\",\n"
                  "  \"plugins\": [\n"
                  "    {\n"
                  "      \"type\": \"bridge\",\n"
                  "      \"bridge\": \"cni0\",\n"
                  "      \"isDefaultGateway\": true,\n"
                  "      \"hairpinMode\": true,\n"
                  "      \"ipam\": {\"type\": \"host-local\", \"ranges\": [[{\"subnet\": \"%s\"}]]}\n"
                  "    }\n"
                  "  ]\n"
                  "}\n",
                  pod_cidr);
}

void network_masquerade_rules(const char *cluster_cidr, struct kp_buf *out)
{
    kp_buf_printf(out,
                  "add table ip kprov-network\n"
                  "delete table ip kprov-network\n"
                  "add table ip kprov-network\n"
                  "add chain ip kprov-network postrouting { type nat hook postrouting priority srcnat; }\n"
                  "add rule ip kprov-network postrouting ip saddr %s ip daddr != %s ip daddr != 224.0.0.0/4 masquerade\n",
                  cluster_cidr, cluster_cidr);
}
