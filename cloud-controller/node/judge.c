/* What is to be done about a node that is not ready, by what the cloud says of its machines. */
#include "cloud-controller/node/node.h"

/* Whether both ids are of one cloud: "aws:///eu-west-1a/i-1" and "aws:///eu-west-1b/i-2". */
static bool is_same_cloud(const char *a, const char *b)
{
    const char *end = a ? strstr(a, "://") : NULL;
    size_t len = end ? (size_t)(end - a) + 3 : 0;
    return len > 0 && b && strncmp(a, b, len) == 0;
}

enum node_verdict node_judge(const struct k8s_node *node, const struct cloud_machine_list *machines)
{
    bool tainted = ccm_has_taint(node, CCM_TAINT_SHUTDOWN);
    if (node->metadata->deletion_timestamp.set)
        return NODE_LEAVE;
    if (ccm_is_ready(node))
        return tainted ? NODE_UNTAINT : NODE_LEAVE;
    /* This program runs on a machine of the cluster: an answer without any is an answer about something else (another project, another
       region, rights that see nothing), and says nothing about ours. */
    if (!machines || machines->len == 0)
        return NODE_LEAVE;
    const struct cloud_machine *machine = node_find_machine(machines, node->metadata->name);
    if (machine)
        return node_is_of(node, machine) && machine->power == CLOUD_POWER_OFF && !tainted ? NODE_TAINT : NODE_LEAVE;
    /* Its kubelet has left to the cloud who it is, and the machine went before it was said: one that registered again after its Node was deleted. */
    if (kp_empty(node->spec->provider_id) && ccm_has_taint(node, CCM_TAINT_UNINITIALIZED))
        return NODE_ASK;
    /* A machine that somebody joined from elsewhere is not this cloud's to know. */
    return is_same_cloud(machines->items[0].provider_id, node->spec->provider_id) ? NODE_ASK : NODE_LEAVE;
}
