/* A call of a driver as a value: what goes in, what comes out. */
#ifndef KP_CLOUD_CALL_INTERNAL_H
#define KP_CLOUD_CALL_INTERNAL_H

#include <stdatomic.h>

#include "cloud/cloud.h"

struct cloud {
    const struct cloud_driver *driver;
    void *state;
    int64_t timeout_ms; /* of every call; 0: as long as its kind takes */
    atomic_int refs;    /* the one who opened it, and every call: one that was left behind uses the state still */
};

enum cloud_call_kind {
    CLOUD_CALL_NETWORK_ENSURE, CLOUD_CALL_NETWORK_GET, CLOUD_CALL_NETWORK_DELETE, CLOUD_CALL_ADDRESS_RESERVE,
    CLOUD_CALL_ADDRESS_RELEASE, CLOUD_CALL_MACHINE_CREATE, CLOUD_CALL_MACHINE_GET, CLOUD_CALL_MACHINE_LIST,
    CLOUD_CALL_MACHINE_POWER, CLOUD_CALL_MACHINE_DELETE, CLOUD_CALL_MACHINE_CONSOLE, CLOUD_CALL_OWNED, CLOUD_CALL_CLUSTERS,
    CLOUD_CALL_PURGE, CLOUD_CALL_MACHINE_REIMAGE, CLOUD_CALL_IMAGES_PRUNE, CLOUD_CALL_MACHINE_TYPES,
    CLOUD_CALL_IMAGE_ENSURE, CLOUD_CALL_ADDRESS_PUBLISH, CLOUD_CALL_MACHINE_FORWARD, CLOUD_CALL_BALANCER_ENSURE, CLOUD_CALL_BALANCER_GET,
    CLOUD_CALL_BALANCER_HEALTH, CLOUD_CALL_BALANCER_LIST, CLOUD_CALL_BALANCER_DELETE, CLOUD_CALL_ROUTE_LIST, CLOUD_CALL_ROUTE_ENSURE,
    CLOUD_CALL_ROUTE_DELETE, CLOUD_CALL_KINDS,
};
struct cloud_call_in { /* borrowed */
    const char *uid, *name;
    const char *const *list; /* NULL-terminated, or NULL: images to keep, networks to forward */
    enum cloud_power_action action;
    struct cloud_network_spec network;
    struct cloud_machine_spec machine;
    struct cloud_balancer_spec balancer;
    struct cloud_route route;
};
struct cloud_call_out {
    struct cloud_network network;
    struct cloud_machine machine;
    struct cloud_machine_list machines;
    struct cloud_machine_type_list types;
    struct cloud_balancer balancer; /* of an ensure also with KP_EAGAIN */
    struct cloud_balancer_list balancers;
    struct cloud_target_health_list health;
    struct cloud_route_list routes;
    const char *address;
    struct kp_strings strings; /* the caller's to free */
    struct kp_buf console;     /* the caller's to free */
};
struct cloud_call {
    struct cloud *cloud;
    enum cloud_call_kind kind;
    struct kp_arena *arena; /* of in and out */
    struct cloud_call_in in;
    struct cloud_call_out out;
    int result;
    struct kp_error error;
};
/* ---- copy.c: what a call is given and gives back, in an arena of its own */
struct cloud_call_in cloud_copy_in(const struct cloud_call_in *in, struct kp_arena *arena);
/* Strings and console are not copied: the caller takes them over. */
void cloud_copy_out(const struct cloud_call *call, struct kp_arena *arena, struct cloud_call_out *ret);

/* ---- cloud.c */
int cloud_check_uid(const char *cluster_uid, struct kp_error *error) KP_NODISCARD;
int cloud_check_names(const char *cluster_uid, const char *name, struct kp_error *error) KP_NODISCARD;
int cloud_call_plain(struct cloud *cloud, enum cloud_call_kind kind, const struct cloud_call_in *in, struct kp_error *error) KP_NODISCARD;

/* ---- call.c */
void cloud_unref(struct cloud *cloud); /* closes the driver with the last one */
/* Runs a call and waits for it, as long as it may take; results go into the arena, which may be NULL for calls without any. KP_ETIMEOUT when
   it has not come back: whether it does its work is then open. */
int cloud_call(struct cloud *cloud, enum cloud_call_kind kind, const struct cloud_call_in *in, struct kp_arena *arena,
               struct cloud_call_out *ret, struct kp_error *error) KP_NODISCARD;

#endif
