/* check_order: linearizability by revisions. Every write has a revision, which fixes its place in one total order; the
   order must respect real time, and every answer must be what the order says at its revision.

   usage: check_order HISTORY */
#include "order.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static struct order order;
static struct {
    size_t writes, reads, txns, unknown, finals;
} counts;

static bool kv_equals(const struct check_kv *kv, const struct change *change)
{
    return kv->key == change->key && kv->value == change->value && kv->mod == change->rev && kv->create == change->create &&
           kv->version == change->version && kv->lease == change->lease;
}

/* The keys that the transaction's operations before this one wrote are seen as they are after it. */
static const struct change *state_of(text_id key, int64_t revision, const struct check_op *earlier, uint32_t earlier_count)
{
    for (uint32_t i = 0; i < earlier_count; i++)
        if ((earlier[i].kind == OP_PUT && earlier[i].key == key) ||
            (earlier[i].kind == OP_DEL && text_in_range(key, earlier[i].key, earlier[i].end)))
            return order_at(&order, key, revision + 1);
    return order_at(&order, key, revision);
}

/* A read of a range at a revision. earlier: of the same transaction. */
static void check_get(const struct check_call *call, const struct check_op *op, const struct check_result *result,
                      int64_t revision, const struct check_op *earlier, uint32_t earlier_count)
{
    uint32_t line = call->return_line;
    int64_t present = 0, unsure = 0, maybe = 0;
    uint32_t next = 0;
    size_t from, to;
    order_range(&order, op->key, op->end, &from, &to);
    for (size_t k = from; k < to; k++) {
        const struct change *now = state_of(order.keys[k], revision, earlier, earlier_count);
        bool got = next < result->kv_count && result->kvs[next].key == order.keys[k];
        if (!now || now->del) {
            if (got) {
                violation(line, "%s = %s is read at revision %" PRId64 ", but it was gone", text_of(order.keys[k]),
                          text_of(result->kvs[next].value), revision);
                next++;
            } else if (op->limit && present >= op->limit) { /* else it would have been listed */
                maybe += order_gaps(&order, now ? now->rev : 1, revision) > 0;
            }
            continue;
        }
        present++;
        if (got) {
            const struct check_kv *kv = &result->kvs[next++];
            if (!kv_equals(kv, now))
                violation(line, "%s is read at revision %" PRId64 " as %s (%" PRId64 "), the order has %s (%" PRId64 ")",
                          text_of(kv->key), revision, text_of(kv->value), kv->mod, text_of(now->value), now->rev);
        } else if (op->limit && present > op->limit) {
            unsure += order_gaps(&order, now->rev, revision) > 0;
        } else if (order_gaps(&order, now->rev, revision) > 0) {
            unsure++;
        } else {
            violation(line, "%s = %s (%" PRId64 ") is missing in a read at revision %" PRId64, text_of(now->key),
                      text_of(now->value), now->rev, revision);
        }
    }
    if (next < result->kv_count)
        violation(line, "%s is read out of order, twice or from outside of the range", text_of(result->kvs[next].key));
    if (result->count > present + maybe || result->count < present - unsure)
        violation(line, "a read counts %" PRId64 " keys at revision %" PRId64 ", there are %" PRId64, result->count, revision,
                  present);
    if (result->more != (result->count > (int64_t)result->kv_count))
        violation(line, "a read of %u of %" PRId64 " keys says more=%d", result->kv_count, result->count, result->more);
}

/* What an answered put or delete says of before. */
static void check_previous(const struct check_call *call, const struct check_result *result, int64_t revision)
{
    for (uint32_t i = 0; i < result->kv_count; i++) {
        const struct check_kv *kv = &result->kvs[i];
        const struct change *was = order_at(&order, kv->key, revision);
        if (!was || was->del || !kv_equals(kv, was))
            violation(call->return_line, "operation %" PRIu64 " replaced %s = %s (%" PRId64 "), the order has another before it",
                      call->number, text_of(kv->key), text_of(kv->value), kv->mod);
    }
}

/* How many keys a delete must have found at the revision. */
static void check_deleted(const struct check_call *call, const struct check_op *op, const struct check_result *result,
                          int64_t revision)
{
    int64_t present = 0, unsure = 0, maybe = 0;
    size_t from, to;
    order_range(&order, op->key, op->end, &from, &to);
    for (size_t k = from; k < to; k++) {
        const struct change *was = order_at(&order, order.keys[k], revision);
        bool there = was && !was->del, gap = order_gaps(&order, was ? was->rev : 1, revision) > 0;
        present += there;
        unsure += there && gap;
        maybe += !there && gap; /* put and deleted, and nobody saw it */
    }
    if (result->count > present + maybe || result->count < present - unsure)
        violation(call->return_line, "operation %" PRIu64 " deleted %" PRId64 " keys, there were %" PRId64, call->number,
                  result->count, present);
    check_previous(call, result, revision);
}

