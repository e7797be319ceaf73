/* Expansion, resolver files, back-off, the CRI log format, reading logs. */
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

#include "nodeimage/kubelet/text_internal.h"

static const char *lookup(void *arg, const char *name, size_t len)
{
    return len == 1 && *name == 'A' ? "value" : NULL;
}

static void expansion_follows_the_rules_of_kubernetes(void **state)
{
    static const char *const rows[][2] = {{"$(A)", "value"},       {"x$(A)y$(A)", "xvalueyvalue"}, {"$$(A)", "$(A)"},
                                          {"$(B)", "$(B)"},        {"$(A", "$(A"},                {"$", "$"},
                                          {"$x", "$x"},            {"$$$(A)", "$value"},          {"", ""},
                                          {"$($(A))", "$($(A))"}};
    struct kp_arena *arena = kp_arena_new(0);
    for (size_t i = 0; i < KP_ARRAY_LEN(rows); i++)
        assert_string_equal(kubelet_expand(arena, rows[i][0], lookup, NULL), rows[i][1]);
    kp_arena_free(arena);
}

static void back_off_doubles_and_is_forgotten(void **state)
{
    struct kubelet_backoff *b = kubelet_backoff_new(10, 40);
    assert_int_equal(kubelet_backoff_remaining_ms(b, "k", 100, 100), 0);
    kubelet_backoff_next(b, "k", 100, 100);
    assert_int_equal(kubelet_backoff_current_ms(b, "k"), 10);
    assert_int_equal(kubelet_backoff_remaining_ms(b, "k", 103, 105), 8);
    kubelet_backoff_next(b, "k", 113, 113);
    kubelet_backoff_next(b, "k", 133, 133);
    kubelet_backoff_next(b, "k", 173, 173);
    assert_int_equal(kubelet_backoff_current_ms(b, "k"), 40);
    assert_int_equal(kubelet_backoff_wait_ms(b, "k", 180), 33);
    assert_int_equal(kubelet_backoff_remaining_ms(b, "k", 300, 301), 0); /* ran long enough */
    kubelet_backoff_next(b, "k", 300, 301);
    assert_int_equal(kubelet_backoff_current_ms(b, "k"), 10);
    kubelet_backoff_forget_prefix(b, "k");
    assert_int_equal(kubelet_backoff_current_ms(b, "k"), 0);
    kubelet_backoff_free(b);
}

static void resolver_file_is_read_and_composed(void **state)
{
    static const char text[] = "# comment\nnameserver 10.0.0.1\nsearch old.example\nnameserver 10.0.0.1\nsearch a.example b.example\n"
                               "options ndots:2 rotate\nnameserver ::1";
    struct kp_arena *arena = kp_arena_new(0);
    struct kubelet_dns dns;
    kubelet_dns_parse(arena, text, sizeof(text) - 1, &dns);
    assert_int_equal(dns.n_servers, 2);
    assert_string_equal(dns.servers[1], "::1");
    assert_int_equal(dns.n_searches, 2);
    assert_string_equal(dns.searches[0], "a.example");
    kubelet_dns_add_option(arena, &dns, "ndots", "5");
    assert_int_equal(dns.n_options, 2);
    assert_string_equal(dns.options[0], "ndots:5");
    for (int i = 0; i < 10; i++)
        kubelet_dns_add_server(arena, &dns, kp_arena_printf(arena, "10.1.0.%d", i));
    assert_int_equal(dns.n_servers, KUBELET_DNS_SERVERS_MAX);
    kp_arena_free(arena);
}

static void log_line_is_taken_apart(void **state)
{
    static const char line[] = "2016-10-06T00:17:09.669794202Z stderr P text with spaces";
    struct kubelet_log_line out;
    assert_int_equal(kubelet_log_parse(line, sizeof(line) - 1, &out), 0);
    assert_true(out.is_stderr && out.partial);
    assert_int_equal(out.text_len, strlen("text with spaces"));
    assert_int_equal(kubelet_log_parse("2016 stdout F", 13, &out), 0);
    assert_int_equal(out.text_len, 0);
    static const char *const bad[] = {"", "2016", "2016 stdout", "2016 stdxxx F a", "2016 stdout X a", " stdout F a"};
    for (size_t i = 0; i < KP_ARRAY_LEN(bad); i++)
        assert_int_equal(kubelet_log_parse(bad[i], strlen(bad[i]), &out), KP_EBADREQUEST);
}

static int sink_write(void *arg, const void *data, size_t len)
{
    kp_buf_append(arg, data, len);
    return 0;
}

static bool sink_running(void *arg)
{
    return false;
}

static const char log_text[] = "2026-01-01T00:00:01Z stdout F one\n2026-01-01T00:00:02Z stderr F two\n"
                               "2026-01-01T00:00:03Z stdout P thr\n2026-01-01T00:00:03Z stdout F ee\n2026-01-01T00:00:04Z stdout F four\n";

static void read_with(const struct kubelet_log_options *options, const char *expected)
{
    char path[] = "/tmp/kubelet-log-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, log_text, sizeof(log_text) - 1), sizeof(log_text) - 1);
    close(fd);
    struct kp_buf out = {0};
    struct kubelet_log_sink sink = {.write = sink_write, .running = sink_running, .arg = &out};
    assert_int_equal(kubelet_log_read(path, options, &sink, NULL), 0);
    assert_string_equal(out.data ? out.data : "", expected);
    kp_buf_done(&out);
    unlink(path);
}

static void log_options_choose_what_is_shown(void **state)
{
    read_with(&(struct kubelet_log_options){.tail_lines = -1, .limit_bytes = -1}, "one\ntwo\nthree\nfour\n");
    read_with(&(struct kubelet_log_options){.tail_lines = 1, .limit_bytes = -1}, "four\n");
    read_with(&(struct kubelet_log_options){.tail_lines = 0, .limit_bytes = -1}, "");
    read_with(&(struct kubelet_log_options){.tail_lines = -1, .limit_bytes = 6}, "one\ntw");
    read_with(&(struct kubelet_log_options){.tail_lines = -1, .limit_bytes = -1, .stream = KUBELET_LOG_STDERR}, "two\n");
    read_with(&(struct kubelet_log_options){.tail_lines = 1, .limit_bytes = -1, .timestamps = true}, "2026-01-01T00:00:04Z four\n");
    read_with(&(struct kubelet_log_options){.tail_lines = -1, .limit_bytes = -1, .since_ns = (int64_t)1767225603 * 1000000000},
              "three\nfour\n");
    read_with(&(struct kubelet_log_options){.follow = true, .tail_lines = 2, .limit_bytes = -1}, "ee\nfour\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expansion_follows_the_rules_of_kubernetes),
        cmocka_unit_test(back_off_doubles_and_is_forgotten),
        cmocka_unit_test(resolver_file_is_read_and_composed),
        cmocka_unit_test(log_line_is_taken_apart),
        cmocka_unit_test(log_options_choose_what_is_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
