/* Named formats: format.dns1123Label().validate(text) and its like (k8s.io/apiserver pkg/cel/library/format.go). */
#include "lib/cel/cel_internal.h"

#include <ctype.h>

#define FN(name) static struct cel_value name(struct cel_eval *e, const struct cel_value *args)
#define LABEL_MAX 63
#define SUBDOMAIN_MAX 253

struct format {
    const char *name;
    uint64_t cost_bytes; /* of the pattern that upstream supposes */
    /* Adds what is wrong with a text. The copy of it ends with NUL and has no other. */
    void (*check)(struct cel_eval *e, const char *text, struct cel_value *faults);
};

static const struct cel_class format_class = {.type = &format_type};

static void add_fault(struct cel_eval *e, struct cel_value *faults, const char *fault)
{
    if (fault)
        cel_list_add(e, faults, cel_of_string(fault));
}

/* ---- names ---------------------------------------------------------------------------------------------------------------------------------------------- */
static bool is_plain(char c)
{
    return (c >= 'a' && c <= 'z') || isdigit((unsigned char)c);
}

static bool is_label(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!is_plain(s[i]) && s[i] != '-')
            return false;
    return len > 0 && is_plain(s[0]) && is_plain(s[len - 1]);
}

static void check_label(struct cel_eval *e, const char *s, struct cel_value *faults)
{
    size_t len = strlen(s);
    if (len > LABEL_MAX)
        add_fault(e, faults, "must be no more than 63 bytes");
    if (!is_label(s, len))
        add_fault(e, faults,
                  "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character "
                  "(e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')");
}

static void check_subdomain(struct cel_eval *e, const char *s, struct cel_value *faults)
{
    bool fine = true;
    size_t len = strlen(s);
    for (const char *p = s;;) {
        size_t part = strcspn(p, ".");
        fine = fine && is_label(p, part);
        if (!p[part])
            break;
        p += part + 1;
    }
    if (len > SUBDOMAIN_MAX)
        add_fault(e, faults, "must be no more than 253 bytes");
    if (!fine)
        add_fault(e, faults,
                  "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric "
                  "character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')");
}

static void check_label_1035(struct cel_eval *e, const char *s, struct cel_value *faults)
{
    size_t len = strlen(s);
    if (len > LABEL_MAX)
        add_fault(e, faults, "must be no more than 63 bytes");
    if (!is_label(s, len) || isdigit((unsigned char)*s))
        add_fault(e, faults,
                  "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric "
                  "character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')");
}

/* What a name may begin with: a dash at the end is made a letter, as generated names get one. */
static char *as_prefix(struct cel_eval *e, const char *s)
{
    size_t len = strlen(s);
    char *copy = cel_alloc(e, len + 1);
    if (copy && len > 0) {
        memcpy(copy, s, len);
        if (len > 1 && copy[len - 1] == '-')
            copy[len - 1] = 'a';
    }
    return copy;
}

static void check_label_prefix(struct cel_eval *e, const char *s, struct cel_value *faults)
{
    const char *name = as_prefix(e, s);
    if (name)
        check_label(e, name, faults);
}

static void check_subdomain_prefix(struct cel_eval *e, const char *s, struct cel_value *faults)
{
    const char *name = as_prefix(e, s);
    if (name)
        check_subdomain(e, name, faults);
}

static void check_label_1035_prefix(struct cel_eval *e, const char *s, struct cel_value *faults)
{
    const char *name = as_prefix(e, s);
    if (name)
        check_label_1035(e, name, faults);
}

static void check_qualified(struct cel_eval *e, const char *s, struct cel_value *faults)
{
    add_fault(e, faults, kp_validate_qualified_name(s));
}

static void check_label_value(struct cel_eval *e, const char *s, struct cel_value *faults)
{
    add_fault(e, faults, kp_validate_label_value(s));
}

/* ---- formats of OpenAPI ------------------------------------------------------------------------------------------------------------------------------------ */
static void check_uri(struct cel_eval *e, const char *s, struct cel_value *faults)
{
    const struct cel_value text = cel_of_string(s);
    add_fault(e, faults, uri_fault(e, &text));
}

