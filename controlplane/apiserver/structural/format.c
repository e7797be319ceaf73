/* Formats of strings, as kube-openapi's strfmt checks them. */
#include "controlplane/apiserver/structural/structural_internal.h"

#include <arpa/inet.h>
#include <ctype.h>

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_alnum(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* As many as the mask says: d a digit, x a hexadecimal digit, anything else itself. Gives what follows, or NULL. */
static const char *masked(const char *s, const char *mask)
{
    for (; *mask; mask++, s++)
        if (*mask == 'd' ? !is_digit(*s) : *mask == 'x' ? !isxdigit((unsigned char)*s) : *s != *mask)
            return NULL;
    return s;
}

/* ---- times --------------------------------------------------------------------------------------------------------------------- */
static const char *skip_date(const char *s)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const char *end = masked(s, "dddd-dd-dd");
    if (!end)
        return NULL;
    int year = (s[0] - '0') * 1000 + (s[1] - '0') * 100 + (s[2] - '0') * 10 + s[3] - '0';
    int month = (s[5] - '0') * 10 + s[6] - '0', day = (s[8] - '0') * 10 + s[9] - '0';
    if (month < 1 || month > 12 || day < 1)
        return NULL;
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return day <= days[month - 1] + (leap && month == 2) ? end : NULL;
}

static bool is_date(const char *s)
{
    const char *end = skip_date(s);
    return end && *end == '\0';
}

static bool is_date_time(const char *s)
{
    s = skip_date(s);
    if (!s || (*s != 't' && *s != 'T') || !masked(++s, "dd:dd:dd"))
        return false;
    if (memcmp(s, "23", 2) > 0 || memcmp(s + 3, "59", 2) > 0 || memcmp(s + 6, "59", 2) > 0)
        return false;
    s += 8;
    if (*s && is_digit(s[1]) && *s != '+' && *s != '-')
        s += 1 + strspn(s + 1, "0123456789");
    if (*s == 'z' || *s == 'Z')
        return s[1] == '\0';
    const char *end = *s == '+' || *s == '-' ? masked(s + 1, "dd:dd") : NULL;
    return end && *end == '\0';
}

/* Words as Scala has them: the exact unit, or one that begins with the last of its row. */
static bool is_unit(const char *s, size_t len)
{
    static const char *const exact[] = {"ns", "us", "\xc2\xb5s", "ms", "s", "m", "h", "hr", "d", "w", "wk"};
    static const char *const begins[] = {"nano", "micro", "milli", "sec", "min", "hour", "day", "week"};
    for (size_t i = 0; i < KP_ARRAY_LEN(exact); i++)
        if (len == strlen(exact[i]) && strncasecmp(s, exact[i], len) == 0)
            return true;
    for (size_t i = 0; i < KP_ARRAY_LEN(begins); i++)
        if (len >= strlen(begins[i]) && strncasecmp(s, begins[i], strlen(begins[i])) == 0)
            return true;
    return false;
}

static bool is_duration(const char *s)
{
    int64_t ns;
    if (kp_parse_duration_ns(s, &ns) == 0)
        return true;
    while (*(s += strcspn(s, "0123456789"))) {
        s += strspn(s, "0123456789");
        const char *unit = s + strspn(s, " \t\n\f\r"), *end = unit;
        while (isalpha((unsigned char)*end) || strncmp(end, "\xc2\xb5", 2) == 0)
            end++, end += (unsigned char)end[-1] == 0xc2;
        if (end > unit && is_unit(unit, (size_t)(end - unit)))
            return true;
    }
    return false;
}

/* ---- addresses ----------------------------------------------------------------------------------------------------------------- */
/* Leading zeros are tolerated, as upstream does for what was stored long ago. */
static bool is_dotted_quad(const char *s, size_t len)
{
    size_t i = 0;
    for (int part = 0; part < 4; part++) {
        int n = 0;
        size_t from = i;
        for (; i < len && is_digit(s[i]) && n <= 255; i++)
            n = 10 * n + s[i] - '0';
        if (i == from || n > 255 || (part < 3 && (i >= len || s[i++] != '.')))
            return false;
    }
    return i == len;
}

static bool is_colon_address(const char *s, size_t len)
{
    char text[INET6_ADDRSTRLEN + 1];
    struct in6_addr address;
    if (len >= sizeof(text))
        return false;
    memcpy(text, s, len);
    text[len] = '\0';
    return inet_pton(AF_INET6, text, &address) == 1;
}

