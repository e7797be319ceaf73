/* Answers: headers every answer has, Status objects, objects and lists. */
#include "controlplane/apiserver/http/encode_internal.h"

#define WARNING_BYTES_MAX 4096 /* upstream cuts off likewise */

/* RFC 7234 5.5: code, agent, quoted text. */
static const char *warning_value(struct kp_arena *arena, const char *text)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    kp_buf_puts(&out, "299 - \"");
    for (const char *c = text; *c; c++) {
        if (*c == '"' || *c == '\\')
            kp_buf_putc(&out, '\\');
        kp_buf_putc(&out, (unsigned char)*c < 0x20 ? ' ' : *c);
    }
    kp_buf_putc(&out, '"');
    return kp_arena_strdup(arena, out.data);
}

size_t response_headers(struct api_request *ar, const char *content_type, struct http_header headers[API_HEADERS_MAX])
{
    size_t count = 0, bytes = 0;
    headers[count++] = (struct http_header){"Content-Type", content_type};
    headers[count++] = (struct http_header){"Audit-Id", ar->audit_id};
    headers[count++] = (struct http_header){"Cache-Control", "no-cache, private"};
    if (ar->status.retry_after_s > 0)
        headers[count++] = (struct http_header){"Retry-After", kp_arena_printf(ar->arena, "%d", ar->status.retry_after_s)};
    for (size_t i = 0; i < ar->rq.warnings.len && count < API_HEADERS_MAX - 2; i++) {
        const char *value = warning_value(ar->arena, ar->rq.warnings.items[i]);
        bytes += strlen(value);
        if (bytes <= WARNING_BYTES_MAX)
            headers[count++] = (struct http_header){"Warning", value};
    }
    return count;
}

void respond_bytes(struct api_request *ar, int http_status, const char *content_type, const void *data, size_t len)
{
    struct http_header headers[API_HEADERS_MAX];
    size_t count = response_headers(ar, content_type, headers);
    ar->answered = true;
    api_audit_answered(ar, http_status);
    if (len >= HTTP_GZIP_BYTES_MIN && http_request_accepts_gzip(ar->http)) {
        KP_AUTO(kp_blob_unref) struct kp_blob *packed = http_gzip(data, len);
        if (packed) {
            headers[count++] = (struct http_header){"Content-Encoding", "gzip"};
            headers[count++] = (struct http_header){"Vary", "Accept-Encoding"};
            http_respond_blob(ar->http, http_status, headers, count, packed);
            return;
        }
    }
    http_respond(ar->http, http_status, headers, count, data, len);
}

void respond_text(struct api_request *ar, int http_status, const char *text)
{
    respond_bytes(ar, http_status, "text/plain; charset=utf-8", text, strlen(text));
}

static void respond_json(struct api_request *ar, int http_status, const struct kp_type *type, const char *text, size_t len)
{
    struct kp_error error = {0};
    if (ar->out.form == OUT_PROTO) {
        void *obj = NULL;
        KP_AUTO_BUF struct kp_buf out = {0};
        if (kp_json_decode(type, text, len, ar->arena, NULL, &obj, &error) == 0) {
            kp_proto_encode_object(type, obj, &out);
            respond_bytes(ar, http_status, form_content_type(OUT_PROTO), out.data, out.len);
            return;
        }
        kp_error_log("an answer of our own cannot be read back", "error", error.message, NULL);
    }
    respond_bytes(ar, http_status, "application/json", text, len);
}

void respond_status(struct api_request *ar)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    KP_ASSERT(ar->status.http_status);
    status_encode(&ar->status, &out);
    api_audit_status(ar, out.data, out.len);
    respond_json(ar, ar->status.http_status, &k8s_status_type, out.data, out.len);
}

void respond_success(struct api_request *ar, const char *name, const char *uid)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    kp_buf_puts(&out, "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Success\",\"details\":{\"name\":");
    kp_json_string(&out, name);
    if (*ar->info.group) {
        kp_buf_puts(&out, ",\"group\":");
        kp_json_string(&out, ar->info.group);
    }
    kp_buf_puts(&out, ",\"kind\":");
    kp_json_string(&out, ar->info.resource);
    if (!kp_empty(uid)) {
        kp_buf_puts(&out, ",\"uid\":");
        kp_json_string(&out, uid);
    }
    kp_buf_puts(&out, "}}");
    api_audit_status(ar, out.data, out.len);
    respond_json(ar, 200, &k8s_status_type, out.data, out.len);
}

void respond_typed(struct api_request *ar, int http_status, const struct kp_type *type, const void *obj)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    struct encoding encoding = {.form = ar->out.form};
    struct kp_error error = {0};
    api_audit_typed(ar, type, obj);
    if (ar->out.form == OUT_PROTO)
        kp_proto_encode_object(type, obj, &out);
    else
        kp_json_encode(type, obj, &out);
    if (encode_form(&encoding, ar->arena, &out, &error) < 0) {
        status_from_error(&ar->status, &error);
        ar->out.form = OUT_JSON;
        respond_status(ar);
        return;
    }
    respond_bytes(ar, http_status, form_content_type(ar->out.form), out.data, out.len);
}

static void finish(struct api_request *ar, int http_status, const struct encoding *encoding, struct kp_buf *out)
{
    struct kp_error error = {0};
    if (encode_form(encoding, ar->arena, out, &error) < 0) {
        status_from_error(&ar->status, &error);
        ar->out.form = OUT_JSON;
        respond_status(ar);
        return;
    }
    respond_bytes(ar, http_status, form_content_type(ar->out.form), out->data, out->len);
}

/* What is answered, but always as JSON. One of them is NULL. */
static void audit_answer(struct api_request *ar, const struct encoding *answer, const struct wcache_object *object, const struct registry_list *list)
{
    struct encoding encoding = *answer;
    KP_AUTO_BUF struct kp_buf out = {0};
    encoding.form = OUT_JSON;
    if (object)
        encode_object(&encoding, object, true, ar->arena, &out);
    else
        encode_list(&encoding, list, ar->arena, &out);
    audit_response_body(ar->audit, out.data, out.len);
}

void respond_object(struct api_request *ar, int http_status, struct wcache_object *object)
{
    struct encoding encoding = encoding_of(ar);
    if (audit_wants(ar->audit, AUDIT_REQUEST_RESPONSE))
        audit_answer(ar, &encoding, object, NULL);
    if (encoding_is_plain(&encoding) && object->json->len < HTTP_GZIP_BYTES_MIN) {
        struct http_header headers[API_HEADERS_MAX];
        size_t count = response_headers(ar, "application/json", headers);
        ar->answered = true;
        api_audit_answered(ar, http_status);
        http_respond_blob(ar->http, http_status, headers, count, object->json);
        return;
    }
    KP_AUTO_BUF struct kp_buf out = {0};
    encode_object(&encoding, object, true, ar->arena, &out);
    finish(ar, http_status, &encoding, &out);
}

void respond_list(struct api_request *ar, const struct registry_list *list)
{
    struct encoding encoding = encoding_of(ar);
    KP_AUTO_BUF struct kp_buf out = {0};
    if (audit_wants(ar->audit, AUDIT_REQUEST_RESPONSE))
        audit_answer(ar, &encoding, NULL, list);
    encode_list(&encoding, list, ar->arena, &out);
    finish(ar, 200, &encoding, &out);
}
