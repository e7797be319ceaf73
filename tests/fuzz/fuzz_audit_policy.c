/* Audit policies: refused with a reason, or asked about requests without harm. */
#include "lib/audit/audit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    KP_AUTO(audit_policy_free) struct audit_policy *policy = NULL;
    struct kp_error error = {0};
    const struct kp_string_list groups = {0};
    if (audit_policy_parse((const char *)data, size, "policy", &policy, &error) < 0) {
        KP_ASSERT(*error.message && !policy);
        return 0;
    }
    struct audit_attributes a = {.user = "joe", .groups = &groups, .verb = "get", .resource_request = true, .group = "apps", .resource = "deployments",
                                 .subresource = "scale", .ns = "n", .name = "x", .path = "/apis/apps"};
    KP_ASSERT(audit_policy_match(policy, &a).level < AUDIT_LEVELS);
    a.resource_request = false;
    a.user = NULL;
    KP_ASSERT(audit_policy_match(policy, &a).omitted < 1u << AUDIT_STAGES);
    return 0;
}
