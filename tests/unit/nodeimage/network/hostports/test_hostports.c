/* Host ports as elements of maps. */
#include "nodeimage/network/hostports/hostports.h"
#include "tests/support/objects.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <errno.h>
#include <sched.h>

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

static const struct k8s_pod *pod(const char *name, const char *created, const char *ip, const char *phase, const char *ports)
{
    return test_object(&k8s_pod_type, arena,
                       kp_arena_printf(arena, "{metadata: {name: %s, namespace: default, uid: %s, creationTimestamp: '%s'}, spec: {containers: [{name: c, image: i, "
                                              "ports: [%s]}]}, status: {podIP: %s, phase: %s}}", name, name, created, ports, ip, phase));
}

static const char *script_of(const struct nft_rules *before, const struct k8s_pod *const *pods, size_t n, struct nft_rules **ret)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    *ret = hostports_build(pods, n);
    nft_rules_script(HOSTPORTS_TABLE, hostports_base_table, before, *ret, &out);
    return kp_arena_strndup(arena, out.data ? out.data : "", out.len);
}

#define EARLY "2026-01-01T00:00:00Z"
#define LATE "2026-01-02T00:00:00Z"

static void each_port_leads_to_its_pod(void **state)
{
    (void)state;
    KP_AUTO(nft_rules_free) struct nft_rules *rules = NULL;
    const struct k8s_pod *pods[] = {
        pod("late", LATE, "10.244.1.6", "Running", "{containerPort: 80, hostPort: 80}, {containerPort: 53, hostPort: 53, protocol: UDP}"),
        pod("early", EARLY, "10.244.1.5", "Running", "{containerPort: 8080, hostPort: 80}, {containerPort: 1, hostPort: 90, hostIP: 192.0.2.1}, {containerPort: 7}"),
        pod("done", EARLY, "10.244.1.7", "Succeeded", "{containerPort: 1, hostPort: 1}"),
        pod("odd", EARLY, "'1.1.1.1 }'", "Running", "{containerPort: 1, hostPort: 2}"),
        pod("v6", EARLY, "10.244.1.8", "Running", "{containerPort: 1, hostPort: 3, hostIP: 'fd00::1'}"),
    };
    const char *script = script_of(NULL, pods, KP_ARRAY_LEN(pods), &rules);
    assert_non_null(strstr(script, "add element ip kprov-hostports anywhere { tcp . 80 : 10.244.1.5 . 8080 }"));
    assert_null(strstr(script, "10.244.1.6 . 80 ")); /* the older one has it */
    assert_non_null(strstr(script, "anywhere { udp . 53 : 10.244.1.6 . 53 }"));
    assert_non_null(strstr(script, "at-address { 192.0.2.1 . tcp . 90 : 10.244.1.5 . 1 }"));
    assert_non_null(strstr(script, "hairpin { 10.244.1.5 . 10.244.1.5 }"));
    assert_null(strstr(script, "10.244.1.7"));
    assert_null(strstr(script, "1.1.1.1"));
    assert_null(strstr(script, "10.244.1.8 . 1"));
}

static void only_pods_with_host_ports_matter(void **state)
{
    (void)state;
    const struct k8s_pod *with = pod("a", EARLY, "10.244.1.5", "Running", "{containerPort: 80, hostPort: 80}"),
                         *without = pod("a", EARLY, "10.244.1.5", "Running", "{containerPort: 80}"),
                         *moved = pod("a", EARLY, "10.244.1.9", "Running", "{containerPort: 80, hostPort: 80}"),
                         *ended = pod("a", EARLY, "10.244.1.5", "Failed", "{containerPort: 80, hostPort: 80}");
    assert_true(hostports_matter(NULL, with));
    assert_true(hostports_matter(with, NULL));
    assert_true(hostports_matter(with, moved));
    assert_true(hostports_matter(with, ended));
    assert_false(hostports_matter(with, with));
    assert_false(hostports_matter(NULL, without));
    assert_false(hostports_matter(NULL, ended));
}

/* In a network namespace of its own. */
static void the_kernel_takes_it(void **state)
{
    (void)state;
    if (unshare(CLONE_NEWNET) != 0) {
        print_message("no network namespaces here: %s\n", strerror(errno));
        skip();
    }
    KP_AUTO(nft_free) struct nft *nft = nft_new();
    KP_AUTO(nft_rules_free) struct nft_rules *before = NULL;
    const struct k8s_pod *first[] = {pod("a", EARLY, "10.244.1.5", "Running", "{containerPort: 80, hostPort: 80}, {containerPort: 2, hostPort: 90, hostIP: 192.0.2.1}")};
    const struct k8s_pod *second[] = {pod("b", LATE, "10.244.1.6", "Running", "{containerPort: 81, hostPort: 80}, {containerPort: 53, hostPort: 53, protocol: SCTP}")};
    const struct {
        const struct k8s_pod *const *pods;
        size_t n;
    } steps[] = {{first, 1}, {second, 1}, {NULL, 0}};
    for (size_t i = 0; i < KP_ARRAY_LEN(steps); i++) {
        struct kp_error error = {0};
        struct nft_rules *rules = NULL;
        const char *script = script_of(before, steps[i].pods, steps[i].n, &rules);
        nft_rules_free(before);
        before = rules;
        if (nft_apply(nft, script, &error) < 0)
            fail_msg("step %zu: %s\n%s", i, error.message, script);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_port_leads_to_its_pod, begin, end),
        cmocka_unit_test_setup_teardown(only_pods_with_host_ports_matter, begin, end),
        cmocka_unit_test_setup_teardown(the_kernel_takes_it, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
