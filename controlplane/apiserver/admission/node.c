/* What admission does about nodes: NodeRestriction holds kubelets to themselves; new nodes start tainted not-ready. */
#include "controlplane/apiserver/admission/admission_internal.h"
#include "controlplane/apiserver/auth/auth.h"
#include "lib/tls/tls.h"

static const char *node_of_user(const struct auth_user *user)
{
    if (!kp_starts_with(user->name, AUTH_NODE_PREFIX) || !kp_string_list_has(&user->groups, "system:nodes"))
        return NULL;
    return user->name + strlen(AUTH_NODE_PREFIX);
}

static int refuse(struct admission_attributes *a, struct api_status *status, const char *format, const char *x, const char *y)
{
    return status_forbidden(status, a->resource->group, a->resource->name, a->name, "%s", kp_arena_printf(a->arena, "%s%s%s", format, x, y));
}

/* What a pod names, the node it is on may read: a node that makes pods itself must not name anything. */
static bool names_objects(const struct k8s_container *container)
{
    for (size_t i = 0; i < container->env.len; i++) {
        const struct k8s_env_var_source *from = container->env.items[i].value_from;
        if (from && (from->secret_key_ref || from->config_map_key_ref))
            return true;
    }
    for (size_t i = 0; i < container->env_from.len; i++)
        if (container->env_from.items[i].secret_ref || container->env_from.items[i].config_map_ref)
            return true;
    return false;
}

static int restrict_pod_create(struct admission_attributes *a, const char *node, struct api_status *status)
{
    const struct k8s_pod *pod = a->object;
    if (!kp_string_map_get(&pod->metadata->annotations, "kubernetes.io/config.mirror"))
        return refuse(a, status, "pod does not have \"kubernetes.io/config.mirror\" annotation, node can only create mirror pods", "", "");
    if (!kp_streq(pod->spec->node_name, node))
        return refuse(a, status, "node can only create pods with spec.nodeName set to itself: ", node, "");
    if (!kp_empty(pod->spec->service_account_name))
        return refuse(a, status, "node can not create pods that reference a service account", "", "");
    for (size_t i = 0; i < pod->spec->volumes.len; i++) {
        const struct k8s_volume *volume = &pod->spec->volumes.items[i];
        if (volume->secret || volume->config_map || volume->persistent_volume_claim || volume->ephemeral || volume->projected ||
            (volume->csi && volume->csi->node_publish_secret_ref))
            return refuse(a, status, "node can not create pods that reference secrets, configmaps, claims or projections: ", volume->name, "");
    }
    if (pod->spec->image_pull_secrets.len)
        return refuse(a, status, "node can not create pods that reference image pull secrets", "", "");
    const struct k8s_container_items *lists[] = {&pod->spec->init_containers, &pod->spec->containers};
    for (size_t l = 0; l < KP_ARRAY_LEN(lists); l++)
        for (size_t i = 0; i < lists[l]->len; i++)
            if (names_objects(&lists[l]->items[i]))
                return refuse(a, status, "node can not create pods whose containers reference secrets or configmaps: ", lists[l]->items[i].name, "");
    return 0;
}

static int restrict_pods(struct admission *admission, struct admission_attributes *a, const char *node, struct api_status *status)
{
    if (a->operation == ADMISSION_CREATE && kp_empty(a->subresource))
        return restrict_pod_create(a, node, status);
    if (kp_streq(a->subresource, "eviction") || a->operation == ADMISSION_DELETE ||
        (a->operation == ADMISSION_UPDATE && kp_streq(a->subresource, "status"))) {
        const struct k8s_pod *pod = admission_load(admission->pods, &k8s_pod_type, a->ns, a->name, a->arena);
        if (pod && !kp_streq(pod->spec->node_name, node))
            return refuse(a, status, "node \"", node, "\" can only act on pods with spec.nodeName set to itself");
        return 0;
    }
    return refuse(a, status, "unexpected operation on pods by node ", node, "");
}

