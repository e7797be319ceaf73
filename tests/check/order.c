/* Builds the order of writes: gathers what answers, reads and watchers tell, then goes through the revisions and finds
   for each the one who caused it. */
#include "order.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- what is known of one key at one revision, from one place ---- */
struct fact {
    int64_t rev;
    const struct check_kv *kv; /* NULL: only key, value and lease are known, or it is a delete */
    text_id key, value;
    int64_t lease;
    uint32_t line;
    int64_t ns;
    bool del, watch;
};
struct builder {
    struct order *order;
    bool report;
    struct fact *facts;
    size_t fact_len, fact_cap;
    uint32_t *writers; /* answered calls that wrote, by revision */
    size_t writer_len, writer_cap;
    uint32_t *open_dels; /* unanswered calls with a delete in them */
    size_t open_del_len, open_del_cap;
    bool *used; /* by call: it is the cause of a revision */
    /* Puts by key and value: chains through put_next. */
    uint32_t *put_heads;
    size_t put_slots;
    struct put_ref {
        text_id key, value;
        uint32_t call, next;
    } *puts;
    size_t put_len, put_cap;
    /* Keys that were put with a lease: chains. */
    struct lease_key {
        int64_t lease;
        text_id key;
        uint32_t next;
    } *lease_keys;
    size_t lease_len, lease_cap;
    uint32_t lease_heads[1 << 16];
};

#define REPORT(b, ...)                                                                                                 \
    do {                                                                                                               \
        if ((b)->report)                                                                                               \
            violation(__VA_ARGS__);                                                                                    \
    } while (0)

static size_t mix(uint64_t a, uint64_t b)
{
    uint64_t h = (a * 0x9e3779b97f4a7c15) ^ (b * 0xc2b2ae3d27d4eb4f);
    return (size_t)(h ^ (h >> 31));
}

bool call_wrote(const struct check_call *call)
{
    if (call->outcome != OUTCOME_OK)
        return false;
    if (call->op.kind == OP_PUT)
        return true;
    if (call->op.kind == OP_DEL)
        return call->result.count > 0;
    if (call->op.kind != OP_TXN)
        return false;
    const struct check_op *ops = call->result.succeeded ? call->op.then : call->op.otherwise;
    for (uint32_t i = 0; i < call->result.result_count; i++)
        if (ops[i].kind == OP_PUT || (ops[i].kind == OP_DEL && call->result.results[i].count > 0))
            return true;
    return false;
}

/* ---- gathering ---- */
static void fact_add(struct builder *b, struct fact fact)
{
    GROW(b->facts, b->fact_len, b->fact_cap);
    b->facts[b->fact_len++] = fact;
}

static void fact_kv(struct builder *b, const struct check_kv *kv, uint32_t line, int64_t ns, bool watch)
{
    fact_add(b, (struct fact){.rev = kv->mod, .kv = kv, .key = kv->key, .value = kv->value, .lease = kv->lease,
                              .line = line, .ns = ns, .watch = watch});
}

static void gather_result(struct builder *b, const struct check_call *call, const struct check_op *op,
                          const struct check_result *result)
{
    struct fact fact = {.rev = call->revision, .key = op->key, .line = call->return_line, .ns = call->return_ns};
    if (op->kind == OP_PUT) {
        fact.value = op->value;
        fact.lease = op->lease;
        fact_add(b, fact);
    } else if (op->kind == OP_DEL && !op->end && result->count > 0) {
        fact.del = true;
        fact_add(b, fact);
    }
    for (uint32_t i = 0; i < result->kv_count; i++)
        fact_kv(b, &result->kvs[i], call->return_line, call->return_ns, false);
    const struct check_op *ops = result->succeeded ? op->then : op->otherwise;
    for (uint32_t i = 0; i < result->result_count; i++)
        gather_result(b, call, &ops[i], &result->results[i]);
}

static void put_ref_add(struct builder *b, uint32_t call, const struct check_op *op)
{
    size_t slot = mix(op->key, op->value) & (b->put_slots - 1);
    GROW(b->puts, b->put_len, b->put_cap);
    b->puts[b->put_len] = (struct put_ref){op->key, op->value, call, b->put_heads[slot]};
    b->put_heads[slot] = (uint32_t)++b->put_len;
}

