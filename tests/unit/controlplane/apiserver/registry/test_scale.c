/* The scale of a custom resource: reading and writing at the paths of its definition. */
#include "controlplane/apiserver/registry/registry_internal.h"

#include "controlplane/apiserver/watch/watch_internal.h"
#include "tests/unit/controlplane/apiserver/caches_memory_test.h"
#include "tests/unit/controlplane/apiserver/fake_store_test.h"
#include "tests/unit/controlplane/apiserver/widget_test.h"

struct fixture {
    struct loop *loop;
    struct store *store;
    struct wcache_set *caches;
    struct registry *registry;
    struct registry_kind kind;
    struct kp_arena *arena;
    struct api_status status;
    struct registry_request rq;
    struct k8s_scale *scale;
};
static const struct auth_user joe = {.name = "joe", .uid = ""};

static int set_up(void **state)
{
    struct fixture *f = kp_calloc(1, sizeof(*f));
    struct kp_error error = {0};
    f->kind = (struct registry_kind){.group = "example.test", .resource = "widgets", .version = "v1", .storage = &widget_resource,
                                     .cache_kind = {.resource = &widget_resource, .prefix = "/registry/example.test/widgets/"},
                                     .validate = validate_scale_paths, .flags = KIND_GENERATION, .scale_spec_path = ".spec.replicas",
                                     .scale_status_path = ".status.replicas", .scale_selector_path = ".status.selector"};
    const struct wcache_kind *kinds[] = {&f->kind.cache_kind};
    f->loop = loop_new();
    assert_int_equal(loop_start(f->loop, "test", &error), 0);
    f->store = fake_store_new(f->loop);
    f->caches = wcache_set_new(f->loop, f->store, kinds, KP_ARRAY_LEN(kinds));
    assert_true(wcache_set_wait_ready(f->caches, 5000));
    const struct registry_config config = {.store = f->store, .caches = f->caches, .service_cidr = "10.96.0.0/24", .node_port_min = 30000, .node_port_max = 30010};
    if (registry_new(&config, &f->registry, &error) < 0)
        fail_msg("%s", error.message);
    f->arena = kp_arena_new(0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    registry_free(f->registry);
    wcache_set_free(f->caches); /* keeps its memory, as its comment says */
    loop_free(f->loop);
    caches_memory_free(f->caches);
    fake_store_free(f->store);
    kp_arena_free(f->arena);
    free(f);
    return 0;
}

static void about(struct fixture *f, const char *subresource, const char *name)
{
    f->status = API_STATUS(f->arena);
    f->rq = (struct registry_request){.arena = f->arena, .user = &joe, .resource = &widget_resource, .kind = &f->kind, .subresource = subresource, .ns = "n",
                                      .name = name, .field_manager = "test", .now_s = INT64_C(1767225600), .status = &f->status};
}

/* Makes a widget "w" with what is given beside its metadata. */
static int create(struct fixture *f, const char *rest)
{
    void *obj = NULL;
    struct kp_error error = {0};
    KP_AUTO(wcache_object_unref) struct wcache_object *object = NULL;
    const char *json = kp_arena_printf(f->arena, "{\"metadata\":{\"name\":\"w\"}%s}", rest);
    about(f, "", "");
    if (kp_json_decode(&widget_type, json, strlen(json), f->arena, NULL, &obj, &error) < 0)
        fail_msg("%s", error.message);
    return registry_create(f->registry, &f->rq, obj, &object);
}

static int get_scale(struct fixture *f)
{
    about(f, "scale", "w");
    return registry_scale_get(f->registry, &f->rq, &f->scale);
}

/* Sets the replicas of a Scale unless arg is NULL. */
static int make(void *arg, struct registry_request *rq, const void *current, void **ret_new)
{
    struct k8s_scale *scale = KP_OBJECT_CLONE(rq->arena, k8s_scale, current);
    if (arg)
        KP_SET(scale->spec, replicas, *(const int32_t *)arg);
    *ret_new = scale;
    return 0;
}

static int put_scale(struct fixture *f, const int32_t *replicas)
{
    about(f, "scale", "w");
    return registry_scale_update(f->registry, &f->rq, make, (void *)(uintptr_t)replicas, &f->scale);
}

static void stored_is(struct fixture *f, const char *path, const char *expected)
{
    KP_AUTO(wcache_object_unref) struct wcache_object *object = NULL;
    about(f, "", "w");
    assert_int_equal(registry_get(f->registry, &f->rq, NULL, &object), 0);
    assert_string_equal(wcache_field_value(&widget_type, registry_decode(&f->kind, object, f->arena), path, f->arena), expected);
}

static void failed(struct fixture *f, int code, int http_status, const char *message)
{
    assert_int_not_equal(code, 0);
    assert_int_equal(f->status.http_status, http_status);
    assert_string_equal(f->status.message, message);
}

static void a_scale_is_read_from_the_paths(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, ",\"spec\":{\"replicas\":3},\"status\":{\"replicas\":2,\"selector\":\"a=b\"}"), 0);
    assert_int_equal(get_scale(f), 0);
    assert_string_equal(f->scale->metadata->name, "w");
    assert_int_equal(f->scale->spec->replicas, 3);
    assert_int_equal(f->scale->status->replicas, 2);
    assert_string_equal(f->scale->status->selector, "a=b");
}

