/* A cluster's VPC: subnets over zones, a gateway, a route table, two security groups. All of it is found by tag. */
#include "cloud/aws/aws_internal.h"

#define ZONES_DEFAULT 3
#define RESOLVER "169.254.169.253" /* of every VPC */
#define VISIBLE_MS 30000           /* until EC2 shows what it said it made */

static int find_tagged(struct aws *aws, const char *action, const char *path, const char *uid, struct kp_arena *arena, struct aws_list *ret,
                       struct kp_error *error)
{
    AWS_FORM form = {0};
    aws_filter(&form, "tag:" AWS_TAG_CLUSTER, uid);
    return aws_list(aws, AWS_EC2, action, &form, path, arena, ret, error);
}

/* *ret NULL: none. */
static int find_vpc(struct aws *aws, const char *uid, struct kp_arena *arena, const struct aws_node **ret, bool *ret_shared, struct kp_error *error)
{
    AWS_FORM form = {0};
    struct aws_list list;
    *ret = NULL;
    *ret_shared = false;
    int r = find_tagged(aws, "DescribeVpcs", "vpcSet/item", uid, arena, &list, error);
    if (r < 0)
        return r;
    for (size_t i = 0; i < list.len; i++) /* of two made by a lost answer everybody takes the same */
        if (!*ret || strcmp(aws_text(list.items[i], "vpcId"), aws_text(*ret, "vpcId")) < 0)
            *ret = list.items[i];
    if (*ret)
        return 0;
    aws_filter(&form, "tag-key", kp_arena_printf(arena, AWS_TAG_SHARED "%s", uid));
    r = aws_list(aws, AWS_EC2, "DescribeVpcs", &form, "vpcSet/item", arena, &list, error);
    if (r == 0 && list.len) {
        *ret = list.items[0];
        *ret_shared = true;
    }
    return r;
}

static int by_zone(const void *a, const void *b)
{
    const struct aws_subnet *x = a, *y = b;
    int order = strcmp(x->zone, y->zone);
    return order ? order : strcmp(x->id, y->id);
}

static int find_subnets(struct aws *aws, const char *uid, struct kp_arena *arena, struct aws_net *net, struct kp_error *error)
{
    AWS_FORM form = {0};
    struct aws_list list;
    if (net->shared)
        aws_filter(&form, "tag-key", kp_arena_printf(arena, AWS_TAG_SHARED "%s", uid));
    else
        aws_filter(&form, "tag:" AWS_TAG_CLUSTER, uid);
    int r = aws_list(aws, AWS_EC2, "DescribeSubnets", &form, "subnetSet/item", arena, &list, error);
    if (r < 0)
        return r;
    net->subnets = KP_NEW_ARRAY(arena, struct aws_subnet, list.len + 1);
    net->n_subnets = 0;
    for (size_t i = 0; i < list.len; i++) {
        const struct aws_node *item = list.items[i];
        if (!kp_streq(aws_text(item, "vpcId"), net->vpc))
            continue;
        net->subnets[net->n_subnets++] = (struct aws_subnet){.id = aws_text(item, "subnetId"), .zone = aws_text(item, "availabilityZone"),
                                                            .cidr = aws_text(item, "cidrBlock"),
                                                            .public = !net->shared || kp_streq(aws_text(item, "mapPublicIpOnLaunch"), "true")};
    }
    qsort(net->subnets, net->n_subnets, sizeof(*net->subnets), by_zone);
    return 0;
}

static bool leads_for(const struct aws_node *table, const struct aws_net *net)
{
    for (const struct aws_node *a = aws_at(table, "associationSet/item"); a; a = aws_again(a))
        for (size_t i = 0; i < net->n_subnets; i++)
            if (kp_streq(aws_text(a, "subnetId"), net->subnets[i].id))
                return true;
    return false;
}

static bool is_main(const struct aws_node *table)
{
    for (const struct aws_node *a = aws_at(table, "associationSet/item"); a; a = aws_again(a))
        if (kp_streq(aws_text(a, "main"), "true"))
            return true;
    return false;
}