/* Who might have written what; true when there is a delete in it. */
static bool gather_intent(struct builder *b, uint32_t call, const struct check_op *op)
{
    bool del = op->kind == OP_DEL;
    if (op->kind == OP_PUT)
        put_ref_add(b, call, op);
    for (uint32_t i = 0; i < op->then_count; i++)
        del |= gather_intent(b, call, &op->then[i]);
    for (uint32_t i = 0; i < op->otherwise_count; i++)
        del |= gather_intent(b, call, &op->otherwise[i]);
    return del;
}

static void gather_calls(struct builder *b)
{
    const struct check_history *history = b->order->history;
    for (b->put_slots = 1024; b->put_slots < history->call_count;)
        b->put_slots *= 2;
    b->put_heads = calloc(b->put_slots, sizeof(*b->put_heads));
    b->used = calloc(history->call_count + 1, sizeof(*b->used));
    if (!b->put_heads || !b->used)
        exit(2);
    for (uint32_t i = 0; i < history->call_count; i++) {
        const struct check_call *call = &history->calls[i];
        bool del = gather_intent(b, i, &call->op);
        if (call->outcome == OUTCOME_OK)
            gather_result(b, call, &call->op, &call->result);
        if (call_wrote(call)) {
            GROW(b->writers, b->writer_len, b->writer_cap);
            b->writers[b->writer_len++] = i;
        } else if (del && (call->outcome == OUTCOME_OPEN || call->outcome == OUTCOME_UNKNOWN)) {
            GROW(b->open_dels, b->open_del_len, b->open_del_cap);
            b->open_dels[b->open_del_len++] = i;
        }
    }
}

/* Facts of watchers and of the end; and what had been seen when each call was invoked. */
static void gather_items(struct builder *b)
{
    struct order *order = b->order;
    const struct check_history *history = order->history;
    int64_t seen = 0;
    order->floors = check_realloc(NULL, (history->call_count + 1) * sizeof(*order->floors));
    for (size_t i = 0; i < history->item_count; i++) {
        const struct check_item *item = &history->items[i];
        int64_t revision = 0;
        switch (item->kind) {
        case ITEM_INVOKE:
            order->floors[item->index] = seen;
            break;
        case ITEM_RETURN:
            revision = history->calls[item->index].revision;
            break;
        case WATCH_PUT:
            fact_kv(b, item->kv, item->line, item->ns, true);
            break;
        case WATCH_DEL:
            fact_add(b, (struct fact){.rev = item->revision, .key = item->key, .line = item->line, .ns = item->ns,
                                      .del = true, .watch = true});
            break;
        case ITEM_FINAL_KV:
            fact_kv(b, item->kv, item->line, item->ns, false);
            break;
        default:
            break;
        }
        if (item->kind == WATCH_PUT || item->kind == WATCH_DEL) {
            revision = item->revision;
            if (item->prev)
                fact_kv(b, item->prev, item->line, item->ns, true);
        } else if (item->kind == WATCH_CREATED || item->kind == WATCH_PROGRESS || item->kind == ITEM_FINAL) {
            revision = item->revision;
        }
        if (revision > seen)
            seen = revision;
    }
    order->seen_max = seen;
}

/* ---- the sweep ---- */
static struct change *change_add(struct builder *b, text_id key, int64_t rev, bool del)
{
    struct order *order = b->order;
    struct change *change = check_alloc(sizeof(*change));
    change->key = key;
    change->rev = rev;
    change->del = del;
    change->line = UINT32_MAX;
    change->line_ns = INT64_MAX;
    GROW(order->changes, order->len, order->cap);
    order->changes[order->len++] = change;
    struct timeline *timeline = &order->timelines[key];
    GROW(timeline->changes, timeline->len, timeline->cap);
    timeline->changes[timeline->len++] = change;
    return change;
}

static struct change *change_find(struct builder *b, size_t first, text_id key)
{
    for (size_t i = first; i < b->order->len; i++)
        if (b->order->changes[i]->key == key)
            return b->order->changes[i];
    return NULL;
}

static void fact_contradicts(struct builder *b, const struct fact *fact, const struct change *change)
{
    REPORT(b, fact->line, "key %s at revision %" PRId64 " is %s %s here and %s %s on line %u", text_of(fact->key), fact->rev,
           fact->del ? "deleted" : "put", text_of(fact->value), change->del ? "deleted" : "put", text_of(change->value),
           change->line);
}

