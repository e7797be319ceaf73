/* kube-scheduler's parts: a cache of nodes as flat structs, filters and scores as tables over it, and the queue of pods.
 *
 * Filters and scores are pure: data in, data out. Names of plugins, reasons and weights are upstream's. */
#ifndef KP_SCHEDULER_H
#define KP_SCHEDULER_H

#include "api/k8s.h"
#include "lib/client/client.h"

/* ---- resources ------------------------------------------------------------------------------------------------------ */
#define SCHED_EXTENDED_MAX 16 /* extended resources (devices, huge pages) of one pod or node */
struct sched_resources {
    int64_t milli_cpu, memory, ephemeral_storage; /* thousandths, bytes, bytes */
    struct {
        const char *name; /* borrowed from the object it was read from */
        int64_t value;
    } extended[SCHED_EXTENDED_MAX];
    size_t n_extended;
};

struct sched_port {
    char protocol[8];
    char host_ip[46]; /* "0.0.0.0" when any */
    int32_t port;
};

/* What a pod says of other pods: a term of its affinity. */
struct sched_term {
    const char *topology_key;
    struct kp_selector pods, namespaces;  /* the second by their labels */
    struct kp_string_list named;          /* namespaces by name; the pod's own when it says nothing of namespaces */
    int64_t weight;                       /* of what it would rather have */
};
struct sched_terms {
    struct sched_term *items;
    size_t len;
};
struct sched_wishes {
    struct sched_terms near, away, rather_near, rather_away;
};

/* What scheduling needs of a pod, computed once. Borrows from the pod. */
struct sched_pod {
    const struct k8s_pod *pod;
    int32_t priority;
    struct sched_resources requests; /* max(init containers, sum of containers) + overhead */
    struct sched_resources nonzero;  /* with upstream's defaults of 100 m CPU and 200 MB for scores */
    struct sched_port *ports;
    size_t n_ports;
    struct sched_wishes *wishes; /* NULL: none about other pods */
    bool has_claims; /* some of its volumes are claims */
};
void sched_pod_init(struct sched_pod *out, const struct k8s_pod *pod, struct kp_arena *arena);
void sched_resources_add(struct sched_resources *total, const struct sched_resources *more, int sign);

/* ---- nodes ----------------------------------------------------------------------------------------------------------- */
struct sched_assigned { /* a pod on a node, bound or assumed */
    struct client_object *object; /* a reference; NULL after assumption of a pod that the informer has not shown bound */
    char *key;                    /* "ns/name" */
    char *uid;
    struct kp_arena *arena;
    struct sched_pod info;
    bool assumed;
};

struct sched_node {
    char *name;
    struct client_object *object; /* a reference; NULL: pods are known here but the node is not */
    const struct k8s_node *node;
    struct sched_resources allocatable, requested, nonzero;
    int64_t pods_allowed;
    struct sched_assigned *pods;
    size_t n_pods, cap_pods;
};

/* A pod that waits for room on a node, where others are about to go for it: no pod of lower priority may have that room. */
struct sched_nomination {
    struct sched_assigned pod;
    char *node;
};

struct sched_cache; /* thread-safe through its lock: take it around everything below */
struct sched_cache *sched_cache_new(void);
void sched_cache_free(struct sched_cache *cache);
void sched_cache_lock(struct sched_cache *cache);
void sched_cache_unlock(struct sched_cache *cache);
void sched_cache_set_node(struct sched_cache *cache, struct client_object *object); /* takes a reference */
void sched_cache_remove_node(struct sched_cache *cache, const char *name);
void sched_cache_set_pod(struct sched_cache *cache, struct client_object *object); /* bound pods; replaces an assumed one */
void sched_cache_remove_pod(struct sched_cache *cache, const char *ns, const char *name);
/* Counts the pod on the node until the informer shows it bound, or sched_cache_remove_pod. */
void sched_cache_assume(struct sched_cache *cache, struct client_object *object, const char *node);
/* Until the pod is assumed, shown bound or removed, or the nomination is forgotten. */
void sched_cache_nominate(struct sched_cache *cache, struct client_object *object, const char *node);
void sched_cache_forget_nomination(struct sched_cache *cache, const char *ns, const char *name);
void sched_cache_set_namespace(struct sched_cache *cache, struct client_object *object); /* takes a reference */
void sched_cache_remove_namespace(struct sched_cache *cache, const char *name);
/* The pod is assumed to be on a node and not shown bound yet. */
bool sched_cache_is_assumed(const struct sched_cache *cache, const struct client_object *object);
struct sched_storage; /* volumes_internal.h */
struct sched_storage *sched_cache_storage(struct sched_cache *cache); /* under its lock, too */

