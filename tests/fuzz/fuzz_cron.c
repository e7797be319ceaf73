/* A schedule and a time zone's file, behind one another: refused, or what comes next comes later and fits. */
#include "lib/cron/cron.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = memchr(data, '\n', size);
    size_t len = end ? (size_t)(end - data) : size;
    KP_AUTO_FREE char *text = kp_strndup((const char *)data, len);
    KP_AUTO(cron_zone_free) struct cron_zone *zone = NULL;
    struct cron_schedule schedule;
    int64_t at_s = 1795000000;
    if (end && cron_zone_parse(end + 1, size - len - 1, &zone, NULL) < 0)
        return 0;
    if (cron_parse(text, &schedule, NULL) < 0)
        return 0;
    for (int i = 0; i < 3 && at_s; i++) {
        int64_t next_s = cron_next_s(&schedule, zone, at_s);
        KP_ASSERT(next_s == 0 || next_s > at_s);
        at_s = next_s;
    }
    return 0;
}
