/* How far a machine's clock is off, from what it says and when it was asked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "provisioner/cli/clocks.h"

#define NOW 1700000000LL /* Tue, 14 Nov 2023 22:13:20 GMT */

static void a_date_is_read(void **state)
{
    int64_t s = 0;
    assert_int_equal(clocks_parse_date("Tue, 14 Nov 2023 22:13:20 GMT", &s), 0);
    assert_int_equal(s, NOW);
    assert_int_equal(clocks_parse_date("Thu, 01 Jan 1970 00:00:00 GMT", &s), 0);
    assert_int_equal(s, 0);
}

static void what_is_no_date_is_refused(void **state)
{
    static const char *const wrong[] = {
        NULL, "", "Tue", "Tue, 14 Nov 2023 22:13:20", "Tue, 14 Nov 2023 22:13:20 CET", "Tue, 14 Nov 2023 22:13:20 GMT x", "Tue, 14 Now 2023 22:13:20 GMT",
        "Tue, 32 Nov 2023 22:13:20 GMT", "Tue, 14 Nov 2023 24:13:20 GMT", "Tue, 14 Nov 2023 22:60:20 GMT", "Tue, 14 Nov 2023 22:13:61 GMT",
        "Tuesday, 14-Nov-23 22:13:20 GMT", "Tue Nov 14 22:13:20 2023", "Tue, -4 Nov 2023 22:13:20 GMT",
    };
    int64_t s = 7;
    for (size_t i = 0; i < KP_ARRAY_LEN(wrong); i++)
        if (clocks_parse_date(wrong[i], &s) != KP_EINVALID)
            fail_msg("accepted: %s", wrong[i]);
    assert_int_equal(s, 7);
}

static void a_second_says_when_between_asking_and_hearing(void **state)
{
    assert_int_equal(clocks_off_ms(NOW, NOW * 1000 + 500, NOW * 1000 + 700), 0);
    assert_int_equal(clocks_off_ms(NOW, NOW * 1000 + 1200, NOW * 1000 + 1300), -201); /* it was another second by then */
    assert_int_equal(clocks_off_ms(NOW, NOW * 1000 - 100, NOW * 1000 + 4000), 0);     /* a slow answer says little */
    assert_int_equal(clocks_off_ms(NOW + 15, NOW * 1000, NOW * 1000 + 10), 14990);
    assert_int_equal(clocks_off_ms(NOW - 15, NOW * 1000, NOW * 1000 + 10), -14001);
}

static void a_lease_tells_roughly(void **state)
{
    assert_int_equal(clocks_off_by_lease_ms(NOW * 1000, NOW * 1000 + 10000), 0);
    assert_int_equal(clocks_off_by_lease_ms(NOW * 1000 + 5000, NOW * 1000), 5000);
    assert_int_equal(clocks_off_by_lease_ms(NOW * 1000, NOW * 1000 + 100000), -60000);
}

static void when_all_are_off_alike_it_is_this_host(void **state)
{
    const struct clocks_row rows[] = {{"a", true, 9000, ""}, {"b", true, 8000, ""}, {"c", false, 0, "off"}, {"d", true, -9000, ""}};
    assert_true(clocks_is_this_host(rows, 3));
    assert_false(clocks_is_this_host(rows, 4));
    assert_false(clocks_is_this_host(rows, 1)); /* of two clocks nobody knows which */
    assert_false(clocks_is_this_host(rows, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_date_is_read),
        cmocka_unit_test(what_is_no_date_is_refused),
        cmocka_unit_test(a_second_says_when_between_asking_and_hearing),
        cmocka_unit_test(a_lease_tells_roughly),
        cmocka_unit_test(when_all_are_off_alike_it_is_this_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
