/* What the files of this module share. */
#ifndef KP_AUDIT_INTERNAL_H
#define KP_AUDIT_INTERNAL_H

#include "lib/audit/audit.h"

struct audit_rule {
    const struct k8s_audit_policy_rule *source;
    struct audit_verdict verdict; /* with what the policy says of all rules */
};
struct audit_policy {
    struct kp_arena *arena;
    struct audit_rule *rules;
    size_t len;
    struct audit_verdict otherwise; /* when no rule matches */
};

#endif
