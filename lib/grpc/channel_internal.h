/* What channel.c and call.c share. */
#ifndef KP_GRPC_CHANNEL_INTERNAL_H
#define KP_GRPC_CHANNEL_INTERNAL_H

#include "lib/grpc/grpc_internal.h"

#define CALL_METADATA_MAX 32

struct grpc_channel {
    struct http_client *http;
    int64_t call_timeout_ms;
    size_t response_bytes_max;
};

/* The headers of a call; list points into timeout and into what the options point to. */
struct grpc_call_headers {
    struct http_header list[CALL_METADATA_MAX + 3];
    size_t count;
    char timeout[GRPC_TIMEOUT_TEXT_MAX];
};
int grpc_call_headers(const struct grpc_call_options *options, int64_t timeout_ms, struct grpc_call_headers *ret_headers,
                 struct kp_error *error);

/* How a call ended. */
struct grpc_call_outcome {
    bool known;
    enum grpc_status status;
    char message[GRPC_STATUS_MESSAGE_MAX];
};
/* Reads grpc-status and grpc-message; false when they are not there. */
bool grpc_outcome_read(struct grpc_call_outcome *outcome, const struct http_header *headers, size_t count);
void grpc_outcome_set(struct grpc_call_outcome *outcome, enum grpc_status status, const char *message);

#endif
