/* check_watch: what watchers were promised. Events come in the order of revisions, each once, none left out, none made
   up, with the right content and predecessor; a progress revision is a bookmark; a watcher that resumes loses nothing.

   usage: check_watch HISTORY */
#include "order.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FLAG_PREV_KV 1
#define FLAG_NOPUT 4
#define FLAG_NODELETE 8

static struct order order;
static uint32_t *rank_of; /* by text_id: the place among order.keys */
static int64_t compacted; /* the highest revision that anyone asked to compact, so far */
static size_t event_count, watcher_count, resume_count, bookmark_count;

struct watcher {
    bool made, ended, started;
    uint32_t rank_from, rank_to; /* the keys of its range */
    int64_t flags;
    int64_t asked;   /* the start revision of the last create or resume */
    int64_t last;    /* of the last event */
    int64_t covered; /* everything up to here has come or is not wanted */
    size_t cursor;   /* order.changes before this one lie at or below covered */
    text_id *seen;   /* keys that came at the revision last */
    size_t seen_len, seen_cap;
    bool jumped;     /* the history was compacted under it */
};
static struct watcher *watchers;
static size_t watcher_cap;

static struct watcher *watcher_of(const struct check_item *item)
{
    while (item->index >= watcher_cap) {
        size_t cap = watcher_cap ? watcher_cap * 2 : 64;
        watchers = check_realloc(watchers, cap * sizeof(*watchers));
        memset(watchers + watcher_cap, 0, (cap - watcher_cap) * sizeof(*watchers));
        watcher_cap = cap;
    }
    return &watchers[item->index];
}

static bool wants(const struct watcher *w, const struct change *change)
{
    uint32_t rank = rank_of[change->key];
    if (rank < w->rank_from || rank >= w->rank_to)
        return false;
    return !(w->flags & (change->del ? FLAG_NODELETE : FLAG_NOPUT));
}

static bool has_seen(const struct watcher *w, text_id key)
{
    for (size_t i = 0; i < w->seen_len; i++)
        if (w->seen[i] == key)
            return true;
    return false;
}

/* Everything up to the revision must have come. */
static void cover(struct watcher *w, const struct check_item *item, int64_t upto)
{
    for (; w->cursor < order.len && order.changes[w->cursor]->rev <= upto; w->cursor++) {
        const struct change *change = order.changes[w->cursor];
        /* What nobody asked for is a fault of the one who got it, not of those who did not. */
        if (change->rev <= w->covered || change->cause == CAUSE_NONE || change->doubtful || !wants(w, change))
            continue;
        if (change->rev == w->last && has_seen(w, change->key))
            continue;
        violation(item->line, "watcher %u missed %s of %s at revision %" PRId64, item->index, change->del ? "the delete" : "the put",
                  text_of(change->key), change->rev);
    }
    if (upto > w->covered)
        w->covered = upto;
}

static void start_after(struct watcher *w, int64_t revision)
{
    w->started = true;
    w->covered = revision;
    w->cursor = order_after(&order, revision);
    w->seen_len = 0;
    w->last = 0;
}

static void on_create(struct watcher *w, const struct check_item *item)
{
    if (w->made)
        violation(item->line, "watcher %u is made twice", item->index);
    *w = (struct watcher){.made = true, .flags = item->number, .asked = item->revision};
    size_t from, to;
    order_range(&order, item->key, item->end, &from, &to);
    w->rank_from = (uint32_t)from;
    w->rank_to = (uint32_t)to;
    if (item->revision)
        start_after(w, item->revision - 1);
    watcher_count++;
}

static void on_created(struct watcher *w, const struct check_item *item)
{
    if (!w->started)
        start_after(w, item->revision);
}

static void on_resume(struct watcher *w, const struct check_item *item)
{
    resume_count++;
    int64_t start = item->revision;
    w->asked = start;
    if (!w->started && start == 0)
        return; /* it never learned where it started */
    if (w->started && !w->jumped && start > (w->last > w->covered ? w->last : w->covered) + 1)
        violation(item->line, "watcher %u resumes at %" PRId64 ", but knows only up to %" PRId64, item->index, start, w->covered);
    if (w->started)
        cover(w, item, start - 1);
    start_after(w, start - 1);
    w->jumped = false;
}

static void on_compacted(struct watcher *w, const struct check_item *item)
{
    if (item->revision > compacted)
        violation(item->line, "watcher %u is told of a compaction at %" PRId64 ", nobody asked for more than %" PRId64,
                  item->index, item->revision, compacted);
    if (w->started && item->revision <= w->covered)
        violation(item->line, "watcher %u, which was beyond %" PRId64 ", is cancelled for a compaction at %" PRId64, item->index,
                  w->covered, item->revision);
    start_after(w, item->revision - 1);
    w->jumped = true;
}

static bool kv_is(const struct check_kv *kv, const struct change *change)
{
    return kv->value == change->value && kv->create == change->create && kv->version == change->version &&
           kv->lease == change->lease && kv->mod == change->rev;
}

