/* Selectors over labels: from metav1.LabelSelector or a map, and what they match. */
#include "codec/codec_internal.h"

#include "api/k8s.h"

static bool in_values(const struct kp_string_list *values, const char *value)
{
    return kp_string_list_has(values, value);
}

static bool compares(enum kp_selector_op op, const char *value, const struct kp_string_list *values)
{
    int64_t a, b;
    if (!value || values->len != 1 || kp_parse_i64(value, &a) < 0 || kp_parse_i64(values->items[0], &b) < 0)
        return false;
    return op == KP_SEL_GT ? a > b : a < b;
}

static bool requirement_matches(enum kp_selector_op op, const struct kp_string_list *values, const char *value)
{
    switch (op) {
    case KP_SEL_EQUALS:
    case KP_SEL_IN:
        return value && in_values(values, value);
    case KP_SEL_NOT_EQUALS:
    case KP_SEL_NOT_IN:
        return !value || !in_values(values, value);
    case KP_SEL_EXISTS:
        return value != NULL;
    case KP_SEL_NOT_EXISTS:
        return value == NULL;
    case KP_SEL_GT:
    case KP_SEL_LT:
        return compares(op, value, values);
    }
    return false;
}

bool kp_selector_matches(const struct kp_selector *selector, const struct kp_string_map *labels)
{
    if (selector->nothing)
        return false;
    for (size_t i = 0; i < selector->len; i++) {
        const struct kp_requirement *r = &selector->items[i];
        if (!requirement_matches(r->op, &r->values, kp_string_map_get(labels, r->key)))
            return false;
    }
    return true;
}

static bool operator_of(const char *name, enum kp_selector_op *ret)
{
    static const struct {
        const char *name;
        enum kp_selector_op op;
    } table[] = {{"In", KP_SEL_IN}, {"NotIn", KP_SEL_NOT_IN}, {"Exists", KP_SEL_EXISTS}, {"DoesNotExist", KP_SEL_NOT_EXISTS}};
    for (size_t i = 0; name && i < KP_ARRAY_LEN(table); i++) {
        if (strcmp(table[i].name, name) == 0) {
            *ret = table[i].op;
            return true;
        }
    }
    return false;
}

/* What a LabelSelectorRequirement must satisfy besides the syntax of its key and values. */
static const char *check_expression(const struct k8s_label_selector_requirement *e, enum kp_selector_op *ret_op)
{
    if (!operator_of(e->operator, ret_op))
        return "not a valid label selector operator";
    bool takes_values = *ret_op == KP_SEL_IN || *ret_op == KP_SEL_NOT_IN;
    if (takes_values && e->values.len == 0)
        return "for 'in', 'notin' operators, values set can't be empty";
    if (!takes_values && e->values.len > 0)
        return "values set must be empty for exists and does not exist";
    return NULL;
}

static int compare_requirements(const void *a, const void *b)
{
    return strcmp(((const struct kp_requirement *)a)->key, ((const struct kp_requirement *)b)->key);
}

int kp_label_selector_from(const struct k8s_label_selector *ls, struct kp_arena *arena, struct kp_selector *ret, struct kp_error *error)
{
    *ret = (struct kp_selector){.nothing = ls == NULL};
    if (!ls)
        return 0;
    size_t n = ls->match_labels.len + ls->match_expressions.len;
    if (n > KP_SELECTOR_REQUIREMENTS_MAX)
        return kp_fail(error, KP_ETOOLARGE, "selector has %zu requirements, at most %d are allowed", n, KP_SELECTOR_REQUIREMENTS_MAX);
    ret->items = KP_NEW_ARRAY(arena, struct kp_requirement, n + 1);
    struct kp_selector labels;
    kp_label_selector_from_map(&ls->match_labels, arena, &labels);
    if (labels.len > 0)
        memcpy(ret->items, labels.items, labels.len * sizeof(*labels.items));
    ret->len = labels.len;
    for (size_t i = 0; i < ret->len; i++) {
        const char *fault = kp_validate_qualified_name(ret->items[i].key);
        if (fault)
            return kp_fail(error, KP_EINVALID, "key: Invalid value: \"%s\": %s", ret->items[i].key, fault);
        fault = kp_validate_label_value(ret->items[i].values.items[0]);
        if (fault)
            return kp_fail(error, KP_EINVALID, "values[0][%s]: Invalid value: \"%s\": %s", ret->items[i].key, ret->items[i].values.items[0], fault);
    }
    for (size_t i = 0; i < ls->match_expressions.len; i++) {
        const struct k8s_label_selector_requirement *e = &ls->match_expressions.items[i];
        struct kp_requirement *r = &ret->items[ret->len++];
        const char *fault = check_expression(e, &r->op);
        if (fault)
            return kp_fail(error, KP_EINVALID, "\"%s\" is %s", e->operator ? e->operator : "", fault);
        r->key = e->key ? e->key : "";
        fault = kp_validate_qualified_name(r->key);
        if (fault)
            return kp_fail(error, KP_EINVALID, "key: Invalid value: \"%s\": %s", r->key, fault);
        r->values = e->values;
    }
    qsort(ret->items, ret->len, sizeof(*ret->items), compare_requirements);
    return 0;
}

