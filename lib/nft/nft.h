/* lib/nft: nftables scripts run as one transaction (libnftables wrapped here alone). */
#ifndef KP_NFT_H
#define KP_NFT_H

#include "lib/base/base.h"

struct nft; /* one context; one thread at a time */
struct nft *nft_new(void);
void nft_free(struct nft *nft); /* accepts NULL */
KP_DEFINE_AUTO(struct nft *, nft_free)
/* Runs a script in nft(8)'s language atomically: all of it or nothing. KP_EIO with nft's own words and the line at fault. */
int nft_apply(struct nft *nft, const char *script, struct kp_error *error) KP_NODISCARD;

/* A table as what changes in it: chains, and elements of sets and verdict maps. One state of it becomes the next by a script. */
struct nft_rules;
struct nft_rules *nft_rules_new(void);
void nft_rules_free(struct nft_rules *rules); /* accepts NULL */
KP_DEFINE_AUTO(struct nft_rules *, nft_rules_free)
/* body: rules, one a line. The last of a name wins. */
void nft_rules_add_chain(struct nft_rules *rules, const char *name, const char *body);
bool nft_rules_has_chain(const struct nft_rules *rules, const char *name);
/* verdict NULL: an element of a set. The first of a key wins. */
void nft_rules_add_element(struct nft_rules *rules, const char *map, const char *key, const char *verdict);
/* Appends the script from old to new; nothing when they are equal. old NULL: what the kernel has is not known, and the table is made anew: base has the
   commands that make its sets, maps, hooks and what never changes. table: family and name, "ip kube-proxy". */
void nft_rules_script(const char *table, const char *base, const struct nft_rules *old, const struct nft_rules *new, struct kp_buf *out);

#endif
