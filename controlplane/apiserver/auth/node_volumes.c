/* What a node has to do with persistent volumes: which are for its pods, which lie on its own disk, and which secrets they need. */
#include "controlplane/apiserver/auth/auth_internal.h"
#include "lib/volume/volume.h"

static const void *load(struct wcache *cache, const struct kp_type *type, const char *key, struct kp_arena *arena)
{
    KP_AUTO(wcache_object_unref) struct wcache_object *object = cache && !kp_empty(key) ? wcache_get(cache, key) : NULL;
    void *decoded;
    struct kp_error error = {0};
    if (!object)
        return NULL;
    if (kp_json_decode(type, (const char *)object->json->data, object->json->len, arena, NULL, &decoded, &error) == 0)
        return decoded;
    kp_error_log("object left out of node authorisation", "object", key, "error", error.message, NULL);
    return NULL;
}

bool auth_volume_is_on_node(const struct auth_node_volumes *volumes, const char *name, const char *node, const struct k8s_object_reference **ret_claim,
                            struct kp_arena *arena)
{
    const struct k8s_persistent_volume *volume = load(volumes->volumes, &k8s_persistent_volume_type, name, arena);
    *ret_claim = volume ? volume->spec->claim_ref : NULL;
    const char *host = volume ? volume_only_host(volume) : NULL;
    if (!host)
        return false;
    const struct k8s_node *object = load(volumes->nodes, &k8s_node_type, node, arena);
    return object && kp_streq(kp_string_map_get(&object->metadata->labels, VOLUME_HOSTNAME_LABEL), host);
}

static bool is_it(const struct k8s_secret_reference *ref, const char *ns, const char *name)
{
    return ref && kp_streq(ref->namespace, ns) && kp_streq(ref->name, name);
}

bool auth_volumes_name_secret(const struct auth_node_volumes *volumes, const struct kp_string_list *claims, const char *ns, const char *name,
                              struct kp_arena *arena)
{
    for (size_t i = 0; i < claims->len; i++) {
        const struct k8s_persistent_volume_claim *claim = load(volumes->claims, &k8s_persistent_volume_claim_type, claims->items[i], arena);
        const struct k8s_persistent_volume *volume = claim ? load(volumes->volumes, &k8s_persistent_volume_type, claim->spec->volume_name, arena) : NULL;
        const struct k8s_csi_persistent_volume_source *csi = volume ? volume->spec->csi : NULL;
        const struct k8s_object_reference *ref = volume ? volume->spec->claim_ref : NULL;
        /* The volume has to mean the claim, too: who may write claims could have any volume's secrets else. */
        bool bound = ref && kp_streq(ref->name, claim->metadata->name) && kp_streq(ref->namespace, claim->metadata->namespace);
        if (csi && bound &&
            (is_it(csi->node_publish_secret_ref, ns, name) || is_it(csi->node_stage_secret_ref, ns, name) || is_it(csi->node_expand_secret_ref, ns, name)))
            return true;
    }
    return false;
}

bool auth_attachment_is_to(const struct auth_node_volumes *volumes, const char *name, const char *node, struct kp_arena *arena)
{
    const struct k8s_volume_attachment *attachment = load(volumes->attachments, &k8s_volume_attachment_type, name, arena);
    return attachment && kp_streq(attachment->spec->node_name, node);
}
