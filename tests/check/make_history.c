/* make_history: the history of a store that does everything right, played by a few clients and watchers from one seed -
   and, if asked to, wrong exactly once. The checkers are tested with it.

   usage: make_history FILE SEED LINES [FAULT]     ends with 3 when there was no occasion for the fault */
#include "history.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEYS 24
#define CLIENTS 10
#define WATCHERS 12
#define LEASES 12
#define LATE_MAX 64
#define TTL_NS 3000000000
#define TXN_MAX 3

static struct history *out;
static uint64_t random_state;
static int64_t now, lines;
static const char *fault;
static bool fault_done, fault_due;

static uint64_t chance(uint64_t bound)
{
    uint64_t z = random_state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return (z ^ (z >> 31)) % bound;
}

static int64_t clock_ns(void *ctx)
{
    (void)ctx;
    lines++;
    return now;
}

static bool plant(const char *kind)
{
    if (!fault || !fault_due || fault_done || strcmp(fault, kind) != 0)
        return false;
    fault_done = true;
    return true;
}
static bool planting(const char *kind) { return fault && fault_due && !fault_done && strcmp(fault, kind) == 0; }


/* ---- the store ---- */
struct version {
    int64_t create, mod, number, lease;
    const char *value; /* kept for good: answers point at it */
    bool gone;
};
static struct {
    char name[8];
    struct version *versions;
    size_t len, cap;
} keys[KEYS];
struct event {
    int key;
    size_t version;
};
static struct event *events;
static size_t event_len, event_cap;
static int64_t revision = 1, acked_revision = 1;
static struct lease {
    int64_t id, until, renewed;
} leases[LEASES];
static int64_t next_lease = 1;

static struct history_bytes text(const char *s) { return (struct history_bytes){s, strlen(s)}; }

static const struct version *newest(int key) { return keys[key].len ? &keys[key].versions[keys[key].len - 1] : NULL; }
static const struct version *present(int key)
{
    const struct version *v = newest(key);
    return v && !v->gone ? v : NULL;
}

static struct history_kv kv_of(int key, const struct version *v)
{
    return (struct history_kv){text(keys[key].name), text(v->value), v->create, v->mod, v->number, v->lease};
}

static void change(int key, const char *value, int64_t lease)
{
    const struct version *was = present(key);
    struct version v = {.mod = revision, .create = was ? was->create : revision, .number = was ? was->number + 1 : 1,
                        .lease = lease, .gone = !value};
    v.value = value ? strdup(value) : "";
    if (keys[key].len == keys[key].cap) {
        keys[key].cap = keys[key].cap ? keys[key].cap * 2 : 64;
        keys[key].versions = realloc(keys[key].versions, keys[key].cap * sizeof(v));
    }
    keys[key].versions[keys[key].len++] = v;
    if (event_len == event_cap) {
        event_cap = event_cap ? event_cap * 2 : 1024;
        events = realloc(events, event_cap * sizeof(*events));
    }
    if (!events || !keys[key].versions)
        abort();
    events[event_len++] = (struct event){key, keys[key].len - 1};
}

/* ---- operations ---- */
struct work {
    enum { IDLE, INVOKED, APPLIED } phase;
    uint64_t number;
    int64_t floor, revision;
    int keys[2];
    char values[2][24];
    struct history_compare compare;
    struct history_op op, then[TXN_MAX], otherwise[TXN_MAX];
    struct history_result result, parts[TXN_MAX];
    struct history_kv kvs[TXN_MAX + KEYS];
    size_t kv_count;
};
static struct work clients[CLIENTS], late[LATE_MAX];
static size_t late_count;
static uint64_t serial;

static int key_of(struct history_bytes name) { return atoi((const char *)name.data + 1); }

