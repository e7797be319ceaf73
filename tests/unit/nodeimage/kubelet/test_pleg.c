/* How often the runtime is looked at. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "nodeimage/kubelet/kubelet_internal.h"

static void looks_are_quick_while_something_happens_then_slow(void **state)
{
    (void)state;
    assert_int_equal(kubelet_pleg_wait_ms(2, 0, 0, false), 25);
    assert_int_equal(kubelet_pleg_wait_ms(2, 399, 25, false), 25);
    assert_int_equal(kubelet_pleg_wait_ms(2, 400, 25, false), 50);
    assert_int_equal(kubelet_pleg_wait_ms(2, 60000, 600, false), 1000);
}

static void with_events_looks_follow_each_and_then_rest(void **state)
{
    (void)state;
    int64_t wait_ms = 0, all_ms = 0;
    size_t looks = 0;
    for (; wait_ms < 10000; looks++) {
        wait_ms = kubelet_pleg_wait_ms(2, all_ms, wait_ms, true);
        all_ms += wait_ms;
    }
    assert_int_equal(looks, 10);      /* 25, 50, ... */
    assert_in_range(all_ms, 20000, 25000);
    assert_int_equal(kubelet_pleg_wait_ms(2, 0, 10000, true), 10000);
    assert_int_equal(kubelet_pleg_wait_ms(2, 10000, 0, true), 25); /* another event */
}

static void a_slow_machine_rests_in_proportion(void **state)
{
    (void)state;
    assert_int_equal(kubelet_pleg_wait_ms(100, 0, 0, false), 400);
    assert_int_equal(kubelet_pleg_wait_ms(100, 0, 0, true), 400);
    assert_int_equal(kubelet_pleg_wait_ms(5000, 0, 0, true), 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(looks_are_quick_while_something_happens_then_slow),
        cmocka_unit_test(with_events_looks_follow_each_and_then_rest),
        cmocka_unit_test(a_slow_machine_rests_in_proportion),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
