/* The values of selectable fields, of raw JSON above all. */
#include "controlplane/apiserver/watch/watch.h"

#include "tests/unit/controlplane/apiserver/widget_test.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void raw_scalars_have_a_text(void **state)
{
    (void)state;
    static const char json[] = "{\"metadata\":{\"name\":\"w\"},\"spec\":{\"color\":\"r\\u00e4d\\\"\",\"size\":1.50,\"replicas\":7,\"on\":true,\"hosts\":[\"a\"],"
                               "\"extra\":{\"deep\":{\"s\":\"x\",\"n\":-3,\"b\":false,\"null\":null}},\"parts\":[{\"name\":\"first\"}]}}";
    static const char *const table[][2] = {
        {"metadata.name", "w"},        {"spec.color", "r\u00e4d\""},  {"spec.size", "1.50"},       {"spec.replicas", "7"},
        {"spec.on", "true"},           {"spec.hosts", ""},            {"spec.hosts.a", ""},        {"spec.born", ""},
        {"spec.born.deeper", ""},      {"spec.extra", ""},            {"spec.extra.deep", ""},     {"spec.extra.deep.s", "x"},
        {"spec.extra.deep.n", "-3"},   {"spec.extra.deep.b", "false"}, {"spec.extra.deep.null", ""}, {"spec.extra.gone.s", ""},
        {"spec.parts.name", "first"},  {"spec.gone", ""},             {"status.replicas", ""},
    };
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_error error = {0};
    void *obj = NULL;
    if (kp_json_decode(&widget_type, json, strlen(json), arena, NULL, &obj, &error) < 0)
        fail_msg("%s", error.message);
    for (size_t i = 0; i < KP_ARRAY_LEN(table); i++)
        assert_string_equal(wcache_field_value(&widget_type, obj, table[i][0], arena), table[i][1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(raw_scalars_have_a_text)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
