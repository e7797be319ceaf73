/* The database: batches with their consistent index, snapshots, and upkeep. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "controlplane/etcd/backend/backend.h"

struct fixture {
    char dir[64], path[96];
    struct backend *backend;
};

static void open_backend(struct fixture *f, int64_t quota)
{
    struct kp_error error = {0};
    struct backend_options options = {.batch_interval_ms = 60000, .quota_bytes = quota};
    assert_int_equal(backend_open(f->path, &options, &f->backend, &error), 0);
}

static int setup(void **state)
{
    struct fixture *f = kp_calloc(1, sizeof *f);
    strcpy(f->dir, "/tmp/test-backend-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof f->path, "%s/db", f->dir);
    open_backend(f, 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    backend_close(f->backend);
    assert_int_equal(kp_remove_tree(f->dir, NULL), 0);
    free(f);
    return 0;
}

static void write_revision(struct backend *backend, int64_t main, const char *text)
{
    KP_AUTO(kp_blob_unref) struct kp_blob *record = kp_blob_new(text, strlen(text));
    backend_write_lock(backend);
    backend_put_revision(backend, main, 0, record);
    backend_set_consistent_index(backend, (uint64_t)main, 3);
    backend_write_unlock(backend);
}

static int read_revision(struct backend *backend, int64_t main, char *out, size_t size)
{
    struct backend_reader *reader = NULL;
    struct kp_bytes record;
    backend_read_lock(backend);
    int rc = backend_reader_begin(backend, &reader, NULL);
    backend_read_unlock(backend);
    assert_int_equal(rc, 0);
    rc = backend_reader_revision(reader, main, 0, &record, NULL);
    if (rc == 0)
        snprintf(out, size, "%.*s", (int)record.len, record.data);
    backend_reader_end(reader);
    return rc;
}

static void a_commit_moves_pending_to_disk_with_its_index(void **state)
{
    struct fixture *f = *state;
    char text[32];
    uint64_t index, term;
    write_revision(f->backend, 2, "two");
    backend_read_lock(f->backend);
    struct kp_blob *pending = backend_pending_revision(f->backend, 2, 0);
    backend_read_unlock(f->backend);
    assert_non_null(pending);
    kp_blob_unref(pending);
    assert_int_equal(read_revision(f->backend, 2, text, sizeof text), KP_ENOTFOUND);
    backend_committed_index(f->backend, &index, &term);
    assert_int_equal(index, 0);
    assert_int_equal(backend_commit(f->backend, NULL), 0);
    assert_int_equal(read_revision(f->backend, 2, text, sizeof text), 0);
    assert_string_equal(text, "two");
    backend_committed_index(f->backend, &index, &term);
    assert_int_equal(index, 2);
    assert_int_equal(term, 3);
    backend_read_lock(f->backend);
    assert_null(backend_pending_revision(f->backend, 2, 0));
    backend_read_unlock(f->backend);
}

static void closing_commits_and_reopening_finds_it(void **state)
{
    struct fixture *f = *state;
    char text[32];
    uint64_t index;
    write_revision(f->backend, 5, "five");
    backend_close(f->backend);
    open_backend(f, 0);
    backend_committed_index(f->backend, &index, NULL);
    assert_int_equal(index, 5);
    assert_int_equal(read_revision(f->backend, 5, text, sizeof text), 0);
    struct stat st;
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void a_killed_process_leaves_whole_batches(void **state)
{
    struct fixture *f = *state;
    backend_close(f->backend);
    pid_t pid = fork();
    if (pid == 0) {
        open_backend(f, 0);
        write_revision(f->backend, 7, "seven");
        if (backend_commit(f->backend, NULL) < 0)
            _exit(1);
        write_revision(f->backend, 8, "eight");
        _exit(0); /* without closing: the second batch is lost, with its index */
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    open_backend(f, 0);
    char text[32];
    uint64_t index;
    backend_committed_index(f->backend, &index, NULL);
    assert_int_equal(index, 7);
    assert_int_equal(read_revision(f->backend, 7, text, sizeof text), 0);
    assert_int_equal(read_revision(f->backend, 8, text, sizeof text), KP_ENOTFOUND);
}

