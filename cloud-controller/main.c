/* cloud-controller-manager: what a cluster's cloud does for it. Without a cloud: addresses for LoadBalancer Services, which the
 * nodes hold themselves. */
#include "cloud-controller/balancer/balancer.h"
#include "lib/component/component.h"

#include <pthread.h>

#define RESYNC_MS 60000 /* each Service is looked at again this often, whatever was done to it */

struct manager {
    const char *addresses;
    struct vip_pool pool;
    struct client *client;
    struct client_informer *services;
    struct client_queue *queue;
    struct client_recorder *recorder;
    struct kp_strmap *given; /* address -> "ns/name" (char *), the worker's own: what the cache may not show yet */
    pthread_t thread;
    struct kp_metric *syncs;
};

static void event(struct manager *m, const struct k8s_service *service, const char *type, const char *reason, const char *text)
{
    struct client_event_target target = client_event_target_of(&k8s_service_type, service);
    client_event(m->recorder, &target, type, reason, "%s", text);
}

/* The whole list of finalizers, on the version that we saw. */
static int write_finalizers(struct manager *m, const struct k8s_service *service, bool add, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf body = {0};
    const char *comma = "";
    kp_buf_puts(&body, "{\"metadata\":{\"resourceVersion\":");
    kp_json_string(&body, service->metadata->resource_version);
    kp_buf_puts(&body, ",\"finalizers\":[");
    for (size_t i = 0; i < service->metadata->finalizers.len; i++) {
        if (kp_streq(service->metadata->finalizers.items[i], BALANCER_FINALIZER))
            continue;
        kp_buf_puts(&body, comma);
        kp_json_string(&body, service->metadata->finalizers.items[i]);
        comma = ",";
    }
    if (add)
        kp_buf_printf(&body, "%s\"%s\"", comma, BALANCER_FINALIZER);
    kp_buf_puts(&body, "]}}");
    return client_patch(m->client, &k8s_services_resource, service->metadata->namespace, service->metadata->name, CLIENT_PATCH_MERGE, body.data,
                        body.len, NULL, NULL, NULL, error);
}

static int write_status(struct manager *m, const struct k8s_service *service, const char *address, struct kp_error *error)
{
    static const struct client_write_options options = {.subresource = "status"};
    KP_AUTO_BUF struct kp_buf body = {0};
    if (kp_empty(address))
        kp_buf_puts(&body, "{\"status\":{\"loadBalancer\":{\"ingress\":null}}}");
    else
        kp_buf_printf(&body, "{\"status\":{\"loadBalancer\":{\"ingress\":[{\"ip\":\"%s\",\"ipMode\":\"VIP\"}]}}}", address);
    return client_patch(m->client, &k8s_services_resource, service->metadata->namespace, service->metadata->name, CLIENT_PATCH_MERGE, body.data,
                        body.len, &options, NULL, NULL, error);
}

static void forget(struct manager *m, const char *key)
{
    size_t iter = 0;
    const char *address;
    void *owner;
    struct kp_strings gone = {0};
    while (kp_strmap_next(m->given, &iter, &address, &owner))
        if (kp_streq(owner, key))
            kp_strings_add(&gone, address);
    for (size_t i = 0; i < gone.len; i++)
        free(kp_strmap_remove(m->given, gone.items[i]));
    kp_strings_done(&gone);
}

static int carry_out(struct manager *m, const char *key, const struct k8s_service *service, const struct balancer_decision *d,
                     struct kp_error *error)
{
    if (d->add_finalizer) {
        event(m, service, "Normal", "EnsuringLoadBalancer", "Ensuring load balancer");
        return write_finalizers(m, service, true, error); /* comes back with the changed Service */
    }
    if (d->remove_finalizer)
        event(m, service, "Normal", "DeletingLoadBalancer", "Deleting load balancer");
    forget(m, key);
    if (d->address[0])
        free(kp_strmap_put(m->given, d->address, kp_strdup(key)));
    if (d->set_status && write_status(m, service, d->address, error) < 0)
        return error->code;
    if (d->problem)
        return kp_fail(error, KP_EAGAIN, "%s", d->problem);
    if (d->set_status && d->address[0]) {
        KP_AUTO_FREE char *text = kp_asprintf("Ensured load balancer: address %s", d->address);
        event(m, service, "Normal", "EnsuredLoadBalancer", text);
    }
    if (!d->remove_finalizer)
        return 0;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    void *fresh = NULL; /* the status was written: another version */
    int rc = d->set_status ? client_get(m->client, &k8s_services_resource, service->metadata->namespace, service->metadata->name, arena, &fresh, error) : 0;
    if (rc == 0)
        rc = write_finalizers(m, fresh ? fresh : service, false, error);
    if (rc == 0)
        event(m, service, "Normal", "DeletedLoadBalancer", "Deleted load balancer");
    return rc;
}

