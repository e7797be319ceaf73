/* The write-ahead log on a good disk, on a real one, and with damaged files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

#include "tests/support/wal_disk.h"

static const struct wal_metadata metadata = {0xc1, 0x1};

static struct wal_snapshot snapshot_at(uint64_t index, uint64_t term)
{
    struct wal_snapshot snapshot = {.index = index, .term = term};
    raft_id_set_add(&snapshot.conf.voters, 1);
    raft_id_set_add(&snapshot.conf.voters, 2);
    return snapshot;
}

static struct wal *create(const struct wal_config *config)
{
    struct wal *wal;
    struct kp_error error = {0};
    struct wal_snapshot first = snapshot_at(0, 0);
    if (wal_create(config, &metadata, &first, &wal, &error) < 0)
        fail_msg("%s", error.message);
    return wal;
}

/* Appends entries [from, to] of a term with data that names them, filled up to size. */
static void append(struct wal *wal, uint64_t from, uint64_t to, uint64_t term, size_t size)
{
    for (uint64_t i = from; i <= to; i++) {
        KP_AUTO(kp_blob_unref) struct kp_blob *data = kp_blob_new(NULL, KP_MAX(size, (size_t)24));
        memset(data->data, 'x', data->len);
        snprintf((char *)data->data, data->len, "%" PRIu64 "/%" PRIu64, i, term);
        struct raft_entry entry = {i, term, RAFT_ENTRY_NORMAL, data};
        struct kp_error error = {0};
        if (wal_append(wal, &entry, 1, NULL, &error) < 0)
            fail_msg("%s", error.message);
    }
}

static void append_state(struct wal *wal, uint64_t term, uint64_t vote, uint64_t commit)
{
    struct raft_hard_state hard_state = {term, vote, commit};
    assert_int_equal(wal_append(wal, NULL, 0, &hard_state, NULL), 0);
}

static void sync_now(struct wal *wal)
{
    struct kp_error error = {0};
    if (wal_sync(wal, &error) < 0)
        fail_msg("%s", error.message);
}

static struct wal *reopen(const struct wal_config *config, struct wal_replay *replay)
{
    struct wal *wal;
    struct kp_error error = {0};
    if (wal_open(config, replay, &wal, &error) < 0)
        fail_msg("%s", error.message);
    return wal;
}

static void assert_entry(const struct wal_replay *replay, uint64_t index, uint64_t term)
{
    const struct raft_entry *entry = &replay->entries[index - replay->snapshot.index - 1];
    char want[32];
    snprintf(want, sizeof(want), "%" PRIu64 "/%" PRIu64, index, term);
    assert_int_equal(entry->index, index);
    assert_int_equal(entry->term, term);
    assert_string_equal((const char *)entry->data->data, want);
}

struct fixture {
    struct wal_disk *disk;
    struct wal_config config;
};

static int setup(void **state)
{
    struct fixture *fixture = kp_calloc(1, sizeof(*fixture));
    fixture->disk = kp_calloc(1, sizeof(*fixture->disk));
    wal_disk_init(fixture->disk, 1);
    fixture->config = (struct wal_config){"/wal", &fixture->disk->io, 4096};
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    wal_disk_done(fixture->disk);
    free(fixture->disk);
    free(fixture);
    return 0;
}

static void a_new_log_begins_after_the_initial_configuration(void **state)
{
    struct fixture *f = *state;
    assert_false(wal_exists(&f->config));
    wal_close(create(&f->config));
    assert_true(wal_exists(&f->config));
    struct wal_replay replay;
    struct wal *wal = reopen(&f->config, &replay);
    assert_int_equal(replay.metadata.cluster_id, 0xc1);
    assert_int_equal(replay.metadata.node_id, 1);
    assert_int_equal(replay.snapshot.index, RAFT_INITIAL_INDEX);
    assert_int_equal(replay.snapshot.term, RAFT_INITIAL_TERM);
    assert_true(raft_id_set_has(&replay.snapshot.conf.voters, 2));
    assert_int_equal(replay.entries_len, 0);
    assert_int_equal(replay.hard_state.term, 0);
    wal_replay_done(&replay);
    wal_close(wal);
}

static void an_existing_log_is_not_made_anew(void **state)
{
    struct fixture *f = *state;
    wal_close(create(&f->config));
    struct wal *wal = NULL;
    struct wal_snapshot first = snapshot_at(0, 0);
    assert_int_equal(wal_create(&f->config, &metadata, &first, &wal, NULL), KP_EEXISTS);
    assert_null(wal);
}

