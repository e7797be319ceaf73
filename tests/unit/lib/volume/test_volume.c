/* Which volume fits which claim. */
#include "lib/volume/volume.h"
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

static const struct k8s_persistent_volume_claim *claim_of(const char *spec)
{
    return test_object(&k8s_persistent_volume_claim_type, arena,
                       kp_arena_printf(arena, "{metadata: {name: data, namespace: shop, uid: u1}, spec: {%s}}", spec));
}

static const struct k8s_persistent_volume *volume_of(const char *name, const char *spec, const char *status)
{
    return test_object(&k8s_persistent_volume_type, arena,
                       kp_arena_printf(arena, "{metadata: {name: %s, labels: {disk: %s}}, spec: {%s}, status: {%s}}", name, name, spec, status));
}

#define WANTED "accessModes: [ReadWriteOnce], storageClassName: fast, resources: {requests: {storage: 1Gi}}"
#define HAS(size) "accessModes: [ReadWriteOnce], storageClassName: fast, capacity: {storage: " size "}"
#define FREE "phase: Available"

static const char *found(const struct k8s_persistent_volume_claim *claim, const struct k8s_persistent_volume *const *volumes, size_t n,
                         const struct k8s_node *node, bool delayed)
{
    size_t i = volume_find(claim, volumes, n, node, delayed, NULL);
    return i < n ? volumes[i]->metadata->name : "none";
}

static void the_smallest_that_fits_is_found(void **state)
{
    (void)state;
    const struct k8s_persistent_volume *volumes[] = {
        volume_of("large", HAS("8Gi"), FREE),
        volume_of("middle", HAS("2Gi"), FREE),
        volume_of("small", HAS("512Mi"), FREE),
        volume_of("slow", "accessModes: [ReadWriteOnce], capacity: {storage: 1Gi}", FREE),
        volume_of("raw", HAS("1Gi") ", volumeMode: Block", FREE),
        volume_of("shared", "accessModes: [ReadWriteMany], storageClassName: fast, capacity: {storage: 1Gi}", FREE),
        volume_of("gone", HAS("1Gi"), "phase: Released"),
        volume_of("other", HAS("1Gi") ", claimRef: {namespace: shop, name: other}", FREE),
    };
    const size_t n = KP_ARRAY_LEN(volumes);
    assert_string_equal(found(claim_of(WANTED), volumes, n, NULL, false), "middle");
    assert_string_equal(found(claim_of(WANTED), volumes, n, NULL, true), "none");
    assert_string_equal(found(claim_of(WANTED ", selector: {matchLabels: {disk: large}}"), volumes, n, NULL, false), "large");
    assert_string_equal(found(claim_of(WANTED ", volumeMode: Block"), volumes, n, NULL, false), "raw");
    assert_string_equal(found(claim_of("accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}"), volumes, n, NULL, false), "slow");
    const bool taken[KP_ARRAY_LEN(volumes)] = {false, true};
    assert_int_equal(volume_find(claim_of(WANTED), volumes, n, NULL, false, taken), 0);
}

static void one_that_was_meant_for_the_claim_comes_first(void **state)
{
    (void)state;
    const struct k8s_persistent_volume *volumes[] = {
        volume_of("free", HAS("1Gi"), FREE),
        volume_of("meant", HAS("4Gi") ", claimRef: {namespace: shop, name: data}", FREE),
    };
    assert_string_equal(found(claim_of(WANTED), volumes, 2, NULL, false), "meant");
    assert_string_equal(found(claim_of(WANTED), volumes, 2, NULL, true), "meant");
    const struct k8s_persistent_volume *of_an_earlier_claim[] = {volume_of("meant", HAS("4Gi") ", claimRef: {namespace: shop, name: data, uid: u0}", FREE)};
    assert_string_equal(found(claim_of(WANTED), of_an_earlier_claim, 1, NULL, false), "none");
}

static void a_volume_must_reach_the_node(void **state)
{
    (void)state;
#define AT(node) ", nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [" node "]}]}]}}"
    const struct k8s_node *here = test_object(&k8s_node_type, arena, "{metadata: {name: n1, labels: {kubernetes.io/hostname: n1}}}");
    const struct k8s_persistent_volume *volumes[] = {volume_of("there", HAS("1Gi") AT("n2"), FREE), volume_of("here", HAS("2Gi") AT("n1"), FREE)};
    assert_false(volume_reaches_node(volumes[0], here));
    assert_string_equal(found(claim_of(WANTED), volumes, 2, here, true), "here");
    assert_string_equal(found(claim_of(WANTED), volumes, 1, here, true), "none");
    const struct k8s_persistent_volume *meant[] = {volume_of("meant", HAS("1Gi") AT("n2") ", claimRef: {namespace: shop, name: data}", FREE), volumes[1]};
    assert_string_equal(volume_only_host(volumes[1]), "n1");
    assert_null(volume_only_host(volume_of("two", HAS("1Gi") AT("n1, n2"), FREE)));
    assert_null(volume_only_host(volume_of("any", HAS("1Gi"), FREE)));
    assert_string_equal(found(claim_of(WANTED), meant, 2, here, true), "none"); /* its own is out of reach: no other will do */
}

static void a_misfit_is_told_in_upstreams_words(void **state)
{
    (void)state;
    assert_null(volume_misfit(volume_of("v", HAS("1Gi"), FREE), claim_of(WANTED)));
    assert_string_equal(volume_misfit(volume_of("v", HAS("1M"), FREE), claim_of(WANTED)), "requested PV is too small");
    assert_string_equal(volume_misfit(volume_of("v", HAS("1Gi"), FREE), claim_of("resources: {requests: {storage: 1Gi}}")), "storageClassName does not match");
    assert_string_equal(volume_misfit(volume_of("v", HAS("1Gi") ", volumeMode: Block", FREE), claim_of(WANTED)), "incompatible volumeMode");
    assert_string_equal(volume_misfit(volume_of("v", "storageClassName: fast, capacity: {storage: 1Gi}", FREE), claim_of(WANTED)), "incompatible accessMode");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_smallest_that_fits_is_found, begin, end),
        cmocka_unit_test_setup_teardown(one_that_was_meant_for_the_claim_comes_first, begin, end),
        cmocka_unit_test_setup_teardown(a_volume_must_reach_the_node, begin, end),
        cmocka_unit_test_setup_teardown(a_misfit_is_told_in_upstreams_words, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
