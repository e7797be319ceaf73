/* A cluster read off its machines: names, counts, networks, keys, labels. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "provisioner/cli/adopt_internal.h"

static struct cloud_machine machines[] = {
    {.name = "a-cp-b-cp-1", .role = "control-plane", .pool = "", .machine_type = "m"},
    {.name = "a-cp-b-gpu-1", .role = "worker", .pool = "gpu", .machine_type = "big"},
    {.name = "a-cp-b-worker-1", .role = "worker", .pool = "worker", .machine_type = ""},
    {.name = "a-cp-b-worker-2", .role = "worker", .pool = "worker", .machine_type = ""},
};

static void names_and_counts_are_the_machines(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct cloud_machine_list list = {machines, KP_ARRAY_LEN(machines)};
    struct config config;
    const char *name = NULL;
    assert_int_equal(adopt_name(&list, arena, &name, NULL), 0);
    assert_string_equal(name, "a-cp-b");
    assert_int_equal(adopt_config(&list, name, "local", arena, &config, NULL), 0);
    assert_int_equal(config.control_plane.replicas, 1);
    assert_string_equal(config.control_plane.machine, "m");
    assert_int_equal(config.n_pools, 2);
    assert_string_equal(config.pools[0].name, "gpu");
    assert_string_equal(config.pools[0].machine, "big");
    assert_int_equal(config.pools[1].replicas, 2);
}

static void machines_that_make_no_cluster_are_refused(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct cloud_machine odd[] = {machines[0], {.name = "other-1", .role = "worker", .pool = "w"}}, half[] = {machines[0], {.name = "a-cp-b-w-1", .role = "", .pool = ""}};
    struct cloud_machine_list workers = {machines + 1, 2}, strangers = {odd, 2}, half_made = {half, 2};
    struct config config;
    const char *name = NULL;
    assert_int_equal(adopt_name(&workers, arena, &name, NULL), KP_EINVALID);
    assert_int_equal(adopt_name(&strangers, arena, &name, NULL), KP_EINVALID);
    assert_int_equal(adopt_name(&half_made, arena, &name, NULL), 0);
    assert_int_equal(adopt_config(&half_made, name, "local", arena, &config, NULL), KP_EINVALID);
}

static void add(struct kp_buf *out, const char *path, const char *content)
{
    kp_buf_printf(out, "%s ", path);
    kp_base64_encode(out, content, strlen(content));
    kp_buf_putc(out, '\n');
}

static const char *pem_of(const struct pki_ca *ca, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    pki_trust(ca, &text);
    return kp_arena_strdup(arena, text.data);
}

static const char *key_of(const struct tls_key *key, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    assert_int_equal(tls_key_to_pem(key, &text, NULL), 0);
    return kp_arena_strdup(arena, text.data);
}

static void print_files(const struct pki *pki, struct kp_arena *arena, struct kp_buf *out)
{
    const char *const contents[] = {
        pem_of(&pki->ca, arena), key_of(pki->ca.key, arena), pem_of(&pki->etcd_ca, arena), key_of(pki->etcd_ca.key, arena), pem_of(&pki->front_proxy_ca, arena),
        key_of(pki->front_proxy_ca.key, arena), key_of(pki->service_accounts, arena), "clusters:\n- cluster:\n    server: https://10.89.0.9:6443\n",
        "    - \"--cluster-cidr=10.200.0.0/16\"\n    - \"--service-cluster-ip-range=10.97.0.0/16\"\n", "    - \"--service-account-issuer=https://kubernetes.default.svc.k.test\"\n",
    };
    for (size_t i = 0; adopt_paths[i]; i++)
        add(out, adopt_paths[i], contents[i]);
}

static void keys_and_networks_are_read_off_a_control_plane(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(pki_free) struct pki *pki = NULL, *again = NULL;
    KP_AUTO_BUF struct kp_buf text = {0}, before = {0}, after = {0}, rotating = {0};
    struct kp_string_map files = {0}, others = {0};
    struct config config;
    assert_int_equal(pki_create(&pki, NULL), 0);
    print_files(pki, arena, &text);
    assert_int_equal(adopt_files(text.data, arena, &files, NULL), 0);
    assert_int_equal(adopt_pki(&files, arena, &again, NULL), 0);
    assert_int_equal(pki_print(pki, &before, NULL), 0);
    assert_int_equal(pki_print(again, &after, NULL), 0);
    assert_string_equal(after.data, before.data);
    config_default("x", 1, 0, arena, &config);
    assert_int_equal(adopt_network(&files, arena, &config, NULL), 0);
    assert_string_equal(config.network.pod_cidr, "10.200.0.0/16");
    assert_string_equal(config.network.service_cidr, "10.97.0.0/16");
    assert_string_equal(config.network.dns_domain, "k.test");
    assert_string_equal(adopt_server(kp_string_map_get(&files, ADOPT_ADMIN), arena), "https://10.89.0.9:6443");
    assert_int_equal(pki_rotate_begin(pki, PKI_CLUSTER, NULL), 0);
    print_files(pki, arena, &rotating);
    assert_int_equal(adopt_files(rotating.data, arena, &others, NULL), 0);
    assert_int_equal(adopt_pki(&others, arena, &again, NULL), KP_ECONFLICT);
}

static void an_audit_policy_is_read_where_there_is_one(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_string_map files = {0};
    struct config config;
    config_default("x", 1, 0, arena, &config);
    assert_int_equal(adopt_audit(&files, arena, &config, NULL), 0);
    assert_string_equal(config.audit_policy, "");
    kp_string_map_set(arena, &files, BOOTSTRAP_AUDIT_POLICY, "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- level: Metadata\n");
    assert_int_equal(adopt_audit(&files, arena, &config, NULL), 0);
    assert_string_equal(config.audit_policy, "{\"apiVersion\":\"audit.k8s.io/v1\",\"kind\":\"Policy\",\"rules\":[{\"level\":\"Metadata\"}]}");
    kp_string_map_set(arena, &files, BOOTSTRAP_AUDIT_POLICY, "rules: 1");
    assert_int_equal(adopt_audit(&files, arena, &config, NULL), KP_EINVALID);
}

static void what_is_cut_short_is_refused(void **state)
{
    static const char *const wrong[] = {"", "x\n", "/etc/kubernetes/pki/ca.crt !\n", "/etc/kubernetes/pki/ca.crt eA==\n"};
    for (size_t i = 0; i < KP_ARRAY_LEN(wrong); i++) {
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        struct kp_string_map files = {0};
        assert_true(adopt_files(wrong[i], arena, &files, NULL) < 0);
    }
}

static void labels_and_taints_are_the_kubelets(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct config_pool pool = {.name = "app"}, none = {.name = "none"};
    assert_int_equal(adopt_pool("kubelet\n--node-labels=kprov.dev/pool=app,tier=app,a/b=\n--register-with-taints=k/x=v:NoSchedule,y=:NoExecute\n", arena, &pool, NULL), 0);
    assert_int_equal(pool.labels.len, 2);
    assert_string_equal(kp_string_map_get(&pool.labels, "tier"), "app");
    assert_int_equal(pool.n_taints, 2);
    assert_string_equal(pool.taints[0].key, "k/x");
    assert_string_equal(pool.taints[1].effect, "NoExecute");
    assert_int_equal(adopt_pool("kubelet\n", arena, &none, NULL), 0);
    assert_int_equal(none.labels.len + none.n_taints, 0);
    assert_int_equal(adopt_pool("--register-with-taints=broken\n", arena, &none, NULL), KP_ECORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_counts_are_the_machines),
        cmocka_unit_test(machines_that_make_no_cluster_are_refused),
        cmocka_unit_test(keys_and_networks_are_read_off_a_control_plane),
        cmocka_unit_test(an_audit_policy_is_read_where_there_is_one),
        cmocka_unit_test(what_is_cut_short_is_refused),
        cmocka_unit_test(labels_and_taints_are_the_kubelets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
