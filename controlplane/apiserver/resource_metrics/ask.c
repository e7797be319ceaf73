/* Asking kubelets: many at once, each at most once in a while, one answer for all who wait for it. */
#include "controlplane/apiserver/resource_metrics/resource_metrics.h"

#include "lib/http/http.h"

#include <pthread.h>
#include <time.h>

#define SUMMARY_PATH "/stats/summary"
#define ASK_MS_MAX (RESOURCE_METRICS_TIMEOUT_MS + 500)

/* One node that was asked. Its client and sample are the worker's while asking. */
struct asked_node {
    struct resource_metrics *metrics;
    char *name, *endpoint, *next_endpoint; /* next: where to ask the next time, when it moved */
    struct http_client *client;
    struct resource_metrics_sample *sample; /* NULL: the last time failed */
    int64_t asked_ms, used_ms;              /* 0: never */
    bool asking;
};

struct resource_metrics {
    struct resource_metrics_config config;
    struct pool *pool;
    struct loop_timer *timer; /* of the loop */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* some node is asked no more */
    struct kp_strmap *nodes; /* struct asked_node by name */
};

static void free_node(void *p)
{
    struct asked_node *node = p;
    http_client_free(node->client);
    resource_metrics_sample_unref(node->sample);
    free(node->name);
    free(node->endpoint);
    free(node->next_endpoint);
    free(node);
}

/* ---- one node, on a worker --------------------------------------------------------------------------------------------------- */
static int connect_to(struct asked_node *node, struct kp_error *error)
{
    if (node->client && kp_streq(node->endpoint, node->next_endpoint))
        return 0;
    http_client_free(KP_TAKE(node->client));
    free(node->endpoint);
    node->endpoint = kp_strdup(node->next_endpoint);
    const char *endpoint = node->endpoint;
    const struct http_client_config config = {.endpoints = &endpoint,
                                              .endpoint_count = 1,
                                              .tls = node->metrics->config.tls,
                                              .protocol = HTTP_CLIENT_H1,
                                              .connections_max = 1,
                                              .body_bytes_max = RESOURCE_METRICS_BYTES_MAX,
                                              .connect_timeout_ms = RESOURCE_METRICS_TIMEOUT_MS};
    return http_client_new(node->metrics->config.loop, &config, &node->client, error);
}

static int ask(struct asked_node *node, struct resource_metrics_sample **ret_sample, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const struct http_client_request request = {.method = "GET", .path = SUMMARY_PATH, .timeout_ms = RESOURCE_METRICS_TIMEOUT_MS};
    struct http_response response;
    if (connect_to(node, error) < 0 || http_client_do(node->client, &request, arena, &response, error) < 0)
        return error->code;
    if (response.status != 200)
        return kp_fail(error, KP_EUNAVAILABLE, "GET %s%s: %d %.*s", node->endpoint, SUMMARY_PATH, response.status,
                       (int)KP_MIN(response.body.len, (size_t)200), (const char *)response.body.data);
    return resource_metrics_decode((const char *)response.body.data, response.body.len, node->sample, ret_sample, error);
}

static void ask_node(void *arg)
{
    struct asked_node *node = arg;
    struct resource_metrics *metrics = node->metrics;
    struct resource_metrics_sample *sample = NULL;
    struct kp_error error = {0};
    if (ask(node, &sample, &error) < 0)
        kp_warn("metrics of a node could not be read", "node", node->name, "error", error.message, NULL);
    pthread_mutex_lock(&metrics->lock);
    resource_metrics_sample_unref(node->sample);
    node->sample = sample;
    node->asked_ms = metrics->config.now_ms();
    node->asking = false;
    pthread_cond_broadcast(&metrics->changed);
    pthread_mutex_unlock(&metrics->lock);
}

/* ---- many ------------------------------------------------------------------------------------------------------------------------ */
/* Under the lock. */
static struct asked_node *need_node(struct resource_metrics *metrics, const struct resource_metrics_node *wanted, int64_t now_ms)
{
    struct asked_node *node = kp_strmap_get(metrics->nodes, wanted->name);
    if (!node) {
        node = kp_calloc(1, sizeof(*node));
        node->metrics = metrics;
        node->name = kp_strdup(wanted->name);
        kp_strmap_put(metrics->nodes, wanted->name, node);
    }
    node->used_ms = now_ms;
    bool moved = !kp_streq(node->next_endpoint, wanted->endpoint);
    if (node->asking || (node->asked_ms && !moved && now_ms - node->asked_ms < RESOURCE_METRICS_KEEP_MS))
        return node;
    free(node->next_endpoint);
    node->next_endpoint = kp_strdup(wanted->endpoint);
    node->asking = true;
    if (pool_submit(metrics->pool, ask_node, node) < 0) {
        node->asking = false;
        resource_metrics_sample_unref(KP_TAKE(node->sample)); /* what it said before is too old */
        kp_warn("too many nodes wait to be asked for their metrics", "node", node->name, NULL);
    }
    return node;
}

