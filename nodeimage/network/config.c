/* The texts this program writes: CNI configuration and nftables rules. */
#include "nodeimage/network/network.h"

#include <arpa/inet.h>

#define ETHERNET_MTU 1500 /* what links have by themselves */
/* Of every cloud's metadata service: it tells a machine's keys to whoever asks from that machine. Pods on the machine's own network are the
   machine, and may ask. */
#define METADATA_ADDRESS "169.254.169.254"

bool network_is_near(const char *own_address, int prefix_len, uint32_t other)
{
    struct in_addr own;
    if (inet_pton(AF_INET, own_address, &own) != 1 || prefix_len < 1 || prefix_len > 32)
        return false;
    return ((ntohl(own.s_addr) ^ other) >> (32 - prefix_len)) == 0;
}

void network_cni_config(const char *pod_cidr, unsigned mtu, struct kp_buf *out)
{
    char line[32] = "";
    if (mtu && mtu != ETHERNET_MTU)
        snprintf(line, sizeof(line), "      \"mtu\": %u,\n", mtu);
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
                  "%s"
                  "      \"ipam\": {\"type\": \"host-local\", \"ranges\": [[{\"subnet\": \"%s\"}]]}\n"
                  "    }\n"
                  "  ]\n"
                  "}\n",
                  line, pod_cidr);
}

void network_pod_rules(const char *cluster_cidr, struct kp_buf *out)
{
    kp_buf_printf(out,
                  "add table ip kprov-network\n"
                  "delete table ip kprov-network\n"
                  "add table ip kprov-network\n"
                  "add chain ip kprov-network postrouting { type nat hook postrouting priority srcnat; }\n"
                  "add rule ip kprov-network postrouting ip saddr %s ip daddr != %s ip daddr != 224.0.0.0/4 masquerade\n"
                  "add chain ip kprov-network forward { type filter hook forward priority filter; }\n"
                  "add rule ip kprov-network forward ip saddr %s ip daddr " METADATA_ADDRESS " reject\n",
                  cluster_cidr, cluster_cidr, cluster_cidr);
}
