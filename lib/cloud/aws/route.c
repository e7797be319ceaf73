/* Ways to pods: routes of the cluster's route tables that lead to a machine's interface. */
#include "cloud/aws/aws_internal.h"

/* An interface outlives its machine. */
static const char *machine_of(const struct aws_interface *all, size_t n, const struct aws_list *machines, const char *interface)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; kp_streq(all[i].id, interface) && k < machines->len; k++)
            if (kp_streq(aws_tag_of(machines->items[k], AWS_TAG_NAME), all[i].name))
                return all[i].name;
    return "";
}

static bool is_own(const struct aws_interface *all, size_t n, const char *interface)
{
    for (size_t i = 0; i < n; i++)
        if (kp_streq(all[i].id, interface))
            return true;
    return false;
}

static int read_tables(struct aws *aws, const struct aws_net *net, struct kp_arena *arena, struct aws_list *ret, struct kp_error *error)
{
    AWS_FORM form = {0};
    for (size_t i = 0; i < net->n_tables; i++)
        aws_set_at(&form, net->tables[i], "RouteTableId.%zu", i + 1);
    return aws_list(aws, AWS_EC2, "DescribeRouteTables", &form, "routeTableSet/item", arena, ret, error);
}

/* Where a route leads when it leads to an interface: that one; to nothing any more: ""; NULL: it is none of these. */
static const char *interface_of(const struct aws_node *route)
{
    const char *to = aws_text(route, "networkInterfaceId");
    if (!*aws_text(route, "destinationCidrBlock") || !kp_streq(aws_text(route, "origin"), "CreateRoute"))
        return NULL;
    return *to ? to : kp_streq(aws_text(route, "state"), "blackhole") && !*aws_text(route, "gatewayId") && !*aws_text(route, "natGatewayId") ? "" : NULL;
}

static const struct aws_node *find_route(const struct aws_node *table, const char *destination)
{
    for (const struct aws_node *route = aws_at(table, "routeSet/item"); route; route = aws_again(route))
        if (kp_streq(aws_text(route, "destinationCidrBlock"), destination))
            return route;
    return NULL;
}

/* In somebody else's tables only what leads to an interface of the cluster is its own. */
int aws_route_list(void *state, const char *uid, struct kp_arena *arena, struct cloud_route_list *ret, struct kp_error *error)
{
    struct aws *aws = state;
    struct aws_net net;
    struct aws_interface *interfaces;
    struct aws_list tables = {0}, machines;
    size_t n, room = 0;
    int r = aws_net_find(aws, uid, arena, &net, error);
    if (r == 0)
        r = aws_interfaces(aws, uid, arena, &interfaces, &n, error);
    if (r == 0)
        r = aws_instances(aws, uid, NULL, NULL, AWS_ALIVE, arena, &machines, error);
    if (r == 0 && net.n_tables)
        r = read_tables(aws, &net, arena, &tables, error);
    if (r < 0)
        return r;
    for (size_t i = 0; i < tables.len; i++)
        for (const struct aws_node *route = aws_at(tables.items[i], "routeSet/item"); route; route = aws_again(route))
            room++;
    *ret = (struct cloud_route_list){.items = KP_NEW_ARRAY(arena, struct cloud_route, room + 1)};
    for (size_t i = 0; i < tables.len; i++)
        for (const struct aws_node *route = aws_at(tables.items[i], "routeSet/item"); route; route = aws_again(route)) {
            const char *to = interface_of(route), *machine = to ? machine_of(interfaces, n, &machines, to) : "";
            bool seen = !to || (net.shared && !is_own(interfaces, n, to));
            for (size_t j = 0; j < ret->len && !seen; j++)
                seen = kp_streq(ret->items[j].destination, aws_text(route, "destinationCidrBlock"));
            if (!seen)
                ret->items[ret->len++] = (struct cloud_route){.destination = aws_text(route, "destinationCidrBlock"), .machine = machine};
        }
    return 0;
}

static int put(struct aws *aws, const char *table, const struct aws_node *there, const char *destination, const char *interface, struct kp_arena *arena,
               struct kp_error *error)
{
    AWS_FORM form = {0};
    if (there && kp_streq(aws_text(there, "networkInterfaceId"), interface) && !kp_streq(aws_text(there, "state"), "blackhole"))
        return 0;
    aws_set(&form, "RouteTableId", table);
    aws_set(&form, "DestinationCidrBlock", destination);
    aws_set(&form, "NetworkInterfaceId", interface);
    int r = aws_do(aws, AWS_EC2, there ? "ReplaceRoute" : "CreateRoute", &form, 0, arena, NULL, error);
    return r == KP_EEXISTS ? 0 : r; /* an answer was lost: the next look compares again */
}

int aws_route_ensure(void *state, const char *uid, const struct cloud_route *route, struct kp_error *error)
{
    struct aws *aws = state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct aws_net net;
    struct aws_interface interface;
    struct aws_list tables = {0}, machines;
    int r = aws_net_find(aws, uid, arena, &net, error);
    if (r == 0)
        r = aws_instances(aws, uid, route->machine, NULL, AWS_ALIVE, arena, &machines, error);
    if (r == 0 && machines.len == 0)
        r = kp_fail(error, KP_ENOTFOUND, "cluster %s has no machine %s in %s", uid, route->machine, aws->region);
    if (r == 0)
        r = aws_interface_find(aws, uid, route->machine, arena, &interface, error);
    if (r == 0)
        r = read_tables(aws, &net, arena, &tables, error);
    for (size_t i = 0; r == 0 && i < tables.len; i++)
        r = put(aws, aws_text(tables.items[i], "routeTableId"), find_route(tables.items[i], route->destination), route->destination, interface.id, arena, error);
    return r;
}

int aws_route_delete(void *state, const char *uid, const struct cloud_route *route, struct kp_error *error)
{
    struct aws *aws = state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct aws_net net;
    struct aws_list tables = {0};
    struct kp_error why = {0};
    int r = aws_net_find(aws, uid, arena, &net, &why);
    if (r == KP_ENOTFOUND)
        return 0;
    if (r < 0)
        return aws_pass(error, &why);
    r = net.n_tables ? read_tables(aws, &net, arena, &tables, error) : 0;
    for (size_t i = 0; r == 0 && i < tables.len; i++) {
        const struct aws_node *there = find_route(tables.items[i], route->destination);
        AWS_FORM form = {0};
        if (!there || !interface_of(there))
            continue;
        aws_set(&form, "RouteTableId", aws_text(tables.items[i], "routeTableId"));
        aws_set(&form, "DestinationCidrBlock", route->destination);
        r = aws_do(aws, AWS_EC2, "DeleteRoute", &form, 0, arena, NULL, error);
        r = r == KP_ENOTFOUND ? 0 : r;
    }
    return r;
}
