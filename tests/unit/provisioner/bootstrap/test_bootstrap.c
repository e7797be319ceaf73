/* Bootstrap: every document that a cluster is made of is one its own schema accepts, and every certificate verifies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <unistd.h>

#include "api/k8s.h"
#include "provisioner/bootstrap/bootstrap.h"

static struct kp_arena *arena;
static struct config config;
static struct pki *pki;
static struct bootstrap_node nodes[2];
static struct bootstrap_cluster cluster;

static int setup(void **state)
{
    arena = kp_arena_new(0);
    config_default("demo", 1, 1, arena, &config);
    config.components = KP_NEW_ARRAY(arena, struct config_component, 1);
    config.n_components = 1;
    config.components[0].name = "kube-controller-manager";
    kp_string_map_set(arena, &config.components[0].flags, "node-monitor-grace-period", "4s");
    kp_string_map_set(arena, &config.components[0].flags, "leader-elect", "false");
    kp_string_map_set(arena, &config.pools[0].labels, "tier", "app");
    config.pools[0].taints[0] = (struct config_taint){"dedicated", "x", "NoExecute"};
    config.pools[0].n_taints = 1;
    nodes[0] = (struct bootstrap_node){.name = "demo-cp-1", .address = "10.89.0.10", .gateway = "10.89.0.1",
                                       .prefix_len = 24, .control_plane = true, .provider_id = "local://u/demo-cp-1"};
    nodes[1] = (struct bootstrap_node){.name = "demo-worker-1", .address = "10.89.0.11", .gateway = "10.89.0.1",
                                       .prefix_len = 24, .pool = &config.pools[0], .provider_id = "local://u/demo-worker-1"};
    cluster = (struct bootstrap_cluster){.config = &config, .endpoint = "https://10.89.0.9:6443", .api_address = "10.89.0.9", .uid = "u",
                                         .nodes = nodes, .n_nodes = 2};
    if (pki_create(&pki, NULL) < 0)
        return -1;
    cluster.pki = pki;
    return 0;
}

static int teardown(void **state)
{
    pki_free(pki);
    kp_arena_free(arena);
    return 0;
}

static const struct kp_value *user_data(const struct bootstrap_node *node)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    struct kp_value *root = NULL;
    struct kp_error error = {0};
    if (bootstrap_user_data(&cluster, node, &text, &error) < 0 ||
        kp_value_parse(text.data, text.len, arena, NULL, &root, &error) < 0)
        fail_msg("%s", error.message);
    return root;
}

static const char *file_content(const struct kp_value *root, const char *path, const char *mode)
{
    const struct kp_value *files = kp_value_get(root, "files");
    for (size_t i = 0; i < files->array.len; i++) {
        if (!kp_streq(kp_value_str(kp_value_get(files->array.items[i], "path")), path))
            continue;
        if (mode)
            assert_string_equal(kp_value_str(kp_value_get(files->array.items[i], "mode")), mode);
        return kp_value_str(kp_value_get(files->array.items[i], "content"));
    }
    return NULL;
}

static void decode_strictly(const struct kp_value *document)
{
    const char *api_version = kp_value_str(kp_value_get(document, "apiVersion"));
    const char *kind = kp_value_str(kp_value_get(document, "kind"));
    const struct kp_type *type = kp_type_find_api_version(api_version, kind);
    struct kp_decode options = {.strict = true};
    struct kp_error error = {0};
    void *object = NULL;
    assert_non_null(type);
    if (kp_value_to_object(type, document, arena, &options, &object, &error) < 0)
        fail_msg("%s %s: %s", api_version, kind, error.message);
    if (options.problems.len)
        fail_msg("%s %s: %s", api_version, kind, options.problems.items[0]);
}

static size_t decode_all_strictly(const char *yaml)
{
    struct kp_value **documents = NULL;
    size_t count = 0;
    struct kp_error error = {0};
    if (kp_yaml_parse(yaml, strlen(yaml), arena, &documents, &count, &error) < 0)
        fail_msg("%s\n%s", error.message, yaml);
    for (size_t i = 0; i < count; i++)
        decode_strictly(documents[i]);
    return count;
}

static void static_pods_are_pods_of_the_schema(void **state)
{
    struct bootstrap_static_pod pods[BOOTSTRAP_STATIC_PODS];
    bootstrap_static_pods(&cluster, &nodes[0], arena, pods);
    for (size_t i = 0; i < BOOTSTRAP_STATIC_PODS; i++)
        assert_int_equal(decode_all_strictly(pods[i].manifest), 1);
    assert_non_null(strstr(pods[0].manifest, "demo-cp-1=https://10.89.0.10:2380"));
    assert_non_null(strstr(pods[0].manifest, "--initial-cluster-state=new"));
    assert_non_null(strstr(pods[0].manifest, "KPROV_ETCD_BEGUN"));
    assert_non_null(strstr(pods[1].manifest, "--etcd-servers=https://127.0.0.1:2379"));
}

static void a_control_plane_joins_the_members_that_are_there(void **state)
{
    struct bootstrap_static_pod pods[BOOTSTRAP_STATIC_PODS];
    struct bootstrap_cluster joined = cluster;
    joined.etcd_members = "demo-cp-7=https://10.89.0.20:2380,demo-cp-1=https://10.89.0.10:2380";
    bootstrap_static_pods(&joined, &nodes[0], arena, pods);
    assert_non_null(strstr(pods[0].manifest, "--initial-cluster=demo-cp-7=https://10.89.0.20:2380,demo-cp-1=https://10.89.0.10:2380"));
    assert_non_null(strstr(pods[0].manifest, "--initial-cluster-state=existing"));
}

static void flags_of_the_cluster_file_replace_ours(void **state)
{
    struct bootstrap_static_pod pods[BOOTSTRAP_STATIC_PODS];
    bootstrap_static_pods(&cluster, &nodes[0], arena, pods);
    assert_non_null(strstr(pods[2].manifest, "--node-monitor-grace-period=4s"));
    assert_non_null(strstr(pods[2].manifest, "--leader-elect=false"));
    assert_null(strstr(pods[2].manifest, "--leader-elect=true"));
    assert_non_null(strstr(pods[3].manifest, "--leader-elect=true"));
}

static void services_get_addresses_of_a_network_that_is_ours_alone(void **state)
{
    struct config bridged = config;
    struct bootstrap_cluster own = cluster;
    own.machine_cidr = "10.89.3.0/24";
    assert_string_equal(bootstrap_balancer_addresses(&own, arena), "10.89.3.201-10.89.3.250");
    own.config = &bridged;
    bridged.libvirt.bridge = "br0"; /* somebody else's network */
    assert_string_equal(bootstrap_balancer_addresses(&own, arena), "");
    bridged.load_balancer.addresses = "10.89.3.7";
    assert_string_equal(bootstrap_balancer_addresses(&own, arena), "10.89.3.7");
}

