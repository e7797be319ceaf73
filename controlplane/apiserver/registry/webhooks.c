/* Webhook configurations: what they may say (k8s.io/kubernetes pkg/apis/admissionregistration/validation). */
#include "controlplane/apiserver/registry/strategy_internal.h"

#include "controlplane/apiserver/extension/extension.h"
#include "controlplane/apiserver/policy/policy.h"

#define TIMEOUT_S_MIN 1
#define TIMEOUT_S_MAX 30
#define URL_FORM "; desired format: https://host[/path]"

/* Both kinds have these members at other places. */
struct hook {
    const char *name, *side_effects;
    const struct k8s_webhook_client_config *client;
    const struct k8s_rule_with_operations_items *rules;
    const struct k8s_label_selector *namespaces, *objects;
    const struct kp_string_list *versions;
    const struct k8s_match_condition_items *conditions;
    bool has_timeout;
    int32_t timeout_s;
};
#define HOOK_OF(source)                                                                                                                                  \
    ((struct hook){.name = (source)->name,                                                                                                               \
                   .side_effects = (source)->side_effects,                                                                                               \
                   .client = (source)->client_config,                                                                                                    \
                   .rules = &(source)->rules,                                                                                                            \
                   .namespaces = (source)->namespace_selector,                                                                                           \
                   .objects = (source)->object_selector,                                                                                                 \
                   .versions = &(source)->admission_review_versions,                                                                                     \
                   .conditions = &(source)->match_conditions,                                                                                            \
                   .has_timeout = (source)->has_timeout_seconds,                                                                                         \
                   .timeout_s = (source)->timeout_seconds})

static void check_name(const char *name, struct field_errors *errors, const char *path)
{
    int dots = 0;
    if (kp_empty(name))
        return; /* the schema says so */
    for (const char *c = name; *c; c++)
        dots += *c == '.';
    const char *fault = name_is_subdomain(name);
    if (fault)
        field_invalid(errors, name, fault, "%s.name", path);
    else if (dots < 2)
        field_invalid(errors, name, "should be a domain with at least three segments separated by dots", "%s.name", path);
}

/* ---- whom to ask ------------------------------------------------------------------------------------------------------------------------ */
static void check_url(const char *url, struct field_errors *errors, const char *path)
{
    const char *rest = kp_starts_with(url, "https://") ? url + strlen("https://") : NULL;
    if (!rest) {
        field_invalid(errors, url, "'https' is the only allowed URL scheme" URL_FORM, "%s.url", path);
        return;
    }
    size_t host = strcspn(rest, "/?#");
    if (host == 0)
        field_invalid(errors, "", "host must be specified" URL_FORM, "%s.url", path);
    if (memchr(rest, '@', host))
        field_invalid(errors, url, "user information is not permitted in the URL", "%s.url", path);
    if (strchr(rest, '#'))
        field_invalid(errors, strchr(rest, '#') + 1, "fragments are not permitted in the URL", "%s.url", path);
    if (rest[strcspn(rest, "?#")] == '?')
        field_invalid(errors, rest + strcspn(rest, "?#") + 1, "query parameters are not permitted in the URL", "%s.url", path);
}

static void check_path(const char *text, struct field_errors *errors, const char *path)
{
    if (*text != '/') {
        field_invalid(errors, text, "must start with a '/'", "%s.service.path", path);
        return;
    }
    int number = 0;
    for (const char *at = text + 1; strcmp(text, "/") != 0; number++) {
        size_t len = strcspn(at, "/");
        if (len == 0 && (at[len] || number == 0)) {
            field_invalid(errors, text, kp_arena_printf(errors->arena, "segment[%d] may not be empty", number), "%s.service.path", path);
            return;
        }
        const char *segment = kp_arena_strndup(errors->arena, at, len), *fault = len ? name_is_subdomain(segment) : NULL;
        if (fault)
            field_invalid(errors, text, kp_arena_printf(errors->arena, "segment[%d]: %s", number, fault), "%s.service.path", path);
        if (!at[len])
            return;
        at += len + 1;
    }
}

static void check_client(const struct k8s_webhook_client_config *client, struct field_errors *errors, const char *path)
{
    if (!client->url == !client->service) {
        field_required(errors, "exactly one of url or service is required", "%s", path);
        return;
    }
    if (client->url) {
        check_url(client->url, errors, path);
        return;
    }
    const struct k8s_service_reference *service = client->service;
    if (kp_empty(service->name))
        field_required(errors, "service name is required", "%s.service.name", path);
    if (kp_empty(service->namespace))
        field_required(errors, "service namespace is required", "%s.service.namespace", path);
    if (service->has_port && (service->port < 1 || service->port > 65535))
        field_invalid_int(errors, service->port, "port is not valid: must be between 1 and 65535, inclusive", "%s.service.port", path);
    if (!kp_empty(service->path))
        check_path(service->path, errors, path);
}

