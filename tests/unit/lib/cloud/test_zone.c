/* Where machines go, in every cloud alike. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "cloud/cloud.h"

static void numbered_machines_are_in_zones_in_turn(void **state)
{
    static const struct {
        const char *name;
        size_t zones, zone;
    } cases[] = {{"lab-cp-1", 3, 0}, {"lab-cp-2", 3, 1}, {"lab-cp-3", 3, 2}, {"lab-cp-4", 3, 0}, {"w-10", 3, 0}, {"w-11", 3, 1}, {"w0", 3, 2},
                 {"w-12", 1, 0}, {"w-12", 0, 0}, {"w-1", 2, 0}, {"w-2", 2, 1}, {"7", 4, 2}, {"w-007", 4, 2}};
    for (size_t i = 0; i < KP_ARRAY_LEN(cases); i++)
        assert_int_equal(cloud_zone_of(cases[i].name, cases[i].zones), cases[i].zone);
}

static void any_name_has_a_zone_and_keeps_it(void **state)
{
    static const char *const names[] = {"", "w", "api", "w-99999999999999999999999999999999", "3d"};
    bool seen[8] = {0};
    size_t different = 0;
    for (size_t i = 0; i < KP_ARRAY_LEN(names); i++) {
        assert_true(cloud_zone_of(names[i], 3) < 3);
        assert_int_equal(cloud_zone_of(names[i], 3), cloud_zone_of(names[i], 3));
    }
    for (char name[] = "a"; *name <= 'z'; name[0]++)
        seen[cloud_zone_of(name, 8)] = true;
    for (size_t i = 0; i < 8; i++)
        different += seen[i];
    assert_true(different > 4); /* a hash, not one zone for all */
    assert_int_equal(cloud_zone_of("w-99999999999999999999999999999999", 3), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbered_machines_are_in_zones_in_turn),
        cmocka_unit_test(any_name_has_a_zone_and_keeps_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
