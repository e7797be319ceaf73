/* What the files of volumes behind claims share. */
#ifndef VOLUMES_CLAIMS_INTERNAL_H
#define VOLUMES_CLAIMS_INTERNAL_H

#include "nodeimage/kubelet/volumes/volumes.h"

/* A claim, a generic ephemeral volume or one of a driver. The error is the whole text for the user; KP_EAGAIN: to be waited for in silence. */
int volumes_claim_setup(const struct volumes_context *context, const struct k8s_pod *pod, const struct k8s_volume *volume,
                        struct kp_error *error) KP_NODISCARD;
int volumes_local_setup(const struct volumes_context *context, const struct k8s_pod *pod, const struct k8s_persistent_volume *pv, bool read_only,
                        const char **ret_path, struct kp_error *error) KP_NODISCARD;
int volumes_host_path_setup(const struct k8s_host_path_volume_source *source, struct kp_error *error) KP_NODISCARD;
/* A pod on this node other than uid (may be NULL) has the persistent volume mounted. */
bool volumes_local_used(const char *root_dir, const char *name, const char *except_uid);

#endif
