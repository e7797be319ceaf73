/* The admission steps over caches with no store. */
#include "controlplane/apiserver/admission/admission.h"
#include "tests/unit/controlplane/apiserver/caches_test.h"

struct fixture {
    struct wcache_set *caches;
    struct kp_arena *arena;
    struct auth *auth;
    struct admission *admission;
    struct api_status status;
    struct kp_string_list warnings;
};

static int set_up(void **state)
{
    struct fixture *f = kp_calloc(1, sizeof(*f));
    struct kp_error error = {0};
    f->arena = kp_arena_new(0);
    f->caches = caches_new();
    const struct auth_config config = {.caches = f->caches, .authorization_modes = "Node,RBAC", .service_account_issuer = "https://issuer"};
    if (auth_new(&config, &f->auth, &error) < 0)
        fail_msg("%s", error.message);
    const struct admission_config chain = {.caches = f->caches, .auth = f->auth, .enabled_plugins = "NodeRestriction"};
    if (admission_new(&chain, &f->admission, &error) < 0)
        fail_msg("%s", error.message);
    caches_put(f->caches, "", "namespaces", "n", "{\"metadata\":{\"name\":\"n\"},\"status\":{\"phase\":\"Active\"}}");
    caches_put(f->caches, "", "serviceaccounts", "n/default", "{\"metadata\":{\"name\":\"default\",\"namespace\":\"n\",\"uid\":\"u\"},\"imagePullSecrets\":[{\"name\":\"reg\"}]}");
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    admission_free(f->admission);
    auth_free(f->auth);
    caches_free(f->caches);
    kp_arena_free(f->arena);
    free(f);
    return 0;
}

static const struct auth_user joe = {.name = "joe", .uid = ""};

/* Both phases of a write; the code. */
static int write_as(struct fixture *f, const struct auth_user *user, enum admission_operation operation, const char *group, const char *resource,
                    const char *subresource, const char *ns, const char *name, void *object, const void *old)
{
    const struct kp_resource *r = kp_resource_find(group, "v1", resource);
    struct admission_attributes a = {.operation = operation, .resource = r, .subresource = subresource, .type = r->type, .ns = ns, .name = name,
                                     .user = user, .object = object, .old_object = old, .arena = f->arena, .warnings = &f->warnings};
    f->status = API_STATUS(f->arena);
    int code = admission_mutate(f->admission, &a, &f->status);
    return code < 0 ? code : admission_validate(f->admission, &a, &f->status);
}

static void *object(struct fixture *f, const struct kp_type *type, const char *json)
{
    void *obj = NULL;
    struct kp_error error = {0};
    if (kp_json_decode(type, json, strlen(json), f->arena, NULL, &obj, &error) < 0)
        fail_msg("%s", error.message);
    return obj;
}

static struct k8s_pod *new_pod(struct fixture *f)
{
    return object(f, &k8s_pod_type, "{\"metadata\":{\"name\":\"p\",\"namespace\":\"n\"},\"spec\":{\"containers\":[{\"name\":\"c\"}],\"initContainers\":[{\"name\":\"i\"}]}}");
}

static void pod_gets_account_token_priority_and_tolerations(void **state)
{
    struct fixture *f = *state;
    struct k8s_pod *pod = new_pod(f);
    assert_int_equal(write_as(f, &joe, ADMISSION_CREATE, "", "pods", "", "n", "p", pod, NULL), 0);
    assert_string_equal(pod->spec->service_account_name, "default");
    assert_int_equal(pod->spec->volumes.len, 1);
    assert_true(kp_starts_with(pod->spec->volumes.items[0].name, "kube-api-access-"));
    assert_int_equal(pod->spec->volumes.items[0].projected->sources.len, 3);
    assert_string_equal(pod->spec->containers.items[0].volume_mounts.items[0].mount_path, "/var/run/secrets/kubernetes.io/serviceaccount");
    assert_string_equal(pod->spec->init_containers.items[0].volume_mounts.items[0].name, pod->spec->volumes.items[0].name);
    assert_string_equal(pod->spec->image_pull_secrets.items[0].name, "reg");
    assert_true(pod->spec->has_priority && pod->spec->priority == 0);
    assert_string_equal(pod->spec->preemption_policy, "PreemptLowerPriority");
    assert_int_equal(pod->spec->tolerations.len, 2);
    assert_int_equal(pod->spec->tolerations.items[0].toleration_seconds, 300);
}

