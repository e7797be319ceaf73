/* The gRPC client: channels and blocking unary calls. */
#include "lib/grpc/channel_internal.h"

#define CALL_TIMEOUT_DEFAULT_MS 60000

int grpc_channel_new(struct loop *loop, const struct grpc_channel_config *config, struct grpc_channel **ret_channel,
                     struct kp_error *error)
{
    KP_AUTO(grpc_channel_free) struct grpc_channel *channel = kp_calloc(1, sizeof(*channel));
    channel->call_timeout_ms = config->call_timeout_ms ? config->call_timeout_ms : CALL_TIMEOUT_DEFAULT_MS;
    channel->response_bytes_max =
        config->response_bytes_max ? config->response_bytes_max : GRPC_RESPONSE_BYTES_MAX_DEFAULT;
    const struct http_client_config http = {
        .endpoints = config->endpoints,
        .endpoint_count = config->endpoint_count,
        .tls = config->tls,
        .tls_server_name = config->tls_server_name,
        .protocol = HTTP_CLIENT_H2,
        .body_bytes_max = channel->response_bytes_max + GRPC_FRAME_HEADER_BYTES,
        .connect_timeout_ms = config->connect_timeout_ms,
    };
    int rc = http_client_new(loop, &http, &channel->http, error);
    if (rc < 0)
        return rc;
    *ret_channel = KP_TAKE(channel);
    return 0;
}

void grpc_channel_free(struct grpc_channel *channel)
{
    if (!channel)
        return;
    http_client_free(channel->http);
    free(channel);
}

struct http_client *grpc_channel_http(struct grpc_channel *channel)
{
    return channel->http;
}

int grpc_call_headers(const struct grpc_call_options *options, int64_t timeout_ms, struct grpc_call_headers *ret_headers,
                 struct kp_error *error)
{
    struct grpc_call_headers *h = ret_headers;
    h->count = 0;
    h->list[h->count++] = (struct http_header){"content-type", "application/grpc"};
    h->list[h->count++] = (struct http_header){"te", "trailers"};
    if (timeout_ms > 0) {
        grpc_timeout_format(h->timeout, timeout_ms);
        h->list[h->count++] = (struct http_header){"grpc-timeout", h->timeout};
    }
    if (options->metadata_count > CALL_METADATA_MAX)
        return kp_fail(error, KP_EINVALID, "more than %d metadata entries", CALL_METADATA_MAX);
    for (size_t i = 0; i < options->metadata_count; i++)
        h->list[h->count++] = options->metadata[i];
    return 0;
}

bool grpc_outcome_read(struct grpc_call_outcome *outcome, const struct http_header *headers, size_t count)
{
    const char *number = http_header_get(headers, count, "grpc-status");
    uint64_t value;
    if (!number)
        return false;
    outcome->known = true;
    outcome->status = kp_parse_u64(number, &value) == 0 && value <= GRPC_UNAUTHENTICATED ? (enum grpc_status)value
                                                                                       : GRPC_UNKNOWN;
    const char *message = http_header_get(headers, count, "grpc-message");
    KP_AUTO_BUF struct kp_buf text = {0};
    if (message)
        grpc_status_message_decode(&text, message);
    snprintf(outcome->message, sizeof(outcome->message), "%s", text.len ? text.data : "");
    return true;
}

void grpc_outcome_set(struct grpc_call_outcome *outcome, enum grpc_status status, const char *message)
{
    outcome->known = true;
    outcome->status = status;
    snprintf(outcome->message, sizeof(outcome->message), "%s", message);
}

/* Fills in the outcome from a complete response. */
static void read_response(const struct http_response *response, struct grpc_call_outcome *outcome)
{
    char text[64];
    if (grpc_outcome_read(outcome, response->trailers, response->trailer_count) ||
        grpc_outcome_read(outcome, response->headers, response->header_count))
        return;
    snprintf(text, sizeof(text), "HTTP status %d without grpc-status", response->status);
    grpc_outcome_set(outcome, response->status == 200 ? GRPC_INTERNAL : grpc_status_from_http(response->status), text);
}

/* The one message of an unary response. */
static void decode_response(const ProtobufCMessageDescriptor *type, const struct http_response *response,
                            struct kp_arena *arena, ProtobufCMessage **ret_message, struct grpc_call_outcome *outcome)
{
    const uint8_t *data = response->body.data;
    size_t len = response->body.len;
    if (len < GRPC_FRAME_HEADER_BYTES) {
        grpc_outcome_set(outcome, GRPC_INTERNAL, "the response has no message");
        return;
    }
    size_t size = (size_t)data[1] << 24 | (size_t)data[2] << 16 | (size_t)data[3] << 8 | data[4];
    if (data[0] != 0) {
        grpc_outcome_set(outcome, GRPC_UNIMPLEMENTED, "the response is compressed, which was not offered");
        return;
    }
    if (size != len - GRPC_FRAME_HEADER_BYTES) {
        grpc_outcome_set(outcome, GRPC_INTERNAL, "the response is not exactly one message");
        return;
    }
    *ret_message = grpc_unpack(type, arena, data + GRPC_FRAME_HEADER_BYTES, size);
    if (!*ret_message)
        grpc_outcome_set(outcome, GRPC_INTERNAL, "the response does not decode");
}

int grpc_call(struct grpc_channel *channel, const char *path, const ProtobufCMessage *request,
              const ProtobufCMessageDescriptor *response_type, const struct grpc_call_options *options,
              struct kp_arena *arena, ProtobufCMessage **ret_response, struct kp_error *error)
{
    static const struct grpc_call_options none;
    struct kp_error local = {0};
    struct grpc_call_outcome outcome = {0};
    struct grpc_call_headers headers;
    options = options ? options : &none;
    error = error ? error : &local;
    int64_t timeout_ms = options->timeout_ms ? options->timeout_ms : channel->call_timeout_ms;
    int rc = grpc_call_headers(options, timeout_ms, &headers, error);
    if (rc < 0)
        return kp_wrap(error, "%s", path);
    KP_AUTO(kp_blob_unref) struct kp_blob *framed = grpc_pack(request);
    const struct http_client_request http = {
        .method = "POST",
        .path = path,
        .headers = headers.list,
        .header_count = headers.count,
        .body_blob = framed,
        .timeout_ms = timeout_ms,
        .cancel = options->cancel,
    };
    struct http_response response = {0};
    ProtobufCMessage *message = NULL;
    rc = http_client_do(channel->http, &http, arena, &response, error);
    if (rc < 0) {
        if (options->ret_status)
            *options->ret_status = grpc_status_from_code(rc);
        return kp_wrap(error, "%s", path);
    }
    read_response(&response, &outcome);
    if (outcome.status == GRPC_OK)
        decode_response(response_type, &response, arena, &message, &outcome);
    if (options->ret_status)
        *options->ret_status = outcome.status;
    if (outcome.status != GRPC_OK) /* the message alone: callers compare it with what the protocol says */
        return kp_fail(error, grpc_status_to_code((int)outcome.status), "%s", outcome.message);
    *ret_response = message;
    return 0;
}
