/* Messages: reading what clients and upstream servers send, however odd, and writing answers. */
#include "tests/unit/nodeimage/dns/fixture.h"

#include <netinet/in.h>

/* Bytes of a literal without its NUL. */
#define BYTES(s) (const uint8_t *)(s), sizeof(s) - 1
#define HEADER(flags, qd, an, ns, ar) "\x12\x34" flags "\0" qd "\0" an "\0" ns "\0" ar
#define Q_A "\1a\0\0\1\0\1"

static enum dns_verdict parse(const uint8_t *data, size_t len, struct dns_query *q, enum dns_rcode *rcode)
{
    uint8_t *exact = kp_malloc(len + 1); /* so that ASan sees a read past the end */
    memcpy(exact, data, len);
    exact = kp_realloc(exact, len ? len : 1);
    enum dns_verdict verdict = dns_query_parse(exact, len, q, rcode);
    free(exact);
    return verdict;
}

static void expect_parse(const uint8_t *data, size_t len, enum dns_verdict want, enum dns_rcode want_rcode)
{
    struct dns_query q;
    enum dns_rcode rcode;
    assert_int_equal(parse(data, len, &q, &rcode), want);
    if (want != DNS_DROP)
        assert_int_equal(rcode, want_rcode);
}

static void plain_query_is_accepted(void **state)
{
    struct dns_query q;
    enum dns_rcode rcode;
    assert_int_equal(parse(BYTES(HEADER("\1\0", "\1", "\0", "\0", "\0") Q_A), &q, &rcode), DNS_ACCEPT);
    assert_int_equal(q.id, 0x1234);
    assert_int_equal(q.type, DNS_A);
    assert_int_equal(q.udp_payload, 512);
    assert_false(q.edns);
}

static void what_is_no_query_is_dropped(void **state)
{
    expect_parse(BYTES(""), DNS_DROP, 0);
    expect_parse(BYTES("\x12\x34\1\0\0\1\0\0\0\0\0"), DNS_DROP, 0);
    expect_parse(BYTES(HEADER("\x81\0", "\1", "\0", "\0", "\0") Q_A), DNS_DROP, 0);
}

static void malformed_queries_get_formerr(void **state)
{
    expect_parse(BYTES(HEADER("\1\0", "\0", "\0", "\0", "\0")), DNS_REJECT, DNS_FORMERR);
    expect_parse(BYTES(HEADER("\1\0", "\2", "\0", "\0", "\0") Q_A Q_A), DNS_REJECT, DNS_FORMERR);
    expect_parse(BYTES(HEADER("\1\0", "\1", "\0", "\0", "\0") "\1a\0\0\1\0"), DNS_REJECT, DNS_FORMERR);
    expect_parse(BYTES(HEADER("\1\0", "\1", "\0", "\0", "\0") "\5a\0\0\1\0\1"), DNS_REJECT, DNS_FORMERR);
    expect_parse(BYTES(HEADER("\1\0", "\1", "\0", "\0", "\0") "\x41" "a\0\0\1\0\1"), DNS_REJECT, DNS_FORMERR);
    expect_parse(BYTES(HEADER("\1\0", "\1", "\0", "\0", "\1") Q_A), DNS_REJECT, DNS_FORMERR);
    expect_parse(BYTES(HEADER("\1\0", "\1", "\0", "\0", "\0") "\0\0\0\0\1"), DNS_REJECT, DNS_FORMERR); /* type 0 */
}

static void pointers_lead_back_or_the_name_is_malformed(void **state)
{
    expect_parse(BYTES(HEADER("\1\0", "\1", "\0", "\0", "\0") "\xc0\x0c\0\1\0\1"), DNS_REJECT, DNS_FORMERR);     /* at itself */
    expect_parse(BYTES(HEADER("\1\0", "\1", "\0", "\0", "\0") "\1a\xc0\x0c\0\1\0\1"), DNS_REJECT, DNS_FORMERR); /* a circle */
    expect_parse(BYTES(HEADER("\1\0", "\1", "\0", "\0", "\0") "\xc0\x20\0\1\0\1"), DNS_REJECT, DNS_FORMERR);     /* ahead */
    expect_parse(BYTES(HEADER("\1\0", "\1", "\0", "\0", "\0") "\xc0"), DNS_REJECT, DNS_FORMERR);
    /* Into the header: bytes there make the name "\x12\x34...". Odd, but it ends. */
    const uint8_t name[] = "\1b\0\1a\xc0\0";
    size_t pos = 3;
    struct dns_name out;
    assert_int_equal(dns_name_read(name, 7, &pos, &out), 0);
    assert_int_equal(pos, 7);
    assert_int_equal(out.len, 5);
    assert_memory_equal(out.wire, "\1a\1b\0", 5);
}

