/* The language of schedules: five fields of numbers, names, ranges, lists and steps, or a word. */
#include "lib/cron/cron.h"

#include <ctype.h>
#include <strings.h>

#define FIELDS 5
#define WORD_MAX 128

struct field {
    int min, max;
    const char *const *names; /* from min on; NULL: none */
};
static const char *const month_names[] = {"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec", NULL};
static const char *const weekday_names[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat", NULL};
static const struct field fields[FIELDS] = {{0, 59, NULL}, {0, 23, NULL}, {1, 31, NULL}, {1, 12, month_names}, {0, 6, weekday_names}};

static int parse_number(const char *text, const struct field *field, int *ret, struct kp_error *error)
{
    int64_t value;
    for (int i = 0; field && field->names && field->names[i]; i++)
        if (strcasecmp(text, field->names[i]) == 0) {
            *ret = field->min + i;
            return 0;
        }
    if (!isdigit((unsigned char)*text) || kp_parse_i64(text, &value) < 0 || value > INT32_MAX)
        return kp_fail(error, KP_EINVALID, "failed to parse int from %s", text);
    *ret = (int)value;
    return 0;
}

/* "*", "5", "1-5", "mon-fri", each with a step behind a slash. */
static int parse_range(const char *range, const struct field *field, uint64_t *bits, bool *any, struct kp_error *error)
{
    char word[WORD_MAX];
    int low = field->min, high = field->max, step = 1;
    if (strlen(range) >= sizeof(word))
        return kp_fail(error, KP_EINVALID, "too long: %.32s...", range);
    memcpy(word, range, strlen(range) + 1);
    char *slash = strchr(word, '/');
    if (slash)
        *slash++ = '\0';
    if (slash && strchr(slash, '/'))
        return kp_fail(error, KP_EINVALID, "too many slashes: %s", range);
    bool star = strcmp(word, "*") == 0 || strcmp(word, "?") == 0;
    if (!star) {
        char *hyphen = strchr(word, '-');
        if (hyphen)
            *hyphen++ = '\0';
        if (hyphen && strchr(hyphen, '-'))
            return kp_fail(error, KP_EINVALID, "too many hyphens: %s", range);
        if (parse_number(word, field, &low, error) < 0 || (hyphen && parse_number(hyphen, field, &high, error) < 0))
            return KP_EINVALID;
        if (!hyphen && !slash)
            high = low;
    }
    if (slash && parse_number(slash, NULL, &step, error) < 0)
        return KP_EINVALID;
    if (low < field->min)
        return kp_fail(error, KP_EINVALID, "beginning of range (%d) below minimum (%d): %s", low, field->min, range);
    if (high > field->max)
        return kp_fail(error, KP_EINVALID, "end of range (%d) above maximum (%d): %s", high, field->max, range);
    if (low > high)
        return kp_fail(error, KP_EINVALID, "beginning of range (%d) beyond end of range (%d): %s", low, high, range);
    if (step == 0)
        return kp_fail(error, KP_EINVALID, "step of range should be a positive number: %s", range);
    for (int i = low; i <= high; i += KP_MIN(step, high - low + 1))
        *bits |= UINT64_C(1) << i;
    *any |= star && step == 1;
    return 0;
}

static int parse_field(char *text, const struct field *field, uint64_t *bits, bool *any, struct kp_error *error)
{
    char *rest = NULL;
    for (char *range = strtok_r(text, ",", &rest); range; range = strtok_r(NULL, ",", &rest))
        if (parse_range(range, field, bits, any, error) < 0)
            return KP_EINVALID;
    return 0;
}

static int parse_descriptor(const char *text, struct cron_schedule *ret, struct kp_error *error)
{
    static const char *const words[][2] = {{"@yearly", "0 0 1 1 *"}, {"@annually", "0 0 1 1 *"}, {"@monthly", "0 0 1 * *"}, {"@weekly", "0 0 * * 0"},
                                           {"@daily", "0 0 * * *"},  {"@midnight", "0 0 * * *"}, {"@hourly", "0 * * * *"}};
    static const char every[] = "@every ";
    int64_t ns;
    for (size_t i = 0; i < KP_ARRAY_LEN(words); i++)
        if (kp_streq(text, words[i][0]))
            return cron_parse(words[i][1], ret, error);
    if (!kp_starts_with(text, every))
        return kp_fail(error, KP_EINVALID, "unrecognized descriptor: %s", text);
    if (kp_parse_duration_ns(text + strlen(every), &ns) < 0)
        return kp_fail(error, KP_EINVALID, "failed to parse duration %s", text);
    ret->every_s = KP_MAX(ns / 1000000000, (int64_t)1);
    return 0;
}

int cron_parse(const char *text, struct cron_schedule *ret, struct kp_error *error)
{
    KP_AUTO_FREE char *copy = kp_strdup(text);
    char *words[FIELDS + 1], *rest = NULL;
    size_t n = 0;
    bool ignored = false;
    *ret = (struct cron_schedule){0};
    if (kp_empty(text))
        return kp_fail(error, KP_EINVALID, "empty spec string");
    if (kp_starts_with(text, "TZ=") || kp_starts_with(text, "CRON_TZ="))
        return kp_fail(error, KP_EINVALID, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
    if (*text == '@')
        return parse_descriptor(text, ret, error);
    for (char *word = strtok_r(copy, " \t\n\v\f\r", &rest); word; word = strtok_r(NULL, " \t\n\v\f\r", &rest)) {
        if (n < KP_ARRAY_LEN(words))
            words[n] = word;
        n++;
    }
    if (n != FIELDS)
        return kp_fail(error, KP_EINVALID, "expected exactly 5 fields, found %zu: [%s]", n, text);
    struct {
        uint64_t *bits;
        bool *any;
    } into[FIELDS] = {{&ret->minutes, &ignored}, {&ret->hours, &ignored}, {&ret->days, &ret->any_day}, {&ret->months, &ignored}, {&ret->weekdays, &ret->any_weekday}};
    for (size_t i = 0; i < FIELDS; i++)
        if (parse_field(words[i], &fields[i], into[i].bits, into[i].any, error) < 0)
            return KP_EINVALID;
    return 0;
}
