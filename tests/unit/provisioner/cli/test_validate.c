/* The judgements of `kprov validate cluster`, the certificates it reads, the events' order and the tree of a description. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "provisioner/bootstrap/bootstrap.h"
#include "provisioner/cli/describe_internal.h"
#include "provisioner/cli/events_internal.h"
#include "provisioner/cli/validate_internal.h"

#define DAY_S 86400LL

static void certificates_warn_before_they_fail(void **state)
{
    assert_int_equal(validate_certificate_age(1000 * DAY_S, 0), VALIDATE_OK);
    assert_int_equal(validate_certificate_age(30 * DAY_S, 0), VALIDATE_OK);
    assert_int_equal(validate_certificate_age(30 * DAY_S - 1, 0), VALIDATE_WARNING);
    assert_int_equal(validate_certificate_age(7 * DAY_S, 0), VALIDATE_WARNING);
    assert_int_equal(validate_certificate_age(7 * DAY_S - 1, 0), VALIDATE_FAILED);
    assert_int_equal(validate_certificate_age(0, DAY_S), VALIDATE_FAILED);
}

static void snapshots_that_do_not_come_are_warned_of(void **state)
{
    const int64_t twice_a_day = DAY_S / 2;
    assert_int_equal(validate_snapshot_age(0, 1000, twice_a_day, 1000 + 600 + DAY_S / 4), VALIDATE_OK);
    assert_int_equal(validate_snapshot_age(0, 1000, twice_a_day, 1000 + 600 + DAY_S / 4 + 1), VALIDATE_WARNING);
    assert_int_equal(validate_snapshot_age(5 * DAY_S, 1000, twice_a_day, 5 * DAY_S + DAY_S * 3 / 4), VALIDATE_OK);
    assert_int_equal(validate_snapshot_age(5 * DAY_S, 1000, twice_a_day, 5 * DAY_S + DAY_S * 3 / 4 + 1), VALIDATE_WARNING);
    assert_int_equal(validate_snapshot_age(5 * DAY_S, 1000, 5, 5 * DAY_S + 305), VALIDATE_OK);
    assert_int_equal(validate_snapshot_age(5 * DAY_S, 1000, 5, 5 * DAY_S + 306), VALIDATE_WARNING);
}

static void a_lease_is_fresh_until_it_has_run_out(void **state)
{
    assert_true(validate_lease_is_fresh(100, 15, 100));
    assert_true(validate_lease_is_fresh(100, 15, 115));
    assert_true(validate_lease_is_fresh(100, 15, 120));
    assert_false(validate_lease_is_fresh(100, 15, 121));
}

static void certificates_are_found_in_pem_and_in_kubeconfigs(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(pki_free) struct pki *pki = NULL;
    KP_AUTO_BUF struct kp_buf text = {0}, encoded = {0};
    struct cli_certificate_list list = {0};
    struct kp_error error = {0};
    const char *cert = NULL, *key = NULL;
    assert_int_equal(pki_create(&pki, &error), 0);
    const struct pki_leaf leaf = {.common_name = "kube-apiserver", .usages = TLS_USAGE_SERVER};
    assert_int_equal(pki_issue(&pki->ca, &leaf, arena, &cert, &key, &error), 0);
    kp_base64_encode(&encoded, cert, strlen(cert));
    kp_buf_printf(&text, "## /etc/kubernetes/pki/a.crt\n%s## /etc/kubernetes/admin.conf\n    client-certificate-data: %s\n## /etc/empty.crt\n## /etc/bad.crt\n"
                         "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", cert, encoded.data);
    cli_certificates_parse("m1", text.data, text.len, arena, &list);
    assert_int_equal(list.len, 2);
    assert_string_equal(list.items[0].where, "m1:/etc/kubernetes/pki/a.crt");
    assert_string_equal(list.items[0].subject, "kube-apiserver");
    assert_string_equal(list.items[1].where, "m1:/etc/kubernetes/admin.conf");
    assert_true(list.items[1].not_after_s == list.items[0].not_after_s);
    assert_int_equal(list.problems.len, 1);
    assert_non_null(strstr(list.problems.items[0], "m1:/etc/bad.crt: "));
    cli_certificates_parse("m2", "no heading\n", 11, arena, &list);
    cli_certificates_parse("m2", "", 0, arena, &list);
    assert_int_equal(list.len, 2);
}

static void events_come_by_time_and_on_one_line(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct events events = {.arena = arena};
    events_add(&events, 30, "cluster", "c", "C", "a\nb\tc");
    events_add(&events, 10, "kprov", "a", "A", "");
    for (int i = 0; i < 200; i++)
        events_add(&events, 20, "machine", kp_arena_printf(arena, "m%d", i), "B", "");
    events_sort(&events);
    assert_int_equal(events.len, 202);
    assert_string_equal(events.rows[0].object, "a");
    assert_string_equal(events.rows[1].object, "m0");
    assert_string_equal(events.rows[200].object, "m199");
    assert_string_equal(events.rows[201].message, "a b c");
}

static void a_description_is_a_tree(void **state)
{
    static const char text[] =
        "{\"name\":\"demo\",\"phase\":\"ready\",\"uid\":\"u\",\"provider\":\"local\",\"createdAt\":\"t\",\"version\":\"v1.36.0\",\"image\":\"node-1\","
        "\"endpoint\":\"https://1\",\"deletionProtection\":true,\"network\":{\"machineCIDR\":\"10.89.0.0/24\",\"gateway\":\"10.89.0.1\",\"podCIDR\":\"p\","
        "\"serviceCIDR\":\"s\",\"dnsDomain\":\"d\"},\"controlPlane\":{\"replicas\":1,\"machines\":[{\"name\":\"demo-cp-1\",\"address\":\"10.89.0.10\","
        "\"power\":\"on\",\"ready\":\"Ready\",\"version\":\"v1.36.0\",\"etcd\":{\"id\":\"ab\",\"healthy\":true,\"leader\":true,\"dbSizeBytes\":2048},"
        "\"staticPods\":[{\"name\":\"etcd\",\"state\":\"Running\",\"ready\":true,\"restarts\":2}]}]},"
        "\"pools\":[{\"name\":\"worker\",\"replicas\":2,\"machines\":[]}],\"addOns\":[{\"kind\":\"DaemonSet\",\"name\":\"kube-proxy\",\"ready\":1,\"wanted\":2}],"
        "\"certificates\":[],\"problems\":[\"nodes: no answer\"]}";
    static const char expected[] =
        "cluster demo  ready  protected\n"
        "├─ provider  local, uid u, created t\n"
        "├─ version   v1.36.0, image node-1\n"
        "├─ endpoint  https://1\n"
        "├─ network\n"
        "│  ├─ machines  10.89.0.0/24, gateway 10.89.0.1\n"
        "│  ├─ pods      p\n"
        "│  ├─ services  s\n"
        "│  └─ domain    d\n"
        "├─ control plane  1 of 1 machines\n"
        "│  └─ demo-cp-1  10.89.0.10  on  Ready  v1.36.0\n"
        "│     ├─ etcd member ab: healthy, leader, 2 KiB\n"
        "│     └─ etcd  Running, 2 restarts\n"
        "├─ pool worker  0 of 2 machines\n"
        "├─ add-ons\n"
        "│  └─ DaemonSet kube-proxy  1 of 2 ready\n"
        "├─ certificates  none\n"
        "└─ not known\n"
        "   └─ nodes: no answer\n";
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf out = {0};
    struct kp_value *value = NULL;
    assert_int_equal(kp_value_parse(text, sizeof(text) - 1, arena, NULL, &value, NULL), 0);
    describe_tree(value, &out);
    assert_string_equal(out.data, expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(certificates_warn_before_they_fail),
        cmocka_unit_test(snapshots_that_do_not_come_are_warned_of),
        cmocka_unit_test(a_lease_is_fresh_until_it_has_run_out),
        cmocka_unit_test(certificates_are_found_in_pem_and_in_kubeconfigs),
        cmocka_unit_test(events_come_by_time_and_on_one_line),
        cmocka_unit_test(a_description_is_a_tree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
