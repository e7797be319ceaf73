/* Trees to YAML the way kubectl prints it: sorted keys, two blanks, lists at their key's column, quotes where needed. */
#include "codec/codec_internal.h"

#include <ctype.h>
#include <yaml.h>

static int append(void *ctx, unsigned char *data, size_t size)
{
    kp_buf_append(ctx, data, size);
    return 1;
}

/* YAML 1.1 reads 1:30 as a number of base 60; older readers still do. */
static bool is_base60(const char *s)
{
    s += *s == '-' || *s == '+';
    if (!isdigit((unsigned char)*s) || !strchr(s, ':'))
        return false;
    return strspn(s, "0123456789_:.") == strlen(s);
}

/* Dates are strings to us and timestamps to others. */
static bool is_timestamp(const char *s)
{
    int64_t seconds;
    int32_t nanos;
    int year, month, day, used = 0;
    if (strspn(s, "0123456789") != 4 || s[4] != '-')
        return false;
    if (sscanf(s, "%4d-%2d-%2d%n", &year, &month, &day, &used) == 3 && (s[used] == '\0' || s[used] == ' '))
        return true;
    return kp_parse_rfc3339(s, &seconds, &nanos) == 0;
}

static yaml_scalar_style_t style_of(const char *s)
{
    struct kp_value meaning;
    if (strchr(s, '\n'))
        return YAML_LITERAL_SCALAR_STYLE;
    bool is_string = kp_yaml_resolve(s, &meaning) && meaning.kind == KP_VALUE_STRING;
    if (!is_string || is_base60(s) || is_timestamp(s) || strcmp(s, "<<") == 0 || strcmp(s, "=") == 0)
        return YAML_DOUBLE_QUOTED_SCALAR_STYLE;
    return YAML_PLAIN_SCALAR_STYLE;
}

/* libyaml fails to emit only for want of memory or on a wrong sequence of events, both of which end the program. */
static void emit(yaml_emitter_t *emitter, yaml_event_t *event, int made)
{
    KP_ASSERT(made);
    int emitted = yaml_emitter_emit(emitter, event);
    KP_ASSERT(emitted);
}

static void emit_text(yaml_emitter_t *emitter, const char *s, yaml_scalar_style_t style)
{
    yaml_event_t event;
    emit(emitter, &event, yaml_scalar_event_initialize(&event, NULL, NULL, (const yaml_char_t *)s, (int)strlen(s), 1, 1, style));
}

static void emit_value(yaml_emitter_t *emitter, const struct kp_value *value)
{
    yaml_event_t event;
    KP_AUTO_BUF struct kp_buf text = {0};
    switch (value->kind) {
    case KP_VALUE_STRING:
        emit_text(emitter, value->string, style_of(value->string));
        break;
    case KP_VALUE_ARRAY:
        emit(emitter, &event,
             yaml_sequence_start_event_initialize(&event, NULL, NULL, 1, value->array.len ? YAML_BLOCK_SEQUENCE_STYLE : YAML_FLOW_SEQUENCE_STYLE));
        for (size_t i = 0; i < value->array.len; i++)
            emit_value(emitter, value->array.items[i]);
        emit(emitter, &event, yaml_sequence_end_event_initialize(&event));
        break;
    case KP_VALUE_OBJECT: {
        struct kp_member *members = kp_value_members_sorted(value);
        emit(emitter, &event,
             yaml_mapping_start_event_initialize(&event, NULL, NULL, 1, value->object.len ? YAML_BLOCK_MAPPING_STYLE : YAML_FLOW_MAPPING_STYLE));
        for (size_t i = 0; i < value->object.len; i++) {
            emit_text(emitter, members[i].key, style_of(members[i].key));
            emit_value(emitter, members[i].value);
        }
        emit(emitter, &event, yaml_mapping_end_event_initialize(&event));
        free(members);
        break;
    }
    default: /* null, booleans and numbers are spelled as in JSON */
        kp_value_print(value, &text);
        emit_text(emitter, text.data, YAML_PLAIN_SCALAR_STYLE);
        break;
    }
}

void kp_yaml_print(const struct kp_value *value, struct kp_buf *out)
{
    yaml_emitter_t emitter;
    yaml_event_t event;
    int made = yaml_emitter_initialize(&emitter);
    KP_ASSERT(made);
    yaml_emitter_set_output(&emitter, append, out);
    yaml_emitter_set_unicode(&emitter, 1);
    yaml_emitter_set_width(&emitter, -1);
    emit(&emitter, &event, yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING));
    emit(&emitter, &event, yaml_document_start_event_initialize(&event, NULL, NULL, NULL, 1));
    emit_value(&emitter, value);
    emit(&emitter, &event, yaml_document_end_event_initialize(&event, 1));
    emit(&emitter, &event, yaml_stream_end_event_initialize(&event));
    yaml_emitter_delete(&emitter);
}
