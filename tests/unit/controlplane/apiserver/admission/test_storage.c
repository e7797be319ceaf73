/* The steps of admission that look at claims, volumes and what nodes write of them. */
#include "controlplane/apiserver/admission/admission.h"
#include "tests/unit/controlplane/apiserver/caches_test.h"

struct fixture {
    struct wcache_set *caches;
    struct kp_arena *arena;
    struct auth *auth;
    struct admission *admission;
    struct api_status status;
    struct kp_string_list warnings;
};

static int set_up(void **state)
{
    struct fixture *f = kp_calloc(1, sizeof(*f));
    struct kp_error error = {0};
    f->arena = kp_arena_new(0);
    f->caches = caches_new();
    const struct auth_config config = {.caches = f->caches, .authorization_modes = "Node,RBAC", .service_account_issuer = "https://issuer"};
    if (auth_new(&config, &f->auth, &error) < 0)
        fail_msg("%s", error.message);
    const struct admission_config chain = {.caches = f->caches, .auth = f->auth, .enabled_plugins = "NodeRestriction"};
    if (admission_new(&chain, &f->admission, &error) < 0)
        fail_msg("%s", error.message);
    caches_put(f->caches, "", "namespaces", "n", "{\"metadata\":{\"name\":\"n\"},\"status\":{\"phase\":\"Active\"}}");
    caches_put(f->caches, "", "serviceaccounts", "n/default", "{\"metadata\":{\"name\":\"default\",\"namespace\":\"n\",\"uid\":\"u\"},\"imagePullSecrets\":[{\"name\":\"reg\"}]}");
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    admission_free(f->admission);
    auth_free(f->auth);
    caches_free(f->caches);
    kp_arena_free(f->arena);
    free(f);
    return 0;
}

static const struct auth_user joe = {.name = "joe", .uid = ""};

/* Both phases of a write; the code. */
static int write_as(struct fixture *f, const struct auth_user *user, enum admission_operation operation, const char *group, const char *resource,
                    const char *subresource, const char *ns, const char *name, void *object, const void *old)
{
    const struct kp_resource *r = kp_resource_find(group, "v1", resource);
    struct admission_attributes a = {.operation = operation, .resource = r, .subresource = subresource, .type = r->type, .ns = ns, .name = name,
                                     .user = user, .object = object, .old_object = old, .arena = f->arena, .warnings = &f->warnings};
    f->status = API_STATUS(f->arena);
    int code = admission_mutate(f->admission, &a, &f->status);
    return code < 0 ? code : admission_validate(f->admission, &a, &f->status);
}

static void *object(struct fixture *f, const struct kp_type *type, const char *json)
{
    void *obj = NULL;
    struct kp_error error = {0};
    if (kp_json_decode(type, json, strlen(json), f->arena, NULL, &obj, &error) < 0)
        fail_msg("%s", error.message);
    return obj;
}

#define CLASSES "storage.k8s.io", "storageclasses"
#define CLASS(name, when, is_default, rest) "{\"metadata\":{\"name\":\"" name "\",\"creationTimestamp\":\"" when "\",\"annotations\":{" \
                                            "\"storageclass.kubernetes.io/is-default-class\":\"" is_default "\"}},\"provisioner\":\"p\"" rest "}"

static const char *class_given(struct fixture *f, const char *json)
{
    struct k8s_persistent_volume_claim *claim = object(f, &k8s_persistent_volume_claim_type, json);
    assert_int_equal(write_as(f, &joe, ADMISSION_CREATE, "", "persistentvolumeclaims", "", "n", "c", claim, NULL), 0);
    return claim->spec->storage_class_name;
}