/* Ours, or of somebody else's VPC those that the subnets follow: their own, else the main one. */
static int find_tables(struct aws *aws, const char *uid, struct kp_arena *arena, struct aws_net *net, struct kp_error *error)
{
    AWS_FORM form = {0};
    struct aws_list list;
    if (net->shared)
        aws_filter(&form, "vpc-id", net->vpc);
    else
        aws_filter(&form, "tag:" AWS_TAG_CLUSTER, uid);
    int r = aws_list(aws, AWS_EC2, "DescribeRouteTables", &form, "routeTableSet/item", arena, &list, error);
    if (r < 0)
        return r;
    net->tables = KP_NEW_ARRAY(arena, const char *, list.len + 1);
    for (size_t i = 0; i < list.len; i++)
        if (!net->shared || leads_for(list.items[i], net))
            net->tables[net->n_tables++] = aws_text(list.items[i], "routeTableId");
    for (size_t i = 0; i < list.len && !net->n_tables; i++)
        if (is_main(list.items[i]))
            net->tables[net->n_tables++] = aws_text(list.items[i], "routeTableId");
    return 0;
}

int aws_net_find(struct aws *aws, const char *uid, struct kp_arena *arena, struct aws_net *ret, struct kp_error *error)
{
    const struct aws_node *vpc, *nodes = NULL, *balancers = NULL;
    *ret = (struct aws_net){0};
    int r = find_vpc(aws, uid, arena, &vpc, &ret->shared, error);
    if (r < 0)
        return r;
    if (!vpc)
        return kp_fail(error, KP_ENOTFOUND, "cluster %s has no VPC in %s", uid, aws->region);
    ret->vpc = aws_text(vpc, "vpcId");
    ret->cidr = aws_text(vpc, "cidrBlock");
    r = find_subnets(aws, uid, arena, ret, error);
    if (r == 0)
        r = find_tables(aws, uid, arena, ret, error);
    if (r == 0)
        r = aws_group_find(aws, uid, "nodes", arena, &nodes, error);
    if (r == 0)
        r = aws_group_find(aws, uid, "balancers", arena, &balancers, error);
    ret->nodes = aws_text(nodes, "groupId");
    ret->balancers = aws_text(balancers, "groupId");
    return r;
}

static int to_network(const char *uid, const char *vpc, const char *cidr, struct kp_arena *arena, struct cloud_network *ret, struct kp_error *error)
{
    uint32_t base;
    int bits;
    if (!aws_parse_cidr(cidr, &base, &bits))
        return kp_fail(error, KP_ECORRUPT, "VPC %s has the network \"%s\"", vpc, cidr);
    *ret = (struct cloud_network){.id = vpc, .cluster_uid = kp_arena_strdup(arena, uid), .cidr = cidr, .gateway = aws_format_address(base + 1, arena),
                                  .prefix_len = bits, .nameservers = RESOLVER};
    return 0;
}

int aws_network_get(void *state, const char *uid, struct kp_arena *arena, struct cloud_network *ret, struct kp_error *error)
{
    struct aws *aws = state;
    const struct aws_node *vpc;
    bool shared;
    int r = find_vpc(aws, uid, arena, &vpc, &shared, error);
    if (r == 0 && !vpc)
        return kp_fail(error, KP_ENOTFOUND, "cluster %s has no VPC in %s", uid, aws->region);
    return r < 0 ? r : to_network(uid, aws_text(vpc, "vpcId"), aws_text(vpc, "cidrBlock"), arena, ret, error);
}

int aws_zones(struct aws *aws, struct kp_arena *arena, struct kp_strings *ret, struct kp_error *error)
{
    AWS_FORM form = {0};
    struct aws_list list;
    aws_filter(&form, "state", "available");
    aws_filter(&form, "zone-type", "availability-zone");
    int r = aws_list(aws, AWS_EC2, "DescribeAvailabilityZones", &form, "availabilityZoneInfo/item", arena, &list, error);
    for (size_t i = 0; r == 0 && i < list.len; i++)
        kp_strings_add(ret, aws_text(list.items[i], "zoneName"));
    return r;
}

