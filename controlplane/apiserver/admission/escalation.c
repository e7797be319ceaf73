/* RBACEscalation: nobody grants by a role or a binding more than they hold themselves. Upstream checks this in the storage of the
 * four kinds (registry/rbac/.../policybased); here it is a step like the others. */
#include "controlplane/apiserver/admission/admission_internal.h"

#define RBAC_GROUP "rbac.authorization.k8s.io"
#define MISSING_SHOWN_MAX 50 /* rules spelled out in an error */

/* Asks for one verb on one thing: a rule is covered when each of its combinations is. Asking the authoriser covers what the user
   holds through any mode, and through several roles together. */
static bool holds(struct admission *admission, const struct admission_attributes *a, const char *verb, const char *group, const char *resource,
                  const char *name, const char *path)
{
    const char *slash = resource ? strchr(resource, '/') : NULL;
    const struct auth_attributes wanted = {
        .user = a->user, .verb = verb, .resource_request = path == NULL, .group = group ? group : "", .version = "",
        .resource = !resource ? "" : slash ? kp_arena_strndup(a->arena, resource, (size_t)(slash - resource)) : resource,
        .subresource = slash ? slash + 1 : "", .ns = a->ns, .name = name ? name : "", .path = path ? path : "", .field_selector = "", .label_selector = "",
    };
    return auth_covers(admission->config.auth, &wanted, a->arena);
}

static bool holds_resource(struct admission *admission, const struct admission_attributes *a, const struct k8s_policy_rule *rule, const char *verb,
                           const char *group, const char *resource)
{
    if (rule->resource_names.len == 0)
        return holds(admission, a, verb, group, resource, NULL, NULL);
    for (size_t i = 0; i < rule->resource_names.len; i++)
        if (!holds(admission, a, verb, group, resource, rule->resource_names.items[i], NULL))
            return false;
    return true;
}

static bool covered(struct admission *admission, const struct admission_attributes *a, const struct k8s_policy_rule *rule)
{
    for (size_t v = 0; v < rule->verbs.len; v++) {
        for (size_t g = 0; g < rule->api_groups.len; g++)
            for (size_t r = 0; r < rule->resources.len; r++)
                if (!holds_resource(admission, a, rule, rule->verbs.items[v], rule->api_groups.items[g], rule->resources.items[r]))
                    return false;
        for (size_t u = 0; u < rule->non_resource_urls.len; u++)
            if (!holds(admission, a, rule->verbs.items[v], NULL, NULL, NULL, rule->non_resource_urls.items[u]))
                return false;
    }
    return true;
}

static void put_words(struct kp_buf *out, const char *name, const struct kp_string_list *words)
{
    if (!words->len)
        return;
    kp_buf_printf(out, "%s%s:[", out->data[out->len - 1] == '{' ? "" : ", ", name);
    for (size_t i = 0; i < words->len; i++)
        kp_buf_printf(out, "%s\"%s\"", i ? " " : "", words->items[i]);
    kp_buf_putc(out, ']');
}

static void put_rule(struct kp_buf *out, const struct k8s_policy_rule *rule)
{
    kp_buf_puts(out, "\n{");
    put_words(out, "APIGroups", &rule->api_groups);
    put_words(out, "Resources", &rule->resources);
    put_words(out, "ResourceNames", &rule->resource_names);
    put_words(out, "NonResourceURLs", &rule->non_resource_urls);
    put_words(out, "Verbs", &rule->verbs);
    kp_buf_putc(out, '}');
}

static int refuse_missing(struct admission *admission, const struct admission_attributes *a, const struct k8s_policy_rule_items *rules,
                          struct api_status *status)
{
    KP_AUTO_BUF struct kp_buf missing = {0}, groups = {0};
    size_t count = 0;
    for (size_t i = 0; i < rules->len; i++)
        if (!covered(admission, a, &rules->items[i]) && count++ < MISSING_SHOWN_MAX)
            put_rule(&missing, &rules->items[i]);
    if (!count)
        return 0;
    for (size_t i = 0; i < a->user->groups.len; i++)
        kp_buf_printf(&groups, "%s\"%s\"", i ? " " : "", a->user->groups.items[i]);
    return status_forbidden(status, a->resource->group, a->resource->name, a->name,
                            "user \"%s\" (groups=[%s]) is attempting to grant RBAC permissions not currently held:%s", a->user->name,
                            groups.data ? groups.data : "", missing.data);
}

