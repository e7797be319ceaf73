/* Audit policies: which rule a request is subject to, and what a policy may not say. */
#include "lib/audit/audit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define HEAD "apiVersion: audit.k8s.io/v1\nkind: Policy\n"

static struct audit_policy *policy_of(const char *text)
{
    struct audit_policy *policy = NULL;
    struct kp_error error = {0};
    KP_AUTO_FREE char *whole = kp_asprintf(HEAD "%s", text);
    if (audit_policy_parse(whole, strlen(whole), "p.yaml", &policy, &error) < 0)
        fail_msg("%s", error.message);
    return policy;
}

/* "joe a,b get apps deployments scale ns name": of a resource; "joe a,b get /path": of another path. - is nothing. */
static struct audit_verdict ask(const struct audit_policy *policy, const char *line, struct kp_arena *arena)
{
    const char *words[8];
    size_t n = 0;
    char *save = NULL, *copy = kp_arena_strdup(arena, line);
    for (char *word = strtok_r(copy, " ", &save); word && n < 8; word = strtok_r(NULL, " ", &save))
        words[n++] = strcmp(word, "-") == 0 ? "" : word;
    struct kp_string_list groups = {0};
    char *group_save = NULL;
    for (char *group = strtok_r(kp_arena_strdup(arena, words[1]), ",", &group_save); group; group = strtok_r(NULL, ",", &group_save))
        kp_string_list_add(arena, &groups, group);
    struct audit_attributes a = {.user = *words[0] ? words[0] : NULL, .groups = &groups, .verb = words[2], .group = "", .resource = "", .subresource = "", .ns = "", .name = "", .path = ""};
    if (n == 4) {
        a.path = words[3];
    } else {
        assert_int_equal(n, 8);
        a.resource_request = true;
        a.group = words[3];
        a.resource = words[4];
        a.subresource = words[5];
        a.ns = words[6];
        a.name = words[7];
    }
    return audit_policy_match(policy, &a);
}

static void the_first_rule_that_matches_decides(void **state)
{
    (void)state;
    static const struct {
        const char *rules, *request;
        enum audit_level level;
    } rows[] = {
        {"- {level: Metadata}", "joe - get /healthz", AUDIT_METADATA},
        {"- {level: None, users: [joe]}\n- {level: Request}", "joe - get - pods - n -", AUDIT_NONE},
        {"- {level: None, users: [joe]}\n- {level: Request}", "ann - get - pods - n -", AUDIT_REQUEST},
        {"- {level: Request, users: [joe]}", "ann - get - pods - n -", AUDIT_NONE}, /* no rule: nothing */
        {"- {level: Request, users: [joe]}", "- - get - pods - n -", AUDIT_NONE}, /* nobody is known */
        {"- {level: Request, userGroups: [b]}", "joe a,b get - pods - n -", AUDIT_REQUEST},
        {"- {level: Request, userGroups: [b]}", "joe a,c get - pods - n -", AUDIT_NONE},
        {"- {level: Request, userGroups: [b]}", "- b get - pods - n -", AUDIT_NONE},
        {"- {level: Request, verbs: [create, delete]}", "joe - delete - pods - n x", AUDIT_REQUEST},
        {"- {level: Request, verbs: [create, delete]}", "joe - get - pods - n x", AUDIT_NONE},
        {"- {level: Request, namespaces: ['n']}", "joe - get - pods - n x", AUDIT_REQUEST},
        {"- {level: Request, namespaces: ['n']}", "joe - get - pods - m x", AUDIT_NONE},
        {"- {level: Request, namespaces: ['']}", "joe - get - nodes - - x", AUDIT_REQUEST},
        {"- {level: Request, namespaces: ['n']}", "joe - get /metrics", AUDIT_NONE},
        {"- {level: Request, resources: [{group: ''}]}", "joe - get - pods log n x", AUDIT_REQUEST},
        {"- {level: Request, resources: [{group: apps}]}", "joe - get - pods log n x", AUDIT_NONE},
        {"- {level: Request, resources: [{group: '*'}]}", "joe - get apps deployments - n x", AUDIT_REQUEST},
        {"- {level: Request, resources: [{resources: [pods]}]}", "joe - get - pods - n x", AUDIT_REQUEST},
        {"- {level: Request, resources: [{resources: [pods]}]}", "joe - get - pods log n x", AUDIT_NONE},
        {"- {level: Request, resources: [{resources: [pods/log]}]}", "joe - get - pods log n x", AUDIT_REQUEST},
        {"- {level: Request, resources: [{resources: [pods/log]}]}", "joe - get - pods - n x", AUDIT_NONE},
        {"- {level: Request, resources: [{resources: ['pods/*']}]}", "joe - get - pods exec n x", AUDIT_REQUEST},
        {"- {level: Request, resources: [{resources: ['pods/*']}]}", "joe - get - pods - n x", AUDIT_REQUEST},
        {"- {level: Request, resources: [{resources: ['pods/*']}]}", "joe - get - podtemplates - n x", AUDIT_NONE},
        {"- {level: Request, resources: [{group: '*', resources: ['*/scale']}]}", "joe - update apps deployments scale n x", AUDIT_REQUEST},
        {"- {level: Request, resources: [{group: '*', resources: ['*/scale']}]}", "joe - update apps deployments - n x", AUDIT_NONE},
        {"- {level: Request, resources: [{resources: ['*']}]}", "joe - get - pods exec n x", AUDIT_REQUEST},
        {"- {level: Request, resources: [{resources: [pods], resourceNames: [x]}]}", "joe - get - pods - n x", AUDIT_REQUEST},
        {"- {level: Request, resources: [{resources: [pods], resourceNames: [x]}]}", "joe - get - pods - n y", AUDIT_NONE},
        {"- {level: Request, resources: [{resources: [pods]}], namespaces: [m]}", "joe - get - pods - n x", AUDIT_NONE},
        {"- {level: Request, nonResourceURLs: [/healthz, '/api*']}", "joe - get /healthz", AUDIT_REQUEST},
        {"- {level: Request, nonResourceURLs: [/healthz, '/api*']}", "joe - get /healthz/ping", AUDIT_NONE},
        {"- {level: Request, nonResourceURLs: [/healthz, '/api*']}", "joe - get /apis/apps", AUDIT_REQUEST},
        {"- {level: Request, nonResourceURLs: ['*']}", "joe - get /x", AUDIT_REQUEST},
        {"- {level: Request, nonResourceURLs: ['*']}", "joe - get - pods - n x", AUDIT_NONE},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(rows); i++) {
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        KP_AUTO(audit_policy_free) struct audit_policy *policy = policy_of(kp_arena_printf(arena, "rules:\n%s\n", rows[i].rules));
        if (ask(policy, rows[i].request, arena).level != rows[i].level)
            fail_msg("%s: %s", rows[i].rules, rows[i].request);
    }
}