static void pod_may_refuse_the_token(void **state)
{
    struct fixture *f = *state;
    struct k8s_pod *pod = new_pod(f);
    KP_SET(pod->spec, automount_service_account_token, false);
    assert_int_equal(write_as(f, &joe, ADMISSION_CREATE, "", "pods", "", "n", "p", pod, NULL), 0);
    assert_int_equal(pod->spec->volumes.len, 0);
}

static void priority_comes_from_the_class(void **state)
{
    struct fixture *f = *state;
    struct k8s_pod *pod = new_pod(f);
    pod->spec->priority_class_name = "high";
    assert_true(write_as(f, &joe, ADMISSION_CREATE, "", "pods", "", "n", "p", pod, NULL) < 0);
    assert_non_null(strstr(f->status.message, "no PriorityClass with name high was found"));
    caches_put(f->caches, "scheduling.k8s.io", "priorityclasses", "high", "{\"metadata\":{\"name\":\"high\"},\"value\":7,\"preemptionPolicy\":\"Never\"}");
    pod = new_pod(f);
    pod->spec->priority_class_name = "high";
    assert_int_equal(write_as(f, &joe, ADMISSION_CREATE, "", "pods", "", "n", "p", pod, NULL), 0);
    assert_int_equal(pod->spec->priority, 7);
    assert_string_equal(pod->spec->preemption_policy, "Never");
    pod = new_pod(f);
    pod->spec->preemption_policy = "Never";
    assert_true(write_as(f, &joe, ADMISSION_CREATE, "", "pods", "", "n", "p", pod, NULL) < 0);
    assert_non_null(strstr(f->status.message, "the string value of PreemptionPolicy (Never) must not be provided in pod spec; "
                                              "priority admission controller computed PreemptLowerPriority from the given PriorityClass name"));
    pod = new_pod(f);
    pod->spec->priority_class_name = "system-node-critical";
    assert_int_equal(write_as(f, &joe, ADMISSION_CREATE, "", "pods", "", "n", "p", pod, NULL), 0);
    assert_int_equal(pod->spec->priority, 2000001000);
}

static struct k8s_pod *pod_with(struct fixture *f, const char *resources)
{
    KP_AUTO_FREE char *json = kp_asprintf("{\"metadata\":{\"name\":\"p\",\"namespace\":\"n\"},\"spec\":{\"containers\":[{\"name\":\"c\",\"resources\":{%s}}],"
                                          "\"initContainers\":[{\"name\":\"i\"}]}}", resources);
    return object(f, &k8s_pod_type, json);
}

static const char *refusal(struct fixture *f, const char *resource, void *object)
{
    return write_as(f, &joe, ADMISSION_CREATE, "", resource, "", "n", "p", object, NULL) < 0 ? f->status.message : "";
}

