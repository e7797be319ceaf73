/* What the clients do: a mix of writes, compare-and-swaps, transactions, reads of every kind, and leases. */
#include "tests/sim-real/load.h"

#define LEASES_HELD 3
#define LEASE_TTL_S 5
#define PAUSE_MS_MAX 14

struct held_lease {
    int64_t id;
    int64_t renew_ms; /* of kp_mono_ms; 0: left to run out */
};
struct worker {
    struct client client;
    int64_t mods[LOAD_KEYS]; /* as last seen by this client; 0: not there */
    struct held_lease leases[LEASES_HELD];
};

static const char *key_name(struct kp_arena *arena, unsigned key) { return kp_arena_printf(arena, "k%02u", key); }

static struct history_bytes new_value(struct worker *w)
{
    struct client *c = &w->client;
    bool large = load_random(&c->random) % 8 == 0;
    return load_text(large ? kp_arena_printf(c->arena, "c%u.%llu.L%u", c->id, (unsigned long long)c->serial++,
                                             (unsigned)(200 + load_random(&c->random) % 2000))
                           : kp_arena_printf(c->arena, "c%u.%llu", c->id, (unsigned long long)c->serial++));
}

static int run(struct worker *w, const struct history_op *op, struct history_result *ret_result, int64_t *ret_revision)
{
    struct client *c = &w->client;
    int outcome = client_do(c, op, load_random(&c->random) % 3 == 0, ret_result, ret_revision);
    /* Go elsewhere after trouble, and now and then without. */
    if (outcome < 0 || strstr(c->why, "efused") || load_random(&c->random) % 50 == 0)
        c->at = (c->at + 1) % c->load->endpoint_count;
    if (outcome <= 0)
        kp_sleep_ms(20);
    return outcome;
}

/* ---- keys ---- */
static void do_put(struct worker *w, unsigned key)
{
    struct history_result result;
    int64_t revision;
    struct history_op op = {.kind = HISTORY_PUT, .key = load_text(key_name(w->client.arena, key)), .value = new_value(w)};
    if (run(w, &op, &result, &revision) > 0)
        w->mods[key] = revision;
}

static void do_del(struct worker *w, unsigned key)
{
    struct history_result result;
    int64_t revision;
    struct history_op op = {.kind = HISTORY_DEL, .key = load_text(key_name(w->client.arena, key))};
    if (load_random(&w->client.random) % 5 == 0)
        op.end = load_text(key_name(w->client.arena, key + 2));
    if (run(w, &op, &result, &revision) > 0)
        w->mods[key] = 0;
}

/* As the API server updates: put if nobody changed it, else read what is there. */
static void do_cas(struct worker *w, unsigned key)
{
    struct history_bytes name = load_text(key_name(w->client.arena, key));
    struct history_compare compare = {.key = name, .target = 'm', .result = '=', .number = w->mods[key]};
    struct history_op then = {.kind = HISTORY_PUT, .key = name, .value = new_value(w)};
    struct history_op otherwise = {.kind = HISTORY_GET, .key = name};
    struct history_op op = {.kind = HISTORY_TXN, .compares = &compare, .compare_count = 1, .then = &then, .then_count = 1,
                            .otherwise = &otherwise, .otherwise_count = 1};
    struct history_result result;
    int64_t revision;
    if (run(w, &op, &result, &revision) <= 0)
        return;
    if (result.succeeded)
        w->mods[key] = revision;
    else
        w->mods[key] = result.result_count && result.results[0].kv_count ? result.results[0].kvs[0].mod : 0;
}

/* Two keys change together, or two are read. */
static void do_txn(struct worker *w, unsigned key)
{
    struct kp_arena *arena = w->client.arena;
    unsigned other = (key + 1 + (unsigned)(load_random(&w->client.random) % (LOAD_KEYS - 1))) % LOAD_KEYS;
    struct history_bytes a = load_text(key_name(arena, key)), b = load_text(key_name(arena, other));
    bool drop = load_random(&w->client.random) % 4 == 0;
    struct history_compare compare = {.key = a, .target = 'v', .result = '>', .number = 0};
    struct history_op then[] = {{.kind = HISTORY_PUT, .key = a, .value = new_value(w)},
                                {.kind = drop ? HISTORY_DEL : HISTORY_PUT, .key = b, .value = new_value(w)},
                                {.kind = HISTORY_GET, .key = a}};
    struct history_op otherwise[] = {{.kind = HISTORY_PUT, .key = a, .value = new_value(w)},
                                     {.kind = HISTORY_GET, .key = b}};
    struct history_op op = {.kind = HISTORY_TXN, .compares = &compare, .compare_count = 1, .then = then,
                            .then_count = KP_ARRAY_LEN(then), .otherwise = otherwise,
                            .otherwise_count = KP_ARRAY_LEN(otherwise)};
    struct history_result result;
    int64_t revision;
    run(w, &op, &result, &revision);
}

