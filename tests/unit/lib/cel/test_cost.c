/* lib/cel: what evaluations cost, by the numbers of cel-go's interpreter/runtimecost_test.go as Kubernetes counts (has() free, constants folded). */
#include "cel_test.h"

static void costs_are_upstreams(void **state)
{
    static const struct {
        const char *text;
        uint64_t cost;
    } rows[] = {
        {"'Hello World!'", 0}, {"x", 1}, {"x['map']", 2}, {"x.map", 2}, {"obj.list[0]", 3}, {"x['ma' + 'p']", 3}, {"obj.list[3-3]", 4}, {"has(x.map)", 1},
        {"has(x.nested.inner)", 2}, {"yes ? has(x.map) : true", 2}, {"[1, 2, 3]", 0}, {"[obj.i]", 12}, {"{'a': obj.i}", 32}, {"[].all(n, true)", 1},
        {"[1, 2, 3].all(n, true)", 10}, {"'123'.matches('[0-9]')", 2}, {"false || false", 0}, {"true && false", 0}, {"1 < 2", 1}, {"1 == 2", 1}, {"1 + 1", 1},
        {"2 in [1, 2, 3]", 0}, {"2 in obj.list", 5}, {"true ? 1 : 2", 0}, {"size('123')", 1}, {"'12345678901234567890' == '123456789012345678901234567890'", 2},
        {"string(1)", 0}, {"string(obj.i)", 3}, {"obj.s.startsWith('a')", 3}, {"obj.s.size()", 3}, {"true ? false : 1 > 3", 0}, {"false ? false : 1 > 3", 1},
        {"(1 > 2 ? 5 : 3) > 1", 2}, {"(1 > 2 || 2 > 1) == true", 3}, {"[1,2,3,4,5].filter(n, n % 2 == 0)", 42}, {"[1,2,3,4,5].map(n, n)", 66},
        {"type(obj.i) == int", 4}, {"double(5) < 10.0", 1}, {"double(obj.i) < obj.d", 6}, {"obj.i in obj.list ? obj.i : 0", 7}, {"yes ? x : x", 1},
        {"yes ? x.map : x", 2}, {"obj.names.map(s, s + 'x')", 45}, {"quantity('1Gi').isGreaterThan(quantity('1Mi'))", 3}, {"url('https://a/')", 1},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(rows); i++) {
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        uint64_t cost = UINT64_MAX;
        const char *got = test_evaluate(arena, rows[i].text, &cost);
        if (cost != rows[i].cost)
            print_error("%s costs %llu, not %llu (%s)\n", rows[i].text, (unsigned long long)cost, (unsigned long long)rows[i].cost, got);
        assert_int_equal(cost, rows[i].cost);
    }
}

static void what_costs_too_much_ends(void **state)
{
    TEST_ROWS({"lists.range(2000).all(a, lists.range(2000).all(b, true))", "error: operation cancelled: actual cost limit exceeded"},
              {"lists.range(2000).all(a, lists.range(2000).all(b, true)) || true", "error: operation cancelled: actual cost limit exceeded"},
              {"[1].all(x, [[x, x]].map(a, a + a).map(a, a + a).map(a, a + a).size() == 1)", "true"});
}

/* What neither the cost nor the parser's depth bounds. */
static void memory_and_nesting_are_bounded(void **state)
{
    KP_AUTO_BUF struct kp_buf doubling = {0}, deep = {0}, chain = {0};
    kp_buf_puts(&doubling, "[[1, 1]]");
    for (int i = 0; i < 40; i++)
        kp_buf_puts(&doubling, ".map(a, a + a)");
    for (int i = 0; i < 300; i++)
        kp_buf_putc(&deep, '(');
    kp_buf_puts(&chain, "optional.of(1)");
    for (int i = 0; i < 40; i++)
        kp_buf_puts(&chain, ".optMap(a, a)");
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *got = test_evaluate(arena, doubling.data, NULL);
    assert_true(kp_starts_with(got, "error: operation cancelled: "));
    assert_true(kp_starts_with(test_evaluate(arena, deep.data, NULL), "ERROR: <input>:-1:0: expression recursion limit exceeded: 250"));
    assert_true(kp_starts_with(test_evaluate(arena, chain.data, NULL), "ERROR: <input>:-1:0: expression has more than 100000 nodes"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(costs_are_upstreams),
        cmocka_unit_test(what_costs_too_much_ends),
        cmocka_unit_test(memory_and_nesting_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
