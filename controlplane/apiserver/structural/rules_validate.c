/* Rules asked of objects (apiextensions-apiserver pkg/apiserver/schema/cel/validation.go): in upstream's order, within its budget, and of what an update
 * leaves as it was only a warning. */
#include "controlplane/apiserver/structural/structural_internal.h"

#include <ctype.h>

#define SCRATCH_MAX (CEL_MEMORY_MAX + ((size_t)4 << 20)) /* of one evaluation, with what it is given */

struct ruler {
    struct field_errors *errors;
    struct kp_string_list *warnings;
    struct kp_arena *scratch;
    int64_t budget; /* negative: nothing more is asked */
};

/* A value and what it was before the update, when that can be told. */
struct pair {
    const struct snode *node;
    const struct kp_value *value, *old;
};
/* Whether an error is of the update: not when the value, or the nearest one around it that has an old one, is as it was. */
struct ratchet {
    struct pair current, parent; /* node NULL: there is none */
};

static bool unchanged(const struct pair *pair)
{
    return pair->node && pair->value && pair->old && kp_value_equal(pair->value, pair->old);
}

/* ---- errors -------------------------------------------------------------------------------------------------------------------------------------- */
static const char *trimmed(const char *s, struct kp_arena *arena)
{
    while (*s && isspace((unsigned char)*s))
        s++;
    size_t len = strlen(s);
    while (len > 0 && isspace((unsigned char)s[len - 1]))
        len--;
    return kp_arena_strndup(arena, s, len);
}

static const char *rule_name(const struct ruler *r, const struct srule *rule)
{
    return trimmed(*rule->message ? rule->message : rule->rule, r->errors->arena);
}

static const char *path_text(const struct ruler *r, const struct spath *path)
{
    const char *text = spath_text(path, r->errors->arena);
    return *text ? text : "<nil>";
}

/* The type as the schema writes it, which messages have in place of a value. */
static const char *type_name(const struct snode *node)
{
    return node->int_or_string || !node->type_text ? "" : node->type_text;
}

static void type_error(struct ruler *r, const struct snode *node, const struct spath *path, const char *format, ...) KP_PRINTF(4, 5);
static void type_error(struct ruler *r, const struct snode *node, const struct spath *path, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    const char *detail = kp_arena_vprintf(r->errors->arena, format, ap);
    va_end(ap);
    if (r->errors->len < FIELD_ERRORS_MAX)
        field_invalid(r->errors, type_name(node), detail, "%s", path_text(r, path));
}

/* What a rule that does not hold says, by its reason. */
static const char *failure(const struct ruler *r, const struct pair *at, const struct srule *rule, const char *detail, const char **ret_reason)
{
    struct kp_arena *arena = r->errors->arena;
    const char *reason = *ret_reason = rule->reason ? rule->reason : "FieldValueInvalid";
    bool container = at->node->types == TYPE_OBJECT || at->node->types == TYPE_ARRAY;
    const char *value = container ? "" : kp_arena_printf(arena, ": %s", value_text(at->value, arena));
    if (strcmp(reason, "FieldValueForbidden") == 0)
        return kp_arena_printf(arena, "Forbidden: %s", detail);
    if (strcmp(reason, "FieldValueRequired") == 0)
        return kp_arena_printf(arena, "Required value: %s", detail);
    if (strcmp(reason, "FieldValueDuplicate") == 0)
        return kp_arena_printf(arena, "Duplicate value%s", value);
    return kp_arena_printf(arena, "Invalid value%s: %s", value, detail);
}

static void tell(struct ruler *r, const struct pair *at, const struct srule *rule, const char *detail, const struct spath *path, bool ratcheted)
{
    const char *reason, *field = path_text(r, rule->below ? &SPATH_CHILD(path, rule->below) : path);
    const char *message = failure(r, at, rule, detail, &reason);
    if (ratcheted)
        kp_string_list_add(r->errors->arena, r->warnings, kp_arena_printf(r->errors->arena, "%s: %s", field, message));
    else if (r->errors->len < FIELD_ERRORS_MAX)
        field_add(r->errors, reason, message, "%s", field);
}

/* ---- one rule ---------------------------------------------------------------------------------------------------------------------------------------- */
static struct cel_value run(struct ruler *r, const struct cel_program *program, const struct srule *rule, const struct pair *at, uint64_t *ret_cost)
{
    struct cel_value values[2] = {cel_of_tree(at->value, at->node->cel, r->scratch)};
    struct cel_value old = cel_of_tree(at->old, at->node->cel, r->scratch), *copy = KP_NEW(r->scratch, struct cel_value);
    *copy = old;
    values[1] = rule->optional_old ? (struct cel_value){.kind = CEL_OPTIONAL, .optional = at->old ? copy : NULL} : old;
    return cel_evaluate(program, values, r->scratch, CEL_CALL_COST_MAX, ret_cost);
}

