/* Time zones from TZif files (RFC 8536): the transitions of the 64-bit block. */
#include "lib/cron/cron.h"

#include <ctype.h>

#define FOLDER "/usr/share/zoneinfo/"
#define HEADER_BYTES 44
#define FILE_BYTES_MAX ((size_t)1 << 20)
#define NAME_MAX_BYTES 128
#define OFFSET_S_MAX 93599 /* RFC 8536: less than 26 hours */

struct cron_zone {
    size_t n;
    int64_t *at_s;
    int32_t *offset_s; /* from at_s[i] on; offset_s[n] before the first */
};

struct header {
    char version;
    size_t ut, std, leap, times, types, chars;
};

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static int64_t be64(const uint8_t *p)
{
    return (int64_t)((uint64_t)be32(p) << 32 | be32(p + 4));
}

static bool read_header(const uint8_t *p, size_t len, struct header *ret)
{
    if (len < HEADER_BYTES || memcmp(p, "TZif", 4) != 0)
        return false;
    *ret = (struct header){.version = (char)p[4], .ut = be32(p + 20), .std = be32(p + 24), .leap = be32(p + 28),
                           .times = be32(p + 32), .types = be32(p + 36), .chars = be32(p + 40)};
    return ret->ut <= FILE_BYTES_MAX && ret->std <= FILE_BYTES_MAX && ret->leap <= FILE_BYTES_MAX && ret->times <= FILE_BYTES_MAX &&
           ret->types >= 1 && ret->types <= 256 && ret->chars <= FILE_BYTES_MAX;
}

static size_t body_bytes(const struct header *h, size_t time_bytes)
{
    return h->times * time_bytes + h->times + h->types * 6 + h->chars + h->leap * (time_bytes + 4) + h->std + h->ut;
}

int cron_zone_parse(const void *data, size_t len, struct cron_zone **ret, struct kp_error *error)
{
    const uint8_t *p = data;
    struct header first, h;
    if (!read_header(p, len, &first) || first.version < '2' || body_bytes(&first, 4) > len - HEADER_BYTES)
        return kp_fail(error, KP_ECORRUPT, "no TZif file of version 2 or later");
    size_t skip = HEADER_BYTES + body_bytes(&first, 4);
    p += skip;
    len -= skip;
    if (!read_header(p, len, &h) || body_bytes(&h, 8) > len - HEADER_BYTES)
        return kp_fail(error, KP_ECORRUPT, "the TZif file ends early");
    const uint8_t *times = p + HEADER_BYTES, *which = times + h.times * 8, *types = which + h.times;
    KP_AUTO(cron_zone_free) struct cron_zone *zone = kp_calloc(1, sizeof(*zone));
    zone->n = h.times;
    zone->at_s = kp_calloc(h.times + 1, sizeof(*zone->at_s));
    zone->offset_s = kp_calloc(h.times + 1, sizeof(*zone->offset_s));
    zone->offset_s[h.times] = (int32_t)be32(types);
    for (size_t i = 0; i < h.times; i++) {
        if (which[i] >= h.types || (i && be64(times + i * 8) <= zone->at_s[i - 1]))
            return kp_fail(error, KP_ECORRUPT, "transition %zu of the TZif file is none", i);
        zone->at_s[i] = be64(times + i * 8);
        zone->offset_s[i] = (int32_t)be32(types + which[i] * 6);
    }
    for (size_t i = 0; i <= h.times; i++)
        if (zone->offset_s[i] < -OFFSET_S_MAX || zone->offset_s[i] > OFFSET_S_MAX)
            return kp_fail(error, KP_ECORRUPT, "an offset of the TZif file is %d s", zone->offset_s[i]);
    *ret = KP_TAKE(zone);
    return 0;
}

/* "America/Argentina/Buenos_Aires", "Etc/GMT+3": never a way out of the folder. */
static bool is_name(const char *name)
{
    if (strlen(name) > NAME_MAX_BYTES || !isalpha((unsigned char)*name))
        return false;
    for (const char *c = name; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("/_+-", *c))
            return false;
    return !strstr(name, "//") && name[strlen(name) - 1] != '/';
}

int cron_zone_open(const char *name, struct cron_zone **ret, struct kp_error *error)
{
    char path[sizeof(FOLDER) + NAME_MAX_BYTES];
    KP_AUTO_BUF struct kp_buf file = {0};
    struct kp_error why = {0};
    if (kp_empty(name) || kp_streq(name, "UTC")) {
        *ret = kp_calloc(1, sizeof(**ret));
        (*ret)->at_s = kp_calloc(1, sizeof(*(*ret)->at_s));
        (*ret)->offset_s = kp_calloc(1, sizeof(*(*ret)->offset_s));
        return 0;
    }
    if (!is_name(name))
        return kp_fail(error, KP_ENOTFOUND, "unknown time zone %s", name);
    snprintf(path, sizeof(path), FOLDER "%s", name);
    if (kp_read_file(path, FILE_BYTES_MAX, &file, &why) < 0)
        return kp_fail(error, KP_ENOTFOUND, "unknown time zone %s", name);
    int r = cron_zone_parse(file.data, file.len, ret, error);
    return r < 0 ? kp_wrap(error, "time zone %s", name) : 0;
}

void cron_zone_free(struct cron_zone *zone)
{
    if (!zone)
        return;
    free(zone->at_s);
    free(zone->offset_s);
    free(zone);
}

int32_t cron_zone_offset_s(const struct cron_zone *zone, int64_t at_s)
{
    if (!zone)
        return 0;
    size_t low = 0, high = zone->n; /* the last transition that is not after at_s lies before low */
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (zone->at_s[mid] <= at_s)
            low = mid + 1;
        else
            high = mid;
    }
    return zone->offset_s[low ? low - 1 : zone->n];
}
