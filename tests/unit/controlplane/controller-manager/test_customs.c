/* Custom resources in the controller manager: what a definition defines, and informers that come and go with it. */
#include "tests/support/fake_api.h"
#include "tests/support/kcm_world.h"
#include "tests/support/objects.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define DEFINITIONS "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
#define WIDGETS "/apis/example.org/v1/widgets"
#define WAIT_MS 20000 /* for what another thread is to do; never reached when it does */

/* A controller that only notes which objects of custom resources there are. */
static struct notes {
    pthread_mutex_t lock;
    int there, changes;
} notes = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void note(const struct custom *custom, const struct k8s_object_meta *old, const struct k8s_object_meta *new, void *arg)
{
    struct notes *n = arg;
    pthread_mutex_lock(&n->lock);
    n->there += (new != NULL) - (old != NULL);
    n->changes++;
    pthread_mutex_unlock(&n->lock);
}

static size_t by_name(const struct client_object *object, const char **values, size_t max)
{
    values[0] = object->name;
    return 1;
}

static int setup_probe(struct engine *engine, struct controller_run *run, void **ret_state, struct kp_error *error)
{
    struct customs *customs = engine_follow_customs(engine, run);
    notes.there = notes.changes = 0;
    customs_follow(customs, note, &notes);
    customs_index(customs, by_name);
    return 0;
}

static int plan_probe(const struct plan_input *in, struct plan *plan, struct kp_error *error)
{
    return 0;
}

static const struct controller probe = {.name = "probe", .workers = 2, .setup = setup_probe, .plan = plan_probe};

static int set_up(void **state)
{
    *state = store_world_new(&probe);
    return 0;
}

static int tear_down(void **state)
{
    store_world_free(*state);
    return 0;
}

/* ---- what a definition defines ---- */
static bool describe(struct kp_arena *arena, const char *yaml, struct kp_resource *ret, struct kp_string_list *ret_served)
{
    return customs_describe(test_object(&k8s_custom_resource_definition_type, arena, yaml), arena, ret, ret_served);
}

#define DEFINITION(versions, status) \
    "{metadata: {name: widgets.example.org}, spec: {group: example.org, scope: Cluster, names: {plural: widgets, kind: Widget}, versions: [" versions "]}, status: {" status "}}"
#define ESTABLISHED "conditions: [{type: NamesAccepted, status: 'True'}, {type: Established, status: 'True'}]"

static void the_stored_version_counts_or_the_first_that_is_served(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_resource resource;
    struct kp_string_list served;
    assert_true(describe(arena, DEFINITION("{name: v1, served: true}, {name: v2, served: true, storage: true}, {name: v3, served: true}", ESTABLISHED), &resource, &served));
    assert_string_equal(resource.version, "v2");
    assert_int_equal(served.len, 3);
    assert_true(describe(arena, DEFINITION("{name: v1}, {name: v2, storage: true}, {name: v3, served: true}, {name: v4, served: true}", ESTABLISHED), &resource, &served));
    assert_string_equal(resource.version, "v3");
    assert_int_equal(served.len, 2);
    assert_string_equal(resource.group, "example.org");
    assert_string_equal(resource.name, "widgets");
    assert_string_equal(resource.kind, "Widget");
    assert_false(resource.namespaced);
}

static void one_that_is_not_established_or_not_served_defines_nothing(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_resource resource;
    assert_false(describe(arena, DEFINITION("{name: v1, served: true, storage: true}", ""), &resource, NULL));
    assert_false(describe(arena, DEFINITION("{name: v1, served: true, storage: true}", "conditions: [{type: Established, status: 'False'}]"), &resource, NULL));
    assert_false(describe(arena, DEFINITION("{name: v1, storage: true}", ESTABLISHED), &resource, NULL));
    assert_true(describe(arena, DEFINITION("{name: v1, served: true, storage: true}", ESTABLISHED ", acceptedNames: {plural: widgets, kind: Gadget}"), &resource, NULL));
    assert_string_equal(resource.kind, "Gadget");
}

static void schemas_are_not_cached(void **state)
{
    static const char text[] = "{\"apiVersion\":\"apiextensions.k8s.io/v1\",\"kind\":\"CustomResourceDefinitionList\",\"metadata\":{\"resourceVersion\":\"7\"},\"items\":[{\"metadata\":"
                               "{\"name\":\"widgets.example.org\",\"uid\":\"u\",\"resourceVersion\":\"5\",\"annotations\":{\"a\":\"b\"}},\"spec\":{\"group\":\"example.org\",\"conversion\":"
                               "{\"strategy\":\"None\"},\"versions\":[{\"name\":\"v1\",\"served\":true,\"storage\":true,\"schema\":{\"openAPIV3Schema\":{\"type\":\"object\"}}}]}}]}";
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_error error = {0};
    void *list;
    assert_int_equal(kp_json_decode(customs_definitions_resource.list_type, text, strlen(text), arena, NULL, &list, &error), 0);
    const struct k8s_custom_resource_definition_items *items = &((const struct k8s_custom_resource_definition_list *)list)->items;
    assert_int_equal(items->len, 1);
    assert_string_equal(items->items[0].metadata->resource_version, "5");
    assert_int_equal(items->items[0].metadata->annotations.len, 0);
    assert_true(items->items[0].spec->versions.items[0].served);
    assert_null(items->items[0].spec->versions.items[0].schema);
}