static void stages_are_omitted_by_the_policy_and_by_its_rules(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(audit_policy_free) struct audit_policy *policy =
        policy_of("omitStages: [RequestReceived]\nomitManagedFields: true\nrules:\n- {level: Metadata, verbs: [get], omitStages: [ResponseStarted, Panic]}\n"
                  "- {level: Metadata, verbs: [list], omitManagedFields: false}\n");
    struct audit_verdict get = ask(policy, "joe - get /x", arena), list = ask(policy, "joe - list - pods - n -", arena), other = ask(policy, "joe - post /x", arena);
    assert_int_equal(get.omitted, 1u << AUDIT_REQUEST_RECEIVED | 1u << AUDIT_RESPONSE_STARTED | 1u << AUDIT_PANIC);
    assert_true(get.omit_managed_fields);
    assert_int_equal(list.omitted, 1u << AUDIT_REQUEST_RECEIVED);
    assert_false(list.omit_managed_fields);
    assert_int_equal(other.level, AUDIT_NONE);
    assert_int_equal(other.omitted, 1u << AUDIT_REQUEST_RECEIVED);
}

static void what_a_policy_may_not_say_is_told_with_its_field(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {HEAD "rules:\n- {level: All}", "p.yaml: rules[0].level: Unsupported value: \"All\""},
        {HEAD "rules:\n- {level: None}\n- {users: [joe]}", "p.yaml: rules[1].level: Required value"},
        {HEAD "rules:\n- {level: None, nonResourceURLs: [healthz]}", "rules[0].nonResourceURLs[0]: Invalid value: \"healthz\": non-resource URL rules must begin with a '/'"},
        {HEAD "rules:\n- {level: None, nonResourceURLs: [/a, '/a*b']}", "rules[0].nonResourceURLs[1]: Invalid value: \"/a*b\": non-resource URL wildcards"},
        {HEAD "rules:\n- {level: None, nonResourceURLs: [/a], namespaces: ['n']}", "rules[0].nonResourceURLs: Invalid value: rules cannot apply to both"},
        {HEAD "rules:\n- {level: None, resources: [{group: rbac.authorization.k8s.io/v1}]}", "rules[0].resources[0].group: Invalid value: \"rbac.authorization.k8s.io/v1\""},
        {HEAD "rules:\n- {level: None, resources: [{group: '', resourceNames: [x]}]}", "rules[0].resources[0].resourceNames: Invalid value: using resourceNames"},
        {HEAD "rules:\n- {level: None, omitStages: [Received]}", "rules[0].omitStages[0]: Invalid value: \"Received\": allowed stages are"},
        {HEAD "omitStages: [Received]\nrules:\n- {level: None}", "p.yaml: omitStages[0]: Invalid value"},
        {HEAD "rules: []", "p.yaml: rules: a policy needs at least one rule"},
        {HEAD "rules:\n- {level: None, user: [joe]}", "p.yaml: unknown field \"rules[0].user\""},
        {"apiVersion: audit.k8s.io/v1beta1\nkind: Policy\nrules:\n- {level: None}", "apiVersion \"audit.k8s.io/v1beta1\" and kind \"Policy\""},
        {"rules:\n- {level: None}", "apiVersion \"\" and kind \"\""},
        {"", "p.yaml: yaml: one document expected, 0 found"},
        {HEAD "rules: 1", "p.yaml: "},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(rows); i++) {
        struct audit_policy *policy = NULL;
        struct kp_error error = {0};
        assert_int_equal(audit_policy_parse(rows[i][0], strlen(rows[i][0]), "p.yaml", &policy, &error), KP_EINVALID);
        if (!strstr(error.message, rows[i][1]))
            fail_msg("%s\n%s", rows[i][1], error.message);
        assert_null(policy);
    }
}

static void a_file_that_is_not_there_is_named(void **state)
{
    (void)state;
    struct audit_policy *policy = NULL;
    struct kp_error error = {0};
    assert_int_equal(audit_policy_load("/nonexistent/policy.yaml", &policy, &error), KP_ENOTFOUND);
    assert_non_null(strstr(error.message, "/nonexistent/policy.yaml"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_rule_that_matches_decides),
        cmocka_unit_test(stages_are_omitted_by_the_policy_and_by_its_rules),
        cmocka_unit_test(what_a_policy_may_not_say_is_told_with_its_field),
        cmocka_unit_test(a_file_that_is_not_there_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