static void add_ons_are_objects_of_the_schema(void **state)
{
    assert_int_equal(decode_all_strictly(bootstrap_addons(&cluster, arena)), 25);
}

static struct tls_cert *cert_of(const char *pem)
{
    struct tls_cert *cert = NULL;
    struct kp_error error = {0};
    assert_non_null(pem);
    if (tls_cert_from_pem(pem, strlen(pem), &cert, &error) < 0)
        fail_msg("%s", error.message);
    return cert;
}

static void a_control_plane_gets_what_kubeadm_would_give_it(void **state)
{
    static const char *const keys[] = {"ca", "apiserver", "apiserver-kubelet-client", "apiserver-etcd-client",
                                       "front-proxy-ca", "front-proxy-client", "sa", "etcd/ca", "etcd/server",
                                       "etcd/peer", "etcd/healthcheck-client"};
    const struct kp_value *root = user_data(&nodes[0]);
    for (size_t i = 0; i < KP_ARRAY_LEN(keys); i++)
        assert_non_null(file_content(root, kp_arena_printf(arena, "/etc/kubernetes/pki/%s.key", keys[i]), "0600"));
    assert_non_null(file_content(root, "/etc/kubernetes/admin.conf", "0600"));
    assert_non_null(file_content(root, "/etc/kubernetes/manifests/etcd.yaml", "0600"));
    const char *ca = file_content(root, "/etc/kubernetes/pki/ca.crt", "0644");
    struct tls_cert *server = cert_of(file_content(root, "/etc/kubernetes/pki/apiserver.crt", "0644"));
    assert_int_equal(tls_cert_verify(server, NULL, ca, TLS_USAGE_SERVER, 0, NULL), 0);
    assert_true(tls_cert_matches_host(server, "10.96.0.1"));
    assert_true(tls_cert_matches_host(server, "10.89.0.10"));
    assert_true(tls_cert_matches_host(server, "127.0.0.1"));
    assert_true(tls_cert_matches_host(server, "kubernetes.default.svc.cluster.local"));
    tls_cert_unref(server);
    const char *etcd_ca = file_content(root, "/etc/kubernetes/pki/etcd/ca.crt", "0644");
    struct tls_cert *client = cert_of(file_content(root, "/etc/kubernetes/pki/apiserver-etcd-client.crt", "0644"));
    assert_int_equal(tls_cert_verify(client, NULL, etcd_ca, TLS_USAGE_CLIENT, 0, NULL), 0);
    assert_true(tls_cert_verify(client, NULL, ca, TLS_USAGE_CLIENT, 0, NULL) < 0);
    tls_cert_unref(client);
}

