/* Which schemas are structural, and what they do to objects. */
#include "structural_test.h"

struct line {
    const char *given, *want;
};

/* ---- check ------------------------------------------------------------------------------------------------------------------- */
#define ROOT(properties) "{\"type\":\"object\",\"properties\":{" properties "}}"
#define CRON_TAB                                                                                                                            \
    ROOT("\"spec\":{\"type\":\"object\",\"required\":[\"cronSpec\"],\"properties\":{"                                                       \
         "\"cronSpec\":{\"type\":\"string\",\"pattern\":\"^(\\\\d+|\\\\*)(/\\\\d+)?(\\\\s+(\\\\d+|\\\\*)(/\\\\d+)?){4}$\",\"default\":\"5 0 * * *\"}," \
         "\"image\":{\"type\":\"string\"},\"replicas\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":10,\"default\":1},"                  \
         "\"port\":{\"x-kubernetes-int-or-string\":true},\"ports\":{\"type\":\"array\",\"x-kubernetes-list-type\":\"map\","                 \
         "\"x-kubernetes-list-map-keys\":[\"port\",\"protocol\"],\"items\":{\"type\":\"object\",\"required\":[\"port\"],\"properties\":{"     \
         "\"port\":{\"type\":\"integer\",\"format\":\"int32\"},\"protocol\":{\"type\":\"string\",\"default\":\"TCP\"}}}},"                   \
         "\"tags\":{\"type\":\"array\",\"x-kubernetes-list-type\":\"set\",\"items\":{\"type\":\"string\"}},"                                \
         "\"labels\":{\"type\":\"object\",\"additionalProperties\":{\"type\":\"string\"}},"                                                 \
         "\"raw\":{\"type\":\"object\",\"x-kubernetes-preserve-unknown-fields\":true,\"properties\":{\"known\":{\"type\":\"object\"}}},"     \
         "\"template\":{\"type\":\"object\",\"x-kubernetes-embedded-resource\":true,\"x-kubernetes-preserve-unknown-fields\":true}}},"       \
         "\"status\":{\"type\":\"object\",\"x-kubernetes-preserve-unknown-fields\":true}")

static void check_lets_real_schemas_pass(void **state)
{
    static const char *const fine[] = {
        "{\"type\":\"object\"}",
        "{\"type\":\"object\",\"x-kubernetes-preserve-unknown-fields\":true,\"description\":\"d\"}",
        CRON_TAB,
        ROOT("\"metadata\":{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":5}}}"),
        ROOT("\"apiVersion\":{\"type\":\"string\",\"description\":\"d\"},\"kind\":{\"type\":\"string\"},\"metadata\":{\"type\":\"object\"}"),
        ROOT("\"a\":{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"string\"}],\"x-kubernetes-int-or-string\":true}"),
        ROOT("\"a\":{\"allOf\":[{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"string\"}]},{\"pattern\":\"^a\"}],\"x-kubernetes-int-or-string\":true}"),
        "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"},\"b\":{\"type\":\"string\"}},\"oneOf\":[{\"required\":[\"a\"]},"
        "{\"required\":[\"b\"]}],\"allOf\":[{\"properties\":{\"a\":{\"minLength\":1}}}]}",
        ROOT("\"spec\":{\"type\":\"object\",\"default\":{\"a\":1},\"properties\":{\"a\":{\"type\":\"integer\"}},\"x-kubernetes-validations\":"
             "[{\"rule\":\"self.a > 0\"}]}"),
        ROOT("\"a\":{\"type\":\"object\",\"additionalProperties\":true,\"nullable\":true}"),
    };
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    for (size_t i = 0; i < KP_ARRAY_LEN(fine); i++)
        assert_string_equal(test_check(arena, fine[i]), "");
}

