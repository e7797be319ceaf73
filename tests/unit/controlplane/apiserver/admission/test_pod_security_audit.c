/* What PodSecurity tells the audit log: the level that counted, and what the level of the label audit finds. */
#include "controlplane/apiserver/admission/admission.h"
#include "tests/unit/controlplane/apiserver/audited_test.h"
#include "tests/unit/controlplane/apiserver/caches_test.h"

static const struct auth_user joe = {.name = "joe", .uid = ""};

/* The annotations of a creation of what json says in a namespace with those labels. */
static const struct kp_value *create(const char *labels, const struct kp_resource *resource, const char *json, struct kp_arena *arena)
{
    struct audited audited;
    struct kp_error error = {0};
    struct auth *auth;
    struct admission *admission;
    struct kp_string_list warnings = {0};
    struct api_status status = API_STATUS(arena);
    void *object = NULL;
    struct wcache_set *caches = caches_new();
    const struct auth_config config = {.caches = caches, .authorization_modes = "RBAC", .service_account_issuer = "https://issuer"};
    assert_int_equal(auth_new(&config, &auth, &error), 0);
    const struct admission_config chain = {.caches = caches, .auth = auth};
    assert_int_equal(admission_new(&chain, &admission, &error), 0);
    caches_put(caches, "", "namespaces", "n", kp_arena_printf(arena, "{\"metadata\":{\"name\":\"n\",\"labels\":{%s}},\"status\":{\"phase\":\"Active\"}}", labels));
    assert_int_equal(kp_json_decode(resource->type, json, strlen(json), arena, NULL, &object, &error), 0);
    struct admission_attributes a = {.operation = ADMISSION_CREATE, .resource = resource, .subresource = "", .type = resource->type, .ns = "n", .name = "p", .user = &joe,
                                     .object = object, .arena = arena, .warnings = &warnings, .audit = audited_begin(&audited, "Metadata")};
    assert_int_equal(admission_validate(admission, &a, &status), 0);
    assert_int_equal(warnings.len, 0);
    const struct kp_value *annotations = audited_end(&audited, arena);
    admission_free(admission);
    auth_free(auth);
    caches_free(caches);
    return annotations;
}

#define SPEC "{\"containers\":[{\"name\":\"c\",\"image\":\"i\"}],\"hostNetwork\":true}"
#define POD "{\"metadata\":{\"name\":\"p\",\"namespace\":\"n\"},\"spec\":" SPEC "}"
#define ENFORCED "pod-security.kubernetes.io/enforce-policy"
#define VIOLATIONS "pod-security.kubernetes.io/audit-violations"

static void the_level_that_counted_is_told_with_every_pod(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const struct kp_value *annotations = create("", &k8s_pods_resource, POD, arena);
    assert_string_equal(kp_value_str(kp_value_get(annotations, ENFORCED)), "privileged:latest");
    assert_null(kp_value_get(annotations, VIOLATIONS));
}

static void what_the_audited_level_finds_is_told_and_refuses_nothing(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    static const char labels[] = "\"pod-security.kubernetes.io/audit\":\"baseline\"", expected[] = "would violate PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)";
    const struct kp_value *annotations = create(labels, &k8s_pods_resource, POD, arena);
    assert_string_equal(kp_value_str(kp_value_get(annotations, VIOLATIONS)), expected);
    annotations = create(labels, &k8s_replicationcontrollers_resource,
                         "{\"metadata\":{\"name\":\"p\",\"namespace\":\"n\"},\"spec\":{\"template\":{\"metadata\":{},\"spec\":" SPEC "}}}", arena);
    assert_string_equal(kp_value_str(kp_value_get(annotations, VIOLATIONS)), expected);
    assert_null(kp_value_get(annotations, ENFORCED)); /* of workloads nothing is enforced */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_level_that_counted_is_told_with_every_pod),
        cmocka_unit_test(what_the_audited_level_finds_is_told_and_refuses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
