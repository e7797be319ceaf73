/* A fake machine's Node, by the kubelet's own credentials: registered as a kubelet does, Ready, its deleted pods ended. */
#include "api/k8s.h"
#include "base/version.h"
#include "client/client.h"
#include "tests/support/fake_cloud/machine.h"

struct machine_node {
    const struct machine *machine;
    struct machine_client own;
    struct client *client; /* own's */
    bool ready; /* said so already */
    int64_t boot; /* tells the containers of one boot from another's */
};

struct machine_node *machine_node_new(const struct machine *machine)
{
    struct machine_node *node = kp_calloc(1, sizeof(*node));
    node->machine = machine;
    node->boot = kp_now_ns();
    node->own = (struct machine_client){.kubeconfig = "kubelet.conf", .timeout_ms = REQUEST_MS};
    return node;
}

static void set(struct kp_arena *arena, struct kp_value *object, const char *key, const char *value)
{
    kp_value_set(arena, object, key, kp_value_string(arena, value));
}

/* "a=b,c=d" */
static struct kp_value *labels_value(const struct machine *machine, struct kp_arena *arena)
{
    struct kp_value *labels = kp_value_object(arena);
    set(arena, labels, "kubernetes.io/hostname", machine->name);
    set(arena, labels, "kubernetes.io/os", "linux");
    for (const char *at = machine->node_labels; at && *at;) {
        size_t len = strcspn(at, ","), key = strcspn(at, "=");
        set(arena, labels, kp_arena_strndup(arena, at, key), kp_arena_strndup(arena, at + key + 1, len - key - 1));
        at += len + (at[len] == ',');
    }
    return labels;
}

/* "key=value:effect,..." */
static struct kp_value *taints_value(const struct machine *machine, struct kp_arena *arena)
{
    struct kp_value *taints = kp_value_array(arena);
    for (const char *at = machine->node_taints; at && *at;) {
        struct kp_value *taint = kp_value_object(arena);
        size_t len = strcspn(at, ","), key = strcspn(at, "="), value = strcspn(at, ":");
        set(arena, taint, "key", kp_arena_strndup(arena, at, key));
        set(arena, taint, "value", kp_arena_strndup(arena, at + key + 1, value - key - 1));
        set(arena, taint, "effect", kp_arena_strndup(arena, at + value + 1, len - value - 1));
        kp_value_append(arena, taints, taint);
        at += len + (at[len] == ',');
    }
    return taints;
}

static int create_node(struct machine_node *node, struct kp_arena *arena, struct kp_error *error)
{
    struct kp_value *root = kp_value_object(arena), *metadata = kp_value_object(arena), *spec = kp_value_object(arena);
    KP_AUTO_BUF struct kp_buf body = {0};
    set(arena, metadata, "name", node->machine->name);
    kp_value_set(arena, metadata, "labels", labels_value(node->machine, arena));
    kp_value_set(arena, spec, "taints", taints_value(node->machine, arena));
    set(arena, root, "apiVersion", "v1");
    set(arena, root, "kind", "Node");
    kp_value_set(arena, root, "metadata", metadata);
    kp_value_set(arena, root, "spec", spec);
    kp_value_print(root, &body);
    int r = client_raw(node->client, "POST", "/api/v1/nodes", "application/json", body.data, body.len, NULL, NULL, error);
    return r == KP_EEXISTS ? 0 : r;
}

static int say_ready(struct machine_node *node, struct kp_arena *arena, struct kp_error *error)
{
    char now[KP_RFC3339_MAX];
    kp_format_rfc3339(now, kp_now_s(), 0, false);
    const char *info = "\"architecture\":\"amd64\",\"bootID\":\"b\",\"containerRuntimeVersion\":\"c\",\"kernelVersion\":\"k\",\"kubeProxyVersion\":\"\","
                       "\"machineID\":\"m\",\"operatingSystem\":\"linux\",\"osImage\":\"o\",\"systemUUID\":\"s\"";
    const char *body = kp_arena_printf(arena,
        "{\"status\":{\"nodeInfo\":{\"kubeletVersion\":\"%s\",%s},\"addresses\":[{\"type\":\"InternalIP\",\"address\":\"%s\"},{\"type\":\"Hostname\",\"address\":\"%s\"}],\"conditions\":[{\"type\":\"Ready\","
        "\"status\":\"True\",\"reason\":\"KubeletReady\",\"message\":\"fake\",\"lastHeartbeatTime\":\"%s\",\"lastTransitionTime\":\"%s\"}]}}",
        kp_version, info, node->machine->address, node->machine->name, now, now);
    static const struct client_write_options options = {.subresource = "status"};
    return client_patch(node->client, &k8s_nodes_resource, NULL, node->machine->name, CLIENT_PATCH_MERGE, body, strlen(body), &options, arena, NULL, error);
}

static const char *mirror_body(const struct machine *machine, const char *name, const char *image, const char *stamp, const char *node_uid,
                               struct kp_arena *arena)
{
    const char *host = machine->name, *files = kp_empty(stamp) ? "" : kp_arena_printf(arena, ",\"kprov.dev/files\":\"%s\"", stamp);
    return kp_arena_printf(arena,
        "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"%s-%s\",\"annotations\":{\"kubernetes.io/config.mirror\":\"fake\"%s},"
        "\"ownerReferences\":[{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"name\":\"%s\",\"uid\":\"%s\",\"controller\":true}]},"
        "\"spec\":{\"nodeName\":\"%s\",\"containers\":[{\"name\":\"c\",\"image\":\"%s\"}]}}", name, host, files, host, node_uid, host, image);
}

