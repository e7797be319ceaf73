/* The four kinds of patch on real types, and who owns what afterwards. */
#include "api/k8s.h"
#include "controlplane/apiserver/patch/patch_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

struct fixture {
    struct kp_arena *arena;
    struct api_status status;
};

static int set_up(void **state)
{
    struct fixture *f = kp_calloc(1, sizeof(*f));
    f->arena = kp_arena_new(0);
    f->status = API_STATUS(f->arena);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    kp_arena_free(f->arena);
    free(f);
    return 0;
}

static void *object(struct fixture *f, const struct kp_type *type, const char *json)
{
    void *obj = NULL;
    struct kp_error error = {0};
    if (kp_json_decode(type, json, strlen(json), f->arena, NULL, &obj, &error) < 0)
        fail_msg("%s", error.message);
    return obj;
}

static const char *text(struct fixture *f, const struct kp_type *type, const void *obj, const char *a, const char *b)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    const struct kp_value *v = kp_value_get(kp_value_from_object(type, obj, f->arena), a);
    v = b ? kp_value_get(v, b) : v;
    if (!v)
        return "absent";
    kp_value_print_sorted(v, &out);
    return kp_arena_strdup(f->arena, out.data);
}

/* The result, or NULL with f->status set. */
static void *patch(struct fixture *f, const struct kp_type *type, enum patch_kind kind, const void *current, const char *body)
{
    const struct patch_request request = {.kind = kind, .body = body, .body_len = strlen(body), .field_manager = "m", .subresource = "", .now_s = 1};
    void *obj = NULL;
    f->status = API_STATUS(f->arena);
    return patch_apply(type, &request, current, f->arena, NULL, &obj, &f->status) < 0 ? NULL : obj;
}

static void *apply(struct fixture *f, const struct kp_type *type, const char *manager, bool force, const void *current, const char *body)
{
    const struct patch_request request = {.kind = PATCH_APPLY, .body = body, .body_len = strlen(body), .field_manager = manager, .force = force,
                                          .subresource = "", .now_s = 2};
    void *obj = NULL;
    f->status = API_STATUS(f->arena);
    return patch_apply(type, &request, current, f->arena, NULL, &obj, &f->status) < 0 ? NULL : obj;
}

#define CONFIG_MAP "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"m\",\"namespace\":\"d\"},\"data\":"

/* ---- JSON patch -------------------------------------------------------------------------------------------------------- */
static void json_patch_does_all_six_operations(void **state)
{
    struct fixture *f = *state;
    void *map = object(f, &k8s_config_map_type, CONFIG_MAP "{\"a\":\"1\",\"b/c\":\"2\"}}");
    void *got = patch(f, &k8s_config_map_type, PATCH_JSON, map,
                      "[{\"op\":\"test\",\"path\":\"/data/a\",\"value\":\"1\"},{\"op\":\"add\",\"path\":\"/data/n\",\"value\":\"3\"},"
                      "{\"op\":\"replace\",\"path\":\"/data/a\",\"value\":\"4\"},{\"op\":\"move\",\"from\":\"/data/b~1c\",\"path\":\"/data/d\"},"
                      "{\"op\":\"copy\",\"from\":\"/data/a\",\"path\":\"/data/e\"},{\"op\":\"remove\",\"path\":\"/data/n\"}]");
    assert_non_null(got);
    assert_string_equal(text(f, &k8s_config_map_type, got, "data", NULL), "{\"a\":\"4\",\"d\":\"2\",\"e\":\"4\"}");
    assert_string_equal(text(f, &k8s_config_map_type, map, "data", NULL), "{\"a\":\"1\",\"b/c\":\"2\"}"); /* untouched */
}

