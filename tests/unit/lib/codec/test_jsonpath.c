/* JSONPath as columns of custom resources have it: what is found, what is refused with which words, and the limits. */
#include "lib/codec/codec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static const char document[] =
    "{\"a\":{\"b\":1,\"c\":\"x\",\"nothing\":null},\"list\":[10,20,30,40],\"empty\":[],\"flag\":true,"
    "\"metadata\":{\"annotations\":{\"foo.io/bar\":\"dotted\",\"a b\":\"blank\",\"it's\":\"quoted\"}},"
    "\"items\":[{\"name\":\"one\",\"n\":1,\"ok\":true,\"tags\":[\"p\"]},{\"name\":\"two\",\"n\":2.5,\"ok\":false},{\"name\":\"three\",\"n\":3}],"
    "\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"},{\"type\":\"It's \\\"x\\\" (y)]\",\"status\":\"False\"}]}";

static struct kp_value *parse_document(const char *text, struct kp_arena *arena)
{
    struct kp_value *root = NULL;
    struct kp_error error = {0};
    if (kp_value_parse(text, strlen(text), arena, NULL, &root, &error) < 0)
        fail_msg("%s", error.message);
    return root;
}

/* All that path finds, as JSON behind one another, or the error's text. */
static const char *find_in(const char *text, const char *path, struct kp_arena *arena)
{
    struct kp_error error = {0};
    struct kp_jsonpath *parsed;
    struct kp_value_list found;
    KP_AUTO_BUF struct kp_buf out = {0};
    if (kp_jsonpath_parse(path, arena, &parsed, &error) < 0 || kp_jsonpath_find(parsed, parse_document(text, arena), arena, &found, &error) < 0)
        return kp_arena_strdup(arena, error.message);
    for (size_t i = 0; i < found.len; i++) {
        kp_buf_puts(&out, i ? " " : "");
        kp_value_print(found.items[i], &out);
    }
    return kp_arena_strdup(arena, out.data ? out.data : "");
}

static void check(const char *path, const char *expected)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *found = find_in(document, path, arena);
    if (strcmp(found, expected) != 0)
        fail_msg("%s finds %s instead of %s", path, found, expected);
}

static void fields_lead_down_and_missing_ones_find_nothing(void **state)
{
    (void)state;
    check(".a.b", "1");
    check("$.a.b", "1");
    check("  .a .b ", "1");
    check(".a['b']", "1");
    check(".a[\"b\"]", "1");
    check("['a']['b']", "1");
    check("['a.b']", "1"); /* dots separate names in quotes, too */
    check(".a.nothing", "null");
    check(".a.nothing.deeper", "");
    check(".a.b.deeper", "");
    check(".list.a", "");
    check(".gone", "");
    check(".gone.b[0]['c']", "");
    check(".", "");
    check(".metadata.annotations.foo\\.io/bar", "\"dotted\"");
    check(".metadata.annotations['foo\\.io/bar']", "\"dotted\"");
    check(".metadata.annotations['a b']", "\"blank\"");
    check(".metadata.annotations['it\\'s']", "\"quoted\"");
    check(".metadata.annotations[\"it's\"]", "\"quoted\"");
    check(".metadata.annotations['foo.io/bar']", "");
}

static void elements_are_picked_by_index_and_slice(void **state)
{
    (void)state;
    check(".list[0]", "10");
    check(".list[-1]", "40");
    check(".list[]", "10");
    check(".list[1:3]", "20 30");
    check(".list[:2]", "10 20");
    check(".list[2:]", "30 40");
    check(".list[-2:]", "30 40");
    check(".list[0:-1]", "10 20 30");
    check(".list[::2]", "10 30");
    check(".list[*]", "10 20 30 40");
    check(".list.*", "10 20 30 40");
    check(".list[1:1]", "");
    check(".empty[*]", "");
    check(".a.*", "1 \"x\" null");
    check(".items[*].name", "\"one\" \"two\" \"three\"");
    check(".items[*].tags[0]", "\"p\"");
    check(".a.nothing[0]", "");
    check(".list[4]", "array index out of bounds: index 4, length 4");
    check(".list[0:5]", "array index out of bounds: index 4, length 4");
    check(".list[-5]", "array index out of bounds: index -1, length 4");
    check(".empty[-1]", "array index out of bounds: index -1, length 0");
    check(".list[3:1]", "starting index 3 is greater than ending index 1");
    check(".a[0]", "what is indexed is not array or slice");
}

