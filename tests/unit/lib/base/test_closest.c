/* Which known word a mistyped one is taken for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/base.h"

static const char *const known[] = {"create", "delete", "describe", "get", "validate", NULL};

static void a_slip_finds_its_word(void **state)
{
    assert_string_equal(kp_closest("craete", known), "create");
    assert_string_equal(kp_closest("crate", known), "create");
    assert_string_equal(kp_closest("delet", known), "delete");
    assert_string_equal(kp_closest("gte", (const char *const[]){"get", "gt", NULL}), "gt");
    assert_string_equal(kp_closest("validaet", known), "validate");
}

static void another_word_finds_none(void **state)
{
    static const char *const none[] = {NULL};
    assert_null(kp_closest("install", known));
    assert_null(kp_closest("", known));
    assert_null(kp_closest("create", none));
    assert_null(kp_closest("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", known));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slip_finds_its_word),
        cmocka_unit_test(another_word_finds_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
