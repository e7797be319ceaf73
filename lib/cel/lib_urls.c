/* URLs as Go's net/url reads them: url(), isURL() and what is in one (k8s.io/apiserver pkg/cel/library/urls.go). */
#include "lib/cel/cel_internal.h"

#include <ctype.h>

#define FN(name) static struct cel_value name(struct cel_eval *e, const struct cel_value *args)
#define URL_BYTES_MAX ((size_t)1 << 20)

/* Its parts, in the evaluation's memory. */
struct url {
    const char *text;
    const char *scheme, *host, *path, *query; /* path as it was written */
};

static bool same_url(const void *a, const void *b)
{
    return strcmp(((const struct url *)a)->text, ((const struct url *)b)->text) == 0;
}

static const struct cel_class url_class = {.type = &url_type, .equal = same_url};

static const struct url *url_of(const struct cel_value *v)
{
    return v->object.data;
}

/* ---- reading ---------------------------------------------------------------------------------------------------------------------------------------- */
static int hex_value(char c)
{
    return isdigit((unsigned char)c) ? c - '0' : isxdigit((unsigned char)c) ? tolower((unsigned char)c) - 'a' + 10 : -1;
}

/* What is wrong with the escapes of a part, or NULL. */
static const char *bad_escape(const char *s, size_t len, char why[64])
{
    for (size_t i = 0; i < len; i++)
        if (s[i] == '%' && (i + 2 >= len || hex_value(s[i + 1]) < 0 || hex_value(s[i + 2]) < 0)) {
            snprintf(why, 64, "invalid URL escape \"%.*s\"", (int)KP_MIN(len - i, (size_t)3), s + i);
            return why;
        }
    return NULL;
}

/* The letters before a colon; 0: there are none; SIZE_MAX: a colon comes first. */
static size_t scheme_len(const char *s)
{
    for (size_t i = 0; s[i]; i++) {
        if (isalpha((unsigned char)s[i]) || (i > 0 && (isdigit((unsigned char)s[i]) || strchr("+-.", s[i]))))
            continue;
        if (s[i] == ':')
            return i ? i : SIZE_MAX;
        return 0;
    }
    return 0;
}

static const char *bad_port(const char *port, char why[64])
{
    if (!*port)
        return NULL;
    if (port[0] == ':' && port[1 + strspn(port + 1, "0123456789")] == '\0')
        return NULL;
    snprintf(why, 64, "invalid port \"%.30s\" after host", port);
    return why;
}

static const char *bad_host(const char *host, size_t len, char why[64])
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)host[i];
        bool fine = isalnum(c) || c >= 0x80 || (c && strchr("-_.~!$&'()*+,;=:[]<>\"", c));
        if (fine)
            continue;
        if (c == '%')
            snprintf(why, 64, "invalid URL escape \"%.*s\"", (int)KP_MIN(len - i, (size_t)3), host + i);
        else
            snprintf(why, 64, "invalid character \"%c\" in host name", c);
        return why;
    }
    return NULL;
}

/* The authority: user@host:port. */
static const char *read_authority(const char *s, size_t len, struct cel_eval *e, struct url *url, char why[64])
{
    const char *at = memrchr(s, '@', len);
    if (at) {
        for (const char *p = s; p < at; p++)
            if (!isalnum((unsigned char)*p) && !strchr("-._:~!$&'()*+,;=%@", *p))
                return "net/url: invalid userinfo";
        if (bad_escape(s, (size_t)(at - s), why))
            return why;
        len -= (size_t)(at + 1 - s);
        s = at + 1;
    }
    char *host = cel_alloc(e, len + 1);
    if (!host)
        return "";
    memcpy(host, s, len);
    url->host = host;
    if (host[0] == '[') {
        char *end = strrchr(host, ']');
        return end ? bad_port(end + 1, why) : "missing ']' in host";
    }
    char *colon = strrchr(host, ':');
    const char *fault = colon ? bad_port(colon, why) : NULL;
    return fault ? fault : bad_host(host, len, why);
}

/* As url.ParseRequestURI followed by url.Parse: a fragment is nothing's part. The fault's words, or NULL. */
static const char *read_url(struct cel_eval *e, const struct cel_value *v, struct url *url, char why[64])
{
    char *text = v->text.len < URL_BYTES_MAX && cel_work(e, v->text.len / 8) ? cel_alloc(e, v->text.len + 1) : NULL;
    if (!text)
        return "too long";
    memcpy(text, v->text.data, v->text.len);
    *url = (struct url){.text = text, .scheme = "", .host = "", .path = "", .query = ""};
    for (size_t i = 0; i < v->text.len; i++)
        if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
            return "net/url: invalid control character in URL";
    if (!*text)
        return "empty url";
    size_t len = scheme_len(text);
    if (len == SIZE_MAX)
        return "missing protocol scheme";
    char *rest = cel_alloc(e, 2 * v->text.len + 2), *scheme = rest ? rest + v->text.len + 1 : NULL;
    if (!rest)
        return "";
    memcpy(rest, text + (len ? len + 1 : 0), v->text.len - (len ? len + 1 : 0));
    for (size_t i = 0; i < len; i++)
        scheme[i] = (char)tolower((unsigned char)text[i]);
    url->scheme = scheme;
    char *fragment = strchr(rest, '#');
    if (fragment)
        *fragment = '\0';
    char *query = strchr(rest, '?');
    if (query) {
        *query = '\0';
        url->query = query + 1;
    }
    if (rest[0] != '/')
        return len || strcmp(rest, "*") == 0 ? NULL : "invalid URI for request"; /* opaque */
    if (len && rest[1] == '/') {
        size_t authority = strcspn(rest + 2, "/");
        const char *fault = read_authority(rest + 2, authority, e, url, why);
        if (fault)
            return fault;
        rest += 2 + authority;
    }
    url->path = rest;
    return bad_escape(rest, strlen(rest), why);
}

