/* Calls of a driver under a deadline. A call runs on a thread of its own over copies of what it is given, so that one that never
   comes back can be left behind: its copies and its driver are freed when it does. */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "cloud/call_internal.h"

struct pending {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool done, abandoned;
    struct cloud_call call;
};

static void pending_free(struct pending *pending)
{
    struct cloud *cloud = pending->call.cloud;
    kp_strings_done(&pending->call.out.strings);
    kp_buf_done(&pending->call.out.console);
    kp_arena_free(pending->call.arena);
    pthread_cond_destroy(&pending->changed);
    pthread_mutex_destroy(&pending->mutex);
    free(pending);
    cloud_unref(cloud);
}

static int dispatch(const struct cloud_driver *driver, void *state, struct cloud_call *call)
{
    const struct cloud_call_in *in = &call->in;
    struct kp_error *error = &call->error;
    switch (call->kind) {
    case CLOUD_CALL_NETWORK_ENSURE: return driver->network_ensure(state, &in->network, call->arena, &call->out.network, error);
    case CLOUD_CALL_NETWORK_GET: return driver->network_get(state, in->uid, call->arena, &call->out.network, error);
    case CLOUD_CALL_NETWORK_DELETE: return driver->network_delete(state, in->uid, error);
    case CLOUD_CALL_ADDRESS_RESERVE:
        return driver->address_reserve(state, in->uid, in->name, call->arena, &call->out.address, error);
    case CLOUD_CALL_ADDRESS_RELEASE: return driver->address_release(state, in->uid, in->name, error);
    case CLOUD_CALL_MACHINE_CREATE: return driver->machine_create(state, &in->machine, call->arena, &call->out.machine, error);
    case CLOUD_CALL_MACHINE_REIMAGE: return driver->machine_reimage(state, &in->machine, call->arena, &call->out.machine, error);
    case CLOUD_CALL_MACHINE_GET: return driver->machine_get(state, in->uid, in->name, call->arena, &call->out.machine, error);
    case CLOUD_CALL_MACHINE_LIST: return driver->machine_list(state, in->uid, call->arena, &call->out.machines, error);
    case CLOUD_CALL_MACHINE_POWER: return driver->machine_power(state, in->uid, in->name, in->action, error);
    case CLOUD_CALL_MACHINE_DELETE: return driver->machine_delete(state, in->uid, in->name, error);
    case CLOUD_CALL_MACHINE_CONSOLE: return driver->machine_console(state, in->uid, in->name, &call->out.console, error);
    case CLOUD_CALL_OWNED: return driver->owned(state, in->uid, call->arena, &call->out.strings, error);
    case CLOUD_CALL_CLUSTERS: return driver->clusters(state, &call->out.strings, error);
    case CLOUD_CALL_PURGE: return driver->purge(state, in->uid, error);
    case CLOUD_CALL_IMAGES_PRUNE: return driver->images_prune(state, in->list, &call->out.strings, error);
    case CLOUD_CALL_MACHINE_TYPES: return driver->machine_types(state, call->arena, &call->out.types, error);
    case CLOUD_CALL_IMAGE_ENSURE: return driver->image_ensure(state, in->name, error);
    case CLOUD_CALL_ADDRESS_PUBLISH:
        return driver->address_publish(state, in->uid, in->name, call->arena, &call->out.address, error);
    case CLOUD_CALL_MACHINE_FORWARD: return driver->machine_forward(state, in->uid, in->name, in->list, error);
    case CLOUD_CALL_BALANCER_ENSURE: return driver->balancer_ensure(state, &in->balancer, call->arena, &call->out.balancer, error);
    case CLOUD_CALL_BALANCER_GET: return driver->balancer_get(state, in->uid, in->name, call->arena, &call->out.balancer, error);
    case CLOUD_CALL_BALANCER_HEALTH: return driver->balancer_health(state, in->uid, in->name, call->arena, &call->out.health, error);
    case CLOUD_CALL_BALANCER_LIST: return driver->balancer_list(state, in->uid, call->arena, &call->out.balancers, error);
    case CLOUD_CALL_BALANCER_DELETE: return driver->balancer_delete(state, in->uid, in->name, error);
    case CLOUD_CALL_ROUTE_LIST: return driver->route_list(state, in->uid, call->arena, &call->out.routes, error);
    case CLOUD_CALL_ROUTE_ENSURE: return driver->route_ensure(state, in->uid, &in->route, error);
    case CLOUD_CALL_ROUTE_DELETE: return driver->route_delete(state, in->uid, &in->route, error);
    case CLOUD_CALL_KINDS: break;
    }
    KP_ASSERT(!"a kind of call");
    return KP_EINTERNAL;
}

