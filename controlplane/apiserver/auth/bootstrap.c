/* The bootstrap RBAC policy: upstream's default roles and bindings, as tables. */
#include "controlplane/apiserver/auth/auth_internal.h"

/* One rule a row: verbs | API groups | resources | resource names, or verbs | URLs when groups is NULL. Lists by commas;
   the core group is written as "core". */
struct rule_row {
    const char *role, *verbs, *groups, *resources, *names;
};

#define READ "get,list,watch"
#define WRITE "create,delete,deletecollection,patch,update"
#define ALL_WRITE "create,delete,deletecollection,get,list,patch,update,watch"

static const struct rule_row cluster_rules[] = {
    {"cluster-admin", "*", "*", "*", NULL},
    {"cluster-admin", "*", NULL, "*", NULL},
    {"system:discovery", "get", NULL, "/api,/api/*,/apis,/apis/*,/healthz,/livez,/openapi,/openapi/*,/readyz,/version,/version/", NULL},
    {"system:public-info-viewer", "get", NULL, "/healthz,/livez,/readyz,/version,/version/", NULL},
    {"system:monitoring", "get", NULL, "/healthz,/healthz/*,/livez,/livez/*,/metrics,/metrics/slis,/readyz,/readyz/*", NULL},
    {"system:basic-user", "create", "authorization.k8s.io", "selfsubjectaccessreviews,selfsubjectrulesreviews", NULL},
    {"system:basic-user", "create", "authentication.k8s.io", "selfsubjectreviews", NULL},
    {"system:service-account-issuer-discovery", "get", NULL, "/.well-known/openid-configuration,/.well-known/openid-configuration/,/openid/v1/jwks,/openid/v1/jwks/", NULL},
    {"system:auth-delegator", "create", "authentication.k8s.io", "tokenreviews", NULL},
    {"system:auth-delegator", "create", "authorization.k8s.io", "subjectaccessreviews", NULL},
    {"system:kubelet-api-admin", READ ",proxy", "core", "nodes", NULL},
    {"system:kubelet-api-admin", "*", "core", "nodes/log,nodes/metrics,nodes/proxy,nodes/stats,nodes/configz,nodes/healthz,nodes/pods", NULL},
    {"system:node-bootstrapper", "create,get,list,watch", "certificates.k8s.io", "certificatesigningrequests", NULL},
    {"system:certificates.k8s.io:certificatesigningrequests:nodeclient", "create", "certificates.k8s.io", "certificatesigningrequests/nodeclient", NULL},
    {"system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", "create", "certificates.k8s.io", "certificatesigningrequests/selfnodeclient", NULL},
    {"system:certificates.k8s.io:kube-apiserver-client-approver", "approve", "certificates.k8s.io", "signers", "kubernetes.io/kube-apiserver-client"},
    {"system:certificates.k8s.io:kube-apiserver-client-kubelet-approver", "approve", "certificates.k8s.io", "signers", "kubernetes.io/kube-apiserver-client-kubelet"},
    {"system:certificates.k8s.io:kubelet-serving-approver", "approve", "certificates.k8s.io", "signers", "kubernetes.io/kubelet-serving"},

    {"system:node", "create", "authentication.k8s.io", "tokenreviews", NULL},
    {"system:node", "create", "authorization.k8s.io", "localsubjectaccessreviews,subjectaccessreviews", NULL},
    {"system:node", READ, "core", "services", NULL},
    {"system:node", "create," READ, "core", "nodes", NULL},
    {"system:node", "patch,update", "core", "nodes/status", NULL},
    {"system:node", "patch,update", "core", "nodes", NULL},
    {"system:node", "create,patch,update", "core", "events", NULL},
    {"system:node", "create,patch,update", "events.k8s.io", "events", NULL},
    {"system:node", READ, "core", "pods", NULL},
    {"system:node", "create,delete", "core", "pods", NULL},
    {"system:node", "patch,update", "core", "pods/status", NULL},
    {"system:node", "create", "core", "pods/eviction", NULL},
    {"system:node", READ, "core", "configmaps,secrets", NULL},
    {"system:node", "get", "core", "persistentvolumeclaims,persistentvolumes", NULL},
    {"system:node", "get,patch,update", "core", "persistentvolumeclaims/status", NULL},
    {"system:node", "get", "core", "endpoints", NULL},
    {"system:node", "create,get,list,watch", "certificates.k8s.io", "certificatesigningrequests", NULL},
    {"system:node", "create,delete,get,patch,update", "coordination.k8s.io", "leases", NULL},
    {"system:node", "get", "storage.k8s.io", "volumeattachments", NULL},
    {"system:node", "create", "core", "serviceaccounts/token", NULL},
    {"system:node", READ, "storage.k8s.io", "csidrivers", NULL},
    {"system:node", "create,delete,get,patch,update", "storage.k8s.io", "csinodes", NULL},
    {"system:node", READ, "node.k8s.io", "runtimeclasses", NULL},
    {"system:node", "get", "resource.k8s.io", "resourceclaims", NULL},

    {"system:node-proxier", "list,watch", "core", "endpoints,services", NULL},
    {"system:node-proxier", READ, "core", "nodes", NULL},
    {"system:node-proxier", "create,patch,update", "core,events.k8s.io", "events", NULL},
    {"system:node-proxier", "list,watch", "discovery.k8s.io", "endpointslices", NULL},
    {"system:node-proxier", "list,watch", "networking.k8s.io", "servicecidrs", NULL},
    {"system:kube-dns", "list,watch", "core", "endpoints,services", NULL},
    {"system:kube-dns", "list,watch", "discovery.k8s.io", "endpointslices", NULL},

    {"system:kube-scheduler", "create,patch,update", "core,events.k8s.io", "events", NULL},
    {"system:kube-scheduler", "create,get,list,watch", "coordination.k8s.io", "leases", NULL},
    {"system:kube-scheduler", "get,update", "coordination.k8s.io", "leases", "kube-scheduler"},
    {"system:kube-scheduler", READ, "core", "nodes", NULL},
    {"system:kube-scheduler", "delete," READ, "core", "pods", NULL},
    {"system:kube-scheduler", "create", "core", "bindings,pods/binding", NULL},
    {"system:kube-scheduler", "patch,update", "core", "pods/status", NULL},
    {"system:kube-scheduler", READ, "core", "replicationcontrollers,services,namespaces,persistentvolumeclaims,persistentvolumes", NULL},
    {"system:kube-scheduler", READ, "apps", "replicasets,statefulsets", NULL},
    {"system:kube-scheduler", READ, "policy", "poddisruptionbudgets", NULL},
    {"system:kube-scheduler", READ, "storage.k8s.io", "csinodes,csidrivers,csistoragecapacities,storageclasses,volumeattachments", NULL},
    {"system:kube-scheduler", READ, "resource.k8s.io", "deviceclasses,resourceclaims,resourceslices", NULL},
    {"system:kube-scheduler", "create", "authentication.k8s.io", "tokenreviews", NULL},
    {"system:kube-scheduler", "create", "authorization.k8s.io", "subjectaccessreviews", NULL},

    {"system:volume-scheduler", "get,list,patch,update,watch", "core", "persistentvolumes", NULL},
    {"system:volume-scheduler", READ, "storage.k8s.io", "storageclasses", NULL},
    {"system:volume-scheduler", "get,list,patch,update,watch", "core", "persistentvolumeclaims", NULL},
    /* for provisioners that users bring */
    {"system:persistent-volume-provisioner", "create,delete," READ, "core", "persistentvolumes", NULL},
    {"system:persistent-volume-provisioner", READ ",update", "core", "persistentvolumeclaims", NULL},
    {"system:persistent-volume-provisioner", READ, "storage.k8s.io", "storageclasses", NULL},
    {"system:persistent-volume-provisioner", "watch", "core", "events", NULL},
    {"system:persistent-volume-provisioner", "create,patch,update", "core,events.k8s.io", "events", NULL},

    /* The controllers share one identity here, so the role is the sum of upstream's controller roles. */
    {"system:kube-controller-manager", "delete,deletecollection," READ ",patch,update", "*", "*", NULL},
    {"system:kube-controller-manager", "create", "core", "configmaps,endpoints,events,namespaces,persistentvolumes,pods,secrets,serviceaccounts,serviceaccounts/token,pods/eviction,persistentvolumeclaims", NULL},
    {"system:kube-controller-manager", "create", "events.k8s.io", "events", NULL},
    {"system:kube-controller-manager", "create", "apps", "controllerrevisions,replicasets", NULL},
    {"system:kube-controller-manager", "create", "batch", "jobs", NULL},
    {"system:kube-controller-manager", "create", "coordination.k8s.io", "leases", NULL},
    {"system:kube-controller-manager", "create", "discovery.k8s.io", "endpointslices,endpointslices/restricted", NULL},
    {"system:kube-controller-manager", "create", "authentication.k8s.io", "tokenreviews", NULL},
    {"system:kube-controller-manager", "create", "authorization.k8s.io", "subjectaccessreviews", NULL},
    /* filling aggregated roles, as upstream's clusterrole-aggregation-controller; who holds the cluster CA's key gains nothing by it */
    {"system:kube-controller-manager", "escalate", "rbac.authorization.k8s.io", "clusterroles", NULL},
    {"system:kube-controller-manager", "approve,sign", "certificates.k8s.io", "signers", NULL},
    {"system:kube-controller-manager", "create", "resource.k8s.io", "resourceclaims", NULL},
    {"system:kube-controller-manager", "create", "storage.k8s.io", "volumeattachments", NULL},
    {"system:kube-controller-manager", "get", NULL, "/api,/api/*,/apis,/apis/*,/openapi,/openapi/*,/version", NULL},

    {"system:aggregate-to-admin", ALL_WRITE, "rbac.authorization.k8s.io", "rolebindings,roles", NULL},
    {"system:aggregate-to-admin", "create", "authorization.k8s.io", "localsubjectaccessreviews", NULL},
    {"system:aggregate-to-edit", READ, "core", "pods/attach,pods/exec,pods/portforward,pods/proxy,secrets,services/proxy", NULL},
    {"system:aggregate-to-edit", "impersonate", "core", "serviceaccounts", NULL},
    {"system:aggregate-to-edit", WRITE, "core", "pods,pods/attach,pods/exec,pods/portforward,pods/proxy", NULL},
    {"system:aggregate-to-edit", "create", "core", "pods/eviction", NULL},
    {"system:aggregate-to-edit", WRITE, "core", "configmaps,events,persistentvolumeclaims,replicationcontrollers,replicationcontrollers/scale,secrets,serviceaccounts,services,services/proxy", NULL},
    {"system:aggregate-to-edit", "create", "core", "serviceaccounts/token", NULL},
    {"system:aggregate-to-edit", WRITE, "apps", "daemonsets,deployments,deployments/rollback,deployments/scale,replicasets,replicasets/scale,statefulsets,statefulsets/scale", NULL},
    {"system:aggregate-to-edit", WRITE, "autoscaling", "horizontalpodautoscalers", NULL},
    {"system:aggregate-to-edit", WRITE, "batch", "cronjobs,jobs", NULL},
    {"system:aggregate-to-edit", WRITE, "networking.k8s.io", "ingresses,networkpolicies", NULL},
    {"system:aggregate-to-edit", WRITE, "policy", "poddisruptionbudgets", NULL},
    {"system:aggregate-to-edit", ALL_WRITE, "coordination.k8s.io", "leases", NULL},
    {"system:aggregate-to-edit", WRITE, "resource.k8s.io", "resourceclaims,resourceclaimtemplates", NULL},
    {"system:aggregate-to-view", READ, "core", "configmaps,endpoints,persistentvolumeclaims,persistentvolumeclaims/status,pods,replicationcontrollers,replicationcontrollers/scale,serviceaccounts,services,services/status", NULL},
    {"system:aggregate-to-view", READ, "core", "bindings,events,limitranges,namespaces/status,pods/log,pods/status,replicationcontrollers/status,resourcequotas,resourcequotas/status", NULL},
    {"system:aggregate-to-view", READ, "core", "namespaces", NULL},
    {"system:aggregate-to-view", READ, "discovery.k8s.io", "endpointslices", NULL},
    {"system:aggregate-to-view", READ, "apps", "controllerrevisions,daemonsets,daemonsets/status,deployments,deployments/scale,deployments/status,replicasets,replicasets/scale,replicasets/status,statefulsets,statefulsets/scale,statefulsets/status", NULL},
    {"system:aggregate-to-view", READ, "autoscaling", "horizontalpodautoscalers,horizontalpodautoscalers/status", NULL},
    {"system:aggregate-to-view", READ, "batch", "cronjobs,cronjobs/status,jobs,jobs/status", NULL},
    {"system:aggregate-to-view", READ, "networking.k8s.io", "ingresses,ingresses/status,networkpolicies", NULL},
    {"system:aggregate-to-view", READ, "policy", "poddisruptionbudgets,poddisruptionbudgets/status", NULL},
    {"system:aggregate-to-view", READ, "resource.k8s.io", "resourceclaims,resourceclaims/status,resourceclaimtemplates", NULL},
    {"system:aggregated-metrics-reader", READ, "metrics.k8s.io", "pods,nodes", NULL}, /* as metrics-server brings it */
};

