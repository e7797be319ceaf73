/* What objects are told that are not what their schema says: upstream's words. */
#include "controlplane/apiserver/structural/structural_internal.h"
#include "structural_test.h"

/* schema: of the property "a" of "spec"; value: its value; want: the faults. */
struct validate_case {
    const char *schema, *value, *want;
};

static void expect(const struct validate_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        const char *schema = kp_arena_printf(arena, "{\"type\":\"object\",\"properties\":{\"spec\":{\"type\":\"object\",\"properties\":{\"a\":%s}}}}", cases[i].schema);
        struct structural *structural = test_structural(arena, schema);
        const struct kp_value *object = test_value(arena, kp_arena_printf(arena, "{\"metadata\":{\"name\":\"n\"},\"spec\":{\"a\":%s}}", cases[i].value));
        struct field_errors errors = {.arena = arena};
        structural_validate(structural, object, &errors);
        const char *got = test_lines(arena, &errors);
        structural_free(structural);
        if (strcmp(got, cases[i].want) != 0)
            fail_msg("%s of %s:\n%s\nand not\n%s", cases[i].value, cases[i].schema, got, cases[i].want);
    }
}

#define TYPE_FAULT(got, type) "spec.a: Invalid value: \"" got "\": spec.a in body must be of type " type ": \"" got "\""

static void types_are_told_with_upstreams_words(void **state)
{
    static const struct validate_case cases[] = {
        {"{\"type\":\"integer\"}", "\"x\"", TYPE_FAULT("string", "integer")},
        {"{\"type\":\"integer\"}", "1.5", TYPE_FAULT("number", "integer")},
        {"{\"type\":\"integer\"}", "2.0", ""},
        {"{\"type\":\"integer\"}", "1e30", TYPE_FAULT("number", "integer")},
        {"{\"type\":\"integer\",\"format\":\"int32\"}", "1.5", TYPE_FAULT("float64", "int32")},
        {"{\"type\":\"integer\",\"format\":\"int32\"}", "\"x\"", TYPE_FAULT("string", "integer")},
        {"{\"type\":\"integer\",\"format\":\"int32\"}", "2147483648",
         "<nil>: Invalid value: \"\": Checked value must be of type integer with format int32 in spec.a"},
        {"{\"type\":\"integer\",\"format\":\"int64\"}", "2147483648", ""},
        {"{\"type\":\"number\"}", "1", ""},
        {"{\"type\":\"number\",\"format\":\"float\"}", "1e300", "<nil>: Invalid value: \"\": Checked value must be of type number with format float in spec.a"},
        {"{\"type\":\"boolean\"}", "1", TYPE_FAULT("integer", "boolean")},
        {"{\"type\":\"string\"}", "null", TYPE_FAULT("null", "string")},
        {"{\"type\":\"string\",\"nullable\":true}", "null", ""},
        {"{\"type\":\"string\"}", "true", TYPE_FAULT("boolean", "string")},
        {"{\"type\":\"string\",\"format\":\"date\"}", "5", TYPE_FAULT("int64", "date")},
        {"{\"type\":\"string\",\"format\":\"date\"}", "[]", TYPE_FAULT("array", "string")},
        {"{\"type\":\"object\"}", "[]", TYPE_FAULT("array", "object")},
        {"{\"type\":\"array\",\"items\":{\"type\":\"string\"}}", "{}", TYPE_FAULT("object", "array")},
        {"{\"x-kubernetes-int-or-string\":true}", "\"80%\"", ""},
        {"{\"x-kubernetes-int-or-string\":true}", "80", ""},
        {"{\"x-kubernetes-int-or-string\":true}", "true", TYPE_FAULT("boolean", "integer,string")},
        {"{\"x-kubernetes-preserve-unknown-fields\":true}", "[null,{\"x\":1}]", ""},
    };
    expect(cases, KP_ARRAY_LEN(cases));
}