/* What a rule's expression makes of its message; NULL: what was written is taken. false: the budget is used up. */
static bool run_message(struct ruler *r, const struct srule *rule, const struct pair *at, const char **ret_detail, const char **ret_fault)
{
    uint64_t cost = 0;
    struct cel_value result = run(r, rule->message_program, rule, at, &cost);
    *ret_detail = NULL;
    if (cost > (uint64_t)r->budget) {
        *ret_fault = "messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run";
        return false;
    }
    if (cel_is_over_limit(&result)) {
        *ret_fault = kp_arena_printf(r->errors->arena, "no further validation rules will be run due to call cost exceeds limit for messageExpression: %s",
                                     quoted_text(rule->message_expression, r->errors->arena));
        return false;
    }
    r->budget -= (int64_t)cost;
    if (result.kind != CEL_STRING || result.text.len > CEL_MESSAGE_BYTES_MAX * 2)
        return true;
    const char *text = trimmed(kp_arena_strndup(r->scratch, result.text.data, result.text.len), r->errors->arena);
    if (*text && strlen(text) <= CEL_MESSAGE_BYTES_MAX && !strchr(text, '\n'))
        *ret_detail = text;
    return true;
}

static void fail(struct ruler *r, const struct srule *rule, const struct pair *at, const struct spath *path, const struct ratchet *ratchet)
{
    const char *detail = NULL, *fault = NULL;
    bool ratcheted = !rule->uses_old && unchanged(ratchet->current.node ? &ratchet->current : &ratchet->parent);
    if (rule->message_program && !run_message(r, rule, at, &detail, &fault)) {
        type_error(r, at->node, path, "%s", fault);
        r->budget = -1;
        return;
    }
    if (!detail)
        detail = *rule->message ? rule_name(r, rule) : kp_arena_printf(r->errors->arena, "failed rule: %s", rule_name(r, rule));
    tell(r, at, rule, detail, path, ratcheted);
}

static void ask(struct ruler *r, const struct srule *rule, const struct pair *at, const struct spath *path, const struct ratchet *ratchet)
{
    uint64_t cost = 0;
    if (rule->fault) {
        type_error(r, at->node, path, "rule compile error: %s", rule->fault);
        return;
    }
    if (!rule->program || (rule->uses_old && !at->old && !rule->optional_old))
        return;
    kp_arena_reset(r->scratch);
    struct cel_value result = run(r, rule->program, rule, at, &cost);
    if (cost > (uint64_t)r->budget) {
        type_error(r, at->node, path, "validation failed due to running out of cost budget, no further validation rules will be run");
        r->budget = -1;
        return;
    }
    r->budget -= (int64_t)cost;
    if (result.kind == CEL_BOOL && result.boolean)
        return;
    if (result.kind != CEL_ERROR) {
        fail(r, rule, at, path, ratchet);
    } else if (kp_starts_with(result.error, "no such overload")) {
        type_error(r, at->node, path, "'%s': call arguments did not match a supported operator, function or macro signature for rule: %s", result.error,
                   rule_name(r, rule));
    } else if (cel_is_over_limit(&result)) {
        type_error(r, at->node, path, "'%s': no further validation rules will be run due to call cost exceeds limit for rule: %s", result.error,
                   rule_name(r, rule));
        r->budget = -1;
    } else {
        type_error(r, at->node, path, "%s evaluating rule: %s", result.error, rule_name(r, rule));
    }
}

/* ---- the tree ------------------------------------------------------------------------------------------------------------------------------------------ */
static void visit(struct ruler *r, const struct snode *rules, const struct pair *at, const struct spath *path, const struct ratchet *ratchet);

static void visit_rules(struct ruler *r, const struct snode *rules, const struct pair *at, const struct spath *path, const struct ratchet *ratchet)
{
    if (rules->n_rules > 0 && r->budget <= 0) {
        type_error(r, at->node, path, "validation failed due to running out of cost budget, no further validation rules will be run");
        r->budget = -1;
    }
    for (size_t i = 0; i < rules->n_rules && at->node->cel && r->budget >= 0; i++)
        ask(r, &rules->rules[i], at, path, ratchet);
}

static struct ratchet below(const struct ratchet *ratchet, const struct pair *child, bool correlated)
{
    if (!ratchet->current.node)
        return *ratchet;
    return (struct ratchet){.current = correlated ? *child : (struct pair){0}, .parent = ratchet->current};
}

