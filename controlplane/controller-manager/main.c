/* kube-controller-manager: flags, credentials, leader election, the engine, and a small HTTPS server for health and metrics. */
#include "controlplane/controller-manager/controllers.h"
#include "lib/http/http.h"
#include "lib/tls/tls.h"

#include <signal.h>
#include <unistd.h>

static const struct controller *const controllers[] = {
    &namespace_controller,        &serviceaccount_controller,  &root_ca_publisher_controller,
    &deployment_controller,       &replicaset_controller,      &replicationcontroller_controller,
    &daemonset_controller,        &job_controller,             &ttl_after_finished_controller,
    &endpointslice_controller,    &endpoints_controller,       &node_ipam_controller,
    &node_lifecycle_controller,   &taint_eviction_controller,  &pod_gc_controller,
    &garbage_collector_controller, &csr_approving_controller,  &csr_signing_controller,
};

struct options {
    const char *kubeconfig, *authentication_kubeconfig, *authorization_kubeconfig;
    const char *cluster_cidr, *service_cidr, *cluster_name;
    const char *root_ca_file, *signing_cert_file, *signing_key_file, *service_account_key_file;
    const char *client_ca_file, *requestheader_client_ca_file, *bind_address, *controllers, *tls_cert_file, *tls_key_file;
    int64_t secure_port, node_cidr_mask_size, terminated_pod_gc_threshold, verbosity;
    int64_t monitor_period_ns, monitor_grace_ns, signing_duration_ns, lease_ns, renew_ns, retry_ns;
    bool allocate_node_cidrs, leader_elect, use_service_account_credentials;
};

static struct loop *main_loop;
static volatile bool stopping;

static void on_signal(int signum, void *arg)
{
    stopping = true;
    loop_stop(main_loop);
}

static void on_lost(void *arg)
{
    /* Another instance may lead by now: nothing may be written any more. The kubelet starts us again. */
    kp_error_log("leader election lost", NULL);
    _exit(1);
}

static void serve(struct http_request *req, void *arg)
{
    KP_AUTO_BUF struct kp_buf body = {0};
    static const struct http_header text[] = {{"content-type", "text/plain; charset=utf-8"}};
    if (kp_streq(req->path, "/healthz") || kp_streq(req->path, "/livez") || kp_streq(req->path, "/readyz")) {
        http_respond(req, 200, text, 1, "ok", 2);
    } else if (kp_streq(req->path, "/metrics") && req->peer) {
        kp_metrics_write(&body);
        http_respond(req, 200, text, 1, body.data, body.len);
    } else if (kp_streq(req->path, "/metrics")) {
        http_respond(req, 401, text, 1, "a client certificate of the cluster's CA is needed\n", 50);
    } else {
        http_respond(req, 404, text, 1, "404 page not found\n", 19);
    }
}

