/* DNS messages coming in: queries of clients and answers of upstream servers. */
#include "nodeimage/dns/dns_internal.h"

/* A record as it stands in a message; rdata is bytes [rdata, rdata + rdata_len) of it. */
struct record {
    struct dns_name owner;
    uint16_t type, class;
    uint32_t ttl_s;
    size_t rdata, rdata_len;
};

static int read_record(const uint8_t *data, size_t len, size_t *pos, struct record *ret)
{
    if (dns_name_read(data, len, pos, &ret->owner) < 0 || len - *pos < 10)
        return KP_EBADREQUEST;
    const uint8_t *p = data + *pos;
    ret->type = dns_get16(p);
    ret->class = dns_get16(p + 2);
    ret->ttl_s = (uint32_t)dns_get16(p + 4) << 16 | dns_get16(p + 6);
    if (ret->ttl_s > INT32_MAX)
        ret->ttl_s = 0; /* RFC 2181 8 */
    ret->rdata_len = dns_get16(p + 8);
    ret->rdata = *pos + 10;
    if (len - ret->rdata < ret->rdata_len)
        return KP_EBADREQUEST;
    *pos = ret->rdata + ret->rdata_len;
    return 0;
}

static int read_question(const uint8_t *data, size_t len, size_t *pos, struct dns_name *ret_name, uint16_t *ret_type, uint16_t *ret_class)
{
    struct dns_name name;
    if (dns_name_read(data, len, pos, &name) < 0 || len - *pos < 4)
        return KP_EBADREQUEST;
    *ret_name = name;
    *ret_type = dns_get16(data + *pos);
    *ret_class = dns_get16(data + *pos + 2);
    *pos += 4;
    return 0;
}

/* RFC 6891 6.1: one OPT at the root, its class is the sender's payload size, its TTL holds version and flags. */
static enum dns_rcode read_opt(const uint8_t *data, const struct record *record, struct dns_query *query)
{
    if (query->edns || record->owner.len != 1)
        return DNS_FORMERR;
    for (size_t at = record->rdata, end = at + record->rdata_len; at < end;) {
        if (end - at < 4 || end - at - 4 < dns_get16(data + at + 2))
            return DNS_FORMERR;
        at += 4 + (size_t)dns_get16(data + at + 2);
    }
    const uint8_t *ttl = data + record->rdata - 6; /* the raw field: read_record takes it for seconds */
    query->edns = true;
    query->udp_payload = KP_MAX(record->class, DNS_UDP_MIN);
    query->dnssec_ok = ttl[2] & 0x80;
    return ttl[1] == 0 ? DNS_NOERROR : DNS_BADVERS;
}

enum dns_verdict dns_query_parse(const uint8_t *data, size_t len, struct dns_query *ret_query, enum dns_rcode *ret_rcode)
{
    struct dns_query *q = ret_query;
    *q = (struct dns_query){.udp_payload = DNS_UDP_MIN};
    *ret_rcode = DNS_FORMERR;
    if (len < DNS_HEADER_LEN)
        return DNS_DROP;
    q->id = dns_get16(data);
    q->flags = dns_get16(data + 2);
    if (q->flags & DNS_QR)
        return DNS_DROP;
    if (q->flags >> 11 & 0xf) {
        *ret_rcode = DNS_NOTIMP;
        return DNS_REJECT;
    }
    size_t pos = DNS_HEADER_LEN;
    if (dns_get16(data + 4) != 1 || read_question(data, len, &pos, &q->name, &q->type, &q->class) < 0)
        return DNS_REJECT;
    size_t ahead = (size_t)dns_get16(data + 6) + dns_get16(data + 8), all = ahead + dns_get16(data + 10);
    for (size_t i = 0; i < all; i++) { /* ends with the message: a record has 11 bytes at least */
        struct record record;
        if (read_record(data, len, &pos, &record) < 0)
            return DNS_REJECT;
        if (record.type != DNS_OPT)
            continue;
        enum dns_rcode rcode = i < ahead ? DNS_FORMERR : read_opt(data, &record, q);
        if (rcode != DNS_NOERROR) {
            *ret_rcode = rcode;
            return DNS_REJECT;
        }
    }
    if (q->type == DNS_OPT || q->type == 0)
        return DNS_REJECT;
    *ret_rcode = DNS_REFUSED;
    if (q->class != DNS_IN || q->type == DNS_AXFR || q->type == DNS_IXFR)
        return DNS_REJECT;
    *ret_rcode = DNS_NOERROR;
    return DNS_ACCEPT;
}

/* How the rdata of the types of RFC 1035 (and those of RFC 3597 4 that are in use) is made of names: bytes before the first
   name, number of names, bytes behind. Everything else is opaque, since newer types must not be compressed. */
static bool rdata_names(uint16_t type, size_t *before, size_t *names, size_t *behind)
{
    *before = *behind = 0;
    *names = 1;
    switch (type) {
    case DNS_NS: case DNS_CNAME: case DNS_PTR: case DNS_DNAME: return true;
    case DNS_MX: case DNS_AFSDB: case DNS_RT: case DNS_KX: *before = 2; return true;
    case DNS_SRV: *before = 6; return true;
    case DNS_MINFO: case DNS_RP: *names = 2; return true;
    case DNS_SOA: *names = 2; *behind = 20; return true;
    default: return false;
    }
}