static const struct line not_structural[] = {
    {"{}", "s.type: Required value: must not be empty at the root"},
    {"{\"type\":\"string\"}", "s.type: Invalid value: \"string\": must be object at the root"},
    {"{\"type\":\"object\",\"nullable\":true}", "s.nullable: Forbidden: nullable cannot be true at the root"},
    {"{\"type\":\"object\",\"additionalProperties\":{\"type\":\"string\"}}", "s.additionalProperties: Forbidden: must not be used at the root"},
    {ROOT("\"a\":{}"), "s.properties[a].type: Required value: must not be empty for specified object fields"},
    {ROOT("\"a\":{\"type\":\"array\"}"), "s.properties[a].items: Required value: must be specified"},
    {ROOT("\"a\":{\"type\":\"array\",\"items\":{}}"), "s.properties[a].items.type: Required value: must not be empty for specified array items"},
    {ROOT("\"a\":{\"type\":\"array\",\"items\":[{\"type\":\"string\"}]}"), "s.properties[a].items: Forbidden: items must be a schema object and not an array"},
    {ROOT("\"a\":{\"type\":\"text\"}"),
     "s.properties[a].type: Unsupported value: \"text\": supported values: \"array\", \"boolean\", \"integer\", \"number\", \"object\", \"string\""},
    {ROOT("\"a\":{\"$ref\":\"#/x\",\"type\":\"string\"}"), "s.properties[a].$ref: Forbidden: $ref is not supported"},
    {ROOT("\"a\":{\"id\":\"x\",\"type\":\"string\"}"), "s.properties[a].id: Forbidden: id is not supported"},
    {"{\"$schema\":\"http://x\",\"type\":\"object\"}", "s: Invalid value: \"\": OpenAPIV3Schema 'schema' is not supported"},
    {ROOT("\"a\":{\"type\":\"object\",\"patternProperties\":{\"x\":{\"type\":\"string\"}}}"),
     "s.properties[a].patternProperties: Forbidden: patternProperties is not supported"},
    {ROOT("\"a\":{\"type\":\"object\",\"definitions\":{\"x\":{\"type\":\"string\"}}}"), "s.properties[a].definitions: Forbidden: definitions is not supported"},
    {ROOT("\"a\":{\"type\":\"object\",\"dependencies\":{\"x\":[\"y\"]}}"), "s.properties[a].dependencies: Forbidden: dependencies is not supported"},
    {ROOT("\"a\":{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"additionalItems\":true}"),
     "s.properties[a].additionalItems: Forbidden: additionalItems is not supported"},
    {ROOT("\"a\":{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"uniqueItems\":true}"),
     "s.properties[a].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic"},
    {ROOT("\"a\":{\"type\":\"object\",\"additionalProperties\":{\"type\":\"string\"},\"properties\":{\"b\":{\"type\":\"string\"}}}"),
     "s.properties[a].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive"},
    {ROOT("\"a\":{\"type\":\"object\",\"x-kubernetes-preserve-unknown-fields\":false}"),
     "s.properties[a].x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined"},
    {ROOT("\"a\":{\"type\":\"string\",\"pattern\":\"a(b\"}"),
     "s.properties[a].pattern: Invalid value: \"a(b\": must be a valid regular expression, but isn't: error parsing regexp: missing closing parenthesis"},
    {ROOT("\"a\":{\"type\":\"string\",\"pattern\":\"(?=x)\"}"),
     "s.properties[a].pattern: Invalid value: \"(?=x)\": must be a valid regular expression, but isn't: error parsing regexp: invalid or unsupported Perl "
     "syntax: `(?=`"},
    {ROOT("\"a\":{\"x-kubernetes-int-or-string\":true,\"x-kubernetes-preserve-unknown-fields\":true}"),
     "s.properties[a].x-kubernetes-preserve-unknown-fields: Invalid value: true: must be false if x-kubernetes-int-or-string is true"},
    {ROOT("\"a\":{\"type\":\"string\",\"x-kubernetes-embedded-resource\":true,\"x-kubernetes-preserve-unknown-fields\":true}"),
     "s.properties[a].type: Invalid value: \"string\": must be object if x-kubernetes-embedded-resource is true"},
    {ROOT("\"a\":{\"type\":\"object\",\"x-kubernetes-embedded-resource\":true}"),
     "s.properties[a].properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without "
     "x-kubernetes-preserve-unknown-fields"},
    {ROOT("\"metadata\":{\"type\":\"object\",\"properties\":{\"labels\":{\"type\":\"object\"}}}"),
     "s.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified"},
    {ROOT("\"metadata\":{\"type\":\"string\"}"), "s.properties[metadata].type: Invalid value: \"string\": must be object"},
    {ROOT("\"kind\":{\"type\":\"integer\"}"), "s.properties[kind].type: Invalid value: \"integer\": must be string"},
    {ROOT("\"metadata\":{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"default\":\"x\"}}}"),
     "s.properties[metadata].properties[name].default: Forbidden: must not be set in top-level metadata"},
};

