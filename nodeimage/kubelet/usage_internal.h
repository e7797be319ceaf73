/* What the machine and its containers use, and how fast: samples that are taken when somebody asks. */
#ifndef KUBELET_USAGE_INTERNAL_H
#define KUBELET_USAGE_INTERNAL_H

#include "nodeimage/kubelet/cri_internal.h"

struct kubelet_machine_usage {
    int64_t time_ns; /* since 1970 */
    uint64_t cpu_ns; /* since the machine's start */
    uint64_t memory_usage_bytes, memory_working_set_bytes, memory_rss_bytes, memory_available_bytes;
};
/* As cAdvisor tells of the root group: of the control group the machine is (mounted at <root>/sys/fs/cgroup, version 1 or 2), and where that has no
   numbers, as the real root of version 2 has none of memory, of <root>/proc. root: "" but in tests. */
void kubelet_machine_usage_read(const char *root, struct kubelet_machine_usage *ret);

struct kubelet_usage_container {
    const struct cri_container_stats *stats;
    int64_t started_ns; /* since 1970; 0: not known */
    bool has_rate;
    uint64_t nano_cores;
};
struct kubelet_usage_report {
    struct kubelet_machine_usage machine;
    bool has_rate;
    uint64_t nano_cores; /* of the machine */
    struct kubelet_usage_container *containers; /* those that run */
    size_t len;
};
/* One look; pure data. Containers that ended have no numbers and are left out. */
struct kubelet_usage_sample {
    struct kp_arena *arena; /* of all of it */
    int64_t taken_ms;       /* by kp_mono_ms() */
    struct kubelet_machine_usage machine;
    struct cri_container_stats *stats;
    int64_t *started_ns; /* beside stats */
    size_t len;
};
/* Rates between two looks; of a container that began in between from its start, when that is USAGE_FRESH_MS ago (less tells nothing, as metrics-server
   has it). prev may be NULL. Borrows from last; made in arena. Pure. */
#define USAGE_FRESH_MS 10000
void kubelet_usage_compare(const struct kubelet_usage_sample *prev, const struct kubelet_usage_sample *last, struct kp_arena *arena,
                           struct kubelet_usage_report *ret);

/* Upstream's cAdvisor looks every 10 to 15 s, whether anybody asks or not. Here nothing runs by itself: what is asked within USAGE_KEEP_MS of the last
   look gets that one, a later asker has a new look compared with it, and when the last one is older than USAGE_STALE_MS, or there was none, two are taken
   USAGE_PAUSE_MS apart. Thread-safe; who asks meanwhile waits and gets the same. */
#define USAGE_KEEP_MS 10000
#define USAGE_STALE_MS 60000
#define USAGE_PAUSE_MS 1000
struct kubelet_usage;
struct kubelet_usage *kubelet_usage_new(struct cri *cri); /* borrows */
void kubelet_usage_free(struct kubelet_usage *usage);     /* accepts NULL */
/* A copy in arena. Blocks. */
int kubelet_usage_report(struct kubelet_usage *usage, struct kp_arena *arena, struct kubelet_usage_report *ret, struct kp_error *error) KP_NODISCARD;
/* A look of its own, with cumulative numbers only. The caller frees ret->arena. */
int kubelet_usage_look(struct cri *cri, struct kubelet_usage_sample *ret, struct kp_error *error) KP_NODISCARD;

#endif