/* The mirror of a pod that is another now goes, as kubelets have it: they may not change one. */
static int remove_other(struct machine_node *node, const char *pod, const char *stamp, struct kp_arena *arena, struct kp_error *error)
{
    static const struct client_delete_options now = {.grace_period_s = 0};
    void *found = NULL;
    int r = client_get(node->client, &k8s_pods_resource, "kube-system", pod, arena, &found, error);
    if (r < 0)
        return r == KP_ENOTFOUND ? 0 : r;
    const char *there = kp_string_map_get(&((const struct k8s_pod *)found)->metadata->annotations, "kprov.dev/files");
    if (kp_streq(there ? there : "", stamp))
        return 0;
    r = client_delete(node->client, &k8s_pods_resource, "kube-system", pod, &now, error);
    return r == KP_ENOTFOUND ? 0 : r;
}

/* Mirror pods of the static pods, and two that stand for the agents' DaemonSets; ready, with containers of this boot. */
static int mirror_pod(struct machine_node *node, const char *name, const char *image, const char *stamp, const char *node_uid, struct kp_arena *arena,
                      struct kp_error *error)
{
    const char *pod = kp_arena_printf(arena, "%s-%s", name, node->machine->name), *body = mirror_body(node->machine, name, image, stamp, node_uid, arena);
    const char *status = kp_arena_printf(arena,
        "{\"status\":{\"phase\":\"Running\",\"containerStatuses\":[{\"name\":\"c\",\"ready\":true,\"restartCount\":0,\"image\":\"%s\",\"imageID\":\"%s\","
        "\"containerID\":\"fake://%s-%lld\",\"state\":{\"running\":{}}}]}}", image, image, name, (long long)node->boot);
    static const struct client_write_options options = {.subresource = "status"};
    int r = client_raw(node->client, "POST", "/api/v1/namespaces/kube-system/pods", "application/json", body, strlen(body), NULL, NULL, error);
    if (r == KP_EEXISTS && remove_other(node, pod, stamp, arena, error) == 0)
        r = client_raw(node->client, "POST", "/api/v1/namespaces/kube-system/pods", "application/json", body, strlen(body), NULL, NULL, error);
    if (r < 0 && r != KP_EEXISTS)
        return r;
    return client_patch(node->client, &k8s_pods_resource, "kube-system", pod, CLIENT_PATCH_MERGE, status, strlen(status), &options, arena, NULL, error);
}

static int mirror_pods(struct machine_node *node, const char *node_uid, struct kp_arena *arena, struct kp_error *error)
{
    static const char *const agents[] = {"kube-proxy", "kprov-network"};
    int r = 0;
    for (size_t i = 0; r == 0 && i < node->machine->n_pods; i++)
        r = mirror_pod(node, node->machine->pods[i].name, node->machine->pods[i].image, node->machine->pods[i].stamp, node_uid, arena, error);
    for (size_t i = 0; r == 0 && i < KP_ARRAY_LEN(agents); i++)
        r = mirror_pod(node, agents[i], "agent", "", node_uid, arena, error);
    return r;
}

static int end_pods(struct machine_node *node, struct kp_arena *arena, struct kp_error *error)
{
    const struct client_list_options options = {.field_selector = kp_arena_printf(arena, "spec.nodeName=%s", node->machine->name)};
    void *answer = NULL;
    int r = client_list(node->client, &k8s_pods_resource, NULL, &options, arena, &answer, error);
    const struct k8s_pod_list *list = answer;
    for (size_t i = 0; r == 0 && i < list->items.len; i++) {
        const struct k8s_pod *pod = &list->items.items[i];
        const struct client_delete_options now = {.grace_period_s = 0};
        if (!pod->metadata->deletion_timestamp.set)
            continue;
        r = client_delete(node->client, &k8s_pods_resource, pod->metadata->namespace, pod->metadata->name, &now, error);
        r = r == KP_ENOTFOUND ? 0 : r;
    }
    return r;
}

void machine_node_look(struct machine_node *node)
{
    node->ready = false;
}

int machine_node_tend(struct machine_node *node, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    void *found = NULL;
    int r = machine_client_open(node->machine, &node->own, error);
    node->client = node->own.client;
    if (r == 0)
        r = client_get(node->client, &k8s_nodes_resource, NULL, node->machine->name, arena, &found, error);
    if (r == KP_ENOTFOUND) {
        node->ready = false;
        r = create_node(node, arena, error);
    }
    if (r == 0 && !node->ready) {
        r = say_ready(node, arena, error);
        if (r == 0)
            r = client_get(node->client, &k8s_nodes_resource, NULL, node->machine->name, arena, &found, error);
        if (r == 0)
            r = mirror_pods(node, ((const struct k8s_node *)found)->metadata->uid, arena, error);
        node->ready = r == 0;
    }
    return r < 0 ? r : end_pods(node, arena, error);
}
