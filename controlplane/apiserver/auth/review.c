/* The review kinds: who am I, is this token good, may this user do that, what may I do. */
#include "controlplane/apiserver/auth/auth_internal.h"

static void fill_user_info(struct kp_arena *arena, const struct auth_user *user, struct k8s_user_info *out)
{
    out->username = user->name;
    out->uid = user->uid;
    out->groups = user->groups;
    out->extra = user->extra;
}

static int token_review(struct auth *auth, struct k8s_token_review *review, struct kp_arena *arena, struct api_status *status)
{
    struct auth_user user = {.name = "", .uid = ""};
    struct kp_string_list audiences = {0};
    const char *why;
    if (kp_empty(review->spec->token)) {
        struct field_errors errors = {.arena = arena};
        field_required(&errors, "", "spec.token");
        return status_invalid(status, "authentication.k8s.io", "TokenReview", "", &errors);
    }
    if (auth_token_authenticate(auth, review->spec->token, &review->spec->audiences, arena, &user, &audiences, &why) < 0) {
        review->status->error = kp_arena_printf(arena, "[invalid bearer token, %s]", why);
        return 0;
    }
    kp_string_list_add(arena, &user.groups, "system:authenticated");
    KP_SET(review->status, authenticated, true);
    review->status->audiences = audiences;
    fill_user_info(arena, &user, review->status->user);
    return 0;
}

static void decide(struct auth *auth, const struct auth_user *user, const struct k8s_resource_attributes *resource,
                   const struct k8s_non_resource_attributes *other, struct k8s_subject_access_review_status *out, struct kp_arena *arena)
{
    struct auth_attributes a = {
        .user = user, .verb = "", .group = "", .version = "", .resource = "", .subresource = "", .ns = "", .name = "", .path = "",
        .field_selector = "", .label_selector = "",
    };
#define OR_EMPTY(s) ((s) ? (s) : "")
    if (resource) {
        a.resource_request = true;
        a.verb = OR_EMPTY(resource->verb);
        a.group = OR_EMPTY(resource->group);
        a.version = OR_EMPTY(resource->version);
        a.resource = OR_EMPTY(resource->resource);
        a.subresource = OR_EMPTY(resource->subresource);
        a.ns = OR_EMPTY(resource->namespace);
        a.name = OR_EMPTY(resource->name);
        if (resource->field_selector)
            a.field_selector = OR_EMPTY(resource->field_selector->raw_selector);
        if (resource->label_selector)
            a.label_selector = OR_EMPTY(resource->label_selector->raw_selector);
    } else {
        a.verb = OR_EMPTY(other->verb);
        a.path = OR_EMPTY(other->path);
    }
#undef OR_EMPTY
    const char *reason;
    out->allowed = auth_authorize(auth, &a, arena, &reason);
    out->reason = reason;
}

static int one_of(const struct k8s_resource_attributes *resource, const struct k8s_non_resource_attributes *other, const char *kind,
                  struct kp_arena *arena, struct api_status *status)
{
    struct field_errors errors = {.arena = arena};
    if (resource && other)
        field_invalid(&errors, "", "cannot be specified in combination with resourceAttributes", "spec.nonResourceAttributes");
    else if (!resource && !other)
        field_invalid(&errors, "", "exactly one of nonResourceAttributes or resourceAttributes must be specified", "spec.resourceAttributes");
    return errors.len ? status_invalid(status, "authorization.k8s.io", kind, "", &errors) : 0;
}

static int access_review(struct auth *auth, const char *kind, const char *ns, const struct k8s_subject_access_review_spec *spec,
                         struct k8s_subject_access_review_status *out, struct kp_arena *arena, struct api_status *status)
{
    if (one_of(spec->resource_attributes, spec->non_resource_attributes, kind, arena, status) < 0)
        return status->code;
    if (kp_empty(spec->user) && spec->groups.len == 0) {
        struct field_errors errors = {.arena = arena};
        field_invalid(&errors, "", "at least one of user or group must be specified", "spec.user");
        return status_invalid(status, "authorization.k8s.io", kind, "", &errors);
    }
    if (!kp_empty(ns) && spec->resource_attributes && !kp_streq(spec->resource_attributes->namespace, ns)) {
        struct field_errors errors = {.arena = arena};
        field_invalid(&errors, spec->resource_attributes->namespace, "must match metadata.namespace", "spec.resourceAttributes.namespace");
        return status_invalid(status, "authorization.k8s.io", kind, "", &errors);
    }
    const struct auth_user user = {.name = spec->user ? spec->user : "", .uid = spec->uid ? spec->uid : "", .groups = spec->groups, .extra = spec->extra};
    decide(auth, &user, spec->resource_attributes, spec->non_resource_attributes, out, arena);
    return 0;
}

