/* kprov-vip: keeps the address of the API on one control-plane machine whose API server answers. Who may hold it is
   decided by a Lease, renewed through the machine's own API server; whoever takes it announces it by gratuitous ARP. One that holds it and has
   gone from the link is not waited for. */
#include "lib/base/cpu.h"
#include "lib/base/version.h"
#include "lib/client/client.h"
#include "lib/loop/loop.h"
#include "lib/netlink/netlink.h"
#include "nodeimage/vip/watch.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#define LEASE_NAMESPACE "kube-system"
#define LEASE_NAME "kprov-vip"
/* Another machine may take the address 2 s after the last renewal, which bounds how long nobody answers; the holder
   gives it up before. Not shorter than an election of etcd usually takes (1 to 2 s): without a leader nobody renews. */
#define LEASE_MS 2000
#define RENEW_DEADLINE_MS 1500
#define RENEW_MS 500
#define RETRY_MS 200
#define REQUEST_TIMEOUT_MS 500
/* Emulated machines take that long for a request while all of them start. How long nobody answers does not hang on it: a holder that is gone is
   not waited for, one whose API server is gone gives the address up itself. */
#define EMULATED_TIMES 5
#define CHECK_MS 200
#define CHECK_MS_MAX 500 /* on a machine where a check takes long; FAILURES_MAX of them in a row still fit into 2 s */
#define CHECK_RENEWED_MS 1000 /* while the lease is renewed: whoever writes for us is alive, but may be about to stop */
#define ANNOUNCE_MS 1000 /* again and again: a neighbour may have missed one, or heard a machine that was paused */
/* At every check at first: Linux does not believe a change within a second of the last one it heard (neigh locktime), and
   the kernel of a paused machine still answers for itself. */
#define ANNOUNCE_OFTEN_MS 5000
#define FAILURES_MAX 4   /* checks in a row until the API server counts as gone */

struct vip {
    const char *address, *node_ip, *identity, *kubeconfig;
    bool leader_elect;
    int64_t verbosity;
    struct netlink_link link;
    struct client *client;
    volatile bool stop; /* read by the elector */
    atomic_bool lost;
    int64_t times; /* all times of the lease are that many as long */
    pthread_mutex_t lock;
    pthread_cond_t changed;
};

static struct vip vip = {.times = 1, .leader_elect = true, .kubeconfig = "/etc/kubernetes/vip.conf"};

static const struct kp_flag flags[] = {
    {"address", 0, KP_FLAG_STRING, &vip.address, "the address to keep", NULL},
    {"node-ip", 0, KP_FLAG_STRING, &vip.node_ip, "the machine's own address: its link gets the other one too", NULL},
    {"identity", 0, KP_FLAG_STRING, &vip.identity, "name of this machine in the lease", NULL},
    {"kubeconfig", 0, KP_FLAG_STRING, &vip.kubeconfig, "how to reach the machine's own API server", NULL},
    {"leader-elect", 0, KP_FLAG_BOOL, &vip.leader_elect, "false: this is the only control plane, the address stays here", NULL},
    {"v", 'v', KP_FLAG_I64, &vip.verbosity, "log level", NULL},
    {0},
};

static bool stopping(void)
{
    return __atomic_load_n(&vip.stop, __ATOMIC_ACQUIRE);
}

static void pause_ms(int64_t ms)
{
    int64_t until_ms = kp_mono_ms() + ms;
    const struct timespec until = {.tv_sec = until_ms / 1000, .tv_nsec = (until_ms % 1000) * 1000000};
    pthread_mutex_lock(&vip.lock);
    if (!stopping())
        pthread_cond_clockwait(&vip.changed, &vip.lock, CLOCK_MONOTONIC, &until);
    pthread_mutex_unlock(&vip.lock);
}

static bool api_is_ready(void)
{
    struct kp_error error = {0};
    return client_raw(vip.client, "GET", "/readyz", NULL, NULL, 0, NULL, NULL, &error) == 0;
}

static void on_lost(void *arg)
{
    atomic_store(&vip.lost, true);
}

/* With the address: a predecessor of the same name that ends late takes its own away, which is ours as well. */
static void announce(void)
{
    struct kp_error error = {0};
    if (netlink_address_add(&vip.link, vip.address, &error) < 0 || netlink_announce(&vip.link, vip.address, &error) < 0)
        kp_warn("address not announced", "error", error.message, NULL);
}

static bool just_renewed(struct client_elector *elector)
{
    return kp_mono_ms() - client_elector_renewed_ms(elector) < (RENEW_MS + RETRY_MS) * vip.times;
}

/* Until the lease is lost, the API server does not answer any more, or the program ends. */
static void hold(struct client_elector *elector)
{
    int failures = 0;
    int64_t announced_ms = 0, began_ms = kp_mono_ms(), rest_ms = CHECK_MS, checked_ms = began_ms;
    while (!stopping() && !atomic_load(&vip.lost) && failures < FAILURES_MAX) {
        int64_t now_ms = kp_mono_ms();
        if (now_ms - began_ms < ANNOUNCE_OFTEN_MS || now_ms - announced_ms >= ANNOUNCE_MS) {
            announce();
            announced_ms = now_ms;
        }
        pause_ms(rest_ms);
        int64_t asked_ms = kp_mono_ms();
        if (elector && !failures && asked_ms - checked_ms < CHECK_RENEWED_MS && just_renewed(elector))
            continue;
        checked_ms = asked_ms;
        failures = !vip.leader_elect || api_is_ready() ? 0 : failures + 1;
        rest_ms = kp_rest_ms(kp_mono_ms() - asked_ms, CHECK_MS, CHECK_MS_MAX);
    }
    if (failures >= FAILURES_MAX)
        kp_warn("the API server of this machine does not answer: the address is given up", "address", vip.address, NULL);
}