void kp_label_selector_from_map(const struct kp_string_map *map, struct kp_arena *arena, struct kp_selector *ret)
{
    size_t n = map ? map->len : 0;
    *ret = (struct kp_selector){.items = KP_NEW_ARRAY(arena, struct kp_requirement, n + 1), .len = n};
    for (size_t i = 0; i < n; i++) {
        ret->items[i] = (struct kp_requirement){.key = map->items[i].key, .op = KP_SEL_EQUALS};
        ret->items[i].values.items = KP_NEW_ARRAY(arena, const char *, 1);
        ret->items[i].values.items[0] = map->items[i].value;
        ret->items[i].values.len = 1;
    }
}

bool kp_label_selector_matches(const struct k8s_label_selector *ls, const struct kp_string_map *labels)
{
    if (!ls)
        return false;
    for (size_t i = 0; i < ls->match_labels.len; i++) {
        const char *value = kp_string_map_get(labels, ls->match_labels.items[i].key);
        if (!value || strcmp(value, ls->match_labels.items[i].value) != 0)
            return false;
    }
    for (size_t i = 0; i < ls->match_expressions.len; i++) {
        const struct k8s_label_selector_requirement *e = &ls->match_expressions.items[i];
        enum kp_selector_op op;
        if (check_expression(e, &op) || !e->key || !requirement_matches(op, &e->values, kp_string_map_get(labels, e->key)))
            return false;
    }
    return true;
}

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void print_set(const struct kp_requirement *r, const char *word, struct kp_buf *out)
{
    const char **values = kp_malloc((r->values.len + 1) * sizeof(*values));
    kp_buf_printf(out, "%s %s (", r->key, word);
    if (r->values.len > 0) {
        memcpy(values, r->values.items, r->values.len * sizeof(*values));
        qsort(values, r->values.len, sizeof(*values), compare_strings);
    }
    for (size_t i = 0; i < r->values.len; i++) {
        if (i > 0)
            kp_buf_putc(out, ',');
        kp_buf_puts(out, values[i]);
    }
    kp_buf_putc(out, ')');
    free(values);
}

void kp_selector_print(const struct kp_selector *selector, struct kp_buf *out)
{
    for (size_t i = 0; i < selector->len; i++) {
        const struct kp_requirement *r = &selector->items[i];
        const char *value = r->values.len ? r->values.items[0] : "";
        if (i > 0)
            kp_buf_putc(out, ',');
        switch (r->op) {
        case KP_SEL_EQUALS:
            kp_buf_printf(out, "%s=%s", r->key, value);
            break;
        case KP_SEL_NOT_EQUALS:
            kp_buf_printf(out, "%s!=%s", r->key, value);
            break;
        case KP_SEL_IN:
            print_set(r, "in", out);
            break;
        case KP_SEL_NOT_IN:
            print_set(r, "notin", out);
            break;
        case KP_SEL_EXISTS:
            kp_buf_puts(out, r->key);
            break;
        case KP_SEL_NOT_EXISTS:
            kp_buf_printf(out, "!%s", r->key);
            break;
        case KP_SEL_GT:
            kp_buf_printf(out, "%s>%s", r->key, value);
            break;
        case KP_SEL_LT:
            kp_buf_printf(out, "%s<%s", r->key, value);
            break;
        }
    }
}
