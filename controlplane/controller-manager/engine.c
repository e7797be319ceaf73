/* Runs controllers: informers feed queues, workers plan and write, and a key is planned again only when the caches have seen
 * what its last plan wrote - so that no controller needs expectations of its own. */
#include "controlplane/controller-manager/customs.h"
#include "controlplane/controller-manager/engine_internal.h"

#include <pthread.h>

#define ENGINE_INFORMERS_MAX 192
#define ENGINE_CONTROLLERS_MAX 48
#define ENGINE_WATCHES_MAX 16
#define ENGINE_SEEN_TIMEOUT_MS 5000 /* after which a write that never showed up is given up on: the object went away again */
#define ENGINE_SYNC_TIMEOUT_MS 60000
#define ENGINE_BACK_OFF_MS (-2) /* instead of a delay: the queue's own */
#define ENGINE_STACK_BYTES ((size_t)512 << 10)

struct shared_informer {
    struct client_informer *informer;
    const struct kp_resource *resource;
    bool metadata;   /* caches nothing else */
    int owner_index; /* -1: none */
};

/* One write whose effect the cache has to show before its key is planned again. */
struct expectation {
    struct expectation *next;
    struct client_informer *informer;
    char *ns, *name, *uid;
    int64_t min_version; /* 0: the object (by uid) must be gone or going */
    int64_t deadline_ms;
};

struct subscription {
    struct controller_run *run;
    engine_map map;
    const struct kp_resource *owner; /* of engine_watch_owned */
};

struct controller_run {
    struct engine *engine;
    const struct controller *controller;
    struct client_queue *queue;
    void *state;
    struct subscription subscriptions[ENGINE_WATCHES_MAX];
    size_t n_subscriptions;
    pthread_mutex_t lock;
    struct kp_strmap *expected; /* key -> struct expectation list */
    pthread_t *threads;
    unsigned n_threads;
};

struct engine {
    struct engine_config config;
    struct client_recorder *recorder;
    struct shared_informer informers[ENGINE_INFORMERS_MAX];
    size_t n_informers;
    struct controller_run *runs[ENGINE_CONTROLLERS_MAX];
    size_t n_runs;
    struct customs *customs; /* NULL: nobody goes by them */
    bool started;
};

static struct kp_metric *metric_plans, *metric_errors;

struct engine *engine_new(const struct engine_config *config)
{
    static const char *const labels[] = {"controller", NULL};
    struct engine *engine = kp_calloc(1, sizeof(*engine));
    engine->config = *config;
    engine->recorder = client_recorder_new(config->client, "controllermanager", NULL);
    metric_plans = kp_counter("kcm_plans_total", "Plans made, by controller.", labels);
    metric_errors = kp_counter("kcm_plan_errors_total", "Plans that failed and come back, by controller.", labels);
    return engine;
}

struct client *engine_client(const struct engine *engine)
{
    return engine->config.client;
}

const struct engine_config *engine_config(const struct engine *engine)
{
    return &engine->config;
}

static struct shared_informer *find_shared(const struct engine *engine, const struct kp_resource *resource, bool metadata)
{
    for (size_t i = 0; i < engine->n_informers; i++)
        if (engine->informers[i].resource == resource && engine->informers[i].metadata == metadata)
            return (struct shared_informer *)&engine->informers[i];
    return NULL;
}

static struct shared_informer *need_shared(struct engine *engine, const struct kp_resource *resource, bool metadata)
{
    struct shared_informer *shared = find_shared(engine, resource, metadata);
    if (shared)
        return shared;
    KP_ASSERT(!engine->started && engine->n_informers < ENGINE_INFORMERS_MAX);
    shared = &engine->informers[engine->n_informers++];
    shared->resource = resource;
    shared->metadata = metadata;
    shared->informer = metadata ? client_informer_new_metadata(engine->config.client, resource)
                                : client_informer_new(engine->config.client, resource, NULL, NULL, NULL);
    shared->owner_index = -1;
    return shared;
}

/* A plan uses an informer that its controller's setup asked for. */
static struct client_informer *cache_of(const struct engine *engine, const struct kp_resource *resource, bool metadata)
{
    struct shared_informer *shared = find_shared(engine, resource, metadata);
    KP_ASSERT(shared);
    return shared->informer;
}

struct client_informer *engine_informer(struct engine *engine, const struct kp_resource *resource)
{
    return need_shared(engine, resource, false)->informer;
}