static bool holder_is_gone(const char *holder, void *watch)
{
    return vip_watch_is_gone(watch, holder);
}

/* The Lease. While another machine has it that one is watched. */
static int wait_for_lease(struct client_elector **ret_elector, struct kp_error *error)
{
    KP_AUTO(vip_watch_free) struct vip_watch *watch = NULL;
    struct kp_error why = {0};
    while (!stopping() && !api_is_ready())
        pause_ms(CHECK_MS);
    if (vip_watch_new(&vip.link, vip.address, &watch, &why) < 0)
        kp_warn("the holder of the address cannot be watched: its lease has to run out", "error", why.message, NULL);
    const struct client_elector_config config = {
        .ns = LEASE_NAMESPACE, .name = LEASE_NAME, .identity = vip.identity,
        .lease_ms = LEASE_MS * vip.times, .renew_deadline_ms = RENEW_DEADLINE_MS * vip.times,
        .renew_ms = RENEW_MS * vip.times, .retry_ms = RETRY_MS * vip.times,
        .holder_is_gone = watch ? holder_is_gone : NULL, .gone_arg = watch,
    };
    return client_elector_acquire(vip.client, &config, &vip.stop, on_lost, NULL, ret_elector, error);
}

static int take_turn(struct kp_error *error)
{
    struct client_elector *elector = NULL;
    atomic_store(&vip.lost, false);
    if (vip.leader_elect && wait_for_lease(&elector, error) < 0)
        return error->code;
    int code = netlink_address_add(&vip.link, vip.address, error);
    if (code == 0) {
        kp_info("holding", "address", vip.address, NULL);
        hold(elector);
        if (vip.leader_elect)
            code = netlink_address_delete(&vip.link, vip.address, error);
    }
    client_elector_release(elector); /* after the address: two never have it because of us */
    return code;
}

static void *run(void *arg)
{
    while (!stopping()) {
        struct kp_error error = {0};
        if (take_turn(&error) < 0 && !stopping()) {
            kp_warn("the address could not be kept, trying again", "address", vip.address, "error", error.message, NULL);
            pause_ms(CHECK_MS);
        }
    }
    return NULL;
}

static int prepare(struct loop *loop, struct kp_arena *arena, struct kp_error *error)
{
    struct client_config config;
    if (kp_empty(vip.address) || kp_empty(vip.node_ip) || kp_empty(vip.identity))
        return kp_fail(error, KP_EUSAGE, "--address, --node-ip and --identity are needed");
    if (netlink_link_of_address(vip.node_ip, &vip.link, error) < 0)
        return error->code;
    /* One that a killed predecessor left: somebody else may hold the lease by now. */
    if (vip.leader_elect && netlink_address_delete(&vip.link, vip.address, error) < 0)
        return error->code;
    if (loop_start(loop, "client", error) < 0 ||
        client_config_from_kubeconfig(vip.kubeconfig, NULL, arena, &config, error) < 0)
        return error->code;
    config.user_agent = kp_arena_printf(arena, "kprov-vip/%s", kp_version);
    vip.times = kp_cpu_is_emulated() ? EMULATED_TIMES : 1;
    config.timeout_ms = REQUEST_TIMEOUT_MS * vip.times;
    return client_new(loop, &config, &vip.client, error);
}

static int serve(struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct loop *loop = loop_new();
    pthread_t thread;
    sigset_t set;
    int signum;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set, NULL); /* before any thread: all inherit it, sigwait takes them */
    signal(SIGPIPE, SIG_IGN);
    pthread_mutex_init(&vip.lock, NULL);
    pthread_cond_init(&vip.changed, NULL);
    int code = prepare(loop, arena, error);
    if (code == 0) {
        KP_ASSERT(pthread_create(&thread, NULL, run, NULL) == 0);
        sigwait(&set, &signum);
        kp_info("ending", "signal", strsignal(signum), NULL);
        pthread_mutex_lock(&vip.lock);
        __atomic_store_n(&vip.stop, true, __ATOMIC_RELEASE);
        pthread_cond_broadcast(&vip.changed);
        pthread_mutex_unlock(&vip.lock);
        pthread_join(thread, NULL);
    }
    client_free(vip.client);
    loop_free(loop);
    return code;
}

int main(int argc, char **argv)
{
    struct kp_error error = {0};
    bool help = false;
    int code = kp_flags_parse(flags, argc, argv, NULL, &help, &error);
    if (code == 0 && help) {
        kp_flags_print(flags, stdout);
        return 0;
    }
    kp_log_init("kprov-vip", vip.verbosity >= 4 ? KP_LOG_DEBUG : KP_LOG_INFO);
    if (code == 0)
        code = serve(&error);
    if (code < 0)
        fprintf(stderr, "kprov-vip: %s\n", error.message);
    return code < 0 ? kp_code_info(error.code)->exit_status : 0;
}