static void a_snapshot_does_not_see_later_batches(void **state)
{
    struct fixture *f = *state;
    struct backend_reader *reader = NULL;
    struct kp_bytes record;
    write_revision(f->backend, 2, "two");
    assert_int_equal(backend_commit(f->backend, NULL), 0);
    assert_int_equal(backend_reader_begin(f->backend, &reader, NULL), 0);
    backend_write_lock(f->backend);
    backend_delete_revision(f->backend, 2, 0);
    backend_write_unlock(f->backend);
    assert_int_equal(backend_commit(f->backend, NULL), 0);
    assert_int_equal(backend_reader_revision(reader, 2, 0, &record, NULL), 0);
    backend_reader_end(reader);
    char text[32];
    assert_int_equal(read_revision(f->backend, 2, text, sizeof text), KP_ENOTFOUND);
}

static void defragment_gives_space_back(void **state)
{
    struct fixture *f = *state;
    KP_AUTO_FREE char *big = kp_calloc(1, 100001);
    memset(big, 'x', 100000);
    for (int i = 2; i < 52; i++)
        write_revision(f->backend, i, big);
    assert_int_equal(backend_commit(f->backend, NULL), 0);
    backend_write_lock(f->backend);
    for (int i = 2; i < 51; i++)
        backend_delete_revision(f->backend, i, 0);
    backend_write_unlock(f->backend);
    uint32_t before, after;
    assert_int_equal(backend_hash(f->backend, &before, NULL), 0);
    int64_t size = backend_size(f->backend);
    assert_true(backend_size_in_use(f->backend) < size / 2);
    assert_int_equal(backend_defragment(f->backend, NULL), 0);
    assert_true(backend_size(f->backend) < size / 2);
    assert_int_equal(backend_hash(f->backend, &after, NULL), 0);
    assert_int_equal(before, after);
    KP_AUTO_FREE char *text = kp_calloc(1, 100001);
    assert_int_equal(read_revision(f->backend, 51, text, 100001), 0);
    assert_string_equal(text, big);
}

static void an_image_opens_as_a_database(void **state)
{
    struct fixture *f = *state;
    char path[128], text[32];
    uint64_t index, term;
    KP_AUTO_BUF struct kp_buf meta = {0};
    write_revision(f->backend, 9, "nine");
    snprintf(path, sizeof path, "%s/copy", f->dir);
    struct kp_error error = {0};
    assert_int_equal(backend_image(f->backend, path, "mark", &index, &term, &meta, &error), KP_ENOTFOUND);
    backend_write_lock(f->backend);
    backend_put(f->backend, BACKEND_META, "mark", 4, "yes", 3);
    backend_set_consistent_index(f->backend, 10, 2);
    backend_write_unlock(f->backend);
    assert_int_equal(backend_image(f->backend, path, "mark", &index, &term, &meta, NULL), 0);
    assert_int_equal(index, 10);
    assert_int_equal(term, 2);
    assert_memory_equal(meta.data, "yes", 3);
    struct backend *copy = NULL;
    assert_int_equal(backend_open(path, NULL, &copy, NULL), 0);
    assert_int_equal(read_revision(copy, 9, text, sizeof text), 0);
    assert_string_equal(text, "nine");
    backend_close(copy);
}

static void the_quota_counts_pending_bytes(void **state)
{
    struct fixture *f = *state;
    backend_close(f->backend);
    open_backend(f, 1 << 20);
    assert_false(backend_over_quota(f->backend, 1000));
    assert_true(backend_over_quota(f->backend, 1 << 20));
    KP_AUTO_FREE char *big = kp_calloc(1, (1 << 20) + 1);
    memset(big, 'x', 1 << 20);
    write_revision(f->backend, 2, big);
    assert_true(backend_over_quota(f->backend, 0));
}

static void a_damaged_file_is_refused(void **state)
{
    struct fixture *f = *state;
    char path[128];
    struct backend *bad = NULL;
    struct kp_error error = {0};
    snprintf(path, sizeof path, "%s/bad", f->dir);
    assert_int_equal(kp_write_file(path, "this is no database, whatever its name says", 43, 0600, NULL), 0);
    assert_true(backend_open(path, NULL, &bad, &error) < 0);
    assert_non_null(strstr(error.message, path));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_commit_moves_pending_to_disk_with_its_index, setup, teardown),
        cmocka_unit_test_setup_teardown(closing_commits_and_reopening_finds_it, setup, teardown),
        cmocka_unit_test_setup_teardown(a_killed_process_leaves_whole_batches, setup, teardown),
        cmocka_unit_test_setup_teardown(a_snapshot_does_not_see_later_batches, setup, teardown),
        cmocka_unit_test_setup_teardown(defragment_gives_space_back, setup, teardown),
        cmocka_unit_test_setup_teardown(an_image_opens_as_a_database, setup, teardown),
        cmocka_unit_test_setup_teardown(the_quota_counts_pending_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_damaged_file_is_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