struct client_informer *engine_cache(const struct engine *engine, const struct kp_resource *resource)
{
    return cache_of(engine, resource, false);
}

struct client_informer *engine_metadata_informer(struct engine *engine, const struct kp_resource *resource)
{
    return need_shared(engine, resource, true)->informer;
}

struct client_informer *engine_metadata_cache(const struct engine *engine, const struct kp_resource *resource)
{
    return cache_of(engine, resource, true);
}

struct customs *engine_follow_customs(struct engine *engine, struct controller_run *run)
{
    if (!engine->customs)
        engine->customs = customs_new(engine, run);
    return engine->customs;
}

struct customs *engine_customs(const struct engine *engine)
{
    return engine->customs;
}

static size_t owner_uids(const struct client_object *object, const char **values, size_t max)
{
    const struct k8s_owner_reference *owner = engine_controller_of(kp_object_meta(object->type, object->data));
    values[0] = owner && owner->uid ? owner->uid : object->ns;
    return 1;
}

int engine_owner_index(struct engine *engine, const struct kp_resource *resource)
{
    struct shared_informer *shared = need_shared(engine, resource, false);
    if (shared->owner_index < 0)
        shared->owner_index = client_informer_add_index(shared->informer, owner_uids);
    return shared->owner_index;
}

/* ---- watching ------------------------------------------------------------------------------------------------------- */
static void on_change(struct client_object *old, struct client_object *new, void *arg)
{
    struct subscription *subscription = arg;
    subscription->map(subscription->run, old, new);
}

static struct subscription *subscribe(struct controller_run *run)
{
    KP_ASSERT(run->n_subscriptions < ENGINE_WATCHES_MAX);
    struct subscription *subscription = &run->subscriptions[run->n_subscriptions++];
    subscription->run = run;
    return subscription;
}

void engine_watch(struct controller_run *run, const struct kp_resource *resource, engine_map map)
{
    struct subscription *subscription = subscribe(run);
    subscription->map = map;
    client_informer_add_handler(engine_informer(run->engine, resource), on_change, subscription);
}

void engine_map_self(struct controller_run *run, const struct client_object *old, const struct client_object *new)
{
    const struct client_object *object = new ? new : old;
    engine_enqueue(run, object->ns, object->name);
}

static void enqueue_owner(const struct subscription *subscription, const struct client_object *object)
{
    const struct k8s_owner_reference *owner = engine_controller_of(kp_object_meta(object->type, object->data));
    if (owner && kp_streq(owner->kind, subscription->owner->kind))
        engine_enqueue(subscription->run, subscription->owner->namespaced ? object->ns : "", owner->name);
}

static void on_owned_change(struct client_object *old, struct client_object *new, void *arg)
{
    if (old)
        enqueue_owner(arg, old); /* also when it was adopted away: the old owner must hear of it */
    if (new)
        enqueue_owner(arg, new);
}

void engine_watch_owned(struct controller_run *run, const struct kp_resource *owned, const struct kp_resource *owner)
{
    struct subscription *subscription = subscribe(run);
    subscription->owner = owner;
    client_informer_add_handler(engine_informer(run->engine, owned), on_owned_change, subscription);
}

static char *make_key(const char *ns, const char *name)
{
    return kp_empty(ns) ? kp_strdup(name) : kp_asprintf("%s/%s", ns, name);
}

void engine_enqueue(struct controller_run *run, const char *ns, const char *name)
{
    KP_AUTO_FREE char *key = make_key(ns, name);
    client_queue_add(run->queue, key);
}

void engine_enqueue_after(struct controller_run *run, const char *ns, const char *name, int64_t delay_ms)
{
    KP_AUTO_FREE char *key = make_key(ns, name);
    client_queue_add_after(run->queue, key, delay_ms);
}

void *engine_run_state(const struct controller_run *run)
{
    return run->state;
}

struct engine *engine_of(const struct controller_run *run)
{
    return run->engine;
}

/* ---- reading our own writes ------------------------------------------------------------------------------------------- */
static void free_expectation(struct expectation *e)
{
    free(e->ns);
    free(e->name);
    free(e->uid);
    free(e);
}

static int64_t version_number(const char *resource_version)
{
    int64_t n = 0;
    return resource_version && kp_parse_i64(resource_version, &n) == 0 ? n : 0;
}

