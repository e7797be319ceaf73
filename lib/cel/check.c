/* What type every part of an expression has, and what is wrong with it, in cel-go's words (checker/checker.go). */
#include "lib/cel/cel_internal.h"

#define TEXT(type) cel_type_text((type), c->arena)

static const struct scope *find_local(const struct checker *c, const char *name)
{
    for (const struct scope *scope = c->scope; scope; scope = scope->up)
        if (strcmp(scope->name, name) == 0)
            return scope;
    return NULL;
}

static const struct cel_type *literal_type(const struct cel_value *value)
{
    switch (value->kind) {
    case CEL_NULL:
        return &cel_null;
    case CEL_BOOL:
        return &cel_bool;
    case CEL_INT:
        return &cel_int;
    case CEL_UINT:
        return &cel_uint;
    case CEL_DOUBLE:
        return &cel_double;
    case CEL_BYTES:
        return &cel_bytes;
    default:
        return &cel_string;
    }
}

static void make_type_literal(struct expr *e, const struct cel_type *type)
{
    e->kind = EXPR_LITERAL;
    e->literal = (struct cel_value){.kind = CEL_TYPE, .type = type->params[0]};
    e->type = type;
}

/* Variables of the environment, then names of types. */
static bool resolve_global(struct checker *c, struct expr *e, const char *name)
{
    for (size_t i = 0; i < c->env->n_variables; i++)
        if (strcmp(c->env->variables[i].name, name) == 0) {
            e->kind = EXPR_IDENT;
            e->ident.name = name;
            e->ident.slot = i;
            e->ident.local = false;
            e->type = c->env->variables[i].type;
            c->uses[i] = true;
            return true;
        }
    const struct cel_type *type = type_ident(name);
    if (type)
        make_type_literal(e, type);
    return type != NULL;
}

static void check_ident(struct checker *c, struct expr *e)
{
    const char *name = e->ident.name;
    const struct scope *local = find_local(c, name);
    if (local) {
        e->ident.slot = local->slot;
        e->ident.local = true;
        e->type = local->type;
        return;
    }
    if (resolve_global(c, e, name[0] == '.' ? name + 1 : name))
        return;
    fault_add(c->source, e->at, "undeclared reference to '%s' (in container '')", name);
    e->type = &cel_fault_type;
}

const char *qualified_name(struct checker *c, const struct expr *e)
{
    if (e->kind == EXPR_IDENT)
        return e->ident.name;
    if (e->kind != EXPR_SELECT || e->select.test)
        return NULL;
    const char *operand = qualified_name(c, e->select.operand);
    return operand ? kp_arena_printf(c->arena, "%s.%s", operand, e->select.field) : NULL;
}

static const struct expr *root_of(const struct expr *e)
{
    while (e->kind == EXPR_SELECT)
        e = e->select.operand;
    return e;
}

const struct cel_type *check_field(struct checker *c, struct expr *e, struct expr *operand, const char *field, bool optional)
{
    check(c, operand);
    const struct cel_type *type = substitute(c, operand->type, false), *result = &cel_fault_type;
    bool is_optional = type_is_optional(type);
    const struct cel_type *target = is_optional ? type->params[0] : type;
    if (target->kind == CEL_MAP) {
        result = target->params[1];
    } else if (target->kind == CEL_OBJECT) {
        const struct cel_field *found = cel_field_find(target, field);
        if (found)
            result = found->type;
        else
            fault_add(c->source, e->at, "undefined field '%s'", field);
    } else if (target->kind == CEL_PARAM) {
        assignable(c, &cel_dyn, target);
        result = &cel_dyn;
    } else {
        if (!type_is_dyn(target))
            fault_add(c->source, e->at, "type '%s' does not support field selection", TEXT(target));
        result = &cel_dyn;
    }
    return is_optional || optional ? cel_optional_of(c->arena, result) : result;
}

static void check_select(struct checker *c, struct expr *e)
{
    const char *name = !e->select.test && root_of(e)->kind == EXPR_IDENT && !find_local(c, root_of(e)->ident.name) ? qualified_name(c, e) : NULL;
    if (name && resolve_global(c, e, name[0] == '.' ? name + 1 : name))
        return;
    const struct cel_type *type = check_field(c, e, e->select.operand, e->select.field, false);
    e->type = e->select.test ? &cel_bool : substitute(c, type, false);
}