static void a_claim_without_a_class_gets_the_newest_default(void **state)
{
    struct fixture *f = *state;
    const char *plain = "{\"metadata\":{\"name\":\"c\",\"namespace\":\"n\"},\"spec\":{}}";
    assert_null(class_given(f, plain));
    caches_put(f->caches, CLASSES, "old", CLASS("old", "2026-01-01T00:00:00Z", "true", ""));
    caches_put(f->caches, CLASSES, "newest", CLASS("newest", "2026-03-01T00:00:00Z", "false", ""));
    assert_string_equal(class_given(f, plain), "old");
    caches_put(f->caches, CLASSES, "b", CLASS("b", "2026-02-01T00:00:00Z", "true", ""));
    caches_put(f->caches, CLASSES, "a", CLASS("a", "2026-02-01T00:00:00Z", "true", ""));
    assert_string_equal(class_given(f, plain), "a");
    assert_string_equal(class_given(f, "{\"metadata\":{\"name\":\"c\",\"namespace\":\"n\"},\"spec\":{\"storageClassName\":\"\"}}"), "");
    assert_null(class_given(f, "{\"metadata\":{\"name\":\"c\",\"namespace\":\"n\",\"annotations\":{\"volume.beta.kubernetes.io/storage-class\":\"x\"}},\"spec\":{}}"));
}

static void what_is_in_use_is_protected(void **state)
{
    struct fixture *f = *state;
    struct k8s_persistent_volume_claim *claim = object(f, &k8s_persistent_volume_claim_type, "{\"metadata\":{\"name\":\"c\",\"namespace\":\"n\"},\"spec\":{}}");
    struct k8s_persistent_volume *volume = object(f, &k8s_persistent_volume_type, "{\"metadata\":{\"name\":\"v\",\"finalizers\":[\"a\",\"kubernetes.io/pv-protection\"]},\"spec\":{}}");
    assert_int_equal(write_as(f, &joe, ADMISSION_CREATE, "", "persistentvolumeclaims", "", "n", "c", claim, NULL), 0);
    assert_int_equal(write_as(f, &joe, ADMISSION_CREATE, "", "persistentvolumes", "", "", "v", volume, NULL), 0);
    assert_int_equal(claim->metadata->finalizers.len, 1);
    assert_string_equal(claim->metadata->finalizers.items[0], "kubernetes.io/pvc-protection");
    assert_int_equal(volume->metadata->finalizers.len, 2);
}

static const char *growth(struct fixture *f, const char *class, const char *phase)
{
    const char *json = "{\"metadata\":{\"name\":\"c\",\"namespace\":\"n\"},\"spec\":{\"storageClassName\":\"%s\",\"resources\":{\"requests\":{\"storage\":\"%s\"}}},\"status\":{\"phase\":\"%s\"}}";
    void *before = object(f, &k8s_persistent_volume_claim_type, kp_arena_printf(f->arena, json, class, "1Gi", phase));
    void *now = object(f, &k8s_persistent_volume_claim_type, kp_arena_printf(f->arena, json, class, "2Gi", phase));
    return write_as(f, &joe, ADMISSION_UPDATE, "", "persistentvolumeclaims", "", "n", "c", now, before) < 0 ? f->status.message : NULL;
}

static void claims_grow_when_their_class_lets_them(void **state)
{
    struct fixture *f = *state;
    caches_put(f->caches, CLASSES, "grows", CLASS("grows", "2026-01-01T00:00:00Z", "false", ",\"allowVolumeExpansion\":true"));
    caches_put(f->caches, CLASSES, "stays", CLASS("stays", "2026-01-01T00:00:00Z", "false", ""));
    assert_null(growth(f, "grows", "Bound"));
    assert_string_equal(growth(f, "grows", "Pending"), "persistentvolumeclaims \"c\" is forbidden: Only bound persistent volume claims can be expanded");
    static const char no[] = "persistentvolumeclaims \"c\" is forbidden: only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
    assert_string_equal(growth(f, "stays", "Bound"), no);
    assert_string_equal(growth(f, "missing", "Bound"), no);
    assert_string_equal(growth(f, "", "Bound"), no);
}