static void expect(struct controller_run *run, const char *key, const struct kp_resource *resource, const char *ns,
                   const char *name, const char *uid, int64_t min_version)
{
    struct shared_informer *shared = find_shared(run->engine, resource, false);
    if (!shared)
        return; /* nobody reads it, so nobody can be misled */
    struct expectation *e = kp_calloc(1, sizeof(*e));
    e->informer = shared->informer;
    e->ns = kp_strdup(ns ? ns : "");
    e->name = kp_strdup(name);
    e->uid = kp_strdup(uid);
    e->min_version = min_version;
    e->deadline_ms = kp_mono_ms() + ENGINE_SEEN_TIMEOUT_MS;
    pthread_mutex_lock(&run->lock);
    e->next = kp_strmap_get(run->expected, key);
    kp_strmap_put(run->expected, key, e);
    pthread_mutex_unlock(&run->lock);
}

static bool seen(const struct expectation *e)
{
    KP_AUTO(client_object_unref) struct client_object *object = client_informer_get(e->informer, e->ns, e->name);
    if (e->min_version)
        return object && version_number(object->resource_version) >= e->min_version;
    if (!object || (e->uid && !kp_streq(object->uid, e->uid)))
        return true;
    return kp_object_meta(object->type, object->data)->deletion_timestamp.set;
}

/* True when the caches show all that this key wrote before; drops what was seen or has waited too long. */
static bool caught_up(struct controller_run *run, const char *key)
{
    int64_t now_ms = kp_mono_ms();
    pthread_mutex_lock(&run->lock);
    struct expectation *list = kp_strmap_remove(run->expected, key), *left = NULL;
    while (list) {
        struct expectation *e = list;
        list = e->next;
        if (e->deadline_ms <= now_ms || seen(e)) {
            free_expectation(e);
        } else {
            e->next = left;
            left = e;
        }
    }
    if (left)
        kp_strmap_put(run->expected, key, left);
    pthread_mutex_unlock(&run->lock);
    return left == NULL;
}

/* ---- carrying a plan out ------------------------------------------------------------------------------------------------ */
/* created: the name of the object created last, for events that tell it; "" before the first. */
static int carry_out(struct controller_run *run, const char *key, const struct plan_write *write, struct kp_arena *arena,
                     char created[CLIENT_KEY_PART_MAX], struct kp_error *error)
{
    struct client *client = run->engine->config.client;
    const struct client_write_options options = {.subresource = write->subresource, .field_manager = "kube-controller-manager"};
    void *answer = NULL;
    int code = 0;
    switch (write->op) {
    case PLAN_CREATE:
        code = client_create(client, write->resource, write->ns, write->obj, &options, arena, &answer, error);
        if (code == KP_EEXISTS) {
            created[0] = '\0';
            return 0;
        }
        break;
    case PLAN_UPDATE:
        code = client_update(client, write->resource, write->obj, &options, arena, &answer, error);
        break;
    case PLAN_PATCH:
        code = client_patch(client, write->resource, write->ns, write->name, write->patch_type, write->text,
                            strlen(write->text), &options, arena, &answer, error);
        break;
    case PLAN_DELETE: {
        const struct client_delete_options del = {.grace_period_s = write->grace_period_s, .propagation = write->text, .uid = write->uid};
        code = client_delete(client, write->resource, write->ns, write->name, &del, error);
        if (code == KP_ENOTFOUND || (code == KP_ECONFLICT && write->uid))
            return 0;
        if (code == 0)
            expect(run, key, write->resource, write->ns, write->name, write->uid, 0);
        return code;
    }
    case PLAN_EVENT:
        if (write->append_created && !created[0])
            return 0;
        client_event(run->engine->recorder, &write->target, write->event_type, write->reason, "%s%s", write->text,
                     write->append_created ? created : "");
        return 0;
    case PLAN_EVENT_ON_FAILURE:
        return 0;
    case PLAN_DELETE_COLLECTION:
        return client_delete_collection(client, write->resource, write->ns, NULL, NULL, error);
    }
    if (code < 0)
        return code;
    const struct k8s_object_meta *meta = kp_object_meta(write->resource->type, answer);
    if (write->op == PLAN_CREATE)
        snprintf(created, CLIENT_KEY_PART_MAX, "%s", meta->name);
    expect(run, key, write->resource, meta->namespace, meta->name, meta->uid, version_number(meta->resource_version));
    return 0;
}