/* Makes the facts of one key at one revision into a change. What answers and reads say stands before what watchers say. */
static void facts_merge(struct builder *b, const struct fact *facts, size_t count)
{
    struct change *change = change_add(b, facts[0].key, facts[0].rev, facts[0].del);
    change->value = facts[0].value;
    change->lease = facts[0].lease;
    change->watch_only = facts[0].watch;
    for (size_t i = 0; i < count; i++) {
        const struct fact *fact = &facts[i];
        if (fact->line < change->line) {
            change->line = fact->line;
            change->line_ns = fact->ns;
        }
        if (fact->del != change->del || fact->value != change->value || fact->lease != change->lease) {
            fact_contradicts(b, fact, change);
        } else if (fact->kv && !change->full) {
            change->full = true;
            change->create = fact->kv->create;
            change->version = fact->kv->version;
        } else if (fact->kv && (fact->kv->create != change->create || fact->kv->version != change->version)) {
            REPORT(b, fact->line, "key %s at revision %" PRId64 " has version %" PRId64 " here and %" PRId64 " elsewhere",
                   text_of(fact->key), fact->rev, fact->kv->version, change->version);
        }
    }
}

/* The key's change before this revision; NULL: none. */
static const struct change *before(const struct order *order, text_id key, int64_t rev) { return order_at(order, key, rev - 1); }

static bool present_before(const struct order *order, text_id key, int64_t rev)
{
    const struct change *change = before(order, key, rev);
    return change && !change->del;
}

/* A change that must have been although nobody saw it. */
static struct change *conclude(struct builder *b, size_t first, text_id key, int64_t rev, bool del)
{
    struct change *change = change_find(b, first, key);
    return change ? change : change_add(b, key, rev, del);
}

/* counted: how many keys it says that it deleted; -1: it was not answered. */
static void expand_del(struct builder *b, size_t first, uint32_t call, const struct check_op *op, int64_t counted, int64_t rev)
{
    struct order *order = b->order;
    size_t from, to;
    int64_t there = 0;
    order_range(order, op->key, op->end, &from, &to);
    for (size_t k = from; k < to; k++)
        there += change_find(b, first, order->keys[k]) || present_before(order, order->keys[k], rev);
    for (size_t k = from; k < to; k++) {
        struct change *change = change_find(b, first, order->keys[k]);
        const struct change *was = before(order, order->keys[k], rev);
        if (!change && !(was && !was->del))
            continue;
        bool seen = change != NULL;
        change = conclude(b, first, order->keys[k], rev, true);
        change->doubtful = !seen && there != counted && order_gaps(order, was->rev, rev - 1) > 0;
        if (change->del) {
            change->cause = CAUSE_CALL;
            change->call = call;
        }
    }
}

/* What the operations of the call did at this revision; results: NULL when it was not answered. */
static void expand(struct builder *b, size_t first, uint32_t call, const struct check_op *ops, const struct check_result *results,
                   uint32_t count, int64_t rev)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct check_op *op = &ops[i];
        if (op->kind == OP_PUT) {
            struct change *change = change_find(b, first, op->key);
            if (!change) {
                change = change_add(b, op->key, rev, false);
                change->value = op->value;
                change->lease = op->lease;
            }
            change->cause = CAUSE_CALL;
            change->call = call;
        } else if (op->kind == OP_DEL) {
            expand_del(b, first, call, op, results ? results[i].count : -1, rev);
        }
    }
}

static bool ops_have(const struct check_op *ops, uint32_t count, const struct change *change)
{
    for (uint32_t i = 0; i < count; i++) {
        if (ops[i].kind == OP_PUT && !change->del && ops[i].key == change->key && ops[i].value == change->value)
            return true;
        if (ops[i].kind == OP_DEL && change->del && text_in_range(change->key, ops[i].key, ops[i].end))
            return true;
    }
    return false;
}

