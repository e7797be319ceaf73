/* lib/cel: what the language itself does. */
#include "cel_test.h"

static void literals_are_what_they_say(void **state)
{
    TEST_ROWS({"1", "1"}, {"-1", "-1"}, {"0xff", "255"}, {"-0x10", "-16"}, {"3u", "3u"}, {"0x10u", "16u"}, {"1.5", "1.5"}, {"1e3", "1000"}, {".5", "0.5"},
              {"9223372036854775807", "9223372036854775807"}, {"-9223372036854775808", "-9223372036854775808"}, {"true", "true"}, {"null", "null"},
              {"'a'", "\"a\""}, {"\"a'b\"", "\"a'b\""}, {"'''a\nb'c'''", "\"a\\nb'c\""}, {"r'\\d'", "\"\\\\d\""}, {"'\\u00e4\\x41\\101\\n'", "\"äAA\\n\""},
              {"'\\U0001F600'", "\"😀\""}, {"b'abc'", "b\"abc\""}, {"b'\\x41'", "b\"A\""}, {"[]", "[]"}, {"[1, 2,]", "[1, 2]"}, {"{}", "{}"},
              {"{'a': 1, 'b': 2}", "{\"a\": 1, \"b\": 2}"}, {"1 // a comment", "1"}, {"'\\?'", "\"?\""}, {"\"\"\"x\"y\"\"\"", "\"x\\\"y\""});
}

static void operators_bind_as_the_grammar_says(void **state)
{
    TEST_ROWS({"1 + 2 * 3", "7"}, {"(1 + 2) * 3", "9"}, {"10 - 3 - 2", "5"}, {"7 / 2", "3"}, {"-7 / 2", "-3"}, {"-7 % 3", "-1"}, {"1 < 2 && 2 < 3", "true"},
              {"!true || true", "true"}, {"!!true", "true"}, {"- - 1", "1"}, {"true ? 1 : false ? 2 : 3", "1"}, {"false ? 1 : false ? 2 : 3", "3"},
              {"1 + 1 == 2", "true"}, {"1 in [1, 2] && !(3 in [1, 2])", "true"}, {"2.5 + 1.0", "3.5"}, {"5u - 3u", "2u"}, {"'a' + 'b'", "\"ab\""},
              {"[1] + [2, 3]", "[1, 2, 3]"}, {"b'a' + b'b'", "b\"ab\""}, {"1.0 / 0.0", "+Inf"}, {"-obj.i", "-7"}, {"-1.5", "-1.5"});
}

static void numbers_tell_when_they_overflow(void **state)
{
    TEST_ROWS({"9223372036854775807 + 1", "error: integer overflow"}, {"-9223372036854775808 - 1", "error: integer overflow"},
              {"9223372036854775807 * 2", "error: integer overflow"}, {"1u - 2u", "error: unsigned integer overflow"}, {"1 / 0", "error: division by zero"},
              {"1 % 0", "error: modulus by zero"}, {"1u / 0u", "error: division by zero"}, {"-(-9223372036854775808)", "error: integer overflow"},
              {"-9223372036854775808 / -1", "error: integer overflow"}, {"18446744073709551615u + 1u", "error: unsigned integer overflow"});
}

static void equality_and_order_cross_the_types_of_numbers(void **state)
{
    TEST_ROWS({"1 == 1.0", "ERROR: <input>:1:3: found no matching overload for '_==_' applied to '(int, double)'\n | 1 == 1.0\n | ..^"},
              {"dyn(1) == 1.0", "true"}, {"dyn(1) == 1u", "true"}, {"1 < 1.5", "true"}, {"2u > 1", "true"}, {"1.5 >= 2u", "false"}, {"-1 < 0u", "true"},
              {"dyn(1) == 'a'", "false"}, {"dyn([1]) == [1.0]", "true"}, {"[1, 2] == [2, 1]", "false"}, {"{'a': 1} == {'a': 1}", "true"},
              {"dyn(9223372036854775807) == 9223372036854775808.0", "false"}, {"'a' < 'b'", "true"}, {"b'a' <= b'a'", "true"}, {"false < true", "true"},
              {"null == null", "true"}, {"dyn(null) == 1", "false"}, {"x.i != x.d", "true"}, {"{1: 'a'} == {1u: 'a'}", "ERROR: <input>:1:10: found no matching overload for '_==_' applied to '(map(int, string), map(uint, string))'\n | {1: 'a'} == {1u: 'a'}\n | .........^"},
              {"dyn({1: 'a'}) == {1u: 'a'}", "true"}, {"1.0 in [1.0]", "true"}, {"dyn(1) in [1.0]", "true"});
}