static const struct line not_restrictions[] = {
    {ROOT("\"a\":{\"type\":\"string\",\"allOf\":[{\"type\":\"string\"}]}"),
     "s.properties[a].allOf[0].type: Forbidden: must be empty to be structural"},
    {ROOT("\"a\":{\"type\":\"string\",\"anyOf\":[{\"default\":\"x\",\"nullable\":true}]}"),
     "s.properties[a].anyOf[0].default: Forbidden: must be undefined to be structural\n"
     "s.properties[a].anyOf[0].nullable: Forbidden: must be false to be structural"},
    {ROOT("\"a\":{\"type\":\"string\",\"not\":{\"description\":\"x\",\"title\":\"y\"}}"),
     "s.properties[a].not.description: Forbidden: must be empty to be structural\n"
     "s.properties[a].not.title: Forbidden: must be empty to be structural"},
    {ROOT("\"a\":{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"integer\"}],\"x-kubernetes-int-or-string\":true}"),
     "s.properties[a].anyOf[0].type: Forbidden: must be empty to be structural\n"
     "s.properties[a].anyOf[1].type: Forbidden: must be empty to be structural"},
    {"{\"type\":\"object\",\"oneOf\":[{\"properties\":{\"b\":{\"minimum\":1}}}]}",
     "s.properties[b]: Required value: because it is defined in s.oneOf[0].properties[b]"},
    {"{\"type\":\"object\",\"properties\":{\"metadata\":{\"type\":\"object\"}},\"not\":{\"properties\":{\"metadata\":{\"minProperties\":1}}}}",
     "s.not.properties[metadata]: Forbidden: must not be specified in a nested context"},
    {ROOT("\"a\":{\"type\":\"object\",\"allOf\":[{\"additionalProperties\":{\"minimum\":1}}]}"),
     "s.properties[a].allOf[0].additionalProperties: Forbidden: must be undefined to be structural"},
};

#define LIST(words, item) ROOT("\"a\":{\"type\":\"array\",\"x-kubernetes-list-type\":" words ",\"items\":{" item "}}")
static const struct line bad_lists[] = {
    {LIST("\"bag\"", "\"type\":\"string\""), "s.properties[a].x-kubernetes-list-type: Unsupported value: \"bag\": supported values: \"atomic\", \"set\", \"map\""},
    {ROOT("\"a\":{\"type\":\"string\",\"x-kubernetes-list-type\":\"set\"}"),
     "s.properties[a].type: Invalid value: \"string\": must be array if x-kubernetes-list-type is specified"},
    {LIST("\"map\"", "\"type\":\"object\""), "s.properties[a].x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map"},
    {LIST("\"map\",\"x-kubernetes-list-map-keys\":[\"k\"]", "\"type\":\"string\""),
     "s.properties[a].items.type: Invalid value: \"string\": must be object if parent array's x-kubernetes-list-type is map"},
    {LIST("\"map\",\"x-kubernetes-list-map-keys\":[\"k\"]", "\"type\":\"object\""),
     "s.properties[a].x-kubernetes-list-map-keys: Invalid value: [\"k\"]: entries must all be names of item properties"},
    {LIST("\"map\",\"x-kubernetes-list-map-keys\":[\"k\",\"k\"]", "\"type\":\"object\",\"required\":[\"k\"],\"properties\":{\"k\":{\"type\":\"string\"}}"),
     "s.properties[a].x-kubernetes-list-map-keys: Invalid value: [\"k\",\"k\"]: must not contain duplicate entries"},
    {LIST("\"map\",\"x-kubernetes-list-map-keys\":[\"k\"]", "\"type\":\"object\",\"properties\":{\"k\":{\"type\":\"string\",\"nullable\":true}}"),
     "s.properties[a].items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a "
     "required property\n"
     "s.properties[a].items.properties[k].nullable: Forbidden: this property is in x-kubernetes-list-map-keys, so it cannot be nullable"},
    {LIST("\"set\"", "\"type\":\"object\",\"nullable\":true"),
     "s.properties[a].items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set\n"
     "s.properties[a].items.nullable: Forbidden: cannot be nullable when x-kubernetes-list-type is set"},
    {ROOT("\"a\":{\"type\":\"array\",\"x-kubernetes-list-map-keys\":[\"k\"],\"items\":{\"type\":\"object\"}}"),
     "s.properties[a].x-kubernetes-list-type: Required value: must be map if x-kubernetes-list-map-keys is non-empty"},
    {ROOT("\"a\":{\"type\":\"object\",\"x-kubernetes-map-type\":\"loose\"}"),
     "s.properties[a].x-kubernetes-map-type: Unsupported value: \"loose\": supported values: \"atomic\", \"granular\""},
    {ROOT("\"a\":{\"type\":\"string\",\"x-kubernetes-validations\":[{\"rule\":\" \"},{\"rule\":\"a\",\"message\":\"x\\ny\"},{\"rule\":\"a\",\"reason\":\"No\"}]}"),
     "s.properties[a].x-kubernetes-validations[0].rule: Required value: rule is not specified\n"
     "s.properties[a].x-kubernetes-validations[1].message: Invalid value: \"x\\ny\": must not contain line breaks\n"
     "s.properties[a].x-kubernetes-validations[2].reason: Unsupported value: \"No\": supported values: \"FieldValueDuplicate\", \"FieldValueForbidden\", "
     "\"FieldValueInvalid\", \"FieldValueRequired\""},
};

