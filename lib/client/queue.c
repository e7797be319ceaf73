/* A work queue with unique keys, delays and per-key back-off, with the semantics of client-go's workqueue. */
#include "lib/client/client.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

#define QUEUE_BACKOFF_BASE_MS 5            /* client-go DefaultControllerRateLimiter */
#define QUEUE_BACKOFF_MAX_MS (1000 * 1000)

enum item_state { ITEM_IDLE, ITEM_QUEUED, ITEM_PROCESSING, ITEM_PROCESSING_DIRTY };
/* IDLE -> QUEUED (add) -> PROCESSING (get) -> IDLE (done); add while PROCESSING -> PROCESSING_DIRTY -> QUEUED (done). */

struct item {
    char *key;
    enum item_state state;
    int failures;
    int64_t due_ms; /* of the delayed add; 0: none */
    size_t heap_index;
    struct item *next; /* in the ready list */
};

struct client_queue {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct kp_strmap *items;
    struct item *head, *tail; /* ready */
    struct item **heap;       /* delayed, by due_ms */
    size_t heap_len, heap_cap;
    size_t depth;
    bool shutdown;
    const char *name;
};

static struct kp_metric *metric_depth, *metric_adds, *metric_retries;
static pthread_once_t metrics_once = PTHREAD_ONCE_INIT;

static void make_metrics(void)
{
    static const char *const labels[] = {"name", NULL};
    metric_depth = kp_gauge("workqueue_depth", "Keys waiting in the work queue.", labels);
    metric_adds = kp_counter("workqueue_adds_total", "Keys added to the work queue.", labels);
    metric_retries = kp_counter("workqueue_retries_total", "Keys added again after a failure.", labels);
}

struct client_queue *client_queue_new(const char *name)
{
    pthread_once(&metrics_once, make_metrics);
    struct client_queue *queue = kp_calloc(1, sizeof(*queue));
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&queue->lock, NULL);
    pthread_cond_init(&queue->changed, &attr);
    pthread_condattr_destroy(&attr);
    queue->items = kp_strmap_new();
    queue->name = name;
    return queue;
}

static void heap_swap(struct client_queue *queue, size_t a, size_t b)
{
    struct item *item = queue->heap[a];
    queue->heap[a] = queue->heap[b];
    queue->heap[b] = item;
    queue->heap[a]->heap_index = a;
    queue->heap[b]->heap_index = b;
}

static void heap_up(struct client_queue *queue, size_t i)
{
    while (i > 0 && queue->heap[(i - 1) / 2]->due_ms > queue->heap[i]->due_ms) {
        heap_swap(queue, i, (i - 1) / 2);
        i = (i - 1) / 2;
    }
}

static void heap_down(struct client_queue *queue, size_t i)
{
    for (;;) {
        size_t least = i, left = 2 * i + 1, right = left + 1;
        if (left < queue->heap_len && queue->heap[left]->due_ms < queue->heap[least]->due_ms)
            least = left;
        if (right < queue->heap_len && queue->heap[right]->due_ms < queue->heap[least]->due_ms)
            least = right;
        if (least == i)
            return;
        heap_swap(queue, i, least);
        i = least;
    }
}

static void heap_remove(struct client_queue *queue, struct item *item)
{
    size_t i = item->heap_index;
    heap_swap(queue, i, queue->heap_len - 1);
    queue->heap_len--;
    if (i < queue->heap_len) {
        heap_up(queue, i);
        heap_down(queue, i);
    }
    item->due_ms = 0;
}

static void heap_push(struct client_queue *queue, struct item *item, int64_t due_ms)
{
    if (queue->heap_len == queue->heap_cap) {
        queue->heap_cap = queue->heap_cap ? queue->heap_cap * 2 : 16;
        queue->heap = kp_realloc(queue->heap, queue->heap_cap * sizeof(*queue->heap));
    }
    item->due_ms = due_ms;
    item->heap_index = queue->heap_len;
    queue->heap[queue->heap_len++] = item;
    heap_up(queue, item->heap_index);
}

/* NULL only when the queue is at its maximum, which is a bug elsewhere: keys come from a bounded cache. */
static struct item *find_item(struct client_queue *queue, const char *key)
{
    struct item *item = kp_strmap_get(queue->items, key);
    if (item)
        return item;
    KP_ASSERT(kp_strmap_len(queue->items) < CLIENT_QUEUE_KEYS_MAX);
    item = kp_calloc(1, sizeof(*item));
    item->key = kp_strdup(key);
    kp_strmap_put(queue->items, key, item);
    return item;
}

static void drop_if_idle(struct client_queue *queue, struct item *item)
{
    if (item->state != ITEM_IDLE || item->due_ms || item->failures)
        return;
    kp_strmap_remove(queue->items, item->key);
    free(item->key);
    free(item);
}

static void make_ready(struct client_queue *queue, struct item *item)
{
    if (item->state == ITEM_PROCESSING)
        item->state = ITEM_PROCESSING_DIRTY;
    if (item->state != ITEM_IDLE)
        return;
    item->state = ITEM_QUEUED;
    item->next = NULL;
    if (queue->tail)
        queue->tail->next = item;
    else
        queue->head = item;
    queue->tail = item;
    kp_metric_set(metric_depth, (double)++queue->depth, queue->name);
    pthread_cond_signal(&queue->changed);
}

