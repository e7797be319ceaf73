/* Field errors: what is wrong with which field, in upstream's words, gathered into one 422. */
#include "controlplane/apiserver/status/status.h"

static void add(struct field_errors *errors, const char *reason, const char *message, const char *path, va_list ap)
{
    if (errors->len == FIELD_ERRORS_MAX)
        return; /* the first 256 faults are enough to refuse and to mend by */
    if (errors->len % 8 == 0) {
        struct api_cause *grown = KP_NEW_ARRAY(errors->arena, struct api_cause, errors->len + 8);
        if (errors->len)
            memcpy(grown, errors->items, errors->len * sizeof(*grown));
        errors->items = grown;
    }
    errors->items[errors->len++] = (struct api_cause){reason, message, kp_arena_vprintf(errors->arena, path, ap)};
}

static const char *quoted(struct field_errors *errors, const char *value)
{
    KP_AUTO_BUF struct kp_buf buf = {0};
    kp_json_string(&buf, value ? value : "");
    return kp_arena_strdup(errors->arena, buf.data);
}

static const char *with_detail(struct field_errors *errors, const char *head, const char *detail)
{
    return kp_empty(detail) ? head : kp_arena_printf(errors->arena, "%s: %s", head, detail);
}

#define ADD(reason, message)                                                                                           \
    do {                                                                                                               \
        va_list ap;                                                                                                    \
        va_start(ap, path);                                                                                            \
        add(errors, (reason), (message), path, ap);                                                                    \
        va_end(ap);                                                                                                    \
    } while (0)

void field_add(struct field_errors *errors, const char *reason, const char *message, const char *path, ...)
{
    ADD(reason, message);
}

void field_required(struct field_errors *errors, const char *detail, const char *path, ...)
{
    ADD("FieldValueRequired", with_detail(errors, "Required value", detail));
}

void field_invalid(struct field_errors *errors, const char *value, const char *detail, const char *path, ...)
{
    ADD("FieldValueInvalid",
        with_detail(errors, kp_arena_printf(errors->arena, "Invalid value: %s", quoted(errors, value)), detail));
}

void field_invalid_raw(struct field_errors *errors, const char *value, const char *detail, const char *path, ...)
{
    ADD("FieldValueInvalid", with_detail(errors, kp_arena_printf(errors->arena, "Invalid value: %s", value), detail));
}

void field_invalid_int(struct field_errors *errors, int64_t value, const char *detail, const char *path, ...)
{
    ADD("FieldValueInvalid",
        with_detail(errors, kp_arena_printf(errors->arena, "Invalid value: %lld", (long long)value), detail));
}

void field_not_supported(struct field_errors *errors, const char *value, const char *const *supported, const char *path, ...)
{
    const char *message = kp_arena_printf(errors->arena, "Unsupported value: %s", quoted(errors, value));
    for (size_t i = 0; supported && supported[i]; i++)
        message = kp_arena_printf(errors->arena, "%s%s%s", message, i ? ", " : ": supported values: ", quoted(errors, supported[i]));
    ADD("FieldValueNotSupported", message);
}

void field_forbidden(struct field_errors *errors, const char *detail, const char *path, ...)
{
    ADD("FieldValueForbidden", with_detail(errors, "Forbidden", detail));
}

void field_duplicate(struct field_errors *errors, const char *value, const char *path, ...)
{
    ADD("FieldValueDuplicate", kp_arena_printf(errors->arena, "Duplicate value: %s", quoted(errors, value)));
}

void field_not_found(struct field_errors *errors, const char *value, const char *path, ...)
{
    ADD("FieldValueNotFound", kp_arena_printf(errors->arena, "Not found: %s", quoted(errors, value)));
}

void field_too_long(struct field_errors *errors, int64_t max, const char *path, ...)
{
    ADD("FieldValueTooLong", kp_arena_printf(errors->arena, "Too long: may not be more than %lld bytes", (long long)max));
}

void field_too_many(struct field_errors *errors, int64_t actual, int64_t max, const char *path, ...)
{
    ADD("FieldValueTooMany", kp_arena_printf(errors->arena, "Too many: %lld: must have at most %lld items", (long long)actual, (long long)max));
}

static bool seen_before(struct kp_string_list *seen, const char *line)
{
    return kp_string_list_has(seen, line);
}

int status_invalid(struct api_status *status, const char *group, const char *kind, const char *name, const struct field_errors *errors)
{
    if (!errors->len)
        return 0;
    struct kp_arena *arena = status->arena;
    struct kp_string_list lines = {0};
    for (size_t i = 0; i < errors->len; i++) {
        const struct api_cause *cause = &errors->items[i];
        const char *line = kp_empty(cause->field) ? cause->message : kp_arena_printf(arena, "%s: %s", cause->field, cause->message);
        if (!seen_before(&lines, line))
            kp_string_list_add(arena, &lines, line);
    }
    KP_AUTO_BUF struct kp_buf text = {0};
    if (lines.len > 1)
        kp_buf_putc(&text, '[');
    for (size_t i = 0; i < lines.len; i++)
        kp_buf_printf(&text, "%s%s", i ? ", " : "", lines.items[i]);
    if (lines.len > 1)
        kp_buf_putc(&text, ']');
    const char *what = kp_empty(group) ? kind : kp_arena_printf(arena, "%s.%s", kind, group);
    status_fail(status, KP_EINVALID, 422, "Invalid", "%s \"%s\" is invalid: %s", what, name ? name : "", text.data);
    status->has_details = true;
    status->group = kp_arena_strdup(arena, group);
    status->kind = kp_arena_strdup(arena, kind);
    status->name = kp_arena_strdup(arena, name);
    for (size_t i = 0; i < errors->len; i++)
        status_add_cause(status, errors->items[i].reason, errors->items[i].message, errors->items[i].field);
    return KP_EINVALID;
}
