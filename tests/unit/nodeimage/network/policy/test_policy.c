/* Network policies as chains: who is isolated, and what is let through. */
#include "nodeimage/network/policy/policy.h"
#include "tests/support/objects.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <errno.h>
#include <sched.h>

#define MAX 16
struct world {
    struct kp_arena *arena;
    const struct k8s_network_policy *policies[MAX];
    const struct k8s_pod *pods[MAX];
    const struct k8s_namespace *namespaces[MAX];
    struct policy_input input;
};

static void add_pod(struct world *w, const char *yaml)
{
    w->pods[w->input.n_pods++] = test_object(&k8s_pod_type, w->arena, yaml);
}

static void add_namespace(struct world *w, const char *yaml)
{
    w->namespaces[w->input.n_namespaces++] = test_object(&k8s_namespace_type, w->arena, yaml);
}

static void add_policy(struct world *w, const char *name, const char *spec)
{
    w->policies[w->input.n_policies++] =
        test_object(&k8s_network_policy_type, w->arena, kp_arena_printf(w->arena, "{metadata: {name: %s, namespace: shop}, spec: %s}", name, spec));
}

/* Two pods of the namespace shop here, one of it and one of another namespace elsewhere. */
static int begin(void **state)
{
    struct world *w = kp_calloc(1, sizeof(*w));
    w->arena = kp_arena_new(0);
    w->input = (struct policy_input){.node_name = "here", .policies = w->policies, .pods = w->pods, .namespaces = w->namespaces};
    add_namespace(w, "{metadata: {name: shop, labels: {team: a}}}");
    add_namespace(w, "{metadata: {name: watch, labels: {team: b}}}");
    add_pod(w, "{metadata: {name: web, namespace: shop, labels: {app: web}}, spec: {nodeName: here, containers: [{name: c, image: i, "
               "ports: [{name: http, containerPort: 8080}]}]}, status: {podIP: 10.244.1.5, phase: Running}}");
    add_pod(w, "{metadata: {name: db, namespace: shop, labels: {app: db}}, spec: {nodeName: here, containers: [{name: c, image: i}]}, "
               "status: {podIP: 10.244.1.6, phase: Running}}");
    add_pod(w, "{metadata: {name: web-2, namespace: shop, labels: {app: web}}, spec: {nodeName: there, containers: [{name: c, image: i, "
               "ports: [{name: http, containerPort: 9090}]}]}, status: {podIP: 10.244.2.5, phase: Running}}");
    add_pod(w, "{metadata: {name: probe, namespace: watch, labels: {app: probe}}, spec: {nodeName: there, containers: [{name: c, image: i}]}, "
               "status: {podIP: 10.244.2.6, phase: Running}}");
    *state = w;
    return 0;
}

static int end(void **state)
{
    struct world *w = *state;
    kp_arena_free(w->arena);
    free(w);
    return 0;
}

static const char *script_of(struct world *w)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    KP_AUTO(nft_rules_free) struct nft_rules *rules = policy_rules_build(&w->input);
    nft_rules_script(POLICY_TABLE, policy_base_table, NULL, rules, &out);
    return kp_arena_strdup(w->arena, out.data);
}

/* Whether the script has such a rule in a chain whose name has the words in it. */
static bool has_rule(const char *script, const char *chain, const char *rule)
{
    for (const char *line = script; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        size_t len = strcspn(line, "\n"), n = strlen(rule);
        KP_AUTO_FREE char *text = kp_strndup(line, len);
        if (kp_starts_with(text, "add rule ") && strstr(text, chain) && len > n && strcmp(text + len - n, rule) == 0 && text[len - n - 1] == ' ')
            return true;
    }
    return false;
}
#define HAS(chain, rule)                                                                                                                                      \
    if (!has_rule(script, chain, rule))                                                                                                                       \
    fail_msg("no rule \"%s\" of %s in:\n%s", rule, chain, script)
#define HAS_NOT(text)                                                                                                                                         \
    if (strstr(script, text))                                                                                                                                 \
    fail_msg("did not expect \"%s\" in:\n%s", text, script)

static void a_pod_that_nobody_selects_is_left_alone(void **state)
{
    struct world *w = *state;
    const char *script = script_of(w);
    HAS_NOT("drop");
    HAS_NOT("add element");
    add_policy(w, "none", "{podSelector: {matchLabels: {app: other}}, policyTypes: [Ingress]}");
    script = script_of(w);
    HAS_NOT("drop");
}

