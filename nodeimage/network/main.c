/* kprov-network: follows the Node objects and makes this node's pod network match them; enforces network policies; leads host ports to pods; holds addresses of Services. */
#include "api/k8s.h"
#include "lib/component/component.h"
#include "lib/netlink/netlink.h"
#include "lib/nft/nft.h"
#include "nodeimage/network/balancer/balancer.h"
#include "nodeimage/network/hostports/hostports.h"
#include "nodeimage/network/network.h"
#include "nodeimage/network/policy/policy.h"

#include <pthread.h>
#include <sys/stat.h>

#define CNI_DIR "/etc/cni/net.d"
#define CNI_FILE CNI_DIR "/10-kprov.conflist"
#define RETRY_MS 1000
#define RESYNC_MS 60000 /* routes that somebody else removed come back */

struct network {
    const char *node_name, *cluster_cidr, *balancer_addresses;
    struct client_informer *nodes;
    struct vip_pool pool;
    struct balancer *balancer;
    struct policy_agent *policies;
    struct hostports_agent *hostports;
    struct client_queue *queue; /* one key: all there is to do is "make it so" */
    pthread_t thread;
    bool written;
};

static const char *internal_ip(const struct k8s_node *node)
{
    for (size_t i = 0; i < node->status->addresses.len; i++)
        if (kp_streq(node->status->addresses.items[i].type, "InternalIP"))
            return node->status->addresses.items[i].address;
    return NULL;
}

/* containerd reads the folder anew when a file in it changes: write only what is new. */
static int write_cni(struct network *n, const char *pod_cidr, unsigned mtu, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf wanted = {0}, had = {0};
    struct kp_error ignored = {0};
    network_cni_config(pod_cidr, mtu, &wanted);
    if (kp_read_file(CNI_FILE, 65536, &had, &ignored) == 0 && had.len == wanted.len && memcmp(had.data, wanted.data, had.len) == 0)
        return 0;
    if (kp_mkdir_p(CNI_DIR, 0755, error) < 0 || kp_write_file(CNI_FILE, wanted.data, wanted.len, 0644, error) < 0)
        return error->code;
    kp_info("CNI configuration written", "file", CNI_FILE, "podCIDR", pod_cidr, NULL);
    return 0;
}

static bool same(const struct netlink_route *a, const struct netlink_route *b)
{
    return a->base == b->base && a->bits == b->bits && a->via == b->via;
}

static int sync_routes(const struct netlink_route *wanted, size_t n_wanted, struct kp_error *error)
{
    KP_AUTO_FREE struct netlink_route *had = NULL;
    size_t n_had = 0;
    if (netlink_routes_list(&had, &n_had, error) < 0)
        return error->code;
    for (size_t i = 0; i < n_wanted; i++) {
        bool there = false;
        for (size_t k = 0; k < n_had; k++)
            there |= same(&wanted[i], &had[k]);
        if (!there && netlink_route_replace(&wanted[i], error) < 0)
            return error->code;
    }
    for (size_t k = 0; k < n_had; k++) {
        bool keep = false;
        for (size_t i = 0; i < n_wanted; i++)
            keep |= wanted[i].base == had[k].base && wanted[i].bits == had[k].bits;
        if (!keep && netlink_route_delete(&had[k], error) < 0)
            return error->code;
    }
    return 0;
}

/* The own link is not known before the Node has an address that one has: then every other node counts as near, as the kernel will say. */
static bool is_reached_by(const struct network *n, const struct netlink_link *link, const char *own, const struct k8s_node *node, struct netlink_route *route)
{
    if (kp_streq(node->metadata->name, n->node_name) || kp_empty(node->spec->pod_cidr) || !netlink_route_parse(node->spec->pod_cidr, internal_ip(node), route))
        return false;
    return !link->index || network_is_near(own, link->prefix_len, route->via);
}

static int sync_all(struct network *n, struct kp_error *error)
{
    KP_AUTO(client_view_free) struct client_view *view = client_view_new();
    const void *const *nodes;
    size_t count = client_view_list(view, n->nodes, NULL, &nodes), n_routes = 0;
    struct netlink_route *routes = KP_NEW_ARRAY(client_view_arena(view), struct netlink_route, count + 1);
    struct netlink_link link = {0};
    const struct k8s_node *self = client_view_get(view, n->nodes, NULL, n->node_name);
    const char *own = self ? internal_ip(self) : NULL;
    if (own && netlink_link_of_address(own, &link, error) < 0 && error->code != KP_ENOTFOUND)
        return error->code;
    if (self && !kp_empty(self->spec->pod_cidr) && write_cni(n, self->spec->pod_cidr, link.index ? network_link_mtu(link.index) : 0, error) < 0)
        return error->code;
    n->written = self && !kp_empty(self->spec->pod_cidr);
    for (size_t i = 0; i < count; i++)
        n_routes += is_reached_by(n, &link, own, nodes[i], &routes[n_routes]);
    return sync_routes(routes, n_routes, error);
}

