/* Load balancers: a Network Load Balancer each, with a security group for who may come, a target group and a listener a port. */
#include "cloud/aws/aws_internal.h"

static const char *group_name(const char *name, struct kp_arena *arena)
{
    return kp_arena_printf(arena, "lb-%s", name);
}

/* ---- who may come */
static int ensure_group(struct aws *aws, const struct cloud_balancer_spec *spec, const char *vpc, const struct aws_port *ports, size_t n_ports,
                        struct kp_arena *arena, const char **ret_id, struct kp_error *error)
{
    static const char *const everybody[] = {"0.0.0.0/0"};
    const char *const *ranges = spec->n_source_ranges ? spec->source_ranges : everybody;
    size_t n_ranges = spec->n_source_ranges ? spec->n_source_ranges : 1, n = 0;
    struct aws_rule *rules = KP_NEW_ARRAY(arena, struct aws_rule, 2 * n_ports * n_ranges + 1);
    const struct aws_node *group;
    int r = aws_group_ensure(aws, spec->cluster_uid, vpc, group_name(spec->name, arena), arena, &group, error);
    if (r < 0)
        return r;
    for (size_t i = 0; i < n_ports; i++)
        for (size_t j = 0; j < n_ranges; j++) {
            if (!kp_streq(ports[i].protocol, "UDP"))
                rules[n++] = (struct aws_rule){.protocol = "tcp", .from = ports[i].port, .to = ports[i].port, .cidr = ranges[j]};
            if (!kp_streq(ports[i].protocol, "TCP"))
                rules[n++] = (struct aws_rule){.protocol = "udp", .from = ports[i].port, .to = ports[i].port, .cidr = ranges[j]};
        }
    *ret_id = aws_text(group, "groupId");
    return aws_rules_ensure(aws, group, rules, n, arena, error);
}

/* ---- the balancer itself */
static int make(struct aws *aws, const struct cloud_balancer_spec *spec, const struct aws_net *net, const char *group, struct kp_arena *arena,
                const struct aws_node **ret, struct kp_error *error)
{
    AWS_FORM form = {0};
    const struct aws_node *answer = NULL;
    aws_set(&form, "Name", aws_elb_name(spec->cluster_uid, spec->name, "", arena));
    aws_set(&form, "Type", "network");
    aws_set(&form, "Scheme", spec->internal ? "internal" : "internet-facing");
    for (size_t i = 0; i < net->n_subnets; i++)
        aws_set_at(&form, net->subnets[i].id, "Subnets.member.%zu", i + 1);
    aws_set(&form, "SecurityGroups.member.1", group);
    aws_set(&form, "SecurityGroups.member.2", net->balancers);
    const char *const tags[][2] = {{AWS_TAG_CLUSTER, spec->cluster_uid}, {AWS_TAG_NAME, spec->name}, {"Name", kp_empty(spec->description) ? spec->name : spec->description}};
    for (size_t i = 0; i < KP_ARRAY_LEN(tags); i++) {
        aws_set_at(&form, tags[i][0], "Tags.member.%zu.Key", i + 1);
        aws_set_at(&form, tags[i][1], "Tags.member.%zu.Value", i + 1);
    }
    int r = aws_do(aws, AWS_ELB, "CreateLoadBalancer", &form, 0, arena, &answer, error);
    if (r == KP_EEXISTS) /* by an attempt whose answer was lost */
        r = aws_balancer_find(aws, spec->cluster_uid, spec->name, arena, ret, error);
    else
        *ret = r < 0 ? NULL : aws_at(answer, "LoadBalancers/member");
    return r == 0 && !*ret ? kp_fail(error, KP_EAGAIN, "ELB does not show load balancer %s yet", spec->name) : r;
}

static bool lists(const struct aws_node *item, const char *path, const char *field, const char *value)
{
    for (const struct aws_node *at = aws_at(item, path); at; at = aws_again(at))
        if (kp_streq(aws_text(at, field), value))
            return true;
    return false;
}

static size_t length(const struct aws_node *item, const char *path)
{
    size_t n = 0;
    for (const struct aws_node *at = aws_at(item, path); at; at = aws_again(at))
        n++;
    return n;
}

