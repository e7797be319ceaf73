/* The operations of the fault matrix. */
#include <limits.h>
#include <unistd.h>

#include "tests/faults-ccm/operations.h"

#define SERVICES "/api/v1/namespaces/default/services"

/* ---- what must be */

static bool initialised(struct world *w, const char *name)
{
    const struct kp_value *node = api_get(w, kp_arena_printf(w->arena, "/api/v1/nodes/%s", name));
    const struct kp_value *labels = kp_value_path(node, "metadata", "labels", NULL);
    if (!node)
        return wrong(w, "Node %s is not there", name);
    if (has_taint(node, CCM_TAINT_UNINITIALIZED))
        return wrong(w, "Node %s has the taint still", name);
    if (!kp_streq(kp_value_str(kp_value_path(node, "spec", "providerID", NULL)), kp_arena_printf(w->arena, "fake://%s/%s", w->uid, name)))
        return wrong(w, "Node %s has no provider ID", name);
    if (!kp_streq(kp_value_str(kp_value_get(labels, "node.kubernetes.io/instance-type")), "medium") ||
        !kp_streq(kp_value_str(kp_value_get(labels, "topology.kubernetes.io/region")), "fake") ||
        !kp_streq(kp_value_str(kp_value_get(labels, "topology.kubernetes.io/zone")), "fake"))
        return wrong(w, "Node %s has not its labels", name);
    return true;
}

static const struct kp_value *service(struct world *w, const char *name)
{
    return api_get(w, kp_arena_printf(w->arena, SERVICES "/%s", name));
}

static const char *uid_of(const struct kp_value *object)
{
    return kp_value_str(kp_value_path(object, "metadata", "uid", NULL));
}

static struct kp_value *document(struct world *w, const char *balancer)
{
    struct kp_value *value = NULL;
    const char *text = cloud_read(w, "balancers", kp_arena_printf(w->arena, "%s/spec", balancer));
    return text && kp_value_parse(text, strlen(text), w->arena, NULL, &value, NULL) == 0 ? value : NULL;
}

/* The balancer is the only one, has a listener for each port of the service, both nodes behind it, and the service shows its address. */
static bool balanced_by(struct world *w, const char *name, const char *balancer, size_t n_listeners, size_t n_targets)
{
    const struct kp_value *object = service(w, name), *made = document(w, balancer);
    const struct kp_value *listeners = kp_value_get(made, "listeners"), *ports = kp_value_path(object, "spec", "ports", NULL);
    const struct kp_value *ingress = kp_value_at(kp_value_path(object, "status", "loadBalancer", "ingress", NULL), 0);
    const char *address = cloud_read(w, "addresses", kp_arena_printf(w->arena, "balancer.%s", balancer));
    if (!object || !made || !ports || !listeners)
        return wrong(w, "Service %s or balancer %s is not there", name, balancer);
    if (count(w, "balancers") != 1)
        return wrong(w, "%zu balancers instead of one", count(w, "balancers"));
    if (listeners->array.len != n_listeners)
        return wrong(w, "%zu listeners instead of %zu", listeners->array.len, n_listeners);
    for (size_t p = 0; p < ports->array.len; p++) {
        const struct kp_value *port = ports->array.items[p];
        bool found = false;
        for (size_t l = 0; l < n_listeners && !found; l++)
            found = kp_value_get(listeners->array.items[l], "port")->integer == kp_value_get(port, "port")->integer &&
                    kp_value_get(listeners->array.items[l], "target-port")->integer == kp_value_get(port, "nodePort")->integer;
        if (!found)
            return wrong(w, "Service %s: no listener of port %lld", name, (long long)kp_value_get(port, "port")->integer);
    }
    if (kp_value_get(made, "targets")->array.len != n_targets)
        return wrong(w, "%zu targets instead of %zu", kp_value_get(made, "targets")->array.len, n_targets);
    if (!address || !kp_streq(kp_value_str(kp_value_get(ingress, "ip")), address))
        return wrong(w, "Service %s does not show its address %s", name, address ? address : "-");
    return true;
}