static struct history_op make_put(struct work *w, int at)
{
    snprintf(w->values[at], sizeof(w->values[at]), "v%" PRIu64, serial++);
    struct history_op op = {.kind = HISTORY_PUT, .key = text(keys[w->keys[at]].name), .value = text(w->values[at])};
    struct lease *lease = &leases[chance(LEASES)];
    if (chance(6) == 0 && lease->id && lease->until > now)
        op.lease = lease->id;
    return op;
}

static void make_op(struct work *w)
{
    *w = (struct work){.phase = INVOKED, .floor = acked_revision};
    w->keys[0] = (int)chance(KEYS);
    w->keys[1] = (w->keys[0] + 1 + (int)chance(KEYS - 1)) % KEYS;
    struct history_bytes a = text(keys[w->keys[0]].name), b = text(keys[w->keys[1]].name);
    uint64_t dice = chance(100);
    if (dice < 30) {
        w->op = make_put(w, 0);
    } else if (dice < 38) {
        w->op = (struct history_op){.kind = HISTORY_DEL, .key = a};
        if (dice == 30 && w->keys[0] < w->keys[1])
            w->op.end = b;
    } else if (dice < 55) {
        const struct version *v = present(w->keys[0]);
        w->compare = (struct history_compare){.key = a, .target = 'm', .result = '=', .number = v && chance(4) ? v->mod : 0};
        w->then[0] = make_put(w, 0);
        w->otherwise[0] = (struct history_op){.kind = HISTORY_GET, .key = a};
        w->op = (struct history_op){.kind = HISTORY_TXN, .compare_count = 1, .then_count = 1, .otherwise_count = 1};
    } else if (dice < 62) {
        w->then[0] = make_put(w, 0);
        w->then[1] = make_put(w, 1);
        w->op = (struct history_op){.kind = HISTORY_TXN, .then_count = 2};
    } else {
        w->op = (struct history_op){.kind = HISTORY_GET, .key = a};
        if (dice < 70 && w->keys[0] < w->keys[1])
            w->op.end = b;
    }
}

/* Pointers into the work itself must be made anew when it was copied. */
static void settle(struct work *w)
{
    for (int i = 0; i < 2; i++)
        if (w->then[i].kind == HISTORY_PUT && w->op.kind == HISTORY_TXN && w->op.then_count > (size_t)i)
            w->then[i].value = text(w->values[i]);
    if (w->op.kind == HISTORY_PUT)
        w->op.value = text(w->values[0]);
    w->op.compares = &w->compare;
    w->op.then = w->then;
    w->op.otherwise = w->otherwise;
    w->result.results = w->parts;
}

static void read_range(struct work *w, const struct history_op *op, struct history_result *result)
{
    int from = key_of(op->key), to = op->end.data ? key_of(op->end) : from + 1;
    result->kvs = &w->kvs[w->kv_count];
    for (int k = from; k < to; k++)
        if (present(k)) {
            w->kvs[w->kv_count++] = kv_of(k, present(k));
            result->kv_count++;
        }
    result->count = (int64_t)result->kv_count;
}

/* At the revision that is about to be; true when it changed anything. */
static bool apply_one(struct work *w, const struct history_op *op, struct history_result *result)
{
    if (op->kind == HISTORY_PUT) {
        if (!plant("lost-write"))
            change(key_of(op->key), op->value.data, op->lease);
        return true;
    }
    if (op->kind == HISTORY_GET) {
        read_range(w, op, result);
        return false;
    }
    int from = key_of(op->key), to = op->end.data ? key_of(op->end) : from + 1;
    for (int k = from; k < to; k++)
        if (present(k)) {
            change(k, NULL, 0);
            result->count++;
        }
    return result->count > 0;
}

static bool lease_alive(int64_t id)
{
    for (size_t i = 0; !id || i < LEASES; i++)
        if (!id || leases[i].id == id)
            return true;
    return false;
}

