/* Schedules: the language with its refusals, and when they come next, through both changes of the clocks. */
#include "lib/cron/cron.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <time.h>
#include <unistd.h>

static struct kp_error error;

static int64_t at(const char *text) /* "2026-03-29 01:00" in UTC */
{
    struct tm tm = {0};
    assert_non_null(strptime(text, "%Y-%m-%d %H:%M", &tm));
    return timegm(&tm);
}

static const char *utc(int64_t at_s)
{
    static char text[32];
    struct tm tm;
    time_t then = (time_t)at_s;
    strftime(text, sizeof(text), "%Y-%m-%d %H:%M", gmtime_r(&then, &tm));
    return text;
}

static const char *next(const char *schedule, const struct cron_zone *zone, const char *after)
{
    struct cron_schedule s;
    error = (struct kp_error){0};
    if (cron_parse(schedule, &s, &error) < 0)
        return error.message;
    int64_t found = cron_next_s(&s, zone, at(after));
    return found ? utc(found) : "never";
}

static void schedules_come_next(void **state)
{
    static const char *const cases[][3] = {
        {"* * * * *", "2026-11-22 11:36", "2026-11-22 11:37"},
        {"*/15 * * * *", "2026-11-22 11:36", "2026-11-22 11:45"},
        {"*/15 * * * *", "2026-11-22 11:45", "2026-11-22 12:00"},
        {"5/20 * * * *", "2026-11-22 11:26", "2026-11-22 11:45"},
        {"0 0 1 1 *", "2026-11-22 11:36", "2027-01-01 00:00"},
        {"@yearly", "2026-11-22 11:36", "2027-01-01 00:00"},
        {"@monthly", "2026-11-22 11:36", "2026-12-01 00:00"},
        {"@weekly", "2026-11-22 11:36", "2026-11-29 00:00"},
        {"@midnight", "2026-11-22 11:36", "2026-11-23 00:00"},
        {"@hourly", "2026-11-22 11:36", "2026-11-22 12:00"},
        {"@every 90m", "2026-11-22 11:36", "2026-11-22 13:06"},
        {"30 4 * * mon-fri", "2026-11-20 04:30", "2026-11-23 04:30"},
        {"30 4 * FEB,Dec *", "2026-11-20 04:30", "2026-12-01 04:30"},
        {"0 12 29 2 *", "2026-11-20 04:30", "2028-02-29 12:00"},
        {"0 12 31 2 *", "2026-11-20 04:30", "never"},
        {"0 0 13 * 5", "2026-11-22 00:00", "2026-11-27 00:00"}, /* either: Fridays and every 13th */
        {"0 0 13 * *", "2026-11-22 00:00", "2026-12-13 00:00"},
        {"0 0 */2 * 1", "2026-11-23 00:00", "2026-11-25 00:00"}, /* a star with a step is no star */
        {"0 0 ? * 1", "2026-11-23 00:00", "2026-11-30 00:00"},
        {"1,2-4,50-59/3 7 * * *", "2026-11-22 07:04", "2026-11-22 07:50"},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(cases); i++)
        assert_string_equal(next(cases[i][0], NULL, cases[i][1]), cases[i][2]);
}

