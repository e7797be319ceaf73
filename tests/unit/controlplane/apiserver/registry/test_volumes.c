/* Volumes, claims and what they are made of: which are refused, what may change, and what the server fills in. */
#include "controlplane/apiserver/registry/registry.h"

#include "api/k8s.h"
#include "controlplane/apiserver/watch/watch_internal.h"
#include "tests/unit/controlplane/apiserver/caches_memory_test.h"
#include "tests/unit/controlplane/apiserver/fake_store_test.h"

#define NOW_S INT64_C(1767225600)

struct fixture {
    struct loop *loop;
    struct store *store;
    struct wcache_set *caches;
    struct registry *registry;
    struct kp_arena *arena;
    struct api_status status;
    struct registry_request rq;
    struct wcache_object *object; /* what the last call gave */
    bool created, gone, as_status;
};
static const struct auth_user joe = {.name = "joe", .uid = ""};

static int set_up(void **state)
{
    struct fixture *f = kp_calloc(1, sizeof(*f));
    struct kp_error error = {0};
    size_t count;
    f->loop = loop_new();
    assert_int_equal(loop_start(f->loop, "test", &error), 0);
    f->store = fake_store_new(f->loop);
    const struct wcache_kind *const *kinds = registry_cache_kinds(&count);
    f->caches = wcache_set_new(f->loop, f->store, kinds, count);
    assert_true(wcache_set_wait_ready(f->caches, 5000));
    const struct registry_config config = {.store = f->store, .caches = f->caches, .service_cidr = "10.96.0.0/24", .node_port_min = 30000, .node_port_max = 30010, .event_ttl_s = 60};
    if (registry_new(&config, &f->registry, &error) < 0)
        fail_msg("%s", error.message);
    f->arena = kp_arena_new(0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    wcache_object_unref(f->object);
    registry_free(f->registry);
    wcache_set_free(f->caches); /* keeps its memory, as its comment says */
    loop_free(f->loop);
    caches_memory_free(f->caches);
    fake_store_free(f->store);
    kp_arena_free(f->arena);
    free(f);
    return 0;
}

/* ---- calls ------------------------------------------------------------------------------------------------------------ */
static void about(struct fixture *f, const char *group, const char *resource, const char *subresource, const char *name)
{
    const struct kp_resource *r = kp_resource_find(group, "v1", resource);
    assert_non_null(r);
    f->status = API_STATUS(f->arena);
    f->rq = (struct registry_request){.arena = f->arena, .user = &joe, .resource = r, .kind = registry_kind_of(r), .subresource = subresource,
                                      .ns = r->namespaced ? "n" : "", .name = name, .field_manager = "test", .now_s = NOW_S, .status = &f->status};
    wcache_object_unref(KP_TAKE(f->object));
}

static void *parse(struct fixture *f, const char *json)
{
    void *obj = NULL;
    struct kp_error error = {0};
    if (kp_json_decode(registry_storage_type(f->rq.kind), json, strlen(json), f->arena, NULL, &obj, &error) < 0)
        fail_msg("%s", error.message);
    return obj;
}

static int create(struct fixture *f, const char *group, const char *resource, const char *json)
{
    about(f, group, resource, "", "");
    return registry_create(f->registry, &f->rq, parse(f, json), &f->object);
}

static int make_json(void *arg, struct registry_request *rq, const void *current, void **ret_new)
{
    struct kp_error error = {0};
    const char *json = arg;
    (void)current;
    assert_int_equal(kp_json_decode(registry_storage_type(rq->kind), json, strlen(json), rq->arena, NULL, ret_new, &error), 0);
    return 0;
}

static int update(struct fixture *f, const char *group, const char *resource, const char *subresource, const char *name, const char *json)
{
    const struct registry_update_options options = {0};
    about(f, group, resource, subresource, name);
    return registry_update(f->registry, &f->rq, &options, make_json, (void *)(uintptr_t)json, &f->object, &f->created);
}

static int delete_with(struct fixture *f, const char *group, const char *resource, const char *name, const char *options_json)
{
    void *options = NULL;
    struct kp_error error = {0};
    about(f, group, resource, "", name);
    assert_int_equal(kp_json_decode(&k8s_delete_options_type, options_json, strlen(options_json), f->arena, NULL, &options, &error), 0);
    return registry_delete(f->registry, &f->rq, options, &f->object, &f->gone, &f->as_status);
}

static int get(struct fixture *f, const char *group, const char *resource, const char *name)
{
    about(f, group, resource, "", name);
    return registry_get(f->registry, &f->rq, NULL, &f->object);
}

static void *result(struct fixture *f)
{
    assert_non_null(f->object);
    return registry_decode(f->rq.kind, f->object, f->arena);
}

static void failed(struct fixture *f, int code, int http_status, const char *reason, const char *message)
{
    if (!code)
        fail_msg("expected: %s", message);
    assert_int_equal(f->status.http_status, http_status);
    assert_string_equal(f->status.reason, reason);
    assert_string_equal(f->status.message, message);
}

#define STORAGE "storage.k8s.io"

static void refused(struct fixture *f, int code, const char *message)
{
    failed(f, code, 422, "Invalid", message);
}

/* ---- volumes ------------------------------------------------------------------------------------------------------------ */
#define PV(name, spec) "{\"metadata\":{\"name\":\"" name "\"},\"spec\":{" spec "}}"
#define SIZE "\"capacity\":{\"storage\":\"1Gi\"},\"accessModes\":[\"ReadWriteOnce\"]"
#define ON(node) "\"nodeAffinity\":{\"required\":{\"nodeSelectorTerms\":[{\"matchExpressions\":[{\"key\":\"kubernetes.io/hostname\",\"operator\":\"In\",\"values\":[\"" node "\"]}]}]}}"

static void volumes_are_checked(void **state)
{
    struct fixture *f = *state;
    refused(f, create(f, "", "persistentvolumes", PV("v", SIZE)), "PersistentVolume \"v\" is invalid: spec: Required value: must specify a volume type");
    refused(f, create(f, "", "persistentvolumes", PV("v", SIZE ",\"hostPath\":{\"path\":\"/a\"},\"nfs\":{\"server\":\"s\",\"path\":\"/p\"}")),
            "PersistentVolume \"v\" is invalid: spec.nfs: Forbidden: may not specify more than 1 volume type");
    refused(f, create(f, "", "persistentvolumes", PV("v", SIZE ",\"local\":{\"path\":\"/a\"}")),
            "PersistentVolume \"v\" is invalid: spec.nodeAffinity: Required value: Local volume requires node affinity");
    refused(f, create(f, "", "persistentvolumes", PV("v", SIZE "," ON("n1") ",\"local\":{\"path\":\"/a/../b\"}")),
            "PersistentVolume \"v\" is invalid: spec.local.path: Invalid value: \"/a/../b\": must not contain '..'");
    refused(f, create(f, "", "persistentvolumes", PV("v", "\"capacity\":{\"storage\":\"0\"},\"accessModes\":[\"ReadWriteOncePod\",\"ReadWriteMany\"],\"hostPath\":{\"path\":\"/a\"}")),
            "PersistentVolume \"v\" is invalid: [spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes, "
            "spec.capacity[storage]: Invalid value: \"0\": must be greater than zero]");
    refused(f, create(f, "", "persistentvolumes", PV("v", "\"hostPath\":{\"path\":\"/a\"}")),
            "PersistentVolume \"v\" is invalid: [spec.accessModes: Required value, spec.capacity: Required value]");
    refused(f, create(f, "", "persistentvolumes", PV("v", SIZE ",\"csi\":{\"driver\":\"d.io\"}")),
            "PersistentVolume \"v\" is invalid: spec.csi.volumeHandle: Required value");
    refused(f, create(f, "", "persistentvolumes", PV("v", SIZE ",\"hostPath\":{\"path\":\"/\"},\"persistentVolumeReclaimPolicy\":\"Recycle\"")),
            "PersistentVolume \"v\" is invalid: spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'");
    assert_int_equal(create(f, "", "persistentvolumes", PV("v", SIZE "," ON("n1") ",\"local\":{\"path\":\"/a..b\"}")), 0);
}

static void a_volume_stays_what_it_is(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "", "persistentvolumes", PV("v", SIZE "," ON("n1") ",\"local\":{\"path\":\"/a\"}")), 0);
    refused(f, update(f, "", "persistentvolumes", "", "v", PV("v", SIZE "," ON("n1") ",\"local\":{\"path\":\"/b\"}")),
            "PersistentVolume \"v\" is invalid: spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation");
    refused(f, update(f, "", "persistentvolumes", "", "v", PV("v", SIZE "," ON("n1") ",\"local\":{\"path\":\"/a\"},\"volumeMode\":\"Block\"")),
            "PersistentVolume \"v\" is invalid: volumeMode: Invalid value: \"Block\": field is immutable");
    assert_true(update(f, "", "persistentvolumes", "", "v", PV("v", SIZE "," ON("n2") ",\"local\":{\"path\":\"/a\"}")) != 0);
    assert_non_null(strstr(f->status.message, "nodeAffinity: Invalid value: {"));
    assert_non_null(strstr(f->status.message, "field is immutable, except for updating from beta label to GA"));
    assert_int_equal(update(f, "", "persistentvolumes", "", "v", PV("v", SIZE "," ON("n1") ",\"local\":{\"path\":\"/a\"},\"persistentVolumeReclaimPolicy\":\"Delete\","
                            "\"claimRef\":{\"namespace\":\"n\",\"name\":\"c\"}")), 0);
    assert_int_equal(create(f, "", "persistentvolumes", PV("w", SIZE ",\"hostPath\":{\"path\":\"/a\"}")), 0);
    assert_int_equal(update(f, "", "persistentvolumes", "", "w", PV("w", SIZE "," ON("n2") ",\"hostPath\":{\"path\":\"/a\"}")), 0); /* it may be given once */
}