/* ---- about what ------------------------------------------------------------------------------------------------------------------------- */
static const char *list_text(struct kp_arena *arena, const struct kp_string_list *list)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    kp_buf_puts(&out, "[");
    for (size_t i = 0; i < list->len; i++) {
        kp_buf_puts(&out, i ? "," : "");
        kp_json_string(&out, list->items[i]);
    }
    kp_buf_puts(&out, "]");
    return kp_arena_strdup(arena, out.data);
}

static void check_words(const struct kp_string_list *list, bool may_be_empty_word, const char *others, struct field_errors *errors, const char *path)
{
    if (!list->len)
        field_required(errors, "", "%s", path);
    for (size_t i = 0; i < list->len && !may_be_empty_word; i++)
        if (kp_empty(list->items[i]))
            field_required(errors, "", "%s[%zu]", path, i);
    if (list->len > 1 && kp_string_list_has(list, "*"))
        field_invalid_raw(errors, list_text(errors->arena, list), kp_arena_printf(errors->arena, "if '*' is present, must not specify other %s", others), "%s", path);
}

/* Names that a wildcard beside them says already. */
static void check_resource(const struct kp_string_list *list, size_t i, struct field_errors *errors, const char *path)
{
    const char *item = list->items[i], *slash = strchr(item, '/'), *sub = slash ? slash + 1 : "";
    const char *any_of = kp_arena_printf(errors->arena, "%.*s/*", slash ? (int)(slash - item) : (int)strlen(item), item);
    const char *of_any = kp_arena_printf(errors->arena, "*/%s", sub);
    if (*sub && strcmp(sub, "*") != 0 && *item != '*' && kp_string_list_has(list, of_any))
        field_invalid(errors, item, kp_arena_printf(errors->arena, "if '%s' is present, must not specify %s", of_any, item), "%s[%zu]", path, i);
    if (slash && strcmp(sub, "*") != 0 && kp_string_list_has(list, any_of))
        field_invalid(errors, item, kp_arena_printf(errors->arena, "if '%s' is present, must not specify %s", any_of, item), "%s[%zu]", path, i);
    if (!slash && strcmp(item, "*") != 0 && kp_string_list_has(list, "*"))
        field_invalid(errors, item, "if '*' is present, must not specify other resources without subresources", "%s[%zu]", path, i);
}

static void check_resources(const struct kp_string_list *list, struct field_errors *errors, const char *path)
{
    if (!list->len)
        field_required(errors, "", "%s", path);
    for (size_t i = 0; i < list->len; i++) {
        if (kp_empty(list->items[i]))
            field_required(errors, "", "%s[%zu]", path, i);
        else if (strcmp(list->items[i], "*/") == 0)
            field_invalid(errors, "*/", "empty subresource: must be a resource, a resource with a subresource, or a wildcard", "%s[%zu]", path, i);
        else
            check_resource(list, i, errors, path);
    }
    if (list->len > 1 && kp_string_list_has(list, "*/*"))
        field_invalid_raw(errors, list_text(errors->arena, list), "if '*/*' is present, must not specify other resources", "%s", path);
}

void validate_rule_with_operations(const struct k8s_rule_with_operations *rule, struct field_errors *errors, const char *path)
{
    struct kp_arena *arena = errors->arena;
    check_words(&rule->operations, false, "operations", errors, kp_arena_printf(arena, "%s.operations", path));
    check_words(&rule->api_groups, true, "API groups", errors, kp_arena_printf(arena, "%s.apiGroups", path));
    check_words(&rule->api_versions, false, "API versions", errors, kp_arena_printf(arena, "%s.apiVersions", path));
    check_resources(&rule->resources, errors, kp_arena_printf(arena, "%s.resources", path));
}

