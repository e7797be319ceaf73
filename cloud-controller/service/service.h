/* cloud-controller/service: Services of type LoadBalancer, by the cloud's load balancers or by addresses that nodes hold themselves. */
#ifndef CCM_SERVICE_H
#define CCM_SERVICE_H

#include "cloud-controller/context/context.h"

#define SERVICE_FINALIZER "service.kubernetes.io/load-balancer-cleanup"
#define SERVICE_MEMBERS_MAX 32 /* that share one balancer */

/* ---- path.c: pure */
enum service_path {
    SERVICE_IGNORED,  /* another program's class */
    SERVICE_SOFTWARE, /* nodes hold its address */
    SERVICE_CLOUD,
};
enum service_path service_path_of(const struct k8s_service *service, bool cloud_balances);
bool service_wants_balancer(const struct k8s_service *service); /* of type LoadBalancer, and not being deleted */
bool service_has_finalizer(const struct k8s_service *service);
bool service_is_same(const struct k8s_service *a, const struct k8s_service *b); /* by uid */
/* What Services share one balancer by: "namespace/key" in the arena, or NULL. */
const char *service_share_of(const struct k8s_service *service, struct kp_arena *arena);
/* The name of its balancer in the cloud: "svc-<uid>", or "shr-<hash>" of a shared one. */
const char *service_balancer_name(const struct k8s_service *service, struct kp_arena *arena);
bool service_is_balancer_name(const char *name); /* made by the above */
/* The merge patches of a Service; on the version it has. In the arena. */
const char *service_finalizer_patch(const struct k8s_service *service, bool add, struct kp_arena *arena);
/* NULL when the status says so already. balancer NULL: none. */
const char *service_status_patch(const struct k8s_service *service, const struct cloud_balancer *balancer, bool proxied, struct kp_arena *arena);

/* ---- wishes.c: pure. What annotations say; docs/load-balancers.md has the list. */
struct service_wishes {
    bool internal, proxy_protocol;
    enum cloud_algorithm algorithm;
    struct cloud_health_check health; /* port 0: the node port */
    const char *address; /* NULL: any */
    struct kp_string_list source_ranges; /* IPv4; empty: everybody */
};
/* KP_EINVALID names the annotation or field. */
int service_read_wishes(const struct k8s_service *service, struct kp_arena *arena, struct service_wishes *ret, struct kp_error *error) KP_NODISCARD;

/* ---- targets.c: pure */
/* Whether balancers send to the node, as upstream: not labelled node.kubernetes.io/exclude-from-external-load-balancers, not being deleted or about to be
   (ToBeDeletedByClusterAutoscaler); besides, initialised, not shut down, and with an IPv4 address. One that is merely not ready stays: the
   balancer's own health check decides. */
bool service_target_of(const struct k8s_node *node, struct cloud_target *ret);
size_t service_targets(const struct k8s_node *const *nodes, size_t n_nodes, struct kp_arena *arena, const struct cloud_target **ret);

/* ---- spec.c: pure */
struct service_input {
    const char *cluster_uid, *cloud; /* cloud: the driver's name, for messages */
    const struct k8s_service *service;
    const struct k8s_service *const *all; /* in the cache, the service among them or not */
    size_t n_all;
    const struct k8s_node *const *nodes;
    size_t n_nodes;
};
/* The balancer of the service's name, with all who share it: the oldest of them decides, others join when they agree with it. *ret_member tells
   whether the service is in it. KP_ENOTFOUND: nobody wants it any more. KP_EINVALID: it cannot be so, and why. Strings are borrowed from the input
   or lie in the arena. */
int service_make_spec(const struct service_input *in, struct kp_arena *arena, struct cloud_balancer_spec *ret, struct kp_error *error) KP_NODISCARD;
/* Two fingerprints: of everything but the targets, and of the targets. */
void service_fingerprint(const struct cloud_balancer_spec *spec, uint64_t *ret_shape, uint64_t *ret_targets);

/* ---- controller.c: "service-lb-controller" */
struct service_controller;
int service_controller_new(const struct ccm_context *context, struct service_controller **ret, struct kp_error *error) KP_NODISCARD;
int service_controller_run(struct service_controller *controller, struct kp_error *error) KP_NODISCARD;
void service_controller_stop(struct service_controller *controller);
void service_controller_free(struct service_controller *controller);

#endif
