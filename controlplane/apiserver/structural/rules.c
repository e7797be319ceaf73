/* The rules of a schema as programs: compiled once, with the schema (apiextensions-apiserver pkg/apiserver/schema/cel/compilation.go). */
#include "controlplane/apiserver/structural/structural_internal.h"

#include <ctype.h>

static bool is_blank(const char *s)
{
    while (*s && isspace((unsigned char)*s))
        s++;
    return !*s;
}

static bool any_below(const struct snodes *nodes)
{
    for (size_t i = 0; i < nodes->len; i++)
        if (nodes->items[i]->has_rules)
            return true;
    return false;
}

void rules_make(struct structural *st, struct snode *node, const struct k8s_json_schema_props *schema)
{
    node->n_rules = schema->x_kubernetes_validations.len;
    node->rules = node->n_rules ? KP_NEW_ARRAY(st->arena, struct srule, node->n_rules) : NULL;
    for (size_t i = 0; i < node->n_rules; i++) {
        const struct k8s_validation_rule *from = &schema->x_kubernetes_validations.items[i];
        node->rules[i] = (struct srule){
            .rule = kp_arena_strdup(st->arena, from->rule ? from->rule : ""),
            .message = kp_arena_strdup(st->arena, from->message ? from->message : ""),
            .message_expression = kp_arena_strdup(st->arena, from->message_expression ? from->message_expression : ""),
            .reason = kp_arena_strdup(st->arena, from->reason),
            .field_path = kp_empty(from->field_path) ? NULL : kp_arena_strdup(st->arena, from->field_path),
            .optional_old = from->optional_old_self,
            .has_optional_old = from->has_optional_old_self,
        };
    }
    node->has_rules = node->n_rules > 0 || (node->items && node->items->has_rules) || (node->additional && node->additional->has_rules) ||
                      any_below(&node->all_of);
    for (size_t i = 0; i < node->n_properties; i++)
        node->has_rules = node->has_rules || node->properties[i].node->has_rules;
}

/* ---- compiling --------------------------------------------------------------------------------------------------------------------------------- */
struct compiler {
    struct structural *st;
    struct kp_arena *scratch; /* of faults until they are copied */
};

static struct cel_program *compile_text(struct compiler *c, const struct cel_env *env, const char *text, enum cel_kind wanted, const char *prefix,
                                        const char *other, const char **ret_fault)
{
    const char *fault = NULL;
    struct cel_program *program = cel_compile(env, text, c->scratch, &fault);
    if (program && cel_program_type(program)->kind == wanted)
        return program;
    *ret_fault = program ? other : kp_arena_printf(c->st->arena, "%s%s", prefix, fault);
    cel_program_free(program);
    return NULL;
}

static void compile_rule(struct compiler *c, struct srule *rule, const struct snode *node, const struct cel_type *type)
{
    struct cel_variable *variables = KP_NEW_ARRAY(c->st->arena, struct cel_variable, 2);
    const struct cel_env env = {.variables = variables, .n_variables = 2};
    variables[0] = (struct cel_variable){"self", type};
    variables[1] = (struct cel_variable){"oldSelf", rule->optional_old ? cel_optional_of(c->st->arena, type) : type};
    if (is_blank(rule->rule))
        return;
    rule->program = compile_text(c, &env, rule->rule, CEL_BOOL, "compilation failed: ", "cel expression must evaluate to a bool", &rule->fault);
    if (!rule->program)
        return;
    rule->uses_old = cel_program_uses(rule->program, 1);
    if (!is_blank(rule->message_expression))
        rule->message_program = compile_text(c, &env, rule->message_expression, CEL_STRING, "messageExpression compilation failed: ",
                                             "messageExpression must evaluate to a string", &rule->message_fault);
    if (rule->field_path)
        rule->below = rule_field_path(node, rule->field_path, c->st->arena);
}

/* Rules of a schema, about values that `of` describes: itself, or what it is in allOf of. */
static void compile_node(struct compiler *c, struct snode *node, const struct snode *of)
{
    if (!node->has_rules || !of)
        return;
    for (size_t i = 0; i < node->n_rules && of->cel; i++) {
        compile_rule(c, &node->rules[i], of, of->cel);
        kp_arena_reset(c->scratch);
    }
    if (node->items)
        compile_node(c, node->items, of->items);
    if (node->additional)
        compile_node(c, node->additional, of->additional);
    for (size_t i = 0; i < node->n_properties; i++)
        compile_node(c, node->properties[i].node, snode_property(of, node->properties[i].name));
    for (size_t i = 0; i < node->all_of.len; i++)
        compile_node(c, node->all_of.items[i], of);
}

void rules_compile(struct structural *st)
{
    KP_AUTO(kp_arena_free) struct kp_arena *scratch = kp_arena_new(0);
    rules_declare(st);
    compile_node(&(struct compiler){st, scratch}, st->root, st->root);
}

void rules_free(struct snode *node)
{
    if (!node || !node->has_rules)
        return;
    for (size_t i = 0; i < node->n_rules; i++) {
        cel_program_free(node->rules[i].program);
        cel_program_free(node->rules[i].message_program);
    }
    rules_free(node->items);
    rules_free(node->additional);
    for (size_t i = 0; i < node->n_properties; i++)
        rules_free(node->properties[i].node);
    for (size_t i = 0; i < node->all_of.len; i++)
        rules_free(node->all_of.items[i]);
}
