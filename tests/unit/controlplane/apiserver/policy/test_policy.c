/* ValidatingAdmissionPolicies over caches with no store: what they are about, what they refuse, and in which words. */
#include "controlplane/apiserver/admission/admission.h"
#include "controlplane/apiserver/policy/policy.h"
#include "controlplane/apiserver/registry/registry_internal.h"
#include "tests/unit/controlplane/apiserver/audited_test.h"
#include "tests/unit/controlplane/apiserver/caches_test.h"

#define GROUP "admissionregistration.k8s.io"

struct fixture {
    struct wcache_set *caches;
    struct kp_arena *arena;
    struct auth *auth;
    struct admission *admission;
    struct api_status status;
    struct registry_request rq;
    struct audit_record *audit; /* of the next write; NULL: it is not audited */
};

static int set_up(void **state)
{
    struct fixture *f = kp_calloc(1, sizeof(*f));
    struct kp_error error = {0};
    f->arena = kp_arena_new(0);
    f->caches = caches_new();
    const struct auth_config auth = {.caches = f->caches, .authorization_modes = "RBAC", .service_account_issuer = "https://issuer"};
    assert_int_equal(auth_new(&auth, &f->auth, &error), 0);
    const struct admission_config chain = {.caches = f->caches, .auth = f->auth, .views = &registry_views};
    assert_int_equal(admission_new(&chain, &f->admission, &error), 0);
    caches_put(f->caches, "", "namespaces", "n", "{\"metadata\":{\"name\":\"n\",\"labels\":{\"team\":\"a\"}},\"status\":{\"phase\":\"Active\"}}");
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

/* spec: members of the spec, each followed by a comma. The policy is about configmaps. */
static void policy(struct fixture *f, const char *name, const char *spec)
{
    caches_put(f->caches, GROUP, "validatingadmissionpolicies", name,
               kp_arena_printf(f->arena,
                               "{\"metadata\":{\"name\":\"%s\"},\"spec\":{%s\"matchConstraints\":{\"resourceRules\":[{\"operations\":[\"*\"],\"apiGroups\":[\"\"],"
                               "\"apiVersions\":[\"v1\"],\"resources\":[\"configmaps\"]}]}}}", name, spec));
}

/* spec: further members, each with a comma before it. */
static void binding(struct fixture *f, const char *name, const char *policy_name, const char *action, const char *spec)
{
    caches_put(f->caches, GROUP, "validatingadmissionpolicybindings", name,
               kp_arena_printf(f->arena, "{\"metadata\":{\"name\":\"%s\"},\"spec\":{\"policyName\":\"%s\",\"validationActions\":[\"%s\"]%s}}", name, policy_name, action, spec));
}

static const struct auth_user joe = {.name = "joe", .uid = ""};

static int create(struct fixture *f, const char *data)
{
    struct kp_error error = {0};
    struct admission_attributes a;
    void *object;
    const char *json = kp_arena_printf(f->arena, "{\"metadata\":{\"name\":\"x\",\"namespace\":\"n\",\"labels\":{\"l\":\"1\"}},\"data\":{%s}}", data);
    f->status = API_STATUS(f->arena);
    f->rq = registry_own_request(f->arena, &f->status, &k8s_configmaps_resource, "n", "x");
    f->rq.user = &joe;
    f->rq.own = false;
    f->rq.audit = f->audit;
    assert_int_equal(kp_json_decode(&k8s_config_map_type, json, strlen(json), f->arena, NULL, &object, &error), 0);
    registry_admission_attributes(&f->rq, ADMISSION_CREATE, object, NULL, &a);
    return admission_validate(f->admission, &a, &f->status);
}

static void a_false_expression_refuses_with_its_policy_and_binding(void **state)
{
    struct fixture *f = *state;
    policy(f, "p", "\"validations\":[{\"expression\":\"object.data.k == 'v'\"}],");
    assert_int_equal(create(f, "\"k\":\"w\""), 0); /* not bound */
    binding(f, "b", "p", "Deny", "");
    assert_int_equal(create(f, "\"k\":\"v\""), 0);
    assert_true(create(f, "\"k\":\"w\"") < 0);
    assert_int_equal(f->status.http_status, 422);
    assert_string_equal(f->status.reason, "Invalid");
    assert_string_equal(f->status.message, "configmaps \"x\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: failed expression: object.data.k == 'v'");
    assert_int_equal(f->status.cause_count, 1);
    assert_string_equal(f->status.causes[0].message, "failed expression: object.data.k == 'v'");
}

static void messages_and_reasons_are_those_of_the_validation(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *validation, *message, *reason;
        int code;
    } rows[] = {
        {"{\"expression\":\"false\",\"message\":\" why \"}", "why", "Invalid", 422},
        {"{\"expression\":\"false\",\"message\":\"m\",\"messageExpression\":\"'in ' + namespaceObject.metadata.name\"}", "in n", "Invalid", 422},
        {"{\"expression\":\"false\",\"message\":\"m\",\"messageExpression\":\"object.none\",\"reason\":\"Forbidden\"}", "m", "Forbidden", 403},
        {"{\"expression\":\"false\",\"message\":\"m\",\"messageExpression\":\"'a\\\\nb'\",\"reason\":\"Unauthorized\"}", "m", "Unauthorized", 401},
        {"{\"expression\":\"object.none == 1\"}", "expression 'object.none == 1' resulted in error: no such key: none", "Invalid", 422},
        {"{\"expression\":\"variables.two == 3\",\"message\":\"m\",\"messageExpression\":\"string(variables.two)\"}", "2", "Invalid", 422},
        {"{\"expression\":\"request.userInfo.username != 'joe' || request.operation != 'CREATE' || oldObject != null\",\"message\":\"joe\"}", "joe", "Invalid", 422},
    };
    binding(f, "b", "p", "Deny", "");
    for (size_t i = 0; i < KP_ARRAY_LEN(rows); i++) {
        policy(f, "p", kp_arena_printf(f->arena, "\"variables\":[{\"name\":\"one\",\"expression\":\"1\"},{\"name\":\"two\",\"expression\":\"variables.one + 1\"}],"
                                                 "\"validations\":[%s],", rows[i].validation));
        assert_true(create(f, "") < 0);
        assert_int_equal(f->status.http_status, rows[i].code);
        assert_string_equal(f->status.reason, rows[i].reason);
        assert_string_equal(f->status.causes[0].message, rows[i].message);
    }
}

