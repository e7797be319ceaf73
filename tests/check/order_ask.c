/* What can be asked of the order of writes. */
#include "order.h"

#include <string.h>

const struct change *order_at(const struct order *order, text_id key, int64_t revision)
{
    const struct timeline *timeline = &order->timelines[key];
    size_t low = 0, high = timeline->len;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (timeline->changes[middle]->rev <= revision)
            low = middle + 1;
        else
            high = middle;
    }
    return low ? timeline->changes[low - 1] : NULL;
}

const struct change *order_present(const struct order *order, text_id key, int64_t revision)
{
    const struct change *change = order_at(order, key, revision);
    return change && !change->del ? change : NULL;
}

size_t order_after(const struct order *order, int64_t revision)
{
    size_t low = 0, high = order->len;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (order->changes[middle]->rev <= revision)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* How many known revisions are at or below this one. */
static size_t known_upto(const struct order *order, int64_t revision)
{
    size_t low = 0, high = order->rev_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (order->revs[middle] <= revision)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int64_t order_gaps(const struct order *order, int64_t after, int64_t upto)
{
    if (upto <= after)
        return 0;
    return upto - after - (int64_t)(known_upto(order, upto) - known_upto(order, after));
}

static size_t keys_below(const struct order *order, text_id key)
{
    size_t low = 0, high = order->key_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (text_compare(order->keys[middle], key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void order_range(const struct order *order, text_id key, text_id end, size_t *ret_from, size_t *ret_to)
{
    size_t from = keys_below(order, key);
    if (!end)
        *ret_to = from < order->key_count && order->keys[from] == key ? from + 1 : from;
    else
        *ret_to = strcmp(text_of(end), "%00") == 0 ? order->key_count : keys_below(order, end);
    *ret_from = from < *ret_to ? from : *ret_to;
}

static bool relation(char result, int order)
{
    return result == '=' ? order == 0 : result == '!' ? order != 0 : result == '>' ? order > 0 : order < 0;
}

bool order_compares(const struct order *order, const struct check_op *txn, int64_t revision)
{
    for (uint32_t i = 0; i < txn->compare_count; i++) {
        const struct check_compare *compare = &txn->compares[i];
        const struct change *now = order_present(order, compare->key, revision);
        if (compare->target == 'V') {
            /* A key that is not there has no value that could even be different. */
            if (!now || !relation(compare->result, text_compare(now->value, compare->value)))
                return false;
            continue;
        }
        int64_t number = !now                     ? 0
                         : compare->target == 'v' ? now->version
                         : compare->target == 'c' ? now->create
                         : compare->target == 'm' ? now->rev
                                                  : now->lease;
        if (!relation(compare->result, number < compare->number ? -1 : number > compare->number))
            return false;
    }
    return true;
}