/* Roles made of others: admin holds edit, edit holds view. */
static const struct {
    const char *role, *label;
} aggregated[] = {
    {"admin", "rbac.authorization.k8s.io/aggregate-to-admin"},
    {"edit", "rbac.authorization.k8s.io/aggregate-to-edit"},
    {"view", "rbac.authorization.k8s.io/aggregate-to-view"},
};
#define TO_ADMIN "rbac.authorization.k8s.io/aggregate-to-admin"
#define TO_EDIT "rbac.authorization.k8s.io/aggregate-to-edit"
#define TO_VIEW "rbac.authorization.k8s.io/aggregate-to-view"
static const struct {
    const char *role, *labels[4];
} aggregates[] = {
    {"system:aggregate-to-admin", {TO_ADMIN}},
    {"system:aggregate-to-edit", {TO_EDIT, TO_ADMIN}},
    {"system:aggregate-to-view", {TO_VIEW, TO_EDIT}},
    {"system:aggregated-metrics-reader", {TO_VIEW, TO_EDIT, TO_ADMIN}},
};

static const struct {
    const char *role, *kind, *subject, *ns; /* ns of a ServiceAccount */
} cluster_bindings[] = {
    {"cluster-admin", "Group", "system:masters", NULL},
    {"system:discovery", "Group", "system:authenticated", NULL},
    {"system:basic-user", "Group", "system:authenticated", NULL},
    {"system:public-info-viewer", "Group", "system:authenticated", NULL},
    {"system:public-info-viewer", "Group", "system:unauthenticated", NULL},
    {"system:monitoring", "Group", "system:monitoring", NULL},
    {"system:service-account-issuer-discovery", "Group", "system:serviceaccounts", NULL},
    {"system:node-proxier", "User", "system:kube-proxy", NULL},
    {"system:kube-scheduler", "User", "system:kube-scheduler", NULL},
    {"system:volume-scheduler", "User", "system:kube-scheduler", NULL},
    {"system:kube-controller-manager", "User", "system:kube-controller-manager", NULL},
    {"system:kube-dns", "ServiceAccount", "kube-dns", "kube-system"},
    {"system:node", NULL, NULL, NULL}, /* kept without subjects: the Node authoriser grants it */
};