static const struct line bad_defaults[] = {
    {ROOT("\"a\":{\"type\":\"integer\",\"default\":\"x\"}"),
     "s.properties[a].default: Invalid value: \"string\":  in body must be of type integer: \"string\""},
    {ROOT("\"a\":{\"type\":\"object\",\"default\":{\"b\":1},\"properties\":{\"c\":{\"type\":\"string\"}}}"),
     "s.properties[a].default: Invalid value: {\"b\":1}: must not have unknown fields"},
    {ROOT("\"a\":{\"type\":\"object\",\"default\":{\"c\":\"abc\"},\"properties\":{\"c\":{\"type\":\"string\",\"maxLength\":2}}}"),
     "s.properties[a].default.c: Too long: may not be more than 2 bytes"},
    {ROOT("\"a\":{\"type\":\"array\",\"items\":{\"type\":\"string\",\"default\":1}}"),
     "s.properties[a].items.default: Invalid value: \"integer\":  in body must be of type string: \"integer\""},
    {ROOT("\"a\":{\"type\":\"object\",\"x-kubernetes-embedded-resource\":true,\"x-kubernetes-preserve-unknown-fields\":true,\"default\":{\"kind\":\"A\"}}"),
     "s.properties[a].default.apiVersion: Required value"},
};

static void expect_faults(const struct line *lines, size_t count)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    for (size_t i = 0; i < count; i++)
        assert_string_equal(test_check(arena, lines[i].given), lines[i].want);
}

static void check_refuses_what_is_not_structural(void **state)
{
    expect_faults(not_structural, KP_ARRAY_LEN(not_structural));
}

static void check_refuses_restrictions_that_give_form(void **state)
{
    expect_faults(not_restrictions, KP_ARRAY_LEN(not_restrictions));
}

static void check_refuses_lists_that_cannot_merge(void **state)
{
    expect_faults(bad_lists, KP_ARRAY_LEN(bad_lists));
}

static void check_refuses_defaults_that_do_not_hold(void **state)
{
    expect_faults(bad_defaults, KP_ARRAY_LEN(bad_defaults));
}

static void check_bounds_depth_and_size(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct k8s_json_schema_props *schemas = KP_NEW_ARRAY(arena, struct k8s_json_schema_props, STRUCTURAL_DEPTH_MAX + 1);
    for (int i = 0; i < STRUCTURAL_DEPTH_MAX; i++)
        schemas[i].not = &schemas[i + 1];
    schemas[0].type = "object";
    struct field_errors errors = {.arena = arena};
    structural_check(schemas, "s", &errors);
    assert_string_equal(test_lines(arena, &errors), "s: Forbidden: must not be nested deeper than 64 levels");
    schemas[STRUCTURAL_DEPTH_MAX - 1].not = NULL;
    errors = (struct field_errors){.arena = arena};
    structural_check(schemas, "s", &errors);
    assert_string_equal(test_lines(arena, &errors), "");

    struct k8s_json_schema_props wide = {.type = "object", .all_of = {KP_NEW_ARRAY(arena, struct k8s_json_schema_props, STRUCTURAL_NODES_MAX), STRUCTURAL_NODES_MAX}};
    structural_check(&wide, "s", &errors);
    assert_string_equal(test_lines(arena, &errors), "s: Forbidden: must not have more than 100000 schemas in it");
}

