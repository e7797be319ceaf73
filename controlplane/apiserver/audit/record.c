/* What is known of one request for the audit log, and its stages. */
#include "controlplane/apiserver/audit/audit_internal.h"

#define LATENCY_TOLD_NS 500000000LL /* requests that took longer say so, as upstream */
#define TRUNCATED "audit.k8s.io/truncated"

struct audit_record {
    int refs; /* atomic */
    struct auditor *auditor;
    struct kp_arena *arena;
    struct audit_verdict verdict;
    struct k8s_audit_event event;
    struct kp_blob *request, *response; /* bodies, as they are told */
    int64_t received_ns;
    bool long_running, is_started;
    bool is_complete; /* atomic */
};

/* ---- what is known ------------------------------------------------------------------------------------------------------------------------- */
static const char *copy(struct audit_record *record, const char *text)
{
    return kp_empty(text) ? NULL : kp_arena_strdup(record->arena, text);
}

static struct k8s_user_info *user_info(struct audit_record *record, const struct auth_user *user)
{
    const struct k8s_user_info info = {.username = user->name, .uid = kp_empty(user->uid) ? NULL : user->uid, .groups = user->groups, .extra = user->extra};
    return KP_OBJECT_CLONE(record->arena, k8s_user_info, &info);
}

static const char *user_agent(struct audit_record *record, const char *text)
{
    size_t len = text ? strlen(text) : 0;
    if (len <= AUDIT_USER_AGENT_MAX)
        return copy(record, text);
    return kp_arena_printf(record->arena, "%.*s...TRUNCATED", AUDIT_USER_AGENT_MAX, text);
}

static void describe(struct audit_record *record, const struct audit_request *request)
{
    struct k8s_audit_event *event = &record->event;
    const struct audit_attributes *a = &request->attributes;
    event->level = audit_level_name(record->verdict.level);
    event->audit_id = copy(record, request->id);
    event->request_uri = copy(record, request->uri);
    event->verb = copy(record, a->verb);
    event->user = request->user ? user_info(record, request->user) : KP_NEW(record->arena, struct k8s_user_info);
    for (size_t i = 0; i < request->source_ips.len; i++)
        kp_string_list_add(record->arena, &event->source_ips, copy(record, request->source_ips.items[i]));
    event->user_agent = user_agent(record, request->user_agent);
    event->request_received_timestamp =
        (struct kp_time){.seconds = request->received_ns / 1000000000, .nanos = (int32_t)(request->received_ns % 1000000000), .set = true};
    if (!a->resource_request)
        return;
    event->object_ref = KP_NEW(record->arena, struct k8s_audit_object_reference);
    *event->object_ref = (struct k8s_audit_object_reference){.resource = copy(record, a->resource),
                                                             .namespace = copy(record, a->ns),
                                                             .name = copy(record, a->name),
                                                             .api_group = copy(record, a->group),
                                                             .api_version = copy(record, request->version),
                                                             .subresource = copy(record, a->subresource)};
}

struct audit_record *audit_record_new(struct auditor *auditor, const struct audit_request *request)
{
    if (!auditor)
        return NULL;
    struct audit_verdict verdict = audit_policy_match(auditor->policy, &request->attributes);
    kp_metric_add(auditor->levels, 1, audit_level_name(verdict.level));
    if (verdict.level == AUDIT_NONE)
        return NULL;
    struct audit_record *record = kp_calloc(1, sizeof(*record));
    record->refs = 1;
    record->auditor = auditor;
    record->arena = kp_arena_new(0);
    record->verdict = verdict;
    record->received_ns = request->received_ns;
    record->long_running = request->long_running || !request->user;
    if (!request->user)
        record->verdict.omitted |= 1u << AUDIT_REQUEST_RECEIVED | 1u << AUDIT_RESPONSE_COMPLETE;
    describe(record, request);
    return record;
}

struct audit_record *audit_record_ref(struct audit_record *record)
{
    if (record)
        __atomic_add_fetch(&record->refs, 1, __ATOMIC_RELAXED);
    return record;
}

