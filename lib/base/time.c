/* Clocks, and RFC 3339 times as Kubernetes writes them. */
#include "lib/base/base.h"

#include <errno.h>
#include <time.h>

#define NS_PER_S 1000000000LL
#define S_PER_DAY 86400LL

static int64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

int64_t kp_now_ns(void)
{
    return clock_ns(CLOCK_REALTIME);
}

int64_t kp_now_s(void)
{
    return kp_now_ns() / NS_PER_S;
}

int64_t kp_mono_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

int64_t kp_mono_ms(void)
{
    return kp_mono_ns() / 1000000;
}

void kp_sleep_ms(int64_t ms)
{
    struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        ;
}

int64_t kp_rest_ms(int64_t took_ms, int64_t min_ms, int64_t max_ms)
{
    return KP_MAX(min_ms, KP_MIN(took_ms * 8, max_ms));
}

void kp_rest(int64_t *began_ms, int64_t min_ms, int64_t max_ms)
{
    kp_sleep_ms(kp_rest_ms(kp_mono_ms() - *began_ms, min_ms, max_ms));
    *began_ms = kp_mono_ms();
}

/* Days since 1970-01-01 in the proleptic Gregorian calendar. Years start in March here, so that the leap day is last. */
static int64_t days_from_civil(int64_t year, unsigned month, unsigned day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t year_of_era = year - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

void kp_format_rfc3339(char out[KP_RFC3339_MAX], int64_t seconds, int32_t nanos, bool micro)
{
    time_t when = (time_t)seconds;
    struct tm tm;
    if (!gmtime_r(&when, &tm))
        memset(&tm, 0, sizeof(tm));
    char year[16]; /* strftime does not pad years before 1000 */
    snprintf(year, sizeof(year), "%04d", tm.tm_year + 1900);
    size_t len = (size_t)snprintf(out, KP_RFC3339_MAX, "%s", year);
    len += strftime(out + len, KP_RFC3339_MAX - len, "-%m-%dT%H:%M:%S", &tm);
    if (micro)
        len += (size_t)snprintf(out + len, KP_RFC3339_MAX - len, ".%06u", (unsigned)nanos / 1000 % 1000000);
    snprintf(out + len, KP_RFC3339_MAX - len, "Z");
}

/* Reads exactly `count` digits at *s and moves past them. */
static bool read_digits(const char **s, int count, unsigned *ret_value)
{
    unsigned value = 0;
    for (int i = 0; i < count; i++, (*s)++) {
        if (**s < '0' || **s > '9')
            return false;
        value = value * 10 + (unsigned)(**s - '0');
    }
    *ret_value = value;
    return true;
}

static bool read_char(const char **s, char c)
{
    if (**s != c)
        return false;
    (*s)++;
    return true;
}

static unsigned month_days(unsigned year, unsigned month)
{
    static const unsigned char days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return days[month - 1] + (month == 2 && leap ? 1u : 0u);
}

static bool read_fraction(const char **s, int32_t *ret_nanos)
{
    int32_t nanos = 0, scale = 100000000;
    const char *start = *s;
    for (; **s >= '0' && **s <= '9'; (*s)++, scale /= 10)
        nanos += (**s - '0') * scale;
    *ret_nanos = nanos;
    return *s > start;
}

static bool read_offset(const char **s, int64_t *ret_offset_s)
{
    *ret_offset_s = 0;
    if (read_char(s, 'Z'))
        return true;
    int64_t sign = **s == '-' ? -1 : 1;
    if (**s != '-' && **s != '+')
        return false;
    (*s)++;
    unsigned hours, minutes;
    if (!read_digits(s, 2, &hours) || !read_char(s, ':') || !read_digits(s, 2, &minutes) || hours > 24 || minutes > 59)
        return false;
    *ret_offset_s = sign * (hours * 3600LL + minutes * 60LL);
    return true;
}

int kp_parse_rfc3339(const char *s, int64_t *ret_seconds, int32_t *ret_nanos)
{
    unsigned year, month, day, hour, minute, second;
    int32_t nanos = 0;
    int64_t offset_s;
    if (!s || !read_digits(&s, 4, &year) || !read_char(&s, '-') || !read_digits(&s, 2, &month) || !read_char(&s, '-') ||
        !read_digits(&s, 2, &day) || !read_char(&s, 'T') || !read_digits(&s, 2, &hour) || !read_char(&s, ':') ||
        !read_digits(&s, 2, &minute) || !read_char(&s, ':') || !read_digits(&s, 2, &second))
        return KP_EBADREQUEST;
    if (month < 1 || month > 12 || day < 1 || day > month_days(year, month) || hour > 23 || minute > 59 || second > 59)
        return KP_EBADREQUEST;
    if (read_char(&s, '.') && !read_fraction(&s, &nanos))
        return KP_EBADREQUEST;
    if (!read_offset(&s, &offset_s) || *s)
        return KP_EBADREQUEST;
    *ret_seconds = days_from_civil(year, month, day) * S_PER_DAY + hour * 3600LL + minute * 60LL + second - offset_s;
    if (ret_nanos)
        *ret_nanos = nanos;
    return 0;
}