/* ---- nodes ---------------------------------------------------------------------------------------------------------------- */
static int node_writes(struct fixture *f, const char *resource, const char *subresource, const char *json, const char *before)
{
    struct auth_user node = {.name = "system:node:w", .uid = ""};
    kp_string_list_add(f->arena, &node.groups, "system:nodes");
    const struct kp_type *type = kp_resource_find("", "v1", resource)->type;
    return write_as(f, &node, ADMISSION_UPDATE, "", resource, subresource, strcmp(resource, "persistentvolumes") ? "n" : "", "v", object(f, type, json), object(f, type, before));
}

static void a_node_takes_its_finalizer_and_no_more(void **state)
{
    struct fixture *f = *state;
#define PV_AS(finalizers, rest, status) "{\"metadata\":{\"name\":\"v\",\"resourceVersion\":\"5\",\"finalizers\":[" finalizers "]" rest "},\"spec\":{\"local\":{\"path\":\"/a\"}}" status "}"
#define GOING ",\"deletionTimestamp\":\"2026-01-01T00:00:00Z\""
#define PV(finalizers, rest) PV_AS(finalizers, GOING rest, "")
#define OTHER "\"kubernetes.io/pv-protection\""
#define LOCAL "\"kprov.dev/local-volume\""
    const char *before = PV(OTHER "," LOCAL, "");
    assert_int_equal(node_writes(f, "persistentvolumes", "", PV(OTHER, ""), before), 0);
    assert_true(node_writes(f, "persistentvolumes", "", PV(LOCAL, ""), before) < 0);
    assert_string_equal(f->status.message, "persistentvolumes \"v\" is forbidden: node \"w\" may only take the finalizer kprov.dev/local-volume from a persistent volume");
    assert_true(node_writes(f, "persistentvolumes", "", PV("", ""), before) < 0);
    assert_true(node_writes(f, "persistentvolumes", "", PV(OTHER "," LOCAL, ""), before) < 0); /* nothing is done */
    assert_true(node_writes(f, "persistentvolumes", "", PV(OTHER, ",\"labels\":{\"a\":\"b\"}"), before) < 0);
    assert_true(node_writes(f, "persistentvolumes", "status", PV(OTHER, ""), before) < 0);
    /* One that lives, or has a claim, is not let go of. */
    assert_true(node_writes(f, "persistentvolumes", "", PV_AS(OTHER, "", ""), PV_AS(OTHER "," LOCAL, "", "")) < 0);
    assert_string_equal(f->status.message, "persistentvolumes \"v\" is forbidden: node \"w\" may only let go of a persistent volume that is being deleted");
#define BOUND ",\"status\":{\"phase\":\"Bound\"}"
    assert_true(node_writes(f, "persistentvolumes", "", PV_AS(OTHER, GOING, BOUND), PV_AS(OTHER "," LOCAL, GOING, BOUND)) < 0);
}

static void a_node_tells_how_large_a_claim_became(void **state)
{
    struct fixture *f = *state;
#define CLAIM(phase, size) "{\"metadata\":{\"name\":\"v\",\"namespace\":\"n\"},\"spec\":{},\"status\":{\"phase\":\"" phase "\",\"capacity\":{\"storage\":\"" size "\"}}}"
    assert_int_equal(node_writes(f, "persistentvolumeclaims", "status", CLAIM("Bound", "2Gi"), CLAIM("Bound", "1Gi")), 0);
    assert_true(node_writes(f, "persistentvolumeclaims", "status", CLAIM("Lost", "1Gi"), CLAIM("Bound", "1Gi")) < 0);
    assert_string_equal(f->status.message, "persistentvolumeclaims \"v\" is forbidden: node \"w\" is not allowed to update fields other than status.quantity and status.conditions");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_claim_without_a_class_gets_the_newest_default),
        TEST(what_is_in_use_is_protected),
        TEST(claims_grow_when_their_class_lets_them),
        TEST(a_node_takes_its_finalizer_and_no_more),
        TEST(a_node_tells_how_large_a_claim_became),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
