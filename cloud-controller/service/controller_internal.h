/* What the files of the service controller share. */
#ifndef CCM_SERVICE_CONTROLLER_INTERNAL_H
#define CCM_SERVICE_CONTROLLER_INTERNAL_H

#include "cloud-controller/service/service.h"

#include "cloud-controller/balancer/balancer.h"

#include <pthread.h>

#define SERVICE_WORKERS_MAX 16

/* What was done last for a Service, to tell by events what changed. */
struct service_memory {
    uint64_t shape, targets;
    bool known;     /* the two above were reached */
    bool announced; /* and that it is being worked on was told, for the shape that is wanted now */
    uint64_t announced_shape;
    bool unavailable; /* that there are no nodes was told */
    bool deleting;    /* that it goes was told */
    char uid[64];     /* of the Service that it is of */
};

struct service_controller {
    const struct ccm_context *context;
    bool cloud_balances;
    struct client_queue *queue; /* "ns/name", and NODES_KEY */
    struct client_recorder *recorder;
    struct ccm_failures *failures;
    pthread_t workers[SERVICE_WORKERS_MAX];
    size_t n_workers;
    struct ccm_ticker *sweeper;
    pthread_mutex_t mutex;       /* of memories, pool and given */
    struct kp_strmap *memories;  /* "ns/name" -> struct service_memory * */
    struct vip_pool pool;
    struct kp_strmap *given;     /* address -> "ns/name" (char *): what the cache may not show yet */
    pthread_mutex_t share_mutex; /* one at a time computes and makes a balancer that several share */
    struct kp_metric *syncs, *host_latency, *node_errors;
};

/* How a pass over one Service ended: 0, KP_EAGAIN (ask again soon), or an error. */
int service_sync_software(struct service_controller *c, struct client_view *view, const char *key, const struct k8s_service *service,
                          struct kp_error *error);
int service_sync_cloud(struct service_controller *c, struct client_view *view, const struct k8s_service *service, struct kp_error *error);
/* Forgets an address given to a Service that is gone. */
void service_forget_address(struct service_controller *c, const char *key);
/* Removes balancers that belong to no Service; gives the time until the next look in ms, or 0: the usual. */
int64_t service_sweep(void *controller);

void service_event(struct service_controller *c, const struct k8s_service *service, const char *type, const char *reason, const char *format, ...)
    KP_PRINTF(5, 6);
int service_write_finalizer(struct service_controller *c, const struct k8s_service *service, bool add, struct kp_error *error);
/* balancer NULL: no ingress. *ret_changed (may be NULL) tells whether it differed. */
int service_write_status(struct service_controller *c, const struct k8s_service *service, const struct cloud_balancer *balancer, bool proxied,
                         bool *ret_changed, struct kp_error *error);
/* Status to none, then the finalizer: the last step. */
int service_let_go(struct service_controller *c, const struct k8s_service *service, struct kp_error *error);
/* A copy; what is put back replaces it. */
struct service_memory service_recall(struct service_controller *c, const struct k8s_service *service);
void service_remember(struct service_controller *c, const struct k8s_service *service, const struct service_memory *memory);

#endif
