/* Controllers without a server. */
#include "tests/support/kcm_world.h"
#include "tests/support/fake_api.h"
#include "tests/support/objects.h"

struct kcm_world *world_new(const struct controller *const *controllers, size_t n, const struct engine_config *config)
{
    static const struct engine_config plain = {.node_monitor_period_ms = 5000, .node_monitor_grace_period_ms = 50000, .terminated_pod_gc_threshold = 2};
    struct kcm_world *world = kp_calloc(1, sizeof(*world));
    struct kp_error error = {0};
    world->engine = engine_new(config ? config : &plain);
    world->now_s = WORLD_NOW;
    for (size_t i = 0; i < n; i++)
        if (engine_add(world->engine, controllers[i], &error) < 0) {
            fprintf(stderr, "%s\n", error.message);
            abort();
        }
    return world;
}

void world_free(struct kcm_world *world)
{
    client_view_free(world->view);
    kp_buf_done(&world->text);
    engine_stop(world->engine);
    free(world);
}

void world_put(struct kcm_world *world, const struct kp_resource *resource, const char *yaml)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    client_informer_inject(engine_cache(world->engine, resource), test_object(resource->type, arena, yaml));
}

void world_put_metadata(struct kcm_world *world, const struct kp_resource *resource, const char *yaml)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    client_informer_inject(engine_metadata_cache(world->engine, resource), test_object(&k8s_partial_object_metadata_type, arena, yaml));
}

void world_define(struct kcm_world *world, const char *yaml)
{
    world_put(world, &customs_definitions_resource, yaml);
    if (engine_customs(world->engine))
        customs_update(engine_customs(world->engine));
}

void world_undefine(struct kcm_world *world, const char *name)
{
    world_remove(world, &customs_definitions_resource, "", name);
    if (engine_customs(world->engine))
        customs_update(engine_customs(world->engine));
}

struct client_informer *world_customs(struct kcm_world *world, const char *name)
{
    KP_AUTO(customs_release) struct customs_list *list = customs_hold(engine_customs(world->engine));
    for (size_t i = 0; i < list->len; i++)
        if (kp_streq(list->items[i]->definition, name))
            return list->items[i]->informer;
    return NULL;
}

void world_put_custom(struct kcm_world *world, const char *name, const char *yaml)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    client_informer_inject(world_customs(world, name), test_object(&k8s_partial_object_metadata_type, arena, yaml));
}

void world_remove(struct kcm_world *world, const struct kp_resource *resource, const char *ns, const char *name)
{
    client_informer_inject_delete(engine_cache(world->engine, resource), ns, name);
}

const char *world_plan(struct kcm_world *world, const struct controller *controller, const char *key)
{
    struct kp_error error = {0};
    client_view_free(world->view);
    world->view = client_view_new();
    kp_buf_done(&world->text);
    world->plan = NULL;
    if (engine_trial(world->engine, controller->name, key, world->now_s, world->view, &world->plan, &error) < 0) {
        kp_buf_printf(&world->text, "error: %s\n", error.message);
        return world->text.data;
    }
    plan_describe(world->plan, &world->text);
    return world->text.data ? world->text.data : "";
}

static void inject_created(struct kcm_world *world, const struct plan_write *write)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    void *copy = kp_object_clone(write->resource->type, write->obj, arena);
    struct k8s_object_meta *meta = kp_object_meta(write->resource->type, copy);
    unsigned number = ++world->made;
    if (!meta->name)
        meta->name = kp_arena_printf(arena, "%s%u", meta->generate_name, number);
    meta->namespace = write->ns;
    meta->uid = kp_arena_printf(arena, "made-%u", number);
    meta->resource_version = "1";
    meta->generation = 1;
    meta->creation_timestamp = KP_TIME_OF(world->now_s + number);
    client_informer_inject(engine_cache(world->engine, write->resource), copy);
}

void world_apply(struct kcm_world *world)
{
    for (const struct plan_write *write = world->plan->first; write; write = write->next) {
        if (write->op == PLAN_CREATE)
            inject_created(world, write);
        else if (write->op == PLAN_UPDATE && !(write->told.fn && !write->told.differs))
            client_informer_inject(engine_cache(world->engine, write->resource), write->obj);
        else if (write->op == PLAN_DELETE)
            world_remove(world, write->resource, write->ns, write->name);
    }
}

const void *world_get(struct kcm_world *world, const struct kp_resource *resource, const char *ns, const char *name)
{
    if (!world->view)
        world->view = client_view_new();
    return client_view_get(world->view, engine_cache(world->engine, resource), ns, name);
}

const void *world_written(struct kcm_world *world, enum plan_op op, const struct kp_resource *resource, size_t nth)
{
    for (const struct plan_write *write = world->plan->first; write; write = write->next)
        if (write->op == op && write->resource == resource && !(write->told.fn && !write->told.differs) && nth-- == 0)
            return write->obj;
    return NULL;
}

size_t world_count(const struct kcm_world *world, const char *prefix)
{
    size_t n = 0;
    for (const char *line = world->text.data; line && *line; line = strchr(line, '\n') + 1)
        n += kp_starts_with(line, prefix);
    return n;
}

struct kcm_store_world *store_world_new(const struct controller *controller)
{
    struct kcm_store_world *store = kp_calloc(1, sizeof(*store));
    struct kp_error error = {0};
    store->loop = loop_new();
    bool started = loop_start(store->loop, "test", &error) == 0;
    store->api = fake_api_new(store->loop);
    const struct client_config config = {.servers = {fake_api_url(store->api)}, .n_servers = 1};
    if (!started || client_new(store->loop, &config, &store->client, &error) < 0) {
        fprintf(stderr, "%s\n", error.message);
        abort();
    }
    const struct engine_config engine = {.client = store->client};
    store->world = world_new(&controller, 1, &engine);
    return store;
}

void store_world_free(struct kcm_store_world *store)
{
    world_free(store->world);
    client_free(store->client);
    fake_api_free(store->api);
    loop_free(store->loop);
    free(store);
}