static void failure_policy_ignore_lets_errors_pass_and_refusals_not(void **state)
{
    struct fixture *f = *state;
    policy(f, "p", "\"failurePolicy\":\"Ignore\",\"validations\":[{\"expression\":\"object.none == 1\"}],");
    binding(f, "b", "p", "Deny", "");
    assert_int_equal(create(f, ""), 0);
    policy(f, "p", "\"failurePolicy\":\"Ignore\",\"validations\":[{\"expression\":\"object.none == 1\"},{\"expression\":\"false\"}],");
    assert_true(create(f, "") < 0);
}

static void a_warning_is_told_and_refuses_nothing(void **state)
{
    struct fixture *f = *state;
    policy(f, "p", "\"validations\":[{\"expression\":\"false\",\"message\":\"no\"}],");
    binding(f, "b", "p", "Warn", "");
    assert_int_equal(create(f, ""), 0);
    assert_int_equal(f->rq.warnings.len, 1);
    assert_string_equal(f->rq.warnings.items[0], "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': no");
}

static void conditions_and_resources_of_the_binding_narrow_a_policy(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *spec, *binding;
        bool refused;
    } rows[] = {
        {"\"matchConditions\":[{\"name\":\"c\",\"expression\":\"request.name == 'x'\"}],", "", true},
        {"\"matchConditions\":[{\"name\":\"c\",\"expression\":\"request.name == 'y'\"}],", "", false},
        {"\"matchConditions\":[{\"name\":\"e\",\"expression\":\"object.none\"},{\"name\":\"c\",\"expression\":\"request.name == 'y'\"}],", "", false},
        {"\"matchConditions\":[{\"name\":\"e\",\"expression\":\"object.none\"}],", "", true},
        {"", ",\"matchResources\":{\"namespaceSelector\":{\"matchLabels\":{\"team\":\"a\"}}}", true},
        {"", ",\"matchResources\":{\"namespaceSelector\":{\"matchLabels\":{\"team\":\"b\"}}}", false},
        {"", ",\"matchResources\":{\"objectSelector\":{\"matchLabels\":{\"l\":\"2\"}}}", false},
        {"", ",\"matchResources\":{\"resourceRules\":[{\"resourceNames\":[\"x\"],\"operations\":[\"CREATE\"],\"apiGroups\":[\"*\"],\"apiVersions\":[\"*\"],\"resources\":[\"*\"]}]}", true},
        {"", ",\"matchResources\":{\"resourceRules\":[{\"resourceNames\":[\"y\"],\"operations\":[\"CREATE\"],\"apiGroups\":[\"*\"],\"apiVersions\":[\"*\"],\"resources\":[\"*\"]}]}", false},
        {"", ",\"matchResources\":{\"excludeResourceRules\":[{\"operations\":[\"CREATE\"],\"apiGroups\":[\"*\"],\"apiVersions\":[\"*\"],\"resources\":[\"*\"]}]}", false},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(rows); i++) {
        policy(f, "p", kp_arena_printf(f->arena, "%s\"validations\":[{\"expression\":\"false\"}],", rows[i].spec));
        binding(f, "b", "p", "Deny", rows[i].binding);
        assert_int_equal(create(f, "") < 0, rows[i].refused);
    }
}

