/* What the API is told of the drivers on this node: the CSINode object, and labels for where their volumes can be reached. */
#include "nodeimage/kubelet/csi/csi_internal.h"

#define TRIES_MAX 5

static void fill(struct k8s_csi_node_driver *driver, const char *name, const struct csi_node_info *info, struct kp_arena *arena)
{
    *driver = (struct k8s_csi_node_driver){.name = name, .node_id = info->node_id};
    driver->topology_keys.items = KP_NEW_ARRAY(arena, const char *, 1); /* present, if empty */
    for (size_t i = 0; i < info->topology.len; i++)
        kp_string_list_add(arena, &driver->topology_keys, info->topology.items[i].key);
    if (info->volumes_max > 0) {
        driver->allocatable = KP_OBJECT_NEW(arena, k8s_volume_node_resources);
        KP_SET(driver->allocatable, count, (int32_t)KP_MIN(info->volumes_max, INT32_MAX));
    }
}

bool csi_node_change(struct k8s_csi_node *node, const char *name, const struct csi_node_info *info, struct kp_arena *arena)
{
    struct k8s_csi_node_driver_items *drivers = &node->spec->drivers;
    struct k8s_csi_node_driver wanted;
    size_t at = 0;
    while (at < drivers->len && !kp_streq(drivers->items[at].name, name))
        at++;
    if (!info) {
        if (at == drivers->len)
            return false;
        memmove(&drivers->items[at], &drivers->items[at + 1], (drivers->len - at - 1) * sizeof(*drivers->items));
        drivers->len--;
        return true;
    }
    fill(&wanted, name, info, arena);
    if (at < drivers->len && kp_object_equal(&k8s_csi_node_driver_type, &drivers->items[at], &wanted))
        return false;
    if (at < drivers->len)
        drivers->items[at] = wanted;
    else
        *KP_LIST_ADD(arena, drivers) = wanted;
    return true;
}

static int create(struct csi *csi, const struct k8s_node *owner, struct kp_arena *arena, struct kp_error *error)
{
    struct k8s_csi_node *node = KP_OBJECT_NEW(arena, k8s_csi_node);
    struct k8s_owner_reference *reference = KP_LIST_ADD(arena, &node->metadata->owner_references);
    node->metadata->name = csi->config.node_name;
    *reference = (struct k8s_owner_reference){.api_version = "v1", .kind = "Node", .name = owner->metadata->name, .uid = owner->metadata->uid};
    node->spec->drivers.items = KP_NEW_ARRAY(arena, struct k8s_csi_node_driver, 1);
    return client_create(csi->config.client, &k8s_csinodes_resource, NULL, node, NULL, arena, NULL, error);
}

static int get_node(struct csi *csi, struct kp_arena *arena, const struct k8s_node **ret, struct kp_error *error)
{
    void *object = NULL;
    int rc = client_get(csi->config.client, &k8s_nodes_resource, NULL, csi->config.node_name, arena, &object, error);
    *ret = object;
    return rc;
}

static bool is_owned_by(const struct k8s_csi_node *csi_node, const struct k8s_node *node)
{
    for (size_t i = 0; i < csi_node->metadata->owner_references.len; i++)
        if (kp_streq(csi_node->metadata->owner_references.items[i].uid, node->metadata->uid))
            return true;
    return false;
}

