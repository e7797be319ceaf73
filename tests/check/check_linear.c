/* check_linear: linearizability without trust in revisions. For each key, or few keys that only each other's transactions
   touch, it searches an order of the operations that respects real time and explains every answer (Wing and Gong 1993,
   with Lowe's memory of the configurations that were tried).

   usage: check_linear HISTORY

   A transaction over more keys than a group holds is looked at key by key, as are ranges; check_order judges them whole.
   A revision is a mere token here: what a read shows of a key's mod revision must be what its writer was told. */
#include "linear.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEPS_MAX ((uint64_t)400 << 20)

static uint64_t steps;
static size_t op_count;

/* ---- the state of a group's keys ---- */
struct slot {
    text_id value; /* 0: not there */
    bool leased;
    int64_t mod;   /* 0: not known */
};
struct state {
    struct slot slots[GROUP_KEYS_MAX];
};

/* May the key have gone without that anyone saw it? */
static bool may_vanish(const struct group *group, const struct linear_op *op, const struct slot *slot, uint32_t at)
{
    return slot->leased || group->vanish_line[at] < op->return_line;
}

static bool need_absent(const struct group *group, const struct linear_op *op, struct slot *slot, uint32_t at)
{
    if (slot->value && !may_vanish(group, op, slot, at))
        return false;
    *slot = (struct slot){0};
    return true;
}

static bool need_mod(struct slot *slot, int64_t mod)
{
    if (!slot->value || (slot->mod && slot->mod != mod))
        return false;
    slot->mod = mod;
    return true;
}

static bool step_apply(const struct group *group, const struct linear_op *op, const struct step *step, struct state *state)
{
    struct slot *slot = &state->slots[step->slot];
    bool hidden_put = group->put_line[step->slot] < op->return_line;
    switch (step->kind) {
    case STEP_IS:
        return slot->value == step->value && need_mod(slot, step->mod);
    case STEP_IS_VALUE:
        return slot->value == step->value;
    case STEP_IS_MOD:
        return need_mod(slot, step->mod) || (!slot->value && hidden_put);
    case STEP_IS_NOT_MOD:
        return !slot->value || !slot->mod || slot->mod != step->mod || hidden_put || may_vanish(group, op, slot, step->slot);
    case STEP_ABSENT:
        return need_absent(group, op, slot, step->slot);
    case STEP_PRESENT:
        return slot->value || hidden_put;
    case STEP_PUT:
        *slot = (struct slot){.value = step->value, .mod = step->mod, .leased = step->leased};
        return true;
    case STEP_DELETE:
        *slot = (struct slot){0};
        return true;
    }
    return false;
}

static bool op_apply(const struct group *group, const struct linear_op *op, struct state *state)
{
    steps++;
    for (uint32_t i = 0; i < op->step_count; i++)
        if (!step_apply(group, op, &op->steps[i], state))
            return false;
    return true;
}

/* ---- configurations that were tried: which operations are placed, and the state they led to ---- */
struct tried {
    uint64_t placed, state;
};
static struct tried *tried;
static size_t tried_slots, tried_len;