static void json_patch_inserts_into_lists(void **state)
{
    struct fixture *f = *state;
    void *sa = object(f, &k8s_service_account_type, "{\"metadata\":{\"name\":\"s\",\"finalizers\":[\"a\",\"c\"]}}");
    void *got = patch(f, &k8s_service_account_type, PATCH_JSON, sa,
                      "[{\"op\":\"add\",\"path\":\"/metadata/finalizers/1\",\"value\":\"b\"},{\"op\":\"add\",\"path\":\"/metadata/finalizers/-\",\"value\":\"d\"},"
                      "{\"op\":\"replace\",\"path\":\"/metadata/finalizers/0\",\"value\":\"z\"}]");
    assert_string_equal(text(f, &k8s_service_account_type, got, "metadata", "finalizers"), "[\"z\",\"b\",\"c\",\"d\"]");
    assert_null(patch(f, &k8s_service_account_type, PATCH_JSON, sa, "[{\"op\":\"add\",\"path\":\"/metadata/finalizers/3\",\"value\":\"b\"}]"));
    assert_null(patch(f, &k8s_service_account_type, PATCH_JSON, sa, "[{\"op\":\"remove\",\"path\":\"/metadata/finalizers/01\"}]"));
}

static void json_patch_fails_whole(void **state)
{
    struct fixture *f = *state;
    void *map = object(f, &k8s_config_map_type, CONFIG_MAP "{\"a\":\"1\"}}");
    static const char *const bad[] = {
        "[{\"op\":\"test\",\"path\":\"/data/a\",\"value\":\"2\"}]", "[{\"op\":\"remove\",\"path\":\"/data/x\"}]", "[{\"op\":\"replace\",\"path\":\"/data/x\",\"value\":\"1\"}]",
        "[{\"op\":\"add\",\"path\":\"/x/y/z\",\"value\":\"1\"}]",    "[{\"op\":\"jump\",\"path\":\"/data\"}]",  "[{\"op\":\"remove\",\"path\":\"\"}]",
        "[{\"op\":\"move\",\"from\":\"/data\",\"path\":\"/data/x\"}]",
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(bad); i++) {
        assert_null(patch(f, &k8s_config_map_type, PATCH_JSON, map, bad[i]));
        assert_int_equal(f->status.http_status, 422);
    }
    assert_null(patch(f, &k8s_config_map_type, PATCH_JSON, map, "{}"));
    assert_int_equal(f->status.http_status, 400);
}

static void json_patch_copies_are_bounded(void **state)
{
    struct fixture *f = *state;
    void *map = object(f, &k8s_config_map_type, CONFIG_MAP "{\"a\":\"0123456789\"}}");
    KP_AUTO_BUF struct kp_buf body = {0};
    kp_buf_putc(&body, '[');
    for (int i = 0; i < 60; i++)
        kp_buf_printf(&body, "%s{\"op\":\"copy\",\"from\":\"\",\"path\":\"/x%d\"}", i ? "," : "", i);
    kp_buf_putc(&body, ']');
    assert_null(patch(f, &k8s_config_map_type, PATCH_JSON, map, body.data));
    assert_int_equal(f->status.http_status, 413);
}

/* ---- merge patch --------------------------------------------------------------------------------------------------------- */
static void merge_patch_merges_objects_and_replaces_lists(void **state)
{
    struct fixture *f = *state;
    void *map = object(f, &k8s_config_map_type, CONFIG_MAP "{\"a\":\"1\",\"b\":\"2\"}}");
    void *got = patch(f, &k8s_config_map_type, PATCH_MERGE, map, "{\"data\":{\"a\":null,\"c\":\"3\"},\"metadata\":{\"finalizers\":[\"x\"]}}");
    assert_string_equal(text(f, &k8s_config_map_type, got, "data", NULL), "{\"b\":\"2\",\"c\":\"3\"}");
    got = patch(f, &k8s_config_map_type, PATCH_MERGE, got, "{\"metadata\":{\"finalizers\":[\"y\"]}}");
    assert_string_equal(text(f, &k8s_config_map_type, got, "metadata", "finalizers"), "[\"y\"]");
    assert_null(patch(f, &k8s_config_map_type, PATCH_MERGE, map, "[]"));
}

/* ---- strategic merge patch ----------------------------------------------------------------------------------------------- */
#define POD "{\"metadata\":{\"name\":\"p\"},\"spec\":{\"containers\":[{\"name\":\"a\",\"image\":\"1\",\"ports\":[{\"containerPort\":80}]},{\"name\":\"b\",\"image\":\"2\"}]}}"