/* What a decision looks at; valid while the cache is locked. */
struct sched_cluster {
    struct sched_node *const *nodes; /* known ones in the order they came */
    size_t n;
    const struct kp_strmap *namespaces; /* struct client_object by name */
    const struct sched_nomination *nominations;
    size_t n_nominations;
    const struct sched_storage *storage;
};
struct sched_cluster sched_cache_cluster(const struct sched_cache *cache);

/* ---- other pods --------------------------------------------------------------------------------------------------------- */
/* Whether a pod's spec depends on where other pods are: a pod that comes may make it fit. */
bool sched_minds_others(const struct k8s_pod *pod);
/* NULL when the pod says nothing of others. */
struct sched_wishes *sched_wishes_of(const struct k8s_pod *pod, struct kp_arena *arena);
/* matchLabelKeys and mismatchLabelKeys: a key that the pod has itself becomes a requirement, KP_SEL_IN or KP_SEL_NOT_IN. */
void sched_selector_add_keys(struct kp_selector *selector, const struct kp_string_list *keys, const struct k8s_pod *pod, enum kp_selector_op op,
                             struct kp_arena *arena);
bool sched_term_matches(const struct sched_term *term, const struct k8s_pod *pod, const struct sched_cluster *cluster);

/* How many pods there are by "label of the node, value": topologies' pairs. */
struct sched_pairs;
struct sched_pairs *sched_pairs_new(void);
void sched_pairs_free(struct sched_pairs *pairs); /* accepts NULL */
void sched_pairs_add(struct sched_pairs *pairs, const char *key, const char *value, int64_t n);
bool sched_pairs_has(const struct sched_pairs *pairs, const char *key, const char *value);
int64_t sched_pairs_get(const struct sched_pairs *pairs, const char *key, const char *value); /* 0: none */
size_t sched_pairs_len(const struct sched_pairs *pairs);
const char *sched_node_label(const struct sched_node *node, const char *key); /* or NULL */

/* InterPodAffinity: counted once for a pod, then asked for each node. */
struct sched_affinity;
struct sched_affinity *sched_affinity_new(const struct sched_pod *pod, const struct sched_cluster *cluster);
void sched_affinity_free(struct sched_affinity *affinity);
/* sign 1: the pod `there` came to the node; -1: it went. */
void sched_affinity_count(struct sched_affinity *affinity, const struct sched_node *node, const struct sched_pod *there, int sign);
/* Why, or NULL. *ret_final: no pod's going would make it fit. */
const char *sched_affinity_refuses(const struct sched_affinity *affinity, const struct sched_node *node, bool *ret_final);
/* Into scores, 0 to 100, of the n nodes that fit. */
void sched_affinity_score(const struct sched_pod *pod, const struct sched_cluster *cluster, struct sched_node *const *nodes, size_t n,
                          int64_t *scores);

/* PodTopologySpread, likewise. A pod without constraints has upstream's defaults in its score: zones (skew 5) and hosts (3), over the pods of its
   controller. */
struct sched_spread;
struct sched_spread *sched_spread_new(const struct sched_pod *pod, const struct sched_cluster *cluster, struct kp_arena *arena);
void sched_spread_free(struct sched_spread *spread);
void sched_spread_count(struct sched_spread *spread, const struct sched_node *node, const struct sched_pod *there, int sign);
const char *sched_spread_refuses(const struct sched_spread *spread, const struct sched_node *node, bool *ret_final);
void sched_spread_score(const struct sched_pod *pod, const struct sched_cluster *cluster, struct sched_node *const *nodes, size_t n,
                        int64_t *scores, struct kp_arena *arena);

/* ---- volumes ------------------------------------------------------------------------------------------------------------ */
enum sched_storage_kind { SCHED_CLAIMS, SCHED_VOLUMES, SCHED_CLASSES, SCHED_CSI_NODES, SCHED_CSI_DRIVERS, SCHED_CAPACITIES, SCHED_ATTACHMENTS, SCHED_STORAGE_KINDS };
bool sched_has_claims(const struct k8s_pod *pod);
bool sched_uses_claim(const struct k8s_pod *pod, const char *ns, const char *name);

/* VolumeRestrictions, NodeVolumeLimits, VolumeBinding and VolumeZone: a pod's claims, read once, then asked for each node. */
struct sched_claims;
/* NULL when the pod has none. Lives in the arena and borrows from the cluster. */
struct sched_claims *sched_claims_new(const struct sched_pod *pod, const struct sched_cluster *cluster, struct kp_arena *arena);
/* Why no node will do, whichever it is; or NULL. claims may be NULL, as in the next. */
const char *sched_claims_refusal(const struct sched_claims *claims);
void sched_claims_count(struct sched_claims *claims, const struct sched_pod *there, int sign);