static int parse_options(int argc, char **argv, struct options *o, struct kp_error *error)
{
    const struct kp_flag flags[] = {
        {"kubeconfig", 0, KP_FLAG_STRING, &o->kubeconfig, "file with the API server's address and credentials", NULL},
        {"authentication-kubeconfig", 0, KP_FLAG_STRING, &o->authentication_kubeconfig, "kubeconfig for delegated authentication", NULL},
        {"authorization-kubeconfig", 0, KP_FLAG_STRING, &o->authorization_kubeconfig, "kubeconfig for delegated authorization", NULL},
        {"bind-address", 0, KP_FLAG_STRING, &o->bind_address, "address of the health and metrics port", NULL},
        {"secure-port", 0, KP_FLAG_I64, &o->secure_port, "HTTPS port of health and metrics; 0 turns it off", NULL},
        {"tls-cert-file", 0, KP_FLAG_STRING, &o->tls_cert_file, "serving certificate; none: self-signed", NULL},
        {"tls-private-key-file", 0, KP_FLAG_STRING, &o->tls_key_file, "its key", NULL},
        {"client-ca-file", 0, KP_FLAG_STRING, &o->client_ca_file, "CA of the clients that may read metrics", NULL},
        {"requestheader-client-ca-file", 0, KP_FLAG_STRING, &o->requestheader_client_ca_file, "CA of the front proxy", NULL},
        {"allocate-node-cidrs", 0, KP_FLAG_BOOL, &o->allocate_node_cidrs, "give every node a pod CIDR", NULL},
        {"cluster-cidr", 0, KP_FLAG_STRING, &o->cluster_cidr, "range of all pods", NULL},
        {"service-cluster-ip-range", 0, KP_FLAG_STRING, &o->service_cidr, "range of Services", NULL},
        {"node-cidr-mask-size", 0, KP_FLAG_I64, &o->node_cidr_mask_size, "bits of a node's pod CIDR", NULL},
        {"cluster-name", 0, KP_FLAG_STRING, &o->cluster_name, "the cluster's name", NULL},
        {"root-ca-file", 0, KP_FLAG_STRING, &o->root_ca_file, "published to every namespace", NULL},
        {"service-account-private-key-file", 0, KP_FLAG_STRING, &o->service_account_key_file, "key of legacy service-account tokens", NULL},
        {"cluster-signing-cert-file", 0, KP_FLAG_STRING, &o->signing_cert_file, "CA that signs certificate requests", NULL},
        {"cluster-signing-key-file", 0, KP_FLAG_STRING, &o->signing_key_file, "its key", NULL},
        {"cluster-signing-duration", 0, KP_FLAG_DURATION, &o->signing_duration_ns, "life of signed certificates", NULL},
        {"controllers", 0, KP_FLAG_STRING, &o->controllers, "which run: *, name, -name", NULL},
        {"use-service-account-credentials", 0, KP_FLAG_BOOL, &o->use_service_account_credentials, "accepted; controllers share one identity", NULL},
        {"node-monitor-period", 0, KP_FLAG_DURATION, &o->monitor_period_ns, "how often a node's heartbeat is looked at", NULL},
        {"node-monitor-grace-period", 0, KP_FLAG_DURATION, &o->monitor_grace_ns, "silence after which a node counts as unreachable", NULL},
        {"terminated-pod-gc-threshold", 0, KP_FLAG_I64, &o->terminated_pod_gc_threshold, "finished pods that are kept", NULL},
        {"leader-elect", 0, KP_FLAG_BOOL, &o->leader_elect, "run only while holding the lease", NULL},
        {"leader-elect-lease-duration", 0, KP_FLAG_DURATION, &o->lease_ns, "life of the lease", NULL},
        {"leader-elect-renew-deadline", 0, KP_FLAG_DURATION, &o->renew_ns, "after which a leader that cannot renew ends", NULL},
        {"leader-elect-retry-period", 0, KP_FLAG_DURATION, &o->retry_ns, "between tries", NULL},
        {"v", 'v', KP_FLAG_I64, &o->verbosity, "log level", NULL},
        {NULL},
    };
    bool help = false;
    if (kp_flags_parse(flags, argc, argv, NULL, &help, error) < 0)
        return error->code;
    if (help) {
        printf("kube-controller-manager runs the controllers of a Kubernetes cluster.\n\nFlags:\n");
        kp_flags_print(flags, stdout);
        exit(0);
    }
    return 0;
}

static int read_pem(const char *path, struct kp_arena *arena, const char **ret, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    if (!path)
        return 0;
    if (kp_read_file(path, TLS_CERT_PEM_MAX, &text, error) < 0)
        return error->code;
    *ret = kp_arena_strndup(arena, text.data ? text.data : "", text.len);
    return 0;
}