static const struct rule_row role_rules[] = { /* in namespaces: role is "ns/name" */
    {"kube-system/extension-apiserver-authentication-reader", READ, "core", "configmaps", "extension-apiserver-authentication"},
    {"kube-system/kprov:vip", "create", "coordination.k8s.io", "leases", NULL},
    {"kube-system/kprov:vip", "get,update", "coordination.k8s.io", "leases", "kprov-vip"},
    {"kube-system/system::leader-locking-kube-scheduler", "watch", "core", "configmaps", NULL},
    {"kube-system/system::leader-locking-kube-scheduler", "get,update", "core", "configmaps", "kube-scheduler"},
    {"kube-system/system::leader-locking-kube-controller-manager", "watch", "core", "configmaps", NULL},
    {"kube-system/system::leader-locking-kube-controller-manager", "get,update", "core", "configmaps", "kube-controller-manager"},
    {"kube-public/system:controller:bootstrap-signer", READ, "core", "configmaps", NULL},
};
static const struct {
    const char *role, *subject;
    const char *name; /* of the binding; NULL: the role's */
} role_bindings[] = {
    {"kube-system/extension-apiserver-authentication-reader", "system:kube-controller-manager", "system::extension-apiserver-authentication-reader"},
    {"kube-system/extension-apiserver-authentication-reader", "system:kube-scheduler", "system::extension-apiserver-authentication-reader"},
    {"kube-system/kprov:vip", "kprov:vip", NULL},
    {"kube-system/system::leader-locking-kube-scheduler", "system:kube-scheduler", NULL},
    {"kube-system/system::leader-locking-kube-controller-manager", "system:kube-controller-manager", NULL},
};

