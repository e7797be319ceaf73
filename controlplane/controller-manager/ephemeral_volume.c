/* Makes the claims of pods' ephemeral volumes, owned by their pod so that they go with it. */
#include "controlplane/controller-manager/controllers.h"
#include "controlplane/controller-manager/storage.h"

static void create(const struct plan_input *in, struct plan *plan, const struct k8s_pod *pod, const struct k8s_volume *volume, const char *name)
{
    const struct k8s_persistent_volume_claim_template *template = volume->ephemeral->volume_claim_template;
    struct k8s_persistent_volume_claim *claim = KP_OBJECT_NEW(in->arena, k8s_persistent_volume_claim);
    claim->metadata->name = name;
    claim->metadata->namespace = pod->metadata->namespace;
    claim->metadata->labels = template->metadata->labels;
    claim->metadata->annotations = template->metadata->annotations;
    claim->spec = KP_OBJECT_CLONE(in->arena, k8s_persistent_volume_claim_spec, template->spec);
    engine_set_controller(in->arena, claim->metadata, &k8s_pod_type, pod->metadata);
    plan_create(plan, &k8s_persistentvolumeclaims_resource, pod->metadata->namespace, claim);
    plan_event_on_failure(plan, &k8s_pod_type, pod, "FailedBinding",
                          kp_arena_printf(in->arena, "ephemeral volume %s: create PVC %s: ", volume->name, name));
}

static int plan_pod(const struct plan_input *in, struct plan *plan, struct kp_error *error)
{
    const struct k8s_pod *pod = client_view_get(in->view, engine_cache(in->engine, &k8s_pods_resource), in->ns, in->name);
    if (!pod || pod->metadata->deletion_timestamp.set)
        return 0;
    for (size_t i = 0; i < pod->spec->volumes.len; i++) {
        const struct k8s_volume *volume = &pod->spec->volumes.items[i];
        if (!volume->ephemeral || !volume->ephemeral->volume_claim_template)
            continue;
        const char *name = storage_claim_name(pod, volume, in->arena);
        const struct k8s_persistent_volume_claim *claim =
            client_view_get(in->view, engine_cache(in->engine, &k8s_persistentvolumeclaims_resource), in->ns, name);
        if (!claim) {
            create(in, plan, pod, volume, name);
        } else if (!storage_claim_is_of_pod(claim, pod)) {
            plan_event(plan, &k8s_pod_type, pod, "Warning", "FailedBinding", "ephemeral volume %s: PVC %s/%s was not created for pod %s/%s (pod is not owner)",
                       volume->name, in->ns, name, in->ns, in->name);
            plan_back_off(plan);
        }
    }
    return 0;
}

static bool has_ephemeral(const struct k8s_pod *pod)
{
    for (size_t i = 0; i < pod->spec->volumes.len; i++)
        if (pod->spec->volumes.items[i].ephemeral)
            return true;
    return false;
}

static void map_pod(struct controller_run *run, const struct client_object *old, const struct client_object *new)
{
    if (new && (!old || !kp_streq(old->uid, new->uid)) && has_ephemeral(new->data))
        engine_enqueue(run, new->ns, new->name);
}

/* A claim came or went: it may be "<pod>-<volume>", with dashes in either. */
static void map_claim(struct controller_run *run, const struct client_object *old, const struct client_object *new)
{
    if (old && new)
        return;
    const struct client_object *object = new ? new : old;
    char pod_name[CLIENT_KEY_PART_MAX];
    size_t len = strlen(object->name);
    for (size_t i = 1; i < len && i < sizeof(pod_name); i++) {
        if (object->name[i] != '-')
            continue;
        memcpy(pod_name, object->name, i);
        pod_name[i] = '\0';
        KP_AUTO(client_object_unref) struct client_object *pod = client_informer_get(engine_cache(engine_of(run), &k8s_pods_resource), object->ns, pod_name);
        if (pod && has_ephemeral(pod->data))
            engine_enqueue(run, object->ns, pod_name);
    }
}

static int setup(struct engine *engine, struct controller_run *run, void **ret_state, struct kp_error *error)
{
    engine_watch(run, &k8s_pods_resource, map_pod);
    engine_watch(run, &k8s_persistentvolumeclaims_resource, map_claim);
    return 0;
}

const struct controller ephemeral_volume_controller = {.name = "ephemeral-volume-controller", .setup = setup, .plan = plan_pod};