static void a_volume_tells_when_its_phase_changed(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "", "persistentvolumes", PV("v", SIZE ",\"hostPath\":{\"path\":\"/a\"}")), 0);
    const struct k8s_persistent_volume *volume = result(f);
    assert_string_equal(volume->status->phase, "Pending");
    assert_int_equal(volume->status->last_phase_transition_time.seconds, NOW_S);
    assert_int_equal(update(f, "", "persistentvolumes", "status", "v", "{\"metadata\":{\"name\":\"v\"},\"status\":{\"phase\":\"Pending\",\"message\":\"m\","
                            "\"lastPhaseTransitionTime\":\"2020-01-01T00:00:00Z\"}}"), 0);
    assert_int_equal(update(f, "", "persistentvolumes", "status", "v", "{\"metadata\":{\"name\":\"v\"},\"status\":{\"phase\":\"Pending\"}}"), 0);
    volume = result(f);
    assert_int_equal(volume->status->last_phase_transition_time.seconds, 1577836800);
    assert_int_equal(update(f, "", "persistentvolumes", "status", "v", "{\"metadata\":{\"name\":\"v\"},\"status\":{\"phase\":\"Available\"}}"), 0);
    volume = result(f);
    assert_string_equal(volume->status->phase, "Available");
    assert_int_equal(volume->status->last_phase_transition_time.seconds, NOW_S);
    assert_non_null(volume->spec->host_path); /* a status leaves the spec alone */
}

