/* What the tests of lib/cel share: expressions and the text of what they give. */
#ifndef CEL_TEST_H
#define CEL_TEST_H

#include "lib/cel/cel_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* Of every expression: x is anything, as JSON; obj an object with fields. */
#define TEST_JSON                                                                                                                                            \
    "{\"i\":7,\"d\":1.5,\"s\":\"text\",\"b\":true,\"n\":null,\"list\":[1,2,3],\"names\":[\"a\",\"b\",\"c\"],\"map\":{\"k\":\"v\",\"two\":\"w\"},"                \
    "\"items\":[{\"name\":\"a\",\"port\":80},{\"name\":\"b\",\"port\":443}],\"when\":\"2026-01-02T03:04:05.5Z\",\"long\":\"1h30m\",\"raw\":\"aGk=\","         \
    "\"any\":\"50%\",\"set\":[\"x\",\"y\"],\"in\":\"reserved\",\"a-b\":\"dash\",\"empty\":{},\"nested\":{\"inner\":{\"leaf\":1}}}"

static inline const struct cel_type *test_type(struct kp_arena *arena)
{
    struct cel_field item_fields[] = {{"name", "name", &cel_string}, {"port", "port", &cel_int}};
    struct cel_type *set = kp_arena_memdup(arena, cel_list_of(arena, &cel_string), sizeof(*set));
    set->list_type = CEL_LIST_SET;
    struct cel_type *items =
        kp_arena_memdup(arena, cel_list_of(arena, cel_object(arena, "item", kp_arena_memdup(arena, item_fields, sizeof(item_fields)), 2)), sizeof(*items));
    static const char *const keys[] = {"name"};
    items->list_type = CEL_LIST_MAP;
    items->keys = keys;
    items->n_keys = 1;
    struct cel_field leaf = {"leaf", "leaf", &cel_int}, inner;
    inner = (struct cel_field){"inner", "inner", cel_object(arena, "inner", kp_arena_memdup(arena, &leaf, sizeof(leaf)), 1)};
    struct cel_field fields[] = {
        {"i", "i", &cel_int}, {"d", "d", &cel_double}, {"s", "s", &cel_string}, {"b", "b", &cel_bool}, {"list", "list", cel_list_of(arena, &cel_int)},
        {"names", "names", cel_list_of(arena, &cel_string)}, {"map", "map", cel_map_of(arena, &cel_string, &cel_string)}, {"items", "items", items},
        {"when", "when", &cel_timestamp}, {"long", "long", &cel_duration}, {"raw", "raw", &cel_bytes}, {"any", "any", &cel_dyn}, {"set", "set", set},
        {"__in__", "in", &cel_string}, {"a__dash__b", "a-b", &cel_string}, {"missing", "missing", &cel_string}, {"n", "n", &cel_string},
        {"nested", "nested", cel_object(arena, "nested", kp_arena_memdup(arena, &inner, sizeof(inner)), 1)},
    };
    return cel_object(arena, "object", kp_arena_memdup(arena, fields, sizeof(fields)), KP_ARRAY_LEN(fields));
}

static inline struct kp_value *test_json(struct kp_arena *arena, const char *json)
{
    struct kp_error error = {0};
    struct kp_value *value = NULL;
    if (kp_value_parse(json, strlen(json), arena, NULL, &value, &error) < 0)
        fail_msg("%s: %s", error.message, json);
    return value;
}

