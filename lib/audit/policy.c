/* Audit policies are read and checked. */
#include "lib/audit/audit_internal.h"

#include <ctype.h>

static const char *const level_names[AUDIT_LEVELS] = {"None", "Metadata", "Request", "RequestResponse"};
static const char *const stage_names[AUDIT_STAGES] = {"RequestReceived", "ResponseStarted", "ResponseComplete", "Panic"};

const char *audit_level_name(enum audit_level level)
{
    return level_names[level];
}

const char *audit_stage_name(enum audit_stage stage)
{
    return stage_names[stage];
}

/* ---- checks, with upstream's words --------------------------------------------------------------------------------------------------- */
struct check {
    const char *source; /* of the document, for errors */
    struct kp_error *error;
};

static int invalid(const struct check *check, const char *path, const char *value, const char *why)
{
    return kp_fail(check->error, KP_EINVALID, "%s: %s: Invalid value: \"%s\": %s", check->source, path, value, why);
}

static int read_stages(const struct check *check, const struct kp_string_list *stages, const char *path, unsigned *omitted)
{
    for (size_t i = 0; i < stages->len; i++) {
        size_t stage = 0;
        while (stage < AUDIT_STAGES && !kp_streq(stages->items[i], stage_names[stage]))
            stage++;
        if (stage == AUDIT_STAGES) {
            KP_AUTO_FREE char *at = kp_asprintf("%s[%zu]", path, i);
            return invalid(check, at, stages->items[i], "allowed stages are RequestReceived,ResponseStarted,ResponseComplete,Panic");
        }
        *omitted |= 1u << stage;
    }
    return 0;
}

static int read_level(const struct check *check, const char *level, size_t index, enum audit_level *ret)
{
    if (kp_empty(level))
        return kp_fail(check->error, KP_EINVALID, "%s: rules[%zu].level: Required value", check->source, index);
    for (size_t i = 0; i < AUDIT_LEVELS; i++)
        if (strcmp(level, level_names[i]) == 0) {
            *ret = (enum audit_level)i;
            return 0;
        }
    return kp_fail(check->error, KP_EINVALID,
                   "%s: rules[%zu].level: Unsupported value: \"%s\": supported values: \"None\", \"Metadata\", \"Request\", \"RequestResponse\"", check->source,
                   index, level);
}

static int check_urls(const struct check *check, const struct kp_string_list *urls, size_t index)
{
    for (size_t i = 0; i < urls->len; i++) {
        const char *url = urls->items[i], *star = strchr(url, '*');
        KP_AUTO_FREE char *path = kp_asprintf("rules[%zu].nonResourceURLs[%zu]", index, i);
        if (strcmp(url, "*") == 0)
            continue;
        if (*url != '/')
            return invalid(check, path, url, "non-resource URL rules must begin with a '/' character");
        if (star && star[1])
            return invalid(check, path, url, "non-resource URL wildcards '*' must be the final character of the rule");
    }
    return 0;
}

static bool is_label(const char *label, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!islower((unsigned char)label[i]) && !isdigit((unsigned char)label[i]) && (label[i] != '-' || i == 0 || i == len - 1))
            return false;
    return len > 0;
}

static bool is_group(const char *name)
{
    for (const char *at = name;; at++) {
        size_t len = strcspn(at, ".");
        if (!is_label(at, len))
            return false;
        at += len;
        if (!*at)
            return strlen(name) <= 253;
    }
}

static int check_resources(const struct check *check, const struct k8s_audit_policy_rule *rule, size_t index)
{
    for (size_t i = 0; i < rule->resources.len; i++) {
        const struct k8s_audit_group_resources *resources = &rule->resources.items[i];
        if (!kp_empty(resources->group) && strcmp(resources->group, "*") != 0 && !is_group(resources->group)) {
            KP_AUTO_FREE char *path = kp_asprintf("rules[%zu].resources[%zu].group", index, i);
            return invalid(check, path, resources->group,
                           "a group is a DNS name in lower case, without its version: \"apps\", \"rbac.authorization.k8s.io\", \"\" for the core or \"*\" for all");
        }
        if (resources->resource_names.len && !resources->resources.len)
            return kp_fail(check->error, KP_EINVALID, "%s: rules[%zu].resources[%zu].resourceNames: Invalid value: using resourceNames requires at least one resource",
                           check->source, index, i);
    }
    return 0;
}

