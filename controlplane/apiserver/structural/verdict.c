/* What a verdict on a value takes down: field errors in upstream's words, or only that there is a fault. */
#include "controlplane/apiserver/structural/structural_internal.h"

/* As upstream's merging of results does, nothing is said twice. */
static bool said(const struct field_errors *errors, const char *message, const char *field)
{
    for (size_t i = 0; i < errors->len; i++)
        if (strcmp(errors->items[i].message, message) == 0 && strcmp(errors->items[i].field, field) == 0)
            return true;
    return false;
}

/* Whether words are wanted: there is room for another error. */
static bool note(struct verdict *verdict)
{
    verdict->invalid = true;
    return verdict->errors && verdict->errors->len < FIELD_ERRORS_MAX;
}

static void add(struct verdict *verdict, const char *field, const char *reason, const char *message)
{
    const char *base = verdict->base ? verdict->base : "";
    /* Go's nil path, which upstream has at the root */
    const char *path = *base && *field ? kp_arena_printf(verdict->errors->arena, "%s.%s", base, field) : *base ? base : *field ? field : "<nil>";
    if (!said(verdict->errors, message, path))
        field_add(verdict->errors, reason, message, "%s", path);
}

void verdict_message(struct verdict *verdict, const struct spath *path, const char *reason, const char *format, ...)
{
    va_list ap;
    if (!note(verdict))
        return;
    va_start(ap, format);
    const char *message = kp_arena_vprintf(verdict->errors->arena, format, ap);
    va_end(ap);
    add(verdict, spath_text(path, verdict->errors->arena), reason, message);
}

void verdict_invalid(struct verdict *verdict, const struct spath *path, const char *reason, const struct kp_value *value, const char *format, ...)
{
    va_list ap;
    if (!note(verdict))
        return;
    struct kp_arena *arena = verdict->errors->arena;
    va_start(ap, format);
    const char *why = kp_arena_vprintf(arena, format, ap), *field = spath_text(path, arena);
    va_end(ap);
    add(verdict, field, reason, kp_arena_printf(arena, "Invalid value: %s: %s in body %s", value_text(value, arena), field, why));
}

void verdict_composite(struct verdict *verdict, const struct spath *path, const char *format, ...)
{
    va_list ap;
    if (!note(verdict))
        return;
    struct kp_arena *arena = verdict->errors->arena;
    va_start(ap, format);
    const char *why = kp_arena_vprintf(arena, format, ap);
    va_end(ap);
    add(verdict, "", "FieldValueInvalid", kp_arena_printf(arena, "Invalid value: \"\": \"%s\" %s", spath_text(path, arena), why));
}
