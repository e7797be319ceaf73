/* check_durable: at the end every member holds what was acknowledged, with its revision, unless it was overwritten or
   deleted later; and all members hold the same.

   usage: check_durable HISTORY */
#include "order.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static struct order order;
static size_t dump_count, hash_count;

/* One member's state at the end: items[first .. last) are its keys. */
struct dump {
    const struct check_item *head;
    const struct check_item **kvs;
    size_t len, cap;
};

static bool deletes(const struct check_op *ops, uint32_t count, text_id key)
{
    for (uint32_t i = 0; i < count; i++)
        if ((ops[i].kind == OP_DEL && text_in_range(key, ops[i].key, ops[i].end)) ||
            deletes(ops[i].then, ops[i].then_count, key) || deletes(ops[i].otherwise, ops[i].otherwise_count, key))
            return true;
    return false;
}

/* Something that nobody saw may have deleted it: an expiry, or a delete without an answer. */
static bool may_be_gone(const struct change *change, int64_t revision)
{
    if (order_gaps(&order, change->rev, revision) == 0)
        return false;
    if (change->lease)
        return true;
    for (size_t i = 0; i < order.history->call_count; i++) {
        const struct check_call *call = &order.history->calls[i];
        if ((call->outcome == OUTCOME_OPEN || call->outcome == OUTCOME_UNKNOWN) && deletes(&call->op, 1, change->key))
            return true;
    }
    return false;
}

static void check_key(const struct dump *dump, const struct change *expected, const struct check_kv *got)
{
    uint32_t line = dump->head->line, member = dump->head->index;
    int64_t revision = dump->head->revision;
    if (expected && !got) {
        if (!may_be_gone(expected, revision))
            violation(line, "lost: %s = %s, written at revision %" PRId64 " by operation %" PRIu64 ", is not in member %u",
                      text_of(expected->key), text_of(expected->value), expected->rev,
                      expected->cause == CAUSE_CALL ? order.history->calls[expected->call].number : 0, member);
    } else if (!expected && got) {
        violation(line, "member %u holds %s = %s (%" PRId64 "), which was deleted or never written", member, text_of(got->key),
                  text_of(got->value), got->mod);
    } else if (got->mod < expected->rev) {
        violation(line, "lost: member %u holds %s of revision %" PRId64 ", the write at %" PRId64 " is gone", member,
                  text_of(got->key), got->mod, expected->rev);
    } else if (got->mod != expected->rev || got->value != expected->value || got->create != expected->create ||
               got->version != expected->version || got->lease != expected->lease) {
        violation(line, "member %u holds %s = %s (%" PRId64 "), expected %s (%" PRId64 ")", member, text_of(got->key),
                  text_of(got->value), got->mod, text_of(expected->value), expected->rev);
    }
}

static void check_dump(const struct dump *dump)
{
    const struct check_item *head = dump->head;
    if ((int64_t)dump->len != head->number)
        violation(head->line, "member %u lists %zu keys and counts %" PRId64, head->index, dump->len, head->number);
    size_t next = 0;
    for (size_t k = 0; k < order.key_count; k++) {
        const struct check_kv *got = NULL;
        if (next < dump->len && dump->kvs[next]->key == order.keys[k])
            got = dump->kvs[next++]->kv;
        const struct change *expected = order_present(&order, order.keys[k], head->revision);
        if (expected || got)
            check_key(dump, expected, got);
    }
    if (next < dump->len)
        violation(dump->kvs[next]->line, "member %u lists %s twice or out of order", head->index, text_of(dump->kvs[next]->key));
}

/* The end is not before what was acknowledged. */
static void check_reaches(const struct dump *dump)
{
    const struct check_history *history = order.history;
    const struct check_call *newest = NULL;
    for (size_t i = 0; i < history->call_count; i++)
        if (call_wrote(&history->calls[i]) && history->calls[i].return_line < dump->head->line &&
            (!newest || history->calls[i].revision > newest->revision))
            newest = &history->calls[i];
    if (newest && newest->revision > dump->head->revision)
        violation(dump->head->line, "member %u ends at revision %" PRId64 ", but operation %" PRIu64 " was acknowledged at %" PRId64,
                  dump->head->index, dump->head->revision, newest->number, newest->revision);
}

static void check_hash(const struct check_item *item)
{
    hash_count++;
    for (const struct check_item *other = order.history->items; other < item; other++)
        if (other->kind == ITEM_HASH && other->revision == item->revision && other->number == item->number &&
            other->hash != item->hash) {
            violation(item->line, "members %u and %u differ at revision %" PRId64 ": hash %u and %u", other->index, item->index,
                      item->revision, other->hash, item->hash);
            return;
        }
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: check_durable HISTORY\n");
        return 2;
    }
    static struct check_history history;
    check_read(argv[1], &history);
    order_build(&history, false, &order);
    struct dump dump = {0};
    size_t acknowledged = 0;
    for (size_t i = 0; i <= history.item_count; i++) {
        const struct check_item *item = i < history.item_count ? &history.items[i] : NULL;
        if (dump.head && (!item || item->kind != ITEM_FINAL_KV || item->index != dump.head->index)) {
            check_dump(&dump);
            check_reaches(&dump);
            dump.head = NULL;
        }
        if (!item)
            break;
        if (item->kind == ITEM_FINAL) {
            dump.head = item;
            dump.len = 0;
            dump_count++;
        } else if (item->kind == ITEM_FINAL_KV && dump.head) {
            GROW(dump.kvs, dump.len, dump.cap);
            dump.kvs[dump.len++] = item;
        } else if (item->kind == ITEM_FINAL_KV) {
            violation(item->line, "a key of member %u without the head of its list", item->index);
        } else if (item->kind == ITEM_HASH) {
            check_hash(item);
        } else if (item->kind == ITEM_RETURN) {
            acknowledged += call_wrote(&history.calls[item->index]);
        }
    }
    if (!dump_count)
        violation(0, "the history does not say what any member held at the end");
    return verdict("check_durable", "%zu acknowledged writes, %zu members' states at the end, %zu hashes", acknowledged,
                   dump_count, hash_count);
}
