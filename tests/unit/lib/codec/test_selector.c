/* Label and field selectors: parsing, error texts, matching, printing. */
#include "api/k8s.h"

#include <setjmp.h>
#include <cmocka.h>

static struct kp_arena *arena;
static struct kp_string_pair label_items[] = {{"app", "web"}, {"empty", ""}, {"num", "7"}, {"tier", "front"}};
static const struct kp_string_map labels = {label_items, 4};

static int setup(void **state)
{
    (void)state;
    arena = kp_arena_new(0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    kp_arena_free(arena);
    return 0;
}

static bool matches(const char *text)
{
    struct kp_selector selector;
    struct kp_error error = {0};
    if (kp_label_selector_parse(text, arena, &selector, &error) < 0)
        fail_msg("%s: %s", text, error.message);
    return kp_selector_matches(&selector, &labels);
}

static void string_selectors_match(void **state)
{
    (void)state;
    static const char *const yes[] = {"", "app=web", "app==web", " app = web , tier=front ", "app!=db", "other!=x", "app in (db, web)", "app notin (db)",
                                      "other notin (x)", "app", "!other", "num>6", "num<8", "empty=", "empty in (,x)", "in=x,in!=x,!in"};
    static const char *const no[] = {"app=db", "other=x", "other", "!app", "num>7", "app>1", "app in (db)", "app notin (web)", "app=", "other in (x)"};
    for (size_t i = 0; i + 1 < KP_ARRAY_LEN(yes); i++)
        if (!matches(yes[i]))
            fail_msg("%s does not match", yes[i]);
    for (size_t i = 0; i < KP_ARRAY_LEN(no); i++)
        if (matches(no[i]))
            fail_msg("%s matches", no[i]);
}

static void malformed_selectors_say_why(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"app=web,", "found '', expected: identifier after ','"},
        {"app in db", "found 'db' expected: '('"},
        {"app in (a", "expected: ',', or ')'"},
        {"app web", "found 'web', expected: in, notin, =, ==, !=, gt, lt"},
        {"=x", "found '=', expected: !, identifier, or 'end of string'"},
        {"a b=c", "found 'b', expected"},
        {"-a=b", "key: Invalid value: \"-a\": name part must consist of alphanumeric characters"},
        {"a=b_", "values[0][a]: Invalid value: \"b_\": a valid label must be an empty string or consist of"},
        {"a>x", "the value must be an integer"},
        {"a=(", "found '(', expected: identifier"},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(cases); i++) {
        struct kp_selector selector;
        struct kp_error error = {0};
        if (kp_label_selector_parse(cases[i][0], arena, &selector, &error) != KP_EBADREQUEST || !strstr(error.message, cases[i][1]))
            fail_msg("%s: expected %s, got %s", cases[i][0], cases[i][1], error.message);
        assert_true(kp_starts_with(error.message, "unable to parse requirement: "));
    }
}

static void struct_selectors_match(void **state)
{
    (void)state;
    const char *in[] = {"web", "db"};
    struct kp_string_pair pairs[] = {{"tier", "front"}};
    struct k8s_label_selector_requirement expressions[] = {{.key = "app", .operator = "In", .values = {in, 2}}, {.key = "gone", .operator = "DoesNotExist"}};
    struct k8s_label_selector ls = {.match_labels = {pairs, 1}, .match_expressions = {expressions, 2}}, empty = {0};
    struct kp_selector selector;
    struct kp_error error = {0};
    assert_int_equal(kp_label_selector_from(&ls, arena, &selector, &error), 0);
    assert_true(kp_selector_matches(&selector, &labels));
    assert_true(kp_label_selector_matches(&ls, &labels));
    KP_AUTO_BUF struct kp_buf text = {0};
    kp_selector_print(&selector, &text);
    assert_string_equal(text.data, "app in (db,web),!gone,tier=front");
    expressions[1].operator = "Exists";
    assert_false(kp_label_selector_matches(&ls, &labels));
    assert_true(kp_label_selector_matches(&empty, NULL));
    assert_false(kp_label_selector_matches(NULL, &labels));
    assert_int_equal(kp_label_selector_from(NULL, arena, &selector, &error), 0);
    assert_false(kp_selector_matches(&selector, &labels));
    expressions[1].operator = "Near";
    assert_int_equal(kp_label_selector_from(&ls, arena, &selector, &error), KP_EINVALID);
    assert_string_equal(error.message, "\"Near\" is not a valid label selector operator");
}

static const char *get_field(void *ctx, const char *field)
{
    (void)ctx;
    return strcmp(field, "metadata.name") == 0 ? "a,b" : strcmp(field, "status.phase") == 0 ? "Running" : "";
}

static bool field_matches(const char *text)
{
    struct kp_selector selector;
    struct kp_error error = {0};
    if (kp_field_selector_parse(text, arena, &selector, &error) < 0)
        fail_msg("%s: %s", text, error.message);
    return kp_field_selector_matches(&selector, get_field, NULL);
}

static void field_selectors_match(void **state)
{
    (void)state;
    assert_true(field_matches(""));
    assert_true(field_matches("metadata.name=a\\,b,status.phase!=Failed"));
    assert_true(field_matches("spec.nodeName=,status.phase==Running"));
    assert_false(field_matches("status.phase=Failed"));
    assert_false(field_matches("status.phase!=Running"));
    struct kp_selector selector;
    struct kp_error error = {0};
    assert_int_equal(kp_field_selector_parse("abc", arena, &selector, &error), KP_EBADREQUEST);
    assert_int_equal(kp_field_selector_parse("a=b=c", arena, &selector, &error), KP_EBADREQUEST);
    assert_int_equal(kp_field_selector_parse("a=\\x", arena, &selector, &error), KP_EBADREQUEST);
}

static void names_are_checked(void **state)
{
    (void)state;
    assert_null(kp_validate_qualified_name("app.kubernetes.io/name"));
    assert_null(kp_validate_qualified_name("Simple_1.x-y"));
    assert_non_null(kp_validate_qualified_name("a/b/c"));
    assert_non_null(kp_validate_qualified_name("/b"));
    assert_non_null(kp_validate_qualified_name("Up.case/b"));
    assert_non_null(kp_validate_qualified_name("a..b/c"));
    assert_non_null(kp_validate_qualified_name("a-.b/c"));
    assert_non_null(kp_validate_qualified_name("a/"));
    assert_non_null(kp_validate_qualified_name("1234567890123456789012345678901234567890123456789012345678901234"));
    assert_null(kp_validate_label_value(""));
    assert_non_null(kp_validate_label_value("a b"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(string_selectors_match, setup, teardown),
        cmocka_unit_test_setup_teardown(malformed_selectors_say_why, setup, teardown),
        cmocka_unit_test_setup_teardown(struct_selectors_match, setup, teardown),
        cmocka_unit_test_setup_teardown(field_selectors_match, setup, teardown),
        cmocka_unit_test(names_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
