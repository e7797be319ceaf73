/* lib/cel: the functions, by library. */
#include "cel_test.h"

static void conversions_keep_to_their_ranges(void **state)
{
    TEST_ROWS({"int('42')", "42"}, {"int(3.9)", "3"}, {"int(-3.9)", "-3"}, {"int(7u)", "7"}, {"int(1e19)", "error: integer overflow"},
              {"int('a')", "error: type conversion error from 'string' to 'int'"}, {"uint('7')", "7u"}, {"uint(-1)", "error: unsigned integer overflow"},
              {"uint(3.5)", "3u"}, {"double('1.5')", "1.5"}, {"double(3)", "3"}, {"string(1.5)", "\"1.5\""}, {"string(1e21)", "\"1000000000000000000000\""},
              {"string(true)", "\"true\""}, {"string(b'hi')", "\"hi\""}, {"string(b'\\xff')", "error: invalid UTF-8 in bytes, cannot convert to string"},
              {"bytes('hi')", "b\"hi\""}, {"bool('true')", "true"}, {"bool('x')", "error: type conversion error from 'string' to 'bool'"},
              {"string(duration('90m'))", "\"5400s\""}, {"string(timestamp('2026-01-02T03:04:05.5Z'))", "\"2026-01-02T03:04:05.5Z\""},
              {"int(timestamp('1970-01-01T00:01:00Z'))", "60"}, {"timestamp(60) == timestamp('1970-01-01T00:01:00Z')", "true"}, {"type(1u)", "uint"},
              {"type(dyn([])) == list", "true"}, {"18446744073709551615u == uint('18446744073709551615')", "true"});
}

static void times_add_up_and_have_parts(void **state)
{
    TEST_ROWS({"timestamp('2026-01-01T00:00:00Z') + duration('1h')", "2026-01-01T01:00:00Z"}, {"timestamp('2026-01-01T00:00:00Z') - duration('1s')", "2025-12-31T23:59:59Z"},
              {"timestamp('2026-01-02T00:00:00Z') - timestamp('2026-01-01T00:00:00Z')", "86400s"}, {"duration('1h') + duration('30m') == duration('90m')", "true"},
              {"duration('1h') > duration('59m')", "true"}, {"timestamp('9999-12-31T23:59:59Z') + duration('1s')", "error: timestamp overflow"},
              {"obj.when.getMonth()", "0"}, {"obj.when.getDate()", "2"}, {"obj.when.getDayOfMonth()", "1"}, {"obj.when.getDayOfWeek()", "5"}, {"obj.when.getHours()", "3"},
              {"obj.when.getMinutes()", "4"}, {"obj.when.getSeconds()", "5"}, {"obj.when.getMilliseconds()", "500"}, {"obj.when.getDayOfYear()", "1"},
              {"obj.when.getHours('+02:00')", "5"}, {"obj.when.getHours('-04:00')", "23"}, {"obj.when.getHours('No/Where')", "error: unknown time zone No/Where"},
              {"duration('90m').getHours()", "1"}, {"duration('90m').getMinutes()", "90"}, {"duration('1.5s').getMilliseconds()", "1500"});
}

static void strings_count_code_points(void **state)
{
    TEST_ROWS({"'häß'.size()", "3"}, {"'abc'.contains('bc')", "true"}, {"'abc'.startsWith('ab')", "true"}, {"'abc'.endsWith('bc')", "true"}, {"'häß'.charAt(1)", "\"ä\""},
              {"'abc'.charAt(3)", "\"\""}, {"'abc'.charAt(4)", "error: index out of range: 4"}, {"'häßh'.indexOf('h', 1)", "3"}, {"'abcabc'.lastIndexOf('abc')", "3"},
              {"'abcabc'.lastIndexOf('abc', 2)", "0"}, {"'abc'.indexOf('x')", "-1"}, {"'abc'.indexOf('')", "0"}, {"'abc'.lastIndexOf('')", "3"}, {"'ÄbC'.lowerAscii()", "\"Äbc\""},
              {"'abc'.upperAscii()", "\"ABC\""}, {"'a,b,c'.split(',')", "[\"a\", \"b\", \"c\"]"}, {"'a,b,c'.split(',', 2)", "[\"a\", \"b,c\"]"}, {"'häß'.split('')", "[\"h\", \"ä\", \"ß\"]"},
              {"'a,b'.split(',', 0)", "[]"}, {"''.split(',')", "[\"\"]"}, {"['a', 'b'].join('-')", "\"a-b\""}, {"['a', 'b'].join()", "\"ab\""}, {"'abab'.replace('a', 'x')", "\"xbxb\""},
              {"'abab'.replace('a', 'x', 1)", "\"xbab\""}, {"'ab'.replace('', '-')", "\"-a-b-\""}, {"'häßlich'.substring(1, 3)", "\"äß\""}, {"'abc'.substring(1)", "\"bc\""},
              {"'abc'.substring(2, 1)", "error: invalid substring range. start: 2, end: 1"}, {"'abc'.substring(5)", "error: index out of range: 5"}, {"' \\t\\u00a0a b\\n '.trim()", "\"a b\""},
              {"strings.quote('a\"\\n')", "\"\\\"a\\\\\\\"\\\\n\\\"\""}, {"'a'.reverse()", "ERROR: <input>:1:12: found no matching overload for 'reverse' applied to 'string.()'\n | 'a'.reverse()\n | ...........^"});
}