static const char *names(struct fixture *f, const void *obj)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    const struct k8s_pod *pod = obj;
    if (!obj)
        fail_msg("%s", f->status.message);
    for (size_t i = 0; i < pod->spec->containers.len; i++)
        kp_buf_printf(&out, "%s%s=%s", i ? " " : "", pod->spec->containers.items[i].name, pod->spec->containers.items[i].image);
    return kp_arena_strdup(f->arena, out.data ? out.data : "");
}

static const char *strategic(struct fixture *f, const char *body)
{
    return names(f, patch(f, &k8s_pod_type, PATCH_STRATEGIC, object(f, &k8s_pod_type, POD), body));
}

static void strategic_merges_containers_by_name(void **state)
{
    struct fixture *f = *state;
    assert_string_equal(strategic(f, "{\"spec\":{\"containers\":[{\"name\":\"b\",\"image\":\"3\"},{\"name\":\"c\",\"image\":\"4\"}]}}"), "a=1 b=3 c=4");
    assert_string_equal(strategic(f, "{\"spec\":{\"containers\":[{\"name\":\"a\",\"$patch\":\"delete\"}]}}"), "b=2");
    assert_string_equal(strategic(f, "{\"spec\":{\"containers\":[{\"$patch\":\"replace\"},{\"name\":\"z\",\"image\":\"9\"}]}}"), "z=9");
    assert_null(patch(f, &k8s_pod_type, PATCH_STRATEGIC, object(f, &k8s_pod_type, POD), "{\"spec\":{\"containers\":[{\"image\":\"3\"}]}}"));
    assert_string_equal(f->status.message, "map: name does not contain declared merge key");
    assert_null(patch(f, &k8s_pod_type, PATCH_STRATEGIC, object(f, &k8s_pod_type, POD), "{\"spec\":{\"$patch\":\"dance\"}}"));
}

static void strategic_orders_elements(void **state)
{
    struct fixture *f = *state;
    assert_string_equal(strategic(f, "{\"spec\":{\"$setElementOrder/containers\":[{\"name\":\"b\"},{\"name\":\"a\"}]}}"), "b=2 a=1");
    assert_string_equal(strategic(f, "{\"spec\":{\"$setElementOrder/containers\":[{\"name\":\"c\"},{\"name\":\"a\"}],"
                                     "\"containers\":[{\"name\":\"c\",\"image\":\"5\"}]}}"),
                        "c=5 a=1 b=2");
}

static void strategic_merges_nested_lists_and_replaces_atomic_ones(void **state)
{
    struct fixture *f = *state;
    void *pod = object(f, &k8s_pod_type, POD);
    const struct k8s_pod *got = patch(f, &k8s_pod_type, PATCH_STRATEGIC, pod,
                                      "{\"spec\":{\"containers\":[{\"name\":\"a\",\"ports\":[{\"containerPort\":80,\"name\":\"w\"},{\"containerPort\":81}]}],"
                                      "\"tolerations\":[{\"key\":\"x\"}],\"nodeSelector\":{\"k\":\"v\"}}}");
    assert_int_equal(got->spec->containers.items[0].ports.len, 2);
    assert_string_equal(got->spec->containers.items[0].ports.items[0].name, "w");
    got = patch(f, &k8s_pod_type, PATCH_STRATEGIC, got, "{\"spec\":{\"tolerations\":[{\"key\":\"y\"}],\"nodeSelector\":{\"j\":\"w\"}}}");
    assert_int_equal(got->spec->tolerations.len, 1);
    assert_string_equal(got->spec->tolerations.items[0].key, "y");
    assert_int_equal(got->spec->node_selector.len, 2);
}

static void strategic_handles_primitive_lists_and_owner_references(void **state)
{
    struct fixture *f = *state;
    void *sa = object(f, &k8s_service_account_type, "{\"metadata\":{\"name\":\"s\",\"finalizers\":[\"a\",\"b\"],\"ownerReferences\":[{\"uid\":\"1\",\"name\":\"x\"}]}}");
    void *got = patch(f, &k8s_service_account_type, PATCH_STRATEGIC, sa,
                      "{\"metadata\":{\"$deleteFromPrimitiveList/finalizers\":[\"a\"],\"finalizers\":[\"c\",\"b\"],"
                      "\"ownerReferences\":[{\"uid\":\"2\",\"name\":\"y\"},{\"uid\":\"1\",\"$patch\":\"delete\"}]}}");
    assert_string_equal(text(f, &k8s_service_account_type, got, "metadata", "finalizers"), "[\"b\",\"c\"]");
    const struct k8s_service_account *account = got;
    assert_int_equal(account->metadata->owner_references.len, 1);
    assert_string_equal(account->metadata->owner_references.items[0].uid, "2");
}

