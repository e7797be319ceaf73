/* A cluster of Raft cores on an in-memory network and disks, for scenarios and for randomised safety tests. */
#ifndef TESTS_SUPPORT_RAFT_CLUSTER_H
#define TESTS_SUPPORT_RAFT_CLUSTER_H

#include "controlplane/etcd/raft/raft.h"

#define CLUSTER_NODES_MAX 9

/* A state machine: a running hash over everything applied. */
struct cluster_state {
    uint64_t applied, hash;
    struct raft_conf_state conf;
};
/* What a crash leaves. */
struct cluster_disk {
    struct raft_hard_state hard_state;
    uint64_t snapshot_index, snapshot_term;
    struct raft_entry *entries;
    size_t entries_len;
    struct cluster_state state; /* the state machine's own durable storage */
};
struct cluster_node {
    uint64_t id;
    struct raft_config config; /* the options; what the disk holds is filled in at start */
    struct cluster_disk disk;
    struct raft *raft; /* NULL: down */
    struct cluster_state live;
};
/* Where to lose power while a ready is handled. */
enum cluster_crash {
    CRASH_NEVER,
    CRASH_BEFORE_WRITE,    /* messages that may leave early have left */
    CRASH_TORN_WRITE,      /* some of the entries are durable, the rest and the hard state are not */
    CRASH_AFTER_WRITE,     /* durable, but no promise was sent */
    CRASH_AFTER_PROMISES,  /* sent, nothing applied, not advanced */
    CRASH_POINTS,
};
struct cluster {
    struct cluster_node nodes[CLUSTER_NODES_MAX];
    size_t nodes_len;
    struct raft_message *network; /* in the order of sending */
    size_t network_len, network_cap;
    bool cut[CLUSTER_NODES_MAX + 1][CLUSTER_NODES_MAX + 1]; /* [from][to]: messages are lost */
    struct kp_buf *trace; /* NULL: silent; borrowed */
    uint64_t random;      /* the state of its generator */
    /* Told of everything a member applies, restores (entry NULL) or becomes; ctx is observer_ctx. */
    void (*on_apply)(void *ctx, struct cluster_node *node, const struct raft_entry *entry);
    void (*on_ready)(void *ctx, struct cluster_node *node, const struct raft_ready *ready);
    void *observer_ctx;
};
void cluster_init(struct cluster *cluster, uint64_t seed);
void raft_cluster_done(struct cluster *cluster);
uint64_t cluster_random(struct cluster *cluster, uint64_t bound);
/* config's options are copied; conf empty: a member that will be added later. Starts it. */
struct cluster_node *cluster_add(struct cluster *cluster, const struct raft_config *config);
struct cluster_node *cluster_node(struct cluster *cluster, uint64_t id); /* NULL: unknown */
void cluster_start(struct cluster *cluster, struct cluster_node *node);
void cluster_crash_node(struct cluster *cluster, struct cluster_node *node);
/* Handles one ready; false when there was none. Crashing leaves the node down. */
bool cluster_ready(struct cluster *cluster, struct cluster_node *node, enum cluster_crash crash);
/* Takes message i off the network and steps its receiver with it (keep: leaves a copy on the network). */
void cluster_deliver(struct cluster *cluster, size_t i, bool keep);
void cluster_drop(struct cluster *cluster, size_t i);
/* Handles readies and delivers everything until nothing moves; false when max rounds did not settle it. */
bool cluster_settle(struct cluster *cluster, size_t rounds_max);
/* Makes the state machine durable and forgets the log up to index. */
void cluster_compact(struct cluster *cluster, struct cluster_node *node, uint64_t index);
/* One line of text, for traces. */
void cluster_print_message(struct kp_buf *out, const struct raft_message *message);
void cluster_print_entry(struct kp_buf *out, const struct raft_entry *entry);
void cluster_print_conf(struct kp_buf *out, const struct raft_conf_state *conf);

#endif
