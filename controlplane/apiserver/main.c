/* kube-apiserver: flags, wiring, start and end. */
#include "controlplane/apiserver/admission/admission.h"
#include "controlplane/apiserver/aggregator/aggregator.h"
#include "controlplane/apiserver/audit/audit.h"
#include "controlplane/apiserver/auth/auth.h"
#include "controlplane/apiserver/backend/backend.h"
#include "controlplane/apiserver/custom/custom.h"
#include "controlplane/apiserver/http/http.h"
#include "controlplane/apiserver/registry/registry.h"
#include "controlplane/apiserver/resource_metrics/resource_metrics.h"
#include "controlplane/apiserver/storage/storage.h"
#include "controlplane/apiserver/watch/watch.h"

#include "lib/loop/loop.h"
#include "lib/tls/tls.h"

#include <arpa/inet.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#define COMPACT_KEY "compact_rev_key"
#define ENDPOINT_CHECK_MS 10000
#define BOOTSTRAP_RETRY_MS 1000
#define STOP_TIMEOUT_MS 10000

struct flags {
    const char *advertise_address, *bind_address, *etcd_servers, *etcd_cafile, *etcd_certfile, *etcd_keyfile;
    const char *client_ca_file, *tls_cert_file, *tls_private_key_file;
    const char *service_account_issuer, *service_account_key_file, *service_account_signing_key_file, *api_audiences;
    const char *service_cluster_ip_range, *service_node_port_range, *authorization_mode, *enable_admission_plugins, *disable_admission_plugins;
    const char *kubelet_client_certificate, *kubelet_client_key, *kubelet_certificate_authority, *kubelet_preferred_address_types;
    const char *proxy_client_cert_file, *proxy_client_key_file;
    const char *requestheader_client_ca_file, *requestheader_allowed_names, *requestheader_username_headers, *requestheader_group_headers,
        *requestheader_extra_headers_prefix;
    const char *runtime_config, *feature_gates, *endpoint_reconciler_type;
    int64_t secure_port, v, max_mutating, max_readonly, min_request_timeout;
    int64_t event_ttl_ns, compaction_ns, request_timeout_ns, shutdown_delay_ns;
    bool allow_privileged, bootstrap_tokens, anonymous_auth, profiling, builtin_metrics;
    struct auditor_config audit;
};

static struct flags flags = {.bind_address = "0.0.0.0",
                             .service_account_issuer = "https://kubernetes.default.svc.cluster.local",
                             .service_cluster_ip_range = "10.96.0.0/12",
                             .service_node_port_range = "30000-32767",
                             .authorization_mode = "AlwaysAllow",
                             .kubelet_preferred_address_types = "InternalIP,ExternalIP,Hostname",
                             .secure_port = 6443,
                             .min_request_timeout = 1800,
                             .event_ttl_ns = 3600LL * 1000000000,
                             .compaction_ns = 300LL * 1000000000,
                             .request_timeout_ns = 60LL * 1000000000,
                             .anonymous_auth = true,
                             .builtin_metrics = true};

