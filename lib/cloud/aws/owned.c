/* Everything that carries a cluster's tag: listed, and deleted in the order of what needs what. */
#include "cloud/aws/aws_internal.h"

static const struct kind {
    const char *what, *action, *path, *id;
} kinds[] = {
    {"volume", "DescribeVolumes", "volumeSet/item", "volumeId"},
    {"network interface", "DescribeNetworkInterfaces", "networkInterfaceSet/item", "networkInterfaceId"},
    {"elastic address", "DescribeAddresses", "addressesSet/item", "allocationId"},
    {"security group", "DescribeSecurityGroups", "securityGroupInfo/item", "groupId"},
    {"route table", "DescribeRouteTables", "routeTableSet/item", "routeTableId"},
    {"subnet", "DescribeSubnets", "subnetSet/item", "subnetId"},
    {"internet gateway", "DescribeInternetGateways", "internetGatewaySet/item", "internetGatewayId"},
    {"VPC", "DescribeVpcs", "vpcSet/item", "vpcId"},
};

static int find(struct aws *aws, const struct kind *kind, const char *uid, struct kp_arena *arena, struct aws_list *ret, struct kp_error *error)
{
    AWS_FORM form = {0};
    if (uid)
        aws_filter(&form, "tag:" AWS_TAG_CLUSTER, uid);
    else
        aws_filter(&form, "tag-key", AWS_TAG_CLUSTER);
    return aws_list(aws, AWS_EC2, kind->action, &form, kind->path, arena, ret, error);
}

static void say(struct kp_strings *ret, struct kp_arena *arena, const char *what, const char *name, const char *id)
{
    kp_strings_add(ret, *name ? kp_arena_printf(arena, "%s %s (%s)", what, name, id) : kp_arena_printf(arena, "%s %s", what, id));
}

int aws_owned(void *state, const char *uid, struct kp_arena *arena, struct kp_strings *ret, struct kp_error *error)
{
    struct aws *aws = state;
    struct aws_list list;
    int r = 0;
    for (int groups = 0; r == 0 && groups < 2; groups++) {
        struct aws_tagged *tagged;
        size_t n;
        r = aws_tagged_list(aws, groups, uid, arena, &tagged, &n, error);
        for (size_t i = 0; r == 0 && i < n; i++)
            say(ret, arena, groups ? "target group" : "load balancer", tagged[i].name, tagged[i].arn);
    }
    if (r == 0)
        r = aws_instances(aws, uid, NULL, NULL, AWS_UNGONE, arena, &list, error);
    for (size_t i = 0; r == 0 && i < list.len; i++)
        say(ret, arena, "machine", aws_tag_of(list.items[i], AWS_TAG_NAME), aws_text(list.items[i], "instanceId"));
    for (size_t k = 0; r == 0 && k < KP_ARRAY_LEN(kinds); k++) {
        r = find(aws, &kinds[k], uid, arena, &list, error);
        for (size_t i = 0; r == 0 && i < list.len; i++)
            say(ret, arena, kinds[k].what, aws_tag_of(list.items[i], AWS_TAG_NAME), aws_text(list.items[i], kinds[k].id));
    }
    return r;
}

static void add_uid(struct kp_strings *uids, const char *uid)
{
    for (size_t i = 0; i < uids->len; i++)
        if (kp_streq(uids->items[i], uid))
            return;
    if (*uid)
        kp_strings_add(uids, uid);
}

int aws_clusters(void *state, struct kp_strings *ret_uids, struct kp_error *error)
{
    struct aws *aws = state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct aws_list list;
    int r = 0;
    for (int groups = 0; r == 0 && groups < 2; groups++) {
        struct aws_tagged *tagged;
        size_t n;
        r = aws_tagged_list(aws, groups, NULL, arena, &tagged, &n, error);
        for (size_t i = 0; r == 0 && i < n; i++)
            add_uid(ret_uids, tagged[i].uid);
    }
    /* Instances stand on volumes and interfaces of the same tag. */
    for (size_t k = 0; r == 0 && k < KP_ARRAY_LEN(kinds); k++) {
        r = find(aws, &kinds[k], NULL, arena, &list, error);
        for (size_t i = 0; r == 0 && i < list.len; i++)
            add_uid(ret_uids, aws_tag_of(list.items[i], AWS_TAG_CLUSTER));
    }
    return r;
}

static int purge_balancers(struct aws *aws, const char *uid, struct kp_arena *arena, struct kp_error *error)
{
    struct aws_tagged *tagged;
    size_t n;
    int r = 0;
    for (int groups = 0; r == 0 && groups < 2; groups++) {
        r = aws_tagged_list(aws, groups, uid, arena, &tagged, &n, error);
        for (size_t i = 0; r == 0 && i < n; i++)
            r = aws_simple(aws, AWS_ELB, groups ? "DeleteTargetGroup" : "DeleteLoadBalancer", groups ? "TargetGroupArn" : "LoadBalancerArn", tagged[i].arn, error);
    }
    return r;
}

static int purge_volumes(struct aws *aws, const char *uid, struct kp_arena *arena, struct kp_error *error)
{
    struct aws_list list;
    int r = find(aws, &kinds[0], uid, arena, &list, error);
    for (size_t i = 0; r == 0 && i < list.len; i++)
        r = aws_simple(aws, AWS_EC2, "DeleteVolume", "VolumeId", aws_text(list.items[i], "volumeId"), error);
    return r;
}

/* A balancer's interfaces and its hold on security groups and target groups end some time after the balancer. */
static int purge_rest(struct aws *aws, const char *uid, struct kp_arena *arena, struct kp_error *error)
{
    struct kp_error why = {0};
    for (int64_t until = kp_mono_ms() + 2 * aws->settle_ms;; kp_sleep_ms(aws->poll_ms)) {
        int r = purge_balancers(aws, uid, arena, &why);
        if (r == 0)
            r = purge_volumes(aws, uid, arena, &why);
        if (r == 0)
            r = aws_network_delete(aws, uid, &why);
        if (r != KP_ECONFLICT || kp_mono_ms() > until)
            return r < 0 ? aws_pass(error, &why) : 0;
    }
}

int aws_purge(void *state, const char *uid, struct kp_error *error)
{
    struct aws *aws = state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_error ignored = {0}; /* target groups of a balancer that is going: again in purge_rest */
    int r = purge_balancers(aws, uid, arena, &ignored);
    if (r < 0 && r != KP_ECONFLICT)
        return aws_pass(error, &ignored);
    r = aws_machine_delete(aws, uid, NULL, error);
    return r < 0 ? r : purge_rest(aws, uid, arena, error);
}
