/* Reserved addresses: a network interface each, which a machine of that name is made with and leaves behind; and elastic addresses on them. */
#include "cloud/aws/aws_internal.h"

#define SETTLE_MS 15000 /* that a change of EC2's may take to be seen; below what a call of its kind may take */

static void to_interface(const struct aws_node *item, struct aws_interface *ret)
{
    *ret = (struct aws_interface){
        .id = aws_text(item, "networkInterfaceId"), .address = aws_text(item, "privateIpAddress"), .public_address = aws_text(item, "association/publicIp"),
        .instance = aws_text(item, "attachment/instanceId"), .subnet = aws_text(item, "subnetId"), .zone = aws_text(item, "availabilityZone"),
        .name = aws_tag_of(item, AWS_TAG_NAME), .checked = !kp_streq(aws_text(item, "sourceDestCheck"), "false")};
}

static int find_interfaces(struct aws *aws, const char *uid, const char *name, struct kp_arena *arena, struct aws_interface **ret, size_t *ret_n,
                           struct kp_error *error)
{
    AWS_FORM form = {0};
    struct aws_list list;
    aws_filter(&form, "tag:" AWS_TAG_CLUSTER, uid);
    if (name)
        aws_filter(&form, "tag:" AWS_TAG_NAME, name);
    int r = aws_list(aws, AWS_EC2, "DescribeNetworkInterfaces", &form, "networkInterfaceSet/item", arena, &list, error);
    if (r < 0)
        return r;
    *ret = KP_NEW_ARRAY(arena, struct aws_interface, list.len + 1);
    *ret_n = list.len;
    for (size_t i = 0; i < list.len; i++)
        to_interface(list.items[i], *ret + i);
    return 0;
}

int aws_interfaces(struct aws *aws, const char *uid, struct kp_arena *arena, struct aws_interface **ret, size_t *ret_n, struct kp_error *error)
{
    return find_interfaces(aws, uid, NULL, arena, ret, ret_n, error);
}

/* Of two made by a lost answer the one with a machine counts, else the one of the lower id. */
int aws_interface_find(struct aws *aws, const char *uid, const char *name, struct kp_arena *arena, struct aws_interface *ret, struct kp_error *error)
{
    struct aws_interface *all, *best = NULL;
    size_t n;
    int r = find_interfaces(aws, uid, name, arena, &all, &n, error);
    if (r < 0)
        return r;
    for (size_t i = 0; i < n; i++) {
        bool better = !best || (*all[i].instance && !*best->instance) || (!*all[i].instance == !*best->instance && strcmp(all[i].id, best->id) < 0);
        best = better ? &all[i] : best;
    }
    if (!best)
        return kp_fail(error, KP_ENOTFOUND, "cluster %s has no network interface for %s", uid, name);
    *ret = *best;
    return 0;
}

/* Instances whose interface was there before them get a public address only when the interface says so. EC2 may not show at once what it made. */
static int ask_public(struct aws *aws, const char *id, struct kp_arena *arena, struct kp_error *error)
{
    for (int64_t until = kp_mono_ms() + SETTLE_MS;; kp_sleep_ms(aws->poll_ms)) {
        AWS_FORM form = {0};
        aws_set(&form, "NetworkInterfaceId", id);
        aws_set(&form, "AssociatePublicIpAddress", "true");
        int r = aws_do(aws, AWS_EC2, "ModifyNetworkInterfaceAttribute", &form, 0, arena, NULL, error);
        if (r != KP_ENOTFOUND || kp_mono_ms() > until)
            return r;
    }
}

/* One that is there may have been left before it was asked for; EC2 does not tell. */
static int finish(struct aws *aws, const char *uid, const struct aws_interface *there, struct kp_arena *arena, struct kp_error *error)
{
    AWS_FORM form = {0};
    struct aws_list list;
    if (*there->instance)
        return 0;
    aws_set(&form, "SubnetId.1", there->subnet);
    int r = aws_list(aws, AWS_EC2, "DescribeSubnets", &form, "subnetSet/item", arena, &list, error);
    if (r < 0 || !list.len)
        return r;
    bool public = kp_streq(aws_tag_of(list.items[0], AWS_TAG_CLUSTER), uid) || kp_streq(aws_text(list.items[0], "mapPublicIpOnLaunch"), "true");
    return public ? ask_public(aws, there->id, arena, error) : 0;
}

static int make(struct aws *aws, const char *uid, const char *name, struct kp_arena *arena, const char **ret_address, struct kp_error *error)
{
    AWS_FORM form = {0};
    struct aws_net net;
    const struct aws_node *answer;
    int r = aws_net_find(aws, uid, arena, &net, error);
    if (r < 0)
        return r;
    if (!net.n_subnets || !*net.nodes)
        return kp_fail(error, KP_ECONFLICT, "the network %s of cluster %s is not whole: make it again", net.vpc, uid);
    const struct aws_subnet *subnet = &net.subnets[cloud_zone_of(name, net.n_subnets)];
    aws_set(&form, "SubnetId", subnet->id);
    aws_set(&form, "SecurityGroupId.1", net.nodes);
    aws_set(&form, "Description", kp_arena_printf(arena, "kprov cluster %s: %s", uid, name));
    aws_tags(&form, "network-interface", uid, name);
    aws_token(&form);
    r = aws_do(aws, AWS_EC2, "CreateNetworkInterface", &form, 0, arena, &answer, error);
    if (r < 0)
        return r;
    *ret_address = aws_text(answer, "networkInterface/privateIpAddress");
    return subnet->public ? ask_public(aws, aws_text(answer, "networkInterface/networkInterfaceId"), arena, error) : 0;
}

