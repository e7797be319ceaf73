/* Makes groups of keys and reduces every operation to steps on them. */
#include "linear.h"

#include <stdlib.h>
#include <string.h>

/* ---- which values were seen ---- */
struct written {
    text_id key, value;
    uint32_t calls;     /* how many may have written it */
    uint32_t seen_line; /* where it was first seen; UINT32_MAX: nowhere */
    int64_t mod;
};
struct maker {
    const struct check_history *history;
    struct written *written;
    size_t slots;
    uint32_t *parent;   /* by text_id: union-find over keys */
    uint32_t *sizes;
    uint32_t *group_at; /* by text_id: index + 1 of the key's group */
    uint32_t *slot_at;
    bool *is_key, *skip;
    struct group *groups;
    size_t group_count, group_cap;
};

static size_t mix(uint64_t a, uint64_t b)
{
    uint64_t h = (a * 0x9e3779b97f4a7c15) ^ (b * 0xc2b2ae3d27d4eb4f);
    return (size_t)(h ^ (h >> 31));
}

static struct written *written_at(struct maker *m, text_id key, text_id value)
{
    size_t at = mix(key, value) & (m->slots - 1);
    while (m->written[at].key && (m->written[at].key != key || m->written[at].value != value))
        at = (at + 1) & (m->slots - 1);
    return &m->written[at];
}

static void count_puts(struct maker *m, const struct check_op *op)
{
    if (op->kind == OP_PUT) {
        struct written *w = written_at(m, op->key, op->value);
        if (!w->key)
            *w = (struct written){.key = op->key, .value = op->value, .seen_line = UINT32_MAX};
        w->calls++;
    }
    for (uint32_t i = 0; i < op->then_count; i++)
        count_puts(m, &op->then[i]);
    for (uint32_t i = 0; i < op->otherwise_count; i++)
        count_puts(m, &op->otherwise[i]);
}

static void see(struct maker *m, const struct check_kv *kv, uint32_t line)
{
    struct written *w = written_at(m, kv->key, kv->value);
    if (w->key && line < w->seen_line) {
        w->seen_line = line;
        w->mod = kv->mod;
    }
}

static void see_result(struct maker *m, const struct check_result *result, uint32_t line)
{
    for (uint32_t i = 0; i < result->kv_count; i++)
        see(m, &result->kvs[i], line);
    for (uint32_t i = 0; i < result->result_count; i++)
        see_result(m, &result->results[i], line);
}

static size_t puts_in(const struct check_op *op)
{
    size_t count = op->kind == OP_PUT;
    for (uint32_t i = 0; i < op->then_count; i++)
        count += puts_in(&op->then[i]);
    for (uint32_t i = 0; i < op->otherwise_count; i++)
        count += puts_in(&op->otherwise[i]);
    return count;
}

static void gather_values(struct maker *m)
{
    const struct check_history *history = m->history;
    size_t puts = 0;
    for (size_t i = 0; i < history->call_count; i++)
        puts += puts_in(&history->calls[i].op);
    for (m->slots = 1024; m->slots < puts * 2;)
        m->slots *= 2;
    m->written = calloc(m->slots, sizeof(*m->written));
    if (!m->written)
        exit(2);
    for (size_t i = 0; i < history->call_count; i++)
        count_puts(m, &history->calls[i].op);
    for (size_t i = 0; i < history->call_count; i++)
        if (history->calls[i].outcome == OUTCOME_OK)
            see_result(m, &history->calls[i].result, history->calls[i].return_line);
    for (size_t i = 0; i < history->item_count; i++) {
        const struct check_item *item = &history->items[i];
        if (item->kv)
            see(m, item->kv, item->line);
        if (item->prev)
            see(m, item->prev, item->line);
    }
}

/* ---- groups ---- */
static uint32_t root(struct maker *m, uint32_t key)
{
    while (m->parent[key] != key)
        key = m->parent[key] = m->parent[m->parent[key]];
    return key;
}

static void unite(struct maker *m, text_id *first, text_id key)
{
    m->is_key[key] = true;
    if (!*first) {
        *first = key;
        return;
    }
    uint32_t a = root(m, *first), b = root(m, key);
    if (a == b)
        return;
    m->parent[a] = b;
    m->sizes[b] += m->sizes[a];
}