/* What an optional item holds; anything else cannot be optional. */
static const struct cel_type *unwrap(struct checker *c, const struct expr *e)
{
    const struct cel_type *type = substitute(c, e->type, false);
    if (type_is_optional(type))
        return type->params[0];
    if (!type_is_dyn(type))
        fault_add(c->source, e->at, "expected type '%s' but found '%s'", TEXT(cel_optional_of(c->arena, type)), TEXT(type));
    return type;
}

static void check_list(struct checker *c, struct expr *e)
{
    const struct cel_type *item = NULL;
    for (size_t i = 0; i < e->list.len; i++) {
        struct expr *part = e->list.items[i];
        check(c, part);
        item = join_types(c, item, e->list.optional[i] ? unwrap(c, part) : part->type);
    }
    e->type = cel_list_of(c->arena, item ? item : type_var_new(c));
}

static void check_map(struct checker *c, struct expr *e)
{
    const struct cel_type *key = NULL, *value = NULL;
    for (size_t i = 0; i < e->map.len; i++) {
        const struct expr_entry *entry = &e->map.entries[i];
        check(c, entry->key);
        key = join_types(c, key, entry->key->type);
        check(c, entry->value);
        value = join_types(c, value, entry->optional ? unwrap(c, entry->value) : entry->value->type);
    }
    e->type = key ? cel_map_of(c->arena, key, value) : cel_map_of(c->arena, type_var_new(c), type_var_new(c));
}

/* The types of a fold's variables. */
static void check_range(struct checker *c, struct expr *e, const struct cel_type **ret_one, const struct cel_type **ret_two)
{
    const struct cel_type *range = substitute(c, e->fold.range->type, false);
    switch (range->kind) {
    case CEL_LIST:
        *ret_one = e->fold.var2 ? &cel_int : range->params[0];
        *ret_two = range->params[0];
        return;
    case CEL_MAP:
        *ret_one = range->params[0];
        *ret_two = range->params[1];
        return;
    case CEL_DYN:
    case CEL_ERROR:
    case CEL_PARAM:
        assignable(c, &cel_dyn, range);
        *ret_one = *ret_two = &cel_dyn;
        return;
    default:
        fault_add(c->source, e->fold.range->at, "expression of type '%s' cannot be range of a comprehension (must be list, map, or dynamic)", TEXT(range));
        *ret_one = *ret_two = &cel_fault_type;
    }
}

static void assert_type(struct checker *c, const struct expr *e, const struct cel_type *type)
{
    if (!assignable(c, type, e->type))
        fault_add(c->source, e->at, "expected type '%s' but found '%s'", TEXT(type), TEXT(e->type));
}

static void check_fold(struct checker *c, struct expr *e)
{
    const struct scope *before = c->scope;
    const struct cel_type *one, *two;
    check(c, e->fold.range);
    check(c, e->fold.init);
    const struct cel_type *accu_type = e->fold.init->type;
    e->fold.slot = c->locals;
    c->locals += 3;
    c->max_locals = KP_MAX(c->max_locals, c->locals);
    const struct scope accu = {before, e->fold.accu, accu_type, e->fold.slot};
    check_range(c, e, &one, &two);
    const struct scope var = {&accu, e->fold.var, one, e->fold.slot + 1};
    const struct scope var2 = {&var, e->fold.var2, two, e->fold.slot + 2};
    c->scope = e->fold.var2 ? &var2 : &var;
    check(c, e->fold.condition);
    assert_type(c, e->fold.condition, &cel_bool);
    check(c, e->fold.step);
    assert_type(c, e->fold.step, accu_type);
    c->scope = &accu;
    check(c, e->fold.result);
    c->scope = before;
    c->locals -= 3;
    e->type = substitute(c, e->fold.result->type, false);
}

void check(struct checker *c, struct expr *e)
{
    switch (e->kind) {
    case EXPR_LITERAL:
        if (!e->type)
            e->type = literal_type(&e->literal);
        break;
    case EXPR_IDENT:
        check_ident(c, e);
        break;
    case EXPR_SELECT:
        check_select(c, e);
        break;
    case EXPR_CALL:
        check_call(c, e);
        break;
    case EXPR_LIST:
        check_list(c, e);
        break;
    case EXPR_MAP:
        check_map(c, e);
        break;
    case EXPR_FOLD:
        check_fold(c, e);
        break;
    case EXPR_ERROR:
        e->type = &cel_fault_type;
        break;
    }
}