static void a_worker_gets_no_key_but_its_own(void **state)
{
    const struct kp_value *root = user_data(&nodes[1]);
    const struct kp_value *files = kp_value_get(root, "files");
    for (size_t i = 0; i < files->array.len; i++) {
        const char *path = kp_value_str(kp_value_get(files->array.items[i], "path"));
        if (kp_ends_with(path, ".key"))
            assert_string_equal(path, "/var/lib/kubelet/pki/kubelet.key");
        assert_false(kp_starts_with(path, "/etc/kubernetes/manifests"));
    }
    KP_AUTO_BUF struct kp_buf text = {0};
    kp_value_print(kp_value_get(root, "services"), &text);
    assert_non_null(strstr(text.data, "--node-labels=kprov.dev/pool=worker,tier=app"));
    assert_non_null(strstr(text.data, "--register-with-taints=dedicated=x:NoExecute"));
}

static void keys_survive_being_written_and_read(void **state)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    struct pki *again = NULL;
    assert_int_equal(pki_print(pki, &text, NULL), 0);
    assert_int_equal(pki_parse(text.data, text.len, &again, NULL), 0);
    assert_true(tls_key_equal(again->ca.key, pki->ca.key));
    assert_true(tls_key_equal(again->service_accounts, pki->service_accounts));
    pki_free(again);
    again = NULL;
    assert_int_equal(pki_parse("{}", 2, &again, NULL), KP_ECORRUPT);
    assert_null(again);
}

static void a_context_comes_and_goes_and_the_rest_stays(void **state)
{
    static const char mine[] = "apiVersion: v1\nkind: Config\npreferences: {colors: true}\n"
                               "clusters:\n- {name: work, cluster: {server: 'https://work'}}\n"
                               "users:\n- {name: me, user: {token: t}}\n"
                               "contexts:\n- {name: work, context: {cluster: work, user: me}}\ncurrent-context: work\n";
    char dir[] = "/tmp/kprov-kubeconfig-XXXXXX";
    const char *text = NULL;
    KP_AUTO_BUF struct kp_buf merged = {0};
    assert_non_null(mkdtemp(dir));
    const char *path = kp_arena_printf(arena, "%s/a/config", dir);
    assert_int_equal(kubeconfig_make(pki, "x", cluster.endpoint, "x", "kubernetes-admin", "system:masters", arena, &text, NULL), 0);
    assert_int_equal(kubeconfig_merge(path, "kprov-x", text, NULL), 0);
    assert_int_equal(kp_write_file(path, mine, strlen(mine), 0640, NULL), 0);
    assert_int_equal(kubeconfig_merge(path, "kprov-x", text, NULL), 0);
    assert_int_equal(kubeconfig_merge(path, "kprov-x", text, NULL), 0);
    assert_int_equal(kp_read_file(path, 0, &merged, NULL), 0);
    assert_non_null(strstr(merged.data, "https://work"));
    assert_non_null(strstr(merged.data, "colors"));
    assert_non_null(strstr(merged.data, "current-context: kprov-x"));
    const char *first = strstr(merged.data, "https://10.89.0.9:6443");
    assert_non_null(first);
    assert_null(strstr(first + 1, "https://10.89.0.9:6443"));
    kp_buf_done(&merged);
    assert_int_equal(kubeconfig_unmerge(path, "kprov-x", NULL), 0);
    assert_int_equal(kp_read_file(path, 0, &merged, NULL), 0);
    assert_non_null(strstr(merged.data, "https://work"));
    assert_null(strstr(merged.data, "kprov-x"));
    assert_false(kp_path_exists(kp_arena_printf(arena, "%s.lock", path)));
    assert_int_equal(kp_remove_tree(dir, NULL), 0);
}

