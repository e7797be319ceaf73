/* Asking webhooks about a write: those that change the object one after the other, those that judge it side by side. */
#include "controlplane/apiserver/webhook/webhook_internal.h"

#include "controlplane/apiserver/patch/patch.h"
#include "lib/tls/tls.h"

static const char *const type_names[WEBHOOK_TYPES] = {[WEBHOOK_MUTATING] = "admit", [WEBHOOK_VALIDATING] = "validating"};

struct webhooks *webhooks_new(const struct webhooks_config *config)
{
    static const double buckets[] = {0.005, 0.025, 0.1, 0.5, 1, 2.5, 10, 25};
    static const char *const labels[] = {"name", "type", "operation", "rejected", NULL}, *const rejections[] = {"name", "type", "operation", "error_type",
                                                                                                               "rejection_code", NULL};
    static const char *const requests[] = {"name", "type", "operation", "code", "rejected", NULL}, *const open[] = {"name", "type", NULL};
    struct webhooks *webhooks = kp_calloc(1, sizeof(*webhooks));
    webhooks->config = *config;
    pthread_mutex_init(&webhooks->mutex, NULL);
    webhooks->namespaces = wcache_find(config->caches, "", "namespaces");
    webhooks->durations = kp_histogram("apiserver_admission_webhook_admission_duration_seconds", "Seconds that webhooks took to answer.", labels, buckets, KP_ARRAY_LEN(buckets));
    webhooks->rejections = kp_counter("apiserver_admission_webhook_rejection_count", "Requests refused by webhooks or for want of their answer.", rejections);
    webhooks->requests = kp_counter("apiserver_admission_webhook_request_total", "Requests to webhooks.", requests);
    webhooks->fail_open = kp_counter("apiserver_admission_webhook_fail_open_count", "Requests let through although a webhook did not answer.", open);
    webhook_tables_follow(webhooks);
    return webhooks;
}

void webhooks_free(struct webhooks *webhooks)
{
    if (!webhooks)
        return;
    webhook_tables_done(webhooks);
    pthread_mutex_destroy(&webhooks->mutex);
    free(webhooks);
}

/* ---- what comes of an answer -------------------------------------------------------------------------------------------------------------- */
static void measure(struct webhooks *webhooks, const struct webhook *hook, const struct admission_attributes *a, const struct webhook_outcome *outcome,
                  const struct api_status *status, const char *error_type)
{
    const char *type = type_names[hook->mutating ? WEBHOOK_MUTATING : WEBHOOK_VALIDATING], *operation = extension_operation(a->operation);
    const char *rejected = status->code ? "true" : "false";
    char code[16];
    snprintf(code, sizeof(code), "%d", outcome->code < 0 ? 500 : status->code ? status->http_status : 200);
    kp_metric_observe(webhooks->durations, (double)outcome->duration_ns / 1e9, hook->name, type, operation, rejected);
    kp_metric_add(webhooks->requests, 1, hook->name, type, operation, code, rejected);
    if (status->code) {
        snprintf(code, sizeof(code), "%d", KP_MIN(status->http_status, 600));
        kp_metric_add(webhooks->rejections, 1, hook->name, type, operation, error_type, code);
    }
}

/* Texts longer than what a header may carry are cut, as upstream does. */
static void add_warnings(const struct admission_attributes *a, const struct kp_string_list *warnings)
{
    size_t total = 0;
    if (!a->warnings)
        return;
    for (size_t i = 0; i < a->warnings->len; i++)
        total += strlen(a->warnings->items[i]);
    for (size_t i = 0; i < warnings->len && total < WEBHOOK_WARNINGS_BYTES_MAX; i++) {
        const char *text = kp_arena_strndup(a->arena, warnings->items[i], WEBHOOK_WARNING_BYTES_MAX);
        kp_string_list_add(a->arena, a->warnings, text);
        total += strlen(text);
    }
}

/* 0 when the write may go on. index: as the audit log tells which webhook it is. */
static int conclude(struct webhooks *webhooks, const struct webhook *hook, size_t index, const struct admission_attributes *a,
                    const struct webhook_outcome *outcome, struct api_status *status)
{
    const char *error_type = "no_error";
    if (outcome->code == 0) {
        add_warnings(a, &outcome->answer.warnings);
        webhook_annotate_answer(hook, a, &outcome->answer);
        if (!outcome->answer.allowed)
            webhook_denied(hook, outcome->answer.result, status);
    } else if (hook->ignore_failure) {
        kp_warn("failed calling webhook, failing open", "webhook", hook->name, "error", outcome->error.message, NULL);
        webhook_annotate_open(hook, a, index);
        kp_metric_add(webhooks->fail_open, 1, hook->name, type_names[hook->mutating ? WEBHOOK_MUTATING : WEBHOOK_VALIDATING]);
    } else {
        error_type = "calling_webhook_error";
        status_internal(status, "failed calling webhook \"%s\": %s", hook->name, outcome->error.message);
    }
    measure(webhooks, hook, a, outcome, status, error_type);
    return status->code;
}

