/* The load program of a fault run.

   load --history FILE --control FIFO --endpoints URL,URL --ca FILE --cert FILE --key FILE --seed N --clients N --streams N
   Lines on the control FIFO: "lost" (a leader was taken away just now), "note TEXT", "bloat" (large values until the
   quota is hit), "compact N" (all but the last N revisions), "finish". Ends with a summary of name=value lines and 0, or 1. */
#include "tests/sim-real/load.h"

#include "lib/loop/loop.h"

#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

#define CLIENTS_MAX 64
#define COMPACT_CLIENT 300
#define BLOAT_CLIENT 400

static _Noreturn void die(const char *what, const char *why)
{
    fprintf(stderr, "load: %s: %s\n", what, why);
    exit(2);
}

uint64_t load_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15; /* splitmix64 */
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

struct grpc_channel *load_channel(struct load *load, size_t endpoint, int64_t timeout_ms)
{
    struct kp_error error = {0};
    struct grpc_channel *channel;
    const struct grpc_channel_config config = {.endpoints = &load->endpoints[endpoint], .endpoint_count = 1, .tls = load->tls,
                                               .connect_timeout_ms = 1000, .call_timeout_ms = timeout_ms};
    if (grpc_channel_new(load->loop, &config, &channel, &error) < 0)
        die(load->endpoints[endpoint], error.message);
    return channel;
}

void load_saw(struct load *load, const Etcdserverpb__ResponseHeader *header)
{
    if (!header)
        return;
    int_fast64_t revision = atomic_load(&load->revision);
    while (header->revision > revision && !atomic_compare_exchange_weak(&load->revision, &revision, header->revision))
        ;
    uint_fast64_t term = atomic_load(&load->term);
    while (header->raft_term > term)
        if (atomic_compare_exchange_weak(&load->term, &term, header->raft_term)) {
            history_leader(load->history, 0);
            break;
        }
}

static void compact(struct client *client, int64_t keep)
{
    int64_t newest = atomic_load(&client->load->revision), revision;
    if (newest <= keep)
        return;
    kp_arena_reset(client->arena);
    struct history_op op = {.kind = HISTORY_COMPACT, .revision = newest - keep};
    struct history_result result;
    if (client_do(client, &op, false, &result, &revision) < 0)
        client->at = (client->at + 1) % client->load->endpoint_count;
}

/* A thread of its own: no command waits for a member that does not answer. */
static void *compact_main(void *arg)
{
    struct load *load = arg;
    struct client client;
    client_init(&client, load, COMPACT_CLIENT, 5000);
    while (!atomic_load(&load->stopping)) {
        int_fast64_t keep = atomic_exchange(&load->compact_keep, -1);
        if (keep >= 0)
            compact(&client, keep);
        else
            kp_sleep_ms(20);
    }
    client_done(&client);
    return NULL;
}

/* False when the run is to end. */
static bool command(struct load *load, char *line)
{
    int64_t number;
    line[strcspn(line, "\n")] = 0;
    if (strcmp(line, "lost") == 0)
        atomic_store(&load->lost_ns, kp_mono_ns());
    else if (strncmp(line, "note ", 5) == 0)
        history_note(load->history, "%s", line + 5);
    else if (strcmp(line, "bloat") == 0)
        atomic_store(&load->bloating, true);
    else if (strncmp(line, "compact ", 8) == 0 && kp_parse_i64(line + 8, &number) == 0)
        atomic_store(&load->compact_keep, number);
    else if (strcmp(line, "finish") == 0)
        return false;
    else
        fprintf(stderr, "load: no command \"%s\"\n", line);
    return true;
}

static void control(struct load *load, const char *path)
{
    bool going = true;
    while (going) {
        /* Opened anew whenever the last writer has gone. */
        FILE *in = fopen(path, "re");
        char line[1024];
        if (!in)
            die(path, strerror(errno));
        while (going && fgets(line, sizeof(line), in))
            going = command(load, line);
        fclose(in);
    }
}

