/* The write-ahead log when any one call fails, and when the power goes between any two: what was acknowledged is there,
   and nothing is there that was not appended. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <inttypes.h>

#include "tests/support/wal_disk.h"

#define STEPS 40
#define ENTRIES_MAX 256

/* What a log should hold after a number of steps; plain values, to compare. */
struct model {
    bool exists;
    struct raft_hard_state hard_state;
    uint64_t snapshot, last;
    uint64_t terms[ENTRIES_MAX]; /* by index */
};
struct history {
    struct model after[STEPS * 3 + 1]; /* after each record; [0] is the new log */
    size_t len;
    size_t acked; /* after[acked] was acknowledged by a sync; nothing before it may come back */
};

static struct model *push(struct history *history)
{
    KP_ASSERT(history->len < KP_ARRAY_LEN(history->after));
    history->after[history->len] = history->after[history->len - 1];
    return &history->after[history->len++];
}

static uint64_t mix(uint64_t seed, uint64_t step)
{
    uint64_t z = seed * 0x9e3779b97f4a7c15u + step * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 30)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static struct kp_blob *data_of(uint64_t index, uint64_t term)
{
    size_t len = 16 + (size_t)(mix(index, term) % 1200);
    struct kp_blob *blob = kp_blob_new(NULL, len);
    for (size_t i = 0; i < len; i++)
        blob->data[i] = (uint8_t)(mix(index * 131 + term, i / 8) | 1); /* no zeroes, as after compression */
    return blob;
}

/* One step of a load of appends, overwrites, markers, releases and syncs, decided by seed and step alone. */
static int step(struct wal *wal, uint64_t seed, uint64_t n, struct history *history)
{
    struct model *now = &history->after[history->len - 1];
    uint64_t dice = mix(seed, n) % 100, term = 1 + n / 6;
    int code = 0;
    if (dice < 70) {
        uint64_t back = dice < 15 ? KP_MIN(dice % 4, now->last - KP_MAX(now->snapshot, now->hard_state.commit)) : 0;
        uint64_t first = now->last + 1 - back, count = 1 + mix(seed, n + 1000) % 2;
        for (uint64_t i = first; i < first + count && code == 0; i++) {
            KP_AUTO(kp_blob_unref) struct kp_blob *data = data_of(i, term);
            struct raft_entry entry = {i, term, RAFT_ENTRY_NORMAL, data};
            code = wal_append(wal, &entry, 1, NULL, NULL);
            struct model *model = push(history);
            model->terms[i] = term;
            model->last = i;
        }
        if (code == 0) {
            struct model *model = push(history);
            model->hard_state = (struct raft_hard_state){term, 1, first - 1};
            code = wal_append(wal, NULL, 0, &model->hard_state, NULL);
        }
    } else if (dice < 80 && now->hard_state.commit > now->snapshot) {
        struct model *model = push(history);
        model->snapshot = model->hard_state.commit;
        struct wal_snapshot marker = {.index = model->snapshot, .term = model->terms[model->snapshot]};
        raft_id_set_add(&marker.conf.voters, 1);
        code = wal_append_snapshot(wal, &marker, NULL);
    } else if (dice < 85) {
        code = wal_release(wal, now->snapshot, NULL);
    }
    if (code == 0 && mix(seed, n + 2000) % 3 != 0) {
        code = wal_sync(wal, NULL);
        if (code == 0)
            history->acked = history->len - 1;
    }
    return code;
}

static bool same(const struct model *model, const struct wal_replay *replay)
{
    if (model->snapshot != replay->snapshot.index || model->hard_state.term != replay->hard_state.term ||
        model->hard_state.commit != replay->hard_state.commit || model->last != model->snapshot + replay->entries_len)
        return false;
    for (size_t i = 0; i < replay->entries_len; i++) {
        const struct raft_entry *entry = &replay->entries[i];
        KP_AUTO(kp_blob_unref) struct kp_blob *data = data_of(entry->index, entry->term);
        if (entry->index != model->snapshot + 1 + i || entry->term != model->terms[entry->index] ||
            entry->data->len != data->len || memcmp(entry->data->data, data->data, data->len) != 0)
            return false;
    }
    return true;
}

/* Which state of the history the log holds: acked or later; SIZE_MAX: none. */
static size_t matching(const struct history *history, const struct wal_replay *replay)
{
    for (size_t i = history->len; i-- > history->acked;)
        if (same(&history->after[i], replay))
            return i;
    return SIZE_MAX;
}

static const struct wal_metadata metadata = {7, 8};

static int make(const struct wal_config *config, struct wal **ret, struct history *history)
{
    struct wal_snapshot first = {0};
    raft_id_set_add(&first.conf.voters, 1);
    *history = (struct history){.len = 1};
    history->after[0] = (struct model){.snapshot = RAFT_INITIAL_INDEX, .last = RAFT_INITIAL_INDEX};
    return wal_create(config, &metadata, &first, ret, NULL);
}

/* Runs until the disk fails or the steps are done. */
static void run(const struct wal_config *config, uint64_t seed, struct history *history, bool *ret_made)
{
    struct wal *wal = NULL;
    *ret_made = make(config, &wal, history) == 0;
    bool failed = !*ret_made;
    for (uint64_t n = 0; n < STEPS && !failed; n++)
        failed = step(wal, seed, n, history) < 0;
    wal_close(wal);
}

