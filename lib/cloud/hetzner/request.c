/* Calls of the API: the token, pages, locks, actions, and the rate that is left. */
#include "cloud/hetzner/hetzner_internal.h"

static void note_rate(struct hz *hz, const struct rest_answer *answer)
{
    struct hz_rate rate;
    if (!hz_rate_read(rest_header(answer, "RateLimit-Limit"), rest_header(answer, "RateLimit-Remaining"), rest_header(answer, "RateLimit-Reset"), &rate))
        return;
    pthread_mutex_lock(&hz->rate_lock);
    hz->rate = rate;
    pthread_mutex_unlock(&hz->rate_lock);
}

static struct hz_rate rate_now(struct hz *hz)
{
    pthread_mutex_lock(&hz->rate_lock);
    struct hz_rate rate = hz->rate;
    pthread_mutex_unlock(&hz->rate_lock);
    return rate;
}

void hz_pause(struct hz *hz, int64_t *poll_ms)
{
    const struct hz_rate rate = rate_now(hz);
    *poll_ms = *poll_ms ? KP_MIN(*poll_ms * 3 / 2, (int64_t)HZ_POLL_MS_MAX) : hz->poll_ms;
    kp_sleep_ms(hz_pace_ms(&rate, *poll_ms));
}

static int fail(struct hz *hz, const char *operation, const struct rest_answer *answer, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *document = NULL;
    KP_AUTO_BUF struct kp_buf text = {0};
    struct kp_error ignored = {0};
    const struct hz_rate rate = rate_now(hz);
    if (rest_json_parse(answer->body, answer->body_len, &document, &ignored) < 0)
        document = NULL; /* then it is no answer of the API's, which hz_error_text says */
    hz_error_text(&text, document);
    int code = hz_code(answer->status, rest_json_text(document, "error/code"));
    kp_fail(error, code, "%s: %d: %.400s", operation, answer->status, text.data);
    if (error)
        error->retry_after_ms = answer->retry_after_ms ? answer->retry_after_ms : code == KP_ETOOMANY ? hz_retry_after_ms(&rate, kp_now_s()) : 0;
    return code;
}

static int once(struct hz *hz, const struct rest_request *request, json_t **ret, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct rest_answer answer;
    int r = rest_do(hz->rest, request, arena, &answer, error);
    if (r < 0)
        return r;
    note_rate(hz, &answer);
    if (answer.status >= 300)
        return fail(hz, request->operation, &answer, error);
    if (!ret || answer.body_len == 0)
        return 0;
    return rest_json_parse(answer.body, answer.body_len, ret, error) < 0 ? kp_wrap(error, "%s", request->operation) : 0;
}

int hz_do(struct hz *hz, const char *operation, const char *method, const char *path, json_t *body, json_t **ret, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf text = {0};
    const char *headers[] = {kp_arena_printf(arena, "Authorization: Bearer %s", hz->token), body ? "Content-Type: application/json" : NULL, NULL};
    int64_t deadline_ms = kp_mono_ms() + HZ_BUSY_MS, poll_ms = 0;
    if (ret)
        *ret = NULL;
    if (body)
        rest_json_write(&text, body);
    const struct rest_request request = {
        .operation = operation, .method = method, .url = kp_arena_printf(arena, "%s%s", hz->endpoint, path), .headers = headers, .body = text.data, .body_len = text.len,
    };
    for (;;) {
        int r = once(hz, &request, ret, error);
        if (r != KP_EAGAIN || kp_mono_ms() > deadline_ms) /* EAGAIN: refused before anything was done, as another action is at it */
            return r;
        hz_pause(hz, &poll_ms);
    }
}

static int page(struct hz *hz, const char *collection, const char *query, int64_t number, json_t **ret, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *path = kp_arena_printf(arena, "/%s?%s%spage=%lld&per_page=%d", collection, query, *query ? "&" : "", (long long)number, HZ_PAGE);
    int r = hz_do(hz, kp_arena_printf(arena, "%s.list", collection), "GET", path, NULL, ret, error);
    if (r == 0 && !json_is_array(rest_json_at(*ret, collection))) { /* never to be taken for an empty list */
        json_decref(*ret);
        *ret = NULL;
        return kp_fail(error, KP_ECORRUPT, "%s.list: the answer has no list", collection);
    }
    return r;
}

static int by_id(const void *a, const void *b)
{
    int64_t one = rest_json_int(*(json_t *const *)a, "id"), other = rest_json_int(*(json_t *const *)b, "id");
    return (one > other) - (one < other);
}

static json_t *sorted(json_t *list)
{
    size_t len = json_array_size(list);
    json_t **items = kp_calloc(len + 1, sizeof(json_t *)), *ret = json_array();
    for (size_t i = 0; i < len; i++)
        items[i] = json_array_get(list, i);
    qsort(items, len, sizeof(json_t *), by_id);
    for (size_t i = 0; i < len; i++)
        if (i == 0 || by_id(&items[i - 1], &items[i]) != 0)
            json_array_append(ret, items[i]);
    free(items);
    json_decref(list);
    return ret;
}

