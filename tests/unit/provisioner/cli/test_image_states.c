/* Folders of state that go by one folder of images know of each other's clusters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>

#include "provisioner/cli/cli.h"

static char dir[] = "/tmp/test-states-XXXXXX";

static const char *folder(const char *name, bool made)
{
    static char path[256];
    struct kp_error error = {0};
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    if (made)
        assert_int_equal(kp_mkdir_p(path, 0700, &error), 0);
    return path;
}

static int setup(void **state)
{
    snprintf(dir, sizeof(dir), "/tmp/test-states-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    setenv("KPROV_IMAGE_DIR", folder("images", false), 1);
    return 0;
}

static int teardown(void **state)
{
    struct kp_error error = {0};
    unsetenv("KPROV_IMAGE_DIR");
    unsetenv("KPROV_STATE_DIR");
    return kp_remove_tree(dir, &error);
}

static void note_from(const char *name)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_error error = {0};
    setenv("KPROV_STATE_DIR", folder(name, true), 1);
    for (int again = 0; again < 2; again++)
        assert_int_equal(cli_image_note_state(arena, &error), 0);
}

static void check(const char *const *wanted)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_strings roots = {0};
    struct kp_error error = {0};
    size_t n = 0;
    assert_int_equal(cli_image_states(arena, &roots, &error), 0);
    for (; wanted[n]; n++)
        assert_true(n < roots.len && kp_ends_with(roots.items[n], wanted[n]));
    assert_int_equal(roots.len, n);
    kp_strings_done(&roots);
}

static void the_own_one_comes_first_and_each_is_there_once(void **state)
{
    note_from("a");
    note_from("b");
    note_from("a");
    check((const char *const[]){"/a", "/b", NULL});
    setenv("KPROV_STATE_DIR", folder("c", false), 1); /* that never asked for an image */
    check((const char *const[]){"/c", "/a", "/b", NULL});
}

static void one_that_is_gone_counts_no_more(void **state)
{
    struct kp_error error = {0};
    note_from("a");
    note_from("b");
    assert_int_equal(kp_remove_tree(folder("a", false), &error), 0);
    check((const char *const[]){"/b", NULL});
    note_from("d");
    check((const char *const[]){"/d", "/b", NULL});
}

static void without_notes_there_is_the_own_one(void **state)
{
    setenv("KPROV_STATE_DIR", folder("a", false), 1);
    check((const char *const[]){"/a", NULL});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_own_one_comes_first_and_each_is_there_once, setup, teardown),
        cmocka_unit_test_setup_teardown(one_that_is_gone_counts_no_more, setup, teardown),
        cmocka_unit_test_setup_teardown(without_notes_there_is_the_own_one, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
