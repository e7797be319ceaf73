/* controlplane/apiserver/podsecurity: the Pod Security Standards - which pods a namespace's labels let in. Pure.
 *
 * Levels, checks by their versions, order and words are upstream's (k8s.io/pod-security-admission), those of Kubernetes 1.36. */
#ifndef APISERVER_PODSECURITY_H
#define APISERVER_PODSECURITY_H

#include "api/k8s.h"
#include "controlplane/apiserver/status/status.h"

enum podsecurity_level { PODSECURITY_PRIVILEGED, PODSECURITY_BASELINE, PODSECURITY_RESTRICTED };
#define PODSECURITY_LATEST (-1)
struct podsecurity_rule {
    enum podsecurity_level level;
    int minor; /* of v1.<minor>, or PODSECURITY_LATEST */
};
struct podsecurity_policy {
    struct podsecurity_rule enforce, audit, warn;
};
/* What the labels pod-security.kubernetes.io/{enforce,audit,warn}{,-version} say; privileged:latest where they say nothing. A label that is no level counts
   as restricted for enforce and as privileged for the others, and is told in errors (may be NULL). */
void podsecurity_policy_of(const struct kp_string_map *labels, struct podsecurity_policy *ret, struct field_errors *errors);
const char *podsecurity_rule_text(struct podsecurity_rule rule, struct kp_arena *arena); /* "restricted:latest" */
bool podsecurity_same(struct podsecurity_rule a, struct podsecurity_rule b);

struct podsecurity_verdict {
    const char *reasons; /* "host namespaces, privileged"; NULL: nothing is wrong */
    const char *details; /* the same with what is wrong in parentheses */
};
void podsecurity_evaluate(struct podsecurity_rule rule, const struct k8s_object_meta *meta, const struct k8s_pod_spec *spec, struct kp_arena *arena,
                          struct podsecurity_verdict *ret);
/* Whether an update of a pod can make it violate what it did not: images and ephemeral containers. */
bool podsecurity_update_matters(const struct k8s_pod *old, const struct k8s_pod *new);

#endif