static void opening_no_log_says_so(void **state)
{
    struct fixture *f = *state;
    struct wal_replay replay;
    struct wal *wal = NULL;
    assert_int_equal(wal_open(&f->config, &replay, &wal, NULL), KP_ENOTFOUND);
}

static void replay_gives_what_was_appended_over_many_segments(void **state)
{
    struct fixture *f = *state;
    struct wal *wal = create(&f->config);
    for (uint64_t i = 2; i <= 100; i++) {
        append(wal, i, i, 1 + i / 10, 200);
        append_state(wal, 1 + i / 10, 1, i - 1);
        sync_now(wal);
    }
    struct wal_stats stats;
    wal_stats(wal, &stats);
    assert_true(stats.segments > 5);
    assert_int_equal(stats.cuts, stats.segments - 1);
    wal_close(wal);
    struct wal_replay replay;
    wal = reopen(&f->config, &replay);
    assert_int_equal(replay.entries_len, 99);
    for (uint64_t i = 2; i <= 100; i++)
        assert_entry(&replay, i, 1 + i / 10);
    assert_int_equal(replay.hard_state.commit, 99);
    assert_int_equal(replay.torn_bytes, 0);
    wal_replay_done(&replay);
    append(wal, 101, 101, 12, 0); /* it goes on where it ended */
    sync_now(wal);
    wal_close(wal);
    wal = reopen(&f->config, &replay);
    assert_int_equal(replay.entries_len, 100);
    wal_replay_done(&replay);
    wal_close(wal);
}

static void many_appends_are_one_sync(void **state)
{
    struct fixture *f = *state;
    f->config.segment_bytes = 1 << 20;
    struct wal *wal = create(&f->config);
    uint64_t before = f->disk->syncs;
    append(wal, 2, 200, 1, 100);
    append_state(wal, 1, 1, 1);
    sync_now(wal);
    sync_now(wal); /* nothing new: no system call */
    assert_int_equal(f->disk->syncs, before + 1);
    wal_close(wal);
}

static void an_entry_replaces_its_index_and_all_after(void **state)
{
    struct fixture *f = *state;
    struct wal *wal = create(&f->config);
    append(wal, 2, 50, 1, 100);
    append(wal, 30, 40, 2, 100);
    sync_now(wal);
    append(wal, 35, 36, 3, 100);
    sync_now(wal);
    wal_close(wal);
    struct wal_replay replay;
    wal = reopen(&f->config, &replay);
    assert_int_equal(replay.entries_len, 35);
    assert_entry(&replay, 29, 1);
    assert_entry(&replay, 34, 2);
    assert_entry(&replay, 36, 3);
    wal_replay_done(&replay);
    wal_close(wal);
}

static void entries_are_taken_in_order_only(void **state)
{
    struct fixture *f = *state;
    struct wal *wal = create(&f->config);
    struct raft_entry gap = {.index = 3, .term = 1}, before = {.index = 1, .term = 1};
    assert_int_equal(wal_append(wal, &gap, 1, NULL, NULL), KP_EINVALID);
    assert_int_equal(wal_append(wal, &before, 1, NULL, NULL), KP_EINVALID);
    append(wal, 2, 2, 1, 0);
    sync_now(wal);
    wal_close(wal);
}

static void replay_starts_after_the_last_marker_and_release_drops_what_is_before(void **state)
{
    struct fixture *f = *state;
    struct wal *wal = create(&f->config);
    for (uint64_t i = 2; i <= 100; i++) {
        append(wal, i, i, 1, 200);
        sync_now(wal);
    }
    struct wal_snapshot marker = snapshot_at(80, 1);
    raft_id_set_add(&marker.conf.learners, 3);
    assert_int_equal(wal_append_snapshot(wal, &marker, NULL), 0);
    struct wal_stats before, after;
    wal_stats(wal, &before);
    assert_int_equal(wal_release(wal, 100, NULL), 0); /* the marker is not synced yet: nothing may go */
    wal_stats(wal, &after);
    assert_int_equal(before.segments, after.segments);
    sync_now(wal);
    assert_int_equal(wal_release(wal, 100, NULL), 0);
    wal_stats(wal, &after);
    assert_true(after.segments < before.segments / 2);
    assert_true(after.first_sequence > 1);
    wal_close(wal);
    struct wal_replay replay;
    wal = reopen(&f->config, &replay);
    assert_int_equal(replay.snapshot.index, 80);
    assert_true(raft_id_set_has(&replay.snapshot.conf.learners, 3));
    assert_int_equal(replay.entries_len, 20);
    assert_entry(&replay, 81, 1);
    assert_entry(&replay, 100, 1);
    wal_replay_done(&replay);
    wal_close(wal);
}

