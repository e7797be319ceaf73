/* The Node authoriser: a kubelet may do to its own node, and to what its own pods refer to, what it needs - and nothing else. */
#include "controlplane/apiserver/auth/auth_internal.h"

#include <pthread.h>

/* What one pod lets its node read. */
struct pod_refs {
    struct kp_arena *arena;
    const char *node, *ns, *name, *service_account;
    struct kp_string_list secrets, config_maps, claims;
};

struct auth_nodes {
    pthread_rwlock_t lock;
    struct kp_strmap *pods; /* "ns/name" -> struct pod_refs */
    struct kp_arena *arena;
    const struct k8s_policy_rule *rules; /* what every node may do anywhere */
    size_t n_rules;
    struct auth_node_volumes volumes;
};

static void free_refs(void *p)
{
    struct pod_refs *refs = p;
    if (!refs)
        return;
    kp_arena_free(refs->arena);
    free(refs);
}

static void add(struct pod_refs *refs, struct kp_string_list *list, const char *name)
{
    if (!kp_empty(name) && !kp_string_list_has(list, name))
        kp_string_list_add(refs->arena, list, name);
}

static void collect_container(struct pod_refs *refs, const struct k8s_container *container)
{
    for (size_t i = 0; i < container->env.len; i++) {
        const struct k8s_env_var_source *from = container->env.items[i].value_from;
        if (from && from->secret_key_ref)
            add(refs, &refs->secrets, from->secret_key_ref->name);
        if (from && from->config_map_key_ref)
            add(refs, &refs->config_maps, from->config_map_key_ref->name);
    }
    for (size_t i = 0; i < container->env_from.len; i++) {
        if (container->env_from.items[i].secret_ref)
            add(refs, &refs->secrets, container->env_from.items[i].secret_ref->name);
        if (container->env_from.items[i].config_map_ref)
            add(refs, &refs->config_maps, container->env_from.items[i].config_map_ref->name);
    }
}

static void collect_volume(struct pod_refs *refs, const struct k8s_volume *volume)
{
    if (volume->secret)
        add(refs, &refs->secrets, volume->secret->secret_name);
    if (volume->config_map)
        add(refs, &refs->config_maps, volume->config_map->name);
    if (volume->csi && volume->csi->node_publish_secret_ref)
        add(refs, &refs->secrets, volume->csi->node_publish_secret_ref->name);
    if (volume->persistent_volume_claim)
        add(refs, &refs->claims, volume->persistent_volume_claim->claim_name);
    if (volume->ephemeral)
        add(refs, &refs->claims, kp_arena_printf(refs->arena, "%s-%s", refs->name, volume->name));
    for (size_t i = 0; volume->projected && i < volume->projected->sources.len; i++) {
        const struct k8s_volume_projection *source = &volume->projected->sources.items[i];
        if (source->secret)
            add(refs, &refs->secrets, source->secret->name);
        if (source->config_map)
            add(refs, &refs->config_maps, source->config_map->name);
    }
}

static struct pod_refs *collect(const struct wcache_object *object)
{
    struct kp_error error = {0};
    void *decoded;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    if (kp_json_decode(&k8s_pod_type, (const char *)object->json->data, object->json->len, arena, NULL, &decoded, &error) < 0) {
        kp_error_log("pod left out of node authorisation", "pod", object->key, "error", error.message, NULL);
        return NULL;
    }
    const struct k8s_pod *pod = decoded;
    if (kp_empty(pod->spec->node_name))
        return NULL;
    struct pod_refs *refs = kp_calloc(1, sizeof(*refs));
    refs->arena = KP_TAKE(arena); /* the decoded pod stays with what points into it */
    refs->node = pod->spec->node_name;
    refs->ns = pod->metadata->namespace;
    refs->name = pod->metadata->name;
    refs->service_account = kp_empty(pod->spec->service_account_name) ? "default" : pod->spec->service_account_name;
    for (size_t i = 0; i < pod->spec->image_pull_secrets.len; i++)
        add(refs, &refs->secrets, pod->spec->image_pull_secrets.items[i].name);
    for (size_t i = 0; i < pod->spec->containers.len; i++)
        collect_container(refs, &pod->spec->containers.items[i]);
    for (size_t i = 0; i < pod->spec->init_containers.len; i++)
        collect_container(refs, &pod->spec->init_containers.items[i]);
    for (size_t i = 0; i < pod->spec->volumes.len; i++)
        collect_volume(refs, &pod->spec->volumes.items[i]);
    return refs;
}