/* Ranges tie nothing together. */
static void unite_op(struct maker *m, const struct check_op *op, text_id *first)
{
    if (op->kind == OP_PUT || ((op->kind == OP_GET || op->kind == OP_DEL) && !op->end))
        unite(m, first, op->key);
    for (uint32_t i = 0; i < op->compare_count; i++)
        unite(m, first, op->compares[i].key);
    for (uint32_t i = 0; i < op->then_count; i++)
        unite_op(m, &op->then[i], first);
    for (uint32_t i = 0; i < op->otherwise_count; i++)
        unite_op(m, &op->otherwise[i], first);
}

static void skip_ambiguous(struct maker *m, const struct check_op *op, size_t *skipped)
{
    if (op->kind == OP_PUT && !m->skip[op->key] && written_at(m, op->key, op->value)->calls > 1) {
        m->skip[op->key] = true;
        ++*skipped;
    }
    for (uint32_t i = 0; i < op->then_count; i++)
        skip_ambiguous(m, &op->then[i], skipped);
    for (uint32_t i = 0; i < op->otherwise_count; i++)
        skip_ambiguous(m, &op->otherwise[i], skipped);
}

static uint32_t group_new(struct maker *m)
{
    GROW(m->groups, m->group_count, m->group_cap);
    struct group *group = &m->groups[m->group_count];
    *group = (struct group){0};
    for (size_t i = 0; i < GROUP_KEYS_MAX; i++)
        group->vanish_line[i] = group->put_line[i] = UINT32_MAX;
    return (uint32_t)++m->group_count;
}

static void groups_make(struct maker *m, size_t *skipped)
{
    const struct check_history *history = m->history;
    size_t count = text_count() + 1;
    m->parent = check_realloc(NULL, count * sizeof(*m->parent));
    m->sizes = check_realloc(NULL, count * sizeof(*m->sizes));
    m->group_at = check_alloc(count * sizeof(*m->group_at));
    m->slot_at = check_alloc(count * sizeof(*m->slot_at));
    m->is_key = check_alloc(count);
    m->skip = check_alloc(count);
    for (uint32_t i = 0; i < count; i++) {
        m->parent[i] = i;
        m->sizes[i] = 1;
    }
    for (size_t i = 0; i < history->call_count; i++) {
        text_id first = 0;
        unite_op(m, &history->calls[i].op, &first);
        if (history->calls[i].outcome == OUTCOME_UNKNOWN || history->calls[i].outcome == OUTCOME_OPEN)
            skip_ambiguous(m, &history->calls[i].op, skipped);
    }
    uint32_t *of_root = check_alloc(count * sizeof(*of_root));
    for (uint32_t key = 1; key < count; key++) {
        if (!m->is_key[key] || m->skip[key])
            continue;
        uint32_t at = root(m, key);
        bool joint = m->sizes[at] <= GROUP_KEYS_MAX;
        uint32_t group = joint && of_root[at] ? of_root[at] : group_new(m);
        if (joint)
            of_root[at] = group;
        m->group_at[key] = group;
        m->slot_at[key] = m->groups[group - 1].key_count;
        m->groups[group - 1].keys[m->groups[group - 1].key_count++] = key;
    }
}

/* ---- steps ---- */
static void step_add(struct maker *m, const struct check_call *call, uint32_t return_line, text_id key, struct step step)
{
    if (!m->group_at[key])
        return;
    struct group *group = &m->groups[m->group_at[key] - 1];
    uint32_t index = (uint32_t)(call - m->history->calls);
    if (!group->op_count || group->ops[group->op_count - 1].call != index) {
        GROW(group->ops, group->op_count, group->op_cap);
        group->ops[group->op_count++] = (struct linear_op){.call = index, .invoke_line = call->invoke_line,
                                                           .return_line = return_line};
    }
    struct linear_op *op = &group->ops[group->op_count - 1];
    step.slot = m->slot_at[key];
    GROW(op->steps, op->step_count, op->step_cap);
    op->steps[op->step_count++] = step;
}