static void names_longer_than_255_bytes_are_malformed(void **state)
{
    uint8_t data[300];
    struct dns_name name;
    for (size_t labels = 126; labels <= 128; labels++) {
        size_t pos = 0;
        for (size_t i = 0; i < labels; i++)
            memcpy(data + 2 * i, "\1a", 2);
        data[2 * labels] = 0;
        assert_int_equal(dns_name_read(data, sizeof(data), &pos, &name), labels <= 127 ? 0 : KP_EBADREQUEST);
    }
}

static void other_opcodes_are_not_implemented(void **state)
{
    uint8_t answer[DNS_UDP_MIN];
    struct dns_query q;
    enum dns_rcode rcode;
    assert_int_equal(parse(BYTES(HEADER("\x28\0", "\1", "\0", "\0", "\0") "\1a\0\0\6\0\1"), &q, &rcode), DNS_REJECT);
    assert_int_equal(rcode, DNS_NOTIMP);
    assert_int_equal(dns_write_rcode(answer, sizeof(answer), &q, rcode), DNS_HEADER_LEN);
    assert_int_equal(answer[2] & 0xf8, 0xa8); /* QR and the same opcode */
}

static void other_classes_are_refused(void **state)
{
    expect_parse(BYTES(HEADER("\1\0", "\1", "\0", "\0", "\0") "\1a\0\0\1\0\3"), DNS_REJECT, DNS_REFUSED);
}

static void edns_is_understood(void **state)
{
    struct dns_query q;
    enum dns_rcode rcode;
    assert_int_equal(parse(BYTES(HEADER("\1\0", "\1", "\0", "\0", "\1") Q_A "\0\0\x29\x10\0\0\0\x80\0\0\x0c\0\x0a\0\x08" "12345678"), &q, &rcode),
                     DNS_ACCEPT);
    assert_true(q.edns && q.dnssec_ok);
    assert_int_equal(q.udp_payload, 4096);
    /* a payload below 512 means 512 */
    assert_int_equal(parse(BYTES(HEADER("\1\0", "\1", "\0", "\0", "\1") Q_A "\0\0\x29\0\x10\0\0\0\0\0\0"), &q, &rcode), DNS_ACCEPT);
    assert_int_equal(q.udp_payload, 512);
    /* two of them, one elsewhere than in the additional section, one at another name, options cut short */
    expect_parse(BYTES(HEADER("\1\0", "\1", "\0", "\0", "\2") Q_A "\0\0\x29\x10\0\0\0\0\0\0\0" "\0\0\x29\x10\0\0\0\0\0\0\0"), DNS_REJECT, DNS_FORMERR);
    expect_parse(BYTES(HEADER("\1\0", "\1", "\1", "\0", "\0") Q_A "\0\0\x29\x10\0\0\0\0\0\0\0"), DNS_REJECT, DNS_FORMERR);
    expect_parse(BYTES(HEADER("\1\0", "\1", "\0", "\0", "\1") Q_A "\1b\0\0\x29\x10\0\0\0\0\0\0\0"), DNS_REJECT, DNS_FORMERR);
    expect_parse(BYTES(HEADER("\1\0", "\1", "\0", "\0", "\1") Q_A "\0\0\x29\x10\0\0\0\0\0\0\3\0\x0a\0"), DNS_REJECT, DNS_FORMERR);
    expect_parse(BYTES(HEADER("\1\0", "\1", "\0", "\0", "\1") Q_A "\0\0\x29\x10\0\0\0\0\0\0\5\0\x0a\0\2x"), DNS_REJECT, DNS_FORMERR);
}