static void fill_rule(struct kp_arena *arena, const struct rule_row *row, struct k8s_policy_rule *rule)
{
    rule->verbs = auth_split(arena, row->verbs);
    if (!row->groups) {
        rule->non_resource_urls = auth_split(arena, row->resources);
        return;
    }
    rule->api_groups = auth_split(arena, row->groups);
    for (size_t i = 0; i < rule->api_groups.len; i++)
        if (kp_streq(rule->api_groups.items[i], "core"))
            rule->api_groups.items[i] = "";
    rule->resources = auth_split(arena, row->resources);
    rule->resource_names = auth_split(arena, row->names);
}

const struct k8s_policy_rule *auth_bootstrap_node_rules(struct kp_arena *arena, size_t *ret_count)
{
    struct k8s_policy_rule_items rules = {0};
    for (size_t i = 0; i < KP_ARRAY_LEN(cluster_rules); i++)
        if (kp_streq(cluster_rules[i].role, "system:node"))
            fill_rule(arena, &cluster_rules[i], KP_LIST_ADD(arena, &rules));
    *ret_count = rules.len;
    return rules.items;
}

static void mark(struct kp_arena *arena, struct k8s_object_meta *meta)
{
    kp_string_map_set(arena, &meta->labels, "kubernetes.io/bootstrapping", "rbac-defaults");
    kp_string_map_set(arena, &meta->annotations, "rbac.authorization.kubernetes.io/autoupdate", "true");
}

