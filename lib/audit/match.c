/* Which rule of an audit policy a request is subject to: the first that matches it. */
#include "lib/audit/audit_internal.h"

static bool path_matches(const char *path, const char *spec)
{
    size_t len = strlen(spec);
    if (strcmp(spec, "*") == 0 || strcmp(spec, path) == 0)
        return true;
    if (!len || spec[len - 1] != '*')
        return false;
    while (len && spec[len - 1] == '*')
        len--;
    return strncmp(path, spec, len) == 0;
}

static bool matches_path(const struct k8s_audit_policy_rule *rule, const struct audit_attributes *a)
{
    for (size_t i = 0; !a->resource_request && i < rule->non_resource_urls.len; i++)
        if (path_matches(a->path, rule->non_resource_urls.items[i]))
            return true;
    return false;
}

/* spec: a resource, one with a subresource, or either with a star in its place. */
static bool resource_matches(const char *spec, const struct audit_attributes *a)
{
    const char *slash = strchr(spec, '/');
    if (strcmp(spec, "*") == 0)
        return true;
    if (!slash)
        return !*a->subresource && strcmp(spec, a->resource) == 0;
    size_t len = (size_t)(slash - spec);
    if (*a->subresource && len == 1 && *spec == '*' && strcmp(slash + 1, a->subresource) == 0)
        return true;
    if (strlen(a->resource) != len || strncmp(spec, a->resource, len) != 0)
        return false;
    return strcmp(slash, "/*") == 0 || (*a->subresource && strcmp(slash + 1, a->subresource) == 0); /* as upstream: that star stands for no subresource, too */
}

static bool matches_group(const struct k8s_audit_group_resources *spec, const struct audit_attributes *a)
{
    const char *group = spec->group ? spec->group : "";
    if (strcmp(group, "*") != 0 && strcmp(group, a->group) != 0)
        return false;
    if (!spec->resources.len)
        return true;
    if (spec->resource_names.len && !kp_string_list_has(&spec->resource_names, a->name))
        return false;
    for (size_t i = 0; i < spec->resources.len; i++)
        if (resource_matches(spec->resources.items[i], a))
            return true;
    return false;
}

static bool matches_resource(const struct k8s_audit_policy_rule *rule, const struct audit_attributes *a)
{
    if (!a->resource_request || (rule->namespaces.len && !kp_string_list_has(&rule->namespaces, a->ns)))
        return false;
    for (size_t i = 0; i < rule->resources.len; i++)
        if (matches_group(&rule->resources.items[i], a))
            return true;
    return !rule->resources.len;
}

static bool matches_user(const struct k8s_audit_policy_rule *rule, const struct audit_attributes *a)
{
    bool in_group = !rule->user_groups.len;
    if (rule->users.len && (!a->user || !kp_string_list_has(&rule->users, a->user)))
        return false;
    for (size_t i = 0; a->user && !in_group && i < a->groups->len; i++)
        in_group = kp_string_list_has(&rule->user_groups, a->groups->items[i]);
    return in_group;
}

static bool matches(const struct k8s_audit_policy_rule *rule, const struct audit_attributes *a)
{
    if (!matches_user(rule, a) || (rule->verbs.len && !kp_string_list_has(&rule->verbs, a->verb)))
        return false;
    if (rule->namespaces.len || rule->resources.len)
        return matches_resource(rule, a);
    return !rule->non_resource_urls.len || matches_path(rule, a);
}

struct audit_verdict audit_policy_match(const struct audit_policy *policy, const struct audit_attributes *attributes)
{
    for (size_t i = 0; i < policy->len; i++)
        if (matches(policy->rules[i].source, attributes))
            return policy->rules[i].verdict;
    return policy->otherwise;
}