static void limit_ranges_give_what_pods_do_not_say(void **state)
{
    struct fixture *f = *state;
    caches_put(f->caches, "", "limitranges", "n/r", "{\"metadata\":{\"name\":\"r\",\"namespace\":\"n\"},\"spec\":{\"limits\":[{\"type\":\"Container\","
               "\"default\":{\"cpu\":\"2\",\"memory\":\"1Gi\"},\"defaultRequest\":{\"cpu\":\"1\",\"memory\":\"512Mi\"}}]}}");
    struct k8s_pod *pod = pod_with(f, "\"requests\":{\"cpu\":\"500m\"}");
    assert_string_equal(refusal(f, "pods", pod), "");
    const struct k8s_resource_requirements *c = pod->spec->containers.items[0].resources, *i = pod->spec->init_containers.items[0].resources;
    assert_string_equal(kp_string_map_get(&c->requests, "cpu"), "500m");
    assert_string_equal(kp_string_map_get(&c->requests, "memory"), "512Mi");
    assert_string_equal(kp_string_map_get(&c->limits, "cpu"), "2");
    assert_string_equal(kp_string_map_get(&i->requests, "cpu"), "1");
    assert_string_equal(kp_string_map_get(&pod->metadata->annotations, "kubernetes.io/limit-ranger"),
                        "LimitRanger plugin set: memory request for container c; cpu, memory limit for container c; "
                        "cpu, memory request for init container i; cpu, memory limit for init container i");
    struct k8s_pod *elsewhere = pod_with(f, "");
    const struct kp_resource *r = kp_resource_find("", "v1", "pods");
    struct admission_attributes a = {.operation = ADMISSION_UPDATE, .resource = r, .subresource = "", .type = r->type, .ns = "n", .name = "p", .user = &joe,
                                     .object = elsewhere, .old_object = pod, .arena = f->arena, .warnings = &f->warnings};
    f->status = API_STATUS(f->arena);
    assert_int_equal(admission_mutate(f->admission, &a, &f->status), 0);
    assert_int_equal(elsewhere->spec->containers.items[0].resources->limits.len, 0); /* what is there already is left as it is */
}

static void limit_ranges_refuse_what_is_out_of_bounds(void **state)
{
    struct fixture *f = *state;
    caches_put(f->caches, "", "limitranges", "n/r", "{\"metadata\":{\"name\":\"r\",\"namespace\":\"n\"},\"spec\":{\"limits\":["
               "{\"type\":\"Container\",\"min\":{\"cpu\":\"100m\"},\"max\":{\"cpu\":\"2\"},\"default\":{\"cpu\":\"1\"},\"defaultRequest\":{\"cpu\":\"1\"},"
               "\"maxLimitRequestRatio\":{\"cpu\":\"4\"}},{\"type\":\"Pod\",\"max\":{\"memory\":\"1Gi\"}},"
               "{\"type\":\"PersistentVolumeClaim\",\"min\":{\"storage\":\"1Gi\"},\"max\":{\"storage\":\"10Gi\"}}]}}");
#define MEMORY "\"memory\":\"512Mi\""
    assert_string_equal(refusal(f, "pods", pod_with(f, "\"limits\":{" MEMORY "}")), "");
    assert_string_equal(refusal(f, "pods", pod_with(f, "")), "pods \"p\" is forbidden: maximum memory usage per Pod is 1Gi.  No limit is specified");
    assert_string_equal(refusal(f, "pods", pod_with(f, "\"limits\":{\"memory\":\"2Gi\"}")), "pods \"p\" is forbidden: maximum memory usage per Pod is 1Gi, but limit is 2Gi");
    assert_string_equal(refusal(f, "pods", pod_with(f, "\"requests\":{\"cpu\":\"50m\"},\"limits\":{\"cpu\":\"200m\"," MEMORY "}")),
                        "pods \"p\" is forbidden: minimum cpu usage per Container is 100m, but request is 50m");
    assert_string_equal(refusal(f, "pods", pod_with(f, "\"requests\":{\"cpu\":\"1\"},\"limits\":{\"cpu\":\"3\"," MEMORY "}")),
                        "pods \"p\" is forbidden: maximum cpu usage per Container is 2, but limit is 3");
    assert_string_equal(refusal(f, "pods", pod_with(f, "\"requests\":{\"cpu\":\"200m\"},\"limits\":{\"cpu\":\"1\"," MEMORY "}")),
                        "pods \"p\" is forbidden: cpu max limit to request ratio per Container is 4, but provided ratio is 5.000000");
    assert_string_equal(refusal(f, "pods", pod_with(f, "\"requests\":{\"cpu\":\"50m\"},\"limits\":{\"cpu\":\"3\"," MEMORY "}")),
                        "pods \"p\" is forbidden: [minimum cpu usage per Container is 100m, but request is 50m, maximum cpu usage per Container is 2, but limit is 3, "
                        "cpu max limit to request ratio per Container is 4, but provided ratio is 60.000000]");
#define CLAIM(size) object(f, &k8s_persistent_volume_claim_type, "{\"metadata\":{\"name\":\"p\",\"namespace\":\"n\"},\"spec\":{\"resources\":{\"requests\":{" size "}}}}")
    assert_string_equal(refusal(f, "persistentvolumeclaims", CLAIM("\"storage\":\"2Gi\"")), "");
    assert_string_equal(refusal(f, "persistentvolumeclaims", CLAIM("\"storage\":\"20Gi\"")),
                        "persistentvolumeclaims \"p\" is forbidden: maximum storage usage per PersistentVolumeClaim is 10Gi, but request is 20Gi");
    assert_string_equal(refusal(f, "persistentvolumeclaims", CLAIM("\"storage\":\"1Mi\"")),
                        "persistentvolumeclaims \"p\" is forbidden: minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi");
}

