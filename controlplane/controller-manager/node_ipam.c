/* Node IPAM: gives every node a pod CIDR out of the cluster's, the lowest that is free. */
#include "controlplane/controller-manager/controllers.h"

#include <arpa/inet.h>

#define IPAM_RANGES_MAX 65536

struct range {
    uint32_t base; /* host order */
    int bits, node_bits;
    size_t count;
};

static int parse_range(const char *cidr, int64_t node_bits, struct range *ret, struct kp_error *error)
{
    char address[INET_ADDRSTRLEN];
    const char *slash = strchr(cidr, '/');
    int64_t bits;
    struct in_addr in;
    if (!slash || (size_t)(slash - cidr) >= sizeof(address) || kp_parse_i64(slash + 1, &bits) < 0)
        return kp_fail(error, KP_EUSAGE, "--cluster-cidr=%s: not an IPv4 CIDR such as 10.244.0.0/16", cidr);
    memcpy(address, cidr, (size_t)(slash - cidr));
    address[slash - cidr] = '\0';
    if (inet_pton(AF_INET, address, &in) != 1 || bits < 1 || bits > 30)
        return kp_fail(error, KP_EUSAGE, "--cluster-cidr=%s: not an IPv4 CIDR such as 10.244.0.0/16", cidr);
    if (node_bits < bits || node_bits > 30 || node_bits - bits > 16)
        return kp_fail(error, KP_EUSAGE, "--node-cidr-mask-size=%lld: must be at least the %lld bits of --cluster-cidr, at most 16 more, at most 30",
                       (long long)node_bits, (long long)bits);
    *ret = (struct range){
        .base = ntohl(in.s_addr) & (uint32_t)(0xffffffffu << (32 - bits)), .bits = (int)bits, .node_bits = (int)node_bits,
        .count = (size_t)1 << (node_bits - bits),
    };
    return 0;
}

/* Index of a node's CIDR in the range, or -1 when it lies elsewhere. */
static int64_t index_of(const struct range *range, const char *cidr)
{
    char address[INET_ADDRSTRLEN];
    const char *slash = cidr ? strchr(cidr, '/') : NULL;
    struct in_addr in;
    if (!slash || (size_t)(slash - cidr) >= sizeof(address))
        return -1;
    memcpy(address, cidr, (size_t)(slash - cidr));
    address[slash - cidr] = '\0';
    if (inet_pton(AF_INET, address, &in) != 1)
        return -1;
    uint32_t offset = (ntohl(in.s_addr) - range->base) >> (32 - range->node_bits);
    return ntohl(in.s_addr) >= range->base && offset < range->count ? (int64_t)offset : -1;
}

/* All nodes share one key: two plans at a time could hand the same range out twice. */
static void map_all(struct controller_run *run, const struct client_object *old, const struct client_object *new)
{
    const struct k8s_node *node = new ? new->data : NULL;
    if (node && kp_empty(node->spec->pod_cidr))
        engine_enqueue(run, "", "nodes");
}

static int plan_ipam(const struct plan_input *in, struct plan *plan, struct kp_error *error)
{
    const struct range *range = in->state;
    const void *const *nodes;
    size_t n = client_view_list(in->view, engine_cache(in->engine, &k8s_nodes_resource), NULL, &nodes);
    bool *used = KP_NEW_ARRAY(in->arena, bool, range->count);
    for (size_t i = 0; i < n; i++) {
        int64_t index = index_of(range, ((const struct k8s_node *)nodes[i])->spec->pod_cidr);
        if (index >= 0)
            used[index] = true;
    }
    size_t next = 0;
    for (size_t i = 0; i < n; i++) {
        const struct k8s_node *node = nodes[i];
        if (!kp_empty(node->spec->pod_cidr) || node->metadata->deletion_timestamp.set)
            continue;
        while (next < range->count && used[next])
            next++;
        if (next == range->count) {
            plan_event(plan, &k8s_node_type, node, "Normal", "CIDRNotAvailable", "Node %s status is now: CIDRNotAvailable", node->metadata->name);
            plan_requeue_after_ms(plan, 30000);
            return 0;
        }
        uint32_t base = range->base + (uint32_t)(next++ << (32 - range->node_bits));
        struct in_addr address = {.s_addr = htonl(base)};
        char text[INET_ADDRSTRLEN];
        inet_ntop(AF_INET, &address, text, sizeof(text));
        plan_patch(plan, &k8s_nodes_resource, "", node->metadata->name, NULL, CLIENT_PATCH_MERGE,
                   kp_arena_printf(in->arena, "{\"spec\":{\"podCIDR\":\"%s/%d\",\"podCIDRs\":[\"%s/%d\"]},\"metadata\":{\"uid\":\"%s\"}}", text,
                                   range->node_bits, text, range->node_bits, node->metadata->uid));
    }
    return 0;
}

static int setup_ipam(struct engine *engine, struct controller_run *run, void **ret_state, struct kp_error *error)
{
    const struct engine_config *config = engine_config(engine);
    if (!config->allocate_node_cidrs)
        return 0;
    struct range *range = kp_calloc(1, sizeof(*range));
    *ret_state = range;
    if (parse_range(config->cluster_cidr, config->node_cidr_mask_size, range, error) < 0)
        return error->code;
    engine_watch(run, &k8s_nodes_resource, map_all);
    return 0;
}

const struct controller node_ipam_controller = {.name = "node-ipam-controller", .setup = setup_ipam, .plan = plan_ipam, .teardown = free};
