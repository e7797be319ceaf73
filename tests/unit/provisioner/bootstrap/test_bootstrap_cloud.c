/* Bootstrap on a cloud: what the cloud-controller-manager is given, names of the API, and small enough user data. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "lib/archive/archive.h"
#include "provisioner/bootstrap/bootstrap.h"
#include "provisioner/remote/remote.h"

#define AWS_USER_DATA_MAX 16384 /* bytes, the least that a cloud takes */

static struct kp_arena *arena;
static struct config config;
static struct pki *pki;
static struct bootstrap_node nodes[9];
static struct bootstrap_cloud cloud;
static struct remote_keys ssh;
static struct bootstrap_cluster cluster;

static int setup(void **state)
{
    static const char *const names[] = {"203.0.113.7", "api.example.com", NULL};
    arena = kp_arena_new(0);
    memset(&ssh, 7, sizeof(ssh));
    config_default("a-name-as-long-as-clusters-have", 7, 2, arena, &config);
    for (size_t i = 0; i < KP_ARRAY_LEN(nodes); i++)
        nodes[i] = (struct bootstrap_node){
            .name = kp_arena_printf(arena, "a-name-as-long-as-clusters-have-%s-%zu", i < 7 ? "cp" : "worker", i), .address = kp_arena_printf(arena, "10.60.0.1%zu", i),
            .gateway = "10.60.0.1", .nameservers = "", .prefix_len = 24, .control_plane = i < 7, .pool = i < 7 ? NULL : &config.pools[0],
            .provider_id = "", .dhcp = true,
        };
    cloud = (struct bootstrap_cloud){.driver = "openstack"};
    kp_string_map_set(arena, &cloud.files, BOOTSTRAP_CLOUD_CONFIG, "{}");
    kp_string_map_set(arena, &cloud.files, "credentials", "secret");
    cluster = (struct bootstrap_cluster){
        .config = &config, .endpoint = "https://10.60.0.9:6443", .api_address = "10.60.0.9", .api_names = names, .uid = "123e4567-e89b-12d3-a456-426614174000",
        .cloud = &cloud, .ssh = &ssh, .nodes = nodes, .n_nodes = KP_ARRAY_LEN(nodes), .machine_cidr = "10.60.0.0/24",
    };
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

static void user_data_of(const struct bootstrap_node *node, struct kp_buf *out)
{
    struct kp_error error = {0};
    if (bootstrap_user_data(&cluster, node, out, &error) < 0)
        fail_msg("%s", error.message);
}

static const char *file_of(const struct kp_buf *user_data, const char *path)
{
    struct kp_value *root = NULL;
    assert_int_equal(kp_value_parse(user_data->data, user_data->len, arena, NULL, &root, NULL), 0);
    const struct kp_value *files = kp_value_get(root, "files");
    for (size_t i = 0; i < files->array.len; i++)
        if (kp_streq(kp_value_str(kp_value_get(files->array.items[i], "path")), path))
            return kp_value_str(kp_value_get(files->array.items[i], "content"));
    return NULL;
}

static void machines_with_a_clock_of_their_own_are_told_whom_to_ask(void **state)
{
    static const char *const rows[][3] = {
        {"local", "ntp.example", NULL},
        {"external", "", NULL},
        {"libvirt", "", "{\"servers\":[],\"cloudServers\":[]}"},
        {"openstack", "ntp.example 192.0.2.1", "{\"servers\":[\"ntp.example\",\"192.0.2.1\"],\"cloudServers\":[]}"},
        {"aws", "", "{\"servers\":[],\"cloudServers\":[\"169.254.169.123\"]}"},
        {"hetzner", "", "{\"servers\":[],\"cloudServers\":[\"ntp1.hetzner.de\",\"ntp2.hetzner.de\",\"ntp3.hetzner.de\"]}"},
    };
    const struct config before = config;
    for (size_t i = 0; i < KP_ARRAY_LEN(rows); i++) {
        KP_AUTO_BUF struct kp_buf user_data = {0}, time = {0};
        struct kp_value *root = NULL;
        config.provider = rows[i][0];
        config.time_servers = rows[i][1];
        user_data_of(&nodes[8], &user_data);
        assert_int_equal(kp_value_parse(user_data.data, user_data.len, arena, NULL, &root, NULL), 0);
        if (kp_value_get(root, "time"))
            kp_value_print(kp_value_get(root, "time"), &time);
        if (rows[i][2])
            assert_string_equal(time.data, rows[i][2]);
        else
            assert_int_equal(time.len, 0);
    }
    config = before;
}

/* Also of the largest control plane there may be, and while authorities are rotated. */
static void user_data_fit_into_what_clouds_take(void **state)
{
    KP_AUTO_BUF struct kp_buf text = {0}, gz = {0}, rotating = {0}, rotating_gz = {0};
    user_data_of(&nodes[0], &text);
    assert_int_equal(archive_gzip(text.data, text.len, &gz, NULL), 0);
    assert_int_equal(pki_rotate_begin(pki, PKI_CLUSTER, NULL), 0);
    user_data_of(&nodes[0], &rotating);
    assert_int_equal(archive_gzip(rotating.data, rotating.len, &rotating_gz, NULL), 0);
    print_message("control plane: %zu bytes, %zu in gzip, %zu while its authority is rotated\n", text.len, gz.len, rotating_gz.len);
    assert_true(gz.len < AWS_USER_DATA_MAX);
    assert_true(rotating_gz.len < AWS_USER_DATA_MAX);
}

static void a_machine_of_a_cloud_asks_for_its_addresses(void **state)
{
    KP_AUTO_BUF struct kp_buf text = {0}, named = {0};
    user_data_of(&nodes[8], &text);
    assert_null(strstr(text.data, "\"network\""));
    assert_null(strstr(text.data, "providerID"));
    assert_non_null(strstr(text.data, "--cloud-provider=external"));
    assert_null(file_of(&text, "/etc/resolv.conf"));
    nodes[8].nameservers = "10.60.0.2";
    user_data_of(&nodes[8], &named);
    assert_string_equal(file_of(&named, "/etc/resolv.conf"), "nameserver 10.60.0.2\n");
    nodes[8].nameservers = "";
}

static void the_api_is_known_by_its_public_names(void **state)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    struct tls_cert *cert = NULL;
    user_data_of(&nodes[0], &text);
    const char *pem = file_of(&text, "/etc/kubernetes/pki/apiserver.crt");
    assert_int_equal(tls_cert_from_pem(pem, strlen(pem), &cert, NULL), 0);
    assert_true(tls_cert_matches_host(cert, "203.0.113.7"));
    assert_true(tls_cert_matches_host(cert, "api.example.com"));
    assert_true(tls_cert_matches_host(cert, "10.60.0.9"));
    assert_false(tls_cert_matches_host(cert, "203.0.113.8"));
    tls_cert_unref(cert);
    assert_non_null(strstr(file_of(&text, "/etc/kubernetes/manifests/kprov-vip.yaml"), "--address=10.60.0.9"));
}