static void add_kv(struct maker *m, const struct check_call *call, const struct check_kv *kv)
{
    step_add(m, call, call->return_line, kv->key, (struct step){.kind = STEP_IS, .value = kv->value, .mod = kv->mod});
}

/* A range says of each key that it is there, or not; of what a limit cut off nothing. */
static void add_get(struct maker *m, const struct check_call *call, const struct check_op *op, const struct check_result *result)
{
    for (uint32_t i = 0; i < result->kv_count; i++)
        add_kv(m, call, &result->kvs[i]);
    if (!op->end) {
        if (!result->kv_count)
            step_add(m, call, call->return_line, op->key, (struct step){.kind = STEP_ABSENT});
        return;
    }
    text_id last = result->more && result->kv_count ? result->kvs[result->kv_count - 1].key : 0;
    if (result->more && !last)
        return;
    for (size_t g = 0; g < m->group_count; g++)
        for (uint32_t k = 0; k < m->groups[g].key_count; k++) {
            text_id key = m->groups[g].keys[k];
            bool there = false;
            if (!text_in_range(key, op->key, op->end) || (last && text_compare(key, last) > 0))
                continue;
            for (uint32_t i = 0; i < result->kv_count && !there; i++)
                there = result->kvs[i].key == key;
            if (!there)
                step_add(m, call, call->return_line, key, (struct step){.kind = STEP_ABSENT});
        }
}

static void add_del(struct maker *m, const struct check_call *call, const struct check_op *op, const struct check_result *result)
{
    for (uint32_t i = 0; i < result->kv_count; i++)
        add_kv(m, call, &result->kvs[i]);
    if (!op->end) {
        step_add(m, call, call->return_line, op->key, (struct step){.kind = result->count ? STEP_PRESENT : STEP_ABSENT});
        step_add(m, call, call->return_line, op->key, (struct step){.kind = STEP_DELETE});
        return;
    }
    for (size_t g = 0; g < m->group_count; g++)
        for (uint32_t k = 0; k < m->groups[g].key_count; k++)
            if (text_in_range(m->groups[g].keys[k], op->key, op->end))
                step_add(m, call, call->return_line, m->groups[g].keys[k],
                         (struct step){.kind = result->count ? STEP_DELETE : STEP_ABSENT});
}

static void add_put(struct maker *m, const struct check_call *call, const struct check_op *op, const struct check_result *result)
{
    for (uint32_t i = 0; result && i < result->kv_count; i++)
        add_kv(m, call, &result->kvs[i]);
    step_add(m, call, call->return_line, op->key,
             (struct step){.kind = STEP_PUT, .value = op->value, .mod = call->revision, .leased = op->lease != 0});
}

/* What the outcome of a comparison says of its key; nothing where it could be put in no step. */
static void add_compare(struct maker *m, const struct check_call *call, const struct check_compare *compare, bool held)
{
    struct step step = {.mod = compare->number, .value = compare->value};
    bool counts = compare->target == 'm' || compare->target == 'c' || compare->target == 'v';
    bool absent = counts && compare->result == '=' && compare->number == 0;
    bool present = counts && ((compare->result == '>' || compare->result == '!') && compare->number == 0);
    if (absent || present)
        step.kind = absent == held ? STEP_ABSENT : STEP_PRESENT;
    else if (compare->target == 'm' && compare->result == '=')
        step.kind = held ? STEP_IS_MOD : STEP_IS_NOT_MOD;
    else if (compare->target == 'V' && compare->result == '=' && held)
        step.kind = STEP_IS_VALUE;
    else
        return;
    step_add(m, call, call->return_line, compare->key, step);
}

static void add_txn(struct maker *m, const struct check_call *call)
{
    const struct check_op *op = &call->op;
    const struct check_result *result = &call->result;
    /* Which one of several comparisons failed is not told. */
    if (result->succeeded || op->compare_count == 1)
        for (uint32_t i = 0; i < op->compare_count; i++)
            add_compare(m, call, &op->compares[i], result->succeeded);
    const struct check_op *ops = result->succeeded ? op->then : op->otherwise;
    for (uint32_t i = 0; i < result->result_count; i++) {
        struct check_result part = result->results[i];
        if (ops[i].kind == OP_PUT)
            add_put(m, call, &ops[i], &part);
        else if (ops[i].kind == OP_DEL)
            add_del(m, call, &ops[i], &part);
        else
            add_get(m, call, &ops[i], &part);
    }
}

