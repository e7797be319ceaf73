/* Tables made of a custom resource's schema: what they look like, and that every value comes out as it went in. */
#include "controlplane/apiserver/structural/structural.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static const char schema_text[] =
    "{\"type\":\"object\",\"properties\":{"
    "\"apiVersion\":{\"type\":\"string\"},\"kind\":{\"type\":\"string\"},\"metadata\":{\"type\":\"object\"},"
    "\"spec\":{\"type\":\"object\",\"properties\":{"
    "\"size\":{\"type\":\"integer\"},\"on\":{\"type\":\"boolean\"},\"text\":{\"type\":\"string\"},\"port\":{\"x-kubernetes-int-or-string\":true},"
    "\"plain\":{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"}}}},"
    "\"set\":{\"type\":\"array\",\"x-kubernetes-list-type\":\"set\",\"items\":{\"type\":\"string\"}},"
    "\"parts\":{\"type\":\"array\",\"x-kubernetes-list-type\":\"map\",\"x-kubernetes-list-map-keys\":[\"name\",\"proto\"],\"items\":{\"type\":\"object\","
    "\"properties\":{\"name\":{\"type\":\"string\"},\"proto\":{\"type\":\"string\",\"default\":\"TCP\"}}}},"
    "\"labels\":{\"type\":\"object\",\"additionalProperties\":{\"type\":\"string\"}},"
    "\"by\":{\"type\":\"object\",\"additionalProperties\":{\"type\":\"object\",\"properties\":{\"x\":{\"type\":\"number\"}}}},"
    "\"counts\":{\"type\":\"object\",\"additionalProperties\":{\"type\":\"integer\"}},"
    "\"whole\":{\"type\":\"object\",\"x-kubernetes-map-type\":\"atomic\",\"properties\":{\"a\":{\"type\":\"string\"}}},"
    "\"pod\":{\"type\":\"object\",\"x-kubernetes-embedded-resource\":true,\"properties\":{\"spec\":{\"type\":\"object\"}}},"
    "\"od\\\"d\":{\"type\":\"string\"}}},"
    "\"status\":{\"type\":\"object\",\"x-kubernetes-preserve-unknown-fields\":true}}}";

static const struct structural_names names = {"shop.example.com", "v1", "Widget", "WidgetList"};

struct made {
    struct kp_arena *arena;
    const struct kp_type *type, *list;
};

static struct made make(const char *text)
{
    struct made made = {.arena = kp_arena_new(0)};
    struct kp_error error = {0};
    void *schema = NULL;
    if (text && kp_json_decode(&k8s_json_schema_props_type, text, strlen(text), made.arena, NULL, &schema, &error) < 0)
        fail_msg("%s", error.message);
    structural_types(schema, &names, made.arena, &made.type, &made.list);
    return made;
}

static void comes_back(const struct made *made, const char *text)
{
    struct kp_error error = {0};
    struct kp_value *wanted = NULL, *got;
    void *obj = NULL;
    if (kp_json_decode(made->type, text, strlen(text), made->arena, NULL, &obj, &error) < 0)
        fail_msg("%s: %s", text, error.message);
    assert_int_equal(kp_value_parse(text, strlen(text), made->arena, NULL, &wanted, &error), 0);
    void *clone = kp_object_clone(made->type, obj, made->arena);
    assert_true(kp_object_equal(made->type, obj, clone));
    got = kp_value_from_object(made->type, clone, made->arena);
    if (!kp_value_equal(wanted, got)) {
        KP_AUTO_BUF struct kp_buf out = {0};
        kp_value_print(got, &out);
        fail_msg("%s became %s", text, out.data);
    }
}

#define HEAD "{\"apiVersion\":\"shop.example.com/v1\",\"kind\":\"Widget\",\"metadata\":{\"name\":\"a\"}"

static void test_values_come_back(void **state)
{
    (void)state;
    struct made made = make(schema_text);
    comes_back(&made, HEAD "}");
    comes_back(&made, HEAD ",\"spec\":{\"size\":0,\"on\":false,\"text\":\"\",\"port\":\"http\"}}");
    comes_back(&made, HEAD ",\"spec\":{\"size\":12345678901234,\"port\":80,\"plain\":[{\"a\":\"b\"},{}],\"set\":[\"x\",\"y\"]}}");
    comes_back(&made, HEAD ",\"spec\":{\"set\":[],\"parts\":[],\"labels\":{},\"by\":{},\"plain\":[],\"whole\":{}}}");
    comes_back(&made, HEAD ",\"spec\":{\"parts\":[{\"name\":\"n\",\"more\":{\"deep\":[1,null]}}],\"labels\":{\"a\":\"\"},\"by\":{\"k\":{\"x\":1.5}},\"counts\":{\"c\":3}}}");
    comes_back(&made, HEAD ",\"spec\":{\"pod\":{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"p\"}},\"od\\\"d\":\"quoted\"}}");
    /* What the schema does not name: dropping it is not the tables' business. */
    comes_back(&made, HEAD ",\"spec\":{\"unknown\":{\"a\":[1,2]},\"size\":1},\"data\":{\"x\":\"y\"},\"status\":{\"any\":true}}");
    comes_back(&made, HEAD ",\"\":1,\"spec\":{\"\":{}}}");
    comes_back(&made, HEAD ",\"unknown\":null,\"spec\":{\"a\":null},\"more\":{}}");
    comes_back(&made, HEAD ",\"spec\":7,\"status\":\"fine\"}");
    kp_arena_free(made.arena);
}

