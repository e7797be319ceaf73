/* kprov-dns: follows Services, EndpointSlices and Namespaces and answers for the cluster's domain. */
#include "api/k8s.h"
#include "lib/component/component.h"
#include "lib/http/http.h"
#include "nodeimage/dns/dns.h"

#include <netinet/in.h>
#include <pthread.h>

#define RESOLV_CHECK_MS 10000
#define RESOLV_BYTES_MAX 65536
#define SYNCED_KEY "synced/" /* behind the keys of the first lists: no object has this one */

struct dns {
    const char *cluster_domain, *upstream_resolv_conf;
    int64_t port, health_port, ready_port, metrics_port, lameduck_ns;
    const struct component_options *options;
    struct loop *loop;
    struct pool *pool;
    struct dns_zone *zone; /* on the loop's thread, once that runs */
    struct dns_forwarder *forwarder;
    struct dns_server *server;
    struct http_server *http[3];
    struct loop_timer *resolv_timer;
    struct kp_buf resolv; /* the text in use */
    bool resolv_failed;
    struct client_informer *services, *slices, *namespaces;
    int by_service;
    struct client_queue *queue;
    pthread_t thread;
    bool thread_started, ready, stopping; /* atomic */
};

/* ---- from objects to the zone --------------------------------------------------------------------------------------- */
struct change {
    struct dns *dns;
    char ns[CLIENT_KEY_PART_MAX], name[CLIENT_KEY_PART_MAX];
    struct dns_service *service;
    bool exists;
};

static void apply_service(void *arg)
{
    struct change *c = arg;
    dns_zone_put_service(c->dns->zone, c->ns, c->name, c->service);
    free(c);
}

static void apply_namespace(void *arg)
{
    struct change *c = arg;
    dns_zone_put_namespace(c->dns->zone, c->name, c->exists);
    free(c);
}

static void apply_synced(void *arg)
{
    struct dns *d = arg;
    char count[24];
    dns_zone_set_synced(d->zone);
    __atomic_store_n(&d->ready, true, __ATOMIC_RELEASE);
    snprintf(count, sizeof(count), "%zu", dns_zone_services(d->zone));
    kp_info("zone complete", "services", count, NULL);
}

static void sync_key(struct dns *d, const char *key)
{
    if (kp_streq(key, SYNCED_KEY)) {
        loop_post(d->loop, apply_synced, d);
        return;
    }
    KP_AUTO(client_view_free) struct client_view *view = client_view_new();
    struct change *c = kp_calloc(1, sizeof(*c));
    c->dns = d;
    if (client_key_split(key, c->ns, c->name) < 0) {
        free(c); /* our own keys are well-formed; an object with such a name could not be asked for either */
        return;
    }
    if (kp_empty(c->ns)) {
        c->exists = client_view_get(view, d->namespaces, NULL, c->name) != NULL;
        loop_post(d->loop, apply_namespace, c);
        return;
    }
    const struct k8s_service *service = client_view_get(view, d->services, c->ns, c->name);
    const void *const *found;
    size_t n_found = client_view_index(view, d->slices, d->by_service, c->name, &found), n = 0;
    const struct k8s_endpoint_slice **slices = KP_NEW_ARRAY(client_view_arena(view), const struct k8s_endpoint_slice *, n_found + 1);
    for (size_t i = 0; i < n_found; i++) { /* the index knows names only: they are borrowed from the object */
        const struct k8s_endpoint_slice *slice = found[i];
        if (kp_streq(slice->metadata->namespace, c->ns))
            slices[n++] = slice;
    }
    if (service)
        c->service = dns_service_build(service, slices, n);
    loop_post(d->loop, apply_service, c);
}

static void *run(void *arg)
{
    struct dns *d = arg;
    struct client_informer *const informers[] = {d->services, d->slices, d->namespaces};
    struct kp_error error = {0};
    while (!__atomic_load_n(&d->stopping, __ATOMIC_ACQUIRE) && client_informers_wait(informers, 3, 1000, &error) < 0)
        kp_debug("waiting for the API server", "error", error.message, NULL);
    client_queue_add(d->queue, SYNCED_KEY);
    char *key;
    while ((key = client_queue_get(d->queue))) {
        sync_key(d, key);
        client_queue_done(d->queue, key);
        free(key);
    }
    return NULL;
}

static void on_object(struct client_object *old, struct client_object *new, void *arg)
{
    struct dns *d = arg;
    const struct client_object *object = new ? new : old;
    char key[2 * CLIENT_KEY_PART_MAX];
    snprintf(key, sizeof(key), "%s%s%s", object->ns, *object->ns ? "/" : "", object->name);
    client_queue_add(d->queue, key);
}

static const char *service_of(const struct client_object *object)
{
    const struct k8s_endpoint_slice *slice = object->data;
    return kp_string_map_get(&slice->metadata->labels, "kubernetes.io/service-name");
}