/* ---- making */
static int wait_visible(struct aws *aws, const char *vpc, struct kp_arena *arena, struct kp_error *error)
{
    for (int64_t until = kp_mono_ms() + VISIBLE_MS;; kp_sleep_ms(aws->poll_ms)) {
        AWS_FORM form = {0};
        struct aws_list list;
        struct kp_error why = {0};
        aws_set(&form, "VpcId.1", vpc);
        int r = aws_list(aws, AWS_EC2, "DescribeVpcs", &form, "vpcSet/item", arena, &list, &why);
        if (r == 0 && list.len && !kp_streq(aws_text(list.items[0], "state"), "pending"))
            return 0;
        if (r < 0 && r != KP_ENOTFOUND)
            return aws_pass(error, &why);
        if (kp_mono_ms() > until)
            return kp_fail(error, KP_EAGAIN, "VPC %s is not available yet", vpc);
    }
}

static int choose_cidr(struct aws *aws, const struct cloud_network_spec *spec, struct kp_arena *arena, const char **ret, struct kp_error *error)
{
    AWS_FORM form = {0};
    struct aws_list list;
    struct kp_strings taken = {0};
    *ret = spec->cidr;
    if (!kp_empty(spec->cidr))
        return aws_check_cidr(spec->cidr, error);
    int r = aws_list(aws, AWS_EC2, "DescribeVpcs", &form, "vpcSet/item", arena, &list, error);
    if (r < 0)
        return r;
    for (size_t i = 0; i < list.len; i++)
        kp_strings_add(&taken, aws_text(list.items[i], "cidrBlock"));
    if (!kp_empty(spec->pod_cidr))
        kp_strings_add(&taken, spec->pod_cidr);
    *ret = aws_free_cidr(&taken, arena);
    kp_strings_done(&taken);
    return *ret ? 0 : kp_fail(error, KP_EQUOTA, "no network is free for another VPC in %s: give one with the cluster", aws->region);
}

static int make_vpc(struct aws *aws, const struct cloud_network_spec *spec, struct kp_arena *arena, struct aws_net *net, struct kp_error *error)
{
    AWS_FORM form = {0};
    const struct aws_node *answer;
    int r = choose_cidr(aws, spec, arena, &net->cidr, error);
    if (r < 0)
        return r;
    aws_set(&form, "CidrBlock", net->cidr);
    aws_tags(&form, "vpc", spec->cluster_uid, "vpc");
    r = aws_do(aws, AWS_EC2, "CreateVpc", &form, AWS_ONCE, arena, &answer, error);
    if (r < 0)
        return r;
    net->vpc = aws_text(answer, "vpc/vpcId");
    return wait_visible(aws, net->vpc, arena, error);
}

static int mark_shared(struct aws *aws, const char *resource, const char *uid, bool on, struct kp_arena *arena, struct kp_error *error)
{
    AWS_FORM form = {0};
    aws_set(&form, "ResourceId.1", resource);
    aws_set(&form, "Tag.1.Key", kp_arena_printf(arena, AWS_TAG_SHARED "%s", uid));
    if (on)
        aws_set(&form, "Tag.1.Value", "shared");
    return aws_do(aws, AWS_EC2, on ? "CreateTags" : "DeleteTags", &form, 0, arena, NULL, error);
}

static bool is_wanted_zone(const char *zones, const char *zone)
{
    size_t len = strlen(zone);
    for (const char *at = kp_empty(zones) ? "" : zones; *at; at += strspn(at, " ")) {
        size_t word = strcspn(at, " ");
        if (word == len && memcmp(at, zone, len) == 0)
            return true;
        at += word;
    }
    return kp_empty(zones);
}

