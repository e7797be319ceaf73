/* What the journal knows of changes and removals that were cut short. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "provisioner/cli/operation_internal.h"

static char dir[64];
static struct cli_operation op;

static int setup(void **state)
{
    snprintf(dir, sizeof(dir), "/tmp/kprov-unfinished-XXXXXX");
    memset(&op, 0, sizeof(op));
    op.cluster.name = "demo";
    return mkdtemp(dir) && setenv("KPROV_STATE_DIR", dir, 1) == 0 ? state_open("demo", true, &op.state, NULL) : -1;
}

static int teardown(void **state)
{
    state_close(op.state);
    return kp_remove_tree(dir, NULL);
}

static size_t count(void)
{
    struct kp_strings names = {0};
    assert_int_equal(cli_unfinished_removals("demo", &names, NULL), 0);
    size_t n = names.len;
    kp_strings_done(&names);
    return n;
}

static void a_removal_is_unfinished_until_it_is_done(void **state)
{
    struct kp_error error = {0};
    assert_int_equal(count(), 0);
    assert_int_equal(cli_op_removal_begin(&op, "demo-w-1", NULL), 0);
    assert_int_equal(cli_op_removal_begin(&op, "demo-w-2", NULL), 0);
    assert_int_equal(count(), 2);
    kp_fail(&error, KP_ETIMEOUT, "its pods stay");
    assert_int_equal(cli_op_removal_end(&op, "demo-w-1", KP_ETIMEOUT, &error), KP_ETIMEOUT);
    assert_int_equal(count(), 2);
    assert_int_equal(cli_op_removal_end(&op, "demo-w-2", 0, NULL), 0);
    assert_int_equal(count(), 1);
    assert_int_equal(cli_op_removal_begin(&op, "demo-w-1", NULL), 0);
    assert_int_equal(cli_op_removal_end(&op, "demo-w-1", 0, NULL), 0);
    assert_int_equal(count(), 0);
}

static int step_result;
static int step(struct cli_operation *of, struct kp_error *error)
{
    return step_result < 0 ? kp_fail(error, step_result, "planted") : 0;
}
static const struct cli_step steps[] = {{"Step", step, false}, {0}};

static bool is_unfinished(void)
{
    bool unfinished = false;
    assert_int_equal(cli_change_is_unfinished("demo", &unfinished, NULL), 0);
    return unfinished;
}

static void a_change_that_failed_is_due_again(void **state)
{
    struct kp_error error = {0};
    assert_false(is_unfinished());
    step_result = KP_EQUOTA;
    assert_int_equal(cli_op_change(&op, steps, &error), KP_EQUOTA);
    assert_true(is_unfinished());
    step_result = 0;
    assert_int_equal(cli_op_change(&op, steps, &error), 0);
    assert_false(is_unfinished());
}

static void the_change_of_one_machine_does_not_finish_that_of_all(void **state)
{
    struct kp_error error = {0};
    step_result = KP_EQUOTA;
    assert_int_equal(cli_op_change(&op, steps, &error), KP_EQUOTA);
    step_result = 0;
    op.only = "demo-w-1";
    assert_int_equal(cli_op_change(&op, steps, &error), 0);
    assert_true(is_unfinished());
    op.only = NULL;
    assert_int_equal(cli_op_change(&op, steps, &error), 0);
    op.only = "demo-w-1";
    assert_int_equal(cli_op_change(&op, steps, &error), 0);
    assert_false(is_unfinished());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_removal_is_unfinished_until_it_is_done, setup, teardown),
        cmocka_unit_test_setup_teardown(a_change_that_failed_is_due_again, setup, teardown),
        cmocka_unit_test_setup_teardown(the_change_of_one_machine_does_not_finish_that_of_all, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