static void strategic_retains_keys(void **state)
{
    struct fixture *f = *state;
    void *d = object(f, &k8s_deployment_type, "{\"spec\":{\"strategy\":{\"type\":\"RollingUpdate\",\"rollingUpdate\":{\"maxSurge\":1}}}}");
    void *got = patch(f, &k8s_deployment_type, PATCH_STRATEGIC, d, "{\"spec\":{\"strategy\":{\"$retainKeys\":[\"type\"],\"type\":\"Recreate\"}}}");
    assert_string_equal(text(f, &k8s_deployment_type, got, "spec", "strategy"), "{\"type\":\"Recreate\"}");
}

/* ---- server-side apply --------------------------------------------------------------------------------------------------- */
#define HEAD "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n"

static const char *set_of(struct fixture *f, const struct kp_type *type, const void *obj, const char *manager)
{
    const struct k8s_object_meta *meta = kp_object_meta(type, obj);
    for (size_t i = 0; i < meta->managed_fields.len; i++)
        if (kp_streq(meta->managed_fields.items[i].manager, manager))
            return meta->managed_fields.items[i].fields_v1.json;
    (void)f;
    return "none";
}

static void apply_records_items_by_key(void **state)
{
    struct fixture *f = *state;
    void *got = apply(f, &k8s_deployment_type, "a", false, NULL, HEAD "spec: {template: {spec: {containers: [{name: c, image: i, ports: [{containerPort: 80}]}]}}}");
    if (!got)
        fail_msg("%s", f->status.message);
    assert_string_equal(set_of(f, &k8s_deployment_type, got, "a"),
                        "{\"f:spec\":{\"f:template\":{\"f:spec\":{\"f:containers\":{\"k:{\\\"name\\\":\\\"c\\\"}\":{\".\":{},\"f:image\":{},\"f:name\":{},"
                        "\"f:ports\":{\"k:{\\\"containerPort\\\":80,\\\"protocol\\\":\\\"TCP\\\"}\":{\".\":{},\"f:containerPort\":{}}}}}}}}}");
}

static void apply_conflicts_with_an_updater(void **state)
{
    struct fixture *f = *state;
    void *d = object(f, &k8s_deployment_type, "{\"metadata\":{\"name\":\"d\"},\"spec\":{\"replicas\":1,\"paused\":true}}");
    patch_managed_fields_update(&k8s_deployment_type, NULL, d, "kubectl-client-side-apply", "", 1, f->arena);
    assert_string_equal(set_of(f, &k8s_deployment_type, d, "kubectl-client-side-apply"), "{\"f:spec\":{\"f:paused\":{},\"f:replicas\":{}}}");
    assert_null(apply(f, &k8s_deployment_type, "a", false, d, HEAD "spec: {replicas: 2}"));
    assert_int_equal(f->status.http_status, 409);
    assert_string_equal(f->status.message, "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using apps/v1: .spec.replicas");
    assert_null(apply(f, &k8s_deployment_type, "a", false, d, HEAD "spec: {replicas: 2, paused: false}"));
    assert_string_equal(f->status.message,
                        "Apply failed with 2 conflicts: conflicts with \"kubectl-client-side-apply\" using apps/v1:\n- .spec.paused\n- .spec.replicas");
    void *forced = apply(f, &k8s_deployment_type, "a", true, d, HEAD "spec: {replicas: 2}");
    assert_string_equal(set_of(f, &k8s_deployment_type, forced, "a"), "{\"f:spec\":{\"f:replicas\":{}}}");
    assert_string_equal(set_of(f, &k8s_deployment_type, forced, "kubectl-client-side-apply"), "{\"f:spec\":{\"f:paused\":{}}}");
    /* Another applier is named without a version. */
    assert_null(apply(f, &k8s_deployment_type, "b", false, forced, HEAD "spec: {replicas: 3}"));
    assert_string_equal(f->status.message, "Apply failed with 1 conflict: conflict with \"a\": .spec.replicas");
}