static bool is_ipv6(const char *s)
{
    return is_colon_address(s, strlen(s));
}

static bool is_ipv4(const char *s)
{
    size_t len = strlen(s);
    return is_dotted_quad(s, len) || (strchr(s, '.') && is_colon_address(s, len));
}

static bool is_cidr(const char *s)
{
    const char *slash = strchr(s, '/');
    int64_t bits = 0;
    if (!slash || !is_digit(slash[1]) || kp_parse_i64(slash + 1, &bits) < 0)
        return false;
    size_t len = (size_t)(slash - s);
    return is_dotted_quad(s, len) ? bits <= 32 : is_colon_address(s, len) && bits <= 128;
}

static bool is_mac(const char *s)
{
    size_t len = strlen(s), group = s[0] && s[1] && s[2] && s[3] && s[4] == '.' ? 4 : 2;
    char separator = group == 4 ? '.' : len > 2 ? s[2] : '\0';
    size_t bytes = (len + 1) / (group + 1) * group / 2;
    if ((separator != '.' && separator != ':' && separator != '-') || (group == 2 && separator == '.') || (len + 1) % (group + 1) != 0)
        return false;
    for (size_t i = 0; i < len; i++)
        if (i % (group + 1) == group ? s[i] != separator : !isxdigit((unsigned char)s[i]))
            return false;
    return bytes == 6 || bytes == 8 || bytes == 20;
}

/* ---- names --------------------------------------------------------------------------------------------------------------------- */
/* A letter or symbol of any script; NULL at anything else. What is not ASCII is taken as one. */
static const char *host_character(const char *s)
{
    if (!is_alnum(*s) && !((unsigned char)*s & 0x80) && (*s == '\0' || !strchr("$+<=>^`|~", *s)))
        return NULL;
    for (s++; ((unsigned char)*s & 0xc0) == 0x80;)
        s++;
    return s;
}

/* A name without dots: a first character, and then at most one dash and 62 more. */
static bool is_bare_host(const char *s)
{
    const char *next = host_character(s);
    if (!next)
        return false;
    next += *next == '-';
    for (int i = 0; i < 62 && host_character(next); i++)
        next = host_character(next);
    return *next == '\0';
}

/* Of a name with dots, from s to the dot: 1 to 63 characters, dashes inside. */
static bool is_host_label(const char *s, const char *dot)
{
    int n = 0;
    if (*s == '-' || dot == s || dot[-1] == '-')
        return false;
    for (; s < dot; n++) {
        s = *s == '-' ? s + 1 : host_character(s);
        if (!s)
            return false;
    }
    return n <= 63;
}

static bool is_hostname(const char *s)
{
    if (strlen(s) > 255)
        return false;
    const char *label = s;
    for (const char *dot; (dot = strchr(label, '.')) != NULL; label = dot + 1)
        if (!is_host_label(label, dot) || dot - label > 63)
            return false;
    if (label == s)
        return strlen(s) <= 63 && is_bare_host(s);
    int n = 0;
    for (const char *p = label; *p; n++) {
        if (is_digit(*p) || !host_character(p) || strchr("$+<=>^`|~", *p))
            return false;
        p = host_character(p);
    }
    return n >= 2 && n <= 63 && strlen(label) <= 63;
}

static bool is_short_name_part(const char *s, size_t len)
{
    if (len == 0 || s[0] == '-' || s[len - 1] == '-')
        return false;
    for (size_t i = 0; i < len; i++)
        if (!(is_digit(s[i]) || (s[i] >= 'a' && s[i] <= 'z') || s[i] == '-'))
            return false;
    return true;
}

static bool is_short_name(const char *s)
{
    return strlen(s) <= 63 && is_short_name_part(s, strlen(s));
}

static bool is_long_name(const char *s)
{
    if (strlen(s) > 253)
        return false;
    for (;; s++) {
        size_t len = strcspn(s, ".");
        if (!is_short_name_part(s, len))
            return false;
        s += len;
        if (*s == '\0')
            return true;
    }
}

static bool is_atom(char c)
{
    return is_alnum(c) || ((unsigned char)c & 0x80) || (c && strchr("!#$%&'*+-/=?^_`{|}~", c));
}

static const char *skip_dot_atom(const char *s)
{
    while (is_atom(*s)) {
        while (is_atom(*s))
            s++;
        if (*s != '.')
            return s;
        s++;
    }
    return NULL;
}