static void a_restore_is_for_control_planes_and_done_once(void **state)
{
    KP_AUTO(kp_blob_unref) struct kp_blob *gz = kp_blob_new("\x1f\x8b", 2);
    const struct bootstrap_restore restore = {.id = "r1", .token = "u-r1", .bump_revision = 5, .gz = gz};
    cluster.restore = &restore;
    const struct kp_value *control_plane = user_data(&nodes[0]), *worker = user_data(&nodes[1]);
    const struct kp_value *once = kp_value_at(kp_value_get(control_plane, "once"), 0);
    assert_string_equal(kp_value_str(kp_value_get(once, "id")), "r1");
    assert_string_equal(file_content(control_plane, BOOTSTRAP_RESTORE_DIR "/r1.db.gz", "0600"), "H4s=");
    assert_null(kp_value_get(worker, "once"));
    assert_null(file_content(worker, BOOTSTRAP_RESTORE_DIR "/r1.db.gz", NULL));
    static const char *const wanted[] = {"r1", "--name=demo-cp-1", "--initial-cluster=demo-cp-1=https://10.89.0.10:2380",
                                         "--initial-cluster-token=u-r1", "--initial-advertise-peer-urls=https://10.89.0.10:2380",
                                         "--bump-revision=5", "--mark-compacted"};
    const struct kp_value *command = kp_value_get(once, "command");
    assert_int_equal(command->array.len, 4 + KP_ARRAY_LEN(wanted));
    for (size_t i = 0; i < KP_ARRAY_LEN(wanted); i++)
        assert_string_equal(kp_value_str(command->array.items[4 + i]), wanted[i]);
}

static const char *manifest_of(const char *pod)
{
    return file_content(user_data(&nodes[0]), kp_arena_printf(arena, "/etc/kubernetes/manifests/%s.yaml", pod), NULL);
}

/* Leafs are issued anew with every user data; etcd and the API server read those again by themselves. */
static void a_pod_is_made_anew_when_a_file_changes_that_it_reads_once(void **state)
{
    const char *etcd = manifest_of("etcd"), *api = manifest_of("kube-apiserver"), *scheduler = manifest_of("kube-scheduler");
    assert_string_equal(manifest_of("etcd"), etcd);
    assert_string_equal(manifest_of("kube-apiserver"), api);
    assert_string_not_equal(manifest_of("kube-scheduler"), scheduler);
    assert_int_equal(pki_rotate_begin(pki, PKI_SERVICE_ACCOUNTS, NULL), 0);
    assert_string_equal(manifest_of("etcd"), etcd);
    assert_non_null(strstr(manifest_of("kube-apiserver"), "/etc/kubernetes/pki/sa.pub,/etc/kubernetes/pki/sa-other.pub"));
    assert_non_null(file_content(user_data(&nodes[0]), "/etc/kubernetes/pki/sa-other.pub", "0600"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(static_pods_are_pods_of_the_schema, setup, teardown),
        cmocka_unit_test_setup_teardown(a_control_plane_joins_the_members_that_are_there, setup, teardown),
        cmocka_unit_test_setup_teardown(flags_of_the_cluster_file_replace_ours, setup, teardown),
        cmocka_unit_test_setup_teardown(add_ons_are_objects_of_the_schema, setup, teardown),
        cmocka_unit_test_setup_teardown(services_get_addresses_of_a_network_that_is_ours_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(a_control_plane_gets_what_kubeadm_would_give_it, setup, teardown),
        cmocka_unit_test_setup_teardown(a_worker_gets_no_key_but_its_own, setup, teardown),
        cmocka_unit_test_setup_teardown(a_restore_is_for_control_planes_and_done_once, setup, teardown),
        cmocka_unit_test_setup_teardown(a_pod_is_made_anew_when_a_file_changes_that_it_reads_once, setup, teardown),
        cmocka_unit_test_setup_teardown(keys_survive_being_written_and_read, setup, teardown),
        cmocka_unit_test_setup_teardown(a_context_comes_and_goes_and_the_rest_stays, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