static size_t index_by_service(const struct client_object *object, const char **values, size_t max)
{
    const char *service = service_of(object);
    if (!service)
        return 0;
    values[0] = service;
    return 1;
}

static void on_slice(struct client_object *old, struct client_object *new, void *arg)
{
    struct dns *d = arg;
    struct client_object *const objects[] = {old, new}; /* the label may have changed */
    for (size_t i = 0; i < 2; i++) {
        const char *service = objects[i] ? service_of(objects[i]) : NULL;
        char key[2 * CLIENT_KEY_PART_MAX];
        if (!service)
            continue;
        snprintf(key, sizeof(key), "%s/%s", objects[i]->ns, service);
        client_queue_add(d->queue, key);
    }
}

/* ---- upstream servers ------------------------------------------------------------------------------------------------- */
static void load_resolv(void *arg)
{
    struct dns *d = arg;
    KP_AUTO_BUF struct kp_buf text = {0};
    struct dns_upstreams upstreams;
    struct kp_error error = {0};
    bool failed = kp_read_file(d->upstream_resolv_conf, RESOLV_BYTES_MAX, &text, &error) < 0;
    if (failed && !d->resolv_failed)
        kp_error_log("upstream servers not read; tried again", "error", error.message, NULL);
    d->resolv_failed = failed;
    if (failed || (d->resolv.data && d->resolv.len == text.len && memcmp(d->resolv.data, text.data, text.len) == 0))
        return;
    dns_resolv_parse(text.data, text.len, 53, &upstreams);
    dns_upstreams_drop_self(&upstreams, (uint16_t)d->port);
    if (upstreams.len == 0)
        kp_warn("no upstream server: only the cluster's names are answered", "file", d->upstream_resolv_conf, NULL);
    for (size_t i = 0; i < upstreams.len; i++) {
        char address[LOOP_ADDRESS_MAX];
        loop_sockaddr_format((const struct sockaddr *)&upstreams.items[i], address);
        kp_info("upstream", "address", address, NULL);
    }
    dns_forwarder_set(d->forwarder, &upstreams);
    kp_buf_done(&d->resolv);
    d->resolv = text;
    text = (struct kp_buf){0};
}

/* ---- health, readiness, metrics ------------------------------------------------------------------------------------------ */
static const struct http_header text_plain[] = {{"content-type", "text/plain; charset=utf-8"}};

static void not_found(struct http_request *req)
{
    http_respond(req, 404, text_plain, 1, "404 page not found\n", 19);
}

static void serve_health(struct http_request *req, void *arg)
{
    if (kp_streq(req->path, "/health"))
        http_respond(req, 200, text_plain, 1, "OK", 2);
    else
        not_found(req);
}

static void serve_ready(struct http_request *req, void *arg)
{
    struct dns *d = arg;
    bool ready = __atomic_load_n(&d->ready, __ATOMIC_ACQUIRE);
    if (!kp_streq(req->path, "/ready"))
        not_found(req);
    else if (ready)
        http_respond(req, 200, text_plain, 1, "OK", 2);
    else
        http_respond(req, 503, text_plain, 1, "kubernetes\n", 11);
}

static void serve_metrics(struct http_request *req, void *arg)
{
    KP_AUTO_BUF struct kp_buf body = {0};
    if (!kp_streq(req->path, "/metrics")) {
        not_found(req);
        return;
    }
    kp_metrics_write(&body);
    http_respond(req, 200, text_plain, 1, body.data, body.len);
}

static int start_http(struct dns *d, struct kp_error *error)
{
    const struct {
        int64_t port;
        http_handler handler;
    } servers[] = {{d->health_port, serve_health}, {d->ready_port, serve_ready}, {d->metrics_port, serve_metrics}};
    for (size_t i = 0; i < KP_ARRAY_LEN(servers); i++) {
        const struct http_server_config config = {
            .host = d->options->bind_address, .port = (uint16_t)servers[i].port, .pool = d->pool, .handler = servers[i].handler, .arg = d,
        };
        if (servers[i].port && http_server_new(d->loop, &config, &d->http[i], error) < 0)
            return error->code;
    }
    return 0;
}

/* ---- life ---------------------------------------------------------------------------------------------------------------- */
static void stop_serving(void *arg)
{
    struct dns *d = arg;
    loop_timer_free(d->resolv_timer);
    dns_forwarder_free(d->forwarder);
    dns_server_free(d->server);
}

