/* Errors, assertions, and allocation that cannot fail. */
#include "lib/base/base.h"

#include <errno.h>
#include <unistd.h>

static const struct kp_code_info code_table[] = {
    [0] = {"OK", "", 200, 0},
    [-KP_EINTERNAL] = {"INTERNAL", "InternalError", 500, 1},
    [-KP_EBADREQUEST] = {"BAD_REQUEST", "BadRequest", 400, 1},
    [-KP_EINVALID] = {"INVALID", "Invalid", 422, 1},
    [-KP_EUNAUTHORIZED] = {"UNAUTHORIZED", "Unauthorized", 401, 1},
    [-KP_EFORBIDDEN] = {"FORBIDDEN", "Forbidden", 403, 1},
    [-KP_ENOTFOUND] = {"NOT_FOUND", "NotFound", 404, 1},
    [-KP_EEXISTS] = {"ALREADY_EXISTS", "AlreadyExists", 409, 1},
    [-KP_ECONFLICT] = {"CONFLICT", "Conflict", 409, 1},
    [-KP_EEXPIRED] = {"EXPIRED", "Expired", 410, 1},
    [-KP_ETOOLARGE] = {"TOO_LARGE", "RequestEntityTooLarge", 413, 1},
    [-KP_ETOOMANY] = {"TOO_MANY", "TooManyRequests", 429, 1},
    [-KP_EUNAVAILABLE] = {"UNAVAILABLE", "ServiceUnavailable", 503, 1},
    [-KP_ETIMEOUT] = {"TIMEOUT", "Timeout", 504, 1},
    [-KP_ECANCELLED] = {"CANCELLED", "Timeout", 504, 130},
    [-KP_ENOTSUPPORTED] = {"NOT_SUPPORTED", "MethodNotAllowed", 405, 1},
    [-KP_EMEDIATYPE] = {"MEDIA_TYPE", "UnsupportedMediaType", 415, 1},
    [-KP_ENOTACCEPTABLE] = {"NOT_ACCEPTABLE", "NotAcceptable", 406, 1},
    [-KP_EIO] = {"IO", "InternalError", 500, 1},
    [-KP_ECORRUPT] = {"CORRUPT", "InternalError", 500, 1},
    [-KP_EUSAGE] = {"USAGE", "BadRequest", 400, 2},
    [-KP_EQUOTA] = {"QUOTA", "Forbidden", 403, 1},
    [-KP_EAGAIN] = {"AGAIN", "ServiceUnavailable", 503, 1},
};

_Static_assert(KP_ARRAY_LEN(code_table) == -KP_CODE_MIN + 1, "every kp_code has a row");

const struct kp_code_info *kp_code_info(int code)
{
    if (code > 0 || code < KP_CODE_MIN)
        code = KP_EINTERNAL;
    return &code_table[-code];
}

_Noreturn void kp_assert_fail(const char *expr, const char *file, int line)
{
    fprintf(stderr, "assertion failed: %s at %s:%d\n", expr, file, line);
    fflush(stderr);
    abort();
}

int kp_fail(struct kp_error *error, int code, const char *format, ...)
{
    KP_ASSERT(code < 0);
    if (!error)
        return code;
    /* Formatted aside first: an argument may be error->message itself. */
    char message[KP_ERROR_MESSAGE_MAX];
    va_list ap;
    va_start(ap, format);
    vsnprintf(message, sizeof(message), format, ap);
    va_end(ap);
    memcpy(error->message, message, strlen(message) + 1);
    error->code = code;
    error->retry_after_ms = 0;
    return code;
}

static int code_from_errno(int number)
{
    switch (number) {
    case ENOENT:
    case ESRCH:
    case ENODEV:
        return KP_ENOTFOUND;
    case EEXIST:
        return KP_EEXISTS;
    case EACCES:
    case EPERM:
        return KP_EFORBIDDEN;
    case ECONNREFUSED:
    case ECONNRESET:
    case ECONNABORTED:
    case ENOTCONN:
    case EPIPE:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ENETDOWN:
        return KP_EUNAVAILABLE;
    case ETIMEDOUT:
        return KP_ETIMEOUT;
    case EAGAIN:
        return KP_EAGAIN;
    case ECANCELED:
        return KP_ECANCELLED;
    case ENOSPC:
    case EDQUOT:
        return KP_EQUOTA;
    case EFBIG:
    case E2BIG:
    case EMSGSIZE:
        return KP_ETOOLARGE;
    case EOPNOTSUPP:
    case ENOSYS:
        return KP_ENOTSUPPORTED;
    default:
        return KP_EIO;
    }
}

int kp_fail_errno(struct kp_error *error, const char *format, ...)
{
    int number = errno;
    int code = code_from_errno(number);
    if (!error)
        return code;
    char message[KP_ERROR_MESSAGE_MAX];
    char reason[128];
    va_list ap;
    va_start(ap, format);
    vsnprintf(message, sizeof(message), format, ap);
    va_end(ap);
    const char *text = strerror_r(number, reason, sizeof(reason));
    size_t len = strlen(message);
    snprintf(message + len, sizeof(message) - len, ": %s", text);
    memcpy(error->message, message, strlen(message) + 1);
    error->code = code;
    errno = number;
    return code;
}

int kp_wrap(struct kp_error *error, const char *format, ...)
{
    if (!error)
        return KP_EINTERNAL;
    char message[KP_ERROR_MESSAGE_MAX];
    va_list ap;
    va_start(ap, format);
    vsnprintf(message, sizeof(message), format, ap);
    va_end(ap);
    size_t len = strlen(message);
    size_t room = sizeof(message) - len - 1;
    size_t tail = KP_MIN(strlen(error->message), room > 2 ? room - 2 : 0);
    if (room > 2) {
        memcpy(message + len, ": ", 2);
        memcpy(message + len + 2, error->message, tail);
        message[len + 2 + tail] = '\0';
    }
    memcpy(error->message, message, strlen(message) + 1);
    if (error->code >= 0)
        error->code = KP_EINTERNAL;
    return error->code;
}

static _Noreturn void out_of_memory(size_t size)
{
    fprintf(stderr, "out of memory allocating %zu bytes\n", size);
    fflush(stderr);
    abort();
}

void *kp_malloc(size_t size)
{
    void *p = malloc(size ? size : 1);
    if (!p)
        out_of_memory(size);
    return p;
}

void *kp_calloc(size_t count, size_t size)
{
    void *p = calloc(count ? count : 1, size ? size : 1);
    if (!p)
        out_of_memory(size);
    return p;
}

void *kp_realloc(void *p, size_t size)
{
    void *grown = realloc(p, size ? size : 1);
    if (!grown)
        out_of_memory(size);
    return grown;
}

char *kp_strdup(const char *s)
{
    return s ? kp_strndup(s, strlen(s)) : NULL;
}

char *kp_strndup(const char *s, size_t len)
{
    char *copy = kp_malloc(len + 1);
    memcpy(copy, s, len);
    copy[len] = '\0';
    return copy;
}

char *kp_asprintf(const char *format, ...)
{
    char *text = NULL;
    va_list ap;
    va_start(ap, format);
    int len = vasprintf(&text, format, ap);
    va_end(ap);
    if (len < 0)
        out_of_memory(0);
    return text;
}