static void what_the_status_does_not_say_is_nothing(void **state)
{
    struct fixture *f = *state;
    f->kind.scale_selector_path = NULL;
    assert_int_equal(create(f, ",\"spec\":{\"replicas\":0}"), 0);
    assert_int_equal(get_scale(f), 0);
    assert_int_equal(f->scale->spec->replicas, 0);
    assert_int_equal(f->scale->status->replicas, 0);
    assert_string_equal(f->scale->status->selector, "");
}

static void replicas_are_written_at_the_path(void **state)
{
    struct fixture *f = *state;
    const int32_t five = 5, nothing = 0;
    assert_int_equal(create(f, ",\"spec\":{\"replicas\":3,\"color\":\"red\"},\"status\":{\"replicas\":2}"), 0);
    assert_int_equal(put_scale(f, &five), 0);
    assert_int_equal(f->scale->spec->replicas, 5);
    assert_int_equal(f->scale->status->replicas, 2);
    stored_is(f, "spec.replicas", "5");
    stored_is(f, "spec.color", "red");
    stored_is(f, "status.replicas", "2");
    stored_is(f, "metadata.generation", "2");
    assert_int_equal(put_scale(f, &nothing), 0);
    stored_is(f, "spec.replicas", "0");
    const int32_t fewer = -1;
    failed(f, put_scale(f, &fewer), 422, "Widget.example.test \"w\" is invalid: .spec.replicas: Invalid value: -1: should be a non-negative integer");
}

static void missing_replicas_are_told_and_can_be_set(void **state)
{
    struct fixture *f = *state;
    const int32_t two = 2;
    f->kind.scale_spec_path = ".spec.extra.want";
    assert_int_equal(create(f, ""), 0);
    failed(f, get_scale(f), 500, "Internal error occurred: the spec replicas field \".spec.extra.want\" does not exist");
    failed(f, put_scale(f, NULL), 400, "the spec replicas field \".spec.extra.want\" cannot be empty");
    assert_int_equal(put_scale(f, &two), 0);
    stored_is(f, "spec.extra.want", "2");
    assert_int_equal(get_scale(f), 0);
    assert_int_equal(f->scale->spec->replicas, 2);
}

static void values_of_other_kinds_are_told(void **state)
{
    struct fixture *f = *state;
    const int32_t two = 2;
    f->kind.validate = NULL;
    assert_int_equal(create(f, ",\"spec\":{\"replicas\":\"many\"}"), 0);
    failed(f, get_scale(f), 500, ".spec.replicas accessor error: many is of the type string, expected int64");
    failed(f, put_scale(f, &two), 500, ".spec.replicas accessor error: many is of the type string, expected int64");
    f->kind.scale_spec_path = ".spec.replicas.want";
    failed(f, get_scale(f), 500, ".spec.replicas.want accessor error: many is of the type string, expected map[string]interface{}");
}

static void objects_are_checked_at_the_paths(void **state)
{
    struct fixture *f = *state;
    failed(f, create(f, ",\"spec\":{\"replicas\":-2},\"status\":{\"replicas\":1.5,\"selector\":true}"), 422,
           "Widget.example.test \"w\" is invalid: [.spec.replicas: Invalid value: -2: should be a non-negative integer, "
           ".status.replicas: Invalid value: 0: .status.replicas accessor error: 1.5 is of the type float64, expected int64, "
           ".status.selector: Invalid value: \"\": .status.selector accessor error: true is of the type bool, expected string]");
    failed(f, create(f, ",\"spec\":{\"replicas\":2147483648}"), 422,
           "Widget.example.test \"w\" is invalid: .spec.replicas: Invalid value: 2147483648: should be less than or equal to 2147483647");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_scale_is_read_from_the_paths),
        TEST(what_the_status_does_not_say_is_nothing),
        TEST(replicas_are_written_at_the_path),
        TEST(missing_replicas_are_told_and_can_be_set),
        TEST(values_of_other_kinds_are_told),
        TEST(objects_are_checked_at_the_paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
