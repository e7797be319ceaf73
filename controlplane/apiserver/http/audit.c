/* What the audit log is told of a request: who asks for what and from where, its body, and its answer. */
#include "controlplane/apiserver/http/http_internal.h"

#include <arpa/inet.h>

/* ---- where from (k8s.io/apimachinery pkg/util/net SourceIPs) ------------------------------------------------------------------------------- */
static const char *address(struct kp_arena *arena, const char *text, size_t len)
{
    struct in6_addr unused;
    while (len && (*text == ' ' || *text == '\t')) {
        text++;
        len--;
    }
    while (len && (text[len - 1] == ' ' || text[len - 1] == '\t'))
        len--;
    const char *one = kp_arena_strndup(arena, text, len);
    return inet_pton(AF_INET, one, &unused) == 1 || inet_pton(AF_INET6, one, &unused) == 1 ? one : NULL;
}

/* "192.0.2.1" of "192.0.2.1:51234", "2001:db8::1" of "[2001:db8::1]:51234". */
static const char *peer_of(struct api_request *ar)
{
    const char *peer = ar->http->peer_address ? ar->http->peer_address : "", *colon = strrchr(peer, ':');
    if (*peer == '[')
        return address(ar->arena, peer + 1, strcspn(peer + 1, "]"));
    return address(ar->arena, peer, colon ? (size_t)(colon - peer) : strlen(peer));
}

static struct kp_string_list source_ips(struct api_request *ar)
{
    struct kp_string_list ips = {0};
    const char *forwarded = http_request_header(ar->http, "x-forwarded-for"), *real = http_request_header(ar->http, "x-real-ip"), *one;
    for (const char *at = forwarded ? forwarded : ""; *at;) {
        size_t len = strcspn(at, ",");
        if ((one = address(ar->arena, at, len)))
            kp_string_list_add(ar->arena, &ips, one);
        at += len + (at[len] == ',');
    }
    if (real && (one = address(ar->arena, real, strlen(real))) && !kp_string_list_has(&ips, one))
        kp_string_list_add(ar->arena, &ips, one);
    if ((one = peer_of(ar)) && (!ips.len || strcmp(ips.items[ips.len - 1], one) != 0))
        kp_string_list_add(ar->arena, &ips, one);
    return ips;
}

/* ---- the beginning ------------------------------------------------------------------------------------------------------------------------- */
bool api_audit_begin(struct api_request *ar, bool authenticated)
{
    const struct request_info *info = &ar->info;
    struct auditor *auditor = ar->server->config.auditor;
    if (!auditor)
        return true;
    const struct audit_request request = {
        .attributes = {.user = authenticated ? ar->user.name : NULL,
                       .groups = &ar->user.groups,
                       .verb = info->verb,
                       .resource_request = info->resource_request,
                       .group = info->group,
                       .resource = info->resource,
                       .subresource = info->subresource,
                       .ns = info->ns,
                       .name = info->name,
                       .path = info->path},
        .version = info->version,
        .id = ar->audit_id,
        .uri = *ar->http->query ? kp_arena_printf(ar->arena, "%s?%s", ar->http->raw_path, ar->http->query) : ar->http->raw_path,
        .user_agent = http_request_header(ar->http, "user-agent"),
        .source_ips = source_ips(ar),
        .user = authenticated ? &ar->user : NULL,
        .received_ns = kp_now_ns() - (kp_mono_ns() - ar->http->received_ns),
        .long_running = api_long_running(info)};
    ar->audit = audit_record_new(auditor, &request);
    if (audit_received(ar->audit) == 0)
        return true;
    audit_record_unref(KP_TAKE(ar->audit)); /* as upstream: what could not be stored once is not told of any more */
    status_internal(&ar->status, "Internal Server Error: \"%s\": failed to store audit event", request.uri);
    respond_status(ar);
    return false;
}

/* ---- bodies -------------------------------------------------------------------------------------------------------------------------------- */
void api_audit_request_object(struct api_request *ar, const struct kp_type *type, const void *obj)
{
    const struct k8s_object_meta *meta = kp_object_meta(type, obj);
    if (meta)
        audit_object(ar->audit, meta->namespace, meta->name, meta->uid, meta->resource_version);
    if (!audit_wants(ar->audit, AUDIT_REQUEST))
        return;
    KP_AUTO_BUF struct kp_buf out = {0};
    kp_json_encode(type, obj, &out);
    audit_request_body(ar->audit, out.data, out.len);
}

/* One that cannot be read is refused later. */
void api_audit_patch(struct api_request *ar, bool yaml)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf out = {0};
    struct kp_value *value = NULL, **documents;
    size_t count;
    const char *text = (const char *)ar->http->body.data;
    size_t len = ar->http->body.len;
    if (yaml && kp_yaml_parse(text, len, arena, &documents, &count, NULL) == 0 && count == 1)
        value = documents[0];
    else if (!yaml && kp_value_parse(text, len, arena, NULL, &value, NULL) < 0)
        value = NULL;
    if (!value)
        return;
    kp_value_print(value, &out);
    audit_request_body(ar->audit, out.data, out.len);
}

void api_audit_typed(struct api_request *ar, const struct kp_type *type, const void *obj)
{
    if (!audit_wants(ar->audit, AUDIT_REQUEST_RESPONSE))
        return;
    KP_AUTO_BUF struct kp_buf out = {0};
    kp_json_encode(type, obj, &out);
    audit_response_body(ar->audit, out.data, out.len);
}

void api_audit_status(struct api_request *ar, const char *json, size_t len)
{
    if (!ar->audit)
        return;
    audit_response_status(ar->audit, json, len);
    audit_response_body(ar->audit, json, len);
}

/* ---- the end --------------------------------------------------------------------------------------------------------------------------------- */
void api_audit_answered(struct api_request *ar, int http_status)
{
    if (ar->audit)
        audit_complete(ar->audit, http_status, true);
}

/* The connection may end at any time. Whoever takes the record out of the request tells that it is complete: on_access, or we, if that came before. */
void api_audit_hand_over(struct api_request *ar)
{
    struct audit_record *record = KP_TAKE(ar->audit);
    if (!record)
        return;
    __atomic_store_n(&ar->http->user, record, __ATOMIC_SEQ_CST);
    if (!http_request_cancelled(ar->http))
        return;
    record = __atomic_exchange_n(&ar->http->user, NULL, __ATOMIC_SEQ_CST);
    audit_complete(record, 0, false);
    audit_record_unref(record);
}

void api_audit_closed(const struct http_access *access)
{
    struct http_request *request = (struct http_request *)(uintptr_t)access->request;
    struct audit_record *record = __atomic_exchange_n(&request->user, NULL, __ATOMIC_SEQ_CST);
    audit_complete(record, access->status, false);
    audit_record_unref(record);
}

void api_audit_leave(struct api_request *ar)
{
    if (ar->audit)
        audit_complete(ar->audit, 0, true); /* the peer went before anything was answered, unless it is complete already */
    audit_record_unref(KP_TAKE(ar->audit));
}