/* ---- claims ------------------------------------------------------------------------------------------------------------- */
#define PVC(rest, size) "{\"metadata\":{\"name\":\"c\"},\"spec\":{\"accessModes\":[\"ReadWriteOnce\"],\"resources\":{\"requests\":{\"storage\":\"" size "\"}}" rest "}}"

static void claims_are_checked(void **state)
{
    struct fixture *f = *state;
    refused(f, create(f, "", "persistentvolumeclaims", "{\"metadata\":{\"name\":\"c\"},\"spec\":{}}"),
            "PersistentVolumeClaim \"c\" is invalid: [spec.accessModes: Required value: at least 1 access mode is required, spec.resources[storage]: Required value]");
    refused(f, create(f, "", "persistentvolumeclaims", PVC("", "-1Gi")),
            "PersistentVolumeClaim \"c\" is invalid: spec.resources[storage]: Invalid value: \"-1Gi\": must be greater than zero");
    assert_true(create(f, "", "persistentvolumeclaims", PVC(",\"storageClassName\":\"No Name\"", "1Gi")) != 0);
    assert_non_null(strstr(f->status.message, "spec.storageClassName: Invalid value: \"No Name\": a lowercase RFC 1123 subdomain"));
    refused(f, create(f, "", "persistentvolumeclaims", PVC(",\"dataSourceRef\":{\"kind\":\"Pod\",\"name\":\"p\"}", "1Gi")),
            "PersistentVolumeClaim \"c\" is invalid: [spec.dataSource: Invalid value: \"Pod\": must be 'PersistentVolumeClaim' when referencing the default apiGroup, "
            "spec.dataSourceRef: Invalid value: \"Pod\": must be 'PersistentVolumeClaim' when referencing the default apiGroup]");
    assert_int_equal(create(f, "", "persistentvolumeclaims", PVC(",\"dataSource\":{\"kind\":\"PersistentVolumeClaim\",\"name\":\"other\"}", "1Gi")), 0);
    const struct k8s_persistent_volume_claim *claim = result(f);
    assert_string_equal(claim->status->phase, "Pending");
    assert_string_equal(claim->spec->data_source_ref->name, "other");
}

