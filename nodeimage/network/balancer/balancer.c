/* Makes this node hold the addresses that are its own to hold, and no others: on the link, announced, closed for all but Services. */
#include "nodeimage/network/balancer/balancer.h"

#include "lib/netlink/netlink.h"
#include "lib/nft/nft.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#define TICK_MS 100
#define IDLE_TICK_MS 500
#define WORK_MS 1000 /* at least this often all is worked out anew: nodes change without our being told */
#define ANNOUNCE_MS 1000
/* At first at every other tick: Linux does not believe a change within a second of the last one it heard (neigh locktime). */
#define ANNOUNCE_OFTEN_MS 5000
#define ANNOUNCE_OFTEN_EVERY_MS 200
#define TABLE "ip kprov-load-balancer"

struct held {
    int64_t since_ms, announced_ms;
};
struct balancer {
    struct balancer_config config;
    struct balancer_lease *lease;
    struct balancer_peers *peers;
    struct balancer_wire *wire; /* NULL until the link is known */
    struct client_informer *leases, *services, *slices;
    struct netlink_link link;
    bool has_link;
    struct nft *nft;
    struct kp_strmap *held; /* address -> struct held */
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool stop;
    atomic_bool changes;  /* of Services or endpoints, not looked at yet */
    uint64_t alive;       /* who was, when all was worked out last, ... */
    int64_t worked_ms;    /* ... and when; 0: it has to be */
    bool any;             /* there were addresses to care for */
};

static const char *internal_ip(const struct k8s_node *node)
{
    for (size_t i = 0; i < node->status->addresses.len; i++)
        if (kp_streq(node->status->addresses.items[i].type, "InternalIP"))
            return node->status->addresses.items[i].address;
    return NULL;
}

/* Addresses that a killed predecessor left on the link. */
static int clear_link(struct balancer *b, struct kp_error *error)
{
    char address[VIP_ADDRESS_MAX];
    for (size_t i = 0; i < vip_pool_size(b->config.pool); i++) {
        vip_pool_address(b->config.pool, i, address);
        if (netlink_address_delete(&b->link, address, error) < 0)
            return error->code;
    }
    return 0;
}

static int find_link(struct balancer *b, struct client_view *view, struct kp_error *error)
{
    const struct k8s_node *node = client_view_get(view, b->config.nodes, "", b->config.node_name);
    if (b->has_link)
        return 0;
    if (!node || !internal_ip(node))
        return kp_fail(error, KP_EUNAVAILABLE, "node %s has no address yet", b->config.node_name);
    if (netlink_link_of_address(internal_ip(node), &b->link, error) < 0 || clear_link(b, error) < 0 ||
        balancer_wire_new(&b->link, &b->wire, error) < 0)
        return error->code;
    b->has_link = true;
    return 0;
}

/* What comes to a held address and was turned by no rule of kube-proxy is for nobody here, but for a ping. */
static int close_ports(struct balancer *b, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf script = {0};
    size_t iter = 0;
    const char *address;
    void *value;
    kp_buf_puts(&script, "add table " TABLE "\ndelete table " TABLE "\nadd table " TABLE "\n"
                         "add set " TABLE " held { type ipv4_addr; }\n"
                         "add chain " TABLE " input { type filter hook input priority 0; }\n"
                         "add rule " TABLE " input ip daddr @held icmp type echo-request accept\n"
                         "add rule " TABLE " input ip daddr @held reject\n");
    while (kp_strmap_next(b->held, &iter, &address, &value))
        kp_buf_printf(&script, "add element " TABLE " held { %s }\n", address);
    return nft_apply(b->nft, script.data, error);
}

static int take(struct balancer *b, const char *address, int64_t now_ms, struct kp_error *error)
{
    struct held *held = kp_calloc(1, sizeof *held);
    held->since_ms = now_ms;
    kp_strmap_put(b->held, address, held);
    int rc = close_ports(b, error); /* before anybody can come */
    if (rc == 0)
        rc = netlink_address_add(&b->link, address, error);
    if (rc < 0)
        free(kp_strmap_remove(b->held, address)); /* tried again at the next tick */
    else
        kp_info("holding", "address", address, NULL);
    return rc;
}

static int give_up(struct balancer *b, const char *address, struct kp_error *error)
{
    int rc = netlink_address_delete(&b->link, address, error);
    if (rc < 0)
        return rc;
    free(kp_strmap_remove(b->held, address));
    kp_info("not holding any more", "address", address, NULL);
    return close_ports(b, error);
}

