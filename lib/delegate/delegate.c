/* Delegated checks: what was answered is kept, bounded in number and time. */
#include "lib/delegate/delegate_internal.h"

#define KEEP_MS 10000

static void answer_free(void *p)
{
    struct delegate_answer *answer = p;
    kp_arena_free(answer->arena);
    free(answer);
}

struct delegate *delegate_new(const struct delegate_config *config)
{
    struct delegate *delegate = kp_calloc(1, sizeof(*delegate));
    delegate->config = *config;
    int64_t *kept[] = {&delegate->config.token_ms, &delegate->config.allowed_ms, &delegate->config.denied_ms};
    for (size_t i = 0; i < KP_ARRAY_LEN(kept); i++)
        if (*kept[i] == 0)
            *kept[i] = KEEP_MS;
    pthread_mutex_init(&delegate->lock, NULL);
    delegate->users = kp_strmap_new();
    delegate->verdicts = kp_strmap_new();
    return delegate;
}

void delegate_free(struct delegate *delegate)
{
    if (!delegate)
        return;
    kp_strmap_free(delegate->users, answer_free);
    kp_strmap_free(delegate->verdicts, answer_free);
    pthread_mutex_destroy(&delegate->lock);
    free(delegate);
}

void delegate_remember(struct delegate *delegate, struct kp_strmap **answers, const char *key, struct delegate_answer *answer)
{
    pthread_mutex_lock(&delegate->lock);
    if (kp_strmap_len(*answers) >= DELEGATE_CACHE_MAX) {
        kp_strmap_free(*answers, answer_free);
        *answers = kp_strmap_new();
    }
    struct delegate_answer *old = kp_strmap_put(*answers, key, answer);
    if (old)
        answer_free(old);
    pthread_mutex_unlock(&delegate->lock);
}

const struct delegate_answer *delegate_known(const struct kp_strmap *answers, const char *key)
{
    const struct delegate_answer *answer = kp_strmap_get(answers, key);
    return answer && kp_mono_ms() < answer->until_ms ? answer : NULL;
}

const char *delegate_verb(const char *method)
{
    static const char *const names[][2] = {{"POST", "create"}, {"PUT", "update"}, {"PATCH", "patch"}, {"DELETE", "delete"}};
    for (size_t i = 0; i < KP_ARRAY_LEN(names); i++)
        if (kp_streq(method, names[i][0]))
            return names[i][1];
    return "get";
}