static void test_shape(void **state)
{
    (void)state;
    struct made made = make(schema_text);
    const struct kp_field *spec = kp_field_find(made.type, "spec"), *status = kp_field_find(made.type, "status");
    assert_int_equal(spec->kind, KP_KIND_RAW); /* one of its names cannot be written as it is */
    assert_int_equal(status->kind, KP_KIND_RAW);
    assert_string_equal(made.type->openapi_name, "com.example.shop.v1.Widget");
    assert_string_equal(made.list->kind, "WidgetList");
    assert_true(made.list->is_list && made.list->item_type == made.type);
    kp_arena_free(made.arena);

    KP_AUTO_BUF struct kp_buf plain = {0};
    const char *odd = strstr(schema_text, ",\"od\\\"d\"");
    kp_buf_append(&plain, schema_text, (size_t)(odd - schema_text));
    kp_buf_puts(&plain, odd + strlen(",\"od\\\"d\":{\"type\":\"string\"}"));
    made = make(plain.data);
    const struct kp_type *type = kp_field_find(made.type, "spec")->type;
    const struct kp_field *parts = kp_field_find(type, "parts"), *set = kp_field_find(type, "set");
    assert_int_equal(parts->list_type, KP_LIST_MAP);
    assert_string_equal(parts->list_map_keys[1], "proto");
    assert_string_equal(kp_field_find(parts->type, "proto")->default_json, "\"TCP\"");
    assert_null(kp_field_find(parts->type, "name")->default_json);
    assert_int_equal(set->list_type, KP_LIST_SET);
    assert_int_equal(kp_field_find(type, "labels")->cardinality, KP_MAP);
    assert_int_equal(kp_field_find(type, "by")->kind, KP_KIND_STRUCT);
    assert_int_equal(kp_field_find(type, "counts")->kind, KP_KIND_RAW);
    assert_int_equal(kp_field_find(type, "whole")->kind, KP_KIND_RAW);
    assert_int_equal(kp_field_find(type, "pod")->kind, KP_KIND_RAW);
    assert_null(kp_field_find(type, "")); /* the rest is nobody's field */
    comes_back(&made, HEAD ",\"spec\":{\"set\":[],\"parts\":[{\"name\":\"n\"}],\"labels\":{},\"by\":{\"k\":{}},\"size\":0,\"more\":1}}");
    /* Values of another shape than the schema has: told of by validation, and not lost by the tables. */
    comes_back(&made, HEAD ",\"spec\":[1,{\"a\":2}]}");
    comes_back(&made, HEAD ",\"spec\":{\"parts\":[{\"name\":\"n\"},7],\"set\":\"x\",\"labels\":{\"a\":1},\"by\":{\"k\":[]},\"size\":3}}");
    comes_back(&made, HEAD ",\"spec\":{\"by\":{\"k\":{\"x\":1},\"l\":true},\"labels\":\"none\",\"parts\":{}}}");
    struct kp_error error = {0};
    void *obj = NULL;
    static const char *const broken[] = {"{\"metadata\":7}", "{\"metadata\":{\"labels\":{\"a\":1}}}", "{\"spec\":{\"labels\":{\"a\":1}", "{\"spec\":[}"};
    for (size_t i = 0; i < KP_ARRAY_LEN(broken); i++)
        assert_int_equal(kp_json_decode(made.type, broken[i], strlen(broken[i]), made.arena, NULL, &obj, &error), KP_EBADREQUEST);
    kp_arena_free(made.arena);
}

static void test_differences_are_seen(void **state)
{
    (void)state;
    struct made made = make(NULL);
    static const char *const texts[] = {HEAD "}", HEAD ",\"a\":1}", HEAD ",\"a\":2}", HEAD ",\"a\":[]}", HEAD ",\"b\":1}"};
    for (size_t i = 0; i < KP_ARRAY_LEN(texts); i++)
        for (size_t j = 0; j < KP_ARRAY_LEN(texts); j++) {
            void *a = NULL, *b = NULL;
            assert_int_equal(kp_json_decode(made.type, texts[i], strlen(texts[i]), made.arena, NULL, &a, NULL), 0);
            assert_int_equal(kp_json_decode(made.type, texts[j], strlen(texts[j]), made.arena, NULL, &b, NULL), 0);
            assert_int_equal(kp_object_equal(made.type, a, b), i == j);
        }
    comes_back(&made, HEAD ",\"spec\":{\"a\":{\"b\":null}},\"status\":[1]}");
    kp_arena_free(made.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_values_come_back), cmocka_unit_test(test_shape), cmocka_unit_test(test_differences_are_seen)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
