/* The rule set: what rules.c builds and script.c compares. */
#ifndef KUBE_PROXY_RULES_INTERNAL_H
#define KUBE_PROXY_RULES_INTERNAL_H

#include "nodeimage/kube-proxy/proxy.h"

struct proxy_rules {
    struct kp_strmap *chains;   /* name -> char *: rules, one a line */
    struct kp_strmap *elements; /* "map|key" -> char *: verdict, "" in sets */
    size_t n_services;
};

struct proxy_rules *proxy_rules_new(void);
void proxy_rules_add_chain(struct proxy_rules *rules, const char *name, const char *body);
void proxy_rules_add_element(struct proxy_rules *rules, const char *map, const char *key, const char *verdict); /* the first of a key wins */

#endif