static bool kubelet_label(const char *key)
{
    static const char *const allowed[] = {"kubernetes.io/hostname", "kubernetes.io/os", "kubernetes.io/arch", "topology.kubernetes.io/zone",
                                          "topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/zone",
                                          "failure-domain.beta.kubernetes.io/region", "beta.kubernetes.io/instance-type", "beta.kubernetes.io/os",
                                          "beta.kubernetes.io/arch", "node.kubernetes.io/instance-type"};
    for (size_t i = 0; i < KP_ARRAY_LEN(allowed); i++)
        if (kp_streq(allowed[i], key))
            return true;
    const char *slash = strchr(key, '/');
    if (!slash)
        return true;
    size_t len = (size_t)(slash - key);
    if (kp_starts_with(key, "kubelet.kubernetes.io/") || kp_starts_with(key, "node.kubernetes.io/"))
        return true;
    KP_AUTO_FREE char *prefix = kp_strndup(key, len);
    return !kp_streq(prefix, "kubernetes.io") && !kp_ends_with(prefix, ".kubernetes.io") && !kp_streq(prefix, "k8s.io") && !kp_ends_with(prefix, ".k8s.io");
}

static int restrict_node_object(struct admission_attributes *a, const char *node, struct api_status *status)
{
    const struct k8s_node *new = a->object, *old = a->old_object;
    if (!kp_empty(a->name) && !kp_streq(a->name, node))
        return refuse(a, status, "node \"", node, "\" is not allowed to modify the Node object of another");
    if (a->operation == ADMISSION_DELETE)
        return refuse(a, status, "node \"", node, "\" cannot delete its Node object");
    for (size_t i = 0; new && i < new->metadata->labels.len; i++) {
        const struct kp_string_pair *label = &new->metadata->labels.items[i];
        if (old && kp_streq(kp_string_map_get(&old->metadata->labels, label->key), label->value))
            continue;
        if (!kubelet_label(label->key))
            return refuse(a, status, "is not allowed to modify labels: ", label->key, "");
        /* Which volumes are its own hangs on it (auth/node_volumes.c). */
        if (kp_streq(label->key, "kubernetes.io/hostname") && old && kp_string_map_get(&old->metadata->labels, label->key))
            return refuse(a, status, "is not allowed to modify labels: ", label->key, "");
    }
    if (old && new && kp_empty(a->subresource)) {
        bool same = old->spec->taints.len == new->spec->taints.len;
        for (size_t i = 0; same && i < new->spec->taints.len; i++)
            same = kp_object_equal(&k8s_taint_type, &old->spec->taints.items[i], &new->spec->taints.items[i]);
        if (!same)
            return refuse(a, status, "node \"", node, "\" is not allowed to modify taints");
    }
    return 0;
}

int admission_node_restriction(struct admission *admission, struct admission_attributes *a, struct api_status *status)
{
    const char *node = node_of_user(a->user);
    if (!node)
        return 0;
    if (kp_empty(a->resource->group) && kp_streq(a->resource->name, "pods"))
        return restrict_pods(admission, a, node, status);
    if (kp_empty(a->resource->group) && kp_streq(a->resource->name, "nodes"))
        return restrict_node_object(a, node, status);
    if (admission_is(a, "", "persistentvolumeclaims", "status"))
        return admission_restrict_claim(a, node, status);
    if (kp_empty(a->resource->group) && kp_streq(a->resource->name, "persistentvolumes"))
        return admission_restrict_volume(a, node, status);
    if (admission_is(a, "", "serviceaccounts", "token")) {
        const struct k8s_token_request *request = a->object;
        const struct k8s_bound_object_reference *ref = request ? request->spec->bound_object_ref : NULL;
        if (!ref || !kp_streq(ref->kind, "Pod") || kp_empty(ref->name) || kp_empty(ref->uid))
            return refuse(a, status, "node requested token not bound to a pod", "", "");
        const struct k8s_pod *pod = admission_load(admission->pods, &k8s_pod_type, a->ns, ref->name, a->arena);
        if (!pod || !kp_streq(pod->metadata->uid, ref->uid) || !kp_streq(pod->spec->node_name, node))
            return refuse(a, status, "node requested token bound to a pod scheduled on a different node", "", "");
        return 0;
    }
    if (admission_is(a, "coordination.k8s.io", "leases", "") || admission_is(a, "storage.k8s.io", "csinodes", "")) {
        const struct k8s_object_meta *meta = a->object ? kp_object_meta(a->type, a->object) : NULL;
        const char *name = meta && meta->name ? meta->name : a->name;
        if (!kp_streq(name, node))
            return refuse(a, status, "can only access objects of this type with the same name as the requesting node", "", "");
    }
    return 0;
}

