/* This node's lease: renewed while there are addresses to hold, deleted when there are none or the program ends. */
#include "nodeimage/network/balancer/balancer.h"

#include <pthread.h>
#include <time.h>

#define IDLE_MS 500

struct balancer_lease {
    struct client *client;
    struct client_informer *nodes;
    const char *node_name;
    pthread_t thread;
    pthread_mutex_t mutex; /* guards the rest */
    pthread_cond_t changed;
    bool wanted, made, stop;
    int64_t renewed_ms, since_ms; /* the last renewal, and the first of those without a gap; 0: none */
    int64_t since_ns;             /* the same by the wall clock */
};

static int create(struct balancer_lease *l, struct kp_time acquired, struct kp_time now, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct k8s_lease *lease = KP_OBJECT_NEW(arena, k8s_lease);
    lease->metadata->name = l->node_name;
    lease->metadata->namespace = VIP_NAMESPACE;
    lease->spec->holder_identity = l->node_name;
    KP_AUTO(client_object_unref) struct client_object *node = client_informer_get(l->nodes, "", l->node_name);
    if (node) { /* it goes with its node */
        struct k8s_owner_reference *owner = KP_LIST_ADD(arena, &lease->metadata->owner_references);
        owner->api_version = "v1";
        owner->kind = "Node";
        owner->name = l->node_name;
        owner->uid = node->uid;
    }
    lease->spec->acquire_time = acquired;
    lease->spec->renew_time = now;
    return client_create(l->client, &k8s_leases_resource, VIP_NAMESPACE, lease, NULL, NULL, NULL, error);
}

static struct kp_time time_of(int64_t ns)
{
    return (struct kp_time){.seconds = ns / 1000000000, .nanos = (int32_t)(ns % 1000000000), .set = true};
}

static int renew(struct balancer_lease *l, int64_t since_ns, int64_t now_ns, struct kp_error *error)
{
    char acquired[KP_RFC3339_MAX], now[KP_RFC3339_MAX], body[256];
    kp_format_rfc3339(acquired, since_ns / 1000000000, (int32_t)(since_ns % 1000000000), true);
    kp_format_rfc3339(now, now_ns / 1000000000, (int32_t)(now_ns % 1000000000), true);
    int len = snprintf(body, sizeof body, "{\"spec\":{\"acquireTime\":\"%s\",\"renewTime\":\"%s\"}}", acquired, now);
    int rc = client_patch(l->client, &k8s_leases_resource, VIP_NAMESPACE, l->node_name, CLIENT_PATCH_MERGE, body, (size_t)len, NULL, NULL, NULL,
                          error);
    return rc == KP_ENOTFOUND ? create(l, time_of(since_ns), time_of(now_ns), error) : rc;
}

static void turn(struct balancer_lease *l)
{
    struct kp_error error = {0};
    int64_t now_ms = kp_mono_ms(), now_ns = kp_now_ns();
    pthread_mutex_lock(&l->mutex);
    bool wanted = l->wanted, made = l->made;
    if (wanted && (!l->renewed_ms || now_ms - l->renewed_ms >= BALANCER_DEAD_MS)) {
        l->since_ms = 0; /* to the others it was gone */
        l->since_ns = now_ns;
    }
    int64_t since_ns = l->since_ns;
    pthread_mutex_unlock(&l->mutex);
    int rc = wanted ? renew(l, since_ns, now_ns, &error) : made ? client_delete(l->client, &k8s_leases_resource, VIP_NAMESPACE, l->node_name, CLIENT_DELETE_DEFAULT, &error) : 0;
    pthread_mutex_lock(&l->mutex);
    if (wanted && rc == 0) {
        l->renewed_ms = now_ms;
        l->since_ms = l->since_ms ? l->since_ms : now_ms;
        l->made = true;
    } else if (!wanted && (rc == 0 || rc == KP_ENOTFOUND)) {
        l->made = false;
        l->renewed_ms = l->since_ms = 0;
    }
    pthread_mutex_unlock(&l->mutex);
    if (rc < 0 && rc != KP_ENOTFOUND)
        kp_warn("this node's lease is not renewed", "node", l->node_name, "error", error.message, NULL);
}

static void pause_until(struct balancer_lease *l, int64_t until_ms)
{
    const struct timespec until = {.tv_sec = until_ms / 1000, .tv_nsec = (until_ms % 1000) * 1000000};
    pthread_mutex_lock(&l->mutex);
    bool wanted = l->wanted;
    int rc = 0;
    while (!l->stop && l->wanted == wanted && rc == 0)
        rc = pthread_cond_clockwait(&l->changed, &l->mutex, CLOCK_MONOTONIC, &until);
    pthread_mutex_unlock(&l->mutex);
}

static void *run(void *arg)
{
    struct balancer_lease *l = arg;
    for (bool stop = false; !stop;) {
        int64_t begin_ms = kp_mono_ms();
        turn(l);
        pthread_mutex_lock(&l->mutex);
        bool wanted = l->wanted;
        pthread_mutex_unlock(&l->mutex);
        pause_until(l, begin_ms + (wanted ? BALANCER_RENEW_MS : IDLE_MS));
        pthread_mutex_lock(&l->mutex);
        stop = l->stop;
        pthread_mutex_unlock(&l->mutex);
    }
    balancer_lease_want(l, false);
    turn(l);
    return NULL;
}

struct balancer_lease *balancer_lease_new(const struct balancer_config *config)
{
    struct balancer_lease *l = kp_calloc(1, sizeof *l);
    l->client = config->client;
    l->nodes = config->nodes;
    l->node_name = config->node_name;
    pthread_mutex_init(&l->mutex, NULL);
    pthread_cond_init(&l->changed, NULL);
    if (pthread_create(&l->thread, NULL, run, l) != 0) {
        pthread_cond_destroy(&l->changed);
        pthread_mutex_destroy(&l->mutex);
        free(l);
        return NULL;
    }
    return l;
}

void balancer_lease_free(struct balancer_lease *l)
{
    if (!l)
        return;
    pthread_mutex_lock(&l->mutex);
    l->stop = true;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->mutex);
    pthread_join(l->thread, NULL);
    pthread_cond_destroy(&l->changed);
    pthread_mutex_destroy(&l->mutex);
    free(l);
}

void balancer_lease_want(struct balancer_lease *l, bool wanted)
{
    pthread_mutex_lock(&l->mutex);
    if (l->wanted != wanted)
        pthread_cond_broadcast(&l->changed);
    l->wanted = wanted;
    pthread_mutex_unlock(&l->mutex);
}

struct balancer_own balancer_lease_state(struct balancer_lease *l, int64_t now_ms)
{
    pthread_mutex_lock(&l->mutex);
    bool alive = l->renewed_ms && now_ms - l->renewed_ms < BALANCER_DEAD_MS;
    int64_t held_ms = alive && l->since_ms ? l->renewed_ms - l->since_ms : -1;
    pthread_mutex_unlock(&l->mutex);
    return (struct balancer_own){.alive = alive, .settled = held_ms >= BALANCER_SETTLED_MS, .may_change = held_ms >= 2 * BALANCER_RENEW_MS};
}