static void format_takes_values_by_clause(void **state)
{
    TEST_ROWS({"'%s is %d'.format(['a', 5])", "\"a is 5\""}, {"'%.2f %e'.format([1.005, 1500.0])", "\"1.00 1.500000×10⁰³\""}, {"'%.1f'.format([-1234567.25])", "\"-1,234,567.2\""},
              {"'%d %s %f %s %s'.format([1, 'abc', 1.0, duration('1m'), timestamp('2000-01-01T00:00:00.000Z')])", "\"1 abc 1.000000 60s 2000-01-01T00:00:00Z\""},
              {"'%e'.format([3.14])", "\"3.140000×10⁰⁰\""}, {"'%x %X %o %b'.format([255, 255, 8, 5])", "\"ff FF 10 101\""}, {"'%x'.format(['hi'])", "\"6869\""}, {"'%b'.format([true])", "\"1\""},
              {"'100%%'.format([])", "\"100%\""}, {"'%s'.format([[1, 'a']])", "\"[1, \\\"a\\\"]\""}, {"'%s'.format([{'k': 1}])", "\"{\\\"k\\\":1}\""}, {"'%d'.format([])", "error: index 0 out of range"},
              {"'%d'.format(['a'])", "error: error during formatting: decimal clause can only be used on integers, was given string"},
              {"'%f'.format([1])", "error: error during formatting: fixed-point clause can only be used on doubles, was given int"},
              {"'%s %s'.format([duration('1h'), null])", "\"3600s null\""});
}

static void lists_are_measured_and_ordered(void **state)
{
    TEST_ROWS({"[1, 2, 3].sum()", "6"}, {"[].sum() == 0", "true"}, {"[1.5, 2.5].sum()", "4"}, {"[3, 1, 2].min()", "1"}, {"[3, 1, 2].max()", "3"}, {"['b', 'a'].min()", "\"a\""},
              {"obj.list.filter(n, n > 9).min()", "error: min called on empty list"}, {"[1, 2, 2].isSorted()", "true"}, {"[2, 1].isSorted()", "false"}, {"[1, 2, 1].indexOf(1)", "0"},
              {"[1, 2, 1].lastIndexOf(1)", "2"}, {"[1, 2].indexOf(5)", "-1"}, {"[duration('1h'), duration('2h')].sum()", "10800s"}, {"[3, 1, 2].sort()", "[1, 2, 3]"},
              {"obj.items.sortBy(i, -i.port).map(i, i.name)", "[\"b\", \"a\"]"}, {"[1, 2, 3].reverse()", "[3, 2, 1]"}, {"[1, 1, 2].distinct()", "[1, 2]"}, {"[[1], [2, 3]].flatten()", "[1, 2, 3]"},
              {"[1, 2, 3, 4].slice(1, 3)", "[2, 3]"}, {"[1].slice(0, 2)", "error: cannot slice(0, 2), list is length 1"}, {"lists.range(3)", "[0, 1, 2]"},
              {"sets.contains([1, 2, 3], [2])", "true"}, {"sets.equivalent([1, 2, 2], [2, 1])", "true"}, {"sets.intersects([1], [2])", "false"},
              {"[9223372036854775807, 1].sum()", "error: integer overflow"});
}

static void patterns_match_and_find(void **state)
{
    TEST_ROWS({"'abc123'.matches('^[a-z]+\\\\d+$')", "true"}, {"'abc'.matches('b')", "true"}, {"matches('abc', 'x')", "false"}, {"'abc 123'.find('[0-9]+')", "\"123\""},
              {"'abc'.find('[0-9]+')", "\"\""}, {"'1 22 333'.findAll('[0-9]+')", "[\"1\", \"22\", \"333\"]"}, {"'1 22 333'.findAll('[0-9]+', 2)", "[\"1\", \"22\"]"},
              {"'abab'.findAll('(ab)?')", "[\"ab\", \"ab\"]"}, {"'aXb'.find('a|aX')", "\"a\""}, {"'a'.find('(')", "error: Illegal regex: error parsing regexp: missing closing parenthesis"},
              {"obj.s.matches(obj.any)", "false"});
}

