/* The leases that controllers and scheduler of a control plane lead by: held as they hold them, with their credentials. */
#include <pthread.h>

#include "client/client.h"
#include "tests/support/fake_cloud/machine.h"

#define RETRY_MS 50

struct holder {
    const struct machine *machine;
    const char *name, *kubeconfig;
};

static void lost(void *arg)
{
    const struct holder *holder = arg;
    fprintf(stderr, "fake-machine %s: lost the lease %s\n", holder->machine->name, holder->name);
}

static int acquire(const struct holder *holder, struct kp_arena *arena, struct kp_error *error)
{
    static const volatile bool never;
    struct client_config config = {0};
    struct client_elector *elector = NULL;
    struct client *client = NULL;
    struct loop *loop = loop_new();
    const char *path = kp_arena_printf(arena, "%s/etc/kubernetes/%s", holder->machine->root, holder->kubeconfig);
    const struct client_elector_config lease = {.ns = "kube-system", .name = holder->name, .retry_ms = RETRY_MS,
                                                .identity = kp_arena_printf(arena, "%s_fake", holder->machine->name)};
    int r = client_config_from_kubeconfig(path, NULL, arena, &config, error);
    if (r == 0)
        r = loop_start(loop, holder->name, error);
    if (r == 0)
        r = client_new(loop, &config, &client, error);
    /* Held as long as the machine runs. */
    return r < 0 ? r : client_elector_acquire(client, &lease, &never, lost, (void *)holder, &elector, error);
}

static void *hold(void *arg)
{
    struct holder *holder = arg;
    struct kp_arena *arena = kp_arena_new(0);
    struct kp_error error = {0};
    if (acquire(holder, arena, &error) < 0)
        fprintf(stderr, "fake-machine %s: lease %s: %s\n", holder->machine->name, holder->name, error.message);
    return NULL;
}

void machine_leases_start(const struct machine *machine)
{
    static struct holder holders[] = {{NULL, "kube-controller-manager", "controller-manager.conf"}, {NULL, "kube-scheduler", "scheduler.conf"}};
    for (size_t i = 0; i < KP_ARRAY_LEN(holders); i++) {
        pthread_t thread;
        holders[i].machine = machine;
        int failure = pthread_create(&thread, NULL, hold, &holders[i]);
        KP_ASSERT(failure == 0);
        pthread_detach(thread);
    }
}