static void logic_absorbs_errors_in_either_order(void **state)
{
    TEST_ROWS({"true || 1 / 0 > 0", "true"}, {"1 / 0 > 0 || true", "true"}, {"false && 1 / 0 > 0", "false"}, {"1 / 0 > 0 && false", "false"},
              {"1 / 0 > 0 || false", "error: division by zero"}, {"true && 1 / 0 > 0", "error: division by zero"}, {"true ? 1 : 1 / 0", "1"},
              {"[1, 0].exists(n, 1 / n == 1)", "true"}, {"[0, 1].exists(n, 1 / n == 1)", "true"}, {"[0, 2].all(n, 4 / n == 9)", "false"},
              {"[0].all(n, 1 / n == 1)", "error: division by zero"}, {"x.s || true", "true"}, {"x.s || false", "error: no such overload"},
              {"x.b && x.b && x.b", "true"});
}

static void fields_and_indexes_are_found_or_named(void **state)
{
    TEST_ROWS({"obj.i", "7"}, {"obj.items[1].port", "443"}, {"obj.map.k", "\"v\""}, {"obj.map['two']", "\"w\""}, {"obj.map['no']", "error: no such key: no"},
              {"obj.list[3]", "error: index out of bounds: 3"}, {"obj.list[-1]", "error: index out of bounds: -1"}, {"x.list[0]", "1"},
              {"x.list[0.0]", "1"}, {"x.none", "error: no such key: none"}, {"obj.missing", "error: no such key: missing"}, {"has(obj.missing)", "false"},
              {"has(obj.i)", "true"}, {"has(x.nested.inner.leaf)", "true"}, {"has(x.nested.no.leaf)", "error: no such key: no"}, {"has(obj.map.k)", "true"},
              {"obj.__in__", "\"reserved\""}, {"obj.a__dash__b", "\"dash\""}, {"{'a': {'b': 1}}.a.b", "1"}, {"[[1, 2], [3]][0][1]", "2"}, {"'k' in obj.map", "true"},
              {"'z' in obj.map", "false"}, {"unset", "error: no such attribute(s): unset"}, {"x.list['a']", "error: unsupported index type 'string' in list"},
              {"x.i.y", "error: no such overload"}, {"obj.n == null", "ERROR: <input>:1:7: found no matching overload for '_==_' applied to '(string, null)'\n | obj.n == null\n | ......^"},
              {"x.n == null", "true"}, {"has(x.n)", "true"}, {"yes ? has(obj.i) : true", "true"}, {"yes ? has(obj.missing) : true", "false"},
              {"(yes ? obj.map : obj.map).k", "\"v\""}, {"[has(obj.i)][0]", "true"}, {"dyn(obj)['i']", "7"});
}

static void formats_of_strings_give_their_types(void **state)
{
    TEST_ROWS({"obj.when.getFullYear()", "2026"}, {"obj.when", "2026-01-02T03:04:05.5Z"}, {"obj.long == duration('90m')", "true"}, {"obj.raw", "b\"hi\""},
              {"string(obj.raw)", "\"hi\""}, {"type(obj.when) == google.protobuf.Timestamp", "true"}, {"obj.d", "1.5"}, {"type(obj.any) == string", "true"},
              {"type(x.i) == int", "true"}, {"type(obj.map) == map", "true"}, {"type(obj)", "map"}, {"type(type(1))", "type"});
}

static void macros_fold_lists_and_maps(void **state)
{
    TEST_ROWS({"[1, 2, 3].all(n, n > 0)", "true"}, {"[1, 2, 3].exists(n, n > 2)", "true"}, {"[1, 2, 2].exists_one(n, n == 1)", "true"},
              {"[1, 2, 2].exists_one(n, n == 2)", "false"}, {"[1, 2].map(n, n * 2)", "[2, 4]"}, {"[1, 2, 3].map(n, n > 1, n * 10)", "[20, 30]"},
              {"[1, 2, 3].filter(n, n != 2)", "[1, 3]"}, {"obj.map.all(k, k.size() < 4)", "true"}, {"obj.map.map(k, obj.map[k])", "[\"v\", \"w\"]"},
              {"obj.items.map(i, i.name)", "[\"a\", \"b\"]"}, {"obj.items.exists(i, i.name == 'b' && i.port == 443)", "true"},
              {"[[1], [2, 3]].map(l, l.map(n, n + 1))", "[[2], [3, 4]]"}, {"[1, 2].all(i, v, i < v)", "true"}, {"{'a': 1}.exists(k, v, k == 'a' && v == 1)", "true"},
              {"[3, 4].transformList(i, v, i + v)", "[3, 5]"}, {"[3, 4].transformMap(i, v, v > 3, v * 2)", "{1: 8}"},
              {"{'a': 1}.transformMapEntry(k, v, {v: k})", "{1: \"a\"}"}, {"[1, 1].existsOne(i, v, v == 1)", "false"},
              {"x.list.map(n, n + 1) == [2, 3, 4]", "true"}, {"has(obj)", "ERROR: <input>:1:5: invalid argument to has() macro\n | has(obj)\n | ....^"},
              {"[1].all(1, true)", "ERROR: <input>:1:9: argument must be a simple name\n | [1].all(1, true)\n | ........^"});
}

