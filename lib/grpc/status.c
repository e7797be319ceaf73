/* gRPC status codes, status messages and time-outs as they go over the wire. */
#include "lib/grpc/grpc_internal.h"

#include <ctype.h>

static const struct {
    const char *name;
    int code;
} statuses[] = {
    [GRPC_OK] = {"OK", KP_OK},
    [GRPC_CANCELLED] = {"CANCELLED", KP_ECANCELLED},
    [GRPC_UNKNOWN] = {"UNKNOWN", KP_EINTERNAL},
    [GRPC_INVALID_ARGUMENT] = {"INVALID_ARGUMENT", KP_EINVALID},
    [GRPC_DEADLINE_EXCEEDED] = {"DEADLINE_EXCEEDED", KP_ETIMEOUT},
    [GRPC_NOT_FOUND] = {"NOT_FOUND", KP_ENOTFOUND},
    [GRPC_ALREADY_EXISTS] = {"ALREADY_EXISTS", KP_EEXISTS},
    [GRPC_PERMISSION_DENIED] = {"PERMISSION_DENIED", KP_EFORBIDDEN},
    [GRPC_RESOURCE_EXHAUSTED] = {"RESOURCE_EXHAUSTED", KP_ETOOMANY},
    [GRPC_FAILED_PRECONDITION] = {"FAILED_PRECONDITION", KP_ECONFLICT},
    [GRPC_ABORTED] = {"ABORTED", KP_ECONFLICT},
    [GRPC_OUT_OF_RANGE] = {"OUT_OF_RANGE", KP_EEXPIRED}, /* etcd: the revision asked for has been compacted */
    [GRPC_UNIMPLEMENTED] = {"UNIMPLEMENTED", KP_ENOTSUPPORTED},
    [GRPC_INTERNAL] = {"INTERNAL", KP_EINTERNAL},
    [GRPC_UNAVAILABLE] = {"UNAVAILABLE", KP_EUNAVAILABLE},
    [GRPC_DATA_LOSS] = {"DATA_LOSS", KP_ECORRUPT},
    [GRPC_UNAUTHENTICATED] = {"UNAUTHENTICATED", KP_EUNAUTHORIZED},
};

static bool status_known(int status)
{
    return status >= 0 && (size_t)status < KP_ARRAY_LEN(statuses);
}

const char *grpc_status_name(int status)
{
    return statuses[status_known(status) ? status : GRPC_UNKNOWN].name;
}

int grpc_status_to_code(int status)
{
    return statuses[status_known(status) ? status : GRPC_UNKNOWN].code;
}

enum grpc_status grpc_status_from_code(int kp_code)
{
    switch (kp_code) {
    case KP_OK:
        return GRPC_OK;
    case KP_EBADREQUEST:
    case KP_EINVALID:
    case KP_EUSAGE:
    case KP_EMEDIATYPE:
    case KP_ENOTACCEPTABLE:
        return GRPC_INVALID_ARGUMENT;
    case KP_EUNAUTHORIZED:
        return GRPC_UNAUTHENTICATED;
    case KP_EFORBIDDEN:
        return GRPC_PERMISSION_DENIED;
    case KP_ENOTFOUND:
        return GRPC_NOT_FOUND;
    case KP_EEXISTS:
        return GRPC_ALREADY_EXISTS;
    case KP_ECONFLICT:
        return GRPC_FAILED_PRECONDITION;
    case KP_EEXPIRED:
        return GRPC_OUT_OF_RANGE;
    case KP_ETOOLARGE:
    case KP_ETOOMANY:
    case KP_EQUOTA:
        return GRPC_RESOURCE_EXHAUSTED;
    case KP_EUNAVAILABLE:
    case KP_EIO:
    case KP_EAGAIN:
        return GRPC_UNAVAILABLE;
    case KP_ETIMEOUT:
        return GRPC_DEADLINE_EXCEEDED;
    case KP_ECANCELLED:
        return GRPC_CANCELLED;
    case KP_ENOTSUPPORTED:
        return GRPC_UNIMPLEMENTED;
    case KP_ECORRUPT:
        return GRPC_DATA_LOSS;
    default:
        return GRPC_INTERNAL;
    }
}