static void visit_members(struct ruler *r, const struct snode *rules, const struct pair *at, const struct spath *path, const struct ratchet *ratchet)
{
    for (size_t i = 0; i < at->value->object.len && r->budget >= 0; i++) {
        const struct kp_member *member = &at->value->object.members[i];
        const struct snode *property = snode_property(rules, member->key), *inside = property ? property : rules->additional;
        if (!inside || !inside->has_rules)
            continue;
        const struct pair child = {snode_member(at->node, member->key), member->value, kp_value_get(at->old, member->key)};
        if (!child.node)
            continue;
        bool hidden = !ratchet->parent.node && (strcmp(member->key, "apiVersion") == 0 || strcmp(member->key, "kind") == 0);
        const struct ratchet next = hidden && ratchet->current.node ? (struct ratchet){0} : below(ratchet, &child, at->old && at->old->kind == KP_VALUE_OBJECT);
        const struct spath field = SPATH_CHILD(path, member->key), key = SPATH_OF_KEY(path, member->key);
        visit(r, inside, &child, property ? &field : &key, &next);
    }
}

/* What tells an item of a list of type map apart, as text. */
static const char *item_key(const struct snode *node, const struct kp_value *item, struct kp_buf *out)
{
    out->len = 0;
    for (size_t i = 0; i < node->list_map_keys.len; i++) {
        const struct kp_value *part = kp_value_get(item, node->list_map_keys.items[i]);
        if (part)
            kp_value_print_sorted(part, out);
        kp_buf_putc(out, ',');
    }
    return out->data ? out->data : "";
}

static void visit_items(struct ruler *r, const struct snode *rules, const struct pair *at, const struct spath *path, const struct ratchet *ratchet)
{
    KP_AUTO_BUF struct kp_buf key = {0};
    const struct snode *node = at->node;
    struct kp_strmap *old_items = kp_strmap_new();
    if (!rules->items || !rules->items->has_rules || !node->items) {
        kp_strmap_free(old_items, NULL);
        return;
    }
    if (node->list_map && at->old && at->old->kind == KP_VALUE_ARRAY)
        for (size_t i = 0; i < at->old->array.len; i++)
            kp_strmap_put(old_items, item_key(node, at->old->array.items[i], &key), at->old->array.items[i]);
    for (size_t i = 0; i < at->value->array.len && r->budget >= 0; i++) {
        const struct kp_value *item = at->value->array.items[i];
        const struct kp_value *old = node->list_map ? kp_strmap_get(old_items, item_key(node, item, &key)) : NULL;
        const struct pair child = {node->items, item, old};
        const struct ratchet next = below(ratchet, &child, old != NULL);
        visit(r, rules->items, &child, &SPATH_OF_INDEX(path, i), &next);
    }
    kp_strmap_free(old_items, NULL);
}

/* rules: the schema whose rules they are; at->node: the one that says what the value is - another within allOf. */
static void visit(struct ruler *r, const struct snode *rules, const struct pair *at, const struct spath *path, const struct ratchet *ratchet)
{
    if (!rules->has_rules || at->value->kind == KP_VALUE_NULL || r->budget < 0)
        return;
    visit_rules(r, rules, at, path, ratchet);
    const struct ratchet uncorrelated = {.parent = ratchet->parent};
    for (size_t i = 0; i < rules->all_of.len && r->budget >= 0; i++)
        visit(r, rules->all_of.items[i], at, path, &uncorrelated);
    if (at->value->kind == KP_VALUE_OBJECT)
        visit_members(r, rules, at, path, ratchet);
    else if (at->value->kind == KP_VALUE_ARRAY)
        visit_items(r, rules, at, path, ratchet);
}

static bool blocks(const struct api_cause *error)
{
    static const char *const reasons[] = {"FieldValueNotSupported", "FieldValueRequired", "FieldValueTooLong", "FieldValueTooMany", "FieldValueTypeInvalid"};
    for (size_t i = 0; i < KP_ARRAY_LEN(reasons); i++)
        if (kp_streq(error->reason, reasons[i]))
            return true;
    return false;
}

void structural_rules(const struct structural *structural, const struct kp_value *object, const struct kp_value *old, struct field_errors *errors,
                      struct kp_string_list *warnings)
{
    if (!structural->root->has_rules)
        return;
    for (size_t i = 0; i < errors->len; i++)
        if (blocks(&errors->items[i])) {
            field_invalid(errors, "null", "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation",
                          "<nil>");
            return;
        }
    KP_AUTO(kp_arena_free) struct kp_arena *scratch = kp_arena_new(SCRATCH_MAX);
    struct ruler r = {errors, warnings, scratch, CEL_BUDGET};
    const struct pair root = {structural->root, object, old};
    const struct ratchet ratchet = {.current = old ? root : (struct pair){0}};
    visit(&r, structural->root, &root, &SPATH_ROOT(""), &ratchet);
}
