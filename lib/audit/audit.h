/* lib/audit: audit policies (audit.k8s.io/v1 Policy) - read, checked, and asked how much of a request is logged. Pure but for reading the file. The API
 * server obeys them; kprov checks them before a machine is made. The rules are upstream's: k8s.io/apiserver pkg/audit/policy and pkg/apis/audit. */
#ifndef KP_AUDIT_H
#define KP_AUDIT_H

#include "api/k8s.h"

#define AUDIT_POLICY_BYTES_MAX ((size_t)1 << 20)

enum audit_level { AUDIT_NONE, AUDIT_METADATA, AUDIT_REQUEST, AUDIT_REQUEST_RESPONSE, AUDIT_LEVELS };
enum audit_stage { AUDIT_REQUEST_RECEIVED, AUDIT_RESPONSE_STARTED, AUDIT_RESPONSE_COMPLETE, AUDIT_PANIC, AUDIT_STAGES };
const char *audit_level_name(enum audit_level level); /* "RequestResponse" */
const char *audit_stage_name(enum audit_stage stage); /* "ResponseComplete" */

struct audit_policy; /* immutable, so for any thread */
/* One YAML or JSON document; source names it in errors, which tell the field: KP_EINVALID. Unlike upstream, which warns, an unknown field is refused: a
   rule with a misspelt condition would be about everything. */
int audit_policy_parse(const char *text, size_t len, const char *source, struct audit_policy **ret_policy, struct kp_error *error) KP_NODISCARD;
int audit_policy_load(const char *path, struct audit_policy **ret_policy, struct kp_error *error) KP_NODISCARD;
void audit_policy_free(struct audit_policy *policy); /* accepts NULL */
KP_DEFINE_AUTO(struct audit_policy *, audit_policy_free)

/* A request as rules see it. Strings are "" when not set. */
struct audit_attributes {
    const char *user; /* NULL: nobody, whose credentials were refused */
    const struct kp_string_list *groups;
    const char *verb;
    bool resource_request;
    const char *group, *resource, *subresource, *ns, *name;
    const char *path; /* of other requests */
};
struct audit_verdict {
    enum audit_level level;
    unsigned omitted; /* 1 << stage */
    bool omit_managed_fields;
};
struct audit_verdict audit_policy_match(const struct audit_policy *policy, const struct audit_attributes *attributes);

#endif