/* Once through all pages; KP_EAGAIN when something came or went meanwhile, so that an item may have slipped from one page to the other. */
static int all_pages(struct hz *hz, const char *collection, const char *query, json_t **ret, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *list = json_array();
    int64_t total = -1;
    for (int64_t number = 1; number && number <= HZ_PAGES_MAX;) {
        KP_AUTO(json_decref) json_t *answer = NULL;
        int r = page(hz, collection, query, number, &answer, error);
        if (r < 0)
            return r;
        int64_t entries = rest_json_int(answer, "meta/pagination/total_entries");
        if (total >= 0 && entries != total)
            return kp_fail(error, KP_EAGAIN, "%s.list: the list changes", collection);
        total = entries;
        json_array_extend(list, json_object_get(answer, collection));
        number = rest_json_int(answer, "meta/pagination/next_page"); /* null on the last */
    }
    *ret = sorted(KP_TAKE(list));
    return 0;
}

int hz_list(struct hz *hz, const char *collection, const char *query, json_t **ret, struct kp_error *error)
{
    int64_t deadline_ms = kp_mono_ms() + HZ_BUSY_MS, poll_ms = 0;
    for (;;) {
        int r = all_pages(hz, collection, query, ret, error);
        if (r != KP_EAGAIN)
            return r;
        if (kp_mono_ms() > deadline_ms)
            return kp_fail(error, KP_EUNAVAILABLE, "%s.list: the list did not keep still for %d s: try again", collection, HZ_BUSY_MS / 1000);
        hz_pause(hz, &poll_ms);
    }
}

const char *hz_owned_query(const char *uid, const char *name, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    kp_buf_printf(&text, "label_selector=" HZ_CLUSTER_LABEL);
    if (uid) { /* both are DNS labels: nothing to escape in them */
        kp_buf_printf(&text, "%%3D%s", uid);
        if (name)
            kp_buf_printf(&text, "%%2C" HZ_NAME_LABEL "%%3D%s", name);
    }
    return kp_arena_strndup(arena, text.data, text.len);
}

static int wait_one(struct hz *hz, const char *operation, const json_t *action, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(json_decref) json_t *answer = json_pack("{s:O}", "action", action);
    int64_t id = rest_json_int(action, "id"), deadline_ms = kp_mono_ms() + HZ_ACTION_MS, poll_ms = 0;
    while (kp_streq(rest_json_text(answer, "action/status"), "running")) {
        if (kp_mono_ms() > deadline_ms)
            return kp_fail(error, KP_ETIMEOUT, "%s: its action %lld is still running after %d s", operation, (long long)id, HZ_ACTION_MS / 1000);
        hz_pause(hz, &poll_ms);
        json_decref(KP_TAKE(answer));
        int r = hz_do(hz, "actions.get", "GET", kp_arena_printf(arena, "/actions/%lld", (long long)id), NULL, &answer, error);
        if (r < 0)
            return kp_wrap(error, "%s", operation);
    }
    if (kp_streq(rest_json_text(answer, "action/status"), "success"))
        return 0;
    const char *code = rest_json_text(answer, "action/error/code");
    int means = hz_code(500, code);
    return kp_fail(error, means == KP_ENOTFOUND ? KP_EUNAVAILABLE : means, "%s: its action failed: %s (%s)", operation,
                   rest_json_text(answer, "action/error/message"), *code ? code : rest_json_text(answer, "action/status"));
}

int hz_wait(struct hz *hz, const char *operation, const json_t *answer, struct kp_error *error)
{
    static const char *const lists[] = {"actions", "next_actions"};
    const json_t *action = rest_json_at(answer, "action");
    int r = json_is_object(action) ? wait_one(hz, operation, action, error) : 0;
    for (size_t i = 0; r == 0 && i < KP_ARRAY_LEN(lists); i++) {
        const json_t *list = rest_json_at(answer, lists[i]);
        for (size_t j = 0; r == 0 && j < json_array_size(list); j++)
            r = wait_one(hz, operation, json_array_get(list, j), error);
    }
    return r;
}

int hz_act(struct hz *hz, const char *operation, const char *path, json_t *body, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *answer = NULL;
    int r = hz_do(hz, operation, "POST", path, body, &answer, error);
    return r < 0 ? r : hz_wait(hz, operation, answer, error);
}

int hz_delete(struct hz *hz, const char *collection, int64_t id, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(json_decref) json_t *answer = NULL;
    const char *operation = kp_arena_printf(arena, "%s.delete", collection);
    int r = hz_do(hz, operation, "DELETE", kp_arena_printf(arena, "/%s/%lld", collection, (long long)id), NULL, &answer, error);
    if (r == KP_ENOTFOUND)
        return 0;
    return r < 0 ? r : hz_wait(hz, operation, answer, error);
}
