/* Target groups: one a port of a balancer, its health check, attributes and targets compared in full. */
#include "cloud/aws/aws_internal.h"

/* The limits of an NLB's health checks, and what is right for a control plane. */
enum { INTERVAL_S = 10, INTERVAL_S_MIN = 5, INTERVAL_S_MAX = 300, TIMEOUT_S = 5, TIMEOUT_S_MIN = 2, TIMEOUT_S_MAX = 120, COUNT = 2, COUNT_MAX = 10 };

static int within(int value, int standard, int least, int most)
{
    value = value ? value : standard;
    return value < least ? least : KP_MIN(value, most);
}

/* What answers UDP answers no TCP connection: the node's kubelet does, and tells that the node is there. */
void aws_health_of(const struct cloud_balancer_spec *spec, const struct aws_port *port, struct kp_arena *arena, struct aws_health *ret)
{
    const struct cloud_health_check *health = &spec->health;
    int number = health->port ? health->port : kp_streq(port->protocol, "UDP") ? AWS_KUBELET_PORT : 0;
    ret->http = health->kind == CLOUD_HEALTH_HTTP;
    ret->path = ret->http ? kp_empty(health->path) ? "/" : health->path : "";
    ret->port = number ? kp_arena_printf(arena, "%d", number) : "traffic-port";
    ret->interval_s = within(health->interval_s, INTERVAL_S, INTERVAL_S_MIN, INTERVAL_S_MAX);
    ret->timeout_s = within(health->timeout_s, TIMEOUT_S, TIMEOUT_S_MIN, KP_MIN(TIMEOUT_S_MAX, ret->interval_s));
    ret->healthy = within(health->healthy, COUNT, COUNT, COUNT_MAX);
    ret->unhealthy = within(health->unhealthy, COUNT, COUNT, COUNT_MAX);
}

/* TCP and UDP of the same port are one listener of an NLB, and lead to the same port of the target. */
int aws_ports(const struct cloud_balancer_spec *spec, struct kp_arena *arena, struct aws_port **ret, size_t *ret_n, struct kp_error *error)
{
    struct aws_port *ports = KP_NEW_ARRAY(arena, struct aws_port, spec->n_listeners + 1);
    size_t n = 0;
    if (spec->algorithm == CLOUD_LEAST_CONNECTIONS)
        return kp_fail(error, KP_EINVALID, "a Network Load Balancer does not count connections: take round robin or the source address");
    if (!kp_empty(spec->address))
        return kp_fail(error, KP_EINVALID, "%s is asked for, and AWS chooses the addresses of a Network Load Balancer itself", spec->address);
    for (size_t i = 0; i < spec->n_listeners; i++) {
        const struct cloud_listener *listener = &spec->listeners[i];
        struct aws_port *same = NULL;
        for (size_t j = 0; j < n; j++)
            same = ports[j].port == listener->port ? &ports[j] : same;
        if (same && same->target_port != listener->target_port)
            return kp_fail(error, KP_EINVALID, "TCP and UDP of port %d lead to ports %d and %d: a Network Load Balancer takes both to one", listener->port,
                           same->target_port, listener->target_port);
        if (same)
            same->protocol = "TCP_UDP";
        else
            ports[n++] = (struct aws_port){.protocol = listener->protocol == CLOUD_UDP ? "UDP" : "TCP", .port = listener->port, .target_port = listener->target_port};
    }
    *ret = ports;
    *ret_n = n;
    return 0;
}

static void set_health(struct aws_form *form, const struct aws_health *health)
{
    aws_set(form, "HealthCheckProtocol", health->http ? "HTTP" : "TCP");
    aws_set(form, "HealthCheckPort", health->port);
    aws_set_int(form, "HealthCheckIntervalSeconds", health->interval_s);
    aws_set_int(form, "HealthCheckTimeoutSeconds", health->timeout_s);
    aws_set_int(form, "HealthyThresholdCount", health->healthy);
    aws_set_int(form, "UnhealthyThresholdCount", health->unhealthy);
    if (health->http) {
        aws_set(form, "HealthCheckPath", health->path);
        aws_set(form, "Matcher.HttpCode", "200");
    }
}

