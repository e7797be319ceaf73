/* The worker pool: its bounds, and that nothing accepted is lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/loop/loop.h"

struct gate {
    atomic_bool open;
    atomic_int inside, ran;
};

static void wait_at_gate(void *arg)
{
    struct gate *gate = arg;
    gate->inside++;
    while (!gate->open)
        kp_sleep_ms(1);
    gate->ran++;
}

static void a_full_queue_refuses_and_everything_accepted_runs(void **state)
{
    (void)state;
    struct gate gate = { 0 };
    struct pool *pool = pool_new("work", 2, 3);
    int accepted = 0, code = 0;
    while ((code = pool_submit(pool, wait_at_gate, &gate)) == 0)
        accepted++;
    assert_int_equal(code, KP_ETOOMANY);
    while (gate.inside < 2)
        kp_sleep_ms(1);
    while (pool_submit(pool, wait_at_gate, &gate) == 0) /* room that the two running ones left */
        accepted++;
    assert_int_equal(accepted, 5);
    assert_int_equal(pool_busy(pool), 2);
    assert_int_equal(pool_queued(pool), 3);
    gate.open = true;
    pool_free(pool);
    assert_int_equal(gate.ran, accepted);
}

static void count(void *arg)
{
    struct gate *gate = arg;
    gate->ran++;
}

static void many_small_pieces_all_run(void **state)
{
    (void)state;
    struct gate gate = { 0 };
    struct pool *pool = pool_new("work", 4, 10000);
    for (int i = 0; i < 10000; i++)
        assert_int_equal(pool_submit(pool, count, &gate), 0);
    pool_free(pool);
    assert_int_equal(gate.ran, 10000);
}

static void an_unused_pool_starts_no_thread(void **state)
{
    (void)state;
    struct pool *pool = pool_new("work", 4, 10);
    assert_int_equal(pool_busy(pool), 0);
    pool_free(pool);
    pool_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_queue_refuses_and_everything_accepted_runs),
        cmocka_unit_test(many_small_pieces_all_run),
        cmocka_unit_test(an_unused_pool_starts_no_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