static const char *skip_quoted(const char *s)
{
    for (s++; *s && *s != '"'; s++)
        if (*s == '\\' && !*++s)
            return NULL;
    return *s == '"' ? s + 1 : NULL;
}

static const char *skip_address(const char *s)
{
    s = *s == '"' ? skip_quoted(s) : skip_dot_atom(s);
    if (!s || *s != '@')
        return NULL;
    if (*++s != '[')
        return skip_dot_atom(s);
    s += strcspn(s, "]");
    return *s ? s + 1 : NULL;
}

/* RFC 5322's mailbox: an address, or a name and an address in angle brackets. */
static bool is_email(const char *s)
{
    s += strspn(s, " \t");
    const char *end = skip_address(s);
    if (end)
        return end[strspn(end, " \t")] == '\0';
    while (s && *s && *s != '<') {
        if (*s == '"')
            s = skip_quoted(s);
        else if (is_atom(*s) || *s == ' ' || *s == '\t' || *s == '.')
            s++;
        else
            return false;
    }
    end = s && *s == '<' ? skip_address(s + 1) : NULL;
    return end && *end == '>' && end[1 + strspn(end + 1, " \t")] == '\0';
}

/* ---- the rest ------------------------------------------------------------------------------------------------------------------ */
static bool is_authority(const char *s, size_t len)
{
    const char *at = memrchr(s, '@', len);
    const char *host = at ? at + 1 : s, *end = s + len, *port = NULL;
    if (host < end && *host == '[') {
        port = memchr(host, ']', (size_t)(end - host));
        if (!port || (++port < end && *port != ':'))
            return false;
    } else {
        port = memrchr(host, ':', (size_t)(end - host));
        if (port && memchr(host, ':', (size_t)(port - host)))
            return false;
    }
    for (const char *p = host; p < (port ? port : end); p++)
        if (*p == ' ' || *p == '\\' || *p == '^' || *p == '`' || *p == '{' || *p == '}' || *p == '|' || *p == '/')
            return false;
    for (const char *p = port && port < end ? port + 1 : end; p < end; p++)
        if (!is_digit(*p))
            return false;
    return true;
}

/* What a request line can have: an absolute URI or an absolute path. */
static bool is_uri(const char *s)
{
    for (const char *p = s; *p; p++) {
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            return false;
        if (*p == '%' && !masked(p + 1, "xx") && !memchr(s, '?', (size_t)(p - s)))
            return false;
    }
    if (strcmp(s, "*") == 0)
        return true;
    size_t scheme = isalpha((unsigned char)*s) ? strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.") : 0;
    if (scheme > 0 && s[scheme] == ':')
        s += scheme + 1;
    else
        return *s == '/';
    return *s && (strncmp(s, "//", 2) != 0 || is_authority(s + 2, strcspn(s + 2, "/?")));
}

static bool is_base64(const char *s)
{
    size_t len = strlen(s);
    return len > 0 && len % 4 == 0 && strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=") == len && strcspn(s, "=") + 2 >= len &&
           (s[len - 1] == '=' || !strchr(s, '='));
}

static bool is_object_id(const char *s)
{
    return strlen(s) == 24 && strspn(s, "0123456789abcdefABCDEF") == 24;
}

/* version '\0': any. The dashes may be missing one by one. */
static bool is_uuid_of(const char *s, char version, bool variant)
{
    static const int groups[] = {8, 4, 4, 4, 12};
    for (size_t i = 0; i < KP_ARRAY_LEN(groups); i++) {
        s += i > 0 && *s == '-';
        if ((i == 2 && version && *s != version) || (i == 3 && variant && (*s == '\0' || !strchr("89abAB", *s))))
            return false;
        for (int j = 0; j < groups[i]; j++)
            if (!isxdigit((unsigned char)*s++))
                return false;
    }
    return *s == '\0';
}

static bool is_uuid(const char *s)
{
    return is_uuid_of(s, '\0', false);
}

static bool is_uuid3(const char *s)
{
    return is_uuid_of(s, '3', false);
}

static bool is_uuid4(const char *s)
{
    return is_uuid_of(s, '4', true);
}

static bool is_uuid5(const char *s)
{
    return is_uuid_of(s, '5', true);
}

