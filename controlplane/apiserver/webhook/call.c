/* The HTTP side of asking webhooks: requests made side by side, and what went wrong in upstream's words. */
#include "controlplane/apiserver/webhook/webhook_internal.h"

#define SHOWN_BODY_MAX 1024

static const struct http_header headers[] = {{"Content-Type", "application/json"}, {"Accept", "application/json, */*"}};

/* clientConfig.url in two: who is asked, and for what. */
static void split_url(const char *url, struct kp_arena *arena, const char **ret_server, const char **ret_path)
{
    const char *scheme = strstr(url, "://"), *slash = strchr(scheme ? scheme + 3 : url, '/');
    *ret_server = slash ? kp_arena_strndup(arena, url, (size_t)(slash - url)) : url;
    *ret_path = slash ? slash : "/";
}

static void prepare(const struct webhook_question *question, struct kp_arena *arena, struct backend_call *call)
{
    const struct k8s_webhook_client_config *client = question->hook->client;
    const char *path;
    *call = (struct backend_call){.backend = {.ca = client->ca_bundle.data, .ca_len = client->ca_bundle.len},
                                   .answer_bytes_max = question->hook->mutating ? WEBHOOK_ANSWER_BYTES_MAX : WEBHOOK_VERDICT_BYTES_MAX};
    if (client->service) {
        const struct k8s_service_reference *service = client->service;
        call->backend.ns = service->namespace;
        call->backend.service = service->name;
        call->backend.port = service->has_port ? service->port : 443;
        path = kp_empty(service->path) ? "/" : service->path;
    } else {
        split_url(client->url, arena, &call->backend.url, &path);
    }
    call->request = (struct http_client_request){.method = "POST",
                                                 .path = kp_arena_printf(arena, "%s?timeout=%ds", path, question->hook->timeout_s),
                                                 .headers = headers,
                                                 .header_count = KP_ARRAY_LEN(headers),
                                                 .body = question->text,
                                                 .body_len = question->len,
                                                 .timeout_ms = question->hook->timeout_s * (int64_t)1000};
}

/* As client-go tells of a failed request. */
static int bad_status(const struct backend_call *call, struct kp_error *error)
{
    switch (call->status) {
    case 401:
        return kp_fail(error, KP_EUNAVAILABLE, "the server has asked for the client to provide credentials");
    case 404:
        return kp_fail(error, KP_EUNAVAILABLE, "the server could not find the requested resource");
    case 405:
        return kp_fail(error, KP_EUNAVAILABLE, "the server does not allow this method on the requested resource");
    case 429:
        return kp_fail(error, KP_EUNAVAILABLE, "the server has received too many requests and has asked us to try again later");
    case 503:
        return kp_fail(error, KP_EUNAVAILABLE, "the server is currently unable to handle the request");
    case 504:
        return kp_fail(error, KP_EUNAVAILABLE, "the server was unable to return a response in the time allotted, but may still be processing the request");
    default:
        break;
    }
    int shown = (int)KP_MIN(call->body.len, (size_t)SHOWN_BODY_MAX);
    if (call->status >= 500)
        return kp_fail(error, KP_EUNAVAILABLE, "an error on the server (\"%.*s\") has prevented the request from succeeding", shown, (const char *)call->body.data);
    return kp_fail(error, KP_EUNAVAILABLE, "the server rejected our request for an unknown reason (status %d)", call->status);
}

static void judge(const struct webhook_question *question, const struct backend_call *call, struct kp_arena *arena, struct webhook_outcome *ret)
{
    ret->duration_ns = call->duration_ns;
    if (call->code < 0) {
        const char *why = call->code == KP_ETIMEOUT ? "context deadline exceeded" : call->error.message;
        const char *server = call->backend.url ? call->backend.url : kp_arena_printf(arena, "https://%s", backend_host(&call->backend, arena));
        ret->code = kp_fail(&ret->error, call->code, "failed to call webhook: Post \"%s%s\": %s", server, call->request.path, why);
        return;
    }
    if (call->status < 200 || call->status > 206) {
        ret->code = bad_status(call, &ret->error);
        kp_wrap(&ret->error, "failed to call webhook");
        return;
    }
    ret->code = webhook_answer_read(question, call->body.data, call->body.len, arena, &ret->answer, &ret->error);
    if (ret->code < 0)
        kp_wrap(&ret->error, "received invalid webhook response");
}

void webhook_call(struct webhooks *webhooks, struct webhook_question *questions, size_t count, struct kp_arena *arena, struct webhook_outcome *ret_outcomes)
{
    struct backend_call *calls = KP_NEW_ARRAY(arena, struct backend_call, KP_MAX(count, (size_t)1));
    for (size_t i = 0; i < count; i++)
        prepare(&questions[i], arena, &calls[i]);
    backends_call(webhooks->config.backends, calls, count, arena);
    for (size_t i = 0; i < count; i++)
        judge(&questions[i], &calls[i], arena, &ret_outcomes[i]);
}