static void *run(void *arg)
{
    struct network *n = arg;
    char *key;
    while ((key = client_queue_get(n->queue))) {
        struct kp_error error = {0};
        if (sync_all(n, &error) < 0) {
            kp_warn("pod network not in order yet", "error", error.message, NULL);
            client_queue_add_after(n->queue, key, RETRY_MS);
        } else {
            client_queue_add_after(n->queue, key, RESYNC_MS);
        }
        client_queue_done(n->queue, key);
        free(key);
    }
    return NULL;
}

static void on_node(struct client_object *old, struct client_object *new, void *arg)
{
    struct network *n = arg;
    const struct k8s_node *a = old ? old->data : NULL, *b = new ? new->data : NULL;
    if (!a || !b || !kp_streq(a->spec->pod_cidr, b->spec->pod_cidr) || !kp_streq(internal_ip(a), internal_ip(b)))
        client_queue_add(n->queue, "sync");
}

static int start_balancer(struct network *n, struct client *client, struct kp_error *error)
{
    if (vip_pool_size(&n->pool) == 0)
        return 0;
    const struct balancer_config config = {
        .client = client, .node_name = n->node_name, .nodes = n->nodes, .pool = &n->pool,
    };
    return balancer_start(&config, &n->balancer, error);
}

static int start(struct client *client, void *arg, struct kp_error *error)
{
    struct network *n = arg;
    KP_AUTO_BUF struct kp_buf rules = {0};
    KP_AUTO(nft_free) struct nft *nft = nft_new();
    if (kp_empty(n->node_name))
        return kp_fail(error, KP_EUSAGE, "--hostname-override is needed: the name of this node");
    if (vip_pool_parse(n->balancer_addresses ? n->balancer_addresses : "", &n->pool, error) < 0)
        return kp_wrap(error, "--load-balancer-addresses");
    if (!kp_empty(n->cluster_cidr)) {
        network_pod_rules(n->cluster_cidr, &rules);
        if (nft_apply(nft, rules.data, error) < 0)
            return kp_wrap(error, "masquerading");
    }
    n->queue = client_queue_new("network");
    n->nodes = client_informer_new(client, &k8s_nodes_resource, NULL, NULL, NULL);
    client_informer_add_handler(n->nodes, on_node, n);
    client_informer_start(n->nodes);
    if (client_informers_wait(&n->nodes, 1, 60000, error) < 0)
        return error->code;
    if (pthread_create(&n->thread, NULL, run, n) != 0)
        return kp_fail(error, KP_EUNAVAILABLE, "no thread could be started");
    if (policy_start(client, n->node_name, &n->policies, error) < 0 || hostports_start(client, n->node_name, &n->hostports, error) < 0)
        return error->code;
    return start_balancer(n, client, error);
}

static void stop(void *arg)
{
    struct network *n = arg;
    balancer_stop(n->balancer);
    hostports_stop(n->hostports);
    policy_stop(n->policies);
    client_queue_shutdown(n->queue);
    pthread_join(n->thread, NULL);
    client_informer_free(n->nodes);
    client_queue_free(n->queue);
}

static bool ready(void *arg)
{
    return ((struct network *)arg)->written;
}

int main(int argc, char **argv)
{
    struct network n = {0};
    struct component_options options = {
        .name = "kprov-network", .allow_in_cluster = true, .bind_address = "127.0.0.1", .secure_port = 10246, .health_plain = true,
    };
    struct kp_flag flags[3 + COMPONENT_FLAGS_MAX] = {
        {"hostname-override", 0, KP_FLAG_STRING, &n.node_name, "name of this node", NULL},
        {"cluster-cidr", 0, KP_FLAG_STRING, &n.cluster_cidr, "range of all pods; traffic from it that leaves it is masqueraded", NULL},
        {"load-balancer-addresses", 0, KP_FLAG_STRING, &n.balancer_addresses,
         "that this node may hold for LoadBalancer Services: 10.0.0.10-10.0.0.20,10.0.1.0/28", NULL},
    };
    component_flags(&options, flags, 3);
    const struct component_program program = {
        .description = "kprov-network makes the pod network of a node.", .start = start, .stop = stop, .ready = ready, .arg = &n,
    };
    return component_main(&options, flags, &program, argc, argv);
}