static bool balanced(struct world *w, size_t n_listeners, size_t n_targets)
{
    const char *uid = uid_of(service(w, "web"));
    return uid ? balanced_by(w, "web", kp_arena_printf(w->arena, "svc-%s", uid), n_listeners, n_targets) : wrong(w, "no Service web");
}

static bool no_balancer(struct world *w)
{
    if (count(w, "balancers") != 0)
        return wrong(w, "%zu balancers are left", count(w, "balancers"));
    return count(w, "addresses") == 2 || wrong(w, "%zu addresses instead of the machines' two", count(w, "addresses"));
}

/* ---- nodes */

static void nothing(struct world *w)
{
    (void)w;
}

static void two_nodes(struct world *w)
{
    add_node(w, "w-1", true, "10.244.1.0/24");
    add_node(w, "w-2", true, "10.244.2.0/24");
}

static void new_node(struct world *w)
{
    add_node(w, "w-1", false, "");
}

static bool is_initialised(struct world *w)
{
    return initialised(w, "w-1");
}

static void must(int r, const struct kp_error *error)
{
    if (r == 0)
        return;
    fprintf(stderr, "the test's own call failed: %s\n", error->message);
    abort();
}

static void publish(struct world *w)
{
    const char *address;
    struct kp_error error = {0};
    must(cloud_address_publish(w->hands, w->uid, "w-1", w->arena, &address, &error), &error);
}

static bool shows_public_address(struct world *w)
{
    const struct kp_value *addresses = kp_value_path(api_get(w, "/api/v1/nodes/w-1"), "status", "addresses", NULL);
    const char *address = cloud_read(w, "public", "w-1");
    for (size_t i = 0; addresses && i < addresses->array.len; i++)
        if (kp_streq(kp_value_str(kp_value_get(addresses->array.items[i], "type")), "ExternalIP"))
            return kp_streq(kp_value_str(kp_value_get(addresses->array.items[i], "address")), address) || wrong(w, "another public address");
    return wrong(w, "no public address");
}

static void power_off(struct world *w)
{
    struct kp_error error = {0};
    must(cloud_machine_power(w->hands, w->uid, "w-1", CLOUD_POWER_KILL, &error), &error);
    set_ready(w, "w-1", false);
}

static bool is_tainted(struct world *w)
{
    const struct kp_value *off = api_get(w, "/api/v1/nodes/w-1"), *on = api_get(w, "/api/v1/nodes/w-2");
    return (off && on && has_taint(off, CCM_TAINT_SHUTDOWN) && !has_taint(on, CCM_TAINT_SHUTDOWN)) || wrong(w, "the Node of a machine that is off has no taint");
}

static void power_on(struct world *w)
{
    struct kp_error error = {0};
    must(cloud_machine_power(w->hands, w->uid, "w-1", CLOUD_POWER_START, &error), &error);
    set_ready(w, "w-1", true);
}

static bool is_untainted(struct world *w)
{
    const struct kp_value *node = api_get(w, "/api/v1/nodes/w-1");
    return (node && !has_taint(node, CCM_TAINT_SHUTDOWN)) || wrong(w, "the Node of a machine that is back has the taint still");
}

static void delete_machine(struct world *w)
{
    struct kp_error error = {0};
    must(cloud_machine_delete(w->hands, w->uid, "w-1", &error), &error);
    set_ready(w, "w-1", false);
}

static bool is_gone(struct world *w)
{
    if (!api_get(w, "/api/v1/nodes/w-2"))
        return wrong(w, "the Node of a machine that is there was deleted");
    return !api_get(w, "/api/v1/nodes/w-1") || wrong(w, "the Node of a machine that is gone is there still");
}

/* ---- routes */

static bool has_condition(struct world *w, const char *node)
{
    const struct kp_value *conditions = kp_value_path(api_get(w, kp_arena_printf(w->arena, "/api/v1/nodes/%s", node)), "status", "conditions", NULL);
    for (size_t i = 0; conditions && i < conditions->array.len; i++)
        if (kp_streq(kp_value_str(kp_value_get(conditions->array.items[i], "type")), "NetworkUnavailable"))
            return kp_streq(kp_value_str(kp_value_get(conditions->array.items[i], "status")), "False") || wrong(w, "Node %s is unavailable", node);
    return wrong(w, "Node %s does not tell of routes", node);
}