static void *run(void *arg)
{
    struct pending *pending = arg;
    struct cloud *cloud = pending->call.cloud;
    int r = dispatch(cloud->driver, cloud->state, &pending->call);
    pthread_mutex_lock(&pending->mutex);
    pending->call.result = r;
    pending->done = true;
    bool abandoned = pending->abandoned;
    pthread_cond_signal(&pending->changed);
    pthread_mutex_unlock(&pending->mutex);
    if (abandoned)
        pending_free(pending);
    return NULL;
}

static const struct {
    const char *what;
    int64_t timeout_ms; /* several times what the slowest driver, an emulated machine's, was seen to need */
} kinds[CLOUD_CALL_KINDS] = {
    [CLOUD_CALL_NETWORK_ENSURE] = {"ensure the network", 60000},
    [CLOUD_CALL_NETWORK_GET] = {"get the network", 30000},
    [CLOUD_CALL_NETWORK_DELETE] = {"delete the network", 60000},
    [CLOUD_CALL_ADDRESS_RESERVE] = {"reserve an address for", 30000},
    [CLOUD_CALL_ADDRESS_RELEASE] = {"release the address of", 30000},
    [CLOUD_CALL_MACHINE_CREATE] = {"create machine", 300000},
    [CLOUD_CALL_MACHINE_REIMAGE] = {"change the image of machine", 480000},
    [CLOUD_CALL_MACHINE_GET] = {"get machine", 30000},
    [CLOUD_CALL_MACHINE_LIST] = {"list the machines", 60000},
    [CLOUD_CALL_MACHINE_POWER] = {"switch the power of machine", 180000},
    [CLOUD_CALL_MACHINE_DELETE] = {"delete machine", 180000},
    [CLOUD_CALL_MACHINE_CONSOLE] = {"read the console of machine", 30000},
    [CLOUD_CALL_OWNED] = {"list what is left", 120000},
    [CLOUD_CALL_CLUSTERS] = {"list the clusters", 60000},
    [CLOUD_CALL_PURGE] = {"delete everything of the cluster", 600000},
    [CLOUD_CALL_IMAGES_PRUNE] = {"remove images that no machine uses", 120000},
    [CLOUD_CALL_MACHINE_TYPES] = {"list the machine types", 60000},
    [CLOUD_CALL_IMAGE_ENSURE] = {"upload image", 1800000},
    [CLOUD_CALL_ADDRESS_PUBLISH] = {"make a public address for", 120000},
    [CLOUD_CALL_MACHINE_FORWARD] = {"allow forwarding by machine", 60000},
    [CLOUD_CALL_BALANCER_ENSURE] = {"ensure load balancer", 120000},
    [CLOUD_CALL_BALANCER_GET] = {"get load balancer", 60000},
    [CLOUD_CALL_BALANCER_HEALTH] = {"get the health of the targets of load balancer", 60000},
    [CLOUD_CALL_BALANCER_LIST] = {"list the load balancers", 60000},
    [CLOUD_CALL_BALANCER_DELETE] = {"delete load balancer", 120000},
    [CLOUD_CALL_ROUTE_LIST] = {"list the routes", 60000},
    [CLOUD_CALL_ROUTE_ENSURE] = {"ensure the route to", 60000},
    [CLOUD_CALL_ROUTE_DELETE] = {"delete the route to", 60000},
};

