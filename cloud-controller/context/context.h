/* cloud-controller/context: what every controller of the cloud-controller-manager works with. */
#ifndef CCM_CONTEXT_H
#define CCM_CONTEXT_H

#include "api/k8s.h"
#include "lib/client/client.h"
#include "lib/cloud/cloud.h"

#define CCM_TAINT_UNINITIALIZED "node.cloudprovider.kubernetes.io/uninitialized"
#define CCM_TAINT_SHUTDOWN "node.cloudprovider.kubernetes.io/shutdown"

struct ccm_options {
    const char *controllers;   /* "*,-node-route-controller": upstream's names; NULL: all */
    const char *cluster_uid;   /* of all that is asked of the cloud */
    const char *cluster_cidr;  /* of pods, IPv4: routes outside of it are not touched; NULL or "": no routes are made */
    const char *addresses;     /* that nodes hold for LoadBalancer Services themselves; NULL or "": none */
    bool cloud_routes;         /* --configure-cloud-routes */
    int64_t service_workers, node_workers;
    int64_t node_monitor_ms;   /* between looks at nodes that are not ready */
    int64_t route_ms;          /* between comparisons of the routes */
    int64_t node_status_ms;    /* between comparisons of the nodes' addresses */
    int64_t service_resync_ms; /* after which a Service is compared in full, and orphans are looked for */
    int64_t pending_ms;        /* after which a cloud that is still at work is asked again */
    int64_t retry_ms, retry_max_ms; /* after a failure: doubling from the one to the other */
};

/* All borrowed. */
struct ccm_context {
    const struct ccm_options *options;
    struct client *client;
    struct cloud *cloud; /* NULL: there is none */
    struct client_informer *nodes, *services;
};

/* How long to wait after a failure: what the other side asked for, else by the number of failures in a row (from 1). */
int64_t ccm_retry_ms(const struct ccm_options *options, int failures, const struct kp_error *error);
/* Not worth a warning: the next look will be at a newer version. */
bool ccm_is_stale(int code);

/* ---- taints.c */
bool ccm_has_taint(const struct k8s_node *node, const char *key);
/* Appends the node's taints without those of the key, and with a NoSchedule one of it when add: a JSON list, or null when it would be empty. */
void ccm_print_taints(const struct k8s_node *node, const char *key, bool add, struct kp_buf *out);
/* Whether the kubelet says that it is ready. */
bool ccm_is_ready(const struct k8s_node *node);
const struct k8s_node_condition *ccm_condition(const struct k8s_node *node, const char *type);

/* ---- failures.c: how often in a row something failed, by key. Thread-safe. */
struct ccm_failures;
struct ccm_failures *ccm_failures_new(void);
void ccm_failures_free(struct ccm_failures *failures); /* accepts NULL */
int ccm_failures_add(struct ccm_failures *failures, const char *key); /* the number with this one */
void ccm_failures_forget(struct ccm_failures *failures, const char *key);

/* ---- ticker.c: a thread that does something at once and then every period_ms, counted from the end of the last time. */
struct ccm_ticker;
/* do_it gives the time until the next one in ms, or 0: period_ms. */
int ccm_ticker_start(int64_t period_ms, int64_t (*do_it)(void *arg), void *arg, struct ccm_ticker **ret, struct kp_error *error) KP_NODISCARD;
void ccm_ticker_stop(struct ccm_ticker *ticker); /* waits for the one under way; accepts NULL */

#endif