static const char immutable_spec[] = "PersistentVolumeClaim \"c\" is invalid: spec: Forbidden: spec is immutable after creation except resources.requests and "
                                     "volumeAttributesClassName for bound claims";

static void a_claim_changes_little(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "", "persistentvolumeclaims", PVC("", "2Gi")), 0);
    refused(f, update(f, "", "persistentvolumeclaims", "", "c", PVC(",\"volumeMode\":\"Filesystem\",\"selector\":{\"matchLabels\":{\"a\":\"b\"}}", "2Gi")), immutable_spec);
    refused(f, update(f, "", "persistentvolumeclaims", "", "c", PVC("", "3Gi")), immutable_spec); /* it is not bound */
    assert_int_equal(update(f, "", "persistentvolumeclaims", "", "c", PVC(",\"storageClassName\":\"local\"", "2Gi")), 0); /* the class may come later */
    refused(f, update(f, "", "persistentvolumeclaims", "", "c", PVC(",\"storageClassName\":\"other\"", "2Gi")), immutable_spec);
    assert_int_equal(update(f, "", "persistentvolumeclaims", "", "c", PVC(",\"storageClassName\":\"local\",\"volumeName\":\"v\"", "2Gi")), 0);
    refused(f, update(f, "", "persistentvolumeclaims", "", "c", PVC(",\"storageClassName\":\"local\",\"volumeName\":\"w\"", "2Gi")), immutable_spec);
}

static void a_bound_claim_grows_and_shrinks_to_what_it_has(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "", "persistentvolumeclaims", PVC("", "2Gi")), 0);
    assert_int_equal(update(f, "", "persistentvolumeclaims", "status", "c", "{\"metadata\":{\"name\":\"c\"},\"status\":{\"phase\":\"Bound\",\"capacity\":{\"storage\":\"2Gi\"}}}"), 0);
    assert_int_equal(update(f, "", "persistentvolumeclaims", "", "c", PVC("", "4Gi")), 0);
    assert_int_equal(update(f, "", "persistentvolumeclaims", "", "c", PVC("", "3Gi")), 0);
    refused(f, update(f, "", "persistentvolumeclaims", "", "c", PVC("", "2Gi")),
            "PersistentVolumeClaim \"c\" is invalid: spec.resources.requests.storage: Forbidden: field can not be less than status.capacity");
    refused(f, update(f, "", "persistentvolumeclaims", "status", "c", "{\"metadata\":{\"name\":\"c\"},\"status\":{\"phase\":\"Bound\",\"allocatedResourceStatuses\":{\"storage\":\"Odd\"}}}"),
            "PersistentVolumeClaim \"c\" is invalid: status.allocatedResourceStatus: Unsupported value: \"storage\": supported values: \"ControllerResizeInProgress\", "
            "\"ControllerResizeInfeasible\", \"NodeResizePending\", \"NodeResizeInProgress\", \"NodeResizeInfeasible\"");
}