#define STRING(flag, field, text) {flag, 0, KP_FLAG_STRING, &flags.field, text, NULL}
#define I64(flag, field, text) {flag, 0, KP_FLAG_I64, &flags.field, text, NULL}
#define BOOL(flag, field, text) {flag, 0, KP_FLAG_BOOL, &flags.field, text, NULL}
#define DURATION(flag, field, text) {flag, 0, KP_FLAG_DURATION, &flags.field, text, NULL}
static const struct kp_flag flag_table[] = {
    STRING("advertise-address", advertise_address, "address that others reach this server at; default: that of the default route"),
    STRING("bind-address", bind_address, "address to listen on"),
    I64("secure-port", secure_port, "port to listen on"),
    STRING("etcd-servers", etcd_servers, "comma-separated URLs of etcd"),
    STRING("etcd-cafile", etcd_cafile, "CA that signed etcd's certificates"),
    STRING("etcd-certfile", etcd_certfile, "client certificate for etcd"),
    STRING("etcd-keyfile", etcd_keyfile, "its key"),
    DURATION("etcd-compaction-interval", compaction_ns, "how often old revisions are dropped; 0: never"),
    STRING("client-ca-file", client_ca_file, "CA whose client certificates identify users"),
    STRING("tls-cert-file", tls_cert_file, "serving certificate"),
    STRING("tls-private-key-file", tls_private_key_file, "its key"),
    STRING("service-account-issuer", service_account_issuer, "issuer of service-account tokens"),
    STRING("service-account-key-file", service_account_key_file, "key that verifies service-account tokens"),
    STRING("service-account-signing-key-file", service_account_signing_key_file, "key that signs them"),
    STRING("api-audiences", api_audiences, "audiences of this API; default: the issuer"),
    STRING("service-cluster-ip-range", service_cluster_ip_range, "CIDR of the Services' addresses"),
    STRING("service-node-port-range", service_node_port_range, "ports for NodePort Services"),
    STRING("authorization-mode", authorization_mode, "Node, RBAC, AlwaysAllow, AlwaysDeny; comma-separated"),
    STRING("enable-admission-plugins", enable_admission_plugins, "admission steps beside the default ones"),
    STRING("disable-admission-plugins", disable_admission_plugins, "default admission steps to leave out"),
    STRING("kubelet-client-certificate", kubelet_client_certificate, "client certificate for kubelets"),
    STRING("kubelet-client-key", kubelet_client_key, "its key"),
    STRING("kubelet-certificate-authority", kubelet_certificate_authority, "CA of the kubelets' serving certificates; unset: they are not verified"),
    STRING("kubelet-preferred-address-types", kubelet_preferred_address_types, "which node address to call kubelets at, in order"),
    STRING("proxy-client-cert-file", proxy_client_cert_file, "client certificate for aggregated API servers"),
    STRING("proxy-client-key-file", proxy_client_key_file, "its key"),
    STRING("requestheader-client-ca-file", requestheader_client_ca_file, "CA of front proxies"),
    STRING("requestheader-allowed-names", requestheader_allowed_names, "common names of front proxies"),
    STRING("requestheader-username-headers", requestheader_username_headers, "headers with the user's name"),
    STRING("requestheader-group-headers", requestheader_group_headers, "headers with the user's groups"),
    STRING("requestheader-extra-headers-prefix", requestheader_extra_headers_prefix, "prefix of headers with more on the user"),
    BOOL("allow-privileged", allow_privileged, "privileged containers are allowed"),
    BOOL("enable-bootstrap-token-auth", bootstrap_tokens, "secrets of type bootstrap.kubernetes.io/token identify joining nodes"),
    BOOL("anonymous-auth", anonymous_auth, "requests without credentials are the user system:anonymous"),
    BOOL("builtin-resource-metrics", builtin_metrics, "answer metrics.k8s.io by asking the kubelets, which needs --kubelet-client-certificate"),
    BOOL("profiling", profiling, "accepted; nothing is profiled"),
    DURATION("event-ttl", event_ttl_ns, "how long events are kept"),
    DURATION("request-timeout", request_timeout_ns, "longest time of an ordinary request"),
    DURATION("shutdown-delay-duration", shutdown_delay_ns, "wait before ending, while /readyz says no"),
    I64("min-request-timeout", min_request_timeout, "shortest time of a watch that names none, seconds"),
    I64("max-mutating-requests-inflight", max_mutating, "writes at once"),
    I64("max-requests-inflight", max_readonly, "reads at once"),
    STRING("runtime-config", runtime_config, "accepted; all stable versions are served"),
    STRING("feature-gates", feature_gates, "accepted; features are not switched"),
    STRING("endpoint-reconciler-type", endpoint_reconciler_type, "accepted; each server keeps a lease, as \"lease\" does upstream"),
    {"v", 'v', KP_FLAG_I64, &flags.v, "log level; 4 and more: every request", NULL},
    {NULL, 0, KP_FLAG_STRING, NULL, NULL, NULL},
};

struct program {
    struct loop *store_loop, *http_loop;
    struct store *store;
    struct wcache_set *caches;
    struct auth *auth;
    struct admission *admission;
    struct registry *registry;
    struct custom *custom;
    struct aggregator *aggregator;
    struct resource_metrics *resource_metrics;
    struct tls_context *tls, *kubelet_tls;
    struct backends *backends;
    struct auditor *auditor;
    struct api_server *server;
    char address[INET6_ADDRSTRLEN]; /* advertised */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool stopping; /* under mutex */
};

/* True when the program is ending. */
static bool pause_ms(struct program *program, int64_t ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t ns = until.tv_nsec + ms % 1000 * 1000000;
    until.tv_sec += ms / 1000 + ns / 1000000000;
    until.tv_nsec = ns % 1000000000;
    pthread_mutex_lock(&program->mutex);
    if (!program->stopping)
        pthread_cond_clockwait(&program->changed, &program->mutex, CLOCK_MONOTONIC, &until);
    bool stop = program->stopping;
    pthread_mutex_unlock(&program->mutex);
    return stop;
}

