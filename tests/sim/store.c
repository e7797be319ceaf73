/* The database alone on the faulty disk: after any crash it holds whole batches, at least those that were written. */
#include "tests/sim/world.h"

#include "controlplane/etcd/backend/backend_internal.h"

#define BATCHES_MAX 400
#define OPS_MAX 12

struct store {
    struct cage_owner owner;
    struct backend *backend; /* of this incarnation */
    uint64_t written;        /* batches that are durable for sure */
    uint64_t tried;          /* of which no more can be there */
    uint64_t found;
    int rc;
    struct kp_error error;
    bool rotten; /* a bit was flipped: refusing is fine, wrong answers are not */
};

/* What batch n puts and deletes: the same in every incarnation. */
static size_t batch_ops(uint64_t n, struct backend_op ops[OPS_MAX], char keys[OPS_MAX][16], bool want_values)
{
    struct rng random = {n * 77 + world.seed};
    size_t len = 1 + (size_t)rng_below(&random, OPS_MAX);
    for (size_t i = 0; i < len; i++) {
        snprintf(keys[i], 16, "key%02u", (unsigned)rng_below(&random, 40));
        ops[i] = (struct backend_op){.bucket = BACKEND_LEASE,
                                     .is_delete = rng_below(&random, 4) == 0,
                                     .key = (uint8_t *)keys[i],
                                     .key_len = (uint16_t)strlen(keys[i])};
        size_t size = rng_below(&random, 10) ? (size_t)rng_below(&random, 200) : (size_t)rng_below(&random, 9000);
        uint64_t fill = rng_next(&random);
        if (ops[i].is_delete || !want_values)
            continue;
        ops[i].value = kp_blob_new(NULL, size);
        memset(ops[i].value->data, (int)fill, size);
    }
    return len;
}

static void open_store(void *arg)
{
    struct store *store = arg;
    store->backend = kp_calloc(1, sizeof *store->backend);
    store->backend->path = kp_strdup(DISK_ROOT "0/db");
    store->backend->map_size = (size_t)1 << 30;
    pthread_mutex_init(&store->backend->mutex, NULL);
    store->rc = backend_make_file(store->backend, &store->error);
    if (store->rc == 0)
        store->rc = backend_env_open(store->backend, false, &store->error);
}

static void write_batch(void *arg)
{
    struct store *store = arg;
    struct backend_op ops[OPS_MAX];
    char keys[OPS_MAX][16];
    struct backend_batch batch = {.ops = ops, .index = store->tried, .term = 1};
    batch.op_count = batch_ops(store->tried, ops, keys, true);
    store->rc = backend_batch_write(store->backend, &batch, &store->error);
    for (size_t i = 0; i < batch.op_count; i++)
        kp_blob_unref(ops[i].value);
}

static bool look(void *ctx, struct kp_bytes key, struct kp_bytes value) { return true; }

/* Plays all batches up to the one that the database says it holds, and compares every key. */
static void verify(void *arg)
{
    struct store *store = arg;
    KP_AUTO(backend_reader_end) struct backend_reader *reader = NULL;
    struct kp_error error = {0};
    if (backend_reader_begin(store->backend, &reader, &error) < 0)
        sim_fail("store", "cannot be read: %s", error.message);
    struct kp_bytes mark = {0};
    store->found = 0;
    int rc = 0;
    for (int b = 0; store->rotten && rc == 0 && b < BACKEND_BUCKET_COUNT; b++) /* as a member does that starts */
        if ((rc = backend_reader_each(reader, (enum backend_bucket)b, look, NULL, &error)) < 0)
            store->rc = rc;
    if (store->rc < 0)
        return;
    if (backend_reader_get(reader, BACKEND_META, "consistent_index", 16, &mark, &error) == 0)
        memcpy(&store->found, mark.data, sizeof store->found);
    struct cage_owner *owner = cage_leave();
    /* A newer mark that rotted leaves the batch before it: that the log is ahead of it is seen by who has the log. */
    if (store->found + store->rotten < store->written || store->found > store->tried)
        sim_fail("durable", "batch %llu is the last, %llu were written and %llu tried", (unsigned long long)store->found,
                 (unsigned long long)store->written, (unsigned long long)store->tried);
    struct kp_strmap *expected = kp_strmap_new();
    for (uint64_t n = 1; n <= store->found; n++) {
        struct backend_op ops[OPS_MAX];
        char keys[OPS_MAX][16];
        size_t len = batch_ops(n, ops, keys, true);
        for (size_t i = 0; i < len; i++)
            kp_blob_unref(ops[i].is_delete ? kp_strmap_remove(expected, keys[i])
                                           : kp_strmap_put(expected, keys[i], ops[i].value));
    }
    for (int k = 0; k < 40; k++) {
        char key[16];
        snprintf(key, sizeof key, "key%02d", k);
        const struct kp_blob *want = kp_strmap_get(expected, key);
        struct kp_bytes got = {0};
        rc = backend_reader_get(reader, BACKEND_LEASE, key, strlen(key), &got, &error);
        if (want ? rc < 0 || got.len != want->len || memcmp(got.data, want->data, got.len) != 0 : rc != KP_ENOTFOUND)
            sim_fail("store", "%s is not as batch %llu left it", key, (unsigned long long)store->found);
    }
    kp_strmap_free(expected, (void (*)(void *))kp_blob_unref);
    cage_enter(owner);
}

