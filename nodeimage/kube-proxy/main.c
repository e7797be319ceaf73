/* kube-proxy: follows Services and EndpointSlices, keeps this node's nftables rules like them. */
#include "lib/component/component.h"
#include "lib/nft/nft.h"
#include "nodeimage/kube-proxy/health.h"
#include "nodeimage/kube-proxy/proxy.h"

#include <pthread.h>

#define MIN_SYNC_MS 10     /* changes within this time go into one transaction */
#define FULL_SYNC_MS 3600000 /* the table is made anew this often, whatever happened to it */
#define RETRY_MS 1000

struct proxy {
    const char *node_name, *cluster_cidr, *proxy_mode;
    struct client_informer *services, *slices;
    struct client_queue *queue;
    pthread_t thread;
    struct nft *nft;
    struct proxy_health *health;
    struct proxy_rules *applied; /* NULL: unknown, the next sync is a full one */
    int64_t full_ms;
    bool synced;
    struct kp_metric *syncs, *seconds;
};

static int sync_rules(struct proxy *p, struct kp_error *error)
{
    KP_AUTO(client_view_free) struct client_view *view = client_view_new();
    KP_AUTO_BUF struct kp_buf script = {0};
    struct proxy_input input = {.node_name = p->node_name, .cluster_cidr = p->cluster_cidr};
    input.n_services = client_view_list(view, p->services, NULL, (const void *const **)&input.services);
    input.n_slices = client_view_list(view, p->slices, NULL, (const void *const **)&input.slices);
    struct proxy_health_port *checks;
    size_t n_checks = proxy_health_ports(&input, client_view_arena(view), &checks);
    proxy_health_update(p->health, checks, n_checks);
    struct proxy_rules *wanted = proxy_rules_build(&input);
    if (p->applied && kp_mono_ms() - p->full_ms > FULL_SYNC_MS) {
        proxy_rules_free(p->applied);
        p->applied = NULL;
    }
    bool full = p->applied == NULL;
    int64_t start_ns = kp_mono_ns();
    proxy_rules_script(p->applied, wanted, &script);
    if (script.len && nft_apply(p->nft, script.data, error) < 0) {
        proxy_rules_free(wanted);
        proxy_rules_free(p->applied);
        p->applied = NULL; /* what the kernel holds is unknown: begin anew */
        return error->code;
    }
    kp_metric_add(p->syncs, 1, full ? "full" : "partial");
    kp_metric_observe(p->seconds, (double)(kp_mono_ns() - start_ns) / 1e9);
    proxy_rules_free(p->applied);
    p->applied = wanted;
    if (full)
        p->full_ms = kp_mono_ms();
    p->synced = true;
    return 0;
}

static void *run(void *arg)
{
    struct proxy *p = arg;
    char *key;
    while ((key = client_queue_get(p->queue))) {
        struct kp_error error = {0};
        if (sync_rules(p, &error) < 0) {
            kp_error_log("rules not written", "error", error.message, NULL);
            client_queue_add_after(p->queue, key, RETRY_MS);
        } else {
            client_queue_add_after(p->queue, key, FULL_SYNC_MS + 1000);
        }
        client_queue_done(p->queue, key);
        free(key);
    }
    return NULL;
}

static void on_change(struct client_object *old, struct client_object *new, void *arg)
{
    struct proxy *p = arg;
    client_queue_add_after(p->queue, "sync", MIN_SYNC_MS);
}

static int start(struct client *client, void *arg, struct kp_error *error)
{
    static const char *const labels[] = {"kind", NULL};
    static const double buckets[] = {0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384};
    struct proxy *p = arg;
    if (!kp_empty(p->proxy_mode) && !kp_streq(p->proxy_mode, "nftables"))
        return kp_fail(error, KP_EUSAGE, "--proxy-mode=%s: this kube-proxy knows nftables only", p->proxy_mode);
    if (kp_empty(p->node_name))
        return kp_fail(error, KP_EUSAGE, "--hostname-override is needed: the name of this node");
    p->syncs = kp_counter("kubeproxy_sync_proxy_rules_total", "Transactions that wrote rules.", labels);
    p->seconds = kp_histogram("kubeproxy_sync_proxy_rules_duration_seconds", "Time to write rules.", NULL, buckets, KP_ARRAY_LEN(buckets));
    if (proxy_health_new(&p->health, error) < 0)
        return error->code;
    p->nft = nft_new();
    p->queue = client_queue_new("proxy");
    p->services = client_informer_new(client, &k8s_services_resource, NULL, NULL, NULL);
    p->slices = client_informer_new(client, &k8s_endpointslices_resource, NULL, NULL, NULL);
    client_informer_add_handler(p->services, on_change, p);
    client_informer_add_handler(p->slices, on_change, p);
    struct client_informer *informers[] = {p->services, p->slices};
    client_informer_start(p->services);
    client_informer_start(p->slices);
    if (client_informers_wait(informers, 2, 60000, error) < 0)
        return error->code;
    client_queue_add(p->queue, "sync");
    if (pthread_create(&p->thread, NULL, run, p) != 0)
        return kp_fail(error, KP_EUNAVAILABLE, "no thread could be started");
    return 0;
}

/* The rules stay: connections go on while the program is replaced. */
static void stop(void *arg)
{
    struct proxy *p = arg;
    client_queue_shutdown(p->queue);
    pthread_join(p->thread, NULL);
    client_informer_free(p->services);
    client_informer_free(p->slices);
    client_queue_free(p->queue);
    proxy_rules_free(p->applied);
    nft_free(p->nft);
    proxy_health_free(p->health);
}

static bool ready(void *arg)
{
    return ((struct proxy *)arg)->synced;
}

int main(int argc, char **argv)
{
    struct proxy p = {0};
    struct component_options options = {
        .name = "kube-proxy", .allow_in_cluster = true, .bind_address = "0.0.0.0", .secure_port = 10256, .health_plain = true,
    };
    struct kp_flag flags[3 + COMPONENT_FLAGS_MAX] = {
        {"hostname-override", 0, KP_FLAG_STRING, &p.node_name, "name of this node", NULL},
        {"cluster-cidr", 0, KP_FLAG_STRING, &p.cluster_cidr, "range of all pods; what comes to a Service from elsewhere is masqueraded", NULL},
        {"proxy-mode", 0, KP_FLAG_STRING, &p.proxy_mode, "nftables", NULL},
    };
    component_flags(&options, flags, 3);
    const struct component_program program = {
        .description = "kube-proxy makes Services reachable on a node with nftables rules.", .start = start, .stop = stop, .ready = ready, .arg = &p,
    };
    return component_main(&options, flags, &program, argc, argv);
}