/* The source address the kernel would use to reach the outside: no packet is sent. */
static int find_address(char out[INET6_ADDRSTRLEN], struct kp_error *error)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)}, own;
    socklen_t len = sizeof(own);
    KP_AUTO_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    inet_pton(AF_INET, "198.51.100.1", &to.sin_addr);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 || getsockname(fd, (struct sockaddr *)&own, &len) < 0)
        return kp_fail_errno(error, "no --advertise-address is given, and there is no default route to take it from");
    inet_ntop(AF_INET, &own.sin_addr, out, INET6_ADDRSTRLEN);
    return 0;
}

static int port_range(uint16_t *ret_min, uint16_t *ret_max, struct kp_error *error)
{
    unsigned low, high;
    if (sscanf(flags.service_node_port_range, "%u-%u", &low, &high) != 2 || low < 1 || high > 65535 || low >= high)
        return kp_fail(error, KP_EUSAGE, "--service-node-port-range: %s is not of the form 30000-32767", flags.service_node_port_range);
    *ret_min = (uint16_t)low;
    *ret_max = (uint16_t)high;
    return 0;
}

static int make_tls(struct program *program, struct kp_error *error)
{
    static const char *const alpn[] = {"h2", "http/1.1", NULL}, *const h1[] = {"http/1.1", NULL};
    struct tls_context_config server = {.server = true, .cert_file = flags.tls_cert_file, .key_file = flags.tls_private_key_file, .alpn = alpn};
    if (!flags.tls_cert_file || !flags.tls_private_key_file)
        return kp_fail(error, KP_EUSAGE, "--tls-cert-file and --tls-private-key-file are required");
    if (!kp_empty(flags.client_ca_file)) {
        server.ca_file = flags.client_ca_file;
        server.client_cert = TLS_CLIENT_CERT_REQUEST;
    }
    if (tls_context_new(&server, &program->tls, error) < 0)
        return error->code;
    if (kp_empty(flags.kubelet_client_certificate))
        return 0;
    struct tls_context_config kubelet = {.cert_file = flags.kubelet_client_certificate, .key_file = flags.kubelet_client_key, .alpn = h1};
    kubelet.ca_file = kp_empty(flags.kubelet_certificate_authority) ? NULL : flags.kubelet_certificate_authority;
    kubelet.insecure_skip_verify = kubelet.ca_file == NULL; /* as upstream does without that flag */
    return tls_context_new(&kubelet, &program->kubelet_tls, error);
}

static int make_storage(struct program *program, struct kp_error *error)
{
    struct store_config store = {.endpoints = flags.etcd_servers, .ca_file = flags.etcd_cafile, .cert_file = flags.etcd_certfile, .key_file = flags.etcd_keyfile};
    size_t count;
    program->store_loop = loop_new();
    program->http_loop = loop_new();
    if (loop_start(program->store_loop, "store", error) < 0 || loop_start(program->http_loop, "http", error) < 0)
        return error->code;
    if (store_new(program->store_loop, &store, &program->store, error) < 0)
        return error->code;
    const struct wcache_kind *const *kinds = registry_cache_kinds(&count);
    program->caches = wcache_set_new(program->store_loop, program->store, kinds, count);
    const struct backends_config backends = {.loop = program->http_loop,
                                             .caches = program->caches,
                                             .client_cert_file = flags.proxy_client_cert_file,
                                             .client_key_file = flags.proxy_client_key_file};
    program->backends = backends_new(&backends);
    return 0;
}

static int make_policy(struct program *program, struct kp_error *error)
{
    struct auth_config auth = {.caches = program->caches,
                               .authorization_modes = flags.authorization_mode,
                               .service_account_issuer = flags.service_account_issuer,
                               .service_account_key_file = flags.service_account_key_file,
                               .service_account_signing_key_file = flags.service_account_signing_key_file,
                               .api_audiences = flags.api_audiences,
                               .anonymous = flags.anonymous_auth,
                               .bootstrap_tokens = flags.bootstrap_tokens,
                               .requestheader_client_ca_file = flags.requestheader_client_ca_file,
                               .requestheader_allowed_names = flags.requestheader_allowed_names,
                               .requestheader_username_headers = flags.requestheader_username_headers,
                               .requestheader_group_headers = flags.requestheader_group_headers,
                               .requestheader_extra_header_prefixes = flags.requestheader_extra_headers_prefix};
    if (auth_new(&auth, &program->auth, error) < 0)
        return error->code;
    struct admission_config admission = {.caches = program->caches,
                                         .auth = program->auth,
                                         .backends = program->backends,
                                         .views = &registry_views,
                                         .enabled_plugins = flags.enable_admission_plugins,
                                         .disabled_plugins = flags.disable_admission_plugins};
    return admission_new(&admission, &program->admission, error);
}