static bool routed(struct world *w)
{
    if (!kp_streq(cloud_read(w, "routes", "10.244.1.0_24"), "w-1") || !kp_streq(cloud_read(w, "routes", "10.244.2.0_24"), "w-2"))
        return wrong(w, "a route is missing");
    return has_condition(w, "w-1") && has_condition(w, "w-2");
}

static bool only_routed(struct world *w)
{
    return routed(w) && (count(w, "routes") == 2 || wrong(w, "%zu routes", count(w, "routes")));
}

static void foreign_routes(struct world *w)
{
    static const struct cloud_route routes[] = {{"10.244.9.0/24", "w-1"}, {"10.99.0.0/24", "w-1"}};
    struct kp_error error = {0};
    for (size_t i = 0; i < KP_ARRAY_LEN(routes); i++)
        must(cloud_route_ensure(w->hands, w->uid, &routes[i], &error), &error);
}

static bool stale_route_gone(struct world *w)
{
    if (cloud_has(w, "routes", "10.244.9.0_24"))
        return wrong(w, "the route to nobody is there still");
    return routed(w) && ((count(w, "routes") == 3 && cloud_has(w, "routes", "10.99.0.0_24")) || wrong(w, "a route that is not of pods is gone"));
}

/* ---- Services */

static void nodes_and_web(struct world *w)
{
    two_nodes(w);
    add_service(w, "web", 80, "");
}

static void web(struct world *w)
{
    add_service(w, "web", 80, "");
}

static bool web_of_two(struct world *w)
{
    return balanced(w, 1, 2);
}

static void second_port(struct world *w)
{
    api_must(w, "PATCH", SERVICES "/web", "{\"spec\":{\"ports\":[{\"name\":\"a\",\"port\":80},{\"name\":\"b\",\"port\":53,\"protocol\":\"UDP\"}]}}");
}

static bool two_ports(struct world *w)
{
    return balanced(w, 2, 2);
}

static void one_node_and_web(struct world *w)
{
    add_node(w, "w-1", true, "10.244.1.0/24");
    add_service(w, "web", 80, "");
}

static bool web_of_one(struct world *w)
{
    return balanced(w, 1, 1);
}

static void second_node(struct world *w)
{
    add_node(w, "w-2", true, "10.244.2.0/24");
}

static void damage(struct world *w)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/%s/balancers/svc-%s/spec", w->dir, w->uid, uid_of(service(w, "web")));
    if (unlink(path) < 0)
        abort();
}

static void delete_web(struct world *w)
{
    api_must(w, "DELETE", SERVICES "/web", NULL);
}

static bool web_gone(struct world *w)
{
    return service(w, "web") ? wrong(w, "the Service is there still") : no_balancer(w);
}

/* The balancer must go before the Service may. */
static bool web_gone_in_order(struct world *w)
{
    if (service(w, "web"))
        return wrong(w, "the Service is there still");
    w->broken = count(w, "balancers") != 0;
    return !w->broken || wrong(w, "the Service is gone before its balancer");
}

static void to_cluster_ip(struct world *w)
{
    api_must(w, "PATCH", SERVICES "/web", "{\"spec\":{\"type\":\"ClusterIP\"}}");
}

static bool plain_web(struct world *w)
{
    const struct kp_value *object = service(w, "web");
    const struct kp_value *finalizers = kp_value_path(object, "metadata", "finalizers", NULL);
    if (!object || (finalizers && finalizers->array.len) || kp_value_at(kp_value_path(object, "status", "loadBalancer", "ingress", NULL), 0))
        return wrong(w, "the Service has its finalizer or address still");
    w->broken = count(w, "balancers") != 0;
    return w->broken ? wrong(w, "the finalizer is gone before the balancer") : no_balancer(w);
}

