/* Makes the failures of API requests in upstream's words, and writes them as metav1.Status. */
#include "controlplane/apiserver/status/status.h"

static const char *or_empty(const char *s)
{
    return s ? s : "";
}

/* "deployments.apps", or "pods" for the core group. */
static const char *qualified(struct kp_arena *arena, const char *group, const char *resource)
{
    return kp_empty(group) ? or_empty(resource) : kp_arena_printf(arena, "%s.%s", or_empty(resource), group);
}

static void clear(struct api_status *status)
{
    struct kp_arena *arena = status->arena;
    *status = API_STATUS(arena);
}

static int set(struct api_status *status, int code, int http_status, const char *reason, const char *message)
{
    clear(status);
    status->code = code;
    status->http_status = http_status;
    status->reason = reason;
    status->message = message;
    return code;
}

static void details(struct api_status *status, const char *group, const char *kind, const char *name)
{
    status->has_details = true;
    status->group = kp_arena_strdup(status->arena, group);
    status->kind = kp_arena_strdup(status->arena, kind);
    status->name = kp_arena_strdup(status->arena, name);
}

int status_fail(struct api_status *status, int code, int http_status, const char *reason, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    const char *message = kp_arena_vprintf(status->arena, format, ap);
    va_end(ap);
    return set(status, code, http_status, reason, message);
}

int status_bad_request(struct api_status *status, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    const char *message = kp_arena_vprintf(status->arena, format, ap);
    va_end(ap);
    return set(status, KP_EBADREQUEST, 400, "BadRequest", message);
}

int status_internal(struct api_status *status, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    const char *cause = kp_arena_vprintf(status->arena, format, ap);
    va_end(ap);
    set(status, KP_EINTERNAL, 500, "InternalError", kp_arena_printf(status->arena, "Internal error occurred: %s", cause));
    status->has_details = true;
    status_add_cause(status, "", cause, "");
    return KP_EINTERNAL;
}

int status_unauthorized(struct api_status *status)
{
    return set(status, KP_EUNAUTHORIZED, 401, "Unauthorized", "Unauthorized");
}

int status_forbidden(struct api_status *status, const char *group, const char *resource, const char *name, const char *format, ...)
{
    struct kp_arena *arena = status->arena;
    va_list ap;
    va_start(ap, format);
    const char *why = kp_arena_vprintf(arena, format, ap);
    va_end(ap);
    const char *what = qualified(arena, group, resource);
    const char *message;
    if (kp_empty(what))
        message = kp_arena_printf(arena, "forbidden: %s", why);
    else if (kp_empty(name))
        message = kp_arena_printf(arena, "%s is forbidden: %s", what, why);
    else
        message = kp_arena_printf(arena, "%s \"%s\" is forbidden: %s", what, name, why);
    set(status, KP_EFORBIDDEN, 403, "Forbidden", message);
    details(status, group, resource, name);
    return KP_EFORBIDDEN;
}

int status_not_found(struct api_status *status, const char *group, const char *resource, const char *name)
{
    struct kp_arena *arena = status->arena;
    set(status, KP_ENOTFOUND, 404, "NotFound",
        kp_arena_printf(arena, "%s \"%s\" not found", qualified(arena, group, resource), or_empty(name)));
    details(status, group, resource, name);
    return KP_ENOTFOUND;
}

int status_already_exists(struct api_status *status, const char *group, const char *resource, const char *name)
{
    struct kp_arena *arena = status->arena;
    set(status, KP_EEXISTS, 409, "AlreadyExists",
        kp_arena_printf(arena, "%s \"%s\" already exists", qualified(arena, group, resource), or_empty(name)));
    details(status, group, resource, name);
    return KP_EEXISTS;
}

int status_conflict(struct api_status *status, const char *group, const char *resource, const char *name, const char *why)
{
    struct kp_arena *arena = status->arena;
    set(status, KP_ECONFLICT, 409, "Conflict",
        kp_arena_printf(arena, "Operation cannot be fulfilled on %s \"%s\": %s", qualified(arena, group, resource), or_empty(name),
                        why ? why
                            : "the object has been modified; please apply your changes to the latest version and try again"));
    details(status, group, resource, name);
    return KP_ECONFLICT;
}

