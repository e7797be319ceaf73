/* What must be there before anybody asks: namespaces, the default ServiceCIDR, RBAC, and once the class of volumes on nodes' own disks. */
#include "controlplane/apiserver/registry/registry_internal.h"
#include "lib/volume/volume.h"

#define BATCHES_MAX 5
#define BATCH_AGAIN_MS 100
#define ENSURE_AT_ONCE 64 /* objects: each is an operation or more of STORE_OPS_MAX */
#define STORAGE_MARK "kprov-storage" /* a ConfigMap that says that the class was made: who deletes it, or makes another the default, is not overruled */

static const struct auth_user loopback = {.name = "system:apiserver", .uid = ""};

struct registry_request registry_own_request(struct kp_arena *arena, struct api_status *status, const struct kp_resource *resource, const char *ns, const char *name)
{
    return (struct registry_request){.arena = arena,
                                     .user = &loopback,
                                     .resource = resource,
                                     .kind = registry_kind_of(resource),
                                     .subresource = "",
                                     .ns = ns,
                                     .name = name,
                                     .field_manager = "kube-apiserver",
                                     .now_s = kp_now_s(),
                                     .own = true,
                                     .status = status};
}

static int create_if_absent(struct registry *registry, struct kp_arena *arena, struct registry_batch *batch, const struct kp_resource *resource, const char *ns,
                            void *obj, struct kp_error *error)
{
    struct api_status status = API_STATUS(arena);
    const char *name = kp_object_meta(resource->type, obj)->name;
    struct registry_request rq = registry_own_request(arena, &status, resource, ns, name);
    rq.batch = batch;
    KP_AUTO(wcache_object_unref) struct wcache_object *object = wcache_get(registry_cache(registry, rq.kind), registry_cache_key(&rq, name));
    if (object)
        return 0;
    int code = registry_create(registry, &rq, obj, &object);
    if (code == KP_EEXISTS)
        return 0;
    if (code < 0)
        return kp_fail(error, code, "create %s %s: %s", resource->name, name, status.message ? status.message : "");
    return 1;
}

int registry_create_if_absent(struct registry *registry, struct kp_arena *arena, const struct kp_resource *resource, const char *ns, void *obj, struct kp_error *error)
{
    return create_if_absent(registry, arena, NULL, resource, ns, obj, error);
}

struct bootstrap {
    struct registry *registry;
    struct kp_arena *arena;
    struct registry_batch *batch;
    const struct given *given;
};
struct given { /* objects of cluster scope */
    const struct kp_resource *resource;
    const void *const *objects;
    size_t count;
};

static int ensure_service_cidr(const struct bootstrap *bootstrap, struct kp_error *error)
{
    struct k8s_service_cidr *cidr = KP_OBJECT_NEW(bootstrap->arena, k8s_service_cidr);
    cidr->metadata->name = "kubernetes";
    ip_ranges_list(bootstrap->registry->ranges, bootstrap->arena, &cidr->spec->cidrs);
    int code = create_if_absent(bootstrap->registry, bootstrap->arena, bootstrap->batch, &k8s_servicecidrs_resource, "", cidr, error);
    return code < 0 ? code : 0;
}

static int make_given(void *arg, struct registry_request *rq, const void *current, void **ret_new)
{
    struct k8s_object_meta *meta = kp_object_meta(rq->kind->storage->type, arg);
    const struct k8s_object_meta *before = current ? kp_object_meta(rq->kind->storage->type, current) : NULL;
    if (before) {
        meta->uid = before->uid;
        meta->creation_timestamp = before->creation_timestamp;
        meta->resource_version = NULL;
    }
    *ret_new = arg;
    return 0;
}

static int ensure_rbac(void *arg, const struct kp_resource *resource, void *obj, bool reconcile, struct kp_error *error)
{
    const struct bootstrap *context = arg;
    const struct k8s_object_meta *meta = kp_object_meta(resource->type, obj);
    const char *ns = meta->namespace ? meta->namespace : "";
    int code = create_if_absent(context->registry, context->arena, context->batch, resource, ns, obj, error);
    if (code != 0 || !reconcile)
        return code < 0 ? code : 0;
    struct api_status status = API_STATUS(context->arena);
    struct registry_request rq = registry_own_request(context->arena, &status, resource, ns, meta->name);
    struct registry_update_options options = {.patch = true};
    KP_AUTO(wcache_object_unref) struct wcache_object *object = NULL;
    bool created;
    code = registry_update(context->registry, &rq, &options, make_given, obj, &object, &created);
    return code < 0 ? kp_fail(error, code, "reconcile %s %s: %s", resource->name, meta->name, status.message) : 0;
}

static int ensure_namespaces(struct bootstrap *bootstrap, struct kp_error *error)
{
    static const char *const namespaces[] = {"kube-system", "kube-public", "kube-node-lease", "default"};
    for (size_t i = 0; i < KP_ARRAY_LEN(namespaces); i++) {
        struct k8s_namespace *ns = KP_OBJECT_NEW(bootstrap->arena, k8s_namespace);
        ns->metadata->name = namespaces[i];
        if (create_if_absent(bootstrap->registry, bootstrap->arena, bootstrap->batch, &k8s_namespaces_resource, "", ns, error) < 0)
            return error->code;
    }
    return ensure_service_cidr(bootstrap, error);
}