static int mend_groups(struct aws *aws, const struct aws_node *item, const char *group, const struct aws_net *net, struct kp_arena *arena, struct kp_error *error)
{
    AWS_FORM form = {0};
    if (length(item, "SecurityGroups/member") == 2 && lists(item, "SecurityGroups/member", "", group) && lists(item, "SecurityGroups/member", "", net->balancers))
        return 0;
    aws_set(&form, "LoadBalancerArn", aws_text(item, "LoadBalancerArn"));
    aws_set(&form, "SecurityGroups.member.1", group);
    aws_set(&form, "SecurityGroups.member.2", net->balancers);
    return aws_do(aws, AWS_ELB, "SetSecurityGroups", &form, 0, arena, NULL, error);
}

static int mend_subnets(struct aws *aws, const struct aws_node *item, const struct aws_net *net, struct kp_arena *arena, struct kp_error *error)
{
    AWS_FORM form = {0};
    bool all = true;
    aws_set(&form, "LoadBalancerArn", aws_text(item, "LoadBalancerArn"));
    for (size_t i = 0; i < net->n_subnets; i++) {
        all = all && lists(item, "AvailabilityZones/member", "SubnetId", net->subnets[i].id);
        aws_set_at(&form, net->subnets[i].id, "Subnets.member.%zu", i + 1);
    }
    return all ? 0 : aws_do(aws, AWS_ELB, "SetSubnets", &form, 0, arena, NULL, error);
}

/* A zone may have no target of its own. */
static int mend_attributes(struct aws *aws, const char *arn, struct kp_arena *arena, struct kp_error *error)
{
    static const char key[] = "load_balancing.cross_zone.enabled";
    AWS_FORM form = {0};
    const struct aws_node *answer;
    aws_set(&form, "LoadBalancerArn", arn);
    int r = aws_do(aws, AWS_ELB, "DescribeLoadBalancerAttributes", &form, 0, arena, &answer, error);
    if (r < 0)
        return r;
    for (const struct aws_node *item = aws_at(answer, "Attributes/member"); item; item = aws_again(item))
        if (kp_streq(aws_text(item, "Key"), key) && kp_streq(aws_text(item, "Value"), "true"))
            return 0;
    aws_set(&form, "LoadBalancerArn", arn);
    aws_set(&form, "Attributes.member.1.Key", key);
    aws_set(&form, "Attributes.member.1.Value", "true");
    return aws_do(aws, AWS_ELB, "ModifyLoadBalancerAttributes", &form, 0, arena, NULL, error);
}

/* ---- listeners */
static const struct aws_port *port_of(const struct aws_port *ports, size_t n, const struct aws_node *listener)
{
    for (size_t i = 0; i < n; i++)
        if (kp_streq(aws_text(listener, "Protocol"), ports[i].protocol) && aws_int(listener, "Port") == ports[i].port)
            return &ports[i];
    return NULL;
}

static int forward(struct aws *aws, const char *action, const char *arn, const struct aws_port *port, struct kp_arena *arena, struct kp_error *error)
{
    AWS_FORM form = {0};
    bool create = kp_streq(action, "CreateListener");
    aws_set(&form, create ? "LoadBalancerArn" : "ListenerArn", arn);
    aws_set(&form, "Protocol", port->protocol);
    aws_set_int(&form, "Port", port->port);
    aws_set(&form, "DefaultActions.member.1.Type", "forward");
    aws_set(&form, "DefaultActions.member.1.TargetGroupArn", port->group_arn);
    int r = aws_do(aws, AWS_ELB, action, &form, 0, arena, NULL, error);
    return r == KP_EEXISTS ? 0 : r;
}