static void check_txn(const struct check_call *call)
{
    bool wrote = call_wrote(call);
    int64_t was = wrote ? call->revision - 1 : call->revision;
    bool sure = true;
    for (uint32_t i = 0; i < call->op.compare_count; i++) {
        const struct change *change = order_at(&order, call->op.compares[i].key, was);
        sure &= order_gaps(&order, change ? change->rev : 1, was) == 0;
    }
    if (sure && order_compares(&order, &call->op, was) != call->result.succeeded)
        violation(call->return_line, "transaction %" PRIu64 " at revision %" PRId64 " should have %s", call->number,
                  call->revision, call->result.succeeded ? "failed" : "succeeded");
    const struct check_op *ops = call->result.succeeded ? call->op.then : call->op.otherwise;
    for (uint32_t i = 0; i < call->result.result_count; i++) {
        const struct check_result *result = &call->result.results[i];
        if (ops[i].kind == OP_GET)
            check_get(call, &ops[i], result, was, ops, i);
        else if (ops[i].kind == OP_DEL)
            check_deleted(call, &ops[i], result, was);
        else
            check_previous(call, result, was);
    }
}

static bool only_reads(const struct check_op *ops, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (ops[i].kind != OP_GET)
            return false;
    return true;
}

static bool is_data(const struct check_op *op) { return op->kind <= OP_TXN; }

/* The revision of an answer lies between what was seen before the question and what was asked for by its end. */
static void check_place(uint32_t index)
{
    const struct check_call *call = &order.history->calls[index];
    int64_t floor = order.floors[index];
    bool stale_allowed = call->op.kind == OP_GET && call->op.serializable;
    if (call_wrote(call) && call->revision <= floor)
        violation(call->return_line, "operation %" PRIu64 " wrote revision %" PRId64 ", but %" PRId64
                  " had been seen before it was invoked", call->number, call->revision, floor);
    else if (is_data(&call->op) && !stale_allowed && call->revision < floor)
        violation(call->return_line, "operation %" PRIu64 " is stale: it answers from revision %" PRId64 ", but %" PRId64
                  " had been seen before it was invoked", call->number, call->revision, floor);
    if (!is_data(&call->op))
        return;
    size_t at = order_after(&order, call->revision - 1);
    const struct change *change = at < order.len ? order.changes[at] : NULL;
    if (change && change->rev == call->revision && change->cause == CAUSE_CALL &&
        order.history->calls[change->call].invoke_line > call->return_line)
        violation(call->return_line, "operation %" PRIu64 " answers from revision %" PRId64
                  ", whose writer was invoked only later", call->number, call->revision);
}

static void check_call(uint32_t index)
{
    const struct check_call *call = &order.history->calls[index];
    if (call->outcome != OUTCOME_OK) {
        counts.unknown += call->outcome != OUTCOME_FAIL && is_data(&call->op);
        return;
    }
    check_place(index);
    counts.writes += call_wrote(call);
    switch (call->op.kind) {
    case OP_GET:
        counts.reads++;
        if (call->op.revision > call->revision)
            violation(call->return_line, "a read of the future revision %" PRId64 " is answered at %" PRId64, call->op.revision,
                      call->revision);
        check_get(call, &call->op, &call->result, call->op.revision ? call->op.revision : call->revision, NULL, 0);
        break;
    case OP_PUT:
        check_previous(call, &call->result, call->revision - 1);
        break;
    case OP_DEL:
        check_deleted(call, &call->op, &call->result, call->revision - (call->result.count > 0));
        break;
    case OP_TXN:
        counts.txns++;
        counts.reads += only_reads(call->op.then, call->op.then_count) &&
                        only_reads(call->op.otherwise, call->op.otherwise_count);
        check_txn(call);
        break;
    default:
        break;
    }
}

/* Nobody sees a change before the one who asked for it did so. */
static void check_causes(void)
{
    for (size_t i = 0; i < order.len; i++) {
        const struct change *change = order.changes[i];
        if (change->cause == CAUSE_CALL && change->line <= order.history->calls[change->call].invoke_line)
            violation(change->line, "revision %" PRId64 " of %s is seen before operation %" PRIu64 " was invoked", change->rev,
                      text_of(change->key), order.history->calls[change->call].number);
    }
}

/* What each member holds at the end is the state of its revision. */
static void check_finals(void)
{
    const struct check_history *history = order.history;
    for (size_t i = 0; i < history->item_count; i++) {
        const struct check_item *item = &history->items[i];
        if (item->kind == ITEM_FINAL)
            counts.finals++;
        if (item->kind != ITEM_FINAL_KV)
            continue;
        const struct change *change = order_at(&order, item->key, item->kv->mod);
        if (!change || change->del || !kv_equals(item->kv, change))
            violation(item->line, "member %u holds %s = %s (%" PRId64 "), the order has another", item->index,
                      text_of(item->key), text_of(item->kv->value), item->kv->mod);
    }
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: check_order HISTORY\n");
        return 2;
    }
    static struct check_history history;
    check_read(argv[1], &history);
    order_build(&history, true, &order);
    for (uint32_t i = 0; i < history.call_count; i++)
        check_call(i);
    check_causes();
    check_finals();
    return verdict("check_order", "%zu operations: %zu writes, %zu reads, %zu transactions, %zu without an answer; %zu keys, %"
                   PRId64 " revisions, %" PRId64 " of them unseen", history.call_count, counts.writes, counts.reads, counts.txns,
                   counts.unknown, order.key_count, order.seen_max, order_gaps(&order, 1, order.seen_max));
}
