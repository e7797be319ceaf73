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

#endif
