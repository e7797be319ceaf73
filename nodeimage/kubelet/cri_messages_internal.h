/* Plain structs to CRI messages and back; only cri.c uses it. */
#ifndef KUBELET_CRI_MESSAGES_INTERNAL_H
#define KUBELET_CRI_MESSAGES_INTERNAL_H

#include "nodeimage/kubelet/cri_internal.h"
#include "proto/cri.pb-c.h"

/* A message of the given kind in the arena, with every field at its default. */
#define CRI_NEW(arena, type, init)                                                                                     \
    __extension__({                                                                                                    \
        type *cri_new_ = KP_NEW((arena), type);                                                                        \
        init(cri_new_);                                                                                                \
        cri_new_;                                                                                                      \
    })

/* Messages borrow the strings of the configuration; their own parts lie in the arena. */
Runtime__V1__PodSandboxConfig *cri_sandbox_message(const struct cri_sandbox_config *config, struct kp_arena *arena);
Runtime__V1__ContainerConfig *cri_container_message(const struct cri_container_config *config, struct kp_arena *arena);
Runtime__V1__LinuxContainerResources *cri_resources_message(const struct cri_resources *resources, struct kp_arena *arena);

/* Everything is copied into the arena. */
void cri_read_sandbox(const Runtime__V1__PodSandbox *message, struct kp_arena *arena, struct cri_sandbox *ret);
void cri_read_sandbox_status(const Runtime__V1__PodSandboxStatus *message, struct kp_arena *arena, struct cri_sandbox *ret);
void cri_read_container(const Runtime__V1__Container *message, struct kp_arena *arena, struct cri_container *ret);
void cri_read_container_status(const Runtime__V1__ContainerStatus *message, struct kp_arena *arena, struct cri_container *ret);
void cri_read_image(const Runtime__V1__Image *message, struct kp_arena *arena, struct cri_image *ret);
void cri_read_stats(const Runtime__V1__ContainerStats *message, struct kp_arena *arena, struct cri_container_stats *ret);

#endif