/* The rdata with its names in full; the length, or negative when it is malformed. */
static int expand(const uint8_t *data, const struct record *record, uint8_t out[DNS_RDATA_NAMES_MAX])
{
    size_t before, names, behind, pos = record->rdata, end = pos + record->rdata_len, at = 0;
    bool known = rdata_names(record->type, &before, &names, &behind);
    KP_ASSERT(known);
    if (record->rdata_len < before + names + behind)
        return KP_EBADREQUEST;
    memcpy(out, data + pos, before);
    pos += before;
    at += before;
    for (size_t i = 0; i < names; i++) {
        struct dns_name name;
        if (dns_name_read(data, end, &pos, &name) < 0)
            return KP_EBADREQUEST;
        memcpy(out + at, name.wire, name.len);
        at += name.len;
    }
    if (end - pos != behind)
        return KP_EBADREQUEST;
    memcpy(out + at, data + pos, behind);
    return (int)(at + behind);
}

static bool has_names(uint16_t type)
{
    size_t before, names, behind;
    return rdata_names(type, &before, &names, &behind);
}

/* The records behind the question; each is checked, and the least TTL found. */
static int check_records(const uint8_t *data, size_t len, size_t pos, struct dns_response *response)
{
    size_t answers = dns_get16(data + 6), authorities = dns_get16(data + 8), all = answers + authorities + dns_get16(data + 10);
    uint32_t ttl_s = UINT32_MAX, negative_s = 0;
    for (size_t i = 0; i < all; i++) {
        struct record record;
        uint8_t rdata[DNS_RDATA_NAMES_MAX];
        if (read_record(data, len, &pos, &record) < 0)
            return KP_EBADREQUEST;
        if (record.type == DNS_OPT) {
            response->rcode |= (unsigned)data[record.rdata - 6] << 4;
            continue;
        }
        int n = has_names(record.type) ? expand(data, &record, rdata) : 0;
        if (n < 0)
            return KP_EBADREQUEST;
        ttl_s = KP_MIN(ttl_s, record.ttl_s);
        if (record.type == DNS_SOA && i >= answers && i < answers + authorities) {
            uint32_t minimum_s = (uint32_t)dns_get16(rdata + n - 4) << 16 | dns_get16(rdata + n - 2);
            negative_s = KP_MIN(minimum_s, record.ttl_s);
        }
    }
    bool negative = response->rcode == DNS_NXDOMAIN || answers == 0;
    if (response->rcode != DNS_NOERROR && response->rcode != DNS_NXDOMAIN)
        response->ttl_s = 0;
    else if (negative)
        response->ttl_s = KP_MIN(ttl_s, negative_s);
    else
        response->ttl_s = ttl_s;
    return 0;
}

int dns_response_parse(const uint8_t *data, size_t len, const struct dns_name *name, uint16_t type, struct dns_response *ret_response)
{
    struct dns_response *r = ret_response;
    struct dns_name asked;
    uint16_t asked_type, asked_class;
    size_t pos = DNS_HEADER_LEN;
    if (len < DNS_HEADER_LEN)
        return KP_EBADREQUEST;
    *r = (struct dns_response){.id = dns_get16(data), .flags = dns_get16(data + 2)};
    r->rcode = r->flags & 0xf;
    r->truncated = r->flags & DNS_TC;
    if (!(r->flags & DNS_QR) || r->flags >> 11 & 0xf || dns_get16(data + 4) != 1 ||
        read_question(data, len, &pos, &asked, &asked_type, &asked_class) < 0 || asked_type != type || asked_class != DNS_IN ||
        !dns_name_equal(&asked, name))
        return KP_EBADREQUEST;
    return r->truncated ? 0 : check_records(data, len, pos, r);
}

void dns_response_copy(struct dns_writer *writer, const uint8_t *data, size_t len, uint32_t age_s)
{
    struct dns_name asked;
    uint16_t type, class;
    size_t pos = DNS_HEADER_LEN;
    int code = read_question(data, len, &pos, &asked, &type, &class);
    for (enum dns_section section = DNS_ANSWER; code == 0 && section < DNS_SECTIONS; section++) {
        for (size_t i = dns_get16(data + 4 + 2 * section); i > 0; i--) {
            struct record record;
            uint8_t rdata[DNS_RDATA_NAMES_MAX];
            if ((code = read_record(data, len, &pos, &record)) < 0)
                break;
            if (record.type == DNS_OPT || record.type == DNS_TSIG)
                continue;
            bool names = has_names(record.type);
            int n = names ? expand(data, &record, rdata) : (int)record.rdata_len;
            if ((code = KP_MIN(n, 0)) < 0)
                break;
            dns_put_raw(writer, section, &record.owner, record.type, record.class, record.ttl_s - KP_MIN(record.ttl_s, age_s),
                        names ? rdata : data + record.rdata, (size_t)n);
        }
    }
    KP_ASSERT(code == 0);
}