FN(to_url)
{
    struct url *url = cel_alloc(e, sizeof(*url));
    char why[64];
    const char *fault = url ? read_url(e, &args[0], url, why) : "";
    if (!fault)
        return cel_of_object(&url_class, url);
    return cel_fail(e, "URL parse error during conversion from string: parse \"%.*s\": %s", (int)KP_MIN(args[0].text.len, (size_t)512), args[0].text.data, fault);
}

FN(is_url)
{
    struct url url;
    char why[64];
    return cel_of_bool(!read_url(e, &args[0], &url, why));
}

/* ---- parts --------------------------------------------------------------------------------------------------------------------------------------------- */
FN(scheme)
{
    return cel_of_string(url_of(&args[0])->scheme);
}

FN(host)
{
    return cel_of_string(url_of(&args[0])->host);
}

FN(hostname)
{
    const char *text = url_of(&args[0])->host, *end = strchr(text, ']');
    if (text[0] == '[' && end)
        return cel_of_text(text + 1, (size_t)(end - text) - 1);
    return cel_of_text(text, strcspn(text, ":"));
}

FN(port)
{
    const char *text = url_of(&args[0])->host, *end = strchr(text, ']');
    const char *colon = strchr(text[0] == '[' && end ? end : text, ':');
    return cel_of_string(colon ? colon + 1 : "");
}

/* As written when every character may stand for itself, else written anew. */
FN(escaped_path)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    const char *path = url_of(&args[0])->path;
    bool valid = true;
    for (const char *p = path; *p; p++)
        valid = valid && (isalnum((unsigned char)*p) || strchr("-_.~!$&'()*+,;=:@[]%/", *p));
    if (valid)
        return cel_of_string(path);
    for (const char *p = path; *p; p++) {
        unsigned char c = (unsigned char)*p;
        if (c == '%') {
            c = (unsigned char)(hex_value(p[1]) * 16 + hex_value(p[2]));
            p += 2;
        }
        if (isalnum(c) || (c && strchr("-_.~$&+,/:;=@", c)))
            kp_buf_putc(&out, (char)c);
        else
            kp_buf_printf(&out, "%%%02X", c);
    }
    return cel_copy_text(e, out.data, out.len);
}

/* A part of the query without its escapes; an error where they are none. */
static struct cel_value unescape(struct cel_eval *e, const char *s, size_t len)
{
    char why[64];
    if (bad_escape(s, len, why))
        return cel_fail(e, "%s", why);
    char *out = cel_alloc(e, len + 1);
    size_t n = 0;
    for (size_t i = 0; out && i < len; i++) {
        out[n++] = s[i] == '+' ? ' ' : s[i] == '%' ? (char)(hex_value(s[i + 1]) * 16 + hex_value(s[i + 2])) : s[i];
        i += s[i] == '%' ? 2 : 0;
    }
    return cel_of_text(out ? out : "", n);
}

/* Keys with the list of their values; what cannot be read is left out. */
FN(query)
{
    struct cel_value map = map_new(e, 0);
    for (const char *p = url_of(&args[0])->query; *p && cel_work(e, 1);) {
        size_t len = strcspn(p, "&"), name = KP_MIN(strcspn(p, "="), len), past = name < len ? name + 1 : len;
        struct cel_value key = unescape(e, p, name), value = unescape(e, p + past, len - past), list;
        if (len > 0 && !memchr(p, ';', len) && !is_error(&key) && !is_error(&value)) {
            list = cel_list_new(e, 1);
            struct cel_value old;
            bool again = map_find(e, &map, &key, &old);
            if (!again) {
                cel_list_add(e, &list, value);
                map_add(e, &map, key, list);
            } else {
                for (size_t i = 0; i < map.map->len; i++)
                    if (values_equal(e, &map.map->entries[i].key, &key))
                        cel_list_add(e, &map.map->entries[i].value, value);
            }
        }
        p += len + (p[len] == '&');
    }
    return map;
}

static const struct cel_overload overloads[] = {
    OVERLOAD("url", "string_to_url", false, to_url, cost_first, url_type, &cel_string),
    OVERLOAD("isURL", "is_url_string", false, is_url, NULL, cel_bool, &cel_string),
    OVERLOAD("getScheme", "url_get_scheme", true, scheme, NULL, cel_string, &url_type),
    OVERLOAD("getHost", "url_get_host", true, host, NULL, cel_string, &url_type),
    OVERLOAD("getHostname", "url_get_hostname", true, hostname, NULL, cel_string, &url_type),
    OVERLOAD("getPort", "url_get_port", true, port, NULL, cel_string, &url_type),
    OVERLOAD("getEscapedPath", "url_get_escaped_path", true, escaped_path, NULL, cel_string, &url_type),
    OVERLOAD("getQuery", "url_get_query", true, query, NULL, map_string_list_string, &url_type),
};
const struct cel_library library_urls = {overloads, KP_ARRAY_LEN(overloads)};

/* For format.uri(). */
const char *uri_fault(struct cel_eval *e, const struct cel_value *text)
{
    struct url url;
    char why[64];
    const char *fault = read_url(e, text, &url, why);
    return fault ? kp_arena_printf(e->arena, "parse \"%.*s\": %s", (int)KP_MIN(text->text.len, (size_t)512), text->text.data, fault) : NULL;
}