/* A read answered from before what had been acknowledged; false when there is no occasion. */
static bool read_stale(struct work *w, bool new_header)
{
    int key = key_of(w->op.key);
    if (w->op.end.data || keys[key].len < 2)
        return false;
    const struct version *last = newest(key), *old = last - 1;
    if (last->mod > w->floor || old->gone)
        return false;
    w->kvs[0] = kv_of(key, old);
    w->result = (struct history_result){.count = 1, .kv_count = 1, .kvs = w->kvs};
    w->revision = new_header ? revision : old->mod;
    return fault_done = true;
}

static void apply(struct work *w)
{
    settle(w);
    w->phase = APPLIED;
    if ((planting("stale-read") || planting("wrong-value")) && w->op.kind == HISTORY_GET && read_stale(w, planting("wrong-value")))
        return;
    if (!lease_alive(w->op.lease) || !lease_alive(w->then[0].lease) || !lease_alive(w->then[1].lease)) {
        w->phase = INVOKED; /* its lease is gone: it will fail */
        w->floor = -1;
        return;
    }
    revision++;
    bool wrote = false;
    if (w->op.kind == HISTORY_TXN) {
        const struct version *now_there = w->op.compare_count ? present(key_of(w->compare.key)) : NULL;
        w->result.succeeded = !w->op.compare_count || (now_there ? now_there->mod : 0) == w->compare.number;
        if (w->op.compare_count && !w->result.succeeded && plant("wrong-branch"))
            w->result.succeeded = true;
        const struct history_op *ops = w->result.succeeded ? w->then : w->otherwise;
        w->result.result_count = w->result.succeeded ? w->op.then_count : w->op.otherwise_count;
        bool torn = w->result.result_count == 2 && plant("torn-transaction");
        for (size_t i = 0; i < w->result.result_count - torn; i++)
            wrote |= apply_one(w, &ops[i], &w->parts[i]);
    } else {
        wrote = apply_one(w, &w->op, &w->result);
    }
    revision -= !wrote;
    w->revision = revision;
}

static void client_step(unsigned id)
{
    struct work *w = &clients[id];
    uint64_t dice = chance(100);
    if (w->phase == IDLE) {
        make_op(w);
        settle(w);
        w->number = history_invoke(out, id, &w->op);
    } else if (w->phase == INVOKED && (dice < 3 || w->floor < 0)) {
        if (w->floor >= 0 && w->op.kind == HISTORY_PUT && plant("failed-yet-done"))
            apply(w);
        history_fail(out, id, w->number, "refused");
        w->phase = IDLE;
    } else if (w->phase == INVOKED && dice < 7) {
        history_unknown(out, id, w->number, "timeout");
        w->phase = IDLE;
        if (late_count < LATE_MAX && chance(2)) {
            late[late_count] = *w;
            settle(&late[late_count++]);
        }
    } else if (w->phase == INVOKED) {
        apply(w);
    } else if (dice < 4) {
        history_unknown(out, id, w->number, "timeout");
        if (w->op.kind == HISTORY_PUT && plant("done-twice"))
            apply(w);
        w->phase = IDLE;
    } else {
        history_ok(out, id, w->number, &w->op, w->revision, &w->result);
        if (w->revision > acked_revision)
            acked_revision = w->revision;
        w->phase = IDLE;
    }
}

static void late_step(void)
{
    if (!late_count || chance(20))
        return;
    size_t at = chance(late_count);
    if (late[at].op.kind != HISTORY_GET)
        apply(&late[at]);
    late[at] = late[--late_count];
    settle(&late[at]);
}

/* ---- leases ---- */
static void lease_call(unsigned client, enum history_kind kind, struct lease *lease, int64_t ttl_s)
{
    struct history_op op = {.kind = kind, .lease = lease->id, .ttl_s = 3};
    uint64_t number = history_invoke(out, client, &op);
    now += 1000;
    struct history_result result = {.lease = lease->id, .ttl_s = ttl_s};
    history_ok(out, client, number, &op, revision, &result);
    if (revision > acked_revision)
        acked_revision = revision;
    lease->until = now + TTL_NS;
}