static void check_prev(const struct watcher *w, const struct check_item *item)
{
    const struct change *was = order_at(&order, item->key, item->revision - 1);
    bool there = was && !was->del;
    bool sure = order_gaps(&order, was ? was->rev : 1, item->revision - 1) == 0;
    if (!(w->flags & FLAG_PREV_KV)) {
        if (item->prev)
            violation(item->line, "watcher %u gets a predecessor that it did not ask for", item->index);
        return;
    }
    if (item->prev && (item->prev->key != item->key || !there || !kv_is(item->prev, was)))
        violation(item->line, "watcher %u: the predecessor of %s at revision %" PRId64 " is %s (%" PRId64 "), the order has %s (%"
                  PRId64 ")", item->index, text_of(item->key), item->revision, text_of(item->prev->value), item->prev->mod,
                  there ? text_of(was->value) : "none", there ? was->rev : 0);
    /* A predecessor that was compacted may be missing. */
    if (!item->prev && there && sure && item->revision - 1 >= compacted)
        violation(item->line, "watcher %u: %s at revision %" PRId64 " comes without its predecessor", item->index,
                  text_of(item->key), item->revision);
}

static void check_content(const struct check_item *item)
{
    bool del = item->kind == WATCH_DEL;
    const struct change *change = order_at(&order, item->key, item->revision);
    if (!change || change->rev != item->revision || change->del != del || (!del && !kv_is(item->kv, change))) {
        violation(item->line, "watcher %u gets %s of %s at revision %" PRId64 ", which the order has not", item->index,
                  del ? "a delete" : "a put", text_of(item->key), item->revision);
        return;
    }
    if (change->cause == CAUSE_NONE)
        violation(item->line, "watcher %u gets %s of %s at revision %" PRId64 ", which nobody asked for", item->index,
                  del ? "a delete" : "a put", text_of(item->key), item->revision);
    else if (change->cause == CAUSE_CALL && order.history->calls[change->call].invoke_line >= item->line)
        violation(item->line, "watcher %u gets revision %" PRId64 " before operation %" PRIu64 " was invoked", item->index,
                  item->revision, order.history->calls[change->call].number);
}

static void on_event(struct watcher *w, const struct check_item *item)
{
    event_count++;
    struct change probe = {.key = item->key, .del = item->kind == WATCH_DEL};
    if (!wants(w, &probe))
        violation(item->line, "watcher %u gets an event of %s, which it does not watch", item->index, text_of(item->key));
    if (!w->started) {
        violation(item->line, "watcher %u gets events before it is told where it starts", item->index);
        start_after(w, item->revision - 1);
    }
    if (item->revision <= w->covered) {
        violation(item->line, "watcher %u gets revision %" PRId64 " of %s again or out of order, it has all up to %" PRId64,
                  item->index, item->revision, text_of(item->key), w->covered);
        return;
    }
    if (item->revision < w->last) {
        violation(item->line, "watcher %u gets revision %" PRId64 " of %s after %" PRId64, item->index, item->revision,
                  text_of(item->key), w->last);
        return;
    }
    if (item->revision > w->last) {
        cover(w, item, item->revision - 1);
        w->last = item->revision;
        w->seen_len = 0;
    } else if (has_seen(w, item->key)) {
        violation(item->line, "watcher %u gets %s at revision %" PRId64 " twice", item->index, text_of(item->key), item->revision);
    }
    GROW(w->seen, w->seen_len, w->seen_cap);
    w->seen[w->seen_len++] = item->key;
    check_content(item);
    check_prev(w, item);
}

static void on_item(const struct check_item *item)
{
    if (item->kind == ITEM_INVOKE) {
        const struct check_op *op = &order.history->calls[item->index].op;
        if (op->kind == OP_COMPACT && op->revision > compacted)
            compacted = op->revision;
        return;
    }
    if (item->kind < WATCH_CREATE || item->kind > WATCH_END)
        return;
    struct watcher *w = watcher_of(item);
    if (item->kind != WATCH_CREATE && (!w->made || w->ended)) {
        violation(item->line, "watcher %u is not there, or over", item->index);
        return;
    }
    switch (item->kind) {
    case WATCH_CREATE:
        on_create(w, item);
        break;
    case WATCH_CREATED:
        on_created(w, item);
        break;
    case WATCH_PUT:
    case WATCH_DEL:
        on_event(w, item);
        break;
    case WATCH_PROGRESS:
        bookmark_count++;
        if (w->started)
            cover(w, item, item->revision);
        break;
    case WATCH_RESUME:
        on_resume(w, item);
        break;
    case WATCH_COMPACTED:
        on_compacted(w, item);
        break;
    case WATCH_END:
        w->ended = true;
        if (w->started)
            cover(w, item, item->revision);
        else if (item->revision)
            violation(item->line, "watcher %u ended without ever being told where it starts", item->index);
        break;
    default:
        break;
    }
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: check_watch HISTORY\n");
        return 2;
    }
    static struct check_history history;
    check_read(argv[1], &history);
    order_build(&history, false, &order);
    rank_of = check_alloc((text_count() + 1) * sizeof(*rank_of));
    for (size_t i = 0; i < order.key_count; i++)
        rank_of[order.keys[i]] = (uint32_t)i;
    for (size_t i = 0; i < history.item_count; i++)
        on_item(&history.items[i]);
    return verdict("check_watch", "%zu events to %zu watchers, %zu resumptions, %zu bookmarks, %zu changes in the order",
                   event_count, watcher_count, resume_count, bookmark_count, order.len);
}