static void nothing_is_created_in_a_dying_or_missing_namespace(void **state)
{
    struct fixture *f = *state;
    struct k8s_config_map *map = object(f, &k8s_config_map_type, "{\"metadata\":{\"name\":\"m\"}}");
    assert_true(write_as(f, &joe, ADMISSION_CREATE, "", "configmaps", "", "gone", "m", map, NULL) < 0);
    assert_int_equal(f->status.http_status, 404);
    caches_put(f->caches, "", "namespaces", "n", "{\"metadata\":{\"name\":\"n\",\"deletionTimestamp\":\"2026-01-01T00:00:00Z\"},\"status\":{\"phase\":\"Terminating\"}}");
    assert_true(write_as(f, &joe, ADMISSION_CREATE, "", "configmaps", "", "n", "m", map, NULL) < 0);
    assert_int_equal(f->status.http_status, 403);
    assert_string_equal(f->status.causes[0].reason, "NamespaceTerminating");
    assert_int_equal(write_as(f, &joe, ADMISSION_UPDATE, "", "configmaps", "", "n", "m", map, map), 0);
    assert_true(write_as(f, &joe, ADMISSION_DELETE, "", "namespaces", "", "", "kube-system", NULL, NULL) < 0);
}

static void kubelet_writes_only_its_own(void **state)
{
    struct fixture *f = *state;
    struct auth_user node = {.name = "system:node:w", .uid = ""};
    kp_string_list_add(f->arena, &node.groups, "system:nodes");
    struct k8s_pod *pod = new_pod(f);
    assert_true(write_as(f, &node, ADMISSION_CREATE, "", "pods", "", "n", "p", pod, NULL) < 0); /* no mirror pod */
    caches_put(f->caches, "", "pods", "n/q", "{\"metadata\":{\"name\":\"q\",\"namespace\":\"n\"},\"spec\":{\"nodeName\":\"other\",\"containers\":[]}}");
    assert_true(write_as(f, &node, ADMISSION_UPDATE, "", "pods", "status", "n", "q", pod, pod) < 0);
    struct k8s_node *self = object(f, &k8s_node_type, "{\"metadata\":{\"name\":\"w\",\"labels\":{\"kubernetes.io/os\":\"linux\"}}}");
    assert_int_equal(write_as(f, &node, ADMISSION_CREATE, "", "nodes", "", "", "w", self, NULL), 0);
    assert_true(write_as(f, &node, ADMISSION_CREATE, "", "nodes", "", "", "v", self, NULL) < 0);
    self = object(f, &k8s_node_type, "{\"metadata\":{\"name\":\"w\",\"labels\":{\"node-role.kubernetes.io/x\":\"\"}}}");
    assert_true(write_as(f, &node, ADMISSION_CREATE, "", "nodes", "", "", "w", self, NULL) < 0);
}