static void apply_shares_and_gives_up_fields(void **state)
{
    struct fixture *f = *state;
    void *d = apply(f, &k8s_deployment_type, "a", false, NULL, HEAD "spec: {replicas: 2, paused: true}");
    d = apply(f, &k8s_deployment_type, "b", false, d, HEAD "spec: {replicas: 2}");
    assert_non_null(d);
    d = apply(f, &k8s_deployment_type, "a", false, d, HEAD "spec: {}");
    assert_string_equal(text(f, &k8s_deployment_type, d, "spec", "replicas"), "2"); /* b holds it */
    assert_string_equal(text(f, &k8s_deployment_type, d, "spec", "paused"), "absent");
    d = apply(f, &k8s_deployment_type, "b", false, d, HEAD "metadata: {labels: {x: y}}");
    assert_null(d); /* duplicate key */
}

static void apply_takes_away_an_element_with_its_defaults(void **state)
{
    struct fixture *f = *state;
    struct k8s_deployment *d = apply(f, &k8s_deployment_type, "a", false, NULL,
                                     HEAD "spec: {template: {spec: {containers: [{name: c, image: i}, {name: e, image: j}]}}}");
    kp_object_default(&k8s_deployment_type, d, f->arena);
    d = apply(f, &k8s_deployment_type, "a", false, d, HEAD "spec: {template: {spec: {containers: [{name: e, image: j}]}}}");
    assert_int_equal(d->spec->template->spec->containers.len, 1);
    assert_string_equal(d->spec->template->spec->containers.items[0].name, "e");
}

static void apply_leaves_what_others_added_to_an_element(void **state)
{
    struct fixture *f = *state;
    struct k8s_deployment *d = apply(f, &k8s_deployment_type, "a", false, NULL, HEAD "spec: {template: {spec: {containers: [{name: c, image: i}]}}}");
    d = apply(f, &k8s_deployment_type, "b", false, d, HEAD "spec: {template: {spec: {containers: [{name: c, tty: true}]}}}");
    assert_non_null(d);
    d = apply(f, &k8s_deployment_type, "a", false, d, HEAD "spec: {}");
    assert_int_equal(d->spec->template->spec->containers.len, 1);
    assert_true(d->spec->template->spec->containers.items[0].tty);
    assert_null(d->spec->template->spec->containers.items[0].image);
}

static void apply_sees_equal_quantities_and_defaulted_keys(void **state)
{
    struct fixture *f = *state;
    void *d = object(f, &k8s_deployment_type, "{\"metadata\":{\"name\":\"d\"},\"spec\":{\"template\":{\"spec\":{\"containers\":[{\"name\":\"c\",\"resources\":"
                                              "{\"requests\":{\"cpu\":\"1\"}},\"ports\":[{\"containerPort\":80,\"protocol\":\"TCP\"}]}]}}}}");
    patch_managed_fields_update(&k8s_deployment_type, NULL, d, "u", "", 1, f->arena);
    struct k8s_deployment *got = apply(f, &k8s_deployment_type, "a", false, d,
                                       HEAD "spec: {template: {spec: {containers: [{name: c, resources: {requests: {cpu: 1000m}}, ports: [{containerPort: 80}]}]}}}");
    if (!got)
        fail_msg("%s", f->status.message);
    assert_int_equal(got->spec->template->spec->containers.items[0].ports.len, 1);
}