enum grpc_status grpc_status_of_result(int result)
{
    if (result < 0)
        return grpc_status_from_code(result);
    return status_known(result) ? (enum grpc_status)result : GRPC_UNKNOWN;
}

int grpc_fail(struct kp_error *error, enum grpc_status status, const char *format, ...)
{
    KP_ASSERT(status != GRPC_OK);
    if (!error)
        return (int)status;
    va_list ap;
    va_start(ap, format);
    char message[KP_ERROR_MESSAGE_MAX]; /* aside: an argument may be error->message */
    vsnprintf(message, sizeof(message), format, ap);
    va_end(ap);
    memcpy(error->message, message, strlen(message) + 1);
    error->code = grpc_status_to_code((int)status);
    return (int)status;
}

enum grpc_status grpc_status_from_http(int http_status)
{
    switch (http_status) { /* gRPC's http-grpc-status-mapping */
    case 400:
        return GRPC_INTERNAL;
    case 401:
        return GRPC_UNAUTHENTICATED;
    case 403:
        return GRPC_PERMISSION_DENIED;
    case 404:
        return GRPC_UNIMPLEMENTED;
    case 413:
        return GRPC_RESOURCE_EXHAUSTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return GRPC_UNAVAILABLE;
    default:
        return GRPC_UNKNOWN;
    }
}

void grpc_status_message_encode(struct kp_buf *out, const char *text)
{
    size_t len = strnlen(text, GRPC_STATUS_MESSAGE_MAX);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        bool edge = i == 0 || i == len - 1; /* HTTP strips or refuses space there */
        if (c >= 0x20 && c <= 0x7e && c != '%' && !(edge && c == ' '))
            kp_buf_putc(out, (char)c);
        else
            kp_buf_printf(out, "%%%02X", c);
    }
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)tolower((unsigned char)c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

void grpc_status_message_decode(struct kp_buf *out, const char *text)
{
    for (; *text; text++) {
        int high = *text == '%' ? hex_value(text[1]) : -1;
        int low = high >= 0 ? hex_value(text[2]) : -1;
        if (low >= 0 && (high || low)) {
            kp_buf_putc(out, (char)(high << 4 | low));
            text += 2;
        } else {
            kp_buf_putc(out, *text); /* what is no escape stands for itself */
        }
    }
}

void grpc_timeout_format(char out[GRPC_TIMEOUT_TEXT_MAX], int64_t timeout_ms)
{
    const int64_t digits_max = 99999999; /* eight digits */
    if (timeout_ms <= digits_max)
        snprintf(out, GRPC_TIMEOUT_TEXT_MAX, "%lldm", (long long)timeout_ms);
    else
        snprintf(out, GRPC_TIMEOUT_TEXT_MAX, "%lldS", (long long)KP_MIN(timeout_ms / 1000, digits_max));
}

int grpc_timeout_parse(const char *text, int64_t *ret_timeout_ms)
{
    int64_t value = 0;
    size_t digits = strspn(text, "0123456789");
    if (digits < 1 || digits > 8 || !text[digits] || text[digits + 1])
        return KP_EBADREQUEST;
    for (size_t i = 0; i < digits; i++)
        value = value * 10 + (text[i] - '0');
    switch (text[digits]) {
    case 'H':
        *ret_timeout_ms = value * 3600000;
        return 0;
    case 'M':
        *ret_timeout_ms = value * 60000;
        return 0;
    case 'S':
        *ret_timeout_ms = value * 1000;
        return 0;
    case 'm':
        *ret_timeout_ms = value;
        return 0;
    case 'u':
        *ret_timeout_ms = (value + 999) / 1000;
        return 0;
    case 'n':
        *ret_timeout_ms = (value + 999999) / 1000000;
        return 0;
    default:
        return KP_EBADREQUEST;
    }
}
