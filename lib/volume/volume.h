/* lib/volume: which persistent volume fits which claim - the rules that the volume controllers and the scheduler share. Pure.
 *
 * They are upstream's: k8s.io/component-helpers/storage/volume (helpers.go, pv_helpers.go) and
 * pkg/controller/volume/persistentvolume (index.go). */
#ifndef KP_VOLUME_H
#define KP_VOLUME_H

#include "api/k8s.h"

/* Annotations that controllers, the scheduler and provisioners talk through. */
#define VOLUME_BIND_COMPLETED "pv.kubernetes.io/bind-completed"              /* of claims: "yes" */
#define VOLUME_BOUND_BY_CONTROLLER "pv.kubernetes.io/bound-by-controller"    /* of both: "yes"; the binding may be undone */
#define VOLUME_PROVISIONED_BY "pv.kubernetes.io/provisioned-by"              /* of volumes: the provisioner's name */
#define VOLUME_PROVISIONER "volume.kubernetes.io/storage-provisioner"        /* of claims: who is asked to provision */
#define VOLUME_PROVISIONER_BETA "volume.beta.kubernetes.io/storage-provisioner"
#define VOLUME_SELECTED_NODE "volume.kubernetes.io/selected-node"            /* of claims: where the pod will run */
#define VOLUME_CLASS_BETA "volume.beta.kubernetes.io/storage-class"          /* of both: stands before spec.storageClassName */
#define VOLUME_DEFAULT_CLASS "storageclass.kubernetes.io/is-default-class"   /* of classes: "true" */
#define VOLUME_CLAIM_PROTECTION "kubernetes.io/pvc-protection"               /* finalizers */
#define VOLUME_PROTECTION "kubernetes.io/pv-protection"
#define VOLUME_NO_PROVISIONER "kubernetes.io/no-provisioner"
/* The provisioner of volumes on a node's own disk, which kprov brings; its finalizer is taken away once the data is gone. */
#define VOLUME_LOCAL_PROVISIONER "kprov.dev/local"
#define VOLUME_LOCAL_FINALIZER "kprov.dev/local-volume"
/* Of nodes, written by kube-controller-manager: names of the node's local volumes that are being deleted, with commas between. By it the kubelet hears of
   those for which it never made a folder, too, and lets them go; the volume itself is the evidence, this only says where to look. */
#define VOLUME_LOCAL_LEAVING "kprov.dev/leaving-local-volumes"
#define VOLUME_HOSTNAME_LABEL "kubernetes.io/hostname"
#define VOLUME_LOCAL_DIR "/var/lib/kprov/volumes" /* of nodes: one folder for each volume, by its name */

/* The class asked for or given; "" for none. */
const char *volume_claim_class(const struct k8s_persistent_volume_claim *claim);
const char *volume_class(const struct k8s_persistent_volume *volume);
/* Whether the claim's class waits for a pod before it is bound or provisioned. NULL: a class that is not there. */
bool volume_class_is_delayed(const struct k8s_storage_class *class);
/* "Filesystem" or "Block". */
const char *volume_claim_mode(const struct k8s_persistent_volume_claim *claim);
const char *volume_mode(const struct k8s_persistent_volume *volume);

/* The claim names a volume and the binder has finished with it. */
bool volume_claim_is_bound(const struct k8s_persistent_volume_claim *claim);
/* The volume's claimRef names this claim: by namespace and name, and by uid when it has one. */
bool volume_is_for(const struct k8s_persistent_volume *volume, const struct k8s_persistent_volume_claim *claim);
/* Every mode that is wanted is among those it has. */
bool volume_has_modes(const struct kp_string_list *has, const struct kp_string_list *wanted);
/* Of the volume's required node affinity; true when it has none. */
bool volume_reaches_node(const struct k8s_persistent_volume *volume, const struct k8s_node *node);
/* The one host name (the nodes' label kubernetes.io/hostname) that the affinity allows, and nothing besides; else NULL. Whose disk a volume is on - who may
   let go of it and remove its data - is asked with this alone. */
const char *volume_only_host(const struct k8s_persistent_volume *volume);

/* Why a volume does not fit a claim that asks for it by name (upstream's checkVolumeSatisfyClaim), or NULL. */
const char *volume_misfit(const struct k8s_persistent_volume *volume, const struct k8s_persistent_volume_claim *claim);

/* The volume to bind a claim to (upstream's FindMatchingVolume): one that is pre-bound to it, else the smallest one that fits: by mode, access modes,
   class, selector and size. node: where its pod would run, which the volume must reach, or NULL. delayed: the claim's class waits for a pod: then only
   pre-bound ones are found when node is NULL. taken (may be NULL): volumes that are not to be had, by their place in the list. The number of the volume,
   or n for none. */
size_t volume_find(const struct k8s_persistent_volume_claim *claim, const struct k8s_persistent_volume *const *volumes, size_t n,
                   const struct k8s_node *node, bool delayed, const bool *taken);

#endif
