/* When a schedule comes next: days, then hours, then minutes that do not fit are stepped over, as robfig/cron does. */
#include "lib/cron/cron.h"

#include <time.h>

#define YEARS_MAX 5
#define DAY_S 86400
#define HOUR_S 3600

static void local(const struct cron_zone *zone, int64_t at_s, struct tm *ret)
{
    time_t shifted = (time_t)(at_s + cron_zone_offset_s(zone, at_s));
    gmtime_r(&shifted, ret);
}

static bool has(uint64_t bits, int value)
{
    return bits >> value & 1;
}

static bool day_fits(const struct cron_schedule *s, const struct tm *at)
{
    bool day = has(s->days, at->tm_mday), weekday = has(s->weekdays, at->tm_wday);
    if (!has(s->months, at->tm_mon + 1))
        return false;
    return s->any_day || s->any_weekday ? day && weekday : day || weekday;
}

/* The first moment of the day after: midnight, or what the clock shows instead where it leaves midnight out. */
static int64_t next_day(const struct cron_zone *zone, int64_t at_s, const struct tm *at)
{
    struct tm then, before;
    int64_t next_s = at_s + DAY_S - (at->tm_hour * HOUR_S + at->tm_min * 60);
    local(zone, next_s, &then);
    int into_s = then.tm_hour * HOUR_S + then.tm_min * 60;
    if (into_s == 0)
        return next_s;
    if (then.tm_hour > 12) /* the day was longer: not there yet */
        return next_s + DAY_S - into_s;
    local(zone, next_s - into_s, &before);
    return before.tm_mday == then.tm_mday && next_s - into_s > at_s ? next_s - into_s : next_s; /* it was shorter */
}

int64_t cron_next_s(const struct cron_schedule *s, const struct cron_zone *zone, int64_t after_s)
{
    struct tm at;
    if (s->every_s)
        return after_s + s->every_s;
    local(zone, after_s, &at);
    int last_year = at.tm_year + YEARS_MAX;
    int64_t at_s = after_s + 60 - at.tm_sec;
    for (;;) {
        local(zone, at_s, &at);
        if (at.tm_year > last_year)
            return 0;
        if (!day_fits(s, &at))
            at_s = next_day(zone, at_s, &at);
        else if (!has(s->hours, at.tm_hour))
            at_s += HOUR_S - at.tm_min * 60;
        else if (!has(s->minutes, at.tm_min))
            at_s += 60;
        else
            return at_s;
    }
}

/* A span before now that has a time in it; looked for in ever longer ones, so that years without anybody looking cost nothing. */
static int64_t some_time_s(const struct cron_schedule *s, const struct cron_zone *zone, int64_t first_s, int64_t now_s)
{
    for (int64_t span_s = 60; now_s - span_s > first_s; span_s *= 2) {
        int64_t at_s = cron_next_s(s, zone, now_s - span_s);
        if (at_s && at_s <= now_s)
            return at_s;
    }
    return first_s;
}

int64_t cron_last_s(const struct cron_schedule *s, const struct cron_zone *zone, int64_t after_s, int64_t now_s, int *ret_count)
{
    int64_t first_s = cron_next_s(s, zone, after_s), last_s = first_s;
    *ret_count = 0;
    for (int64_t at_s = first_s; at_s && at_s <= now_s && *ret_count < CRON_COUNT_MAX; at_s = cron_next_s(s, zone, at_s)) {
        last_s = at_s;
        ++*ret_count;
    }
    if (*ret_count == 0)
        return 0;
    if (*ret_count < CRON_COUNT_MAX)
        return last_s;
    if (s->every_s)
        return first_s + (now_s - first_s) / s->every_s * s->every_s;
    last_s = some_time_s(s, zone, last_s, now_s);
    for (int64_t at_s = last_s; at_s && at_s <= now_s; at_s = cron_next_s(s, zone, at_s))
        last_s = at_s;
    return last_s;
}
