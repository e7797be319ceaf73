/* Volumes given to claims: the writes that ask for it, and whether the controllers have done their part. */
#include "controlplane/scheduler/volumes_internal.h"

#include "controlplane/scheduler/bind_internal.h"

static int64_t version_of(const struct k8s_object_meta *meta)
{
    return meta->resource_version ? strtoll(meta->resource_version, NULL, 10) : 0;
}

/* The volume is reserved for the claim; the binder does the rest. The version makes sure that nobody else had the same idea. */
static int give_volume(struct client *client, struct sched_volume_step *step, struct kp_arena *arena, struct kp_error *error)
{
    const struct k8s_persistent_volume *volume = step->volume->data;
    const struct client_object *claim = step->claim;
    KP_AUTO_BUF struct kp_buf body = {0};
    kp_buf_printf(&body, "{\"metadata\":{\"resourceVersion\":\"%s\"", step->volume->resource_version);
    if (!volume_is_for(volume, claim->data)) /* else the user has: then it stays when the claim goes */
        kp_buf_puts(&body, ",\"annotations\":{\"" VOLUME_BOUND_BY_CONTROLLER "\":\"yes\"}");
    kp_buf_printf(&body, "},\"spec\":{\"claimRef\":{\"apiVersion\":\"v1\",\"kind\":\"PersistentVolumeClaim\",\"namespace\":\"%s\",\"name\":\"%s\",\"uid\":\"%s\","
                         "\"resourceVersion\":\"%s\"}}}", claim->ns, claim->name, claim->uid, claim->resource_version);
    void *written;
    if (client_patch(client, &k8s_persistentvolumes_resource, "", step->volume->name, CLIENT_PATCH_MERGE, body.data, body.len, NULL, arena, &written, error) < 0)
        return error->code;
    step->version = version_of(((const struct k8s_persistent_volume *)written)->metadata);
    return 0;
}

static int ask_for_volume(struct client *client, const char *node, struct sched_volume_step *step, struct kp_arena *arena, struct kp_error *error)
{
    const struct client_object *claim = step->claim;
    KP_AUTO_BUF struct kp_buf body = {0};
    kp_buf_printf(&body, "{\"metadata\":{\"resourceVersion\":\"%s\",\"annotations\":{\"" VOLUME_SELECTED_NODE "\":", claim->resource_version);
    kp_json_string(&body, node);
    kp_buf_puts(&body, "}}}");
    void *written;
    if (client_patch(client, &k8s_persistentvolumeclaims_resource, claim->ns, claim->name, CLIENT_PATCH_MERGE, body.data, body.len, NULL, arena, &written,
                     error) < 0)
        return error->code;
    step->version = version_of(((const struct k8s_persistent_volume_claim *)written)->metadata);
    return 0;
}

int sched_volume_plan_write(struct sched_volume_plan *plan, struct client *client, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    int code = 0;
    for (size_t i = 0; i < plan->len && code == 0; i++)
        code = plan->items[i].volume ? give_volume(client, &plan->items[i], arena, error) : ask_for_volume(client, plan->node, &plan->items[i], arena, error);
    return code;
}

/* ---- has it happened? ------------------------------------------------------------------------------------------------------------ */
static int reaches(const struct k8s_persistent_volume *volume, const struct sched_node *node, struct kp_error *error)
{
    if (volume_reaches_node(volume, node->node))
        return 1;
    return kp_fail(error, KP_ECONFLICT, "pv \"%s\" node affinity doesn't match node \"%s\": no matching NodeSelectorTerms", volume->metadata->name, node->name);
}

static int given_state(const struct sched_volume_step *step, const struct k8s_persistent_volume_claim *claim, const struct sched_node *node,
                       const struct sched_storage *storage, struct kp_error *error)
{
    const struct client_object *object = sched_storage_get(storage, SCHED_VOLUMES, "", step->volume->name);
    if (!object)
        return kp_fail(error, KP_ENOTFOUND, "failed to check binding: could not find PV \"%s\"", step->volume->name);
    const struct k8s_persistent_volume *volume = object->data;
    if (version_of(volume->metadata) < step->version)
        return 0; /* from before our write */
    int code = reaches(volume, node, error);
    if (code < 0)
        return code;
    if (!volume->spec->claim_ref || kp_empty(volume->spec->claim_ref->uid))
        return kp_fail(error, KP_ECONFLICT, "ClaimRef got reset for pv \"%s\"", object->name);
    return volume_claim_is_bound(claim);
}

static int asked_state(const struct sched_volume_step *step, const struct k8s_persistent_volume_claim *claim, const struct sched_node *node,
                       const struct sched_storage *storage, struct kp_error *error)
{
    if (version_of(claim->metadata) < step->version)
        return 0;
    const char *selected = kp_string_map_get(&claim->metadata->annotations, VOLUME_SELECTED_NODE);
    if (!kp_streq(selected, node->name)) /* the provisioner takes it away when it cannot do it there */
        return kp_fail(error, KP_ECONFLICT, "provisioning failed for PVC \"%s\"", claim->metadata->name);
    if (kp_empty(claim->spec->volume_name))
        return 0;
    const struct client_object *object = sched_storage_get(storage, SCHED_VOLUMES, "", claim->spec->volume_name);
    if (!object)
        return 0; /* it is on its way to us */
    int code = reaches(object->data, node, error);
    return code < 0 ? code : volume_claim_is_bound(claim);
}

int sched_volume_plan_state(const struct sched_volume_plan *plan, const struct sched_cluster *cluster, struct kp_error *error)
{
    const struct sched_node *node = NULL;
    for (size_t i = 0; i < cluster->n; i++)
        if (strcmp(cluster->nodes[i]->name, plan->node) == 0)
            node = cluster->nodes[i];
    if (!node)
        return kp_fail(error, KP_ENOTFOUND, "failed to get node \"%s\": node \"%s\" not found", plan->node, plan->node);
    int all = 1;
    for (size_t i = 0; i < plan->len; i++) {
        const struct sched_volume_step *step = &plan->items[i];
        const struct client_object *object = sched_storage_get(cluster->storage, SCHED_CLAIMS, step->claim->ns, step->claim->name);
        if (!object || !kp_streq(object->uid, step->claim->uid))
            return kp_fail(error, KP_ENOTFOUND, "failed to check %s: could not find v1.PersistentVolumeClaim \"%s/%s\"",
                           step->volume ? "binding" : "provisioning pvc", step->claim->ns, step->claim->name);
        int code = (step->volume ? given_state : asked_state)(step, object->data, node, cluster->storage, error);
        if (code < 0)
            return code;
        all &= code;
    }
    return all;
}