static void add_answered(struct maker *m, const struct check_call *call)
{
    switch (call->op.kind) {
    case OP_PUT:
        add_put(m, call, &call->op, &call->result);
        break;
    case OP_DEL:
        add_del(m, call, &call->op, &call->result);
        break;
    case OP_GET:
        if (!call->op.serializable && !call->op.revision)
            add_get(m, call, &call->op, &call->result);
        break;
    case OP_TXN:
        add_txn(m, call);
        break;
    default:
        break;
    }
}

/* ---- calls without an answer ---- */
static void lower(uint32_t *line, uint32_t to)
{
    if (to < *line)
        *line = to;
}

static void note_hidden(struct maker *m, const struct check_call *call, const struct check_op *op)
{
    if (op->kind == OP_PUT && m->group_at[op->key]) {
        lower(&m->groups[m->group_at[op->key] - 1].put_line[m->slot_at[op->key]], call->invoke_line);
        if (op->lease) /* the key may have gone with it */
            lower(&m->groups[m->group_at[op->key] - 1].vanish_line[m->slot_at[op->key]], call->invoke_line);
    }
    if (op->kind == OP_DEL)
        for (size_t g = 0; g < m->group_count; g++)
            for (uint32_t k = 0; k < m->groups[g].key_count; k++)
                if (text_in_range(m->groups[g].keys[k], op->key, op->end))
                    lower(&m->groups[g].vanish_line[k], call->invoke_line);
    for (uint32_t i = 0; i < op->then_count; i++)
        note_hidden(m, call, &op->then[i]);
    for (uint32_t i = 0; i < op->otherwise_count; i++)
        note_hidden(m, call, &op->otherwise[i]);
}

/* The first of the puts that anyone saw, or NULL. */
static const struct written *seen_of(struct maker *m, const struct check_op *ops, uint32_t count)
{
    const struct written *first = NULL;
    for (uint32_t i = 0; i < count; i++) {
        const struct written *w = ops[i].kind == OP_PUT ? written_at(m, ops[i].key, ops[i].value) : NULL;
        if (w && w->seen_line != UINT32_MAX && (!first || w->seen_line < first->seen_line))
            first = w;
    }
    return first;
}

/* A put that was seen was done before it was seen. One that never was, and a delete, may be or not: what needs them may
   suppose them (hidden lines). */
static void add_unanswered(struct maker *m, const struct check_call *call)
{
    const struct check_op *op = &call->op;
    const struct check_op *ops = op->kind == OP_TXN ? op->then : op;
    uint32_t count = op->kind == OP_TXN ? op->then_count : 1;
    const struct written *seen = seen_of(m, ops, count);
    if (!seen && op->kind == OP_TXN) {
        ops = op->otherwise;
        count = op->otherwise_count;
        seen = seen_of(m, ops, count);
    }
    if (!seen) {
        note_hidden(m, call, op);
        return;
    }
    struct check_call known = *call;
    known.return_line = seen->seen_line;
    known.revision = seen->mod;
    for (uint32_t i = 0; i < count; i++) {
        if (ops[i].kind == OP_DEL)
            note_hidden(m, call, &ops[i]);
        if (ops[i].kind == OP_PUT)
            step_add(m, call, known.return_line, ops[i].key,
                     (struct step){.kind = STEP_PUT, .value = ops[i].value, .mod = known.revision, .leased = ops[i].lease != 0});
    }
}

size_t linear_groups(const struct check_history *history, struct group **ret_groups, size_t *ret_skipped)
{
    struct maker *m = check_alloc(sizeof(*m));
    m->history = history;
    *ret_skipped = 0;
    gather_values(m);
    groups_make(m, ret_skipped);
    for (size_t i = 0; i < history->call_count; i++) {
        const struct check_call *call = &history->calls[i];
        if (call->outcome == OUTCOME_OK)
            add_answered(m, call);
        else if (call->outcome != OUTCOME_FAIL)
            add_unanswered(m, call);
    }
    free(m->written);
    *ret_groups = m->groups;
    return m->group_count;
}
