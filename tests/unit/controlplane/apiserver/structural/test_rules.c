/* x-kubernetes-validations: what is refused of a definition, and what rules say of objects and updates. */
#include "structural_test.h"

#define SCHEMA(properties, rules) "{\"type\":\"object\",\"properties\":{" properties "},\"x-kubernetes-validations\":[" rules "]}"
#define SPEC(properties, rules) "{\"type\":\"object\",\"properties\":{\"spec\":" SCHEMA(properties, rules) "}}"
#define REPLICAS "\"replicas\":{\"type\":\"integer\"},\"max\":{\"type\":\"integer\"}"
#define RULE(text) "{\"rule\":\"" text "\"}"

static void check_is(const char *schema, const char *expected)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    assert_string_equal(test_check(arena, schema), expected);
}

/* What create (old NULL) or update says: errors, then warnings after a dash. */
static const char *ask(struct kp_arena *arena, const char *schema, const char *object, const char *old)
{
    struct field_errors errors = {.arena = arena};
    struct kp_string_list warnings = {0};
    struct structural *structural = test_structural(arena, schema);
    const struct kp_value *value = test_value(arena, object);
    structural_validate(structural, value, &errors);
    structural_rules(structural, value, old ? test_value(arena, old) : NULL, &errors, &warnings);
    structural_free(structural);
    const char *out = test_lines(arena, &errors);
    for (size_t i = 0; i < warnings.len; i++)
        out = kp_arena_printf(arena, "%s- %s", out, warnings.items[i]);
    return out;
}

static void ask_is(const char *schema, const char *object, const char *old, const char *expected)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    assert_string_equal(ask(arena, schema, object, old), expected);
}

static void definitions_must_have_rules_that_compile(void **state)
{
    check_is(SPEC(REPLICAS, RULE("self.replicas <= self.max")), "");
    check_is(SPEC(REPLICAS, RULE("self.nope > 1")),
             "s.properties[spec].x-kubernetes-validations[0].rule: Invalid value: "
             "{\"Rule\":\"self.nope \\u003e 1\",\"Message\":\"\",\"MessageExpression\":\"\",\"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":null}: "
             "compilation failed: ERROR: <input>:1:5: undefined field 'nope'\n | self.nope > 1\n | ....^");
    check_is(SPEC(REPLICAS, RULE("self.replicas")),
             "s.properties[spec].x-kubernetes-validations[0].rule: Invalid value: "
             "{\"Rule\":\"self.replicas\",\"Message\":\"\",\"MessageExpression\":\"\",\"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":null}: "
             "cel expression must evaluate to a bool");
    check_is(SPEC(REPLICAS, "{\"rule\":\"true\",\"messageExpression\":\"1\",\"fieldPath\":\".nope\"}"),
             "s.properties[spec].x-kubernetes-validations[0].fieldPath: Invalid value: \".nope\": must be a valid path\n"
             "s.properties[spec].x-kubernetes-validations[0].messageExpression: Invalid value: "
             "{\"Rule\":\"true\",\"Message\":\"\",\"MessageExpression\":\"1\",\"Reason\":null,\"FieldPath\":\".nope\",\"OptionalOldSelf\":null}: "
             "messageExpression must evaluate to a string");
    check_is(SPEC(REPLICAS, "{\"rule\":\"true\",\"optionalOldSelf\":true}"),
             "s.properties[spec].x-kubernetes-validations[0].optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule");
}

