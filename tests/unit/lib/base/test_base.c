/* Errors, arenas, buffers, strings, maps, time, metrics and flags of lib/base. */
#include "lib/base/base.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void error_context_grows_outwards(void **state)
{
    struct kp_error error = {0};
    errno = ENOENT;
    assert_int_equal(kp_fail_errno(&error, "open %s", "a"), KP_ENOTFOUND);
    assert_int_equal(kp_wrap(&error, "node %d", 7), KP_ENOTFOUND);
    assert_string_equal(error.message, "node 7: open a: No such file or directory");
    assert_int_equal(kp_fail(&error, KP_EINVALID, "again: %s", error.message), KP_EINVALID);
    assert_string_equal(error.message, "again: node 7: open a: No such file or directory");
    for (int i = 0; i < 300; i++)
        kp_wrap(&error, "level %d", i);
    assert_int_equal(strlen(error.message), KP_ERROR_MESSAGE_MAX - 1);
    assert_int_equal(error.code, KP_EINVALID);
    assert_int_equal(kp_fail(NULL, KP_EIO, "nobody asks"), KP_EIO);
    assert_string_equal(kp_code_info(KP_ENOTFOUND)->reason, "NotFound");
    assert_int_equal(kp_code_info(KP_EEXPIRED)->http_status, 410);
    assert_int_equal(kp_code_info(-999)->http_status, 500);
}

static void arena_aligns_zeroes_and_keeps_its_cap(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(1 << 20);
    for (size_t size = 0; size < 3000; size += 7) {
        unsigned char *p = kp_arena_alloc(arena, size);
        assert_int_equal((uintptr_t)p % 16, 0);
        for (size_t i = 0; i < size; i++)
            assert_int_equal(p[i], 0);
        memset(p, 0xff, size);
    }
    assert_null(kp_arena_try(arena, 1 << 20));
    assert_null(kp_arena_try(arena, SIZE_MAX));
    kp_arena_reset(arena);
    assert_int_equal(kp_arena_used(arena), 0);
    assert_non_null(kp_arena_try(arena, 1 << 20));
    kp_arena_reset(arena);
    assert_string_equal(kp_arena_printf(arena, "%s-%05d", "x", 42), "x-00042");
    assert_string_equal(kp_arena_strndup(arena, "hello", 2), "he");
    assert_null(kp_arena_strdup(arena, NULL));
}

static void buffer_grows_consumes_and_is_taken(void **state)
{
    KP_AUTO_BUF struct kp_buf buf = {0};
    for (int i = 0; i < 1000; i++)
        kp_buf_printf(&buf, "%d,", i);
    assert_true(kp_starts_with(buf.data, "0,1,2,") && kp_ends_with(buf.data, ",999,"));
    kp_buf_consume(&buf, 2);
    assert_true(kp_starts_with(buf.data, "1,2,"));
    char *taken = kp_buf_take(&buf);
    assert_null(buf.data);
    free(taken);
    taken = kp_buf_take(&buf);
    assert_string_equal(taken, "");
    free(taken);
}

static void numbers_parse_whole_or_not_at_all(void **state)
{
    int64_t i = 0;
    uint64_t u = 0;
    assert_int_equal(kp_parse_i64("-9223372036854775808", &i), 0);
    assert_true(i == INT64_MIN);
    assert_int_equal(kp_parse_i64("9223372036854775807", &i), 0);
    assert_true(i == INT64_MAX);
    assert_int_equal(kp_parse_u64("18446744073709551615", &u), 0);
    assert_true(u == UINT64_MAX);
    static const char *const bad[] = {"", "-", "+", " 1", "1 ", "1x", "9223372036854775808", "0x10", "--1"};
    for (size_t n = 0; n < KP_ARRAY_LEN(bad); n++)
        assert_int_equal(kp_parse_i64(bad[n], &i), KP_EBADREQUEST);
    assert_int_equal(kp_parse_u64("18446744073709551616", &u), KP_EBADREQUEST);
    assert_int_equal(kp_parse_u64("-1", &u), KP_EBADREQUEST);
}

static void durations_are_printed_as_go_does(void **state)
{
    (void)state;
    static const struct {
        int64_t ns;
        const char *text;
    } rows[] = {{0, "0s"}, {1, "1ns"}, {1100, "1.1\u00b5s"}, {2200000, "2.2ms"}, {3300000000, "3.3s"}, {15000000000, "15s"}, {245000000000, "4m5s"},
                {245001000000, "4m5.001s"}, {18367001000000, "5h6m7.001s"}, {480000000001, "8m0.000000001s"}, {3600000000000, "1h0m0s"},
                {-1500000000, "-1.5s"}, {INT64_MAX, "2562047h47m16.854775807s"}, {INT64_MIN, "-2562047h47m16.854775808s"}};
    for (size_t i = 0; i < KP_ARRAY_LEN(rows); i++) {
        char text[KP_DURATION_MAX];
        kp_format_duration(text, rows[i].ns);
        assert_string_equal(text, rows[i].text);
    }
}

