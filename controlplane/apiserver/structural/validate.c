/* Whether values are what a schema says, in the words of kube-openapi's validator. */
#include "controlplane/apiserver/structural/structural_internal.h"

static const struct {
    unsigned type;
    const char *name, *format; /* format: of the value itself, as messages of mismatched formats have it */
} kinds[] = {
    [KP_VALUE_NULL] = {0, "null", ""},
    [KP_VALUE_BOOL] = {TYPE_BOOLEAN, "boolean", ""},
    [KP_VALUE_INT] = {TYPE_INTEGER, "integer", "int64"},
    [KP_VALUE_DOUBLE] = {TYPE_NUMBER, "number", "float64"},
    [KP_VALUE_STRING] = {TYPE_STRING, "string", ""},
    [KP_VALUE_ARRAY] = {TYPE_ARRAY, "array", ""},
    [KP_VALUE_OBJECT] = {TYPE_OBJECT, "object", ""},
};

static void type_fault(struct verdict *verdict, const struct spath *path, const char *wanted, const char *got)
{
    const struct kp_value value = {.kind = KP_VALUE_STRING, .string = got};
    verdict_invalid(verdict, path, "FieldValueTypeInvalid", &value, "must be of type %s: \"%s\"", wanted, got);
}

static void validate_type(const struct snode *node, const struct kp_value *value, const struct spath *path, struct verdict *verdict)
{
    unsigned type = kinds[value->kind].type;
    bool fits = (node->types & type) != 0 || (type == TYPE_INTEGER && (node->types & TYPE_NUMBER)) ||
                (type == TYPE_NUMBER && (node->types & TYPE_INTEGER) && double_is_integer(value->number));
    if (value->kind == KP_VALUE_NULL)
        fits = node->types == 0 || node->nullable;
    else if (node->format && !fits && type != TYPE_STRING && type != TYPE_ARRAY) {
        type_fault(verdict, path, node->format, kinds[value->kind].format);
        return;
    } else if (node->types == 0)
        fits = true;
    if (fits)
        verdict->matches++;
    else
        type_fault(verdict, path, node->type_text, kinds[value->kind].name);
}

/* ---- anyOf, oneOf, allOf, not ---------------------------------------------------------------------------------------------------- */
static struct verdict try_branch(const struct snode *branch, const struct kp_value *value, const struct spath *path)
{
    struct verdict quiet = {0};
    validate_value(branch, value, path, &quiet);
    return quiet;
}

/* How many of the branches the value fits, and the first of those, or else the one that came closest. any: one is enough. */
static size_t count_fits(const struct snodes *branches, const struct kp_value *value, const struct spath *path, bool any, size_t *ret_best,
                         size_t *ret_matches)
{
    size_t fits = 0;
    for (size_t i = 0; i < branches->len && !(any && fits > 0); i++) {
        struct verdict v = try_branch(branches->items[i], value, path);
        bool better = fits == 0 && (!v.invalid || i == 0 || v.matches > *ret_matches);
        if (better) {
            *ret_best = i;
            *ret_matches = v.matches;
        }
        fits += !v.invalid;
    }
    return fits;
}

/* What the closest branch has against the value goes with the verdict. Branches are tried without words first, for most of them
   fail and most values are fine; without words there is no second try, or each level of nesting would double the work. */
static void blame(const struct snode *branch, size_t matches, const struct kp_value *value, const struct spath *path, struct verdict *verdict)
{
    if (verdict->errors)
        validate_value(branch, value, path, verdict);
    else
        verdict->matches += matches;
}

