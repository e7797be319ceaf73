/* Emptying a node before its machine goes: what kubectl drain does. */
#include "api/k8s.h"
#include "client/client.h"
#include "provisioner/cli/cli.h"

#define POLL_MS 250
#define MIRROR_ANNOTATION "kubernetes.io/config.mirror"

static int cordon(struct cli_api *api, const char *node, struct kp_error *error)
{
    static const char body[] = "{\"spec\":{\"unschedulable\":true}}";
    static const struct client_write_options options = {.field_manager = "kprov"};
    return client_patch(cli_api_client(api), &k8s_nodes_resource, NULL, node, CLIENT_PATCH_MERGE, body, sizeof(body) - 1,
                        &options, NULL, NULL, error);
}

int cli_api_uncordon(struct cli_api *api, const char *node, struct kp_error *error)
{
    static const char body[] = "{\"spec\":{\"unschedulable\":null}}";
    static const struct client_write_options options = {.field_manager = "kprov"};
    int r = client_patch(cli_api_client(api), &k8s_nodes_resource, NULL, node, CLIENT_PATCH_MERGE, body, sizeof(body) - 1, &options, NULL,
                         NULL, error);
    return r == KP_ENOTFOUND ? 0 : r < 0 ? kp_wrap(error, "uncordon node %s", node) : 0;
}

/* Static pods go with the machine; pods of a DaemonSet would only come back. */
static bool stays(const struct k8s_pod *pod)
{
    if (kp_string_map_get(&pod->metadata->annotations, MIRROR_ANNOTATION))
        return true;
    for (size_t i = 0; i < pod->metadata->owner_references.len; i++) {
        const struct k8s_owner_reference *owner = &pod->metadata->owner_references.items[i];
        if (owner->has_controller && owner->controller && kp_streq(owner->kind, "DaemonSet"))
            return true;
    }
    return false;
}

/* 0: asked to go, or gone; KP_ETOOMANY: a budget does not allow it now. */
static int evict(struct cli_api *api, const struct k8s_pod *pod, struct kp_arena *arena, struct kp_error *error)
{
    if (pod->metadata->deletion_timestamp.set)
        return 0;
    struct k8s_eviction *eviction = KP_OBJECT_NEW(arena, k8s_eviction);
    eviction->metadata->name = pod->metadata->name;
    eviction->metadata->namespace = pod->metadata->namespace;
    int r = client_create_sub(cli_api_client(api), &k8s_pods_resource, pod->metadata->namespace, pod->metadata->name,
                              "eviction", &k8s_eviction_type, eviction, arena, NULL, error);
    return r == KP_ENOTFOUND ? 0 : r;
}

/* One round: *ret_left pods still have to go; *ret_why (in arena) says what held one up, or is NULL. */
static int drain_once(struct cli_api *api, const char *node, struct kp_arena *arena, size_t *ret_left, const char **ret_why,
                      struct kp_error *error)
{
    const struct client_list_options options = {.field_selector = kp_arena_printf(arena, "spec.nodeName=%s", node)};
    void *answer = NULL;
    int r = client_list(cli_api_client(api), &k8s_pods_resource, NULL, &options, arena, &answer, error);
    if (r < 0)
        return r;
    const struct k8s_pod_list *pods = answer;
    *ret_left = 0;
    *ret_why = NULL;
    for (size_t i = 0; i < pods->items.len; i++) {
        const struct k8s_pod *pod = &pods->items.items[i];
        struct kp_error refused = {0};
        if (stays(pod))
            continue;
        ++*ret_left;
        r = evict(api, pod, arena, &refused);
        if (r == KP_ETOOMANY)
            *ret_why = kp_arena_printf(arena, "pod %s/%s: %s", pod->metadata->namespace, pod->metadata->name, refused.message);
        else if (r < 0)
            return kp_fail(error, r, "evict pod %s/%s: %s", pod->metadata->namespace, pod->metadata->name, refused.message);
        else if (!*ret_why)
            *ret_why = kp_arena_printf(arena, "pod %s/%s is still ending", pod->metadata->namespace, pod->metadata->name);
    }
    return 0;
}

int cli_api_drain(struct cli_api *api, const char *node, int64_t deadline_ms, struct cli_progress *progress,
                  struct kp_error *error)
{
    int r = cordon(api, node, error);
    if (r == KP_ENOTFOUND)
        return 0; /* it never registered, or is deleted already */
    while (r == 0) {
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        size_t left = 0;
        const char *why = NULL;
        r = drain_once(api, node, arena, &left, &why, error);
        if (r == 0 && left == 0)
            return 0;
        if (r == 0 && kp_mono_ms() > deadline_ms)
            return kp_fail(error, KP_ETIMEOUT, "node %s is cordoned, but %zu of its pods are not gone in time: %s", node, left, why);
        cli_progress_tick(progress, why);
        if (r == 0)
            r = cli_interrupted(error);
        kp_sleep_ms(POLL_MS);
    }
    return kp_wrap(error, "drain node %s", node);
}

int cli_api_delete_node(struct cli_api *api, const char *node, struct kp_error *error)
{
    int r = client_delete(cli_api_client(api), &k8s_nodes_resource, NULL, node, CLIENT_DELETE_DEFAULT, error);
    return r == KP_ENOTFOUND ? 0 : r < 0 ? kp_wrap(error, "delete node %s", node) : 0;
}
