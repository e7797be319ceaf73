/* /livez, /readyz, /healthz with their single checks, /version, /metrics. */
#include "controlplane/apiserver/http/http_internal.h"
#include "lib/base/version.h"

#include <sys/utsname.h>

#define ETCD_CHECK_MS 1000

struct check {
    const char *name;
    bool (*good)(struct api_request *ar);
    bool ready_only;
};

static bool check_ping(struct api_request *ar)
{
    (void)ar;
    return true;
}

/* Each asks a majority of etcd's members, and who holds the API's address, probes and load balancers all ask: one good answer serves
   for as long as upstream's limit lets pass between two (half of its timeout of 2 s). A bad one is asked for again. */
static bool check_etcd(struct api_request *ar)
{
    struct api_server *server = ar->server;
    int64_t asked_ms = kp_mono_ms(), good_ms = __atomic_load_n(&server->etcd_good_ms, __ATOMIC_ACQUIRE);
    if (good_ms && asked_ms - good_ms < ETCD_CHECK_MS)
        return true;
    int64_t revision;
    struct kp_error error = {0};
    if (store_revision(registry_store(server->config.registry), &revision, &error) < 0)
        return false;
    __atomic_store_n(&server->etcd_good_ms, asked_ms, __ATOMIC_RELEASE);
    return true;
}

static bool check_informers(struct api_request *ar)
{
    return wcache_set_ready(ar->server->config.caches);
}

static bool check_bootstrap(struct api_request *ar)
{
    return __atomic_load_n(&ar->server->bootstrapped, __ATOMIC_ACQUIRE);
}

static bool check_shutdown(struct api_request *ar)
{
    return !__atomic_load_n(&ar->server->stopping, __ATOMIC_ACQUIRE);
}

static const struct check checks[] = {{"ping", check_ping, false},
                                      {"log", check_ping, false},
                                      {"etcd", check_etcd, false},
                                      {"informer-sync", check_informers, true},
                                      {"poststarthook/rbac/bootstrap-roles", check_bootstrap, false},
                                      {"shutdown", check_shutdown, true}};

static bool excluded(struct api_request *ar, const char *name)
{
    const char *const *values = NULL;
    size_t count = http_request_query_all(ar->http, "exclude", &values);
    for (size_t i = 0; i < count; i++)
        if (strcmp(values[i], name) == 0)
            return true;
    return false;
}

static void run_checks(struct api_request *ar, const char *endpoint)
{
    bool ready = strcmp(endpoint, "readyz") == 0, good = true;
    KP_AUTO_BUF struct kp_buf out = {0};
    for (size_t i = 0; i < KP_ARRAY_LEN(checks); i++) {
        if (checks[i].ready_only && !ready)
            continue;
        if (excluded(ar, checks[i].name)) {
            kp_buf_printf(&out, "[+]%s excluded: ok\n", checks[i].name);
            continue;
        }
        bool fine = checks[i].good(ar);
        good = good && fine;
        kp_buf_printf(&out, fine ? "[+]%s ok\n" : "[-]%s failed: reason withheld\n", checks[i].name);
    }
    if (good && !query_of(ar, "verbose")) {
        respond_text(ar, 200, "ok");
        return;
    }
    kp_buf_printf(&out, "%s check %s\n", endpoint, good ? "passed" : "failed");
    respond_text(ar, good ? 200 : 500, out.data);
}

bool handle_health(struct api_request *ar)
{
    static const char *const endpoints[] = {"livez", "readyz", "healthz"};
    const char *path = ar->http->path + 1;
    for (size_t i = 0; i < KP_ARRAY_LEN(endpoints); i++) {
        size_t len = strlen(endpoints[i]);
        if (strncmp(path, endpoints[i], len) != 0 || (path[len] && path[len] != '/'))
            continue;
        if (!path[len] || !path[len + 1]) {
            run_checks(ar, endpoints[i]);
            return true;
        }
        for (size_t j = 0; j < KP_ARRAY_LEN(checks); j++)
            if (strcmp(checks[j].name, path + len + 1) == 0) {
                bool good = checks[j].good(ar);
                respond_text(ar, good ? 200 : 500, good ? "ok" : kp_arena_printf(ar->arena, "internal server error: %s failed\n", checks[j].name));
                return true;
            }
        return false;
    }
    return false;
}

void handle_version(struct api_request *ar)
{
    struct utsname machine;
    struct k8s_info info = {.git_version = kp_version, .git_commit = "0000000000000000000000000000000000000000", .git_tree_state = "clean",
                            .build_date = "1970-01-01T00:00:00Z", .go_version = "none", .compiler = "gcc"};
    int64_t major = 1, minor = 0;
    const char *dot = strchr(kp_version, '.');
    KP_AUTO_FREE char *minor_text = kp_strndup(dot ? dot + 1 : "0", dot ? strcspn(dot + 1, ".") : 1);
    if (kp_parse_i64(minor_text, &minor) < 0)
        minor = 0;
    info.major = kp_arena_printf(ar->arena, "%lld", (long long)major);
    info.minor = kp_arena_printf(ar->arena, "%lld", (long long)minor);
    bool arm = uname(&machine) == 0 && strcmp(machine.machine, "aarch64") == 0;
    info.platform = arm ? "linux/arm64" : "linux/amd64";
    KP_AUTO_BUF struct kp_buf out = {0};
    kp_json_encode(&k8s_info_type, &info, &out);
    respond_bytes(ar, 200, "application/json", out.data, out.len);
}

void handle_metrics(struct api_request *ar)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    kp_metrics_write(&out);
    respond_bytes(ar, 200, "text/plain; version=0.0.4; charset=utf-8", out.data ? out.data : "", out.len);
}