#define POD_READER "\"rules\":[{\"verbs\":[\"get\"],\"apiGroups\":[\"\"],\"resources\":[\"pods\"]}]}"

static void nobody_grants_more_than_he_holds(void **state)
{
    struct fixture *f = *state;
    struct k8s_cluster_role *reader = object(f, &k8s_cluster_role_type, "{\"metadata\":{\"name\":\"reader\"}," POD_READER);
    assert_true(write_as(f, &joe, ADMISSION_CREATE, RBAC, "clusterroles", "", "", "reader", reader, NULL) < 0);
    assert_non_null(strstr(f->status.message, "user \"joe\" (groups=[]) is attempting to grant RBAC permissions not currently held:\n"
                                              "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"get\"]}"));
    assert_int_equal(write_as(f, &joe, ADMISSION_UPDATE, RBAC, "clusterroles", "", "", "reader", reader, reader), 0); /* grants nothing new */
    caches_put(f->caches, RBAC, "clusterroles", "held", "{\"metadata\":{\"name\":\"held\"}," POD_READER);
    struct k8s_cluster_role_binding *binding = object(f, &k8s_cluster_role_binding_type,
                                                      "{\"metadata\":{\"name\":\"b\"},\"roleRef\":{\"kind\":\"ClusterRole\",\"name\":\"held\"},\"subjects\":[{\"kind\":\"User\",\"name\":\"eve\"}]}");
    assert_true(write_as(f, &joe, ADMISSION_CREATE, RBAC, "clusterrolebindings", "", "", "b", binding, NULL) < 0);
    bind_cluster(f->caches, "joe", "held", "User", "joe");
    assert_int_equal(write_as(f, &joe, ADMISSION_CREATE, RBAC, "clusterroles", "", "", "reader", reader, NULL), 0);
    assert_int_equal(write_as(f, &joe, ADMISSION_CREATE, RBAC, "clusterrolebindings", "", "", "b", binding, NULL), 0);
    struct k8s_cluster_role *all = object(f, &k8s_cluster_role_type,
                                          "{\"metadata\":{\"name\":\"all\"},\"rules\":[{\"verbs\":[\"*\"],\"apiGroups\":[\"*\"],\"resources\":[\"*\"]}]}");
    assert_true(write_as(f, &joe, ADMISSION_CREATE, RBAC, "clusterroles", "", "", "all", all, NULL) < 0);
    caches_put(f->caches, RBAC, "clusterroles", "up",
               RBAC_HEAD("ClusterRole", "up") ",\"rules\":[{\"verbs\":[\"escalate\"],\"apiGroups\":[\"" RBAC "\"],\"resources\":[\"clusterroles\"]}]}");
    bind_cluster(f->caches, "up", "up", "User", "joe");
    assert_int_equal(write_as(f, &joe, ADMISSION_CREATE, RBAC, "clusterroles", "", "", "all", all, NULL), 0);
}

static void unknown_plugin_is_a_usage_error(void **state)
{
    struct fixture *f = *state;
    struct admission *admission = NULL;
    struct kp_error error = {0};
    const struct admission_config config = {.caches = f->caches, .auth = f->auth, .enabled_plugins = "Nope"};
    assert_int_equal(admission_new(&config, &admission, &error), KP_EUSAGE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(pod_gets_account_token_priority_and_tolerations),
        TEST(pod_may_refuse_the_token),
        TEST(priority_comes_from_the_class),
        TEST(limit_ranges_give_what_pods_do_not_say),
        TEST(limit_ranges_refuse_what_is_out_of_bounds),
        TEST(nothing_is_created_in_a_dying_or_missing_namespace),
        TEST(kubelet_writes_only_its_own),
        TEST(nobody_grants_more_than_he_holds),
        TEST(unknown_plugin_is_a_usage_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