static void what_lists_hold_is_compared_only_where_it_can_be_found_again(void **state)
{
#define LIST(kind) "{\"type\":\"object\",\"properties\":{\"l\":{\"type\":\"array\"," kind "\"items\":{\"type\":\"object\",\"required\":[\"k\"]," \
                   "\"properties\":{\"k\":{\"type\":\"string\"},\"v\":{\"type\":\"integer\"}},\"x-kubernetes-validations\":[{\"rule\":\"self.v >= oldSelf.v\"}]}}}}"
#define KEYED "\"x-kubernetes-list-type\":\"map\",\"x-kubernetes-list-map-keys\":[\"k\"],"
    check_is(LIST(""), "s.properties[l].items.x-kubernetes-validations[0].rule: Invalid value: \"self.v >= oldSelf.v\": "
                       "oldSelf cannot be used on the uncorrelatable portion of the schema within s.properties[l]");
    check_is(LIST(KEYED), "");
    ask_is(LIST(KEYED), "{\"l\":[{\"k\":\"b\",\"v\":1},{\"k\":\"a\",\"v\":5}]}", "{\"l\":[{\"k\":\"a\",\"v\":4},{\"k\":\"b\",\"v\":2}]}",
           "l[0]: Invalid value: failed rule: self.v >= oldSelf.v");
    ask_is(LIST(KEYED), "{\"l\":[{\"k\":\"c\",\"v\":1}]}", "{\"l\":[{\"k\":\"a\",\"v\":4}]}", "");
}

static void rules_know_the_root_and_embedded_objects(void **state)
{
    check_is(SCHEMA("", RULE("self.metadata.name.startsWith('a') && self.kind != '' && self.apiVersion != ''")), "");
    check_is(SCHEMA("\"spec\":{\"type\":\"object\",\"x-kubernetes-preserve-unknown-fields\":true}", RULE("self.spec.any == 1")),
             "s.x-kubernetes-validations[0].rule: Invalid value: "
             "{\"Rule\":\"self.spec.any == 1\",\"Message\":\"\",\"MessageExpression\":\"\",\"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":null}: "
             "compilation failed: ERROR: <input>:1:10: undefined field 'any'\n | self.spec.any == 1\n | .........^");
    ask_is(SCHEMA("", RULE("self.metadata.name.startsWith('a')")), "{\"metadata\":{\"name\":\"b\"}}", NULL,
           "<nil>: Invalid value: failed rule: self.metadata.name.startsWith('a')");
}

static void failures_are_told_as_the_rule_wants(void **state)
{
    ask_is(SPEC(REPLICAS, RULE("self.replicas <= self.max")), "{\"spec\":{\"replicas\":3,\"max\":2}}", NULL,
           "spec: Invalid value: failed rule: self.replicas <= self.max");
    ask_is(SPEC(REPLICAS, "{\"rule\":\"self.replicas <= self.max\",\"message\":\" too many \",\"fieldPath\":\".replicas\",\"reason\":\"FieldValueForbidden\"}"),
           "{\"spec\":{\"replicas\":3,\"max\":2}}", NULL, "spec.replicas: Forbidden: too many");
    ask_is(SPEC(REPLICAS, "{\"rule\":\"self.replicas <= self.max\",\"message\":\"no\",\"messageExpression\":\"'at most %d'.format([self.max])\"}"),
           "{\"spec\":{\"replicas\":3,\"max\":2}}", NULL, "spec: Invalid value: at most 2");
    ask_is(SPEC(REPLICAS, "{\"rule\":\"self.replicas <= self.max\",\"message\":\"no\",\"messageExpression\":\"''\"}"),
           "{\"spec\":{\"replicas\":3,\"max\":2}}", NULL, "spec: Invalid value: no");
    ask_is(SPEC("\"name\":{\"type\":\"string\",\"x-kubernetes-validations\":[{\"rule\":\"self != 'x'\",\"message\":\"not x\"}]}", RULE("true")), "{\"spec\":{\"name\":\"x\"}}", NULL,
           "spec.name: Invalid value: \"x\": not x");
    ask_is(SPEC("\"m\":{\"type\":\"object\",\"additionalProperties\":{\"type\":\"integer\",\"x-kubernetes-validations\":[{\"rule\":\"self > 0\"}]}}", RULE("true")),
           "{\"spec\":{\"m\":{\"a\":1,\"b\":0}}}", NULL, "spec.m[b]: Invalid value: 0: failed rule: self > 0");
    ask_is(SPEC(REPLICAS, RULE("self.replicas / self.max > 0")), "{\"spec\":{\"replicas\":3,\"max\":0}}", NULL,
           "spec: Invalid value: \"object\": division by zero evaluating rule: self.replicas / self.max > 0");
    ask_is(SPEC(REPLICAS, RULE("self.replicas > 0")), "{\"spec\":{}}", NULL, "spec: Invalid value: \"object\": no such key: replicas evaluating rule: self.replicas > 0");
    ask_is(SPEC("\"port\":{\"x-kubernetes-int-or-string\":true,\"x-kubernetes-validations\":[{\"rule\":\"self > 5\"}]}", RULE("true")), "{\"spec\":{\"port\":\"a\"}}", NULL,
           "spec.port: Invalid value: \"\": 'no such overload': call arguments did not match a supported operator, function or macro signature for rule: self > 5");
}