static inline void test_print(struct cel_eval *e, const struct cel_value *v, struct kp_buf *out)
{
    struct map_walk walk = {0};
    struct cel_value key, item;
    switch (v->kind) {
    case CEL_ERROR:
        kp_buf_printf(out, "error: %s", v->error);
        break;
    case CEL_STRING:
        kp_json_string_n(out, v->text.data, v->text.len);
        break;
    case CEL_BYTES:
        kp_buf_putc(out, 'b');
        kp_json_string_n(out, v->text.data, v->text.len);
        break;
    case CEL_UINT:
        kp_buf_printf(out, "%lluu", (unsigned long long)v->uinteger);
        break;
    case CEL_TIMESTAMP:
        kp_buf_puts(out, timestamp_text(v->integer, v->nanos, e->arena));
        break;
    case CEL_DURATION:
        kp_buf_puts(out, duration_text(v->integer, e->arena));
        break;
    case CEL_LIST:
        kp_buf_putc(out, '[');
        for (size_t i = 0; i < cel_len(e, v); i++) {
            item = cel_item(e, v, i);
            kp_buf_puts(out, i ? ", " : "");
            test_print(e, &item, out);
        }
        kp_buf_putc(out, ']');
        break;
    case CEL_MAP:
        kp_buf_putc(out, '{');
        for (bool first = true; map_next(e, v, &walk, &key, &item); first = false) {
            kp_buf_puts(out, first ? "" : ", ");
            test_print(e, &key, out);
            kp_buf_puts(out, ": ");
            test_print(e, &item, out);
        }
        kp_buf_putc(out, '}');
        break;
    case CEL_OPTIONAL:
        kp_buf_puts(out, v->optional ? "optional(" : "none");
        if (v->optional) {
            test_print(e, v->optional, out);
            kp_buf_putc(out, ')');
        }
        break;
    case CEL_TYPE:
        kp_buf_puts(out, v->type->name ? v->type->name : runtime_type_name(&(const struct cel_value){.kind = v->type->kind}));
        break;
    case CEL_OPAQUE:
        kp_buf_printf(out, "<%s>", v->object.of->type->name);
        break;
    default:
        kp_buf_puts(out, value_describe(v, e->arena));
    }
}

/* The value's text, `error: ...`, or the faults of compiling; *ret_cost may be NULL. */
static inline const char *test_evaluate(struct kp_arena *arena, const char *text, uint64_t *ret_cost)
{
    const struct cel_type *type = test_type(arena);
    const struct cel_variable variables[] = {{"x", &cel_dyn}, {"obj", type}, {"unset", &cel_dyn}, {"yes", &cel_bool}, {"maybe", cel_optional_of(arena, &cel_int)}};
    const char *fault = NULL;
    KP_AUTO(cel_program_free)
    struct cel_program *program = cel_compile(&(const struct cel_env){variables, KP_ARRAY_LEN(variables), NULL, 0}, text, arena, &fault);
    if (!program)
        return fault;
    KP_AUTO(kp_arena_free) struct kp_arena *scratch = kp_arena_new(CEL_MEMORY_MAX + ((size_t)1 << 20));
    const struct kp_value *json = test_json(arena, TEST_JSON);
    const struct cel_value values[] = {cel_of_tree(json, &cel_dyn, scratch), cel_of_tree(json, type, scratch), {0}, cel_of_bool(true), cel_none()};
    struct cel_value result = cel_evaluate(program, values, scratch, CEL_CALL_COST_MAX, ret_cost);
    struct cel_eval e = {.program = program, .arena = scratch, .memory_end = SIZE_MAX};
    KP_AUTO_BUF struct kp_buf out = {0};
    test_print(&e, &result, &out);
    return kp_arena_strndup(arena, out.data ? out.data : "", out.len);
}

struct test_row {
    const char *text, *expected;
};

static inline void test_rows(const struct test_row *rows, size_t n)
{
    size_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        const char *got = test_evaluate(arena, rows[i].text, NULL);
        if (strcmp(got, rows[i].expected) == 0)
            continue;
        print_error("%s\n  gives    %s\n  expected %s\n", rows[i].text, got, rows[i].expected);
        bad++;
    }
    assert_int_equal(bad, 0);
}
#define TEST_ROWS(...)                                           \
    do {                                                         \
        const struct test_row rows_[] = {__VA_ARGS__};           \
        test_rows(rows_, KP_ARRAY_LEN(rows_));                   \
    } while (0)

#endif