static bool has_health(const struct aws_node *group, const struct aws_health *health)
{
    return kp_streq(aws_text(group, "HealthCheckProtocol"), health->http ? "HTTP" : "TCP") && kp_streq(aws_text(group, "HealthCheckPort"), health->port) &&
           aws_int(group, "HealthCheckIntervalSeconds") == health->interval_s && aws_int(group, "HealthCheckTimeoutSeconds") == health->timeout_s &&
           aws_int(group, "HealthyThresholdCount") == health->healthy && aws_int(group, "UnhealthyThresholdCount") == health->unhealthy &&
           (!health->http || (kp_streq(aws_text(group, "HealthCheckPath"), health->path) && kp_streq(aws_text(group, "Matcher/HttpCode"), "200")));
}

static int find_group(struct aws *aws, const char *name, struct kp_arena *arena, const struct aws_node **ret, struct kp_error *error)
{
    AWS_FORM form = {0};
    struct kp_error why = {0};
    const struct aws_node *answer;
    aws_set(&form, "Names.member.1", name);
    int r = aws_do(aws, AWS_ELB, "DescribeTargetGroups", &form, 0, arena, &answer, &why);
    *ret = r < 0 ? NULL : aws_at(answer, "TargetGroups/member");
    return r < 0 && r != KP_ENOTFOUND ? aws_pass(error, &why) : 0;
}

static int make_group(struct aws *aws, const struct cloud_balancer_spec *spec, const char *vpc, const char *name, const struct aws_port *port,
                      const struct aws_health *health, struct kp_arena *arena, const struct aws_node **ret, struct kp_error *error)
{
    AWS_FORM form = {0};
    const struct aws_node *answer = NULL;
    aws_set(&form, "Name", name);
    aws_set(&form, "Protocol", port->protocol);
    aws_set_int(&form, "Port", port->target_port);
    aws_set(&form, "VpcId", vpc);
    aws_set(&form, "TargetType", "ip");
    set_health(&form, health);
    aws_set(&form, "Tags.member.1.Key", AWS_TAG_CLUSTER);
    aws_set(&form, "Tags.member.1.Value", spec->cluster_uid);
    aws_set(&form, "Tags.member.2.Key", AWS_TAG_NAME);
    aws_set(&form, "Tags.member.2.Value", spec->name);
    int r = aws_do(aws, AWS_ELB, "CreateTargetGroup", &form, 0, arena, &answer, error);
    if (r == KP_EEXISTS) /* by an attempt whose answer was lost */
        r = find_group(aws, name, arena, ret, error);
    else
        *ret = r < 0 ? NULL : aws_at(answer, "TargetGroups/member");
    return r == 0 && !*ret ? kp_fail(error, KP_EAGAIN, "ELB does not show target group %s yet", name) : r;
}

/* Of groups whose targets are addresses TCP arrives with the balancer's own source unless it is told otherwise. The API's balancer stays so: a
   control plane that comes back to itself through the balancer would else get packets from its own address. UDP always keeps the client's. */
static int ensure_attributes(struct aws *aws, const struct cloud_balancer_spec *spec, const struct aws_port *port, struct kp_arena *arena, struct kp_error *error)
{
    bool keep = !kp_streq(port->protocol, "TCP") || !(kp_streq(spec->name, AWS_API_BALANCER) || spec->proxy_protocol);
    const struct {
        const char *key, *value;
    } wanted[] = {
        {"stickiness.enabled", spec->sticky || spec->algorithm == CLOUD_SOURCE_IP ? "true" : "false"}, {"stickiness.type", "source_ip"},
        {"proxy_protocol_v2.enabled", spec->proxy_protocol ? "true" : "false"}, {"preserve_client_ip.enabled", keep ? "true" : "false"},
    };
    AWS_FORM form = {0};
    const struct aws_node *answer;
    int changes = 0;
    aws_set(&form, "TargetGroupArn", port->group_arn);
    int r = aws_do(aws, AWS_ELB, "DescribeTargetGroupAttributes", &form, 0, arena, &answer, error);
    if (r < 0)
        return r;
    aws_set(&form, "TargetGroupArn", port->group_arn);
    for (size_t i = 0; i < KP_ARRAY_LEN(wanted); i++) {
        const char *value = "";
        for (const struct aws_node *item = aws_at(answer, "Attributes/member"); item; item = aws_again(item))
            if (kp_streq(aws_text(item, "Key"), wanted[i].key))
                value = aws_text(item, "Value");
        if (kp_streq(value, wanted[i].value))
            continue;
        changes++;
        aws_set_at(&form, wanted[i].key, "Attributes.member.%d.Key", changes);
        aws_set_at(&form, wanted[i].value, "Attributes.member.%d.Value", changes);
    }
    return changes ? aws_do(aws, AWS_ELB, "ModifyTargetGroupAttributes", &form, 0, arena, NULL, error) : 0;
}

