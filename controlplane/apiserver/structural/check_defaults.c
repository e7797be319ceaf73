/* Whether a schema's defaults are what it says itself, and have nothing that would be dropped. */
#include "controlplane/apiserver/structural/structural_internal.h"

struct checker {
    struct field_errors *errors;
    struct kp_arena *arena; /* of what lives as long as the check */
};

static void check_default(const struct checker *c, const struct snode *node, bool in_metadata, const struct spath *path)
{
    const struct spath at = SPATH_CHILD(path, "default");
    const char *text = spath_text(&at, c->errors->arena);
    struct kp_value *pruned = kp_value_clone(node->default_value, c->arena);
    snode_prune(node, pruned, node->embedded, c->arena, NULL);
    if (!in_metadata && !kp_value_equal(pruned, node->default_value))
        field_invalid_raw(c->errors, value_text(node->default_value, c->errors->arena), "must not have unknown fields", "%s", text);
    size_t before = c->errors->len;
    validate_embedded(node, node->default_value, node->embedded, &at, c->errors);
    if (c->errors->len == before)
        validate_value(node, node->default_value, &SPATH_ROOT(""), &(struct verdict){.errors = c->errors, .base = text});
}

/* Not through additionalProperties, as upstream. */
static void check(const struct checker *c, const struct snode *node, bool root, bool in_metadata, const struct spath *path)
{
    bool embedded = root || node->embedded;
    if (node->bad_json && c->errors->len < FIELD_ERRORS_MAX)
        field_invalid(c->errors, "", "must have only JSON as default and enum", "%s", spath_text(path, c->errors->arena));
    if (node->default_value && c->errors->len < FIELD_ERRORS_MAX)
        check_default(c, node, in_metadata && !embedded, path);
    if (node->items)
        check(c, node->items, false, in_metadata && !embedded, &SPATH_CHILD(path, "items"));
    const struct spath properties = SPATH_CHILD(path, "properties");
    for (size_t i = 0; i < node->n_properties; i++) {
        bool metadata = (in_metadata && !embedded) || (embedded && structural_is_meta_field(node->properties[i].name));
        check(c, node->properties[i].node, false, metadata, &SPATH_OF_KEY(&properties, node->properties[i].name));
    }
}

void check_defaults(const struct k8s_json_schema_props *schema, const char *path, struct field_errors *errors)
{
    struct structural *structural = structural_make(schema);
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    check(&(struct checker){errors, arena}, structural->root, true, false, &SPATH_ROOT(path));
    structural_free(structural);
}