int admission_taint_nodes(struct admission *admission, struct admission_attributes *a, struct api_status *status)
{
    if (a->operation != ADMISSION_CREATE || !admission_is(a, "", "nodes", ""))
        return 0;
    struct k8s_node *node = a->object;
    for (size_t i = 0; i < node->spec->taints.len; i++)
        if (kp_streq(node->spec->taints.items[i].key, "node.kubernetes.io/not-ready") && kp_streq(node->spec->taints.items[i].effect, "NoSchedule"))
            return 0;
    struct k8s_taint *taint = KP_LIST_ADD(a->arena, &node->spec->taints);
    taint->key = "node.kubernetes.io/not-ready";
    taint->effect = "NoSchedule";
    return 0;
}

/* ---- certificates ---------------------------------------------------------------------------------------------------------- */
static bool may_use_signer(struct admission *admission, struct admission_attributes *a, const char *verb, const char *signer)
{
    const char *slash = strchr(signer, '/');
    const char *names[2] = {signer, kp_arena_printf(a->arena, "%.*s/*", slash ? (int)(slash - signer) : 0, signer)};
    for (int i = 0; i < 2; i++) {
        const struct auth_attributes attributes = {
            .user = a->user, .verb = verb, .resource_request = true, .group = "certificates.k8s.io", .version = "*", .resource = "signers",
            .subresource = "", .ns = "", .name = names[i], .path = "", .field_selector = "", .label_selector = "",
        };
        if (auth_authorize(admission->config.auth, &attributes, a->arena, NULL))
            return true;
    }
    return false;
}

int admission_certificate_approval(struct admission *admission, struct admission_attributes *a, struct api_status *status)
{
    bool approval = admission_is(a, "certificates.k8s.io", "certificatesigningrequests", "approval");
    bool signing = admission_is(a, "certificates.k8s.io", "certificatesigningrequests", "status");
    if ((!approval && !signing) || a->operation != ADMISSION_UPDATE)
        return 0;
    const struct k8s_certificate_signing_request *old = a->old_object, *new = a->object;
    if (signing && (old->status->certificate.len == new->status->certificate.len &&
                    (new->status->certificate.len == 0 || memcmp(old->status->certificate.data, new->status->certificate.data, new->status->certificate.len) == 0)))
        return 0; /* only conditions: no signing */
    const char *verb = approval ? "approve" : "sign";
    if (may_use_signer(admission, a, verb, old->spec->signer_name ? old->spec->signer_name : ""))
        return 0;
    return status_forbidden(status, "certificates.k8s.io", "certificatesigningrequests", a->name, "user not permitted to %s requests with signerName \"%s\"",
                            verb, old->spec->signer_name);
}

int admission_certificate_subject(struct admission *admission, struct admission_attributes *a, struct api_status *status)
{
    if (a->operation != ADMISSION_CREATE || !admission_is(a, "certificates.k8s.io", "certificatesigningrequests", ""))
        return 0;
    const struct k8s_certificate_signing_request *csr = a->object;
    if (!kp_streq(csr->spec->signer_name, "kubernetes.io/kube-apiserver-client"))
        return 0;
    KP_AUTO(tls_csr_free) struct tls_csr *parsed = NULL;
    struct kp_error error = {0};
    if (tls_csr_from_pem((const char *)csr->spec->request.data, csr->spec->request.len, &parsed, &error) < 0)
        return status_forbidden(status, "certificates.k8s.io", "certificatesigningrequests", a->name, "failed to parse CSR: %s", error.message);
    const struct tls_cert_info *info = tls_csr_info(parsed);
    for (size_t i = 0; i < info->organization_count; i++)
        if (kp_streq(info->organizations[i], "system:masters"))
            return status_forbidden(status, "certificates.k8s.io", "certificatesigningrequests", a->name,
                                    "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed");
    return 0;
}
