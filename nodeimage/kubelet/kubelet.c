/* Putting the kubelet together: configuration, connections, and its parts in the order they need each other. */
#include "lib/base/version.h"
#include "nodeimage/kubelet/csi/csi.h"
#include "nodeimage/kubelet/kubelet.h"

#include <malloc.h>
#include <signal.h>
#include <unistd.h>

#include "nodeimage/kubelet/kubelet_internal.h"

#define THREAD_STACK_BYTES ((size_t)256 << 10)
#define RUNTIME_WAIT_MS 50

struct thread_start {
    void *(*fn)(void *);
    void *arg;
    char name[16];
};

static void *thread_run(void *p)
{
    struct thread_start start = *(struct thread_start *)p;
    free(p);
    pthread_setname_np(pthread_self(), start.name);
    return start.fn(start.arg);
}

void kubelet_thread(const char *name, void *(*fn)(void *), void *arg)
{
    struct thread_start *start = kp_calloc(1, sizeof(*start));
    *start = (struct thread_start){.fn = fn, .arg = arg};
    snprintf(start->name, sizeof(start->name), "%s", name);
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, THREAD_STACK_BYTES);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    int failed = pthread_create(&thread, &attr, thread_run, start);
    pthread_attr_destroy(&attr);
    KP_ASSERT(failed == 0);
}

static void read_node_dns(struct kubelet *kubelet)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    kubelet->dns_arena = kp_arena_new(0);
    if (kp_empty(kubelet->config.resolv_conf) || kp_read_file(kubelet->config.resolv_conf, 1 << 20, &text, NULL) < 0)
        return;
    kubelet_dns_parse(kubelet->dns_arena, text.data ? text.data : "", text.len, &kubelet->node_dns);
}

/* The runtime usually comes up beside the kubelet: without it nothing can be done, so it is waited for. */
static void wait_for_runtime(struct kubelet *kubelet)
{
    bool told = false;
    for (;;) {
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        const char *name, *version;
        struct kp_error error = {0};
        if (cri_version(kubelet->cri, arena, &name, &version, &error) == 0) {
            kp_info("container runtime", "name", name, "version", version, NULL);
            return;
        }
        if (!told)
            kp_warn("waiting for the container runtime", "endpoint", kubelet->config.runtime_endpoint, "error", error.message, NULL);
        told = true;
        kp_sleep_ms(RUNTIME_WAIT_MS);
    }
}

static int connect_api(struct kubelet *kubelet, struct kp_error *error)
{
    if (kp_empty(kubelet->config.kubeconfig))
        return 0;
    int rc = kubelet_certs_bootstrap(kubelet, error);
    if (rc < 0)
        return rc;
    struct client_config config = {0};
    rc = client_config_from_kubeconfig(kubelet->config.kubeconfig, NULL, kubelet->config.arena, &config, error);
    config.user_agent = kp_arena_printf(kubelet->config.arena, "kubelet/%s", kp_version); /* also the field manager of its writes */
    if (rc == 0)
        rc = client_new(kubelet->loop, &config, &kubelet->client, error);
    if (rc == 0)
        kubelet->recorder = client_recorder_new(kubelet->client, "kubelet", kubelet->config.node_name);
    return rc;
}

static void volumes_changed(void *arg)
{
    kubelet_node_report(arg);
}

static bool has_volume(void *arg, const char *volume)
{
    return kubelet_node_has_volume(arg, volume);
}

/* Pods that failed for want of the driver would try again only after a while. */
static void driver_registered(void *arg)
{
    kubelet_workers_wake_all(((struct kubelet *)arg)->workers);
}

static void *watch_plugins(void *arg)
{
    csi_watch(((struct kubelet *)arg)->csi);
    return NULL;
}

/* Volumes of storage drivers come with claims, so without an API server there are none. */
static void start_csi(struct kubelet *kubelet)
{
    if (!kubelet->client)
        return;
    struct csi_config config = {.loop = kubelet->loop,
                                .client = kubelet->client,
                                .root_dir = kubelet->config.root_dir,
                                .node_name = kubelet->config.node_name,
                                .node = {.changed = volumes_changed, .has_volume = has_volume, .registered = driver_registered, .arg = kubelet}};
    kubelet->csi = csi_new(&config);
}

