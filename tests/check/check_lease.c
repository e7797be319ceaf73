/* check_lease: a key lives as long as its lease. It does not go before the TTL after the last renewal that was answered
   (unless it was revoked), and is not there long after the last one that may have counted.

   usage: check_lease [--early-ms N] [--late-ms N] HISTORY
   --early-ms: how much too early is forgiven (0; clocks that jump). --late-ms: how long after its end a key may still be
   seen (10000: what watches leases looks at times, and a new leader has to be found first). A new leader gives each
   lease its whole TTL again. */
#include "order.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A new leader adds an election timeout to the whole TTL that it gives each lease. */
#define PROMOTION_S 2

static struct order order;
static int64_t early_ms = 0, late_ms = 10000;
static size_t lease_count, expiry_count, sight_count;

struct renewal {
    int64_t invoke_ns, return_ns; /* of one without an answer: never */
    int64_t ttl_s;                /* 0: it has no answer; the lease's own counts */
    uint32_t line;
};
struct lease {
    int64_t id;
    int64_t ttl_s; /* as granted; 0: no answer */
    struct renewal *renewals;
    size_t len, cap;
    int64_t revoke_ns;        /* the first revocation's begin that may have worked; INT64_MAX: none */
    uint32_t revoked_line;    /* where the first answered one ended; UINT32_MAX: none */
};
static struct lease *leases;
static size_t lease_len, lease_cap;
static uint32_t *slots;
static size_t slot_count;
static int64_t *leaders_ns; /* when leaders changed, ascending */
static size_t leader_len, leader_cap;

static uint32_t *slot_of(int64_t id)
{
    size_t at = (size_t)((uint64_t)id * 0x9e3779b97f4a7c15 >> 20) & (slot_count - 1);
    while (slots[at] && leases[slots[at] - 1].id != id)
        at = (at + 1) & (slot_count - 1);
    return &slots[at];
}

static struct lease *lease_find(int64_t id)
{
    uint32_t at = *slot_of(id);
    return at ? &leases[at - 1] : NULL;
}

static struct lease *lease_of(int64_t id)
{
    uint32_t *slot = slot_of(id);
    if (*slot)
        return &leases[*slot - 1];
    GROW(leases, lease_len, lease_cap);
    leases[lease_len] = (struct lease){.id = id, .revoke_ns = INT64_MAX, .revoked_line = UINT32_MAX};
    *slot = (uint32_t)++lease_len;
    return &leases[lease_len - 1];
}

static void renewal_add(struct lease *lease, const struct check_call *call, int64_t ttl_s)
{
    GROW(lease->renewals, lease->len, lease->cap);
    lease->renewals[lease->len++] = (struct renewal){.invoke_ns = call->invoke_ns, .return_ns = call->return_ns,
                                                     .ttl_s = ttl_s, .line = call->return_line};
}

static void gather_call(const struct check_call *call)
{
    bool ok = call->outcome == OUTCOME_OK;
    if (call->outcome == OUTCOME_FAIL)
        return;
    int64_t id = call->op.kind == OP_GRANT && ok ? call->result.lease : call->op.lease;
    if (!id)
        return;
    if (call->op.kind == OP_GRANT) {
        struct lease *lease = lease_of(id);
        if (ok && call->result.ttl_s < call->op.ttl_s)
            violation(call->return_line, "lease %" PRId64 " got a TTL of %" PRId64 " s, asked for were %" PRId64, id,
                      call->result.ttl_s, call->op.ttl_s);
        lease->ttl_s = ok ? call->result.ttl_s : call->op.ttl_s;
        renewal_add(lease, call, ok ? call->result.ttl_s : 0);
    } else if (call->op.kind == OP_KEEPALIVE && !(ok && call->result.ttl_s <= 0)) {
        renewal_add(lease_of(id), call, ok ? call->result.ttl_s : 0);
    } else if (call->op.kind == OP_REVOKE) {
        struct lease *lease = lease_of(id);
        if (call->invoke_ns < lease->revoke_ns)
            lease->revoke_ns = call->invoke_ns;
        if (ok && call->return_line < lease->revoked_line)
            lease->revoked_line = call->return_line;
    } else if (call->op.kind == OP_TTL && ok && call->result.ttl_s > call->result.granted_ttl_s + PROMOTION_S) {
        violation(call->return_line, "lease %" PRId64 " has %" PRId64 " s left of %" PRId64, id, call->result.ttl_s,
                  call->result.granted_ttl_s);
    }
}

static void gather(const struct check_history *history)
{
    for (slot_count = 1024; slot_count < history->call_count * 2;)
        slot_count *= 2;
    slots = check_alloc(slot_count * sizeof(*slots));
    for (size_t i = 0; i < history->call_count; i++)
        gather_call(&history->calls[i]);
    for (size_t i = 0; i < history->item_count; i++)
        if (history->items[i].kind == ITEM_LEADER) {
            GROW(leaders_ns, leader_len, leader_cap);
            leaders_ns[leader_len++] = history->items[i].ns;
        }
    for (size_t i = 0; i < lease_len; i++)
        lease_count += leases[i].ttl_s > 0;
}

