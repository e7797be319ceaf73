/* The admission chain: which steps there are and in which order they run. */
#include "controlplane/apiserver/admission/admission_internal.h"
#include "controlplane/apiserver/auth/auth.h"
#include "controlplane/apiserver/policy/policy.h"
#include "controlplane/apiserver/webhook/webhook.h"

static int mutating_webhooks(struct admission *admission, struct admission_attributes *a, struct api_status *status)
{
    return admission->webhooks && !a->own ? webhooks_mutate(admission->webhooks, a, status) : 0;
}

static int validating_webhooks(struct admission *admission, struct admission_attributes *a, struct api_status *status)
{
    return admission->webhooks && !a->own ? webhooks_validate(admission->webhooks, a, status) : 0;
}

static int validating_policies(struct admission *admission, struct admission_attributes *a, struct api_status *status)
{
    return admission->policies && !a->own ? policies_validate(admission->policies, a, status) : 0;
}

static const struct {
    const char *name;
    admission_step_fn mutate, validate;
} steps[] = {
    {"NamespaceLifecycle", NULL, admission_namespace_lifecycle},
    {"LimitRanger", admission_limit_defaults, admission_limits},
    {"ServiceAccount", admission_service_account, NULL},
    {"NodeRestriction", admission_node_restriction, NULL},
    {"TaintNodesByCondition", admission_taint_nodes, NULL},
    {"PodSecurity", NULL, admission_pod_security},
    {"Priority", admission_priority, NULL},
    {"DefaultTolerationSeconds", admission_default_tolerations, NULL},
    {"DefaultStorageClass", admission_default_storage_class, NULL},
    {"StorageObjectInUseProtection", admission_storage_in_use, NULL},
    {"PersistentVolumeClaimResize", NULL, admission_claim_resize},
    {"CertificateApproval", NULL, admission_certificate_approval},
    {"CertificateSubjectRestriction", NULL, admission_certificate_subject},
    {"RBACEscalation", NULL, admission_rbac_escalation},
    {"MutatingAdmissionWebhook", mutating_webhooks, NULL},
    {"ValidatingAdmissionPolicy", NULL, validating_policies},
    {"ValidatingAdmissionWebhook", NULL, validating_webhooks},
    {"ResourceQuota", NULL, NULL}, /* it writes: the registry charges last of all */
};

static int find_step(const char *name)
{
    for (size_t i = 0; i < KP_ARRAY_LEN(steps); i++)
        if (kp_streq(steps[i].name, name))
            return (int)i;
    return -1;
}

int admission_new(const struct admission_config *config, struct admission **ret_admission, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_string_list lists[2] = {auth_split(arena, config->enabled_plugins), auth_split(arena, config->disabled_plugins)};
    struct admission *admission = kp_calloc(1, sizeof(*admission));
    admission->config = *config;
    for (int l = 0; l < 2; l++)
        for (size_t i = 0; i < lists[l].len; i++) {
            int step = find_step(lists[l].items[i]);
            if (step < 0) {
                free(admission);
                return kp_fail(error, KP_EUSAGE, "--%s-admission-plugins: \"%s\" is unknown", l ? "disable" : "enable", lists[l].items[i]);
            }
            if (l)
                admission->disabled |= 1u << step;
        }
    admission->namespaces = wcache_find(config->caches, "", "namespaces");
    admission->accounts = wcache_find(config->caches, "", "serviceaccounts");
    admission->priority_classes = wcache_find(config->caches, "scheduling.k8s.io", "priorityclasses");
    admission->nodes = wcache_find(config->caches, "", "nodes");
    admission->roles = wcache_find(config->caches, "rbac.authorization.k8s.io", "roles");
    admission->limit_ranges = wcache_find(config->caches, "", "limitranges");
    admission->storage_classes = wcache_find(config->caches, "storage.k8s.io", "storageclasses");
    admission->pods = wcache_find(config->caches, "", "pods");
    const struct webhooks_config webhooks = {.caches = config->caches, .auth = config->auth, .backends = config->backends, .views = config->views};
    const struct policies_config policies = {.caches = config->caches, .auth = config->auth, .views = config->views};
    if (config->backends)
        admission->webhooks = webhooks_new(&webhooks);
    if (config->views)
        admission->policies = policies_new(&policies);
    *ret_admission = admission;
    return 0;
}

bool admission_enabled(const struct admission *admission, const char *name)
{
    int step = find_step(name);
    return step >= 0 && !(admission->disabled & 1u << step);
}

void admission_free(struct admission *admission)
{
    if (!admission)
        return;
    webhooks_free(admission->webhooks);
    policies_free(admission->policies);
    free(admission);
}

static int mutate_once(struct admission *admission, struct admission_attributes *a, struct api_status *status)
{
    for (size_t i = 0; i < KP_ARRAY_LEN(steps); i++)
        if (steps[i].mutate && !(admission->disabled & 1u << i) && steps[i].mutate(admission, a, status) < 0)
            return status->code;
    return 0;
}

/* When a webhook has changed the object all steps see it once more: what it added may need their defaults (upstream's reinvocation). */
int admission_mutate(struct admission *admission, struct admission_attributes *a, struct api_status *status)
{
    struct webhook_round round = {0};
    a->round = &round;
    int code = mutate_once(admission, a, status);
    if (code == 0 && round.changed) {
        round.again = true;
        code = mutate_once(admission, a, status);
    }
    a->round = NULL;
    return code;
}

int admission_ask_extensions(struct admission *admission, struct admission_attributes *a, struct api_status *status)
{
    struct webhook_round round = {0};
    a->round = &round;
    int code = admission_enabled(admission, "MutatingAdmissionWebhook") ? mutating_webhooks(admission, a, status) : 0;
    if (code == 0 && admission_enabled(admission, "ValidatingAdmissionPolicy"))
        code = validating_policies(admission, a, status);
    if (code == 0 && admission_enabled(admission, "ValidatingAdmissionWebhook"))
        code = validating_webhooks(admission, a, status);
    a->round = NULL;
    return code;
}

int admission_validate(struct admission *admission, struct admission_attributes *a, struct api_status *status)
{
    for (size_t i = 0; i < KP_ARRAY_LEN(steps); i++)
        if (steps[i].validate && !(admission->disabled & 1u << i) && steps[i].validate(admission, a, status) < 0)
            return status->code;
    return 0;
}

bool admission_is(const struct admission_attributes *a, const char *group, const char *resource, const char *subresource)
{
    return kp_streq(a->resource->group, group) && kp_streq(a->resource->name, resource) && kp_streq(a->subresource ? a->subresource : "", subresource);
}

void *admission_load(struct wcache *cache, const struct kp_type *type, const char *ns, const char *name, struct kp_arena *arena)
{
    if (!cache || kp_empty(name))
        return NULL;
    KP_AUTO_FREE char *key = kp_empty(ns) ? kp_strdup(name) : kp_asprintf("%s/%s", ns, name);
    KP_AUTO(wcache_object_unref) struct wcache_object *object = wcache_get(cache, key);
    void *decoded;
    struct kp_error error = {0};
    if (!object || kp_json_decode(type, (const char *)object->json->data, object->json->len, arena, NULL, &decoded, &error) < 0)
        return NULL;
    return decoded;
}