static void what_is_no_schedule_is_refused_in_words(void **state)
{
    static const char *const cases[][2] = {
        {"", "empty spec string"},
        {"* * * *", "expected exactly 5 fields, found 4: [* * * *]"},
        {"* * * * * *", "expected exactly 5 fields, found 6: [* * * * * *]"},
        {"61 * * * *", "end of range (61) above maximum (59): 61"},
        {"* 24 * * *", "end of range (24) above maximum (23): 24"},
        {"* * 0 * *", "beginning of range (0) below minimum (1): 0"},
        {"* * * * 7", "end of range (7) above maximum (6): 7"},
        {"5-3 * * * *", "beginning of range (5) beyond end of range (3): 5-3"},
        {"*/0 * * * *", "step of range should be a positive number: */0"},
        {"1-2-3 * * * *", "too many hyphens: 1-2-3"},
        {"1/2/3 * * * *", "too many slashes: 1/2/3"},
        {"x * * * *", "failed to parse int from x"},
        {"-1 * * * *", "failed to parse int from "},
        {"@often", "unrecognized descriptor: @often"},
        {"@every soon", "failed to parse duration @every soon"},
        {"TZ=UTC 0 * * * *", "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(cases); i++)
        assert_string_equal(next(cases[i][0], NULL, "2026-11-22 11:36"), cases[i][1]);
    struct cron_schedule s;
    assert_int_equal(cron_parse("*/2147483647 * * * *", &s, NULL), 0);
    assert_int_equal(s.minutes, 1);
}

static void put_be(struct kp_buf *out, int64_t value, int bytes)
{
    for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8)
        kp_buf_putc(out, (char)(value >> shift));
}

static void put_header(struct kp_buf *out, int times, int types, int chars)
{
    const int counts[] = {0, 0, 0, times, types, chars};
    kp_buf_append(out, "TZif2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
    for (size_t i = 0; i < KP_ARRAY_LEN(counts); i++)
        put_be(out, counts[i], 4);
}

static const char *last(const char *schedule, const char *after, const char *now, int *ret_count)
{
    struct cron_schedule s;
    assert_int_equal(cron_parse(schedule, &s, &error), 0);
    int64_t found = cron_last_s(&s, NULL, at(after), at(now), ret_count);
    return found ? utc(found) : "none";
}

static void the_last_time_is_found_however_long_ago_the_one_before(void **state)
{
    int n;
    assert_string_equal(last("0 * * * *", "2026-11-22 11:00", "2026-11-22 11:59", &n), "none");
    assert_int_equal(n, 0);
    assert_string_equal(last("0 * * * *", "2026-11-22 11:00", "2026-11-22 12:00", &n), "2026-11-22 12:00");
    assert_int_equal(n, 1);
    assert_string_equal(last("0 * * * *", "2026-11-22 11:00", "2026-11-22 15:30", &n), "2026-11-22 15:00");
    assert_int_equal(n, 4);
    assert_string_equal(last("* * * * *", "2006-11-22 11:00", "2026-11-22 15:30", &n), "2026-11-22 15:30");
    assert_int_equal(n, CRON_COUNT_MAX);
    assert_string_equal(last("*/5 8 * 2 *", "2006-11-22 11:00", "2026-11-22 15:30", &n), "2026-02-28 08:55");
    assert_string_equal(last("@every 7m", "2026-01-01 00:00", "2026-11-22 15:29", &n), "2026-11-22 15:23");
    assert_string_equal(last("0 0 31 2 *", "2006-11-22 11:00", "2026-11-22 15:30", &n), "none");
}

/* Berlin's year 2026, as a TZif file of our own: +1 h, from 2026-03-29 01:00 UTC +2 h, from 2026-10-25 01:00 UTC +1 h again. */
static struct cron_zone *berlin(void)
{
    static const char winter_summer[] = "\0\0\x0e\x10\0\0\0\0\x1c\x20\1\0";
    KP_AUTO_BUF struct kp_buf file = {0};
    struct cron_zone *zone = NULL;
    put_header(&file, 0, 1, 1);
    kp_buf_append(&file, winter_summer, 6);
    kp_buf_putc(&file, 0);
    put_header(&file, 2, 2, 1);
    put_be(&file, at("2026-03-29 01:00"), 8);
    put_be(&file, at("2026-10-25 01:00"), 8);
    kp_buf_append(&file, "\1\0", 2);
    kp_buf_append(&file, winter_summer, 12);
    kp_buf_putc(&file, 0);
    assert_int_equal(cron_zone_parse(file.data, file.len, &zone, &error), 0);
    for (size_t len = 0; len < file.len; len++) { /* cut short anywhere it is none */
        struct cron_zone *cut = NULL;
        assert_int_equal(cron_zone_parse(file.data, len, &cut, NULL), KP_ECORRUPT);
        assert_null(cut);
    }
    return zone;
}

static void the_clocks_of_a_place_count(void **state)
{
    KP_AUTO(cron_zone_free) struct cron_zone *zone = berlin();
    assert_int_equal(cron_zone_offset_s(zone, at("2026-01-01 00:00")), 3600);
    assert_int_equal(cron_zone_offset_s(zone, at("2026-03-29 00:59")), 3600);
    assert_int_equal(cron_zone_offset_s(zone, at("2026-03-29 01:00")), 7200);
    assert_int_equal(cron_zone_offset_s(zone, at("2027-01-01 00:00")), 3600);
    assert_string_equal(next("0 9 * * *", zone, "2026-01-10 09:00"), "2026-01-11 08:00");
    assert_string_equal(next("0 9 * * *", zone, "2026-07-10 09:00"), "2026-07-11 07:00");
    assert_string_equal(next("0 0 1 * *", zone, "2026-07-10 09:00"), "2026-07-31 22:00");
    /* 02:30 does not exist on the 29th of March. */
    assert_string_equal(next("30 2 * * *", zone, "2026-03-28 12:00"), "2026-03-30 00:30");
    assert_string_equal(next("0 0 * * *", zone, "2026-03-28 23:00"), "2026-03-29 22:00");
    /* and comes twice on the 25th of October. */
    assert_string_equal(next("30 2 * * *", zone, "2026-10-24 12:00"), "2026-10-25 00:30");
    assert_string_equal(next("30 2 * * *", zone, "2026-10-25 00:30"), "2026-10-25 01:30");
    assert_string_equal(next("30 2 * * *", zone, "2026-10-25 01:30"), "2026-10-26 01:30");
    assert_string_equal(next("0 0 * * *", zone, "2026-10-24 22:00"), "2026-10-25 23:00");
}

static void zones_are_found_by_name_alone(void **state)
{
    static const char *const none[] = {"Mars/Olympus", "../../../etc/passwd", "/etc/localtime", "Europe/../UTC", "Europe//Berlin", "Europe/", "Local", "a b"};
    struct cron_zone *zone = NULL;
    for (size_t i = 0; i < KP_ARRAY_LEN(none); i++) {
        assert_int_equal(cron_zone_open(none[i], &zone, &error), KP_ENOTFOUND);
        assert_non_null(strstr(error.message, "unknown time zone"));
    }
    assert_int_equal(cron_zone_open("UTC", &zone, &error), 0);
    assert_int_equal(cron_zone_offset_s(zone, at("2026-07-01 00:00")), 0);
    cron_zone_free(zone);
    if (access("/usr/share/zoneinfo/America/New_York", R_OK) != 0)
        skip();
    assert_int_equal(cron_zone_open("America/New_York", &zone, &error), 0);
    assert_int_equal(cron_zone_offset_s(zone, at("2026-07-01 00:00")), -4 * 3600);
    assert_int_equal(cron_zone_offset_s(zone, at("2026-12-01 00:00")), -5 * 3600);
    cron_zone_free(zone);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(schedules_come_next),
        cmocka_unit_test(what_is_no_schedule_is_refused_in_words),
        cmocka_unit_test(the_last_time_is_found_however_long_ago_the_one_before),
        cmocka_unit_test(the_clocks_of_a_place_count),
        cmocka_unit_test(zones_are_found_by_name_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