static void pods_name_their_volumes_well(void **state)
{
    struct fixture *f = *state;
#define VOLUMES(volumes, devices) "{\"metadata\":{\"name\":\"p\"},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\"" devices "}],\"volumes\":[" volumes "]}}"
    refused(f, create(f, "", "pods", VOLUMES("{\"name\":\"v\",\"emptyDir\":{},\"csi\":{\"driver\":\"d.io\"}}", "")),
            "Pod \"p\" is invalid: spec.volumes[0].csi: Forbidden: may not specify more than 1 volume type");
    refused(f, create(f, "", "pods", VOLUMES("{\"name\":\"v\",\"persistentVolumeClaim\":{}}", "")),
            "Pod \"p\" is invalid: spec.volumes[0].persistentVolumeClaim.claimName: Required value");
    refused(f, create(f, "", "pods", VOLUMES("{\"name\":\"v\",\"ephemeral\":{}}", "")),
            "Pod \"p\" is invalid: spec.volumes[0].ephemeral.volumeClaimTemplate: Required value");
    refused(f, create(f, "", "pods", VOLUMES("{\"name\":\"v\",\"ephemeral\":{\"volumeClaimTemplate\":{\"metadata\":{\"name\":\"x\"},\"spec\":{\"accessModes\":[\"ReadWriteOnce\"]}}}}", "")),
            "Pod \"p\" is invalid: [spec.volumes[0].ephemeral.volumeClaimTemplate.metadata: Forbidden: cannot be set, "
            "spec.volumes[0].ephemeral.volumeClaimTemplate.spec.resources[storage]: Required value]");
    refused(f, create(f, "", "pods", VOLUMES("{\"name\":\"v\",\"emptyDir\":{}}", ",\"volumeDevices\":[{\"name\":\"v\",\"devicePath\":\"/dev/x\"}]")),
            "Pod \"p\" is invalid: spec.containers[0].volumeDevices[0].name: Invalid value: \"v\": can only use volume source type of PersistentVolumeClaim or "
            "Ephemeral for block mode");
    assert_int_equal(create(f, "", "pods", VOLUMES("{\"name\":\"v\",\"persistentVolumeClaim\":{\"claimName\":\"c\"}}", ",\"volumeDevices\":[{\"name\":\"v\",\"devicePath\":\"/dev/x\"}]")), 0);
}

static void containers_of_stateful_sets_name_claims(void **state)
{
    struct fixture *f = *state;
#define SET(mount) "{\"metadata\":{\"name\":\"s\"},\"spec\":{\"serviceName\":\"s\",\"selector\":{\"matchLabels\":{\"a\":\"b\"}},\"template\":{\"metadata\":{\"labels\":{\"a\":\"b\"}}," \
                   "\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\",\"volumeMounts\":[{\"name\":\"" mount "\",\"mountPath\":\"/d\"}]}]}}," \
                   "\"volumeClaimTemplates\":[{\"metadata\":{\"name\":\"data\"},\"spec\":{\"accessModes\":[\"ReadWriteOnce\"],\"resources\":{\"requests\":{\"storage\":\"1Gi\"}}}}]}}"
    refused(f, create(f, "apps", "statefulsets", SET("other")), "StatefulSet.apps \"s\" is invalid: spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"other\"");
    assert_int_equal(create(f, "apps", "statefulsets", SET("data")), 0);
    assert_int_equal(((const struct k8s_stateful_set *)result(f))->spec->template->spec->volumes.len, 0); /* for the check alone */
}