static void lease_end(struct lease *lease)
{
    bool any = false;
    for (int k = 0; k < KEYS; k++)
        if (present(k) && present(k)->lease == lease->id) {
            revision += !any;
            any = true;
            change(k, NULL, 0);
        }
    lease->id = 0;
}

static bool lease_has_keys(const struct lease *lease)
{
    for (int k = 0; k < KEYS; k++)
        if (present(k) && present(k)->lease == lease->id)
            return true;
    return false;
}

static void lease_step(void)
{
    for (size_t i = 0; i < LEASES; i++) {
        struct lease *lease = &leases[i];
        bool early = lease->id && now < lease->until - TTL_NS / 2 && planting("early-expiry") && lease_has_keys(lease) &&
                     plant("early-expiry");
        if (lease->id && (now > lease->until || early))
            lease_end(lease);
    }
    struct lease *lease = &leases[chance(LEASES)];
    if (!lease->id && chance(60) == 0) {
        lease->id = next_lease++;
        lease_call(CLIENTS, HISTORY_GRANT, lease, 3);
    } else if (lease->id && now > lease->until - TTL_NS / 3 && chance(800) == 0) {
        lease_call(CLIENTS, HISTORY_KEEPALIVE, lease, 3);
    }
}

/* ---- watchers ---- */
static struct watcher {
    int from, to; /* keys */
    unsigned flags;
    size_t next;  /* event */
    int64_t known; /* the revision of the last event or bookmark */
    bool made;
} watchers[WATCHERS];

static void deliver(unsigned id, size_t at, int64_t shift)
{
    const struct event *event = &events[at];
    const struct version *v = &keys[event->key].versions[event->version], *was = event->version ? v - 1 : NULL;
    struct history_kv kv = kv_of(event->key, v), prev;
    kv.mod += shift;
    bool with_prev = was && !was->gone && (watchers[id].flags & HISTORY_WATCH_PREV_KV);
    if (with_prev)
        prev = kv_of(event->key, was);
    if (with_prev && plant("wrong-prev"))
        prev.version++;
    history_watch_event(out, id, v->gone, &kv, with_prev ? &prev : NULL);
}

static bool wanted(const struct watcher *w, size_t at) { return events[at].key >= w->from && events[at].key < w->to; }
static int64_t revision_of(size_t at) { return keys[events[at].key].versions[events[at].version].mod; }

static void watcher_begin(unsigned id)
{
    struct watcher *w = &watchers[id];
    w->from = id < 3 ? 0 : (int)chance(KEYS);
    w->to = id < 3 ? KEYS : w->from + 1 + (int)chance(4);
    w->flags = chance(2) ? HISTORY_WATCH_PREV_KV : 0;
    if (w->to > KEYS)
        w->to = KEYS;
    w->made = true;
    bool from_start = id < 2 || chance(2);
    w->next = from_start ? 0 : event_len;
    w->known = from_start ? 1 : revision;
    history_watch(out, id, text(keys[w->from].name), w->to < KEYS ? text(keys[w->to].name) : text("l"), from_start ? 2 : 0, w->flags);
    history_watch_created(out, id, revision);
}

/* A whole revision, for streams break between responses only. */
static void watcher_deliver(unsigned id)
{
    struct watcher *w = &watchers[id];
    int64_t at_revision = revision_of(w->next);
    size_t first = w->next, sent = 0;
    for (; w->next < event_len && revision_of(w->next) == at_revision; w->next++)
        if (wanted(w, w->next)) {
            if (sent++ == 0 && plant("watch-skip"))
                continue;
            deliver(id, w->next, 0);
        }
    if (sent)
        w->known = at_revision;
    if (sent && plant("watch-repeat"))
        for (size_t i = first; i < w->next; i++)
            if (wanted(w, i))
                deliver(id, i, 0);
    if (sent && plant("watch-invent"))
        for (size_t i = first; i < w->next; i++)
            if (wanted(w, i))
                deliver(id, i, 1);
}

