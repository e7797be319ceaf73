/* Tables of custom resources: the columns of a definition, and cells of each type. */
#include "controlplane/apiserver/table/table.h"

#include "tests/unit/controlplane/apiserver/widget_test.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define NOW_S INT64_C(1767225600) /* 2026-01-01T00:00:00Z */
#define META "\"metadata\":{\"name\":\"w\",\"creationTimestamp\":\"2025-12-31T23:59:00Z\"}"

static const char *cells_of(const struct kp_column *columns, size_t count, const char *json, struct kp_arena *arena)
{
    struct kp_resource resource = widget_resource;
    void *obj = NULL;
    struct kp_error error = {0};
    KP_AUTO_BUF struct kp_buf out = {0};
    resource.columns = columns;
    resource.n_columns = count;
    if (kp_json_decode(&widget_type, json, strlen(json), arena, NULL, &obj, &error) < 0)
        fail_msg("%s", error.message);
    table_cells(&resource, obj, NOW_S, arena, &out);
    return kp_arena_strdup(arena, out.data);
}

/* The cell of a column of this type and path, of an object with this spec. */
static void check(const char *type, const char *path, const char *spec, const char *cell)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const struct kp_column column = {.name = "C", .type = type, .path = path};
    const char *cells = cells_of(&column, 1, kp_arena_printf(arena, "{" META ",\"spec\":{%s}}", spec), arena);
    const char *expected = kp_arena_printf(arena, "[\"w\",%s]", cell);
    if (strcmp(cells, expected) != 0)
        fail_msg("%s of %s as %s is %s instead of %s", path, spec, type, cells, expected);
}

static void the_columns_of_the_definition_follow_the_name(void **state)
{
    (void)state;
    static const struct kp_column columns[] = {{"Color", "string", "", 0, "Which color it has.", ".spec.color"}, {"Size", "integer", "int32", 1, "", ".spec.size"}};
    struct kp_resource resource = widget_resource;
    KP_AUTO_BUF struct kp_buf out = {0};
    resource.columns = columns;
    resource.n_columns = KP_ARRAY_LEN(columns);
    table_columns(&resource, &out);
    assert_string_equal(out.data, "[{\"name\":\"Name\",\"type\":\"string\",\"format\":\"name\",\"description\":\"The object's name within its namespace.\",\"priority\":0},"
                                  "{\"name\":\"Color\",\"type\":\"string\",\"format\":\"\",\"description\":\"Which color it has.\",\"priority\":0},"
                                  "{\"name\":\"Size\",\"type\":\"integer\",\"format\":\"int32\",\"description\":\"Custom resource definition column (in JSONPath format): .spec.size\",\"priority\":1}]");
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    assert_string_equal(cells_of(columns, 2, "{" META ",\"spec\":{\"color\":\"red\",\"size\":3}}", arena), "[\"w\",\"red\",3]");
    assert_string_equal(cells_of(columns, 2, "{" META "}", arena), "[\"w\",null,null]");
}

static void cells_are_converted_to_the_columns_type(void **state)
{
    (void)state;
    check("integer", ".spec.size", "\"size\":42", "42");
    check("integer", ".spec.size", "\"size\":3.9", "3");
    check("integer", ".spec.size", "\"size\":1e30", "-9223372036854775808");
    check("integer", ".spec.size", "\"size\":\"42\"", "null");
    check("integer", ".spec.size", "\"size\":true", "null");
    check("number", ".spec.size", "\"size\":42", "42");
    check("number", ".spec.size", "\"size\":3.25", "3.25");
    check("number", ".spec.size", "\"size\":\"3\"", "null");
    check("boolean", ".spec.on", "\"on\":true", "true");
    check("boolean", ".spec.on", "\"on\":\"true\"", "null");
    check("boolean", ".spec.on", "\"on\":1", "null");
    check("unknown", ".spec.color", "\"color\":\"red\"", "null");
}

static void cells_of_type_string_print_anything(void **state)
{
    (void)state;
    check("string", ".spec.color", "\"color\":\"r\\\"d\"", "\"r\\\"d\"");
    check("string", ".spec.size", "\"size\":7", "\"7\"");
    check("string", ".spec.size", "\"size\":2.0", "\"2\"");
    check("string", ".spec.size", "\"size\":0.00001", "\"1e-05\"");
    check("string", ".spec.size", "\"size\":0.0001", "\"0.0001\"");
    check("string", ".spec.size", "\"size\":1e21", "\"1e+21\"");
    check("string", ".spec.size", "\"size\":123456789012345678901", "\"123456789012345680000\"");
    check("string", ".spec.on", "\"on\":false", "\"false\"");
    check("string", ".spec.hosts", "\"hosts\":[\"a\",\"b\"]", "\"[\\\"a\\\",\\\"b\\\"]\"");
    check("string", ".spec.extra", "\"extra\":{\"b\":1,\"a\":null}", "\"{\\\"a\\\":null,\\\"b\\\":1}\"");
    check("string", ".spec.extra.a", "\"extra\":{\"a\":null}", "\"<no value>\"");
    check("string", ".spec.hosts[*]", "\"hosts\":[\"a\",\"b\"]", "\"a\""); /* the first, as upstream */
    check("string", ".spec.hosts[2]", "\"hosts\":[\"a\",\"b\"]", "null");
    check("string", ".spec.parts[?(@.size>1)].name", "\"parts\":[{\"name\":\"x\",\"size\":1},{\"name\":\"y\",\"size\":2}]", "\"y\"");
    check("string", ".kind", "", "\"Widget\"");
}

static void dates_become_ages(void **state)
{
    (void)state;
    check("date", ".metadata.creationTimestamp", "", "\"60s\"");
    check("date", ".spec.born", "\"born\":\"2025-12-31T12:30:00+01:00\"", "\"12h\"");
    check("date", ".spec.born", "\"born\":\"2026-01-01T12:30:00Z\"", "\"<invalid>\"");
    check("date", ".spec.born", "\"born\":\"yesterday\"", "\"<invalid>\"");
    check("date", ".spec.born", "\"born\":\"\"", "\"<unknown>\"");
    check("date", ".spec.born", "\"born\":\"0001-01-01T00:00:00Z\"", "\"<unknown>\"");
    check("date", ".spec.born", "\"born\":5", "null");
    check("date", ".spec.born", "", "null");
}

static void columns_end_before_a_malformed_path(void **state)
{
    (void)state;
    static const struct kp_column columns[] = {{"A", "string", "", 0, "a", ".spec.color"}, {"B", "string", "", 0, "b", ".spec["}, {"C", "string", "", 0, "c", ".spec.size"}};
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_resource resource = widget_resource;
    KP_AUTO_BUF struct kp_buf out = {0};
    resource.columns = columns;
    resource.n_columns = KP_ARRAY_LEN(columns);
    table_columns(&resource, &out);
    assert_non_null(strstr(out.data, "\"name\":\"A\""));
    assert_null(strstr(out.data, "\"name\":\"B\""));
    assert_null(strstr(out.data, "\"name\":\"C\""));
    assert_string_equal(cells_of(columns, 3, "{" META ",\"spec\":{\"color\":\"red\"}}", arena), "[\"w\",\"red\"]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_columns_of_the_definition_follow_the_name), cmocka_unit_test(cells_are_converted_to_the_columns_type),
        cmocka_unit_test(cells_of_type_string_print_anything),           cmocka_unit_test(dates_become_ages),
        cmocka_unit_test(columns_end_before_a_malformed_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