int status_method_not_allowed(struct api_status *status, const char *group, const char *resource, const char *action)
{
    struct kp_arena *arena = status->arena;
    if (kp_empty(resource)) {
        set(status, KP_ENOTSUPPORTED, 405, "MethodNotAllowed", "the server does not allow this method on the requested resource");
    } else {
        set(status, KP_ENOTSUPPORTED, 405, "MethodNotAllowed",
            kp_arena_printf(arena, "%s is not supported on resources of kind \"%s\"", action, qualified(arena, group, resource)));
    }
    details(status, group, resource, NULL);
    return KP_ENOTSUPPORTED;
}

int status_expired(struct api_status *status, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    const char *message = kp_arena_vprintf(status->arena, format, ap);
    va_end(ap);
    return set(status, KP_EEXPIRED, 410, "Expired", message);
}

int status_too_many(struct api_status *status, int32_t retry_after_s, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    const char *message = kp_arena_vprintf(status->arena, format, ap);
    va_end(ap);
    set(status, KP_ETOOMANY, 429, "TooManyRequests", message);
    status->has_details = retry_after_s > 0;
    status->retry_after_s = retry_after_s;
    return KP_ETOOMANY;
}

int status_timeout(struct api_status *status, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    const char *message = kp_arena_vprintf(status->arena, format, ap);
    va_end(ap);
    set(status, KP_ETIMEOUT, 504, "Timeout", kp_arena_printf(status->arena, "Timeout: %s", message));
    return KP_ETIMEOUT;
}

int status_from_error(struct api_status *status, const struct kp_error *error)
{
    const struct kp_code_info *info = kp_code_info(error->code);
    const char *message = kp_arena_strdup(status->arena, error->message);
    if (error->code == KP_EINTERNAL || error->code == KP_EIO || error->code == KP_ECORRUPT)
        return status_internal(status, "%s", message);
    return set(status, error->code, info->http_status, info->reason, message);
}

void status_add_cause(struct api_status *status, const char *reason, const char *message, const char *field)
{
    struct api_cause *grown = KP_NEW_ARRAY(status->arena, struct api_cause, status->cause_count + 1);
    if (status->cause_count)
        memcpy(grown, status->causes, status->cause_count * sizeof(*grown));
    grown[status->cause_count] = (struct api_cause){kp_arena_strdup(status->arena, reason), kp_arena_strdup(status->arena, message),
                                                    kp_arena_strdup(status->arena, field)};
    status->causes = grown;
    status->cause_count++;
    status->has_details = true;
}

static void member(struct kp_buf *out, bool *first, const char *key, const char *value)
{
    if (kp_empty(value))
        return;
    if (!*first)
        kp_buf_putc(out, ',');
    *first = false;
    kp_buf_printf(out, "\"%s\":", key);
    kp_json_string(out, value);
}

static void encode_details(const struct api_status *status, struct kp_buf *out)
{
    bool first = true;
    kp_buf_puts(out, ",\"details\":{");
    member(out, &first, "name", status->name);
    member(out, &first, "group", status->group);
    member(out, &first, "kind", status->kind);
    member(out, &first, "uid", status->uid);
    if (status->cause_count) {
        kp_buf_puts(out, first ? "\"causes\":[" : ",\"causes\":[");
        first = false;
        for (size_t i = 0; i < status->cause_count; i++) {
            bool first_member = true;
            kp_buf_puts(out, i ? ",{" : "{");
            member(out, &first_member, "reason", status->causes[i].reason);
            member(out, &first_member, "message", status->causes[i].message);
            member(out, &first_member, "field", status->causes[i].field);
            kp_buf_putc(out, '}');
        }
        kp_buf_putc(out, ']');
    }
    if (status->retry_after_s)
        kp_buf_printf(out, "%s\"retryAfterSeconds\":%d", first ? "" : ",", status->retry_after_s);
    kp_buf_putc(out, '}');
}

void status_encode(const struct api_status *status, struct kp_buf *out)
{
    kp_buf_puts(out, "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\",\"message\":");
    kp_json_string(out, or_empty(status->message));
    if (status->reason) {
        kp_buf_puts(out, ",\"reason\":");
        kp_json_string(out, status->reason);
    }
    if (status->has_details)
        encode_details(status, out);
    kp_buf_printf(out, ",\"code\":%d}", status->http_status);
}
