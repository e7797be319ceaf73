/* Exponential back-off keyed by text: 10 s doubling to 5 minutes, forgotten after 10 quiet minutes. */
#include <pthread.h>

#include "nodeimage/kubelet/text_internal.h"

struct backoff_entry {
    int64_t delay_ms, updated_ms;
};

struct kubelet_backoff {
    pthread_mutex_t lock;
    struct kp_strmap *entries;
    int64_t initial_ms, max_ms;
};

struct kubelet_backoff *kubelet_backoff_new(int64_t initial_ms, int64_t max_ms)
{
    struct kubelet_backoff *backoff = kp_calloc(1, sizeof(*backoff));
    pthread_mutex_init(&backoff->lock, NULL);
    backoff->entries = kp_strmap_new();
    backoff->initial_ms = initial_ms;
    backoff->max_ms = max_ms;
    return backoff;
}

void kubelet_backoff_free(struct kubelet_backoff *backoff)
{
    if (!backoff)
        return;
    kp_strmap_free(backoff->entries, free);
    pthread_mutex_destroy(&backoff->lock);
    free(backoff);
}

static bool entry_expired(const struct kubelet_backoff *backoff, const struct backoff_entry *entry, int64_t event_ms)
{
    return event_ms - entry->updated_ms > 2 * backoff->max_ms;
}

int64_t kubelet_backoff_remaining_ms(struct kubelet_backoff *backoff, const char *key, int64_t event_ms, int64_t now_ms)
{
    pthread_mutex_lock(&backoff->lock);
    const struct backoff_entry *entry = kp_strmap_get(backoff->entries, key);
    int64_t remaining = 0;
    if (entry && !entry_expired(backoff, entry, event_ms))
        remaining = KP_MAX(event_ms + entry->delay_ms - now_ms, 0);
    pthread_mutex_unlock(&backoff->lock);
    return remaining;
}

void kubelet_backoff_next(struct kubelet_backoff *backoff, const char *key, int64_t event_ms, int64_t now_ms)
{
    pthread_mutex_lock(&backoff->lock);
    struct backoff_entry *entry = kp_strmap_get(backoff->entries, key);
    if (!entry) {
        entry = kp_calloc(1, sizeof(*entry));
        kp_strmap_put(backoff->entries, key, entry);
        entry->delay_ms = backoff->initial_ms;
    } else if (entry_expired(backoff, entry, event_ms)) {
        entry->delay_ms = backoff->initial_ms;
    } else {
        entry->delay_ms = KP_MIN(entry->delay_ms * 2, backoff->max_ms);
    }
    entry->updated_ms = now_ms;
    pthread_mutex_unlock(&backoff->lock);
}

int64_t kubelet_backoff_wait_ms(struct kubelet_backoff *backoff, const char *key, int64_t now_ms)
{
    pthread_mutex_lock(&backoff->lock);
    const struct backoff_entry *entry = kp_strmap_get(backoff->entries, key);
    int64_t wait = entry ? KP_MAX(entry->updated_ms + entry->delay_ms - now_ms, 0) : 0;
    pthread_mutex_unlock(&backoff->lock);
    return wait;
}

int64_t kubelet_backoff_current_ms(struct kubelet_backoff *backoff, const char *key)
{
    pthread_mutex_lock(&backoff->lock);
    const struct backoff_entry *entry = kp_strmap_get(backoff->entries, key);
    int64_t delay = entry ? entry->delay_ms : 0;
    pthread_mutex_unlock(&backoff->lock);
    return delay;
}

void kubelet_backoff_forget_prefix(struct kubelet_backoff *backoff, const char *prefix)
{
    pthread_mutex_lock(&backoff->lock);
    size_t iter = 0;
    const char *key;
    void *value;
    while (kp_strmap_next(backoff->entries, &iter, &key, &value)) {
        if (kp_starts_with(key, prefix)) {
            kp_strmap_remove(backoff->entries, key);
            free(value);
        }
    }
    pthread_mutex_unlock(&backoff->lock);
}