static void optional_values_chain(void **state)
{
    TEST_ROWS({"obj.?missing.orValue('none')", "\"none\""}, {"obj.?s.orValue('none')", "\"text\""}, {"obj.?nested.inner.leaf.value()", "1"},
              {"x.?no.more.orValue(5)", "5"}, {"obj.list[?7].hasValue()", "false"}, {"obj.map[?'k']", "optional(\"v\")"}, {"optional.none().hasValue()", "false"},
              {"optional.of(1).value()", "1"}, {"optional.none().value()", "error: optional.none() dereference"}, {"optional.ofNonZeroValue('').hasValue()", "false"},
              {"optional.of(2).optMap(v, v + 1)", "optional(3)"}, {"optional.of(2).optFlatMap(v, optional.of(v * 2))", "optional(4)"},
              {"obj.?missing.optMap(v, v + 'x')", "none"}, {"[?optional.of(1), ?optional.none(), 3]", "[1, 3]"}, {"{?'a': optional.none(), 'b': 1}", "{\"b\": 1}"},
              {"optional.none().or(optional.of(1))", "optional(1)"}, {"optional.of(1).orValue(1 / 0)", "1"}, {"maybe.hasValue()", "false"},
              {"[1, 2].first()", "optional(1)"}, {"[].last()", "none"}, {"[optional.of(1), optional.none()].unwrapOpt()", "[1]"},
              {"optional.of({'a': 1}).a", "optional(1)"}, {"has(optional.of({'a': 1}).a)", "true"});
}

static void lists_that_merge_compare_so(void **state)
{
    TEST_ROWS({"obj.set == ['y', 'x']", "true"}, {"['y', 'x'] == obj.set", "false"}, {"obj.set + ['y', 'z']", "[\"x\", \"y\", \"z\"]"}, {"obj.set == ['x', 'z']", "false"},
              {"obj.items == obj.items", "true"}, {"obj.items.map(i, i.port)", "[80, 443]"}, {"obj.names == ['b', 'a', 'c']", "false"}, {"obj == obj", "true"});
}

static void types_are_checked(void **state)
{
    TEST_ROWS({"obj.nope", "ERROR: <input>:1:4: undefined field 'nope'\n | obj.nope\n | ...^"},
              {"nope", "ERROR: <input>:1:1: undeclared reference to 'nope' (in container '')\n | nope\n | ^"},
              {"obj.s + 1", "ERROR: <input>:1:7: found no matching overload for '_+_' applied to '(string, int)'\n | obj.s + 1\n | ......^"},
              {"obj.s.nope()", "ERROR: <input>:1:11: undeclared reference to 'nope' (in container '')\n | obj.s.nope()\n | ..........^"},
              {"obj.s.startsWith(1)", "ERROR: <input>:1:17: found no matching overload for 'startsWith' applied to 'string.(int)'\n | obj.s.startsWith(1)\n | ................^"},
              {"obj.i && true", "ERROR: <input>:1:4: expected type 'bool' but found 'int'\n | obj.i && true\n | ...^"},
              {"[1, 'a']", "ERROR: <input>:1:5: expected type 'int' but found 'string'\n | [1, 'a']\n | ....^"},
              {"obj.i.all(n, true)", "ERROR: <input>:1:4: expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)\n | obj.i.all(n, true)\n | ...^"},
              {"obj.s.foo", "ERROR: <input>:1:6: type 'string' does not support field selection\n | obj.s.foo\n | .....^"},
              {"true ? 1 : 'a'", "ERROR: <input>:1:6: found no matching overload for '_?_:_' applied to '(bool, int, string)'\n | true ? 1 : 'a'\n | .....^"},
              {"obj.items[0].port == '80'", "ERROR: <input>:1:19: found no matching overload for '_==_' applied to '(int, string)'\n | obj.items[0].port == '80'\n | ..................^"},
              {"math.greatest(1, 2)", "ERROR: <input>:1:1: undeclared reference to 'math' (in container '')\n | math.greatest(1, 2)\n | ^\nERROR: <input>:1:14: undeclared reference to 'greatest' (in container '')\n | math.greatest(1, 2)\n | .............^"},
              {"duration('x')", "ERROR: <input>:1:10: invalid duration argument\n | duration('x')\n | .........^"},
              {"'a'.matches('[')", "ERROR: <input>:1:13: invalid matches argument\n | 'a'.matches('[')\n | ............^"},
              {"nope1 +\n  nope2", "ERROR: <input>:1:1: undeclared reference to 'nope1' (in container '')\n | nope1 +\n | ^\nERROR: <input>:2:3: undeclared reference to 'nope2' (in container '')\n |   nope2\n | ..^"});
}