static uint64_t mix(uint64_t z)
{
    z += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

static uint64_t state_hash(const struct group *group, const struct state *state)
{
    uint64_t hash = 1;
    for (uint32_t i = 0; i < group->key_count; i++) { /* one after the other: a value may have the number of a revision */
        hash = mix(hash ^ (((uint64_t)state->slots[i].value << 1) + state->slots[i].leased));
        hash = mix(hash ^ (uint64_t)state->slots[i].mod);
    }
    return hash;
}

static void tried_put(struct tried what)
{
    size_t at = mix(what.placed ^ what.state) & (tried_slots - 1);
    while (tried[at].state)
        at = (at + 1) & (tried_slots - 1);
    tried[at] = what;
}

/* False when it was there. */
static bool tried_add(uint64_t placed, uint64_t state)
{
    state |= 1; /* 0 marks a free slot */
    if (tried_len * 2 >= tried_slots) {
        struct tried *old = tried;
        size_t old_slots = tried_slots;
        tried_slots = tried_slots ? tried_slots * 2 : 1 << 16;
        tried = calloc(tried_slots, sizeof(*tried));
        if (!tried)
            exit(2);
        for (size_t i = 0; i < old_slots; i++)
            if (old[i].state)
                tried_put(old[i]);
        free(old);
    }
    size_t at = mix(placed ^ state) & (tried_slots - 1);
    for (; tried[at].state; at = (at + 1) & (tried_slots - 1))
        if (tried[at].placed == placed && tried[at].state == state)
            return false;
    tried[at] = (struct tried){placed, state};
    tried_len++;
    return true;
}

/* ---- the search ---- */
/* Begins and ends of operations in the order of their lines: entry 2i is the begin of operation i, 2i+1 its end. */
struct links {
    uint32_t *next, *prev;
    uint32_t head; /* of the list, no entry itself */
};

struct sorted_entry {
    uint32_t line, entry;
};
static int entry_order(const void *a, const void *b)
{
    const struct sorted_entry *x = a, *y = b;
    if (x->line != y->line)
        return x->line < y->line ? -1 : 1;
    /* An observation bounds the observed from above: on one line the end comes last. */
    return (int)(x->entry & 1) - (int)(y->entry & 1);
}

static void links_make(const struct group *group, struct links *links)
{
    size_t count = group->op_count * 2;
    struct sorted_entry *sorted = check_realloc(NULL, count * sizeof(*sorted));
    for (size_t i = 0; i < group->op_count; i++) {
        sorted[i * 2] = (struct sorted_entry){group->ops[i].invoke_line, (uint32_t)(i * 2)};
        sorted[i * 2 + 1] = (struct sorted_entry){group->ops[i].return_line, (uint32_t)(i * 2 + 1)};
    }
    qsort(sorted, count, sizeof(*sorted), entry_order);
    links->next = check_realloc(NULL, (count + 1) * sizeof(uint32_t));
    links->prev = check_realloc(NULL, (count + 1) * sizeof(uint32_t));
    links->head = (uint32_t)count;
    uint32_t last = links->head;
    for (size_t i = 0; i < count; i++) {
        links->next[last] = sorted[i].entry;
        links->prev[sorted[i].entry] = last;
        last = sorted[i].entry;
    }
    links->next[last] = links->head;
    links->prev[links->head] = last;
    free(sorted);
}

static void unlink_entry(struct links *links, uint32_t entry)
{
    links->next[links->prev[entry]] = links->next[entry];
    links->prev[links->next[entry]] = links->prev[entry];
}

static void relink_entry(struct links *links, uint32_t entry)
{
    links->next[links->prev[entry]] = entry;
    links->prev[links->next[entry]] = entry;
}

struct placed {
    uint32_t op;
    struct state before;
};

/* 1: there is an order; 0: none, *ret_stuck is the operation that fits nowhere; -1: too many steps. */
static int search(const struct group *group, uint32_t *ret_stuck)
{
    struct links links;
    links_make(group, &links);
    struct placed *stack = check_realloc(NULL, (group->op_count + 1) * sizeof(*stack));
    size_t depth = 0, deepest = 0;
    struct state state = {0};
    uint64_t placed = 0, budget = steps + STEPS_MAX;
    uint32_t entry = links.next[links.head];
    int verdict_here = 1;
    tried_len = 0;
    if (tried_slots)
        memset(tried, 0, tried_slots * sizeof(*tried));
    while (links.next[links.head] != links.head) {
        if (steps > budget) {
            verdict_here = -1;
            break;
        }
        if (!(entry & 1)) { /* a begin: try to place it here */
            const struct linear_op *op = &group->ops[entry / 2];
            struct state after = state;
            uint64_t after_placed = placed ^ mix(entry);
            if (op_apply(group, op, &after) && tried_add(after_placed, state_hash(group, &after))) {
                stack[depth++] = (struct placed){entry / 2, state};
                state = after;
                placed = after_placed;
                unlink_entry(&links, entry + 1);
                unlink_entry(&links, entry);
                entry = links.next[links.head];
            } else {
                entry = links.next[entry];
            }
            continue;
        }
        /* An end that cannot be passed: what was placed last was wrong. */
        if (depth >= deepest) {
            deepest = depth;
            *ret_stuck = entry / 2;
        }
        if (!depth) {
            verdict_here = 0;
            break;
        }
        depth--;
        state = stack[depth].before;
        uint32_t back = stack[depth].op * 2;
        placed ^= mix(back);
        relink_entry(&links, back);
        relink_entry(&links, back + 1);
        entry = links.next[back];
    }
    free(links.next);
    free(links.prev);
    free(stack);
    return verdict_here;
}

static void check_group(const struct group *group, const struct check_history *history)
{
    uint32_t stuck = 0;
    if (!group->op_count)
        return;
    op_count += group->op_count;
    int found = search(group, &stuck);
    const struct linear_op *op = &group->ops[stuck];
    if (found == 0)
        violation(op->return_line, "key %s%s: operation %" PRIu64 ", invoked on line %u, fits into no order",
                  text_of(group->keys[0]), group->key_count > 1 ? " and its like" : "", history->calls[op->call].number,
                  op->invoke_line);
    else if (found < 0)
        violation(0, "key %s: undecided after %" PRIu64 " steps", text_of(group->keys[0]), STEPS_MAX);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: check_linear HISTORY\n");
        return 2;
    }
    static struct check_history history;
    check_read(argv[1], &history);
    struct group *groups;
    size_t skipped, group_count = linear_groups(&history, &groups, &skipped);
    for (size_t i = 0; i < group_count; i++)
        check_group(&groups[i], &history);
    return verdict("check_linear", "%zu groups of keys, %zu operations on them, %" PRIu64 " steps of search%s", group_count,
                   op_count, steps, skipped ? "; some keys have a value written twice and are left out" : "");
}
