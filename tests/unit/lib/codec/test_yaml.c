/* YAML in and out: the meanings Kubernetes clients rely on, and the bounds on hostile documents. */
#include "api/k8s.h"

#include <setjmp.h>
#include <cmocka.h>

static struct kp_arena *arena;

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

static void assert_json(const char *yaml, const char *json)
{
    struct kp_value **documents;
    size_t n;
    struct kp_error error = {0};
    KP_AUTO_BUF struct kp_buf out = {0};
    if (kp_yaml_parse(yaml, strlen(yaml), arena, &documents, &n, &error) < 0)
        fail_msg("%s: %s", yaml, error.message);
    assert_int_equal(n, 1);
    kp_value_print(documents[0], &out);
    assert_string_equal(out.data, json);
}

static void assert_error(const char *yaml, const char *message)
{
    struct kp_value **documents;
    size_t n;
    struct kp_error error = {0};
    assert_true(kp_yaml_parse(yaml, strlen(yaml), arena, &documents, &n, &error) < 0);
    if (!strstr(error.message, message))
        fail_msg("expected %s, got %s", message, error.message);
}

static void scalars_mean_what_yaml_1_1_says(void **state)
{
    (void)state;
    assert_json("[yes, Off, y, true, 'yes', \"off\", \"1\"]", "[true,false,true,true,\"yes\",\"off\",\"1\"]");
    assert_json("[1, 010, 0x1f, 0b11, -5, 1_000, 1.5, 1e3, .5, 5., +7]", "[1,8,31,3,-5,1000,1.5,1000,0.5,5,7]");
    assert_json("{a: ~, b: null, c: , d: Null}", "{\"a\":null,\"b\":null,\"c\":null,\"d\":null}");
    assert_json("[1.2.3, 1h, 0o7x, 2001-12-14, 12e, 1:30, -, abc]", "[\"1.2.3\",\"1h\",\"0o7x\",\"2001-12-14\",\"12e\",\"1:30\",\"-\",\"abc\"]");
    assert_json("[!!str 1, ! 2, !!int 3, 18446744073709551615]", "[\"1\",\"2\",3,18446744073709552000]");
    assert_error("a: .inf", "no JSON form");
}

static void keys_become_strings(void **state)
{
    (void)state;
    assert_json("{1: a, true: b, 1.5: d}", "{\"1\":\"a\",\"true\":\"b\",\"1.5\":\"d\"}");
}

static void blocks_and_documents(void **state)
{
    (void)state;
    struct kp_value **documents;
    size_t n;
    struct kp_error error = {0};
    const char *text = "# c\n---\na: |\n  x\n  y\nb: >-\n  p\n  q\n---\n---\nkind: Second\n...\n";
    assert_int_equal(kp_yaml_parse(text, strlen(text), arena, &documents, &n, &error), 0);
    assert_int_equal(n, 2);
    assert_string_equal(kp_value_str(kp_value_get(documents[0], "a")), "x\ny\n");
    assert_string_equal(kp_value_str(kp_value_get(documents[0], "b")), "p q");
    assert_int_equal(kp_value_get(documents[1], "kind")->line, 11);
}

static void anchors_and_merges_expand(void **state)
{
    (void)state;
    assert_json("base: &b {x: 1, z: 2}\nuse: {<<: *b, z: 3}\nlist: [*b]", "{\"base\":{\"x\":1,\"z\":2},\"use\":{\"z\":3,\"x\":1},\"list\":[{\"x\":1,\"z\":2}]}");
    assert_error("a: *nope", "unknown anchor 'nope' referenced");
    assert_error("a: &a [*a]", "unknown anchor 'a' referenced");
}

static void hostile_documents_are_refused(void **state)
{
    (void)state;
    KP_AUTO_BUF struct kp_buf laughs = {0}, deep = {0};
    kp_buf_puts(&laughs, "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for (int i = 1; i < 10; i++)
        kp_buf_printf(&laughs, "a%d: &a%d [*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d]\n", i, i, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1,
                      i - 1, i - 1, i - 1, i - 1);
    assert_error(laughs.data, "excessive aliasing");
    for (int i = 0; i < 5000; i++)
        kp_buf_putc(&deep, '[');
    assert_error(deep.data, "nested deeper");
    assert_error("a: 1\nb: 2\na: 3\n", "line 3: key \"a\" already set in map");
    assert_error("a: [1\nb: }", "yaml: line");
    assert_error("a:\n\t- b", "yaml: line 2");
    assert_error("? {a: b}\n: c", "a key must be a scalar");
}

static void prints_like_kubectl(void **state)
{
    (void)state;
    const char *json = "{\"spec\":{\"b\":[{\"name\":\"x\",\"args\":[\"-c\",\"yes\",\"a: b\",\"# no\",\"1\",\"1.5\",\"\",\"two words\",\"@x\",\"2026-11-21T05:00:00Z\"]}],"
                       "\"empty\":{},\"none\":[],\"n\":null,\"t\":true,\"i\":-3},\"data\":{\"script\":\"a\\nb\\n\",\"odd\":\"a\\tb\",\"30\":\"x\"}}";
    const char *yaml = "data:\n  \"30\": x\n  odd: \"a\\tb\"\n  script: |\n    a\n    b\nspec:\n  b:\n  - args:\n    - -c\n    - \"yes\"\n    - 'a: b'\n    - '# no'\n"
                       "    - \"1\"\n    - \"1.5\"\n    - \"\"\n    - two words\n    - '@x'\n    - \"2026-11-21T05:00:00Z\"\n    name: x\n  empty: {}\n  i: -3\n  \"n\": null\n  none: []\n  t: true\n";
    struct kp_value *value, **again;
    size_t n;
    struct kp_error error = {0};
    KP_AUTO_BUF struct kp_buf out = {0};
    assert_int_equal(kp_value_parse(json, strlen(json), arena, NULL, &value, &error), 0);
    kp_yaml_print(value, &out);
    assert_string_equal(out.data, yaml);
    assert_int_equal(kp_yaml_parse(out.data, out.len, arena, &again, &n, &error), 0);
    assert_true(kp_value_equal(value, again[0]));
}

static void decodes_into_structs(void **state)
{
    (void)state;
    const char *yaml = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\nspec:\n  containers:\n  - name: c\n    image: nginx\n    resources:\n"
                       "      limits: {cpu: 1, memory: 64Mi}\n    extra: 1\n";
    struct k8s_pod *pod;
    struct kp_error error = {0};
    struct kp_decode options = {.strict = true};
    assert_int_equal(kp_yaml_decode(&k8s_pod_type, yaml, strlen(yaml), arena, &options, (void **)&pod, &error), 0);
    assert_string_equal(options.kind, "Pod");
    assert_string_equal(pod->metadata->name, "web");
    assert_string_equal(kp_string_map_get(&pod->spec->containers.items[0].resources->limits, "cpu"), "1");
    assert_int_equal(options.problems.len, 1);
    assert_string_equal(options.problems.items[0], "unknown field \"spec.containers[0].extra\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(scalars_mean_what_yaml_1_1_says, setup, teardown),
        cmocka_unit_test_setup_teardown(blocks_and_documents, setup, teardown),
        cmocka_unit_test_setup_teardown(keys_become_strings, setup, teardown),
        cmocka_unit_test_setup_teardown(anchors_and_merges_expand, setup, teardown),
        cmocka_unit_test_setup_teardown(hostile_documents_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(prints_like_kubectl, setup, teardown),
        cmocka_unit_test_setup_teardown(decodes_into_structs, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