static void urls_are_read_as_go_does(void **state)
{
    TEST_ROWS({"isURL('https://a.b:80/c?d=e')", "true"}, {"isURL('a b')", "false"}, {"isURL('../rel')", "false"}, {"isURL('/abs')", "true"}, {"isURL('https://a b/')", "false"}, {"isURL('http://a:x/')", "false"},
              {"url('HTTPS://u:p@A.b:80/c d/?q=1').getScheme()", "\"https\""}, {"url('https://a.b:80/').getHost()", "\"a.b:80\""}, {"url('https://[::1]:80/').getHostname()", "\"::1\""},
              {"url('https://a.b:80/').getPort()", "\"80\""}, {"url('https://a/b c').getEscapedPath()", "\"/b%20c\""}, {"url('https://a/b%2Fc').getEscapedPath()", "\"/b%2Fc\""},
              {"url('https://a/?k=1&k=2&l=%20x').getQuery()", "{\"k\": [\"1\", \"2\"], \"l\": [\" x\"]}"}, {"url('https://a/') == url('https://a/')", "true"},
              {"url('x y')", "error: URL parse error during conversion from string: parse \"x y\": invalid URI for request"});
}

static void quantities_compare_and_add(void **state)
{
    TEST_ROWS({"isQuantity('1.5Gi')", "true"}, {"isQuantity('1.5x')", "false"}, {"quantity('1Gi').isGreaterThan(quantity('1G'))", "true"}, {"quantity('1k') == quantity('1000')", "true"},
              {"quantity('500m').isInteger()", "false"}, {"quantity('50k').asInteger()", "50000"}, {"quantity('500m').asInteger()", "error: cannot convert value to integer"},
              {"quantity('500m').asApproximateFloat()", "0.5"}, {"quantity('1').compareTo(quantity('2'))", "-1"}, {"quantity('1').add(quantity('2')) == quantity('3')", "true"},
              {"quantity('5').sub(2) == quantity('3')", "true"}, {"sign(quantity('-1'))", "-1"}, {"quantity('5').add(2).isLessThan(quantity('8'))", "true"}, {"type(quantity('1'))", "kubernetes.Quantity"});
}

static void addresses_and_networks(void **state)
{
    TEST_ROWS({"isIP('10.0.0.1')", "true"}, {"isIP('010.0.0.1')", "false"}, {"isIP('::1')", "true"}, {"isIP('::ffff:1.2.3.4')", "false"}, {"isIP('fe80::1%eth0')", "false"}, {"ip('10.0.0.1').family()", "4"},
              {"string(ip('2001:0db8::0001'))", "\"2001:db8::1\""}, {"ip.isCanonical('2001:db8::1')", "true"}, {"ip.isCanonical('2001:DB8::1')", "false"}, {"ip('127.0.0.1').isLoopback()", "true"},
              {"ip('0.0.0.0').isUnspecified()", "true"}, {"ip('169.254.1.1').isLinkLocalUnicast()", "true"}, {"ip('224.0.0.1').isLinkLocalMulticast()", "true"}, {"ip('10.0.0.1').isGlobalUnicast()", "true"},
              {"ip('255.255.255.255').isGlobalUnicast()", "false"}, {"cidr('10.0.0.0/8').containsIP('10.1.2.3')", "true"}, {"cidr('10.0.0.0/8').containsIP(ip('11.0.0.1'))", "false"},
              {"cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16')", "true"}, {"cidr('10.1.0.0/16').containsCIDR(cidr('10.0.0.0/8'))", "false"}, {"string(cidr('10.1.2.3/8').masked())", "\"10.0.0.0/8\""},
              {"cidr('::/0').prefixLength()", "0"}, {"cidr('10.1.2.3/8').ip() == ip('10.1.2.3')", "true"}, {"isCIDR('10.0.0.0/33')", "false"}, {"isCIDR('10.0.0.0/08')", "false"},
              {"ip('x')", "error: IP Address \"x\" parse error during conversion from string: ParseAddr(\"x\"): unable to parse IP"}, {"string(ip('::1.2.3.4'))", "\"::102:304\""}, {"string(ip('1:0:0:2::'))", "\"1:0:0:2::\""});
}

