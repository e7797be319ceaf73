/* The one total order of writes that a history tells of: which key changed at which revision, to what, and by whom. */
#ifndef CHECK_ORDER_H
#define CHECK_ORDER_H

#include "reader.h"

enum cause {
    CAUSE_NONE,   /* nobody asked for it */
    CAUSE_CALL,   /* call is who */
    CAUSE_LEASE,  /* the key's lease ran out or was revoked */
    CAUSE_UNSURE, /* a lease or one of several deletes */
};
/* One key at one revision. */
struct change {
    int64_t rev, create, version, lease; /* the last three of a put */
    text_id key, value;
    bool del, full;   /* full: somebody saw create and version */
    bool guessed;     /* create and version are concluded over a hole: another write may lie in it */
    bool watch_only;  /* only watchers tell of it */
    bool doubtful;    /* of a delete of several keys: this one may have gone before, in a hole */
    uint32_t line;    /* where it was first seen; UINT32_MAX: it is concluded, not seen */
    int64_t line_ns;
    enum cause cause;
    uint32_t call;
    int64_t old_lease; /* of a delete by CAUSE_LEASE */
};
struct timeline {
    struct change **changes;
    size_t len, cap;
};
struct order {
    const struct check_history *history;
    struct change **changes; /* by revision */
    size_t len, cap;
    struct timeline *timelines; /* by text_id of the key */
    text_id *keys;              /* all keys ever seen, in the order of their bytes */
    size_t key_count;
    int64_t *revs;              /* the revisions of which something is known, ascending */
    size_t rev_count, rev_cap;
    int64_t *floors;            /* for each call: the highest revision seen by anyone before it was invoked */
    int64_t seen_max;           /* the highest revision in the history */
};
/* report: what contradicts itself is a violation; otherwise only the order is made. */
void order_build(const struct check_history *history, bool report, struct order *ret_order);
/* The key's last change at or before the revision; NULL: none. */
const struct change *order_at(const struct order *order, text_id key, int64_t revision);
/* The same when it is a put, else NULL. */
const struct change *order_present(const struct order *order, text_id key, int64_t revision);
/* The place in changes of the first one beyond the revision. */
size_t order_after(const struct order *order, int64_t revision);
/* How many revisions in (after, upto] nothing is known of: a write without an answer that no one saw, or leases. */
int64_t order_gaps(const struct order *order, int64_t after, int64_t upto);
/* keys[*ret_from .. *ret_to) lie in the range. */
void order_range(const struct order *order, text_id key, text_id end, size_t *ret_from, size_t *ret_to);
/* The comparisons of a transaction on the state at the revision. */
bool order_compares(const struct order *order, const struct check_op *txn, int64_t revision);
bool call_wrote(const struct check_call *call); /* one that was answered */

#endif