static int ensure_cluster_roles(struct kp_arena *arena, auth_ensure_fn ensure, void *arg, struct kp_error *error)
{
    for (size_t i = 0; i < KP_ARRAY_LEN(cluster_rules); i++) {
        if (i && kp_streq(cluster_rules[i].role, cluster_rules[i - 1].role))
            continue; /* the rows of a role stand together */
        struct k8s_cluster_role *role = KP_OBJECT_NEW(arena, k8s_cluster_role);
        role->metadata->name = cluster_rules[i].role;
        mark(arena, role->metadata);
        for (size_t k = 0; k < KP_ARRAY_LEN(aggregates); k++)
            for (size_t l = 0; kp_streq(aggregates[k].role, cluster_rules[i].role) && aggregates[k].labels[l]; l++)
                kp_string_map_set(arena, &role->metadata->labels, aggregates[k].labels[l], "true");
        for (size_t k = i; k < KP_ARRAY_LEN(cluster_rules) && kp_streq(cluster_rules[k].role, cluster_rules[i].role); k++)
            fill_rule(arena, &cluster_rules[k], KP_LIST_ADD(arena, &role->rules));
        if (ensure(arg, &k8s_clusterroles_resource, role, true, error) < 0)
            return error->code;
    }
    return 0;
}

/* admin, edit and view: the rules are written out too, so that `kubectl describe clusterrole` shows them. */
static int ensure_aggregated(struct kp_arena *arena, auth_ensure_fn ensure, void *arg, struct kp_error *error)
{
    for (size_t i = 0; i < KP_ARRAY_LEN(aggregated); i++) {
        struct k8s_cluster_role *role = KP_OBJECT_NEW(arena, k8s_cluster_role);
        role->metadata->name = aggregated[i].role;
        mark(arena, role->metadata);
        if (i > 0) /* edit is part of admin, view of edit */
            kp_string_map_set(arena, &role->metadata->labels, aggregated[i - 1].label, "true");
        role->aggregation_rule = KP_OBJECT_NEW(arena, k8s_aggregation_rule);
        struct k8s_label_selector *selector = KP_LIST_ADD(arena, &role->aggregation_rule->cluster_role_selectors);
        kp_string_map_set(arena, &selector->match_labels, aggregated[i].label, "true");
        for (size_t k = 0; k < KP_ARRAY_LEN(cluster_rules); k++)
            for (size_t a = i; a < KP_ARRAY_LEN(aggregates); a++) /* each holds itself and those after it */
                if (kp_streq(aggregates[a].role, cluster_rules[k].role))
                    fill_rule(arena, &cluster_rules[k], KP_LIST_ADD(arena, &role->rules));
        if (ensure(arg, &k8s_clusterroles_resource, role, true, error) < 0)
            return error->code;
    }
    return 0;
}