static void on_pod(void *arg, struct wcache_object *object, struct wcache_object *old)
{
    struct auth_nodes *nodes = arg;
    struct pod_refs *refs = object ? collect(object) : NULL;
    const char *key = object ? object->key : old->key;
    pthread_rwlock_wrlock(&nodes->lock);
    struct pod_refs *gone = refs ? kp_strmap_put(nodes->pods, key, refs) : kp_strmap_remove(nodes->pods, key);
    pthread_rwlock_unlock(&nodes->lock);
    free_refs(gone);
}

struct auth_nodes *auth_nodes_new(struct wcache_set *caches)
{
    struct auth_nodes *nodes = kp_calloc(1, sizeof(*nodes));
    pthread_rwlock_init(&nodes->lock, NULL);
    nodes->pods = kp_strmap_new();
    nodes->arena = kp_arena_new(0);
    nodes->rules = auth_bootstrap_node_rules(nodes->arena, &nodes->n_rules);
    nodes->volumes = (struct auth_node_volumes){wcache_find(caches, "", "persistentvolumes"), wcache_find(caches, "", "persistentvolumeclaims"),
                                                wcache_find(caches, "", "nodes"), wcache_find(caches, "storage.k8s.io", "volumeattachments")};
    wcache_listen(wcache_find(caches, "", "pods"), on_pod, nodes);
    return nodes;
}

void auth_nodes_free(struct auth_nodes *nodes)
{
    if (!nodes)
        return;
    kp_strmap_free(nodes->pods, free_refs);
    pthread_rwlock_destroy(&nodes->lock);
    kp_arena_free(nodes->arena);
    free(nodes);
}

enum ref_kind { REF_SECRET, REF_CONFIG_MAP, REF_CLAIM, REF_SERVICE_ACCOUNT, REF_POD };

static bool node_refers(struct auth_nodes *nodes, const char *node, enum ref_kind kind, const char *ns, const char *name)
{
    bool found = false;
    size_t iter = 0;
    const char *key;
    void *value;
    pthread_rwlock_rdlock(&nodes->lock);
    while (!found && kp_strmap_next(nodes->pods, &iter, &key, &value)) {
        const struct pod_refs *refs = value;
        if (strcmp(refs->node, node) != 0 || !kp_streq(refs->ns, ns))
            continue;
        found = kind == REF_SECRET            ? kp_string_list_has(&refs->secrets, name)
                : kind == REF_CONFIG_MAP      ? kp_string_list_has(&refs->config_maps, name)
                : kind == REF_CLAIM           ? kp_string_list_has(&refs->claims, name)
                : kind == REF_SERVICE_ACCOUNT ? kp_streq(refs->service_account, name)
                                              : kp_streq(refs->name, name);
    }
    pthread_rwlock_unlock(&nodes->lock);
    return found;
}

static bool is_read(const char *verb)
{
    return kp_streq(verb, "get") || kp_streq(verb, "list") || kp_streq(verb, "watch");
}

static int no(struct kp_arena *arena, const char **ret_reason, const char *format, const char *node)
{
    *ret_reason = kp_arena_printf(arena, "%s (node \"%s\")", format, node);
    return 0;
}

/* The claims of the node's pods, as "ns/name". */
static struct kp_string_list claims_of(struct auth_nodes *nodes, const char *node, struct kp_arena *arena)
{
    struct kp_string_list claims = {0};
    size_t iter = 0;
    const char *key;
    void *value;
    pthread_rwlock_rdlock(&nodes->lock);
    while (kp_strmap_next(nodes->pods, &iter, &key, &value)) {
        const struct pod_refs *refs = value;
        for (size_t i = 0; strcmp(refs->node, node) == 0 && i < refs->claims.len; i++)
            kp_string_list_add(arena, &claims, kp_arena_printf(arena, "%s/%s", refs->ns, refs->claims.items[i]));
    }
    pthread_rwlock_unlock(&nodes->lock);
    return claims;
}

