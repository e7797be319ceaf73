/* The service controller: which Services are due, by which path, and what is written about them. */
#include "cloud-controller/service/controller_internal.h"

#define NODES_KEY "nodes" /* no Service's: those have a '/' */

void service_event(struct service_controller *c, const struct k8s_service *service, const char *type, const char *reason, const char *format, ...)
{
    struct client_event_target target = client_event_target_of(&k8s_service_type, service);
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    va_list ap;
    va_start(ap, format);
    const char *text = kp_arena_vprintf(arena, format, ap);
    va_end(ap);
    client_event(c->recorder, &target, type, reason, "%s", text);
}

int service_write_finalizer(struct service_controller *c, const struct k8s_service *service, bool add, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *body = service_finalizer_patch(service, add, arena);
    return client_patch(c->context->client, &k8s_services_resource, service->metadata->namespace, service->metadata->name, CLIENT_PATCH_MERGE, body,
                        strlen(body), NULL, NULL, NULL, error);
}

static int patch_status(struct service_controller *c, const struct k8s_service *service, const char *body, struct kp_arena *arena, void **ret_service,
                        struct kp_error *error)
{
    static const struct client_write_options options = {.subresource = "status"};
    return client_patch(c->context->client, &k8s_services_resource, service->metadata->namespace, service->metadata->name, CLIENT_PATCH_MERGE, body,
                        strlen(body), &options, arena, ret_service, error);
}

int service_write_status(struct service_controller *c, const struct k8s_service *service, const struct cloud_balancer *balancer, bool proxied,
                         bool *ret_changed, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *body = service_status_patch(service, balancer, proxied, arena);
    if (ret_changed)
        *ret_changed = body != NULL;
    return body ? patch_status(c, service, body, arena, NULL, error) : 0;
}

int service_let_go(struct service_controller *c, const struct k8s_service *service, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *body = service_status_patch(service, NULL, false, arena);
    void *fresh = NULL; /* of another version once the status is written */
    int r = body ? patch_status(c, service, body, arena, &fresh, error) : 0;
    if (r == 0)
        r = service_write_finalizer(c, fresh ? fresh : service, false, error);
    if (r == 0)
        service_event(c, service, "Normal", "DeletedLoadBalancer", "Deleted load balancer");
    return r;
}

struct service_memory service_recall(struct service_controller *c, const struct k8s_service *service)
{
    KP_AUTO_FREE char *key = kp_asprintf("%s/%s", service->metadata->namespace, service->metadata->name);
    pthread_mutex_lock(&c->mutex);
    const struct service_memory *memory = kp_strmap_get(c->memories, key);
    struct service_memory copy = memory && kp_streq(memory->uid, service->metadata->uid) ? *memory : (struct service_memory){0};
    pthread_mutex_unlock(&c->mutex);
    return copy;
}

void service_remember(struct service_controller *c, const struct k8s_service *service, const struct service_memory *memory)
{
    KP_AUTO_FREE char *key = kp_asprintf("%s/%s", service->metadata->namespace, service->metadata->name);
    struct service_memory *copy = kp_malloc(sizeof(*copy));
    *copy = *memory;
    snprintf(copy->uid, sizeof(copy->uid), "%s", service->metadata->uid);
    pthread_mutex_lock(&c->mutex);
    free(kp_strmap_put(c->memories, key, copy));
    pthread_mutex_unlock(&c->mutex);
}

static void forget_service(struct service_controller *c, const char *key)
{
    pthread_mutex_lock(&c->mutex);
    free(kp_strmap_remove(c->memories, key));
    pthread_mutex_unlock(&c->mutex);
}

/* ---- one pass */