/* An unanswered call is found to be the cause of the revision. */
static void attribute(struct builder *b, size_t first, uint32_t index, const struct change *seen)
{
    struct order *order = b->order;
    const struct check_call *call = &order->history->calls[index];
    int64_t rev = seen->rev;
    b->used[index] = true;
    if (rev <= order->floors[index])
        REPORT(b, call->invoke_line,
               "operation %" PRIu64 " took effect at revision %" PRId64 ", but %" PRId64 " had been seen before it was invoked",
               call->number, rev, order->floors[index]);
    if (call->op.kind != OP_TXN) {
        expand(b, first, index, &call->op, NULL, 1, rev);
        return;
    }
    bool then = ops_have(call->op.then, call->op.then_count, seen);
    bool sure = true;
    for (uint32_t i = 0; i < call->op.compare_count; i++) {
        const struct change *was = before(order, call->op.compares[i].key, rev);
        sure &= order_gaps(order, was ? was->rev : 1, rev - 1) == 0;
    }
    if (sure && order_compares(order, &call->op, rev - 1) != then &&
        !(then && ops_have(call->op.otherwise, call->op.otherwise_count, seen)))
        REPORT(b, call->invoke_line, "transaction %" PRIu64 " took the wrong branch at revision %" PRId64, call->number, rev);
    if (then)
        expand(b, first, index, call->op.then, NULL, call->op.then_count, rev);
    else
        expand(b, first, index, call->op.otherwise, NULL, call->op.otherwise_count, rev);
}

static void attribute_put(struct builder *b, size_t first, const struct change *change)
{
    const struct check_history *history = b->order->history;
    uint32_t at = b->put_heads[mix(change->key, change->value) & (b->put_slots - 1)];
    const struct check_call *refused = NULL;
    for (; at; at = b->puts[at - 1].next) {
        const struct put_ref *ref = &b->puts[at - 1];
        const struct check_call *call = &history->calls[ref->call];
        if (ref->key != change->key || ref->value != change->value)
            continue;
        bool maybe = call->outcome == OUTCOME_OPEN || call->outcome == OUTCOME_UNKNOWN;
        if (maybe && !b->used[ref->call] && call->invoke_line < change->line) {
            attribute(b, first, ref->call, change);
            return;
        }
        refused = call;
    }
    if (!refused)
        REPORT(b, change->line, "nobody wrote %s = %s, seen at revision %" PRId64, text_of(change->key),
               text_of(change->value), change->rev);
    else if (refused->outcome == OUTCOME_FAIL)
        REPORT(b, change->line, "operation %" PRIu64 " failed, but %s = %s is there at revision %" PRId64, refused->number,
               text_of(change->key), text_of(change->value), change->rev);
    else if (refused->invoke_line >= change->line)
        REPORT(b, change->line, "%s = %s is seen at revision %" PRId64 " before operation %" PRIu64 " was invoked",
               text_of(change->key), text_of(change->value), change->rev, refused->number);
    else
        REPORT(b, change->line, "operation %" PRIu64 " took effect more than once: %s = %s again at revision %" PRId64,
               refused->number, text_of(change->key), text_of(change->value), change->rev);
}

/* All keys of a lease go at one revision. */
static void expand_lease(struct builder *b, size_t first, int64_t lease, int64_t rev)
{
    struct order *order = b->order;
    for (uint32_t at = b->lease_heads[mix((uint64_t)lease, 0) & 0xffff]; at; at = b->lease_keys[at - 1].next) {
        const struct lease_key *owned = &b->lease_keys[at - 1];
        const struct change *was = owned->lease == lease ? before(order, owned->key, rev) : NULL;
        if (!was || was->del || was->lease != lease)
            continue;
        struct change *change = conclude(b, first, owned->key, rev, true);
        if (!change->del)
            continue;
        change->cause = CAUSE_LEASE;
        change->old_lease = lease;
    }
}

/* A delete of many keys as the cause of this one: how many more than those seen to go it would have taken along. */
static size_t del_extras(struct builder *b, size_t first, const struct check_op *ops, uint32_t count, int64_t rev)
{
    size_t extras = 0;
    for (uint32_t i = 0; i < count; i++) {
        size_t from = 0, to = 0;
        if (ops[i].kind == OP_DEL)
            order_range(b->order, ops[i].key, ops[i].end, &from, &to);
        for (size_t k = from; k < to; k++)
            extras += present_before(b->order, b->order->keys[k], rev) && !change_find(b, first, b->order->keys[k]);
        extras += ops[i].kind == OP_PUT && !change_find(b, first, ops[i].key);
    }
    return extras;
}

struct del_choice {
    size_t found;      /* how many unanswered deletes it may have been */
    uint32_t call;     /* the one that fits best */
    size_t extras;     /* of that one */
};