static int start(struct kubelet *kubelet, struct kp_error *error)
{
    int rc = kp_mkdir_p(kubelet->config.root_dir, 0755, error);
    if (rc == 0)
        rc = loop_start(kubelet->loop, "network", error);
    if (rc == 0)
        rc = cri_new(kubelet->loop, kubelet->config.runtime_endpoint, &kubelet->cri, error);
    if (rc == 0)
        rc = kubelet_handler_tls(&kubelet->handler_tls, error);
    if (rc < 0)
        return rc;
    wait_for_runtime(kubelet);
    rc = connect_api(kubelet, error);
    if (rc < 0)
        return rc;
    kubelet->memory_bytes = kubelet_machine_memory_bytes();
    kubelet->started_s = kp_now_s();
    kubelet->restart_backoff = kubelet_backoff_new(KUBELET_BACKOFF_INITIAL_MS, kubelet->config.crash_backoff_max_s * 1000);
    kubelet->pull_backoff = kubelet_backoff_new(KUBELET_BACKOFF_INITIAL_MS, KUBELET_BACKOFF_MAX_MS);
    read_node_dns(kubelet);
    kubelet->objects = kubelet_objects_new(kubelet);
    kubelet->evictions = kubelet_evictions_new(kubelet);
    start_csi(kubelet);
    kubelet->node = kubelet_node_new(kubelet);
    kubelet->statuses = kubelet_statuses_new(kubelet);
    kubelet->probes = kubelet_probes_new(kubelet);
    kubelet->workers = kubelet_workers_new(kubelet);
    kubelet_pleg_start(kubelet);
    if (kubelet->client)
        kubelet_source_start(kubelet);
    kubelet_node_start(kubelet);
    rc = kubelet_static_start(kubelet, error);
    if (rc == 0)
        rc = kubelet_server_start(kubelet, error);
    if (rc < 0)
        return rc;
    if (kubelet->client)
        kubelet_certs_start(kubelet);
    if (kubelet->csi)
        kubelet_thread("plugins", watch_plugins, kubelet);
    kubelet_housekeeping_start(kubelet);
    kubelet_evictions_start(kubelet);
    kubelet_node_event(kubelet, "Normal", "Starting", "Starting kubelet.");
    return 0;
}

int kubelet_main(int argc, char **argv)
{
    static struct kubelet kubelet; /* the threads hold on to it until the process ends */
    struct kp_error error = {0};
    bool help = false;
    kp_log_init("kubelet", KP_LOG_INFO);
    int rc = kubelet_config_load(argc, argv, &kubelet.config, &help, &error);
    if (rc == 0 && help)
        return 0;
    if (rc == 0) {
        kp_log_init("kubelet", kubelet.config.verbosity >= 4 ? KP_LOG_DEBUG : KP_LOG_INFO);
        mallopt(M_ARENA_MAX, 2); /* many threads that mostly wait need no heap each */
        sigset_t signals;
        sigemptyset(&signals);
        sigaddset(&signals, SIGTERM);
        sigaddset(&signals, SIGINT);
        pthread_sigmask(SIG_BLOCK, &signals, NULL);
        signal(SIGPIPE, SIG_IGN);
        kubelet.loop = loop_new();
        rc = start(&kubelet, &error);
        if (rc == 0) {
            int signum = 0;
            kp_info("kubelet started", "node", kubelet.config.node_name, NULL);
            sigwait(&signals, &signum);
            kp_info("kubelet ends; containers go on", "signal", strsignal(signum), NULL);
            kubelet.stopping = true;
            client_recorder_free(KP_TAKE(kubelet.recorder));
            /* Everything that must outlive the process is in the runtime and on the disk already. The threads work to the last moment: what exit() takes
               down first, the locks of OpenSSL for one, would be missing under them. */
            _exit(0);
        }
    }
    kp_error_log("kubelet cannot run", "error", error.message, NULL);
    return kp_code_info(rc)->exit_status;
}