static void durations_follow_gos_syntax(void **state)
{
    static const struct {
        const char *text;
        int64_t ns;
    } good[] = {
        {"0", 0}, {"1h2m3.5s", 3723500000000LL}, {"300ms", 300000000}, {"-1.5h", -5400000000000LL}, {"1us", 1000},
        {"\xc2\xb5", 0}, {"0.1s", 100000000}, {".5m", 30000000000LL}, {"0.3s", 300000000}, {"1.1s", 1100000000},
        {"2562047h47m16.854775807s", INT64_MAX},
    };
    for (size_t n = 0; n < KP_ARRAY_LEN(good); n++) {
        int64_t ns = -1;
        if (good[n].text[0] == '\xc2') {
            assert_int_equal(kp_parse_duration_ns(good[n].text, &ns), KP_EBADREQUEST);
            continue;
        }
        assert_int_equal(kp_parse_duration_ns(good[n].text, &ns), 0);
        assert_true(ns == good[n].ns);
    }
    static const char *const bad[] = {"", "1", "s", "1d", "1h ", ".s", "-", "3000000h", "1s1"};
    for (size_t n = 0; n < KP_ARRAY_LEN(bad); n++) {
        int64_t ns;
        assert_int_equal(kp_parse_duration_ns(bad[n], &ns), KP_EBADREQUEST);
    }
}

static void base64_round_trips_and_is_strict(void **state)
{
    for (size_t len = 0; len < 70; len++) {
        uint8_t bytes[70];
        kp_random_bytes(bytes, sizeof(bytes));
        KP_AUTO_BUF struct kp_buf text = {0}, back = {0}, url = {0}, url_back = {0};
        kp_base64_encode(&text, bytes, len);
        assert_int_equal(text.len, kp_base64_encoded_len(len));
        assert_int_equal(kp_base64_decode(&back, text.data, text.len), 0);
        assert_int_equal(back.len, len);
        assert_memory_equal(back.data, bytes, len);
        kp_base64url_encode(&url, bytes, len);
        assert_null(strpbrk(url.data, "+/="));
        assert_int_equal(kp_base64url_decode(&url_back, url.data, url.len), 0);
        assert_int_equal(url_back.len, len);
        assert_memory_equal(url_back.data, bytes, len);
    }
    KP_AUTO_BUF struct kp_buf out = {0};
    kp_base64_encode(&out, "foobar", 6);
    assert_string_equal(out.data, "Zm9vYmFy");
    static const char *const bad[] = {"Z", "Zg", "Zg=", "Zh==", "Z===", "====", "Zm9v\n", "Zm-v", "=m9v"};
    for (size_t n = 0; n < KP_ARRAY_LEN(bad); n++) {
        assert_int_equal(kp_base64_decode(&out, bad[n], strlen(bad[n])), KP_EBADREQUEST);
        assert_string_equal(out.data, "Zm9vYmFy");
    }
}