/* Deleted as soon as the cloud was asked for its balancer, whatever comes of that. */
static void create_and_delete(struct world *w)
{
    int before = calls_of("balancer_ensure");
    add_service(w, "web", 80, "");
    while (calls_of("balancer_ensure") == before)
        kp_sleep_ms(2);
    delete_web(w);
}

static void orphan(struct world *w)
{
    static const struct cloud_listener listener = {CLOUD_TCP, 80, 30080};
    const struct cloud_balancer_spec spec = {.cluster_uid = w->uid, .name = "svc-5f3e8a4e-0000-4000-8000-000000000000", .listeners = &listener, .n_listeners = 1};
    struct cloud_balancer made;
    struct kp_error error = {0};
    int r;
    while ((r = cloud_balancer_ensure(w->hands, &spec, w->arena, &made, &error)) == KP_EAGAIN)
        ;
    must(r, &error);
}

static void share(struct world *w, const char *name)
{
    api_must(w, "PATCH", kp_arena_printf(w->arena, SERVICES "/%s", name), "{\"metadata\":{\"annotations\":{\"kprov.dev/share-address\":\"k\"}}}");
}

static void nodes_and_sharer(struct world *w)
{
    two_nodes(w);
    add_service(w, "web", 80, "");
    share(w, "web");
}

static const char *shared_name(struct world *w)
{
    return kp_arena_printf(w->arena, "shr-%016llx", (unsigned long long)kp_hash64("default/k", strlen("default/k")));
}

static bool one_shares(struct world *w)
{
    return balanced_by(w, "web", shared_name(w), 1, 2);
}

static void second_sharer(struct world *w)
{
    add_service(w, "two", 443, "");
    share(w, "two");
}

static bool two_share(struct world *w)
{
    return balanced_by(w, "web", shared_name(w), 2, 2) && balanced_by(w, "two", shared_name(w), 2, 2);
}

static bool other_stays(struct world *w)
{
    return service(w, "web") ? wrong(w, "the Service is there still") : balanced_by(w, "two", shared_name(w), 1, 2);
}

const struct operation operations[] = {
    {"new node", {"machine_get"}, false, nothing, NULL, {{new_node, is_initialised}}},
    {"address of a node changes", {"machine_list"}, false, two_nodes, NULL, {{publish, shows_public_address}}},
    {"machine off and on", {"machine_list"}, false, two_nodes, NULL, {{power_off, is_tainted}, {power_on, is_untainted}}},
    {"machine deleted", {"machine_list", "machine_get"}, false, two_nodes, NULL, {{delete_machine, is_gone}}},
    {"routes of new nodes", {"route_list", "route_ensure"}, false, nothing, NULL, {{two_nodes, only_routed}}},
    {"route to nobody", {"route_list", "route_delete"}, false, two_nodes, only_routed, {{foreign_routes, stale_route_gone}}},
    {"new Service", {"balancer_ensure", "balancer_list"}, false, two_nodes, NULL, {{web, web_of_two}}},
    {"Service changed", {"balancer_ensure"}, false, nodes_and_web, web_of_two, {{second_port, two_ports}}},
    {"node joins", {"balancer_ensure"}, false, one_node_and_web, web_of_one, {{second_node, web_of_two}}},
    {"balancer damaged", {"balancer_ensure"}, false, nodes_and_web, web_of_two, {{damage, web_of_two}}},
    {"Service deleted", {"balancer_delete"}, false, nodes_and_web, web_of_two, {{delete_web, web_gone_in_order}, {nothing, web_gone}}},
    {"Service becomes a ClusterIP", {"balancer_delete"}, false, nodes_and_web, web_of_two, {{to_cluster_ip, plain_web}}},
    {"created and deleted at once", {"balancer_ensure", "balancer_delete"}, true, two_nodes, NULL, {{create_and_delete, web_gone}}},
    {"balancer of no Service", {"balancer_list", "balancer_delete"}, false, two_nodes, NULL, {{orphan, no_balancer}}},
    {"shared balancer", {"balancer_ensure"}, false, nodes_and_sharer, one_shares, {{second_sharer, two_share}, {delete_web, other_stays}}},
};
const size_t n_operations = KP_ARRAY_LEN(operations);