static void what_is_selected_is_closed_in_the_directions_of_the_policy(void **state)
{
    struct world *w = *state;
    add_policy(w, "closed", "{podSelector: {}, policyTypes: [Ingress]}");
    const char *script = script_of(w);
    HAS("pod-in-", "counter drop");
    HAS("shop/web", "ip saddr 10.244.1.5 accept"); /* itself */
    assert_non_null(strstr(script, "add element ip kprov-policy ingress { 10.244.1.5 : goto pod-in-"));
    assert_non_null(strstr(script, "add element ip kprov-policy ingress { 10.244.1.6 : goto pod-in-"));
    HAS_NOT("10.244.2.5"); /* another node looks after that one */
    HAS_NOT("pod-out");
}

static void peers_are_pods_namespaces_and_addresses(void **state)
{
    struct world *w = *state;
    add_policy(w, "db",
               "{podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress, Egress], ingress: ["
               "{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 5432}, {protocol: UDP, port: 53}]}, "
               "{from: [{namespaceSelector: {matchLabels: {team: b}}, podSelector: {matchLabels: {app: probe}}}], ports: [{protocol: TCP, port: 9000, endPort: 9100}]}, "
               "{from: [{ipBlock: {cidr: 192.168.0.0/16, except: [192.168.1.0/24, 192.168.2.0/24]}}]}], "
               "egress: [{to: [{namespaceSelector: {}}], ports: [{protocol: SCTP}]}]}");
    const char *script = script_of(w);
    HAS("policy-in-", "ip saddr { 10.244.1.5, 10.244.2.5 } tcp dport 5432 accept");
    HAS("policy-in-", "ip saddr { 10.244.1.5, 10.244.2.5 } udp dport 53 accept");
    HAS("policy-in-", "ip saddr { 10.244.2.6 } tcp dport 9000-9100 accept");
    HAS("policy-in-", "ip saddr 192.168.0.0/16 ip saddr != 192.168.1.0/24 ip saddr != 192.168.2.0/24 accept");
    HAS("policy-out-", "ip daddr { 10.244.1.5, 10.244.1.6, 10.244.2.5, 10.244.2.6 } meta l4proto sctp accept");
    HAS("pod-out-", "ip daddr 10.244.1.6 accept");
}

static void rules_without_peers_or_ports_allow_all_of_them(void **state)
{
    struct world *w = *state;
    add_policy(w, "open", "{podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress, Egress], ingress: [{}], egress: [{ports: [{port: 443}]}]}");
    const char *script = script_of(w);
    HAS("policy-in-", "accept");
    HAS("policy-out-", "tcp dport 443 accept");
}

static void ports_by_name_are_the_destinations_own(void **state)
{
    struct world *w = *state;
    add_policy(w, "named", "{podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {}}], ports: [{port: http}]}]}");
    add_policy(w, "out", "{podSelector: {matchLabels: {app: db}}, policyTypes: [Egress], egress: [{ports: [{port: http}, {port: unknown}]}]}");
    const char *script = script_of(w);
    HAS("policy-in-", "ip saddr { 10.244.1.5, 10.244.1.6, 10.244.2.5 } ip daddr . tcp dport { 10.244.1.5 . 8080 } accept");
    HAS("policy-out-", "ip daddr . tcp dport { 10.244.1.5 . 8080, 10.244.2.5 . 9090 } accept");
}

static void pods_without_an_address_of_their_own_are_no_ones_business(void **state)
{
    struct world *w = *state;
    add_pod(w, "{metadata: {name: done, namespace: shop, labels: {app: web}}, spec: {nodeName: here, containers: [{name: c, image: i}]}, "
               "status: {podIP: 10.244.1.7, phase: Succeeded}}");
    add_pod(w, "{metadata: {name: host, namespace: shop, labels: {app: web}}, spec: {nodeName: here, hostNetwork: true, containers: [{name: c, image: i}]}, "
               "status: {podIP: 10.0.0.2, phase: Running}}");
    add_pod(w, "{metadata: {name: odd, namespace: shop, labels: {app: web}}, spec: {nodeName: here, containers: [{name: c, image: i}]}, "
               "status: {podIP: '10.1.1.1 accept', phase: Running}}");
    add_policy(w, "closed", "{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {}}, {ipBlock: {cidr: '10.0.0.0/8 accept'}}]}]}");
    const char *script = script_of(w);
    HAS_NOT("10.244.1.7");
    HAS_NOT("10.0.0.2");
    HAS_NOT("10.1.1.1");
    HAS_NOT("10.0.0.0/8");
}

