/* lib/cron: schedules of CronJobs, as the API server checks them and the controller keeps them. The language is that of
 * robfig/cron's standard parser, which upstream uses: five fields (minute, hour, day of the month, month, day of the week)
 * or a descriptor (@hourly, @every 1h30m). */
#ifndef KP_CRON_H
#define KP_CRON_H

#include <stdbool.h>

#include "lib/base/base.h"

struct cron_schedule {
    uint64_t minutes, hours, days, months, weekdays; /* a bit a value; days and months from 1, Sunday is 0 */
    bool any_day, any_weekday; /* a star without a step: the other field alone decides, otherwise either does */
    int64_t every_s;           /* of @every; the fields do not count then. 0: none */
};
/* KP_EINVALID with the parser's own words: "end of range (61) above maximum (59): 61". */
int cron_parse(const char *text, struct cron_schedule *ret, struct kp_error *error) KP_NODISCARD;

/* When the clocks of a place are off from UTC. */
struct cron_zone;
/* name: of the IANA's, "Europe/Berlin"; NULL or "": UTC. Read from the system's files (TZif, RFC 8536), whose transitions count; after the
   last of them (Debian lists them until 2037) the offset stays. KP_ENOTFOUND when there is none of that name. */
int cron_zone_open(const char *name, struct cron_zone **ret, struct kp_error *error) KP_NODISCARD;
/* The same from the bytes of such a file. KP_ECORRUPT. */
int cron_zone_parse(const void *data, size_t len, struct cron_zone **ret, struct kp_error *error) KP_NODISCARD;
void cron_zone_free(struct cron_zone *zone); /* accepts NULL */
KP_DEFINE_AUTO(struct cron_zone *, cron_zone_free)
int32_t cron_zone_offset_s(const struct cron_zone *zone, int64_t at_s); /* east of UTC; zone NULL: 0 */

/* The first time of the schedule after that one, in seconds since 1970; 0 when there is none in the next five years. What the
   clock leaves out in spring is left out; an hour that comes twice comes twice. zone NULL: UTC. */
int64_t cron_next_s(const struct cron_schedule *schedule, const struct cron_zone *zone, int64_t after_s);

#define CRON_COUNT_MAX 101
/* The last time of the schedule that is after after_s and not after now_s, 0 when there is none. *ret_count: how many there are, at most
   CRON_COUNT_MAX. */
int64_t cron_last_s(const struct cron_schedule *schedule, const struct cron_zone *zone, int64_t after_s, int64_t now_s, int *ret_count);

#endif