static void unknown_edns_version_gets_badvers(void **state)
{
    uint8_t answer[DNS_UDP_MIN];
    struct dns_query q;
    enum dns_rcode rcode;
    assert_int_equal(parse(BYTES(HEADER("\1\0", "\1", "\0", "\0", "\1") Q_A "\0\0\x29\x10\0\0\1\0\0\0\0"), &q, &rcode), DNS_REJECT);
    assert_int_equal(rcode, DNS_BADVERS);
    size_t n = dns_write_rcode(answer, sizeof(answer), &q, rcode);
    assert_int_equal(answer[3] & 0xf, 0);
    assert_int_equal(answer[n - 6], 1); /* the upper eight bits of 16 */
}

/* An answer to "a A": CNAME, MX through pointers, an unknown type, SOA, OPT. */
#define R_OWNER "\xc0\x0c"
static const char response[] = HEADER("\x81\xa0", "\1", "\3", "\1", "\1") Q_A
    R_OWNER "\0\5\0\1\0\0\0\x64\0\4\1b\xc0\x0c"
    R_OWNER "\0\x0f\0\1\0\0\0\x0a\0\6\0\5\1m\xc0\x0c"
    R_OWNER "\xff\xf0\0\1\0\0\0\x63\0\2\xc0\x0c"
    "\0\0\6\0\1\0\0\0\x28\0\x1a\1n\xc0\x0c\xc0\x0c\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0\5"
    "\0\0\x29\x10\0\0\0\0\0\0\0";

static void upstream_answer_is_copied_with_full_names_and_aged_ttl(void **state)
{
    struct dns_name name;
    struct dns_response r;
    uint8_t answer[DNS_UDP_MIN];
    struct dns_writer writer;
    struct dns_query q = {.id = 7, .flags = DNS_RD, .type = DNS_A, .class = DNS_IN};
    assert_int_equal(dns_name_parse("A", &name), 0);
    q.name = name;
    assert_int_equal(dns_response_parse(BYTES(response), &name, DNS_A, &r), 0);
    assert_int_equal(r.ttl_s, 10);
    dns_writer_begin(&writer, answer, sizeof(answer), &q);
    dns_response_copy(&writer, BYTES(response), 20);
    char *text = fixture_text(answer, dns_writer_end(&writer, &q, 0, r.rcode));
    assert_string_equal(text, "NOERROR | A. 80 CNAME b.a. | A. 0 MX 5 m.a. | A. 79 TYPE65520 c00c / authority | . 20 SOA n.a. a.");
    free(text);
}

static void upstream_answer_to_something_else_is_not_taken(void **state)
{
    struct dns_name name;
    struct dns_response r;
    assert_int_equal(dns_name_parse("b", &name), 0);
    assert_true(dns_response_parse(BYTES(response), &name, DNS_A, &r) < 0);
    assert_int_equal(dns_name_parse("a", &name), 0);
    assert_true(dns_response_parse(BYTES(response), &name, DNS_AAAA, &r) < 0);
    assert_true(dns_response_parse(BYTES(HEADER("\1\0", "\1", "\0", "\0", "\0") Q_A), &name, DNS_A, &r) < 0);
    for (size_t n = 0; n + 1 < sizeof(response); n++) {
        uint8_t *cut = kp_malloc(n + 1);
        memcpy(cut, response, n);
        cut = kp_realloc(cut, n ? n : 1);
        assert_true(dns_response_parse(cut, n, &name, DNS_A, &r) < 0);
        free(cut);
    }
}

static void negative_answers_live_as_long_as_their_soa_says(void **state)
{
    static const char nx[] = HEADER("\x81\x83", "\1", "\0", "\1", "\0") Q_A
        "\0\0\6\0\1\0\0\0\x28\0\x1a\1n\xc0\x0c\xc0\x0c\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0\5";
    struct dns_name name;
    struct dns_response r;
    assert_int_equal(dns_name_parse("a", &name), 0);
    assert_int_equal(dns_response_parse(BYTES(nx), &name, DNS_A, &r), 0);
    assert_int_equal(r.rcode, DNS_NXDOMAIN);
    assert_int_equal(r.ttl_s, 5);
    assert_int_equal(dns_response_parse(BYTES(HEADER("\x81\x83", "\1", "\0", "\0", "\0") Q_A), &name, DNS_A, &r), 0);
    assert_int_equal(r.ttl_s, 0);
    assert_int_equal(dns_response_parse(BYTES(HEADER("\x81\x82", "\1", "\0", "\0", "\0") Q_A), &name, DNS_A, &r), 0);
    assert_int_equal(r.ttl_s, 0);
}