/* ---- storage.k8s.io ------------------------------------------------------------------------------------------------------- */
static void classes_stay_as_they_are(void **state)
{
    struct fixture *f = *state;
    refused(f, create(f, STORAGE, "storageclasses", "{\"metadata\":{\"name\":\"s\"},\"reclaimPolicy\":\"Recycle\"}"),
            "StorageClass.storage.k8s.io \"s\" is invalid: [provisioner: Required value, reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\"]");
    assert_int_equal(create(f, STORAGE, "storageclasses", "{\"metadata\":{\"name\":\"s\"},\"provisioner\":\"example.com/P\"}"), 0);
    refused(f, update(f, STORAGE, "storageclasses", "", "s", "{\"metadata\":{\"name\":\"s\"},\"provisioner\":\"q\",\"parameters\":{\"a\":\"b\"},\"reclaimPolicy\":\"Retain\","
                      "\"volumeBindingMode\":\"WaitForFirstConsumer\"}"),
            "StorageClass.storage.k8s.io \"s\" is invalid: [parameters: Forbidden: updates to parameters are forbidden., provisioner: Forbidden: updates to provisioner are "
            "forbidden., reclaimPolicy: Forbidden: updates to reclaimPolicy are forbidden., volumeBindingMode: Invalid value: \"WaitForFirstConsumer\": field is immutable]");
    assert_int_equal(update(f, STORAGE, "storageclasses", "", "s", "{\"metadata\":{\"name\":\"s\"},\"provisioner\":\"example.com/P\",\"allowVolumeExpansion\":true}"), 0);
}

static void attachments_stay_as_they_are(void **state)
{
    struct fixture *f = *state;
#define VA(source) "{\"metadata\":{\"name\":\"a\"},\"spec\":{\"attacher\":\"d.io\",\"nodeName\":\"w\",\"source\":{" source "}}}"
    refused(f, create(f, STORAGE, "volumeattachments", VA("")),
            "VolumeAttachment.storage.k8s.io \"a\" is invalid: spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName");
    assert_int_equal(create(f, STORAGE, "volumeattachments", VA("\"persistentVolumeName\":\"v\"")), 0);
    assert_true(update(f, STORAGE, "volumeattachments", "", "a", VA("\"persistentVolumeName\":\"w\"")) != 0);
    assert_non_null(strstr(f->status.message, "spec: Invalid value: {"));
    assert_non_null(strstr(f->status.message, "field is immutable"));
    assert_int_equal(update(f, STORAGE, "volumeattachments", "status", "a", "{\"metadata\":{\"name\":\"a\"},\"status\":{\"attached\":true}}"), 0);
    const struct k8s_volume_attachment *attachment = result(f);
    assert_true(attachment->status->attached);
    assert_string_equal(attachment->spec->attacher, "d.io");
}