static bool is_about_create(const struct plan_write *write)
{
    return write->op == PLAN_CREATE || (write->op == PLAN_EVENT && write->append_created);
}

/* Whether the write is to be made at all; why: of the create that failed before it, or "". */
static bool is_wanted(const struct plan_write *write, const char *why, struct kp_arena *arena)
{
    if (*why && (is_about_create(write) || write->if_done))
        return false;
    if (!write->told.fn)
        return true;
    return *why ? write->told.fn(write->told.obj, write->told.was, why, write->told.now_s, arena) : write->told.differs;
}

static int carry_out_all(struct controller_run *run, const char *key, const struct plan *plan, struct kp_error *error)
{
    char created[CLIENT_KEY_PART_MAX] = "", why[KP_ERROR_MESSAGE_MAX] = "";
    int first_code = 0;
    for (const struct plan_write *write = plan->first; write; write = write->next) {
        struct kp_error later = {0}, *this_error = first_code ? &later : error;
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        if (!is_wanted(write, why, arena))
            continue;
        int code = carry_out(run, key, write, arena, created, this_error);
        if (code == 0)
            continue;
        const struct plan_write *next = write->next;
        if (next && next->op == PLAN_EVENT_ON_FAILURE && code != KP_ECONFLICT)
            client_event(run->engine->recorder, &next->target, next->event_type, next->reason, "%s%s", next->text, this_error->message);
        bool told = write->go_on && code != KP_ECONFLICT;
        bool go_on = told || (write->op == PLAN_CREATE && write->resource == &k8s_pods_resource);
        if (first_code == 0)
            snprintf(why, sizeof(why), "%s", *this_error->message ? this_error->message : "unknown");
        if (told)
            kp_warn("a scale could not be changed", "resource", write->resource->name, "namespace", write->ns, "name", write->name, "error",
                    this_error->message, NULL);
        else if (first_code == 0)
            first_code = kp_wrap(error, "%s %s/%s", write->resource->name, write->ns, write->name);
        if (!go_on)
            break;
    }
    return first_code;
}

int engine_trial(struct engine *engine, const char *controller, const char *key, int64_t now_s, struct client_view *view,
                 struct plan **ret_plan, struct kp_error *error)
{
    char ns[CLIENT_KEY_PART_MAX], name[CLIENT_KEY_PART_MAX];
    KP_ASSERT(!engine->started && client_key_split(key, ns, name) == 0);
    struct kp_arena *arena = client_view_arena(view);
    for (size_t i = 0; i < engine->n_runs; i++) {
        struct controller_run *run = engine->runs[i];
        if (!kp_streq(run->controller->name, controller))
            continue;
        const struct plan_input in = {
            .engine = engine, .view = view, .arena = arena, .ns = kp_arena_strdup(arena, ns), .name = kp_arena_strdup(arena, name),
            .now_s = now_s, .state = run->state,
        };
        *ret_plan = plan_new(arena);
        return run->controller->plan(&in, *ret_plan, error);
    }
    return kp_fail(error, KP_ENOTFOUND, "controller %s was not added", controller);
}

static int plan_key(struct controller_run *run, const char *key, int64_t *ret_requeue_ms, struct kp_error *error)
{
    char ns[CLIENT_KEY_PART_MAX], name[CLIENT_KEY_PART_MAX];
    if (strcmp(key, CUSTOMS_KEY) == 0) {
        KP_ASSERT(customs_is_of(run->engine->customs, run));
        *ret_requeue_ms = customs_update(run->engine->customs);
        return 0;
    }
    if (client_key_split(key, ns, name) < 0)
        return 0; /* no object can have such a name */
    KP_AUTO(client_view_free) struct client_view *view = client_view_new();
    struct kp_arena *arena = client_view_arena(view);
    struct plan *plan = plan_new(arena);
    const struct plan_input in = {
        .engine = run->engine, .view = view, .arena = arena, .ns = ns, .name = name, .now_s = kp_now_s(), .state = run->state,
    };
    kp_metric_add(metric_plans, 1, run->controller->name);
    if (run->controller->plan(&in, plan, error) < 0)
        return error->code;
    *ret_requeue_ms = plan->back_off ? ENGINE_BACK_OFF_MS : plan->requeue_after_ms;
    return carry_out_all(run, key, plan, error);
}