static void behind_a_load_balancer_nobody_holds_an_address(void **state)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    cluster.api_address = "";
    user_data_of(&nodes[0], &text);
    assert_null(file_of(&text, "/etc/kubernetes/manifests/kprov-vip.yaml"));
    assert_null(file_of(&text, "/etc/kubernetes/vip.conf"));
    assert_non_null(file_of(&text, "/etc/kubernetes/manifests/kube-scheduler.yaml"));
}

static void the_manager_gets_its_files_and_flags(void **state)
{
    const char *text = bootstrap_addons(&cluster, arena);
    assert_non_null(strstr(text, "kind: Secret\nmetadata: {name: cloud-config, namespace: kube-system}\ntype: Opaque\ndata:\n  cloud.conf: e30=\n  credentials: c2VjcmV0\n"));
    assert_null(strstr(text, "secret\n"));
    assert_non_null(strstr(text, "--cloud-provider=openstack"));
    assert_non_null(strstr(text, "--cloud-config=/etc/kubernetes/cloud/cloud.conf"));
    assert_non_null(strstr(text, "--cluster-uid=123e4567-e89b-12d3-a456-426614174000"));
    assert_non_null(strstr(text, "--configure-cloud-routes=false"));
    assert_non_null(strstr(text, "secretName: cloud-config"));
    assert_string_equal(bootstrap_balancer_addresses(&cluster, arena), "");
    struct kp_value **documents = NULL;
    size_t count = 0;
    assert_int_equal(kp_yaml_parse(text, strlen(text), arena, &documents, &count, NULL), 0);
    cluster.cloud = NULL;
    const char *without = bootstrap_addons(&cluster, arena);
    assert_null(strstr(without, "cloud-config"));
    assert_null(strstr(without, "--cloud-provider"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(machines_with_a_clock_of_their_own_are_told_whom_to_ask, setup, teardown),
        cmocka_unit_test_setup_teardown(user_data_fit_into_what_clouds_take, setup, teardown),
        cmocka_unit_test_setup_teardown(a_machine_of_a_cloud_asks_for_its_addresses, setup, teardown),
        cmocka_unit_test_setup_teardown(the_api_is_known_by_its_public_names, setup, teardown),
        cmocka_unit_test_setup_teardown(behind_a_load_balancer_nobody_holds_an_address, setup, teardown),
        cmocka_unit_test_setup_teardown(the_manager_gets_its_files_and_flags, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