/* What is too much goes first: a port has one listener. */
static int ensure_listeners(struct aws *aws, const char *arn, const struct aws_port *ports, size_t n, struct kp_arena *arena, struct kp_error *error)
{
    AWS_FORM form = {0};
    struct aws_list list;
    aws_set(&form, "LoadBalancerArn", arn);
    int r = aws_list(aws, AWS_ELB, "DescribeListeners", &form, "Listeners/member", arena, &list, error);
    for (size_t i = 0; r == 0 && i < list.len; i++)
        if (!port_of(ports, n, list.items[i]))
            r = aws_simple(aws, AWS_ELB, "DeleteListener", "ListenerArn", aws_text(list.items[i], "ListenerArn"), error);
    for (size_t k = 0; r == 0 && k < n; k++) {
        const struct aws_node *there = NULL;
        for (size_t i = 0; i < list.len; i++)
            there = port_of(&ports[k], 1, list.items[i]) ? list.items[i] : there;
        if (!there)
            r = forward(aws, "CreateListener", arn, &ports[k], arena, error);
        else if (length(there, "DefaultActions/member") != 1 || !kp_streq(aws_text(there, "DefaultActions/member/TargetGroupArn"), ports[k].group_arn))
            r = forward(aws, "ModifyListener", aws_text(there, "ListenerArn"), &ports[k], arena, error);
    }
    return r;
}

/* Groups of the balancer that have no listener any more, also such as an interrupted change left. */
static int drop_groups(struct aws *aws, const struct cloud_balancer_spec *spec, const struct aws_port *ports, size_t n, struct kp_arena *arena,
                       struct kp_error *error)
{
    struct aws_tagged *groups;
    size_t n_groups;
    int r = aws_tagged_list(aws, true, spec->cluster_uid, arena, &groups, &n_groups, error);
    for (size_t i = 0; r == 0 && i < n_groups; i++) {
        struct kp_error why = {0};
        bool wanted = !kp_streq(groups[i].name, spec->name);
        for (size_t k = 0; k < n; k++)
            wanted |= kp_streq(ports[k].group_arn, groups[i].arn);
        if (wanted)
            continue;
        r = aws_simple(aws, AWS_ELB, "DeleteTargetGroup", "TargetGroupArn", groups[i].arn, &why);
        if (r < 0)
            r = kp_fail(error, r == KP_ECONFLICT ? KP_EAGAIN : r, "%s", why.message);
    }
    return r;
}

static int converge(struct aws *aws, const struct cloud_balancer_spec *spec, const struct aws_net *net, const struct aws_node *item, const char *group,
                    struct aws_port *ports, size_t n, struct kp_arena *arena, struct kp_error *error)
{
    const char *arn = aws_text(item, "LoadBalancerArn");
    int r = mend_groups(aws, item, group, net, arena, error);
    if (r == 0)
        r = mend_subnets(aws, item, net, arena, error);
    if (r == 0)
        r = mend_attributes(aws, arn, arena, error);
    for (size_t i = 0; r == 0 && i < n; i++)
        r = aws_target_group_ensure(aws, spec, net->vpc, &ports[i], arena, error);
    if (r == 0)
        r = ensure_listeners(aws, arn, ports, n, arena, error);
    return r < 0 ? r : drop_groups(aws, spec, ports, n, arena, error);
}

int aws_balancer_ensure(void *state, const struct cloud_balancer_spec *spec, struct kp_arena *arena, struct cloud_balancer *ret, struct kp_error *error)
{
    struct aws *aws = state;
    struct aws_net net;
    struct aws_port *ports;
    const struct aws_node *item = NULL;
    const char *group = NULL;
    size_t n;
    int r = aws_ports(spec, arena, &ports, &n, error);
    if (r == 0)
        r = aws_net_find(aws, spec->cluster_uid, arena, &net, error);
    if (r == 0 && (!net.n_subnets || !*net.balancers))
        r = kp_fail(error, KP_ECONFLICT, "the network %s of cluster %s is not whole: make it again", net.vpc, spec->cluster_uid);
    if (r == 0)
        r = aws_balancer_find(aws, spec->cluster_uid, spec->name, arena, &item, error);
    if (r == 0)
        r = ensure_group(aws, spec, net.vpc, ports, n, arena, &group, error);
    if (r < 0)
        return r;
    if (item && !kp_streq(aws_text(item, "Scheme"), spec->internal ? "internal" : "internet-facing")) { /* for good: another one takes its place */
        r = aws_balancer_delete(aws, spec->cluster_uid, spec->name, error);
        return r < 0 ? r : kp_fail(error, KP_EAGAIN, "load balancer %s is made again to become %s", spec->name, spec->internal ? "internal" : "public");
    }
    if (!item)
        r = make(aws, spec, &net, group, arena, &item, error);
    if (r == 0)
        r = converge(aws, spec, &net, item, group, ports, n, arena, error);
    if (r < 0)
        return r;
    aws_to_balancer(item, spec->cluster_uid, spec->name, arena, ret);
    return ret->state == CLOUD_BALANCER_PENDING ? kp_fail(error, KP_EAGAIN, "AWS is still making load balancer %s", spec->name) : 0;
}

