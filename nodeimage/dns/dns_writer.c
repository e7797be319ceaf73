/* Writes DNS messages: answers to clients, queries to upstream servers. */
#include "nodeimage/dns/dns_internal.h"

#define POINTER 0xc000
#define POINTER_TARGET_MAX 0x3fff

static bool put(struct dns_writer *w, const void *data, size_t len)
{
    if (w->cap - w->len < len)
        return false;
    memcpy(w->buf + w->len, data, len);
    w->len += len;
    return true;
}

static bool put16(struct dns_writer *w, uint16_t value)
{
    uint8_t bytes[2];
    dns_set16(bytes, value);
    return put(w, bytes, 2);
}

static bool put32(struct dns_writer *w, uint32_t value)
{
    return put16(w, (uint16_t)(value >> 16)) && put16(w, (uint16_t)value);
}

/* Whether the name that stands at `at` of our own message is the one in wire form. */
static bool same_name(const struct dns_writer *w, size_t at, const uint8_t *wire)
{
    for (;;) {
        while (w->buf[at] >= POINTER >> 8)
            at = dns_get16(w->buf + at) & POINTER_TARGET_MAX;
        uint8_t len = w->buf[at];
        if (len != wire[0])
            return false;
        if (len == 0)
            return true;
        for (size_t i = 1; i <= len; i++) {
            uint8_t a = w->buf[at + i], b = wire[i];
            if (a != b && ((a ^ b) != 0x20 || (a | 0x20) < 'a' || (a | 0x20) > 'z'))
                return false;
        }
        at += 1 + (size_t)len;
        wire += 1 + (size_t)len;
    }
}

static bool put_name(struct dns_writer *w, const struct dns_name *name)
{
    size_t known = w->n_suffixes; /* not those of this name: it is not complete yet */
    for (size_t i = 0; name->wire[i]; i += 1 + (size_t)name->wire[i]) {
        for (size_t j = 0; j < known; j++)
            if (same_name(w, w->suffixes[j], name->wire + i))
                return put16(w, (uint16_t)(POINTER | w->suffixes[j]));
        size_t at = w->len;
        if (!put(w, name->wire + i, 1 + (size_t)name->wire[i]))
            return false;
        if (at <= POINTER_TARGET_MAX && w->n_suffixes < DNS_SUFFIXES_MAX)
            w->suffixes[w->n_suffixes++] = (uint16_t)at;
    }
    return put(w, "", 1);
}

struct mark {
    size_t len, n_suffixes;
};

static bool finish(struct dns_writer *w, enum dns_section section, struct mark mark, size_t rdata, bool ok)
{
    if (!ok || w->counts[section] == UINT16_MAX) {
        w->len = mark.len;
        w->n_suffixes = mark.n_suffixes;
        if (section != DNS_ADDITIONAL)
            w->full = true;
        return false;
    }
    dns_set16(w->buf + rdata - 2, (uint16_t)(w->len - rdata));
    w->counts[section]++;
    return true;
}

/* Owner, type, class, TTL and an empty length; *ret_rdata is where the data begin. */
static bool begin(struct dns_writer *w, const struct dns_name *owner, uint16_t type, uint16_t class, uint32_t ttl_s, struct mark *ret_mark,
                  size_t *ret_rdata)
{
    *ret_mark = (struct mark){w->len, w->n_suffixes};
    bool ok = !w->full && put_name(w, owner) && put16(w, type) && put16(w, class) && put32(w, ttl_s) && put16(w, 0);
    *ret_rdata = w->len;
    return ok;
}

bool dns_put_raw(struct dns_writer *w, enum dns_section section, const struct dns_name *owner, uint16_t type, uint16_t class,
                 uint32_t ttl_s, const void *rdata, size_t len)
{
    struct mark mark;
    size_t at;
    bool ok = begin(w, owner, type, class, ttl_s, &mark, &at) && put(w, rdata, len);
    return finish(w, section, mark, at, ok);
}

bool dns_put_ip(struct dns_writer *w, enum dns_section section, const struct dns_name *owner, const struct dns_ip *ip, uint32_t ttl_s)
{
    return dns_put_raw(w, section, owner, ip->family == 4 ? DNS_A : DNS_AAAA, DNS_IN, ttl_s, ip->bytes, ip->family == 4 ? 4 : 16);
}

bool dns_put_name(struct dns_writer *w, enum dns_section section, const struct dns_name *owner, enum dns_type type,
                  const struct dns_name *target, uint32_t ttl_s)
{
    struct mark mark;
    size_t at;
    bool ok = begin(w, owner, (uint16_t)type, DNS_IN, ttl_s, &mark, &at) && put_name(w, target);
    return finish(w, section, mark, at, ok);
}

bool dns_put_srv(struct dns_writer *w, enum dns_section section, const struct dns_name *owner, uint16_t weight, uint16_t port,
                 const struct dns_name *target, uint32_t ttl_s)
{
    struct mark mark;
    size_t at;
    bool ok = begin(w, owner, DNS_SRV, DNS_IN, ttl_s, &mark, &at) && put16(w, 0) && put16(w, weight) && put16(w, port) &&
              put(w, target->wire, target->len); /* not compressed: RFC 2782 */
    return finish(w, section, mark, at, ok);
}