static void check_open(struct wal_disk *disk, const struct wal_config *config, struct history *history, bool made,
                       uint64_t seed, uint64_t call)
{
    struct wal_replay replay;
    struct wal *wal = NULL;
    struct kp_error error = {0};
    if (!made && !wal_exists(config)) {
        assert_int_equal(make(config, &wal, history), 0); /* a half-made log is in nobody's way */
        wal_close(wal);
        return;
    }
    if (wal_open(config, &replay, &wal, &error) < 0)
        fail_msg("seed %" PRIu64 ", call %" PRIu64 ": %s", seed, call, error.message);
    size_t at = matching(history, &replay);
    if (at == SIZE_MAX)
        fail_msg("seed %" PRIu64 ", call %" PRIu64 ": the log holds %zu entries after %" PRIu64 ", commit %" PRIu64
                 ": no state from %zu to %zu",
                 seed, call, replay.entries_len, replay.snapshot.index, replay.hard_state.commit, history->acked,
                 history->len - 1);
    wal_replay_done(&replay);
    /* It must be possible to go on from there, and to come back once more. */
    struct history *next = kp_calloc(1, sizeof(*next));
    next->len = 1;
    next->after[0] = history->after[at];
    for (uint64_t n = 0; n < 8; n++)
        assert_int_equal(step(wal, seed + 77, n, next), 0);
    assert_int_equal(wal_sync(wal, NULL), 0);
    next->acked = next->len - 1;
    wal_close(wal);
    wal_disk_crash(disk);
    if (wal_open(config, &replay, &wal, &error) < 0)
        fail_msg("seed %" PRIu64 ", call %" PRIu64 ", second crash: %s", seed, call, error.message);
    assert_int_equal(matching(next, &replay), next->acked);
    wal_replay_done(&replay);
    wal_close(wal);
    free(next);
}

static uint64_t calls_of_a_run(uint64_t seed)
{
    struct wal_disk *disk = kp_calloc(1, sizeof(*disk));
    struct history *history = kp_calloc(1, sizeof(*history));
    bool made;
    wal_disk_init(disk, seed);
    struct wal_config config = {"/wal", &disk->io, 4096};
    run(&config, seed, history, &made);
    assert_true(made && history->acked > 10);
    uint64_t calls = disk->calls;
    wal_disk_done(disk);
    free(disk);
    free(history);
    return calls;
}

static void each_call(bool die, int fail_with, uint64_t seeds)
{
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        uint64_t calls = calls_of_a_run(seed);
        for (uint64_t call = 1; call <= calls; call++) {
            struct wal_disk *disk = kp_calloc(1, sizeof(*disk));
            struct history *history = kp_calloc(1, sizeof(*history));
            wal_disk_init(disk, seed * 1000 + call);
            struct wal_config config = {"/wal", &disk->io, 4096};
            disk->fail_at = call;
            disk->fail_with = fail_with;
            disk->die = die;
            bool made;
            run(&config, seed, history, &made);
            if (die)
                wal_disk_crash(disk);
            else
                disk->fail_at = 0;
            check_open(disk, &config, history, made, seed, call);
            wal_disk_done(disk);
            free(disk);
            free(history);
        }
    }
}

static void power_loss_between_any_two_calls_loses_nothing_acknowledged(void **state)
{
    (void)state;
    const char *many = getenv("WAL_SEEDS");
    each_call(true, -EIO, many ? strtoull(many, NULL, 10) : 40);
}

static void any_failing_call_loses_nothing_acknowledged(void **state)
{
    (void)state;
    each_call(false, -EIO, 3);
    each_call(false, -ENOSPC, 1);
}

static void a_failed_sync_is_never_tried_again(void **state)
{
    (void)state;
    struct wal_disk *disk = kp_calloc(1, sizeof(*disk));
    wal_disk_init(disk, 1);
    struct wal_config config = {"/wal", &disk->io, 1 << 16};
    struct history *history = kp_calloc(1, sizeof(*history));
    struct wal *wal = NULL;
    assert_int_equal(make(&config, &wal, history), 0);
    struct raft_entry entry = {.index = 2, .term = 1};
    assert_int_equal(wal_append(wal, &entry, 1, NULL, NULL), 0);
    disk->fail_at = disk->calls + 2; /* the write, then the sync */
    disk->fail_with = -EIO;
    struct kp_error error = {0};
    uint64_t syncs = disk->syncs;
    assert_int_equal(wal_sync(wal, &error), KP_EIO);
    assert_non_null(strstr(error.message, "sync"));
    uint64_t calls = disk->calls;
    assert_int_equal(wal_sync(wal, &error), KP_EIO); /* though the disk would take it now */
    assert_int_equal(wal_append(wal, &entry, 1, NULL, &error), KP_EIO);
    assert_int_equal(wal_release(wal, 1, &error), KP_EIO);
    assert_int_equal(disk->calls, calls);
    assert_int_equal(disk->syncs, syncs);
    struct wal_stats stats;
    wal_stats(wal, &stats);
    assert_true(stats.poisoned);
    wal_close(wal);
    wal_disk_done(disk);
    free(disk);
    free(history);
}

static void short_writes_are_completed(void **state)
{
    (void)state;
    struct wal_disk *disk = kp_calloc(1, sizeof(*disk));
    struct history *history = kp_calloc(1, sizeof(*history));
    wal_disk_init(disk, 3);
    disk->short_writes = 7;
    struct wal_config config = {"/wal", &disk->io, 4096};
    bool made;
    run(&config, 3, history, &made);
    assert_true(made);
    check_open(disk, &config, history, made, 3, 0);
    wal_disk_done(disk);
    free(disk);
    free(history);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(power_loss_between_any_two_calls_loses_nothing_acknowledged),
        cmocka_unit_test(any_failing_call_loses_nothing_acknowledged),
        cmocka_unit_test(a_failed_sync_is_never_tried_again),
        cmocka_unit_test(short_writes_are_completed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