/* ---- prune --------------------------------------------------------------------------------------------------------------------- */
static void prune_drops_what_is_not_named(void **state)
{
    static const struct {
        const char *given, *want, *dropped;
    } cases[] = {
        {"{\"apiVersion\":\"a/v1\",\"kind\":\"K\",\"metadata\":{\"name\":\"n\",\"x\":1},\"spec\":{\"image\":\"i\",\"foo\":1},\"bar\":{}}",
         "{\"apiVersion\":\"a/v1\",\"kind\":\"K\",\"metadata\":{\"name\":\"n\",\"x\":1},\"spec\":{\"image\":\"i\"}}", "bar spec.foo "},
        {"{\"spec\":{\"ports\":[{\"port\":1,\"x\":2},{\"port\":2,\"metadata\":{}}],\"labels\":{\"a\":\"b\"}}}",
         "{\"spec\":{\"labels\":{\"a\":\"b\"},\"ports\":[{\"port\":1},{\"port\":2}]}}", "spec.ports[0].x spec.ports[1].metadata "},
        {"{\"spec\":{\"raw\":{\"x\":{\"y\":1},\"known\":{\"z\":1}}},\"status\":{\"any\":[{\"thing\":1}]}}",
         "{\"spec\":{\"raw\":{\"known\":{},\"x\":{\"y\":1}}},\"status\":{\"any\":[{\"thing\":1}]}}", "spec.raw.known.z "},
        {"{\"spec\":{\"template\":{\"kind\":\"P\",\"spec\":{\"a\":1}},\"labels\":{\"a\":{\"b\":1}}}}",
         "{\"spec\":{\"labels\":{\"a\":{}},\"template\":{\"kind\":\"P\",\"spec\":{\"a\":1}}}}", "spec.labels.a.b "},
        {"{\"spec\":{\"image\":[[{\"a\":1}]]}}", "{\"spec\":{\"image\":[[{}]]}}", "spec.image[0][0].a "},
    };
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct structural *structural = test_structural(arena, CRON_TAB);
    for (size_t i = 0; i < KP_ARRAY_LEN(cases); i++) {
        struct kp_value *object = test_value(arena, cases[i].given);
        struct kp_string_list dropped = {0};
        KP_AUTO_BUF struct kp_buf names = {0};
        structural_prune(structural, object, arena, &dropped);
        for (size_t j = 0; j < dropped.len; j++)
            kp_buf_printf(&names, "%s ", dropped.items[j]);
        assert_string_equal(test_print(arena, object), cases[i].want);
        assert_string_equal(names.data, cases[i].dropped);
    }
    structural_free(structural);
}

static void no_schema_keeps_everything(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct structural *structural = structural_new(NULL);
    struct kp_value *object = test_value(arena, "{\"a\":{\"b\":[null,{\"c\":1.5}]}}");
    struct field_errors errors = {.arena = arena};
    structural_prune(structural, object, arena, NULL);
    structural_default(structural, object, arena);
    structural_validate(structural, object, &errors);
    assert_string_equal(test_print(arena, object), "{\"a\":{\"b\":[null,{\"c\":1.5}]}}");
    assert_int_equal(errors.len, 0);
    structural_free(structural);
    structural_free(NULL);
}

static void prune_counts_at_most_a_hundred(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct structural *structural = test_structural(arena, "{\"type\":\"object\"}");
    struct kp_value *object = kp_value_object(arena);
    struct kp_string_list dropped = {0};
    for (int i = 0; i < 500; i++)
        kp_value_set(arena, object, kp_arena_printf(arena, "f%d", i), kp_value_null(arena));
    structural_prune(structural, object, arena, &dropped);
    assert_int_equal(dropped.len, 100);
    assert_int_equal(object->object.len, 0);
    structural_free(structural);
}