static void parameters_come_from_the_objects_that_the_binding_names(void **state)
{
    struct fixture *f = *state;
    static const char limit[] = "{\"metadata\":{\"name\":\"%s\",\"namespace\":\"n\",\"labels\":{\"for\":\"p\"}},\"data\":{\"max\":\"%d\"}}";
    policy(f, "p", "\"paramKind\":{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\"},\"validations\":[{\"expression\":\"size(object.data) <= int(params.data.max)\","
                   "\"messageExpression\":\"'more than ' + params.data.max\"}],");
    binding(f, "b", "p", "Deny", ",\"paramRef\":{\"name\":\"limit\",\"parameterNotFoundAction\":\"Deny\"}");
    assert_true(create(f, "") < 0);
    assert_string_equal(f->status.causes[0].message, "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction");
    binding(f, "b", "p", "Deny", ",\"paramRef\":{\"name\":\"limit\",\"parameterNotFoundAction\":\"Allow\"}");
    assert_int_equal(create(f, ""), 0);
    caches_put(f->caches, "", "configmaps", "n/limit", kp_arena_printf(f->arena, limit, "limit", 1));
    assert_int_equal(create(f, "\"a\":\"1\""), 0);
    assert_true(create(f, "\"a\":\"1\",\"b\":\"2\"") < 0);
    assert_string_equal(f->status.causes[0].message, "more than 1");
    caches_put(f->caches, "", "configmaps", "n/other", kp_arena_printf(f->arena, limit, "other", 0));
    binding(f, "b", "p", "Deny", ",\"paramRef\":{\"selector\":{\"matchLabels\":{\"for\":\"p\"}},\"parameterNotFoundAction\":\"Deny\"}");
    assert_true(create(f, "\"a\":\"1\"") < 0); /* every one of them has to agree */
    assert_string_equal(f->status.causes[0].message, "more than 0");
}

static void the_authorizer_knows_what_others_may(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *expression;
        bool allowed;
    } rows[] = {
        {"authorizer.group('').resource('secrets').namespace('n').check('get').allowed()", false},
        {"authorizer.group('').resource('configmaps').namespace('n').name('x').check('create').allowed()", true},
        {"authorizer.requestResource.check('create').allowed()", true},
        {"authorizer.requestResource.check('delete').allowed()", false},
        {"authorizer.path('/healthz').check('get').allowed()", false},
        {"authorizer.serviceAccount('n', 'robot').requestResource.check('create').allowed()", false},
        {"!authorizer.requestResource.check('create').errored() && authorizer.requestResource.check('create').error() == ''", true},
        {"authorizer.requestResource.check('create').reason() != ''", true},
        {"[1,2,3,4].all(i, authorizer.requestResource.check('create').allowed())", false}, /* dearer than one expression may be */
    };
    caches_put(f->caches, RBAC, "clusterroles", "maps", RBAC_HEAD("ClusterRole", "maps") ",\"rules\":[{\"apiGroups\":[\"\"],\"resources\":[\"configmaps\"],\"verbs\":[\"create\"]}]}");
    bind_cluster(f->caches, "maps", "maps", "User", "joe");
    binding(f, "b", "p", "Deny", "");
    for (size_t i = 0; i < KP_ARRAY_LEN(rows); i++) {
        policy(f, "p", kp_arena_printf(f->arena, "\"validations\":[{\"expression\":\"%s\"}],", rows[i].expression));
        assert_int_equal(create(f, "") == 0, rows[i].allowed);
    }
}