static void types_that_are_left_out_follow_the_rules(void **state)
{
    struct world *w = *state;
    const char *spec = "{podSelector: {matchLabels: {app: web}}, egress: [{}]}";
    struct kp_error error = {0};
    void *bare = NULL; /* without the defaults that the API server gives */
    const char *yaml = kp_arena_printf(w->arena, "{metadata: {name: bare, namespace: shop}, spec: %s}", spec);
    assert_int_equal(kp_yaml_decode(&k8s_network_policy_type, yaml, strlen(yaml), w->arena, NULL, &bare, &error), 0);
    w->policies[w->input.n_policies++] = bare;
    const char *script = script_of(w);
    HAS("pod-in-", "counter drop");
    HAS("pod-out-", "counter drop");
    HAS("policy-out-", "accept");
}

static void only_what_changes_rules_matters(void **state)
{
    struct world *w = *state;
    const struct k8s_pod *web = w->pods[0];
    struct k8s_pod *later = KP_OBJECT_CLONE(w->arena, k8s_pod, web);
    assert_false(policy_pod_matters(web, later));
    later->status->phase = "Failed";
    assert_true(policy_pod_matters(web, later));
    assert_true(policy_pod_matters(web, NULL));
    assert_false(policy_pod_matters(NULL, later));
    later = KP_OBJECT_CLONE(w->arena, k8s_pod, web);
    kp_string_map_set(w->arena, &later->metadata->labels, "app", "other");
    assert_true(policy_pod_matters(web, later));
}

/* In a network namespace of its own: the kernel takes the table, and each change of it. */
static void the_kernel_takes_it(void **state)
{
    static const char *const specs[] = {
        "{podSelector: {}, policyTypes: [Ingress, Egress]}",
        ("{podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress, Egress], ingress: [{from: [{podSelector: {}}, {ipBlock: {cidr: 10.0.0.0/8, "
         "except: [10.1.0.0/16, 10.2.0.0/16]}}], ports: [{port: 80}, {protocol: UDP, port: 53, endPort: 60}, {protocol: SCTP}]}], egress: [{}]}"),
        "{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{from: [{namespaceSelector: {}}], ports: [{port: http}]}], egress: [{ports: [{port: http}]}]}",
    };
    struct world *w = *state;
    if (unshare(CLONE_NEWNET) != 0) {
        print_message("no network namespaces here: %s\n", strerror(errno));
        skip();
    }
    KP_AUTO(nft_free) struct nft *nft = nft_new();
    KP_AUTO(nft_rules_free) struct nft_rules *before = NULL;
    for (size_t i = 0; i <= KP_ARRAY_LEN(specs); i++) {
        KP_AUTO_BUF struct kp_buf script = {0};
        struct kp_error error = {0};
        if (i < KP_ARRAY_LEN(specs))
            add_policy(w, kp_arena_printf(w->arena, "p%zu", i), specs[i]);
        else
            w->input.n_policies = 1;
        struct nft_rules *rules = policy_rules_build(&w->input);
        nft_rules_script(POLICY_TABLE, policy_base_table, before, rules, &script);
        nft_rules_free(before);
        before = rules;
        if (script.len && nft_apply(nft, script.data, &error) < 0)
            fail_msg("step %zu: %s\n%s", i, error.message, script.data);
    }
}

#define T(name) cmocka_unit_test_setup_teardown(name, begin, end)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_pod_that_nobody_selects_is_left_alone),
        T(what_is_selected_is_closed_in_the_directions_of_the_policy),
        T(peers_are_pods_namespaces_and_addresses),
        T(rules_without_peers_or_ports_allow_all_of_them),
        T(ports_by_name_are_the_destinations_own),
        T(pods_without_an_address_of_their_own_are_no_ones_business),
        T(types_that_are_left_out_follow_the_rules),
        T(only_what_changes_rules_matters),
        T(the_kernel_takes_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
