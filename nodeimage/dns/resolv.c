/* Upstream servers from resolv.conf. */
#include <ctype.h>
#include <errno.h>
#include <ifaddrs.h>
#include <netinet/in.h>

#include "nodeimage/dns/dns_internal.h"

void dns_upstreams_done(struct dns_upstreams *upstreams)
{
    free(upstreams->items);
    *upstreams = (struct dns_upstreams){0};
}

void dns_resolv_parse(const char *text, size_t len, uint16_t port, struct dns_upstreams *ret_upstreams)
{
    struct dns_upstreams *out = ret_upstreams;
    *out = (struct dns_upstreams){.items = kp_calloc(DNS_UPSTREAMS_MAX, sizeof(struct sockaddr_storage))};
    for (const char *end = text + len; text < end && out->len < DNS_UPSTREAMS_MAX;) {
        static const char keyword[] = "nameserver";
        const size_t n = sizeof(keyword) - 1;
        const char *eol = memchr(text, '\n', (size_t)(end - text));
        eol = eol ? eol : end;
        if ((size_t)(eol - text) > n && memcmp(text, keyword, n) == 0 && isblank((unsigned char)text[n])) {
            const char *word = text + n;
            while (word < eol && isblank((unsigned char)*word))
                word++;
            const char *stop = word;
            while (stop < eol && !isspace((unsigned char)*stop))
                stop++;
            char *host = kp_strndup(word, (size_t)(stop - word));
            if (loop_sockaddr_parse(host, port, (struct sockaddr *)&out->items[out->len]) == 0)
                out->len++;
            free(host);
        }
        text = eol + 1;
    }
}

static bool same_host(const struct sockaddr *a, const struct sockaddr *b)
{
    if (a->sa_family != b->sa_family)
        return false;
    if (a->sa_family == AF_INET)
        return ((const struct sockaddr_in *)a)->sin_addr.s_addr == ((const struct sockaddr_in *)b)->sin_addr.s_addr;
    return memcmp(&((const struct sockaddr_in6 *)a)->sin6_addr, &((const struct sockaddr_in6 *)b)->sin6_addr, sizeof(struct in6_addr)) == 0;
}

static bool is_own(const struct sockaddr *address, const struct ifaddrs *interfaces)
{
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
    if (address->sa_family == AF_INET && (ntohl(v4->sin_addr.s_addr) >> 24 == 127 || v4->sin_addr.s_addr == 0))
        return true; /* 127.0.0.53 of a node's resolv.conf is ourselves in our pod */
    for (const struct ifaddrs *i = interfaces; i; i = i->ifa_next)
        if (i->ifa_addr && (i->ifa_addr->sa_family == AF_INET || i->ifa_addr->sa_family == AF_INET6) && same_host(i->ifa_addr, address))
            return true;
    return false;
}

void dns_upstreams_drop_self(struct dns_upstreams *upstreams, uint16_t own_port)
{
    struct ifaddrs *interfaces = NULL;
    size_t kept = 0;
    if (getifaddrs(&interfaces) < 0) {
        interfaces = NULL; /* loopback is still known */
        kp_warn("addresses of this machine unknown", "error", strerror(errno), NULL);
    }
    for (size_t i = 0; i < upstreams->len; i++) {
        const struct sockaddr *address = (const struct sockaddr *)&upstreams->items[i];
        uint16_t port = ntohs(address->sa_family == AF_INET ? ((const struct sockaddr_in *)address)->sin_port
                                                            : ((const struct sockaddr_in6 *)address)->sin6_port);
        char text[LOOP_ADDRESS_MAX];
        loop_sockaddr_format(address, text);
        if (port == own_port && is_own(address, interfaces))
            kp_warn("upstream is this server itself: not used", "upstream", text, NULL);
        else
            upstreams->items[kept++] = upstreams->items[i];
    }
    upstreams->len = kept;
    if (interfaces)
        freeifaddrs(interfaces);
}