static bool wait_for(struct resource_metrics *metrics, const struct asked_node *node, const struct timespec *until)
{
    while (node->asking)
        if (pthread_cond_clockwait(&metrics->changed, &metrics->lock, CLOCK_MONOTONIC, until) != 0)
            return !node->asking;
    return true;
}

/* ---- forgetting ---------------------------------------------------------------------------------------------------------------- */
static void start_timer(void *arg)
{
    struct resource_metrics *metrics = arg;
    if (metrics->timer)
        loop_timer_start(metrics->timer, RESOURCE_METRICS_FORGET_MS, 0);
}

/* On a worker, for a client waits for its loop when it is freed. */
static void forget(void *arg)
{
    struct resource_metrics *metrics = arg;
    struct kp_strmap *gone = kp_strmap_new();
    const char *name;
    void *value;
    pthread_mutex_lock(&metrics->lock);
    int64_t now_ms = metrics->config.now_ms();
    for (size_t iter = 0; kp_strmap_next(metrics->nodes, &iter, &name, &value);) {
        struct asked_node *node = value;
        if (node->asking || now_ms - node->used_ms < RESOURCE_METRICS_FORGET_MS)
            continue;
        kp_strmap_put(gone, name, node);
        kp_strmap_remove(metrics->nodes, node->name);
    }
    bool more = kp_strmap_len(metrics->nodes) > 0;
    pthread_mutex_unlock(&metrics->lock);
    kp_strmap_free(gone, free_node);
    if (more)
        loop_post(metrics->config.loop, start_timer, metrics);
}

static void on_timer(void *arg)
{
    struct resource_metrics *metrics = arg;
    if (pool_submit(metrics->pool, forget, metrics) < 0)
        start_timer(metrics);
}

void resource_metrics_ask(struct resource_metrics *metrics, const struct resource_metrics_node *nodes, size_t count,
                          struct resource_metrics_sample **ret_samples)
{
    struct asked_node **asked = kp_calloc(count + 1, sizeof(struct asked_node *));
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ASK_MS_MAX / 1000;
    until.tv_nsec += ASK_MS_MAX % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&metrics->lock);
    bool first = count && kp_strmap_len(metrics->nodes) == 0;
    int64_t now_ms = metrics->config.now_ms();
    for (size_t i = 0; i < count; i++)
        asked[i] = need_node(metrics, &nodes[i], now_ms);
    for (size_t i = 0; i < count; i++) { /* none of them is forgotten meanwhile: they were used just now */
        ret_samples[i] = NULL;
        if (!wait_for(metrics, asked[i], &until)) {
            kp_warn("a node was too late with its metrics", "node", asked[i]->name, NULL);
        } else if (asked[i]->sample) {
            ret_samples[i] = asked[i]->sample;
            __atomic_add_fetch(&ret_samples[i]->refs, 1, __ATOMIC_RELAXED);
        }
    }
    pthread_mutex_unlock(&metrics->lock);
    free(asked);
    if (first)
        loop_post(metrics->config.loop, start_timer, metrics);
}

/* ---- life ------------------------------------------------------------------------------------------------------------------------ */
static void make_timer(void *arg)
{
    struct resource_metrics *metrics = arg;
    metrics->timer = loop_timer_new(metrics->config.loop, on_timer, metrics);
}

static void free_timer(void *arg)
{
    struct resource_metrics *metrics = arg;
    loop_timer_free(KP_TAKE(metrics->timer));
}

struct resource_metrics *resource_metrics_new(const struct resource_metrics_config *config)
{
    struct resource_metrics *metrics = kp_calloc(1, sizeof(*metrics));
    metrics->config = *config;
    if (!metrics->config.now_ms)
        metrics->config.now_ms = kp_mono_ms;
    metrics->pool = pool_new("metrics", RESOURCE_METRICS_WORKERS_MAX, RESOURCE_METRICS_NODES_MAX);
    pthread_mutex_init(&metrics->lock, NULL);
    pthread_cond_init(&metrics->changed, NULL);
    metrics->nodes = kp_strmap_new();
    loop_call(config->loop, make_timer, metrics);
    return metrics;
}

void resource_metrics_free(struct resource_metrics *metrics)
{
    if (!metrics)
        return;
    loop_call(metrics->config.loop, free_timer, metrics); /* after what was posted before */
    pool_free(metrics->pool);
    loop_call(metrics->config.loop, free_timer, metrics); /* the pool's last work may have posted once more: it finds no timer */
    kp_strmap_free(metrics->nodes, free_node);
    pthread_cond_destroy(&metrics->changed);
    pthread_mutex_destroy(&metrics->lock);
    free(metrics);
}