static bool is_secret_of_volumes(struct auth_nodes *nodes, const char *node, const struct auth_attributes *a, struct kp_arena *arena)
{
    const struct kp_string_list claims = claims_of(nodes, node, arena);
    return auth_volumes_name_secret(&nodes->volumes, &claims, a->ns, a->name, arena);
}

/* Volumes of the claims of the node's pods, and those that are nowhere but on it, whose last finalizer is the node's to take. */
static int volume(struct auth *auth, const struct auth_attributes *a, const char *node, struct kp_arena *arena, const char **ret_reason)
{
    if (!kp_empty(a->subresource) || (!kp_streq(a->verb, "get") && !kp_streq(a->verb, "patch")) || kp_empty(a->name))
        return no(arena, ret_reason, "can only get and patch individual resources of this type", node);
    const struct k8s_object_reference *claim;
    bool on_node = auth_volume_is_on_node(&auth->nodes->volumes, a->name, node, &claim, arena);
    if (on_node || (kp_streq(a->verb, "get") && claim && node_refers(auth->nodes, node, REF_CLAIM, claim->namespace, claim->name)))
        return 1;
    return no(arena, ret_reason, "no relationship found between node and this object", node);
}

static int claim_status(struct auth *auth, const struct auth_attributes *a, const char *node, struct kp_arena *arena, const char **ret_reason)
{
    if (!kp_streq(a->verb, "update") && !kp_streq(a->verb, "patch"))
        return no(arena, ret_reason, "can only update and patch the status of this type", node);
    return node_refers(auth->nodes, node, REF_CLAIM, a->ns, a->name) ? 1 : no(arena, ret_reason, "no relationship found between node and this object", node);
}

static int attachment(struct auth *auth, const struct auth_attributes *a, const char *node, struct kp_arena *arena, const char **ret_reason)
{
    if (!kp_streq(a->verb, "get") || !kp_empty(a->subresource) || kp_empty(a->name))
        return no(arena, ret_reason, "can only get individual resources of this type", node);
    return auth_attachment_is_to(&auth->nodes->volumes, a->name, node, arena) ? 1 : no(arena, ret_reason, "no relationship found between node and this object", node);
}

static int own_csi_node(const struct auth_attributes *a, const char *node, struct kp_arena *arena, const char **ret_reason)
{
    if (!kp_empty(a->subresource))
        return no(arena, ret_reason, "cannot authorize CSINode subresources", node);
    if (kp_streq(a->verb, "create"))
        return 1; /* the name is not known yet; NodeRestriction looks at it */
    if (!kp_streq(a->name, node))
        return no(arena, ret_reason, "can only access CSINode with the same name as the requesting node", node);
    if (kp_streq(a->verb, "get") || kp_streq(a->verb, "update") || kp_streq(a->verb, "patch") || kp_streq(a->verb, "delete"))
        return 1;
    return no(arena, ret_reason, "can only get, create, update, patch, or delete a CSINode", node);
}

static int named_read(struct auth *auth, const struct auth_attributes *a, enum ref_kind kind, const char *node, struct kp_arena *arena,
                      const char **ret_reason)
{
    if (!is_read(a->verb) || !kp_empty(a->subresource) || kp_empty(a->name))
        return no(arena, ret_reason, "can only read resources of this type that are named", node);
    if (node_refers(auth->nodes, node, kind, a->ns, a->name) || (kind == REF_SECRET && is_secret_of_volumes(auth->nodes, node, a, arena)))
        return 1;
    return no(arena, ret_reason, "no relationship found between node and this object", node);
}

static int own_lease(const struct auth_attributes *a, const char *node, struct kp_arena *arena, const char **ret_reason)
{
    if (!kp_streq(a->ns, "kube-node-lease"))
        return no(arena, ret_reason, "can only access leases in the \"kube-node-lease\" system namespace", node);
    if (kp_streq(a->verb, "create"))
        return 1; /* the name is not known yet; NodeRestriction looks at it */
    if (!kp_streq(a->name, node))
        return no(arena, ret_reason, "can only access node lease with the same name as the requesting node", node);
    return kp_streq(a->verb, "get") || kp_streq(a->verb, "update") || kp_streq(a->verb, "patch") || kp_streq(a->verb, "delete");
}