/* A serving certificate of our own when none is given, as upstream makes one. */
static int self_signed(struct kp_arena *arena, struct tls_context_config *config, struct kp_error *error)
{
    static const char *const names[] = {"localhost", NULL}, *const addresses[] = {"127.0.0.1", NULL};
    const struct tls_cert_options options = {
        .subject = {.common_name = "kube-controller-manager", .dns_names = names, .ip_addresses = addresses}, .usages = TLS_USAGE_SERVER,
    };
    KP_AUTO(tls_key_unref) struct tls_key *key = NULL;
    KP_AUTO(tls_cert_unref) struct tls_cert *cert = NULL;
    KP_AUTO_BUF struct kp_buf cert_pem = {0}, key_pem = {0};
    if (tls_key_generate(TLS_KEY_ECDSA_P256, &key, error) < 0 || tls_cert_create_ca(key, &options, &cert, error) < 0 ||
        tls_key_to_pem(key, &key_pem, error) < 0)
        return error->code;
    tls_cert_to_pem(cert, &cert_pem);
    config->cert_pem = kp_arena_strdup(arena, cert_pem.data);
    config->key_pem = kp_arena_strdup(arena, key_pem.data);
    return 0;
}

static int start_server(const struct options *o, struct pool *pool, struct kp_arena *arena, struct http_server **ret, struct kp_error *error)
{
    static const char *const alpn[] = {"h2", "http/1.1", NULL};
    struct tls_context_config tls_config = {
        .server = true,
        .cert_file = o->tls_cert_file,
        .key_file = o->tls_key_file,
        .ca_file = o->client_ca_file,
        .client_cert = o->client_ca_file ? TLS_CLIENT_CERT_REQUEST : TLS_CLIENT_CERT_NONE,
        .alpn = alpn,
    };
    struct tls_context *tls;
    if (o->secure_port == 0)
        return 0;
    if (!o->tls_cert_file && self_signed(arena, &tls_config, error) < 0)
        return error->code;
    if (tls_context_new(&tls_config, &tls, error) < 0)
        return error->code;
    const struct http_server_config config = {
        .host = o->bind_address, .port = (uint16_t)o->secure_port, .tls = tls, .handler = serve, .pool = pool,
    };
    return http_server_new(main_loop, &config, ret, error);
}

/* --controllers=*,-job-controller: a name turned off wins over the star. */
static bool enabled(const char *list, const char *name)
{
    bool on = false, off = false;
    for (const char *p = list; p && *p;) {
        size_t len = strcspn(p, ",");
        if (len == 1 && *p == '*')
            on = true;
        else if (*p == '-' && strlen(name) == len - 1 && strncmp(p + 1, name, len - 1) == 0)
            off = true;
        else if (strlen(name) == len && strncmp(p, name, len) == 0)
            on = true;
        p += len + (p[len] == ',');
    }
    return on && !off;
}

static int make_engine(const struct options *o, struct client *client, struct kp_arena *arena, struct engine **ret, struct kp_error *error)
{
    struct engine_config config = {
        .client = client,
        .cluster_cidr = o->cluster_cidr,
        .service_cluster_ip_range = o->service_cidr,
        .node_cidr_mask_size = o->node_cidr_mask_size,
        .allocate_node_cidrs = o->allocate_node_cidrs,
        .node_monitor_period_ms = o->monitor_period_ns / 1000000,
        .node_monitor_grace_period_ms = o->monitor_grace_ns / 1000000,
        .terminated_pod_gc_threshold = o->terminated_pod_gc_threshold,
        .cluster_signing_duration_s = o->signing_duration_ns / 1000000000,
        .cluster_name = o->cluster_name,
    };
    if (o->allocate_node_cidrs && kp_empty(o->cluster_cidr))
        return kp_fail(error, KP_EUSAGE, "--allocate-node-cidrs needs --cluster-cidr");
    if (read_pem(o->root_ca_file, arena, &config.root_ca_pem, error) < 0 ||
        read_pem(o->signing_cert_file, arena, &config.signing_cert_pem, error) < 0 ||
        read_pem(o->signing_key_file, arena, &config.signing_key_pem, error) < 0)
        return error->code;
    struct engine *engine = engine_new(&config);
    for (size_t i = 0; i < KP_ARRAY_LEN(controllers); i++)
        if (enabled(o->controllers, controllers[i]->name) && engine_add(engine, controllers[i], error) < 0)
            return error->code;
    *ret = engine;
    return 0;
}