static void drivers_are_checked(void **state)
{
    struct fixture *f = *state;
    refused(f, create(f, STORAGE, "csidrivers", "{\"metadata\":{\"name\":\"d.io\"},\"spec\":{\"fsGroupPolicy\":\"Odd\",\"volumeLifecycleModes\":[\"Odd\"],"
                      "\"tokenRequests\":[{\"audience\":\"a\"},{\"audience\":\"a\",\"expirationSeconds\":1}]}}"),
            "CSIDriver.storage.k8s.io \"d.io\" is invalid: [spec.fsGroupPolicy: Unsupported value: \"Odd\": supported values: \"File\", \"None\", \"ReadWriteOnceWithFSType\", "
            "spec.tokenRequests[1].audience: Duplicate value: \"a\", spec.tokenRequests[1].expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes, "
            "spec.volumeLifecycleModes: Unsupported value: \"Odd\": supported values: \"Persistent\", \"Ephemeral\"]");
    assert_int_equal(create(f, STORAGE, "csidrivers", "{\"metadata\":{\"name\":\"d.io\"},\"spec\":{}}"), 0);
    refused(f, update(f, STORAGE, "csidrivers", "", "d.io", "{\"metadata\":{\"name\":\"d.io\"},\"spec\":{\"attachRequired\":false}}"),
            "CSIDriver.storage.k8s.io \"d.io\" is invalid: spec.attachedRequired: Invalid value: false: field is immutable");
    refused(f, create(f, STORAGE, "csinodes", "{\"metadata\":{\"name\":\"w\"},\"spec\":{\"drivers\":[{\"name\":\"d.io\",\"nodeID\":\"w\"},{\"name\":\"d.io\",\"nodeID\":\"\"}]}}"),
            "CSINode.storage.k8s.io \"w\" is invalid: [spec.drivers[1].nodeID: Required value, spec.drivers[1].name: Duplicate value: \"d.io\"]");
    assert_int_equal(create(f, STORAGE, "csinodes", "{\"metadata\":{\"name\":\"w\"},\"spec\":{\"drivers\":[{\"name\":\"d.io\",\"nodeID\":\"w\"}]}}"), 0);
    assert_int_equal(update(f, STORAGE, "csinodes", "", "w", "{\"metadata\":{\"name\":\"w\"},\"spec\":{\"drivers\":[{\"name\":\"d.io\",\"nodeID\":\"w\",\"allocatable\":{\"count\":3}}]}}"), 0);
    assert_true(update(f, STORAGE, "csinodes", "", "w", "{\"metadata\":{\"name\":\"w\"},\"spec\":{\"drivers\":[{\"name\":\"d.io\",\"nodeID\":\"x\"}]}}") != 0);
    assert_int_equal(update(f, STORAGE, "csinodes", "", "w", "{\"metadata\":{\"name\":\"w\"},\"spec\":{\"drivers\":[]}}"), 0);
    refused(f, create(f, STORAGE, "csistoragecapacities", "{\"metadata\":{\"name\":\"k\"},\"storageClassName\":\"s\",\"capacity\":\"-1\"}"),
            "CSIStorageCapacity.storage.k8s.io \"k\" is invalid: capacity: Invalid value: \"-1\": must be greater than or equal to 0");
    assert_int_equal(create(f, STORAGE, "csistoragecapacities", "{\"metadata\":{\"name\":\"k\"},\"storageClassName\":\"s\"}"), 0);
    refused(f, update(f, STORAGE, "csistoragecapacities", "", "k", "{\"metadata\":{\"name\":\"k\"},\"storageClassName\":\"t\"}"),
            "CSIStorageCapacity.storage.k8s.io \"k\" is invalid: storageClassName: Invalid value: \"t\": field is immutable");
}

/* ---- the class "local" ------------------------------------------------------------------------------------------------------ */
static bool is_default(struct fixture *f)
{
    const struct k8s_storage_class *class = result(f);
    return kp_streq(kp_string_map_get(&class->metadata->annotations, "storageclass.kubernetes.io/is-default-class"), "true");
}

static void the_class_local_is_made_once(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    assert_int_equal(registry_bootstrap(f->registry, &error), 0);
    assert_int_equal(get(f, STORAGE, "storageclasses", "local"), 0);
    assert_true(is_default(f));
    assert_string_equal(((const struct k8s_storage_class *)result(f))->volume_binding_mode, "WaitForFirstConsumer");
    assert_int_equal(delete_with(f, STORAGE, "storageclasses", "local", "{}"), 0);
    assert_int_equal(registry_bootstrap(f->registry, &error), 0);
    assert_true(get(f, STORAGE, "storageclasses", "local") != 0);
}

static void a_cluster_that_has_a_default_class_keeps_it(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    assert_int_equal(create(f, STORAGE, "storageclasses", "{\"metadata\":{\"name\":\"mine\",\"annotations\":{\"storageclass.kubernetes.io/is-default-class\":\"true\"}},\"provisioner\":\"p\"}"), 0);
    assert_int_equal(registry_bootstrap(f->registry, &error), 0);
    assert_int_equal(get(f, STORAGE, "storageclasses", "local"), 0);
    assert_false(is_default(f));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(volumes_are_checked),
        TEST(a_volume_stays_what_it_is),
        TEST(a_volume_tells_when_its_phase_changed),
        TEST(claims_are_checked),
        TEST(a_claim_changes_little),
        TEST(a_bound_claim_grows_and_shrinks_to_what_it_has),
        TEST(pods_name_their_volumes_well),
        TEST(containers_of_stateful_sets_name_claims),
        TEST(classes_stay_as_they_are),
        TEST(attachments_stay_as_they_are),
        TEST(drivers_are_checked),
        TEST(the_class_local_is_made_once),
        TEST(a_cluster_that_has_a_default_class_keeps_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