/* Hexadecimal digits in groups, with or without dashes. */
static void check_uuid(struct cel_eval *e, const char *s, struct cel_value *faults)
{
    static const int groups[] = {8, 4, 4, 4, 12};
    for (size_t i = 0; i < KP_ARRAY_LEN(groups); i++) {
        s += i && *s == '-';
        for (int n = groups[i]; n > 0; n--, s++)
            if (!isxdigit((unsigned char)*s)) {
                add_fault(e, faults, "does not match the UUID format");
                return;
            }
    }
    add_fault(e, faults, *s ? "does not match the UUID format" : NULL);
}

static void check_byte(struct cel_eval *e, const char *s, struct cel_value *faults)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    add_fault(e, faults, kp_base64_decode(&out, s, strlen(s)) < 0 ? "invalid base64" : NULL);
}

static void check_date(struct cel_eval *e, const char *s, struct cel_value *faults)
{
    char text[32];
    int64_t seconds;
    int32_t nanos;
    snprintf(text, sizeof(text), "%.10sT00:00:00Z", s);
    add_fault(e, faults, strlen(s) != 10 || !parse_timestamp(text, strlen(text), &seconds, &nanos) ? "invalid date" : NULL);
}

static void check_datetime(struct cel_eval *e, const char *s, struct cel_value *faults)
{
    int64_t seconds;
    int32_t nanos;
    add_fault(e, faults, !parse_timestamp(s, strlen(s), &seconds, &nanos) ? "invalid datetime" : NULL);
}

static const struct format formats[] = {
    {"dns1123Label", 30, check_label},
    {"dns1123Subdomain", 60, check_subdomain},
    {"dns1035Label", 30, check_label_1035},
    {"qualifiedName", 60, check_qualified},
    {"dns1123LabelPrefix", 30, check_label_prefix},
    {"dns1123SubdomainPrefix", 60, check_subdomain_prefix},
    {"dns1035LabelPrefix", 30, check_label_1035_prefix},
    {"labelValue", 40, check_label_value},
    {"uri", 1103, check_uri},
    {"uuid", 69, check_uuid},
    {"byte", 84, check_byte},
    {"date", 84, check_date},
    {"datetime", 84, check_datetime},
};

static struct cel_value format_value(const char *name, size_t len)
{
    for (size_t i = 0; i < KP_ARRAY_LEN(formats); i++)
        if (strlen(formats[i].name) == len && memcmp(formats[i].name, name, len) == 0)
            return cel_of_object(&format_class, (void *)(uintptr_t)&formats[i]);
    return (struct cel_value){0};
}

FN(named)
{
    struct cel_value found = format_value(args[0].text.data, args[0].text.len);
    return found.kind == CEL_OPAQUE ? cel_optional(e, found) : cel_none();
}

/* format.uuid(): the name of the function is that of the format. */
FN(constant)
{
    const char *name = strchr(e->call->call.function, '.') + 1;
    return format_value(name, strlen(name));
}

FN(validate)
{
    const struct format *format = args[0].object.data;
    struct cel_value faults = cel_list_new(e, 0), text = cel_copy_text(e, args[1].text.data, args[1].text.len);
    if (is_error(&text) || is_error(&faults))
        return text;
    if (strlen(text.text.data) != text.text.len)
        add_fault(e, &faults, "must not contain NUL");
    else
        format->check(e, text.text.data, &faults);
    return faults.list.len ? cel_optional(e, faults) : cel_none();
}

static uint64_t cost_validate(struct cel_eval *e, const struct cel_value *args, size_t n, const struct cel_value *result)
{
    const struct format *format = args[0].object.data;
    return TENTH(value_size(e, &args[1]) + 1) * ((format->cost_bytes + 3) / 4);
}

#define CONSTANT(format) {.name = "format." format, .id = "format." format, .function = constant, .result = &format_type}
static const struct cel_overload overloads[] = {
    OVERLOAD("validate", "format-validate", true, validate, cost_validate, optional_list_string, &format_type, &cel_string),
    OVERLOAD("format.named", "format-named", false, named, NULL, optional_format, &cel_string),
    CONSTANT("dns1123Label"), CONSTANT("dns1123Subdomain"), CONSTANT("dns1035Label"), CONSTANT("qualifiedName"), CONSTANT("dns1123LabelPrefix"),
    CONSTANT("dns1123SubdomainPrefix"), CONSTANT("dns1035LabelPrefix"), CONSTANT("labelValue"), CONSTANT("uri"), CONSTANT("uuid"), CONSTANT("byte"),
    CONSTANT("date"), CONSTANT("datetime"),
};
const struct cel_library library_format = {overloads, KP_ARRAY_LEN(overloads)};
