/* Timestamps and durations: their text, and their parts in a time zone (cel-go common/types/timestamp.go, duration.go). */
#include "lib/cel/cel_internal.h"
#include "lib/cron/cron.h"

#include <ctype.h>
#include <time.h>

#define FN(name) static struct cel_value name(struct cel_eval *e, const struct cel_value *args)
#define TIME_TEXT_MAX 64
#define ZONE_WORK 5000 /* what reading a zone's file counts as */

bool parse_duration(const char *s, size_t len, int64_t *ret_ns)
{
    char text[TIME_TEXT_MAX];
    if (len >= sizeof(text))
        return false;
    memcpy(text, s, len);
    text[len] = '\0';
    return strlen(text) == len && kp_parse_duration_ns(text, ret_ns) == 0;
}

bool parse_timestamp(const char *s, size_t len, int64_t *ret_s, int32_t *ret_ns)
{
    char text[TIME_TEXT_MAX];
    if (len >= sizeof(text))
        return false;
    memcpy(text, s, len);
    text[len] = '\0';
    return strlen(text) == len && kp_parse_rfc3339(text, ret_s, ret_ns) == 0 && *ret_s >= TIMESTAMP_MIN && *ret_s <= TIMESTAMP_MAX;
}

const char *duration_text(int64_t ns, struct kp_arena *arena)
{
    return kp_arena_printf(arena, "%ss", double_f_text((double)(ns / 1000000000) + (double)(ns % 1000000000) / 1e9, arena));
}

/* Go's RFC3339Nano: no zeros at the end of the fraction. */
const char *timestamp_text(int64_t s, int32_t ns, struct kp_arena *arena)
{
    char out[KP_RFC3339_MAX], fraction[16] = "";
    kp_format_rfc3339(out, s, 0, false);
    if (ns > 0) {
        snprintf(fraction, sizeof(fraction), ".%09d", ns);
        for (size_t len = strlen(fraction); fraction[len - 1] == '0'; len--)
            fraction[len - 1] = '\0';
    }
    return kp_arena_printf(arena, "%.*s%sZ", (int)strlen(out) - 1, out, fraction);
}

/* ---- time zones --------------------------------------------------------------------------------------------------------------------------------------- */
/* "+01:30", "-08:00", "02:00" */
static bool parse_offset(const char *s, int64_t *ret_s)
{
    bool negative = *s == '-';
    s += *s == '-' || *s == '+';
    if (strlen(s) != 5 || s[2] != ':' || !isdigit((unsigned char)s[0]) || !isdigit((unsigned char)s[1]) || !isdigit((unsigned char)s[3]) ||
        !isdigit((unsigned char)s[4]))
        return false;
    int64_t offset = ((s[0] - '0') * 10 + s[1] - '0') * 3600 + ((s[3] - '0') * 10 + s[4] - '0') * 60;
    *ret_s = negative ? -offset : offset;
    return true;
}

static bool zone_offset(struct cel_eval *e, const struct cel_value *name, int64_t at_s, int64_t *ret_s)
{
    char text[TIME_TEXT_MAX];
    struct kp_error error = {0};
    KP_AUTO(cron_zone_free) struct cron_zone *zone = NULL;
    if (name->text.len >= sizeof(text))
        return false;
    memcpy(text, name->text.data, name->text.len);
    text[name->text.len] = '\0';
    *ret_s = 0;
    if (!*text || strcmp(text, "UTC") == 0 || parse_offset(text, ret_s))
        return true;
    if (strchr(text, ':') || strlen(text) != name->text.len || !cel_work(e, ZONE_WORK) || cron_zone_open(text, &zone, &error) < 0)
        return false;
    *ret_s = cron_zone_offset_s(zone, at_s);
    return true;
}

/* The fields of a timestamp, in the zone that the second argument names. */
static bool broken_down(struct cel_eval *e, const struct cel_value *args, bool zoned, struct tm *ret, struct cel_value *ret_error)
{
    int64_t offset = 0;
    if (zoned && !zone_offset(e, &args[1], args[0].integer, &offset)) {
        *ret_error = cel_fail(e, "unknown time zone %.*s", (int)KP_MIN(args[1].text.len, (size_t)TIME_TEXT_MAX), args[1].text.data);
        return false;
    }
    time_t at = (time_t)(args[0].integer + offset);
    return gmtime_r(&at, ret) != NULL;
}

#define PART(name, expression)                                                                              \
    static struct cel_value name##_of(struct cel_eval *e, const struct cel_value *args, bool zoned)         \
    {                                                                                                       \
        struct tm tm;                                                                                       \
        struct cel_value error = {.kind = CEL_ERROR, .error = "timestamp overflow"};                        \
        return broken_down(e, args, zoned, &tm, &error) ? cel_of_int(expression) : error;                   \
    }                                                                                                       \
    FN(name)                                                                                                \
    {                                                                                                       \
        return name##_of(e, args, false);                                                                   \
    }                                                                                                       \
    FN(name##_in)                                                                                           \
    {                                                                                                       \
        return name##_of(e, args, true);                                                                    \
    }
PART(full_year, tm.tm_year + 1900)
PART(month, tm.tm_mon)
PART(day_of_year, tm.tm_yday)
PART(day_of_month, tm.tm_mday - 1)
PART(date, tm.tm_mday)
PART(day_of_week, tm.tm_wday)
PART(hours, tm.tm_hour)
PART(minutes, tm.tm_min)
PART(seconds, tm.tm_sec)
PART(milliseconds, args[0].nanos / 1000000)

FN(duration_hours)
{
    return cel_of_int(args[0].integer / 3600000000000);
}

FN(duration_minutes)
{
    return cel_of_int(args[0].integer / 60000000000);
}

FN(duration_seconds)
{
    return cel_of_int(args[0].integer / 1000000000);
}

FN(duration_milliseconds)
{
    return cel_of_int(args[0].integer / 1000000);
}

#define GETTER(name, id, function)                                                       \
    OVERLOAD(name, "timestamp_to_" id, true, function, NULL, cel_int, &cel_timestamp), \
    OVERLOAD(name, "timestamp_to_" id "_with_tz", true, function##_in, NULL, cel_int, &cel_timestamp, &cel_string)
static const struct cel_overload overloads[] = {
    GETTER("getFullYear", "year", full_year),
    GETTER("getMonth", "month", month),
    GETTER("getDayOfYear", "day_of_year", day_of_year),
    GETTER("getDayOfMonth", "day_of_month", day_of_month),
    GETTER("getDate", "day_of_month_1_based", date),
    GETTER("getDayOfWeek", "day_of_week", day_of_week),
    GETTER("getHours", "hours", hours),
    OVERLOAD("getHours", "duration_to_hours", true, duration_hours, NULL, cel_int, &cel_duration),
    GETTER("getMinutes", "minutes", minutes),
    OVERLOAD("getMinutes", "duration_to_minutes", true, duration_minutes, NULL, cel_int, &cel_duration),
    GETTER("getSeconds", "seconds", seconds),
    OVERLOAD("getSeconds", "duration_to_seconds", true, duration_seconds, NULL, cel_int, &cel_duration),
    GETTER("getMilliseconds", "milliseconds", milliseconds),
    OVERLOAD("getMilliseconds", "duration_to_milliseconds", true, duration_milliseconds, NULL, cel_int, &cel_duration),
};
const struct cel_library library_times = {overloads, KP_ARRAY_LEN(overloads)};