/* Cases worked out by hand from structured-merge-diff's rule. */
static void apply_keeps_the_order_of_both(void **state)
{
    static const char *const cases[][3] = {{"x/a, x/b, x/c", "x/n, x/b", "[\"x/a\",\"x/n\",\"x/b\",\"x/c\"]"},
                                           {"x/a, x/b", "x/b, x/a", "[\"x/b\",\"x/a\"]"},
                                           {"x/a, x/o, x/b", "x/b, x/n, x/a", "[\"x/o\",\"x/b\",\"x/n\",\"x/a\"]"},
                                           {"x/o, x/p", "x/n", "[\"x/o\",\"x/p\",\"x/n\"]"}};
    struct fixture *f = *state;
    for (size_t i = 0; i < KP_ARRAY_LEN(cases); i++) {
        static const char head[] = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m, finalizers: [";
        void *m = apply(f, &k8s_config_map_type, "a", false, NULL, kp_arena_printf(f->arena, "%s%s]}", head, cases[i][0]));
        m = apply(f, &k8s_config_map_type, "b", false, m, kp_arena_printf(f->arena, "%s%s]}", head, cases[i][1]));
        assert_string_equal(text(f, &k8s_config_map_type, m, "metadata", "finalizers"), cases[i][2]);
    }
}

static void apply_owns_set_items_by_value(void **state)
{
    struct fixture *f = *state;
    static const char head[] = "apiVersion: v1\nkind: ConfigMap\n";
    void *m = apply(f, &k8s_config_map_type, "a", false, NULL, kp_arena_printf(f->arena, "%smetadata: {name: m, finalizers: [x/a]}", head));
    m = apply(f, &k8s_config_map_type, "b", false, m, kp_arena_printf(f->arena, "%smetadata: {name: m, finalizers: [x/b]}", head));
    assert_string_equal(text(f, &k8s_config_map_type, m, "metadata", "finalizers"), "[\"x/a\",\"x/b\"]");
    assert_string_equal(set_of(f, &k8s_config_map_type, m, "a"), "{\"f:metadata\":{\"f:finalizers\":{\"v:\\\"x/a\\\"\":{}}}}");
    m = apply(f, &k8s_config_map_type, "a", false, m, kp_arena_printf(f->arena, "%smetadata: {name: m}", head));
    assert_string_equal(text(f, &k8s_config_map_type, m, "metadata", "finalizers"), "[\"x/b\"]");
}

static void update_moves_ownership(void **state)
{
    struct fixture *f = *state;
    void *old = apply(f, &k8s_deployment_type, "a", false, NULL, HEAD "spec: {replicas: 2, paused: true}");
    struct k8s_deployment *new = kp_object_clone(&k8s_deployment_type, old, f->arena);
    KP_SET(new->spec, replicas, 5);
    KP_SET(new->status, replicas, 5); /* nobody's through this endpoint */
    patch_managed_fields_update(&k8s_deployment_type, old, new, "u", "", 3, f->arena);
    assert_string_equal(set_of(f, &k8s_deployment_type, new, "u"), "{\"f:spec\":{\"f:replicas\":{}}}");
    assert_string_equal(set_of(f, &k8s_deployment_type, new, "a"), "{\"f:spec\":{\"f:paused\":{}}}");
}

static void apply_refuses_what_is_incomplete(void **state)
{
    struct fixture *f = *state;
    assert_null(apply(f, &k8s_deployment_type, "", false, NULL, HEAD));
    assert_null(apply(f, &k8s_deployment_type, "a", false, NULL, "kind: Deployment\n"));
    assert_null(apply(f, &k8s_deployment_type, "a", false, NULL, "apiVersion: v1\nkind: Pod\n"));
    assert_null(apply(f, &k8s_deployment_type, "a", false, NULL, HEAD "metadata: {name: d, managedFields: []}\n"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(json_patch_does_all_six_operations),
        TEST(json_patch_inserts_into_lists),
        TEST(json_patch_fails_whole),
        TEST(json_patch_copies_are_bounded),
        TEST(merge_patch_merges_objects_and_replaces_lists),
        TEST(strategic_merges_containers_by_name),
        TEST(strategic_orders_elements),
        TEST(strategic_merges_nested_lists_and_replaces_atomic_ones),
        TEST(strategic_handles_primitive_lists_and_owner_references),
        TEST(strategic_retains_keys),
        TEST(apply_records_items_by_key),
        TEST(apply_conflicts_with_an_updater),
        TEST(apply_shares_and_gives_up_fields),
        TEST(apply_takes_away_an_element_with_its_defaults),
        TEST(apply_leaves_what_others_added_to_an_element),
        TEST(apply_sees_equal_quantities_and_defaulted_keys),
        TEST(apply_keeps_the_order_of_both), TEST(apply_owns_set_items_by_value),
        TEST(update_moves_ownership),
        TEST(apply_refuses_what_is_incomplete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