static struct del_choice del_choose(struct builder *b, size_t first, const struct change *change)
{
    struct del_choice choice = {.extras = SIZE_MAX};
    for (size_t i = 0; i < b->open_del_len; i++) {
        uint32_t index = b->open_dels[i];
        const struct check_call *call = &b->order->history->calls[index];
        if (b->used[index] || call->invoke_line >= change->line || b->order->floors[index] >= change->rev)
            continue;
        const struct check_op *branches[] = {&call->op, call->op.then, call->op.otherwise};
        const uint32_t counts[] = {call->op.kind == OP_DEL, call->op.then_count, call->op.otherwise_count};
        bool covers = false;
        for (size_t k = 0; k < 3; k++) {
            if (!ops_have(branches[k], counts[k], change))
                continue;
            covers = true;
            size_t extras = del_extras(b, first, branches[k], counts[k], change->rev);
            if (extras < choice.extras) {
                choice.extras = extras;
                choice.call = index;
            }
        }
        choice.found += covers;
    }
    return choice;
}

static void attribute_del(struct builder *b, size_t first, struct change *change)
{
    const struct change *was = before(b->order, change->key, change->rev);
    int64_t lease = was && !was->del ? was->lease : 0;
    struct del_choice choice = del_choose(b, first, change);
    change->old_lease = lease;
    if (lease && choice.found) {
        change->cause = CAUSE_UNSURE;
    } else if (lease) {
        expand_lease(b, first, lease, change->rev);
    } else if (choice.found == 1) {
        attribute(b, first, choice.call, change);
    } else if (choice.found) {
        /* One of several: none of them is used up, and nothing is concluded. */
        change->cause = CAUSE_UNSURE;
    } else if (order_gaps(b->order, was ? was->rev : 1, change->rev - 1) > 0) {
        change->cause = CAUSE_UNSURE; /* what was deleted, with which lease, nobody saw */
    } else {
        REPORT(b, change->line, "nobody deleted %s, yet it goes at revision %" PRId64, text_of(change->key), change->rev);
    }
}

/* Versions and creations follow from what was before. */
static void settle(struct builder *b, struct change *change)
{
    struct order *order = b->order;
    const struct change *was = before(order, change->key, change->rev);
    bool there = was && !was->del;
    bool sure = order_gaps(order, was ? was->rev : 1, change->rev - 1) == 0;
    uint32_t line = change->line == UINT32_MAX ? 0 : change->line;
    if (change->del) {
        if (!there && sure)
            REPORT(b, line, "key %s is deleted at revision %" PRId64 ", but it was not there", text_of(change->key), change->rev);
        return;
    }
    int64_t create = there ? was->create : change->rev, version = there ? was->version + 1 : 1;
    sure &= !(there && was->guessed);
    change->guessed = !change->full && !sure;
    if (!change->full) {
        change->create = create;
        change->version = version;
    } else if (sure && (change->create != create || change->version != version)) {
        REPORT(b, line,
               "key %s at revision %" PRId64 " has version %" PRId64 " created at %" PRId64 ", expected %" PRId64 " and %" PRId64,
               text_of(change->key), change->rev, change->version, change->create, version, create);
    }
    if (change->lease) {
        uint32_t *head = &b->lease_heads[mix((uint64_t)change->lease, 0) & 0xffff];
        GROW(b->lease_keys, b->lease_len, b->lease_cap);
        b->lease_keys[b->lease_len] = (struct lease_key){change->lease, change->key, *head};
        *head = (uint32_t)++b->lease_len;
    }
}