/* ---- not too early ---- */
static void check_expiry(const struct change *change)
{
    const struct lease *lease = lease_find(change->old_lease);
    if (change->line == UINT32_MAX)
        return; /* concluded: another key of the lease was seen to go */
    expiry_count++;
    if (!lease) {
        violation(change->line, "%s hung on lease %" PRId64 ", which nobody asked for", text_of(change->key), change->old_lease);
        return;
    }
    if (lease->revoke_ns <= change->line_ns)
        return;
    for (size_t i = 0; i < lease->len; i++) {
        const struct renewal *renewal = &lease->renewals[i];
        int64_t until = renewal->invoke_ns + (renewal->ttl_s * 1000 - early_ms) * 1000000;
        if (renewal->ttl_s && change->line_ns < until) {
            violation(change->line, "%s went at revision %" PRId64 ", %" PRId64 " ms before its lease %" PRId64
                      " could end, which was renewed for %" PRId64 " s on line %u", text_of(change->key), change->rev,
                      (until - change->line_ns) / 1000000, lease->id, renewal->ttl_s, renewal->line);
            return;
        }
    }
}

/* ---- not for ever ---- */
/* When the last leader before then came. */
static int64_t leader_before(int64_t ns)
{
    size_t low = 0, high = leader_len;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (leaders_ns[middle] <= ns)
            low = middle + 1;
        else
            high = middle;
    }
    return low ? leaders_ns[low - 1] : INT64_MIN;
}

/* A key with this lease was there at some time between since and seen. */
static void check_sight(text_id key, int64_t id, uint32_t line, int64_t seen_ns, uint32_t since_line, int64_t since_ns)
{
    const struct lease *lease = id ? lease_find(id) : NULL;
    if (!id)
        return;
    sight_count++;
    if (!lease) {
        violation(line, "%s hangs on lease %" PRId64 ", which nobody asked for", text_of(key), id);
        return;
    }
    if (lease->revoked_line < since_line) {
        violation(line, "%s is still there, but its lease %" PRId64 " was revoked on line %u", text_of(key), id,
                  lease->revoked_line);
        return;
    }
    int64_t last = leader_before(seen_ns);
    for (size_t i = 0; i < lease->len; i++)
        if (lease->renewals[i].invoke_ns <= seen_ns && lease->renewals[i].return_ns > last)
            last = lease->renewals[i].return_ns;
    if (last == INT64_MAX)
        return; /* a renewal under way then never got its answer */
    int64_t until = last + (lease->ttl_s * 1000 + late_ms) * 1000000;
    if (since_ns > until)
        violation(line, "%s is still there %" PRId64 " ms after its lease %" PRId64 " of %" PRId64 " s was last renewed",
                  text_of(key), (since_ns - last) / 1000000, id, lease->ttl_s);
}

static void check_sights(const struct check_history *history)
{
    for (size_t i = 0; i < history->call_count; i++) {
        const struct check_call *call = &history->calls[i];
        if (call->outcome != OUTCOME_OK || call->op.kind != OP_GET || call->op.serializable || call->op.revision)
            continue;
        for (uint32_t k = 0; k < call->result.kv_count; k++)
            check_sight(call->result.kvs[k].key, call->result.kvs[k].lease, call->return_line, call->return_ns,
                        call->invoke_line, call->invoke_ns);
    }
    for (size_t i = 0; i < history->item_count; i++)
        if (history->items[i].kind == ITEM_FINAL_KV)
            check_sight(history->items[i].key, history->items[i].kv->lease, history->items[i].line, history->items[i].ns,
                        history->items[i].line, history->items[i].ns);
}

static int64_t option_ms(const char *s)
{
    char *end;
    long value = strtol(s, &end, 10);
    if (*end || value < 0) {
        fprintf(stderr, "check_lease: \"%s\" is no number of milliseconds\n", s);
        exit(2);
    }
    return value;
}

int main(int argc, char **argv)
{
    int i = 1;
    for (; i + 1 < argc && argv[i][0] == '-'; i += 2) {
        if (strcmp(argv[i], "--early-ms") == 0)
            early_ms = option_ms(argv[i + 1]);
        else if (strcmp(argv[i], "--late-ms") == 0)
            late_ms = option_ms(argv[i + 1]);
        else
            break;
    }
    if (argc - i != 1) {
        fprintf(stderr, "usage: check_lease [--early-ms N] [--late-ms N] HISTORY\n");
        return 2;
    }
    static struct check_history history;
    check_read(argv[i], &history);
    order_build(&history, false, &order);
    gather(&history);
    for (size_t c = 0; c < order.len; c++)
        if (order.changes[c]->del && order.changes[c]->cause == CAUSE_LEASE)
            check_expiry(order.changes[c]);
    check_sights(&history);
    return verdict("check_lease", "%zu leases, %zu keys seen to go with theirs, %zu seen to be there, %zu leaders", lease_count,
                   expiry_count, sight_count, leader_len);
}