/* ---- who is asked ---------------------------------------------------------------------------------------------------------------------------- */
static int conditions_hold(struct webhooks *webhooks, const struct webhook *hook, const struct admission_attributes *a, const struct kp_resource *resource,
                           struct api_status *status)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(EXTENSION_ARENA_MAX);
    struct extension_request told;
    struct cel_value values[EXTENSION_VARIABLE_COUNT];
    struct kp_error error = {0};
    if (!extension_request_make(a, resource, webhooks->config.views, &told))
        return 0;
    extension_values(a, &told, webhooks->config.auth, extension_namespace_object(a, webhooks->namespaces, arena), NULL, arena, values);
    int holds = extension_conditions_hold(&hook->conditions, values, arena, hook->ignore_failure, &error);
    if (holds < 0)
        status_forbidden(status, a->resource->group, a->resource->name, a->name, "%s", error.message);
    return holds;
}

/* 1: it is to be asked, and *ret says what; 0: not; negative: the write is refused. */
static int select_hook(struct webhooks *webhooks, const struct webhook *hook, const struct admission_attributes *a, struct webhook_question *ret,
                       struct api_status *status)
{
    const struct kp_resource *resource;
    int matches = extension_matches(&hook->match, a, webhooks->config.views, webhooks->namespaces, &resource, status);
    if (matches > 0 && hook->conditions.len)
        matches = conditions_hold(webhooks, hook, a, resource, status);
    if (matches <= 0)
        return matches;
    if (a->dry_run && !hook->dry_run_allowed)
        return status_bad_request(status, "admission webhook \"%s\" does not support dry run", hook->name);
    if (!hook->review_version) {
        if (!hook->ignore_failure)
            return status_internal(status, "failed calling webhook \"%s\": webhook does not accept known AdmissionReview versions (v1, v1beta1)",
                                   hook->name);
        return 0;
    }
    if (kp_arena_used(a->arena) > WEBHOOK_REQUEST_BYTES_MAX)
        return status_internal(status, "what webhooks make of this request takes more than %zu bytes of memory", WEBHOOK_REQUEST_BYTES_MAX);
    *ret = (struct webhook_question){.hook = hook, .resource = resource};
    return webhook_question_make(ret, a, webhooks->config.views);
}

static bool nothing_to_ask(const struct webhooks *webhooks, enum webhook_type type, const struct admission_attributes *a)
{
    return !__atomic_load_n(&webhooks->tables[type].len, __ATOMIC_ACQUIRE) || extension_exempt(a->resource);
}

/* ---- those that change ---------------------------------------------------------------------------------------------------------------------- */
static const char *digest_of(const struct admission_attributes *a)
{
    KP_AUTO_BUF struct kp_buf json = {0};
    char hex[TLS_SHA256_HEX_BYTES];
    if (!a->object)
        return "";
    kp_json_encode(a->type, a->object, &json);
    tls_sha256_hex(json.data, json.len, hex);
    return kp_arena_strdup(a->arena, hex);
}

static int apply_patch(struct webhooks *webhooks, const struct webhook_question *question, const struct kp_bytes *patch, struct admission_attributes *a,
                       bool *ret_changed, struct api_status *status)
{
    const struct patch_request request = {.kind = PATCH_JSON, .body = (const char *)patch->data, .body_len = patch->len, .subresource = ""};
    struct kp_string_list problems = {0};
    struct api_status failed = API_STATUS(a->arena);
    void *changed = NULL;
    if (!question->body)
        return status_internal(status, "admission webhook \"%s\" attempted to modify the object, which is not supported for this operation",
                               question->hook->name);
    if (patch_apply(question->type, &request, question->body, a->arena, &problems, &changed, &failed) < 0)
        return status_internal(status, "the patch of admission webhook \"%s\" does not apply: %s", question->hook->name, failed.message);
    *ret_changed = !kp_object_equal(question->type, question->body, changed);
    return *ret_changed ? webhooks->config.views->take(a, question->resource, question->type, changed, status) : 0;
}

/* Who was asked before has not seen what changed now. */
static void note_change(const struct admission_attributes *a)
{
    struct webhook_round *round = a->round;
    if (!round || round->again) /* there is no third time */
        return;
    for (size_t i = 0; i < round->invoked.len; i++)
        kp_string_list_add(a->arena, &round->to_ask, round->invoked.items[i]);
    round->invoked.len = 0;
    round->changed = true;
}

