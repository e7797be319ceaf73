/* nodeimage/dns: the cluster's DNS server - messages, the zone made of Services and EndpointSlices, forwarding, sockets.
 *
 * Messages, names, the zone and the cache are pure: bytes and objects in, bytes out. Server and forwarder live on one loop
 * thread, and so does the zone once a server serves from it. */
#ifndef KP_DNS_H
#define KP_DNS_H

#include "lib/base/base.h"
#include "lib/loop/loop.h"

struct k8s_service;
struct k8s_endpoint_slice;
struct sockaddr_storage;

/* ---- numbers of the protocol (IANA registry "Domain Name System Parameters") ------------------------------------- */
enum dns_type {
    DNS_A = 1, DNS_NS = 2, DNS_CNAME = 5, DNS_SOA = 6, DNS_PTR = 12, DNS_HINFO = 13, DNS_MINFO = 14, DNS_MX = 15, DNS_TXT = 16,
    DNS_RP = 17, DNS_AFSDB = 18, DNS_RT = 21, DNS_AAAA = 28, DNS_SRV = 33, DNS_NAPTR = 35, DNS_KX = 36, DNS_DNAME = 39, DNS_OPT = 41,
    DNS_TSIG = 250, DNS_IXFR = 251, DNS_AXFR = 252, DNS_ANY = 255,
};
enum dns_rcode {
    DNS_NOERROR = 0, DNS_FORMERR = 1, DNS_SERVFAIL = 2, DNS_NXDOMAIN = 3, DNS_NOTIMP = 4, DNS_REFUSED = 5,
    DNS_BADVERS = 16, /* RFC 6891 6.1.3: its upper bits are in the OPT record */
};
enum { DNS_IN = 1 };
enum { DNS_QR = 0x8000, DNS_AA = 0x0400, DNS_TC = 0x0200, DNS_RD = 0x0100, DNS_RA = 0x0080, DNS_AD = 0x0020, DNS_CD = 0x0010 };
enum dns_section { DNS_QUESTION, DNS_ANSWER, DNS_AUTHORITY, DNS_ADDITIONAL, DNS_SECTIONS };

#define DNS_HEADER_LEN 12
#define DNS_NAME_MAX 255        /* bytes on the wire, RFC 1035 2.3.4 */
#define DNS_LABEL_MAX 63
#define DNS_LABELS_MAX 128
#define DNS_NAME_TEXT_MAX 1025  /* with escapes and NUL */
#define DNS_UDP_MIN 512         /* answers over UDP without EDNS, RFC 1035 2.3.4 */
#define DNS_UDP_MAX 1232        /* with EDNS: what never needs fragments */
#define DNS_TCP_MAX 65535
#define DNS_TTL_S 30
#define DNS_NEGATIVE_TTL_S 5
#define DNS_OPT_LEN 11          /* an OPT record without options */
#define DNS_CHAIN_MAX 8         /* ExternalName Services that point at each other */

/* ---- names --------------------------------------------------------------------------------------------------------- */
struct dns_name {
    uint8_t len;                /* with the root's zero byte; 0: no name */
    uint8_t wire[DNS_NAME_MAX]; /* labels with their lengths, never compressed */
};
/* Reads the name at *pos of a message and moves *pos behind it. Pointers must lead back, so reading ends. 0 or KP_EBADREQUEST. */
int dns_name_read(const uint8_t *message, size_t len, size_t *pos, struct dns_name *ret_name);
/* From "a.b.c" or "a.b.c."; no escapes. 0 or KP_EBADREQUEST. */
int dns_name_parse(const char *text, struct dns_name *ret_name);
/* Puts "label." before the name. 0 or KP_EBADREQUEST when the label or the result is too long or the label empty. */
int dns_name_prepend(struct dns_name *name, const char *label);
/* "a.b.c."; bytes that are no printable ASCII, dots and backslashes are escaped. */
void dns_name_format(const struct dns_name *name, char out[DNS_NAME_TEXT_MAX]);
void dns_name_lower(struct dns_name *name);
bool dns_name_equal(const struct dns_name *a, const struct dns_name *b); /* without regard to case */
/* Whether name is suffix or below it; *ret_labels is how many labels it has more. */
bool dns_name_below(const struct dns_name *name, const struct dns_name *suffix, size_t *ret_labels);

/* ---- queries ------------------------------------------------------------------------------------------------------- */
struct dns_query {
    uint16_t id, flags; /* flags as received */
    struct dns_name name; /* as the client spelled it; len 0 when the question could not be read */
    uint16_t type, class;
    bool edns, dnssec_ok;
    uint16_t udp_payload; /* of EDNS; else DNS_UDP_MIN */
};
enum dns_verdict { DNS_ACCEPT, DNS_DROP, DNS_REJECT };
/* DNS_DROP: no query at all (an answer, or shorter than a header). DNS_REJECT: to be answered with *ret_rcode and nothing else. */
enum dns_verdict dns_query_parse(const uint8_t *data, size_t len, struct dns_query *ret_query, enum dns_rcode *ret_rcode);