bool dns_put_text(struct dns_writer *w, const struct dns_name *owner, const char *text, uint32_t ttl_s)
{
    uint8_t rdata[256];
    size_t n = strlen(text);
    KP_ASSERT(n < sizeof(rdata));
    rdata[0] = (uint8_t)n;
    memcpy(rdata + 1, text, n);
    return dns_put_raw(w, DNS_ANSWER, owner, DNS_TXT, DNS_IN, ttl_s, rdata, n + 1);
}

bool dns_put_hinfo(struct dns_writer *w, const struct dns_name *owner)
{
    static const uint8_t rdata[] = "\7RFC8482"; /* the literal's NUL is the empty second string */
    return dns_put_raw(w, DNS_ANSWER, owner, DNS_HINFO, DNS_IN, 3600, rdata, sizeof(rdata));
}

bool dns_put_soa(struct dns_writer *w, enum dns_section section, const struct dns_name *zone, const struct dns_name *primary,
                 const struct dns_name *mailbox, uint32_t serial, uint32_t ttl_s)
{
    struct mark mark;
    size_t at;
    bool ok = begin(w, zone, DNS_SOA, DNS_IN, ttl_s, &mark, &at) && put_name(w, primary) && put_name(w, mailbox) && put32(w, serial) &&
              put32(w, 7200) && put32(w, 1800) && put32(w, 86400) && put32(w, DNS_NEGATIVE_TTL_S);
    return finish(w, section, mark, at, ok);
}

static void put_question(struct dns_writer *w, const struct dns_name *name, uint16_t type, uint16_t class)
{
    if (name->len == 0)
        return;
    bool ok = put_name(w, name) && put16(w, type) && put16(w, class);
    KP_ASSERT(ok);
    w->counts[DNS_QUESTION] = 1;
}

static void put_opt(struct dns_writer *w, enum dns_rcode rcode, bool dnssec_ok)
{
    const uint8_t opt[DNS_OPT_LEN] = {0, 0, DNS_OPT, DNS_UDP_MAX >> 8, DNS_UDP_MAX & 0xff, (uint8_t)(rcode >> 4), 0, dnssec_ok ? 0x80 : 0};
    bool ok = put(w, opt, sizeof(opt));
    KP_ASSERT(ok);
    w->counts[DNS_ADDITIONAL]++;
}

static void put_header(struct dns_writer *w, uint16_t id, uint16_t flags)
{
    dns_set16(w->buf, id);
    dns_set16(w->buf + 2, flags);
    for (size_t i = 0; i < DNS_SECTIONS; i++)
        dns_set16(w->buf + 4 + 2 * i, w->counts[i]);
}

void dns_writer_begin(struct dns_writer *w, uint8_t *buf, size_t cap, const struct dns_query *query)
{
    KP_ASSERT(cap >= DNS_UDP_MIN);
    *w = (struct dns_writer){.buf = buf, .len = DNS_HEADER_LEN, .cap = cap - (query->edns ? DNS_OPT_LEN : 0)};
    put_question(w, &query->name, query->type, query->class);
}

void dns_writer_rewind(struct dns_writer *w)
{
    uint16_t questions = w->counts[DNS_QUESTION];
    size_t at = DNS_HEADER_LEN, suffixes = 0;
    if (questions) {
        for (; w->buf[at]; at += 1 + (size_t)w->buf[at])
            suffixes++;
        at += 5;
    }
    w->len = at;
    w->n_suffixes = KP_MIN(suffixes, w->n_suffixes);
    memset(w->counts, 0, sizeof(w->counts));
    w->counts[DNS_QUESTION] = questions;
    w->full = false;
}

size_t dns_writer_end(struct dns_writer *w, const struct dns_query *query, uint16_t flags, enum dns_rcode rcode)
{
    if (query->edns) {
        w->cap += DNS_OPT_LEN;
        put_opt(w, rcode, query->dnssec_ok);
    }
    /* Opcode, RD and CD are the query's own. */
    put_header(w, query->id, (uint16_t)(DNS_QR | DNS_RA | (query->flags & (0x7800 | DNS_RD | DNS_CD)) | (flags & (DNS_AA | DNS_AD)) |
                                        (w->full ? DNS_TC : 0) | (rcode & 0xf)));
    return w->len;
}

size_t dns_write_rcode(uint8_t *buf, size_t cap, const struct dns_query *query, enum dns_rcode rcode)
{
    struct dns_writer w;
    dns_writer_begin(&w, buf, cap, query);
    return dns_writer_end(&w, query, 0, rcode);
}

size_t dns_write_query(uint8_t *buf, size_t cap, uint16_t id, const struct dns_name *name, uint16_t type, bool checking_disabled,
                       bool dnssec_ok)
{
    KP_ASSERT(cap >= DNS_UDP_MIN);
    struct dns_writer w = {.buf = buf, .len = DNS_HEADER_LEN, .cap = cap};
    put_question(&w, name, type, DNS_IN);
    put_opt(&w, DNS_NOERROR, dnssec_ok);
    put_header(&w, id, (uint16_t)(DNS_RD | (checking_disabled ? DNS_CD : 0)));
    return w.len;
}