static void an_installed_snapshot_restarts_the_log_after_it(void **state)
{
    struct fixture *f = *state;
    struct wal *wal = create(&f->config);
    append(wal, 2, 20, 1, 100);
    struct wal_snapshot marker = snapshot_at(500, 3);
    assert_int_equal(wal_append_snapshot(wal, &marker, NULL), 0);
    append(wal, 501, 502, 3, 100);
    append_state(wal, 3, 2, 500);
    sync_now(wal);
    wal_close(wal);
    struct wal_replay replay;
    wal = reopen(&f->config, &replay);
    assert_int_equal(replay.snapshot.index, 500);
    assert_int_equal(replay.entries_len, 2);
    assert_entry(&replay, 501, 3);
    wal_replay_done(&replay);
    wal_close(wal);
}

static void a_snapshot_that_conflicts_drops_the_whole_tail(void **state)
{
    struct fixture *f = *state;
    struct wal *wal = create(&f->config);
    append(wal, 2, 20, 1, 100);
    struct wal_snapshot marker = snapshot_at(10, 2);
    assert_int_equal(wal_append_snapshot(wal, &marker, NULL), 0);
    sync_now(wal);
    wal_close(wal);
    struct wal_replay replay;
    wal = reopen(&f->config, &replay);
    assert_int_equal(replay.entries_len, 0);
    append(wal, 11, 11, 2, 0);
    wal_replay_done(&replay);
    wal_close(wal);
}

/* ---- damage ----------------------------------------------------------------------------------------------------- */
/* Three synced batches; the offset where the last record begins and ends. */
static void make_log(struct fixture *f, size_t *ret_start, size_t *ret_end)
{
    f->config.segment_bytes = 1 << 14;
    struct wal *wal = create(&f->config);
    struct wal_stats a, b;
    append(wal, 2, 5, 1, 100);
    append_state(wal, 1, 1, 4);
    sync_now(wal);
    append(wal, 6, 6, 1, 700);
    sync_now(wal);
    wal_stats(wal, &a);
    append(wal, 7, 7, 1, 700);
    sync_now(wal);
    wal_stats(wal, &b);
    wal_close(wal);
    *ret_start = (size_t)a.bytes_written;
    *ret_end = (size_t)b.bytes_written;
}

static struct wal_disk *copy_of(const struct fixture *f, struct wal_config *config)
{
    struct wal_disk *disk = kp_calloc(1, sizeof(*disk));
    wal_disk_copy(disk, f->disk);
    *config = f->config;
    config->io = &disk->io;
    return disk;
}

static void drop_copy(struct wal_disk *disk)
{
    wal_disk_done(disk);
    free(disk);
}

static void a_tail_torn_at_any_byte_is_repaired(void **state)
{
    struct fixture *f = *state;
    size_t start, end;
    make_log(f, &start, &end);
    for (int way = 0; way < 2; way++)
        for (size_t cut = start; cut < end; cut++) {
            struct wal_config config;
            struct wal_disk *disk = copy_of(f, &config);
            struct wal_disk_bytes *segment = wal_disk_last_segment(disk);
            memset(segment->data + cut, 0, segment->len - cut);
            if (way == 1)
                segment->len = cut; /* the file is shorter, instead of zero */
            struct wal_replay replay;
            struct wal *wal = reopen(&config, &replay);
            assert_int_equal(replay.entries_len, 5);
            assert_entry(&replay, 6, 1);
            assert_true(replay.torn_bytes <= cut - start && (replay.torn_bytes > 0) == (cut > start));
            wal_replay_done(&replay);
            append(wal, 7, 8, 2, 300); /* and the log goes on over it */
            sync_now(wal);
            wal_close(wal);
            wal = reopen(&config, &replay);
            assert_int_equal(replay.torn_bytes, 0);
            assert_int_equal(replay.entries_len, 7);
            assert_entry(&replay, 8, 2);
            wal_replay_done(&replay);
            wal_close(wal);
            drop_copy(disk);
        }
}

static void a_lost_sector_of_the_last_batch_is_repaired(void **state)
{
    struct fixture *f = *state;
    size_t start, end;
    make_log(f, &start, &end);
    for (size_t sector = start / 512; sector * 512 < end; sector++) {
        struct wal_config config;
        struct wal_disk *disk = copy_of(f, &config);
        struct wal_disk_bytes *segment = wal_disk_last_segment(disk);
        size_t from = KP_MAX(sector * 512, start), to = KP_MIN((sector + 1) * 512, end);
        memset(segment->data + from, 0, to - from);
        struct wal_replay replay;
        struct wal *wal = reopen(&config, &replay);
        assert_int_equal(replay.entries_len, 5);
        assert_true(replay.torn_bytes > 0);
        wal_replay_done(&replay);
        wal_close(wal);
        drop_copy(disk);
    }
}

