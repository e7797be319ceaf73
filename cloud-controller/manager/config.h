/* What --cloud-config says: whom a cloud's driver asks, and of which cluster. kprov writes the file into a Secret. */
#ifndef CCM_CONFIG_H
#define CCM_CONFIG_H

#include "lib/cloud/cloud.h"

#define CCM_CONFIG_MAX ((size_t)64 << 10) /* bytes of the file */

/* YAML or JSON, one object of these strings, each of which may be missing but clusterUID:
     clusterUID       the tag of all that the cluster owns
     clusterName      for people: events and descriptions
     profile          clouds.yaml's cloud, AWS's profile
     region, endpoint
     credentialsFile  in the form of the cloud's own tools; a relative path is one beside this file
     timeout          of a call, instead of its kind's: "60s" */
struct ccm_config {
    const char *cluster_uid, *cluster_name; /* cluster_name NULL: not told */
    struct cloud_account account;
    int64_t timeout_ms; /* 0: none given */
};
/* folder: that relative paths begin at. Unknown keys are refused. Strings live in the arena. */
int ccm_config_parse(const char *text, size_t len, const char *folder, struct kp_arena *arena, struct ccm_config *ret, struct kp_error *error)
    KP_NODISCARD;
int ccm_config_load(const char *path, struct kp_arena *arena, struct ccm_config *ret, struct kp_error *error) KP_NODISCARD;

#endif
