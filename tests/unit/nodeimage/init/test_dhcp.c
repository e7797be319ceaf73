/* A lease: when it is renewed, what is said and heard, and what changes with it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "nodeimage/init/dhcp_internal.h"

#define XID 0x12345678U
static const struct dhcp_client client = {{2, 0, 0, 0, 0, 1}};

static void expect(struct dhcp_lease *lease, int64_t now_ms, bool sends, enum dhcp_state state, int64_t next_ms)
{
    assert_int_equal(dhcp_lease_due(lease, now_ms), sends);
    assert_int_equal(lease->state, state);
    assert_int_equal(lease->next_ms, next_ms);
}

static void a_silent_server_is_asked_then_all_then_the_lease_ends(void **state)
{
    struct dhcp_lease lease;
    dhcp_lease_begin(&lease, 1000, 3600, 0, 0);
    expect(&lease, 1000, false, DHCP_BOUND, 1801000);
    expect(&lease, 1800999, false, DHCP_BOUND, 1801000);
    expect(&lease, 1801000, true, DHCP_RENEWING, 2476000); /* half of what is left until T2, 3151 s */
    expect(&lease, 2476000, true, DHCP_RENEWING, 2813500);
    expect(&lease, 3120000, true, DHCP_RENEWING, 3151000); /* not beyond T2 */
    expect(&lease, 3151000, true, DHCP_REBINDING, 3376000);
    expect(&lease, 3590000, true, DHCP_REBINDING, 3601000);
    expect(&lease, 3601000, false, DHCP_EXPIRED, 3601000);
    expect(&lease, 9999999, false, DHCP_EXPIRED, 3601000);
}

static void the_servers_times_count_when_they_make_sense(void **state)
{
    static const struct {
        uint32_t lease, t1, t2;
        int64_t t1_ms, t2_ms;
    } rows[] = {
        {100, 0, 0, 50000, 88000}, {100, 10, 20, 10000, 20000}, {100, 30, 20, 20000, 20000}, {100, 10, 100, 10000, 88000}, {100, 200, 300, 50000, 88000},
        {1, 0, 0, 0, 1000}, {UINT32_MAX, 0, 0, 2147483647000LL, 3758096384000LL},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(rows); i++) {
        struct dhcp_lease lease;
        dhcp_lease_begin(&lease, 0, rows[i].lease, rows[i].t1, rows[i].t2);
        assert_int_equal(lease.t1_ms, rows[i].t1_ms);
        assert_int_equal(lease.t2_ms, rows[i].t2_ms);
        assert_int_equal(lease.end_ms, rows[i].lease * 1000LL);
    }
}

static void an_answer_begins_anew_and_a_clock_that_was_set_asks_at_once(void **state)
{
    struct dhcp_lease lease;
    dhcp_lease_begin(&lease, 0, 100, 0, 0);
    expect(&lease, 90000, true, DHCP_REBINDING, 96250); /* a short lease: half of T1 to the end, in eighths */
    dhcp_lease_begin(&lease, 91000, 100, 0, 0);
    expect(&lease, 91000, false, DHCP_BOUND, 141000);
    dhcp_lease_hurry(&lease, 95000);
    assert_true(dhcp_lease_due(&lease, 95000));
    assert_int_equal(lease.state, DHCP_RENEWING);
    int64_t next_ms = lease.next_ms;
    dhcp_lease_hurry(&lease, 96000); /* it is under way */
    assert_int_equal(lease.next_ms, next_ms);
}

/* An answer of that type, with the options given after it. */
static size_t answer(uint8_t *out, int type, const uint8_t *options, size_t len)
{
    uint8_t message[DHCP_MESSAGE_MAX];
    dhcp_request(&client, XID, 0x0a000002, message);
    memset(out, 0, 600);
    memcpy(out, message, 240);
    out[0] = 2;
    memset(out + 12, 0, 4);
    memcpy(out + 16, (uint8_t[]){10, 0, 0, 2}, 4);
    memcpy(out + 240, (uint8_t[]){53, 1, (uint8_t)type}, 3);
    memcpy(out + 243, options, len);
    out[243 + len] = 255;
    return 244 + len;
}

static const uint8_t plain[] = {
    1, 4, 255, 255, 255, 0, 0, 0, 3, 8, 10, 0, 0, 1, 10, 0, 0, 9, 6, 4, 10, 0, 0, 53, 26, 2, 5, 170, 42, 4, 10, 0, 0, 123,
    51, 4, 0, 0, 14, 16, 54, 4, 10, 0, 0, 3, 58, 4, 0, 0, 0, 60, 59, 4, 0, 0, 0, 90, 121, 14, 0, 10, 0, 0, 1, 24, 192, 168, 7, 10, 0, 0, 5, 200, 1, 1,
};