static void any_flipped_bit_is_refused_with_file_and_offset(void **state)
{
    struct fixture *f = *state;
    size_t start, end;
    make_log(f, &start, &end);
    for (size_t at = 0; at < end; at++)
        for (int bit = 0; bit < 8; bit++) {
            if (at > 900 && at < start && bit != (int)(at % 8))
                continue; /* one bit a byte is enough inside long data */
            struct wal_config config;
            struct wal_disk *disk = copy_of(f, &config);
            wal_disk_last_segment(disk)->data[at] ^= (uint8_t)(1 << bit);
            struct wal_replay replay;
            struct wal *wal = NULL;
            struct kp_error error = {0};
            int code = wal_open(&config, &replay, &wal, &error);
            if (code != KP_ECORRUPT)
                fail_msg("bit %d of byte %zu (last record %zu-%zu): code %d", bit, at, start, end, code);
            assert_non_null(strstr(error.message, "/wal/0000000000000001-0000000000000002.wal"));
            assert_non_null(strstr(error.message, "offset"));
            drop_copy(disk);
        }
}

static void a_lost_sector_of_an_older_batch_is_refused(void **state)
{
    struct fixture *f = *state;
    size_t start, end;
    make_log(f, &start, &end);
    struct wal_disk_bytes *segment = wal_disk_last_segment(f->disk);
    size_t sector = (start / 512 - 1) * 512; /* inside the batch before the last: that one was synced */
    memset(segment->data + sector, 0, 512);
    struct wal_replay replay;
    struct kp_error error = {0};
    assert_int_equal(wal_read(&f->config, &replay, &error), KP_ECORRUPT);
    assert_non_null(strstr(error.message, "intact"));
}

static void an_old_record_in_the_place_of_a_newer_is_refused(void **state)
{
    struct fixture *f = *state;
    f->config.segment_bytes = 1 << 14;
    struct wal *wal = create(&f->config);
    size_t at[4];
    for (uint64_t i = 2; i <= 5; i++) {
        struct wal_stats stats;
        wal_stats(wal, &stats);
        at[i - 2] = (size_t)stats.bytes_written;
        append(wal, i, i, 1, 100);
        sync_now(wal);
    }
    wal_close(wal);
    struct wal_disk_bytes *segment = wal_disk_last_segment(f->disk);
    memcpy(segment->data + at[3], segment->data + at[2], at[3] - at[2]); /* a write that went to the wrong place */
    struct wal_replay replay;
    struct kp_error error = {0};
    assert_int_equal(wal_read(&f->config, &replay, &error), KP_ECORRUPT);
    assert_non_null(strstr(error.message, "does not follow"));
}

static void the_hard_state_outlives_the_segment_it_was_written_to(void **state)
{
    struct fixture *f = *state;
    struct wal *wal = create(&f->config);
    append_state(wal, 3, 2, 1);
    for (uint64_t i = 2; i <= 100; i++) {
        append(wal, i, i, 3, 200);
        sync_now(wal);
    }
    struct wal_snapshot marker = snapshot_at(90, 3);
    assert_int_equal(wal_append_snapshot(wal, &marker, NULL), 0);
    sync_now(wal);
    assert_int_equal(wal_release(wal, 90, NULL), 0);
    struct wal_stats stats;
    wal_stats(wal, &stats);
    assert_true(stats.first_sequence > 1);
    wal_close(wal);
    struct wal_replay replay;
    wal = reopen(&f->config, &replay);
    assert_int_equal(replay.hard_state.term, 3);
    assert_int_equal(replay.hard_state.vote, 2);
    wal_replay_done(&replay);
    wal_close(wal);
}

