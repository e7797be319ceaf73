/* Runs a control-plane program: client, lease, health port, signals. */
#include "lib/component/component.h"
#include "lib/base/version.h"
#include "api/k8s.h"
#include "lib/delegate/delegate.h"
#include "lib/http/http.h"
#include "lib/tls/tls.h"

#include <signal.h>
#include <unistd.h>

struct component {
    const struct component_options *options;
    const struct component_program *program;
    struct loop *main_loop, *client_loop;
    struct pool *pool;
    struct client *client, *tokens, *access; /* the last two may be the first, or NULL */
    struct delegate *delegate;
    struct http_server *server;
    struct tls_context *tls;
    struct kp_arena *arena;
    struct client_elector *elector;
    volatile bool stopping;
    bool started;
    struct kp_error error;
};

void component_flags(struct component_options *o, struct kp_flag *flags, size_t n)
{
    const struct kp_flag common[] = {
        {"kubeconfig", 0, KP_FLAG_STRING, &o->kubeconfig, "file with the API server's address and credentials", NULL},
        {"authentication-kubeconfig", 0, KP_FLAG_STRING, &o->authentication_kubeconfig, "file with the API server that is asked whose a token is; none: tokens are not accepted", NULL},
        {"authorization-kubeconfig", 0, KP_FLAG_STRING, &o->authorization_kubeconfig, "file with the API server that is asked who may read metrics; none: only system:masters", NULL},
        {"bind-address", 0, KP_FLAG_STRING, &o->bind_address, "address of the health and metrics port", NULL},
        {"secure-port", 0, KP_FLAG_I64, &o->secure_port, "port of health and metrics; 0 turns it off", NULL},
        {"tls-cert-file", 0, KP_FLAG_STRING, &o->tls_cert_file, "serving certificate; none: self-signed", NULL},
        {"tls-private-key-file", 0, KP_FLAG_STRING, &o->tls_key_file, "its key", NULL},
        {"client-ca-file", 0, KP_FLAG_STRING, &o->client_ca_file, "CA of client certificates", NULL},
        {"requestheader-client-ca-file", 0, KP_FLAG_STRING, &o->requestheader_client_ca_file, "CA of the front proxy", NULL},
        {"leader-elect", 0, KP_FLAG_BOOL, &o->leader_elect, "run only while holding the lease", NULL},
        {"leader-elect-lease-duration", 0, KP_FLAG_DURATION, &o->lease_ns, "life of the lease (15s)", NULL},
        {"leader-elect-renew-deadline", 0, KP_FLAG_DURATION, &o->renew_ns, "after which a leader that cannot renew ends (10s)", NULL},
        {"leader-elect-retry-period", 0, KP_FLAG_DURATION, &o->retry_ns, "between tries (2s)", NULL},
        {"v", 'v', KP_FLAG_I64, &o->verbosity, "log level; 4 and more: debug", NULL},
        {NULL},
    };
    memcpy(flags + n, common, sizeof(common));
}

static void on_signal(int signum, void *arg)
{
    struct component *c = arg;
    c->stopping = true;
    loop_stop(c->main_loop);
}

static void on_lost(void *arg)
{
    /* Another instance may lead by now: nothing may be written any more. The kubelet starts us again. */
    kp_error_log("leader election lost", NULL);
    _exit(1);
}

static void respond_status(struct http_request *req, int code, const char *reason, const char *message)
{
    static const struct http_header json[] = {{"content-type", "application/json"}};
    KP_AUTO_BUF struct kp_buf body = {0};
    struct k8s_status *status = KP_OBJECT_NEW(req->arena, k8s_status);
    status->status = "Failure";
    status->message = message;
    status->reason = reason;
    status->code = code;
    status->has_code = true;
    kp_json_encode(&k8s_status_type, status, &body);
    http_respond(req, code, json, 1, body.data, body.len);
}

/* True: go on. Otherwise it has answered, with the API server's own words. */
static bool may_read(struct component *c, struct http_request *req)
{
    const struct delegate_attributes attributes = {.verb = delegate_verb(req->method), .path = req->path};
    struct delegate_user *user;
    struct kp_error error = {0};
    bool allowed = false;
    if (delegate_authenticate(c->delegate, req, &user, &error) < 0) {
        if (error.code != KP_EUNAUTHORIZED)
            kp_warn("authentication failed", "error", error.message, NULL);
        respond_status(req, 401, "Unauthorized", "Unauthorized");
        return false;
    }
    if (delegate_authorize(c->delegate, user, &attributes, &allowed, &error) < 0) {
        kp_warn("authorization failed", "user", user->name, "error", error.message, NULL);
        respond_status(req, 500, "InternalError", kp_arena_printf(req->arena, "Internal Server Error: \"%s\": the API server could not be asked", req->path));
        return false;
    }
    if (!allowed)
        respond_status(req, 403, "Forbidden",
                       kp_arena_printf(req->arena, "forbidden: User \"%s\" cannot %s path \"%s\"", user->name, attributes.verb, req->path));
    return allowed;
}

