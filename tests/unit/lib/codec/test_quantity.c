/* Quantities: what parses, the canonical form, rounding, capping, arithmetic. */
#include "api/k8s.h"

#include <setjmp.h>
#include <cmocka.h>

static void assert_canonical(const char *in, const char *out)
{
    struct kp_quantity q;
    struct kp_error error = {0};
    char text[KP_QUANTITY_MAX];
    if (kp_quantity_parse(in, &q, &error) < 0)
        fail_msg("%s: %s", in, error.message);
    kp_quantity_format(&q, text);
    assert_string_equal(text, out);
}

static void canonical_forms(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"0", "0"},           {"1000m", "1"},       {"0.5", "500m"},     {"1.5", "1500m"},    {"1500m", "1500m"},     {"1024Mi", "1Gi"},
        {"1.5Gi", "1536Mi"},  {"1000Ki", "1000Ki"}, {"1024", "1024"},    {"1000", "1k"},      {"2000000", "2M"},      {"100Ki", "100Ki"},
        {"0.5Ki", "512"},     {"0.1Ki", "102400m"}, {"1e3", "1e3"},      {"1.5e3", "1500"},   {"1E3", "1e3"},         {"1E", "1E"},
        {"12e6", "12e6"},     {"1u", "1u"},         {"0.1n", "1n"},      {"0.000000001", "1n"}, {"-1.5", "-1500m"},   {"+3", "3"},
        {"1.", "1"},          {".5", "500m"},       {"00100", "100"},    {"1Ei", "1Ei"},      {"9223372036854775807", "9223372036854775807"},
        {"9223372036854775808", "9223372036854775807"}, {"100E", "9223372036854775807"},   {"8Ei", "9223372036854775807"},
        {"1e999999999", "9223372036854775807"},         {"0e999999999", "0"},              {"1e-999999999", "1e-9"}, {"0.5Mi", "512Ki"},
        {"123456789012345678901234567890", "9223372036854775807"}, {"0.0001Ki", "102400u"},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(cases); i++)
        assert_canonical(cases[i][0], cases[i][1]);
}

static void malformed_ones_are_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {"", "1.1.M", "1+1.0M", "0.1mi", "0.1am", "aoeu", ".5i", "1i", "-3.01i", "-3.01e-", " 1", "1 ", "1e", "1KiB", "m", "-", "1ki"};
    for (size_t i = 0; i < KP_ARRAY_LEN(cases); i++)
        if (kp_quantity_valid(cases[i]))
            fail_msg("%s parses", cases[i]);
    struct kp_quantity q;
    struct kp_error error = {0};
    assert_int_equal(kp_quantity_parse("x", &q, &error), KP_EBADREQUEST);
    assert_string_equal(error.message, "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'");
}

static void values_round_away_from_zero(void **state)
{
    (void)state;
    assert_int_equal(kp_quantity_str_value("1500m"), 2);
    assert_int_equal(kp_quantity_str_value("-1500m"), -2);
    assert_int_equal(kp_quantity_str_milli("1u"), 1);
    assert_int_equal(kp_quantity_str_milli("250m"), 250);
    assert_int_equal(kp_quantity_str_value("1Gi"), 1073741824);
    assert_int_equal(kp_quantity_str_milli("9223372036854775807"), INT64_MAX);
    assert_int_equal(kp_quantity_str_value(NULL), 0);
}

static void arithmetic_keeps_the_format(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_string_pair a_items[] = {{"cpu", "500m"}, {"memory", "1Gi"}}, b_items[] = {{"cpu", "600m"}, {"pods", "10"}};
    struct kp_string_map total = {0}, a = {a_items, 2}, b = {b_items, 2};
    kp_resource_list_add(arena, &total, &a);
    kp_resource_list_add(arena, &total, &b);
    assert_string_equal(kp_string_map_get(&total, "cpu"), "1100m");
    assert_string_equal(kp_string_map_get(&total, "memory"), "1Gi");
    assert_string_equal(kp_string_map_get(&total, "pods"), "10");
    kp_resource_list_sub(arena, &total, &a);
    assert_string_equal(kp_string_map_get(&total, "memory"), "0");
    kp_resource_list_max(arena, &total, &a);
    assert_string_equal(kp_string_map_get(&total, "memory"), "1Gi");
    assert_string_equal(kp_string_map_get(&total, "cpu"), "600m");
    assert_int_equal(kp_quantity_str_cmp("1", "1000m"), 0);
    assert_int_equal(kp_quantity_str_cmp("1Gi", "1G"), 1);
    assert_int_equal(kp_quantity_str_cmp(NULL, "1"), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(canonical_forms),
        cmocka_unit_test(malformed_ones_are_refused),
        cmocka_unit_test(values_round_away_from_zero),
        cmocka_unit_test(arithmetic_keeps_the_format),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
