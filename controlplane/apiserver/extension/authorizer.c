/* `authorizer` in expressions: what somebody may do, asked of the API server's own authoriser (k8s.io/apiserver pkg/cel/library/authz.go). */
#include "controlplane/apiserver/extension/extension_internal.h"

#define CHECK_COST 350000 /* upstream's: a check is dear */

/* Who is asked about; then what for, one part after the other. Values are immutable: each call makes a new one. */
struct authorizer {
    struct auth *auth;
    const struct auth_user *user;
    struct auth_attributes of_request; /* authorizer.requestResource */
};
struct check {
    struct auth *auth;
    struct auth_attributes attributes;
};
struct decision {
    bool allowed;
    const char *reason;
};

static bool authorizer_field(struct cel_eval *eval, void *data, const char *name, struct cel_value *ret);
#define OPAQUE(text) {.kind = CEL_OPAQUE, .name = "kubernetes.authorization." text}
static const struct cel_type path_type = OPAQUE("PathCheck"), group_type = OPAQUE("GroupCheck"), resource_type = OPAQUE("ResourceCheck"), decision_type = OPAQUE("Decision");
static const struct cel_field authorizer_fields[] = {{"requestResource", "requestResource", &resource_type}};
static const struct cel_type authorizer_type = {.kind = CEL_OBJECT, .name = "kubernetes.authorization.Authorizer", .fields = authorizer_fields, .n_fields = 1};
static const struct cel_class authorizer_class = {.type = &authorizer_type, .field = authorizer_field}, path_class = {.type = &path_type}, group_class = {.type = &group_type},
                              resource_class = {.type = &resource_type}, decision_class = {.type = &decision_type};

/* Text with a NUL at its end, in the evaluation's memory; "" when that is used up, which ends the evaluation. */
static const char *text_of(struct cel_eval *eval, const struct cel_value *value)
{
    char *copy = cel_alloc(eval, value->text.len + 1);
    if (!copy)
        return "";
    memcpy(copy, value->text.data, value->text.len);
    copy[value->text.len] = '\0';
    return copy;
}

static struct cel_value check_value(struct cel_eval *eval, const struct cel_class *class, struct auth *auth, const struct auth_attributes *attributes)
{
    struct check *check = cel_alloc(eval, sizeof(*check));
    if (!check)
        return cel_of_null();
    *check = (struct check){.auth = auth, .attributes = *attributes};
    return cel_of_object(class, check);
}

static bool authorizer_field(struct cel_eval *eval, void *data, const char *name, struct cel_value *ret)
{
    const struct authorizer *authorizer = data;
    if (strcmp(name, "requestResource") != 0)
        return false;
    *ret = check_value(eval, &resource_class, authorizer->auth, &authorizer->of_request);
    return true;
}

static struct cel_value group(struct cel_eval *eval, const struct cel_value *args)
{
    const struct authorizer *authorizer = args[0].object.data;
    const struct auth_attributes attributes = {.user = authorizer->user, .resource_request = true, .group = text_of(eval, &args[1]), .version = "*", .resource = "",
                                               .subresource = "", .ns = "", .name = "", .path = "", .field_selector = "", .label_selector = ""};
    return check_value(eval, &group_class, authorizer->auth, &attributes);
}

static struct cel_value path(struct cel_eval *eval, const struct cel_value *args)
{
    const struct authorizer *authorizer = args[0].object.data;
    if (!args[1].text.len)
        return cel_fail(eval, "path must not be empty");
    const struct auth_attributes attributes = {.user = authorizer->user, .group = "", .version = "", .resource = "", .subresource = "", .ns = "", .name = "",
                                               .path = text_of(eval, &args[1]), .field_selector = "", .label_selector = ""};
    return check_value(eval, &path_class, authorizer->auth, &attributes);
}

static struct cel_value service_account(struct cel_eval *eval, const struct cel_value *args)
{
    const struct authorizer *authorizer = args[0].object.data;
    struct authorizer *other = cel_alloc(eval, sizeof(*other));
    struct auth_user *user = cel_alloc(eval, sizeof(*user));
    const char **groups = cel_alloc(eval, 3 * sizeof(*groups));
    const char *ns = text_of(eval, &args[1]), *name = text_of(eval, &args[2]);
    size_t user_len = args[1].text.len + args[2].text.len + sizeof("system:serviceaccount::"), group_len = args[1].text.len + sizeof("system:serviceaccounts:");
    char *user_name = cel_alloc(eval, user_len), *group_name = cel_alloc(eval, group_len);
    if (!other || !user || !groups || !user_name || !group_name)
        return cel_of_null();
    if (!*ns || !*name || strchr(ns, '/') || strchr(name, '/'))
        return cel_fail(eval, "invalid service account %s: \"%s\"", *ns && !strchr(ns, '/') ? "name" : "namespace", *ns && !strchr(ns, '/') ? name : ns);
    snprintf(user_name, user_len, "system:serviceaccount:%s:%s", ns, name);
    snprintf(group_name, group_len, "system:serviceaccounts:%s", ns);
    groups[0] = "system:serviceaccounts";
    groups[1] = group_name;
    groups[2] = "system:authenticated";
    *user = (struct auth_user){.name = user_name, .uid = "", .groups = {groups, 3}};
    *other = *authorizer;
    other->user = other->of_request.user = user;
    return cel_of_object(&authorizer_class, other);
}

