/* The fake cloud's driver with each call counted, and one that does its work only when nobody waits for it any more. */
#include <pthread.h>

#include "tests/faults-ccm/world.h"

static const char *const points[] = {"machine_get", "machine_list", "balancer_ensure", "balancer_list", "balancer_delete", "route_list", "route_ensure", "route_delete"};
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int counts[KP_ARRAY_LEN(points)];
static char late_point[32];
static bool done;

int calls_of(const char *point)
{
    int n = 0;
    pthread_mutex_lock(&mutex);
    for (size_t i = 0; i < KP_ARRAY_LEN(points); i++)
        if (kp_streq(points[i], point))
            n = counts[i];
    pthread_mutex_unlock(&mutex);
    return n;
}

void late_set(const char *point)
{
    pthread_mutex_lock(&mutex);
    snprintf(late_point, sizeof(late_point), "%s", point ? point : "");
    done = false;
    pthread_mutex_unlock(&mutex);
}

bool late_done(void)
{
    pthread_mutex_lock(&mutex);
    bool was = done;
    pthread_mutex_unlock(&mutex);
    return was;
}

/* Counts it; true when it was a late one, which is due now. */
static bool begin(const char *point)
{
    bool late = false;
    pthread_mutex_lock(&mutex);
    for (size_t i = 0; i < KP_ARRAY_LEN(points); i++)
        counts[i] += kp_streq(points[i], point);
    if (kp_streq(late_point, point)) {
        late = true;
        late_point[0] = '\0';
    }
    pthread_mutex_unlock(&mutex);
    if (late)
        kp_sleep_ms(LATE_MS);
    return late;
}

static int end(bool late, int r)
{
    pthread_mutex_lock(&mutex);
    done = done || late;
    pthread_mutex_unlock(&mutex);
    return r;
}

static int machine_get(void *state, const char *uid, const char *name, struct kp_arena *arena, struct cloud_machine *ret, struct kp_error *error)
{
    bool late = begin("machine_get");
    return end(late, cloud_driver_fake_api.machine_get(state, uid, name, arena, ret, error));
}

static int machine_list(void *state, const char *uid, struct kp_arena *arena, struct cloud_machine_list *ret, struct kp_error *error)
{
    bool late = begin("machine_list");
    return end(late, cloud_driver_fake_api.machine_list(state, uid, arena, ret, error));
}

static int balancer_ensure(void *state, const struct cloud_balancer_spec *spec, struct kp_arena *arena, struct cloud_balancer *ret, struct kp_error *error)
{
    bool late = begin("balancer_ensure");
    return end(late, cloud_driver_fake_api.balancer_ensure(state, spec, arena, ret, error));
}

static int balancer_list(void *state, const char *uid, struct kp_arena *arena, struct cloud_balancer_list *ret, struct kp_error *error)
{
    bool late = begin("balancer_list");
    return end(late, cloud_driver_fake_api.balancer_list(state, uid, arena, ret, error));
}

static int balancer_delete(void *state, const char *uid, const char *name, struct kp_error *error)
{
    bool late = begin("balancer_delete");
    return end(late, cloud_driver_fake_api.balancer_delete(state, uid, name, error));
}

static int route_list(void *state, const char *uid, struct kp_arena *arena, struct cloud_route_list *ret, struct kp_error *error)
{
    bool late = begin("route_list");
    return end(late, cloud_driver_fake_api.route_list(state, uid, arena, ret, error));
}

static int route_ensure(void *state, const char *uid, const struct cloud_route *route, struct kp_error *error)
{
    bool late = begin("route_ensure");
    return end(late, cloud_driver_fake_api.route_ensure(state, uid, route, error));
}

static int route_delete(void *state, const char *uid, const struct cloud_route *route, struct kp_error *error)
{
    bool late = begin("route_delete");
    return end(late, cloud_driver_fake_api.route_delete(state, uid, route, error));
}

struct cloud_driver counting_driver;

__attribute__((constructor)) static void make_driver(void)
{
    counting_driver = cloud_driver_fake_api;
    counting_driver.machine_get = machine_get;
    counting_driver.machine_list = machine_list;
    counting_driver.balancer_ensure = balancer_ensure;
    counting_driver.balancer_list = balancer_list;
    counting_driver.balancer_delete = balancer_delete;
    counting_driver.route_list = route_list;
    counting_driver.route_ensure = route_ensure;
    counting_driver.route_delete = route_delete;
}
