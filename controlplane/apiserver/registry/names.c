/* Names, labels and annotations: upstream's syntax rules with their texts. */
#include "controlplane/apiserver/registry/registry_internal.h"

#define SUBDOMAIN_MAX 253
#define LABEL_MAX 63
#define ANNOTATIONS_BYTES_MAX (256 << 10)

#define SUBDOMAIN_TEXT                                                                                                 \
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "   \
    "and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "                       \
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
#define LABEL_TEXT                                                                                                     \
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "    \
    "with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "                    \
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
#define LABEL_1035_TEXT                                                                                                \
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, " \
    "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "            \
    "'[a-z]([-a-z0-9]*[a-z0-9])?')"

static bool lower_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/* One DNS label of len bytes: [a-z0-9]([-a-z0-9]*[a-z0-9])? */
static bool is_label(const char *s, size_t len)
{
    if (!len || !lower_alnum(s[0]) || !lower_alnum(s[len - 1]))
        return false;
    for (size_t i = 0; i < len; i++)
        if (!lower_alnum(s[i]) && s[i] != '-')
            return false;
    return true;
}

const char *name_is_subdomain(const char *s)
{
    if (strlen(s) > SUBDOMAIN_MAX)
        return "must be no more than 253 characters";
    for (const char *at = s;;) {
        size_t len = strcspn(at, ".");
        if (!is_label(at, len))
            return SUBDOMAIN_TEXT;
        if (!at[len])
            return NULL;
        at += len + 1;
    }
}

const char *name_is_label(const char *s)
{
    if (strlen(s) > LABEL_MAX)
        return "must be no more than 63 characters";
    return is_label(s, strlen(s)) ? NULL : LABEL_TEXT;
}

const char *name_is_label_1035(const char *s)
{
    if (strlen(s) > LABEL_MAX)
        return "must be no more than 63 characters";
    return is_label(s, strlen(s)) && s[0] >= 'a' ? NULL : LABEL_1035_TEXT;
}

const char *name_is_path_segment(const char *s)
{
    if (strcmp(s, ".") == 0)
        return "may not be '.'";
    if (strcmp(s, "..") == 0)
        return "may not be '..'";
    if (strchr(s, '/'))
        return "may not contain '/'";
    return strchr(s, '%') ? "may not contain '%'" : NULL;
}

const char *name_check(enum registry_name_rule rule, const char *s)
{
    switch (rule) {
    case NAME_SUBDOMAIN:
        return name_is_subdomain(s);
    case NAME_LABEL:
        return name_is_label(s);
    case NAME_LABEL_1035:
        return name_is_label_1035(s);
    case NAME_PATH_SEGMENT:
        return name_is_path_segment(s);
    case NAME_ANY:
        break;
    }
    return NULL;
}

/* IANA service names (RFC 6335 5.1), as ports are named. */
const char *port_name_check(const char *s)
{
    size_t len = strlen(s);
    bool letter = false;
    if (len > 15)
        return "must be no more than 15 characters";
    for (size_t i = 0; i < len; i++) {
        if (!lower_alnum(s[i]) && s[i] != '-')
            return "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)";
        letter = letter || (s[i] >= 'a' && s[i] <= 'z');
        if (s[i] == '-' && s[i + 1] == '-')
            return "must not contain consecutive hyphens";
    }
    if (!letter)
        return "must contain at least one letter (a-z)";
    return s[0] == '-' || s[len - 1] == '-' ? "must not begin or end with a hyphen" : NULL;
}

void validate_label_map(const struct kp_string_map *labels, struct field_errors *errors, const char *path)
{
    for (size_t i = 0; i < labels->len; i++) {
        const char *fault = kp_validate_qualified_name(labels->items[i].key);
        if (fault)
            field_invalid(errors, labels->items[i].key, fault, "%s", path);
        fault = kp_validate_label_value(labels->items[i].value ? labels->items[i].value : "");
        if (fault)
            field_invalid(errors, labels->items[i].value, fault, "%s", path);
    }
}

void validate_annotations(const struct kp_string_map *annotations, struct field_errors *errors, const char *path)
{
    size_t total = 0;
    for (size_t i = 0; i < annotations->len; i++) {
        const char *key = annotations->items[i].key;
        char *lower = kp_arena_strdup(errors->arena, key);
        for (char *c = lower; *c; c++)
            if (*c >= 'A' && *c <= 'Z')
                *c = (char)(*c - 'A' + 'a');
        const char *fault = kp_validate_qualified_name(lower);
        if (fault)
            field_invalid(errors, key, fault, "%s", path);
        total += strlen(key) + (annotations->items[i].value ? strlen(annotations->items[i].value) : 0);
    }
    if (total > ANNOTATIONS_BYTES_MAX)
        field_too_long(errors, ANNOTATIONS_BYTES_MAX, "%s", path);
}

static void validate_requirement(const struct k8s_label_selector_requirement *r, struct field_errors *errors, const char *path, size_t i)
{
    bool set = kp_streq(r->operator, "In") || kp_streq(r->operator, "NotIn");
    bool existence = kp_streq(r->operator, "Exists") || kp_streq(r->operator, "DoesNotExist");
    if (set && !r->values.len)
        field_required(errors, "must be specified when `operator` is 'In' or 'NotIn'", "%s.matchExpressions[%zu].values", path, i);
    else if (existence && r->values.len)
        field_forbidden(errors, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'", "%s.matchExpressions[%zu].values", path, i);
    else if (!set && !existence)
        field_invalid(errors, r->operator, "not a valid selector operator", "%s.matchExpressions[%zu].operator", path, i);
    const char *fault = kp_validate_qualified_name(r->key ? r->key : "");
    if (fault)
        field_invalid(errors, r->key, fault, "%s.matchExpressions[%zu].key", path, i);
    for (size_t j = 0; j < r->values.len; j++) {
        fault = kp_validate_label_value(r->values.items[j]);
        if (fault)
            field_invalid(errors, r->values.items[j], fault, "%s.matchExpressions[%zu].values[%zu]", path, i, j);
    }
}

void validate_label_selector(const struct k8s_label_selector *selector, struct field_errors *errors, const char *path)
{
    if (!selector)
        return;
    validate_label_map(&selector->match_labels, errors, kp_arena_printf(errors->arena, "%s.matchLabels", path));
    for (size_t i = 0; i < selector->match_expressions.len; i++)
        validate_requirement(&selector->match_expressions.items[i], errors, path, i);
}

void validate_non_negative(int64_t value, struct field_errors *errors, const char *path)
{
    if (value < 0)
        field_invalid_int(errors, value, "must be greater than or equal to 0", "%s", path);
}
