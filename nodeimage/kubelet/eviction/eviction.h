/* Eviction: what the kubelet does before memory, disk or process numbers of the node run out, and to pods that use more local storage than they may.
 *
 * Upstream's pkg/kubelet/eviction: thresholds are looked at every ten seconds; one that is met makes a node condition, which stays for a transition
 * period, then frees what nobody needs (unused images, containers that ended), and if that is not enough ends one pod: of those that use more than they
 * asked for, the least important first. The parts that decide are pure. */
#ifndef KUBELET_EVICTION_H
#define KUBELET_EVICTION_H

#include "nodeimage/kubelet/api_internal.h"

enum eviction_signal {
    EVICTION_MEMORY,         /* memory.available */
    EVICTION_NODEFS,         /* nodefs.available: where pods' volumes and logs lie */
    EVICTION_NODEFS_INODES,  /* nodefs.inodesFree */
    EVICTION_IMAGEFS,        /* imagefs.available: where the runtime has images and what containers wrote */
    EVICTION_IMAGEFS_INODES, /* imagefs.inodesFree */
    EVICTION_PIDS,           /* pid.available */
    EVICTION_SIGNALS,
};
const char *eviction_signal_name(enum eviction_signal signal);

/* ---- settings ----------------------------------------------------------------------------------------------------------- */
struct eviction_amount {
    bool is_share;
    double share;  /* 0 to 1, of the capacity */
    int64_t value; /* bytes, inodes or processes */
};
struct eviction_threshold {
    enum eviction_signal signal;
    bool hard;
    int64_t grace_s;                 /* of a soft one: how long it must be met */
    struct eviction_amount least;    /* met when less is available */
    struct eviction_amount reclaim;  /* so much more than `least` must be available until it counts as resolved */
};
#define EVICTION_THRESHOLDS_MAX (2 * EVICTION_SIGNALS)
struct eviction_settings {
    struct eviction_threshold items[EVICTION_THRESHOLDS_MAX];
    size_t len;
    int64_t transition_s;    /* how long a condition outlives what made it */
    int64_t pod_grace_max_s; /* of pods that go for a soft threshold */
};
/* The maps of a KubeletConfiguration: evictionHard and evictionSoft ("memory.available": "100Mi" or "10%"), evictionSoftGracePeriod, evictionMinimumReclaim.
   hard NULL: upstream's defaults (memory 100Mi, nodefs 10%, imagefs 15%, inodes 5%); merge: these for what hard does not name. transition_s and
   pod_grace_max_s are left alone. */
int eviction_settings_parse(const struct kp_string_map *hard, bool merge, const struct kp_string_map *soft, const struct kp_string_map *soft_grace,
                            const struct kp_string_map *reclaim, struct eviction_settings *ret, struct kp_error *error) KP_NODISCARD;
int64_t eviction_amount_of(const struct eviction_amount *amount, int64_t capacity);
/* What the hard threshold of a signal keeps free of a capacity; 0: none. It is no pod's to have: taken off what the node can allot. */
int64_t eviction_reserved(const struct eviction_settings *settings, enum eviction_signal signal, int64_t capacity);

/* ---- what is met -------------------------------------------------------------------------------------------------------- */
struct eviction_reading {
    bool known;
    int64_t available, capacity;
};
enum eviction_pressure { EVICTION_MEMORY_PRESSURE, EVICTION_DISK_PRESSURE, EVICTION_PID_PRESSURE, EVICTION_PRESSURES };
struct eviction_state { /* zero to begin with; times are monotonic seconds */
    bool met[EVICTION_THRESHOLDS_MAX];
    int64_t since_s[EVICTION_THRESHOLDS_MAX];
    bool seen[EVICTION_PRESSURES], pressure[EVICTION_PRESSURES];
    int64_t seen_s[EVICTION_PRESSURES]; /* when a threshold of it was last met */
};
/* Takes a reading of every signal in. The number of the threshold to act on - memory before everything else, then in their order -, or settings->len. */
size_t eviction_observe(const struct eviction_settings *settings, struct eviction_state *state, const struct eviction_reading readings[EVICTION_SIGNALS],
                        int64_t now_s);
enum eviction_pressure eviction_pressure_of(enum eviction_signal signal);

/* ---- who goes ------------------------------------------------------------------------------------------------------------ */
struct eviction_pod {
    const struct k8s_pod *data;
    void *owner;          /* the caller's */
    int64_t memory_bytes; /* working set of its containers */
    int64_t disk_bytes;   /* what it wrote that counts for the signal */
};
/* Sorts those that go first to the front. Process numbers are not known by pod: there, importance and age alone decide. */
void eviction_rank(enum eviction_signal signal, struct eviction_pod *pods, size_t n);
/* Upstream's sentences of the pod's status and event; in the arena. usage_of_container may be NULL, or gives bytes or -1. */
const char *eviction_message(enum eviction_signal signal, const struct eviction_threshold *threshold, const struct eviction_reading *reading,
                             const struct k8s_pod *pod, int64_t (*usage_of_container)(void *arg, const char *name), void *arg, struct kp_arena *arena);

/* ---- pods that use more local storage than they may --------------------------------------------------------------------------- */
bool eviction_has_limits(const struct k8s_pod *pod); /* of emptyDirs, containers or the pod */
struct eviction_storage {
    /* Bytes; -1: not known. Of what the container wrote to its layer and its logs; of the emptyDir. */
    int64_t (*container)(void *arg, const char *name);
    int64_t (*volume)(void *arg, const char *name);
    void *arg;
};
/* Why the pod must go, or NULL; in the arena. */
const char *eviction_over_limit(const struct k8s_pod *pod, const struct eviction_storage *storage, struct kp_arena *arena);

/* ---- admission ------------------------------------------------------------------------------------------------------------- */
/* Why a pod is not taken while the node is under pressure, or NULL; in the arena. */
const char *eviction_refuses(const bool pressure[EVICTION_PRESSURES], const struct k8s_pod *pod, struct kp_arena *arena);

#endif