static int sync_service(struct service_controller *c, const char *key, bool *ret_gone, struct kp_error *error)
{
    char ns[CLIENT_KEY_PART_MAX], name[CLIENT_KEY_PART_MAX];
    KP_AUTO(client_view_free) struct client_view *view = client_view_new();
    int r = client_key_split(key, ns, name);
    if (r < 0)
        return kp_fail(error, r, "key %s", key);
    const struct k8s_service *service = client_view_get(view, c->context->services, ns, name);
    enum service_path path = service ? service_path_of(service, c->cloud_balances) : SERVICE_IGNORED;
    *ret_gone = path == SERVICE_IGNORED;
    if (!service)
        forget_service(c, key);
    if (path == SERVICE_IGNORED || path == SERVICE_CLOUD)
        service_forget_address(c, key);
    if (path == SERVICE_IGNORED)
        return 0;
    kp_metric_add(c->syncs, 1);
    r = path == SERVICE_SOFTWARE ? service_sync_software(c, view, key, service, error) : service_sync_cloud(c, view, service, error);
    *ret_gone = r == 0 && !service_wants_balancer(service);
    if (r == KP_ENOTFOUND) { /* the Service went meanwhile: the cache will say so */
        *ret_gone = true;
        return 0;
    }
    if (r < 0 && r != KP_EAGAIN && !ccm_is_stale(r))
        service_event(c, service, "Warning", "SyncLoadBalancerFailed", "Error syncing load balancer: %s", error->message);
    return r;
}

static void sync_all(struct service_controller *c)
{
    KP_AUTO(client_view_free) struct client_view *view = client_view_new();
    const void *const *services;
    size_t n = client_view_list(view, c->context->services, NULL, &services);
    for (size_t i = 0; i < n; i++) {
        const struct k8s_service *service = services[i];
        if (service_wants_balancer(service) && service_path_of(service, c->cloud_balances) == SERVICE_CLOUD)
            client_queue_add(c->queue, kp_arena_printf(client_view_arena(view), "%s/%s", service->metadata->namespace, service->metadata->name));
    }
}

/* When the key is due again. */
static void schedule(struct service_controller *c, const char *key, int r, bool gone, const struct kp_error *error)
{
    if (r == 0 || r == KP_EAGAIN)
        ccm_failures_forget(c->failures, key);
    if (r == KP_EAGAIN) {
        client_queue_add_after(c->queue, key, KP_MAX(c->context->options->pending_ms, error->retry_after_ms));
    } else if (r < 0) {
        if (!ccm_is_stale(r))
            kp_warn("load balancer not in order yet", "service", key, "error", error->message, NULL);
        client_queue_add_after(c->queue, key, ccm_retry_ms(c->context->options, ccm_failures_add(c->failures, key), error));
    } else if (!gone) {
        client_queue_add_after(c->queue, key, c->context->options->service_resync_ms);
    }
}

static void *work(void *arg)
{
    struct service_controller *c = arg;
    char *key;
    while ((key = client_queue_get(c->queue))) {
        struct kp_error error = {0};
        bool gone = false;
        if (kp_streq(key, NODES_KEY))
            sync_all(c);
        else
            schedule(c, key, sync_service(c, key, &gone, &error), gone, &error);
        client_queue_done(c->queue, key);
        free(key);
    }
    return NULL;
}

/* ---- what makes Services due */

static bool matters(const struct client_object *object)
{
    const struct k8s_service *service = object ? object->data : NULL;
    return service && (kp_streq(service->spec->type, "LoadBalancer") || service_has_finalizer(service));
}

/* Those who share a balancer with one that changed. */
static void add_sharers(struct service_controller *c, const struct k8s_service *service)
{
    KP_AUTO(client_view_free) struct client_view *view = client_view_new();
    struct kp_arena *arena = client_view_arena(view);
    const char *share = service_share_of(service, arena);
    const void *const *services;
    size_t n = share ? client_view_list(view, c->context->services, service->metadata->namespace, &services) : 0;
    for (size_t i = 0; i < n; i++) {
        const struct k8s_service *other = services[i];
        if (service_wants_balancer(other) && kp_streq(service_share_of(other, arena), share))
            client_queue_add(c->queue, kp_arena_printf(arena, "%s/%s", other->metadata->namespace, other->metadata->name));
    }
}

/* Whether a change concerns those who share with it: not the status, and not the finalizers. */
static bool is_other_wish(const struct k8s_service *a, const struct k8s_service *b)
{
    return !kp_object_equal(&k8s_service_spec_type, a->spec, b->spec) || service_wants_balancer(a) != service_wants_balancer(b) ||
           !kp_streq(kp_string_map_get(&a->metadata->annotations, BALANCER_SHARE_ANNOTATION),
                     kp_string_map_get(&b->metadata->annotations, BALANCER_SHARE_ANNOTATION));
}