void audit_record_unref(struct audit_record *record)
{
    if (!record || __atomic_sub_fetch(&record->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    kp_blob_unref(record->request);
    kp_blob_unref(record->response);
    kp_arena_free(record->arena);
    free(record);
}

bool audit_wants(const struct audit_record *record, enum audit_level level)
{
    return record && record->verdict.level >= level;
}

void audit_impersonated(struct audit_record *record, const struct auth_user *user)
{
    if (record)
        record->event.impersonated_user = user_info(record, user);
}

void audit_annotate(struct audit_record *record, enum audit_level level, const char *key, const char *value)
{
    if (!audit_wants(record, level))
        return;
    const char *fault = kp_validate_qualified_name(key), *known = kp_string_map_get(&record->event.annotations, key);
    if (fault || (known && strcmp(known, value) != 0)) {
        kp_warn("an audit annotation is left out", "auditID", record->event.audit_id, "key", key, "why", fault ? fault : "it has another value already", NULL);
        return;
    }
    if (!known)
        kp_string_map_set(record->arena, &record->event.annotations, kp_arena_strdup(record->arena, key), kp_arena_strdup(record->arena, value));
}

static void fill_in(struct audit_record *record, const char **field, const char *value)
{
    if (kp_empty(*field) && !kp_empty(value))
        *field = copy(record, value);
}

void audit_object(struct audit_record *record, const char *ns, const char *name, const char *uid, const char *resource_version)
{
    if (!record || !record->event.object_ref)
        return;
    struct k8s_audit_object_reference *ref = record->event.object_ref;
    fill_in(record, &ref->namespace, ns);
    fill_in(record, &ref->name, name);
    fill_in(record, &ref->uid, uid);
    fill_in(record, &ref->resource_version, resource_version);
}

static void keep_body(struct audit_record *record, enum audit_level level, const char *json, size_t len, struct kp_blob **body)
{
    if (!audit_wants(record, level) || *body)
        return;
    if (record->verdict.omit_managed_fields)
        *body = audit_without_managed_fields(json, len);
    if (!*body)
        *body = kp_blob_new(json, len);
}

void audit_request_body(struct audit_record *record, const char *json, size_t len)
{
    if (record)
        keep_body(record, AUDIT_REQUEST, json, len, &record->request);
}

void audit_response_body(struct audit_record *record, const char *json, size_t len)
{
    if (record)
        keep_body(record, AUDIT_REQUEST_RESPONSE, json, len, &record->response);
}

void audit_response_status(struct audit_record *record, const char *json, size_t len)
{
    void *decoded = NULL;
    if (!record || kp_json_decode(&k8s_status_type, json, len, record->arena, NULL, &decoded, NULL) < 0)
        return;
    record->event.response_status = decoded;
    record->event.response_status->metadata = KP_NEW(record->arena, struct k8s_list_meta); /* unbounded upstream, so left out */
}

/* ---- stages --------------------------------------------------------------------------------------------------------------------------------- */
static struct kp_raw raw_of(const struct kp_blob *body)
{
    return body ? (struct kp_raw){.json = (const char *)body->data, .len = body->len} : (struct kp_raw){0};
}

static struct kp_blob *encode(struct audit_record *record, bool legacy, bool bodies)
{
    record->event.request_object = raw_of(bodies ? record->request : NULL);
    record->event.response_object = raw_of(bodies ? record->response : NULL);
    return legacy ? audit_event_text(&record->event) : audit_event_json(&record->event);
}

/* As one backend takes it: *whole is made once for all that take the same. */
static int put(struct audit_record *record, struct audit_sink *sink, struct kp_blob **whole, bool wait)
{
    size_t max = audit_sink_config(sink)->event_bytes_max;
    bool legacy = audit_sink_legacy(sink);
    KP_AUTO(kp_blob_unref) struct kp_blob *own = NULL;
    if (!whole[legacy])
        whole[legacy] = encode(record, legacy, true);
    struct kp_blob *event = whole[legacy];
    if (max && event->len > max && audit_wants(record, AUDIT_REQUEST)) {
        struct kp_string_map annotations = record->event.annotations;
        record->event.annotations = (struct kp_string_map){0};
        for (size_t i = 0; i < annotations.len; i++)
            kp_string_map_set(record->arena, &record->event.annotations, annotations.items[i].key, annotations.items[i].value);
        kp_string_map_set(record->arena, &record->event.annotations, TRUNCATED, "true");
        event = own = encode(record, legacy, false);
        record->event.annotations = annotations;
    }
    if (max && event->len > max) {
        audit_sink_lost(sink, 1, "event is too large even after truncating");
        return KP_ETOOLARGE;
    }
    return audit_sink_put(sink, event, wait);
}

static int emit(struct audit_record *record, enum audit_stage stage, int64_t now_ns, bool wait)
{
    struct auditor *auditor = record->auditor;
    struct kp_blob *whole[2] = {0};
    int code = 0;
    if (record->verdict.omitted & 1u << stage)
        return 0;
    record->event.stage = audit_stage_name(stage);
    record->event.stage_timestamp = (struct kp_time){.seconds = now_ns / 1000000000, .nanos = (int32_t)(now_ns % 1000000000), .set = true};
    kp_metric_add(auditor->events, 1);
    for (size_t i = 0; i < auditor->n_sinks; i++)
        if (put(record, auditor->sinks[i], whole, wait) < 0 && audit_sink_config(auditor->sinks[i])->mode == AUDIT_BLOCKING_STRICT)
            code = KP_EIO;
    kp_blob_unref(whole[0]);
    kp_blob_unref(whole[1]);
    return code;
}

int audit_received(struct audit_record *record)
{
    if (!record || emit(record, AUDIT_REQUEST_RECEIVED, record->received_ns, true) == 0)
        return 0;
    kp_metric_add(record->auditor->rejected, 1);
    return KP_EIO;
}

static struct k8s_status *status_of(struct audit_record *record)
{
    if (!record->event.response_status)
        record->event.response_status = KP_OBJECT_NEW(record->arena, k8s_status);
    return record->event.response_status;
}

static void set_code(struct audit_record *record, int http_status)
{
    bool known = record->event.response_status != NULL;
    struct k8s_status *status = status_of(record);
    if (http_status) {
        status->code = http_status;
    } else if (!known) {
        status->status = "Success";
        status->message = "Connection closed early";
        status->code = 200;
    }
}

void audit_started(struct audit_record *record, int http_status, bool wait)
{
    if (!record || !record->long_running || record->is_started)
        return;
    record->is_started = true;
    set_code(record, http_status);
    emit(record, AUDIT_RESPONSE_STARTED, kp_now_ns(), wait);
}

static void tell_latency(struct audit_record *record, int64_t took_ns)
{
    char text[KP_DURATION_MAX];
    if (took_ns <= LATENCY_TOLD_NS)
        return;
    kp_format_duration(text, took_ns);
    audit_annotate(record, AUDIT_METADATA, "apiserver.latency.k8s.io/total", text);
}

void audit_complete(struct audit_record *record, int http_status, bool wait)
{
    if (!record || __atomic_exchange_n(&record->is_complete, true, __ATOMIC_ACQ_REL))
        return;
    audit_started(record, http_status, wait);
    int64_t now_ns = kp_now_ns();
    set_code(record, http_status);
    tell_latency(record, now_ns - record->received_ns);
    emit(record, AUDIT_RESPONSE_COMPLETE, now_ns, wait);
}
