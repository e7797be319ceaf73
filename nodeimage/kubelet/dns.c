/* Reading and composing the resolver configuration of pods. */
#include <ctype.h>

#include "nodeimage/kubelet/text_internal.h"

static bool list_has(const char *const *list, size_t n, const char *s)
{
    for (size_t i = 0; i < n; i++)
        if (kp_streq(list[i], s))
            return true;
    return false;
}

void kubelet_dns_add_server(struct kp_arena *arena, struct kubelet_dns *dns, const char *server)
{
    if (kp_empty(server) || dns->n_servers == KUBELET_DNS_SERVERS_MAX || list_has(dns->servers, dns->n_servers, server))
        return;
    dns->servers[dns->n_servers++] = kp_arena_strdup(arena, server);
}

void kubelet_dns_add_search(struct kp_arena *arena, struct kubelet_dns *dns, const char *search)
{
    if (kp_empty(search) || dns->n_searches == KUBELET_DNS_SEARCHES_MAX || list_has(dns->searches, dns->n_searches, search))
        return;
    dns->searches[dns->n_searches++] = kp_arena_strdup(arena, search);
}

void kubelet_dns_add_option(struct kp_arena *arena, struct kubelet_dns *dns, const char *name, const char *value)
{
    if (kp_empty(name))
        return;
    char *option = value ? kp_arena_printf(arena, "%s:%s", name, value) : kp_arena_strdup(arena, name);
    size_t name_len = strlen(name);
    for (size_t i = 0; i < dns->n_options; i++) {
        const char *there = dns->options[i];
        if (strncmp(there, name, name_len) == 0 && (there[name_len] == '\0' || there[name_len] == ':')) {
            dns->options[i] = option;
            return;
        }
    }
    if (dns->n_options < KUBELET_DNS_OPTIONS_MAX)
        dns->options[dns->n_options++] = option;
}

/* Cuts the next blank-separated word out of [*s, end); NULL at the end. */
static char *next_word(struct kp_arena *arena, const char **s, const char *end)
{
    while (*s < end && isspace((unsigned char)**s))
        (*s)++;
    if (*s == end)
        return NULL;
    const char *start = *s;
    while (*s < end && !isspace((unsigned char)**s))
        (*s)++;
    return kp_arena_strndup(arena, start, (size_t)(*s - start));
}

static void parse_line(struct kp_arena *arena, const char *s, const char *end, struct kubelet_dns *dns)
{
    const char *keyword = next_word(arena, &s, end);
    if (!keyword || keyword[0] == '#' || keyword[0] == ';')
        return;
    const char *word;
    if (kp_streq(keyword, "nameserver")) {
        kubelet_dns_add_server(arena, dns, next_word(arena, &s, end));
    } else if (kp_streq(keyword, "search")) {
        dns->n_searches = 0; /* the last search line wins, as in resolv.conf(5) */
        while ((word = next_word(arena, &s, end)) != NULL)
            kubelet_dns_add_search(arena, dns, word);
    } else if (kp_streq(keyword, "options")) {
        while ((word = next_word(arena, &s, end)) != NULL) {
            char *colon = strchr(word, ':');
            if (colon)
                *colon = '\0';
            kubelet_dns_add_option(arena, dns, word, colon ? colon + 1 : NULL);
        }
    }
}

void kubelet_dns_parse(struct kp_arena *arena, const char *text, size_t len, struct kubelet_dns *ret_dns)
{
    *ret_dns = (struct kubelet_dns){0};
    const char *end = text + len;
    for (const char *s = text; s < end;) {
        const char *eol = memchr(s, '\n', (size_t)(end - s));
        if (!eol)
            eol = end;
        parse_line(arena, s, eol, ret_dns);
        s = eol + 1;
    }
}