int aws_address_reserve(void *state, const char *uid, const char *name, struct kp_arena *arena, const char **ret_address, struct kp_error *error)
{
    struct aws *aws = state;
    struct aws_interface there;
    struct kp_error why = {0};
    pthread_mutex_lock(&aws->making);
    int r = aws_interface_find(aws, uid, name, arena, &there, &why);
    if (r == 0) {
        *ret_address = there.address;
        r = finish(aws, uid, &there, arena, error);
    } else {
        r = r == KP_ENOTFOUND ? make(aws, uid, name, arena, ret_address, error) : aws_pass(error, &why);
    }
    pthread_mutex_unlock(&aws->making);
    return r;
}

int aws_interfaces_delete(struct aws *aws, const char *uid, const char *name, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct aws_interface *all;
    size_t n;
    int r = find_interfaces(aws, uid, name, arena, &all, &n, error);
    for (size_t i = 0; r == 0 && i < n; i++)
        r = aws_simple(aws, AWS_EC2, "DeleteNetworkInterface", "NetworkInterfaceId", all[i].id, error);
    return r;
}

int aws_address_release(void *state, const char *uid, const char *name, struct kp_error *error)
{
    struct aws *aws = state;
    pthread_mutex_lock(&aws->making);
    int r = aws_addresses_release(aws, uid, name, error);
    for (int64_t until = kp_mono_ms() + SETTLE_MS; r == 0; kp_sleep_ms(aws->poll_ms)) {
        r = aws_interfaces_delete(aws, uid, name, error);
        if (r != KP_ECONFLICT || kp_mono_ms() > until)
            break;
        r = 0; /* an instance that has just ended lets go of it a moment later */
    }
    pthread_mutex_unlock(&aws->making);
    return r;
}

/* ---- elastic addresses */
static int find_elastic(struct aws *aws, const char *uid, const char *name, struct kp_arena *arena, struct aws_list *ret, struct kp_error *error)
{
    AWS_FORM form = {0};
    aws_filter(&form, "tag:" AWS_TAG_CLUSTER, uid);
    if (name)
        aws_filter(&form, "tag:" AWS_TAG_NAME, name);
    return aws_list(aws, AWS_EC2, "DescribeAddresses", &form, "addressesSet/item", arena, ret, error);
}

int aws_addresses_release(struct aws *aws, const char *uid, const char *name, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct aws_list list;
    int r = find_elastic(aws, uid, name, arena, &list, error);
    for (size_t i = 0; r == 0 && i < list.len; i++) {
        const char *association = aws_text(list.items[i], "associationId");
        if (*association)
            r = aws_simple(aws, AWS_EC2, "DisassociateAddress", "AssociationId", association, error);
        if (r == 0)
            r = aws_simple(aws, AWS_EC2, "ReleaseAddress", "AllocationId", aws_text(list.items[i], "allocationId"), error);
    }
    return r;
}

static int allocate(struct aws *aws, const char *uid, const char *name, struct kp_arena *arena, const struct aws_node **ret, struct kp_error *error)
{
    AWS_FORM form = {0};
    struct aws_list list;
    int r = find_elastic(aws, uid, name, arena, &list, error);
    if (r < 0 || list.len) {
        *ret = r == 0 ? list.items[0] : NULL;
        return r;
    }
    aws_set(&form, "Domain", "vpc");
    aws_tags(&form, "elastic-ip", uid, name);
    return aws_do(aws, AWS_EC2, "AllocateAddress", &form, AWS_ONCE, arena, ret, error);
}

static int publish(struct aws *aws, const char *uid, const char *name, struct kp_arena *arena, const char **ret_address, struct kp_error *error)
{
    AWS_FORM form = {0};
    struct aws_interface interface;
    const struct aws_node *elastic = NULL;
    int r = aws_interface_find(aws, uid, name, arena, &interface, error);
    if (r == 0)
        r = allocate(aws, uid, name, arena, &elastic, error);
    if (r < 0)
        return r;
    *ret_address = aws_text(elastic, "publicIp");
    if (kp_streq(aws_text(elastic, "networkInterfaceId"), interface.id))
        return 0;
    aws_set(&form, "AllocationId", aws_text(elastic, "allocationId"));
    aws_set(&form, "NetworkInterfaceId", interface.id);
    aws_set(&form, "AllowReassociation", "true");
    return aws_do(aws, AWS_EC2, "AssociateAddress", &form, 0, arena, NULL, error);
}

int aws_address_publish(void *state, const char *uid, const char *name, struct kp_arena *arena, const char **ret_address, struct kp_error *error)
{
    struct aws *aws = state;
    pthread_mutex_lock(&aws->making);
    int r = publish(aws, uid, name, arena, ret_address, error);
    pthread_mutex_unlock(&aws->making);
    return r;
}

/* EC2 knows no list of networks: an interface is checked or not. */
int aws_machine_forward(void *state, const char *uid, const char *name, const char *const *cidrs, struct kp_error *error)
{
    struct aws *aws = state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    AWS_FORM form = {0};
    struct aws_interface interface;
    bool check = !cidrs || !cidrs[0];
    int r = aws_interface_find(aws, uid, name, arena, &interface, error);
    if (r < 0 || interface.checked == check)
        return r;
    aws_set(&form, "NetworkInterfaceId", interface.id);
    aws_set(&form, "SourceDestCheck.Value", check ? "true" : "false");
    return aws_do(aws, AWS_EC2, "ModifyNetworkInterfaceAttribute", &form, 0, arena, NULL, error);
}
