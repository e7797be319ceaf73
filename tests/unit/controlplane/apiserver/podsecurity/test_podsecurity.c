/* Pod Security Standards: labels, checks with upstream's words, versions. */
#include "controlplane/apiserver/podsecurity/podsecurity.h"
#include "tests/support/objects.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct kp_arena *arena;

static int begin(void **state)
{
    (void)state;
    arena = kp_arena_new(0);
    return 0;
}

static int end(void **state)
{
    (void)state;
    kp_arena_free(arena);
    return 0;
}

static const char *judged(enum podsecurity_level level, int minor, const char *yaml)
{
    const struct k8s_pod *pod = test_object(&k8s_pod_type, arena, yaml);
    struct podsecurity_verdict verdict;
    podsecurity_evaluate((struct podsecurity_rule){level, minor}, pod->metadata, pod->spec, arena, &verdict);
    assert_true(!verdict.reasons == !verdict.details);
    return verdict.details ? verdict.details : "";
}

#define BASELINE(spec, expected) assert_string_equal(judged(PODSECURITY_BASELINE, PODSECURITY_LATEST, "{metadata: {name: p}, spec: {" spec "}}"), expected)
#define RESTRICTED(spec, expected) assert_string_equal(judged(PODSECURITY_RESTRICTED, PODSECURITY_LATEST, "{metadata: {name: p}, spec: {" spec "}}"), expected)
#define PLAIN "containers: [{name: c, image: i}]"
#define HARDENED "{allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}"

static void baseline_lets_plain_pods_in_and_nothing_of_the_nodes(void **state)
{
    (void)state;
    BASELINE(PLAIN, "");
    BASELINE("hostNetwork: true, hostPID: true, hostIPC: true, " PLAIN, "host namespaces (hostNetwork=true, hostPID=true, hostIPC=true)");
    BASELINE("containers: [{name: a, image: i, securityContext: {privileged: true}}], initContainers: [{name: b, image: i, securityContext: {privileged: true}}]",
             "privileged (containers \"b\", \"a\" must not set securityContext.privileged=true)");
    BASELINE("volumes: [{name: v, hostPath: {path: /}}, {name: e, emptyDir: {}}], " PLAIN, "hostPath volumes (volume \"v\")");
    BASELINE("containers: [{name: c, image: i, ports: [{containerPort: 1, hostPort: 90}, {containerPort: 2, hostPort: 80}]}]",
             "hostPort (container \"c\" uses hostPorts 80, 90)");
    BASELINE("containers: [{name: c, image: i, securityContext: {capabilities: {add: [SYS_ADMIN, CHOWN, NET_RAW]}}}]",
             "non-default capabilities (container \"c\" must not include \"NET_RAW\", \"SYS_ADMIN\" in securityContext.capabilities.add)");
    BASELINE("containers: [{name: c, image: i, livenessProbe: {httpGet: {port: 80, host: 10.0.0.1}}}]",
             "probe or lifecycle host (container \"c\" uses probe or lifecycle host \"10.0.0.1\")");
    BASELINE("containers: [{name: c, image: i, securityContext: {procMount: Unmasked}}]",
             "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")");
    BASELINE("hostUsers: false, containers: [{name: c, image: i, securityContext: {procMount: Unmasked}}]", "");
    BASELINE("securityContext: {seLinuxOptions: {type: spc_t, user: u}}, containers: [{name: c, image: i, securityContext: {seLinuxOptions: {role: r}}}]",
             "seLinuxOptions (pod and container \"c\" set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set; role may not be set)");
    BASELINE("securityContext: {seccompProfile: {type: Unconfined}}, " PLAIN,
             "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")");
    BASELINE("securityContext: {appArmorProfile: {type: Unconfined}}, " PLAIN,
             "forbidden AppArmor profile (pod must not set AppArmor profile type to \"Unconfined\")");
    BASELINE("securityContext: {sysctls: [{name: kernel.msgmax, value: '1'}, {name: net.ipv4.tcp_rmem, value: '1'}]}, " PLAIN, "forbidden sysctls (kernel.msgmax)");
    BASELINE("securityContext: {windowsOptions: {hostProcess: true}}, " PLAIN, "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)");
}