static void damage_in_an_older_segment_is_refused(void **state)
{
    struct fixture *f = *state;
    struct wal *wal = create(&f->config);
    for (uint64_t i = 2; i <= 60; i++) {
        append(wal, i, i, 1, 200);
        sync_now(wal);
    }
    wal_close(wal);
    struct wal_disk_bytes *segments[64];
    size_t len = wal_disk_segments(f->disk, segments, 64);
    assert_true(len >= 3);
    for (int way = 0; way < 3; way++) {
        struct wal_config config;
        struct wal_disk *disk = copy_of(f, &config);
        wal_disk_segments(disk, segments, 64);
        if (way == 0)
            segments[1]->data[segments[1]->len / 2] ^= 1;
        else if (way == 1)
            segments[1]->len -= 100; /* its tail is gone */
        else
            memset(segments[1]->data + segments[1]->len - 300, 0, 300);
        struct wal_replay replay;
        struct kp_error error = {0};
        assert_int_equal(wal_open(&config, &replay, &wal, &error), KP_ECORRUPT);
        assert_non_null(strstr(error.message, "/wal/"));
        drop_copy(disk);
    }
}

static void a_missing_segment_is_refused(void **state)
{
    struct fixture *f = *state;
    struct wal *wal = create(&f->config);
    for (uint64_t i = 2; i <= 60; i++) {
        append(wal, i, i, 1, 200);
        sync_now(wal);
    }
    wal_close(wal);
    for (size_t i = 0; i < f->disk->live_len; i++)
        if (strstr(f->disk->live[i].path, "/0000000000000002-"))
            f->disk->live[i] = f->disk->live[--f->disk->live_len];
    struct wal_replay replay;
    struct kp_error error = {0};
    assert_int_equal(wal_open(&f->config, &replay, &wal, &error), KP_ECORRUPT);
    assert_non_null(strstr(error.message, "0000000000000002 is missing"));
}

static void a_commit_beyond_the_log_is_refused(void **state)
{
    struct fixture *f = *state;
    size_t start, end;
    make_log(f, &start, &end);
    struct wal_replay replay;
    struct wal *wal = reopen(&f->config, &replay);
    wal_replay_done(&replay);
    append_state(wal, 1, 1, 9);
    sync_now(wal);
    wal_close(wal);
    assert_int_equal(wal_read(&f->config, &replay, NULL), KP_ECORRUPT);
}

/* ---- a real file system ----------------------------------------------------------------------------------------- */
static void a_real_folder_works_and_is_locked(void **state)
{
    (void)state;
    char folder[] = "/tmp/test_wal.XXXXXX";
    assert_non_null(mkdtemp(folder));
    KP_AUTO_FREE char *path = kp_asprintf("%s/wal", folder);
    struct wal_config config = {path, NULL, 1 << 16};
    struct wal *wal = create(&config), *second = NULL;
    for (uint64_t i = 2; i <= 300; i++) {
        append(wal, i, i, 1, 1000);
        if (i % 10 == 0)
            sync_now(wal);
    }
    sync_now(wal);
    struct wal_replay replay;
    assert_int_equal(wal_open(&config, &replay, &second, NULL), KP_ECONFLICT);
    assert_int_equal(wal_read(&config, &replay, NULL), 0); /* looking is allowed */
    assert_int_equal(replay.entries_len, 299);
    wal_replay_done(&replay);
    struct wal_snapshot marker = snapshot_at(250, 1);
    assert_int_equal(wal_append_snapshot(wal, &marker, NULL), 0);
    sync_now(wal);
    assert_int_equal(wal_release(wal, 250, NULL), 0);
    wal_close(wal);
    wal = reopen(&config, &replay);
    assert_int_equal(replay.entries_len, 50);
    assert_entry(&replay, 300, 1);
    wal_replay_done(&replay);
    wal_close(wal);
    assert_int_equal(kp_remove_tree(folder, NULL), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_new_log_begins_after_the_initial_configuration),
        T(an_existing_log_is_not_made_anew),
        T(opening_no_log_says_so),
        T(replay_gives_what_was_appended_over_many_segments),
        T(many_appends_are_one_sync),
        T(an_entry_replaces_its_index_and_all_after),
        T(entries_are_taken_in_order_only),
        T(replay_starts_after_the_last_marker_and_release_drops_what_is_before),
        T(an_installed_snapshot_restarts_the_log_after_it),
        T(a_snapshot_that_conflicts_drops_the_whole_tail),
        T(a_tail_torn_at_any_byte_is_repaired),
        T(a_lost_sector_of_the_last_batch_is_repaired),
        T(any_flipped_bit_is_refused_with_file_and_offset),
        T(a_lost_sector_of_an_older_batch_is_refused),
        T(an_old_record_in_the_place_of_a_newer_is_refused),
        T(the_hard_state_outlives_the_segment_it_was_written_to),
        T(damage_in_an_older_segment_is_refused),
        T(a_missing_segment_is_refused),
        T(a_commit_beyond_the_log_is_refused),
        T(a_real_folder_works_and_is_locked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