static void formats_and_versions(void **state)
{
    TEST_ROWS({"format.dns1123Label().validate('a-b').hasValue()", "false"}, {"format.dns1123Label().validate('A').value().size()", "1"}, {"!format.dns1035Label().validate('1a').hasValue()", "false"},
              {"format.dns1123LabelPrefix().validate('a-').hasValue()", "false"}, {"format.named('uuid').value().validate('123e4567-e89b-12d3-a456-426614174000').hasValue()", "false"},
              {"format.named('no').hasValue()", "false"}, {"format.date().validate('2021-02-30').hasValue()", "true"}, {"format.qualifiedName().validate('a.b/c').hasValue()", "false"},
              {"format.uri().validate('nope').value()[0]", "\"parse \\\"nope\\\": invalid URI for request\""}, {"isSemver('1.2.3')", "true"}, {"isSemver('v1.2')", "false"}, {"isSemver('v1.2', true)", "true"},
              {"semver('1.2.3').major()", "1"}, {"semver('1.2.3-rc.1').isLessThan(semver('1.2.3'))", "true"}, {"semver('1.10.0').compareTo(semver('1.9.0'))", "1"},
              {"semver('01.2.3')", "error: Major number must not contain leading zeroes \"01\""}, {"semver('v01.2', true).minor()", "2"}, {"semver('1.0.0-alpha.2').isLessThan(semver('1.0.0-alpha.10'))", "true"});
}

static void names_are_escaped(void **state)
{
    static const char *const rows[][2] = {{"plain", "plain"}, {"a.b", "a__dot__b"}, {"a-b/c", "a__dash__b__slash__c"}, {"a__b", "a__underscores__b"}, {"namespace", "__namespace__"}, {"in", "__in__"}, {"9a", NULL}, {"", NULL}, {"ä", NULL}, {"a b", NULL}};
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    for (size_t i = 0; i < KP_ARRAY_LEN(rows); i++) {
        const char *got = cel_escape(rows[i][0], arena);
        if (!kp_streq(got, rows[i][1]))
            fail_msg("%s is %s", rows[i][0], got ? got : "(none)");
    }
}

/* ---- what another module brings: an opaque type with functions, and an object whose fields are asked for ---------------------------------- */
static const struct cel_type door_type = {.kind = CEL_OPAQUE, .name = "test.Door"};
static const struct cel_class door_class = {.type = &door_type};

static struct cel_value open_door(struct cel_eval *e, const struct cel_value *args)
{
    return cel_of_bool(*(const bool *)args[0].object.data && args[1].text.len == 3);
}

static const struct cel_overload door_overloads[] = {
    {.name = "opens", .id = "door_opens", .member = true, .function = open_door, .result = &cel_bool, .args = {&door_type, &cel_string}},
};

static bool house_field(struct cel_eval *e, void *data, const char *name, struct cel_value *ret)
{
    if (strcmp(name, "door") != 0)
        return false;
    *ret = cel_of_object(&door_class, data);
    return true;
}

static void others_bring_types_of_their_own(void **state)
{
    static const struct cel_library library = {door_overloads, 1}, *const libraries[] = {&library};
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(CEL_MEMORY_MAX * 2);
    struct cel_field fields[] = {{"door", "door", &door_type}, {"window", "window", &cel_string}};
    struct cel_class house = {.type = cel_object(arena, "test.House", fields, 2), .field = house_field};
    const struct cel_variable variable = {"house", house.type};
    const struct cel_env env = {&variable, 1, libraries, 1};
    const char *fault = NULL;
    bool open = true;
    const struct cel_value value = cel_of_object(&house, &open);
    KP_AUTO(cel_program_free) struct cel_program *program = cel_compile(&env, "has(house.door) && !has(house.window) && house.door.opens('key')", arena, &fault);
    assert_null(fault);
    assert_true(cel_program_uses(program, 0));
    assert_true(cel_evaluate(program, &value, arena, CEL_CALL_COST_MAX, NULL).boolean);
    assert_null(cel_compile(&env, "house.roof", arena, &fault));
    assert_string_equal(fault, "ERROR: <input>:1:6: undefined field 'roof'\n | house.roof\n | .....^");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conversions_keep_to_their_ranges),
        cmocka_unit_test(times_add_up_and_have_parts),
        cmocka_unit_test(strings_count_code_points),
        cmocka_unit_test(format_takes_values_by_clause),
        cmocka_unit_test(lists_are_measured_and_ordered),
        cmocka_unit_test(patterns_match_and_find),
        cmocka_unit_test(urls_are_read_as_go_does),
        cmocka_unit_test(quantities_compare_and_add),
        cmocka_unit_test(addresses_and_networks),
        cmocka_unit_test(formats_and_versions),
        cmocka_unit_test(names_are_escaped),
        cmocka_unit_test(others_bring_types_of_their_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
