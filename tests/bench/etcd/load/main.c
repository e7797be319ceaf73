/* bench_etcd KIND [flags]: puts one kind of load on etcd servers and prints one line of "name=value" pairs. */
#include "tests/bench/etcd/load/load.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#define TURN_EVENTS 256
#define READY_MS 120000  /* a server may take to listen */
#define DRAIN_NS INT64_C(60000000000) /* for answers, and events, still on the way */

static struct load load = {.endpoints = "127.0.0.1:2379", .prefix = "bench/", .connections = 1, .clients = 1, .keys = 100000,
                           .value_bytes = 256, .limit = 1, .watchers = 1000, .streams = 10, .duration_ns = 3000000000,
                           .random = 88172645463325252};
static const char *pids = "";

static const struct kp_flag flags[] = {
    {"endpoints", 0, KP_FLAG_STRING, &load.endpoints, "host:port, with commas; connections take turns", NULL},
    {"cacert", 0, KP_FLAG_STRING, &load.ca, "CA of the servers: turns TLS on", NULL},
    {"cert", 0, KP_FLAG_STRING, &load.cert, "client certificate", NULL},
    {"key", 0, KP_FLAG_STRING, &load.key, "its key", NULL},
    {"prefix", 0, KP_FLAG_STRING, &load.prefix, "of all keys", NULL},
    {"conns", 0, KP_FLAG_I64, &load.connections, "connections", NULL},
    {"clients", 0, KP_FLAG_I64, &load.clients, "calls under way at any time", NULL},
    {"keys", 0, KP_FLAG_I64, &load.keys, "how many different ones", NULL},
    {"value", 0, KP_FLAG_I64, &load.value_bytes, "bytes of a value", NULL},
    {"limit", 0, KP_FLAG_I64, &load.limit, "keys in a range", NULL},
    {"serializable", 0, KP_FLAG_BOOL, &load.serializable, "ranges need not be linearizable", NULL},
    {"watchers", 0, KP_FLAG_I64, &load.watchers, "watches of the whole prefix", NULL},
    {"streams", 0, KP_FLAG_I64, &load.streams, "which they share, each with its connection", NULL},
    {"duration", 0, KP_FLAG_DURATION, &load.duration_ns, "how long", NULL},
    {"operations", 0, KP_FLAG_I64, &load.operations, "stop after so many; 0: by time", NULL},
    {"pids", 0, KP_FLAG_STRING, &pids, "servers whose processor time is read, with commas", NULL},
    {0},
};
static const char *const kinds[] = {[KIND_PUT] = "put", [KIND_RANGE] = "range", [KIND_TXN] = "txn",
                                    [KIND_WATCH] = "watch", [KIND_FILL] = "fill", [KIND_READY] = "ready"};

void load_die(const char *what, const struct kp_error *error)
{
    fprintf(stderr, "bench_etcd: %s: %s\n", what, error->message);
    exit(1);
}

/* ---- processor time ---- */

struct usage {
    double cpu_s;
    uint64_t switches;
};

static uint64_t field_after(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    uint64_t value = 0;
    if (at)
        sscanf(at + strlen(name), "%llu", (unsigned long long *)&value);
    return value;
}