/* ---- writing ------------------------------------------------------------------------------------------------------- */
#define DNS_SUFFIXES_MAX 64
/* Writes one message into a buffer. A record that does not fit is left out whole. */
struct dns_writer {
    uint8_t *buf; /* borrowed */
    size_t len, cap;
    uint16_t counts[DNS_SECTIONS];
    uint16_t suffixes[DNS_SUFFIXES_MAX]; /* where names that may be pointed at begin */
    size_t n_suffixes;
    bool full; /* an answer or authority record was left out */
};
struct dns_ip {
    uint8_t family; /* 4 or 6; 0: none */
    uint8_t bytes[16];
};
/* Begins an answer of at most cap bytes to the query and keeps room for its OPT record. cap >= DNS_UDP_MIN. */
void dns_writer_begin(struct dns_writer *writer, uint8_t *buf, size_t cap, const struct dns_query *query);
/* Ends it: flags of DNS_AA and DNS_AD; TC is set when an answer was left out. Returns the message's length. */
size_t dns_writer_end(struct dns_writer *writer, const struct dns_query *query, uint16_t flags, enum dns_rcode rcode);
/* Drops the records written so far. */
void dns_writer_rewind(struct dns_writer *writer);
/* Each is false, and nothing was written, when there was no room. */
bool dns_put_ip(struct dns_writer *writer, enum dns_section section, const struct dns_name *owner, const struct dns_ip *ip, uint32_t ttl_s);
bool dns_put_name(struct dns_writer *writer, enum dns_section section, const struct dns_name *owner, enum dns_type type,
                  const struct dns_name *target, uint32_t ttl_s);
bool dns_put_srv(struct dns_writer *writer, enum dns_section section, const struct dns_name *owner, uint16_t weight, uint16_t port,
                 const struct dns_name *target, uint32_t ttl_s);
bool dns_put_text(struct dns_writer *writer, const struct dns_name *owner, const char *text, uint32_t ttl_s);
bool dns_put_hinfo(struct dns_writer *writer, const struct dns_name *owner); /* RFC 8482 4.2: the answer to ANY */
bool dns_put_soa(struct dns_writer *writer, enum dns_section section, const struct dns_name *zone, const struct dns_name *primary,
                 const struct dns_name *mailbox, uint32_t serial, uint32_t ttl_s);
/* A whole answer without records. */
size_t dns_write_rcode(uint8_t *buf, size_t cap, const struct dns_query *query, enum dns_rcode rcode);
/* A query to a recursive server: question of `name`, RD, EDNS with DNS_UDP_MAX, CD and DO as given. cap >= DNS_UDP_MIN. */
size_t dns_write_query(uint8_t *buf, size_t cap, uint16_t id, const struct dns_name *name, uint16_t type, bool checking_disabled,
                       bool dnssec_ok);

/* ---- answers of other servers ------------------------------------------------------------------------------------------ */
struct dns_response {
    uint16_t id, flags;
    enum dns_rcode rcode;
    bool truncated;
    uint32_t ttl_s; /* how long it may be kept: least TTL, RFC 2308 5 for negative answers; 0: not at all */
};
/* Checks a whole message: an answer to this one question, every record readable. KP_EBADREQUEST otherwise. A truncated
   one is only checked up to its question. */
int dns_response_parse(const uint8_t *data, size_t len, const struct dns_name *name, uint16_t type, struct dns_response *ret_response);
/* Writes its records anew into the writer, names decompressed, TTLs lowered by age_s, OPT and TSIG left out. The message has
   passed dns_response_parse. */
void dns_response_copy(struct dns_writer *writer, const uint8_t *data, size_t len, uint32_t age_s);

/* ---- zone ------------------------------------------------------------------------------------------------------------ */
struct dns_service; /* what one Service publishes; immutable */
/* From a Service and its slices (borrowed for the call); NULL when it publishes nothing (yet). */
struct dns_service *dns_service_build(const struct k8s_service *service, const struct k8s_endpoint_slice *const *slices, size_t n_slices);
void dns_service_free(struct dns_service *service); /* accepts NULL */

struct dns_zone;
/* domain: "cluster.local". NULL and KP_EINVALID in error when it is no name. */
struct dns_zone *dns_zone_new(const char *domain, struct kp_error *error);
void dns_zone_free(struct dns_zone *zone); /* accepts NULL */
KP_DEFINE_AUTO(struct dns_zone *, dns_zone_free)
/* service is owned from now on; NULL removes. */
void dns_zone_put_service(struct dns_zone *zone, const char *ns, const char *name, struct dns_service *service);
void dns_zone_put_namespace(struct dns_zone *zone, const char *name, bool exists);
/* Until the first call the zone's names are answered with SERVFAIL: it isn't known yet what they are. */
void dns_zone_set_synced(struct dns_zone *zone);
bool dns_zone_synced(const struct dns_zone *zone);
size_t dns_zone_services(const struct dns_zone *zone);

