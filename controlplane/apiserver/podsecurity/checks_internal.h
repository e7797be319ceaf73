/* What the checks share: the containers of a pod as one list, and the words of findings. */
#ifndef APISERVER_PODSECURITY_CHECKS_INTERNAL_H
#define APISERVER_PODSECURITY_CHECKS_INTERNAL_H

#include "controlplane/apiserver/podsecurity/podsecurity.h"

struct psa_container { /* init, main or ephemeral */
    const char *name;
    const struct k8s_security_context *security; /* never NULL: an empty one for none */
    const struct k8s_container_port_items *ports;
    const struct k8s_probe *probes[3];
    const struct k8s_lifecycle *lifecycle;
};
struct psa_pod {
    const struct k8s_object_meta *meta;
    const struct k8s_pod_spec *spec;
    const struct k8s_pod_security_context *security; /* never NULL */
    const struct psa_container *containers;
    size_t n;
    int minor; /* of the version that is asked for */
    struct kp_arena *arena;
};
struct psa_finding {
    const char *reason; /* NULL: nothing is wrong */
    const char *detail;
};
typedef struct psa_finding (*psa_check_fn)(const struct psa_pod *pod);

/* ---- words */
const char *psa_quoted(const struct kp_string_list *names, struct kp_arena *arena);                      /* "a", "b" in quotes */
const char *psa_joined(const struct kp_string_list *names, const char *between, struct kp_arena *arena); /* a, b */
/* container "a" or containers "a", "b" */
const char *psa_containers(const struct kp_string_list *names, struct kp_arena *arena);
/* pod, containers "a", "b", or pod and containers "a", "b": who sets something wrongly. */
const char *psa_setters(bool pod, const struct kp_string_list *containers, struct kp_arena *arena);
void psa_add_sorted(struct kp_string_list *set, const char *name, struct kp_arena *arena); /* once each */

/* ---- checks of the level baseline, in the order of their upstream names, and of restricted */
struct psa_finding psa_app_armor(const struct psa_pod *pod);
struct psa_finding psa_capabilities_baseline(const struct psa_pod *pod);
struct psa_finding psa_host_namespaces(const struct psa_pod *pod);
struct psa_finding psa_host_paths(const struct psa_pod *pod);
struct psa_finding psa_host_ports(const struct psa_pod *pod);
struct psa_finding psa_host_probes(const struct psa_pod *pod);
struct psa_finding psa_privileged(const struct psa_pod *pod);
struct psa_finding psa_proc_mount_baseline(const struct psa_pod *pod);
struct psa_finding psa_se_linux(const struct psa_pod *pod);
struct psa_finding psa_seccomp_annotations(const struct psa_pod *pod);
struct psa_finding psa_seccomp_baseline(const struct psa_pod *pod);
struct psa_finding psa_sysctls(const struct psa_pod *pod);
struct psa_finding psa_host_process(const struct psa_pod *pod);
struct psa_finding psa_escalation(const struct psa_pod *pod);
struct psa_finding psa_capabilities_restricted(const struct psa_pod *pod);
struct psa_finding psa_proc_mount_restricted(const struct psa_pod *pod);
struct psa_finding psa_volumes(const struct psa_pod *pod);
struct psa_finding psa_non_root(const struct psa_pod *pod);
struct psa_finding psa_user(const struct psa_pod *pod);
struct psa_finding psa_seccomp_restricted(const struct psa_pod *pod);

#endif