/* Health is told to everybody, as upstream's --authorization-always-allow-paths has it. */
static void serve(struct http_request *req, void *arg)
{
    struct component *c = arg;
    static const struct http_header text[] = {{"content-type", "text/plain; charset=utf-8"}};
    static const char missing[] = "404 page not found\n";
    if (kp_streq(req->path, "/healthz") || kp_streq(req->path, "/livez")) {
        http_respond(req, 200, text, 1, "ok", 2);
        return;
    }
    if (kp_streq(req->path, "/readyz")) {
        bool ready = !c->program->ready || c->program->ready(c->program->arg);
        http_respond(req, ready ? 200 : 503, text, 1, ready ? "ok" : "not ready", ready ? 2 : 9);
        return;
    }
    if (c->delegate && !may_read(c, req))
        return;
    if (kp_streq(req->path, "/metrics")) {
        KP_AUTO_BUF struct kp_buf body = {0};
        kp_metrics_write(&body);
        http_respond(req, 200, text, 1, body.data, body.len);
    } else {
        http_respond(req, 404, text, 1, missing, sizeof(missing) - 1);
    }
}

/* A serving certificate of our own when none is given, as upstream makes one. */
static int self_signed(struct component *c, struct tls_context_config *config, struct kp_error *error)
{
    static const char *const names[] = {"localhost", NULL}, *const addresses[] = {"127.0.0.1", NULL};
    const struct tls_cert_options options = {
        .subject = {.common_name = c->options->name, .dns_names = names, .ip_addresses = addresses}, .usages = TLS_USAGE_SERVER,
    };
    KP_AUTO(tls_key_unref) struct tls_key *key = NULL;
    KP_AUTO(tls_cert_unref) struct tls_cert *cert = NULL;
    KP_AUTO_BUF struct kp_buf cert_pem = {0}, key_pem = {0};
    if (tls_key_generate(TLS_KEY_ECDSA_P256, &key, error) < 0 || tls_cert_create_ca(key, &options, &cert, error) < 0 ||
        tls_key_to_pem(key, &key_pem, error) < 0)
        return error->code;
    tls_cert_to_pem(cert, &cert_pem);
    config->cert_pem = kp_arena_strdup(c->arena, cert_pem.data);
    config->key_pem = kp_arena_strdup(c->arena, key_pem.data);
    return 0;
}

/* kubeconfig NULL: as the pod's service account, where the program may. */
static int connect_by(struct component *c, const char *kubeconfig, struct client **ret, struct kp_error *error)
{
    struct client_config config = {0};
    int code;
    if (kubeconfig)
        code = client_config_from_kubeconfig(kubeconfig, NULL, c->arena, &config, error);
    else if (c->options->allow_in_cluster)
        code = client_config_in_cluster(c->arena, &config, error);
    else
        code = kp_fail(error, KP_EUSAGE, "--kubeconfig is needed");
    if (code < 0)
        return code;
    config.user_agent = kp_arena_printf(c->arena, "%s/%s", c->options->name, kp_version);
    return client_new(c->client_loop, &config, ret, error);
}

/* The API server that is asked about others is mostly the one that is worked with. */
static int connect_reviewers(struct component *c, struct kp_error *error)
{
    const struct component_options *o = c->options;
    int code = 0;
    if (kp_streq(o->authentication_kubeconfig, o->kubeconfig))
        c->tokens = o->kubeconfig ? c->client : NULL;
    else if (o->authentication_kubeconfig && (code = connect_by(c, o->authentication_kubeconfig, &c->tokens, error)) < 0)
        return kp_wrap(error, "--authentication-kubeconfig");
    if (kp_streq(o->authorization_kubeconfig, o->kubeconfig))
        c->access = o->kubeconfig ? c->client : NULL;
    else if (o->authorization_kubeconfig && (code = connect_by(c, o->authorization_kubeconfig, &c->access, error)) < 0)
        return kp_wrap(error, "--authorization-kubeconfig");
    return 0;
}