/* One revision: its facts and, if there is one, the answered call that made it. */
static void sweep_revision(struct builder *b, int64_t rev, const struct fact *facts, size_t count, const uint32_t *writers,
                           size_t writer_count)
{
    struct order *order = b->order;
    size_t first = order->len;
    for (size_t i = 0; i < count;) {
        size_t same = 1;
        while (i + same < count && facts[i + same].key == facts[i].key)
            same++;
        facts_merge(b, &facts[i], same);
        i += same;
    }
    for (size_t i = 0; i < writer_count; i++) {
        const struct check_call *call = &order->history->calls[writers[i]];
        if (i)
            REPORT(b, call->return_line, "operations %" PRIu64 " and %" PRIu64 " both got revision %" PRId64,
                   order->history->calls[writers[0]].number, call->number, rev);
        b->used[writers[i]] = true;
        if (call->op.kind == OP_TXN)
            expand(b, first, writers[i], call->result.succeeded ? call->op.then : call->op.otherwise, call->result.results,
                   call->result.result_count, rev);
        else
            expand(b, first, writers[i], &call->op, &call->result, 1, rev);
    }
    for (int dels = 0; dels < 2; dels++)
        for (size_t i = first; i < order->len; i++) {
            struct change *change = order->changes[i];
            if (change->cause != CAUSE_NONE || change->del != dels)
                continue;
            if (writer_count)
                REPORT(b, change->line, "revision %" PRId64 " belongs to operation %" PRIu64 ", which does not touch %s", rev,
                       order->history->calls[writers[0]].number, text_of(change->key));
            else if (dels)
                attribute_del(b, first, change);
            else
                attribute_put(b, first, change);
        }
    for (size_t i = first; i < order->len; i++)
        settle(b, order->changes[i]);
    GROW(order->revs, order->rev_count, order->rev_cap);
    order->revs[order->rev_count++] = rev;
}

/* ---- sorting ---- */
static int fact_order(const void *a, const void *b)
{
    const struct fact *x = a, *y = b;
    if (x->rev != y->rev)
        return x->rev < y->rev ? -1 : 1;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    if (x->watch != y->watch)
        return x->watch - y->watch;
    return x->line < y->line ? -1 : x->line > y->line;
}

static const struct check_history *sorted_history;
static int writer_order(const void *a, const void *b)
{
    const struct check_call *x = &sorted_history->calls[*(const uint32_t *)a], *y = &sorted_history->calls[*(const uint32_t *)b];
    if (x->revision != y->revision)
        return x->revision < y->revision ? -1 : 1;
    return x->return_line < y->return_line ? -1 : x->return_line > y->return_line;
}

static int key_order(const void *a, const void *b) { return text_compare(*(const text_id *)a, *(const text_id *)b); }

static void keys_collect(struct builder *b)
{
    struct order *order = b->order;
    bool *seen = check_alloc(text_count() + 1);
    order->keys = check_realloc(NULL, (text_count() + 1) * sizeof(*order->keys));
    for (size_t i = 0; i < b->fact_len; i++)
        if (!seen[b->facts[i].key]) {
            seen[b->facts[i].key] = true;
            order->keys[order->key_count++] = b->facts[i].key;
        }
    for (size_t i = 0; i < b->put_len; i++)
        if (!seen[b->puts[i].key]) {
            seen[b->puts[i].key] = true;
            order->keys[order->key_count++] = b->puts[i].key;
        }
    if (order->key_count)
        qsort(order->keys, order->key_count, sizeof(*order->keys), key_order);
    order->timelines = check_alloc((text_count() + 1) * sizeof(*order->timelines));
}

void order_build(const struct check_history *history, bool report, struct order *ret_order)
{
    *ret_order = (struct order){.history = history};
    struct builder *b = check_alloc(sizeof(*b));
    b->order = ret_order;
    b->report = report;
    gather_calls(b);
    gather_items(b);
    keys_collect(b);
    if (b->fact_len)
        qsort(b->facts, b->fact_len, sizeof(*b->facts), fact_order);
    sorted_history = history;
    if (b->writer_len)
        qsort(b->writers, b->writer_len, sizeof(*b->writers), writer_order);
    size_t f = 0, w = 0;
    while (f < b->fact_len || w < b->writer_len) {
        int64_t next_fact = f < b->fact_len ? b->facts[f].rev : INT64_MAX;
        int64_t next_writer = w < b->writer_len ? history->calls[b->writers[w]].revision : INT64_MAX;
        int64_t rev = next_fact < next_writer ? next_fact : next_writer;
        size_t facts = 0, writers = 0;
        while (f + facts < b->fact_len && b->facts[f + facts].rev == rev)
            facts++;
        while (w + writers < b->writer_len && history->calls[b->writers[w + writers]].revision == rev)
            writers++;
        sweep_revision(b, rev, b->facts + f, facts, b->writers + w, writers);
        f += facts;
        w += writers;
    }
    free(b->facts);
    free(b->writers);
    free(b->open_dels);
    free(b->used);
    free(b->put_heads);
    free(b->puts);
    free(b->lease_keys);
}