static void do_get(struct worker *w, unsigned key, uint64_t how)
{
    struct kp_arena *arena = w->client.arena;
    struct history_op op = {.kind = HISTORY_GET, .key = load_text(key_name(arena, key))};
    if (how % 4 == 1)
        op.end = load_text(key_name(arena, key + 5));
    if (how % 16 == 2) {
        op.key = load_text("k");
        op.end = load_text("l");
        op.limit = 10;
    }
    op.serializable = how % 5 == 3;
    int64_t newest = atomic_load(&w->client.load->revision);
    if (how % 11 == 4 && newest > 500)
        op.revision = newest - (int64_t)(load_random(&w->client.random) % 400);
    struct history_result result;
    int64_t revision;
    if (run(w, &op, &result, &revision) > 0 && !op.end.data && !op.revision)
        w->mods[key] = result.kv_count ? result.kvs[0].mod : 0;
}

/* ---- leases ---- */
static void lease_begin(struct worker *w, struct held_lease *lease)
{
    struct client *c = &w->client;
    struct history_result result;
    int64_t revision;
    struct history_op grant = {.kind = HISTORY_GRANT, .ttl_s = LEASE_TTL_S,
                               .lease = (int64_t)(load_random(&c->random) >> 2) + 1};
    if (run(w, &grant, &result, &revision) <= 0)
        return;
    int64_t id = result.lease;
    unsigned keys = 1 + (unsigned)(load_random(&c->random) % 2);
    for (unsigned i = 0; i < keys; i++) {
        struct history_op put = {.kind = HISTORY_PUT, .lease = id, .value = new_value(w),
                                 .key = load_text(kp_arena_printf(c->arena, "l/%u/%ld/%u", c->id, lease - w->leases, i))};
        if (run(w, &put, &result, &revision) <= 0)
            return;
    }
    *lease = (struct held_lease){.id = id, .renew_ms = kp_mono_ms() + LEASE_TTL_S * 1000 / 3};
}

static void lease_tend(struct worker *w, struct held_lease *lease)
{
    struct client *c = &w->client;
    struct history_result result;
    int64_t revision;
    if (!lease->id) {
        if (load_random(&c->random) % 20 == 0)
            lease_begin(w, lease);
        return;
    }
    if (kp_mono_ms() < lease->renew_ms)
        return;
    uint64_t fate = load_random(&c->random) % 8;
    struct history_op op = {.kind = fate == 1 ? HISTORY_REVOKE : fate == 2 ? HISTORY_TTL : HISTORY_KEEPALIVE, .lease = lease->id};
    if (fate == 0) { /* let it run out */
        lease->id = 0;
        return;
    }
    int outcome = run(w, &op, &result, &revision);
    if (op.kind == HISTORY_REVOKE || outcome == 0 || (outcome > 0 && result.ttl_s <= 0))
        lease->id = 0;
    else if (outcome > 0)
        lease->renew_ms = kp_mono_ms() + LEASE_TTL_S * 1000 / 3;
}

static void do_lease_read(struct worker *w)
{
    struct history_result result;
    int64_t revision;
    struct history_op op = {.kind = HISTORY_GET, .key = load_text("l/"), .end = load_text("l0")};
    run(w, &op, &result, &revision);
}

/* ---- the threads ---- */
static void work(struct worker *w)
{
    struct client *c = &w->client;
    uint64_t dice = load_random(&c->random) % 100, how = load_random(&c->random);
    unsigned key = (unsigned)(load_random(&c->random) % LOAD_KEYS);
    if (dice < 28)
        do_put(w, key);
    else if (dice < 46)
        do_cas(w, key);
    else if (dice < 54)
        do_txn(w, key);
    else if (dice < 60)
        do_del(w, key);
    else if (dice < 63)
        do_lease_read(w);
    else
        do_get(w, key, how);
    for (size_t i = 0; i < LEASES_HELD; i++)
        lease_tend(w, &w->leases[i]);
}

void *client_main(void *arg)
{
    struct client_start *start = arg;
    struct worker w = {0};
    client_init(&w.client, start->load, start->id, 1000 + start->id % 5 * 1000);
    while (!atomic_load(&start->load->stopping)) {
        kp_arena_reset(w.client.arena);
        work(&w);
        kp_sleep_ms((int64_t)(load_random(&w.client.random) % PAUSE_MS_MAX));
    }
    client_done(&w.client);
    free(start);
    return NULL;
}

void *bloat_main(void *arg)
{
    struct client_start *start = arg;
    struct worker w = {0};
    client_init(&w.client, start->load, start->id, 5000);
    while (!atomic_load(&start->load->stopping)) {
        kp_arena_reset(w.client.arena);
        if (!atomic_load(&start->load->bloating)) {
            kp_sleep_ms(50);
            continue;
        }
        struct client *c = &w.client;
        struct history_result result;
        int64_t revision;
        struct history_op op = {
            .kind = HISTORY_PUT, .key = load_text(kp_arena_printf(c->arena, "z%u", (unsigned)(load_random(&c->random) % 4))),
            .value = load_text(kp_arena_printf(c->arena, "c%u.%llu.L%u", c->id, (unsigned long long)c->serial++, 256u << 10))};
        if (run(&w, &op, &result, &revision) <= 0 && strstr(c->why, "space exceeded"))
            atomic_store(&start->load->bloating, false);
    }
    client_done(&w.client);
    free(start);
    return NULL;
}