/* A record that is left out leaves nothing behind that a later name could point at. */
static void record_left_out_is_forgotten(void **state)
{
    uint8_t answer[DNS_UDP_MIN];
    struct dns_writer w;
    struct dns_query q = {.type = DNS_A, .class = DNS_IN};
    struct dns_ip ip = {.family = 4, .bytes = {192, 0, 2, 1}};
    struct dns_name other;
    uint8_t filling[440] = {0};
    assert_int_equal(dns_name_parse("a", &q.name), 0);
    assert_int_equal(dns_name_parse("long-name.of-some.other.domain", &other), 0);
    dns_writer_begin(&w, answer, sizeof(answer), &q);
    assert_true(dns_put_raw(&w, DNS_ANSWER, &q.name, 65520, DNS_IN, 0, filling, sizeof(filling)));
    assert_false(dns_put_ip(&w, DNS_ADDITIONAL, &other, &ip, 1));
    assert_int_equal(dns_name_parse("other.domain", &other), 0);
    assert_true(dns_put_ip(&w, DNS_ADDITIONAL, &other, &ip, 1));
    char *text = fixture_text(answer, dns_writer_end(&w, &q, 0, DNS_NOERROR));
    assert_non_null(strstr(text, " / additional | other.domain. 1 A 192.0.2.1"));
    assert_null(strstr(text, " tc"));
    free(text);
}

static void cache_keeps_answers_for_their_time(void **state)
{
    struct dns_cache *cache = dns_cache_new();
    struct dns_name name, upper;
    size_t len;
    uint32_t age_s;
    assert_int_equal(dns_name_parse("www.example.com", &name), 0);
    assert_int_equal(dns_name_parse("WWW.example.COM", &upper), 0);
    dns_cache_put(cache, &name, DNS_A, 0, BYTES("answer"), 10, 1000);
    assert_memory_equal(dns_cache_get(cache, &upper, DNS_A, 0, 5500, &len, &age_s), "answer", 6);
    assert_int_equal(len, 6);
    assert_int_equal(age_s, 4);
    assert_null(dns_cache_get(cache, &name, DNS_AAAA, 0, 5500, &len, &age_s));
    assert_null(dns_cache_get(cache, &name, DNS_A, 1, 5500, &len, &age_s));
    assert_null(dns_cache_get(cache, &name, DNS_A, 0, 11000, &len, &age_s));
    dns_cache_put(cache, &name, DNS_A, 0, BYTES("long"), 100000, 0);
    assert_non_null(dns_cache_get(cache, &name, DNS_A, 0, 1000 * DNS_CACHE_TTL_S_MAX - 1, &len, &age_s));
    assert_null(dns_cache_get(cache, &name, DNS_A, 0, 1000 * DNS_CACHE_TTL_S_MAX, &len, &age_s));
    dns_cache_put(cache, &name, DNS_A, 0, BYTES("never"), 0, 0);
    assert_null(dns_cache_get(cache, &name, DNS_A, 0, 0, &len, &age_s));
    dns_cache_free(cache);
}