/* ---- default ------------------------------------------------------------------------------------------------------------------- */
#define DEFAULTS                                                                                                                       \
    ROOT("\"spec\":{\"type\":\"object\",\"default\":{\"b\":{}},\"properties\":{\"a\":{\"type\":\"string\",\"default\":\"x\"},"             \
         "\"b\":{\"type\":\"object\",\"properties\":{\"c\":{\"type\":\"integer\",\"default\":7},\"d\":{\"type\":\"integer\"}}},"            \
         "\"n\":{\"type\":\"string\",\"nullable\":true,\"default\":\"y\"},"                                                                \
         "\"l\":{\"type\":\"array\",\"items\":{\"type\":\"object\",\"default\":{\"p\":1},\"properties\":{\"p\":{\"type\":\"integer\"},"      \
         "\"q\":{\"type\":\"boolean\",\"default\":true}}}},"                                                                               \
         "\"m\":{\"type\":\"object\",\"additionalProperties\":{\"type\":\"object\",\"properties\":{\"e\":{\"type\":\"string\",\"default\":\"z\"}}}}}}")

static void defaults_are_filled_in_top_down(void **state)
{
    static const struct line cases[] = {
        {"{}", "{\"spec\":{\"a\":\"x\",\"b\":{\"c\":7},\"n\":\"y\"}}"},
        {"{\"spec\":null}", "{\"spec\":{\"a\":\"x\",\"b\":{\"c\":7},\"n\":\"y\"}}"},
        {"{\"spec\":{\"a\":\"k\",\"n\":null}}", "{\"spec\":{\"a\":\"k\",\"n\":null}}"},
        {"{\"spec\":{\"a\":null,\"b\":{\"c\":null,\"d\":null}}}", "{\"spec\":{\"a\":\"x\",\"b\":{\"c\":7},\"n\":\"y\"}}"},
        {"{\"spec\":{\"b\":null,\"l\":[{},null,{\"q\":false}]}}",
         "{\"spec\":{\"a\":\"x\",\"l\":[{\"q\":true},{\"p\":1,\"q\":true},{\"q\":false}],\"n\":\"y\"}}"},
        {"{\"spec\":{\"m\":{\"k\":{},\"j\":null,\"i\":{\"e\":\"\"}}}}", "{\"spec\":{\"a\":\"x\",\"m\":{\"i\":{\"e\":\"\"},\"k\":{\"e\":\"z\"}},\"n\":\"y\"}}"},
        {"{\"spec\":[1],\"other\":null}", "{\"other\":null,\"spec\":[1]}"},
    };
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct structural *structural = test_structural(arena, DEFAULTS);
    for (size_t i = 0; i < KP_ARRAY_LEN(cases); i++) {
        struct kp_value *object = test_value(arena, cases[i].given);
        structural_default(structural, object, arena);
        assert_string_equal(test_print(arena, object), cases[i].want);
        structural_default(structural, object, arena);
        assert_string_equal(test_print(arena, object), cases[i].want);
    }
    structural_free(structural);
}

/* A small object can ask for much: the arena of the request must hold. */
static void defaults_stay_within_bounds(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf schema = {0};
    kp_buf_puts(&schema, "{\"type\":\"object\",\"properties\":{\"l\":{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{\"t\":{\"type\":\"string\",\"default\":\"");
    for (int i = 0; i < 10000; i++)
        kp_buf_puts(&schema, "0123456789");
    kp_buf_puts(&schema, "\"}}}}}}");
    struct structural *structural = test_structural(arena, schema.data);
    struct kp_value *object = kp_value_object(arena), *list = kp_value_array(arena);
    kp_value_set(arena, object, "l", list);
    for (int i = 0; i < 20000; i++)
        kp_value_append(arena, list, kp_value_object(arena));
    structural_default(structural, object, arena);
    assert_non_null(kp_value_get(list->array.items[0], "t"));
    assert_null(kp_value_get(list->array.items[19999], "t"));
    structural_free(structural);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_lets_real_schemas_pass),
        cmocka_unit_test(check_refuses_what_is_not_structural),
        cmocka_unit_test(check_refuses_restrictions_that_give_form),
        cmocka_unit_test(check_refuses_lists_that_cannot_merge),
        cmocka_unit_test(check_refuses_defaults_that_do_not_hold),
        cmocka_unit_test(check_bounds_depth_and_size),
        cmocka_unit_test(prune_drops_what_is_not_named),
        cmocka_unit_test(no_schema_keeps_everything),
        cmocka_unit_test(prune_counts_at_most_a_hundred),
        cmocka_unit_test(defaults_are_filled_in_top_down),
        cmocka_unit_test(defaults_stay_within_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
