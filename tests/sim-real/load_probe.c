/* Probes: a put to every member each 25 ms, whether or not the ones before were answered. The first one that was asked
   for after a leader was lost and is answered well tells how long writing was impossible. */
#include "tests/sim-real/load.h"

#include "lib/loop/loop.h"

#define PROBE_EVERY_MS 25
#define PROBE_TIMEOUT_MS 2000
#define PROBES_UNDER_WAY_MAX 120
#define PROBE_CLIENT 100

struct probes {
    struct load *load;
    struct loop_timer *tick;
    struct grpc_channel *channels[LOAD_ENDPOINTS_MAX];
    size_t under_way[LOAD_ENDPOINTS_MAX];
    uint64_t serial;
};
struct probe {
    struct probes *probes;
    struct grpc_call *call;
    size_t endpoint;
    uint64_t number;
    int64_t invoke_ns;
    char key[16], value[32];
    struct history_op op;
    bool answered;
    int64_t revision;
};

static void on_message(struct grpc_call *call, const void *message, void *arg)
{
    struct probe *probe = arg;
    struct load *load = probe->probes->load;
    const Etcdserverpb__PutResponse *response = message;
    probe->answered = true;
    probe->revision = response->header ? response->header->revision : 0;
    static const struct history_result none;
    history_ok(load->history, PROBE_CLIENT + (unsigned)probe->endpoint, probe->number, &probe->op, probe->revision, &none);
    load_saw(load, response->header);
    atomic_fetch_add(&load->ok, 1);
    atomic_fetch_add(&load->acked_writes, 1);
    int_fast64_t lost_ns = atomic_load(&load->lost_ns);
    if (lost_ns && probe->invoke_ns > lost_ns && atomic_compare_exchange_strong(&load->lost_ns, &lost_ns, 0)) {
        int64_t gap_ns = kp_mono_ns() - lost_ns;
        size_t at = atomic_fetch_add(&load->gap_count, 1);
        if (at < LOAD_GAPS_MAX)
            atomic_store(&load->gaps_ns[at], gap_ns);
        history_note(load->history, "a new leader serves after %lld ms", (long long)(gap_ns / 1000000));
    }
}

static void on_end(struct grpc_call *call, enum grpc_status status, const char *message, void *arg)
{
    struct probe *probe = arg;
    struct probes *probes = probe->probes;
    struct load *load = probes->load;
    probes->under_way[probe->endpoint]--;
    if (!probe->answered) {
        unsigned client = PROBE_CLIENT + (unsigned)probe->endpoint;
        char why[300];
        snprintf(why, sizeof(why), "%s_%.200s", grpc_status_name(status), message);
        bool sure = load_surely_not(status, message);
        if (sure)
            history_fail(load->history, client, probe->number, why);
        else
            history_unknown(load->history, client, probe->number, why);
        atomic_fetch_add(sure ? &load->failed : &load->unknown, 1);
    }
    grpc_call_unref(probe->call);
    free(probe);
}

static void probe_send(struct probes *probes, size_t endpoint)
{
    static const struct grpc_call_callbacks callbacks = {.on_message = on_message, .on_end = on_end};
    struct probe *probe = kp_calloc(1, sizeof(*probe));
    probe->probes = probes;
    probe->endpoint = endpoint;
    snprintf(probe->key, sizeof(probe->key), "p%zu", endpoint);
    snprintf(probe->value, sizeof(probe->value), "p%zu.%llu", endpoint, (unsigned long long)probes->serial++);
    probe->op = (struct history_op){.kind = HISTORY_PUT, .key = load_text(probe->key), .value = load_text(probe->value)};
    probe->number = history_invoke(probes->load->history, PROBE_CLIENT + (unsigned)endpoint, &probe->op);
    probe->invoke_ns = kp_mono_ns();
    probes->under_way[endpoint]++;
    const struct grpc_call_options options = {.timeout_ms = PROBE_TIMEOUT_MS};
    probe->call = grpc_call_open(probes->channels[endpoint], "/etcdserverpb.KV/Put", &etcdserverpb__put_response__descriptor,
                                 &options, &callbacks, probe);
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    if (grpc_call_send(probe->call, load_put_request(arena, &probe->op, false)) == 0)
        grpc_call_send_end(probe->call);
}

static void on_tick(void *arg)
{
    struct probes *probes = arg;
    if (atomic_load(&probes->load->stopping))
        return;
    for (size_t i = 0; i < probes->load->endpoint_count; i++)
        if (probes->under_way[i] < PROBES_UNDER_WAY_MAX)
            probe_send(probes, i);
}

static void begin(void *arg)
{
    struct probes *probes = arg;
    probes->tick = loop_timer_new(probes->load->loop, on_tick, probes);
    loop_timer_start(probes->tick, PROBE_EVERY_MS, PROBE_EVERY_MS);
}

struct probes *probes_start(struct load *load)
{
    struct probes *probes = kp_calloc(1, sizeof(*probes));
    probes->load = load;
    for (size_t i = 0; i < load->endpoint_count; i++)
        probes->channels[i] = load_channel(load, i, PROBE_TIMEOUT_MS);
    loop_call(load->loop, begin, probes);
    return probes;
}

struct waiting {
    struct probes *probes;
    size_t under_way;
};
static void count_under_way(void *arg)
{
    struct waiting *waiting = arg;
    waiting->under_way = 0;
    for (size_t i = 0; i < LOAD_ENDPOINTS_MAX; i++)
        waiting->under_way += waiting->probes->under_way[i];
    if (!waiting->under_way)
        loop_timer_stop(waiting->probes->tick);
}

/* After load->stopping: until the last has its answer or its timeout. */
void probes_stop(struct probes *probes)
{
    struct waiting waiting = {.probes = probes};
    do {
        kp_sleep_ms(50);
        loop_call(probes->load->loop, count_under_way, &waiting);
    } while (waiting.under_way);
}
