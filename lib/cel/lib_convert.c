/* Conversions between types (cel-spec, "Type Conversions"). */
#include "lib/cel/cel_internal.h"

#include <errno.h>
#include <math.h>

#define FN(name) static struct cel_value name(struct cel_eval *e, const struct cel_value *args)
#define NUMBER_TEXT_MAX 512

FN(same)
{
    return args[0];
}

static struct cel_value no_conversion(struct cel_eval *e, const char *from, const char *to)
{
    return cel_fail(e, "type conversion error from '%s' to '%s'", from, to);
}

/* The text as a C string; false when it is too long to be a number, or has a NUL or a blank in it. */
static bool plain_text(const struct cel_value *v, char out[NUMBER_TEXT_MAX])
{
    if (v->text.len == 0 || v->text.len >= NUMBER_TEXT_MAX)
        return false;
    memcpy(out, v->text.data, v->text.len);
    out[v->text.len] = '\0';
    return strlen(out) == v->text.len && !strpbrk(out, " \t\r\n\v\f");
}

/* ---- bool ------------------------------------------------------------------------------------------------------------------------------------------- */
FN(string_to_bool)
{
    static const char *const yes[] = {"1", "t", "T", "true", "TRUE", "True"}, *const no[] = {"0", "f", "F", "false", "FALSE", "False"};
    for (size_t i = 0; i < KP_ARRAY_LEN(yes); i++) {
        if (args[0].text.len == strlen(yes[i]) && memcmp(args[0].text.data, yes[i], args[0].text.len) == 0)
            return cel_of_bool(true);
        if (args[0].text.len == strlen(no[i]) && memcmp(args[0].text.data, no[i], args[0].text.len) == 0)
            return cel_of_bool(false);
    }
    return no_conversion(e, "string", "bool");
}

/* ---- int, uint ----------------------------------------------------------------------------------------------------------------------------------------- */
FN(double_to_int)
{
    double d = args[0].number;
    return d > -0x1p63 && d < 0x1p63 ? cel_of_int((int64_t)d) : cel_fail(e, "integer overflow");
}

FN(uint_to_int)
{
    return args[0].uinteger > INT64_MAX ? cel_fail(e, "integer overflow") : cel_of_int((int64_t)args[0].uinteger);
}

FN(string_to_int)
{
    char text[NUMBER_TEXT_MAX];
    int64_t value;
    if (!plain_text(&args[0], text) || kp_parse_i64(text[0] == '+' ? text + 1 : text, &value) < 0)
        return no_conversion(e, "string", "int");
    return cel_of_int(value);
}

FN(time_to_int)
{
    return cel_of_int(args[0].integer);
}

FN(double_to_uint)
{
    double d = args[0].number;
    return d >= 0 && d < 0x1p64 ? (struct cel_value){.kind = CEL_UINT, .uinteger = (uint64_t)d} : cel_fail(e, "unsigned integer overflow");
}

FN(int_to_uint)
{
    return args[0].integer < 0 ? cel_fail(e, "unsigned integer overflow") : (struct cel_value){.kind = CEL_UINT, .uinteger = (uint64_t)args[0].integer};
}

FN(string_to_uint)
{
    char text[NUMBER_TEXT_MAX];
    uint64_t value;
    if (!plain_text(&args[0], text) || kp_parse_u64(text, &value) < 0)
        return no_conversion(e, "string", "uint");
    return (struct cel_value){.kind = CEL_UINT, .uinteger = value};
}

/* ---- double ---------------------------------------------------------------------------------------------------------------------------------------------- */
FN(int_to_double)
{
    return cel_of_double((double)args[0].integer);
}

FN(uint_to_double)
{
    return cel_of_double((double)args[0].uinteger);
}

FN(string_to_double)
{
    char text[NUMBER_TEXT_MAX], *end;
    if (!plain_text(&args[0], text))
        return no_conversion(e, "string", "double");
    double d = strtod(text, &end);
    bool named = strcasecmp(text, "inf") == 0 || strcasecmp(text, "+inf") == 0 || strcasecmp(text, "-inf") == 0;
    if (*end || (isinf(d) && !named))
        return no_conversion(e, "string", "double");
    return cel_of_double(d);
}

/* ---- string, bytes ------------------------------------------------------------------------------------------------------------------------------------------- */
static struct cel_value text_of(struct cel_eval *e, const char *s)
{
    return cel_copy_text(e, s, strlen(s));
}

FN(bool_to_string)
{
    return cel_of_string(args[0].boolean ? "true" : "false");
}

FN(int_to_string)
{
    char text[32];
    snprintf(text, sizeof(text), "%lld", (long long)args[0].integer);
    return text_of(e, text);
}

FN(uint_to_string)
{
    char text[32];
    snprintf(text, sizeof(text), "%llu", (unsigned long long)args[0].uinteger);
    return text_of(e, text);
}

FN(double_to_string)
{
    return cel_of_string(double_f_text(args[0].number, e->arena));
}

FN(bytes_to_string)
{
    cel_work(e, args[0].text.len / 16);
    if (!utf8_valid(args[0].text.data, args[0].text.len))
        return cel_fail(e, "invalid UTF-8 in bytes, cannot convert to string");
    return cel_of_text(args[0].text.data, args[0].text.len);
}

FN(string_to_bytes)
{
    return (struct cel_value){.kind = CEL_BYTES, .text = args[0].text};
}

FN(duration_to_string)
{
    return cel_of_string(duration_text(args[0].integer, e->arena));
}

FN(time_to_string)
{
    return cel_of_string(timestamp_text(args[0].integer, args[0].nanos, e->arena));
}