/* The verb escalate or bind on the role lifts the check. */
static bool exempt(struct admission *admission, const struct admission_attributes *a, const char *verb, const char *resource, const char *name)
{
    const struct auth_attributes wanted = {.user = a->user, .verb = verb, .resource_request = true, .group = RBAC_GROUP, .version = "v1",
                                           .resource = resource, .subresource = "", .ns = a->ns, .name = name, .path = "",
                                           .field_selector = "", .label_selector = ""};
    return auth_authorize(admission->config.auth, &wanted, a->arena, NULL);
}

static bool same_rules(const struct k8s_policy_rule_items *a, const struct k8s_policy_rule_items *b)
{
    bool same = a->len == b->len;
    for (size_t i = 0; same && i < a->len; i++)
        same = kp_object_equal(&k8s_policy_rule_type, &a->items[i], &b->items[i]);
    return same;
}

static int check_role(struct admission *admission, struct admission_attributes *a, struct api_status *status)
{
    const struct k8s_role *role = a->object, *old = a->old_object;
    if (exempt(admission, a, "escalate", a->resource->name, a->name) || (old && same_rules(&role->rules, &old->rules)))
        return 0;
    return refuse_missing(admission, a, &role->rules, status);
}

static int check_cluster_role(struct admission *admission, struct admission_attributes *a, struct api_status *status)
{
    const struct k8s_cluster_role *role = a->object, *old = a->old_object;
    bool same_aggregation = old && (!role->aggregation_rule || (old->aggregation_rule && kp_object_equal(&k8s_aggregation_rule_type,
                                                                                                        role->aggregation_rule, old->aggregation_rule)));
    if (exempt(admission, a, "escalate", a->resource->name, a->name) || (same_aggregation && same_rules(&role->rules, &old->rules)))
        return 0;
    if (role->aggregation_rule && !same_aggregation) { /* whatever will be labelled later comes in: only who holds all may */
        static const char *star[] = {"*"};
        struct k8s_policy_rule all[2] = {
            {.verbs = {star, 1}, .api_groups = {star, 1}, .resources = {star, 1}},
            {.verbs = {star, 1}, .non_resource_urls = {star, 1}},
        };
        const struct k8s_policy_rule_items everything = {all, KP_ARRAY_LEN(all)};
        if (refuse_missing(admission, a, &everything, status) < 0)
            return status->code;
    }
    return refuse_missing(admission, a, &role->rules, status);
}

static int check_binding(struct admission *admission, struct admission_attributes *a, const struct k8s_role_ref *ref, const struct k8s_subject_items *now,
                         const struct k8s_subject_items *before, struct api_status *status)
{
    bool same = before && before->len == now->len;
    for (size_t i = 0; same && i < now->len; i++)
        same = kp_object_equal(&k8s_subject_type, &now->items[i], &before->items[i]);
    bool cluster = kp_streq(ref->kind, "ClusterRole");
    if (same || exempt(admission, a, "bind", cluster ? "clusterroles" : "roles", ref->name)) /* the reference itself cannot change */
        return 0;
    if (cluster) {
        struct k8s_policy_rule_items rules = {0};
        if (!auth_cluster_role_rules(admission->config.auth, ref->name, a->arena, &rules))
            return status_not_found(status, RBAC_GROUP, "clusterroles", ref->name);
        return refuse_missing(admission, a, &rules, status);
    }
    const struct k8s_role *role = admission_load(admission->roles, &k8s_role_type, a->ns, ref->name, a->arena);
    if (!role)
        return status_not_found(status, RBAC_GROUP, "roles", ref->name);
    return refuse_missing(admission, a, &role->rules, status);
}

int admission_rbac_escalation(struct admission *admission, struct admission_attributes *a, struct api_status *status)
{
    bool write = a->operation == ADMISSION_CREATE || a->operation == ADMISSION_UPDATE;
    if (!write || !a->object || strcmp(a->resource->group, RBAC_GROUP) != 0 || !auth_uses_rbac(admission->config.auth) ||
        kp_string_list_has(&a->user->groups, AUTH_GROUP_MASTERS) || strcmp(a->user->name, "system:apiserver") == 0) /* our own start-up */
        return 0;
    if (strcmp(a->resource->name, "roles") == 0)
        return check_role(admission, a, status);
    if (strcmp(a->resource->name, "clusterroles") == 0)
        return check_cluster_role(admission, a, status);
    if (strcmp(a->resource->name, "rolebindings") == 0) {
        const struct k8s_role_binding *now = a->object, *old = a->old_object;
        return check_binding(admission, a, now->role_ref, &now->subjects, old ? &old->subjects : NULL, status);
    }
    const struct k8s_cluster_role_binding *now = a->object, *old = a->old_object;
    return check_binding(admission, a, now->role_ref, &now->subjects, old ? &old->subjects : NULL, status);
}