/* A VPC that is there: it and its subnets, one a zone, get a tag that the cluster uses them. */
static int take_vpc(struct aws *aws, const struct cloud_network_spec *spec, struct kp_arena *arena, struct aws_net *net, struct kp_error *error)
{
    AWS_FORM form = {0};
    struct aws_list list;
    bool by_id = kp_starts_with(spec->existing, "vpc-");
    aws_filter(&form, by_id ? "vpc-id" : "tag:Name", spec->existing);
    int r = aws_list(aws, AWS_EC2, "DescribeVpcs", &form, "vpcSet/item", arena, &list, error);
    if (r < 0)
        return r;
    if (list.len != 1)
        return kp_fail(error, KP_EINVALID, "there are %zu VPCs with the %s \"%s\" in %s: name the one to be used", list.len, by_id ? "id" : "name", spec->existing,
                       aws->region);
    net->shared = true;
    net->vpc = aws_text(list.items[0], "vpcId");
    net->cidr = aws_text(list.items[0], "cidrBlock");
    aws_filter(&form, "vpc-id", net->vpc);
    r = aws_list(aws, AWS_EC2, "DescribeSubnets", &form, "subnetSet/item", arena, &list, error);
    struct kp_strings zones = {0};
    for (size_t i = 0; r == 0 && i < list.len; i++) {
        const char *zone = aws_text(list.items[i], "availabilityZone");
        bool again = false;
        for (size_t j = 0; j < zones.len; j++)
            again |= kp_streq(zones.items[j], zone);
        if (again || !is_wanted_zone(spec->zones, zone))
            continue;
        kp_strings_add(&zones, zone);
        r = mark_shared(aws, aws_text(list.items[i], "subnetId"), spec->cluster_uid, true, arena, error);
    }
    if (r == 0 && zones.len == 0)
        r = kp_fail(error, KP_EINVALID, "VPC %s has no subnet in the wanted zones (%s)", net->vpc, kp_empty(spec->zones) ? "any" : spec->zones);
    kp_strings_done(&zones);
    return r < 0 ? r : mark_shared(aws, net->vpc, spec->cluster_uid, true, arena, error);
}

static int set_vpc(struct aws *aws, const char *vpc, const char *attribute, struct kp_arena *arena, struct kp_error *error)
{
    AWS_FORM form = {0};
    aws_set(&form, "VpcId", vpc);
    aws_set_at(&form, "true", "%s.Value", attribute);
    return aws_do(aws, AWS_EC2, "ModifyVpcAttribute", &form, 0, arena, NULL, error);
}

static int wanted_zones(struct aws *aws, const struct cloud_network_spec *spec, struct kp_arena *arena, struct kp_strings *ret, struct kp_error *error)
{
    struct kp_strings all = {0};
    size_t words = 0;
    int r = aws_zones(aws, arena, &all, error);
    for (const char *at = kp_empty(spec->zones) ? "" : spec->zones; *at; words++) {
        at += strcspn(at, " ");
        at += strspn(at, " ");
    }
    for (size_t i = 0; r == 0 && i < all.len && ret->len < (words ? AWS_ZONES_MAX : ZONES_DEFAULT); i++)
        if (is_wanted_zone(spec->zones, all.items[i]))
            kp_strings_add(ret, all.items[i]);
    if (r == 0 && (ret->len == 0 || (words && ret->len != words)))
        r = kp_fail(error, KP_EINVALID, "zones \"%s\": %s has %zu of these", kp_empty(spec->zones) ? "" : spec->zones, aws->region, ret->len);
    kp_strings_done(&all);
    return r;
}

static bool is_taken(const struct aws_net *net, const char *cidr)
{
    uint32_t a, b;
    int a_bits, b_bits;
    for (size_t i = 0; i < net->n_subnets; i++)
        if (aws_parse_cidr(net->subnets[i].cidr, &a, &a_bits) && aws_parse_cidr(cidr, &b, &b_bits)) {
            int bits = KP_MIN(a_bits, b_bits);
            if (a >> (32 - bits) == b >> (32 - bits))
                return true;
        }
    return false;
}

static int make_subnet(struct aws *aws, const char *uid, const struct aws_net *net, size_t zones, const char *zone, struct kp_arena *arena, struct kp_error *error)
{
    AWS_FORM form = {0};
    const char *cidr = NULL;
    for (size_t n = 0; n < AWS_ZONES_MAX; n++) {
        cidr = aws_subnet_cidr(net->cidr, zones, n, arena);
        if (!cidr || !is_taken(net, cidr))
            break;
    }
    if (!cidr)
        return kp_fail(error, KP_EINVALID, "network %s has no room for a subnet in %s", net->cidr, zone);
    aws_set(&form, "VpcId", net->vpc);
    aws_set(&form, "CidrBlock", cidr);
    aws_set(&form, "AvailabilityZone", zone);
    aws_tags(&form, "subnet", uid, zone);
    return aws_do(aws, AWS_EC2, "CreateSubnet", &form, 0, arena, NULL, error);
}

static bool has_zone(const struct aws_net *net, const char *zone)
{
    for (size_t i = 0; i < net->n_subnets; i++)
        if (kp_streq(net->subnets[i].zone, zone))
            return true;
    return false;
}

