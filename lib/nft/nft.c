/* Transactions through libnftables. */
#include "lib/nft/nft.h"

#include <nftables/libnftables.h>

struct nft {
    struct nft_ctx *ctx;
};

struct nft *nft_new(void)
{
    struct nft *nft = kp_calloc(1, sizeof(*nft));
    nft->ctx = nft_ctx_new(NFT_CTX_DEFAULT);
    KP_ASSERT(nft->ctx);
    nft_ctx_buffer_error(nft->ctx);
    nft_ctx_buffer_output(nft->ctx);
    return nft;
}

void nft_free(struct nft *nft)
{
    if (!nft)
        return;
    nft_ctx_free(nft->ctx);
    free(nft);
}

int nft_apply(struct nft *nft, const char *script, struct kp_error *error)
{
    int rc = nft_run_cmd_from_buffer(nft->ctx, script);
    const char *text = nft_ctx_get_error_buffer(nft->ctx);
    nft_ctx_get_output_buffer(nft->ctx);
    if (rc != 0)
        return kp_fail(error, KP_EIO, "nftables: %s", kp_empty(text) ? "the kernel refused the transaction" : text);
    return 0;
}