static void *work(void *arg)
{
    struct controller_run *run = arg;
    char *key;
    while ((key = client_queue_get(run->queue))) {
        struct kp_error error = {0};
        int64_t requeue_ms = -1;
        if (!caught_up(run, key)) {
            client_queue_add_after(run->queue, key, 5);
        } else if (plan_key(run, key, &requeue_ms, &error) < 0) {
            /* A lost race is normal: the newer object is on its way through the watch. */
            if (error.code != KP_ECONFLICT && client_queue_failures(run->queue, key) % 8 == 3)
                kp_warn("plan will be made again", "controller", run->controller->name, "key", key, "error", error.message, NULL);
            kp_metric_add(metric_errors, 1, run->controller->name);
            client_queue_add_rate_limited(run->queue, key);
        } else if (requeue_ms == ENGINE_BACK_OFF_MS) {
            client_queue_add_rate_limited(run->queue, key);
        } else {
            client_queue_forget(run->queue, key);
            if (requeue_ms >= 0)
                client_queue_add_after(run->queue, key, requeue_ms);
        }
        client_queue_done(run->queue, key);
        free(key);
    }
    return NULL;
}

/* ---- life ------------------------------------------------------------------------------------------------------------------ */
int engine_add(struct engine *engine, const struct controller *controller, struct kp_error *error)
{
    KP_ASSERT(!engine->started && engine->n_runs < ENGINE_CONTROLLERS_MAX);
    struct controller_run *run = kp_calloc(1, sizeof(*run));
    run->engine = engine;
    run->controller = controller;
    run->queue = client_queue_new(controller->name);
    run->expected = kp_strmap_new();
    pthread_mutex_init(&run->lock, NULL);
    engine->runs[engine->n_runs++] = run;
    if (controller->setup(engine, run, &run->state, error) < 0)
        return kp_wrap(error, "controller %s", controller->name);
    return 0;
}

int engine_start(struct engine *engine, struct kp_error *error)
{
    struct client_informer *informers[ENGINE_INFORMERS_MAX];
    engine->started = true;
    for (size_t i = 0; i < engine->n_informers; i++) {
        informers[i] = engine->informers[i].informer;
        client_informer_start(informers[i]);
    }
    if (client_informers_wait(informers, engine->n_informers, ENGINE_SYNC_TIMEOUT_MS, error) < 0)
        return error->code;
    if (engine->customs)
        customs_start(engine->customs);
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, ENGINE_STACK_BYTES);
    int code = 0;
    for (size_t i = 0; i < engine->n_runs && code == 0; i++) {
        struct controller_run *run = engine->runs[i];
        unsigned workers = run->controller->workers ? run->controller->workers : 1;
        run->threads = kp_calloc(workers, sizeof(pthread_t));
        for (; run->n_threads < workers; run->n_threads++)
            if (pthread_create(&run->threads[run->n_threads], &attr, work, run) != 0) {
                code = kp_fail(error, KP_EUNAVAILABLE, "controller %s: no thread could be started", run->controller->name);
                break;
            }
    }
    pthread_attr_destroy(&attr);
    return code;
}

static void free_expectations(void *p)
{
    struct expectation *e = p;
    while (e) {
        struct expectation *next = e->next;
        free_expectation(e);
        e = next;
    }
}

void engine_stop(struct engine *engine)
{
    for (size_t i = 0; i < engine->n_runs; i++)
        client_queue_shutdown(engine->runs[i]->queue);
    for (size_t i = 0; i < engine->n_runs; i++)
        for (unsigned t = 0; t < engine->runs[i]->n_threads; t++)
            pthread_join(engine->runs[i]->threads[t], NULL);
    for (size_t i = 0; i < engine->n_informers; i++) /* all, before the first is freed: handlers read others' caches */
        client_informer_stop(engine->informers[i].informer);
    customs_stop(engine->customs);
    customs_free(engine->customs);
    for (size_t i = 0; i < engine->n_informers; i++)
        client_informer_free(engine->informers[i].informer);
    for (size_t i = 0; i < engine->n_runs; i++) {
        struct controller_run *run = engine->runs[i];
        if (run->state && run->controller->teardown)
            run->controller->teardown(run->state);
        client_queue_free(run->queue);
        kp_strmap_free(run->expected, free_expectations);
        pthread_mutex_destroy(&run->lock);
        free(run->threads);
        free(run);
    }
    client_recorder_free(engine->recorder);
    free(engine);
}