static void announce(struct balancer *b, int64_t now_ms)
{
    size_t iter = 0;
    const char *address;
    void *value;
    while (kp_strmap_next(b->held, &iter, &address, &value)) {
        struct held *held = value;
        struct kp_error error = {0};
        if (now_ms - held->announced_ms < (now_ms - held->since_ms < ANNOUNCE_OFTEN_MS ? ANNOUNCE_OFTEN_EVERY_MS : ANNOUNCE_MS))
            continue;
        held->announced_ms = now_ms;
        if (netlink_announce(&b->link, address, &error) < 0)
            kp_warn("address not announced", "address", address, "error", error.message, NULL);
    }
}

static struct vip_node look_at(struct balancer *b, struct client_view *view, const struct k8s_lease *lease, bool ask, int64_t now_ms)
{
    const char *name = lease->metadata->name;
    struct vip_node ret;
    balancer_peers_see(b->peers, lease, now_ms);
    balancer_peers_state(b->peers, name, now_ms, &ret);
    if (ask && ret.alive) {
        const struct k8s_node *node = client_view_get(view, b->config.nodes, "", name);
        bool late = balancer_peers_is_late(b->peers, name, now_ms);
        ret.alive = !balancer_wire_is_gone(b->wire, name, node ? internal_ip(node) : NULL, late, now_ms);
    }
    return ret;
}

/* Everybody's leases, at every tick: when one was seen to change counts. Returns a number of who is alive. When our own lease cannot be renewed
   either, all are late and nobody is asked. */
static uint64_t look_around(struct balancer *b, struct client_view *view, const struct balancer_own *own, int64_t now_ms, struct vip_view *ret)
{
    const void *const *leases;
    size_t n = client_view_list(view, b->leases, NULL, &leases), len = 0;
    struct vip_node *alive = KP_NEW_ARRAY(client_view_arena(view), struct vip_node, n + 1);
    uint64_t all = 0;
    if (b->wire)
        balancer_wire_listen(b->wire);
    for (size_t i = 0; i < n; i++) {
        const struct k8s_lease *lease = leases[i];
        if (!kp_streq(lease->metadata->name, b->config.node_name))
            alive[len++] = look_at(b, view, lease, b->wire && own->may_change, now_ms);
    }
    alive[len++] = (struct vip_node){.name = b->config.node_name, .alive = own->alive, .settled = own->settled};
    for (size_t i = 0; i < len; i++)
        all += kp_hash64(alive[i].name, strlen(alive[i].name)) * (1u + alive[i].alive + 2u * alive[i].settled);
    ret->alive = alive;
    ret->n_alive = len;
    return all;
}

static int make_so(struct balancer *b, const struct kp_strmap *wanted, int64_t now_ms, struct kp_error *error)
{
    size_t iter = 0;
    const char *address;
    void *value;
    struct kp_strings gone = {0};
    int rc = 0;
    while (kp_strmap_next(b->held, &iter, &address, &value))
        if (!kp_strmap_get(wanted, address))
            kp_strings_add(&gone, address);
    for (size_t i = 0; i < gone.len && rc == 0; i++)
        rc = give_up(b, gone.items[i], error);
    kp_strings_done(&gone);
    for (iter = 0; rc == 0 && kp_strmap_next(wanted, &iter, &address, &value);)
        if (!kp_strmap_get(b->held, address))
            rc = take(b, address, now_ms, error);
    return rc;
}

static int work_out(struct balancer *b, struct client_view *view, struct vip_view *around, bool may_change, int64_t now_ms, struct kp_error *error)
{
    const struct k8s_service *const *services;
    size_t n = client_view_list(view, b->services, NULL, (const void *const **)&services);
    struct kp_strmap *wanted = kp_strmap_new();
    around->n_nodes = client_view_list(view, b->config.nodes, NULL, (const void *const **)&around->nodes);
    around->n_slices = client_view_list(view, b->slices, NULL, (const void *const **)&around->slices);
    b->any = false;
    for (size_t i = 0; i < n; i++) {
        const char *address = vip_wants_address(services[i]) ? vip_address_of(services[i], b->config.pool) : NULL;
        b->any |= address != NULL;
        const char *holder = address ? vip_holder(around, services[i], address) : NULL;
        if (holder && kp_streq(holder, b->config.node_name))
            kp_strmap_put(wanted, address, b);
        else if (holder && b->wire)
            balancer_wire_holds(b->wire, holder, now_ms);
    }
    balancer_lease_want(b->lease, b->any);
    int rc = 0;
    if (may_change || !b->any) { /* else what is held stays */
        rc = find_link(b, view, error);
        if (rc == 0)
            rc = make_so(b, wanted, now_ms, error);
    }
    kp_strmap_free(wanted, NULL);
    return rc;
}

