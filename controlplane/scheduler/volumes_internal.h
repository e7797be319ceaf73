/* Volumes in scheduling: what is known of storage, what a pod's claims ask of a node, and what is done so that they are bound there. */
#ifndef SCHEDULER_VOLUMES_INTERNAL_H
#define SCHEDULER_VOLUMES_INTERNAL_H

#include "controlplane/scheduler/scheduler.h"
#include "lib/volume/volume.h"

/* ---- what is known: storage.c, under the cache's lock -------------------------------------------------------------------- */
struct sched_storage *sched_storage_new(void);
void sched_storage_free(struct sched_storage *storage); /* accepts NULL */
void sched_storage_set(struct sched_storage *storage, enum sched_storage_kind kind, struct client_object *object); /* takes a reference */
void sched_storage_remove(struct sched_storage *storage, enum sched_storage_kind kind, const char *ns, const char *name);
/* Borrowed, or NULL. ns "": of no namespace. */
struct client_object *sched_storage_get(const struct sched_storage *storage, enum sched_storage_kind kind, const char *ns, const char *name);
/* All of a kind one after the other: iter begins at 0; NULL at the end. */
struct client_object *sched_storage_next(const struct sched_storage *storage, enum sched_storage_kind kind, size_t *iter);

/* A decision that is being carried out: the claim is to have the volume, or one that will be made for the node. */
struct sched_promise {
    char *pod, *claim; /* the pod's uid: another of its name has promises of its own; "ns/name" */
    char *volume;      /* NULL: to be made */
    char *node;
};
void sched_storage_promise(struct sched_storage *storage, const char *pod, const struct sched_volume_plan *plan);
void sched_storage_keep(struct sched_storage *storage, const char *pod); /* the pod's promises are kept, or will not be */
/* NULL: none. */
const struct sched_promise *sched_storage_promised_claim(const struct sched_storage *storage, const struct client_object *claim);
const struct sched_promise *sched_storage_promised_volume(const struct sched_storage *storage, const char *volume);

/* ---- what claims ask of a node: claims.c, claims_filter.c ---------------------------------------------------------------------- */
struct sched_bound_claim {
    const struct k8s_persistent_volume_claim *claim;
    const struct k8s_persistent_volume *volume; /* NULL: there is none of that name */
};
struct sched_delayed_claim { /* waits for its pod to get a node */
    struct client_object *object;
    const struct k8s_persistent_volume_claim *claim;
    const struct k8s_storage_class *class;
    const char *node; /* where its volume is being made already, or NULL */
    const struct k8s_persistent_volume **candidates; /* volumes of its class */
    struct client_object **objects;
    bool *promised; /* of each candidate: another claim is to have it */
    bool *taken;    /* scratch */
    size_t n;
};
struct sched_csi_volume {
    const char *driver, *id; /* id: unique among all drivers' */
};
struct sched_attached { /* a volume of one of those drivers, for whichever pod; it may be gone by now */
    const char *node;
    struct sched_csi_volume csi;
};
struct sched_zone_label {
    const char *key, *value;
};
/* Borrows from the storage, which is locked. */
struct sched_claims {
    const struct sched_pod *pod;
    const struct sched_storage *storage;
    const char *refusal; /* no node will do; NULL: look at each */
    struct {
        struct sched_bound_claim *items;
        size_t len;
    } bound;
    struct {
        struct sched_delayed_claim *items;
        size_t len;
    } delayed;
    struct kp_string_list alone; /* names of claims that one pod may use at a time */
    int64_t users;               /* other pods that use one of them */
    struct {
        struct sched_csi_volume *items;
        size_t len;
    } csi;
    struct {
        struct sched_attached *items; /* sorted by node */
        size_t len;
    } attached;
    struct {
        struct sched_zone_label *items;
        size_t len;
    } zones;
    struct kp_arena *arena;
};
/* The name of the claim that a volume of the pod is, or NULL. */
const char *sched_claim_name(const struct k8s_pod *pod, const struct k8s_volume *volume, struct kp_arena *arena);
/* The CSI volume that a claim is or will be; false when it is none. */
bool sched_claim_csi(const struct sched_storage *storage, const char *ns, const char *name, struct kp_arena *arena, struct sched_csi_volume *ret);
/* Appends a step for each claim that has to be bound to *plan (may be NULL), whose objects are borrowed. False: why not, in *ret (may be NULL). */
bool sched_claims_find(const struct sched_claims *claims, const struct sched_node *node, struct sched_volume_plan *plan, struct sched_reasons *ret);

#endif
