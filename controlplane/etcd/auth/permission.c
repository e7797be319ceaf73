/* Permissions on ranges of keys: merged into intervals that are apart, and asked whether they cover a request. */
#include "controlplane/etcd/auth/auth_internal.h"

static int compare(struct kp_bytes a, struct kp_bytes b)
{
    size_t len = KP_MIN(a.len, b.len);
    int order = len ? memcmp(a.data, b.data, len) : 0;
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

static bool is_open(struct kp_bytes range_end) { return range_end.len == 1 && range_end.data[0] == 0; }

struct kp_bytes bytes_copy(struct kp_bytes bytes)
{
    uint8_t *data = kp_malloc(bytes.len + 1); /* one more: a copy may be of nothing */
    if (bytes.len)
        memcpy(data, bytes.data, bytes.len);
    data[bytes.len] = 0;
    return (struct kp_bytes){data, bytes.len};
}

bool permission_is_valid(struct kp_bytes key, struct kp_bytes range_end)
{
    if (key.len == 0)
        return false;
    return range_end.len == 0 || is_open(range_end) || compare(key, range_end) < 0;
}

void permission_set_add(struct permission_set *set, struct kp_bytes key, struct kp_bytes range_end)
{
    if ((set->len & (set->len - 1)) == 0) /* full at powers of two */
        set->items = kp_realloc(set->items, (set->len ? set->len * 2 : 1) * sizeof *set->items);
    struct interval *item = &set->items[set->len++];
    *item = (struct interval){.begin = bytes_copy(key), .open = is_open(range_end)};
    /* One key is the interval up to the next one there can be. */
    item->end = bytes_copy(range_end.len ? range_end : key);
    if (range_end.len == 0)
        item->end.len++; /* the NUL that every copy has behind it */
}

static int order_intervals(const void *a, const void *b)
{
    return compare(((const struct interval *)a)->begin, ((const struct interval *)b)->begin);
}

static void interval_done(struct interval *interval)
{
    free((void *)(uintptr_t)interval->begin.data);
    free((void *)(uintptr_t)interval->end.data);
}

static void extend(struct interval *into, struct interval *from)
{
    bool longer = !into->open && (from->open || compare(from->end, into->end) > 0);
    if (longer) {
        struct kp_bytes end = into->end;
        into->end = from->end;
        into->open = from->open;
        from->end = end;
    }
    interval_done(from);
}

void permission_set_merge(struct permission_set *set)
{
    if (set->len == 0)
        return;
    qsort(set->items, set->len, sizeof *set->items, order_intervals);
    size_t last = 0;
    for (size_t i = 1; i < set->len; i++) {
        struct interval *current = &set->items[last];
        if (current->open || compare(set->items[i].begin, current->end) <= 0)
            extend(current, &set->items[i]);
        else
            set->items[++last] = set->items[i];
    }
    set->len = last + 1;
}

/* The last interval that begins at or before the key, or NULL. */
static const struct interval *last_from(const struct permission_set *set, struct kp_bytes key)
{
    size_t low = 0, high = set->len;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare(set->items[middle].begin, key) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low ? &set->items[low - 1] : NULL;
}

bool permission_set_covers(const struct permission_set *set, struct kp_bytes key, struct kp_bytes range_end)
{
    const struct interval *interval = last_from(set, key);
    if (!interval || !(interval->open || compare(key, interval->end) < 0))
        return false;
    if (range_end.len == 0)
        return true;
    if (is_open(range_end))
        return interval->open;
    if (compare(range_end, key) <= 0) /* an empty range: allowed where both its ends are */
        return compare(interval->begin, range_end) < 0;
    return interval->open || compare(range_end, interval->end) <= 0;
}

void permission_set_done(struct permission_set *set)
{
    for (size_t i = 0; i < set->len; i++)
        interval_done(&set->items[i]);
    free(set->items);
    *set = (struct permission_set){0};
}
