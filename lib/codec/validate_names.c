/* The syntax of label keys and values (RFC 1123 names with an optional DNS prefix). */
#include "codec/codec_internal.h"

#include <ctype.h>

enum { NAME_MAX_LEN = 63, SUBDOMAIN_MAX_LEN = 253 };

static bool is_name(const char *s, size_t len)
{
    if (len == 0 || !isalnum((unsigned char)s[0]) || !isalnum((unsigned char)s[len - 1]))
        return false;
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)s[i]) && s[i] != '-' && s[i] != '_' && s[i] != '.')
            return false;
    return true;
}

static bool is_subdomain(const char *s, size_t len)
{
    bool start = true; /* of a label */
    for (size_t i = 0; i < len; i++) {
        bool plain = islower((unsigned char)s[i]) || isdigit((unsigned char)s[i]);
        if (s[i] == '.') {
            if (start || s[i - 1] == '-')
                return false;
            start = true;
            continue;
        }
        if (!plain && (s[i] != '-' || start))
            return false;
        start = false;
    }
    return !start && s[len - 1] != '-';
}

const char *kp_validate_qualified_name(const char *s)
{
    const char *slash = strchr(s, '/'), *name = slash ? slash + 1 : s;
    size_t prefix = slash ? (size_t)(slash - s) : 0, len = strlen(name);
    if (strchr(name, '/'))
        return "a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
               "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
               "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
    if (slash && prefix == 0)
        return "prefix part must be non-empty";
    if (prefix > SUBDOMAIN_MAX_LEN)
        return "prefix part must be no more than 253 bytes";
    if (slash && !is_subdomain(s, prefix))
        return "prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
               "and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
               "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
    if (len == 0)
        return "name part must be non-empty";
    if (len > NAME_MAX_LEN)
        return "name part must be no more than 63 bytes";
    if (!is_name(name, len))
        return "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character "
               "(e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
    return NULL;
}

const char *kp_validate_label_value(const char *s)
{
    size_t len = strlen(s);
    if (len > NAME_MAX_LEN)
        return "must be no more than 63 bytes";
    if (len > 0 && !is_name(s, len))
        return "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
               "alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
               "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
    return NULL;
}