static void validate_choices(const struct snode *node, const struct kp_value *value, const struct spath *path, struct verdict *verdict)
{
    size_t best = 0, matches = 0;
    if (node->any_of.len > 0) {
        if (count_fits(&node->any_of, value, path, true, &best, &matches) > 0) {
            verdict->matches += matches;
        } else {
            verdict_composite(verdict, path, "must validate at least one schema (anyOf)");
            blame(node->any_of.items[best], matches, value, path, verdict);
        }
    }
    if (node->one_of.len > 0) {
        size_t fits = count_fits(&node->one_of, value, path, false, &best, &matches);
        if (fits == 1) {
            verdict->matches += matches;
        } else if (fits > 1) {
            verdict_composite(verdict, path, "must validate one and only one schema (oneOf). Found %zu valid alternatives", fits);
        } else {
            verdict_composite(verdict, path, "must validate one and only one schema (oneOf). Found none valid");
            blame(node->one_of.items[best], matches, value, path, verdict);
        }
    }
}

static void validate_combinations(const struct snode *node, const struct kp_value *value, const struct spath *path, struct verdict *verdict)
{
    validate_choices(node, value, path, verdict);
    size_t fits = 0;
    for (size_t i = 0; i < node->all_of.len; i++) {
        struct verdict branch = {.errors = verdict->errors, .base = verdict->base};
        validate_value(node->all_of.items[i], value, path, &branch);
        fits += !branch.invalid;
        verdict->matches += branch.matches;
    }
    if (fits < node->all_of.len)
        verdict_composite(verdict, path, "must validate all the schemas (allOf)%s", fits ? "" : ". None validated");
    if (node->not && !try_branch(node->not, value, path).invalid)
        verdict_composite(verdict, path, "must not validate the schema (not)");
    verdict->matches++;
}

/* ---- arrays, objects, enums ------------------------------------------------------------------------------------------------------ */
static void too_many(struct verdict *verdict, const struct spath *path, size_t actual, int64_t max)
{
    verdict_message(verdict, path, "FieldValueTooMany", "Too many: %zu: must have at most %lld %s", actual, (long long)max, max == 1 ? "item" : "items");
}

static void too_few(struct verdict *verdict, const struct spath *path, size_t actual, int64_t min, const char *what)
{
    const struct kp_value value = {.kind = KP_VALUE_INT, .integer = (int64_t)actual};
    verdict_invalid(verdict, path, "FieldValueInvalid", &value, "should have at least %lld %s", (long long)min, what);
}

static void validate_array(const struct snode *node, const struct kp_value *value, const struct spath *path, struct verdict *verdict)
{
    for (size_t i = 0; node->items && i < value->array.len; i++)
        validate_value(node->items, value->array.items[i], &SPATH_OF_INDEX(path, i), verdict);
    if ((int64_t)value->array.len < node->min_items)
        too_few(verdict, path, value->array.len, node->min_items, "items");
    if (node->max_items >= 0 && (int64_t)value->array.len > node->max_items)
        too_many(verdict, path, value->array.len, node->max_items);
    verdict->matches++;
}

static void validate_additional(const struct snode *node, const struct kp_member *member, const struct spath *path, struct verdict *verdict)
{
    if (node->additional) {
        validate_value(node->additional, member->value, &SPATH_CHILD(path, member->key), verdict);
    } else if (!node->additional_allowed) {
        verdict->invalid = true;
        if (verdict->errors && verdict->errors->len < FIELD_ERRORS_MAX)
            verdict_message(verdict, path, "FieldValueInvalid", "Invalid value: %s: %s in body is a forbidden property",
                            quoted_text(member->key, verdict->errors->arena), spath_text(&SPATH_CHILD(path, member->key), verdict->errors->arena));
    }
}

/* The value of each property, in the order of the properties; those of no property are validated on the way. */
static void sort_members(const struct snode *node, const struct kp_value *value, const struct spath *path, const struct kp_value **by_property,
                         struct verdict *verdict)
{
    for (size_t i = 0; i < value->object.len; i++) {
        const struct sproperty *property = sproperty_find(node, value->object.members[i].key);
        if (property)
            by_property[property - node->properties] = value->object.members[i].value;
        else if (node->has_additional)
            validate_additional(node, &value->object.members[i], path, verdict);
    }
}