enum dns_outcome {
    DNS_DONE,    /* the writer holds the answer */
    DNS_FORWARD, /* none of our names: ask upstream */
    DNS_FOLLOW,  /* an alias that leads out of the zone: the CNAMEs are written, *ret_target is to be asked upstream */
};
/* What a query that was accepted gets. rotation turns the order of equal records. *ret_rcode and *ret_flags are set for
   DNS_DONE and DNS_FOLLOW. */
enum dns_outcome dns_zone_answer(const struct dns_zone *zone, const struct dns_query *query, uint32_t rotation, struct dns_writer *writer,
                                 enum dns_rcode *ret_rcode, uint16_t *ret_flags, struct dns_name *ret_target);

/* ---- cache of upstream's answers ----------------------------------------------------------------------------------------- */
#define DNS_CACHE_SLOTS 2048
#define DNS_CACHE_WAYS 4
#define DNS_CACHE_MESSAGE_MAX 1232 /* bytes; longer answers are not kept: 2.5 MB at the very most */
#define DNS_CACHE_TTL_S_MAX 30
struct dns_cache;
struct dns_cache *dns_cache_new(void);
void dns_cache_free(struct dns_cache *cache); /* accepts NULL */
/* variant: bits that make another answer to the same question (DO, CD). Borrowed until the next put; *ret_age_s is its age. */
const uint8_t *dns_cache_get(struct dns_cache *cache, const struct dns_name *name, uint16_t type, uint8_t variant, int64_t now_ms,
                             size_t *ret_len, uint32_t *ret_age_s);
/* Copies. */
void dns_cache_put(struct dns_cache *cache, const struct dns_name *name, uint16_t type, uint8_t variant, const uint8_t *data, size_t len,
                   uint32_t ttl_s, int64_t now_ms);

/* ---- upstreams ------------------------------------------------------------------------------------------------------------- */
#define DNS_UPSTREAMS_MAX 15 /* as CoreDNS */
struct dns_upstreams {
    struct sockaddr_storage *items; /* owned */
    size_t len;
};
/* The nameserver lines of a resolv.conf text; others are passed over. port is 53 but in tests. */
void dns_resolv_parse(const char *text, size_t len, uint16_t port, struct dns_upstreams *ret_upstreams);
/* Drops those that are this server: addresses of this machine, when it listens on own_port == their port. */
void dns_upstreams_drop_self(struct dns_upstreams *upstreams, uint16_t own_port);
void dns_upstreams_done(struct dns_upstreams *upstreams);

struct dns_forwarder;
#define DNS_FORWARDS_MAX 512
#define DNS_FORWARD_TRIES 3
#define DNS_FORWARD_TRY_MS 1500 /* three of them stay below the resolver libraries' 5 s */
/* data is NULL when upstream gave no answer in time, or there are too many queries on the way; else a message that passed
   dns_response_parse. Called exactly once, possibly inside dns_forward. */
typedef void (*dns_forward_fn)(const uint8_t *data, size_t len, uint32_t age_s, void *arg);
/* All on the loop's thread. */
struct dns_forwarder *dns_forwarder_new(struct loop *loop, struct dns_upstreams *upstreams /* taken over */);
void dns_forwarder_free(struct dns_forwarder *forwarder); /* queries on the way end with NULL; accepts NULL */
void dns_forwarder_set(struct dns_forwarder *forwarder, struct dns_upstreams *upstreams /* taken over */);
void dns_forward(struct dns_forwarder *forwarder, const struct dns_name *name, uint16_t type, bool checking_disabled, bool dnssec_ok,
                 dns_forward_fn fn, void *arg);

/* ---- server ------------------------------------------------------------------------------------------------------------------- */
#define DNS_TCP_CONNECTIONS_MAX 256
#define DNS_TCP_PENDING_MAX 64            /* queries of one connection that wait for upstream; then reading stops */
#define DNS_TCP_QUEUED_MAX ((size_t)256 << 10) /* bytes the peer did not take; then reading stops */
#define DNS_TCP_IDLE_MS 10000             /* RFC 7766 6.2.3 */
struct dns_server;
/* Binds UDP and TCP of the same port (0: any). zone and forwarder are borrowed. */
int dns_server_new(struct loop *loop, const char *address, uint16_t port, struct dns_zone *zone, struct dns_forwarder *forwarder,
                   struct dns_server **ret_server, struct kp_error *error) KP_NODISCARD;
uint16_t dns_server_port(const struct dns_server *server);
void dns_server_free(struct dns_server *server); /* after the forwarder; accepts NULL */

#endif