/* The CSINode of this node. One that a former node of the name left would go with that one: it is made anew. */
static int get_or_create(struct csi *csi, struct kp_arena *arena, struct k8s_csi_node **ret, struct kp_error *error)
{
    const struct k8s_node *node;
    void *object = NULL;
    int rc = get_node(csi, arena, &node, error);
    if (rc < 0)
        return rc;
    rc = client_get(csi->config.client, &k8s_csinodes_resource, NULL, csi->config.node_name, arena, &object, error);
    if (rc == 0 && !is_owned_by(object, node)) {
        rc = client_delete(csi->config.client, &k8s_csinodes_resource, NULL, csi->config.node_name, CLIENT_DELETE_DEFAULT, error);
        rc = rc == 0 || rc == KP_ENOTFOUND ? KP_ENOTFOUND : rc;
    }
    if (rc == KP_ENOTFOUND) {
        rc = create(csi, node, arena, error);
        if (rc == 0 || rc == KP_EEXISTS)
            rc = client_get(csi->config.client, &k8s_csinodes_resource, NULL, csi->config.node_name, arena, &object, error);
    }
    *ret = object;
    return rc;
}

bool csi_node_is_another(struct csi *csi)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const struct k8s_node *node;
    void *object = NULL;
    struct kp_error error = {0};
    if (!csi->config.client || get_node(csi, arena, &node, &error) < 0)
        return false;
    int rc = client_get(csi->config.client, &k8s_csinodes_resource, NULL, csi->config.node_name, arena, &object, &error);
    return rc == KP_ENOTFOUND || (rc == 0 && !is_owned_by(object, node));
}

int csi_node_ensure(struct csi *csi, struct kp_error *error)
{
    if (!csi->config.client)
        return 0;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct k8s_csi_node *node;
    return get_or_create(csi, arena, &node, error);
}

/* Labels of another value are not overwritten: two drivers that disagree on where the node is cannot both be right. */
static int label_node(struct csi *csi, const struct csi_node_info *info, struct kp_arena *arena, struct kp_error *error)
{
    const struct k8s_node *node;
    KP_AUTO_BUF struct kp_buf patch = {0};
    size_t n = 0;
    int rc = info->topology.len > 0 ? get_node(csi, arena, &node, error) : 0;
    if (rc < 0 || info->topology.len == 0)
        return rc;
    kp_buf_puts(&patch, "{\"metadata\":{\"labels\":{");
    for (size_t i = 0; i < info->topology.len; i++) {
        const struct kp_string_pair *segment = &info->topology.items[i];
        const char *there = kp_string_map_get(&node->metadata->labels, segment->key);
        if (there && !kp_streq(there, segment->value))
            return kp_fail(error, KP_ECONFLICT, "detected topology value collision: driver reported \"%s\":\"%s\" but existing label is \"%s\":\"%s\"",
                           segment->key, segment->value, segment->key, there);
        if (there)
            continue;
        kp_buf_puts(&patch, n++ > 0 ? "," : "");
        kp_json_string(&patch, segment->key);
        kp_buf_putc(&patch, ':');
        kp_json_string(&patch, segment->value);
    }
    kp_buf_puts(&patch, "}}}");
    if (n == 0)
        return 0;
    return client_patch(csi->config.client, &k8s_nodes_resource, NULL, csi->config.node_name, CLIENT_PATCH_MERGE, patch.data, patch.len, NULL,
                        arena, NULL, error);
}

int csi_node_publish(struct csi *csi, const char *driver, const struct csi_node_info *info, struct kp_error *error)
{
    if (!csi->config.client)
        return 0;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    int rc = 0;
    if (info && kp_empty(info->node_id))
        return kp_fail(error, KP_EINVALID, "error adding CSI driver node info: driverNodeID must not be empty");
    if (info)
        rc = label_node(csi, info, arena, error);
    for (int i = 0; rc == 0 && i < TRIES_MAX; i++) {
        struct k8s_csi_node *node;
        rc = get_or_create(csi, arena, &node, error);
        if (rc < 0 || !csi_node_change(node, driver, info, arena))
            break;
        rc = client_update(csi->config.client, &k8s_csinodes_resource, node, NULL, arena, NULL, error);
        if (rc != KP_ECONFLICT)
            break;
        rc = i + 1 < TRIES_MAX ? 0 : rc;
    }
    return rc < 0 ? kp_wrap(error, "error updating CSINode object with CSI driver node info") : 0;
}