static int ask_mutating(struct webhooks *webhooks, const struct webhook *hook, size_t index, struct admission_attributes *a, struct api_status *status)
{
    struct webhook_question question;
    struct webhook_outcome outcome = {0};
    bool changed = false;
    int asked = select_hook(webhooks, hook, a, &question, status);
    if (asked <= 0)
        return asked;
    webhook_call(webhooks, &question, 1, a->arena, &outcome);
    if (conclude(webhooks, hook, index, a, &outcome, status) == 0 && outcome.code == 0 && outcome.answer.patch.len)
        apply_patch(webhooks, &question, &outcome.answer.patch, a, &changed, status);
    webhook_annotate_mutation(hook, a, index, changed, outcome.code == 0 && outcome.answer.allowed ? &outcome.answer.patch : NULL);
    if (status->code < 0)
        return status->code;
    if (changed)
        note_change(a);
    if (hook->reinvocable && a->round && !a->round->again)
        kp_string_list_add(a->arena, &a->round->invoked, kp_arena_strdup(a->arena, hook->uid));
    return 0;
}

/* Our own steps may have changed what the webhooks left. */
static void note_own_changes(const struct admission_attributes *a)
{
    struct webhook_round *round = a->round;
    if (round->invoked.len && strcmp(round->last, digest_of(a)) != 0)
        for (size_t i = 0; i < round->invoked.len; i++)
            kp_string_list_add(a->arena, &round->to_ask, round->invoked.items[i]);
}

int webhooks_mutate(struct webhooks *webhooks, struct admission_attributes *a, struct api_status *status)
{
    struct webhook_list list;
    struct webhook_round *round = a->round;
    int code = 0;
    size_t index = 0;
    if (nothing_to_ask(webhooks, WEBHOOK_MUTATING, a))
        return 0;
    if (round && round->again)
        note_own_changes(a);
    webhook_list_take(webhooks, WEBHOOK_MUTATING, a->arena, &list);
    for (size_t c = 0; c < list.len && code == 0; c++)
        for (size_t i = 0; i < list.items[c]->len && code == 0; i++, index++) {
            const struct webhook *hook = &list.items[c]->hooks[i];
            if (!round || !round->again || kp_string_list_has(&round->to_ask, hook->uid))
                code = ask_mutating(webhooks, hook, index, a, status);
        }
    if (round && round->invoked.len && !round->again)
        round->last = digest_of(a);
    webhook_list_done(&list);
    return code;
}

/* ---- those that judge ----------------------------------------------------------------------------------------------------------------------- */
static int gather(struct webhooks *webhooks, const struct webhook_list *list, const struct admission_attributes *a, struct webhook_question **ret, size_t *ret_count,
                  struct api_status *status)
{
    size_t total = 0;
    for (size_t c = 0; c < list->len; c++)
        total += list->items[c]->len;
    *ret = KP_NEW_ARRAY(a->arena, struct webhook_question, KP_MAX(KP_MIN(total, (size_t)WEBHOOKS_AT_ONCE_MAX), (size_t)1));
    *ret_count = 0;
    for (size_t c = 0; c < list->len; c++)
        for (size_t i = 0; i < list->items[c]->len; i++) {
            if (*ret_count == WEBHOOKS_AT_ONCE_MAX)
                return status_internal(status, "more than %d webhooks are to be asked about one request", WEBHOOKS_AT_ONCE_MAX);
            int asked = select_hook(webhooks, &list->items[c]->hooks[i], a, &(*ret)[*ret_count], status);
            if (asked < 0)
                return asked;
            *ret_count += (size_t)asked;
        }
    return 0;
}

int webhooks_validate(struct webhooks *webhooks, struct admission_attributes *a, struct api_status *status)
{
    struct webhook_list list;
    struct webhook_question *questions;
    size_t count;
    if (nothing_to_ask(webhooks, WEBHOOK_VALIDATING, a))
        return 0;
    webhook_list_take(webhooks, WEBHOOK_VALIDATING, a->arena, &list);
    int code = gather(webhooks, &list, a, &questions, &count, status);
    if (code == 0 && count) {
        struct webhook_outcome *outcomes = KP_NEW_ARRAY(a->arena, struct webhook_outcome, count);
        webhook_call(webhooks, questions, count, a->arena, outcomes);
        for (size_t i = 0; i < count; i++) { /* the first refusal is told; all are counted */
            struct api_status one = API_STATUS(a->arena);
            if (conclude(webhooks, questions[i].hook, i, a, &outcomes[i], &one) < 0 && code == 0) {
                *status = one;
                code = one.code;
            }
        }
    }
    webhook_list_done(&list);
    return code;
}
