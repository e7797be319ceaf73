/* Embedded resources: they have an apiVersion, a kind, and metadata that is some. */
#include "controlplane/apiserver/structural/structural_internal.h"

#define LABEL_MAX 63

static void invalid(struct field_errors *errors, const struct spath *path, const char *child, const struct kp_value *value, const char *why)
{
    if (errors->len < FIELD_ERRORS_MAX)
        field_invalid_raw(errors, value_text(value, errors->arena), why, "%s", spath_text(&SPATH_CHILD(path, child), errors->arena));
}

/* Whether it is a string and not empty; otherwise says so. */
static bool has_text(const struct kp_value *value, const struct spath *path, const char *child, struct field_errors *errors)
{
    if (value->kind != KP_VALUE_STRING)
        invalid(errors, path, child, value, "must be a string");
    else if (value->string[0] == '\0')
        invalid(errors, path, child, value, "must not be empty");
    else
        return true;
    return false;
}

static bool is_kind(const char *s)
{
    size_t len = strlen(s);
    if (len > LABEL_MAX || s[0] == '-' || (s[0] >= '0' && s[0] <= '9') || s[len - 1] == '-')
        return false;
    return strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == len;
}

static void validate_names(const struct k8s_object_meta *meta, const struct spath *path, struct field_errors *errors)
{
    const struct spath labels = SPATH_CHILD(path, "labels"), annotations = SPATH_CHILD(path, "annotations");
    const char *name = meta->name ? meta->name : "";
    const struct kp_value value = {.kind = KP_VALUE_STRING, .string = name};
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        invalid(errors, path, "name", &value, kp_arena_printf(errors->arena, "may not be '%s'", name));
    else if (strpbrk(name, "/%"))
        invalid(errors, path, "name", &value, strchr(name, '/') ? "may not contain '/'" : "may not contain '%'");
    for (size_t i = 0; i < meta->labels.len; i++) {
        const struct kp_string_pair *pair = &meta->labels.items[i];
        const char *key_fault = kp_validate_qualified_name(pair->key), *value_fault = kp_validate_label_value(pair->value);
        if (key_fault)
            field_invalid_raw(errors, quoted_text(pair->key, errors->arena), key_fault, "%s", spath_text(&labels, errors->arena));
        if (value_fault)
            field_invalid_raw(errors, quoted_text(pair->value, errors->arena), value_fault, "%s", spath_text(&labels, errors->arena));
    }
    for (size_t i = 0; i < meta->annotations.len; i++) {
        const char *fault = kp_validate_qualified_name(meta->annotations.items[i].key);
        if (fault)
            field_invalid_raw(errors, quoted_text(meta->annotations.items[i].key, errors->arena), fault, "%s", spath_text(&annotations, errors->arena));
    }
}

static void validate_metadata(const struct kp_value *metadata, const struct spath *path, struct field_errors *errors)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_error error = {0};
    void *meta = NULL;
    if (metadata->kind == KP_VALUE_NULL)
        return;
    if (kp_value_to_object(&k8s_object_meta_type, metadata, arena, NULL, &meta, &error) < 0)
        invalid(errors, path, "metadata", metadata, kp_arena_strdup(errors->arena, error.message));
    else
        validate_names(meta, &SPATH_CHILD(path, "metadata"), errors);
}

static void validate_resource(const struct kp_value *value, const struct spath *path, struct field_errors *errors)
{
    const struct kp_value *api_version = kp_value_get(value, "apiVersion"), *kind = kp_value_get(value, "kind");
    const struct kp_value *metadata = kp_value_get(value, "metadata");
    if (!api_version)
        field_required(errors, "", "%s", spath_text(&SPATH_CHILD(path, "apiVersion"), errors->arena));
    else if (has_text(api_version, path, "apiVersion", errors)) {
        const char *slash = strchr(api_version->string, '/');
        if (slash && strchr(slash + 1, '/'))
            invalid(errors, path, "apiVersion", api_version,
                    kp_arena_printf(errors->arena, "unexpected GroupVersion string: %.*s", STRUCTURAL_NAME_TEXT_MAX, api_version->string));
    }
    if (!kind)
        field_required(errors, "", "%s", spath_text(&SPATH_CHILD(path, "kind"), errors->arena));
    else if (has_text(kind, path, "kind", errors) && !is_kind(kind->string))
        invalid(errors, path, "kind", kind,
                "may have mixed case, but should otherwise match: a DNS-1035 label must consist of lower case alphanumeric characters or '-', "
                "start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for "
                "validation is '[a-z]([-a-z0-9]*[a-z0-9])?')");
    if (metadata)
        validate_metadata(metadata, path, errors);
}

void validate_embedded(const struct snode *node, const struct kp_value *value, bool root, const struct spath *path, struct field_errors *errors)
{
    if (errors->len == FIELD_ERRORS_MAX)
        return;
    if (value->kind == KP_VALUE_OBJECT && (root || node->embedded))
        validate_resource(value, path, errors);
    for (size_t i = 0; value->kind == KP_VALUE_OBJECT && i < value->object.len; i++) {
        const struct kp_member *member = &value->object.members[i];
        const struct snode *property = snode_property(node, member->key);
        if (property)
            validate_embedded(property, member->value, property->embedded, &SPATH_CHILD(path, member->key), errors);
        else if (node->additional)
            validate_embedded(node->additional, member->value, node->additional->embedded, &SPATH_OF_KEY(path, member->key), errors);
    }
    for (size_t i = 0; value->kind == KP_VALUE_ARRAY && node->items && i < value->array.len; i++)
        validate_embedded(node->items, value->array.items[i], node->items->embedded, &SPATH_OF_INDEX(path, i), errors);
}
