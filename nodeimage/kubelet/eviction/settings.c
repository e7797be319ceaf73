/* Eviction thresholds as a KubeletConfiguration writes them. */
#include "nodeimage/kubelet/eviction/eviction.h"

#include <math.h>

static const struct {
    const char *name, *default_hard;
} signals[EVICTION_SIGNALS] = {
    [EVICTION_MEMORY] = {"memory.available", "100Mi"},        [EVICTION_NODEFS] = {"nodefs.available", "10%"},
    [EVICTION_NODEFS_INODES] = {"nodefs.inodesFree", "5%"},   [EVICTION_IMAGEFS] = {"imagefs.available", "15%"},
    [EVICTION_IMAGEFS_INODES] = {"imagefs.inodesFree", "5%"}, [EVICTION_PIDS] = {"pid.available", NULL},
};

const char *eviction_signal_name(enum eviction_signal signal)
{
    return signals[signal].name;
}

static int find_signal(const char *field, const char *name, enum eviction_signal *ret, struct kp_error *error)
{
    for (int i = 0; i < EVICTION_SIGNALS; i++)
        if (kp_streq(name, signals[i].name)) {
            *ret = (enum eviction_signal)i;
            return 0;
        }
    return kp_fail(error, KP_EINVALID, "%s: unsupported eviction signal %s; there are memory.available, nodefs.available, nodefs.inodesFree, imagefs.available, "
                   "imagefs.inodesFree and pid.available", field, name);
}

/* "10%" or "500Mi". */
static int parse_amount(const char *field, const char *name, const char *text, struct eviction_amount *ret, struct kp_error *error)
{
    size_t len = strlen(text);
    char *end;
    *ret = (struct eviction_amount){0};
    if (len > 1 && text[len - 1] == '%') {
        double percent = strtod(text, &end);
        if (end != text + len - 1 || !isfinite(percent) || percent < 0 || percent > 100)
            return kp_fail(error, KP_EINVALID, "%s: %s: %s is no share from 0%% to 100%%", field, name, text);
        ret->is_share = true;
        ret->share = percent / 100;
        return 0;
    }
    if (!kp_quantity_valid(text) || kp_quantity_str_cmp(text, "0") < 0)
        return kp_fail(error, KP_EINVALID, "%s: %s: %s is neither an amount nor a share; write 100Mi or 10%%", field, name, text);
    ret->value = kp_quantity_str_value(text);
    return 0;
}

static int add_threshold(const char *field, const char *name, const char *text, bool hard, struct eviction_settings *ret, struct kp_error *error)
{
    struct eviction_threshold threshold = {.hard = hard};
    if (find_signal(field, name, &threshold.signal, error) < 0 || parse_amount(field, name, text, &threshold.least, error) < 0)
        return error->code;
    if (threshold.least.is_share && (threshold.least.share <= 0 || threshold.least.share >= 1))
        return 0; /* as upstream: 0% and 100% turn a threshold off */
    if (!threshold.least.is_share && threshold.least.value == 0)
        return kp_fail(error, KP_EINVALID, "%s: %s: a threshold must be positive: %s; 0%% turns it off", field, name, text);
    ret->items[ret->len++] = threshold;
    return 0;
}

static int add_grace(const struct kp_string_map *graces, struct eviction_threshold *threshold, struct kp_error *error)
{
    int64_t ns;
    const char *name = eviction_signal_name(threshold->signal), *text = kp_string_map_get(graces, name);
    if (!text)
        return kp_fail(error, KP_EINVALID, "evictionSoft: grace period must be specified for the soft eviction threshold %s, in evictionSoftGracePeriod", name);
    if (kp_parse_duration_ns(text, &ns) < 0 || ns < 0)
        return kp_fail(error, KP_EINVALID, "evictionSoftGracePeriod: %s: %s is no duration; write 1m30s", name, text);
    threshold->grace_s = ns / 1000000000;
    return 0;
}

static int add_reclaims(const struct kp_string_map *reclaims, struct eviction_settings *settings, struct kp_error *error)
{
    for (size_t i = 0; i < reclaims->len; i++) {
        enum eviction_signal signal = EVICTION_SIGNALS;
        struct eviction_amount amount;
        const char *field = "evictionMinimumReclaim", *name = reclaims->items[i].key;
        if (find_signal(field, name, &signal, error) < 0 || parse_amount(field, name, reclaims->items[i].value, &amount, error) < 0)
            return error->code;
        for (size_t k = 0; k < settings->len; k++)
            if (settings->items[k].signal == signal)
                settings->items[k].reclaim = amount;
    }
    return 0;
}

int eviction_settings_parse(const struct kp_string_map *hard, bool merge, const struct kp_string_map *soft, const struct kp_string_map *soft_grace,
                            const struct kp_string_map *reclaim, struct eviction_settings *ret, struct kp_error *error)
{
    ret->len = 0;
    for (size_t i = 0; hard && i < hard->len; i++)
        if (add_threshold("evictionHard", hard->items[i].key, hard->items[i].value, true, ret, error) < 0)
            return error->code;
    for (int s = 0; s < EVICTION_SIGNALS; s++)
        if (signals[s].default_hard && (!hard || (merge && !kp_string_map_get(hard, signals[s].name))) &&
            add_threshold("evictionHard", signals[s].name, signals[s].default_hard, true, ret, error) < 0)
            return error->code;
    for (size_t i = 0; i < soft->len; i++) {
        size_t before = ret->len;
        if (add_threshold("evictionSoft", soft->items[i].key, soft->items[i].value, false, ret, error) < 0 ||
            (ret->len > before && add_grace(soft_grace, &ret->items[before], error) < 0))
            return error->code;
    }
    return add_reclaims(reclaim, ret, error);
}

int64_t eviction_amount_of(const struct eviction_amount *amount, int64_t capacity)
{
    return amount->is_share ? (int64_t)((double)capacity * amount->share) : amount->value;
}

int64_t eviction_reserved(const struct eviction_settings *settings, enum eviction_signal signal, int64_t capacity)
{
    for (size_t i = 0; i < settings->len; i++)
        if (settings->items[i].hard && settings->items[i].signal == signal)
            return eviction_amount_of(&settings->items[i].least, capacity);
    return 0;
}