static const char *name_of(const struct cloud_call *call)
{
    switch (call->kind) {
    case CLOUD_CALL_MACHINE_CREATE:
    case CLOUD_CALL_MACHINE_REIMAGE: return call->in.machine.name;
    case CLOUD_CALL_BALANCER_ENSURE: return call->in.balancer.name;
    case CLOUD_CALL_ROUTE_ENSURE:
    case CLOUD_CALL_ROUTE_DELETE: return call->in.route.destination;
    default: return call->in.name;
    }
}

static int fail_late(const struct cloud *cloud, const struct cloud_call *call, int64_t timeout_ms, struct kp_error *error)
{
    const char *name = name_of(call);
    return kp_fail(error, KP_ETIMEOUT,
                   "%s%s%s: cloud %s has not answered for %.1f s and may be at it still: run the same command again, it goes on from "
                   "what it finds (KPROV_CLOUD_TIMEOUT sets how long to wait)",
                   kinds[call->kind].what, name ? " " : "", name ? name : "", cloud->driver->name, (double)timeout_ms / 1000.0);
}

static int wait_done(struct pending *pending, int64_t timeout_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += timeout_ms % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    int late = 0;
    pthread_mutex_lock(&pending->mutex);
    while (!pending->done && !late)
        late = pthread_cond_timedwait(&pending->changed, &pending->mutex, &until);
    pending->abandoned = !pending->done;
    int r = pending->abandoned ? KP_ETIMEOUT : 0;
    pthread_mutex_unlock(&pending->mutex);
    return r;
}

static struct pending *pending_new(struct cloud *cloud, enum cloud_call_kind kind, const struct cloud_call_in *in)
{
    struct pending *pending = kp_calloc(1, sizeof(*pending));
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&pending->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&pending->mutex, NULL);
    atomic_fetch_add(&cloud->refs, 1);
    pending->call.cloud = cloud;
    pending->call.kind = kind;
    pending->call.arena = kp_arena_new(0);
    pending->call.in = cloud_copy_in(in, pending->call.arena);
    return pending;
}

static int start(struct pending *pending, pthread_t *ret_thread, struct kp_error *error)
{
    int failure = pthread_create(ret_thread, NULL, run, pending);
    return failure ? kp_fail(error, KP_EUNAVAILABLE, "start a thread: %s", strerror(failure)) : 0;
}

int cloud_call(struct cloud *cloud, enum cloud_call_kind kind, const struct cloud_call_in *in, struct kp_arena *arena,
               struct cloud_call_out *ret, struct kp_error *error)
{
    int64_t timeout_ms = cloud->timeout_ms ? cloud->timeout_ms : kinds[kind].timeout_ms;
    struct pending *pending = pending_new(cloud, kind, in);
    pthread_t thread;
    int r = start(pending, &thread, error);
    if (r < 0) {
        pending_free(pending);
        return r;
    }
    if (wait_done(pending, timeout_ms) < 0) {
        pthread_detach(thread);
        struct cloud_call asked = {.kind = kind, .in = *in};
        return fail_late(cloud, &asked, timeout_ms, error);
    }
    pthread_join(thread, NULL);
    r = pending->call.result;
    if (r == 0 || r == KP_EAGAIN)
        cloud_copy_out(&pending->call, arena, ret);
    if (r == 0) {
        ret->strings = pending->call.out.strings;
        ret->console = pending->call.out.console;
        pending->call.out = (struct cloud_call_out){0};
    } else if (error) {
        *error = pending->call.error;
        if (!error->code) /* a driver that gave no words for it */
            kp_fail(error, r, "cloud %s: %s", cloud->driver->name, kp_code_info(r)->name);
    }
    pending_free(pending);
    return r;
}