static int start_server(struct component *c, struct kp_error *error)
{
    static const char *const alpn[] = {"h2", "http/1.1", NULL};
    const struct component_options *o = c->options;
    struct tls_context_config tls = {
        .server = true,
        .cert_file = o->tls_cert_file,
        .key_file = o->tls_key_file,
        .ca_file = o->client_ca_file,
        .client_cert = o->client_ca_file ? TLS_CLIENT_CERT_REQUEST : TLS_CLIENT_CERT_NONE,
        .alpn = alpn,
    };
    if (o->secure_port == 0)
        return 0;
    if (!o->health_plain) {
        if (!o->tls_cert_file && self_signed(c, &tls, error) < 0)
            return error->code;
        if (tls_context_new(&tls, &c->tls, error) < 0 || connect_reviewers(c, error) < 0)
            return error->code;
        const struct delegate_config delegate = {.tokens = c->tokens, .access = c->access, .anonymous = true};
        c->delegate = delegate_new(&delegate);
    }
    const struct http_server_config config = {
        .host = o->bind_address, .port = (uint16_t)o->secure_port, .tls = c->tls, .handler = serve, .arg = c, .pool = c->pool,
    };
    return http_server_new(c->main_loop, &config, &c->server, error);
}

/* Waits for the lease, then starts the program's work. On a thread of its own, so that health answers meanwhile. */
static void lead(void *arg)
{
    struct component *c = arg;
    const struct component_options *o = c->options;
    char host[256] = "", uid[37];
    gethostname(host, sizeof(host) - 1);
    kp_uuid4(uid);
    const struct client_elector_config config = {
        .ns = "kube-system", .name = o->name, .identity = kp_arena_printf(c->arena, "%s_%s", host, uid),
        .lease_ms = o->lease_ns / 1000000, .renew_deadline_ms = o->renew_ns / 1000000, .retry_ms = o->retry_ns / 1000000,
    };
    if (o->leader_elect && client_elector_acquire(c->client, &config, &c->stopping, on_lost, NULL, &c->elector, &c->error) < 0) {
        c->error.code = 0; /* stopped while waiting: a normal end */
        return;
    }
    if (c->program->start(c->client, c->program->arg, &c->error) < 0) {
        loop_stop(c->main_loop);
        return;
    }
    c->started = true;
    kp_info("started", NULL);
}

static int connect_client(struct component *c, struct kp_error *error)
{
    if (loop_start(c->client_loop, "client", error) < 0)
        return error->code;
    return connect_by(c, c->options->kubeconfig, &c->client, error);
}

static int run(struct component *c, struct kp_error *error)
{
    struct loop_signal *term = loop_signal_new(c->main_loop, SIGTERM, on_signal, c);
    struct loop_signal *interrupt = loop_signal_new(c->main_loop, SIGINT, on_signal, c);
    int code = connect_client(c, error);
    if (code == 0 && (code = start_server(c, error)) < 0)
        kp_wrap(error, "health and metrics server");
    if (code == 0 && (code = pool_submit(c->pool, lead, c)) < 0)
        kp_fail(error, code, "no thread could be started");
    if (code == 0)
        loop_run(c->main_loop);
    c->stopping = true;
    loop_signal_free(term);
    loop_signal_free(interrupt);
    http_server_free(c->server);
    pool_free(c->pool);
    if (c->started && c->program->stop)
        c->program->stop(c->program->arg);
    client_elector_release(c->elector);
    delegate_free(c->delegate);
    if (c->tokens != c->client)
        client_free(c->tokens);
    if (c->access != c->client)
        client_free(c->access);
    client_free(c->client);
    loop_free(c->client_loop);
    loop_free(c->main_loop);
    tls_context_unref(c->tls);
    kp_arena_free(c->arena);
    if (code == 0 && c->error.code < 0) {
        *error = c->error;
        code = error->code;
    }
    return code;
}

int component_main(struct component_options *options, const struct kp_flag *flags, const struct component_program *program, int argc,
                   char **argv)
{
    struct kp_error error = {0};
    bool help = false;
    int code = kp_flags_parse(flags, argc, argv, NULL, &help, &error);
    if (code == 0 && help) {
        printf("%s\n\nUsage: %s [flags]\n\nFlags:\n", program->description, options->name);
        kp_flags_print(flags, stdout);
        return 0;
    }
    kp_log_init(options->name, options->verbosity >= 4 ? KP_LOG_DEBUG : KP_LOG_INFO);
    signal(SIGPIPE, SIG_IGN);
    if (code == 0) {
        struct component c = {
            .options = options, .program = program, .arena = kp_arena_new(0), .main_loop = loop_new(), .client_loop = loop_new(),
            .pool = pool_new(options->name, 4, 256),
        };
        code = run(&c, &error);
    }
    if (code == 0)
        return 0;
    fprintf(stderr, "%s: %s\n", options->name, error.message);
    return kp_code_info(code)->exit_status;
}