struct collected {
    struct kp_arena *arena;
    struct k8s_subject_rules_review_status *out;
};

static struct kp_string_list copy_list(struct kp_arena *arena, const struct kp_string_list *list)
{
    struct kp_string_list copy = {0};
    for (size_t i = 0; i < list->len; i++)
        kp_string_list_add(arena, &copy, kp_arena_strdup(arena, list->items[i]));
    return copy;
}

static bool collect(const struct k8s_policy_rule *rule, const char *why, void *arg)
{
    struct collected *c = arg;
    if (rule->resources.len) {
        struct k8s_resource_rule *out = KP_LIST_ADD(c->arena, &c->out->resource_rules);
        out->verbs = copy_list(c->arena, &rule->verbs);
        out->api_groups = copy_list(c->arena, &rule->api_groups);
        out->resources = copy_list(c->arena, &rule->resources);
        out->resource_names = copy_list(c->arena, &rule->resource_names);
    }
    if (rule->non_resource_urls.len) {
        struct k8s_non_resource_rule *out = KP_LIST_ADD(c->arena, &c->out->non_resource_rules);
        out->verbs = copy_list(c->arena, &rule->verbs);
        out->non_resource_urls = copy_list(c->arena, &rule->non_resource_urls);
    }
    return true;
}

static void rules_review(struct auth *auth, const struct auth_user *user, struct k8s_self_subject_rules_review *review, struct kp_arena *arena)
{
    struct collected c = {arena, review->status};
    if (kp_string_list_has(&user->groups, AUTH_GROUP_MASTERS)) {
        struct k8s_resource_rule *all = KP_LIST_ADD(arena, &review->status->resource_rules);
        kp_string_list_add(arena, &all->verbs, "*");
        kp_string_list_add(arena, &all->api_groups, "*");
        kp_string_list_add(arena, &all->resources, "*");
        struct k8s_non_resource_rule *urls = KP_LIST_ADD(arena, &review->status->non_resource_rules);
        kp_string_list_add(arena, &urls->verbs, "*");
        kp_string_list_add(arena, &urls->non_resource_urls, "*");
    }
    auth_rbac_visit(auth->rbac, user, review->spec->namespace, collect, &c);
    for (size_t i = 0; i < auth->n_modes; i++)
        if (auth->modes[i] == AUTH_MODE_NODE && kp_string_list_has(&user->groups, "system:nodes")) {
            review->status->incomplete = true;
            review->status->evaluation_error = "node authorizer does not support user rule resolution";
        }
}

int auth_review(struct auth *auth, const struct kp_resource *resource, const char *ns, const struct auth_user *user, void *obj,
                struct kp_arena *arena, struct api_status *status)
{
    if (kp_streq(resource->name, "tokenreviews"))
        return token_review(auth, obj, arena, status);
    if (kp_streq(resource->name, "selfsubjectreviews")) {
        fill_user_info(arena, user, ((struct k8s_self_subject_review *)obj)->status->user_info);
        return 0;
    }
    if (kp_streq(resource->name, "selfsubjectaccessreviews")) {
        struct k8s_self_subject_access_review *review = obj;
        if (one_of(review->spec->resource_attributes, review->spec->non_resource_attributes, resource->kind, arena, status) < 0)
            return status->code;
        decide(auth, user, review->spec->resource_attributes, review->spec->non_resource_attributes, review->status, arena);
        return 0;
    }
    if (kp_streq(resource->name, "subjectaccessreviews")) {
        struct k8s_subject_access_review *review = obj;
        return access_review(auth, resource->kind, "", review->spec, review->status, arena, status);
    }
    if (kp_streq(resource->name, "localsubjectaccessreviews")) {
        struct k8s_local_subject_access_review *review = obj;
        return access_review(auth, resource->kind, ns, review->spec, review->status, arena, status);
    }
    if (kp_streq(resource->name, "selfsubjectrulesreviews")) {
        rules_review(auth, user, obj, arena);
        return 0;
    }
    return status_internal(status, "%s is no review", resource->name);
}