/* ---- without a server: who comes and goes ---- */
static void an_informer_stays_as_long_as_nothing_of_it_changes(void **state)
{
    struct kcm_world *world = ((struct kcm_store_world *)*state)->world;
    world_define(world, WORLD_WIDGETS("crd1", ""));
    struct client_informer *first = world_customs(world, "widgets.example.org");
    world_define(world, WORLD_WIDGETS("crd1", ""));
    assert_ptr_equal(world_customs(world, "widgets.example.org"), first);
    world_put_custom(world, "widgets.example.org", "{metadata: {name: a, namespace: d, uid: a1}}");
    assert_int_equal(notes.there, 1);
    world_define(world, WORLD_WIDGETS("crd1", ", {name: v2, served: true, storage: false}"));
    assert_int_equal(client_informer_len(world_customs(world, "widgets.example.org")), 0); /* another, for the versions differ */
    assert_int_equal(notes.changes, 1); /* its objects are still there */
}

static void objects_of_a_deleted_definition_are_told_gone(void **state)
{
    struct kcm_world *world = ((struct kcm_store_world *)*state)->world;
    world_define(world, WORLD_WIDGETS("crd1", ""));
    world_put_custom(world, "widgets.example.org", "{metadata: {name: a, namespace: d, uid: a1}}");
    world_define(world, WORLD_WIDGETS("crd2", "")); /* deleted and made again */
    assert_int_equal(notes.there, 0);
    world_put_custom(world, "widgets.example.org", "{metadata: {name: a, namespace: d, uid: a2}}");
    world_undefine(world, "widgets.example.org");
    assert_int_equal(notes.there, 0);
    assert_null(world_customs(world, "widgets.example.org"));
}

static void what_is_held_stays_until_it_is_released(void **state)
{
    struct kcm_world *world = ((struct kcm_store_world *)*state)->world;
    struct customs *customs = engine_customs(world->engine);
    world_define(world, WORLD_WIDGETS("crd1", ""));
    world_put_custom(world, "widgets.example.org", "{metadata: {name: a, namespace: d, uid: a1}}");
    struct customs_list *list = customs_hold(customs);
    world_undefine(world, "widgets.example.org");
    assert_true(customs_update(customs) > 0);
    assert_int_equal(client_informer_len(list->items[0]->informer), 1);
    assert_string_equal(list->items[0]->resource.kind, "Widget");
    assert_int_equal(notes.there, 1);
    customs_release(list);
    assert_int_equal(customs_update(customs), -1);
    assert_int_equal(notes.there, 0);
}

static void of_the_gone_only_the_last_are_remembered(void **state)
{
    struct kcm_world *world = ((struct kcm_store_world *)*state)->world;
    for (int i = 0; i < 100; i++) {
        KP_AUTO_FREE char *name = kp_asprintf("w%d.example.org", i);
        KP_AUTO_FREE char *yaml = kp_asprintf("{metadata: {name: w%d.example.org, uid: u%d}, spec: {group: example.org, names: {plural: w%d, kind: W%d}, scope: Cluster, versions: "
                                              "[{name: v1, served: true}]}, status: {" ESTABLISHED "}}", i, i, i, i);
        world_put(world, &customs_definitions_resource, yaml);
        if (i < 80) { /* one by one, then 20 at once */
            world_define(world, yaml);
            world_undefine(world, name);
        }
    }
    customs_update(engine_customs(world->engine));
    for (int i = 80; i < 100; i++) {
        KP_AUTO_FREE char *name = kp_asprintf("w%d.example.org", i);
        world_remove(world, &customs_definitions_resource, "", name);
    }
    assert_int_equal(customs_update(engine_customs(world->engine)), -1);
    KP_AUTO(customs_release) struct customs_list *list = customs_hold(engine_customs(world->engine));
    assert_int_equal(list->len, 64);
    assert_string_equal(list->items[0]->definition, "w36.example.org");
    assert_string_equal(list->items[63]->definition, "w99.example.org");
}