/* Returns whether there is any address to care for. */
static bool tick(struct balancer *b)
{
    KP_AUTO(client_view_free) struct client_view *view = client_view_new();
    struct kp_error error = {0};
    struct vip_view around = {0};
    int64_t now_ms = kp_mono_ms();
    struct balancer_own own = balancer_lease_state(b->lease, now_ms);
    uint64_t alive = look_around(b, view, &own, now_ms, &around) + own.may_change;
    if (atomic_exchange(&b->changes, false) || alive != b->alive || !b->worked_ms || now_ms - b->worked_ms >= WORK_MS) {
        b->alive = alive;
        b->worked_ms = now_ms;
        if (work_out(b, view, &around, own.may_change, now_ms, &error) < 0) {
            kp_warn("addresses of Services are not in order yet", "error", error.message, NULL);
            b->worked_ms = 0;
        }
    }
    if (own.may_change)
        announce(b, now_ms);
    return b->any;
}

static void *run(void *arg)
{
    struct balancer *b = arg;
    for (bool stop = false; !stop;) {
        int64_t until_ms = kp_mono_ms() + (tick(b) ? TICK_MS : IDLE_TICK_MS);
        const struct timespec until = {.tv_sec = until_ms / 1000, .tv_nsec = (until_ms % 1000) * 1000000};
        pthread_mutex_lock(&b->mutex);
        while (!b->stop && pthread_cond_clockwait(&b->changed, &b->mutex, CLOCK_MONOTONIC, &until) == 0)
            ;
        stop = b->stop;
        pthread_mutex_unlock(&b->mutex);
    }
    return NULL;
}

static void on_change(struct client_object *old, struct client_object *new, void *arg)
{
    atomic_store(&((struct balancer *)arg)->changes, true);
}

int balancer_start(const struct balancer_config *config, struct balancer **ret_balancer, struct kp_error *error)
{
    struct balancer *b = kp_calloc(1, sizeof *b);
    b->config = *config;
    b->peers = balancer_peers_new();
    b->held = kp_strmap_new();
    b->nft = nft_new();
    pthread_mutex_init(&b->mutex, NULL);
    pthread_cond_init(&b->changed, NULL);
    b->leases = client_informer_new(config->client, &k8s_leases_resource, VIP_NAMESPACE, NULL, NULL);
    b->services = client_informer_new(config->client, &k8s_services_resource, NULL, NULL, NULL);
    b->slices = client_informer_new(config->client, &k8s_endpointslices_resource, NULL, NULL, NULL);
    client_informer_add_handler(b->services, on_change, b);
    client_informer_add_handler(b->slices, on_change, b);
    client_informer_start(b->leases);
    client_informer_start(b->services);
    client_informer_start(b->slices);
    b->lease = balancer_lease_new(&b->config);
    if (!b->lease || pthread_create(&b->thread, NULL, run, b) != 0) {
        balancer_stop(b);
        return kp_fail(error, KP_EUNAVAILABLE, "no thread could be started");
    }
    *ret_balancer = b;
    return 0;
}

void balancer_stop(struct balancer *b)
{
    if (!b)
        return;
    struct kp_error error = {0};
    struct kp_strmap *nothing = kp_strmap_new();
    if (b->thread) {
        pthread_mutex_lock(&b->mutex);
        b->stop = true;
        pthread_cond_broadcast(&b->changed);
        pthread_mutex_unlock(&b->mutex);
        pthread_join(b->thread, NULL);
    }
    if (make_so(b, nothing, kp_mono_ms(), &error) < 0)
        kp_warn("an address stays on the link", "error", error.message, NULL);
    balancer_lease_free(b->lease); /* after the addresses: whoever sees the lease go takes them */
    kp_strmap_free(nothing, NULL);
    client_informer_free(b->leases);
    client_informer_free(b->services);
    client_informer_free(b->slices);
    balancer_peers_free(b->peers);
    balancer_wire_free(b->wire);
    kp_strmap_free(b->held, free);
    nft_free(b->nft);
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->mutex);
    free(b);
}