int aws_balancer_delete(void *state, const char *uid, const char *name, struct kp_error *error)
{
    struct aws *aws = state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const struct aws_node *item, *group = NULL;
    struct aws_tagged *groups;
    struct kp_error why = {0};
    size_t n;
    int r = aws_balancer_find(aws, uid, name, arena, &item, &why);
    if (r == 0 && item)
        r = aws_simple(aws, AWS_ELB, "DeleteLoadBalancer", "LoadBalancerArn", aws_text(item, "LoadBalancerArn"), &why);
    if (r == 0)
        r = aws_tagged_list(aws, true, uid, arena, &groups, &n, &why); /* all of its tag, also such as no listener ever had */
    for (size_t i = 0; r == 0 && i < n; i++)
        if (kp_streq(groups[i].name, name))
            r = aws_simple(aws, AWS_ELB, "DeleteTargetGroup", "TargetGroupArn", groups[i].arn, &why);
    if (r == 0)
        r = aws_group_find(aws, uid, group_name(name, arena), arena, &group, &why);
    if (r == 0 && group)
        r = aws_simple(aws, AWS_EC2, "DeleteSecurityGroup", "GroupId", aws_text(group, "groupId"), &why);
    return r < 0 ? kp_fail(error, r == KP_ECONFLICT ? KP_EAGAIN : r, "%s", why.message) : 0;
}

/* ---- health */
static const char *machine_at(const struct aws_interface *all, size_t n, const char *address)
{
    for (size_t i = 0; i < n; i++)
        if (kp_streq(all[i].address, address))
            return all[i].name;
    return "";
}

int aws_balancer_health(void *state, const char *uid, const char *name, struct kp_arena *arena, struct cloud_target_health_list *ret,
                        struct kp_error *error)
{
    struct aws *aws = state;
    struct cloud_balancer balancer;
    struct aws_interface *interfaces;
    struct aws_list listeners, *targets = NULL;
    AWS_FORM form = {0};
    size_t n, total = 0;
    int r = aws_balancer_get(aws, uid, name, arena, &balancer, error);
    if (r < 0)
        return r;
    aws_set(&form, "LoadBalancerArn", balancer.id);
    r = aws_list(aws, AWS_ELB, "DescribeListeners", &form, "Listeners/member", arena, &listeners, error);
    if (r == 0)
        r = aws_interfaces(aws, uid, arena, &interfaces, &n, error);
    if (r < 0)
        return r;
    targets = KP_NEW_ARRAY(arena, struct aws_list, listeners.len + 1);
    for (size_t i = 0; i < listeners.len; i++) {
        aws_set(&form, "TargetGroupArn", aws_text(listeners.items[i], "DefaultActions/member/TargetGroupArn"));
        r = aws_list(aws, AWS_ELB, "DescribeTargetHealth", &form, "TargetHealthDescriptions/member", arena, &targets[i], error);
        if (r < 0)
            return r;
        total += targets[i].len;
    }
    *ret = (struct cloud_target_health_list){.items = KP_NEW_ARRAY(arena, struct cloud_target_health, total + 1)};
    for (size_t i = 0; i < listeners.len; i++)
        for (size_t k = 0; k < targets[i].len; k++) {
            const struct aws_node *item = targets[i].items[k];
            const char *address = aws_text(item, "Target/Id"), *health = aws_text(item, "TargetHealth/State");
            bool healthy = kp_streq(health, "healthy");
            ret->items[ret->len++] = (struct cloud_target_health){.machine = machine_at(interfaces, n, address), .address = address,
                .port = (int)aws_int(item, "Target/Port"), .healthy = healthy, .known = healthy || kp_streq(health, "unhealthy")};
        }
    return 0;
}