static void validate_object(const struct snode *node, const struct kp_value *value, const struct spath *path, struct verdict *verdict)
{
    if ((int64_t)value->object.len < node->min_properties)
        too_few(verdict, path, value->object.len, node->min_properties, "properties");
    if (node->max_properties >= 0 && (int64_t)value->object.len > node->max_properties)
        too_many(verdict, path, value->object.len, node->max_properties);
    KP_AUTO_FREE const struct kp_value **by_property = kp_calloc(node->n_properties + 1, sizeof(*by_property));
    sort_members(node, value, path, by_property, verdict);
    for (size_t i = 0; i < node->n_properties; i++)
        if (by_property[i])
            validate_value(node->properties[i].node, by_property[i], &SPATH_CHILD(path, node->properties[i].name), verdict);
    for (size_t i = 0; i < node->required.len; i++) {
        const struct sproperty *property = sproperty_find(node, node->required.items[i]);
        bool there = property ? by_property[property - node->properties] != NULL : kp_value_get(value, node->required.items[i]) != NULL;
        if (!there)
            verdict_message(verdict, &SPATH_CHILD(path, node->required.items[i]), "FieldValueRequired", "Required value");
    }
}

static const char *enum_text(const struct snode *node, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    for (size_t i = 0; i < node->n_enums && out.len < STRUCTURAL_ENUM_TEXT_MAX; i++) {
        const char *text = node->enums[i]->kind == KP_VALUE_STRING ? node->enums[i]->string : value_text(node->enums[i], arena);
        kp_buf_printf(&out, "%s%s", i ? ", " : "", quoted_text(text, arena));
    }
    return kp_arena_strndup(arena, out.data, out.len);
}

/* A null is none of the values even where null is listed, as upstream has it. */
static void validate_enum(const struct snode *node, const struct kp_value *value, const struct spath *path, struct verdict *verdict)
{
    if (node->n_enums == 0)
        return;
    for (size_t i = 0; i < node->n_enums && value->kind != KP_VALUE_NULL; i++)
        if (kp_value_equal(node->enums[i], value))
            return;
    verdict->invalid = true;
    if (verdict->errors && verdict->errors->len < FIELD_ERRORS_MAX)
        verdict_message(verdict, path, "FieldValueNotSupported", "Unsupported value: %s: supported values: %s",
                        value_text(value, verdict->errors->arena), enum_text(node, verdict->errors->arena));
}

void validate_value(const struct snode *node, const struct kp_value *value, const struct spath *path, struct verdict *verdict)
{
    if (node->types || node->format) {
        validate_type(node, value, path, verdict);
        verdict->matches += value->kind != KP_VALUE_NULL;
    }
    if (value->kind == KP_VALUE_NULL) {
        validate_enum(node, value, path, verdict);
        return;
    }
    validate_combinations(node, value, path, verdict);
    verdict->matches += 3; /* for those, for enum and for the whole */
    if (value->kind == KP_VALUE_STRING) {
        verdict->matches++;
        validate_string(node, value->string, path, verdict);
    } else if (value->kind == KP_VALUE_INT || value->kind == KP_VALUE_DOUBLE) {
        verdict->matches++;
        validate_number(node, value, path, verdict);
    } else if (value->kind == KP_VALUE_ARRAY) {
        verdict->matches++;
        validate_array(node, value, path, verdict);
    }
    validate_enum(node, value, path, verdict);
    if (value->kind == KP_VALUE_OBJECT) {
        verdict->matches++;
        validate_object(node, value, path, verdict);
    }
}

void structural_validate(const struct structural *structural, const struct kp_value *object, struct field_errors *errors)
{
    struct verdict verdict = {.errors = errors};
    validate_value(structural->root, object, &SPATH_ROOT(""), &verdict);
    validate_embedded(structural->root, object, false, &SPATH_ROOT(""), errors);
    validate_lists(structural->root, object, &SPATH_ROOT(""), errors);
}
