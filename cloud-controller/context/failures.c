/* Counts failures in a row, by key. */
#include "cloud-controller/context/context.h"

#include <pthread.h>

struct ccm_failures {
    pthread_mutex_t mutex;
    struct kp_strmap *counts; /* key -> int * */
};

struct ccm_failures *ccm_failures_new(void)
{
    struct ccm_failures *failures = kp_calloc(1, sizeof(*failures));
    pthread_mutex_init(&failures->mutex, NULL);
    failures->counts = kp_strmap_new();
    return failures;
}

void ccm_failures_free(struct ccm_failures *failures)
{
    if (!failures)
        return;
    kp_strmap_free(failures->counts, free);
    pthread_mutex_destroy(&failures->mutex);
    free(failures);
}

int ccm_failures_add(struct ccm_failures *failures, const char *key)
{
    pthread_mutex_lock(&failures->mutex);
    int *count = kp_strmap_get(failures->counts, key);
    if (!count) {
        count = kp_calloc(1, sizeof(*count));
        kp_strmap_put(failures->counts, key, count);
    }
    int now = ++*count;
    pthread_mutex_unlock(&failures->mutex);
    return now;
}

void ccm_failures_forget(struct ccm_failures *failures, const char *key)
{
    pthread_mutex_lock(&failures->mutex);
    free(kp_strmap_remove(failures->counts, key));
    pthread_mutex_unlock(&failures->mutex);
}