static void what_the_server_gives_is_read(void **state)
{
    uint8_t data[600];
    struct dhcp_answer given;
    KP_AUTO_BUF struct kp_buf text = {0};
    /* 121 has 13 bytes: the 14th belongs to it, and is no route */
    size_t len = answer(data, 5, plain, sizeof(plain));
    assert_int_equal(dhcp_parse(&client, XID, data, len, &given, &text), KP_EINVALID);
    uint8_t good[sizeof(plain)];
    memcpy(good, plain, sizeof(plain));
    uint8_t *routes = memmem(good, sizeof(good), (uint8_t[]){121, 14}, 2);
    routes[1] = 13;
    len = answer(data, 5, good, (size_t)(routes - good) + 15);
    assert_int_equal(dhcp_parse(&client, XID, data, len, &given, &text), 0);
    assert_string_equal(text.data, "ip=10.0.0.2\nmask=24\nrouter=10.0.0.1 10.0.0.9\nstaticroutes=0.0.0.0/0 10.0.0.1 192.168.7.0/24 10.0.0.5\ndns=10.0.0.53\n"
                                   "mtu=1450\nntp=10.0.0.123\n");
    assert_int_equal(given.address, 0x0a000002);
    assert_int_equal(given.server, 0x0a000003);
    assert_int_equal(given.lease_s, 3600);
    assert_int_equal(given.t1_s, 60);
    assert_int_equal(given.t2_s, 90);
    assert_false(given.refused);
    for (size_t cut = 0; cut < 240; cut += 7) { /* and no part of it is */
        KP_AUTO_BUF struct kp_buf none = {0};
        assert_int_equal(dhcp_parse(&client, XID, data, cut, &given, &none), KP_EINVALID);
        assert_int_equal(none.len, 0);
    }
}

static void what_is_no_answer_to_us_does_not_count(void **state)
{
    static const uint8_t least[] = {1, 4, 255, 255, 255, 0, 51, 4, 0, 0, 0, 60};
    static const struct {
        size_t at;
        uint8_t value;
    } changes[] = {{0, 1}, {2, 7}, {4, 0}, {33, 9}, {236, 0}, {242, 2}, {242, 0}, {244, 3}, {245, 0}, {248, 1}, {250, 3}, {250, 255}, {254, 0}};
    uint8_t data[600];
    struct dhcp_answer given;
    KP_AUTO_BUF struct kp_buf good = {0};
    size_t len = answer(data, 5, least, sizeof(least));
    assert_int_equal(dhcp_parse(&client, XID, data, len, &given, &good), 0);
    for (size_t i = 0; i < KP_ARRAY_LEN(changes); i++) {
        KP_AUTO_BUF struct kp_buf text = {0};
        answer(data, 5, least, sizeof(least));
        data[changes[i].at] = changes[i].value;
        if (dhcp_parse(&client, XID, data, len, &given, &text) != KP_EINVALID)
            fail_msg("accepted with another byte at %zu", changes[i].at);
        assert_int_equal(text.len, 0);
    }
}

static void a_refusal_is_heard(void **state)
{
    uint8_t data[600];
    struct dhcp_answer given;
    KP_AUTO_BUF struct kp_buf text = {0};
    size_t len = answer(data, 6, plain, 0);
    assert_int_equal(dhcp_parse(&client, XID, data, len, &given, &text), 0);
    assert_true(given.refused);
    assert_int_equal(text.len, 0);
}

static void a_request_says_who_asks_for_what(void **state)
{
    uint8_t out[DHCP_MESSAGE_MAX];
    size_t len = dhcp_request(&client, XID, 0x0a000002, out);
    assert_int_equal(len, 300);
    assert_memory_equal(out, ((uint8_t[]){1, 1, 6, 0, 0x12, 0x34, 0x56, 0x78, 0, 0, 0, 0, 10, 0, 0, 2}), 16);
    assert_memory_equal(out + 28, client.hardware, 6);
    assert_memory_equal(out + 236, ((uint8_t[]){0x63, 0x82, 0x53, 0x63, 53, 1, 3, 61, 7, 1, 2, 0, 0, 0, 0, 1, 55, 9}), 18);
}

static void another_gateway_replaces_the_one_before(void **state)
{
    static const struct {
        const char *before, *after, *batch, *gone;
    } rows[] = {
        {"ip=10.0.0.2\nmask=24\nrouter=10.0.0.1\n", "ip=10.0.0.2\nmask=24\nrouter=10.0.0.9\n",
         "address replace 10.0.0.2/24 dev eth0\nroute replace default via 10.0.0.9 dev eth0 onlink metric 100\n",
         "route del default via 10.0.0.1 dev eth0 onlink metric 100\n"},
        {"ip=10.0.0.2\nmask=24\nrouter=10.0.0.1\n", "ip=10.0.0.3\nmask=24\nrouter=10.0.0.1\n",
         "address replace 10.0.0.3/24 dev eth0\nroute replace default via 10.0.0.1 dev eth0 onlink metric 100\n", "address del 10.0.0.2/24 dev eth0\n"},
        {"", "ip=10.0.0.3\nmask=24\n", "address replace 10.0.0.3/24 dev eth0\n", ""},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(rows); i++) {
        KP_AUTO_BUF struct kp_buf batch = {0}, gone = {0};
        assert_int_equal(dhcp_change_commands("eth0", 0, rows[i].before, rows[i].after, &batch, &gone, NULL), 0);
        assert_string_equal(batch.data, rows[i].batch);
        assert_string_equal(gone.data ? gone.data : "", rows[i].gone);
    }
    KP_AUTO_BUF struct kp_buf batch = {0}, gone = {0};
    assert_true(dhcp_change_commands("eth0", 0, rows[0].before, "ip=10.0.0.2\nmask=24\nrouter=x\n", &batch, &gone, NULL) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_silent_server_is_asked_then_all_then_the_lease_ends),
        cmocka_unit_test(the_servers_times_count_when_they_make_sense),
        cmocka_unit_test(an_answer_begins_anew_and_a_clock_that_was_set_asks_at_once),
        cmocka_unit_test(what_the_server_gives_is_read),
        cmocka_unit_test(what_is_no_answer_to_us_does_not_count),
        cmocka_unit_test(a_refusal_is_heard),
        cmocka_unit_test(a_request_says_who_asks_for_what),
        cmocka_unit_test(another_gateway_replaces_the_one_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