/* One more part of what is asked. */
#define PART(function, member)                                                                                         \
    static struct cel_value function(struct cel_eval *eval, const struct cel_value *args)                              \
    {                                                                                                                  \
        const struct check *check = args[0].object.data;                                                               \
        struct auth_attributes attributes = check->attributes;                                                         \
        attributes.member = text_of(eval, &args[1]);                                                                   \
        return check_value(eval, &resource_class, check->auth, &attributes);                                           \
    }
PART(resource, resource)
PART(subresource, subresource)
PART(in_namespace, ns)
PART(named, name)
PART(field_selector, field_selector)
PART(label_selector, label_selector)

static struct cel_value check(struct cel_eval *eval, const struct cel_value *args)
{
    const struct check *asked = args[0].object.data;
    struct decision *decision = cel_alloc(eval, sizeof(*decision));
    if (!decision)
        return cel_of_null();
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct auth_attributes attributes = asked->attributes;
    const char *reason = "";
    attributes.verb = text_of(eval, &args[1]);
    decision->allowed = auth_authorize(asked->auth, &attributes, arena, &reason);
    const struct cel_value copy = cel_of_string(reason);
    decision->reason = text_of(eval, &copy);
    return cel_of_object(&decision_class, decision);
}

static struct cel_value allowed(struct cel_eval *eval, const struct cel_value *args)
{
    (void)eval;
    return cel_of_bool(((const struct decision *)args[0].object.data)->allowed);
}

static struct cel_value reason(struct cel_eval *eval, const struct cel_value *args)
{
    (void)eval;
    return cel_of_string(((const struct decision *)args[0].object.data)->reason);
}

/* Our authoriser reads caches and cannot fail. */
static struct cel_value errored(struct cel_eval *eval, const struct cel_value *args)
{
    (void)eval;
    (void)args;
    return cel_of_bool(false);
}

static struct cel_value error_text(struct cel_eval *eval, const struct cel_value *args)
{
    (void)eval;
    (void)args;
    return cel_of_string("");
}

static uint64_t check_cost(struct cel_eval *eval, const struct cel_value *args, size_t n, const struct cel_value *result)
{
    (void)eval;
    (void)args;
    (void)n;
    (void)result;
    return CHECK_COST;
}

#define MEMBER(name, id, function, result, ...) {name, id, true, function, NULL, result, {__VA_ARGS__}}
static const struct cel_overload overloads[] = {
    MEMBER("path", "authorizer_path", path, &path_type, &authorizer_type, &cel_string),
    MEMBER("group", "authorizer_group", group, &group_type, &authorizer_type, &cel_string),
    MEMBER("serviceAccount", "authorizer_serviceaccount", service_account, &authorizer_type, &authorizer_type, &cel_string, &cel_string),
    MEMBER("resource", "groupcheck_resource", resource, &resource_type, &group_type, &cel_string),
    MEMBER("subresource", "resourcecheck_subresource", subresource, &resource_type, &resource_type, &cel_string),
    MEMBER("namespace", "resourcecheck_namespace", in_namespace, &resource_type, &resource_type, &cel_string),
    MEMBER("name", "resourcecheck_name", named, &resource_type, &resource_type, &cel_string),
    MEMBER("fieldSelector", "resourcecheck_fieldselector", field_selector, &resource_type, &resource_type, &cel_string),
    MEMBER("labelSelector", "resourcecheck_labelselector", label_selector, &resource_type, &resource_type, &cel_string),
    {"check", "pathcheck_check", true, check, check_cost, &decision_type, {&path_type, &cel_string}},
    {"check", "resourcecheck_check", true, check, check_cost, &decision_type, {&resource_type, &cel_string}},
    MEMBER("allowed", "decision_allowed", allowed, &cel_bool, &decision_type),
    MEMBER("reason", "decision_reason", reason, &cel_string, &decision_type),
    MEMBER("errored", "decision_errored", errored, &cel_bool, &decision_type),
    MEMBER("error", "decision_error", error_text, &cel_string, &decision_type),
};
static const struct cel_library library = {overloads, KP_ARRAY_LEN(overloads)};

const struct cel_type *extension_authorizer_type(void) { return &authorizer_type; }
const struct cel_library *extension_authorizer_library(void) { return &library; }

struct cel_value extension_authorizer_value(const struct admission_attributes *a, struct auth *auth, struct kp_arena *arena)
{
    struct authorizer *authorizer = KP_NEW(arena, struct authorizer);
    *authorizer = (struct authorizer){.auth = auth,
                                      .user = a->user,
                                      .of_request = {.user = a->user,
                                                     .resource_request = true,
                                                     .group = a->resource->group,
                                                     .version = a->resource->version,
                                                     .resource = a->resource->name,
                                                     .subresource = a->subresource ? a->subresource : "",
                                                     .ns = a->ns ? a->ns : "",
                                                     .name = a->name ? a->name : "",
                                                     .path = "",
                                                     .field_selector = "",
                                                     .label_selector = ""}};
    return cel_of_object(&authorizer_class, authorizer);
}