static void restricted_wants_pods_to_be_hardened(void **state)
{
    (void)state;
    RESTRICTED("containers: [{name: c, image: i, securityContext: " HARDENED "}]", "");
    RESTRICTED(PLAIN,
               "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), "
               "unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), "
               "runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), "
               "seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")");
    RESTRICTED("hostNetwork: true, volumes: [{name: h, hostPath: {path: /}}, {name: m, nfs: {server: s, path: /}}, {name: s, secret: {secretName: x}}], "
               "containers: [{name: c, image: i, securityContext: " HARDENED "}]",
               "host namespaces (hostNetwork=true), restricted volume types (volumes \"h\", \"m\" use restricted volume types \"hostPath\", \"nfs\")");
    RESTRICTED("securityContext: {runAsNonRoot: true, runAsUser: 0, seccompProfile: {type: Localhost, localhostProfile: x}}, containers: [{name: c, image: i, "
               "securityContext: {allowPrivilegeEscalation: false, runAsNonRoot: false, runAsUser: 0, capabilities: {drop: [ALL], add: [NET_BIND_SERVICE, CHOWN]}}}]",
               "unrestricted capabilities (container \"c\" must not include \"CHOWN\" in securityContext.capabilities.add), "
               "runAsNonRoot != true (container \"c\" must not set securityContext.runAsNonRoot=false), "
               "runAsUser=0 (pod and container \"c\" must not set runAsUser=0)");
    RESTRICTED("hostUsers: false, containers: [{name: c, image: i, securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, runAsUser: 0, "
               "seccompProfile: {type: RuntimeDefault}}}]", "");
    RESTRICTED("os: {name: windows}, containers: [{name: c, image: i, securityContext: {runAsNonRoot: true}}]", "");
    RESTRICTED("ephemeralContainers: [{name: e, image: i}], containers: [{name: c, image: i, securityContext: " HARDENED "}]",
               "allowPrivilegeEscalation != false (container \"e\" must set securityContext.allowPrivilegeEscalation=false), "
               "unrestricted capabilities (container \"e\" must set securityContext.capabilities.drop=[\"ALL\"]), "
               "runAsNonRoot != true (pod or container \"e\" must set securityContext.runAsNonRoot=true), "
               "seccompProfile (pod or container \"e\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")");
}

static void older_versions_ask_less(void **state)
{
    (void)state;
    static const char plain[] = "{metadata: {name: p}, spec: {containers: [{name: c, image: i, securityContext: {runAsNonRoot: true, runAsUser: 0}}]}}";
    assert_string_equal(judged(PODSECURITY_RESTRICTED, 7, plain), "");
    assert_string_equal(judged(PODSECURITY_RESTRICTED, 8, plain), "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false)");
    assert_non_null(strstr(judged(PODSECURITY_RESTRICTED, 22, plain), "unrestricted capabilities"));
    assert_null(strstr(judged(PODSECURITY_RESTRICTED, 22, plain), "runAsUser=0"));
    assert_non_null(strstr(judged(PODSECURITY_RESTRICTED, 23, plain), "runAsUser=0"));
    assert_string_equal(judged(PODSECURITY_RESTRICTED, 99, plain), judged(PODSECURITY_RESTRICTED, PODSECURITY_LATEST, plain));
    static const char annotated[] = "{metadata: {name: p, annotations: {seccomp.security.alpha.kubernetes.io/pod: unconfined}}, spec: {containers: [{name: c, image: i}]}}";
    assert_string_equal(judged(PODSECURITY_BASELINE, 18, annotated), "seccompProfile (forbidden annotation seccomp.security.alpha.kubernetes.io/pod=\"unconfined\")");
    assert_string_equal(judged(PODSECURITY_BASELINE, 19, annotated), "");
    static const char host[] = "{metadata: {name: p}, spec: {volumes: [{name: v, hostPath: {path: /}}], containers: [{name: c, image: i, securityContext: {runAsNonRoot: true}}]}}";
    assert_string_equal(judged(PODSECURITY_RESTRICTED, 0, host), "restricted volume types (volume \"v\" uses restricted volume type \"hostPath\")");
}