static bool has_default_class(const struct bootstrap *bootstrap)
{
    struct api_status status = API_STATUS(bootstrap->arena);
    const struct registry_request rq = registry_own_request(bootstrap->arena, &status, &k8s_storageclasses_resource, "", "");
    struct wcache_list list;
    bool found = false;
    wcache_list(registry_cache(bootstrap->registry, rq.kind), &(const struct wcache_filter){0}, NULL, 0, bootstrap->arena, &list);
    for (size_t i = 0; i < list.len; i++) {
        const struct k8s_storage_class *class = registry_decode(rq.kind, list.items[i], bootstrap->arena);
        found = found || kp_streq(kp_string_map_get(&class->metadata->annotations, VOLUME_DEFAULT_CLASS), "true");
    }
    wcache_list_done(&list);
    return found;
}

static bool is_marked(const struct bootstrap *bootstrap)
{
    struct api_status status = API_STATUS(bootstrap->arena);
    struct registry_request rq = registry_own_request(bootstrap->arena, &status, &k8s_configmaps_resource, "kube-system", STORAGE_MARK);
    KP_AUTO(wcache_object_unref) struct wcache_object *object = wcache_get(registry_cache(bootstrap->registry, rq.kind), registry_cache_key(&rq, STORAGE_MARK));
    return object != NULL;
}

/* The class and the mark come in one transaction, once in the life of a cluster; a cluster older than the class gets it, too, but keeps its default. */
static int ensure_local_class(struct bootstrap *bootstrap, struct kp_error *error)
{
    if (is_marked(bootstrap))
        return 0;
    struct k8s_storage_class *class = KP_OBJECT_NEW(bootstrap->arena, k8s_storage_class);
    class->metadata->name = "local";
    if (!has_default_class(bootstrap))
        kp_string_map_set(bootstrap->arena, &class->metadata->annotations, VOLUME_DEFAULT_CLASS, "true");
    class->provisioner = VOLUME_LOCAL_PROVISIONER;
    class->reclaim_policy = "Delete";
    class->volume_binding_mode = "WaitForFirstConsumer";
    struct k8s_config_map *mark = KP_OBJECT_NEW(bootstrap->arena, k8s_config_map);
    mark->metadata->name = STORAGE_MARK;
    mark->metadata->namespace = "kube-system";
    kp_string_map_set(bootstrap->arena, &mark->data, "local-class", "made");
    int code = create_if_absent(bootstrap->registry, bootstrap->arena, bootstrap->batch, &k8s_storageclasses_resource, "", class, error);
    if (code >= 0)
        code = create_if_absent(bootstrap->registry, bootstrap->arena, bootstrap->batch, &k8s_configmaps_resource, "kube-system", mark, error);
    return code < 0 ? code : 0;
}

static int ensure_policy(struct bootstrap *bootstrap, struct kp_error *error)
{
    int code = bootstrap->registry->auth ? auth_bootstrap(bootstrap->registry->auth, ensure_rbac, bootstrap, error) : 0;
    return code < 0 ? code : ensure_local_class(bootstrap, error);
}

/* What is missing goes into one transaction: of several servers that start together one makes everything at once, and the others see it. */
static int ensure_at_once(struct registry *registry, int (*ensure)(struct bootstrap *, struct kp_error *), const struct given *given, struct kp_error *error)
{
    for (int attempt = 0; attempt < BATCHES_MAX; attempt++) {
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        struct registry_batch batch = {.count = 0};
        struct bootstrap bootstrap = {registry, arena, &batch, given};
        if (ensure(&bootstrap, error) < 0)
            return error->code;
        int code = registry_batch_commit(registry, &batch, arena, error);
        if (code != KP_ECONFLICT)
            return code;
        kp_sleep_ms(BATCH_AGAIN_MS); /* until the caches know what another server has made */
    }
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    return ensure(&(struct bootstrap){registry, arena, NULL, given}, error);
}

int registry_bootstrap(struct registry *registry, struct kp_error *error)
{
    int code = ensure_at_once(registry, ensure_namespaces, NULL, error); /* first: what is in one asks for it */
    return code < 0 ? code : ensure_at_once(registry, ensure_policy, NULL, error);
}

static int ensure_given(struct bootstrap *bootstrap, struct kp_error *error)
{
    const struct given *given = bootstrap->given;
    for (size_t i = 0; i < given->count; i++) {
        void *object = kp_object_clone(given->resource->type, given->objects[i], bootstrap->arena); /* what is tried again is as it was given */
        if (create_if_absent(bootstrap->registry, bootstrap->arena, bootstrap->batch, given->resource, "", object, error) < 0)
            return error->code;
    }
    return 0;
}

int registry_ensure(struct registry *registry, const struct kp_resource *resource, const void *const *objects, size_t count, struct kp_error *error)
{
    for (size_t done = 0; done < count; done += ENSURE_AT_ONCE) {
        const struct given given = {resource, objects + done, KP_MIN(count - done, (size_t)ENSURE_AT_ONCE)};
        if (ensure_at_once(registry, ensure_given, &given, error) < 0)
            return error->code;
    }
    return 0;
}