static void checksums_match_published_values(void **state)
{
    assert_int_equal(kp_crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(kp_crc32c(kp_crc32c(0, "1234", 4), "56789", 5), 0xe3069283);
    uint8_t zeros[32] = {0};
    assert_int_equal(kp_crc32c(0, zeros, 32), 0x8a9136aa); /* RFC 3720 B.4 */
    assert_true(kp_hash64("", 0) == 0xcbf29ce484222325ULL);
    assert_true(kp_hash64("a", 1) == 0xaf63dc4c8601ec8cULL);
}

static void map_agrees_with_a_plain_table(void **state)
{
    enum { KEYS = 500, STEPS = 20000 };
    static char values[KEYS];
    bool present[KEYS] = {0};
    struct kp_strmap *map = kp_strmap_new();
    size_t count = 0;
    uint64_t seed = 42;
    for (int step = 0; step < STEPS; step++) {
        seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
        size_t n = (size_t)(seed >> 33) % KEYS;
        char key[16];
        snprintf(key, sizeof(key), "key-%zu", n);
        assert_ptr_equal(kp_strmap_get(map, key), present[n] ? &values[n] : NULL);
        if ((seed >> 20 & 3) == 0) {
            assert_ptr_equal(kp_strmap_remove(map, key), present[n] ? &values[n] : NULL);
            count -= present[n];
            present[n] = false;
        } else {
            assert_ptr_equal(kp_strmap_put(map, key, &values[n]), present[n] ? &values[n] : NULL);
            count += !present[n];
            present[n] = true;
        }
        assert_int_equal(kp_strmap_len(map), count);
    }
    size_t iter = 0, seen = 0;
    const char *key;
    void *value;
    while (kp_strmap_next(map, &iter, &key, &value)) {
        char copy[16];
        snprintf(copy, sizeof(copy), "%s", key);
        assert_ptr_equal(kp_strmap_remove(map, copy), value);
        seen++;
    }
    assert_int_equal(seen, count);
    assert_int_equal(kp_strmap_len(map), 0);
    kp_strmap_put(map, "owned", kp_strdup("x"));
    kp_strmap_free(map, free);
    kp_strmap_free(NULL, free);
}

static void times_format_and_parse_as_rfc3339(void **state)
{
    char text[KP_RFC3339_MAX];
    kp_format_rfc3339(text, 1795233420, 123456789, false);
    assert_string_equal(text, "2026-11-21T03:57:00Z");
    kp_format_rfc3339(text, 1795233420, 123456789, true);
    assert_string_equal(text, "2026-11-21T03:57:00.123456Z");
    static const struct {
        const char *text;
        int64_t seconds;
        int32_t nanos;
    } good[] = {
        {"1970-01-01T00:00:00Z", 0, 0},
        {"2026-11-21T03:57:00.5Z", 1795233420, 500000000},
        {"2026-11-21T05:57:00+02:00", 1795233420, 0},
        {"2026-11-20T23:27:00.000000001-04:30", 1795233420, 1},
        {"2000-02-29T00:00:00Z", 951782400, 0},
        {"1969-12-31T23:59:59Z", -1, 0},
        {"0001-01-01T00:00:00Z", -62135596800LL, 0},
    };
    for (size_t n = 0; n < KP_ARRAY_LEN(good); n++) {
        int64_t seconds;
        int32_t nanos;
        assert_int_equal(kp_parse_rfc3339(good[n].text, &seconds, &nanos), 0);
        assert_true(seconds == good[n].seconds);
        assert_int_equal(nanos, good[n].nanos);
    }
    static const char *const bad[] = {"", "2026-11-21", "2026-11-21T03:57:00", "2026-02-29T00:00:00Z",
                                      "2026-13-01T00:00:00Z", "2026-11-21T24:00:00Z", "2026-11-21T03:57:00.Z",
                                      "2026-11-21T03:57:00Zx", "2026-11-21 03:57:00Z", "2026-11-21T03:57:00+0200"};
    for (size_t n = 0; n < KP_ARRAY_LEN(bad); n++) {
        int64_t seconds;
        int32_t nanos;
        assert_int_equal(kp_parse_rfc3339(bad[n], &seconds, &nanos), KP_EBADREQUEST);
    }
    assert_int_equal(kp_parse_rfc3339(NULL, &(int64_t){0}, &(int32_t){0}), KP_EBADREQUEST);
}

static void random_identifiers_have_their_form(void **state)
{
    char uuid[37], again[37], suffix[6];
    kp_uuid4(uuid);
    kp_uuid4(again);
    assert_int_equal(strlen(uuid), 36);
    assert_int_equal(uuid[14], '4');
    assert_non_null(strchr("89ab", uuid[19]));
    assert_string_not_equal(uuid, again);
    kp_random_suffix(suffix, 5);
    assert_int_equal(strspn(suffix, "bcdfghjklmnpqrstvwxz2456789"), 5);
}

static void flags_take_the_upstream_spellings(void **state)
{
    const char *name = "default", *from_env = NULL;
    bool wait = false, tty = false, help = false;
    int64_t count = 0, timeout_ns = 0;
    struct kp_strings labels = {0}, rest = {0};
    const struct kp_flag flags[] = {
        {"name", 'n', KP_FLAG_STRING, &name, "a name", NULL},
        {"wait", 'w', KP_FLAG_BOOL, &wait, "wait", NULL},
        {"tty", 't', KP_FLAG_BOOL, &tty, "terminal", NULL},
        {"count", 0, KP_FLAG_I64, &count, "how many", NULL},
        {"timeout", 0, KP_FLAG_DURATION, &timeout_ns, "bound", NULL},
        {"label", 'l', KP_FLAG_STRINGS, &labels, "labels", NULL},
        {"env", 0, KP_FLAG_STRING, &from_env, "from the environment", "TEST_BASE_ENV"},
        {0},
    };
    setenv("TEST_BASE_ENV", "seen", 1);
    char *argv[] = {"prog", "create", "--name=x=y", "-wt", "--count", "-5", "--timeout=1m", "-l", "a=b", "-lc=d", "cluster",
                    "--help", "--", "--not-a-flag"};
    struct kp_error error = {0};
    assert_int_equal(kp_flags_parse(flags, (int)KP_ARRAY_LEN(argv), argv, &rest, &help, &error), 0);
    assert_string_equal(name, "x=y");
    assert_true(wait && tty && help);
    assert_int_equal(count, -5);
    assert_true(timeout_ns == 60000000000LL);
    assert_int_equal(labels.len, 2);
    assert_string_equal(labels.items[1], "c=d");
    assert_string_equal(from_env, "seen");
    assert_int_equal(rest.len, 3);
    assert_string_equal(rest.items[2], "--not-a-flag");
    kp_strings_done(&labels);
    kp_strings_done(&rest);
    static const char *const bad[] = {"--nope", "-x", "--count=abc", "--timeout=5", "--wait=maybe", "--name", "word"};
    for (size_t n = 0; n < KP_ARRAY_LEN(bad); n++) {
        char *words[] = {"prog", (char *)(uintptr_t)bad[n]};
        assert_int_equal(kp_flags_parse(flags, 2, words, NULL, NULL, &error), KP_EUSAGE);
        assert_true(strlen(error.message) > 0);
    }
}

static void metrics_are_written_as_prometheus_text(void **state)
{
    static const char *const labels[] = {"verb", "code", NULL};
    static const double bounds[] = {0.1, 1, 10};
    struct kp_metric *requests = kp_counter("test_requests_total", "Requests.", labels);
    assert_ptr_equal(requests, kp_counter("test_requests_total", "Requests.", labels));
    kp_metric_add(requests, 1, "GET", "200");
    kp_metric_add(requests, 2, "GET", "200");
    kp_metric_add(requests, 1, "a\"\n\\", "500");
    kp_metric_set(kp_gauge("test_depth", "Depth.", NULL), 2.5);
    struct kp_metric *latency = kp_histogram("test_seconds", "Latency.", NULL, bounds, 3);
    kp_metric_observe(latency, 0.05);
    kp_metric_observe(latency, 5);
    kp_metric_observe(latency, 50);
    KP_AUTO_BUF struct kp_buf out = {0};
    kp_metrics_write(&out);
    static const char *const wanted[] = {
        "# TYPE test_requests_total counter\n", "test_requests_total{verb=\"GET\",code=\"200\"} 3\n",
        "test_requests_total{verb=\"a\\\"\\n\\\\\",code=\"500\"} 1\n", "test_depth 2.5\n",
        "test_seconds_bucket{le=\"0.1\"} 1\n", "test_seconds_bucket{le=\"10\"} 2\n",
        "test_seconds_bucket{le=\"+Inf\"} 3\n", "test_seconds_count 3\n", "process_resident_memory_bytes ",
        "process_start_time_seconds ",
    };
    for (size_t n = 0; n < KP_ARRAY_LEN(wanted); n++)
        assert_non_null(strstr(out.data, wanted[n]));
}

static void metric_series_are_bounded(void **state)
{
    static const char *const labels[] = {"name", NULL};
    struct kp_metric *metric = kp_counter("test_many_total", "Many.", labels);
    for (int i = 0; i < 5000; i++) {
        char name[16];
        snprintf(name, sizeof(name), "n%d", i);
        kp_metric_add(metric, 1, name);
    }
    KP_AUTO_BUF struct kp_buf out = {0};
    kp_metrics_write(&out);
    assert_non_null(strstr(out.data, "test_many_total{name=\"other\"} 904\n"));
}

static void who_polls_rests_in_proportion(void **state)
{
    (void)state;
    assert_int_equal(kp_rest_ms(0, 50, 1000), 50);
    assert_int_equal(kp_rest_ms(20, 50, 1000), 160);
    assert_int_equal(kp_rest_ms(500, 50, 1000), 1000);
    assert_int_equal(kp_rest_ms(500, 2000, 1000), 2000);
    int64_t began_ms = kp_mono_ms(), before_ms = began_ms;
    kp_rest(&began_ms, 0, 0);
    assert_true(began_ms >= before_ms && began_ms <= kp_mono_ms());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_context_grows_outwards),
        cmocka_unit_test(arena_aligns_zeroes_and_keeps_its_cap),
        cmocka_unit_test(buffer_grows_consumes_and_is_taken),
        cmocka_unit_test(numbers_parse_whole_or_not_at_all),
        cmocka_unit_test(durations_follow_gos_syntax), cmocka_unit_test(durations_are_printed_as_go_does),
        cmocka_unit_test(base64_round_trips_and_is_strict),
        cmocka_unit_test(checksums_match_published_values),
        cmocka_unit_test(map_agrees_with_a_plain_table),
        cmocka_unit_test(times_format_and_parse_as_rfc3339),
        cmocka_unit_test(random_identifiers_have_their_form),
        cmocka_unit_test(flags_take_the_upstream_spellings),
        cmocka_unit_test(metrics_are_written_as_prometheus_text),
        cmocka_unit_test(metric_series_are_bounded),
        cmocka_unit_test(who_polls_rests_in_proportion),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