static void labels_say_what_is_enforced_and_warned_of(void **state)
{
    (void)state;
    struct kp_string_map labels = {0};
    struct field_errors errors = {.arena = arena};
    struct podsecurity_policy policy;
    podsecurity_policy_of(&labels, &policy, &errors);
    assert_int_equal(policy.enforce.level, PODSECURITY_PRIVILEGED);
    kp_string_map_set(arena, &labels, "pod-security.kubernetes.io/enforce", "baseline");
    kp_string_map_set(arena, &labels, "pod-security.kubernetes.io/enforce-version", "v1.30");
    podsecurity_policy_of(&labels, &policy, &errors);
    assert_string_equal(podsecurity_rule_text(policy.enforce, arena), "baseline:v1.30");
    assert_string_equal(podsecurity_rule_text(policy.warn, arena), "baseline:v1.30"); /* who enforces is also warned */
    assert_string_equal(podsecurity_rule_text(policy.audit, arena), "privileged:latest");
    kp_string_map_set(arena, &labels, "pod-security.kubernetes.io/warn", "restricted");
    podsecurity_policy_of(&labels, &policy, &errors);
    assert_string_equal(podsecurity_rule_text(policy.warn, arena), "restricted:latest");
    assert_int_equal(errors.len, 0);
    kp_string_map_set(arena, &labels, "pod-security.kubernetes.io/enforce", "strict");
    kp_string_map_set(arena, &labels, "pod-security.kubernetes.io/audit-version", "v1.01");
    podsecurity_policy_of(&labels, &policy, &errors);
    assert_int_equal(policy.enforce.level, PODSECURITY_RESTRICTED);
    assert_int_equal(errors.len, 2);
    assert_string_equal(errors.items[0].field, "metadata.labels[pod-security.kubernetes.io/enforce]");
    assert_non_null(strstr(errors.items[0].message, "Invalid value: \"strict\": must be one of privileged, baseline, restricted"));
    assert_non_null(strstr(errors.items[1].message, "must be \"latest\" or \"v1.x\""));
}

static void only_new_images_and_containers_are_looked_at_again(void **state)
{
    (void)state;
    const struct k8s_pod *old = test_object(&k8s_pod_type, arena, "{metadata: {name: p}, spec: {containers: [{name: c, image: i}]}}");
    const struct k8s_pod *same = test_object(&k8s_pod_type, arena, "{metadata: {name: p, labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}");
    const struct k8s_pod *image = test_object(&k8s_pod_type, arena, "{metadata: {name: p}, spec: {containers: [{name: c, image: j}]}}");
    const struct k8s_pod *debug = test_object(&k8s_pod_type, arena, "{metadata: {name: p}, spec: {containers: [{name: c, image: i}], ephemeralContainers: [{name: e, image: i}]}}");
    assert_false(podsecurity_update_matters(old, same));
    assert_true(podsecurity_update_matters(old, image));
    assert_true(podsecurity_update_matters(old, debug));
    assert_false(podsecurity_update_matters(debug, debug));
}

#define T(name) cmocka_unit_test_setup_teardown(name, begin, end)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(baseline_lets_plain_pods_in_and_nothing_of_the_nodes), T(restricted_wants_pods_to_be_hardened), T(older_versions_ask_less),
        T(labels_say_what_is_enforced_and_warned_of),            T(only_new_images_and_containers_are_looked_at_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
