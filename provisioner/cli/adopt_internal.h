/* What the files of `kprov adopt` share. */
#ifndef KPROV_ADOPT_INTERNAL_H
#define KPROV_ADOPT_INTERNAL_H

#include "provisioner/cli/operation_internal.h"

#define ADOPT_TEXT_MAX ((size_t)1 << 20) /* that a machine is read by */

/* The name before "-cp-1" that all machines begin with. KP_EINVALID when they do not tell. Pure, as all below. */
int adopt_name(const struct cloud_machine_list *machines, struct kp_arena *arena, const char **ret, struct kp_error *error) KP_NODISCARD;
/* Control planes and pools with their counts and types; labels and taints are not known yet. */
int adopt_config(const struct cloud_machine_list *machines, const char *name, const char *provider, struct kp_arena *arena, struct config *ret,
                 struct kp_error *error) KP_NODISCARD;
/* Lines "PATH BASE64" to a map. */
int adopt_files(const char *text, struct kp_arena *arena, struct kp_string_map *ret, struct kp_error *error) KP_NODISCARD;
/* Ranges and domain, from the manifests of a control plane. */
int adopt_network(const struct kp_string_map *files, struct kp_arena *arena, struct config *config, struct kp_error *error) KP_NODISCARD;
/* spec.audit, from the policy's file where there is one. */
int adopt_audit(const struct kp_string_map *files, struct kp_arena *arena, struct config *config, struct kp_error *error) KP_NODISCARD;
/* Authorities with their keys, from the files of a control plane. */
int adopt_pki(const struct kp_string_map *files, struct kp_arena *arena, struct pki **ret, struct kp_error *error) KP_NODISCARD;
/* Labels and taints of a pool, from the kubelet's command line, a word a line. */
int adopt_pool(const char *command, struct kp_arena *arena, struct config_pool *pool, struct kp_error *error) KP_NODISCARD;
/* "https://10.89.0.9:6443" of a kubeconfig; NULL when it has none. */
const char *adopt_server(const char *kubeconfig, struct kp_arena *arena);

#define ADOPT_PKI "/etc/kubernetes/pki/"
#define ADOPT_MANIFESTS "/etc/kubernetes/manifests/"
#define ADOPT_ADMIN "/etc/kubernetes/admin.conf"
extern const char *const adopt_paths[]; /* that a control plane is read by, beside BOOTSTRAP_AUDIT_POLICY, if it has that; ends with NULL */

#endif
