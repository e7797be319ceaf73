/* The hooks of the strategy rows, by the file they are in. */
#ifndef APISERVER_STRATEGY_INTERNAL_H
#define APISERVER_STRATEGY_INTERNAL_H

#include "controlplane/apiserver/registry/registry_internal.h"

#define STRATEGY_DEFAULTS(name) void name##_defaults(struct registry_request *rq, void *obj)
#define STRATEGY_PREPARE_CREATE(name) void name##_prepare_create(struct registry_request *rq, void *obj)
#define STRATEGY_PREPARE_UPDATE(name) void name##_prepare_update(struct registry_request *rq, void *obj, const void *old)
#define STRATEGY_PREPARE_SUBRESOURCE(name) void name##_prepare_subresource(struct registry_request *rq, void *obj, const void *old)
#define STRATEGY_VALIDATE(name) void name##_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
#define STRATEGY_VALIDATE_UPDATE(name)                                                                                 \
    void name##_validate_update(struct registry_request *rq, const void *obj, const void *old, struct field_errors *errors)

/* pod.c */
STRATEGY_DEFAULTS(pod);
STRATEGY_PREPARE_CREATE(pod);
STRATEGY_PREPARE_UPDATE(pod);
STRATEGY_PREPARE_SUBRESOURCE(pod);
STRATEGY_VALIDATE(pod);
STRATEGY_VALIDATE_UPDATE(pod);
int64_t pod_grace_s(const void *obj, int64_t asked_s);
/* core.c */
STRATEGY_DEFAULTS(node);
STRATEGY_VALIDATE(node);
STRATEGY_VALIDATE_UPDATE(node);
STRATEGY_DEFAULTS(namespace);
STRATEGY_PREPARE_CREATE(namespace);
STRATEGY_PREPARE_UPDATE(namespace);
STRATEGY_PREPARE_SUBRESOURCE(namespace);
STRATEGY_VALIDATE(configmap);
STRATEGY_VALIDATE_UPDATE(configmap);
STRATEGY_DEFAULTS(secret);
STRATEGY_VALIDATE(secret);
STRATEGY_VALIDATE_UPDATE(secret);
STRATEGY_VALIDATE(event);
STRATEGY_VALIDATE(resource_quota);
STRATEGY_VALIDATE(endpoints);
/* volumes.c */
STRATEGY_PREPARE_CREATE(persistent_volume);
STRATEGY_PREPARE_SUBRESOURCE(persistent_volume);
STRATEGY_VALIDATE(persistent_volume);
STRATEGY_VALIDATE_UPDATE(persistent_volume);
STRATEGY_PREPARE_CREATE(persistent_volume_claim);
STRATEGY_PREPARE_UPDATE(persistent_volume_claim);
STRATEGY_VALIDATE(persistent_volume_claim);
STRATEGY_VALIDATE_UPDATE(persistent_volume_claim);
/* storage.c */
STRATEGY_VALIDATE(storage_class);
STRATEGY_VALIDATE_UPDATE(storage_class);
STRATEGY_VALIDATE(volume_attributes_class);
STRATEGY_VALIDATE_UPDATE(volume_attributes_class);
STRATEGY_VALIDATE(volume_attachment);
STRATEGY_VALIDATE_UPDATE(volume_attachment);
STRATEGY_VALIDATE(csi_driver);
STRATEGY_VALIDATE_UPDATE(csi_driver);
STRATEGY_VALIDATE(csi_node);
STRATEGY_VALIDATE_UPDATE(csi_node);
STRATEGY_VALIDATE(csi_storage_capacity);
STRATEGY_VALIDATE_UPDATE(csi_storage_capacity);
/* service.c */
STRATEGY_DEFAULTS(service);
STRATEGY_PREPARE_CREATE(service);
STRATEGY_PREPARE_UPDATE(service);
STRATEGY_VALIDATE(service);
STRATEGY_VALIDATE_UPDATE(service);
/* workloads.c */
STRATEGY_DEFAULTS(replication_controller);
STRATEGY_VALIDATE(replication_controller);
STRATEGY_DEFAULTS(pod_template_object);
STRATEGY_DEFAULTS(deployment);
STRATEGY_VALIDATE(deployment);
STRATEGY_VALIDATE_UPDATE(deployment);
STRATEGY_DEFAULTS(replica_set);
STRATEGY_VALIDATE(replica_set);
STRATEGY_VALIDATE_UPDATE(replica_set);
STRATEGY_DEFAULTS(daemon_set);
STRATEGY_VALIDATE(daemon_set);
STRATEGY_VALIDATE_UPDATE(daemon_set);
STRATEGY_DEFAULTS(stateful_set);
STRATEGY_VALIDATE(stateful_set);
STRATEGY_VALIDATE_UPDATE(stateful_set);
STRATEGY_VALIDATE(pod_disruption_budget);
/* autoscaling.c */
STRATEGY_DEFAULTS(horizontal_pod_autoscaler);
STRATEGY_VALIDATE(horizontal_pod_autoscaler);
/* limit_range.c */
STRATEGY_DEFAULTS(limit_range);
STRATEGY_VALIDATE(limit_range);
/* batch.c */
STRATEGY_DEFAULTS(job);
STRATEGY_PREPARE_CREATE(job);
STRATEGY_VALIDATE(job);
STRATEGY_VALIDATE_UPDATE(job);
STRATEGY_DEFAULTS(cron_job);
STRATEGY_VALIDATE(cron_job);
/* webhooks.c */
STRATEGY_VALIDATE(validating_webhooks);
STRATEGY_VALIDATE(mutating_webhooks);
STRATEGY_PREPARE_UPDATE(webhooks);
/* Operations, groups, versions and resources of a rule of a webhook or policy. */
void validate_rule_with_operations(const struct k8s_rule_with_operations *rule, struct field_errors *errors, const char *path);
/* policies.c */
STRATEGY_VALIDATE(validating_policy);
STRATEGY_VALIDATE(validating_binding);
STRATEGY_PREPARE_CREATE(mutating_policy);
/* groups.c */
STRATEGY_PREPARE_CREATE(csr);
STRATEGY_PREPARE_UPDATE(csr);
STRATEGY_PREPARE_SUBRESOURCE(csr);
STRATEGY_VALIDATE(csr);
STRATEGY_VALIDATE(lease);
STRATEGY_VALIDATE(endpoint_slice);
STRATEGY_VALIDATE_UPDATE(endpoint_slice);
STRATEGY_VALIDATE(ingress);
STRATEGY_DEFAULTS(network_policy);
STRATEGY_VALIDATE(network_policy);
STRATEGY_VALIDATE(role);
STRATEGY_VALIDATE(cluster_role);
STRATEGY_DEFAULTS(role_binding);
STRATEGY_VALIDATE(role_binding);
STRATEGY_VALIDATE_UPDATE(role_binding);
STRATEGY_VALIDATE(priority_class);
STRATEGY_VALIDATE_UPDATE(priority_class);
STRATEGY_VALIDATE_UPDATE(runtime_class);

/* crd.c */
STRATEGY_DEFAULTS(crd);
STRATEGY_PREPARE_CREATE(crd);
STRATEGY_PREPARE_UPDATE(crd);
void crd_prepare_delete(struct registry_request *rq, void *obj);
STRATEGY_VALIDATE(crd);
STRATEGY_VALIDATE_UPDATE(crd);
/* apiservice.c */
STRATEGY_PREPARE_CREATE(api_service);
STRATEGY_VALIDATE(api_service);

/* `field is immutable`, with the value as JSON. */
void immutable_member(const struct kp_type *type, const void *now, const void *before, const char *name, struct field_errors *errors,
                      const char *path);

#endif
