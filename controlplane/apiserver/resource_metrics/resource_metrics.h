/* controlplane/apiserver/resource_metrics: what nodes and pods use at present, asked of the kubelets when somebody wants to know. It is what answers
   metrics.k8s.io/v1beta1 as long as no APIService hands that to a server of the user's (metrics-server). Nothing runs, and after a while nothing is
   kept, when nobody asks.

   The texts, the 404s, and what is left out are metrics-server's (kubernetes-sigs/metrics-server, pkg/api and pkg/storage). Numbers come from
   /stats/summary, which tells rates, so that the first answer needs no second look some seconds later; any kubelet has it. */
#ifndef APISERVER_RESOURCE_METRICS_H
#define APISERVER_RESOURCE_METRICS_H

#include "api/k8s.h"
#include "lib/codec/codec.h"
#include "lib/loop/loop.h"

struct tls_context;

#define RESOURCE_METRICS_GROUP "metrics.k8s.io"
#define RESOURCE_METRICS_KEEP_MS 10000        /* an answer of a node, or its failure, serves whoever asks within this time */
#define RESOURCE_METRICS_TIMEOUT_MS 5000      /* a node that takes longer is left out */
#define RESOURCE_METRICS_FORGET_MS 120000     /* what was not asked for so long is let go */
#define RESOURCE_METRICS_WORKERS_MAX 100      /* nodes asked at once */
#define RESOURCE_METRICS_NODES_MAX 10000      /* nodes that wait to be asked; more are left out */
#define RESOURCE_METRICS_BYTES_MAX ((size_t)16 << 20) /* of one node's answer */
#define RESOURCE_METRICS_WINDOW_S 10          /* what kubelets average over, when two answers do not tell */
#define RESOURCE_METRICS_WINDOW_S_MAX 60

struct resource_metrics_config {
    struct loop *loop;         /* borrowed until resource_metrics_free; runs in a thread of its own */
    struct tls_context *tls;   /* client certificate for kubelets, borrowed likewise; may be NULL with endpoints in the clear */
    int64_t (*now_ms)(void);   /* NULL: kp_mono_ms; for tests */
};
struct resource_metrics;
struct resource_metrics *resource_metrics_new(const struct resource_metrics_config *config);
void resource_metrics_free(struct resource_metrics *metrics); /* accepts NULL; nobody may be asking */

/* What one node said: immutable, counted. */
struct resource_metrics_sample {
    int refs; /* atomic */
    struct kp_arena *arena;
    const struct k8s_stats_summary *summary;
    int64_t window_s;
};
void resource_metrics_sample_unref(struct resource_metrics_sample *sample); /* accepts NULL */
KP_DEFINE_AUTO(struct resource_metrics_sample *, resource_metrics_sample_unref)

struct resource_metrics_node {
    const char *name, *endpoint; /* "https://10.0.0.1:10250"; borrowed for the call */
};
/* Asks all nodes at once, or takes what they said a moment ago; who asks for the same node meanwhile shares the answer. ret_samples has a place for each:
   a reference, or NULL for one that failed or was late, which has been logged. Blocks for a little more than RESOURCE_METRICS_TIMEOUT_MS at most. */
void resource_metrics_ask(struct resource_metrics *metrics, const struct resource_metrics_node *nodes, size_t count,
                          struct resource_metrics_sample **ret_samples);

/* ---- samples as API objects; pure --------------------------------------------------------------------------------------------- */
/* 0 and the sample with one reference, which takes its window from the time between prev (may be NULL) and itself; or the error of a malformed answer. */
int resource_metrics_decode(const char *text, size_t len, const struct resource_metrics_sample *prev, struct resource_metrics_sample **ret_sample,
                            struct kp_error *error) KP_NODISCARD;
/* False when the node did not tell both. Borrows name and labels; the rest is in arena. */
bool resource_metrics_of_node(const struct resource_metrics_sample *sample, const char *name, const struct kp_string_map *labels, int64_t now_s,
                              struct kp_arena *arena, struct k8s_node_metrics *ret);
/* False when the node knows no such pod, or not both numbers of each of its containers. */
bool resource_metrics_of_pod(const struct resource_metrics_sample *sample, const char *ns, const char *name, const struct kp_string_map *labels,
                             int64_t now_s, struct kp_arena *arena, struct k8s_pod_metrics *ret);

#endif