static bool is_registered(const struct aws_node *answer, const char *address, int port)
{
    for (const struct aws_node *item = aws_at(answer, "TargetHealthDescriptions/member"); item; item = aws_again(item))
        if (kp_streq(aws_text(item, "Target/Id"), address) && aws_int(item, "Target/Port") == port &&
            !kp_streq(aws_text(item, "TargetHealth/State"), "draining"))
            return true;
    return false;
}

static bool is_target(const struct cloud_balancer_spec *spec, const struct aws_port *port, const struct aws_node *item)
{
    if (kp_streq(aws_text(item, "TargetHealth/State"), "draining")) /* on its way out */
        return true;
    for (size_t i = 0; i < spec->n_targets; i++)
        if (kp_streq(aws_text(item, "Target/Id"), spec->targets[i].address) && aws_int(item, "Target/Port") == port->target_port)
            return true;
    return false;
}

static void set_target(struct aws_form *form, int n, const char *address, int64_t port, struct kp_arena *arena)
{
    aws_set_at(form, address, "Targets.member.%d.Id", n);
    aws_set_at(form, kp_arena_printf(arena, "%lld", (long long)port), "Targets.member.%d.Port", n);
}

static int ensure_targets(struct aws *aws, const struct cloud_balancer_spec *spec, const struct aws_port *port, struct kp_arena *arena, struct kp_error *error)
{
    AWS_FORM form = {0}, more = {0}, less = {0};
    const struct aws_node *answer;
    int n_more = 0, n_less = 0;
    aws_set(&form, "TargetGroupArn", port->group_arn);
    int r = aws_do(aws, AWS_ELB, "DescribeTargetHealth", &form, 0, arena, &answer, error);
    if (r < 0)
        return r;
    aws_set(&more, "TargetGroupArn", port->group_arn);
    aws_set(&less, "TargetGroupArn", port->group_arn);
    for (size_t i = 0; i < spec->n_targets; i++)
        if (!is_registered(answer, spec->targets[i].address, port->target_port))
            set_target(&more, ++n_more, spec->targets[i].address, port->target_port, arena);
    for (const struct aws_node *item = aws_at(answer, "TargetHealthDescriptions/member"); item; item = aws_again(item))
        if (!is_target(spec, port, item))
            set_target(&less, ++n_less, aws_text(item, "Target/Id"), aws_int(item, "Target/Port"), arena);
    if (n_more)
        r = aws_do(aws, AWS_ELB, "RegisterTargets", &more, 0, arena, NULL, error);
    if (r == 0 && n_less)
        r = aws_do(aws, AWS_ELB, "DeregisterTargets", &less, 0, arena, NULL, error);
    return r;
}

/* What of a group cannot be changed is part of its name: another such group takes its place. */
int aws_target_group_ensure(struct aws *aws, const struct cloud_balancer_spec *spec, const char *vpc, struct aws_port *port, struct kp_arena *arena,
                            struct kp_error *error)
{
    struct aws_health health;
    const struct aws_node *group;
    aws_health_of(spec, port, arena, &health);
    const char *name = aws_elb_name(spec->cluster_uid, spec->name, kp_arena_printf(arena, "%s/%d/%d/%s/%s", port->protocol, port->port, port->target_port,
                                    health.http ? "HTTP" : "TCP", vpc), arena);
    int r = find_group(aws, name, arena, &group, error);
    if (r == 0 && !group)
        r = make_group(aws, spec, vpc, name, port, &health, arena, &group, error);
    if (r < 0)
        return r;
    port->group_arn = aws_text(group, "TargetGroupArn");
    if (!has_health(group, &health)) {
        AWS_FORM form = {0};
        aws_set(&form, "TargetGroupArn", port->group_arn);
        set_health(&form, &health);
        r = aws_do(aws, AWS_ELB, "ModifyTargetGroup", &form, 0, arena, NULL, error);
    }
    if (r == 0)
        r = ensure_attributes(aws, spec, port, arena, error);
    return r < 0 ? r : ensure_targets(aws, spec, port, arena, error);
}