static void limits_of_scalars_are_told(void **state)
{
    static const struct validate_case cases[] = {
        {"{\"type\":\"integer\",\"maximum\":5}", "7", "spec.a: Invalid value: 7: spec.a in body should be less than or equal to 5"},
        {"{\"type\":\"integer\",\"maximum\":5}", "5", ""},
        {"{\"type\":\"integer\",\"maximum\":5,\"exclusiveMaximum\":true}", "5", "spec.a: Invalid value: 5: spec.a in body should be less than 5"},
        {"{\"type\":\"number\",\"minimum\":0.5}", "0.25", "spec.a: Invalid value: 0.25: spec.a in body should be greater than or equal to 0.5"},
        {"{\"type\":\"number\",\"minimum\":0.5,\"exclusiveMinimum\":true}", "0.5", "spec.a: Invalid value: 0.5: spec.a in body should be greater than 0.5"},
        {"{\"type\":\"integer\",\"minimum\":1000000}", "1", "spec.a: Invalid value: 1: spec.a in body should be greater than or equal to 1000000"},
        {"{\"type\":\"number\",\"minimum\":1000000}", "1.5", "spec.a: Invalid value: 1.5: spec.a in body should be greater than or equal to 1e+06"},
        {"{\"type\":\"integer\",\"multipleOf\":2}", "7", "spec.a: Invalid value: 7: spec.a in body should be a multiple of 2"},
        {"{\"type\":\"integer\",\"multipleOf\":2}", "-8", ""},
        {"{\"type\":\"number\",\"multipleOf\":0.1}", "0.7", ""},
        {"{\"type\":\"number\",\"multipleOf\":0.1}", "0.75", "spec.a: Invalid value: 0.75: spec.a in body should be a multiple of 0.1"},
        {"{\"type\":\"string\",\"maxLength\":5}", "\"abcdef\"", "spec.a: Too long: may not be more than 5 bytes"},
        {"{\"type\":\"string\",\"maxLength\":1}", "\"ab\"", "spec.a: Too long: may not be more than 1 byte"},
        {"{\"type\":\"string\",\"maxLength\":2}", "\"\xc3\xa9\xf0\x9f\x98\x80\"", ""},
        {"{\"type\":\"string\",\"minLength\":3}", "\"ab\"", "spec.a: Invalid value: \"ab\": spec.a in body should be at least 3 chars long"},
        {"{\"type\":\"string\",\"pattern\":\"^[a-z]+$\"}", "\"A\"", "spec.a: Invalid value: \"A\": spec.a in body should match '^[a-z]+$'"},
        {"{\"type\":\"string\",\"pattern\":\"b\"}", "\"abc\"", ""},
        {"{\"type\":\"string\",\"enum\":[\"a\",\"b\"]}", "\"x\"", "spec.a: Unsupported value: \"x\": supported values: \"a\", \"b\""},
        {"{\"type\":\"integer\",\"enum\":[1,2]}", "3", "spec.a: Unsupported value: 3: supported values: \"1\", \"2\""},
        {"{\"type\":\"number\",\"enum\":[1,2.5]}", "1.0", ""},
        {"{\"type\":\"string\",\"nullable\":true,\"enum\":[\"a\"]}", "null", "spec.a: Unsupported value: null: supported values: \"a\""},
        {"{\"type\":\"string\",\"format\":\"date-time\"}", "\"yesterday\"",
         "spec.a: Invalid value: \"yesterday\": spec.a in body must be of type date-time: \"yesterday\""},
        {"{\"type\":\"string\",\"format\":\"no-such-format\"}", "\"x\"", ""},
    };
    expect(cases, KP_ARRAY_LEN(cases));
}

static void limits_of_lists_and_objects_are_told(void **state)
{
    static const struct validate_case cases[] = {
        {"{\"type\":\"array\",\"maxItems\":2,\"items\":{\"type\":\"string\"}}", "[\"a\",\"b\",\"c\"]", "spec.a: Too many: 3: must have at most 2 items"},
        {"{\"type\":\"array\",\"minItems\":1,\"items\":{\"type\":\"string\"}}", "[]", "spec.a: Invalid value: 0: spec.a in body should have at least 1 items"},
        {"{\"type\":\"array\",\"items\":{\"type\":\"string\"}}", "[\"a\",1]",
         "spec.a[1]: Invalid value: \"integer\": spec.a[1] in body must be of type string: \"integer\""},
        {"{\"type\":\"object\",\"required\":[\"y\",\"x\"]}", "{\"y\":null}", "spec.a.x: Required value"},
        {"{\"type\":\"object\",\"maxProperties\":1}", "{\"x\":1,\"y\":2}", "spec.a: Too many: 2: must have at most 1 item"},
        {"{\"type\":\"object\",\"minProperties\":1}", "{}", "spec.a: Invalid value: 0: spec.a in body should have at least 1 properties"},
        {"{\"type\":\"object\",\"additionalProperties\":{\"type\":\"integer\"}}", "{\"x\":\"y\"}",
         "spec.a.x: Invalid value: \"string\": spec.a.x in body must be of type integer: \"string\""},
        {"{\"type\":\"object\",\"additionalProperties\":false}", "{\"x\":1}", "spec.a: Invalid value: \"x\": spec.a.x in body is a forbidden property"},
        {"{\"type\":\"object\",\"properties\":{\"y\":{\"type\":\"string\"},\"x\":{\"type\":\"string\"}}}", "{\"y\":1,\"x\":2}",
         "spec.a.x: Invalid value: \"integer\": spec.a.x in body must be of type string: \"integer\"\n"
         "spec.a.y: Invalid value: \"integer\": spec.a.y in body must be of type string: \"integer\""},
    };
    expect(cases, KP_ARRAY_LEN(cases));
}