static int ensure_subnets(struct aws *aws, const struct cloud_network_spec *spec, struct kp_arena *arena, struct aws_net *net, struct kp_error *error)
{
    struct kp_strings zones = {0};
    int r = wanted_zones(aws, spec, arena, &zones, error);
    for (size_t i = 0; r == 0 && i < zones.len; i++) {
        struct kp_error why = {0}, ignored = {0};
        r = find_subnets(aws, spec->cluster_uid, arena, net, error);
        if (r < 0 || has_zone(net, zones.items[i]))
            continue;
        r = make_subnet(aws, spec->cluster_uid, net, zones.len, zones.items[i], arena, &why);
        if (r == KP_ECONFLICT && find_subnets(aws, spec->cluster_uid, arena, net, &ignored) == 0 && has_zone(net, zones.items[i]))
            r = 0; /* by an attempt whose answer was lost */
        if (r < 0)
            aws_pass(error, &why);
    }
    kp_strings_done(&zones);
    return r < 0 ? r : find_subnets(aws, spec->cluster_uid, arena, net, error);
}

static int ensure_gateway(struct aws *aws, const char *uid, const struct aws_net *net, struct kp_arena *arena, const char **ret_id, struct kp_error *error)
{
    AWS_FORM form = {0};
    struct aws_list list;
    const struct aws_node *answer;
    int r = find_tagged(aws, "DescribeInternetGateways", "internetGatewaySet/item", uid, arena, &list, error);
    if (r < 0)
        return r;
    bool attached = list.len && kp_streq(aws_text(list.items[0], "attachmentSet/item/vpcId"), net->vpc);
    if (list.len) {
        *ret_id = aws_text(list.items[0], "internetGatewayId");
    } else {
        aws_tags(&form, "internet-gateway", uid, "gateway");
        r = aws_do(aws, AWS_EC2, "CreateInternetGateway", &form, AWS_ONCE, arena, &answer, error);
        *ret_id = r < 0 ? "" : aws_text(answer, "internetGateway/internetGatewayId");
    }
    if (r < 0 || attached)
        return r;
    aws_set(&form, "InternetGatewayId", *ret_id);
    aws_set(&form, "VpcId", net->vpc);
    r = aws_do(aws, AWS_EC2, "AttachInternetGateway", &form, 0, arena, NULL, error);
    return r == KP_ECONFLICT || r == KP_EEXISTS ? 0 : r; /* by an attempt whose answer was lost */
}

static int associate(struct aws *aws, const char *table, const char *subnet, struct kp_arena *arena, struct kp_error *error)
{
    AWS_FORM form = {0};
    aws_set(&form, "RouteTableId", table);
    aws_set(&form, "SubnetId", subnet);
    int r = aws_do(aws, AWS_EC2, "AssociateRouteTable", &form, 0, arena, NULL, error);
    return r == KP_EEXISTS ? 0 : r;
}

/* The way out, and the subnets that take it. */
static int ensure_routes(struct aws *aws, const char *uid, const struct aws_net *net, const char *gateway, struct kp_arena *arena, struct kp_error *error)
{
    AWS_FORM form = {0};
    struct aws_list list;
    const struct aws_node *table = NULL;
    int r = find_tagged(aws, "DescribeRouteTables", "routeTableSet/item", uid, arena, &list, error);
    if (r < 0)
        return r;
    if (list.len) {
        table = list.items[0];
    } else {
        aws_set(&form, "VpcId", net->vpc);
        aws_tags(&form, "route-table", uid, "routes");
        aws_token(&form);
        r = aws_do(aws, AWS_EC2, "CreateRouteTable", &form, 0, arena, &table, error);
        table = r < 0 ? NULL : aws_at(table, "routeTable");
    }
    const char *id = aws_text(table, "routeTableId"), *leads = "";
    for (const struct aws_node *route = aws_at(table, "routeSet/item"); route; route = aws_again(route))
        if (kp_streq(aws_text(route, "destinationCidrBlock"), "0.0.0.0/0"))
            leads = aws_text(route, "gatewayId");
    if (r == 0 && !kp_streq(leads, gateway)) {
        aws_set(&form, "RouteTableId", id);
        aws_set(&form, "DestinationCidrBlock", "0.0.0.0/0");
        aws_set(&form, "GatewayId", gateway);
        r = aws_do(aws, AWS_EC2, *leads ? "ReplaceRoute" : "CreateRoute", &form, 0, arena, NULL, error);
        r = r == KP_EEXISTS ? 0 : r;
    }
    for (size_t i = 0; r == 0 && i < net->n_subnets; i++) {
        const struct aws_net one = {.subnets = &net->subnets[i], .n_subnets = 1};
        if (!leads_for(table, &one))
            r = associate(aws, id, net->subnets[i].id, arena, error);
    }
    return r;
}