static int read_rule(const struct check *check, const struct k8s_audit_policy *policy, size_t index, unsigned omitted, struct audit_rule *ret)
{
    const struct k8s_audit_policy_rule *rule = &policy->rules.items[index];
    KP_AUTO_FREE char *stages = kp_asprintf("rules[%zu].omitStages", index);
    *ret = (struct audit_rule){.source = rule, .verdict = {.omitted = omitted}};
    ret->verdict.omit_managed_fields = rule->has_omit_managed_fields ? rule->omit_managed_fields : policy->omit_managed_fields;
    if (read_level(check, rule->level, index, &ret->verdict.level) < 0 || check_urls(check, &rule->non_resource_urls, index) < 0 ||
        check_resources(check, rule, index) < 0 || read_stages(check, &rule->omit_stages, stages, &ret->verdict.omitted) < 0)
        return check->error->code;
    if (rule->non_resource_urls.len && (rule->resources.len || rule->namespaces.len))
        return kp_fail(check->error, KP_EINVALID, "%s: rules[%zu].nonResourceURLs: Invalid value: rules cannot apply to both regular resources and non-resource URLs",
                       check->source, index);
    return 0;
}

/* ---- reading ------------------------------------------------------------------------------------------------------------------------------ */
static int check_document(const struct check *check, const struct kp_decode *said)
{
    const char *version = said->api_version ? said->api_version : "", *kind = said->kind ? said->kind : "";
    if (strcmp(version, "audit.k8s.io/v1") != 0 || strcmp(kind, "Policy") != 0)
        return kp_fail(check->error, KP_EINVALID, "%s: apiVersion \"%s\" and kind \"%s\": an audit policy is a Policy of audit.k8s.io/v1", check->source, version, kind);
    if (said->problems.len)
        return kp_fail(check->error, KP_EINVALID, "%s: %s", check->source, said->problems.items[0]);
    return 0;
}

static int read_policy(const struct check *check, const char *text, size_t len, struct audit_policy *policy)
{
    struct kp_decode said = {.strict = true};
    struct kp_error *error = check->error;
    void *decoded = NULL;
    if (len > AUDIT_POLICY_BYTES_MAX)
        return kp_fail(error, KP_ETOOLARGE, "%s: an audit policy has at most %zu bytes", check->source, AUDIT_POLICY_BYTES_MAX);
    if (kp_yaml_decode(&k8s_audit_policy_type, text, len, policy->arena, &said, &decoded, error) < 0) {
        error->code = error->code == KP_ETOOLARGE ? KP_ETOOLARGE : KP_EINVALID;
        return kp_wrap(error, "%s", check->source);
    }
    const struct k8s_audit_policy *source = decoded;
    if (check_document(check, &said) < 0 || read_stages(check, &source->omit_stages, "omitStages", &policy->otherwise.omitted) < 0)
        return error->code;
    policy->otherwise.omit_managed_fields = source->omit_managed_fields;
    policy->len = source->rules.len;
    policy->rules = KP_NEW_ARRAY(policy->arena, struct audit_rule, policy->len + 1);
    for (size_t i = 0; i < policy->len; i++)
        if (read_rule(check, source, i, policy->otherwise.omitted, &policy->rules[i]) < 0)
            return error->code;
    return policy->len ? 0 : kp_fail(error, KP_EINVALID, "%s: rules: a policy needs at least one rule", check->source);
}

int audit_policy_parse(const char *text, size_t len, const char *source, struct audit_policy **ret_policy, struct kp_error *error)
{
    struct kp_error unused = {0};
    const struct check check = {.source = source, .error = error ? error : &unused};
    struct audit_policy *policy = kp_calloc(1, sizeof(*policy));
    policy->arena = kp_arena_new(0);
    if (read_policy(&check, text, len, policy) < 0) {
        audit_policy_free(policy);
        return check.error->code;
    }
    *ret_policy = policy;
    return 0;
}

int audit_policy_load(const char *path, struct audit_policy **ret_policy, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    if (kp_read_file(path, AUDIT_POLICY_BYTES_MAX, &text, error) < 0)
        return error->code;
    return audit_policy_parse(text.data ? text.data : "", text.len, path, ret_policy, error);
}

void audit_policy_free(struct audit_policy *policy)
{
    if (!policy)
        return;
    kp_arena_free(policy->arena);
    free(policy);
}