/* The digits, with an X at the end allowed, and nothing else but blanks and dashes between them: how many, at most 64. */
static size_t digits_of(const char *s, char out[64], const char *skipped)
{
    size_t n = 0;
    for (; *s; s++) {
        if (is_digit(*s) || ((*s == 'X' || *s == 'x') && s[1] == '\0')) {
            if (n == 64)
                return 0;
            out[n++] = *s;
        } else if (skipped && !strchr(skipped, *s)) {
            return 0;
        }
    }
    return n;
}

static bool is_isbn10(const char *s)
{
    char d[64];
    int sum = 0;
    if (digits_of(s, d, " -") != 10)
        return false;
    for (int i = 0; i < 10; i++)
        sum += (10 - i) * (is_digit(d[i]) ? d[i] - '0' : 10);
    return sum % 11 == 0;
}

static bool is_isbn13(const char *s)
{
    char d[64];
    int sum = 0;
    if (digits_of(s, d, " -") != 13 || !is_digit(d[12]))
        return false;
    for (int i = 0; i < 13; i++)
        sum += (i % 2 ? 3 : 1) * (d[i] - '0');
    return sum % 10 == 0;
}

static bool is_isbn(const char *s)
{
    return is_isbn10(s) || is_isbn13(s);
}

/* Thirteen to sixteen digits, whatever stands between them, with Luhn's check digit. */
static bool is_credit_card(const char *s)
{
    char d[64];
    size_t n = digits_of(s, d, NULL);
    int sum = 0;
    if (n < 13 || n > 16 || !is_digit(d[n - 1]) || !strchr("123456", d[0]))
        return false;
    for (size_t i = 0; i < n; i++) {
        int v = (d[i] - '0') * ((n - i) % 2 ? 1 : 2);
        sum += v > 9 ? v - 9 : v;
    }
    return sum % 10 == 0;
}

static bool is_ssn(const char *s)
{
    s = masked(s, "ddd");
    s = s ? masked(s + (*s == '-' || *s == ' '), "dd") : NULL;
    s = s ? masked(s + (*s == '-' || *s == ' '), "dddd") : NULL;
    return s && *s == '\0';
}

static bool is_hex_color(const char *s)
{
    s += *s == '#';
    size_t len = strlen(s);
    return (len == 3 || len == 6) && strspn(s, "0123456789abcdefABCDEF") == len;
}

static bool is_rgb_color(const char *s)
{
    if (strncmp(s, "rgb(", 4) != 0)
        return false;
    s += 4;
    for (int i = 0; i < 3; i++) {
        s += strspn(s, " \t\n\f\r");
        size_t n = strspn(s, "0123456789");
        if (n < 1 || n > 3 || (n > 1 && *s == '0') || (n == 3 && memcmp(s, "255", 3) > 0))
            return false;
        s += n;
        s += strspn(s, " \t\n\f\r");
        if (*s++ != (i < 2 ? ',' : ')'))
            return false;
    }
    return *s == '\0';
}

static bool is_anything(const char *s)
{
    return true;
}

static const struct {
    const char *name;
    format_check check;
} formats[] = {
    {"bsonobjectid", is_object_id}, {"uri", is_uri},           {"email", is_email},       {"hostname", is_hostname},        {"ipv4", is_ipv4},
    {"ipv6", is_ipv6},              {"cidr", is_cidr},         {"mac", is_mac},           {"uuid", is_uuid},                {"uuid3", is_uuid3},
    {"uuid4", is_uuid4},            {"uuid5", is_uuid5},       {"isbn", is_isbn},         {"isbn10", is_isbn10},            {"isbn13", is_isbn13},
    {"creditcard", is_credit_card}, {"ssn", is_ssn},           {"hexcolor", is_hex_color}, {"rgbcolor", is_rgb_color},      {"byte", is_base64},
    {"password", is_anything},      {"date", is_date},         {"duration", is_duration}, {"datetime", is_date_time},       {"k8sshortname", is_short_name},
    {"k8slongname", is_long_name},
};

format_check format_find(const char *name)
{
    char plain[32];
    size_t n = 0;
    for (const char *p = name; *p; p++) {
        if (*p == '-')
            continue;
        if (n == sizeof(plain) - 1)
            return NULL;
        plain[n++] = *p;
    }
    plain[n] = '\0';
    for (size_t i = 0; i < KP_ARRAY_LEN(formats); i++)
        if (strcmp(plain, formats[i].name) == 0)
            return formats[i].check;
    return NULL;
}
