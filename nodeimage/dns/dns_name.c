/* Domain names: reading them safely, building and comparing them. */
#include "nodeimage/dns/dns.h"

#define POINTER_BITS 0xc0

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
}

int dns_name_read(const uint8_t *message, size_t len, size_t *pos, struct dns_name *ret_name)
{
    size_t at = *pos, bound = *pos; /* a pointer must lead before `bound`, where the piece being read began */
    size_t end = 0;                 /* behind the name, known at the first pointer */
    size_t out = 0;
    for (;;) {
        if (at >= len)
            return KP_EBADREQUEST;
        uint8_t label = message[at];
        if ((label & POINTER_BITS) == POINTER_BITS) {
            if (at + 1 >= len)
                return KP_EBADREQUEST;
            size_t target = (size_t)(label & ~POINTER_BITS) << 8 | message[at + 1];
            if (!end)
                end = at + 2;
            if (target >= bound)
                return KP_EBADREQUEST;
            at = bound = target;
            continue;
        }
        if (label & POINTER_BITS || at + 1 + label > len || out + 1 + label > DNS_NAME_MAX)
            return KP_EBADREQUEST;
        memcpy(ret_name->wire + out, message + at, 1 + (size_t)label);
        out += 1 + (size_t)label;
        at += 1 + (size_t)label;
        if (label == 0)
            break;
    }
    ret_name->len = (uint8_t)out;
    *pos = end ? end : at;
    return 0;
}

int dns_name_parse(const char *text, struct dns_name *ret_name)
{
    size_t out = 0;
    if (kp_streq(text, "."))
        text = "";
    while (*text) {
        size_t n = strcspn(text, ".");
        if (n == 0 || n > DNS_LABEL_MAX || out + 1 + n + 1 > DNS_NAME_MAX)
            return KP_EBADREQUEST;
        ret_name->wire[out++] = (uint8_t)n;
        memcpy(ret_name->wire + out, text, n);
        out += n;
        text += n;
        if (*text == '.')
            text++;
    }
    ret_name->wire[out++] = 0;
    ret_name->len = (uint8_t)out;
    return 0;
}

int dns_name_prepend(struct dns_name *name, const char *label)
{
    size_t n = strlen(label);
    if (n == 0 || n > DNS_LABEL_MAX || name->len + n + 1 > DNS_NAME_MAX)
        return KP_EBADREQUEST;
    memmove(name->wire + n + 1, name->wire, name->len);
    name->wire[0] = (uint8_t)n;
    memcpy(name->wire + 1, label, n);
    name->len = (uint8_t)(name->len + n + 1);
    return 0;
}

void dns_name_format(const struct dns_name *name, char out[DNS_NAME_TEXT_MAX])
{
    size_t at = 0;
    for (size_t i = 0; i < name->len && name->wire[i]; i += 1 + (size_t)name->wire[i]) {
        for (size_t j = 1; j <= name->wire[i]; j++) {
            uint8_t c = name->wire[i + j];
            if (c == '.' || c == '\\')
                at += (size_t)snprintf(out + at, DNS_NAME_TEXT_MAX - at, "\\%c", c);
            else if (c <= ' ' || c >= 0x7f)
                at += (size_t)snprintf(out + at, DNS_NAME_TEXT_MAX - at, "\\%03u", c);
            else
                out[at++] = (char)c;
        }
        out[at++] = '.';
    }
    if (at == 0)
        out[at++] = '.';
    out[at] = 0;
}

void dns_name_lower(struct dns_name *name)
{
    for (size_t i = 0; i < name->len; i++) /* lengths are below 'A': RFC 1035 allows 63 */
        name->wire[i] = lower(name->wire[i]);
}

static bool equal(const uint8_t *a, const uint8_t *b, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (lower(a[i]) != lower(b[i]))
            return false;
    return true;
}

bool dns_name_equal(const struct dns_name *a, const struct dns_name *b)
{
    return a->len == b->len && equal(a->wire, b->wire, a->len);
}

bool dns_name_below(const struct dns_name *name, const struct dns_name *suffix, size_t *ret_labels)
{
    size_t labels = 0, at = 0;
    if (name->len < suffix->len)
        return false;
    while (name->len - at > suffix->len) {
        at += 1 + (size_t)name->wire[at];
        labels++;
    }
    if (name->len - at != suffix->len || !equal(name->wire + at, suffix->wire, suffix->len))
        return false;
    *ret_labels = labels;
    return true;
}