static void rules_wait_until_the_schema_holds(void **state)
{
    ask_is(SPEC(REPLICAS, RULE("self.replicas > 0")), "{\"spec\":{\"replicas\":\"x\"}}", NULL,
           "spec.replicas: Invalid value: \"string\": spec.replicas in body must be of type integer: \"string\"\n"
           "<nil>: Invalid value: \"null\": some validation rules were not checked because the object was invalid; correct the existing errors to complete validation");
}

static void transitions_are_asked_on_updates_alone(void **state)
{
    const char *grow = SPEC(REPLICAS, RULE("self.replicas >= oldSelf.replicas"));
    ask_is(grow, "{\"spec\":{\"replicas\":1}}", NULL, "");
    ask_is(grow, "{\"spec\":{\"replicas\":1}}", "{\"spec\":{\"replicas\":2}}", "spec: Invalid value: failed rule: self.replicas >= oldSelf.replicas");
    ask_is(grow, "{\"spec\":{\"replicas\":2}}", "{\"spec\":{\"replicas\":2}}", "");
    const char *optional = SPEC(REPLICAS, "{\"rule\":\"oldSelf.hasValue() || self.replicas == 1\",\"optionalOldSelf\":true}");
    ask_is(optional, "{\"spec\":{\"replicas\":2}}", NULL, "spec: Invalid value: failed rule: oldSelf.hasValue() || self.replicas == 1");
    ask_is(optional, "{\"spec\":{\"replicas\":2}}", "{\"spec\":{\"replicas\":5}}", "");
}

static void an_update_is_not_refused_for_what_it_leaves_alone(void **state)
{
    const char *schema = "{\"type\":\"object\",\"properties\":{\"spec\":" SCHEMA(REPLICAS, RULE("self.replicas < 5")) ",\"other\":{\"type\":\"string\"}}}";
    ask_is(schema, "{\"spec\":{\"replicas\":9},\"other\":\"b\"}", "{\"spec\":{\"replicas\":9},\"other\":\"a\"}",
           "- spec: Invalid value: failed rule: self.replicas < 5");
    ask_is(schema, "{\"spec\":{\"replicas\":8},\"other\":\"b\"}", "{\"spec\":{\"replicas\":9},\"other\":\"a\"}", "spec: Invalid value: failed rule: self.replicas < 5");
}

static void costly_rules_end(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf object = {0};
    kp_buf_puts(&object, "{\"spec\":{\"l\":[0");
    for (int i = 1; i < 3000; i++)
        kp_buf_printf(&object, ",%d", i);
    kp_buf_puts(&object, "]}}");
    const char *schema = SPEC("\"l\":{\"type\":\"array\",\"items\":{\"type\":\"integer\"}}", RULE("self.l.all(a, self.l.all(b, a == b || a != b))"));
    assert_string_equal(ask(arena, schema, object.data, NULL),
                        "spec: Invalid value: \"object\": 'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to call cost exceeds "
                        "limit for rule: self.l.all(a, self.l.all(b, a == b || a != b))");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(definitions_must_have_rules_that_compile),
        cmocka_unit_test(what_lists_hold_is_compared_only_where_it_can_be_found_again),
        cmocka_unit_test(rules_know_the_root_and_embedded_objects),
        cmocka_unit_test(failures_are_told_as_the_rule_wants),
        cmocka_unit_test(rules_wait_until_the_schema_holds),
        cmocka_unit_test(transitions_are_asked_on_updates_alone),
        cmocka_unit_test(an_update_is_not_refused_for_what_it_leaves_alone),
        cmocka_unit_test(costly_rules_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