/* The selector must pin a list or watch to this node: "spec.nodeName=NODE" or "metadata.name=NODE". */
static bool selects(const struct auth_attributes *a, const char *field, const char *node, struct kp_arena *arena)
{
    const char *wanted = kp_arena_printf(arena, "%s=%s", field, node);
    const char *found = kp_empty(a->field_selector) ? NULL : strstr(a->field_selector, wanted);
    if (!found)
        return false;
    char end = found[strlen(wanted)];
    return (found == a->field_selector || found[-1] == ',') && (end == '\0' || end == ',');
}

static int pods(struct auth *auth, const struct auth_attributes *a, const char *node, struct kp_arena *arena, const char **ret_reason)
{
    if (!kp_empty(a->subresource) || !is_read(a->verb))
        return -1; /* the static rules decide; NodeRestriction holds writes to the node's own pods */
    if (kp_streq(a->verb, "get"))
        return node_refers(auth->nodes, node, REF_POD, a->ns, a->name) ? 1 : no(arena, ret_reason, "no relationship found between node and this object", node);
    return selects(a, "spec.nodeName", node, arena) ? 1 : no(arena, ret_reason, "can only list/watch pods with spec.nodeName field selector", node);
}

static int nodes(const struct auth_attributes *a, const char *node, struct kp_arena *arena, const char **ret_reason)
{
    if (!kp_empty(a->subresource) || !is_read(a->verb))
        return -1;
    if (kp_streq(a->name, node) || selects(a, "metadata.name", node, arena))
        return 1;
    return no(arena, ret_reason, "node cannot read the Node objects of others", node);
}

int auth_node_allows(struct auth *auth, const struct auth_attributes *a, struct kp_arena *arena, const char **ret_reason)
{
    *ret_reason = "";
    if (!kp_string_list_has(&a->user->groups, "system:nodes") || !kp_starts_with(a->user->name, AUTH_NODE_PREFIX))
        return 0;
    const char *node = a->user->name + strlen(AUTH_NODE_PREFIX);
    int answer = -1;
    if (a->resource_request && kp_empty(a->group)) {
        if (kp_streq(a->resource, "secrets"))
            answer = named_read(auth, a, REF_SECRET, node, arena, ret_reason);
        else if (kp_streq(a->resource, "configmaps"))
            answer = named_read(auth, a, REF_CONFIG_MAP, node, arena, ret_reason);
        else if (kp_streq(a->resource, "persistentvolumeclaims") && kp_empty(a->subresource))
            answer = named_read(auth, a, REF_CLAIM, node, arena, ret_reason);
        else if (kp_streq(a->resource, "persistentvolumeclaims") && kp_streq(a->subresource, "status"))
            answer = claim_status(auth, a, node, arena, ret_reason);
        else if (kp_streq(a->resource, "persistentvolumes"))
            answer = volume(auth, a, node, arena, ret_reason);
        else if (kp_streq(a->resource, "serviceaccounts"))
            answer = kp_streq(a->subresource, "token") && kp_streq(a->verb, "create") && node_refers(auth->nodes, node, REF_SERVICE_ACCOUNT, a->ns, a->name)
                         ? 1
                         : no(arena, ret_reason, "can only create tokens of service accounts whose pods run here", node);
        else if (kp_streq(a->resource, "pods"))
            answer = pods(auth, a, node, arena, ret_reason);
        else if (kp_streq(a->resource, "nodes"))
            answer = nodes(a, node, arena, ret_reason);
    } else if (a->resource_request && kp_streq(a->group, "coordination.k8s.io") && kp_streq(a->resource, "leases")) {
        answer = own_lease(a, node, arena, ret_reason);
    } else if (a->resource_request && kp_streq(a->group, "storage.k8s.io")) {
        if (kp_streq(a->resource, "volumeattachments"))
            answer = attachment(auth, a, node, arena, ret_reason);
        else if (kp_streq(a->resource, "csinodes"))
            answer = own_csi_node(a, node, arena, ret_reason);
    }
    if (answer >= 0)
        return answer;
    for (size_t i = 0; i < auth->nodes->n_rules; i++)
        if (auth_rule_allows(&auth->nodes->rules[i], a))
            return 1;
    return 0;
}
