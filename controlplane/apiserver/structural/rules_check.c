/* What upstream asks of the rules of a definition once its schema is fine: that they compile against it, and that what they compare can be found again
 * (apiextensions-apiserver pkg/apis/apiextensions/validation, ValidateCustomResourceDefinitionOpenAPISchema). */
#include "controlplane/apiserver/structural/structural_internal.h"

struct rule_checker {
    struct field_errors *errors;
    const struct spath *uncorrelatable; /* the list within which no value has an old one; NULL: each has */
};

/* As Go's JSON has it, which keeps HTML's marks out of text. */
static void put_string(struct kp_buf *out, const char *text)
{
    KP_AUTO_BUF struct kp_buf plain = {0};
    kp_json_string(&plain, text);
    for (size_t i = 0; i < plain.len; i++)
        if (strchr("<>&", plain.data[i]))
            kp_buf_printf(out, "\\u%04x", plain.data[i]);
        else
            kp_buf_putc(out, plain.data[i]);
}

/* The rule as Go prints the type it has there. */
static const char *rule_text(const struct srule *rule, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    kp_buf_puts(&out, "{\"Rule\":");
    put_string(&out, rule->rule);
    kp_buf_puts(&out, ",\"Message\":");
    put_string(&out, rule->message);
    kp_buf_puts(&out, ",\"MessageExpression\":");
    put_string(&out, rule->message_expression);
    kp_buf_puts(&out, ",\"Reason\":");
    if (rule->reason)
        put_string(&out, rule->reason);
    else
        kp_buf_puts(&out, "null");
    kp_buf_puts(&out, ",\"FieldPath\":");
    put_string(&out, rule->field_path ? rule->field_path : "");
    kp_buf_printf(&out, ",\"OptionalOldSelf\":%s}", !rule->has_optional_old ? "null" : rule->optional_old ? "true" : "false");
    return kp_arena_strndup(arena, out.data, out.len);
}

static void check_rule(const struct rule_checker *c, const struct srule *rule, const struct spath *path)
{
    struct kp_arena *arena = c->errors->arena;
    if (rule->program && rule->field_path && !rule->below)
        field_invalid(c->errors, rule->field_path, "must be a valid path", "%s", spath_text(&SPATH_CHILD(path, "fieldPath"), arena));
    if (rule->fault)
        field_invalid_raw(c->errors, rule_text(rule, arena), kp_arena_strdup(arena, rule->fault), "%s", spath_text(&SPATH_CHILD(path, "rule"), arena));
    if (rule->message_fault)
        field_invalid_raw(c->errors, rule_text(rule, arena), kp_arena_strdup(arena, rule->message_fault), "%s",
                          spath_text(&SPATH_CHILD(path, "messageExpression"), arena));
    if (rule->uses_old && c->uncorrelatable)
        field_invalid(c->errors, rule->rule,
                      kp_arena_printf(arena, "oldSelf cannot be used on the uncorrelatable portion of the schema within %s", spath_text(c->uncorrelatable, arena)),
                      "%s", spath_text(&SPATH_CHILD(path, "rule"), arena));
    else if (rule->program && !rule->uses_old && rule->has_optional_old)
        field_invalid_raw(c->errors, rule->optional_old ? "true" : "false", "may not be set if oldSelf is not used in rule", "%s",
                          spath_text(&SPATH_CHILD(path, "optionalOldSelf"), arena));
}

static void check_node(struct rule_checker c, const struct snode *node, const struct spath *path)
{
    const struct spath list = SPATH_CHILD(path, "x-kubernetes-validations"), properties = SPATH_CHILD(path, "properties");
    if (!node->has_rules)
        return;
    if (node->n_rules > 0 && !node->cel && c.errors->len < FIELD_ERRORS_MAX)
        field_add(c.errors, "InternalError",
                  "Internal error: internal error: failed to construct type information for x-kubernetes-validations rules: unable to convert structural schema "
                  "to CEL declarations",
                  "%s", spath_text(&list, c.errors->arena));
    for (size_t i = 0; i < node->n_rules && node->cel && c.errors->len + 4 < FIELD_ERRORS_MAX; i++)
        check_rule(&c, &node->rules[i], &SPATH_OF_INDEX(&list, i));
    struct rule_checker inside = c;
    if (!node->list_map && !inside.uncorrelatable)
        inside.uncorrelatable = path;
    if (node->items)
        check_node(inside, node->items, &SPATH_CHILD(path, "items"));
    if (node->additional)
        check_node(c, node->additional, &SPATH_CHILD(path, "additionalProperties"));
    for (size_t i = 0; i < node->n_properties; i++)
        check_node(c, node->properties[i].node, &SPATH_OF_KEY(&properties, node->properties[i].name));
}

void check_compiled_rules(const struct k8s_json_schema_props *schema, const char *path, struct field_errors *errors)
{
    struct structural *structural = structural_new(schema);
    check_node((struct rule_checker){.errors = errors}, structural->root, &SPATH_ROOT(path));
    structural_free(structural);
}