static void combinations_name_the_closest_branch(void **state)
{
#define ONE_OF(fields) "{\"type\":\"object\",\"properties\":{\"x\":{\"type\":\"string\"},\"y\":{\"type\":\"string\"}}," fields "}"
    static const struct validate_case cases[] = {
        {ONE_OF("\"oneOf\":[{\"required\":[\"x\"]},{\"required\":[\"y\"]}]"), "{\"x\":\"1\"}", ""},
        {ONE_OF("\"oneOf\":[{\"required\":[\"x\"]},{\"required\":[\"y\"]}]"), "{}",
         "<nil>: Invalid value: \"\": \"spec.a\" must validate one and only one schema (oneOf). Found none valid\nspec.a.x: Required value"},
        {ONE_OF("\"oneOf\":[{\"required\":[\"x\"]},{\"required\":[\"y\"]}]"), "{\"x\":\"1\",\"y\":\"2\"}",
         "<nil>: Invalid value: \"\": \"spec.a\" must validate one and only one schema (oneOf). Found 2 valid alternatives"},
        {ONE_OF("\"anyOf\":[{\"required\":[\"x\"]},{\"properties\":{\"y\":{\"enum\":[\"k\"]}},\"required\":[\"y\"]}]"), "{\"y\":\"2\"}",
         "<nil>: Invalid value: \"\": \"spec.a\" must validate at least one schema (anyOf)\n"
         "spec.a.y: Unsupported value: \"2\": supported values: \"k\""},
        {"{\"type\":\"integer\",\"allOf\":[{\"minimum\":3},{\"maximum\":5}]}", "7",
         "spec.a: Invalid value: 7: spec.a in body should be less than or equal to 5\n"
         "<nil>: Invalid value: \"\": \"spec.a\" must validate all the schemas (allOf)"},
        {"{\"type\":\"integer\",\"allOf\":[{\"minimum\":9}]}", "7",
         "spec.a: Invalid value: 7: spec.a in body should be greater than or equal to 9\n"
         "<nil>: Invalid value: \"\": \"spec.a\" must validate all the schemas (allOf). None validated"},
        {"{\"type\":\"string\",\"not\":{\"pattern\":\"^a\"}}", "\"ab\"", "<nil>: Invalid value: \"\": \"spec.a\" must not validate the schema (not)"},
        {"{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"string\"}],\"pattern\":\"^[0-9]+%$\",\"x-kubernetes-int-or-string\":true}", "\"5\"",
         "spec.a: Invalid value: \"5\": spec.a in body should match '^[0-9]+%$'"},
    };
    expect(cases, KP_ARRAY_LEN(cases));
}

static void sets_and_maps_have_nothing_twice(void **state)
{
#define MAP(keys)                                                                                                             \
    "{\"type\":\"array\",\"x-kubernetes-list-type\":\"map\",\"x-kubernetes-list-map-keys\":[" keys "],\"items\":{\"type\":\"object\"," \
    "\"required\":[\"x\",\"y\"],\"properties\":{\"x\":{\"type\":\"string\"},\"y\":{\"type\":\"integer\"},\"z\":{\"type\":\"string\"}}}}"
    static const struct validate_case cases[] = {
        {"{\"type\":\"array\",\"x-kubernetes-list-type\":\"set\",\"items\":{\"type\":\"string\"}}", "[\"a\",\"b\",\"a\",\"a\",\"b\"]",
         "spec.a[2]: Duplicate value: \"a\"\nspec.a[4]: Duplicate value: \"b\""},
        {"{\"type\":\"array\",\"x-kubernetes-list-type\":\"set\",\"items\":{\"type\":\"integer\"}}", "[1,2,1]", "spec.a[2]: Duplicate value: 1"},
        {MAP("\"x\""), "[{\"x\":\"k\",\"y\":1},{\"x\":\"k\",\"y\":2}]", "spec.a[1]: Duplicate value: {\"x\":\"k\"}"},
        {MAP("\"x\",\"y\""), "[{\"x\":\"k\",\"y\":1},{\"x\":\"k\",\"y\":2}]", ""},
        {MAP("\"y\",\"x\""), "[{\"x\":\"k\",\"y\":1},{\"z\":\"\",\"x\":\"k\",\"y\":1}]", "spec.a[1]: Duplicate value: {\"x\":\"k\",\"y\":1}"},
        {"{\"type\":\"object\",\"additionalProperties\":{\"type\":\"array\",\"x-kubernetes-list-type\":\"set\",\"items\":{\"type\":\"string\"}}}",
         "{\"k\":[\"a\",\"a\"]}", "spec.a[k][1]: Duplicate value: \"a\""},
    };
    expect(cases, KP_ARRAY_LEN(cases));
}

