/* HorizontalPodAutoscalers: each is looked at every 15 s, and at once when its spec changes. Without one there are neither timers nor requests. */
#include "controlplane/controller-manager/controllers.h"
#include "controlplane/controller-manager/customs.h"
#include "controlplane/controller-manager/hpa.h"

#include <pthread.h>

#define HPA_WORKERS 5 /* upstream's --concurrent-horizontal-pod-autoscaler-syncs */
#define CONTROLLERS_TOLD_MAX 10

/* What is remembered of all of them, by "ns/name". An autoscaler is planned by one worker at a time, which alone uses its entry, but for the selector. */
struct hpa_state {
    struct hpa_settings settings;
    pthread_mutex_t lock;
    struct kp_strmap *memories; /* struct hpa_memory */
};

static void free_memory(void *p)
{
    hpa_memory_done(p);
    free(p);
}

static void forget(struct hpa_state *state, const char *key)
{
    pthread_mutex_lock(&state->lock);
    struct hpa_memory *memory = kp_strmap_remove(state->memories, key);
    pthread_mutex_unlock(&state->lock);
    if (memory)
        free_memory(memory);
}

static struct hpa_memory *need_memory(struct hpa_state *state, const char *key)
{
    pthread_mutex_lock(&state->lock);
    struct hpa_memory *memory = kp_strmap_get(state->memories, key);
    if (!memory) {
        memory = kp_calloc(1, sizeof(*memory));
        kp_strmap_put(state->memories, key, memory);
    }
    pthread_mutex_unlock(&state->lock);
    return memory;
}

static bool selects_any(const char *text, const struct hpa_input *in)
{
    struct kp_selector selector;
    if (kp_label_selector_parse(text, in->arena, &selector, NULL) < 0)
        return false;
    for (size_t i = 0; i < in->n_pods; i++)
        if (kp_selector_matches(&selector, &in->pods[i]->metadata->labels))
            return true;
    return false;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Notes this one's selector; "ns/a ns/b" when others have pods of it, NULL when none has. */
static const char *find_others(struct hpa_state *state, const char *key, const struct hpa_input *in, struct hpa_memory *memory)
{
    struct kp_string_list all = {0};
    const char *prefix = kp_arena_printf(in->arena, "%s/", in->hpa->metadata->namespace), *other;
    void *value;
    pthread_mutex_lock(&state->lock);
    if (!kp_streq(memory->selector, in->scale->status->selector)) {
        free(memory->selector);
        memory->selector = kp_strdup(in->scale->status->selector);
    }
    for (size_t iter = 0; kp_strmap_next(state->memories, &iter, &other, &value);) {
        const struct hpa_memory *theirs = value;
        if (theirs->selector && kp_starts_with(other, prefix) && (theirs == memory || selects_any(theirs->selector, in)))
            kp_string_list_add(in->arena, &all, kp_arena_strdup(in->arena, other));
    }
    pthread_mutex_unlock(&state->lock);
    if (all.len < 2 || !in->n_pods)
        return NULL;
    KP_AUTO_BUF struct kp_buf text = {0};
    qsort(all.items, all.len, sizeof(*all.items), by_name);
    for (size_t i = 0; i < KP_MIN(all.len, (size_t)CONTROLLERS_TOLD_MAX); i++)
        kp_buf_printf(&text, "%s%s", i ? " " : "", all.items[i]);
    return kp_arena_strdup(in->arena, text.data);
}

static int plan_autoscaler(const struct plan_input *plan_in, struct plan *plan, struct kp_error *error)
{
    struct hpa_state *state = plan_in->state;
    const char *key = kp_arena_printf(plan_in->arena, "%s/%s", plan_in->ns, plan_in->name);
    struct hpa_input in = {.settings = &state->settings, .arena = plan_in->arena, .now_s = plan_in->now_s};
    (void)error;
    in.hpa = client_view_get(plan_in->view, engine_cache(plan_in->engine, &k8s_autoscaling_v2_horizontalpodautoscalers_resource), plan_in->ns, plan_in->name);
    if (!in.hpa) {
        forget(state, key);
        return 0;
    }
    struct hpa_memory *memory = need_memory(state, key);
    hpa_gather(plan_in, &in);
    if (in.pods)
        in.ambiguous = find_others(state, key, &in, memory);
    hpa_decide(&in, memory, plan);
    plan_requeue_after_ms(plan, state->settings.sync_period_ms);
    return 0;
}

/* Its own status is no news: the next look is under way already. */
static void map_spec(struct controller_run *run, const struct client_object *old, const struct client_object *new)
{
    const struct k8s_autoscaling_v2_horizontal_pod_autoscaler *was = old ? old->data : NULL, *is = new ? new->data : NULL;
    if (was && is && kp_object_equal(&k8s_autoscaling_v2_horizontal_pod_autoscaler_spec_type, was->spec, is->spec))
        return;
    engine_map_self(run, old, new);
}

static int setup_autoscaler(struct engine *engine, struct controller_run *run, void **ret_state, struct kp_error *error)
{
    struct hpa_state *state = kp_calloc(1, sizeof(*state));
    (void)error;
    state->settings = engine_config(engine)->hpa ? *engine_config(engine)->hpa : HPA_SETTINGS_DEFAULT;
    state->memories = kp_strmap_new();
    pthread_mutex_init(&state->lock, NULL);
    *ret_state = state;
    engine_follow_customs(engine, run);
    engine_informer(engine, &k8s_pods_resource);
    engine_watch(run, &k8s_autoscaling_v2_horizontalpodautoscalers_resource, map_spec);
    return 0;
}

static void free_state(void *p)
{
    struct hpa_state *state = p;
    kp_strmap_free(state->memories, free_memory);
    pthread_mutex_destroy(&state->lock);
    free(state);
}

const struct controller horizontal_pod_autoscaler_controller = {
    .name = "horizontal-pod-autoscaler-controller", .workers = HPA_WORKERS, .setup = setup_autoscaler, .plan = plan_autoscaler, .teardown = free_state,
};