/* ---- one webhook ------------------------------------------------------------------------------------------------------------------------- */
static void check_versions(const struct kp_string_list *versions, struct field_errors *errors, const char *path)
{
    bool known = false;
    if (!versions->len) {
        field_required(errors, "must specify one of v1, v1beta1", "%s.admissionReviewVersions", path);
        return;
    }
    for (size_t i = 0; i < versions->len; i++) {
        const char *fault = name_is_label_1035(versions->items[i]);
        for (size_t j = 0; j < i; j++)
            if (strcmp(versions->items[i], versions->items[j]) == 0)
                field_invalid(errors, versions->items[i], "duplicate version", "%s.admissionReviewVersions[%zu]", path, i);
        if (fault)
            field_invalid(errors, versions->items[i], fault, "%s.admissionReviewVersions[%zu]", path, i);
        known = known || strcmp(versions->items[i], "v1") == 0 || strcmp(versions->items[i], "v1beta1") == 0;
    }
    if (!known)
        field_invalid_raw(errors, list_text(errors->arena, versions), "must include at least one of v1, v1beta1", "%s.admissionReviewVersions", path);
}

static void check_hook(const struct hook *hook, struct field_errors *errors, const char *path)
{
    static const char *const none[] = {"None", "NoneOnDryRun", NULL};
    struct kp_arena *arena = errors->arena;
    check_name(hook->name, errors, path);
    for (size_t i = 0; i < hook->rules->len; i++)
        validate_rule_with_operations(&hook->rules->items[i], errors, kp_arena_printf(arena, "%s.rules[%zu]", path, i));
    if (!hook->side_effects)
        field_required(errors, "must specify one of None, NoneOnDryRun", "%s.sideEffects", path);
    else if (strcmp(hook->side_effects, "Unknown") == 0 || strcmp(hook->side_effects, "Some") == 0)
        field_not_supported(errors, hook->side_effects, none, "%s.sideEffects", path);
    if (hook->has_timeout && (hook->timeout_s < TIMEOUT_S_MIN || hook->timeout_s > TIMEOUT_S_MAX))
        field_invalid_int(errors, hook->timeout_s, "the timeout value must be between 1 and 30 seconds", "%s.timeoutSeconds", path);
    if (hook->namespaces)
        validate_label_selector(hook->namespaces, errors, kp_arena_printf(arena, "%s.namespaceSelector", path));
    if (hook->objects)
        validate_label_selector(hook->objects, errors, kp_arena_printf(arena, "%s.objectSelector", path));
    check_client(hook->client, errors, kp_arena_printf(arena, "%s.clientConfig", path));
    check_versions(hook->versions, errors, path);
    if (hook->conditions->len)
        policy_check_conditions(hook->conditions, extension_environment(arena, false, NULL), errors, kp_arena_printf(arena, "%s.matchConditions", path));
}

static void check_hooks(const struct hook *hooks, size_t count, struct field_errors *errors)
{
    for (size_t i = 0; i < count; i++) {
        check_hook(&hooks[i], errors, kp_arena_printf(errors->arena, "webhooks[%zu]", i));
        for (size_t j = 0; j < i; j++)
            if (kp_streq(hooks[i].name, hooks[j].name)) {
                field_duplicate(errors, hooks[i].name, "webhooks[%zu].name", i);
                break;
            }
    }
}

void validating_webhooks_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    const struct k8s_validating_webhook_configuration *configuration = obj;
    struct hook *hooks = KP_NEW_ARRAY(rq->arena, struct hook, KP_MAX(configuration->webhooks.len, (size_t)1));
    for (size_t i = 0; i < configuration->webhooks.len; i++)
        hooks[i] = HOOK_OF(&configuration->webhooks.items[i]);
    check_hooks(hooks, configuration->webhooks.len, errors);
}

void mutating_webhooks_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    const struct k8s_mutating_webhook_configuration *configuration = obj;
    struct hook *hooks = KP_NEW_ARRAY(rq->arena, struct hook, KP_MAX(configuration->webhooks.len, (size_t)1));
    for (size_t i = 0; i < configuration->webhooks.len; i++)
        hooks[i] = HOOK_OF(&configuration->webhooks.items[i]);
    check_hooks(hooks, configuration->webhooks.len, errors);
}

/* They have no spec: all but metadata counts. */
void webhooks_prepare_update(struct registry_request *rq, void *obj, const void *old)
{
    const struct kp_type *type = rq->kind->storage->type;
    struct kp_value *a = kp_value_from_object(type, obj, rq->arena), *b = kp_value_from_object(type, old, rq->arena);
    kp_value_remove(a, "metadata");
    kp_value_remove(b, "metadata");
    if (!kp_value_equal(a, b))
        KP_SET(kp_object_meta(type, obj), generation, kp_object_meta(type, old)->generation + 1);
}