/* What is done before the pod is bound: each claim is given a volume, or one is asked for. Owns its references. */
struct sched_volume_step {
    struct client_object *claim, *volume; /* volume NULL: its provisioner makes one */
    int64_t version;                      /* that the write gave; 0: not written yet */
};
struct sched_volume_plan {
    struct sched_volume_step *items;
    size_t len;
    char *node;
};
/* Of a pod that was decided to go to the node; no steps when all its claims are bound. */
void sched_volume_plan_make(const struct sched_pod *pod, const struct sched_cluster *cluster, const char *node, struct kp_arena *arena,
                            struct sched_volume_plan *ret);
void sched_volume_plan_done(struct sched_volume_plan *plan);
/* 1: all is bound, 0: not yet, negative: it never will be, and why. */
int sched_volume_plan_state(const struct sched_volume_plan *plan, const struct sched_cluster *cluster, struct kp_error *error);

/* ---- filters ---------------------------------------------------------------------------------------------------------- */
/* What filters look at besides the node. */
struct sched_question {
    const struct sched_pod *pod;
    const struct sched_cluster *cluster;
    struct sched_spread *spread;
    struct sched_affinity *affinity;
    struct sched_claims *claims;
};
void sched_question_init(struct sched_question *ret, const struct sched_pod *pod, const struct sched_cluster *cluster, struct kp_arena *arena);
void sched_question_done(struct sched_question *question);

#define SCHED_REASON_MAX 256
#define SCHED_REASONS_MAX 8
struct sched_reasons { /* why one plugin refused a node, in upstream's words; lacking resources are told one by one */
    const char *plugin;
    bool final; /* no pod's going would make it fit: upstream's UnschedulableAndUnresolvable */
    size_t n;
    char text[SCHED_REASONS_MAX][SCHED_REASON_MAX];
};
void sched_refuse(struct sched_reasons *reasons, const char *format, ...) KP_PRINTF(2, 3);
bool sched_claims_allow(const struct sched_claims *claims, const struct sched_node *node, struct sched_reasons *ret);
/* True when the node fits; else *ret is filled by the first plugin that said no. */
bool sched_filter(const struct sched_question *question, const struct sched_node *node, struct sched_reasons *ret);
/* The same, with those nominated to the node that are at least as important as the pod counted as being there, and without. */
bool sched_fits(const struct sched_question *question, const struct sched_node *node, struct sched_reasons *ret);

/* What if: a copy of a node from which pods are taken or to which they are brought, while the question's counts of others follow. The node that it is
   made of, the pods and the question must outlive it. */
struct sched_trial {
    struct sched_node node;
    const struct sched_node *real;
    const struct sched_question *question;
};
/* more: as many pods may be brought at most. */
void sched_trial_begin(struct sched_trial *ret, const struct sched_question *question, const struct sched_node *node, size_t more);
void sched_trial_take(struct sched_trial *trial, const struct sched_assigned *pod);
void sched_trial_bring(struct sched_trial *trial, const struct sched_assigned *pod);
void sched_trial_end(struct sched_trial *trial); /* the question's counts are as they were */

/* ---- scores ------------------------------------------------------------------------------------------------------------ */
/* Scores every candidate 0 to 100 by each plugin, weighs and sums. scores has n entries. */
void sched_score(const struct sched_pod *pod, const struct sched_cluster *cluster, struct sched_node *const *nodes, size_t n, int64_t *scores,
                 struct kp_arena *arena);

/* ---- a decision --------------------------------------------------------------------------------------------------------- */
/* Reasons, counted over nodes; zero to begin with. Borrows nothing. */
struct sched_tally {
    struct sched_tally_line {
        const char *text;
        size_t count;
    } *items;
    size_t len;
};
void sched_tally_add(struct sched_tally *tally, const char *text, struct kp_arena *arena);
/* "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had ...": sorted as strings, as upstream's FitError. */
const char *sched_tally_text(const struct sched_tally *tally, size_t n_nodes, struct kp_arena *arena);

struct sched_decision {
    const char *node;    /* NULL: none fits */
    const char *message; /* why: "0/3 nodes are available: 1 Insufficient cpu, ..."; in the arena */
    const bool *final;   /* none fits: of each of the cluster's nodes, whether no pod's going would help; in the arena */
};
/* tie: chooses among equals; a random number from the caller. A pod that is nominated to a node goes there if it fits. */
void sched_decide(const struct sched_pod *pod, const struct sched_cluster *cluster, uint64_t tie, struct kp_arena *arena,
                  struct sched_decision *ret);