static int compare_gaps(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static void summary(struct load *load)
{
    int64_t gaps[LOAD_GAPS_MAX];
    size_t count = KP_MIN(atomic_load(&load->gap_count), (size_t)LOAD_GAPS_MAX);
    for (size_t i = 0; i < count; i++)
        gaps[i] = atomic_load(&load->gaps_ns[i]) / 1000000;
    qsort(gaps, count, sizeof(*gaps), compare_gaps);
    printf("answered=%" PRIuFAST64 "\nfailed=%" PRIuFAST64 "\nunknown=%" PRIuFAST64 "\nacked_writes=%" PRIuFAST64
           "\nwatch_events=%" PRIuFAST64 "\nstream_breaks=%" PRIuFAST64 "\nbookmarks=%" PRIuFAST64 "\nwatch_compacted=%" PRIuFAST64
           "\nrevision=%" PRIdFAST64 "\n", atomic_load(&load->ok), atomic_load(&load->failed), atomic_load(&load->unknown),
           atomic_load(&load->acked_writes), atomic_load(&load->events), atomic_load(&load->breaks),
           atomic_load(&load->bookmarks), atomic_load(&load->compactions), atomic_load(&load->revision));
    printf("leader_gaps=%zu\nleader_gap_median_ms=%" PRId64 "\nleader_gap_max_ms=%" PRId64 "\nleader_gap_list=", count,
           count ? gaps[count / 2] : 0, count ? gaps[count - 1] : 0);
    for (size_t i = 0; i < count; i++)
        printf("%s%" PRId64, i ? "," : "", gaps[i]);
    putchar('\n');
}

struct arguments {
    const char *history, *control, *endpoints, *ca, *cert, *key;
    int64_t seed, clients, streams;
    bool manual_progress;
};

static void arguments_read(int argc, char **argv, struct arguments *ret)
{
    *ret = (struct arguments){.seed = 1, .clients = 8, .streams = 10};
    const struct kp_flag flags[] = {
        {.name = "history", .kind = KP_FLAG_STRING, .value = &ret->history, .help = "file to write"},
        {.name = "control", .kind = KP_FLAG_STRING, .value = &ret->control, .help = "FIFO to obey"},
        {.name = "endpoints", .kind = KP_FLAG_STRING, .value = &ret->endpoints, .help = "URLs, with commas"},
        {.name = "ca", .kind = KP_FLAG_STRING, .value = &ret->ca, .help = "of the servers"},
        {.name = "cert", .kind = KP_FLAG_STRING, .value = &ret->cert, .help = "of the client"},
        {.name = "key", .kind = KP_FLAG_STRING, .value = &ret->key, .help = "its key"},
        {.name = "seed", .kind = KP_FLAG_I64, .value = &ret->seed, .help = "of what the clients do"},
        {.name = "clients", .kind = KP_FLAG_I64, .value = &ret->clients, .help = "threads"},
        {.name = "streams", .kind = KP_FLAG_I64, .value = &ret->streams, .help = "of four watchers each"},
        {.name = "manual-progress", .kind = KP_FLAG_BOOL, .value = &ret->manual_progress, .help = "ask for progress, too"},
        {0},
    };
    struct kp_error error = {0};
    if (kp_flags_parse(flags, argc, argv, NULL, NULL, &error) < 0)
        die("arguments", error.message);
    if (!ret->history || !ret->control || !ret->endpoints || !ret->ca || !ret->cert || !ret->key || ret->clients > CLIENTS_MAX)
        die("arguments", "one is missing, or there are too many clients");
}

static void setup(struct load *load, const struct arguments *arguments)
{
    struct kp_error error = {0};
    load->seed = (uint64_t)arguments->seed;
    atomic_store(&load->compact_keep, -1);
    char *list = kp_strdup(arguments->endpoints), *save = NULL;
    for (char *url = strtok_r(list, ",", &save); url; url = strtok_r(NULL, ",", &save))
        if (load->endpoint_count < LOAD_ENDPOINTS_MAX)
            load->endpoints[load->endpoint_count++] = url;
    static const char *const alpn[] = {"h2", NULL};
    const struct tls_context_config tls = {.cert_file = arguments->cert, .key_file = arguments->key,
                                           .ca_file = arguments->ca, .alpn = alpn};
    if (tls_context_new(&tls, &load->tls, &error) < 0)
        die("TLS", error.message);
    load->loop = loop_new();
    if (loop_start(load->loop, "load", &error) < 0)
        die("loop", error.message);
    load->history = history_open(arguments->history, NULL, NULL);
    if (!load->history)
        die(arguments->history, strerror(errno));
}

int main(int argc, char **argv)
{
    static struct load load;
    struct arguments arguments;
    arguments_read(argc, argv, &arguments);
    setup(&load, &arguments);
    struct watch_pool *pool = watch_pool_start(&load, (size_t)arguments.streams, arguments.manual_progress);
    struct probes *probes = probes_start(&load);
    pthread_t threads[CLIENTS_MAX + 1];
    for (int64_t i = 0; i <= arguments.clients; i++) {
        struct client_start *start = kp_calloc(1, sizeof(*start));
        *start = (struct client_start){&load, i < arguments.clients ? (unsigned)i + 1 : BLOAT_CLIENT};
        if (pthread_create(&threads[i], NULL, i < arguments.clients ? client_main : bloat_main, start) != 0)
            die("threads", strerror(errno));
    }
    pthread_t compactor;
    if (pthread_create(&compactor, NULL, compact_main, &load) != 0)
        die("threads", strerror(errno));
    control(&load, arguments.control);
    atomic_store(&load.stopping, true);
    for (int64_t i = 0; i <= arguments.clients; i++)
        pthread_join(threads[i], NULL);
    pthread_join(compactor, NULL);
    probes_stop(probes);
    int wrong = load_final(&load, pool);
    summary(&load);
    if (history_flush(load.history) < 0)
        die(arguments.history, strerror(errno));
    fflush(stdout);
    /* The loop's callbacks still use what is here; the process's end takes all. */
    _exit(wrong ? 1 : 0);
}