struct leader {
    const struct options *options;
    struct client *client;
    struct kp_arena *arena;
    struct engine *engine;
    struct client_elector *elector;
    int code;
    struct kp_error error;
};

/* Waits for the lease, then runs the controllers. On a thread of its own, so that health answers meanwhile. */
static void lead(void *arg)
{
    struct leader *leader = arg;
    const struct options *o = leader->options;
    char host[256] = "";
    gethostname(host, sizeof(host) - 1);
    char uid[37];
    kp_uuid4(uid);
    const struct client_elector_config config = {
        .ns = "kube-system", .name = "kube-controller-manager", .identity = kp_arena_printf(leader->arena, "%s_%s", host, uid),
        .lease_ms = o->lease_ns / 1000000, .renew_deadline_ms = o->renew_ns / 1000000, .retry_ms = o->retry_ns / 1000000,
    };
    if (o->leader_elect &&
        client_elector_acquire(leader->client, &config, &stopping, on_lost, NULL, &leader->elector, &leader->error) < 0)
        return;
    if (make_engine(o, leader->client, leader->arena, &leader->engine, &leader->error) < 0 || engine_start(leader->engine, &leader->error) < 0) {
        leader->code = leader->error.code;
        loop_stop(main_loop);
        return;
    }
    kp_info("controllers started", NULL);
}

static int run(const struct options *o, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct client_config config = {0};
    struct client *client;
    struct http_server *server = NULL;
    if (kp_empty(o->kubeconfig))
        return kp_fail(error, KP_EUSAGE, "--kubeconfig is needed");
    if (client_config_from_kubeconfig(o->kubeconfig, NULL, arena, &config, error) < 0)
        return error->code;
    config.user_agent = "kube-controller-manager/" KP_VERSION;
    struct loop *client_loop = loop_new();
    main_loop = loop_new();
    if (loop_start(client_loop, "client", error) < 0 || client_new(client_loop, &config, &client, error) < 0)
        return error->code;
    struct pool *pool = pool_new("kcm", 4, 256);
    if (start_server(o, pool, arena, &server, error) < 0)
        return kp_wrap(error, "health and metrics server");
    struct loop_signal *term = loop_signal_new(main_loop, SIGTERM, on_signal, NULL);
    struct loop_signal *interrupt = loop_signal_new(main_loop, SIGINT, on_signal, NULL);
    struct leader leader = {.options = o, .client = client, .arena = arena};
    int code = pool_submit(pool, lead, &leader);
    if (code < 0)
        return kp_fail(error, code, "no thread could be started");
    loop_run(main_loop);
    stopping = true;
    loop_signal_free(term);
    loop_signal_free(interrupt);
    http_server_free(server);
    pool_free(pool);
    if (leader.engine && leader.code == 0)
        engine_stop(leader.engine);
    client_elector_release(leader.elector);
    if (leader.code < 0) {
        *error = leader.error;
        return leader.code;
    }
    client_free(client);
    loop_free(client_loop);
    loop_free(main_loop);
    return 0;
}

int main(int argc, char **argv)
{
    struct options options = {
        .bind_address = "0.0.0.0",
        .secure_port = 10257,
        .node_cidr_mask_size = 24,
        .cluster_name = "kubernetes",
        .controllers = "*",
        .leader_elect = true,
        .terminated_pod_gc_threshold = 12500,
        .monitor_period_ns = 5000000000,
        .monitor_grace_ns = 50000000000,
        .signing_duration_ns = 365LL * 24 * 3600 * 1000000000,
    };
    struct kp_error error = {0};
    int code = parse_options(argc, argv, &options, &error);
    kp_log_init("kube-controller-manager", options.verbosity >= 4 ? KP_LOG_DEBUG : KP_LOG_INFO);
    signal(SIGPIPE, SIG_IGN);
    if (code == 0)
        code = run(&options, &error);
    if (code == 0)
        return 0;
    fprintf(stderr, "kube-controller-manager: %s\n", error.message);
    return kp_code_info(code)->exit_status;
}
