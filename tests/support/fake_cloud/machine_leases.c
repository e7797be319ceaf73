/* The leases that controllers and scheduler of a control plane lead by: held as they hold them, with their credentials. Who leads as the
 * controller manager also does what of its work is looked at. */
#include <pthread.h>
#include <stdatomic.h>

#include "client/client.h"
#include "tests/support/fake_cloud/machine.h"

#define RETRY_MS 50
#define WORK_EVERY_MS 100

struct holder {
    const struct machine *machine;
    const char *name;
    int (*work)(const struct machine *machine, struct client *client, struct kp_error *error); /* while it leads; NULL: nothing */
    struct machine_client own, admin;
    atomic_bool lost;
};

static void on_lost(void *arg)
{
    struct holder *holder = arg;
    fprintf(stderr, "fake-machine %s: lost the lease %s\n", holder->machine->name, holder->name);
    atomic_store(&holder->lost, true);
}

static void lead(struct holder *holder, int files)
{
    char last[256] = "";
    while (!atomic_load(&holder->lost) && machine_files() == files) {
        struct kp_error error = {0};
        int r = holder->work ? machine_client_open(holder->machine, &holder->admin, &error) : 0;
        if (r == 0 && holder->work)
            r = holder->work(holder->machine, holder->admin.client, &error);
        if (r < 0 && !kp_streq(last, error.message))
            fprintf(stderr, "fake-machine %s: as %s: %s\n", holder->machine->name, holder->name, error.message);
        snprintf(last, sizeof(last), "%.200s", r < 0 ? error.message : "");
        kp_sleep_ms(WORK_EVERY_MS);
    }
}

/* As a program that is started again when its files are others, or when it has lost its lease. */
static void *hold(void *arg)
{
    static const volatile bool never;
    struct holder *holder = arg;
    char identity[256];
    snprintf(identity, sizeof(identity), "%.200s_fake", holder->machine->name);
    const struct client_elector_config lease = {.ns = "kube-system", .name = holder->name, .retry_ms = RETRY_MS, .identity = identity};
    for (;; kp_sleep_ms(RETRY_MS)) {
        struct client_elector *elector = NULL;
        struct kp_error error = {0};
        const int files = machine_files();
        atomic_store(&holder->lost, false);
        int r = machine_client_open(holder->machine, &holder->own, &error);
        if (r == 0)
            r = client_elector_acquire(holder->own.client, &lease, &never, on_lost, holder, &elector, &error);
        if (r < 0)
            fprintf(stderr, "fake-machine %s: lease %s: %s\n", holder->machine->name, holder->name, error.message);
        else
            lead(holder, files);
        client_elector_release(elector);
    }
    return NULL;
}

void machine_leases_start(const struct machine *machine)
{
    static struct holder holders[] = {
        {.name = "kube-controller-manager", .work = machine_workloads_tend, .own.kubeconfig = "controller-manager.conf", .admin.kubeconfig = "admin.conf"},
        {.name = "kube-scheduler", .own.kubeconfig = "scheduler.conf"},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(holders); i++) {
        pthread_t thread;
        holders[i].machine = machine;
        holders[i].admin.timeout_ms = REQUEST_MS;
        int failure = pthread_create(&thread, NULL, hold, &holders[i]);
        KP_ASSERT(failure == 0);
        pthread_detach(thread);
    }
}
