/* Definitions at work: served, refused for their names, changed, and gone with their objects. */
#include "controlplane/apiserver/custom/custom.h"

#include "api/k8s.h"
#include "controlplane/apiserver/watch/watch_internal.h"
#include "tests/unit/controlplane/apiserver/caches_memory_test.h"
#include "tests/unit/controlplane/apiserver/fake_store_test.h"

#define WAIT_MS 20000

struct fixture {
    struct loop *loop;
    struct store *store;
    struct wcache_set *caches;
    struct registry *registry;
    struct custom *custom;
    struct kp_arena *arena;
    struct api_status status;
};
static struct custom *kept[8]; /* they stay, as in a server; in reach of the leak sanitizer */
static size_t n_kept;

static int set_up(void **state)
{
    struct fixture *f = kp_calloc(1, sizeof(*f));
    struct kp_error error = {0};
    size_t count;
    const struct wcache_kind *const *kinds = registry_cache_kinds(&count);
    f->loop = loop_new();
    assert_int_equal(loop_start(f->loop, "test", &error), 0);
    f->store = fake_store_new(f->loop);
    f->caches = wcache_set_new(f->loop, f->store, kinds, count);
    assert_true(wcache_set_wait_ready(f->caches, 5000));
    const struct registry_config config = {.store = f->store, .caches = f->caches, .service_cidr = "10.96.0.0/24", .node_port_min = 30000, .node_port_max = 30010};
    if (registry_new(&config, &f->registry, &error) < 0)
        fail_msg("%s", error.message);
    f->custom = kept[n_kept++] = custom_new(f->registry, f->caches);
    /* In its first round conditions come before what they tell of: clients are told to try again until it is over. */
    for (int64_t until = kp_mono_ms() + WAIT_MS; !custom_synced(f->custom); kp_sleep_ms(1))
        if (kp_mono_ms() > until)
            fail_msg("the first round does not end");
    f->arena = kp_arena_new(0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    custom_free(f->custom);
    registry_free(f->registry);
    wcache_set_free(f->caches);
    loop_free(f->loop);
    caches_memory_free(f->caches);
    fake_store_free(f->store);
    kp_arena_free(f->arena);
    free(f);
    return 0;
}

static struct registry_request request(struct fixture *f, const struct kp_resource *resource, const char *ns, const char *name)
{
    f->status = API_STATUS(f->arena);
    return registry_own_request(f->arena, &f->status, resource, ns, name);
}

static void *decode(struct fixture *f, const struct kp_type *type, const char *text)
{
    struct kp_error error = {0};
    void *obj = NULL;
    if (kp_json_decode(type, text, strlen(text), f->arena, NULL, &obj, &error) < 0)
        fail_msg("%s", error.message);
    return obj;
}

static int create(struct fixture *f, const struct kp_resource *resource, const char *ns, const char *text)
{
    struct registry_request rq = request(f, resource, ns, "");
    KP_AUTO(wcache_object_unref) struct wcache_object *object = NULL;
    return registry_create(f->registry, &rq, decode(f, resource->type, text), &object);
}

static const char *crd_text(struct fixture *f, const char *plural, const char *kind, int maximum)
{
    return kp_arena_printf(f->arena,
                           "{\"metadata\":{\"name\":\"%s.shop.test\"},\"spec\":{\"group\":\"shop.test\",\"scope\":\"Namespaced\",\"names\":{\"plural\":\"%s\",\"kind\":\"%s\"},"
                           "\"versions\":[{\"name\":\"v1\",\"served\":true,\"storage\":true,\"schema\":{\"openAPIV3Schema\":{\"type\":\"object\",\"properties\":{\"spec\":{"
                           "\"type\":\"object\",\"properties\":{\"size\":{\"type\":\"integer\",\"maximum\":%d},\"color\":{\"type\":\"string\",\"default\":\"red\"}}}}}}}]}}",
                           plural, plural, kind, maximum);
}

static void define(struct fixture *f, const char *plural, const char *kind)
{
    if (create(f, &k8s_customresourcedefinitions_resource, "", crd_text(f, plural, kind, 10)) < 0)
        fail_msg("%s", f->status.message);
}

static struct k8s_custom_resource_definition *definition(struct fixture *f, const char *name)
{
    struct registry_request rq = request(f, &k8s_customresourcedefinitions_resource, "", name);
    KP_AUTO(wcache_object_unref) struct wcache_object *object = NULL;
    return registry_get(f->registry, &rq, NULL, &object) < 0 ? NULL : registry_decode(rq.kind, object, f->arena);
}

/* "True: InitialNamesAccepted", or "" when it is not there yet. */
static const char *condition(struct fixture *f, const char *name, const char *type)
{
    const struct k8s_custom_resource_definition *crd = definition(f, name);
    for (size_t i = 0; crd && i < crd->status->conditions.len; i++)
        if (kp_streq(crd->status->conditions.items[i].type, type))
            return kp_arena_printf(f->arena, "%s: %s", crd->status->conditions.items[i].status, crd->status->conditions.items[i].reason);
    return "";
}

static void wait_condition(struct fixture *f, const char *name, const char *type, const char *wanted)
{
    for (int64_t until = kp_mono_ms() + WAIT_MS; !kp_streq(condition(f, name, type), wanted); kp_sleep_ms(5))
        if (kp_mono_ms() > until)
            fail_msg("%s of %s is \"%s\"", type, name, condition(f, name, type));
}

static const struct kp_resource *widgets(void)
{
    return kp_resource_find("shop.test", "v1", "widgets");
}

static const char *object_text(struct fixture *f, const char *name)
{
    struct registry_request rq = request(f, widgets(), "n", name);
    KP_AUTO(wcache_object_unref) struct wcache_object *object = NULL;
    if (registry_get(f->registry, &rq, NULL, &object) < 0)
        return "";
    const char *text = kp_arena_strndup(f->arena, (const char *)object->json->data, object->json->len), *spec = strstr(text, "\"spec\"");
    return spec ? spec : "";
}

static void test_served_under_its_schema(void **state)
{
    struct fixture *f = *state;
    define(f, "widgets", "Widget");
    wait_condition(f, "widgets.shop.test", "Established", "True: InitialNamesAccepted");
    assert_string_equal(condition(f, "widgets.shop.test", "NamesAccepted"), "True: NoConflicts");
    assert_string_equal(definition(f, "widgets.shop.test")->status->stored_versions.items[0], "v1");
    assert_string_equal(definition(f, "widgets.shop.test")->status->accepted_names->list_kind, "WidgetList");
    assert_non_null(widgets());
    assert_int_equal(create(f, widgets(), "n", "{\"metadata\":{\"name\":\"a\"},\"spec\":{\"size\":3,\"unknown\":1},\"more\":2}"), 0);
    assert_string_equal(object_text(f, "a"), "\"spec\":{\"color\":\"red\",\"size\":3}}");
    assert_true(create(f, widgets(), "n", "{\"metadata\":{\"name\":\"b\"},\"spec\":{\"size\":11}}") < 0);
    assert_string_equal(f->status.message, "Widget.shop.test \"b\" is invalid: spec.size: Invalid value: 11: spec.size in body should be less than or equal to 10");
    assert_int_equal(f->status.http_status, 422);
}

static void test_waits_for_its_conditions(void **state)
{
    struct fixture *f = *state;
    struct registry_request rq = request(f, &k8s_customresourcedefinitions_resource, "", "");
    KP_AUTO(wcache_object_unref) struct wcache_object *object = NULL;
    assert_int_equal(registry_create(f->registry, &rq, decode(f, &k8s_custom_resource_definition_type, crd_text(f, "widgets", "Widget", 10)), &object), 0);
    const char *text = kp_arena_strndup(f->arena, (const char *)object->json->data, object->json->len);
    assert_non_null(strstr(text, "\"conditions\":[]")); /* null ends kubectl wait */
    wait_condition(f, "widgets.shop.test", "Established", "True: InitialNamesAccepted");
}

static void test_names_are_not_given_twice(void **state)
{
    struct fixture *f = *state;
    define(f, "widgets", "Widget");
    wait_condition(f, "widgets.shop.test", "Established", "True: InitialNamesAccepted");
    define(f, "gadgets", "Widget");
    wait_condition(f, "gadgets.shop.test", "NamesAccepted", "False: ListKindConflict");
    assert_string_equal(condition(f, "gadgets.shop.test", "Established"), "False: NotAccepted");
    assert_null(kp_resource_find("shop.test", "v1", "gadgets"));
}

static int make_larger(void *arg, struct registry_request *rq, const void *current, void **ret_new)
{
    struct k8s_custom_resource_definition *crd = kp_object_clone(&k8s_custom_resource_definition_type, current, rq->arena);
    const struct k8s_custom_resource_definition *wanted = arg;
    crd->spec = wanted->spec;
    *ret_new = crd;
    return 0;
}

static void test_another_schema_takes_its_place(void **state)
{
    struct fixture *f = *state;
    const struct registry_update_options options = {.patch = true};
    KP_AUTO(wcache_object_unref) struct wcache_object *object = NULL;
    bool created;
    define(f, "widgets", "Widget");
    wait_condition(f, "widgets.shop.test", "Established", "True: InitialNamesAccepted");
    const struct kp_resource *before = widgets();
    assert_int_equal(create(f, before, "n", "{\"metadata\":{\"name\":\"a\"},\"spec\":{\"size\":3}}"), 0);
    struct registry_request rq = request(f, &k8s_customresourcedefinitions_resource, "", "widgets.shop.test");
    void *wanted = decode(f, &k8s_custom_resource_definition_type, crd_text(f, "widgets", "Widget", 20));
    assert_int_equal(registry_update(f->registry, &rq, &options, make_larger, wanted, &object, &created), 0);
    for (int64_t until = kp_mono_ms() + WAIT_MS; widgets() == before; kp_sleep_ms(5))
        assert_true(kp_mono_ms() < until);
    assert_string_equal(object_text(f, "a"), "\"spec\":{\"color\":\"red\",\"size\":3}}");
    assert_int_equal(create(f, widgets(), "n", "{\"metadata\":{\"name\":\"b\"},\"spec\":{\"size\":15}}"), 0);
    /* Whoever still has the old one in hand is not told that there is nothing. */
    struct registry_list list;
    const struct registry_list_options all = {.limit = 0};
    rq = request(f, before, "", "");
    assert_true(registry_list(f->registry, &rq, &all, &list) < 0);
    assert_int_equal(f->status.http_status, 429);
}

static void test_gone_with_its_objects(void **state)
{
    struct fixture *f = *state;
    KP_AUTO(wcache_object_unref) struct wcache_object *object = NULL;
    bool gone, as_status;
    define(f, "widgets", "Widget");
    wait_condition(f, "widgets.shop.test", "Established", "True: InitialNamesAccepted");
    for (int i = 0; i < 20; i++)
        assert_int_equal(create(f, widgets(), i % 2 ? "n" : "m", kp_arena_printf(f->arena, "{\"metadata\":{\"name\":\"a%d\"}}", i)), 0);
    struct registry_request rq = request(f, &k8s_customresourcedefinitions_resource, "", "widgets.shop.test");
    assert_int_equal(registry_delete(f->registry, &rq, KP_OBJECT_NEW(f->arena, k8s_delete_options), &object, &gone, &as_status), 0);
    assert_false(gone);
    for (int64_t until = kp_mono_ms() + WAIT_MS; definition(f, "widgets.shop.test") || widgets(); kp_sleep_ms(5))
        assert_true(kp_mono_ms() < until);
    pthread_mutex_lock(&f->store->mutex);
    for (size_t i = 0; i < f->store->len; i++)
        if (kp_starts_with(f->store->versions[i].key, "/registry/shop.test/"))
            assert_null(fake_at(f->store, f->store->versions[i].key, f->store->revision));
    pthread_mutex_unlock(&f->store->mutex);
    /* The same name again is another resource, and empty. */
    define(f, "widgets", "Widget");
    wait_condition(f, "widgets.shop.test", "Established", "True: InitialNamesAccepted");
    assert_string_equal(object_text(f, "a1"), "");
}

static void test_refused(void **state)
{
    struct fixture *f = *state;
    static const char *const cases[][2] = {
        {"\"group\":\"shop\"", "should be a domain with at least one dot"},
        {"\"scope\":\"Everywhere\"", "Unsupported value: \"Everywhere\": supported values: \"Cluster\", \"Namespaced\""},
        {"\"storage\":false", "must have exactly one version marked as storage version"},
        {"\"plural\":\"Widgets\"", "spec.names.plural: Invalid value: \"Widgets\": a DNS-1035 label"},
        {"\"group\":\"shop.k8s.io\"", "protected groups must have approval annotation"},
        {"\"conversion\":{\"strategy\":\"Webhook\"},\"scope\":\"Namespaced\"", "spec.conversion.strategy: Unsupported value: \"Webhook\""},
        {"\"openAPIV3Schema\":{\"type\":\"string\"", "must be object at the root"},
    };
    static const char *const originals[] = {"\"group\":\"shop.test\"", "\"scope\":\"Namespaced\"", "\"storage\":true", "\"plural\":\"widgets\"",
                                            "\"group\":\"shop.test\"", "\"scope\":\"Namespaced\"", "\"openAPIV3Schema\":{\"type\":\"object\""};
    for (size_t i = 0; i < KP_ARRAY_LEN(cases); i++) {
        const char *text = crd_text(f, "widgets", "Widget", 10), *at = strstr(text, originals[i]);
        text = kp_arena_printf(f->arena, "%.*s%s%s", (int)(at - text), text, cases[i][0], at + strlen(originals[i]));
        assert_true(create(f, &k8s_customresourcedefinitions_resource, "", text) < 0);
        if (!strstr(f->status.message, cases[i][1]))
            fail_msg("%s: %s", cases[i][0], f->status.message);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {TEST(test_served_under_its_schema), TEST(test_waits_for_its_conditions), TEST(test_names_are_not_given_twice), TEST(test_another_schema_takes_its_place),
                                       TEST(test_gone_with_its_objects), TEST(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