static void watcher_swap(unsigned id)
{
    struct watcher *w = &watchers[id];
    size_t second = w->next + 1;
    if (w->to - w->from < KEYS || second + 1 >= event_len || revision_of(w->next) == revision_of(second) ||
        revision_of(second) == revision_of(second + 1) || (w->next && revision_of(w->next - 1) == revision_of(w->next)))
        return;
    fault_done = true;
    deliver(id, second, 0);
    deliver(id, w->next, 0);
    w->next += 2;
}

static void watcher_step(void)
{
    unsigned id = (unsigned)chance(WATCHERS);
    struct watcher *w = &watchers[id];
    if (!w->made) {
        watcher_begin(id);
        return;
    }
    if (planting("watch-swap"))
        watcher_swap(id);
    if (planting("early-progress") && w->next < event_len && wanted(w, w->next) && plant("early-progress"))
        history_watch_progress(out, id, revision_of(w->next));
    for (uint64_t i = 0; i < 64 && w->next < event_len; i++)
        watcher_deliver(id);
    if (chance(30) == 0 && w->next) {
        w->known = revision_of(w->next - 1);
        history_watch_progress(out, id, w->known);
    }
    if (chance(60) == 0) {
        history_watch_break(out, id, "gone");
        history_watch_resume(out, id, w->known + 1);
    }
}

/* ---- the end ---- */
static void finish(void)
{
    fault_due = true;
    now += 20000000000;
    for (size_t i = 0; i < LEASES; i++)
        if (leases[i].id && !(lease_has_keys(&leases[i]) && plant("immortal")))
            lease_end(&leases[i]);
    for (unsigned id = 0; id < WATCHERS; id++) {
        while (watchers[id].made && watchers[id].next < event_len)
            watcher_deliver(id);
        if (watchers[id].made)
            history_watch_end(out, id, revision);
    }
    for (unsigned member = 1; member <= 3; member++) {
        int64_t count = 0;
        int lost = -1, old = -1;
        for (int k = 0; k < KEYS; k++) {
            count += present(k) != NULL;
            if (member == 2 && present(k) && present(k)->number > 1)
                old = k;
            if (member == 2 && present(k))
                lost = k;
        }
        fault_due = member == 2;
        if (lost < 0 || !plant("lost-at-end"))
            lost = -1;
        if (old < 0 || !plant("old-at-end"))
            old = -1;
        history_final(out, member, revision, count - (lost >= 0));
        for (int k = 0; k < KEYS; k++)
            if (present(k) && k != lost) {
                struct history_kv kv = kv_of(k, k == old ? present(k) - 1 : present(k));
                history_final_kv(out, member, &kv);
            }
        history_hash(out, member, revision, -1, member == 2 && plant("other-hash") ? 8 : 7);
    }
}

int main(int argc, char **argv)
{
    if (argc < 4 || argc > 5) {
        fprintf(stderr, "usage: make_history FILE SEED LINES [FAULT]\n");
        return 2;
    }
    random_state = strtoull(argv[2], NULL, 10) * 7919 + 13;
    int64_t wanted_lines = strtoll(argv[3], NULL, 10);
    fault = argc == 5 ? argv[4] : NULL;
    out = history_open(argv[1], clock_ns, NULL);
    if (!out) {
        perror(argv[1]);
        return 2;
    }
    for (int k = 0; k < KEYS; k++)
        snprintf(keys[k].name, sizeof(keys[k].name), "k%02d", k);
    while (lines < wanted_lines) {
        now += (int64_t)chance(400000);
        fault_due = lines > wanted_lines / 2;
        client_step((unsigned)chance(CLIENTS));
        late_step();
        lease_step();
        if (chance(8) == 0)
            watcher_step();
    }
    finish();
    if (history_close(out) < 0) {
        perror(argv[1]);
        return 2;
    }
    return fault && !fault_done ? 3 : 0;
}
