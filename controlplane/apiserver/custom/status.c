/* What the server writes into definitions: their conditions, and the end of one whose objects are gone. */
#include "controlplane/apiserver/custom/custom_internal.h"

struct verdict {
    const char *conflict, *reason;
};

/* A copy to change status and metadata of: spec, which holds the schemas, is the original's. */
static crd_t *copy_but_spec(const crd_t *crd, struct kp_arena *arena)
{
    crd_t *copy = kp_arena_memdup(arena, crd, sizeof(*crd));
    copy->metadata = kp_object_clone(&k8s_object_meta_type, crd->metadata, arena);
    copy->status = KP_OBJECT_CLONE(arena, k8s_custom_resource_definition_status, crd->status);
    return copy;
}

/* Names once accepted stay so: a definition that came later cannot take them away. */
static void fill_status(crd_t *crd, const struct verdict *verdict, int64_t now_s, struct kp_arena *arena)
{
    if (verdict->conflict) {
        registry_crd_condition(crd, "NamesAccepted", false, verdict->reason, verdict->conflict, now_s, arena);
        registry_crd_condition(crd, "Established", false, "NotAccepted", "not all names are accepted", now_s, arena);
        return;
    }
    registry_crd_condition(crd, "NamesAccepted", true, "NoConflicts", "no conflicts found", now_s, arena);
    registry_crd_condition(crd, "Established", true, "InitialNamesAccepted", "the initial names have been accepted", now_s, arena);
    crd->status->accepted_names = kp_object_clone(&k8s_custom_resource_definition_names_type, crd->spec->names, arena);
}

static int make_status(void *arg, struct registry_request *rq, const void *current, void **ret_new)
{
    crd_t *crd = copy_but_spec(current, rq->arena);
    fill_status(crd, arg, rq->now_s, rq->arena);
    *ret_new = crd;
    return 0;
}

int custom_write_status(struct registry *registry, const crd_t *crd, const char *conflict, const char *reason, struct kp_arena *arena)
{
    struct verdict verdict = {conflict, reason};
    crd_t *wanted = copy_but_spec(crd, arena);
    fill_status(wanted, &verdict, kp_now_s(), arena);
    if (kp_object_equal(&k8s_custom_resource_definition_status_type, wanted->status, crd->status))
        return 0;
    struct api_status status = API_STATUS(arena);
    struct registry_request rq = registry_own_request(arena, &status, &k8s_customresourcedefinitions_resource, "", crd->metadata->name);
    const struct registry_update_options options = {.patch = true};
    KP_AUTO(wcache_object_unref) struct wcache_object *object = NULL;
    bool created;
    rq.subresource = "status";
    int code = registry_update(registry, &rq, &options, make_status, &verdict, &object, &created);
    return code == KP_ENOTFOUND ? 0 : code;
}

/* ---- the end --------------------------------------------------------------------------------------------------------------- */
static int make_finished(void *arg, struct registry_request *rq, const void *current, void **ret_new)
{
    crd_t *crd = copy_but_spec(current, rq->arena);
    struct kp_string_list kept = {0};
    (void)arg;
    for (size_t i = 0; i < crd->metadata->finalizers.len; i++)
        if (!kp_streq(crd->metadata->finalizers.items[i], REGISTRY_CRD_FINALIZER))
            kp_string_list_add(rq->arena, &kept, crd->metadata->finalizers.items[i]);
    crd->metadata->finalizers = kept;
    *ret_new = crd;
    return 0;
}

static int finish(struct registry *registry, const crd_t *crd, struct kp_arena *arena)
{
    struct api_status status = API_STATUS(arena);
    struct registry_request rq = registry_own_request(arena, &status, &k8s_customresourcedefinitions_resource, "", crd->metadata->name);
    const struct registry_update_options options = {.patch = true, .uid = crd->metadata->uid};
    KP_AUTO(wcache_object_unref) struct wcache_object *object = NULL;
    bool created;
    int code = registry_update(registry, &rq, &options, make_finished, NULL, &object, &created);
    return code == KP_ENOTFOUND ? 0 : code;
}

static int delete_one(struct registry *registry, const struct kp_resource *resource, const struct wcache_object *found, struct kp_arena *arena)
{
    struct api_status status = API_STATUS(arena);
    struct registry_request rq = registry_own_request(arena, &status, resource, found->ns, found->name);
    KP_AUTO(wcache_object_unref) struct wcache_object *object = NULL;
    bool gone, as_status;
    int code = registry_delete(registry, &rq, KP_OBJECT_NEW(arena, k8s_delete_options), &object, &gone, &as_status);
    return code == KP_ENOTFOUND ? 0 : code;
}

/* Those that are left after it: of a list that is as new as the store. */
static int delete_all(struct registry *registry, const struct kp_resource *resource, struct kp_arena *arena, size_t *ret_found)
{
    struct api_status status = API_STATUS(arena);
    struct registry_request rq = registry_own_request(arena, &status, resource, "", "");
    const struct registry_list_options options = {.limit = 0};
    struct registry_list list;
    int code = registry_list(registry, &rq, &options, &list);
    if (code < 0)
        return code;
    *ret_found = list.objects.len;
    for (size_t i = 0; code == 0 && i < list.objects.len; i++)
        code = delete_one(registry, resource, list.objects.items[i], arena);
    wcache_list_done(&list.objects);
    return code;
}

int custom_clean_up(struct registry *registry, const crd_t *crd, const struct registry_custom *served, struct kp_arena *arena, bool *ret_done)
{
    size_t found = served ? 1 : 0;
    int code = 0;
    *ret_done = !kp_string_list_has(&crd->metadata->finalizers, REGISTRY_CRD_FINALIZER); /* somebody else's finalizers hold it */
    if (*ret_done)
        return 0;
    for (int pass = 0; code == 0 && found && pass < 2; pass++) /* the second sees that they are gone; those with finalizers are not yet */
        code = delete_all(registry, registry_custom_storage(served), arena, &found);
    if (code < 0 || found)
        return code;
    code = finish(registry, crd, arena);
    *ret_done = code == 0;
    return code;
}
