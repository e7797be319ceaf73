/* What the files of apiserver/auth share. */
#ifndef APISERVER_AUTH_INTERNAL_H
#define APISERVER_AUTH_INTERNAL_H

#include "api/k8s.h"
#include "controlplane/apiserver/auth/auth.h"
#include "controlplane/apiserver/watch/watch.h"
#include "lib/tls/tls.h"

#define AUTH_MODES_MAX 4
#define AUTH_KEYS_MAX 8
#define AUTH_LIST_MAX 16
#define AUTH_SERVICE_ACCOUNT_PREFIX "system:serviceaccount:"

enum auth_mode { AUTH_MODE_NODE, AUTH_MODE_RBAC, AUTH_MODE_ALWAYS_ALLOW, AUTH_MODE_ALWAYS_DENY };

struct auth_rbac; /* decoded roles and bindings, kept current by listeners */
struct auth_nodes; /* what the pods of each node refer to */

struct auth {
    struct auth_config config;
    struct kp_arena *arena;
    enum auth_mode modes[AUTH_MODES_MAX];
    size_t n_modes;
    struct tls_key *verify_keys[AUTH_KEYS_MAX];
    size_t n_verify_keys;
    struct tls_key *signing_key;
    struct kp_string_list audiences, allowed_names, username_headers, group_headers, extra_prefixes;
    struct wcache *accounts, *pods, *nodes_cache, *secrets;
    struct auth_rbac *rbac;
    struct auth_nodes *nodes;
    const char *requestheader_ca_pem;
};

/* token.c: a bearer token of a service account. 0, or KP_EUNAUTHORIZED with *ret_why (for TokenReview); audiences NULL or
   empty: the API server's own. *ret_audiences: those that both sides name. */
int auth_token_authenticate(struct auth *auth, const char *token, const struct kp_string_list *audiences, struct kp_arena *arena,
                            struct auth_user *ret_user, struct kp_string_list *ret_audiences, const char **ret_why);

/* rbac.c */
struct auth_rbac *auth_rbac_new(struct wcache_set *caches);
void auth_rbac_free(struct auth_rbac *rbac);
bool auth_rbac_allows(struct auth_rbac *rbac, const struct auth_attributes *attributes, struct kp_arena *arena, const char **ret_reason);
/* Every rule that applies to the user in a namespace ("" : cluster-wide only). visit returns false to stop. Rules are borrowed for
   the call. */
typedef bool (*auth_rule_fn)(const struct k8s_policy_rule *rule, const char *why, void *arg);
void auth_rbac_visit(struct auth_rbac *rbac, const struct auth_user *user, const char *ns, auth_rule_fn visit, void *arg);
bool auth_rule_allows(const struct k8s_policy_rule *rule, const struct auth_attributes *attributes);

/* node.c */
struct auth_nodes *auth_nodes_new(struct wcache_set *caches);
void auth_nodes_free(struct auth_nodes *nodes);
/* 1 allowed, 0 no opinion (another authoriser may allow), with a reason. */
int auth_node_allows(struct auth *auth, const struct auth_attributes *attributes, struct kp_arena *arena, const char **ret_reason);

/* node_volumes.c: what a node has to do with volumes, read from the caches when it is asked. */
struct auth_node_volumes {
    struct wcache *volumes, *claims, *nodes, *attachments; /* borrowed */
};
/* Whether the volume's required node affinity is this node's kubernetes.io/hostname and nothing else. *ret_claim: its claimRef, in arena, or NULL. */
bool auth_volume_is_on_node(const struct auth_node_volumes *volumes, const char *name, const char *node, const struct k8s_object_reference **ret_claim,
                            struct kp_arena *arena);
/* Whether a CSI volume bound to one of the claims ("ns/name") names the secret. */
bool auth_volumes_name_secret(const struct auth_node_volumes *volumes, const struct kp_string_list *claims, const char *ns, const char *name,
                              struct kp_arena *arena);
bool auth_attachment_is_to(const struct auth_node_volumes *volumes, const char *name, const char *node, struct kp_arena *arena);

/* bootstrap.c: the rules of the role system:node, which the Node authoriser grants by itself. */
const struct k8s_policy_rule *auth_bootstrap_node_rules(struct kp_arena *arena, size_t *ret_count);

#endif
