/* The rule set: what rules.c builds and script.c compares. */
#ifndef KUBE_PROXY_RULES_INTERNAL_H
#define KUBE_PROXY_RULES_INTERNAL_H

#include "lib/nft/nft.h"
#include "nodeimage/kube-proxy/proxy.h"

struct proxy_rules {
    struct nft_rules *nft;
    size_t n_services;
};

struct proxy_rules *proxy_rules_new(void);

#endif