static void unions_and_descents_find_all_of_it(void **state)
{
    (void)state;
    check(".a['b','c']", "1 \"x\"");
    check(".a[ 'c' , \"b\" ]", "\"x\" 1");
    check(".list[0,-1,1:3]", "10 40 20 30");
    check("..name", "\"one\" \"two\" \"three\"");
    check("$..tags", "[\"p\"]");
    check("..annotations['a b']", "\"blank\"");
    check(".items..n", "1 2.5 3");
    check("..type", "\"Ready\" \"It's \\\"x\\\" (y)]\"");
}

static void filters_keep_the_elements_that_pass(void **state)
{
    (void)state;
    check(".conditions[?(@.type==\"Ready\")].status", "\"True\"");
    check(".conditions[?(@.type == 'Ready')].status", "\"True\"");
    check(".conditions[?(@.type!=\"Ready\")].status", "\"False\"");
    check(".conditions[?(@.type==\"It's \\\"x\\\" (y)]\")].status", "\"False\"");
    check(".conditions[?(@['type']==\"Ready\")].status", "\"True\"");
    check(".items[?(@.n>1)].name", "\"two\" \"three\"");
    check(".items[?(@.n>=2.5)].name", "\"two\" \"three\"");
    check(".items[?(@.n<2.5)].name", "\"one\"");
    check(".items[?(@.n<=2.5)].name", "\"one\" \"two\"");
    check(".items[?(@.n==3)].name", "\"three\"");
    check(".items[?(@.n!=+3)].name", "\"one\" \"two\"");
    check(".items[?(@.n>-1.5)].name", "\"one\" \"two\" \"three\"");
    check(".items[?(@.name>\"p\")].n", "2.5 3");
    check(".items[?(@.ok==true)].name", "\"one\"");
    check(".items[?(@.ok!=true)].name", "\"two\"");
    check(".items[?(@.ok)].name", "\"one\" \"two\"");
    check(".items[?(@.tags[?(@==\"p\")])].name", "\"one\"");
    check(".items[?(@.tags[5])].name", "");
    check(".list[?(@>20)]", "30 40");
    check(".items[?(@.gone==1)]", "");
    check(".items[?(@.n==\"1\")]", "incompatible types for comparison");
    check(".items[?(@.tags==1)]", "invalid type for comparison");
    check(".items[?(@.ok<true)]", "invalid type for comparison");
    check(".items[?(@.tags[*]==1)]", "incompatible types for comparison");
    check(".items[?(@.*==1)]", "can only compare one element at a time");
    check(".a[?(@.b)]", "what is filtered is not array or slice and cannot be filtered");
}