void client_queue_add(struct client_queue *queue, const char *key)
{
    pthread_mutex_lock(&queue->lock);
    if (!queue->shutdown) {
        kp_metric_add(metric_adds, 1, queue->name);
        make_ready(queue, find_item(queue, key));
    }
    pthread_mutex_unlock(&queue->lock);
}

static void add_after_locked(struct client_queue *queue, struct item *item, int64_t delay_ms)
{
    if (delay_ms <= 0) {
        make_ready(queue, item);
        return;
    }
    int64_t due_ms = kp_mono_ms() + delay_ms;
    if (item->due_ms && item->due_ms <= due_ms)
        return;
    if (item->due_ms)
        heap_remove(queue, item);
    heap_push(queue, item, due_ms);
    pthread_cond_signal(&queue->changed);
}

void client_queue_add_after(struct client_queue *queue, const char *key, int64_t delay_ms)
{
    pthread_mutex_lock(&queue->lock);
    if (!queue->shutdown)
        add_after_locked(queue, find_item(queue, key), delay_ms);
    pthread_mutex_unlock(&queue->lock);
}

void client_queue_add_rate_limited(struct client_queue *queue, const char *key)
{
    pthread_mutex_lock(&queue->lock);
    if (!queue->shutdown) {
        struct item *item = find_item(queue, key);
        int64_t delay_ms = QUEUE_BACKOFF_MAX_MS;
        if (item->failures < 18)
            delay_ms = KP_MIN((int64_t)QUEUE_BACKOFF_BASE_MS << item->failures, (int64_t)QUEUE_BACKOFF_MAX_MS);
        item->failures++;
        kp_metric_add(metric_retries, 1, queue->name);
        add_after_locked(queue, item, delay_ms);
    }
    pthread_mutex_unlock(&queue->lock);
}

void client_queue_forget(struct client_queue *queue, const char *key)
{
    pthread_mutex_lock(&queue->lock);
    struct item *item = kp_strmap_get(queue->items, key);
    if (item) {
        item->failures = 0;
        drop_if_idle(queue, item);
    }
    pthread_mutex_unlock(&queue->lock);
}

int client_queue_failures(struct client_queue *queue, const char *key)
{
    pthread_mutex_lock(&queue->lock);
    const struct item *item = kp_strmap_get(queue->items, key);
    int failures = item ? item->failures : 0;
    pthread_mutex_unlock(&queue->lock);
    return failures;
}

/* Moves what is due to the ready list; gives the time of the next one, or 0. */
static int64_t release_due(struct client_queue *queue)
{
    int64_t now_ms = kp_mono_ms();
    while (queue->heap_len && queue->heap[0]->due_ms <= now_ms) {
        struct item *item = queue->heap[0];
        heap_remove(queue, item);
        make_ready(queue, item);
    }
    return queue->heap_len ? queue->heap[0]->due_ms : 0;
}

char *client_queue_get(struct client_queue *queue)
{
    char *key = NULL;
    pthread_mutex_lock(&queue->lock);
    for (;;) {
        int64_t next_ms = release_due(queue);
        if (queue->shutdown)
            break;
        if (queue->head) {
            struct item *item = queue->head;
            queue->head = item->next;
            if (!queue->head)
                queue->tail = NULL;
            item->state = ITEM_PROCESSING;
            kp_metric_set(metric_depth, (double)--queue->depth, queue->name);
            key = kp_strdup(item->key);
            break;
        }
        if (next_ms) {
            struct timespec until = {.tv_sec = next_ms / 1000, .tv_nsec = (next_ms % 1000) * 1000000};
            pthread_cond_timedwait(&queue->changed, &queue->lock, &until);
        } else {
            pthread_cond_wait(&queue->changed, &queue->lock);
        }
    }
    pthread_mutex_unlock(&queue->lock);
    return key;
}

void client_queue_done(struct client_queue *queue, const char *key)
{
    pthread_mutex_lock(&queue->lock);
    struct item *item = kp_strmap_get(queue->items, key);
    if (item) {
        bool dirty = item->state == ITEM_PROCESSING_DIRTY;
        item->state = ITEM_IDLE;
        if (dirty)
            make_ready(queue, item);
        else
            drop_if_idle(queue, item);
    }
    pthread_mutex_unlock(&queue->lock);
}

void client_queue_shutdown(struct client_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    queue->shutdown = true;
    pthread_cond_broadcast(&queue->changed);
    pthread_mutex_unlock(&queue->lock);
}

static void free_item(void *p)
{
    struct item *item = p;
    free(item->key);
    free(item);
}

void client_queue_free(struct client_queue *queue)
{
    if (!queue)
        return;
    kp_strmap_free(queue->items, free_item);
    free(queue->heap);
    pthread_cond_destroy(&queue->changed);
    pthread_mutex_destroy(&queue->lock);
    free(queue);
}

int client_key_split(const char *key, char ns[CLIENT_KEY_PART_MAX], char name[CLIENT_KEY_PART_MAX])
{
    const char *slash = strchr(key, '/');
    size_t ns_len = slash ? (size_t)(slash - key) : 0;
    const char *rest = slash ? slash + 1 : key;
    if (ns_len >= CLIENT_KEY_PART_MAX || strlen(rest) >= CLIENT_KEY_PART_MAX)
        return KP_EINVALID;
    memcpy(ns, key, ns_len);
    ns[ns_len] = '\0';
    memcpy(name, rest, strlen(rest) + 1);
    return 0;
}