static void embedded_resources_are_resources(void **state)
{
#define EMBEDDED "{\"type\":\"object\",\"x-kubernetes-embedded-resource\":true,\"x-kubernetes-preserve-unknown-fields\":true}"
    static const struct validate_case cases[] = {
        {EMBEDDED, "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"n\",\"labels\":{\"a\":\"b\"}},\"spec\":{}}", ""},
        {EMBEDDED, "{}", "spec.a.apiVersion: Required value\nspec.a.kind: Required value"},
        {EMBEDDED, "{\"apiVersion\":\"\",\"kind\":1}", "spec.a.apiVersion: Invalid value: \"\": must not be empty\nspec.a.kind: Invalid value: 1: must be a string"},
        {EMBEDDED, "{\"apiVersion\":\"a/b/c\",\"kind\":\"K\"}", "spec.a.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c"},
        {EMBEDDED, "{\"apiVersion\":\"v1\",\"kind\":\"K\",\"metadata\":{\"name\":\"a/b\"}}", "spec.a.metadata.name: Invalid value: \"a/b\": may not contain '/'"},
    };
    expect(cases, KP_ARRAY_LEN(cases));
}

static void the_name_can_be_restricted(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct structural *structural = test_structural(
        arena, "{\"type\":\"object\",\"required\":[\"spec\"],\"properties\":{\"metadata\":{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\","
               "\"pattern\":\"^a\"}}}}}");
    struct field_errors errors = {.arena = arena};
    structural_validate(structural, test_value(arena, "{\"metadata\":{\"name\":\"b\",\"uid\":5}}"), &errors);
    structural_free(structural);
    assert_string_equal(test_lines(arena, &errors), "metadata.name: Invalid value: \"b\": metadata.name in body should match '^a'\nspec: Required value");
    assert_string_equal(errors.items[0].reason, "FieldValueInvalid");
}

/* ---- patterns ------------------------------------------------------------------------------------------------------------------ */
static bool matches(const char *pattern, const char *text)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *fault = NULL;
    KP_AUTO(kp_pattern_free) struct kp_pattern *p = kp_pattern_new(pattern, arena, &fault);
    if (!p)
        fail_msg("%s: %s", pattern, fault);
    return kp_pattern_matches(p, text, strlen(text));
}