static int make_aggregator(struct program *program, struct kp_error *error)
{
    const struct aggregator_trust trust = {.client_ca_file = flags.client_ca_file,
                                           .requestheader_client_ca_file = flags.requestheader_client_ca_file,
                                           .requestheader_allowed_names = flags.requestheader_allowed_names,
                                           .requestheader_username_headers = flags.requestheader_username_headers,
                                           .requestheader_group_headers = flags.requestheader_group_headers,
                                           .requestheader_extra_headers_prefix = flags.requestheader_extra_headers_prefix};
    const struct aggregator_config config = {.registry = program->registry, .caches = program->caches, .backends = program->backends, .trust = &trust};
    return aggregator_new(&config, &program->aggregator, error);
}

static int make_server(struct program *program, struct kp_error *error)
{
    struct registry_config registry = {.store = program->store,
                                       .caches = program->caches,
                                       .admission = program->admission,
                                       .auth = program->auth,
                                       .service_cidr = flags.service_cluster_ip_range,
                                       .event_ttl_s = flags.event_ttl_ns / 1000000000};
    if (port_range(&registry.node_port_min, &registry.node_port_max, error) < 0 || registry_new(&registry, &program->registry, error) < 0)
        return error->code;
    program->custom = custom_new(program->registry, program->caches);
    if (make_aggregator(program, error) < 0)
        return error->code;
    if (flags.builtin_metrics && program->kubelet_tls) /* without a certificate no kubelet would answer */
        program->resource_metrics = resource_metrics_new(&(struct resource_metrics_config){.loop = program->http_loop, .tls = program->kubelet_tls});
    struct api_server_config server = {.loop = program->http_loop,
                                       .bind_address = flags.bind_address,
                                       .port = (uint16_t)flags.secure_port,
                                       .tls = program->tls,
                                       .registry = program->registry,
                                       .caches = program->caches,
                                       .admission = program->admission,
                                       .auth = program->auth,
                                       .custom = program->custom,
                                       .aggregator = program->aggregator,
                                       .backends = program->backends,
                                       .auditor = program->auditor,
                                       .kubelet_tls = program->kubelet_tls,
                                       .resource_metrics = program->resource_metrics,
                                       .kubelet_address_types = flags.kubelet_preferred_address_types,
                                       .max_mutating = (unsigned)flags.max_mutating,
                                       .max_readonly = (unsigned)flags.max_readonly,
                                       .min_watch_timeout_s = KP_MAX((int64_t)1, flags.min_request_timeout),
                                       .request_timeout_s = flags.request_timeout_ns / 1000000000};
    return api_server_new(&server, &program->server, error);
}

/* ---- what goes on beside serving -------------------------------------------------------------------------------------------- */
static void *run_bootstrap(void *arg)
{
    struct program *program = arg;
    struct kp_error error = {0};
    while (!wcache_set_wait_ready(program->caches, BOOTSTRAP_RETRY_MS))
        if (pause_ms(program, 0))
            return NULL;
    while (registry_bootstrap(program->registry, &error) < 0) {
        kp_warn("bootstrap objects could not be written, will try again", "error", error.message, NULL);
        if (pause_ms(program, BOOTSTRAP_RETRY_MS))
            return NULL;
    }
    api_server_set_bootstrapped(program->server);
    kp_info("ready", "address", program->address, NULL);
    bool failed = false;
    do {
        bool bad = registry_publish_endpoint(program->registry, program->address, api_server_port(program->server), &error) < 0;
        if (bad && !failed)
            kp_warn("the Service kubernetes could not be kept", "error", error.message, NULL);
        failed = bad;
    } while (!pause_ms(program, failed ? BOOTSTRAP_RETRY_MS : ENDPOINT_CHECK_MS));
    return NULL;
}