/* ---- with a server ---- */
static void wait_for_objects(int there)
{
    int64_t until_ms = kp_mono_ms() + WAIT_MS;
    int now = -1;
    while (now != there && kp_mono_ms() < until_ms) {
        pthread_mutex_lock(&notes.lock);
        now = notes.there;
        pthread_mutex_unlock(&notes.lock);
        if (now != there)
            kp_sleep_ms(1);
    }
    assert_int_equal(now, there);
}

static void wait_for_watches(struct fake_api *api, int watches)
{
    int64_t until_ms = kp_mono_ms() + WAIT_MS;
    while (fake_api_counts(api).watches < watches && kp_mono_ms() < until_ms)
        kp_sleep_ms(1);
    assert_int_equal(fake_api_counts(api).watches, watches);
}

static void put_definition(struct fake_api *api, const char *uid)
{
    KP_AUTO_FREE char *json = kp_asprintf("{\"metadata\":{\"name\":\"widgets.example.org\",\"uid\":\"%s\"},\"spec\":{\"group\":\"example.org\",\"scope\":\"Namespaced\",\"names\":"
                                          "{\"plural\":\"widgets\",\"kind\":\"Widget\"},\"versions\":[{\"name\":\"v1\",\"served\":true,\"storage\":true,\"schema\":{\"openAPIV3Schema\":"
                                          "{\"type\":\"object\",\"x-kubernetes-preserve-unknown-fields\":true}}}]},\"status\":{\"conditions\":[{\"type\":\"Established\",\"status\":\"True\"}]}}", uid);
    fake_api_put(api, DEFINITIONS, json, false);
}

static void watches_come_and_go_with_definitions(void **state)
{
    struct kcm_store_world *f = *state;
    struct kp_error error = {0};
    fake_api_put(f->api, WIDGETS, "{\"metadata\":{\"name\":\"a\",\"namespace\":\"d\"},\"spec\":{\"size\":{\"x\":[1,2]}}}", true);
    assert_int_equal(engine_start(f->world->engine, &error), 0);
    wait_for_watches(f->api, 1); /* of definitions; nothing else is asked for */
    assert_int_equal(fake_api_counts(f->api).requests, 2);
    put_definition(f->api, "crd1");
    wait_for_objects(1);
    wait_for_watches(f->api, 2);
    fake_api_put(f->api, WIDGETS, "{\"metadata\":{\"name\":\"b\",\"namespace\":\"d\"},\"spec\":7}", false);
    wait_for_objects(2);
    fake_api_remove(f->api, WIDGETS, "a", false);
    wait_for_objects(1);
    fake_api_refuse(f->api, WIDGETS, 404, "404 page not found");
    fake_api_remove(f->api, DEFINITIONS, "widgets.example.org", false);
    wait_for_objects(0); /* its informer is stopped by then */
    struct fake_api_counts before = fake_api_counts(f->api);
    fake_api_drop_watches(f->api);
    wait_for_watches(f->api, before.watches + 1); /* only that of definitions comes again */
    assert_int_equal(fake_api_counts(f->api).requests, before.requests + 1);
    fake_api_refuse(f->api, NULL, 0, NULL);
    put_definition(f->api, "crd2");
    wait_for_objects(1);
}

static void one_is_not_ready_before_it_was_listed(void **state)
{
    struct kcm_store_world *f = *state;
    struct kp_error error = {0};
    fake_api_refuse(f->api, WIDGETS, 500, "no conversion");
    put_definition(f->api, "crd1");
    assert_int_equal(engine_start(f->world->engine, &error), 0); /* does not wait for it */
    KP_AUTO(customs_release) struct customs_list *list = customs_hold(engine_customs(f->world->engine));
    assert_int_equal(list->len, 1);
    assert_false(custom_ready(list->items[0]));
    fake_api_put(f->api, WIDGETS, "{\"metadata\":{\"name\":\"a\",\"namespace\":\"d\"}}", true);
    fake_api_refuse(f->api, NULL, 0, NULL);
    wait_for_objects(1);
    assert_int_equal(client_informers_wait(&list->items[0]->informer, 1, WAIT_MS, &error), 0);
    assert_true(custom_ready(list->items[0]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_stored_version_counts_or_the_first_that_is_served),
        cmocka_unit_test(one_that_is_not_established_or_not_served_defines_nothing),
        cmocka_unit_test(schemas_are_not_cached),
        cmocka_unit_test_setup_teardown(an_informer_stays_as_long_as_nothing_of_it_changes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(objects_of_a_deleted_definition_are_told_gone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_held_stays_until_it_is_released, set_up, tear_down),
        cmocka_unit_test_setup_teardown(of_the_gone_only_the_last_are_remembered, set_up, tear_down),
        cmocka_unit_test_setup_teardown(watches_come_and_go_with_definitions, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_is_not_ready_before_it_was_listed, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