static int ensure_cluster_bindings(struct kp_arena *arena, auth_ensure_fn ensure, void *arg, struct kp_error *error)
{
    for (size_t i = 0; i < KP_ARRAY_LEN(cluster_bindings); i++) {
        if (i && kp_streq(cluster_bindings[i].role, cluster_bindings[i - 1].role))
            continue;
        struct k8s_cluster_role_binding *binding = KP_OBJECT_NEW(arena, k8s_cluster_role_binding);
        binding->metadata->name = cluster_bindings[i].role;
        mark(arena, binding->metadata);
        binding->role_ref->api_group = "rbac.authorization.k8s.io";
        binding->role_ref->kind = "ClusterRole";
        binding->role_ref->name = cluster_bindings[i].role;
        for (size_t k = i; k < KP_ARRAY_LEN(cluster_bindings) && kp_streq(cluster_bindings[k].role, cluster_bindings[i].role); k++) {
            if (!cluster_bindings[k].kind)
                continue;
            struct k8s_subject *subject = KP_LIST_ADD(arena, &binding->subjects);
            subject->kind = cluster_bindings[k].kind;
            subject->name = cluster_bindings[k].subject;
            subject->namespace = cluster_bindings[k].ns;
            subject->api_group = cluster_bindings[k].ns ? NULL : "rbac.authorization.k8s.io";
        }
        if (ensure(arg, &k8s_clusterrolebindings_resource, binding, true, error) < 0)
            return error->code;
    }
    return 0;
}

static int ensure_roles(struct kp_arena *arena, auth_ensure_fn ensure, void *arg, struct kp_error *error)
{
    for (size_t i = 0; i < KP_ARRAY_LEN(role_rules); i++) {
        if (i && kp_streq(role_rules[i].role, role_rules[i - 1].role))
            continue;
        const char *slash = strchr(role_rules[i].role, '/');
        struct k8s_role *role = KP_OBJECT_NEW(arena, k8s_role);
        role->metadata->namespace = kp_arena_strndup(arena, role_rules[i].role, (size_t)(slash - role_rules[i].role));
        role->metadata->name = slash + 1;
        mark(arena, role->metadata);
        for (size_t k = i; k < KP_ARRAY_LEN(role_rules) && kp_streq(role_rules[k].role, role_rules[i].role); k++)
            fill_rule(arena, &role_rules[k], KP_LIST_ADD(arena, &role->rules));
        if (ensure(arg, &k8s_roles_resource, role, true, error) < 0)
            return error->code;
    }
    for (size_t i = 0; i < KP_ARRAY_LEN(role_bindings); i++) {
        if (i && kp_streq(role_bindings[i].role, role_bindings[i - 1].role))
            continue;
        const char *slash = strchr(role_bindings[i].role, '/');
        struct k8s_role_binding *binding = KP_OBJECT_NEW(arena, k8s_role_binding);
        binding->metadata->namespace = kp_arena_strndup(arena, role_bindings[i].role, (size_t)(slash - role_bindings[i].role));
        binding->metadata->name = role_bindings[i].name ? role_bindings[i].name : slash + 1;
        mark(arena, binding->metadata);
        binding->role_ref->api_group = "rbac.authorization.k8s.io";
        binding->role_ref->kind = "Role";
        binding->role_ref->name = slash + 1;
        for (size_t k = i; k < KP_ARRAY_LEN(role_bindings) && kp_streq(role_bindings[k].role, role_bindings[i].role); k++) {
            struct k8s_subject *subject = KP_LIST_ADD(arena, &binding->subjects);
            subject->kind = "User";
            subject->api_group = "rbac.authorization.k8s.io";
            subject->name = role_bindings[k].subject;
        }
        if (ensure(arg, &k8s_rolebindings_resource, binding, true, error) < 0)
            return error->code;
    }
    return 0;
}

int auth_bootstrap(struct auth *auth, auth_ensure_fn ensure, void *arg, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    if (ensure_cluster_roles(arena, ensure, arg, error) < 0 || ensure_aggregated(arena, ensure, arg, error) < 0 ||
        ensure_cluster_bindings(arena, ensure, arg, error) < 0 || ensure_roles(arena, ensure, arg, error) < 0)
        return kp_wrap(error, "bootstrap RBAC policy");
    return 0;
}