static void cache_is_bounded_and_keeps_what_is_newest(void **state)
{
    struct dns_cache *cache = dns_cache_new();
    static const uint8_t big[DNS_CACHE_MESSAGE_MAX + 1];
    size_t len, found = 0;
    uint32_t age_s;
    for (int i = 0; i < 3 * DNS_CACHE_SLOTS; i++) {
        struct dns_name name;
        char text[32];
        snprintf(text, sizeof(text), "n%d.example", i);
        assert_int_equal(dns_name_parse(text, &name), 0);
        dns_cache_put(cache, &name, DNS_A, 0, BYTES("x"), 30, i);
        assert_non_null(dns_cache_get(cache, &name, DNS_A, 0, i, &len, &age_s));
        assert_null(dns_cache_get(cache, &name, DNS_A, 1, i, &len, &age_s));
        dns_cache_put(cache, &name, DNS_A, 1, big, sizeof(big), 30, i);
        assert_null(dns_cache_get(cache, &name, DNS_A, 1, i, &len, &age_s));
    }
    for (int i = 0; i < 3 * DNS_CACHE_SLOTS; i++) {
        struct dns_name name;
        char text[32];
        snprintf(text, sizeof(text), "n%d.example", i);
        assert_int_equal(dns_name_parse(text, &name), 0);
        found += dns_cache_get(cache, &name, DNS_A, 0, 3 * DNS_CACHE_SLOTS, &len, &age_s) != NULL;
    }
    assert_in_range(found, DNS_CACHE_SLOTS / 2, DNS_CACHE_SLOTS);
    dns_cache_free(cache);
}

static void resolv_conf_names_upstream_servers(void **state)
{
    static const char text[] = "# comment\nsearch example.com\nnameserver 198.51.100.1\nnameserver\t2001:db8::1  \nnameserver nonsense\n"
                               "nameservers 198.51.100.7\noptions ndots:5\nnameserver 127.0.0.53\r\nnameserver 198.51.100.2";
    struct dns_upstreams upstreams;
    char address[LOOP_ADDRESS_MAX];
    dns_resolv_parse(text, sizeof(text) - 1, 53, &upstreams);
    assert_int_equal(upstreams.len, 4);
    dns_upstreams_drop_self(&upstreams, 5353);
    assert_int_equal(upstreams.len, 4);
    dns_upstreams_drop_self(&upstreams, 53);
    assert_int_equal(upstreams.len, 3);
    loop_sockaddr_format((struct sockaddr *)&upstreams.items[1], address);
    assert_string_equal(address, "[2001:db8::1]:53");
    loop_sockaddr_format((struct sockaddr *)&upstreams.items[2], address);
    assert_string_equal(address, "198.51.100.2:53");
    dns_upstreams_done(&upstreams);
    dns_resolv_parse("", 0, 53, &upstreams);
    assert_int_equal(upstreams.len, 0);
    dns_upstreams_done(&upstreams);
}

static void names_are_written_with_escapes(void **state)
{
    struct dns_name name = {.len = 9, .wire = "\3a.b\3\\\1c"};
    char text[DNS_NAME_TEXT_MAX];
    dns_name_format(&name, text);
    assert_string_equal(text, "a\\.b.\\\\\\001c.");
    assert_int_equal(dns_name_parse(".", &name), 0);
    dns_name_format(&name, text);
    assert_string_equal(text, ".");
    assert_true(dns_name_parse("a..b", &name) < 0);
    assert_true(dns_name_parse(".a", &name) < 0);
    assert_true(dns_name_parse("0123456789012345678901234567890123456789012345678901234567890123.x", &name) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_query_is_accepted), cmocka_unit_test(what_is_no_query_is_dropped), cmocka_unit_test(malformed_queries_get_formerr),
        cmocka_unit_test(pointers_lead_back_or_the_name_is_malformed), cmocka_unit_test(names_longer_than_255_bytes_are_malformed),
        cmocka_unit_test(other_opcodes_are_not_implemented), cmocka_unit_test(other_classes_are_refused), cmocka_unit_test(edns_is_understood),
        cmocka_unit_test(unknown_edns_version_gets_badvers), cmocka_unit_test(upstream_answer_is_copied_with_full_names_and_aged_ttl),
        cmocka_unit_test(upstream_answer_to_something_else_is_not_taken), cmocka_unit_test(negative_answers_live_as_long_as_their_soa_says),
        cmocka_unit_test(record_left_out_is_forgotten),
        cmocka_unit_test(cache_keeps_answers_for_their_time), cmocka_unit_test(cache_is_bounded_and_keeps_what_is_newest),
        cmocka_unit_test(resolv_conf_names_upstream_servers), cmocka_unit_test(names_are_written_with_escapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