static int sync_service(struct manager *m, const char *key, struct kp_error *error)
{
    char ns[CLIENT_KEY_PART_MAX], name[CLIENT_KEY_PART_MAX];
    KP_AUTO(client_view_free) struct client_view *view = client_view_new();
    struct balancer_input input = {.pool = &m->pool, .given = m->given};
    struct balancer_decision decision;
    int rc = client_key_split(key, ns, name);
    if (rc < 0)
        return kp_fail(error, rc, "key %s", key);
    input.service = client_view_get(view, m->services, ns, name);
    if (!input.service) {
        forget(m, key);
        return 0;
    }
    input.n_all = client_view_list(view, m->services, NULL, (const void *const **)&input.all);
    balancer_decide(&input, client_view_arena(view), &decision);
    rc = carry_out(m, key, input.service, &decision, error);
    if (rc < 0 && rc != KP_ENOTFOUND && rc != KP_ECONFLICT)
        event(m, input.service, "Warning", "SyncLoadBalancerFailed", kp_arena_printf(client_view_arena(view), "Error syncing load balancer: %s", error->message));
    return rc == KP_ENOTFOUND ? 0 : rc;
}

static void *run(void *arg)
{
    struct manager *m = arg;
    char *key;
    while ((key = client_queue_get(m->queue))) {
        struct kp_error error = {0};
        int rc = sync_service(m, key, &error);
        kp_metric_add(m->syncs, 1, rc < 0 ? "error" : "ok");
        if (rc < 0) {
            if (rc != KP_ECONFLICT)
                kp_warn("load balancer not in order yet", "service", key, "error", error.message, NULL);
            client_queue_add_rate_limited(m->queue, key);
        } else {
            client_queue_forget(m->queue, key);
            client_queue_add_after(m->queue, key, RESYNC_MS);
        }
        client_queue_done(m->queue, key);
        free(key);
    }
    return NULL;
}

static bool matters(const struct client_object *object)
{
    const struct k8s_service *service = object ? object->data : NULL;
    return service && (kp_streq(service->spec->type, "LoadBalancer") || service->metadata->finalizers.len);
}

/* One that goes may have left the address that others wait for: they come back by themselves, with back-off. */
static void on_service(struct client_object *old, struct client_object *new, void *arg)
{
    struct manager *m = arg;
    const struct client_object *any = new ? new : old;
    if (!matters(old) && !matters(new))
        return;
    KP_AUTO_FREE char *key = kp_asprintf("%s/%s", any->ns, any->name);
    client_queue_add(m->queue, key);
}

static int start(struct client *client, void *arg, struct kp_error *error)
{
    static const char *const labels[] = {"result", NULL};
    struct manager *m = arg;
    if (vip_pool_parse(m->addresses ? m->addresses : "", &m->pool, error) < 0)
        return kp_wrap(error, "--load-balancer-addresses");
    m->client = client;
    m->syncs = kp_counter("service_controller_syncs_total", "Services looked at, by the result.", labels);
    m->given = kp_strmap_new();
    m->recorder = client_recorder_new(client, "service-controller", NULL);
    m->queue = client_queue_new("service");
    m->services = client_informer_new(client, &k8s_services_resource, NULL, NULL, NULL);
    client_informer_add_handler(m->services, on_service, m);
    client_informer_start(m->services);
    if (client_informers_wait(&m->services, 1, 60000, error) < 0)
        return error->code;
    if (pthread_create(&m->thread, NULL, run, m) != 0)
        return kp_fail(error, KP_EUNAVAILABLE, "no thread could be started");
    return 0;
}

static void stop(void *arg)
{
    struct manager *m = arg;
    client_queue_shutdown(m->queue);
    pthread_join(m->thread, NULL);
    client_informer_free(m->services);
    client_queue_free(m->queue);
    client_recorder_free(m->recorder);
    kp_strmap_free(m->given, free);
}

int main(int argc, char **argv)
{
    struct manager m = {0};
    struct component_options options = {
        .name = "cloud-controller-manager", .allow_in_cluster = true, .bind_address = "127.0.0.1", .secure_port = 10258, .health_plain = true,
        .leader_elect = true,
    };
    struct kp_flag flags[1 + COMPONENT_FLAGS_MAX] = {
        {"load-balancer-addresses", 0, KP_FLAG_STRING, &m.addresses,
         "that LoadBalancer Services get and nodes hold: 10.0.0.10-10.0.0.20,10.0.1.0/28", NULL},
    };
    component_flags(&options, flags, 1);
    const struct component_program program = {
        .description = "cloud-controller-manager gives LoadBalancer Services their addresses.", .start = start, .stop = stop, .arg = &m,
    };
    return component_main(&options, flags, &program, argc, argv);
}