static void syntax_errors_are_told_as_upstream_does(void **state)
{
#define OPERANDS "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}"
    TEST_ROWS({"1 +", "ERROR: <input>:1:4: Syntax error: mismatched input '<EOF>' expecting " OPERANDS "\n | 1 +\n | ...^"},
              {"1 + +", "ERROR: <input>:1:5: Syntax error: mismatched input '+' expecting " OPERANDS "\n | 1 + +\n | ....^\n"
                        "ERROR: <input>:1:6: Syntax error: mismatched input '<EOF>' expecting " OPERANDS "\n | 1 + +\n | .....^"},
              {"a | b", "ERROR: <input>:1:3: Syntax error: token recognition error at: '| '\n | a | b\n | ..^\n"
                        "ERROR: <input>:1:5: Syntax error: extraneous input 'b' expecting <EOF>\n | a | b\n | ....^"},
              {"1 + 2\n3 +", "ERROR: <input>:2:1: Syntax error: mismatched input '3' expecting <EOF>\n | 3 +\n | ^"},
              {"{a}", "ERROR: <input>:1:3: Syntax error: mismatched input '}' expecting ':'\n | {a}\n | ..^"},
              {"1 + $", "ERROR: <input>:1:5: Syntax error: token recognition error at: '$'\n | 1 + $\n | ....^\n"
                        "ERROR: <input>:1:6: Syntax error: mismatched input '<EOF>' expecting " OPERANDS "\n | 1 + $\n | .....^"},
              {"(1", "ERROR: <input>:1:3: Syntax error: missing ')' at '<EOF>'\n | (1\n | ..^"},
              {"package", "ERROR: <input>:1:1: reserved identifier: package\n | package\n | ^"},
              {"in", "ERROR: <input>:1:1: Syntax error: mismatched input 'in' expecting " OPERANDS "\n | in\n | ^\n"
                     "ERROR: <input>:1:3: Syntax error: mismatched input '<EOF>' expecting " OPERANDS "\n | in\n | ..^"},
              {"'\\q'", "ERROR: <input>:1:1: Syntax error: token recognition error at: ''\\q'\n | '\\q'\n | ^\n"
                         "ERROR: <input>:1:4: Syntax error: token recognition error at: '''\n | '\\q'\n | ...^\n"
                         "ERROR: <input>:1:5: Syntax error: mismatched input '<EOF>' expecting " OPERANDS "\n | '\\q'\n | ....^"},
              {"99999999999999999999", "ERROR: <input>:1:1: invalid int literal\n | 99999999999999999999\n | ^"},
              {"'ä' + nope", "ERROR: <input>:1:7: undeclared reference to 'nope' (in container '')\n | 'ä' + nope\n | .\uff0e....^"});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(literals_are_what_they_say),
        cmocka_unit_test(operators_bind_as_the_grammar_says),
        cmocka_unit_test(numbers_tell_when_they_overflow),
        cmocka_unit_test(equality_and_order_cross_the_types_of_numbers),
        cmocka_unit_test(logic_absorbs_errors_in_either_order),
        cmocka_unit_test(fields_and_indexes_are_found_or_named),
        cmocka_unit_test(formats_of_strings_give_their_types),
        cmocka_unit_test(macros_fold_lists_and_maps),
        cmocka_unit_test(optional_values_chain),
        cmocka_unit_test(lists_that_merge_compare_so),
        cmocka_unit_test(types_are_checked),
        cmocka_unit_test(syntax_errors_are_told_as_upstream_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