/* ---- timestamp, duration ---------------------------------------------------------------------------------------------------------------------------------------- */
FN(int_to_time)
{
    if (args[0].integer < TIMESTAMP_MIN || args[0].integer > TIMESTAMP_MAX)
        return cel_fail(e, "timestamp overflow");
    return (struct cel_value){.kind = CEL_TIMESTAMP, .integer = args[0].integer};
}

FN(string_to_time)
{
    struct cel_value out = {.kind = CEL_TIMESTAMP};
    return parse_timestamp(args[0].text.data, args[0].text.len, &out.integer, &out.nanos) ? out : no_conversion(e, "string", "google.protobuf.Timestamp");
}

FN(string_to_duration)
{
    struct cel_value out = {.kind = CEL_DURATION};
    return parse_duration(args[0].text.data, args[0].text.len, &out.integer) ? out : no_conversion(e, "string", "google.protobuf.Duration");
}

/* ---- type ------------------------------------------------------------------------------------------------------------------------------------------------------------ */
FN(type_of)
{
    static const struct cel_type *const types[] = {
        [CEL_NULL] = &cel_null, [CEL_BOOL] = &cel_bool, [CEL_INT] = &cel_int, [CEL_UINT] = &cel_uint, [CEL_DOUBLE] = &cel_double,
        [CEL_STRING] = &cel_string, [CEL_BYTES] = &cel_bytes, [CEL_TIMESTAMP] = &cel_timestamp, [CEL_DURATION] = &cel_duration,
        [CEL_LIST] = &list_dyn, [CEL_MAP] = &map_ab, [CEL_OPTIONAL] = &optional_a, [CEL_TYPE] = &cel_type_type,
    };
    const struct cel_type *type = args[0].kind == CEL_OPAQUE || args[0].kind == CEL_OBJECT ? args[0].object.of->type : types[args[0].kind];
    return (struct cel_value){.kind = CEL_TYPE, .type = type};
}

#define CONVERT(name, id, function, cost, result, from) OVERLOAD(name, id, false, function, cost, result, &from)
static const struct cel_overload overloads[] = {
    CONVERT("bool", "bool_to_bool", same, NULL, cel_bool, cel_bool),
    CONVERT("bool", "string_to_bool", string_to_bool, NULL, cel_bool, cel_string),
    CONVERT("bytes", "bytes_to_bytes", same, NULL, cel_bytes, cel_bytes),
    CONVERT("bytes", "string_to_bytes", string_to_bytes, cost_first, cel_bytes, cel_string),
    CONVERT("double", "double_to_double", same, NULL, cel_double, cel_double),
    CONVERT("double", "int64_to_double", int_to_double, NULL, cel_double, cel_int),
    CONVERT("double", "string_to_double", string_to_double, NULL, cel_double, cel_string),
    CONVERT("double", "uint64_to_double", uint_to_double, NULL, cel_double, cel_uint),
    CONVERT("duration", "duration_to_duration", same, NULL, cel_duration, cel_duration),
    CONVERT("duration", "string_to_duration", string_to_duration, NULL, cel_duration, cel_string),
    CONVERT("dyn", "to_dyn", same, NULL, cel_dyn, type_a),
    CONVERT("int", "int64_to_int64", same, NULL, cel_int, cel_int),
    CONVERT("int", "double_to_int64", double_to_int, NULL, cel_int, cel_double),
    CONVERT("int", "duration_to_int64", time_to_int, NULL, cel_int, cel_duration),
    CONVERT("int", "string_to_int64", string_to_int, NULL, cel_int, cel_string),
    CONVERT("int", "timestamp_to_int64", time_to_int, NULL, cel_int, cel_timestamp),
    CONVERT("int", "uint64_to_int64", uint_to_int, NULL, cel_int, cel_uint),
    CONVERT("string", "string_to_string", same, NULL, cel_string, cel_string),
    CONVERT("string", "bool_to_string", bool_to_string, NULL, cel_string, cel_bool),
    CONVERT("string", "bytes_to_string", bytes_to_string, cost_first, cel_string, cel_bytes),
    CONVERT("string", "double_to_string", double_to_string, NULL, cel_string, cel_double),
    CONVERT("string", "duration_to_string", duration_to_string, NULL, cel_string, cel_duration),
    CONVERT("string", "int64_to_string", int_to_string, NULL, cel_string, cel_int),
    CONVERT("string", "timestamp_to_string", time_to_string, NULL, cel_string, cel_timestamp),
    CONVERT("string", "uint64_to_string", uint_to_string, NULL, cel_string, cel_uint),
    CONVERT("timestamp", "timestamp_to_timestamp", same, NULL, cel_timestamp, cel_timestamp),
    CONVERT("timestamp", "int64_to_timestamp", int_to_time, NULL, cel_timestamp, cel_int),
    CONVERT("timestamp", "string_to_timestamp", string_to_time, NULL, cel_timestamp, cel_string),
    CONVERT("type", "type", type_of, NULL, type_of_a, type_a),
    CONVERT("uint", "uint64_to_uint64", same, NULL, cel_uint, cel_uint),
    CONVERT("uint", "double_to_uint64", double_to_uint, NULL, cel_uint, cel_double),
    CONVERT("uint", "int64_to_uint64", int_to_uint, NULL, cel_uint, cel_int),
    CONVERT("uint", "string_to_uint64", string_to_uint, NULL, cel_uint, cel_string),
};
const struct cel_library library_convert = {overloads, KP_ARRAY_LEN(overloads)};
