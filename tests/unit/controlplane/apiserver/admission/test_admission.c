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
        TEST(nothing_is_created_in_a_dying_or_missing_namespace),
        TEST(kubelet_writes_only_its_own),
        TEST(nobody_grants_more_than_he_holds),
        TEST(unknown_plugin_is_a_usage_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