static void add_process(const char *pid, struct usage *usage)
{
    char path[64];
    KP_AUTO_BUF struct kp_buf text = {0};
    snprintf(path, sizeof path, "/proc/%s/stat", pid);
    unsigned long long user = 0, system = 0;
    if (kp_read_file(path, 0, &text, NULL) == 0) {
        const char *after = strrchr(text.data, ')');
        if (after && sscanf(after + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &system) == 2)
            usage->cpu_s += (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
    }
    for (int i = 0; i < 256; i++) { /* each thread has its own count; the ids of one process are near each other */
        snprintf(path, sizeof path, "/proc/%s/task/%ld/status", pid, strtol(pid, NULL, 10) + i);
        text.len = 0;
        if (kp_path_exists(path) && kp_read_file(path, 0, &text, NULL) == 0)
            usage->switches += field_after(text.data, "\nvoluntary_ctxt_switches:");
    }
}

static struct usage servers_usage(void)
{
    struct usage usage = {0};
    KP_AUTO_FREE char *list = kp_strdup(pids);
    for (char *rest = list, *pid; (pid = strsep(&rest, ",")) != NULL;)
        if (*pid)
            add_process(pid, &usage);
    return usage;
}

static double own_cpu_s(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* ---- running ---- */

static void turn(int timeout_ms)
{
    struct epoll_event events[TURN_EVENTS];
    int n = epoll_wait(load.epoll, events, TURN_EVENTS, timeout_ms);
    load.now_ns = kp_mono_ns();
    for (int i = 0; i < n; i++) {
        struct conn *conn = events[i].data.ptr;
        if (events[i].events & ~(uint32_t)EPOLLOUT)
            conn_readable(conn);
        if (events[i].events & EPOLLOUT)
            conn_flush(conn);
    }
    while (load.dirty) {
        struct conn *conn = load.dirty;
        load.dirty = conn->next_dirty;
        conn->dirty = false;
        conn_flush(conn);
    }
}

static void connect_all(struct kp_error *error)
{
    KP_AUTO_FREE char *list = kp_strdup(load.endpoints);
    for (char *rest = list, *one; (one = strsep(&rest, ",")) != NULL;)
        kp_strings_add(&load.endpoint_list, one);
    static const char *const alpn[] = {"h2", NULL};
    const struct tls_context_config config = {.ca_file = load.ca, .cert_file = load.cert, .key_file = load.key, .alpn = alpn};
    if (load.ca && tls_context_new(&config, &load.tls, error) < 0)
        load_die("TLS", error);
    load.epoll = epoll_create1(EPOLL_CLOEXEC);
    size_t total = (size_t)(load.connections + (load.kind == KIND_WATCH ? load.streams : 0));
    load.conns = kp_calloc(total, sizeof *load.conns);
    for (size_t i = 0; i < total; i++) {
        const char *endpoint = load.endpoint_list.items[i % load.endpoint_list.len];
        int rc = conn_open(&load, &load.conns[i], endpoint, error);
        for (int64_t until_ms = kp_mono_ms() + READY_MS; rc < 0 && load.kind == KIND_READY && kp_mono_ms() < until_ms;) {
            usleep(1000);
            rc = conn_open(&load, &load.conns[i], endpoint, error);
        }
        if (rc < 0)
            load_die("connect", error);
        conn_flush(&load.conns[i]);
    }
    bool ready = false;
    while (!ready) {
        turn(1000);
        ready = true;
        for (size_t i = 0; i < total; i++)
            ready = ready && load.conns[i].ready;
    }
}

static void make_clients(void)
{
    size_t watching = load.kind == KIND_WATCH ? (size_t)load.streams : 0;
    load.client_list = kp_calloc((size_t)load.clients + watching, sizeof *load.client_list);
    for (size_t i = 0; i < watching; i++) {
        struct client *watcher = &load.client_list[(size_t)load.clients + i];
        watcher->conn = &load.conns[(size_t)load.connections + i];
        watcher->is_watcher = true;
        watcher->watched = kp_calloc((size_t)(load.watchers / load.streams), sizeof *watcher->watched);
        load_next(&load, watcher);
    }
    uint64_t expected = watching ? (uint64_t)(load.watchers / load.streams * load.streams) : 0;
    for (load.now_ns = kp_mono_ns(); load.watches_ready < expected;)
        turn(1000);
}

static bool is_over(void)
{
    if (load.kind == KIND_FILL)
        return load.next_key >= (uint64_t)load.keys;
    if (load.operations)
        return load.started >= (uint64_t)load.operations;
    return load.now_ns >= load.stop_ns;
}

static void run(void)
{
    load.now_ns = load.start_ns = kp_mono_ns();
    load.stop_ns = load.start_ns + load.duration_ns;
    for (size_t i = 0; i < (size_t)load.clients; i++) {
        struct client *client = &load.client_list[i];
        client->number = i;
        client->conn = &load.conns[i % (size_t)load.connections];
        load_next(&load, client);
    }
    while (!is_over())
        turn(100);
    load.stop_ns = load.now_ns;
    load.stopping = true;
    uint64_t counted = load.done;
    int64_t until_ns = load.now_ns + DRAIN_NS;
    uint64_t events = load.kind == KIND_WATCH ? (uint64_t)(load.watchers / load.streams * load.streams) : 0;
    while ((load.done < load.started || load.events < load.done * events) && load.now_ns < until_ns)
        turn(100);
    if (load.done < load.started || load.events < load.done * events)
        load.errors += load.started - load.done + 1;
    if (events)
        load_check_watched(&load);
    if (load.kind == KIND_FILL || load.operations)
        load.stop_ns = load.now_ns;
    else
        load.done = counted;
    if (events)
        load.stop_ns = load.last_event_ns;
}

/* ---- what came out ---- */

static double percentile_us(double share)
{
    uint64_t total = 0, seen = 0;
    for (size_t i = 0; i < BUCKETS; i++)
        total += load.histogram[i];
    for (size_t i = 0; i < BUCKETS; i++) {
        seen += load.histogram[i];
        if ((double)seen >= share * (double)total && total) {
            uint64_t ns = i < 16 ? i : ((16 + (i & 15)) << (i / 16 - 1)) + (UINT64_C(1) << (i / 16 - 1)) / 2;
            return (double)ns / 1000;
        }
    }
    return 0;
}

static void report(const struct usage *before, const struct usage *after, double own_s)
{
    double seconds = (double)(load.stop_ns - load.start_ns) / 1e9;
    double units = (double)(load.kind == KIND_WATCH ? load.events : load.kind == KIND_FILL ? load.next_key : load.done);
    double server_s = after->cpu_s - before->cpu_s;
    printf("kind=%s seconds=%.3f operations=%llu errors=%llu rate=%.0f p50_us=%.0f p90_us=%.0f p99_us=%.0f max_us=%.0f "
           "server_cpu_us=%.3f generator_cpu_us=%.3f generator_share=%.3f switches=%.3f bytes_in=%llu decoded=%llu\n",
           kinds[load.kind], seconds, (unsigned long long)units, (unsigned long long)load.errors, units / seconds,
           percentile_us(0.5), percentile_us(0.9), percentile_us(0.99), (double)load.latency_max_ns / 1000,
           server_s / units * 1e6, own_s / units * 1e6, own_s / (own_s + server_s),
           (double)(after->switches - before->switches) / units, (unsigned long long)load.bytes_in,
           (unsigned long long)load.decoded);
}

int main(int argc, char **argv)
{
    struct kp_error error = {0};
    struct kp_strings rest = {0};
    bool help = false;
    if (kp_flags_parse(flags, argc, argv, &rest, &help, &error) < 0)
        load_die("flags", &error);
    int kind = -1;
    for (size_t i = 0; rest.len == 1 && i < KP_ARRAY_LEN(kinds); i++)
        if (kp_streq(rest.items[0], kinds[i]))
            kind = (int)i;
    if (help || kind < 0) {
        fprintf(help ? stdout : stderr, "bench_etcd put|range|txn|watch|fill|ready [flags]\n");
        kp_flags_print(flags, help ? stdout : stderr);
        return help ? 0 : 2;
    }
    if (load.connections < 1 || load.clients < 1 || load.keys < load.limit || load.limit < 1 || load.streams < 1 ||
        load.watchers < load.streams || load.connections + load.streams > CONNECTIONS_MAX || load.value_bytes < 0)
        load_die("flags", &(struct kp_error){.message = "counts out of range"});
    signal(SIGPIPE, SIG_IGN);
    load.kind = (enum kind)kind;
    load.value = kp_malloc((size_t)load.value_bytes + 1);
    for (int64_t i = 0; i < load.value_bytes; i++)
        load.value[i] = (uint8_t)('a' + i % 23);
    connect_all(&error);
    make_clients();
    struct usage before = servers_usage();
    double own_s = own_cpu_s();
    run();
    own_s = own_cpu_s() - own_s;
    struct usage after = servers_usage();
    report(&before, &after, own_s);
    return load.errors ? 1 : 0;
}