static void on_service(struct client_object *old, struct client_object *new, void *arg)
{
    struct service_controller *c = arg;
    const struct client_object *any = new ? new : old;
    if (!matters(old) && !matters(new))
        return;
    KP_AUTO_FREE char *key = kp_asprintf("%s/%s", any->ns, any->name);
    client_queue_add(c->queue, key);
    if (!c->cloud_balances || (old && new && !is_other_wish(old->data, new->data)))
        return;
    if (old)
        add_sharers(c, old->data);
    if (new)
        add_sharers(c, new->data);
}

static void on_node(struct client_object *old, struct client_object *new, void *arg)
{
    struct service_controller *c = arg;
    struct cloud_target before, after;
    bool was = old && service_target_of(old->data, &before), is = new && service_target_of(new->data, &after);
    if (was != is || (was && is && !kp_streq(before.address, after.address)))
        client_queue_add(c->queue, NODES_KEY);
}

/* ---- life */

static void make_metrics(struct service_controller *c)
{
    static const double buckets[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384}; /* upstream's */
    c->syncs = kp_counter("service_controller_loadbalancer_sync_total", "A metric counting the amount of times any load balancer has been configured, as an effect "
                          "of service/node changes on the cluster", NULL);
    c->node_errors = kp_counter("service_controller_nodesync_error_total", "A metric counting the amount of times any load balancer has been configured and errored, "
                                "as an effect of node changes on the cluster", NULL);
    c->host_latency = kp_histogram("service_controller_update_loadbalancer_host_latency_seconds", "A metric measuring the latency for updating each load balancer hosts.",
                                   NULL, buckets, KP_ARRAY_LEN(buckets));
}

int service_controller_new(const struct ccm_context *context, struct service_controller **ret, struct kp_error *error)
{
    struct vip_pool pool;
    if (vip_pool_parse(context->options->addresses ? context->options->addresses : "", &pool, error) < 0)
        return kp_wrap(error, "--load-balancer-addresses");
    struct service_controller *c = kp_calloc(1, sizeof(*c));
    c->context = context;
    c->pool = pool;
    c->cloud_balances = context->cloud && cloud_can(context->cloud, CLOUD_CAN_LOAD_BALANCE);
    make_metrics(c);
    pthread_mutex_init(&c->mutex, NULL);
    pthread_mutex_init(&c->share_mutex, NULL);
    c->memories = kp_strmap_new();
    c->given = kp_strmap_new();
    c->failures = ccm_failures_new();
    c->recorder = client_recorder_new(context->client, "service-controller", NULL);
    c->queue = client_queue_new("service");
    client_informer_add_handler(context->services, on_service, c);
    if (c->cloud_balances)
        client_informer_add_handler(context->nodes, on_node, c);
    *ret = c;
    return 0;
}

int service_controller_run(struct service_controller *c, struct kp_error *error)
{
    for (size_t n = (size_t)KP_MIN(KP_MAX(c->context->options->service_workers, 1), SERVICE_WORKERS_MAX); c->n_workers < n; c->n_workers++)
        if (pthread_create(&c->workers[c->n_workers], NULL, work, c) != 0)
            return kp_fail(error, KP_EUNAVAILABLE, "no thread could be started");
    return c->cloud_balances ? ccm_ticker_start(c->context->options->service_resync_ms, service_sweep, c, &c->sweeper, error) : 0;
}

void service_controller_stop(struct service_controller *c)
{
    if (!c)
        return;
    client_queue_shutdown(c->queue);
    for (size_t i = 0; i < c->n_workers; i++)
        pthread_join(c->workers[i], NULL);
    ccm_ticker_stop(c->sweeper);
}

void service_controller_free(struct service_controller *c)
{
    if (!c)
        return;
    client_queue_free(c->queue);
    client_recorder_free(c->recorder);
    ccm_failures_free(c->failures);
    kp_strmap_free(c->memories, free);
    kp_strmap_free(c->given, free);
    pthread_mutex_destroy(&c->mutex);
    pthread_mutex_destroy(&c->share_mutex);
    free(c);
}