/* The number among the cluster's nodes of the one that the pod is nominated to; cluster->n: none. */
size_t sched_nominated_node(const struct sched_pod *pod, const struct sched_cluster *cluster);

/* ---- preemption ---------------------------------------------------------------------------------------------------------- */
/* Upstream's DefaultPreemption: the node where the least important pods have to go for this one. */
struct sched_preemption {
    const struct sched_node *node; /* NULL: none */
    const struct sched_assigned **victims; /* the most important first; in the arena */
    size_t n_victims;
    const char *message; /* why none, or NULL */
    bool waits; /* victims of an earlier preemption are going: its nomination stays */
};
/* decision: of the same pod and cluster, which found no node. budgets: all there are. tie: where to begin when not all nodes are looked at. */
void sched_preempt(const struct sched_pod *pod, const struct sched_cluster *cluster, const struct sched_decision *decision,
                   const struct k8s_pod_disruption_budget *const *budgets, size_t n_budgets, uint64_t tie, struct kp_arena *arena,
                   struct sched_preemption *ret);

/* What is done of it through the API: references to who goes, and to whom a less important nomination is taken away. */
struct sched_room {
    struct client_object *pod;
    char *node;
    struct client_object **victims, **displaced;
    size_t n_victims, n_displaced;
};
/* Takes references and nominates the pod in the cache; the displaced lose their nomination there. The cache is locked. */
void sched_room_init(struct sched_room *ret, struct sched_cache *cache, struct client_object *pod, const struct sched_preemption *preemption);
/* Tells the victims why they go, deletes them, and takes the nomination from the displaced. 0, or the first failure's code; what is gone already is no
   failure. */
int sched_room_make(const struct sched_room *room, struct client *client, struct client_recorder *recorder, struct kp_error *error);
void sched_room_done(struct sched_room *room);

/* ---- the queue ------------------------------------------------------------------------------------------------------------ */
/* Pods wait in one of three places: active (by priority, then age), back-off (1 s doubling to 10 s), unschedulable (until a
   cluster event or five minutes). */
struct sched_queue;
struct sched_queue *sched_queue_new(void);
void sched_queue_free(struct sched_queue *queue);
/* A new or changed pod that is not bound: takes a reference. */
void sched_queue_add(struct sched_queue *queue, struct client_object *object);
void sched_queue_remove(struct sched_queue *queue, const char *ns, const char *name);
/* Blocks; the most urgent pod (a reference), or NULL after shutdown. *ret_cycle is handed back to the calls below. */
struct client_object *sched_queue_pop(struct sched_queue *queue, uint64_t *ret_cycle);
/* No node fitted: waits for an event, or goes to back-off when one came since the pop. */
void sched_queue_unschedulable(struct sched_queue *queue, struct client_object *object, uint64_t cycle);
/* Something failed that has nothing to do with fitting: back-off. */
void sched_queue_retry(struct sched_queue *queue, struct client_object *object);
/* This very pod is gone: another of its name is left alone. */
void sched_queue_drop(struct sched_queue *queue, const struct client_object *object);
/* The pod was bound: forgets its attempts. */
void sched_queue_done(struct sched_queue *queue, const char *ns, const char *name);
/* Something changed that may make pods fit. */
void sched_queue_move_all(struct sched_queue *queue);
/* The same for those that mind others alone: a pod came somewhere. */
void sched_queue_move_minding(struct sched_queue *queue);
/* The same for those with claims alone; of one claim when ns is not NULL. */
void sched_queue_move_claiming(struct sched_queue *queue, const char *ns, const char *claim);
void sched_queue_shutdown(struct sched_queue *queue);

/* ---- binding ------------------------------------------------------------------------------------------------------------- */
/* What was decided is carried out in the background: volumes first, then, once they are bound, the pod. */
struct sched_binder;
struct sched_binder_config { /* all borrowed */
    struct client *client;
    struct client_recorder *recorder;
    struct client_informer *pods;
    struct sched_cache *cache;
    struct sched_queue *queue;
    struct kp_metric *attempts;
};
int sched_binder_new(const struct sched_binder_config *config, struct sched_binder **ret_binder, struct kp_error *error) KP_NODISCARD;
/* Of a pod that the cache assumes there. Takes a reference, and the plan over, whose promises the cache has. */
void sched_binder_bind(struct sched_binder *binder, struct client_object *object, const char *node, struct sched_volume_plan *plan);
void sched_binder_wake(struct sched_binder *binder); /* claims or volumes have changed. Any thread; does not block */
void sched_binder_free(struct sched_binder *binder); /* accepts NULL */

#endif