/* Several servers share the work: who advances the key's version drops what was current one interval ago. */
static void compact_once(struct program *program, int64_t *version, int64_t *revision)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_error error = {0};
    struct store_kv kv;
    int64_t now, written, old = *revision;
    if (store_get(program->store, COMPACT_KEY, arena, &kv, &now, &error) < 0) {
        kp_warn("compaction left out this time", "error", error.message, NULL);
        return;
    }
    bool mine = kv.mod_revision == *version;
    *version = kv.mod_revision;
    *revision = now;
    if (!mine || !old)
        return;
    const char *text = kp_arena_printf(arena, "%lld", (long long)old);
    struct store_op op = {.key = COMPACT_KEY, .expect = kv.mod_revision, .value = text, .len = strlen(text)};
    int code = store_commit(program->store, &op, 1, arena, &written, NULL, &error);
    if (code == 0) {
        *version = *revision = written;
        code = store_compact(program->store, old, &error);
    }
    if (code < 0 && code != KP_ECONFLICT)
        kp_warn("compaction failed", "error", error.message, NULL);
}

static void *run_compactor(void *arg)
{
    struct program *program = arg;
    int64_t version = 0, revision = 0, interval_ms = flags.compaction_ns / 1000000;
    while (interval_ms > 0 && !pause_ms(program, interval_ms))
        compact_once(program, &version, &revision);
    return NULL;
}

/* ---- life --------------------------------------------------------------------------------------------------------------------- */
static void wait_for_signal(void)
{
    sigset_t set;
    int signum;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigwait(&set, &signum);
    kp_info("ending", "signal", strsignal(signum), NULL);
}

static void stop(struct program *program, pthread_t threads[2])
{
    struct kp_error error = {0};
    pthread_mutex_lock(&program->mutex);
    program->stopping = true;
    pthread_cond_broadcast(&program->changed);
    pthread_mutex_unlock(&program->mutex);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    aggregator_stop(program->aggregator);
    custom_free(program->custom);
    if (registry_withdraw_endpoint(program->registry, program->address, &error) < 0)
        kp_warn("our endpoint could not be withdrawn", "error", error.message, NULL);
    kp_sleep_ms(flags.shutdown_delay_ns / 1000000);
    api_server_shutdown(program->server, STOP_TIMEOUT_MS);
    auditor_stop(program->auditor); /* not freed, as nothing is here: a tunnel may still have to tell that it is closed */
}

static int run(struct program *program, struct kp_error *error)
{
    pthread_t threads[2];
    if (flags.advertise_address)
        snprintf(program->address, sizeof(program->address), "%s", flags.advertise_address);
    else if (find_address(program->address, error) < 0)
        return error->code;
    if (make_tls(program, error) < 0 || make_storage(program, error) < 0 || auditor_new(&flags.audit, program->http_loop, &program->auditor, error) < 0 ||
        make_policy(program, error) < 0 || make_server(program, error) < 0)
        return error->code;
    char port[16];
    snprintf(port, sizeof(port), "%u", api_server_port(program->server));
    kp_info("serving", "address", flags.bind_address, "port", port, NULL);
    KP_ASSERT(pthread_create(&threads[0], NULL, run_bootstrap, program) == 0);
    KP_ASSERT(pthread_create(&threads[1], NULL, run_compactor, program) == 0);
    wait_for_signal();
    stop(program, threads);
    return 0;
}

int main(int argc, char **argv)
{
    static struct program program;
    struct kp_error error = {0};
    bool help = false;
    sigset_t set;
    struct kp_flag all[KP_ARRAY_LEN(flag_table) + AUDIT_FLAGS_MAX] = {0};
    auditor_defaults(&flags.audit);
    memcpy(all, flag_table, sizeof(flag_table));
    auditor_flags(&flags.audit, &all[KP_ARRAY_LEN(flag_table) - 1]); /* the last row is the end's */
    if (kp_flags_parse(all, argc, argv, NULL, &help, &error) < 0) {
        fprintf(stderr, "kube-apiserver: %s\n", error.message);
        return kp_code_info(error.code)->exit_status;
    }
    if (help) {
        kp_flags_print(all, stdout);
        return 0;
    }
    kp_log_init("kube-apiserver", flags.v >= 4 ? KP_LOG_DEBUG : KP_LOG_INFO);
    /* Many threads with small requests: two heaps are enough, and give memory back. */
    mallopt(M_ARENA_MAX, 2);
    mallopt(M_TRIM_THRESHOLD, 256 << 10);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set, NULL); /* before any thread: all inherit it, sigwait takes them */
    signal(SIGPIPE, SIG_IGN);
    pthread_mutex_init(&program.mutex, NULL);
    pthread_cond_init(&program.changed, NULL);
    if (run(&program, &error) < 0) {
        kp_error_log("cannot run", "error", error.message, NULL);
        return kp_code_info(error.code)->exit_status;
    }
    return 0;
}
