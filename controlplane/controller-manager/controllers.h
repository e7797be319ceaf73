/* Every controller this program runs; main.c adds them to the engine in this order. */
#ifndef KCM_CONTROLLERS_H
#define KCM_CONTROLLERS_H

#include "controlplane/controller-manager/engine.h"

extern const struct controller deployment_controller;
extern const struct controller replicaset_controller;
extern const struct controller replicationcontroller_controller;
extern const struct controller daemonset_controller;
extern const struct controller statefulset_controller;
extern const struct controller disruption_controller;
extern const struct controller clusterrole_aggregation_controller;
extern const struct controller job_controller;
extern const struct controller cron_job_controller;
extern const struct controller resourcequota_controller;
extern const struct controller ttl_after_finished_controller;
extern const struct controller endpointslice_controller;
extern const struct controller endpoints_controller;
extern const struct controller namespace_controller;
extern const struct controller serviceaccount_controller;
extern const struct controller root_ca_publisher_controller;
extern const struct controller node_lifecycle_controller;
extern const struct controller taint_eviction_controller;
extern const struct controller node_ipam_controller;
extern const struct controller pod_gc_controller;
extern const struct controller garbage_collector_controller;
extern const struct controller horizontal_pod_autoscaler_controller;
extern const struct controller csr_approving_controller;
extern const struct controller csr_signing_controller;
extern const struct controller persistentvolume_binder_controller;
extern const struct controller persistentvolumeclaim_protection_controller;
extern const struct controller persistentvolume_protection_controller;
extern const struct controller persistentvolume_attach_detach_controller;
extern const struct controller ephemeral_volume_controller;
extern const struct controller local_volume_controller;

#endif