static void malformed_paths_say_where_and_what_to_write(void **state)
{
    (void)state;
    static const char *const table[][2] = {
        {"a.b", "at offset 0: unrecognized character; write a name as .name or ['name']"},
        {".a b", "at offset 3: unrecognized character"},
        {".a}{.b", "at offset 2: unrecognized character"},
        {".a\n", "at offset 2: unrecognized character"},
        {".a[", "at offset 3: invalid array index; write a number, a slice such as 0:2, * or a name in quotes, then ]"},
        {".a[b]", "at offset 3: invalid array index"},
        {".a[0", "at offset 4: invalid array index"},
        {".a[0,", "at offset 5: invalid array index"},
        {".a['b", "at offset 5: the name has no end; close its quote"},
        {".a['b\"]", "the name has no end"},
        {".a[99999999999999999999]", "at offset 3: this is no index; write a whole number"},
        {".a[-]", "at offset 3: this is no index"},
        {".a[::0]", "step must be > 0"},
        {"....a", "at offset 3: invalid multiple recursive descent; write .. once"},
        {".a[?(@.b=1)]", "at offset 8: unrecognized filter operator; write ==, !=, <, <=, > or >="},
        {".a[?(@.b==x)]", "at offset 10: expected a path such as @.name, a string in quotes, a number, true or false"},
        {".a[?(@.b==)]", "at offset 10: expected a path"},
        {".a[?(==1)]", "at offset 5: expected a path"},
        {".a[?(@.b", "at offset 8: the filter does not end here; write )] after its condition"},
        {".a[?(@.b==1) ]", "at offset 11: the filter does not end here"},
        {".a[?(@.b==\"x)]", "at offset 14: the string has no end; close its quote"},
        {".a[?(@.b==\"\\q\")]", "at offset 11: this escape is not known"},
        {".a[?(@.b==1.2.3)]", "at offset 10: this is no number"},
        {".a[?(@.b==-)]", "at offset 10: this is no number"},
        {".a[?(@[?(@[?(@[?(@[?(@.b)])])])])]", "at offset 18: too many filters within filters; nest fewer"},
    };
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    for (size_t i = 0; i < KP_ARRAY_LEN(table); i++) {
        struct kp_jsonpath *path;
        struct kp_error error = {0};
        if (kp_jsonpath_parse(table[i][0], arena, &path, &error) != KP_EINVALID || !strstr(error.message, table[i][1]))
            fail_msg("%s: %s instead of %s", table[i][0], error.message, table[i][1]);
        assert_true(kp_starts_with(error.message, "JSONPath "));
    }
}

static void what_grows_without_end_is_refused(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf text = {0}, path = {0};
    struct kp_jsonpath *parsed;
    struct kp_error error = {0};
    struct kp_value_list found;
    kp_buf_puts(&text, "[1");
    for (int i = 0; i < 999; i++)
        kp_buf_puts(&text, ",1");
    kp_buf_puts(&text, "]");
    assert_int_equal(kp_jsonpath_parse("[*]", arena, &parsed, &error), 0);
    assert_int_equal(kp_jsonpath_find(parsed, parse_document(text.data, arena), arena, &found, &error), 0);
    assert_int_equal(found.len, 1000);
    kp_buf_puts(&path, "['x'");
    for (int i = 0; i < 800; i++)
        kp_buf_puts(&path, ",*");
    kp_buf_puts(&path, "]");
    assert_int_equal(kp_jsonpath_parse(path.data, arena, &parsed, &error), 0);
    assert_int_equal(kp_jsonpath_find(parsed, parse_document(text.data, arena), arena, &found, &error), KP_ETOOLARGE);
    while (path.len <= KP_JSONPATH_TEXT_MAX)
        kp_buf_puts(&path, ".a");
    assert_int_equal(kp_jsonpath_parse(path.data, arena, &parsed, &error), KP_EINVALID);
    /* a small arena of the caller's is not overrun either */
    KP_AUTO(kp_arena_free) struct kp_arena *small = kp_arena_new(4096);
    assert_int_equal(kp_jsonpath_parse("[*]", small, &parsed, &error), 0);
    assert_int_equal(kp_jsonpath_find(parsed, parse_document(text.data, arena), small, &found, &error), KP_ETOOLARGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_lead_down_and_missing_ones_find_nothing), cmocka_unit_test(elements_are_picked_by_index_and_slice),
        cmocka_unit_test(unions_and_descents_find_all_of_it),             cmocka_unit_test(filters_keep_the_elements_that_pass),
        cmocka_unit_test(malformed_paths_say_where_and_what_to_write),    cmocka_unit_test(what_grows_without_end_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