static void patterns_match_as_go_does(void **state)
{
    static const struct {
        const char *pattern, *text;
        bool want;
    } cases[] = {
        {"b+", "aabbcc", true},
        {"^b", "ab", false},
        {"a$", "a\n", false}, /* Go's $ is the very end */
        {"(?m)^b$", "a\nb\nc", true},
        {"^.$", "\xc3\xa9", true},
        {"^.$", "\n", false},
        {"(?s)^.$", "\n", true},
        {"(?i)^ABC$", "aBc", true},
        {"^\\p{L}+$", "\xc3\xa9t\xc3\xa9", true},
        {"^\\w+$", "\xc3\xa9", false},
        {"a|b", "xb", true},
        {"^a|b$", "xb", true},
        {"^(a+)+$", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", false},
        {"^(a+)+$", NULL, true}, /* a long text of a */
        {"^([a-z0-9]+[.-]?)+$", NULL, true},
        {"a+$", NULL, true},
        {"^(a+?b*)+$", NULL, true},
        {"^[^b]+$", NULL, true},
        {"^\\x61+\\x{61}+\\w+\\p{L}+.+$", NULL, true},
        {"^(?P<x>a)(?:b)$", "ab", true},
        {"^[[:alpha:]_\\-\\]]+$", "a_-]", true},
        {"^\\Qa.b", "a.b", true},
        {"^\\Qa.b", "axb", false},
        {"^\\Qa.\\E+b$", "a...b", true},
        {"^\xc3\xa9+$", "\xc3\xa9\xc3\xa9", true},
        {"^\\141+$", "aa", true},
        {"^a{,2}$", "a{,2}", true}, /* no repetition */
        {"^a{2,3}?$", "aaa", true},
        {"\\bfoo\\b", "a foo b", true},
        {"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$", "my-host.example.org", true},
        {"^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$", "1h30m", true},
        {"", "", true},
        {"^$", "x", false},
    };
    char many[5001] = "";
    memset(many, 'a', sizeof(many) - 1);
    for (size_t i = 0; i < KP_ARRAY_LEN(cases); i++)
        if (matches(cases[i].pattern, cases[i].text ? cases[i].text : many) != cases[i].want)
            fail_msg("%s of %s", cases[i].pattern, cases[i].text ? cases[i].text : "many a");
}

static void patterns_have_no_more_than_go_has(void **state)
{
    static const char *const refused[] = {"(?=a)", "(?!a)", "(?<=a)", "(?<!a)", "(?>a)", "(a)\\1", "a++", "a*+", "a**", "a{2}{3}", "(?R)", "(?#c)", "(*FAIL)", "(?x)a b",
                                          "\\h", "\\Z", "\\K", "\\C", "a)(b", "(a", "[a", "a{1001}", "*a", "\\", "[\\b]", "(?P=x)", "(?P>x)", "(?|a)", "(?C1)",
                                          "\\E", "[z-a]", "\\g1", "(?i"};
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    for (size_t i = 0; i < KP_ARRAY_LEN(refused); i++) {
        const char *fault = NULL;
        KP_AUTO(kp_pattern_free) struct kp_pattern *p = kp_pattern_new(refused[i], arena, &fault);
        if (p)
            fail_msg("%s is no pattern", refused[i]);
        assert_non_null(fault);
    }
}

/* Each would take a backtracking matcher, or one that begins anew at each byte, for ever. */
static void patterns_cannot_hang_the_server(void **state)
{
    static const char *const costly[] = {"^(a+)+$", "a*b", "(a|a)*c", "(a*)*d", "a{1,500}x", "^(([a-z])+.)+[A-Z]([a-z])+$", "(.*)(.*)(.*)(.*)(.*)x$",
                                         "(a?){300}(a){300}z"};
    KP_AUTO_BUF struct kp_buf text = {0};
    for (int i = 0; i < 20000; i++)
        kp_buf_puts(&text, "aaaaa");
    kp_buf_puts(&text, "!");
    for (size_t i = 0; i < KP_ARRAY_LEN(costly); i++)
        assert_false(matches(costly[i], text.data));
    assert_true(matches("!$", text.data));
}

/* ---- formats ------------------------------------------------------------------------------------------------------------------- */
static void formats_are_checked(void **state)
{
    static const struct {
        const char *format, *good[6], *bad[6];
    } cases[] = {
        {"date-time", {"2014-12-15T19:30:20.000Z", "2014-12-15t19:30:20z", "2020-02-29T23:59:59+01:00"}, {"2014-12-15", "2014-12-15T24:00:00Z", "2014-12-15T19:30:20", ""}},
        {"date", {"2020-02-29", "1999-12-31"}, {"2021-02-29", "2020-13-01", "2020-1-1", "x"}},
        {"email", {"a@b.c", "Barry Gibbs <bg@example.com>", "\"x y\"@z"}, {"a", "@b", "a@", "a b@c", "a@b c"}},
        {"hostname", {"example.com", "host", "1.example.org", "a-b.example.com"}, {"-a.com", "a_b", "a..com", "example.c", "my-long-host", ""}},
        {"ipv4", {"1.2.3.4", "010.0.0.1", "::ffff:1.2.3.4"}, {"1.2.3", "1.2.3.256", "1.2.3.4.5", "::1", ""}},
        {"ipv6", {"::1", "2001:db8::1", "::ffff:1.2.3.4"}, {"1.2.3.4", "1::2::3", "fe80::1%eth0", ""}},
        {"cidr", {"10.0.0.0/8", "2001:db8::/32", "1.2.3.4/32"}, {"10.0.0.0", "10.0.0.0/33", "::/129", "10.0.0.0/x", "/8"}},
        {"mac", {"00:11:22:33:44:55", "0011.2233.4455", "00-11-22-33-44-55-66-77"}, {"00:11:22:33:44", "00:11-22:33:44:55", "00112233445566", ""}},
        {"uri", {"http://a.b/c?d=e", "/path", "mailto:a@b", "https://[::1]:80/"}, {"a.b/c", "", "http://a b/", "http://a:x/", "/%zz"}},
        {"uuid", {"123e4567-e89b-12d3-a456-426614174000", "123E4567E89B12D3A456426614174000"}, {"123e4567", "g23e4567-e89b-12d3-a456-426614174000", ""}},
        {"uuid4", {"123e4567-e89b-42d3-a456-426614174000"}, {"123e4567-e89b-12d3-a456-426614174000", "123e4567-e89b-42d3-c456-426614174000"}},
        {"byte", {"YQ==", "YWI=", "YWJj"}, {"", "YQ", "Y=Q=", "YQ=a", "Y\nQ="}},
        {"duration", {"1h2m", "0", "22 ns", "3 days", "1 week"}, {"x", "", "5", "3 moons"}},
        {"isbn", {"0321751043", "978-0321751041"}, {"0321751044", "978-0321751042", "1"}},
        {"creditcard", {"4111-1111-1111-1111"}, {"4111-1111-1111-1112", "1"}},
        {"ssn", {"111-11-1111", "111 11 1111"}, {"1111-11-111", ""}},
        {"hexcolor", {"#FFF", "abcdef"}, {"#FFFF", "ggg"}},
        {"rgbcolor", {"rgb(1, 2,255)", "rgb(0,0,0)"}, {"rgb(1,2)", "rgb(256,0,0)", "rgb(01,0,0)"}},
        {"password", {"", "x"}, {NULL}},
        {"bsonobjectid", {"507f1f77bcf86cd799439011"}, {"507f"}},
        {"k8s-short-name", {"a-b"}, {"a.b", "-a", "A", ""}},
        {"k8s-long-name", {"a-b.c"}, {"a..b", "a-.b", ""}},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(cases); i++) {
        format_check check = format_find(cases[i].format);
        assert_non_null(check);
        for (size_t j = 0; j < 6 && cases[i].good[j]; j++)
            if (!check(cases[i].good[j]))
                fail_msg("%s is of format %s", cases[i].good[j], cases[i].format);
        for (size_t j = 0; j < 6 && cases[i].bad[j]; j++)
            if (check(cases[i].bad[j]))
                fail_msg("%s is not of format %s", cases[i].bad[j], cases[i].format);
    }
    assert_null(format_find("int32"));
}

/* Nested choices, each of which fails, are not tried twice as often with every level. */
static void nested_choices_take_no_exponential_time(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf schema = {0};
    kp_buf_puts(&schema, "{\"type\":\"object\",\"properties\":{\"spec\":{\"type\":\"integer\"");
    for (int i = 0; i < 40; i++)
        kp_buf_puts(&schema, ",\"anyOf\":[{\"minimum\":5");
    for (int i = 0; i < 40; i++)
        kp_buf_puts(&schema, "}]");
    kp_buf_puts(&schema, "}}}");
    struct structural *structural = test_structural(arena, schema.data);
    struct field_errors errors = {.arena = arena};
    structural_validate(structural, test_value(arena, "{\"spec\":1}"), &errors);
    structural_free(structural);
    assert_string_equal(test_lines(arena, &errors), "<nil>: Invalid value: \"\": \"spec\" must validate at least one schema (anyOf)\n"
                                                    "spec: Invalid value: 1: spec in body should be greater than or equal to 5");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types_are_told_with_upstreams_words),
        cmocka_unit_test(limits_of_scalars_are_told),
        cmocka_unit_test(limits_of_lists_and_objects_are_told),
        cmocka_unit_test(combinations_name_the_closest_branch),
        cmocka_unit_test(sets_and_maps_have_nothing_twice),
        cmocka_unit_test(embedded_resources_are_resources),
        cmocka_unit_test(the_name_can_be_restricted),
        cmocka_unit_test(patterns_match_as_go_does),
        cmocka_unit_test(patterns_have_no_more_than_go_has),
        cmocka_unit_test(patterns_cannot_hang_the_server),
        cmocka_unit_test(formats_are_checked),
        cmocka_unit_test(nested_choices_take_no_exponential_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