/* Machines talk to each other, balancers to machines; what else comes in does so through a balancer's own group. */
static int ensure_groups(struct aws *aws, const struct cloud_network_spec *spec, const struct aws_net *net, struct kp_arena *arena, struct kp_error *error)
{
    const struct aws_node *nodes, *balancers;
    int r = aws_group_ensure(aws, spec->cluster_uid, net->vpc, "balancers", arena, &balancers, error);
    if (r == 0)
        r = aws_group_ensure(aws, spec->cluster_uid, net->vpc, "nodes", arena, &nodes, error);
    if (r < 0)
        return r;
    const struct aws_rule rules[] = {{.protocol = "-1", .group = aws_text(nodes, "groupId")}, {.protocol = "-1", .group = aws_text(balancers, "groupId")},
                                     {.protocol = "-1", .cidr = spec->pod_cidr}};
    return aws_rules_ensure(aws, nodes, rules, kp_empty(spec->pod_cidr) ? 2 : 3, arena, error);
}

static int ensure_own(struct aws *aws, const struct cloud_network_spec *spec, struct kp_arena *arena, struct aws_net *net, struct kp_error *error)
{
    const char *gateway = "";
    int r = set_vpc(aws, net->vpc, "EnableDnsSupport", arena, error);
    if (r == 0)
        r = set_vpc(aws, net->vpc, "EnableDnsHostnames", arena, error);
    if (r == 0)
        r = ensure_subnets(aws, spec, arena, net, error);
    if (r == 0)
        r = ensure_gateway(aws, spec->cluster_uid, net, arena, &gateway, error);
    return r < 0 ? r : ensure_routes(aws, spec->cluster_uid, net, gateway, arena, error);
}

int aws_network_ensure(void *state, const struct cloud_network_spec *spec, struct kp_arena *arena, struct cloud_network *ret, struct kp_error *error)
{
    struct aws *aws = state;
    struct aws_net net = {0};
    const struct aws_node *vpc;
    pthread_mutex_lock(&aws->making);
    int r = find_vpc(aws, spec->cluster_uid, arena, &vpc, &net.shared, error);
    if (r == 0 && vpc) {
        net.vpc = aws_text(vpc, "vpcId");
        net.cidr = aws_text(vpc, "cidrBlock");
    } else if (r == 0) {
        r = kp_empty(spec->existing) ? make_vpc(aws, spec, arena, &net, error) : take_vpc(aws, spec, arena, &net, error);
    }
    if (r == 0 && !net.shared)
        r = ensure_own(aws, spec, arena, &net, error);
    if (r == 0)
        r = ensure_groups(aws, spec, &net, arena, error);
    pthread_mutex_unlock(&aws->making);
    return r < 0 ? r : to_network(spec->cluster_uid, net.vpc, net.cidr, arena, ret, error);
}

/* ---- deleting */
static int delete_each(struct aws *aws, const char *uid, const char *describe, const char *path, const char *action, const char *parameter, const char *field,
                       struct kp_arena *arena, struct kp_error *error)
{
    struct aws_list list;
    int r = find_tagged(aws, describe, path, uid, arena, &list, error);
    for (size_t i = 0; r == 0 && i < list.len; i++)
        r = aws_simple(aws, AWS_EC2, action, parameter, aws_text(list.items[i], field), error);
    return r;
}

static int detach_gateways(struct aws *aws, const char *uid, struct kp_arena *arena, struct kp_error *error)
{
    struct aws_list list;
    int r = find_tagged(aws, "DescribeInternetGateways", "internetGatewaySet/item", uid, arena, &list, error);
    for (size_t i = 0; r == 0 && i < list.len; i++) {
        AWS_FORM form = {0};
        const char *vpc = aws_text(list.items[i], "attachmentSet/item/vpcId");
        if (!*vpc)
            continue;
        aws_set(&form, "InternetGatewayId", aws_text(list.items[i], "internetGatewayId"));
        aws_set(&form, "VpcId", vpc);
        r = aws_do(aws, AWS_EC2, "DetachInternetGateway", &form, 0, arena, NULL, error);
        r = r == KP_ENOTFOUND ? 0 : r;
    }
    return r;
}