static void bad_policies_are_told_field_by_field(void **state)
{
    struct fixture *f = *state;
    static const char json[] =
        "{\"metadata\":{\"name\":\"p\"},\"spec\":{\"variables\":[{\"name\":\"a-b\",\"expression\":\"1\"},{\"name\":\"c\",\"expression\":\"variables.later\"}],"
        "\"validations\":[{\"expression\":\"1\"},{\"expression\":\"true\",\"messageExpression\":\"2\"},{\"expression\":\"request.foo\"},{\"expression\":\" \"}],"
        "\"matchConditions\":[{\"name\":\"x\",\"expression\":\"'text'\"},{\"name\":\"x\",\"expression\":\"true\"}]}}";
    static const char *const fields[] = {"spec.variables[0].name", "spec.variables[1].expression", "spec.matchConditions[0].expression", "spec.matchConditions[1].name",
                                         "spec.validations[0].expression", "spec.validations[1].messageExpression", "spec.validations[2].expression",
                                         "spec.validations[3].expression"};
    struct field_errors errors = {.arena = f->arena};
    struct kp_error error = {0};
    void *decoded;
    assert_int_equal(kp_json_decode(&k8s_validating_admission_policy_type, json, sizeof(json) - 1, f->arena, NULL, &decoded, &error), 0);
    policy_check_expressions(decoded, &errors);
    assert_int_equal(errors.len, KP_ARRAY_LEN(fields));
    for (size_t i = 0; i < errors.len; i++)
        assert_string_equal(errors.items[i].field, fields[i]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
static void what_is_only_audited_is_told_to_the_audit_log(void **state)
{
    struct fixture *f = *state;
    struct audited audited;
    policy(f, "p", "\"validations\":[{\"expression\":\"true\"},{\"expression\":\"false\",\"message\":\"say \\\"no\\\"\"}],");
    binding(f, "b", "p", "Audit\",\"Warn", "");
    f->audit = audited_begin(&audited, "Metadata");
    assert_int_equal(create(f, ""), 0);
    f->audit = NULL;
    assert_string_equal(kp_value_str(kp_value_get(audited_end(&audited, f->arena), "validation.policy.admission.k8s.io/validation_failure")),
                        "[{\"message\":\"say \\\"no\\\"\",\"policy\":\"p\",\"binding\":\"b\",\"expressionIndex\":1,\"validationActions\":[\"Audit\",\"Warn\"]}]");
    assert_int_equal(f->rq.warnings.len, 1);
    assert_int_equal(create(f, ""), 0); /* nobody audits */
}

static void annotations_of_a_policy_are_told_once(void **state)
{
    struct fixture *f = *state;
    struct audited audited;
    policy(f, "p", "\"paramKind\":{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\"},\"validations\":[{\"expression\":\"true\"}],\"auditAnnotations\":["
                   "{\"key\":\"who\",\"valueExpression\":\"' by ' + request.userInfo.username\"},{\"key\":\"max\",\"valueExpression\":\"params.data.max\"},"
                   "{\"key\":\"none\",\"valueExpression\":\"null\"},{\"key\":\"empty\",\"valueExpression\":\"'  '\"}],");
    for (int i = 1; i <= 2; i++) {
        const char *name = kp_arena_printf(f->arena, "limit%d", i);
        caches_put(f->caches, "", "configmaps", kp_arena_printf(f->arena, "n/%s", name),
                   kp_arena_printf(f->arena, "{\"metadata\":{\"name\":\"%s\",\"namespace\":\"n\"},\"data\":{\"max\":\"%d\"}}", name, i));
        binding(f, kp_arena_printf(f->arena, "b%d", i), "p", "Deny",
                kp_arena_printf(f->arena, ",\"paramRef\":{\"name\":\"%s\",\"parameterNotFoundAction\":\"Deny\"}", name));
    }
    f->audit = audited_begin(&audited, "Metadata");
    assert_int_equal(create(f, ""), 0);
    f->audit = NULL;
    const struct kp_value *annotations = audited_end(&audited, f->arena);
    assert_string_equal(kp_value_str(kp_value_get(annotations, "p/who")), "by joe");
    assert_string_equal(kp_value_str(kp_value_get(annotations, "p/max")), "1, 2");
    assert_int_equal(annotations->object.len, 2);
}

static void an_annotation_without_an_answer_refuses_by_the_failure_policy(void **state)
{
    struct fixture *f = *state;
    static const char spec[] = "\"validations\":[{\"expression\":\"true\"}],\"auditAnnotations\":[{\"key\":\"k\",\"valueExpression\":\"object.none\"}],";
    binding(f, "b", "p", "Audit", "");
    policy(f, "p", spec);
    assert_true(create(f, "") < 0);
    assert_string_equal(f->status.causes[0].message, "expression 'object.none' resulted in error: no such key: none");
    policy(f, "p", kp_arena_printf(f->arena, "\"failurePolicy\":\"Ignore\",%s", spec));
    assert_int_equal(create(f, ""), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_false_expression_refuses_with_its_policy_and_binding),
        TEST(messages_and_reasons_are_those_of_the_validation),
        TEST(failure_policy_ignore_lets_errors_pass_and_refusals_not),
        TEST(a_warning_is_told_and_refuses_nothing),
        TEST(conditions_and_resources_of_the_binding_narrow_a_policy),
        TEST(parameters_come_from_the_objects_that_the_binding_names),
        TEST(the_authorizer_knows_what_others_may),
        TEST(bad_policies_are_told_field_by_field),
        TEST(what_is_only_audited_is_told_to_the_audit_log),
        TEST(annotations_of_a_policy_are_told_once),
        TEST(an_annotation_without_an_answer_refuses_by_the_failure_policy),
    };
    kp_log_init("test", KP_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