static void trouble(struct store *store)
{
    struct rng *random = &world.random;
    struct disk_faults *faults = &store->owner.disk->faults;
    *faults = (struct disk_faults){.lies_about = faults->lies_about};
    if (store->tried > 5 && !store->rotten && rng_below(random, 12) == 0) {
        store->rotten = disk_rot(store->owner.disk, "/db");
        counters.bit_rot_db++;
        store->owner.crash_at_io = store->owner.crash_at_alloc = 0;
        return;
    }
    store->owner.crash_at_io = rng_below(random, 2) ? 1 + rng_below(random, 60) : 0;
    store->owner.crash_at_alloc = rng_below(random, 4) == 0 ? 1 + rng_below(random, 400) : 0;
    switch (rng_below(random, 8)) {
    case 0: faults->sync_error_ppm = 50000; break;
    case 1: faults->write_error_ppm = 20000; break;
    case 2:
        faults->full = true;
        counters.disk_full++;
        break;
    default: break;
    }
}

void store_run(void)
{
    struct store store = {.owner = {.random = rng_fork(&world.random)}};
    store.owner.disk = disk_new(DISK_ROOT "0", rng_fork(&world.random));
    store.owner.disk->faults.lies_about = plant_is(PLANT_LOST_DATABASE_SYNC) ? "/db" : NULL;
    while (store.tried < BATCHES_MAX) {
        trouble(&store);
        enum cage_end end = cage_run(&store.owner, open_store, &store);
        store.owner.crash_at_io = end == CAGE_RETURNED ? store.owner.crash_at_io : 0;
        if (end == CAGE_RETURNED && store.rc == 0) {
            uint64_t io = store.owner.crash_at_io, alloc = store.owner.crash_at_alloc;
            store.owner.crash_at_io = store.owner.crash_at_alloc = 0;
            end = cage_run(&store.owner, verify, &store);
            store.owner.crash_at_io = io;
            store.owner.crash_at_alloc = alloc;
            store.tried = store.found;
            counters.restarts++;
        } else if (store.rotten) {
            store.rc = -1;
        } else if (end == CAGE_RETURNED && !store.owner.disk->faults.sync_error_ppm &&
            !store.owner.disk->faults.write_error_ppm && !store.owner.disk->faults.full)
            sim_fail("store", "does not open: %s", store.error.message);
        if (store.rotten) { /* found, or it hit what is not used */
            counters.opens_refused += end != CAGE_RETURNED || store.rc < 0;
            return;
        }
        while (end == CAGE_RETURNED && store.rc == 0 && store.tried < BATCHES_MAX) {
            store.tried++;
            counters.commits++;
            end = cage_run(&store.owner, write_batch, &store);
            if (end == CAGE_RETURNED && store.rc == 0)
                store.written = store.tried;
        }
        bool power = rng_below(&world.random, 2);
        counters.crash_power += power;
        counters.crash_kill += !power;
        disk_crash(store.owner.disk, power ? DISK_POWER : DISK_KILL);
    }
}
