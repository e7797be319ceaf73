/* spec.audit: what the API servers log, checked here by the code that reads it there. */
#include "lib/audit/audit.h"
#include "provisioner/config/config_internal.h"

int config_check_audit(const char *policy, const char *path, struct kp_error *error)
{
    KP_AUTO(audit_policy_free) struct audit_policy *read = NULL;
    if (strlen(policy) > CONFIG_AUDIT_POLICY_MAX)
        return kp_fail(error, KP_EINVALID, "%s: has more than %d bytes as JSON", path, CONFIG_AUDIT_POLICY_MAX);
    return audit_policy_parse(policy, strlen(policy), path, &read, error);
}

struct kp_value *config_audit_value(const struct config *config, struct kp_arena *arena)
{
    struct kp_value *audit = kp_value_object(arena), *policy = NULL;
    KP_ASSERT(kp_value_parse(config->audit_policy, strlen(config->audit_policy), arena, NULL, &policy, NULL) == 0); /* it was read */
    kp_value_set(arena, audit, "policy", policy);
    return audit;
}
