/* A lease that is kept: messages, times, and what changes with them. */
#ifndef KPROV_DHCP_INTERNAL_H
#define KPROV_DHCP_INTERNAL_H

#include "init_internal.h"

/* ---- dhcp_message.c */
#define DHCP_MESSAGE_MAX 576 /* RFC 2131 2: what everybody takes */
#define DHCP_ANSWER_MAX 1500 /* of one Ethernet frame */
struct dhcp_client {
    uint8_t hardware[6];
};
struct dhcp_answer {
    bool refused;             /* the address is not ours any more; nothing else counts then */
    uint32_t address, server; /* host order */
    uint32_t lease_s, t1_s, t2_s; /* t1 and t2: 0 when not said */
};
/* A request to keep an address, as in RENEWING and REBINDING; its length. */
size_t dhcp_request(const struct dhcp_client *client, uint32_t xid, uint32_t address, uint8_t out[DHCP_MESSAGE_MAX]);
/* KP_EINVALID: no answer to that request. `answer` gets the lines that udhcpc's script writes, of an address that is kept. */
int dhcp_parse(const struct dhcp_client *client, uint32_t xid, const uint8_t *data, size_t len, struct dhcp_answer *ret, struct kp_buf *answer);

/* ---- dhcp_lease.c: RFC 2131 4.4.5. Pure.
 *
 *   BOUND --T1--> RENEWING --T2--> REBINDING --end--> EXPIRED
 *     ^------------- answer ----------'
 */
enum dhcp_state { DHCP_BOUND, DHCP_RENEWING, DHCP_REBINDING, DHCP_EXPIRED };
struct dhcp_lease {
    enum dhcp_state state;
    int64_t t1_ms, t2_ms, end_ms; /* by the caller's clock */
    int64_t next_ms;              /* when something is to be done */
};
/* Times that make no sense are the standard's: half, and seven eighths. An endless lease (0xffffffff) ends in 136 years. */
void dhcp_lease_begin(struct dhcp_lease *lease, int64_t now_ms, uint32_t lease_s, uint32_t t1_s, uint32_t t2_s);
/* At next_ms, or early to renew at once. Moves on; true: a request is to be sent, to the server (RENEWING) or to all (REBINDING). */
bool dhcp_lease_due(struct dhcp_lease *lease, int64_t now_ms);
void dhcp_lease_hurry(struct dhcp_lease *lease, int64_t now_ms); /* as if T1 had come */

/* ---- dhcp.c */
/* What takes a machine from one answer to the next, as commands of `ip -batch`: routes that are in it no more, an address that is another. Pure. */
int dhcp_change_commands(const char *link, int index, const char *before, const char *after, struct kp_buf *batch, struct kp_buf *gone, struct kp_error *error);
const char *dhcp_value(const char *answer, const char *key, struct kp_arena *arena);
/* Asks anew on one link by udhcpc and sets what it gives; the answer stays at dhcp_answer_path. */
int dhcp_ask(const char *link, int index, struct kp_buf *resolv_conf, struct kp_buf *time_servers, struct kp_error *error);
char *dhcp_answer_path(const char *link); /* the caller's */
int dhcp_run_ip(const char *batch, bool go_on, struct kp_error *error);

#endif
