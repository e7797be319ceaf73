/* spec.audit: read, checked as the API server will, written back, and what becomes of it on a control plane. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "provisioner/bootstrap/bootstrap.h"
#include "provisioner/plan/change.h"

#define HEAD "apiVersion: kprov.dev/v1alpha1\nkind: Cluster\nmetadata: {name: demo}\nspec:\n  controlPlane: {replicas: 1}\n"
#define POLICY "      apiVersion: audit.k8s.io/v1\n      kind: Policy\n"
#define AUDIT(rules) HEAD "  audit:\n    policy:\n" POLICY "      rules:\n" rules

static int parse(const char *yaml, struct kp_arena *arena, struct config *ret, struct kp_error *error)
{
    return config_parse(yaml, strlen(yaml), "c.yaml", arena, ret, error);
}

static void parse_good(const char *yaml, struct kp_arena *arena, struct config *ret)
{
    struct kp_error error = {0};
    if (parse(yaml, arena, ret, &error) < 0)
        fail_msg("%s", error.message);
}

static void the_policy_is_kept_as_json_and_written_back(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf text = {0};
    struct config config, again;
    parse_good(HEAD, arena, &config);
    assert_string_equal(config.audit_policy, "");
    assert_null(kp_value_path(config_to_value(&config, arena), "spec", "audit", NULL));
    parse_good(AUDIT("      - {level: None, nonResourceURLs: ['/healthz*']}\n      - {level: Metadata}\n"), arena, &config);
    assert_string_equal(config.audit_policy, "{\"apiVersion\":\"audit.k8s.io/v1\",\"kind\":\"Policy\",\"rules\":[{\"level\":\"None\",\"nonResourceURLs\":[\"/healthz*\"]},"
                                             "{\"level\":\"Metadata\"}]}");
    kp_value_print(config_to_value(&config, arena), &text);
    parse_good(text.data, arena, &again);
    assert_string_equal(again.audit_policy, config.audit_policy);
}

static void what_is_wrong_is_told_before_anything_is_made(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {AUDIT("      - {level: All}\n"), "c.yaml:8: spec.audit.policy: rules[0].level: Unsupported value: \"All\""},
        {AUDIT("      - {level: None, user: [joe]}\n"), "spec.audit.policy: unknown field \"rules[0].user\""},
        {HEAD "  audit: {policy: {rules: [{level: None}]}}\n", "spec.audit.policy: apiVersion \"\" and kind \"\""},
        {HEAD "  audit: {policy: audit-policy.yaml}\n", "c.yaml:6: spec.audit.policy: must be a Policy of audit.k8s.io/v1"},
        {HEAD "  audit: {policyFile: audit-policy.yaml}\n", "c.yaml:6: unknown field \"spec.audit.policyFile\""},
        {HEAD "  audit: {}\n", "c.yaml:6: spec.audit.policy: is required"},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(bad); i++) {
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        struct kp_error error = {0};
        struct config config;
        assert_int_equal(parse(bad[i][0], arena, &config, &error), KP_EINVALID);
        if (!strstr(error.message, bad[i][1]))
            fail_msg("%s\n%s", bad[i][1], error.message);
    }
}

static const char *manifest(const struct config *config, struct kp_arena *arena)
{
    const struct pki pki = {0};
    const struct bootstrap_node node = {.name = "demo-cp-1", .address = "10.89.0.10", .control_plane = true};
    const struct bootstrap_cluster cluster = {.config = config, .pki = &pki, .nodes = &node, .n_nodes = 1, .uid = "u", .api_address = ""};
    struct bootstrap_static_pod pods[BOOTSTRAP_STATIC_PODS];
    bootstrap_static_pods(&cluster, &node, arena, pods);
    return pods[1].manifest;
}

static void api_servers_get_the_policy_and_a_folder_for_the_log(void **state)
{
    (void)state;
    static const char *const lines[] = {"--audit-policy-file=/etc/kubernetes/audit-policy.yaml", "--audit-log-path=/var/log/kubernetes/audit/audit.log",
                                        "--audit-log-maxsize=100", "--audit-log-maxbackup=3", "--audit-log-maxage=30",
                                        "{name: audit-policy, hostPath: {path: /etc/kubernetes/audit-policy.yaml, type: File}}",
                                        "{name: audit-log, hostPath: {path: /var/log/kubernetes/audit, type: DirectoryOrCreate}}"};
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct config config;
    parse_good(HEAD, arena, &config);
    assert_null(strstr(manifest(&config, arena), "audit"));
    parse_good(AUDIT("      - {level: Metadata}\n") "  componentArgs: {kube-apiserver: {audit-log-maxbackup: 3}}\n", arena, &config);
    for (size_t i = 0; i < KP_ARRAY_LEN(lines); i++)
        assert_non_null(strstr(manifest(&config, arena), lines[i]));
}

static void a_cluster_that_is_there_keeps_its_policy(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct config none, one, two;
    struct plan_change_list changes;
    parse_good(HEAD, arena, &none);
    parse_good(AUDIT("      - {level: Metadata}\n"), arena, &one);
    parse_good(AUDIT("      - {level: Request}\n"), arena, &two);
    const struct config *pairs[][2] = {{&none, &one}, {&one, &two}, {&one, &none}};
    for (size_t i = 0; i < KP_ARRAY_LEN(pairs); i++) {
        plan_config_changes(pairs[i][0], pairs[i][1], arena, &changes);
        assert_int_equal(changes.len, 1);
        assert_int_equal(changes.items[0].kind, PLAN_CHANGE_FIXED);
        assert_string_equal(changes.items[0].path, "spec.audit");
    }
    plan_config_changes(&one, &one, arena, &changes);
    assert_int_equal(changes.len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_policy_is_kept_as_json_and_written_back),
        cmocka_unit_test(what_is_wrong_is_told_before_anything_is_made),
        cmocka_unit_test(api_servers_get_the_policy_and_a_folder_for_the_log),
        cmocka_unit_test(a_cluster_that_is_there_keeps_its_policy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