static int disassociate(struct aws *aws, const char *uid, struct kp_arena *arena, struct kp_error *error)
{
    struct aws_list list;
    int r = find_tagged(aws, "DescribeRouteTables", "routeTableSet/item", uid, arena, &list, error);
    for (size_t i = 0; r == 0 && i < list.len; i++)
        for (const struct aws_node *a = aws_at(list.items[i], "associationSet/item"); r == 0 && a; a = aws_again(a))
            if (*aws_text(a, "subnetId"))
                r = aws_simple(aws, AWS_EC2, "DisassociateRouteTable", "AssociationId", aws_text(a, "routeTableAssociationId"), error);
    return r;
}

/* Groups name each other in their rules: those go first. */
static int delete_groups(struct aws *aws, const char *uid, struct kp_arena *arena, struct kp_error *error)
{
    struct aws_list list;
    int r = find_tagged(aws, "DescribeSecurityGroups", "securityGroupInfo/item", uid, arena, &list, error);
    for (size_t i = 0; r == 0 && i < list.len; i++)
        r = aws_rules_ensure(aws, list.items[i], NULL, 0, arena, error);
    for (size_t i = 0; r == 0 && i < list.len; i++)
        r = aws_simple(aws, AWS_EC2, "DeleteSecurityGroup", "GroupId", aws_text(list.items[i], "groupId"), error);
    return r;
}

static int give_back(struct aws *aws, const char *uid, struct kp_arena *arena, struct kp_error *error)
{
    static const char *const lists[][3] = {{"DescribeSubnets", "subnetSet/item", "subnetId"}, {"DescribeVpcs", "vpcSet/item", "vpcId"}};
    int r = 0;
    for (size_t k = 0; r == 0 && k < KP_ARRAY_LEN(lists); k++) {
        AWS_FORM form = {0};
        struct aws_list list;
        aws_filter(&form, "tag-key", kp_arena_printf(arena, AWS_TAG_SHARED "%s", uid));
        r = aws_list(aws, AWS_EC2, lists[k][0], &form, lists[k][1], arena, &list, error);
        for (size_t i = 0; r == 0 && i < list.len; i++)
            r = mark_shared(aws, aws_text(list.items[i], lists[k][2]), uid, false, arena, error);
    }
    return r;
}

int aws_network_delete(void *state, const char *uid, struct kp_error *error)
{
    struct aws *aws = state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct aws_list machines;
    int r = aws_instances(aws, uid, NULL, NULL, AWS_UNGONE, arena, &machines, error);
    if (r == 0 && machines.len)
        r = kp_fail(error, KP_ECONFLICT, "the network of cluster %s still has %zu machines", uid, machines.len);
    if (r == 0)
        r = aws_addresses_release(aws, uid, NULL, error);
    if (r == 0)
        r = aws_interfaces_delete(aws, uid, NULL, error);
    if (r == 0)
        r = delete_groups(aws, uid, arena, error);
    if (r == 0)
        r = disassociate(aws, uid, arena, error);
    if (r == 0)
        r = delete_each(aws, uid, "DescribeRouteTables", "routeTableSet/item", "DeleteRouteTable", "RouteTableId", "routeTableId", arena, error);
    if (r == 0)
        r = delete_each(aws, uid, "DescribeSubnets", "subnetSet/item", "DeleteSubnet", "SubnetId", "subnetId", arena, error);
    if (r == 0)
        r = detach_gateways(aws, uid, arena, error);
    if (r == 0)
        r = delete_each(aws, uid, "DescribeInternetGateways", "internetGatewaySet/item", "DeleteInternetGateway", "InternetGatewayId", "internetGatewayId", arena,
                        error);
    if (r == 0)
        r = delete_each(aws, uid, "DescribeVpcs", "vpcSet/item", "DeleteVpc", "VpcId", "vpcId", arena, error);
    return r < 0 ? r : give_back(aws, uid, arena, error);
}
