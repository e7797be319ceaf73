/* Labels and taints of a pool on the Nodes that are there. */
#include "api/k8s.h"
#include "client/client.h"
#include "provisioner/cli/cli.h"

#define ATTEMPTS_MAX 20 /* the kubelet and the controllers write the same object */

static bool has_taint(const struct config_pool *pool, const struct k8s_taint *taint)
{
    for (size_t i = 0; i < pool->n_taints; i++)
        if (kp_streq(pool->taints[i].key, taint->key) && kp_streq(pool->taints[i].effect, taint->effect))
            return true;
    return false;
}

static void change(struct k8s_node *node, const struct config_pool *before, const struct config_pool *after, struct kp_arena *arena)
{
    struct kp_string_map labels = {0};
    struct k8s_taint_items taints = {0};
    for (size_t i = 0; i < node->metadata->labels.len; i++) {
        const char *key = node->metadata->labels.items[i].key;
        if (!kp_string_map_get(&before->labels, key))
            kp_string_map_set(arena, &labels, key, node->metadata->labels.items[i].value);
    }
    for (size_t i = 0; i < after->labels.len; i++)
        kp_string_map_set(arena, &labels, after->labels.items[i].key, after->labels.items[i].value);
    for (size_t i = 0; i < node->spec->taints.len; i++)
        if (!has_taint(before, &node->spec->taints.items[i]) && !has_taint(after, &node->spec->taints.items[i]))
            *KP_LIST_ADD(arena, &taints) = node->spec->taints.items[i];
    for (size_t i = 0; i < after->n_taints; i++) {
        struct k8s_taint *taint = KP_LIST_ADD(arena, &taints);
        taint->key = after->taints[i].key;
        taint->value = after->taints[i].value;
        taint->effect = after->taints[i].effect;
    }
    node->metadata->labels = labels;
    node->spec->taints = taints;
}

int cli_api_pool_node(struct cli_api *api, const char *node, const struct config_pool *before, const struct config_pool *after,
                      struct kp_error *error)
{
    static const struct client_write_options options = {.field_manager = "kprov"};
    int r = KP_ECONFLICT;
    for (int attempt = 0; r == KP_ECONFLICT && attempt < ATTEMPTS_MAX; attempt++) {
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        void *found = NULL;
        r = client_get(cli_api_client(api), &k8s_nodes_resource, NULL, node, arena, &found, error);
        if (r == 0) {
            change(found, before, after, arena);
            r = client_update(cli_api_client(api), &k8s_nodes_resource, found, &options, arena, NULL, error);
        }
    }
    return r < 0 ? kp_wrap(error, "labels and taints of node %s", node) : 0;
}
