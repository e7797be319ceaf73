/* What a machine says of itself, and what of that keeps it from becoming a node. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "lib/cloud/external/external_internal.h"

static const char good[] = "root=0\narch=x86_64\nkernel=6.1.0-37-amd64\nnow=1000\ndiskMB=20000\nfilesystem=ext2/ext3\nmemoryMB=2000\n"
                           "ports=22 53 \nnameservers=10.0.0.2 10.0.0.3 \nmissingTools=\nmissingFeatures=\nleftovers=\nzstd=yes\n";

/* The problems of the good facts with one line replaced, as one text. */
static void expect(const char *key, const char *line, bool control_plane, const char *part)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf facts = {0}, text = {0};
    struct kp_strings problems = {0};
    const struct external_wanted wanted = {.arch = "x86_64", .control_plane = control_plane, .now_s = 1000, .clock_error_s = 1};
    const char *at = key ? strstr(good, key) : NULL;
    kp_buf_append(&facts, good, at ? (size_t)(at - good) : sizeof(good) - 1);
    if (at)
        kp_buf_printf(&facts, "%s\n%s", line, strchr(at, '\n') + 1);
    external_check_facts(facts.data, &wanted, arena, &problems);
    for (size_t i = 0; i < problems.len; i++)
        kp_buf_printf(&text, "%s\n", problems.items[i]);
    if (!part)
        assert_int_equal(problems.len, 0);
    else if (problems.len != 1 || !strstr(text.data, part))
        fail_msg("%zu problems: %s", problems.len, text.len ? text.data : "");
    kp_strings_done(&problems);
}

static void good_machine_has_no_problem(void **state)
{
    expect(NULL, NULL, true, NULL);
    expect("now=", "now=1030", true, NULL);
    expect("ports=", "ports=22 6443 2379 2380 ", false, NULL);
    expect("ports=", "ports=16443 102500 22500 ", true, NULL);
    expect("filesystem=", "filesystem=xfs", true, NULL);
    expect("kernel=", "kernel=5.10.0", true, NULL);
    expect("filesystem=", "filesystem=", true, NULL);
}

static void every_fault_is_told_with_its_remedy(void **state)
{
    expect("root=", "root=1000", true, "sudo without a password");
    expect("arch=", "arch=aarch64", true, "its architecture is aarch64, the node image's x86_64");
    expect("kernel=", "kernel=5.4.0-150", true, "at least 5.10 is needed");
    expect("kernel=", "kernel=", true, "at least 5.10 is needed");
    expect("now=", "now=900", true, "its clock is 100 s off: set it");
    expect("now=", "now=1100", true, "NTP");
    expect("diskMB=", "diskMB=100", true, "/var/lib has 100 MB free, 3000 are needed");
    expect("filesystem=", "filesystem=overlayfs", true, "mount a disk with ext4 or xfs there");
    expect("filesystem=", "filesystem=nfs", true, "would be on nfs");
    expect("memoryMB=", "memoryMB=512", true, "it has 512 MB of memory");
    expect("ports=", "ports=22 6443 ", true, "port 6443, which kube-apiserver needs, is in use: stop what listens there");
    expect("ports=", "ports=10250 6443 ", false, "port 10250, which kubelet needs");
    expect("missingTools=", "missingTools=unshare ", true, "the programs unshare are missing: install");
    expect("missingFeatures=", "missingFeatures=br_netfilter ", true, "its kernel lacks br_netfilter");
    expect("leftovers=", "leftovers=/etc/kubernetes/kubelet.conf ", true, "kubeadm reset");
}

static void machine_that_says_nothing_is_refused(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_strings problems = {0};
    const struct external_wanted wanted = {.arch = "x86_64"};
    external_check_facts("", &wanted, arena, &problems);
    assert_true(problems.len > 0);
    kp_strings_done(&problems);
}

static void values_are_found_by_their_whole_key(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    assert_string_equal(external_value(good, "nameservers", arena), "10.0.0.2 10.0.0.3");
    assert_string_equal(external_value(good, "name", arena), "");
    assert_string_equal(external_value("xname=1\nname=a=b", "name", arena), "a=b");
    assert_string_equal(external_value(NULL, "name", arena), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_machine_has_no_problem),
        cmocka_unit_test(every_fault_is_told_with_its_remedy),
        cmocka_unit_test(machine_that_says_nothing_is_refused),
        cmocka_unit_test(values_are_found_by_their_whole_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