static void stop(void *arg)
{
    struct dns *d = arg;
    __atomic_store_n(&d->stopping, true, __ATOMIC_RELEASE);
    /* Answers on while the nodes' rules still lead here. */
    if (__atomic_exchange_n(&d->ready, false, __ATOMIC_ACQ_REL))
        kp_sleep_ms(d->lameduck_ns / 1000000);
    client_queue_shutdown(d->queue);
    if (d->thread_started)
        pthread_join(d->thread, NULL);
    client_informer_free(d->services);
    client_informer_free(d->slices);
    client_informer_free(d->namespaces);
    client_queue_free(d->queue);
    for (size_t i = 0; i < KP_ARRAY_LEN(d->http); i++)
        http_server_free(d->http[i]);
    loop_call(d->loop, stop_serving, d);
    loop_free(d->loop); /* applies what was still posted */
    pool_free(d->pool);
    dns_zone_free(d->zone);
    kp_buf_done(&d->resolv);
}

static int start_serving(struct dns *d, struct kp_error *error)
{
    struct dns_upstreams none = {0};
    d->zone = dns_zone_new(d->cluster_domain, error);
    if (!d->zone)
        return error->code;
    d->forwarder = dns_forwarder_new(d->loop, &none);
    load_resolv(d);
    if (dns_server_new(d->loop, d->options->bind_address, (uint16_t)d->port, d->zone, d->forwarder, &d->server, error) < 0)
        return error->code;
    d->resolv_timer = loop_timer_new(d->loop, load_resolv, d);
    loop_timer_start(d->resolv_timer, RESOLV_CHECK_MS, RESOLV_CHECK_MS);
    if (start_http(d, error) < 0)
        return error->code;
    return loop_start(d->loop, "dns", error);
}

static int start_watching(struct dns *d, struct client *client, struct kp_error *error)
{
    d->services = client_informer_new(client, &k8s_services_resource, NULL, NULL, NULL);
    d->slices = client_informer_new(client, &k8s_endpointslices_resource, NULL, NULL, NULL);
    d->namespaces = client_informer_new_metadata(client, &k8s_namespaces_resource);
    client_informer_add_handler(d->services, on_object, d);
    client_informer_add_handler(d->slices, on_slice, d);
    client_informer_add_handler(d->namespaces, on_object, d);
    d->by_service = client_informer_add_index(d->slices, index_by_service);
    client_informer_start(d->services);
    client_informer_start(d->slices);
    client_informer_start(d->namespaces);
    if (pthread_create(&d->thread, NULL, run, d) != 0)
        return kp_fail(error, KP_EUNAVAILABLE, "no thread could be started");
    d->thread_started = true;
    return 0;
}

static int start(struct client *client, void *arg, struct kp_error *error)
{
    struct dns *d = arg;
    const int64_t ports[] = {d->port, d->health_port, d->ready_port, d->metrics_port};
    for (size_t i = 0; i < KP_ARRAY_LEN(ports); i++)
        if (ports[i] < (i == 0) || ports[i] > UINT16_MAX)
            return kp_fail(error, KP_EUSAGE, "%lld is no port", (long long)ports[i]);
    d->loop = loop_new();
    d->pool = pool_new("http", 2, 64);
    d->queue = client_queue_new("dns");
    if (start_serving(d, error) < 0 || start_watching(d, client, error) < 0) {
        stop(d);
        return error->code;
    }
    return 0;
}

static bool ready(void *arg)
{
    return __atomic_load_n(&((struct dns *)arg)->ready, __ATOMIC_ACQUIRE);
}

int main(int argc, char **argv)
{
    struct component_options options = {.name = "kprov-dns", .allow_in_cluster = true, .bind_address = "0.0.0.0"};
    struct dns d = {
        .cluster_domain = "cluster.local", .upstream_resolv_conf = "/etc/resolv.conf", .port = 53, .health_port = 8080, .ready_port = 8181,
        .metrics_port = 9153, .lameduck_ns = 5000000000, .options = &options,
    };
    struct kp_flag flags[7 + COMPONENT_FLAGS_MAX] = {
        {"cluster-domain", 0, KP_FLAG_STRING, &d.cluster_domain, "domain of the cluster's names", NULL},
        {"port", 0, KP_FLAG_I64, &d.port, "port of DNS, UDP and TCP", NULL},
        {"upstream-resolv-conf", 0, KP_FLAG_STRING, &d.upstream_resolv_conf, "names the servers asked for everything else", NULL},
        {"health-port", 0, KP_FLAG_I64, &d.health_port, "port of /health; 0 turns it off", NULL},
        {"ready-port", 0, KP_FLAG_I64, &d.ready_port, "port of /ready; 0 turns it off", NULL},
        {"metrics-port", 0, KP_FLAG_I64, &d.metrics_port, "port of /metrics; 0 turns it off", NULL},
        {"lameduck", 0, KP_FLAG_DURATION, &d.lameduck_ns, "how long queries are still answered after the signal to end (5s)", NULL},
    };
    component_flags(&options, flags, 7);
    const struct component_program program = {
        .description = "kprov-dns answers DNS queries for a cluster's Services and pods, and forwards all others.",
        .start = start, .stop = stop, .ready = ready, .arg = &d,
    };
    return component_main(&options, flags, &program, argc, argv);
}
